//! `/account`: the name, the password, the signed-in browsers, the API tokens.

use super::outside::OutsideCard;
use super::sign_in_page::leave_when_signed_in;
use super::tokens::{Tokens, provide_latest_token};
use super::two_step::{TwoStep, provide_two_step};
use super::{
    ChangeName, ChangePassword, RevokeOtherSessions, RevokeSession, SessionSummary, load_account,
};
use crate::announce::NotificationsCard;
use crate::components::{ErrorNotice, Moment, Notice, TextField, Tone, field_error, form_error};
use crate::session::{SignedInOnly, use_viewer_here};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/account`
#[component]
pub fn AccountPage() -> impl IntoView {
    view! {
        <Title text="Account · Atelier"/>
        <SignedInOnly>
            <Account/>
        </SignedInOnly>
    }
}

#[component]
fn Account() -> impl IntoView {
    provide_latest_token();
    provide_two_step();
    let revoke_others = ServerAction::<RevokeOtherSessions>::new();
    let revoke_session = ServerAction::<RevokeSession>::new();
    // Counts up whenever something on the page changed, so that it is asked for again.
    let changes = RwSignal::new(0u32);
    Effect::new(move |before: Option<usize>| {
        let version = revoke_session.version().get();
        if before.is_some_and(|before| before != version) {
            changes.update(|n| *n += 1);
        }
        version
    });
    Effect::new(move |before: Option<usize>| {
        let version = revoke_others.version().get();
        if before.is_some_and(|before| before != version) {
            changes.update(|n| *n += 1);
        }
        version
    });
    let account = Resource::new(move || changes.get(), |_| load_account());
    let name = use_viewer_here()
        .map(|viewer| viewer.name)
        .unwrap_or_default();
    let shown = name.clone();
    view! {
        <div class="page page-narrow">
            <h1>"Account"</h1>
            <p class="quiet">"Signed in as "<strong>{name}</strong>"."</p>
            <NameForm name=shown/>
            <PasswordForm/>
            <NotificationsCard/>
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match account.await {
                        Ok(account) => view! {
                            <TwoStep state=account.two_step changes=changes/>
                            <OutsideCard outside=account.outside/>
                            <Sessions sessions=account.sessions revoke=revoke_session revoke_others=revoke_others/>
                            <Tokens tokens=account.tokens changes=changes/>
                        }
                        .into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
            <ExportCard/>
        </div>
    }
}

/// Everything that is one's own, to take away.
#[component]
fn ExportCard() -> impl IntoView {
    view! {
        <section class="card" aria-labelledby="export-title">
            <h2 id="export-title">"Take everything with you"</h2>
            <p class="quiet">"One zip with every image as it was made, those in the trash too, the files you sent to start from, and a list of what each image was asked for with and where it was kept."</p>
            <p><a class="button" rel="external" download="atelier.zip" href="/api/account/export.zip">"Download everything"</a></p>
        </section>
    }
}

#[component]
fn NameForm(name: String) -> impl IntoView {
    let action = ServerAction::<ChangeName>::new();
    let answer = action.value();
    // The name stands on every page: all of them are loaded afresh.
    leave_when_signed_in(answer);
    let error = form_error(answer, &["name"]);
    view! {
        <section class="card" aria-labelledby="name-title">
            <h2 id="name-title">"Name"</h2>
            {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
            <ActionForm action=action>
                <div class="row-fields">
                    <TextField
                        id="own-name" name="name" label="Sign-in name" autocomplete="username" value=name
                        hint="You sign in with it, and others see it beside what you share."
                        error=field_error(answer, "name")
                    />
                    <button class="button row-button" type="submit" disabled=move || action.pending().get()>"Change name"</button>
                </div>
            </ActionForm>
        </section>
    }
}

#[component]
fn PasswordForm() -> impl IntoView {
    let action = ServerAction::<ChangePassword>::new();
    let answer = action.value();
    let query = use_query_map();
    let changed_before =
        move || query.with(|query| query.get("changed").as_deref() == Some("password"));
    let changed = move || match answer.get() {
        Some(answer) => answer.is_ok(),
        None => changed_before(),
    };
    let error = form_error(answer, &["current", "new", "password"]);
    // The server names the field of a new password `password` when it checks its strength.
    let new_error = field_error(answer, "new");
    let strength = field_error(answer, "password");
    let new_error = Signal::derive(move || new_error.get().or_else(|| strength.get()));
    view! {
        <section class="card" aria-labelledby="password-title">
            <h2 id="password-title">"Password"</h2>
            {move || changed().then(|| view! {
                <Notice tone=Tone::Good>"Password changed. Your other browsers were signed out."</Notice>
            })}
            {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
            <ActionForm action=action>
                <div class="stack">
                    <TextField id="current" name="current" label="Current password" kind="password" autocomplete="current-password" error=field_error(answer, "current")/>
                    <TextField
                        id="new" name="new" label="New password" kind="password" autocomplete="new-password"
                        hint="At least 12 characters; a few words are fine."
                        error=new_error
                    />
                    <div class="row">
                        <button class="button" type="submit" disabled=move || action.pending().get()>"Change password"</button>
                    </div>
                </div>
            </ActionForm>
        </section>
    }
}

#[component]
fn Sessions(
    sessions: Vec<SessionSummary>,
    revoke: ServerAction<RevokeSession>,
    revoke_others: ServerAction<RevokeOtherSessions>,
) -> impl IntoView {
    let others = (sessions.len() > 1).then(|| {
        view! {
            <ActionForm action=revoke_others>
                <button class="button" type="submit">"Sign out all others"</button>
            </ActionForm>
        }
    });
    let rows = sessions
        .into_iter()
        .map(|session| {
            let browser = browser_name(&session.user_agent);
            let label = format!("Sign out {browser} at {}", session.address);
            let action = if session.current {
                view! { <span class="quiet">"this browser"</span> }.into_any()
            } else {
                view! {
                    <ActionForm action=revoke>
                        <input type="hidden" name="id" value=session.id.clone()/>
                        <button class="button button-small" type="submit" aria-label=label>"Sign out"</button>
                    </ActionForm>
                }
                .into_any()
            };
            view! {
                <li class="list-row">
                    <div class="list-main">
                        <strong>{browser}</strong>
                        <span class="quiet">
                            {session.address}" · signed in "<Moment at=session.created_at/>
                            " · last seen "<Moment at=session.last_seen_at/>
                        </span>
                    </div>
                    {action}
                </li>
            }
        })
        .collect_view();
    let error = move || match revoke.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }),
        _ => None,
    };
    view! {
        <section class="card" aria-labelledby="sessions-title">
            <h2 id="sessions-title">"Signed-in browsers"</h2>
            <p class="quiet">"Something here that is not yours? Sign it out and change the password."</p>
            {error}
            <ul class="list">{rows}</ul>
            {others}
        </section>
    }
}

/// A `User-Agent` in two words. Order matters: Edge and Opera call themselves Chrome, Chrome Safari.
fn browser_name(user_agent: &str) -> String {
    let pick = |known: &[(&str, &'static str)]| {
        known
            .iter()
            .find(|(mark, _)| user_agent.contains(mark))
            .map(|(_, name)| *name)
    };
    let browser = pick(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = pick(&[
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) if user_agent.trim().is_empty() => "Unknown browser".into(),
        (None, None) => user_agent.chars().take(40).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::browser_name;

    #[test]
    fn browsers_are_told_apart() {
        let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140.0";
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
        assert_eq!(browser_name(edge), "Edge on Windows");
        assert_eq!(browser_name(safari), "Safari on iPhone");
        assert_eq!(browser_name("curl/8.5.0"), "curl");
        assert_eq!(browser_name(" "), "Unknown browser");
    }
}
