//! Signing in through an OpenID Connect provider: a small one, on a socket of its own, that signs with
//! ES256, checks the client, the address it sends people back to, and PKCE, and can be told to lie.

use crate::personas::{Answer, Browser, PASSWORD, TestApp};
use atelier_app::account::Role;
use atelier_server::config::{Cli, Command, ServeConfig, parse};
use atelier_server::startup::Application;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use url::Url;

const CLIENT: &str = "atelier test";
const SECRET: &str = "a secret: with signs/+";

/// What the provider would say in exchange for a code.
struct Grant {
    claims: Value,
    challenge: String,
    redirect_uri: String,
}

struct Provider {
    issuer: String,
    key: EcdsaKeyPair,
    /// Somebody else's, which claims the same name.
    forged: EcdsaKeyPair,
    is_forged: AtomicBool,
    key_id: Mutex<String>,
    grants: Mutex<HashMap<String, Grant>>,
}

impl Provider {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let new_key = || {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
        };
        let provider = Arc::new(Self {
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            key: new_key(),
            forged: new_key(),
            is_forged: AtomicBool::new(false),
            key_id: Mutex::new("first".into()),
            grants: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": *self.key_id.lock().unwrap() });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let key = if self.is_forged.load(Ordering::Relaxed) {
            &self.forged
        } else {
            &self.key
        };
        let mark = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mark.as_ref()))
    }

    /// What a person does at the provider: signs in as `subject`. Answers the way back.
    fn person_signs_in(&self, to: &str, subject: &str, lie: impl FnOnce(&mut Value)) -> String {
        let url: Url = to.parse().unwrap();
        assert_eq!(
            format!("{}/sign-in", self.issuer),
            to.split('?').next().unwrap()
        );
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["client_id"], CLIENT);
        assert_eq!(query["code_challenge_method"], "S256");
        assert!(query["scope"].split(' ').any(|scope| scope == "openid"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": self.issuer, "sub": subject, "aud": CLIENT, "exp": now + 300, "iat": now,
            "nonce": query["nonce"], "preferred_username": format!("{subject} of the lab"),
        });
        lie(&mut claims);
        let code = hex::encode(rand::random::<[u8; 8]>());
        let grant = Grant {
            claims,
            challenge: query["code_challenge"].clone(),
            redirect_uri: query["redirect_uri"].clone(),
        };
        self.grants.lock().unwrap().insert(code.clone(), grant);
        let mut back: Url = query["redirect_uri"].parse().unwrap();
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &query["state"]);
        format!("{}?{}", back.path(), back.query().unwrap())
    }
}

async fn discovery(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let issuer = &provider.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/sign-in"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    }))
}

async fn keys(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let point = provider.key.public_key().as_ref().to_vec();
    Json(json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "use": "sig", "kid": *provider.key_id.lock().unwrap(),
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
    }] }))
}

async fn token(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    let encode =
        |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let basic = STANDARD.encode(format!("{}:{}", encode(CLIENT), encode(SECRET)));
    if headers
        .get("authorization")
        .is_none_or(|value| value != &format!("Basic {basic}"))
    {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let grant = provider.grants.lock().unwrap().remove(&form["code"]);
    let grant = grant.ok_or(StatusCode::BAD_REQUEST)?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes()));
    if form["grant_type"] != "authorization_code"
        || form["redirect_uri"] != grant.redirect_uri
        || challenge != grant.challenge
    {
        return Err(StatusCode::BAD_REQUEST);
    }
    let word = provider.sign(&grant.claims);
    Ok(Json(
        json!({ "access_token": "x", "token_type": "Bearer", "id_token": word }),
    ))
}

async fn app_with(provider: &Provider, newcomers: Option<Role>) -> TestApp {
    TestApp::spawn_with(|config| {
        config.public_url = Some("http://atelier.test".parse().unwrap());
        config.oidc.issuer = Some(provider.issuer.parse().unwrap());
        config.oidc.client_id = Some(CLIENT.into());
        config.oidc.client_secret = Some(SECRET.into());
        config.oidc.name = "the lab".into();
        config.oidc.newcomers = newcomers;
    })
    .await
}

/// Goes there and comes back.
async fn through(
    browser: &Browser,
    provider: &Provider,
    start: &str,
    subject: &str,
    lie: impl FnOnce(&mut Value),
) -> Answer {
    let away = browser.get(start).await;
    assert_eq!(away.status, StatusCode::FOUND, "{}", away.text());
    let back = provider.person_signs_in(away.header("location"), subject, lie);
    browser.get(&back).await
}

