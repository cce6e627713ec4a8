//! Rows of images in the trash, and how long they stay there.

use sqlx::FromRow;

use atelier_app::account::Viewer;
use atelier_app::gallery::ImageId;

use super::super::search::store::CardRow;
use super::super::store::{hashes, json_list};
use crate::audit::{Actor, store as audit};
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use crate::gallery::ImageHash;

const TRASH_DAYS: &str = "trash_days";

#[derive(FromRow)]
struct TrashedRow {
    #[sqlx(flatten)]
    card: CardRow,
    trashed_at: i64,
}

/// Puts the viewer's images into the trash; answers how many were not there yet.
pub(in crate::gallery) async fn put(
    db: &Db,
    viewer: &Viewer,
    ids: &[ImageId],
) -> Result<u64, ServerError> {
    let mut write = db.write().await?;
    let done = sqlx::query(
        "update image set trashed_at = ?1 where user_id = ?2 and trashed_at is null \
            and id in (select value from json_each(?3))",
    )
    .bind(now_ms())
    .bind(viewer.id.0)
    .bind(json_list(ids))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(done.rows_affected())
}

/// Takes the viewer's images out of the trash; answers how many.
pub(in crate::gallery) async fn restore(
    db: &Db,
    viewer: &Viewer,
    ids: &[ImageId],
) -> Result<u64, ServerError> {
    let mut write = db.write().await?;
    let done = sqlx::query(
        "update image set trashed_at = null where user_id = ?1 and trashed_at is not null \
            and id in (select value from json_each(?2))",
    )
    .bind(viewer.id.0)
    .bind(json_list(ids))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(done.rows_affected())
}

/// The viewer's trash before a place, last thrown first.
pub(super) async fn page(
    db: &Db,
    viewer: &Viewer,
    before: Option<(i64, i64)>,
    limit: u32,
) -> Result<Vec<(CardRow, i64)>, ServerError> {
    let rows: Vec<TrashedRow> = sqlx::query_as(
        "select id, width, height, dominant_colour, prompt, created_at, favourite, rating, number, trashed_at \
           from image where user_id = ?1 and trashed_at is not null \
            and (trashed_at, number) < (?2, ?3) \
          order by trashed_at desc, number desc limit ?4",
    )
    .bind(viewer.id.0)
    .bind(before.map_or(i64::MAX, |before| before.0))
    .bind(before.map_or(i64::MAX, |before| before.1))
    .bind(limit)
    .fetch_all(db.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.card, row.trashed_at))
        .collect())
}

/// How many images lie in the viewer's trash.
pub(super) async fn count(db: &Db, viewer: &Viewer) -> Result<u64, ServerError> {
    let count: i64 = sqlx::query_scalar(
        "select count(*) from image where user_id = ?1 and trashed_at is not null",
    )
    .bind(viewer.id.0)
    .fetch_one(db.read())
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Deletes rows of the viewer's trash, at most `limit`, and answers their files' hashes.
pub(super) async fn delete(
    db: &Db,
    viewer: &Viewer,
    ids: Option<&[ImageId]>,
    limit: u32,
) -> Result<Vec<ImageHash>, ServerError> {
    let mut write = db.write().await?;
    let gone: Vec<String> = sqlx::query_scalar(
        "delete from image where id in (select id from image where user_id = ?1 and trashed_at is not null \
            and (?2 is null or id in (select value from json_each(?2))) limit ?3) returning sha256",
    )
    .bind(viewer.id.0)
    .bind(ids.map(json_list))
    .bind(limit)
    .fetch_all(&mut *write)
    .await?;
    write.commit().await?;
    hashes(gone)
}

/// As [`delete`], of everybody's, thrown away before a time.
pub(super) async fn delete_older(
    db: &Db,
    before: i64,
    limit: u32,
) -> Result<Vec<ImageHash>, ServerError> {
    // A look without the write lock first: most sweeps find nothing.
    let old: bool =
        sqlx::query_scalar("select exists (select 1 from image where trashed_at <= ?1)")
            .bind(before)
            .fetch_one(db.read())
            .await?;
    if !old {
        return Ok(Vec::new());
    }
    let mut write = db.write().await?;
    let gone: Vec<String> = sqlx::query_scalar(
        "delete from image where id in (select id from image where trashed_at <= ?1 limit ?2) returning sha256",
    )
    .bind(before)
    .bind(limit)
    .fetch_all(&mut *write)
    .await?;
    write.commit().await?;
    hashes(gone)
}

/// The time that was set, in days.
pub(super) async fn days(db: &Db) -> Result<Option<u32>, ServerError> {
    let days: Option<String> = sqlx::query_scalar("select value from setting where name = ?1")
        .bind(TRASH_DAYS)
        .fetch_optional(db.read())
        .await?;
    Ok(days.and_then(|days| days.parse().ok()))
}

/// Writes the time down, and who set it.
pub(super) async fn set_days(db: &Db, viewer: &Viewer, days: u32) -> Result<(), ServerError> {
    let now = now_ms();
    let mut write = db.write().await?;
    sqlx::query(
        "insert into setting (name, value, changed_at) values (?1, ?2, ?3) \
         on conflict (name) do update set value = excluded.value, changed_at = excluded.changed_at",
    )
    .bind(TRASH_DAYS)
    .bind(days.to_string())
    .bind(now)
    .execute(&mut *write)
    .await?;
    let (actor, words) = (Actor::from(viewer), days.to_string());
    audit::insert(
        &mut write,
        &actor,
        "setting.change",
        TRASH_DAYS,
        &words,
        now,
    )
    .await?;
    write.commit().await?;
    Ok(())
}
