//! The rules of ARCHITECTURE.md as tests. Each rule is a function from one source file to what is
//! wrong with it; each is also shown a file that breaks it, so that a rule which has gone blind
//! fails here too.
//!
//! Reads the source tree only, with no crate's help, and so runs in milliseconds.

#[path = "architecture/source.rs"]
mod source;

use source::{Source, root, split_code, tree};
use std::fmt::Write as _;
use std::fs;

type Rule = fn(&Source) -> Vec<String>;

/// Applies a rule to the tree, and first to snippets that break it.
fn check(rule: Rule, broken: &[(&str, &str)], sound: &[(&str, &str)]) {
    for (path, text) in broken {
        let wrong = rule(&Source::new(path, text));
        assert!(
            !wrong.is_empty(),
            "the rule is blind to this in {path}:\n{text}"
        );
    }
    for (path, text) in sound {
        let wrong = rule(&Source::new(path, text));
        assert!(
            wrong.is_empty(),
            "the rule sees ghosts in {path}: {wrong:?}\n{text}"
        );
    }
    let mut report = String::new();
    for source in tree() {
        for wrong in rule(&source) {
            let _ = writeln!(report, "{}: {wrong}", source.path);
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The complaint, where there is one to make.
fn when(wrong: bool, complaint: &str) -> Vec<String> {
    if wrong {
        vec![complaint.into()]
    } else {
        Vec::new()
    }
}

/// Code of the server proper: not the engine, not tests.
fn is_server(source: &Source) -> bool {
    source.is_rust() && source.is_under("server/src/")
}

fn is_engine(source: &Source) -> bool {
    source.is_rust() && source.is_under("server/engine/src/")
}

fn is_app(source: &Source) -> bool {
    source.is_rust() && source.is_under("app/src/")
}

#[test]
fn axum_is_named_only_at_the_door() {
    fn rule(source: &Source) -> Vec<String> {
        let allowed = source.is_under("server/src/http/") || source.path == "server/src/startup.rs";
        when(
            is_server(source) && !allowed && source.names("axum"),
            "names axum; HTTP lives in server/src/http and startup.rs",
        )
    }
    check(
        rule,
        &[
            ("server/src/gallery/mod.rs", "//! x\nuse axum::Json;\n"),
            (
                "server/src/error.rs",
                "//! x\nfn f() -> axum::http::StatusCode { todo!() }\n",
            ),
        ],
        &[
            ("server/src/http/images.rs", "//! x\nuse axum::Json;\n"),
            (
                "server/src/gallery/mod.rs",
                "//! Knows no axum.\nuse leptos_axum as x;\n",
            ),
        ],
    );
}

#[test]
fn sql_is_written_only_in_stores() {
    fn rule(source: &Source) -> Vec<String> {
        let allowed = ["store.rs", "queue.rs", "db.rs"].contains(&source.file_name());
        if !is_server(source) || allowed {
            return Vec::new();
        }
        let calls = [
            "sqlx::query",
            "query_as(",
            "query_scalar(",
            "query_as!",
            "QueryBuilder",
        ];
        // What begins like a statement and goes on like one; "update" and "select" are also words.
        let statements = [
            ("select ", " from "),
            ("insert into ", ""),
            ("delete from ", ""),
        ];
        let statements = [("update ", " set "), ("pragma ", "")]
            .into_iter()
            .chain(statements);
        let is_sql = |text: &String| {
            let text = text
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .to_lowercase();
            statements
                .clone()
                .any(|(start, then)| text.starts_with(start) && text.contains(then))
        };
        when(
            calls.iter().any(|call| source.code.contains(call))
                || source.strings.iter().any(is_sql),
            "holds SQL; it belongs in a store.rs, queue.rs or db.rs",
        )
    }
    check(
        rule,
        &[
            (
                "server/src/http/images.rs",
                "//! x\nfn f() { sqlx::query(\"x\"); }\n",
            ),
            (
                "server/src/admin.rs",
                "//! x\nconst ALL: &str = r#\"\n  SELECT * FROM job\"#;\n",
            ),
            (
                "server/src/admin.rs",
                "//! x\nconst END: &str = \"update job\n set state = 'done'\";\n",
            ),
        ],
        &[
            (
                "server/src/jobs/queue.rs",
                "//! x\nfn f() { sqlx::query(\"SELECT 1\"); }\n",
            ),
            (
                "server/src/http/health.rs",
                "//! SELECT 1\nfn f(e: sqlx::Error) { say(\"Selected\") }\n",
            ),
        ],
    );
}

#[test]
fn the_engine_is_named_only_by_what_runs_it() {
    fn rule(source: &Source) -> Vec<String> {
        let runs_it = [
            "server/src/jobs/worker",
            "server/src/devices/probe",
            "server/src/generate",
            "server/src/bench/",
            "server/src/models/",
        ];
        let elsewhere = is_app(source)
            || is_server(source) && !runs_it.iter().any(|path| source.is_under(path));
        when(
            elsewhere && source.names("atelier_engine"),
            "names the engine; only the worker, the probe, generate, bench and models run it",
        )
    }
    check(
        rule,
        &[
            (
                "server/src/http/native.rs",
                "//! x\nuse atelier_engine::Pipeline;\n",
            ),
            (
                "app/src/studio/mod.rs",
                "//! x\nuse atelier_engine::Pipeline;\n",
            ),
        ],
        &[(
            "server/src/jobs/worker.rs",
            "//! x\nuse atelier_engine::Pipeline;\n",
        )],
    );
}

#[test]
fn the_environment_is_read_only_in_config() {
    fn rule(source: &Source) -> Vec<String> {
        let ours = is_server(source) || is_engine(source) || is_app(source);
        let reads = ["env::var", "env::vars", "env::args", "::var_os(", "env::{"];
        when(
            ours && source.path != "server/src/config.rs"
                && reads.iter().any(|call| source.code.contains(call)),
            "reads the environment; only server/src/config.rs does",
        )
    }
    check(
        rule,
        &[
            (
                "server/src/jobs/mod.rs",
                "//! x\nfn f() { std::env::var(\"X\"); }\n",
            ),
            (
                "server/engine/src/lib.rs",
                "//! x\nfn f() { std::env::var_os(\"X\"); }\n",
            ),
        ],
        &[
            (
                "server/src/config.rs",
                "//! x\nfn f() { std::env::args_os(); }\n",
            ),
            (
                "server/src/jobs/mod.rs",
                "//! x\nfn f() { std::env::current_exe(); env!(\"X\"); }\n",
            ),
        ],
    );
}

/// What a manifest depends on: the keys of its dependency tables, tests' included.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            // A test may do what the thing it tests may not.
            let of_tests = line.starts_with("[dev-dependencies");
            inside = line.contains("dependencies") && !of_tests;
            if of_tests {
                continue;
            }
            if let Some((_, name)) = line.trim_end_matches(']').split_once("dependencies.") {
                names.push(name.into());
            }
        } else if inside
            && let Some((name, _)) = line.split_once(['=', '.'])
            && !name.starts_with([' ', '#', '"', '}', ']'])
        {
            names.push(name.trim().into());
        }
    }
    names
}

