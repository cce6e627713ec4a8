//! Image files over HTTP, made by the real worker: for their owner only, safe to open in a browser,
//! and kept by it.

use crate::personas::{Answer, Browser, TestApp};
use axum::body::Body;
use axum::http::header::IF_NONE_MATCH;
use axum::http::{Method, StatusCode};

/// Asks for an image and waits for it; answers its id.
async fn generate(client: &Browser, prompt: &str) -> String {
    let body = serde_json::json!({
        "prompt": prompt, "num_inference_steps": 1, "width": 64, "height": 64, "seed": 42,
    });
    let answer = client
        .post_json("/api/generate-image", body.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.header("x-atelier-image-id").to_owned()
}

async fn get_if_changed(client: &Browser, path: &str, etag: &str) -> Answer {
    let request = client
        .request(Method::GET, path)
        .header(IF_NONE_MATCH, etag);
    client.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_gets_the_file_and_its_thumbnail_by_cookie_and_by_token() {
    let app = TestApp::spawn().await;
    let alice = app.member("alice").await;
    let by_token = app.with_token(&app.token(&alice).await.secret);
    let id = generate(&by_token, "A red circle, 日本\"\r\n").await;

    for client in [&alice.browser, &by_token] {
        let original = client.get(&format!("/images/{id}.png")).await;
        assert_eq!(original.status, StatusCode::OK);
        let thumbnail = client.get(&format!("/images/{id}/thumbnail.jpg")).await;
        assert_eq!(thumbnail.status, StatusCode::OK);
        for (answer, kind, format) in [
            (&original, "image/png", image::ImageFormat::Png),
            (&thumbnail, "image/jpeg", image::ImageFormat::Jpeg),
        ] {
            assert_eq!(answer.header("content-type"), kind);
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(
                answer.header("content-security-policy"),
                "default-src 'none'; sandbox"
            );
            assert_eq!(
                answer.header("cache-control"),
                "private, max-age=31536000, immutable"
            );
            assert_eq!(answer.header("content-disposition"), "");
            let decoded = image::load_from_memory_with_format(&answer.body, format).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (64, 64));
        }
        assert_ne!(original.header("etag"), thumbnail.header("etag"));
    }

    let download = alice
        .browser
        .get(&format!("/images/{id}.png?download"))
        .await;
    assert_eq!(
        download.header("content-disposition"),
        "attachment; filename=\"a-red-circle-42.png\""
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_has_the_file_is_not_sent_it_again() {
    let app = TestApp::spawn().await;
    let alice = app.member("alice").await;
    let id = generate(&alice.browser, "a star").await;
    for path in [
        format!("/images/{id}.png"),
        format!("/images/{id}/thumbnail.jpg"),
    ] {
        let etag = alice.browser.get(&path).await.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.len() > 64, "{etag}");
        let known = get_if_changed(&alice.browser, &path, &etag).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED);
        assert!(known.body.is_empty());
        assert_eq!(known.header("etag"), etag);
        assert_eq!(
            known.header("cache-control"),
            "private, max-age=31536000, immutable"
        );
        let other = get_if_changed(&alice.browser, &path, "\"other\"").await;
        assert_eq!(other.status, StatusCode::OK);
        // Knowing the tag opens nothing: it is asked for after the owner.
        let stranger = get_if_changed(&app.anonymous(), &path, &etag).await;
        assert_eq!(stranger.status, StatusCode::NOT_FOUND);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_else_gets_what_a_missing_image_gets() {
    let app = TestApp::spawn().await;
    let alice = app.member("alice").await;
    let bob = app.member("bob").await;
    let id = generate(&alice.browser, "a star").await;
    let missing = uuid::Uuid::now_v7();
    let anonymous = app.anonymous();
    let forged = app.with_token("atl_nonsense");
    let admin = &app.admin().await.browser;
    for client in [&bob.browser, &anonymous, &forged, admin] {
        for form in [
            "/images/ID.png",
            "/images/ID/thumbnail.jpg",
            "/images/ID.png?download",
        ] {
            let hers = client.get(&form.replace("ID", &id)).await;
            let none = client.get(&form.replace("ID", &missing.to_string())).await;
            assert_eq!(hers.status, StatusCode::NOT_FOUND);
            assert_eq!(hers.looks(), none.looks(), "{form}");
        }
    }
    for odd in [
        "/images/..%2f..%2fatelier.db.png",
        "/images/%2e%2e.png",
        "/images/.png",
        "/images/%00.png",
        "/images/..%5c..%5cx/thumbnail.jpg",
    ] {
        assert_eq!(
            alice.browser.get(odd).await.status,
            StatusCode::NOT_FOUND,
            "{odd}"
        );
    }
    let without_ending = alice.browser.get(&format!("/images/{id}")).await;
    assert_eq!(without_ending.status, StatusCode::NOT_FOUND);
    app.stop().await;
}
