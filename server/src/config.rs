//! Boot time: flags and environment. This is the only file that reads the environment, and it does
//! so through clap alone, so `--help` lists everything there is to set.

mod backup_args; // the options of `atelier backup` and `atelier restore`
mod device_args; // options about devices, and those of `atelier probe`
mod generate_args; // the options of `atelier generate`
mod oidc_args; // options of signing in through a provider
mod user_args; // the options of `atelier user`
mod worker_args; // the options of `atelier worker`

pub use backup_args::{BackupArgs, RestoreArgs};
pub use device_args::{DeviceArgs, ProbeArgs, cuda_worker_beside};
pub use generate_args::{GenerateArgs, LoraArg, VaeTilingArg};
pub use oidc_args::OidcArgs;
pub use user_args::{UserAction, UserArgs};
pub use worker_args::WorkerArgs;

use crate::bench::BenchArgs;
use crate::models::options::{HubArgs, ModelsArgs};
use crate::startup::StartupError;
use clap::{Args, Parser, Subcommand, ValueEnum};
use hyper_util::client::proxy::matcher::Matcher;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Atelier: a self-hosted studio for SDXL.
#[derive(Debug, Parser)]
#[command(name = "atelier", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the one binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the web server and its worker.
    Serve(Box<ServeConfig>),
    /// Run jobs on a device (started by `serve`).
    Worker(WorkerArgs),
    /// Find out what this machine can compute on.
    Probe(ProbeArgs),
    /// Make one image with no server or database.
    Generate(GenerateArgs),
    /// Fetch, list, check and remove models.
    Models(ModelsArgs),
    /// Show how a model cuts a prompt into tokens, and what does not fit.
    Tokenize(TokenizeArgs),
    /// Measure how fast the engine is on this machine.
    Bench(BenchArgs),
    /// Manage users of a data folder.
    User(UserArgs),
    /// Copy the database and every image into one archive; the server may run.
    Backup(BackupArgs),
    /// Put such an archive back; the server must be stopped.
    Restore(RestoreArgs),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Where everything is kept.
#[derive(Args, Clone, Debug)]
pub struct DataDir {
    /// Folder of the database and the images; made when missing.
    #[arg(
        long = "data-dir",
        env = "ATELIER_DATA_DIR",
        default_value = "data",
        value_name = "DIR",
        global = true
    )]
    pub path: PathBuf,
}

impl DataDir {
    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.path.join("atelier.db")
    }
}

/// Extra model folders, besides the embedded demo model.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelFolders {
    /// A diffusers folder of an SDXL model, as NAME=DIR or DIR (its name is then the folder's); repeatable.
    #[arg(
        long = "model",
        env = "ATELIER_MODELS",
        value_delimiter = ',',
        value_name = "NAME=DIR"
    )]
    pub folders: Vec<ModelFolder>,
}

/// One `--model NAME=DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFolder {
    /// The name that requests use.
    pub name: String,
    /// The diffusers folder.
    pub path: PathBuf,
}

impl FromStr for ModelFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name.trim().to_owned(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(text);
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                (name.unwrap_or_default(), path)
            }
        };
        if path.as_os_str().is_empty() {
            return Err("the folder is missing; write NAME=DIR or DIR".into());
        }
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err("the name must have 1 to 64 characters; write NAME=DIR".into());
        }
        Ok(Self { name, path })
    }
}

/// Folders of LoRAs, besides `models/loras` in the data folder.
#[derive(Args, Clone, Debug, Default)]
pub struct LoraDirs {
    /// A folder with LoRAs (.safetensors), besides models/loras in the data folder; repeatable.
    #[arg(
        long = "lora-dir",
        env = "ATELIER_LORA_DIRS",
        value_delimiter = ',',
        value_name = "DIR"
    )]
    pub paths: Vec<PathBuf>,
}

/// How long a worker may be silent before its job is somebody else's.
#[derive(Args, Clone, Copy, Debug)]
pub struct Lease {
    /// Seconds after a worker's last heartbeat until its job is given to another.
    #[arg(
        long = "lease-seconds",
        env = "ATELIER_LEASE_SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        value_name = "SECONDS",
        hide = true
    )]
    seconds: u64,
}

