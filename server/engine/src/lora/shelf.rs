//! The LoRAs of one loaded model: read once, kept while there is room, put together per request.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::file::LoraFile;
use super::targets::{LoraTargets, ResolvedLora};
use crate::EngineError;
use crate::nn::AdapterSet;
use crate::request::LoraChoice;

/// Factors kept for later beside those of the request at hand.
const IDLE_BYTES: usize = 1 << 30;

/// The LoRAs that a model has been used with.
pub struct LoraShelf {
    targets: LoraTargets,
    /// The last used is last.
    kept: Mutex<Vec<(FileState, Arc<ResolvedLora>)>>,
}

/// A file as it was when it was read: written anew, it is read anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FileState {
    path: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
}

impl FileState {
    fn of(path: &Path) -> Result<Self, EngineError> {
        let facts = std::fs::metadata(path).map_err(|error| {
            let message = if error.kind() == std::io::ErrorKind::NotFound {
                "does not exist; give the path of a LoRA's .safetensors file".to_string()
            } else {
                format!("cannot be read: {error}")
            };
            EngineError::model(path, message)
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            modified: facts.modified().ok(),
            length: facts.len(),
        })
    }
}

impl LoraShelf {
    /// An empty shelf for a model of these layers.
    pub fn new(targets: LoraTargets) -> Self {
        Self {
            targets,
            kept: Mutex::default(),
        }
    }

    /// The adapters of a request; `None` where it asks for none.
    ///
    /// # Errors
    /// [`EngineError::Model`] for a LoRA that cannot be read or does not fit the model.
    pub fn adapters(&self, choices: &[LoraChoice]) -> Result<Option<Arc<AdapterSet>>, EngineError> {
        let mut set = AdapterSet::default();
        let mut text = DefaultHasher::new();
        let mut acts_on_text = false;
        let mut used = Vec::with_capacity(choices.len());
        for choice in choices.iter().filter(|choice| choice.weight != 0.0) {
            let state = FileState::of(&choice.path)?;
            let lora = self.find_or_read(&state)?;
            for (layer, factors, scale) in &lora.layers {
                let scale = (scale * choice.weight) as f32;
                set.add(layer, Arc::clone(factors), scale);
            }
            if lora.acts_on_text {
                acts_on_text = true;
                (&state, choice.weight.to_bits()).hash(&mut text);
            }
            used.push(state);
        }
        if acts_on_text {
            set.text_key = text.finish().max(1);
        }
        self.tidy(&used);
        Ok((!used.is_empty()).then(|| Arc::new(set)))
    }

    /// Frees what the device holds of all LoRAs, until they are needed again.
    pub fn release(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().for_each(|(_, lora)| lora.drop_copies());
    }

    fn find_or_read(&self, state: &FileState) -> Result<Arc<ResolvedLora>, EngineError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lora)) = kept().iter().find(|(known, _)| known == state) {
            return Ok(Arc::clone(lora));
        }
        // Read without the lock: other generations need not wait for a file.
        let lora = Arc::new(self.targets.resolve(&LoraFile::open(&state.path)?)?);
        kept().push((state.clone(), Arc::clone(&lora)));
        Ok(lora)
    }

    /// Moves what was used to the end and drops what has not been for longest, beyond the room
    /// there is.
    fn tidy(&self, used: &[FileState]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sort_by_key(|(state, _)| used.contains(state));
        let mut idle = 0;
        let mut stay: Vec<bool> = kept
            .iter()
            .rev()
            .map(|(state, lora)| {
                if used.contains(state) {
                    return true;
                }
                idle += lora.bytes;
                idle <= IDLE_BYTES
            })
            .collect();
        kept.retain(|_| stay.pop().unwrap_or(true));
        // The others stay mapped in their files; a device's memory is for what this request uses.
        for (state, lora) in kept.iter() {
            if !used.contains(state) {
                lora.drop_copies();
            }
        }
    }
}
