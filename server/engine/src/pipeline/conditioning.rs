//! From prompts to what a UNet is conditioned on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::embedding_cache::{EmbeddingCache, EncodedPrompt, PromptKey};
use crate::image::all_finite;
use crate::pipeline::Phase;
use crate::prompt::{Chunk, chunks, is_weighted, parse};
use crate::text_encoder::TextEncoder;
use crate::tokenizer::ClipTokenizer;
use crate::{EngineError, PromptSyntax};

/// A text encoder with its tokenizer.
pub struct PromptEncoder {
    /// Cuts prompts into tokens.
    pub tokenizer: ClipTokenizer,
    /// Encodes them.
    pub text_encoder: TextEncoder,
    /// The text encoder's folder name.
    pub name: &'static str,
}

/// How prompts are read and encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptOptions {
    /// How the text is read.
    pub syntax: PromptSyntax,
    /// How many layers of each encoder are left out beyond the last. As in diffusers, the negative
    /// prompt is encoded without skipping.
    pub clip_skip: usize,
    /// Stands for the LoRAs that are applied to the encoders at this moment, so that prompts
    /// encoded with others are not taken for these; 0 for none.
    pub lora_key: u64,
}

/// Encoded prompts; with guidance, the negative one comes first.
pub struct PromptEmbeds {
    /// Hidden states of all encoders side by side: (1 or 2, chunks · tokens, width).
    pub prompt_embeds: Tensor,
    /// The last encoder's pooled output: (1 or 2, `projection_dim`).
    pub pooled_prompt_embeds: Tensor,
    /// What a person should know about how the prompts were read.
    pub notes: Vec<String>,
    /// Whether no encoder had to run: all of it was encoded before.
    pub cached: bool,
}

/// All text encoders of a model: two for SDXL's base, one for its refiner.
pub struct TextEncoders {
    encoders: Vec<PromptEncoder>,
    force_zeros_for_empty_prompt: bool,
    folder: PathBuf,
    cache: EmbeddingCache,
}

impl TextEncoders {
    /// Gives the pages of the encoders' weights back until they are needed again.
    pub fn release(&self) {
        for encoder in &self.encoders {
            encoder.text_encoder.release();
        }
    }

    /// Takes the encoders of the model at `folder`, in order; the last has the projection.
    /// `force_zeros_for_empty_prompt` is the model index' entry of that name.
    pub fn new(
        folder: &Path,
        encoders: Vec<PromptEncoder>,
        force_zeros_for_empty_prompt: bool,
    ) -> Self {
        Self {
            encoders,
            force_zeros_for_empty_prompt,
            folder: folder.to_path_buf(),
            cache: EmbeddingCache::default(),
        }
    }

    /// The encoders.
    pub fn encoders(&self) -> &[PromptEncoder] {
        &self.encoders
    }

    /// Encodes a prompt and, for classifier-free guidance, a negative prompt beside it, with as
    /// many chunks as the longer one takes.
    ///
    /// `negative_prompt` is `None` without guidance, `Some(None)` with guidance but no negative
    /// prompt.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] if a prompt cannot be read, or more layers are to be skipped
    /// than there are; [`EngineError::Model`] if tokenizer and encoder do not fit each other.
    pub fn encode(
        &self,
        prompt: &str,
        negative_prompt: Option<Option<&str>>,
        options: &PromptOptions,
    ) -> std::result::Result<PromptEmbeds, EngineError> {
        self.check_clip_skip(options.clip_skip)?;
        let texts: Vec<&str> = [Some(prompt), negative_prompt.flatten()]
            .into_iter()
            .flatten()
            .collect();
        let weighted = is_weighted(options.syntax, &texts);
        let mut run = Run {
            encoders: self,
            weighted,
            lora_key: options.lora_key,
            notes: Vec::new(),
            cached: true,
        };
        let positive = run.read("prompt", "prompt", prompt, options.clip_skip)?;
        let Some(negative) = negative_prompt else {
            return Ok(PromptEmbeds {
                prompt_embeds: positive.embeds.clone(),
                pooled_prompt_embeds: positive.pooled.clone(),
                notes: run.notes,
                cached: run.cached,
            });
        };
        let (embeds, negative_embeds, negative_pooled) = match negative {
            None if self.force_zeros_for_empty_prompt => (
                positive.embeds.clone(),
                positive.embeds.zeros_like()?,
                positive.pooled.zeros_like()?,
            ),
            other => {
                let text = other.unwrap_or("");
                let negative = run.read("negative_prompt", "negative prompt", text, 0)?;
                let length = positive.embeds.dim(1)?.max(negative.embeds.dim(1)?);
                (
                    run.fill_up(&positive.embeds, length, options.clip_skip)?,
                    run.fill_up(&negative.embeds, length, 0)?,
                    negative.pooled.clone(),
                )
            }
        };
        Ok(PromptEmbeds {
            prompt_embeds: Tensor::cat(&[&negative_embeds, &embeds], 0)?,
            pooled_prompt_embeds: Tensor::cat(&[&negative_pooled, &positive.pooled], 0)?,
            notes: run.notes,
            cached: run.cached,
        })
    }

