//! A server on this machine that plays the hub: its listing, its marks, its redirects to a place
//! that has the bytes, and on request everything that can go wrong on the way.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sha1::Digest as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const REPO: &str = "somebody/tiny-sdxl";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const TOKEN: &str = "hf_secret";

/// What the hub does, and what it was asked.
#[derive(Default)]
pub struct Behaviour {
    /// The repository's files.
    pub files: BTreeMap<String, Bytes>,
    /// The commit that `main` names.
    pub commit: String,
    /// Listed instead of what the file has: size.
    pub false_sizes: BTreeMap<String, u64>,
    /// Names listed besides the files.
    pub more_names: Vec<String>,
    /// The listing has names only, as without `blobs=true`.
    pub bare_listing: bool,
    /// Ends the answers to requests for a file after so many bytes, one entry a request.
    pub cuts: BTreeMap<String, Vec<usize>>,
    /// Sends this many answers for a file with one bit turned over.
    pub corrupt: BTreeMap<String, u32>,
    /// Answers to come before any file is sent: status and headers, one a request.
    pub refusals: BTreeMap<String, Vec<Refusal>>,
    /// Sends everything from the start whatever `Range` says.
    pub ignores_range: bool,
    /// Bytes come from another origin, to which the token must not go.
    pub redirects: bool,
    /// The token without which nothing is given.
    pub needs_token: bool,
    /// Says nothing of gates or tokens but this code.
    pub gated: bool,
    /// Sends slowly: a pause after each this many bytes.
    pub slow: Option<(usize, Duration)>,
    /// Every request: where, which range, with a token or not.
    pub asked: Vec<Asked>,
    /// Bytes sent of each file.
    pub served: BTreeMap<String, u64>,
}

/// A status and headers.
pub type Refusal = (u16, Vec<(&'static str, String)>);

#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub has_token: bool,
    pub at_store: bool,
}

/// The hub, and the other origin that has the bytes.
pub struct FakeHub {
    pub url: String,
    state: Hubs,
}

#[derive(Clone)]
struct Hubs {
    behaviour: Arc<Mutex<Behaviour>>,
    store: String,
}

impl FakeHub {
    /// With the files of the tiny model.
    pub async fn start() -> Self {
        let mut files = BTreeMap::new();
        read_folder(&tiny(), &tiny(), &mut files);
        // What a real repository has besides, and nobody should fetch.
        for extra in [
            ".gitattributes",
            "README.md",
            "unet/diffusion_pytorch_model.bin",
            "unet/model.onnx",
            "tiny.safetensors",
            "vae_1_0/config.json",
        ] {
            files.insert(extra.into(), Bytes::from(vec![7; 3000]));
        }
        Self::with(files).await
    }

    pub async fn with(files: BTreeMap<String, Bytes>) -> Self {
        let behaviour = Arc::new(Mutex::new(Behaviour {
            files,
            commit: COMMIT.into(),
            ..Behaviour::default()
        }));
        let store = listen().await;
        let hub = listen().await;
        let state = Hubs {
            behaviour,
            store: format!("http://{}", store.local_addr().unwrap()),
        };
        let url = format!("http://{}", hub.local_addr().unwrap());
        let pages = Router::new()
            .route(
                "/api/models/{owner}/{name}/revision/{revision}",
                get(listing),
            )
            .route("/{owner}/{name}/resolve/{commit}/{*path}", get(resolve))
            .with_state(state.clone());
        let bytes = Router::new()
            .route("/store/{*path}", get(from_store))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(hub, pages).await });
        tokio::spawn(async move { axum::serve(store, bytes).await });
        Self { url, state }
    }

    /// Changes what it does, or reads what it did.
    pub fn change<T>(&self, act: impl FnOnce(&mut Behaviour) -> T) -> T {
        act(&mut self.state.behaviour.lock().unwrap())
    }

    pub fn served(&self, path: &str) -> u64 {
        self.change(|hub| hub.served.get(path).copied().unwrap_or(0))
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.change(|hub| hub.asked.clone())
    }
}

/// The folder whose files it has.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/fixtures/models/tiny-base")
}

/// The largest file of it.
pub const LARGE: &str = "unet/diffusion_pytorch_model.safetensors";

fn read_folder(root: &Path, folder: &Path, into: &mut BTreeMap<String, Bytes>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(root, &path, into);
        } else {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            into.insert(name, std::fs::read(&path).unwrap().into());
        }
    }
}

async fn listen() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn has_token(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".bin")
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}

fn git_sha1(bytes: &[u8]) -> String {
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex::encode(hash.finalize())
}

fn closed(hub: &Behaviour, headers: &HeaderMap) -> Option<Response> {
    if hub.gated {
        return Some((StatusCode::FORBIDDEN, [("x-error-code", "GatedRepo")], "").into_response());
    }
    let shut = hub.needs_token && !has_token(headers);
    shut.then(|| (StatusCode::UNAUTHORIZED, "").into_response())
}

fn refusal(hub: &mut Behaviour, path: &str) -> Option<Response> {
    let refusals = hub.refusals.get_mut(path)?;
    if refusals.is_empty() {
        return None;
    }
    let (status, headers) = refusals.remove(0);
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    Some(response)
}

