//! A made-up `libcuda.so.1`, compiled by the tests that load it. It does what `STUB_CUDA` says, and
//! what the file named by `STUB_CUDA_FILE` says when a process first calls it: words such as `gpus=2`,
//! `cuda=11040`, `capability=75`, `abort`.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::OnceLock;

fn words() -> &'static str {
    static WORDS: OnceLock<String> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = std::env::var("STUB_CUDA").unwrap_or_default();
        if let Ok(path) = std::env::var("STUB_CUDA_FILE") {
            words.push(' ');
            words.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
        words
    })
}

fn wanted(what: &str) -> bool {
    words().split_whitespace().any(|word| word == what)
}

fn number(key: &str, otherwise: c_int) -> c_int {
    words()
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .find(|(name, _)| *name == key)
        .map_or(otherwise, |(_, value)| value.parse().unwrap())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_: c_uint) -> c_int {
    if wanted("abort") {
        eprintln!("driver: assertion failed");
        std::process::abort()
    }
    if wanted("exit") {
        std::process::exit(1)
    }
    if wanted("hang") {
        loop {
            std::thread::park();
        }
    }
    if wanted("mismatch") { 803 } else { number("refuse", 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    unsafe { *version = number("cuda", 13000) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    unsafe { *count = number("gpus", 1) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, index: c_int) -> c_int {
    unsafe { *device = index };
    0
}

fn write(to: *mut c_char, room: c_int, text: &str) -> c_int {
    assert!(text.len() < room as usize);
    for (at, byte) in text.bytes().chain([0]).enumerate() {
        unsafe { *to.add(at) = byte as c_char }
    }
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(to: *mut c_char, room: c_int, _: c_int) -> c_int {
    write(to, room, "NVIDIA GeForce RTX 5090")
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetPCIBusId(to: *mut c_char, room: c_int, device: c_int) -> c_int {
    write(to, room, &format!("00fe:{:02x}:00.0", device + 1))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _: c_int) -> c_int {
    let capability = number("capability", 120);
    unsafe {
        *value = match attribute {
            75 => capability / 10,
            76 => capability % 10,
            _ => return 1,
        }
    };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _: c_int) -> c_int {
    unsafe { *bytes = (number("gib", 32) as usize) << 30 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> c_int {
    unsafe { *uuid = [0xab + device as u8; 16] };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(code: c_int, text: *mut *const c_char) -> c_int {
    let name = match code {
        35 => c"CUDA_ERROR_INSUFFICIENT_DRIVER",
        100 => c"CUDA_ERROR_NO_DEVICE",
        803 => c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        _ => c"CUDA_ERROR_UNKNOWN",
    };
    unsafe { *text = name.as_ptr() };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    let words = match code {
        35 => c"CUDA driver version is insufficient for CUDA runtime version",
        100 => c"no CUDA-capable device is detected",
        803 => c"system has unsupported display driver / cuda driver combination",
        _ => c"unknown error",
    };
    unsafe { *text = words.as_ptr() };
    0
}
