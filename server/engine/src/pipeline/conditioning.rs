//! From prompts to what the UNet is conditioned on.

use candle_core::{Result, Tensor};

use crate::text_encoder::TextEncoder;
use crate::tokenizer::ClipTokenizer;
use crate::{EngineError, model::ModelFolder};

/// A text encoder with its tokenizer.
pub struct PromptEncoder {
    /// Cuts prompts into tokens.
    pub tokenizer: ClipTokenizer,
    /// Encodes them.
    pub text_encoder: TextEncoder,
    /// The text encoder's folder name.
    pub name: &'static str,
}

/// Encoded prompts; with guidance, the negative one comes first.
pub struct PromptEmbeds {
    /// Hidden states of all encoders side by side: (1 or 2, tokens, width).
    pub prompt_embeds: Tensor,
    /// The last encoder's pooled output: (1 or 2, `projection_dim`).
    pub pooled_prompt_embeds: Tensor,
    /// What a person should know about how the prompts were read.
    pub notes: Vec<String>,
}

/// Encodes a prompt and, for classifier-free guidance, a negative prompt beside it.
///
/// `negative_prompt` is `None` without guidance, `Some(None)` with guidance but no negative prompt.
///
/// # Errors
/// If a prompt holds a token that an encoder does not know.
pub fn encode_prompts(
    encoders: &[PromptEncoder],
    folder: &ModelFolder,
    prompt: &str,
    negative_prompt: Option<Option<&str>>,
) -> std::result::Result<PromptEmbeds, EngineError> {
    let mut notes = Vec::new();
    let (embeds, pooled) = encode(encoders, folder, "prompt", prompt, &mut notes)?;
    let (prompt_embeds, pooled_prompt_embeds) = match negative_prompt {
        None => (embeds, pooled),
        Some(negative) => {
            let (negative_embeds, negative_pooled) = match negative {
                None if folder.force_zeros_for_empty_prompt => {
                    (embeds.zeros_like()?, pooled.zeros_like()?)
                }
                other => {
                    let text = other.unwrap_or("");
                    encode(encoders, folder, "negative prompt", text, &mut notes)?
                }
            };
            (
                Tensor::cat(&[&negative_embeds, &embeds], 0)?,
                Tensor::cat(&[&negative_pooled, &pooled], 0)?,
            )
        }
    };
    Ok(PromptEmbeds {
        prompt_embeds,
        pooled_prompt_embeds,
        notes,
    })
}

/// One prompt through all encoders: (1, tokens, width) and (1, `projection_dim`).
fn encode(
    encoders: &[PromptEncoder],
    folder: &ModelFolder,
    what: &str,
    text: &str,
    notes: &mut Vec<String>,
) -> std::result::Result<(Tensor, Tensor), EngineError> {
    let mut hidden_states = Vec::with_capacity(encoders.len());
    let mut pooled = None;
    for encoder in encoders {
        let tokens = encoder.tokenizer.encode(text)?;
        if let Some(removed) = tokens.removed {
            let note = format!(
                "the {what} is longer than the {} tokens that the model reads; this part was cut off: {removed}",
                encoder.tokenizer.model_max_length()
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let vocabulary = encoder.text_encoder.config().vocab_size;
        if let Some(id) = tokens.ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(EngineError::model(
                folder.path.join(encoder.name).join("config.json"),
                format!(
                    "`vocab_size` is {vocabulary}, but the tokenizer gives token {id} for this {what}; tokenizer and text encoder do not belong together"
                ),
            ));
        }
        let encoding = encoder.text_encoder.encode(&[tokens.ids])?;
        hidden_states.push(encoding.penultimate_hidden_state);
        pooled = encoding.text_embeds.or(pooled);
    }
    let embeds = concatenate(&hidden_states)?;
    let pooled = pooled
        .ok_or_else(|| EngineError::model(&folder.path, "has no text encoder with a projection"))?;
    Ok((embeds, pooled))
}

fn concatenate(states: &[Tensor]) -> Result<Tensor> {
    Tensor::cat(states, 2)
}
