//! What lies over a page when it is asked for: the command palette and the list of shortcuts. Both are
//! fetched when they are first opened.

use super::palette::Palette;
#[cfg(feature = "hydrate")]
use crate::keys::{self, Act};
use crate::keys::{Place, SHORTCUTS};
use leptos::LazyViewError;
use leptos::prelude::*;
use leptos_router::hooks::use_location;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// The command palette.
    Palette,
    /// The list of shortcuts.
    Help,
}

/// Which of them is open.
#[derive(Clone, Copy)]
pub struct Overlays(pub RwSignal<Option<Overlay>>);

/// Makes the overlays known to everything that can open one.
pub fn provide_overlays() {
    provide_context(Overlays(RwSignal::new(None)));
}

/// What opens overlays.
pub fn use_overlays() -> Overlays {
    use_context::<Overlays>().unwrap_or_else(|| Overlays(RwSignal::new(None)))
}

#[lazy(fallible)]
fn open_palette() -> Result<AnyView, LazyViewError> {
    Ok(view! { <Palette/> }.into_any())
}

#[lazy(fallible)]
fn open_help() -> Result<AnyView, LazyViewError> {
    Ok(view! { <Help/> }.into_any())
}

/// Shows the overlay that is open, and hears the keys that open one.
#[component]
pub fn OverlayHost() -> impl IntoView {
    let overlays = use_overlays();
    let path = use_location().pathname;
    Effect::new(move |_| hear(overlays, path));
    // Who goes elsewhere has done with it.
    Effect::new(move |_| {
        path.track();
        overlays.0.set(None);
    });
    move || {
        overlays.0.get().map(|overlay| {
            Suspend::new(async move {
                match overlay {
                    Overlay::Palette => open_palette().await,
                    Overlay::Help => open_help().await,
                }
                // Out of reach of the server there is nothing to show; the page says so already.
                .ok()
            })
        })
    }
}

#[cfg(feature = "hydrate")]
fn hear(overlays: Overlays, path: Memo<String>) {
    let heard = window_event_listener(leptos::ev::keydown, move |event| {
        let place = path.with_untracked(|path| Place::of(path));
        let act = keys::meant(Place::Everywhere, &event).or_else(|| keys::meant(place, &event));
        match act {
            Some(Act::Palette) => overlays.0.set(Some(Overlay::Palette)),
            Some(Act::Help) => overlays.0.set(Some(Overlay::Help)),
            Some(Act::Prompt) if focus("#prompt") => {}
            Some(Act::Search) if focus("main input[type=search]") => {}
            // The rest is heard where it matters: at the form, at the wall.
            _ => return,
        }
        event.prevent_default();
    });
    on_cleanup(move || heard.remove());
}

#[cfg(not(feature = "hydrate"))]
fn hear(_: Overlays, _: Memo<String>) {}

/// Gives the focus to the heading of a page that one has come to, as a page loaded whole would begin at its
/// top: readers hear it, and the next Tab goes on from there.
#[component]
pub fn FocusFollows() -> impl IntoView {
    let path = use_location().pathname;
    Effect::new(move |before: Option<String>| {
        let path = path.get();
        if before.is_some_and(|before| before != path) {
            heading::follow(40);
        } else {
            heading::note();
        }
        path
    });
}

#[cfg(feature = "hydrate")]
mod heading {
    //! The heading that one is at.

    use leptos::prelude::*;
    use std::cell::RefCell;
    use wasm_bindgen::JsCast;

    thread_local! {
        static KNOWN: RefCell<Option<web_sys::Element>> = const { RefCell::new(None) };
    }

    fn now() -> Option<web_sys::Element> {
        document().query_selector("main h1").ok().flatten()
    }

    /// Remembers the heading of the first page.
    pub(super) fn note() {
        KNOWN.set(now());
    }

