//! ggml's block quantisations, read back to numbers. Each block holds small whole numbers and the
//! scales (and offsets) that they are multiplied by (and moved by).

use half::f16;

/// A block quantisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    /// 32 numbers of four bits around zero.
    Q4_0,
    /// 32 numbers of four bits above a least one.
    Q4_1,
    /// 32 numbers of five bits around zero.
    Q5_0,
    /// 32 numbers of five bits above a least one.
    Q5_1,
    /// 32 numbers of eight bits.
    Q8_0,
    /// 256 numbers of two bits.
    Q2K,
    /// 256 numbers of three bits.
    Q3K,
    /// 256 numbers of four bits.
    Q4K,
    /// 256 numbers of five bits.
    Q5K,
    /// 256 numbers of six bits.
    Q6K,
}

/// Values in a block of the K kinds.
const SUPER: usize = 256;
/// Values in a block of the others.
const BLOCK: usize = 32;

impl Quantisation {
    /// By ggml's number of the type.
    pub fn find(number: u32) -> Option<Self> {
        Some(match number {
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            _ => return None,
        })
    }

    /// The name in descriptions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }

    /// Values per block, and bytes per block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (BLOCK, 18),
            Self::Q4_1 => (BLOCK, 20),
            Self::Q5_0 => (BLOCK, 22),
            Self::Q5_1 => (BLOCK, 24),
            Self::Q8_0 => (BLOCK, 34),
            Self::Q2K => (SUPER, 84),
            Self::Q3K => (SUPER, 110),
            Self::Q4K => (SUPER, 144),
            Self::Q5K => (SUPER, 176),
            Self::Q6K => (SUPER, 210),
        }
    }

    /// The numbers of whole blocks, rounded to f16, as bytes.
    pub fn to_f16(self, bytes: &[u8]) -> Vec<u8> {
        let (values, size) = self.block();
        let mut out = Vec::with_capacity(bytes.len() / size * values * 2);
        let mut numbers = [0f32; SUPER];
        for block in bytes.chunks_exact(size) {
            let numbers = &mut numbers[..values];
            self.read(block, numbers);
            out.extend(
                numbers
                    .iter()
                    .flat_map(|&number| f16::from_f32(number).to_le_bytes()),
            );
        }
        out
    }

    /// The numbers of one block; `block` and `out` have the lengths of [`Quantisation::block`].
    fn read(self, block: &[u8], out: &mut [f32]) {
        match self {
            Self::Q8_0 => {
                let scale = half_at(block, 0);
                for (out, &byte) in out.iter_mut().zip(&block[2..]) {
                    *out = scale * f32::from(byte as i8);
                }
            }
            Self::Q4_0 => {
                let scale = half_at(block, 0);
                nibbles(&block[2..], None, out, |q| scale * (f32::from(q) - 8.0));
            }
            Self::Q4_1 => {
                let (scale, least) = (half_at(block, 0), half_at(block, 2));
                nibbles(&block[4..], None, out, |q| scale * f32::from(q) + least);
            }
            Self::Q5_0 => {
                let scale = half_at(block, 0);
                let high = word_at(block, 2);
                nibbles(&block[6..], Some(high), out, |q| {
                    scale * (f32::from(q) - 16.0)
                });
            }
            Self::Q5_1 => {
                let (scale, least) = (half_at(block, 0), half_at(block, 2));
                let high = word_at(block, 4);
                nibbles(&block[8..], Some(high), out, |q| {
                    scale * f32::from(q) + least
                });
            }
            Self::Q2K => q2k(block, out),
            Self::Q3K => q3k(block, out),
            Self::Q4K => q45k(block, None, &block[16..], out),
            Self::Q5K => q45k(block, Some(&block[16..48]), &block[48..], out),
            Self::Q6K => q6k(block, out),
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn word_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// 32 numbers of four bits, low halves first, each with a fifth bit from `high` if there is one.
fn nibbles(packed: &[u8], high: Option<u32>, out: &mut [f32], number: impl Fn(u8) -> f32) {
    let fifth = |at: usize| high.map_or(0, |high| (((high >> at) & 1) as u8) << 4);
    for (at, &byte) in packed.iter().enumerate().take(BLOCK / 2) {
        out[at] = number((byte & 15) | fifth(at));
        out[at + BLOCK / 2] = number((byte >> 4) | fifth(at + BLOCK / 2));
    }
}

/// 16 groups of 16, each with a scale and an offset of four bits.
fn q2k(block: &[u8], out: &mut [f32]) {
    let (scales, packed) = (&block[..16], &block[16..80]);
    let (scale, least) = (half_at(block, 80), half_at(block, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let (half, rest) = (group / 8, group % 8);
        let (shift, side) = (2 * (rest / 2), rest % 2);
        let scale = scale * f32::from(scales[group] & 15);
        let least = least * f32::from(scales[group] >> 4);
        let packed = &packed[32 * half + 16 * side..][..16];
        for (out, byte) in out.iter_mut().zip(packed) {
            *out = scale * f32::from((byte >> shift) & 3) - least;
        }
    }
}

/// 16 groups of 16, each with a scale of six bits; the third bit of each number lies apart.
fn q3k(block: &[u8], out: &mut [f32]) {
    let (high, packed, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let all = half_at(block, 108);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let low = (scales[group % 8] >> (4 * (group / 8))) & 15;
        let top = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
        let scale = all * (f32::from(low | (top << 4)) - 32.0);
        let (half, rest) = (group / 8, group % 8);
        let (turn, side) = (rest / 2, rest % 2);
        let bit = 4 * half + turn;
        for (at, out) in out.iter_mut().enumerate() {
            let low = (packed[32 * half + 16 * side + at] >> (2 * turn)) & 3;
            let third = (high[16 * side + at] >> bit) & 1;
            *out = scale * (f32::from(low) - if third == 1 { 0.0 } else { 4.0 });
        }
    }
}

/// Eight groups of 32, each with a scale and an offset of six bits; the fifth bits of Q5_K lie
/// apart.
fn q45k(block: &[u8], high: Option<&[u8]>, packed: &[u8], out: &mut [f32]) {
    let (all, least) = (half_at(block, 0), half_at(block, 2));
    let scales = &block[4..16];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, offset) = if group < 4 {
            (scales[group] & 63, scales[group + 4] & 63)
        } else {
            (
                (scales[group + 4] & 15) | ((scales[group - 4] >> 6) << 4),
                (scales[group + 4] >> 4) | ((scales[group] >> 6) << 4),
            )
        };
        let (scale, offset) = (all * f32::from(scale), least * f32::from(offset));
        let packed = &packed[32 * (group / 2)..][..32];
        for (at, out) in out.iter_mut().enumerate() {
            let low = (packed[at] >> (4 * (group % 2))) & 15;
            let fifth = high.map_or(0, |high| ((high[at] >> group) & 1) << 4);
            *out = scale * f32::from(low | fifth) - offset;
        }
    }
}

/// 16 groups of 16, each with a scale of eight bits; the upper two bits of each number lie apart.
fn q6k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let all = half_at(block, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = all * f32::from(scales[group] as i8);
        let (half, rest) = (group / 8, group % 8);
        let (quarter, side) = (rest / 2, rest % 2);
        for (at, out) in out.iter_mut().enumerate() {
            let place = 16 * side + at;
            let low = low[64 * half + 32 * (quarter % 2) + place] >> (4 * (quarter / 2));
            let high = high[32 * half + place] >> (2 * quarter);
            let number = (low & 15) | ((high & 3) << 4);
            *out = scale * (f32::from(number) - 32.0);
        }
    }
}
