//! What to expect: when the image starts, how long it takes, and what would be quicker here.

use super::draft::{Draft, remembered};
use super::rail::Rail;
use super::{DeviceBadge, Estimate, Faster, GenerationForm, estimate_generation};
use crate::components::seconds_text;
use crate::hydrated::after;
use crate::live::use_live;
use leptos::prelude::*;
use std::time::Duration;

/// The estimate for what is being typed, asked for again when typing pauses, and whenever a job of
/// the viewer's starts or ends.
pub fn follow_estimate(draft: Draft) -> Signal<Option<Estimate>> {
    let live = use_live();
    let estimate = RwSignal::new(None::<Estimate>);
    let asked = StoredValue::new(0u32);
    // How many jobs wait changes the estimate as much as the form does; which step they are at does not.
    let waiting = Memo::new(move |_| {
        live.jobs
            .with(|jobs| jobs.iter().filter(|job| !job.state.is_final()).count())
    });
    // The prompt's words cost nothing, so that there is an estimate before the first of them, and no
    // new one for each.
    let form = Memo::new(move |_| {
        draft.form.with(|form| GenerationForm {
            prompt: "…".into(),
            negative_prompt: String::new(),
            styles: String::new(),
            seed: String::new(),
            ..form.clone()
        })
    });
    Effect::new(move |_| {
        let form = form.get();
        // Read, not only tracked: a memo that nobody reads never computes and never changes.
        waiting.get();
        asked.update_value(|n| *n += 1);
        let turn = asked.get_value();
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
    estimate.into()
}

/// "Starts now · takes about 4 s on the CPU".
#[component]
pub fn EstimateLine(
    /// What is known.
    estimate: Signal<Option<Estimate>>,
    /// The device in one line.
    device: Signal<DeviceBadge>,
) -> impl IntoView {
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
        _ if estimate.paused => {
            Some("The queue is paused; it starts when an administrator lets it go on".to_owned())
        }
        None => None,
        Some(seconds) if seconds < 1.0 => Some("Starts now".to_owned()),
        Some(seconds) => Some(format!("Starts in about {}", seconds_text(seconds))),
    };
    let on = match device {
        "" => String::new(),
        device => format!(" on the {device}"),
    };
    let takes = match (estimate.takes_s, estimate.num_images) {
        (None, _) => "the first image shows how long one takes".to_owned(),
        (Some(seconds), 0 | 1) => format!("takes about {}{on}", seconds_text(seconds)),
        (Some(seconds), images) => {
            format!("{images} images take about {}{on}", seconds_text(seconds))
        }
    };
    let guess = match &estimate.guessed_from {
        Some(from) => format!(" (a first guess, from {from})"),
        None => String::new(),
    };
    match starts {
        Some(starts) => format!("{starts} · {takes}{guess}"),
        None => {
            let mut letters = takes.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect())
                .unwrap_or_default()
        }
    }
}

/// "About 8× faster on this machine: use NAME with 4 steps", until it is taken or sent away.
#[component]
pub fn FasterNote(
    /// The rail.
    rail: Rail,
    /// What is known.
    estimate: Signal<Option<Estimate>>,
) -> impl IntoView {
    let refused = RwSignal::new(Vec::<String>::new());
    Effect::new(move |_| refused.set(remembered::refused_offers()));
    let offer = Memo::new(move |_| {
        let faster = estimate.with(|estimate| estimate.as_ref()?.faster.clone())?;
        let is_refused = refused.with(|refused| refused.contains(&faster.name));
        (!is_refused).then_some(faster)
    });
    let take = move |faster: Faster| {
        if faster.is_lora {
            rail.need_loras();
        }
        rail.change(format!("{} is on.", faster.name), |form| {
            let name = faster.name.clone();
            if faster.is_lora {
                super::lora_list::add_lora(form, &name);
            } else {
                let is_default = rail.models.with_value(|models| {
                    models
                        .iter()
                        .any(|model| model.is_default && model.name == name)
                });
                form.model = if is_default { String::new() } else { name };
            }
            // Its own defaults are what it was made for.
            form.num_inference_steps.clear();
            form.guidance_scale.clear();
            form.scheduler.clear();
        });
    };
    let refuse = move |name: String| {
        refused.update(|refused| refused.push(name));
        refused.with_untracked(|refused| remembered::keep_refused_offers(refused));
    };
    view! {
        <div aria-live="polite">
            {move || offer.get().map(|faster| {
                let name = faster.name.clone();
                let words = offer_text(&faster);
                view! {
                    <div class="offer">
                        <p class="small">{words}</p>
                        <p class="row row-wrap">
                            <button class="button button-small" type="button" on:click=move |_| take(faster.clone())>"Use it"</button>
                            <button class="text-button" type="button" on:click=move |_| refuse(name.clone())>"Not for me"</button>
                        </p>
                    </div>
                }
            })}
        </div>
    }
}

fn offer_text(faster: &Faster) -> String {
    let times = match faster.times {
        times if times >= 3.0 => format!("{times:.0}"),
        times => format!("{times:.1}"),
    };
    let steps = match faster.num_inference_steps {
        1 => "1 step".to_owned(),
        steps => format!("{steps} steps"),
    };
    let name = &faster.name;
    match faster.is_lora {
        true => format!("About {times}× faster on this machine: use the LoRA {name} with {steps}."),
        false => format!("About {times}× faster on this machine: use {name} with {steps}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_reads_as_a_sentence() {
        let text = |starts_in_s, takes_s, num_images, guess: Option<&str>| {
            estimate_text(
                &Estimate {
                    starts_in_s,
                    takes_s,
                    num_images,
                    guessed_from: guess.map(str::to_owned),
                    ..Estimate::default()
                },
                "CPU",
            )
        };
        assert_eq!(
            text(Some(0.0), Some(4.2), 1, None),
            "Starts now · takes about 4.2 s on the CPU"
        );
        assert_eq!(
            text(Some(75.0), Some(30.0), 1, None),
            "Starts in about 1 min 15 s · takes about 30 s on the CPU"
        );
        assert_eq!(
            text(Some(0.0), Some(60.0), 3, Some("another model's speed here")),
            "Starts now · 3 images take about 1 min on the CPU (a first guess, from another model's speed here)"
        );
        assert_eq!(
            text(None, None, 1, None),
            "The first image shows how long one takes"
        );
    }

    #[test]
    fn an_offer_says_how_much_faster() {
        let mut faster = Faster {
            name: "sdxl-turbo".into(),
            is_lora: false,
            num_inference_steps: 1,
            times: 29.6,
            measured: false,
        };
        assert_eq!(
            offer_text(&faster),
            "About 30× faster on this machine: use sdxl-turbo with 1 step."
        );
        faster = Faster {
            name: "lcm-lora".into(),
            is_lora: true,
            num_inference_steps: 4,
            times: 2.14,
            measured: true,
        };
        assert_eq!(
            offer_text(&faster),
            "About 2.1× faster on this machine: use the LoRA lcm-lora with 4 steps."
        );
    }
}
