//! Load, memory, temperature and pressure of the machine, and the memory of worker processes, from
//! the files in which Linux tells them. A file that is missing or unreadable is a value that is
//! absent, never an error.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atelier_app::admin::{Pressure, WorkerMemory};

/// Processes looked at to find workers, where the kernel does not list a process' children: on a
/// machine with more, looking would cost more than it tells.
const MOST_PROCESSES: usize = 512;

/// Reads one machine, and remembers what it takes to tell a load from two readings.
pub struct Host {
    root: PathBuf,
    pid: u32,
    before: Option<(Source, CpuTime)>,
}

/// What one reading gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSample {
    /// From 0 to 1, over the cores that may be used; absent at the first reading.
    pub load: Option<f64>,
    /// Bytes.
    pub memory_used: Option<u64>,
    /// Bytes, the container's limit where there is one.
    pub memory_total: Option<u64>,
    /// Degrees Celsius.
    pub temperature_c: Option<f64>,
    /// In per cent.
    pub pressure: Option<Pressure>,
    /// By process id.
    pub workers: Vec<WorkerMemory>,
}

/// Where processor time was read: a load is told only from two readings of the same source.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Quota(PathBuf),
    Cores,
}

/// Processor time so far, in seconds or ticks; the load is the ratio of two differences.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CpuTime {
    busy: f64,
    whole: f64,
}

impl Host {
    /// `root` is `/`, or a folder that stands for it; `pid` is the process whose children are workers.
    pub fn new(root: &Path, pid: u32) -> Self {
        Self {
            root: root.to_owned(),
            pid,
            before: None,
        }
    }

