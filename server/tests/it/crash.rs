//! Real processes that die: nothing accepted is lost, and every job has exactly one result.
#![cfg(target_os = "linux")]

use super::bench::{add_user, settings};
use super::personas::{PASSWORD, default_config, tiny_model};
use super::test_app::{MODEL, Person};
use atelier_app::account::{Credentials, Scope};
use atelier_app::backend::{Accounts as _, Client};
use atelier_app::studio::{JobId, JobState, Settings};
use atelier_server::accounts::AccountService;
use atelier_server::db::Db;
use atelier_server::gallery::{ImageHash, ImageStore};
use atelier_server::jobs::queue::{Dead, Enqueued, Limits, Queue};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any of this takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// From a death to the next attempt: five seconds on a quiet machine.
const RETRY: Duration = Duration::from_secs(20);

/// The `atelier` binary.
const PROGRAM: &str = env!("CARGO_BIN_EXE_atelier");

/// A data folder with one user, and the user's token.
async fn folder() -> (TempDir, Person) {
    let folder = tempfile::tempdir().unwrap();
    let config = default_config(folder.path());
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
        .create_token(&viewer, "test", None, &Scope::USUAL)
        .await
        .unwrap();
    db.close().await;
    let token = token.secret;
    (folder, Person { viewer, token })
}

/// The tiny model as an option's value.
fn model() -> String {
    format!("{MODEL}={}", tiny_model().display())
}

/// `atelier serve` as a process.
struct Server {
    process: Child,
    address: String,
    data_dir: PathBuf,
}

