//! Removing a user: what becomes of their images is chosen first, and named once more on the button.

use super::people_page::failed;
use super::{RemoveUser, images_in_words};
use crate::account::UserId;
use crate::admin::UserRow;
use crate::components::{Field, field_error};
use leptos::form::ActionForm;
use leptos::prelude::*;

/// The card on a user's page; `others` may take the images over.
#[component]
pub(super) fn LeavingCard(
    user: UserRow,
    others: Vec<(UserId, String)>,
    looks: bool,
) -> impl IntoView {
    let action = ServerAction::<RemoveUser>::new();
    let answer = action.value();
    Effect::new(move |_| {
        if let Some(Ok(path)) = answer.get() {
            // Fails only for an address that is not one.
            let _ = window().location().assign(&path);
        }
    });
    let id = user.id.0;
    let export = looks.then(|| {
        view! {
            <p>
                <a class="button" rel="external" download=format!("user-{id}.zip") href=format!("/api/admin/users/{id}/export.zip")>"Export everything as zip"</a>
            </p>
        }
    });
    let heirs = others
        .into_iter()
        .map(|(id, name)| view! { <option value=id.0.to_string()>{name}</option> })
        .collect_view();
    view! {
        <section class="card" aria-labelledby="leaving-title">
            <h2 id="leaving-title">"Remove this user"</h2>
            {failed(action)}
            <p class="quiet">
                {format!("They have {}. Their running and waiting jobs are stopped; removing cannot be undone.", images_in_words(user.images))}
                {if looks { "" } else { " They can export everything themselves, on their account page; so can whoever runs this server, with " }}
                {(!looks).then(|| view! { <code>"atelier user delete --export"</code>"." })}
            </p>
            {export}
            <details class="fold">
                <summary>"Hand their images over and remove the user"</summary>
                <ActionForm action=action>
                    <input type="hidden" name="id" value=id.to_string()/>
                    <div class="row-fields">
                        <Field id="heir" label="Who takes the images over" error=field_error(answer, "heir")>
                            <select class="input" id="heir" name="heir" required aria-describedby="heir-note">
                                <option value="">"Choose a user"</option>
                                {heirs}
                            </select>
                        </Field>
                        <button class="button button-bad row-button" type="submit" disabled=move || action.pending().get()>"Hand over and remove"</button>
                    </div>
                </ActionForm>
            </details>
            <details class="fold">
                <summary>"Erase their images and remove the user"</summary>
                <ActionForm action=action>
                    <input type="hidden" name="id" value=id.to_string()/>
                    <input type="hidden" name="heir" value=""/>
                    <input type="hidden" name="erase" value="true"/>
                    <button class="button button-bad" type="submit" disabled=move || action.pending().get()>
                        {format!("Erase {} and remove {}", images_in_words(user.images), user.name)}
                    </button>
                </ActionForm>
            </details>
        </section>
    }
}
