//! The desk: the current image large, other jobs as a strip, the latest images below.

use super::draft::Draft;
use super::{GenerationForm, JobId, JobState, JobView, cancel_job};
use crate::components::{ErrorNotice, Picture, Progress, ratio_class, seconds_text};
use crate::error::AppError;
use crate::gallery::{ImageCard, ImageId, list_images};
use crate::live::use_live;
use leptos::prelude::*;

/// Which job the desk shows: the one pointed at, else what runs, else what waits, else what ended last.
fn shown(jobs: &[JobView], pointed: Option<&JobId>) -> Option<JobView> {
    let find = |wanted: &dyn Fn(&JobView) -> bool| jobs.iter().find(|job| wanted(job)).cloned();
    pointed
        .and_then(|id| find(&|job| &job.id == id && !job.state.is_final()))
        .or_else(|| find(&|job| job.state == JobState::Running))
        .or_else(|| find(&|job| job.state == JobState::Queued))
        .or_else(|| {
            jobs.iter()
                .max_by_key(|job| job.finished_at.unwrap_or(job.created_at))
                .cloned()
        })
}

/// Everything right of the rail.
#[component]
pub fn Desk(
    /// What is being typed, for "use these settings" and the examples.
    draft: Draft,
    /// Prompts that suit the default model.
    examples: Vec<String>,
    /// The viewer's latest images.
    recent: Vec<ImageCard>,
) -> impl IntoView {
    let live = use_live();
    let pointed = RwSignal::new(None::<JobId>);
    let current = Memo::new(move |_| live.jobs.with(|jobs| shown(jobs, pointed.get().as_ref())));
    // The stage is rebuilt when another job or another state is shown, not at every step.
    let stage =
        Memo::new(move |_| current.with(|job| job.as_ref().map(|job| (job.id.clone(), job.state))));
    let latest = StoredValue::new(recent.first().cloned());
    let teach = StoredValue::new(examples);
    view! {
        <div class="desk">
            <section class="stage" aria-label="Current image">
                {move || match stage.get() {
                    None => match latest.get_value() {
                        None => view! { <Blank draft=draft examples=teach.get_value()/> }.into_any(),
                        Some(card) => view! {
                            <Large
                                image=card.id
                                prompt=card.prompt
                                size=(card.width, card.height)
                                colour=card.dominant_colour
                            />
                        }
                        .into_any(),
                    },
                    Some((_, JobState::Done)) => match current.get_untracked() {
                        Some(job) => view! { <Finished draft=draft job=job/> }.into_any(),
                        None => ().into_any(),
                    },
                    Some((_, JobState::Failed | JobState::Cancelled)) => match current.get_untracked() {
                        Some(job) => view! { <Ended draft=draft job=job/> }.into_any(),
                        None => ().into_any(),
                    },
                    Some((id, JobState::Queued | JobState::Running)) => view! { <Underway id=id current=current/> }.into_any(),
                }}
            </section>
            <Strip pointed=pointed stage=stage/>
            <Recent recent=recent/>
        </div>
    }
}

/// Before the first image: what to do, and prompts to try.
#[component]
fn Blank(draft: Draft, examples: Vec<String>) -> impl IntoView {
    let has_examples = !examples.is_empty();
    let chips = examples
        .into_iter()
        .map(|prompt| {
            let fill = prompt.clone();
            // A link, so that it fills the form in even before wasm has arrived.
            let href = format!(
                "/?{}",
                GenerationForm {
                    prompt: prompt.clone(),
                    ..GenerationForm::default()
                }
                .to_query()
            );
            let click = move |event: leptos::ev::MouseEvent| {
                event.prevent_default();
                draft.change(|form| form.prompt = fill.clone());
            };
            view! { <a class="chip" href=href on:click=click>{prompt}</a> }
        })
        .collect_view();
    view! {
        <div class="blank">
            <svg class="blank-mark" viewBox="0 0 120 90" aria-hidden="true">
                <rect x="2" y="2" width="116" height="86" rx="6"></rect>
                <circle cx="88" cy="28" r="9"></circle>
                <path d="M8 78 42 36l22 26 14-14 34 30"></path>
            </svg>
            <h2>"Describe an image, then press Generate"</h2>
            <p class="quiet">"It appears here step by step, and stays in your gallery with everything needed to make it again."</p>
            {has_examples.then(|| view! {
                <p class="quiet small">"Try one of these:"</p>
                <div class="chips chips-centred">{chips}</div>
            })}
        </div>
    }
}

