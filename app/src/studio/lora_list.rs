//! LoRAs: those that are on, with a slider each, and a list to add more from.

use super::rail::Rail;
use super::request::{lora_text, loras};
use super::{AddOn, GenerationForm, JobView, LoraWeight};
use crate::components::{Answer, Field, bytes_text, field_error, number_text};
use crate::hydrated::use_hydrated;
use leptos::prelude::*;

/// LoRAs that are listed at once.
const SHOWN: usize = 30;
/// Trigger words that are shown before one asks for more.
const TRIGGERS: usize = 6;

/// Puts one more LoRA into the form, unless it is there.
pub(super) fn add_lora(form: &mut GenerationForm, name: &str) {
    edit(form, |list| {
        if !list.iter().any(|lora| lora.name == name) {
            list.push(LoraWeight {
                name: name.to_owned(),
                weight: 1.0,
            });
        }
    });
}

/// Changes the form's list; a text that is no list is left to its owner.
fn edit(form: &mut GenerationForm, change: impl FnOnce(&mut Vec<LoraWeight>)) {
    if let Ok(mut list) = loras(&form.loras) {
        change(&mut list);
        form.loras = lora_text(&list);
    }
}

/// Puts words behind the prompt, unless they are in it.
fn add_words(form: &mut GenerationForm, words: &str) {
    if has_words(&form.prompt, words) {
        return;
    }
    let prompt = form.prompt.trim_end().trim_end_matches(',');
    form.prompt = match prompt.is_empty() {
        true => words.to_owned(),
        false => format!("{prompt}, {words}"),
    };
}

fn has_words(prompt: &str, words: &str) -> bool {
    prompt.to_lowercase().contains(&words.to_lowercase())
}

/// LoRAs whose name, triggers or folder hold all of the words.
fn search(all: &[AddOn], words: &str) -> Vec<AddOn> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    all.iter()
        .filter(|lora| {
            let name = lora.name.to_lowercase();
            words.iter().all(|word| {
                name.contains(word)
                    || lora
                        .triggers
                        .iter()
                        .any(|trigger| trigger.to_lowercase().contains(word))
            })
        })
        .cloned()
        .collect()
}

/// The panel. Its field is the text that is sent; without a script it is typed.
#[component]
pub fn LoraPanel(
    /// The rail.
    rail: Rail,
    /// Whether it is in sight.
    open: Signal<bool>,
    /// The form's field at first.
    value: String,
    /// What the server said last.
    answer: Answer<JobView>,
) -> impl IntoView {
    let hydrated = use_hydrated();
    let draft = rail.draft;
    let on = Memo::new(move |_| {
        draft
            .form
            .with(|form| loras(&form.loras))
            .unwrap_or_default()
    });
    let unreadable = move || draft.form.with(|form| loras(&form.loras).is_err());
    let names = Memo::new(move |_| {
        on.with(|on| on.iter().map(|lora| lora.name.clone()).collect::<Vec<_>>())
    });
    Effect::new(move |_| {
        if open.get() || !names.with(|names| names.is_empty()) {
            rail.need_loras();
        }
    });
    view! {
        <Field id="loras" label="LoRAs" error=field_error(answer, "loras")>
            <input class="input" id="loras" name="loras" type="text" autocomplete="off" value=value placeholder="name:weight, with commas between them" aria-describedby="loras-note"
                hidden=move || hydrated.get() && !unreadable()/>
        </Field>
        <ul class="lora-rows">
            <For each=move || names.get() key=|name| name.clone() let:name>
                <LoraRow rail=rail on=on name=name/>
            </For>
        </ul>
        <Picker rail=rail names=names/>
    }
}

