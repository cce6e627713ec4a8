//! Time-based one-time passwords: HOTP (RFC 4226) over 30-second steps (RFC 6238), SHA-1 and six
//! digits, which is what every authenticator app takes.

use super::super::random_bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Seconds of one step.
const STEP_S: i64 = 30;
/// RFC 4648.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new secret: as long as SHA-1's output, as RFC 4226 §4 recommends.
pub fn new_secret() -> [u8; 20] {
    random_bytes()
}

/// The step that a point in time lies in.
pub fn step_at(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(1000).div_euclid(STEP_S)
}

/// RFC 4226 §5.3: the dynamic truncation of the MAC of the counter, in six digits.
pub fn code_of(secret: &[u8], step: i64) -> u32 {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length (RFC 2104)");
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest[19] & 0x0f);
    let word = u32::from_be_bytes([
        digest[offset],
        digest[offset + 1],
        digest[offset + 2],
        digest[offset + 3],
    ]);
    (word & 0x7fff_ffff) % 1_000_000
}

/// The step whose code was typed: the present one, or for clocks that are a little off the one before
/// or after (RFC 6238 §5.2).
pub fn matching_step(secret: &[u8], typed: u32, now_ms: i64) -> Option<i64> {
    let now = step_at(now_ms);
    [now, now - 1, now + 1]
        .into_iter()
        .find(|step| code_of(secret, *step) == typed)
}

/// Six digits as typed, with or without spaces.
pub fn parse(typed: &str) -> Option<u32> {
    let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
    (digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// A secret as authenticator apps take it.
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    let (mut bits, mut held) = (0u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.push(char::from(BASE32[(bits >> held & 31) as usize]));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(char::from(BASE32[(bits << (5 - held) & 31) as usize]));
    }
    out
}

/// A new recovery code, `XXXX-XXXX-XXXX-XXXX`: 80 random bits.
pub fn new_recovery_code() -> String {
    let text = base32(&random_bytes::<10>());
    let groups: Vec<&str> = (0..4).map(|at| &text[4 * at..4 * at + 4]).collect();
    groups.join("-")
}

/// A recovery code as typed: letter case, dashes and look-alikes do not matter.
pub fn tidy_recovery_code(typed: &str) -> Option<String> {
    let code: String = typed
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| match character.to_ascii_uppercase() {
            '0' => 'O',
            '1' => 'I',
            other => other,
        })
        .collect();
    (code.len() == 16).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the SHA-1 column, whose eight digits end in these six.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (seconds, code) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(
                code_of(secret, step_at(seconds * 1000)),
                code,
                "at {seconds}"
            );
        }
    }

    #[test]
    fn clocks_may_be_half_a_minute_off_and_no_more() {
        let secret = new_secret();
        let now = 1_795_538_049_000;
        for (off, taken) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let typed = code_of(&secret, step_at(now) + off);
            let found = matching_step(&secret, typed, now);
            // One code in a million is that of another step by chance.
            if taken {
                assert!(found.is_some(), "{off}");
            } else {
                assert_ne!(found, Some(step_at(now) + off), "{off}");
            }
        }
    }

    #[test]
    fn secrets_are_written_as_rfc_4648_says() {
        for (plain, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(plain.as_bytes()), text);
        }
        assert_eq!(base32(&new_secret()).len(), 32);
    }

    #[test]
    fn codes_may_be_typed_sloppily() {
        assert_eq!(parse(" 012 345 "), Some(12_345));
        for wrong in ["", "12345", "1234567", "12345a", "-12345"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let code = new_recovery_code();
        assert_eq!(code.len(), 19);
        let sloppy = code
            .to_lowercase()
            .replace('-', " ")
            .replace('o', "0")
            .replace('i', "1");
        assert_eq!(tidy_recovery_code(&sloppy), tidy_recovery_code(&code));
        assert_eq!(tidy_recovery_code("123456"), None);
    }
}
