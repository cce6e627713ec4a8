//! Lists the demo model's files, so that they become part of the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let model = here.join("demo/model");
    // A folder that does not exist would make cargo run this each time; its parent does not.
    let watched = if model.is_dir() { &model } else { &here };
    println!("cargo::rerun-if-changed={}", watched.display());
    println!("cargo::rerun-if-changed=build.rs");

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
            format!("/demo/model/{name}")
        );
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("demo_files.rs"), list)
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