    /// The page comes when its room and its data have; until then the heading is the old one.
    pub(super) fn follow(tries: u32) {
        let heading = now();
        let is_new = heading.is_some() && KNOWN.with_borrow(|known| *known != heading);
        if !is_new {
            if tries > 0 {
                let again = move || follow(tries - 1);
                crate::hydrated::after(std::time::Duration::from_millis(50), again);
            }
            return;
        }
        KNOWN.set(heading.clone());
        // Whoever is at something already is not interrupted.
        let at_rest = document().active_element().is_none_or(|active| {
            !active
                .matches("main input, main textarea, dialog *")
                .unwrap_or(false)
        });
        let heading = heading.and_then(|heading| heading.dyn_into::<web_sys::HtmlElement>().ok());
        if let Some(heading) = heading.filter(|_| at_rest) {
            // Fails only for attribute names that are none, and elements that are gone.
            let _ = heading.set_attribute("tabindex", "-1");
            // Whoever comes back to a place far down stays there.
            let options = web_sys::FocusOptions::new();
            options.set_prevent_scroll(true);
            let _ = heading.focus_with_options(&options);
        }
    }
}

#[cfg(not(feature = "hydrate"))]
mod heading {
    pub(super) fn note() {}

    pub(super) fn follow(_: u32) {}
}

#[cfg(feature = "hydrate")]
fn focus(selector: &str) -> bool {
    use wasm_bindgen::JsCast;
    let found = document().query_selector(selector).ok().flatten();
    found
        .and_then(|element| element.dyn_into::<web_sys::HtmlElement>().ok())
        .is_some_and(|element| element.focus().is_ok())
}

/// A dialog that is open as long as it is on the page. The browser keeps the focus inside, shuts it on Escape
/// and gives the focus back.
#[component]
pub fn OpenDialog(
    /// Its name for readers.
    label: &'static str,
    /// What it is besides a dialog.
    class: &'static str,
    /// What is in it.
    children: Children,
) -> impl IntoView {
    let overlays = use_overlays();
    let node = NodeRef::<leptos::html::Dialog>::new();
    Effect::new(move |_| {
        if let Some(dialog) = node.get() {
            show(&dialog);
        }
    });
    let shut = move |_| overlays.0.set(None);
    // A press on what lies around it falls on the dialog itself, whose content covers all of it.
    let pressed = move |event: leptos::ev::MouseEvent| {
        if event.target() == event.current_target() {
            overlays.0.set(None);
        }
    };
    view! {
        <dialog class=format!("over {class}") aria-label=label node_ref=node on:close=shut on:click=pressed>
            <div class="over-inside">{children()}</div>
        </dialog>
    }
}

#[cfg(feature = "hydrate")]
fn show(dialog: &web_sys::HtmlDialogElement) {
    // Fails where it is open already.
    let _ = dialog.show_modal();
}

#[cfg(not(feature = "hydrate"))]
fn show<T>(_: &T) {}

/// Every shortcut, those of this page first.
#[component]
fn Help() -> impl IntoView {
    let overlays = use_overlays();
    let here = use_location()
        .pathname
        .with_untracked(|path| Place::of(path));
    let mut places = vec![Place::Everywhere, Place::Studio, Place::Wall];
    places.sort_by_key(|place| *place != here);
    let groups = places
        .into_iter()
        .map(|place| {
            let rows = SHORTCUTS
                .iter()
                .filter(|shortcut| shortcut.place == place)
                .map(|shortcut| {
                    let caps = shortcut
                        .caps()
                        .into_iter()
                        .map(|cap| view! { <kbd class="cap">{cap}</kbd> });
                    view! {
                        <div class="key-row">
                            <dt>{caps.collect_view()}</dt>
                            <dd>{shortcut.does}</dd>
                        </div>
                    }
                })
                .collect_view();
            view! {
                <section class="key-group">
                    <h3>{place.title()}</h3>
                    <dl>{rows}</dl>
                </section>
            }
        })
        .collect_view();
    view! {
        <OpenDialog label="Keyboard shortcuts" class="over-keys">
            <div class="over-head">
                <h2>"Keyboard shortcuts"</h2>
                <button class="button button-small" type="button" on:click=move |_| overlays.0.set(None)>"Close"</button>
            </div>
            <div class="key-groups">{groups}</div>
            <p class="quiet small">"On a Mac, ⌘ is as good as Ctrl. None of them works while you type in a field, except those with Ctrl."</p>
        </OpenDialog>
    }
}
