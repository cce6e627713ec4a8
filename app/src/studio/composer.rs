//! The rail: the prompt, the button, what to expect, and the settings folded away below.

use super::advanced::Advanced;
use super::draft::{Draft, remembered};
use super::expect::{EstimateLine, FasterNote, follow_estimate};
use super::history::{HistoryPanel, Recall};
use super::lora_list::LoraPanel;
use super::presets::PresetRow;
use super::prompt::TokenLine;
use super::rail::{DoneLine, Rail};
use super::start_image::StartImagePanel;
use super::styles_panel::{SentAs, StylesPanel};
use super::{
    AddOn, DeviceBadge, GenerationForm, JobView, ModelSummary, Shelf, SubmitGeneration,
    load_device_badge,
};
use crate::components::{
    Answer, DeviceStatus, ErrorNotice, Field, Notice, Tone, field_error, form_error,
};
use crate::live::use_live;
use leptos::form::ActionForm;
use leptos::prelude::*;
use std::time::Duration;

/// How often the badge is asked for while nothing happens.
const BADGE_EVERY: Duration = Duration::from_secs(30);

/// The rail on the left (above the image on a phone).
#[component]
pub fn Composer(
    /// What is being typed.
    draft: Draft,
    /// The models that can be asked for, the default first.
    models: Vec<ModelSummary>,
    /// The VAEs that can be asked for.
    vaes: Vec<AddOn>,
    /// What the viewer keeps.
    shelf: Shelf,
    /// The device in one line.
    device: DeviceBadge,
    /// Whether the form was filled from an image.
    restored: bool,
) -> impl IntoView {
    let live = use_live();
    let (refiners, models): (Vec<ModelSummary>, Vec<ModelSummary>) =
        models.into_iter().partition(ModelSummary::is_refiner);
    let rail = Rail::new(draft, models, shelf);
    let recall = Recall::new(draft);
    let action = ServerAction::<SubmitGeneration>::new();
    let answer = action.value();
    Effect::new(move |_| {
        if let Some(Ok(job)) = answer.get() {
            // The stream may have told more of it already.
            live.seed(vec![job]);
            show_the_desk();
        }
    });
    Effect::new(move |_| draft.wake());
    Effect::new(move |before: Option<()>| {
        draft.form.track();
        // The first run would keep the blank form before the remembered one was taken up.
        if before.is_some() {
            draft.remember();
        }
    });
    let keys = move |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Enter" && (event.ctrl_key() || event.meta_key()) {
            event.prevent_default();
            draft.submit();
        }
    };
    let device = live_badge(device);
    let estimate = follow_estimate(draft);
    let prompt_error = field_error(answer, "prompt");
    let error = form_error(answer, &GenerationForm::FIELDS);
    let wrong_inside = Signal::derive(move || {
        answer.with(|answer| match answer {
            Some(Err(error)) => error
                .field()
                .is_some_and(|f| f != "prompt" && GenerationForm::FIELDS.contains(&f)),
            _ => false,
        })
    });
    let prompt = draft.initial.with_value(|initial| initial.prompt.clone());
    view! {
        <aside class="rail" aria-label="Ask for an image">
            <ActionForm action=action node_ref=draft.node>
                <div class="rail-form" on:input=move |_| draft.read() on:keydown=keys>
                    {restored.then(|| view! {
                        <Notice tone=Tone::Neutral>"Filled in from your image: the same settings and seed make it again."</Notice>
                    })}
                    <Field id="prompt" label="Prompt" error=prompt_error>
                        <textarea
                            class="input prompt"
                            id="prompt"
                            name="prompt"
                            rows="5"
                            maxlength="10000"
                            required
                            placeholder="What should be in the image?"
                            aria-describedby="prompt-note prompt-tokens"
                            aria-invalid=move || prompt_error.get().is_some().to_string()
                            on:keydown=move |event| recall.key(&event)
                        >{prompt}</textarea>
                    </Field>
                    <TokenLine draft=draft/>
                    <Tools rail=rail answer=answer/>
                    {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
                    <button class="button button-main button-wide generate" type="submit" aria-keyshortcuts="Control+Enter Meta+Enter" disabled=move || action.pending().get()>
                        <span>{move || if action.pending().get() { "Queueing …" } else { "Generate" }}</span>
                        <kbd class="keys" aria-hidden="true">"Ctrl ↵"</kbd>
                    </button>
                    <div class="expect">
                        <EstimateLine estimate=estimate device=device/>
                        {move || view! { <DeviceStatus badge=device.get()/> }}
                        <FasterNote rail=rail estimate=estimate/>
                    </div>
                    <PresetRow rail=rail/>
                    <DoneLine rail=rail/>
                    <Fold wrong_inside=wrong_inside>
                        <Advanced rail=rail refiners=refiners vaes=vaes answer=answer/>
                    </Fold>
                </div>
            </ActionForm>
        </aside>
    }
}

