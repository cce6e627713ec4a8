//! Running a program that may crash or hang, and always getting an answer.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How a child process ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, whatever its exit status.
    Exited {
        /// The exit status.
        status: ExitStatus,
        /// All it wrote to standard output.
        stdout: Vec<u8>,
        /// The last line it wrote to standard error.
        last_words: Option<String>,
        /// All it wrote to standard error.
        stderr: String,
    },
    /// It was still running after its time and was killed.
    TimedOut {
        /// All it had written to standard error.
        stderr: String,
    },
    /// It could not be started.
    NotStarted(std::io::Error),
}

/// The most that is kept of either stream; a child that floods its output is read on, and dropped.
const KEPT: usize = 4 << 20;

/// Runs `command` with empty input for at most `limit`. Blocks.
pub fn run(command: &mut Command, limit: Duration) -> Ended {
    run_with(command, Stdio::null(), "", limit)
}

/// As [`run`], with some input. It must fit a pipe: a child that reads none of it is no obstacle.
pub fn run_with_input(command: &mut Command, input: &str, limit: Duration) -> Ended {
    run_with(command, Stdio::piped(), input, limit)
}

fn run_with(command: &mut Command, stdin: Stdio, input: &str, limit: Duration) -> Ended {
    let deadline = Instant::now() + limit;
    let mut child = match command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => return Ended::NotStarted(error),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ended already answers by how it ended.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                // Collects the killed child. One stuck inside the kernel does not die, so the wait
                // is left to a thread of its own.
                thread::spawn(move || child.wait());
                return Ended::TimedOut {
                    stderr: stderr.map(|stderr| text(&stderr)).unwrap_or_default(),
                };
            }
        }
    };
    let stderr = stderr.map(|stderr| text(&stderr)).unwrap_or_default();
    Ended::Exited {
        status,
        stdout: stdout.map(|stdout| taken(&stdout)).unwrap_or_default(),
        last_words: last_line(&stderr),
        stderr,
    }
}

/// A stream that is read on a thread of its own.
struct Stream {
    kept: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

fn collect(mut stream: impl Read + Send + 'static) -> Stream {
    let (sender, ended) = mpsc::channel();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let shelf = kept.clone();
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let mut kept = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let room = KEPT.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(&buffer[..room]);
        }
        let _ = sender.send(());
    });
    Stream { kept, ended }
}

/// What was read until the stream's end, or until now: a grandchild may hold the pipe open for
/// longer than the child lived.
fn taken(stream: &Stream) -> Vec<u8> {
    let _ = stream.ended.recv_timeout(Duration::from_secs(1));
    std::mem::take(&mut stream.kept.lock().unwrap_or_else(PoisonError::into_inner))
}

fn text(stream: &Stream) -> String {
    String::from_utf8_lossy(&taken(stream)).into_owned()
}

/// The last line that says something, shortened.
pub fn last_line(text: &str) -> Option<String> {
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(|line| line.chars().take(300).collect())
}

/// An exit status that is no success, in words: "was ended by signal 11 (segmentation fault)".
pub fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                4 => " (illegal instruction)",
                6 => " (abort)",
                7 => " (bus error)",
                8 => " (arithmetic fault)",
                9 => " (killed, perhaps for want of memory)",
                11 => " (segmentation fault)",
                _ => "",
            };
            format!("was ended by signal {signal}{name}")
        }
        (None, None) => "ended in an unknown way".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sh(script: &str, limit: Duration) -> Ended {
        run(Command::new("sh").args(["-c", script]), limit)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn output_and_last_words_are_kept() {
        let Ended::Exited {
            status,
            stdout,
            last_words,
            ..
        } = sh("echo out; echo a >&2; echo b >&2; exit 3", LONG)
        else {
            panic!("it exits")
        };
        assert_eq!(stdout, b"out\n");
        assert_eq!(last_words.unwrap(), "b");
        assert_eq!(in_words(status), "ended with exit code 3");
    }

    #[test]
    fn input_arrives_and_ends() {
        let Ended::Exited { stdout, .. } =
            run_with_input(&mut Command::new("cat"), "a line\n", LONG)
        else {
            panic!("it exits")
        };
        assert_eq!(stdout, b"a line\n");
    }

    #[test]
    fn a_crash_names_its_signal() {
        let Ended::Exited { status, .. } = sh("kill -SEGV $$", LONG) else {
            panic!("it exits")
        };
        assert_eq!(
            in_words(status),
            "was ended by signal 11 (segmentation fault)"
        );
    }

    #[test]
    fn a_hang_ends_in_time_also_with_the_pipes_held_open() {
        let began = Instant::now();
        let Ended::TimedOut { stderr } =
            sh("echo at it >&2; exec sleep 60", Duration::from_millis(500))
        else {
            panic!("it hangs")
        };
        assert_eq!(stderr, "at it\n");
        let Ended::Exited { .. } = sh("sleep 60 & exit 0", LONG) else {
            panic!("it exits")
        };
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(matches!(
            run(&mut Command::new("/nonexistent/program"), LONG),
            Ended::NotStarted(_)
        ));
    }

    #[test]
    fn a_flood_of_output_neither_blocks_nor_fills_memory() {
        let Ended::Exited { stdout, .. } = sh("head -c 20000000 /dev/zero", LONG) else {
            panic!("it exits")
        };
        assert_eq!(stdout.len(), KEPT);
    }
}
