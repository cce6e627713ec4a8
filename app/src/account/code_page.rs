//! `/sign-in/code`: the second step of sign-in, for whoever switched it on.

use super::EnterCode;
use super::sign_in_page::leave_when_signed_in;
use crate::components::{ErrorNotice, TextField, field_error, form_error, safe_path};
use crate::session::{Elsewhere, use_viewer_here};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/sign-in/code`
#[component]
pub fn CodePage() -> impl IntoView {
    let next = safe_path(
        &use_query_map()
            .with_untracked(|query| query.get("next"))
            .unwrap_or_default(),
    );
    if use_viewer_here().is_some() {
        return view! { <Elsewhere path=next/> }.into_any();
    }
    let action = ServerAction::<EnterCode>::new();
    let answer = action.value();
    leave_when_signed_in(answer);
    let error = form_error(answer, &["code"]);
    view! {
        <Title text="Sign in · Atelier"/>
        <section class="door">
            <h1>"One more step"</h1>
            <p class="quiet">"Open the app on your phone and type the code that it shows for Atelier. Without the app, use one of your recovery codes."</p>
            <ActionForm action=action>
                <div class="stack">
                    {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                    <TextField id="code" name="code" label="Code" autocomplete="one-time-code" hint="Six digits, or a recovery code." error=field_error(answer, "code")/>
                    <input type="hidden" name="next" value=next/>
                    <button class="button button-main button-wide" type="submit" disabled=move || action.pending().get()>"Sign in"</button>
                </div>
            </ActionForm>
            <p class="quiet door-foot">"Lost both? An administrator of this server can switch this step off. "<a href="/sign-in">"Start again"</a></p>
        </section>
    }
    .into_any()
}
