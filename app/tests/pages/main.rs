//! Every page as the server sends it, and every form as a browser without wasm posts it, over a
//! fake backend.
#![cfg(feature = "ssr")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fake;
mod forms;
mod html;
mod machine;
mod pictures;
mod rendered;
mod running;
