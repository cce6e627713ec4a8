//! `/admin/people/ID`: one user, and what an administrator can do about them.

use super::super::{SetUserDisabled, UserRow};
use super::invitations::{RoleField, SecretLink};
use super::leaving::LeavingCard;
use super::people_page::{AdminNav, AdminsOnly, failed, renew_after};
use super::quota_form::PersonQuotaCard;
use super::{EndTwoStepOf, MadeLink, MakeResetLink, PersonData, SetUserRole, load_person};
use crate::account::UserId;
use crate::components::{Badge, ErrorNotice, Moment, Tone, bytes_text};
use crate::error::AppError;
use crate::session::use_viewer_here;
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_params_map;

/// `/admin/people/ID`
#[component]
pub fn PersonPage() -> impl IntoView {
    view! {
        <Title text="Person · Atelier"/>
        <AdminsOnly>
            <Person/>
        </AdminsOnly>
    }
}

#[component]
fn Person() -> impl IntoView {
    let id = use_params_map()
        .with_untracked(|params| params.get("id"))
        .and_then(|id| id.parse().ok())
        .map(UserId);
    provide_context(LatestReset(RwSignal::new(None)));
    let changes = RwSignal::new(0u32);
    let person = Resource::new(
        move || changes.get(),
        move |_| async move {
            match id {
                Some(id) => load_person(id).await,
                None => Err(AppError::NotFound),
            }
        },
    );
    view! {
        <div class="page page-narrow">
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match person.await {
                        Ok(data) => view! { <Facts data=data changes=changes/> }.into_any(),
                        Err(error) => {
                            #[cfg(feature = "ssr")]
                            if error == AppError::NotFound {
                                crate::response::set_status(404);
                            }
                            view! {
                                <h1>"People"</h1>
                                <AdminNav/>
                                <ErrorNotice error=error/>
                            }
                            .into_any()
                        }
                    }
                })}
            </Transition>
        </div>
    }
}

fn is_me(id: UserId) -> bool {
    use_viewer_here().is_some_and(|viewer| viewer.id == id)
}

#[component]
fn Facts(data: PersonData, changes: RwSignal<u32>) -> impl IntoView {
    let PersonData {
        user,
        sessions,
        tokens,
        two_step,
        looks,
        others,
    } = data;
    let look = (looks && !is_me(user.id)).then(|| {
        view! { <a href=format!("/admin/people/{}/images", user.id.0) rel="external">"Look at them"</a> }
    });
    let is_me = is_me(user.id);
    let seen = match user.last_seen_at {
        Some(at) => view! { <Moment at=at/> }.into_any(),
        None => view! { "never" }.into_any(),
    };
    let state = if user.disabled {
        view! { <Badge tone=Tone::Bad>"sign-in closed"</Badge> }
    } else {
        view! { <Badge tone=Tone::Good>"sign-in open"</Badge> }
    };
    view! {
        <div class="page-head">
            <h1>{user.name.clone()}</h1>
            {state}
        </div>
        <AdminNav/>
        <section class="card" aria-labelledby="facts-title">
            <h2 id="facts-title">"At a glance"</h2>
            <dl class="facts">
                <dt>"Role"</dt><dd>{user.role.as_str()}</dd>
                <dt>"Since"</dt><dd><Moment at=user.created_at/></dd>
                <dt>"Last seen"</dt><dd>{seen}</dd>
                <dt>"Signed-in browsers"</dt><dd class="number">{sessions}</dd>
                <dt>"Two-step sign-in"</dt><dd>{if two_step { "on" } else { "off" }}</dd>
                <dt>"API tokens"</dt><dd class="number">{tokens}</dd>
                <dt>"Images"</dt><dd class="number">{format!("{}, {} ", user.images, bytes_text(user.bytes))}{look}</dd>
            </dl>
        </section>
        <RoleCard user=user.clone() is_me=is_me changes=changes/>
        <ResetCard user=user.clone() two_step=two_step changes=changes/>
        <PersonQuotaCard id=user.id/>
        <DoorCard user=user.clone() is_me=is_me changes=changes/>
        {(!is_me).then(|| view! { <LeavingCard user=user others=others looks=looks/> })}
    }
}

