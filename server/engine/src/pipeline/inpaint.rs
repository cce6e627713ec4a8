//! Masks: where to paint, the region around it, and putting the result back. After diffusers'
//! `VaeImageProcessor` (`get_crop_region`, `resize` with "fill" and "crop", `apply_overlay`) and
//! Pillow's compositing.

use ::image::{GrayImage, RgbImage};

use super::image_to_image::{image_of, pixels_of};
use crate::image::{Filter, Pixels, gaussian_blur};
use crate::{EngineError, Mask};

/// A mask at the size that is worked at.
pub(super) struct Masked {
    /// Whether each pixel is painted: height · width.
    pub painted: Vec<bool>,
    width: usize,
    /// The region that is worked on, where it is not the whole image.
    pub region: Option<Region>,
    /// The mask as given, blurred.
    blurred: Pixels,
}

/// A rectangle of the input image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// Blurs a mask, finds its region and brings it to the size that is worked at: white is painted.
///
/// # Errors
/// [`EngineError::InvalidRequest`] if only the masked region is wanted and the mask is black.
pub(super) fn prepare_mask(
    mask: &Mask,
    width: usize,
    height: usize,
) -> Result<Masked, EngineError> {
    let blurred = gaussian_blur(&grey(&mask.image), mask.blur);
    let region = mask
        .only_masked_padding
        .map(|padding| {
            Region::around(&blurred, padding, width, height).ok_or_else(|| {
                EngineError::invalid("mask", "is black throughout: there is no region to paint")
            })
        })
        .transpose()?;
    let sized = match &region {
        None => blurred.resize(width, height, Filter::Lanczos),
        Some(region) => region.cut(&blurred).resize_and_fill(width, height),
    };
    Ok(Masked {
        // Values below 0.5 are kept: 127 / 255 is, 128 / 255 is not.
        painted: sized.values.iter().map(|&value| value >= 128).collect(),
        width,
        region,
        blurred,
    })
}

fn grey(image: &GrayImage) -> Pixels {
    Pixels {
        width: image.width() as usize,
        height: image.height() as usize,
        channels: 1,
        values: image.as_raw().clone(),
    }
}

impl Masked {
    /// The mask at the size of the latents: of each `factor` by `factor` pixels the first.
    pub fn for_latents(&self, factor: usize) -> Vec<bool> {
        let height = self.painted.len() / self.width;
        (0..height / factor)
            .flat_map(|y| (0..self.width / factor).map(move |x| (x, y)))
            .map(|(x, y)| self.painted[y * factor * self.width + x * factor])
            .collect()
    }

    /// Puts what was made of the region back into the image, under the blurred mask.
    pub fn put_back(&self, made: RgbImage, original: &RgbImage) -> RgbImage {
        let Some(region) = &self.region else {
            return made;
        };
        let original = pixels_of(original);
        let made = pixels_of(&made).resize_and_crop(region.width, region.height);
        let mut result = original.black(original.width, original.height);
        result.paste(&made, region.left as i64, region.top as i64);
        let pairs = result.values.chunks_mut(3).zip(original.values.chunks(3));
        for ((new, old), &mask) in pairs.zip(&self.blurred.values) {
            for (new, &old) in new.iter_mut().zip(old) {
                *new = composite(*new, old, 255 - mask);
            }
        }
        image_of(result)
    }
}

/// `old` over `new` with an opacity of `alpha`, by way of Pillow's premultiplied colours.
fn composite(new: u8, old: u8, alpha: u8) -> u8 {
    const PRECISION_BITS: u32 = 7;
    let (new, old, alpha) = (u32::from(new), u32::from(old), u32::from(alpha));
    if alpha == 0 {
        return new as u8;
    }
    // 1. The image, pasted onto nothing with the mask's inverse: colours times alpha.
    let product = old * alpha + 128;
    let premultiplied = ((product >> 8) + product) >> 8;
    // 2. Back to plain colours.
    let old = if alpha == 255 {
        premultiplied
    } else {
        (255 * premultiplied / alpha).min(255)
    };
    // 3. Over the new one, which is opaque.
    let opaque = alpha * 255 + 255 * (255 - alpha);
    let coefficient = alpha * 255 * 255 * (1 << PRECISION_BITS) / opaque;
    let rest = 255 * (1 << PRECISION_BITS) - coefficient;
    let sum = old * coefficient + new * rest + (0x80 << PRECISION_BITS);
    ((((sum >> 8) + sum) >> 8) >> PRECISION_BITS) as u8
}

impl Region {
    /// The smallest region with all of the mask that is not black and `padding` pixels around it,
    /// widened to the proportions of `width` by `height` as far as the image reaches.
    fn around(mask: &Pixels, padding: u32, width: usize, height: usize) -> Option<Self> {
        let rows = mask.values.chunks(mask.width).enumerate();
        let (mut left, mut right, mut top, mut bottom) = (i64::MAX, -1, i64::MAX, -1);
        for (y, row) in rows {
            let Some(first) = row.iter().position(|&value| value != 0) else {
                continue;
            };
            let last = row.iter().rposition(|&value| value != 0).unwrap_or(first);
            (left, right) = (left.min(first as i64), right.max(last as i64));
            (top, bottom) = (top.min(y as i64), y as i64);
        }
        if right < 0 {
            return None;
        }
        let (padding, ratio) = (i64::from(padding), width as f64 / height as f64);
        let (limit_x, limit_y) = (mask.width as i64, mask.height as i64);
        let x = ((left - padding).max(0), (right + 1 + padding).min(limit_x));
        let y = ((top - padding).max(0), (bottom + 1 + padding).min(limit_y));
        let (wide, high) = (x.1 - x.0, y.1 - y.0);
        let (x, y) = if wide as f64 / high as f64 > ratio {
            (x, widened(y, wide as f64 / ratio, limit_y))
        } else {
            (widened(x, high as f64 * ratio, limit_x), y)
        };
        Some(Self {
            left: x.0 as usize,
            top: y.0 as usize,
            width: (x.1 - x.0) as usize,
            height: (y.1 - y.0) as usize,
        })
    }

