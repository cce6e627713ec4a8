//! Prompts that were encoded before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

/// Most prompts that are kept, and the most memory they may take together, in bytes.
const ENTRIES: usize = 32;
const BYTES: usize = 64 << 20;

/// What an encoded prompt depends on, besides the encoders' own weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptKey {
    /// The prompt.
    pub text: String,
    /// Whether it was read with weights.
    pub weighted: bool,
    /// Layers left out.
    pub clip_skip: usize,
    /// Stands for the LoRAs that were applied to the encoders; 0 for none.
    pub lora_key: u64,
}

/// A prompt through all encoders.
#[derive(Debug)]
pub struct EncodedPrompt {
    /// Hidden states of all encoders side by side: (1, chunks · tokens, width).
    pub embeds: Tensor,
    /// The last encoder's pooled output of the first chunk: (1, `projection_dim`).
    pub pooled: Tensor,
    /// What did not fit, as each encoder's tokenizer tells it, each once.
    pub removed: Vec<String>,
}

impl EncodedPrompt {
    fn bytes(&self) -> usize {
        [&self.embeds, &self.pooled]
            .iter()
            .map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes())
            .sum()
    }
}

/// The prompts used last, the latest in front.
#[derive(Default)]
pub struct EmbeddingCache(Mutex<VecDeque<(PromptKey, Arc<EncodedPrompt>)>>);

impl EmbeddingCache {
    /// Finds a prompt, which is then the latest.
    pub fn get(&self, key: &PromptKey) -> Option<Arc<EncodedPrompt>> {
        // The list is whole between any two statements, so a panic elsewhere does not harm it.
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|(known, _)| known == key)?;
        let entry = entries.remove(at)?;
        let found = entry.1.clone();
        entries.push_front(entry);
        Some(found)
    }

    /// Keeps a prompt; those not used for longest make room.
    pub fn insert(&self, key: PromptKey, prompt: Arc<EncodedPrompt>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(known, _)| *known != key);
        entries.push_front((key, prompt));
        let mut bytes = 0;
        let kept = entries
            .iter()
            .take(ENTRIES)
            .take_while(|(key, prompt)| {
                bytes += prompt.bytes() + key.text.len();
                bytes <= BYTES
            })
            .count();
        entries.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn key(text: &str) -> PromptKey {
        PromptKey {
            text: text.into(),
            weighted: false,
            clip_skip: 0,
            lora_key: 0,
        }
    }

    fn prompt(width: usize) -> Arc<EncodedPrompt> {
        let zeros = |shape| Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("a tensor");
        Arc::new(EncodedPrompt {
            embeds: zeros((1, 77, width)),
            pooled: zeros((1, 1, 1)),
            removed: Vec::new(),
        })
    }

    #[test]
    fn the_oldest_make_room() {
        let cache = EmbeddingCache::default();
        for at in 0..ENTRIES {
            cache.insert(key(&at.to_string()), prompt(1));
        }
        assert!(cache.get(&key("0")).is_some(), "used again");
        cache.insert(key("one more"), prompt(1));
        assert!(cache.get(&key("1")).is_none());
        assert!(cache.get(&key("0")).is_some());
        cache.insert(key("large"), prompt(BYTES / 77 / 4 - 1000));
        assert!(cache.get(&key("large")).is_some());
        cache.insert(key("large too"), prompt(BYTES / 77 / 4 - 1000));
        assert!(cache.get(&key("large")).is_none());
        cache.insert(key("too large"), prompt(BYTES / 77 / 4 + 1));
        assert!(cache.get(&key("too large")).is_none());
    }

    #[test]
    fn nothing_is_mixed_up() {
        let cache = EmbeddingCache::default();
        cache.insert(key("a"), prompt(1));
        for other in [
            key("b"),
            PromptKey {
                weighted: true,
                ..key("a")
            },
            PromptKey {
                clip_skip: 1,
                ..key("a")
            },
            PromptKey {
                lora_key: 7,
                ..key("a")
            },
        ] {
            assert!(cache.get(&other).is_none(), "{other:?}");
        }
        assert!(cache.get(&key("a")).is_some());
    }
}
