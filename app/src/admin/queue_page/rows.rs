//! The jobs themselves: what runs, what waits in the order in which it will start, what ended. A row
//! stays the same row while the page renews itself, so that focus and pointer keep their place.

use super::Desk;
use crate::admin::QueueEntry;
use crate::components::{Ago, Badge, Progress, Tone, seconds_text};
use crate::studio::{JobId, JobState};
use leptos::form::ActionForm;
use leptos::prelude::*;

/// Which part of the list a job stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Running,
    Waiting,
    Ended,
}

impl Part {
    fn holds(self, state: JobState) -> bool {
        match self {
            Self::Running => state == JobState::Running,
            Self::Waiting => state == JobState::Queued,
            Self::Ended => state.is_final(),
        }
    }
}

/// All three parts.
#[component]
pub(super) fn Jobs(desk: Desk) -> impl IntoView {
    let is_empty = Memo::new(move |_| desk.report.with(|report| report.rows.is_empty()));
    let left_out = Memo::new(move |_| desk.report.with(|report| report.left_out));
    view! {
        <Show when=move || is_empty.get()>
            <p class="quiet">"No job fits. Jobs appear here as soon as somebody asks for an image."</p>
        </Show>
        <List desk=desk part=Part::Running title="Running" id="queue-running"/>
        <List desk=desk part=Part::Waiting title="Waiting" id="queue-waiting"/>
        {move || (left_out.get() > 0).then(|| view! {
            <p class="quiet">{format!("{} more wait behind these.", left_out.get())}</p>
        })}
        <List desk=desk part=Part::Ended title="Ended lately" id="queue-ended"/>
    }
}

#[component]
fn List(desk: Desk, part: Part, title: &'static str, id: &'static str) -> impl IntoView {
    let ids = Memo::new(move |_| {
        desk.report.with(|report| {
            let rows = report.rows.iter().filter(|row| part.holds(row.state));
            rows.map(|row| row.id.clone()).collect::<Vec<JobId>>()
        })
    });
    let hint = (part == Part::Waiting).then(|| {
        view! {
            <p class="quiet small">"In the order in which they will start. Everybody gets a fair share by device time; a job that you move keeps the place you give it, and all others stay in the fair order. Move with the buttons, or drag a row."</p>
        }
    });
    view! {
        <Show when=move || !ids.with(Vec::is_empty)>
            <section aria-labelledby=id>
                <h2 id=id>{title}</h2>
                {hint.clone()}
                <ul class="queue-list">
                    <For each=move || ids.get() key=|id| id.clone() let:job>
                        <Job desk=desk id=job part=part/>
                    </For>
                </ul>
            </section>
        </Show>
    }
}

fn badge_of(state: JobState) -> (Tone, &'static str) {
    match state {
        JobState::Queued => (Tone::Neutral, "waiting"),
        JobState::Running => (Tone::Live, "running"),
        JobState::Done => (Tone::Good, "done"),
        JobState::Failed => (Tone::Bad, "failed"),
        JobState::Cancelled => (Tone::Neutral, "cancelled"),
    }
}

