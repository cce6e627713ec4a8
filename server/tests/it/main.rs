//! The server through its own front doors: one test binary, the real application, personas.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod accounts;
mod command_line;
mod devices;
mod front_door;
mod gallery;
mod images;
mod models;
mod personas;
mod tokens;
