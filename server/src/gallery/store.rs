//! Image rows in SQL. They are inserted by the queue, in the transaction that ends their job.

use sqlx::FromRow;

use atelier_app::account::Viewer;
use atelier_app::gallery::{ImageCard, ImageDetail, ImageId};
use atelier_app::studio::{JobId, Settings};

use super::search::store::CardRow;
use super::{Facts, ImageHash};
use crate::db::Db;
use crate::error::ServerError;

#[derive(FromRow)]
struct DetailRow {
    #[sqlx(flatten)]
    card: CardRow,
    job_id: String,
    user_id: i64,
    owner: String,
    sha256: String,
    bytes: i64,
    settings: String,
    facts: String,
    imported_from: Option<String>,
    init_sha256: Option<String>,
    newer: Option<String>,
    older: Option<String>,
}

/// Most images that an image's page shows of those that were made from it.
const MOST_CHILDREN: u32 = 24;

/// One image that the viewer can see, with everything known about it. Images of the trash are
/// nowhere but there.
pub(super) async fn detail(
    db: &Db,
    viewer: &Viewer,
    id: &ImageId,
) -> Result<Option<ImageDetail>, ServerError> {
    let row: Option<DetailRow> = sqlx::query_as(
        "select image.id, width, height, dominant_colour, prompt, image.created_at, favourite, rating, number, \
                job_id, image.user_id, user.name as owner, sha256, bytes, settings, facts, imported_from, init_sha256, \
                (select n.id from image n where n.user_id = ?1 and n.trashed_at is null \
                    and n.number > image.number and image.user_id = ?1 order by n.number limit 1) as newer, \
                (select n.id from image n where n.user_id = ?1 and n.trashed_at is null \
                    and n.number < image.number and image.user_id = ?1 order by n.number desc limit 1) as older \
           from image join user on user.id = image.user_id \
          where image.id = ?2 and image.trashed_at is null and (image.user_id = ?1 or exists ( \
                select 1 from collection_image ci join collection c on c.id = ci.collection_id \
                 where ci.image_number = image.number and c.shared = 1))",
    )
    .bind(viewer.id.0)
    .bind(&id.0)
    .fetch_optional(db.read())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let facts: Facts = parse(&row.facts, "facts", id)?;
    let mine = row.user_id == viewer.id.0;
    // Where an image comes from, and what came of it, are its owner's to know.
    let (parent, children) = if mine {
        (
            by_hash(db, viewer, row.init_sha256.as_deref()).await?,
            children(db, viewer, &row.sha256).await?,
        )
    } else {
        (None, Vec::new())
    };
    let settings = parse(&row.settings, "settings", id)?;
    Ok(Some(ImageDetail {
        settings: if mine { settings } else { for_others(settings) },
        card: row.card.into_card(mine),
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
        mine,
        owner: row.owner,
        imported_from: row.imported_from,
        parent,
        children,
        newer: row.newer.map(ImageId),
        older: row.older.map(ImageId),
    }))
}

/// Settings as anybody but their owner sees them: what was uploaded to start from is nobody else's.
pub(super) fn for_others(settings: Settings) -> Settings {
    Settings {
        init_image: None,
        mask: None,
        ..settings
    }
}

/// The viewer's image whose file has this hash.
async fn by_hash(
    db: &Db,
    viewer: &Viewer,
    hash: Option<&str>,
) -> Result<Option<ImageCard>, ServerError> {
    let Some(hash) = hash else { return Ok(None) };
    let row: Option<CardRow> = sqlx::query_as(
        "select id, width, height, dominant_colour, prompt, created_at, favourite, rating, number \
           from image where sha256 = ?1 and user_id = ?2 and trashed_at is null order by number desc limit 1",
    )
    .bind(hash)
    .bind(viewer.id.0)
    .fetch_optional(db.read())
    .await?;
    Ok(row.map(|row| row.into_card(true)))
}

/// The viewer's images that were made from a file, the latest first.
async fn children(db: &Db, viewer: &Viewer, hash: &str) -> Result<Vec<ImageCard>, ServerError> {
    let rows: Vec<CardRow> = sqlx::query_as(
        "select id, width, height, dominant_colour, prompt, created_at, favourite, rating, number \
           from image where user_id = ?1 and init_sha256 = ?2 and trashed_at is null \
          order by number desc limit ?3",
    )
    .bind(viewer.id.0)
    .bind(hash)
    .bind(MOST_CHILDREN)
    .fetch_all(db.read())
    .await?;
    Ok(rows.into_iter().map(|row| row.into_card(true)).collect())
}

