//! What to look for: words first, the rest folded away. A form that any browser can send.

use super::{Collection, FacetValue, Facets, ImageQuery};
use leptos::html;
use leptos::prelude::*;
use leptos_router::hooks::use_navigate;

/// The search form over the gallery.
#[component]
pub fn SearchBar(
    /// What is asked for now.
    #[prop(into)]
    query: Signal<ImageQuery>,
    /// What could be asked for.
    #[prop(into)]
    facets: Signal<Facets>,
    /// The viewer's collections, and shared ones.
    #[prop(into)]
    collections: Signal<Vec<Collection>>,
) -> impl IntoView {
    let form = NodeRef::<html::Form>::new();
    let navigate = use_navigate();
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        if let Some(asked) = dom::read(form) {
            navigate(&asked.tidy().address(None), Default::default());
        }
    };
    // Back and forth in the history change what is asked without anybody typing.
    Effect::new(move |_| dom::write(form, &query.get()));
    let send = move |_| dom::submit(form);
    let initial = query.get_untracked();
    let folded_open = ImageQuery {
        q: String::new(),
        ..initial.clone()
    }
    .is_search();
    let choice = move |name: &'static str,
                       label: &'static str,
                       any: &'static str,
                       values: fn(&Facets) -> Vec<FacetValue>,
                       asked: fn(&ImageQuery) -> String| {
        let options = Memo::new(move |_| {
            let asked = query.with(asked);
            let mut values = facets.with(values);
            // What is asked for stays in the list when nothing has it.
            if !asked.is_empty() && !values.iter().any(|value| value.value == asked) {
                values.push(FacetValue {
                    value: asked.clone(),
                    count: 0,
                });
            }
            (asked, values)
        });
        view! {
            <div class="field">
                <label class="field-label" for=format!("facet-{name}")>{label}</label>
                <select class="input" id=format!("facet-{name}") name=name on:change=send>
                    {move || {
                        let (asked, values) = options.get();
                        let none = asked.is_empty();
                        view! {
                            <option value="" selected=none>{any}</option>
                            {values.into_iter().map(|value| {
                                let words = format!("{} ({})", spoken(name, &value.value), value.count);
                                let chosen = value.value == asked;
                                view! { <option value=value.value selected=chosen>{words}</option> }
                            }).collect_view()}
                        }
                    }}
                </select>
            </div>
        }
    };
    view! {
        <form class="search" node_ref=form method="get" action="/gallery" role="search" aria-label="Images" on:submit=submit>
            <div class="search-words">
                <label class="hidden" for="search-q">"Words in prompts"</label>
                <input
                    class="input" type="search" id="search-q" name="q" value=initial.q.clone() maxlength="1000"
                    placeholder="Search prompts: red \"blue car\" -dog" autocomplete="off" enterkeyhint="search"
                />
                <button class="button" type="submit">"Search"</button>
            </div>
            <details class="fold search-more" open=folded_open>
                <summary>"Filters"</summary>
                <div class="search-fields">
                    {choice("model", "Model", "Any model", |f| f.models.clone(), |q| q.model.clone())}
                    {choice("size", "Size", "Any size", |f| f.sizes.clone(), |q| q.size.clone())}
                    {choice("scheduler", "Scheduler", "Any scheduler", |f| f.schedulers.clone(), |q| q.scheduler.clone())}
                    {choice("device", "Device", "Any device", |f| f.devices.clone(), |q| q.device.clone())}
                    {choice("month", "Month", "Any time", |f| f.months.clone(), |q| q.month.clone())}
                    {choice("rating", "Rating", "Any rating", |f| f.ratings.clone(), |q| q.rating.clone())}
                    <div class="field">
                        <label class="field-label" for="facet-collection">"Collection"</label>
                        <select class="input" id="facet-collection" name="collection" on:change=send>
                            {move || {
                                let asked = query.with(|query| query.collection.clone());
                                let none = asked.is_empty();
                                view! {
                                    <option value="" selected=none>"All my images"</option>
                                    {collections.get().into_iter().map(|collection| {
                                        let words = match collection.mine {
                                            true => format!("{} ({})", collection.name, collection.images),
                                            false => format!("{} of {} ({})", collection.name, collection.owner, collection.images),
                                        };
                                        let chosen = collection.id.0 == asked;
                                        view! { <option value=collection.id.0 selected=chosen>{words}</option> }
                                    }).collect_view()}
                                }
                            }}
                        </select>
                    </div>
                    <div class="field">
                        <label class="field-label" for="facet-seed">"Seed"</label>
                        <input
                            class="input" id="facet-seed" name="seed" inputmode="numeric" pattern="[0-9]*" maxlength="20"
                            autocomplete="off" value=initial.seed.clone() on:change=send
                        />
                    </div>
                    <label class="check search-check" for="facet-favourite">
                        <input type="checkbox" id="facet-favourite" name="favourite" value="1" checked=!initial.favourite.is_empty() on:change=send/>
                        {move || format!("Favourites only ({})", facets.with(|facets| facets.favourites))}
                    </label>
                </div>
            </details>
        </form>
    }
}

