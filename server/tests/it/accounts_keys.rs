//! Keys and who holds them: scopes of tokens, sessions, links that set a password.

use crate::personas::{Answer, PASSWORD, TestApp};
use atelier_app::account::{Role, Scope};
use atelier_app::backend::Accounts as _;
use axum::body::Body;
use axum::http::{Method, StatusCode};

const NEW_PASSWORD: &str = "violet tractor hums at noon";

#[tokio::test]
async fn a_token_opens_what_was_chosen_and_nothing_else() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let make = async |ticks: &[&str]| {
        let mut fields = vec![("name", "x"), ("scoped", "true")];
        fields.extend(ticks.iter().map(|name| (*name, "true")));
        bob.browser.call("create_token", &fields).await
    };
    assert_eq!(make(&[]).await.field(), "scopes");
    assert_eq!(
        make(&["generate", "admin"]).await.field(),
        "scopes",
        "bob is no administrator"
    );
    let secret = |made: Answer| made.json()["secret"].as_str().unwrap().to_owned();
    let generate = secret(make(&["generate"]).await);
    let read = secret(make(&["read"]).await);
    let manage = secret(make(&["manage"]).await);

    let missing = "/api/images/01890000-0000-7000-8000-000000000000";
    let ask = async |token: &str, method: Method, path: &str| {
        let client = app.with_token(token);
        let request = client
            .request(method, path)
            .header("content-type", "application/json")
            .body(Body::from("{}"))
            .unwrap();
        client.send(request).await
    };
    for (method, path, opened_by) in [
        (Method::GET, "/api/models", [true, true, false]),
        (Method::GET, "/api/jobs", [true, true, false]),
        (Method::GET, "/api/account", [true, true, true]),
        (Method::GET, "/api/images", [false, true, false]),
        (Method::GET, missing, [false, true, false]),
        (Method::POST, "/api/generate-image", [true, false, false]),
        (Method::DELETE, missing, [false, false, true]),
        (Method::GET, "/api/admin/audit.csv", [false, false, false]),
    ] {
        for (token, opens) in [&generate, &read, &manage].into_iter().zip(opened_by) {
            let answer = ask(token, method.clone(), path).await;
            assert_eq!(
                answer.status != StatusCode::FORBIDDEN,
                opens,
                "{method} {path}: {}",
                answer.text()
            );
            if !opens {
                let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                assert!(detail.contains("scope"), "{detail}");
                let challenge = answer.header("www-authenticate").to_owned();
                assert!(
                    challenge.starts_with("Bearer error=\"insufficient_scope\", scope=\""),
                    "{challenge}"
                );
            }
        }
    }
    let listed = bob.browser.call("load_account", &[]).await.json();
    assert_eq!(listed["tokens"][0]["scopes"], serde_json::json!(["manage"]));
    app.stop().await;
}

#[tokio::test]
async fn an_administrators_token_administrates_only_where_that_was_chosen() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let make = async |scopes: &[Scope]| {
        let made = app
            .services
            .accounts
            .create_token(&admin.viewer, "x", Some(1), scopes)
            .await;
        made.unwrap().secret
    };
    let path = "/api/admin/audit.csv";
    let usual = make(&Scope::USUAL).await;
    assert_eq!(
        app.with_token(&usual).get(path).await.status,
        StatusCode::FORBIDDEN
    );
    let chosen = make(&[Scope::Admin]).await;
    assert_eq!(
        app.with_token(&chosen).get(path).await.status,
        StatusCode::OK
    );
    // Power that its owner lost is lost to the token too.
    let bob = app.user("bob", Role::Admin).await;
    app.services
        .accounts
        .create_token(&bob.viewer, "y", None, &[Scope::Admin])
        .await
        .unwrap();
    let id = admin.viewer.id.0.to_string();
    let gone = bob
        .browser
        .call("set_user_role", &[("id", &id), ("role", "member")])
        .await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
    assert_eq!(
        app.with_token(&chosen).get(path).await.status,
        StatusCode::FORBIDDEN
    );
    app.stop().await;
}