#[tokio::test]
async fn strangers_become_users_only_where_that_is_said() {
    let provider = Provider::start().await;
    let app = app_with(&provider, None).await;
    app.admin().await;
    let visitor = app.anonymous();
    assert!(
        visitor
            .get("/sign-in")
            .await
            .text()
            .contains("Sign in with the lab")
    );
    let refused = through(&visitor, &provider, "/oidc/start", "grace", |_| {}).await;
    assert_eq!(refused.header("location"), "/sign-in?refused=unknown");
    assert!(visitor.session().is_none());
    let page = visitor.get("/sign-in?refused=unknown").await.text();
    assert!(
        page.contains("Nobody here is known by that account"),
        "{page}"
    );
    app.stop().await;

    let app = app_with(&provider, Some(Role::Viewer)).await;
    app.admin().await;
    let visitor = app.anonymous();
    let start = "/oidc/start?next=%2Fgallery%3Fa%3D1";
    let arrived = through(&visitor, &provider, start, "grace", |_| {}).await;
    assert_eq!(arrived.header("location"), "/gallery?a=1");
    assert!(visitor.session().is_some());
    assert_eq!(app.user_row("grace of the lab").await.role, Role::Viewer);
    // Again: the same user, whatever they call themselves by now.
    let again = app.anonymous();
    through(&again, &provider, "/oidc/start", "grace", |claims| {
        claims["preferred_username"] = "ada".into();
    })
    .await;
    let me = again.get("/api/account").await.json();
    assert_eq!(me["name"], "grace of the lab");
    // Somebody else who calls themselves ada is not ada.
    let false_ada = app.anonymous();
    through(&false_ada, &provider, "/oidc/start", "eve", |claims| {
        claims["preferred_username"] = "ada".into();
    })
    .await;
    let them = false_ada.get("/api/account").await.json();
    assert_eq!(
        (&them["name"], &them["role"]),
        (&"ada 2".into(), &"viewer".into())
    );
    // Nor does the way on lead to another site.
    let lured = app.anonymous();
    let start = "/oidc/start?next=%2F%2Fevil.example";
    let arrived = through(&lured, &provider, start, "grace", |_| {}).await;
    assert_eq!(arrived.header("location"), "/");
    app.stop().await;
}

#[tokio::test]
async fn who_is_signed_in_connects_and_disconnects() {
    let provider = Provider::start().await;
    let app = app_with(&provider, None).await;
    let bob = app.member("bob").await;
    let linked = through(
        &bob.browser,
        &provider,
        "/oidc/start?link&next=/account",
        "robert",
        |_| {},
    )
    .await;
    assert_eq!(linked.header("location"), "/account");
    let elsewhere = app.anonymous();
    through(&elsewhere, &provider, "/oidc/start", "robert", |_| {}).await;
    assert_eq!(elsewhere.get("/api/account").await.json()["name"], "bob");

    // One account there is one user here.
    let carol = app.member("carol").await;
    let taken = through(
        &carol.browser,
        &provider,
        "/oidc/start?link",
        "robert",
        |_| {},
    )
    .await;
    assert_eq!(taken.header("location"), "/account?refused=taken");
    let nobody = app.anonymous().get("/oidc/start?link").await;
    assert!(
        nobody.header("location").starts_with("/sign-in"),
        "{}",
        nobody.header("location")
    );

    // A closed account stays closed, and its second step is asked for.
    bob.browser
        .call("begin_two_step", &[("password", PASSWORD)])
        .await;
    app.tamper("update two_step set confirmed_at = 1").await;
    let halfway = app.anonymous();
    let answer = through(&halfway, &provider, "/oidc/start", "robert", |_| {}).await;
    assert_eq!(answer.header("location"), "/sign-in/code?next=%2F");
    assert!(halfway.session().is_none());
    app.tamper("delete from two_step").await;
    let admin = &app.admin().await.browser;
    let id = bob.viewer.id.0.to_string();
    admin
        .call("set_user_disabled", &[("id", &id), ("disabled", "true")])
        .await;
    let shut = through(&app.anonymous(), &provider, "/oidc/start", "robert", |_| {}).await;
    assert_eq!(shut.header("location"), "/sign-in?refused=closed");
    admin
        .call("set_user_disabled", &[("id", &id), ("disabled", "false")])
        .await;
    bob.browser.sign_in("bob", PASSWORD).await;
    let gone = bob.browser.call("unlink_outside", &[]).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
    let unknown = through(&app.anonymous(), &provider, "/oidc/start", "robert", |_| {}).await;
    assert_eq!(unknown.header("location"), "/sign-in?refused=unknown");
    app.stop().await;
}

