//! `unet/config.json`, with diffusers' defaults and diffusers' quirks.

use serde_json::Value;

use crate::EngineError;
use crate::config::{Config, as_layers, as_size};
use crate::nn::Activation;

/// The architecture of a UNet with SDXL's added conditioning.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// Size of the latents that the model was trained on: (height, width).
    pub sample_size: (usize, usize),
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Whether the sample is mapped from 0…1 to −1…1 first.
    pub center_input_sample: bool,
    /// Whether cosines come before sines in the timestep embedding.
    pub flip_sin_to_cos: bool,
    /// Shift of the timestep embedding's frequencies.
    pub freq_shift: f64,
    /// The down blocks, from the full resolution on.
    pub down_blocks: Vec<BlockConfig>,
    /// The block in the middle.
    pub mid_block: Option<MidBlockConfig>,
    /// The up blocks, from the lowest resolution on.
    pub up_blocks: Vec<BlockConfig>,
    /// Zeros around a downsampling convolution; 0 pads below and right only.
    pub downsample_padding: usize,
    /// The activation of resnets and embeddings.
    pub activation: Activation,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// Epsilon of the resnets' group norms.
    pub norm_eps: f64,
    /// Whether the transformers project by linear layers in place of 1×1 convolutions.
    pub use_linear_projection: bool,
    /// How the time embedding enters a resnet: as scale and shift, or added.
    pub time_scale_shift: bool,
    /// Width of the time embedding.
    pub time_embed_dim: usize,
    /// Activation after the sum of all embeddings.
    pub time_embedding_activation: Option<Activation>,
    /// Activation after the timestep embedding.
    pub timestep_post_activation: Option<Activation>,
    /// Width of the guidance embedding, for models distilled with it (arXiv:2210.03142).
    pub time_cond_proj_dim: Option<usize>,
    /// Width of the embedding of each of the six size conditions.
    pub addition_time_embed_dim: usize,
    /// Width of pooled text and size conditions together.
    pub projection_class_embeddings_input_dim: usize,
    /// Width of the text before it is projected to the cross attention's, if it is.
    pub encoder_hid_dim: Option<usize>,
    /// Kernel of the first convolution.
    pub conv_in_kernel: usize,
    /// Kernel of the last convolution.
    pub conv_out_kernel: usize,
    /// Width of the text that cross attention sees.
    pub cross_attention_dim: usize,
}

/// A down or up block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    /// Output channels.
    pub channels: usize,
    /// Number of resnets.
    pub layers: usize,
    /// The transformers after each resnet, if the block has them.
    pub attention: Option<BlockAttention>,
}

/// The transformers of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockAttention {
    /// Layers of each transformer: one number per resnet.
    pub depths: Vec<usize>,
    /// Heads.
    pub heads: usize,
    /// Width of the text.
    pub cross_attention_dim: usize,
    /// Whether the first attention of each layer looks at the text too.
    pub only_cross_attention: bool,
}

/// The block in the middle.
#[derive(Clone, Debug, PartialEq)]
pub struct MidBlockConfig {
    /// Its transformer, between two resnets; without it there is one resnet.
    pub attention: Option<BlockAttention>,
    /// What its resnets' outputs are divided by.
    pub output_scale_factor: f64,
}

/// Layers of a block's transformers: one number for all of them, or one for each.
#[derive(Clone, Debug, PartialEq)]
enum Depths {
    Same(usize),
    Each(Vec<usize>),
}

impl Depths {
    fn read(value: &Value) -> Option<Self> {
        let depth = |value: &Value| match value.as_u64() {
            Some(0) => Some(0),
            _ => as_layers(value),
        };
        match value {
            Value::Array(list) => list
                .iter()
                .map(depth)
                .collect::<Option<_>>()
                .map(Self::Each),
            value => depth(value).map(Self::Same),
        }
    }

