//! A tiny decoder for previews: TAESD's, as diffusers' `AutoencoderTiny` has it.

use std::path::Path;

use candle_core::{Device, Result, Tensor};

use crate::EngineError;
use crate::config::Config;
use crate::nn::{Activation, Conv2d, Ops};
use crate::weights::{WeightFiles, Weights, load_component};

/// Folders of a model that may hold one.
const FOLDERS: [&str; 3] = ["taesdxl", "taesd", "vae_approx"];

/// The decoding half of an `AutoencoderTiny`.
pub struct TinyDecoder {
    ops: Ops,
    layers: Vec<Layer>,
    /// Pixels per latent pixel.
    factor: usize,
    /// What latents are multiplied by before decoding.
    scaling_factor: f64,
}

enum Layer {
    Conv(Conv2d),
    Activation(Activation),
    Block(Box<[Conv2d; 3]>, Activation),
    Upsample(usize),
}

/// What decides the layers.
struct Shape {
    latent_channels: usize,
    /// Channels and blocks of each stage.
    stages: Vec<(usize, usize)>,
    upsampling: usize,
    activation: Activation,
    scaling_factor: f64,
}

impl TinyDecoder {
    /// Opens the decoder in a model's `taesdxl`, `taesd` or `vae_approx` folder, if there is one:
    /// `config.json` with `diffusion_pytorch_model.safetensors`, or TAESD's own
    /// `taesdxl_decoder.safetensors`. `ops` is what computes it.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming what of it cannot be used.
    pub fn find(
        ops: &Ops,
        model: &Path,
        latent_channels: usize,
    ) -> std::result::Result<Option<Self>, EngineError> {
        for name in FOLDERS {
            let folder = model.join(name);
            if folder.join("config.json").is_file() {
                let config = Config::read(&folder.join("config.json"))?;
                let shape = Shape::read(&config)?;
                if shape.latent_channels != latent_channels {
                    return Err(config.unsupported(
                        "latent_channels",
                        &format!("this model's latents have {latent_channels}"),
                    ));
                }
                let files = WeightFiles::open(&folder, "diffusion_pytorch_model")?;
                return Self::open(ops, files, "decoder.layers", &shape).map(Some);
            }
            for stem in ["taesdxl_decoder", "taesd_decoder"] {
                if folder.join(format!("{stem}.safetensors")).is_file() {
                    let files = WeightFiles::open(&folder, stem)?;
                    let shape = Shape::published(latent_channels);
                    return Self::open(ops, files, "", &shape).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn open(
        ops: &Ops,
        files: WeightFiles,
        root: &str,
        shape: &Shape,
    ) -> std::result::Result<Self, EngineError> {
        // The encoder of a whole autoencoder is accounted for, but not read.
        let encoder: Vec<(String, Vec<usize>)> = files
            .tensors()
            .iter()
            .filter(|(name, _)| name.starts_with("encoder."))
            .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
            .collect();
        load_component(files, "", ops, |weights| {
            if weights.is_checking() {
                for (name, shape) in &encoder {
                    weights.tensor(name, shape)?;
                }
            }
            Self::load(weights, root, shape)
        })
    }

    fn load(
        weights: &Weights,
        root: &str,
        shape: &Shape,
    ) -> std::result::Result<Self, EngineError> {
        // TAESD's own file numbers the clamp too, which is no layer of diffusers'.
        let (root, first) = match root {
            "" => (weights.clone(), 1),
            root => (weights.at(root), 0),
        };
        let width = shape.stages.first().map_or(0, |stage| stage.0);
        let mut layers = vec![
            Layer::Conv(Conv2d::load(
                &root.at(first),
                shape.latent_channels,
                width,
                3,
            )?),
            Layer::Activation(shape.activation),
        ];
        for (stage, &(channels, blocks)) in shape.stages.iter().enumerate() {
            for _ in 0..blocks {
                let block = root.at(first + layers.len()).at("conv");
                let conv = |at: usize| Conv2d::load(&block.at(at), channels, channels, 3);
                layers.push(Layer::Block(
                    Box::new([conv(0)?, conv(2)?, conv(4)?]),
                    shape.activation,
                ));
            }
            let last = stage + 1 == shape.stages.len();
            if !last {
                layers.push(Layer::Upsample(shape.upsampling));
            }
            let weights = root.at(first + layers.len());
            layers.push(Layer::Conv(if last {
                Conv2d::load(&weights, channels, 3, 3)?
            } else {
                Conv2d::load_no_bias(&weights, channels, channels, 3)?
            }));
        }
        let upsamplings = shape.stages.len().saturating_sub(1);
        Ok(Self {
            ops: root.ops().clone(),
            layers,
            factor: shape.upsampling.pow(upsamplings as u32),
            scaling_factor: shape.scaling_factor,
        })
    }

    /// Latents as the UNet knows them (1, c, h, w) → pixels about −1…1 (1, 3, h·f, w·f).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let ops = &self.ops;
        let mut hidden = (ops.take(latents)? / self.scaling_factor)?;
        hidden = ((hidden / 3.0)?.tanh()? * 3.0)?;
        for layer in &self.layers {
            hidden = match layer {
                Layer::Conv(conv) => conv.forward(&hidden)?,
                Layer::Activation(activation) => activation.forward(ops, &hidden)?,
                Layer::Block(convolutions, activation) => {
                    let [first, second, third] = &**convolutions;
                    let inner = activation.forward(ops, &first.forward(&hidden)?)?;
                    let inner = activation.forward(ops, &second.forward(&inner)?)?;
                    Activation::RELU.forward(ops, &(third.forward(&inner)? + hidden)?)?
                }
                Layer::Upsample(times) => {
                    let (_, _, height, width) = hidden.dims4()?;
                    ops.upsample_nearest(&hidden, times * height, times * width)?
                }
            };
        }
        (ops.give(&hidden)? * 2.0)? - 1.0
    }

    /// A picture of latents (c, h, w), made smaller where its longer side would be beyond `side`
    /// pixels.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn preview(
        &self,
        latents: &[f32],
        height: usize,
        width: usize,
        side: usize,
    ) -> std::result::Result<::image::RgbImage, EngineError> {
        let channels = latents.len() / (height * width).max(1);
        let latents = Tensor::from_slice(latents, (1, channels, height, width), &Device::Cpu)?;
        let mut pixels = self.decode(&latents)?;
        // Averaged over whole latent pixels at most, so that every size divides.
        let mut shrink = 1;
        while shrink < self.factor && height.max(width) * self.factor / shrink > side {
            shrink *= 2;
        }
        if shrink > 1 && self.factor.is_multiple_of(shrink) {
            pixels = pixels.avg_pool2d(shrink)?;
        }
        crate::image::to_rgb(&pixels)
    }
}

impl Shape {
    fn read(config: &Config) -> std::result::Result<Self, EngineError> {
        let channels = config.sizes("decoder_block_out_channels", &[64; 4])?;
        let blocks = config.sizes("num_decoder_blocks", &[3, 3, 3, 1])?;
        if channels.len() != blocks.len() || channels.len() > 8 || blocks.iter().any(|&n| n > 64) {
            return Err(config.unsupported(
                "num_decoder_blocks",
                "give as many as `decoder_block_out_channels`, eight at most, each 64 at most",
            ));
        }
        if channels.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(config.unsupported(
                "decoder_block_out_channels",
                "all of them must be equal, as diffusers' layers need them",
            ));
        }
        if config.size("out_channels", 3)? != 3 {
            return Err(config.unsupported("out_channels", "a picture has 3"));
        }
        if config.text("upsample_fn", "nearest")? != "nearest" {
            return Err(config.unsupported("upsample_fn", "use nearest"));
        }
        let upsampling = config.size("upsampling_scaling_factor", 2)?;
        if upsampling > 4 {
            return Err(config.unsupported("upsampling_scaling_factor", "use 4 at most"));
        }
        Ok(Self {
            latent_channels: config.size("latent_channels", 4)?,
            stages: channels.into_iter().zip(blocks).collect(),
            upsampling,
            activation: match config.get("act_fn") {
                Some(_) => {
                    Activation::from_diffusers(config, "act_fn")?.unwrap_or(Activation::RELU)
                }
                None => Activation::RELU,
            },
            scaling_factor: config.number("scaling_factor", 1.0)?,
        })
    }

    /// TAESD as its authors publish it.
    fn published(latent_channels: usize) -> Self {
        Self {
            latent_channels,
            stages: vec![(64, 3), (64, 3), (64, 3), (64, 1)],
            upsampling: 2,
            activation: Activation::RELU,
            scaling_factor: 1.0,
        }
    }
}
