//! API tokens: where they open something, and where and when they do not.

use crate::personas::{TestApp, tiny_model};
use atelier_app::account::{Role, Scope};
use atelier_app::backend::{Accounts as _, Jobs as _};
use atelier_app::error::AppError;
use atelier_app::studio::GenerationRequest;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};

#[tokio::test]
async fn a_token_opens_the_api_and_nothing_else() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let token = app.token(&bob).await.secret;
    let script = app.with_token(&token);
    assert_eq!(script.get("/api/models").await.status, StatusCode::OK);

    // In no other place of a request.
    for path in [
        format!("/api/models?token={token}"),
        format!("/api/models?access_token={token}"),
    ] {
        assert_eq!(
            app.anonymous().get(&path).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    for header in [
        format!("Basic {token}"),
        token.clone(),
        format!("Bearer x{token}"),
        "Bearer".into(),
    ] {
        let visitor = app.anonymous();
        let request = visitor
            .request(Method::GET, "/api/models")
            .header(AUTHORIZATION, &header);
        let answer = visitor.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}");
        assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer");
    }
    let visitor = app.anonymous();
    let request = visitor
        .request(Method::GET, "/api/models")
        .header("cookie", format!("sid={token}"));
    let answer = visitor.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);

    // Behind no other door: server functions, pages.
    assert_eq!(
        script.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    let page = script.get("/account").await;
    assert_eq!(
        (page.status, page.header("location")),
        (StatusCode::FOUND, "/sign-in?next=%2Faccount")
    );

    // A token that opens nothing is not made up for by a cookie.
    let request = bob
        .browser
        .request(Method::GET, "/api/models")
        .header(AUTHORIZATION, "Bearer atl_wrong")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        bob.browser.send(request).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(bob.browser.get("/api/models").await.status, StatusCode::OK);
    app.stop().await;
}

#[tokio::test]
async fn every_dead_token_looks_the_same() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let accounts = &app.services.accounts;
    let revoked = app.token(&bob).await;
    accounts
        .revoke_token(&bob.viewer, revoked.summary.id)
        .await
        .unwrap();
    let expired = accounts
        .create_token(&bob.viewer, "short", Some(1), &Scope::USUAL)
        .await
        .unwrap();
    assert_eq!(
        app.with_token(&expired.secret)
            .get("/api/models")
            .await
            .status,
        StatusCode::OK
    );
    app.tamper(
        "update api_token set expires_at = expires_at - 86400001 where expires_at is not null",
    )
    .await;
    let mut mistyped = app.token(&bob).await.secret;
    mistyped.pop();
    mistyped.push('!');

    let none = app.anonymous().get("/api/models").await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(none.header("content-type"), "application/problem+json");
    for dead in [&revoked.secret, &expired.secret, &mistyped] {
        assert_eq!(
            app.with_token(dead).get("/api/models").await.looks(),
            none.looks()
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn a_token_is_shown_once_and_listed_without_its_secret() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let made = bob
        .browser
        .call(
            "create_token",
            &[("name", " my script "), ("expires_in_days", "30")],
        )
        .await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("atl_"));

    let listed = bob.browser.call("load_account", &[]).await;
    assert!(!listed.text().contains(&secret));
    let token = &listed.json()["tokens"][0];
    assert_eq!(token["name"], "my script");
    assert!(secret.starts_with(token["prefix"].as_str().unwrap()));
    assert!(token["last_used_at"].is_null());
    app.with_token(&secret).get("/api/models").await;
    let token = &bob.browser.call("load_account", &[]).await.json()["tokens"][0];
    assert!(token["last_used_at"].is_i64());

    for (name, days, field) in [
        ("", "1", "name"),
        ("x", "0", "expires_in_days"),
        ("x", "99999", "expires_in_days"),
    ] {
        let refused = bob
            .browser
            .call("create_token", &[("name", name), ("expires_in_days", days)])
            .await;
        assert_eq!(refused.field(), field, "{}", refused.text());
    }
    app.stop().await;
}

#[tokio::test]
async fn anothers_token_and_a_missing_one_are_the_same() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let carol = app.member("carol").await;
    let token = app.token(&bob).await;
    let foreign = carol
        .browser
        .call("revoke_token", &[("id", &token.summary.id.to_string())])
        .await;
    let missing = carol.browser.call("revoke_token", &[("id", "4711")]).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    assert_eq!(foreign.looks(), missing.looks());
    assert_eq!(
        app.with_token(&token.secret)
            .get("/api/models")
            .await
            .status,
        StatusCode::OK
    );
    app.stop().await;
}

