//! Wrong passwords and the growing delay that follows them. Never a lock: whoever waits gets in.
//!
//! Two counters stand behind each try: one for the name, whoever asks, and one for the name and
//! the address together. A try is counted before it is checked, so that a thousand tries at once
//! are counted like a thousand in a row; a right password takes the counters away.

/// How many wrong tries are free.
const FREE: i64 = 4;
/// The longest delay of a name: its owner must get in from elsewhere within a minute.
const LONGEST_FOR_NAME_MS: i64 = 30_000;
/// The longest delay of a name at one address.
const LONGEST_AT_ADDRESS_MS: i64 = 15 * 60_000;
/// Counters forget after this long without a wrong try.
pub const FORGET_MS: i64 = 24 * 60 * 60 * 1000;

/// What is being tried, from where: the keys of the two counters.
#[derive(Clone, Debug)]
pub struct Subjects {
    /// `name:alice`
    pub name: String,
    /// `name:alice address:10.0.0.7`
    pub at_address: String,
}

impl Subjects {
    /// Tries on an account. Letter case does not make another account, so not another counter.
    pub fn of_account(name: &str, address: &str) -> Self {
        let name = format!("name:{}", name.to_lowercase());
        Self {
            at_address: format!("{name} address:{address}"),
            name,
        }
    }

    /// Requests for an account: each counts, whatever becomes of it.
    pub fn of_sign_up(address: &str) -> Self {
        let subject = format!("sign-up address:{address}");
        Self {
            name: subject.clone(),
            at_address: subject,
        }
    }

    /// Tries on the second step of an account.
    pub fn of_two_step(name: &str, address: &str) -> Self {
        let name = format!("two-step:{}", name.to_lowercase());
        Self {
            at_address: format!("{name} address:{address}"),
            name,
        }
    }

    /// Tries on the one-time setup code.
    pub fn of_setup(address: &str) -> Self {
        Self {
            name: "setup".into(),
            at_address: format!("setup address:{address}"),
        }
    }
}

/// A counter as stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Wrong tries so far.
    pub failures: i64,
    /// When the last one was, Unix milliseconds.
    pub last_at: i64,
}

/// How long the next try has to wait; 0 when it may go on. An address from where the user has
/// signed in before is not held up by what others do to the name elsewhere.
pub fn wait_ms(name: Count, at_address: Count, is_known_address: bool, now: i64) -> i64 {
    let of_name = if is_known_address {
        0
    } else {
        remaining(name, LONGEST_FOR_NAME_MS, now)
    };
    of_name.max(remaining(at_address, LONGEST_AT_ADDRESS_MS, now))
}

fn remaining(count: Count, longest_ms: i64, now: i64) -> i64 {
    let over = count.failures - FREE;
    if over <= 0 {
        return 0;
    }
    // One second after the fifth, then twice as long each time.
    let delay = 1_000i64.checked_shl(u32::try_from(over - 1).unwrap_or(u32::MAX).min(30));
    let delay = delay.unwrap_or(longest_ms).min(longest_ms);
    // A clock that was set back must not lengthen anything.
    (count.last_at + delay - now).clamp(0, longest_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(failures: i64, since_last: i64) -> (i64, i64) {
        let count = Count {
            failures,
            last_at: 1_000_000,
        };
        let now = 1_000_000 + since_last;
        (
            wait_ms(count, Count::default(), false, now),
            wait_ms(Count::default(), count, false, now),
        )
    }

    #[test]
    fn the_delay_grows_from_the_fifth_and_ends() {
        assert_eq!(wait(4, 0), (0, 0));
        assert_eq!(wait(5, 0), (1_000, 1_000));
        assert_eq!(wait(6, 0), (2_000, 2_000));
        assert_eq!(wait(6, 1_500), (500, 500));
        assert_eq!(wait(6, 2_000), (0, 0));
        assert_eq!(wait(1_000, 0), (30_000, 900_000));
        assert_eq!(wait(i64::MAX, 0), (30_000, 900_000));
        assert_eq!(wait(1_000, 900_000), (0, 0));
        // A clock set back by a day.
        assert_eq!(wait(1_000, -86_400_000), (30_000, 900_000));
    }

    #[test]
    fn a_known_address_is_not_held_up_by_others() {
        let attacked = Count {
            failures: 50,
            last_at: 0,
        };
        assert_eq!(wait_ms(attacked, Count::default(), true, 0), 0);
        assert!(wait_ms(attacked, Count::default(), false, 0) > 0);
        // Its own wrong tries still count.
        assert!(wait_ms(attacked, attacked, true, 0) > 0);
    }
}
