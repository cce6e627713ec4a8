//! The settings most people leave alone: negative prompt, steps, guidance, size, seed, scheduler, model.

use super::draft::Draft;
use super::extras::Extras;
use super::{AddOn, GenerationForm, JobView, ModelSummary};
use crate::components::{Answer, Field, field_error, number_text};
use crate::live::use_live;
use leptos::prelude::*;

/// The folded part of the form.
#[component]
pub fn Advanced(
    draft: Draft,
    models: Vec<ModelSummary>,
    loras: Vec<AddOn>,
    vaes: Vec<AddOn>,
    answer: Answer<JobView>,
) -> impl IntoView {
    let initial = draft.initial.get_value();
    let (refiners, models): (Vec<ModelSummary>, Vec<ModelSummary>) =
        models.into_iter().partition(ModelSummary::is_refiner);
    let models = StoredValue::new(models);
    // The model chosen in the form decides what empty fields mean.
    let model = Memo::new(move |_| {
        let name = draft.form.with(|form| form.model.clone());
        models.with_value(|models| {
            models
                .iter()
                .find(|model| model.name == name)
                .or_else(|| models.iter().find(|model| model.is_default))
                .or_else(|| models.first())
                .cloned()
        })
    });
    let default = move |pick: fn(&ModelSummary) -> String| {
        Signal::derive(move || model.with(|model| model.as_ref().map(pick).unwrap_or_default()))
    };
    view! {
        <div class="advanced">
            <Field id="negative_prompt" label="Negative prompt" error=field_error(answer, "negative_prompt")>
                <textarea class="input" id="negative_prompt" name="negative_prompt" rows="2" maxlength="10000" placeholder="What to keep out" aria-describedby="negative_prompt-note">{initial.negative_prompt}</textarea>
            </Field>
            <div class="pair">
                <NumberField id="num_inference_steps" label="Steps" placeholder=default(|m| m.default_steps.to_string()) value=initial.num_inference_steps answer=answer/>
                <NumberField id="guidance_scale" label="Guidance" placeholder=default(|m| number_text(m.default_guidance_scale)) value=initial.guidance_scale answer=answer decimal=true/>
            </div>
            <SizeChips draft=draft model=model/>
            <div class="pair">
                <NumberField id="width" label="Width" placeholder=default(|m| m.default_width.to_string()) value=initial.width answer=answer/>
                <NumberField id="height" label="Height" placeholder=default(|m| m.default_height.to_string()) value=initial.height answer=answer/>
            </div>
            <SeedField draft=draft value=initial.seed answer=answer/>
            <div class="pair">
                <SchedulerField draft=draft model=model value=initial.scheduler answer=answer/>
                <ModelField models=models value=initial.model answer=answer/>
            </div>
            <p class="quiet small">{move || model.with(|model| model.as_ref().map(|model| model.description.clone()))}</p>
            <Extras draft=draft refiners=refiners loras=loras vaes=vaes answer=answer/>
            <button class="button button-small" type="button" on:click=move |_| {
                let prompt = draft.form.with_untracked(|form| form.prompt.clone());
                draft.write(GenerationForm { prompt, ..GenerationForm::default() });
            }>"Back to the model's defaults"</button>
        </div>
    }
}

/// A field that takes a number.
#[component]
pub(super) fn NumberField(
    id: &'static str,
    label: &'static str,
    placeholder: Signal<String>,
    value: String,
    answer: Answer<JobView>,
    #[prop(optional)] decimal: bool,
) -> impl IntoView {
    let error = field_error(answer, id);
    view! {
        <Field id=id label=label error=error>
            <input
                class="input number"
                id=id
                name=id
                type="text"
                inputmode=if decimal { "decimal" } else { "numeric" }
                autocomplete="off"
                value=value
                placeholder=move || placeholder.get()
                aria-describedby=format!("{id}-note")
                aria-invalid=move || error.get().is_some().to_string()
            />
        </Field>
    }
}

