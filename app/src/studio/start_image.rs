//! The image to start from: dropped, pasted, picked or taken from the gallery; how much of it is
//! kept; and where to paint.

use super::advanced::NumberField;
use super::draft::Draft;
use super::mask::MaskPainter;
use super::rail::Rail;
use super::shapes::{size_like, size_of};
use super::{GenerationForm, JobView};
use crate::components::{Answer, Field, field_error};
use leptos::html;
use leptos::prelude::*;

/// Where a picture of the form's field is served.
pub(super) fn address_of(field: &str) -> Option<String> {
    match field.trim() {
        "" => None,
        text => Some(match text.strip_prefix("image:") {
            Some(image) => format!("/images/{image}.png"),
            None => format!("/api/uploads/{text}"),
        }),
    }
}

/// The panel.
#[component]
pub fn StartImagePanel(
    /// The rail.
    rail: Rail,
    /// The form at first.
    initial: GenerationForm,
    /// What the server said last.
    answer: Answer<JobView>,
    /// Is run when a picture was dropped or pasted.
    came: Callback<()>,
) -> impl IntoView {
    let draft = rail.draft;
    let problem = RwSignal::new(None::<String>);
    let sending = RwSignal::new(false);
    let image = Memo::new(move |_| draft.form.with(|form| form.init_image.clone()));
    let mask = Memo::new(move |_| draft.form.with(|form| form.mask.clone()));
    let size = RwSignal::new(None::<(u32, u32)>);
    let refused = field_error(answer, "init_image");
    let error = Signal::derive(move || problem.get().or_else(|| refused.get()));
    let set = move |text: String| {
        size.set(None);
        draft.change(|form| {
            form.init_image = text;
            // It was painted over another image.
            form.mask.clear();
        });
    };
    let take = Callback::new(move |given: dom::Given| {
        problem.set(None);
        came.run(());
        dom::resolve(given, sending, move |answer| match answer {
            Ok(text) => set(text),
            Err(words) => problem.set(Some(words)),
        });
    });
    let hovering = dom::listen(take);
    let picked = move |event: leptos::ev::Event| {
        if let Some(given) = dom::picked(&event) {
            take.run(given);
        }
    };
    let picture = NodeRef::<html::Img>::new();
    let loaded = move || size.set(dom::size_of_image(picture));
    // It may have arrived before the page came alive.
    Effect::new(move |_| {
        picture.track();
        loaded();
    });
    let shape = move || {
        let (width, height) = size.get()?;
        rail.model.with(|model| {
            let model = model.as_ref()?;
            let like = size_like(model, width, height);
            (size_of(draft, model) != Some(like)).then_some(like)
        })
    };
    let take_shape = move |(width, height): (u32, u32)| {
        rail.change(format!("The size is {width} × {height}."), |form| {
            form.width = width.to_string();
            form.height = height.to_string();
        });
    };
    let has_image = move || image.with(|image| !image.is_empty());
    let plain = |text: &'static str| Signal::derive(move || text.to_owned());
    let strength = Signal::derive(move || match draft.form.with(|form| form.mask.is_empty()) {
        true => "0.3".to_owned(),
        false => "1".to_owned(),
    });
    view! {
        <Field id="init_image" label="Image to start from" error=error>
            <input type="hidden" id="init_image" name="init_image" value=initial.init_image/>
            {move || address_of(&image.get()).map(|source| view! {
                <img class="start-image" src=source alt="The image to start from" node_ref=picture on:load=move |_| loaded() on:error=move |_| problem.set(Some("This image is not there any more. Choose another one.".into()))/>
            })}
            <label class="drop-zone" class:drop-zone-small=has_image>
                <input class="hidden" type="file" accept="image/png,image/jpeg,image/webp" aria-label="Choose an image to start from" on:change=picked/>
                <span>{move || match (sending.get(), has_image()) {
                    (true, _) => "Sending …",
                    (false, true) => "Another image",
                    (false, false) => "Drop, paste or choose an image",
                }}</span>
            </label>
        </Field>
        <div class="advanced-part" hidden=move || !has_image()>
            <div class="row row-wrap">
                {move || shape().map(|like| view! {
                    <button class="button button-small" type="button" on:click=move |_| take_shape(like) title=format!("{} × {}", like.0, like.1)>"Take its shape"</button>
                })}
                <MaskPainter draft=draft image=image mask=mask/>
                <button class="text-button" type="button" on:click=move |_| set(String::new())>"Remove"</button>
            </div>
            <SliderField draft=draft id="strength" label="Strength" hint="How much of it is made anew: 0.1 hardly anything, 1 all of it." placeholder=strength value=initial.strength answer=answer/>
            <Field id="mask" label="Mask" error=field_error(answer, "mask") hint="White is painted anew, black stays.">
                <input type="hidden" id="mask" name="mask" value=initial.mask/>
                <div class="row">
                    {move || address_of(&mask.get()).map(|source| view! {
                        <img class="mask-image" src=source alt="The mask"/>
                        <button class="text-button" type="button" on:click=move |_| draft.change(|form| form.mask.clear())>"Remove the mask"</button>
                    })}
                    <MaskFile draft=draft/>
                </div>
            </Field>
            <div class="pair" hidden=move || mask.with(|mask| mask.is_empty())>
                <NumberField id="mask_blur" label="Mask blur" placeholder=plain("0") value=initial.mask_blur answer=answer decimal=true/>
                <NumberField id="only_masked_padding" label="Only masked: border" placeholder=plain("whole image") value=initial.only_masked_padding answer=answer/>
            </div>
        </div>
        {move || hovering.get().then(|| view! { <div class="drop-veil" aria-hidden="true"><span>"Drop it to start from it"</span></div> })}
    }
}

