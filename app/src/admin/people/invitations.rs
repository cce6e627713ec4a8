//! Links that let people in: made, shown once, listed, revoked.

use super::people_page::{failed, renew_after};
use super::{InvitationRow, Invite, MadeLink, RevokeInvitation};
use crate::components::{
    CopyText, ErrorNotice, Field, Moment, Notice, TextField, Tone, field_error, form_error,
};
use crate::hydrated::use_hydrated;
use leptos::form::ActionForm;
use leptos::prelude::*;

/// Survives the lists being asked for again, so that a new link stays until the page is left.
#[derive(Clone, Copy)]
struct LatestLink(RwSignal<Option<MadeLink>>);

/// Keeps a new link on the page while its lists are renewed.
pub(super) fn provide_latest_link() {
    provide_context(LatestLink(RwSignal::new(None)));
}

/// The section about invitations.
#[component]
pub(super) fn Invitations(rows: Vec<InvitationRow>, changes: RwSignal<u32>) -> impl IntoView {
    let revoke = ServerAction::<RevokeInvitation>::new();
    renew_after(revoke, changes);
    let rows = rows
        .into_iter()
        .map(|row| {
            let title = if row.note.is_empty() {
                format!("Invitation {}", row.id)
            } else {
                row.note.clone()
            };
            let by = row
                .made_by
                .map(|name| format!(" · made by {name}"))
                .unwrap_or_default();
            let uses = match row.max_uses {
                1 => "for one person".to_owned(),
                most => format!("{} of {most} came in", row.uses),
            };
            view! {
                <li class="list-row">
                    <div class="list-main">
                        <strong>{title.clone()}</strong>
                        <span class="quiet">
                            {format!("{} · {uses}", row.role.as_str())}{by}
                            " · ends "<Moment at=row.expires_at/>
                        </span>
                    </div>
                    <ActionForm action=revoke>
                        <input type="hidden" name="id" value=row.id.to_string()/>
                        <button class="button button-small" type="submit" aria-label=format!("Revoke the invitation {title}")>"Revoke"</button>
                    </ActionForm>
                </li>
            }
        })
        .collect::<Vec<_>>();
    let list = if rows.is_empty() {
        view! { <p class="quiet">"No open invitations. A link lets somebody choose their own name and password."</p> }.into_any()
    } else {
        view! { <ul class="list">{rows}</ul> }.into_any()
    };
    view! {
        <section class="card" aria-labelledby="invitations-title">
            <h2 id="invitations-title">"Invitations"</h2>
            {failed(revoke)}
            {list}
            <NewLink changes=changes/>
        </section>
    }
}

#[component]
fn NewLink(changes: RwSignal<u32>) -> impl IntoView {
    let action = ServerAction::<Invite>::new();
    let answer = action.value();
    let latest = use_context::<LatestLink>().map_or_else(|| RwSignal::new(None), |latest| latest.0);
    let hydrated = use_hydrated();
    Effect::new(move |_| {
        if let Some(Ok(link)) = answer.get() {
            latest.set(Some(link));
            changes.update(|n| *n += 1);
        }
    });
    let error = form_error(answer, &["note", "days", "uses"]);
    view! {
        {move || latest.get().map(|link| view! { <SecretLink link=link words="Give this link to whom you invite. It is shown this once."/> })}
        {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
        <ActionForm action=action>
            <div class="invite-fields">
                <TextField id="invite-note" name="note" label="Whom is it for?" required=false hint="A note for this list." error=field_error(answer, "note")/>
                <RoleField id="invite-role" label="Role"/>
                <Field id="invite-days" label="Good for" error=field_error(answer, "days")>
                    <select class="input" id="invite-days" name="days" aria-describedby="invite-days-note">
                        <option value="1">"one day"</option>
                        <option value="7" selected>"a week"</option>
                        <option value="30">"30 days"</option>
                    </select>
                </Field>
                <Field id="invite-uses" label="People" error=field_error(answer, "uses")>
                    <input class="input" id="invite-uses" name="uses" type="number" min="1" max="1000" value="1" required aria-describedby="invite-uses-note"/>
                </Field>
                // The link is shown once, in the answer: a form posted without wasm would lose it.
                <button class="button row-button" type="submit" disabled=move || !hydrated.get() || action.pending().get()>"Make a link"</button>
            </div>
        </ActionForm>
        <noscript><p class="quiet">"Making a link needs JavaScript, because it is shown only once; "<code>"atelier user invite"</code>" makes one too."</p></noscript>
    }
}

/// Choosing a role for somebody.
#[component]
pub(super) fn RoleField(
    /// The control's id.
    id: &'static str,
    /// Its label.
    label: &'static str,
    /// The role at first.
    #[prop(default = crate::account::Role::Member)]
    role: crate::account::Role,
) -> impl IntoView {
    use crate::account::Role;
    let option = move |of: Role, words: &'static str| view! { <option value=of.as_str() selected=of == role>{words}</option> };
    view! {
        <Field id=id label=label>
            <select class="input" id=id name="role" aria-describedby=format!("{id}-note")>
                {option(Role::Member, "member: makes images")}
                {option(Role::Viewer, "viewer: only looks")}
                {option(Role::Admin, "admin: everything")}
            </select>
        </Field>
    }
}

/// A link with a secret in it, to be copied now or never.
#[component]
pub(super) fn SecretLink(
    /// The link.
    link: MadeLink,
    /// What to do with it.
    words: &'static str,
) -> impl IntoView {
    let origin = RwSignal::new(String::new());
    // Known to the browser only; the server may stand behind a proxy.
    Effect::new(move |_| {
        if let Ok(here) = window().location().origin() {
            origin.set(here);
        }
    });
    let path = link.path.clone();
    let whole = Signal::derive(move || format!("{}{path}", origin.get()));
    view! {
        <Notice tone=Tone::Good>
            <p>{words}" It is good until "<Moment at=link.expires_at/>"."</p>
            <CopyText id="secret-link" text=whole/>
        </Notice>
    }
}
