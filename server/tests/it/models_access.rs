//! Who may use which model: what is not for somebody is in none of their lists, and is refused in
//! words; what they may use takes its place as the default.

use super::personas::{Browser, TestApp};
use atelier_app::account::Role;
use axum::http::StatusCode;
use serde_json::{Value, json};

async fn names(browser: &Browser) -> Vec<String> {
    let models = browser.get("/api/models").await.json();
    models
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn allow(browser: &Browser, name: &str, role: &str) -> StatusCode {
    let answer = browser
        .call("set_model_access", &[("name", name), ("role", role)])
        .await;
    answer.status
}

async fn make(browser: &Browser, change: Value) -> super::personas::Answer {
    let mut body = json!({ "prompt": "a red circle", "num_inference_steps": 1, "width": 64, "height": 64, "seed": 1, "use_cache": false });
    for (key, value) in change.as_object().unwrap() {
        body[key] = value.clone();
    }
    browser
        .post_json("/api/generate-image", body.to_string())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_for_administrators_does_not_exist_for_members() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    let bob = app.member("bob").await.browser;
    assert!(names(&bob).await.contains(&"tiny".to_owned()));
    assert_eq!(allow(admin, "tiny", "admin").await, StatusCode::OK);
    assert!(!names(&bob).await.contains(&"tiny".to_owned()));
    assert!(names(admin).await.contains(&"tiny".to_owned()));
    // It was the default: for bob the next one is, and is marked so.
    let first = bob.get("/api/models").await.json()[0].clone();
    assert_eq!(
        (&first["name"], &first["is_default"]),
        (&json!("demo"), &json!(true))
    );
    let refused = make(&bob, json!({ "model": "tiny" })).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    assert!(
        refused
            .text()
            .contains("The model tiny is not open to your role"),
        "{}",
        refused.text()
    );
    let made = make(&bob, json!({})).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    assert_eq!(made.header("x-atelier-model"), "demo");
    assert_eq!(
        make(admin, json!({ "model": "tiny" })).await.status,
        StatusCode::OK
    );
    // The same at the pages' door.
    let page = bob.get("/").await.text();
    assert!(!page.contains("value=\"tiny\""));
    let refused = bob
        .call("submit_generation", &[("prompt", "x"), ("model", "tiny")])
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    // A refiner is a model too.
    assert_eq!(allow(admin, "demo-refiner", "admin").await, StatusCode::OK);
    let refused = make(&bob, json!({ "refiner": "demo-refiner" })).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());

    // Without any model there are plain words, and a studio that opens.
    assert_eq!(allow(admin, "demo", "admin").await, StatusCode::OK);
    let refused = make(&bob, json!({})).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(
        refused
            .text()
            .contains("No model of this server is open to you")
    );
    assert_eq!(bob.get("/").await.status, StatusCode::OK);

    assert_eq!(allow(admin, "tiny", "viewer").await, StatusCode::OK);
    assert_eq!(names(&bob).await, ["tiny"]);
    app.stop().await;
}

#[tokio::test]
async fn access_is_kept_shown_and_written_down() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    let eve = app.user("eve", Role::Viewer).await.browser;
    assert_eq!(allow(admin, "tiny", "member").await, StatusCode::OK);
    assert!(!names(&eve).await.contains(&"tiny".to_owned()));
    let newest = app.acts().await.swap_remove(0);
    assert_eq!(newest, ("ada".into(), "model.access".into(), "tiny".into()));
    assert_eq!(allow(admin, "tiny", "member").await, StatusCode::OK);
    assert_eq!(
        app.acts()
            .await
            .iter()
            .filter(|act| act.1 == "model.access")
            .count(),
        1
    );
    let report = admin.call("load_models", &[]).await.json();
    let row = report["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "tiny");
    assert_eq!(row.unwrap()["least_role"], "member");
    assert_eq!(
        allow(admin, "nonsense", "admin").await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(allow(&eve, "tiny", "viewer").await, StatusCode::FORBIDDEN);
    // As after a restart.
    let kept = tempfile::tempdir().unwrap();
    app.services
        .db
        .copy_into(&kept.path().join("atelier.db"))
        .await
        .unwrap();
    let again =
        atelier_server::startup::Application::build(super::personas::default_config(kept.path()))
            .await
            .unwrap();
    assert_eq!(
        again.services().models.catalog().access().least("tiny"),
        Role::Member
    );
    again.services().shutdown.request();
    drop(again);
    app.stop().await;
}
