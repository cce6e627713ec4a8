//! `/compare?a=ID&b=ID`: two images side by side, or one over the other with a slider between them.

use super::{ImageDetail, ImageId, get_image};
use crate::components::{ErrorNotice, Picture, number_text, ratio_class};
use crate::error::AppError;
use crate::hydrated::use_hydrated;
use crate::not_found::NotFound;
use crate::session::SignedInOnly;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/compare`
#[component]
pub fn ComparePage() -> impl IntoView {
    view! {
        <Title text="Compare · Atelier"/>
        <SignedInOnly>
            <Compare/>
        </SignedInOnly>
    }
}

#[component]
fn Compare() -> impl IntoView {
    let map = use_query_map();
    let ids = Memo::new(move |_| {
        map.with(|map| {
            let get = |name: &str| map.get(name).unwrap_or_default();
            (get("a"), get("b"))
        })
    });
    let both = Resource::new_blocking(
        move || ids.get(),
        |(a, b)| async move {
            let a = get_image(ImageId(a)).await?;
            let b = get_image(ImageId(b)).await?;
            Ok::<_, AppError>((a, b))
        },
    );
    view! {
        <div class="page">
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match both.await {
                        Ok((a, b)) => view! { <Pair a=a b=b/> }.into_any(),
                        Err(AppError::NotFound) => view! { <NotFound/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

#[component]
fn Pair(a: ImageDetail, b: ImageDetail) -> impl IntoView {
    let hydrated = use_hydrated();
    let over = RwSignal::new(false);
    let share = RwSignal::new(50_u32);
    let differences = differences(&a, &b);
    let links = (
        format!("/gallery/{}", a.card.id.0),
        format!("/gallery/{}", b.card.id.0),
    );
    let swapped = format!("/compare?a={}&b={}", b.card.id.0, a.card.id.0);
    let picture = |image: &ImageDetail| {
        let card = image.card.clone();
        view! {
            <Picture src=card.id.file_url() alt=card.prompt width=card.width height=card.height colour=card.dominant_colour/>
        }
    };
    let (left, right) = (picture(&a), picture(&b));
    let shape = ratio_class(a.card.width, a.card.height);
    view! {
        <div class="page-head">
            <h1>"Compare"</h1>
            <a class="button button-small" href=swapped>"Swap"</a>
            {move || hydrated.get().then(|| view! {
                <button
                    class="chip" type="button" aria-pressed=move || over.get().to_string()
                    on:click=move |_| over.update(|over| *over = !*over)
                >"One over the other"</button>
            })}
        </div>
        // The share is set by script: the content security policy allows no `style` in the page itself.
        <div
            class=format!("pair-stage {shape}")
            class:pair-over=move || over.get()
            style=("--share", move || over.get().then(|| format!("{}%", share.get())))
        >
            <figure class="pair-side">
                {left}
                <figcaption><a href=links.0>"A"</a></figcaption>
            </figure>
            <figure class="pair-side pair-second">
                {right}
                <figcaption><a href=links.1>"B"</a></figcaption>
            </figure>
            <input
                class="pair-slider" type="range" min="0" max="100" value="50" aria-label="How much of A is shown"
                on:input=move |event| share.set(event_target_value(&event).parse().unwrap_or(50))
            />
        </div>
        <h2>"What differs"</h2>
        {if differences.is_empty() {
            view! { <p class="quiet">"Their settings are the same."</p> }.into_any()
        } else {
            view! {
                <div class="table-frame" tabindex="0" role="region" aria-label="What differs">
                    <table class="table table-wrap">
                        <thead><tr><th scope="col">"Setting"</th><th scope="col">"A"</th><th scope="col">"B"</th></tr></thead>
                        <tbody>
                            {differences.into_iter().map(|(name, a, b)| view! {
                                <tr><th scope="row">{name}</th><td>{a}</td><td>{b}</td></tr>
                            }).collect_view()}
                        </tbody>
                    </table>
                </div>
            }
            .into_any()
        }}
    }
}

/// The settings that two images do not share.
fn differences(a: &ImageDetail, b: &ImageDetail) -> Vec<(&'static str, String, String)> {
    let facts = |image: &ImageDetail| {
        let settings = &image.settings;
        let loras = settings
            .loras
            .iter()
            .map(|lora| format!("{} · {}", lora.name, lora.weight))
            .collect::<Vec<_>>()
            .join(", ");
        let share = |value: Option<f64>| value.map(number_text).unwrap_or_default();
        [
            ("Prompt", settings.prompt.clone()),
            (
                "Negative prompt",
                settings.negative_prompt.clone().unwrap_or_default(),
            ),
            ("Size", format!("{} × {}", settings.width, settings.height)),
            ("Steps", settings.num_inference_steps.to_string()),
            ("Guidance", number_text(settings.guidance_scale)),
            ("Seed", settings.seed.to_string()),
            ("Scheduler", image.scheduler.clone()),
            ("Model", settings.model.clone()),
            ("Refiner", settings.refiner.clone().unwrap_or_default()),
            ("LoRAs", loras),
            ("VAE", settings.vae.clone().unwrap_or_default()),
            ("Strength", share(settings.strength)),
            ("Device", format!("{} · {}", image.device, image.dtype)),
        ]
    };
    facts(a)
        .into_iter()
        .zip(facts(b))
        .filter(|((_, a), (_, b))| a != b)
        .map(|((name, a), (_, b))| (name, a, b))
        .collect()
}
