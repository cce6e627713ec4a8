//! Devices that come, go, fail again and again, and are several.

use super::device_machine::{Machine, descents};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Looks often, rests shortly.
const QUICK: &[&str] = &["--device-look-seconds", "1", "--device-rest-seconds", "1"];

#[tokio::test(flavor = "multi_thread")]
async fn three_failures_rest_the_device_and_it_comes_back_by_itself() {
    // It passes every check and fails at work.
    let machine = Machine::new("", "work = device_lost@denoising:1").await;
    let server = machine.serve(QUICK);
    server.wait_for_health(|health| health == "ok");
    for seed in 0..3 {
        let (job, image) = server.make(seed);
        assert_eq!(
            (image["device"].as_str(), job["attempt"].as_u64()),
            (Some("cpu"), Some(1))
        );
    }
    let kinds = async || -> Vec<String> {
        let events = machine.events().await;
        events
            .into_iter()
            .filter(|(_, device, _)| device == "cuda:0")
            .map(|(kind, ..)| kind)
            .collect()
    };
    let failures = kinds()
        .await
        .iter()
        .filter(|kind| *kind == "failure")
        .count();
    assert_eq!(failures, 3);
    assert!(kinds().await.contains(&"resting".to_owned()));
    machine.plan("");
    // Same server, same kind of request; a worker from before may still fail one.
    let since = Instant::now();
    for seed in 10.. {
        let (_, image) = server.make(seed);
        if image["device"] == "cuda:0" {
            break;
        }
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "it never comes back"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(
        kinds().await.contains(&"recovered".to_owned()),
        "{:?}",
        kinds().await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_rests_and_stays_broken_leaves_the_cpu_at_work() {
    let machine = Machine::new("", "work = abort@denoising:1").await;
    let server = machine.serve(&["--device-rest-seconds", "1800"]);
    server.wait_for_health(|health| health == "ok");
    // One job is enough: each of its rungs ends a process.
    let (job, image) = server.make(1);
    assert_eq!(descents(&job), ["tiled_vae", "in_turn", "leave"]);
    assert_eq!(image["device"], "cpu");
    let health = server.wait_for_health(|health| health != "ok");
    assert!(health.starts_with("degraded: cpu"), "{health}");
    assert!(
        health.contains("rests until") && health.contains("3 failures in ten minutes"),
        "{health}"
    );
    let (job, image) = server.make(2);
    assert_eq!(
        (&job["rungs"], &image["device"]),
        (&Value::Null, &"cpu".into())
    );
    assert!(
        image["fallback_reason"]
            .as_str()
            .unwrap()
            .contains("rests until")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_comes_later_is_taken_and_one_that_goes_is_left() {
    let machine = Machine::new("", "").await;
    machine.without_driver();
    let server = machine.serve(QUICK);
    assert!(
        server.said[0].starts_with("Device: CPU ("),
        "{:?}",
        server.said
    );
    assert_eq!(server.health(), "ok");
    assert_eq!(server.make(1).1["device"], "cpu");
    machine.driver("");
    let since = Instant::now();
    loop {
        let (_, image) = server.make(u32::try_from(since.elapsed().as_millis()).unwrap());
        if image["device"] == "cuda:0" {
            break;
        }
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "it is never taken"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    // Gone again: the driver finds no device any more.
    machine.driver("refuse=100 gpus=0");
    machine.plan("work = device_lost@denoising:1");
    let since = Instant::now();
    loop {
        let (job, image) =
            server.make(100_000 + u32::try_from(since.elapsed().as_millis()).unwrap());
        // Where a job met it before the look did, it says so.
        if image["device"] == "cpu" && job["rungs"] == Value::Null {
            break;
        }
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "it is never left"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gpus_share_the_queue_and_what_one_cannot_do_the_other_does() {
    let machine = Machine::new("gpus=2", "work cuda:1 = device_lost@denoising:2+").await;
    let server = machine.serve(&["--device-rest-seconds", "1800"]);
    server.wait_for_health(|health| health == "ok");
    let decision = machine.decision().await;
    assert!(
        decision.contains("(cuda:0)") && decision.contains("(cuda:1)"),
        "{decision}"
    );
    // cuda:1's worker may come up later than cuda:0's.
    let mut moved = 0;
    let mut seeds = 0..;
    let since = Instant::now();
    while moved == 0 {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "cuda:1 takes none"
        );
        let jobs: Vec<String> = seeds.by_ref().take(6).map(|s| server.submit(s)).collect();
        for id in &jobs {
            let job = server.wait(id);
            assert_eq!(
                (&job["state"], &job["attempt"]),
                (&"done".into(), &1.into()),
                "{job:#}"
            );
            // Whatever cuda:1 took went on to cuda:0.
            moved += usize::from(descents(&job) == ["leave"]);
        }
    }
    assert!(machine.has_event("failure", "cuda:1").await);
    assert!(!machine.has_event("failure", "cuda:0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_kept_for_refiners_works_for_the_other() {
    let machine = Machine::new("gpus=2", "").await;
    let server = machine.serve(&["--refiner-device", "cuda:1"]);
    server.wait_for_health(|health| health == "ok");
    assert!(machine.decision().await.contains("refiners on cuda:1"));
    let (_, image) = server.make(1);
    assert_eq!(image["device"], "cuda:0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_keeps_the_rung() {
    // It hangs for ever wherever it is not in tiles, and the server is killed meanwhile.
    let machine = Machine::new(
        "",
        "work = out_of_memory@decoding whole:1+, hang@decoding tile:1",
    )
    .await;
    let server = machine.serve(&["--stall-seconds", "600"]);
    server.wait_for_health(|health| health == "ok");
    let id = server.submit(1);
    let since = Instant::now();
    while descents(&server.job(&id)) != ["tiled_vae"] {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "{}",
            server.job(&id)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    server.kill();
    machine.plan("work = out_of_memory@decoding whole:1+");
    let server = machine.serve(&[]);
    let job = server.wait(&id);
    assert_eq!(job["state"], "done", "{job:#}");
    assert_eq!(
        descents(&job),
        ["tiled_vae"],
        "it was not decoded whole once more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_probe_keeps_nobody_from_the_site_and_jobs_wait_for_it() {
    let machine = Machine::new("", "slow = 4").await;
    let began = Instant::now();
    let server = machine.serve(&[]);
    assert!(
        server.said[0].starts_with("Device: being checked"),
        "{:?}",
        server.said
    );
    let opened = began.elapsed();
    let (_, image) = server.make(1);
    assert_eq!(image["device"], "cuda:0");
    assert!(
        began.elapsed() > opened + Duration::from_secs(1),
        "it waited"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_uses_is_let_go() {
    let machine = Machine::new("", "").await;
    machine.without_driver();
    let server = machine.serve(&["--idle-release", "8"]);
    let loading = |seed: u32| {
        server.make(seed).1["timings"]["loading_s"]
            .as_f64()
            .unwrap()
    };
    assert!(loading(1) > 0.0);
    // A busy machine may take longer than the model stays from one to the next, but not every time.
    let stays = (2..8).any(|seed| loading(seed) == 0.0);
    assert!(stays, "it is still there");
    std::thread::sleep(Duration::from_secs(11));
    assert!(loading(8) > 0.0, "it was let go");
}
