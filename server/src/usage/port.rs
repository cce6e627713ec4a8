//! The port's part about quotas and usage: what is left for everybody, the rest for administrators.

use super::{day_of, store};
use crate::accounts::quotas::QuotaService;
use crate::audit::Actor;
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use async_trait::async_trait;
use atelier_app::account::{QuotaLimits, QuotaReport, UserId, Viewer};
use atelier_app::admin::{PersonQuota, StorageReport, UsageData, UsageReport, UsageSpan};
use atelier_app::backend::{Answer, Usage};
use atelier_app::error::AppError;
use std::path::{Path, PathBuf};

/// Quotas and usage, as pages see and change them.
pub struct UsageService {
    db: Db,
    quotas: QuotaService,
    data_dir: PathBuf,
}

impl UsageService {
    /// Of this database and the folder whose disk is looked at.
    pub fn new(db: Db, data_dir: &Path) -> Self {
        Self {
            quotas: QuotaService::new(db.clone()),
            db,
            data_dir: data_dir.to_owned(),
        }
    }

    /// The quotas by themselves.
    pub fn quotas(&self) -> &QuotaService {
        &self.quotas
    }

    async fn report(
        &self,
        span: UsageSpan,
        user: Option<UserId>,
    ) -> Result<UsageReport, ServerError> {
        let to_day = day_of(now_ms());
        let from_day = to_day - i64::from(span.days()) + 1;
        let users = store::users(&self.db, from_day).await?;
        if user.is_some_and(|user| !users.iter().any(|row| row.id == user)) {
            return Err(AppError::NotFound.into());
        }
        let (left_seconds, left_images) = store::left(&self.db, from_day).await?;
        Ok(UsageReport {
            from_day,
            to_day,
            user,
            days: store::days(&self.db, user, from_day).await?,
            users,
            left_seconds,
            left_images,
            speeds: store::speeds(&self.db, from_day).await?,
        })
    }

    async fn storage(&self) -> Result<StorageReport, ServerError> {
        let folder = self.data_dir.clone();
        let disk = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder)).await;
        let disk = disk.ok().and_then(Result::ok);
        Ok(StorageReport {
            users: store::space(&self.db).await?,
            database_bytes: store::database_bytes(&self.db).await?,
            free_bytes: disk
                .as_ref()
                .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
            disk_bytes: disk.map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            folder: self.data_dir.display().to_string(),
        })
    }
}

fn only_admins(viewer: &Viewer) -> Answer<Actor> {
    if viewer.is_admin() {
        Ok(viewer.into())
    } else {
        Err(AppError::Forbidden)
    }
}

#[async_trait]
impl Usage for UsageService {
    async fn quota(&self, viewer: &Viewer) -> Answer<QuotaReport> {
        Ok(self.quotas.report(viewer.id, now_ms()).await?)
    }

    async fn everybodys_quota(&self, viewer: &Viewer) -> Answer<QuotaLimits> {
        only_admins(viewer)?;
        Ok(self.quotas.everybodys().await?)
    }

    async fn quota_of(&self, viewer: &Viewer, id: UserId) -> Answer<PersonQuota> {
        only_admins(viewer)?;
        Ok(PersonQuota {
            report: self.quotas.report(id, now_ms()).await?,
            weight: self.quotas.weight(id).await?,
        })
    }

    async fn set_quota(
        &self,
        viewer: &Viewer,
        id: UserId,
        limits: Option<QuotaLimits>,
    ) -> Answer<()> {
        let actor = only_admins(viewer)?;
        Ok(self.quotas.set_own(&actor, id, limits).await?)
    }

    async fn set_everybodys_quota(&self, viewer: &Viewer, limits: QuotaLimits) -> Answer<()> {
        let actor = only_admins(viewer)?;
        Ok(self.quotas.set_everybodys(&actor, limits).await?)
    }

    async fn set_weight(&self, viewer: &Viewer, id: UserId, weight: f64) -> Answer<()> {
        let actor = only_admins(viewer)?;
        Ok(self.quotas.set_weight(&actor, id, weight).await?)
    }

    async fn usage(
        &self,
        viewer: &Viewer,
        span: UsageSpan,
        user: Option<UserId>,
    ) -> Answer<UsageData> {
        only_admins(viewer)?;
        Ok(UsageData {
            usage: self.report(span, user).await?,
            storage: self.storage().await?,
        })
    }
}
