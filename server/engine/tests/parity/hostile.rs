//! Damaged and hostile weight files: whatever the bytes, an answer or an error; no panic, and no
//! memory beyond a small multiple of the file. The mutations are seeded.

use std::fs;
use std::path::Path;

use atelier_engine::lora::LoraFile;
use atelier_engine::rng::TorchGenerator;
use atelier_engine::single_file::SingleFile;
use atelier_engine::weights::WeightFiles;

use crate::fixtures::{fixture, model};

/// Random whole numbers, from the engine's own noise.
struct Dice(TorchGenerator);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        let noise = self.0.randn(1)[0];
        (f64::from(noise.to_bits()) * 2_654_435_761.0 % 4_294_967_296.0) as usize % limit.max(1)
    }
}

/// Numbers that lengths, counts and offsets are replaced with.
const NUMBERS: [u64; 8] = [
    0,
    1,
    255,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

fn mutate(bytes: &[u8], header: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(header.min(bytes.len()));
        match dice.below(6) {
            0 => bytes[at] = dice.below(256) as u8,
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes.truncate(at),
            3 => {
                let number = NUMBERS[dice.below(NUMBERS.len())].to_le_bytes();
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => {
                let piece = bytes[at..(at + 64).min(bytes.len())].to_vec();
                let to = dice.below(bytes.len().max(1)).min(header);
                bytes.splice(to..to, piece);
            }
            _ => {
                let end = (at + dice.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Runs a reader over the file and many mutations of it; how many were refused.
fn attack(path: &Path, header: usize, rounds: usize, read: impl Fn(Vec<u8>) -> bool) -> usize {
    let whole = fs::read(path).expect("a file");
    let mut dice = Dice(TorchGenerator::new(20));
    (0..rounds)
        .filter(|_| !read(mutate(&whole, header, &mut dice)))
        .count()
}

/// Everything that reading a file's tensors does.
fn read_all(files: &WeightFiles) -> bool {
    files.tensors().iter().all(|(name, stored)| {
        let read = files.read(name, stored).is_ok();
        files.matrix(name, stored).is_ok() && read
    })
}

#[test]
fn safetensors() {
    let path = model("tiny-fp16").join("vae/diffusion_pytorch_model.fp16.safetensors");
    let refused = attack(&path, 4000, 3000, |bytes| {
        WeightFiles::from_bytes(Path::new("mutated"), bytes).is_ok_and(|files| read_all(&files))
    });
    assert!(refused > 1000, "{refused}");
}

#[test]
fn gguf() {
    let path = fixture("gguf/unet-q8_0.gguf");
    let refused = attack(&path, 3000, 1000, |bytes| {
        let read = WeightFiles::from_bytes(Path::new("mutated"), bytes.clone());
        let _ = SingleFile::from_bytes(Path::new("mutated"), bytes);
        read.is_ok_and(|files| read_all(&files))
    });
    assert!(refused > 300, "{refused}");
}

#[test]
fn loras() {
    for name in ["saved", "tucker", "kohya-text"] {
        let path = fixture("lora").join(format!("{name}.safetensors"));
        let refused = attack(&path, 3000, 2000, |bytes| {
            LoraFile::from_bytes(Path::new("mutated"), bytes)
                .is_ok_and(|file| file.describe().is_ok())
        });
        assert!(refused > 500, "{name}: {refused}");
    }
}

/// An axis of length 0 makes the file's size right, whatever the other lengths are.
#[test]
fn shapes_beyond_all_memory_are_refused() {
    let huge = 1u64 << 40;
    // GGUF 3: one F32 tensor `a` of 0 × 2⁴⁰ × 2⁴⁰ values at offset 0.
    let mut gguf = b"GGUF".to_vec();
    gguf.extend(3u32.to_le_bytes());
    gguf.extend([1u64, 0, 1].iter().flat_map(|number| number.to_le_bytes()));
    gguf.push(b'a');
    gguf.extend(3u32.to_le_bytes());
    gguf.extend(
        [0, huge, huge]
            .iter()
            .flat_map(|number| number.to_le_bytes()),
    );
    gguf.extend(0u32.to_le_bytes());
    gguf.extend(0u64.to_le_bytes());
    gguf.resize(gguf.len().next_multiple_of(32), 0);

    let header =
        format!(r#"{{"a":{{"dtype":"F32","shape":[0,{huge},{huge}],"data_offsets":[0,0]}}}}"#);
    let mut safetensors = (header.len() as u64).to_le_bytes().to_vec();
    safetensors.extend(header.bytes());

    for bytes in [gguf, safetensors] {
        let error = WeightFiles::from_bytes(Path::new("hostile"), bytes)
            .err()
            .expect("no tensor has such a shape")
            .to_string();
        assert!(error.contains("impossible shape"), "{error}");
    }
}
