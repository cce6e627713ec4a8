//! From a request to [`Settings`], once: defaults filled in, the seed drawn, names found, LoRA tags
//! taken out of the prompt, everything checked; and from those to the engine's request and files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atelier_app::error::AppError;
use atelier_app::studio::{
    GenerationRequest, LORA_WEIGHT_LIMIT, LoraWeight, PromptSyntax, Settings,
};
use atelier_engine::prompt::lora_tags;
use atelier_engine::{
    EngineError, GenerateRequest, InputImage, LoraChoice, Mask, Refine, VaeTiling,
    few_step_defaults,
};
use image::{GrayImage, RgbImage};

use super::add_ons::{AddOns, unknown};
use super::{MAX_STEPS, Model, Models, random_seed, tokens};

/// The scores that diffusers' refiner is given by default: to reach, and to keep away from.
const USUAL_SCORES: (f64, f64) = (6.0, 2.5);
/// Most LoRAs at once.
const MOST_LORAS: usize = 32;
/// Most pixels around a masked region.
const MOST_PADDING: u32 = 4096;
/// Layers of SDXL's smaller text encoder, where a model's files do not say.
const TEXT_LAYERS: u64 = 12;

/// The files that an image is made from, besides those that people sent.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightFiles {
    /// The model: a folder or a single file.
    pub model: PathBuf,
    /// The refiner.
    pub refiner: Option<PathBuf>,
    /// A VAE in place of the model's own.
    pub vae: Option<PathBuf>,
    /// LoRAs with their weights.
    pub loras: Vec<LoraChoice>,
}

impl Models {
    /// Turns a request into settings that can be run. Images to start from are looked at by their
    /// presence only: `init_image` and `mask` are left for the caller to fill in.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the field.
    pub fn settle(
        &self,
        request: GenerationRequest,
        add_ons: &AddOns,
    ) -> Result<Settings, AppError> {
        let model = self.find(request.model.as_deref())?;
        let has_image = request.init_image.is_some();
        let has_mask = request.mask.is_some();
        let refiner = word(request.refiner);
        if let Some(name) = &refiner {
            self.find_refiner(name)?;
        }
        let refines = refiner.is_some() || model.summary.is_refiner();
        needs(
            "denoising_split",
            &request.denoising_split,
            "refiner",
            refiner.is_some(),
        )?;
        needs(
            "refiner_strength",
            &request.refiner_strength,
            "refiner",
            refiner.is_some(),
        )?;
        needs(
            "aesthetic_score",
            &request.aesthetic_score,
            "refiner",
            refines,
        )?;
        let negative_score = &request.negative_aesthetic_score;
        needs(
            "negative_aesthetic_score",
            negative_score,
            "refiner",
            refines,
        )?;
        needs("strength", &request.strength, "init_image", has_image)?;
        needs("mask", &request.mask, "init_image", has_image)?;
        needs("mask_blur", &request.mask_blur, "mask", has_mask)?;
        needs(
            "only_masked_padding",
            &request.only_masked_padding,
            "mask",
            has_mask,
        )?;
        if request.denoising_split.is_some() && request.refiner_strength.is_some() {
            return Err(AppError::invalid(
                "refiner_strength",
                "refiner_strength and denoising_split exclude each other; give one of them",
            ));
        }
        let denoising_split = request.denoising_split.or_else(|| {
            (refiner.is_some() && request.refiner_strength.is_none()).then_some(Refine::USUAL_SPLIT)
        });
        let vae_tiling = choice("vae_tiling", request.vae_tiling, &["auto", "on", "off"])?;
        let (prompt, tags) = match request.prompt_syntax {
            // Every character is text.
            PromptSyntax::Plain => (request.prompt, Vec::new()),
            _ => without_tags(request.prompt),
        };
        let loras = self.settle_loras(request.loras, tags, add_ons)?;
        // A LoRA that takes few steps brings the steps and the guidance that it was made for.
        let few = loras
            .iter()
            .filter(|lora| lora.weight != 0.0)
            .find_map(|lora| few_step_defaults(&lora.name));
        let summary = &model.summary;
        let settings = Settings {
            prompt,
            negative_prompt: request.negative_prompt,
            num_inference_steps: request.num_inference_steps.unwrap_or_else(|| {
                few.as_ref()
                    .map_or(summary.default_steps, |few| few.num_inference_steps)
            }),
            guidance_scale: request.guidance_scale.unwrap_or_else(|| {
                few.as_ref()
                    .map_or(summary.default_guidance_scale, |few| few.guidance_scale)
            }),
            width: request.width.unwrap_or(summary.default_width),
            height: request.height.unwrap_or(summary.default_height),
            seed: request.seed.unwrap_or_else(random_seed),
            scheduler: word(request.scheduler),
            model: summary.name.clone(),
            refiner,
            denoising_split,
            refiner_strength: request.refiner_strength,
            aesthetic_score: refines.then(|| request.aesthetic_score.unwrap_or(USUAL_SCORES.0)),
            negative_aesthetic_score: refines
                .then(|| request.negative_aesthetic_score.unwrap_or(USUAL_SCORES.1)),
            init_image: None,
            strength: has_image.then(|| {
                request
                    .strength
                    .unwrap_or(InputImage::usual_strength(has_mask))
            }),
            mask: None,
            mask_blur: request.mask_blur.filter(|blur| *blur != 0.0),
            only_masked_padding: request.only_masked_padding,
            loras,
            vae: word(request.vae),
            prompt_syntax: request.prompt_syntax,
            clip_skip: request.clip_skip,
            guidance_rescale: request.guidance_rescale.filter(|share| *share != 0.0),
            vae_tiling: vae_tiling.filter(|word| word != "auto"),
        };
        let files = self.locate(&settings, add_ons)?;
        model.check(&settings, files.loras, has_image, has_mask)?;
        Ok(settings)
    }

