//! How a prompt will be read, shown before any image is made: tokenizers alone, no weights.

use std::path::Path;

use serde::Serialize;

use super::{Part, chunks, is_weighted, parse};
use crate::model::ModelFolder;
use crate::tokenizer::ClipTokenizer;
use crate::{EngineError, GenerateRequest, PromptSyntax};

/// A token of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreviewToken {
    /// What it was made of, as it was written; empty for the second and later tokens of one
    /// character.
    pub text: String,
    /// Its number in the vocabulary.
    pub id: u32,
    /// How strongly it counts; 1 is as the model was trained.
    pub weight: f32,
}

/// A prompt as its model's tokenizers cut it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromptPreview {
    /// Whether it is read with weights and `BREAK`, and as long as it is.
    pub weighted: bool,
    /// What the encoders read, one chunk after the other.
    pub chunks: Vec<Vec<PreviewToken>>,
    /// Tokens that the text takes, those cut off included.
    pub used: usize,
    /// Tokens that the chunks have room for.
    pub room: usize,
    /// The end of the text, where it does not fit and is not read.
    pub cut: Option<String>,
    /// Whether all of the model's tokenizers give as many tokens. If not, the one that gives most
    /// is shown.
    pub tokenizers_agree: bool,
}

/// The tokenizers of a model.
pub struct PromptReader {
    tokenizers: Vec<ClipTokenizer>,
}

impl PromptReader {
    /// Reads the tokenizers of a model; no weights are touched.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file at fault.
    pub fn open(model: &Path) -> Result<Self, EngineError> {
        ModelFolder::read(model)?.open_tokenizers().map(Self::new)
    }

    /// Takes tokenizers that were opened before.
    pub fn new(tokenizers: Vec<ClipTokenizer>) -> Self {
        Self { tokenizers }
    }

    /// Reads a prompt as [`crate::Pipeline::generate`] does when `beside` is the other prompt of
    /// the request: with [`PromptSyntax::Auto`] a weight in either makes both weighted.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] for the field `prompt` as generating would give it.
    pub fn preview(
        &self,
        text: &str,
        syntax: PromptSyntax,
        beside: Option<&str>,
    ) -> Result<PromptPreview, EngineError> {
        let count = text.chars().count();
        if count > GenerateRequest::MAX_PROMPT_CHARS {
            return Err(EngineError::invalid(
                "prompt",
                format!(
                    "has {count} characters; at most {} are accepted",
                    GenerateRequest::MAX_PROMPT_CHARS
                ),
            ));
        }
        let texts: Vec<&str> = [Some(text), beside].into_iter().flatten().collect();
        let weighted = is_weighted(syntax, &texts);
        let parts = if weighted {
            parse("prompt", text)?.parts
        } else {
            Vec::new()
        };
        let mut shown: Option<PromptPreview> = None;
        let mut agree = true;
        for tokenizer in &self.tokenizers {
            let next = if weighted {
                weighted_preview(tokenizer, &parts)?
            } else {
                plain_preview(tokenizer, text)?
            };
            agree &= shown.as_ref().is_none_or(|first| first.used == next.used);
            if shown.as_ref().is_none_or(|first| first.used < next.used) {
                shown = Some(next);
            }
        }
        let mut shown = shown.ok_or_else(|| EngineError::invalid("model", "has no tokenizer"))?;
        shown.tokenizers_agree = agree;
        Ok(shown)
    }
}

/// The words of `text` as tokens of one weight.
fn tokens(
    text: &str,
    words: impl Iterator<Item = crate::tokenizer::Word>,
    weight: f32,
) -> Vec<PreviewToken> {
    let mut end = 0;
    words
        .map(|word| {
            let start = word.range.start.max(end);
            end = end.max(word.range.end);
            PreviewToken {
                text: text.get(start..end).unwrap_or_default().to_string(),
                id: word.id,
                weight,
            }
        })
        .collect()
}

fn plain_preview(tokenizer: &ClipTokenizer, text: &str) -> Result<PromptPreview, EngineError> {
    let words = tokenizer.words(text)?;
    let (used, room) = (words.len(), tokenizer.model_max_length() - 2);
    let cut = words.get(room).map(|first| {
        let rest = text.get(first.range.start..).unwrap_or_default();
        rest.trim().to_string()
    });
    Ok(PromptPreview {
        weighted: false,
        chunks: vec![tokens(text, words.into_iter().take(room), 1.0)],
        used,
        room,
        cut,
        tokenizers_agree: true,
    })
}

fn weighted_preview(
    tokenizer: &ClipTokenizer,
    parts: &[Part],
) -> Result<PromptPreview, EngineError> {
    // The chunks carry numbers only; the texts follow from the parts, in the same order.
    let mut shown = Vec::new();
    for part in parts {
        if let Part::Text { text, weight } = part {
            let words = tokenizer.words(text)?.into_iter();
            shown.extend(tokens(text, words, *weight as f32));
        }
    }
    let used = shown.len();
    let mut shown = shown.into_iter();
    let chunks: Vec<Vec<PreviewToken>> = chunks("prompt", tokenizer, parts)?
        .iter()
        .map(|chunk| shown.by_ref().take(chunk.words.len()).collect())
        .collect();
    Ok(PromptPreview {
        weighted: true,
        used,
        room: chunks.len() * (tokenizer.model_max_length() - 2),
        chunks,
        cut: None,
        tokenizers_agree: true,
    })
}
