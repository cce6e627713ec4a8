//! What administrators did, and every look of theirs into what belongs to others. Append-only: the
//! table refuses changes.

pub mod store; // SQL

use crate::db::{Db, now_ms};
use crate::error::ServerError;
use atelier_app::account::{UserId, Viewer};
use atelier_app::admin::{AuditFilter, AuditPage};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;

/// Rows of one page.
pub const PAGE: u32 = 50;
/// Longest filter text.
const LONGEST_FILTER: usize = 100;

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Their row, absent for the command line.
    pub id: Option<UserId>,
    /// Their name.
    pub name: String,
}

impl Actor {
    /// Whoever can write to the data folder.
    pub fn command_line() -> Self {
        Self {
            id: None,
            name: "command line".into(),
        }
    }
}

impl From<&Viewer> for Actor {
    fn from(viewer: &Viewer) -> Self {
        Self {
            id: Some(viewer.id),
            name: viewer.name.clone(),
        }
    }
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    db: Db,
}

impl Audit {
    /// The log of this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Writes an act down: `act` is a word such as `model.fetch`, `subject` a name, `detail` the rest
    /// in words. Acts on the database's own rows are written in their transaction instead
    /// ([`store::insert`]).
    ///
    /// # Errors
    /// The database's.
    pub async fn note(
        &self,
        viewer: &Viewer,
        act: &'static str,
        subject: &str,
        detail: &str,
    ) -> Result<(), ServerError> {
        self.note_as(&viewer.into(), act, subject, detail).await
    }

    /// As [`Audit::note`], for whoever is no viewer.
    ///
    /// # Errors
    /// The database's.
    pub async fn note_as(
        &self,
        actor: &Actor,
        act: &'static str,
        subject: &str,
        detail: &str,
    ) -> Result<(), ServerError> {
        let mut write = self.db.write().await?;
        store::insert(&mut write, actor, act, subject, detail, now_ms()).await?;
        write.commit().await?;
        Ok(())
    }

    /// Whether this administrator looked into this user's images in the last five minutes.
    ///
    /// # Errors
    /// The database's.
    pub async fn looked_lately(&self, viewer: &Viewer, owner: &str) -> Result<bool, ServerError> {
        const LATELY_MS: i64 = 5 * 60 * 1000;
        let since = now_ms() - LATELY_MS;
        Ok(store::has_since(&self.db, viewer.id, "image.look", owner, since).await?)
    }

    /// One page, newest first.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on a filter that is none; the database's.
    pub async fn page(&self, filter: &AuditFilter, limit: u32) -> Answer<AuditPage> {
        check(filter)?;
        let mut rows = store::page(&self.db, filter, limit + 1)
            .await
            .map_err(ServerError::from)?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok(AuditPage {
            next: rows.last().filter(|_| more).map(|row| row.id),
            actors: store::actors(&self.db).await.map_err(ServerError::from)?,
            rows,
        })
    }
}

fn check(filter: &AuditFilter) -> Result<(), AppError> {
    for (field, text) in [
        ("actor", &filter.actor),
        ("act", &filter.act),
        ("text", &filter.text),
    ] {
        if text.chars().count() > LONGEST_FILTER {
            return Err(AppError::invalid(
                field,
                format!("Use at most {LONGEST_FILTER} characters."),
            ));
        }
    }
    Ok(())
}

/// A page's rows as CSV (RFC 4180), with a header line. Cells that a spreadsheet would run as a
/// formula are defused with an apostrophe.
pub fn csv(page: &AuditPage) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let mut out = String::new();
    for row in &page.rows {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(row.at) * 1_000_000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_default();
        let cells = [
            &row.id.to_string(),
            &at,
            &row.actor,
            &row.act,
            &row.subject,
            &row.detail,
        ];
        let line: Vec<String> = cells.iter().map(|cell| csv_cell(cell)).collect();
        out.push_str(&line.join(","));
        out.push_str("\r\n");
    }
    out
}

/// The header line of [`csv`].
pub const CSV_HEAD: &str = "id,at,actor,act,subject,detail\r\n";

fn csv_cell(text: &str) -> String {
    let risky = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if risky {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::csv_cell;

    #[test]
    fn cells_stay_cells() {
        assert_eq!(csv_cell("plain"), "plain");
        assert_eq!(csv_cell("a,b \"c\"\nd"), "\"a,b \"\"c\"\"\nd\"");
        assert_eq!(csv_cell("=1+1"), "'=1+1");
        assert_eq!(csv_cell("@x,y"), "\"'@x,y\"");
    }
}
