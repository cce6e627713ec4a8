//! A hundred thousand images in a few bytes each: their shapes in order, and where their pages
//! begin. With it the wall knows how long it is and what goes where before any image is loaded.

use crate::components::{ratio_index, ratio_of};
use serde::{Deserialize, Serialize};

/// Images between two marks of an outline.
pub const MARK_EVERY: usize = 100;

/// The shapes of the images that were asked for, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// One letter for each image, see [`shape_letter`].
    pub shapes: String,
    /// Where pages begin, in order; the first at the first image.
    pub marks: Vec<Mark>,
    /// The cursor of the rest; `None` where this is all.
    pub next: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The place of its first image in the outline.
    pub at: usize,
    /// The cursor that the page comes after; empty for the first page of all.
    pub after: String,
    /// When its first image was made, e.g. 202611.
    pub month: u32,
}

/// The letter of an image's shape: the nearest of the aspect ratios that the wall knows.
pub fn shape_letter(width: u32, height: u32) -> char {
    // Fewer ratios than letters: a test of the ratios says so.
    char::from(b'a' + u8::try_from(ratio_index(width, height)).unwrap_or(0))
}

/// Width by height of a shape's letter; an unknown letter is a square.
pub(super) fn ratio_of_letter(letter: u8) -> f64 {
    ratio_of(usize::from(letter.wrapping_sub(b'a')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_says_the_shape() {
        assert_eq!(
            ratio_of_letter(shape_letter(1344, 768) as u8),
            1.78,
            "the nearest one that is known"
        );
        assert_eq!(ratio_of_letter(shape_letter(64, 64) as u8), 1.0);
        for unknown in [b' ', b'z', 0, 255] {
            assert_eq!(ratio_of_letter(unknown), 1.0);
        }
    }
}
