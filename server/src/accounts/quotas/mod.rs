//! Quotas: how many images and how much of the devices' time a user may have in a day and in a
//! month. Days and months are those of UTC. A user has limits of their own, or those of everybody.
//!
//! What waits and runs counts as if it were used, so that nobody queues more than they have left.
//! The queue asks [`shortfall`] in the transaction that would queue: requests at once see each other.

mod store; // SQL

use super::people::store as choices;
use crate::audit::{Actor, store as audit};
use crate::db::{Db, Write, now_ms};
use crate::error::ServerError;
use crate::usage::{DAY_MS, day_of};
use atelier_app::account::{QuotaLimits, QuotaReport, Used, UserId, quota_words};
use atelier_app::error::AppError;
use time::{Date, OffsetDateTime, Time};

/// The setting that holds everybody's limits.
pub const SETTING: &str = "quota";
/// Weights that an administrator may give.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.1..=10.0;

/// What a request would use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// Images that are to be made.
    pub images: u32,
    /// Device-seconds that they will take, where the model was measured on this device.
    pub seconds: Option<f64>,
}

/// Why a request is more than what is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// What is used up and from when there is more, for whoever asked.
    pub message: String,
    /// Seconds until then.
    pub retry_after_s: u32,
}

/// The day of a point in time, the first day of its month, and when both end.
#[derive(Clone, Copy, Debug)]
struct Calendar {
    day: i64,
    month_start: i64,
    day_ends_at: i64,
    month_ends_at: i64,
}

impl Calendar {
    fn at(now: i64) -> Self {
        let day = day_of(now);
        let date = OffsetDateTime::from_unix_timestamp(day * 86_400)
            .map_or(Date::MIN, OffsetDateTime::date);
        let number =
            |date: Date| date.with_time(Time::MIDNIGHT).assume_utc().unix_timestamp() / 86_400;
        let first = date.replace_day(1).unwrap_or(date);
        let (year, month) = match first.month() {
            time::Month::December => (first.year() + 1, time::Month::January),
            month => (first.year(), month.next()),
        };
        let next = Date::from_calendar_date(year, month, 1).unwrap_or(first);
        Self {
            day,
            month_start: number(first),
            day_ends_at: (day + 1) * DAY_MS,
            month_ends_at: number(next) * DAY_MS,
        }
    }
}

/// The quotas of one database.
pub struct QuotaService {
    db: Db,
}

impl QuotaService {
    /// The quotas of this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// What a user may have and has had, at a point in time (Unix milliseconds).
    ///
    /// # Errors
    /// The database's.
    pub async fn report(&self, user: UserId, now: i64) -> Result<QuotaReport, ServerError> {
        let mut connection = self.db.read().acquire().await?;
        Ok(store::report(&mut connection, user, Calendar::at(now)).await?)
    }

    /// The limits of whoever has none of their own.
    ///
    /// # Errors
    /// The database's.
    pub async fn everybodys(&self) -> Result<QuotaLimits, ServerError> {
        let mut connection = self.db.read().acquire().await?;
        Ok(store::everybodys(&mut connection).await?)
    }

