//! How people name what they want from the hub, and which names a file may have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A repository: `OWNER/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repo {
    /// A person or an organisation.
    pub owner: String,
    /// Its name there.
    pub name: String,
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl FromStr for Repo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (owner, name) = text
            .split_once('/')
            .ok_or("write OWNER/NAME, e.g. stabilityai/stable-diffusion-xl-base-1.0")?;
        let is_name = |part: &str| {
            (1..=96).contains(&part.len())
                && !part.starts_with(['.', '-'])
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !is_name(owner) || !is_name(name) {
            return Err(
                "write OWNER/NAME with letters, digits, dots, dashes and underscores".into(),
            );
        }
        Ok(Self {
            owner: owner.into(),
            name: name.into(),
        })
    }
}

impl TryFrom<String> for Repo {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Repo> for String {
    fn from(repo: Repo) -> Self {
        repo.to_string()
    }
}

/// What to fetch, as typed: `OWNER/NAME`, `OWNER/NAME@REVISION`, `OWNER/NAME/path/FILE`, or the
/// address of any of these in the hub's pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The repository.
    pub repo: Repo,
    /// A branch, tag or commit, where one is named.
    pub revision: Option<String>,
    /// One file, where one is named.
    pub file: Option<String>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let path = match text.split_once("://") {
            // Everything behind the host; a query (`?download=true`) is the page's own.
            Some(("http" | "https", rest)) => rest
                .split(['?', '#'])
                .next()
                .and_then(|rest| rest.split_once('/'))
                .map(|(_, path)| path)
                .ok_or("the address names no model")?,
            Some(_) => return Err("only http and https addresses can be fetched".into()),
            None => text,
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let [owner, name, rest @ ..] = parts.as_slice() else {
            return Err("write OWNER/NAME, e.g. stabilityai/stable-diffusion-xl-base-1.0".into());
        };
        let (name, mut revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.to_owned())),
            None => (*name, None),
        };
        let rest = match rest {
            ["blob" | "resolve" | "tree" | "raw", named, rest @ ..] => {
                revision = Some((*named).to_owned());
                rest
            }
            rest => rest,
        };
        let file = (!rest.is_empty()).then(|| rest.join("/"));
        if let Some(file) = &file {
            check_path(file).map_err(|why| format!("the file's name {why}"))?;
        }
        if let Some(revision) = &revision {
            check_revision(revision)?;
        }
        Ok(Self {
            repo: format!("{owner}/{name}").parse()?,
            revision,
            file,
        })
    }
}

/// A branch, tag or commit that can be part of an address.
///
/// # Errors
/// What is wrong with it.
pub fn check_revision(revision: &str) -> Result<(), String> {
    let fits = (1..=200).contains(&revision.len())
        && !revision
            .split('/')
            .any(|part| matches!(part, "" | "." | ".."))
        && !revision.chars().any(|c| c.is_control() || c == '\\');
    if fits {
        Ok(())
    } else {
        Err("the revision must be a branch, a tag or a commit".into())
    }
}

/// Checks that a file of this name stays inside the folder it is written to.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 1000 {
        return Err("is empty or too long");
    }
    if path.contains('\\') || path.chars().any(char::is_control) {
        return Err("has characters that no file of a model needs");
    }
    for part in path.split('/') {
        match part {
            "" | "." | ".." => return Err("leads out of the model's folder"),
            _ if part.len() > 200 => return Err("is too long"),
            _ => {}
        }
    }
    // A drive letter, where such things exist.
    if path.as_bytes().get(1) == Some(&b':') {
        return Err("leads out of the model's folder");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_way_of_naming_a_model_is_understood() {
        let read = |text: &str| {
            let Address {
                repo,
                revision,
                file,
            } = text.parse().unwrap();
            (repo.to_string(), revision, file)
        };
        let plain = |repo: &str, revision: Option<&str>, file: Option<&str>| {
            (
                repo.to_owned(),
                revision.map(str::to_owned),
                file.map(str::to_owned),
            )
        };
        for (text, repo, revision, file) in [
            ("a/b", "a/b", None, None),
            (" a/b/ ", "a/b", None, None),
            ("a/b@v1.0", "a/b", Some("v1.0"), None),
            ("a/b/c.safetensors", "a/b", None, Some("c.safetensors")),
            ("a/b/x/c.gguf", "a/b", None, Some("x/c.gguf")),
            ("https://hub.example/a/b", "a/b", None, None),
            (
                "https://hub.example/a/b/tree/main",
                "a/b",
                Some("main"),
                None,
            ),
            (
                "https://hub.example/a/b/blob/main/c.safetensors?download=true",
                "a/b",
                Some("main"),
                Some("c.safetensors"),
            ),
        ] {
            assert_eq!(read(text), plain(repo, revision, file), "{text}");
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for text in [
            "",
            "b",
            "a/",
            "/a",
            "../b",
            "a/..",
            "a/b/../../c",
            "a/b@..",
            "a b/c",
            "a/b@",
            "ftp://hub.example/a/b",
            "https://hub.example",
            "a/b/c\\d",
            "-a/b",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_names_that_stay_inside_are_files() {
        for good in [
            "model_index.json",
            "unet/a.json",
            ".gitattributes",
            "a/..b/c",
        ] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/./b",
            "a\\b",
            "C:/x",
            "a/\0",
            "..",
            "a/b/..",
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }
}
