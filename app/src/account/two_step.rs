//! Two-step sign-in on the account page: set up with a picture or typed, recovery codes shown once.

use super::{
    BeginTwoStep, ConfirmTwoStep, EndTwoStep, RenewRecoveryCodes, TwoStepSetup, TwoStepState,
};
use crate::components::{
    Badge, CopyButton, ErrorNotice, Moment, Notice, TextField, Tone, field_error, form_error,
};
use crate::hydrated::use_hydrated;
use leptos::form::ActionForm;
use leptos::prelude::*;

/// What must stay on the page while its lists are asked for again.
#[derive(Clone, Copy)]
struct Shown {
    setup: RwSignal<Option<TwoStepSetup>>,
    codes: RwSignal<Option<Vec<String>>>,
}

/// Keeps a set-up and its codes on the page until it is left.
pub(super) fn provide_two_step() {
    provide_context(Shown {
        setup: RwSignal::new(None),
        codes: RwSignal::new(None),
    });
}

fn use_shown() -> Shown {
    use_context().unwrap_or_else(|| Shown {
        setup: RwSignal::new(None),
        codes: RwSignal::new(None),
    })
}

/// The section about the second step.
#[component]
pub(super) fn TwoStep(state: TwoStepState, changes: RwSignal<u32>) -> impl IntoView {
    let shown = use_shown();
    let badge = match state.on_since {
        Some(_) => view! { <Badge tone=Tone::Good>"on"</Badge> },
        None => view! { <Badge tone=Tone::Neutral>"off"</Badge> },
    };
    let body = match state.on_since {
        Some(at) => view! {
            <p class="quiet">
                "On since "<Moment at=at/>". "
                {match state.recovery_codes_left {
                    1 => "1 recovery code is left.".into(),
                    left => format!("{left} recovery codes are left."),
                }}
            </p>
            {(state.recovery_codes_left < 3).then(|| view! {
                <Notice tone=Tone::Warn>"Make new recovery codes before you need them: without app and codes only an administrator can let you in."</Notice>
            })}
            <On changes=changes/>
        }
        .into_any(),
        None => view! {
            <p class="quiet">"With it, signing in takes your password and a code from an app on your phone, so that the password alone opens nothing."</p>
            {move || match shown.setup.get() {
                Some(setup) => view! { <Confirm setup=setup changes=changes/> }.into_any(),
                None => view! { <Begin/> }.into_any(),
            }}
        }
        .into_any(),
    };
    view! {
        <section class="card" aria-labelledby="two-step-title">
            <div class="card-head">
                <h2 id="two-step-title">"Two-step sign-in"</h2>
                {badge}
            </div>
            {move || shown.codes.get().map(|codes| view! { <Codes codes=codes/> })}
            {body}
        </section>
    }
}

