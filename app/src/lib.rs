//! Atelier's interface: the shell, the route table, the words both sides speak, and the port
//! through which pages ask the server.
#![recursion_limit = "256"]

pub mod account; // who asks
pub mod admin; // devices, queue, users
mod announce; // a finished image says so
#[cfg(feature = "ssr")]
pub mod backend; // the port: everything a page may ask
mod components; // what pages are made of
pub use components::safe_path;
pub mod error; // the only error that crosses the wire
pub mod gallery; // a user's own images
mod hydrated; // whether the browser has taken the page over
mod keys; // every shortcut, in one table
mod live; // the progress stream as signals
mod not_found;
#[cfg(feature = "ssr")]
mod response; // cookies, statuses, redirects
mod rooms; // which pages are fetched together
pub mod session; // who this page was rendered for, and by which house
pub mod studio; // asking for an image, watching it appear

pub use crate::components::percent_encode;

use crate::components::{FocusFollows, Nav, OverlayHost, Toasts, provide_overlays};
use crate::gallery::{Footsteps, provide_undo, provide_way_back};
use crate::not_found::NotFound;
use crate::rooms::{
    AccountRoute, AdminRoute, AuditLogRoute, BackupsRoute, CodeRoute, CollectionsRoute,
    CompareRoute, GalleryRoute, ImageRoute, JoinRoute, LookAtImagesRoute, ModelsRoute, PeopleRoute,
    PersonRoute, QueueRoute, ResetRoute, SettingsRoute, SetupRoute, SharedRoute, SignInRoute,
    SignUpRoute, StudioRoute, TrashRoute, UsageRoute,
};
use leptos::prelude::*;
use leptos_meta::{Title, provide_meta_context};
use leptos_router::components::{Route, Router, Routes};
use leptos_router::{Lazy, SsrMode, path};

/// Applies a remembered theme before the first paint; everything else waits for wasm.
#[cfg(feature = "ssr")]
const THEME_SCRIPT: &str = "try{const t=localStorage.getItem('atelier-theme');\
if(t==='light'||t==='dark')document.documentElement.dataset.theme=t}catch{}";

/// The document around every page. Scripts carry the request's nonce.
#[cfg(feature = "ssr")]
pub fn shell(options: LeptosOptions) -> impl IntoView {
    use leptos::hydration::{AutoReload, HydrationScripts};
    use leptos::nonce::use_nonce;
    use leptos_meta::MetaTags;
    let stylesheet = format!("/{}/{}.css", options.site_pkg_dir, options.output_name);
    view! {
        <!DOCTYPE html>
        <html lang="en">
            <head>
                <meta charset="utf-8"/>
                <meta name="viewport" content="width=device-width, initial-scale=1"/>
                <meta name="color-scheme" content="light dark"/>
                <meta name="description" content="Your own image studio, on your own machine."/>
                <script nonce=use_nonce()>{THEME_SCRIPT}</script>
                <link rel="stylesheet" href=stylesheet/>
                <link rel="icon" type="image/svg+xml" href="/favicon.svg"/>
                // Renders nothing unless `cargo leptos watch` is at work.
                <AutoReload options=options.clone()/>
                <HydrationScripts options=options/>
                <MetaTags/>
            </head>
            <body>
                <App/>
            </body>
        </html>
    }
}

/// Takes over the page that the server rendered.
#[cfg(feature = "hydrate")]
pub fn hydrate() {
    wasm_bindgen_futures::spawn_local(async {
        let path = window().location().pathname().unwrap_or_default();
        if rooms::fetch(&path).await {
            leptos::mount::hydrate_body(App);
            hydrated::answers_now();
        } else {
            leptos::logging::warn!("a part of the interface could not be fetched");
        }
    });
}

/// The root of every page.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    hydrated::provide_hydrated();
    let viewer = session::provide_viewer();
    session::provide_site_name();
    let live = live::provide_live();
    provide_undo();
    provide_way_back();
    provide_overlays();
    if viewer.is_some() {
        live::follow(live);
    }
    let is_signed_in = viewer.is_some();
    view! {
        <Title text="Atelier"/>
        <Router>
            <a class="skip" href="#content">"To the content"</a>
            {is_signed_in.then(announce::follow_in_title)}
            <Nav viewer=viewer/>
            <Footsteps/>
            <main id="content" tabindex="-1">
                // Pages are sent whole: statuses and redirects come before the first byte, and
                // nothing on them waits for a script.
                <Routes fallback=|| view! { <NotFound/> }>
                    <Route path=path!("/") view={Lazy::<StudioRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/gallery") view={Lazy::<GalleryRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/gallery/:id") view={Lazy::<ImageRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/collections") view={Lazy::<CollectionsRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/compare") view={Lazy::<CompareRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/s/:secret") view={Lazy::<SharedRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/trash") view={Lazy::<TrashRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/account") view={Lazy::<AccountRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin") view={Lazy::<AdminRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/models") view={Lazy::<ModelsRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/queue") view={Lazy::<QueueRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/settings") view={Lazy::<SettingsRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/backups") view={Lazy::<BackupsRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/usage") view={Lazy::<UsageRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/people") view={Lazy::<PeopleRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/people/:id") view={Lazy::<PersonRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/people/:id/images") view={Lazy::<LookAtImagesRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/admin/audit") view={Lazy::<AuditLogRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/join/:code") view={Lazy::<JoinRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/reset/:code") view={Lazy::<ResetRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/sign-in/code") view={Lazy::<CodeRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/sign-up") view={Lazy::<SignUpRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/sign-in") view={Lazy::<SignInRoute>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("/setup") view={Lazy::<SetupRoute>::new()} ssr=SsrMode::Async/>
                </Routes>
            </main>
            {is_signed_in.then(|| view! { <Toasts/> <OverlayHost/> })}
            <FocusFollows/>
        </Router>
    }
}
