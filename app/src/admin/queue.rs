//! Everybody's jobs: whose, how far, how long. Never the prompt.

use super::{CancelAnyJob, QueueRow, load_queue};
use crate::components::{Badge, ErrorNotice, Moment, Tone};
use crate::studio::JobState;
use leptos::form::ActionForm;
use leptos::prelude::*;
use std::time::Duration;

/// How often the table is asked for again while the page is open.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// The queue section of the admin page.
#[component]
pub fn Queue() -> impl IntoView {
    let cancel = ServerAction::<CancelAnyJob>::new();
    let tick = RwSignal::new(0u32);
    Effect::new(move |_| {
        let handle = set_interval(move || tick.update(|n| *n = n.wrapping_add(1)), RENEW_EVERY);
        on_cleanup(move || {
            if let Ok(handle) = handle {
                handle.clear();
            }
        });
    });
    let queue = Resource::new(
        move || (tick.get(), cancel.version().get()),
        |_| load_queue(),
    );
    let error = move || match cancel.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }),
        _ => None,
    };
    view! {
        <section aria-labelledby="queue-title">
            <div class="page-head">
                <h2 id="queue-title">"Queue"</h2>
                <a class="button button-small" href="/admin/queue">"Open the queue"</a>
            </div>
            {error}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match queue.await {
                        Ok(rows) if rows.is_empty() => view! { <p class="quiet">"Nobody has asked for an image yet."</p> }.into_any(),
                        Ok(rows) => view! { <Table rows=rows cancel=cancel/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </section>
    }
}

#[component]
fn Table(rows: Vec<QueueRow>, cancel: ServerAction<CancelAnyJob>) -> impl IntoView {
    let rows = rows
        .into_iter()
        .map(|row| {
            let (tone, word) = match row.state {
                JobState::Queued => (Tone::Neutral, "queued"),
                JobState::Running => (Tone::Live, "running"),
                JobState::Done => (Tone::Good, "done"),
                JobState::Failed => (Tone::Bad, "failed"),
                JobState::Cancelled => (Tone::Neutral, "cancelled"),
            };
            let label = format!("Cancel {}'s job", row.user);
            let id = row.id.0;
            let stop = (!row.state.is_final()).then(|| {
                view! {
                    <ActionForm action=cancel>
                        <input type="hidden" name="id" value=id/>
                        <button class="button button-small" type="submit" aria-label=label>"Cancel"</button>
                    </ActionForm>
                }
            });
            let started = match row.started_at {
                Some(at) => view! { <Moment at=at/> }.into_any(),
                None => view! { <span class="quiet">"–"</span> }.into_any(),
            };
            view! {
                <tr>
                    <th scope="row">{row.user}</th>
                    <td><Badge tone=tone>{word}</Badge></td>
                    <td>{row.model}</td>
                    <td class="number">{row.size}</td>
                    <td class="right number">{format!("{} / {}", row.step, row.steps)}</td>
                    <td class="right number">{row.attempt}</td>
                    <td class="number"><Moment at=row.created_at/></td>
                    <td class="number">{started}</td>
                    <td class="right">{stop}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <div class="table-frame" tabindex="0" role="region" aria-label="Everybody’s jobs">
            <table class="table">
                <thead>
                    <tr>
                        <th scope="col">"Who"</th>
                        <th scope="col">"State"</th>
                        <th scope="col">"Model"</th>
                        <th scope="col">"Size"</th>
                        <th scope="col" class="right">"Step"</th>
                        <th scope="col" class="right">"Attempt"</th>
                        <th scope="col">"Asked"</th>
                        <th scope="col">"Started"</th>
                        <th scope="col"><span class="hidden">"Actions"</span></th>
                    </tr>
                </thead>
                <tbody>{rows}</tbody>
            </table>
        </div>
    }
}
