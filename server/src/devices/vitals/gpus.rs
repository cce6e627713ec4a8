//! Where GPUs' numbers come from: NVIDIA's library in a process of its own, else `nvidia-smi`, else
//! nowhere. Whatever fails is tried again after a while: a driver may be installed or mended.

use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::nvml::{GpuVitals, Line};
use crate::devices::child::{self, Ended};

/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(600);
/// How long one run of `nvidia-smi` may take, and the least time between two: it costs a tenth of
/// a second of a core, and half a per cent of one is the budget.
const SMI_LIMIT: Duration = Duration::from_secs(10);
const SMI_EVERY: Duration = Duration::from_secs(30);

/// The programs that are asked.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `atelier` itself, which loads the library in a process of its own.
    pub atelier: PathBuf,
    /// `nvidia-smi`, or what stands for it.
    pub smi: PathBuf,
    /// How long the library may take to answer: waking GPUs that sleep takes seconds.
    pub patience: Duration,
}

/// The state of asking.
pub struct Gpus {
    programs: Programs,
    library: Library,
    smi: Smi,
}

enum Library {
    Untried,
    Running(Box<Running>),
    Failed { words: String, at: Instant },
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

enum Smi {
    Untried,
    Answered { gpus: Vec<GpuVitals>, at: Instant },
    Failed { at: Instant },
}

/// What was found, and where.
pub struct Found {
    /// Every GPU; empty where there is none or nobody tells.
    pub gpus: Vec<GpuVitals>,
    /// Whether these are new numbers, or those of an earlier look.
    pub fresh: bool,
    /// In words, for the page.
    pub source: String,
}

impl Gpus {
    /// Nothing is asked before the first look.
    pub fn new(programs: Programs) -> Self {
        Self {
            programs,
            library: Library::Untried,
            smi: Smi::Untried,
        }
    }

    /// Every GPU now.
    pub async fn look(&mut self) -> Found {
        if let Some(gpus) = self.ask_library().await {
            return Found {
                gpus,
                fresh: true,
                source: "NVIDIA’s management library".into(),
            };
        }
        let why = match &self.library {
            Library::Failed { words, .. } => words.clone(),
            _ => String::new(),
        };
        let fresh = self.ask_smi().await;
        match &self.smi {
            Smi::Answered { gpus, .. } => Found {
                gpus: gpus.clone(),
                fresh,
                source: format!("nvidia-smi, every {} s ({why})", SMI_EVERY.as_secs()),
            },
            _ => Found {
                gpus: Vec::new(),
                fresh: true,
                source: format!("nothing ({why})"),
            },
        }
    }

    async fn ask_library(&mut self) -> Option<Vec<GpuVitals>> {
        let is_due = match &self.library {
            Library::Untried => true,
            Library::Failed { at, .. } => at.elapsed() >= RETRY,
            Library::Running(_) => false,
        };
        if is_due {
            self.library = match Running::start(&self.programs) {
                Ok(running) => Library::Running(Box::new(running)),
                Err(error) => failed(format!("it could not be asked: {error}")),
            };
        }
        let patience = self.programs.patience;
        let Library::Running(running) = &mut self.library else {
            return None;
        };
        let answer = tokio::time::timeout(patience, running.ask()).await;
        let words = match answer {
            Ok(Ok(Line::Gpus(gpus))) => return Some(gpus),
            Ok(Ok(Line::Absent(words))) => words,
            Ok(Err(words)) => words,
            Err(_) => format!(
                "the process that asks NVIDIA’s management library did not answer within {} s",
                patience.as_secs()
            ),
        };
        // Dropping it kills what is left of the process.
        self.library = failed(words);
        None
    }

