//! A progress bar that says in words what it shows.

use leptos::prelude::*;

/// A labelled `<progress>`; with no value it shows that something goes on, but not how far.
#[component]
pub fn Progress(
    /// What is being done, e.g. "Step 4 of 30".
    #[prop(into)]
    label: Signal<String>,
    /// From 0 to 1; unknown when absent.
    #[prop(into)]
    value: Signal<Option<f64>>,
) -> impl IntoView {
    view! {
        <progress
            class="progress"
            max="1"
            aria-label=move || label.get()
            value=move || value.get().map(|value| format!("{:.4}", value.clamp(0.0, 1.0)))
        ></progress>
    }
}
