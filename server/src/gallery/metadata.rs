//! What a PNG says about itself: the `parameters` chunk that A1111, Civitai and other galleries
//! read, and our own `atelier` chunk with device, data type and timings in JSON.

use atelier_app::gallery::PhaseTimings;
use atelier_app::studio::{Rung, Settings};
use image::RgbImage;
use png::{BitDepth, ColorType, Compression, Encoder, Filter};
use serde::{Deserialize, Serialize};

/// The keyword of the chunk in A1111's format.
pub const PARAMETERS: &str = "parameters";
/// The keyword of our own chunk: [`Provenance`] in JSON.
pub const ATELIER: &str = "atelier";

/// How an image came about, besides what was asked for. Kept with its row and in its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The scheduler that really ran, by a name that a request may give.
    pub scheduler: String,
    /// The device that made it, e.g. `cpu`.
    pub device: String,
    /// The number format it was computed in, e.g. `f32`.
    pub dtype: String,
    /// Why not the GPU, where there was a reason.
    #[serde(default)]
    pub fallback_reason: Option<String>,
    /// The rungs that its job went down because a device failed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
    /// How long each part took.
    pub timings: PhaseTimings,
    /// Seconds of each denoising step.
    #[serde(default)]
    pub step_s: Vec<f64>,
    /// Remarks of the engine, e.g. which words were cut.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether the prompts had been encoded before.
    #[serde(default)]
    pub text_cached: bool,
    /// Which weights made it: a hash over the files of model, refiner, VAE and LoRAs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_fingerprint: Option<String>,
    /// The version of Atelier that made it.
    pub version: String,
}

impl Facts {
    /// This program's version, for [`Facts::version`].
    pub const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    /// The middle one of the steps' seconds: a single slow step does not move it.
    pub fn typical_step_s(&self) -> Option<f64> {
        let mut steps = self.step_s.clone();
        steps.sort_by(f64::total_cmp);
        steps.get(steps.len() / 2).copied()
    }
}

/// The contents of the `atelier` chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Everything needed to make the image again.
    pub settings: Settings,
    /// How it came about.
    #[serde(flatten)]
    pub facts: Facts,
}

