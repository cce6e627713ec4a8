//! The Hugging Face hub's HTTP: what a repository holds at a commit, and its files' bytes.
//!
//! Any server that speaks the same (a mirror, a cache in front of the hub) can take its place.

mod address;
mod transport;

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, RETRY_AFTER};
use hyper_util::client::proxy::matcher::Matcher;
use serde::Deserialize;
use url::Url;

pub use address::{Address, Repo, check_path, check_revision};
pub use transport::Reply;
use transport::Transport;

/// The hub that everybody knows.
pub const OFFICIAL: &str = "https://huggingface.co";

/// Longest listing read: a hundred thousand files fit.
const MAX_LISTING: usize = 32 << 20;
/// Longest small file (an index, a config) that is looked into before the download.
const MAX_SMALL: usize = 4 << 20;
/// The longest wait that a server can ask for.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Where the hub is and how it is spoken to.
#[derive(Clone)]
pub struct HubSettings {
    /// Its address.
    pub endpoint: Url,
    /// The access token, for gated and private models.
    pub token: Option<String>,
    /// Failures in a row, without a byte of progress, before giving up.
    pub retries: u32,
    /// The first wait between tries; it doubles from there.
    pub first_wait: Duration,
    /// How long the other side may say nothing.
    pub silence: Duration,
}

/// Why something did not come.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Trying again may help.
    #[error("{message}")]
    Passing {
        /// What happened.
        message: String,
        /// How long the server asks us to wait.
        wait: Option<Duration>,
    },
    /// Trying again will not help; the words say what will.
    #[error("{0}")]
    Final(String),
}

impl HubError {
    /// Something that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::Passing {
            message: message.into(),
            wait: None,
        }
    }
}

/// A repository's files at one commit.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The commit that the revision names now.
    pub commit: String,
    /// Its files.
    pub files: Vec<RemoteFile>,
}

/// A file as the hub lists it; what is not known yet comes with the file's own answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository, checked to stay inside a folder.
    pub path: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// SHA-256 in hex: of large files.
    pub sha256: Option<String>,
    /// git's blob hash in hex: of small files.
    pub git_sha1: Option<String>,
}

#[derive(Deserialize)]
struct RepoInfo {
    sha: Option<String>,
    siblings: Option<Vec<Sibling>>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    /// The older spelling, `sha256:…`.
    oid: Option<String>,
    size: Option<u64>,
}

/// The hub.
pub struct Hub {
    settings: HubSettings,
    transport: Transport,
}

