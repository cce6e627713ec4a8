//! Collections and what is in them, in SQL.

use sqlx::FromRow;

use atelier_app::account::Viewer;
use atelier_app::gallery::{Collection, CollectionId, ImageCard, ImageId};

use super::super::store::json_list;
use crate::db::{Db, now_ms};
use crate::error::{ServerError, is_unique_violation};

#[derive(FromRow)]
struct CollectionRow {
    id: String,
    name: String,
    shared: bool,
    mine: bool,
    owner: String,
    images: i64,
    cover: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    dominant_colour: Option<String>,
    prompt: Option<String>,
    created_at: Option<i64>,
}

impl From<CollectionRow> for Collection {
    fn from(row: CollectionRow) -> Self {
        let cover = row.cover.map(|id| ImageCard {
            id: ImageId(id),
            width: row.width.unwrap_or(1),
            height: row.height.unwrap_or(1),
            dominant_colour: row.dominant_colour.unwrap_or_default(),
            prompt: row.prompt.unwrap_or_default(),
            created_at: row.created_at.unwrap_or(0),
            favourite: false,
            rating: 0,
        });
        Self {
            id: CollectionId(row.id),
            name: row.name,
            shared: row.shared,
            mine: row.mine,
            owner: row.owner,
            images: u64::try_from(row.images).unwrap_or(0),
            cover,
        }
    }
}

/// The viewer's by name, then what others share.
pub(in crate::gallery) async fn list(
    db: &Db,
    viewer: &Viewer,
) -> Result<Vec<Collection>, ServerError> {
    let rows: Vec<CollectionRow> = sqlx::query_as(
        "select c.id, c.name, c.shared, c.user_id = ?1 as mine, u.name as owner, \
                (select count(*) from collection_image ci cross join image i on i.number = ci.image_number \
                  where ci.collection_id = c.id and i.trashed_at is null) as images, \
                i.id as cover, i.width, i.height, i.dominant_colour, i.prompt, i.created_at \
           from collection c join user u on u.id = c.user_id \
           left join image i on i.number = ( \
                select ci.image_number from collection_image ci cross join image i on i.number = ci.image_number \
                 where ci.collection_id = c.id and i.trashed_at is null order by ci.image_number desc limit 1) \
          where c.user_id = ?1 or c.shared = 1 \
          order by mine desc, c.name, owner",
    )
    .bind(viewer.id.0)
    .fetch_all(db.read())
    .await?;
    Ok(rows.into_iter().map(Collection::from).collect())
}

/// How many collections the viewer has.
pub(super) async fn count(db: &Db, viewer: &Viewer) -> Result<u32, ServerError> {
    Ok(
        sqlx::query_scalar("select count(*) from collection where user_id = ?1")
            .bind(viewer.id.0)
            .fetch_one(db.read())
            .await?,
    )
}

/// Whether a collection is the viewer's own.
pub(super) async fn is_own(
    db: &Db,
    viewer: &Viewer,
    id: &CollectionId,
) -> Result<bool, ServerError> {
    Ok(sqlx::query_scalar(
        "select exists (select 1 from collection where id = ?1 and user_id = ?2)",
    )
    .bind(&id.0)
    .bind(viewer.id.0)
    .fetch_one(db.read())
    .await?)
}

