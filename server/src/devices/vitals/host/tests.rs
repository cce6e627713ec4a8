//! A folder stands for `/`: every source of a value, and what happens without it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn host(&self) -> Host {
        Host::new(self.0.path(), 100)
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_machine_that_tells_nothing_is_no_error() {
    let machine = Machine::new();
    let mut host = machine.host();
    assert_eq!(host.sample(at(0)), HostSample::default());
    machine
        .write("proc/stat", "cpu0 nonsense\ncpu\n")
        .write("proc/meminfo", "MemTotal: many kB\n")
        .write("proc/self/cgroup", "nonsense\n0:\n")
        .write("proc/pressure/cpu", "some avg10=NaN\n")
        .write("proc/self/status", "Cpus_allowed_list:\t0-99999999999\n");
    assert_eq!(host.sample(at(1)), HostSample::default());
}

#[test]
fn load_is_of_the_cores_that_may_be_used() {
    let machine = Machine::new();
    machine
        .write("proc/self/status", "Cpus_allowed_list:\t0,2\n")
        .write(
            "proc/stat",
            "cpu 9 9 9 9\ncpu0 10 0 0 90 0 0 0 0 0 0\ncpu1 0 0 0 0\ncpu2 0 0 0 100 0 0 0 0\n",
        );
    let mut host = machine.host();
    assert_eq!(host.sample(at(0)).load, None, "a load takes two readings");
    // Core 0: 60 of 100 busy; core 1 is not ours; core 2 waits for a disk.
    machine.write(
        "proc/stat",
        "cpu 9 9 9 9\ncpu0 40 10 20 130 0 0 0 0 0 0\ncpu1 5000 0 0 0\ncpu2 0 0 0 150 50 0 0 0\n",
    );
    let load = host.sample(at(5)).load.unwrap();
    assert!((load - 0.3).abs() < 1e-9, "{load}");
}

