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
}

/// Plays the claims through: smallest virtual time first, then priority, then age. `waiting` is
/// sorted by user, priority (highest first) and id; `shares` holds each user's (vtime, weight).
pub fn in_fair_order(
    waiting: Vec<Waiting>,
    mut shares: HashMap<UserId, (f64, f64)>,
) -> Vec<Waiting> {
    let mut lines: HashMap<UserId, VecDeque<Waiting>> = HashMap::new();
    let total = waiting.len();
    for job in waiting {
        lines.entry(job.user_id).or_default().push_back(job);
    }
    let mut order = Vec::with_capacity(total);
    while let Some(user) = lines
        .iter()
        .filter(|(_, line)| !line.is_empty())
        .map(|(user, _)| *user)
        .min_by(|a, b| {
            let time = |user| shares.get(user).map_or(0.0, |share| share.0);
            time(a).total_cmp(&time(b)).then(a.cmp(b))
        })
    {
        if let Some(job) = lines.get_mut(&user).and_then(|line| line.pop_front()) {
            let share = shares.entry(user).or_insert((0.0, 1.0));
            share.0 += job.cost / share.1;
            order.push(job);
        }
    }
    order
}
