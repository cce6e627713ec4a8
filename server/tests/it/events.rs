//! The live stream: a snapshot, then every change of one's own jobs, until the server stops.

use super::test_app::{Person, TestApp, request};
use atelier_app::account::Role;
use atelier_app::backend::Client;
use atelier_app::studio::{JobState, JobView, LiveEvent};
use axum::body::Body;
use axum::http::Request;
use futures::StreamExt as _;
use serde_json::json;
use std::time::{Duration, Instant};

/// Longer than any of this takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A stream, read event by event.
struct Reader {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Reader {
    async fn open(app: &TestApp, request: Request<Body>) -> Self {
        let response = app.open(request).await;
        assert_eq!(response.status(), 200);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("x-accel-buffering"), "no");
        assert_eq!(header("cache-control"), "no-store");
        Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = field("data:") {
                    assert!(field("id:").is_some(), "{event}");
                    return Some(serde_json::from_str(data.trim()).unwrap());
                }
                continue;
            }
            let bytes = tokio::time::timeout(PATIENCE, self.body.next())
                .await
                .expect("the stream says something")?
                .unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn snapshot(&mut self) -> Vec<JobView> {
        match self.next().await {
            Some(LiveEvent::Snapshot { jobs }) => jobs,
            other => panic!("a stream begins with a snapshot, not {other:?}"),
        }
    }

    /// The views of one job until it has ended.
    async fn until_ended(&mut self, id: &str) -> Vec<JobView> {
        let mut views: Vec<JobView> = Vec::new();
        while !views.last().is_some_and(|view| view.state.is_final()) {
            match self.next().await {
                Some(LiveEvent::Job { job }) if job.id.0 == id => views.push(*job),
                Some(LiveEvent::Job { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        views
    }
}

async fn submit(app: &TestApp, who: &Person, steps: u32, side: u32) -> String {
    let body = json!({
        "prompt": "a red circle",
        "num_inference_steps": steps,
        "width": side,
        "height": side,
    });
    let mut request = request("POST", "/api/generate-image", who, Some(&body));
    request
        .headers_mut()
        .insert("prefer", "respond-async".parse().unwrap());
    let reply = app.call(request).await;
    assert_eq!(reply.status, 202);
    reply.header("x-atelier-job-id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_its_own_jobs_from_queue_to_image() {
    let app = TestApp::start().await;
    let (me, other) = (
        app.person("me", Role::Member).await,
        app.person("other", Role::Member).await,
    );
    let mut mine = Reader::open(&app, request("GET", "/api/events", &me, None)).await;
    let mut theirs = Reader::open(&app, request("GET", "/api/events", &other, None)).await;
    assert!(mine.snapshot().await.is_empty());
    assert!(theirs.snapshot().await.is_empty());

    let id = submit(&app, &me, 30, 128).await;
    let views = mine.until_ended(&id).await;
    let last = views.last().unwrap();
    assert_eq!(last.state, JobState::Done);
    assert!(last.image_id.is_some());
    assert_eq!((last.step, last.steps), (30, 30));
    let running: Vec<_> = views
        .iter()
        .filter(|view| view.state == JobState::Running)
        .collect();
    assert!(!running.is_empty());
    assert!(running.windows(2).all(|pair| pair[0].step <= pair[1].step));
    assert!(running.iter().any(|view| {
        let preview = view.preview.as_deref().unwrap_or("");
        view.step > 0
            && view.seconds_left.is_some()
            && preview.starts_with("data:image/png;base64,")
    }));

    // The other user's stream told nothing of it: their own job is the first thing they hear.
    let id = submit(&app, &other, 1, 64).await;
    match theirs.next().await {
        Some(LiveEvent::Job { job }) => assert_eq!(job.id.0, id),
        other => panic!("{other:?}"),
    }

    // Cancelled in the middle: the engine stops within a step, and no image is kept.
    let id = submit(&app, &me, 150, 320).await;
    loop {
        match mine.next().await {
            Some(LiveEvent::Job { job }) if job.id.0 == id && job.step > 0 => break,
            Some(_) => {}
            None => panic!("the stream ended"),
        }
    }
    // Whoever comes back meanwhile begins with it.
    let mut back = request("GET", "/api/events", &me, None);
    back.headers_mut()
        .insert("last-event-id", "12345".parse().unwrap());
    let mut back = Reader::open(&app, back).await;
    let snapshot = back.snapshot().await;
    assert_eq!(snapshot.len(), 1);
    assert_eq!(
        (snapshot[0].id.0.as_str(), snapshot[0].state),
        (id.as_str(), JobState::Running)
    );
    let path = format!("/api/jobs/{id}/cancel");
    let asked = app.call(request("POST", &path, &me, None)).await;
    assert_eq!(asked.status, 200);
    for reader in [&mut mine, &mut back] {
        let views = reader.until_ended(&id).await;
        let last = views.last().unwrap();
        assert_eq!((last.state, &last.image_id), (JobState::Cancelled, &None));
        assert!(last.step < 150);
    }

    // A stop ends the streams.
    app.services.shutdown.request();
    while let Some(event) = mine.next().await {
        assert!(matches!(event, LiveEvent::Job { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_may_not_listen() {
    let app = TestApp::without_worker().await;
    let with = |origin: Option<&str>| {
        let mut builder = Request::get("/api/events")
            .header("cookie", &app.cookie)
            .header("host", "127.0.0.1:3000");
        if let Some(origin) = origin {
            builder = builder.header("origin", origin);
        }
        builder.body(Body::empty()).unwrap()
    };
    for origin in ["https://evil.example", "http://127.0.0.1:3001", "null"] {
        assert_eq!(app.open(with(Some(origin))).await.status(), 403, "{origin}");
    }
    for origin in [None, Some("http://127.0.0.1:3000")] {
        let mut reader = Reader::open(&app, with(origin)).await;
        assert!(reader.snapshot().await.is_empty());
    }
    app.stop().await;
}

/// Waits for the stream's own look at the session: that is what it costs in seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_ends_its_stream() {
    let app = TestApp::without_worker().await;
    let with_cookie = Request::get("/api/events")
        .header("cookie", &app.cookie)
        .body(Body::empty())
        .unwrap();
    let mut reader = Reader::open(&app, with_cookie).await;
    reader.snapshot().await;
    let accounts = app.services.backend().accounts;
    let (admin, client) = (&app.admin.viewer, Client::default());
    let sessions = accounts.list_sessions(admin, &client).await.unwrap();
    accounts
        .revoke_session(admin, &sessions[0].id)
        .await
        .unwrap();
    let since = Instant::now();
    assert!(reader.next().await.is_none());
    assert!(since.elapsed() < Duration::from_secs(35));
    app.stop().await;
}
