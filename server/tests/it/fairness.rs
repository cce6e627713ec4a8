//! Who goes next. The clock is simulated: a job takes as long as the test says, and nothing waits.

use super::bench::{Bench, LEASE, image};
use atelier_app::account::UserId;
use std::collections::HashMap;

/// Runs jobs one after another on one device; answers (start, user, seconds) of each.
async fn run(
    bench: &Bench,
    mut takes: impl FnMut(UserId, usize) -> f64,
    mut go_on: impl FnMut(&[(f64, UserId, f64)]) -> bool,
) -> Vec<(f64, UserId, f64)> {
    let mut clock = 0.0;
    let mut runs = Vec::new();
    while go_on(&runs) {
        let Some(claim) = bench.queue.claim("w", LEASE).await.unwrap() else {
            break;
        };
        let seconds = takes(claim.user_id, runs.len());
        assert!(bench.queue.finish(&claim, &image(), seconds).await.unwrap());
        runs.push((clock, claim.user_id, seconds));
        clock += seconds;
    }
    runs
}

/// Jain's fairness index (Jain, Chiu and Hawe 1984): 1 when all have the same.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

fn seconds_of(runs: &[(f64, UserId, f64)], users: &[UserId]) -> Vec<f64> {
    users
        .iter()
        .map(|user| {
            runs.iter()
                .filter(|run| run.1 == *user)
                .map(|run| run.2)
                .sum()
        })
        .collect()
}

fn count(runs: &[(f64, UserId, f64)], user: UserId) -> usize {
    runs.iter().filter(|run| run.1 == user).count()
}

#[tokio::test]
async fn five_jobs_never_wait_for_anothers_five_hundred() {
    const MEAN_S: f64 = 10.0;
    let bench = Bench::new().await;
    let greedy = bench.user("greedy").await;
    for _ in 0..500 {
        bench.enqueue(greedy, MEAN_S).await;
    }
    let mut users = vec![greedy];
    for name in ["b", "c", "d"] {
        let user = bench.user(name).await;
        for _ in 0..5 {
            bench.enqueue(user, MEAN_S).await;
        }
        users.push(user);
    }
    // From 8 to 12 seconds, in an order that has nothing to do with users.
    let takes = |_: UserId, n: usize| 8.0 + (n * 7 % 5) as f64;
    let modest = users[1..].to_vec();
    let runs = run(&bench, takes, |runs| {
        modest.iter().any(|user| count(runs, *user) < 5)
    })
    .await;

    for user in &users[1..] {
        let starts: Vec<f64> = runs
            .iter()
            .filter(|run| run.1 == *user)
            .map(|run| run.0)
            .collect();
        for (nth, start) in (1..).zip(&starts) {
            let limit = f64::from(nth) * users.len() as f64 * MEAN_S * 1.5;
            assert!(*start <= limit, "job {nth} of {user:?} began at {start} s");
        }
    }
    // As long as all four had work waiting.
    let backlog = runs
        .iter()
        .scan(HashMap::<UserId, usize>::new(), |seen, run| {
            *seen.entry(run.1).or_default() += 1;
            Some(users[1..].iter().all(|user| seen.get(user) < Some(&5)))
        })
        .take_while(|all_wait| *all_wait)
        .count();
    assert!(backlog >= 12, "only {backlog} runs");
    let index = jain(&seconds_of(&runs[..backlog], &users));
    assert!(index >= 0.95, "Jain's index is {index}");
}

#[tokio::test]
async fn idling_banks_no_credit() {
    let bench = Bench::new().await;
    let (busy, idle) = (bench.user("busy").await, bench.user("idle").await);
    // Known to the queue, and served once.
    bench.enqueue(idle, 1.0).await;
    run(&bench, |_, _| 1.0, |_| true).await;
    for _ in 0..30 {
        bench.enqueue(busy, 10.0).await;
    }
    run(&bench, |_, _| 10.0, |runs| runs.len() < 20).await;
    for _ in 0..10 {
        bench.enqueue(idle, 10.0).await;
    }
    let runs = run(&bench, |_, _| 10.0, |runs| runs.len() < 10).await;
    let (busy, idle) = (count(&runs, busy), count(&runs, idle));
    assert!(busy.abs_diff(idle) <= 1, "busy {busy}, idle {idle}");
}

