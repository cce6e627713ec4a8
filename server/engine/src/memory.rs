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
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
