//! What happened, said once and where it matters.

use super::badge::Tone;
use super::words::percent_encode;
use crate::error::AppError;
use crate::gallery::UndoToast;
use crate::hydrated::after;
use crate::live::use_live;
use crate::studio::{JobState, JobView};
use leptos::prelude::*;
use leptos_router::hooks::use_location;

/// How long a finished image announces itself.
const SHOWN_FOR: std::time::Duration = std::time::Duration::from_secs(12);

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

/// Says on every page but the studio that an image is ready, and everywhere that the stream is down.
#[component]
pub fn Toasts() -> impl IntoView {
    let live = use_live();
    let path = use_location().pathname;
    let ended = Memo::new(move |_| {
        let in_studio = path.with(|path| path == "/");
        live.ended.get().filter(|_| !in_studio)
    });
    // A finished image announces itself for a while; the studio and the gallery keep it.
    Effect::new(move |_| {
        if let Some(job) = live.ended.get() {
            after(SHOWN_FOR, move || {
                let is_same =
                    |now: &Option<JobView>| now.as_ref().is_some_and(|now| now.id == job.id);
                if live.ended.with_untracked(is_same) {
                    live.ended.set(None);
                }
            });
        }
    });
    let toast = move || {
        ended.get().map(|job| match (job.state, job.image_id) {
            (JobState::Done, Some(image)) => view! {
                <div class="toast">
                    <span>"Your image is ready."</span>
                    <a class="button button-small" href=format!("/gallery/{image}")>"Look at it"</a>
                </div>
            }
            .into_any(),
            _ => view! {
                <div class="toast">
                    <span>{job.error.unwrap_or_else(|| "An image could not be made.".into())}</span>
                    <a class="button button-small" href="/">"To the studio"</a>
                </div>
            }
            .into_any(),
        })
    };
    view! {
        <div class="toasts" role="status" aria-live="polite">
            {toast}
            <UndoToast/>
            {move || live.is_lost().then(|| view! {
                <div class="toast toast-quiet">"Lost the server; trying again …"</div>
            })}
        </div>
    }
}
