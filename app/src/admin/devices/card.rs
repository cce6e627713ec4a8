//! One device: where it stands, why, what to do, how fast it is, what it was tried with.

use super::super::{DeviceError, DeviceReport, DeviceState, MeasurementReport};
use super::Watch;
use super::checks::Checks;
use super::feel::Feel;
use crate::components::{Ago, Badge, Tone, number_text};
use leptos::form::ActionForm;
use leptos::prelude::*;

fn tone(state: DeviceState) -> Tone {
    match state {
        DeviceState::InUse => Tone::Good,
        DeviceState::Usable => Tone::Neutral,
        DeviceState::Resting => Tone::Warn,
        DeviceState::NotUsable => Tone::Bad,
    }
}

#[component]
pub(super) fn DeviceCard(device: DeviceReport, watch: Watch) -> impl IntoView {
    let title = format!("device-{}", device.id.replace(':', "-"));
    let is_gpu = device.id != "cpu";
    let facts = device
        .facts
        .into_iter()
        .map(|(name, value)| view! { <dt>{name}</dt><dd class="number">{value}</dd> })
        .collect_view();
    let remedy = device.remedy.map(|remedy| {
        view! { <p class="remedy"><strong>"What to do: "</strong>{remedy}</p> }
    });
    let rests = device.resting_until.map(|until| {
        // Until when, in words that grow shorter as the time comes.
        let left = move || {
            let seconds = (until - watch.now.get()).max(0) / 1000;
            match seconds {
                0 => "It is tested again now.".to_owned(),
                1..60 => format!("It is tested again in {seconds} s."),
                _ => format!(
                    "It is tested again in {} min.",
                    seconds.div_euclid(60).max(1)
                ),
            }
        };
        view! { <p class="quiet">{left}</p> }
    });
    // What the worker carries is known once one was asked; the facts have the capability in any case.
    let architecture = device
        .architecture
        .filter(|_| !device.built_for.is_empty())
        .map(|found| view! { <Architecture found=found built_for=device.built_for/> });
    view! {
        <article class="card device" aria-labelledby=title.clone()>
            <div class="device-head">
                <DeviceMark is_gpu=is_gpu/>
                <div class="device-name">
                    <h3 id=title.clone()>{device.name.clone()}</h3>
                    <p class="quiet small">
                        <code>{device.id.clone()}</code>
                        {device.way.map(|way| format!(" · {way}"))}
                    </p>
                </div>
                <div class="device-state">
                    <Badge tone=tone(device.state)>{device.state.words()}</Badge>
                    {(device.since > 0).then(|| view! {
                        <span class="quiet small"><Ago at=device.since now=watch.now lasts=true/></span>
                    })}
                </div>
                <TestAgain id=device.id.clone() name=device.name watch=watch/>
            </div>
            <div class="device-body">
                <div class="device-story">
                    <p class="device-reason">{device.reason}</p>
                    {rests}
                    {device.error.map(|error| view! { <Failure error=error/> })}
                    {architecture}
                    {remedy}
                    <dl class="facts facts-tight">{facts}</dl>
                </div>
                <Feel id=device.id.clone() watch=watch/>
            </div>
            <Measurements measurements=device.measurements/>
            <Checks id=device.id checks=device.checks watch=watch/>
        </article>
    }
}

/// A chip, and a card with a fan: told apart by shape.
#[component]
fn DeviceMark(is_gpu: bool) -> impl IntoView {
    let path = if is_gpu {
        "M3 5v14M3 7h17a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H3M7 17v2M11 17v2M17.5 12a3.5 3.5 0 1 1-7 0 3.5 3.5 0 0 1 7 0ZM6.5 10.5v3"
    } else {
        "M7 4.5h10A2.5 2.5 0 0 1 19.5 7v10a2.5 2.5 0 0 1-2.5 2.5H7A2.5 2.5 0 0 1 4.5 17V7A2.5 2.5 0 0 1 7 4.5ZM9 9h6v6H9ZM9 1.5v3M15 1.5v3M9 19.5v3M15 19.5v3M1.5 9h3M1.5 15h3M19.5 9h3M19.5 15h3"
    };
    view! {
        <svg class="device-mark" viewBox="0 0 24 24" aria-hidden="true">
            <path d=path fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"></path>
        </svg>
    }
}

