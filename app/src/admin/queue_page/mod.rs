//! `/admin/queue`: everybody's jobs: who, how large, how long, in which order; pausing, letting it run
//! empty, stopping, moving. The filter is in the address, and all acts are plain forms.

mod hours; // a sketch of the last hours
mod rows; // the jobs

use super::people::{AdminNav, AdminsOnly};
use super::{
    CancelJobs, MoveJob, QueueFilter, QueueHold, QueueReport, SetQueueHold, load_queue_report,
};
use crate::components::{Ago, ErrorNotice, Field, Notice, Tone};
use crate::error::AppError;
use crate::studio::JobId;
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;
use std::collections::HashSet;
use std::time::Duration;

/// How often the page asks for the queue while it is looked at.
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// What the parts of the page look at together.
#[derive(Clone, Copy)]
struct Desk {
    report: RwSignal<QueueReport>,
    /// The server's clock.
    now: Signal<i64>,
    hold: ServerAction<SetQueueHold>,
    cancel: ServerAction<CancelJobs>,
    place: ServerAction<MoveJob>,
    /// Jobs that are ticked.
    ticked: RwSignal<HashSet<JobId>>,
    /// The job that is being dragged.
    dragged: RwSignal<Option<JobId>>,
}

/// `/admin/queue`
#[component]
pub fn QueuePage() -> impl IntoView {
    view! {
        <Title text="Queue · Atelier"/>
        <AdminsOnly>
            <Room/>
        </AdminsOnly>
    }
}

