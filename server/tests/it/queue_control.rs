//! What administrators do to the queue as a whole: pausing, draining, stopping, moving. Places are
//! tested beside the fair order that they override, on a simulated clock.

use super::bench::{Bench, LEASE, ROOMY, image, settings};
use super::personas::{Answer, Browser};
use super::test_app::{Person, TestApp, request as request_of};
use atelier_app::account::{Role, UserId};
use atelier_app::studio::JobId;
use atelier_server::jobs::queue::Enqueued;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Asks for an image and waits for no more than the job.
async fn post_async(app: &TestApp, who: &Person) -> Answer {
    let mut request = request_of("POST", "/api/generate-image", who, Some(&wanted()));
    request
        .headers_mut()
        .insert("prefer", "respond-async".parse().unwrap());
    app.call(request).await
}

fn wanted() -> Value {
    json!({ "prompt": "a secret wish", "num_inference_steps": 2, "width": 64, "height": 64 })
}

/// Queues an image and answers its job's id.
async fn ask(app: &TestApp, who: &Person) -> String {
    let answer = post_async(app, who).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn act(browser: &Browser, function: &str, fields: &[(&str, &str)]) -> Value {
    let answer = browser.call(function, fields).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{function}: {}",
        answer.text()
    );
    answer.json()
}

async fn report(browser: &Browser) -> Value {
    act(browser, "load_queue_report", &[("filter[state]", "")]).await
}