#[component]
fn Job(desk: Desk, id: JobId, part: Part) -> impl IntoView {
    let wanted = id.clone();
    let row = Memo::new(move |before: Option<&QueueEntry>| {
        let found = desk
            .report
            .with(|report| report.rows.iter().find(|row| row.id == wanted).cloned());
        // For the moment between the news and the row's removal.
        found.or_else(|| before.cloned()).unwrap_or_default()
    });
    let (user, model, size) = row.with_untracked(|row| {
        let size = format!("{} · {} steps", row.size, row.steps);
        (row.user.clone(), row.model.clone(), size)
    });
    let named = format!("{user}’s job, {model}, {size}");
    let (over, dropped) = (id.clone(), id.clone());
    let is_target = RwSignal::new(false);
    let can_drop = move || {
        part == Part::Waiting
            && desk
                .dragged
                .with_untracked(|dragged| dragged.as_ref().is_some_and(|dragged| *dragged != over))
    };
    let can_drop = StoredValue::new(can_drop);
    let drag_over = move |event: leptos::ev::DragEvent| {
        if can_drop.with_value(|can_drop| can_drop()) {
            event.prevent_default();
            is_target.set(true);
        }
    };
    let drop_here = move |event: leptos::ev::DragEvent| {
        is_target.set(false);
        let Some(job) = desk.dragged.get_untracked() else {
            return;
        };
        if part == Part::Waiting && job != dropped {
            event.prevent_default();
            desk.place.dispatch(crate::admin::MoveJob {
                id: job,
                to: "before".into(),
                before: dropped.0.clone(),
            });
        }
        desk.dragged.set(None);
    };
    let lifted = id.clone();
    let is_lifted = {
        let id = id.clone();
        move || desk.dragged.with(|dragged| dragged.as_ref() == Some(&id))
    };
    let box_id = id.clone();
    let tick = (part != Part::Ended).then(|| {
        let (ticked, changed) = (box_id.clone(), box_id.clone());
        let change = move |event: leptos::ev::Event| {
            let on = event_target_checked(&event);
            desk.ticked.update(|ticked| {
                if on {
                    ticked.insert(changed.clone());
                } else {
                    ticked.remove(&changed);
                }
            });
        };
        view! {
            <input
                class="queue-tick"
                type="checkbox"
                name="ids[]"
                value=box_id.0.clone()
                form="cancel-ticked"
                aria-label=format!("Select {named}")
                prop:checked=move || desk.ticked.with(|all| all.contains(&ticked))
                on:change=change
            />
        }
    });
    let actions = match part {
        Part::Ended => None,
        Part::Running => {
            Some(view! { <Cancel desk=desk id=id.clone() named=named.clone()/> }.into_any())
        }
        Part::Waiting => Some(
            view! {
                <Moves desk=desk id=id.clone() named=named.clone() row=row/>
                <Cancel desk=desk id=id.clone() named=named.clone()/>
            }
            .into_any(),
        ),
    };
    view! {
        <li
            class="queue-job"
            class:queue-target=move || is_target.get()
            class:queue-lifted=is_lifted
            draggable=(part == Part::Waiting).then_some("true")
            on:dragstart=move |_| desk.dragged.set(Some(lifted.clone()))
            on:dragend=move |_| desk.dragged.set(None)
            on:dragover=drag_over
            on:dragleave=move |_| is_target.set(false)
            on:drop=drop_here
        >
            {tick}
            <div class="queue-words">
                <p class="queue-line">
                    <strong>{user}</strong>
                    {move || {
                        let (tone, word) = badge_of(row.with(|row| row.state));
                        view! { <Badge tone=tone>{word}</Badge> }
                    }}
                    {move || row.with(|row| row.placed).then(|| view! { <Badge tone=Tone::Warn>"moved by an administrator"</Badge> })}
                    {move || row.with(|row| row.cached).then(|| view! { <span class="quiet small">"was in the gallery already"</span> })}
                </p>
                <p class="queue-line quiet small">
                    <span class="break">{model}</span>
                    <span class="number">{size}</span>
                    {move || row.with(|row| (row.attempt > 1).then_some(row.attempt)).map(|attempt| view! { <span class="number">{format!("attempt {attempt}")}</span> })}
                </p>
                <Times desk=desk row=row part=part/>
            </div>
            <div class="queue-acts">{actions}</div>
        </li>
    }
}

/// How long it waited, runs, will take.
#[component]
fn Times(desk: Desk, row: Memo<QueueEntry>, part: Part) -> impl IntoView {
    let now = desk.now;
    match part {
        Part::Running => {
            let words =
                Memo::new(move |_| row.with(|row| format!("Step {} of {}", row.step, row.steps)));
            let value = Memo::new(move |_| {
                row.with(|row| (row.steps > 0).then(|| f64::from(row.step) / f64::from(row.steps)))
            });
            let ran = move || {
                let started = row.with(|row| row.started_at)?;
                let seconds = (now.get() - started).max(0) as f64 / 1000.0;
                Some(format!("runs for {}", seconds_text(seconds)))
            };
            let left = move || {
                let left = row.with(|row| row.left_s)?;
                Some(format!("about {} left", seconds_text(left)))
            };
            view! {
                <Progress label=words value=value/>
                <p class="queue-line quiet small number">
                    <span>{move || words.get()}</span>
                    <span>{ran}</span>
                    <span>{left}</span>
                </p>
            }
            .into_any()
        }
        Part::Waiting => {
            let place = move || {
                row.with(|row| row.position)
                    .map(|place| format!("place {}", place + 1))
            };
            let starts = move || match row.with(|row| row.starts_in_s) {
                Some(seconds) if seconds < 1.0 => "starts now".to_owned(),
                Some(seconds) => format!("starts in about {}", seconds_text(seconds)),
                None if desk.report.with(|report| report.paused.is_some()) => {
                    "starts when the queue goes on".to_owned()
                }
                None => "its model was not measured yet".to_owned(),
            };
            let takes = move || {
                row.with(|row| row.takes_s)
                    .map(|seconds| format!("takes about {}", seconds_text(seconds)))
            };
            let created = row.with_untracked(|row| row.created_at);
            view! {
                <p class="queue-line quiet small number">
                    <span>{place}</span>
                    <span>{starts}</span>
                    <span>{takes}</span>
                    <span>"asked "<Ago at=created now=now/></span>
                </p>
            }
            .into_any()
        }
        Part::Ended => {
            let (started, finished) = row.with_untracked(|row| (row.started_at, row.finished_at));
            let took = started.zip(finished).map(|(started, finished)| {
                let seconds = (finished - started).max(0) as f64 / 1000.0;
                format!("took {}", seconds_text(seconds))
            });
            view! {
                <p class="queue-line quiet small number">
                    {finished.map(|at| view! { <span>"ended "<Ago at=at now=now/></span> })}
                    <span>{took}</span>
                </p>
            }
            .into_any()
        }
    }
}

