//! When somebody leaves: export, hand over, erase. And looks into others' images.

use crate::personas::{Persona, TestApp};
use atelier_app::account::Role;
use atelier_app::backend::Jobs as _;
use atelier_app::studio::GenerationRequest;
use axum::http::StatusCode;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Two images of a person, one of them kept in every way that there is, the other in the trash; and an
/// upload.
async fn two_images(app: &TestApp, person: &Persona) -> Vec<String> {
    let mut images = Vec::new();
    for seed in [1, 2] {
        let request = GenerationRequest {
            prompt: format!("a red circle number {seed} of {}", person.viewer.name),
            num_inference_steps: Some(2),
            seed: Some(seed),
            ..GenerationRequest::default()
        };
        let job = app
            .services
            .jobs
            .submit(&person.viewer, request)
            .await
            .unwrap();
        images.push(
            app.finished(&person.viewer, &job.id)
                .await
                .image_id
                .expect("an image"),
        );
    }
    // One has marks, lies in a collection that the team sees, and is shown to anybody by a link.
    let act = async |body: serde_json::Value| {
        let answer = person
            .browser
            .post_json("/api/images/act", body.to_string())
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    };
    let first = &images[0];
    let collection = json!({ "name": "Circles", "shared": true });
    let made = person
        .browser
        .post_json("/api/collections", collection.to_string())
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let collection = made.json()["id"].clone();
    act(json!({ "ids": [first], "act": { "favourite": true } })).await;
    act(json!({ "ids": [first], "act": { "rate": 4 } })).await;
    act(json!({ "ids": [first], "act": { "collect": collection } })).await;
    let link = person
        .browser
        .post_json(
            &format!("/api/images/{first}/shares"),
            json!({ "days": 7 }).to_string(),
        )
        .await;
    assert_eq!(link.status, StatusCode::CREATED, "{}", link.text());
    // The other one lies in the trash.
    act(json!({ "ids": [images[1]], "act": "trash" })).await;
    let upload = person
        .browser
        .send(
            person
                .browser
                .request(axum::http::Method::POST, "/api/uploads")
                .header("content-type", "image/png")
                .body(app.file_of(&images[0]).await.into())
                .unwrap(),
        )
        .await;
    assert_eq!(upload.status, StatusCode::CREATED, "{}", upload.text());
    images
}

impl TestApp {
    async fn file_of(&self, image: &str) -> Vec<u8> {
        let hash: String = sqlx::query_scalar("select sha256 from image where id = ?")
            .bind(image)
            .fetch_one(self.services.db.read())
            .await
            .unwrap();
        self.services
            .gallery
            .files()
            .get(&hash.parse().unwrap())
            .unwrap()
    }

    async fn rows(&self, sql: String) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql);
        sqlx::query_scalar(sql)
            .fetch_one(self.services.db.read())
            .await
            .unwrap()
    }

    /// Files under a folder of the data folder, without locks.
    fn files_in(&self, folder: &str) -> BTreeSet<String> {
        fn walk(path: &std::path::Path, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(path).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.insert(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.data_dir().join(folder), &mut found);
        found.retain(|name| !name.starts_with('.'));
        found
    }
}

impl TestApp {
    /// As if everything in the folders had been stored an hour ago: what was stored a moment ago is left
    /// alone for a minute.
    fn age_files(&self) {
        fn walk(path: &std::path::Path) {
            for entry in std::fs::read_dir(path).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path);
                } else {
                    let file = std::fs::File::options().write(true).open(&path).unwrap();
                    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
                    file.set_modified(past).unwrap();
                }
            }
        }
        for folder in ["img", "upload"] {
            walk(&self.data_dir().join(folder));
        }
    }
}

/// Every table that says whose a row is, and by which column; a new one is found by itself.
async fn tables_of_users(app: &TestApp) -> Vec<(String, String, String)> {
    sqlx::query_as(
        "select m.name, f.\"from\", f.on_delete from sqlite_master m, pragma_foreign_key_list(m.name) f
         where m.type = 'table' and f.\"table\" = 'user' order by 1",
    )
    .fetch_all(app.services.db.read())
    .await
    .unwrap()
}

/// How many rows each table has, but for those that only grow and belong to nobody.
async fn counted(app: &TestApp) -> BTreeMap<String, i64> {
    const OF_NOBODY: [&str; 6] = [
        "audit",
        "device_event",
        "look",
        "speed",
        "usage_left",
        "user_number",
    ];
    let names: Vec<String> = sqlx::query_scalar(
        "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'
            and name not like '!_sqlx%' escape '!' and name not like 'image!_text!_%' escape '!'",
    )
    .fetch_all(app.services.db.read())
    .await
    .unwrap();
    let mut counts = BTreeMap::new();
    for name in names {
        if !OF_NOBODY.contains(&name.as_str()) {
            let count = app.rows(format!("select count(*) from {name}")).await;
            counts.insert(name, count);
        }
    }
    assert!(counts.len() >= 15, "{counts:?}");
    counts
}

