//! The command line: `serve`, `worker`, `probe`, `generate`, `tokenize`, `models`, `bench`, `user`,
//! `backup`, `restore`.

use atelier_server::config::{self, Cli, Command, ServeConfig, UserArgs};
use atelier_server::startup::{Application, stop_on_signal};
use atelier_server::{accounts, backup, bench, devices, generate, jobs, models, telemetry};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli { command } = match config::from_command_line() {
        Ok(cli) => cli,
        Err(refusal) => {
            let written = if refusal.code == 0 {
                std::io::stdout().write_all(refusal.text.as_bytes())
            } else {
                std::io::stderr().write_all(refusal.text.as_bytes())
            };
            // A closed pipe (`atelier --help | head -1`) is no failure of ours.
            let _ = written;
            return ExitCode::from(refusal.code);
        }
    };
    match command {
        Command::Serve(config) => in_runtime(serve(*config)),
        Command::User(args) => in_runtime(user(args)),
        Command::Backup(args) => in_runtime(backup::command::run_backup(args)),
        Command::Restore(args) => in_runtime(backup::command::run_restore(args)),
        Command::Worker(args) => jobs::worker::run(args),
        Command::Probe(args) => devices::probe::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Models(args) => models::command::run(args),
        Command::Tokenize(args) => models::tokens::run(&args),
        Command::Bench(args) => bench::run(args),
    }
}

fn in_runtime(work: impl Future<Output = Result<(), String>>) -> ExitCode {
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| runtime.block_on(work));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("error: {line}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: ServeConfig) -> Result<(), String> {
    telemetry::start(&config.log, config.log_format)?;
    let application = Application::build(config)
        .await
        .map_err(|error| error.to_string())?;
    application.announce();
    tokio::spawn(stop_on_signal(application.services().shutdown.clone()));
    application
        .run_until_stopped()
        .await
        .map_err(|error| error.to_string())
}

async fn user(args: UserArgs) -> Result<(), String> {
    accounts::command::run(args).await
}
