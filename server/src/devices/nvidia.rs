//! Which NVIDIA GPUs there are, from every place that knows of them: the PCI bus, the kernel
//! module, `nvidia-smi`, and the driver's library. The last may be missing or broken, and then the
//! others still say what stands in the machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::child::{self, Ended};
use super::driver::{Driver, DriverAnswer, Gpu};
use super::vitals::ASKED_OF_PROBE;
use super::vitals::nvml::Line;

/// Everything known about this machine's NVIDIA side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nvidia {
    /// How the driver's library answered.
    pub driver: Driver,
    /// Version of the kernel's half of the driver, where it is loaded.
    pub kernel_module: Option<String>,
    /// What drives the GPUs in the kernel instead, e.g. `nouveau` or `vfio-pci`.
    pub other_module: Option<String>,
    /// Whether `/dev/nvidiactl` is there: without it no program can reach a GPU.
    pub device_nodes: bool,
    /// Whether this process runs in a container.
    pub container: bool,
    /// The GPUs, in CUDA's order where it is known.
    pub gpus: Vec<Gpu>,
}

const SMI_LIMIT: Duration = Duration::from_secs(10);

impl Nvidia {
    /// Puts together what the machine under `root` (`/`, or a folder that stands for it) shows,
    /// what `nvidia-smi` prints, what its management library tells of GPUs that others name, and what
    /// the driver answered.
    pub fn look(
        root: &Path,
        smi: Option<&str>,
        management: Vec<Gpu>,
        answer: DriverAnswer,
    ) -> Self {
        let mut gpus = answer.gpus;
        let kernel_module = kernel_module(root);
        let (on_bus, other_module) = on_bus(root);
        for found in [
            smi.map(parse_smi).unwrap_or_default(),
            in_proc(root),
            on_bus,
        ] {
            for gpu in found {
                merge(&mut gpus, gpu);
            }
        }
        for told in management {
            if gpus.iter().any(|gpu| gpu.uuid == told.uuid) {
                merge(&mut gpus, told);
            }
        }
        for gpu in &mut gpus {
            gpu.driver_version = gpu.driver_version.take().or_else(|| kernel_module.clone());
        }
        gpus.sort_by_key(|gpu| (gpu.index.unwrap_or(u32::MAX), gpu.pci.clone()));
        let driver = match answer.driver {
            // Without a GPU and without a kernel module, a missing library is the normal case, and
            // so is one that answers CUDA_ERROR_NO_DEVICE (CUDA's container image brings it).
            Driver::Unloadable { .. } | Driver::Refused { code: 100, .. }
                if gpus.is_empty() && kernel_module.is_none() =>
            {
                Driver::Absent
            }
            driver => driver,
        };
        let container = ["run/.containerenv", ".dockerenv"]
            .iter()
            .any(|mark| root.join(mark).exists());
        Self {
            driver,
            kernel_module,
            other_module,
            device_nodes: root.join("dev/nvidiactl").exists(),
            container,
            gpus,
        }
    }
}

/// Runs `nvidia-smi` if there is one, and answers its table.
pub fn ask_smi() -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=index,name,uuid,pci.bus_id,compute_cap,memory.total,memory.free,driver_version",
        "--format=csv,noheader,nounits",
    ]);
    match child::run(&mut command, SMI_LIMIT) {
        Ended::Exited { status, stdout, .. } if status.success() => String::from_utf8(stdout).ok(),
        _ => None,
    }
}

/// Asks NVIDIA's management library, in a process of its own: `program` is this one. It tells how much
/// memory is free without the hundreds of megabytes that a CUDA context takes.
pub fn ask_management(program: &Path) -> Vec<Gpu> {
    let mut command = Command::new(program);
    command.args(["probe", "--device", ASKED_OF_PROBE]);
    match child::run_with_input(&mut command, "now\n", SMI_LIMIT) {
        Ended::Exited { stdout, .. } => parse_management(&String::from_utf8_lossy(&stdout)),
        _ => Vec::new(),
    }
}

/// The part that matters here of what [`super::vitals`] answers.
fn parse_management(text: &str) -> Vec<Gpu> {
    let lines = text.lines();
    let gpus = lines.filter_map(|line| match serde_json::from_str(line) {
        Ok(Line::Gpus(gpus)) => Some(gpus),
        Ok(Line::Absent(_)) | Err(_) => None,
    });
    let gpus = gpus.flatten();
    gpus.filter(|gpu| gpu.uuid.is_some())
        .map(|gpu| Gpu {
            memory: gpu.memory_total,
            memory_free: gpu
                .memory_total
                .zip(gpu.memory_used)
                .map(|(total, used)| total.saturating_sub(used)),
            uuid: gpu.uuid,
            ..Gpu::default()
        })
        .collect()
}

