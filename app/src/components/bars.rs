//! One bar for each day, as plain SVG: no script, nothing for the content security policy to refuse.

use super::plot::nice_ceiling;
use leptos::prelude::*;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 96.0;

/// A value for each of some days, as bars from zero; the same numbers belong in a table below it.
///
/// Drawn in a box that is stretched to its place; words are outside of it.
#[component]
pub fn DayBars(
    /// What is plotted, for readers who cannot see it, e.g. "Images a day".
    label: String,
    /// One value for each day, oldest first.
    values: Vec<f64>,
    /// A value in words.
    words: fn(f64) -> String,
    /// Below the first bar.
    from: String,
    /// Below the last bar.
    to: String,
) -> impl IntoView {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let sum: f64 = values.iter().sum();
    let top = nice_ceiling(highest);
    let step = WIDTH / values.len().max(1) as f64;
    // A gap between bars as long as there is room for one.
    let width = if step > 4.0 { step * 0.8 } else { step };
    let mut bars = String::new();
    for (place, value) in values.iter().enumerate() {
        if *value <= 0.0 || !value.is_finite() {
            continue;
        }
        let x = place as f64 * step + (step - width) / 2.0;
        // What is there at all can be seen.
        let height = (HEIGHT * value / top).max(1.5);
        bars.push_str(&format!(
            "M{x:.2} {HEIGHT}v-{height:.2}h{width:.2}v{height:.2}z"
        ));
    }
    let told = if sum > 0.0 {
        format!(
            "{label}: {} in all, at most {} on one day",
            words(sum),
            words(highest)
        )
    } else {
        format!("{label}: nothing")
    };
    let grid = [0.0, 0.5, 1.0]
        .map(|part| {
            let at = format!("{:.1}", (HEIGHT - 1.0) * part + 0.5);
            view! { <line class="plot-grid" x1="0" x2=WIDTH.to_string() y1=at.clone() y2=at></line> }
        })
        .collect_view();
    view! {
        <div class="plot-frame">
            <svg class="plot plot-tall" viewBox=format!("0 0 {WIDTH} {HEIGHT}") preserveAspectRatio="none" role="img" aria-label=told>
                {grid}
                <path class="plot-bars" d=bars></path>
            </svg>
            <p class="plot-axis" aria-hidden="true">
                <span>{from}</span>
                <span class="plot-top">{words(top)}</span>
                <span>{to}</span>
            </p>
        </div>
    }
}
