//! `/admin/settings`: what can be set while the server runs. Each setting is a form of its own with
//! what it means, what holds when nobody chose, and a way back.

use super::people::{AdminNav, AdminsOnly};
use super::{ChangeSetting, ResetSetting, SettingKind, SettingName, SettingRow, load_settings};
use crate::components::{Badge, ErrorNotice, Moment, Tone};
use crate::error::AppError;
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;

/// `/admin/settings`
#[component]
pub fn SettingsPage() -> impl IntoView {
    view! {
        <Title text="Settings · Atelier"/>
        <AdminsOnly>
            <Room/>
        </AdminsOnly>
    }
}

/// The groups of the page.
const GROUPS: [(&str, &str, &[SettingName]); 5] = [
    (
        "set-house",
        "The house",
        &[
            SettingName::SiteName,
            SettingName::SelfSignUp,
            SettingName::SessionDays,
            SettingName::LooksIntoImages,
        ],
    ),
    (
        "set-images",
        "Making images",
        &[
            SettingName::DefaultModel,
            SettingName::MaxBatch,
            SettingName::ResultCache,
        ],
    ),
    (
        "set-queue",
        "The queue",
        &[SettingName::QueueLimitPerUser, SettingName::QueueLimit],
    ),
    ("set-trash", "The trash", &[SettingName::TrashDays]),
    (
        "set-backups",
        "Backups by themselves",
        &[SettingName::BackupEveryHours, SettingName::BackupKeep],
    ),
];

/// (id, label, explanation, unit)
fn words(name: SettingName) -> (&'static str, &'static str, &'static str, &'static str) {
    match name {
        SettingName::SiteName => (
            "set-site-name",
            "Name of this server",
            "Stands in the bar on every page.",
            "",
        ),
        SettingName::SelfSignUp => (
            "set-self-sign-up",
            "Requests for accounts",
            "Whether anybody who reaches this server can ask for an account. Each request waits on the page People for your answer.",
            "",
        ),
        SettingName::SessionDays => (
            "set-session-days",
            "Time signed in",
            "Whoever signs in from now on stays so this long, unless they do nothing for half a day.",
            "days",
        ),
        SettingName::LooksIntoImages => (
            "set-looks-into-images",
            "Looks into others’ images",
            "Whether administrators may look at what others made. Each such look is in the audit log.",
            "",
        ),
        SettingName::DefaultModel => (
            "set-default-model",
            "Default model",
            "What is used when a request names no model. Whoever may not use it gets the first one they may.",
            "",
        ),
        SettingName::MaxBatch => (
            "set-max-batch",
            "Images in one request",
            "The largest batch.",
            "images",
        ),
        SettingName::ResultCache => (
            "set-result-cache",
            "Show what is there already",
            "A request with a seed whose every setting is that of an image in the same person’s gallery is answered with that image, without making it again.",
            "",
        ),
        SettingName::QueueLimitPerUser => (
            "set-queue-limit-per-user",
            "Waiting images of one person",
            "Whoever has as many waiting or running is told to wait for one.",
            "images",
        ),
        SettingName::QueueLimit => (
            "set-queue-limit",
            "Waiting images in all",
            "Beyond it the queue is full for everybody.",
            "images",
        ),
        SettingName::TrashDays => (
            "set-trash-days",
            "Time in the trash",
            "So long an image in the trash can be had back; then it is deleted for good.",
            "days",
        ),
        SettingName::BackupEveryHours => (
            "set-backup-every-hours",
            "Time between backups",
            "0: none are made by themselves. They lie on the same disk as the originals: download one now and then.",
            "hours",
        ),
        SettingName::BackupKeep => (
            "set-backup-keep",
            "Backups kept",
            "Of those made by themselves, older ones are deleted. Those that you make stay until you delete them.",
            "backups",
        ),
    }
}

/// A value as people read it.
fn value_words(name: SettingName, value: &str) -> String {
    match (name, value) {
        (SettingName::SelfSignUp, "approval") => "taken, and answered by you".into(),
        (SettingName::SelfSignUp, _) => "not taken".into(),
        (SettingName::BackupEveryHours, "0") => "none by themselves".into(),
        _ => {
            let unit = words(name).3;
            if unit.is_empty() {
                value.to_owned()
            } else {
                format!("{value} {unit}")
            }
        }
    }
}

