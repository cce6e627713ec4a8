//! Adds a fetch's news up: bytes, rate and time left, for the terminal, the log and the page alike.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::fetch::Event;

/// The rate is that of the latest seconds.
const WINDOW: Duration = Duration::from_secs(8);
/// Between two samples.
const SAMPLE: Duration = Duration::from_millis(250);

/// Where a fetch is.
#[derive(Debug, Default)]
pub struct Tally {
    /// Every file: path, size, bytes so far.
    pub files: Vec<FileTally>,
    /// The last trouble, until bytes come again.
    pub trouble: Option<String>,
    samples: VecDeque<(Instant, u64)>,
    /// Bytes that came over the line in this run.
    received: u64,
}

/// One file of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTally {
    /// Its path.
    pub path: String,
    /// Its size, where known.
    pub size: Option<u64>,
    /// Bytes here.
    pub have: u64,
    /// Whole and checked.
    pub is_done: bool,
}

impl Tally {
    /// Takes an event in.
    pub fn hear(&mut self, event: &Event) {
        self.hear_at(event, Instant::now());
    }

    fn hear_at(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Planned { files, .. } => {
                self.files = files
                    .iter()
                    .map(|(path, size)| FileTally {
                        path: path.clone(),
                        size: *size,
                        ..FileTally::default()
                    })
                    .collect();
                self.samples.push_back((now, 0));
            }
            Event::Checking { file, have } => {
                if let Some(tally) = self.files.get_mut(*file) {
                    tally.have = *have;
                }
            }
            Event::Bytes { file, have } => {
                let Some(tally) = self.files.get_mut(*file) else {
                    return;
                };
                // A file that was checked starts where it is; one that begins again goes back.
                let more = have.saturating_sub(tally.have);
                tally.have = *have;
                if more > 0 && !tally.is_done {
                    self.received += more;
                    self.trouble = None;
                }
                self.sample(now);
            }
            Event::Retrying { file, reason, .. } | Event::Restarting { file, reason } => {
                let path = self.files.get(*file).map_or("", |file| file.path.as_str());
                self.trouble = Some(format!("{path}: {reason}"));
            }
            Event::Finished { file } => {
                if let Some(tally) = self.files.get_mut(*file) {
                    tally.is_done = true;
                    tally.size = Some(tally.have);
                }
            }
        }
    }

    fn sample(&mut self, now: Instant) {
        let due = self
            .samples
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= SAMPLE);
        if due {
            self.samples.push_back((now, self.received));
        }
        while self.samples.len() > 2
            && self
                .samples
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes here.
    pub fn have(&self) -> u64 {
        self.files.iter().map(|file| file.have).sum()
    }

    /// Bytes in all, where every size is known.
    pub fn total(&self) -> Option<u64> {
        if self.files.is_empty() {
            return None;
        }
        self.files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.size?))
    }

    /// Files that are whole.
    pub fn done(&self) -> usize {
        self.files.iter().filter(|file| file.is_done).count()
    }

    /// Bytes a second, of late; `None` before anything came.
    pub fn rate(&self) -> Option<f64> {
        self.rate_at(Instant::now())
    }

    fn rate_at(&self, now: Instant) -> Option<f64> {
        let (began, before) = self.samples.front()?;
        let seconds = now.duration_since(*began).as_secs_f64();
        let bytes = self.received - before;
        (bytes > 0 && seconds > 0.2).then(|| bytes as f64 / seconds)
    }

    /// Seconds left at this rate.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.total()?.saturating_sub(self.have());
        Some(left as f64 / self.rate()?)
    }

    /// The files that bytes come for now.
    pub fn current(&self) -> Vec<&str> {
        self.files
            .iter()
            .filter(|file| file.have > 0 && !file.is_done)
            .map(|file| file.path.as_str())
            .collect()
    }
}

/// A wait in words: "0.5 s", "12 s", "3 min 20 s", "2 h 5 min".
pub(super) fn seconds_text(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.min(1e9).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_earlier_run_count_for_the_whole_and_not_for_the_rate() {
        let mut tally = Tally::default();
        let began = Instant::now();
        let planned = Event::Planned {
            commit: "c".into(),
            files: vec![("a".into(), Some(1000)), ("b".into(), Some(3000))],
            kept: 500,
            notes: Vec::new(),
        };
        tally.hear_at(&planned, began);
        tally.hear_at(&Event::Checking { file: 0, have: 500 }, began);
        tally.hear_at(&Event::Bytes { file: 0, have: 500 }, began);
        assert_eq!((tally.have(), tally.total()), (500, Some(4000)));
        let later = began + Duration::from_secs(2);
        tally.hear_at(&Event::Bytes { file: 0, have: 900 }, later);
        let rate = tally.rate_at(later);
        assert_eq!(rate, Some(200.0));
        assert_eq!(tally.current(), ["a"]);
        let trouble = Event::Retrying {
            file: 0,
            reason: "cut".into(),
            seconds: 1.0,
        };
        tally.hear_at(&trouble, later);
        assert_eq!(tally.trouble.as_deref(), Some("a: cut"));
        tally.hear_at(
            &Event::Bytes {
                file: 0,
                have: 1000,
            },
            later,
        );
        tally.hear_at(&Event::Finished { file: 0 }, later);
        assert_eq!((tally.done(), tally.trouble.as_deref()), (1, None));
    }
}
