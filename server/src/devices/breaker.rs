//! The circuit breaker of one device: three failures in ten minutes and it is left alone for a
//! while, then tried again, after ever longer rests. Time is passed in, so that tests have their own.

use std::collections::VecDeque;
use std::time::Duration;

/// Failures that open it.
pub const FAILURES: usize = 3;
/// Within this time, in milliseconds.
pub const WINDOW_MS: i64 = 10 * 60 * 1000;
/// Rests grow no longer than this, in milliseconds.
const LONGEST_REST_MS: i64 = 30 * 60 * 1000;

/// One device's breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    first_rest_ms: i64,
    failures: VecDeque<i64>,
    /// Rests since it last went well for a whole window: each is twice as long as the one before.
    rests: u32,
    resting_until: Option<i64>,
    closed_at: Option<i64>,
    /// What happened last, in words.
    last: String,
}

impl Breaker {
    /// Closed, with this first rest.
    pub fn new(first_rest: Duration) -> Self {
        Self {
            first_rest_ms: i64::try_from(first_rest.as_millis()).unwrap_or(LONGEST_REST_MS),
            failures: VecDeque::new(),
            rests: 0,
            resting_until: None,
            closed_at: None,
            last: String::new(),
        }
    }

    /// Counts a failure; whether it opened the breaker.
    pub fn failed(&mut self, now: i64, words: &str) -> bool {
        words.clone_into(&mut self.last);
        self.failures.push_back(now);
        while self
            .failures
            .front()
            .is_some_and(|&at| now - at > WINDOW_MS)
        {
            self.failures.pop_front();
        }
        if self.resting_until.is_some() || self.failures.len() < FAILURES {
            return false;
        }
        // Whoever opened a while ago and has gone well since begins anew.
        if self.closed_at.is_none_or(|at| now - at > WINDOW_MS) {
            self.rests = 0;
        }
        self.rest(now);
        true
    }

    /// The probe found the device well: it may be used again.
    pub fn passed(&mut self, now: i64) {
        if self.resting_until.take().is_some() {
            self.failures.clear();
            self.closed_at = Some(now);
        }
    }

    /// The probe after a rest failed too: a longer rest.
    pub fn still_fails(&mut self, now: i64, words: &str) {
        words.clone_into(&mut self.last);
        self.rest(now);
    }

    /// Until when the device rests, if it does.
    pub fn resting_until(&self) -> Option<i64> {
        self.resting_until
    }

    /// Whether a rest is over and the device should be tried.
    pub fn is_due(&self, now: i64) -> bool {
        self.resting_until.is_some_and(|until| now >= until)
    }

    /// What happened last, in words.
    pub fn last_failure(&self) -> &str {
        &self.last
    }

    fn rest(&mut self, now: i64) {
        let length = self
            .first_rest_ms
            .saturating_mul(1_i64 << self.rests.min(20))
            .clamp(1, LONGEST_REST_MS);
        self.rests += 1;
        self.resting_until = Some(now.saturating_add(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn breaker() -> Breaker {
        Breaker::new(Duration::from_secs(30))
    }

    #[test]
    fn three_failures_within_ten_minutes_open_it_and_fewer_do_not() {
        let mut breaker = breaker();
        assert!(!breaker.failed(0, "a"));
        assert!(!breaker.failed(9 * MINUTE, "b"));
        // The first is forgotten by now.
        assert!(!breaker.failed(11 * MINUTE, "c"));
        assert_eq!(breaker.resting_until(), None);
        assert!(breaker.failed(12 * MINUTE, "d"));
        assert_eq!(breaker.resting_until(), Some(12 * MINUTE + 30_000));
        assert_eq!(breaker.last_failure(), "d");
        // A failure that was under way when it opened changes nothing.
        assert!(!breaker.failed(12 * MINUTE + 1, "e"));
        assert_eq!(breaker.resting_until(), Some(12 * MINUTE + 30_000));
    }

    #[test]
    fn rests_double_until_the_probe_passes_and_it_closes_by_itself() {
        let mut breaker = breaker();
        for now in 0..3 {
            breaker.failed(now, "x");
        }
        let mut now = 2;
        for seconds in [30, 60, 120, 240, 480, 960, 1800, 1800] {
            let until = now + seconds * 1000;
            assert_eq!(breaker.resting_until(), Some(until));
            assert!(!breaker.is_due(until - 1) && breaker.is_due(until));
            now = until;
            breaker.still_fails(now, "y");
        }
        breaker.passed(now);
        assert_eq!(breaker.resting_until(), None);
        assert!(!breaker.is_due(i64::MAX));
        // One failure alone does not open it again.
        assert!(!breaker.failed(now + 1, "z"));
    }

    #[test]
    fn whoever_fails_again_soon_rests_longer_and_whoever_goes_well_begins_anew() {
        let mut breaker = breaker();
        let fail_thrice = |breaker: &mut Breaker, now: i64| {
            for _ in 0..3 {
                breaker.failed(now, "x");
            }
            breaker.resting_until().map(|until| until - now)
        };
        assert_eq!(fail_thrice(&mut breaker, 0), Some(30_000));
        breaker.passed(30_000);
        assert_eq!(fail_thrice(&mut breaker, 5 * MINUTE), Some(60_000));
        breaker.passed(6 * MINUTE);
        assert_eq!(fail_thrice(&mut breaker, 60 * MINUTE), Some(30_000));
    }
}
