//! A machine with GPUs that are made up: a driver that the tests compile, and the CUDA worker with
//! simulated GPUs that fail as planned. Everything else is real: the server, its probe, its workers.

use super::personas::{PASSWORD, default_config, tiny_model};
use super::test_app::{MODEL, Person};
use atelier_app::account::Credentials;
use atelier_app::backend::{Accounts as _, Client};
use atelier_server::accounts::AccountService;
use atelier_server::db::Db;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any of this takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The made-up driver, compiled once by the compiler that built this test.
static DRIVER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stub-driver");
    std::fs::create_dir_all(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub/cuda.rs");
    let driver = folder.join("libcuda.so.1");
    let output = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "cdylib"])
        .args(["--crate-name", "stub", "-o"])
        .arg(&driver)
        .arg(&source)
        .output()
        .expect("rustc built these tests, so it is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    driver
});

/// The CUDA worker of the tests, an example of this package.
fn simulated_cuda() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_atelier"))
        .with_file_name("examples")
        .join("simulated_cuda");
    assert!(
        program.is_file(),
        "{} is missing: `cargo test` builds it; before `cargo test --test it` run `cargo build --example simulated_cuda`",
        program.display()
    );
    program
}

/// The machine.
pub struct Machine {
    folder: TempDir,
    pub person: Person,
}

impl Machine {
    /// With a driver that lists what `words` say (see `tests/stub/cuda.rs`), a CUDA worker with this
    /// plan (see `examples/simulated_cuda.rs`), and an empty data folder with one user.
    pub async fn new(words: &str, plan: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lib", "bin", "data"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let person = user(&folder.path().join("data")).await;
        let machine = Self { folder, person };
        std::os::unix::fs::symlink(simulated_cuda(), machine.cuda_worker()).unwrap();
        machine.driver(words);
        machine.plan(plan);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cuda_worker(&self) -> PathBuf {
        self.path("bin/atelier-cuda")
    }

    /// What the driver does from now on; it is installed if it was not.
    pub fn driver(&self, words: &str) {
        std::fs::write(self.path("driver"), words).unwrap();
        let library = self.path("lib/libcuda.so.1");
        if !library.exists() {
            std::os::unix::fs::symlink(&*DRIVER, library).unwrap();
        }
    }

    /// Takes the driver's library away.
    pub fn without_driver(&self) {
        std::fs::remove_file(self.path("lib/libcuda.so.1")).unwrap();
    }

    /// Takes the CUDA worker away.
    pub fn without_cuda_worker(&self) {
        std::fs::remove_file(self.cuda_worker()).unwrap();
    }

    /// What the CUDA worker's next processes do.
    pub fn plan(&self, plan: &str) {
        // Replaced as a whole: a process may be reading it.
        let new = self.path("bin/new.plan");
        std::fs::write(&new, plan).unwrap();
        std::fs::rename(new, self.path("bin/atelier-cuda.plan")).unwrap();
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
        command
            .arg(name)
            .arg("--cuda-worker")
            .arg(self.cuda_worker())
            .env("LD_LIBRARY_PATH", self.path("lib"))
            .env("STUB_CUDA_FILE", self.path("driver"))
            .env_remove("ATELIER_DEVICE")
            // Two machines' worth of tests run at once.
            .env("RAYON_NUM_THREADS", "1");
        command
    }

    /// `atelier probe --json` with these arguments.
    pub fn probe(&self, arguments: &[&str]) -> Value {
        let output = self
            .command("probe")
            .arg("--json")
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `atelier serve` with these arguments.
    pub fn serve(&self, arguments: &[&str]) -> Server {
        let mut process = self
            .command("serve")
            .args(["--addr", "127.0.0.1:0", "--log", "off", "--model"])
            .arg(format!("{MODEL}={}", tiny_model().display()))
            .arg("--data-dir")
            .arg(self.path("data"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = lines.next().expect("the server says where it is").unwrap();
            if let Some((_, address)) = line.split_once("http://") {
                break address.to_owned();
            }
            said.push(line);
        };
        // Read on, so that the server never writes into a closed pipe.
        std::thread::spawn(move || for _ in lines {});
        Server {
            process,
            address,
            said,
            token: self.person.token.clone(),
        }
    }

    /// Every device event, oldest first: (kind, device, message).
    pub async fn events(&self) -> Vec<(String, String, String)> {
        let db = Db::connect(&self.path("data/atelier.db")).await.unwrap();
        let events = sqlx::query_as("select kind, device, message from device_event order by id")
            .fetch_all(db.read())
            .await
            .unwrap();
        db.close().await;
        events
    }

    /// The decision that stands, waited for: the site is open before it.
    pub async fn decision(&self) -> String {
        let is_probe = |(kind, ..): &(String, String, String)| kind == "probe";
        let since = Instant::now();
        let mut events = self.events().await;
        while !events.iter().any(is_probe) {
            assert!(since.elapsed() < PATIENCE, "nothing was decided");
            tokio::time::sleep(Duration::from_millis(100)).await;
            events = self.events().await;
        }
        let decides =
            |(kind, ..): &&(String, String, String)| kind == "probe" || kind == "decision";
        events.iter().rfind(decides).unwrap().2.clone()
    }

    /// Whether such an event was written down.
    pub async fn has_event(&self, kind: &str, device: &str) -> bool {
        let events = self.events().await;
        events.iter().any(|(k, d, _)| k == kind && d == device)
    }
}

/// A device of a probe's report.
pub fn device<'a>(report: &'a Value, id: &str) -> &'a Value {
    let devices = report["devices"].as_array().unwrap();
    let found = devices.iter().find(|device| device["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {report:#}"))
}

/// An administrator with a token in a data folder that no server uses yet.
async fn user(data_dir: &Path) -> Person {
    let config = default_config(data_dir);
    let db = Db::open(&config.data_dir.database()).await.unwrap();
    let (accounts, code) = AccountService::open(db.clone(), &config).await.unwrap();
    let credentials = Credentials {
        name: "ada".into(),
        password: PASSWORD.into(),
    };
    let viewer = accounts
        .create_first_admin(&code.unwrap(), credentials, &Client::default())
        .await
        .unwrap()
        .viewer;
    let token = accounts
        .create_token(&viewer, "test", None, &atelier_app::account::Scope::USUAL)
        .await
        .unwrap();
    db.close().await;
    Person {
        viewer,
        token: token.secret,
    }
}

/// A server on that machine.
pub struct Server {
    process: Child,
    address: String,
    token: String,
    /// What it printed before it said where it is.
    pub said: Vec<String>,
}

impl Server {
    /// One request; the status, and the answer's body.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: {}\r\nauthorization: Bearer {}\r\nprefer: respond-async\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Queues an image of a seed, of a size that has several tiles.
    pub fn submit(&self, seed: u32) -> String {
        let wish = json!({
            "prompt": "a red circle", "num_inference_steps": 3, "seed": seed,
            "width": 128, "height": 128,
        });
        let (status, body) = self.ask("POST", "/api/generate-image", &wish);
        assert_eq!(status, 202, "{body}");
        let job: Value = serde_json::from_str(&body).unwrap();
        job["id"].as_str().unwrap().to_owned()
    }

