//! The places of the gallery, one click from each other.

use leptos::prelude::*;

/// A place of the gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Everything.
    All,
    /// What is marked.
    Favourites,
    /// Collections.
    Collections,
    /// The trash.
    Trash,
}

/// Links to the places, the present one marked.
#[component]
pub fn Places(
    /// Where one is.
    #[prop(into)]
    here: Signal<Option<Place>>,
) -> impl IntoView {
    let links = [
        (Place::All, "/gallery", "All"),
        (Place::Favourites, "/gallery?favourite=1", "Favourites"),
        (Place::Collections, "/collections", "Collections"),
        (Place::Trash, "/trash", "Trash"),
    ]
    .map(|(place, href, words)| {
        let current = move || (here.get() == Some(place)).then_some("page");
        view! { <a class="tab" href=href aria-current=current>{words}</a> }
    });
    view! { <nav class="tabs" aria-label="Places of the gallery">{links.collect_view()}</nav> }
}