    /// The files that settings name.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the field whose file is not there (any more).
    pub fn locate(&self, settings: &Settings, add_ons: &AddOns) -> Result<WeightFiles, AppError> {
        let refiner = settings
            .refiner
            .as_deref()
            .map(|name| self.find_refiner(name));
        let mut loras = Vec::with_capacity(settings.loras.len());
        for lora in &settings.loras {
            loras.push(LoraChoice {
                path: add_ons.lora(&lora.name)?,
                weight: lora.weight,
            });
        }
        Ok(WeightFiles {
            model: self.find(Some(&settings.model))?.folder.clone(),
            refiner: refiner.transpose()?.map(|refiner| refiner.folder.clone()),
            vae: settings
                .vae
                .as_deref()
                .map(|name| self.locate_vae(name, add_ons))
                .transpose()?,
            loras,
        })
    }

    /// A VAE of that name, or the one of a model of that name.
    fn locate_vae(&self, name: &str, add_ons: &AddOns) -> Result<PathBuf, AppError> {
        if let Some(path) = add_ons.vae(name) {
            return Ok(path);
        }
        let with_vae = |model: &&Model| model.folder.join("vae").is_dir();
        if let Some(model) = self
            .everyone()
            .filter(with_vae)
            .find(|model| model.summary.name == name)
        {
            return Ok(model.folder.join("vae"));
        }
        let mut names = add_ons.vae_names();
        names.extend(
            self.everyone()
                .filter(with_vae)
                .map(|model| model.summary.name.clone()),
        );
        Err(unknown("vae", "VAE", name, &names))
    }

    /// The LoRAs of the request, then those of the prompt; a name that is there twice counts once,
    /// with both weights.
    fn settle_loras(
        &self,
        asked: Vec<LoraWeight>,
        tags: Vec<LoraWeight>,
        add_ons: &AddOns,
    ) -> Result<Vec<LoraWeight>, AppError> {
        let mut loras: Vec<LoraWeight> = Vec::new();
        for LoraWeight { name, weight } in asked.into_iter().chain(tags) {
            let name = name.trim();
            let name = name.strip_suffix(".safetensors").unwrap_or(name).to_owned();
            add_ons.lora(&name)?;
            if !weight.is_finite() || weight.abs() > LORA_WEIGHT_LIMIT {
                return Err(AppError::invalid(
                    "loras",
                    format!(
                        "loras: the weight of “{name}” is {weight}; give a number from -{LORA_WEIGHT_LIMIT} to {LORA_WEIGHT_LIMIT} (1 is as trained)"
                    ),
                ));
            }
            match loras.iter_mut().find(|lora| lora.name == name) {
                Some(lora) => lora.weight += weight,
                None => loras.push(LoraWeight { name, weight }),
            }
        }
        loras.retain(|lora| lora.weight != 0.0);
        if loras.len() > MOST_LORAS {
            return Err(AppError::invalid(
                "loras",
                format!(
                    "loras: {} are asked for; at most {MOST_LORAS} work at once",
                    loras.len()
                ),
            ));
        }
        Ok(loras)
    }
}

