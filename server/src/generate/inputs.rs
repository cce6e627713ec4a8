//! What the options of `atelier generate` bring along: seeds, files, and the parts of a request
//! beyond plain text to image.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atelier_engine::image::{read_grey, read_rgb};
use atelier_engine::{GenerateRequest, InputImage, Mask, Refine, VaeTiling};
use image::{GrayImage, RgbImage};

use super::Failure;
use crate::config::GenerateArgs;
use crate::gallery::{Extras, ImageHash, InputFile, LoraUse};
use crate::models::Model;

/// Longest image file that is read: 64 million pixels need no more, however badly packed.
const MAX_FILE: u64 = 512 << 20;

/// diffusers' default for SDXL's image to image, and for inpainting.
const STRENGTH: (f64, f64) = (0.3, 0.9999);
/// The base model's usual share of the steps.
const SPLIT: f64 = 0.8;

/// The seeds of a batch: each one more than the one before.
pub(super) fn seeds(first: u64, batch: u32) -> Vec<u64> {
    (0..u64::from(batch))
        .map(|index| first.wrapping_add(index))
        .collect()
}

/// The file of one of a batch's images.
pub(super) fn file_name(out: &Path, index: usize, count: usize, seed: u64) -> PathBuf {
    let Some(name) = out.file_name().and_then(|name| name.to_str()) else {
        return out.to_path_buf();
    };
    if name.contains("{seed}") {
        return out.with_file_name(name.replace("{seed}", &seed.to_string()));
    }
    match (count, name.rsplit_once('.')) {
        (2.., Some((stem, extension))) => {
            out.with_file_name(format!("{stem}-{}.{extension}", index + 1))
        }
        _ => out.to_path_buf(),
    }
}

/// Width and height where the options name none: the input image's own, cut to what the model
/// takes, or the model's; where only the masked region is worked on, always the model's.
pub(super) fn default_size(
    args: &GenerateArgs,
    model: &Model,
    image: Option<&RgbImage>,
) -> (u32, u32) {
    match image {
        Some(image) if args.only_masked_padding.is_none() => {
            let multiple = model.summary.size_multiple.max(1);
            let cut = |side: u32| (side / multiple * multiple).max(multiple);
            (cut(image.width()), cut(image.height()))
        }
        _ => (model.summary.default_width, model.summary.default_height),
    }
}

/// The files that were named.
pub(super) struct Inputs {
    /// The image to start from.
    pub image: Option<RgbImage>,
    mask: Option<GrayImage>,
    files: Vec<InputFile>,
}

/// Reads the input image and the mask.
///
/// # Errors
/// [`Failure::Usage`] naming the option and the file.
pub(super) fn read(args: &GenerateArgs) -> Result<Inputs, Failure> {
    let mut inputs = Inputs {
        image: None,
        mask: None,
        files: Vec::new(),
    };
    if let Some(path) = &args.init_image {
        let bytes = inputs.file("--init-image", path)?;
        inputs.image = Some(read_rgb("init_image", &bytes).map_err(|error| at(path, error))?);
    }
    if let Some(path) = &args.mask {
        let bytes = inputs.file("--mask", path)?;
        inputs.mask = Some(read_grey("mask", &bytes).map_err(|error| at(path, error))?);
    }
    Ok(inputs)
}

/// The engine names the field; a command line names the file too.
fn at(path: &Path, error: atelier_engine::EngineError) -> Failure {
    match error {
        atelier_engine::EngineError::InvalidRequest { field, message } => Failure::Usage(format!(
            "{} {}: {message}",
            super::flag(field),
            path.display()
        )),
        other => Failure::engine(other),
    }
}

impl Inputs {
    fn file(&mut self, flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        let unreadable =
            |message: String| Failure::Usage(format!("{flag} {}: {message}", path.display()));
        if !path.is_file() {
            let what = if path.exists() {
                "is no file"
            } else {
                "does not exist"
            };
            return Err(unreadable(what.into()));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(unreadable(format!(
                "is larger than {} MiB, more than any image that is read",
                MAX_FILE >> 20
            )));
        }
        self.files.push(InputFile {
            name: name_of(path),
            sha256: ImageHash::of(&bytes).to_string(),
        });
        Ok(bytes)
    }