#[test]
fn the_interface_knows_no_machinery() {
    fn rule(source: &Source) -> Vec<String> {
        const STRANGERS: [&str; 8] = [
            "sqlx",
            "candle_core",
            "candle_nn",
            "argon2",
            "axum",
            "tokio",
            "atelier_engine",
            "atelier_server",
        ];
        if source.path == "app/Cargo.toml" || source.path == "frontend/Cargo.toml" {
            let has = dependencies(&source.text);
            let wrong = STRANGERS
                .iter()
                .filter(|name| has.contains(&name.replace('_', "-")));
            return wrong.map(|name| format!("depends on {name}")).collect();
        }
        if !is_app(source) && !source.is_under("frontend/src/") {
            return Vec::new();
        }
        STRANGERS
            .iter()
            .filter(|name| source.names(name))
            .map(|name| format!("names {name}"))
            .collect()
    }
    check(
        rule,
        &[
            ("app/src/gallery/mod.rs", "//! x\nuse sqlx::FromRow;\n"),
            ("app/src/lib.rs", "//! x\nfn f() { axum::serve(); }\n"),
            (
                "app/Cargo.toml",
                "[dependencies]\nleptos.workspace = true\nsqlx = \"0.9\"\n",
            ),
            (
                "app/Cargo.toml",
                "[dependencies.candle-core]\nversion = \"1\"\n",
            ),
        ],
        &[
            (
                "app/src/response.rs",
                "//! No axum here.\nuse leptos_axum::ResponseOptions;\n",
            ),
            (
                "app/Cargo.toml",
                "[dependencies]\nleptos_axum = { workspace = true }\n# sqlx: never\n",
            ),
            (
                "app/Cargo.toml",
                "[dependencies]\nleptos = \"0.9\"\n[dev-dependencies]\ntokio = \"1\"\n",
            ),
        ],
    );
}