/// Ids of what waits, in the order that the page shows.
async fn waiting(browser: &Browser) -> Vec<String> {
    report(browser).await["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["state"] == "queued")
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn claim(app: &TestApp) -> Option<String> {
    let queue = atelier_server::jobs::queue::Queue::new(app.services.db.clone());
    let claim = queue.claim("w", LEASE).await.unwrap()?;
    assert!(queue.finish(&claim, &image(), 1.0).await.unwrap());
    Some(claim.id.0)
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_says_so_and_stays_paused_over_a_restart() {
    let app = TestApp::without_worker().await;
    let admin = app.browser_of("ada").await;
    let bob = app.person("bob", Role::Member).await;
    let job = ask(&app, &bob).await;
    act(
        &admin,
        "set_queue_hold",
        &[("hold", "paused"), ("on", "true")],
    )
    .await;
    assert_eq!(claim(&app).await, None, "nothing starts");
    // New images are still taken, and whoever waits is told.
    let second = ask(&app, &bob).await;
    let view = app.get(&bob, &format!("/api/jobs/{job}")).await.json();
    assert_eq!(view["held"], "The queue is paused by an administrator.");
    assert!(view["seconds_left"].is_null());
    let told = report(&admin).await;
    assert_eq!(told["paused"]["by"], app.admin.viewer.name.as_str());
    assert!(told["closed"].is_null());
    assert!(told["rows"][0]["starts_in_s"].is_null());
    assert!(
        !told.to_string().contains("a secret wish"),
        "never the prompt"
    );

    // Another server on the same rows, as after a restart.
    let again = atelier_server::jobs::queue::Queue::new(app.services.db.clone());
    assert!(again.claim("w", LEASE).await.unwrap().is_none());

    act(
        &admin,
        "set_queue_hold",
        &[("hold", "paused"), ("on", "false")],
    )
    .await;
    let view = app.get(&bob, &format!("/api/jobs/{job}")).await.json();
    assert!(view.get("held").is_none(), "{view}");
    assert_eq!(claim(&app).await, Some(job));
    assert_eq!(claim(&app).await, Some(second));
    app.stop().await;
}

#[tokio::test]
async fn a_draining_queue_finishes_what_waits_and_refuses_what_is_new() {
    let app = TestApp::without_worker().await;
    let admin = app.browser_of("ada").await;
    let bob = app.person("bob", Role::Member).await;
    let job = ask(&app, &bob).await;
    act(
        &admin,
        "set_queue_hold",
        &[("hold", "closed"), ("on", "true")],
    )
    .await;
    let refused = post_async(&app, &bob).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.header("retry-after").is_empty());
    let words = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(words.contains("no new images"), "{words}");
    // The page's own door refuses in the same words.
    let fields = [("prompt", "x")];
    let refused = admin.call("submit_generation", &fields).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(report(&admin).await["queued"], 1);
    assert_eq!(claim(&app).await, Some(job), "what waits is made");
    let drained = report(&admin).await;
    assert_eq!(
        (&drained["queued"], &drained["running"]),
        (&json!(0), &json!(0))
    );
    let page = admin.get("/admin/queue").await;
    assert!(page.text().contains("The queue is drained"));
    act(
        &admin,
        "set_queue_hold",
        &[("hold", "closed"), ("on", "false")],
    )
    .await;
    ask(&app, &bob).await;
    app.stop().await;
}

#[tokio::test]
async fn jobs_are_stopped_one_by_one_together_and_by_owner() {
    let app = TestApp::without_worker().await;
    let admin = app.browser_of("ada").await;
    let bob = app.person("bob", Role::Member).await;
    let eve = app.person("eve", Role::Member).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(ask(&app, &bob).await);
    }
    let hers = [ask(&app, &eve).await, ask(&app, &eve).await];
    let none = admin.call("cancel_jobs", &[]).await;
    assert_eq!(
        (none.status, none.field()),
        (StatusCode::UNPROCESSABLE_ENTITY, "ids".into())
    );
    let two = [("ids[0]", jobs[0].as_str()), ("ids[1]", jobs[1].as_str())];
    assert_eq!(act(&admin, "cancel_jobs", &two).await, 2);
    assert_eq!(act(&admin, "cancel_jobs", &two).await, 0, "they have ended");
    let view = app
        .get(&bob, &format!("/api/jobs/{}", jobs[0]))
        .await
        .json();
    assert_eq!(view["state"], "cancelled");
    assert_eq!(view["error"], "An administrator cancelled it.");
    let id = eve.viewer.id.0.to_string();
    assert_eq!(act(&admin, "cancel_jobs", &[("user", &id)]).await, 2);
    for job in &hers {
        let view = app.get(&eve, &format!("/api/jobs/{job}")).await.json();
        assert_eq!(view["state"], "cancelled");
    }
    let nobody = admin.call("cancel_jobs", &[("user", "4711")]).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    assert_eq!(waiting(&admin).await, [jobs[2].clone()]);
    assert_eq!(act(&admin, "cancel_jobs", &[("waiting", "true")]).await, 1);
    // What somebody stops themselves is said to be theirs.
    let own = ask(&app, &bob).await;
    let path = format!("/api/jobs/{own}/cancel");
    let view = app.post(&bob, &path, &json!({})).await.json();
    assert_eq!(
        (&view["state"], &view["error"]),
        (&json!("cancelled"), &Value::Null)
    );
    app.stop().await;
}

#[tokio::test]
async fn the_page_shows_and_keeps_the_order_in_which_jobs_start() {
    let app = TestApp::without_worker().await;
    let admin = app.browser_of("ada").await;
    let bob = app.person("bob", Role::Member).await;
    let eve = app.person("eve", Role::Member).await;
    for _ in 0..4 {
        ask(&app, &bob).await;
    }
    for _ in 0..2 {
        ask(&app, &eve).await;
    }
    let moves = |id: String, to: &'static str| {
        let admin = &admin;
        async move { act(admin, "move_job", &[("id", &id), ("to", to)]).await }
    };
    // The last of the list goes first, then one back; the others keep their order.
    let before = waiting(&admin).await;
    let last = before.last().unwrap().clone();
    moves(last.clone(), "front").await;
    assert_eq!(waiting(&admin).await[0], last);
    moves(last.clone(), "down").await;
    assert_eq!(waiting(&admin).await[1], last);
    let third = waiting(&admin).await[2].clone();
    moves(third.clone(), "up").await;
    let now = waiting(&admin).await;
    assert_eq!((&now[1], &now[2]), (&third, &last));
    let end = now[0].clone();
    let fields = [
        ("id", end.as_str()),
        ("to", "before"),
        ("before", now[4].as_str()),
    ];
    act(&admin, "move_job", &fields).await;
    let shown = waiting(&admin).await;
    assert_eq!(shown[3], end, "directly before {}: {shown:?}", now[4]);
    // What is shown is what happens.
    let mut started = Vec::new();
    while let Some(job) = claim(&app).await {
        started.push(job);
    }
    assert_eq!(started, shown);
    let gone = admin
        .call("move_job", &[("id", &last), ("to", "front")])
        .await;
    assert_eq!(
        (gone.status, gone.field()),
        (StatusCode::UNPROCESSABLE_ENTITY, "id".into())
    );
    app.stop().await;
}

