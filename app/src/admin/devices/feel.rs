//! Memory, load, temperature, power and step times: each the number now, and how it came there.

use super::super::{DeviceVitals, LONGEST_SPAN_S, USUAL_SPAN_S, VitalPoint, VitalsReport};
use super::Watch;
use crate::components::{Plot, bytes_text, number_text, seconds_text};
use leptos::prelude::*;

/// What the plots show: minutes or an hour. Links, so that a page without wasm has both.
#[component]
pub(super) fn Spans(watch: Watch) -> impl IntoView {
    let link = move |span_s: u32, words: &'static str| {
        let is_here = move || watch.span_s.get() == span_s;
        view! {
            <a
                class="chip"
                href=format!("/admin?span={span_s}")
                aria-current=move || is_here().then_some("true")
                on:click=move |event| {
                    // The plots change; the page need not.
                    event.prevent_default();
                    event.stop_propagation();
                    watch.span_s.set(span_s);
                }
            >
                {words}
            </a>
        }
    };
    view! {
        <div class="spans">
            <nav class="row" aria-label="Time that the plots show">
                {link(USUAL_SPAN_S, "5 minutes")}
                {link(LONGEST_SPAN_S, "1 hour")}
            </nav>
            <p class="quiet small">
                {move || watch.vitals.with(|vitals| vitals.as_ref().map(|vitals| {
                    format!("Measured every {} s, renewed by itself.", number_text(vitals.every_s))
                }))}
            </p>
        </div>
    }
}

/// One device's numbers and plots.
#[component]
pub(super) fn Feel(id: String, watch: Watch) -> impl IntoView {
    let is_cpu = id == "cpu";
    let tiles = move || {
        watch.vitals.with(|vitals| {
            let vitals = vitals.as_ref()?;
            let device = vitals.of(&id)?;
            Some(view! { <Tiles device=device.clone() vitals=vitals.clone() is_cpu=is_cpu/> })
        })
    };
    view! { <div class="feel">{tiles}</div> }
}

#[component]
fn Tiles(device: DeviceVitals, vitals: VitalsReport, is_cpu: bool) -> impl IntoView {
    let span = f64::from(vitals.span_s);
    let over = match vitals.span_s {
        60.. => format!("{} min", vitals.span_s / 60),
        seconds => format!("{seconds} s"),
    };
    let widest_gap = widest_gap(&device.points, span);
    let over_time = |of: fn(&VitalPoint) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = device.points.iter();
        points
            .filter_map(|point| {
                let age = (vitals.at - point.at) as f64 / 1000.0;
                Some((1.0 - age / span, of(point)?))
            })
            .collect()
    };
    let tile = |name: &'static str,
                points: Vec<(f64, f64)>,
                top: Option<f64>,
                words: fn(f64) -> String,
                more: Option<String>| {
        let latest = points.last().map(|(_, value)| words(*value))?;
        let plot = view! {
            <Plot
                label=format!("{name} over the last {over}")
                points=points
                top=top
                widest_gap=widest_gap
                words=words
                from=format!("{over} ago")
            />
        };
        Some(view! { <Tile name=name latest=latest more=more>{plot}</Tile> })
    };
    let total = device.memory_total.map(|total| total as f64);
    let used = over_time(|point| point.memory_used);
    let share = total.zip(used.last()).map(|(total, (_, used))| {
        format!(
            "of {}, {:.0} %",
            bytes(total),
            100.0 * used / total.max(1.0)
        )
    });
    let memory = tile("Memory", used, total, bytes, share);
    let load = tile(
        "Load",
        over_time(|point| point.load),
        Some(1.0),
        per_cent,
        is_cpu.then(|| "of its cores".to_owned()),
    );
    let temperature = tile(
        "Temperature",
        over_time(|point| point.temperature_c),
        Some(100.0),
        |value| format!("{value:.0} °C"),
        None,
    );
    let power = tile(
        "Power",
        over_time(|point| point.power_w),
        None,
        |value| format!("{value:.0} W"),
        None,
    );
    let steps = device.step_times.len();
    let last = (steps.max(2) - 1) as f64;
    let times = device.step_times.iter().enumerate();
    let times: Vec<(f64, f64)> = times
        .map(|(place, t)| (place as f64 / last, t.seconds))
        .collect();
    let step_time = match times.last() {
        Some((_, latest)) => {
            let latest = step_text(*latest);
            let plot = view! {
                <Plot
                    label=format!("Time of one denoising step, the last {steps} images")
                    points=times
                    words=step_text
                    from=if steps == 1 { "one image".to_owned() } else { format!("{steps} images") }
                    to="latest"
                />
            };
            view! { <Tile name="Step time" latest=latest more=Some("for one denoising step".into())>{plot}</Tile> }.into_any()
        }
        None => view! {
            <Tile name="Step time" latest="–".to_owned() more=None>
                <p class="quiet small">"The first image made here draws the first point."</p>
            </Tile>
        }
        .into_any(),
    };
    let nothing = memory.is_none() && load.is_none();
    let problem = device.problem.clone().map(|problem| {
        view! { <p class="remedy">"Nothing can be measured: the driver says "{problem}"."</p> }
    });
    let waiting = (nothing && problem.is_none()).then(|| {
        let words = if is_cpu {
            "The first numbers come in a few seconds."
        } else {
            "Its memory, load and temperature are not read."
        };
        view! { <p class="quiet small feel-note">{words}</p> }
    });
    let pressure = vitals.pressure.filter(|_| is_cpu).map(|pressure| {
        let parts = [
            ("for a core", pressure.cpu),
            ("for memory", pressure.memory),
            ("for the disk", pressure.io),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter_map(|(what, share)| Some(format!("{what} {:.0} %", share?)))
            .collect();
        view! {
            <p class="quiet small feel-note">
                "Time that something waited, of the last ten seconds: "{parts.join(", ")}"."
            </p>
        }
    });
    let source = (!is_cpu && !vitals.gpu_source.is_empty()).then(|| {
        view! { <p class="quiet small feel-note break">"GPUs are read through "{vitals.gpu_source.clone()}</p> }
    });
    view! {
        {problem}
        {waiting}
        {memory}
        {load}
        {temperature}
        {power}
        {step_time}
        {pressure}
        {source}
    }
}

