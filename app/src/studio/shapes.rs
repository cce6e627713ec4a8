//! Size and seed: shapes at the model's own number of pixels, and a seed that is drawn or kept.

use super::advanced::NumberField;
use super::draft::Draft;
use super::rail::Rail;
use super::{JobView, ModelSummary};
use crate::components::{Answer, Field, field_error};
use crate::live::use_live;
use leptos::prelude::*;

/// Shapes that SDXL was trained on, at its million pixels (arXiv:2307.01952, appendix I).
const TRAINED: [(&str, u32, u32); 5] = [
    ("1:1", 1024, 1024),
    ("4:3", 1152, 896),
    ("3:2", 1216, 832),
    ("16:9", 1344, 768),
    ("21:9", 1536, 640),
];

/// The trained shapes at the model's own number of pixels, in sizes that it takes. Lying ones.
fn shapes(model: &ModelSummary) -> Vec<(&'static str, u32, u32)> {
    let multiple = model.size_multiple.max(1);
    let most = (model.max_side / multiple * multiple).max(multiple);
    let area = f64::from(model.default_width) * f64::from(model.default_height);
    let snap = |side: f64| {
        let snapped = (side / f64::from(multiple)).round().max(1.0) as u32 * multiple;
        snapped.min(most)
    };
    let mut shapes: Vec<(&'static str, u32, u32)> = Vec::new();
    // They differ by a few percent: a model made for the square gets each of them as it is.
    let trained = f64::from(TRAINED[0].1) * f64::from(TRAINED[0].2);
    for (name, across, down) in TRAINED {
        // A long side that the model does not take makes the short one shorter, too.
        let scale = (area / trained)
            .sqrt()
            .min(f64::from(most) / f64::from(across));
        let (width, height) = (
            snap(f64::from(across) * scale),
            snap(f64::from(down) * scale),
        );
        if !shapes.iter().any(|(_, w, h)| (*w, *h) == (width, height)) {
            shapes.push((name, width, height));
        }
    }
    shapes
}

/// The nearest size that a model takes with the shape of something else.
pub fn size_like(model: &ModelSummary, width: u32, height: u32) -> (u32, u32) {
    let multiple = model.size_multiple.max(1);
    let most = (model.max_side / multiple * multiple).max(multiple);
    let (across, down) = (f64::from(width.max(1)), f64::from(height.max(1)));
    let area = f64::from(model.default_width) * f64::from(model.default_height);
    let scale = (area / (across * down))
        .sqrt()
        .min(f64::from(most) / across.max(down));
    let snap = |side: f64| {
        ((side * scale / f64::from(multiple)).round().max(1.0) as u32 * multiple).min(most)
    };
    (snap(across), snap(down))
}

/// The form's width and height, where they are numbers; empty ones are the model's.
pub fn size_of(draft: Draft, model: &ModelSummary) -> Option<(u32, u32)> {
    let side = |text: &str, default: u32| match text.trim() {
        "" => Some(default),
        text => text.parse().ok(),
    };
    draft.form.with(|form| {
        Some((
            side(&form.width, model.default_width)?,
            side(&form.height, model.default_height)?,
        ))
    })
}

/// Shapes, and width and height as numbers.
#[component]
pub fn SizeFields(
    rail: Rail,
    width: String,
    height: String,
    answer: Answer<JobView>,
) -> impl IntoView {
    let draft = rail.draft;
    let default = move |field: &'static str| Signal::derive(move || rail.default_of(field));
    view! {
        <SizeChips rail=rail/>
        <div class="pair">
            <NumberField id="width" label="Width" placeholder=default("width") value=width answer=answer/>
            <NumberField id="height" label="Height" placeholder=default("height") value=height answer=answer/>
        </div>
        <p class="quiet small">{move || rail.model.with(|model| {
            let model = model.as_ref()?;
            let (width, height) = size_of(draft, model)?;
            let fits = |side: u32| side > 0 && side.is_multiple_of(model.size_multiple.max(1)) && side <= model.max_side;
            (!(fits(width) && fits(height))).then(|| format!(
                "This model takes multiples of {}, up to {}.", model.size_multiple, model.max_side
            ))
        })}</p>
    }
}

#[component]
fn SizeChips(rail: Rail) -> impl IntoView {
    let draft = rail.draft;
    let size = Memo::new(move |_| rail.model.with(|model| size_of(draft, model.as_ref()?)));
    // Standing or lying: what the form says, and for a square what was chosen last.
    let standing = RwSignal::new(false);
    Effect::new(move |_| {
        if let Some((width, height)) = size.get()
            && width != height
        {
            standing.set(height > width);
        }
    });
    let chips = move || {
        rail.model.get().map(|model| {
            shapes(&model)
                .into_iter()
                .map(|(name, across, down)| {
                    let turned = move || match standing.get() {
                        true => (down, across),
                        false => (across, down),
                    };
                    let chosen = move || size.get() == Some(turned());
                    let choose = move |_| {
                        let (width, height) = turned();
                        draft.change(|form| {
                            form.width = width.to_string();
                            form.height = height.to_string();
                        });
                    };
                    let title = move || {
                        let (width, height) = turned();
                        format!("{width} × {height}")
                    };
                    let label = move || match (standing.get(), name.split_once(':')) {
                        (true, Some((one, other))) => format!("{other}:{one}"),
                        _ => name.to_owned(),
                    };
                    view! {
                        <button class="chip" type="button" on:click=choose aria-pressed=move || chosen().to_string() title=title>
                            <svg class="chip-shape" viewBox="0 0 20 20" aria-hidden="true">
                                {move || { let (width, height) = turned(); shape_outline(width, height) }}
                            </svg>
                            {label}
                        </button>
                    }
                })
                .collect_view()
        })
    };
    let turn = move |_| {
        standing.update(|standing| *standing = !*standing);
        if let Some((width, height)) = size.get_untracked()
            && width != height
        {
            draft.change(|form| {
                form.width = height.to_string();
                form.height = width.to_string();
            });
        }
    };
    view! {
        <div class="field" role="group" aria-labelledby="size-label">
            <span class="field-label" id="size-label">"Shape"</span>
            <div class="chips">
                {chips}
                <button class="chip" type="button" on:click=turn title="Swap portrait and landscape">
                    <svg class="chip-shape" viewBox="0 0 20 20" aria-hidden="true">
                        <path d="M4 12V5h7M16 8v7H9M9 3 11 5 9 7M11 17l-2-2 2-2"></path>
                    </svg>
                    {move || if standing.get() { "Portrait" } else { "Landscape" }}
                </button>
            </div>
        </div>
    }
}

fn shape_outline(width: u32, height: u32) -> impl IntoView {
    let scale = 16.0 / f64::from(width.max(height).max(1));
    let (w, h) = (f64::from(width) * scale, f64::from(height) * scale);
    view! {
        <rect
            x=format!("{:.1}", (20.0 - w) / 2.0)
            y=format!("{:.1}", (20.0 - h) / 2.0)
            width=format!("{w:.1}")
            height=format!("{h:.1}")
            rx="1.5"
        ></rect>
    }
}

/// The seed: empty draws a new one for each image; the dice draws one now; the lock keeps the latest.
#[component]
pub fn SeedField(draft: Draft, value: String, answer: Answer<JobView>) -> impl IntoView {
    let live = use_live();
    let error = field_error(answer, "seed");
    let is_fixed = move || draft.form.with(|form| !form.seed.trim().is_empty());
    let roll = move |_| draft.change(|form| form.seed = draw_seed().to_string());
    let lock = move |_| {
        let last = live
            .jobs
            .with_untracked(|jobs| jobs.last().map(|job| job.settings.seed));
        draft.change(|form| {
            form.seed = match form.seed.trim().is_empty() {
                true => last.unwrap_or_else(|| u64::from(draw_seed())).to_string(),
                false => String::new(),
            };
        });
    };
    view! {
        <Field id="seed" label="Seed" error=error hint="The same seed and settings make the same image.">
            <div class="joined">
                <input
                    class="input number" id="seed" name="seed" type="text" inputmode="numeric" autocomplete="off"
                    value=value placeholder="a new one each time"
                    aria-describedby="seed-note"
                    aria-invalid=move || error.get().is_some().to_string()
                />
                <button class="icon-button" type="button" on:click=roll title="Roll the dice: draw a seed now" aria-label="Roll the dice">
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <rect x="4" y="4" width="16" height="16" rx="3.5" fill="none" stroke="currentColor" stroke-width="1.8"></rect>
                        <circle cx="8.7" cy="8.7" r="1.5" fill="currentColor"></circle>
                        <circle cx="15.3" cy="15.3" r="1.5" fill="currentColor"></circle>
                        <circle cx="12" cy="12" r="1.5" fill="currentColor"></circle>
                    </svg>
                </button>
                <button class="icon-button" type="button" on:click=lock aria-pressed=move || is_fixed().to_string() title=move || if is_fixed() { "Unlock: a new seed for each image" } else { "Lock: keep the latest image's seed" } aria-label="Lock">
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <rect x="5" y="11" width="14" height="9" rx="2" fill="none" stroke="currentColor" stroke-width="1.8"></rect>
                        <path d=move || if is_fixed() { "M8 11V8a4 4 0 0 1 8 0v3" } else { "M8 11V7a4 4 0 0 1 7.6-1.8" } fill="none" stroke="currentColor" stroke-width="1.8"></path>
                    </svg>
                </button>
            </div>
        </Field>
    }
}

/// 32 bits, as the server draws them: every reader of JSON keeps such a number exact.
#[cfg(feature = "hydrate")]
fn draw_seed() -> u32 {
    (js_sys::Math::random() * 4_294_967_296.0) as u32
}

#[cfg(not(feature = "hydrate"))]
fn draw_seed() -> u32 {
    0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn model(side: u32, multiple: u32, max_side: u32) -> ModelSummary {
        ModelSummary {
            name: "demo".into(),
            kind: "stable-diffusion-xl-base".into(),
            description: String::new(),
            default_width: side,
            default_height: side,
            default_steps: 20,
            default_guidance_scale: 5.0,
            size_multiple: multiple,
            max_side,
            schedulers: Vec::new(),
            is_default: true,
            example_prompts: Vec::new(),
            presets: Vec::new(),
            few_step: false,
        }
    }

    #[test]
    fn every_shape_can_be_asked_for() {
        for model in [
            model(128, 8, 128),
            model(1024, 8, 2048),
            model(1024, 64, 1280),
            model(512, 8, 512),
        ] {
            let shapes = shapes(&model);
            assert_eq!(
                shapes[0],
                ("1:1", model.default_width, model.default_height)
            );
            assert!(shapes.len() >= 4, "{shapes:?}");
            for (name, width, height) in shapes {
                assert!(
                    width % model.size_multiple == 0 && height % model.size_multiple == 0,
                    "{name}"
                );
                assert!(
                    width <= model.max_side && height <= model.max_side,
                    "{name}"
                );
            }
        }
        assert_eq!(shapes(&model(1024, 8, 2048)), TRAINED);
    }

    #[test]
    fn a_size_takes_the_shape_of_something_else() {
        let sdxl = model(1024, 8, 2048);
        assert_eq!(size_like(&sdxl, 640, 480), (1184, 888));
        assert_eq!(size_like(&sdxl, 100, 100), (1024, 1024));
        let (width, height) = size_like(&sdxl, 10, 1000);
        assert!(height <= 2048 && width >= 8, "{width} × {height}");
    }
}