#[tokio::test]
async fn words_that_must_not_be_believed_open_nothing() {
    let provider = Provider::start().await;
    let app = app_with(&provider, Some(Role::Member)).await;
    app.admin().await;
    type Lie = fn(&mut Value);
    let lies: [(&str, Lie); 6] = [
        ("another issuer", |claims| {
            claims["iss"] = "http://evil.example".into()
        }),
        ("for another client", |claims| {
            claims["aud"] = "somebody else".into()
        }),
        ("for several, ours not chosen", |claims| {
            claims["aud"] = json!([CLIENT, "somebody else"]);
        }),
        ("expired", |claims| claims["exp"] = 1_000_000_000.into()),
        ("of another request", |claims| {
            claims["nonce"] = "old".into()
        }),
        ("about nobody", |claims| claims["sub"] = "".into()),
    ];
    for (what, lie) in lies {
        let visitor = app.anonymous();
        let answer = through(&visitor, &provider, "/oidc/start", "mallory", lie).await;
        assert_eq!(
            answer.header("location"),
            "/sign-in?refused=doubt",
            "{what}"
        );
        assert!(visitor.session().is_none(), "{what}");
    }
    // A state that this browser did not leave with, a code that was used, no cookie at all.
    let visitor = app.anonymous();
    let away = visitor.get("/oidc/start").await;
    let back = provider.person_signs_in(away.header("location"), "grace", |_| {});
    let other = app.anonymous();
    other.get("/oidc/start").await;
    for stranger in [&other, &app.anonymous()] {
        let lost = stranger.get(&back).await;
        assert_eq!(lost.header("location"), "/sign-in?refused=lost");
    }
    assert_eq!(visitor.get(&back).await.header("location"), "/");
    let replayed = visitor.get(&back).await;
    assert!(
        replayed.header("location").ends_with("?refused=lost"),
        "the cookie is gone"
    );
    // The provider's own no.
    let away = visitor.copy();
    let url: Url = away
        .get("/oidc/start")
        .await
        .header("location")
        .parse()
        .unwrap();
    let state = url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .unwrap()
        .1
        .into_owned();
    let denied = away
        .get(&format!("/oidc/callback?error=access_denied&state={state}"))
        .await;
    assert!(denied.header("location").ends_with("?refused=denied"));

    // A key of somebody else's is not believed, whatever it calls itself.
    provider.is_forged.store(true, Ordering::Relaxed);
    let forged = through(&app.anonymous(), &provider, "/oidc/start", "grace", |_| {}).await;
    assert_eq!(forged.header("location"), "/sign-in?refused=doubt");
    provider.is_forged.store(false, Ordering::Relaxed);
    // New keys are asked for.
    *provider.key_id.lock().unwrap() = "second".into();
    let later = app.anonymous();
    through(&later, &provider, "/oidc/start", "grace", |_| {}).await;
    assert!(later.session().is_some());
    app.stop().await;
}

#[tokio::test]
async fn settings_that_do_not_fit_are_named() {
    let data = tempfile::tempdir().unwrap();
    let config = |words: &[&str]| -> ServeConfig {
        let base = ["atelier", "serve", "--addr", "127.0.0.1:0"];
        let Ok(Cli {
            command: Command::Serve(mut config),
        }) = parse(base.iter().chain(words).map(Into::into))
        else {
            panic!("{words:?}");
        };
        config.data_dir.path = data.path().to_owned();
        *config
    };
    for (words, named) in [
        (&["--oidc-issuer", "https://x.example"][..], "--public-url"),
        (
            &[
                "--oidc-issuer",
                "https://x.example",
                "--public-url",
                "https://a.example",
            ],
            "--oidc-client-id",
        ),
    ] {
        let Err(error) = Application::build(config(words)).await else {
            panic!("{words:?} starts");
        };
        assert!(error.to_string().contains(named), "{error}");
    }
    for wrong in [
        "http://x.example",
        "ftp://x.example",
        "nonsense",
        "https://x.example/?a",
    ] {
        let base = ["atelier", "serve", "--oidc-issuer", wrong];
        assert!(parse(base.iter().map(Into::into)).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_provider_that_is_away_leaves_the_other_door() {
    let provider = Provider::start().await;
    let app = TestApp::spawn_with(|config| {
        config.public_url = Some("http://atelier.test".parse().unwrap());
        // Nobody listens there.
        config.oidc.issuer = Some("http://127.0.0.1:9".parse().unwrap());
        config.oidc.client_id = Some(CLIENT.into());
    })
    .await;
    app.admin().await;
    let visitor = app.anonymous();
    let away = visitor.get("/oidc/start").await;
    assert_eq!(away.header("location"), "/sign-in?refused=away");
    let connecting = app.admin().await.browser.get("/oidc/start?link").await;
    assert_eq!(connecting.header("location"), "/account?refused=away");
    assert_eq!(
        visitor.sign_in("ada", PASSWORD).await.status,
        StatusCode::OK
    );
    drop(provider);
    app.stop().await;
}
