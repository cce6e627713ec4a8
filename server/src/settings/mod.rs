//! Settings at run time: what administrators change while the server runs, kept in the database and
//! heeded at once. Boot time is in `config.rs`, and what its command line says goes before all of it.
//!
//! A few belong to other rooms, which read the same rows by themselves: sign-up (accounts), the
//! trash's days (gallery), the default model (models).

mod store; // SQL

use crate::accounts::session::USUAL_DAYS;
use crate::audit::{Actor, store as audit};
use crate::config::ServeConfig;
use crate::db::{Db, now_ms};
use crate::error::ServerError;
use crate::gallery::USUAL_TRASH_DAYS;
use crate::jobs::queue::Limits;
use atelier_app::admin::{SettingKind, SettingName, SettingRow};
use atelier_app::error::AppError;
use atelier_app::gallery::MAX_TRASH_DAYS;
use atelier_app::studio::MAX_IMAGES;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Jobs one user may have waiting, where nobody chose.
const PER_USER: u32 = 20;
/// Jobs that may wait in all, where nobody chose.
const IN_ALL: u32 = 1000;
/// The name of the house, where nobody chose.
const SITE_NAME: &str = "Atelier";
/// Longest name of the house: the bar of a phone has no more room.
const LONGEST_NAME: u32 = 32;
/// Backups that are kept of those made by themselves, where nobody chose.
const BACKUPS_KEPT: u32 = 7;
/// The longest between two backups that are made by themselves: four weeks.
const LONGEST_BETWEEN_H: u32 = 24 * 28;

/// The settings. Cheap to clone by its `Arc`.
pub struct RunTime {
    db: Db,
    config: Arc<ServeConfig>,
    /// What was chosen, as its row has it.
    chosen: RwLock<HashMap<SettingName, String>>,
}

/// What may be written, and what holds when nothing was.
fn rule(name: SettingName) -> (SettingKind, String) {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match name {
        SettingName::SiteName => (
            SettingKind::Text {
                longest: LONGEST_NAME,
            },
            SITE_NAME.into(),
        ),
        SettingName::SelfSignUp => (
            SettingKind::Choice(words(&["off", "approval"])),
            "off".into(),
        ),
        SettingName::LooksIntoImages => (
            SettingKind::Choice(words(&["forbidden", "allowed"])),
            "forbidden".into(),
        ),
        SettingName::SessionDays => number(1, 365, USUAL_DAYS),
        // The names there are, and the first of them, are the models' to say.
        SettingName::DefaultModel => (SettingKind::Choice(Vec::new()), String::new()),
        SettingName::MaxBatch => number(1, MAX_IMAGES, MAX_IMAGES),
        SettingName::QueueLimitPerUser => number(1, 10_000, PER_USER),
        SettingName::QueueLimit => number(1, 100_000, IN_ALL),
        SettingName::ResultCache => (SettingKind::Choice(words(&["on", "off"])), "on".into()),
        SettingName::TrashDays => number(1, MAX_TRASH_DAYS, USUAL_TRASH_DAYS),
        SettingName::BackupEveryHours => number(0, LONGEST_BETWEEN_H, 0),
        SettingName::BackupKeep => number(1, 100, BACKUPS_KEPT),
    }
}

fn number(least: u32, most: u32, usual: u32) -> (SettingKind, String) {
    (SettingKind::Number { least, most }, usual.to_string())
}

impl RunTime {
    /// Reads what was chosen.
    ///
    /// # Errors
    /// The database's.
    pub async fn open(db: Db, config: Arc<ServeConfig>) -> Result<Arc<Self>, ServerError> {
        let settings = Self {
            db,
            config,
            chosen: RwLock::default(),
        };
        settings.read_rows().await?;
        Ok(Arc::new(settings))
    }

    /// What was said at boot.
    pub fn config(&self) -> &Arc<ServeConfig> {
        &self.config
    }

    /// Reads the rows again, and answers when each was written.
    async fn read_rows(&self) -> Result<HashMap<SettingName, i64>, ServerError> {
        let mut chosen = HashMap::new();
        let mut changed = HashMap::new();
        for (word, value, at) in store::rows(&self.db).await? {
            // A row that an earlier or later version wrote and this one cannot use counts as none.
            let name = SettingName::ALL
                .into_iter()
                .find(|name| name.as_str() == word);
            let Some(name) = name.filter(|name| parse(*name, &value).is_ok()) else {
                continue;
            };
            chosen.insert(name, value);
            changed.insert(name, at);
        }
        *self.chosen.write().unwrap_or_else(PoisonError::into_inner) = chosen;
        Ok(changed)
    }

    /// What the command line fixes: (its value, the flag in words).
    fn fixed(&self, name: SettingName) -> Option<(String, String)> {
        let config = &self.config;
        let number = |flag: &str, value: Option<u32>| {
            value.map(|value| (value.to_string(), format!("{flag} {value}")))
        };
        match name {
            SettingName::QueueLimitPerUser => {
                number("--queue-limit-per-user", config.queue_limit_per_user)
            }
            SettingName::QueueLimit => number("--queue-limit", config.queue_limit),
            SettingName::ResultCache => config
                .no_result_cache
                .then(|| ("off".to_owned(), "--no-result-cache".to_owned())),
            SettingName::DefaultModel => config
                .default_model
                .clone()
                .map(|model| (model.clone(), format!("--default-model {model}"))),
            _ => None,
        }
    }

    /// What holds now.
    fn value(&self, name: SettingName) -> String {
        if let Some((value, _)) = self.fixed(name) {
            return value;
        }
        let chosen = self.chosen.read().unwrap_or_else(PoisonError::into_inner);
        chosen.get(&name).cloned().unwrap_or_else(|| rule(name).1)
    }

