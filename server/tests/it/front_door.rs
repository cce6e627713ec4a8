//! What every request meets before any room: cross-site protection, limits, headers, health.

use crate::personas::{Answer, Browser, PASSWORD, TestApp};
use atelier_server::http::GENERATE_LIMIT;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{Method, StatusCode};
use std::fmt::Write as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What browsers say about where a request comes from, and whether it may change something.
type Origin = (&'static str, &'static [(&'static str, &'static str)], bool);

const ORIGINS: [Origin; 6] = [
    (
        "our own page",
        &[
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://atelier.test"),
        ],
        true,
    ),
    (
        "another site",
        &[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.test"),
        ],
        false,
    ),
    (
        "a sibling host",
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "http://evil.atelier.test"),
        ],
        false,
    ),
    (
        "an old browser on another site",
        &[("origin", "https://evil.test")],
        false,
    ),
    (
        "an old browser on our page",
        &[("origin", "http://atelier.test")],
        true,
    ),
    ("no browser at all", &[], true),
];

#[tokio::test]
async fn nothing_changes_from_another_site() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let mut paths: Vec<String> = leptos::server_fn::axum::server_fn_paths()
        .map(|(path, _)| path.to_owned())
        .collect();
    assert!(
        paths.iter().any(|path| path == "/app/sign_out"),
        "{paths:?}"
    );
    paths.extend(["/api/generate-image", "/api/jobs/x/cancel"].map(str::to_owned));
    for path in &paths {
        for (who, headers, may) in ORIGINS {
            // The asker has no rights, so that what may pass does nothing either.
            let asker = app.anonymous();
            let mut request = asker
                .request(Method::POST, path)
                .header("accept", "application/json");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = asker.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                answer.status != StatusCode::FORBIDDEN,
                may,
                "{path} from {who}: {}",
                answer.status
            );
        }
    }
    // With a signed-in victim: the session survives.
    let mut request = bob.browser.call_request("sign_out", &[]);
    request
        .headers_mut()
        .insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(
        bob.browser.send(request).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::OK
    );
    app.stop().await;
}

