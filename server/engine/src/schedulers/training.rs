//! Noise levels of training: β, ᾱ and σ.

use super::config::{BetaSchedule, SchedulerConfig};
use super::sigmas::linspace_f32;

/// Cumulative products ᾱ of training, in f32.
pub fn alphas_cumprod(config: &SchedulerConfig) -> Vec<f32> {
    let count = config.num_train_timesteps;
    let mut betas: Vec<f32> = match &config.beta_schedule {
        BetaSchedule::Trained(betas) => betas.clone(),
        BetaSchedule::Linear => linspace_f32(config.beta_start, config.beta_end, count),
        BetaSchedule::ScaledLinear => {
            linspace_f32(config.beta_start.sqrt(), config.beta_end.sqrt(), count)
                .into_iter()
                .map(|root| root * root)
                .collect()
        }
        BetaSchedule::SquaredCosine => betas_for(count, |t| {
            ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0)
                .cos()
                .powi(2)
        }),
        BetaSchedule::Exponential => betas_for(count, |t| (-12.0 * t).exp()),
        BetaSchedule::Laplace => betas_for(count, |t| {
            let lambda =
                -0.5 * 1.0f64.copysign(0.5 - t) * (1.0 - 2.0 * (0.5 - t).abs() + 1e-6).ln();
            let snr = lambda.exp();
            (snr / (1.0 + snr)).sqrt()
        }),
        BetaSchedule::Sigmoid => {
            let (start, end) = (config.beta_start, config.beta_end);
            linspace_f32(-6.0, 6.0, count)
                .into_iter()
                .map(|x| 1.0 / (1.0 + (-x).exp()) * (end - start) as f32 + start as f32)
                .collect()
        }
    };
    if config.rescale_betas_zero_snr {
        betas = rescale_zero_terminal_snr(&betas);
    }
    let mut cumprod = cumulative_product(betas.iter().map(|beta| 1.0 - beta));
    if config.rescale_betas_zero_snr
        && !config.kind.walks_training_steps()
        && let Some(last) = cumprod.last_mut()
    {
        // Nearly all noise: σ must stay finite.
        *last = (2.0f32).powi(-24);
    }
    cumprod
}

/// σ of each training step, from clean to noisy, in f32.
pub fn training_sigmas(config: &SchedulerConfig) -> Vec<f32> {
    alphas_cumprod(config)
        .into_iter()
        .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
        .collect()
}

/// log σ of each training step, from clean to noisy, with numpy's last bit: which timestep a σ
/// falls on hangs on it.
pub(super) fn training_log_sigmas(config: &SchedulerConfig) -> Vec<f32> {
    training_sigmas(config).into_iter().map(numpy_ln).collect()
}

/// Natural logarithm of a positive f32 as numpy computes it on processors with FMA: a quotient of
/// two polynomials of the mantissa.
pub(super) fn numpy_ln(x: f32) -> f32 {
    const NUMERATOR: [f32; 6] = [
        2.589_979_2e-2,
        3.808_837_7e-1,
        1.480_000_6,
        2.112_677_6,
        1.0,
        0.0,
    ];
    const DENOMINATOR: [f32; 6] = [
        5.875_095_3e-3,
        1.546_476_3e-1,
        9.864_943e-1,
        2.453_006,
        2.612_677_6,
        1.0,
    ];
    if !x.is_normal() || x < 0.0 {
        return x.ln();
    }
    let bits = x.to_bits();
    let mut exponent = (bits >> 23) as f32 - 126.0;
    // The mantissa, in [½, 1); up to √½ it is doubled.
    let mut mantissa = f32::from_bits(bits & 0x007f_ffff | 0x3f00_0000);
    if mantissa <= std::f32::consts::FRAC_1_SQRT_2 {
        mantissa += mantissa;
        exponent -= 1.0;
    }
    let m = mantissa - 1.0;
    let polynomial = |coefficients: [f32; 6]| {
        coefficients
            .into_iter()
            .reduce(|sum, coefficient| sum.mul_add(m, coefficient))
            .unwrap_or(0.0)
    };
    let quotient = polynomial(NUMERATOR) / polynomial(DENOMINATOR);
    exponent.mul_add(std::f32::consts::LN_2, quotient)
}

/// β from a function that gives ᾱ between 0 and 1 (arXiv:2102.09672).
fn betas_for(count: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<f32> {
    (0..count)
        .map(|i| {
            let (now, next) = (i as f64 / count as f64, (i + 1) as f64 / count as f64);
            (1.0 - alpha_bar(next) / alpha_bar(now)).min(0.999) as f32
        })
        .collect()
}

/// `torch.cumprod` of f32 on a CPU: accumulated in f64, rounded at each output.
fn cumulative_product(values: impl Iterator<Item = f32>) -> Vec<f32> {
    values
        .scan(1.0f64, |product, value| {
            *product *= f64::from(value);
            Some(*product as f32)
        })
        .collect()
}

/// Shifts and scales √ᾱ so that the last step is all noise (arXiv:2305.08891, algorithm 1).
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative_product(betas.iter().map(|beta| 1.0 - beta))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let bars: Vec<f32> = roots
        .into_iter()
        .map(|root| {
            let moved = (root - last) * (first / (first - last));
            moved * moved
        })
        .collect();
    let mut before = 1.0;
    bars.into_iter()
        .map(|bar| {
            let alpha = bar / before;
            before = bar;
            1.0 - alpha
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::numpy_ln;

    /// Bits printed by numpy 2.4 for `np.log` of f32.
    #[test]
    fn the_logarithm_has_numpys_bits() {
        for (x, bits) in [
            (0.029_167_f32, 0xc062_38cf_u32),
            (0.041_3, 0xc04b_f60d),
            (0.5, 0xbf31_7218),
            (std::f32::consts::FRAC_1_SQRT_2, 0xbeb1_7218),
            (0.75, 0xbe93_4b11),
            (1.0, 0),
            (std::f32::consts::SQRT_2, 0x3eb1_7218),
            (3.3, 0x3f98_d274),
            (14.614_647, 0x402b_a649),
            (157.4, 0x40a1_e19c),
            (4096.0, 0x4105_1592),
        ] {
            assert_eq!(numpy_ln(x).to_bits(), bits, "ln {x}");
        }
    }
}