    fn for_layers(&self, layers: usize, config: &Config) -> Result<Vec<usize>, EngineError> {
        match self {
            Self::Same(depth) => Ok(vec![*depth; layers]),
            Self::Each(depths) if depths.len() >= layers => Ok(depths[..layers].to_vec()),
            Self::Each(depths) => Err(EngineError::model(
                config.path(),
                format!(
                    "`transformer_layers_per_block` gives {} depths for a block of {layers} layers",
                    depths.len()
                ),
            )),
        }
    }
}

const ATTENTION_DOWN: &str = "CrossAttnDownBlock2D";
const ATTENTION_UP: &str = "CrossAttnUpBlock2D";

impl UnetConfig {
    /// Reads `unet/config.json`.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming file, key and value of what is not supported.
    pub fn read(config: &Config) -> Result<Self, EngineError> {
        config.expect_class("UNet2DConditionModel")?;
        let down_types = config.texts(
            "down_block_types",
            &[
                ATTENTION_DOWN,
                ATTENTION_DOWN,
                ATTENTION_DOWN,
                "DownBlock2D",
            ],
        )?;
        let up_types = config.texts(
            "up_block_types",
            &["UpBlock2D", ATTENTION_UP, ATTENTION_UP, ATTENTION_UP],
        )?;
        let channels = config.sizes("block_out_channels", &[320, 640, 1280, 1280])?;
        let count = down_types.len();
        if up_types.len() != count || channels.len() != count {
            return Err(EngineError::model(
                config.path(),
                format!(
                    "`down_block_types`, `up_block_types` and `block_out_channels` have {count}, {} and {} values; they must be as many",
                    up_types.len(),
                    channels.len()
                ),
            ));
        }
        Self::refuse_other_conditioning(config)?;

        let layers =
            config.per_block("layers_per_block", count, 2, "numbers of layers", as_layers)?;
        let cross_attention_dim =
            config.per_block("cross_attention_dim", count, 1280, "whole numbers", as_size)?;
        // diffusers' names are crossed: `attention_head_dim` is the NUMBER of heads.
        if config.get("num_attention_heads").is_some() {
            return Err(config.unsupported(
                "num_attention_heads",
                "diffusers takes the number of heads from `attention_head_dim`; leave this null",
            ));
        }
        let heads = config.per_block("attention_head_dim", count, 8, "whole numbers", as_size)?;
        let only_cross = config.per_block(
            "only_cross_attention",
            count,
            false,
            "true or false",
            Value::as_bool,
        )?;
        let wanted = "whole numbers, or lists of them";
        let depths = config.per_block(
            "transformer_layers_per_block",
            count,
            Depths::Same(1),
            wanted,
            Depths::read,
        )?;
        let reversed_depths = if config.get("reverse_transformer_layers_per_block").is_some() {
            config.per_block(
                "reverse_transformer_layers_per_block",
                count,
                Depths::Same(1),
                wanted,
                Depths::read,
            )?
        } else {
            if depths.iter().any(|depth| matches!(depth, Depths::Each(_))) {
                return Err(config.unsupported(
                    "transformer_layers_per_block",
                    "lists in it need `reverse_transformer_layers_per_block` beside it",
                ));
            }
            depths.iter().rev().cloned().collect()
        };

        let attention = |at: usize, depths: Vec<usize>| BlockAttention {
            depths,
            heads: heads[at],
            cross_attention_dim: cross_attention_dim[at],
            only_cross_attention: only_cross[at],
        };
        let mut down_blocks = Vec::with_capacity(count);
        let mut up_blocks = Vec::with_capacity(count);
        for (at, name) in down_types.iter().enumerate() {
            let with_attention = match block_kind(name, "DownBlock2D", ATTENTION_DOWN) {
                Some(kind) => kind,
                None => {
                    return Err(config.unsupported(
                        "down_block_types",
                        "use DownBlock2D and CrossAttnDownBlock2D",
                    ));
                }
            };
            down_blocks.push(BlockConfig {
                channels: channels[at],
                layers: layers[at],
                attention: with_attention
                    .then(|| {
                        Ok::<_, EngineError>(attention(
                            at,
                            depths[at].for_layers(layers[at], config)?,
                        ))
                    })
                    .transpose()?,
            });
        }
        for (index, name) in up_types.iter().enumerate() {
            let at = count - 1 - index;
            let with_attention = match block_kind(name, "UpBlock2D", ATTENTION_UP) {
                Some(kind) => kind,
                None => {
                    return Err(config
                        .unsupported("up_block_types", "use UpBlock2D and CrossAttnUpBlock2D"));
                }
            };
            up_blocks.push(BlockConfig {
                channels: channels[at],
                layers: layers[at] + 1,
                attention: with_attention
                    .then(|| {
                        Ok::<_, EngineError>(attention(
                            at,
                            reversed_depths[index].for_layers(layers[at] + 1, config)?,
                        ))
                    })
                    .transpose()?,
            });
        }

        let last = count - 1;
        // Absent and null differ here: null means no block in the middle.
        let mid_name = if config.contains("mid_block_type") {
            config.optional_text("mid_block_type")?
        } else {
            Some("UNetMidBlock2DCrossAttn".to_string())
        };
        let output_scale_factor = config.number("mid_block_scale_factor", 1.0)?;
        let mid_block = match mid_name.as_deref() {
            None => None,
            Some("UNetMidBlock2DCrossAttn") => Some(MidBlockConfig {
                attention: Some(BlockAttention {
                    // diffusers passes `only_cross_attention` to down and up blocks alone.
                    only_cross_attention: false,
                    ..attention(last, depths[last].for_layers(1, config)?)
                }),
                output_scale_factor,
            }),
            Some("UNetMidBlock2D") => Some(MidBlockConfig {
                attention: None,
                output_scale_factor,
            }),
            Some(_) => {
                return Err(config.unsupported(
                    "mid_block_type",
                    "use UNetMidBlock2DCrossAttn, UNetMidBlock2D or null",
                ));
            }
        };

        let used: Vec<usize> = down_blocks
            .iter()
            .chain(&up_blocks)
            .filter_map(|block| block.attention.as_ref())
            .chain(
                mid_block
                    .iter()
                    .filter_map(|block| block.attention.as_ref()),
            )
            .map(|attention| attention.cross_attention_dim)
            .collect();
        let text_width = used.first().copied().unwrap_or(cross_attention_dim[0]);
        if used.iter().any(|&width| width != text_width) {
            return Err(config.unsupported(
                "cross_attention_dim",
                "all blocks see the same text, so all widths must be equal",
            ));
        }

        let time_embed_dim = config.size("time_embedding_dim", channels[0] * 4)?;
        let conv_kernel = |key: &str| -> Result<usize, EngineError> {
            let kernel = config.size(key, 3)?;
            if kernel % 2 == 0 {
                return Err(config.unsupported(key, "use an odd number"));
            }
            Ok(kernel)
        };
        let read = Self {
            sample_size: sample_size(config)?,
            in_channels: config.size("in_channels", 4)?,
            out_channels: config.size("out_channels", 4)?,
            center_input_sample: config.flag("center_input_sample", false)?,
            flip_sin_to_cos: config.flag("flip_sin_to_cos", true)?,
            freq_shift: config.number("freq_shift", 0.0)?,
            down_blocks,
            mid_block,
            up_blocks,
            downsample_padding: usize::try_from(config.integer("downsample_padding", 1)?)
                .map_err(|_| config.unsupported("downsample_padding", "use 0 or 1"))?,
            activation: Activation::from_diffusers(config, "act_fn")?.unwrap_or(Activation::SILU),
            norm_num_groups: match config.optional_size("norm_num_groups")? {
                Some(groups) => groups,
                None if config.contains("norm_num_groups") => {
                    return Err(config.unsupported("norm_num_groups", "give a number"));
                }
                None => 32,
            },
            norm_eps: config.number("norm_eps", 1e-5)?,
            use_linear_projection: config.flag("use_linear_projection", false)?,
            time_scale_shift: match config.text("resnet_time_scale_shift", "default")?.as_str() {
                "default" => false,
                "scale_shift" => true,
                _ => {
                    return Err(
                        config.unsupported("resnet_time_scale_shift", "use default or scale_shift")
                    );
                }
            },
            time_embed_dim,
            time_embedding_activation: Activation::from_diffusers(config, "time_embedding_act_fn")?,
            timestep_post_activation: Activation::from_diffusers(config, "timestep_post_act")?,
            time_cond_proj_dim: config.optional_size("time_cond_proj_dim")?,
            addition_time_embed_dim: config
                .optional_size("addition_time_embed_dim")?
                .ok_or_else(|| {
                    config.unsupported("addition_time_embed_dim", "SDXL needs it (256)")
                })?,
            projection_class_embeddings_input_dim: config
                .optional_size("projection_class_embeddings_input_dim")?
                .ok_or_else(|| {
                    config.unsupported(
                        "projection_class_embeddings_input_dim",
                        "SDXL needs it (2816)",
                    )
                })?,
            encoder_hid_dim: config.optional_size("encoder_hid_dim")?,
            conv_in_kernel: conv_kernel("conv_in_kernel")?,
            conv_out_kernel: conv_kernel("conv_out_kernel")?,
            cross_attention_dim: text_width,
        };
        for block in read.down_blocks.iter().chain(&read.up_blocks) {
            if let Some(attention) = &block.attention
                && attention.heads > block.channels
            {
                return Err(config.unsupported(
                    "attention_head_dim",
                    "diffusers means the number of heads, which cannot exceed the channels",
                ));
            }
        }
        config.ignore(&[
            // No effect on inference, or only on kinds of blocks that are refused above.
            "dropout",
            "upcast_attention",
            "resnet_skip_time_act",
            "resnet_out_scale_factor",
            "cross_attention_norm",
            "mid_block_only_cross_attention",
            "addition_embed_type_num_heads",
        ]);
        config.finish()?;
        Ok(read)
    }

