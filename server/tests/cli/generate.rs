//! `atelier generate`.

use super::{assert_refused, atelier, entries, text, tiny_model};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A folder to write into and the command that does.
struct Run {
    dir: tempfile::TempDir,
    command: Command,
}

impl Run {
    /// `generate` with what it cannot do without, a small size and few steps.
    fn new() -> Self {
        Self::of(&[
            "--steps", "2", "--width", "64", "--height", "64", "--seed", "5",
        ])
    }

    fn of(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = atelier();
        command
            .current_dir(dir.path())
            .arg("generate")
            .arg("--model")
            .arg(tiny_model())
            .args(arguments);
        Self { dir, command }
    }

    fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    fn output(&mut self) -> Output {
        self.command.output().unwrap()
    }

    fn refused(mut self, named: &[&str]) {
        let output = self.output();
        assert_refused(&output, named);
        assert!(
            entries(self.dir.path()).is_empty(),
            "nothing is left behind"
        );
    }
}

/// What a PNG holds: its size, its pixels, and its text chunks by keyword.
type Png = ((u32, u32), Vec<u8>, Vec<(String, String)>);

fn read_png(path: &Path) -> Png {
    let file = std::io::BufReader::new(fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(frame.color_type, png::ColorType::Rgb);
    reader.finish().unwrap();
    let info = reader.info();
    let latin1 = info
        .uncompressed_latin1_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let utf8 = info
        .utf8_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.get_text().unwrap()));
    (
        (frame.width, frame.height),
        pixels,
        latin1.chain(utf8).collect(),
    )
}

fn chunk<'a>(chunks: &'a [(String, String)], keyword: &str) -> &'a str {
    let found = chunks.iter().find(|(key, _)| key == keyword);
    &found.unwrap_or_else(|| panic!("no chunk {keyword}")).1
}

#[test]
fn an_image_its_metadata_and_the_json_agree() {
    let mut run = Run::of(&[
        "--steps", "3", "--width", "72", "--height", "48", "--seed", "7",
    ])
    .args(&[
        "--prompt",
        "a red circle, 日本",
        "--negative-prompt",
        "blurry",
        "--guidance-scale",
        "4.5",
        "--out",
        "image.png",
        "--json",
    ]);
    let output = run.output();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stderr),
        "",
        "no progress where there is no terminal"
    );
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().count(), 1);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    for (key, value) in [
        ("output", "image.png"),
        ("device", "cpu"),
        ("dtype", "f32"),
        ("model", "tiny-base"),
        ("scheduler", "Euler"),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    for (key, value) in [
        ("seed", 7),
        ("width", 72),
        ("height", 48),
        ("num_inference_steps", 3),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!(report["step_s"].as_array().unwrap().len(), 3);
    let seconds = |key: &str| report["timings"][key].as_f64().unwrap();
    let phases = ["loading_s", "text_encoding_s", "denoising_s", "decoding_s"];
    assert!(phases.iter().all(|phase| seconds(phase) > 0.0), "{report}");
    assert!(phases.iter().map(|phase| seconds(phase)).sum::<f64>() <= seconds("total_s"));

    assert_eq!(entries(run.dir.path()), ["image.png"]);
    let path = run.dir.path().join("image.png");
    assert_eq!(report["bytes"], fs::metadata(&path).unwrap().len());
    let (size, _, chunks) = read_png(&path);
    assert_eq!(size, (72, 48));
    assert_eq!(
        chunk(&chunks, "parameters"),
        format!(
            "a red circle, 日本\nNegative prompt: blurry\nSteps: 3, Sampler: Euler, Schedule type: \
             Automatic, CFG scale: 4.5, Seed: 7, Size: 72x48, Model: tiny-base, RNG: CPU, Version: \
             Atelier {}",
            env!("CARGO_PKG_VERSION")
        )
    );
    let ours: serde_json::Value = serde_json::from_str(chunk(&chunks, "atelier")).unwrap();
    assert_eq!(ours["settings"]["prompt"], "a red circle, 日本");
    assert_eq!(ours["settings"]["seed"], 7);
    assert_eq!(ours["device"], "cpu");
    assert_eq!(
        ours["timings"]["denoising_s"],
        report["timings"]["denoising_s"]
    );
}

#[test]
fn the_same_seed_is_the_same_picture_and_another_is_not() {
    let pixels = |seed: &str| {
        let mut run = Run::of(&[
            "--steps", "2", "--width", "64", "--height", "64", "--seed", seed,
        ])
        .args(&["--prompt", "a star", "--out", "o.png"]);
        let output = run.output();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(&format!("seed {seed}")));
        read_png(&run.dir.path().join("o.png")).1
    };
    let first = pixels("1");
    assert_eq!(first, pixels("1"));
    assert_ne!(first, pixels("2"));
}

#[test]
fn what_is_left_out_takes_the_models_defaults_and_a_random_seed() {
    let seed_and_size = || {
        let mut run = Run::of(&["--steps", "1", "--prompt", "x", "--out", "o.PNG", "--json"]);
        let output = run.output();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["guidance_scale"], 5.0);
        assert!(report["width"].as_u64().unwrap() >= 8);
        report["seed"].as_u64().unwrap()
    };
    assert_ne!(seed_and_size(), seed_and_size());
}

#[test]
fn more_threads_change_the_time_and_not_the_picture() {
    let pixels = |threads: &str| {
        let mut run = Run::new().args(&["--prompt", "x", "--out", "o.png", "--threads", threads]);
        assert!(run.output().status.success());
        read_png(&run.dir.path().join("o.png")).1
    };
    assert_eq!(pixels("1"), pixels("2"));
}

