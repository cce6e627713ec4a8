//! Every page as the server sends it, and every form as a browser without wasm posts it, over a
//! fake backend.
#![cfg(feature = "ssr")]

mod fake;
mod forms;
mod html;
mod rendered;
