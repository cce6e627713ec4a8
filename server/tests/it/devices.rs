//! Devices as the server sees them: a probe that answers, crashes, hangs or babbles is a decision
//! each time, and what was decided is kept.

use atelier_app::admin::DeviceChoice;
use atelier_server::config::DeviceArgs;
use atelier_server::db::Db;
use atelier_server::devices::{Devices, policy};
use atelier_server::jobs::ladder;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn atelier() -> PathBuf {
    env!("CARGO_BIN_EXE_atelier").into()
}

async fn database(dir: &Path) -> Db {
    Db::open(&dir.join("atelier.db")).await.unwrap()
}

/// Devices that were probed once by `program`, with this device asked for.
async fn probed(db: &Db, program: PathBuf, asked: Option<&str>, limit: Duration) -> Devices {
    let args = DeviceArgs {
        device: asked.map(str::to_owned),
        ..DeviceArgs::default()
    };
    let devices = Devices::open(db.clone(), program, args, Some(limit))
        .await
        .unwrap();
    assert!(
        devices.plan().borrow().lanes.is_empty(),
        "jobs wait for the decision"
    );
    devices.test_again(None).await.unwrap();
    devices
}

/// A program in the probe's place. Committed, not written by the tests: Linux refuses to start a
/// file that a child of another test still holds open for writing.
fn stand_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/probes")
        .join(name)
}

#[tokio::test]
async fn the_real_probe_decides_and_the_decision_keeps_its_date() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    let devices = probed(&db, atelier(), Some("cpu"), LIMIT).await;
    let first = devices.report().await.unwrap();
    assert!(!first.degraded);
    assert!(first.decision.starts_with("Running on the CPU"));
    assert!(devices.decision().starts_with("Device: CPU ("));
    assert_eq!(devices.fallback_reason(), None);
    let badge = devices.badge();
    assert!(badge.label.starts_with("CPU · ") && badge.label.ends_with(" · f32"));
    let cpu = &first.devices[0];
    assert!(cpu.in_use && cpu.usable && cpu.checks.len() > 10);
    assert!(cpu.checks.iter().all(|check| check.ok));

    let again = devices.test_again(Some("cpu")).await.unwrap();
    assert_eq!(
        again.since, first.since,
        "the same decision stands since then"
    );
    assert!(again.probed_at >= first.probed_at);
    let (checks, before) = (&again.devices[0].checks, &first.devices[0].checks);
    assert_eq!(checks.len(), before.len(), "it was really tested");

    let unknown = devices.test_again(Some("cuda:99")).await.unwrap_err();
    assert_eq!(unknown.field(), Some("device"));

    let restarted = probed(&db, atelier(), Some("cpu"), LIMIT).await;
    assert_eq!(restarted.report().await.unwrap().since, first.since);
}

#[tokio::test]
async fn a_probe_that_ends_badly_is_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    for (name, said) in [
        ("crash.sh", "signal 11 (segmentation fault): illegal thing"),
        ("fail.sh", "ended with exit code 3"),
        ("babble.sh", "no report"),
        ("silent.sh", "no report"),
    ] {
        let program = stand_in(name);
        let devices = probed(&db, program, None, LIMIT).await;
        let report = devices.report().await.unwrap();
        assert!(report.degraded, "{name}");
        assert!(report.decision.contains(said), "{}", report.decision);
        assert!(report.devices[0].in_use && report.devices[0].id == "cpu");
        assert!(devices.badge().degraded && devices.badge().reason.is_some());
        assert!(devices.fallback_reason().unwrap().contains(said));
    }
    let missing = dir.path().join("missing");
    let devices = probed(&db, missing, None, LIMIT).await;
    assert!(devices.decision().contains("could not be started"));
}

#[tokio::test]
async fn a_probe_that_hangs_is_stopped_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    let program = stand_in("hang.sh");
    let began = Instant::now();
    let devices = probed(&db, program, None, Duration::from_secs(1)).await;
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(devices.decision().contains("did not end within 1 seconds"));
}

