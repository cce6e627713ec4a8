//! Who lives here, and making users by hand.

use super::super::{CreateUser, UserRow};
use super::invitations::RoleField;
use crate::components::{
    Badge, ErrorNotice, Moment, Notice, TextField, Tone, bytes_text, field_error, form_error,
};
use leptos::form::ActionForm;
use leptos::prelude::*;

/// Everybody, each with a page of their own.
#[component]
pub(super) fn Users(users: Vec<UserRow>) -> impl IntoView {
    let rows = users
        .into_iter()
        .map(|user| {
            let state = if user.disabled {
                view! { <Badge tone=Tone::Bad>"closed"</Badge> }
            } else {
                view! { <Badge tone=Tone::Good>"open"</Badge> }
            };
            let seen = match user.last_seen_at {
                Some(at) => view! { <Moment at=at/> }.into_any(),
                None => view! { <span class="quiet">"never"</span> }.into_any(),
            };
            view! {
                <tr>
                    <th scope="row"><a href=format!("/admin/people/{}", user.id.0)>{user.name}</a></th>
                    <td>{user.role.as_str()}</td>
                    <td>{state}</td>
                    <td class="right number">{user.images.to_string()}</td>
                    <td class="right number">{bytes_text(user.bytes)}</td>
                    <td class="number"><Moment at=user.created_at/></td>
                    <td class="number">{seen}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <section aria-labelledby="users-title">
            <h2 id="users-title">"Users"</h2>
            <div class="table-frame" tabindex="0" role="region" aria-labelledby="users-title">
                <table class="table">
                    <thead>
                        <tr>
                            <th scope="col">"Name"</th>
                            <th scope="col">"Role"</th>
                            <th scope="col">"Sign-in"</th>
                            <th scope="col" class="right">"Images"</th>
                            <th scope="col" class="right">"Space"</th>
                            <th scope="col">"Since"</th>
                            <th scope="col">"Last seen"</th>
                        </tr>
                    </thead>
                    <tbody>{rows}</tbody>
                </table>
            </div>
        </section>
    }
}

/// Makes a user with a first password.
#[component]
pub(super) fn NewUser(changes: RwSignal<u32>) -> impl IntoView {
    let action = ServerAction::<CreateUser>::new();
    super::people_page::renew_after(action, changes);
    let answer = action.value();
    let error = form_error(answer, &["name", "password", "role"]);
    let made = move || match answer.get() {
        Some(Ok(user)) => Some(view! {
            <Notice tone=Tone::Good>
                <p><strong>{user.name}</strong>" can sign in now. Tell them the first password in person; they can change it under Account."</p>
            </Notice>
        }),
        _ => None,
    };
    view! {
        <section class="card" aria-labelledby="new-user-title">
            <h2 id="new-user-title">"New user"</h2>
            <p class="quiet">"An invitation is better: its reader chooses a password that you never see."</p>
            {made}
            {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
            <ActionForm action=action>
                <div class="invite-fields">
                    <TextField id="user-name" name="name" label="Name" error=field_error(answer, "name")/>
                    <TextField
                        id="user-password" name="password" label="First password" kind="password" autocomplete="new-password"
                        hint="At least 12 characters." error=field_error(answer, "password")
                    />
                    <RoleField id="user-role" label="Role"/>
                    <button class="button row-button" type="submit" disabled=move || action.pending().get()>"Make the user"</button>
                </div>
            </ActionForm>
        </section>
    }
}
