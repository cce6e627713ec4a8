//! Who lives here: making users, closing and opening their sign-in.

use super::{CreateUser, SetUserDisabled, UserRow, list_users};
use crate::account::UserId;
use crate::components::{
    Badge, ErrorNotice, Field, Moment, Notice, TextField, Tone, bytes_text, field_error, form_error,
};
use crate::session::use_viewer_here;
use leptos::form::ActionForm;
use leptos::prelude::*;

/// The user section of the admin page.
#[component]
pub fn Users() -> impl IntoView {
    let create = ServerAction::<CreateUser>::new();
    let disable = ServerAction::<SetUserDisabled>::new();
    let users = Resource::new(
        move || (create.version().get(), disable.version().get()),
        |_| list_users(),
    );
    let error = move || match disable.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }),
        _ => None,
    };
    view! {
        <section aria-labelledby="users-title">
            <h2 id="users-title">"Users"</h2>
            {error}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match users.await {
                        Ok(users) => view! { <Table users=users disable=disable/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
            <NewUser action=create/>
        </section>
    }
}

#[component]
fn Table(users: Vec<UserRow>, disable: ServerAction<SetUserDisabled>) -> impl IntoView {
    let me: Option<UserId> = use_viewer_here().map(|viewer| viewer.id);
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
            let name = user.name.clone();
            let word = if user.disabled { "Open sign-in" } else { "Close sign-in" };
            let act = if Some(user.id) == me {
                view! { <span class="quiet">"you"</span> }.into_any()
            } else {
                view! {
                    <ActionForm action=disable>
                        <input type="hidden" name="id" value=user.id.0.to_string()/>
                        <input type="hidden" name="disabled" value=(!user.disabled).to_string()/>
                        <button class="button button-small" type="submit" aria-label=format!("{word} of {name}")>{word}</button>
                    </ActionForm>
                }
                .into_any()
            };
            view! {
                <tr>
                    <th scope="row">{user.name}</th>
                    <td>{user.role.as_str()}</td>
                    <td>{state}</td>
                    <td class="right number">{user.images.to_string()}</td>
                    <td class="right number">{bytes_text(user.bytes)}</td>
                    <td class="number"><Moment at=user.created_at/></td>
                    <td class="number">{seen}</td>
                    <td class="right">{act}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
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
                        <th scope="col"><span class="hidden">"Actions"</span></th>
                    </tr>
                </thead>
                <tbody>{rows}</tbody>
            </table>
        </div>
    }
}

#[component]
fn NewUser(action: ServerAction<CreateUser>) -> impl IntoView {
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
        <article class="card" aria-labelledby="new-user-title">
            <h3 id="new-user-title">"New user"</h3>
            {made}
            {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
            <ActionForm action=action>
                <div class="row row-fields">
                    <TextField id="user-name" name="name" label="Name" error=field_error(answer, "name")/>
                    <TextField
                        id="user-password" name="password" label="First password" kind="password" autocomplete="new-password"
                        hint="At least 12 characters." error=field_error(answer, "password")
                    />
                    <Field id="user-role" label="Role" error=field_error(answer, "role")>
                        <select class="input" id="user-role" name="role" aria-describedby="user-role-note">
                            <option value="member" selected>"member: makes images"</option>
                            <option value="viewer">"viewer: looks at own images"</option>
                            <option value="admin">"admin: everything"</option>
                        </select>
                    </Field>
                    <button class="button row-button" type="submit" disabled=move || action.pending().get()>"Make the user"</button>
                </div>
            </ActionForm>
        </article>
    }
}
