//! The settings most people leave alone: negative prompt, steps, guidance, size, seed, scheduler, model.

use super::extras::Extras;
use super::rail::Rail;
use super::shapes::{SeedField, SizeFields};
use super::{AddOn, GenerationForm, JobView, ModelSummary};
use crate::components::{Answer, Field, field_error};
use leptos::prelude::*;

/// The folded part of the form.
#[component]
pub fn Advanced(
    rail: Rail,
    refiners: Vec<ModelSummary>,
    vaes: Vec<AddOn>,
    answer: Answer<JobView>,
) -> impl IntoView {
    let draft = rail.draft;
    let initial = draft.initial.get_value();
    let default = move |field: &'static str| Signal::derive(move || rail.default_of(field));
    let to_defaults = move |_| {
        rail.change("The model's defaults are back.".to_owned(), |form| {
            *form = GenerationForm {
                prompt: form.prompt.clone(),
                ..GenerationForm::default()
            };
        });
    };
    view! {
        <div class="advanced">
            <Field id="negative_prompt" label="Negative prompt" error=field_error(answer, "negative_prompt")>
                <textarea class="input" id="negative_prompt" name="negative_prompt" rows="2" maxlength="10000" placeholder="What to keep out" aria-describedby="negative_prompt-note">{initial.negative_prompt}</textarea>
            </Field>
            <ModelField models=rail.models value=initial.model answer=answer/>
            <p class="quiet small">{move || rail.model.with(|model| model.as_ref().map(|model| model.description.clone()))}</p>
            <div class="pair">
                <NumberField id="num_inference_steps" label="Steps" placeholder=default("num_inference_steps") value=initial.num_inference_steps answer=answer/>
                <NumberField id="guidance_scale" label="Guidance" placeholder=default("guidance_scale") value=initial.guidance_scale answer=answer decimal=true/>
            </div>
            <SchedulerField rail=rail value=initial.scheduler answer=answer/>
            <SizeFields rail=rail width=initial.width height=initial.height answer=answer/>
            <SeedField draft=draft value=initial.seed answer=answer/>
            <Extras draft=draft refiners=refiners vaes=vaes answer=answer/>
            <button class="button button-small" type="button" on:click=to_defaults>"Back to the model's defaults"</button>
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

#[component]
fn SchedulerField(rail: Rail, value: String, answer: Answer<JobView>) -> impl IntoView {
    let draft = rail.draft;
    let options = move || {
        rail.model.get().map(|model| {
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
