//! Fetching models from a hub on this machine: whole, cut, resumed, corrupted, refused.

use super::fake_hub::{COMMIT, FakeHub, LARGE, REPO, TOKEN, sha256, tiny};
use atelier_server::models::fetch::{self, Event, FetchError, Installed, Watch, Wish};
use atelier_server::models::hub::{Hub, HubSettings};
use atelier_server::models::manifest::{MANIFEST, Manifest};
use atelier_server::models::select::Variant;
use atelier_server::models::verify::{Thoroughness, verify};
use axum::body::Bytes;
use hyper_util::client::proxy::matcher::Matcher;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a fetch said, in order.
type Heard = Arc<Mutex<Vec<Event>>>;

/// A data folder to fetch into.
pub struct Place {
    pub dir: tempfile::TempDir,
    heard: Heard,
    token: Option<String>,
}

impl Place {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            heard: Heard::default(),
            token: None,
        }
    }

    pub fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    pub fn target(&self) -> PathBuf {
        self.models().join("tiny-sdxl")
    }

    fn watch(&self) -> Watch {
        let heard = self.heard.clone();
        Arc::new(move |event| heard.lock().unwrap().push(event))
    }

    fn hub(&self, hub: &FakeHub) -> Hub {
        let settings = HubSettings {
            endpoint: hub.url.parse().unwrap(),
            token: self.token.clone(),
            retries: 3,
            first_wait: Duration::from_millis(2),
            silence: Duration::from_secs(2),
        };
        Hub::new(settings, Matcher::builder().build())
    }

    async fn fetch(&self, hub: &FakeHub) -> Result<Installed, FetchError> {
        self.fetch_as(hub, REPO).await
    }

    async fn fetch_as(&self, hub: &FakeHub, address: &str) -> Result<Installed, FetchError> {
        let wish = Wish::new(address.parse().unwrap(), None, Variant::Fp16).unwrap();
        fetch::fetch(&self.hub(hub), &self.models(), &wish, &self.watch()).await
    }

    fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.heard
            .lock()
            .unwrap()
            .iter()
            .filter(|event| which(event))
            .count()
    }

    /// One line of an error that leaves nothing installed.
    #[track_caller]
    fn refused(&self, outcome: Result<Installed, FetchError>, named: &[&str]) {
        let words = outcome.expect_err("it cannot be fetched").to_string();
        for name in named {
            assert!(words.contains(name), "{name} is not named in: {words}");
        }
        assert_eq!(words.lines().count(), 1, "{words}");
        assert!(!words.contains(TOKEN), "{words}");
        assert!(!self.target().exists(), "nothing is installed");
    }

    /// The installed folder is the repository's, byte for byte.
    #[track_caller]
    pub fn is_whole(&self) {
        let manifest = Manifest::read(&self.target()).unwrap().unwrap();
        assert_eq!(manifest.repo.to_string(), REPO);
        let mut files = Vec::new();
        all_files(&tiny(), &tiny(), &mut files);
        let listed: Vec<&String> = manifest.files.keys().collect();
        assert_eq!(listed, files.iter().collect::<Vec<_>>());
        for path in &files {
            let bytes = fs::read(self.target().join(path)).unwrap();
            assert!(bytes == fs::read(tiny().join(path)).unwrap(), "{path}");
            assert_eq!(manifest.files[path].sha256, sha256(&bytes), "{path}");
        }
        let mut there = Vec::new();
        all_files(&self.target(), &self.target(), &mut there);
        there.retain(|path| path != MANIFEST);
        assert_eq!(there, files, "no part, no mark, no stranger is left");
        assert!(!self.models().join(".fetch/tiny-sdxl").exists());
        let verdict = verify(&self.target(), &mut |_, _| true).unwrap();
        assert!(verdict.is_sound(), "{verdict:?}");
        assert_eq!(verdict.thoroughness, Thoroughness::Checksums);
    }
}

