//! Session secrets and their cookie. The cookie carries 256 random bits; the database keeps their
//! SHA-256, so a stolen database opens nothing.

use super::random_bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use sha2::{Digest, Sha256};
use std::fmt;

/// A session ends this long after it was last used.
pub const IDLE_MS: i64 = 12 * 60 * 60 * 1000;
/// A day.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How long a session lasts after sign-in, used or not, where administrators set nothing else.
pub const USUAL_DAYS: u32 = 30;
/// The same in milliseconds.
pub const ABSOLUTE_MS: i64 = USUAL_DAYS as i64 * DAY_MS;

/// Characters of 32 bytes in base64url.
const SECRET_CHARS: usize = 43;

/// The hash that a secret is stored under.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash(pub String);

/// Hex SHA-256. The secrets are 256 random bits, so nothing slower is needed.
pub fn hash_secret(secret: &str) -> SecretHash {
    SecretHash(hex::encode(Sha256::digest(secret.as_bytes())))
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// A new secret.
pub fn new_secret() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<32>())
}

/// Whether a cookie's value can be one of ours; anything else needs no look into the database.
pub fn is_secret(text: &str) -> bool {
    text.len() == SECRET_CHARS
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// How the cookie is named and sent, by how browsers reach this server.
#[derive(Clone, Copy, Debug)]
pub struct CookieStyle {
    https: bool,
}

impl CookieStyle {
    /// `https`: browsers come over TLS.
    pub fn new(https: bool) -> Self {
        Self { https }
    }

    /// `__Host-` binds the cookie to this very host over TLS; browsers refuse it on plain HTTP.
    pub fn name(self) -> &'static str {
        if self.https { "__Host-sid" } else { "sid" }
    }

    /// The `Set-Cookie` value that hands out `secret` for so many milliseconds.
    pub fn hand_out(self, secret: &str, lasts_ms: i64) -> String {
        let mut cookie = self.bare(secret);
        cookie.set_max_age(cookie::time::Duration::milliseconds(lasts_ms));
        cookie.to_string()
    }

    /// The name of the cookie between password and code.
    pub fn step_name(self) -> &'static str {
        if self.https { "__Host-step" } else { "step" }
    }

    /// The `Set-Cookie` value for whoever owes the code.
    pub fn hand_out_step(self, secret: &str) -> String {
        let mut cookie = self.bare(secret);
        cookie.set_name(self.step_name());
        cookie.set_max_age(cookie::time::Duration::milliseconds(
            super::two_step::STEP_MS,
        ));
        cookie.to_string()
    }

    /// The `Set-Cookie` value that clears the cookie.
    pub fn clear(self) -> String {
        let mut cookie = self.bare("");
        cookie.set_max_age(cookie::time::Duration::ZERO);
        cookie.to_string()
    }

    fn bare(self, value: &str) -> Cookie<'static> {
        // Lax, not Strict: a link from a mail or chat must find its reader signed in.
        Cookie::build((self.name(), value.to_owned()))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.https)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_say_all_they_should() {
        let plain = CookieStyle::new(false).hand_out("abc", ABSOLUTE_MS);
        assert_eq!(
            plain,
            "sid=abc; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"
        );
        let tls = CookieStyle::new(true).hand_out("abc", ABSOLUTE_MS);
        assert_eq!(
            tls,
            "__Host-sid=abc; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000"
        );
        assert!(CookieStyle::new(true).clear().contains("Max-Age=0"));
    }

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, two) = (new_secret(), new_secret());
        assert!(is_secret(&one) && is_secret(&two));
        assert_ne!(one, two);
        assert!(!is_secret("' or 1=1 --"));
    }
}
