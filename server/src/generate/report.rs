//! What `atelier generate` says it did: a line for people, JSON for programs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atelier_app::studio::Settings;
use serde::Serialize;

use super::one_line;
use crate::gallery::Facts;

/// An image that was written.
pub(super) struct Made {
    /// Its file.
    pub output: PathBuf,
    /// Width and height.
    pub size: (u32, u32),
    /// The file's length.
    pub bytes: usize,
    /// The file's SHA-256.
    pub sha256: String,
    /// What was asked for.
    pub settings: Settings,
    /// The engine's own account of the time.
    pub timings: atelier_engine::Timings,
    /// How it came about.
    pub facts: Facts,
}

/// What `--json` prints: of one image this, of several a list `images` of them.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a Path,
    width: u32,
    height: u32,
    bytes: usize,
    sha256: &'a str,
    seed: u64,
    model: &'a str,
    num_inference_steps: u32,
    guidance_scale: f64,
    scheduler: &'a str,
    device: &'a str,
    dtype: &'a str,
    timings: Timings,
    step_s: &'a [f64],
    /// How many of the steps are the base model's, and the refiner's if it took part.
    stage_steps: &'a [usize],
    notes: &'a [String],
    version: &'a str,
    /// Everything that was asked for, as the file's own record has it.
    settings: &'a Settings,
}

/// Seconds per phase: a command line has no queue.
#[derive(Serialize)]
struct Timings {
    loading_s: f64,
    text_encoding_s: f64,
    image_encoding_s: f64,
    denoising_s: f64,
    decoding_s: f64,
    total_s: f64,
}

#[derive(Serialize)]
struct Batch<'a> {
    images: Vec<Report<'a>>,
}

impl Made {
    fn report(&self) -> Report<'_> {
        let (settings, facts) = (&self.settings, &self.facts);
        Report {
            output: &self.output,
            width: self.size.0,
            height: self.size.1,
            bytes: self.bytes,
            sha256: &self.sha256,
            seed: settings.seed,
            model: &settings.model,
            num_inference_steps: settings.num_inference_steps,
            guidance_scale: settings.guidance_scale,
            scheduler: &facts.scheduler,
            device: &facts.device,
            dtype: &facts.dtype,
            timings: Timings {
                loading_s: facts.timings.loading_s,
                text_encoding_s: facts.timings.text_encoding_s,
                image_encoding_s: self.timings.image_encoding_s,
                denoising_s: facts.timings.denoising_s,
                decoding_s: facts.timings.decoding_s,
                total_s: facts.timings.total_s,
            },
            step_s: &facts.step_s,
            stage_steps: &self.timings.stage_steps,
            notes: &facts.notes,
            version: &facts.version,
            settings,
        }
    }
}

/// Prints what was made, on standard output; notes for people go to standard error, once each.
///
/// # Errors
/// If standard output cannot be written.
pub(super) fn print(json: bool, made: &[Made]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if json {
        match made {
            [one] => serde_json::to_writer(&mut stdout, &one.report())?,
            several => {
                let images = several.iter().map(Made::report).collect();
                serde_json::to_writer(&mut stdout, &Batch { images })?;
            }
        }
        return writeln!(stdout);
    }
    let mut notes: Vec<&String> = Vec::new();
    for note in made.iter().flat_map(|made| &made.facts.notes) {
        if !notes.contains(&note) {
            notes.push(note);
            eprintln!("note: {}", one_line(note));
        }
    }
    for made in made {
        let timings = &made.facts.timings;
        writeln!(
            stdout,
            "{}: {}×{}, seed {}, {} steps of {} in {:.1} s on {} in {} (loading {:.1} s, text \
             {:.1} s, denoising {:.1} s, decoding {:.1} s)",
            made.output.display(),
            made.size.0,
            made.size.1,
            made.settings.seed,
            made.timings.step_s.len(),
            made.facts.scheduler,
            timings.total_s,
            made.facts.device,
            made.facts.dtype,
            timings.loading_s,
            timings.text_encoding_s,
            timings.denoising_s,
            timings.decoding_s,
        )?;
    }
    Ok(())
}
