//! `/admin`: what the machine does and why, and the queue in short. All else has pages of its own.

use super::devices::Devices;
use super::people::AdminNav;
use super::queue::Queue;
use crate::account::Viewer;
use crate::session::{SignedInOnly, use_viewer_here};
use leptos::prelude::*;
use leptos_meta::Title;

/// `/admin`
#[component]
pub fn AdminPage() -> impl IntoView {
    view! {
        <Title text="Admin · Atelier"/>
        <SignedInOnly>
            <Admin/>
        </SignedInOnly>
    }
}

#[component]
fn Admin() -> impl IntoView {
    if !use_viewer_here().as_ref().is_some_and(Viewer::is_admin) {
        return view! { <NotForYou/> }.into_any();
    }
    view! {
        <div class="page">
            <h1>"Admin"</h1>
            <AdminNav/>
            <Devices/>
            <Queue/>
        </div>
    }
    .into_any()
}

/// What whoever is no administrator finds at an administrator's address.
#[component]
pub fn NotForYou() -> impl IntoView {
    #[cfg(feature = "ssr")]
    crate::response::set_status(403);
    view! {
        <section class="empty">
            <h1>"This page is for administrators"</h1>
            <p class="quiet">"It shows the machine, everybody's queue and the users. Ask an administrator of this server if you need something from it."</p>
            <a class="button button-main" href="/">"To the studio"</a>
        </section>
    }
}
