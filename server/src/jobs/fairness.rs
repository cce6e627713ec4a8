//! The fair order: who goes next, and after whom.
//!
//! Each user has a virtual time, the device-seconds they had divided by their weight; the smallest
//! goes next (start-time fair queueing, Goyal, Vin and Cheng 1996). The claim is the same rule in
//! SQL; here it is played ahead, for places in the queue and estimates.

use atelier_app::account::UserId;
use atelier_app::studio::JobId;
use std::collections::{HashMap, VecDeque};

/// A waiting job as the fair order needs it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub user_id: UserId,
    /// Expected device-seconds.
    pub cost: f64,
    /// The place that an administrator gave it: so many jobs start before it.
    pub place: Option<i64>,
}

/// Plays the claims through: smallest virtual time first, then priority, then age; jobs with a place
/// of their own when so many others have started, or when nothing else is left. Whoever is served is
/// charged either way. `waiting` is sorted by user, priority (highest first) and id; `shares` holds
/// each user's (vtime, weight).
pub fn in_fair_order(
    waiting: Vec<Waiting>,
    mut shares: HashMap<UserId, (f64, f64)>,
) -> Vec<Waiting> {
    let mut lines: HashMap<UserId, VecDeque<Waiting>> = HashMap::new();
    let total = waiting.len();
    let (mut placed, free): (Vec<Waiting>, Vec<Waiting>) =
        waiting.into_iter().partition(|job| job.place.is_some());
    placed.sort_by(|a, b| (a.place, &a.id).cmp(&(b.place, &b.id)));
    let mut placed = VecDeque::from(placed);
    for job in free {
        lines.entry(job.user_id).or_default().push_back(job);
    }
    let mut order: Vec<Waiting> = Vec::with_capacity(total);
    loop {
        let started = i64::try_from(order.len()).unwrap_or(i64::MAX);
        let is_due = placed
            .front()
            .is_some_and(|job| job.place.is_some_and(|place| place <= started));
        let next = lines
            .iter()
            .filter(|(_, line)| !line.is_empty() && !is_due)
            .map(|(user, _)| *user)
            .min_by(|a, b| {
                let time = |user| shares.get(user).map_or(0.0, |share| share.0);
                time(a).total_cmp(&time(b)).then(a.cmp(b))
            });
        let job = match next {
            Some(user) => lines.get_mut(&user).and_then(|line| line.pop_front()),
            None => placed.pop_front(),
        };
        let Some(job) = job else { return order };
        let share = shares.entry(job.user_id).or_insert((0.0, 1.0));
        share.0 += job.cost / share.1;
        order.push(job);
    }
}
