//! `/admin/audit`: what administrators did, newest first. The filter is a plain form, so that a
//! page of it has an address and works without wasm.

use super::people_page::{AdminNav, AdminsOnly};
use super::{AuditFilter, AuditPage, load_audit};
use crate::components::{ErrorNotice, Field, Moment, TextField, percent_encode};
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/admin/audit`
#[component]
pub fn AuditLogPage() -> impl IntoView {
    view! {
        <Title text="Audit log · Atelier"/>
        <AdminsOnly>
            <Log/>
        </AdminsOnly>
    }
}

/// First words of acts, and what they are about.
const KINDS: [(&str, &str); 10] = [
    ("", "everything"),
    ("user", "users"),
    ("invitation", "invitations"),
    ("image", "looks into others' images"),
    ("quota", "quotas and priorities"),
    ("model", "models"),
    ("devices", "devices"),
    ("queue", "the queue"),
    ("setting", "settings"),
    ("backup", "backups"),
];

#[component]
fn Log() -> impl IntoView {
    let query = use_query_map();
    let filter = Memo::new(move |_| {
        query.with(|query| {
            let text = |name: &str| query.get(name).unwrap_or_default();
            AuditFilter {
                actor: text("actor"),
                act: text("act"),
                text: text("text"),
                before: text("before").parse().ok(),
            }
        })
    });
    let page = Resource::new(move || filter.get(), load_audit);
    view! {
        <div class="page">
            <h1>"Audit log"</h1>
            <AdminNav/>
            <p class="quiet">"Every act of an administrator, and every look into what belongs to others. Nothing here can be changed or deleted."</p>
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    let filter = filter.get();
                    match page.await {
                        Ok(page) => view! { <Rows page=page filter=filter/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

fn query_of(filter: &AuditFilter) -> String {
    let mut parts = Vec::new();
    for (name, value) in [
        ("actor", &filter.actor),
        ("act", &filter.act),
        ("text", &filter.text),
    ] {
        if !value.is_empty() {
            parts.push(format!("{name}={}", percent_encode(value)));
        }
    }
    if let Some(before) = filter.before {
        parts.push(format!("before={before}"));
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!("?{}", parts.join("&"))
    }
}

#[component]
fn Rows(page: AuditPage, filter: AuditFilter) -> impl IntoView {
    let is_empty = page.rows.is_empty();
    let rows = page
        .rows
        .into_iter()
        .map(|row| {
            view! {
                <tr>
                    <td class="number"><Moment at=row.at/></td>
                    <th scope="row">{row.actor}</th>
                    <td><code>{row.act}</code></td>
                    <td class="audit-words">{row.subject}</td>
                    <td class="audit-words">{row.detail}</td>
                </tr>
            }
        })
        .collect_view();
    let older = page.next.map(|next| {
        let next = AuditFilter {
            before: Some(next),
            ..filter.clone()
        };
        view! { <a class="button" href=format!("/admin/audit{}", query_of(&next))>"Older"</a> }
    });
    let newest = filter.before.map(|_| {
        let first = AuditFilter {
            before: None,
            ..filter.clone()
        };
        view! { <a class="button" href=format!("/admin/audit{}", query_of(&first))>"Back to the newest"</a> }
    });
    let export = AuditFilter {
        before: None,
        ..filter.clone()
    };
    let export = query_of(&export);
    // Who is looked for stays one to choose, whatever else there is.
    let wanted = Some(filter.actor.clone())
        .filter(|actor| !actor.is_empty() && !page.actors.contains(actor));
    let actors = wanted
        .into_iter()
        .chain(page.actors)
        .map(|actor| {
            let here = actor == filter.actor;
            view! { <option value=actor.clone() selected=here>{actor.clone()}</option> }
        })
        .collect_view();
    let act = filter.act.clone();
    let kinds = KINDS
        .iter()
        .map(|(word, words)| view! { <option value=*word selected=*word == act>{*words}</option> })
        .collect_view();
    let table = if is_empty {
        view! { <p class="quiet">"Nothing was done that fits."</p> }.into_any()
    } else {
        view! {
            <div class="table-frame" tabindex="0" role="region" aria-label="Acts">
                <table class="table">
                    <thead>
                        <tr>
                            <th scope="col">"When"</th>
                            <th scope="col">"Who"</th>
                            <th scope="col">"Act"</th>
                            <th scope="col">"To what"</th>
                            <th scope="col">"Detail"</th>
                        </tr>
                    </thead>
                    <tbody>{rows}</tbody>
                </table>
            </div>
        }
        .into_any()
    };
    view! {
        <form class="invite-fields" method="get" action="/admin/audit" role="search" aria-label="Filter the log">
            <Field id="audit-actor" label="Who">
                <select class="input" id="audit-actor" name="actor" aria-describedby="audit-actor-note">
                    <option value="">"everybody"</option>
                    {actors}
                </select>
            </Field>
            <Field id="audit-act" label="About">
                <select class="input" id="audit-act" name="act" aria-describedby="audit-act-note">{kinds}</select>
            </Field>
            <TextField id="audit-text" name="text" label="Words" required=false value=filter.text.clone()/>
            <button class="button row-button" type="submit">"Filter"</button>
        </form>
        {table}
        <div class="actions">
            {newest}
            {older}
            <a class="button" rel="external" download="audit.csv" href=format!("/api/admin/audit.csv{export}")>"Export as CSV"</a>
        </div>
    }
}
