//! What was found, what was tried, what is used, and why.

use super::{CheckReport, DeviceReport, DevicesReport, TestDevicesAgain, load_devices};
use crate::components::{
    Badge, ErrorNotice, LinePlot, Moment, Notice, Tone, number_text, seconds_text,
};
use leptos::form::ActionForm;
use leptos::prelude::*;

/// The device section of the admin page.
#[component]
pub fn Devices() -> impl IntoView {
    let test_again = ServerAction::<TestDevicesAgain>::new();
    let report = Resource::new(move || test_again.version().get(), |_| load_devices());
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
                        {move || if pending.get() { "Testing …" } else { "Test again" }}
                    </button>
                </ActionForm>
            </div>
            {error}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match report.await {
                        Ok(report) => view! { <Report report=report/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </section>
    }
}

#[component]
fn Report(report: DevicesReport) -> impl IntoView {
    let worker_tone = match report.worker.as_str() {
        "working" => Tone::Live,
        "idle" => Tone::Good,
        _ => Tone::Warn,
    };
    let devices = report
        .devices
        .into_iter()
        .map(|device| view! { <DeviceCard device=device/> })
        .collect_view();
    view! {
        <Notice tone=if report.degraded { Tone::Warn } else { Tone::Good }>
            <p class="decision">{report.decision}</p>
            <p class="quiet small">
                "Since "<Moment at=report.since/>" · tested "<Moment at=report.probed_at/>
            </p>
        </Notice>
        <div class="cards">
            {devices}
            <article class="card" aria-labelledby="worker-title">
                <div class="card-head">
                    <h3 id="worker-title">"Worker"</h3>
                    <Badge tone=worker_tone>{report.worker}</Badge>
                </div>
                <p class="quiet">"Seconds for one denoising step, latest images"</p>
                {if report.step_times.is_empty() {
                    view! { <p class="quiet">"Nothing measured yet: the first image draws the first point."</p> }.into_any()
                } else {
                    view! { <LinePlot label="Seconds per denoising step" values=report.step_times/> }.into_any()
                }}
            </article>
        </div>
    }
}

#[component]
fn DeviceCard(device: DeviceReport) -> impl IntoView {
    let state = match (device.in_use, device.usable) {
        (true, _) => view! { <Badge tone=Tone::Good>"In use"</Badge> },
        (false, true) => view! { <Badge tone=Tone::Neutral>"Usable"</Badge> },
        (false, false) => view! { <Badge tone=Tone::Bad>"Not usable"</Badge> },
    };
    let facts = device
        .facts
        .into_iter()
        .map(|(name, value)| view! { <dt>{name}</dt><dd class="number">{value}</dd> })
        .collect_view();
    let failed = device.checks.iter().filter(|check| !check.ok).count();
    let count = device.checks.len();
    let summary = match (count, failed) {
        (0, _) => "No check was run on it".to_owned(),
        (_, 0) => format!("All {count} checks passed"),
        _ => format!("{failed} of {count} checks failed"),
    };
    let rows = device
        .checks
        .into_iter()
        .map(|check| view! { <CheckRow check=check/> })
        .collect_view();
    let remedy = device.remedy.map(|remedy| {
        view! { <p class="remedy"><strong>"What to do: "</strong>{remedy}</p> }
    });
    view! {
        <article class="card">
            <div class="card-head">
                <h3>{device.name}" "<code class="quiet">{device.id}</code></h3>
                {state}
            </div>
            <p>{device.reason}</p>
            {remedy}
            <dl class="facts facts-tight">{facts}</dl>
            {(count > 0).then(|| view! {
                <details class="fold" open={failed > 0}>
                    <summary>{summary.clone()}</summary>
                    <div class="table-frame" tabindex="0" role="region" aria-label="Checks">
                        <table class="table">
                            <thead>
                                <tr>
                                    <th scope="col">"Check"</th>
                                    <th scope="col">"Type"</th>
                                    <th scope="col">"Result"</th>
                                    <th scope="col" class="right">"Max error"</th>
                                    <th scope="col" class="right">"Allowed"</th>
                                    <th scope="col" class="right">"Time"</th>
                                </tr>
                            </thead>
                            <tbody>{rows}</tbody>
                        </table>
                    </div>
                </details>
            })}
            {(count == 0).then_some(view! { <p class="quiet small">{summary}</p> })}
        </article>
    }
}

#[component]
fn CheckRow(check: CheckReport) -> impl IntoView {
    let result = if check.ok {
        view! { <span class="ok">"passed"</span> }.into_any()
    } else {
        view! { <span class="failed">"failed"</span> }.into_any()
    };
    let error = check.error.map(|error| {
        view! { <tr class="table-note"><td colspan="6"><code class="break">{error}</code></td></tr> }
    });
    view! {
        <tr>
            <th scope="row">{check.name}</th>
            <td>{check.dtype}</td>
            <td>{result}</td>
            <td class="right number">{check.max_error.map_or_else(|| "–".to_owned(), number_text)}</td>
            <td class="right number">{number_text(check.tolerance)}</td>
            <td class="right number">{milliseconds_text(check.seconds)}</td>
        </tr>
        {error}
    }
}

/// Checks take milliseconds; "0.0 s" would say nothing.
fn milliseconds_text(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else {
        seconds_text(seconds)
    }
}
