//! What goes beyond a plain prompt: several images, a refiner, an image to start from, LoRAs, and
//! how prompts are read.

use super::advanced::NumberField;
use super::draft::Draft;
use super::{AddOn, GenerationForm, JobView, ModelSummary};
use crate::components::{Answer, Field, field_error};
use leptos::prelude::*;

/// These controls, below the settings of every image.
#[component]
pub fn Extras(
    draft: Draft,
    refiners: Vec<ModelSummary>,
    loras: Vec<AddOn>,
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
        <StartImage id="init_image" label="Image to start from" draft=draft value=initial.init_image.clone() answer=answer/>
        <div class="advanced-part" hidden=move || draft.form.with(|form| form.init_image.is_empty())>
            <NumberField id="strength" label="Strength" placeholder=plain("0.3") value=initial.strength.clone() answer=answer decimal=true/>
            <StartImage id="mask" label="Mask (white is painted anew)" draft=draft value=initial.mask.clone() answer=answer/>
            <div class="pair">
                <NumberField id="mask_blur" label="Mask blur" placeholder=plain("0") value=initial.mask_blur.clone() answer=answer decimal=true/>
                <NumberField id="only_masked_padding" label="Only masked: border" placeholder=plain("whole image") value=initial.only_masked_padding.clone() answer=answer/>
            </div>
        </div>
        <LoraField draft=draft loras=loras value=initial.loras.clone() answer=answer/>
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

/// An uploaded image: its id in the form, the picture beside it, a button that sends another.
#[component]
fn StartImage(
    id: &'static str,
    label: &'static str,
    draft: Draft,
    value: String,
    answer: Answer<JobView>,
) -> impl IntoView {
    let problem = RwSignal::new(None::<String>);
    let refused = field_error(answer, id);
    let error = Signal::derive(move || problem.get().or_else(|| refused.get()));
    let current = Memo::new(move |_| {
        draft.form.with(|form| match id {
            "mask" => form.mask.clone(),
            _ => form.init_image.clone(),
        })
    });
    let set = move |text: String| {
        draft.change(|form| match id {
            "mask" => form.mask = text,
            _ => form.init_image = text,
        });
    };
    let picked = move |event: leptos::ev::Event| {
        problem.set(None);
        sending::send_picked(&event, move |sent| match sent {
            Ok(upload) => set(upload),
            Err(words) => problem.set(Some(words)),
        });
    };
    let picture = move || {
        let source = match current.get() {
            text if text.is_empty() => return None,
            text => match text.strip_prefix("image:") {
                Some(image) => format!("/images/{image}/thumbnail.jpg"),
                None => format!("/api/uploads/{text}"),
            },
        };
        Some(view! {
            <div class="row">
                <img class="start-image" src=source alt="" width="64" height="64"/>
                <button class="button button-small" type="button" on:click=move |_| set(String::new())>"Remove"</button>
            </div>
        })
    };
    view! {
        <Field id=id label=label error=error>
            <input type="hidden" id=id name=id value=value/>
            {picture}
            <input class="input" type="file" accept="image/png,image/jpeg,image/webp" aria-label=label on:change=picked/>
        </Field>
    }
}

/// LoRAs as text, and a button for each there is.
#[component]
fn LoraField(
    draft: Draft,
    loras: Vec<AddOn>,
    value: String,
    answer: Answer<JobView>,
) -> impl IntoView {
    let buttons = loras
        .into_iter()
        .filter(|lora| lora.problem.is_none())
        .map(|lora| {
            let name = lora.name.clone();
            let add = move |_| draft.change(|form: &mut GenerationForm| add_lora(form, &name));
            view! { <button class="chip" type="button" on:click=add title=lora.triggers.join(", ")>{lora.name}</button> }
        })
        .collect_view();
    view! {
        <Field id="loras" label="LoRAs" error=field_error(answer, "loras") hint="name:weight, with commas between them">
            <input class="input" id="loras" name="loras" type="text" autocomplete="off" value=value placeholder="none" aria-describedby="loras-note"/>
            <div class="chips">{buttons}</div>
        </Field>
    }
}

/// Puts one more LoRA into the form, unless it is there.
fn add_lora(form: &mut GenerationForm, name: &str) {
    let there = form
        .loras
        .split(',')
        .any(|part| part.rsplit_once(':').map_or(part, |(name, _)| name).trim() == name);
    if there {
        return;
    }
    if !form.loras.trim().is_empty() {
        form.loras.push_str(", ");
    }
    form.loras.push_str(&format!("{name}:1"));
}

/// Sending a file to the server.
#[cfg(feature = "hydrate")]
mod sending {
    use leptos::prelude::*;
    use wasm_bindgen::{JsCast, JsValue};
    use wasm_bindgen_futures::JsFuture;
    use web_sys::{HtmlInputElement, RequestInit, Response};

    /// Sends the file that was picked; `done` is given its upload's id, or what is wrong.
    pub(super) fn send_picked(
        event: &leptos::ev::Event,
        done: impl Fn(Result<String, String>) + 'static,
    ) {
        let file = event
            .target()
            .and_then(|target| target.dyn_into::<HtmlInputElement>().ok())
            .and_then(|input| input.files())
            .and_then(|files| files.get(0));
        let Some(file) = file else { return };
        leptos::task::spawn_local(async move {
            let lost = |_| "The file could not be sent. Try again.".to_owned();
            done(
                send(&file.into())
                    .await
                    .unwrap_or_else(|error| Err(lost(error))),
            );
        });
    }

    async fn send(file: &JsValue) -> Result<Result<String, String>, JsValue> {
        let options = RequestInit::new();
        options.set_method("POST");
        options.set_body(file);
        let answer = JsFuture::from(window().fetch_with_str_and_init("/api/uploads", &options));
        let response: Response = answer.await?.dyn_into()?;
        let json = JsFuture::from(response.json()?).await?;
        let text = |key: &str| {
            js_sys::Reflect::get(&json, &key.into())
                .ok()
                .and_then(|value| value.as_string())
        };
        Ok(match (response.ok(), text("id")) {
            (true, Some(id)) => Ok(id),
            _ => Err(text("detail").unwrap_or_else(|| "The file was refused.".to_owned())),
        })
    }
}

#[cfg(not(feature = "hydrate"))]
mod sending {
    pub(super) fn send_picked(_: &leptos::ev::Event, _: impl Fn(Result<String, String>) + 'static) {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lora_is_added_once() {
        let mut form = GenerationForm::default();
        add_lora(&mut form, "ink");
        add_lora(&mut form, "paper");
        add_lora(&mut form, "ink");
        assert_eq!(form.loras, "ink:1, paper:1");
    }
}
