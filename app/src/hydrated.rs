//! Whether the browser has taken the page over.

use leptos::prelude::*;

#[derive(Clone, Copy)]
struct Hydrated(RwSignal<bool>);

#[cfg(feature = "hydrate")]
thread_local! {
    static HERE: std::cell::Cell<Option<RwSignal<bool>>> = const { std::cell::Cell::new(None) };
}

/// Makes it known to every page whether the browser has taken it over. Effects are no sign of that: they
/// run while a page still waits for its room (`rooms.rs`).
pub fn provide_hydrated() {
    let hydrated = RwSignal::new(false);
    provide_context(Hydrated(hydrated));
    #[cfg(feature = "hydrate")]
    HERE.set(Some(hydrated));
}

/// The page answers to clicks from now on; `<html data-hydrated>` says the same to tests.
#[cfg(feature = "hydrate")]
pub fn answers_now() {
    if let Some(hydrated) = HERE.get() {
        hydrated.set(true);
    }
    if let Some(root) = document().document_element() {
        // Fails only for an attribute name that is not one.
        let _ = root.set_attribute("data-hydrated", "");
    }
}

/// Whether it has, asked outside of any page.
#[cfg(feature = "hydrate")]
pub fn is_hydrated() -> bool {
    HERE.get().is_some_and(|hydrated| hydrated.get_untracked())
}

/// Whether the browser has taken the page over.
pub fn use_hydrated() -> Signal<bool> {
    use_context::<Hydrated>().map_or_else(|| Signal::stored(false), |hydrated| hydrated.0.into())
}

/// Runs `act` once, some time from now (in the browser).
pub fn after(delay: std::time::Duration, act: impl FnOnce() + 'static) {
    // Fails only outside a window, where nothing is left to act on.
    let _ = set_timeout(act, delay);
}
