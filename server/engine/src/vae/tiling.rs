//! The autoencoder in tiles, for images whose feature maps do not fit the memory: tiles overlap by
//! a quarter and fade into each other, after diffusers' `tiled_decode` and `_tiled_encode`.

use candle_core::{Result, Tensor};

use super::config::VaeConfig;
use crate::cpu;
use crate::nn::Ops;
use crate::request::VaeTiling;

/// How an input is cut and its results are put together. Lengths are pixels of the input or of the
/// output, the same along both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Side of a tile, in the input.
    pub side: usize,
    /// From one tile to the next, in the input.
    step: usize,
    /// How far tiles fade into each other, in the output.
    blend: usize,
    /// What is kept of each tile, in the output.
    keep: usize,
}

/// Share of a tile that it has in common with the next.
const OVERLAP: f64 = 0.25;

/// Smallest tile that memory is saved with, in latent pixels: below, seams begin to show.
const SMALLEST: usize = 32;

impl Tiles {
    /// Tiles of `input` pixels that become tiles of `output` pixels. Where a quarter is no whole
    /// number, diffusers' result has another size than asked for; here the overlap grows a little.
    fn new(input: usize, output: usize) -> Self {
        let step = ((input as f64 * (1.0 - OVERLAP)) as usize).max(1);
        // One of the two is a multiple of the other.
        let keep = if output >= input {
            step * (output / input)
        } else {
            (step / (input / output)).max(1)
        };
        Self {
            side: input,
            step: if output >= input {
                step
            } else {
                keep * (input / output)
            },
            blend: output - keep,
            keep,
        }
    }

    /// Tiles of `latents` latent pixels that are decoded to `latents · scale factor` pixels.
    pub fn to_decode(latents: usize, config: &VaeConfig) -> Self {
        Self::new(latents, latents * config.scale_factor())
    }

    /// Tiles of `latents · scale factor` pixels that are encoded to `latents` latent pixels.
    pub fn to_encode(latents: usize, config: &VaeConfig) -> Self {
        Self::new(latents * config.scale_factor(), latents)
    }

    /// Whether an input of this size is larger than one tile.
    pub fn divide(&self, height: usize, width: usize) -> bool {
        height > self.side || width > self.side
    }
}

/// Side of the tiles, in latent pixels, for an image of `rows` × `columns` latent pixels; `None`
/// where it is taken whole.
///
/// [`VaeTiling::On`] takes the size that the model was trained for, as diffusers does.
/// [`VaeTiling::Auto`] halves that until a tile fits the memory that `ops` has at hand.
pub fn tile_side(
    tiling: VaeTiling,
    config: &VaeConfig,
    ops: &Ops,
    rows: usize,
    columns: usize,
) -> Option<usize> {
    let trained = (config.sample_size / config.scale_factor()).max(1);
    match tiling {
        VaeTiling::Off => None,
        VaeTiling::On => Some(trained),
        VaeTiling::Auto => side_within(ops.available()?, config, ops, rows, columns),
    }
}

fn side_within(
    available: u64,
    config: &VaeConfig,
    ops: &Ops,
    rows: usize,
    columns: usize,
) -> Option<usize> {
    // What other parts of the program take in the meantime.
    let room = available / 10 * 9;
    if decoding_bytes(config, ops, rows, columns) <= room {
        return None;
    }
    let mut side = (config.sample_size / config.scale_factor())
        .max(SMALLEST)
        .min(rows.max(columns));
    while side > SMALLEST && decoding_bytes(config, ops, side, side) > room {
        side /= 2;
    }
    Some(side.max(SMALLEST))
}

/// Largest memory of a decoder at work, in bytes: at the full resolution there are, at once, the
/// input of the last block's first resnet, its normalised copy and the result of its first
/// convolution.
fn decoding_bytes(config: &VaeConfig, ops: &Ops, rows: usize, columns: usize) -> u64 {
    let channels = &config.block_out_channels;
    let last = channels[0];
    let before = channels.get(1).copied().unwrap_or(last);
    let pixels = rows * columns * config.scale_factor() * config.scale_factor();
    if ops.has_kernels() {
        // What the kernels keep for each thread, and for the one that calls them.
        let kept = (cpu::threads() as u64 * 16 + 100) << 20;
        return 4 * (pixels as u64) * (2 * before + 2 * last) as u64 + kept;
    }
    // candle's operations write their results in parts that are joined at their end, and hold some
    // scratch (see `nn::generic`).
    let bytes = ops.dtype().bytes() as u64;
    bytes * (pixels as u64) * (3 * before + 2 * last) as u64 + (1 << 30)
}

/// A result of `apply`, plane after plane.
struct Tile {
    values: Vec<f32>,
    planes: usize,
    height: usize,
    width: usize,
}

impl Tile {
    fn new(tensor: &Tensor) -> Result<Self> {
        let (batch, channels, height, width) = tensor.dims4()?;
        Ok(Self {
            values: tensor.flatten_all()?.to_vec1()?,
            planes: batch * channels,
            height,
            width,
        })
    }

    fn line(&self, plane: usize, y: usize) -> &[f32] {
        &self.values[(plane * self.height + y) * self.width..][..self.width]
    }

