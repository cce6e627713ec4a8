//! The options of `atelier user`. Passwords come from standard input, never from the command line.

use super::{DataDir, PublicUrl};
use atelier_app::account::Role;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Settings of `atelier user`.
#[derive(Args, Clone, Debug)]
pub struct UserArgs {
    /// Where everything is kept.
    #[command(flatten)]
    pub data_dir: DataDir,
    /// The address people type, for links [default: the path alone is printed].
    #[arg(long, env = "ATELIER_PUBLIC_URL", value_name = "URL", global = true)]
    pub public_url: Option<PublicUrl>,
    /// What to do.
    #[command(subcommand)]
    pub action: UserAction,
}

/// The actions of `atelier user`.
#[derive(Clone, Debug, Subcommand)]
pub enum UserAction {
    /// Make a user; the password is read from standard input.
    Add {
        /// The sign-in name.
        name: String,
        /// admin, member or viewer.
        #[arg(long, default_value = "member", value_parser = role)]
        role: Role,
    },
    /// Print a link by which somebody makes their own account.
    Invite {
        /// admin, member or viewer.
        #[arg(long, default_value = "member", value_parser = role)]
        role: Role,
        /// How many days the link is good.
        #[arg(long, default_value_t = 7, value_name = "N")]
        days: u32,
        /// How many people may come in by it.
        #[arg(long, default_value_t = 1, value_name = "N")]
        uses: u32,
        /// Whom it is for, for the list of invitations.
        #[arg(long, default_value = "", value_name = "TEXT")]
        note: String,
    },
    /// Give a user another role and end their sessions.
    Role {
        /// The sign-in name.
        name: String,
        /// admin, member or viewer.
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Set a user's password and end their sessions; the password is read from standard input.
    Password {
        /// The sign-in name.
        name: String,
    },
    /// Print a link by which a user chooses a new password; good for a day and once.
    Reset {
        /// The sign-in name.
        name: String,
    },
    /// Switch a user's second step of sign-in off.
    TwoStepOff {
        /// The sign-in name.
        name: String,
    },
    /// Remove a user; what becomes of their images must be said.
    #[command(group = clap::ArgGroup::new("leaving").required(true).multiple(false).args(["hand_over", "erase"]))]
    Delete {
        /// The sign-in name.
        name: String,
        /// First write everything of theirs into this zip file.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
        /// Give their images and collections to this user.
        #[arg(long, value_name = "USER")]
        hand_over: Option<String>,
        /// Delete everything of theirs.
        #[arg(long)]
        erase: bool,
    },
    /// Write everything of a user's into a zip file.
    Export {
        /// The sign-in name.
        name: String,
        /// The zip file; it must not exist.
        file: PathBuf,
    },
    /// Close a user's sign-in; their sessions end and their tokens are revoked.
    Disable {
        /// The sign-in name.
        name: String,
    },
    /// Open a user's sign-in again.
    Enable {
        /// The sign-in name.
        name: String,
    },
    /// List the users.
    List {
        /// Print them as one JSON array.
        #[arg(long)]
        json: bool,
    },
}

fn role(word: &str) -> Result<Role, String> {
    word.parse()
        .map_err(|()| "choose one of admin, member, viewer".to_owned())
}
