//! How the machine feels: a stub of NVIDIA's management library and a stand-in for `nvidia-smi`, in
//! every way in which they may behave; and who may see it.

use super::test_app::TestApp;
use atelier_app::account::Role;
use atelier_app::admin::{DeviceVitals, VitalsReport};
use atelier_app::backend::Admin as _;
use atelier_app::error::AppError;
use atelier_server::devices::vitals::{Programs, Vitals, VitalsConfig};
use atelier_server::startup::Shutdown;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn stand_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/probes")
        .join(name)
}

/// A folder with the stub library, and an `atelier` that finds it there.
struct Stub(tempfile::TempDir);

impl Stub {
    fn that(does: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("libnvidia-ml.so.1");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(stand_in("stub_nvml.c"))
            .status()
            .expect("a C compiler, which building Atelier takes too");
        assert!(built.success());
        std::fs::write(dir.path().join("does"), does).unwrap();
        symlink(env!("CARGO_BIN_EXE_atelier"), dir.path().join("atelier")).unwrap();
        symlink(stand_in("with_stub_nvml.sh"), dir.path().join("program")).unwrap();
        Self(dir)
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("program")
    }

    fn vitals(&self, smi: &Path) -> (Arc<Vitals>, Shutdown) {
        let shutdown = Shutdown::default();
        let config = VitalsConfig {
            root: PathBuf::from("/"),
            programs: Programs {
                atelier: self.program(),
                smi: smi.to_owned(),
                patience: Duration::from_secs(2),
            },
            every: Duration::from_millis(50),
        };
        (Vitals::start(config, shutdown.clone()), shutdown)
    }
}

fn nowhere() -> PathBuf {
    PathBuf::from("/nonexistent/nvidia-smi")
}