    /// The most layers that can be skipped.
    pub fn max_clip_skip(&self) -> usize {
        let layers = self
            .encoders
            .iter()
            .map(|encoder| encoder.text_encoder.config().num_hidden_layers);
        layers.min().unwrap_or(1).saturating_sub(1)
    }

    fn check_clip_skip(&self, clip_skip: usize) -> std::result::Result<(), EngineError> {
        let most = self.max_clip_skip();
        if clip_skip > most {
            return Err(EngineError::invalid(
                "clip_skip",
                format!("is {clip_skip}; this model's text encoders can skip 0 to {most} layers"),
            ));
        }
        Ok(())
    }

    /// One prompt through all encoders.
    fn run_encoders(
        &self,
        field: &'static str,
        key: &PromptKey,
    ) -> std::result::Result<EncodedPrompt, EngineError> {
        let parts = if key.weighted {
            parse(field, &key.text)?.parts
        } else {
            Vec::new()
        };
        let mut removed = Vec::new();
        let mut hidden_states = Vec::with_capacity(self.encoders.len());
        let mut pooled = None;
        for encoder in &self.encoders {
            let _turn = Turn(&encoder.text_encoder);
            let sequences = if key.weighted {
                let tokenizer = &encoder.tokenizer;
                let chunks = chunks(field, tokenizer, &parts)?;
                let framed = |chunk: &Chunk| (chunk.ids(tokenizer), chunk.emphasis(tokenizer));
                chunks.iter().map(framed).collect()
            } else {
                let tokens = encoder.tokenizer.encode(&key.text)?;
                removed.extend(tokens.removed.filter(|text| !removed.contains(text)));
                vec![(tokens.ids, None)]
            };
            let mut states = Vec::with_capacity(sequences.len());
            for (at, (ids, weights)) in sequences.into_iter().enumerate() {
                self.check_vocabulary(encoder, field, &ids)?;
                let encoding = encoder.text_encoder.encode(&[ids], key.clip_skip)?;
                states.push(match weights {
                    Some(weights) => emphasise(&encoding.hidden_state, &weights)?,
                    None => encoding.hidden_state,
                });
                if at == 0 {
                    pooled = encoding.text_embeds.or(pooled);
                }
            }
            hidden_states.push(states);
        }
        // Tokenizers may disagree on the number of chunks: "!!!!" is one token or four.
        let most = hidden_states.iter().map(Vec::len).max().unwrap_or(0);
        let mut sides = Vec::with_capacity(hidden_states.len());
        for (encoder, mut states) in self.encoders.iter().zip(hidden_states) {
            if states.len() < most {
                let empty = Chunk::default().ids(&encoder.tokenizer);
                let empty = encoder.text_encoder.encode(&[empty], key.clip_skip)?;
                states.resize(most, empty.hidden_state);
            }
            sides.push(Tensor::cat(&states, 1)?);
        }
        Ok(EncodedPrompt {
            embeds: Tensor::cat(&sides, 2)?,
            pooled: pooled.ok_or_else(|| {
                EngineError::model(&self.folder, "has no text encoder with a projection")
            })?,
            removed,
        })
    }

