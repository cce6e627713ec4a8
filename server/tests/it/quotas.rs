//! Quotas: limits of days and months, checked in the transaction that queues; weights; what was used,
//! kept when images go; and the words that people read, in every door.

use super::bench::{Bench, LEASE, ROOMY, image, settings};
use crate::personas::{Answer, Browser, TestApp};
use atelier_app::account::{QuotaLimits, UserId};
use atelier_app::admin::UsageSpan;
use atelier_app::backend::Usage as _;
use atelier_server::accounts::quotas::{QuotaService, Shortfall};
use atelier_server::audit::Actor;
use atelier_server::db::now_ms;
use atelier_server::jobs::queue::{Dead, Enqueued, EnqueuedAll, NewJob};
use atelier_server::usage::UsageService;
use axum::http::StatusCode;
use std::sync::Arc;

const NONE: QuotaLimits = QuotaLimits {
    day_images: None,
    day_seconds: None,
    month_images: None,
    month_seconds: None,
};

/// A queue with a quota for everybody.
async fn bench_with(limits: QuotaLimits) -> (Bench, QuotaService) {
    let bench = Bench::new().await;
    let quotas = QuotaService::new(bench.db.clone());
    quotas
        .set_everybodys(&Actor::command_line(), limits)
        .await
        .unwrap();
    (bench, quotas)
}

/// Asks for so many images of one cost, as one request.
async fn ask(bench: &Bench, user: UserId, count: usize, cost: f64) -> EnqueuedAll {
    let job = NewJob {
        settings: settings(),
        cost,
        cost_is_measured: true,
        from_image: None,
    };
    let jobs = vec![job; count];
    let asked = bench.queue.enqueue_all(user, &jobs, None, ROOMY).await;
    asked.unwrap()
}

fn lacking(asked: EnqueuedAll) -> Shortfall {
    match asked {
        EnqueuedAll::OverQuota(lacks) => lacks,
        other => panic!("{other:?}"),
    }
}

fn queued(asked: EnqueuedAll) -> usize {
    match asked {
        EnqueuedAll::New(rows) => rows.len(),
        other => panic!("{other:?}"),
    }
}

/// Runs the next job as if it had taken so many seconds of the device.
async fn run_for(bench: &Bench, seconds: f64) {
    let claim = bench.claim("w", LEASE).await;
    let finished = bench.queue.finish(&claim, &image(), seconds).await;
    assert!(finished.unwrap());
}

#[tokio::test]
async fn images_of_a_day_are_counted_before_during_and_after() {
    let (bench, quotas) = bench_with(QuotaLimits {
        day_images: Some(3),
        ..NONE
    })
    .await;
    let (ann, bob) = (bench.user("ann").await, bench.user("bob").await);
    assert_eq!(queued(ask(&bench, ann, 2, 1.0).await), 2);
    run_for(&bench, 5.0).await;
    // One made, one waiting, one left: two are too many and nothing of them is queued; one is not.
    let lacks = lacking(ask(&bench, ann, 2, 1.0).await);
    assert!(
        lacks
            .message
            .starts_with("Of your 3 images a day 1 is left, and this request asks for 2."),
        "{}",
        lacks.message
    );
    assert!((1..=86_400).contains(&lacks.retry_after_s));
    assert_eq!(bench.queue.depth().await.unwrap(), (1, 0));
    assert_eq!(queued(ask(&bench, ann, 1, 1.0).await), 1);
    bench.claim("w", LEASE).await;
    let lacks = lacking(ask(&bench, ann, 1, 1.0).await);
    assert!(
        lacks
            .message
            .starts_with("Your quota of 3 images a day is used up."),
        "{}",
        lacks.message
    );
    // Others are not touched.
    assert_eq!(queued(ask(&bench, bob, 3, 1.0).await), 3);
    // On the next day what was made is forgotten; what runs and waits is not.
    bench.write("update usage set day = day - 1").await;
    assert_eq!(queued(ask(&bench, ann, 1, 1.0).await), 1);
    lacking(ask(&bench, ann, 1, 1.0).await);
    assert_eq!(quotas.report(ann, now_ms()).await.unwrap().day.images, 3);
}

