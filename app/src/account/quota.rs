//! Quotas: what a user may have of the devices in a day and in a month, and what is left.

use crate::components::seconds_text;
use crate::error::AppError;
use leptos::prelude::*;
use serde::{Deserialize, Serialize};

#[cfg(feature = "ssr")]
use crate::backend::{use_backend, use_viewer};

/// Limits; absent ones do not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLimits {
    /// Device-seconds a day.
    pub day_seconds: Option<u32>,
    /// Images a day.
    pub day_images: Option<u32>,
    /// Device-seconds a month.
    pub month_seconds: Option<u32>,
    /// Images a month.
    pub month_images: Option<u32>,
}

impl QuotaLimits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What was used, and waits to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Device-seconds.
    pub seconds: f64,
    /// Images.
    pub images: u32,
}

/// Limits and use of one user. Days and months are those of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaReport {
    /// What they may have.
    pub limits: QuotaLimits,
    /// Whether these are their own limits, not everybody's.
    pub is_own: bool,
    /// Today.
    pub day: Used,
    /// This month.
    pub month: Used,
    /// Unix milliseconds.
    pub day_ends_at: i64,
    /// Unix milliseconds.
    pub month_ends_at: i64,
}

/// One limit and how much of it is left, in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// "12 of 50 images left today".
    pub words: String,
    /// Share used, 0 to 1.
    pub used: f64,
    /// When all of it is there again, Unix milliseconds.
    pub ends_at: i64,
}

impl Left {
    /// Whether nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.used >= 1.0
    }
}

impl QuotaReport {
    /// Every limit there is, with what is left of it.
    pub fn left(&self) -> Vec<Left> {
        let QuotaLimits {
            day_seconds,
            day_images,
            month_seconds,
            month_images,
        } = self.limits;
        let (day, month) = (self.day_ends_at, self.month_ends_at);
        let images = |most: Option<u32>, used: Used, ends_at, is_day| {
            let most = most?;
            let left = most.saturating_sub(used.images);
            Some(Left {
                words: if is_day {
                    format!("{left} of {most} images left today")
                } else {
                    format!("{left} of {most} images left this month")
                },
                used: share(f64::from(used.images), f64::from(most)),
                ends_at,
            })
        };
        let seconds = |most: Option<u32>, used: Used, ends_at, is_day| {
            let most = f64::from(most?);
            let left = seconds_text((most - used.seconds).max(0.0));
            let all = seconds_text(most);
            Some(Left {
                words: if is_day {
                    format!("{left} of {all} of device time left today")
                } else {
                    format!("{left} of {all} of device time left this month")
                },
                used: share(used.seconds, most),
                ends_at,
            })
        };
        [
            images(day_images, self.day, day, true),
            seconds(day_seconds, self.day, day, true),
            images(month_images, self.month, month, false),
            seconds(month_seconds, self.month, month, false),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn share(used: f64, most: f64) -> f64 {
    if most > 0.0 {
        (used / most).clamp(0.0, 1.0)
    } else {
        1.0
    }
}

/// Limits in words, for the audit log: "50 images a day, 3600 s a month"; "no limits".
pub fn quota_words(limits: &QuotaLimits) -> String {
    let parts: Vec<String> = [
        (limits.day_images, "images a day"),
        (limits.day_seconds, "s a day"),
        (limits.month_images, "images a month"),
        (limits.month_seconds, "s a month"),
    ]
    .into_iter()
    .filter_map(|(limit, of)| limit.map(|limit| format!("{limit} {of}")))
    .collect();
    if parts.is_empty() {
        "no limits".into()
    } else {
        parts.join(", ")
    }
}

/// What the viewer may have in a day and a month, and has had.
#[server(endpoint = "load_quota")]
pub async fn load_quota() -> Result<QuotaReport, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.usage.quota(&viewer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_never_less_than_nothing() {
        let report = QuotaReport {
            limits: QuotaLimits {
                day_images: Some(50),
                month_seconds: Some(3600),
                ..QuotaLimits::default()
            },
            day: Used {
                seconds: 0.0,
                images: 60,
            },
            month: Used {
                seconds: 600.0,
                images: 60,
            },
            ..QuotaReport::default()
        };
        let left = report.left();
        assert_eq!(left.len(), 2);
        assert_eq!(left[0].words, "0 of 50 images left today");
        assert!(left[0].is_used_up() && !left[1].is_used_up());
        assert_eq!(
            left[1].words,
            "50 min of 1 h 0 min of device time left this month"
        );
        assert_eq!(
            quota_words(&report.limits),
            "50 images a day, 3600 s a month"
        );
        assert_eq!(quota_words(&QuotaLimits::default()), "no limits");
    }

    #[test]
    fn a_limit_of_nothing_is_used_up() {
        let report = QuotaReport {
            limits: QuotaLimits {
                day_images: Some(0),
                ..QuotaLimits::default()
            },
            ..QuotaReport::default()
        };
        assert!(report.left()[0].is_used_up());
    }
}
