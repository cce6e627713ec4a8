//! Image rows in SQL. They are inserted by the queue, in the transaction that ends their job.

use sqlx::FromRow;

use atelier_app::account::Viewer;
use atelier_app::gallery::{ImageCard, ImageDetail, ImageId};
use atelier_app::studio::{JobId, Settings};

use super::{Facts, ImageHash};
use crate::db::Db;
use crate::error::ServerError;

#[derive(FromRow)]
struct CardRow {
    id: String,
    width: u32,
    height: u32,
    dominant_colour: String,
    prompt: String,
    created_at: i64,
}

impl From<CardRow> for ImageCard {
    fn from(row: CardRow) -> Self {
        Self {
            id: ImageId(row.id),
            width: row.width,
            height: row.height,
            dominant_colour: row.dominant_colour,
            prompt: row.prompt,
            created_at: row.created_at,
        }
    }
}

/// The viewer's images older than `before`, newest first, at most `limit`.
pub(super) async fn page(
    db: &Db,
    viewer: &Viewer,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<ImageCard>, ServerError> {
    let rows: Vec<CardRow> = sqlx::query_as(
        "select id, width, height, dominant_colour, prompt, created_at from image \
          where user_id = ?1 and (?2 is null or id < ?2) order by id desc limit ?3",
    )
    .bind(viewer.id.0)
    .bind(before)
    .bind(limit)
    .fetch_all(db.read())
    .await?;
    Ok(rows.into_iter().map(ImageCard::from).collect())
}

/// How many images the viewer has.
pub(super) async fn count(db: &Db, viewer: &Viewer) -> Result<u64, ServerError> {
    let count: i64 = sqlx::query_scalar("select count(*) from image where user_id = ?1")
        .bind(viewer.id.0)
        .fetch_one(db.read())
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

#[derive(FromRow)]
struct DetailRow {
    #[sqlx(flatten)]
    card: CardRow,
    job_id: String,
    sha256: String,
    bytes: i64,
    settings: String,
    facts: String,
    newer: Option<String>,
    older: Option<String>,
}

/// One of the viewer's images.
pub(super) async fn detail(
    db: &Db,
    viewer: &Viewer,
    id: &ImageId,
) -> Result<Option<ImageDetail>, ServerError> {
    let row: Option<DetailRow> = sqlx::query_as(
        "select id, width, height, dominant_colour, prompt, created_at, job_id, sha256, bytes, \
                settings, facts, \
                (select id from image where user_id = ?1 and id > ?2 order by id limit 1) as newer, \
                (select id from image where user_id = ?1 and id < ?2 order by id desc limit 1) as older \
           from image where user_id = ?1 and id = ?2",
    )
    .bind(viewer.id.0)
    .bind(&id.0)
    .fetch_optional(db.read())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let facts: Facts = parse(&row.facts, "facts", id)?;
    Ok(Some(ImageDetail {
        settings: parse(&row.settings, "settings", id)?,
        card: row.card.into(),
        scheduler: facts.scheduler,
        device: facts.device,
        dtype: facts.dtype,
        fallback_reason: facts.fallback_reason,
        rungs: facts.rungs,
        timings: facts.timings,
        notes: facts.notes,
        bytes: u64::try_from(row.bytes).unwrap_or(0),
        sha256: row.sha256,
        job_id: JobId(row.job_id),
        newer: row.newer.map(ImageId),
        older: row.older.map(ImageId),
    }))
}

/// Which file one of the viewer's images is, and what a download of it is called after.
pub(super) async fn file(
    db: &Db,
    viewer: &Viewer,
    id: &ImageId,
) -> Result<Option<(ImageHash, Settings)>, ServerError> {
    let row: Option<(String, String)> =
        sqlx::query_as("select sha256, settings from image where user_id = ?1 and id = ?2")
            .bind(viewer.id.0)
            .bind(&id.0)
            .fetch_optional(db.read())
            .await?;
    let Some((hash, settings)) = row else {
        return Ok(None);
    };
    Ok(Some((
        hash_of(&hash, id)?,
        parse(&settings, "settings", id)?,
    )))
}

/// Deletes the row of one of the viewer's images and answers its file's hash.
pub(super) async fn delete(
    db: &Db,
    viewer: &Viewer,
    id: &ImageId,
) -> Result<Option<ImageHash>, ServerError> {
    let mut write = db.write().await?;
    let hash: Option<String> =
        sqlx::query_scalar("delete from image where user_id = ?1 and id = ?2 returning sha256")
            .bind(viewer.id.0)
            .bind(&id.0)
            .fetch_optional(&mut *write)
            .await?;
    write.commit().await?;
    hash.map(|hash| hash_of(&hash, id)).transpose()
}

/// Whether a row of anybody's names this file.
pub(super) async fn is_referenced(db: &Db, hash: &ImageHash) -> Result<bool, ServerError> {
    let found: i64 = sqlx::query_scalar("select exists (select 1 from image where sha256 = ?1)")
        .bind(hash.as_str())
        .fetch_one(db.read())
        .await?;
    Ok(found != 0)
}

fn parse<T: serde::de::DeserializeOwned>(
    text: &str,
    column: &str,
    id: &ImageId,
) -> Result<T, ServerError> {
    serde_json::from_str(text)
        .map_err(|error| ServerError::broken(format!("image {}: {column}: {error}", id.0)))
}

fn hash_of(text: &str, id: &ImageId) -> Result<ImageHash, ServerError> {
    text.parse()
        .map_err(|error| ServerError::broken(format!("image {}: {error}", id.0)))
}
