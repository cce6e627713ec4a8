//! The server through its own front doors: one test binary, the real application, personas.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod accounts;
mod command_line;
mod front_door;
mod personas;
mod tokens;