#[tokio::test]
async fn no_server_function_answers_to_get() {
    let app = TestApp::spawn().await;
    for (path, method) in leptos::server_fn::axum::server_fn_paths() {
        assert_eq!(method, Method::POST, "{path}: a link could call it");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_public_address_behind_a_proxy_is_no_other_site() {
    let app = TestApp::spawn_with(|config| {
        config.public_url = Some("https://studio.example".parse().unwrap());
    })
    .await;
    // The proxy rewrote Host, and the browser is too old for Sec-Fetch-Site.
    let visitor = app.anonymous();
    let mut request = visitor.call_request("needs_setup", &[]);
    request
        .headers_mut()
        .insert(HOST, "127.0.0.1:3000".parse().unwrap());
    request
        .headers_mut()
        .insert(ORIGIN, "https://studio.example".parse().unwrap());
    assert_eq!(visitor.send(request).await.status, StatusCode::OK);
    app.stop().await;
}

/// The headers that protect, one a line, with what changes from answer to answer taken out.
fn protection(what: &str, answer: &Answer) -> String {
    let mut lines = format!("{what}: {}\n", answer.status.as_u16());
    let names = [
        "content-security-policy",
        "reporting-endpoints",
        "x-content-type-options",
        "referrer-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "permissions-policy",
        "cache-control",
        "strict-transport-security",
    ];
    for name in names {
        for value in answer.headers.get_all(name) {
            let mut value = value.to_str().unwrap().to_owned();
            while let Some(start) = value.find("'nonce-") {
                let end = start + 1 + value[start + 1..].find('\'').unwrap();
                value.replace_range(start..=end, "NONCE");
            }
            let _ = writeln!(lines, "  {name}: {value}");
        }
    }
    lines
}

#[tokio::test]
async fn every_answer_is_protected() {
    let app = TestApp::spawn().await;
    std::fs::create_dir_all(app.data_dir().join("site/pkg")).unwrap();
    std::fs::write(app.data_dir().join("site/pkg/atelier.css"), "body{}").unwrap();
    let bob = app.member("bob").await;
    let visitor = app.anonymous();
    let mut all = String::new();
    all += &protection("a page", &visitor.get("/sign-in").await);
    all += &protection(
        "a page of somebody's own",
        &bob.browser.get("/gallery").await,
    );
    all += &protection("a redirect", &visitor.get("/gallery").await);
    all += &protection("no such page", &visitor.get("/nowhere").await);
    all += &protection("a file", &visitor.get("/pkg/atelier.css").await);
    all += &protection("an API answer", &bob.browser.get("/api/models").await);
    all += &protection("no such API", &bob.browser.get("/api/nowhere").await);
    all += &protection("not signed in", &visitor.get("/api/models").await);
    let mut foreign = visitor.call_request("sign_out", &[]);
    foreign
        .headers_mut()
        .insert("sec-fetch-site", "cross-site".parse().unwrap());
    all += &protection("another site", &visitor.send(foreign).await);
    // A fault of ours: the database is gone.
    app.services.db.close().await;
    let broken = visitor.call("needs_setup", &[]).await;
    all += &protection("a fault of ours", &broken);
    assert!(
        broken.json()["Internal"]["reference"].is_string(),
        "{}",
        broken.text()
    );
    assert!(
        !broken.text().to_lowercase().contains("pool"),
        "{}",
        broken.text()
    );
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn no_script_runs_without_this_answers_nonce() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let visitor = app.anonymous();
    let mut nonces = Vec::new();
    for (browser, path) in [
        (&visitor, "/sign-in"),
        (&visitor, "/nowhere"),
        (&bob.browser, "/"),
        (&bob.browser, "/gallery"),
        (&bob.browser, "/account"),
        (&bob.browser, "/admin"),
        (&app.admin().await.browser, "/admin"),
    ] {
        let page = browser.get(path).await;
        let policy = page.header("content-security-policy").to_owned();
        let nonce = policy
            .split("'nonce-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap()
            .to_owned();
        assert!(nonce.len() >= 16, "{policy}");
        assert!(
            !policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"),
            "{policy}"
        );
        let text = page.text();
        let scripts: Vec<&str> = text
            .split("<script")
            .skip(1)
            .map(|tag| tag.split('>').next().unwrap())
            .collect();
        assert!(!scripts.is_empty(), "{path}: {text}");
        for script in scripts {
            assert!(
                script.contains(&format!("nonce=\"{nonce}\"")),
                "{path}: <script{script}>"
            );
        }
        nonces.push(nonce);
    }
    let pages = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), pages, "each answer has a nonce of its own");
    app.stop().await;
}

#[tokio::test]
async fn bodies_that_cannot_be_used_are_named() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let url = "/api/generate-image";
    for (body, field) in [
        ("", "body"),
        ("{", "body"),
        ("[]", "body"),
        ("{\"prompt\": \"x\"} trailing", "body"),
        ("{\"prompt\": 7}", "prompt"),
        (
            "{\"prompt\": \"x\", \"num_inference_steps\": \"many\"}",
            "num_inference_steps",
        ),
        (
            "{\"prompt\": \"x\", \"num_inference_steps\": -1}",
            "num_inference_steps",
        ),
        (
            "{\"prompt\": \"x\", \"num_inference_steps\": 0}",
            "num_inference_steps",
        ),
        ("{\"prompt\": \"x\", \"guidance_scale\": NaN}", "body"),
        (
            "{\"prompt\": \"x\", \"guidance_scale\": 1e999}",
            "guidance_scale",
        ),
        ("{\"prompt\": \"x\", \"width\": 65}", "width"),
        ("{\"prompt\": \"\"}", "prompt"),
        ("{\"prompt\": \"x\", \"model\": \"none such\"}", "model"),
        ("{\"prompt\": \"\\ud800\"}", "prompt"),
    ] {
        let answer = bob.browser.post_json(url, body).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{body}: {}",
            answer.text()
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.field(), field, "{body}: {}", answer.text());
        assert!(
            !answer.json()["detail"].as_str().unwrap().contains('\n'),
            "{}",
            answer.text()
        );
    }
    let too_long = format!("{{\"prompt\": \"{}\"}}", "x".repeat(10_001));
    assert_eq!(bob.browser.post_json(url, too_long).await.field(), "prompt");
    let bytes = bob
        .browser
        .post_json(url, vec![b'{', 0xff, 0xfe, b'}'])
        .await;
    assert_eq!(bytes.status, StatusCode::UNPROCESSABLE_ENTITY);

    let form = bob
        .browser
        .request(Method::POST, url)
        .header(CONTENT_TYPE, "text/plain");
    let form = bob
        .browser
        .send(form.body(Body::from("{\"prompt\":\"x\"}")).unwrap())
        .await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(form.header("content-type"), "application/problem+json");
    let wrong_method = bob.browser.get(url).await;
    assert_eq!(wrong_method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        (
            wrong_method.header("content-type"),
            wrong_method.header("allow")
        ),
        ("application/problem+json", "POST")
    );
    app.stop().await;
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_however_they_come() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    // This address takes images in base64; its limit is higher than the others'.
    let large = format!("{{\"prompt\": \"{}\"}}", "x".repeat(GENERATE_LIMIT));
    let told = bob
        .browser
        .post_json("/api/generate-image", large.clone())
        .await;
    assert_eq!(
        told.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        told.text()
    );
    assert_eq!(told.header("content-type"), "application/problem+json");
    // In pieces, without saying how much there will be.
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = large
        .as_bytes()
        .chunks(1024 * 1024)
        .map(|piece| Ok(piece.to_vec()))
        .collect();
    let body = Body::from_stream(futures::stream::iter(pieces));
    let untold = bob.browser.post_json("/api/generate-image", body).await;
    assert_eq!(
        untold.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        untold.text()
    );

    let password = "x".repeat(1024 * 1024);
    let form = app.anonymous().sign_in("bob", &password).await;
    assert!(form.status.is_client_error(), "{}", form.status);
    app.stop().await;
}

