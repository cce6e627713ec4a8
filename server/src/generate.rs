//! `atelier generate`: the engine on the command line, with no server and no database.
//!
//! Whatever the caller got wrong is one line on standard error and exit code 2; faults of the
//! program or the machine are exit code 1; an interrupt is 130. The PNG appears whole or not at all.

mod inputs; // what the options bring along
mod report; // what is printed in the end

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use atelier_app::gallery::PhaseTimings;
use atelier_app::studio::Settings;
use atelier_engine::cpu::limit_isa;
use atelier_engine::{
    ComputeDtype, Control, DeviceId, EngineError, Generation, LoadEvent, LoadOptions, LoraChoice,
    Phase, Pipeline, Progress, cuda_build, few_step_defaults, inspect,
};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::GenerateArgs;
use crate::devices::probe::ops::{engine_dtype, engine_isa, engine_mode};
use crate::devices::{Asked, OnCpu, Precision};
use crate::gallery::{Facts, ImageHash, metadata};
use crate::models::{Model, demo, engine_request, random_seed};
use report::Made;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The caller can put it right.
    #[error("{0}")]
    Usage(String),
    /// The program or the machine failed.
    #[error("{0}")]
    Fault(String),
}

impl Failure {
    fn engine(error: EngineError) -> Self {
        match error {
            EngineError::InvalidRequest { field, message } => {
                Self::Usage(format!("{} {message}", flag(field)))
            }
            EngineError::Model { .. } => Self::Usage(error.to_string()),
            other => Self::Fault(other.to_string()),
        }
    }
}

/// The option that sets a field of the request.
fn flag(field: &str) -> String {
    match field {
        "num_inference_steps" => "--steps".into(),
        other => format!("--{}", other.replace('_', "-")),
    }
}

/// Runs the command to its end and answers the process' exit code.
pub fn run(args: GenerateArgs) -> ExitCode {
    let leftovers = Leftovers::default();
    leftovers.clean_up_on_interrupt();
    match generate(&args, &leftovers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", one_line(&failure.to_string()));
            ExitCode::from(match failure {
                Failure::Usage(_) => 2,
                Failure::Fault(_) => 1,
            })
        }
    }
}

fn generate(args: &GenerateArgs, leftovers: &Leftovers) -> Result<(), Failure> {
    let began = Instant::now();
    let (device, dtype) = device(&args.device, args.precision)?;
    let on_cpu = args.cpu.on_cpu().map_err(Failure::Usage)?;
    if device != DeviceId::Cpu && on_cpu != OnCpu::USUAL {
        return Err(Failure::Usage(format!(
            "--weights, --compute and --memory are about the CPU; leave them out for {device}"
        )));
    }
    if let Some(isa) = args.cpu.isa {
        limit_isa(engine_isa(isa));
    }
    let seeds = inputs::seeds(args.seed.unwrap_or_else(random_seed), args.batch);
    let outs = outputs(args, &seeds)?;

    // 1. Everything that can be refused is refused from the configs, before weights are read.
    let (model, unpacked) = open_model(args.model.as_deref(), leftovers)?;
    if let Some(refiner) = &args.refiner {
        inspect(refiner).map_err(Failure::engine)?;
    }
    let inputs = inputs::read(args)?;
    let mut settings = inputs.complete(args, settle(args, &model, inputs.image.as_ref()));
    let mut request = engine_request(&settings);
    request.input = inputs.engine_input(&settings);
    request.loras = args
        .loras
        .iter()
        .map(|lora| LoraChoice {
            path: lora.path.clone(),
            weight: lora.weight,
        })
        .collect();
    request
        .validate(&model.description)
        .map_err(Failure::engine)?;

    // 2. Weights.
    let bar = Bar::new();
    let options = LoadOptions {
        threads: args.threads.map(usize::from),
        refiner: args.refiner.clone(),
        vae: args.vae.clone(),
        unet: args.unet.clone(),
        device,
        dtype,
        cpu: engine_mode(on_cpu),
        ..LoadOptions::default()
    };
    let pipeline = Pipeline::load(&model.folder, &options, &mut |event| bar.loading(event))
        .inspect_err(|_| bar.clear())
        .map_err(Failure::engine)?;
    let mut loading_s = began.elapsed().as_secs_f64();

    // 3. The images, each as its seed alone makes it; text is encoded once.
    let mut made = Vec::with_capacity(outs.len());
    for (&seed, out) in seeds.iter().zip(&outs) {
        let started = if made.is_empty() {
            began
        } else {
            Instant::now()
        };
        settings.seed = seed;
        request.seed = seed;
        let generation = pipeline
            .generate(&request, &mut |progress| {
                bar.generating(progress);
                Control::Continue
            })
            .inspect_err(|_| bar.clear())
            .map_err(Failure::engine)?;

        // 4. The file.
        let facts = facts(&generation, loading_s, started);
        let png = metadata::write_png(&generation.image, &settings, &facts)
            .map_err(|error| Failure::Fault(error.to_string()))?;
        write_whole(&out.target, &png, leftovers).map_err(|error| {
            Failure::Fault(format!("{} was not written: {error}", out.target.display()))
        })?;
        made.push(Made {
            output: out.name.clone(),
            size: generation.image.dimensions(),
            bytes: png.len(),
            sha256: ImageHash::of(&png).to_string(),
            settings: settings.clone(),
            timings: generation.timings,
            facts,
        });
        // The others find the model loaded.
        loading_s = 0.0;
    }
    drop(pipeline);
    drop(unpacked);
    bar.clear();
    report::print(args.json, &made)
        .map_err(|error| Failure::Fault(format!("standard output: {error}")))
}