#[tokio::test]
async fn what_counts_is_what_was_used_not_what_was_expected() {
    let bench = Bench::new().await;
    let (slow, quick) = (bench.user("slow").await, bench.user("quick").await);
    for _ in 0..80 {
        bench.enqueue(slow, 1.0).await;
        bench.enqueue(quick, 1.0).await;
    }
    let takes = move |user: UserId, _: usize| if user == slow { 10.0 } else { 1.0 };
    let runs = run(&bench, takes, |runs| count(runs, quick) < 60).await;
    let index = jain(&seconds_of(&runs, &[slow, quick]));
    assert!(index >= 0.95, "Jain's index is {index}");
}

#[tokio::test]
async fn twice_the_weight_is_twice_the_time() {
    let bench = Bench::new().await;
    let (one, two) = (bench.user("one").await, bench.user("two").await);
    for _ in 0..40 {
        bench.enqueue(one, 5.0).await;
        bench.enqueue(two, 5.0).await;
    }
    bench
        .write(
            "update share set weight = 2 where user_id = (select id from user where name = 'two')",
        )
        .await;
    let runs = run(&bench, |_, _| 5.0, |runs| runs.len() < 30).await;
    assert_eq!((count(&runs, one), count(&runs, two)), (10, 20));
}

#[tokio::test]
async fn jobs_that_end_their_worker_wait_for_their_turn_too() {
    use atelier_server::jobs::queue::Dead;
    let bench = Bench::new().await;
    let (poisoner, other) = (bench.user("poisoner").await, bench.user("other").await);
    for _ in 0..20 {
        bench.enqueue(poisoner, 10.0).await;
    }
    for _ in 0..5 {
        bench.enqueue(other, 10.0).await;
    }
    let (mut crashes, mut served) = (0, 0);
    while served < 5 {
        let claim = bench.claim("w", LEASE).await;
        if claim.user_id == poisoner {
            crashes += 1;
            bench
                .queue
                .reap(Dead::Crashed("w"), "crashed")
                .await
                .unwrap();
        } else {
            served += 1;
            assert!(bench.queue.finish(&claim, &image(), 10.0).await.unwrap());
        }
    }
    assert!(crashes <= 6, "{crashes} crashes came first");
    assert_eq!(bench.vtime(other).await, 50.0);
}

/// Places in the queue are a promise: claims come in exactly the order that was played ahead.
#[tokio::test]
async fn the_order_played_ahead_is_the_order_of_claims() {
    for seed in 1..=4_u64 {
        let bench = Bench::new().await;
        let mut state = seed;
        // A linear congruential generator is random enough, and the same everywhere.
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut users = Vec::new();
        for name in ["a", "b", "c", "d"] {
            users.push(bench.user(name).await);
        }
        for _ in 0..40 {
            let user = users[draw(4) as usize];
            bench.enqueue(user, 1.0 + draw(100) as f64 / 7.0).await;
            if draw(4) == 0 {
                let claim = bench.claim("w", LEASE).await;
                bench
                    .queue
                    .finish(&claim, &image(), draw(30) as f64)
                    .await
                    .unwrap();
            }
        }
        bench
            .write("update job set priority = 1 where rowid % 5 = 0 and state = 'queued'")
            .await;
        bench
            .write("update share set weight = 3 where user_id % 2 = 0")
            .await;
        let ahead: Vec<_> = bench
            .queue
            .fair_order(None)
            .await
            .unwrap()
            .into_iter()
            .map(|job| job.id)
            .collect();
        assert!(ahead.len() > 20, "{} wait", ahead.len());
        let mut claimed = Vec::new();
        while let Some(claim) = bench.queue.claim("w", LEASE).await.unwrap() {
            claimed.push(claim.id);
        }
        assert_eq!(ahead, claimed, "seed {seed}");
    }
}