/// The first report that is as it should be.
async fn until(vitals: &Vitals, is_right: impl Fn(&VitalsReport) -> bool) -> VitalsReport {
    let began = Instant::now();
    loop {
        let report = vitals.report(300, &[], &[]);
        if is_right(&report) {
            return report;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{report:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn points(device: Option<&DeviceVitals>) -> usize {
    device.map_or(0, |device| device.points.len())
}

#[tokio::test]
async fn the_library_is_asked_again_and_again() {
    let stub = Stub::that("ok");
    let (vitals, shutdown) = stub.vitals(&nowhere());
    let report = until(&vitals, |report| points(report.of("cuda:1")) >= 3).await;
    assert_eq!(report.gpu_source, "NVIDIA’s management library");
    let first = report.of("cuda:0").unwrap();
    assert_eq!(first.name, "NVIDIA GeForce RTX 5090");
    assert_eq!(first.memory_total, Some(32 << 30));
    let used: Vec<f64> = first
        .points
        .iter()
        .filter_map(|point| point.memory_used)
        .collect();
    assert!(
        used.is_sorted_by(|a, b| a < b),
        "new numbers each time: {used:?}"
    );
    let last = first.points.last().unwrap();
    assert_eq!(
        (last.load, last.temperature_c, last.power_w),
        (Some(0.37), Some(61.0), Some(431.5))
    );
    let second = report.of("cuda:1").unwrap();
    assert_eq!(
        second.points.last().unwrap().power_w,
        None,
        "not supported is absent"
    );
    // The CPU's numbers come from this machine.
    let cpu = report.of("cpu").unwrap();
    assert!(cpu.memory_total.unwrap() > 0 && points(Some(cpu)) >= 3);
    shutdown.request();
}

#[tokio::test]
async fn a_gpu_that_is_lost_says_so() {
    let stub = Stub::that("lost");
    let (vitals, _shutdown) = stub.vitals(&nowhere());
    let report = until(&vitals, |report| report.of("cuda:0").is_some()).await;
    let gpu = report.of("cuda:0").unwrap();
    assert_eq!(gpu.problem.as_deref(), Some("“GPU is lost” (15)"));
    assert_eq!(gpu.points[0].memory_used, None);
}

#[tokio::test]
async fn a_library_that_fails_is_replaced_by_nvidia_smi() {
    for (does, words) in [
        ("aborts", "signal 6 (abort)"),
        ("refuses", "Driver/library version mismatch"),
        ("hangs", "did not answer within 2 s"),
    ] {
        let stub = Stub::that(does);
        let (vitals, _shutdown) = stub.vitals(&stand_in("smi.sh"));
        let report = until(&vitals, |report| report.of("cuda:0").is_some()).await;
        assert!(
            report.gpu_source.starts_with("nvidia-smi") && report.gpu_source.contains(words),
            "{does}: {}",
            report.gpu_source
        );
        let gpu = report.of("cuda:0").unwrap();
        assert_eq!(
            gpu.points.len(),
            1,
            "one look is one point, however often it is shown"
        );
        assert_eq!(gpu.points[0].memory_used, Some(f64::from(2_u32 << 30)));
        assert_eq!(gpu.points[0].power_w, Some(88.1));
    }
}

#[tokio::test]
async fn a_machine_without_nvidia_has_a_cpu() {
    let shutdown = Shutdown::default();
    let config = VitalsConfig {
        programs: Programs {
            smi: nowhere(),
            ..VitalsConfig::of_this_machine(env!("CARGO_BIN_EXE_atelier").into()).programs
        },
        every: Duration::from_millis(50),
        ..VitalsConfig::of_this_machine(PathBuf::new())
    };
    let vitals = Vitals::start(config, shutdown);
    let report = until(&vitals, |report| {
        points(report.of("cpu")) >= 3 && !report.gpu_source.is_empty()
    })
    .await;
    assert_eq!(report.devices.len(), 1);
    assert!(
        report.gpu_source.contains("libnvidia-ml.so.1"),
        "{}",
        report.gpu_source
    );
    let cpu = report.of("cpu").unwrap();
    assert!(cpu.points.iter().skip(1).all(|point| point.load.is_some()));
}

#[test]
fn the_process_answers_a_line_for_a_line_and_ends_with_its_input() {
    let stub = Stub::that("ok");
    let mut child = Command::new(stub.program())
        .args(["probe", "--device", "vitals"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        input.write_all(b"\n").unwrap();
        let line = lines.next().unwrap().unwrap();
        assert!(line.starts_with("{\"gpus\":[{\"index\":0,"), "{line}");
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(lines.next().is_none());
}

#[tokio::test]
async fn only_administrators_see_it() {
    let app = TestApp::without_worker().await;
    let member = app.person("bob", Role::Member).await;
    let admin = &app.services.admin;
    let refused = admin.vitals(&member.viewer, 300).await;
    assert!(matches!(refused, Err(AppError::Forbidden)));
    let report = admin.vitals(&app.admin.viewer, 300).await.unwrap();
    assert_eq!((report.span_s, report.devices[0].id.as_str()), (300, "cpu"));
    app.stop().await;
}

#[tokio::test]
async fn metrics_are_for_administrators_and_have_prometheus_form() {
    let app = TestApp::without_worker().await;
    let member = app.person("bob", Role::Member).await;
    assert_eq!(app.get(&member, "/metrics").await.status, 403);
    let nobody = http::Request::get("/metrics")
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(app.call(nobody).await.status, 401);
    let answer = app.get(&app.admin, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(answer.body).unwrap();
    for line in text.lines() {
        let is_about = line.starts_with("# HELP atelier_") || line.starts_with("# TYPE atelier_");
        let value = line
            .rsplit_once(' ')
            .and_then(|(_, value)| value.parse::<f64>().ok());
        assert!(
            is_about || line.starts_with("atelier_") && value.is_some(),
            "{line}"
        );
    }
    for line in [
        "atelier_jobs{state=\"queued\"} 0",
        "atelier_device_state{device=\"cpu\",",
        "atelier_degraded ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    app.stop().await;
}