/// The device and the number format. GPUs are for the CUDA worker, which is this program in another
/// build.
fn device(asked: &str, precision: Option<Precision>) -> Result<(DeviceId, ComputeDtype), Failure> {
    let usage = |words: String| Err(Failure::Usage(words));
    match asked.parse::<Asked>() {
        Ok(Asked::Auto | Asked::Cpu) => match precision {
            None | Some(Precision::F32) => Ok((DeviceId::Cpu, ComputeDtype::F32)),
            Some(other) => usage(format!(
                "--precision {other}: the CPU computes in f32; leave --precision out"
            )),
        },
        Ok(Asked::Cuda(numbers)) => match (cuda_build(), numbers.as_slice()) {
            (None, _) => usage(format!(
                "--device {asked}: this build computes on the CPU only; leave --device out, or run `atelier-cuda generate` (see `atelier probe`)"
            )),
            (Some(_), &[number]) => Ok((
                DeviceId::Cuda(number),
                engine_dtype(precision.unwrap_or(Precision::Bf16)),
            )),
            (Some(_), _) => usage(format!("--device {asked}: one image is made on one device")),
        },
        Err(message) => usage(format!("--device {message}")),
    }
}

/// A file to write.
struct Out {
    /// As the caller calls it.
    name: PathBuf,
    /// Where it really lies.
    target: PathBuf,
}

/// One file for each seed: `{seed}` in the name is replaced; without it, several are numbered from 1.
fn outputs(args: &GenerateArgs, seeds: &[u64]) -> Result<Vec<Out>, Failure> {
    seeds
        .iter()
        .enumerate()
        .map(|(index, seed)| {
            let name = inputs::file_name(&args.out, index, seeds.len(), *seed);
            let target = check_out(&name)?;
            Ok(Out { name, target })
        })
        .collect()
}

