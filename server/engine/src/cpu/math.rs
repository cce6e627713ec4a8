//! exp, erf and what is made of them, branch-free so that the compiler turns loops over them into
//! vector code. NaN in gives NaN out: a broken model must not look like a working one.

/// eˣ to about 1 ulp, by the Cephes method: x = n ln 2 + r, polynomial in r, scaled by 2ⁿ.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Comparisons, not max/min: those would swallow NaN.
    let x = if x > 88.722_8 { 88.722_8 } else { x };
    let x = if x < -87.336_5 { -87.336_5 } else { x };
    let (n, y) = reduced(x);
    // n may reach 128, beyond the exponents of f32: scale in two steps.
    let half = (n * 0.5 + ROUND) - ROUND;
    y * power_of_two(half) * power_of_two(n - half)
}

/// As [`exp`], for x that are not above 0.
#[inline(always)]
pub fn exp_of_negative(x: f32) -> f32 {
    let x = if x < -87.336_5 { -87.336_5 } else { x };
    let (n, y) = reduced(x);
    y * power_of_two(n)
}

/// 1.5 · 2²³: adding it rounds to a whole number.
const ROUND: f32 = 12_582_912.0;

/// The n of x = n ln 2 + r, and eʳ.
#[inline(always)]
fn reduced(x: f32) -> (f32, f32) {
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    (n, p * r * r + r + 1.0)
}

/// 2ⁿ for whole n from −126 to 127.
#[inline(always)]
fn power_of_two(n: f32) -> f32 {
    // n + 127 as a mantissa, moved to where the exponent lies.
    f32::from_bits(((n + (8_388_608.0 + 127.0)).to_bits()) << 23)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function to a few ulp: a rational minimax approximation on ±4, ±1 beyond.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    p = p * s + 2.770_681_4e-8;
    p = p * s - 2.101_024e-6;
    p = p * s - 5.692_506_5e-5;
    p = p * s - 7.349_906_3e-4;
    p = p * s - 2.954_6e-3;
    p = p * s - 1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * s - 2.133_740_6e-4;
    q = q * s - 1.682_827e-3;
    q = q * s - 7.373_329_2e-3;
    q = q * s - 1.426_473_9e-2;
    x * p / q
}

/// tanh x, from e²ˣ.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // Near zero the quotient cancels; the odd series is exact there.
    let s = x * x;
    let small = x * (1.0 - s * (1.0 / 3.0 - s * (2.0 / 15.0 - s * (17.0 / 315.0))));
    let large = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if s < 0.04 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(
        range: std::ops::Range<i32>,
        step: f64,
        f: fn(f32) -> f32,
        g: fn(f64) -> f64,
        floor: f64,
    ) -> f64 {
        range
            .map(|i| {
                let x = (f64::from(i) * step) as f32;
                let (got, want) = (f64::from(f(x)), g(f64::from(x)));
                (got - want).abs() / want.abs().max(floor)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_as_good_as_f32_allows() {
        assert!(worst(-8700..8800, 0.01, exp, f64::exp, 0.0) < 3e-7);
        assert!(worst(-8700..1, 0.01, exp_of_negative, f64::exp, 0.0) < 3e-7);
        assert!(worst(-900..900, 0.01, tanh, f64::tanh, 1e-30) < 5e-7);
        assert!(worst(-600..600, 0.01, erf, candle_core::cpu::erf::erf_f64, 1e-30) < 1e-6);
        assert!(
            worst(
                -8000..2000,
                0.01,
                sigmoid,
                |x| 1.0 / (1.0 + (-x).exp()),
                1e-30
            ) < 5e-7
        );
    }

    #[test]
    fn nan_stays_nan() {
        for f in [exp, exp_of_negative, sigmoid, erf, tanh] {
            assert!(f(f32::NAN).is_nan());
        }
    }
}