/// A PNG could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The encoder refused.
    #[error("the PNG could not be written: {0}")]
    Encode(#[from] png::EncodingError),
    /// The file is not a PNG that can be read.
    #[error("the PNG could not be read: {0}")]
    Decode(#[from] png::DecodingError),
    /// The facts hold a number that JSON cannot carry.
    #[error("the PNG's metadata could not be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// Encodes an image with both chunks. The same arguments give the same bytes.
///
/// # Errors
/// [`MetadataError::Encode`] for an image without pixels.
pub fn write_png(
    image: &RgbImage,
    settings: &Settings,
    facts: &Facts,
) -> Result<Vec<u8>, MetadataError> {
    let provenance = serde_json::to_string(&Provenance {
        settings: settings.clone(),
        facts: facts.clone(),
    })?;
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    // Stated rather than left to the crate's defaults, so that an update does not move the bytes.
    encoder.set_compression(Compression::Balanced);
    encoder.set_filter(Filter::Adaptive);
    for (keyword, text) in [
        (PARAMETERS, parameters(settings, facts)),
        (ATELIER, provenance),
    ] {
        // tEXt is Latin-1 and read everywhere; iTXt is UTF-8 and read by whoever reads prompts.
        if text.chars().all(|c| u32::from(c) <= 0xff) {
            encoder.add_text_chunk(keyword.into(), text)?;
        } else {
            encoder.add_itxt_chunk(keyword.into(), text)?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()?;
    Ok(bytes)
}

/// Longest text that is read from a PNG, in bytes: room for the largest graphs, none for bombs.
pub const LONGEST_TEXT: usize = 1024 * 1024;

/// The texts that a PNG has under these keywords as (keyword, text), at most one of each: the first
/// that is plain, or else compressed, or else international. One that is longer than
/// [`LONGEST_TEXT`] or broken says nothing; what stands under other keywords is not even inflated.
///
/// # Errors
/// [`MetadataError::Decode`].
pub fn read_png_text(
    bytes: &[u8],
    keywords: &[&str],
) -> Result<Vec<(String, String)>, MetadataError> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
    // Text may stand behind the pixels too.
    reader.finish()?;
    let info = reader.info();
    let text_of = |keyword: &str| -> Option<String> {
        let plain = &info.uncompressed_latin1_text;
        if let Some(chunk) = plain.iter().find(|chunk| chunk.keyword == keyword) {
            return Some(chunk.text.clone());
        }
        let compressed = &info.compressed_latin1_text;
        if let Some(chunk) = compressed.iter().find(|chunk| chunk.keyword == keyword) {
            let mut chunk = chunk.clone();
            chunk.decompress_text_with_limit(LONGEST_TEXT).ok()?;
            return chunk.get_text().ok();
        }
        let mut chunk = info
            .utf8_text
            .iter()
            .find(|chunk| chunk.keyword == keyword)?
            .clone();
        chunk.decompress_text_with_limit(LONGEST_TEXT).ok()?;
        chunk.get_text().ok()
    };
    Ok(keywords
        .iter()
        .filter_map(|keyword| Some(((*keyword).to_owned(), text_of(keyword)?)))
        .filter(|(_, text)| text.len() <= LONGEST_TEXT)
        .collect())
}

/// The text that A1111 writes: the prompt, the negative prompt, and one line of facts.
pub fn parameters(settings: &Settings, facts: &Facts) -> String {
    let mut text = printable(&settings.prompt);
    for lora in &settings.loras {
        text.push_str(&printable(&format!(
            " <lora:{}:{}>",
            lora.name, lora.weight
        )));
    }
    if let Some(negative_prompt) = settings.negative_prompt.as_deref()
        && !negative_prompt.is_empty()
    {
        text.push_str("\nNegative prompt: ");
        text.push_str(&printable(negative_prompt));
    }
    let (sampler, schedule) = sampler_name(&facts.scheduler);
    let mut entries = vec![
        ("Steps", settings.num_inference_steps.to_string()),
        ("Sampler", sampler),
        ("Schedule type", schedule.into()),
        ("CFG scale", settings.guidance_scale.to_string()),
        ("Seed", settings.seed.to_string()),
        ("Size", format!("{}x{}", settings.width, settings.height)),
        ("Model", settings.model.clone()),
    ];
    if settings.clip_skip > 0 {
        // There, 1 stands for leaving nothing out.
        entries.push(("Clip skip", (settings.clip_skip + 1).to_string()));
    }
    entries.extend(more_parameters(settings));
    entries.push(("RNG", "CPU".into()));
    entries.push(("Version", format!("Atelier {}", facts.version)));
    let line: Vec<String> = entries
        .into_iter()
        .map(|(key, value)| format!("{key}: {}", quoted(&value)))
        .collect();
    text.push('\n');
    text.push_str(&line.join(", "));
    text
}

/// What only some images have, in A1111's words where it has them.
fn more_parameters(settings: &Settings) -> impl Iterator<Item = (&'static str, String)> {
    let number = |number: f64| number.to_string();
    let padding = settings.only_masked_padding;
    [
        ("Denoising strength", settings.strength.map(number)),
        ("Mask blur", settings.mask_blur.map(number)),
        ("Inpaint area", padding.map(|_| "Only masked".to_owned())),
        (
            "Masked area padding",
            padding.map(|padding| padding.to_string()),
        ),
        ("Refiner", settings.refiner.clone()),
        ("Refiner switch at", settings.denoising_split.map(number)),
        ("Refiner strength", settings.refiner_strength.map(number)),
        ("Guidance rescale", settings.guidance_rescale.map(number)),
        ("VAE", settings.vae.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
}

/// A value as A1111 writes it: in JSON quotes where it holds a separator.
fn quoted(value: &str) -> String {
    let value = printable(value);
    if value.contains([',', '\n', ':', '"']) {
        serde_json::Value::String(value).to_string()
    } else {
        value
    }
}

/// Text chunks cannot carry NUL, and readers stumble over other control characters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

/// A1111's names for a scheduler: (sampler, schedule type). Names are A1111's already, with the
/// spacing of sigmas at their end; images of older versions carry diffusers' class names.
fn sampler_name(scheduler: &str) -> (String, &'static str) {
    let (name, schedule) = ["Karras", "Exponential", "Beta"]
        .into_iter()
        .find_map(|schedule| {
            let name = scheduler.strip_suffix(schedule)?.strip_suffix(' ')?;
            Some((name, schedule))
        })
        .unwrap_or((scheduler, "Automatic"));
    let sampler = match name {
        "EulerDiscrete" => "Euler",
        "EulerAncestralDiscrete" => "Euler a",
        "DPMSolverMultistep" => "DPM++ 2M",
        other => other,
    };
    (sampler.to_owned(), schedule)
}

/// The colour most of an image is in, as `#rrggbb`: the mean of the fullest cell of a coarse
/// colour cube. Shown in the image's place until its file arrives.
pub fn dominant_colour(image: &RgbImage) -> String {
    /// Per cell: pixels, and the sums of red, green and blue.
    type Cell = [u64; 4];
    let mut cells = vec![[0_u64; 4] as Cell; 512];
    for pixel in image.pixels() {
        let [r, g, b] = pixel.0;
        let index = (usize::from(r >> 5) << 6) | (usize::from(g >> 5) << 3) | usize::from(b >> 5);
        let cell = &mut cells[index];
        cell[0] += 1;
        cell[1] += u64::from(r);
        cell[2] += u64::from(g);
        cell[3] += u64::from(b);
    }
    // The first of equally full cells, so that the answer does not depend on the search's order.
    let mut fullest: Cell = [0; 4];
    for cell in cells {
        if cell[0] > fullest[0] {
            fullest = cell;
        }
    }
    let [count, r, g, b] = fullest;
    let mean = |sum: u64| (sum + count / 2).checked_div(count).unwrap_or(128);
    format!("#{:02x}{:02x}{:02x}", mean(r), mean(g), mean(b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings() -> Settings {
        Settings {
            prompt: "a red circle, on a blue background".into(),
            negative_prompt: Some("blurry".into()),
            num_inference_steps: 20,
            guidance_scale: 7.0,
            width: 4,
            height: 2,
            seed: 4_294_967_295,
            scheduler: None,
            model: "demo".into(),
            ..Settings::default()
        }
    }

    fn facts() -> Facts {
        Facts {
            scheduler: "EulerDiscrete".into(),
            device: "cpu".into(),
            dtype: "f32".into(),
            fallback_reason: None,
            rungs: Vec::new(),
            timings: PhaseTimings {
                denoising_s: 1.5,
                total_s: 2.25,
                ..PhaseTimings::default()
            },
            step_s: vec![0.5, 0.25, 0.75],
            notes: vec![],
            text_cached: false,
            model_fingerprint: None,
            version: "0.1.0".into(),
        }
    }

    fn image() -> RgbImage {
        RgbImage::from_fn(4, 2, |x, y| image::Rgb([x as u8 * 60, y as u8 * 200, 7]))
    }

    fn text(bytes: &[u8], keyword: &str) -> String {
        read_png_text(bytes, &[keyword]).unwrap().remove(0).1
    }

    fn has_chunk(bytes: &[u8], kind: &[u8; 4]) -> bool {
        bytes.windows(4).any(|window| window == kind)
    }

    #[test]
    fn the_parameters_chunk_is_what_a1111_writes() {
        let bytes = write_png(&image(), &settings(), &facts()).unwrap();
        insta::assert_snapshot!(text(&bytes, PARAMETERS), @r"
        a red circle, on a blue background
        Negative prompt: blurry
        Steps: 20, Sampler: Euler, Schedule type: Automatic, CFG scale: 7, Seed: 4294967295, Size: 4x2, Model: demo, RNG: CPU, Version: Atelier 0.1.0
        ");
        assert!(has_chunk(&bytes, b"tEXt") && !has_chunk(&bytes, b"iTXt"));
    }

    #[test]
    fn refiner_and_mask_go_by_a1111s_words() {
        let settings = Settings {
            strength: Some(0.75),
            mask_blur: Some(4.0),
            only_masked_padding: Some(32),
            refiner: Some("sdxl-refiner".into()),
            denoising_split: Some(0.8),
            ..settings()
        };
        let line = parameters(&settings, &facts());
        let said = "Denoising strength: 0.75, Mask blur: 4, Inpaint area: Only masked, \
                    Masked area padding: 32, Refiner: sdxl-refiner, \
                    Refiner switch at: 0.8, RNG: CPU";
        assert!(line.contains(said), "{line}");
        let bytes = write_png(&image(), &settings, &facts()).unwrap();
        let back: Provenance = serde_json::from_str(&text(&bytes, ATELIER)).unwrap();
        assert_eq!(back.settings, settings);
    }

    #[test]
    fn values_with_separators_are_quoted_and_no_negative_prompt_is_no_line() {
        let settings = Settings {
            negative_prompt: None,
            guidance_scale: 5.5,
            model: "mine, v2: \"best\"".into(),
            ..settings()
        };
        let text = parameters(&settings, &facts());
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("CFG scale: 5.5, "), "{text}");
        assert!(
            text.contains(r#"Model: "mine, v2: \"best\"", RNG"#),
            "{text}"
        );
    }

    #[test]
    fn any_prompt_survives_exactly_in_our_chunk() {
        for prompt in [
            "naïve café",
            "ein Bär 🐻 am See – 日本",
            "a\0b\u{7}c\nd",
            "\"}{, : \\",
        ] {
            let settings = Settings {
                prompt: prompt.into(),
                ..settings()
            };
            let bytes = write_png(&image(), &settings, &facts()).unwrap();
            let back: Provenance = serde_json::from_str(&text(&bytes, ATELIER)).unwrap();
            assert_eq!(back.settings, settings);
            assert_eq!(back.facts, facts());
            assert!(text(&bytes, PARAMETERS).starts_with(&printable(prompt)));
            let latin1 = prompt.chars().all(|c| u32::from(c) <= 0xff);
            assert_eq!(has_chunk(&bytes, b"iTXt"), !latin1, "{prompt}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_inflated_and_never_a_bomb() {
        use png::text_metadata::{ITXtChunk, TEXtChunk, ZTXtChunk};
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        // Some kilobytes each in the file, 16 MiB each in memory.
        let mut bomb = ZTXtChunk::new("prompt", "x".repeat(16 << 20));
        bomb.compress_text().unwrap();
        for keyword in ["prompt", "Dream"] {
            bomb.keyword = keyword.into();
            for _ in 0..200 {
                writer.write_text_chunk(&bomb).unwrap();
            }
        }
        let mut long = ITXtChunk::new("workflow", "x".repeat(LONGEST_TEXT + 1));
        writer.write_text_chunk(&long).unwrap();
        long.keyword = "sd-metadata".into();
        long.compressed = true;
        writer.write_text_chunk(&long).unwrap();
        for text in ["first", "second"] {
            let chunk = TEXtChunk::new(PARAMETERS, text);
            writer.write_text_chunk(&chunk).unwrap();
        }
        let mut fits = ITXtChunk::new("fits", "é".repeat(LONGEST_TEXT / 2));
        fits.compressed = true;
        writer.write_text_chunk(&fits).unwrap();
        writer.write_image_data(&[0; 3]).unwrap();
        writer.finish().unwrap();
        assert!(bytes.len() < 32 << 20, "{}", bytes.len());

        let asked = [
            "prompt",
            "workflow",
            "sd-metadata",
            PARAMETERS,
            "fits",
            "absent",
        ];
        let found = read_png_text(&bytes, &asked).unwrap();
        let keywords: Vec<&str> = found.iter().map(|(keyword, _)| keyword.as_str()).collect();
        assert_eq!(keywords, [PARAMETERS, "fits"]);
        assert_eq!(found[0].1, "first");
        assert_eq!(found[1].1.len(), LONGEST_TEXT);
    }

    #[test]
    fn pixels_come_back_exactly_and_bytes_are_reproducible() {
        let bytes = write_png(&image(), &settings(), &facts()).unwrap();
        assert_eq!(bytes, write_png(&image(), &settings(), &facts()).unwrap());
        let decoded = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png).unwrap();
        assert_eq!(decoded.color(), image::ColorType::Rgb8);
        assert_eq!(decoded.into_rgb8(), image());
        assert!(write_png(&RgbImage::new(0, 0), &settings(), &facts()).is_err());
        assert!(read_png_text(&bytes[..40], &[ATELIER]).is_err());
    }

    #[test]
    fn the_dominant_colour_is_the_background_not_the_average() {
        let image = RgbImage::from_fn(10, 10, |x, y| {
            if x < 3 && y < 3 {
                image::Rgb([255, 0, 0])
            } else {
                image::Rgb([10, 20 + (y % 2) as u8, 250])
            }
        });
        assert_eq!(dominant_colour(&image), "#0a15fa");
        assert_eq!(facts().typical_step_s(), Some(0.5));
    }
}
