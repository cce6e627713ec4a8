//! The operations that are tried, on SDXL's shapes.

use candle_core::{Device, Result, Tensor};

use super::reference::{self, Heads, Plane, positions, sampled};
use super::{Outcome, timed};
use crate::ComputeDtype;
use crate::cpu::{ConvGeometry, Pointwise};
use crate::nn::{Ops, Weight};
use crate::weights::StoredMatrix;

/// Largest difference that is right, by number format: of what is only moved, of one or a few
/// roundings, of sums.
#[derive(Clone, Copy)]
pub enum Tolerance {
    /// The very value.
    Exact,
    /// A few roundings to the format.
    Rounded,
    /// Sums of products, or several operations one after the other.
    Summed,
}

impl Tolerance {
    pub fn of(self, dtype: ComputeDtype) -> f64 {
        // Half a unit in the last place is 6e-8, 4.9e-4 and 3.9e-3. What is wrong is wrong by more
        // than a few hundredths; arithmetic in TF32 in place of f32 is noticed as well.
        match (self, dtype) {
            (Self::Exact, _) => 0.0,
            (Self::Rounded, ComputeDtype::F32) => 2e-6,
            (Self::Rounded, ComputeDtype::F16) => 2e-3,
            (Self::Rounded, ComputeDtype::Bf16) => 1.5e-2,
            (Self::Summed, ComputeDtype::F32) => 2e-5,
            (Self::Summed, ComputeDtype::F16) => 4e-3,
            (Self::Summed, ComputeDtype::Bf16) => 3e-2,
        }
    }
}