/// The badge as it is now: a GPU may fail, or come back, while the studio is open. It is asked for
/// whenever an image ends, which is when it matters, and now and then.
fn live_badge(at_first: DeviceBadge) -> Signal<DeviceBadge> {
    let badge = RwSignal::new(at_first);
    let live = use_live();
    let renew = move || {
        leptos::task::spawn_local(async move {
            if let Ok(fresh) = load_device_badge().await
                && badge.try_with_untracked(|known| *known != fresh) == Some(true)
            {
                let _ = badge.try_set(fresh);
            }
        });
    };
    Effect::new(move |before: Option<()>| {
        live.ended.track();
        if before.is_some() {
            renew();
        }
    });
    Effect::new(move |_| {
        let beat = move || {
            if !document().hidden() {
                renew();
            }
        };
        let handle = set_interval(beat, BADGE_EVERY);
        on_cleanup(move || {
            if let Ok(handle) = handle {
                handle.clear();
            }
        });
    });
    badge.into()
}

/// On a phone the desk lies below the form: what was asked for is brought into view.
#[cfg(feature = "hydrate")]
fn show_the_desk() {
    let Ok(Some(stage)) = document().query_selector(".stage") else {
        return;
    };
    let height = window()
        .inner_height()
        .ok()
        .and_then(|height| height.as_f64());
    if height.is_some_and(|height| stage.get_bounding_client_rect().top() > height / 2.0) {
        stage.scroll_into_view();
    }
}

#[cfg(not(feature = "hydrate"))]
fn show_the_desk() {}

/// The advanced settings, shut or open as this browser remembers; open when one of them is wrong.
#[component]
fn Fold(wrong_inside: Signal<bool>, children: Children) -> impl IntoView {
    let node = NodeRef::<leptos::html::Details>::new();
    let at_first = wrong_inside.get_untracked();
    Effect::new(move |_| {
        let open = wrong_inside.get() || remembered::is_advanced_open();
        if open && let Some(details) = node.get() {
            details.set_open(true);
        }
    });
    let toggled = move |_| {
        if let Some(details) = node.get_untracked() {
            remembered::keep_advanced_open(details.open());
        }
    };
    view! {
        <details class="fold" id="advanced" open=at_first node_ref=node on:toggle=toggled>
            <summary>"Advanced"</summary>
            {children()}
        </details>
    }
}

/// What a prompt can be helped with; each opens below the row of their buttons.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Styles,
    Image,
    Loras,
    History,
}

impl Tool {
    const ALL: [Self; 4] = [Self::Styles, Self::Image, Self::Loras, Self::History];

