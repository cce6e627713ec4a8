//! The queue's rules, one step at a time.

use super::bench::{Bench, LEASE, NO_LEASE, ROOMY, a_moment, image, settings};
use atelier_app::studio::{JobState, Settings};
use atelier_server::jobs::queue::{Dead, Enqueued, Limits, Pulse};

#[tokio::test]
async fn limits_count_what_is_open_and_only_that() {
    let bench = Bench::new().await;
    let (a, b) = (bench.user("a").await, bench.user("b").await);
    let limits = Limits {
        per_user: 2,
        total: 3,
    };
    let ask = async |user| {
        bench
            .queue
            .enqueue(user, &settings(), 1.0, None, limits)
            .await
            .unwrap()
    };
    assert!(matches!(ask(a).await, Enqueued::New(_)));
    assert!(matches!(ask(a).await, Enqueued::New(_)));
    assert!(matches!(ask(a).await, Enqueued::UserFull));
    assert!(matches!(ask(b).await, Enqueued::New(_)));
    assert!(matches!(ask(b).await, Enqueued::QueueFull));
    // A running job takes a place still; one that ended does not.
    let claim = bench.claim("w", LEASE).await;
    assert!(matches!(ask(b).await, Enqueued::QueueFull));
    assert!(bench.queue.finish(&claim, &image(), 1.0).await.unwrap());
    assert!(matches!(ask(b).await, Enqueued::New(_)));
}

#[tokio::test]
async fn the_same_key_is_the_same_job_also_when_the_queue_is_full() {
    let bench = Bench::new().await;
    let (a, b) = (bench.user("a").await, bench.user("b").await);
    let limits = Limits {
        per_user: 1,
        total: 2,
    };
    let ask = async |user, key| {
        bench
            .queue
            .enqueue(user, &settings(), 1.0, Some(key), limits)
            .await
            .unwrap()
    };
    let Enqueued::New(first) = ask(a, "k").await else {
        panic!("the first is new")
    };
    for _ in 0..10 {
        let Enqueued::Replayed(again) = ask(a, "k").await else {
            panic!("a replay is not queued again")
        };
        assert_eq!(again.id, first.id);
    }
    assert!(matches!(ask(a, "other").await, Enqueued::UserFull));
    // A key is its user's own.
    let Enqueued::New(theirs) = ask(b, "k").await else {
        panic!("another user's key is another key")
    };
    assert_ne!(theirs.id, first.id);
    // Also once the job has ended.
    let claim = bench.claim("w", LEASE).await;
    assert_eq!(claim.id, first.id);
    bench.queue.finish(&claim, &image(), 1.0).await.unwrap();
    let Enqueued::Replayed(ended) = ask(a, "k").await else {
        panic!("a replay is not queued again")
    };
    assert_eq!((ended.id, ended.state), (first.id, JobState::Done));
    assert!(ended.image_id.is_some());
}

/// Many requests at once with one key: the database decides, and one job comes of it.
#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_requests_with_one_key_make_one_job() {
    let bench = Bench::new().await;
    let user = bench.user("a").await;
    let asks = (0..16).map(|_| {
        let queue = bench.queue.clone();
        tokio::spawn(async move {
            match queue
                .enqueue(user, &settings(), 1.0, Some("k"), ROOMY)
                .await
            {
                Ok(Enqueued::New(row) | Enqueued::Replayed(row)) => row.id,
                other => panic!("{other:?}"),
            }
        })
    });
    let ids = futures::future::join_all(asks).await;
    let first = ids[0].as_ref().unwrap();
    assert!(ids.iter().all(|id| id.as_ref().unwrap() == first));
    assert_eq!(bench.queue.depth().await.unwrap(), (1, 0));
}

#[tokio::test]
async fn a_stale_worker_writes_nothing() {
    let bench = Bench::new().await;
    let user = bench.user("a").await;
    bench.enqueue(user, 1.0).await;
    let stale = bench.claim("asleep", NO_LEASE).await;
    a_moment().await;
    let reaped = bench.queue.reap(Dead::Nobody, "silent").await.unwrap();
    assert_eq!(reaped.len(), 1);
    assert_eq!((&reaped[0].0, reaped[0].2.as_str()), (&stale.id, "asleep"));
    // Between the two claims, and after the second.
    for round in 0..2 {
        let pulse = bench.queue.heartbeat(&stale, "denoising", 3, LEASE).await;
        assert_eq!(pulse.unwrap(), Pulse::Lost, "round {round}");
        assert!(!bench.queue.finish(&stale, &image(), 1.0).await.unwrap());
        assert!(!bench.queue.fail(&stale, "no").await.unwrap());
        assert!(!bench.queue.release(&stale).await.unwrap());
        assert!(!bench.queue.confirm_cancel(&stale, 1.0).await.unwrap());
        assert_eq!(bench.images().await, 0);
        if round == 0 {
            let fresh = bench.claim("awake", LEASE).await;
            assert_eq!((&fresh.id, fresh.attempt), (&stale.id, 2));
            assert!(fresh.fence > stale.fence);
        }
    }
    assert_eq!(bench.job(&stale.id).await.state, JobState::Running);
}

