//! `/reset/CODE`: choosing a new password, behind a link that an administrator made.

use super::sign_in_page::leave_when_signed_in;
use super::{ResetByLink, load_reset};
use crate::components::{ErrorNotice, TextField, field_error, form_error};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_params_map;

/// `/reset/CODE`
#[component]
pub fn ResetPage() -> impl IntoView {
    let code = use_params_map()
        .with_untracked(|params| params.get("code"))
        .unwrap_or_default();
    let name = OnceResource::new_blocking(load_reset(code.clone()));
    let action = ServerAction::<ResetByLink>::new();
    let answer = action.value();
    leave_when_signed_in(answer);
    let error = form_error(answer, &["password"]);
    view! {
        <Title text="New password · Atelier"/>
        <section class="door">
            <h1>"Choose a new password"</h1>
            <Suspense>
                {move || {
                    let code = code.clone();
                    Suspend::new(async move {
                        match name.await {
                            Ok(name) => view! {
                                <p class="quiet">"For "<strong>{name.clone()}</strong>". Every browser that is signed in as you will be signed out."</p>
                                <ActionForm action=action>
                                    <div class="stack">
                                        {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                                        <input type="hidden" name="code" value=code/>
                                        // For password managers: which account it is.
                                        <input class="hidden" type="text" name="username" value=name autocomplete="username" aria-label="Name" tabindex="-1" aria-hidden="true" readonly/>
                                        <TextField
                                            id="password" name="password" label="New password" kind="password" autocomplete="new-password"
                                            hint="At least 12 characters; a few words are fine."
                                            error=field_error(answer, "password")
                                        />
                                        <button class="button button-main button-wide" type="submit" disabled=move || action.pending().get()>"Set the password"</button>
                                    </div>
                                </ActionForm>
                            }
                            .into_any(),
                            Err(error) => {
                                // Anything else is no word about the link: it may be tried again.
                                #[cfg(feature = "ssr")]
                                if matches!(error, crate::error::AppError::Invalid { .. }) {
                                    crate::response::set_status(404);
                                }
                                view! {
                                    <ErrorNotice error=error/>
                                    <p class="quiet door-foot"><a href="/sign-in">"To the sign-in page"</a></p>
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
