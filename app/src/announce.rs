//! A finished image announces itself: on every page, in the tab's title, and outside of the browser
//! where its owner wishes.

use crate::hydrated::after;
use crate::live::{Live, use_live};
use crate::studio::{JobId, JobState, JobView};
use leptos::prelude::*;
use leptos_router::hooks::use_location;
use std::time::Duration;

/// How long a toast stays.
const SHOWN_FOR: Duration = Duration::from_secs(12);
/// Toasts that are shown at once; of more, only how many.
const MOST: usize = 3;

/// Toasts for jobs that ended, newest last; in the studio, not for the image that is in sight there.
#[component]
pub fn JobToasts() -> impl IntoView {
    let live = use_live();
    let path = use_location().pathname;
    let shown = RwSignal::new(Vec::<JobView>::new());
    let close = move |id: &JobId| shown.update(|shown| shown.retain(|job| &job.id != id));
    Effect::new(move |_| {
        let Some(job) = live.ended.get() else {
            return;
        };
        notice::send(&job);
        let on_stage = path.with_untracked(|path| path == "/")
            && live
                .jobs
                .with_untracked(|jobs| jobs.iter().all(|job| job.state.is_final()))
            && notice::stage_is_in_sight();
        if on_stage {
            return;
        }
        shown.update(|shown| {
            shown.retain(|known| known.id != job.id);
            shown.push(job.clone());
        });
        after(SHOWN_FOR, move || {
            let _ = shown.try_update(|shown| shown.retain(|known| known.id != job.id));
        });
    });
    let earlier = move || shown.with(|shown| shown.len().saturating_sub(MOST));
    let latest = move || {
        let jobs = shown.get();
        let skip = jobs.len().saturating_sub(MOST);
        jobs.into_iter().skip(skip).collect::<Vec<_>>()
    };
    view! {
        {move || (earlier() > 0).then(|| view! {
            <div class="toast toast-quiet">
                {match earlier() {
                    1 => "One more is ready.".to_owned(),
                    more => format!("{more} more are ready."),
                }}
            </div>
        })}
        <For each=latest key=|job| job.id.0.clone() let:job>
            <JobToast job=job close=Callback::new(move |id: JobId| close(&id))/>
        </For>
    }
}

#[component]
fn JobToast(job: JobView, close: Callback<JobId>) -> impl IntoView {
    let id = job.id.clone();
    let words = match (job.state, &job.error) {
        (JobState::Done, _) => "Your image is ready.".to_owned(),
        (_, Some(error)) => error.clone(),
        (_, None) => "An image could not be made.".to_owned(),
    };
    let image = job.image_id.clone().filter(|_| job.state == JobState::Done);
    let picture = image.as_ref().map(|image| {
        view! { <img class="toast-picture" src=format!("/images/{image}/thumbnail.jpg") alt="" width="48" height="48"/> }
    });
    let (href, way) = match &image {
        Some(image) => (format!("/gallery/{image}"), "Look at it"),
        None => ("/".to_owned(), "To the studio"),
    };
    view! {
        <div class="toast">
            {picture}
            <span class="toast-words">
                <span>{words}</span>
                <span class="quiet small clip">{job.settings.prompt}</span>
            </span>
            <a class="button button-small" href=href>{way}</a>
            <button class="icon-button icon-small" type="button" on:click=move |_| close.run(id.clone()) aria-label="Close this message">
                <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 7l10 10M17 7 7 17" stroke="currentColor" stroke-width="2" stroke-linecap="round"></path></svg>
            </button>
        </div>
    }
}

/// How far the viewer's jobs are, before the title of whatever page is open; and that one is ready,
/// until somebody looks.
pub fn follow_in_title() {
    let live = use_live();
    let unseen = RwSignal::new(false);
    Effect::new(move |_| {
        if live.ended.with(Option::is_some) && notice::is_hidden() {
            unseen.set(true);
        }
    });
    notice::when_looked_at(move || unseen.set(false));
    let news = Memo::new(move |_| title_news(live, unseen.get()));
    let path = use_location().pathname;
    let before = StoredValue::new(String::new());
    Effect::new(move |_| {
        let news = news.get();
        path.track();
        let mark = news.map(|news| format!("{news} · ")).unwrap_or_default();
        // A new page writes its own title first.
        after(Duration::ZERO, move || {
            let old = before.try_get_value().unwrap_or_default();
            notice::mark_title(&old, &mark);
            before.try_set_value(mark);
        });
    });
}

