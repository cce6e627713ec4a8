//! What the CPU is, as Linux tells it: name, cores that may be used, vector units, memory.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The processor and what of it this process may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// E.g. `AMD EPYC 7B13`.
    pub name: String,
    /// E.g. `x86_64`.
    pub architecture: String,
    /// Cores by affinity and the container's quota.
    pub cores: usize,
    /// The vector units that matter to inference, by the kernel's names.
    pub simd: Vec<String>,
    /// Bytes, the container's limit where there is one.
    pub memory_total: Option<u64>,
    /// Bytes that could be had without swapping.
    pub memory_available: Option<u64>,
}

/// Vector units worth naming, among the kernel's flags on x86 and Arm.
const SIMD: [&str; 15] = [
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "sve",
    "bf16",
];

impl Cpu {
    /// Looks at this machine. `root` is `/`, or a folder that stands for it.
    pub fn look(root: &Path) -> Self {
        let cpuinfo = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let (limit, used) = container_memory(root);
        let total = meminfo_bytes(&meminfo, "MemTotal");
        let available = meminfo_bytes(&meminfo, "MemAvailable");
        let within = |memory: Option<u64>, limit: Option<u64>| match (memory, limit) {
            (Some(memory), Some(limit)) => Some(memory.min(limit)),
            (memory, limit) => memory.or(limit),
        };
        Self {
            name: cpu_name(&cpuinfo),
            architecture: std::env::consts::ARCH.into(),
            // Counts affinity and the quota of cgroups v1 and v2.
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            simd: simd(&cpuinfo),
            memory_total: within(total, limit),
            memory_available: within(
                available,
                limit.map(|limit| limit.saturating_sub(used.unwrap_or(0))),
            ),
        }
    }

    /// `2 cores`.
    pub fn cores_in_words(&self) -> String {
        match self.cores {
            1 => "1 core".into(),
            cores => format!("{cores} cores"),
        }
    }

    /// The facts in order, for a page.
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("cores".to_owned(), self.cores.to_string()),
            ("architecture".to_owned(), self.architecture.clone()),
        ];
        if !self.simd.is_empty() {
            facts.push(("vector units".into(), self.simd.join(", ")));
        }
        if let Some(total) = self.memory_total {
            facts.push(("memory".into(), gibibytes(total)));
        }
        if let Some(available) = self.memory_available {
            facts.push(("memory available".into(), gibibytes(available)));
        }
        facts
    }
}

/// `24.0 GiB`.
pub fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The marketing name without marks and filler; Arm kernels give none.
fn cpu_name(cpuinfo: &str) -> String {
    let name = field(cpuinfo, "model name")
        .or_else(|| field(cpuinfo, "Model"))
        .or_else(|| field(cpuinfo, "Hardware"))
        .unwrap_or_default();
    let name = ["(R)", "(r)", "(TM)", "(tm)"]
        .iter()
        .fold(name.to_owned(), |name, mark| name.replace(mark, ""));
    let name = name.split(" @ ").next().unwrap_or_default();
    let words: Vec<&str> = name
        .split_whitespace()
        .filter(|word| !matches!(*word, "CPU" | "Processor"))
        .collect();
    if words.is_empty() {
        format!("{} processor", std::env::consts::ARCH)
    } else {
        words.join(" ")
    }
}

fn simd(cpuinfo: &str) -> Vec<String> {
    let flags: Vec<&str> = field(cpuinfo, "flags")
        .or_else(|| field(cpuinfo, "Features"))
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    SIMD.iter()
        .filter(|unit| flags.contains(unit))
        .map(|unit| (*unit).to_owned())
        .collect()
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let kibibytes: u64 = field(meminfo, key)?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    kibibytes.checked_mul(1024)
}

/// The container's memory (limit, use) in bytes, from cgroups v2 or v1; `max` is no limit.
fn container_memory(root: &Path) -> (Option<u64>, Option<u64>) {
    let number = |path: &str| -> Option<u64> {
        let text = fs::read_to_string(root.join(path)).ok()?;
        text.trim().parse().ok()
    };
    // Version 1 writes "no limit" as a number near 2^63.
    let real = |limit: u64| (limit < 1 << 60).then_some(limit);
    let v2 = number("sys/fs/cgroup/memory.max").and_then(real);
    if v2.is_some() {
        return (v2, number("sys/fs/cgroup/memory.current"));
    }
    let v1 = number("sys/fs/cgroup/memory/memory.limit_in_bytes").and_then(real);
    (v1, number("sys/fs/cgroup/memory/memory.usage_in_bytes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_lose_their_marks_and_clock() {
        for (written, name) in [
            (
                "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz",
                "Intel Xeon E5-2680 v4",
            ),
            ("AMD EPYC 7B13 64-Core Processor", "AMD EPYC 7B13 64-Core"),
        ] {
            assert_eq!(
                cpu_name(&format!("processor\t: 0\nmodel name\t: {written}\n")),
                name
            );
        }
        assert!(cpu_name("processor: 0\n").ends_with(" processor"));
    }

    #[test]
    fn a_container_with_less_memory_than_the_machine_is_believed() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proc/meminfo",
            "MemTotal:       25165824 kB\nMemAvailable:   20971520 kB\n",
        );
        write(
            "proc/cpuinfo",
            "model name : X\nflags : fpu avx2 amx_tile avx512f\n",
        );
        let cpu = Cpu::look(root.path());
        assert_eq!(cpu.memory_total, Some(24 << 30));
        assert_eq!(cpu.memory_available, Some(20 << 30));
        assert_eq!(cpu.simd, ["avx2", "avx512f", "amx_tile"]);
        write("sys/fs/cgroup/memory.max", "8589934592\n");
        write("sys/fs/cgroup/memory.current", "1073741824\n");
        let cpu = Cpu::look(root.path());
        assert_eq!(cpu.memory_total, Some(8 << 30));
        assert_eq!(cpu.memory_available, Some(7 << 30));
        write("sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(Cpu::look(root.path()).memory_total, Some(24 << 30));
        assert_eq!(gibibytes(24 << 30), "24.0 GiB");
    }

    #[test]
    fn this_machine_has_a_name_and_a_core() {
        let cpu = Cpu::look(Path::new("/"));
        assert!(!cpu.name.is_empty() && cpu.cores >= 1);
        assert!(cpu.memory_available.unwrap() <= cpu.memory_total.unwrap());
    }
}
