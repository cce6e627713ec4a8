//! Models through the admin page's functions: who may, what is fetched can be used at once, what
//! was interrupted is gone on with, and what is chosen stays chosen.

use super::fake_hub::{FakeHub, LARGE, REPO};
use super::personas::{Browser, TestApp, default_config};
use atelier_server::startup::Application;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

async fn app_of(hub: &FakeHub) -> TestApp {
    TestApp::spawn_with(|config| {
        config.hub.endpoint = hub.url.parse().unwrap();
        config.hub.token = None;
        config.hub.retries = 1;
    })
    .await
}

async fn act(browser: &Browser, name: &str, act: &str) -> StatusCode {
    let answer = browser
        .call("act_on_model", &[("name", name), ("act", act)])
        .await;
    answer.status
}

async fn fetch(browser: &Browser, model: &str, name: &str) -> StatusCode {
    let fields = [("model", model), ("name", name), ("variant", "fp16")];
    browser.call("fetch_model", &fields).await.status
}

async fn report(browser: &Browser) -> Value {
    let answer = browser.call("load_models", &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()
}

fn row<'a>(report: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    report[list]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == name)
}

/// Looks until something is so.
async fn until(browser: &Browser, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let report = report(browser).await;
        if is_so(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "{what}: {report}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_see_or_touch_models() {
    let hub = FakeHub::start().await;
    let app = app_of(&hub).await;
    let member = app.member("bob").await.browser;
    let stranger = app.anonymous();
    for (browser, status) in [
        (&member, StatusCode::FORBIDDEN),
        (&stranger, StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(fetch(browser, REPO, "").await, status);
        assert_eq!(browser.call("load_models", &[]).await.status, status);
        assert_eq!(browser.call("look_for_models", &[]).await.status, status);
        for does in [
            "resume",
            "stop",
            "discard",
            "check",
            "repair",
            "remove",
            "make-default",
        ] {
            assert_eq!(act(browser, "tiny", does).await, status, "{does}");
        }
    }
    assert!(hub.asked().is_empty(), "nobody asked the hub");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_model_is_used_checked_mended_and_removed_without_a_restart() {
    let hub = FakeHub::start().await;
    hub.change(|hub| hub.slow = Some((20_000, Duration::from_millis(5))));
    let app = app_of(&hub).await;
    let admin = app.admin().await;
    let browser = &admin.browser;
    let before = report(browser).await;
    assert_eq!(before["endpoint"], hub.url);
    assert!(
        row(&before, "models", "tiny").unwrap()["is_default"]
            .as_bool()
            .unwrap()
    );

    assert_eq!(
        fetch(browser, "nonsense", "").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        fetch(browser, REPO, "tiny").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        fetch(browser, REPO, "../x").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(fetch(browser, REPO, "").await, StatusCode::OK);
    assert_eq!(
        fetch(browser, REPO, "").await,
        StatusCode::SERVICE_UNAVAILABLE,
        "once at a time"
    );
    until(browser, "bytes are told", |report| {
        row(report, "fetches", "tiny-sdxl").is_some_and(|row| {
            row["state"] == "Running"
                && row["have"].as_u64() > Some(0)
                && row["total"].as_u64() > row["have"].as_u64()
        })
    })
    .await;
    hub.change(|hub| hub.slow = None);
    let report_now = until(browser, "it arrives", |report| {
        row(report, "models", "tiny-sdxl").is_some()
    })
    .await;
    let fetched = row(&report_now, "models", "tiny-sdxl").unwrap();
    assert!(
        fetched["problem"].is_null() && fetched["origin"].as_str().unwrap().starts_with(REPO),
        "{fetched}"
    );

    // It makes an image at once, in the worker that was there before.
    let body = json!({ "prompt": "a red circle", "num_inference_steps": 2, "width": 64, "height": 64, "model": "tiny-sdxl" });
    let answer = browser
        .post_json("/api/generate-image", body.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.header("x-atelier-model"), "tiny-sdxl");

    // A flipped bit is found and mended.
    let unet = app.data_dir().join("models/tiny-sdxl").join(LARGE);
    let mut bytes = fs::read(&unet).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&unet, &bytes).unwrap();
    assert_eq!(act(browser, "tiny-sdxl", "check").await, StatusCode::OK);
    let check = |report: &Value| row(report, "models", "tiny-sdxl").unwrap()["check"].clone();
    let found = until(browser, "damage is found", |report| {
        check(report)["Damaged"].is_object()
    })
    .await;
    assert!(
        check(&found)["Damaged"]["faults"][0]
            .as_str()
            .unwrap()
            .contains(LARGE)
    );
    assert_eq!(act(browser, "tiny-sdxl", "repair").await, StatusCode::OK);
    until(browser, "it is mended", |report| {
        check(report)["Sound"]["by_checksum"] == true
    })
    .await;
    let answer = browser
        .post_json("/api/generate-image", body.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());

    assert_eq!(act(browser, "tiny-sdxl", "remove").await, StatusCode::OK);
    assert!(row(&report(browser).await, "models", "tiny-sdxl").is_none());
    assert!(!app.data_dir().join("models/tiny-sdxl").exists());
    let answer = browser
        .post_json("/api/generate-image", body.to_string())
        .await;
    assert_eq!(
        answer.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        answer.text()
    );
    assert_eq!(
        act(browser, "tiny-sdxl", "remove").await,
        StatusCode::NOT_FOUND
    );
    // What the command line named is not the page's to delete.
    assert_eq!(
        act(browser, "tiny", "remove").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_failed_fetch_waits_to_be_gone_on_with() {
    let hub = FakeHub::start().await;
    hub.change(|hub| hub.slow = Some((10_000, Duration::from_millis(20))));
    let app = app_of(&hub).await;
    let browser = &app.admin().await.browser;
    assert_eq!(fetch(browser, REPO, "mine").await, StatusCode::OK);
    until(browser, "bytes come", |report| {
        row(report, "fetches", "mine").is_some_and(|row| row["have"].as_u64() > Some(0))
    })
    .await;
    assert_eq!(act(browser, "mine", "stop").await, StatusCode::OK);
    assert_eq!(act(browser, "mine", "stop").await, StatusCode::NOT_FOUND);
    let stopped = report(browser).await;
    assert_eq!(
        row(&stopped, "fetches", "mine").unwrap()["state"],
        "Interrupted"
    );

    // Gone on with, it fails: the words are on the page.
    hub.change(|hub| {
        hub.slow = None;
        hub.corrupt.insert(LARGE.into(), 2);
    });
    let resumed = Instant::now();
    while act(browser, "mine", "resume").await != StatusCode::OK {
        assert!(
            resumed.elapsed() < Duration::from_secs(20),
            "it can be resumed"
        );
    }
    let failed = until(browser, "it fails", |report| {
        row(report, "fetches", "mine").is_some_and(|row| row["state"] == "Failed")
    })
    .await;
    let words = row(&failed, "fetches", "mine").unwrap()["trouble"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        words.contains(LARGE) || words.contains("already"),
        "{words}"
    );
    assert_eq!(act(browser, "mine", "discard").await, StatusCode::OK);
    assert!(row(&report(browser).await, "fetches", "mine").is_none());
    assert!(!app.data_dir().join("models/.fetch/mine").exists());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chosen_default_stays_and_a_folder_that_is_copied_in_is_noticed() {
    let hub = FakeHub::start().await;
    let app = app_of(&hub).await;
    let browser = &app.admin().await.browser;
    assert_eq!(fetch(browser, REPO, "second").await, StatusCode::OK);
    until(browser, "it arrives", |report| {
        row(report, "models", "second").is_some()
    })
    .await;
    assert_eq!(
        act(browser, "nonsense", "make-default").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(act(browser, "second", "make-default").await, StatusCode::OK);
    let listed = browser.get("/api/models").await.json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["is_default"]),
        (&json!("second"), &json!(true))
    );

    let models = app.data_dir().join("models");
    std::os::unix::fs::symlink(models.join("second"), models.join("third")).unwrap();
    let listed = browser.get("/api/models").await.json();
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .any(|model| model["name"] == "third"),
        "{listed}"
    );
    fs::remove_file(models.join("third")).unwrap();

    // Another server on the same folder, as after a restart.
    let chosen = app.data_dir().to_owned();
    let kept = tempfile::tempdir().unwrap();
    copy_all(&chosen, kept.path());
    let again = Application::build(default_config(kept.path()))
        .await
        .unwrap();
    let catalog = again.services().models.catalog().clone();
    assert_eq!(catalog.models().find(None).unwrap().summary.name, "second");
    app.stop().await;
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_all(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