#[test]
fn mistakes_in_the_request_are_refused_by_name() {
    let out = ["--prompt", "x", "--out", "o.png"];
    let with = |arguments: &[&str]| Run::of(&out).args(arguments);
    with(&["--steps", "0"]).refused(&["--steps", "0"]);
    with(&["--steps", "-4"]).refused(&["--steps", "-4"]);
    with(&["--steps", "1001"]).refused(&["--steps", "1000"]);
    with(&["--steps", "many"]).refused(&["--steps", "many"]);
    with(&["--width", "65"]).refused(&["--width", "65", "64", "72"]);
    with(&["--height", "0"]).refused(&["--height", "0"]);
    with(&["--height", "1000000"]).refused(&["--height", "1000000"]);
    with(&["--guidance-scale", "NaN"]).refused(&["--guidance-scale", "NaN"]);
    with(&["--guidance-scale", "-inf"]).refused(&["--guidance-scale"]);
    with(&["--guidance-scale", "-1"]).refused(&["--guidance-scale", "-1"]);
    with(&["--seed", "-1"]).refused(&["--seed", "-1"]);
    with(&["--scheduler", "nonsense"]).refused(&["--scheduler", "nonsense"]);
    with(&["--device", "cuda:0"]).refused(&["--device", "CPU"]);
    with(&["--device", "abacus"]).refused(&["--device", "abacus"]);
    with(&["--threads", "0"]).refused(&["--threads", "0"]);
    with(&["--frobnicate"]).refused(&["--frobnicate"]);
    Run::of(&["--out", "o.png"]).refused(&["--prompt"]);
    Run::of(&["--prompt", "x"]).refused(&["--out"]);
    for empty in ["", "  \n "] {
        Run::of(&["--prompt", empty, "--out", "o.png"]).refused(&["--prompt", "empty"]);
    }
    let long = "ä".repeat(10_001);
    Run::of(&["--prompt", &long, "--out", "o.png"]).refused(&["--prompt", "10001", "10000"]);
    Run::of(&[
        "--prompt",
        "x",
        "--negative-prompt",
        &long,
        "--out",
        "o.png",
    ])
    .refused(&["--negative-prompt", "10001"]);
}

#[test]
fn ten_thousand_characters_are_a_prompt_and_what_is_cut_is_said() {
    let long = "ä ".repeat(5000);
    let mut run = Run::new().args(&["--prompt", &long, "--out", "o.png", "--json"]);
    let output = run.output();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!report["notes"].as_array().unwrap().is_empty(), "{report}");
}

#[test]
fn places_that_cannot_be_written_are_refused_before_the_work() {
    let to = |out: &str| Run::new().args(&["--prompt", "x", "--out", out]);
    to("missing/o.png").refused(&["missing", "does not exist"]);
    to("o.jpg").refused(&["o.jpg", ".png"]);
    to("o").refused(&[".png"]);
    to(".").refused(&["is a folder"]);
    to("/proc/o.png").refused(&["/proc/o.png", "cannot be written"]);

    let mut run = to("folder.png");
    fs::create_dir(run.dir.path().join("folder.png")).unwrap();
    assert_refused(&run.output(), &["folder.png", "is a folder"]);
    assert_eq!(entries(run.dir.path()), ["folder.png"]);
}

#[test]
fn an_older_image_is_replaced_by_success_and_kept_by_failure() {
    let mut run = Run::new().args(&["--prompt", "x", "--out", "o.png", "--guidance-scale", "101"]);
    let path = run.dir.path().join("o.png");
    fs::write(&path, b"older").unwrap();
    assert_refused(&run.output(), &["--guidance-scale", "101"]);
    assert_eq!(fs::read(&path).unwrap(), b"older");

    let mut command = atelier();
    let output = command
        .current_dir(run.dir.path())
        .args([
            "generate", "--steps", "1", "--prompt", "x", "--out", "o.png", "--model",
        ])
        .arg(tiny_model())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    read_png(&path);
    assert_eq!(entries(run.dir.path()), ["o.png"]);
}

#[test]
fn without_a_model_folder_the_demo_model_draws() {
    let dir = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let output = atelier()
        .current_dir(dir.path())
        .env("TMPDIR", temp.path())
        .args(["generate", "--prompt", "a red circle on a blue background"])
        .args(["--steps", "2", "--out", "o.png", "--json"])
        .output()
        .unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model/model_index.json");
    if demo.exists() {
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["model"], "demo");
        assert_eq!(read_png(&dir.path().join("o.png")).0, (128, 128));
    } else {
        // A tree from before the model was trained.
        assert_refused(&output, &["demo model", "--model"]);
    }
    assert!(
        entries(temp.path()).is_empty(),
        "the unpacked model is removed"
    );
}

/// Waits until the process has taken both signals into its own hands.
#[cfg(target_os = "linux")]
fn wait_until_it_catches(child: &mut std::process::Child, signals: &[u32]) {
    let wanted: u64 = signals.iter().map(|signal| 1 << (signal - 1)).sum();
    loop {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        if caught & wanted == wanted {
            return;
        }
        std::thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_leaves_nothing_and_says_so() {
    for (signal, number, code) in [("-INT", 2, 130), ("-TERM", 15, 143)] {
        let mut run = Run::of(&["--steps", "1000", "--width", "1024", "--height", "1024"])
            .args(&["--prompt", "x", "--out", "o.png"]);
        let mut child = run
            .command
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_it_catches(&mut child, &[2, 15]);
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "signal {number}");
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        assert!(entries(run.dir.path()).is_empty());
    }
}