    /// Reads everything; `now` is the time of a clock that only goes forward.
    pub fn sample(&mut self, now: Duration) -> HostSample {
        let meminfo = self.text("proc/meminfo");
        let machine_total = kibibytes(&meminfo, "MemTotal:");
        let machine_used = machine_total
            .zip(kibibytes(&meminfo, "MemAvailable:"))
            .map(|(total, available)| total.saturating_sub(available));
        let (memory_total, memory_used) = match self.memory_limit() {
            Some((limit, used)) if machine_total.is_none_or(|total| limit <= total) => {
                (Some(limit), used)
            }
            _ => (machine_total, machine_used),
        };
        HostSample {
            load: self.load(now),
            memory_used,
            memory_total,
            temperature_c: self.temperature(),
            pressure: self.pressure(),
            workers: self.workers(),
        }
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// The folders of this process' control groups, the innermost first, for version 2 or for a
    /// controller of version 1. Inside a container the path may be the host's, and then only the
    /// outermost folder is there.
    fn groups(&self, controller: Option<&str>) -> Vec<PathBuf> {
        let all = self.text("proc/self/cgroup");
        let own = all.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            let is_it = match controller {
                None => number == "0" && names.is_empty(),
                Some(controller) => names.split(',').any(|name| name == controller),
            };
            is_it.then(|| path.trim_start_matches('/').to_owned())
        });
        let base = match controller {
            None => self.root.join("sys/fs/cgroup"),
            Some(controller) => self.root.join("sys/fs/cgroup").join(controller),
        };
        let inner = base.join(own.unwrap_or_default());
        inner
            .ancestors()
            .take_while(|folder| folder.starts_with(&base))
            .filter(|folder| folder.is_dir())
            .map(Path::to_owned)
            .collect()
    }

    /// The tightest limit of memory, and what is used of it besides files that can be dropped.
    fn memory_limit(&self) -> Option<(u64, Option<u64>)> {
        // Version 1 writes "no limit" as a number near 2^63.
        let real = |limit: &u64| *limit < 1 << 60;
        let v2 = self.groups(None).into_iter().map(|folder| {
            let limit = number(&folder.join("memory.max")).filter(real);
            (limit, folder, "memory.current", "inactive_file")
        });
        let v1 = self.groups(Some("memory")).into_iter().map(|folder| {
            let limit = number(&folder.join("memory.limit_in_bytes")).filter(real);
            (
                limit,
                folder,
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        });
        let (limit, folder, usage, droppable) = v2
            .chain(v1)
            .filter_map(|(limit, folder, usage, droppable)| {
                Some((limit?, folder, usage, droppable))
            })
            .min_by_key(|(limit, ..)| *limit)?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let droppable = field(&stat, droppable).unwrap_or(0);
        let used = number(&folder.join(usage)).map(|used| used.saturating_sub(droppable));
        Some((limit, used))
    }

    fn load(&mut self, now: Duration) -> Option<f64> {
        let (source, time) = self.cpu_time(now)?;
        let before = self.before.replace((source.clone(), time));
        let (_, before) = before.filter(|(known, _)| *known == source)?;
        let whole = time.whole - before.whole;
        (whole > 0.0).then(|| ((time.busy - before.busy) / whole).clamp(0.0, 1.0))
    }

    /// Of the control group where it has a quota of processor time, else of the cores that this
    /// process may run on.
    fn cpu_time(&self, now: Duration) -> Option<(Source, CpuTime)> {
        self.quota_time(now).or_else(|| self.core_time())
    }

    fn quota_time(&self, now: Duration) -> Option<(Source, CpuTime)> {
        for folder in self.groups(None) {
            let quota = fs::read_to_string(folder.join("cpu.max")).unwrap_or_default();
            let mut words = quota.split_whitespace();
            let (Some(quota), Some(period)) = (words.next(), words.next()) else {
                continue;
            };
            let (Ok(quota), Ok(period)) = (quota.parse::<f64>(), period.parse::<f64>()) else {
                continue;
            };
            let stat = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
            let busy = field(&stat, "usage_usec")? as f64 * 1e-6;
            let whole = now.as_secs_f64() * quota / period;
            return Some((Source::Quota(folder), CpuTime { busy, whole }));
        }
        for folder in self.groups(Some("cpu")) {
            // Minus one where there is no quota, which is no number here.
            let Some(quota) = number(&folder.join("cpu.cfs_quota_us")) else {
                continue;
            };
            let period = number(&folder.join("cpu.cfs_period_us"))?;
            let usage = self
                .groups(Some("cpuacct"))
                .into_iter()
                .find_map(|folder| number(&folder.join("cpuacct.usage")))?;
            let cores = quota as f64 / period.max(1) as f64;
            let time = CpuTime {
                busy: usage as f64 * 1e-9,
                whole: now.as_secs_f64() * cores,
            };
            return Some((Source::Quota(folder), time));
        }
        None
    }

    fn core_time(&self) -> Option<(Source, CpuTime)> {
        let status = self.text("proc/self/status");
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .and_then(core_list);
        let stat = self.text("proc/stat");
        let mut time = CpuTime {
            busy: 0.0,
            whole: 0.0,
        };
        for line in stat.lines() {
            let mut words = line.split_whitespace();
            let Some(core) = words
                .next()
                .and_then(|word| word.strip_prefix("cpu"))
                .and_then(|core| core.parse::<usize>().ok())
            else {
                continue;
            };
            if allowed.as_ref().is_some_and(|some| !some.contains(&core)) {
                continue;
            }
            // user nice system idle iowait irq softirq steal; guests are counted in user already.
            let ticks: Vec<f64> = words.take(8).filter_map(|word| word.parse().ok()).collect();
            let whole: f64 = ticks.iter().sum();
            let idle: f64 = ticks.iter().skip(3).take(2).sum();
            time.whole += whole;
            time.busy += whole - idle;
        }
        (time.whole > 0.0).then_some((Source::Cores, time))
    }

    /// The hottest sensor of the processor.
    fn temperature(&self) -> Option<f64> {
        const CHIPS: [&str; 6] = [
            "coretemp",
            "k10temp",
            "zenpower",
            "cpu_thermal",
            "soc_thermal",
            "cpu",
        ];
        const ZONES: [&str; 4] = ["x86_pkg_temp", "cpu", "soc", "acpitz"];
        let mut of_chips: Vec<f64> = Vec::new();
        for folder in folders(&self.root.join("sys/class/hwmon")) {
            let name = fs::read_to_string(folder.join("name")).unwrap_or_default();
            if !CHIPS.contains(&name.trim()) {
                continue;
            }
            let sensors = folders(&folder).into_iter().filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with("temp") && name.ends_with("_input"))
            });
            of_chips.extend(sensors.filter_map(|path| degrees(&path)));
        }
        let hottest = |all: Vec<f64>| all.into_iter().reduce(f64::max);
        hottest(of_chips).or_else(|| {
            ZONES.iter().find_map(|kind| {
                let of_zone = folders(&self.root.join("sys/class/thermal"))
                    .into_iter()
                    .filter(|folder| {
                        let name = fs::read_to_string(folder.join("type")).unwrap_or_default();
                        name.trim().to_ascii_lowercase().starts_with(kind)
                    })
                    .filter_map(|folder| degrees(&folder.join("temp")))
                    .collect();
                hottest(of_zone)
            })
        })
    }

    fn pressure(&self) -> Option<Pressure> {
        let some = |of: &str| {
            let own = self
                .groups(None)
                .first()
                .map(|folder| folder.join(format!("{of}.pressure")))
                .and_then(|path| fs::read_to_string(path).ok())
                .filter(|text| !text.is_empty());
            let text = own.unwrap_or_else(|| self.text(&format!("proc/pressure/{of}")));
            let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
            let average = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("avg10="))?;
            average
                .parse::<f64>()
                .ok()
                .filter(|value| value.is_finite())
        };
        let pressure = Pressure {
            cpu: some("cpu"),
            memory: some("memory"),
            io: some("io"),
        };
        let has_any = pressure.cpu.or(pressure.memory).or(pressure.io).is_some();
        has_any.then_some(pressure)
    }

    fn workers(&self) -> Vec<WorkerMemory> {
        let mut workers: Vec<WorkerMemory> = self
            .children()
            .into_iter()
            .filter_map(|pid| self.worker(pid))
            .collect();
        workers.sort_by_key(|worker| worker.pid);
        workers
    }

    /// The child processes: as the kernel lists them, else found among all.
    fn children(&self) -> BTreeSet<u32> {
        let mut listed = BTreeSet::new();
        let mut can_list = false;
        for thread in folders(&self.root.join(format!("proc/{}/task", self.pid))) {
            if let Ok(text) = fs::read_to_string(thread.join("children")) {
                can_list = true;
                listed.extend(
                    text.split_whitespace()
                        .filter_map(|pid| pid.parse::<u32>().ok()),
                );
            }
        }
        if can_list {
            return listed;
        }
        let all: Vec<u32> = folders(&self.root.join("proc"))
            .iter()
            .filter_map(|folder| folder.file_name()?.to_str()?.parse().ok())
            .collect();
        if all.len() > MOST_PROCESSES {
            return listed;
        }
        let is_child = |pid: &u32| {
            let stat = self.text(&format!("proc/{pid}/stat"));
            // The name in parentheses may hold anything; state and parent follow the last one.
            let parent = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            parent == Some(self.pid)
        };
        all.into_iter().filter(is_child).collect()
    }

    fn worker(&self, pid: u32) -> Option<WorkerMemory> {
        let command = fs::read(self.root.join(format!("proc/{pid}/cmdline"))).ok()?;
        let words: Vec<String> = command
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if words.get(1).is_none_or(|word| word != "worker") {
            return None;
        }
        let device = words
            .iter()
            .position(|word| word == "--device")
            .and_then(|at| words.get(at + 1))
            .cloned()
            .unwrap_or_default();
        let status = self.text(&format!("proc/{pid}/status"));
        Some(WorkerMemory {
            pid,
            device,
            resident: kibibytes(&status, "VmRSS:")?,
            anonymous: kibibytes(&status, "RssAnon:"),
        })
    }
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `key value`, one a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// `Key:   123 kB` in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Sensors write thousandths; one that is broken writes what no processor survives.
fn degrees(path: &Path) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let thousandths: f64 = text.trim().parse().ok()?;
    let degrees = thousandths / 1000.0;
    (degrees > 0.0 && degrees < 150.0).then_some(degrees)
}

/// `0-2,5` as the cores 0, 1, 2 and 5.
fn core_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut cores = BTreeSet::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().ok()?;
        let to: usize = to.trim().parse().ok()?;
        // A list is written by the kernel; a range beyond any machine is not one.
        if to >= 1 << 16 {
            return None;
        }
        cores.extend(from..=to);
    }
    (!cores.is_empty()).then_some(cores)
}

#[cfg(test)]
mod tests;
