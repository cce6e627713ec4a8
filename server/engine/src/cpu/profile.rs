//! Where the time goes: kernels report what they did while a profile is being taken. Off, it costs
//! one look at a flag per call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One kind of operation on one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The operation: `linear`, `conv2d`, `attention`, …
    pub op: &'static str,
    /// Its shape, in words.
    pub shape: String,
    /// How often it ran.
    pub count: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Floating-point operations in all, a multiplication and its addition counted as two.
    pub flops: f64,
}

static TAKING: AtomicBool = AtomicBool::new(false);
/// Count, seconds and floating-point operations of each operation and shape.
type Table = BTreeMap<(&'static str, String), (u64, f64, f64)>;

static ENTRIES: Mutex<Table> = Mutex::new(Table::new());

/// Begins a profile of the whole process, from nothing.
pub fn start() {
    entries().clear();
    TAKING.store(true, Ordering::Relaxed);
}

/// Ends it: what ran, the longest first.
pub fn stop() -> Vec<Entry> {
    TAKING.store(false, Ordering::Relaxed);
    let mut list: Vec<Entry> = std::mem::take(&mut *entries())
        .into_iter()
        .map(|((op, shape), (count, seconds, flops))| Entry {
            op,
            shape,
            count,
            seconds,
            flops,
        })
        .collect();
    list.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    list
}

fn entries() -> MutexGuard<'static, Table> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`, and notes it while a profile is being taken.
pub(super) fn measured<T>(
    op: &'static str,
    shape: impl FnOnce() -> String,
    flops: f64,
    work: impl FnOnce() -> T,
) -> T {
    if !TAKING.load(Ordering::Relaxed) {
        return work();
    }
    let started = Instant::now();
    let result = work();
    let seconds = started.elapsed().as_secs_f64();
    let mut entries = entries();
    let entry = entries.entry((op, shape())).or_default();
    entry.0 += 1;
    entry.1 += seconds;
    entry.2 += flops;
    result
}