/// A file to write, made sure of as far as that is possible before the work.
fn check_out(out: &Path) -> Result<PathBuf, Failure> {
    let usage = |message: &str| Failure::Usage(format!("--out {}: {message}", out.display()));
    if out.is_dir() {
        return Err(usage("is a folder; add a file name such as image.png"));
    }
    let is_png = |extension: &std::ffi::OsStr| extension.eq_ignore_ascii_case("png");
    if !out.extension().is_some_and(is_png) {
        return Err(usage("must end in .png, the only format written here"));
    }
    // A link is followed, so that its target is replaced and not the link.
    let out = fs::canonicalize(out).unwrap_or_else(|_| out.to_path_buf());
    if out.exists() && !out.is_file() {
        return Err(usage("exists and is not a plain file"));
    }
    let folder = folder_of(&out);
    if !folder.is_dir() {
        return Err(Failure::Usage(format!(
            "--out: the folder {} does not exist; make it first",
            folder.display()
        )));
    }
    let probe = temporary_beside(&out);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|error| usage(&format!("cannot be written: {error}")))?;
    Ok(out)
}

/// The model, and the folder that holds it for the time of the run if it is the demo model.
fn open_model(
    folder: Option<&Path>,
    leftovers: &Leftovers,
) -> Result<(Model, Option<Temporary>), Failure> {
    if let Some(folder) = folder {
        let name = fs::canonicalize(folder)
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "model".into());
        let model = Model::open(&name, folder).map_err(Failure::engine)?;
        return Ok((model, None));
    }
    if !demo::is_embedded() {
        return Err(Failure::Usage(
            "this build carries no demo model; name a model folder with --model DIR".into(),
        ));
    }
    let folder = std::env::temp_dir().join(format!("atelier-{}", uuid::Uuid::new_v4().simple()));
    let unpacked = leftovers
        .create(folder.clone(), |path| {
            fs::create_dir(path).and_then(|()| demo::write_into(path))
        })
        .map_err(|error| {
            Failure::Fault(format!(
                "the demo model cannot be unpacked into {}: {error}",
                folder.display()
            ))
        })?;
    let model = Model::open(demo::NAME, &folder).map_err(Failure::engine)?;
    Ok((model, Some(unpacked)))
}

/// The options with the model's defaults filled in and the seed drawn.
fn settle(args: &GenerateArgs, model: &Model, image: Option<&RgbImage>) -> Settings {
    let summary = &model.summary;
    let (width, height) = inputs::default_size(args, model, image);
    // A LoRA that takes few steps brings the steps and the guidance that it was made for.
    let few = args
        .loras
        .iter()
        .filter(|lora| lora.weight != 0.0)
        .find_map(|lora| few_step_defaults(lora.path.file_stem()?.to_str()?));
    Settings {
        prompt: args.prompt.clone(),
        negative_prompt: args.negative_prompt.clone(),
        num_inference_steps: args.steps.unwrap_or_else(|| {
            few.as_ref()
                .map_or(summary.default_steps, |few| few.num_inference_steps)
        }),
        guidance_scale: args.guidance_scale.unwrap_or_else(|| {
            few.as_ref()
                .map_or(summary.default_guidance_scale, |few| few.guidance_scale)
        }),
        width: args.width.unwrap_or(width),
        height: args.height.unwrap_or(height),
        seed: 0,
        scheduler: args.scheduler.clone(),
        model: summary.name.clone(),
        prompt_syntax: args.prompt_syntax.into(),
        clip_skip: args.clip_skip,
        ..Settings::default()
    }
}

fn facts(generation: &Generation, loading_s: f64, began: Instant) -> Facts {
    let timings = &generation.timings;
    Facts {
        scheduler: generation.scheduler.clone(),
        device: generation.device.clone(),
        dtype: generation.dtype.clone(),
        fallback_reason: None,
        rungs: Vec::new(),
        timings: PhaseTimings {
            queued_s: 0.0,
            loading_s,
            text_encoding_s: timings.text_encoding_s,
            denoising_s: timings.denoising_s,
            decoding_s: timings.decoding_s,
            total_s: began.elapsed().as_secs_f64(),
        },
        step_s: timings.step_s.clone(),
        notes: generation.notes.clone(),
        text_cached: generation.text_cached,
        model_fingerprint: None,
        version: Facts::VERSION.into(),
    }
}

