//! Giving memory back when a component is done. Mapped pages: the process then holds no more of
//! them than the component at work needs; they stay in the system's page cache as long as there is
//! room, so that taking them up again costs a soft fault each, no reading. Copies on a device: they
//! stay or go, as the model's residence says.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::mapped::WeightFile;
use crate::device::Residence;
use crate::nn::{Ops, Weight};

/// Gaps between tensors that are not worth a call of their own.
const GAP: usize = 1 << 20;

/// Where one component's tensors lie. Clones share the weights that are added later.
#[derive(Clone)]
pub struct Residency {
    spans: Vec<(Arc<WeightFile>, Range<usize>)>,
    ops: Ops,
    weights: Arc<Mutex<Vec<Weight>>>,
}

impl Residency {
    /// Of nothing yet, computed by `ops`.
    pub(super) fn new(ops: &Ops) -> Self {
        Self {
            spans: Vec::new(),
            ops: ops.clone(),
            weights: Arc::default(),
        }
    }

    /// Takes a weight under its care.
    pub(super) fn add_weight(&self, weight: &Weight) {
        self.lock().push(weight.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weight>> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies all weights to the device, where that is what holds them from loading on.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn fill(&self) -> candle_core::Result<()> {
        if self.ops.has_kernels() || self.ops.residence() == Residence::InTurn {
            return Ok(());
        }
        for weight in &*self.lock() {
            weight.make_copy()?;
        }
        self.release();
        Ok(())
    }

    /// The spans of `ranges` in `file`, neighbours joined.
    pub(super) fn add(&mut self, file: &Arc<WeightFile>, mut ranges: Vec<Range<usize>>) {
        ranges.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        let spans = joined.into_iter().map(|range| (Arc::clone(file), range));
        self.spans.extend(spans);
    }

    /// Gives the device's memory back, where components have it in turn.
    pub fn end_turn(&self) {
        if self.ops.residence() == Residence::InTurn {
            self.lock().iter().for_each(Weight::drop_copy);
        }
    }

    /// Gives the pages back, and ends the component's turn.
    pub fn release(&self) {
        self.end_turn();
        for (file, range) in &self.spans {
            file.release(range.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_span() {
        let file = Arc::new(WeightFile::owned("a".as_ref(), vec![0; 16]));
        let mut residency = Residency::new(&Ops::kernels());
        residency.add(&file, vec![3 * GAP..3 * GAP + 5, 0..10, 10..20]);
        let spans: Vec<_> = residency
            .spans
            .iter()
            .map(|(_, range)| range.clone())
            .collect();
        assert_eq!(spans, [0..20, 3 * GAP..3 * GAP + 5]);
        // Bytes that are not mapped stay.
        residency.release();
        assert_eq!(file.bytes(), [0; 16]);
    }
}
