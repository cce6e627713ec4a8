//! `/gallery`: the viewer's own images and shared collections, newest first, with what to look for in
//! the address. Without wasm it is a form and links; with it, nothing is loaded twice.

use super::calls::GalleryData;
use super::import::ImportField;
use super::places::{Place, Places};
use super::search_bar::SearchBar;
use super::selection::{Done, Selection, SelectionBar};
use super::undo::use_undo;
use super::wall::Wall;
use super::{ImageQuery, MAX_PAGE, find_images, load_gallery};
use crate::account::Role;
use crate::components::{ErrorNotice, Notice, Tone};
use crate::error::AppError;
use crate::session::{SignedInOnly, use_viewer_here};
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
    let map = use_query_map();
    let asked = Memo::new(move |_| {
        map.with(|map| {
            let query = ImageQuery::from_lookup(|name| map.get(name)).tidy();
            (query, map.get("after").unwrap_or_default())
        })
    });
    // Only the first answer is waited for; later ones are put into the page that is there.
    let first = Resource::new(
        || (),
        move |()| {
            let (query, after) = asked.get_untracked();
            load_gallery(query, after)
        },
    );
    view! {
        <div class="page">
            <Suspense fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match first.await {
                        Ok(data) => view! { <Room data=data asked=asked/> }.into_any(),
                        Err(error) => view! {
                            <h1>"Gallery"</h1>
                            <ErrorNotice error=error/>
                            <p><a href="/gallery" rel="external">"To the newest images"</a></p>
                        }
                        .into_any(),
                    }
                })}
            </Suspense>
        </div>
    }
}

