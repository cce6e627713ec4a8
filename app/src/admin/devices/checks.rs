//! Every check of a device with its numbers, by number format; folded while all is well.

use super::super::CheckReport;
use super::Watch;
use crate::components::{number_text, seconds_text};
use leptos::prelude::*;

/// The checks of one device.
#[component]
pub(super) fn Checks(id: String, checks: Vec<CheckReport>, watch: Watch) -> impl IntoView {
    if checks.is_empty() {
        return view! { <p class="quiet small">"No check was run on it"</p> }.into_any();
    }
    let mut groups: Vec<(String, Vec<CheckReport>)> = Vec::new();
    for check in checks {
        match groups.iter_mut().find(|(dtype, _)| *dtype == check.dtype) {
            Some((_, group)) => group.push(check),
            None => groups.push((check.dtype.clone(), vec![check])),
        }
    }
    let groups = groups
        .into_iter()
        .map(|(dtype, checks)| view! { <Group id=id.clone() dtype=dtype checks=checks watch=watch/> })
        .collect_view();
    view! { <div class="checks">{groups}</div> }.into_any()
}

#[component]
fn Group(id: String, dtype: String, checks: Vec<CheckReport>, watch: Watch) -> impl IntoView {
    let failed = checks.iter().filter(|check| !check.ok).count();
    let count = checks.len();
    let summary = match failed {
        0 if count == 1 => "the one check passed".to_owned(),
        0 => format!("all {count} checks passed"),
        _ => format!("{failed} of {count} checks failed"),
    };
    let class = if failed > 0 { "failed" } else { "ok" };
    let strip = checks
        .iter()
        .enumerate()
        .map(|(place, check)| {
            let class = if check.ok { "check-ok" } else { "check-failed" };
            view! { <rect class=class x=(place * 10).to_string() y="0" width="8" height="10" rx="2"></rect> }
        })
        .collect_view();
    // What failed is what one came to read; what passed beside it is folded once more.
    let (passed, wrong): (Vec<_>, Vec<_>) = checks.into_iter().partition(|check| check.ok);
    let words = format!("{} passed", passed.len());
    let label = format!("Checks of {id} in {dtype}");
    let tables = match (wrong.is_empty(), passed.is_empty()) {
        (true, _) => view! { <Table checks=passed label=label/> }.into_any(),
        (false, true) => view! { <Table checks=wrong label=label/> }.into_any(),
        (false, false) => view! {
            <Table checks=wrong label=format!("{label} that failed")/>
            <details class="fold check-passed">
                <summary>{words}</summary>
                <Table checks=passed label=format!("{label} that passed")/>
            </details>
        }
        .into_any(),
    };
    let fold = format!("{id} {dtype}");
    let open = watch.is_open(&fold, failed > 0);
    let node = NodeRef::<leptos::html::Details>::new();
    let toggled = move |_| {
        if let Some(details) = node.get_untracked() {
            watch.remember(fold.clone(), details.open());
        }
    };
    view! {
        <details class="check-group" open=open node_ref=node on:toggle=toggled>
            <summary>
                <span class="check-dtype">{dtype}</span>
                <span class=class>{summary}</span>
                <svg class="check-strip" viewBox=format!("0 0 {} 10", count * 10 - 2) aria-hidden="true">{strip}</svg>
            </summary>
            {tables}
        </details>
    }
}

#[component]
fn Table(checks: Vec<CheckReport>, label: String) -> impl IntoView {
    let rows = checks
        .into_iter()
        .map(|check| view! { <CheckRow check=check/> })
        .collect_view();
    view! {
        <div class="table-frame" tabindex="0" role="region" aria-label=label>
            <table class="table">
                <thead>
                    <tr>
                        <th scope="col">"Check"</th>
                        <th scope="col">"Result"</th>
                        <th scope="col" class="right">"Max error"</th>
                        <th scope="col" class="right">"Allowed"</th>
                        <th scope="col" class="right">"Time"</th>
                    </tr>
                </thead>
                <tbody>{rows}</tbody>
            </table>
        </div>
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
        view! { <tr class="table-note"><td colspan="5"><code class="break">{error}</code></td></tr> }
    });
    view! {
        <tr>
            <th scope="row">{check.name}</th>
            <td>{result}</td>
            <td class="right number">{check.max_error.map_or_else(|| "–".to_owned(), number_text)}</td>
            <td class="right number">{number_text(check.tolerance)}</td>
            <td class="right number">{short_time_text(check.seconds)}</td>
        </tr>
        {error}
    }
}

/// Checks take micro- and milliseconds; "0.0 s" would say nothing.
fn short_time_text(seconds: f64) -> String {
    match seconds {
        ..0.000_95 => format!("{:.0} µs", seconds * 1e6),
        ..0.95 => format!("{:.1} ms", seconds * 1e3),
        _ => seconds_text(seconds),
    }
}
