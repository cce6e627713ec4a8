//! Several images at once: chosen by click, shift, keyboard or a long touch; changed by one button.

use super::undo::use_undo;
use super::{
    Collection, ImageId, MAX_SELECTED, collect_images, set_favourite, trash_images,
    uncollect_images,
};
use crate::components::ErrorNotice;
use crate::error::AppError;
use crate::hydrated::use_hydrated;
use leptos::prelude::*;
use std::collections::BTreeSet;

/// Which images are chosen.
#[derive(Clone, Copy)]
pub struct Selection {
    chosen: RwSignal<BTreeSet<ImageId>>,
    /// Where a range begins: the place of what was chosen last.
    anchor: StoredValue<Option<usize>>,
    /// Whether more were to be chosen than can be.
    is_full: RwSignal<bool>,
}

impl Selection {
    /// Nothing is chosen.
    pub fn new() -> Self {
        Self {
            chosen: RwSignal::new(BTreeSet::new()),
            anchor: StoredValue::new(None),
            is_full: RwSignal::new(false),
        }
    }

    /// Whether an image is chosen.
    pub fn has(&self, id: &ImageId) -> bool {
        self.chosen.with(|chosen| chosen.contains(id))
    }

    /// Whether anything is chosen.
    pub fn is_active(&self) -> bool {
        self.chosen.with(|chosen| !chosen.is_empty())
    }

    /// How many are chosen.
    pub fn count(&self) -> usize {
        self.chosen.with(BTreeSet::len)
    }

    /// What is chosen.
    pub fn ids(&self) -> Vec<ImageId> {
        self.chosen.with(|chosen| chosen.iter().cloned().collect())
    }

    /// How many are chosen, in words.
    pub fn words(&self) -> String {
        match (self.count(), self.is_full.get()) {
            (0, _) => "Nothing selected".to_owned(),
            (count, false) => format!("{count} selected"),
            (count, true) => format!("{count} selected, the most at once"),
        }
    }

    /// Chooses nothing.
    pub fn clear(&self) {
        if self.chosen.with_untracked(|chosen| !chosen.is_empty()) {
            self.chosen.update(BTreeSet::clear);
        }
        self.forget_anchor();
        self.is_full.set(false);
    }

    /// Chooses these too, as far as so many can be chosen.
    pub fn add(&self, ids: Vec<ImageId>) {
        let mut is_full = false;
        self.chosen.update(|chosen| {
            for id in ids {
                if chosen.len() >= MAX_SELECTED && !chosen.contains(&id) {
                    is_full = true;
                    break;
                }
                chosen.insert(id);
            }
        });
        self.is_full.set(is_full);
    }

    /// Says that more were to be chosen than can be.
    pub fn say_full(&self) {
        self.is_full.set(true);
    }

    /// Chooses an image or lets go of it; it is at this place.
    pub fn toggle(&self, id: ImageId, at: usize) {
        if !self
            .chosen
            .try_update(|chosen| chosen.remove(&id))
            .unwrap_or(false)
        {
            self.add(vec![id]);
        } else {
            self.is_full.set(false);
        }
        self.set_anchor(at);
    }

    /// Where a range begins.
    pub fn anchor(&self) -> Option<usize> {
        self.anchor.get_value()
    }

    /// A range begins here.
    pub fn set_anchor(&self, at: usize) {
        self.anchor.set_value(Some(at));
    }

    /// Places are no longer what they were.
    pub fn forget_anchor(&self) {
        self.anchor.set_value(None);
    }
}

/// What was done to the chosen images, for the list that shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// They are not in the list any more.
    Gone(Vec<ImageId>),
    /// They are marked, or no longer.
    Marked(Vec<ImageId>, bool),
}

