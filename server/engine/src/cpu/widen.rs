//! Numbers of half precision to f32, as they lie in files: at any address.

use half::f16;

/// Widens f16 numbers, little-endian.
///
/// # Panics
/// If `bytes` has another length than `out` needs.
pub fn widen_f16(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), 2 * out.len(), "two bytes for each number");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        // SAFETY: the machine has the instruction.
        unsafe { by_instruction(bytes, out) };
        return;
    }
    plainly(bytes, out);
}

/// Number by number.
fn plainly(bytes: &[u8], out: &mut [f32]) {
    for (out, word) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = f16::from_le_bytes(*word).to_f32();
    }
}

/// Eight numbers at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "f16c")]
fn by_instruction(bytes: &[u8], out: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let (words, rest) = bytes.as_chunks::<16>();
    let (eights, rest_out) = out.as_chunks_mut::<8>();
    for (out, words) in eights.iter_mut().zip(words) {
        // SAFETY: both are as long as what is read and written, and may lie anywhere.
        unsafe {
            let words = _mm_loadu_si128(words.as_ptr().cast());
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(words));
        }
    }
    plainly(rest, rest_out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number there is, at even and odd addresses, whatever is left over at the end.
    #[test]
    fn every_number_is_widened() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for shift in 0..3 {
            let mut moved = vec![0; shift];
            moved.extend(&bytes);
            let mut out = vec![0.0; 65_536 - shift];
            widen_f16(&moved[shift..][..2 * out.len()], &mut out);
            for (word, got) in (0u16..).zip(&out) {
                let want = f16::from_bits(word).to_f32();
                assert!(
                    got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                    "{word:#x}: {got}, not {want}"
                );
            }
        }
    }
}
