//! Form fields: a label, the control, what to know, and what is wrong, tied together for readers.

use crate::error::AppError;
use leptos::prelude::*;

/// What a form's action answered last, if it was sent at all.
pub type Answer<T> = MappedSignal<Option<Result<T, AppError>>>;

/// The message for one field of a form, from the action's latest answer.
pub fn field_error<T: Send + Sync + 'static>(
    answer: Answer<T>,
    field: &'static str,
) -> Signal<Option<String>> {
    Signal::derive(move || {
        answer.with(|answer| match answer {
            Some(Err(error)) if error.field() == Some(field) => Some(error.to_string()),
            _ => None,
        })
    })
}

/// The error that belongs to none of the form's own fields, from the action's latest answer.
pub fn form_error<T: Send + Sync + 'static>(
    answer: Answer<T>,
    fields: &'static [&'static str],
) -> Signal<Option<AppError>> {
    Signal::derive(move || {
        answer.with(|answer| match answer {
            Some(Err(error)) if error.field().is_none_or(|field| !fields.contains(&field)) => {
                Some(error.clone())
            }
            _ => None,
        })
    })
}

/// A label and a message around any control; the control has the id `id` and should be described
/// by `{id}-note`.
#[component]
pub fn Field(
    /// The control's id.
    id: &'static str,
    /// The label.
    label: &'static str,
    /// What to know before typing.
    #[prop(optional, into)]
    hint: String,
    /// What is wrong with it.
    #[prop(optional, into)]
    error: Signal<Option<String>>,
    /// The control.
    children: Children,
) -> impl IntoView {
    view! {
        <div class="field" class:field-wrong=move || error.get().is_some()>
            <label class="field-label" for=id>{label}</label>
            {children()}
            <p class="field-note" id=format!("{id}-note")>
                <span class="field-error" role="alert">{move || error.get()}</span>
                {(!hint.is_empty()).then(|| view! { <span class="field-hint">{hint}</span> })}
            </p>
        </div>
    }
}

/// A one-line text input.
#[component]
pub fn TextField(
    /// Its id.
    id: &'static str,
    /// The name it is sent under.
    name: &'static str,
    /// The label.
    label: &'static str,
    /// `text`, `password`, …
    #[prop(default = "text")]
    kind: &'static str,
    /// What browsers and password managers may fill in.
    #[prop(default = "off")]
    autocomplete: &'static str,
    /// What to know before typing.
    #[prop(optional, into)]
    hint: String,
    /// What is wrong with it.
    #[prop(optional, into)]
    error: Signal<Option<String>>,
    /// Whether the form cannot be sent without it.
    #[prop(default = true)]
    required: bool,
    /// The value at first.
    #[prop(optional, into)]
    value: String,
) -> impl IntoView {
    view! {
        <Field id=id label=label hint=hint error=error>
            <input
                class="input"
                id=id
                name=name
                type=kind
                autocomplete=autocomplete
                autocapitalize="none"
                spellcheck="false"
                required=required
                value=value
                aria-describedby=format!("{id}-note")
                aria-invalid=move || error.get().is_some().to_string()
            />
        </Field>
    }
}
