//! A short state in a coloured pill: the colour repeats what the word says, never replaces it.

use leptos::prelude::*;

/// What the colour should suggest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to notice.
    Neutral,
    /// Good.
    Good,
    /// Works, but look at it.
    Warn,
    /// Broken or refused.
    Bad,
    /// In progress.
    Live,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Neutral => "badge",
            Self::Good => "badge badge-good",
            Self::Warn => "badge badge-warn",
            Self::Bad => "badge badge-bad",
            Self::Live => "badge badge-live",
        }
    }
}

/// A pill with a dot and a word.
#[component]
pub fn Badge(
    /// What the colour should suggest.
    tone: Tone,
    /// The word.
    children: Children,
) -> impl IntoView {
    view! {
        <span class=tone.class()>
            <span class="badge-dot" aria-hidden="true"></span>
            {children()}
        </span>
    }
}
