//! Lists the demo model's files, so that they become part of the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    list(&here, "model", "demo_files.rs")?;
    list(&here, "refiner", "demo_refiner_files.rs")
}

/// Writes down the files of `demo/NAME` for `include!`.
fn list(here: &Path, name: &str, file: &str) -> io::Result<()> {
    let model = here.join("demo").join(name);
    // A folder that does not exist would make cargo run this each time; its parent does not.
    let watched: &Path = if model.is_dir() { &model } else { here };
    println!("cargo::rerun-if-changed={}", watched.display());

    let folder = name;
    let mut files = Vec::new();
    if model.is_dir() {
        collect(&model, &model, &mut files)?;
    }
    files.sort();

    // The folder's place is not written out: the list stays the same wherever the tree lies.
    let mut list = String::from("&[\n");
    for name in &files {
        let _ = writeln!(
            list,
            "    ({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?}))),",
            format!("/demo/{folder}/{name}")
        );
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join(file), list)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(name) = path.strip_prefix(root)
            && let Some(name) = name.to_str()
        {
            files.push(name.to_owned());
        }
    }
    Ok(())
}