impl Model {
    /// Checks settings against this model.
    fn check(
        &self,
        settings: &Settings,
        loras: Vec<LoraChoice>,
        has_image: bool,
        has_mask: bool,
    ) -> Result<(), AppError> {
        let summary = &self.summary;
        if !(1..=MAX_STEPS).contains(&settings.num_inference_steps) {
            return Err(AppError::invalid(
                "num_inference_steps",
                format!(
                    "num_inference_steps is {}; give a number from 1 to {MAX_STEPS}",
                    settings.num_inference_steps
                ),
            ));
        }
        for (field, side) in [("width", settings.width), ("height", settings.height)] {
            if side > summary.max_side {
                return Err(AppError::invalid(
                    field,
                    format!(
                        "{field} is {side}; the model “{}” makes at most {} pixels",
                        summary.name, summary.max_side
                    ),
                ));
            }
        }
        for (field, value, most) in [
            ("guidance_rescale", settings.guidance_rescale, 1.0),
            ("aesthetic_score", settings.aesthetic_score, 10.0),
            (
                "negative_aesthetic_score",
                settings.negative_aesthetic_score,
                10.0,
            ),
            ("mask_blur", settings.mask_blur, 1000.0),
        ] {
            if let Some(value) = value.filter(|value| !(0.0..=most).contains(value)) {
                return Err(AppError::invalid(
                    field,
                    format!("{field} is {value}; give a number from 0 to {most}"),
                ));
            }
        }
        // A share of the schedule that leaves something to do.
        for (field, value, whole) in [
            ("denoising_split", settings.denoising_split, false),
            ("refiner_strength", settings.refiner_strength, true),
            ("strength", settings.strength, true),
        ] {
            let fits = |value: f64| value > 0.0 && (value < 1.0 || (whole && value == 1.0));
            if let Some(value) = value.filter(|value| !fits(*value)) {
                let range = if whole {
                    "above 0 and up to 1"
                } else {
                    "between 0 and 1, such as 0.8"
                };
                return Err(AppError::invalid(
                    field,
                    format!("{field} is {value}; give a number {range}"),
                ));
            }
        }
        if let Some(padding) = settings
            .only_masked_padding
            .filter(|padding| *padding > MOST_PADDING)
        {
            return Err(AppError::invalid(
                "only_masked_padding",
                format!("only_masked_padding is {padding}; give a number from 0 to {MOST_PADDING}"),
            ));
        }
        let layers = settings.clip_skip;
        if layers > 0 {
            let most = most_clip_skip(&self.folder);
            if layers > most {
                return Err(AppError::invalid(
                    "clip_skip",
                    format!(
                        "clip_skip is {layers}; the text encoders of “{}” have enough layers for at most {most}",
                        summary.name
                    ),
                ));
            }
        }
        let mut request = engine_request(settings);
        request.loras = loras;
        // The images themselves are looked at elsewhere; here it counts that they are there.
        request.input = has_image.then(|| {
            let mask = has_mask.then(|| GrayImage::new(64, 64));
            engine_input(settings, RgbImage::new(64, 64), mask)
        });
        request
            .validate(&self.description)
            .map_err(|error| match error {
                EngineError::InvalidRequest { field, message } => {
                    // The engine has one name for each of them; the request has a list.
                    let field = if field == "lora" { "loras" } else { field };
                    AppError::invalid(field, format!("{field} {message}"))
                }
                other => AppError::invalid("model", other.to_string()),
            })
    }
}

