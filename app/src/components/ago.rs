//! How long ago something happened, counted on the server's clock: the reader's own may be wrong.

use super::moment::{iso_text, local_text, utc_text};
use leptos::prelude::*;

/// "just now", "40 s ago", "5 min ago", "3 h ago", "12 days ago".
pub fn ago_text(ms: i64) -> String {
    let seconds = ms / 1000;
    match seconds {
        ..5 => "just now".into(),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "yesterday".into(),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// "for 40 s", "for 5 min": how long something has lasted.
fn lasting_text(ms: i64) -> String {
    match ago_text(ms).strip_suffix(" ago") {
        Some(time) => format!("for {time}"),
        None if ms < 5000 => "for a moment".into(),
        None => "for a day".into(),
    }
}

/// A `<time>` that says how long ago it was, and on hover when.
#[component]
pub fn Ago(
    /// Unix milliseconds.
    at: i64,
    /// The server's clock, Unix milliseconds.
    now: Signal<i64>,
    /// Whether it goes on since then: "for 5 min" instead of "5 min ago".
    #[prop(optional)]
    lasts: bool,
) -> impl IntoView {
    let told = if lasts { lasting_text } else { ago_text };
    let words = Memo::new(move |_| told(now.get() - at));
    let absolute = RwSignal::new(utc_text(at));
    // Server and browser must render the same text first; the reader's time zone is known here only.
    Effect::new(move |_| {
        if let Some(local) = local_text(at) {
            absolute.set(local);
        }
    });
    view! {
        <time class="ago" datetime=iso_text(at) title=move || absolute.get()>{move || words.get()}</time>
    }
}

#[cfg(test)]
mod tests {
    use super::{ago_text, lasting_text};

    #[test]
    fn times_are_told_as_people_tell_them() {
        for (ms, words) in [
            (-4000, "just now"),
            (4999, "just now"),
            (59_999, "59 s ago"),
            (60_000, "1 min ago"),
            (3_599_999, "59 min ago"),
            (7_200_000, "2 h ago"),
            (100_000_000, "yesterday"),
            (400_000_000, "4 days ago"),
        ] {
            assert_eq!(ago_text(ms), words);
        }
        assert_eq!(lasting_text(1000), "for a moment");
        assert_eq!(lasting_text(7_200_000), "for 2 h");
        assert_eq!(lasting_text(100_000_000), "for a day");
    }
}
