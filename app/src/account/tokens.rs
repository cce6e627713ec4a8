//! API tokens: made with a name and an end, shown once, listed, revoked.

use super::{CreateToken, NewToken, RevokeToken, Scope, TokenSummary, Viewer};
use crate::components::{
    CopyText, ErrorNotice, Field, Moment, Notice, TextField, Tone, field_error, form_error,
};
use crate::hydrated::use_hydrated;
use crate::session::use_viewer_here;
use leptos::form::ActionForm;
use leptos::prelude::*;

/// The token section of the account page; `changes` is counted up when the list is out of date.
#[component]
pub fn Tokens(tokens: Vec<TokenSummary>, changes: RwSignal<u32>) -> impl IntoView {
    let revoke = ServerAction::<RevokeToken>::new();
    Effect::new(move |_| {
        if matches!(revoke.value().get(), Some(Ok(()))) {
            changes.update(|n| *n += 1);
        }
    });
    let error = move || match revoke.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }),
        _ => None,
    };
    let rows = tokens
        .into_iter()
        .map(|token| {
            let expiry = match token.expires_at {
                Some(at) => view! { " · expires "<Moment at=at/> }.into_any(),
                None => view! { " · never expires" }.into_any(),
            };
            let used = match token.last_used_at {
                Some(at) => view! { " · last used "<Moment at=at/> }.into_any(),
                None => view! { " · not used yet" }.into_any(),
            };
            view! {
                <li class="list-row">
                    <div class="list-main">
                        <strong>{token.name.clone()}</strong>
                        <span class="quiet">
                            <code>{format!("{}…", token.prefix)}</code>
                            {format!(" · {}", scopes_text(&token.scopes))}
                            " · made "<Moment at=token.created_at/>
                            {expiry}
                            {used}
                        </span>
                    </div>
                    <ActionForm action=revoke>
                        <input type="hidden" name="id" value=token.id.to_string()/>
                        <button class="button button-small" type="submit" aria-label=format!("Revoke the token {}", token.name)>"Revoke"</button>
                    </ActionForm>
                </li>
            }
        })
        .collect::<Vec<_>>();
    let list = if rows.is_empty() {
        view! { <p class="quiet">"No tokens yet. A token lets a program make images in your name: give each program its own."</p> }.into_any()
    } else {
        view! { <ul class="list">{rows}</ul> }.into_any()
    };
    view! {
        <section class="card" aria-labelledby="tokens-title">
            <h2 id="tokens-title">"API tokens"</h2>
            {error}
            {list}
            <NewTokenForm changes=changes/>
        </section>
    }
}

fn scopes_text(scopes: &[Scope]) -> String {
    let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    words.join(", ")
}

/// Survives the list being asked for again, so that a new secret stays on the page until it is left.
#[derive(Clone, Copy)]
pub struct LatestToken(RwSignal<Option<NewToken>>);

/// Keeps a new token's secret on the account page while lists on it are renewed.
pub fn provide_latest_token() {
    provide_context(LatestToken(RwSignal::new(None)));
}

#[component]
fn NewTokenForm(changes: RwSignal<u32>) -> impl IntoView {
    let action = ServerAction::<CreateToken>::new();
    let answer = action.value();
    let latest =
        use_context::<LatestToken>().map_or_else(|| RwSignal::new(None), |latest| latest.0);
    let hydrated = use_hydrated();
    Effect::new(move |_| {
        if let Some(Ok(token)) = answer.get() {
            latest.set(Some(token));
            changes.update(|n| *n += 1);
        }
    });
    let error = form_error(answer, &["name", "expires_in_days", "scopes"]);
    let scope_error = field_error(answer, "scopes");
    let may_administrate = use_viewer_here().as_ref().is_some_and(Viewer::is_admin);
    let scope = |name: &'static str, words: &'static str, ticked: bool| {
        let id = format!("token-may-{name}");
        view! {
            <label class="tick" for=id>
                <input type="checkbox" id=id.clone() name=name value="true" checked=ticked/>
                <span>{words}</span>
            </label>
        }
    };
    let boxes = [
        ("generate", "make images", true),
        ("read", "look at the gallery", true),
        ("manage", "change and delete in the gallery", false),
    ]
    .map(|(name, words, ticked)| scope(name, words, ticked))
    .collect_view();
    let admin_box = may_administrate.then(|| scope("admin", "administrate this server", false));
    view! {
        {move || latest.get().map(|token| view! { <Secret token=token/> })}
        {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
        <ActionForm action=action>
            <div class="row row-fields">
                <TextField id="token-name" name="name" label="Name of the new token" hint="Which program is it for?" error=field_error(answer, "name")/>
                <Field id="token-days" label="Expires after" error=field_error(answer, "expires_in_days")>
                    <select class="input" id="token-days" name="expires_in_days" aria-describedby="token-days-note">
                        <option value="30">"30 days"</option>
                        <option value="90" selected>"90 days"</option>
                        <option value="365">"one year"</option>
                        <option value="">"never"</option>
                    </select>
                </Field>
                <fieldset class="ticks">
                    <legend class="field-label">"What it may do"</legend>
                    <input type="hidden" name="scoped" value="true"/>
                    {boxes}
                    {admin_box}
                    <p class="field-note"><span class="field-error" role="alert">{move || scope_error.get()}</span></p>
                </fieldset>
                // The secret is shown once, in the answer: a form posted without wasm would lose it.
                <button class="button row-button" type="submit" disabled=move || !hydrated.get() || action.pending().get()>"Make a token"</button>
            </div>
        </ActionForm>
        <noscript><p class="quiet">"Making a token needs JavaScript, because its secret is shown only once."</p></noscript>
    }
}

#[component]
fn Secret(token: NewToken) -> impl IntoView {
    let origin = RwSignal::new(String::from("http://127.0.0.1:3000"));
    // Known to the browser only; the server may stand behind a proxy.
    Effect::new(move |_| {
        if let Ok(here) = window().location().origin() {
            origin.set(here);
        }
    });
    let secret = token.secret.clone();
    let example = move || {
        format!(
            "curl {}/api/generate-image \\\n  -H \"Authorization: Bearer {secret}\" \\\n  -H \"Content-Type: application/json\" \\\n  -d '{{\"prompt\": \"a red circle on a white background\"}}' \\\n  -o image.png",
            origin.get()
        )
    };
    let text = token.secret.clone();
    view! {
        <Notice tone=Tone::Good>
            <p>
                "The token "<strong>{token.summary.name.clone()}</strong>
                " is ready. This is the only time its secret is shown, so copy it now."
            </p>
            <CopyText id="token-secret" text=Signal::stored(text)/>
            <p class="quiet">"Try it:"</p>
            <pre class="code"><code>{example}</code></pre>
        </Notice>
    }
}