fn parse_smi(table: &str) -> Vec<Gpu> {
    table
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            let [index, name, uuid, pci, capability, total, free, driver] = cells[..] else {
                return None;
            };
            let bytes = |mebibytes: &str| mebibytes.parse::<u64>().ok()?.checked_mul(1 << 20);
            let known =
                |cell: &str| (!cell.is_empty() && !cell.starts_with('[')).then(|| cell.to_owned());
            Some(Gpu {
                index: index.parse().ok(),
                name: known(name),
                pci: known(pci),
                uuid: known(uuid),
                compute_capability: known(capability),
                memory: bytes(total),
                memory_free: bytes(free),
                driver_version: known(driver),
            })
        })
        .collect()
}

/// The kernel module's own list.
fn in_proc(root: &Path) -> Vec<Gpu> {
    let mut gpus = Vec::new();
    for folder in sorted_folders(&root.join("proc/driver/nvidia/gpus")) {
        let text = fs::read_to_string(folder.join("information")).unwrap_or_default();
        let field = |key: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let value = value.trim();
                (name.trim() == key && !value.is_empty() && !value.contains('?'))
                    .then(|| value.to_owned())
            })
        };
        gpus.push(Gpu {
            name: field("Model"),
            uuid: field("GPU UUID"),
            pci: folder
                .file_name()
                .and_then(|name| name.to_str())
                .map(str::to_owned),
            ..Gpu::default()
        });
    }
    gpus
}

