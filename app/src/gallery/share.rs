//! Links to one image for people without an account: made, listed and ended on its page.

use super::{
    ImageId, NewShareLink, ShareLink, create_share_link, list_share_links, revoke_share_link,
};
use crate::components::{ErrorNotice, Moment};
use crate::error::AppError;
use leptos::prelude::*;

/// How long a link may last, as offered.
const TIMES: [(u32, &str); 4] = [
    (1, "a day"),
    (7, "a week"),
    (30, "a month"),
    (365, "a year"),
];

/// The fold on an image's page.
#[component]
pub fn Share(
    /// The image.
    id: ImageId,
) -> impl IntoView {
    let links = RwSignal::new(None::<Vec<ShareLink>>);
    let made = RwSignal::new(None::<NewShareLink>);
    let problem = RwSignal::new(None::<AppError>);
    let days = NodeRef::<leptos::html::Select>::new();
    let all = NodeRef::<leptos::html::Input>::new();
    let image = StoredValue::new(id);
    let load = Action::new(move |(): &()| async move {
        match list_share_links(image.get_value()).await {
            Ok(open) => links.set(Some(open)),
            Err(error) => problem.set(Some(error)),
        }
    });
    let create = Action::new(move |(days, with_settings): &(u32, bool)| {
        let (days, with_settings) = (*days, *with_settings);
        async move {
            match create_share_link(image.get_value(), days, with_settings).await {
                Ok(link) => {
                    problem.set(None);
                    made.set(Some(link));
                    load.dispatch(());
                }
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    let revoke = Action::new(move |id: &String| {
        let id = id.clone();
        async move {
            match revoke_share_link(id.clone()).await {
                Ok(()) => {
                    if made
                        .with_untracked(|made| made.as_ref().is_some_and(|made| made.link.id == id))
                    {
                        made.set(None);
                    }
                    load.dispatch(());
                }
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    view! {
        <details class="fold" on:toggle=move |_| {
            if links.with_untracked(Option::is_none) {
                load.dispatch(());
            }
        }>
            <summary>"Share a link"</summary>
            <div class="stack">
                <p class="quiet small">"Whoever has the link sees this one image without an account, until it ends or you revoke it. Search engines are told to stay away."</p>
                <div class="row row-wrap">
                    <label for="share-days">"It lasts"</label>
                    <select class="input input-small share-days" id="share-days" node_ref=days>
                        {TIMES.map(|(days, words)| view! { <option value=days.to_string() selected=days == 7>{words}</option> }).collect_view()}
                    </select>
                    <label class="check" for="share-all">
                        <input type="checkbox" id="share-all" node_ref=all/>
                        "Show prompt and settings too"
                    </label>
                    <button
                        class="button button-small" type="button" disabled=move || create.pending().get()
                        on:click=move |_| {
                            let days = days.get_untracked().and_then(|select| select.value().parse().ok()).unwrap_or(7);
                            let with_settings = all.get_untracked().is_some_and(|input| input.checked());
                            create.dispatch((days, with_settings));
                        }
                    >"Make a link"</button>
                </div>
                {move || made.get().map(|made| {
                    let address = address(&made.path);
                    view! {
                        <div class="field">
                            <label class="field-label" for="share-link">"The link, shown this once"</label>
                            <input class="input" id="share-link" readonly value=address on:focus=move |event| select_all(&event)/>
                        </div>
                    }
                })}
                {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
                <ul class="stack">
                    {move || links.get().unwrap_or_default().into_iter().map(|link| {
                        let id = link.id.clone();
                        view! {
                            <li class="row row-wrap small">
                                <span>
                                    {if link.with_settings { "With settings, until " } else { "The image only, until " }}
                                    <Moment at=link.expires_at/>
                                </span>
                                <details class="confirm">
                                    <summary class="button button-small">"Revoke …"</summary>
                                    <div class="confirm-panel">
                                        <p>"Whoever has this link sees nothing from then on. This cannot be undone; you can make another link."</p>
                                        <button
                                            class="button button-bad" type="button" disabled=move || revoke.pending().get()
                                            on:click=move |_| {
                                                revoke.dispatch(id.clone());
                                            }
                                        >"Revoke the link"</button>
                                    </div>
                                </details>
                            </li>
                        }
                    }).collect_view()}
                </ul>
            </div>
        </details>
    }
}

#[cfg(feature = "hydrate")]
fn address(path: &str) -> String {
    let origin = window().location().origin().unwrap_or_default();
    format!("{origin}{path}")
}

#[cfg(not(feature = "hydrate"))]
fn address(path: &str) -> String {
    path.to_owned()
}

/// So that one press copies it.
fn select_all(event: &leptos::ev::FocusEvent) {
    #[cfg(feature = "hydrate")]
    {
        use wasm_bindgen::JsCast;
        let input = event
            .target()
            .and_then(|target| target.dyn_into::<web_sys::HtmlInputElement>().ok());
        if let Some(input) = input {
            input.select();
        }
    }
    #[cfg(not(feature = "hydrate"))]
    let _ = event;
}
