//! Which files of a repository make up a model: its configs and tokenizers, and one set of weights
//! per component, as safetensors. Pickles, ONNX, Flax and doubles stay where they are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hub::{Listing, RemoteFile};

/// Which of two sets of the same weights is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Half precision: half the download.
    #[default]
    Fp16,
    /// As the model was published.
    Full,
}

impl Variant {
    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "fp16" => Ok(Self::Fp16),
            "full" => Ok(Self::Full),
            _ => Err("choose fp16 or full".into()),
        }
    }
}

/// The files to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// In order of their paths.
    pub files: Vec<RemoteFile>,
    /// The weights file, where the model is that one file.
    pub single_file: Option<String>,
    /// What was chosen among several, for whoever asked.
    pub notes: Vec<String>,
}

/// File names of weights by their library's stem.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// Endings of weights in other formats.
const FOREIGN: [&str; 9] = [
    ".bin",
    ".ckpt",
    ".pt",
    ".pth",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".h5",
    ".safetensors",
];

/// One weights file by name.
///
/// # Errors
/// In words, where it is not there or of a kind that is never loaded.
pub fn one_file(listing: &Listing, path: &str) -> Result<Selection, String> {
    if !is_single(path) {
        let pickle = [".ckpt", ".pt", ".pth", ".bin"]
            .iter()
            .any(|end| path.to_ascii_lowercase().ends_with(end));
        return Err(if pickle {
            format!(
                "{path} is a Python pickle, which can run code when read; choose a .safetensors or .gguf file"
            )
        } else {
            format!("{path} is no model: choose a .safetensors or .gguf file")
        });
    }
    let file = listing.files.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| {
        let known = singles(listing);
        format!(
            "there is no file {path} in this repository{}",
            offer(&known)
        )
    })?;
    Ok(Selection {
        files: vec![file.clone()],
        single_file: Some(path.to_owned()),
        notes: Vec::new(),
    })
}

/// The diffusers folder that `model_index.json` describes.
///
/// # Errors
/// In words, where the index cannot be used or a component has no weights that can be loaded.
pub fn pipeline(listing: &Listing, index: &[u8], variant: Variant) -> Result<Selection, String> {
    let index: serde_json::Map<String, Value> = serde_json::from_slice(index)
        .map_err(|error| format!("its model_index.json cannot be read: {error}"))?;
    let mut files: Vec<RemoteFile> = Vec::new();
    let mut notes = Vec::new();
    for file in &listing.files {
        let license = file.path.to_ascii_uppercase().starts_with("LICENSE");
        let ours = matches!(file.path.as_str(), "model_index.json" | "atelier.json");
        if !file.path.contains('/') && (ours || license) {
            files.push(file.clone());
        }
    }
    let mut halved = Vec::new();
    for (name, class) in &index {
        let is_component =
            matches!(class, Value::Array(pair) if pair.len() == 2 && pair[1].is_string());
        if !is_component {
            continue;
        }
        let inside: Vec<(&str, &RemoteFile)> = listing
            .files
            .iter()
            .filter_map(|file| {
                let rest = file.path.strip_prefix(name.as_str())?.strip_prefix('/')?;
                (!rest.contains('/')).then_some((rest, file))
            })
            .collect();
        if inside.is_empty() {
            return Err(format!(
                "its model_index.json names the component `{name}`, but the repository has no files for it"
            ));
        }
        for (rest, file) in &inside {
            let is_text = [".json", ".txt", ".model"]
                .iter()
                .any(|end| rest.ends_with(end));
            if is_text && !rest.contains(".index.") {
                files.push((*file).clone());
            }
        }
        let is_weights = |rest: &str| FOREIGN.iter().any(|end| rest.ends_with(end));
        if !inside.iter().any(|(rest, _)| is_weights(rest)) {
            continue;
        }
        let (taken, got) = weights(&inside, variant).ok_or_else(|| {
            format!(
                "`{name}` has no .safetensors weights (pickles and other formats are never loaded)"
            )
        })?;
        if got == Variant::Fp16 && variant == Variant::Fp16 {
            halved.push(name.as_str());
        } else if got != variant {
            let word = if got == Variant::Fp16 {
                "the fp16 variant"
            } else {
                "full weights"
            };
            notes.push(format!("{name}: there are only {word}"));
        }
        files.extend(taken);
    }
    if !halved.is_empty() {
        notes.insert(
            0,
            format!(
                "half-precision weights of {} (`--variant full` fetches the originals)",
                halved.join(", ")
            ),
        );
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Selection {
        files,
        single_file: None,
        notes,
    })
}