#[test]
fn the_engine_knows_no_users_http_database_or_runtime() {
    fn rule(source: &Source) -> Vec<String> {
        const STRANGERS: [&str; 9] = [
            "tokio",
            "axum",
            "sqlx",
            "http",
            "hyper",
            "leptos",
            "futures",
            "atelier_app",
            "atelier_server",
        ];
        if source.path == "server/engine/Cargo.toml" {
            let has = dependencies(&source.text);
            let wrong = STRANGERS
                .iter()
                .filter(|name| has.contains(&name.replace('_', "-")));
            return wrong.map(|name| format!("depends on {name}")).collect();
        }
        if !is_engine(source) {
            return Vec::new();
        }
        let mut wrong: Vec<String> = STRANGERS
            .iter()
            .filter(|name| source.code.contains(&format!("{name}::")) && source.names(name))
            .map(|name| format!("names {name}"))
            .collect();
        wrong.extend(when(
            source.code.contains("async fn"),
            "is asynchronous; inference is a plain call",
        ));
        wrong
    }
    check(
        rule,
        &[
            (
                "server/engine/src/lib.rs",
                "//! x\nuse tokio::sync::mpsc;\n",
            ),
            (
                "server/engine/src/lib.rs",
                "//! x\npub async fn generate() {}\n",
            ),
            (
                "server/engine/Cargo.toml",
                "[dependencies]\ntokio.workspace = true\n",
            ),
        ],
        &[(
            "server/engine/src/lib.rs",
            "//! Knows no tokio::anything.\npub fn generate() {}\n",
        )],
    );
}

#[test]
fn every_file_says_what_it_is() {
    fn rule(source: &Source) -> Vec<String> {
        when(
            source.is_rust() && !source.text.starts_with("//!"),
            "does not open with //! and what it is for",
        )
    }
    check(
        rule,
        &[
            ("app/src/lib.rs", "use x;\n//! Too late.\n"),
            ("server/build.rs", "fn main() {}\n"),
        ],
        &[("app/src/lib.rs", "//! The interface.\nuse x;\n")],
    );
}

#[test]
fn no_file_outgrows_a_reader() {
    const LIMIT: usize = 700;
    fn rule(source: &Source) -> Vec<String> {
        let lines = source.text.lines().count();
        when(
            source.is_rust() && lines > LIMIT,
            &format!("has {lines} lines; {LIMIT} are the limit: split it by meaning"),
        )
    }
    check(
        rule,
        &[("server/src/lib.rs", &"//! x\n".repeat(LIMIT + 1))],
        &[("server/src/lib.rs", &"//! x\n".repeat(LIMIT))],
    );
}

