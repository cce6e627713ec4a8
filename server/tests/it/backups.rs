//! Backups: made under way, whole in themselves, and the same rows and files when put back; never over
//! a running server.

use super::personas::{Browser, TestApp, default_config};
use atelier_app::admin::BackupsReport;
use atelier_server::backup::{self, Progress};
use atelier_server::db::Db;
use atelier_server::startup::Application;
use axum::http::StatusCode;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn make_image(browser: &Browser, seed: u64) {
    let body = json!({ "prompt": "a red circle", "num_inference_steps": 1, "width": 64, "height": 64, "seed": seed });
    let answer = browser
        .post_json("/api/generate-image", body.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

async fn report(browser: &Browser) -> BackupsReport {
    let answer = browser.call("load_backups", &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Begins one and waits until it is there.
async fn back_up(browser: &Browser) -> BackupsReport {
    let before = report(browser).await.backups.len();
    assert_eq!(
        browser.call("begin_backup", &[]).await.status,
        StatusCode::OK
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = report(browser).await;
        if now.running.is_none() {
            assert_eq!(now.trouble, None);
            assert_eq!(now.backups.len(), before + 1);
            return now;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every row of every table but the audit log, in words.
async fn rows(db: &Db) -> BTreeMap<String, Vec<String>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'
         and name not like 'image_text%' and name <> 'audit' order by name",
    )
    .fetch_all(db.read())
    .await
    .unwrap();
    let mut all = BTreeMap::new();
    for table in tables {
        let columns: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select '\"' || name || '\"' from pragma_table_info('{table}')"
        )))
        .fetch_all(db.read())
        .await
        .unwrap();
        let line = columns
            .iter()
            .map(|column| format!("quote({column})"))
            .collect::<Vec<_>>()
            .join(" || ',' || ");
        let lines: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select {line} from \"{table}\" order by 1"
        )))
        .fetch_all(db.read())
        .await
        .unwrap();
        all.insert(table, lines);
    }
    all
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, at: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, all);
            } else if path.file_name().unwrap() != ".lock" {
                let name = path.strip_prefix(root).unwrap().to_owned();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(folder, folder, &mut all);
    all
}

