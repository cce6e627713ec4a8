//! Sorting a file's tensors into components, with an account of what is left.

use std::collections::BTreeSet;

use crate::EngineError;
use crate::weights::WeightFiles;
use crate::weights::ldm::Piece;

/// Which tensors of a file have been given to a component.
pub struct Claims<'a> {
    files: &'a WeightFiles,
    taken: BTreeSet<String>,
}

/// Tensors that trainers and converters leave in checkpoints and that no image depends on: by
/// their beginnings and by their ends.
const IDLE_STARTS: [&str; 14] = [
    "model_ema.",
    "denoiser.",
    "loss.",
    "first_stage_model.loss.",
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "logvar",
    "v_pred",
    "ztsnr",
    "edm_",
    "cond_stage_key",
];
const IDLE_ENDS: [&str; 5] = [
    "logit_scale",
    "position_ids",
    "attn_mask",
    "lvlb_weights",
    // CLIP-L's projection, which SDXL does not use.
    "conditioner.embedders.0.transformer.text_projection.weight",
];

fn is_idle(name: &str) -> bool {
    IDLE_STARTS.iter().any(|start| name.starts_with(start))
        || IDLE_ENDS.iter().any(|end| name.ends_with(end))
}

impl<'a> Claims<'a> {
    /// Nothing is taken yet.
    pub fn new(files: &'a WeightFiles) -> Self {
        Self {
            files,
            taken: BTreeSet::new(),
        }
    }

    /// Gives a component the tensors that it asks for, under the names it asks by; `rename` says
    /// what they are called below `prefix`. Tensors below the prefix that it does not ask for come
    /// along under their own names, so that they are reported.
    ///
    /// # Errors
    /// If a tensor that must be taken apart cannot be.
    pub fn component<'n>(
        &mut self,
        prefix: &str,
        asked: impl Iterator<Item = &'n String>,
        rename: impl Fn(&str) -> Option<(String, Piece)>,
    ) -> Result<WeightFiles, EngineError> {
        let mut part = self.files.part("its kind");
        for name in asked {
            let Some((theirs, piece)) = rename(name) else {
                continue; // reported as missing under diffusers' name
            };
            let theirs = format!("{prefix}{theirs}");
            let Some(stored) = self.files.tensors().get(&theirs) else {
                continue;
            };
            match piece {
                Piece::Whole => part.insert(name.clone(), stored.clone()),
                Piece::Third(at) => match stored.third(at) {
                    Some(third) => part.insert(name.clone(), third),
                    None => {
                        return Err(EngineError::model(
                            self.files.path_of(stored),
                            format!(
                                "tensor `{theirs}` is {:?}, which cannot be split into queries, keys and values",
                                stored.shape
                            ),
                        ));
                    }
                },
                Piece::Transposed => part.insert_transposed(name.clone(), &theirs, stored)?,
            }
            self.taken.insert(theirs);
        }
        if !prefix.is_empty() {
            for (name, stored) in self.files.tensors() {
                if name.starts_with(prefix) && !self.taken.contains(name) && !is_idle(name) {
                    part.insert(name.clone(), stored.clone());
                    self.taken.insert(name.clone());
                }
            }
        } else {
            for (name, stored) in self.files.tensors() {
                if !self.taken.contains(name) && !is_idle(name) {
                    part.insert(name.clone(), stored.clone());
                }
            }
        }
        Ok(part)
    }

    /// The tensors below `prefix`, whose names are diffusers' but for it.
    pub fn renamed(&mut self, prefix: &str) -> WeightFiles {
        let mut part = self.files.part("its kind");
        for (name, stored) in self.files.tensors() {
            if let Some(rest) = name.strip_prefix(prefix) {
                part.insert(rest.to_string(), stored.clone());
                self.taken.insert(name.clone());
            }
        }
        part
    }

    /// Refuses tensors that no component has and that are not known to be idle.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the first few.
    pub fn finish(self) -> Result<(), EngineError> {
        let left: Vec<&String> = self
            .files
            .tensors()
            .keys()
            .filter(|name| !self.taken.contains(*name) && !is_idle(name))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let named: Vec<&str> = left.iter().take(5).map(|name| name.as_str()).collect();
        Err(EngineError::model(
            self.files.place(),
            format!(
                "holds {} tensors that belong to no part of an SDXL model: {}",
                left.len(),
                named.join(", ")
            ),
        ))
    }
}
