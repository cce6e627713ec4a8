//! What the parts of the rail share: the draft, the models and LoRAs there are, what the viewer
//! keeps, and what was just done and can be undone.

use super::draft::Draft;
use super::{AddOn, GenerationForm, ModelSummary, OwnPreset, OwnStyle, Preset, Shelf};
use super::{load_loras, save_preset, save_style};
use crate::error::AppError;
use crate::hydrated::after;
use leptos::prelude::*;
use std::time::Duration;

/// How long an undo is offered.
const OFFERED_FOR: Duration = Duration::from_secs(20);

/// What the parts of the rail share.
#[derive(Clone, Copy)]
pub struct Rail {
    /// What is being typed.
    pub draft: Draft,
    /// The models that can be asked for, refiners left out, the default first.
    pub models: StoredValue<Vec<ModelSummary>>,
    /// The model that the form asks for.
    pub model: Memo<Option<ModelSummary>>,
    /// The LoRAs there are; `None` until somebody needs them.
    pub loras: RwSignal<Option<Vec<AddOn>>>,
    /// Presets and styles.
    pub shelf: RwSignal<Shelf>,
    /// What was done last.
    pub done: RwSignal<Option<Done>>,
    asked_for_loras: StoredValue<bool>,
}

/// Something that was done, in words, and what brings it back.
#[derive(Clone, PartialEq)]
pub struct Done {
    /// "Fast: steps 30 → 12".
    pub words: String,
    /// What was there before.
    pub before: Before,
}

/// What an undo brings back.
#[derive(Clone, PartialEq)]
pub enum Before {
    /// The form as it was.
    Form(Box<GenerationForm>),
    /// A preset that was deleted.
    Preset(Box<OwnPreset>),
    /// A style that was deleted.
    Style(OwnStyle),
}

impl Rail {
    /// Over a draft and what the page was sent.
    pub fn new(draft: Draft, models: Vec<ModelSummary>, shelf: Shelf) -> Self {
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
        Self {
            draft,
            models,
            model,
            loras: RwSignal::new(None),
            shelf: RwSignal::new(shelf),
            done: RwSignal::new(None),
            asked_for_loras: StoredValue::new(false),
        }
    }

    /// Asks for the LoRAs there are, once.
    pub fn need_loras(&self) {
        if self.asked_for_loras.get_value() {
            return;
        }
        self.asked_for_loras.set_value(true);
        let rail = *self;
        leptos::task::spawn_local(async move {
            match load_loras().await {
                Ok(loras) => {
                    let _ = rail.loras.try_set(Some(loras));
                }
                // The next one who needs them asks again.
                Err(_) => {
                    let _ = rail.asked_for_loras.try_set_value(false);
                }
            }
        });
    }

    /// Changes the form, says so and offers the way back.
    pub fn change(&self, words: String, change: impl FnOnce(&mut GenerationForm)) {
        self.draft.read();
        let before = self.draft.form.get_untracked();
        self.draft.change(change);
        self.say(words, Before::Form(Box::new(before)));
    }

    /// Says what was done and offers the way back.
    pub fn say(&self, words: String, before: Before) {
        let done = self.done;
        let said = Done { words, before };
        done.set(Some(said.clone()));
        after(OFFERED_FOR, move || {
            // The studio may have been left, or something else was done since.
            if done.try_with_untracked(|now| now.as_ref() == Some(&said)) == Some(true) {
                done.set(None);
            }
        });
    }

    /// The presets that suit the model as it is asked for: a LoRA that takes few steps brings its own.
    pub fn presets(&self) -> Vec<Preset> {
        let of_lora = self.loras.with(|loras| {
            let named = super::request::loras(&self.draft.form.with(|form| form.loras.clone()));
            named.unwrap_or_default().iter().find_map(|asked| {
                loras
                    .iter()
                    .flatten()
                    .find(|lora| lora.name == asked.name && asked.weight != 0.0)
                    .map(|lora| lora.presets.clone())
                    .filter(|presets| !presets.is_empty())
            })
        });
        of_lora.unwrap_or_else(|| {
            self.model
                .with(|model| model.as_ref().map(|model| model.presets.clone()))
                .unwrap_or_default()
        })
    }

