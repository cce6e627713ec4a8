//! What the process has taken of the machine, by `/proc`.

use std::fs;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

/// Memory and page faults.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// Most memory that was resident at once, mapped files included.
    pub peak_resident_gib: f64,
    /// Memory that is resident now and is no file's.
    pub anonymous_gib: f64,
    /// Most of it that was seen at once, by looking fifty times a second; in a report only.
    pub peak_anonymous_gib: f64,
    /// Page faults that needed no disk: per run in a report.
    pub page_faults: u64,
    /// Page faults that did.
    pub disk_faults: u64,
    /// Seconds of processor time, all threads together: per run in a report. Unlike the seconds of
    /// a clock it says something on a machine that others use, too.
    pub processor_s: f64,
}

impl Usage {
    /// As it stands; zeros where there is no `/proc`.
    pub fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/status"), &read("/proc/self/stat"))
    }

    /// What `/proc/self/status` and `/proc/self/stat` say.
    fn parse(status: &str, stat: &str) -> Self {
        let gib = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))
                .and_then(|number| number.trim().parse::<f64>().ok())
                .map_or(0.0, |kib| kib / f64::from(1 << 20))
        };
        // The second field is the program's name in brackets, and may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().collect())
            .unwrap_or_default();
        let field = |at: usize| {
            fields
                .get(at)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        Self {
            peak_resident_gib: gib("VmHWM:"),
            anonymous_gib: gib("RssAnon:"),
            peak_anonymous_gib: 0.0,
            // proc(5): minflt is the 10th field, majflt the 12th; two went before the bracket.
            page_faults: field(7),
            disk_faults: field(9),
            // utime and stime, in ticks of a hundredth second on every Linux.
            processor_s: (field(11) + field(12)) as f64 / 100.0,
        }
    }

    /// Faults and processor time since `before`, per run.
    pub fn since(self, before: &Self, runs: u32) -> Self {
        let runs = u64::from(runs.max(1));
        Self {
            processor_s: (self.processor_s - before.processor_s).max(0.0) / runs as f64,
            page_faults: self.page_faults.saturating_sub(before.page_faults) / runs,
            disk_faults: self.disk_faults.saturating_sub(before.disk_faults) / runs,
            ..self
        }
    }
}

/// Looks at the process' own memory until it is asked what it has seen.
pub struct Watch {
    ended: mpsc::Sender<()>,
    thread: Option<JoinHandle<f64>>,
}

impl Watch {
    /// Looks fifty times a second from now on.
    pub fn begin() -> Self {
        let (ended, end) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut most = 0.0f64;
            loop {
                most = most.max(Usage::now().anonymous_gib);
                let waited = end.recv_timeout(Duration::from_millis(20));
                if waited != Err(mpsc::RecvTimeoutError::Timeout) {
                    return most;
                }
            }
        });
        Self {
            ended,
            thread: Some(thread),
        }
    }

    /// The most memory that was no file's, in GiB.
    pub fn end(mut self) -> f64 {
        // It ends as well when this is dropped.
        let _ = self.ended.send(());
        let thread = self.thread.take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t 2097152 kB\nRssAnon:\t  524288 kB\n";
        let stat = "17 (a) b) S 1 2 3 4 5 6 700 8 90 10 811 122";
        let later = Usage::parse(status, stat);
        assert_eq!((later.peak_resident_gib, later.anonymous_gib), (2.0, 0.5));
        assert_eq!((later.page_faults, later.disk_faults), (700, 90));
        assert!((later.processor_s - 9.33).abs() < 1e-9);
        let before = Usage::parse(status, "17 (a) S 1 2 3 4 5 6 100 8 30 10 211 122");
        let per_run = later.since(&before, 3);
        assert_eq!((per_run.page_faults, per_run.disk_faults), (200, 20));
        assert!((per_run.processor_s - 2.0).abs() < 1e-9);
        assert_eq!(Usage::parse("", "").page_faults, 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_most_memory_is_seen_after_it_is_gone() {
        let watch = Watch::begin();
        let block = vec![1u8; 300 << 20];
        std::thread::sleep(Duration::from_millis(200));
        drop(block);
        assert!(watch.end() > 0.29);
    }
}
