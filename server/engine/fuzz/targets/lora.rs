//! LoRA files.
#![no_main]

use std::path::Path;

use atelier_engine::lora::LoraFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = LoraFile::from_bytes(Path::new("fuzzed.safetensors"), bytes.to_vec()) {
        let _ = file.factors();
    }
});
