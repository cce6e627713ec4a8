//! A LoRA file: its factors by layer, and what it says about itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::keys::{Part, Refused, Role, parse};
use super::listed;
use crate::EngineError;
use crate::weights::{StoredTensor, WeightFiles};

/// A LoRA file, its header read and its factors sorted by layer.
pub struct LoraFile {
    path: PathBuf,
    files: WeightFiles,
    layers: BTreeMap<(Part, String), LoraLayer>,
    settings: AdapterSettings,
}

/// The tensors of one layer, by their names in the file.
#[derive(Clone, Debug, Default)]
pub struct LoraLayer {
    pub down: Option<String>,
    pub up: Option<String>,
    pub core: Option<String>,
    pub alpha: Option<String>,
}

/// A layer whose factors fit each other.
pub struct Factors<'a> {
    /// (rank, inputs), or (rank, inputs, k, k).
    pub down: (&'a str, &'a StoredTensor),
    /// (rank, rank, k, k).
    pub core: Option<(&'a str, &'a StoredTensor)>,
    /// (outputs, rank), or that with two ones more.
    pub up: (&'a str, &'a StoredTensor),
    /// Length of the axis that all factors share.
    pub rank: usize,
    /// What the product is multiplied by: alpha / rank.
    pub scale: f64,
}

/// The layer that factors belong to (its part, and its path with underscores), and the factors.
pub type PlacedFactors<'a> = (&'a (Part, String), Factors<'a>);

/// What a person should know about a LoRA before using it; read from the header alone.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraDescription {
    /// The file's name without its ending.
    pub name: String,
    /// Ranks of its layers, ascending.
    pub ranks: Vec<usize>,
    /// The parts that it acts on: `unet`, `text_encoder`, `text_encoder_2`.
    pub parts: Vec<&'static str>,
    /// Number of layers it acts on.
    pub layers: usize,
    /// The model it says it was trained on.
    pub base: Option<String>,
    /// Words that its author says call it up.
    pub trigger_phrase: Option<String>,
    /// The commonest tags of the images it was trained on, with their counts; at most
    /// [`LoraDescription::MAX_TAGS`].
    pub tags: Vec<(String, u64)>,
}

impl LoraDescription {
    /// How many tags a description lists.
    pub const MAX_TAGS: usize = 30;
}

