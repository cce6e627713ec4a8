//! CLIP's text transformer (arXiv:2103.00020), after transformers' `CLIPTextModel` and
//! `CLIPTextModelWithProjection`.

use candle_core::{Device, Result, Tensor};

use crate::EngineError;
use crate::config::Config;
use crate::nn::{Activation, LayerNorm, LayerTable, Linear, Ops};
use crate::weights::{Residency, StoredMatrix, WeightFiles, Weights, load_adaptable};

/// `text_encoder/config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct TextEncoderConfig {
    /// Number of tokens known.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Width of the projected pooled output.
    pub projection_dim: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of heads.
    pub num_attention_heads: usize,
    /// Longest sequence of tokens.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward layers.
    pub activation: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// The token whose hidden state is the pooled output. The value 2, which old configs carry,
    /// means: the token with the highest number.
    pub eos_token_id: u32,
}

impl TextEncoderConfig {
    /// Reads `config.json` with transformers' defaults.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming file, key and value of what is not supported.
    pub fn read(config: &Config) -> std::result::Result<Self, EngineError> {
        if config.get("quantization_config").is_some() {
            return Err(
                config.unsupported("quantization_config", "use weights in f32, f16 or bf16")
            );
        }
        let read = Self {
            vocab_size: config.size("vocab_size", 49408)?,
            hidden_size: config.size("hidden_size", 512)?,
            intermediate_size: config.size("intermediate_size", 2048)?,
            projection_dim: config.size("projection_dim", 512)?,
            num_hidden_layers: config.layers("num_hidden_layers", 12)?,
            num_attention_heads: config.size("num_attention_heads", 8)?,
            max_position_embeddings: config.size("max_position_embeddings", 77)?,
            activation: Activation::from_transformers(config, "hidden_act", "quick_gelu")?,
            layer_norm_eps: config.number("layer_norm_eps", 1e-5)?,
            eos_token_id: u32::try_from(config.integer("eos_token_id", 49407)?)
                .map_err(|_| config.unsupported("eos_token_id", "give a token's number"))?,
        };
        if !read.hidden_size.is_multiple_of(read.num_attention_heads) {
            return Err(config.unsupported(
                "num_attention_heads",
                &format!(
                    "it must divide `hidden_size`, which is {}",
                    read.hidden_size
                ),
            ));
        }
        // The rest of a transformers config (initialisation, training, generation) has no effect
        // on the forward pass.
        Ok(read)
    }
}

/// A text encoder.
pub struct TextEncoder {
    ops: Ops,
    config: TextEncoderConfig,
    residency: Residency,
    token_embedding: StoredMatrix,
    position_embedding: Tensor,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    layer_table: LayerTable,
}

/// What a text encoder makes of a batch of token sequences: on the host, in f32.
#[derive(Clone, Debug)]
pub struct TextEncoding {
    /// The input of the last layer, or of one that many layers before it as were skipped, without
    /// the final norm: (b, tokens, `hidden_size`). SDXL is conditioned on this one.
    pub hidden_state: Tensor,
    /// The projected hidden state of the end-of-text token: (b, `projection_dim`); for encoders
    /// with a projection.
    pub text_embeds: Option<Tensor>,
}

struct EncoderLayer {
    ops: Ops,
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl EncoderLayer {
    fn load(
        weights: &Weights,
        config: &TextEncoderConfig,
    ) -> std::result::Result<Self, EngineError> {
        let (size, eps) = (config.hidden_size, config.layer_norm_eps);
        let projection = |name: &str| Linear::load(&weights.at("self_attn").at(name), size, size);
        Ok(Self {
            ops: weights.ops().clone(),
            layer_norm1: LayerNorm::load(&weights.at("layer_norm1"), size, eps)?,
            q_proj: projection("q_proj")?,
            k_proj: projection("k_proj")?,
            v_proj: projection("v_proj")?,
            out_proj: projection("out_proj")?,
            heads: config.num_attention_heads,
            layer_norm2: LayerNorm::load(&weights.at("layer_norm2"), size, eps)?,
            fc1: Linear::load(&weights.at("mlp.fc1"), size, config.intermediate_size)?,
            fc2: Linear::load(&weights.at("mlp.fc2"), config.intermediate_size, size)?,
            activation: config.activation,
        })
    }

    /// (b, tokens, `hidden_size`) → the same.
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let normed = self.layer_norm1.forward(input)?;
        // Each token sees itself and those before it; pads at the end are seen by pads only.
        let seen = self.ops.attention(
            &self.q_proj.forward(&normed)?,
            &self.k_proj.forward(&normed)?,
            &self.v_proj.forward(&normed)?,
            self.heads,
            true,
        )?;
        let hidden = (input + self.out_proj.forward(&seen)?)?;
        let wide = self.fc1.forward(&self.layer_norm2.forward(&hidden)?)?;
        self.fc2
            .forward(&self.activation.forward(&self.ops, &wide)?)?
            + hidden
    }
}

impl TextEncoder {
    /// Reads the encoder that `config` describes; `with_projection` for
    /// `CLIPTextModelWithProjection`. `ops` is what computes it.
    ///
    /// # Errors
    /// If its tensors cannot be read.
    pub fn open(
        ops: &Ops,
        files: WeightFiles,
        config: &TextEncoderConfig,
        with_projection: bool,
    ) -> std::result::Result<Self, EngineError> {
        // transformers 5 saves a bare CLIPTextModel without the prefix that all others have.
        let prefix = if files
            .tensors()
            .keys()
            .any(|name| name.starts_with("text_model."))
        {
            "text_model"
        } else {
            ""
        };
        let (mut encoder, layers) = load_adaptable(files, "", ops, |weights| {
            Self::load(weights, prefix, config, with_projection)
        })?;
        encoder.layer_table = layers;
        Ok(encoder)
    }

