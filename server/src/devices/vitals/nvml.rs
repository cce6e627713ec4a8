//! NVIDIA's management library: memory, load, temperature and power of each GPU, without CUDA.
//!
//! It is loaded at run time and only ever in a process of its own (`atelier probe --device vitals`),
//! which answers a line for each line it is sent: a library that aborts or hangs costs the numbers,
//! never the server.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::ptr;

use libloading::{Library, Symbol};
use serde::{Deserialize, Serialize};

/// The library's name on Linux; it comes with the driver.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// One GPU at one moment; what the driver does not tell of it is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuVitals {
    /// Its number for the library, which need not be CUDA's.
    pub index: u32,
    /// E.g. `GPU-1234…`, by which it is told from others everywhere.
    pub uuid: Option<String>,
    /// E.g. `NVIDIA GeForce RTX 5090`.
    pub name: Option<String>,
    /// Bytes.
    pub memory_used: Option<u64>,
    /// Bytes.
    pub memory_total: Option<u64>,
    /// From 0 to 1: the part of the last moments in which something ran on it.
    pub load: Option<f64>,
    /// Degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Watts.
    pub power_w: Option<f64>,
    /// Why there are no numbers, e.g. "GPU is lost".
    pub problem: Option<String>,
}

/// One line of the process' output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Every GPU now.
    Gpus(Vec<GpuVitals>),
    /// There is no library, or it refuses; the words say why. Nothing follows.
    Absent(String),
}

/// Answers each line of standard input with one about the GPUs, until the input ends.
pub fn answer_until_closed() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let mut say = |line: &Line| {
        // Plain structures of numbers and strings always serialise.
        let text = serde_json::to_string(line).unwrap_or_default();
        writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
    };
    // SAFETY: loading runs the library's initialisers. It is NVIDIA's own, under the name by which
    // every monitoring program loads it, and this process exists to bear what it may do.
    let library = match unsafe { Library::new(LIBRARY) } {
        Ok(library) => library,
        Err(error) => {
            say(&Line::Absent(words_of(&error)));
            return ExitCode::SUCCESS;
        }
    };
    let nvml = match Nvml::open(&library) {
        Ok(nvml) => nvml,
        Err(words) => {
            say(&Line::Absent(words));
            return ExitCode::SUCCESS;
        }
    };
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        let line = match nvml.gpus() {
            Ok(gpus) => Line::Gpus(gpus),
            Err(words) => Line::Absent(words),
        };
        let is_last = matches!(line, Line::Absent(_));
        if !say(&line) || is_last {
            break;
        }
    }
    ExitCode::SUCCESS
}

type Status = c_int;
type Device = *mut c_void;

