//! Pixels on their way in and out: files read, images resized and blurred as Pillow does, and the
//! VAE's output made 8-bit.

mod blur;
mod read;
mod resize;

use ::image::RgbImage;
use candle_core::Tensor;

use crate::EngineError;
use crate::pipeline::Phase;

pub use blur::gaussian_blur;
pub use read::{MAX_PIXELS, MAX_SIDE, read_grey, read_rgb};
pub use resize::{Filter, Pixels};

/// Turns pixels about −1…1, (1, 3, h, w) in f32, into an image: scaled to 0…1, clamped, times 255
/// and rounded half to even.
///
/// # Errors
/// [`EngineError::NonFinite`] if any value is not finite.
pub fn to_rgb(pixels: &Tensor) -> Result<RgbImage, EngineError> {
    let (_, _, height, width) = pixels.dims4()?;
    let values = pixels.flatten_all()?.to_vec1::<f32>()?;
    if !all_finite(&values) {
        return Err(EngineError::NonFinite {
            phase: Phase::Decoding,
        });
    }
    let area = height * width;
    Ok(RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        ::image::Rgb([0, 1, 2].map(|channel| quantise(values[channel * area + at])))
    }))
}

/// One value about −1…1 as 0…255.
pub fn quantise(value: f32) -> u8 {
    ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

/// Whether no value is infinite or undefined.
pub fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn values_are_clamped_and_rounded_half_to_even() {
        let values = [-9.0, -1.0, 0.0, 1.0, 9.0];
        assert_eq!(values.map(quantise), [0, 0, 128, 255, 255]);
        // Exactly half way between 2 and 3: to the even one.
        assert_eq!(quantise(2.0 * (2.5 / 255.0) - 1.0), 2);
    }

    #[test]
    fn channels_become_colours() {
        // One row of two pixels: red −1 and 1, green 1 and −1, blue −1 and −1.
        let values = [-1.0f32, 1.0, 1.0, -1.0, -1.0, -1.0];
        let pixels = Tensor::from_slice(&values, (1, 3, 1, 2), &Device::Cpu).expect("a tensor");
        let image = to_rgb(&pixels).expect("finite");
        assert_eq!(image.dimensions(), (2, 1));
        assert_eq!(image.get_pixel(0, 0).0, [0, 255, 0]);
        assert_eq!(image.get_pixel(1, 0).0, [255, 0, 0]);
    }

    #[test]
    fn undefined_pixels_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            let pixels = Tensor::full(bad, (1, 3, 2, 2), &Device::Cpu).expect("a tensor");
            let error = to_rgb(&pixels).expect_err("not an image");
            assert!(matches!(
                error,
                EngineError::NonFinite {
                    phase: Phase::Decoding
                }
            ));
        }
    }
}