/// The settings in the engine's words; previews are off, and images and LoRAs are left out.
pub fn engine_request(settings: &Settings) -> GenerateRequest {
    let usual = GenerateRequest::default();
    GenerateRequest {
        prompt: settings.prompt.clone(),
        negative_prompt: settings.negative_prompt.clone(),
        width: settings.width,
        height: settings.height,
        num_inference_steps: settings.num_inference_steps,
        guidance_scale: settings.guidance_scale,
        seed: settings.seed,
        scheduler: settings.scheduler.clone(),
        previews: false,
        prompt_syntax: tokens::engine_syntax(settings.prompt_syntax),
        clip_skip: settings.clip_skip,
        guidance_rescale: settings.guidance_rescale.unwrap_or(0.0),
        input: None,
        refine: match (&settings.refiner, settings.refiner_strength) {
            (None, _) => None,
            (Some(_), Some(strength)) => Some(Refine::ImageToImage { strength }),
            (Some(_), None) => Some(Refine::Ensemble {
                denoising_split: settings.denoising_split.unwrap_or(Refine::USUAL_SPLIT),
            }),
        },
        aesthetic_score: settings.aesthetic_score.unwrap_or(usual.aesthetic_score),
        negative_aesthetic_score: settings
            .negative_aesthetic_score
            .unwrap_or(usual.negative_aesthetic_score),
        loras: Vec::new(),
        vae_tiling: match settings.vae_tiling.as_deref() {
            Some("on") => VaeTiling::On,
            Some("off") => VaeTiling::Off,
            _ => VaeTiling::Auto,
        },
    }
}

/// The settings' images in the engine's words.
pub fn engine_input(
    settings: &Settings,
    image: RgbImage,
    mask_image: Option<GrayImage>,
) -> InputImage {
    InputImage {
        image: Arc::new(image),
        strength: settings
            .strength
            .unwrap_or(InputImage::usual_strength(mask_image.is_some())),
        mask: mask_image.map(|image| Mask {
            image: Arc::new(image),
            blur: settings.mask_blur.unwrap_or(0.0) as f32,
            only_masked_padding: settings.only_masked_padding,
        }),
    }
}

/// Takes LoRA tags out of a prompt.
fn without_tags(prompt: String) -> (String, Vec<LoraWeight>) {
    let (words, tags) = lora_tags(&prompt);
    if tags.is_empty() {
        return (prompt, Vec::new());
    }
    let tags = tags
        .into_iter()
        .map(|(name, weight)| LoraWeight { name, weight })
        .collect();
    (words.trim().to_owned(), tags)
}

/// Refuses a field that means nothing without another.
fn needs<T>(field: &str, value: &Option<T>, other: &str, is_there: bool) -> Result<(), AppError> {
    if value.is_some() && !is_there {
        return Err(AppError::invalid(
            field,
            format!(
                "{field} means nothing without {other}; give {other} too, or leave {field} out"
            ),
        ));
    }
    Ok(())
}

fn choice(field: &str, value: Option<String>, words: &[&str]) -> Result<Option<String>, AppError> {
    let Some(value) = word(value) else {
        return Ok(None);
    };
    let value = value.to_ascii_lowercase();
    if words.contains(&value.as_str()) {
        return Ok(Some(value));
    }
    let asked: String = value.chars().take(64).collect();
    Err(AppError::invalid(
        field,
        format!("{field} is “{asked}”; choose one of: {}", words.join(", ")),
    ))
}

/// A name, trimmed; an empty one is none.
fn word(value: Option<String>) -> Option<String> {
    value
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// How many layers of the text encoders can be left out, as the engine counts them: one must
/// remain.
fn most_clip_skip(folder: &Path) -> u32 {
    let layers = ["text_encoder", "text_encoder_2"]
        .iter()
        .filter_map(|part| {
            let text = fs::read(folder.join(part).join("config.json")).ok()?;
            let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
            config.get("num_hidden_layers")?.as_u64()
        })
        .min()
        .unwrap_or(TEXT_LAYERS);
    u32::try_from(layers.saturating_sub(1)).unwrap_or(u32::MAX)
}