    /// Gives a user limits of their own, or takes them away.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub async fn set_own(
        &self,
        actor: &Actor,
        user: UserId,
        limits: Option<QuotaLimits>,
    ) -> Result<(), ServerError> {
        let mut write = self.db.write().await?;
        let (name, before) = store::set_own(&mut write, user, limits.as_ref())
            .await?
            .ok_or(AppError::NotFound)?;
        if before != limits {
            let detail = limits.map_or("as everybody".into(), |limits| quota_words(&limits));
            audit::insert(&mut write, actor, "quota.user", &name, &detail, now_ms()).await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// Sets the limits of whoever has none of their own.
    ///
    /// # Errors
    /// The database's.
    pub async fn set_everybodys(
        &self,
        actor: &Actor,
        limits: QuotaLimits,
    ) -> Result<(), ServerError> {
        let text = serde_json::to_string(&limits)
            .map_err(|error| ServerError::broken(format!("writing limits: {error}")))?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        if store::everybodys(&mut write).await? != limits {
            choices::set_setting(&mut write, SETTING, &text, now).await?;
            let detail = quota_words(&limits);
            audit::insert(&mut write, actor, "quota.everybody", "", &detail, now).await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// A user's share of the devices beside others' who wait too: 2 is twice as much as 1.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub async fn weight(&self, user: UserId) -> Result<f64, ServerError> {
        let weight = store::weight(&self.db, user).await?;
        Ok(weight.ok_or(AppError::NotFound)?)
    }

    /// Sets it.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `weight`; [`AppError::NotFound`].
    pub async fn set_weight(
        &self,
        actor: &Actor,
        user: UserId,
        weight: f64,
    ) -> Result<(), ServerError> {
        if !WEIGHTS.contains(&weight) {
            let message = format!(
                "Give a number from {} to {}; 1 is usual.",
                WEIGHTS.start(),
                WEIGHTS.end()
            );
            return Err(AppError::invalid("weight", message).into());
        }
        let mut write = self.db.write().await?;
        let (name, before) = store::set_weight(&mut write, user, weight)
            .await?
            .ok_or(AppError::NotFound)?;
        if before != weight {
            let detail = format!("{before} → {weight}");
            audit::insert(&mut write, actor, "quota.weight", &name, &detail, now_ms()).await?;
        }
        write.commit().await?;
        Ok(())
    }
}

/// Why a user's wish is more than what is left to them, where it is; in the transaction that
/// would queue it.
///
/// # Errors
/// The database's.
pub async fn shortfall(
    write: &mut Write,
    user: UserId,
    wish: Wish,
    now: i64,
) -> Result<Option<Shortfall>, sqlx::Error> {
    let report = store::report(write, user, Calendar::at(now)).await?;
    Ok(refusal(&report, wish, now))
}

/// What a wish lacks, where it does. The limit that opens last is the one to name.
fn refusal(report: &QuotaReport, wish: Wish, now: i64) -> Option<Shortfall> {
    let limits = report.limits;
    let spans = [
        (
            limits.month_images,
            limits.month_seconds,
            report.month,
            "a month",
            report.month_ends_at,
        ),
        (
            limits.day_images,
            limits.day_seconds,
            report.day,
            "a day",
            report.day_ends_at,
        ),
    ];
    spans
        .into_iter()
        .find_map(|(images, seconds, used, span, ends_at)| {
            let words = images
                .and_then(|most| lacking_images(most, used, wish, span))
                .or_else(|| seconds.and_then(|most| lacking_seconds(most, used, wish, span)))?;
            // Rounded up: whoever comes back after that many seconds finds the new span begun.
            let wait_s = (ends_at - now).max(1).unsigned_abs().div_ceil(1000);
            Some(Shortfall {
                message: format!(
                    "{words} What waits in the queue counts. There is more from {}.",
                    date_words(ends_at)
                ),
                retry_after_s: u32::try_from(wait_s).unwrap_or(u32::MAX),
            })
        })
}

fn lacking_images(most: u32, used: Used, wish: Wish, span: &str) -> Option<String> {
    if used.images.saturating_add(wish.images) <= most {
        return None;
    }
    let quota = match most {
        1 => format!("1 image {span}"),
        most => format!("{most} images {span}"),
    };
    let asked = wish.images;
    Some(match most.saturating_sub(used.images) {
        0 => format!("Your quota of {quota} is used up."),
        _ if asked > most => {
            format!("Your quota is {quota}, and this request asks for {asked}; ask for fewer.")
        }
        1 => format!("Of your {quota} 1 is left, and this request asks for {asked}."),
        left => format!("Of your {quota} {left} are left, and this request asks for {asked}."),
    })
}

fn lacking_seconds(most: u32, used: Used, wish: Wish, span: &str) -> Option<String> {
    let left = f64::from(most) - used.seconds;
    if left <= 0.0 {
        return Some(format!(
            "Your quota of {most} s of device time {span} is used up."
        ));
    }
    let needs = wish.seconds.filter(|needs| *needs > left)?;
    Some(format!(
        "Of your {most} s of device time {span} {left:.1} s are left, and this request will take about {needs:.1} s; ask for fewer images, fewer steps or a smaller size."
    ))
}

/// "2026-12-01 00:00 UTC".
fn date_words(unix_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_ms / 1000)
        .map(|at| format!("{} 00:00 UTC", at.date()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_end_when_the_calendar_says() {
        // 2028-02-29 13:00:00 UTC, in a leap year.
        let calendar = Calendar::at(1_835_442_000_000);
        assert_eq!(date_words(calendar.day_ends_at), "2028-03-01 00:00 UTC");
        assert_eq!(calendar.day_ends_at, calendar.month_ends_at);
        assert_eq!(calendar.day - calendar.month_start, 28);
        // 2026-12-31 23:59:59.999 UTC.
        let calendar = Calendar::at(1_798_761_599_999);
        assert_eq!(date_words(calendar.month_ends_at), "2027-01-01 00:00 UTC");
        assert_eq!(
            Calendar::at(1_798_761_600_000).month_start,
            calendar.day + 1
        );
    }

    fn report(limits: QuotaLimits, images: u32, seconds: f64) -> QuotaReport {
        let used = Used { seconds, images };
        QuotaReport {
            limits,
            is_own: false,
            day: used,
            month: used,
            day_ends_at: 90_000,
            month_ends_at: 900_000,
        }
    }

    fn images(images: u32) -> Wish {
        Wish {
            images,
            seconds: None,
        }
    }

    #[test]
    fn the_limit_that_opens_last_is_named() {
        let none = QuotaLimits::default();
        assert!(refusal(&report(none, u32::MAX, 1e12), images(16), 0).is_none());
        let both = QuotaLimits {
            day_images: Some(5),
            month_images: Some(5),
            ..none
        };
        assert!(refusal(&report(both, 4, 0.0), images(1), 0).is_none());
        let Some(lacks) = refusal(&report(both, 5, 0.0), images(1), 0) else {
            panic!("five of five are used");
        };
        assert!(
            lacks
                .message
                .starts_with("Your quota of 5 images a month is used up."),
            "{}",
            lacks.message
        );
        assert_eq!(lacks.retry_after_s, 900);
        // A part of a second is waited for whole.
        let Some(lacks) = refusal(&report(both, 5, 0.0), images(1), 899_001) else {
            panic!("five of five are used");
        };
        assert_eq!(lacks.retry_after_s, 1);
    }

    #[test]
    fn a_request_is_counted_whole() {
        let limits = QuotaLimits {
            day_images: Some(5),
            ..QuotaLimits::default()
        };
        let words = |used, wanted| {
            refusal(&report(limits, used, 0.0), images(wanted), 0).map(|lacks| lacks.message)
        };
        assert_eq!(words(1, 4), None);
        assert!(words(2, 4).is_some_and(|words| {
            words.starts_with("Of your 5 images a day 3 are left, and this request asks for 4.")
        }));
        assert!(words(0, 6).is_some_and(|words| words.starts_with(
            "Your quota is 5 images a day, and this request asks for 6; ask for fewer."
        )));
    }

    #[test]
    fn device_time_is_refused_where_it_is_known_to_be_too_much() {
        let limits = QuotaLimits {
            day_seconds: Some(60),
            ..QuotaLimits::default()
        };
        let lacks = |used, seconds| {
            let wish = Wish { images: 1, seconds };
            refusal(&report(limits, 0, used), wish, 0).is_some()
        };
        // A model that was never measured is not refused for a guess, as long as something is left.
        assert!(!lacks(59.9, None));
        assert!(lacks(60.0, None));
        assert!(!lacks(40.0, Some(20.0)));
        assert!(lacks(40.0, Some(20.1)));
    }
}
