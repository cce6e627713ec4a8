//! `atelier models …` through the real binary: killed, resumed, listed, checked, mended, removed.

use super::fake_hub::{COMMIT, FakeHub, LARGE, REPO, tiny};
use super::models_fetch::{Place, all_files, large};
use axum::body::Bytes;
use std::fs;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

fn atelier(place: &Place, hub: &FakeHub, words: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_atelier"));
    command
        .args(words)
        .env("ATELIER_DATA_DIR", place.dir.path())
        .env("HF_ENDPOINT", &hub.url)
        .env_remove("HF_TOKEN")
        .env_remove("ATELIER_MODELS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(place: &Place, hub: &FakeHub, words: &[&str]) -> (Output, String, String) {
    let output = atelier(place, hub, words).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_goes_on_where_it_was() {
    let hub = FakeHub::start().await;
    let place = Place::new();
    // Large enough that blocks reach the disk before the end.
    let big = Bytes::from(
        (0..6_000_000_u32)
            .map(|n| (n * 2_654_435_761) as u8)
            .collect::<Vec<u8>>(),
    );
    hub.change(|hub| {
        hub.files.insert("big.safetensors".into(), big.clone());
        hub.slow = Some((40_000, Duration::from_millis(10)));
    });
    let address = format!("{REPO}/big.safetensors");
    let part = place.models().join(".fetch/big/files/big.safetensors.part");
    for round in 1..=2_u64 {
        let mut child = atelier(&place, &hub, &["models", "fetch", &address])
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while fs::metadata(&part).map_or(0, |about| about.len()) < round * 2_000_000 {
            assert!(Instant::now() < deadline, "nothing comes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().await.unwrap(); // SIGKILL
    }
    let (_, out, _) = run(&place, &hub, &["models", "list"]).await;
    assert!(
        out.contains("big (unfinished)") && out.contains("big.safetensors --name big"),
        "{out}"
    );
    hub.change(|hub| hub.slow = None);
    let (_, out, err) = run(&place, &hub, &["models", "fetch", &address]).await;
    let installed = place.models().join("big/big.safetensors");
    assert!(fs::read(&installed).unwrap() == big, "{out}{err}");
    let ranges: Vec<u64> = hub
        .asked()
        .iter()
        .filter_map(|asked| {
            asked
                .range
                .as_deref()?
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(
        ranges[0] >= 2_000_000 && ranges[1] >= 4_000_000,
        "{ranges:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_fetches_lists_checks_mends_and_removes() {
    let hub = FakeHub::start().await;
    let place = Place::new();
    let (output, out, err) = run(&place, &hub, &["models", "fetch", REPO, "--json"]).await;
    assert!(output.status.success(), "{out}{err}");
    let events: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["event"], "planned");
    assert_eq!(events[0]["commit"], COMMIT);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["name"]),
        (&"installed".into(), &"tiny-sdxl".into())
    );
    assert!(last["problem"].is_null(), "{last}");
    place.is_whole();

    // A model that was fetched makes an image.
    let (png, model) = (place.dir.path().join("o.png"), place.target());
    let words = [
        "generate",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        "a red circle",
        "--steps",
        "2",
        "--width",
        "64",
        "--height",
        "64",
        "--out",
        png.to_str().unwrap(),
    ];
    let (output, _, err) = run(&place, &hub, &words).await;
    assert!(output.status.success() && png.is_file(), "{err}");

    let (_, out, _) = run(&place, &hub, &["models", "list"]).await;
    assert!(
        out.contains("tiny-sdxl") && out.contains("verified on") && out.contains(REPO),
        "{out}"
    );
    let broken = place.models().join("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("model_index.json"), "{").unwrap();
    let (_, out, _) = run(&place, &hub, &["models", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    let of = |name: &str| {
        let models = listed["models"].as_array().unwrap();
        models
            .iter()
            .find(|model| model["name"] == name)
            .unwrap()
            .clone()
    };
    assert!(
        of("broken")["problem"]
            .as_str()
            .unwrap()
            .contains("model_index.json")
    );
    assert_eq!(of("tiny-sdxl")["commit"], COMMIT);
    assert_eq!(of("tiny-sdxl")["dtype"], "f32");
    assert!(of("tiny-sdxl")["default_steps"].as_u64().unwrap() > 0);
    fs::remove_dir_all(&broken).unwrap();

    // One bit anywhere is found, named, and mended.
    let unet = place.target().join(LARGE);
    let mut bytes = fs::read(&unet).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&unet, &bytes).unwrap();
    let (output, out, _) = run(&place, &hub, &["models", "verify", "tiny-sdxl"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains(LARGE) && out.contains("--repair"), "{out}");
    let (output, out, err) = run(&place, &hub, &["models", "verify", "--repair"]).await;
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(
        hub.served(LARGE),
        2 * large(),
        "only the damaged file came again"
    );
    let (output, out, _) = run(&place, &hub, &["models", "verify", "--json"]).await;
    assert!(
        output.status.success() && out.contains("\"ok\":true"),
        "{out}"
    );

    let (output, out, _) = run(&place, &hub, &["models", "remove", "tiny-sdxl"]).await;
    assert!(output.status.success() && out.contains("removed"), "{out}");
    assert!(!place.target().exists());
    let (output, _, err) = run(&place, &hub, &["models", "remove", "tiny-sdxl"]).await;
    assert_eq!(
        (output.status.code(), err.lines().count()),
        (Some(1), 1),
        "{err}"
    );
    let (output, _, err) = run(&place, &hub, &["models", "remove", "../.."]).await;
    assert_eq!(
        (output.status.code(), err.lines().count()),
        (Some(1), 1),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_without_a_manifest_are_checked_as_far_as_they_speak_for_themselves() {
    let hub = FakeHub::start().await;
    let place = Place::new();
    let copy = place.models().join("copied");
    let mut paths = Vec::new();
    all_files(&tiny(), &tiny(), &mut paths);
    for path in &paths {
        fs::create_dir_all(copy.join(path).parent().unwrap()).unwrap();
        fs::copy(tiny().join(path), copy.join(path)).unwrap();
    }
    let (output, out, _) = run(&place, &hub, &["models", "verify", "copied"]).await;
    assert!(
        output.status.success() && out.contains("no manifest"),
        "{out}"
    );
    let unet = copy.join(LARGE);
    let bytes = fs::read(&unet).unwrap();
    fs::write(&unet, &bytes[..bytes.len() - 100]).unwrap();
    let (output, out, _) = run(&place, &hub, &["models", "verify", "copied"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains("diffusion_pytorch_model.safetensors"), "{out}");
    fs::remove_file(&unet).unwrap();
    let (output, out, _) = run(&place, &hub, &["models", "verify", "copied"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains("unet") || out.contains("no weights"), "{out}");
    let (output, _, err) = run(&place, &hub, &["models", "verify", "nothing"]).await;
    assert_eq!(
        (output.status.code(), err.lines().count()),
        (Some(1), 1),
        "{err}"
    );
}