/// A mask that was painted elsewhere.
#[component]
fn MaskFile(draft: Draft) -> impl IntoView {
    let problem = RwSignal::new(None::<String>);
    let sending = RwSignal::new(false);
    let picked = move |event: leptos::ev::Event| {
        problem.set(None);
        if let Some(given) = dom::picked(&event) {
            dom::resolve(given, sending, move |answer| match answer {
                Ok(text) => draft.change(|form| form.mask = text),
                Err(words) => problem.set(Some(words)),
            });
        }
    };
    view! {
        <label class="text-button">
            <input class="hidden" type="file" accept="image/png,image/jpeg,image/webp" aria-label="Choose a mask" on:change=picked/>
            <span>{move || if sending.get() { "Sending …" } else { "From a file" }}</span>
        </label>
        {move || problem.get().map(|words| view! { <span class="field-error small" role="alert">{words}</span> })}
    }
}

/// A number from 0 to 1 with a slider beside it.
#[component]
pub(super) fn SliderField(
    draft: Draft,
    id: &'static str,
    label: &'static str,
    hint: &'static str,
    placeholder: Signal<String>,
    value: String,
    answer: Answer<JobView>,
) -> impl IntoView {
    let error = field_error(answer, id);
    let now = move || {
        let typed = draft.form.with(|form| form.get(id)).unwrap_or_default();
        match typed.trim() {
            "" => placeholder.get(),
            typed => typed.replace(',', "."),
        }
    };
    let slide = move |event: leptos::ev::Event| {
        let value = event_target_value(&event);
        draft.change(|form| *form = form.with(|name| (name == id).then(|| value.clone())));
    };
    view! {
        <Field id=id label=label error=error hint=hint>
            <div class="lora-weight">
                <input type="range" min="0.05" max="1" step="0.05" aria-label=format!("{label}, slider") prop:value=now on:input=slide/>
                <input class="input number" id=id name=id type="text" inputmode="decimal" autocomplete="off" value=value
                    placeholder=move || placeholder.get()
                    aria-describedby=format!("{id}-note")
                    aria-invalid=move || error.get().is_some().to_string()/>
            </div>
        </Field>
    }
}

#[cfg(feature = "hydrate")]
mod dom {
    use crate::hydrated::after;
    pub(super) use crate::studio::sending::Given;
    use crate::studio::sending::{may_hold_picture, picture_in, picture_of, send};
    use leptos::html;
    use leptos::prelude::*;
    use std::time::Duration;
    use wasm_bindgen::JsCast;
    use web_sys::{HtmlElement, HtmlInputElement};