/// A facet's value in words.
fn spoken(name: &str, value: &str) -> String {
    match (name, value) {
        ("size", size) => size.replace('x', " × "),
        ("device", "imported") => "made elsewhere".into(),
        ("device", device) => device.to_uppercase(),
        ("rating", "5") => "5 stars".into(),
        ("rating", stars) => format!("{stars} stars and more"),
        ("model" | "scheduler", "") => "not known".into(),
        (_, value) => value.to_owned(),
    }
}

#[cfg(feature = "hydrate")]
mod dom {
    use super::ImageQuery;
    use leptos::html;
    use leptos::prelude::*;
    use wasm_bindgen::JsCast;
    use web_sys::{HtmlInputElement, HtmlSelectElement};

    fn control(form: &web_sys::HtmlFormElement, name: &str) -> Option<web_sys::Element> {
        form.query_selector(&format!("[name=\"{name}\"]")).ok()?
    }

    pub(super) fn read(form: NodeRef<html::Form>) -> Option<ImageQuery> {
        let form = form.get_untracked()?;
        Some(ImageQuery::from_lookup(|name| {
            let element = control(&form, name)?;
            if let Some(input) = element.dyn_ref::<HtmlInputElement>() {
                let counts = input.type_() != "checkbox" || input.checked();
                return counts.then(|| input.value());
            }
            element
                .dyn_ref::<HtmlSelectElement>()
                .map(HtmlSelectElement::value)
        }))
    }

    pub(super) fn write(form: NodeRef<html::Form>, query: &ImageQuery) {
        let Some(form) = form.get_untracked() else {
            return;
        };
        for (name, value) in ImageQuery::FIELDS.iter().zip(query.values()) {
            let Some(element) = control(&form, name) else {
                continue;
            };
            if let Some(input) = element.dyn_ref::<HtmlInputElement>() {
                if input.type_() == "checkbox" {
                    input.set_checked(!value.is_empty());
                } else if input.value() != value {
                    input.set_value(value);
                }
            } else if let Some(select) = element.dyn_ref::<HtmlSelectElement>() {
                select.set_value(value);
            }
        }
    }

    pub(super) fn submit(form: NodeRef<html::Form>) {
        if let Some(form) = form.get_untracked() {
            // Runs the browser's own checks first and reports what fails them itself.
            let _ = form.request_submit();
        }
    }
}

#[cfg(not(feature = "hydrate"))]
mod dom {
    use super::ImageQuery;
    use leptos::html;
    use leptos::prelude::*;

    pub(super) fn read(_: NodeRef<html::Form>) -> Option<ImageQuery> {
        None
    }

    pub(super) fn write(_: NodeRef<html::Form>, _: &ImageQuery) {}

    pub(super) fn submit(_: NodeRef<html::Form>) {}
}
