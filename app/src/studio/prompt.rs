//! How prompts are read, and the line below the prompt that says how much of it will be.

use super::count_prompt_tokens;
use super::draft::Draft;
use crate::hydrated::after;
use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the text of a prompt is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptSyntax {
    /// With weights where the prompt or the negative prompt holds any, else plainly.
    #[default]
    Auto,
    /// Every character is text; what does not fit the model's context is cut off.
    Plain,
    /// With weights such as `(word:1.3)`, and as long as it is.
    Weighted,
}

impl PromptSyntax {
    /// Whether it need not be written down.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Whether a number need not be written down.
pub fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How much of a prompt a model reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCount {
    /// Tokens that it takes, those cut off included.
    pub used: usize,
    /// Tokens that there is room for: 75 for each chunk, with SDXL.
    pub room: usize,
    /// Chunks that the model reads one after the other.
    pub chunks: usize,
    /// The end that is not read.
    pub cut: Option<String>,
}

/// How much of a request's prompts a model reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokens {
    /// The prompt.
    pub prompt: TokenCount,
    /// The negative prompt, where there is one.
    pub negative_prompt: Option<TokenCount>,
}

/// "12 / 75 tokens" and what will not be read, asked for again when typing pauses. Empty until
/// the page has come alive.
#[component]
pub fn TokenLine(
    /// What is being typed.
    draft: Draft,
) -> impl IntoView {
    let answer = RwSignal::new(None);
    let asked = StoredValue::new(0u32);
    let prompts = Memo::new(move |_| {
        draft.form.with(|form| {
            let texts = (form.prompt.clone(), form.negative_prompt.clone());
            let read = (form.prompt_syntax.clone(), form.styles.clone());
            (form.model.clone(), texts, read)
        })
    });
    Effect::new(move |_| {
        let (model, (prompt, negative_prompt), (syntax, styles)) = prompts.get();
        asked.update_value(|n| *n += 1);
        let turn = asked.get_value();
        after(Duration::from_millis(300), move || {
            // The page may be gone, or more was typed since.
            if asked.try_get_value() != Some(turn) {
                return;
            }
            leptos::task::spawn_local(async move {
                let counted = count_prompt_tokens(model, prompt, negative_prompt, syntax, styles)
                    .await
                    .ok();
                if asked.try_get_value() == Some(turn) {
                    answer.set(counted);
                }
            });
        });
    });
    let cut = move |choose: fn(&PromptTokens) -> Option<&TokenCount>| {
        answer.with(|answer| choose(answer.as_ref()?)?.cut.clone())
    };
    let is_cut = move || {
        cut(|counts| Some(&counts.prompt)).is_some()
            || cut(|counts| counts.negative_prompt.as_ref()).is_some()
    };
    let read_all = move |_| draft.change(|form| form.prompt_syntax = "weighted".into());
    view! {
        <div class="tokens quiet small" id="prompt-tokens">
            <p class="token-count">
                {move || answer.with(|answer| answer.as_ref().map(|counts: &PromptTokens| count_text(&counts.prompt)))}
            </p>
            <div aria-live="polite">
                {move || cut(|counts| Some(&counts.prompt)).map(|text| view! { <Cut what="Not read" text=text/> })}
                {move || {
                    cut(|counts| counts.negative_prompt.as_ref())
                        .map(|text| view! { <Cut what="Not read of the negative prompt" text=text/> })
                }}
            </div>
            {move || is_cut().then(|| view! {
                <button class="text-button small" type="button" on:click=read_all title="As weighted prompts are: in parts of 75 tokens">"Read all of it, in parts"</button>
            })}
        </div>
    }
}

/// The end of a prompt that the model does not see.
#[component]
fn Cut(what: &'static str, text: String) -> impl IntoView {
    view! {
        <p class="token-cut">
            {what} ": " <del>{text}</del>
        </p>
    }
}

fn count_text(count: &TokenCount) -> String {
    let tokens = format!("{} / {} tokens", count.used, count.room);
    match count.chunks {
        0 | 1 => tokens,
        chunks => format!("{tokens} in {chunks} parts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_words() {
        let text = |used, chunks| {
            count_text(&TokenCount {
                used,
                room: 75 * chunks,
                chunks,
                cut: None,
            })
        };
        assert_eq!(text(12, 1), "12 / 75 tokens");
        assert_eq!(text(80, 2), "80 / 150 tokens in 2 parts");
    }
}