/// Why a repository without `model_index.json` is no model as a whole, and what can be named.
pub fn no_pipeline(listing: &Listing) -> String {
    let singles = singles(listing);
    if singles.is_empty() {
        return "this repository has no model_index.json and no .safetensors or .gguf file; it is no model that can be loaded".into();
    }
    format!("this repository has no model_index.json{}", offer(&singles))
}

fn singles(listing: &Listing) -> Vec<&str> {
    listing
        .files
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| is_single(path) && !path.contains('/'))
        .collect()
}

fn offer(singles: &[&str]) -> String {
    match singles {
        [] => String::new(),
        some => {
            let shown: Vec<&str> = some.iter().take(8).copied().collect();
            let more = if some.len() > shown.len() {
                ", …"
            } else {
                ""
            };
            format!(
                "; name one of its files (OWNER/NAME/FILE): {}{more}",
                shown.join(", ")
            )
        }
    }
}

fn is_single(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".gguf")
}

/// One set of weights of a component: the preferred variant, else the other; one file rather than
/// shards of the same.
fn weights(inside: &[(&str, &RemoteFile)], variant: Variant) -> Option<(Vec<RemoteFile>, Variant)> {
    let find = |name: &str| {
        inside
            .iter()
            .find(|(rest, _)| *rest == name)
            .map(|(_, file)| *file)
    };
    let other = match variant {
        Variant::Fp16 => Variant::Full,
        Variant::Full => Variant::Fp16,
    };
    for variant in [variant, other] {
        let infix = match variant {
            Variant::Fp16 => ".fp16",
            Variant::Full => "",
        };
        for stem in STEMS {
            if let Some(file) = find(&format!("{stem}{infix}.safetensors")) {
                return Some((vec![file.clone()], variant));
            }
            let mut shards: Vec<RemoteFile> = inside
                .iter()
                .filter(|(rest, _)| is_shard(rest, stem, infix))
                .map(|(_, file)| (*file).clone())
                .collect();
            let index = [
                format!("{stem}.safetensors.index{infix}.json"),
                format!("{stem}{infix}.safetensors.index.json"),
            ]
            .iter()
            .find_map(|name| find(name));
            if let (false, Some(index)) = (shards.is_empty(), index) {
                shards.push(index.clone());
                return Some((shards, variant));
            }
        }
    }
    None
}

