//! What people keep for the studio: presets, styles, the prompts they have used; and pictures of
//! what LoRAs do.

mod preview; // a LoRA's picture, made small
mod store; // rows
mod styles_file; // A1111's styles.csv

pub use preview::Preview;

use std::sync::Arc;

use async_trait::async_trait;
use atelier_app::account::{LOOKS_ONLY, Role, Viewer};
use atelier_app::backend::{Answer, Studio};
use atelier_app::error::AppError;
use atelier_app::studio::{
    ImportedStyles, LONGEST_SHELF_NAME, OwnPreset, OwnStyle, PastPrompt, Shelf, Style,
};

use crate::db::Db;
use crate::models::AddOns;

/// Most presets of one user.
const MOST_PRESETS: u32 = 500;
/// Most styles of one user.
const MOST_STYLES: u32 = 1000;
/// Longest text of a style, in characters: as long as a prompt may be.
const LONGEST_TEXT: usize = 10_000;
/// Lines of a file that are named when they are no styles.
const NAMED_SKIPPED: usize = 10;

/// Presets, styles, used prompts and LoRAs' pictures. Cheap to clone.
#[derive(Clone)]
pub struct StudioService {
    db: Db,
    add_ons: AddOns,
}

impl StudioService {
    /// Over a database and the LoRAs there are.
    pub fn new(db: Db, add_ons: AddOns) -> Arc<Self> {
        Arc::new(Self { db, add_ons })
    }

    /// The picture that lies beside a LoRA, small enough for a list.
    ///
    /// # Errors
    /// [`AppError::NotFound`] where there is no such LoRA, no picture beside it, or one that cannot
    /// be read.
    pub async fn lora_preview(&self, _viewer: &Viewer, name: &str) -> Answer<Preview> {
        preview::of_lora(&self.add_ons, name).await
    }
}

#[async_trait]
impl Studio for StudioService {
    async fn shelf(&self, viewer: &Viewer) -> Answer<Shelf> {
        Ok(Shelf {
            presets: store::presets(&self.db, viewer).await?,
            styles: store::styles(&self.db, viewer).await?,
        })
    }

    async fn save_preset(&self, viewer: &Viewer, preset: OwnPreset) -> Answer<OwnPreset> {
        may_keep(viewer)?;
        let name = name_of(&preset.name, "preset")?;
        let model = preset.settings.model.trim().to_owned();
        if model.is_empty() || model.chars().count() > 200 {
            return Err(AppError::invalid(
                "model",
                "Name the model that the preset is for.",
            ));
        }
        let mut settings = preset.settings.preset_part();
        if settings.values().iter().any(|value| value.len() > 4000) {
            return Err(AppError::invalid(
                "settings",
                "A setting has more than 4000 characters.",
            ));
        }
        // What could never be sent is not worth keeping.
        let mut trial = settings.clone();
        trial.prompt = "…".into();
        trial.parse()?;
        settings.model = model;
        let kept = OwnPreset {
            name,
            settings,
            ..preset
        };
        if kept.id.is_empty() {
            if store::count_presets(&self.db, viewer).await? >= MOST_PRESETS {
                return Err(full("presets", MOST_PRESETS));
            }
            return store::insert_preset(&self.db, viewer, kept)
                .await?
                .map_err(|preset| taken("preset", &preset.name));
        }
        match store::update_preset(&self.db, viewer, &kept).await? {
            Some(true) => Ok(kept),
            Some(false) => Err(AppError::NotFound),
            None => Err(taken("preset", &kept.name)),
        }
    }

    async fn delete_preset(&self, viewer: &Viewer, id: &str) -> Answer<()> {
        match store::delete_preset(&self.db, viewer, id).await? {
            true => Ok(()),
            false => Err(AppError::NotFound),
        }
    }

