//! What can be done with one image: kept, marked, collected, started again from, thrown away.

use super::share::Share;
use super::undo::use_undo;
use super::{
    Collection, DeleteImage, ImageDetail, ImageId, collect_images, list_collections, rate_images,
    set_favourite,
};
use crate::account::Role;
use crate::components::{ErrorNotice, Picture, ratio_class};
use crate::error::AppError;
use crate::session::use_viewer_here;
use crate::studio::{GenerationForm, Settings};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_router::hooks::use_navigate;

/// Side lengths that upscaling by the model itself still has a chance with.
const LARGEST_SIDE: u32 = 2048;
/// How much upscaling paints anew: enough for detail, too little for another picture.
const UPSCALE_STRENGTH: f64 = 0.35;
/// How much a close variation paints anew.
const VARIATION_STRENGTH: f64 = 0.55;

/// The buttons beside an image.
#[component]
pub fn Acts(
    /// The image.
    image: ImageDetail,
) -> impl IntoView {
    let id = image.card.id.clone();
    let may_share = use_viewer_here().is_some_and(|viewer| viewer.role != Role::Viewer);
    let own = image.mine.then(|| {
        view! {
            <div class="row row-wrap">
                <Heart id=id.clone() favourite=image.card.favourite/>
                <Stars id=id.clone() rating=image.card.rating/>
                <Delete id=id.clone()/>
            </div>
            <Collect id=id.clone()/>
            {may_share.then(|| view! { <Share id=id.clone()/> })}
        }
    });
    view! {
        <div class="row row-wrap">
            <a
                class="button button-main" href=format!("{}?download", id.file_url()) rel="external"
                download=format!("atelier-{}.png", image.settings.seed)
            >"Download"</a>
            <a class="button" href=format!("/?from={}", id.0)>"Use these settings"</a>
            <a
                class="button" title="Four images close to this one, from its prompt and its picture"
                href=format!("{}&seed=&strength={VARIATION_STRENGTH}&num_images=4", beginning(&id))
            >"Variations"</a>
            {larger(image.settings.width, image.settings.height).map(|(width, height)| view! {
                <a
                    class="button" title=format!("{width} × {height}, its details painted anew")
                    href=format!("{}&width={width}&height={height}&strength={UPSCALE_STRENGTH}", beginning(&id))
                >"Upscale"</a>
            })}
            <Remix id=id.clone() settings=image.settings.clone()/>
        </div>
        {own}
    }
}

/// The studio with an image's settings and the image itself to start from. What a mask left alone is
/// nothing to paint next time.
fn beginning(id: &ImageId) -> String {
    format!("/?from={0}&init_image=image%3A{0}&mask=", id.0)
}

/// Ways to go on from an image, in the studio.
#[component]
fn Remix(id: ImageId, settings: Settings) -> impl IntoView {
    let prompts = GenerationForm {
        prompt: settings.prompt.clone(),
        negative_prompt: settings.negative_prompt.clone().unwrap_or_default(),
        ..GenerationForm::default()
    };
    let seed = GenerationForm {
        seed: settings.seed.to_string(),
        ..GenerationForm::default()
    };
    let again = format!("/?from={}", id.0);
    let start = beginning(&id);
    let onto = |form: GenerationForm| format!("/?onto=draft&{}", form.to_query());
    let ways = [
        (onto(prompts), "Take the prompts only"),
        (onto(seed), "Take the seed only"),
        (
            format!("{again}&seed="),
            "Vary: same settings, another seed",
        ),
        (
            format!("{start}&seed=&strength={VARIATION_STRENGTH}"),
            "Vary: close to this image",
        ),
        (
            format!("/?init_image=image:{}", id.0),
            "Start from this image",
        ),
    ];
    view! {
        <details class="confirm">
            <summary class="button">"Remix …"</summary>
            <div class="confirm-panel confirm-list">
                {ways.into_iter().map(|(href, words)| view! { <a class="menu-item" href=href>{words}</a> }).collect_view()}
            </div>
        </details>
    }
}