impl LoraFile {
    /// Reads a file's header.
    ///
    /// # Errors
    /// [`EngineError::Model`] for a file that is damaged, a pickle, another kind of adapter, or
    /// made for another architecture.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        Self::read(path, WeightFiles::open_in_memory(path)?)
    }

    /// As [`LoraFile::open`], for bytes in memory.
    ///
    /// # Errors
    /// As [`LoraFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, EngineError> {
        Self::read(path, WeightFiles::from_bytes(path, bytes)?)
    }

    fn read(path: &Path, files: WeightFiles) -> Result<Self, EngineError> {
        let refuse = |message: String| EngineError::model(path, message);
        // Files that trainers saved under both names of a layer hold the same factors twice;
        // diffusers takes its own and so do we.
        let both = files.tensors().keys().any(|key| is_latent_diffusion(key))
            && files.tensors().keys().any(|key| is_diffusers(key));
        let mut layers: BTreeMap<(Part, String), LoraLayer> = BTreeMap::new();
        let mut unknown = Vec::new();
        for key in files.tensors().keys() {
            if both && is_latent_diffusion(key) {
                continue;
            }
            let parsed = match parse(key) {
                Ok(parsed) => parsed,
                Err(Refused::Kind(kind)) => {
                    return Err(refuse(format!(
                        "is an adapter of the kind {kind} (tensor `{key}`), which is not supported; use a LoRA or LoCon"
                    )));
                }
                Err(Refused::Model(model)) => {
                    return Err(refuse(format!(
                        "was made for another model: {model} (tensor `{key}`); use a LoRA for SDXL"
                    )));
                }
                Err(Refused::Unknown) => {
                    unknown.push(key.clone());
                    continue;
                }
            };
            let layer = layers.entry((parsed.part, parsed.layer)).or_default();
            let place = match parsed.role {
                Role::Down => &mut layer.down,
                Role::Up => &mut layer.up,
                Role::Core => &mut layer.core,
                Role::Alpha => &mut layer.alpha,
            };
            if let Some(other) = place.replace(key.clone()) {
                return Err(refuse(format!(
                    "holds the same factor of a layer twice, as `{other}` and as `{key}`"
                )));
            }
        }
        if layers.is_empty() {
            return Err(refuse(if unknown.is_empty() {
                "holds no tensors; it is no LoRA".to_string()
            } else {
                format!("is no LoRA: it holds {}", listed(&unknown))
            }));
        }
        if !unknown.is_empty() {
            return Err(refuse(format!(
                "holds tensors that belong to no LoRA known here: {}",
                listed(&unknown)
            )));
        }
        let settings = AdapterSettings::read(path, &files)?;
        Ok(Self {
            path: path.to_path_buf(),
            files,
            layers,
            settings,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its tensors.
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// All layers with their factors, checked against each other.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the layer whose factors are missing or do not fit.
    pub fn factors(&self) -> Result<Vec<PlacedFactors<'_>>, EngineError> {
        self.layers
            .iter()
            .map(|(place, layer)| Ok((place, self.factors_of(place, layer)?)))
            .collect()
    }

    fn factors_of<'a>(
        &'a self,
        place: &(Part, String),
        layer: &'a LoraLayer,
    ) -> Result<Factors<'a>, EngineError> {
        let refuse = |message: String| EngineError::model(&self.path, message);
        let find = |name: &'a Option<String>| {
            let name = name.as_deref()?;
            Some((name, self.files.tensors().get(name)?))
        };
        let (Some(down), Some(up)) = (find(&layer.down), find(&layer.up)) else {
            let there = [&layer.down, &layer.up, &layer.core, &layer.alpha];
            let there: Vec<String> = there.into_iter().flatten().cloned().collect();
            return Err(refuse(format!(
                "is incomplete: of {} in {} there is only {}",
                place.1,
                place.0.name(),
                listed(&there)
            )));
        };
        let core = find(&layer.core);
        let misfit = || {
            refuse(format!(
                "has factors that do not fit each other: `{}` is {:?}, `{}` is {:?}{}",
                down.0,
                down.1.shape,
                up.0,
                up.1.shape,
                core.map_or(String::new(), |(name, stored)| format!(
                    ", `{name}` is {:?}",
                    stored.shape
                ))
            ))
        };
        // 1. Shapes.
        let (rank, up_rank) = match (down.1.shape.as_slice(), up.1.shape.as_slice()) {
            ([rank, _] | [rank, _, _, _], [_, up_rank] | [_, up_rank, 1, 1]) => (*rank, *up_rank),
            _ => return Err(misfit()),
        };
        let fits = match core {
            None => rank == up_rank,
            Some((_, stored)) => {
                matches!(down.1.shape.as_slice(), [_, _] | [_, _, 1, 1])
                    && matches!(stored.shape.as_slice(), [out, input, _, _] if *out == up_rank && *input == rank)
            }
        };
        if !fits || rank == 0 || up_rank == 0 {
            return Err(misfit());
        }
        // 2. Scale.
        let alpha = match find(&layer.alpha) {
            Some((name, stored)) => {
                let values = self.files.numbers(name, stored)?;
                match values.as_slice() {
                    [alpha] if alpha.is_finite() => Some(*alpha),
                    _ => return Err(refuse(format!("`{name}` is not one number"))),
                }
            }
            None => None,
        };
        let scale = match alpha {
            Some(alpha) => alpha / rank as f64,
            None => self.settings.scale(place, rank),
        };
        Ok(Factors {
            down,
            core,
            up,
            rank,
            scale,
        })
    }

    /// Sums the file up.
    ///
    /// # Errors
    /// As [`LoraFile::factors`].
    pub fn describe(&self) -> Result<LoraDescription, EngineError> {
        let factors = self.factors()?;
        let mut ranks: Vec<usize> = factors.iter().map(|(_, factors)| factors.rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let mut parts: Vec<&'static str> = Vec::new();
        for ((part, _), _) in &factors {
            if parts.last() != Some(&part.name()) {
                parts.push(part.name());
            }
        }
        let text = |key: &str| {
            let value = self.files.metadata().get(key)?.trim();
            (!value.is_empty() && value != "None").then(|| value.to_string())
        };
        Ok(LoraDescription {
            name: self
                .path
                .file_stem()
                .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            ranks,
            parts,
            layers: factors.len(),
            base: base(&self.files),
            trigger_phrase: text("modelspec.trigger_phrase"),
            tags: self.tags(),
        })
    }

    /// Tags of all training sets together, the commonest first.
    fn tags(&self) -> Vec<(String, u64)> {
        let sets = self.files.metadata().get("ss_tag_frequency");
        let sets = sets.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let sets = sets.as_ref().and_then(Value::as_object);
        for set in sets.into_iter().flat_map(Map::values) {
            for (tag, count) in set.as_object().into_iter().flatten() {
                let sum = counts.entry(tag.trim().to_string()).or_default();
                *sum = sum.saturating_add(count.as_u64().unwrap_or(0));
            }
        }
        let mut tags: Vec<(String, u64)> = counts.into_iter().collect();
        tags.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        tags.truncate(LoraDescription::MAX_TAGS);
        tags
    }
}

