//! What people keep for the studio: presets of a model's settings, styles for prompts, and the
//! prompts they have used.

use super::GenerationForm;
use crate::gallery::ImageId;
use serde::{Deserialize, Serialize};

/// Longest name of a preset or a style, in characters.
pub const LONGEST_SHELF_NAME: usize = 60;

/// Settings that suit a model, from quick to careful.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// "Fast", "Balanced" or "Best".
    pub name: String,
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// The scheduler; the model's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
}

/// A preset of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPreset {
    /// What changing and deleting name.
    pub id: String,
    /// The name its owner gave it.
    pub name: String,
    /// The settings, of [`GenerationForm::PRESET_FIELDS`] only, and the model that they are for.
    pub settings: GenerationForm,
}

/// A piece of a prompt under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Style {
    /// What it is called.
    pub name: String,
    /// `{prompt}` stands for what is typed; without it the text goes behind.
    #[serde(default)]
    pub prompt: String,
    /// The same for the negative prompt.
    #[serde(default)]
    pub negative_prompt: String,
}

/// A style of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnStyle {
    /// What changing and deleting name.
    pub id: String,
    /// The style.
    #[serde(flatten)]
    pub style: Style,
}

/// Everything a person keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// Presets by name.
    pub presets: Vec<OwnPreset>,
    /// Styles by name.
    pub styles: Vec<OwnStyle>,
}

/// What became of a file of styles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedStyles {
    /// New ones.
    pub added: u32,
    /// Those that were there under that name and are now as the file has them.
    pub changed: u32,
    /// Lines that are no style, and why; at most ten.
    pub skipped: Vec<String>,
}

/// A prompt that was used before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastPrompt {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt that went with it; may be empty.
    pub negative_prompt: String,
    /// An image that was made with it and is still there.
    pub image: Option<ImageId>,
    /// When it was last used, in Unix milliseconds.
    pub at: i64,
}

/// Puts `prompt` into the place that a style has for it, or the style behind it.
fn put_into(template: &str, prompt: &str) -> String {
    let (template, prompt) = (template.trim(), prompt.trim());
    if template.contains("{prompt}") {
        return template.replace("{prompt}", prompt);
    }
    match (prompt.is_empty(), template.is_empty()) {
        (_, true) => prompt.to_owned(),
        (true, false) => template.to_owned(),
        (false, false) => format!("{prompt}, {template}"),
    }
}

/// Prompt and negative prompt with these styles, one after the other.
pub fn with_styles<'a>(
    prompt: &str,
    negative_prompt: &str,
    styles: impl IntoIterator<Item = &'a Style>,
) -> (String, String) {
    let mut both = (prompt.to_owned(), negative_prompt.to_owned());
    for style in styles {
        both = (
            put_into(&style.prompt, &both.0),
            put_into(&style.negative_prompt, &both.1),
        );
    }
    both
}

/// The names in the form's field of styles, which has one on each line.
pub fn style_names(field: &str) -> impl Iterator<Item = &str> {
    field.lines().map(str::trim).filter(|name| !name.is_empty())
}

/// The style of a name: one's own, else one that comes with the program.
pub fn find_style(own: &[OwnStyle], name: &str) -> Option<Style> {
    let is_it = |style: &Style| style.name.eq_ignore_ascii_case(name);
    own.iter()
        .map(|own| &own.style)
        .find(|style| is_it(style))
        .cloned()
        .or_else(|| built_in_styles().find(|style| is_it(style)))
}

/// The styles that come with the program.
pub fn built_in_styles() -> impl Iterator<Item = Style> {
    BUILT_IN
        .into_iter()
        .map(|(name, prompt, negative_prompt)| Style {
            name: name.into(),
            prompt: prompt.into(),
            negative_prompt: negative_prompt.into(),
        })
}

const BUILT_IN: [(&str, &str, &str); 12] = [
    (
        "Photograph",
        "photograph of {prompt}, natural light, 50 mm lens, fine detail",
        "painting, drawing, illustration, render, blurry",
    ),
    (
        "Portrait light",
        "{prompt}, studio portrait, soft key light, shallow depth of field, catchlight in the eyes",
        "harsh shadows, distorted face",
    ),
    (
        "Film still",
        "film still, {prompt}, anamorphic, muted colours, grain, deep shadows",
        "cartoon, oversaturated, flat light",
    ),
    (
        "Oil painting",
        "oil painting of {prompt}, visible brush strokes, layered paint on canvas",
        "photograph, smooth, digital",
    ),
    (
        "Watercolour",
        "watercolour of {prompt}, wet edges, paper texture, light washes",
        "photograph, hard outlines, heavy black",
    ),
    (
        "Pencil",
        "pencil drawing of {prompt}, hatching, graphite on white paper",
        "colour, photograph",
    ),
    (
        "Ink",
        "ink drawing of {prompt}, bold lines, black on white",
        "colour, grey, photograph",
    ),
    (
        "Line art",
        "clean line art of {prompt}, even outlines, no shading, white background",
        "shading, texture, photograph, colour",
    ),
    (
        "Anime",
        "anime illustration of {prompt}, cel shading, crisp lines, expressive",
        "photograph, realistic skin, blurry",
    ),
    (
        "Clay model",
        "{prompt} as a small clay model, fingerprints in the clay, soft light, macro",
        "drawing, flat",
    ),
    (
        "Pixel art",
        "pixel art of {prompt}, limited palette, crisp square pixels",
        "smooth gradients, photograph, blurry",
    ),
    (
        "Night",
        "{prompt} at night, lit windows, wet ground with reflections",
        "daylight, overexposed",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_wrap_and_follow_each_other() {
        let style = |prompt: &str, negative_prompt: &str| Style {
            name: "x".into(),
            prompt: prompt.into(),
            negative_prompt: negative_prompt.into(),
        };
        let ink = style("ink drawing of {prompt}, bold", "colour");
        let soft = style("soft light", "");
        let both = with_styles(" a fox ", "blur", [&ink, &soft]);
        assert_eq!(both.0, "ink drawing of a fox, bold, soft light");
        assert_eq!(both.1, "blur, colour");
        assert_eq!(with_styles("", "", [&soft]).0, "soft light");
        assert_eq!(
            with_styles("a", "b", std::iter::empty()),
            ("a".into(), "b".into())
        );
    }

    #[test]
    fn ones_own_style_goes_before_a_built_in_one() {
        let own = [OwnStyle {
            id: "1".into(),
            style: Style {
                name: "ink".into(),
                prompt: "mine".into(),
                negative_prompt: String::new(),
            },
        }];
        assert_eq!(
            find_style(&own, "Ink").map(|s| s.prompt),
            Some("mine".into())
        );
        assert!(find_style(&[], "Ink").is_some_and(|s| s.prompt.contains("{prompt}")));
        assert_eq!(find_style(&own, "nothing"), None);
        let names: Vec<&str> = style_names("Ink\r\n\n Night ").collect();
        assert_eq!(names, ["Ink", "Night"]);
        // Each of ours leaves room for what is typed.
        assert!(built_in_styles().all(|style| style.prompt.contains("{prompt}")));
    }
}