#[tokio::test]
async fn device_seconds_of_a_month_are_those_that_were_used() {
    let (bench, quotas) = bench_with(QuotaLimits {
        month_seconds: Some(100),
        ..NONE
    })
    .await;
    let ann = bench.user("ann").await;
    for seconds in [40.0, 50.0] {
        queued(ask(&bench, ann, 1, 1.0).await);
        run_for(&bench, seconds).await;
    }
    let report = quotas.report(ann, now_ms()).await.unwrap();
    assert_eq!((report.month.seconds, report.month.images), (90.0, 2));
    // A request is counted whole, by what its images are thought to take.
    let lacks = lacking(ask(&bench, ann, 4, 3.0).await);
    assert!(
        lacks.message.starts_with(
            "Of your 100 s of device time a month 10.0 s are left, and this request will take about 12.0 s;"
        ),
        "{}",
        lacks.message
    );
    queued(ask(&bench, ann, 3, 3.0).await);
    // What waits is used already.
    lacking(ask(&bench, ann, 1, 3.0).await);
    for _ in 0..3 {
        run_for(&bench, 20.0).await;
    }
    let lacks = lacking(ask(&bench, ann, 1, 0.1).await);
    assert!(
        lacks
            .message
            .starts_with("Your quota of 100 s of device time a month is used up."),
        "{}",
        lacks.message
    );
    let left_ms = report.month_ends_at - now_ms();
    assert!(i64::from(lacks.retry_after_s) * 1000 <= left_ms + 1000);
    // Deleting the images gives nothing back; the next month does.
    bench.write("delete from image").await;
    lacking(ask(&bench, ann, 1, 0.1).await);
    let later = quotas.report(ann, report.month_ends_at).await.unwrap();
    assert_eq!((later.month.seconds, later.month.images), (0.0, 0));
    bench.write("update usage set day = day - 31").await;
    assert_eq!(queued(ask(&bench, ann, 1, 0.1).await), 1);
}

#[tokio::test]
async fn what_was_never_measured_is_not_refused_for_a_guess() {
    let (bench, _) = bench_with(QuotaLimits {
        day_seconds: Some(5),
        ..NONE
    })
    .await;
    let ann = bench.user("ann").await;
    let guess = |from_image| NewJob {
        settings: settings(),
        cost: 10.0,
        cost_is_measured: false,
        from_image,
    };
    let ask = async |job: NewJob| {
        let asked = bench.queue.enqueue_all(ann, &[job], None, ROOMY).await;
        asked.unwrap()
    };
    assert_eq!(queued(ask(guess(None)).await), 1);
    // That one may take all there is.
    lacking(ask(guess(None)).await);
    run_for(&bench, 5.0).await;
    lacking(ask(guess(None)).await);
    // What is there already costs nothing, whatever is used up.
    let made: String = sqlx::query_scalar("select id from image")
        .fetch_one(bench.db.read())
        .await
        .unwrap();
    let made = guess(Some(atelier_app::gallery::ImageId(made)));
    assert_eq!(queued(ask(made).await), 1);
    let report = QuotaService::new(bench.db.clone())
        .report(ann, now_ms())
        .await;
    assert_eq!(report.unwrap().day.images, 1);
}

#[tokio::test]
async fn a_request_that_comes_again_is_not_counted_again() {
    let (bench, _) = bench_with(QuotaLimits {
        day_images: Some(1),
        ..NONE
    })
    .await;
    let ann = bench.user("ann").await;
    let ask = async |key: &str| {
        let settings = settings();
        let asked = bench.queue.enqueue(ann, &settings, 1.0, Some(key), ROOMY);
        asked.await.unwrap()
    };
    assert!(matches!(ask("k").await, Enqueued::New(_)));
    assert!(matches!(ask("k").await, Enqueued::Replayed(_)));
    assert!(matches!(ask("other").await, Enqueued::OverQuota(_)));
}

