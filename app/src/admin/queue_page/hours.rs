//! A sketch of the last hours: how many jobs ended how in each, as bars of plain SVG.

use super::Desk;
use crate::admin::HourCount;
use leptos::prelude::*;

const HEIGHT: f64 = 64.0;
/// From one bar to the next, and how wide each is.
const STEP: f64 = 10.0;
const WIDTH: f64 = 8.0;

/// The section; nothing while nothing has ended.
#[component]
pub(super) fn Hours(desk: Desk) -> impl IntoView {
    let hours = Memo::new(move |_| desk.report.with(|report| report.hours.clone()));
    view! {
        {move || {
            let hours = hours.get();
            let sum = |of: fn(&HourCount) -> u32| hours.iter().map(of).sum::<u32>();
            let (done, failed, cancelled) = (
                sum(|hour| hour.done),
                sum(|hour| hour.failed),
                sum(|hour| hour.cancelled),
            );
            (done + failed + cancelled > 0).then(|| {
                let count = hours.len();
                let told = format!("Jobs of the last {count} hours: {done} done, {failed} failed, {cancelled} cancelled");
                view! {
                    <section aria-labelledby="queue-hours">
                        <h2 id="queue-hours">{format!("The last {count} hours")}</h2>
                        <Bars hours=hours told=told/>
                        <ul class="legend">
                            <li><svg class="legend-mark" viewBox="0 0 10 10" aria-hidden="true"><rect class="hour-done" width="10" height="10" rx="2"></rect></svg><span>"Done"</span><span class="number">{done}</span></li>
                            <li><svg class="legend-mark" viewBox="0 0 10 10" aria-hidden="true"><rect class="hour-failed" width="10" height="10" rx="2"></rect></svg><span>"Failed"</span><span class="number">{failed}</span></li>
                            <li><svg class="legend-mark" viewBox="0 0 10 10" aria-hidden="true"><rect class="hour-cancelled" width="10" height="10" rx="2"></rect></svg><span>"Cancelled"</span><span class="number">{cancelled}</span></li>
                        </ul>
                    </section>
                }
            })
        }}
    }
}

#[component]
fn Bars(hours: Vec<HourCount>, told: String) -> impl IntoView {
    let count = hours.len();
    let highest = hours
        .iter()
        .map(|hour| hour.done + hour.failed + hour.cancelled)
        .max()
        .unwrap_or(0)
        .max(1);
    let bars = hours
        .into_iter()
        .enumerate()
        .map(|(place, hour)| {
            let x = place as f64 * STEP + (STEP - WIDTH) / 2.0;
            let mut y = HEIGHT;
            [
                ("hour-done", hour.done),
                ("hour-failed", hour.failed),
                ("hour-cancelled", hour.cancelled),
            ]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(class, count)| {
                let height = HEIGHT * f64::from(count) / f64::from(highest);
                y -= height;
                view! { <rect class=class x=format!("{x:.1}") y=format!("{y:.1}") width=WIDTH.to_string() height=format!("{height:.1}")></rect> }
            })
            .collect_view()
        })
        .collect_view();
    let width = count as f64 * STEP;
    view! {
        <div class="plot-frame">
            <svg class="plot" viewBox=format!("0 0 {width} {HEIGHT}") preserveAspectRatio="none" role="img" aria-label=told>{bars}</svg>
            <p class="plot-axis" aria-hidden="true">
                <span>{format!("{count} h ago")}</span>
                <span class="plot-top">{format!("{highest} an hour at most")}</span>
                <span>"now"</span>
            </p>
        </div>
    }
}