#[tokio::test]
async fn a_job_ends_with_its_image_or_not_at_all() {
    let bench = Bench::new().await;
    let user = bench.user("a").await;
    let id = bench.enqueue(user, 1.0).await;
    let claim = bench.claim("w", LEASE).await;
    bench
        .write("create trigger full before insert on image begin select raise(abort, 'disk full'); end")
        .await;
    let vtime = bench.vtime(user).await;
    assert!(bench.queue.finish(&claim, &image(), 9.0).await.is_err());
    assert_eq!(bench.job(&id).await.state, JobState::Running);
    assert_eq!(bench.vtime(user).await, vtime);
    bench.write("drop trigger full").await;
    assert!(bench.queue.finish(&claim, &image(), 9.0).await.unwrap());
    // A second answer to the same claim, as after a commit whose answer was lost.
    assert!(!bench.queue.finish(&claim, &image(), 9.0).await.unwrap());
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.step), (JobState::Done, 4));
    assert!(job.image_id.is_some() && job.finished_at.is_some());
    assert_eq!(bench.images().await, 1);
    assert_eq!(bench.vtime(user).await, 9.0);
}

#[tokio::test]
async fn only_leases_that_ran_out_are_taken_back() {
    let bench = Bench::new().await;
    let user = bench.user("a").await;
    bench.enqueue(user, 1.0).await;
    let beating = bench.claim("w1", NO_LEASE).await;
    a_moment().await;
    // A heartbeat in the last moment counts.
    let pulse = bench.queue.heartbeat(&beating, "denoising", 2, LEASE).await;
    assert_eq!(pulse.unwrap(), Pulse::Mine);
    assert!(
        bench
            .queue
            .reap(Dead::Nobody, "x")
            .await
            .unwrap()
            .is_empty()
    );
    let job = bench.job(&beating.id).await;
    assert_eq!((job.state, job.step), (JobState::Running, 2));
    assert_eq!(job.phase.as_deref(), Some("denoising"));
    // Somebody else's death changes nothing for it; its own worker's does.
    let crash = Dead::Crashed("w2");
    assert!(bench.queue.reap(crash, "x").await.unwrap().is_empty());
    let crash = Dead::Crashed("w1");
    assert_eq!(bench.queue.reap(crash, "x").await.unwrap().len(), 1);
    let job = bench.job(&beating.id).await;
    assert_eq!((job.state, job.step, job.attempt), (JobState::Queued, 0, 1));
}

