//! `atelier models`: fetching, listing, checking and removing models from the command line. It works
//! while the server runs; the server notices what has changed.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::catalog::{Entry, Origin, manifest_of, scan};
use super::fetch::{self, Bytes, Unfinished, Wish, check_name};
use super::hub::Hub;
use super::lock::lock;
use super::manifest::Checked;
use super::options::{FetchArgs, HubArgs, ModelsAction, ModelsArgs};
use super::screen::Screen;
use super::select::Variant;
use super::verify::{Thoroughness, Verdict, verify};
use super::{Model, demo};
use crate::config::proxies;

/// Runs one action and answers the process' exit code.
pub fn run(args: ModelsArgs) -> ExitCode {
    let models_dir = args.data_dir.join("models");
    let named: Vec<(String, PathBuf)> = args
        .folders
        .iter()
        .map(|folder| (folder.name.clone(), folder.path.clone()))
        .collect();
    let (json, done) = match args.action {
        ModelsAction::Fetch(fetch) => (fetch.json, run_fetch(&models_dir, fetch)),
        ModelsAction::List { json } => (json, list(&models_dir, &named, json)),
        ModelsAction::Verify {
            name,
            repair,
            hub,
            json,
        } => {
            let hub = repair.then_some(hub);
            (json, run_verify(&models_dir, &named, name, hub, json))
        }
        ModelsAction::Remove { name } => (false, remove(&models_dir, &named, &name)),
    };
    match done {
        Ok(code) => code,
        Err(words) => {
            let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
            if json {
                let object = json!({ "event": "error", "message": line });
                let _ = writeln!(std::io::stdout().lock(), "{object}");
            }
            eprintln!("error: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Runs to the end or to ctrl-c; what has come by then stays.
fn in_runtime<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        tokio::select! {
            done = work => done,
            code = interrupted() => {
                if std::io::stderr().is_terminal() {
                    eprint!("\r\x1b[J");
                }
                eprintln!("error: interrupted; what has come is kept: run the same again to go on");
                std::process::exit(code);
            }
        }
    })
}

async fn interrupted() -> i32 {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => 130,
        _ = terminate.recv() => 143,
    }
}

