//! Right operands packed whole, for products that take them again and again: an attention's keys and
//! values.

#[cfg(target_arch = "x86_64")]
use super::tiled;
use super::{Bias, Operand, Output, PANELS, Panels, ROWS, Task, Unit, kernel, pieces, strips};
use crate::cpu::pages::Lines;

/// A right operand packed whole. Its depth is one panel, so its vectors should be short.
pub struct Packed {
    panels: Kind,
    count: usize,
    depth: usize,
}

/// Panels for what multiplies them.
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Tiles(tiled::PackedRight),
    Vectors(Lines),
}

/// Vectors and numbers in each that tile registers are worth: what heads of 64 numbers give is
/// split in no less time than it is multiplied.
#[cfg(target_arch = "x86_64")]
const LEAST_FOR_TILES: usize = 128;

impl Packed {
    /// Number of vectors.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Packs `b`.
    ///
    /// # Panics
    /// If its vectors reach beyond its values.
    pub fn new(b: &Operand<'_>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if tiled::takes(b.depth()) && b.depth().min(b.count()) >= LEAST_FOR_TILES {
            return Self::for_unit(Unit::Tiles, b);
        }
        Self::for_unit(Unit::Vectors(kernel()), b)
    }

    fn for_unit(unit: Unit<'_>, b: &Operand<'_>) -> Self {
        let (count, depth) = (b.count(), b.depth());
        assert!(b.is_sound(), "an operand reaches beyond its values");
        let panels = match unit {
            #[cfg(target_arch = "x86_64")]
            Unit::Tiles => Kind::Tiles(tiled::PackedRight::new(b)),
            Unit::Vectors(kernel) => {
                let strips = strips(kernel, (0, count));
                let mut values = Lines::zeros(strips.iter().map(|strip| strip.2 * depth).sum());
                let mut rest = values.as_mut_slice();
                let mut scratch = Vec::new();
                for (first, count, width) in strips {
                    let panel;
                    (panel, rest) = rest.split_at_mut(width * depth);
                    let span = (first, count);
                    b.pack(kernel, span, (0, depth), width, panel, &mut scratch);
                }
                Kind::Vectors(values)
            }
        };
        Self {
            panels,
            count,
            depth,
        }
    }
}

/// `out[i, j] = Σₖ a[i, k] b[j, k]`, or that added to `out` if `add`, on this thread alone. `a` lies
/// in rows.
///
/// # Panics
/// If the shapes do not fit each other, or `out`.
pub fn multiply_packed(out: &mut [f32], stride: usize, a: &Operand<'_>, b: &Packed, add: bool) {
    let (rows, columns, depth) = (a.count(), b.count, b.depth);
    assert_eq!(
        depth,
        a.depth(),
        "the vectors of a product differ in length"
    );
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        (rows - 1) * stride + columns <= out.len() && columns <= stride && a.is_sound(),
        "a product reaches beyond its output"
    );
    let output = Output {
        start: out.as_mut_ptr(),
        stride,
    };
    match &b.panels {
        #[cfg(target_arch = "x86_64")]
        Kind::Tiles(b) => b.multiply(a, output, !add),
        Kind::Vectors(b) => {
            let task = Task {
                kernel: kernel(),
                a,
                b: a,
                bias: Bias::None,
                depth,
                output,
            };
            PANELS.with_borrow_mut(|Panels { left, scratch, .. }| {
                let strips = strips(task.kernel, (0, columns));
                for block in pieces((0, rows), ROWS) {
                    let steps = (0, depth);
                    task.block(block, &strips, b.as_slice(), !add, steps, left, scratch);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchGenerator;

    #[test]
    fn packed_operands_give_the_same_products() {
        let mut generator = TorchGenerator::new(6);
        let mut units = vec![Unit::Vectors(kernel())];
        #[cfg(target_arch = "x86_64")]
        if tiled::takes(usize::MAX) {
            units.push(Unit::Tiles);
        }
        for (rows, columns, depth) in [(1, 1, 64), (70, 33, 64), (64, 256, 65), (40, 64, 300)] {
            let (a, b) = (
                generator.randn(rows * depth),
                generator.randn(columns * depth),
            );
            let operand = |values, count| Operand::Rows {
                values,
                count,
                depth,
                stride: depth,
            };
            let stride = columns + 1;
            for &unit in &units {
                let packed = Packed::for_unit(unit, &operand(&b, columns));
                let mut out = vec![f32::NAN; rows * stride];
                multiply_packed(&mut out, stride, &operand(&a, rows), &packed, false);
                multiply_packed(&mut out, stride, &operand(&a, rows), &packed, true);
                for (at, &got) in out.iter().enumerate() {
                    let (i, j) = (at / stride, at % stride);
                    if j == columns {
                        assert!(got.is_nan(), "gaps are kept");
                        continue;
                    }
                    let sum: f64 = (0..depth)
                        .map(|k| f64::from(a[i * depth + k]) * f64::from(b[j * depth + k]))
                        .sum();
                    let error = (f64::from(got) - 2.0 * sum).abs();
                    assert!(error <= 8e-6 * (depth as f64).sqrt(), "off by {error}");
                }
            }
        }
    }
}