#[test]
fn modules_are_named_by_meaning() {
    fn rule(source: &Source) -> Vec<String> {
        const EMPTY_WORDS: [&str; 8] = [
            "utils", "util", "helpers", "helper", "common", "manager", "misc", "shared",
        ];
        let part = source
            .path
            .split('/')
            .find(|part| EMPTY_WORDS.contains(&part.trim_end_matches(".rs")));
        match part {
            Some(part) if source.is_rust() => {
                vec![format!("'{part}' says nothing about what is in it")]
            }
            _ => Vec::new(),
        }
    }
    check(
        rule,
        &[
            ("server/src/utils.rs", "//! x\n"),
            ("app/src/common/mod.rs", "//! x\n"),
        ],
        &[("server/src/jobs/mod.rs", "//! x\n")],
    );
}

#[test]
fn html_is_never_pasted_together() {
    fn rule(source: &Source) -> Vec<String> {
        let ours = is_app(source) || is_server(source) || source.is_under("frontend/src/");
        let mut wrong = when(
            ours && (source.code.contains("inner_html") || source.code.contains("set_inner_html")),
            "sets inner_html: text becomes markup",
        );
        // leptos_meta puts the title into the head without escaping it.
        if is_app(source) {
            for (at, _) in source.code.match_indices("<Title") {
                let end = source.code[at..]
                    .find("/>")
                    .map_or(source.code.len(), |end| at + end);
                let attributes = source.code[at + "<Title".len()..end].trim();
                wrong.extend(when(
                    attributes != "text=\"\"",
                    "has a <Title> whose text is not constant",
                ));
            }
        }
        wrong
    }
    check(
        rule,
        &[
            (
                "app/src/gallery/mod.rs",
                "//! x\nview! { <p inner_html=prompt/> }\n",
            ),
            (
                "app/src/gallery/mod.rs",
                "//! x\nview! { <Title text=image.prompt/> }\n",
            ),
            (
                "app/src/gallery/mod.rs",
                "//! x\nview! { <Title text=\"a\" formatter=f/> }\n",
            ),
        ],
        &[(
            "app/src/gallery/mod.rs",
            "//! Never inner_html.\nview! { <Title text=\"Gallery\"/> }\n",
        )],
    );
}

#[test]
fn whoever_asks_comes_first() {
    /// What is asked before anybody is signed in, or by whoever holds the session or a link itself.
    const DOORS: [&str; 12] = [
        "needs_setup",
        "create_first_admin",
        "sign_in",
        "sign_out",
        "invitation",
        "accept_invitation",
        "may_sign_up",
        "sign_up",
        "open_share_link",
        "enter_code",
        "reset_offer",
        "reset_password_by_link",
    ];
    fn rule(source: &Source) -> Vec<String> {
        if source.path != "app/src/backend.rs" {
            return Vec::new();
        }
        let mut wrong = Vec::new();
        let mut methods = 0;
        for part in source.code.split("pub trait ").skip(1) {
            // A trait ends where a line is a single closing brace.
            let body = part.split("\n}").next().unwrap_or(part);
            for method in body.split("fn ").skip(1) {
                methods += 1;
                let (name, rest) = method.split_once('(').unwrap_or((method, ""));
                let arguments: String = rest.split_whitespace().collect::<Vec<_>>().join(" ");
                if !DOORS.contains(&name) && !arguments.starts_with("&self, viewer: &Viewer") {
                    wrong.push(format!("{name} does not take `viewer: &Viewer` first"));
                }
            }
        }
        wrong.extend(when(
            methods == 0,
            "declares no method: this rule has gone blind",
        ));
        wrong
    }
    check(
        rule,
        &[
            (
                "app/src/backend.rs",
                "//! x\npub trait Gallery {\n    async fn image(&self, id: &ImageId);\n}\n",
            ),
            (
                "app/src/backend.rs",
                "//! x\npub trait Jobs {\n    async fn job(\n        &self,\n        id: &JobId,\n        viewer: &Viewer,\n    );\n}\n",
            ),
            ("app/src/backend.rs", "//! x\n"),
        ],
        &[(
            "app/src/backend.rs",
            "//! x\npub trait Jobs {\n    async fn job(\n        &self,\n        viewer: &Viewer,\n    );\n    async fn sign_in(&self);\n}\n",
        )],
    );
}

