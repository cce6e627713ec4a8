//! What was found, what was tried, what is used, and why; and how the machine feels, live.

mod card; // one device
mod checks; // what it was tried with
mod choice; // what the administrator may choose
mod events; // what befell it
mod feel; // memory, load, temperature, step times

use super::{
    DevicesReport, SetDeviceChoice, TestDevicesAgain, USUAL_SPAN_S, VitalsReport, WorkerReport,
    load_devices, load_vitals,
};
use crate::components::{Ago, Badge, DeviceStatus, ErrorNotice, Notice, Tone, bytes_text};
use crate::studio::{DeviceBadge, load_device_badge};
use leptos::form::ActionForm;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use std::collections::HashMap;
use std::time::Duration;

/// How often numbers are asked for while the page is looked at; the rest every second time.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// What the parts of this section look at together.
#[derive(Clone, Copy)]
struct Watch {
    report: RwSignal<DevicesReport>,
    vitals: RwSignal<Option<VitalsReport>>,
    /// Seconds that the plots show.
    span_s: RwSignal<u32>,
    /// The server's clock.
    now: Signal<i64>,
    test_again: ServerAction<TestDevicesAgain>,
    /// What the reader opened or shut, so that news does not shut it again.
    folds: StoredValue<HashMap<String, bool>>,
}

impl Watch {
    /// Whether a fold is open: as the reader left it, else as is fit at first.
    fn is_open(&self, fold: &str, at_first: bool) -> bool {
        self.folds
            .with_value(|folds| folds.get(fold).copied().unwrap_or(at_first))
    }

    fn remember(&self, fold: String, is_open: bool) {
        self.folds.update_value(|folds| {
            folds.insert(fold, is_open);
        });
    }
}

