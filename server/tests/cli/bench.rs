//! `atelier bench`.

use super::{assert_refused, atelier, text, tiny_model};
use serde_json::Value;
use std::fs;

#[test]
fn every_part_is_measured_and_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let model = tiny_model();
    for part in ["unet", "vae", "text", "image"] {
        let picture = dir.path().join(format!("{part}.svg"));
        let output = atelier()
            .args([
                "bench", part, "--json", "--size", "64", "--repeat", "3", "--model",
            ])
            .arg(&model)
            .arg("--profile")
            .arg(&picture)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |key: &str| {
            report[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{part}: {key}"))
        };
        assert_eq!(report["seconds"].as_array().unwrap().len(), 3);
        for key in [
            "median_s",
            "gflop",
            "gflop_per_s",
            "peak_gflop_per_s",
            "first_result_s",
        ] {
            assert!(number(key) > 0.0, "{part}: {key} in {report}");
        }
        assert!(number("loading_s") <= number("first_result_s"));
        let share = number("gflop_per_s") / number("peak_gflop_per_s");
        assert!((number("share_of_peak") - share).abs() < 1e-9, "{report}");
        let usage = &report["usage"];
        let gib = |key: &str| usage[key].as_f64().unwrap();
        assert!(gib("anonymous_gib") > 0.0 && gib("anonymous_gib") <= gib("peak_resident_gib"));
        let lines = report["profile"].as_array().unwrap();
        let shares: f64 = lines
            .iter()
            .map(|line| line["share"].as_f64().unwrap())
            .sum();
        assert!(
            (shares - 1.0).abs() < 0.05,
            "{part}: shares add up to {shares}"
        );
        assert!(lines.iter().any(|line| line["op"] == "linear"), "{report}");
        let svg = fs::read_to_string(&picture).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("everything else"));
    }
}

/// A UNet's arithmetic is known: half the side is a quarter of its convolutions, twice the batch
/// twice of everything.
#[test]
fn arithmetic_is_counted() {
    let gflop = |size: &str, batch: &str| {
        let output = atelier()
            .args([
                "bench", "unet", "--json", "--repeat", "1", "--size", size, "--batch", batch,
            ])
            .arg("--model")
            .arg(tiny_model())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["gflop"].as_f64().unwrap()
    };
    let (one, two) = (gflop("64", "1"), gflop("64", "2"));
    assert!((two / one - 2.0).abs() < 0.1, "{one} and {two}");
    let larger = gflop("128", "1");
    assert!((3.9..6.0).contains(&(larger / one)), "{one} and {larger}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (arguments, named) in [
        (
            &["unet", "--model", "nowhere"][..],
            &["nowhere", "does not exist"][..],
        ),
        (&["unet", "--size", "63", "--model"], &["63"]),
        (&["unet", "--batch", "3", "--model"], &["--batch"]),
        (&["vae", "--repeat", "0", "--model"], &["--repeat"]),
    ] {
        let mut command = atelier();
        command.arg("bench").args(arguments);
        if arguments.last() == Some(&"--model") {
            command.arg(tiny_model());
        }
        assert_refused(&command.output().unwrap(), named);
    }
}
