//! Small plots as plain SVG: no script, nothing for the content security policy to refuse.

use super::words::seconds_text;
use crate::gallery::PhaseTimings;
use leptos::prelude::*;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 160.0;
const LEFT: f64 = 56.0;
const PAD: f64 = 12.0;

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `value`: the top of a readable axis.
fn nice_ceiling(value: f64) -> f64 {
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

/// A line through values over time, oldest first, with an axis from zero.
#[component]
pub fn LinePlot(
    /// What is plotted, for readers who cannot see it.
    label: &'static str,
    /// The values in seconds, oldest first.
    values: Vec<f64>,
) -> impl IntoView {
    let values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
    let top = nice_ceiling(values.iter().copied().fold(0.0, f64::max));
    let steps = values.len().saturating_sub(1).max(1) as f64;
    let x = |index: usize| LEFT + (WIDTH - LEFT - PAD) * index as f64 / steps;
    let y = |value: f64| HEIGHT - PAD - (HEIGHT - 2.0 * PAD) * value / top;
    let points = values
        .iter()
        .enumerate()
        .map(|(index, value)| format!("{:.1},{:.1}", x(index), y(*value)))
        .collect::<Vec<_>>()
        .join(" ");
    let dots = values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            view! {
                <circle class="plot-dot" cx=format!("{:.1}", x(index)) cy=format!("{:.1}", y(*value)) r="3">
                    <title>{seconds_text(*value)}</title>
                </circle>
            }
        })
        .collect_view();
    let grid = [0.0, 0.5, 1.0]
        .map(|part| {
            let at = format!("{:.1}", y(part * top));
            view! {
                <line class="plot-grid" x1=LEFT.to_string() x2=(WIDTH - PAD).to_string() y1=at.clone() y2=at.clone()></line>
                <text class="plot-text" x=(LEFT - 8.0).to_string() y=at text-anchor="end" dominant-baseline="middle">
                    {format!("{} s", super::number_text(part * top))}
                </text>
            }
        })
        .collect_view();
    let latest = values.last().map_or_else(
        || format!("{label}: nothing measured yet"),
        |last| {
            format!(
                "{label}: latest {}, {} values",
                seconds_text(*last),
                values.len()
            )
        },
    );
    view! {
        <svg class="plot" viewBox=format!("0 0 {WIDTH} {HEIGHT}") role="img" aria-label=latest>
            {grid}
            <polyline class="plot-line" points=points fill="none"></polyline>
            {dots}
        </svg>
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
    let mut start = 0.0;
    let parts = phases
        .map(|(_, class, seconds)| {
            let width = if sum > 0.0 { 1000.0 * seconds.max(0.0) / sum } else { 0.0 };
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
