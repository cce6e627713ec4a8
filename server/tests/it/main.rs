//! The server through its own front doors: one test binary, the real application, personas; and
//! the queue and its worker by themselves, and real processes where something is to die.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod accounts;
mod accounts_keys; // scopes, sessions, resets
mod accounts_leaving; // export, hand over, erase; looks
mod accounts_oidc; // through a provider
mod accounts_two_step; // the code after the password
mod audit; // what administrators did
mod backups; // copies of everything, and putting one back
mod bench; // a queue by itself
mod command_line;
mod crash; // kill -9, SIGSTOP, SIGTERM
mod device_changes; // that come, go, and fail again and again
mod device_ladder; // that fail a job under way
mod device_machine; // a machine with made-up GPUs
mod device_probe; // that are never used, each for its reason
mod devices;
mod events; // the live stream
mod fairness; // who goes next, on a simulated clock
mod fake_hub; // plays the Hugging Face hub
mod front_door;
mod gallery;
mod gallery_api; // archives, imports
mod gallery_library; // trash, marks, collections, search
mod gallery_shares; // links for people without an account
mod images;
mod invitations; // how people come in
mod jobs; // the queue's rules, one step at a time
mod models;
mod models_access; // who may use which
mod models_command; // `atelier models`
mod models_fetch; // from that hub
mod models_page; // what administrators do with them
mod native_api; // the JSON API
mod personas;
mod queue_control; // what administrators do to the queue as a whole
mod settings; // what administrators change at run time
mod studio_shelf; // presets, styles, used prompts, LoRAs' pictures, what would be faster
mod test_app; // people with tokens
mod tokens;
mod vitals; // load, memory, temperature
mod whole_requests; // batches, uploads, LoRAs, the result cache
mod worker; // the worker's step, with the real engine
