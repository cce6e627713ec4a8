//! Memory that a kernel keeps from call to call, in huge pages where the system has them: arrays
//! that are written in many places at once need more translations of addresses than a core
//! remembers of small pages.

use memmap2::MmapMut;

/// What memory is asked for: numbers, any bits of which are valid.
pub trait Word: Copy {}
impl Word for f32 {}
impl Word for u16 {}
impl Word for u32 {}

/// Room for numbers. Starts empty, grows when more is asked for.
#[derive(Default)]
pub struct Pages {
    map: Option<MmapMut>,
    /// First byte in use.
    start: usize,
    /// Bytes in use from there on.
    room: usize,
}

/// Bytes of a huge page on most machines.
const HUGE: usize = 2 << 20;

impl Pages {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            map: None,
            start: 0,
            room: 0,
        }
    }

    /// `count` values, with whatever was left in them.
    ///
    /// # Panics
    /// If the system has no more memory, as any allocation does.
    pub fn room<T: Word>(&mut self, count: usize) -> &mut [T] {
        let bytes = count * size_of::<T>();
        if self.room < bytes {
            // What was there goes first, so that the two never need memory together.
            *self = Self::new();
            // A huge page needs a whole one, at a multiple of its size.
            let room = if bytes < HUGE / 8 {
                bytes
            } else {
                bytes.next_multiple_of(HUGE)
            };
            let map = MmapMut::map_anon(room + HUGE).expect("there is memory left");
            #[cfg(target_os = "linux")]
            {
                // Only a wish: without huge pages it works all the same.
                let _ = map.advise(memmap2::Advice::HugePage);
            }
            self.start = map.as_ptr().align_offset(HUGE).min(HUGE);
            self.room = room;
            self.map = Some(map);
        }
        let bytes = match &mut self.map {
            Some(map) => &mut map[self.start..][..bytes],
            None => &mut [],
        };
        // SAFETY: any bytes are such numbers; `start` is a multiple of a page, so nothing is cut off
        // before the first.
        let (_, values, _) = unsafe { bytes.align_to_mut::<T>() };
        &mut values[..count]
    }
}

/// Values of f32 that begin at a cache line: vectors of a line then never lie across two.
#[derive(Default)]
pub struct Lines {
    lines: Vec<Line>,
    count: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Lines {
    /// `count` zeros.
    pub fn zeros(count: usize) -> Self {
        Self {
            lines: vec![Line([0.0; 16]); count.div_ceil(16)],
            count,
        }
    }

    /// The values.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: lines are arrays of 16 values without gaps, and there are enough of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.count) }
    }

    /// The same memory as small whole numbers, four in the place of each value.
    pub fn as_bytes(&self) -> &[i8] {
        // SAFETY: as above; any bits are such numbers.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), 4 * self.count) }
    }

    /// As [`Lines::as_bytes`], to be changed.
    pub fn as_mut_bytes(&mut self) -> &mut [i8] {
        // SAFETY: as above; and any bits are values, too.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), 4 * self.count) }
    }

    /// The values, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_and_keeps() {
        let mut pages = Pages::new();
        assert_eq!(pages.room::<f32>(0).len(), 0);
        pages.room(3).copy_from_slice(&[1.0, 2.0, 3.0]);
        assert_eq!(pages.room::<f32>(2), [1.0, 2.0]);
        assert_eq!(pages.room::<f32>(3), [1.0, 2.0, 3.0]);
        let large = pages.room(1 << 20);
        large.fill(4.0);
        assert_eq!(large.len(), 1 << 20);
    }

    #[test]
    fn lines_hold_what_is_asked_for() {
        let mut lines = Lines::zeros(17);
        assert_eq!(lines.as_slice(), [0.0; 17]);
        lines.as_mut_slice()[16] = 1.0;
        assert_eq!(lines.as_slice()[15..], [0.0, 1.0]);
        assert_eq!(lines.as_slice().as_ptr().align_offset(64), 0);
        assert!(Lines::zeros(0).as_slice().is_empty());
    }
}
