//! What was used: device-seconds and images by user and day, the speed of models on devices, and the
//! space that each user's files take. Counted where jobs end, kept when images are deleted.

mod port; // what pages ask
pub(crate) mod store; // SQL

pub use port::UsageService;

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The day of a point in time, counted from 1970 in UTC.
pub(crate) fn day_of(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(DAY_MS)
}