#[test]
fn load_is_of_the_quota_where_there_is_one() {
    let machine = Machine::new();
    machine
        .write("proc/stat", "cpu0 0 0 0 100\n")
        .write("proc/self/cgroup", "0::/a/b\n")
        .write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
        .write("sys/fs/cgroup/a/cpu.max", "150000 100000\n")
        .write(
            "sys/fs/cgroup/a/cpu.stat",
            "usage_usec 1000000\nuser_usec 1\n",
        );
    let mut host = machine.host();
    host.sample(at(10));
    // 1.5 cores for 4 seconds are 6 seconds; 3 of them were used.
    machine.write("sys/fs/cgroup/a/cpu.stat", "usage_usec 4000000\n");
    let load = host.sample(at(14)).load.unwrap();
    assert!((load - 0.5).abs() < 1e-9, "{load}");
    // The quota goes: the next load comes from another source and needs two readings of it.
    machine.write("sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_eq!(host.sample(at(18)).load, None);
}

#[test]
fn load_is_of_the_quota_of_version_1_too() {
    let machine = Machine::new();
    machine
        .write("proc/self/cgroup", "2:cpuacct,cpu:/docker/x\n")
        .write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
        .write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
        .write("sys/fs/cgroup/cpuacct/cpuacct.usage", "0\n");
    let mut host = machine.host();
    host.sample(at(0));
    machine.write("sys/fs/cgroup/cpuacct/cpuacct.usage", "5000000000\n");
    let load = host.sample(at(10)).load.unwrap();
    assert!((load - 0.25).abs() < 1e-9, "{load}");
}

#[test]
fn memory_is_the_machines_or_what_the_container_may_have() {
    let machine = Machine::new();
    machine.write(
        "proc/meminfo",
        "MemTotal:       4000 kB\nMemFree: 1 kB\nMemAvailable:   1000 kB\n",
    );
    let mut host = machine.host();
    let memory = |sample: HostSample| (sample.memory_used, sample.memory_total);
    assert_eq!(
        memory(host.sample(at(0))),
        (Some(3000 << 10), Some(4000 << 10))
    );
    // Files that can be dropped are not used memory: mapped weights lie there.
    machine
        .write("proc/self/cgroup", "0::/pod/app\n")
        .write("sys/fs/cgroup/pod/memory.max", "2048000\n")
        .write("sys/fs/cgroup/pod/memory.current", "1024000\n")
        .write(
            "sys/fs/cgroup/pod/memory.stat",
            "anon 1\ninactive_file 24000\n",
        )
        .write("sys/fs/cgroup/pod/app/memory.max", "max\n");
    assert_eq!(
        memory(host.sample(at(1))),
        (Some(1_000_000), Some(2_048_000))
    );
    // A limit beyond the machine is none.
    machine.write("sys/fs/cgroup/pod/memory.max", "99999999999\n");
    assert_eq!(memory(host.sample(at(2))).1, Some(4000 << 10));
    // Version 1 and its word for "no limit".
    let old = Machine::new();
    old.write("proc/self/cgroup", "4:memory:/gone\n")
        .write("proc/meminfo", "MemTotal: 4000 kB\nMemAvailable: 1000 kB\n")
        .write(
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
    let mut host = old.host();
    assert_eq!(memory(host.sample(at(0))).1, Some(4000 << 10));
    old.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n")
        .write("sys/fs/cgroup/memory/memory.usage_in_bytes", "700\n")
        .write(
            "sys/fs/cgroup/memory/memory.stat",
            "total_inactive_file 200\n",
        );
    assert_eq!(memory(host.sample(at(1))), (Some(500), Some(1000)));
}

#[test]
fn temperature_is_the_hottest_sensor_of_the_processor() {
    let machine = Machine::new();
    machine
        .write("sys/class/thermal/thermal_zone0/type", "acpitz\n")
        .write("sys/class/thermal/thermal_zone0/temp", "27800\n")
        .write("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp\n")
        .write("sys/class/thermal/thermal_zone1/temp", "55000\n");
    let mut host = machine.host();
    assert_eq!(host.sample(at(0)).temperature_c, Some(55.0));
    machine
        .write("sys/class/hwmon/hwmon0/name", "nvme\n")
        .write("sys/class/hwmon/hwmon0/temp1_input", "91000\n")
        .write("sys/class/hwmon/hwmon1/name", "k10temp\n")
        .write("sys/class/hwmon/hwmon1/temp1_input", "61250\n")
        .write("sys/class/hwmon/hwmon1/temp2_input", "-273000\n")
        .write("sys/class/hwmon/hwmon1/temp1_max", "70000\n");
    assert_eq!(host.sample(at(1)).temperature_c, Some(61.25));
}

#[test]
fn pressure_is_read_where_the_kernel_tells_it() {
    let machine = Machine::new();
    machine
        .write(
            "proc/pressure/cpu",
            "some avg10=12.50 avg60=1.00 avg300=0.50 total=1\nfull avg10=0.00\n",
        )
        .write(
            "proc/pressure/memory",
            "some avg10=0.00 avg60=0 avg300=0 total=0\n",
        );
    let pressure = machine.host().sample(at(0)).pressure.unwrap();
    assert_eq!(
        (pressure.cpu, pressure.memory, pressure.io),
        (Some(12.5), Some(0.0), None)
    );
}

#[test]
fn workers_are_the_children_that_say_so() {
    let machine = Machine::new();
    machine
        .write("proc/7/stat", "7 (a) b) S 100 7 7 0\n")
        .write("proc/7/cmdline", "/srv/atelier\0worker\0--device\0cuda:1\0")
        .write("proc/7/status", "VmRSS:\t  2048 kB\nRssAnon:\t  512 kB\n")
        .write("proc/8/stat", "8 (atelier) S 100 8 8 0\n")
        .write("proc/8/cmdline", "/srv/atelier\0probe\0--json\0")
        .write("proc/9/stat", "9 (atelier) S 1 8 8 0\n")
        .write("proc/9/cmdline", "/srv/atelier\0worker\0--device\0cpu\0");
    let found = machine.host().sample(at(0)).workers;
    let worker = WorkerMemory {
        pid: 7,
        device: "cuda:1".into(),
        resident: 2048 << 10,
        anonymous: Some(512 << 10),
    };
    assert_eq!(found, std::slice::from_ref(&worker));
    // Where the kernel lists children, nobody else is looked at.
    machine
        .write("proc/100/task/100/children", "")
        .write("proc/100/task/105/children", "7 8 ");
    assert_eq!(machine.host().sample(at(0)).workers, [worker]);
    machine.write("proc/100/task/105/children", "8 ");
    assert_eq!(machine.host().sample(at(0)).workers, []);
}

#[test]
fn this_machine_is_read_and_reading_it_costs_next_to_nothing() {
    let mut host = Host::new(Path::new("/"), std::process::id());
    let began = std::time::Instant::now();
    let first = host.sample(Duration::ZERO);
    assert!(first.memory_used.unwrap() <= first.memory_total.unwrap());
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let one = std::time::Instant::now();
        let sample = host.sample(began.elapsed());
        assert!(sample.load.is_none_or(|load| (0.0..=1.0).contains(&load)));
        fastest = fastest.min(one.elapsed());
    }
    // Half a per cent of a core is 25 ms every five seconds.
    assert!(fastest < Duration::from_millis(25), "{fastest:?}");
}