fn title_news(live: Live, unseen: bool) -> Option<String> {
    let running = live.jobs.with(|jobs| {
        jobs.iter()
            .find(|job| job.state == JobState::Running)
            .map(|job| match job.steps {
                0 => 0,
                steps => 100 * job.step.min(steps) / steps,
            })
    });
    match running {
        Some(percent) => Some(format!("{percent} %")),
        None if unseen => Some("Ready".to_owned()),
        None => None,
    }
}

/// Switches messages outside of the browser on and off, in this browser.
#[component]
pub fn NotificationsCard() -> impl IntoView {
    let state = RwSignal::new(notice::Standing::Unknown);
    Effect::new(move |_| state.set(notice::standing()));
    let switch_on = move |_| notice::switch_on(move |now| state.set(now));
    let switch_off = move |_| state.set(notice::switch_off());
    let body = move || {
        match state.get() {
        notice::Standing::Unknown => {
            view! { <p class="quiet">"They need a script, which has not arrived yet."</p> }.into_any()
        }
        notice::Standing::Unsupported => {
            view! { <p class="quiet">"This browser has none, or not on a page without https."</p> }
                .into_any()
        }
        notice::Standing::Denied => view! {
            <p class="quiet">"This browser does not allow them for this site. Its settings for the site, beside the address, can change that."</p>
        }
        .into_any(),
        notice::Standing::Off => {
            view! { <p><button class="button" type="button" on:click=switch_on>"Switch on"</button></p> }
                .into_any()
        }
        notice::Standing::On => view! {
            <p>"They are on."</p>
            <p><button class="button" type="button" on:click=switch_off>"Switch off"</button></p>
        }
        .into_any(),
    }
    };
    view! {
        <section class="card" aria-labelledby="notifications-title">
            <h2 id="notifications-title">"Notifications in this browser"</h2>
            <p>"Says when an image is ready while no page of the studio is in sight."</p>
            {body}
        </section>
    }
}

#[cfg(feature = "hydrate")]
mod notice {
    use crate::studio::{JobState, JobView};
    use leptos::prelude::*;
    use wasm_bindgen::JsCast;
    use wasm_bindgen::closure::Closure;
    use wasm_bindgen_futures::JsFuture;
    use web_sys::{Notification, NotificationOptions, NotificationPermission};

    const KEY: &str = "atelier-notifications";

    /// Whether messages are sent.
    #[derive(Clone, Copy, PartialEq)]
    pub(super) enum Standing {
        /// Not looked yet.
        Unknown,
        /// The browser has none.
        Unsupported,
        /// The browser forbids them.
        Denied,
        /// Nobody asked for them.
        Off,
        /// They are sent.
        On,
    }

    fn storage() -> Option<web_sys::Storage> {
        window().local_storage().ok()?
    }

    fn is_wanted() -> bool {
        storage().is_some_and(|storage| storage.get_item(KEY).ok().flatten().is_some())
    }

    pub(super) fn standing() -> Standing {
        if js_sys::Reflect::has(&window(), &"Notification".into()) != Ok(true)
            || !window().is_secure_context()
        {
            return Standing::Unsupported;
        }
        match Notification::permission() {
            NotificationPermission::Denied => Standing::Denied,
            NotificationPermission::Granted if is_wanted() => Standing::On,
            _ => Standing::Off,
        }
    }

