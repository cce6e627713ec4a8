//! `/`: the studio. A rail to ask in, a desk where the image appears.

use super::composer::Composer;
use super::desk::Desk;
use super::draft::Draft;
use super::{GenerationForm, JobState, JobView, StudioData, load_studio};
use crate::components::ErrorNotice;
use crate::gallery::ImageCard;
use crate::live::use_live;
use crate::session::SignedInOnly;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/`
#[component]
pub fn StudioPage() -> impl IntoView {
    view! {
        <Title text="Studio · Atelier"/>
        <SignedInOnly>
            <Studio/>
        </SignedInOnly>
    }
}

#[component]
fn Studio() -> impl IntoView {
    let query = use_query_map();
    let from = Memo::new(move |_| query.with(|query| query.get("from")).unwrap_or_default());
    let studio = Resource::new(move || from.get(), load_studio);
    view! {
        <Transition fallback=|| view! { <p class="quiet page">"Opening the studio …"</p> }>
            {move || Suspend::new(async move {
                match studio.await {
                    Ok(data) => view! { <Room data=data/> }.into_any(),
                    Err(error) => view! {
                        <div class="page">
                            <h1>"Studio"</h1>
                            <ErrorNotice error=error/>
                        </div>
                    }
                    .into_any(),
                }
            })}
        </Transition>
    }
}

/// Active jobs, and failures that nobody has got over yet by making another image.
fn worth_showing(jobs: Vec<JobView>, latest: Option<&ImageCard>) -> Vec<JobView> {
    let latest = latest.map_or(i64::MIN, |image| image.created_at);
    jobs.into_iter()
        .filter(|job| match job.state {
            JobState::Queued | JobState::Running => true,
            JobState::Failed => job.created_at > latest,
            // By its owner: they know. By an administrator: they should.
            JobState::Cancelled => job.error.is_some() && job.created_at > latest,
            JobState::Done => false,
        })
        .collect()
}

/// The rail and the desk, once everything is known.
#[component]
fn Room(data: StudioData) -> impl IntoView {
    let StudioData {
        jobs,
        models,
        vaes,
        device,
        recent,
        from,
        shelf,
    } = data;
    let live = use_live();
    live.seed(worth_showing(jobs, recent.first()));
    let query = use_query_map().get_untracked();
    // What the address says besides goes before what the image was made with.
    let initial = match &from {
        Some(settings) => GenerationForm::from_settings(settings).with(|name| query.get(name)),
        None => GenerationForm::from_lookup(|name| query.get(name)),
    };
    let draft = Draft::new(initial);
    if query.get("onto").as_deref() == Some("draft") {
        draft.put_onto_remembered();
    }
    let examples: Vec<String> = models
        .first()
        .map(|model| model.example_prompts.clone())
        .unwrap_or_default();
    let restored = from.is_some();
    view! {
        <div class="studio">
            <h1 class="hidden">"Studio"</h1>
            <Composer draft=draft models=models vaes=vaes shelf=shelf device=device restored=restored/>
            <Desk draft=draft examples=examples recent=recent/>
        </div>
    }
}