#[component]
fn Cancel(desk: Desk, id: JobId, named: String) -> impl IntoView {
    view! {
        <ActionForm action=desk.cancel>
            <input type="hidden" name="ids[]" value=id.0/>
            <button class="button button-small" type="submit" aria-label=format!("Cancel {named}")>"Cancel"</button>
        </ActionForm>
    }
}

/// To the front, up, down, and back to where fairness would put it.
#[component]
fn Moves(desk: Desk, id: JobId, named: String, row: Memo<QueueEntry>) -> impl IntoView {
    let is_placed = Memo::new(move |_| row.with(|row| row.placed));
    let (job, whose) = (id.clone(), named.clone());
    view! {
        <MoveButton desk=desk id=id.clone() to="front" word="⇈" label=format!("To the front: {named}")/>
        <MoveButton desk=desk id=id.clone() to="up" word="↑" label=format!("Up: {named}")/>
        <MoveButton desk=desk id=id to="down" word="↓" label=format!("Down: {named}")/>
        {move || {
            let (job, label) = (job.clone(), format!("Back to the fair order: {whose}"));
            is_placed.get().then(|| view! { <MoveButton desk=desk id=job to="fair" word="Fair" label=label/> })
        }}
    }
}

#[component]
fn MoveButton(
    desk: Desk,
    id: JobId,
    to: &'static str,
    word: &'static str,
    label: String,
) -> impl IntoView {
    // Moving a row in the document takes the focus away: it is given back.
    let own = format!("{to}-{}", id.0);
    let again = own.clone();
    view! {
        <ActionForm action=desk.place on:submit=move |_| keep_focus(desk, again.clone())>
            <input type="hidden" name="id" value=id.0/>
            <input type="hidden" name="to" value=to/>
            <button class="button button-small queue-move" id=own type="submit" aria-label=label.clone() title=label>{word}</button>
        </ActionForm>
    }
}

/// Puts the focus back on a button once the list has been put in its new order.
fn keep_focus(desk: Desk, button: String) {
    let began = desk.report.with_untracked(|report| report.now);
    let looked = StoredValue::new(0_u32);
    fn look(desk: Desk, button: String, began: i64, looked: StoredValue<u32>) {
        crate::hydrated::after(std::time::Duration::from_millis(50), move || {
            let times = looked.try_update_value(|times| {
                *times += 1;
                *times
            });
            let is_new = desk.report.try_with_untracked(|report| report.now > began);
            match (is_new, times) {
                (Some(false), Some(..60)) => look(desk, button, began, looked),
                (Some(true), _) => focus(&button),
                _ => {}
            }
        });
    }
    look(desk, button, began, looked);
}

#[cfg(feature = "hydrate")]
fn focus(id: &str) {
    use wasm_bindgen::JsCast;
    let found = document()
        .get_element_by_id(id)
        .and_then(|element| element.dyn_into::<web_sys::HtmlElement>().ok());
    // Somebody who went on elsewhere meanwhile is left there.
    let is_free = document()
        .active_element()
        .is_none_or(|element| element.tag_name() == "BODY");
    if let Some(button) = found.filter(|_| is_free) {
        let _ = button.focus();
    }
}

#[cfg(not(feature = "hydrate"))]
fn focus(_: &str) {}