/// `NVML_TEMPERATURE_GPU`: the sensor on the chip.
const ON_CHIP: c_uint = 0;
/// `NVML_DEVICE_UUID_V2_BUFFER_SIZE` and `NVML_DEVICE_NAME_V2_BUFFER_SIZE` are 96.
const TEXT: usize = 96;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlUtilization_t`, in per cent.
#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// The calls that are made, looked up once.
struct Nvml<'l> {
    count: Symbol<'l, unsafe extern "C" fn(*mut c_uint) -> Status>,
    device: Symbol<'l, unsafe extern "C" fn(c_uint, *mut Device) -> Status>,
    uuid: Option<Symbol<'l, unsafe extern "C" fn(Device, *mut c_char, c_uint) -> Status>>,
    name: Option<Symbol<'l, unsafe extern "C" fn(Device, *mut c_char, c_uint) -> Status>>,
    memory: Option<Symbol<'l, unsafe extern "C" fn(Device, *mut Memory) -> Status>>,
    load: Option<Symbol<'l, unsafe extern "C" fn(Device, *mut Utilization) -> Status>>,
    temperature: Option<Symbol<'l, unsafe extern "C" fn(Device, c_uint, *mut c_uint) -> Status>>,
    power: Option<Symbol<'l, unsafe extern "C" fn(Device, *mut c_uint) -> Status>>,
    words: Option<Symbol<'l, unsafe extern "C" fn(Status) -> *const c_char>>,
}

impl<'l> Nvml<'l> {
    /// Looks the calls up and initialises the library.
    fn open(library: &'l Library) -> Result<Self, String> {
        fn find<'l, T>(library: &'l Library, name: &str) -> Result<Symbol<'l, T>, String> {
            // SAFETY: each type below is the one that `nvml.h` declares for the name.
            unsafe { library.get::<T>(name.as_bytes()) }
                .map_err(|error| format!("{LIBRARY} has no {name}: {}", words_of(&error)))
        }
        let nvml = Self {
            count: find(library, "nvmlDeviceGetCount_v2")?,
            device: find(library, "nvmlDeviceGetHandleByIndex_v2")?,
            uuid: find(library, "nvmlDeviceGetUUID").ok(),
            name: find(library, "nvmlDeviceGetName").ok(),
            memory: find(library, "nvmlDeviceGetMemoryInfo").ok(),
            load: find(library, "nvmlDeviceGetUtilizationRates").ok(),
            temperature: find(library, "nvmlDeviceGetTemperature").ok(),
            power: find(library, "nvmlDeviceGetPowerUsage").ok(),
            words: find(library, "nvmlErrorString").ok(),
        };
        let init: Symbol<'_, unsafe extern "C" fn() -> Status> = find(library, "nvmlInit_v2")?;
        // SAFETY, here and for every call below: the signatures are those of `nvml.h`, unchanged
        // under these names, and every pointer is to a live local of the stated size.
        let status = unsafe { init() };
        if status == 0 {
            Ok(nvml)
        } else {
            Err(format!("nvmlInit answers {}", nvml.in_words(status)))
        }
    }

    fn gpus(&self) -> Result<Vec<GpuVitals>, String> {
        let mut count: c_uint = 0;
        // SAFETY: see `open`.
        let status = unsafe { (self.count)(&mut count) };
        if status != 0 {
            return Err(format!(
                "nvmlDeviceGetCount answers {}",
                self.in_words(status)
            ));
        }
        Ok((0..count).map(|index| self.gpu(index)).collect())
    }

    fn gpu(&self, index: c_uint) -> GpuVitals {
        let mut gpu = GpuVitals {
            index,
            ..GpuVitals::default()
        };
        let mut device: Device = ptr::null_mut();
        // SAFETY: see `open`.
        let status = unsafe { (self.device)(index, &mut device) };
        if status != 0 {
            gpu.problem = Some(self.in_words(status));
            return gpu;
        }
        gpu.uuid = text(self.uuid.as_deref(), device);
        gpu.name = text(self.name.as_deref(), device);
        if let Some(call) = &self.memory {
            let mut memory = Memory::default();
            // SAFETY: see `open`.
            match unsafe { call(device, &mut memory) } {
                0 => {
                    gpu.memory_used = Some(memory.used);
                    gpu.memory_total = Some(memory.total);
                }
                status => gpu.problem = Some(self.in_words(status)),
            }
        }
        if let Some(call) = &self.load {
            let mut load = Utilization::default();
            // SAFETY: see `open`.
            if unsafe { call(device, &mut load) } == 0 {
                gpu.load = Some(f64::from(load.gpu.min(100)) / 100.0);
            }
        }
        if let Some(call) = &self.temperature {
            let mut degrees: c_uint = 0;
            // SAFETY: see `open`.
            if unsafe { call(device, ON_CHIP, &mut degrees) } == 0 {
                gpu.temperature_c = Some(f64::from(degrees));
            }
        }
        if let Some(call) = &self.power {
            let mut milliwatts: c_uint = 0;
            // SAFETY: see `open`.
            if unsafe { call(device, &mut milliwatts) } == 0 {
                gpu.power_w = Some(f64::from(milliwatts) / 1000.0);
            }
        }
        gpu
    }

    fn in_words(&self, status: Status) -> String {
        let known = self.words.as_ref().and_then(|call| {
            // SAFETY: see `open`; the answer is a static text of the library, which stays loaded.
            let words = unsafe { call(status) };
            // SAFETY: not null, and ended by a NUL as `nvml.h` says.
            (!words.is_null()).then(|| {
                unsafe { CStr::from_ptr(words) }
                    .to_string_lossy()
                    .into_owned()
            })
        });
        known.map_or_else(
            || format!("error {status}"),
            |words| format!("“{words}” ({status})"),
        )
    }
}

/// What a call writes into a buffer; `None` where it refuses.
fn text(
    call: Option<&unsafe extern "C" fn(Device, *mut c_char, c_uint) -> Status>,
    device: Device,
) -> Option<String> {
    let mut buffer: [c_char; TEXT] = [0; TEXT];
    // SAFETY: see `Nvml::open`; one byte is kept back for the terminating NUL.
    let status = unsafe { call?(device, buffer.as_mut_ptr(), TEXT as c_uint - 1) };
    let bytes = buffer.iter().take_while(|byte| **byte != 0);
    let bytes: Vec<u8> = bytes.map(|byte| byte.to_ne_bytes()[0]).collect();
    let words = String::from_utf8_lossy(&bytes).trim().to_owned();
    (status == 0 && !words.is_empty()).then_some(words)
}

/// The loader's words in one line; libloading keeps them in its error's source.
fn words_of(error: &libloading::Error) -> String {
    let words = std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |source| source.to_string());
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
