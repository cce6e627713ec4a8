//! The real application on a folder of its own, and the people who use it. Nothing is replaced:
//! tests change configuration only. Requests go through the whole router; `Application` also
//! listens on a free port, for tests of the socket.

use atelier_app::account::{Credentials, NewToken, Role, Scope, Viewer};
use atelier_app::admin::UserRow;
use atelier_app::backend::{Accounts as _, Admin as _};
use atelier_app::studio::JobState;
use atelier_server::config::{Cli, Command, ModelFolder, ServeConfig, parse};
use atelier_server::startup::{Application, Services, StartupError};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// A password that the rules accept.
pub const PASSWORD: &str = "plum harbour wick nine";

/// A tiny random SDXL pipeline: real in every part, and an image takes a moment.
pub fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/fixtures/models/tiny-base")
}

/// A running server.
pub struct TestApp {
    pub address: SocketAddr,
    pub services: Services,
    pub setup_code: Option<String>,
    router: axum::Router,
    running: JoinHandle<Result<(), StartupError>>,
    admin: tokio::sync::OnceCell<Persona>,
    data: TempDir,
}

impl TestApp {
    /// An empty server on a new folder.
    pub async fn spawn() -> Self {
        Self::spawn_with(|_| {}).await
    }

    /// As [`TestApp::spawn`], with another configuration.
    pub async fn spawn_with(configure: impl FnOnce(&mut ServeConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut config = default_config(data.path());
        configure(&mut config);
        let application = Application::build(config).await.unwrap();
        Self {
            address: application.address(),
            services: application.services().clone(),
            setup_code: application.setup_code().map(str::to_owned),
            router: application.router(),
            running: tokio::spawn(application.run_until_stopped()),
            admin: tokio::sync::OnceCell::new(),
            data,
        }
    }

    /// The folder of the database and the images.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Somebody who is not signed in, at an address of their own.
    pub fn anonymous(&self) -> Browser {
        Browser::new(self.router.clone())
    }

    /// Somebody who is not signed in, at another application.
    pub fn anonymous_at(&self, router: axum::Router) -> Browser {
        Browser::new(router)
    }

    /// The first administrator, made with the setup code when first asked for.
    pub async fn admin(&self) -> &Persona {
        self.admin
            .get_or_init(|| async {
                let browser = self.anonymous();
                let code = self
                    .setup_code
                    .as_deref()
                    .expect("an empty server has a code");
                let answer = browser.set_up(code, "ada", PASSWORD).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                self.persona("ada", browser).await
            })
            .await
    }

    /// A member, made by the administrator and signed in.
    pub async fn member(&self, name: &str) -> Persona {
        self.user(name, Role::Member).await
    }

    /// A user of any role, made by the administrator and signed in.
    pub async fn user(&self, name: &str, role: Role) -> Persona {
        let admin = self.admin().await;
        let credentials = Credentials {
            name: name.into(),
            password: PASSWORD.into(),
        };
        self.services
            .admin
            .create_user(&admin.viewer, credentials, role)
            .await
            .unwrap();
        let browser = self.anonymous();
        let answer = browser.sign_in(name, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        self.persona(name, browser).await
    }

    async fn persona(&self, name: &str, browser: Browser) -> Persona {
        let secret = browser.session().expect("a session cookie");
        let viewer = self
            .services
            .accounts
            .viewer_of_session(&secret)
            .await
            .unwrap();
        let viewer = viewer.unwrap_or_else(|| panic!("{name} is signed in"));
        Persona { viewer, browser }
    }

    /// An API token of a user.
    pub async fn token(&self, persona: &Persona) -> NewToken {
        self.services
            .accounts
            .create_token(&persona.viewer, "test", None, &Scope::USUAL)
            .await
            .unwrap()
    }

    /// A client that sends a token and has no cookie.
    pub fn with_token(&self, token: &str) -> Browser {
        let mut browser = self.anonymous();
        browser.bearer = Some(token.to_owned());
        browser
    }

    /// A user as administrators see them.
    pub async fn user_row(&self, name: &str) -> UserRow {
        let admin = self.admin().await;
        let users = self.services.admin.list_users(&admin.viewer).await.unwrap();
        users
            .into_iter()
            .find(|user| user.name == name)
            .expect("the user exists")
    }

    /// Changes rows as only time or an accident could.
    pub async fn tamper(&self, sql: &'static str) {
        let mut write = self.services.db.write().await.unwrap();
        sqlx::query(sql).execute(&mut *write).await.unwrap();
        write.commit().await.unwrap();
    }

    /// Stops the server as a signal would; nothing may be left waiting or running.
    pub async fn stop(self) {
        let left: Vec<_> = self
            .services
            .jobs
            .admin_queue()
            .await
            .unwrap()
            .into_iter()
            .filter(|job| matches!(job.state, JobState::Queued | JobState::Running))
            .collect();
        assert!(left.is_empty(), "a test left jobs behind: {left:?}");
        self.services.shutdown.request();
        self.running.await.unwrap().unwrap();
    }
}

/// What `atelier serve` would have, on a free port and a folder of its own.
pub fn default_config(data_dir: &Path) -> ServeConfig {
    let words = [
        "atelier",
        "serve",
        "--addr",
        "127.0.0.1:0",
        "--device",
        "cpu",
        "--log",
        "warn",
    ];
    let Ok(Cli {
        command: Command::Serve(mut config),
    }) = parse(words.map(Into::into))
    else {
        panic!("these are the words of `serve`");
    };
    config.data_dir.path = data_dir.to_owned();
    config.program = Some(PathBuf::from(env!("CARGO_BIN_EXE_atelier")));
    config.models.folders = vec![ModelFolder {
        name: "tiny".into(),
        path: tiny_model(),
    }];
    config.site_root = Some(data_dir.join("site"));
    *config
}

/// Somebody signed in.
pub struct Persona {
    pub viewer: Viewer,
    pub browser: Browser,
}

/// Something that sends requests and keeps cookies, as a browser does.
pub struct Browser {
    router: axum::Router,
    cookies: Mutex<BTreeMap<String, String>>,
    bearer: Option<String>,
    peer: SocketAddr,
}

impl Browser {
    fn new(router: axum::Router) -> Self {
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        Self {
            router,
            cookies: Mutex::default(),
            bearer: None,
            peer,
        }
    }

    /// The same browser at another address.
    pub fn at(mut self, address: [u8; 4]) -> Self {
        self.peer = SocketAddr::from((address, 40_000));
        self
    }

    /// The session secret it keeps.
    pub fn session(&self) -> Option<String> {
        let cookies = self.cookies.lock().unwrap();
        let found = cookies.iter().find(|(name, _)| name.ends_with("sid"));
        found.map(|(_, value)| value.clone())
    }

    /// The same browser as it is now: later cookies do not reach the copy.
    pub fn copy(&self) -> Self {
        Self {
            router: self.router.clone(),
            cookies: Mutex::new(self.cookies.lock().unwrap().clone()),
            bearer: self.bearer.clone(),
            peer: self.peer,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty()).unwrap())
            .await
    }

    pub async fn post_json(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/json");
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Calls a server function as wasm does: a form, and JSON back.
    pub async fn call(&self, function: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(self.call_request(function, fields)).await
    }

    /// The request of [`Browser::call`], for tests that change it first.
    pub fn call_request(&self, function: &str, fields: &[(&str, &str)]) -> Request<Body> {
        let encoded: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", percent_encode(value)))
            .collect();
        self.request(Method::POST, &format!("/app/{function}"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Body::from(encoded.join("&")))
            .unwrap()
    }

    pub async fn set_up(&self, code: &str, name: &str, password: &str) -> Answer {
        let fields = [("code", code), ("name", name), ("password", password)];
        self.call("create_first_admin", &fields).await
    }

    pub async fn sign_in(&self, name: &str, password: &str) -> Answer {
        self.call("sign_in", &[("name", name), ("password", password)])
            .await
    }

    /// A request with the cookie and the token that this browser has.
    pub fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "atelier.test");
        let cookies: Vec<String> = self
            .cookies
            .lock()
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        if let Some(token) = &self.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request
    }

    /// Sends a request through the whole router and keeps the cookie it brings.
    pub async fn send(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(SET_COOKIE) {
            self.keep(cookie.to_str().unwrap());
        }
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn keep(&self, set_cookie: &str) {
        let (name, rest) = set_cookie.split_once('=').unwrap();
        let value = rest.split(';').next().unwrap();
        let is_cleared = value.is_empty() || set_cookie.contains("Max-Age=0");
        let mut cookies = self.cookies.lock().unwrap();
        if is_cleared {
            cookies.remove(name);
        } else {
            cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The field that a problem (JSON API) or an `AppError` (server function) names.
    pub fn field(&self) -> String {
        let json = self.json();
        let field = if json["field"].is_string() {
            &json["field"]
        } else {
            &json["Invalid"]["field"]
        };
        field.as_str().unwrap_or("").to_owned()
    }

    /// Everything that may not differ between two answers that should look the same: all but the
    /// request's id and the time.
    pub fn looks(&self) -> (StatusCode, Vec<(String, String)>, String) {
        let headers = self
            .headers
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "x-request-id" | "date"))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        (self.status, headers, self.text())
    }
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
