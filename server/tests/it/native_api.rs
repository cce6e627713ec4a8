//! The JSON API: what it answers to good requests, to bad ones, and to other people.

use super::personas::Answer;
use super::test_app::{Person, TestApp, request};
use atelier_app::account::Role;
use atelier_app::backend::Jobs as _;
use atelier_app::studio::{GenerationRequest, JobId, JobState};
use atelier_server::jobs::queue::Queue;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use serde_json::{Value, json};
use std::time::Duration;

fn wanted() -> Value {
    json!({
        "prompt": "a red circle",
        "negative_prompt": "blur",
        "num_inference_steps": 3,
        "width": 64,
        "height": 64,
        "seed": 11,
        "a field of some other client": [1, 2, 3],
    })
}

fn with_headers(who: &Person, body: &Value, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = request("POST", "/api/generate-image", who, Some(body));
    for (name, value) in headers {
        request.headers_mut().insert(
            axum::http::HeaderName::try_from(*name).unwrap(),
            value.parse().unwrap(),
        );
    }
    request
}

fn problem(reply: &Answer, status: u16) -> Value {
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status.as_u16(), status, "{text}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let body = reply.json();
    assert_eq!(body["status"], status);
    assert!(!body["detail"].as_str().unwrap().contains('\n'), "{text}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_answered_and_kept() {
    let app = TestApp::start().await;
    let me = app.person("me", Role::Member).await;
    let wish = GenerationRequest {
        num_inference_steps: Some(3),
        ..GenerationRequest::default()
    };
    let estimate = async || {
        let (viewer, wish) = (&me.viewer, wish.clone());
        app.services.jobs.estimate(viewer, wish).await.unwrap()
    };
    // Nothing was made yet, so whatever is said is said to be a guess.
    let first = estimate().await;
    assert_eq!(
        first.takes_s.is_some(),
        first.guessed_from.is_some(),
        "{first:?}"
    );
    let png = app
        .call(with_headers(&me, &wanted(), &[("idempotency-key", "k1")]))
        .await;
    assert_eq!(png.status, 200, "{}", String::from_utf8_lossy(&png.body));
    assert_eq!(png.header("content-type"), "image/png");
    let picture = image::load_from_memory(&png.body).unwrap();
    assert_eq!((picture.width(), picture.height()), (64, 64));
    assert_eq!(png.header("x-atelier-seed"), "11");
    assert_eq!(png.header("x-atelier-device"), "cpu");
    assert_eq!(png.header("x-atelier-dtype"), "f32");
    assert!(
        png.header("x-atelier-total-seconds")
            .parse::<f64>()
            .unwrap()
            > 0.0
    );
    for phase in [
        "queue;dur=",
        "load;dur=",
        "text;dur=",
        "denoise;dur=",
        "decode;dur=",
    ] {
        let timing = png.header("server-timing");
        assert!(timing.contains(phase), "{timing}");
    }
    let (job, image) = (
        png.header("x-atelier-job-id").to_owned(),
        png.header("x-atelier-image-id").to_owned(),
    );

    // The same key: the same image, made once. In JSON this time.
    let headers = [("idempotency-key", "k1"), ("accept", "application/json")];
    let again = app.call(with_headers(&me, &wanted(), &headers)).await;
    assert_eq!(again.header("x-atelier-image-id"), image);
    assert_eq!(again.header("content-type"), "application/json");
    let told = again.json();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(told["image"].as_str().unwrap())
        .unwrap();
    assert_eq!(bytes, png.body);
    assert_eq!(told["seed"], 11);
    assert_eq!(told["settings"]["negative_prompt"], "blur");
    assert_eq!(told["settings"]["num_inference_steps"], 3);
    assert_eq!(told["url"], format!("/images/{image}.png"));

    // Another request with the same seed: another image, the same pixels.
    let mut anew = wanted();
    anew["use_cache"] = false.into();
    let twin = app.call(with_headers(&me, &anew, &[])).await;
    assert_ne!(twin.header("x-atelier-image-id"), image);
    let twin = image::load_from_memory(&twin.body).unwrap();
    assert_eq!(twin.as_bytes(), picture.as_bytes());

    // In the caller's gallery, and in nobody else's.
    let gallery = app.get(&me, "/api/images").await.json();
    assert_eq!(gallery["total"], 2);
    assert_eq!(gallery["images"][1]["id"], image);
    let detail = app.get(&me, &format!("/api/images/{image}")).await.json();
    assert_eq!(detail["job_id"], job);
    let file = app.get(&me, &format!("/images/{image}.png")).await;
    assert_eq!(file.body, png.body);
    assert_eq!(app.get(&app.admin, "/api/images").await.json()["total"], 0);
    let nowhere = "00000000-0000-7000-8000-000000000000";
    for (path, id) in [
        ("/api/images/ID", &image),
        ("/images/ID.png", &image),
        ("/api/jobs/ID", &job),
    ] {
        let theirs = app.get(&app.admin, &path.replace("ID", id)).await;
        let nothing = app.get(&app.admin, &path.replace("ID", nowhere)).await;
        assert_eq!(theirs.status, 404, "{path}");
        assert_eq!(theirs.body, nothing.body, "{path}");
    }

    // The job is over and says so.
    let ended = app.get(&me, &format!("/api/jobs/{job}")).await.json();
    assert_eq!(ended["state"], "done");
    assert_eq!(ended["progress"], 1.0);
    assert_eq!(ended["image_id"], image);

    let models = app.get(&me, "/api/models").await.json();
    assert_eq!(models[0]["name"], super::test_app::MODEL);
    assert_eq!(models[0]["is_default"], true);

    let deleted = app
        .call(request(
            "DELETE",
            &format!("/api/images/{image}"),
            &me,
            None,
        ))
        .await;
    assert_eq!(deleted.status, 204);
    assert_eq!(
        app.get(&me, &format!("/api/images/{image}")).await.status,
        404
    );

    // What was measured is what the next one is estimated from.
    // In the trash or not, it took what it took.
    assert_eq!(app.services.jobs.step_times().await.unwrap().len(), 2);
    let estimate = estimate().await;
    assert_eq!(estimate.starts_in_s, Some(0.0));
    assert_eq!(estimate.guessed_from, None);
    assert!(estimate.takes_s.is_some_and(|seconds| seconds > 0.0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_names_its_field_and_queues_nothing() {
    let app = TestApp::without_worker().await;
    let me = app.person("me", Role::Member).await;
    let long = "x".repeat(10_001);
    let cases = [
        ("prompt", json!("")),
        ("prompt", json!(" \n\t ")),
        ("prompt", json!(long)),
        ("prompt", json!(5)),
        ("prompt", Value::Null),
        ("negative_prompt", json!(long)),
        ("negative_prompt", json!(["a"])),
        ("num_inference_steps", json!(0)),
        ("num_inference_steps", json!(151)),
        ("num_inference_steps", json!(-1)),
        ("num_inference_steps", json!(2.5)),
        ("num_inference_steps", json!("20")),
        ("num_inference_steps", json!(1e99)),
        ("guidance_scale", json!(-1)),
        ("guidance_scale", json!(1e9)),
        ("guidance_scale", json!("NaN")),
        ("width", json!(0)),
        ("width", json!(63)),
        ("width", json!(1_000_000)),
        ("height", json!(100.5)),
        ("height", json!(1)),
        ("height", json!(4_294_967_296_i64)),
        ("seed", json!(-1)),
        ("seed", json!("1")),
        ("scheduler", json!("no such")),
        ("scheduler", json!(1)),
        ("model", json!("no such")),
        ("model", json!("../../etc/passwd")),
    ];
    for (field, value) in cases {
        let mut body = wanted();
        body[field] = value.clone();
        let reply = app.post(&me, "/api/generate-image", &body).await;
        let told = problem(&reply, 422);
        assert_eq!(told["field"], field, "{value}: {told}");
    }
    // 10 000 characters are fine, however many bytes they take.
    let mut body = wanted();
    body["prompt"] = "é".repeat(10_000).into();
    let reply = app
        .call(with_headers(&me, &body, &[("prefer", "respond-async")]))
        .await;
    assert_eq!(reply.status, 202);

    // Not JSON at all, or not an object.
    for text in [
        "",
        "{",
        "{\"prompt\": \"a\", \"guidance_scale\": NaN}",
        "{\"prompt\": \"a\", \"guidance_scale\": 1e999}",
        "{\"prompt\": \"\\ud800\"}",
        "[]x",
        "\"a\"",
        "null",
    ] {
        let mut request = request("POST", "/api/generate-image", &me, Some(&Value::Null));
        *request.body_mut() = Body::from(text);
        let told = problem(&app.call(request).await, 422);
        assert!(told["field"].is_string(), "{text}: {told}");
    }
    let mut bare = request("POST", "/api/generate-image", &me, None);
    *bare.body_mut() = Body::from(wanted().to_string());
    problem(&app.call(bare).await, 415);
    let huge = json!({ "prompt": "x".repeat(atelier_server::http::GENERATE_LIMIT) });
    problem(&app.post(&me, "/api/generate-image", &huge).await, 413);
    problem(&app.get(&me, "/api/generate-image").await, 405);
    problem(&app.get(&me, "/api/no-such-thing").await, 404);
    for limit in ["0", "1000", "x"] {
        let reply = app.get(&me, &format!("/api/images?limit={limit}")).await;
        assert!(reply.status.is_client_error(), "{limit}: {}", reply.status);
    }
    let long_key = "k".repeat(201);
    for key in ["", long_key.as_str()] {
        let reply = app
            .call(with_headers(&me, &wanted(), &[("idempotency-key", key)]))
            .await;
        assert_eq!(problem(&reply, 422)["field"], "Idempotency-Key");
    }

    let jobs = app.get(&me, "/api/jobs").await.json();
    assert_eq!(jobs.as_array().unwrap().len(), 1, "{jobs}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whoever_may_generates() {
    let app = TestApp::without_worker().await;
    let looker = app.person("looker", Role::Viewer).await;
    let reply = app.post(&looker, "/api/generate-image", &wanted()).await;
    problem(&reply, 403);

    let with_authorization = |value: &str| {
        let mut request = request("POST", "/api/generate-image", &looker, Some(&wanted()));
        request
            .headers_mut()
            .insert("authorization", value.parse().unwrap());
        request
    };
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer atl_nonsense",
        "Basic YTpi",
        looker.token.as_str(),
    ] {
        let reply = app.call(with_authorization(value)).await;
        problem(&reply, 401);
        assert_eq!(reply.header("www-authenticate"), "Bearer", "{value}");
    }
    let mut nobody = with_authorization("x");
    nobody.headers_mut().remove("authorization");
    problem(&app.call(nobody).await, 401);
    // A bad body of somebody unknown tells nothing about bodies.
    let mut nobody = with_authorization("Bearer x");
    *nobody.body_mut() = Body::from("{");
    problem(&app.call(nobody).await, 401);
    for path in ["/api/jobs", "/api/models", "/api/images", "/api/events"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        problem(&app.call(request).await, 401);
    }

    // A revoked token ends at once.
    let me = app.person("me", Role::Member).await;
    assert_eq!(app.get(&me, "/api/jobs").await.status, 200);
    let accounts = app.services.backend().accounts;
    let tokens = accounts.list_tokens(&me.viewer).await.unwrap();
    accounts
        .revoke_token(&me.viewer, tokens[0].id)
        .await
        .unwrap();
    problem(&app.get(&me, "/api/jobs").await, 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_seen_and_stopped_by_their_owner_only() {
    let app = TestApp::with_limits(2, 3).await;
    let (me, other) = (
        app.person("me", Role::Member).await,
        app.person("other", Role::Member).await,
    );
    let ask = async |who: &Person| {
        app.call(with_headers(who, &wanted(), &[("prefer", "respond-async")]))
            .await
    };
    let first = ask(&me).await;
    assert_eq!(first.status, 202);
    assert_eq!(first.header("preference-applied"), "respond-async");
    let place = first.header("location").to_owned();
    assert_eq!(
        place,
        format!("/api/jobs/{}", first.header("x-atelier-job-id"))
    );
    let told = first.json();
    assert_eq!(
        (&told["state"], &told["progress"]),
        (&json!("queued"), &json!(0.0))
    );
    assert_eq!(told["position"], 0);
    let second = ask(&me).await;
    assert_eq!(second.json()["position"], 1);
    // The other user goes between the two.
    assert_eq!(ask(&other).await.json()["position"], 1);
    let place_of_second = second.header("location").to_owned();
    assert_eq!(app.get(&me, &place_of_second).await.json()["position"], 2);

    // Full, for me and for everybody.
    for who in [&me, &other] {
        let full = ask(who).await;
        let told = problem(&full, 429);
        let wait: u32 = full.header("retry-after").parse().unwrap();
        assert!(wait >= 1, "{told}");
    }

    // Somebody else's job, a job that never was, and a text that is no id: one answer.
    let mut answers = Vec::new();
    for id in [place.as_str(), "/api/jobs/0193", "/api/jobs/%00%27--"] {
        for (method, path) in [
            ("GET", id.to_owned()),
            ("DELETE", id.to_owned()),
            ("POST", format!("{id}/cancel")),
        ] {
            let reply = app.call(request(method, &path, &other, None)).await;
            problem(&reply, 404);
            answers.push(reply.body);
        }
    }
    assert!(answers.iter().all(|body| *body == answers[0]));
    assert_eq!(app.get(&me, &place).await.json()["state"], "queued");

    let cancelled = app
        .call(request("POST", &format!("{place}/cancel"), &me, None))
        .await;
    assert_eq!(
        (cancelled.status, &cancelled.json()["state"]),
        (StatusCode::OK, &json!("cancelled"))
    );
    let cancelled = app
        .call(request("DELETE", &place_of_second, &me, None))
        .await;
    assert_eq!(cancelled.json()["state"], "cancelled");
    // Again is no error; and the places are free.
    let again = app.call(request("DELETE", &place, &me, None)).await;
    assert_eq!(
        (again.status, &again.json()["state"]),
        (StatusCode::OK, &json!("cancelled"))
    );
    assert_eq!(ask(&me).await.status, 202);
    let jobs = app.get(&me, "/api/jobs").await.json();
    let states: Vec<_> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["state"].clone())
        .collect();
    assert_eq!(states, ["queued", "cancelled", "cancelled"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_hears_how_the_job_ended() {
    let app = TestApp::without_worker().await;
    let body = wanted();
    let queue = Queue::new(app.services.db.clone());
    let waiting_job = async || loop {
        let jobs = app.get(&app.admin, "/api/jobs").await.json();
        if jobs[0]["state"] == "queued" {
            return JobId(jobs[0]["id"].as_str().unwrap().into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };

    let ask = app.post(&app.admin, "/api/generate-image", &body);
    let fail = async {
        let id = waiting_job().await;
        let claim = queue
            .claim("test", Duration::from_secs(60))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(claim.id, id);
        queue
            .fail(&claim, "The weights are damaged.")
            .await
            .unwrap();
    };
    let (reply, ()) = tokio::join!(ask, fail);
    let told = problem(&reply, 500);
    assert_eq!(told["detail"], "The weights are damaged.");

    let ask = app.post(&app.admin, "/api/generate-image", &body);
    let cancel = async {
        let id = waiting_job().await;
        let path = format!("/api/jobs/{}/cancel", id.0);
        app.call(request("POST", &path, &app.admin, None)).await;
    };
    let (reply, ()) = tokio::join!(ask, cancel);
    problem(&reply, 409);
    assert!(!reply.header("x-atelier-job-id").is_empty());

    // Whoever goes away leaves a job that stays.
    let gone = app.post(&app.admin, "/api/generate-image", &body);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), gone)
            .await
            .is_err()
    );
    let left = waiting_job().await;
    let row = queue.job(&left).await.unwrap().unwrap();
    assert_eq!(row.state, JobState::Queued);
    app.stop().await;
}
