//! People with tokens, for tests of the JSON API and the live stream.

use super::personas::{self, Answer};
use atelier_app::account::{Role, Viewer};
use atelier_app::studio::JobState;
use atelier_server::config::ServeConfig;
use atelier_server::http::router;
use atelier_server::startup::Services;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::path::PathBuf;
use tower::ServiceExt as _;

/// The name of the tiny model.
pub const MODEL: &str = "tiny";

/// Somebody with a token.
pub struct Person {
    pub viewer: Viewer,
    pub token: String,
}

/// A running application.
pub struct TestApp {
    pub services: Services,
    /// The first administrator.
    pub admin: Person,
    /// The administrator's session cookie.
    pub cookie: String,
    router: Router,
    app: personas::TestApp,
}

impl TestApp {
    /// With a worker.
    pub async fn start() -> Self {
        Self::build(|_| {}).await
    }

    /// Without one: whatever is queued stays queued, until the test takes it out itself.
    pub async fn without_worker() -> Self {
        Self::with_limits(20, 1000).await
    }

    /// Without a worker, and with these limits of the queue: per user, and in all.
    pub async fn with_limits(per_user: u32, total: u32) -> Self {
        Self::build(|config| {
            config.program = Some(PathBuf::from("false"));
            config.log = "off".into();
            config.queue_limit_per_user = Some(per_user);
            config.queue_limit = Some(total);
        })
        .await
    }

    async fn build(configure: impl FnOnce(&mut ServeConfig)) -> Self {
        let app = personas::TestApp::spawn_with(configure).await;
        let services = app.services.clone();
        let admin = app.admin().await;
        let cookie = format!(
            "{}={}",
            services.accounts.cookie_name(),
            admin.browser.session().unwrap()
        );
        let admin = Person {
            viewer: admin.viewer.clone(),
            token: app.token(admin).await.secret,
        };
        Self {
            router: router(services.clone()).unwrap(),
            services,
            admin,
            cookie,
            app,
        }
    }

    /// Another user.
    pub async fn person(&self, name: &str, role: Role) -> Person {
        let persona = self.app.user(name, role).await;
        Person {
            token: self.app.token(&persona).await.secret,
            viewer: persona.viewer,
        }
    }

    /// A browser in which somebody signs in.
    pub async fn browser_of(&self, name: &str) -> personas::Browser {
        let browser = self.app.anonymous();
        let answer = browser.sign_in(name, personas::PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser
    }

    /// Asks, and reads the whole answer.
    pub async fn call(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.open(request).await.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    /// Asks, and leaves the answer's body to be read piece by piece.
    pub async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// `GET` as somebody.
    pub async fn get(&self, who: &Person, path: &str) -> Answer {
        self.call(request("GET", path, who, None)).await
    }

    /// `POST` as somebody.
    pub async fn post(&self, who: &Person, path: &str, body: &Value) -> Answer {
        self.call(request("POST", path, who, Some(body))).await
    }

    /// Cancels what was left waiting on purpose, and stops the server.
    pub async fn stop(self) {
        for job in self.services.jobs.admin_queue().await.unwrap() {
            if job.state == JobState::Queued {
                self.services.jobs.admin_cancel(&job.id).await.unwrap();
            }
        }
        self.app.stop().await;
    }
}

/// A request as somebody.
pub fn request(method: &str, path: &str, who: &Person, body: Option<&Value>) -> Request<Body> {
    let builder = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", who.token));
    match body {
        Some(body) => builder
            .header("content-type", "application/json")
            .body(Body::from(body.to_string())),
        None => builder.body(Body::empty()),
    }
    .unwrap()
}
