//! `/collections`: the viewer's own, and those that others share.

use super::places::{Place, Places};
use super::undo::use_undo;
use super::{
    ChangeCollection, Collection, CreateCollection, ImageQuery, RestoreCollection,
    delete_collection, list_collections,
};
use crate::account::Role;
use crate::components::{
    ErrorNotice, Notice, Picture, TextField, Tone, field_error, form_error, ratio_class,
};
use crate::error::AppError;
use crate::session::{SignedInOnly, use_viewer_here};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/collections`
#[component]
pub fn CollectionsPage() -> impl IntoView {
    view! {
        <Title text="Collections · Atelier"/>
        <SignedInOnly>
            <Shelf/>
        </SignedInOnly>
    }
}

#[component]
fn Shelf() -> impl IntoView {
    let create = ServerAction::<CreateCollection>::new();
    let change = ServerAction::<ChangeCollection>::new();
    let removed = RwSignal::new(0_u32);
    let problem = RwSignal::new(None::<AppError>);
    let undo = use_undo();
    let restore = ServerAction::<RestoreCollection>::new();
    let collections = Resource::new(
        move || {
            (
                create.version().get(),
                change.version().get(),
                removed.get(),
                restore.version().get(),
                undo.returned.get(),
            )
        },
        |_| list_collections(),
    );
    // Without wasm the address says what was deleted; with it, a toast does.
    let deleted = use_query_map().with_untracked(|map| map.get("deleted"));
    let may_share = use_viewer_here().is_some_and(|viewer| viewer.role != Role::Viewer);
    let answer = create.value();
    let other = form_error(answer, &["name"]);
    let failed = move || {
        let change = change.value().get().map(|answer| answer.map(|_| ()));
        let restore = restore.value().get().map(|answer| answer.map(|_| ()));
        match (change, restore, problem.get()) {
            (Some(Err(error)), ..) | (_, Some(Err(error)), _) | (.., Some(error)) => {
                Some(view! { <ErrorNotice error=error/> })
            }
            _ => None,
        }
    };
    view! {
        <div class="page">
            <Places here=Some(Place::Collections)/>
            <div class="page-head"><h1>"Collections"</h1></div>
            {failed}
            {deleted.map(|id| view! {
                <Notice tone=Tone::Good>
                    <p>"The collection is deleted, its images are not."</p>
                    <ActionForm action=restore>
                        <input type="hidden" name="id" value=id/>
                        <button class="button button-small" type="submit">"Undo"</button>
                    </ActionForm>
                </Notice>
            })}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match collections.await {
                        Ok(all) => view! { <Shelves all=all change=change removed=removed problem=problem/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
            <article class="card" aria-labelledby="new-collection-title">
                <h2 id="new-collection-title">"New collection"</h2>
                {move || other.get().map(|error| view! { <ErrorNotice error=error/> })}
                <ActionForm action=create>
                    <div class="stack">
                        <TextField id="collection-name" name="name" label="Name" error=field_error(answer, "name")/>
                        {may_share.then(|| view! {
                            <label class="check" for="collection-shared">
                                <input type="checkbox" id="collection-shared" name="shared" value="true"/>
                                "Everybody who can sign in may look at it"
                            </label>
                        })}
                        <p><button class="button" type="submit" disabled=move || create.pending().get()>"Make the collection"</button></p>
                    </div>
                </ActionForm>
            </article>
        </div>
    }
}

#[component]
fn Shelves(
    all: Vec<Collection>,
    change: ServerAction<ChangeCollection>,
    removed: RwSignal<u32>,
    problem: RwSignal<Option<AppError>>,
) -> impl IntoView {
    let (mine, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|collection| collection.mine);
    let none = mine.is_empty();
    let cards = move |collections: Vec<Collection>| {
        collections
            .into_iter()
            .map(|collection| view! { <Card collection=collection change=change removed=removed problem=problem/> })
            .collect_view()
    };
    view! {
        {none.then(|| view! {
            <p class="quiet">
                "A collection keeps images together that belong together: a project, a style, what you want to show. Make one here, then select images in the gallery and add them to it."
            </p>
        })}
        <ul class="shelf">{cards(mine)}</ul>
        {(!others.is_empty()).then(|| view! {
            <h2>"Shared by others"</h2>
            <ul class="shelf">{cards(others)}</ul>
        })}
    }
}

#[component]
fn Card(
    collection: Collection,
    change: ServerAction<ChangeCollection>,
    removed: RwSignal<u32>,
    problem: RwSignal<Option<AppError>>,
) -> impl IntoView {
    let href = ImageQuery {
        collection: collection.id.0.clone(),
        ..ImageQuery::default()
    }
    .address(None);
    let about = match (collection.images, collection.mine, collection.shared) {
        (count, false, _) => format!("{} · {}", images(count), collection.owner),
        (count, true, true) => format!("{} · shared with everybody", images(count)),
        (count, true, false) => format!("{} · only yours", images(count)),
    };
    let cover = match collection.cover {
        Some(card) => view! {
            <span class=format!("shelf-cover {}", ratio_class(card.width, card.height))>
                <Picture
                    src=card.id.thumbnail_url() alt=String::new() width=card.width height=card.height
                    colour=card.dominant_colour lazy=true
                />
            </span>
        }
        .into_any(),
        None => view! { <span class="shelf-cover shelf-blank"></span> }.into_any(),
    };
    let id = collection.id.0.clone();
    let (field, box_id) = (format!("name-{id}"), format!("shared-{id}"));
    let name = collection.name.clone();
    let deleted = id.clone();
    // Whoever may only look can end what was shared before, not begin it.
    let may_share =
        collection.shared || use_viewer_here().is_some_and(|viewer| viewer.role != Role::Viewer);
    let undo = use_undo();
    let offered = (collection.id.clone(), name.clone());
    let remove = Action::new(move |(): &()| {
        let (id, name) = offered.clone();
        async move {
            match delete_collection(id.0.clone()).await {
                Ok(()) => {
                    problem.set(None);
                    undo.offer_collection(id, name);
                    removed.update(|removed| *removed += 1);
                }
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    let edit = collection.mine.then(|| view! {
        <details class="fold">
            <summary>{format!("Change {name}")}</summary>
            <div class="stack">
                <ActionForm action=change>
                    <div class="stack">
                        <input type="hidden" name="id" value=id.clone()/>
                        <label class="field-label" for=field.clone()>"Name"</label>
                        <input class="input" id=field name="name" value=name.clone() maxlength="100" required/>
                        {may_share.then(|| view! {
                            <label class="check" for=box_id.clone()>
                                <input type="checkbox" id=box_id.clone() name="shared" value="true" checked=collection.shared/>
                                "Everybody who can sign in may look at it"
                            </label>
                        })}
                        <p><button class="button button-small" type="submit">"Save"</button></p>
                    </div>
                </ActionForm>
                <form
                    method="post" action="/app/delete_collection"
                    on:submit=move |event| {
                        event.prevent_default();
                        remove.dispatch(());
                    }
                >
                    <input type="hidden" name="id" value=deleted/>
                    <button
                        class="button button-small button-bad" type="submit" disabled=move || remove.pending().get()
                    >"Delete the collection, keep its images"</button>
                </form>
            </div>
        </details>
    });
    view! {
        <li class="shelf-card">
            <a class="shelf-link" href=href>
                {cover}
                <span class="shelf-name">{collection.name.clone()}</span>
            </a>
            <p class="quiet small number">{about}</p>
            {edit}
        </li>
    }
}

fn images(count: u64) -> String {
    match count {
        1 => "1 image".into(),
        count => format!("{count} images"),
    }
}
