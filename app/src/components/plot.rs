//! Small plots as plain SVG: no script, nothing for the content security policy to refuse.

use super::words::seconds_text;
use crate::gallery::PhaseTimings;
use leptos::prelude::*;

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 64.0;

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `value`: the top of a readable axis.
pub(super) fn nice_ceiling(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 1.0;
    }
    let magnitude = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * magnitude)
        .find(|top| *top >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * magnitude)
}

/// One plotted value: where between left (0) and right (1), and how much.
pub type PlotPoint = (f64, f64);

/// A small plot of one number over time, with an axis from zero; the number itself stands beside it.
///
/// Drawn in a box that is stretched to its place, so that no script has to measure anything; words
/// are outside of it, where stretching cannot reach them.
#[component]
pub fn Plot(
    /// What is plotted, for readers who cannot see it, e.g. "Memory over the last 5 min".
    label: String,
    /// From left to right.
    points: Vec<PlotPoint>,
    /// The top of the axis, where it is known; else a round number above every value.
    #[prop(optional_no_strip)]
    top: Option<f64>,
    /// The widest gap that a line still crosses: what was not measured is not drawn.
    #[prop(default = 1.0)]
    widest_gap: f64,
    /// A value in words.
    words: fn(f64) -> String,
    /// Below the left end, e.g. "5 min ago".
    from: String,
    /// Below the right end.
    #[prop(into, default = "now".into())]
    to: String,
) -> impl IntoView {
    let is_plottable =
        |(x, y): &PlotPoint| x.is_finite() && y.is_finite() && (0.0..=1.0).contains(x);
    let points: Vec<PlotPoint> = points.into_iter().filter(is_plottable).collect();
    let values = || points.iter().map(|(_, value)| *value);
    let highest = values().fold(0.0, f64::max);
    let top = top
        .filter(|top| *top > 0.0)
        .unwrap_or_else(|| nice_ceiling(highest));
    let x = |at: f64| WIDTH * at;
    // Half a line's width is kept free on either side, so that no value is cut.
    let y = |value: f64| HEIGHT - 1.5 - (HEIGHT - 3.0) * (value / top).clamp(0.0, 1.0);
    let mut lines = String::new();
    let mut areas = String::new();
    for part in points.chunk_by(|a, b| b.0 - a.0 <= widest_gap) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            continue;
        };
        let path: Vec<String> = part
            .iter()
            .map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value)))
            .collect();
        let path = path.join("L");
        // A line of no length is drawn as a dot by its round ends.
        lines.push_str(&format!("M{path}L{:.1} {:.1}", x(last.0), y(last.1)));
        areas.push_str(&format!(
            "M{:.1} {HEIGHT}L{path}L{:.1} {HEIGHT}Z",
            x(first.0),
            x(last.0)
        ));
    }
    let told = match points.last() {
        None => format!("{label}: nothing measured yet"),
        Some((_, last)) => {
            let lowest = values().fold(f64::INFINITY, f64::min);
            format!(
                "{label}: between {} and {}, latest {}",
                words(lowest),
                words(highest),
                words(*last)
            )
        }
    };
    let grid = [0.0, 0.5, 1.0]
        .map(|part| {
            let at = format!("{:.1}", y(part * top));
            view! { <line class="plot-grid" x1="0" x2=WIDTH.to_string() y1=at.clone() y2=at></line> }
        })
        .collect_view();
    view! {
        <div class="plot-frame">
            <svg class="plot" viewBox=format!("0 0 {WIDTH} {HEIGHT}") preserveAspectRatio="none" role="img" aria-label=told>
                {grid}
                <path class="plot-area" d=areas></path>
                <path class="plot-line" d=lines fill="none"></path>
            </svg>
            <p class="plot-axis" aria-hidden="true">
                <span>{from}</span>
                <span class="plot-top">{words(top)}</span>
                <span>{to}</span>
            </p>
        </div>
    }
}

/// How long each phase of an image took, as one stacked bar with a legend in words.
#[component]
pub fn TimingBar(
    /// The phases, in seconds.
    timings: PhaseTimings,
) -> impl IntoView {
    let phases = [
        ("Waiting", "phase-1", timings.queued_s),
        ("Loading the model", "phase-2", timings.loading_s),
        ("Reading the prompt", "phase-3", timings.text_encoding_s),
        ("Denoising", "phase-4", timings.denoising_s),
        ("Decoding", "phase-5", timings.decoding_s),
    ];
    let sum: f64 = phases.iter().map(|(_, _, s)| s.max(0.0)).sum();
    if sum <= 0.0 {
        return view! { <p class="quiet small">"How long its parts took was not written down."</p> }
            .into_any();
    }
    let mut start = 0.0;
    let parts = phases
        .map(|(_, class, seconds)| {
            let width = 1000.0 * seconds.max(0.0) / sum;
            let x = start;
            start += width;
            view! { <rect class=class x=format!("{x:.2}") y="0" width=format!("{width:.2}") height="10"></rect> }
        })
        .collect_view();
    let legend = phases
        .map(|(name, class, seconds)| {
            view! {
                <li>
                    <svg class="legend-mark" viewBox="0 0 10 10" aria-hidden="true"><rect class=class width="10" height="10" rx="2"></rect></svg>
                    <span>{name}</span>
                    <span class="number">{seconds_text(seconds)}</span>
                </li>
            }
        })
        .collect_view();
    view! {
        <div class="timing">
            <svg class="timing-bar" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">{parts}</svg>
            <ul class="legend">{legend}</ul>
        </div>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::nice_ceiling;

    #[test]
    fn the_axis_ends_on_a_round_number() {
        for (value, top) in [
            (0.0, 1.0),
            (0.13, 0.2),
            (0.2, 0.2),
            (3.1, 5.0),
            (7.0, 10.0),
            (f64::NAN, 1.0),
        ] {
            assert!((nice_ceiling(value) - top).abs() < 1e-12, "{value}");
        }
    }
}
