//! `/admin/people`: everybody, who waits at the door, and the links that let people in.

use super::invitations::{Invitations, provide_latest_link};
use super::users::{NewUser, Users};
use super::{AllowLooks, AnswerSignUp, PeopleData, SetSelfSignUp, SignUpRow, load_people};
use crate::account::Viewer;
use crate::admin::admin_page::NotForYou;
use crate::components::{ErrorNotice, Moment};
use crate::session::{SignedInOnly, use_viewer_here};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_location;

/// The parts of the administrator's corner.
#[component]
pub fn AdminNav() -> impl IntoView {
    let path = use_location().pathname;
    let tab = move |href: &'static str, name: &'static str| {
        let here = move || {
            path.with(|path| match href {
                "/admin" => path == href,
                _ => path.starts_with(href),
            })
        };
        view! { <a class="tab" href=href aria-current=move || here().then_some("page")>{name}</a> }
    };
    view! {
        <nav class="tabs" aria-label="Administration">
            {tab("/admin", "Overview")}
            {tab("/admin/models", "Models")}
            {tab("/admin/queue", "Queue")}
            {tab("/admin/people", "People")}
            {tab("/admin/settings", "Settings")}
            {tab("/admin/backups", "Backups")}
            {tab("/admin/audit", "Audit log")}
        </nav>
    }
}

/// Shows its children to administrators only.
#[component]
pub fn AdminsOnly(
    /// The page.
    children: ChildrenFn,
) -> impl IntoView {
    let children = StoredValue::new(children);
    view! {
        <SignedInOnly>
            {move || {
                if use_viewer_here().as_ref().is_some_and(Viewer::is_admin) {
                    children.with_value(|children| children()).into_any()
                } else {
                    view! { <NotForYou/> }.into_any()
                }
            }}
        </SignedInOnly>
    }
}

/// `/admin/people`
#[component]
pub fn PeoplePage() -> impl IntoView {
    view! {
        <Title text="People · Atelier"/>
        <AdminsOnly>
            <People/>
        </AdminsOnly>
    }
}

#[component]
fn People() -> impl IntoView {
    provide_latest_link();
    let changes = RwSignal::new(0u32);
    let people = Resource::new(move || changes.get(), |_| load_people());
    view! {
        <div class="page">
            <h1>"People"</h1>
            <AdminNav/>
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match people.await {
                        Ok(data) => view! { <Everybody data=data changes=changes/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
            // Outside of what is asked for again, so that its word on the new user stays.
            <NewUser changes=changes/>
        </div>
    }
}

#[component]
fn Everybody(data: PeopleData, changes: RwSignal<u32>) -> impl IntoView {
    view! {
        {(!data.waiting.is_empty()).then(|| view! { <Waiting rows=data.waiting changes=changes/> })}
        <Users users=data.users/>
        <Invitations rows=data.invitations changes=changes/>
        <SelfSignUp on=data.self_sign_up changes=changes/>
        <Looks on=data.looks changes=changes/>
    }
}

/// Counts `changes` up when the action has succeeded. An error must stay where it is said.
pub(super) fn renew_after<S>(action: ServerAction<S>, changes: RwSignal<u32>)
where
    S: leptos::server_fn::ServerFn + Send + Sync + Clone + 'static,
    S::Output: Send + Sync + 'static,
    S::Error: Send + Sync + 'static,
{
    Effect::new(move |_| {
        let is_done = action.value().with(|answer| matches!(answer, Some(Ok(_))));
        if is_done {
            changes.update(|n| *n += 1);
        }
    });
}

/// The error of an action, where its latest answer is one.
pub(super) fn failed<S>(action: ServerAction<S>) -> impl Fn() -> Option<AnyView> + Clone
where
    S: leptos::server_fn::ServerFn<Error = crate::error::AppError> + Send + Sync + Clone + 'static,
    S::Output: Send + Sync + Clone + 'static,
{
    move || match action.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }.into_any()),
        _ => None,
    }
}

#[component]
fn Waiting(rows: Vec<SignUpRow>, changes: RwSignal<u32>) -> impl IntoView {
    let answer = ServerAction::<AnswerSignUp>::new();
    renew_after(answer, changes);
    let rows = rows
        .into_iter()
        .map(|row| {
            let form = |role: &'static str, word: &'static str, label: String| {
                view! {
                    <ActionForm action=answer>
                        <input type="hidden" name="id" value=row.id.0.to_string()/>
                        <input type="hidden" name="asked_at" value=row.asked_at.to_string()/>
                        <input type="hidden" name="role" value=role/>
                        <button class="button button-small" type="submit" aria-label=label>{word}</button>
                    </ActionForm>
                }
            };
            let name = &row.name;
            let member = form("member", "Let in", format!("Let {name} in as a member"));
            let viewer = form("viewer", "As viewer", format!("Let {name} in as a viewer"));
            let refuse = form("", "Refuse", format!("Refuse {name}"));
            view! {
                <li class="list-row">
                    <div class="list-main">
                        <strong>{row.name}</strong>
                        <span class="quiet">"asked "<Moment at=row.asked_at/></span>
                    </div>
                    <div class="actions">{member}{viewer}{refuse}</div>
                </li>
            }
        })
        .collect_view();
    view! {
        <section class="card" aria-labelledby="waiting-title">
            <h2 id="waiting-title">"Waiting to be let in"</h2>
            {failed(answer)}
            <ul class="list">{rows}</ul>
        </section>
    }
}

#[component]
fn SelfSignUp(on: bool, changes: RwSignal<u32>) -> impl IntoView {
    let action = ServerAction::<SetSelfSignUp>::new();
    renew_after(action, changes);
    let (words, label) = if on {
        (
            "Anybody who reaches this server can ask for an account, which then waits here until an administrator lets it in.",
            "Stop taking requests",
        )
    } else {
        (
            "Only people with an invitation, or whom you make a user, can come in. You can also let people ask for an account; each request then waits here for your answer.",
            "Take requests for accounts",
        )
    };
    view! {
        <section class="card" aria-labelledby="sign-up-title">
            <h2 id="sign-up-title">"Requests for accounts"</h2>
            {failed(action)}
            <p class="quiet">{words}</p>
            <ActionForm action=action>
                <input type="hidden" name="on" value=(!on).to_string()/>
                <button class="button" type="submit">{label}</button>
            </ActionForm>
        </section>
    }
}

#[component]
fn Looks(on: bool, changes: RwSignal<u32>) -> impl IntoView {
    let action = ServerAction::<AllowLooks>::new();
    renew_after(action, changes);
    let (words, label) = if on {
        (
            "Administrators may look at everybody's images and export them. Each look is in the audit log.",
            "Forbid looks into others' images",
        )
    } else {
        (
            "Nobody but their owner sees an image, administrators included. You can allow administrators to look; each look is then in the audit log.",
            "Allow looks into others' images",
        )
    };
    view! {
        <section class="card" aria-labelledby="looks-title">
            <h2 id="looks-title">"Looks into others' images"</h2>
            {failed(action)}
            <p class="quiet">{words}</p>
            <ActionForm action=action>
                <input type="hidden" name="on" value=(!on).to_string()/>
                <button class="button" type="submit">{label}</button>
            </ActionForm>
        </section>
    }
}
