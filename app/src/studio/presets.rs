//! Presets in one row: those that follow from the model, and the viewer's own.

use super::rail::{Before, NameLine, Rail, put_preset};
use super::{GenerationForm, OwnPreset, Preset, delete_preset, save_preset};
use crate::components::number_text;
use crate::error::AppError;
use leptos::prelude::*;

/// A preset as a button: what it writes into which fields.
#[derive(Clone, PartialEq)]
struct Choice {
    name: String,
    own: Option<OwnPreset>,
    fields: Vec<(&'static str, String)>,
}

impl Choice {
    fn built_in(preset: Preset, default_of: impl Fn(&str) -> String) -> Self {
        // Where it is the model's own value, the field is left empty.
        let value = |field, text: String| match same(&default_of(field), &text) {
            true => String::new(),
            false => text,
        };
        let steps = preset.num_inference_steps.to_string();
        let guidance = number_text(preset.guidance_scale);
        Self {
            fields: vec![
                ("num_inference_steps", value("num_inference_steps", steps)),
                ("guidance_scale", value("guidance_scale", guidance)),
                ("scheduler", preset.scheduler.unwrap_or_default()),
            ],
            name: preset.name,
            own: None,
        }
    }

    fn own(preset: OwnPreset) -> Self {
        let fields = GenerationForm::PRESET_FIELDS
            .into_iter()
            .map(|field| (field, preset.settings.get(field).unwrap_or_default()))
            .collect();
        Self {
            name: preset.name.clone(),
            own: Some(preset),
            fields,
        }
    }

    /// What it would change in a form: field, value now, value then.
    fn changes(
        &self,
        form: &GenerationForm,
        default_of: impl Fn(&str) -> String,
    ) -> Vec<(&'static str, String, String)> {
        let meant = |field: &str, value: String| match value.trim() {
            "" => default_of(field),
            value => value.to_owned(),
        };
        self.fields
            .iter()
            .filter_map(|(field, value)| {
                let now = meant(field, form.get(field).unwrap_or_default());
                let then = meant(field, value.clone());
                (!same(&now, &then)).then_some((*field, now, then))
            })
            .collect()
    }
}

/// Whether two fields say the same: "7.5" and "7,50" do.
fn same(one: &str, other: &str) -> bool {
    let number = |text: &str| text.trim().replace(',', ".").parse::<f64>().ok();
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.trim() == other.trim(),
    }
}

