//! What `atelier models` shows while it works: bars on a terminal, plain lines elsewhere, or one
//! JSON object a line.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::fetch::{Bytes, Event, Watch};
use super::tally::{Tally, seconds_text};

/// Between two lines of progress where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Between two progress objects.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Where news of a command go.
pub(super) struct Screen {
    kind: Kind,
    state: Mutex<State>,
}

enum Kind {
    Bars(MultiProgress),
    Plain,
    Json,
}

struct State {
    tally: Tally,
    all: Option<ProgressBar>,
    files: BTreeMap<usize, ProgressBar>,
    said_at: Instant,
}

impl Screen {
    pub(super) fn new(json: bool) -> Arc<Self> {
        let kind = if json {
            Kind::Json
        } else if std::io::stderr().is_terminal() {
            Kind::Bars(MultiProgress::new())
        } else {
            Kind::Plain
        };
        Arc::new(Self {
            kind,
            state: Mutex::new(State {
                tally: Tally::default(),
                all: None,
                files: BTreeMap::new(),
                said_at: Instant::now(),
            }),
        })
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(self.kind, Kind::Json)
    }

    /// For the fetch.
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        let screen = self.clone();
        Arc::new(move |event| screen.hear(&event))
    }

    fn hear(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tally.hear(event);
        match &self.kind {
            Kind::Bars(bars) => draw(bars, &mut state, event),
            Kind::Plain => plain(&mut state, event),
            Kind::Json => objects(&mut state, event),
        }
    }

    /// A line for people; nothing in JSON.
    pub(super) fn say(&self, line: &str) {
        match &self.kind {
            Kind::Bars(bars) => {
                let _ = bars.println(line);
            }
            Kind::Plain => eprintln!("{line}"),
            Kind::Json => {}
        }
    }

    /// An object for programs; nothing elsewhere.
    pub(super) fn tell(&self, object: &Value) {
        if self.is_json() {
            print(object);
        }
    }

    /// A bar for reading `total` bytes of something.
    pub(super) fn reading(&self, what: &str, total: u64) -> ProgressBar {
        let Kind::Bars(bars) = &self.kind else {
            return ProgressBar::hidden();
        };
        let bar = bars.add(ProgressBar::new(total));
        bar.set_style(style("{msg:32!} {bar:24} {binary_bytes:>11} of {binary_total_bytes:11} {binary_bytes_per_sec:>12}, {eta} left"));
        bar.set_message(what.to_owned());
        bar
    }

    /// Takes the bars away.
    pub(super) fn clear(&self) {
        if let Kind::Bars(bars) = &self.kind {
            let _ = bars.clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

fn draw(bars: &MultiProgress, state: &mut State, event: &Event) {
    const ONE: &str = "{msg:44!} {bar:20} {binary_bytes:>11} {binary_bytes_per_sec:>12} {eta:>5}";
    const ALL: &str = "{msg:44!} {bar:20} {binary_bytes:>11} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    match event {
        Event::Planned { files, .. } => {
            let all = bars.add(ProgressBar::new(state.tally.total().unwrap_or(0)));
            all.set_style(style(ALL));
            all.set_message(format!("0 of {} files", files.len()));
            all.enable_steady_tick(Duration::from_millis(200));
            state.all = Some(all);
        }
        Event::Checking { file, have } | Event::Bytes { file, have } => {
            let checking = matches!(event, Event::Checking { .. });
            let tally = state.tally.files.get(*file).cloned().unwrap_or_default();
            let all = state.all.clone();
            let bar = state.files.entry(*file).or_insert_with(|| {
                let bar = ProgressBar::new(tally.size.unwrap_or(0));
                let bar = match &all {
                    Some(all) => bars.insert_before(all, bar),
                    None => bars.add(bar),
                };
                bar.set_style(style(ONE));
                bar
            });
            // Bytes that were here already are not what the rate is about.
            if checking {
                bar.set_message(format!("checking {}", tally.path));
                bar.set_position(*have);
                bar.reset_eta();
            } else {
                bar.set_message(tally.path);
                bar.set_position(*have);
            }
            if let Some(all) = &all {
                all.set_length(state.tally.total().unwrap_or(0));
                all.set_position(state.tally.have());
                if checking {
                    all.reset_eta();
                }
            }
        }
        Event::Retrying { file, reason, .. } | Event::Restarting { file, reason } => {
            let path = state
                .tally
                .files
                .get(*file)
                .map_or("", |file| file.path.as_str());
            let _ = bars.println(format!("{path}: {reason}; trying again"));
        }
        Event::Finished { file } => {
            if let Some(bar) = state.files.remove(file) {
                bar.finish_and_clear();
                bars.remove(&bar);
            }
            if let Some(all) = &state.all {
                all.set_message(format!(
                    "{} of {} files",
                    state.tally.done(),
                    state.tally.files.len()
                ));
            }
        }
    }
}

fn plain(state: &mut State, event: &Event) {
    let path = |file: &usize| {
        state
            .tally
            .files
            .get(*file)
            .map_or("", |file| file.path.as_str())
            .to_owned()
    };
    match event {
        Event::Planned { files, kept, .. } => {
            let size = state
                .tally
                .total()
                .map_or_else(String::new, |total| format!(", {}", Bytes(total)));
            let kept = if *kept > 0 {
                format!("; {} are here already", Bytes(*kept))
            } else {
                String::new()
            };
            eprintln!("{} files{size}{kept}", files.len());
        }
        Event::Finished { file } => {
            let have = state.tally.files.get(*file).map_or(0, |file| file.have);
            eprintln!("{} ({})", path(file), Bytes(have));
        }
        Event::Retrying {
            file,
            reason,
            seconds,
        } => eprintln!(
            "{}: {reason}; trying again in {}",
            path(file),
            seconds_text(*seconds)
        ),
        Event::Restarting { file, reason } => {
            eprintln!("{}: {reason}; fetching it again", path(file))
        }
        Event::Bytes { .. } if state.said_at.elapsed() >= PLAIN_EVERY => {
            state.said_at = Instant::now();
            let tally = &state.tally;
            let of = tally
                .total()
                .map_or_else(String::new, |total| format!(" of {}", Bytes(total)));
            let rate = tally
                .rate()
                .map_or_else(String::new, |rate| format!(", {}/s", Bytes(rate as u64)));
            let left = tally
                .seconds_left()
                .map_or_else(String::new, |left| format!(", {} left", seconds_text(left)));
            eprintln!("{}{of}{rate}{left}", Bytes(tally.have()));
        }
        Event::Bytes { .. } | Event::Checking { .. } => {}
    }
}

fn objects(state: &mut State, event: &Event) {
    let path = |file: &usize| state.tally.files.get(*file).map(|file| file.path.clone());
    match event {
        Event::Planned {
            commit,
            files,
            kept,
            notes,
        } => {
            let files: Vec<Value> = files
                .iter()
                .map(|(path, size)| json!({ "path": path, "size": size }))
                .collect();
            print(&json!({
                "event": "planned", "commit": commit, "files": files, "bytes": state.tally.total(),
                "kept": kept, "notes": notes,
            }));
        }
        Event::Finished { file } => {
            let tally = state.tally.files.get(*file);
            print(
                &json!({ "event": "file", "path": path(file), "size": tally.map(|file| file.have) }),
            );
        }
        Event::Retrying {
            file,
            reason,
            seconds,
        } => print(
            &json!({ "event": "retry", "path": path(file), "reason": reason, "wait_s": seconds }),
        ),
        Event::Restarting { file, reason } => {
            print(&json!({ "event": "restart", "path": path(file), "reason": reason }));
        }
        Event::Bytes { .. } | Event::Checking { .. } => {
            if state.said_at.elapsed() < JSON_EVERY {
                return;
            }
            state.said_at = Instant::now();
            let tally = &state.tally;
            print(&json!({
                "event": "progress", "bytes": tally.have(), "total": tally.total(),
                "bytes_per_s": tally.rate(), "seconds_left": tally.seconds_left(),
                "files": tally.current(),
            }));
        }
    }
}

/// A closed pipe is no reason to stop a download.
fn print(object: &Value) {
    let _ = writeln!(std::io::stdout().lock(), "{object}");
}