/// Display controllers of NVIDIA's on the PCI bus, and which kernel module other than NVIDIA's
/// drives one of them.
fn on_bus(root: &Path) -> (Vec<Gpu>, Option<String>) {
    let mut gpus = Vec::new();
    let mut other_module = None;
    for folder in sorted_folders(&root.join("sys/bus/pci/devices")) {
        let read = |name: &str| {
            fs::read_to_string(folder.join(name))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let class = read("class");
        // 0300 is a VGA controller, 0302 a 3D controller; their sound and USB ports are others.
        if read("vendor") != "0x10de"
            || !(class.starts_with("0x0300") || class.starts_with("0x0302"))
        {
            continue;
        }
        if let Ok(module) = fs::read_link(folder.join("driver"))
            && let Some(module) = module.file_name().and_then(|name| name.to_str())
            && module != "nvidia"
        {
            other_module = Some(module.to_owned());
        }
        gpus.push(Gpu {
            pci: folder
                .file_name()
                .and_then(|name| name.to_str())
                .map(str::to_owned),
            ..Gpu::default()
        });
    }
    (gpus, other_module)
}

/// The version in `/proc/driver/nvidia/version`, e.g. `580.65.06`.
fn kernel_module(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/driver/nvidia/version")).ok()?;
    let line = text.lines().find(|line| line.starts_with("NVRM"))?;
    let is_version = |word: &&str| {
        word.contains('.')
            && word
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// Adds what a further source says of a GPU to the GPU it means, or the GPU itself.
fn merge(gpus: &mut Vec<Gpu>, other: Gpu) {
    let same = |gpu: &Gpu| match (&gpu.pci, &other.pci, &gpu.uuid, &other.uuid) {
        (Some(a), Some(b), _, _) => place(a) == place(b),
        (_, _, Some(a), Some(b)) => a == b,
        _ => gpu.index.is_some() && gpu.index == other.index,
    };
    let Some(gpu) = gpus.iter_mut().find(|gpu| same(gpu)) else {
        gpus.push(other);
        return;
    };
    gpu.index = gpu.index.or(other.index);
    gpu.name = gpu.name.take().or(other.name);
    gpu.pci = gpu.pci.take().or(other.pci);
    gpu.uuid = gpu.uuid.take().or(other.uuid);
    gpu.compute_capability = gpu.compute_capability.take().or(other.compute_capability);
    gpu.memory = gpu.memory.or(other.memory);
    gpu.memory_free = gpu.memory_free.or(other.memory_free);
    gpu.driver_version = gpu.driver_version.take().or(other.driver_version);
}

/// A PCI address in one spelling: tools write the domain with four or eight digits, in either case.
fn place(pci: &str) -> String {
    let pci = pci.to_ascii_lowercase();
    match pci.split_once(':') {
        Some((domain, rest)) => format!("{:0>4}:{rest}", domain.trim_start_matches('0')),
        None => pci,
    }
}

fn sorted_folders(parent: &Path) -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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

        fn gpu(&self, pci: &str, class: &str) -> &Self {
            self.write(&format!("sys/bus/pci/devices/{pci}/vendor"), "0x10de\n")
                .write(&format!("sys/bus/pci/devices/{pci}/class"), class)
        }

        fn look(&self, smi: Option<&str>, answer: DriverAnswer) -> Nvidia {
            Nvidia::look(self.0.path(), smi, Vec::new(), answer)
        }
    }

    fn unloadable() -> DriverAnswer {
        DriverAnswer {
            driver: Driver::Unloadable {
                words: "libcuda.so.1: cannot open shared object file".into(),
            },
            gpus: vec![],
        }
    }

    #[test]
    fn no_gpu_and_no_driver_is_the_normal_case() {
        let machine = Machine::new();
        // The sound device of a graphics card, and somebody else's GPU.
        machine.gpu("0000:01:00.1", "0x040300\n");
        machine
            .write("sys/bus/pci/devices/0000:02:00.0/vendor", "0x1002\n")
            .write("sys/bus/pci/devices/0000:02:00.0/class", "0x030000\n");
        let no_device = DriverAnswer {
            driver: Driver::Refused {
                call: "cuInit".into(),
                code: 100,
                name: "CUDA_ERROR_NO_DEVICE".into(),
                words: String::new(),
            },
            gpus: vec![],
        };
        for answer in [unloadable(), no_device] {
            let found = machine.look(None, answer);
            assert_eq!(found.driver, Driver::Absent);
            assert!(found.gpus.is_empty());
        }
    }

    #[test]
    fn a_gpu_without_its_driver_is_seen_on_the_bus() {
        let machine = Machine::new();
        machine.gpu("0000:01:00.0", "0x030000\n");
        std::os::unix::fs::symlink(
            "/sys/bus/pci/drivers/nouveau",
            machine
                .0
                .path()
                .join("sys/bus/pci/devices/0000:01:00.0/driver"),
        )
        .unwrap();
        let found = machine.look(None, unloadable());
        assert!(matches!(found.driver, Driver::Unloadable { .. }));
        assert_eq!(found.other_module.as_deref(), Some("nouveau"));
        assert_eq!(found.gpus[0].pci.as_deref(), Some("0000:01:00.0"));
    }

    #[test]
    fn every_source_adds_to_the_same_gpu() {
        let machine = Machine::new();
        machine
            .gpu("0000:01:00.0", "0x030200\n")
            .gpu("0000:02:00.0", "0x030200\n")
            .write(
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: gcc 12.2.0\n",
            )
            .write(
                "proc/driver/nvidia/gpus/0000:01:00.0/information",
                "Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 94\nGPU UUID: \t GPU-???????\nBus Location: 0000:01:00.0\n",
            );
        let smi = "1, NVIDIA H100 PCIe, GPU-b, 00000000:02:00.0, 9.0, 81559, 80000, 580.65.06\n\
                   not a row\n";
        let answer = DriverAnswer {
            driver: Driver::Works {
                cuda: "13.0".into(),
            },
            gpus: vec![Gpu {
                index: Some(0),
                name: Some("NVIDIA H100 PCIe".into()),
                pci: Some("0000:01:00.0".into()),
                compute_capability: Some("9.0".into()),
                ..Gpu::default()
            }],
        };
        let found = machine.look(Some(smi), answer);
        assert_eq!(found.gpus.len(), 2, "{:?}", found.gpus);
        assert_eq!(found.gpus[0].uuid, None, "an unknown uuid is none");
        assert_eq!(found.gpus[0].driver_version.as_deref(), Some("580.65.06"));
        assert_eq!(found.gpus[1].uuid.as_deref(), Some("GPU-b"));
        assert_eq!(found.gpus[1].memory, Some(81_559 << 20));
    }

    #[test]
    fn the_management_library_tells_how_much_memory_is_free() {
        let line = r#"{"gpus":[{"index":0,"uuid":"GPU-a","name":null,"memory_used":1024,"memory_total":4096,"load":null},
            {"index":1,"uuid":"GPU-stranger","name":null,"memory_used":0,"memory_total":1,"load":null}]}"#;
        let told = parse_management(&line.replace('\n', ""));
        let answer = DriverAnswer {
            driver: Driver::Works {
                cuda: "13.0".into(),
            },
            gpus: vec![Gpu {
                index: Some(0),
                uuid: Some("GPU-a".into()),
                pci: Some("0000:01:00.0".into()),
                ..Gpu::default()
            }],
        };
        let found = Nvidia::look(Machine::new().0.path(), None, told, answer);
        assert_eq!(found.gpus.len(), 1);
        assert_eq!(found.gpus[0].memory_free, Some(3072));
        assert!(parse_management(r#"{"absent":"no library"}"#).is_empty());
    }

    #[test]
    fn unknown_cells_of_nvidia_smi_are_not_taken_for_values() {
        let gpus =
            parse_smi("0, [N/A], GPU-a, 00000000:01:00.0, [Not Supported], [N/A], [N/A], 470.1\n");
        assert_eq!(gpus[0].name, None);
        assert_eq!(gpus[0].compute_capability, None);
        assert_eq!(gpus[0].memory, None);
        assert_eq!(place("00000000:0A:00.0"), place("0000:0a:00.0"));
        assert_ne!(place("00010000:0A:00.0"), place("0000:0a:00.0"));
    }
}