#[tokio::test]
async fn cancelled_failed_and_crashed_jobs_cost_their_time_and_no_image() {
    let (bench, quotas) = bench_with(NONE).await;
    let ann = bench.user("ann").await;
    for end in 0..4 {
        let waiting = bench.enqueue(ann, 1.0).await;
        if end == 3 {
            // Cancelled while it waited: nothing was used.
            bench.queue.cancel(&waiting, None).await.unwrap();
            continue;
        }
        let mut claim = bench.claim("w", LEASE).await;
        bench
            .write("update job set started_at = started_at - 20000, max_attempts = 1 where state = 'running'")
            .await;
        claim.started_at -= 20_000;
        match end {
            0 => assert!(bench.queue.fail(&claim, "out of memory").await.unwrap()),
            1 => {
                bench.queue.cancel(&claim.id, None).await.unwrap();
                assert!(bench.queue.confirm_cancel(&claim, 20.0).await.unwrap());
            }
            _ => drop(
                bench
                    .queue
                    .reap(Dead::Crashed("w"), "crashed")
                    .await
                    .unwrap(),
            ),
        }
    }
    let report = quotas.report(ann, now_ms()).await.unwrap();
    assert_eq!(report.day.images, 0);
    assert!((60.0..70.0).contains(&report.day.seconds), "{report:?}");
    // What the server itself put back is nobody's.
    bench.enqueue(ann, 1.0).await;
    let claim = bench.claim("w", LEASE).await;
    bench
        .write("update job set started_at = started_at - 900000 where state = 'running'")
        .await;
    assert!(bench.queue.release(&claim).await.unwrap());
    let report = quotas.report(ann, now_ms()).await.unwrap();
    assert!(report.day.seconds < 80.0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_do_not_share_what_is_left() {
    let (bench, quotas) = bench_with(QuotaLimits {
        day_images: Some(7),
        ..NONE
    })
    .await;
    let ann = bench.user("ann").await;
    let bench = Arc::new(bench);
    let tries = (0..12).map(|_| {
        let bench = bench.clone();
        tokio::spawn(async move {
            match ask(&bench, ann, 2, 1.0).await {
                EnqueuedAll::New(rows) => rows.len(),
                EnqueuedAll::OverQuota(_) => 0,
                other => panic!("{other:?}"),
            }
        })
    });
    let mut made = 0;
    for attempt in tries.collect::<Vec<_>>() {
        made += attempt.await.unwrap();
    }
    assert_eq!(made, 6, "three whole requests of two fit into seven");
    assert_eq!(quotas.report(ann, now_ms()).await.unwrap().day.images, 6);
}

#[tokio::test]
async fn own_limits_take_the_place_of_everybodys() {
    let (bench, quotas) = bench_with(QuotaLimits {
        day_images: Some(1),
        ..NONE
    })
    .await;
    let (ann, bob) = (bench.user("ann").await, bench.user("bob").await);
    let actor = Actor::command_line();
    quotas.set_own(&actor, ann, Some(NONE)).await.unwrap();
    queued(ask(&bench, ann, 16, 1.0).await);
    lacking(ask(&bench, bob, 2, 1.0).await);
    quotas.set_own(&actor, ann, None).await.unwrap();
    lacking(ask(&bench, ann, 1, 1.0).await);
    for weight in [0.0, 0.09, -1.0, f64::NAN, 10.1, f64::INFINITY] {
        assert!(
            quotas.set_weight(&actor, ann, weight).await.is_err(),
            "{weight}"
        );
    }
    let nobody = UserId(4711);
    assert!(quotas.set_weight(&actor, nobody, 1.0).await.is_err());
    assert!(quotas.set_own(&actor, nobody, Some(NONE)).await.is_err());
    quotas.set_weight(&actor, ann, 2.5).await.unwrap();
    assert_eq!(quotas.weight(ann).await.unwrap(), 2.5);
    assert_eq!(quotas.weight(bob).await.unwrap(), 1.0);
}

#[tokio::test]
async fn what_was_used_stays_when_images_and_users_go() {
    let (bench, _) = bench_with(NONE).await;
    let (ann, bob) = (bench.user("ann").await, bench.user("bob").await);
    bench
        .write("update user set role = 'admin' where name = 'ann'")
        .await;
    for (user, seconds) in [(ann, 2.0), (bob, 30.0), (bob, 10.0)] {
        bench.enqueue(user, 1.0).await;
        let claim = bench.claim("w", LEASE).await;
        let mut made = image();
        made.facts.device = "cpu".into();
        made.facts.timings.denoising_s = seconds / 2.0;
        assert!(bench.queue.finish(&claim, &made, seconds).await.unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let usage = UsageService::new(bench.db.clone(), folder.path());
    let admin = atelier_app::account::Viewer {
        id: ann,
        name: "ann".into(),
        role: atelier_app::account::Role::Admin,
    };
    let look = async |user| {
        let looked = usage.usage(&admin, UsageSpan::Week, user).await;
        looked.unwrap()
    };
    bench
        .write("update image set trashed_at = 1 where user_id = 1")
        .await;
    let data = look(None).await;
    assert_eq!(data.usage.to_day - data.usage.from_day, 6);
    assert_eq!(data.usage.days.len(), 1);
    assert_eq!(
        (data.usage.days[0].images, data.usage.days[0].seconds),
        (3, 42.0)
    );
    let names: Vec<&str> = data
        .usage
        .users
        .iter()
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(names, ["bob", "ann"], "most device time first");
    // 4 steps of 64×64 with guidance, three times, in 21 s.
    let speed = &data.usage.speeds[0];
    assert_eq!((speed.device.as_str(), speed.images), ("cpu", 3));
    let work = 3.0 * 4.0 * 64.0 * 64.0 / 1e6;
    assert!((speed.days[0].seconds - 21.0 / work).abs() < 1e-6);
    let space = &data.storage.users;
    assert_eq!((space[0].name.as_str(), space[0].images), ("bob", 2));
    assert_eq!(
        (space[1].images, space[1].trashed, space[1].trashed_bytes),
        (0, 1, 1)
    );
    assert!(data.storage.database_bytes > 0);
    assert!(data.storage.disk_bytes > data.storage.free_bytes);
    assert_eq!(look(Some(bob)).await.usage.days[0].images, 2);

    bench.write("delete from image").await;
    assert_eq!(look(None).await.usage.days, data.usage.days);
    assert_eq!(look(None).await.usage.speeds, data.usage.speeds);
    bench.write("delete from user where name = 'bob'").await;
    let after = look(None).await.usage;
    assert_eq!(after.days, data.usage.days);
    assert_eq!((after.left_images, after.left_seconds), (2, 40.0));
    let gone = usage.usage(&admin, UsageSpan::Week, Some(bob)).await;
    assert!(gone.is_err());
}

async fn set(admin: &Browser, function: &str, fields: &[(&str, &str)]) {
    let answer = admin.call(function, fields).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

fn refused(answer: &Answer) -> String {
    assert_eq!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        answer.text()
    );
    let seconds: u32 = answer.header("retry-after").parse().unwrap();
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    assert_eq!(answer.json()["retry_after_s"], seconds);
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_is_a_429_that_says_when_there_is_more() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let admin = &app.admin().await.browser;
    let id = bob.viewer.id.0.to_string();
    for (field, wrong) in [("day_images", "many"), ("month_seconds", "-1")] {
        let answer = admin
            .call("set_own_quota", &[("id", &id), (field, wrong)])
            .await;
        assert_eq!(answer.field(), field);
    }
    let wrong = admin
        .call("set_weight", &[("id", &id), ("weight", "11")])
        .await;
    assert_eq!(wrong.field(), "weight");
    set(admin, "set_own_quota", &[("id", &id), ("day_images", "2")]).await;
    set(admin, "set_weight", &[("id", &id), ("weight", "2,5")]).await;
    set(admin, "set_everybodys_quota", &[("month_images", "500")]).await;
    // What changes nothing is no act.
    set(admin, "set_weight", &[("id", &id), ("weight", "2.5")]).await;

    let token = app.token(&bob).await.secret;
    let script = app.with_token(&token);
    let body = |count: u32, seed: u32| {
        format!(
            "{{\"prompt\": \"a red circle\", \"num_inference_steps\": 2, \"width\": 64, \"height\": 64, \"seed\": {seed}, \"num_images\": {count}}}"
        )
    };
    let batch = script.post_json("/api/generate-image", body(3, 1)).await;
    let words = refused(&batch);
    assert!(
        words.starts_with("Your quota is 2 images a day, and this request asks for 3;"),
        "{words}"
    );
    let first = script.post_json("/api/generate-image", body(1, 7)).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    // The same again is in the gallery already and costs nothing.
    for _ in 0..2 {
        let cached = script.post_json("/api/generate-image", body(1, 7)).await;
        assert_eq!(cached.header("x-atelier-cache"), "hit");
    }
    let batch = script.post_json("/api/generate-image", body(2, 20)).await;
    let words = refused(&batch);
    assert!(
        words.starts_with("Of your 2 images a day 1 is left, and this request asks for 2."),
        "{words}"
    );
    // Of a batch only what is to be made counts.
    let half = script.post_json("/api/generate-image", body(2, 7)).await;
    assert_eq!(half.status, StatusCode::OK, "{}", half.text());
    let words = refused(&script.post_json("/api/generate-image", body(1, 30)).await);
    assert!(
        words.starts_with("Your quota of 2 images a day is used up.")
            && words.ends_with("00:00 UTC."),
        "{words}"
    );
    // The studio's own door says the same.
    let form = [
        ("prompt", "a red circle"),
        ("width", "64"),
        ("height", "64"),
    ];
    let studio = bob.browser.call("submit_generation", &form).await;
    assert!(studio.text().contains("is used up"), "{}", studio.text());

    let quota = script.get("/api/quota").await.json();
    assert_eq!(quota["limits"]["day_images"], 2);
    assert_eq!(
        (&quota["day"]["images"], &quota["is_own"]),
        (&2.into(), &true.into())
    );
    assert!(quota["day"]["seconds"].as_f64().unwrap() > 0.0);
    for path in ["/account", "/"] {
        let page = bob.browser.get(path).await.text();
        assert!(page.contains("0 of 2 images left today"), "{path}");
    }
    let page = admin.get("/admin/usage?days=7").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("tiny") && page.text().contains("bob"));
    let acts: Vec<(String, String)> = app
        .acts()
        .await
        .into_iter()
        .map(|(_, act, subject)| (act, subject))
        .filter(|(act, _)| act.starts_with("quota."))
        .collect();
    let act = |act: &str, subject: &str| (act.to_owned(), subject.to_owned());
    assert_eq!(
        acts,
        [
            act("quota.everybody", ""),
            act("quota.weight", "bob"),
            act("quota.user", "bob")
        ]
    );
    // None of it is a member's business.
    for (function, fields) in [
        (
            "set_own_quota",
            &[("id", id.as_str()), ("day_images", "")][..],
        ),
        ("set_everybodys_quota", &[("day_images", "")][..]),
        ("set_weight", &[("id", id.as_str()), ("weight", "10")][..]),
        ("load_quota_of", &[("id", id.as_str())][..]),
        ("load_usage", &[("span", "Week")][..]),
    ] {
        let answer = bob.browser.call(function, fields).await;
        assert!(
            answer.text().contains("Forbidden"),
            "{function}: {}",
            answer.text()
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_a_429_with_the_time_of_the_next_place() {
    let app = TestApp::spawn_with(|config| {
        config.queue_limit_per_user = Some(4);
        config.queue_limit = Some(6);
    })
    .await;
    let bob = app.member("bob").await;
    let script = app.with_token(&app.token(&bob).await.secret);
    // Nothing is made meanwhile: the rows stand as another server's would.
    let mut write = app.services.db.write().await.unwrap();
    sqlx::query(
        "insert into job (id, user_id, settings, cost, created_at, state, lease_until, started_at, fence, attempt)
         select 'job-' || value, ?, ?, 30, 0, 'running', 99999999999999, 0, 1, 1 from json_each('[1, 2, 3]')",
    )
    .bind(bob.viewer.id.0)
    .bind(serde_json::to_string(&settings()).unwrap())
    .execute(&mut *write)
    .await
    .unwrap();
    write.commit().await.unwrap();
    let ask = async |who: &Browser, count: u32| {
        let body = format!("{{\"prompt\": \"x\", \"num_images\": {count}}}");
        who.post_json("/api/generate-image", body).await
    };
    let words = refused(&ask(&script, 2).await);
    assert!(
        words.starts_with("You have 3 images waiting or being made and may have 4 at once; this request asks for 2 more."),
        "{words}"
    );
    // No waiting helps where a request alone is too large.
    let never = ask(&script, 5).await;
    assert_eq!(
        (never.status.as_u16(), never.field()),
        (422, "num_images".into())
    );
    assert!(
        never.json()["detail"]
            .as_str()
            .unwrap()
            .contains("ask for at most 4")
    );
    let ann = app.member("ann").await;
    let other = app.with_token(&app.token(&ann).await.secret);
    let words = refused(&ask(&other, 4).await);
    assert!(words.starts_with("The queue is full: everybody together has 3 images waiting or being made and may have 6;"), "{words}");
    app.tamper("delete from job").await;
    app.stop().await;
}