/// What a file's metadata say it was trained on.
pub fn base(files: &WeightFiles) -> Option<String> {
    [
        "ss_base_model_version",
        "modelspec.architecture",
        "ss_sd_model_name",
    ]
    .iter()
    .filter_map(|key| files.metadata().get(*key))
    .map(|value| value.trim())
    .find(|value| !value.is_empty() && *value != "None")
    .map(str::to_string)
}

fn is_latent_diffusion(key: &str) -> bool {
    ["input_blocks", "middle_block", "output_blocks"]
        .iter()
        .any(|name| key.contains(name))
}

fn is_diffusers(key: &str) -> bool {
    ["down_blocks", "mid_block", "up_blocks"]
        .iter()
        .any(|name| key.contains(name))
}

/// The adapter settings that diffusers writes beside the factors, where alphas are not tensors.
#[derive(Default)]
struct AdapterSettings(Map<String, Value>);

impl AdapterSettings {
    fn read(path: &Path, files: &WeightFiles) -> Result<Self, EngineError> {
        let Some(text) = files.metadata().get("lora_adapter_metadata") else {
            return Ok(Self::default());
        };
        let settings = match serde_json::from_str(text) {
            Ok(Value::Object(settings)) => Self(settings),
            _ => {
                return Err(EngineError::model(
                    path,
                    "has `lora_adapter_metadata` that are no JSON object",
                ));
            }
        };
        for part in [Part::Unet, Part::TextEncoder, Part::TextEncoder2] {
            if settings.get(part, "use_dora") == Some(&Value::Bool(true)) {
                return Err(EngineError::model(
                    path,
                    "is an adapter of the kind DoRA (`use_dora` in its metadata), which is not supported; use a LoRA or LoCon",
                ));
            }
        }
        Ok(settings)
    }

    fn get(&self, part: Part, key: &str) -> Option<&Value> {
        self.0.get(&format!("{}.{key}", part.name()))
    }

    /// peft's scaling of a layer: alpha / rank, or alpha / √rank if the file says so; 1 if it says
    /// nothing.
    fn scale(&self, (part, layer): &(Part, String), rank: usize) -> f64 {
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
        let pattern = self
            .get(*part, "alpha_pattern")
            .and_then(Value::as_object)
            .and_then(|patterns| {
                patterns.iter().find_map(|(name, alpha)| {
                    let name = name.replace('.', "_");
                    let matches = *layer == name || layer.ends_with(&format!("_{name}"));
                    matches.then(|| number(alpha)).flatten()
                })
            });
        let alpha = pattern.or_else(|| self.get(*part, "lora_alpha").and_then(number));
        let rank = rank as f64;
        match alpha {
            None => 1.0,
            Some(alpha) if self.get(*part, "use_rslora") == Some(&Value::Bool(true)) => {
                alpha / rank.sqrt()
            }
            Some(alpha) => alpha / rank,
        }
    }
}
