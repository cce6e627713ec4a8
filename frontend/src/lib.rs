//! The browser's entry point: takes over the server-rendered page, nothing else.

/// Hydrates the page that the server rendered. Called once by the loader script.
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn hydrate() {
    console_error_panic_hook::set_once();
    atelier_app::hydrate();
}