#[component]
fn Room() -> impl IntoView {
    let change = ServerAction::<ChangeSetting>::new();
    let reset = ServerAction::<ResetSetting>::new();
    let settings = Resource::new(
        move || (change.version().get(), reset.version().get()),
        |_| load_settings(),
    );
    let other = move || {
        let errors = [
            change.value().get().and_then(Result::err),
            reset.value().get().and_then(Result::err),
        ];
        errors
            .into_iter()
            .flatten()
            .filter(|error| !is_about_a_setting(error))
            .map(|error| view! { <ErrorNotice error=error/> })
            .collect_view()
    };
    view! {
        <div class="page">
            <h1>"Settings"</h1>
            <AdminNav/>
            <p class="quiet">"What is saved here holds at once, for everybody, and over a restart. What the command line says goes before it. Devices are chosen under Overview."</p>
            {other}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match settings.await {
                        Ok(rows) => view! { <Groups rows=rows change=change reset=reset/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

/// Whether an error is said at a setting's own field.
fn is_about_a_setting(error: &AppError) -> bool {
    error
        .field()
        .is_some_and(|field| SettingName::ALL.iter().any(|name| name.as_str() == field))
}

#[component]
fn Groups(
    rows: Vec<SettingRow>,
    change: ServerAction<ChangeSetting>,
    reset: ServerAction<ResetSetting>,
) -> impl IntoView {
    GROUPS
        .iter()
        .map(|(id, title, names)| {
            let rows = names
                .iter()
                .filter_map(|name| rows.iter().find(|row| row.name == *name).cloned())
                .map(|row| view! { <Setting row=row change=change reset=reset/> })
                .collect_view();
            view! {
                <section class="card" aria-labelledby=*id>
                    <h2 id=*id>{*title}</h2>
                    <div class="settings">{rows}</div>
                </section>
            }
        })
        .collect_view()
}

#[component]
fn Setting(
    row: SettingRow,
    change: ServerAction<ChangeSetting>,
    reset: ServerAction<ResetSetting>,
) -> impl IntoView {
    let name = row.name;
    let (id, label, help, unit) = words(name);
    let note = format!("{id}-note");
    let error = move || {
        let errors = [
            change.value().get().and_then(Result::err),
            reset.value().get().and_then(Result::err),
        ];
        errors
            .into_iter()
            .flatten()
            .find(|error| error.field() == Some(name.as_str()))
            .map(|error| error.to_string())
    };
    let error = Memo::new(move |_| error());
    let is_saved = move || {
        let answer = change.value().get();
        matches!(answer, Some(Ok(saved)) if saved == name) && !change.pending().get()
    };
    let fixed = row.fixed_by.is_some();
    let control = control(&row, id, &note, fixed);
    let usual = format!("Usually: {}.", value_words(name, &row.default));
    let state = match (&row.fixed_by, row.changed_at) {
        (Some(flag), _) => view! {
            <p class="small">"Fixed by the command line: "<code>{flag.clone()}</code>"."</p>
        }
        .into_any(),
        (None, Some(at)) => view! {
            <p class="small quiet">{usual}" Set "<Moment at=at/>"."</p>
        }
        .into_any(),
        (None, None) => view! { <p class="small quiet">{usual}</p> }.into_any(),
    };
    let back = (!fixed && row.changed_at.is_some()).then(|| {
        view! {
            <ActionForm action=reset>
                <input type="hidden" name="name" value=name.as_str()/>
                <button class="button button-small" type="submit" aria-label=format!("Set back: {label}")>"Set back"</button>
            </ActionForm>
        }
    });
    view! {
        <div class="setting" class:field-wrong=move || error.get().is_some()>
            <div class="setting-words">
                <label class="field-label" for=id>{label}</label>
                <p class="small" id=note>
                    <span class="field-error" role="alert">{move || error.get()}</span>
                    <span>{help}</span>
                </p>
                {state}
            </div>
            <div class="setting-acts">
                <ActionForm action=change>
                    <input type="hidden" name="name" value=name.as_str()/>
                    <div class="setting-form">
                        {control}
                        {(!unit.is_empty()).then(|| view! { <span class="quiet small">{unit}</span> })}
                        {(!fixed).then(|| view! {
                            <button class="button button-small" type="submit" aria-label=format!("Save: {label}") disabled=move || change.pending().get()>"Save"</button>
                        })}
                    </div>
                </ActionForm>
                {back}
                {move || is_saved().then(|| view! { <Badge tone=Tone::Good>"Saved"</Badge> })}
            </div>
        </div>
    }
}

/// What a setting is changed with.
fn control(row: &SettingRow, id: &'static str, note: &str, fixed: bool) -> AnyView {
    let (value, note) = (row.value.clone(), note.to_owned());
    match &row.kind {
        SettingKind::Text { longest } => view! {
            <input class="input" id=id name="value" type="text" value=value.clone() prop:value=value maxlength=longest.to_string() required disabled=fixed aria-describedby=note autocomplete="off"/>
        }
        .into_any(),
        SettingKind::Number { least, most } => view! {
            <input class="input setting-number" id=id name="value" type="number" inputmode="numeric" value=value.clone() prop:value=value min=least.to_string() max=most.to_string() step="1" required disabled=fixed aria-describedby=note/>
        }
        .into_any(),
        SettingKind::Choice(choices) => {
            let name = row.name;
            let mut choices = choices.clone();
            if !choices.contains(&value) {
                choices.push(value.clone());
            }
            let options = choices
                .into_iter()
                .map(|choice| {
                    let here = choice == value;
                    let text = value_words(name, &choice);
                    view! { <option value=choice selected=here>{text}</option> }
                })
                .collect_view();
            view! {
                <select class="input" id=id name="value" disabled=fixed aria-describedby=note>{options}</select>
            }
            .into_any()
        }
    }
}