/// Which file an image is that the viewer can see, what a download of it is called after, and
/// whether it is the viewer's own. Whoever asks for a thumbnail may see what lies in their own trash.
pub(super) async fn file(
    db: &Db,
    viewer: &Viewer,
    id: &ImageId,
    with_trash: bool,
) -> Result<Option<(ImageHash, Settings, bool)>, ServerError> {
    let row: Option<(String, String, bool)> = sqlx::query_as(
        "select sha256, settings, user_id = ?1 from image where id = ?2 and ( \
            user_id = ?1 and (?3 or trashed_at is null) or trashed_at is null and exists ( \
                select 1 from collection_image ci join collection c on c.id = ci.collection_id \
                 where ci.image_number = image.number and c.shared = 1))",
    )
    .bind(viewer.id.0)
    .bind(&id.0)
    .bind(with_trash)
    .fetch_optional(db.read())
    .await?;
    let Some((hash, settings, mine)) = row else {
        return Ok(None);
    };
    Ok(Some((
        hash_of(&hash, id)?,
        parse(&settings, "settings", id)?,
        mine,
    )))
}

/// A file of several that are wanted.
pub(crate) struct WantedFile {
    pub hash: ImageHash,
    pub bytes: u64,
    pub settings: Settings,
    pub created_at: i64,
}

/// The files of several images that the viewer can see, oldest first.
pub(super) async fn files(
    db: &Db,
    viewer: &Viewer,
    ids: &[ImageId],
) -> Result<Vec<WantedFile>, ServerError> {
    let rows: Vec<(String, String, i64, String, i64)> = sqlx::query_as(
        "select id, sha256, bytes, settings, created_at from image \
          where id in (select value from json_each(?2)) and trashed_at is null and (user_id = ?1 or exists ( \
                select 1 from collection_image ci join collection c on c.id = ci.collection_id \
                 where ci.image_number = image.number and c.shared = 1)) \
          order by number",
    )
    .bind(viewer.id.0)
    .bind(json_list(ids))
    .fetch_all(db.read())
    .await?;
    rows.into_iter()
        .map(|(id, hash, bytes, settings, created_at)| {
            let id = ImageId(id);
            Ok(WantedFile {
                hash: hash_of(&hash, &id)?,
                bytes: u64::try_from(bytes).unwrap_or(0),
                settings: parse(&settings, "settings", &id)?,
                created_at,
            })
        })
        .collect()
}

/// Marks the viewer's images, or takes the mark off; answers how many there are.
pub(super) async fn set_favourite(
    db: &Db,
    viewer: &Viewer,
    ids: &[ImageId],
    favourite: bool,
) -> Result<u64, ServerError> {
    let mut write = db.write().await?;
    let done = sqlx::query(
        "update image set favourite = ?1 where user_id = ?2 and trashed_at is null \
            and id in (select value from json_each(?3))",
    )
    .bind(favourite)
    .bind(viewer.id.0)
    .bind(json_list(ids))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(done.rows_affected())
}

/// Gives the viewer's images stars; answers how many there are.
pub(super) async fn set_rating(
    db: &Db,
    viewer: &Viewer,
    ids: &[ImageId],
    rating: u8,
) -> Result<u64, ServerError> {
    let mut write = db.write().await?;
    let done = sqlx::query(
        "update image set rating = ?1 where user_id = ?2 and trashed_at is null \
            and id in (select value from json_each(?3))",
    )
    .bind(rating)
    .bind(viewer.id.0)
    .bind(json_list(ids))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(done.rows_affected())
}

/// Whether a row of anybody's names this file.
pub(super) async fn is_referenced(db: &Db, hash: &ImageHash) -> Result<bool, ServerError> {
    let found: i64 = sqlx::query_scalar("select exists (select 1 from image where sha256 = ?1)")
        .bind(hash.as_str())
        .fetch_one(db.read())
        .await?;
    Ok(found != 0)
}

/// Ids as `json_each` reads them.
pub(super) fn json_list(ids: &[ImageId]) -> String {
    serde_json::json!(ids).to_string()
}

/// Hashes of rows that were deleted.
pub(super) fn hashes(rows: Vec<String>) -> Result<Vec<ImageHash>, ServerError> {
    rows.iter()
        .map(|hash| {
            hash.parse()
                .map_err(|error| ServerError::broken(format!("a deleted image: {error}")))
        })
        .collect()
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
