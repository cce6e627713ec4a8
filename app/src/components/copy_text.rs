//! A text to be copied: shown whole, selectable, with a button.

use leptos::prelude::*;

/// A secret or a link, and a button that copies it.
#[component]
pub fn CopyText(
    /// The id of the text.
    id: &'static str,
    /// The text.
    #[prop(into)]
    text: Signal<String>,
) -> impl IntoView {
    view! {
        <div class="secret">
            <code class="secret-text" id=id>{move || text.get()}</code>
            <CopyButton text=text label="Copy"/>
        </div>
    }
}

/// A button that copies a text which stands beside it.
#[component]
pub fn CopyButton(
    /// The text.
    #[prop(into)]
    text: Signal<String>,
    /// What the button says.
    label: &'static str,
) -> impl IntoView {
    let copied = RwSignal::new(false);
    let copy = move |_| copy_text(&text.get_untracked(), copied);
    view! {
        <button class="button button-small" type="button" on:click=copy>
            {move || if copied.get() { "Copied" } else { label }}
        </button>
    }
}

#[cfg(feature = "hydrate")]
fn copy_text(text: &str, copied: RwSignal<bool>) {
    let text = text.to_owned();
    leptos::task::spawn_local(async move {
        // Clipboard access exists on secure pages only (https or this machine) and may be refused;
        // the text itself can be selected then.
        if !window().is_secure_context() {
            return;
        }
        let promise = window().navigator().clipboard().write_text(&text);
        if wasm_bindgen_futures::JsFuture::from(promise).await.is_ok() {
            copied.set(true);
            crate::hydrated::after(std::time::Duration::from_secs(3), move || copied.set(false));
        }
    });
}

#[cfg(not(feature = "hydrate"))]
fn copy_text(_: &str, _: RwSignal<bool>) {}
