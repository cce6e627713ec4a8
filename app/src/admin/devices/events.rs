//! What befell devices and workers, newest first.

use super::super::DeviceEvent;
use super::Watch;
use crate::components::{Ago, Tone};
use leptos::prelude::*;

/// Shown at once; older ones are folded away.
const SHOWN: usize = 8;

/// An event's name, what its colour suggests, and the shape that says so without colour.
fn look(kind: &str) -> (String, Tone, &'static str) {
    const TICK: &str = "M4 8.5l2.7 2.7L12 5.5";
    const CROSS: &str = "M5 5l6 6M11 5l-6 6";
    const MARK: &str = "M8 4v5M8 12v.01";
    const DOWN: &str = "M8 4v8M5 9l3 3 3-3";
    const ROUND: &str = "M11.5 6.5A4 4 0 1 0 12 8.6M11.8 3.8v2.9H8.9";
    const DOT: &str = "M8 7.5a.5.5 0 1 0 0 1 .5.5 0 0 0 0-1Z";
    const PAUSE: &str = "M6.2 5v6M9.8 5v6";
    let (name, tone, shape) = match kind {
        "decision" => ("Decision", Tone::Neutral, DOT),
        "probe" => ("Test", Tone::Live, ROUND),
        "rung" => ("Went on otherwise", Tone::Warn, DOWN),
        "failure" => ("Failure", Tone::Bad, MARK),
        "resting" => ("Rests", Tone::Warn, PAUSE),
        "recovered" => ("Recovered", Tone::Good, TICK),
        "worker_died" => ("Worker ended", Tone::Bad, CROSS),
        "worker_started" => ("Worker started", Tone::Good, TICK),
        "choice" => ("Choice", Tone::Neutral, DOT),
        other => {
            let mut words = other.replace('_', " ");
            if let Some(first) = words.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            return (words, Tone::Neutral, DOT);
        }
    };
    (name.to_owned(), tone, shape)
}

/// The events of all devices.
#[component]
pub(super) fn Timeline(events: Vec<DeviceEvent>, watch: Watch) -> impl IntoView {
    let count = events.len();
    let rows = |events: &[DeviceEvent]| {
        events
            .iter()
            .cloned()
            .map(|event| view! { <Event event=event watch=watch/> })
            .collect_view()
    };
    let (newest, older) = events.split_at(count.min(SHOWN));
    let newest = (!newest.is_empty()).then(|| view! { <ol class="timeline">{rows(newest)}</ol> });
    let node = NodeRef::<leptos::html::Details>::new();
    let open = watch.is_open("events", false);
    let toggled = move |_| {
        if let Some(details) = node.get_untracked() {
            watch.remember("events".into(), details.open());
        }
    };
    let older = (!older.is_empty()).then(|| {
        view! {
            <details class="fold" open=open node_ref=node on:toggle=toggled>
                <summary>{format!("{} older", older.len())}</summary>
                <ol class="timeline">{rows(older)}</ol>
            </details>
        }
    });
    view! {
        <article class="card" aria-labelledby="events-title">
            <h3 id="events-title">"What happened"</h3>
            {(count == 0).then(|| view! { <p class="quiet">"Nothing yet."</p> })}
            {newest}
            {older}
        </article>
    }
}

#[component]
fn Event(event: DeviceEvent, watch: Watch) -> impl IntoView {
    let (name, tone, shape) = look(&event.kind);
    let class = match tone {
        Tone::Good => "event event-good",
        Tone::Warn => "event event-warn",
        Tone::Bad => "event event-bad",
        Tone::Live => "event event-live",
        Tone::Neutral => "event",
    };
    view! {
        <li class=class>
            <svg class="event-mark" viewBox="0 0 16 16" aria-hidden="true">
                <path d=shape fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"></path>
            </svg>
            <div class="event-text">
                <p class="event-head">
                    <strong>{name}</strong>
                    <code class="quiet">{event.device}</code>
                    <span class="quiet small"><Ago at=event.at now=watch.now/></span>
                </p>
                <p class="break">{event.message}</p>
            </div>
        </li>
    }
}

#[cfg(test)]
mod tests {
    use super::look;

    #[test]
    fn an_event_of_a_later_version_has_a_name_too() {
        assert_eq!(look("worker_died").0, "Worker ended");
        assert_eq!(look("cooled_down").0, "Cooled down");
        assert_eq!(look("").0, "");
    }
}
