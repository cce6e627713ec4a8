//! API tokens: `atl_`, 32 random bytes in base62, and a checksum in base62. The checksum tells a
//! mistyped token from a wrong one without the database, and lets secret scanners be sure.

use super::random_bytes;
use atelier_app::account::{Scope, Viewer};
use atelier_app::error::AppError;

const PREFIX: &str = "atl_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 > 2^256.
const SECRET_CHARS: usize = 43;
/// 62^6 > 2^32.
const CHECKSUM_CHARS: usize = 6;
/// Shown in lists, to tell tokens apart.
const SHOWN_CHARS: usize = 6;

/// How often a token's "last used" is written at most, in milliseconds.
pub const TOUCH_MS: i64 = 5 * 60 * 1000;

/// A new token, for its owner's eyes only.
pub fn new_token() -> String {
    let secret = base62(&random_bytes::<32>(), SECRET_CHARS);
    let checksum = checksum(&secret);
    format!("{PREFIX}{secret}{checksum}")
}

/// Whether a text can be one of our tokens.
pub fn is_token(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX) else {
        return false;
    };
    if rest.len() != SECRET_CHARS + CHECKSUM_CHARS
        || !rest.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return false;
    }
    let (secret, given) = rest.split_at(SECRET_CHARS);
    checksum(secret) == given
}

/// The scopes that somebody may give a token of theirs, in order and each once.
pub fn check_scopes(viewer: &Viewer, wanted: &[Scope]) -> Result<Vec<Scope>, AppError> {
    let mut scopes = wanted.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(AppError::invalid(
            "scopes",
            "Choose at least one thing that the token may do.",
        ));
    }
    if scopes.contains(&Scope::Admin) && !viewer.is_admin() {
        return Err(AppError::invalid(
            "scopes",
            "Only administrators can make tokens that administrate.",
        ));
    }
    Ok(scopes)
}

/// Scopes as the database keeps them.
pub fn scope_words(scopes: &[Scope]) -> String {
    let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    words.join(" ")
}

/// Scopes from the database; words that this program does not know open nothing.
pub fn parse_scopes(words: &str) -> Vec<Scope> {
    words
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// What lists show of a token.
pub fn shown_part(token: &str) -> String {
    token.chars().take(PREFIX.len() + SHOWN_CHARS).collect()
}

fn checksum(secret: &str) -> String {
    base62(
        &crc32fast::hash(secret.as_bytes()).to_be_bytes(),
        CHECKSUM_CHARS,
    )
}

/// A big-endian number in base62, filled up with zeros to `width`.
fn base62(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![ALPHABET[0]; width];
    for digit in digits.iter_mut().rev() {
        // Long division by 62, one byte of the number at a time.
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 62) as u8; // remainder < 62, so value / 62 < 256
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_base62() {
        assert_eq!(base62(&[0], 2), "00");
        assert_eq!(base62(&[61], 2), "0z");
        assert_eq!(base62(&[62], 2), "10");
        assert_eq!(base62(&[1, 0], 3), "048"); // 256 = 4·62 + 8
        assert_eq!(base62(&[255; 32], SECRET_CHARS).len(), SECRET_CHARS);
    }

    #[test]
    fn a_mistyped_token_is_told_by_its_checksum() {
        let token = new_token();
        assert!(is_token(&token), "{token}");
        assert_ne!(token, new_token());
        for index in PREFIX.len()..token.len() {
            let mut typo: Vec<char> = token.chars().collect();
            typo[index] = if typo[index] == 'x' { 'y' } else { 'x' };
            assert!(
                !is_token(&typo.into_iter().collect::<String>()),
                "at {index}"
            );
        }
        assert!(!is_token(""));
        assert!(!is_token("atl_"));
    }
}