impl Server {
    fn start(data_dir: &Path) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["serve", "--addr", "127.0.0.1:0", "--device", "cpu"])
            .args(["--log", "error", "--model", &model(), "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the server says where it is").unwrap();
            if let Some((_, address)) = line.split_once("http://") {
                break address.to_owned();
            }
        };
        // Read on, so that the server never writes into a closed pipe.
        std::thread::spawn(move || for _ in lines {});
        Self {
            process,
            address,
            data_dir: data_dir.to_owned(),
        }
    }

    /// One request, of which a job is answered before it has ended.
    fn ask(&self, who: &Person, method: &str, path: &str, body: &Value) -> (u16, Value) {
        ask(&self.address, who, method, path, body, "respond-async")
    }

    fn submit(&self, who: &Person, steps: u32, side: u32) -> String {
        let body = json!({
            "prompt": "a red circle",
            "num_inference_steps": steps,
            "width": side,
            "height": side,
        });
        let (status, job) = self.ask(who, "POST", "/api/generate-image", &body);
        assert_eq!(status, 202, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    fn job(&self, who: &Person, id: &str) -> Value {
        self.ask(who, "GET", &format!("/api/jobs/{id}"), &Value::Null)
            .1
    }

    /// Waits until a job's view is as wanted.
    fn wait(&self, who: &Person, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let job = self.job(who, id);
            if wanted(&job) {
                return job;
            }
            assert!(since.elapsed() < PATIENCE, "still {job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The worker's process id.
    fn worker(&self) -> Option<u32> {
        worker_of(&self.data_dir)
    }

    /// SIGTERM, and how it ended.
    fn terminate(mut self) -> std::process::ExitStatus {
        signal(self.process.id(), "TERM");
        let since = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    fn kill(&mut self) {
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

/// One request on a connection of its own; the answer must be JSON.
fn ask(
    address: &str,
    who: &Person,
    method: &str,
    path: &str,
    body: &Value,
    prefer: &str,
) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nprefer: {prefer}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        who.token,
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer[9..12].parse().unwrap();
    let json = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // Past the sizes of a chunked body, if it is one.
    let json = &json[json.find(['{', '[']).unwrap()..=json.rfind(['}', ']']).unwrap()];
    (status, serde_json::from_str(json).unwrap())
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status();
    assert!(sent.unwrap().success(), "kill -{name} {process}");
}

/// The worker process of a data folder, as /proc shows it.
fn worker_of(data_dir: &Path) -> Option<u32> {
    let data_dir = data_dir.to_str().unwrap();
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
        let words: Vec<&str> = words
            .split(|byte| *byte == 0)
            .map(|word| std::str::from_utf8(word).unwrap_or(""))
            .collect();
        (words.get(1) == Some(&"worker") && words.contains(&data_dir)).then_some(process)
    })
}

fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < limit, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_in_the_middle(job: &Value) -> bool {
    job["state"] == "running" && job["step"].as_u64() > Some(2)
}

fn is_over(job: &Value) -> bool {
    !["queued", "running"].contains(&job["state"].as_str().unwrap())
}

/// What must hold after any crash: the database is whole, each done job has one image, each image
/// has its file, and no other job has any.
async fn check_folder(data_dir: &Path, done: usize) {
    let db = Db::connect(&data_dir.join("atelier.db")).await.unwrap();
    let whole: String = sqlx::query_scalar("pragma integrity_check")
        .fetch_one(db.read())
        .await
        .unwrap();
    assert_eq!(whole, "ok");
    let images: Vec<(String, String)> =
        sqlx::query_as("select sha256, job.state from image join job on job.id = image.job_id")
            .fetch_all(db.read())
            .await
            .unwrap();
    let jobs_done: i64 = sqlx::query_scalar("select count(*) from job where state = 'done'")
        .fetch_one(db.read())
        .await
        .unwrap();
    assert_eq!((images.len(), jobs_done), (done, done as i64));
    let files = ImageStore::open(data_dir).unwrap();
    for (sha256, state) in images {
        let hash: ImageHash = sha256.parse().unwrap();
        assert_eq!(ImageHash::of(&files.get(&hash).unwrap()), hash);
        assert_eq!(state, "done");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_one_attempt() {
    let (folder, me) = folder().await;
    let server = Server::start(folder.path());
    let id = server.submit(&me, 150, 320);
    let behind = server.submit(&me, 2, 64);
    server.wait(&me, &id, is_in_the_middle);
    let killed = server.worker().unwrap();
    signal(killed, "KILL");
    let since = Instant::now();
    server.wait(&me, &id, |job| {
        job["attempt"] == 2 && job["state"] == "running"
    });
    assert!(since.elapsed() < RETRY, "after {:?}", since.elapsed());
    assert_ne!(server.worker(), Some(killed));
    for id in [&id, &behind] {
        let job = server.wait(&me, id, is_over);
        assert_eq!(job["state"], "done", "{job}");
    }
    // Nothing is to do: a graceful stop is quick, and a success.
    let since = Instant::now();
    assert!(server.terminate().success());
    assert!(since.elapsed() < RETRY, "after {:?}", since.elapsed());
    check_folder(folder.path(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_takes_its_worker_along_and_goes_on_where_it_was() {
    let (folder, me) = folder().await;
    let mut server = Server::start(folder.path());
    let ids = [server.submit(&me, 150, 320), server.submit(&me, 2, 64)];
    server.wait(&me, &ids[0], is_in_the_middle);
    let orphan = server.worker().unwrap();
    server.kill();
    // Its standard input has ended: it does not work on for nobody.
    wait_for("the worker's end", RETRY, || {
        (worker_of(folder.path()) != Some(orphan)).then_some(())
    });
    let server = Server::start(folder.path());
    for id in &ids {
        let job = server.wait(&me, id, is_over);
        assert_eq!(job["state"], "done", "{job}");
        // The death of a server is no fault of the job's.
        assert_eq!(job["attempt"], 1, "{job}");
    }
    assert!(server.terminate().success());
    check_folder(folder.path(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_instant_lose_nothing() {
    let (folder, me) = folder().await;
    let mut server = Server::start(folder.path());
    let ids: Vec<String> = (0..8).map(|_| server.submit(&me, 12, 128)).collect();
    // Instants that have nothing to do with what is going on; every third kills the worker only.
    for (round, pause_ms) in [40, 310, 90, 700, 150, 520, 10, 1100, 230]
        .into_iter()
        .enumerate()
    {
        std::thread::sleep(Duration::from_millis(pause_ms));
        if round % 3 == 0 {
            if let Some(worker) = server.worker() {
                // It may have ended by itself a moment ago.
                let _ = Command::new("sh")
                    .args(["-c", &format!("kill -9 {worker} 2>&-")])
                    .status();
            }
        } else {
            server.kill();
            server = Server::start(folder.path());
        }
    }
    for id in &ids {
        let job = server.wait(&me, id, is_over);
        assert_eq!(job["state"], "done", "{job}");
    }
    assert!(server.terminate().success());
    check_folder(folder.path(), ids.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_worker_is_given_up_and_others_go_on() {
    let (folder, me) = folder().await;
    let server = Server::start(folder.path());
    let poison = server.submit(&me, 150, 320);
    let sound = server.submit(&me, 2, 64);
    for attempt in 1..=3 {
        server.wait(&me, &poison, |job| {
            job["attempt"] == attempt && is_in_the_middle(job)
        });
        signal(server.worker().unwrap(), "KILL");
    }
    let job = server.wait(&me, &poison, is_over);
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&json!("failed"), &json!(3))
    );
    let words = job["error"].as_str().unwrap();
    assert!(words.contains("ended the worker"), "{words}");
    let job = server.wait(&me, &sound, is_over);
    assert_eq!(job["state"], "done", "{job}");
    assert!(server.terminate().success());
    check_folder(folder.path(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_lets_the_running_job_finish() {
    let (folder, me) = folder().await;
    let server = Server::start(folder.path());
    let running = server.submit(&me, 150, 256);
    server.wait(&me, &running, is_in_the_middle);
    // Somebody waits for an image that cannot be made before the stop any more.
    let (address, token) = (server.address.clone(), me.token.clone());
    let viewer = me.viewer.clone();
    let waiter = std::thread::spawn(move || {
        let body =
            json!({ "prompt": "a star", "num_inference_steps": 2, "width": 64, "height": 64 });
        let me = Person { viewer, token };
        ask(
            &address,
            &me,
            "POST",
            "/api/generate-image",
            &body,
            "wait=100",
        )
    });
    let waiting = wait_for("the second job", PATIENCE, || {
        let (_, jobs) = server.ask(&me, "GET", "/api/jobs", &Value::Null);
        let queued = jobs
            .as_array()?
            .iter()
            .find(|job| job["state"] == "queued")?;
        Some(queued["id"].as_str()?.to_owned())
    });
    assert!(server.terminate().success());
    let (status, job) = waiter.join().unwrap();
    assert_eq!((status, &job["state"]), (202, &json!("queued")), "{job}");
    assert_eq!(worker_of(folder.path()), None);
    let db = Db::connect(&folder.path().join("atelier.db"))
        .await
        .unwrap();
    let queue = Queue::new(db);
    let row = queue.job(&JobId(running)).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempt), (JobState::Done, 1));
    let row = queue.job(&JobId(waiting.clone())).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempt), (JobState::Queued, 0));
    check_folder(folder.path(), 1).await;

    // A service manager may end the worker as well as the server: the job goes back, uncounted.
    let server = Server::start(folder.path());
    let long = server.submit(&me, 150, 320);
    server.wait(&me, &long, is_in_the_middle);
    signal(server.worker().unwrap(), "TERM");
    server.wait(&me, &long, |job| {
        job["state"] == "queued" || job["step"] == 0
    });
    let job = server.wait(&me, &long, is_over);
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&json!("done"), &json!(1))
    );
    assert!(server.terminate().success());
    check_folder(folder.path(), 3).await;
}

/// `atelier worker` with no server over it, and a lease of a second.
struct LoneWorker(Child);

impl LoneWorker {
    fn start(data_dir: &Path, owner: &str) -> Self {
        let process = Command::new(PROGRAM)
            .args(["worker", "--lease-seconds", "1", "--log", "error"])
            .args(["--owner", owner, "--model", &model(), "--data-dir"])
            .arg(data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(process)
    }

    /// Its server goes away without a word.
    fn abandon(&mut self) {
        drop(self.0.stdin.take());
        wait_for("the worker's end", RETRY, || self.0.try_wait().unwrap());
    }
}

impl Drop for LoneWorker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A worker that sleeps past its lease wakes up to a job that is somebody else's by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("atelier.db")).await.unwrap();
    let user = add_user(&db, "a").await;
    let queue = Queue::new(db.clone());
    let limits = Limits {
        per_user: 9,
        total: 9,
    };
    let long = Settings {
        num_inference_steps: 150,
        width: 320,
        height: 320,
        ..settings()
    };
    let enqueued = queue.enqueue(user, &long, 1.0, None, limits).await.unwrap();
    let job = match enqueued {
        Enqueued::New(row) => row,
        other => panic!("{other:?}"),
    };
    let row = async || queue.job(&job.id).await.unwrap().unwrap();

    let mut asleep = LoneWorker::start(folder.path(), "asleep");
    let since = Instant::now();
    // The heartbeat writes the step down.
    while row().await.step == 0 {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal(asleep.0.id(), "STOP");
    let since = Instant::now();
    loop {
        let reaped = queue.reap(Dead::Nobody, "silent").await.unwrap();
        if let Some((id, _, owner)) = reaped.first() {
            assert_eq!((id, owner.as_str()), (&job.id, "asleep"));
            break;
        }
        assert!(since.elapsed() < RETRY);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut awake = LoneWorker::start(folder.path(), "awake");
    while row().await.state != JobState::Running {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Both compute the same job now; one of them in vain.
    signal(asleep.0.id(), "CONT");
    let since = Instant::now();
    while row().await.state != JobState::Done {
        assert!(since.elapsed() < PATIENCE);
        // A busy machine may keep the second worker from its heartbeat too, but nobody reaps here.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = row().await;
    assert_eq!((ended.state, ended.attempt), (JobState::Done, 2));
    // The one that slept has given up, and is of use again.
    awake.abandon();
    let enqueued = queue
        .enqueue(user, &settings(), 1.0, None, limits)
        .await
        .unwrap();
    let next = match enqueued {
        Enqueued::New(row) => row,
        other => panic!("{other:?}"),
    };
    let since = Instant::now();
    while queue.job(&next.id).await.unwrap().unwrap().state != JobState::Done {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asleep.abandon();
    let again = row().await;
    assert_eq!((again.attempt, again.finished_at), (2, ended.finished_at));
    check_folder(folder.path(), 2).await;
}