/// Twice as large, or half as large again; in multiples of 64, as models like it. `None`: it is
/// large enough.
fn larger(width: u32, height: u32) -> Option<(u32, u32)> {
    let longest = width.max(height);
    let scale = |by: u32| {
        let scaled = |side: u32| ((side * by / 2 + 32) / 64 * 64).max(64);
        (scaled(width), scaled(height))
    };
    if longest * 2 <= LARGEST_SIDE {
        Some(scale(4))
    } else if longest * 3 / 2 <= LARGEST_SIDE {
        Some(scale(3))
    } else {
        None
    }
}

/// Marks the image; a form without wasm.
#[component]
fn Heart(id: ImageId, favourite: bool) -> impl IntoView {
    let marked = RwSignal::new(favourite);
    let problem = RwSignal::new(None::<AppError>);
    let sent = id.0.clone();
    let mark = Action::new(move |favourite: &bool| {
        let (ids, favourite) = (vec![sent.clone()], *favourite);
        async move {
            match set_favourite(ids, favourite).await {
                Ok(_) => marked.set(favourite),
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    view! {
        <form method="post" action="/app/set_favourite">
            <input type="hidden" name="ids[]" value=id.0/>
            <input type="hidden" name="favourite" value=move || (!marked.get()).to_string()/>
            <button
                class="button" type="submit" aria-pressed=move || marked.get().to_string()
                on:click=move |event| {
                    event.prevent_default();
                    mark.dispatch(!marked.get_untracked());
                }
            >
                <span class="heart" class:heart-on=move || marked.get() aria-hidden="true">"♥"</span>
                "Favourite"
            </button>
        </form>
        {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
    }
}

/// One to five stars; the one that is set takes them away again.
#[component]
fn Stars(id: ImageId, rating: u8) -> impl IntoView {
    let given = RwSignal::new(rating);
    let problem = RwSignal::new(None::<AppError>);
    let sent = id.0.clone();
    let rate = Action::new(move |rating: &u8| {
        let (ids, rating) = (vec![sent.clone()], *rating);
        async move {
            match rate_images(ids, rating).await {
                Ok(_) => given.set(rating),
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    let star = move |stars: u8| {
        let next = move || if given.get() == stars { 0 } else { stars };
        let label = match stars {
            1 => "1 star".to_owned(),
            stars => format!("{stars} stars"),
        };
        view! {
            <button
                class="star" class:star-on=move || { given.get() >= stars } type="submit" name="rating" value=move || next().to_string()
                aria-label=label aria-pressed=move || (given.get() == stars).to_string()
                on:click=move |event| {
                    event.prevent_default();
                    rate.dispatch(untrack(next));
                }
            >"★"</button>
        }
    };
    view! {
        <form class="stars" method="post" action="/app/rate_images" role="group" aria-label="Rating">
            <input type="hidden" name="ids[]" value=id.0/>
            {(1..=5).map(star).collect_view()}
        </form>
        {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
    }
}

/// Puts the image into a collection. Which there are is asked when the fold is opened.
#[component]
fn Collect(id: ImageId) -> impl IntoView {
    let collections = RwSignal::new(None::<Vec<Collection>>);
    let said = RwSignal::new(String::new());
    let problem = RwSignal::new(None::<AppError>);
    let load = Action::new(move |(): &()| async move {
        match list_collections().await {
            Ok(all) => collections.set(Some(
                all.into_iter()
                    .filter(|collection| collection.mine)
                    .collect(),
            )),
            Err(error) => problem.set(Some(error)),
        }
    });
    let put = Action::new(move |(collection, name): &(String, String)| {
        let (ids, collection, name) = (vec![id.0.clone()], collection.clone(), name.clone());
        async move {
            match collect_images(ids, collection).await {
                Ok(0) => said.set(format!("It is in \u{201c}{name}\u{201d} already.")),
                Ok(_) => said.set(format!("It is in \u{201c}{name}\u{201d} now.")),
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    view! {
        <details class="fold" on:toggle=move |_| {
            if collections.with_untracked(Option::is_none) {
                load.dispatch(());
            }
        }>
            <summary>"Add to a collection"</summary>
            <div class="chips">
                {move || match collections.get() {
                    None => view! { <a class="chip" href="/collections">"Open the collections"</a> }.into_any(),
                    Some(own) if own.is_empty() => view! {
                        <p class="quiet">"You have no collection yet. "<a href="/collections">"Make one"</a></p>
                    }
                    .into_any(),
                    Some(own) => own
                        .into_iter()
                        .map(|collection| {
                            let name = collection.name.clone();
                            view! {
                                <button class="chip" type="button" on:click=move |_| {
                                    put.dispatch((collection.id.0.clone(), name.clone()));
                                }>{collection.name.clone()}</button>
                            }
                        })
                        .collect_view()
                        .into_any(),
                }}
            </div>
            <p class="small" role="status">{move || said.get()}</p>
            {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
        </details>
    }
}

/// Into the trash: no question is asked, the way back is offered.
#[component]
fn Delete(id: ImageId) -> impl IntoView {
    let action = ServerAction::<DeleteImage>::new();
    let navigate = use_navigate();
    let undo = use_undo();
    let gone = id.clone();
    Effect::new(move |_| {
        if matches!(action.value().get(), Some(Ok(()))) {
            undo.offer(vec![gone.clone()]);
            navigate("/gallery", Default::default());
        }
    });
    let error = move || match action.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }),
        _ => None,
    };
    view! {
        <ActionForm action=action>
            <input type="hidden" name="id" value=id.0/>
            <button class="button button-bad" type="submit" disabled=move || action.pending().get()>"Delete"</button>
        </ActionForm>
        {error}
    }
}

/// Where an image comes from, and what came of it.
#[component]
pub fn Lineage(
    /// The image.
    image: ImageDetail,
) -> impl IntoView {
    let upload = image
        .settings
        .init_image
        .as_ref()
        .map(|file| file.upload_id.clone());
    let came_from = match (image.parent, upload) {
        (Some(parent), _) => Some(
            view! {
                <h2>"Made from"</h2>
                <ul class="kin"><Kin card=parent/></ul>
            }
            .into_any(),
        ),
        (None, Some(upload)) if image.mine => Some(
            view! {
                <h2>"Made from"</h2>
                <p><a href=format!("/api/uploads/{upload}") rel="external">"An image that was uploaded"</a></p>
            }
            .into_any(),
        ),
        _ => None,
    };
    let led_to = (!image.children.is_empty()).then(|| {
        view! {
            <h2>"Made from this one"</h2>
            <ul class="kin">
                {image.children.into_iter().map(|card| view! { <Kin card=card/> }).collect_view()}
            </ul>
        }
    });
    view! {
        {came_from}
        {led_to}
    }
}

#[component]
fn Kin(card: super::ImageCard) -> impl IntoView {
    view! {
        <li class=format!("kin-tile {}", ratio_class(card.width, card.height))>
            <a href=format!("/gallery/{}", card.id.0)>
                <Picture
                    src=card.id.thumbnail_url() alt=card.prompt width=card.width height=card.height
                    colour=card.dominant_colour lazy=true
                />
            </a>
        </li>
    }
}

#[cfg(test)]
mod tests {
    use super::larger;

    #[test]
    fn upscaling_keeps_the_shape_and_stops_somewhere() {
        assert_eq!(larger(1024, 768), Some((2048, 1536)));
        assert_eq!(larger(1344, 768), Some((2048, 1152)));
        assert_eq!(larger(128, 128), Some((256, 256)));
        assert_eq!(larger(2048, 1024), None);
    }
}
