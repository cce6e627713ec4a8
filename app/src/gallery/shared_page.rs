//! `/s/:secret`: one image for whoever has its link, with or without an account, and nothing else.

use super::{SharedImage, open_share_link};
use crate::components::{ErrorNotice, Picture, number_text, ratio_class};
use crate::error::AppError;
use crate::not_found::NotFound;
use leptos::prelude::*;
use leptos_meta::{Meta, Title};
use leptos_router::hooks::use_params_map;

/// `/s/:secret`
#[component]
pub fn SharedPage() -> impl IntoView {
    let secret = use_params_map()
        .with_untracked(|params| params.get("secret"))
        .unwrap_or_default();
    #[cfg(feature = "ssr")]
    crate::response::forbid_indexing();
    let asked = secret.clone();
    let image = Resource::new_blocking(move || asked.clone(), open_share_link);
    view! {
        <Title text="A shared image · Atelier"/>
        <Meta name="robots" content="noindex, nofollow, noimageindex"/>
        <div class="page">
            <Suspense fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || {
                    let secret = secret.clone();
                    Suspend::new(async move {
                        match image.await {
                            Ok(image) => view! { <Shown image=image secret=secret/> }.into_any(),
                            Err(AppError::NotFound) => view! { <NotFound/> }.into_any(),
                            Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                        }
                    })
                }}
            </Suspense>
        </div>
    }
}

#[component]
fn Shown(image: SharedImage, secret: String) -> impl IntoView {
    let file = format!("/s/{secret}/image.png");
    let prompt = image.settings.as_ref().map_or_else(
        || "A shared image".to_owned(),
        |settings| settings.prompt.clone(),
    );
    let facts = image.settings.map(|settings| {
        let negative = settings
            .negative_prompt
            .clone()
            .filter(|prompt| !prompt.is_empty())
            .map(|prompt| view! { <dt>"Negative prompt"</dt><dd>{prompt}</dd> });
        view! {
            <dl class="facts">
                {negative}
                <dt>"Size"</dt><dd class="number">{format!("{} × {}", settings.width, settings.height)}</dd>
                <dt>"Steps"</dt><dd class="number">{settings.num_inference_steps}</dd>
                <dt>"Guidance"</dt><dd class="number">{number_text(settings.guidance_scale)}</dd>
                <dt>"Seed"</dt><dd class="number">{settings.seed.to_string()}</dd>
                <dt>"Model"</dt><dd>{settings.model}</dd>
            </dl>
        }
    });
    view! {
        <div class="image-page">
            <figure class=format!("image-stage {}", ratio_class(image.width, image.height))>
                <a href=file.clone() rel="external" aria-label="Open the file itself">
                    <Picture
                        src=file.clone() alt=prompt.clone() width=image.width height=image.height
                        colour=image.dominant_colour
                    />
                </a>
            </figure>
            <div class="image-side">
                <h1 class="image-prompt">{prompt}</h1>
                <p><a class="button button-main" href=format!("{file}?download") rel="external">"Download"</a></p>
                {facts}
            </div>
        </div>
    }
}