impl Hub {
    /// Speaks to the hub of these settings, through the proxies of the environment.
    pub fn new(settings: HubSettings, proxies: Matcher) -> Self {
        let transport = Transport::new(proxies, settings.silence);
        Self {
            settings,
            transport,
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// How long to wait after the given number of failures in a row (1 = the first).
    pub fn back_off(&self, failures: u32) -> Duration {
        let doubled = self
            .settings
            .first_wait
            .saturating_mul(1 << (failures - 1).min(16));
        doubled.min(Duration::from_secs(30))
    }

    /// The files of a repository at a revision (a branch, a tag or a commit).
    ///
    /// # Errors
    /// [`HubError`] in words for whoever asked.
    pub async fn list(&self, repo: &Repo, revision: &str) -> Result<Listing, HubError> {
        let mut url = self.url(&["api", "models"], repo, &["revision", revision])?;
        url.set_query(Some("blobs=true"));
        let bytes = self.small(repo, &url, "", MAX_LISTING).await?;
        let info: RepoInfo = serde_json::from_slice(&bytes).map_err(|error| {
            HubError::Final(format!(
                "{} answers with something that is no listing of {repo} ({error}); is it a Hugging Face hub?",
                self.settings.endpoint
            ))
        })?;
        let commit = info.sha.unwrap_or_else(|| revision.to_owned());
        if commit.is_empty() || commit.len() > 200 || commit.chars().any(char::is_control) {
            return Err(HubError::Final(format!(
                "the hub names an impossible commit for {repo}"
            )));
        }
        let mut files = Vec::new();
        for sibling in info.siblings.unwrap_or_default() {
            check_path(&sibling.rfilename).map_err(|why| {
                let name: String = sibling.rfilename.chars().take(120).collect();
                HubError::Final(format!(
                    "{repo} lists a file named {name:?}, which {why}; nothing was fetched"
                ))
            })?;
            let (lfs_size, sha256) = match sibling.lfs {
                None => (None, None),
                Some(lfs) => {
                    let named = lfs.sha256.or(lfs.oid).unwrap_or_default();
                    (lfs.size, hex_of(named.trim_start_matches("sha256:"), 64))
                }
            };
            // The blob of a file kept in LFS is its pointer, not its contents.
            let blob = sibling.blob_id.filter(|_| sha256.is_none());
            files.push(RemoteFile {
                path: sibling.rfilename,
                size: lfs_size.or(sibling.size),
                git_sha1: blob.and_then(|id| hex_of(&id, 40)),
                sha256,
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(twice) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(HubError::Final(format!(
                "{repo} lists {:?} twice; nothing was fetched",
                twice[0].path
            )));
        }
        Ok(Listing { commit, files })
    }

    /// A small file, whole.
    ///
    /// # Errors
    /// As [`Hub::list`].
    pub async fn small_file(
        &self,
        repo: &Repo,
        commit: &str,
        path: &str,
    ) -> Result<Vec<u8>, HubError> {
        let url = self.file_url(repo, commit, path)?;
        self.small(repo, &url, path, MAX_SMALL).await
    }

    /// Asks for a file's bytes from `start` on; `if_range` is the mark that the first part came with.
    /// The answer is 200 (from the beginning), 206 or 416.
    ///
    /// # Errors
    /// [`HubError`]; other statuses are among them.
    pub async fn open(
        &self,
        repo: &Repo,
        commit: &str,
        path: &str,
        start: u64,
        if_range: Option<&str>,
    ) -> Result<Reply, HubError> {
        let url = self.file_url(repo, commit, path)?;
        let mut headers = Vec::new();
        if start > 0 {
            headers.push((http::header::RANGE, format!("bytes={start}-")));
            if let Some(mark) = if_range {
                headers.push((http::header::IF_RANGE, mark.to_owned()));
            }
        }
        let reply = self.ask(&url, &headers).await?;
        match reply.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                Ok(reply)
            }
            _ => Err(self.refusal(repo, path, &reply)),
        }
    }

    async fn ask(&self, url: &Url, headers: &[(HeaderName, String)]) -> Result<Reply, HubError> {
        self.transport
            .get(url, self.settings.token.as_deref(), headers)
            .await
    }

    /// A short answer, asked for again as often as the settings allow.
    async fn small(
        &self,
        repo: &Repo,
        url: &Url,
        path: &str,
        limit: usize,
    ) -> Result<Vec<u8>, HubError> {
        let mut failures = 0;
        loop {
            let answer = match self.ask(url, &[]).await {
                Ok(reply) if reply.status == StatusCode::OK => reply.text(limit).await,
                Ok(reply) => Err(self.refusal(repo, path, &reply)),
                Err(error) => Err(error),
            };
            match answer {
                Err(HubError::Passing { message, wait }) => {
                    failures += 1;
                    if failures > self.settings.retries {
                        return Err(HubError::Final(format!(
                            "{message} (tried {failures} times)"
                        )));
                    }
                    tokio::time::sleep(wait.unwrap_or_else(|| self.back_off(failures))).await;
                }
                other => return other,
            }
        }
    }

    fn file_url(&self, repo: &Repo, commit: &str, path: &str) -> Result<Url, HubError> {
        let segments: Vec<&str> = ["resolve", commit]
            .into_iter()
            .chain(path.split('/'))
            .collect();
        self.url(&[], repo, &segments)
    }

    fn url(&self, before: &[&str], repo: &Repo, after: &[&str]) -> Result<Url, HubError> {
        let mut url = self.settings.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| {
                HubError::Final(format!(
                    "{url} cannot be a hub's address",
                    url = self.settings.endpoint
                ))
            })?
            .pop_if_empty()
            .extend(before)
            .extend([&repo.owner, &repo.name])
            .extend(after);
        Ok(url)
    }

    /// Any other status in words that say what to do.
    fn refusal(&self, repo: &Repo, path: &str, reply: &Reply) -> HubError {
        let status = reply.status;
        let host = reply.host();
        let code = reply
            .from_hub
            .get("x-error-code")
            .and_then(|code| code.to_str().ok())
            .unwrap_or_default();
        let what = if path.is_empty() {
            format!("the model {repo}")
        } else {
            format!("{path} of {repo}")
        };
        let page = format!("{}{repo}", with_slash(&self.settings.endpoint));
        let has_token = self.settings.token.is_some();
        match status.as_u16() {
            401 | 403 if code == "GatedRepo" => HubError::Final(format!(
                "{repo} is gated: accept its terms on {page}{}",
                if has_token {
                    ", with the account that the token belongs to, and wait for access to be granted"
                } else {
                    " and give an access token of that account with HF_TOKEN or --token"
                }
            )),
            401 if has_token => HubError::Final(format!(
                "{host} does not accept the token (401), or there is no such thing as {what}; check the spelling, and HF_TOKEN or --token"
            )),
            401 => HubError::Final(format!(
                "{what} does not exist, or is private or gated (401); check the spelling, or give an access token with HF_TOKEN or --token"
            )),
            403 => HubError::Final(format!(
                "{host} does not let us have {what} (403); accept its terms on {page} and give a token that may read it with HF_TOKEN or --token"
            )),
            404 if code == "RevisionNotFound" => {
                HubError::Final(format!("{repo} has no such revision; see {page}"))
            }
            404 => HubError::Final(format!(
                "there is no such thing as {what} on {host} (404); check the spelling"
            )),
            429 => HubError::Passing {
                message: format!("{host} asks us to slow down (429)"),
                wait: retry_after(&reply.headers),
            },
            408 | 500..=599 => HubError::Passing {
                message: format!("{host} has trouble with {what} ({status})"),
                wait: retry_after(&reply.headers),
            },
            _ => HubError::Final(format!("{host} answers {status} to the request for {what}")),
        }
    }
}

/// A hash in lower-case hex of the given length.
pub(super) fn hex_of(text: &str, length: usize) -> Option<String> {
    let fits = text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_ascii_lowercase())
}

fn with_slash(endpoint: &Url) -> String {
    format!("{}/", endpoint.as_str().trim_end_matches('/'))
}

/// RFC 9110's `Retry-After`: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .unwrap_or_default(),
    };
    Some(wait.min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_forever() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("999999999"), Some(MAX_WAIT));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        let wait = of(&soon).unwrap().as_secs();
        assert!((25..=30).contains(&wait), "{wait}");
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn addresses_are_escaped_and_keep_the_endpoints_own_path() {
        let settings = HubSettings {
            endpoint: "https://mirror.example/hub/".parse().unwrap(),
            token: None,
            retries: 0,
            first_wait: Duration::ZERO,
            silence: Duration::from_secs(1),
        };
        let hub = Hub::new(settings, Matcher::builder().build());
        let repo: Repo = "a/b".parse().unwrap();
        let url = hub
            .file_url(&repo, "refs/pr/1", "unet/a file?.json")
            .unwrap();
        assert_eq!(
            url.as_str(),
            "https://mirror.example/hub/a/b/resolve/refs%2Fpr%2F1/unet/a%20file%3F.json"
        );
    }
}