/// One operation.
pub struct Check {
    pub name: &'static str,
    pub tolerance: Tolerance,
    pub run: fn(&mut Trial<'_>) -> Result<Outcome>,
}

const fn check(
    name: &'static str,
    tolerance: Tolerance,
    run: fn(&mut Trial<'_>) -> Result<Outcome>,
) -> Check {
    Check {
        name,
        tolerance,
        run,
    }
}

use Tolerance::{Exact, Rounded, Summed};

/// All of them. Attention at every number of heads in SDXL's base (10, 20), its refiner (12, 24),
/// both text encoders (12 and 20, causal) and the VAE (1).
pub const CHECKS: &[Check] = &[
    check("cast", Exact, |t| t.cast()),
    check("affine", Rounded, |t| t.affine()),
    check("add", Rounded, |t| t.add()),
    check("silu", Rounded, |t| {
        t.activation(Pointwise::Silu, reference::silu)
    }),
    check("gelu", Rounded, |t| {
        t.activation(Pointwise::Gelu, reference::exact_gelu)
    }),
    check("quick_gelu", Rounded, |t| {
        t.activation(Pointwise::QuickGelu, reference::quick_gelu)
    }),
    check("geglu", Rounded, |t| t.geglu(1280)),
    check("linear 640 to 640", Summed, |t| t.linear(300, 640, 640)),
    check("linear 1280 to 10240", Summed, |t| {
        t.linear(77, 1280, 10_240)
    }),
    check("linear 2816 to 1280", Summed, |t| t.linear(2, 2816, 1280)),
    check("conv2d 3x3", Summed, |t| {
        t.conv(320, 320, 3, ConvGeometry::same(3))
    }),
    check("conv2d 3x3 from latents", Summed, |t| {
        t.conv(4, 320, 3, ConvGeometry::same(3))
    }),
    check("conv2d 3x3 to latents", Summed, |t| {
        t.conv(320, 4, 3, ConvGeometry::same(3))
    }),
    check("conv2d 1x1", Summed, |t| {
        t.conv(960, 640, 1, ConvGeometry::same(1))
    }),
    check("conv2d 3x3 stride 2", Summed, |t| {
        t.conv(320, 320, 3, strided(1))
    }),
    check("conv2d 3x3 stride 2, one side", Summed, |t| {
        t.conv(128, 128, 3, strided(0))
    }),
    check("group_norm", Summed, |t| t.group_norm(320, 32, None)),
    check("group_norm with silu", Summed, |t| {
        t.group_norm(1280, 32, Some(Pointwise::Silu))
    }),
    check("layer_norm", Summed, |t| t.layer_norm(1280)),
    check("softmax", Rounded, |t| t.softmax(77)),
    check("softmax of 4096", Rounded, |t| t.softmax(4096)),
    check("attention 10 heads", Summed, |t| {
        t.attention(10, 64, 200, 200, false)
    }),
    check("attention 10 heads, text", Summed, |t| {
        t.attention(10, 64, 200, 77, false)
    }),
    check("attention 12 heads", Summed, |t| {
        t.attention(12, 64, 150, 150, false)
    }),
    check("attention 12 heads, text", Summed, |t| {
        t.attention(12, 64, 150, 77, false)
    }),
    check("attention 20 heads", Summed, |t| {
        t.attention(20, 64, 144, 144, false)
    }),
    check("attention 20 heads, text", Summed, |t| {
        t.attention(20, 64, 144, 154, false)
    }),
    check("attention 24 heads", Summed, |t| {
        t.attention(24, 64, 144, 144, false)
    }),
    check("attention 24 heads, text", Summed, |t| {
        t.attention(24, 64, 144, 77, false)
    }),
    check("attention 12 heads, causal", Summed, |t| {
        t.attention(12, 64, 77, 77, true)
    }),
    check("attention 20 heads, causal", Summed, |t| {
        t.attention(20, 64, 77, 77, true)
    }),
    check("attention 1 head of 512", Summed, |t| {
        t.attention(1, 512, 256, 256, false)
    }),
    check("upsample", Exact, |t| t.upsample((320, 16, 16), 32, 32)),
    check("upsample to odd sizes", Exact, |t| {
        t.upsample((320, 13, 9), 25, 17)
    }),
    check("index select", Exact, |t| t.index_select()),
    check("channels last", Exact, |t| t.channels_last()),
    check("channels first", Exact, |t| t.channels_first()),
    check("cat", Exact, |t| t.cat()),
];

const fn strided(pad_before: usize) -> ConvGeometry {
    ConvGeometry {
        stride: 2,
        pad_before,
        pad_after: 1,
    }
}

/// A device and the numbers that one operation is tried on.
pub struct Trial<'a> {
    ops: &'a Ops,
    random: Random,
}

/// Numbers spread much like a normal distribution's, quickly: there are tens of millions of them.
struct Random(u64);

impl Random {
    /// The sum of four uniform numbers out of one step of a xorshift generator (Marsaglia 2003), with
    /// mean 0 and variance 1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let sum: u64 = (0..4).map(|part| self.0 >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
    }
}

/// A tensor on the device, and its values as the format holds them.
struct Values {
    tensor: Tensor,
    list: Vec<f32>,
}

impl<'a> Trial<'a> {
    pub fn new(ops: &'a Ops, seed: u64) -> Self {
        Self {
            ops,
            random: Random(0x9e37_79b9_7f4a_7c15 ^ (seed << 32 | seed)),
        }
    }

    /// Numbers of about a normal distribution, times `spread`, around `centre`.
    fn numbers(&mut self, count: usize, spread: f32, centre: f32) -> Vec<f32> {
        (0..count)
            .map(|_| self.random.next() * spread + centre)
            .collect()
    }

    fn draw(&mut self, shape: &[usize], spread: f32, centre: f32) -> Result<Values> {
        let mut list = self.numbers(shape.iter().product(), spread, centre);
        let tensor = self
            .ops
            .take(&Tensor::from_slice(&list, shape, &Device::Cpu)?)?;
        let dtype = self.ops.dtype();
        list.iter_mut()
            .for_each(|value| *value = rounded(*value, dtype));
        Ok(Values { tensor, list })
    }

    /// As [`Trial::draw`], in f32 whatever is computed in.
    fn draw_precise(&mut self, size: usize, spread: f32, centre: f32) -> Result<Values> {
        let list = self.numbers(size, spread, centre);
        let tensor = Tensor::from_slice(&list, size, &Device::Cpu)?;
        Ok(Values {
            tensor: self.ops.take_precise(&tensor)?,
            list,
        })
    }

