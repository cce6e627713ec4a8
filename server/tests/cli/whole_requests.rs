//! `atelier generate` beyond plain text to image: batches, images, masks, refiners, LoRAs.

use super::{assert_refused, atelier, entries, text, tiny_model};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("engine/tests/fixtures")
        .join(name)
}

/// A folder to write into.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `generate` with a small size, few steps and a fixed seed, unless `arguments` say otherwise.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = atelier();
        command
            .current_dir(self.0.path())
            .args(["generate", "--prompt", "a red circle", "--model"])
            .arg(tiny_model())
            .args(["--steps", "4", "--width", "64", "--height", "64"])
            .args(arguments);
        command.output().unwrap()
    }

    /// The run's JSON and the pixels of its file.
    fn image(&self, arguments: &[&str], out: &str) -> (Value, Vec<u8>) {
        let output = self.run(&[arguments, &["--seed", "5", "--json", "--out", out]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report = serde_json::from_slice(&output.stdout).unwrap();
        (report, self.pixels(out))
    }

    fn pixels(&self, name: &str) -> Vec<u8> {
        image::open(self.path(name)).unwrap().into_rgb8().into_raw()
    }

    /// What the file says of itself.
    fn record(&self, name: &str) -> Value {
        let decoder = png::Decoder::new(std::io::BufReader::new(
            fs::File::open(self.path(name)).unwrap(),
        ));
        let reader = decoder.read_info().unwrap();
        let chunks = &reader.info().uncompressed_latin1_text;
        let ours = chunks.iter().find(|chunk| chunk.keyword == "atelier");
        serde_json::from_str(&ours.unwrap().text).unwrap()
    }
}

fn as_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_batch_is_what_its_seeds_make_alone() {
    let place = Place::new();
    let output = place.run(&[
        "--seed",
        "18446744073709551615",
        "--batch",
        "2",
        "--out",
        "b.png",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = place.run(&["--seed", "0", "--out", "alone-{seed}.png"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        entries(place.0.path()),
        ["alone-0.png", "b-1.png", "b-2.png"]
    );
    assert_eq!(place.pixels("b-2.png"), place.pixels("alone-0.png"));
    assert_ne!(place.pixels("b-1.png"), place.pixels("b-2.png"));
}

#[test]
fn a_refiner_takes_over_or_works_on_what_is_there() {
    let place = Place::new();
    let refiner = fixture("pipelines/models/tiny-refiner");
    let refiner = ["--refiner", as_text(&refiner)];
    let (plain, without) = place.image(&[], "plain.png");
    assert_eq!(plain["stage_steps"], serde_json::json!([4]));
    let (report, split) = place.image(
        &[&refiner[..], &["--denoising-split", "0.5"]].concat(),
        "s.png",
    );
    assert_eq!(report["stage_steps"], serde_json::json!([2, 2]));
    assert_eq!(report["settings"]["denoising_split"], 0.5);
    let (report, after) = place.image(
        &[&refiner[..], &["--refiner-strength", "0.5"]].concat(),
        "a.png",
    );
    assert_eq!(report["stage_steps"], serde_json::json!([4, 2]));
    assert!(without != split && split != after && after != without);
    // Named alone, it gets the usual share; the file says which.
    place.image(&refiner, "usual.png");
    let settings = &place.record("usual.png")["settings"];
    assert_eq!(settings["refiner"], "tiny-refiner");
    assert_eq!(settings["denoising_split"], 0.8);
}

#[test]
fn an_image_to_start_from_and_a_mask_are_kept_to() {
    let place = Place::new();
    let white = |x: u32, _| image::Luma([if x < 32 { 255u8 } else { 0 }]);
    image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 4, y as u8 * 4, 90]))
        .save(place.path("start.webp"))
        .unwrap();
    image::GrayImage::from_fn(64, 64, white)
        .save(place.path("mask.png"))
        .unwrap();
    let start = ["--init-image", "start.webp"];
    let (report, weak) = place.image(&[&start[..], &["--strength", "0.25"]].concat(), "w.png");
    assert_eq!(report["stage_steps"], serde_json::json!([1]));
    assert_eq!(report["settings"]["init_image"]["width"], 64);
    let (_, strong) = place.image(&[&start[..], &["--strength", "1"]].concat(), "st.png");
    assert_ne!(weak, strong);
    // diffusers' defaults: 0.3 of 4 steps is 1; with a mask nearly all of them, rounded down.
    assert_eq!(place.image(&start, "d.png").0["settings"]["strength"], 0.3);
    let masked = [&start[..], &["--mask", "mask.png", "--mask-blur", "2"]].concat();
    let (report, painted) = place.image(&masked, "m.png");
    assert_eq!(report["settings"]["strength"], 0.9999);
    assert_eq!(report["settings"]["mask_blur"], 2.0);
    assert_ne!(painted, strong);
    // Where only the region is worked on, everything beyond mask and blur stays to the bit.
    let region = [&masked[..], &["--only-masked-padding", "4"]].concat();
    let (_, region) = place.image(&region, "r.png");
    let original = place.pixels("start.webp");
    let right = |pixels: &[u8]| -> Vec<u8> {
        pixels
            .chunks(64 * 3)
            .flat_map(|row| row[48 * 3..].to_vec())
            .collect()
    };
    assert_eq!(right(&region), right(&original));
    assert_ne!(region, original);
}

#[test]
fn loras_act_by_their_weight() {
    let place = Place::new();
    let file = fixture("lora/kohya.safetensors");
    let (_, without) = place.image(&[], "o.png");
    let (report, with) = place.image(&["--lora", as_text(&file)], "w.png");
    assert_ne!(with, without);
    assert_eq!(report["settings"]["loras"][0]["name"], "kohya.safetensors");
    let (_, none) = place.image(&["--lora", &format!("{}:0", as_text(&file))], "z.png");
    assert_eq!(none, without);
    // A name that says few steps brings its own, where none are given.
    let few = place.path("sdxl_lightning_2step_lora.safetensors");
    fs::copy(&file, &few).unwrap();
    let output = atelier()
        .current_dir(place.0.path())
        .args([
            "generate", "--prompt", "x", "--json", "--out", "f.png", "--model",
        ])
        .arg(tiny_model())
        .args(["--width", "64", "--height", "64", "--lora", as_text(&few)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["num_inference_steps"], 2);
    assert_eq!(report["guidance_scale"], 0.0);
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let place = Place::new();
    fs::write(place.path("cut.png"), b"\x89PNG\r\n\x1a\n\0\0").unwrap();
    fs::write(place.path("pickle.safetensors"), b"\x80\x04pickle").unwrap();
    for (arguments, named) in [
        (
            &["--init-image", "cut.png"][..],
            &["--init-image", "cut.png"][..],
        ),
        (
            &["--init-image", "none.png"],
            &["--init-image", "none.png", "does not exist"],
        ),
        (&["--mask", "cut.png"], &["--init-image"]),
        (&["--denoising-split", "0.5"], &["--refiner"]),
        (&["--refiner", "nowhere"], &["nowhere", "does not exist"]),
        (
            &["--lora", "pickle.safetensors"],
            &["pickle.safetensors", "pickle"],
        ),
        (
            &["--lora", "none.safetensors:0.5"],
            &["none.safetensors", "does not exist"],
        ),
        (&["--vae", "nowhere"], &["nowhere"]),
        (&["--batch", "0"], &["--batch"]),
        (&["--guidance-rescale", "2"], &["--guidance-rescale"]),
        (&["--clip-skip", "900"], &["--clip-skip"]),
    ] {
        let output = place.run(&[arguments, &["--out", "o.png"]].concat());
        assert_refused(&output, named);
    }
    assert_eq!(entries(place.0.path()), ["cut.png", "pickle.safetensors"]);
}
