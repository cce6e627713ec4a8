//! The gallery with a hundred thousand images of fifty people: makes such a data folder, asks it what
//! people ask, by itself and over HTTP, and measures answers and the server's memory. Fails when one
//! answer in a hundred takes longer than 50 ms, or the server takes more than 300 MB.
//!
//! ```sh
//! make scale
//! cargo run --release --locked -p atelier --example gallery_scale -- DIR [IMAGES [USERS [fill]]]
//! ```
//!
//! With `fill` nothing is measured.
//!
//! The folder can be served afterwards: `atelier serve --data-dir DIR`, and `user1` signs in with the
//! words that are printed. The images share a few files. `ATELIER_BIN` names the server; without it,
//! it is looked for beside this program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for people who measure: it stops where something is wrong"
)]

#[path = "../tests/it/many_images.rs"]
mod many_images;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use many_images::{Dice, KINDS, ask, collect, fill, median_and_p99, open, question};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What one answer in a hundred may take.
const BAR_MS: f64 = 50.0;
/// What the server may take, in MB of 10⁶ bytes, without its workers.
const BAR_MB: f64 = 300.0;
/// How often each question is asked.
const ASKED: usize = 200;
/// How many ask at once while memory is measured.
const CROWD: usize = 8;
/// What the first user signs in with.
const PASSWORD: &str = "a lamp beside the window";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("DIR [IMAGES [USERS]]"));
    let mut number = |usual: usize| {
        let given = arguments.next();
        given.map_or(usual, |n| n.parse().expect("a number"))
    };
    let (images, users) = (number(100_000), number(50));
    let only_fill = arguments.next().is_some_and(|word| word == "fill");
    std::fs::create_dir_all(&dir).expect("the folder can be made");
    let (db, gallery) = open(&dir).await;
    let began = Instant::now();
    fill(&db, &gallery, images, users).await;
    println!(
        "{images} images of {users} people in {}, made in {:.1} s",
        dir.display(),
        began.elapsed().as_secs_f64()
    );
    if only_fill {
        drop(gallery);
        db.close().await;
        set_password(&dir);
        return;
    }
    let mut slow = print(
        "Asked one after the other",
        ask(&gallery, images, users, ASKED).await,
    );
    let collection = collect(&gallery).await;
    drop(gallery);
    db.close().await;

    let server = Server::start(&dir);
    let cookie = server.sign_in().await;
    let mut dice = Dice::new(11);
    let mut taken: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut wire = server.connect().await;
    for _ in 0..ASKED / 4 {
        for kind in 0..KINDS {
            let (words, query) = question(&mut dice, kind, images, &collection);
            for (what, path) in [
                ("page", "/api/images?limit=100&"),
                ("facets", "/api/images/facets?"),
                ("whole page", "/gallery?"),
            ] {
                let began = Instant::now();
                get(&mut wire, &format!("{path}{}", query.to_query()), &cookie).await;
                let ms = began.elapsed().as_secs_f64() * 1000.0;
                taken
                    .entry(format!("{what}: {words}"))
                    .or_default()
                    .push(ms);
            }
        }
    }
    println!(
        "\nOver HTTP, as the person with the most images; a whole page asks for all of it at once"
    );
    print_table(&mut taken);
    let calm = server.memory_mb("VmRSS");
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let (mut wire, cookie, collection) =
            (server.connect().await, cookie.clone(), collection.clone());
        crowd.push(tokio::spawn(async move {
            let mut dice = Dice::new(100 + number as u64);
            for turn in 0..KINDS * 12 {
                let (_, query) = question(&mut dice, turn % KINDS, images, &collection);
                let query = query.to_query();
                for path in ["/api/images?limit=100&", "/api/images/facets?", "/gallery?"] {
                    get(&mut wire, &format!("{path}{query}"), &cookie).await;
                }
            }
        }));
    }
    for one in crowd {
        one.await.expect("it asks to the end");
    }
    let (after, most) = (server.memory_mb("VmRSS"), server.memory_mb("VmHWM"));
    println!(
        "\nMemory of the server: {calm:.0} MB while one person asks, {after:.0} MB after {CROWD} asked at once, {most:.0} MB at most (limit {BAR_MB:.0})"
    );
    drop(server);
    if most > BAR_MB {
        eprintln!("error: the server takes more than {BAR_MB} MB");
        slow = true;
    }
    println!("`user1` signs in with: {PASSWORD}");
    if slow {
        std::process::exit(1);
    }
}

