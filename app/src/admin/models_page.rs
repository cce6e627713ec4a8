//! `/admin/models`: the models, and who may use which.

use super::models::Models;
use super::people::{AdminNav, AdminsOnly};
use leptos::prelude::*;
use leptos_meta::Title;

/// `/admin/models`
#[component]
pub fn ModelsPage() -> impl IntoView {
    view! {
        <Title text="Models · Atelier"/>
        <AdminsOnly>
            <div class="page">
                <h1>"Models"</h1>
                <AdminNav/>
                <Models/>
            </div>
        </AdminsOnly>
    }
}
