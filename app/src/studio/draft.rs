//! What is being typed: kept in the form itself, mirrored in signals, remembered by the browser.
//!
//! The inputs are uncontrolled on purpose. A person types before wasm has arrived; binding the
//! inputs to signals would then wipe out what they typed.

use super::{GenerationForm, JobView};
use leptos::html;
use leptos::prelude::*;

/// The form being filled in.
#[derive(Clone, Copy)]
pub struct Draft {
    /// The form element, the truth about every field.
    pub node: NodeRef<html::Form>,
    /// The same as a signal.
    pub form: RwSignal<GenerationForm>,
    /// What the form showed when the page was rendered.
    pub initial: StoredValue<GenerationForm>,
    /// Whether that goes onto what this browser remembers, rather than in its place.
    onto_remembered: StoredValue<bool>,
}

impl Draft {
    /// A draft that starts out with `initial`.
    pub fn new(initial: GenerationForm) -> Self {
        Self {
            node: NodeRef::new(),
            form: RwSignal::new(initial.clone()),
            initial: StoredValue::new(initial),
            onto_remembered: StoredValue::new(false),
        }
    }

    /// Only some fields were asked for: the others stay as they were left.
    pub fn put_onto_remembered(&self) {
        self.onto_remembered.set_value(true);
    }

    /// Reads the form into the signal; called on every input event.
    pub fn read(&self) {
        if let Some(form) = dom::read(self.node)
            && form != self.form.get_untracked()
        {
            self.form.set(form);
        }
    }

    /// Writes values into the form, as if they had been typed.
    pub fn write(&self, form: GenerationForm) {
        dom::write(self.node, &form);
        self.form.set(form);
    }

    /// Changes some fields and leaves the others.
    pub fn change(&self, change: impl FnOnce(&mut GenerationForm)) {
        self.read();
        let mut form = self.form.get_untracked();
        change(&mut form);
        self.write(form);
    }

    /// Fills the form with a job's settings.
    pub fn use_settings_of(&self, job: &JobView) {
        self.write(GenerationForm::from_settings(&job.settings));
    }

    /// Sends the form, as its button does.
    pub fn submit(&self) {
        dom::submit(self.node);
    }

    /// Takes over what was typed before hydration; failing that, what this browser remembers.
    pub fn wake(&self) {
        self.read();
        let untouched = self
            .initial
            .with_value(|initial| self.form.with_untracked(|form| form == initial));
        let blank = self
            .initial
            .with_value(|initial| initial == &GenerationForm::default());
        let onto = self.onto_remembered.get_value();
        if untouched
            && (blank || onto)
            && let Some(form) = remembered::form()
        {
            let asked = self.initial.get_value();
            self.write(form.with(|name| asked.get(name).filter(|value| !value.is_empty())));
        }
    }

    /// Keeps the form in this browser, so that a reload loses nothing.
    pub fn remember(&self) {
        self.form.with(remembered::keep_form);
    }
}

/// Small things this browser remembers; one that forbids storage only forgets them.
pub mod remembered {
    use super::GenerationForm;

    const FORM: &str = "atelier-draft";
    const ADVANCED: &str = "atelier-advanced";
    const TOOLS: &str = "atelier-tools";
    const REFUSED: &str = "atelier-refused-offers";

    pub(super) fn form() -> Option<GenerationForm> {
        serde_json::from_str(&get(FORM)?).ok()
    }

    pub(super) fn keep_form(form: &GenerationForm) {
        if let Ok(text) = serde_json::to_string(form) {
            set(FORM, &text);
        }
    }

    /// Whether the advanced settings were open.
    pub fn is_advanced_open() -> bool {
        get(ADVANCED).as_deref() == Some("open")
    }

    /// Keeps whether the advanced settings are open.
    pub fn keep_advanced_open(open: bool) {
        set(ADVANCED, if open { "open" } else { "shut" });
    }

    /// The tools of the prompt that were open.
    pub fn open_tools() -> Vec<String> {
        lines(TOOLS)
    }