/// One that is on: its weight, its triggers, its place.
#[component]
fn LoraRow(rail: Rail, on: Memo<Vec<LoraWeight>>, name: String) -> impl IntoView {
    let draft = rail.draft;
    let stored = StoredValue::new(name.clone());
    let place = Memo::new(move |_| {
        stored.with_value(|name| on.with(|on| on.iter().position(|lora| &lora.name == name)))
    });
    let count = move || on.with(|on| on.len());
    let weight = Memo::new(move |_| {
        let weight = |on: &Vec<LoraWeight>| on.get(place.get()?).map(|lora| lora.weight);
        on.with(weight).unwrap_or(1.0)
    });
    let known = Memo::new(move |_| {
        rail.loras.with(|all| {
            stored.with_value(|name| {
                all.iter()
                    .flatten()
                    .find(|lora| &lora.name == name)
                    .cloned()
            })
        })
    });
    let is_gone =
        move || rail.loras.with(|all| all.is_some()) && known.with(|known| known.is_none());
    let set_weight = move |event: leptos::ev::Event| {
        let typed = event_target_value(&event).trim().replace(',', ".");
        if let Ok(weight) = typed.parse::<f64>()
            && weight.is_finite()
        {
            draft.change(|form| {
                edit(form, |list| {
                    if let Some(at) = place.get_untracked()
                        && let Some(lora) = list.get_mut(at)
                    {
                        lora.weight = weight;
                    }
                });
            });
        }
    };
    let move_to = move |step: isize| {
        draft.change(|form| {
            edit(form, |list| {
                if let Some(at) = place.get_untracked()
                    && let Some(to) = at.checked_add_signed(step).filter(|to| *to < list.len())
                {
                    list.swap(at, to);
                }
            });
        });
    };
    let remove = move |_| {
        let words = stored.with_value(|name| format!("The LoRA {name} is off."));
        rail.change(words, |form| {
            edit(form, |list| {
                stored.with_value(|name| list.retain(|lora| &lora.name != name));
            });
        });
    };
    let shut = |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Enter" {
            event.prevent_default();
        }
    };
    view! {
        <li class="lora-row">
            <div class="lora-head">
                {move || known.with(|known| known.as_ref().and_then(|lora| lora.preview.clone())).map(|source| view! {
                    <img class="lora-picture" src=source alt="" width="40" height="40" loading="lazy"/>
                })}
                <span class="clip lora-name" title=name.clone()>{name.clone()}</span>
                <button class="icon-button icon-small" type="button" on:click=move |_| move_to(-1) disabled=move || place.get() == Some(0) title="Earlier" aria-label=format!("Move {name} up")>
                    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 14l6-6 6 6" fill="none" stroke="currentColor" stroke-width="2"></path></svg>
                </button>
                <button class="icon-button icon-small" type="button" on:click=move |_| move_to(1) disabled=move || place.get().is_none_or(|at| at + 1 >= count()) title="Later" aria-label=format!("Move {name} down")>
                    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 10l6 6 6-6" fill="none" stroke="currentColor" stroke-width="2"></path></svg>
                </button>
                <button class="icon-button icon-small" type="button" on:click=remove title="Take it off" aria-label=format!("Take {name} off")>
                    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 7l10 10M17 7 7 17" stroke="currentColor" stroke-width="2" stroke-linecap="round"></path></svg>
                </button>
            </div>
            <div class="lora-weight">
                <input type="range" min="-1" max="2" step="0.05" aria-label=format!("Weight of {name}, slider")
                    prop:value=move || weight.get().to_string() on:input=set_weight/>
                <input class="input number" type="text" inputmode="decimal" autocomplete="off" aria-label=format!("Weight of {name}")
                    prop:value=move || number_text(weight.get()) on:change=set_weight on:keydown=shut/>
            </div>
            {move || is_gone().then(|| view! { <p class="field-error small">"This LoRA is not on the server any more."</p> })}
            {move || known.with(|known| known.as_ref().and_then(|lora| lora.problem.clone())).map(|words| view! { <p class="field-error small">{words}</p> })}
            <Triggers rail=rail known=known/>
        </li>
    }
}

/// Words that call it up: a click puts them into the prompt.
#[component]
fn Triggers(rail: Rail, known: Memo<Option<AddOn>>) -> impl IntoView {
    let all = RwSignal::new(false);
    let words = Memo::new(move |_| {
        known.with(|known| {
            known
                .as_ref()
                .map(|lora| lora.triggers.clone())
                .unwrap_or_default()
        })
    });
    let chip = move |trigger: String| {
        let there = {
            let trigger = trigger.clone();
            move || {
                rail.draft
                    .form
                    .with(|form| has_words(&form.prompt, &trigger))
            }
        };
        let added = trigger.clone();
        let add = move |_| rail.draft.change(|form| add_words(form, &added));
        view! {
            <button class="chip chip-small" type="button" on:click=add aria-pressed=move || there().to_string() title="Put it into the prompt">{trigger}</button>
        }
    };
    move || {
        let words = words.get();
        let more = words.len().saturating_sub(TRIGGERS);
        let shown = match all.get() {
            true => words.len(),
            false => TRIGGERS,
        };
        (!words.is_empty()).then(|| view! {
            <div class="chips chips-tight">
                {words.into_iter().take(shown).map(chip).collect_view()}
                {(more > 0 && !all.get()).then(|| view! {
                    <button class="text-button small" type="button" on:click=move |_| all.set(true)>{format!("{more} more")}</button>
                })}
            </div>
        })
    }
}