    /// One of the jobs now.
    pub fn job(&self, id: &str) -> Value {
        self.json(&format!("/api/jobs/{id}"))
    }

    /// Waits for a job's end.
    pub fn wait(&self, id: &str) -> Value {
        let is_over =
            |job: &Value| !["queued", "running"].contains(&job["state"].as_str().unwrap());
        let since = Instant::now();
        loop {
            let job = self.job(id);
            if is_over(&job) {
                return job;
            }
            assert!(since.elapsed() < PATIENCE, "still {job}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Queues an image, waits for it, and answers its job and itself.
    pub fn make(&self, seed: u32) -> (Value, Value) {
        let job = self.wait(&self.submit(seed));
        assert_eq!(job["state"], "done", "{job:#}");
        let image = self.json(&format!(
            "/api/images/{}",
            job["image_id"].as_str().unwrap()
        ));
        (job, image)
    }

    /// The text of an image's PNG: its chunks are written as they are.
    pub fn png(&self, image: &Value) -> String {
        let id = image["card"]["id"].as_str().unwrap();
        let (status, body) = self.ask("GET", &format!("/images/{id}.png"), &Value::Null);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// `/healthz`.
    pub fn health(&self) -> String {
        self.ask("GET", "/healthz", &Value::Null).1
    }

    /// Waits until `/healthz` is as wanted.
    pub fn wait_for_health(&self, wanted: impl Fn(&str) -> bool) -> String {
        let since = Instant::now();
        loop {
            let health = self.health();
            if wanted(&health) {
                return health;
            }
            assert!(since.elapsed() < PATIENCE, "still {health}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// SIGKILL, workers left to notice.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a job changed, rung by rung: "tiled_vae", "in_turn", "leave", …
pub fn descents(job: &Value) -> Vec<String> {
    let none = Vec::new();
    let rungs = job["rungs"].as_array().unwrap_or(&none);
    rungs
        .iter()
        .map(|rung| match &rung["descent"] {
            Value::String(word) => word.clone(),
            Value::Object(one) => {
                let (kind, format) = one.iter().next().unwrap();
                format!("{kind} {}", format.as_str().unwrap())
            }
            other => panic!("{other}"),
        })
        .collect()
}