    /// What an empty field means: the model's defaults, or those of a LoRA that takes few steps.
    pub fn default_of(&self, field: &str) -> String {
        let few = self
            .presets()
            .into_iter()
            .next()
            .filter(|_| self.has_few_step_lora());
        self.model.with(|model| {
            let Some(model) = model else {
                return String::new();
            };
            match field {
                "num_inference_steps" => few
                    .map_or(model.default_steps, |few| few.num_inference_steps)
                    .to_string(),
                "guidance_scale" => crate::components::number_text(
                    few.map_or(model.default_guidance_scale, |few| few.guidance_scale),
                ),
                "width" => model.default_width.to_string(),
                "height" => model.default_height.to_string(),
                _ => String::new(),
            }
        })
    }

    fn has_few_step_lora(&self) -> bool {
        let presets = self.presets();
        self.model
            .with(|model| model.as_ref().is_some_and(|model| model.presets != presets))
    }
}

/// What was done last, with the way back.
#[component]
pub fn DoneLine(rail: Rail) -> impl IntoView {
    let problem = RwSignal::new(None::<AppError>);
    let undo = move |_| {
        let Some(done) = rail.done.get_untracked() else {
            return;
        };
        problem.set(None);
        match done.before {
            Before::Form(form) => {
                rail.draft.write(*form);
                rail.done.set(None);
            }
            Before::Preset(preset) => leptos::task::spawn_local(async move {
                match save_preset(String::new(), preset.name, preset.settings).await {
                    Ok(preset) => {
                        rail.shelf.update(|shelf| put_preset(shelf, preset));
                        rail.done.set(None);
                    }
                    Err(error) => problem.set(Some(error)),
                }
            }),
            Before::Style(OwnStyle { style, .. }) => leptos::task::spawn_local(async move {
                let (prompt, negative) = (style.prompt, style.negative_prompt);
                match save_style(String::new(), style.name, prompt, negative).await {
                    Ok(style) => {
                        rail.shelf.update(|shelf| put_style(shelf, style));
                        rail.done.set(None);
                    }
                    Err(error) => problem.set(Some(error)),
                }
            }),
        }
    };
    view! {
        <div class="done-line" role="status" aria-live="polite">
            {move || rail.done.get().map(|done| view! {
                <p class="small">
                    <span>{done.words}</span>
                    {move || problem.get().map(|error| format!(" {error}"))}
                </p>
                <button class="button button-small" type="button" on:click=undo>"Undo"</button>
            })}
        </div>
    }
}

/// Puts a preset among the others, by name.
pub fn put_preset(shelf: &mut Shelf, preset: OwnPreset) {
    shelf.presets.retain(|known| known.id != preset.id);
    shelf.presets.push(preset);
    shelf
        .presets
        .sort_by_key(|preset| preset.name.to_lowercase());
}

/// Puts a style among the others, by name.
pub fn put_style(shelf: &mut Shelf, style: OwnStyle) {
    shelf.styles.retain(|known| known.id != style.id);
    shelf.styles.push(style);
    shelf
        .styles
        .sort_by_key(|style| style.style.name.to_lowercase());
}

/// A line of text with a button that keeps it. Enter does the same: it must not send the form around.
#[component]
pub fn NameLine(
    /// The input's id.
    id: &'static str,
    /// Its label, for screen readers.
    label: &'static str,
    /// What is shown while it is empty.
    placeholder: &'static str,
    /// The text at first.
    #[prop(optional, into)]
    value: String,
    /// The button's words.
    button: &'static str,
    /// Is given the text.
    keep: Callback<String>,
) -> impl IntoView {
    let text = RwSignal::new(value.clone());
    let send = move || {
        let given = text.get_untracked();
        if !given.trim().is_empty() {
            keep.run(given);
        }
    };
    let key = move |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Enter" {
            event.prevent_default();
            event.stop_propagation();
            send();
        }
    };
    view! {
        <div class="joined">
            <input class="input" id=id type="text" autocomplete="off" maxlength="60" aria-label=label placeholder=placeholder
                value=value
                on:input=move |event| text.set(event_target_value(&event))
                on:keydown=key/>
            <button class="button" type="button" on:click=move |_| send()>{button}</button>
        </div>
    }
}
