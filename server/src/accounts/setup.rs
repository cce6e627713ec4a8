//! The one-time code that makes the first administrator. It is printed at each start of a server
//! that has none, and kept in memory only, as a hash.

use super::random_bytes;
use super::session::{SecretHash, hash_secret};
use subtle::ConstantTimeEq;

/// Crockford's base32: no letter that reads like another or like a digit.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new code, `XXXX-XXXX-XXXX`: 60 random bits.
pub fn new_code() -> String {
    let characters: Vec<char> = random_bytes::<12>()
        .iter()
        // 256 is a multiple of 32, so every character is equally likely.
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect();
    let groups: Vec<String> = characters
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.join("-")
}

/// The hash of a code as typed: letter case, dashes and look-alikes do not matter.
pub fn hash_code(typed: &str) -> SecretHash {
    let code: String = typed
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .map(|character| match character.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            'U' => 'V',
            other => other,
        })
        .collect();
    hash_secret(&code)
}

/// Whether two hashes are the same, in a time that does not depend on where they differ.
pub fn is_same(one: &SecretHash, other: &SecretHash) -> bool {
    one.0.as_bytes().ct_eq(other.0.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_may_be_typed_sloppily() {
        let code = new_code();
        assert_eq!(code.len(), 14);
        assert_ne!(code, new_code());
        let sloppy = code
            .to_lowercase()
            .replace('-', " ")
            .replace('0', "o")
            .replace('1', "l");
        assert!(
            is_same(&hash_code(&code), &hash_code(&sloppy)),
            "{code} {sloppy}"
        );
        assert!(!is_same(&hash_code(&code), &hash_code(&new_code())));
    }
}
