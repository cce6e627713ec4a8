//! What decides an image's pixels, as one hash: two images of the same recipe are the same image.

use crate::devices::{CpuNumbers, Way};
use crate::gallery::Facts;
use crate::models::WeightFiles;
use crate::models::fingerprint::Fingerprints;
use atelier_app::studio::Settings;
use sha2::{Digest, Sha256};
use std::io;

/// One fingerprint of all the weights.
///
/// # Errors
/// The file system's, for a file that went away.
pub fn fingerprint(files: &WeightFiles, prints: &Fingerprints) -> io::Result<String> {
    let mut all = Sha256::new();
    let loras = files.loras.iter().map(|lora| Some(&lora.path));
    let parts = [
        Some(&files.model),
        files.refiner.as_ref(),
        files.vae.as_ref(),
    ];
    for part in parts.into_iter().chain(loras) {
        match part {
            Some(path) => all.update(prints.of(path)?),
            None => all.update("none"),
        }
        all.update([0]);
    }
    Ok(hex::encode(&all.finalize()[..16]))
}

/// The kind of a device, as far as pixels depend on it: `cuda:1` computes as `cuda:0` does; each
/// number format, that of the weights too, and a VAE in tiles give other numbers.
pub fn kind(device: &str, way: Way) -> String {
    match device.split(':').next() {
        Some("cpu") | None => match way.cpu.numbers {
            CpuNumbers::Full => "cpu".into(),
            _ => format!("cpu {}", way.cpu.format()),
        },
        Some(kind) => {
            let (dtype, storage) = (way.dtype.name(), way.storage.name());
            let tiles = if way.tiled_vae { " in tiles" } else { "" };
            format!("{kind} {dtype} of {storage}{tiles}")
        }
    }
}

/// The recipe of settings with these weights on this [`kind`] of device, by this version.
pub fn recipe(settings: &Settings, fingerprint: &str, device: &str) -> Option<String> {
    let mut settings = settings.clone();
    // What a file holds counts, not under which id somebody sent it.
    for file in settings.init_image.iter_mut().chain(&mut settings.mask) {
        file.upload_id.clear();
    }
    let settings = serde_json::to_string(&settings).ok()?;
    let mut all = Sha256::new();
    for part in [settings.as_str(), fingerprint, device, Facts::VERSION] {
        all.update((part.len() as u64).to_le_bytes());
        all.update(part);
    }
    Some(hex::encode(all.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{CpuMemory, OnCpu, Precision};
    use atelier_app::studio::InputFile;

    fn way(dtype: Precision) -> Way {
        Way {
            dtype,
            storage: dtype,
            in_turn: false,
            tiled_vae: false,
            cpu: OnCpu::USUAL,
        }
    }

    #[test]
    fn everything_counts_but_ids_and_the_devices_number() {
        let settings = Settings {
            prompt: "a".into(),
            model: "demo".into(),
            init_image: Some(InputFile {
                upload_id: "one".into(),
                sha256: "ab".into(),
                width: 1,
                height: 1,
            }),
            ..Settings::default()
        };
        let base = recipe(&settings, "w", &kind("cuda:0", way(Precision::Bf16)));
        let same = |change: &dyn Fn(&mut Settings)| {
            let mut changed = settings.clone();
            change(&mut changed);
            recipe(&changed, "w", &kind("cuda:1", way(Precision::Bf16))) == base
        };
        assert!(same(
            &|s| s.init_image.as_mut().expect("there").upload_id = "two".into()
        ));
        assert!(!same(
            &|s| s.init_image.as_mut().expect("there").sha256 = "cd".into()
        ));
        assert!(!same(&|s| s.seed = 1));
        assert!(!same(&|s| s.guidance_rescale = Some(0.5)));
        let on = |way: Way| recipe(&settings, "w", &kind("cuda:0", way));
        let usual = way(Precision::Bf16);
        assert_ne!(recipe(&settings, "v", &kind("cuda:0", usual)), base);
        assert_ne!(on(way(Precision::F16)), base);
        let (storage, in_turn) = (Precision::F16, true);
        assert_ne!(on(Way { storage, ..usual }), base);
        assert_ne!(
            on(Way {
                tiled_vae: true,
                ..usual
            }),
            base
        );
        assert_eq!(on(Way { in_turn, ..usual }), base);
        assert_ne!(recipe(&settings, "w", "cpu"), base);
        let on_cpu = |numbers| {
            let cpu = OnCpu {
                numbers,
                memory: CpuMemory::Low,
            };
            kind("cpu", Way { cpu, ..usual })
        };
        assert_eq!(on_cpu(CpuNumbers::Full), "cpu");
        assert_ne!(on_cpu(CpuNumbers::Int8Weights), "cpu");
        assert_ne!(on_cpu(CpuNumbers::Int8Weights), on_cpu(CpuNumbers::W8a8));
    }
}
