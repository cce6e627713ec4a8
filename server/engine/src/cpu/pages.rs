//! Memory that a kernel keeps from call to call, in huge pages where the system has them: arrays
//! that are written in many places at once need more translations of addresses than a core
//! remembers of small pages.

use memmap2::MmapMut;

/// Room for f32 values. Starts empty, grows when more is asked for.
#[derive(Default)]
pub struct Pages {
    map: Option<MmapMut>,
}

impl Pages {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { map: None }
    }

    /// `count` values, with whatever was left in them.
    ///
    /// # Panics
    /// If the system has no more memory, as any allocation does.
    pub fn room(&mut self, count: usize) -> &mut [f32] {
        let bytes = count * size_of::<f32>();
        if self.map.as_ref().is_none_or(|map| map.len() < bytes) {
            // What was there goes first, so that the two never need memory together.
            self.map = None;
            let map = MmapMut::map_anon(bytes.max(1)).expect("there is memory left");
            #[cfg(target_os = "linux")]
            {
                // Only a wish: without huge pages it works all the same.
                let _ = map.advise(memmap2::Advice::HugePage);
            }
            self.map = Some(map);
        }
        let bytes = self.map.as_deref_mut().unwrap_or_default();
        // SAFETY: any bytes are f32 values; a mapping begins at a page, so nothing is cut off
        // before the first value.
        let (_, values, _) = unsafe { bytes.align_to_mut::<f32>() };
        &mut values[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_and_keeps() {
        let mut pages = Pages::new();
        assert_eq!(pages.room(0).len(), 0);
        pages.room(3).copy_from_slice(&[1.0, 2.0, 3.0]);
        assert_eq!(pages.room(2), [1.0, 2.0]);
        assert_eq!(pages.room(3), [1.0, 2.0, 3.0]);
        let large = pages.room(1 << 20);
        large.fill(4.0);
        assert_eq!(large.len(), 1 << 20);
    }
}
