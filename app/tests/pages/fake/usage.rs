//! Quotas and usage of the house.

use super::*;

#[async_trait]
impl Usage for House {
    async fn quota(&self, _: &Viewer) -> Answer<QuotaReport> {
        Ok(QuotaReport {
            limits: self.limits,
            is_own: false,
            day: Used {
                seconds: 61.5,
                images: 5,
            },
            month: Used {
                seconds: 3600.0,
                images: 12,
            },
            day_ends_at: 1_795_564_800_000,
            month_ends_at: 1_796_083_200_000,
        })
    }

    async fn everybodys_quota(&self, _: &Viewer) -> Answer<QuotaLimits> {
        Ok(self.limits)
    }

    async fn quota_of(&self, viewer: &Viewer, _: UserId) -> Answer<PersonQuota> {
        Ok(PersonQuota {
            report: Usage::quota(self, viewer).await?,
            weight: 2.5,
        })
    }

    async fn set_quota(&self, _: &Viewer, id: UserId, limits: Option<QuotaLimits>) -> Answer<()> {
        let words = limits.map_or("as everybody".into(), |limits| quota_words(&limits));
        self.note(format!("quota of {}: {words}", id.0));
        Ok(())
    }

    async fn set_everybodys_quota(&self, _: &Viewer, limits: QuotaLimits) -> Answer<()> {
        self.note(format!("quota: {}", quota_words(&limits)));
        Ok(())
    }

    async fn set_weight(&self, _: &Viewer, id: UserId, weight: f64) -> Answer<()> {
        self.note(format!("weight of {}: {weight}", id.0));
        Ok(())
    }

    async fn usage(&self, _: &Viewer, span: UsageSpan, user: Option<UserId>) -> Answer<UsageData> {
        if user.is_some_and(|user| user.0 != 2) {
            return Err(AppError::NotFound);
        }
        let is_used = !self.prompt.is_empty();
        let to_day = 20_781;
        let day = |day, seconds, images| DayUse {
            day,
            seconds,
            images,
        };
        let person = |id, name: &str| UserUse {
            id: UserId(id),
            name: name.into(),
            seconds: if is_used { 4000.0 } else { 0.0 },
            images: 12,
            weight: 1.0,
        };
        let speed = |day, seconds| SpeedPoint {
            day,
            seconds,
            images: 4,
        };
        Ok(UsageData {
            usage: UsageReport {
                from_day: to_day - i64::from(span.days()) + 1,
                to_day,
                user,
                days: if is_used {
                    vec![day(to_day - 3, 12.5, 3), day(to_day, 900.0, 41)]
                } else {
                    Vec::new()
                },
                users: vec![person(1, "ada"), person(2, &self.prompt)],
                left_seconds: 20.0,
                left_images: 2,
                speeds: if is_used {
                    vec![SpeedLine {
                        model: self.prompt.clone(),
                        device: "cpu".into(),
                        images: 8,
                        days: vec![speed(to_day - 3, 9.0), speed(to_day, 7.5)],
                    }]
                } else {
                    Vec::new()
                },
            },
            storage: StorageReport {
                users: vec![UserSpace {
                    id: UserId(2),
                    name: self.prompt.clone(),
                    images: 3,
                    image_bytes: 3 << 20,
                    trashed: 1,
                    trashed_bytes: 1 << 20,
                    uploads: 0,
                    upload_bytes: 0,
                }],
                database_bytes: 1 << 19,
                free_bytes: Some(60 << 30),
                disk_bytes: Some(240 << 30),
                folder: "data".into(),
            },
        })
    }
}
