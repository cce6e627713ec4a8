//! `/gallery`: the viewer's own images and shared collections, newest first, with what to look for in
//! the address. Without wasm it is a form and links; with it, nothing is loaded twice.

use super::calls::GalleryData;
use super::hanging::Hanging;
use super::import::ImportField;
use super::loader::Loader;
use super::places::{Place, Places};
use super::search_bar::SearchBar;
use super::selection::{Done, Selection, SelectionBar};
use super::sight;
use super::undo::use_undo;
use super::wall::Wall;
use super::way_back::{Left, use_way_back};
use super::{ImageQuery, MARK_EVERY, MAX_SELECTED, load_gallery, outline_images, pick_images};
use crate::account::Role;
use crate::components::{ErrorNotice, Notice, Tone};
use crate::error::AppError;
use crate::live::use_live;
use crate::session::{SignedInOnly, use_viewer_here};
use crate::studio::JobId;
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
            // The server's page comes without shapes: they are fetched when somebody can scroll.
            load_gallery(query, after, cfg!(feature = "hydrate"))
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
    let hanging = Hanging::new(Vec::new());
    let rest = RwSignal::new(
        data.outline
            .as_ref()
            .and_then(|outline| outline.next.clone()),
    );
    let is_outlined = RwSignal::new(data.outline.is_some() || data.page.next.is_none());
    hanging.replace(data.page.images, data.outline);
    let next = RwSignal::new(data.page.next);
    let total = RwSignal::new((data.page.total, data.page.more));
    let mine = RwSignal::new(data.page.mine);
    let facets = RwSignal::new(data.facets);
    let collections = RwSignal::new(data.collections);
    let query = RwSignal::new(data.query);
    let is_older = RwSignal::new(data.is_older);
    let after = StoredValue::new(asked.with_untracked(|asked| asked.1.clone()));
    let problem = RwSignal::new(None::<AppError>);
    let selection = Selection::new();
    let undo = use_undo();
    let way = use_way_back();

    // The latest question counts: an answer to an earlier one that comes late is let go.
    let question = StoredValue::new(0_u32);
    let is_asked = move |mine: u32| question.try_get_value() == Some(mine);
    let loader = Loader::new(hanging, query, problem, question);
    let look = move |(asked_query, asked_after): (ImageQuery, String)| {
        question.update_value(|question| *question += 1);
        let mine_is = question.get_value();
        leptos::task::spawn_local(async move {
            let answer = load_gallery(asked_query, asked_after.clone(), true).await;
            if !is_asked(mine_is) {
                return;
            }
            match answer {
                Ok(data) => {
                    problem.set(None);
                    selection.clear();
                    loader.forget();
                    after.set_value(asked_after);
                    rest.set(
                        data.outline
                            .as_ref()
                            .and_then(|outline| outline.next.clone()),
                    );
                    is_outlined.set(true);
                    query.set(data.query);
                    hanging.replace(data.page.images, data.outline);
                    next.set(data.page.next);
                    total.set((data.page.total, data.page.more));
                    mine.set(data.page.mine);
                    facets.set(data.facets);
                    collections.set(data.collections);
                    is_older.set(data.is_older);
                    loader.load();
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    };
    let look_again = move || look(asked.get_untracked());
    Effect::new(move |before: Option<((ImageQuery, String), u32, u32)>| {
        let now = (asked.get(), undo.returned.get(), loader.is_stale.get());
        if before.is_some_and(|before| before != now) {
            look(now.0.clone());
        }
        now
    });
    // The server's page had no shapes; now there is somebody to scroll.
    Effect::new(move |_| {
        if is_outlined.get_untracked() {
            return;
        }
        let mine_is = question.get_value();
        let (asked_for, asked_after) = (query.get_untracked(), after.get_value());
        leptos::task::spawn_local(async move {
            let answer = outline_images(asked_for, asked_after).await;
            if !is_asked(mine_is) {
                return;
            }
            match answer {
                Ok(outline) => {
                    rest.set(outline.next.clone());
                    hanging.outline(outline);
                    is_outlined.set(true);
                    loader.load();
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    });
    // Part by part: one answer holds so many shapes.
    Effect::new(move |_| {
        let Some(cursor) = rest.get() else { return };
        let (mine_is, asked_for) = (question.get_value(), query.get_untracked());
        leptos::task::spawn_local(async move {
            let answer = outline_images(asked_for, cursor).await;
            if !is_asked(mine_is) {
                return;
            }
            match answer {
                Ok(outline) => {
                    let more = outline.next.clone();
                    hanging.extend(outline);
                    rest.set(more);
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    });
    // Whoever comes back from an image comes back to where it hangs.
    Effect::new(move |_| {
        let address = query.with_untracked(|query| query.address(None));
        if let Some(left) = way.take(&address) {
            sight::scroll_to(left.top);
        }
    });
    let leave = Callback::new(move |(at, top)| {
        let address = query.with_untracked(|query| query.address(None));
        way.leave(Left { address, at, top });
    });
    // A finished image comes to whoever looks at the newest ones.
    let live = use_live();
    Effect::new(move |before: Option<Option<JobId>>| {
        let ended = live.ended.with(|job| {
            job.as_ref()
                .filter(|job| job.image_id.is_some())
                .map(|job| job.id.clone())
        });
        let is_new = before.is_some_and(|before| before != ended) && ended.is_some();
        let at_top = loader.is_at_top() && !is_older.get_untracked();
        if is_new && at_top && !untrack(|| selection.is_active()) {
            look_again();
        }
        ended
    });
    let choose_far = Callback::new(move |(from, to): (usize, usize)| {
        let (first, cursor) = hanging.cursor_before(from);
        let count = (to + 1 - first).min(MAX_SELECTED + MARK_EVERY);
        let (mine_is, asked_for) = (question.get_value(), query.get_untracked());
        leptos::task::spawn_local(async move {
            let limit = u32::try_from(count).unwrap_or(u32::MAX);
            let answer = pick_images(asked_for, cursor, limit).await;
            if !is_asked(mine_is) {
                return;
            }
            match answer {
                Ok(mut ids) => {
                    ids.drain(..(from - first).min(ids.len()));
                    ids.truncate(to + 1 - from);
                    let is_all = ids.len() == to + 1 - from;
                    selection.add(ids);
                    if !is_all {
                        selection.say_full();
                    }
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    });
    let choose_all = Callback::new(move |()| {
        let last = hanging.len_untracked().saturating_sub(1);
        match hanging.ids(0, last) {
            Some(ids) => selection.add(ids),
            None => choose_far.run((0, last)),
        }
    });

    let (done, set_done) = signal(None::<Done>);
    Effect::new(move |_| match done.get() {
        Some(Done::Gone(ids)) => {
            selection.forget_anchor();
            if hanging.remove(&ids) {
                let gone = ids.len() as u64;
                total.update(|total| total.0 = total.0.saturating_sub(gone));
                loader.load();
            } else {
                look_again();
            }
        }
        Some(Done::Marked(ids, favourite)) => {
            hanging.change(&ids, |card| card.favourite = favourite);
        }
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
    let has_images = Memo::new(move |_| hanging.len() > 0);
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
                when=move || has_images.get()
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
                    choose_all=choose_all
                />
                <Wall
                    hanging=hanging
                    selection=selection
                    look_at=Callback::new(move |places| loader.look_at(places))
                    choose_far=choose_far
                    leave=leave
                />
            </Show>
            // Without wasm, and until all shapes are known, older images are a page away.
            {move || next.get().filter(|_| !is_outlined.get()).map(|cursor| {
                let href = query.with(|query| query.address(Some(&cursor)));
                view! { <p class="wall-more"><a class="button" href=href rel="external">"Load older"</a></p> }
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
