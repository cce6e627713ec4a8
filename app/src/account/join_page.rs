//! The doors for people without an account: `/join/CODE`, behind an invitation's link, and
//! `/sign-up`, where an account can be asked for.

use super::sign_in_page::leave_when_signed_in;
use super::{AcceptInvitation, Role, SignUp, load_invitation, may_sign_up};
use crate::components::{ErrorNotice, Moment, Notice, TextField, Tone, field_error, form_error};
use crate::session::{Elsewhere, use_viewer_here};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::{use_params_map, use_query_map};

/// What a role lets one do, for whoever is about to have it.
fn in_words(role: Role) -> &'static str {
    match role {
        Role::Admin => {
            "You will be an administrator: you can make images and look after this server."
        }
        Role::Member => {
            "You will be a member: you can make images, and nobody else sees them unless you share them."
        }
        Role::Viewer => "You will be a viewer: you can look at images that are shared with you.",
    }
}

/// `/join/CODE`
#[component]
pub fn JoinPage() -> impl IntoView {
    let code = use_params_map()
        .with_untracked(|params| params.get("code"))
        .unwrap_or_default();
    let offer = OnceResource::new_blocking(load_invitation(code.clone()));
    let signed_in = use_viewer_here();
    view! {
        <Title text="Invitation · Atelier"/>
        <section class="door">
            <h1>"Join this studio"</h1>
            {signed_in.map(|viewer| view! {
                <Notice tone=Tone::Warn>
                    <p>"You are signed in as "<strong>{viewer.name}</strong>". Joining makes another account, and signs you in as that one."</p>
                </Notice>
            })}
            <Suspense>
                {move || {
                    let code = code.clone();
                    Suspend::new(async move {
                        match offer.await {
                            Ok(offer) => {
                                let by = match offer.made_by {
                                    Some(name) => format!("{name} invites you. "),
                                    None => "You are invited. ".into(),
                                };
                                view! {
                                    <p class="quiet">{by}{in_words(offer.role)}</p>
                                    <JoinForm code=code/>
                                    <p class="quiet door-foot">"The invitation is good until "<Moment at=offer.expires_at/>"."</p>
                                }
                                .into_any()
                            }
                            Err(error) => {
                                // Anything else is no word about the link: it may be tried again.
                                #[cfg(feature = "ssr")]
                                if matches!(error, crate::error::AppError::Invalid { .. }) {
                                    crate::response::set_status(404);
                                }
                                view! {
                                    <ErrorNotice error=error/>
                                    <p class="quiet door-foot"><a href="/sign-in">"Have an account already? Sign in"</a></p>
                                }
                                .into_any()
                            }
                        }
                    })
                }}
            </Suspense>
        </section>
    }
}

#[component]
fn JoinForm(code: String) -> impl IntoView {
    let action = ServerAction::<AcceptInvitation>::new();
    let answer = action.value();
    leave_when_signed_in(answer);
    let error = form_error(answer, &["name", "password"]);
    view! {
        <ActionForm action=action>
            <div class="stack">
                {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                <input type="hidden" name="code" value=code/>
                <NameAndPassword name_error=field_error(answer, "name") password_error=field_error(answer, "password")/>
                <button class="button button-main button-wide" type="submit" disabled=move || action.pending().get()>
                    {move || if action.pending().get() { "Joining …" } else { "Join" }}
                </button>
            </div>
        </ActionForm>
    }
}

#[component]
fn NameAndPassword(
    #[prop(into)] name_error: Signal<Option<String>>,
    #[prop(into)] password_error: Signal<Option<String>>,
) -> impl IntoView {
    view! {
        <TextField id="name" name="name" label="Name" autocomplete="username" hint="What you sign in with; letter case does not matter." error=name_error/>
        <TextField
            id="password" name="password" label="Password" kind="password" autocomplete="new-password"
            hint="At least 12 characters; a few words are fine."
            error=password_error
        />
    }
}

/// `/sign-up`
#[component]
pub fn SignUpPage() -> impl IntoView {
    let query = use_query_map();
    let asked = query.with_untracked(|query| query.get("asked").is_some());
    if use_viewer_here().is_some() {
        return view! { <Elsewhere path="/".to_owned()/> }.into_any();
    }
    let open = OnceResource::new_blocking(may_sign_up());
    let action = ServerAction::<SignUp>::new();
    let answer = action.value();
    leave_when_signed_in(answer);
    let error = form_error(answer, &["name", "password"]);
    view! {
        <Title text="Ask for an account · Atelier"/>
        <Suspense>
            {move || Suspend::new(async move {
                matches!(open.await, Ok(false)).then(|| view! { <Elsewhere path="/sign-in".to_owned()/> })
            })}
        </Suspense>
        <section class="door">
            <h1>"Ask for an account"</h1>
            {if asked {
                view! {
                    <Notice tone=Tone::Good>
                        <p>"Your request is noted. Once an administrator of this server has said yes, you can sign in with the name and password that you chose."</p>
                    </Notice>
                    <p class="quiet door-foot"><a href="/sign-in">"To the sign-in page"</a></p>
                }
                .into_any()
            } else {
                view! {
                    <p class="quiet">"Choose a name and a password. An administrator of this server then lets you in."</p>
                    <ActionForm action=action>
                        <div class="stack">
                            {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                            <NameAndPassword name_error=field_error(answer, "name") password_error=field_error(answer, "password")/>
                            <button class="button button-main button-wide" type="submit" disabled=move || action.pending().get()>"Ask for an account"</button>
                        </div>
                    </ActionForm>
                    <p class="quiet door-foot"><a href="/sign-in">"Have an account already? Sign in"</a></p>
                }
                .into_any()
            }}
        </section>
    }
    .into_any()
}
