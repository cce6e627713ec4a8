//! Images that were made elsewhere: their settings are read from the PNG's own text, whichever
//! program wrote it, and they hang in the gallery like others, said to be from there.
//!
//! Nothing in such a file is believed further than it must be: sizes come from the pixels, numbers
//! outside of what can be asked for are left out, and words are only words.

mod a1111;
mod comfy;
mod invoke;
pub(super) mod store; // their rows

use atelier_app::account::{Role, Viewer};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::gallery::{ImageId, ImportedImage};
use atelier_app::studio::{LoraWeight, Settings};
use image::{ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::metadata::{ATELIER, PARAMETERS, Provenance, dominant_colour, read_png_text};
use super::{Facts, GalleryService, blocking};
use crate::error::ServerError;

/// Largest file.
pub const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Most pixels.
const MOST_PIXELS: u64 = 64_000_000;
/// Longest prompt that is kept, in characters; as long as one may be that is asked for.
const LONGEST_PROMPT: usize = 10_000;
/// Longest name of a model or scheduler.
const LONGEST_NAME: usize = 200;
/// The texts that are read, the ones that say most first.
const KEYWORDS: [&str; 6] = [
    ATELIER,
    "invokeai_metadata",
    "sd-metadata",
    PARAMETERS,
    "prompt",
    "Dream",
];
/// Longest side: thumbnails are made through rows as wide as the image.
const MOST_SIDE: u32 = 32_768;
/// How many million pixels are decoded at once: each may take eleven bytes while it is.
static DECODERS: Semaphore = Semaphore::const_new(DECODED_AT_ONCE as usize);
const DECODED_AT_ONCE: u32 = 64;

/// Waits until an image of so many pixels can be decoded beside those that are. The turn lasts
/// until the answer is dropped: move it to where the work is.
pub(crate) async fn decoding_turn(pixels: u64) -> Result<SemaphorePermit<'static>, ServerError> {
    let millions = u32::try_from(pixels / 1_000_000 + 1).unwrap_or(DECODED_AT_ONCE);
    DECODERS
        .acquire_many(millions.min(DECODED_AT_ONCE))
        .await
        .map_err(|_| ServerError::broken("nothing is decoded any more"))
}

/// What a file says about how it was made, as far as it says it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// The program that wrote it.
    program: &'static str,
    prompt: String,
    negative_prompt: Option<String>,
    steps: Option<u32>,
    guidance_scale: Option<f64>,
    seed: Option<u64>,
    /// By the name that requests give.
    scheduler: Option<String>,
    model: Option<String>,
    strength: Option<f64>,
    clip_skip: Option<u32>,
    loras: Vec<LoraWeight>,
}

/// A file ready to be stored.
struct Read {
    width: u32,
    height: u32,
    colour: String,
    program: Option<String>,
    settings: Settings,
    facts: Facts,
}

impl GalleryService {
    /// Puts a PNG that was made elsewhere into the viewer's gallery. The same file again is the
    /// image that is there.
    ///
    /// # Errors
    /// [`AppError::Invalid`] on `file` for what is no PNG or too large, [`AppError::Forbidden`] for
    /// a viewer who may only look.
    pub async fn import(&self, viewer: &Viewer, bytes: Vec<u8>) -> Answer<ImportedImage> {
        if viewer.role == Role::Viewer {
            return Err(AppError::Forbidden);
        }
        if bytes.len() > MOST_BYTES {
            return Err(refuse("has more than 32 MiB, which is the limit"));
        }
        let turn = decoding_turn(MOST_PIXELS).await?;
        let (bytes, read) = blocking(move || {
            // Whoever sent it may be gone by now; the decoder is at work all the same.
            let _turn = turn;
            let read = read(&bytes);
            (bytes, read)
        })
        .await?;
        let read = read?;
        let length = bytes.len() as u64;
        let files = self.files.clone();
        let hash = blocking(move || files.put(&bytes))
            .await?
            .map_err(ServerError::from)?;
        let row = store::NewImport {
            hash: &hash,
            bytes: length,
            width: read.width,
            height: read.height,
            colour: &read.colour,
            program: read.program.as_deref(),
            settings: &read.settings,
            facts: &read.facts,
        };
        let (id, is_new) = store::insert(&self.db, viewer, &row).await?;
        Ok(ImportedImage {
            id: ImageId(id),
            is_new,
            program: read.program,
        })
    }
}

