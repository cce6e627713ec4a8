//! The provider's word: a JSON Web Token (RFC 7519) signed with RS256 or ES256 (RFC 7518), and what must
//! hold of an ID token (OpenID Connect Core 1.0, §3.1.3.7). Any other algorithm, `none` above all, is
//! refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature;
use serde::Deserialize;

/// Clocks may differ by so much, in seconds.
const SKEW_S: i64 = 60;

/// One of the provider's public keys (RFC 7517).
#[derive(Clone, Debug, Deserialize)]
pub struct Key {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The provider's public keys.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Keys {
    /// In no order.
    pub keys: Vec<Key>,
}

/// What is said of whom.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    iss: String,
    /// Who, for good, at this provider.
    pub sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    nonce: Option<String>,
    preferred_username: Option<String>,
    name: Option<String>,
}

impl Claims {
    /// What to call them here.
    pub fn best_name(&self) -> Option<&str> {
        [&self.preferred_username, &self.name]
            .into_iter()
            .flatten()
            .map(|name| name.trim())
            .find(|name| !name.is_empty())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// Why a word is not believed.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No key of the set fits its signature: the provider may have new ones.
    NoKey,
    /// Something else, for the log.
    Wrong(String),
}

fn wrong(words: impl Into<String>) -> Doubt {
    Doubt::Wrong(words.into())
}

/// Checks a token from a provider for a client; `now` in Unix seconds.
///
/// # Errors
/// [`Doubt`].
pub fn check(
    token: &str,
    keys: &Keys,
    issuer: &str,
    client_id: &str,
    nonce: &str,
    now: i64,
) -> Result<Claims, Doubt> {
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(mark), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong("the token does not have three parts"));
    };
    let header: Header = json(head)?;
    let mark = bytes(mark)?;
    let signed = &token.as_bytes()[..head.len() + 1 + body.len()];
    let fits = |key: &&Key| {
        key.used_for.as_deref().is_none_or(|used| used == "sig")
            && match (&header.kid, &key.kid) {
                (Some(wanted), Some(kid)) => wanted == kid,
                _ => true,
            }
            && match header.alg.as_str() {
                "RS256" => key.kty == "RSA",
                "ES256" => key.kty == "EC" && key.crv.as_deref() == Some("P-256"),
                _ => false,
            }
    };
    if !matches!(header.alg.as_str(), "RS256" | "ES256") {
        return Err(wrong(format!("it is signed with {:?}", header.alg)));
    }
    if !keys
        .keys
        .iter()
        .filter(fits)
        .any(|key| verify(key, signed, &mark))
    {
        return Err(Doubt::NoKey);
    }
    let claims: Claims = json(body)?;
    if claims.iss != issuer {
        return Err(wrong(format!("it comes from {:?}", claims.iss)));
    }
    let (is_for_us, alone) = match &claims.aud {
        Audience::One(one) => (one == client_id, true),
        Audience::Many(many) => (many.iter().any(|one| one == client_id), many.len() == 1),
    };
    if !is_for_us
        || (!alone && claims.azp.is_none())
        || claims.azp.as_deref().is_some_and(|azp| azp != client_id)
    {
        return Err(wrong("it is for somebody else"));
    }
    if claims.exp + SKEW_S < now {
        return Err(wrong("it has expired"));
    }
    if claims.nonce.as_deref() != Some(nonce) {
        return Err(wrong("it answers another request (nonce)"));
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err(wrong("its subject is none"));
    }
    Ok(claims)
}

fn verify(key: &Key, signed: &[u8], mark: &[u8]) -> bool {
    let part = |text: &Option<String>| text.as_deref().and_then(|text| bytes(text).ok());
    match key.kty.as_str() {
        "RSA" => {
            let (Some(n), Some(e)) = (part(&key.n), part(&key.e)) else {
                return false;
            };
            signature::RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, mark)
                .is_ok()
        }
        "EC" => {
            let (Some(x), Some(y)) = (part(&key.x), part(&key.y)) else {
                return false;
            };
            // SEC 1, §2.3.3: an uncompressed point.
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .verify(signed, mark)
                .is_ok()
        }
        _ => false,
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, Doubt> {
    URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| wrong(format!("a part is no base64url: {error}")))
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Doubt> {
    serde_json::from_slice(&bytes(part)?)
        .map_err(|error| wrong(format!("a part cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.3: an ES256 signature of a token that is no ID token.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let key: Key = serde_json::from_value(serde_json::json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }))
        .unwrap();
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let (signed, mark) = token.rsplit_once('.').unwrap();
        let mut mark = bytes(mark).unwrap();
        assert!(verify(&key, signed.as_bytes(), &mark));
        mark[7] ^= 1;
        assert!(!verify(&key, signed.as_bytes(), &mark));
    }

    #[test]
    fn unsigned_words_are_refused() {
        let none = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"),
            URL_SAFE_NO_PAD
                .encode("{\"iss\":\"x\",\"sub\":\"y\",\"aud\":\"z\",\"exp\":9999999999}")
        );
        let doubt = check(&none, &Keys::default(), "x", "z", "n", 0).unwrap_err();
        assert_eq!(doubt, wrong("it is signed with \"none\""));
        for text in ["", "a.b", "a.b.c.d", "!.!.!"] {
            assert!(
                check(text, &Keys::default(), "x", "z", "n", 0).is_err(),
                "{text}"
            );
        }
    }
}
