//! `/admin/people/ID/images`: a look into another's images, where a setting allows it. Each is in the
//! audit log.

use super::people_page::{AdminNav, AdminsOnly};
use super::{LookPage, images_in_words, look_at_images};
use crate::account::UserId;
use crate::components::{ErrorNotice, Notice, Tone};
use crate::error::AppError;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::{use_params_map, use_query_map};

/// `/admin/people/ID/images`
#[component]
pub fn LookAtImagesPage() -> impl IntoView {
    view! {
        <Title text="A user's images · Atelier"/>
        <AdminsOnly>
            <Look/>
        </AdminsOnly>
    }
}

#[component]
fn Look() -> impl IntoView {
    let id = use_params_map()
        .with_untracked(|params| params.get("id"))
        .and_then(|id| id.parse().ok())
        .map(UserId);
    let after = use_query_map()
        .with_untracked(|query| query.get("after"))
        .unwrap_or_default();
    // Once, not again in the browser: each asking is a look of its own.
    let page = OnceResource::new(async move {
        match id {
            Some(id) => look_at_images(id, after).await,
            None => Err(AppError::NotFound),
        }
    });
    view! {
        <div class="page">
            <Suspense fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match page.await {
                        Ok(page) => view! { <Images page=page/> }.into_any(),
                        Err(error) => {
                            #[cfg(feature = "ssr")]
                            crate::response::set_status(match error {
                                AppError::NotFound => 404,
                                _ => 403,
                            });
                            view! {
                                <h1>"A user's images"</h1>
                                <AdminNav/>
                                <ErrorNotice error=error/>
                            }
                            .into_any()
                        }
                    }
                })}
            </Suspense>
        </div>
    }
}

#[component]
fn Images(page: LookPage) -> impl IntoView {
    let id = page.user.0;
    let title = format!("Images of {}", page.name);
    let total = page.images.total;
    let next = page.images.next.clone();
    let cards = page
        .images
        .images
        .into_iter()
        .map(|image| {
            let base = format!("/api/admin/users/{id}/images/{}", image.id.0);
            view! {
                <li>
                    <a class="look" href=format!("{base}/original.png") rel="external">
                        <img
                            src=format!("{base}/thumbnail.jpg") alt=image.prompt.clone() loading="lazy"
                            width=image.width height=image.height
                        />
                    </a>
                    <p class="small clip">{image.prompt}</p>
                </li>
            }
        })
        .collect_view();
    view! {
        <h1>{title}</h1>
        <AdminNav/>
        <Notice tone=Tone::Warn>
            <p>"You look at what belongs to somebody else. That you did is in the audit log."</p>
        </Notice>
        <p class="quiet">{images_in_words(total)}</p>
        <ul class="looks">{cards}</ul>
        <div class="actions">
            <a class="button" href=format!("/admin/people/{id}")>"Back to the user"</a>
            {next.map(|next| view! { <a class="button" rel="external" href=format!("/admin/people/{id}/images?after={next}")>"Older"</a> })}
        </div>
    }
}
