//! What an image was made with beyond plain text to image, as its file records it.

use serde::{Deserialize, Serialize};

/// Everything that was asked for beyond plain text to image; what was not asked for is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extras {
    /// The image that was started from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_image: Option<InputFile>,
    /// How much of it was made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// The mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<InputFile>,
    /// Radius of the blur of the mask's edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<f64>,
    /// Pixels around the masked region, where only that was worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_masked_padding: Option<u32>,
    /// The refiner's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refiner: Option<String>,
    /// The base model's share of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denoising_split: Option<f64>,
    /// How strongly the refiner worked on the finished image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refiner_strength: Option<f64>,
    /// The aesthetic score asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aesthetic_score: Option<f64>,
    /// The aesthetic score guided away from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_aesthetic_score: Option<f64>,
    /// How far guidance was rescaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<f64>,
    /// The VAE in place of the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae: Option<String>,
    /// The LoRAs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraUse>,
    /// Whether the VAE worked in tiles, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae_tiling: Option<String>,
}

/// A file that an image was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputFile {
    /// Its name, without the folder.
    pub name: String,
    /// Its bytes' SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A LoRA that was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraUse {
    /// Its file's name, without the folder.
    pub name: String,
    /// What its difference was multiplied by.
    pub weight: f64,
}

impl Extras {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The entries of A1111's `parameters` line, in its words where it has them.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut entries = Vec::new();
        let mut add = |key, value: Option<String>| {
            if let Some(value) = value {
                entries.push((key, value));
            }
        };
        let number = |number: Option<f64>| number.map(|number| number.to_string());
        add("Denoising strength", number(self.strength));
        add("Mask blur", number(self.mask_blur));
        if let Some(padding) = self.only_masked_padding {
            add("Inpaint area", Some("Only masked".into()));
            add("Masked area padding", Some(padding.to_string()));
        }
        add("CFG Rescale", number(self.guidance_rescale));
        add("VAE", self.vae.clone());
        add("Refiner", self.refiner.clone());
        add("Refiner switch at", number(self.denoising_split));
        add("Refiner strength", number(self.refiner_strength));
        if !self.loras.is_empty() {
            let loras: Vec<String> = self
                .loras
                .iter()
                .map(|lora| format!("{}: {}", lora.name, lora.weight))
                .collect();
            add("Loras", Some(loras.join(", ")));
        }
        entries
    }
}