fn refuse(why: &str) -> AppError {
    AppError::invalid("file", format!("The file {why}."))
}

/// Everything that a file says and shows.
fn read(bytes: &[u8]) -> Result<Read, AppError> {
    let open = || {
        let mut reader = ImageReader::new(Cursor::new(bytes));
        reader.set_format(ImageFormat::Png);
        let mut limits = Limits::default();
        limits.max_alloc = Some(512 * 1024 * 1024);
        reader.limits(limits);
        reader
    };
    const NO_PNG: &str = "is no PNG image that can be read";
    let (width, height) = open().into_dimensions().map_err(|_| refuse(NO_PNG))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MOST_PIXELS {
        return Err(refuse(&format!(
            "is {width}×{height}; at most {} million pixels are accepted",
            MOST_PIXELS / 1_000_000
        )));
    }
    if width.max(height) > MOST_SIDE {
        return Err(refuse(&format!(
            "is {width}×{height}; no side may have more than {MOST_SIDE} pixels"
        )));
    }
    let image = open()
        .decode()
        .map_err(|error| refuse(&format!("cannot be read to its end: {error}")))?
        .into_rgb8();
    let colour = dominant_colour(&image);
    drop(image);
    let text = read_png_text(bytes, &KEYWORDS)
        .map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let chunk = |keyword: &str| {
        text.iter()
            .find(|(known, _)| known == keyword)
            .map(|(_, text)| text.as_str())
    };

    // One of ours says everything; who wrote it, nobody knows.
    if let Some(ours) =
        chunk(ATELIER).and_then(|text| serde_json::from_str::<Provenance>(text).ok())
    {
        return Ok(Read {
            width,
            height,
            colour,
            program: Some("Atelier".into()),
            facts: facts_of(&ours.facts.scheduler),
            settings: Settings {
                width,
                height,
                ..believable(ours.settings)
            },
        });
    }
    let told = chunk("invokeai_metadata")
        .and_then(invoke::read)
        .or_else(|| chunk("sd-metadata").and_then(invoke::read_old))
        .or_else(|| chunk(PARAMETERS).and_then(a1111::read))
        .or_else(|| chunk("prompt").and_then(comfy::read))
        .or_else(|| chunk("Dream").and_then(invoke::read_dream));
    let program = told.as_ref().map(|told| told.program.to_owned());
    let told = told.unwrap_or_default();
    let settings = believable(Settings {
        prompt: told.prompt,
        negative_prompt: told.negative_prompt,
        num_inference_steps: told.steps.unwrap_or(0),
        guidance_scale: told.guidance_scale.unwrap_or(0.0),
        width,
        height,
        seed: told.seed.unwrap_or(0),
        scheduler: told.scheduler,
        model: told.model.unwrap_or_default(),
        strength: told.strength,
        clip_skip: told.clip_skip.unwrap_or(0),
        loras: told.loras,
        ..Settings::default()
    });
    Ok(Read {
        width,
        height,
        colour,
        program,
        facts: facts_of(settings.scheduler.as_deref().unwrap_or_default()),
        settings,
    })
}

/// Facts of an image that no device of ours made: nothing was measured, whatever its file says.
fn facts_of(scheduler: &str) -> Facts {
    Facts {
        scheduler: cut(scheduler, LONGEST_NAME),
        device: "imported".into(),
        version: Facts::VERSION.into(),
        ..Facts::default()
    }
}

