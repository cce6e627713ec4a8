//! Noise: the same numbers as `torch.randn(…, generator=torch.Generator("cpu").manual_seed(seed))`
//! in f32.
//!
//! torch draws from a Mersenne twister (MT19937, Matsumoto and Nishimura 1998) seeded with the low
//! 32 bits of the seed, and has two ways of making normal numbers from it (Box and Muller 1958):
//! one for 16 numbers or more, one for fewer.

const N: usize = 624;
const M: usize = 397;

/// The Mersenne twister of torch's CPU generator, with the one normal number that the scalar way
/// keeps for the next call.
#[derive(Clone)]
pub struct TorchGenerator {
    seed: u64,
    state: [u32; N],
    next: usize,
    kept: Option<f64>,
}

impl TorchGenerator {
    /// As `manual_seed(seed)`. torch uses the low 32 bits only; negative seeds of Python are the
    /// same bits as their two's complement.
    pub fn new(seed: u64) -> Self {
        let mut state = [0; N];
        let mut value = seed as u32;
        for (i, slot) in state.iter_mut().enumerate() {
            if i > 0 {
                value = 1_812_433_253u32
                    .wrapping_mul(value ^ (value >> 30))
                    .wrapping_add(i as u32);
            }
            *slot = value;
        }
        Self {
            seed,
            state,
            next: N,
            kept: None,
        }
    }

    /// The seed it began with, all 64 bits: torch's `initial_seed()`.
    pub fn initial_seed(&self) -> u64 {
        self.seed
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform on [0, 1) with 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// Uniform on [0, 1) with 53 bits.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.next_u32());
        let bits = (high << 32 | u64::from(self.next_u32())) & ((1 << 53) - 1);
        bits as f64 / (1u64 << 53) as f64
    }

    /// `count` numbers of the standard normal distribution, as `torch.randn` gives them for a
    /// tensor of `count` elements.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform_f32()).collect();
        let (blocks, rest) = values.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(box_muller);
        if !rest.is_empty() {
            // The last block overlaps its neighbour, and is drawn anew.
            let mut block: [f32; BLOCK] = std::array::from_fn(|_| self.uniform_f32());
            box_muller(&mut block);
            values[count - BLOCK..].copy_from_slice(&block);
        }
        values
    }

    /// One normal number; every second one comes from the pair before.
    fn normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let angle = 2.0 * std::f64::consts::PI * self.uniform_f64();
        let radius = (-2.0 * (-self.uniform_f64()).ln_1p()).sqrt();
        self.kept = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

const BLOCK: usize = 16;

/// Turns 16 uniform numbers into 16 normal ones: the first eight give radii, the last eight angles.
fn box_muller(block: &mut [f32; BLOCK]) {
    for i in 0..BLOCK / 2 {
        let radius = (-2.0 * ln(1.0 - block[i])).sqrt();
        let (sin, cos) = sin_cos(2.0 * std::f32::consts::PI * block[i + BLOCK / 2]);
        block[i] = radius * cos;
        block[i + BLOCK / 2] = radius * sin;
    }
}

// torch computes the block with AVX2, and logarithm, sine and cosine by the polynomials of Cephes'
// single-precision library (Moshier 1989), some products fused with the sum that follows. The same
// operations in the same order give the same bits; better functions would not.

/// The polynomial with `coefficients` from the highest power down, each step fused.
fn polynomial(x: f32, coefficients: &[f32]) -> f32 {
    coefficients
        .iter()
        .copied()
        .reduce(|sum, coefficient| sum.mul_add(x, coefficient))
        .unwrap_or(0.0)
}

/// Natural logarithm of a positive number.
fn ln(x: f32) -> f32 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mut exponent = (bits >> 23) as f32 - 126.0;
    // The mantissa, in [0.5, 1); below √½ it is doubled.
    let mantissa = f32::from_bits(bits & 0x007f_ffff | 0x3f00_0000);
    let mut m = mantissa - 1.0;
    if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1.0;
        m += mantissa;
    }
    let square = m * m;
    let sum = polynomial(
        m,
        &[
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_84e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_4e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    ) * m;
    // ln 2 in two parts: the first is exact in few bits.
    let sum = sum.mul_add(square, exponent * -2.121_944_4e-4) - square * 0.5;
    m + sum + exponent * 0.693_359_4
}