#[tokio::test]
async fn all_other_browsers_are_signed_out_at_once() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let others = [app.anonymous(), app.anonymous()];
    for other in &others {
        assert_eq!(other.sign_in("bob", PASSWORD).await.status, StatusCode::OK);
    }
    let carol = app.member("carol").await;
    let done = bob.browser.call("revoke_other_sessions", &[]).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    for other in &others {
        let status = other.call("load_account", &[]).await.status;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let left = bob.browser.call("load_account", &[]).await.json();
    assert_eq!(left["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        carol.browser.call("load_account", &[]).await.status,
        StatusCode::OK
    );
    app.stop().await;
}

#[tokio::test]
async fn a_name_is_changed_by_its_owner_to_one_that_is_free() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    app.member("carol").await;
    let change = async |name: &str| bob.browser.call("change_name", &[("name", name)]).await;
    for wrong in ["carol", "CAROL", "", "command line"] {
        assert_eq!(change(wrong).await.field(), "name", "{wrong}");
    }
    assert_eq!(change("  robert ").await.status, StatusCode::OK);
    assert_eq!(
        bob.browser.get("/api/account").await.json()["name"],
        "robert",
        "the session goes on"
    );
    let visitor = app.anonymous();
    assert_eq!(
        visitor.sign_in("robert", PASSWORD).await.status,
        StatusCode::OK
    );
    assert_ne!(
        app.anonymous().sign_in("bob", PASSWORD).await.status,
        StatusCode::OK
    );
    let newest = app.acts().await.swap_remove(0);
    assert_eq!(
        newest,
        ("robert".into(), "user.rename".into(), "robert".into())
    );
    app.stop().await;
}

impl TestApp {
    async fn reset_link(&self, id: &str) -> String {
        let made = self
            .admin()
            .await
            .browser
            .call("make_reset_link", &[("id", id)])
            .await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text());
        let path = made.json()["path"].as_str().unwrap().to_owned();
        path.strip_prefix("/reset/").unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_reset_link_sets_a_password_once() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let id = bob.viewer.id.0.to_string();
    let replaced = app.reset_link(&id).await;
    let code = app.reset_link(&id).await;
    let visitor = app.anonymous();
    let set = async |code: &str, password: &str| {
        visitor
            .call("reset_by_link", &[("code", code), ("password", password)])
            .await
    };
    // A wrong try at the password is forgiven with it.
    for _ in 0..4 {
        visitor.sign_in("bob", "not the right one at all").await;
    }
    assert_eq!(set(&replaced, NEW_PASSWORD).await.field(), "code");
    assert_eq!(
        visitor.call("load_reset", &[("code", &code)]).await.json(),
        "bob"
    );
    assert_eq!(set(&code, "password1234").await.field(), "password");
    assert_eq!(set(&code, NEW_PASSWORD).await.status, StatusCode::OK);
    assert!(
        visitor.session().is_none(),
        "the link alone signs nobody in"
    );
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        visitor.sign_in("bob", NEW_PASSWORD).await.status,
        StatusCode::OK
    );
    assert_ne!(
        app.anonymous()
            .at([192, 0, 2, 8])
            .sign_in("bob", PASSWORD)
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(set(&code, PASSWORD).await.field(), "code", "it works once");

    // Old ones and those of closed accounts do not work.
    let old = app.reset_link(&id).await;
    app.tamper("update password_reset set expires_at = expires_at - 86400001")
        .await;
    assert_eq!(set(&old, PASSWORD).await.field(), "code");
    let shut = app.reset_link(&id).await;
    let admin = &app.admin().await.browser;
    admin
        .call("set_user_disabled", &[("id", &id), ("disabled", "true")])
        .await;
    assert_eq!(set(&shut, PASSWORD).await.field(), "code");
    let none = admin.call("make_reset_link", &[("id", &id)]).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    // Only administrators make them.
    let carol = app.member("carol").await;
    let refused = carol.browser.call("make_reset_link", &[("id", &id)]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let acts = app.acts().await;
    assert_eq!(acts.iter().filter(|act| act.1 == "user.reset").count(), 4);
    app.stop().await;
}