/// Settings as a file tells them, cut to what could have been asked for here: what is out of range
/// is left out, and long words are cut.
fn believable(told: Settings) -> Settings {
    let prompt = |text: String| cut(&text, LONGEST_PROMPT);
    let name = |text: String| cut(&text, LONGEST_NAME);
    let up_to = |most: f64| move |number: &f64| (0.0..=most).contains(number);
    let share = |number: &f64| *number > 0.0 && *number <= 1.0;
    Settings {
        prompt: prompt(told.prompt),
        negative_prompt: told.negative_prompt.map(prompt),
        num_inference_steps: Some(told.num_inference_steps)
            .filter(|steps| (1..=150).contains(steps))
            .unwrap_or(0),
        guidance_scale: Some(told.guidance_scale)
            .filter(up_to(100.0))
            .unwrap_or(0.0),
        width: told.width,
        height: told.height,
        seed: told.seed,
        scheduler: told.scheduler.map(name),
        model: name(told.model),
        refiner: told.refiner.map(name),
        denoising_split: told.denoising_split.filter(share),
        refiner_strength: told.refiner_strength.filter(share),
        aesthetic_score: told.aesthetic_score.filter(up_to(10.0)),
        negative_aesthetic_score: told.negative_aesthetic_score.filter(up_to(10.0)),
        // Whoever brings it need not have what it was made from.
        init_image: None,
        mask: None,
        strength: told.strength.filter(share),
        mask_blur: told.mask_blur.filter(up_to(1000.0)),
        only_masked_padding: told.only_masked_padding.filter(|pixels| *pixels <= 4096),
        loras: told
            .loras
            .into_iter()
            .filter(|lora| lora.weight.is_finite() && lora.weight.abs() <= 100.0)
            .take(32)
            .map(|lora| LoraWeight {
                name: name(lora.name),
                weight: lora.weight,
            })
            .collect(),
        vae: told.vae.map(name),
        prompt_syntax: told.prompt_syntax,
        clip_skip: Some(told.clip_skip).filter(|skip| *skip <= 12).unwrap_or(0),
        guidance_rescale: told.guidance_rescale.filter(up_to(1.0)),
        vae_tiling: told.vae_tiling.map(name),
    }
}

/// The first characters of a text, without what no text has.
fn cut(text: &str, longest: usize) -> String {
    text.trim()
        .chars()
        .filter(|c| matches!(c, '\n' | '\t') || !c.is_control())
        .take(longest)
        .collect()
}

/// The name of a model from a path or file: `models/SDXL/Juggernaut.safetensors` → `Juggernaut`.
fn model_name(path: &str) -> String {
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let stem = [".safetensors", ".ckpt", ".gguf"]
        .into_iter()
        .find_map(|ending| file.strip_suffix(ending))
        .unwrap_or(file);
    stem.to_owned()
}

/// A sampler as k-diffusion and its users call it, as requests do; `karras` and the like behind it.
fn scheduler_name(sampler: &str, schedule: &str) -> String {
    let name = match sampler.trim_end_matches("_gpu") {
        "euler" => "Euler",
        "euler_ancestral" | "euler_a" => "Euler a",
        "heun" => "Heun",
        "lms" => "LMS",
        "dpm_2" => "DPM2",
        "dpm_2_ancestral" => "DPM2 a",
        "dpmpp_2m" => "DPM++ 2M",
        "dpmpp_2m_sde" => "DPM++ 2M SDE",
        "dpmpp_3m_sde" => "DPM++ 3M SDE",
        "dpmpp_sde" => "DPM++ SDE",
        "dpmpp_2s" | "dpmpp_2s_ancestral" => "DPM++ 2S a",
        "ddim" => "DDIM",
        "ddpm" => "DDPM",
        "pndm" => "PNDM",
        "lcm" => "LCM",
        "uni_pc" | "uni_pc_bh2" | "unipc" => "UniPC",
        other => other,
    };
    let schedule = match schedule.to_ascii_lowercase().as_str() {
        "karras" => " Karras",
        "exponential" => " Exponential",
        "beta" => " Beta",
        _ => "",
    };
    if name.ends_with(schedule.trim_start()) && !schedule.is_empty() {
        name.to_owned()
    } else {
        format!("{name}{schedule}")
    }
}

/// A whole number in JSON, written as one, as a float or as text; negative ones are none.
fn whole(value: &serde_json::Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| {
            value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && (0.0..=9e15).contains(number))
                .map(|number| number as u64)
        })
        .or_else(|| value.as_str()?.trim().parse().ok())
}

fn small(value: &serde_json::Value) -> Option<u32> {
    u32::try_from(whole(value)?).ok()
}