fn run_fetch(models_dir: &Path, args: FetchArgs) -> Result<ExitCode, String> {
    let mut address = args.model;
    if args.revision.is_some() {
        address.revision = args.revision;
    }
    if args.file.is_some() {
        address.file = args.file;
    }
    let wish = Wish::new(address, args.name.as_deref(), args.variant)?;
    let screen = Screen::new(args.json);
    let hub = Hub::new(args.hub.settings(), proxies());
    screen.say(&format!(
        "Fetching {} ({}) from {} as {}",
        wish.repo, wish.variant, args.hub.endpoint, wish.name
    ));
    let told = screen.clone();
    let heard = screen.watch();
    let watch: fetch::Watch = std::sync::Arc::new(move |event| {
        if let fetch::Event::Planned { notes, .. } = &event {
            for note in notes {
                told.say(&format!("note: {note}"));
            }
        }
        heard(event);
    });
    let fetched = in_runtime(async {
        fetch::fetch(&hub, models_dir, &wish, &watch)
            .await
            .map_err(|error| error.to_string())
    });
    screen.clear();
    let installed = fetched?;
    let problem = Model::open(&wish.name, &installed.folder)
        .err()
        .map(|error| error.to_string());
    screen.tell(&json!({
        "event": if installed.was_there { "already_there" } else { "installed" },
        "name": wish.name,
        "path": installed.folder,
        "commit": installed.manifest.commit,
        "bytes": installed.manifest.bytes(),
        "files": installed.manifest.files.len(),
        "problem": problem,
    }));
    if !args.json {
        let what = if installed.was_there {
            "is here already"
        } else {
            "is ready"
        };
        println!(
            "{} {what}: {}, {} files, {}, every checksum right ({})",
            wish.name,
            installed.folder.display(),
            installed.manifest.files.len(),
            Bytes(installed.manifest.bytes()),
            installed.manifest.origin(),
        );
    }
    match problem {
        Some(problem) => Err(format!(
            "{} was fetched as the hub has it, but cannot be used: {problem}",
            wish.name
        )),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn list(models_dir: &Path, named: &[(String, PathBuf)], json: bool) -> Result<ExitCode, String> {
    let entries = scan(models_dir, named);
    let unfinished = fetch::unfinished(models_dir);
    let mut out = String::new();
    if json {
        let models: Vec<_> = entries.iter().map(entry_json).collect();
        let fetches: Vec<_> = unfinished.values().map(unfinished_json).collect();
        out = format!("{}\n", json!({ "models": models, "unfinished": fetches }));
    } else {
        if entries.is_empty() && demo::is_embedded() {
            out += "demo: part of this program, unpacked when the server first starts\n";
        } else if entries.is_empty() {
            out += &format!("There is no model in {}.\n", models_dir.display());
        }
        for entry in &entries {
            out += &entry_text(entry);
        }
        for fetch in unfinished.values() {
            let of = fetch
                .total
                .map_or_else(String::new, |total| format!(" of {}", Bytes(total)));
            out += &format!(
                "{} (unfinished)\n    {}{of} of {} have come; run `atelier models fetch {}` again to go on\n",
                fetch.wish.name,
                Bytes(fetch.have),
                fetch.wish.repo,
                again(&fetch.wish),
            );
        }
    }
    print_all(&out)
}

/// A closed pipe (`… | head -1`) is no failure.
fn print_all(text: &str) -> Result<ExitCode, String> {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The words that go on with a fetch.
fn again(wish: &Wish) -> String {
    let mut words = wish.repo.to_string();
    if let Some(file) = &wish.file {
        words += &format!("/{file}");
    }
    if wish.revision != "main" {
        words += &format!(" --revision {}", wish.revision);
    }
    if wish.variant != Variant::default() {
        words += &format!(" --variant {}", wish.variant);
    }
    words + &format!(" --name {}", wish.name)
}

fn size_of(entry: &Entry) -> u64 {
    if entry.path.is_file() {
        return std::fs::metadata(&entry.path).map_or(0, |about| about.len());
    }
    fetch::bytes_in(&entry.path)
}

fn entry_text(entry: &Entry) -> String {
    let mut out = match &entry.model {
        Ok(model) => {
            let about = &model.description;
            let summary = &model.summary;
            let weights = about.parameters.map_or_else(String::new, |count| {
                format!(", {} weights", count_text(count))
            });
            format!(
                "{}\n    {}, {} in {}{weights}; {} steps, guidance {}, {}×{}\n",
                entry.name,
                about.kind,
                Bytes(size_of(entry)),
                about.stored_dtype,
                summary.default_steps,
                summary.default_guidance_scale,
                summary.default_width,
                summary.default_height,
            )
        }
        Err(problem) => format!(
            "{} (cannot be used)\n    {}; {problem}\n",
            entry.name,
            Bytes(size_of(entry))
        ),
    };
    let from = match (entry.origin, manifest_of(entry)) {
        (Origin::BuiltIn, _) => "part of this program".to_owned(),
        (_, Some(manifest)) => format!("from {}", manifest.origin()),
        (_, None) => "no manifest".to_owned(),
    };
    out += &format!(
        "    {} ({from}; {})\n",
        entry.path.display(),
        checked_text(Checked::read(&entry.path).as_ref())
    );
    out
}

fn count_text(count: u64) -> String {
    if count >= 100_000_000 {
        format!("{:.1} billion", count as f64 / 1e9)
    } else {
        format!("{:.1} million", count as f64 / 1e6)
    }
}

fn checked_text(checked: Option<&Checked>) -> String {
    match checked {
        None => "never verified".into(),
        Some(checked) => {
            let at = time::OffsetDateTime::from_unix_timestamp(checked.at / 1000)
                .map(|at| at.date().to_string())
                .unwrap_or_default();
            match (checked.damaged.len(), checked.by_checksum) {
                (0, true) => format!("verified on {at}"),
                (0, false) => format!("headers read on {at}"),
                (count, _) => format!("{count} faults found on {at}"),
            }
        }
    }
}

fn entry_json(entry: &Entry) -> serde_json::Value {
    let model = entry.model.as_ref().ok();
    let manifest = manifest_of(entry);
    let checked = Checked::read(&entry.path);
    json!({
        "name": entry.name,
        "path": entry.path,
        "bytes": size_of(entry),
        "kind": model.map(|model| &model.description.kind),
        "dtype": model.map(|model| &model.description.stored_dtype),
        "parameters": model.and_then(|model| model.description.parameters),
        "default_steps": model.map(|model| model.summary.default_steps),
        "default_guidance_scale": model.map(|model| model.summary.default_guidance_scale),
        "default_width": model.map(|model| model.summary.default_width),
        "default_height": model.map(|model| model.summary.default_height),
        "problem": entry.model.as_ref().err(),
        "repo": manifest.as_ref().map(|manifest| manifest.repo.to_string()),
        "commit": manifest.as_ref().map(|manifest| &manifest.commit),
        "variant": manifest.as_ref().map(|manifest| manifest.variant),
        "verified_at": checked.as_ref().map(|checked| checked.at),
        "verified_by_checksum": checked.as_ref().map(|checked| checked.by_checksum),
        "damaged": checked.map(|checked| checked.damaged),
    })
}

fn unfinished_json(fetch: &Unfinished) -> serde_json::Value {
    json!({
        "name": fetch.wish.name, "repo": fetch.wish.repo, "revision": fetch.wish.revision,
        "file": fetch.wish.file, "variant": fetch.wish.variant, "bytes": fetch.have, "total": fetch.total,
    })
}

fn run_verify(
    models_dir: &Path,
    named: &[(String, PathBuf)],
    name: Option<String>,
    repair: Option<HubArgs>,
    json: bool,
) -> Result<ExitCode, String> {
    let targets = targets(models_dir, named, name.as_deref())?;
    let screen = Screen::new(json);
    let mut sound = true;
    for (name, path) in targets {
        let mut verdict = check(&screen, &name, &path)?;
        if let Some(hub) = &repair
            && !verdict.damaged.is_empty()
        {
            show(&screen, &name, &path, &verdict);
            mend(&screen, models_dir, &name, &path, &verdict, hub)?;
            verdict = check(&screen, &name, &path)?;
        }
        show(&screen, &name, &path, &verdict);
        sound &= verdict.is_sound();
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The models to check: one by its name or its path, or all.
fn targets(
    models_dir: &Path,
    named: &[(String, PathBuf)],
    name: Option<&str>,
) -> Result<Vec<(String, PathBuf)>, String> {
    let entries = scan(models_dir, named);
    let known: Vec<(String, PathBuf)> = entries
        .into_iter()
        .map(|entry| (entry.name, entry.path))
        .collect();
    let Some(name) = name else {
        if known.is_empty() {
            return Err(format!("there is no model in {}", models_dir.display()));
        }
        return Ok(known);
    };
    if let Some(found) = known.iter().find(|(known, _)| known == name) {
        return Ok(vec![found.clone()]);
    }
    let path = PathBuf::from(name);
    let here = if name.contains('/') {
        path
    } else {
        models_dir.join(name)
    };
    if !here.starts_with(models_dir.join(fetch::WORKSHOP)) && here.exists() {
        let name = here
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok(vec![(name, here)]);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    Err(format!(
        "there is no model named {name}; there are: {}",
        names.join(", ")
    ))
}

fn check(screen: &Screen, name: &str, path: &Path) -> Result<Verdict, String> {
    let bar = screen.reading(name, 0);
    let verdict = verify(path, &mut |read, all| {
        bar.set_length(all);
        bar.set_position(read);
        true
    });
    bar.finish_and_clear();
    verdict.map_err(|why| format!("{name}: {why}"))
}

fn mend(
    screen: &std::sync::Arc<Screen>,
    models_dir: &Path,
    name: &str,
    path: &Path,
    verdict: &Verdict,
    hub: &HubArgs,
) -> Result<(), String> {
    if path != models_dir.join(name) {
        return Err(format!(
            "{name} does not lie in {}, so it is not repaired here",
            models_dir.display()
        ));
    }
    let damaged: Vec<String> = verdict
        .damaged
        .iter()
        .map(|damage| damage.path.clone())
        .collect();
    let hub = Hub::new(hub.settings(), proxies());
    let watch = screen.watch();
    let mended = in_runtime(async {
        fetch::repair(&hub, models_dir, name, &damaged, &watch)
            .await
            .map_err(|error| error.to_string())
    });
    screen.clear();
    mended
}

fn show(screen: &Screen, name: &str, path: &Path, verdict: &Verdict) {
    let how = match verdict.thoroughness {
        Thoroughness::Checksums => "checksums",
        Thoroughness::BuiltIn => "built_in",
        Thoroughness::HeadersOnly => "headers",
    };
    let damaged: Vec<_> = verdict
        .damaged
        .iter()
        .map(|damage| json!({ "path": damage.path, "problem": damage.what }))
        .collect();
    screen.tell(&json!({
        "event": "verified", "name": name, "path": path, "ok": verdict.is_sound(), "by": how,
        "files": verdict.files, "bytes": verdict.bytes, "damaged": damaged,
        "strangers": verdict.strangers, "problem": verdict.unusable,
    }));
    if screen.is_json() {
        return;
    }
    let mut out = String::new();
    for damage in &verdict.damaged {
        out += &format!("{name}: {} {}\n", damage.path, damage.what);
    }
    if let Some(why) = &verdict.unusable {
        out += &format!("{name}: {why}\n");
    }
    if verdict.is_sound() {
        out += &match verdict.thoroughness {
            Thoroughness::Checksums => format!(
                "{name}: all {} files are what was fetched ({}, SHA-256)\n",
                verdict.files,
                Bytes(verdict.bytes)
            ),
            Thoroughness::BuiltIn => format!(
                "{name}: all {} files are what this program carries\n",
                verdict.files
            ),
            Thoroughness::HeadersOnly => format!(
                "{name}: configs, tokenizers and the headers of the weights are in order; it has no manifest, so its bytes were not compared\n"
            ),
        };
    } else if !verdict.damaged.is_empty() && verdict.thoroughness == Thoroughness::Checksums {
        out += &format!(
            "{name} is damaged; `atelier models verify {name} --repair` fetches these files again\n"
        );
    }
    for stranger in verdict.strangers.iter().take(5) {
        out += &format!("{name}: note: {stranger} is not part of what was fetched\n");
    }
    let _ = std::io::stdout().lock().write_all(out.as_bytes());
}

fn remove(models_dir: &Path, named: &[(String, PathBuf)], name: &str) -> Result<ExitCode, String> {
    if let Some((_, path)) = named.iter().find(|(named, _)| named == name) {
        return Err(format!(
            "{name} is the folder {}, named with --model; it is not removed",
            path.display()
        ));
    }
    check_name(name)?;
    let freed = remove_from(models_dir, name)?;
    print_all(&format!(
        "{name} is removed; {} are free again\n",
        Bytes(freed)
    ))
}

/// Removes a model's folder or file and its unfinished fetch; answers the bytes that this frees.
pub(super) fn remove_from(models_dir: &Path, name: &str) -> Result<u64, String> {
    let begun = fetch::unfinished(models_dir).remove(name);
    let files = ["", ".safetensors", ".gguf"].map(|end| models_dir.join(format!("{name}{end}")));
    let there = files.iter().find(|path| path.symlink_metadata().is_ok());
    if there.is_none() && begun.is_none() {
        return Err(format!(
            "there is no model named {name} in {}",
            models_dir.display()
        ));
    }
    let mut freed = 0;
    if let Some(begun) = begun {
        fetch::discard(models_dir, name).map_err(|error| error.to_string())?;
        freed += begun.have;
    }
    let Some(path) = there else {
        return Ok(freed);
    };
    let _lock = lock(models_dir, name).map_err(|error| error.to_string())?;
    let words = |error: std::io::Error| format!("{} cannot be removed: {error}", path.display());
    let about = path.symlink_metadata().map_err(words)?;
    if about.is_dir() {
        freed += fetch::bytes_in(path);
        // Out of the list first: half a model must never be found.
        let doomed = models_dir.join(format!(".removing-{}", uuid::Uuid::new_v4().simple()));
        std::fs::rename(path, &doomed).map_err(words)?;
        std::fs::remove_dir_all(&doomed).map_err(words)?;
    } else {
        // A link is removed, never what it leads to.
        freed += if about.is_file() { about.len() } else { 0 };
        std::fs::remove_file(path).map_err(words)?;
    }
    Ok(freed)
}