/// Every file below a folder, by its path there.
pub fn all_files(root: &Path, folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files(root, &path, into);
        } else {
            into.push(
                path.strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    into.sort();
}

/// The size of the largest file.
pub fn large() -> u64 {
    fs::metadata(tiny().join(LARGE)).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_model_comes_with_its_manifest_and_nothing_else() {
    let hub = FakeHub::start().await;
    let place = Place::new();
    let installed = place.fetch(&hub).await.unwrap();
    assert_eq!(installed.folder, place.target());
    assert!(!installed.was_there);
    assert_eq!(installed.manifest.commit, COMMIT);
    place.is_whole();
    for stranger in [
        "README.md",
        "unet/model.onnx",
        "unet/diffusion_pytorch_model.bin",
        "tiny.safetensors",
    ] {
        assert_eq!(hub.served(stranger), 0, "{stranger}");
    }
    assert_eq!(hub.served(LARGE), large());

    // Once more is no download, and another commit is not put over it.
    assert!(place.fetch(&hub).await.unwrap().was_there);
    assert_eq!(hub.served(LARGE), large());
    hub.change(|hub| hub.commit = "f".repeat(40));
    let words = place.fetch(&hub).await.unwrap_err().to_string();
    assert!(
        words.contains("--name") && words.contains("remove"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_without_the_token() {
    let hub = FakeHub::start().await;
    hub.change(|hub| {
        hub.redirects = true;
        hub.needs_token = true;
        hub.bare_listing = true;
        hub.cuts.insert(LARGE.into(), vec![1000]);
    });
    let mut place = Place::new();
    place.refused(place.fetch(&hub).await, &["HF_TOKEN", "401"]);
    place.token = Some(TOKEN.into());
    place.fetch(&hub).await.unwrap();
    place.is_whole();
    let asked = hub.asked();
    assert!(
        asked.iter().any(|asked| asked.at_store),
        "the store was asked"
    );
    for asked in asked.iter().filter(|asked| asked.at_store) {
        assert!(!asked.has_token, "{asked:?}");
    }
    // The store's own mark guards the second half, not the hub's.
    let resumed = asked
        .iter()
        .find(|asked| asked.at_store && asked.range.is_some())
        .unwrap();
    assert_eq!(resumed.range.as_deref(), Some("bytes=1000-"));
    assert_eq!(
        resumed.if_range.clone().unwrap(),
        format!("\"store-{}\"", large())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_taken_up_where_they_broke() {
    let hub = FakeHub::start().await;
    // More cuts than tries are allowed without progress.
    hub.change(|hub| {
        hub.cuts
            .insert(LARGE.into(), vec![5000, 1, 70_000, 3, 9000, 2, 1, 1])
    });
    let place = Place::new();
    place.fetch(&hub).await.unwrap();
    place.is_whole();
    assert_eq!(hub.served(LARGE), large(), "no byte was sent twice");
    assert_eq!(
        place.count(|event| matches!(event, Event::Retrying { .. })),
        8
    );
    let ranges: Vec<String> = hub
        .asked()
        .into_iter()
        .filter(|asked| asked.path == LARGE)
        .filter_map(|asked| asked.range)
        .collect();
    assert_eq!(ranges[..3], ["bytes=5000-", "bytes=5001-", "bytes=75001-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_run_has_left_the_next_goes_on_from() {
    let hub = FakeHub::start().await;
    hub.change(|hub| {
        // The first run dies of four failures in a row.
        hub.cuts.insert(LARGE.into(), vec![100_000, 0, 0, 0, 0]);
    });
    let place = Place::new();
    place.refused(
        place.fetch(&hub).await,
        &["tried 4 times", "run the same again"],
    );
    let left = fetch::unfinished(&place.models())
        .remove("tiny-sdxl")
        .unwrap();
    assert!(
        left.have >= 100_000 && left.have < left.total.unwrap(),
        "{left:?}"
    );
    assert_eq!(left.wish.repo.to_string(), REPO);

    place.fetch(&hub).await.unwrap();
    place.is_whole();
    assert_eq!(hub.served(LARGE), large());
    let index = fs::metadata(tiny().join("unet/config.json")).unwrap().len();
    assert!(
        hub.served("unet/config.json") <= index,
        "whole files are not fetched again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_file_that_has_changed_is_no_beginning_of_the_new_one() {
    let hub = FakeHub::start().await;
    hub.change(|hub| hub.cuts.insert(LARGE.into(), vec![100_000, 0, 0, 0, 0]));
    let place = Place::new();
    place.refused(place.fetch(&hub).await, &[]);
    // The same repository at another commit: one file differs from its first byte on.
    hub.change(|hub| {
        hub.commit = "f".repeat(40);
        let mut bytes = hub.files[LARGE].to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        hub.files.insert(LARGE.into(), bytes.into());
    });
    let installed = place.fetch(&hub).await.unwrap();
    assert_eq!(installed.manifest.commit, "f".repeat(40));
    assert_eq!(hub.served(LARGE), large() + 100_000, "begun again");
    let expected = hub.change(|hub| hub.files[LARGE].clone());
    assert!(fs::read(place.target().join(LARGE)).unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_is_borne_with() {
    let hub = FakeHub::start().await;
    hub.change(|hub| {
        hub.ignores_range = true;
        hub.cuts.insert(LARGE.into(), vec![5000, 6000]);
    });
    let place = Place::new();
    place.fetch(&hub).await.unwrap();
    place.is_whole();
    assert_eq!(hub.served(LARGE), large() + 11_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_fetched_once_more_and_then_refused() {
    for (times, path) in [
        (1, LARGE),
        (1, "unet/config.json"),
        (2, LARGE),
        (2, "unet/config.json"),
    ] {
        let hub = FakeHub::start().await;
        hub.change(|hub| hub.corrupt.insert(path.into(), times));
        let place = Place::new();
        let outcome = place.fetch(&hub).await;
        assert_eq!(
            place.count(|event| matches!(event, Event::Restarting { .. })),
            1,
            "{path}"
        );
        if times == 1 {
            outcome.unwrap();
            place.is_whole();
        } else {
            place.refused(outcome, &[path, "twice"]);
            let part = place
                .models()
                .join(format!(".fetch/tiny-sdxl/files/{path}.part"));
            assert!(!part.exists(), "wrong bytes are not kept");
            // The server is put right: the same again succeeds.
            place.fetch(&hub).await.unwrap();
            place.is_whole();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_part_of_an_earlier_run_is_found_too() {
    let hub = FakeHub::start().await;
    hub.change(|hub| hub.cuts.insert(LARGE.into(), vec![100_000, 0, 0, 0, 0]));
    let place = Place::new();
    place.refused(place.fetch(&hub).await, &[]);
    let part = place
        .models()
        .join(format!(".fetch/tiny-sdxl/files/{LARGE}.part"));
    let mut bytes = fs::read(&part).unwrap();
    bytes[50] ^= 1;
    fs::write(&part, bytes).unwrap();
    place.fetch(&hub).await.unwrap();
    place.is_whole();
    assert_eq!(
        place.count(|event| matches!(event, Event::Restarting { .. })),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_sizes_are_refused() {
    for size in [large() - 1, large() + 1] {
        let hub = FakeHub::start().await;
        hub.change(|hub| hub.false_sizes.insert(LARGE.into(), size));
        let place = Place::new();
        place.refused(place.fetch(&hub).await, &[LARGE, &size.to_string()]);
    }
    // Sizes that no disk holds are refused before the first byte.
    for size in [u64::MAX, 1 << 60] {
        let hub = FakeHub::start().await;
        hub.change(|hub| hub.false_sizes.insert(LARGE.into(), size));
        let place = Place::new();
        let expected = if size == u64::MAX { "no disk" } else { "free" };
        place.refused(place.fetch(&hub).await, &[expected]);
        assert_eq!(hub.served(LARGE), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_is_waited_for() {
    let hub = FakeHub::start().await;
    hub.change(|hub| {
        hub.refusals
            .insert("listing".into(), vec![(500, vec![]), (502, vec![])]);
        hub.refusals.insert(
            LARGE.into(),
            vec![
                (503, vec![]),
                (429, vec![("retry-after", "1".into())]),
                (500, vec![]),
            ],
        );
        hub.refusals
            .insert("model_index.json".into(), vec![(504, vec![])]);
    });
    let place = Place::new();
    let began = Instant::now();
    place.fetch(&hub).await.unwrap();
    place.is_whole();
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "Retry-After is honoured"
    );

    let hub = FakeHub::start().await;
    hub.change(|hub| {
        hub.refusals
            .insert("listing".into(), vec![(500, vec![]); 9])
    });
    let place = Place::new();
    place.refused(place.fetch(&hub).await, &["500", "tried 4 times"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let hub = FakeHub::start().await;
    let mut place = Place::new();
    place.refused(
        place.fetch_as(&hub, "somebody/nothing").await,
        &["somebody/nothing", "spelling", "HF_TOKEN"],
    );
    place.token = Some(TOKEN.into());
    place.refused(
        place.fetch_as(&hub, "somebody/nothing").await,
        &["token", "spelling"],
    );
    place.refused(
        place.fetch_as(&hub, &format!("{REPO}@v9")).await,
        &["revision"],
    );
    place.refused(
        place.fetch_as(&hub, &format!("{REPO}/x.ckpt")).await,
        &["pickle"],
    );
    place.refused(
        place.fetch_as(&hub, &format!("{REPO}/x.safetensors")).await,
        &["tiny.safetensors"],
    );
    hub.change(|hub| hub.gated = true);
    place.refused(
        place.fetch(&hub).await,
        &["gated", "accept its terms", &hub.url],
    );
    hub.change(|hub| hub.gated = false);
    hub.change(|hub| hub.refusals.insert(LARGE.into(), vec![(404, vec![])]));
    place.refused(place.fetch(&hub).await, &[LARGE, "404"]);
    hub.change(|hub| hub.files.remove("model_index.json"));
    place.refused(
        place.fetch(&hub).await,
        &["model_index.json", "tiny.safetensors"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_home_is_one_line() {
    let hub = FakeHub::start().await;
    let place = Place::new();
    let settings = HubSettings {
        endpoint: "http://127.0.0.1:1".parse().unwrap(),
        ..place.hub(&hub).settings().clone()
    };
    let nobody = Hub::new(settings, Matcher::builder().build());
    let wish = Wish::new(REPO.parse().unwrap(), None, Variant::Fp16).unwrap();
    let outcome = fetch::fetch(&nobody, &place.models(), &wish, &place.watch()).await;
    place.refused(outcome, &["127.0.0.1", "refused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_out_of_the_folder_are_refused() {
    for name in [
        "../x",
        "/etc/x",
        "unet/../../x",
        "a\\b",
        "C:/x",
        "a//b",
        "unet/..",
        "a\nb",
    ] {
        let hub = FakeHub::start().await;
        hub.change(|hub| hub.more_names.push(name.into()));
        let place = Place::new();
        place.refused(place.fetch(&hub).await, &["nothing was fetched"]);
        assert_eq!(hub.asked().len(), 1, "only the listing was asked for");
    }
    let hub = FakeHub::start().await;
    hub.change(|hub| hub.more_names.push(LARGE.into()));
    let place = Place::new();
    place.refused(place.fetch(&hub).await, &["twice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_tells_no_sizes_or_hashes_will_do() {
    let hub = FakeHub::start().await;
    hub.change(|hub| {
        hub.bare_listing = true;
        hub.cuts.insert(LARGE.into(), vec![5000]);
        hub.corrupt.insert("vae/config.json".into(), 1);
    });
    let place = Place::new();
    place.fetch(&hub).await.unwrap();
    place.is_whole();
    assert_eq!(
        place.count(|event| matches!(event, Event::Restarting { .. })),
        1,
        "the file's own answer has its hash"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_of_precision_are_preferred_and_can_be_declined() {
    let mut files: BTreeMap<String, Bytes> = BTreeMap::new();
    let fixture = |name: &str| tiny().parent().unwrap().join(name);
    for (folder, infix) in [("tiny-base", ""), ("tiny-fp16", ".fp16")] {
        let root = fixture(folder);
        let mut paths = Vec::new();
        all_files(&root, &root, &mut paths);
        for path in paths {
            let bytes: Bytes = fs::read(root.join(&path)).unwrap().into();
            let plain = path.replace(".fp16", "");
            let named = match plain.strip_suffix(".safetensors") {
                Some(stem) => format!("{stem}{infix}.safetensors"),
                None => plain,
            };
            files.entry(named).or_insert(bytes);
        }
    }
    let hub = FakeHub::with(files).await;
    let half = Place::new();
    half.fetch(&hub).await.unwrap();
    assert!(
        half.target()
            .join("unet/diffusion_pytorch_model.fp16.safetensors")
            .is_file()
    );
    assert!(!half.target().join(LARGE).exists());
    let heard = half.heard.lock().unwrap().clone();
    let Event::Planned { notes, .. } = &heard[0] else {
        panic!("the plan comes first: {heard:?}")
    };
    assert!(notes[0].contains("--variant full"), "{notes:?}");

    let full = Place::new();
    let wish = Wish::new(REPO.parse().unwrap(), Some("whole"), Variant::Full).unwrap();
    fetch::fetch(&full.hub(&hub), &full.models(), &wish, &full.watch())
        .await
        .unwrap();
    let folder = full.models().join("whole");
    assert!(folder.join(LARGE).is_file());
    assert!(
        !folder
            .join("unet/diffusion_pytorch_model.fp16.safetensors")
            .exists()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fetch_of_a_name_at_a_time_and_a_stopped_one_lets_go() {
    let hub = FakeHub::start().await;
    hub.change(|hub| hub.slow = Some((2000, Duration::from_millis(20))));
    let place = Arc::new(Place::new());
    let (first, url) = (place.clone(), hub.url.clone());
    let hub = Arc::new(hub);
    let asked = hub.clone();
    let running = tokio::spawn(async move { first.fetch(&asked).await.map(|_| ()) });
    let deadline = Instant::now() + Duration::from_secs(20);
    while place.count(|event| matches!(event, Event::Bytes { .. })) < 3 {
        assert!(Instant::now() < deadline, "{url} sends nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    place.refused(place.fetch(&hub).await, &["tiny-sdxl", "already"]);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    hub.change(|hub| hub.slow = None);
    // The last write of the stopped one may still be on its way to the disk.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match place.fetch(&hub).await {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    place.is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_file_by_file_and_mended() {
    let hub = FakeHub::start().await;
    let place = Place::new();
    place.fetch(&hub).await.unwrap();
    let before = hub.served("vae/config.json");
    let unet = place.target().join(LARGE);
    let mut bytes = fs::read(&unet).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&unet, bytes).unwrap();
    fs::remove_file(place.target().join("tokenizer/merges.txt")).unwrap();
    fs::write(place.target().join("unet/config.json"), "{}").unwrap();
    fs::write(place.target().join("notes.txt"), "mine").unwrap();

    let verdict = verify(&place.target(), &mut |_, _| true).unwrap();
    let damaged: Vec<&str> = verdict
        .damaged
        .iter()
        .map(|damage| damage.path.as_str())
        .collect();
    assert_eq!(damaged, ["tokenizer/merges.txt", "unet/config.json", LARGE]);
    assert_eq!(verdict.strangers, ["notes.txt"]);

    let damaged: Vec<String> = damaged.into_iter().map(str::to_owned).collect();
    // The branch has moved on; the repair asks for the commit that was fetched.
    fetch::repair(
        &place.hub(&hub),
        &place.models(),
        "tiny-sdxl",
        &damaged,
        &place.watch(),
    )
    .await
    .unwrap();
    fs::remove_file(place.target().join("notes.txt")).unwrap();
    let _ = fs::remove_file(place.target().join(".atelier-checked.json"));
    place.is_whole();
    assert_eq!(
        hub.served("vae/config.json"),
        before,
        "sound files are left alone"
    );
}