async fn assert_nothing_is_left(app: &TestApp, id: i64) {
    let tables = tables_of_users(app).await;
    assert!(tables.len() >= 10, "{tables:?}");
    for (table, column, on_delete) in tables {
        assert!(
            matches!(on_delete.as_str(), "CASCADE" | "SET NULL"),
            "{table}.{column}: {on_delete}"
        );
        let left = app
            .rows(format!(
                "select count(*) from {table} where {column} = {id}"
            ))
            .await;
        assert_eq!(left, 0, "{table}");
    }
    // Rows that know people by their names, and not by their numbers.
    assert_eq!(
        app.rows("select count(*) from sign_in_failure where subject like '%name:bob%'".into())
            .await,
        0
    );
    let broken = app
        .rows("select count(*) from pragma_foreign_key_check".into())
        .await;
    assert_eq!(broken, 0);
    assert_eq!(
        app.rows(
            "select count(*) from image_text where rowid not in (select number from image)".into()
        )
        .await,
        0,
        "words of images that are gone"
    );
}

#[tokio::test]
async fn erasing_somebody_leaves_no_row_and_no_file_of_theirs() {
    let app = TestApp::spawn().await;
    let ann = app.member("ann").await;
    let kept = two_images(&app, &ann).await;
    let rows_before = counted(&app).await;
    let bob = app.member("bob").await;
    let before = (app.files_in("img"), app.files_in("upload"));
    assert!(!before.0.is_empty() && !before.1.is_empty());
    let gone = two_images(&app, &bob).await;
    assert!(app.files_in("img").len() > before.0.len());
    // Everything that can belong to somebody, so that what cascades is seen to.
    let id = bob.viewer.id.0;
    app.token(&bob).await;
    bob.browser
        .call("begin_two_step", &[("password", crate::personas::PASSWORD)])
        .await;
    let admin = &app.admin().await.browser;
    let wrong = app.anonymous().at([192, 0, 2, 77]);
    wrong.sign_in("bob", "not the right one at all").await;
    let text = id.to_string();
    admin.call("make_reset_link", &[("id", &text)]).await;
    // A file that somebody else has too stays.
    let shared = app.file_of(&gone[0]).await;
    let copy = ann
        .browser
        .send(
            ann.browser
                .request(axum::http::Method::POST, "/api/uploads")
                .header("content-type", "image/png")
                .body(shared.into())
                .unwrap(),
        )
        .await;
    assert_eq!(copy.status, StatusCode::CREATED);
    let uploads = app.files_in("upload");

    app.age_files();
    let removed = admin
        .call("remove_user", &[("id", &text), ("erase", "true")])
        .await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.text());
    assert_nothing_is_left(&app, id).await;
    assert_eq!(
        app.rows(format!("select count(*) from user where id = {id}"))
            .await,
        0
    );
    // Every table is as it was before bob came, but for the copy that ann sent since.
    let mut rows_after = counted(&app).await;
    *rows_after.get_mut("upload").unwrap() -= 1;
    assert_eq!(rows_after, rows_before);
    assert_eq!(app.files_in("img"), before.0, "ann's files and no other");
    assert_eq!(app.files_in("upload"), uploads, "bob's upload is ann's too");
    assert_eq!(
        ann.browser
            .get(&format!("/images/{}.png", kept[0]))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    // Nobody else is ever meant by that number: an old page about bob removes nobody.
    let nina = app.member("nina").await;
    assert!(nina.viewer.id.0 > id);
    let late = admin
        .call("remove_user", &[("id", &text), ("erase", "true")])
        .await;
    assert_eq!(late.status, StatusCode::NOT_FOUND);
    let acts = app.acts().await;
    let (actor, act, subject) = acts[1].clone();
    assert_eq!(
        (actor.as_str(), act.as_str(), subject.as_str()),
        ("ada", "user.delete", "bob")
    );
    app.stop().await;
}