    /// The region's part of an image.
    pub fn cut(&self, image: &Pixels) -> Pixels {
        image.crop(self.left, self.top, self.width, self.height)
    }
}

/// A span made as long as `desired`, both ways alike, then moved and cut to fit into `0…limit`.
fn widened((from, to): (i64, i64), desired: f64, limit: i64) -> (i64, i64) {
    let more = (desired - (to - from) as f64) as i64;
    let before = more.div_euclid(2);
    let (mut from, mut to) = (from - before, to + more - before);
    if to >= limit {
        (from, to) = (from - (to - limit), limit);
    }
    if from < 0 {
        (from, to) = (0, to - from);
    }
    (from, to.min(limit))
}

impl Pixels {
    /// Fits the image into `width` by `height` and fills what is left beside it with its edges.
    pub(super) fn resize_and_fill(&self, width: usize, height: usize) -> Self {
        let ratio = width as f64 / height as f64;
        let own = self.width as f64 / self.height as f64;
        let new_width = if ratio < own {
            width
        } else {
            (self.width * height / self.height).max(1)
        };
        let new_height = if ratio >= own {
            height
        } else {
            (self.height * width / self.width).max(1)
        };
        let resized = self.resize(new_width, new_height, Filter::Lanczos);
        let mut result = self.black(width, height);
        let (left, top) = (width / 2 - new_width / 2, height / 2 - new_height / 2);
        result.paste(&resized, left as i64, top as i64);
        if ratio < own && top > 0 {
            let edge = |rows| resized.resize_rows(width, top, rows, Filter::Bicubic);
            result.paste(&edge((0, 0)), 0, 0);
            let below = (top + new_height) as i64;
            result.paste(&edge((new_height, new_height)), 0, below);
        } else if ratio > own && left > 0 {
            let turned = resized.transposed();
            let edge = |columns| {
                let edge = turned.resize_rows(height, left, columns, Filter::Bicubic);
                edge.transposed()
            };
            result.paste(&edge((0, 0)), 0, 0);
            let beside = (left + new_width) as i64;
            result.paste(&edge((new_width, new_width)), beside, 0);
        }
        result
    }

    /// Covers `width` by `height` with the image and cuts off what is too much.
    fn resize_and_crop(&self, width: usize, height: usize) -> Self {
        let ratio = width as f64 / height as f64;
        let own = self.width as f64 / self.height as f64;
        let new_width = if ratio > own {
            width
        } else {
            (self.width * height / self.height).max(1)
        };
        let new_height = if ratio <= own {
            height
        } else {
            (self.height * width / self.width).max(1)
        };
        let resized = self.resize(new_width, new_height, Filter::Lanczos);
        let mut result = self.black(width, height);
        let left = (width / 2) as i64 - (new_width / 2) as i64;
        let top = (height / 2) as i64 - (new_height / 2) as i64;
        result.paste(&resized, left, top);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: usize, height: usize, white: &[(usize, usize)]) -> Pixels {
        let mut values = vec![0; width * height];
        for (x, y) in white {
            values[y * width + x] = 255;
        }
        Pixels {
            width,
            height,
            channels: 1,
            values,
        }
    }

    fn region(mask: &Pixels, padding: u32, size: (usize, usize)) -> [usize; 4] {
        let region = Region::around(mask, padding, size.0, size.1).expect("not black");
        [region.left, region.top, region.width, region.height]
    }

    #[test]
    fn regions_hold_the_mask_and_stay_inside() {
        // A mask of 10 by 4 pixels at (20, 30), in an image of 64 by 48.
        let one = mask(64, 48, &[(20, 30), (29, 33)]);
        assert_eq!(region(&one, 0, (64, 64)), [20, 27, 10, 10]);
        assert_eq!(region(&one, 2, (64, 64)), [18, 25, 14, 14]);
        assert_eq!(region(&one, 0, (128, 32)), [17, 30, 16, 4]);
        // At a corner it moves inwards; larger than the image it is cut.
        let corner = mask(64, 48, &[(60, 0), (63, 1)]);
        assert_eq!(region(&corner, 0, (64, 64)), [60, 0, 4, 4]);
        assert_eq!(region(&corner, 100, (64, 8)), [0, 0, 64, 48]);
        assert_eq!(Region::around(&mask(8, 8, &[]), 4, 8, 8), None);
    }

    #[test]
    fn compositing_keeps_both_ends() {
        for value in 0..=255 {
            assert_eq!(composite(value, 7, 0), value);
            assert_eq!(composite(7, value, 255), value);
        }
        assert!((97..=99).contains(&composite(200, 0, 130)));
    }

    #[test]
    fn filling_repeats_the_edges() {
        let image = Pixels {
            width: 2,
            height: 1,
            channels: 1,
            values: vec![10, 250],
        };
        let filled = image.resize_and_fill(2, 5);
        assert_eq!(filled.values.len(), 10);
        assert_eq!(filled.values[..2], filled.values[8..]);
        assert_eq!(filled.values[4..6], [10, 250]);
    }
}
