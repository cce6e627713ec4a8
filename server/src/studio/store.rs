//! Presets, styles and used prompts in SQL.

use std::collections::HashSet;

use sqlx::Row;
use tokio_stream::StreamExt as _;
use uuid::Uuid;

use atelier_app::account::Viewer;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{OwnPreset, OwnStyle, PastPrompt, Style};

use crate::db::{Db, now_ms};
use crate::error::{ServerError, is_unique_violation};

/// Prompts that are answered at once.
const PAST_SHOWN: usize = 60;
/// Jobs that are looked through for them.
const PAST_LOOKED: u32 = 5000;

/// The viewer's presets by name.
pub(super) async fn presets(db: &Db, viewer: &Viewer) -> Result<Vec<OwnPreset>, ServerError> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select id, name, settings from preset where user_id = ?1 order by name, id",
    )
    .bind(viewer.id.0)
    .fetch_all(db.read())
    .await?;
    rows.into_iter()
        .map(|(id, name, settings)| {
            let settings = serde_json::from_str(&settings)
                .map_err(|error| ServerError::broken(format!("a preset: {error}")))?;
            Ok(OwnPreset { id, name, settings })
        })
        .collect()
}

/// How many presets the viewer has.
pub(super) async fn count_presets(db: &Db, viewer: &Viewer) -> Result<u32, ServerError> {
    Ok(
        sqlx::query_scalar("select count(*) from preset where user_id = ?1")
            .bind(viewer.id.0)
            .fetch_one(db.read())
            .await?,
    )
}

/// Keeps a preset under a new id; answers it back where its name is taken.
pub(super) async fn insert_preset(
    db: &Db,
    viewer: &Viewer,
    preset: OwnPreset,
) -> Result<Result<OwnPreset, OwnPreset>, ServerError> {
    let preset = OwnPreset {
        id: Uuid::now_v7().to_string(),
        ..preset
    };
    let mut write = db.write().await?;
    let inserted = sqlx::query(
        "insert into preset (id, user_id, model, name, settings, created_at) values (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(&preset.id)
    .bind(viewer.id.0)
    .bind(&preset.settings.model)
    .bind(&preset.name)
    .bind(json(&preset)?)
    .bind(now_ms())
    .execute(&mut *write)
    .await;
    match inserted {
        Ok(_) => write.commit().await?,
        Err(error) if is_unique_violation(&error) => return Ok(Err(preset)),
        Err(error) => return Err(error.into()),
    }
    Ok(Ok(preset))
}

/// Whether there was one of this id; `None` where the name is taken by another.
pub(super) async fn update_preset(
    db: &Db,
    viewer: &Viewer,
    preset: &OwnPreset,
) -> Result<Option<bool>, ServerError> {
    let mut write = db.write().await?;
    let updated = sqlx::query(
        "update preset set model = ?3, name = ?4, settings = ?5 where id = ?1 and user_id = ?2",
    )
    .bind(&preset.id)
    .bind(viewer.id.0)
    .bind(&preset.settings.model)
    .bind(&preset.name)
    .bind(json(preset)?)
    .execute(&mut *write)
    .await;
    let updated = match updated {
        Err(error) if is_unique_violation(&error) => return Ok(None),
        updated => updated?.rows_affected(),
    };
    write.commit().await?;
    Ok(Some(updated == 1))
}

/// Whether there was one to delete.
pub(super) async fn delete_preset(db: &Db, viewer: &Viewer, id: &str) -> Result<bool, ServerError> {
    let mut write = db.write().await?;
    let deleted = sqlx::query("delete from preset where id = ?1 and user_id = ?2")
        .bind(id)
        .bind(viewer.id.0)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(deleted.rows_affected() == 1)
}

fn json(preset: &OwnPreset) -> Result<String, ServerError> {
    serde_json::to_string(&preset.settings)
        .map_err(|error| ServerError::broken(format!("a preset: {error}")))
}

/// The viewer's styles by name.
pub(super) async fn styles(db: &Db, viewer: &Viewer) -> Result<Vec<OwnStyle>, ServerError> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "select id, name, prompt, negative_prompt from style where user_id = ?1 order by name, id",
    )
    .bind(viewer.id.0)
    .fetch_all(db.read())
    .await?;
    let style = |(id, name, prompt, negative_prompt)| OwnStyle {
        id,
        style: Style {
            name,
            prompt,
            negative_prompt,
        },
    };
    Ok(rows.into_iter().map(style).collect())
}

/// How many styles the viewer has.
pub(super) async fn count_styles(db: &Db, viewer: &Viewer) -> Result<u32, ServerError> {
    Ok(
        sqlx::query_scalar("select count(*) from style where user_id = ?1")
            .bind(viewer.id.0)
            .fetch_one(db.read())
            .await?,
    )
}

