//! Settings at run time: heeded at once, kept over a restart, refused where they cannot be used, and
//! never before what the command line says.

use super::personas::{Browser, TestApp, default_config};
use atelier_server::startup::Application;
use axum::http::StatusCode;
use serde_json::{Value, json};

async fn set(browser: &Browser, name: &str, value: &str) -> (StatusCode, String) {
    let answer = browser
        .call("change_setting", &[("name", name), ("value", value)])
        .await;
    (answer.status, answer.text())
}

async fn row(browser: &Browser, name: &str) -> Value {
    let answer = browser.call("load_settings", &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let rows = answer.json();
    let found = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {rows}")).clone()
}

async fn batch(browser: &Browser, count: u32) -> super::personas::Answer {
    let body = json!({ "prompt": "a red circle", "num_inference_steps": 1, "width": 64, "height": 64, "num_images": count, "seed": 3 });
    browser
        .post_json("/api/generate-image", body.to_string())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_holds_at_once_and_can_be_set_back() {
    let app = TestApp::spawn().await;
    let browser = &app.admin().await.browser;
    // The largest batch.
    assert_eq!(set(browser, "max_batch", "2").await.0, StatusCode::OK);
    let refused = batch(browser, 3).await;
    assert_eq!(
        (refused.status, refused.field()),
        (StatusCode::UNPROCESSABLE_ENTITY, "num_images".into())
    );
    assert!(refused.text().contains("1 to 2"), "{}", refused.text());
    assert_eq!(batch(browser, 2).await.status, StatusCode::OK);
    // Earlier images as answers.
    assert_eq!(batch(browser, 1).await.header("x-atelier-cache"), "hit");
    assert_eq!(set(browser, "result_cache", "off").await.0, StatusCode::OK);
    assert_eq!(batch(browser, 1).await.header("x-atelier-cache"), "miss");
    // The queue's limits.
    assert_eq!(
        set(browser, "queue_limit_per_user", "1").await.0,
        StatusCode::OK
    );
    let full = batch(browser, 2).await;
    assert_eq!(full.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(full.text().contains("at most 1"), "{}", full.text());
    // The name of the house, on pages for nobody in particular too.
    assert_eq!(
        set(browser, "site_name", "  House <b>of</b> Images ")
            .await
            .0,
        StatusCode::OK
    );
    let page = app.anonymous().get("/sign-in").await.text();
    assert!(
        page.contains("House &lt;b&gt;of&lt;/b&gt; Images"),
        "{page}"
    );
    // Rooms that read their own rows.
    assert_eq!(set(browser, "trash_days", "3").await.0, StatusCode::OK);
    assert_eq!(browser.get("/api/trash").await.json()["days"], 3);
    assert_eq!(
        set(browser, "self_sign_up", "approval").await.0,
        StatusCode::OK
    );
    assert!(
        app.anonymous()
            .get("/sign-up")
            .await
            .text()
            .contains("Ask for an account")
    );

    assert_eq!(set(browser, "session_days", "2").await.0, StatusCode::OK);
    let again = app.anonymous();
    let answer = again.sign_in("ada", super::personas::PASSWORD).await;
    assert!(
        answer.header("set-cookie").contains("Max-Age=172800"),
        "{answer:?}"
    );
    assert_eq!(
        set(browser, "looks_into_images", "allowed").await.0,
        StatusCode::OK
    );

    let changed = row(browser, "queue_limit_per_user").await;
    assert_eq!(
        (&changed["value"], &changed["default"]),
        (&json!("1"), &json!("20"))
    );
    assert!(changed["changed_at"].is_i64());
    let back = browser
        .call("reset_setting", &[("name", "queue_limit_per_user")])
        .await;
    assert_eq!(back.status, StatusCode::OK);
    let back = row(browser, "queue_limit_per_user").await;
    assert_eq!(
        (&back["value"], &back["changed_at"]),
        (&json!("20"), &Value::Null)
    );
    assert_eq!(batch(browser, 2).await.status, StatusCode::OK);

    // Each is in the audit log with what it was; what changes nothing is not.
    let count = app.acts().await.len();
    assert_eq!(set(browser, "max_batch", "02").await.0, StatusCode::OK);
    assert_eq!(app.acts().await.len(), count);
    let details: Vec<String> =
        sqlx::query_scalar("select detail from audit where act = 'setting.change' and subject = 'queue_limit_per_user' order by id")
            .fetch_all(app.services.db.read())
            .await
            .unwrap();
    assert_eq!(details, ["20 → 1", "1 → 20, set back"]);
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_at_its_own_field() {
    let app = TestApp::spawn().await;
    let browser = &app.admin().await.browser;
    for (name, value) in [
        ("max_batch", "0"),
        ("max_batch", "17"),
        ("max_batch", "many"),
        ("queue_limit", "-1"),
        ("trash_days", "3651"),
        ("site_name", ""),
        (
            "site_name",
            "a name that is much too long for the bar of a phone",
        ),
        ("result_cache", "maybe"),
        ("self_sign_up", "on"),
        ("backup_every_hours", "100000"),
    ] {
        let answer = browser
            .call("change_setting", &[("name", name), ("value", value)])
            .await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{name}={value}"
        );
        assert_eq!(answer.field(), name);
    }
    let (status, words) = set(browser, "default_model", "nonsense").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(words.contains("There are: "), "{words}");
    let unknown = set(browser, "nonsense", "1").await;
    assert!(unknown.0.is_client_error(), "{unknown:?}");
    assert_eq!(
        row(browser, "default_model").await["changed_at"],
        Value::Null
    );
    let bob = app.member("bob").await.browser;
    assert_eq!(set(&bob, "max_batch", "1").await.0, StatusCode::FORBIDDEN);
    assert_eq!(
        bob.call("load_settings", &[]).await.status,
        StatusCode::FORBIDDEN
    );
    app.stop().await;
}

#[tokio::test]
async fn the_command_line_goes_first_and_the_rest_outlives_a_restart() {
    let app = TestApp::spawn_with(|config| {
        config.queue_limit = Some(50);
        config.no_result_cache = true;
    })
    .await;
    let browser = &app.admin().await.browser;
    let fixed = row(browser, "queue_limit").await;
    assert_eq!(
        (&fixed["value"], &fixed["fixed_by"]),
        (&json!("50"), &json!("--queue-limit 50"))
    );
    let (status, words) = set(browser, "queue_limit", "60").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(words.contains("--queue-limit 50"), "{words}");
    assert_eq!(row(browser, "result_cache").await["value"], "off");
    let page = browser.get("/admin/settings").await.text();
    assert!(page.contains("--queue-limit 50") && page.contains("--no-result-cache"));

    assert_eq!(set(browser, "max_batch", "4").await.0, StatusCode::OK);
    assert_eq!(
        set(browser, "default_model", "demo").await.0,
        StatusCode::OK
    );
    let models = browser.get("/api/models").await.json();
    assert_eq!(
        (&models[0]["name"], &models[0]["is_default"]),
        (&json!("demo"), &json!(true))
    );
    let kept = tempfile::tempdir().unwrap();
    app.services
        .db
        .copy_into(&kept.path().join("atelier.db"))
        .await
        .unwrap();
    let again = Application::build(default_config(kept.path()))
        .await
        .unwrap();
    assert_eq!(again.services().settings.max_batch(), 4);
    assert_eq!(again.services().settings.limits().total, 1000);
    let models = again.services().models.catalog().models();
    assert_eq!(models.find(None).unwrap().summary.name, "demo");
    again.services().shutdown.request();
    drop(again);

    let back = browser
        .call("reset_setting", &[("name", "default_model")])
        .await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.text());
    let models = browser.get("/api/models").await.json();
    assert_eq!(models[0]["name"], "tiny");
    app.stop().await;
}
