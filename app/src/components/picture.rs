//! An image with its place kept: the dominant colour shows until the file arrives.

use leptos::prelude::*;

/// The aspect ratios that the justified grid knows, in hundredths; `style/gallery.css` has a class
/// for each. The content security policy allows no `style` attribute, so ratios are classes.
const RATIOS: [u32; 17] = [
    25, 33, 42, 50, 56, 67, 75, 87, 100, 115, 133, 150, 178, 200, 240, 300, 400,
];

/// Which of the known aspect ratios is nearest (by ratio, so 2:1 and 1:2 are treated alike).
pub fn ratio_index(width: u32, height: u32) -> usize {
    let ratio = 100.0 * f64::from(width.max(1)) / f64::from(height.max(1));
    let distance = |known: u32| (ratio / f64::from(known)).ln().abs();
    (0..RATIOS.len())
        .min_by(|a, b| distance(RATIOS[*a]).total_cmp(&distance(RATIOS[*b])))
        .unwrap_or(0)
}

/// Width by height of a known aspect ratio; of an unknown one, that of a square.
pub fn ratio_of(index: usize) -> f64 {
    f64::from(RATIOS.get(index).copied().unwrap_or(100)) / 100.0
}

/// The class of the nearest known aspect ratio.
pub fn ratio_class(width: u32, height: u32) -> String {
    format!("ratio-{}", RATIOS[ratio_index(width, height)])
}

/// An image whose width, height and dominant colour are known before it arrives.
#[component]
pub fn Picture(
    /// The file's address.
    src: String,
    /// What it shows.
    alt: String,
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
    /// `#rrggbb`
    colour: String,
    /// Whether the browser may fetch it late (below the fold).
    #[prop(optional)]
    lazy: bool,
) -> impl IntoView {
    view! {
        <span class="picture">
            <svg
                class="picture-ground"
                viewBox=format!("0 0 {width} {height}")
                width=width.to_string()
                height=height.to_string()
                aria-hidden="true"
                preserveAspectRatio="none"
            >
                <rect width=width.to_string() height=height.to_string() fill=colour></rect>
            </svg>
            <img
                class="picture-image"
                src=src
                alt=alt
                width=width.to_string()
                height=height.to_string()
                loading=if lazy { "lazy" } else { "eager" }
                decoding="async"
            />
        </span>
    }
}

#[cfg(test)]
mod tests {
    use super::{RATIOS, ratio_class};

    #[test]
    fn the_nearest_ratio_is_named() {
        assert_eq!(ratio_class(128, 128), "ratio-100");
        assert_eq!(ratio_class(1344, 768), "ratio-178");
        assert_eq!(ratio_class(768, 1344), "ratio-56");
        assert_eq!(ratio_class(1, 100_000), "ratio-25");
        assert_eq!(ratio_class(0, 0), "ratio-100");
        // Outlines have a letter for each.
        const { assert!(RATIOS.len() <= 26) };
    }
}
