//! What the options of `atelier generate` bring along: seeds, files, and the parts of a request
//! beyond plain text to image.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use atelier_app::studio::{InputFile, LoraWeight, Settings};
use atelier_engine::image::{read_grey, read_rgb};
use atelier_engine::{InputImage, Refine};
use image::{GrayImage, RgbImage};

use super::Failure;
use crate::config::GenerateArgs;
use crate::gallery::ImageHash;
use crate::models::{Model, engine_input};

/// Longest image file that is read: 64 million pixels need no more, however badly packed.
const MAX_FILE: u64 = 512 << 20;

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
        let bytes = read_file("--init-image", path)?;
        let image = read_rgb("init_image", &bytes).map_err(|error| at(path, error))?;
        inputs.files.push(record(&bytes, image.dimensions()));
        inputs.image = Some(image);
    }
    if let Some(path) = &args.mask {
        let bytes = read_file("--mask", path)?;
        let mask = read_grey("mask", &bytes).map_err(|error| at(path, error))?;
        inputs.files.push(record(&bytes, mask.dimensions()));
        inputs.mask = Some(mask);
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

/// A file's bytes, within reason.
fn read_file(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
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
    Ok(bytes)
}

/// What the image's record says of a file; it was never uploaded.
fn record(bytes: &[u8], (width, height): (u32, u32)) -> InputFile {
    InputFile {
        upload_id: String::new(),
        sha256: ImageHash::of(bytes).to_string(),
        width,
        height,
    }
}

impl Inputs {
    /// The engine's input image, as the settings say.
    pub fn engine_input(&self, settings: &Settings) -> Option<InputImage> {
        let image = self.image.clone()?;
        Some(engine_input(settings, image, self.mask.clone()))
    }

    /// The settings with everything beyond plain text to image.
    pub fn complete(&self, args: &GenerateArgs, settings: Settings) -> Settings {
        let refiner = args.refiner.as_deref().map(name_of);
        let splits = refiner.is_some() && args.refiner_strength.is_none();
        Settings {
            denoising_split: splits.then(|| args.denoising_split.unwrap_or(Refine::USUAL_SPLIT)),
            refiner_strength: args.refiner_strength,
            refiner,
            aesthetic_score: args.aesthetic_score,
            negative_aesthetic_score: args.negative_aesthetic_score,
            strength: self.image.as_ref().map(|_| {
                let usual = InputImage::usual_strength(self.mask.is_some());
                args.strength.unwrap_or(usual)
            }),
            init_image: self.files.first().cloned(),
            mask: self.files.get(1).cloned(),
            mask_blur: args.mask_blur,
            only_masked_padding: args.only_masked_padding,
            loras: args
                .loras
                .iter()
                .map(|lora| LoraWeight {
                    name: name_of(&lora.path),
                    weight: lora.weight,
                })
                .collect(),
            vae: args.vae.as_deref().map(name_of),
            guidance_rescale: args.guidance_rescale,
            vae_tiling: args.vae_tiling.setting(),
            ..settings
        }
    }
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
