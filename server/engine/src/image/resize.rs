//! Resizing as Pillow does it (`src/libImaging/Resample.c`), bit for bit: two passes over 8-bit
//! values with weights of 22 fractional bits. diffusers prepares its input images with it.

use rayon::prelude::*;

/// Fractional bits of the weights: 32, less 8 for the value and 2 for sign and overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// How a new pixel is weighed from old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Windowed sinc over three pixels each way: diffusers' choice for images and masks.
    Lanczos,
    /// Cubic convolution over two pixels each way (a = −0.5): Pillow's default.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => 3.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Lanczos => {
                let sinc = |x: f64| {
                    if x == 0.0 {
                        return 1.0;
                    }
                    let x = x * std::f64::consts::PI;
                    x.sin() / x
                };
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
            Self::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
        }
    }
}

/// Interleaved 8-bit values: `channels` per pixel, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values per pixel.
    pub channels: usize,
    /// All values: `width` · `height` · `channels`.
    pub values: Vec<u8>,
}

/// The old pixels that one new one is made of: the first, and the weights from there on.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// The taps of `output` new pixels spread over `from`…`to` of `input` old ones.
fn taps(input: usize, from: f64, to: f64, output: usize, filter: Filter) -> Vec<Taps> {
    let scale = (to - from) / output as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..output)
        .map(|at| {
            let centre = from + (at as f64 + 0.5) * scale;
            // As in C, conversion to a whole number cuts towards zero.
            let first = ((centre - support + 0.5) as i64).max(0) as usize;
            let end = ((centre + support + 0.5) as i64).clamp(0, input as i64) as usize;
            let weights: Vec<f64> = (first..end)
                .map(|x| filter.weight((x as f64 - centre + 0.5) * (1.0 / stretch)))
                .collect();
            let sum: f64 = weights.iter().sum();
            let one = f64::from(1 << PRECISION_BITS);
            let weights = weights
                .into_iter()
                .map(|weight| if sum == 0.0 { weight } else { weight / sum })
                .map(|weight| (weight * one + 0.5f64.copysign(weight)) as i32)
                .collect();
            Taps { first, weights }
        })
        .collect()
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Half a unit, so that cutting off the fraction rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

impl Pixels {
    /// Resizes all of the image to `width` by `height`, both above zero.
    pub fn resize(&self, width: usize, height: usize, filter: Filter) -> Self {
        self.resize_rows(width, height, (0, self.height), filter)
    }

    /// Resizes the rows `rows.0`…`rows.1` to `width` by `height`. An empty span at an edge gives
    /// rows made of those beside it, as Pillow's `box` does.
    pub fn resize_rows(
        &self,
        width: usize,
        height: usize,
        rows: (usize, usize),
        filter: Filter,
    ) -> Self {
        let across =
            (width != self.width).then(|| taps(self.width, 0.0, self.width as f64, width, filter));
        let down = (height != self.height || rows != (0, self.height))
            .then(|| taps(self.height, rows.0 as f64, rows.1 as f64, height, filter));
        match (across, down) {
            (None, None) => self.clone(),
            (Some(across), None) => self.across(&across),
            (None, Some(down)) => self.down(&down),
            (Some(across), Some(down)) if self.shrinks_first_downwards(width, height) => {
                self.down(&down).across(&across)
            }
            (Some(across), Some(down)) => self.across(&across).down(&down),
        }
    }

    /// Which pass comes first decides how the values between them are rounded. Older Pillows always
    /// go across first; Pillow 13 goes down first where more than twice as many rows as columns are
    /// lost (found by trying sizes).
    fn shrinks_first_downwards(&self, width: usize, height: usize) -> bool {
        let fewer_columns = self.width as i64 - width as i64;
        let fewer_rows = self.height as i64 - height as i64;
        fewer_rows > 0 && 2 * fewer_columns < fewer_rows
    }

    fn across(&self, taps: &[Taps]) -> Self {
        let channels = self.channels;
        let width = taps.len();
        let mut values = vec![0; width * self.height * channels];
        values
            .par_chunks_mut(width * channels)
            .zip(self.values.par_chunks(self.width * channels))
            .for_each(|(new, old)| {
                for (pixel, taps) in new.chunks_mut(channels).zip(taps) {
                    for (channel, value) in pixel.iter_mut().enumerate() {
                        let old = old[taps.first * channels + channel..].iter();
                        let weighed = old.step_by(channels).zip(&taps.weights);
                        *value = rounded(weighed.fold(HALF, |sum, (&value, &weight)| {
                            sum.wrapping_add(i32::from(value).wrapping_mul(weight))
                        }));
                    }
                }
            });
        Self {
            width,
            values,
            ..*self
        }
    }