    async fn save_style(&self, viewer: &Viewer, style: OwnStyle) -> Answer<OwnStyle> {
        may_keep(viewer)?;
        let kept = OwnStyle {
            style: checked(style.style)?,
            id: style.id,
        };
        if kept.id.is_empty() {
            if store::count_styles(&self.db, viewer).await? >= MOST_STYLES {
                return Err(full("styles", MOST_STYLES));
            }
            return store::insert_style(&self.db, viewer, kept)
                .await?
                .map_err(|style| taken("style", &style.style.name));
        }
        match store::update_style(&self.db, viewer, &kept).await? {
            Some(true) => Ok(kept),
            Some(false) => Err(AppError::NotFound),
            None => Err(taken("style", &kept.style.name)),
        }
    }

    async fn delete_style(&self, viewer: &Viewer, id: &str) -> Answer<()> {
        match store::delete_style(&self.db, viewer, id).await? {
            true => Ok(()),
            false => Err(AppError::NotFound),
        }
    }

    async fn import_styles(&self, viewer: &Viewer, csv: &str) -> Answer<ImportedStyles> {
        may_keep(viewer)?;
        let read = styles_file::read(csv)
            .map_err(|why| AppError::invalid("styles", format!("This file {why}.")))?;
        let mut answer = ImportedStyles::default();
        let mut good: Vec<Style> = Vec::new();
        for (line, style) in read {
            match checked(style) {
                Ok(style) => {
                    // As A1111 has it: the last one of a name counts.
                    good.retain(|known| !known.name.eq_ignore_ascii_case(&style.name));
                    good.push(style);
                }
                Err(error) if answer.skipped.len() < NAMED_SKIPPED => {
                    answer.skipped.push(format!("Line {line}: {error}"));
                }
                Err(_) => {}
            }
        }
        let have = store::count_styles(&self.db, viewer).await?;
        if u64::from(have) + good.len() as u64 > u64::from(MOST_STYLES) {
            return Err(full("styles", MOST_STYLES));
        }
        (answer.added, answer.changed) = store::put_styles(&self.db, viewer, &good).await?;
        Ok(answer)
    }

    async fn past_prompts(&self, viewer: &Viewer, words: &str) -> Answer<Vec<PastPrompt>> {
        let words: Vec<String> = words
            .split_whitespace()
            .take(20)
            .map(str::to_lowercase)
            .collect();
        Ok(store::past_prompts(&self.db, viewer, &words).await?)
    }
}

fn may_keep(viewer: &Viewer) -> Result<(), AppError> {
    match viewer.role {
        Role::Viewer => Err(AppError::refused(LOOKS_ONLY)),
        _ => Ok(()),
    }
}

/// A name in one line, of a length that fits on a button.
fn name_of(name: &str, what: &str) -> Result<String, AppError> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        return Err(AppError::invalid(
            "name",
            format!("Give the {what} a name."),
        ));
    }
    if name.chars().count() > LONGEST_SHELF_NAME || name.chars().any(char::is_control) {
        return Err(AppError::invalid(
            "name",
            format!("The name of a {what} has at most {LONGEST_SHELF_NAME} characters."),
        ));
    }
    Ok(name)
}

fn checked(style: Style) -> Result<Style, AppError> {
    let name = name_of(&style.name, "style")?;
    let (prompt, negative_prompt) = (style.prompt.trim(), style.negative_prompt.trim());
    if prompt.is_empty() && negative_prompt.is_empty() {
        return Err(AppError::invalid(
            "prompt",
            format!("The style “{name}” says nothing. Write what it adds."),
        ));
    }
    for (field, text) in [("prompt", prompt), ("negative_prompt", negative_prompt)] {
        if text.chars().count() > LONGEST_TEXT {
            return Err(AppError::invalid(
                field,
                format!("The style “{name}” has more than {LONGEST_TEXT} characters."),
            ));
        }
    }
    Ok(Style {
        prompt: prompt.to_owned(),
        negative_prompt: negative_prompt.to_owned(),
        name,
    })
}

fn taken(what: &str, name: &str) -> AppError {
    AppError::invalid(
        "name",
        format!("You have a {what} called “{name}” already. Choose another name."),
    )
}

fn full(what: &str, most: u32) -> AppError {
    AppError::TooMany {
        message: format!(
            "You can keep {most} {what}. Delete some that you no longer need, then try again."
        ),
        retry_after_s: 3600,
    }
}