    fn check_vocabulary(
        &self,
        encoder: &PromptEncoder,
        field: &str,
        ids: &[u32],
    ) -> std::result::Result<(), EngineError> {
        let vocabulary = encoder.text_encoder.config().vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            None => Ok(()),
            Some(id) => Err(EngineError::model(
                self.folder.join(encoder.name).join("config.json"),
                format!(
                    "`vocab_size` is {vocabulary}, but the tokenizer gives token {id} for this {field}; tokenizer and text encoder do not belong together"
                ),
            )),
        }
    }
}

/// Ends an encoder's turn on the device, however it went.
struct Turn<'a>(&'a TextEncoder);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.end_turn();
    }
}

/// One call of [`TextEncoders::encode`].
struct Run<'a> {
    encoders: &'a TextEncoders,
    weighted: bool,
    lora_key: u64,
    notes: Vec<String>,
    cached: bool,
}

impl Run<'_> {
    /// A prompt from the cache, or through the encoders and then into it.
    fn look_up(
        &mut self,
        field: &'static str,
        text: &str,
        clip_skip: usize,
    ) -> std::result::Result<Arc<EncodedPrompt>, EngineError> {
        let key = PromptKey {
            text: text.to_string(),
            weighted: self.weighted,
            clip_skip,
            lora_key: self.lora_key,
        };
        if let Some(found) = self.encoders.cache.get(&key) {
            return Ok(found);
        }
        self.cached = false;
        let prompt = Arc::new(self.encoders.run_encoders(field, &key)?);
        // What went wrong once must not be found in the cache when it is tried again.
        for tensor in [&prompt.embeds, &prompt.pooled] {
            if !all_finite(&tensor.flatten_all()?.to_vec1::<f32>()?) {
                return Err(EngineError::NonFinite {
                    phase: Phase::TextEncoding,
                });
            }
        }
        self.encoders.cache.insert(key, prompt.clone());
        Ok(prompt)
    }

    /// As [`Run::look_up`], and notes what was cut off.
    fn read(
        &mut self,
        field: &'static str,
        what: &str,
        text: &str,
        clip_skip: usize,
    ) -> std::result::Result<Arc<EncodedPrompt>, EngineError> {
        let prompt = self.look_up(field, text, clip_skip)?;
        let length = self
            .encoders
            .encoders
            .first()
            .map_or(0, |encoder| encoder.tokenizer.model_max_length());
        for removed in &prompt.removed {
            self.notes.push(format!(
                "the {what} is longer than the {length} tokens that the model reads at once; this part was cut off (prompt_syntax: weighted, or --prompt-syntax weighted, reads it whole): {removed}"
            ));
        }
        Ok(prompt)
    }

    /// Appends empty chunks until `embeds` (1, tokens, width) has `length` tokens.
    fn fill_up(
        &mut self,
        embeds: &Tensor,
        length: usize,
        clip_skip: usize,
    ) -> std::result::Result<Tensor, EngineError> {
        if embeds.dim(1)? >= length {
            return Ok(embeds.clone());
        }
        let empty = self.look_up("prompt", "", clip_skip)?.embeds.clone();
        let missing = (length - embeds.dim(1)?) / empty.dim(1)?;
        let mut states = vec![embeds.clone()];
        states.resize(1 + missing, empty);
        Ok(Tensor::cat(&states, 1)?)
    }
}

/// Multiplies each token's hidden state (1, tokens, width) by its weight, and then all of them by
/// what brings their mean back: the web UI's emphasis "Original". Where weights make the mean
/// vanish there is nothing to bring back, and it is left.
fn emphasise(hidden: &Tensor, weights: &[f32]) -> Result<Tensor> {
    let mean = |values: &[f32]| {
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        sum / values.len() as f64
    };
    let shape = hidden.dims3()?;
    let mut values = hidden.flatten_all()?.to_vec1::<f32>()?;
    let before = mean(&values);
    for (row, weight) in values.chunks_mut(shape.2).zip(weights) {
        for value in row {
            *value *= weight;
        }
    }
    let factor = (before / mean(&values)) as f32;
    if factor.is_finite() {
        for value in &mut values {
            *value *= factor;
        }
    }
    Tensor::from_vec(values, shape, &Device::Cpu)
}