    pub(super) fn picked(event: &leptos::ev::Event) -> Option<Given> {
        let input: HtmlInputElement = event.target()?.dyn_into().ok()?;
        let files = input.files()?;
        let first = files.get(0)?;
        // The server says what is wrong with a file that is no picture.
        let picture = picture_of(files).unwrap_or_else(|| first.into());
        input.set_value("");
        Some(Given::File(picture))
    }

    pub(super) fn resolve(
        given: Given,
        sending: RwSignal<bool>,
        done: impl Fn(Result<String, String>) + 'static,
    ) {
        match given {
            Given::Image(id) => done(Ok(format!("image:{id}"))),
            Given::File(file) => {
                sending.set(true);
                leptos::task::spawn_local(async move {
                    let answer = send(&file).await;
                    // The studio may have been left meanwhile.
                    if sending.try_set(false).is_none() {
                        done(answer);
                    }
                });
            }
        }
    }

    pub(super) fn size_of_image(picture: NodeRef<html::Img>) -> Option<(u32, u32)> {
        let image = picture.get_untracked()?;
        Some((image.natural_width(), image.natural_height())).filter(|(w, h)| *w > 0 && *h > 0)
    }

    /// Takes pictures that are dropped or pasted anywhere on the page; true while one is in the air.
    pub(super) fn listen(take: Callback<Given>) -> RwSignal<bool> {
        let hovering = RwSignal::new(false);
        let last = StoredValue::new(0u32);
        Effect::new(move |_| {
            let over = window_event_listener(leptos::ev::dragover, move |event| {
                if !event
                    .data_transfer()
                    .is_some_and(|data| may_hold_picture(&data))
                {
                    return;
                }
                event.prevent_default();
                hovering.set(true);
                last.update_value(|n| *n += 1);
                let turn = last.get_value();
                // There is no sure sign that it left the window, but it stops moving over it.
                after(Duration::from_millis(400), move || {
                    if last.try_get_value() == Some(turn) {
                        hovering.set(false);
                    }
                });
            });
            let drop = window_event_listener(leptos::ev::drop, move |event| {
                hovering.set(false);
                if let Some(given) = event.data_transfer().as_ref().and_then(picture_in) {
                    event.prevent_default();
                    take.run(given);
                } else if event
                    .data_transfer()
                    .and_then(|data| data.files())
                    .is_some_and(|files| files.length() > 0)
                {
                    // A browser would leave the page to show the file.
                    event.prevent_default();
                }
            });
            let paste = window_event_listener(leptos::ev::paste, move |event| {
                let Some(data) = event.clipboard_data() else {
                    return;
                };
                // Text that is pasted into a field is text, even where it is an address.
                let into_field = event
                    .target()
                    .and_then(|target| target.dyn_into::<HtmlElement>().ok())
                    .is_some_and(|target| {
                        ["INPUT", "TEXTAREA"].contains(&target.tag_name().as_str())
                    });
                let given = match into_field {
                    true => data.files().and_then(picture_of).map(Given::File),
                    false => picture_in(&data),
                };
                if let Some(given) = given {
                    event.prevent_default();
                    take.run(given);
                }
            });
            on_cleanup(move || {
                over.remove();
                drop.remove();
                paste.remove();
            });
        });
        hovering
    }
}

#[cfg(not(feature = "hydrate"))]
mod dom {
    use leptos::html;
    use leptos::prelude::*;

    /// Nothing is given to a page that nobody looks at yet.
    pub(super) struct Given;

    pub(super) fn picked(_: &leptos::ev::Event) -> Option<Given> {
        None
    }

    pub(super) fn resolve(
        _: Given,
        _: RwSignal<bool>,
        _: impl Fn(Result<String, String>) + 'static,
    ) {
    }

    pub(super) fn size_of_image(_: NodeRef<html::Img>) -> Option<(u32, u32)> {
        None
    }

    pub(super) fn listen(_: Callback<Given>) -> RwSignal<bool> {
        RwSignal::new(false)
    }
}
