//! What a UNet's output says about the clean sample and the noise in it.

use super::config::PredictionType;

impl PredictionType {
    /// The clean sample, where `x` = clean + σ · noise.
    pub(super) fn original_at_sigma(self, sigma: f32, x: f32, output: f32) -> f32 {
        match self {
            Self::Epsilon => x - sigma * output,
            Self::VPrediction => {
                let variance = sigma * sigma + 1.0;
                output * (-sigma / variance.sqrt()) + x / variance
            }
            Self::Sample => output,
        }
    }

    /// The clean sample, where `x` = α · clean + σ · noise with α² + σ² = 1.
    pub(super) fn original(self, alpha: f32, sigma: f32, x: f32, output: f32) -> f32 {
        match self {
            Self::Epsilon => (x - sigma * output) / alpha,
            Self::VPrediction => alpha * x - sigma * output,
            Self::Sample => output,
        }
    }

    /// The noise, where `x` = α · clean + σ · noise with α² + σ² = 1.
    pub(super) fn noise(self, alpha: f32, sigma: f32, x: f32, output: f32) -> f32 {
        match self {
            Self::Epsilon => output,
            Self::VPrediction => alpha * output + sigma * x,
            Self::Sample => (x - alpha * output) / sigma,
        }
    }
}
