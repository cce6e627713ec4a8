//! What operations should give, value by value in f64, from the numbers as the device's format
//! holds them.

use crate::cpu::ConvGeometry;

/// Values compared per operation.
const SAMPLES: usize = 600;

/// Positions of a result that are compared: the corners, and others spread by a fixed rule.
pub fn positions(count: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = [0, 1, count / 2, count.saturating_sub(2), count - 1]
        .into_iter()
        .filter(|&at| at < count)
        .collect();
    // Steps by the golden ratio cover any length evenly.
    let ratio = 0.618_033_988_749_895_f64;
    chosen.extend(
        (1..SAMPLES.min(count)).map(|n| ((n as f64 * ratio).fract() * count as f64) as usize),
    );
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// `want` at [`positions`] of a result of `count` values.
pub fn sampled(count: usize, want: impl Fn(usize) -> f64) -> Vec<(usize, f64)> {
    positions(count)
        .into_iter()
        .map(|at| (at, want(at)))
        .collect()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

pub fn quick_gelu(x: f64) -> f64 {
    x * sigmoid(1.702 * x)
}

pub fn exact_gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / std::f64::consts::SQRT_2))
}

/// One value of x Wᵀ + b.
pub fn linear(x: &[f32], w: &[f32], b: &[f32], inputs: usize, at: usize) -> f64 {
    let outputs = b.len();
    let (row, column) = (at / outputs, at % outputs);
    let x = &x[row * inputs..][..inputs];
    let w = &w[column * inputs..][..inputs];
    dot(x, w) + f64::from(b[column])
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter()
        .zip(y)
        .map(|(&x, &y)| f64::from(x) * f64::from(y))
        .sum()
}

/// The input of a convolution: channels, height, width.
#[derive(Clone, Copy)]
pub struct Plane {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Plane {
    pub fn count(self) -> usize {
        self.channels * self.height * self.width
    }

    /// The size of a convolution's output.
    pub fn convolved(self, outputs: usize, kernel: usize, geometry: ConvGeometry) -> Self {
        let size = |n: usize| {
            (n + geometry.pad_before + geometry.pad_after - kernel) / geometry.stride + 1
        };
        Self {
            channels: outputs,
            height: size(self.height),
            width: size(self.width),
        }
    }
}

/// One value of a convolution with bias.
pub fn convolution(
    (x, plane): (&[f32], Plane),
    w: &[f32],
    b: &[f32],
    kernel: usize,
    geometry: ConvGeometry,
    at: usize,
) -> f64 {
    let out = plane.convolved(b.len(), kernel, geometry);
    let (image, within) = (at / out.count(), at % out.count());
    let (o, pixel) = (
        within / (out.height * out.width),
        within % (out.height * out.width),
    );
    let (oy, ox) = (pixel / out.width, pixel % out.width);
    let mut sum = f64::from(b[o]);
    for c in 0..plane.channels {
        for ky in 0..kernel {
            for kx in 0..kernel {
                let y = (oy * geometry.stride + ky).wrapping_sub(geometry.pad_before);
                let x_at = (ox * geometry.stride + kx).wrapping_sub(geometry.pad_before);
                if y < plane.height && x_at < plane.width {
                    let value =
                        x[((image * plane.channels + c) * plane.height + y) * plane.width + x_at];
                    let weight = w[((o * plane.channels + c) * kernel + ky) * kernel + kx];
                    sum += f64::from(value) * f64::from(weight);
                }
            }
        }
    }
    sum
}

/// Mean, and one over the root of the variance plus `eps`.
pub fn moments(values: &[f32], eps: f64) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let squares = values.iter().map(|&x| (f64::from(x) - mean).powi(2));
    let variance = squares.sum::<f64>() / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Shapes of an attention: one image's.
#[derive(Clone, Copy)]
pub struct Heads {
    pub count: usize,
    pub dim: usize,
    pub keys: usize,
    pub causal: bool,
}

impl Heads {
    /// What the given row and head should give: `dim` values.
    pub fn attend(self, q: &[f32], k: &[f32], v: &[f32], row: usize, head: usize) -> Vec<f64> {
        let width = self.count * self.dim;
        let first = |row: usize| row * width + head * self.dim;
        let query = &q[first(row)..][..self.dim];
        let seen = if self.causal { row + 1 } else { self.keys };
        let scores: Vec<f64> = (0..seen)
            .map(|key| dot(query, &k[first(key)..][..self.dim]) / (self.dim as f64).sqrt())
            .collect();
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..self.dim)
            .map(|i| {
                let at = |key: usize| f64::from(v[first(key) + i]);
                let sum: f64 = weights.iter().enumerate().map(|(key, w)| w * at(key)).sum();
                sum / total
            })
            .collect()
    }
}