/// The usual shapes at the model's own number of pixels.
fn shapes(model: &ModelSummary) -> Vec<(&'static str, u32, u32)> {
    let multiple = model.size_multiple.max(1);
    let area = f64::from(model.default_width) * f64::from(model.default_height);
    let snap = |side: f64| {
        let snapped = (side / f64::from(multiple)).round().max(1.0) as u32 * multiple;
        snapped.min(model.max_side / multiple * multiple)
    };
    let mut shapes: Vec<(&'static str, u32, u32)> = Vec::new();
    for (name, across, down) in [
        ("Square", 1.0, 1.0),
        ("Portrait", 2.0, 3.0),
        ("Landscape", 3.0, 2.0),
        ("Wide", 16.0, 9.0),
        ("Tall", 9.0, 16.0),
    ] {
        let ratio: f64 = across / down;
        let (width, height) = (snap((area * ratio).sqrt()), snap((area / ratio).sqrt()));
        if width > 0 && height > 0 && !shapes.iter().any(|(_, w, h)| (*w, *h) == (width, height)) {
            shapes.push((name, width, height));
        }
    }
    shapes
}

#[component]
fn SizeChips(draft: Draft, model: Memo<Option<ModelSummary>>) -> impl IntoView {
    let chips = move || {
        model.get().map(|model| {
            shapes(&model)
                .into_iter()
                .map(|(name, width, height)| {
                    let (default_width, default_height) = (model.default_width, model.default_height);
                    let chosen = move || {
                        draft.form.with(|form| {
                            let side = |text: &str, default: u32| match text.trim() {
                                "" => Some(default),
                                text => text.parse().ok(),
                            };
                            side(&form.width, default_width) == Some(width)
                                && side(&form.height, default_height) == Some(height)
                        })
                    };
                    let choose = move |_| {
                        draft.change(|form| {
                            form.width = width.to_string();
                            form.height = height.to_string();
                        });
                    };
                    view! {
                        <button class="chip" type="button" on:click=choose aria-pressed=move || chosen().to_string() title=format!("{width} × {height}")>
                            <svg class="chip-shape" viewBox="0 0 20 20" aria-hidden="true">
                                {shape_outline(width, height)}
                            </svg>
                            {name}
                        </button>
                    }
                })
                .collect_view()
        })
    };
    view! {
        <div class="field" role="group" aria-labelledby="size-label">
            <span class="field-label" id="size-label">"Size"</span>
            <div class="chips">{chips}</div>
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

/// The seed: empty draws a new one each time; the lock keeps the last image's.
#[component]
fn SeedField(draft: Draft, value: String, answer: Answer<JobView>) -> impl IntoView {
    let live = use_live();
    let error = field_error(answer, "seed");
    let last_seed = Memo::new(move |_| {
        live.jobs
            .with(|jobs| jobs.last().map(|job| job.settings.seed))
    });
    let is_fixed = move || draft.form.with(|form| !form.seed.trim().is_empty());
    let random = move |_| draft.change(|form| form.seed.clear());
    let keep = move |_| {
        if let Some(seed) = last_seed.get_untracked() {
            draft.change(|form| form.seed = seed.to_string());
        }
    };
    view! {
        <Field id="seed" label="Seed" error=error hint="The same seed and settings make the same image.">
            <div class="joined">
                <input
                    class="input number" id="seed" name="seed" type="text" inputmode="numeric" autocomplete="off"
                    value=value placeholder="random"
                    aria-describedby="seed-note"
                    aria-invalid=move || error.get().is_some().to_string()
                />
                <button class="icon-button" type="button" on:click=random aria-pressed=move || (!is_fixed()).to_string() title="A new seed each time" aria-label="A new seed each time">
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <rect x="4" y="4" width="16" height="16" rx="3.5" fill="none" stroke="currentColor" stroke-width="1.8"></rect>
                        <circle cx="8.7" cy="8.7" r="1.5" fill="currentColor"></circle>
                        <circle cx="15.3" cy="15.3" r="1.5" fill="currentColor"></circle>
                        <circle cx="12" cy="12" r="1.5" fill="currentColor"></circle>
                    </svg>
                </button>
                <button class="icon-button" type="button" on:click=keep disabled=move || last_seed.get().is_none() aria-pressed=move || is_fixed().to_string() title="Keep the latest image's seed" aria-label="Keep the latest image's seed">
                    <svg viewBox="0 0 24 24" aria-hidden="true">
                        <rect x="5" y="11" width="14" height="9" rx="2" fill="none" stroke="currentColor" stroke-width="1.8"></rect>
                        <path d="M8 11V8a4 4 0 0 1 8 0v3" fill="none" stroke="currentColor" stroke-width="1.8"></path>
                    </svg>
                </button>
            </div>
        </Field>
    }
}

#[component]
fn SchedulerField(
    draft: Draft,
    model: Memo<Option<ModelSummary>>,
    value: String,
    answer: Answer<JobView>,
) -> impl IntoView {
    let options = move || {
        model.get().map(|model| {
            // Read once: choosing must not rebuild the list under the person who chooses.
            let asked = draft.form.with_untracked(|form| form.scheduler.clone());
            let mut names = model.schedulers;
            // A remembered request may spell a name that the list has otherwise.
            if !asked.is_empty() && !names.contains(&asked) {
                names.push(asked.clone());
            }
            names
                .into_iter()
                .map(|name| {
                    let chosen = name == asked;
                    view! { <option value=name.clone() selected=chosen>{name.clone()}</option> }
                })
                .collect_view()
        })
    };
    view! {
        <Field id="scheduler" label="Scheduler" error=field_error(answer, "scheduler")>
            <select class="input" id="scheduler" name="scheduler" aria-describedby="scheduler-note">
                <option value="" selected=value.is_empty()>"model's own"</option>
                {options}
            </select>
        </Field>
    }
}

#[component]
fn ModelField(
    models: StoredValue<Vec<ModelSummary>>,
    value: String,
    answer: Answer<JobView>,
) -> impl IntoView {
    let options = models.with_value(|models| {
        models
            .iter()
            .map(|model| {
                let chosen = if value.is_empty() {
                    model.is_default
                } else {
                    model.name == value
                };
                // The default's value is empty, so that a remembered form follows the server's default.
                let name = if model.is_default {
                    String::new()
                } else {
                    model.name.clone()
                };
                view! { <option value=name selected=chosen>{model.name.clone()}</option> }
            })
            .collect_view()
    });
    view! {
        <Field id="model" label="Model" error=field_error(answer, "model")>
            <select class="input" id="model" name="model" aria-describedby="model-note">{options}</select>
        </Field>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(side: u32, multiple: u32, max_side: u32) -> ModelSummary {
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
        }
    }

    #[test]
    fn every_shape_can_be_asked_for() {
        for model in [
            model(128, 8, 128),
            model(1024, 8, 2048),
            model(1024, 64, 1536),
        ] {
            let shapes = shapes(&model);
            assert_eq!(
                shapes[0],
                ("Square", model.default_width, model.default_height)
            );
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
    }
}
