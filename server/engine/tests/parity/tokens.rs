//! Tokens: CLIP's real vocabulary, both of SDXL's pad conventions, both layouts of a tokenizer
//! folder, against transformers. Exact.

use std::fs;
use std::path::Path;

use atelier_engine::tokenizer::ClipTokenizer;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::fixtures::{copy_folder, fixture, json, read_json};

/// CLIP's merges, which are part of the engine.
fn merges_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/clip_merges.txt")
}

/// CLIP's merges, as pairs.
fn merges() -> Vec<(String, String)> {
    let text = fs::read_to_string(merges_path()).expect("recorded merges");
    text.lines()
        .skip(1)
        .map(|line| {
            let (left, right) = line.split_once(' ').expect("a pair");
            (left.to_string(), right.to_string())
        })
        .collect()
}

/// CLIP's vocabulary: bytes, bytes that end a word, merges, the two marks.
fn vocabulary(merges: &[(String, String)]) -> Map<String, Value> {
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut alphabet: Vec<char> = (0..256)
        .filter(printable)
        .filter_map(char::from_u32)
        .collect();
    let rest = 256 - alphabet.len() as u32;
    alphabet.extend((0..rest).filter_map(|i| char::from_u32(256 + i)));
    let bytes = alphabet.iter().map(char::to_string);
    let ends = alphabet.iter().map(|letter| format!("{letter}</w>"));
    let joined = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let marks = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
    let vocabulary: Map<String, Value> = bytes
        .chain(ends)
        .chain(joined)
        .chain(marks)
        .zip(0u32..)
        .map(|(token, id)| (token, Value::from(id)))
        .collect();
    assert_eq!(vocabulary.len(), 49408);
    vocabulary
}

/// A tokenizer folder as SDXL's own repository has it.
fn vocabulary_folder(name: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    copy_folder(&fixture("clip").join(name), folder.path());
    fs::copy(merges_path(), folder.path().join("merges.txt")).expect("copied");
    let vocabulary = Value::Object(vocabulary(&merges()));
    fs::write(folder.path().join("vocab.json"), vocabulary.to_string()).expect("written");
    folder
}

/// A tokenizer folder as transformers 5 saves it.
fn json_folder(name: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    copy_folder(&fixture("clip").join(format!("{name}_json")), folder.path());
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer = read_json(&path);
    let merges = merges();
    tokenizer["model"]["vocab"] = Value::Object(vocabulary(&merges));
    tokenizer["model"]["merges"] = merges
        .into_iter()
        .map(|(left, right)| json!([left, right]))
        .collect();
    fs::write(path, tokenizer.to_string()).expect("written");
    folder
}

fn check(folder: &Path, key: &str) {
    let tokenizer = ClipTokenizer::open(folder).expect("a tokenizer");
    let cases = json("clip_tokens.json");
    let cases = cases.as_array().expect("a list");
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for case in cases {
        let prompt = case["prompt"].as_str().expect("a prompt");
        let want: Vec<u32> = case[key]
            .as_array()
            .expect("ids")
            .iter()
            .map(|id| id.as_u64().expect("an id") as u32)
            .collect();
        let got = tokenizer.encode(prompt).expect("tokenized");
        if got.ids != want {
            wrong.push(format!("{prompt:?}\n   got {:?}\n  want {want:?}", got.ids));
        }
        // Whether something was cut off shows in the ids only by their being full.
        if got.removed.is_some() {
            assert_eq!(want.last(), Some(&49407), "{prompt:?}");
        }
    }
    println!("{key}: {} prompts, {} differ", cases.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tokenizer_pads_with_the_end_mark() {
    check(vocabulary_folder("tokenizer").path(), "ids");
}

#[test]
fn tokenizer_2_pads_with_the_exclamation_mark() {
    check(vocabulary_folder("tokenizer_2").path(), "ids_2");
}

#[test]
fn tokenizer_json_gives_the_same_ids() {
    check(json_folder("tokenizer").path(), "ids");
    check(json_folder("tokenizer_2").path(), "ids_2");
}

#[test]
fn what_was_cut_off_is_reported() {
    let folder = vocabulary_folder("tokenizer");
    let tokenizer = ClipTokenizer::open(folder.path()).expect("a tokenizer");
    let fits = "word ".repeat(75);
    assert_eq!(tokenizer.encode(&fits).expect("tokens").removed, None);
    let removed = tokenizer
        .encode(&format!("{fits} a green bicycle"))
        .expect("tokens")
        .removed;
    assert_eq!(removed.as_deref(), Some("a green bicycle"));
}