#[tokio::test]
async fn a_token_does_not_carry_the_power_to_administrate() {
    let app = TestApp::spawn().await;
    let token = app.token(app.admin().await).await.secret;
    let viewer = app
        .services
        .accounts
        .viewer_of_token(&token)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(viewer.role, Role::Member);
    let read_only = app.user("vera", Role::Viewer).await;
    let token = app.token(&read_only).await.secret;
    let viewer = app
        .services
        .accounts
        .viewer_of_token(&token)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(viewer.role, Role::Viewer);
    app.stop().await;
}

#[tokio::test]
async fn nobody_can_make_tokens_without_end() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let mut refused = None;
    for _ in 0..60 {
        if let Err(error) = app
            .services
            .accounts
            .create_token(&bob.viewer, "again", None, &Scope::USUAL)
            .await
        {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(
        refused
            .and_then(|error| error.field().map(str::to_owned))
            .as_deref(),
        Some("name")
    );
    app.stop().await;
}

/// Every address that names a user's object, with the methods that it answers to.
const OBJECT_ROUTES: [(Method, &str); 8] = [
    (Method::GET, "/api/jobs/{}"),
    (Method::DELETE, "/api/jobs/{}"),
    (Method::POST, "/api/jobs/{}/cancel"),
    (Method::GET, "/api/images/{}"),
    (Method::DELETE, "/api/images/{}"),
    (Method::GET, "/images/{}.png"),
    (Method::GET, "/images/{}/thumbnail.jpg"),
    (Method::GET, "/gallery/{}"),
];

#[tokio::test]
async fn anothers_object_is_the_404_of_a_missing_one_at_every_address() {
    assert!(tiny_model().join("model_index.json").is_file());
    let app = TestApp::spawn().await;
    let ann = app.member("ann").await;
    let bob = app.member("bob").await;
    let request = GenerationRequest {
        prompt: "a red circle".into(),
        num_inference_steps: Some(2),
        ..GenerationRequest::default()
    };
    let job = app
        .services
        .jobs
        .submit(&ann.viewer, request)
        .await
        .unwrap();
    let done = app.finished(&ann.viewer, &job.id).await;
    let image = done.image_id.expect("an image");
    let bobs_token = app.token(&bob).await.secret;
    let askers = [
        bob.browser.copy(),
        app.with_token(&bobs_token),
        app.admin().await.browser.copy(),
        app.anonymous(),
    ];
    let missing = "01890000-0000-7000-8000-000000000000";
    for (method, route) in OBJECT_ROUTES {
        let id = if route.contains("jobs") {
            &job.id.0
        } else {
            &image
        };
        for (number, asker) in askers.iter().enumerate() {
            let ask = async |id: &str| {
                let path = route.replace("{}", id);
                let request = asker
                    .request(method.clone(), &path)
                    .body(Body::empty())
                    .unwrap();
                let mut answer = asker.send(request).await;
                // A page repeats the address it was asked for; each page has a nonce of its own.
                answer.body = answer.text().replace(id, "ID").into_bytes();
                (
                    answer.status,
                    if route.starts_with("/gallery") {
                        String::new()
                    } else {
                        answer.text()
                    },
                )
            };
            let foreign = ask(id).await;
            assert_eq!(
                foreign,
                ask(missing).await,
                "asker {number}: {method} {route}"
            );
            assert!(
                matches!(
                    foreign.0,
                    StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FOUND
                ),
                "asker {number}: {method} {route}: {}",
                foreign.0
            );
        }
    }
    // Nothing of it happened: ann still has her image.
    assert_eq!(
        ann.browser
            .get(&format!("/images/{image}.png"))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        app.services
            .jobs
            .job(&bob.viewer, &job.id)
            .await
            .unwrap_err(),
        AppError::NotFound
    );
    app.stop().await;
}

impl TestApp {
    /// Waits for the end of a job, on its own news rather than on the clock.
    pub async fn finished(
        &self,
        viewer: &atelier_app::account::Viewer,
        id: &atelier_app::studio::JobId,
    ) -> atelier_app::studio::JobView {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            let job = self.services.jobs.job(viewer, id).await.unwrap();
            if job.state.is_final() {
                return job;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "the job does not end: {job:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