#[component]
fn TestAgain(id: String, name: String, watch: Watch) -> impl IntoView {
    let pending = watch.test_again.pending();
    view! {
        <div class="device-again">
            <ActionForm action=watch.test_again>
                <input type="hidden" name="device" value=id/>
                <button class="button button-small" type="submit" aria-label=format!("Test again: {name}") disabled=move || pending.get()>
                    {move || if pending.get() { "Testing …" } else { "Test again" }}
                </button>
            </ActionForm>
        </div>
    }
}

/// The error by its name, what was done when it came, and the driver's own words.
#[component]
fn Failure(error: DeviceError) -> impl IntoView {
    let code = error.code.map(|code| format!(" ({code})"));
    let during = (!error.during.is_empty()).then(|| {
        view! { <span class="quiet small">"in "{error.during}</span> }
    });
    let words = (!error.words.is_empty()).then(|| {
        view! { <code class="failure-words break">{error.words}</code> }
    });
    view! {
        <div class="failure">
            <p class="failure-name"><strong>{error.name}</strong>{code}" "{during}</p>
            {words}
        </div>
    }
}

/// What the GPU is, beside what the worker was built for.
#[component]
fn Architecture(found: String, built_for: Vec<String>) -> impl IntoView {
    view! {
        <dl class="architecture">
            <div><dt>"Architecture found"</dt><dd class="number">{found}</dd></div>
            <div><dt>"Built for"</dt><dd class="number">{built_for.join(", ")}</dd></div>
        </dl>
    }
}

/// How fast it was: a row for each number format, a column for each thing measured.
#[component]
fn Measurements(measurements: Vec<MeasurementReport>) -> impl IntoView {
    if measurements.is_empty() {
        return ().into_any();
    }
    let mut columns: Vec<(String, String)> = Vec::new();
    for (name, _, unit) in measurements.iter().flat_map(|m| &m.numbers) {
        if !columns.iter().any(|(known, _)| known == name) {
            columns.push((name.clone(), unit.clone()));
        }
    }
    let rows = measurements
        .into_iter()
        .map(|measured| {
            let cells = columns
                .iter()
                .map(|(name, _)| {
                    let number = measured.numbers.iter().find(|(known, ..)| known == name);
                    let text = number.map_or_else(
                        || "–".to_owned(),
                        |(_, value, unit)| format!("{} {unit}", three_digits(*value)),
                    );
                    view! { <td class="right number">{text}</td> }
                })
                .collect_view();
            view! { <tr><th scope="row">{measured.dtype}</th>{cells}</tr> }
        })
        .collect_view();
    let heads = columns
        .iter()
        .map(|(name, _)| view! { <th scope="col" class="right">{name.clone()}</th> })
        .collect_view();
    view! {
        <div class="table-frame" tabindex="0" role="region" aria-label="Measured speed">
            <table class="table">
                <thead><tr><th scope="col">"Measured in"</th>{heads}</tr></thead>
                <tbody>{rows}</tbody>
            </table>
        </div>
    }
    .into_any()
}

/// Three digits say all that such a measurement knows: 31.2, 0.187, 1240.
fn three_digits(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return number_text(value);
    }
    // Counted on the rounded number: 9.999 is 10.0, which has two digits before the point.
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let places = 2 - rounded.abs().log10().floor() as i32;
    format!(
        "{value:.*}",
        usize::try_from(places.clamp(0, 9)).unwrap_or(0)
    )
}

#[cfg(test)]
mod tests {
    use super::three_digits;

    #[test]
    fn measured_numbers_have_three_digits() {
        for (value, text) in [
            (31.234, "31.2"),
            (0.18712, "0.187"),
            (1240.4, "1240"),
            (9.999, "10.0"),
            (999.6, "1000"),
            (0.0, "0"),
        ] {
            assert_eq!(three_digits(value), text);
        }
    }
}
