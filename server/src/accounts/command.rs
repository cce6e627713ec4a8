//! `atelier user`: managing users of a data folder from the command line, for whoever may read it.
//! It works while the server runs: both go through the same database.

use super::AccountService;
use crate::config::{UserAction, UserArgs, make_folder};
use crate::db::Db;
use crate::error::ServerError;
use atelier_app::account::Credentials;
use std::io::{BufRead, IsTerminal};

/// Runs one action of `atelier user`.
///
/// # Errors
/// One line for whoever typed it.
pub async fn run(args: UserArgs) -> Result<(), String> {
    if !matches!(args.action, UserAction::Add { .. }) && !args.data_dir.database().exists() {
        return Err(format!(
            "there is no database in {}; name its folder with --data-dir",
            args.data_dir.path.display()
        ));
    }
    make_folder(&args.data_dir.path).map_err(|error| error.to_string())?;
    let db = Db::open(&args.data_dir.database())
        .await
        .map_err(|error| error.to_string())?;
    let done = act(&db, args.action).await;
    db.close().await;
    done
}

async fn act(db: &Db, action: UserAction) -> Result<(), String> {
    let accounts = AccountService::for_command_line(db.clone())
        .await
        .map_err(words)?;
    match action {
        UserAction::Add { name, role } => {
            let password = read_password()?;
            let user = accounts
                .add_user(Credentials { name, password }, role)
                .await
                .map_err(words)?;
            println!("{} is now a user ({}).", user.name, role.as_str());
        }
        UserAction::Password { name } => {
            let password = read_password()?;
            accounts
                .reset_password(&name, &password)
                .await
                .map_err(words)?;
            println!("The password of {name} is set; their sessions have ended.");
        }
        UserAction::List => {
            for user in accounts.users().await.map_err(words)? {
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