/// Makes a collection; `None` where the name is taken.
pub(super) async fn insert(
    db: &Db,
    viewer: &Viewer,
    id: &CollectionId,
    name: &str,
    shared: bool,
) -> Result<Option<CollectionId>, ServerError> {
    let mut write = db.write().await?;
    let inserted = sqlx::query(
        "insert into collection (id, user_id, name, shared, created_at) values (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(&id.0)
    .bind(viewer.id.0)
    .bind(name)
    .bind(shared)
    .bind(now_ms())
    .execute(&mut *write)
    .await;
    match inserted {
        Ok(_) => {
            write.commit().await?;
            Ok(Some(id.clone()))
        }
        Err(error) if is_unique_violation(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Changes one of the viewer's; `false` where there is none, `None` where the name is taken.
pub(super) async fn update(
    db: &Db,
    viewer: &Viewer,
    id: &CollectionId,
    name: &str,
    shared: bool,
) -> Result<Option<bool>, ServerError> {
    let mut write = db.write().await?;
    let updated =
        sqlx::query("update collection set name = ?1, shared = ?2 where id = ?3 and user_id = ?4")
            .bind(name)
            .bind(shared)
            .bind(&id.0)
            .bind(viewer.id.0)
            .execute(&mut *write)
            .await;
    match updated {
        Ok(done) => {
            write.commit().await?;
            Ok(Some(done.rows_affected() == 1))
        }
        Err(error) if is_unique_violation(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether one of the viewer's is shared; what is not there is not.
pub(super) async fn is_shared(
    db: &Db,
    viewer: &Viewer,
    id: &CollectionId,
) -> Result<bool, ServerError> {
    let found: i64 = sqlx::query_scalar(
        "select exists (select 1 from collection where id = ?1 and user_id = ?2 and shared = 1)",
    )
    .bind(&id.0)
    .bind(viewer.id.0)
    .fetch_one(db.read())
    .await?;
    Ok(found != 0)
}

/// Deletes one of the viewer's; the images stay, and what was in it is written down. Of what was
/// deleted the latest `kept` can be had back.
pub(super) async fn delete(
    db: &Db,
    viewer: &Viewer,
    id: &CollectionId,
    kept: u32,
) -> Result<bool, ServerError> {
    let mut write = db.write().await?;
    let written = sqlx::query(
        "insert into collection_deleted (id, user_id, name, shared, created_at, images, deleted_at) \
         select id, user_id, name, shared, created_at, \
                (select json_group_array(image_number) from collection_image where collection_id = c.id), ?3 \
           from collection c where id = ?1 and user_id = ?2",
    )
    .bind(&id.0)
    .bind(viewer.id.0)
    .bind(now_ms())
    .execute(&mut *write)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("delete from collection where id = ?1")
        .bind(&id.0)
        .execute(&mut *write)
        .await?;
    sqlx::query(
        "delete from collection_deleted where user_id = ?1 and id not in ( \
            select id from collection_deleted where user_id = ?1 order by deleted_at desc, id desc limit ?2)",
    )
    .bind(viewer.id.0)
    .bind(kept)
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(true)
}

/// Brings a deleted one of the viewer's back, with those of its images that are still there; under
/// another name where its own was given away. `false` where there is none.
pub(super) async fn restore(
    db: &Db,
    viewer: &Viewer,
    id: &CollectionId,
) -> Result<bool, ServerError> {
    let mut write = db.write().await?;
    let name: Option<String> =
        sqlx::query_scalar("select name from collection_deleted where id = ?1 and user_id = ?2")
            .bind(&id.0)
            .bind(viewer.id.0)
            .fetch_optional(&mut *write)
            .await?;
    let Some(name) = name else { return Ok(false) };
    let mut free = name.clone();
    let mut number = 1;
    while sqlx::query_scalar::<_, i64>(
        "select exists (select 1 from collection where user_id = ?1 and name = ?2)",
    )
    .bind(viewer.id.0)
    .bind(&free)
    .fetch_one(&mut *write)
    .await?
        != 0
    {
        number += 1;
        // Room for the number within the longest name.
        let stem: String = name.chars().take(90).collect();
        free = format!("{stem} ({number})");
    }
    sqlx::query(
        "insert into collection (id, user_id, name, shared, created_at) \
         select id, user_id, ?3, shared, created_at from collection_deleted where id = ?1 and user_id = ?2",
    )
    .bind(&id.0)
    .bind(viewer.id.0)
    .bind(&free)
    .execute(&mut *write)
    .await?;
    sqlx::query(
        "insert into collection_image (collection_id, image_number, added_at) \
         select ?1, number, ?3 from image where user_id = ?2 and number in ( \
            select value from json_each((select images from collection_deleted where id = ?1)))",
    )
    .bind(&id.0)
    .bind(viewer.id.0)
    .bind(now_ms())
    .execute(&mut *write)
    .await?;
    sqlx::query("delete from collection_deleted where id = ?1")
        .bind(&id.0)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(true)
}

/// Forgets what was deleted before a time.
pub(in crate::gallery) async fn forget_deleted(db: &Db, before: i64) -> Result<(), ServerError> {
    let old: bool = sqlx::query_scalar(
        "select exists (select 1 from collection_deleted where deleted_at <= ?1)",
    )
    .bind(before)
    .fetch_one(db.read())
    .await?;
    if old {
        let mut write = db.write().await?;
        sqlx::query("delete from collection_deleted where deleted_at <= ?1")
            .bind(before)
            .execute(&mut *write)
            .await?;
        write.commit().await?;
    }
    Ok(())
}

/// Puts the viewer's images into a collection; answers how many were not in it.
pub(super) async fn add(
    db: &Db,
    viewer: &Viewer,
    ids: &[ImageId],
    collection: &CollectionId,
) -> Result<u64, ServerError> {
    let mut write = db.write().await?;
    let added = sqlx::query(
        "insert or ignore into collection_image (collection_id, image_number, added_at) \
         select ?1, number, ?2 from image where user_id = ?3 and trashed_at is null \
            and id in (select value from json_each(?4)) \
            and exists (select 1 from collection where id = ?1 and user_id = ?3)",
    )
    .bind(&collection.0)
    .bind(now_ms())
    .bind(viewer.id.0)
    .bind(json_list(ids))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(added.rows_affected())
}

/// Takes images out of a collection of the viewer's; answers how many.
pub(super) async fn remove(
    db: &Db,
    viewer: &Viewer,
    ids: &[ImageId],
    collection: &CollectionId,
) -> Result<u64, ServerError> {
    let mut write = db.write().await?;
    let removed = sqlx::query(
        "delete from collection_image where collection_id = ?1 \
            and image_number in (select number from image where user_id = ?2 \
                and id in (select value from json_each(?3)))",
    )
    .bind(&collection.0)
    .bind(viewer.id.0)
    .bind(json_list(ids))
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(removed.rows_affected())
}
