//! What was used, on the wire: device-seconds and images by day and user, speeds, space on the disk.

use crate::account::{QuotaReport, UserId};
use serde::{Deserialize, Serialize};

/// How many days are looked back at, today among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UsageSpan {
    /// 7 days.
    Week,
    /// 30 days.
    #[default]
    Month,
    /// 365 days.
    Year,
}

impl UsageSpan {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Week, Self::Month, Self::Year];

    /// Their number of days.
    pub fn days(self) -> u32 {
        match self {
            Self::Week => 7,
            Self::Month => 30,
            Self::Year => 365,
        }
    }

    /// The span of so many days, as an address names it; 30 days for anything else.
    pub fn of_days(days: &str) -> Self {
        let named = |span: &Self| span.days().to_string() == days;
        Self::ALL.into_iter().find(named).unwrap_or_default()
    }
}

/// A user's limits, use and weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonQuota {
    /// Limits and use.
    pub report: QuotaReport,
    /// Their share of the devices beside others who wait too.
    pub weight: f64,
}

/// What was used on one day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DayUse {
    /// Counted from 1970 in UTC.
    pub day: i64,
    /// Device-seconds.
    pub seconds: f64,
    /// Images that were made.
    pub images: u32,
}

/// What a user had in the whole span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserUse {
    /// Row id.
    pub id: UserId,
    /// The sign-in name.
    pub name: String,
    /// Device-seconds.
    pub seconds: f64,
    /// Images that were made.
    pub images: u32,
    /// Their share of the devices beside others who wait too.
    pub weight: f64,
}

/// The speed of a model on a device on one day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedPoint {
    /// Counted from 1970 in UTC.
    pub day: i64,
    /// Seconds per step and megapixel, with guidance.
    pub seconds: f64,
    /// Images it comes from.
    pub images: u32,
}

/// The speed of a model on a device, day by day; days without an image are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedLine {
    /// The model.
    pub model: String,
    /// The device, e.g. `cpu`, `cuda:0`.
    pub device: String,
    /// Images of all these days.
    pub images: u32,
    /// Oldest first.
    pub days: Vec<SpeedPoint>,
}

/// Use of a user, or of everybody, over some days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// The first day, counted from 1970 in UTC.
    pub from_day: i64,
    /// The last day: today.
    pub to_day: i64,
    /// Whose days these are; everybody's when absent.
    pub user: Option<UserId>,
    /// Days with any use, oldest first.
    pub days: Vec<DayUse>,
    /// Everybody, most device time first.
    pub users: Vec<UserUse>,
    /// Device-seconds of users who were removed since.
    pub left_seconds: f64,
    /// Images of users who were removed since.
    pub left_images: u32,
    /// The models and devices of most images first.
    pub speeds: Vec<SpeedLine>,
}

/// What a user's files take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpace {
    /// Row id.
    pub id: UserId,
    /// The sign-in name.
    pub name: String,
    /// Images in the gallery.
    pub images: u64,
    /// Bytes of them.
    pub image_bytes: u64,
    /// Images in the trash.
    pub trashed: u64,
    /// Bytes of them.
    pub trashed_bytes: u64,
    /// Files sent to start from.
    pub uploads: u64,
    /// Bytes of them.
    pub upload_bytes: u64,
}

impl UserSpace {
    /// All bytes of this user.
    pub fn bytes(&self) -> u64 {
        self.image_bytes + self.trashed_bytes + self.upload_bytes
    }
}

/// Space on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageReport {
    /// Everybody, most bytes first.
    pub users: Vec<UserSpace>,
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes that are free on the disk of the data folder, where the system tells.
    pub free_bytes: Option<u64>,
    /// Bytes of that disk.
    pub disk_bytes: Option<u64>,
    /// The data folder.
    pub folder: String,
}

/// Everything that the page about usage shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageData {
    /// Use over some days.
    pub usage: UsageReport,
    /// Space now.
    pub storage: StorageReport,
}