#[component]
fn Room(data: GalleryData, asked: Memo<(ImageQuery, String)>) -> impl IntoView {
    let trashed = use_query_map().with_untracked(|map| {
        map.get("trashed")
            .and_then(|count| count.parse::<u32>().ok())
    });
    let may_import = use_viewer_here().is_some_and(|viewer| viewer.role != Role::Viewer);
    let empty_house = data.page.total == 0
        && data.query.is_empty()
        && data.collections.is_empty()
        && trashed.is_none();
    let images = RwSignal::new(data.page.images);
    let next = RwSignal::new(data.page.next);
    let total = RwSignal::new((data.page.total, data.page.more));
    let mine = RwSignal::new(data.page.mine);
    let facets = RwSignal::new(data.facets);
    let collections = RwSignal::new(data.collections);
    let query = RwSignal::new(data.query);
    let is_older = RwSignal::new(data.is_older);
    let problem = RwSignal::new(None::<AppError>);
    let selection = Selection::new();
    let undo = use_undo();

    // The latest question counts: an answer to an earlier one that comes late is let go.
    let question = StoredValue::new(0_u32);
    let look = move |(asked_query, after): (ImageQuery, String)| {
        question.update_value(|question| *question += 1);
        let mine_is = question.get_value();
        leptos::task::spawn_local(async move {
            let answer = load_gallery(asked_query, after).await;
            if question.try_get_value() != Some(mine_is) {
                return;
            }
            match answer {
                Ok(data) => {
                    problem.set(None);
                    selection.clear();
                    images.set(data.page.images);
                    next.set(data.page.next);
                    total.set((data.page.total, data.page.more));
                    mine.set(data.page.mine);
                    facets.set(data.facets);
                    collections.set(data.collections);
                    query.set(data.query);
                    is_older.set(data.is_older);
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    };
    Effect::new(move |before: Option<((ImageQuery, String), u32)>| {
        let now = (asked.get(), undo.returned.get());
        if before.is_some_and(|before| before != now) {
            look(now.0.clone());
        }
        now
    });

    let more = Action::new(move |after: &String| {
        let (after, asked_for) = (after.clone(), query.get_untracked());
        let mine_is = question.get_value();
        async move {
            let answer = find_images(asked_for, after, MAX_PAGE).await;
            if question.try_get_value() != Some(mine_is) {
                return;
            }
            match answer {
                Ok(page) => {
                    problem.set(None);
                    images.update(|images| images.extend(page.images));
                    next.set(page.next);
                }
                Err(error) => problem.set(Some(error)),
            }
        }
    });

    let (done, set_done) = signal(None::<Done>);
    Effect::new(move |_| match done.get() {
        Some(Done::Gone(ids)) => {
            let before = images.with_untracked(Vec::len);
            images.update(|images| images.retain(|image| !ids.contains(&image.id)));
            let gone = before - images.with_untracked(Vec::len);
            total.update(|total| total.0 = total.0.saturating_sub(gone as u64));
        }
        Some(Done::Marked(ids, favourite)) => images.update(|images| {
            for image in images.iter_mut().filter(|image| ids.contains(&image.id)) {
                image.favourite = favourite;
            }
        }),
        None => {}
    });

    let here = move || {
        query.with(|query| {
            if !query.collection.is_empty() {
                None
            } else if query.favourite.is_empty() {
                Some(Place::All)
            } else {
                Some(Place::Favourites)
            }
        })
    };
    let title = move || {
        let inside = query.with(|query| query.collection.clone());
        collections.with(|all| {
            all.iter()
                .find(|collection| collection.id.0 == inside)
                .map_or_else(|| "Gallery".to_owned(), |found| found.name.clone())
        })
    };
    let counted = move || {
        let (count, more) = total.get();
        let is_all = query.with(ImageQuery::is_empty);
        match (count, more, is_all) {
            (1, false, true) => "1 image".to_owned(),
            (count, false, true) => format!("{count} images"),
            (1, false, false) => "1 image found".to_owned(),
            (count, false, false) => format!("{count} images found"),
            (count, true, _) => format!("more than {count} images found"),
        }
    };
    let start = move || query.with(|query| query.address(None));
    let is_empty_house = move || empty_house && total.get().0 == 0;
    let room = move || {
        view! {
            <div class="page-head">
                <h1>{title}</h1>
                <p class="quiet number" role="status">{counted}</p>
                {move || is_older.get().then(|| view! { <a class="button button-small" href=start>"Newest first"</a> })}
                {move || query.with(ImageQuery::is_search).then(|| view! {
                    <a class="button button-small" href="/gallery">"Show everything"</a>
                })}
            </div>
            {trashed.map(|count| view! {
                <Notice tone=Tone::Good>
                    <p>
                        {if count == 1 { "The image is in the trash. ".to_owned() } else { format!("{count} images are in the trash. ") }}
                        <a href="/trash">"Open the trash"</a>
                    </p>
                </Notice>
            })}
            <SearchBar query=query facets=facets collections=collections/>
            {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
            <Show
                when=move || images.with(|images| !images.is_empty())
                fallback=move || view! {
                    <p class="quiet nothing">
                        {move || if query.with(ImageQuery::is_search) {
                            "No image has all of that. Take something away from the search."
                        } else if !query.with(|query| query.collection.is_empty()) {
                            "Nothing is in this collection yet. Select images in the gallery and add them to it."
                        } else if !query.with(|query| query.favourite.is_empty()) {
                            "No favourites yet. Open an image and press its heart, or select several and press Favourite."
                        } else {
                            "Nothing here."
                        }}
                    </p>
                }
            >
                <SelectionBar
                    selection=selection
                    mine=mine
                    collections=collections
                    inside=Signal::derive(move || query.with(|query| query.collection.clone()))
                    done=set_done
                />
                <Wall images=images selection=selection/>
            </Show>
            {move || next.get().map(|cursor| {
                let href = query.with(|query| query.address(Some(&cursor)));
                let click = move |event: leptos::ev::MouseEvent| {
                    // A new tab stays a new tab.
                    if event.ctrl_key() || event.meta_key() || event.shift_key() || event.button() != 0 {
                        return;
                    }
                    event.prevent_default();
                    if !more.pending().get_untracked() {
                        more.dispatch(cursor.clone());
                    }
                };
                view! {
                    <p class="wall-more">
                        <a class="button" href=href on:click=click>
                            {move || if more.pending().get() { "Loading …" } else { "Load older" }}
                        </a>
                    </p>
                }
            })}
        }
    };
    view! {
        <Places here=Signal::derive(here)/>
        <Show when=move || !is_empty_house() fallback=|| view! { <Empty/> }>
            {room()}
        </Show>
        {may_import.then(|| view! { <ImportField/> })}
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
                "Every image you make is kept with the exact settings that made it. You can download it, look its numbers up, or start again from them. Only you see them, unless you share a collection."
            </p>
            <a class="button button-main" href="/">"Make the first one"</a>
        </section>
    }
}
