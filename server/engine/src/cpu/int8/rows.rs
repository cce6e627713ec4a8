//! Rows of numbers to int8 and back: whole numbers from -127 to 127 times one scale for the row.

use crate::cpu::vectorised::vectorised;

/// The largest whole number: the same on both sides of zero, so that no product of two runs over.
const MOST: f32 = 127.0;
/// 1.5 · 2²³: adding it rounds to a whole number, which then lies in the lowest bits.
const ROUND: f32 = 12_582_912.0;

vectorised! {
    /// Rounds a row to the nearest whole numbers; answers the scale. That of a row with a NaN or an
    /// infinity is NaN, so that whatever is computed from it stays undefined.
    ///
    /// # Panics
    /// If the two differ in length.
    pub fn quantise_row(values: &[f32], out: &mut [i8]) -> f32 {
        assert_eq!(values.len(), out.len(), "a number for each number");
        // Bits of positive floats compare as the floats do, and NaN is above all of them.
        let mut most = 0u32;
        for value in values {
            most = most.max(value.to_bits() & 0x7fff_ffff);
        }
        let most = f32::from_bits(most);
        if !most.is_finite() {
            out.fill(0);
            return f32::NAN;
        }
        // Below that, the reciprocal would be infinite; such a row is zero for all that follows.
        let inverse = if most > 1e-35 { MOST / most } else { 0.0 };
        for (out, value) in out.iter_mut().zip(values) {
            *out = (value * inverse + ROUND).to_bits() as i8;
        }
        most / MOST
    }

    /// The numbers of a row, or of a part of it.
    ///
    /// # Panics
    /// If the two differ in length.
    pub fn widen_i8(values: &[i8], scale: f32, out: &mut [f32]) {
        assert_eq!(values.len(), out.len(), "a number for each number");
        for (out, &value) in out.iter_mut().zip(values) {
            *out = scale * f32::from(value);
        }
    }

    /// What makes sums of products of whole numbers a row of results: those of a column of weights are
    /// `offset` times the column's own sum too large.
    pub fn finish_row(
        out: &mut [f32],
        sums: &[i32],
        offset: i32,
        column_sums: &[i32],
        row_scale: f32,
        scales: &[f32],
        biases: &[f32],
    ) {
        let columns = column_sums.iter().zip(scales).zip(biases);
        for ((out, sum), ((more, scale), bias)) in out.iter_mut().zip(sums).zip(columns) {
            *out = (sum - offset * more) as f32 * (row_scale * scale) + bias;
        }
    }

    /// What makes sums of whole numbers a row of results: `x · scale + bias` for each column.
    pub fn scale_row(row: &mut [f32], scales: &[f32], biases: &[f32]) {
        for ((x, scale), bias) in row.iter_mut().zip(scales).zip(biases) {
            *x = *x * scale + bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchGenerator;

    /// Against arithmetic in f64, number by number; at every length around those of vectors.
    #[test]
    fn rows_are_rounded_to_the_nearest() {
        let mut generator = TorchGenerator::new(8);
        for count in (0..70).chain([640, 1279]) {
            let values = generator.randn(count);
            let mut whole = vec![1; count];
            let scale = quantise_row(&values, &mut whole);
            let most = values.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!((f64::from(scale) - f64::from(most) / 127.0).abs() <= 1e-7 * f64::from(most));
            let mut back = vec![f32::NAN; count];
            widen_i8(&whole, scale, &mut back);
            for ((x, q), back) in values.iter().zip(&whole).zip(&back) {
                let exact = f64::from(*x) / f64::from(most) * 127.0;
                assert!((exact - f64::from(*q)).abs() <= 0.5001, "{x}: {q}");
                assert_eq!(*back, scale * f32::from(*q));
            }
            if count > 0 {
                assert_eq!(whole.iter().map(|q| q.unsigned_abs()).max(), Some(127));
            }
        }
    }

    #[test]
    fn what_is_undefined_stays_so_and_nothing_stays_nothing() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut whole = [0; 20];
            let mut values = [1.0; 20];
            values[17] = bad;
            assert!(quantise_row(&values, &mut whole).is_nan());
        }
        let mut whole = [1; 9];
        assert_eq!(quantise_row(&[0.0; 9], &mut whole), 0.0);
        assert_eq!(whole, [0; 9]);
        let tiny = f32::from_bits(1);
        assert!(quantise_row(&[tiny; 9], &mut whole).is_finite());
        assert_eq!(whole, [0; 9]);
    }
}