/// The device section of the admin page.
#[component]
pub fn Devices() -> impl IntoView {
    let test_again = ServerAction::<TestDevicesAgain>::new();
    let query = use_query_map().get_untracked();
    let span_s = query
        .get("span")
        .and_then(|span| span.parse().ok())
        .unwrap_or(USUAL_SPAN_S);
    // Read once; from then on the section renews itself without being built anew.
    let first = Resource::new(
        || (),
        move |()| async move {
            let vitals = load_vitals(span_s).await.ok();
            let badge = load_device_badge().await.ok();
            load_devices().await.map(|report| (report, vitals, badge))
        },
    );
    let pending = test_again.pending();
    let error = move || match test_again.value().get() {
        Some(Err(error)) => Some(view! { <ErrorNotice error=error/> }),
        _ => None,
    };
    view! {
        <section aria-labelledby="devices-title">
            <div class="page-head">
                <h2 id="devices-title">"Devices"</h2>
                <ActionForm action=test_again>
                    <button class="button button-small" type="submit" disabled=move || pending.get()>
                        {move || if pending.get() { "Testing all …" } else { "Test all again" }}
                    </button>
                </ActionForm>
            </div>
            {error}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match first.await {
                        Ok((report, vitals, badge)) => view! {
                            <Report report=report vitals=vitals badge=badge span_s=span_s test_again=test_again/>
                        }
                        .into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </section>
    }
}

#[component]
fn Report(
    report: DevicesReport,
    vitals: Option<VitalsReport>,
    badge: Option<DeviceBadge>,
    span_s: u32,
    test_again: ServerAction<TestDevicesAgain>,
) -> impl IntoView {
    let choose = ServerAction::<SetDeviceChoice>::new();
    let began = vitals.as_ref().map_or(report.probed_at, |vitals| vitals.at);
    let vitals = RwSignal::new(vitals);
    let now = Memo::new(move |before: Option<&i64>| {
        let told = vitals.with(|vitals| vitals.as_ref().map(|vitals| vitals.at));
        told.or(before.copied()).unwrap_or(began)
    });
    let watch = Watch {
        report: RwSignal::new(report),
        vitals,
        span_s: RwSignal::new(span_s),
        now: now.into(),
        test_again,
        folds: StoredValue::default(),
    };
    let badge = RwSignal::new(badge);
    // What a test or a choice answers is the newest there is.
    Effect::new(move |_| {
        if let Some(Ok(report)) = test_again.value().get() {
            watch.report.set(report);
        }
    });
    Effect::new(move |_| {
        if let Some(Ok(report)) = choose.value().get() {
            watch.report.set(report);
        }
    });
    renew(watch, badge);

    let report = watch.report;
    let decision = Memo::new(move |_| {
        report.with(|r| {
            (
                r.decision.clone(),
                r.degraded,
                r.since,
                r.probed_at,
                r.checking,
            )
        })
    });
    let devices = Memo::new(move |_| report.with(|r| r.devices.clone()));
    let workers = Memo::new(move |_| report.with(|r| (r.workers.clone(), r.worker.clone())));
    let cuda = Memo::new(move |_| report.with(|r| r.cuda_worker.clone()));
    let events = Memo::new(move |_| report.with(|r| r.events.clone()));
    view! {
        {move || {
            let (sentence, degraded, since, probed_at, checking) = decision.get();
            view! {
                <Notice tone=if degraded { Tone::Warn } else { Tone::Good }>
                    <p class="decision">{sentence}</p>
                    <p class="quiet small decision-facts">
                        <span>"It has been so "<Ago at=since now=watch.now lasts=true/></span>
                        {(probed_at > 0).then(|| view! { <span>"Tested "<Ago at=probed_at now=watch.now/></span> })}
                        {checking.then(|| view! { <Badge tone=Tone::Live>"Testing now"</Badge> })}
                    </p>
                    <div class="decision-badge">
                        <span class="quiet small">"Everybody’s studio says"</span>
                        {move || badge.get().map(|badge| view! { <DeviceStatus badge=badge/> })}
                    </div>
                </Notice>
            }
        }}
        <feel::Spans watch=watch/>
        <div class="devices">
            {move || devices.get().into_iter().map(|device| view! { <card::DeviceCard device=device watch=watch/> }).collect_view()}
        </div>
        <div class="cards">
            <article class="card" aria-labelledby="workers-title">
                <h3 id="workers-title">"Workers"</h3>
                <p class="quiet small">"A process of its own for each device in use: what crashes there costs one try of one image, never the site."</p>
                {move || {
                    let (workers, words) = workers.get();
                    view! { <Workers workers=workers words=words watch=watch/> }
                }}
                {move || {
                    let cuda = cuda.get();
                    (!cuda.words.is_empty()).then(|| view! {
                        <div class="cuda-worker">
                            <div class="card-head">
                                <h4>"CUDA worker"</h4>
                                <Badge tone=if cuda.found { Tone::Good } else { Tone::Neutral }>
                                    {if cuda.found { "found" } else { "not there" }}
                                </Badge>
                            </div>
                            <p>{cuda.words}</p>
                            <p class="quiet small break"><code>{cuda.path}</code></p>
                        </div>
                    })
                }}
            </article>
            <choice::ChoiceForm watch=watch action=choose/>
        </div>
        {move || view! { <events::Timeline events=events.get() watch=watch/> }}
    }
}

/// Asks for news while somebody looks at the page.
fn renew(watch: Watch, badge: RwSignal<Option<DeviceBadge>>) {
    let numbers = move || {
        leptos::task::spawn_local(async move {
            if let Some(span_s) = watch.span_s.try_get_untracked()
                && let Ok(vitals) = load_vitals(span_s).await
                // An answer for a span that is no longer asked for comes too late.
                && watch.span_s.try_get_untracked() == Some(span_s)
            {
                let _ = watch.vitals.try_set(Some(vitals));
            }
        });
    };
    let rest = move || {
        leptos::task::spawn_local(async move {
            if let Ok(report) = load_devices().await
                && watch.report.try_with_untracked(|known| *known != report) == Some(true)
            {
                let _ = watch.report.try_set(report);
            }
            if let Ok(fresh) = load_device_badge().await
                && badge.try_with_untracked(|known| known.as_ref() != Some(&fresh)) == Some(true)
            {
                let _ = badge.try_set(Some(fresh));
            }
        });
    };
    Effect::new(move |before: Option<()>| {
        watch.span_s.track();
        if before.is_some() {
            numbers();
        }
    });
    Effect::new(move |_| {
        let beats = StoredValue::new(0_u32);
        let beat = move || {
            if document().hidden() {
                return;
            }
            beats.update_value(|beats| *beats = beats.wrapping_add(1));
            numbers();
            if beats.get_value().is_multiple_of(2) && !watch.test_again.pending().get_untracked() {
                rest();
            }
        };
        let handle = set_interval(beat, RENEW_EVERY);
        on_cleanup(move || {
            if let Ok(handle) = handle {
                handle.clear();
            }
        });
    });
}

/// The tone of what a worker says of itself.
fn tone_of(words: &str) -> Tone {
    match words {
        "working" => Tone::Live,
        "idle" => Tone::Good,
        "stopped" => Tone::Neutral,
        _ => Tone::Warn,
    }
}

#[component]
fn Workers(workers: Vec<WorkerReport>, words: String, watch: Watch) -> impl IntoView {
    if workers.is_empty() {
        return view! { <p><Badge tone=tone_of(&words)>{words}</Badge></p> }.into_any();
    }
    let rows = workers
        .into_iter()
        .map(|worker| {
            let device = worker.device.clone();
            let memory = move || {
                watch.vitals.with(|vitals| {
                    let of = vitals.as_ref()?.workers.iter().find(|w| w.device == device)?;
                    Some(bytes_text(of.resident))
                })
            };
            view! {
                <li class="worker">
                    <code>{worker.device}</code>
                    <Badge tone=tone_of(&worker.words)>{worker.words}</Badge>
                    {worker.standby.then(|| view! { <span class="quiet small">"stands by"</span> })}
                    {(worker.since > 0).then(|| view! { <span class="quiet small"><Ago at=worker.since now=watch.now lasts=true/></span> })}
                    <span class="worker-memory number">{memory}</span>
                </li>
            }
        })
        .collect_view();
    view! { <ul class="workers">{rows}</ul> }.into_any()
}
