//! `bindgen IN.wasm NAME OUT_DIR` writes what browsers load into an empty `OUT_DIR`: `NAME.js` and
//! `NAME_bg.wasm`, ready for `<script type="module">`; beside them one WebAssembly file for each
//! room of the interface, and the table that says which files a room needs. Then, with the styles
//! that are there already, everything a second and a third time, as `.br` and `.gz`.
//! `bindgen compress FILE…` does the last step alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

type Outcome = Result<(), Box<dyn Error>>;

/// The name by which compiled code asks for its loader (leptos has it built in).
const LOADER: &str = "./__wasm_split.______________________.js";

/// Which files each split point needs; leptos reads it to have them fetched early.
const MANIFEST: &str = "__wasm_split_manifest.json";

/// What several rooms share comes in dozens of parts, most of them tiny, and each would cost a request:
/// those below so many bytes come one after another in one file.
const TINY: usize = 4 * 1024;

/// That file, without its ending.
const PACK: &str = "chunks";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [command, files @ ..] if command == "compress" => {
            files.iter().try_for_each(|file| compress(Path::new(file)))
        }
        [input, name, out_dir] => make(Path::new(input), name, Path::new(out_dir)),
        _ => {
            eprintln!("usage: bindgen IN.wasm NAME OUT_DIR, or: bindgen compress FILE…");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(input: &Path, name: &str, out_dir: &Path) -> Outcome {
    std::fs::create_dir_all(out_dir)?;
    let main = input.with_extension("main.wasm");
    let whole = std::fs::read(input)?;
    let split = {
        let mut options = wasm_split_cli_support::Options::new(&whole);
        let main_module = format!("./{name}.js");
        options.output_dir = out_dir;
        options.main_out_path = &main;
        options.main_module = &main_module;
        options.link_name = LOADER;
        wasm_split_cli_support::transform(options)
            .map_err(|error| format!("splitting: {error:#}"))?
    };
    Bindgen::new()
        .web(true)?
        .input_path(&main)
        .out_name(name)
        .typescript(false)
        // The rooms link to the main part by its exports' names.
        .keep_lld_exports(true)
        .demangle(false)
        // Names serve stack traces only, and are a third of the download.
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(out_dir)
        .map_err(|error| format!("{error:#}"))?;
    std::fs::remove_file(&main)?;
    for room in &split.split_modules {
        std::fs::write(room, without_custom_sections(&std::fs::read(room)?)?)?;
    }
    pack(out_dir, split.prefetch_map)
}

/// Puts the tiny parts into one file, and has the loader and the table know it.
fn pack(out_dir: &Path, mut needs: HashMap<String, Vec<String>>) -> Outcome {
    let parts: BTreeSet<String> = needs.values().flatten().cloned().collect();
    let mut packed = Vec::new();
    let mut places = BTreeMap::new();
    for part in parts.iter().filter(|part| part.starts_with("chunk_")) {
        let file = out_dir.join(format!("{part}.wasm"));
        let content = std::fs::read(&file)?;
        if content.len() < TINY {
            places.insert(part.clone(), [packed.len(), packed.len() + content.len()]);
            packed.extend_from_slice(&content);
            std::fs::remove_file(&file)?;
        }
    }
    if places.is_empty() {
        return Err("nothing is shared by two rooms: has the interface come apart at all?".into());
    }
    std::fs::write(out_dir.join(format!("{PACK}.wasm")), packed)?;

    let loader_file = out_dir.join(LOADER);
    let mut loader = std::fs::read_to_string(&loader_file)?;
    for part in places.keys() {
        let fetch = format!("fetch(new URL(\"./{part}.wasm\", import.meta.url))");
        if loader.matches(&fetch).count() != 1 {
            return Err(format!("the loader does not ask for {part} as expected").into());
        }
        loader = loader.replace(&fetch, &format!("unpacked(\"{part}\")"));
    }
    loader.push_str(&format!(
        r#"
const places = {};
let pack;
function unpacked(part) {{
    pack ??= fetch(new URL("./{PACK}.wasm", import.meta.url)).then((answer) => {{
        if (!answer.ok) throw new Error(`${{answer.url}}: ${{answer.status}}`);
        return answer.arrayBuffer();
    }});
    const mine = pack;
    mine.catch(() => {{ if (pack === mine) pack = undefined; }});
    const [from, to] = places[part];
    return mine.then((bytes) => new Response(bytes.slice(from, to), {{ headers: {{ "content-type": "application/wasm" }} }}));
}}
"#,
        serde_json::to_string(&places)?
    ));
    std::fs::write(&loader_file, loader)?;

    for parts in needs.values_mut() {
        let before = parts.len();
        parts.retain(|part| !places.contains_key(part));
        if parts.len() < before {
            parts.insert(0, PACK.to_owned());
        }
    }
    std::fs::write(
        out_dir.join(MANIFEST),
        serde_json::to_string_pretty(&needs)?,
    )?;
    Ok(())
}

/// A module without names and other remarks. A module is eight bytes, then sections: a number, a length in
/// LEB128, the content; remarks have the number 0.
fn without_custom_sections(module: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut kept = module.get(..8).ok_or("a module without a head")?.to_vec();
    let mut rest = &module[8..];
    while let [number, after @ ..] = rest {
        let mut length = 0usize;
        let mut read = 0;
        loop {
            let byte = *after.get(read).ok_or("a section without a length")?;
            length |= usize::from(byte & 0x7f) << (7 * read);
            read += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let end = 1 + read + length;
        let section = rest.get(..end).ok_or("a section that is cut off")?;
        if *number != 0 {
            kept.extend_from_slice(section);
        }
        rest = &rest[end..];
    }
    Ok(kept)
}

/// Writes `FILE.br` and `FILE.gz`.
fn compress(file: &Path) -> Outcome {
    let content = std::fs::read(file)?;
    let beside = |extension: &str| -> PathBuf {
        let mut name = file.file_name().unwrap_or(OsStr::new("file")).to_owned();
        name.push(extension);
        file.with_file_name(name)
    };
    let mut brotli = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: 11,
        // 16 MiB: the largest window that every browser takes.
        lgwin: 24,
        size_hint: content.len(),
        ..Default::default()
    };
    brotli::BrotliCompress(&mut content.as_slice(), &mut brotli, &parameters)?;
    std::fs::write(beside(".br"), brotli)?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&content)?;
    std::fs::write(beside(".gz"), gzip.finish()?)?;
    Ok(())
}
