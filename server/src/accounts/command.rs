//! `atelier user`: managing users of a data folder from the command line, for whoever may read it.
//! It works while the server runs: both go through the same database.

use super::AccountService;
use super::departure::Departures;
use crate::audit::{Actor, Audit};
use crate::config::{PublicUrl, UserAction, UserArgs, make_folder};
use crate::db::Db;
use crate::error::ServerError;
use atelier_app::account::{Credentials, UserId};
use atelier_app::admin::{Leaving, NewInvitation};
use std::io::{BufRead, IsTerminal};
use std::path::Path;

/// Runs one action of `atelier user`.
///
/// # Errors
/// One line for whoever typed it.
pub async fn run(args: UserArgs) -> Result<(), String> {
    let may_be_first = matches!(
        args.action,
        UserAction::Add { .. } | UserAction::Invite { .. }
    );
    if !may_be_first && !args.data_dir.database().exists() {
        return Err(format!(
            "there is no database in {}; name its folder with --data-dir",
            args.data_dir.path.display()
        ));
    }
    make_folder(&args.data_dir.path).map_err(|error| error.to_string())?;
    let db = Db::open(&args.data_dir.database())
        .await
        .map_err(|error| error.to_string())?;
    let done = act(
        &db,
        &args.data_dir.path,
        args.public_url.as_ref(),
        args.action,
    )
    .await;
    db.close().await;
    done
}

async fn act(
    db: &Db,
    data_dir: &Path,
    public_url: Option<&PublicUrl>,
    action: UserAction,
) -> Result<(), String> {
    let accounts = AccountService::for_command_line(db.clone())
        .await
        .map_err(words)?;
    let actor = Actor::command_line();
    match action {
        UserAction::Add { name, role } => {
            let password = read_password()?;
            let user = accounts
                .add_user(&actor, Credentials { name, password }, role)
                .await
                .map_err(words)?;
            println!("{} is now a user ({}).", user.name, role.as_str());
        }
        UserAction::Invite {
            role,
            days,
            uses,
            note,
        } => {
            let new = NewInvitation {
                role,
                days,
                uses,
                note,
            };
            let link = accounts.invite(&actor, new).await.map_err(words)?;
            println!("{}", whole(public_url, &link.path));
        }
        UserAction::Role { name, role } => {
            let id = accounts.id_of(&name).await.map_err(words)?;
            accounts.set_role(&actor, id, role).await.map_err(words)?;
            println!("{name} is now {}.", role.as_str());
        }
        UserAction::Password { name } => {
            let password = read_password()?;
            accounts
                .reset_password(&actor, &name, &password)
                .await
                .map_err(words)?;
            println!("The password of {name} is set; their sessions have ended.");
        }
        UserAction::Reset { name } => {
            let id = accounts.id_of(&name).await.map_err(words)?;
            let link = accounts.make_reset_link(&actor, id).await.map_err(words)?;
            println!("{}", whole(public_url, &link.path));
        }
        UserAction::TwoStepOff { name } => {
            let id = accounts.id_of(&name).await.map_err(words)?;
            accounts
                .end_two_step_of(&actor, id, &name)
                .await
                .map_err(words)?;
            println!("{name} signs in with the password alone now.");
        }
        UserAction::Delete {
            name,
            export,
            hand_over,
            erase: _,
        } => {
            let id = accounts.id_of(&name).await.map_err(words)?;
            let leaving = match &hand_over {
                Some(heir) => Leaving::HandOver(accounts.id_of(heir).await.map_err(words)?),
                None => Leaving::Erase,
            };
            let departures = Departures::open(db.clone(), data_dir).map_err(words)?;
            if let Some(file) = export {
                export_to(db, &departures, &actor, (id, &name), &file).await?;
            }
            let young = departures
                .remove(&accounts, &actor, id, leaving)
                .await
                .map_err(words)?;
            match hand_over {
                Some(heir) => println!("{name} is removed; their images are {heir}'s now."),
                None => println!("{name} is removed, and everything of theirs."),
            }
            // At most a minute, for files that were stored a moment ago.
            departures.remove_late(young).await;
        }
        UserAction::Export { name, file } => {
            let id = accounts.id_of(&name).await.map_err(words)?;
            let departures = Departures::open(db.clone(), data_dir).map_err(words)?;
            export_to(db, &departures, &actor, (id, &name), &file).await?;
        }
        UserAction::Disable { name } => {
            let id = accounts.id_of(&name).await.map_err(words)?;
            accounts
                .set_disabled(&actor, id, true)
                .await
                .map_err(words)?;
            println!("{name} cannot sign in any more.");
        }
        UserAction::Enable { name } => {
            let id = accounts.id_of(&name).await.map_err(words)?;
            accounts
                .set_disabled(&actor, id, false)
                .await
                .map_err(words)?;
            println!("{name} can sign in again.");
        }
        UserAction::List { json } => {
            let users = accounts.users().await.map_err(words)?;
            if json {
                let text = serde_json::to_string(&users).map_err(|error| error.to_string())?;
                println!("{text}");
                return Ok(());
            }
            for user in users {
                let state = if user.disabled { "  closed" } else { "" };
                println!(
                    "{:<8} {:>6} images  {}{state}",
                    user.role.as_str(),
                    user.images,
                    user.name
                );
            }
        }
    }
    Ok(())
}

/// Writes everything of a user's into a file that does not exist yet, which is a look into their images.
async fn export_to(
    db: &Db,
    departures: &Departures,
    actor: &Actor,
    (id, name): (UserId, &str),
    path: &Path,
) -> Result<(), String> {
    Audit::new(db.clone())
        .note_as(actor, "image.look", name, "everything, as a zip")
        .await
        .map_err(words)?;
    let count = departures.write_zip(id, path).await.map_err(words)?;
    println!(
        "{count} files and a list of them are in {}.",
        path.display()
    );
    Ok(())
}

/// A link as people open it, where the server's address is known; else its path.
fn whole(public_url: Option<&PublicUrl>, path: &str) -> String {
    format!("{}{path}", public_url.map_or("", PublicUrl::origin))
}

/// A password from standard input: its first line, or at a terminal what is typed unseen.
fn read_password() -> Result<String, String> {
    if std::io::stdin().is_terminal() {
        let password =
            rpassword::prompt_password("Password: ").map_err(|error| error.to_string())?;
        let again = rpassword::prompt_password("Once more: ").map_err(|error| error.to_string())?;
        return if password == again {
            Ok(password)
        } else {
            Err("the two passwords differ; nothing was changed".into())
        };
    }
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| format!("cannot read the password from standard input: {error}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// At the command line there is no log to look a reference up in: the cause itself is the answer.
fn words(error: ServerError) -> String {
    error.to_string()
}
