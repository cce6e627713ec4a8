//! `/gallery`: the viewer's own images, newest first.

use super::{GalleryPage as Page, ImageCard, list_images};
use crate::components::{ErrorNotice, Picture, percent_encode, ratio_class};
use crate::error::AppError;
use crate::session::SignedInOnly;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/gallery`
#[component]
pub fn GalleryPage() -> impl IntoView {
    view! {
        <Title text="Gallery · Atelier"/>
        <SignedInOnly>
            <Gallery/>
        </SignedInOnly>
    }
}

#[component]
fn Gallery() -> impl IntoView {
    let query = use_query_map();
    let after = Memo::new(move |_| query.with(|query| query.get("after")).unwrap_or_default());
    let first = Resource::new(move || after.get(), |after| list_images(after, 0));
    view! {
        <div class="page">
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match first.await {
                        Ok(page) => view! { <Wall first=page is_older=!after.get_untracked().is_empty()/> }.into_any(),
                        Err(error) => view! {
                            <h1>"Gallery"</h1>
                            <ErrorNotice error=error/>
                            <p><a href="/gallery">"To the newest images"</a></p>
                        }
                        .into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

/// All pages loaded so far, as one wall. "Load older" is a real link; with wasm running it appends.
#[component]
fn Wall(first: Page, is_older: bool) -> impl IntoView {
    let total = first.total;
    let next = RwSignal::new(first.next);
    let images = RwSignal::new(first.images);
    let problem = RwSignal::new(None::<AppError>);
    let load = Action::new(move |after: &String| {
        let after = after.clone();
        async move {
            match list_images(after, 0).await {
                Ok(page) => {
                    problem.set(None);
                    images.update(|images| images.extend(page.images));
                    next.set(page.next);
                }
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    if total == 0 {
        return view! { <Empty/> }.into_any();
    }
    view! {
        <div class="page-head">
            <h1>"Gallery"</h1>
            <p class="quiet number">{if total == 1 { "1 image".to_owned() } else { format!("{total} images") }}</p>
            {is_older.then(|| view! { <a class="button button-small" href="/gallery">"Newest first"</a> })}
        </div>
        <ul class="wall">
            <For each=move || images.get() key=|image| image.id.0.clone() let:image>
                <Tile image=image/>
            </For>
            // Takes up what the last row leaves free, so that its images keep their size.
            <li class="wall-rest" aria-hidden="true"></li>
        </ul>
        {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
        {move || next.get().map(|cursor| {
            let href = format!("/gallery?after={}", percent_encode(&cursor));
            let click = move |event: leptos::ev::MouseEvent| {
                // A new tab stays a new tab.
                if event.ctrl_key() || event.meta_key() || event.shift_key() || event.button() != 0 {
                    return;
                }
                event.prevent_default();
                if !load.pending().get_untracked() {
                    load.dispatch(cursor.clone());
                }
            };
            view! {
                <p class="wall-more">
                    <a class="button" href=href on:click=click>
                        {move || if load.pending().get() { "Loading …" } else { "Load older" }}
                    </a>
                </p>
            }
        })}
    }
    .into_any()
}

#[component]
fn Tile(image: ImageCard) -> impl IntoView {
    view! {
        <li class=format!("tile {}", ratio_class(image.width, image.height))>
            <a class="tile-link" href=format!("/gallery/{}", image.id.0)>
                <Picture
                    src=image.id.thumbnail_url()
                    alt=image.prompt.clone()
                    width=image.width
                    height=image.height
                    colour=image.dominant_colour
                    lazy=true
                />
                <span class="tile-words" aria-hidden="true">{image.prompt}</span>
            </a>
        </li>
    }
}

#[component]
fn Empty() -> impl IntoView {
    view! {
        <section class="empty">
            <svg class="empty-mark" viewBox="0 0 96 64" aria-hidden="true">
                <rect x="2" y="8" width="28" height="48" rx="4"></rect>
                <rect x="34" y="8" width="36" height="22" rx="4"></rect>
                <rect x="34" y="34" width="22" height="22" rx="4"></rect>
                <rect x="60" y="34" width="34" height="22" rx="4"></rect>
                <rect x="74" y="8" width="20" height="22" rx="4"></rect>
            </svg>
            <h1>"Your images will hang here"</h1>
            <p class="quiet">
                "Every image you make is kept with the exact settings that made it. You can download it, look its numbers up, or start again from them. Only you see them."
            </p>
            <a class="button button-main" href="/">"Make the first one"</a>
        </section>
    }
}