impl Lease {
    /// From one heartbeat to the end of the claim.
    pub fn length(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Between heartbeats: five may fail before the claim is lost.
    pub fn heartbeat(self) -> Duration {
        self.length() / 6
    }
}

/// Settings of `atelier serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeConfig {
    /// Address to listen on; port 0 takes any free one.
    #[arg(
        long,
        env = "ATELIER_ADDR",
        default_value = "127.0.0.1:3000",
        value_name = "IP:PORT"
    )]
    pub addr: SocketAddr,
    /// Where everything is kept.
    #[command(flatten)]
    pub data_dir: DataDir,
    /// Extra model folders.
    #[command(flatten)]
    pub models: ModelFolders,
    /// Folders of LoRAs.
    #[command(flatten)]
    pub lora_dirs: LoraDirs,
    /// Make every image anew, also one that is in its owner's gallery already.
    #[arg(long, env = "ATELIER_NO_RESULT_CACHE")]
    pub no_result_cache: bool,
    /// Model used when a request names none.
    #[arg(long, env = "ATELIER_DEFAULT_MODEL", value_name = "NAME")]
    pub default_model: Option<String>,
    /// Folder with the built interface (`pkg/`, style sheet, icons).
    #[arg(long, env = "ATELIER_SITE_ROOT", value_name = "DIR")]
    pub site_root: Option<PathBuf>,
    /// The address people type, e.g. https://atelier.example.org; https makes cookies Secure and sends HSTS.
    #[arg(long, env = "ATELIER_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,
    /// Address or network of a reverse proxy whose X-Forwarded-For is believed; repeatable.
    #[arg(
        long = "trusted-proxy",
        env = "ATELIER_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_name = "IP[/BITS]"
    )]
    pub trusted_proxies: Vec<Network>,
    /// Devices.
    #[command(flatten)]
    pub devices: DeviceArgs,
    /// How log lines look.
    #[arg(long, env = "ATELIER_LOG_FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or a tracing filter.
    #[arg(
        long,
        env = "ATELIER_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// Jobs one user may have waiting; without it, what the settings page says.
    #[arg(long, env = "ATELIER_QUEUE_LIMIT_PER_USER", value_name = "N")]
    pub queue_limit_per_user: Option<u32>,
    /// The `atelier` binary, for starting workers and the probe: this very program, except in tests.
    #[arg(skip)]
    pub program: Option<PathBuf>,
    /// Jobs that may wait in all; without it, what the settings page says.
    #[arg(long, env = "ATELIER_QUEUE_LIMIT", value_name = "N")]
    pub queue_limit: Option<u32>,
    /// How long a worker may be silent.
    #[command(flatten)]
    pub lease: Lease,
    /// The hub that models are fetched from.
    #[command(flatten)]
    pub hub: HubArgs,
    /// The provider that people may sign in through.
    #[command(flatten)]
    pub oidc: OidcArgs,
}

impl ServeConfig {
    /// The folder with the built interface: what was asked for, else `site` beside the binary,
    /// else `target/site`.
    pub fn site_root(&self) -> PathBuf {
        if let Some(path) = &self.site_root {
            return path.clone();
        }
        std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(|folder| folder.join("site")))
            .filter(|site| site.is_dir())
            .unwrap_or_else(|| PathBuf::from("target/site"))
    }

    /// The `atelier` binary that workers and the probe are started from.
    pub fn program(&self) -> PathBuf {
        self.program
            .clone()
            .or_else(|| std::env::current_exe().ok())
            .unwrap_or_else(|| PathBuf::from("atelier"))
    }

    /// Whether browsers reach this server over TLS.
    pub fn is_https(&self) -> bool {
        self.public_url.as_ref().is_some_and(PublicUrl::is_https)
    }
}

/// Settings of `atelier tokenize`.
#[derive(Args, Clone, Debug)]
pub struct TokenizeArgs {
    /// Folder of an SDXL model; its tokenizers are read, its weights are not.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The prompt to cut into tokens.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: String,
    /// The negative prompt of the same image: a weight in it makes both prompts weighted.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub negative_prompt: Option<String>,
    /// How the prompts are read.
    #[arg(long, value_enum, default_value_t, value_name = "SYNTAX")]
    pub prompt_syntax: Syntax,
    /// Print chunks and tokens as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How a prompt's text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Syntax {
    /// With weights where a prompt holds any, else as diffusers reads it.
    #[default]
    Auto,
    /// As diffusers reads it: every character is text, and what does not fit is cut off.
    Plain,
    /// With weights such as (word:1.3) and with BREAK, as long as it is.
    Weighted,
}

impl From<Syntax> for atelier_app::studio::PromptSyntax {
    fn from(syntax: Syntax) -> Self {
        match syntax {
            Syntax::Auto => Self::Auto,
            Syntax::Plain => Self::Plain,
            Syntax::Weighted => Self::Weighted,
        }
    }
}

fn whole<T: TryFrom<i128>>(text: &str) -> Result<T, String> {
    let largest = (1_i128 << (8 * size_of::<T>())) - 1;
    text.parse::<i128>()
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("must be a whole number from 0 to {largest}"))
}

fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err("must be a finite number".into()),
        Err(_) => Err("is not a number".into()),
    }
}

