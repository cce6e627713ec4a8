//! `GET /metrics`: the server in Prometheus' text format, for administrators: a scraper brings an
//! administrator's API token as its bearer token.

use super::problem::Problem;
use super::viewer::Watcher;
use crate::startup::Services;
use atelier_app::admin::{DeviceState, DevicesReport, VitalPoint, VitalsReport};
use atelier_app::backend::Admin as _;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use std::fmt::Write as _;

/// Answers everything at once; costs about as much as a page.
pub(super) async fn metrics(
    State(services): State<Services>,
    Watcher(viewer): Watcher,
) -> Result<Response, Problem> {
    let devices = services.admin.devices(&viewer).await?;
    // The newest point of each device is all that is told.
    let vitals = services.admin.vitals(&viewer, 30).await?;
    let (queued, running) = services.jobs.depth().await?;
    let text = render(&devices, &vitals, queued, running);
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, text).into_response())
}

/// The lines of one metric.
struct Metric<'t> {
    text: &'t mut String,
    name: &'static str,
}

impl<'t> Metric<'t> {
    fn new(text: &'t mut String, name: &'static str, kind: &str, about: &str) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} {kind}");
        Self { text, name }
    }

    fn line(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

/// A label's value: backslash, quote and line end are escaped, as the format asks.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn render(devices: &DevicesReport, vitals: &VitalsReport, queued: u32, running: u32) -> String {
    let mut text = String::new();
    let out = &mut text;
    Metric::new(out, "atelier_info", "gauge", "The version that runs.")
        .line(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    Metric::new(
        out,
        "atelier_degraded",
        "gauge",
        "1 while a GPU is there or was asked for and images are not made on it.",
    )
    .line(&[], flag(devices.degraded));
    let mut state = Metric::new(
        out,
        "atelier_device_state",
        "gauge",
        "1 for the state that each device is in.",
    );
    for device in &devices.devices {
        for (word, of) in [
            ("in_use", DeviceState::InUse),
            ("usable", DeviceState::Usable),
            ("resting", DeviceState::Resting),
            ("not_usable", DeviceState::NotUsable),
        ] {
            let labels = [
                ("device", device.id.as_str()),
                ("name", device.name.as_str()),
                ("state", word),
            ];
            state.line(&labels, flag(device.state == of));
        }
    }
    let mut jobs = Metric::new(
        out,
        "atelier_jobs",
        "gauge",
        "Jobs that are open, by state.",
    );
    jobs.line(&[("state", "queued")], f64::from(queued));
    jobs.line(&[("state", "running")], f64::from(running));

    let mut of_devices = |name: &'static str, about: &str, of: fn(&VitalPoint) -> Option<f64>| {
        let mut metric = Metric::new(out, name, "gauge", about);
        for device in &vitals.devices {
            if let Some(value) = device.points.last().and_then(of) {
                metric.line(&[("device", &device.id)], value);
            }
        }
    };
    of_devices(
        "atelier_device_memory_used_bytes",
        "Memory in use.",
        |point| point.memory_used,
    );
    of_devices("atelier_device_load_ratio", "Load from 0 to 1.", |point| {
        point.load
    });
    of_devices(
        "atelier_device_temperature_celsius",
        "Temperature.",
        |point| point.temperature_c,
    );
    of_devices("atelier_device_power_watts", "Power.", |point| {
        point.power_w
    });
    let mut total = Metric::new(
        out,
        "atelier_device_memory_bytes",
        "gauge",
        "Memory in all; for the CPU the container's limit where there is one.",
    );
    for device in &vitals.devices {
        if let Some(bytes) = device.memory_total {
            total.line(&[("device", &device.id)], bytes as f64);
        }
    }
    let mut steps = Metric::new(
        out,
        "atelier_step_seconds",
        "gauge",
        "Seconds of one denoising step of the latest image.",
    );
    for device in &vitals.devices {
        if let Some(time) = device.step_times.last() {
            steps.line(&[("device", &device.id)], time.seconds);
        }
    }
    let mut workers = Metric::new(
        out,
        "atelier_worker_resident_bytes",
        "gauge",
        "Resident memory of each worker process, mapped weights included.",
    );
    for worker in &vitals.workers {
        workers.line(&[("device", &worker.device)], worker.resident as f64);
    }
    let mut events = Metric::new(
        out,
        "atelier_device_events",
        "gauge",
        "Events among the latest that are kept, by kind: worker_died counts restarts of workers.",
    );
    let mut kinds: Vec<(&str, &str)> = devices
        .events
        .iter()
        .map(|event| (event.device.as_str(), event.kind.as_str()))
        .collect();
    kinds.sort_unstable();
    for same in kinds.chunk_by(|a, b| a == b) {
        let (device, kind) = same[0];
        events.line(&[("device", device), ("kind", kind)], same.len() as f64);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_devices_name_cannot_break_the_format() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