/// Errors are one line each: a library's second line would hide the cause from whoever reads logs.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

// ---- progress on a terminal ------------------------------------------------------------------

/// The progress bar; draws nothing where standard error is no terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
        bar.set_style(Self::style("{spinner} {msg:22} {bar:32} {pos}/{len}"));
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(bar)
    }

    fn style(template: &str) -> ProgressStyle {
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
    }

    fn loading(&self, event: LoadEvent<'_>) {
        let LoadEvent::Component { name, index, count } = event;
        self.0.set_length(count as u64);
        self.0.set_position(index as u64);
        self.0.set_message(format!("loading {name}"));
    }

    fn generating(&self, progress: &Progress<'_>) {
        let message = match progress.phase {
            Phase::TextEncoding => "encoding the text",
            Phase::ImageEncoding => "encoding the image",
            Phase::Denoising => "denoising",
            Phase::Decoding => "decoding the image",
        };
        match (progress.phase, progress.step) {
            (Phase::Denoising, 0) => {
                // Restarted, so that the time left is counted from steps alone.
                self.0.reset();
                self.0
                    .set_style(Self::style("{spinner} {msg:22} {bar:32} {pos}/{len} steps"));
            }
            // Nothing is known of the time left before the first step is done.
            (Phase::Denoising, 1) => self.0.set_style(Self::style(
                "{spinner} {msg:22} {bar:32} {pos}/{len} steps, {eta} left",
            )),
            _ => {}
        }
        self.0.set_length(u64::from(progress.steps));
        self.0.set_position(u64::from(progress.step));
        self.0.set_message(message);
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

// ---- files that must not stay behind ---------------------------------------------------------

/// Paths that are removed when the process is interrupted.
#[derive(Clone, Default)]
struct Leftovers(Arc<Mutex<Vec<PathBuf>>>);

/// One such path; removed when dropped.
struct Temporary {
    path: PathBuf,
    leftovers: Leftovers,
}

impl Leftovers {
    /// Makes something at `path` that is removed with the answer, or at an interrupt.
    fn create(
        &self,
        path: PathBuf,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Temporary> {
        // Held while making: an interrupt waits, and then finds the path in the list.
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paths.push(path.clone());
        let made = make(&path);
        drop(paths);
        let temporary = Temporary {
            path,
            leftovers: self.clone(),
        };
        made.map(|()| temporary)
    }

    /// From now on, an interrupt or a request to end removes the paths and ends the process.
    fn clean_up_on_interrupt(&self) {
        let leftovers = self.clone();
        // Without the thread an interrupt ends the process all the same, less tidily.
        let _ = std::thread::Builder::new()
            .name("interrupt".into())
            .spawn(move || {
                let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()
                else {
                    return;
                };
                let code = runtime.block_on(interrupted());
                // Never released: nothing new appears between the removal and the end.
                let paths = leftovers.0.lock().unwrap_or_else(PoisonError::into_inner);
                for path in paths.iter() {
                    remove(path);
                }
                if io::stderr().is_terminal() {
                    // Takes the place of the progress bar.
                    eprint!("\r\x1b[2K");
                }
                eprintln!("error: interrupted; nothing was written");
                std::process::exit(code);
            });
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut paths = self
            .leftovers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remove(&self.path);
        paths.retain(|path| *path != self.path);
    }
}

/// Waits for SIGINT or SIGTERM and answers the exit code that shells expect for it.
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

fn remove(path: &Path) {
    let _ = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn temporary_beside(out: &Path) -> PathBuf {
    folder_of(out).join(format!(".atelier-{}", uuid::Uuid::new_v4().simple()))
}

/// Writes the file under a temporary name, syncs it and renames it into place.
fn write_whole(out: &Path, bytes: &[u8], leftovers: &Leftovers) -> io::Result<()> {
    let path = temporary_beside(out);
    let temporary = leftovers.create(path, |path| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    })?;
    fs::rename(&temporary.path, out)
}
