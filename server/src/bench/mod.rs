//! `atelier bench`: how fast the engine is here, held against what the machine's arithmetic could
//! do at best. Ratios count: seconds of different machines, or of a busy one, do not compare.

mod command; // the flags
mod picture; // the profile as a drawing
mod usage; // memory and page faults

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use atelier_engine::cpu::{self, profile};
use atelier_engine::{
    EngineError, LoadOptions, Part, Pipeline, SyntheticModel, Workload, write_model,
};
use serde::Serialize;

use crate::config::IsaArg;
use crate::devices::probe::ops::{engine_isa, engine_mode};

pub use command::{BenchArgs, What};
use command::{MeasureArgs, ModelArgs};
use usage::{Usage, Watch};

/// How long the machine's peak is looked for.
const PEAK_S: f64 = 1.0;

/// One measurement.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    size: u32,
    batch: usize,
    threads: usize,
    /// What is computed in, and how memory is dealt with.
    format: String,
    /// Seconds of each run, in order; the first ones that only warm up are left out.
    seconds: Vec<f64>,
    median_s: f64,
    /// Floating-point operations of one run, in units of 10⁹.
    gflop: f64,
    gflop_per_s: f64,
    /// The most that this machine's multiply-add units gave in the same minute.
    peak_gflop_per_s: f64,
    share_of_peak: f64,
    /// Until the first run could begin: reading configs and mapping weights.
    loading_s: f64,
    /// Until the first run was done, from the start of loading.
    first_result_s: f64,
    usage: Usage,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    profile: Vec<Line>,
}

/// One row of the profile.
#[derive(Debug, Serialize)]
struct Line {
    op: String,
    shape: String,
    count: u64,
    seconds: f64,
    share: f64,
    gflop_per_s: f64,
}

/// Runs the command to its end and answers the process' exit code.
pub fn run(args: BenchArgs) -> ExitCode {
    let result = match &args.what {
        What::Model(args) => make_model(args),
        What::Peak { threads, isa } => {
            limit(*isa);
            cpu::set_threads(threads.map(usize::from));
            println!(
                "{:.1} GFLOP/s on {} threads",
                cpu::fma_peak(PEAK_S) / 1e9,
                cpu::threads()
            );
            Ok(())
        }
        What::Unet(args) => measure("unet", Part::Unet, args),
        What::Vae(args) => measure("vae", Part::Vae, args),
        What::Text(args) => measure("text", Part::TextEncoders, args),
        What::Image(args) => measure("image", Part::Image { steps: args.steps }, args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(match error {
                EngineError::Model { .. } | EngineError::InvalidRequest { .. } => 2,
                _ => 1,
            })
        }
    }
}

fn limit(isa: Option<IsaArg>) {
    if let Some(isa) = isa {
        cpu::limit_isa(engine_isa(isa));
    }
}

fn make_model(args: &ModelArgs) -> Result<(), EngineError> {
    let kind = if args.refiner {
        SyntheticModel::Refiner
    } else {
        SyntheticModel::Base
    };
    write_model(&args.out, kind, args.seed, &mut |name| {
        eprintln!("writing {name}");
    })?;
    println!("{}", args.out.display());
    Ok(())
}

