//! NVIDIA's driver asked directly: `libcuda.so.1` is loaded at run time and a handful of its calls
//! are made. Only ever in a child process of its own, because a broken driver may abort or hang.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr;

use libloading::{Library, Symbol};
use serde::{Deserialize, Serialize};

/// What the driver answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Driver {
    /// Neither the library nor a kernel module was found.
    Absent,
    /// The library is there or ought to be, and cannot be loaded.
    Unloadable {
        /// The loader's own words.
        words: String,
    },
    /// A call failed.
    Refused {
        /// Which, e.g. `cuInit`.
        call: String,
        /// The driver's error number.
        code: i32,
        /// E.g. `CUDA_ERROR_NO_DEVICE`.
        name: String,
        /// The driver's own words.
        words: String,
    },
    /// The process that asked it died.
    Crashed {
        /// How, e.g. "was ended by signal 11 (segmentation fault)".
        how: String,
    },
    /// It did not answer in time.
    Hung {
        /// Seconds it was given.
        seconds: u64,
    },
    /// It answers.
    Works {
        /// The newest CUDA it supports, e.g. `13.0`.
        cuda: String,
    },
}

/// A GPU as one of the sources describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its number for CUDA, where the driver gave one.
    pub index: Option<u32>,
    /// E.g. `NVIDIA GeForce RTX 5090`.
    pub name: Option<String>,
    /// Where it sits, e.g. `0000:01:00.0`.
    pub pci: Option<String>,
    /// E.g. `GPU-1234…`.
    pub uuid: Option<String>,
    /// E.g. `12.0`.
    pub compute_capability: Option<String>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes that nobody used when the probe looked.
    #[serde(default)]
    pub memory_free: Option<u64>,
    /// Of the kernel's half of the driver.
    pub driver_version: Option<String>,
}

/// What asking the driver gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverAnswer {
    /// How it went.
    pub driver: Driver,
    /// What it listed.
    pub gpus: Vec<Gpu>,
}

/// The library's name on Linux; the driver's installer makes it, not the CUDA toolkit's.
pub const LIBRARY: &str = "libcuda.so.1";

type Status = c_int;
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

/// Asks the driver. May abort or hang with it.
pub fn ask() -> DriverAnswer {
    let mut gpus = Vec::new();
    let driver = ask_into(&mut gpus).unwrap_or_else(|driver| driver);
    DriverAnswer { driver, gpus }
}

fn ask_into(gpus: &mut Vec<Gpu>) -> Result<Driver, Driver> {
    // SAFETY: loading runs the library's initialisers. It is NVIDIA's driver under its own name,
    // which every CUDA program loads likewise, and this process exists to bear what it may do.
    let library = unsafe { Library::new(LIBRARY) }.map_err(|error| Driver::Unloadable {
        words: loader_words(&error),
    })?;
    let cuda = Cuda { library: &library };

    // SAFETY, for every call below: the signatures are those of `cuda.h`, unchanged since CUDA 4
    // for these names, and every pointer is to a live local of the stated size.
    let init: Symbol<'_, unsafe extern "C" fn(c_uint) -> Status> = cuda.symbol("cuInit")?;
    cuda.check("cuInit", unsafe { init(0) })?;

    let mut version: c_int = 0;
    let get_version: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> Status> =
        cuda.symbol("cuDriverGetVersion")?;
    cuda.check("cuDriverGetVersion", unsafe { get_version(&mut version) })?;

    let mut count: c_int = 0;
    let get_count: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> Status> =
        cuda.symbol("cuDeviceGetCount")?;
    cuda.check("cuDeviceGetCount", unsafe { get_count(&mut count) })?;

    for index in 0..count {
        gpus.push(cuda.describe(index)?);
    }
    Ok(Driver::Works {
        cuda: format!("{}.{}", version / 1000, version % 1000 / 10),
    })
}

/// The loaded driver.
struct Cuda<'l> {
    library: &'l Library,
}

