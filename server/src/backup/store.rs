//! The SQL of backups: which files a database names, and whether it is sound.

use super::archive::{FileKind, Named};
use crate::db::Db;
use sqlx::Error;

/// Every file that rows name, each once.
pub(super) async fn files(db: &Db) -> Result<Vec<Named>, Error> {
    let rows: Vec<(bool, String, i64)> = sqlx::query_as(
        "select 0, sha256, max(bytes) from image group by sha256
         union all select 1, sha256, max(bytes) from upload group by sha256 order by 1, 2",
    )
    .fetch_all(db.read())
    .await?;
    rows.into_iter()
        .map(|(is_upload, sha256, bytes)| {
            Ok(Named {
                kind: if is_upload {
                    FileKind::Upload
                } else {
                    FileKind::Image
                },
                hash: sha256
                    .parse()
                    .map_err(|error| Error::Decode(Box::new(error)))?,
                bytes: u64::try_from(bytes).unwrap_or_default(),
            })
        })
        .collect()
}

/// How many images there are.
pub(super) async fn images(db: &Db) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar("select count(*) from image")
        .fetch_one(db.read())
        .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Whether a row names this file.
pub(super) async fn is_named(db: &Db, file: &Named) -> Result<bool, Error> {
    let statement = match file.kind {
        FileKind::Image => "select exists (select 1 from image where sha256 = ?)",
        FileKind::Upload => "select exists (select 1 from upload where sha256 = ?)",
    };
    sqlx::query_scalar(statement)
        .bind(file.hash.as_str())
        .fetch_one(db.read())
        .await
}

/// Deletes the rows of files that were deleted for good after the copy was made.
pub(super) async fn forget(db: &Db, files: &[Named]) -> Result<(), Error> {
    let mut write = db.write().await?;
    for file in files {
        let statement = match file.kind {
            FileKind::Image => "delete from image where sha256 = ?",
            FileKind::Upload => "delete from upload where sha256 = ?",
        };
        sqlx::query(statement)
            .bind(file.hash.as_str())
            .execute(&mut *write)
            .await?;
    }
    write.commit().await
}

/// What SQLite finds wrong with a database; `None` where all is well.
pub(super) async fn damage(db: &Db) -> Result<Option<String>, Error> {
    let words: String = sqlx::query_scalar("pragma integrity_check(1)")
        .fetch_one(db.read())
        .await?;
    Ok((words != "ok").then_some(words))
}
