//! The bar on top of every page: where one is, who one is, light or dark, the way out.

use super::overlay::{Overlay, use_overlays};
use crate::account::Viewer;
use crate::session::use_site_name;
use leptos::prelude::*;
use leptos_router::hooks::use_location;

/// The bar. Without a viewer it shows the name of the house only.
#[component]
pub fn Nav(
    /// Who is signed in.
    viewer: Option<Viewer>,
) -> impl IntoView {
    let is_signed_in = viewer.is_some();
    let is_admin = viewer.as_ref().is_some_and(Viewer::is_admin);
    let places = viewer.is_some().then(|| {
        view! {
            <nav class="places" aria-label="Pages">
                <Place href="/" name="Studio"/>
                <Place href="/gallery" name="Gallery"/>
                {is_admin.then(|| view! { <Place href="/admin" name="Admin"/> })}
            </nav>
        }
    });
    let panel = NodeRef::<leptos::html::Details>::new();
    let path = use_location().pathname;
    // The menu shuts when one goes elsewhere, on the site or on the page.
    Effect::new(move |_| {
        path.get();
        if let Some(details) = panel.get() {
            details.set_open(false);
        }
    });
    Effect::new(move |_| shut_from_outside(panel));
    let overlays = use_overlays();
    let open = move |overlay: Overlay| {
        if let Some(details) = panel.get_untracked() {
            details.set_open(false);
        }
        overlays.0.set(Some(overlay));
    };
    let menu = viewer.map(|viewer| {
        let initial = viewer
            .name
            .chars()
            .next()
            .map(|first| first.to_uppercase().to_string())
            .unwrap_or_default();
        view! {
            <details class="menu" id="user-menu" node_ref=panel>
                <summary class="menu-button" aria-label=format!("Account menu of {}", viewer.name)>
                    // Drawn, not written: what is written should be part of the button's name.
                    <span class="avatar" data-initial=initial aria-hidden="true"></span>
                    <span class="menu-name">{viewer.name.clone()}</span>
                </summary>
                <div class="menu-panel">
                    <p class="menu-who">
                        <span>{viewer.name.clone()}</span>
                        <span class="quiet">{viewer.role.as_str()}</span>
                    </p>
                    <a class="menu-item" href="/account">"Account and API tokens"</a>
                    <button class="menu-item menu-live" type="button" aria-keyshortcuts="Control+K Meta+K" on:click=move |_| open(Overlay::Palette)>"Command palette"</button>
                    <button class="menu-item menu-live" type="button" aria-keyshortcuts="?" on:click=move |_| open(Overlay::Help)>"Keyboard shortcuts"</button>
                    <div class="menu-themes" role="group" aria-label="Theme">
                        <button class="chip" type="button" on:click=move |_| set_theme(Theme::Light)>"Light"</button>
                        <button class="chip" type="button" on:click=move |_| set_theme(Theme::Dark)>"Dark"</button>
                        <button class="chip" type="button" on:click=move |_| set_theme(Theme::Auto)>"Auto"</button>
                    </div>
                    // A plain form: signing out loads the next page afresh, with or without wasm.
                    <form method="post" action="/app/sign_out">
                        <button class="menu-item" type="submit">"Sign out"</button>
                    </form>
                </div>
            </details>
        }
    });
    view! {
        <header class="bar">
            <a class="brand" href="/" aria-label=format!("{}, to the studio", use_site_name())>
                <svg class="brand-mark" viewBox="0 0 24 24" aria-hidden="true">
                    <path d="M12 2.5 21 20.5H3Z" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"></path>
                    <circle class="brand-dot" cx="12" cy="14.5" r="2.6"></circle>
                </svg>
                <span class="brand-name">{use_site_name()}</span>
            </a>
            {places}
            <div class="bar-end">
                {is_signed_in.then(|| view! {
                    <button class="icon-button bar-search" type="button" aria-label="Command palette" title="Command palette (Ctrl K)" aria-keyshortcuts="Control+K Meta+K" on:click=move |_| open(Overlay::Palette)>
                        <svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round">
                            <circle cx="11" cy="11" r="6.5"></circle>
                            <path d="m16 16 4.5 4.5"></path>
                        </svg>
                    </button>
                })}
                <ThemeSwitch/>
                {menu}
            </div>
        </header>
    }
}

