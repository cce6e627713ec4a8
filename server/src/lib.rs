//! Atelier's server. A guided tour, in the order a request meets the rooms:

pub mod accounts; // users, passwords, sessions, tokens
pub mod admin; // what administrators may ask
pub mod audit; // what administrators did, append-only
pub mod backup; // copies of everything, made while the server runs, and putting one back
pub mod bench; // `atelier bench`: how fast the engine is here
pub mod config; // boot time: flags, environment
pub mod db; // the SQLite pool, its pragmas and migrations
pub mod devices; // what the probe found → what is used and why
pub mod error; // which error is for which layer; constraint → words; logs once
pub mod gallery; // images: rows, content-addressed files, PNG metadata
pub mod generate; // `atelier generate`: the engine with no server and no database
pub mod http; // every URL on one screen, and the thin front doors behind them
pub mod jobs; // limits, fairness, the queue, the supervisor and the worker process
pub mod models; // weights on disk, and the embedded demo model
pub mod oidc; // signing in through a provider
pub mod settings; // what administrators change at run time
pub mod startup; // Application::build(config): the only place where parts are joined
pub mod studio; // what people keep for the studio: presets, styles, used prompts
pub mod telemetry; // logs
pub mod uploads; // images that people send to start from