/// "steps 30 → 12, scheduler model's own → Euler".
fn changes_text(changes: &[(&'static str, String, String)]) -> String {
    let shown = |value: &str| match value {
        "" => "none".to_owned(),
        value if value.chars().count() > 40 => {
            format!("{} …", value.chars().take(40).collect::<String>())
        }
        value => value.to_owned(),
    };
    changes
        .iter()
        .map(|(field, now, then)| {
            let what = match *field {
                "num_inference_steps" => "steps",
                "guidance_scale" => "guidance",
                "scheduler" => {
                    let own = |value: &str| match value {
                        "" => "the model's own".to_owned(),
                        value => value.to_owned(),
                    };
                    return format!("scheduler {} → {}", own(now), own(then));
                }
                "loras" => "LoRAs",
                "vae" => "VAE",
                "vae_tiling" => "VAE in tiles",
                "clip_skip" => "CLIP skip",
                "denoising_split" => "hand-over",
                "refiner_strength" => "refine afterwards",
                "aesthetic_score" => "aesthetic score",
                "negative_aesthetic_score" => "score to avoid",
                "guidance_rescale" => "guidance rescale",
                other => other,
            };
            format!("{what} {} → {}", shown(now), shown(then))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// The row of presets, and the viewer's own to keep, rename and delete.
#[component]
pub fn PresetRow(rail: Rail) -> impl IntoView {
    let model_name = move || {
        rail.model.with(|model| {
            model
                .as_ref()
                .map(|model| model.name.clone())
                .unwrap_or_default()
        })
    };
    let own = Memo::new(move |_| {
        let model = model_name();
        rail.shelf.with(|shelf| {
            shelf
                .presets
                .iter()
                .filter(|preset| preset.settings.model == model)
                .cloned()
                .collect::<Vec<_>>()
        })
    });
    let choices = Memo::new(move |_| {
        let built_in = rail
            .presets()
            .into_iter()
            .map(|preset| Choice::built_in(preset, |field| rail.default_of(field)));
        built_in
            .chain(own.get().into_iter().map(Choice::own))
            .collect::<Vec<_>>()
    });
    let buttons = move || {
        choices
            .get()
            .into_iter()
            .map(|choice| view! { <PresetButton rail=rail choice=choice/> })
            .collect_view()
    };
    view! {
        <section class="presets" aria-labelledby="presets-label">
            <span class="field-label" id="presets-label">"Presets"</span>
            <div class="preset-row">{buttons}</div>
            <details class="fold fold-small">
                <summary>"Own presets"</summary>
                <OwnPresets rail=rail own=own/>
            </details>
        </section>
    }
}

#[component]
fn PresetButton(rail: Rail, choice: Choice) -> impl IntoView {
    let choice = StoredValue::new(choice);
    let changes = Memo::new(move |_| {
        rail.draft
            .form
            .with(|form| choice.with_value(|c| c.changes(form, |field| rail.default_of(field))))
    });
    let is_on = move || changes.with(|changes| changes.is_empty());
    let (name, steps) = choice.with_value(|choice| {
        let steps = choice
            .fields
            .iter()
            .find(|(field, _)| *field == "num_inference_steps")
            .map(|(_, value)| value.clone())
            .unwrap_or_default();
        (choice.name.clone(), steps)
    });
    let steps = move || {
        let steps = match steps.as_str() {
            "" => rail.default_of("num_inference_steps"),
            steps => steps.to_owned(),
        };
        match steps.as_str() {
            "1" => "1 step".to_owned(),
            steps => format!("{steps} steps"),
        }
    };
    let title = move || {
        changes.with(|changes| match changes.is_empty() {
            true => "These settings are on".to_owned(),
            false => changes_text(changes),
        })
    };
    let said = name.clone();
    let apply = move |_| {
        rail.draft.read();
        let text = changes.with_untracked(|changes| changes_text(changes));
        if text.is_empty() {
            return;
        }
        rail.change(format!("{said}: {text}"), |form| {
            let fields = choice.with_value(|choice| choice.fields.clone());
            *form = form.with(|name| {
                fields
                    .iter()
                    .find(|(field, _)| *field == name)
                    .map(|(_, value)| value.clone())
            });
        });
    };
    view! {
        <button class="preset" type="button" on:click=apply aria-pressed=move || is_on().to_string() title=title>
            <span class="clip">{name}</span>
            <span class="preset-steps">{steps}</span>
        </button>
    }
}

/// Keeping, renaming and deleting.
#[component]
fn OwnPresets(rail: Rail, own: Memo<Vec<OwnPreset>>) -> impl IntoView {
    let problem = RwSignal::new(None::<AppError>);
    let renaming = RwSignal::new(None::<String>);
    let store = move |id: String, name: String, settings: GenerationForm| {
        problem.set(None);
        leptos::task::spawn_local(async move {
            match save_preset(id, name, settings).await {
                Ok(preset) => {
                    rail.shelf.update(|shelf| put_preset(shelf, preset));
                    renaming.set(None);
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    };
    let now = move || {
        rail.draft.read();
        let mut settings = rail.draft.form.with_untracked(GenerationForm::preset_part);
        settings.model = rail
            .model
            .with_untracked(|model| model.as_ref().map(|model| model.name.clone()))
            .unwrap_or_default();
        settings
    };
    let keep = Callback::new(move |name: String| store(String::new(), name, now()));
    let row = move |preset: OwnPreset| {
        let OwnPreset { id, name, settings } = preset.clone();
        let is_renaming = {
            let id = id.clone();
            move || renaming.with(|renaming| renaming.as_ref() == Some(&id))
        };
        let rename = {
            let (id, settings) = (id.clone(), settings.clone());
            Callback::new(move |name: String| store(id.clone(), name, settings.clone()))
        };
        let replace = {
            let (id, name) = (id.clone(), name.clone());
            move |_| store(id.clone(), name.clone(), now())
        };
        let remove = move |_| {
            let gone = preset.clone();
            problem.set(None);
            leptos::task::spawn_local(async move {
                match delete_preset(gone.id.clone()).await {
                    Ok(()) | Err(AppError::NotFound) => {
                        rail.shelf
                            .update(|shelf| shelf.presets.retain(|known| known.id != gone.id));
                        let words = format!("The preset “{}” is deleted.", gone.name);
                        rail.say(words, Before::Preset(Box::new(gone)));
                    }
                    Err(error) => problem.set(Some(error)),
                }
            });
        };
        let start_renaming = {
            let id = id.clone();
            move |_| renaming.set(Some(id.clone()))
        };
        let shown = name.clone();
        view! {
            <li class="own-row">
                {move || if is_renaming() {
                    view! { <NameLine id="preset-rename" label="New name" placeholder="New name" value=shown.clone() button="Rename" keep=rename/> }.into_any()
                } else {
                    view! { <span class="clip">{shown.clone()}</span> }.into_any()
                }}
                <span class="own-acts">
                    <button class="text-button" type="button" on:click=start_renaming aria-label=format!("Rename the preset {name}")>"Rename"</button>
                    <button class="text-button" type="button" on:click=replace title="Put the settings as they are now into it" aria-label=format!("Put the present settings into {name}")>"Update"</button>
                    <button class="text-button" type="button" on:click=remove aria-label=format!("Delete the preset {name}")>"Delete"</button>
                </span>
            </li>
        }
    };
    view! {
        <div class="stack stack-tight">
            <p class="quiet small">"Keeps how images are made with this model: sampling, size, refiner, LoRAs. Not the prompt, not the seed."</p>
            <NameLine id="preset-name" label="Name of the preset" placeholder="Name" button="Save the settings" keep=keep/>
            {move || problem.get().map(|error| view! { <p class="field-error small" role="alert">{error.to_string()}</p> })}
            <ul class="own-list">{move || own.get().into_iter().map(row).collect_view()}</ul>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_of(field: &str) -> String {
        match field {
            "num_inference_steps" => "30".into(),
            "guidance_scale" => "5".into(),
            _ => String::new(),
        }
    }

    #[test]
    fn a_preset_says_what_it_changes() {
        let preset = |steps, scheduler: Option<&str>| Preset {
            name: "Fast".into(),
            num_inference_steps: steps,
            guidance_scale: 5.0,
            scheduler: scheduler.map(str::to_owned),
        };
        let form = GenerationForm::default();
        let fast = Choice::built_in(preset(12, Some("Euler")), default_of);
        let text = changes_text(&fast.changes(&form, default_of));
        assert_eq!(text, "steps 30 → 12, scheduler the model's own → Euler");
        let balanced = Choice::built_in(preset(30, None), default_of);
        assert!(balanced.changes(&form, default_of).is_empty());
        // The same number in other words is no change.
        let typed = GenerationForm {
            num_inference_steps: "30".into(),
            guidance_scale: "5,0".into(),
            ..GenerationForm::default()
        };
        assert!(balanced.changes(&typed, default_of).is_empty());
        assert_eq!(fast.changes(&typed, default_of).len(), 2);
    }
}
