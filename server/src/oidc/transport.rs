//! Asking the provider: https with the system's certificate authorities, short answers, no redirects,
//! a limit on time. Plain http is for this machine itself only.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Longest answer.
const MOST_BYTES: usize = 1024 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether an address may be asked: https, or this machine itself.
pub fn is_safe(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}

/// `GET` of a JSON document.
///
/// # Errors
/// In words for the log.
pub async fn get<T: DeserializeOwned>(url: &Url) -> Result<T, String> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .body(Full::default());
    ask(url, request).await
}

/// `POST` of a form, with the client's name and secret where it has one (RFC 6749, §2.3.1).
///
/// # Errors
/// In words for the log.
pub async fn post<T: DeserializeOwned>(
    url: &Url,
    fields: &[(&str, &str)],
    authorization: Option<&str>,
) -> Result<T, String> {
    let form: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let mut builder = Request::builder()
        .method(Method::POST)
        .uri(url.as_str())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(text) = authorization {
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| "the client's secret holds characters that cannot be sent".to_owned())?;
        value.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, value);
    }
    ask(url, builder.body(Full::from(form))).await
}

async fn ask<T: DeserializeOwned>(
    url: &Url,
    request: Result<Request<Full<Bytes>>, http::Error>,
) -> Result<T, String> {
    let host = url.host_str().unwrap_or_default().to_owned();
    if !is_safe(url) {
        return Err(format!("{url} is not https"));
    }
    let mut request = request.map_err(|error| format!("{url} cannot be asked: {error}"))?;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("atelier/", env!("CARGO_PKG_VERSION"))),
    );
    let asked = async {
        let response = client()
            .request(request)
            .await
            .map_err(|error| format!("{host} cannot be reached: {error}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await
            .map_err(|error| format!("{host}: {error}"))?
            .to_bytes();
        if !status.is_success() {
            let words: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(format!("{host} answers {status}: {words}"));
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("{host} answers what cannot be read: {error}"))
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| format!("{host} did not answer within {} s", PATIENCE.as_secs()))?
}

/// A client of its own for each question: there are few, and far between.
fn client() -> Client<
    hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>,
    Full<Bytes>,
> {
    let mut roots = RootCertStore::empty();
    // Without any, each https provider fails with words about its certificate.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    Client::builder(TokioExecutor::new()).build(connector)
}