/// Prints a table; whether something in it is slower than it may be.
fn print(title: &str, mut taken: BTreeMap<String, Vec<f64>>) -> bool {
    println!("\n{title}");
    let slow = print_table(&mut taken);
    for what in &slow {
        eprintln!("error: {what}: one answer in a hundred takes longer than {BAR_MS} ms");
    }
    !slow.is_empty()
}

fn print_table(taken: &mut BTreeMap<String, Vec<f64>>) -> Vec<String> {
    println!("{:<34} {:>9} {:>9} {:>9}", "ms", "median", "p99", "longest");
    let mut slow = Vec::new();
    for (what, taken) in taken {
        let (median, p99) = median_and_p99(taken);
        let most = taken[taken.len() - 1];
        println!("{what:<34} {median:>9.2} {p99:>9.2} {most:>9.2}");
        if p99 > BAR_MS {
            slow.push(what.clone());
        }
    }
    slow
}

/// Lets the first user sign in, by the server's own command line; answers where that program is.
fn set_password(dir: &Path) -> PathBuf {
    let beside = std::env::current_exe().expect("this program's place");
    let binary = std::env::var_os("ATELIER_BIN").map_or_else(
        || {
            let target = beside.ancestors().nth(2).expect("target/release/examples");
            target.join("atelier")
        },
        PathBuf::from,
    );
    assert!(
        binary.exists(),
        "{} does not exist: run `make build` first, or name the server in ATELIER_BIN",
        binary.display()
    );
    let mut user = Command::new(&binary)
        .args(["user", "--data-dir"])
        .arg(dir)
        .args(["password", "user1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the server's program starts");
    let mut words = user.stdin.take().expect("it is piped");
    writeln!(words, "{PASSWORD}").expect("it listens");
    drop(words);
    assert!(
        user.wait().expect("it ends").success(),
        "its password is set"
    );
    binary
}

/// The real server on the folder.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let binary = set_password(dir);
        let mut child = Command::new(&binary)
            .args(["serve", "--addr", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut lines = said.lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| {
                let (_, rest) = line.split_once("http://")?;
                Some(rest.split([' ', '/']).next()?.to_owned())
            })
            .expect("it says where it listens");
        // Whoever stops reading stops the server at its next word.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = tokio::net::TcpStream::connect(&self.address)
            .await
            .expect("it listens");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("it speaks HTTP");
        tokio::spawn(connection);
        sender
    }

    async fn sign_in(&self) -> String {
        let mut wire = self.connect().await;
        let form = format!("name=user1&password={}", PASSWORD.replace(' ', "+"));
        let request = http::Request::post("/app/sign_in")
            .header("host", &self.address)
            .header("origin", format!("http://{}", self.address))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))
            .expect("a request");
        let answer = wire.send_request(request).await.expect("an answer");
        let cookie = answer.headers().get("set-cookie");
        let cookie = cookie.unwrap_or_else(|| panic!("nobody is signed in: {}", answer.status()));
        let cookie = cookie.to_str().expect("plain");
        cookie.split(';').next().expect("a first part").to_owned()
    }

    /// Resident memory now (`VmRSS`) or at most (`VmHWM`), in 10⁶ bytes.
    fn memory_mb(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("Linux, and the server is alive");
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.expect("a number of kB") * 1024.0 / 1e6
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(wire: &mut SendRequest<Full<Bytes>>, path: &str, cookie: &str) {
    let request = http::Request::get(path)
        .header("host", "127.0.0.1")
        .header("cookie", cookie)
        .body(Full::default())
        .expect("a request");
    wire.ready().await.expect("the connection stays");
    let answer = wire.send_request(request).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a whole answer");
    assert!(
        status.is_success() && !body.to_bytes().is_empty(),
        "{path}: {status}"
    );
}