fn real(value: &serde_json::Value) -> Option<f64> {
    value
        .as_f64()
        .or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_requests_give_them() {
        for (sampler, schedule, name) in [
            ("euler", "normal", "Euler"),
            ("dpmpp_2m", "karras", "DPM++ 2M Karras"),
            (
                "dpmpp_2m_sde_gpu",
                "exponential",
                "DPM++ 2M SDE Exponential",
            ),
            ("DPM++ 2M Karras", "Karras", "DPM++ 2M Karras"),
            ("something new", "", "something new"),
        ] {
            assert_eq!(scheduler_name(sampler, schedule), name);
        }
        assert_eq!(model_name("SDXL\\a\\Big Model.safetensors"), "Big Model");
        assert_eq!(model_name("x/y.v2"), "y.v2");
        assert_eq!(cut(" a\0b\u{7}\n ", 9), "ab");
    }

    #[test]
    fn a_chunk_that_says_it_is_ours_is_believed_no_further_than_others() {
        let forged = Settings {
            prompt: "p".repeat(LONGEST_PROMPT + 1),
            negative_prompt: Some("n\u{7}".repeat(LONGEST_PROMPT + 1)),
            num_inference_steps: u32::MAX,
            guidance_scale: 1e300,
            width: u32::MAX,
            seed: u64::MAX,
            scheduler: Some("s".repeat(10_000)),
            model: "m".repeat(10_000),
            refiner: Some("r".repeat(10_000)),
            denoising_split: Some(-1.0),
            init_image: Some(atelier_app::studio::InputFile::default()),
            mask: Some(atelier_app::studio::InputFile::default()),
            strength: Some(7.0),
            only_masked_padding: Some(u32::MAX),
            loras: vec![
                LoraWeight {
                    name: "l".repeat(10_000),
                    weight: 1.0
                };
                100
            ],
            clip_skip: 99,
            ..Settings::default()
        };
        let facts = Facts {
            scheduler: "e".repeat(10_000),
            device: "cuda:0".into(),
            step_s: vec![1e-9; 50],
            notes: vec!["a lie".into()],
            ..Facts::default()
        };
        let image = image::RgbImage::new(5, 4);
        let bytes = super::super::metadata::write_png(&image, &forged, &facts).expect("a PNG");
        let read = read(&bytes).expect("read");
        assert_eq!(read.program.as_deref(), Some("Atelier"));
        let told = read.settings;
        assert_eq!((told.width, told.height, told.seed), (5, 4, u64::MAX));
        assert_eq!(told.prompt.len(), LONGEST_PROMPT);
        assert_eq!(told.negative_prompt, Some("n".repeat(LONGEST_PROMPT)));
        assert_eq!((told.num_inference_steps, told.guidance_scale), (0, 0.0));
        assert_eq!((told.denoising_split, told.strength), (None, None));
        assert_eq!((told.only_masked_padding, told.clip_skip), (None, 0));
        assert_eq!((told.init_image, told.mask), (None, None));
        for name in [told.model, told.scheduler.expect("one")] {
            assert_eq!(name.len(), LONGEST_NAME);
        }
        assert_eq!(told.refiner.map(|name| name.len()), Some(LONGEST_NAME));
        assert_eq!(told.loras.len(), 32);
        assert!(
            told.loras
                .iter()
                .all(|lora| lora.name.len() == LONGEST_NAME)
        );
        let expected = Facts {
            scheduler: "e".repeat(LONGEST_NAME),
            device: "imported".into(),
            version: Facts::VERSION.into(),
            ..Facts::default()
        };
        assert_eq!(read.facts, expected);
    }

    #[test]
    fn pictures_whose_sides_no_thumbnail_can_be_made_of_are_refused() {
        for (width, height) in [(MOST_SIDE + 1, 1), (1, MOST_SIDE + 1)] {
            let image = image::RgbImage::new(width, height);
            let bytes =
                super::super::metadata::write_png(&image, &Settings::default(), &Facts::default())
                    .expect("a PNG");
            let error = read(&bytes).err().expect("refused");
            assert_eq!(error.field(), Some("file"));
            assert!(error.to_string().contains("32768 pixels"), "{error}");
        }
    }
}