    /// Keeps which tools of the prompt are open.
    pub fn keep_open_tools(ids: &[&str]) {
        set(TOOLS, &ids.join("\n"));
    }

    /// Models and LoRAs that were offered as faster and not wanted.
    pub fn refused_offers() -> Vec<String> {
        lines(REFUSED)
    }

    /// Keeps what is not to be offered again.
    pub fn keep_refused_offers(names: &[String]) {
        set(REFUSED, &names.join("\n"));
    }

    fn lines(key: &str) -> Vec<String> {
        let text = get(key).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[cfg(feature = "hydrate")]
    fn get(key: &str) -> Option<String> {
        let storage = leptos::prelude::window().local_storage().ok()??;
        storage.get_item(key).ok()?
    }

    #[cfg(feature = "hydrate")]
    fn set(key: &str, value: &str) {
        if let Ok(Some(storage)) = leptos::prelude::window().local_storage() {
            // Full or forbidden storage: nothing is remembered, nothing else is wrong.
            let _ = storage.set_item(key, value);
        }
    }

    #[cfg(not(feature = "hydrate"))]
    fn get(_: &str) -> Option<String> {
        None
    }

    #[cfg(not(feature = "hydrate"))]
    fn set(_: &str, _: &str) {}
}

#[cfg(feature = "hydrate")]
mod dom {
    use super::GenerationForm;
    use leptos::html;
    use leptos::prelude::*;
    use wasm_bindgen::JsCast;
    use web_sys::{HtmlFormElement, HtmlInputElement, HtmlSelectElement, HtmlTextAreaElement};

    fn control(form: &HtmlFormElement, name: &str) -> Option<web_sys::Element> {
        form.query_selector(&format!("[name=\"{name}\"]")).ok()?
    }

    fn value(form: &HtmlFormElement, name: &str) -> Option<String> {
        let element = control(form, name)?;
        if let Some(input) = element.dyn_ref::<HtmlInputElement>() {
            return Some(input.value());
        }
        if let Some(area) = element.dyn_ref::<HtmlTextAreaElement>() {
            return Some(area.value());
        }
        element
            .dyn_ref::<HtmlSelectElement>()
            .map(|select| select.value())
    }

    fn set_value(form: &HtmlFormElement, name: &str, value: &str) {
        let Some(element) = control(form, name) else {
            return;
        };
        if let Some(input) = element.dyn_ref::<HtmlInputElement>() {
            input.set_value(value);
        } else if let Some(area) = element.dyn_ref::<HtmlTextAreaElement>() {
            area.set_value(value);
        } else if let Some(select) = element.dyn_ref::<HtmlSelectElement>() {
            select.set_value(value);
            // A value that is not among the options (a model that is gone, the default by its
            // name) leaves the first one, which is the default.
            if select.selected_index() < 0 {
                select.set_selected_index(0);
            }
        }
    }

    pub(super) fn read(node: NodeRef<html::Form>) -> Option<GenerationForm> {
        let form = node.get_untracked()?;
        Some(GenerationForm::from_lookup(|name| value(&form, name)))
    }

    pub(super) fn write(node: NodeRef<html::Form>, values: &GenerationForm) {
        let Some(form) = node.get_untracked() else {
            return;
        };
        for (name, value) in GenerationForm::FIELDS.iter().zip(values.values()) {
            set_value(&form, name, value);
        }
    }

    pub(super) fn submit(node: NodeRef<html::Form>) {
        if let Some(form) = node.get_untracked() {
            // Runs the browser's own checks first and reports what fails them itself.
            let _ = form.request_submit();
        }
    }
}

#[cfg(not(feature = "hydrate"))]
mod dom {
    use super::GenerationForm;
    use leptos::html;
    use leptos::prelude::*;

    pub(super) fn read(_: NodeRef<html::Form>) -> Option<GenerationForm> {
        None
    }

    pub(super) fn write(_: NodeRef<html::Form>, _: &GenerationForm) {}

    pub(super) fn submit(_: NodeRef<html::Form>) {}
}