impl<'l> Cuda<'l> {
    fn symbol<T>(&self, name: &str) -> Result<Symbol<'l, T>, Driver> {
        // SAFETY: the caller names the type that `cuda.h` declares for this symbol.
        unsafe { self.library.get::<T>(name.as_bytes()) }.map_err(|error| Driver::Unloadable {
            words: format!("{LIBRARY} has no {name}: {}", loader_words(&error)),
        })
    }

    fn describe(&self, index: c_int) -> Result<Gpu, Driver> {
        let mut device: c_int = 0;
        let get: Symbol<'_, unsafe extern "C" fn(*mut c_int, c_int) -> Status> =
            self.symbol("cuDeviceGet")?;
        // SAFETY: see `ask_into`.
        self.check("cuDeviceGet", unsafe { get(&mut device, index) })?;

        let mut name: [c_char; 256] = [0; 256];
        let get_name: Symbol<'_, unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Status> =
            self.symbol("cuDeviceGetName")?;
        // SAFETY: see `ask_into`; one byte is kept back for the terminating NUL.
        self.check("cuDeviceGetName", unsafe {
            get_name(name.as_mut_ptr(), 255, device)
        })?;

        let attribute: Symbol<'_, unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Status> =
            self.symbol("cuDeviceGetAttribute")?;
        let read = |which: c_int| -> Result<c_int, Driver> {
            let mut value: c_int = 0;
            // SAFETY: see `ask_into`.
            self.check("cuDeviceGetAttribute", unsafe {
                attribute(&mut value, which, device)
            })?;
            Ok(value)
        };
        let major = read(COMPUTE_CAPABILITY_MAJOR)?;
        let minor = read(COMPUTE_CAPABILITY_MINOR)?;

        let mut memory: usize = 0;
        let total: Symbol<'_, unsafe extern "C" fn(*mut usize, c_int) -> Status> =
            self.symbol("cuDeviceTotalMem_v2")?;
        // SAFETY: see `ask_into`.
        self.check("cuDeviceTotalMem", unsafe { total(&mut memory, device) })?;

        Ok(Gpu {
            index: u32::try_from(index).ok(),
            name: Some(text(&name)).filter(|name| !name.is_empty()),
            pci: self.pci(device),
            uuid: self.uuid(device),
            compute_capability: Some(format!("{major}.{minor}")),
            memory: Some(memory as u64),
            // Only told inside a context, which costs hundreds of megabytes; others tell it too.
            memory_free: None,
            driver_version: None,
        })
    }

    /// Where the device sits; a driver that does not say so is none the worse.
    fn pci(&self, device: c_int) -> Option<String> {
        let get: Symbol<'_, unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Status> =
            self.symbol("cuDeviceGetPCIBusId").ok()?;
        let mut place: [c_char; 32] = [0; 32];
        // SAFETY: see `ask_into`.
        let status = unsafe { get(place.as_mut_ptr(), 31, device) };
        (status == 0).then(|| text(&place))
    }

    fn uuid(&self, device: c_int) -> Option<String> {
        let get: Symbol<'_, unsafe extern "C" fn(*mut [u8; 16], c_int) -> Status> =
            self.symbol("cuDeviceGetUuid").ok()?;
        let mut bytes = [0_u8; 16];
        // SAFETY: see `ask_into`; `CUuuid` is sixteen bytes.
        let status = unsafe { get(&mut bytes, device) };
        (status == 0).then(|| format!("GPU-{}", uuid::Uuid::from_bytes(bytes)))
    }

    fn check(&self, call: &str, status: Status) -> Result<(), Driver> {
        if status == 0 {
            return Ok(());
        }
        Err(Driver::Refused {
            call: call.into(),
            code: status,
            name: self
                .words("cuGetErrorName", status)
                .unwrap_or_else(|| format!("CUDA error {status}")),
            words: self.words("cuGetErrorString", status).unwrap_or_default(),
        })
    }

    fn words(&self, call: &str, status: Status) -> Option<String> {
        let get: Symbol<'_, unsafe extern "C" fn(Status, *mut *const c_char) -> Status> =
            self.symbol(call).ok()?;
        let mut words: *const c_char = ptr::null();
        // SAFETY: see `ask_into`.
        let answer = unsafe { get(status, &mut words) };
        if answer != 0 || words.is_null() {
            return None;
        }
        // SAFETY: a static text of the library, which is still loaded.
        let words = unsafe { CStr::from_ptr(words) };
        Some(words.to_string_lossy().into_owned())
    }
}

/// A NUL-terminated buffer as text.
fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| byte.to_ne_bytes()[0])
        .collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The loader's words in one line; libloading keeps them in its error's source.
fn loader_words(error: &libloading::Error) -> String {
    let words = std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |source| source.to_string());
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
