//! `/admin/backups`: copies of everything, made now or by themselves; downloading and deleting them.

use super::people::{AdminNav, AdminsOnly};
use super::{
    BackupProgress, BackupRow, BackupsReport, BeginBackup, DeleteBackup, StopBackup, load_backups,
};
use crate::components::{Badge, ErrorNotice, Moment, Notice, Progress, Tone, bytes_text};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use std::time::Duration;

/// How often the page asks while a backup is being made, and otherwise how many times less often.
const RENEW_EVERY: Duration = Duration::from_secs(1);
const RENEW_QUIETLY: u32 = 15;

/// `/admin/backups`
#[component]
pub fn BackupsPage() -> impl IntoView {
    view! {
        <Title text="Backups · Atelier"/>
        <AdminsOnly>
            <Room/>
        </AdminsOnly>
    }
}

#[component]
fn Room() -> impl IntoView {
    let begin = ServerAction::<BeginBackup>::new();
    let stop = ServerAction::<StopBackup>::new();
    let delete = ServerAction::<DeleteBackup>::new();
    let tick = RwSignal::new(0_u32);
    let is_busy = RwSignal::new(false);
    Effect::new(move |_| {
        let quiet = StoredValue::new(0_u32);
        let beat = move || {
            // A question that is open would be closed by a new list.
            let asks = document()
                .query_selector("details.confirm[open]")
                .is_ok_and(|open| open.is_some());
            quiet.update_value(|seconds| *seconds += 1);
            let is_due = is_busy.get_untracked() || quiet.get_value() >= RENEW_QUIETLY;
            if is_due && !asks && !document().hidden() {
                quiet.set_value(0);
                tick.update(|n| *n = n.wrapping_add(1));
            }
        };
        let handle = set_interval(beat, RENEW_EVERY);
        on_cleanup(move || {
            if let Ok(handle) = handle {
                handle.clear();
            }
        });
    });
    let report = Resource::new(
        move || {
            let acts = begin.version().get() + stop.version().get() + delete.version().get();
            (tick.get(), acts)
        },
        |_| load_backups(),
    );
    Effect::new(move |_| {
        if let Some(Ok(report)) = report.get() {
            is_busy.set(report.running.is_some());
        }
    });
    let error = move || {
        let failed = [
            begin.value().get().and_then(Result::err),
            stop.value().get().and_then(Result::err),
            delete.value().get().and_then(Result::err),
        ];
        failed
            .into_iter()
            .flatten()
            .map(|error| view! { <ErrorNotice error=error/> })
            .collect_view()
    };
    view! {
        <div class="page">
            <h1>"Backups"</h1>
            <AdminNav/>
            {error}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match report.await {
                        Ok(report) => view! { <Report report=report begin=begin stop=stop delete=delete/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

#[component]
fn Report(
    report: BackupsReport,
    begin: ServerAction<BeginBackup>,
    stop: ServerAction<StopBackup>,
    delete: ServerAction<DeleteBackup>,
) -> impl IntoView {
    let free = report
        .free_bytes
        .map(|bytes| format!(" · {} free", bytes_text(bytes)));
    let schedule = match report.every_hours {
        Some(1) => format!(
            "One is made every hour, and the latest {} of those are kept. ",
            report.kept
        ),
        Some(hours) => format!(
            "One is made every {hours} hours, and the latest {} of those are kept. ",
            report.kept
        ),
        None => "None are made by themselves. ".to_owned(),
    };
    let now = match report.running {
        Some(progress) => view! { <Making progress=progress stop=stop/> }.into_any(),
        None => view! {
            <ActionForm action=begin>
                <button class="button button-main" type="submit" disabled=move || begin.pending().get()>"Back up now"</button>
            </ActionForm>
        }
        .into_any(),
    };
    let trouble = report
        .trouble
        .map(|words| view! { <Notice tone=Tone::Bad><p>{words}</p></Notice> });
    let is_empty = report.backups.is_empty();
    let rows = report
        .backups
        .into_iter()
        .map(|row| view! { <Row row=row delete=delete/> })
        .collect_view();
    view! {
        <section class="card" aria-labelledby="backup-now">
            <h2 id="backup-now">"Back up now"</h2>
            <p>"The database and every image, as they are at one moment, in one archive. The server goes on meanwhile. Models are not in it: they are fetched again."</p>
            {trouble}
            {now}
            <p class="quiet small">
                {schedule}<a href="/admin/settings#set-backups">"Change that"</a>". To put one back, stop the server and run "<code>"atelier restore FILE --data-dir DIR"</code>"."
            </p>
        </section>
        <section aria-labelledby="backup-list">
            <h2 id="backup-list">"On this server"</h2>
            <p class="quiet small break">"In "<code>{report.folder}</code>{free}". A copy on the same disk does not help against the loss of that disk: download one, and keep it elsewhere. It holds everything of everybody."</p>
            {if is_empty {
                view! { <p class="quiet">"There is none yet."</p> }.into_any()
            } else {
                view! { <ul class="list">{rows}</ul> }.into_any()
            }}
        </section>
    }
}

#[component]
fn Making(progress: BackupProgress, stop: ServerAction<StopBackup>) -> impl IntoView {
    let (words, value) = if progress.copies_database {
        ("Copying the database …".to_owned(), None)
    } else {
        let words = format!(
            "Copying images: {} of {}",
            bytes_text(progress.done),
            bytes_text(progress.total)
        );
        (
            words,
            Some(progress.done as f64 / progress.total.max(1) as f64),
        )
    };
    view! {
        <div class="backup-making" role="status">
            <Progress label=words.clone() value=value/>
            <p class="number">{words}</p>
            <ActionForm action=stop>
                <button class="button button-small" type="submit">"Stop"</button>
            </ActionForm>
        </div>
    }
}

#[component]
fn Row(row: BackupRow, delete: ServerAction<DeleteBackup>) -> impl IntoView {
    let BackupRow {
        name,
        at,
        bytes,
        images,
        by_itself,
    } = row;
    let images = match images {
        None => None,
        Some(1) => Some("1 image".to_owned()),
        Some(count) => Some(format!("{count} images")),
    };
    let address = format!("/api/admin/backups/{name}");
    view! {
        <li class="list-row">
            <div class="list-main">
                <strong><Moment at=at/></strong>
                <span class="quiet small break">{name.clone()}</span>
                <span class="queue-line small number">
                    <span>{bytes_text(bytes)}</span>
                    <span>{images}</span>
                    {by_itself.then(|| view! { <Badge tone=Tone::Neutral>"by itself"</Badge> })}
                </span>
            </div>
            <div class="actions">
                <a class="button button-small" rel="external" href=address download=name.clone() aria-label=format!("Download {name}")>"Download"</a>
                <details class="confirm">
                    <summary class="button button-small" aria-label=format!("Delete {name} …")>"Delete …"</summary>
                    <div class="confirm-panel">
                        <p>"It is deleted from the server’s disk."</p>
                        <ActionForm action=delete>
                            <input type="hidden" name="name" value=name.clone()/>
                            <button class="button button-small button-bad" type="submit" aria-label=format!("Delete {name} for good")>"Delete it"</button>
                        </ActionForm>
                    </div>
                </details>
            </div>
        </li>
    }
}