/// A link to a page, marked while one is there.
#[component]
fn Place(href: &'static str, name: &'static str) -> impl IntoView {
    let path = use_location().pathname;
    let here = move || {
        path.with(|path| match href {
            "/" => path == "/",
            // Collections and the trash are rooms of the gallery.
            "/gallery" if path == "/collections" || path == "/trash" => true,
            _ => path == href || path.starts_with(&format!("{href}/")),
        })
    };
    view! {
        <a class="place" href=href aria-current=move || here().then_some("page")>{name}</a>
    }
}

/// The colours: one of two, or what the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Light.
    Light,
    /// Dark.
    Dark,
    /// As the system says, also when it changes its mind.
    Auto,
}

/// Light, dark, or as the system says; remembered in this browser.
#[component]
fn ThemeSwitch() -> impl IntoView {
    // The choice is known to the browser only, so the server renders a button that any theme fits.
    let switch = move |_| set_theme(other_theme());
    view! {
        <button class="icon-button" type="button" on:click=switch aria-label="Switch between light and dark" title="Light or dark">
            <svg viewBox="0 0 24 24" aria-hidden="true">
                <circle cx="12" cy="12" r="8.5" fill="none" stroke="currentColor" stroke-width="1.8"></circle>
                <path d="M12 3.5a8.5 8.5 0 0 1 0 17Z" fill="currentColor"></path>
            </svg>
        </button>
    }
}

/// The theme that the page does not have now.
#[cfg(feature = "hydrate")]
fn other_theme() -> Theme {
    let system_dark = window()
        .match_media("(prefers-color-scheme: dark)")
        .ok()
        .flatten()
        .is_some_and(|query| query.matches());
    let chosen = document()
        .document_element()
        .and_then(|root| root.get_attribute("data-theme"));
    let is_dark = match chosen.as_deref() {
        Some("dark") => true,
        Some("light") => false,
        _ => system_dark,
    };
    if is_dark { Theme::Light } else { Theme::Dark }
}

#[cfg(not(feature = "hydrate"))]
fn other_theme() -> Theme {
    Theme::Auto
}

/// Changes the colours, and remembers that.
#[cfg(feature = "hydrate")]
pub fn set_theme(theme: Theme) {
    let Some(root) = document().document_element() else {
        return;
    };
    let name = match theme {
        Theme::Light => Some("light"),
        Theme::Dark => Some("dark"),
        Theme::Auto => None,
    };
    // A browser that forbids storage only forgets the choice.
    let storage = window().local_storage().ok().flatten();
    if let Some(name) = name {
        let _ = root.set_attribute("data-theme", name);
        storage.map(|storage| storage.set_item("atelier-theme", name));
    } else {
        let _ = root.remove_attribute("data-theme");
        storage.map(|storage| storage.remove_item("atelier-theme"));
    }
}

/// The server has no colours.
#[cfg(not(feature = "hydrate"))]
pub fn set_theme(_: Theme) {}

/// Shuts the menu on a press outside of it and on Escape.
#[cfg(feature = "hydrate")]
fn shut_from_outside(panel: NodeRef<leptos::html::Details>) {
    use wasm_bindgen::JsCast;
    let pressed = window_event_listener(leptos::ev::pointerdown, move |event| {
        let target = event
            .target()
            .and_then(|target| target.dyn_into::<web_sys::Node>().ok());
        if let Some(details) = panel.get_untracked()
            && !details.contains(target.as_ref())
        {
            details.set_open(false);
        }
    });
    let key = window_event_listener(leptos::ev::keydown, move |event| {
        if event.key() == "Escape"
            && let Some(details) = panel.get_untracked()
        {
            details.set_open(false);
        }
    });
    on_cleanup(move || {
        pressed.remove();
        key.remove();
    });
}

#[cfg(not(feature = "hydrate"))]
fn shut_from_outside(_: NodeRef<leptos::html::Details>) {}
