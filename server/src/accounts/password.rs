//! Passwords: what is accepted, and the bounded pool that hashes them with argon2id.
//!
//! Parameters: 46 MiB, one pass, one lane (OWASP ASVS 5.0, appendix C). A verification uses the
//! parameters in the stored string, so weaker rows keep working and are renewed at the next sign-in.

use crate::error::ServerError;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use atelier_app::error::AppError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unicode_normalization::UnicodeNormalization;

/// Memory of one hash, in KiB.
const MEMORY_KIB: u32 = 47_104;
const PASSES: u32 = 1;
const LANES: u32 = 1;

/// How many may wait for a place in the pool before the next is sent away.
const MOST_WAITING: usize = 32;

const SHORTEST: usize = 12;
const LONGEST: usize = 128;
/// Longer input is refused before anything looks at it.
const MOST_BYTES: usize = 1024;

/// A password that may be hashed and compared: short enough, in one Unicode spelling.
pub struct Password(String);

impl Password {
    /// What somebody typed to prove who they are; `None` where no stored password can be like it.
    pub fn typed(text: &str) -> Option<Self> {
        (text.len() < MOST_BYTES).then(|| Self(text.nfc().collect()))
    }

    /// What somebody wants as their password. `field` is the form field's name, for the error.
    ///
    /// # Errors
    /// [`AppError::Invalid`] with what is wrong and what to do.
    pub fn chosen(text: &str, name: &str, field: &str) -> Result<Self, AppError> {
        let too_long = || {
            AppError::invalid(
                field,
                format!("The password is too long; use at most {LONGEST} characters."),
            )
        };
        let password = Self::typed(text).ok_or_else(too_long)?;
        let length = password.0.chars().count();
        if length > LONGEST {
            return Err(too_long());
        }
        if length < SHORTEST {
            return Err(AppError::invalid(
                field,
                format!(
                    "The password is too short; use at least {SHORTEST} characters, for example four words."
                ),
            ));
        }
        if is_common(&password.0, name) {
            return Err(AppError::invalid(
                field,
                "This password is among the first that anybody would try; choose another, for example four unrelated words.",
            ));
        }
        Ok(password)
    }
}

/// Whether a guesser would have it among the first: a listed one, few different characters, a run
/// of the keyboard or the alphabet, or little more than the user's own name.
fn is_common(password: &str, name: &str) -> bool {
    let lower = password.to_lowercase();
    // "password1234!" and "password" are one guess.
    let stem = lower.trim_matches(|c: char| !c.is_alphabetic());
    let mut different: Vec<char> = lower.chars().collect();
    different.sort_unstable();
    different.dedup();
    let name = name.to_lowercase();
    let without_name = if name.is_empty() {
        lower.clone()
    } else {
        lower.replace(&name, "")
    };
    different.len() < 4
        || without_name.chars().count() < 5
        || is_listed(stem)
        || is_listed(&lower)
        || RUNS
            .iter()
            .any(|run| run.contains(&lower) || run.contains(stem) && stem.len() >= 6)
        || is_repetition(&lower)
}

/// Whether it is one short piece over and over: "abcabcabcabc".
fn is_repetition(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    (1..=characters.len() / 3).any(|period| {
        characters
            .iter()
            .zip(characters.iter().skip(period))
            .all(|(a, b)| a == b)
    })
}

const RUNS: [&str; 7] = [
    "01234567890123456789",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz",
    "zyxwvutsrqponmlkjihgfedcba",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
];

/// Stems that lists of leaked passwords are full of; digits and signs around them do not help.
static COMMON: &str = include_str!("common_passwords.txt");

fn is_listed(password: &str) -> bool {
    COMMON.lines().any(|common| common == password)
}

/// Hashes and verifies, few at a time: each takes 46 MiB and a tenth of a second.
pub struct HashPool {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Compared against when there is no such user, so that both cases take as long.
    dummy: String,
}

/// A place in the pool; whoever has one may hash.
pub struct Place(OwnedSemaphorePermit);

