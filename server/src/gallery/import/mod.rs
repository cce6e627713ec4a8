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
use tokio::sync::Semaphore;

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
/// How many files are decoded at once: each may take a few hundred megabytes.
static DECODERS: Semaphore = Semaphore::const_new(1);

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
        let _turn = DECODERS
            .acquire()
            .await
            .map_err(|_| ServerError::broken("nothing is decoded any more"))?;
        let (bytes, read) = blocking(move || {
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

    // One of ours says everything.
    if let Some(ours) =
        chunk(ATELIER).and_then(|text| serde_json::from_str::<Provenance>(text).ok())
    {
        let mut settings = ours.settings;
        // Whoever brings it need not have what it was made from.
        settings.init_image = None;
        settings.mask = None;
        (settings.width, settings.height) = (width, height);
        return Ok(Read {
            width,
            height,
            colour,
            program: Some("Atelier".into()),
            settings,
            facts: ours.facts,
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
    let scheduler = told.scheduler.map(|name| cut(&name, LONGEST_NAME));
    let facts = Facts {
        scheduler: scheduler.clone().unwrap_or_default(),
        device: "imported".into(),
        version: Facts::VERSION.into(),
        ..Facts::default()
    };
    let settings = Settings {
        prompt: cut(&told.prompt, LONGEST_PROMPT),
        negative_prompt: told
            .negative_prompt
            .map(|prompt| cut(&prompt, LONGEST_PROMPT)),
        num_inference_steps: told
            .steps
            .filter(|steps| (1..=150).contains(steps))
            .unwrap_or(0),
        guidance_scale: told
            .guidance_scale
            .filter(|scale| scale.is_finite() && (0.0..=100.0).contains(scale))
            .unwrap_or(0.0),
        width,
        height,
        seed: told.seed.unwrap_or(0),
        scheduler,
        model: told
            .model
            .map(|name| cut(&name, LONGEST_NAME))
            .unwrap_or_default(),
        strength: told
            .strength
            .filter(|strength| *strength > 0.0 && *strength <= 1.0),
        clip_skip: told.clip_skip.filter(|skip| *skip <= 12).unwrap_or(0),
        loras: told
            .loras
            .into_iter()
            .filter(|lora| lora.weight.is_finite() && lora.weight.abs() <= 100.0)
            .take(32)
            .collect(),
        ..Settings::default()
    };
    Ok(Read {
        width,
        height,
        colour,
        program,
        settings,
        facts,
    })
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
}