    /// Runs `nvidia-smi` if it is time to; answers whether there are new numbers.
    async fn ask_smi(&mut self) -> bool {
        let is_due = match &self.smi {
            Smi::Untried => true,
            Smi::Answered { at, .. } => at.elapsed() >= SMI_EVERY,
            Smi::Failed { at } => at.elapsed() >= RETRY,
        };
        if !is_due {
            return false;
        }
        let mut command = StdCommand::new(&self.programs.smi);
        command.args([
            "--query-gpu=index,uuid,name,memory.used,memory.total,utilization.gpu,temperature.gpu,power.draw",
            "--format=csv,noheader,nounits",
        ]);
        let ended = tokio::task::spawn_blocking(move || child::run(&mut command, SMI_LIMIT)).await;
        self.smi = match ended {
            Ok(Ended::Exited { status, stdout, .. }) if status.success() => Smi::Answered {
                gpus: parse_smi(&String::from_utf8_lossy(&stdout)),
                at: Instant::now(),
            },
            _ => Smi::Failed { at: Instant::now() },
        };
        matches!(self.smi, Smi::Answered { .. })
    }
}

fn failed(words: String) -> Library {
    Library::Failed {
        words,
        at: Instant::now(),
    }
}

impl Running {
    fn start(programs: &Programs) -> std::io::Result<Self> {
        let mut command = Command::new(&programs.atelier);
        command
            .args(["probe", "--device", super::ASKED_OF_PROBE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        // A ctrl-c in the terminal is the server's to handle; this process ends with its input.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("its pipes could not be opened"));
        };
        Ok(Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        })
    }

    async fn ask(&mut self) -> Result<Line, String> {
        // A process that ended already has said why, or its exit status does.
        let asked = self.stdin.write_all(b"\n").await;
        let line = match self.lines.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) | Err(_) => {
                let how = match self.child.wait().await {
                    Ok(status) if status.success() => "ended without an answer".to_owned(),
                    Ok(status) => child::in_words(status),
                    Err(error) => error.to_string(),
                };
                let how = asked
                    .err()
                    .filter(|_| how.is_empty())
                    .map_or(how, |e| e.to_string());
                return Err(format!(
                    "the process that asks NVIDIA’s management library {how}"
                ));
            }
        };
        serde_json::from_str(&line)
            .map_err(|error| format!("NVIDIA’s management library was misunderstood: {error}"))
    }
}

/// `nvidia-smi`'s table; a cell that is no number is absent.
fn parse_smi(table: &str) -> Vec<GpuVitals> {
    table
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            let [index, uuid, name, used, total, load, temperature, power] = cells[..] else {
                return None;
            };
            let words =
                |cell: &str| (!cell.is_empty() && !cell.starts_with('[')).then(|| cell.to_owned());
            let number = |cell: &str| cell.parse::<f64>().ok().filter(|value| value.is_finite());
            let bytes = |cell: &str| cell.parse::<u64>().ok()?.checked_mul(1 << 20);
            Some(GpuVitals {
                index: index.parse().ok()?,
                uuid: words(uuid),
                name: words(name),
                memory_used: bytes(used),
                memory_total: bytes(total),
                load: number(load).map(|per_cent| (per_cent / 100.0).clamp(0.0, 1.0)),
                temperature_c: number(temperature),
                power_w: number(power),
                problem: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_table_with_holes_is_read() {
        let gpus = parse_smi(
            "0, GPU-a, NVIDIA H100, 1024, 81559, 37, 41, 120.55\n\
             1, GPU-b, [N/A], [N/A], 8192, [Not Supported], N/A, [N/A]\n\
             No devices were found\nx, 1, 2, 3, 4, 5, 6, 7\n",
        );
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0].memory_used, Some(1 << 30));
        assert_eq!((gpus[0].load, gpus[0].power_w), (Some(0.37), Some(120.55)));
        assert_eq!(gpus[1].memory_total, Some(8 << 30));
        let second = &gpus[1];
        assert_eq!(
            (&second.name, second.load, second.temperature_c),
            (&None, None, None)
        );
    }
}