    fn number(&self, name: SettingName) -> u32 {
        // Rows were checked when they were read, flags by the command line's parser.
        self.value(name).parse().unwrap_or_default()
    }

    /// What the bar on every page says.
    pub fn site_name(&self) -> String {
        self.value(SettingName::SiteName)
    }

    /// How many jobs may wait.
    pub fn limits(&self) -> Limits {
        Limits {
            per_user: self.number(SettingName::QueueLimitPerUser),
            total: self.number(SettingName::QueueLimit),
        }
    }

    /// Most images of one request.
    pub fn max_batch(&self) -> u32 {
        self.number(SettingName::MaxBatch).clamp(1, MAX_IMAGES)
    }

    /// Whether an earlier image of the same recipe is an answer.
    pub fn result_cache(&self) -> bool {
        self.value(SettingName::ResultCache) == "on"
    }

    /// Hours between backups that are made by themselves, where they are.
    pub fn backup_every_hours(&self) -> Option<u32> {
        Some(self.number(SettingName::BackupEveryHours)).filter(|hours| *hours > 0)
    }

    /// How many backups that were made by themselves are kept.
    pub fn backups_kept(&self) -> u32 {
        self.number(SettingName::BackupKeep).max(1)
    }

    /// All of them, for the page; those of other rooms as their rows have them.
    ///
    /// # Errors
    /// The database's.
    pub async fn rows(&self) -> Result<Vec<SettingRow>, ServerError> {
        let changed = self.read_rows().await?;
        Ok(SettingName::ALL
            .into_iter()
            .map(|name| {
                let (kind, default) = rule(name);
                SettingRow {
                    name,
                    value: self.value(name),
                    default,
                    kind,
                    changed_at: changed.get(&name).copied(),
                    fixed_by: self.fixed(name).map(|(_, flag)| flag),
                }
            })
            .collect())
    }

    /// Sets one, or sets it back to what holds when nobody chose. What changes nothing is no act.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on the setting's name, where the value cannot be used or the command
    /// line goes before it.
    pub async fn change(
        &self,
        actor: &Actor,
        name: SettingName,
        value: Option<&str>,
    ) -> Result<(), ServerError> {
        if let Some((_, flag)) = self.fixed(name) {
            let words =
                format!("The server was started with {flag}, which goes before this choice.");
            return Err(AppError::invalid(name.as_str(), words).into());
        }
        let value = value.map(|value| parse(name, value)).transpose()?;
        let now = now_ms();
        let mut write = self.db.write().await?;
        let before = store::value(&mut write, name.as_str()).await?;
        if before == value {
            return Ok(());
        }
        store::set(&mut write, name.as_str(), value.as_deref(), now).await?;
        let told = |value: &Option<String>| value.clone().unwrap_or_else(|| rule(name).1);
        let detail = match &value {
            Some(value) => format!("{} → {value}", told(&before)),
            None => format!("{} → {}, set back", told(&before), told(&None)),
        };
        audit::insert(
            &mut write,
            actor,
            "setting.change",
            name.as_str(),
            &detail,
            now,
        )
        .await?;
        write.commit().await?;
        let mut chosen = self.chosen.write().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) => chosen.insert(name, value),
            None => chosen.remove(&name),
        };
        Ok(())
    }
}

/// A value as its row has it, or what is wrong with it.
fn parse(name: SettingName, text: &str) -> Result<String, AppError> {
    let text = text.trim();
    let wrong = |words: String| AppError::invalid(name.as_str(), words);
    match rule(name).0 {
        SettingKind::Number { least, most } => {
            let number = text.parse::<u32>().ok();
            let number = number.filter(|number| (least..=most).contains(number));
            let number =
                number.ok_or_else(|| wrong(format!("Give a whole number, {least} to {most}.")))?;
            Ok(number.to_string())
        }
        SettingKind::Text { longest } => {
            let count = text.chars().count();
            if count == 0 || count > longest as usize || text.chars().any(char::is_control) {
                return Err(wrong(format!(
                    "Give 1 to {longest} characters, on one line."
                )));
            }
            Ok(text.to_owned())
        }
        SettingKind::Choice(words) if words.is_empty() => Ok(text.to_owned()),
        SettingKind::Choice(words) => {
            if words.iter().any(|word| word == text) {
                return Ok(text.to_owned());
            }
            Err(wrong(format!("Choose one of: {}.", words.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_once_and_strictly() {
        let read = |name, text| parse(name, text).ok();
        assert_eq!(read(SettingName::MaxBatch, " 08 ").as_deref(), Some("8"));
        for text in ["", "0", "17", "-1", "4.0", "many"] {
            assert_eq!(read(SettingName::MaxBatch, text), None, "{text:?}");
        }
        assert_eq!(
            read(SettingName::SiteName, " Our house ").as_deref(),
            Some("Our house")
        );
        let long = "x".repeat(33);
        for text in ["", "  ", "a\nb", &long] {
            assert_eq!(read(SettingName::SiteName, text), None, "{text:?}");
        }
        assert_eq!(
            read(SettingName::ResultCache, "off").as_deref(),
            Some("off")
        );
        assert_eq!(read(SettingName::ResultCache, "false"), None);
    }

    #[test]
    fn every_default_is_a_value_that_may_be_written() {
        for name in SettingName::ALL {
            let (_, default) = rule(name);
            assert_eq!(parse(name, &default).ok(), Some(default), "{name:?}");
        }
    }
}
