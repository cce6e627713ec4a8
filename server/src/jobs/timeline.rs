//! When waiting jobs begin and end, as far as their expected costs tell: the fair order laid out over
//! the workers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A point in time from now, in seconds, that can be sorted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct At(f64);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The workers, each with the time at which it is free.
#[derive(Clone, Debug)]
pub struct Timeline {
    free_at: BinaryHeap<Reverse<At>>,
}

impl Timeline {
    /// So many workers, of which some are busy for so many seconds more.
    pub fn new(workers: usize, running: &[f64]) -> Self {
        let idle = workers.max(1).saturating_sub(running.len());
        Self {
            free_at: running
                .iter()
                .copied()
                .chain(std::iter::repeat_n(0.0, idle))
                .map(|at| Reverse(At(at)))
                .collect(),
        }
    }

    /// Gives the next job to the worker that is free first; answers when it begins and when it ends.
    pub fn next(&mut self, cost: f64) -> (f64, f64) {
        let start = self.free_at.pop().map_or(0.0, |Reverse(at)| at.0);
        let end = start + cost.max(0.0);
        self.free_at.push(Reverse(At(end)));
        (start, end)
    }

    /// When a job after all of these would begin.
    pub fn free_at(&self) -> f64 {
        self.free_at.peek().map_or(0.0, |Reverse(at)| at.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Timeline;

    #[test]
    fn a_worker_that_is_idle_begins_at_once() {
        // One of two workers is busy for a long time: the other takes what comes.
        let mut line = Timeline::new(2, &[100.0]);
        assert_eq!(line.next(10.0), (0.0, 10.0));
        assert_eq!(line.next(10.0), (10.0, 20.0));
        assert_eq!(line.next(90.0), (20.0, 110.0));
        assert_eq!(line.next(5.0), (100.0, 105.0));
        assert_eq!(line.free_at(), 105.0);
    }

    #[test]
    fn one_worker_takes_one_after_another() {
        let mut line = Timeline::new(0, &[]);
        assert_eq!(line.next(3.0), (0.0, 3.0));
        assert_eq!(line.next(4.0), (3.0, 7.0));
        let busy = Timeline::new(1, &[2.5]);
        assert_eq!(busy.free_at(), 2.5);
    }
}
