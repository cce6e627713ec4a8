//! Prompts that were used before: a list to search, and the arrow keys in the prompt's box.

use super::draft::Draft;
use super::{PastPrompt, past_prompts};
use crate::components::Moment;
use crate::error::AppError;
use crate::hydrated::after;
use leptos::prelude::*;
use std::time::Duration;

/// Steps through used prompts with the arrow keys, in an empty box or from one used prompt to the next.
#[derive(Clone, Copy)]
pub struct Recall {
    draft: Draft,
    past: StoredValue<Vec<PastPrompt>>,
    /// Which of them is in the box.
    at: StoredValue<Option<usize>>,
}

impl Recall {
    /// Over a draft.
    pub fn new(draft: Draft) -> Self {
        Self {
            draft,
            past: StoredValue::new(Vec::new()),
            at: StoredValue::new(None),
        }
    }

    /// Takes a key in the prompt's box.
    pub fn key(&self, event: &leptos::ev::KeyboardEvent) {
        let plain = !(event.ctrl_key() || event.meta_key() || event.alt_key() || event.shift_key());
        let up = event.key() == "ArrowUp";
        if !plain || !(up || event.key() == "ArrowDown") {
            return;
        }
        self.draft.read();
        let now = self.draft.form.with_untracked(|form| form.prompt.clone());
        let at = self.at.get_value().filter(|at| {
            self.past
                .with_value(|past| past.get(*at).is_some_and(|past| past.prompt == now))
        });
        // In a text of one's own, arrows move the caret.
        if !(now.is_empty() && up || at.is_some()) {
            return;
        }
        event.prevent_default();
        let recall = *self;
        match at {
            None => leptos::task::spawn_local(async move {
                if let Ok(past) = past_prompts(String::new()).await {
                    let set = recall.past.try_set_value(past);
                    if set.is_none() {
                        recall.show(Some(0));
                    }
                }
            }),
            Some(at) if up => self.show(Some(at + 1)),
            Some(at) => self.show(at.checked_sub(1)),
        }
    }

    fn show(&self, at: Option<usize>) {
        let prompt = match at {
            None => String::new(),
            Some(at) => match self.past.with_value(|past| past.get(at).cloned()) {
                Some(past) => past.prompt,
                // The oldest one stays.
                None => return,
            },
        };
        self.at.set_value(at);
        self.draft.change(|form| form.prompt = prompt);
    }
}

/// The list, asked for when it is opened.
#[component]
pub fn HistoryPanel(
    /// What is being typed.
    draft: Draft,
    /// Whether it is in sight.
    open: Signal<bool>,
) -> impl IntoView {
    let words = RwSignal::new(String::new());
    let found = RwSignal::new(None::<Result<Vec<PastPrompt>, AppError>>);
    let asked = StoredValue::new(0u32);
    Effect::new(move |_| {
        let (words, open) = (words.get(), open.get());
        asked.update_value(|n| *n += 1);
        let turn = asked.get_value();
        if !open {
            return;
        }
        after(Duration::from_millis(200), move || {
            if asked.try_get_value() != Some(turn) {
                return;
            }
            leptos::task::spawn_local(async move {
                let answer = past_prompts(words).await;
                if asked.try_get_value() == Some(turn) {
                    found.set(Some(answer));
                }
            });
        });
    });
    let row = move |past: PastPrompt| {
        let picture = past.image.as_ref().map(|image| {
            view! { <img class="past-picture" src=image.thumbnail_url() alt="" width="40" height="40" loading="lazy"/> }
        });
        let PastPrompt {
            prompt,
            negative_prompt,
            at,
            ..
        } = past;
        let taken = prompt.clone();
        let take = move |_| {
            draft.change(|form| {
                form.prompt = taken.clone();
                form.negative_prompt = negative_prompt.clone();
            });
        };
        view! {
            <li>
                <button class="past" type="button" on:click=take title=prompt.clone()>
                    {picture}
                    <span class="past-words">{prompt.clone()}</span>
                    <span class="quiet small"><Moment at=at/></span>
                </button>
            </li>
        }
    };
    view! {
        <input class="input" id="history-search" type="search" autocomplete="off" aria-label="Search what you asked for" placeholder="Search what you asked for"
            on:input=move |event| words.set(event_target_value(&event))
            on:keydown=|event| if event.key() == "Enter" { event.prevent_default() }/>
        <div aria-live="polite">
            {move || match found.get() {
                None => view! { <p class="quiet small">"Looking …"</p> }.into_any(),
                Some(Err(error)) => view! { <p class="field-error small">{error.to_string()}</p> }.into_any(),
                Some(Ok(past)) if past.is_empty() => {
                    let nothing = if words.with_untracked(|words| words.trim().is_empty()) {
                        "Prompts that you use will be listed here. In an empty box, the arrow up brings the last one back."
                    } else {
                        "None of your prompts has these words."
                    };
                    view! { <p class="quiet small">{nothing}</p> }.into_any()
                }
                Some(Ok(past)) => view! { <ul class="past-list">{past.into_iter().map(row).collect_view()}</ul> }.into_any(),
            }}
        </div>
    }
}