/// "Step 4 of 30", "Loading the model", "3 images go first".
fn phase_text(job: &JobView) -> String {
    if job.state == JobState::Queued {
        if let Some(held) = &job.held {
            return held.clone();
        }
        return match job.position {
            None => "Waiting".into(),
            Some(0) => "Next in the queue".into(),
            Some(1) => "One image goes first".into(),
            Some(n) => format!("{n} images go first"),
        };
    }
    match job.phase.as_deref() {
        Some("loading model") => "Loading the model".into(),
        Some("encoding prompt") => "Reading the prompt".into(),
        Some("decoding") => "Developing the image".into(),
        Some("saving") => "Saving".into(),
        Some("denoising") => format!("Step {} of {}", job.step, job.steps),
        Some(other) if job.step == 0 => {
            let mut letters = other.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect())
                .unwrap_or_default()
        }
        Some(_) => format!("Step {} of {}", job.step, job.steps),
        None if job.step > 0 => format!("Step {} of {}", job.step, job.steps),
        None => "Starting".into(),
    }
}

fn progress_of(job: &JobView) -> Option<f64> {
    let counted = job.state == JobState::Running && job.steps > 0 && job.step > 0;
    counted.then(|| f64::from(job.step) / f64::from(job.steps))
}

/// A job that waits or runs: preview, bar, words, cancel.
#[component]
fn Underway(id: JobId, current: Memo<Option<JobView>>) -> impl IntoView {
    let live = use_live();
    let words =
        Memo::new(move |_| current.with(|job| job.as_ref().map(phase_text).unwrap_or_default()));
    let value = Memo::new(move |_| current.with(|job| job.as_ref().and_then(progress_of)));
    let left = move || {
        current.with(|job| {
            job.as_ref()
                .and_then(|job| job.seconds_left)
                .map(|seconds| format!("about {} left", seconds_text(seconds)))
        })
    };
    let preview =
        Memo::new(move |_| current.with(|job| job.as_ref().and_then(|job| job.preview.clone())));
    let settings = current.with_untracked(|job| job.as_ref().map(|job| job.settings.clone()));
    let (width, height, prompt) =
        settings.map_or((1, 1, String::new()), |s| (s.width, s.height, s.prompt));
    let attempt = move || {
        current.with(|job| {
            job.as_ref()
                .filter(|job| job.attempt > 1)
                .map(|job| format!("Attempt {}", job.attempt))
        })
    };
    let problem = RwSignal::new(None::<AppError>);
    let cancel = Action::new(move |(): &()| {
        let id = id.clone();
        async move {
            match cancel_job(id).await {
                Ok(job) => live.put(job),
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    view! {
        <div class="underway">
            <div class=format!("frame {}", ratio_class(width, height))>
                <svg class="frame-ground" viewBox=format!("0 0 {width} {height}") width=width.to_string() height=height.to_string() aria-hidden="true">
                    <rect class="frame-fill" width=width.to_string() height=height.to_string()></rect>
                </svg>
                {move || preview.get().map(|preview| view! {
                    <img class="frame-preview" src=preview alt="Preview of the unfinished image" width=width.to_string() height=height.to_string()/>
                })}
            </div>
            <div class="underway-words">
                <p class="underway-line">
                    <span class="underway-phase" role="status" aria-live="polite">{move || words.get()}</span>
                    <span class="quiet number">{left}</span>
                </p>
                <Progress label=words value=value/>
                <p class="underway-line">
                    <span class="quiet clip" title=prompt.clone()>{prompt.clone()}</span>
                    <span class="quiet small">{attempt}</span>
                    <button class="button button-small" type="button" on:click=move |_| { cancel.dispatch(()); } disabled=move || cancel.pending().get()>
                        {move || if cancel.pending().get() { "Stopping …" } else { "Cancel" }}
                    </button>
                </p>
                {move || problem.get().map(|error| view! { <ErrorNotice error=error/> })}
            </div>
        </div>
    }
}

/// A finished image with what one does next.
#[component]
fn Finished(draft: Draft, job: JobView) -> impl IntoView {
    let Some(image) = job.image_id.clone().map(ImageId) else {
        return ().into_any();
    };
    let JobView {
        settings,
        preview,
        cached,
        ..
    } = job;
    let again = GenerationForm::from_settings(&settings);
    let use_settings = Callback::new(move |()| draft.write(again.clone()));
    view! {
        {cached.then(|| view! { <p class="quiet" role="status">"Already made: shown from your gallery."</p> })}
        <Large
            image=image
            prompt=settings.prompt
            size=(settings.width, settings.height)
            colour="transparent".to_owned()
            seed=settings.seed
            preview=preview.unwrap_or_default()
            use_settings=use_settings
        />
    }
    .into_any()
}

/// An image large, with what one does next.
#[component]
fn Large(
    image: ImageId,
    prompt: String,
    /// Width and height in pixels.
    size: (u32, u32),
    /// `#rrggbb`, until the file arrives.
    colour: String,
    /// Shown where it is known.
    #[prop(optional)]
    seed: Option<u64>,
    /// The last preview, until the file arrives.
    #[prop(optional)]
    preview: String,
    /// Fills the form in place; without it the link loads the studio with the settings.
    #[prop(optional)]
    use_settings: Option<Callback<()>>,
) -> impl IntoView {
    let (width, height) = size;
    let file_url = image.file_url();
    let page = format!("/gallery/{}", image.0);
    let file_name = match seed {
        Some(seed) => format!("atelier-{seed}.png"),
        None => format!("atelier-{}.png", image.0),
    };
    let fill = move |event: leptos::ev::MouseEvent| {
        if let Some(use_settings) = use_settings {
            event.prevent_default();
            use_settings.run(());
        }
    };
    let under = (!preview.is_empty()).then(|| {
        view! { <img class="frame-preview" src=preview alt="" width=width.to_string() height=height.to_string()/> }
    });
    view! {
        <div class="finished">
            <a class=format!("frame frame-done {}", ratio_class(width, height)) href=page.clone() aria-label="Open the image's page">
                {under}
                <Picture src=file_url.clone() alt=prompt.clone() width=width height=height colour=colour/>
            </a>
            <div class="finished-words">
                <p class="clip" title=prompt.clone()>{prompt.clone()}</p>
                <div class="row row-wrap">
                    <a class="button" href=file_url rel="external" download=file_name>"Download"</a>
                    <a class="button" href=page>"Open in gallery"</a>
                    <a class="button" href=format!("/?from={}", image.0) on:click=fill>"Use these settings"</a>
                </div>
                {seed.map(|seed| view! { <p class="quiet number small">{format!("Seed {seed}")}</p> })}
            </div>
        </div>
    }
}

/// A job that ended without an image, with the reason and the way on.
#[component]
fn Ended(draft: Draft, job: JobView) -> impl IntoView {
    let live = use_live();
    let is_cancelled = job.state == JobState::Cancelled;
    let why = match (&job.error, is_cancelled) {
        (Some(error), _) => error.clone(),
        (None, true) => "You cancelled it; nothing was kept.".to_owned(),
        (None, false) => {
            "The worker gave no reason; the admin page has the device's story.".to_owned()
        }
    };
    let again = job.clone();
    let id = job.id.clone();
    view! {
        <div class="blank" role=if is_cancelled { "status" } else { "alert" }>
            <h2>{if is_cancelled { "Cancelled" } else { "This image could not be made" }}</h2>
            <p>{why}</p>
            <p class="quiet clip" title=job.settings.prompt.clone()>{job.settings.prompt.clone()}</p>
            <div class="row row-wrap row-centred">
                <button class="button" type="button" on:click=move |_| draft.use_settings_of(&again)>"Use these settings"</button>
                <button class="button" type="button" on:click=move |_| live.dismiss(&id)>"Dismiss"</button>
            </div>
        </div>
    }
}

/// The other jobs: one line each, to look at or to stop.
#[component]
fn Strip(
    pointed: RwSignal<Option<JobId>>,
    stage: Memo<Option<(JobId, JobState)>>,
) -> impl IntoView {
    let live = use_live();
    let others = Memo::new(move |_| {
        let shown = stage.with(|stage| stage.as_ref().map(|(id, _)| id.clone()));
        live.jobs.with(|jobs| {
            jobs.iter()
                .filter(|job| !job.state.is_final() && Some(&job.id) != shown.as_ref())
                .map(|job| job.id.clone())
                .collect::<Vec<_>>()
        })
    });
    view! {
        <Show when=move || others.with(|others| !others.is_empty())>
            <section class="strip" aria-label="Also in the queue">
                <h2 class="strip-title">"Also in the queue"</h2>
                <ul class="strip-list">
                    <For each=move || others.get() key=|id| id.clone() let:id>
                        <StripItem id=id pointed=pointed/>
                    </For>
                </ul>
            </section>
        </Show>
    }
}

#[component]
fn StripItem(id: JobId, pointed: RwSignal<Option<JobId>>) -> impl IntoView {
    let live = use_live();
    let wanted = id.clone();
    let job = Memo::new(move |_| {
        live.jobs
            .with(|jobs| jobs.iter().find(|job| job.id == wanted).cloned())
    });
    let words =
        Memo::new(move |_| job.with(|job| job.as_ref().map(phase_text).unwrap_or_default()));
    let value = Memo::new(move |_| job.with(|job| job.as_ref().and_then(progress_of)));
    let prompt = job.with_untracked(|job| {
        job.as_ref()
            .map(|job| job.settings.prompt.clone())
            .unwrap_or_default()
    });
    let is_running = move || {
        job.with(|job| {
            job.as_ref()
                .is_some_and(|job| job.state == JobState::Running)
        })
    };
    let to_cancel = id.clone();
    let cancel = move |_| {
        let id = to_cancel.clone();
        leptos::task::spawn_local(async move {
            // Refused only when it ended already, which the stream says too.
            if let Ok(job) = cancel_job(id).await {
                live.put(job);
            }
        });
    };
    view! {
        <li class="strip-item">
            <button class="strip-open" type="button" on:click=move |_| pointed.set(Some(id.clone()))>
                <span class="clip">{prompt.clone()}</span>
                <span class="quiet small">{move || words.get()}</span>
                {move || is_running().then(|| view! { <Progress label=words value=value/> })}
            </button>
            <button class="icon-button" type="button" on:click=cancel title="Cancel" aria-label=format!("Cancel: {prompt}")>
                <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 7l10 10M17 7 7 17" stroke="currentColor" stroke-width="2" stroke-linecap="round"></path></svg>
            </button>
        </li>
    }
}

/// The viewer's latest images; asked for again when one more is finished.
#[component]
fn Recent(recent: Vec<ImageCard>) -> impl IntoView {
    let live = use_live();
    let images = RwSignal::new(recent);
    Effect::new(move |_| {
        if live
            .ended
            .with(|job| job.as_ref().is_some_and(|job| job.state == JobState::Done))
        {
            leptos::task::spawn_local(async move {
                // Failing that, the strip stays as it was; the image itself is on the desk.
                if let Ok(page) = list_images(String::new(), 12).await {
                    // The studio may have been left while waiting.
                    let _ = images.try_set(page.images);
                }
            });
        }
    });
    view! {
        <Show when=move || images.with(|images| !images.is_empty())>
            <section class="recent" aria-label="Latest images">
                <h2 class="strip-title">"Latest"</h2>
                <ul class="recent-list">
                    <For each=move || images.get() key=|image| image.id.0.clone() let:image>
                        <li class="recent-item">
                            <a href=format!("/gallery/{}", image.id.0)>
                                <Picture
                                    src=image.id.thumbnail_url()
                                    alt=image.prompt.clone()
                                    width=image.width
                                    height=image.height
                                    colour=image.dominant_colour.clone()
                                    lazy=true
                                />
                            </a>
                        </li>
                    </For>
                </ul>
            </section>
        </Show>
    }
}