#[tokio::test]
async fn only_administrators_touch_the_queue_and_each_act_is_written_down() {
    let app = TestApp::without_worker().await;
    let admin = app.browser_of("ada").await;
    let bob = app.person("bob", Role::Member).await;
    let job = ask(&app, &bob).await;
    let other = ask(&app, &bob).await;
    type Act<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let acts: [Act<'_>; 6] = [
        (
            "set_queue_hold",
            &[("hold", "paused"), ("on", "true")],
            "queue.pause",
        ),
        (
            "set_queue_hold",
            &[("hold", "paused"), ("on", "false")],
            "queue.resume",
        ),
        (
            "set_queue_hold",
            &[("hold", "closed"), ("on", "true")],
            "queue.drain",
        ),
        (
            "set_queue_hold",
            &[("hold", "closed"), ("on", "false")],
            "queue.accept",
        ),
        ("move_job", &[("id", &other), ("to", "front")], "queue.move"),
        ("cancel_jobs", &[("ids[0]", &job)], "queue.cancel"),
    ];
    let member = app.browser_of("bob").await;
    for (function, fields, word) in acts {
        let refused = member.call(function, fields).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{function}");
        act(&admin, function, fields).await;
        let newest: (String, String) =
            sqlx::query_as("select actor, act from audit order by id desc limit 1")
                .fetch_one(app.services.db.read())
                .await
                .unwrap();
        assert_eq!(newest, (app.admin.viewer.name.clone(), word.into()));
    }
    assert_eq!(
        member
            .call("load_queue_report", &[("filter[state]", "")])
            .await
            .status,
        StatusCode::FORBIDDEN
    );
    // Saying the same once more is no act.
    let count = || async {
        sqlx::query_scalar::<_, i64>("select count(*) from audit")
            .fetch_one(app.services.db.read())
            .await
            .unwrap()
    };
    let before = count().await;
    act(
        &admin,
        "set_queue_hold",
        &[("hold", "closed"), ("on", "false")],
    )
    .await;
    assert_eq!(count().await, before);
    app.stop().await;
}

/// Gives a job a place, as the page does.
async fn place(bench: &Bench, id: &JobId, place: i64) {
    let mut write = bench.db.write().await.unwrap();
    sqlx::query("update job set place = ? where id = ?")
        .bind(place)
        .bind(&id.0)
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
}

async fn run_all(bench: &Bench, seconds: f64) -> Vec<(JobId, UserId)> {
    let mut runs = Vec::new();
    while let Some(claim) = bench.queue.claim("w", LEASE).await.unwrap() {
        assert!(bench.queue.finish(&claim, &image(), seconds).await.unwrap());
        runs.push((claim.id, claim.user_id));
    }
    runs
}

#[tokio::test]
async fn a_place_overrides_the_fair_order_for_its_job_only() {
    let bench = Bench::new().await;
    let (greedy, modest) = (bench.user("greedy").await, bench.user("modest").await);
    let mut jobs = Vec::new();
    for _ in 0..8 {
        jobs.push(bench.enqueue(greedy, 10.0).await);
    }
    for _ in 0..3 {
        bench.enqueue(modest, 10.0).await;
    }
    // The greedy one's last job starts third, whatever else.
    let moved = jobs.last().unwrap().clone();
    place(&bench, &moved, 2).await;
    let foreseen: Vec<JobId> = bench
        .queue
        .fair_order(None)
        .await
        .unwrap()
        .into_iter()
        .map(|job| job.id)
        .collect();
    let runs = run_all(&bench, 10.0).await;
    let started: Vec<JobId> = runs.iter().map(|run| run.0.clone()).collect();
    assert_eq!(started, foreseen, "what is shown is what happens");
    assert_eq!(started[2], moved);
    // Its owner paid for it: of the first six, the modest one has three like without it.
    let first: Vec<UserId> = runs.iter().take(6).map(|run| run.1).collect();
    assert_eq!(
        first.iter().filter(|user| **user == modest).count(),
        3,
        "{first:?}"
    );
    // The greedy one's other jobs kept their own order.
    let others: Vec<&JobId> = runs
        .iter()
        .filter(|run| run.1 == greedy && run.0 != moved)
        .map(|run| &run.0)
        .collect();
    assert_eq!(others, jobs[..7].iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_place_beyond_the_end_goes_last_and_a_lost_job_keeps_its_place() {
    let bench = Bench::new().await;
    let user = bench.user("ada").await;
    let first = bench.enqueue(user, 1.0).await;
    let second = bench.enqueue(user, 1.0).await;
    place(&bench, &first, 7).await;
    let claim = bench.claim("w", LEASE).await;
    assert_eq!(claim.id, second);
    assert!(bench.queue.release(&claim).await.unwrap());
    place(&bench, &first, 0).await;
    let claim = bench.claim("w", LEASE).await;
    assert_eq!(claim.id, first);
    assert!(bench.queue.release(&claim).await.unwrap());
    assert_eq!(
        bench.claim("w", LEASE).await.id,
        first,
        "it goes first again"
    );
}

#[tokio::test]
async fn a_closed_queue_answers_a_repeated_request_as_before() {
    let bench = Bench::new().await;
    let user = bench.user("ada").await;
    let asked = settings();
    let ask = || bench.queue.enqueue(user, &asked, 1.0, Some("key"), ROOMY);
    assert!(matches!(ask().await.unwrap(), Enqueued::New(_)));
    bench
        .write("insert into setting (name, value, changed_at) values ('queue_closed', 'ada', 1)")
        .await;
    assert!(matches!(ask().await.unwrap(), Enqueued::Replayed(_)));
    let fresh = bench
        .queue
        .enqueue(user, &asked, 1.0, None, ROOMY)
        .await
        .unwrap();
    assert!(matches!(fresh, Enqueued::Closed), "{fresh:?}");
}
