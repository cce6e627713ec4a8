//! What the administrator may choose: devices, number format, where refiners run, when memory is
//! given back.

use super::super::{DeviceChoice, SetDeviceChoice};
use super::Watch;
use crate::components::{ErrorNotice, Field, Notice, Tone, field_error, form_error, seconds_text};
use leptos::form::ActionForm;
use leptos::prelude::*;

/// A value to choose, and its words.
type Choice = (String, String);

/// The form.
#[component]
pub(super) fn ChoiceForm(watch: Watch, action: ServerAction<SetDeviceChoice>) -> impl IntoView {
    let answer = action.value();
    let error = form_error(
        answer,
        &["device", "precision", "refiner_device", "idle_release_s"],
    );
    let saved = move || {
        let is_saved = matches!(answer.get(), Some(Ok(_))) && !action.pending().get();
        is_saved.then(|| view! { <Notice tone=Tone::Good><p>"Kept. The decision above follows from it."</p></Notice> })
    };
    // Only what the form is made of builds it anew: news must not take a choice away that is being made.
    let parts = Memo::new(move |_| {
        watch.report.with(|report| {
            let gpus = report
                .devices
                .iter()
                .filter(|device| device.id.starts_with("cuda:"));
            let gpus: Vec<Choice> = gpus.map(|gpu| (gpu.id.clone(), gpu.name.clone())).collect();
            (report.choice.clone(), report.fixed.clone(), gpus)
        })
    });
    let fields = move || {
        let (choice, fixed, gpus) = parts.get();
        view! { <Fields choice=choice fixed=fixed gpus=gpus action=action/> }
    };
    view! {
        <article class="card" aria-labelledby="choice-title">
            <h3 id="choice-title">"Choose"</h3>
            <p class="quiet small">"Automatic is right for nearly everybody: a GPU is used once it has shown that it computes correctly, and the CPU until then."</p>
            {saved}
            {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
            <ActionForm action=action>
                {fields}
            </ActionForm>
        </article>
    }
}

#[component]
fn Fields(
    choice: DeviceChoice,
    fixed: Vec<String>,
    gpus: Vec<Choice>,
    action: ServerAction<SetDeviceChoice>,
) -> impl IntoView {
    let answer = action.value();
    let hint = |field: &str| {
        if fixed.iter().any(|name| name == field) {
            "Fixed by the command line or the environment."
        } else {
            ""
        }
    };
    let is_fixed = |field: &str| fixed.iter().any(|name| name == field);
    let one = |text: &str, words: &str| (text.to_owned(), words.to_owned());
    let each_gpu = || {
        gpus.iter()
            .map(|(id, name)| (id.clone(), format!("{id}: {name}")))
    };

    let mut devices = vec![one("auto", "Automatic"), one("cpu", "CPU only")];
    devices.extend(each_gpu());
    if gpus.len() > 1 {
        let all: Vec<&str> = gpus.iter().map(|(id, _)| id.as_str()).collect();
        devices.push((all.join(","), "every GPU".into()));
    }
    let precisions = vec![
        one("auto", "Automatic"),
        one("f32", "f32: exact, the most memory"),
        one("bf16", "bf16: half the memory"),
        one("f16", "f16: half the memory, older GPUs"),
    ];
    let mut refiners = vec![one("", "Where the base model runs")];
    refiners.extend(each_gpu());
    let idle = [300, 900, 3600, 14_400]
        .into_iter()
        .map(|seconds: u32| {
            (
                seconds.to_string(),
                format!("After {}", seconds_text(f64::from(seconds))),
            )
        })
        .chain([one("0", "Never")])
        .collect();
    let released = choice.idle_release_s;
    view! {
        <div class="choice-fields">
            <Select id="choice-device" name="device" label="Devices" options=devices chosen=choice.device
                fixed=is_fixed("device") hint=hint("device") error=field_error(answer, "device")/>
            <Select id="choice-precision" name="precision" label="Number format" options=precisions chosen=choice.precision
                fixed=is_fixed("precision") hint=hint("precision") error=field_error(answer, "precision")/>
            <Select id="choice-refiner" name="refiner_device" label="Refiners run" options=refiners
                chosen=choice.refiner_device.unwrap_or_default()
                fixed=is_fixed("refiner_device") hint=hint("refiner_device") error=field_error(answer, "refiner_device")/>
            <Select id="choice-idle" name="idle_release_s" label="Idle models leave memory" options=idle chosen=released.to_string()
                fixed=is_fixed("idle_release_s") hint=hint("idle_release_s") error=field_error(answer, "idle_release_s")/>
        </div>
        <button class="button" type="submit" disabled=move || action.pending().get()>
            {move || if action.pending().get() { "Testing …" } else { "Keep and test" }}
        </button>
    }
}

#[component]
fn Select(
    id: &'static str,
    name: &'static str,
    label: &'static str,
    mut options: Vec<Choice>,
    chosen: String,
    fixed: bool,
    hint: &'static str,
    error: Signal<Option<String>>,
) -> impl IntoView {
    // What was chosen on the command line or before a device went is shown as it is.
    if !options.iter().any(|(value, _)| *value == chosen) {
        options.push((chosen.clone(), chosen.clone()));
    }
    // A control that is off is not sent; the server must hear of it all the same.
    let sent = fixed.then(|| view! { <input type="hidden" name=name value=chosen.clone()/> });
    let options = options
        .into_iter()
        .map(|(value, words)| {
            let is_chosen = value == chosen;
            view! { <option value=value selected=is_chosen>{words}</option> }
        })
        .collect_view();
    view! {
        <Field id=id label=label hint=hint error=error>
            {sent}
            <select class="input" id=id name=name disabled=fixed aria-describedby=format!("{id}-note")>
                {options}
            </select>
        </Field>
    }
}