#[tokio::test]
async fn files_outside_the_interface_stay_where_they_are() {
    let app = TestApp::spawn().await;
    std::fs::create_dir_all(app.data_dir().join("site/pkg")).unwrap();
    std::fs::write(app.data_dir().join("site/pkg/atelier.js"), "export {}").unwrap();
    let visitor = app.anonymous();
    let file = visitor.get("/pkg/atelier.js").await;
    assert_eq!(
        (file.status, file.text().as_str()),
        (StatusCode::OK, "export {}")
    );
    assert_eq!(file.header("cache-control"), "no-cache");
    for path in [
        "/../atelier.db",
        "/pkg/../../atelier.db",
        "/pkg/..%2f..%2fatelier.db",
        "/%2e%2e/atelier.db",
        "/pkg/%2e%2e/%2e%2e/atelier.db",
        "/..%5catelier.db",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/pkg/atelier.js%00.css",
        "/pkg/....//....//atelier.db",
    ] {
        let answer = visitor.get(path).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        assert!(!answer.text().contains("SQLite format"), "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn health_is_told_without_signing_in() {
    let app = TestApp::spawn().await;
    let visitor = app.anonymous();
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = visitor.get(path).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (StatusCode::OK, "ok"),
            "{path}"
        );
    }
    app.services.shutdown.request();
    let stopping = visitor.get("/readyz").await;
    assert_eq!(stopping.status, StatusCode::SERVICE_UNAVAILABLE);
    app.stop().await;
}

#[tokio::test]
async fn policy_reports_are_taken_and_leave_nothing_behind() {
    let app = TestApp::spawn().await;
    for body in [
        "[{\"type\":\"csp-violation\",\"body\":{\"blockedURL\":\"inline\"}}]",
        "nonsense",
        "",
    ] {
        let visitor = app.anonymous();
        let request = visitor
            .request(Method::POST, "/csp-reports")
            .header(CONTENT_TYPE, "application/reports+json");
        let answer = visitor.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{body}");
    }
    app.stop().await;
}

#[tokio::test]
async fn signing_in_works_with_scripts_off() {
    let app = TestApp::spawn().await;
    app.member("bob").await;
    let post = async |browser: &Browser, password: &str| {
        let mut request = browser.call_request(
            "sign_in",
            &[
                ("name", "bob"),
                ("password", password),
                ("next", "/gallery"),
            ],
        );
        let headers = request.headers_mut();
        headers.insert("accept", "text/html,application/xhtml+xml".parse().unwrap());
        headers.insert("referer", "http://atelier.test/sign-in".parse().unwrap());
        browser.send(request).await
    };
    let browser = app.anonymous();
    let right = post(&browser, PASSWORD).await;
    assert_eq!(
        (right.status, right.header("location")),
        (StatusCode::FOUND, "/gallery")
    );
    assert_eq!(browser.get("/gallery").await.status, StatusCode::OK);

    let wrong = post(&app.anonymous(), "some wrong password").await;
    assert!(wrong.status.is_redirection(), "{}", wrong.status);
    assert!(
        wrong.header("location").contains("/sign-in"),
        "{}",
        wrong.header("location")
    );
    assert!(
        !wrong.header("location").contains("some"),
        "{}",
        wrong.header("location")
    );
    app.stop().await;
}

#[tokio::test]
async fn the_socket_answers_and_a_stop_ends_it_within_the_grace() {
    let app = TestApp::spawn().await;
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    socket
        .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok"),
        "{answer}"
    );
    // An idle connection does not hold the stop up.
    let idle = TcpStream::connect(app.address).await.unwrap();
    let address = app.address;
    let started = std::time::Instant::now();
    app.stop().await;
    assert!(
        started.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    drop(idle);
    assert!(TcpStream::connect(address).await.is_err());
}