    /// Reads the tensors; those of the transformer lie under `prefix`.
    pub(crate) fn load(
        weights: &Weights,
        prefix: &str,
        config: &TextEncoderConfig,
        with_projection: bool,
    ) -> std::result::Result<Self, EngineError> {
        let size = config.hidden_size;
        let model = if prefix.is_empty() {
            weights.clone()
        } else {
            weights.at(prefix)
        };
        let embeddings = model.at("embeddings");
        Ok(Self {
            token_embedding: embeddings
                .matrix("token_embedding.weight", &[config.vocab_size, size])?,
            position_embedding: embeddings.precise(
                "position_embedding.weight",
                &[config.max_position_embeddings, size],
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|at| EncoderLayer::load(&model.at("encoder.layers").at(at), config))
                .collect::<std::result::Result<_, _>>()?,
            final_layer_norm: LayerNorm::load(
                &model.at("final_layer_norm"),
                size,
                config.layer_norm_eps,
            )?,
            text_projection: with_projection
                .then(|| {
                    let weights = weights.at("text_projection");
                    Linear::load_no_bias(&weights, size, config.projection_dim)
                })
                .transpose()?,
            layer_table: LayerTable::new(),
            residency: weights.residency(),
            ops: weights.ops().clone(),
            config: config.clone(),
        })
    }

    /// Copies the weights to the device, where it holds the whole model.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn fill(&self) -> Result<()> {
        self.residency.fill()
    }

    /// Gives the device's memory back where components have it in turn.
    pub fn end_turn(&self) {
        self.residency.end_turn();
    }

    /// Gives the weights' memory back until they are needed again.
    pub fn release(&self) {
        self.residency.release();
    }

    /// The architecture.
    pub fn config(&self) -> &TextEncoderConfig {
        &self.config
    }

    /// The layers that adapters can be put on, by their names in the weight files.
    pub fn layer_table(&self) -> &LayerTable {
        &self.layer_table
    }

    /// Encodes token sequences of equal length. `clip_skip` leaves out that many layers more than
    /// the last one, for the hidden state only: transformers' `hidden_states[-(clip_skip + 2)]`.
    ///
    /// # Errors
    /// If a token, a length or `clip_skip` is beyond what the encoder knows.
    pub fn encode(&self, sequences: &[Vec<u32>], clip_skip: usize) -> Result<TextEncoding> {
        let layers = self.layers.len();
        let Some(wanted) = layers.checked_sub(clip_skip + 1) else {
            candle_core::bail!("a text encoder of {layers} layers cannot skip {clip_skip}");
        };
        let batch = sequences.len();
        let tokens = sequences.first().map_or(0, Vec::len);
        if tokens == 0 || tokens > self.config.max_position_embeddings {
            candle_core::bail!(
                "a text encoder for {} tokens got {tokens}",
                self.config.max_position_embeddings
            );
        }
        let ids: Vec<u32> = sequences.concat();
        if let Some(id) = ids
            .iter()
            .find(|&&id| id as usize >= self.config.vocab_size)
        {
            candle_core::bail!(
                "token {id} is beyond the text encoder's vocabulary of {}",
                self.config.vocab_size
            );
        }
        // 1. Embeddings: (b, tokens, hidden_size).
        let size = self.config.hidden_size;
        let mut embedded = vec![0.0; ids.len() * size];
        for (&id, row) in ids.iter().zip(embedded.chunks_exact_mut(size)) {
            self.token_embedding.widen(id as usize, 0, row);
        }
        let embedded = Tensor::from_vec(embedded, (batch, tokens, size), &Device::Cpu)?;
        let embedded = self.ops.take_precise(&embedded)?;
        let positions = self.position_embedding.narrow(0, 0, tokens)?;
        let mut hidden = self.ops.narrowed(&embedded.broadcast_add(&positions)?)?;
        // 2. Layers; the input of the wanted one is kept, and without a projection those after it
        // are read by nobody.
        let mut hidden_state = None;
        for (at, layer) in self.layers.iter().enumerate() {
            if at == wanted {
                hidden_state = Some(hidden.clone());
                if self.text_projection.is_none() {
                    break;
                }
            }
            hidden = layer.forward(&hidden)?;
        }
        // 3. Pooled: final norm → the end-of-text token's row → projection.
        let text_embeds = match &self.text_projection {
            None => None,
            Some(projection) => {
                let normed = self.final_layer_norm.forward(&hidden)?;
                let rows = sequences
                    .iter()
                    .enumerate()
                    .map(|(at, ids)| normed.get(at)?.get(self.pooled_position(ids)))
                    .collect::<Result<Vec<_>>>()?;
                let pooled = projection.forward(&Tensor::stack(&rows, 0)?)?;
                Some(self.ops.give(&pooled)?)
            }
        };
        Ok(TextEncoding {
            hidden_state: self.ops.give(&hidden_state.unwrap_or(hidden))?,
            text_embeds,
        })
    }

    /// Where the pooled output is taken from.
    fn pooled_position(&self, ids: &[u32]) -> usize {
        let eos = self.config.eos_token_id;
        if eos == 2 {
            // The first of the highest, as argmax gives it.
            let highest = ids.iter().max();
            ids.iter().position(|id| Some(id) == highest).unwrap_or(0)
        } else {
            ids.iter().position(|&id| id == eos).unwrap_or(0)
        }
    }
}
