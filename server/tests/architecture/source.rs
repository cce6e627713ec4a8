//! The source tree as the rules of `architecture.rs` see it: files, and code told from comments.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file as a rule sees it.
pub struct Source {
    /// From the repository's root, with `/` between the parts.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// Comments blanked out, string literals emptied, unit tests at the end cut off.
    pub code: String,
    /// The string literals outside comments and unit tests.
    pub strings: Vec<String>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        // Unit tests stand last in a file and may do what the code may not.
        let production = text
            .find("\n#[cfg(test)]\nmod ")
            .map_or(text, |at| &text[..at]);
        let (code, strings) = split_code(production);
        Self {
            path: path.into(),
            text: text.into(),
            code,
            strings,
        }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn is_under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the code has this identifier, as a whole word.
    pub fn names(&self, word: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(word).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })
    }
}

/// Rust without comments and without what is inside string literals, and those literals.
pub fn split_code(text: &str) -> (String, Vec<String>) {
    let (mut code, mut strings) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if let Some((literal, length)) = string_literal(rest) {
            code.push_str("\"\"");
            strings.push(literal);
            rest = &rest[length..];
        } else if let Some(length) = char_literal(rest) {
            code.push_str("' '");
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            // `r` and `b` start a literal only where a word starts.
            if first.is_alphanumeric() || first == '_' {
                let word = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                code.push_str(&rest[..word]);
                rest = &rest[word..];
            }
        }
    }
    (code, strings)
}

/// A string literal at the start of `text`: what is in it, and how long it is.
fn string_literal(text: &str) -> Option<(String, usize)> {
    let unprefixed = text.strip_prefix('b').unwrap_or(text);
    let prefix = text.len() - unprefixed.len();
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let end = body.find(&format!("\"{}", "#".repeat(hashes)))?;
        return Some((
            body[..end].into(),
            prefix + 1 + hashes + 1 + end + 1 + hashes,
        ));
    }
    let body = unprefixed.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            '"' if !escaped => return Some((body[..at].into(), prefix + 1 + at + 1)),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// The length of a character literal at the start of `text`; a lifetime is none.
fn char_literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut chars = body.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        // Skips the escaped character, which can itself be a quote.
        chars.next();
        return body[2..].find('\'').map(|end| 1 + 2 + end + 1);
    }
    match chars.next() {
        Some((at, '\'')) => Some(1 + at + 1),
        _ => None,
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of the project that holds text: what is built or downloaded is left out.
pub fn tree() -> Vec<Source> {
    fn walk(folder: &Path, prefix: &str, found: &mut Vec<Source>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let entry = entry.expect("a folder that can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let built = [
                "target",
                "node_modules",
                "data",
                "test-results",
                "playwright-report",
            ];
            if name == ".git" || name == ".env" || built.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().expect("a kind of file").is_dir() {
                walk(&entry.path(), &format!("{path}/"), found);
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                // What is not UTF-8 is weights and pictures.
                found.push(Source::new(&path, &text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    let rust = found.iter().filter(|source| source.is_rust()).count();
    assert!(
        rust > 10,
        "the source tree was not found: {rust} Rust files"
    );
    found
}
