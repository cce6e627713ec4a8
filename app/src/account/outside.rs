//! Signing in through a provider: the button at the door, the card on the account page, and the words
//! for what can go wrong on the way.

use super::{OutsideState, UnlinkOutside, load_outside};
use crate::components::{ErrorNotice, Notice, Tone, percent_encode};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

/// What a refusal means, by its code in the address. Nobody can put words of their own there.
pub fn outside_words(code: &str) -> &'static str {
    match code {
        "lost" => {
            "The way back from the sign-in was lost: it took too long, or began in another browser. Try again."
        }
        "denied" => "The provider did not sign you in.",
        "doubt" => {
            "What the provider said about you could not be believed. Tell an administrator of this server; its log has the cause."
        }
        "away" => {
            "The provider does not answer. Try again in a minute, or sign in with a password."
        }
        "unknown" => {
            "Nobody here is known by that account. Sign in with your password and connect it on the account page, or ask an administrator to invite you."
        }
        "closed" => "This account is closed. An administrator of this server can open it again.",
        "taken" => "Another user of this server is known by that account already.",
        "name" => {
            "Your name at the provider cannot be used here. Ask an administrator to invite you."
        }
        _ => "That did not work. Try again; the server's log has the cause.",
    }
}

/// The refusal that the address speaks of, where it does.
#[component]
pub(super) fn Refusal() -> impl IntoView {
    let code = use_query_map().with_untracked(|query| query.get("refused"));
    code.map(|code| view! { <Notice tone=Tone::Bad>{outside_words(&code)}</Notice> })
}

/// "Sign in with …", where a provider is set.
#[component]
pub(super) fn OutsideDoor(next: String) -> impl IntoView {
    let outside = OnceResource::new_blocking(load_outside());
    let href = format!("/oidc/start?next={}", percent_encode(&next));
    view! {
        <Suspense>
            {move || {
                let href = href.clone();
                Suspend::new(async move {
                    let name = outside.await.ok().and_then(|outside| outside.name);
                    name.map(|name| view! {
                        <a class="button button-wide" rel="external" href=href>{format!("Sign in with {name}")}</a>
                    })
                })
            }}
        </Suspense>
    }
}

/// The account page's card, where a provider is set.
#[component]
pub(super) fn OutsideCard(outside: OutsideState) -> impl IntoView {
    let unlink = ServerAction::<UnlinkOutside>::new();
    Effect::new(move |_| {
        if let Some(Ok(())) = unlink.value().get() {
            // Fails only for an address that is not one.
            let _ = window().location().assign("/account");
        }
    });
    let error = move || match unlink.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }),
        _ => None,
    };
    let OutsideState { name, links } = outside;
    name.map(|name| {
        let body = if links > 0 {
            view! {
                <p class="quiet">{format!("You can sign in with {name}.")}</p>
                {error}
                <ActionForm action=unlink>
                    <button class="button" type="submit">"Disconnect"</button>
                </ActionForm>
            }
            .into_any()
        } else {
            view! {
                <p class="quiet">{format!("Connect your account at {name} to sign in with it from now on.")}</p>
                <p><a class="button" rel="external" href="/oidc/start?link&next=%2Faccount">{format!("Connect {name}")}</a></p>
            }
            .into_any()
        };
        view! {
            <section class="card" aria-labelledby="outside-title">
                <h2 id="outside-title">{name.clone()}</h2>
                <Refusal/>
                {body}
            </section>
        }
    })
}
