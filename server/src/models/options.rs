//! The options of `atelier models`, and of whatever else speaks to the hub.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use url::Url;

use super::hub::{self, Address, HubSettings, check_path};
use super::select::Variant;
use crate::config::ModelFolder;

/// Settings of `atelier models`.
#[derive(Args, Clone, Debug)]
pub struct ModelsArgs {
    /// Folder that everything is kept in; models lie in its folder `models`.
    #[arg(
        long = "data-dir",
        env = "ATELIER_DATA_DIR",
        default_value = "data",
        value_name = "DIR",
        global = true
    )]
    pub data_dir: PathBuf,
    /// Models elsewhere, as for `serve`.
    #[arg(
        long = "model",
        env = "ATELIER_MODELS",
        value_delimiter = ',',
        value_name = "NAME=DIR",
        global = true
    )]
    pub folders: Vec<ModelFolder>,
    /// What to do.
    #[command(subcommand)]
    pub action: ModelsAction,
}

/// The actions of `atelier models`.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelsAction {
    /// Fetch a model from the Hugging Face hub; run again, it goes on where it was cut off.
    Fetch(FetchArgs),
    /// List the models, usable or not.
    List {
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check that models are still what was fetched; exit code 1 if one is damaged.
    Verify {
        /// The model, or the path of a folder [default: all of them].
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// Fetch damaged files again.
        #[arg(long)]
        repair: bool,
        /// How the hub is spoken to, for --repair.
        #[command(flatten)]
        hub: HubArgs,
        /// Print the result as JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Remove a model, and what an unfinished fetch of it has left.
    Remove {
        /// The model.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// What to fetch.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// OWNER/NAME, OWNER/NAME@REVISION, OWNER/NAME/FILE.safetensors, or the hub's address of it.
    #[arg(value_name = "MODEL")]
    pub model: Address,
    /// The name it gets here [default: the repository's or the file's].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Branch, tag or commit [default: main].
    #[arg(long, value_name = "REVISION", value_parser = revision)]
    pub revision: Option<String>,
    /// fp16: half-precision weights where there are some; full: as published.
    #[arg(long, default_value = "fp16", value_name = "VARIANT")]
    pub variant: Variant,
    /// One .safetensors or .gguf file of the repository instead of the whole model.
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub file: Option<String>,
    /// How the hub is spoken to.
    #[command(flatten)]
    pub hub: HubArgs,
    /// Print events as JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}

/// How the hub is spoken to.
#[derive(Args, Clone)]
pub struct HubArgs {
    /// Address of the hub, or of a mirror that speaks the same.
    #[arg(
        long = "hub-endpoint",
        env = "HF_ENDPOINT",
        default_value = hub::OFFICIAL,
        value_name = "URL",
        value_parser = endpoint
    )]
    pub endpoint: Url,
    /// Access token, for gated and private models; better given as HF_TOKEN than typed.
    #[arg(
        long = "hub-token",
        alias = "token",
        env = "HF_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: Option<String>,
    /// Tries in a row without any progress before a fetch gives up.
    #[arg(long = "hub-retries", default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub retries: u32,
}

impl std::fmt::Debug for HubArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        f.debug_struct("HubArgs")
            .field("endpoint", &self.endpoint.as_str())
            .finish_non_exhaustive()
    }
}

impl HubArgs {
    /// In the hub's words.
    pub fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: self.endpoint.clone(),
            token: self
                .token
                .as_deref()
                .map(str::trim)
                .filter(|token| !token.is_empty())
                .map(str::to_owned),
            retries: self.retries,
            first_wait: Duration::from_millis(500),
            silence: Duration::from_secs(30),
        }
    }
}

fn endpoint(text: &str) -> Result<Url, String> {
    let advice = "write http://HOST or https://HOST";
    let url: Url = text.parse().map_err(|_| advice.to_owned())?;
    let fits = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.query().is_none()
        && url.fragment().is_none();
    if fits { Ok(url) } else { Err(advice.into()) }
}

fn revision(text: &str) -> Result<String, String> {
    hub::check_revision(text).map(|()| text.to_owned())
}

fn file(text: &str) -> Result<String, String> {
    match check_path(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => Err(format!("the name {why}")),
    }
}