    /// Refuses the kinds of conditioning that other pipelines use.
    fn refuse_other_conditioning(config: &Config) -> Result<(), EngineError> {
        if config.optional_text("addition_embed_type")?.as_deref() != Some("text_time") {
            return Err(config.unsupported(
                "addition_embed_type",
                "SDXL's is text_time; this UNet belongs to another kind of model",
            ));
        }
        for (key, supported) in [
            ("class_embed_type", "SDXL has no class embedding"),
            ("num_class_embeds", "SDXL has no class embedding"),
        ] {
            if config.get(key).is_some() {
                return Err(config.unsupported(key, supported));
            }
        }
        for key in ["dual_cross_attention", "class_embeddings_concat"] {
            if config.flag(key, false)? {
                return Err(config.unsupported(key, "use false"));
            }
        }
        if config.text("attention_type", "default")? != "default" {
            return Err(config.unsupported("attention_type", "use default"));
        }
        if config.text("time_embedding_type", "positional")? != "positional" {
            return Err(config.unsupported("time_embedding_type", "use positional"));
        }
        match config.optional_text("encoder_hid_dim_type")?.as_deref() {
            None => {}
            Some("text_proj") if config.get("encoder_hid_dim").is_some() => {}
            Some(_) => {
                return Err(config.unsupported(
                    "encoder_hid_dim_type",
                    "use text_proj with `encoder_hid_dim`, or null",
                ));
            }
        }
        Ok(())
    }
}

/// Whether a block of this name has transformers; `None` for kinds that are not supported.
fn block_kind(name: &str, plain: &str, with_attention: &str) -> Option<bool> {
    // diffusers takes off this prefix, which old files carry.
    let name = name.strip_prefix("UNetRes").unwrap_or(name);
    if name == plain {
        Some(false)
    } else if name == with_attention {
        Some(true)
    } else {
        None
    }
}

fn sample_size(config: &Config) -> Result<(usize, usize), EngineError> {
    match config.get("sample_size") {
        Some(Value::Array(_)) => match config.sizes("sample_size", &[])?.as_slice() {
            [height, width] => Ok((*height, *width)),
            _ => Err(config.unsupported("sample_size", "give one number, or height and width")),
        },
        _ => config.size("sample_size", 128).map(|size| (size, size)),
    }
}
