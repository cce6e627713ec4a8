//! The two doors: signing in, and setting an empty server up.

use super::outside::{OutsideDoor, Refusal};
use super::{CreateFirstAdmin, SignIn, may_sign_up, needs_setup};
use crate::components::{
    Answer, ErrorNotice, Notice, TextField, Tone, field_error, form_error, safe_path,
};
use crate::session::{Elsewhere, use_viewer_here};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// Goes to the page that the server named, by loading it afresh: everything on it depends on who asks.
pub(super) fn leave_when_signed_in(answer: Answer<String>) {
    Effect::new(move |_| {
        if let Some(Ok(next)) = answer.get() {
            // Fails only for an address that is not one; `safe_path` made it.
            let _ = window().location().assign(&next);
        }
    });
}

/// `/sign-in`
#[component]
pub fn SignInPage() -> impl IntoView {
    let query = use_query_map();
    let next = safe_path(
        &query
            .with_untracked(|query| query.get("next"))
            .unwrap_or_default(),
    );
    if use_viewer_here().is_some() {
        return view! { <Elsewhere path=next/> }.into_any();
    }
    // Whoever was invited before there was an administrator comes in here, too.
    let has_account = query.with_untracked(|query| query.get("from").as_deref() == Some("setup"));
    let was_reset = query.with_untracked(|query| query.get("reset").is_some());
    let empty = OnceResource::new_blocking(needs_setup());
    let open = OnceResource::new_blocking(may_sign_up());
    let outside_next = next.clone();
    let action = ServerAction::<SignIn>::new();
    let answer = action.value();
    leave_when_signed_in(answer);
    let error = form_error(answer, &["name", "password"]);
    view! {
        <Title text="Sign in · Atelier"/>
        <Suspense>
            {move || Suspend::new(async move {
                (!has_account && matches!(empty.await, Ok(true))).then(|| view! { <Elsewhere path="/setup".to_owned()/> })
            })}
        </Suspense>
        <section class="door">
            <h1>"Sign in"</h1>
            <p class="quiet">"Your own image studio, on your own machine."</p>
            <Refusal/>
            {was_reset.then(|| view! { <Notice tone=Tone::Good>"The new password is set. Sign in with it."</Notice> })}
            <ActionForm action=action>
                <div class="stack">
                    {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                    <TextField id="name" name="name" label="Name" autocomplete="username" error=field_error(answer, "name")/>
                    <TextField id="password" name="password" label="Password" kind="password" autocomplete="current-password" error=field_error(answer, "password")/>
                    <input type="hidden" name="next" value=next/>
                    <button class="button button-main button-wide" type="submit" disabled=move || action.pending().get()>
                        {move || if action.pending().get() { "Signing in …" } else { "Sign in" }}
                    </button>
                </div>
            </ActionForm>
            <OutsideDoor next=outside_next/>
            <p class="quiet door-foot">
                <Suspense>
                    {move || Suspend::new(async move {
                        if matches!(open.await, Ok(true)) {
                            view! { "No account yet? "<a href="/sign-up">"Ask for one"</a>"." }.into_any()
                        } else {
                            view! { "No account yet? An administrator of this server can invite you." }.into_any()
                        }
                    })}
                </Suspense>
            </p>
        </section>
    }
    .into_any()
}

/// `/setup`: whoever has the code becomes the first administrator.
#[component]
pub fn SetupPage() -> impl IntoView {
    let empty = OnceResource::new_blocking(needs_setup());
    let action = ServerAction::<CreateFirstAdmin>::new();
    let answer = action.value();
    leave_when_signed_in(answer);
    let error = form_error(answer, &["code", "name", "password"]);
    view! {
        <Title text="Set up · Atelier"/>
        <Suspense>
            {move || Suspend::new(async move {
                matches!(empty.await, Ok(false)).then(|| view! { <Elsewhere path="/sign-in".to_owned()/> })
            })}
        </Suspense>
        <section class="door">
            <h1>"Set up this server"</h1>
            <p class="quiet">"Nobody looks after this server yet. The account you make now is the administrator's."</p>
            <ActionForm action=action>
                <div class="stack">
                    {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                    <TextField
                        id="code" name="code" label="Setup code" autocomplete="one-time-code"
                        hint="The server printed it where it was started."
                        error=field_error(answer, "code")
                    />
                    <TextField id="name" name="name" label="Name" autocomplete="username" error=field_error(answer, "name")/>
                    <TextField
                        id="password" name="password" label="Password" kind="password" autocomplete="new-password"
                        hint="At least 12 characters; a few words are fine."
                        error=field_error(answer, "password")
                    />
                    <button class="button button-main button-wide" type="submit" disabled=move || action.pending().get()>
                        {move || if action.pending().get() { "Setting up …" } else { "Make the administrator" }}
                    </button>
                </div>
            </ActionForm>
            <p class="quiet door-foot"><a href="/sign-in?from=setup">"Have an account already? Sign in"</a></p>
        </section>
    }
}