/// Keeps a style under a new id; answers it back where its name is taken.
pub(super) async fn insert_style(
    db: &Db,
    viewer: &Viewer,
    style: OwnStyle,
) -> Result<Result<OwnStyle, OwnStyle>, ServerError> {
    let style = OwnStyle {
        id: Uuid::now_v7().to_string(),
        ..style
    };
    let mut write = db.write().await?;
    let inserted = sqlx::query(
        "insert into style (id, user_id, name, prompt, negative_prompt, created_at) values (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(&style.id)
    .bind(viewer.id.0)
    .bind(&style.style.name)
    .bind(&style.style.prompt)
    .bind(&style.style.negative_prompt)
    .bind(now_ms())
    .execute(&mut *write)
    .await;
    match inserted {
        Ok(_) => write.commit().await?,
        Err(error) if is_unique_violation(&error) => return Ok(Err(style)),
        Err(error) => return Err(error.into()),
    }
    Ok(Ok(style))
}

/// Whether there was one of this id; `None` where the name is taken by another.
pub(super) async fn update_style(
    db: &Db,
    viewer: &Viewer,
    style: &OwnStyle,
) -> Result<Option<bool>, ServerError> {
    let mut write = db.write().await?;
    let updated = sqlx::query(
        "update style set name = ?3, prompt = ?4, negative_prompt = ?5 where id = ?1 and user_id = ?2",
    )
    .bind(&style.id)
    .bind(viewer.id.0)
    .bind(&style.style.name)
    .bind(&style.style.prompt)
    .bind(&style.style.negative_prompt)
    .execute(&mut *write)
    .await;
    let updated = match updated {
        Err(error) if is_unique_violation(&error) => return Ok(None),
        updated => updated?.rows_affected(),
    };
    write.commit().await?;
    Ok(Some(updated == 1))
}

/// Whether there was one to delete.
pub(super) async fn delete_style(db: &Db, viewer: &Viewer, id: &str) -> Result<bool, ServerError> {
    let mut write = db.write().await?;
    let deleted = sqlx::query("delete from style where id = ?1 and user_id = ?2")
        .bind(id)
        .bind(viewer.id.0)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(deleted.rows_affected() == 1)
}

/// Keeps all of these, each in the place of one of its name: how many are new, how many were there.
pub(super) async fn put_styles(
    db: &Db,
    viewer: &Viewer,
    styles: &[Style],
) -> Result<(u32, u32), ServerError> {
    let before = count_styles(db, viewer).await?;
    let mut write = db.write().await?;
    for style in styles {
        sqlx::query(
            "insert into style (id, user_id, name, prompt, negative_prompt, created_at) values (?1, ?2, ?3, ?4, ?5, ?6) \
             on conflict (user_id, name) do update set \
                 name = excluded.name, prompt = excluded.prompt, negative_prompt = excluded.negative_prompt",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(viewer.id.0)
        .bind(&style.name)
        .bind(&style.prompt)
        .bind(&style.negative_prompt)
        .bind(now_ms())
        .execute(&mut *write)
        .await?;
    }
    write.commit().await?;
    let added = count_styles(db, viewer).await?.saturating_sub(before);
    let all = u32::try_from(styles.len()).unwrap_or(u32::MAX);
    Ok((added.min(all), all.saturating_sub(added)))
}

/// The viewer's latest prompts that hold all of these words in lower case, newest first, each once.
/// A job is looked at, not its image: what failed was written by the same person.
pub(super) async fn past_prompts(
    db: &Db,
    viewer: &Viewer,
    words: &[String],
) -> Result<Vec<PastPrompt>, ServerError> {
    let mut rows = sqlx::query(
        "select j.created_at, j.settings ->> '$.prompt' as prompt, \
                coalesce(j.settings ->> '$.negative_prompt', '') as negative_prompt, \
                coalesce(i.id, f.id) as image_id \
           from job j \
           left join image i on i.job_id = j.id and i.trashed_at is null \
           left join image f on f.id = j.from_image and f.trashed_at is null \
          where j.user_id = ?1 order by j.id desc limit ?2",
    )
    .bind(viewer.id.0)
    .bind(PAST_LOOKED)
    .fetch(db.read());
    let mut seen: HashSet<(String, String)> = HashSet::new();
    let mut found: Vec<PastPrompt> = Vec::new();
    while let Some(row) = rows.next().await {
        let row = row?;
        let prompt: Option<String> = row.try_get("prompt")?;
        let prompt = prompt.unwrap_or_default();
        let negative_prompt: String = row.try_get("negative_prompt")?;
        let lower = prompt.to_lowercase();
        if prompt.trim().is_empty() || !words.iter().all(|word| lower.contains(word)) {
            continue;
        }
        let image: Option<String> = row.try_get("image_id")?;
        let image = image.map(ImageId);
        if !seen.insert((prompt.clone(), negative_prompt.clone())) {
            // The latest use may have failed or have been thrown away: an earlier image will do.
            if let Some(image) = image
                && let Some(known) = found
                    .iter_mut()
                    .find(|past| past.prompt == prompt && past.negative_prompt == negative_prompt)
            {
                known.image.get_or_insert(image);
            }
            continue;
        }
        if found.len() == PAST_SHOWN {
            break;
        }
        found.push(PastPrompt {
            prompt,
            negative_prompt,
            image,
            at: row.try_get("created_at")?,
        });
    }
    Ok(found)
}