#[component]
fn RoleCard(user: UserRow, is_me: bool, changes: RwSignal<u32>) -> impl IntoView {
    let action = ServerAction::<SetUserRole>::new();
    renew_after(action, changes);
    view! {
        <section class="card" aria-labelledby="role-title">
            <h2 id="role-title">"Role"</h2>
            {failed(action)}
            <p class="quiet">
                {if is_me {
                    "This is you. With another role you are signed out, and only another administrator can undo it."
                } else {
                    "Changing it signs them out everywhere."
                }}
            </p>
            <ActionForm action=action>
                <input type="hidden" name="id" value=user.id.0.to_string()/>
                <div class="row-fields">
                    <RoleField id="person-role" label="May do" role=user.role/>
                    <button class="button row-button" type="submit" disabled=move || action.pending().get()>"Change the role"</button>
                </div>
            </ActionForm>
        </section>
    }
}

/// Survives the page's facts being asked for again.
#[derive(Clone, Copy)]
struct LatestReset(RwSignal<Option<MadeLink>>);

#[component]
fn ResetCard(user: UserRow, two_step: bool, changes: RwSignal<u32>) -> impl IntoView {
    let make = ServerAction::<MakeResetLink>::new();
    let end = ServerAction::<EndTwoStepOf>::new();
    renew_after(end, changes);
    let latest = use_context::<LatestReset>().map_or_else(|| RwSignal::new(None), |it| it.0);
    Effect::new(move |_| {
        if let Some(Ok(link)) = make.value().get() {
            latest.set(Some(link));
        }
    });
    let hydrated = crate::hydrated::use_hydrated();
    let id = user.id.0.to_string();
    let off = two_step.then(|| {
        view! {
            <p class="quiet">"They lost their phone and their recovery codes? Switch their second step off; the password is still asked for."</p>
            {failed(end)}
            <ActionForm action=end>
                <input type="hidden" name="id" value=user.id.0.to_string()/>
                <button class="button" type="submit">"Switch two-step sign-in off"</button>
            </ActionForm>
        }
    });
    view! {
        <section class="card" aria-labelledby="reset-title">
            <h2 id="reset-title">"Password"</h2>
            {failed(make)}
            {move || latest.get().map(|link| view! { <SecretLink link=link words="Give this link to them, and to nobody else: it sets their password, once. It is shown this once."/> })}
            <p class="quiet">"Forgotten? Make a link by which they choose a new one. You never see it."</p>
            <ActionForm action=make>
                <input type="hidden" name="id" value=id/>
                <button class="button" type="submit" disabled=move || !hydrated.get() || user.disabled || make.pending().get()>"Make a reset link"</button>
            </ActionForm>
            {off}
        </section>
    }
}

#[component]
fn DoorCard(user: UserRow, is_me: bool, changes: RwSignal<u32>) -> impl IntoView {
    let action = ServerAction::<SetUserDisabled>::new();
    renew_after(action, changes);
    let (words, label) = if user.disabled {
        (
            "They cannot sign in. Their images are kept; tokens they had stay revoked.",
            "Open sign-in",
        )
    } else {
        (
            "Closing it signs them out at once and revokes their tokens. Their images are kept.",
            "Close sign-in",
        )
    };
    let form = (!is_me).then(|| {
        view! {
            <ActionForm action=action>
                <input type="hidden" name="id" value=user.id.0.to_string()/>
                <input type="hidden" name="disabled" value=(!user.disabled).to_string()/>
                <button class="button" type="submit">{label}</button>
            </ActionForm>
        }
    });
    view! {
        <section class="card" aria-labelledby="door-title">
            <h2 id="door-title">"Sign-in"</h2>
            {failed(action)}
            <p class="quiet">
                {if is_me { "You cannot close your own sign-in; another administrator can." } else { words }}
            </p>
            {form}
        </section>
    }
}