/// `STEM-00001-of-00002.safetensors`, with `.fp16` in either of the two places that are in use.
fn is_shard(name: &str, stem: &str, infix: &str) -> bool {
    let Some(middle) = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(".safetensors"))
    else {
        return false;
    };
    let numbers = if infix.is_empty() {
        middle
    } else {
        match (middle.strip_prefix(infix), middle.strip_suffix(infix)) {
            (Some(rest), _) | (None, Some(rest)) => rest,
            (None, None) => return false,
        }
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .strip_prefix('-')
        .and_then(|rest| rest.split_once("-of-"))
        .is_some_and(|(at, of)| digits(at) && digits(of))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        let file = |path: &&str| RemoteFile {
            path: (*path).into(),
            ..RemoteFile::default()
        };
        Listing {
            commit: "c".into(),
            files: paths.iter().map(file).collect(),
        }
    }

    const INDEX: &[u8] = br#"{"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": true,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "image_encoder": [null, null]}"#;

    /// The layout of the official base repository, in small.
    const BASE: &[&str] = &[
        ".gitattributes",
        "01.png",
        "LICENSE.md",
        "README.md",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "sd_xl_base_1.0.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_flax_model.msgpack",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/model.onnx",
        "unet/model.onnx_data",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "vae_1_0/config.json",
        "vae_1_0/diffusion_pytorch_model.safetensors",
        "vae_decoder/model.onnx",
    ];

    fn chosen(paths: &[&str], variant: Variant) -> Vec<String> {
        let selection = pipeline(&listing(paths), INDEX, variant).unwrap();
        selection.files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn one_set_of_weights_is_taken_and_nothing_beside() {
        let texts = [
            "LICENSE.md",
            "model_index.json",
            "scheduler/scheduler_config.json",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "unet/config.json",
        ];
        let with = |unet: &str, vae: &str| {
            let mut all: Vec<String> = texts.iter().map(|path| (*path).to_owned()).collect();
            all.extend([
                unet.to_owned(),
                "vae/config.json".to_owned(),
                vae.to_owned(),
            ]);
            all
        };
        let half = chosen(BASE, Variant::Fp16);
        assert_eq!(
            half,
            with(
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "vae/diffusion_pytorch_model.fp16.safetensors"
            )
        );
        let full = chosen(BASE, Variant::Full);
        assert_eq!(
            full,
            with(
                "unet/diffusion_pytorch_model.safetensors",
                "vae/diffusion_pytorch_model.safetensors"
            )
        );
    }

    #[test]
    fn the_other_variant_and_shards_do_when_there_is_nothing_else() {
        let paths = [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "tokenizer/vocab.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ];
        let half = pipeline(&listing(&paths), INDEX, Variant::Fp16).unwrap();
        assert_eq!(half.files.len(), 9, "{half:?}");
        assert!(
            half.notes
                .iter()
                .any(|note| note.contains("unet: there are only full")),
            "{half:?}"
        );
        let full = pipeline(&listing(&paths), INDEX, Variant::Full).unwrap();
        assert!(
            full.notes
                .iter()
                .any(|note| note.contains("vae: there are only the fp16")),
            "{full:?}"
        );
    }

    #[test]
    fn shards_of_one_variant_are_not_mixed_with_the_other() {
        for name in [
            "m.fp16-00001-of-00002.safetensors",
            "m-00001-of-00002.fp16.safetensors",
        ] {
            assert!(
                is_shard(name, "m", ".fp16") && !is_shard(name, "m", ""),
                "{name}"
            );
        }
        assert!(is_shard("m-00001-of-00002.safetensors", "m", ""));
        for name in [
            "m-x-of-2.safetensors",
            "m.safetensors",
            "m-1-of-2.bin",
            "mm-1-of-2.safetensors",
        ] {
            assert!(!is_shard(name, "m", ""), "{name}");
        }
    }

    #[test]
    fn pickles_and_missing_components_are_refused_with_the_reason() {
        let pickled = [
            "model_index.json",
            "scheduler/a.json",
            "tokenizer/a.json",
            "vae/config.json",
            "unet/diffusion_pytorch_model.bin",
        ];
        let words = pipeline(&listing(&pickled), INDEX, Variant::Fp16).unwrap_err();
        assert!(
            words.contains("unet") && words.contains("pickles"),
            "{words}"
        );
        let words = pipeline(&listing(&["model_index.json"]), INDEX, Variant::Fp16).unwrap_err();
        assert!(words.contains("no files for it"), "{words}");
        let words = pipeline(&listing(&[]), b"<html>", Variant::Fp16).unwrap_err();
        assert!(words.contains("model_index.json"), "{words}");
    }

    #[test]
    fn a_single_file_is_named_or_offered() {
        let one = one_file(&listing(BASE), "sd_xl_base_1.0.safetensors").unwrap();
        assert_eq!(one.files.len(), 1);
        assert!(
            one_file(&listing(BASE), "x.ckpt")
                .unwrap_err()
                .contains("pickle")
        );
        let words = one_file(&listing(BASE), "x.safetensors").unwrap_err();
        assert!(words.contains("sd_xl_base_1.0.safetensors"), "{words}");
        let words = no_pipeline(&listing(&["a.safetensors", "b.gguf", "c.ckpt"]));
        assert!(
            words.contains("a.safetensors, b.gguf") && !words.contains("c.ckpt"),
            "{words}"
        );
        assert!(no_pipeline(&listing(&["c.ckpt"])).contains("no model"));
    }
}