    pub(super) fn switch_on(done: impl Fn(Standing) + 'static) {
        // Asked for only now, when somebody wants them.
        let Ok(asking) = Notification::request_permission() else {
            done(Standing::Unsupported);
            return;
        };
        leptos::task::spawn_local(async move {
            // What was answered is in the standing.
            let _ = JsFuture::from(asking).await;
            if Notification::permission() == NotificationPermission::Granted
                && let Some(storage) = storage()
            {
                // A browser that forbids storage only forgets the choice.
                let _ = storage.set_item(KEY, "on");
            }
            done(standing());
        });
    }

    pub(super) fn switch_off() -> Standing {
        if let Some(storage) = storage() {
            let _ = storage.remove_item(KEY);
        }
        standing()
    }

    pub(super) fn is_hidden() -> bool {
        document().hidden()
    }

    /// Puts a mark before the title, in the place of the old one.
    pub(super) fn mark_title(old: &str, mark: &str) {
        let title = document().title();
        let bare = title.strip_prefix(old).unwrap_or(&title);
        let marked = format!("{mark}{bare}");
        if marked != title {
            document().set_title(&marked);
        }
    }

    /// Tells the system, while nobody looks.
    pub(super) fn send(job: &JobView) {
        if !is_hidden() || standing() != Standing::On {
            return;
        }
        let (title, place) = match (&job.image_id, job.state) {
            (Some(image), JobState::Done) => ("Your image is ready", format!("/gallery/{image}")),
            _ => ("An image could not be made", "/".to_owned()),
        };
        let options = NotificationOptions::new();
        let prompt: String = job.settings.prompt.chars().take(140).collect();
        options.set_body(job.error.as_deref().unwrap_or(&prompt));
        // Of several tabs, the last one's message takes the place of the others'.
        options.set_tag(&job.id.0);
        if let Some(image) = &job.image_id {
            options.set_icon(&format!("/images/{image}/thumbnail.jpg"));
        }
        // Browsers on phones refuse those that come from a page: nothing is said there then.
        let Ok(message) = Notification::new_with_options(title, &options) else {
            return;
        };
        let shown = message.clone();
        let click = Closure::once_into_js(move || {
            // Fails only where the system keeps windows where they are.
            let _ = window().focus();
            let _ = window().location().set_href(&place);
            shown.close();
        });
        message.set_onclick(Some(click.unchecked_ref()));
    }

    /// Whether the studio's image is where somebody looks.
    pub(super) fn stage_is_in_sight() -> bool {
        let height = window()
            .inner_height()
            .ok()
            .and_then(|height| height.as_f64());
        let stage = document().query_selector(".stage").ok().flatten();
        stage.zip(height).is_some_and(|(stage, height)| {
            let rect = stage.get_bounding_client_rect();
            rect.top() < height * 0.7 && rect.bottom() > height * 0.3
        })
    }

    pub(super) fn when_looked_at(act: impl Fn() + 'static) {
        // Lives as long as the document: the root of every page asks for it, once.
        let listen = Closure::<dyn Fn()>::new(move || {
            if !document().hidden() {
                act();
            }
        });
        // Fails only for a listener that is not callable.
        let _ = document()
            .add_event_listener_with_callback("visibilitychange", listen.as_ref().unchecked_ref());
        listen.forget();
    }
}

#[cfg(not(feature = "hydrate"))]
mod notice {
    use crate::studio::JobView;

    /// Whether messages are sent: nobody knows on a server.
    #[derive(Clone, Copy, PartialEq)]
    #[allow(dead_code, reason = "the browser's half uses all of them")]
    pub(super) enum Standing {
        Unknown,
        Unsupported,
        Denied,
        Off,
        On,
    }

    pub(super) fn standing() -> Standing {
        Standing::Unknown
    }

    pub(super) fn switch_on(_: impl Fn(Standing) + 'static) {}

    pub(super) fn switch_off() -> Standing {
        Standing::Unknown
    }

    pub(super) fn is_hidden() -> bool {
        false
    }

    pub(super) fn send(_: &JobView) {}

    pub(super) fn mark_title(_: &str, _: &str) {}

    pub(super) fn stage_is_in_sight() -> bool {
        false
    }

    pub(super) fn when_looked_at(_: impl Fn() + 'static) {}
}