async fn listing(
    State(state): State<Hubs>,
    UrlPath((owner, name, revision)): UrlPath<(String, String, String)>,
    request: Request,
) -> Response {
    let mut hub = state.behaviour.lock().unwrap();
    hub.asked.push(Asked {
        path: "listing".into(),
        range: None,
        if_range: None,
        has_token: has_token(request.headers()),
        at_store: false,
    });
    if let Some(response) = refusal(&mut hub, "listing").or_else(|| closed(&hub, request.headers()))
    {
        return response;
    }
    if format!("{owner}/{name}") != REPO {
        return (
            StatusCode::UNAUTHORIZED,
            [("x-error-code", "RepoNotFound")],
            "",
        )
            .into_response();
    }
    if revision != "main" && revision != hub.commit {
        return (
            StatusCode::NOT_FOUND,
            [("x-error-code", "RevisionNotFound")],
            "",
        )
            .into_response();
    }
    let mut siblings: Vec<Value> = hub
        .files
        .iter()
        .map(|(path, bytes)| {
            let size = hub
                .false_sizes
                .get(path)
                .copied()
                .unwrap_or(bytes.len() as u64);
            match (hub.bare_listing, is_large(path)) {
                (true, _) => json!({ "rfilename": path }),
                (false, true) => {
                    json!({ "rfilename": path, "size": size, "blobId": git_sha1(b"pointer"),
                    "lfs": { "sha256": sha256(bytes), "size": size, "pointerSize": 134 } })
                }
                (false, false) => {
                    json!({ "rfilename": path, "size": size, "blobId": git_sha1(bytes) })
                }
            }
        })
        .collect();
    siblings.extend(
        hub.more_names
            .iter()
            .map(|name| json!({ "rfilename": name })),
    );
    axum::Json(json!({ "id": REPO, "sha": hub.commit, "siblings": siblings })).into_response()
}

async fn resolve(
    State(state): State<Hubs>,
    UrlPath((_, _, commit, path)): UrlPath<(String, String, String, String)>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let mut hub = state.behaviour.lock().unwrap();
    hub.asked.push(asked(&path, headers, false));
    if let Some(response) = refusal(&mut hub, &path).or_else(|| closed(&hub, headers)) {
        return response;
    }
    let Some(bytes) = hub
        .files
        .get(&path)
        .filter(|_| commit == hub.commit)
        .cloned()
    else {
        return (
            StatusCode::NOT_FOUND,
            [("x-error-code", "EntryNotFound")],
            "",
        )
            .into_response();
    };
    let mark = if is_large(&path) {
        sha256(&bytes)
    } else {
        git_sha1(&bytes)
    };
    if hub.redirects && is_large(&path) {
        return (
            StatusCode::FOUND,
            [
                ("location", format!("{}/store/{path}", state.store)),
                ("x-linked-etag", format!("\"{mark}\"")),
                ("x-linked-size", bytes.len().to_string()),
                ("x-repo-commit", commit),
            ],
        )
            .into_response();
    }
    let mut response = send(&mut hub, &path, &bytes, headers, &mark);
    let commit = commit.parse().unwrap();
    response.headers_mut().insert("x-repo-commit", commit);
    response
}

async fn from_store(
    State(state): State<Hubs>,
    UrlPath(path): UrlPath<String>,
    request: Request,
) -> Response {
    let mut hub = state.behaviour.lock().unwrap();
    hub.asked.push(asked(&path, request.headers(), true));
    let Some(bytes) = hub.files.get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // The store has marks of its own.
    let mark = format!("store-{}", bytes.len());
    send(&mut hub, &path, &bytes, request.headers(), &mark)
}

fn asked(path: &str, headers: &HeaderMap, at_store: bool) -> Asked {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    Asked {
        path: path.into(),
        range: text("range"),
        if_range: text("if-range"),
        has_token: headers.contains_key("authorization"),
        at_store,
    }
}

/// The bytes, whole or from where they were asked for, with the faults that were asked for.
fn send(
    hub: &mut Behaviour,
    path: &str,
    bytes: &Bytes,
    headers: &HeaderMap,
    mark: &str,
) -> Response {
    let total = bytes.len();
    let mark = format!("\"{mark}\"");
    let condition = headers.get("if-range").is_none_or(|value| value == &mark);
    let start: usize = headers
        .get("range")
        .filter(|_| condition && !hub.ignores_range)
        .and_then(|value| {
            value
                .to_str()
                .ok()?
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    if start > 0 && start >= total {
        let range = format!("bytes */{total}");
        return (
            StatusCode::RANGE_NOT_SATISFIABLE,
            [("content-range", range)],
        )
            .into_response();
    }
    let mut rest = bytes.slice(start..).to_vec();
    if let Some(left) = hub.corrupt.get_mut(path).filter(|left| **left > 0) {
        *left -= 1;
        let middle = rest.len() / 2;
        rest[middle] ^= 1;
    }
    let cut = hub
        .cuts
        .get_mut(path)
        .filter(|cuts| !cuts.is_empty())
        .map(|cuts| cuts.remove(0));
    let length = rest.len();
    if let Some(cut) = cut {
        rest.truncate(cut);
    }
    *hub.served.entry(path.into()).or_default() += rest.len() as u64;
    let (block, pause) = hub.slow.unwrap_or((64 * 1024, Duration::ZERO));
    let blocks: Vec<Bytes> = rest.chunks(block).map(Bytes::copy_from_slice).collect();
    let body = futures::stream::unfold(
        (blocks.into_iter(), cut.is_some()),
        move |(mut blocks, cut)| async move {
            if pause > Duration::ZERO {
                tokio::time::sleep(pause).await;
            }
            match blocks.next() {
                Some(block) => Some((Ok(block), (blocks, cut))),
                // The connection ends in the middle of what was promised, once that much is out.
                None if cut => {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Some((Err(std::io::Error::other("cut")), (blocks, false)))
                }
                None => None,
            }
        },
    );
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert("content-length", length.into());
    headers.insert("etag", mark.parse().unwrap());
    if start > 0 {
        let range = format!("bytes {start}-{}/{total}", total - 1);
        headers.insert("content-range", range.parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}