    fn line_mut(&mut self, plane: usize, y: usize) -> &mut [f32] {
        &mut self.values[(plane * self.height + y) * self.width..][..self.width]
    }

    /// Fades from the end of the tile above.
    fn blend_below(&mut self, above: &Self, extent: usize) {
        let extent = extent.min(above.height).min(self.height);
        for plane in 0..self.planes {
            for y in 0..extent {
                let share = y as f64 / extent as f64;
                let (keep, take) = ((1.0 - share) as f32, share as f32);
                let from = above.line(plane, above.height - extent + y);
                for (value, from) in self.line_mut(plane, y).iter_mut().zip(from) {
                    *value = from * keep + *value * take;
                }
            }
        }
    }

    /// Fades from the end of the tile to the left.
    fn blend_beside(&mut self, left: &Self, extent: usize) {
        let extent = extent.min(left.width).min(self.width);
        for plane in 0..self.planes {
            for y in 0..self.height.min(left.height) {
                let from = &left.line(plane, y)[left.width - extent..];
                for (x, (value, from)) in self.line_mut(plane, y).iter_mut().zip(from).enumerate() {
                    let share = x as f64 / extent as f64;
                    *value = from * (1.0 - share) as f32 + *value * share as f32;
                }
            }
        }
    }
}

/// Applies `apply` to overlapping tiles of `input` (b, c, h, w) and joins the results.
///
/// # Errors
/// Whatever `apply` reports.
pub fn in_tiles(
    input: &Tensor,
    tiles: Tiles,
    mut apply: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (_, _, height, width) = input.dims4()?;
    let mut above: Vec<Tile> = Vec::new();
    let mut bands = Vec::new();
    for top in (0..height).step_by(tiles.step) {
        let mut row: Vec<Tile> = Vec::new();
        let mut kept = Vec::new();
        for left in (0..width).step_by(tiles.step) {
            let cut = input
                .narrow(2, top, tiles.side.min(height - top))?
                .narrow(3, left, tiles.side.min(width - left))?
                .contiguous()?;
            let result = apply(&cut)?;
            let (batch, channels, _, _) = result.dims4()?;
            let mut tile = Tile::new(&result)?;
            if let Some(above) = above.get(row.len()) {
                tile.blend_below(above, tiles.blend);
            }
            if let Some(left) = row.last() {
                tile.blend_beside(left, tiles.blend);
            }
            let shape = (batch, channels, tile.height, tile.width);
            kept.push(
                Tensor::from_slice(&tile.values, shape, input.device())?
                    .narrow(2, 0, tiles.keep.min(tile.height))?
                    .narrow(3, 0, tiles.keep.min(tile.width))?,
            );
            row.push(tile);
        }
        bands.push(Tensor::cat(&kept, 3)?);
        above = row;
    }
    Tensor::cat(&bands, 2)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::config::Config;
    use crate::{ComputeDtype, DeviceId, Residence};

    fn config() -> VaeConfig {
        let text = r#"{"block_out_channels": [128, 256, 512, 512], "sample_size": 1024,
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
            "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;
        let config = Config::parse(std::path::Path::new("vae/config.json"), text);
        VaeConfig::read(&config.expect("valid JSON")).expect("supported")
    }

    /// What does not look at its neighbours is the same in tiles, at every size.
    #[test]
    fn tiles_of_a_pointwise_function_have_no_seams() {
        let values: Vec<f32> = (0..2 * 37 * 23).map(|at| (at as f32).sin()).collect();
        let input = Tensor::from_vec(values, (1, 2, 37, 23), &Device::Cpu).expect("a tensor");
        for side in [4, 8, 10, 23, 37] {
            let tiles = Tiles::new(side, side);
            let joined = in_tiles(&input, tiles, |tile| tile * 2.0).expect("joined");
            assert_eq!(joined.dims(), input.dims(), "{side}");
            let difference = (joined - (&input * 2.0).expect("doubled"))
                .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>())
                .expect("a number");
            assert!(difference < 1e-6, "{side}: {difference}");
        }
    }

    #[test]
    fn tiles_are_made_where_memory_is_short_only() {
        let (config, ops) = (config(), Ops::kernels());
        let gib = 1u64 << 30;
        assert_eq!(side_within(8 * gib, &config, &ops, 128, 128), None);
        assert_eq!(side_within(2 * gib, &config, &ops, 128, 128), Some(64));
        assert_eq!(side_within(8 * gib, &config, &ops, 512, 512), Some(128));
        assert_eq!(side_within(0, &config, &ops, 512, 512), Some(SMALLEST));
        // On other devices there is more to hold, in half the bytes.
        let open = |dtype| Ops::open(DeviceId::Cpu, dtype, None, Residence::Whole);
        let half = open(ComputeDtype::Bf16).expect("the CPU");
        assert_eq!(side_within(4 * gib, &config, &half, 128, 128), None);
        assert_eq!(side_within(3 * gib, &config, &half, 128, 128), Some(64));
        assert_eq!(tile_side(VaeTiling::On, &config, &ops, 512, 512), Some(128));
        assert_eq!(tile_side(VaeTiling::Off, &config, &ops, 512, 512), None);
    }
}
