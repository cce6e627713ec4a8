//! Bringing images in that were made elsewhere.

use super::undo::use_undo;
use crate::hydrated::use_hydrated;
use leptos::prelude::*;

/// How an import stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Import {
    pub sent: usize,
    pub of: usize,
    pub new: usize,
    pub problems: Vec<String>,
}

impl Import {
    fn words(&self) -> String {
        if self.sent < self.of {
            return format!("Bringing in {} of {} …", self.sent + 1, self.of);
        }
        let there = self.of - self.new - self.problems.len();
        let mut words = match self.new {
            0 => "No new image.".to_owned(),
            1 => "1 image was brought in.".to_owned(),
            count => format!("{count} images were brought in."),
        };
        match there {
            0 => {}
            1 => words.push_str(" 1 was here already."),
            count => words.push_str(&format!(" {count} were here already.")),
        }
        words
    }
}

/// A field for files; each is sent as soon as it is picked or dropped there.
#[component]
pub fn ImportField() -> impl IntoView {
    let hydrated = use_hydrated();
    let undo = use_undo();
    let state = RwSignal::new(Import::default());
    let picked = move |event| {
        sending::send_all(&event, state, move || {
            undo.returned.update(|count| *count += 1);
        });
    };
    view! {
        <details class="fold">
            <summary>"Import images"</summary>
            <form class="stack" method="post" action="/api/images/import" enctype="multipart/form-data">
                <label for="import-file">
                    "PNG files made by Atelier, A1111, Forge, ComfyUI, InvokeAI or SwarmUI. What made them is read from the file."
                </label>
                <div class="row row-wrap">
                    <input class="input" type="file" id="import-file" name="file" accept="image/png" multiple on:change=picked/>
                    {move || (!hydrated.get()).then(|| view! { <button class="button" type="submit">"Import"</button> })}
                </div>
                <p role="status">{move || state.with(|state| (state.of > 0).then(|| state.words()))}</p>
                <ul>
                    {move || state.with(|state| {
                        state.problems.iter().map(|problem| view! { <li class="field-error">{problem.clone()}</li> }).collect_view()
                    })}
                </ul>
            </form>
        </details>
    }
}

#[cfg(feature = "hydrate")]
mod sending {
    use super::Import;
    use leptos::prelude::*;
    use wasm_bindgen::{JsCast, JsValue};
    use wasm_bindgen_futures::JsFuture;
    use web_sys::{File, HtmlInputElement, RequestInit, Response};

    /// Sends every file that was picked, one after the other: the server decodes one at a time.
    pub(super) fn send_all(
        event: &leptos::ev::Event,
        state: RwSignal<Import>,
        done: impl Fn() + 'static,
    ) {
        let input = event
            .target()
            .and_then(|target| target.dyn_into::<HtmlInputElement>().ok());
        let Some(files) = input.as_ref().and_then(HtmlInputElement::files) else {
            return;
        };
        let files: Vec<File> = (0..files.length()).filter_map(|at| files.get(at)).collect();
        state.set(Import {
            of: files.len(),
            ..Import::default()
        });
        leptos::task::spawn_local(async move {
            for file in files {
                let name = file.name();
                let answer = send(&file.into()).await;
                let gone = state.try_update(|state| {
                    state.sent += 1;
                    match answer {
                        Ok(Ok(true)) => state.new += 1,
                        Ok(Ok(false)) => {}
                        Ok(Err(words)) => state.problems.push(format!("{name}: {words}")),
                        Err(_) => state
                            .problems
                            .push(format!("{name}: it could not be sent. Try again.")),
                    }
                });
                // The page has been left.
                if gone.is_none() {
                    return;
                }
            }
            // The same file can be picked again.
            if let Some(input) = input {
                input.set_value("");
            }
            done();
        });
    }

    /// Whether it was new, or what is wrong with it.
    async fn send(file: &JsValue) -> Result<Result<bool, String>, JsValue> {
        let options = RequestInit::new();
        options.set_method("POST");
        options.set_body(file);
        let answer =
            JsFuture::from(window().fetch_with_str_and_init("/api/images/import", &options));
        let response: Response = answer.await?.dyn_into()?;
        let json = JsFuture::from(response.json()?).await?;
        let value = |key: &str| js_sys::Reflect::get(&json, &key.into()).ok();
        Ok(match (response.ok(), value("is_new")) {
            (true, Some(is_new)) => Ok(is_new.as_bool().unwrap_or(true)),
            _ => Err(value("detail")
                .and_then(|detail| detail.as_string())
                .unwrap_or_else(|| "the file was refused.".to_owned())),
        })
    }
}

#[cfg(not(feature = "hydrate"))]
mod sending {
    use super::Import;
    use leptos::prelude::*;

    pub(super) fn send_all(_: &leptos::ev::Event, _: RwSignal<Import>, _: impl Fn() + 'static) {}
}

#[cfg(test)]
mod tests {
    use super::Import;

    #[test]
    fn the_end_is_told_in_one_sentence() {
        let told = |sent, of, new, problems: usize| {
            Import {
                sent,
                of,
                new,
                problems: vec![String::new(); problems],
            }
            .words()
        };
        assert_eq!(told(1, 3, 1, 0), "Bringing in 2 of 3 …");
        assert_eq!(told(3, 3, 3, 0), "3 images were brought in.");
        assert_eq!(
            told(3, 3, 1, 1),
            "1 image was brought in. 1 was here already."
        );
    }
}
