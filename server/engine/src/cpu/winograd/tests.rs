//! The fast convolution against plain sums in f64.

use super::lanes::Lanes;
use super::*;
use crate::cpu::gemm::kernel::all;
use crate::rng::TorchGenerator;

/// One output value in f64.
fn reference(
    c: &Convolution<'_>,
    weight: &[f32],
    image: usize,
    output: usize,
    y: usize,
    x: usize,
) -> f64 {
    let mut sum = f64::from(c.bias[output]);
    for channel in 0..c.channels {
        for tap in 0..9 {
            let row = (y + tap / 3).wrapping_sub(c.pad_before);
            let column = (x + tap % 3).wrapping_sub(c.pad_before);
            if row < c.height && column < c.width {
                let at = ((image * c.channels + channel) * c.height + row) * c.width + column;
                let tap = weight[(output * c.channels + channel) * 9 + tap];
                sum += f64::from(c.input[at]) * f64::from(tap);
            }
        }
    }
    sum
}

/// Odd sizes, runs that cross rows and images, ragged outputs and channels, several slabs and
/// groups: every kernel, every pixel. The error is held against the size of what is summed.
#[test]
fn convolutions_are_right_at_every_edge() {
    let mut generator = TorchGenerator::new(3);
    for (batch, channels, outputs, height, width, pad, workspace) in [
        (1, 1, 1, 1, 1, 1, WORKSPACE),
        (1, 3, 5, 4, 4, 1, WORKSPACE),
        (2, 7, 9, 13, 11, 1, WORKSPACE),
        (1, 5, 17, 9, 150, 1, WORKSPACE),
        (3, 4, 8, 8, 64, 1, 1),
        (1, 130, 33, 17, 70, 1, 150_000),
        (1, 260, 12, 6, 6, 1, WORKSPACE),
        (2, 6, 10, 12, 75, 0, WORKSPACE),
    ] {
        let input = generator.randn(batch * channels * height * width);
        let weight = generator.randn(outputs * channels * 9);
        let bias = generator.randn(outputs);
        let stored = StoredMatrix::from_values(&weight, outputs, channels * 9).expect("a matrix");
        let (out_height, out_width) = (height + 2 * pad - 2, width + 2 * pad - 2);
        let convolution = Convolution {
            input: &input,
            batch,
            channels,
            height,
            width,
            weight: &stored,
            bias: &bias,
            pad_before: pad,
            out_height,
            out_width,
        };
        for kernel in all() {
            let mut out = vec![f32::NAN; batch * outputs * out_height * out_width];
            convolution.run_with(&kernel, workspace, &mut out);
            let tolerance = 8e-6 * (9.0 * channels as f64).sqrt();
            for (index, &got) in out.iter().enumerate() {
                let (plane, pixel) = (
                    index / (out_height * out_width),
                    index % (out_height * out_width),
                );
                let (image, output) = (plane / outputs, plane % outputs);
                let (y, x) = (pixel / out_width, pixel % out_width);
                let want = reference(&convolution, &weight, image, output, y, x);
                let error = (f64::from(got) - want).abs();
                assert!(
                    error <= tolerance,
                    "{} {batch}×{channels}→{outputs} {height}×{width} at {image}, {output}, {y}, {x}: {got}, not {want}",
                    kernel.name
                );
            }
        }
    }
}

/// An image's values do not depend on what it is computed with.
#[test]
fn a_batch_is_its_images() {
    let mut generator = TorchGenerator::new(4);
    let (batch, channels, outputs, side) = (3, 34, 40, 21);
    let input = generator.randn(batch * channels * side * side);
    let weight = generator.randn(outputs * channels * 9);
    let bias = generator.randn(outputs);
    let weight = StoredMatrix::from_values(&weight, outputs, channels * 9).expect("a matrix");
    let run = |input: &[f32], batch: usize, workspace: usize| {
        let mut out = vec![0.0; batch * outputs * side * side];
        let convolution = Convolution {
            input,
            batch,
            channels,
            height: side,
            width: side,
            weight: &weight,
            bias: &bias,
            pad_before: 1,
            out_height: side,
            out_width: side,
        };
        convolution.run_with(kernel(), workspace, &mut out);
        out
    };
    let all = run(&input, batch, WORKSPACE);
    let each: Vec<f32> = input
        .chunks_exact(channels * side * side)
        .flat_map(|image| run(image, 1, 100_000))
        .collect();
    assert!(all == each);
}

/// Every vector type does what the plain one does.
#[test]
fn lanes_agree() {
    fn check<V: Lanes>() {
        let values: Vec<f32> = (0..4 * V::COUNT).map(|i| i as f32 * 1.5 - 7.0).collect();
        let mut out = vec![0.0; V::COUNT];
        let mut look = |vector: V| {
            // SAFETY: there is room, and the caller has looked at the machine.
            unsafe { vector.store(out.as_mut_ptr()) };
            out.clone()
        };
        // SAFETY: as above.
        unsafe {
            let load = |at: usize| V::load(values.as_ptr().add(at * V::COUNT));
            let consecutive = [load(0), load(1), load(2), load(3)];
            for (part, vector) in V::part(consecutive).into_iter().enumerate() {
                let want: Vec<f32> = (0..V::COUNT).map(|i| values[4 * i + part]).collect();
                assert_eq!(look(vector), want);
            }
            for (at, vector) in V::join(V::part(consecutive)).into_iter().enumerate() {
                assert_eq!(look(vector), values[at * V::COUNT..(at + 1) * V::COUNT]);
            }
            assert_eq!(look(load(0).shift(values[V::COUNT])), values[1..=V::COUNT]);
            let sums = |f: fn(f32, f32) -> f32| -> Vec<f32> {
                (0..V::COUNT)
                    .map(|i| f(values[i], values[V::COUNT + i]))
                    .collect()
            };
            assert_eq!(look(load(0).add(load(1))), sums(|a, b| a + b));
            assert_eq!(look(load(0).sub(load(1))), sums(|a, b| a - b));
            assert_eq!(look(load(0).mul(load(1))), sums(|a, b| a * b));
            assert_eq!(look(V::splat(3.0)), vec![3.0; V::COUNT]);
        }
    }
    check::<[f32; 4]>();
    #[cfg(target_arch = "x86_64")]
    for kernel in all() {
        match kernel.lanes {
            8 => check::<std::arch::x86_64::__m256>(),
            16 => check::<std::arch::x86_64::__m512>(),
            _ => {}
        }
    }
}
