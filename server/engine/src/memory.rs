//! How much memory there is for this process: the machine's, or its container's if that is less.

use std::fs;
use std::path::Path;

/// Bytes that can be taken without pushing anything else out, files in the page cache counting as
/// free; `None` where the system does not say.
pub fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| meminfo(&text));
    [machine, container()].into_iter().flatten().min()
}

/// What computing takes beside a component's weights, at usual sizes.
const WORK: u64 = 3 << 29;

/// Whether weights of so many bytes, and the work with them, are more than what is free; if so, a
/// sentence that says it.
pub fn shortage(weights: u64, free: Option<u64>) -> Option<String> {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let free = free.filter(|&free| free < weights.saturating_add(WORK))?;
    Some(format!(
        "the memory that is free ({:.1} GiB) does not hold the weights at work ({:.1} GiB) and what they compute: they were read layer by layer, which takes longer",
        gib(free),
        gib(weights)
    ))
}

/// `MemAvailable` of `/proc/meminfo`.
fn meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What a control group's limit leaves, version 2 or 1.
fn container() -> Option<u64> {
    let folder = |root: &str, limit: &str, usage: &str, cache: &str| {
        let root = Path::new(root);
        let number = |name: &str| -> Option<u64> {
            fs::read_to_string(root.join(name))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let statistics = fs::read_to_string(root.join("memory.stat")).unwrap_or_default();
        let reclaimable = statistic(&statistics, cache).unwrap_or(0);
        // No number means no limit; version 1 says so by one beyond all memory.
        let limit = number(limit).filter(|&limit| limit < 1 << 60)?;
        let used = number(usage)?.saturating_sub(reclaimable);
        Some(limit.saturating_sub(used))
    };
    folder(
        "/sys/fs/cgroup",
        "memory.max",
        "memory.current",
        "inactive_file",
    )
    .or_else(|| {
        folder(
            "/sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        )
    })
}

fn statistic(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let text = "MemTotal:       24680000 kB\nMemAvailable:   1000 kB\n";
        assert_eq!(meminfo(text), Some(1_024_000));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
        let text = "anon 5\ninactive_file 7000\nactive_file 3\n";
        assert_eq!(statistic(text, "inactive_file"), Some(7000));
    }

    #[test]
    fn a_shortage_is_told() {
        let gib = |n: u64| n << 30;
        assert_eq!(shortage(gib(5), Some(gib(7))), None);
        assert_eq!(shortage(gib(5), None), None);
        let told = shortage(gib(5), Some(gib(4))).expect("too little");
        assert!(
            told.contains("(4.0 GiB)") && told.contains("(5.0 GiB)"),
            "{told}"
        );
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