    /// A weight whose products keep the size of their inputs.
    fn weight(&mut self, rows: usize, columns: usize) -> Result<(Weight, Vec<f32>)> {
        let spread = 1.0 / (columns as f32).sqrt();
        let mut list = self.numbers(rows * columns, spread, 0.0);
        let Some(stored) = StoredMatrix::from_values(&list, rows, columns) else {
            candle_core::bail!("{rows}×{columns} is no matrix");
        };
        let dtype = self.ops.dtype();
        list.iter_mut()
            .for_each(|value| *value = rounded(*value, dtype));
        Ok((Weight::new(stored, self.ops), list))
    }

    fn cast(&mut self) -> Result<Outcome> {
        // Beside drawn numbers those at the ends: a format's smallest, largest, ties of rounding.
        let mut list = self.numbers(60_000, 3.0, 0.0);
        list.extend([
            0.0,
            -0.0,
            1.0 + 2f32.powi(-9),
            1.0 + 3.0 * 2f32.powi(-9),
            6e-8,
            1e-5,
            65_504.0,
        ]);
        let count = list.len();
        let tensor = Tensor::from_slice(&list, count, &Device::Cpu)?;
        let (ops, dtype) = (self.ops, self.ops.dtype());
        let want = list.iter().map(|&value| f64::from(rounded(value, dtype)));
        let want = want.enumerate().collect();
        timed(ops, count, want, || ops.round_trip(&ops.take(&tensor)?))
    }

    fn affine(&mut self) -> Result<Outcome> {
        let x = self.draw(&[2, 320, 15, 17], 1.0, 0.0)?;
        let want = sampled(x.list.len(), |at| f64::from(x.list[at]) * 0.5 + 0.25);
        timed(self.ops, x.list.len(), want, || {
            self.ops.affine(&x.tensor, 0.5, 0.25)
        })
    }

    fn add(&mut self) -> Result<Outcome> {
        let shape = [2, 320, 15, 17];
        let (x, y) = (self.draw(&shape, 1.0, 0.0)?, self.draw(&shape, 1.0, 0.0)?);
        let want = sampled(x.list.len(), |at| {
            f64::from(x.list[at]) + f64::from(y.list[at])
        });
        timed(self.ops, x.list.len(), want, || {
            self.ops.add(&x.tensor, &y.tensor)
        })
    }

    fn activation(&mut self, function: Pointwise, reference: fn(f64) -> f64) -> Result<Outcome> {
        let x = self.draw(&[77, 1280], 2.0, 0.0)?;
        let want = sampled(x.list.len(), |at| reference(f64::from(x.list[at])));
        timed(self.ops, x.list.len(), want, || {
            self.ops.activate(&x.tensor, function)
        })
    }

    fn geglu(&mut self, half: usize) -> Result<Outcome> {
        let rows = 64;
        let x = self.draw(&[rows, 2 * half], 1.0, 0.0)?;
        let want = sampled(rows * half, |at| {
            let row = &x.list[at / half * 2 * half..];
            f64::from(row[at % half]) * reference::exact_gelu(f64::from(row[half + at % half]))
        });
        timed(self.ops, rows * half, want, || self.ops.geglu(&x.tensor))
    }

    fn linear(&mut self, rows: usize, inputs: usize, outputs: usize) -> Result<Outcome> {
        let x = self.draw(&[1, rows, inputs], 1.0, 0.0)?;
        let (weight, w) = self.weight(outputs, inputs)?;
        let b = self.draw(&[outputs], 0.5, 0.0)?;
        let want = sampled(rows * outputs, |at| {
            reference::linear(&x.list, &w, &b.list, inputs, at)
        });
        timed(self.ops, rows * outputs, want, || {
            self.ops.linear(&x.tensor, &weight, Some(&b.tensor))
        })
    }