fn atelier(words: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_atelier"))
        .args(words)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_is_what_was_there() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    let bob = app.member("bob").await.browser;
    make_image(admin, 1).await;
    make_image(&bob, 2).await;
    let png = files(&app.data_dir().join("img"))
        .into_values()
        .next()
        .unwrap();
    let upload = bob
        .send(
            bob.request(axum::http::Method::POST, "/api/uploads")
                .header("content-type", "image/png")
                .body(png.into())
                .unwrap(),
        )
        .await;
    assert_eq!(upload.status, StatusCode::CREATED, "{}", upload.text());
    // Something in the trash is still somebody's.
    let thrown = bob.get("/api/images").await.json()["images"][0]["id"].clone();
    let body = json!({ "ids": [thrown], "act": "trash" }).to_string();
    assert_eq!(
        bob.post_json("/api/images/act", body).await.status,
        StatusCode::OK
    );

    let told = back_up(admin).await;
    let backup = &told.backups[0];
    assert_eq!(backup.images, Some(2));
    assert!(!backup.by_itself && backup.bytes > 0);
    let before = rows(&app.services.db).await;
    let images = files(&app.data_dir().join("img"));
    let uploads = files(&app.data_dir().join("upload"));
    assert_eq!((images.len(), uploads.len()), (2, 1));
    let left: Vec<_> = files(&app.data_dir().join("backups")).into_keys().collect();
    assert_eq!(
        left,
        [PathBuf::from(&backup.name)],
        "nothing half-made lies about"
    );

    // Taken away through the browser, by administrators only, and written down.
    let path = format!("/api/admin/backups/{}", backup.name);
    let archive = admin.get(&path).await;
    assert_eq!(archive.status, StatusCode::OK);
    assert_eq!(archive.body.len() as u64, backup.bytes);
    assert_eq!(archive.header("content-type"), "application/x-tar");
    assert_eq!(app.acts().await[0].1, "backup.download");
    assert_eq!(bob.get(&path).await.status, StatusCode::FORBIDDEN);
    for name in ["..%2Fatelier.db", "atelier-1.tar", "..%2f..%2fx.tar"] {
        let answer = admin.get(&format!("/api/admin/backups/{name}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
    }

    // Put back into an empty folder.
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("taken.tar");
    fs::write(&file, &archive.body).unwrap();
    let home = kept.path().join("new");
    let (file, home) = (file.to_str().unwrap(), home.to_str().unwrap());
    let (done, said, complaint) = atelier(&["restore", file, "--data-dir", home]);
    assert!(done, "{complaint}");
    assert!(said.contains("2 images and 3 files"), "{said}");
    let db = Db::open(&Path::new(home).join("atelier.db")).await.unwrap();
    assert_eq!(rows(&db).await, before);
    db.close().await;
    assert_eq!(files(&Path::new(home).join("img")), images);
    assert_eq!(files(&Path::new(home).join("upload")), uploads);

    // A server starts on it, and bob finds his image in the trash, with its file.
    let again = Application::build(default_config(Path::new(home)))
        .await
        .unwrap();
    let router = again.router();
    let stranger = app.anonymous_at(router);
    assert_eq!(
        stranger
            .sign_in("bob", super::personas::PASSWORD)
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(stranger.get("/api/trash").await.json()["total"], 1);

    // While it runs nothing is put over it, not even when asked to replace.
    for words in [
        vec!["restore", file, "--data-dir", home],
        vec!["restore", file, "--data-dir", home, "--replace"],
    ] {
        let (done, _, complaint) = atelier(&words);
        assert!(!done && complaint.contains("stop it first"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1);
    }
    drop(stranger);
    again.services().shutdown.request();
    again.run_until_stopped().await.unwrap();
    // Stopped, it still is not overwritten unless that is said; then what was there is put aside.
    let (done, _, complaint) = atelier(&["restore", file, "--data-dir", home]);
    assert!(!done && complaint.contains("--replace"), "{complaint}");
    let (done, said, complaint) = atelier(&["restore", file, "--data-dir", home, "--replace"]);
    assert!(done, "{complaint}");
    assert!(said.contains("What was there is in"), "{said}");

    // Deleted, it is gone.
    let name = backup.name.as_str();
    assert_eq!(
        admin.call("delete_backup", &[("name", name)]).await.status,
        StatusCode::OK
    );
    assert_eq!(
        admin.call("delete_backup", &[("name", name)]).await.status,
        StatusCode::NOT_FOUND
    );
    assert!(report(admin).await.backups.is_empty());
    for function in ["begin_backup", "stop_backup", "load_backups"] {
        assert_eq!(bob.call(function, &[]).await.status, StatusCode::FORBIDDEN);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_makes_the_same_beside_a_running_server() {
    let app = TestApp::spawn().await;
    make_image(&app.admin().await.browser, 1).await;
    let data = app.data_dir().to_str().unwrap().to_owned();
    let (done, said, complaint) = atelier(&["backup", "--data-dir", &data]);
    assert!(done, "{complaint}");
    assert!(said.contains("1 images, 1 files"), "{said}");
    let listed = report(&app.admin().await.browser).await;
    assert_eq!(listed.backups.len(), 1, "it lies where the page looks");
    assert_eq!(app.acts().await[0].1, "backup.make");
    let out = app.data_dir().join("mine.tar");
    let out = out.to_str().unwrap();
    assert!(atelier(&["backup", "--data-dir", &data, "--out", out]).0);
    let (done, _, complaint) = atelier(&["backup", "--data-dir", &data, "--out", out]);
    assert!(
        !done && complaint.contains("is there already"),
        "{complaint}"
    );
    let piped = Command::new(env!("CARGO_BIN_EXE_atelier"))
        .args(["backup", "--data-dir", &data, "--out", "-"])
        .output()
        .unwrap();
    assert!(piped.status.success());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("piped.tar");
    fs::write(&file, piped.stdout).unwrap();
    let restored = backup::restore(&file, &home.path().join("new"), false)
        .await
        .unwrap();
    assert_eq!((restored.images, restored.files), (1, 1));
    let (done, _, complaint) = atelier(&["backup", "--data-dir", home.path().to_str().unwrap()]);
    assert!(
        !done && complaint.contains("there is no database"),
        "{complaint}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_amiss_is_said_and_what_was_deleted_meanwhile_is_left_out() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    for seed in 1..=3 {
        make_image(admin, seed).await;
    }
    let img = app.data_dir().join("img");
    let all: Vec<PathBuf> = files(&img).into_keys().collect();
    // One damaged, one lost.
    fs::write(img.join(&all[0]), b"not a picture").unwrap();
    fs::remove_file(img.join(&all[1])).unwrap();
    let target = app.data_dir().join("amiss.tar");
    let made = backup::make(
        &app.services.db,
        app.data_dir(),
        &target,
        &Arc::new(Progress::default()),
    )
    .await
    .unwrap();
    assert_eq!((made.damaged, made.missing, made.files), (1, 1, 2));
    assert_eq!(
        made.trouble().unwrap(),
        "A backup was made, but one file is missing on the disk and one file is damaged."
    );
    let home = tempfile::tempdir().unwrap();
    let restored = backup::restore(&target, home.path(), false).await.unwrap();
    assert_eq!((restored.damaged.len(), restored.missing.len()), (1, 1));

    // Cut short, or somebody else's: refused, and nothing is left in the folder.
    let whole = fs::read(&target).unwrap();
    let torn = app.data_dir().join("torn.tar");
    for bytes in [
        &whole[..whole.len() / 2],
        &whole[..700],
        b"hello".as_slice(),
        b"".as_slice(),
    ] {
        fs::write(&torn, bytes).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let error = backup::restore(&torn, empty.path(), false)
            .await
            .unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        let left: Vec<_> = files(empty.path()).into_keys().collect();
        assert_eq!(left, [PathBuf::from("serve.lock")], "{error}");
    }
    // One that is stopped leaves nothing either.
    let progress = Arc::new(Progress::default());
    progress.stop();
    let stopped = app.data_dir().join("stopped.tar");
    let error = backup::make(&app.services.db, app.data_dir(), &stopped, &progress).await;
    assert_eq!(error.unwrap_err().to_string(), "it was stopped");
    assert!(!stopped.exists());
    app.stop().await;
}