impl HashPool {
    /// A pool of half the cores, at least one.
    ///
    /// # Errors
    /// [`ServerError::Broken`] when this machine cannot hash at all.
    pub async fn new() -> Result<Self, ServerError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let places = Arc::new(Semaphore::new((cores / 2).max(1)));
        let dummy = tokio::task::spawn_blocking(|| hash_now("a password that nobody has"))
            .await
            .map_err(|error| ServerError::broken(error.to_string()))??;
        Ok(Self {
            places,
            waiting: AtomicUsize::new(0),
            dummy,
        })
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`AppError::TooMany`] when too many wait already.
    pub async fn place(&self) -> Result<Place, ServerError> {
        let _waiting = Waiting::enter(&self.waiting).ok_or_else(|| AppError::TooMany {
            message: "Too many people are signing in right now. Try again in a few seconds.".into(),
            retry_after_s: 3,
        })?;
        let permit = self.places.clone().acquire_owned().await;
        permit
            .map(Place)
            .map_err(|error| ServerError::broken(error.to_string()))
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    /// [`ServerError::Broken`] when hashing fails (out of memory).
    pub async fn hash(&self, place: Place, password: &Password) -> Result<String, ServerError> {
        let password = password.0.clone();
        in_place(place, move || hash_now(&password)).await?
    }

    /// Compares. With no `stored` hash it takes as long and answers [`Verdict::Wrong`].
    ///
    /// # Errors
    /// [`ServerError::Broken`] when the stored hash is none.
    pub async fn verify(
        &self,
        place: Place,
        password: &Password,
        stored: Option<&str>,
    ) -> Result<Verdict, ServerError> {
        let exists = stored.is_some();
        let stored = stored.unwrap_or(&self.dummy).to_owned();
        let password = password.0.clone();
        let verdict = in_place(place, move || verify_now(&password, &stored)).await??;
        Ok(if exists { verdict } else { Verdict::Wrong })
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another password.
    Wrong,
    /// The password.
    Right,
    /// The password, but hashed with weaker parameters than today's: hash it again.
    RightButWeak,
}

/// Counts who waits, also when the waiting future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs on a thread of its own. The place goes along: a client that hangs up does not free it
/// before the work is done.
async fn in_place<T: Send + 'static>(
    place: Place,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(move || {
        let result = work();
        drop(place.0);
        result
    })
    .await
    .map_err(|error| ServerError::broken(format!("hashing a password: {error}")))
}

fn argon2() -> Result<Argon2<'static>, ServerError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| ServerError::broken(format!("argon2 parameters: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &str) -> Result<String, ServerError> {
    argon2()?
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| ServerError::broken(format!("hashing a password: {error}")))
}

fn verify_now(password: &str, stored: &str) -> Result<Verdict, ServerError> {
    let hash = PasswordHash::new(stored).map_err(|error| {
        ServerError::broken(format!("a stored password hash is unreadable: {error}"))
    })?;
    match argon2()?.verify_password(password.as_bytes(), &hash) {
        Ok(()) if is_weak(&hash) => Ok(Verdict::RightButWeak),
        Ok(()) => Ok(Verdict::Right),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(ServerError::broken(format!(
            "verifying a password: {error}"
        ))),
    }
}

fn is_weak(hash: &PasswordHash) -> bool {
    let strong = Params::try_from(hash)
        .is_ok_and(|params| params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES);
    !strong || hash.algorithm.as_str() != "argon2id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let refused = [
            "short",
            "elevenchars",
            "password1234",
            "Password12345!",
            "123456789012",
            "aaaaaaaaaaaaaa",
            "abcabcabcabc",
            "alicealice12",
            "qwertyuiopas",
            "administrator1",
            "correcthorsebatterystaple",
        ];
        for text in refused {
            assert!(
                Password::chosen(text, "alice", "password").is_err(),
                "{text}"
            );
        }
        let accepted = [
            "plum harbour wick nine",
            "kettle-9-sparrow",
            "пароль из нескольких слов",
            "alice likes long walks",
        ];
        for text in accepted {
            assert!(
                Password::chosen(text, "alice", "password").is_ok(),
                "{text}"
            );
        }
        let longest = "ab9-".repeat(32).replace("ab9-ab9-", "xy7_kq3.");
        assert_eq!(longest.chars().count(), LONGEST);
        let too_long = format!("{longest}z");
        assert!(Password::chosen(&too_long, "alice", "password").is_err());
        assert!(Password::typed(&"x".repeat(MOST_BYTES)).is_none());
    }

    #[test]
    fn hashes_carry_todays_parameters_and_weaker_ones_are_told() {
        let hash = hash_now("plum harbour wick nine").unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=47104,t=1,p=1$"),
            "{hash}"
        );
        assert_eq!(
            verify_now("plum harbour wick nine", &hash).unwrap(),
            Verdict::Right
        );
        assert_eq!(
            verify_now("plum harbour wick ten", &hash).unwrap(),
            Verdict::Wrong
        );

        let weak = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(8192, 1, 1, None).unwrap(),
        );
        let weak = weak
            .hash_password(b"plum harbour wick nine")
            .unwrap()
            .to_string();
        assert_eq!(
            verify_now("plum harbour wick nine", &weak).unwrap(),
            Verdict::RightButWeak
        );
        assert_eq!(verify_now("another", &weak).unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn the_pool_sends_the_thirty_third_away() {
        let pool = Arc::new(HashPool::new().await.unwrap());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut taken = Vec::new();
        for _ in 0..(cores / 2).max(1) {
            taken.push(pool.place().await.unwrap());
        }
        let waiting: Vec<_> = (0..MOST_WAITING)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.place().await.is_ok() })
            })
            .collect();
        while pool.waiting.load(Ordering::Relaxed) < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        let refused = pool.place().await;
        assert!(matches!(
            refused,
            Err(ServerError::Answer(AppError::TooMany { .. }))
        ));
        drop(taken);
        for waited in waiting {
            assert!(waited.await.unwrap());
        }
        assert!(pool.place().await.is_ok());
    }
}
