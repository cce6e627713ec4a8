//! What goes beyond a plain prompt: several images, a refiner, and how prompts and pixels are read.

use super::advanced::NumberField;
use super::draft::Draft;
use super::{AddOn, JobView, ModelSummary};
use crate::components::{Answer, Field, field_error};
use leptos::prelude::*;

/// These controls, below the settings of every image.
#[component]
pub fn Extras(
    draft: Draft,
    refiners: Vec<ModelSummary>,
    vaes: Vec<AddOn>,
    answer: Answer<JobView>,
) -> impl IntoView {
    let initial = draft.initial.get_value();
    let plain = |text: &'static str| Signal::derive(move || text.to_owned());
    let refiners: Vec<String> = refiners.into_iter().map(|refiner| refiner.name).collect();
    let vaes: Vec<String> = vaes.into_iter().map(|vae| vae.name).collect();
    view! {
        <div class="pair">
            <NumberField id="num_images" label="Images per run" placeholder=plain("1") value=initial.num_images.clone() answer=answer/>
            <NumberField id="guidance_rescale" label="Guidance rescale" placeholder=plain("0") value=initial.guidance_rescale.clone() answer=answer decimal=true/>
        </div>
        <Choice id="refiner" label="Refiner" none="no refiner" names=refiners value=initial.refiner.clone() answer=answer/>
        <div class="advanced-part" hidden=move || draft.form.with(|form| form.refiner.is_empty())>
            <div class="pair">
                <NumberField id="denoising_split" label="Hand over at" placeholder=plain("0.8") value=initial.denoising_split.clone() answer=answer decimal=true/>
                <NumberField id="refiner_strength" label="Or refine afterwards by" placeholder=plain("no") value=initial.refiner_strength.clone() answer=answer decimal=true/>
            </div>
            <div class="pair">
                <NumberField id="aesthetic_score" label="Aesthetic score" placeholder=plain("6") value=initial.aesthetic_score.clone() answer=answer decimal=true/>
                <NumberField id="negative_aesthetic_score" label="Score to avoid" placeholder=plain("2.5") value=initial.negative_aesthetic_score.clone() answer=answer decimal=true/>
            </div>
        </div>
        <div class="pair">
            <Choice id="prompt_syntax" label="Weights in prompts" none="where the prompt has them" names=vec!["plain".into(), "weighted".into()] value=initial.prompt_syntax.clone() answer=answer/>
            <NumberField id="clip_skip" label="CLIP skip" placeholder=plain("0") value=initial.clip_skip.clone() answer=answer/>
        </div>
        <div class="pair">
            <Choice id="vae" label="VAE" none="model's own" names=vaes value=initial.vae.clone() answer=answer/>
            <Choice id="vae_tiling" label="VAE in tiles" none="when memory is short" names=vec!["on".into(), "off".into()] value=initial.vae_tiling.clone() answer=answer/>
        </div>
    }
}

/// One of some names, or none.
#[component]
fn Choice(
    id: &'static str,
    label: &'static str,
    none: &'static str,
    mut names: Vec<String>,
    value: String,
    answer: Answer<JobView>,
) -> impl IntoView {
    // What an image was made with may be gone from this server: the form still says it.
    if !value.is_empty() && !names.contains(&value) {
        names.push(value.clone());
    }
    let nothing = value.is_empty();
    let options = names
        .into_iter()
        .map(|name| {
            let chosen = name == value;
            view! { <option value=name.clone() selected=chosen>{name.clone()}</option> }
        })
        .collect_view();
    view! {
        <Field id=id label=label error=field_error(answer, id)>
            <select class="input" id=id name=id aria-describedby=format!("{id}-note")>
                <option value="" selected=nothing>{none}</option>
                {options}
            </select>
        </Field>
    }
}
