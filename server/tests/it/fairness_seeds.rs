//! Fair shares as properties: the real queue on a simulated clock, over many seeds. Users, weights,
//! numbers of workers, what jobs cost and what they were thought to cost are drawn; the same seed is
//! the same run everywhere. Nothing waits, and nothing looks at a real clock.

use super::bench::{Bench, LEASE, ROOMY, image, settings};
use atelier_app::account::UserId;
use atelier_app::studio::JobId;
use atelier_server::accounts::quotas::QuotaService;
use atelier_server::audit::Actor;
use atelier_server::jobs::queue::{Claim, EnqueuedAll, NewJob};
use std::collections::HashMap;

/// A linear congruential generator is random enough, and the same everywhere.
struct Draw(u64);

impl Draw {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Between the two, small ones as often as large ones.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        let part = self.below(1 << 20) as f64 / (1 << 20) as f64;
        low * (high / low).powf(part)
    }
}

/// A job under way on a worker.
struct Running {
    claim: Claim,
    ends_at: f64,
    takes_s: f64,
}

/// A job that began.
#[derive(Clone, Copy)]
struct Start {
    at: f64,
    user: UserId,
    takes_s: f64,
}

/// The queue, some workers, and a clock that goes from one job's end to the next.
struct World {
    bench: Bench,
    workers: Vec<Option<Running>>,
    /// What each waiting job will take.
    takes: HashMap<JobId, f64>,
    now: f64,
    /// Device-seconds of finished jobs.
    served: HashMap<UserId, f64>,
    starts: Vec<Start>,
    /// The most that a job of each user takes or is thought to take.
    largest: HashMap<UserId, f64>,
}

impl World {
    async fn new(workers: usize) -> Self {
        Self {
            bench: Bench::new().await,
            workers: (0..workers).map(|_| None).collect(),
            takes: HashMap::new(),
            now: 0.0,
            served: HashMap::new(),
            starts: Vec::new(),
            largest: HashMap::new(),
        }
    }

    async fn user(&self, name: &str, weight: f64) -> UserId {
        let user = self.bench.user(name).await;
        QuotaService::new(self.bench.db.clone())
            .set_weight(&Actor::command_line(), user, weight)
            .await
            .unwrap();
        user
    }

    /// Queues jobs: what each takes, and what it is thought to take.
    async fn ask(&mut self, user: UserId, jobs: &[(f64, f64)]) {
        let new: Vec<NewJob> = jobs
            .iter()
            .map(|(_, cost)| NewJob {
                settings: settings(),
                cost: *cost,
                cost_is_measured: true,
                from_image: None,
            })
            .collect();
        let asked = self.bench.queue.enqueue_all(user, &new, None, ROOMY).await;
        let EnqueuedAll::New(rows) = asked.unwrap() else {
            panic!("there is room");
        };
        for (row, (takes_s, cost)) in rows.into_iter().zip(jobs) {
            self.takes.insert(row.id, *takes_s);
            let largest = self.largest.entry(user).or_default();
            *largest = largest.max(*takes_s).max(*cost);
        }
    }

    /// The user wants none of what waits any more.
    async fn leave(&self, user: UserId) {
        for job in self.bench.queue.active(user, i64::MAX).await.unwrap() {
            if job.state == atelier_app::studio::JobState::Queued {
                let cancelled = self.bench.queue.cancel(&job.id, Some(user)).await;
                assert!(cancelled.unwrap().is_some());
            }
        }
    }

    /// Lets idle workers begin, then goes on to the next end of a job; `false` when nothing is left.
    async fn step(&mut self) -> bool {
        for worker in self.workers.iter_mut().filter(|worker| worker.is_none()) {
            let Some(claim) = self.bench.queue.claim("w", LEASE).await.unwrap() else {
                break;
            };
            let takes_s = self.takes[&claim.id];
            self.starts.push(Start {
                at: self.now,
                user: claim.user_id,
                takes_s,
            });
            *worker = Some(Running {
                ends_at: self.now + takes_s,
                takes_s,
                claim,
            });
        }
        let next = self
            .workers
            .iter_mut()
            .filter(|worker| worker.is_some())
            .min_by(|a, b| {
                let end = |worker: &Option<Running>| worker.as_ref().unwrap().ends_at;
                end(a).total_cmp(&end(b))
            });
        let Some(ended) = next.and_then(Option::take) else {
            return false;
        };
        self.now = ended.ends_at;
        let finished = self
            .bench
            .queue
            .finish(&ended.claim, &image(), ended.takes_s)
            .await;
        assert!(finished.unwrap());
        *self.served.entry(ended.claim.user_id).or_default() += ended.takes_s;
        true
    }

    fn served(&self, user: UserId) -> f64 {
        self.served.get(&user).copied().unwrap_or_default()
    }

