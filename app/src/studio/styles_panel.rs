//! Styles: pieces of prompts that are put on and off with one click, and what that comes to.

use super::rail::{Before, Rail, put_style};
use super::{
    GenerationForm, ImportedStyles, OwnStyle, Style, built_in_styles, delete_style, find_style,
    import_styles, list_styles, save_style, style_names, with_styles,
};
use crate::error::AppError;
use leptos::prelude::*;

/// Puts a style on or off in the form's field.
fn toggle(form: &mut GenerationForm, name: &str) {
    let is_it = |known: &&str| known.eq_ignore_ascii_case(name);
    let has = style_names(&form.styles).any(|known| is_it(&known));
    let mut names: Vec<&str> = style_names(&form.styles)
        .filter(|known| !is_it(known))
        .collect();
    if !has {
        names.push(name);
    }
    form.styles = names.join("\n");
}

/// The styles there are, those that are on, and the prompt as it will be sent.
#[component]
pub fn StylesPanel(
    /// The rail.
    rail: Rail,
    /// The form's field at first.
    value: String,
) -> impl IntoView {
    let draft = rail.draft;
    let on = Memo::new(move |_| {
        draft.form.with(|form| {
            style_names(&form.styles)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
    });
    let names = Memo::new(move |_| {
        let own: Vec<String> = rail.shelf.with(|shelf| {
            let names = shelf.styles.iter().map(|own| own.style.name.clone());
            names.collect()
        });
        let built_in = built_in_styles()
            .map(|style| style.name)
            .filter(|name| !own.iter().any(|own| own.eq_ignore_ascii_case(name)));
        let mut all: Vec<String> = own.iter().cloned().chain(built_in).collect();
        // One that is on and no longer there can still be taken off.
        for name in on.get() {
            if !all.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                all.push(name);
            }
        }
        all
    });
    let chip = move |name: String| {
        let is_on = {
            let name = name.clone();
            move || on.with(|on| on.iter().any(|known| known.eq_ignore_ascii_case(&name)))
        };
        let title = {
            let name = name.clone();
            move || {
                rail.shelf
                    .with(|shelf| find_style(&shelf.styles, &name))
                    .map_or_else(
                        || "It is not there any more".to_owned(),
                        |style| style.prompt,
                    )
            }
        };
        let clicked = name.clone();
        let click = move |_| draft.change(|form| toggle(form, &clicked));
        view! {
            <button class="chip" type="button" on:click=click aria-pressed=move || is_on().to_string() title=title>{name.clone()}</button>
        }
    };
    view! {
        <input type="hidden" name="styles" value=value/>
        <div class="chips chips-tight" role="group" aria-label="Styles">
            <For each=move || names.get() key=|name| name.clone() let:name>{chip(name)}</For>
        </div>
        <details class="fold fold-small">
            <summary>"Own styles"</summary>
            <OwnStyles rail=rail/>
        </details>
    }
}

/// The prompt with its styles, while one is on.
#[component]
pub fn SentAs(
    /// The rail.
    rail: Rail,
) -> impl IntoView {
    let sent = Memo::new(move |_| {
        let form = rail.draft.form.get();
        if form.prompt.trim().is_empty() {
            return None;
        }
        let styles: Vec<Style> = rail.shelf.with(|shelf| {
            style_names(&form.styles)
                .filter_map(|name| find_style(&shelf.styles, name))
                .collect()
        });
        (!styles.is_empty()).then(|| with_styles(&form.prompt, &form.negative_prompt, &styles))
    });
    move || {
        sent.get().map(|(prompt, negative)| {
            let negative = (!negative.is_empty()).then(|| {
                view! { <p><span class="quiet">"Kept out: "</span>{negative}</p> }
            });
            view! {
                <div class="sent-as small">
                    <p><span class="quiet">"Sent as: "</span>{prompt}</p>
                    {negative}
                </div>
            }
        })
    }
}

/// A new style or another text for one, the viewer's own, and a file of them.
#[component]
fn OwnStyles(rail: Rail) -> impl IntoView {
    let problem = RwSignal::new(None::<AppError>);
    let said = RwSignal::new(None::<String>);
    // What is in the fields; they belong to no form of the page.
    let edited = RwSignal::new(OwnStyle::default());
    let field = move |change: fn(&mut Style, String)| {
        move |event: leptos::ev::Event| {
            let text = event_target_value(&event);
            edited.update(|edited| change(&mut edited.style, text));
        }
    };
    let keep = move |_| {
        problem.set(None);
        said.set(None);
        let OwnStyle { id, style } = edited.get_untracked();
        leptos::task::spawn_local(async move {
            let Style {
                name,
                prompt,
                negative_prompt,
            } = style;
            match save_style(id, name, prompt, negative_prompt).await {
                Ok(style) => {
                    rail.shelf.update(|shelf| put_style(shelf, style));
                    edited.set(OwnStyle::default());
                }
                Err(error) => problem.set(Some(error)),
            }
        });
    };
    let take_prompt = move |_| {
        rail.draft.read();
        let (prompt, negative) = rail
            .draft
            .form
            .with_untracked(|form| (form.prompt.clone(), form.negative_prompt.clone()));
        edited.update(|edited| {
            edited.style.prompt = prompt;
            edited.style.negative_prompt = negative;
        });
    };
    let row = move |own: OwnStyle| {
        let name = own.style.name.clone();
        let edit = {
            let own = own.clone();
            move |_| edited.set(own.clone())
        };
        let remove = move |_| {
            let gone = own.clone();
            problem.set(None);
            leptos::task::spawn_local(async move {
                match delete_style(gone.id.clone()).await {
                    Ok(()) | Err(AppError::NotFound) => {
                        rail.shelf
                            .update(|shelf| shelf.styles.retain(|known| known.id != gone.id));
                        let words = format!("The style “{}” is deleted.", gone.style.name);
                        rail.say(words, Before::Style(gone));
                    }
                    Err(error) => problem.set(Some(error)),
                }
            });
        };
        view! {
            <li class="own-row">
                <span class="clip">{name.clone()}</span>
                <span class="own-acts">
                    <button class="text-button" type="button" on:click=edit aria-label=format!("Edit the style {name}")>"Edit"</button>
                    <button class="text-button" type="button" on:click=remove aria-label=format!("Delete the style {name}")>"Delete"</button>
                </span>
            </li>
        }
    };
    let picked = move |event: leptos::ev::Event| {
        problem.set(None);
        said.set(None);
        file::read_text(&event, move |text| {
            leptos::task::spawn_local(async move {
                match import_styles(text).await {
                    Ok(imported) => {
                        said.set(Some(imported_text(&imported)));
                        if let Ok(styles) = list_styles().await {
                            rail.shelf.update(|shelf| shelf.styles = styles);
                        }
                    }
                    Err(error) => problem.set(Some(error)),
                }
            });
        });
    };
    let is_old = move || edited.with(|edited| !edited.id.is_empty());
    view! {
        <div class="stack stack-tight">
            <input class="input" id="style-name" type="text" maxlength="60" autocomplete="off" aria-label="Name of the style" placeholder="Name of a new style"
                prop:value=move || edited.with(|edited| edited.style.name.clone())
                on:input=field(|style, text| style.name = text)
                on:keydown=|event| if event.key() == "Enter" { event.prevent_default() }/>
            <textarea class="input" id="style-prompt" rows="2" aria-label="What the style adds" placeholder="What it adds; {prompt} is what you type"
                prop:value=move || edited.with(|edited| edited.style.prompt.clone())
                on:input=field(|style, text| style.prompt = text)></textarea>
            <textarea class="input" id="style-negative" rows="1" aria-label="What the style keeps out" placeholder="What it keeps out"
                prop:value=move || edited.with(|edited| edited.style.negative_prompt.clone())
                on:input=field(|style, text| style.negative_prompt = text)></textarea>
            <p class="row row-wrap">
                <button class="button button-small" type="button" on:click=keep>{move || if is_old() { "Change the style" } else { "Keep the style" }}</button>
                {move || is_old().then(|| view! { <button class="text-button" type="button" on:click=move |_| edited.set(OwnStyle::default())>"Leave it"</button> })}
                <button class="text-button" type="button" on:click=take_prompt>"Take what I typed"</button>
            </p>
            <p class="small" role="status">
                {move || said.get()}
                {move || problem.get().map(|error| view! { <span class="field-error">{error.to_string()}</span> })}
            </p>
            <ul class="own-list">{move || rail.shelf.with(|shelf| shelf.styles.clone()).into_iter().map(row).collect_view()}</ul>
            <label class="file-line small">
                <span>"From a styles.csv"</span>
                <input type="file" accept=".csv,text/csv" aria-label="From a styles.csv" on:change=picked/>
            </label>
        </div>
    }
}

fn imported_text(imported: &ImportedStyles) -> String {
    let mut text = match imported.added {
        1 => "One new style".to_owned(),
        added => format!("{added} new styles"),
    };
    if imported.changed > 0 {
        text += &format!(", {} changed", imported.changed);
    }
    text.push('.');
    for line in &imported.skipped {
        text += &format!(" {line}");
    }
    text
}

/// Reading a file that was picked.
#[cfg(feature = "hydrate")]
mod file {
    use wasm_bindgen::JsCast;
    use wasm_bindgen_futures::JsFuture;
    use web_sys::HtmlInputElement;

    pub(super) fn read_text(event: &leptos::ev::Event, done: impl Fn(String) + 'static) {
        let input = event
            .target()
            .and_then(|target| target.dyn_into::<HtmlInputElement>().ok());
        let Some(input) = input else { return };
        let Some(file) = input.files().and_then(|files| files.get(0)) else {
            return;
        };
        leptos::task::spawn_local(async move {
            // A file that went away meanwhile holds nothing, and the server says so.
            let text = JsFuture::from(file.text()).await.ok();
            done(text.and_then(|text| text.as_string()).unwrap_or_default());
            // The same file can be picked again.
            input.set_value("");
        });
    }
}

#[cfg(not(feature = "hydrate"))]
mod file {
    pub(super) fn read_text(_: &leptos::ev::Event, _: impl Fn(String) + 'static) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_put_on_and_off() {
        let mut form = GenerationForm::default();
        toggle(&mut form, "Ink");
        toggle(&mut form, "Night");
        assert_eq!(form.styles, "Ink\nNight");
        toggle(&mut form, "ink");
        assert_eq!(form.styles, "Night");
    }
}
