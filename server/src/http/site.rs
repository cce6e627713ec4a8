//! The built interface: under an address that changes with what is in it, so that a browser fetches each
//! version once and asks no more. The files themselves lie in one folder, `pkg`, compressed already.

use crate::config::ServeConfig;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use leptos::WasmSplitManifest;
use leptos::prelude::ArcStoredValue;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;
use tower::ServiceExt;
use tower_http::services::ServeDir;

/// The folder of the built interface, below the site's root.
const FOLDER: &str = "pkg";

/// Which files each room of the interface needs, as the build wrote it.
const MANIFEST: &str = "__wasm_split_manifest.json";

/// The script that loads rooms; its name is built into the interface.
const LOADER: &str = "__wasm_split.______________________.js";

/// The built interface as it was when the server started.
#[derive(Clone)]
pub(super) struct Site {
    files: ServeDir,
    /// The folder as browsers know it: `pkg-` and what is in it, in a few letters.
    pub(super) folder: String,
    rooms: HashMap<String, Vec<String>>,
}

impl Site {
    /// Reads what was built. An interface that was not built is no error here: pages work without.
    pub(super) fn read(config: &ServeConfig) -> Self {
        let root = config.site_root();
        let folder = root.join(FOLDER);
        Self {
            files: ServeDir::new(root)
                .append_index_html_on_directories(false)
                .precompressed_gzip()
                .precompressed_br(),
            rooms: std::fs::read(folder.join(MANIFEST))
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok())
                .unwrap_or_default(),
            folder: match digest(&folder) {
                Some(digest) => format!("{FOLDER}-{digest}"),
                None => FOLDER.to_owned(),
            },
        }
    }

    /// What leptos reads to name, in a page's head, the files that the page's room needs.
    pub(super) fn manifest(&self) -> WasmSplitManifest {
        WasmSplitManifest(ArcStoredValue::new((
            format!("/{}", self.folder),
            self.rooms.clone(),
            LOADER.to_owned(),
        )))
    }

    /// A file of the built interface, or else what `otherwise` makes of the request.
    pub(super) async fn file_or<F>(
        self,
        request: Request,
        otherwise: impl Fn(Request) -> F,
    ) -> Response
    where
        F: Future<Output = Response>,
    {
        let (parts, body) = request.into_parts();
        let mut asked = parts.clone();
        // Only this version's own address may be kept for good: another one's has other files.
        let inside = parts
            .uri
            .path()
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(self.folder.as_str()))
            .filter(|rest| rest.starts_with('/') && self.folder != FOLDER)
            .and_then(|rest| format!("/{FOLDER}{rest}").parse::<Uri>().ok());
        let caching = if let Some(inside) = inside {
            asked.uri = inside;
            HeaderValue::from_static("public, max-age=31536000, immutable")
        } else {
            // Names that carry no version: browsers ask each time, and `Last-Modified` makes the answer short.
            HeaderValue::from_static("no-cache")
        };
        let found = match self
            .files
            .oneshot(Request::from_parts(asked, Body::empty()))
            .await
        {
            Ok(found) => found,
            Err(never) => match never {},
        };
        if found.status().is_success()
            || matches!(
                found.status(),
                StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE
            )
        {
            let mut response = found.into_response();
            response.headers_mut().insert(CACHE_CONTROL, caching);
            response
                .headers_mut()
                .insert(axum::http::header::VARY, ACCEPT_ENCODING.into());
            return response;
        }
        otherwise(Request::from_parts(parts, body)).await
    }
}

/// The names and contents of a folder's files in a few letters; `None` where there are none.
fn digest(folder: &Path) -> Option<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    if files.is_empty() {
        return None;
    }
    let mut digest = Sha256::new();
    for file in files {
        let content = std::fs::read(&file).ok()?;
        digest.update(file.file_name()?.as_encoded_bytes());
        digest.update([0]);
        digest.update(content.len().to_le_bytes());
        digest.update(content);
    }
    Some(hex::encode(&digest.finalize()[..6]))
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn the_address_changes_with_what_is_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(digest(folder.path()), None);
        std::fs::write(folder.path().join("a.js"), "one").unwrap();
        let first = digest(folder.path()).unwrap();
        assert_eq!(first.len(), 12);
        std::fs::write(folder.path().join("a.js"), "two").unwrap();
        let second = digest(folder.path()).unwrap();
        assert_ne!(first, second);
        std::fs::rename(folder.path().join("a.js"), folder.path().join("b.js")).unwrap();
        assert_ne!(second, digest(folder.path()).unwrap());
        assert_eq!(digest(&folder.path().join("missing")), None);
    }
}
