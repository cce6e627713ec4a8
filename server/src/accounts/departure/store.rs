//! The SQL of leaving. Everything that belongs to a user refers to them with `on delete cascade` (a
//! test looks that it does), so that erasing is one row; handing over moves what makes sense to keep.

use super::super::failures::Subjects;
use crate::db::{Db, Write};
use crate::error::ServerError;
use crate::gallery::ImageHash;
use crate::gallery::store::WantedFile;
use atelier_app::account::UserId;
use atelier_app::studio::JobId;
use serde::Serialize;
use sqlx::Error;

/// What a removal came to.
pub enum Departure {
    /// Done.
    Gone(Gone),
    /// There is no such user.
    Missing,
    /// Nobody could administrate afterwards.
    LastAdmin,
}

/// Who is gone, and the hashes of files that may not be needed any more.
pub struct Gone {
    pub name: String,
    pub images: Vec<String>,
    pub uploads: Vec<String>,
    pub heir: Option<String>,
}

/// Which files a hash may be of.
#[derive(Clone, Copy)]
pub enum Files {
    Images,
    Uploads,
}

pub async fn is_user(db: &Db, id: UserId) -> Result<bool, Error> {
    sqlx::query_scalar("select exists (select 1 from user where id = ? and waiting_since is null)")
        .bind(id.0)
        .fetch_one(db.read())
        .await
}

pub async fn open_jobs(db: &Db, id: UserId) -> Result<Vec<JobId>, Error> {
    let ids: Vec<String> = sqlx::query_scalar(
        "select id from job where user_id = ? and state in ('queued', 'running')",
    )
    .bind(id.0)
    .fetch_all(db.read())
    .await?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// The name of a user.
pub async fn name_of(db: &Db, id: UserId) -> Result<Option<String>, Error> {
    sqlx::query_scalar("select name from user where id = ?")
        .bind(id.0)
        .fetch_optional(db.read())
        .await
}

/// How an image was kept, for the list in a zip.
#[derive(Debug, Serialize)]
pub struct Kept {
    pub id: String,
    pub made_at_ms: i64,
    pub prompt: String,
    pub seed: u64,
    pub model: String,
    pub favourite: bool,
    /// 0 is none.
    pub rating: u8,
    pub in_trash: bool,
    pub collections: Vec<String>,
}

/// Every image of a user, the trash included, oldest first.
pub async fn images_of(db: &Db, id: UserId) -> Result<Vec<(WantedFile, Kept)>, ServerError> {
    type Row = (String, String, i64, String, i64, bool, u8, bool, String);
    let rows: Vec<Row> = sqlx::query_as(
        "select id, sha256, bytes, settings, created_at, favourite, rating, trashed_at is not null,
                (select json_group_array(c.name) from collection_image ci
                 join collection c on c.id = ci.collection_id where ci.image_number = image.number)
         from image where user_id = ? order by number",
    )
    .bind(id.0)
    .fetch_all(db.read())
    .await?;
    let mut images = Vec::with_capacity(rows.len());
    for (id, hash, bytes, settings, made_at_ms, favourite, rating, in_trash, names) in rows {
        let broken = |what: &str| ServerError::broken(format!("{what} of image {id}"));
        let settings: atelier_app::studio::Settings =
            serde_json::from_str(&settings).map_err(|_| broken("the settings"))?;
        let kept = Kept {
            made_at_ms,
            prompt: settings.prompt.clone(),
            seed: settings.seed,
            model: settings.model.clone(),
            favourite,
            rating,
            in_trash,
            collections: serde_json::from_str(&names).map_err(|_| broken("the collections"))?,
            id: id.clone(),
        };
        let file = WantedFile {
            hash: hash.parse().map_err(|_| broken("the hash"))?,
            bytes: u64::try_from(bytes).unwrap_or(0),
            settings,
            created_at: made_at_ms,
        };
        images.push((file, kept));
    }
    Ok(images)
}

/// A file that a user sent.
pub struct Sent {
    pub id: String,
    pub hash: ImageHash,
    pub bytes: u64,
    pub format: String,
    pub created_at: i64,
}

/// Every file that a user sent and that is still kept.
pub async fn uploads_of(db: &Db, id: UserId) -> Result<Vec<Sent>, ServerError> {
    let rows: Vec<(String, String, i64, String, i64)> = sqlx::query_as(
        "select id, sha256, bytes, format, created_at from upload where user_id = ? order by id",
    )
    .bind(id.0)
    .fetch_all(db.read())
    .await?;
    let mut sent = Vec::with_capacity(rows.len());
    for (id, hash, bytes, format, created_at) in rows {
        sent.push(Sent {
            hash: hash
                .parse()
                .map_err(|_| ServerError::broken(format!("the hash of upload {id}")))?,
            bytes: u64::try_from(bytes).unwrap_or(0),
            id,
            format,
            created_at,
        });
    }
    Ok(sent)
}

pub async fn is_named(db: &Db, files: Files, hash: &str) -> Result<bool, Error> {
    let sql = match files {
        Files::Images => "select exists (select 1 from image where sha256 = ?)",
        Files::Uploads => "select exists (select 1 from upload where sha256 = ?)",
    };
    sqlx::query_scalar(sql)
        .bind(hash)
        .fetch_one(db.read())
        .await
}

/// Deletes the user and everything of theirs.
pub async fn erase(write: &mut Write, id: UserId) -> Result<Departure, Error> {
    let (name, last) = match who(write, id).await? {
        Some(found) => found,
        None => return Ok(Departure::Missing),
    };
    if last {
        return Ok(Departure::LastAdmin);
    }
    let images = hashes(
        write,
        "select distinct sha256 from image where user_id = ?",
        id,
    )
    .await?;
    let uploads = hashes(
        write,
        "select distinct sha256 from upload where user_id = ?",
        id,
    )
    .await?;
    delete(write, id, &name).await?;
    Ok(Departure::Gone(Gone {
        name,
        images,
        uploads,
        heir: None,
    }))
}

/// Gives images, the collections they lie in, the jobs that made them and the uploads these started
/// from to another user, then deletes the rest: keys, links, marks of who they were.
pub async fn hand_over(write: &mut Write, id: UserId, heir: UserId) -> Result<Departure, Error> {
    let (name, last) = match who(write, id).await? {
        Some(found) => found,
        None => return Ok(Departure::Missing),
    };
    if last {
        return Ok(Departure::LastAdmin);
    }
    let uploads = hashes(
        write,
        "select distinct sha256 from upload where user_id = ?",
        id,
    )
    .await?;
    // A file that both have sent is the heir's one upload: jobs are pointed at it first.
    sqlx::query(
        "insert or ignore into job_upload (job_id, upload_id)
         select ju.job_id, theirs.id from job_upload ju
         join upload mine on mine.id = ju.upload_id and mine.user_id = ?1
         join upload theirs on theirs.user_id = ?2 and theirs.sha256 = mine.sha256",
    )
    .bind(id.0)
    .bind(heir.0)
    .execute(&mut **write)
    .await?;
    sqlx::query("update or ignore upload set user_id = ?2 where user_id = ?1")
        .bind(id.0)
        .bind(heir.0)
        .execute(&mut **write)
        .await?;
    // An idempotency key is its owner's: the heir may have used the same word.
    sqlx::query("update job set user_id = ?2, idem_key = null where user_id = ?1")
        .bind(id.0)
        .bind(heir.0)
        .execute(&mut **write)
        .await?;
    // An image that changes hands leaves its collections; these change hands with it.
    let places: Vec<(String, i64, i64)> = sqlx::query_as(
        "select ci.collection_id, ci.image_number, ci.added_at from collection_image ci
         join collection c on c.id = ci.collection_id
         join image i on i.number = ci.image_number
         where c.user_id = ?1 and i.user_id = ?1",
    )
    .bind(id.0)
    .fetch_all(&mut **write)
    .await?;
    sqlx::query("update image set user_id = ?2 where user_id = ?1")
        .bind(id.0)
        .bind(heir.0)
        .execute(&mut **write)
        .await?;
    hand_over_collections(write, id, heir, &name).await?;
    for (collection, image, added_at) in places {
        sqlx::query(
            "insert or ignore into collection_image (collection_id, image_number, added_at)
             values (?, ?, ?)",
        )
        .bind(collection)
        .bind(image)
        .bind(added_at)
        .execute(&mut **write)
        .await?;
    }
    let heir_name: String = sqlx::query_scalar("select name from user where id = ?")
        .bind(heir.0)
        .fetch_one(&mut **write)
        .await?;
    delete(write, id, &name).await?;
    Ok(Departure::Gone(Gone {
        name,
        images: Vec::new(),
        uploads,
        heir: Some(heir_name),
    }))
}

/// The user's name, and whether nobody could administrate without them.
async fn who(write: &mut Write, id: UserId) -> Result<Option<(String, bool)>, Error> {
    sqlx::query_as(
        "select name, role = 'admin' and not exists (
                    select 1 from user o where o.role = 'admin' and o.disabled_at is null and o.id <> user.id)
         from user where id = ? and waiting_since is null",
    )
    .bind(id.0)
    .fetch_optional(&mut **write)
    .await
}

