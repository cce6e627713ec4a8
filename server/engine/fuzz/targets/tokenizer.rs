//! Prompts in every reading, and `tokenizer.json` files.
#![no_main]

use std::sync::LazyLock;

use atelier_engine::prompt;
use atelier_engine::tokenizer::{ClipTokenizer, Padding};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A folder in memory, where the system has one.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .expect("a temporary folder")
});

static EMBEDDED: LazyLock<ClipTokenizer> = LazyLock::new(|| {
    ClipTokenizer::clip(Padding::ExclamationMark).expect("the embedded vocabulary")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = EMBEDDED.encode(text);
        let _ = prompt::lora_tags(text);
    }
    std::fs::write(FOLDER.path().join("tokenizer.json"), bytes).expect("written");
    if let Ok(tokenizer) = ClipTokenizer::open(FOLDER.path()) {
        let _ = tokenizer.encode("a (red:1.3) circle");
    }
});