    /// Device-seconds that users had since `before`, over their weights.
    fn had(&self, users: &[(UserId, f64)], before: &HashMap<UserId, f64>) -> Vec<f64> {
        users
            .iter()
            .map(|(user, weight)| {
                (self.served(*user) - before.get(user).copied().unwrap_or_default()) / weight
            })
            .collect()
    }
}

/// Jain's fairness index (Jain, Chiu and Hawe 1984): 1 when all have the same.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// Jobs of one user: around what they usually ask for, thought to take up to twice or half as long.
fn jobs(draw: &mut Draw, usual_s: f64, count: usize) -> Vec<(f64, f64)> {
    (0..count)
        .map(|_| {
            let takes_s = usual_s * draw.between(0.7, 1.4);
            (takes_s, takes_s * draw.between(0.5, 2.0))
        })
        .collect()
}

/// How far apart two users may be at any time, in device-seconds over weight: a bound that does not
/// grow with time (Goyal, Vin and Cheng 1996, for one worker: the largest job of each). Every worker
/// more can be that far ahead by itself.
fn bound(world: &World, (a, weight_a): (UserId, f64), (b, weight_b): (UserId, f64)) -> f64 {
    let workers = world.workers.len() as f64;
    (workers + 1.0) * (world.largest[&a] / weight_a + world.largest[&b] / weight_b)
}

#[tokio::test]
async fn over_a_backlog_everybody_gets_their_share() {
    let mut lowest: f64 = 1.0;
    for seed in 1..=14_u64 {
        let mut draw = Draw(seed);
        let workers = 1 + draw.below(3) as usize;
        let mut world = World::new(workers).await;
        let count = 2 + draw.below(4) as usize;
        // Every other seed all weigh the same.
        let weighted = seed % 2 == 0;
        let mut users = Vec::new();
        for number in 0..count {
            let weight = if weighted {
                draw.between(0.5, 2.0)
            } else {
                1.0
            };
            let user = world.user(&format!("user-{number}"), weight).await;
            let usual_s = draw.between(6.0, 20.0);
            world.ask(user, &jobs(&mut draw, usual_s, 400)).await;
            users.push((user, weight));
        }
        let largest = users
            .iter()
            .map(|(user, weight)| world.largest[user] / weight)
            .fold(0.0, f64::max);
        // Long enough that single jobs do not decide, and nobody runs out of work.
        loop {
            assert!(world.step().await, "seed {seed}: a user ran out of work");
            let had = world.had(&users, &HashMap::new());
            for (a, had_a) in users.iter().zip(&had) {
                for (b, had_b) in users.iter().zip(&had) {
                    let apart = had_a - had_b;
                    assert!(
                        apart <= bound(&world, *a, *b),
                        "seed {seed}, {} s: {apart} s apart",
                        world.now
                    );
                }
            }
            if had.iter().all(|had| *had >= 6.0 * largest) {
                break;
            }
        }
        for (user, _) in &users {
            let waiting = world.bench.queue.active(*user, i64::MAX).await.unwrap();
            assert!(waiting.len() > workers, "seed {seed}: no backlog any more");
        }
        let index = jain(&world.had(&users, &HashMap::new()));
        assert!(index >= 0.95, "seed {seed}: Jain's index is {index}");
        lowest = lowest.min(index);
    }
    println!("over a backlog, the lowest of Jain's indices is {lowest:.4}");
}

#[tokio::test]
async fn jobs_of_very_different_cost_and_the_widest_weights() {
    // Two seconds beside two minutes, all thought to take ten: nothing was measured yet.
    let mut world = World::new(2).await;
    let mut users = Vec::new();
    for (name, usual_s, count) in [
        ("quick", 2.0, 900),
        ("slow", 120.0, 40),
        ("usual", 15.0, 200),
    ] {
        let user = world.user(name, 1.0).await;
        world.ask(user, &vec![(usual_s, 10.0); count]).await;
        users.push((user, 1.0));
    }
    while world
        .had(&users, &HashMap::new())
        .iter()
        .any(|had| *had < 1000.0)
    {
        assert!(world.step().await);
    }
    let index = jain(&world.had(&users, &HashMap::new()));
    assert!(index >= 0.95, "Jain's index is {index}");
    println!("2 s beside 120 s: Jain's index is {index:.4}");

    // The lowest weight beside the highest: a hundredth.
    let mut world = World::new(1).await;
    let mut users = Vec::new();
    for (name, weight, count) in [("low", 0.1, 30), ("usual", 1.0, 90), ("high", 10.0, 900)] {
        let user = world.user(name, weight).await;
        world.ask(user, &vec![(5.0, 5.0); count]).await;
        users.push((user, weight));
    }
    for _ in 0..777 {
        assert!(world.step().await);
    }
    let index = jain(&world.had(&users, &HashMap::new()));
    assert!(index >= 0.95, "Jain's index is {index}");
    println!("weights 0.1, 1 and 10: Jain's index is {index:.4}");
}