#[test]
fn acts_of_administrators_are_written_down() {
    fn rule(source: &Source) -> Vec<String> {
        if source.path != "server/src/admin.rs" {
            return Vec::new();
        }
        let mut wrong = Vec::new();
        let mut acts = 0;
        for method in source.code.split("async fn ").skip(1) {
            let (name, rest) = method.split_once('(').unwrap_or((method, ""));
            let (head, body) = rest.split_once('{').unwrap_or((rest, ""));
            // Whoever answers nothing else has done something.
            if !head.contains("-> Answer<()>") {
                continue;
            }
            acts += 1;
            if !body.contains("audit") && !body.contains("&viewer.into()") {
                wrong.push(format!("{name} leaves no trace in the audit log"));
            }
        }
        wrong.extend(when(acts == 0, "declares no act: this rule has gone blind"));
        wrong
    }
    check(
        rule,
        &[
            (
                "server/src/admin.rs",
                "//! x\nimpl A { async fn stop(&self) -> Answer<()> { self.jobs.stop().await } }\n",
            ),
            (
                "server/src/admin.rs",
                "//! x\nimpl A { async fn queue(&self) -> Answer<Rows> { self.rows() } }\n",
            ),
        ],
        &[(
            "server/src/admin.rs",
            "//! x\nimpl A { async fn stop(&self) -> Answer<()> { self.audit.note().await } }\n",
        )],
    );
}

#[test]
fn nothing_is_tied_to_one_machine() {
    fn rule(source: &Source) -> Vec<String> {
        // Put together here, so that this file does not trip over itself.
        let folders = ["/wo|rk/", "/ro|ot/", "/ho|me/"];
        let hosts = [
            "index.cra|tes.io",
            "static.cra|tes.io",
            "py|pi.org",
            "pythonho|sted.org",
            "registry.npm|js.org",
            "deb.deb|ian.org",
            "static.rust|-lang.org",
        ];
        let names = folders
            .iter()
            .chain(&hosts)
            .map(|name| name.replace('|', ""));
        // A home in an example URL or a longer path is no machine's folder.
        let starts_path = |at: usize| {
            !source.text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-$}~*".contains(c))
        };
        names
            .filter(|name| match name.strip_prefix('/') {
                Some(_) => source
                    .text
                    .match_indices(name.as_str())
                    .any(|(at, _)| starts_path(at)),
                None => source.text.contains(name.as_str()),
            })
            .map(|name| format!("names {name}, which is one machine's or one registry's"))
            .collect()
    }
    let home = format!("DIR=/ho{}/someone/models\n", "me");
    let registry = format!("registry = \"https://registry.npm{}.org\"\n", "js");
    check(
        rule,
        &[(".env.sample", &home), ("end2end/.npmrc", &registry)],
        &[(
            "README.md",
            "models live in /srv/models; see frame.work/x\n",
        )],
    );
}

#[test]
fn migrations_are_numbered_and_explained() {
    let folder = root().join("migrations");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("migrations/")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".sql"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "there are migrations");
    for (name, number) in names.iter().zip(1..) {
        assert!(
            name.starts_with(&format!("{number:04}_")),
            "{name} should be number {number:04}"
        );
        let text = fs::read_to_string(folder.join(name)).expect("a migration that can be read");
        assert!(
            text.starts_with("--"),
            "{name} does not open with a comment that says why"
        );
    }
}

#[test]
fn code_is_told_from_comments_and_strings() {
    let (code, strings) = split_code(
        "let a = \"x // y\"; // axum\nlet b = r#\"q\"r\"#; let c = '\"'; /* sqlx */ fn f<'a>(x: &'a str) {} let d = '\\''; b\"z\";",
    );
    assert!(
        !code.contains("axum") && !code.contains("sqlx") && !code.contains("x // y"),
        "{code}"
    );
    assert!(code.contains("fn f<'a>(x: &'a str)"), "{code}");
    assert_eq!(strings, ["x // y", "q\"r", "z"]);
}
