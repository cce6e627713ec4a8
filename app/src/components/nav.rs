//! The bar on top of every page: where one is, who one is, light or dark, the way out.

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

/// Light, dark, or as the system says; remembered in this browser.
#[component]
fn ThemeSwitch() -> impl IntoView {
    // The choice is known to the browser only, so the server renders a button that any theme fits.
    let switch = move |_| switch_theme();
    view! {
        <button class="icon-button" type="button" on:click=switch aria-label="Switch between light and dark" title="Light or dark">
            <svg viewBox="0 0 24 24" aria-hidden="true">
                <circle cx="12" cy="12" r="8.5" fill="none" stroke="currentColor" stroke-width="1.8"></circle>
                <path d="M12 3.5a8.5 8.5 0 0 1 0 17Z" fill="currentColor"></path>
            </svg>
        </button>
    }
}

#[cfg(feature = "hydrate")]
fn switch_theme() {
    let Some(root) = document().document_element() else {
        return;
    };
    let system_dark = window()
        .match_media("(prefers-color-scheme: dark)")
        .ok()
        .flatten()
        .is_some_and(|query| query.matches());
    let is_dark = match root.get_attribute("data-theme").as_deref() {
        Some("dark") => true,
        Some("light") => false,
        _ => system_dark,
    };
    let next = if is_dark { "light" } else { "dark" };
    // A browser that forbids storage only forgets the choice.
    let _ = root.set_attribute("data-theme", next);
    if let Ok(Some(storage)) = window().local_storage() {
        let _ = storage.set_item("atelier-theme", next);
    }
}

#[cfg(not(feature = "hydrate"))]
fn switch_theme() {}

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
