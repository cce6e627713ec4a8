//! Atelier's interface: the shell, the route table, the words both sides speak, and the port
//! through which pages ask the server.

pub mod account; // who asks
pub mod admin; // devices, queue, users
#[cfg(feature = "ssr")]
pub mod backend; // the port: everything a page may ask
pub mod error; // the only error that crosses the wire
pub mod gallery; // a user's own images
pub mod studio; // asking for an image, watching it appear

use leptos::prelude::*;

/// The root of every page.
#[component]
pub fn App() -> impl IntoView {
    view! { <main>"Atelier"</main> }
}

/// The document around every page.
pub fn shell(options: LeptosOptions) -> impl IntoView {
    view! {
        <!DOCTYPE html>
        <html lang="en">
            <head>
                <meta charset="utf-8"/>
                <HydrationScripts options/>
            </head>
            <body>
                <App/>
            </body>
        </html>
    }
}