    fn down(&self, taps: &[Taps]) -> Self {
        let row = self.width * self.channels;
        let mut values = vec![0; row * taps.len()];
        values
            .par_chunks_mut(row)
            .zip(taps.par_iter())
            .for_each(|(new, taps)| {
                let mut sums = vec![HALF; row];
                let rows = self.values[taps.first * row..].chunks(row);
                for (old, &weight) in rows.zip(&taps.weights) {
                    for (sum, &value) in sums.iter_mut().zip(old) {
                        *sum = sum.wrapping_add(i32::from(value).wrapping_mul(weight));
                    }
                }
                for (value, sum) in new.iter_mut().zip(sums) {
                    *value = rounded(sum);
                }
            });
        Self {
            height: taps.len(),
            values,
            ..*self
        }
    }

    /// The rectangle at (`left`, `top`), which must lie inside.
    pub fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let row = self.width * self.channels;
        let values = self
            .values
            .chunks(row)
            .skip(top)
            .take(height)
            .flat_map(|line| &line[left * self.channels..(left + width) * self.channels])
            .copied()
            .collect();
        Self {
            width,
            height,
            channels: self.channels,
            values,
        }
    }

    /// Black pixels of the same kind.
    pub fn black(&self, width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            channels: self.channels,
            values: vec![0; width * height * self.channels],
        }
    }

    /// Copies `other` to (`left`, `top`); what falls outside is left out.
    pub fn paste(&mut self, other: &Self, left: i64, top: i64) {
        let channels = self.channels;
        let from = (-left).clamp(0, other.width as i64) as usize;
        let to = (self.width as i64 - left).clamp(from as i64, other.width as i64) as usize;
        for (y, line) in other.values.chunks(other.width * channels).enumerate() {
            let target = top + y as i64;
            if !(0..self.height as i64).contains(&target) {
                continue;
            }
            let start = target as usize * self.width + (left + from as i64).max(0) as usize;
            let length = (to - from) * channels;
            self.values[start * channels..start * channels + length]
                .copy_from_slice(&line[from * channels..to * channels]);
        }
    }

    /// Each row and column swapped.
    pub fn transposed(&self) -> Self {
        let channels = self.channels;
        let mut values = Vec::with_capacity(self.values.len());
        for x in 0..self.width {
            for y in 0..self.height {
                let at = (y * self.width + x) * channels;
                values.extend_from_slice(&self.values[at..at + channels]);
            }
        }
        Self {
            width: self.height,
            height: self.width,
            channels,
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize, channels: usize) -> Pixels {
        let mut state = 12345u32;
        let values = (0..width * height * channels)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        Pixels {
            width,
            height,
            channels,
            values,
        }
    }

    #[test]
    fn an_even_image_stays_even_and_the_same_size_is_the_same_image() {
        let mut even = noise(13, 9, 3);
        even.values.fill(200);
        for (width, height) in [(1, 1), (5, 40), (40, 5), (13, 9)] {
            let new = even.resize(width, height, Filter::Lanczos);
            assert_eq!(new.values, vec![200; width * height * 3]);
        }
        let image = noise(13, 9, 3);
        assert_eq!(image.resize(13, 9, Filter::Lanczos), image);
    }

    #[test]
    fn channels_do_not_mix() {
        let image = noise(17, 11, 3);
        let green: Vec<u8> = image.values.iter().skip(1).step_by(3).copied().collect();
        let green = Pixels {
            channels: 1,
            values: green,
            ..image
        };
        let whole = image.resize(7, 23, Filter::Lanczos).values;
        let alone = green.resize(7, 23, Filter::Lanczos).values;
        let picked: Vec<u8> = whole.into_iter().skip(1).step_by(3).collect();
        assert_eq!(picked, alone);
    }

    #[test]
    fn pasting_keeps_to_the_image() {
        let small = Pixels {
            values: vec![1, 2, 3, 4, 5, 6],
            ..noise(3, 2, 1)
        };
        let mut target = small.black(3, 3);
        target.paste(&small, -1, 2);
        assert_eq!(target.values, [0, 0, 0, 0, 0, 0, 2, 3, 0]);
        target.paste(&small, 2, -1);
        assert_eq!(target.values, [0, 0, 4, 0, 0, 0, 2, 3, 0]);
        target.paste(&small, 9, 9);
        target.paste(&small, -9, -9);
        assert_eq!(target.values, [0, 0, 4, 0, 0, 0, 2, 3, 0]);
        assert_eq!(small.transposed().values, [1, 4, 2, 5, 3, 6]);
        assert_eq!(small.crop(1, 1, 2, 1).values, [5, 6]);
    }
}