#[component]
fn Tile(
    name: &'static str,
    latest: String,
    more: Option<String>,
    children: Children,
) -> impl IntoView {
    view! {
        <div class="vital">
            <p class="vital-name">{name}</p>
            <p class="vital-value number">
                <strong>{latest}</strong>
                {more.map(|more| view! { " "<span class="quiet small">{more}</span> })}
            </p>
            {children()}
        </div>
    }
}

/// Two measurements may be missed before a line is broken: as a part of the plot's width, from how
/// often this device was measured. Some are measured rarely, and in an hour each point stands for more.
fn widest_gap(points: &[VitalPoint], span_s: f64) -> f64 {
    let mut gaps: Vec<i64> = points.windows(2).map(|two| two[1].at - two[0].at).collect();
    gaps.sort_unstable();
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    3.5 * usual as f64 / 1000.0 / span_s
}

fn bytes(value: f64) -> String {
    bytes_text(value.max(0.0) as u64)
}

fn per_cent(value: f64) -> String {
    format!("{:.0} %", 100.0 * value)
}

/// The time of a step, to three digits: what is compared between images is often that close.
fn step_text(seconds: f64) -> String {
    match seconds {
        ..0.1 => format!("{:.1} ms", 1000.0 * seconds),
        0.1..10.0 => format!("{seconds:.2} s"),
        _ => seconds_text(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_crosses_what_is_usual_and_no_hole() {
        let at = |seconds: &[i64]| -> Vec<VitalPoint> {
            let point = |second: &i64| VitalPoint {
                at: second * 1000,
                ..VitalPoint::default()
            };
            seconds.iter().map(point).collect()
        };
        // Every 30 s of 300: the next one is crossed to, one after two minutes is not.
        let gap = widest_gap(&at(&[0, 30, 60, 180, 210]), 300.0);
        assert!(gap > 30.0 / 300.0 && gap < 120.0 / 300.0, "{gap}");
        assert_eq!(widest_gap(&at(&[7]), 300.0), 0.0);
    }

    #[test]
    fn step_times_have_three_digits() {
        assert_eq!(step_text(0.0271), "27.1 ms");
        assert_eq!(step_text(1.234), "1.23 s");
        assert_eq!(step_text(75.0), "1 min 15 s");
    }
}
