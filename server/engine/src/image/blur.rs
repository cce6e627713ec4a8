//! Gaussian blur as Pillow does it (`src/libImaging/BoxBlur.c`), bit for bit: three box blurs whose
//! fractional radius gives the same variance (Gwosdek et al., SSVM 2011).

use rayon::prelude::*;

use super::resize::Pixels;

const PASSES: usize = 3;

/// Radius of the box whose repeated blur has the spread of a Gaussian of `radius`; computed in f32
/// where Pillow does.
fn box_radius(radius: f32) -> f32 {
    let variance = radius * radius / PASSES as f32;
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
    let mut rest = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    rest /= 6.0 * (variance - (whole + 1.0) * (whole + 1.0));
    whole + rest
}

/// Blurs a single-channel image by a Gaussian of standard deviation `radius`; 0 leaves it as it is.
pub fn gaussian_blur(image: &Pixels, radius: f32) -> Pixels {
    if radius <= 0.0 || image.values.is_empty() {
        return image.clone();
    }
    let radius = box_radius(radius);
    blur_rows(&blur_rows(image, radius).transposed(), radius).transposed()
}

/// Three box blurs of each row.
fn blur_rows(image: &Pixels, radius: f32) -> Pixels {
    let mut values = image.values.clone();
    values.par_chunks_mut(image.width).for_each(|row| {
        let mut source = row.to_vec();
        for pass in 0..PASSES {
            if pass > 0 {
                source.copy_from_slice(row);
            }
            box_blur(&source, row, radius);
        }
    });
    Pixels { values, ..*image }
}

/// One box blur; beyond the ends the end values go on. The outermost pixels count in part.
fn box_blur(source: &[u8], target: &mut [u8], radius: f32) {
    let whole = radius as i64;
    let full = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
    let part = ((1u32 << 24).wrapping_sub((whole as u32 * 2 + 1).wrapping_mul(full))) / 2;
    let last = source.len() as i64 - 1;
    let at = |x: i64| u32::from(source[x.clamp(0, last) as usize]);
    // The ends repeat: sums over them are products, so that a wide box costs no more.
    let mut sum = at(0).wrapping_mul(whole as u32 + 1);
    sum = (1..=whole.min(last)).fold(sum, |sum, x| sum.wrapping_add(at(x)));
    sum = sum.wrapping_add(at(last).wrapping_mul((whole - whole.min(last)) as u32));
    for (x, value) in target.iter_mut().enumerate() {
        let x = x as i64;
        if x > 0 {
            sum = sum
                .wrapping_add(at(x + whole))
                .wrapping_sub(at(x - whole - 1));
        }
        let far = at(x - whole - 1) + at(x + whole + 1);
        let total = sum.wrapping_mul(full).wrapping_add(far.wrapping_mul(part));
        *value = (total.wrapping_add(1 << 23) >> 24) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[u8]) -> Pixels {
        Pixels {
            width: values.len(),
            height: 1,
            channels: 1,
            values: values.to_vec(),
        }
    }

    #[test]
    fn even_images_stay_even_and_edges_soften() {
        assert_eq!(gaussian_blur(&row(&[77; 9]), 4.0).values, [77; 9]);
        let edge = [[0; 8], [255; 8]].concat();
        let soft = gaussian_blur(&row(&edge), 1.5).values;
        assert!(
            soft.is_sorted() && soft[7] > 30 && soft[8] < 225,
            "{soft:?}"
        );
        assert_eq!((soft[0], soft[15]), (0, 255));
        assert_eq!(gaussian_blur(&row(&edge), 0.0).values, edge);
    }

    #[test]
    fn a_radius_beyond_the_image_is_fine() {
        for radius in [0.01, 3.0, 50.0, 1000.0] {
            let one = gaussian_blur(&row(&[9]), radius).values;
            assert_eq!(one, [9]);
            assert_eq!(gaussian_blur(&row(&[0, 200]), radius).values.len(), 2);
        }
    }
}
