//! Giving pages of mapped weights back when their component is done: the process then holds no
//! more memory than the component at work needs. The pages stay in the system's page cache as long
//! as there is room, so that taking them up again costs a soft fault each, no reading.

use std::ops::Range;
use std::sync::Arc;

use super::mapped::WeightFile;

/// Gaps between tensors that are not worth a call of their own.
const GAP: usize = 1 << 20;

/// Where one component's tensors lie.
#[derive(Clone, Default)]
pub struct Residency {
    spans: Vec<(Arc<WeightFile>, Range<usize>)>,
}

impl Residency {
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

    /// Gives the pages back.
    pub fn release(&self) {
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
        let mut residency = Residency::default();
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
