//! The rail: the prompt, the button, what to expect, and the settings folded away below.

use super::advanced::Advanced;
use super::draft::{Draft, remembered};
use super::prompt::TokenLine;
use super::{
    AddOn, DeviceBadge, Estimate, GenerationForm, ModelSummary, SubmitGeneration,
    estimate_generation, load_device_badge,
};
use crate::components::{
    DeviceStatus, ErrorNotice, Field, Notice, Tone, field_error, form_error, seconds_text,
};
use crate::hydrated::after;
use crate::keys::{self, Act, Place};
use crate::live::use_live;
use leptos::form::ActionForm;
use leptos::prelude::*;
use std::time::Duration;

/// How often the badge is asked for while nothing happens.
const BADGE_EVERY: Duration = Duration::from_secs(30);

/// The rail on the left (above the image on a phone).
#[component]
pub fn Composer(
    /// What is being typed.
    draft: Draft,
    /// The models that can be asked for, the default first.
    models: Vec<ModelSummary>,
    /// The LoRAs that can be asked for.
    loras: Vec<AddOn>,
    /// The VAEs that can be asked for.
    vaes: Vec<AddOn>,
    /// The device in one line.
    device: DeviceBadge,
    /// Whether the form was filled from an image.
    restored: bool,
) -> impl IntoView {
    let live = use_live();
    let action = ServerAction::<SubmitGeneration>::new();
    let answer = action.value();
    Effect::new(move |_| {
        if let Some(Ok(job)) = answer.get() {
            // The stream may have told more of it already.
            live.seed(vec![job]);
            show_the_desk();
        }
    });
    Effect::new(move |_| draft.wake());
    Effect::new(move |before: Option<()>| {
        draft.form.track();
        // The first run would keep the blank form before the remembered one was taken up.
        if before.is_some() {
            draft.remember();
        }
    });
    let hear = move |event: leptos::ev::KeyboardEvent| {
        if keys::meant(Place::Studio, &event) == Some(Act::Generate) {
            event.prevent_default();
            draft.submit();
        }
    };
    let device = live_badge(device);
    let prompt_error = field_error(answer, "prompt");
    let error = form_error(answer, &GenerationForm::FIELDS);
    let wrong_inside = Signal::derive(move || {
        answer.with(|answer| match answer {
            Some(Err(error)) => error
                .field()
                .is_some_and(|f| f != "prompt" && GenerationForm::FIELDS.contains(&f)),
            _ => false,
        })
    });
    let prompt = draft.initial.with_value(|initial| initial.prompt.clone());
    view! {
        <aside class="rail" aria-label="Ask for an image">
            <ActionForm action=action node_ref=draft.node>
                <div class="rail-form" on:input=move |_| draft.read() on:keydown=hear>
                    {restored.then(|| view! {
                        <Notice tone=Tone::Neutral>"Filled in from your image: the same settings and seed make it again."</Notice>
                    })}
                    <Field id="prompt" label="Prompt" error=prompt_error>
                        <textarea
                            class="input prompt"
                            id="prompt"
                            name="prompt"
                            rows="5"
                            maxlength="10000"
                            required
                            placeholder="What should be in the image?"
                            aria-describedby="prompt-note prompt-tokens"
                            aria-invalid=move || prompt_error.get().is_some().to_string()
                        >{prompt}</textarea>
                    </Field>
                    <TokenLine draft=draft/>
                    {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                    <button class="button button-main button-wide generate" type="submit" aria-keyshortcuts="Control+Enter Meta+Enter" disabled=move || action.pending().get()>
                        <span>{move || if action.pending().get() { "Queueing …" } else { "Generate" }}</span>
                        <kbd class="keys" aria-hidden="true">"Ctrl ↵"</kbd>
                    </button>
                    <div class="expect">
                        <EstimateLine draft=draft device=device/>
                        {move || view! { <DeviceStatus badge=device.get()/> }}
                    </div>
                    <Fold wrong_inside=wrong_inside>
                        <Advanced draft=draft models=models loras=loras vaes=vaes answer=answer/>
                    </Fold>
                </div>
            </ActionForm>
        </aside>
    }
}

/// The badge as it is now: a GPU may fail, or come back, while the studio is open. It is asked for
/// whenever an image ends, which is when it matters, and now and then.
fn live_badge(at_first: DeviceBadge) -> Signal<DeviceBadge> {
    let badge = RwSignal::new(at_first);
    let live = use_live();
    let renew = move || {
        leptos::task::spawn_local(async move {
            if let Ok(fresh) = load_device_badge().await
                && badge.try_with_untracked(|known| *known != fresh) == Some(true)
            {
                let _ = badge.try_set(fresh);
            }
        });
    };
    Effect::new(move |before: Option<()>| {
        live.ended.track();
        if before.is_some() {
            renew();
        }
    });
    Effect::new(move |_| {
        let beat = move || {
            if !document().hidden() {
                renew();
            }
        };
        let handle = set_interval(beat, BADGE_EVERY);
        on_cleanup(move || {
            if let Ok(handle) = handle {
                handle.clear();
            }
        });
    });
    badge.into()
}

/// On a phone the desk lies below the form: what was asked for is brought into view.
#[cfg(feature = "hydrate")]
fn show_the_desk() {
    let Ok(Some(stage)) = document().query_selector(".stage") else {
        return;
    };
    let height = window()
        .inner_height()
        .ok()
        .and_then(|height| height.as_f64());
    if height.is_some_and(|height| stage.get_bounding_client_rect().top() > height / 2.0) {
        stage.scroll_into_view();
    }
}

#[cfg(not(feature = "hydrate"))]
fn show_the_desk() {}

/// The advanced settings, shut or open as this browser remembers; open when one of them is wrong.
#[component]
fn Fold(wrong_inside: Signal<bool>, children: Children) -> impl IntoView {
    let node = NodeRef::<leptos::html::Details>::new();
    let at_first = wrong_inside.get_untracked();
    Effect::new(move |_| {
        let open = wrong_inside.get() || remembered::is_advanced_open();
        if open && let Some(details) = node.get() {
            details.set_open(true);
        }
    });
    let toggled = move |_| {
        if let Some(details) = node.get_untracked() {
            remembered::keep_advanced_open(details.open());
        }
    };
    view! {
        <details class="fold" id="advanced" open=at_first node_ref=node on:toggle=toggled>
            <summary>"Advanced"</summary>
            {children()}
        </details>
    }
}

/// "Starts now · takes about 4 s on the CPU", asked for again when typing pauses.
#[component]
fn EstimateLine(draft: Draft, device: Signal<DeviceBadge>) -> impl IntoView {
    let live = use_live();
    let estimate = RwSignal::new(None::<Estimate>);
    let asked = StoredValue::new(0u32);
    // How many jobs wait changes the estimate as much as the form does; which step they are at does not.
    let waiting = Memo::new(move |_| {
        live.jobs
            .with(|jobs| jobs.iter().filter(|job| !job.state.is_final()).count())
    });
    Effect::new(move |_| {
        let mut form = draft.form.get();
        // Read, not only tracked: a memo that nobody reads never computes and never changes.
        waiting.get();
        asked.update_value(|n| *n += 1);
        let turn = asked.get_value();
        // The prompt's words cost nothing, so the estimate is there before the first of them.
        if form.prompt.trim().is_empty() {
            form.prompt = "…".into();
        }
        after(Duration::from_millis(350), move || {
            // The page may be gone, or more was typed since.
            if asked.try_get_value() != Some(turn) {
                return;
            }
            leptos::task::spawn_local(async move {
                let answer = estimate_generation(form).await.ok().flatten();
                if asked.try_get_value() == Some(turn) {
                    estimate.set(answer);
                }
            });
        });
    });
    let device = Memo::new(move |_| {
        device.with(|device| {
            device
                .label
                .split(" · ")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
    });
    view! {
        <p class="estimate" aria-live="polite">
            {move || match estimate.get() {
                Some(estimate) => device.with(|device| estimate_text(&estimate, device)),
                None => String::new(),
            }}
        </p>
    }
}

fn estimate_text(estimate: &Estimate, device: &str) -> String {
    let starts = match estimate.starts_in_s {
        None => None,
        Some(seconds) if seconds < 1.0 => Some("Starts now".to_owned()),
        Some(seconds) => Some(format!("Starts in about {}", seconds_text(seconds))),
    };
    let takes = match (estimate.takes_s, device) {
        (None, _) => "the first image shows how long one takes".to_owned(),
        (Some(seconds), "") => format!("takes about {}", seconds_text(seconds)),
        (Some(seconds), device) => format!("takes about {} on the {device}", seconds_text(seconds)),
    };
    match starts {
        Some(starts) => format!("{starts} · {takes}"),
        None => {
            let mut letters = takes.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect())
                .unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_reads_as_a_sentence() {
        let text = |starts_in_s, takes_s| {
            estimate_text(
                &Estimate {
                    starts_in_s,
                    takes_s,
                },
                "CPU",
            )
        };
        assert_eq!(
            text(Some(0.0), Some(4.2)),
            "Starts now · takes about 4.2 s on the CPU"
        );
        assert_eq!(
            text(Some(75.0), Some(30.0)),
            "Starts in about 1 min 15 s · takes about 30 s on the CPU"
        );
        assert_eq!(text(None, None), "The first image shows how long one takes");
    }
}
