//! From parsed prompts to the sequences of tokens that an encoder reads, one after the other.

use super::Part;
use crate::EngineError;
use crate::tokenizer::{ClipTokenizer, Word};

/// Most chunks that a prompt may take: with SDXL, 1200 tokens. The keys and values of the text,
/// kept for every attention layer of the UNet, grow with them.
pub const MAX_CHUNKS: usize = 16;

/// A chunk is rather broken at a comma than within a phrase, if there is one among this many
/// tokens at its end: the web UI's default of "comma padding backtrack".
const BACKTRACK: usize = 20;

/// What an encoder reads at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// The tokens, without begin, end and pads.
    pub words: Vec<Word>,
    /// How strongly each of them counts.
    pub weights: Vec<f32>,
}

impl Chunk {
    /// The sequence for the encoder: begin, words, end, pads.
    pub fn ids(&self, tokenizer: &ClipTokenizer) -> Vec<u32> {
        tokenizer.frame(self.words.iter().map(|word| word.id))
    }

    /// A weight for each token of [`Chunk::ids`], or nothing if all are 1.
    pub fn emphasis(&self, tokenizer: &ClipTokenizer) -> Option<Vec<f32>> {
        if self.weights.iter().all(|&weight| weight == 1.0) {
            return None;
        }
        let mut weights = vec![1.0; tokenizer.model_max_length()];
        weights[1..=self.weights.len()].copy_from_slice(&self.weights);
        Some(weights)
    }
}

/// Cuts a parsed prompt into chunks; there is always at least one.
///
/// # Errors
/// [`EngineError::InvalidRequest`] for `field` if there are more than [`MAX_CHUNKS`].
pub fn chunks(
    field: &'static str,
    tokenizer: &ClipTokenizer,
    parts: &[Part],
) -> Result<Vec<Chunk>, EngineError> {
    let room = tokenizer.model_max_length() - 2;
    let mut done: Vec<Chunk> = Vec::new();
    let mut chunk = Chunk::default();
    // Where in the chunk the last comma stands.
    let mut comma: Option<usize> = None;
    for part in parts {
        let (text, weight) = match part {
            Part::Text { text, weight } => (text, *weight as f32),
            Part::Break => {
                done.push(std::mem::take(&mut chunk));
                comma = None;
                continue;
            }
        };
        for word in tokenizer.words(text)? {
            if Some(word.id) == tokenizer.comma() {
                comma = Some(chunk.words.len());
            } else if chunk.words.len() == room
                && let Some(at) = comma
                && room - at <= BACKTRACK
            {
                // What follows the comma moves to the next chunk.
                let next = Chunk {
                    words: chunk.words.split_off(at + 1),
                    weights: chunk.weights.split_off(at + 1),
                };
                done.push(std::mem::replace(&mut chunk, next));
                comma = None;
            }
            if chunk.words.len() == room {
                done.push(std::mem::take(&mut chunk));
                comma = None;
            }
            chunk.words.push(word);
            chunk.weights.push(weight);
            if done.len() >= MAX_CHUNKS {
                break;
            }
        }
    }
    if !chunk.words.is_empty() || done.is_empty() {
        done.push(chunk);
    }
    if done.len() > MAX_CHUNKS {
        return Err(EngineError::invalid(
            field,
            format!(
                "takes more than {MAX_CHUNKS} chunks of {room} tokens; shorten it, or use BREAK less often"
            ),
        ));
    }
    Ok(done)
}
