//! A short state in a coloured pill: the colour repeats what the word says, never replaces it.

use crate::studio::DeviceBadge;
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

/// What images are made on, in one pill; where that is a fallback, the pill opens and says why. A
/// disclosure, so that keyboards, fingers and pages without wasm reach the reason too.
#[component]
pub fn DeviceStatus(
    /// The device in one line.
    badge: DeviceBadge,
) -> impl IntoView {
    let tone = if badge.degraded {
        Tone::Warn
    } else {
        Tone::Good
    };
    let Some(reason) = badge.reason else {
        return view! { <Badge tone=tone>{badge.label}</Badge> }.into_any();
    };
    let node = NodeRef::<leptos::html::Details>::new();
    let shut = move |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Escape"
            && let Some(details) = node.get_untracked()
        {
            details.set_open(false);
        }
    };
    view! {
        <details class="device-status" node_ref=node on:keydown=shut>
            <summary class=tone.class()>
                <span class="badge-dot" aria-hidden="true"></span>
                <span>{badge.label}</span>
                <span class="device-status-why">"Why?"</span>
            </summary>
            <p class="device-status-reason">{reason}</p>
        </details>
    }
    .into_any()
}