#[tokio::test]
async fn testing_again_finds_what_was_put_right_and_counts_from_now() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    let program = dir.path().join("atelier");
    std::os::unix::fs::symlink(stand_in("fail.sh"), &program).unwrap();
    let devices = probed(&db, program.clone(), None, LIMIT).await;
    let before = devices.report().await.unwrap();
    assert!(before.degraded);
    std::fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink(atelier(), &program).unwrap();
    let after = devices.test_again(None).await.unwrap();
    assert_ne!(after.decision, before.decision);
    assert!(!after.devices[0].checks.is_empty());
    assert_eq!(after.since, after.probed_at);
    assert_eq!(devices.report().await.unwrap(), after);
}

#[tokio::test]
async fn a_choice_is_checked_kept_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    let devices = probed(&db, atelier(), None, LIMIT).await;
    let choice = DeviceChoice {
        device: "cpu".into(),
        idle_release_s: 60,
        ..DeviceChoice::default()
    };
    for (field, wrong) in [
        (
            "device",
            DeviceChoice {
                device: "abacus".into(),
                ..choice.clone()
            },
        ),
        (
            "precision",
            DeviceChoice {
                precision: "f8".into(),
                ..choice.clone()
            },
        ),
        (
            "refiner_device",
            DeviceChoice {
                refiner_device: Some("cpu".into()),
                ..choice.clone()
            },
        ),
        (
            "idle_release_s",
            DeviceChoice {
                idle_release_s: 1_000_000,
                ..choice.clone()
            },
        ),
    ] {
        let error = devices.choose(wrong).await.unwrap_err();
        assert!(format!("{error:?}").contains(field), "{error:?}");
    }
    let report = devices.choose(choice.clone()).await.unwrap();
    assert_eq!(report.choice, choice);
    assert_eq!(
        report.decision,
        "Running on the CPU, as an administrator chose."
    );
    assert_eq!(report.events[0].kind, "decision");
    assert_eq!(report.events[1].kind, "choice");
    assert!(report.fixed.is_empty());
    assert_eq!(devices.plan().borrow().idle_release_s, 60);
    // A new server remembers it, and the command line goes first.
    let again = probed(&db, atelier(), None, LIMIT).await;
    assert_eq!(again.report().await.unwrap().choice, choice);
    let fixed = probed(&db, atelier(), Some("auto"), LIMIT).await;
    let report = fixed.choose(choice).await.unwrap();
    assert_eq!(
        (report.choice.device.as_str(), report.choice.idle_release_s),
        ("auto", 60)
    );
    assert_eq!(report.fixed, ["device"]);
}

#[tokio::test]
async fn three_failures_rest_a_device_and_what_befell_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    let devices = probed(&db, atelier(), None, LIMIT).await;
    for _ in 0..3 {
        devices
            .failure("cuda:0", "the device is lost")
            .await
            .unwrap();
    }
    let events = devices.report().await.unwrap().events;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["resting", "failure", "failure", "failure", "probe"]);
    assert!(
        events[0].message.contains("rests for 29 seconds")
            || events[0].message.contains("rests for 30 seconds"),
        "{}",
        events[0].message
    );
    assert_eq!(events[1].device, "cuda:0");
}

/// The part of a document between a pair of marks.
fn marked<'d>(document: &'d str, mark: &str) -> &'d str {
    let (_, rest) = document.split_once(&format!("<!-- {mark} -->\n")).unwrap();
    rest.split_once(&format!("<!-- /{mark} -->")).unwrap().0
}

#[test]
fn the_documentation_prints_the_tables_as_they_are_in_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/devices.md");
    let document = std::fs::read_to_string(path).unwrap();
    for (mark, table) in [
        ("policy", policy::in_markdown()),
        ("ladder", ladder::in_markdown()),
    ] {
        let printed = marked(&document, mark);
        assert_eq!(
            printed.trim(),
            table.trim(),
            "docs/devices.md, {mark}: put this there:\n{table}"
        );
    }
}