#[tokio::test]
async fn whoever_comes_and_goes_is_neither_owed_nor_owing() {
    let mut lowest: f64 = 1.0;
    for seed in 1..=6_u64 {
        let mut draw = Draw(seed);
        let mut world = World::new(1 + draw.below(2) as usize).await;
        let mut users = Vec::new();
        for number in 0..4 {
            let weight = if seed % 2 == 0 {
                draw.between(0.5, 2.0)
            } else {
                1.0
            };
            users.push((world.user(&format!("user-{number}"), weight).await, weight));
        }
        // The first has the devices alone for long, then another has: neither counts against them later.
        let mut phases = vec![vec![0], vec![0], vec![1], vec![0, 1]];
        for _ in 0..4 {
            let mut here: Vec<usize> = (0..4).filter(|_| draw.below(2) == 0).collect();
            if here.len() < 2 {
                here = vec![draw.below(2) as usize, 2 + draw.below(2) as usize];
            }
            phases.push(here);
        }
        for (nth, here) in phases.iter().enumerate() {
            for (user, _) in &users {
                world.leave(*user).await;
            }
            // Sometimes the devices stand still in between.
            if nth < 4 || draw.below(2) == 0 {
                while world.step().await {}
            }
            let present: Vec<(UserId, f64)> = here.iter().map(|user| users[*user]).collect();
            for (user, _) in &present {
                world.ask(*user, &jobs(&mut draw, 6.0, 70)).await;
            }
            let before = world.served.clone();
            while world.had(&present, &before).iter().any(|had| *had < 100.0) {
                assert!(world.step().await, "seed {seed}, phase {nth}: no work left");
            }
            let index = jain(&world.had(&present, &before));
            assert!(
                index >= 0.95,
                "seed {seed}, phase {nth} with {here:?}: Jain's index is {index}, {:?}",
                world.had(&present, &before)
            );
            lowest = lowest.min(index);
        }
    }
    println!("with users who come and go, the lowest of Jain's indices is {lowest:.4}");
}

#[tokio::test]
async fn five_jobs_never_wait_for_anothers_five_hundred_whatever_they_cost() {
    let mut worst: f64 = 0.0;
    for seed in 1..=10_u64 {
        let mut draw = Draw(seed);
        let workers = 1 + draw.below(3) as usize;
        let mut world = World::new(workers).await;
        let greedy = world.user("greedy", 1.0).await;
        let usual_s = draw.between(2.0, 40.0);
        let many: Vec<(f64, f64)> = (0..500)
            .map(|_| usual_s * draw.between(0.5, 2.0))
            .map(|takes_s| (takes_s, takes_s))
            .collect();
        world.ask(greedy, &many).await;
        // Some time later, so that the greedy one has had a lot already.
        for _ in 0..draw.below(30) {
            world.step().await;
        }
        let arrival = world.now;
        let first = world.starts.len();
        let mut modest = Vec::new();
        for number in 0..=draw.below(3) {
            let user = world.user(&format!("modest-{number}"), 1.0).await;
            let usual_s = draw.between(2.0, 40.0);
            let five: Vec<(f64, f64)> = (0..5)
                .map(|_| usual_s * draw.between(0.5, 2.0))
                .map(|takes_s| (takes_s, takes_s))
                .collect();
            world.ask(user, &five).await;
            modest.push(user);
        }
        let begun = |world: &World, user: UserId| {
            world.starts[first..]
                .iter()
                .filter(|start| start.user == user)
                .count()
        };
        while modest.iter().any(|user| begun(&world, *user) < 5) {
            assert!(world.step().await);
        }
        let users = 1.0 + modest.len() as f64;
        let largest = world.largest.values().copied().fold(0.0, f64::max);
        for user in &modest {
            let (mut own_s, mut greedy_s, mut nth) = (0.0, 0.0, 0);
            for start in &world.starts[first..] {
                if start.user == greedy {
                    greedy_s += start.takes_s;
                } else if start.user == *user {
                    nth += 1;
                    // Before each of the five, the greedy one began no more than as much, and one job.
                    assert!(
                        greedy_s <= own_s + world.largest[&greedy] + 1e-6,
                        "seed {seed}: before job {nth}, {greedy_s} s of the greedy and {own_s} s of their own"
                    );
                    let waited_s = start.at - arrival;
                    let limit_s = users * (own_s + largest) / workers as f64 + largest;
                    assert!(
                        waited_s <= limit_s,
                        "seed {seed}: job {nth} began after {waited_s} s, not within {limit_s} s"
                    );
                    worst = worst.max(waited_s / limit_s);
                    own_s += start.takes_s;
                }
            }
            assert_eq!(nth, 5, "seed {seed}");
        }
        let left = world.bench.queue.active(greedy, i64::MAX).await.unwrap();
        assert!(left.len() > 300, "seed {seed}: {} are left", left.len());
    }
    println!("five beside five hundred: at most {worst:.2} of the time that is allowed");
}