    fn conv(
        &mut self,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        geometry: ConvGeometry,
    ) -> Result<Outcome> {
        let batch = 2;
        let plane = Plane {
            channels: inputs,
            height: 14,
            width: 18,
        };
        let x = self.draw(&[batch, inputs, plane.height, plane.width], 1.0, 0.0)?;
        let (weight, w) = self.weight(outputs, inputs * kernel * kernel)?;
        let b = self.draw(&[outputs], 0.5, 0.0)?;
        let count = batch * plane.convolved(outputs, kernel, geometry).count();
        let want = sampled(count, |at| {
            reference::convolution((&x.list, plane), &w, &b.list, kernel, geometry, at)
        });
        timed(self.ops, count, want, || {
            self.ops
                .conv2d(&x.tensor, &weight, Some(&b.tensor), kernel, geometry)
        })
    }

    fn group_norm(
        &mut self,
        channels: usize,
        groups: usize,
        activation: Option<Pointwise>,
    ) -> Result<Outcome> {
        let (batch, side, eps) = (2, 12, 1e-5);
        let area = side * side;
        // Around 3: a variance from the mean of squares would show.
        let x = self.draw(&[batch, channels, side, side], 1.0, 3.0)?;
        let w = self.draw_precise(channels, 0.2, 1.0)?;
        let b = self.draw_precise(channels, 0.2, 0.0)?;
        let size = channels / groups * area;
        let moments: Vec<(f64, f64)> = x
            .list
            .chunks(size)
            .map(|group| reference::moments(group, eps))
            .collect();
        let want = sampled(x.list.len(), |at| {
            let (mean, inverse) = moments[at / size];
            let channel = at / area % channels;
            let normed = (f64::from(x.list[at]) - mean) * inverse * f64::from(w.list[channel])
                + f64::from(b.list[channel]);
            activation.map_or(normed, |_| reference::silu(normed))
        });
        timed(self.ops, x.list.len(), want, || {
            self.ops
                .group_norm(&x.tensor, &w.tensor, &b.tensor, groups, eps, activation)
        })
    }

    fn layer_norm(&mut self, size: usize) -> Result<Outcome> {
        let eps = 1e-5;
        let x = self.draw(&[2, 77, size], 1.0, 3.0)?;
        let w = self.draw_precise(size, 0.2, 1.0)?;
        let b = self.draw_precise(size, 0.2, 0.0)?;
        let moments: Vec<(f64, f64)> = x
            .list
            .chunks(size)
            .map(|row| reference::moments(row, eps))
            .collect();
        let want = sampled(x.list.len(), |at| {
            let (mean, inverse) = moments[at / size];
            (f64::from(x.list[at]) - mean) * inverse * f64::from(w.list[at % size])
                + f64::from(b.list[at % size])
        });
        timed(self.ops, x.list.len(), want, || {
            self.ops.layer_norm(&x.tensor, &w.tensor, &b.tensor, eps)
        })
    }

    fn softmax(&mut self, keys: usize) -> Result<Outcome> {
        let rows = 40;
        let x = self.draw(&[rows, keys], 3.0, 0.0)?;
        let totals: Vec<f64> = x
            .list
            .chunks(keys)
            .map(|row| row.iter().map(|&value| f64::from(value).exp()).sum())
            .collect();
        let want = sampled(rows * keys, |at| {
            f64::from(x.list[at]).exp() / totals[at / keys]
        });
        timed(self.ops, rows * keys, want, || self.ops.softmax(&x.tensor))
    }

    fn attention(
        &mut self,
        count: usize,
        dim: usize,
        queries: usize,
        keys: usize,
        causal: bool,
    ) -> Result<Outcome> {
        let heads = Heads {
            count,
            dim,
            keys,
            causal,
        };
        let (batch, width) = (2, count * dim);
        // Keys are wide enough that some of them win clearly.
        let q = self.draw(&[batch, queries, width], 1.0, 0.0)?;
        let k = self.draw(&[batch, keys, width], 1.5, 0.0)?;
        let v = self.draw(&[batch, keys, width], 1.0, 0.0)?;
        // Every head is seen, in other rows each.
        let mut want = Vec::new();
        for at in positions(batch * queries).into_iter().step_by(12) {
            let (element, row) = (at / queries, at % queries);
            for head in 0..count {
                let row = (row + 7 * head) % queries;
                let q = &q.list[element * queries * width..];
                let k = &k.list[element * keys * width..];
                let v = &v.list[element * keys * width..];
                let first = (element * queries + row) * width + head * dim;
                let values = heads.attend(q, k, v, row, head);
                want.extend(values.into_iter().enumerate().map(|(i, x)| (first + i, x)));
            }
        }
        timed(self.ops, batch * queries * width, want, || {
            self.ops
                .attention(&q.tensor, &k.tensor, &v.tensor, count, causal)
        })
    }

