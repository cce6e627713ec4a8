//! Whether the browser has taken the page over.

use leptos::prelude::*;

#[derive(Clone, Copy)]
struct Hydrated(RwSignal<bool>);

/// Turns true once the page answers to clicks; `<html data-hydrated>` says the same to tests.
pub fn provide_hydrated() {
    let hydrated = RwSignal::new(false);
    provide_context(Hydrated(hydrated));
    Effect::new(move |_| {
        hydrated.set(true);
        if let Some(root) = document().document_element() {
            // Fails only for an attribute name that is not one.
            let _ = root.set_attribute("data-hydrated", "");
        }
    });
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