#[tokio::test]
async fn images_that_are_handed_over_are_whole_at_their_new_owners() {
    let app = TestApp::spawn().await;
    let ann = app.member("ann").await;
    let bob = app.member("bob").await;
    let images = two_images(&app, &bob).await;
    // Both have sent the same file.
    let file = app.file_of(&images[0]).await;
    for person in [&ann, &bob] {
        let request = person
            .browser
            .request(axum::http::Method::POST, "/api/uploads")
            .header("content-type", "image/png")
            .body(file.clone().into())
            .unwrap();
        assert_eq!(
            person.browser.send(request).await.status,
            StatusCode::CREATED
        );
    }
    // Ann has a collection of that name, too.
    let collection = json!({ "name": "circles", "shared": false });
    let made = ann
        .browser
        .post_json("/api/collections", collection.to_string())
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let id = bob.viewer.id.0;
    let (text, heir) = (id.to_string(), ann.viewer.id.0.to_string());
    let admin = &app.admin().await.browser;
    for wrong in [text.as_str(), "4711"] {
        let refused = admin
            .call("remove_user", &[("id", &text), ("heir", wrong)])
            .await;
        assert_eq!(refused.field(), "heir", "{}", refused.text());
    }
    assert!(
        !app.user_row("bob").await.disabled,
        "a mistake closes nothing"
    );
    let moved = admin
        .call("remove_user", &[("id", &text), ("heir", &heir)])
        .await;
    assert_eq!(moved.status, StatusCode::OK, "{}", moved.text());
    assert_nothing_is_left(&app, id).await;
    for path in [
        format!("/images/{}.png", images[0]),
        // Of what lies in the trash, the small picture is to be seen there.
        format!("/images/{}/thumbnail.jpg", images[1]),
    ] {
        assert_eq!(
            ann.browser.get(&path).await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    let count = async |path: &str| {
        let found = ann.browser.get(path).await.json();
        found["images"].as_array().unwrap().len()
    };
    assert_eq!(count("/api/images").await, 1);
    assert_eq!(count("/api/images?q=number&favourite=1&rating=4").await, 1);
    assert_eq!(count("/api/trash").await, 1);
    let collections = ann.browser.get("/api/collections").await.text();
    assert!(
        collections.contains("Circles (bob)") && collections.contains("\"circles\""),
        "{collections}"
    );
    let given: String =
        sqlx::query_scalar("select id from collection where name = 'Circles (bob)'")
            .fetch_one(app.services.db.read())
            .await
            .unwrap();
    assert_eq!(count(&format!("/api/images?collection={given}")).await, 1);
    app.stop().await;
}

#[tokio::test]
async fn an_open_job_of_somebody_who_is_removed_stops() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    for seed in 0..6 {
        let request = GenerationRequest {
            prompt: "a long job".into(),
            num_inference_steps: Some(150),
            seed: Some(seed),
            ..GenerationRequest::default()
        };
        app.services
            .jobs
            .submit(&bob.viewer, request)
            .await
            .unwrap();
    }
    let id = bob.viewer.id.0;
    let admin = &app.admin().await.browser;
    let removed = admin
        .call("remove_user", &[("id", &id.to_string()), ("erase", "true")])
        .await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.text());
    assert_nothing_is_left(&app, id).await;
    app.stop().await;
}

#[tokio::test]
async fn nobody_removes_themselves_and_the_last_administrator_stays() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let me = admin.viewer.id.0.to_string();
    let own = admin
        .browser
        .call("remove_user", &[("id", &me), ("erase", "true")])
        .await;
    assert_eq!(own.field(), "id", "{}", own.text());
    let bob = app.member("bob").await;
    let refused = bob
        .browser
        .call("remove_user", &[("id", &me), ("erase", "true")])
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let missing = admin
        .browser
        .call("remove_user", &[("id", "4711"), ("erase", "true")])
        .await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    // From the command line neither.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_atelier"))
        .args(["user", "delete", "ada", "--erase"])
        .env("ATELIER_DATA_DIR", app.data_dir())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("only administrator"), "{words}");
    assert_eq!(app.user_row("ada").await.role, Role::Admin);
    app.stop().await;
}

/// Reads a zip as unzip would: from its end.
fn unzip(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let end = bytes.len() - 22;
    assert_eq!(&bytes[end..end + 4], b"PK\x05\x06");
    let (count, mut at) = (u16_at(end + 10), u32_at(end + 16));
    let mut files = Vec::new();
    for _ in 0..count {
        assert_eq!(&bytes[at..at + 4], b"PK\x01\x02");
        let (crc, size, offset) = (u32_at(at + 16), u32_at(at + 24), u32_at(at + 42));
        let (name_len, extra, comment) = (u16_at(at + 28), u16_at(at + 30), u16_at(at + 32));
        let name = String::from_utf8(bytes[at + 46..at + 46 + name_len].to_vec()).unwrap();
        assert_eq!(&bytes[offset..offset + 4], b"PK\x03\x04");
        let from = offset + 30 + u16_at(offset + 26) + u16_at(offset + 28);
        let data = bytes[from..from + size].to_vec();
        assert_eq!(crc32fast::hash(&data) as usize, crc, "{name}");
        files.push((name, data));
        at += 46 + name_len + extra + comment;
    }
    files
}