#[tokio::test]
async fn a_job_that_ends_its_worker_is_tried_three_times() {
    let bench = Bench::new().await;
    let (a, b) = (bench.user("a").await, bench.user("b").await);
    let poison = bench.enqueue(a, 1.0).await;
    let sound = bench.enqueue(b, 1.0).await;
    let mut attempts = Vec::new();
    while let Some(claim) = bench.queue.claim("w", LEASE).await.unwrap() {
        if claim.id == poison {
            attempts.push(claim.attempt);
            let crash = Dead::Crashed("w");
            bench
                .queue
                .reap(crash, "It ended the worker.")
                .await
                .unwrap();
        } else {
            assert!(bench.queue.finish(&claim, &image(), 1.0).await.unwrap());
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    let job = bench.job(&poison).await;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.error.as_deref(), Some("It ended the worker."));
    assert!(job.finished_at.is_some());
    assert_eq!(bench.job(&sound).await.state, JobState::Done);
}

#[tokio::test]
async fn a_stop_of_the_server_costs_no_attempt_and_no_share() {
    let bench = Bench::new().await;
    let user = bench.user("a").await;
    let id = bench.enqueue(user, 5.0).await;
    for round in 0..5 {
        let claim = bench.claim("w", LEASE).await;
        assert_eq!(claim.attempt, 1, "round {round}");
        match round % 3 {
            0 => assert!(bench.queue.release(&claim).await.unwrap()),
            1 => drop(bench.queue.reap(Dead::Stopped("w"), "x").await.unwrap()),
            _ => drop(bench.queue.reap(Dead::Everybody, "x").await.unwrap()),
        }
        let job = bench.job(&id).await;
        assert_eq!((job.state, job.attempt), (JobState::Queued, 0));
        assert_eq!(bench.vtime(user).await, 0.0);
    }
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once() {
    let bench = Bench::new().await;
    let (a, b) = (bench.user("a").await, bench.user("b").await);
    let id = bench.enqueue(a, 1.0).await;
    // Somebody else's job looks like no job.
    assert!(bench.queue.cancel(&id, Some(b)).await.unwrap().is_none());
    assert_eq!(bench.job(&id).await.state, JobState::Queued);
    let row = bench.queue.cancel(&id, Some(a)).await.unwrap().unwrap();
    assert_eq!(row.state, JobState::Cancelled);
    assert!(row.finished_at.is_some());
    assert!(bench.queue.claim("w", LEASE).await.unwrap().is_none());
    // Again changes nothing, not even the time.
    let again = bench.queue.cancel(&id, None).await.unwrap().unwrap();
    assert_eq!(again.finished_at, row.finished_at);
}

#[tokio::test]
async fn a_running_job_is_cancelled_by_its_worker_and_keeps_no_image() {
    let bench = Bench::new().await;
    let user = bench.user("a").await;
    let id = bench.enqueue(user, 10.0).await;
    let claim = bench.claim("w", LEASE).await;
    let row = bench.queue.cancel(&id, Some(user)).await.unwrap().unwrap();
    assert_eq!(row.state, JobState::Running);
    let pulse = bench.queue.heartbeat(&claim, "denoising", 1, LEASE).await;
    assert_eq!(pulse.unwrap(), Pulse::Cancel);
    // The last step was done meanwhile: the owner's word counts all the same.
    assert!(!bench.queue.finish(&claim, &image(), 3.0).await.unwrap());
    assert!(bench.queue.confirm_cancel(&claim, 3.0).await.unwrap());
    assert_eq!(bench.job(&id).await.state, JobState::Cancelled);
    assert_eq!(bench.images().await, 0);
    assert_eq!(bench.vtime(user).await, 3.0);

    // A worker that dies before it hears of it, one that gives its job back, one that fails.
    for end in 0..3 {
        let id = bench.enqueue(user, 1.0).await;
        let claim = bench.claim("w", LEASE).await;
        bench.queue.cancel(&id, Some(user)).await.unwrap();
        match end {
            0 => drop(bench.queue.reap(Dead::Crashed("w"), "x").await.unwrap()),
            1 => assert!(bench.queue.release(&claim).await.unwrap()),
            _ => assert!(bench.queue.fail(&claim, "x").await.unwrap()),
        }
        let job = bench.job(&id).await;
        assert_eq!((job.state, job.error), (JobState::Cancelled, None), "{end}");
        assert!(job.finished_at.is_some());
    }
}

#[tokio::test]
async fn lists_show_open_jobs_and_what_failed_lately() {
    let bench = Bench::new().await;
    let (a, b) = (bench.user("a").await, bench.user("b").await);
    let failed = bench.enqueue(a, 1.0).await;
    let claim = bench.claim("w", LEASE).await;
    bench.queue.fail(&claim, "no").await.unwrap();
    a_moment().await;
    let done = bench.enqueue(a, 1.0).await;
    let claim = bench.claim("w", LEASE).await;
    bench.queue.finish(&claim, &image(), 1.0).await.unwrap();
    let running = bench.enqueue(a, 1.0).await;
    bench.claim("w", LEASE).await;
    let queued = bench.enqueue(a, 1.0).await;
    let theirs = bench.enqueue(b, 1.0).await;

    let ids = |rows: Vec<atelier_server::jobs::queue::JobRow>| -> Vec<_> {
        rows.into_iter().map(|row| row.id).collect()
    };
    let all = ids(bench.queue.active(a, 0).await.unwrap());
    assert_eq!(all, [running.clone(), queued.clone(), failed.clone()]);
    let open = ids(bench.queue.active(a, i64::MAX).await.unwrap());
    assert_eq!(open, [running.clone(), queued.clone()]);
    let now = ids(bench.queue.running().await.unwrap());
    assert_eq!(now, std::slice::from_ref(&running));

    let overview = bench.queue.overview().await.unwrap();
    let overview: Vec<_> = overview.into_iter().map(|row| row.id).collect();
    assert_eq!(overview, [running, queued, theirs, done, failed]);
}

/// A model is in use while an open job names it, whatever for.
#[tokio::test]
async fn open_jobs_say_which_models_they_need() {
    let bench = Bench::new().await;
    let ann = bench.user("ann").await;
    let with = Settings {
        model: "base".into(),
        refiner: Some("finish".into()),
        vae: Some("decoder".into()),
        ..settings()
    };
    bench
        .queue
        .enqueue(ann, &with, 1.0, None, ROOMY)
        .await
        .unwrap();
    for (name, needed) in [
        ("base", true),
        ("finish", true),
        ("decoder", true),
        ("bas", false),
        ("other", false),
    ] {
        assert_eq!(
            bench.queue.needs_model(name).await.unwrap(),
            needed,
            "{name}"
        );
    }
    let claim = bench.claim("w", LEASE).await;
    assert!(bench.queue.needs_model("finish").await.unwrap());
    bench.queue.finish(&claim, &image(), 1.0).await.unwrap();
    assert!(!bench.queue.needs_model("finish").await.unwrap());
}
