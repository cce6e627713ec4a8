//! Safetensors files: as one component's weights, and as a single-file checkpoint.
#![no_main]

use std::path::Path;

use atelier_engine::single_file::SingleFile;
use atelier_engine::weights::WeightFiles;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzzed.safetensors");
    if let Ok(files) = WeightFiles::from_bytes(path, bytes.to_vec()) {
        for (name, tensor) in files.tensors() {
            let _ = files.read(name, tensor);
            let _ = files.matrix(name, tensor);
        }
    }
    let _ = SingleFile::from_bytes(path, bytes.to_vec());
});
