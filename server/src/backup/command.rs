//! `atelier backup` and `atelier restore`, for whoever may read and write the data folder. A backup can
//! be made while the server runs; restoring needs it stopped.

use super::{Progress, folder_of, make, name_now, restore};
use crate::audit::{Actor, Audit};
use crate::config::{BackupArgs, RestoreArgs};
use crate::db::Db;
use std::path::Path;
use std::sync::Arc;

/// Runs `atelier backup`.
///
/// # Errors
/// One line for whoever typed it.
pub async fn run_backup(args: BackupArgs) -> Result<(), String> {
    let data_dir = &args.data_dir.path;
    let database = args.data_dir.database();
    if !database.exists() {
        return Err(format!(
            "there is no database in {}; name its folder with --data-dir",
            data_dir.display()
        ));
    }
    let target = args
        .out
        .unwrap_or_else(|| folder_of(data_dir).join(name_now(false)));
    let to_stdout = target == Path::new("-");
    if !to_stdout && target.exists() {
        return Err(format!(
            "{} is there already; name another file",
            target.display()
        ));
    }
    let db = Db::open(&database)
        .await
        .map_err(|error| error.to_string())?;
    let made = make(&db, data_dir, &target, &Arc::new(Progress::default())).await;
    let noted = match &made {
        Ok(made) => {
            let name = target.file_name().unwrap_or(target.as_os_str());
            let detail = format!("{} images, {} bytes", made.images, made.bytes);
            Audit::new(db.clone())
                .note_as(
                    &Actor::command_line(),
                    "backup.make",
                    &name.to_string_lossy(),
                    &detail,
                )
                .await
        }
        Err(_) => Ok(()),
    };
    db.close().await;
    let made = made.map_err(|error| format!("no backup was made: {error}"))?;
    noted.map_err(|error| error.to_string())?;
    if let Some(trouble) = made.trouble() {
        eprintln!("warning: {trouble}");
    }
    if !to_stdout {
        println!(
            "{}: {} images, {} files, {} bytes",
            target.display(),
            made.images,
            made.files,
            made.bytes
        );
    }
    Ok(())
}

/// Runs `atelier restore`.
///
/// # Errors
/// One line for whoever typed it.
pub async fn run_restore(args: RestoreArgs) -> Result<(), String> {
    let data_dir = &args.data_dir.path;
    let restored = restore(&args.file, data_dir, args.replace)
        .await
        .map_err(|error| error.to_string())?;
    let db = Db::open(&args.data_dir.database())
        .await
        .map_err(|error| error.to_string())?;
    let name = args.file.file_name().unwrap_or(args.file.as_os_str());
    let detail = format!("{} images", restored.images);
    let noted = Audit::new(db.clone())
        .note_as(
            &Actor::command_line(),
            "backup.restore",
            &name.to_string_lossy(),
            &detail,
        )
        .await;
    db.close().await;
    noted.map_err(|error| error.to_string())?;
    for (files, words) in [
        (&restored.damaged, "is damaged in the backup"),
        (&restored.missing, "is missing in the backup"),
    ] {
        for file in files {
            eprintln!("warning: {file} {words}");
        }
    }
    if let Some(aside) = restored.put_aside {
        println!("What was there is in {} now.", aside.display());
    }
    println!(
        "{} images and {} files are in {} now; start the server there.",
        restored.images,
        restored.files,
        data_dir.display()
    );
    Ok(())
}
