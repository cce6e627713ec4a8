//! Links in SQL. They are found by the hash of their secret.

use sqlx::FromRow;

use atelier_app::account::Viewer;
use atelier_app::gallery::{ImageId, ShareLink};
use atelier_app::studio::Settings;

use crate::db::Db;
use crate::error::ServerError;

#[derive(FromRow)]
pub(super) struct SharedRow {
    pub sha256: String,
    pub width: u32,
    pub height: u32,
    pub dominant_colour: String,
    pub with_settings: bool,
    pub expires_at: i64,
    settings: String,
}

impl SharedRow {
    /// What was asked for.
    pub fn settings(&self) -> Result<Settings, ServerError> {
        serde_json::from_str(&self.settings)
            .map_err(|error| ServerError::broken(format!("a shared image: settings: {error}")))
    }
}

/// Adds a link to one of the viewer's images; `false` where there is no such image.
pub(super) async fn insert(
    db: &Db,
    viewer: &Viewer,
    image: &ImageId,
    link: &ShareLink,
    secret_hash: &str,
) -> Result<bool, ServerError> {
    let mut write = db.write().await?;
    let inserted = sqlx::query(
        "insert into share_link (id, secret_hash, user_id, image_number, with_settings, created_at, expires_at) \
         select ?1, ?2, user_id, number, ?3, ?4, ?5 from image \
          where id = ?6 and user_id = ?7 and trashed_at is null",
    )
    .bind(&link.id)
    .bind(secret_hash)
    .bind(link.with_settings)
    .bind(link.created_at)
    .bind(link.expires_at)
    .bind(&image.0)
    .bind(viewer.id.0)
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(inserted.rows_affected() == 1)
}

/// How many links of the viewer's are open.
pub(super) async fn count(db: &Db, viewer: &Viewer, now: i64) -> Result<u32, ServerError> {
    Ok(
        sqlx::query_scalar(
            "select count(*) from share_link where user_id = ?1 and expires_at > ?2",
        )
        .bind(viewer.id.0)
        .bind(now)
        .fetch_one(db.read())
        .await?,
    )
}

/// The open links to one of the viewer's images, newest first.
pub(in crate::gallery) async fn list(
    db: &Db,
    viewer: &Viewer,
    image: &ImageId,
    now: i64,
) -> Result<Vec<ShareLink>, ServerError> {
    let rows: Vec<(String, bool, i64, i64)> = sqlx::query_as(
        "select s.id, s.with_settings, s.created_at, s.expires_at \
           from share_link s join image i on i.number = s.image_number \
          where i.id = ?1 and s.user_id = ?2 and s.expires_at > ?3 order by s.id desc",
    )
    .bind(&image.0)
    .bind(viewer.id.0)
    .bind(now)
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, with_settings, created_at, expires_at)| ShareLink {
            id,
            with_settings,
            created_at,
            expires_at,
        })
        .collect())
}

/// Ends a link of the viewer's; `false` where there is none.
pub(in crate::gallery) async fn delete(
    db: &Db,
    viewer: &Viewer,
    id: &str,
) -> Result<bool, ServerError> {
    let mut write = db.write().await?;
    let deleted = sqlx::query("delete from share_link where id = ?1 and user_id = ?2")
        .bind(id)
        .bind(viewer.id.0)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(deleted.rows_affected() == 1)
}

/// Removes links whose time is over.
pub(in crate::gallery) async fn delete_expired(db: &Db, now: i64) -> Result<(), ServerError> {
    let over: bool =
        sqlx::query_scalar("select exists (select 1 from share_link where expires_at <= ?1)")
            .bind(now)
            .fetch_one(db.read())
            .await?;
    if over {
        let mut write = db.write().await?;
        sqlx::query("delete from share_link where expires_at <= ?1")
            .bind(now)
            .execute(&mut *write)
            .await?;
        write.commit().await?;
    }
    Ok(())
}

/// What an open link leads to. A link of somebody whose sign-in is closed is closed too, and so is
/// one to an image that changed hands or lies in the trash.
pub(super) async fn find(
    db: &Db,
    secret_hash: &str,
    now: i64,
) -> Result<Option<SharedRow>, ServerError> {
    Ok(sqlx::query_as(
        "select i.sha256, i.width, i.height, i.dominant_colour, i.settings, s.with_settings, s.expires_at \
           from share_link s join image i on i.number = s.image_number join user u on u.id = s.user_id \
          where s.secret_hash = ?1 and s.expires_at > ?2 and i.trashed_at is null \
            and i.user_id = s.user_id and u.disabled_at is null",
    )
    .bind(secret_hash)
    .bind(now)
    .fetch_optional(db.read())
    .await?)
}