    fn upsample(
        &mut self,
        (channels, rows, columns): (usize, usize, usize),
        height: usize,
        width: usize,
    ) -> Result<Outcome> {
        let x = self.draw(&[1, channels, rows, columns], 1.0, 0.0)?;
        let count = channels * height * width;
        let want = sampled(count, |at| {
            let (plane, y, x_at) = (at / (height * width), at / width % height, at % width);
            let (y, x_at) = (y * rows / height, x_at * columns / width);
            f64::from(x.list[(plane * rows + y) * columns + x_at])
        });
        timed(self.ops, count, want, || {
            self.ops.upsample_nearest(&x.tensor, height, width)
        })
    }

    fn index_select(&mut self) -> Result<Outcome> {
        let (rows, width) = (500, 768);
        let x = self.draw(&[rows, width], 1.0, 0.0)?;
        let chosen: Vec<u32> = (0..77).map(|at| (at * 131 + 7) % rows as u32).collect();
        let want = sampled(chosen.len() * width, |at| {
            f64::from(x.list[chosen[at / width] as usize * width + at % width])
        });
        timed(self.ops, chosen.len() * width, want, || {
            self.ops.select(&x.tensor, &chosen)
        })
    }

    fn channels_last(&mut self) -> Result<Outcome> {
        let (channels, height, width) = (640, 9, 11);
        let area = height * width;
        let x = self.draw(&[2, channels, height, width], 1.0, 0.0)?;
        let want = sampled(x.list.len(), |at| {
            let (element, pixel) = (at / (area * channels), at / channels % area);
            f64::from(x.list[(element * channels + at % channels) * area + pixel])
        });
        timed(self.ops, x.list.len(), want, || {
            self.ops.channels_last(&x.tensor)
        })
    }

    fn channels_first(&mut self) -> Result<Outcome> {
        let (channels, height, width) = (640, 9, 11);
        let area = height * width;
        let x = self.draw(&[2, area, channels], 1.0, 0.0)?;
        let want = sampled(x.list.len(), |at| {
            let (element, channel) = (at / (area * channels), at / area % channels);
            f64::from(x.list[(element * area + at % area) * channels + channel])
        });
        timed(self.ops, x.list.len(), want, || {
            self.ops.channels_first(&x.tensor, height, width)
        })
    }

    fn cat(&mut self) -> Result<Outcome> {
        let area = 8 * 8;
        let (x, y) = (
            self.draw(&[2, 1280, 8, 8], 1.0, 0.0)?,
            self.draw(&[2, 640, 8, 8], 1.0, 0.0)?,
        );
        let count = 2 * (1280 + 640) * area;
        let want = sampled(count, |at| {
            let (element, channel) = (at / (1920 * area), at / area % 1920);
            f64::from(if channel < 1280 {
                x.list[(element * 1280 + channel) * area + at % area]
            } else {
                y.list[(element * 640 + channel - 1280) * area + at % area]
            })
        });
        timed(self.ops, count, want, || {
            self.ops.cat(&[&x.tensor, &y.tensor], 1)
        })
    }
}

/// A number as a format holds it.
fn rounded(value: f32, dtype: ComputeDtype) -> f32 {
    match dtype {
        ComputeDtype::F32 => value,
        ComputeDtype::F16 => half::f16::from_f32(value).to_f32(),
        ComputeDtype::Bf16 => half::bf16::from_f32(value).to_f32(),
    }
}