/// The bar of what can be done to the chosen images. Without wasm it is a form, and always there.
#[component]
pub fn SelectionBar(
    /// What is chosen.
    selection: Selection,
    /// Whether the images are the viewer's own.
    #[prop(into)]
    mine: Signal<bool>,
    /// The viewer's collections.
    #[prop(into)]
    collections: Signal<Vec<Collection>>,
    /// The collection that is shown, if one is.
    #[prop(into)]
    inside: Signal<String>,
    /// What was done.
    done: WriteSignal<Option<Done>>,
    /// Chooses everything that was asked for.
    choose_all: Callback<()>,
) -> impl IntoView {
    let hydrated = use_hydrated();
    let undo = use_undo();
    let problem = RwSignal::new(None::<AppError>);
    let said = RwSignal::new(String::new());
    let ids = move || -> Vec<String> { selection.ids().into_iter().map(|id| id.0).collect() };
    let finish = move |result: Result<u32, AppError>, words: &'static str, change: Option<Done>| {
        match result {
            Ok(count) => {
                problem.set(None);
                said.set(match count {
                    1 => format!("1 image {words}."),
                    count => format!("{count} images {words}."),
                });
                if let Some(Done::Gone(_)) = change {
                    selection.clear();
                }
                done.set(change);
            }
            Err(error) => problem.set(Some(error)),
        }
    };
    let trash = Action::new(move |(): &()| {
        let chosen = selection.ids();
        async move {
            let ids = chosen.iter().map(|id| id.0.clone()).collect();
            let result = trash_images(ids).await;
            if result.is_ok() {
                undo.offer(chosen.clone());
            }
            finish(result, "moved to the trash", Some(Done::Gone(chosen)));
        }
    });
    let mark = Action::new(move |favourite: &bool| {
        let (chosen, favourite) = (selection.ids(), *favourite);
        async move {
            let ids = chosen.iter().map(|id| id.0.clone()).collect();
            let result = set_favourite(ids, favourite).await;
            let words = match favourite {
                true => "marked as favourites",
                false => "no longer marked",
            };
            finish(result, words, Some(Done::Marked(chosen, favourite)));
        }
    });
    let collect = Action::new(move |collection: &String| {
        let (ids, collection) = (ids(), collection.clone());
        async move {
            let result = collect_images(ids, collection).await;
            finish(result, "put into the collection", None);
        }
    });
    let uncollect = Action::new(move |(): &()| {
        let (chosen, collection) = (selection.ids(), inside.get_untracked());
        async move {
            let ids = chosen.iter().map(|id| id.0.clone()).collect();
            let result = uncollect_images(ids, collection).await;
            finish(
                result,
                "taken out of the collection",
                Some(Done::Gone(chosen)),
            );
        }
    });
    delete_key(selection, mine, move || {
        trash.dispatch(());
    });
    let busy = move || {
        trash.pending().get()
            || mark.pending().get()
            || collect.pending().get()
            || uncollect.pending().get()
    };
    let chooser = NodeRef::<leptos::html::Select>::new();
    let own = move || {
        collections.with(|all| {
            all.iter()
                .filter(|collection| collection.mine)
                .cloned()
                .collect::<Vec<_>>()
        })
    };
    let count = move || selection.words();
    view! {
        <form
            id="bulk"
            class="selection"
            class:selection-idle=move || hydrated.get() && !selection.is_active()
            method="post"
            action="/app/trash_images"
            aria-label="Selected images"
        >
            // Tiles that are scrolled out of sight are not on the page; what they stand for is here.
            {move || hydrated.get().then(|| view! {
                <input type="hidden" name="ids" value=move || ids().join(",")/>
            })}
            <p class="selection-count number" role="status" aria-live="polite">
                {count}
                <span class="hidden">{move || said.get()}</span>
            </p>
            {move || (hydrated.get() && selection.count() == 2).then(|| {
                let ids = selection.ids();
                let href = match ids.as_slice() {
                    [a, b] => format!("/compare?a={}&b={}", a.0, b.0),
                    _ => "/gallery".into(),
                };
                view! { <a class="button button-small" href=href>"Compare"</a> }
            })}
            <button
                class="button button-small" type="submit" formaction="/api/images/zip" disabled=busy
            >"Download"</button>
            {move || mine.get().then(|| view! {
                <button
                    class="button button-small" type="submit" formaction="/app/set_favourite"
                    name="favourite" value="true" disabled=busy
                    on:click=move |event| {
                        event.prevent_default();
                        mark.dispatch(true);
                    }
                >"Favourite"</button>
                <button
                    class="button button-small" type="submit" formaction="/app/set_favourite"
                    name="favourite" value="false" disabled=busy
                    on:click=move |event| {
                        event.prevent_default();
                        mark.dispatch(false);
                    }
                >"Not favourite"</button>
                {move || {
                    let own = own();
                    (!own.is_empty()).then(|| view! {
                        <span class="joined selection-collect">
                            <label class="hidden" for="bulk-collection">"Collection"</label>
                            <select class="input input-small" id="bulk-collection" name="collection" node_ref=chooser>
                                {own.into_iter().map(|collection| view! {
                                    <option value=collection.id.0>{collection.name}</option>
                                }).collect_view()}
                            </select>
                            <button
                                class="button button-small" type="submit" formaction="/app/collect_images" disabled=busy
                                on:click=move |event| {
                                    event.prevent_default();
                                    if let Some(select) = chooser.get_untracked() {
                                        collect.dispatch(select.value());
                                    }
                                }
                            >"Add to it"</button>
                        </span>
                    })
                }}
                {move || (hydrated.get() && !inside.with(String::is_empty)).then(|| view! {
                    <button
                        class="button button-small" type="button" disabled=busy
                        on:click=move |_| {
                            uncollect.dispatch(());
                        }
                    >"Take out"</button>
                })}
                <button
                    class="button button-small button-bad" type="submit" disabled=busy
                    on:click=move |event| {
                        event.prevent_default();
                        trash.dispatch(());
                    }
                >"Delete"</button>
            })}
            {move || hydrated.get().then(|| view! {
                <button class="button button-small" type="button" on:click=move |_| choose_all.run(())>"Select all"</button>
                <button class="button button-small" type="button" on:click=move |_| selection.clear()>"Clear"</button>
            })}
        </form>
        {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
    }
}

/// Escape lets go, Delete deletes: wherever on the page, unless somebody is typing.
#[cfg(feature = "hydrate")]
fn delete_key(selection: Selection, mine: Signal<bool>, trash: impl Fn() + 'static) {
    use crate::keys::{Act, Place, meant};
    let heard = window_event_listener(leptos::ev::keydown, move |event| {
        if !selection.chosen.with_untracked(|chosen| !chosen.is_empty()) {
            return;
        }
        match meant(Place::Wall, &event) {
            Some(Act::LetGo) => selection.clear(),
            Some(Act::Delete) if mine.get_untracked() => {
                event.prevent_default();
                trash();
            }
            _ => {}
        }
    });
    on_cleanup(move || heard.remove());
}

#[cfg(not(feature = "hydrate"))]
fn delete_key(_: Selection, _: Signal<bool>, _: impl Fn() + 'static) {}
