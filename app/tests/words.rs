//! The English of the interface in one place: `app/locales/en.json` has every text that people read, which files
//! it stands in and which values go into it. A text that is not there, or no longer anywhere, fails here;
//! `make words` writes the file anew.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "words/extract.rs"]
mod extract;

use extract::{is_sentence, texts};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What writes the catalogue instead of comparing with it.
const WRITES: &str = "ATELIER_WRITES_WORDS";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The values that go into a text, by their names; those without one by their number.
fn values(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (number, part) in text.split('{').skip(1).enumerate() {
        let inside = part.split('}').next().unwrap_or_default();
        let name = inside.split(':').next().unwrap_or_default();
        names.push(if name.is_empty() {
            number.to_string()
        } else {
            name.to_owned()
        });
    }
    names
}

fn catalogue() -> Value {
    let mut files = Vec::new();
    sources(&root().join("app/src"), &mut files);
    // What the server refuses comes in words too.
    for room in [
        "accounts", "admin", "backup", "gallery", "jobs", "models", "oidc", "settings", "studio",
        "uploads", "usage", "error.rs",
    ] {
        let path = root().join("server/src").join(room);
        if path.is_dir() {
            sources(&path, &mut files);
        } else {
            files.push(path);
        }
    }
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let name = file
            .strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        // The command line and the log speak to whoever runs the server; SQL and the names of others'
        // settings are no words.
        let is_server = name.starts_with("server");
        let speaks_to_people = ![
            "command.rs",
            "store.rs",
            "queue.rs",
            "worker.rs",
            "metadata.rs",
        ]
        .iter()
        .any(|file| is_server && name.ends_with(file));
        if !speaks_to_people {
            continue;
        }
        for text in texts(&std::fs::read_to_string(&file).unwrap()) {
            if is_server && !is_sentence(&text.english) {
                continue;
            }
            places.entry(text.english).or_default().insert(name.clone());
        }
    }
    let texts: Map<String, Value> = places
        .into_iter()
        .map(|(text, places)| {
            let values = values(&text);
            let entry = if values.is_empty() {
                json!({ "in": places })
            } else {
                json!({ "in": places, "values": values })
            };
            (text, entry)
        })
        .collect();
    Value::Object(texts)
}

#[test]
fn the_catalogue_has_every_text_and_no_other() {
    let file = root().join("app/locales/en.json");
    let now = catalogue();
    assert!(now.as_object().unwrap().len() > 400, "the texts were found");
    if std::env::var_os(WRITES).is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text = serde_json::to_string_pretty(&now).unwrap();
        std::fs::write(&file, format!("{text}\n")).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let (now, kept) = (now.as_object().unwrap(), kept.as_object().unwrap());
    let missing: Vec<_> = now
        .keys()
        .filter(|text| !kept.contains_key(*text))
        .collect();
    let gone: Vec<_> = kept
        .keys()
        .filter(|text| !now.contains_key(*text))
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "`make words` brings app/locales/en.json up to date; it lacks {missing:?}, and has without need {gone:?}"
    );
    assert!(
        now == kept,
        "`make words` brings app/locales/en.json up to date: texts moved to other files"
    );
}

#[test]
fn texts_are_told_from_names() {
    let source = r##"
        //! "Not this comment"
        #[doc = "Nor this attribute"]
        fn view() {
            let label = if x == "Not Compared" { "Copied" } else { "Copy" };
            match label { "Not This Pattern" => {} _ => {} }
            tracing::info!("Not for people");
            element.get_attribute("Not A Word");
            view! { <p class="not a text" title="Light or dark">"Sign in"</p> }
            format!("{} images of {name:.1}", 3)
        }
        #[error("you have no right to do that")]
        enum E {}
#[cfg(test)]
mod tests { const X: &str = "Not the tests"; }
    "##;
    let found: Vec<String> = texts(source).into_iter().map(|text| text.english).collect();
    assert_eq!(
        found,
        [
            "Copied",
            "Copy",
            "Light or dark",
            "Sign in",
            "{} images of {name:.1}",
            "you have no right to do that"
        ]
    );
    assert_eq!(values("{} images of {name:.1}"), ["0", "name"]);
    assert_eq!(
        texts(r#"let a = "one \"two\" three \u{2014} four";"#)[0].english,
        "one \"two\" three \u{2014} four"
    );
    assert_eq!(
        texts("let a = r#\"Raw text here\"#; let b = 'x'; let c: &'static str = \"After it\";")
            .len(),
        2
    );
}
