//! People: who may come in and do what, and the record of what administrators did.

mod audit_page;
mod calls;
mod invitations;
mod leaving;
mod look_page;
mod people_page;
mod person_page;
mod users;

pub use audit_page::AuditLogPage;
pub use calls::*;
pub use look_page::LookAtImagesPage;
pub use people_page::{AdminNav, AdminsOnly, PeoplePage};
pub use person_page::PersonPage;

use super::UserRow;
use crate::account::{Role, UserId};
use crate::gallery::GalleryPage;
use serde::{Deserialize, Serialize};

/// Everything that the page about people shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeopleData {
    /// Everybody who was let in, by name.
    pub users: Vec<UserRow>,
    /// Who asked for an account and waits, longest first.
    pub waiting: Vec<SignUpRow>,
    /// Links that still let somebody in, newest first.
    pub invitations: Vec<InvitationRow>,
    /// Whether people may ask for an account.
    pub self_sign_up: bool,
    /// Whether administrators may look into others' images.
    pub looks: bool,
}

/// One user, for the page about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersonData {
    /// As listed.
    pub user: UserRow,
    /// Signed-in browsers.
    pub sessions: u32,
    /// Live API tokens.
    pub tokens: u32,
    /// Whether their sign-in takes a second step.
    pub two_step: bool,
    /// Whether administrators may look into others' images.
    pub looks: bool,
    /// Who could take their images over: every other user.
    pub others: Vec<(UserId, String)>,
}

/// "1 image", "7 images".
fn images_in_words(count: u64) -> String {
    match count {
        1 => "1 image".into(),
        count => format!("{count} images"),
    }
}

/// What becomes of the images of somebody who is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaving {
    /// They go.
    Erase,
    /// This user has them then.
    HandOver(UserId),
}

/// A look into another's images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookPage {
    /// Whose they are.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// The images.
    pub images: GalleryPage,
}

/// Somebody who asked for an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUpRow {
    /// Row id.
    pub id: UserId,
    /// The name they chose.
    pub name: String,
    /// Unix milliseconds.
    pub asked_at: i64,
}

/// A link that still lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationRow {
    /// Row id.
    pub id: i64,
    /// What whoever comes in may do.
    pub role: Role,
    /// Whom it is for; may be empty.
    pub note: String,
    /// Who made it; absent for the command line, and for those who left.
    pub made_by: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// How many came in by it.
    pub uses: u32,
    /// How many may.
    pub max_uses: u32,
}

/// A link to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInvitation {
    /// What whoever comes in may do.
    pub role: Role,
    /// How long it is good, in days.
    pub days: u32,
    /// How many may come in by it.
    pub uses: u32,
    /// Whom it is for; may be empty.
    pub note: String,
}

/// A link with a secret, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeLink {
    /// Path on this server.
    pub path: String,
    /// Unix milliseconds.
    pub expires_at: i64,
}

impl std::fmt::Debug for MadeLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MadeLink(…)")
    }
}

/// Which acts are wanted; empty texts want all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuditFilter {
    /// Whose acts.
    #[serde(default)]
    pub actor: String,
    /// An act, or its first word: `user` for `user.role` and the like.
    #[serde(default)]
    pub act: String,
    /// Words in the subject or the detail.
    #[serde(default)]
    pub text: String,
    /// Only rows older than this one.
    #[serde(default)]
    pub before: Option<i64>,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Row id; grows.
    pub id: i64,
    /// Unix milliseconds.
    pub at: i64,
    /// Who did it.
    pub actor: String,
    /// What, as a word: `user.role`, `invitation.make`, …
    pub act: String,
    /// To what or whom.
    pub subject: String,
    /// The rest, in words.
    pub detail: String,
}

/// A page of acts, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The acts.
    pub rows: Vec<AuditRow>,
    /// `before` of the next page, where there is one.
    pub next: Option<i64>,
    /// Everybody who ever did something.
    pub actors: Vec<String>,
}
