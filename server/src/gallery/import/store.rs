//! Rows of images that were made elsewhere. A job stands behind each, as behind every image: done,
//! and never in any queue.

use atelier_app::account::Viewer;
use atelier_app::studio::Settings;

use crate::db::{Db, now_ms};
use crate::error::ServerError;
use crate::gallery::{Facts, ImageHash};

/// A file about to become an image; it is on disk already.
pub(super) struct NewImport<'a> {
    pub hash: &'a ImageHash,
    pub bytes: u64,
    pub width: u32,
    pub height: u32,
    pub colour: &'a str,
    pub program: Option<&'a str>,
    pub settings: &'a Settings,
    pub facts: &'a Facts,
}

/// Adds an image and answers its id; the viewer's image of the same file is answered in its place
/// (`false`), out of the trash if it lay there.
pub(super) async fn insert(
    db: &Db,
    viewer: &Viewer,
    new: &NewImport<'_>,
) -> Result<(String, bool), ServerError> {
    let json = |error: serde_json::Error| ServerError::broken(format!("an import: {error}"));
    let settings = serde_json::to_string(new.settings).map_err(json)?;
    let facts = serde_json::to_string(new.facts).map_err(json)?;
    let mut write = db.write().await?;
    let there: Option<String> = sqlx::query_scalar(
        "update image set trashed_at = null where id = ( \
            select id from image where user_id = ?1 and sha256 = ?2 order by trashed_at limit 1) returning id",
    )
    .bind(viewer.id.0)
    .bind(new.hash.as_str())
    .fetch_optional(&mut *write)
    .await?;
    if let Some(id) = there {
        write.commit().await?;
        return Ok((id, false));
    }
    let (job, id) = (
        uuid::Uuid::now_v7().to_string(),
        uuid::Uuid::now_v7().to_string(),
    );
    let now = now_ms();
    // Without a time at which it ended: lists of what was done here leave it out.
    sqlx::query(
        "insert into job (id, user_id, state, settings, cost, created_at) values (?1, ?2, 'done', ?3, 0, ?4)",
    )
    .bind(&job)
    .bind(viewer.id.0)
    .bind(&settings)
    .bind(now)
    .execute(&mut *write)
    .await?;
    sqlx::query(
        "insert into image (id, job_id, user_id, sha256, bytes, width, height, dominant_colour, \
                            prompt, settings, facts, created_at, imported_from) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )
    .bind(&id)
    .bind(&job)
    .bind(viewer.id.0)
    .bind(new.hash.as_str())
    .bind(i64::try_from(new.bytes).unwrap_or(i64::MAX))
    .bind(new.width)
    .bind(new.height)
    .bind(new.colour)
    .bind(&new.settings.prompt)
    .bind(&settings)
    .bind(&facts)
    .bind(now)
    .bind(new.program.unwrap_or("an unknown program"))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok((id, true))
}

/// How many images the viewer has brought in, in the trash or not, and how many bytes they are.
pub(super) async fn imported(db: &Db, viewer: &Viewer) -> Result<(u64, u64), ServerError> {
    let (images, bytes): (i64, i64) = sqlx::query_as(
        "select count(*), coalesce(sum(bytes), 0) from image where user_id = ?1 and imported_from is not null",
    )
    .bind(viewer.id.0)
    .fetch_one(db.read())
    .await?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok((count(images), count(bytes)))
}

/// Whether an image of the viewer's is this file.
pub(super) async fn has_file(
    db: &Db,
    viewer: &Viewer,
    hash: &ImageHash,
) -> Result<bool, ServerError> {
    let found: i64 = sqlx::query_scalar(
        "select exists (select 1 from image where sha256 = ?1 and user_id = ?2)",
    )
    .bind(hash.as_str())
    .bind(viewer.id.0)
    .fetch_one(db.read())
    .await?;
    Ok(found != 0)
}
