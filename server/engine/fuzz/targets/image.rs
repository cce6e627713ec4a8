//! Images to start from, and masks.
#![no_main]

use atelier_engine::image::{read_grey, read_rgb};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_rgb("init_image", bytes);
    let _ = read_grey("mask", bytes);
});
