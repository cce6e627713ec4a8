//! `atelier user …` and what a mistyped command line says, through the real binary.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the program on a data folder with this standard input.
pub fn atelier(data_dir: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_atelier"))
        .args(arguments)
        .env("ATELIER_DATA_DIR", data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses early closes its end first; that is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line of an error.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

#[test]
fn users_are_managed_from_the_command_line() {
    let data = tempfile::tempdir().unwrap();
    let none = atelier(data.path(), &["user", "list"], "");
    assert_eq!(none.status.code(), Some(1));
    assert!(complaint(&none).contains("--data-dir"));

    let weak = atelier(
        data.path(),
        &["user", "add", "ada", "--role", "admin"],
        "password1234\n",
    );
    assert_eq!(weak.status.code(), Some(1));
    assert!(complaint(&weak).contains("password"), "{weak:?}");
    let added = atelier(
        data.path(),
        &["user", "add", "ada", "--role", "admin"],
        "plum harbour wick nine\n",
    );
    assert!(added.status.success(), "{added:?}");
    let twin = atelier(
        data.path(),
        &["user", "add", "ADA"],
        "plum harbour wick nine\n",
    );
    assert_eq!(twin.status.code(), Some(1));
    assert!(complaint(&twin).contains("ADA"));

    let set = atelier(
        data.path(),
        &["user", "password", "ada"],
        "sparrow kettle under moss\r\n",
    );
    assert!(set.status.success(), "{set:?}");
    let nobody = atelier(
        data.path(),
        &["user", "password", "eve"],
        "sparrow kettle under moss\n",
    );
    assert!(complaint(&nobody).contains("eve"));
    let list = stdout(&atelier(data.path(), &["user", "list"], ""));
    assert!(
        list.contains("admin") && list.contains("ada") && list.lines().count() == 1,
        "{list}"
    );
}

#[test]
fn mistakes_are_one_line_with_code_2() {
    let data = tempfile::tempdir().unwrap();
    for (arguments, named) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["serve", "--addr", "nowhere"], "--addr"),
        (&["serve", "--queue-limit", "-1"], "-1"),
        (&["user", "add", "x", "--role", "king"], "king"),
        (
            &[
                "generate",
                "--prompt",
                "x",
                "--out",
                "x.png",
                "--guidance-scale",
                "NaN",
            ],
            "--guidance-scale",
        ),
    ] {
        let output = atelier(data.path(), arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(complaint(&output).contains(named), "{output:?}");
    }
    assert!(
        !data.path().join("atelier.db").exists(),
        "a mistake leaves nothing behind"
    );
}