/// Every LoRA that is not on, to be searched.
#[component]
fn Picker(rail: Rail, names: Memo<Vec<String>>) -> impl IntoView {
    let words = RwSignal::new(String::new());
    let found = Memo::new(move |_| {
        rail.loras.with(|all| {
            all.as_ref().map(|all| {
                let mut found = words.with(|words| search(all, words));
                found.retain(|lora| !names.with(|names| names.contains(&lora.name)));
                let more = found.len().saturating_sub(SHOWN);
                found.truncate(SHOWN);
                (found, more)
            })
        })
    });
    let total = move || rail.loras.with(|all| all.as_ref().map_or(0, Vec::len));
    let row = move |lora: AddOn| {
        let name = lora.name.clone();
        let add = move |_| rail.draft.change(|form| add_lora(form, &name));
        let note = match (&lora.problem, lora.triggers.is_empty()) {
            (Some(problem), _) => problem.clone(),
            (None, false) => lora
                .triggers
                .iter()
                .take(4)
                .cloned()
                .collect::<Vec<_>>()
                .join(", "),
            (None, true) => bytes_text(lora.bytes),
        };
        let few = (!lora.presets.is_empty()).then_some(" · few steps");
        view! {
            <li>
                <button class="past" type="button" on:click=add disabled=lora.problem.is_some() aria-label=format!("Add {}", lora.name)>
                    {match lora.preview.clone() {
                        Some(source) => view! { <img class="past-picture" src=source alt="" width="40" height="40" loading="lazy"/> }.into_any(),
                        None => view! { <span class="past-picture past-blank" aria-hidden="true"></span> }.into_any(),
                    }}
                    <span class="past-words">
                        <span class="lora-name">{lora.name.clone()}</span>
                        <span class="quiet small clip">{note}{few}</span>
                    </span>
                </button>
            </li>
        }
    };
    let list = move || {
        match found.get() {
        None => view! { <p class="quiet small">"Looking …"</p> }.into_any(),
        Some(_) if total() == 0 => view! {
            <p class="quiet small">"There are no LoRAs on this server. Put .safetensors files into the folder models/loras of its data folder; they are here at once."</p>
        }
        .into_any(),
        Some((found, _)) if found.is_empty() => view! {
            <p class="quiet small">{if words.with_untracked(|words| words.trim().is_empty()) { "All of them are on." } else { "No LoRA has these words." }}</p>
        }
        .into_any(),
        Some((found, more)) => view! {
            <ul class="past-list">{found.into_iter().map(row).collect_view()}</ul>
            {(more > 0).then(|| view! { <p class="quiet small">{format!("{more} more; type to find them.")}</p> })}
        }
        .into_any(),
    }
    };
    view! {
        <input class="input" id="lora-search" type="search" autocomplete="off" aria-label="Find a LoRA to add" placeholder="Find a LoRA to add"
            on:input=move |event| words.set(event_target_value(&event))
            on:keydown=|event| if event.key() == "Enter" { event.prevent_default() }/>
        <div class="lora-found">{list}</div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lora_is_added_once() {
        let mut form = GenerationForm::default();
        add_lora(&mut form, "ink");
        add_lora(&mut form, "paper");
        add_lora(&mut form, "ink");
        assert_eq!(form.loras, "ink:1, paper:1");
        // Half a list is its owner's to finish.
        form.loras = "ink:x".into();
        add_lora(&mut form, "paper");
        assert_eq!(form.loras, "ink:x");
    }

    #[test]
    fn triggers_go_behind_the_prompt_once() {
        let mut form = GenerationForm::default();
        add_words(&mut form, "inkwash");
        add_words(&mut form, "Inkwash");
        form.prompt += ", ";
        add_words(&mut form, "paper");
        assert_eq!(form.prompt, "inkwash, paper");
    }

    #[test]
    fn search_looks_into_names_and_triggers() {
        let lora = |name: &str, trigger: &str| AddOn {
            name: name.into(),
            triggers: vec![trigger.into()],
            ..AddOn::default()
        };
        let all = [lora("Ink wash", "sumi"), lora("paper", "fold")];
        let names = |words: &str| -> Vec<String> {
            let found = search(&all, words);
            found.into_iter().map(|lora| lora.name).collect()
        };
        assert_eq!(names("WASH sumi"), ["Ink wash"]);
        assert_eq!(names("fold"), ["paper"]);
        assert_eq!(names(""), ["Ink wash", "paper"]);
        assert!(names("nothing").is_empty());
    }
}