fn measure(what: &'static str, part: Part, args: &MeasureArgs) -> Result<(), EngineError> {
    let began = Instant::now();
    cpu::keep_pages();
    let watch = Watch::begin();
    limit(args.cpu.isa);
    let on_cpu = args
        .cpu
        .on_cpu()
        .map_err(|line| EngineError::InvalidRequest {
            field: "weights",
            message: line,
        })?;
    let options = LoadOptions {
        threads: args.threads.map(usize::from),
        cpu: engine_mode(on_cpu),
        ..LoadOptions::default()
    };
    let pipeline = Pipeline::load(&args.model, &options, &mut |_| {})?;
    let loading_s = began.elapsed().as_secs_f64();
    let work = Workload::new(&pipeline, part, args.size, args.batch)?;

    work.run()?;
    let first_result_s = began.elapsed().as_secs_f64();
    let mut seconds = Vec::new();
    let before = Usage::now();
    for _ in 0..args.repeat {
        let run = Instant::now();
        work.run()?;
        seconds.push(run.elapsed().as_secs_f64());
    }
    let mut usage = Usage::now().since(&before, args.repeat);
    usage.peak_anonymous_gib = watch.end();

    // One more run, since looking costs time: it counts the arithmetic, and says where time goes.
    profile::start();
    let run = Instant::now();
    work.run()?;
    let profiled_s = run.elapsed().as_secs_f64();
    let entries = profile::stop();
    let flops: f64 = entries.iter().map(|entry| entry.flops).sum();
    let peak = cpu::fma_peak(PEAK_S);
    let median_s = median(&seconds);
    let report = Report {
        what,
        size: args.size,
        batch: args.batch,
        threads: cpu::threads(),
        format: on_cpu.words(),
        median_s,
        gflop: flops / 1e9,
        gflop_per_s: flops / median_s / 1e9,
        peak_gflop_per_s: peak / 1e9,
        share_of_peak: flops / median_s / peak,
        loading_s,
        first_result_s,
        usage,
        seconds,
        profile: if args.profile.is_some() {
            lines(&entries, profiled_s)
        } else {
            Vec::new()
        },
    };
    if let Some(path) = &args.profile {
        write_picture(path, &report)?;
    }
    print(&report, args.json);
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

/// The profile with shares of the whole; what no kernel accounts for is `everything else`.
fn lines(entries: &[profile::Entry], total_s: f64) -> Vec<Line> {
    let accounted: f64 = entries.iter().map(|entry| entry.seconds).sum();
    let rest = profile::Entry {
        op: "everything else",
        shape: String::new(),
        count: 1,
        seconds: (total_s - accounted).max(0.0),
        flops: 0.0,
    };
    entries
        .iter()
        .chain([&rest])
        .map(|entry| Line {
            op: entry.op.to_string(),
            shape: entry.shape.clone(),
            count: entry.count,
            seconds: entry.seconds,
            share: entry.seconds / total_s,
            gflop_per_s: entry.flops / entry.seconds.max(1e-9) / 1e9,
        })
        .collect()
}

fn write_picture(path: &Path, report: &Report) -> Result<(), EngineError> {
    let title = format!(
        "{} at {}×{}, batch {}, {} threads",
        report.what, report.size, report.size, report.batch, report.threads
    );
    std::fs::write(path, picture::bars(&title, &report.profile)).map_err(|error| {
        EngineError::Model {
            path: path.to_path_buf(),
            message: format!("cannot be written: {error}"),
        }
    })
}

fn print(report: &Report, json: bool) {
    if json {
        // Plain numbers and strings always serialise.
        println!("{}", serde_json::to_string(report).unwrap_or_default());
        return;
    }
    println!(
        "{} {}×{} batch {} in {}: {:.3} s (median of {}), {:.1} GFLOP, {:.1} GFLOP/s = {:.0} % of {:.1}",
        report.what,
        report.size,
        report.size,
        report.batch,
        report.format,
        report.median_s,
        report.seconds.len(),
        report.gflop,
        report.gflop_per_s,
        100.0 * report.share_of_peak,
        report.peak_gflop_per_s,
    );
    println!(
        "loading {:.2} s, first result after {:.2} s; peak memory {:.2} GiB, of the process' own (not in files) {:.2} GiB at most; {} page faults and {:.2} s of processor time a run",
        report.loading_s,
        report.first_result_s,
        report.usage.peak_resident_gib,
        report.usage.peak_anonymous_gib,
        report.usage.page_faults,
        report.usage.processor_s,
    );
    for line in report.profile.iter().take(25) {
        println!(
            "{:5.1} % {:8.3} s {:6}× {:18} {:42} {:7.1} GFLOP/s",
            100.0 * line.share,
            line.seconds,
            line.count,
            line.op,
            line.shape,
            line.gflop_per_s
        );
    }
}
