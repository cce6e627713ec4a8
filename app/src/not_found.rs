//! The page for addresses that lead nowhere, with the status that says so.

use leptos::prelude::*;
use leptos_meta::Title;

/// Says that there is nothing here, with status 404.
#[component]
pub fn NotFound() -> impl IntoView {
    #[cfg(feature = "ssr")]
    crate::response::set_status(404);
    view! {
        <Title text="Not found · Atelier"/>
        <section class="empty">
            <p class="empty-number" aria-hidden="true">"404"</p>
            <h1>"There is nothing here"</h1>
            <p class="quiet">"The address may be mistyped, or what was here has been deleted."</p>
            <a class="button button-main" href="/">"To the studio"</a>
        </section>
    }
}
