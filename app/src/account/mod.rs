//! Who asks: wire types and server functions for accounts, sessions and API tokens.

mod account_page;
mod calls;
mod code_page;
mod join_page;
mod outside;
mod quota;
mod quota_parts;
mod reset_page;
mod sign_in_page;
mod tokens;
mod two_step;

pub use account_page::AccountPage;
pub use calls::*;
pub use code_page::CodePage;
pub use join_page::{JoinPage, SignUpPage};
pub use outside::outside_words;
pub use quota::*;
pub use quota_parts::{QuotaBars, QuotaLine};
pub use reset_page::ResetPage;
pub use sign_in_page::{SetupPage, SignInPage};

use serde::{Deserialize, Serialize};

/// A user's row id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, the admin page included.
    Admin,
    /// Generate images and keep them.
    Member,
    /// Look at own and shared images; generate nothing.
    Viewer,
}

/// What a viewer is told who asks for an image.
pub const LOOKS_ONLY: &str = "Your role is viewer: you can look at your images and at those shared with you, but not make new ones. An administrator of this server can make you a member.";

impl Role {
    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "admin" => Ok(Self::Admin),
            "member" => Ok(Self::Member),
            "viewer" => Ok(Self::Viewer),
            _ => Err(()),
        }
    }
}

/// Who asks. Every method on a user's data takes one first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// The user's id.
    pub id: UserId,
    /// The sign-in name.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

impl Viewer {
    /// Whether the admin page is open to them.
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }
}

/// What an invitation offers to whoever holds its link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationOffer {
    /// What the new user may do.
    pub role: Role,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// Who made the link; absent when it came from the command line, or they have left.
    pub made_by: Option<String>,
}

/// A name and a password, as typed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The sign-in name; letter case does not matter.
    pub name: String,
    /// The password in clear; never logged, never stored.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// One signed-in browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// An id that can be shown (not the secret).
    pub id: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds, at most five minutes stale.
    pub last_seen_at: i64,
    /// The browser's `User-Agent`, shortened.
    pub user_agent: String,
    /// The address it signed in from.
    pub address: String,
    /// Whether this is the session that asks.
    pub current: bool,
}

/// What an API token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Asking for images, sending images to start from, looking after jobs.
    Generate,
    /// Looking at the gallery.
    Read,
    /// Changing the gallery: deleting, sorting.
    Manage,
    /// What the owner may as an administrator; never without being chosen.
    Admin,
}

impl Scope {
    /// What a token opens whose maker chose nothing.
    pub const USUAL: [Self; 3] = [Self::Generate, Self::Read, Self::Manage];

    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Read => "read",
            Self::Manage => "manage",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Generate, Self::Read, Self::Manage, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or(())
    }
}

/// The provider that people may sign in through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideState {
    /// What people call it; absent where there is none.
    pub name: Option<String>,
    /// How many accounts there the viewer is known by.
    pub links: u32,
}

/// Whether a user's second step of sign-in is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwoStepState {
    /// Unix milliseconds; off when absent.
    pub on_since: Option<i64>,
    /// Recovery codes that were not used yet.
    pub recovery_codes_left: u32,
}

/// A secret for an authenticator app, to be confirmed with a first code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwoStepSetup {
    /// In base32.
    pub secret: String,
    /// `otpauth://totp/…`
    pub uri: String,
    /// The same as a QR code.
    pub picture: QrPicture,
}

impl std::fmt::Debug for TwoStepSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TwoStepSetup(…)")
    }
}

/// A QR code as one SVG path of unit squares.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QrPicture {
    /// Width and height, quiet zone included.
    pub size: u32,
    /// The `d` of the path.
    pub path: String,
}

/// An API token as listed: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    /// Row id.
    pub id: i64,
    /// The name its owner gave it.
    pub name: String,
    /// What it opens.
    pub scopes: Vec<Scope>,
    /// The secret's first characters, to tell tokens apart.
    pub prefix: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds; never when absent.
    pub expires_at: Option<i64>,
    /// Unix milliseconds; not used yet when absent.
    pub last_used_at: Option<i64>,
}

/// A freshly made token: the only time its secret is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// What the list will show.
    pub summary: TokenSummary,
    /// The secret, `atl_…`.
    pub secret: String,
}

/// Everything the account page shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountData {
    /// The viewer's signed-in browsers, newest first.
    pub sessions: Vec<SessionSummary>,
    /// The viewer's API tokens, newest first.
    pub tokens: Vec<TokenSummary>,
    /// The second step of sign-in.
    pub two_step: TwoStepState,
    /// The provider that one may sign in through.
    pub outside: OutsideState,
}