#[component]
fn Begin() -> impl IntoView {
    let shown = use_shown();
    let action = ServerAction::<BeginTwoStep>::new();
    let answer = action.value();
    let hydrated = use_hydrated();
    Effect::new(move |_| {
        if let Some(Ok(setup)) = answer.get() {
            shown.setup.set(Some(setup));
        }
    });
    let error = form_error(answer, &["password"]);
    view! {
        {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
        <ActionForm action=action>
            <div class="row-fields">
                <TextField id="two-step-password" name="password" label="Your password" kind="password" autocomplete="current-password" error=field_error(answer, "password")/>
                <button class="button row-button" type="submit" disabled=move || !hydrated.get() || action.pending().get()>"Set it up"</button>
            </div>
        </ActionForm>
        <noscript><p class="quiet">"Setting it up needs JavaScript, because its codes are shown only once."</p></noscript>
    }
}

#[component]
fn Confirm(setup: TwoStepSetup, changes: RwSignal<u32>) -> impl IntoView {
    let shown = use_shown();
    let action = ServerAction::<ConfirmTwoStep>::new();
    let answer = action.value();
    Effect::new(move |_| {
        if let Some(Ok(codes)) = answer.get() {
            shown.codes.set(Some(codes));
            shown.setup.set(None);
            changes.update(|n| *n += 1);
        }
    });
    let error = form_error(answer, &["code"]);
    let size = setup.picture.size;
    let groups: Vec<String> = setup
        .secret
        .as_bytes()
        .chunks(4)
        .map(|group| String::from_utf8_lossy(group).into_owned())
        .collect();
    view! {
        <div class="two-step-setup">
            <svg class="qr" viewBox=format!("0 0 {size} {size}") role="img" aria-label="QR code of the secret for your app" shape-rendering="crispEdges">
                <rect width=size height=size class="qr-paper"></rect>
                <path d=setup.picture.path class="qr-ink"></path>
            </svg>
            <div class="stack">
                <p>"Scan this with an authenticator app, or type the secret into it:"</p>
                <code class="secret-text" id="two-step-secret">{groups.join(" ")}</code>
                <div class="actions">
                    <CopyButton text=Signal::stored(setup.secret) label="Copy the secret"/>
                    // On the phone itself there is nothing to scan.
                    <a class="button button-small" rel="external" href=setup.uri>"Open an app on this device"</a>
                </div>
                {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                <ActionForm action=action>
                    <div class="row-fields">
                        <TextField id="two-step-code" name="code" label="Code that the app shows" autocomplete="one-time-code" error=field_error(answer, "code")/>
                        <button class="button button-main row-button" type="submit" disabled=move || action.pending().get()>"Switch it on"</button>
                    </div>
                </ActionForm>
            </div>
        </div>
    }
}

#[component]
fn Codes(codes: Vec<String>) -> impl IntoView {
    let all = codes.join("\n");
    let items = codes
        .into_iter()
        .map(|code| view! { <li><code>{code}</code></li> })
        .collect_view();
    view! {
        <Notice tone=Tone::Good>
            <p>"Keep these recovery codes where your phone is not. Each opens the second step once. This is the only time they are shown."</p>
            <ul class="recovery-codes" id="recovery-codes">{items}</ul>
            <CopyButton text=Signal::stored(all) label="Copy them all"/>
        </Notice>
    }
}

#[component]
fn On(changes: RwSignal<u32>) -> impl IntoView {
    let shown = use_shown();
    let end = ServerAction::<EndTwoStep>::new();
    let renew = ServerAction::<RenewRecoveryCodes>::new();
    let hydrated = use_hydrated();
    Effect::new(move |_| {
        if let Some(Ok(codes)) = renew.value().get() {
            shown.codes.set(Some(codes));
            changes.update(|n| *n += 1);
        }
    });
    Effect::new(move |_| {
        if let Some(Ok(())) = end.value().get() {
            shown.codes.set(None);
            changes.update(|n| *n += 1);
        }
    });
    let renew_error = form_error(renew.value(), &["password"]);
    let end_error = form_error(end.value(), &["password"]);
    view! {
        <details class="fold">
            <summary>"New recovery codes"</summary>
            <div class="stack">
                {move || renew_error.get().map(|error| view! { <ErrorNotice error=error/> })}
                <ActionForm action=renew>
                    <div class="row-fields">
                        <TextField id="renew-password" name="password" label="Your password" kind="password" autocomplete="current-password" error=field_error(renew.value(), "password")/>
                        <button class="button row-button" type="submit" disabled=move || !hydrated.get() || renew.pending().get()>"Make new codes"</button>
                    </div>
                </ActionForm>
            </div>
        </details>
        <details class="fold">
            <summary>"Switch it off"</summary>
            <div class="stack">
                {move || end_error.get().map(|error| view! { <ErrorNotice error=error/> })}
                <ActionForm action=end>
                    <div class="row-fields">
                        <TextField id="end-password" name="password" label="Your password" kind="password" autocomplete="current-password" error=field_error(end.value(), "password")/>
                        <button class="button button-bad row-button" type="submit" disabled=move || end.pending().get()>"Switch it off"</button>
                    </div>
                </ActionForm>
            </div>
        </details>
    }
}
