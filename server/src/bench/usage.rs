//! What the process has taken of the machine, by `/proc`.

use std::fs;

use serde::Serialize;

/// Memory and page faults.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// Most memory that was resident at once, mapped files included.
    pub peak_resident_gib: f64,
    /// Memory that is resident now and is no file's.
    pub anonymous_gib: f64,
    /// Page faults that needed no disk: per run in a report.
    pub page_faults: u64,
    /// Page faults that did.
    pub disk_faults: u64,
}

impl Usage {
    /// As it stands; zeros where there is no `/proc`.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let gib = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))
                .and_then(|number| number.trim().parse::<f64>().ok())
                .map_or(0.0, |kib| kib / f64::from(1 << 20))
        };
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
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
            // proc(5): minflt is the 10th field, majflt the 12th; two went before the bracket.
            page_faults: field(7),
            disk_faults: field(9),
        }
    }

    /// The faults since `before`, per run.
    pub fn since(self, before: &Self, runs: u32) -> Self {
        let runs = u64::from(runs.max(1));
        Self {
            page_faults: self.page_faults.saturating_sub(before.page_faults) / runs,
            disk_faults: self.disk_faults.saturating_sub(before.disk_faults) / runs,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_taken_shows() {
        let before = Usage::now();
        let taken = vec![1u8; 64 << 20];
        let after = Usage::now();
        assert!(after.peak_resident_gib >= before.anonymous_gib);
        assert!(after.anonymous_gib > before.anonymous_gib + 0.05);
        assert!(after.since(&before, 1).page_faults > 0);
        assert_eq!(taken[taken.len() / 2], 1);
    }
}
