//! `/trash`: what was deleted, until its time is over.

use super::hanging::Hanging;
use super::places::{Place, Places};
use super::selection::Selection;
use super::wall::Wall;
use super::{
    EmptyTrash, MAX_TRASH_DAYS, SetTrashDays, Trash, delete_for_good, load_trash, restore_images,
};
use crate::components::{ErrorNotice, percent_encode};
use crate::error::AppError;
use crate::hydrated::use_hydrated;
use crate::session::{SignedInOnly, use_viewer_here};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/trash`
#[component]
pub fn TrashPage() -> impl IntoView {
    view! {
        <Title text="Trash · Atelier"/>
        <SignedInOnly>
            <Bin/>
        </SignedInOnly>
    }
}

#[component]
fn Bin() -> impl IntoView {
    let map = use_query_map();
    let after = Memo::new(move |_| map.with(|map| map.get("after")).unwrap_or_default());
    let empty = ServerAction::<EmptyTrash>::new();
    let days = ServerAction::<SetTrashDays>::new();
    let changed = RwSignal::new(0_u32);
    let trash = Resource::new(
        move || {
            (
                after.get(),
                empty.version().get(),
                days.version().get(),
                changed.get(),
            )
        },
        |(after, ..)| load_trash(after),
    );
    view! {
        <div class="page">
            <Places here=Some(Place::Trash)/>
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match trash.await {
                        Ok(trash) => view! { <Contents trash=trash changed=changed empty=empty days=days/> }.into_any(),
                        Err(error) => view! {
                            <h1>"Trash"</h1>
                            <ErrorNotice error=error/>
                        }
                        .into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

#[component]
fn Contents(
    trash: Trash,
    changed: RwSignal<u32>,
    empty: ServerAction<EmptyTrash>,
    days: ServerAction<SetTrashDays>,
) -> impl IntoView {
    let hydrated = use_hydrated();
    let is_admin = use_viewer_here().is_some_and(|viewer| viewer.is_admin());
    let selection = Selection::new();
    let problem = RwSignal::new(None::<AppError>);
    let has_images = trash.total > 0;
    let hanging = Hanging::new(trash.images);
    let ids = move || -> Vec<String> { selection.ids().into_iter().map(|id| id.0).collect() };
    let finish = move |result: Result<u32, AppError>| match result {
        Ok(_) => changed.update(|changed| *changed += 1),
        Err(error) => problem.set(Some(error)),
    };
    let restore = Action::new(move |(): &()| {
        let ids = ids();
        async move { finish(restore_images(ids).await) }
    });
    let delete = Action::new(move |(): &()| {
        let ids = ids();
        async move { finish(delete_for_good(ids).await) }
    });
    let busy = move || restore.pending().get() || delete.pending().get();
    let count = move || selection.words();
    let error = move || {
        let answer = empty.value().get().map(|answer| answer.map(|_| ()));
        let other = days.value().get().map(|answer| answer.map(|_| ()));
        match (answer, other) {
            (Some(Err(error)), _) | (_, Some(Err(error))) => {
                Some(view! { <ErrorNotice error=error/> })
            }
            _ => None,
        }
    };
    view! {
        <div class="page-head">
            <h1>"Trash"</h1>
            <p class="quiet number">
                {if trash.total == 1 { "1 image".to_owned() } else { format!("{} images", trash.total) }}
            </p>
            {has_images.then(|| view! {
                <details class="confirm page-head-end">
                    <summary class="button button-small">"Empty the trash …"</summary>
                    <div class="confirm-panel">
                        <p>"Delete everything in the trash for good? This cannot be undone."</p>
                        <ActionForm action=empty>
                            <button class="button button-bad" type="submit" disabled=move || empty.pending().get()>"Delete for good"</button>
                        </ActionForm>
                    </div>
                </details>
            })}
        </div>
        {error}
        <p class="quiet">
            {format!(
                "What you delete stays here for {}, and counts as space until then. Nobody else sees it.",
                if trash.days == 1 { "a day".to_owned() } else { format!("{} days", trash.days) },
            )}
        </p>
        {is_admin.then(|| view! {
            <details class="fold">
                <summary>"How long images stay"</summary>
                <ActionForm action=days>
                    <div class="row row-wrap">
                        <label for="trash-days">"Days in everybody's trash"</label>
                        <input
                            class="input input-number" id="trash-days" name="days" type="number" inputmode="numeric" min="1"
                            max=MAX_TRASH_DAYS.to_string() value=trash.days.to_string() required
                        />
                        <button class="button button-small" type="submit" disabled=move || days.pending().get()>"Save"</button>
                    </div>
                </ActionForm>
            </details>
        })}
        {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
        {if has_images {
            view! {
                <form
                    id="bulk"
                    class="selection"
                    class:selection-idle=move || hydrated.get() && !selection.is_active()
                    method="post"
                    action="/app/restore_images"
                    aria-label="Selected images"
                >
                    <p class="selection-count number" role="status" aria-live="polite">{count}</p>
                    <button
                        class="button button-small" type="submit" disabled=busy
                        on:click=move |event| {
                            event.prevent_default();
                            restore.dispatch(());
                        }
                    >"Restore"</button>
                    <details class="confirm">
                        <summary class="button button-small button-bad">"Delete for good …"</summary>
                        <div class="confirm-panel">
                            <p>"Delete the selected images for good? This cannot be undone."</p>
                            <button
                                class="button button-bad" type="submit" formaction="/app/delete_for_good" disabled=busy
                                on:click=move |event| {
                                    event.prevent_default();
                                    delete.dispatch(());
                                }
                            >"Delete them for good"</button>
                        </div>
                    </details>
                    {move || hydrated.get().then(|| view! {
                        <button
                            class="button button-small" type="button"
                            on:click=move |_| {
                                let last = hanging.len_untracked().saturating_sub(1);
                                selection.add(hanging.ids(0, last).unwrap_or_default());
                            }
                        >"Select all"</button>
                        <button class="button button-small" type="button" on:click=move |_| selection.clear()>"Clear"</button>
                    })}
                </form>
                <Wall hanging=hanging selection=selection opens=false/>
            }
            .into_any()
        } else {
            view! { <p class="quiet nothing">"The trash is empty."</p> }.into_any()
        }}
        {trash.next.map(|cursor| view! {
            <p class="wall-more">
                <a class="button" href=format!("/trash?after={}", percent_encode(&cursor))>"Earlier"</a>
            </p>
        })}
    }
}
