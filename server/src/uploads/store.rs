//! Upload rows in SQL.

use atelier_app::account::Viewer;
use atelier_app::studio::UploadSummary;
use sqlx::FromRow;

use crate::db::Db;
use crate::error::ServerError;
use crate::gallery::ImageHash;

/// A file about to become an upload; it is on disk already.
pub(super) struct NewUpload {
    pub id: String,
    pub sha256: String,
    pub bytes: u64,
    pub width: u32,
    pub height: u32,
    pub format: &'static str,
    pub at: i64,
}

#[derive(FromRow)]
struct UploadRow {
    id: String,
    sha256: String,
    bytes: i64,
    width: u32,
    height: u32,
    format: String,
    created_at: i64,
}

impl UploadRow {
    fn split(self) -> (UploadSummary, String) {
        let upload = UploadSummary {
            id: self.id,
            width: self.width,
            height: self.height,
            bytes: u64::try_from(self.bytes).unwrap_or(0),
            sha256: self.sha256,
            created_at: self.created_at,
        };
        (upload, self.format)
    }
}

/// How many uploads the viewer has.
pub(super) async fn count(db: &Db, viewer: &Viewer) -> Result<u32, ServerError> {
    let count: i64 = sqlx::query_scalar("select count(*) from upload where user_id = ?")
        .bind(viewer.id.0)
        .fetch_one(db.read())
        .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The viewer's upload of these bytes.
pub(super) async fn find_by_hash(
    db: &Db,
    viewer: &Viewer,
    hash: &ImageHash,
) -> Result<Option<String>, ServerError> {
    Ok(
        sqlx::query_scalar("select id from upload where user_id = ? and sha256 = ?")
            .bind(viewer.id.0)
            .bind(hash.as_str())
            .fetch_optional(db.read())
            .await?,
    )
}

/// Adds an upload; the viewer's earlier one of the same bytes is answered in its place, as used now.
pub(super) async fn insert(
    db: &Db,
    viewer: &Viewer,
    new: &NewUpload,
) -> Result<UploadSummary, ServerError> {
    let mut write = db.write().await?;
    let row: UploadRow = sqlx::query_as(
        "insert into upload (id, user_id, sha256, bytes, width, height, format, created_at, used_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
         on conflict (user_id, sha256) do update set used_at = max(used_at, excluded.used_at)
         returning id, sha256, bytes, width, height, format, created_at",
    )
    .bind(&new.id)
    .bind(viewer.id.0)
    .bind(&new.sha256)
    .bind(i64::try_from(new.bytes).unwrap_or(i64::MAX))
    .bind(new.width)
    .bind(new.height)
    .bind(new.format)
    .bind(new.at)
    .fetch_one(&mut *write)
    .await?;
    write.commit().await?;
    Ok(row.split().0)
}

/// One of the viewer's uploads, and its format.
pub(super) async fn find(
    db: &Db,
    viewer: &Viewer,
    id: &str,
) -> Result<Option<(UploadSummary, String)>, ServerError> {
    let row: Option<UploadRow> = sqlx::query_as(
        "select id, sha256, bytes, width, height, format, created_at from upload
          where user_id = ? and id = ?",
    )
    .bind(viewer.id.0)
    .bind(id)
    .fetch_optional(db.read())
    .await?;
    Ok(row.map(UploadRow::split))
}

/// The viewer's uploads, newest first.
pub(super) async fn list(db: &Db, viewer: &Viewer) -> Result<Vec<UploadSummary>, ServerError> {
    let rows: Vec<UploadRow> = sqlx::query_as(
        "select id, sha256, bytes, width, height, format, created_at from upload
          where user_id = ? order by id desc",
    )
    .bind(viewer.id.0)
    .fetch_all(db.read())
    .await?;
    Ok(rows.into_iter().map(|row| row.split().0).collect())
}

/// Removes the rows of everybody's uploads that were last used before a time, and that neither an
/// open job nor an image needs.
pub(super) async fn remove_unused(db: &Db, before: i64) -> Result<usize, ServerError> {
    let mut write = db.write().await?;
    let removed = sqlx::query(
        "delete from upload where used_at <= ?1 and not exists (
             select 1 from job_upload u join job j on j.id = u.job_id
              where u.upload_id = upload.id and (j.state in ('queued', 'running')
                 or exists (select 1 from image i where i.job_id = j.id)))",
    )
    .bind(before)
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(usize::try_from(removed.rows_affected()).unwrap_or(usize::MAX))
}

/// Whether a row of anybody's names this file.
pub(super) async fn is_referenced(db: &Db, hash: &ImageHash) -> Result<bool, ServerError> {
    let found: i64 = sqlx::query_scalar("select exists (select 1 from upload where sha256 = ?)")
        .bind(hash.as_str())
        .fetch_one(db.read())
        .await?;
    Ok(found != 0)
}
