//! Devices as the server sees them: a probe that answers, crashes, hangs or babbles is a decision
//! each time, and what was decided is kept.

use atelier_server::db::Db;
use atelier_server::devices::{Asked, Devices};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn atelier() -> PathBuf {
    env!("CARGO_BIN_EXE_atelier").into()
}

async fn database(dir: &Path) -> Db {
    Db::open(&dir.join("atelier.db")).await.unwrap()
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
    let devices = Devices::start_within(db.clone(), atelier(), Asked::Cpu, LIMIT)
        .await
        .unwrap();
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

    let again = devices.test_again().await.unwrap();
    assert_eq!(
        again.since, first.since,
        "the same decision stands since then"
    );
    assert!(again.probed_at >= first.probed_at);

    let restarted = Devices::start_within(db, atelier(), Asked::Cpu, LIMIT)
        .await
        .unwrap();
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
        let devices = Devices::start_within(db.clone(), program, Asked::Auto, LIMIT)
            .await
            .unwrap();
        let report = devices.report().await.unwrap();
        assert!(report.degraded, "{name}");
        assert!(report.decision.contains(said), "{}", report.decision);
        assert!(report.devices[0].in_use && report.devices[0].id == "cpu");
        assert!(devices.badge().degraded && devices.badge().reason.is_some());
        assert!(devices.fallback_reason().unwrap().contains(said));
    }
    let missing = dir.path().join("missing");
    let devices = Devices::start_within(db, missing, Asked::Auto, LIMIT)
        .await
        .unwrap();
    assert!(devices.decision().contains("could not be started"));
}

#[tokio::test]
async fn a_probe_that_hangs_is_stopped_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    let program = stand_in("hang.sh");
    let began = Instant::now();
    let devices = Devices::start_within(db, program, Asked::Auto, Duration::from_secs(1))
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(devices.decision().contains("did not end within 1 seconds"));
}

#[tokio::test]
async fn testing_again_finds_what_was_put_right_and_counts_from_now() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path()).await;
    let program = dir.path().join("atelier");
    std::os::unix::fs::symlink(stand_in("fail.sh"), &program).unwrap();
    let devices = Devices::start_within(db, program.clone(), Asked::Auto, LIMIT)
        .await
        .unwrap();
    let before = devices.report().await.unwrap();
    assert!(before.degraded);
    std::fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink(atelier(), &program).unwrap();
    let after = devices.test_again().await.unwrap();
    assert_ne!(after.decision, before.decision);
    assert!(!after.devices[0].checks.is_empty());
    assert_eq!(after.since, after.probed_at);
    assert_eq!(devices.report().await.unwrap(), after);
}
