//! GGUF files, behind the magic number that the fuzzer need not find.
#![no_main]

use std::path::Path;

use atelier_engine::weights::WeightFiles;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = [b"GGUF", bytes].concat();
    if let Ok(files) = WeightFiles::from_bytes(Path::new("fuzzed.gguf"), bytes) {
        for (name, tensor) in files.tensors() {
            let _ = files.read(name, tensor);
            let _ = files.matrix(name, tensor);
        }
    }
});
