//! The interface.
use leptos::prelude::*;

/// The root of every page.
#[component]
pub fn App() -> impl IntoView {
    view! { <main>"Atelier"</main> }
}