    /// The request with everything beyond plain text to image.
    pub fn complete(&self, args: &GenerateArgs, request: GenerateRequest) -> GenerateRequest {
        let input = self.image.as_ref().map(|image| InputImage {
            image: Arc::new(image.clone()),
            strength: strength(args),
            mask: self.mask.as_ref().map(|mask| Mask {
                image: Arc::new(mask.clone()),
                blur: args.mask_blur.unwrap_or(0.0) as f32,
                only_masked_padding: args.only_masked_padding,
            }),
        });
        let defaults = GenerateRequest::default();
        GenerateRequest {
            input,
            refine: refine(args),
            aesthetic_score: args.aesthetic_score.unwrap_or(defaults.aesthetic_score),
            negative_aesthetic_score: args
                .negative_aesthetic_score
                .unwrap_or(defaults.negative_aesthetic_score),
            guidance_rescale: args.guidance_rescale.unwrap_or(0.0),
            loras: args.loras.iter().map(|lora| lora.0.clone()).collect(),
            vae_tiling: args.vae_tiling.into(),
            ..request
        }
    }

    /// The same for the file's record.
    pub fn extras(&self, args: &GenerateArgs) -> Extras {
        let mut files = self.files.iter().cloned();
        let (split, refiner_strength) = match refine(args) {
            Some(Refine::Ensemble { denoising_split }) => (Some(denoising_split), None),
            Some(Refine::ImageToImage { strength }) => (None, Some(strength)),
            None => (None, None),
        };
        let tiling = VaeTiling::from(args.vae_tiling);
        Extras {
            init_image: files.next(),
            strength: self.image.as_ref().map(|_| strength(args)),
            mask: files.next(),
            mask_blur: self.mask.as_ref().map(|_| args.mask_blur.unwrap_or(0.0)),
            only_masked_padding: args.only_masked_padding,
            refiner: args.refiner.as_deref().map(name_of),
            denoising_split: split,
            refiner_strength,
            aesthetic_score: args.aesthetic_score,
            negative_aesthetic_score: args.negative_aesthetic_score,
            guidance_rescale: args.guidance_rescale,
            vae: args.vae.as_deref().map(name_of),
            loras: args
                .loras
                .iter()
                .map(|lora| LoraUse {
                    name: name_of(&lora.0.path),
                    weight: lora.0.weight,
                })
                .collect(),
            vae_tiling: (tiling != VaeTiling::Auto).then(|| format!("{tiling:?}").to_lowercase()),
        }
    }
}

fn strength(args: &GenerateArgs) -> f64 {
    let default = if args.mask.is_some() {
        STRENGTH.1
    } else {
        STRENGTH.0
    };
    args.strength.unwrap_or(default)
}

fn refine(args: &GenerateArgs) -> Option<Refine> {
    args.refiner.as_ref()?;
    Some(match args.refiner_strength {
        Some(strength) => Refine::ImageToImage { strength },
        None => Refine::Ensemble {
            denoising_split: args.denoising_split.unwrap_or(SPLIT),
        },
    })
}

/// A path's last part, links resolved where that is possible.
fn name_of(path: &Path) -> String {
    let real = std::fs::canonicalize(path);
    real.as_deref().unwrap_or(path).file_name().map_or_else(
        || "unnamed".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_count_on_and_around() {
        assert_eq!(seeds(7, 3), [7, 8, 9]);
        assert_eq!(seeds(u64::MAX, 2), [u64::MAX, 0]);
    }

    #[test]
    fn files_are_numbered_or_named_by_seed() {
        let name = |out: &str, count| file_name(Path::new(out), 1, count, 42);
        assert_eq!(name("a/out.png", 1), Path::new("a/out.png"));
        assert_eq!(name("a/out.png", 3), Path::new("a/out-2.png"));
        assert_eq!(name("a/cat-{seed}.png", 3), Path::new("a/cat-42.png"));
        assert_eq!(name("cat-{seed}.png", 1), Path::new("cat-42.png"));
    }
}