/// The address people type into their browser: scheme, host and port only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// `https://host[:port]`, without a slash at the end: what browsers send as `Origin`.
    pub fn origin(&self) -> &str {
        &self.0
    }

    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "write http://HOST or https://HOST, with :PORT if it has one and no path";
        let origin = text.trim_end_matches('/').to_ascii_lowercase();
        let uri: http::Uri = origin.parse().map_err(|_| advice.to_owned())?;
        let plain = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
        if plain && scheme && host {
            Ok(Self(origin))
        } else {
            Err(advice.into())
        }
    }
}

/// An address or a network, e.g. `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` lies inside; an IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix = |value: u128, width: u32| {
            let host_bits = width - u32::from(self.bits);
            if host_bits >= 128 {
                0
            } else {
                value >> host_bits
            }
        };
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                prefix(u128::from(base.to_bits()), 32) == prefix(u128::from(address.to_bits()), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                prefix(base.to_bits(), 128) == prefix(address.to_bits(), 128)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = || "write an IP address or IP/BITS, e.g. 10.0.0.0/8".to_owned();
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u8>().map_err(|_| advice())?)),
            None => (text, None),
        };
        let base = base.parse::<IpAddr>().map_err(|_| advice())?.to_canonical();
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            Err(advice())
        } else {
            Ok(Self { base, bits })
        }
    }
}

/// Parses this process's command line and environment.
///
/// # Errors
/// As [`parse`].
pub fn from_command_line() -> Result<Cli, Refusal> {
    parse(std::env::args_os())
}

/// Parses a command line, with the environment behind it.
///
/// # Errors
/// [`Refusal`], to be printed by the caller: for `--help` and `--version` the text asked for, else
/// one line that names the argument at fault.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    Cli::try_parse_from(arguments).map_err(|error| {
        let text = error.render().to_string();
        if !error.use_stderr() {
            return Refusal { text, code: 0 };
        }
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Refusal { text, code: 2 };
        }
        // clap spreads an error over several lines; scripts and logs want one.
        let line = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        Refusal {
            text: format!("{line}\n"),
            code: 2,
        }
    })
}

/// A command line that leads to no run.
#[derive(Debug)]
pub struct Refusal {
    /// What to print, line end included.
    pub text: String,
    /// The exit code: 0 for help, 2 for a mistake.
    pub code: u8,
}

/// The proxies that the environment names (`HTTPS_PROXY`, `NO_PROXY` and their kin).
pub(crate) fn proxies() -> Matcher {
    Matcher::from_env()
}

/// Makes a folder that the server keeps things in, with an error that names it.
pub(crate) fn make_folder(path: &Path) -> Result<(), StartupError> {
    std::fs::create_dir_all(path).map_err(|source| StartupError::Folder {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Cli, Refusal> {
        parse(words.split(' ').map(OsString::from))
    }

    #[test]
    fn mistakes_are_one_line_and_exit_code_2() {
        for (words, named) in [
            (
                "atelier generate --prompt x --out x.png --guidance-scale NaN",
                "--guidance-scale",
            ),
            ("atelier generate --prompt x --out x.png --steps -1", "-1"),
            ("atelier generate --prompt x", "--out"),
            ("atelier serve --trusted-proxy nonsense", "--trusted-proxy"),
            ("atelier serve --public-url ftp://x", "--public-url"),
            ("atelier serve --public-url https://x/path", "--public-url"),
            ("atelier frobnicate", "frobnicate"),
        ] {
            let refusal = parse_words(words).expect_err(words);
            assert_eq!(refusal.code, 2, "{words}");
            assert_eq!(refusal.text.lines().count(), 1, "{}", refusal.text);
            assert!(refusal.text.contains(named), "{}", refusal.text);
        }
    }

    #[test]
    fn networks_contain_their_addresses_only() {
        let inside = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(inside("10.0.0.0/8", "10.200.3.4"));
        assert!(inside("10.0.0.0/8", "::ffff:10.200.3.4"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("127.0.0.1", "127.0.0.1"));
        assert!(!inside("127.0.0.1", "127.0.0.2"));
        assert!(inside("0.0.0.0/0", "8.8.8.8"));
        assert!(inside("::/0", "2001:db8::1"));
        assert!(inside("2001:db8::/32", "2001:db8:1::1"));
        assert!(!inside("2001:db8::/32", "2001:db9::1"));
    }

    #[test]
    fn model_folders_take_the_folders_name() {
        let folder: ModelFolder = "/srv/models/sdxl".parse().unwrap();
        assert_eq!(folder.name, "sdxl");
        let named: ModelFolder = "big=/srv/models/sdxl".parse().unwrap();
        assert_eq!(
            (named.name.as_str(), named.path),
            ("big", PathBuf::from("/srv/models/sdxl"))
        );
        assert!("=/x".parse::<ModelFolder>().is_err());
        assert!("x=".parse::<ModelFolder>().is_err());
    }
}