async fn hashes(write: &mut Write, sql: &'static str, id: UserId) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(sql)
        .bind(id.0)
        .fetch_all(&mut **write)
        .await
}

/// Gives collections away. A name that the heir uses already gets the former owner's beside it.
async fn hand_over_collections(
    write: &mut Write,
    id: UserId,
    heir: UserId,
    owner: &str,
) -> Result<(), Error> {
    /// Longest name of a collection, in characters.
    const LONGEST: usize = 100;
    let theirs: Vec<(String, String)> =
        sqlx::query_as("select id, name from collection where user_id = ? order by id")
            .bind(id.0)
            .fetch_all(&mut **write)
            .await?;
    for (collection, name) in theirs {
        let mut wanted = name.clone();
        for number in 2.. {
            let done = sqlx::query(
                "update or ignore collection set user_id = ?2, name = ?3 where id = ?1",
            )
            .bind(&collection)
            .bind(heir.0)
            .bind(&wanted)
            .execute(&mut **write)
            .await?;
            if done.rows_affected() == 1 {
                break;
            }
            let end = match number {
                2 => format!(" ({owner})"),
                number => format!(" ({owner}, {number})"),
            };
            let room = LONGEST.saturating_sub(end.chars().count());
            wanted = name.chars().take(room).chain(end.chars()).collect();
        }
    }
    Ok(())
}

async fn delete(write: &mut Write, id: UserId, name: &str) -> Result<(), Error> {
    // Counters of wrong tries name people, not rows.
    for subjects in [
        Subjects::of_account(name, ""),
        Subjects::of_two_step(name, ""),
    ] {
        sqlx::query(
            "delete from sign_in_failure where subject = ?1 or substr(subject, 1, length(?2)) = ?2",
        )
        .bind(&subjects.name)
        .bind(&subjects.at_address)
        .execute(&mut **write)
        .await?;
    }
    sqlx::query("delete from user where id = ?")
        .bind(id.0)
        .execute(&mut **write)
        .await?;
    Ok(())
}