#[tokio::test]
async fn an_export_is_a_zip_of_everything() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let images = two_images(&app, &bob).await;
    let zip = bob.browser.get("/api/account/export.zip").await;
    assert_eq!(
        (zip.status, zip.header("content-type")),
        (StatusCode::OK, "application/zip")
    );
    let files = unzip(&zip.body);
    assert_eq!(files.len(), 1 + 2 + 1, "the list, two images, an upload");
    let list: serde_json::Value = serde_json::from_slice(&files[0].1).unwrap();
    assert_eq!(
        (files[0].0.as_str(), &list["user"]),
        ("atelier.json", &json!("bob"))
    );
    let listed = &list["images"];
    assert_eq!(listed[0]["collections"], json!(["Circles"]));
    assert_eq!(
        (
            &listed[0]["favourite"],
            &listed[0]["rating"],
            &listed[0]["in_trash"]
        ),
        (&json!(true), &json!(4), &json!(false))
    );
    assert_eq!(
        (&listed[1]["seed"], &listed[1]["in_trash"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(list["uploads"][0]["file"], files[3].0.as_str());
    assert_eq!(files[3].1, app.file_of(&images[0]).await);
    let files = &files[1..3];
    for (number, (image, (name, data))) in (1..).zip(images.iter().zip(files)) {
        assert_eq!(
            name,
            &format!("images/a-red-circle-number-{number}-of-bob-{number}.png")
        );
        assert_eq!(data, &app.file_of(image).await);
        // What it was asked for is inside it.
        let words = format!("a red circle number {number} of bob");
        assert!(
            data.windows(words.len())
                .any(|part| part == words.as_bytes())
        );
    }

    // The same from the command line, for whoever leaves, while the server runs.
    let file = app.data_dir().join("bob.zip");
    let leave = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_atelier"))
            .args(arguments)
            .env("ATELIER_DATA_DIR", app.data_dir())
            .output()
            .unwrap()
    };
    let unsaid = leave(&["user", "delete", "bob"]);
    assert_eq!(
        unsaid.status.code(),
        Some(2),
        "what becomes of the images must be said"
    );
    app.age_files();
    let done = leave(&[
        "user",
        "delete",
        "bob",
        "--export",
        file.to_str().unwrap(),
        "--erase",
    ]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(unzip(&std::fs::read(&file).unwrap()).len(), 4);
    assert_nothing_is_left(&app, bob.viewer.id.0).await;
    assert!(app.files_in("img").is_empty() && app.files_in("upload").is_empty());
    app.stop().await;
}

#[tokio::test]
async fn looks_into_others_images_are_off_then_logged() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let image = two_images(&app, &bob).await.swap_remove(0);
    let id = bob.viewer.id.0;
    let admin = &app.admin().await.browser;
    let paths = [
        format!("/admin/people/{id}/images"),
        format!("/api/admin/users/{id}/images/{image}/original.png"),
        format!("/api/admin/users/{id}/images/{image}/thumbnail.jpg"),
        format!("/api/admin/users/{id}/export.zip"),
    ];
    let looks = async || {
        let acts = app.acts().await;
        acts.iter()
            .filter(|act| act.1 == "image.look" && act.2 == "bob")
            .count()
    };
    for path in &paths {
        let refused = admin.get(path).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!refused.text().contains("number 1 of bob"));
    }
    assert_eq!(looks().await, 0);
    assert_eq!(
        bob.browser
            .call("allow_looks", &[("on", "true")])
            .await
            .status,
        StatusCode::FORBIDDEN
    );
    admin.call("allow_looks", &[("on", "true")]).await;
    for (number, path) in paths.iter().enumerate() {
        let seen = admin.get(path).await;
        assert_eq!(seen.status, StatusCode::OK, "{path}: {}", seen.text());
        // The small picture comes with the page that was written down a moment ago.
        assert_eq!(looks().await, [1, 2, 2, 3][number], "{path}");
        // Members look at nobody, allowed or not.
        assert_eq!(bob.browser.get(path).await.status, StatusCode::FORBIDDEN);
    }
    // Without such a page, a small picture is a look like any other.
    app.tamper("drop trigger audit_stays").await;
    app.tamper("update audit set at = at - 300001").await;
    admin.get(&paths[2]).await;
    assert_eq!(looks().await, 4);
    let other =
        format!("/api/admin/users/{id}/images/01890000-0000-7000-8000-000000000000/original.png");
    assert_eq!(admin.get(&other).await.status, StatusCode::NOT_FOUND);
    admin.call("allow_looks", &[("on", "false")]).await;
    assert_eq!(admin.get(&paths[1]).await.status, StatusCode::FORBIDDEN);
    app.stop().await;
}