#[component]
fn Room() -> impl IntoView {
    let query = use_query_map();
    let filter = Memo::new(move |_| {
        query.with(|query| QueueFilter {
            state: query.get("state").unwrap_or_default(),
            user: query.get("user").unwrap_or_default(),
        })
    });
    // Read once for each filter; from then on the page renews itself without being built anew.
    let first = Resource::new(move || filter.get(), load_queue_report);
    view! {
        <div class="page">
            <h1>"Queue"</h1>
            <AdminNav/>
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    let wanted = filter.get_untracked();
                    match first.await {
                        Ok(report) => view! { <Whole report=report filter=wanted/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </div>
    }
}

#[component]
fn Whole(report: QueueReport, filter: QueueFilter) -> impl IntoView {
    let report = RwSignal::new(report);
    let now = Memo::new(move |_| report.with(|report| report.now));
    let desk = Desk {
        report,
        now: now.into(),
        hold: ServerAction::new(),
        cancel: ServerAction::new(),
        place: ServerAction::new(),
        ticked: RwSignal::default(),
        dragged: RwSignal::new(None),
    };
    let lost = RwSignal::new(None::<AppError>);
    renew(desk, filter.clone(), lost);
    let error = move || {
        let failed = [
            desk.hold.value().get().and_then(Result::err),
            desk.cancel.value().get().and_then(Result::err),
            desk.place.value().get().and_then(Result::err),
            lost.get(),
        ];
        failed
            .into_iter()
            .flatten()
            .map(|error| view! { <ErrorNotice error=error/> })
            .collect_view()
    };
    let stopped = move || match desk.cancel.value().get() {
        Some(Ok(0)) => Some("There was nothing left to stop.".to_owned()),
        Some(Ok(1)) => Some("One job is stopped.".to_owned()),
        Some(Ok(count)) => Some(format!("{count} jobs are stopped.")),
        _ => None,
    };
    view! {
        <Standing desk=desk/>
        {error}
        {move || stopped().map(|words| view! { <Notice tone=Tone::Good><p>{words}</p></Notice> })}
        <Filter desk=desk filter=filter/>
        <rows::Jobs desk=desk/>
        <hours::Hours desk=desk/>
    }
}

/// Asks for the queue again: now and then, and after each act.
fn renew(desk: Desk, filter: QueueFilter, lost: RwSignal<Option<AppError>>) {
    let filter = StoredValue::new(filter);
    let ask = move || {
        leptos::task::spawn_local(async move {
            let Some(filter) = filter.try_get_value() else {
                return;
            };
            match load_queue_report(filter).await {
                Ok(report) => {
                    // What is being dragged must not slip away under the pointer.
                    if desk.dragged.try_get_untracked() == Some(None) {
                        let _ = desk.report.try_set(report);
                    }
                    let _ = lost.try_set(None);
                }
                Err(error) => {
                    let _ = lost.try_set(Some(error));
                }
            }
        });
    };
    Effect::new(move |before: Option<()>| {
        desk.hold.version().track();
        desk.cancel.version().track();
        desk.place.version().track();
        if before.is_some() {
            ask();
        }
    });
    Effect::new(move |_| {
        let beat = move || {
            if !document().hidden() {
                ask();
            }
        };
        let handle = set_interval(beat, RENEW_EVERY);
        on_cleanup(move || {
            if let Ok(handle) = handle {
                handle.clear();
            }
        });
    });
    Effect::new(move |_| {
        let still_there: HashSet<JobId> = desk.report.with(|report| {
            let open = report.rows.iter().filter(|row| !row.state.is_final());
            open.map(|row| row.id.clone()).collect()
        });
        let is_stale = desk
            .ticked
            .with_untracked(|ticked| ticked.iter().any(|id| !still_there.contains(id)));
        if is_stale {
            desk.ticked
                .update(|ticked| ticked.retain(|id| still_there.contains(id)));
        }
    });
}

/// How the queue stands, and holding it.
#[component]
fn Standing(desk: Desk) -> impl IntoView {
    let state = Memo::new(move |_| {
        desk.report.with(|report| {
            (
                report.paused.clone(),
                report.closed.clone(),
                report.queued,
                report.running,
                report.is_drained(),
            )
        })
    });
    let button = move |hold: QueueHold, on: bool, word: &'static str| {
        view! {
            <ActionForm action=desk.hold>
                <input type="hidden" name="hold" value=hold.as_str()/>
                <input type="hidden" name="on" value=on.to_string()/>
                <button class="button" type="submit" disabled=move || desk.hold.pending().get()>{word}</button>
            </ActionForm>
        }
    };
    view! {
        {move || {
            let (paused, closed, queued, running, drained) = state.get();
            let is_paused = paused.is_some();
            let is_closed = closed.is_some();
            let tone = if is_paused || is_closed { Tone::Warn } else { Tone::Good };
            let headline = match (is_paused, is_closed, drained) {
                (_, true, true) => "The queue is drained: nothing runs, nothing waits, nothing new is taken.",
                (true, true, false) => "The queue is paused and takes nothing new.",
                (false, true, false) => "The queue is being drained: what waits is still made, nothing new is taken.",
                (true, false, _) => "The queue is paused: what runs goes on to its end, nothing new starts.",
                (false, false, _) => "The queue is open.",
            };
            let counts = match (running, queued) {
                (0, 0) => "Nothing runs and nothing waits.".to_owned(),
                (running, queued) => format!("{running} running, {queued} waiting."),
            };
            let told = [
                paused.map(|hold| view! { <span>"Paused by "{hold.by}" "<Ago at=hold.since now=desk.now/></span> }),
                closed.map(|hold| view! { <span>"Closed by "{hold.by}" "<Ago at=hold.since now=desk.now/></span> }),
            ];
            view! {
                <Notice tone=tone>
                    <p class="decision">{headline}</p>
                    <p class="quiet small decision-facts"><span class="number">{counts}</span>{told.into_iter().flatten().collect_view()}</p>
                    <div class="actions">
                        {if is_paused {
                            button(QueueHold::Paused, false, "Resume").into_any()
                        } else {
                            button(QueueHold::Paused, true, "Pause").into_any()
                        }}
                        {if is_closed {
                            button(QueueHold::Closed, false, "Take new images again").into_any()
                        } else {
                            button(QueueHold::Closed, true, "Drain").into_any()
                        }}
                    </div>
                    <p class="quiet small">"Paused: nothing new starts, and whoever waits is told so. Draining: what waits is made, new requests are refused. Both stay so over a restart."</p>
                </Notice>
            }
        }}
    }
}

/// What the filter can be set to, and its words.
const STATES: [(&str, &str); 7] = [
    ("", "all"),
    ("running", "running"),
    ("waiting", "waiting"),
    ("ended", "ended"),
    ("done", "done"),
    ("failed", "failed"),
    ("cancelled", "cancelled"),
];

#[component]
fn Filter(desk: Desk, filter: QueueFilter) -> impl IntoView {
    let people = Memo::new(move |_| desk.report.with(|report| report.people.clone()));
    let wanted = filter.user.clone();
    let options = move || {
        let mut names: Vec<String> = people.get().into_iter().map(|(_, name)| name).collect();
        // Whose jobs are shown stays chosen, also when they have none.
        if !wanted.is_empty() && !names.contains(&wanted) {
            names.push(wanted.clone());
        }
        names
            .into_iter()
            .map(|name| {
                let here = name == wanted;
                view! { <option value=name.clone() selected=here>{name.clone()}</option> }
            })
            .collect_view()
    };
    let states = STATES
        .iter()
        .map(|(word, words)| {
            view! { <option value=*word selected=*word == filter.state>{*words}</option> }
        })
        .collect_view();
    let user = filter.user.clone();
    // All jobs of one person at once, while the list is theirs.
    let whose = Memo::new(move |_| {
        people
            .get()
            .into_iter()
            .find(|(_, name)| !user.is_empty() && *name == user)
    });
    view! {
        <div class="queue-tools">
            <form class="queue-filter" method="get" action="/admin/queue" role="search" aria-label="Filter the queue">
                <Field id="queue-state" label="State">
                    <select class="input" id="queue-state" name="state" aria-describedby="queue-state-note">{states}</select>
                </Field>
                <Field id="queue-user" label="Who">
                    <select class="input" id="queue-user" name="user" aria-describedby="queue-user-note">
                        <option value="">"everybody"</option>
                        {options}
                    </select>
                </Field>
                <button class="button row-button" type="submit">"Filter"</button>
            </form>
            <div class="actions">
                // Its boxes are in the rows, tied to it by its id.
                <ActionForm action=desk.cancel attr:id="cancel-ticked">
                    <button class="button" type="submit" disabled=move || desk.cancel.pending().get()>
                        {move || match desk.ticked.with(HashSet::len) {
                            0 => "Cancel the selected".to_owned(),
                            count => format!("Cancel the selected ({count})"),
                        }}
                    </button>
                </ActionForm>
                {move || whose.get().map(|(id, name)| view! {
                    <details class="confirm">
                        <summary class="button">{format!("Cancel all of {name} …")}</summary>
                        <div class="confirm-panel">
                            <p>{format!("Everything of {name} that waits or runs is stopped.")}</p>
                            <ActionForm action=desk.cancel>
                                <input type="hidden" name="user" value=id.0.to_string()/>
                                <button class="button button-small button-bad" type="submit">{format!("Stop all of {name}")}</button>
                            </ActionForm>
                        </div>
                    </details>
                })}
                <details class="confirm">
                    <summary class="button">"Cancel all that wait …"</summary>
                    <div class="confirm-panel">
                        <p>"Every waiting job of everybody is stopped; what runs goes on."</p>
                        <ActionForm action=desk.cancel>
                            <input type="hidden" name="waiting" value="true"/>
                            <button class="button button-small button-bad" type="submit">"Stop all that wait"</button>
                        </ActionForm>
                    </div>
                </details>
            </div>
        </div>
    }
}