/// Sine and cosine of an angle of at least zero.
fn sin_cos(angle: f32) -> (f32, f32) {
    // The octant, rounded up to an even one, and the rest of the angle, π/4 in three parts.
    let octant = ((angle * (4.0 / std::f32::consts::PI)) as i32 + 1) & !1;
    let turns = octant as f32;
    let x = turns.mul_add(-0.785_156_25, angle);
    let x = turns.mul_add(-2.418_756_5e-4, x);
    let x = turns.mul_add(-3.774_895e-8, x);
    let square = x * x;
    let cos = polynomial(square, &[2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]) * square;
    let cos = cos.mul_add(square, -(square * 0.5)) + 1.0;
    let sin = polynomial(square, &[-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]) * square;
    let sin = sin.mul_add(x, x);
    match octant & 7 {
        2 => (cos, -sin),
        4 => (-sin, -cos),
        6 => (-cos, sin),
        _ => (sin, cos),
    }
}

#[cfg(test)]
mod tests {
    use super::TorchGenerator;

    /// Printed by torch 2.13 for `torch.randn(n, generator=torch.Generator("cpu").manual_seed(s))`.
    const RECORDED: &[(u64, &[f32])] = &[
        // Fewer than 16: the scalar way.
        (0, &[1.540_996, -0.293_428_9, -2.178_789_4, 0.568_431_26]),
        // The low 32 bits are what counts.
        (
            (1 << 33) + 1,
            &[
                0.661_352_16,
                0.266_924_1,
                0.061_677_26,
                0.621_317_3,
                -0.451_905_97,
            ],
        ),
        // Exactly one block.
        (
            42,
            &[
                1.926_915_3,
                1.487_284_1,
                0.900_717_2,
                -2.105_521,
                0.678_418_46,
                -1.234_544_9,
                -0.043_067_478,
                -1.604_667,
                -0.752_135_3,
                1.648_723,
                -0.392_478_64,
                -1.403_607_1,
                -0.727_881_3,
                -0.559_430_2,
                -0.768_838_9,
                0.762_445_4,
            ],
        ),
        // A block and one more: the last 16 are drawn anew.
        (
            42,
            &[
                1.926_915_3,
                -0.159_597_47,
                -0.497_397_54,
                0.439_589_26,
                -0.758_131_15,
                1.078_317_6,
                0.800_800_56,
                1.680_620_6,
                0.355_859_9,
                1.296_422_8,
                0.610_466_5,
                1.334_737_8,
                -0.231_624_32,
                0.041_759_49,
                -0.251_575_3,
                0.859_858_5,
                -0.309_726_78,
            ],
        ),
        (
            u64::MAX,
            &[
                -2.664_297_6,
                -1.091_048_6,
                0.451_447_43,
                0.228_360_7,
                0.306_219_22,
                0.424_003,
                0.265_636_15,
                -3.149_295_3,
                -2.843_764_3,
                0.946_320_1,
                -1.044_257_3,
                0.551_071_6,
                -0.029_644_504,
                0.383_217_04,
                -0.160_953_2,
                1.967_891_5,
                1.624_383_2,
                -1.113_765_5,
                0.655_747_83,
                -1.209_690_2,
            ],
        ),
    ];

    #[test]
    fn the_noise_is_torchs() {
        for (seed, expected) in RECORDED {
            let got = TorchGenerator::new(*seed).randn(expected.len());
            for (got, want) in got.iter().zip(*expected) {
                // The recorded numbers were printed in decimal; tests/parity compares the bits.
                let error = (got - want).abs();
                assert!(
                    error <= 3e-7 * want.abs().max(1.0),
                    "seed {seed}: {got}, not {want}"
                );
            }
        }
    }

    #[test]
    fn a_generator_goes_on_where_it_stopped() {
        // Odd counts keep the second number of a pair for later, as torch does.
        let mut parts = TorchGenerator::new(5);
        let mut joined = parts.randn(3);
        joined.extend(parts.randn(4));
        assert_eq!(joined, TorchGenerator::new(5).randn(7));
    }
}
