//! What a token of some scopes may ask. One rule for every address: what is not named here and
//! changes something needs `manage`, so that a new address is closed to lesser tokens.

use atelier_app::account::Scope;
use axum::http::Method;

/// Addresses whose `POST` asks for images.
const GENERATES: [&str; 6] = [
    "/api/generate-image",
    "/api/uploads",
    "/api/jobs",
    "/api/estimate",
    "/v1/",
    "/sdapi/",
];

/// The scopes of which one is needed.
pub(super) fn needed(method: &Method, path: &str) -> &'static [Scope] {
    if path.starts_with("/api/admin/") {
        return &[Scope::Admin];
    }
    // Every token may ask whose it is.
    if path == "/api/account" && matches!(*method, Method::GET | Method::HEAD) {
        return &[Scope::Generate, Scope::Read, Scope::Manage, Scope::Admin];
    }
    if path == "/metrics" {
        return &[Scope::Read, Scope::Admin];
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        // Who makes images must see how their jobs stand, and what there is to ask for.
        let of_gallery = path.starts_with("/images/")
            || path.starts_with("/api/images")
            || path.starts_with("/api/account/export")
            || path.starts_with("/api/collections")
            || path.starts_with("/api/trash")
            || path.starts_with("/api/prompts");
        return if of_gallery {
            &[Scope::Read]
        } else {
            &[Scope::Read, Scope::Generate]
        };
    }
    // Taking a selection away changes nothing.
    if path == "/api/images/zip" {
        return &[Scope::Read];
    }
    if GENERATES.iter().any(|start| path.starts_with(start)) {
        &[Scope::Generate]
    } else {
        &[Scope::Manage]
    }
}

/// What a token is told that lacks a scope.
pub(super) fn words(needed: &[Scope]) -> String {
    let names: Vec<String> = needed
        .iter()
        .map(|scope| format!("`{}`", scope.as_str()))
        .collect();
    format!(
        "This token may not do this: it needs the scope {}. Make another token on the account page.",
        names.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_needs_the_most() {
        for (method, path, scopes) in [
            (Method::GET, "/api/images", &[Scope::Read][..]),
            (Method::GET, "/images/x.png", &[Scope::Read]),
            (Method::GET, "/api/account/export.zip", &[Scope::Read]),
            (Method::GET, "/api/jobs/x", &[Scope::Read, Scope::Generate]),
            (Method::GET, "/api/events", &[Scope::Read, Scope::Generate]),
            (Method::POST, "/api/generate-image", &[Scope::Generate]),
            (Method::POST, "/v1/images/generations", &[Scope::Generate]),
            (Method::DELETE, "/api/jobs/x", &[Scope::Generate]),
            (Method::DELETE, "/api/images/x", &[Scope::Manage]),
            (Method::POST, "/api/images/zip", &[Scope::Read]),
            (Method::POST, "/api/images/act", &[Scope::Manage]),
            (Method::GET, "/api/trash", &[Scope::Read]),
            (Method::DELETE, "/api/trash", &[Scope::Manage]),
            (Method::GET, "/api/prompts", &[Scope::Read]),
            (Method::GET, "/api/presets", &[Scope::Read, Scope::Generate]),
            (Method::POST, "/api/presets", &[Scope::Manage]),
            (Method::POST, "/api/something-new", &[Scope::Manage]),
            (
                Method::GET,
                "/api/account",
                &[Scope::Generate, Scope::Read, Scope::Manage, Scope::Admin],
            ),
            (Method::GET, "/metrics", &[Scope::Read, Scope::Admin]),
            (Method::GET, "/api/admin/audit.csv", &[Scope::Admin]),
            (Method::POST, "/api/admin/anything", &[Scope::Admin]),
        ] {
            assert_eq!(needed(&method, path), scopes, "{method} {path}");
        }
    }
}
