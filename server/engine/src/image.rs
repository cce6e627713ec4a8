//! From the VAE's output to 8-bit pixels.

use ::image::RgbImage;
use candle_core::Tensor;

use crate::EngineError;
use crate::pipeline::Phase;

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
