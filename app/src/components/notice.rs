//! What happened, said once and where it matters.

use super::badge::Tone;
use super::words::percent_encode;
use crate::announce::JobToasts;
use crate::error::AppError;
use crate::gallery::UndoToast;
use crate::live::use_live;
use leptos::prelude::*;
use leptos_router::hooks::use_location;

/// A sentence in a box.
#[component]
pub fn Notice(
    /// What the colour should suggest.
    tone: Tone,
    /// The sentence.
    children: Children,
) -> impl IntoView {
    let (class, role) = match tone {
        Tone::Good => ("notice notice-good", "status"),
        Tone::Warn => ("notice notice-warn", "status"),
        Tone::Bad => ("notice notice-bad", "alert"),
        Tone::Neutral | Tone::Live => ("notice", "status"),
    };
    view! { <div class=class role=role>{children()}</div> }
}

/// An error with what to do about it.
#[component]
pub fn ErrorNotice(
    /// What went wrong.
    error: AppError,
) -> impl IntoView {
    let location = use_location();
    let way_on = match &error {
        AppError::SignInRequired => {
            let next = location.pathname.get_untracked();
            Some(
                view! { <a href=format!("/sign-in?next={}", percent_encode(&next)) rel="external">"Sign in"</a> }
                    .into_any(),
            )
        }
        AppError::Transport(_) | AppError::Unavailable { .. } => {
            Some(view! { <span>"Try again in a moment; nothing you typed is lost."</span> }.into_any())
        }
        AppError::Internal { .. } => Some(
            view! { <span>"The server's log has the details under this reference."</span> }.into_any(),
        ),
        AppError::TooMany { retry_after_s, .. } => {
            Some(view! { <span>{format!("Try again in {}.", super::seconds_text(f64::from(*retry_after_s)))}</span> }.into_any())
        }
        AppError::Forbidden
        | AppError::Refused { .. }
        | AppError::NotFound
        | AppError::Invalid { .. } => None,
    };
    view! {
        <Notice tone=Tone::Bad>
            <p>{error.to_string()}" "{way_on}</p>
        </Notice>
    }
}

/// Says on every page that an image is ready, what can be undone, and that the stream is down.
#[component]
pub fn Toasts() -> impl IntoView {
    let live = use_live();
    view! {
        <div class="toasts" role="status" aria-live="polite">
            <JobToasts/>
            <UndoToast/>
            {move || live.is_lost().then(|| view! {
                <div class="toast toast-quiet">"Connection lost, retrying …"</div>
            })}
        </div>
    }
}