    /// The name that the browser remembers, and ids are made of.
    fn id(self) -> &'static str {
        match self {
            Self::Styles => "styles",
            Self::Image => "image",
            Self::Loras => "loras",
            Self::History => "history",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Styles => "Styles",
            Self::Image => "Image",
            Self::Loras => "LoRAs",
            Self::History => "History",
        }
    }

    /// The tool that a field of the form belongs to.
    fn of_field(field: &str) -> Option<Self> {
        match field {
            "styles" => Some(Self::Styles),
            "init_image" | "strength" | "mask" | "mask_blur" | "only_masked_padding" => {
                Some(Self::Image)
            }
            "loras" => Some(Self::Loras),
            _ => None,
        }
    }

    /// How much of it the form uses.
    fn uses(self, form: &GenerationForm) -> usize {
        match self {
            Self::Styles => super::style_names(&form.styles).count(),
            Self::Image => usize::from(!form.init_image.is_empty()),
            Self::Loras => super::request::loras(&form.loras).map_or(1, |list| list.len()),
            Self::History => 0,
        }
    }
}

/// Styles, the image to start from, LoRAs and used prompts, folded away until they are wanted.
#[component]
fn Tools(rail: Rail, answer: Answer<JobView>) -> impl IntoView {
    let draft = rail.draft;
    let initial = draft.initial.get_value();
    // Without a script nothing can be opened, so what is filled in is open from the start.
    let in_use: Vec<Tool> = Tool::ALL
        .into_iter()
        .filter(|tool| tool.uses(&initial) > 0)
        .collect();
    let open = RwSignal::new(in_use);
    let is_open = move |tool: Tool| open.with(|open| open.contains(&tool));
    Effect::new(move |_| {
        let remembered = remembered::open_tools();
        open.update(|open| {
            for tool in Tool::ALL {
                if remembered.iter().any(|id| id == tool.id()) && !open.contains(&tool) {
                    open.push(tool);
                }
            }
        });
    });
    let show = move |tool: Tool| {
        open.update(|open| {
            if !open.contains(&tool) {
                open.push(tool);
            }
        });
    };
    // What is wrong must be in sight.
    Effect::new(move |_| {
        let wrong = answer.with(|answer| match answer {
            Some(Err(error)) => error.field().and_then(Tool::of_field),
            _ => None,
        });
        if let Some(tool) = wrong {
            show(tool);
        }
    });
    let toggle = move |tool: Tool| {
        open.update(|open| match open.iter().position(|known| *known == tool) {
            Some(at) => {
                open.remove(at);
            }
            None => open.push(tool),
        });
        open.with_untracked(|open| {
            let ids: Vec<&str> = open.iter().map(|tool| tool.id()).collect();
            remembered::keep_open_tools(&ids);
        });
    };
    let button = move |tool: Tool| {
        let uses = move || match draft.form.with(|form| tool.uses(form)) {
            0 => String::new(),
            uses => format!(" · {uses}"),
        };
        view! {
            <button class="tool" type="button" on:click=move |_| toggle(tool)
                aria-expanded=move || is_open(tool).to_string() aria-controls=format!("tool-{}", tool.id())>
                {tool.name()}{uses}
            </button>
        }
    };
    let opened = move |tool: Tool| Signal::derive(move || is_open(tool));
    let came = Callback::new(move |()| show(Tool::Image));
    let wrong_style = field_error(answer, "styles");
    view! {
        <div class="tools">
            <div class="tool-row" role="group" aria-label="Help for the prompt">
                {Tool::ALL.map(|tool| button(tool).into_any()).into_iter().collect_view()}
            </div>
            <div class="tool-panel" id="tool-styles" hidden=move || !is_open(Tool::Styles)>
                <StylesPanel rail=rail value=initial.styles.clone()/>
                {move || wrong_style.get().map(|words| view! { <p class="field-error small" role="alert">{words}</p> })}
            </div>
            <div class="tool-panel" id="tool-image" hidden=move || !is_open(Tool::Image)>
                <StartImagePanel rail=rail initial=initial.clone() answer=answer came=came/>
            </div>
            <div class="tool-panel" id="tool-loras" hidden=move || !is_open(Tool::Loras)>
                <LoraPanel rail=rail open=opened(Tool::Loras) value=initial.loras.clone() answer=answer/>
            </div>
            <div class="tool-panel" id="tool-history" hidden=move || !is_open(Tool::History)>
                <HistoryPanel draft=draft open=opened(Tool::History)/>
            </div>
            <SentAs rail=rail/>
        </div>
    }
}
