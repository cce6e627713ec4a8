//! One HTTP GET as the hub needs it: TLS, proxies, redirects that the token does not follow to
//! other hosts, and a limit on silence instead of one on the whole transfer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use super::HubError;

/// Redirects followed before giving up.
const MAX_REDIRECTS: usize = 10;
/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(20);

/// Sends requests.
pub(super) struct Transport {
    direct: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    tls: ClientConfig,
    proxies: Matcher,
    silence: Duration,
    /// Why no certificate authority is known, where that is so.
    no_roots: Option<String>,
}

/// An answer, its body still to come.
pub struct Reply {
    /// Its status: no redirect.
    pub status: StatusCode,
    /// The headers of the server that has the bytes.
    pub headers: HeaderMap,
    /// What the hub itself said of the file (`X-Linked-Etag`, `X-Linked-Size`, `ETag`) before it
    /// sent us elsewhere; the same as `headers` where it did not.
    pub from_hub: HeaderMap,
    body: Incoming,
    silence: Duration,
    host: String,
}

impl Transport {
    pub(super) fn new(proxies: Matcher, silence: Duration) -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.0);
        let no_roots = (added == 0).then(|| {
            let cause = found.1.unwrap_or_else(|| "none is installed".into());
            format!("no certificate authority is known ({cause}); install the system's package of CA certificates")
        });
        // The one provider that is compiled in; both versions that it speaks are safe ones.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring offers TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let direct = Client::builder(TokioExecutor::new()).build(
            HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(connector()),
        );
        Self {
            direct,
            tls,
            proxies,
            silence,
            no_roots,
        }
    }

    /// Asks for `url` and follows redirects. The token goes to the hub's own origin only.
    ///
    /// # Errors
    /// [`HubError::Passing`] where the network failed, [`HubError::Final`] where asking again is
    /// of no use.
    pub(super) async fn get(
        &self,
        url: &Url,
        token: Option<&str>,
        headers: &[(HeaderName, String)],
    ) -> Result<Reply, HubError> {
        let origin = url.origin();
        let mut url = url.clone();
        let mut from_hub: Option<HeaderMap> = None;
        for _ in 0..=MAX_REDIRECTS {
            let same = url.origin() == origin;
            let mut request = Request::get(url.as_str())
                .header(USER_AGENT, concat!("atelier/", env!("CARGO_PKG_VERSION")))
                .header(ACCEPT_ENCODING, "identity");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(token) = token.filter(|_| same) {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                        HubError::Final("the token holds characters that no token has".into())
                    })?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let request = request
                .body(Empty::new())
                .map_err(|error| HubError::Final(format!("{url} cannot be asked for: {error}")))?;
            let response = self.send(&url, request).await?;
            let (parts, body) = response.into_parts();
            let host = url.host_str().unwrap_or_default().to_owned();
            if same {
                from_hub = Some(parts.headers.clone());
            }
            let location = parts
                .headers
                .get(LOCATION)
                .filter(|_| parts.status.is_redirection());
            let Some(location) = location else {
                return Ok(Reply {
                    status: parts.status,
                    from_hub: from_hub.unwrap_or_else(|| parts.headers.clone()),
                    headers: parts.headers,
                    body,
                    silence: self.silence,
                    host,
                });
            };
            let next = location
                .to_str()
                .ok()
                .and_then(|location| url.join(location).ok())
                .filter(|next| matches!(next.scheme(), "http" | "https"))
                .ok_or_else(|| HubError::Final(format!("{host} sends us to no usable address")))?;
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(HubError::Final(format!(
                    "{host} sends us from https to plain http ({}), which is not followed",
                    next.host_str().unwrap_or_default()
                )));
            }
            url = next;
        }
        Err(HubError::Final(format!(
            "{} sends us round in circles ({MAX_REDIRECTS} redirects)",
            url.host_str().unwrap_or_default()
        )))
    }

    async fn send(
        &self,
        url: &Url,
        request: Request<Empty<Bytes>>,
    ) -> Result<http::Response<Incoming>, HubError> {
        let host = url.host_str().unwrap_or_default();
        if url.scheme() == "https"
            && let Some(why) = &self.no_roots
        {
            return Err(HubError::Final(format!("{host} cannot be trusted: {why}")));
        }
        let sent = match self.proxy_for(url, request.uri()) {
            None => tokio::time::timeout(self.silence, self.direct.request(request)).await,
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), connector());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(
                    HttpsConnectorBuilder::new()
                        .with_tls_config(self.tls.clone())
                        .https_or_http()
                        .enable_http1()
                        .wrap_connector(tunnel),
                );
                tokio::time::timeout(self.silence, client.request(request)).await
            }
        };
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(HubError::passing(format!(
                "{host} cannot be reached: {}",
                innermost(&error)
            ))),
            Err(_) => Err(HubError::passing(format!(
                "{host} did not answer within {} s",
                self.silence.as_secs()
            ))),
        }
    }

    /// This machine itself is never asked for through a proxy.
    fn proxy_for(&self, url: &Url, uri: &Uri) -> Option<Intercept> {
        let here = match url.host()? {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        if here {
            None
        } else {
            self.proxies.intercept(uri)
        }
    }
}

impl Reply {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`HubError::Passing`] when the connection breaks or stays silent.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HubError> {
        loop {
            let frame = tokio::time::timeout(self.silence, self.body.frame())
                .await
                .map_err(|_| {
                    HubError::passing(format!(
                        "{} sent nothing for {} s",
                        self.host,
                        self.silence.as_secs()
                    ))
                })?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    return Err(HubError::passing(format!(
                        "the connection to {} broke: {}",
                        self.host,
                        innermost(&error)
                    )));
                }
            }
        }
    }

    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Reply::chunk`]; [`HubError::Final`] when it is longer.
    pub async fn text(self, limit: usize) -> Result<Vec<u8>, HubError> {
        let Self {
            body,
            silence,
            host,
            ..
        } = self;
        let whole = tokio::time::timeout(silence, Limited::new(body, limit).collect()).await;
        match whole {
            Ok(Ok(whole)) => Ok(whole.to_bytes().to_vec()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(
                HubError::Final(format!("{host} answers with more than {limit} bytes")),
            ),
            Ok(Err(error)) => Err(HubError::passing(format!(
                "the connection to {host} broke: {error}"
            ))),
            Err(_) => Err(HubError::passing(format!(
                "{host} did not finish its answer within {} s",
                silence.as_secs()
            ))),
        }
    }

    /// Who answered.
    pub fn host(&self) -> &str {
        &self.host
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false); // TLS is laid over it
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector
}

/// The system's certificate authorities, and what went wrong in looking for them.
fn rustls_native_certs() -> (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    Option<String>,
) {
    let found = rustls_native_certs::load_native_certs();
    let error = found.errors.first().map(ToString::to_string);
    (found.certs, error)
}

/// The cause at the bottom: "connection refused" rather than "client error (Connect)".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
