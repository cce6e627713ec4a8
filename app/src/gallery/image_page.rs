//! `/gallery/:id`: one image and everything known about it.

use super::image_acts::{Acts, Lineage};
use super::way_back::use_way_back;
use super::{ImageDetail, ImageId, PhaseTimings, get_image};
use crate::components::{
    ErrorNotice, Moment, Notice, Picture, TimingBar, Tone, bytes_text, number_text, ratio_class,
    seconds_text,
};
use crate::error::AppError;
use crate::not_found::NotFound;
use crate::session::SignedInOnly;
use crate::studio::{Rung, Settings};
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_params_map;

/// `/gallery/:id`
#[component]
pub fn ImagePage() -> impl IntoView {
    view! {
        <Title text="Image · Atelier"/>
        <SignedInOnly>
            <Image/>
        </SignedInOnly>
    }
}

#[component]
fn Image() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| params.with(|params| params.get("id")).unwrap_or_default());
    let image = Resource::new_blocking(move || id.get(), |id| get_image(ImageId(id)));
    view! {
        <div class="page">
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match image.await {
                        Ok(image) => view! { <Detail image=image/> }.into_any(),
                        Err(AppError::NotFound) => view! { <NotFound/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

#[component]
fn Detail(image: ImageDetail) -> impl IntoView {
    let ImageDetail { card, settings, .. } = image.clone();
    let file_url = card.id.file_url();
    let neighbour = |id: Option<ImageId>, words: &'static str, rel: &'static str| {
        match id {
        Some(id) => view! { <a class="button button-small" rel=rel href=format!("/gallery/{}", id.0)>{words}</a> }.into_any(),
        None => view! { <span class="button button-small button-off" aria-hidden="true">{words}</span> }.into_any(),
    }
    };
    let way = use_way_back();
    let whose = (!image.mine).then(|| {
        view! { <p class="quiet">{format!("In a collection that {} shares", image.owner)}</p> }
    });
    view! {
        <div class="image-page">
            <div class="image-head">
                <a class="back" href=move || way.address()>"← Gallery"</a>
                <nav class="row" aria-label="Neighbouring images">
                    {neighbour(image.newer.clone(), "← Newer", "prev")}
                    {neighbour(image.older.clone(), "Older →", "next")}
                </nav>
            </div>
            <figure class=format!("image-stage {}", ratio_class(card.width, card.height))>
                <a href=file_url.clone() rel="external" aria-label="Open the file itself">
                    <Picture
                        src=file_url.clone()
                        alt=settings.prompt.clone()
                        width=card.width
                        height=card.height
                        colour=card.dominant_colour.clone()
                    />
                </a>
            </figure>
            <div class="image-side">
                <h1 class="image-prompt">{settings.prompt.clone()}</h1>
                {whose}
                <Acts image=image.clone()/>
                <Lineage image=image.clone()/>
                <Facts image=image/>
            </div>
        </div>
    }
}

#[component]
fn Facts(image: ImageDetail) -> impl IntoView {
    let settings = image.settings;
    let notes = (!image.notes.is_empty()).then(|| {
        let lines = image
            .notes
            .into_iter()
            .map(|note| view! { <p>{note}</p> })
            .collect_view();
        view! { <Notice tone=Tone::Warn>{lines}</Notice> }
    });
    let fallback = image.fallback_reason.map(|reason| {
        view! { <dt>"Why not the GPU"</dt><dd>{reason}</dd> }
    });
    let negative = match settings.negative_prompt.clone() {
        Some(text) if !text.is_empty() => view! { <dd>{text}</dd> }.into_any(),
        Some(_) => view! { <dd class="quiet">"empty"</dd> }.into_any(),
        None => view! { <dd class="quiet">"none"</dd> }.into_any(),
    };
    view! {
        {notes}
        <dl class="facts">
            <dt>"Negative prompt"</dt>{negative}
            <dt>"Size"</dt><dd class="number">{format!("{} × {}", settings.width, settings.height)}</dd>
            <dt>"Steps"</dt><dd class="number">{settings.num_inference_steps}</dd>
            <dt>"Guidance"</dt><dd class="number">{number_text(settings.guidance_scale)}</dd>
            <dt>"Seed"</dt><dd class="number">{settings.seed.to_string()}</dd>
            <dt>"Scheduler"</dt><dd>{image.scheduler}</dd>
            <dt>"Model"</dt><dd>{settings.model.clone()}</dd>
            {more_facts(&settings)}
            <dt>"Device"</dt><dd>{device_words(&image.device, &image.dtype)}</dd>
            {fallback}
            {image.imported_from.map(|program| view! { <dt>"Brought here from"</dt><dd>{program}</dd> })}
            <dt>"Made"</dt><dd><Moment at=image.card.created_at/></dd>
            <dt>"File"</dt><dd class="number">{format!("PNG, {}", bytes_text(image.bytes))}</dd>
        </dl>
        <OnTheWay rungs=image.rungs/>
        <h2>{time_words(&image.timings)}</h2>
        <TimingBar timings=image.timings/>
        <details class="fold">
            <summary>"For the record"</summary>
            <dl class="facts">
                <dt>"Image"</dt><dd><code>{image.card.id.0}</code></dd>
                <dt>"Job"</dt><dd><code>{image.job_id.0}</code></dd>
                <dt>"SHA-256"</dt><dd><code class="break">{image.sha256}</code></dd>
            </dl>
        </details>
    }
}

/// "CPU · f32", "GPU cuda:0 · bf16".
fn device_words(device: &str, dtype: &str) -> String {
    match device {
        "" => "not written down".to_owned(),
        "cpu" => format!("CPU · {dtype}"),
        device if device.starts_with("cuda") => format!("GPU {device} · {dtype}"),
        device => format!("{device} · {dtype}"),
    }
}

fn time_words(timings: &PhaseTimings) -> String {
    match timings.total_s + timings.queued_s {
        all if all > 0.0 => format!("Time: {} in all", seconds_text(all)),
        _ => "Time".to_owned(),
    }
}

/// What devices failed at while this image was made, and how it was made all the same.
#[component]
fn OnTheWay(rungs: Vec<Rung>) -> impl IntoView {
    let rungs = rungs
        .into_iter()
        .map(|rung| {
            view! {
                <li class="rung">
                    <svg class="rung-mark" viewBox="0 0 16 16" aria-hidden="true">
                        <path d="M8 3.5v9M4.5 9 8 12.5 11.5 9" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"></path>
                    </svg>
                    <p><code>{rung.device}</code>": "{rung.fault}". "<strong>{rung.done}</strong>"."</p>
                </li>
            }
        })
        .collect_view();
    (!rungs.is_empty()).then(|| {
        view! {
            <div class="rungs">
                <h2>"On the way"</h2>
                <p class="quiet small">"A device met trouble; the image was made all the same."</p>
                <ol>{rungs}</ol>
            </div>
        }
    })
}

/// What only some images have.
fn more_facts(settings: &Settings) -> impl IntoView + use<> {
    let loras = settings
        .loras
        .iter()
        .map(|lora| format!("{} · {}", lora.name, lora.weight))
        .collect::<Vec<_>>()
        .join(", ");
    [
        ("Refiner", settings.refiner.clone()),
        ("Hand over at", settings.denoising_split.map(number_text)),
        ("Refined by", settings.refiner_strength.map(number_text)),
        ("Strength", settings.strength.map(number_text)),
        ("LoRAs", Some(loras).filter(|loras| !loras.is_empty())),
        ("VAE", settings.vae.clone()),
        (
            "CLIP skip",
            (settings.clip_skip > 0).then(|| settings.clip_skip.to_string()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(view! { <dt>{name}</dt><dd>{value?}</dd> }))
    .collect_view()
}
