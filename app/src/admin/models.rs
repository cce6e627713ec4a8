//! The models: what there is, fetching more, checking, removing, the default.

use super::{
    ActOnModel, FetchModel, FetchRow, FetchState, LookForModels, ModelAct, ModelCheck, ModelRow,
    ModelsReport, SetModelAccess, load_models,
};
use crate::account::Role;
use crate::components::{
    Badge, ErrorNotice, Field, Moment, Notice, Progress, TextField, Tone, bytes_text, field_error,
    form_error, number_text, seconds_text,
};
use leptos::form::ActionForm;
use leptos::prelude::*;
use std::time::Duration;

/// How often the list is asked for again while something is fetched or checked, and otherwise.
const RENEW_EVERY: Duration = Duration::from_secs(1);
const RENEW_QUIETLY: u32 = 15;

/// The section about models.
#[component]
pub fn Models() -> impl IntoView {
    let fetch = ServerAction::<FetchModel>::new();
    let act = ServerAction::<ActOnModel>::new();
    let look = ServerAction::<LookForModels>::new();
    let access = ServerAction::<SetModelAccess>::new();
    let tick = RwSignal::new(0_u32);
    let is_busy = RwSignal::new(false);
    Effect::new(move |_| {
        let quiet = StoredValue::new(0_u32);
        let renew = move || {
            // A question that is open would be closed by a new list, and a choice under way undone.
            let asks = document()
                .query_selector("details.confirm[open], .model-access:focus-within")
                .is_ok_and(|open| open.is_some());
            quiet.update_value(|seconds| *seconds += 1);
            let is_due = is_busy.get_untracked() || quiet.get_value() >= RENEW_QUIETLY;
            if is_due && !asks {
                quiet.set_value(0);
                tick.update(|n| *n = n.wrapping_add(1));
            }
        };
        let handle = set_interval(renew, RENEW_EVERY);
        on_cleanup(move || {
            if let Ok(handle) = handle {
                handle.clear();
            }
        });
    });
    let report = Resource::new(
        move || {
            let answered = fetch.version().get()
                + act.version().get()
                + look.version().get()
                + access.version().get();
            (tick.get(), answered)
        },
        |_| load_models(),
    );
    Effect::new(move |_| {
        if let Some(Ok(report)) = report.get() {
            is_busy.set(report.is_busy());
        }
    });
    let error = move || {
        let failed = [act.value().get(), look.value().get(), access.value().get()]
            .into_iter()
            .flatten();
        failed
            .filter_map(Result::err)
            .map(|error| view! { <ErrorNotice error=error/> })
            .collect_view()
    };
    view! {
        <section aria-labelledby="models-title">
            <div class="page-head">
                <h2 id="models-title">"Models"</h2>
                <ActionForm action=look>
                    <button class="button button-small" type="submit" disabled=move || look.pending().get()>
                        "Look again"
                    </button>
                </ActionForm>
            </div>
            {error}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match report.await {
                        Ok(report) => view! { <Report report=report act=act access=access/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
            <NewFetchForm action=fetch/>
        </section>
    }
}

#[component]
fn Report(
    report: ModelsReport,
    act: ServerAction<ActOnModel>,
    access: ServerAction<SetModelAccess>,
) -> impl IntoView {
    let fetches = report
        .fetches
        .into_iter()
        .map(|fetch| view! { <FetchCard fetch=fetch act=act/> })
        .collect_view();
    let fixed = report.default_is_fixed;
    let rows = report
        .models
        .into_iter()
        .map(|model| view! { <ModelCard model=model fixed=fixed act=act access=access/> })
        .collect_view();
    let free = report
        .free_bytes
        .map(|bytes| format!(" · {} free", bytes_text(bytes)));
    let token = if report.has_token {
        "with an access token"
    } else {
        "without an access token (HF_TOKEN)"
    };
    view! {
        <p class="quiet small break">
            "In "<code>{report.folder}</code>{free}" · fetched from "{report.endpoint}", "{token}
        </p>
        <div class="cards">{fetches}{rows}</div>
    }
}

#[component]
fn FetchCard(fetch: FetchRow, act: ServerAction<ActOnModel>) -> impl IntoView {
    let (tone, word) = match fetch.state {
        FetchState::Running => (Tone::Live, "fetching"),
        FetchState::Interrupted => (Tone::Warn, "interrupted"),
        FetchState::Failed => (Tone::Bad, "failed"),
    };
    let done = fetch
        .total
        .filter(|total| *total > 0)
        .map(|total| fetch.have as f64 / total as f64);
    let is_running = fetch.state == FetchState::Running;
    let amount = match fetch.total {
        Some(total) => format!("{} of {}", bytes_text(fetch.have), bytes_text(total)),
        None if is_running && fetch.files == 0 => "Asking what there is …".to_owned(),
        None => bytes_text(fetch.have),
    };
    let pace = [
        fetch
            .bytes_per_s
            .map(|rate| format!("{}/s", bytes_text(rate as u64))),
        fetch
            .seconds_left
            .map(|left| format!("{} left", seconds_text(left))),
        (fetch.files > 0).then(|| format!("{} of {} files", fetch.files_done, fetch.files)),
    ];
    let pace: Vec<String> = pace.into_iter().flatten().collect();
    let trouble = fetch.trouble.map(|trouble| {
        if is_running {
            view! { <p class="quiet small break">{format!("{trouble}; trying again")}</p> }
                .into_any()
        } else {
            view! { <p class="remedy" role="alert">{trouble}</p> }.into_any()
        }
    });
    let current = is_running.then(|| fetch.current.join(", "));
    let shown = if is_running {
        done
    } else {
        Some(done.unwrap_or(0.0))
    };
    let bar = format!("Fetching {}", fetch.name);
    let name = fetch.name.clone();
    let buttons = if is_running {
        view! { <Button act=act does=ModelAct::Stop name=name.clone() label=format!("Stop fetching {name}") word="Stop"/> }.into_any()
    } else {
        let (again, away) = (format!("Resume {name}"), format!("Discard {name}"));
        view! {
            {fetch.can_resume.then(|| view! { <Button act=act does=ModelAct::Resume name=name.clone() label=again word="Resume"/> })}
            <Button act=act does=ModelAct::Discard name=name.clone() label=away word="Discard"/>
        }
        .into_any()
    };
    view! {
        <article class="card">
            <div class="card-head">
                <h3 class="break">{fetch.name}</h3>
                <Badge tone=tone>{word}</Badge>
            </div>
            <p class="quiet break">{fetch.source}" · "{fetch.variant}</p>
            <Progress label=bar value=shown/>
            <p class="number">{amount}{(!pace.is_empty()).then(|| format!(" · {}", pace.join(" · ")))}</p>
            {current.map(|current| view! { <p class="quiet small break model-files">{current}</p> })}
            {trouble}
            <div class="actions">{buttons}</div>
        </article>
    }
}

#[component]
fn ModelCard(
    model: ModelRow,
    fixed: bool,
    act: ServerAction<ActOnModel>,
    access: ServerAction<SetModelAccess>,
) -> impl IntoView {
    let name = model.name.clone();
    let state = match (&model.problem, model.is_default) {
        (Some(_), _) => Some(view! { <Badge tone=Tone::Bad>"cannot be used"</Badge> }),
        (None, true) => Some(view! { <Badge tone=Tone::Good>"default"</Badge> }),
        (None, false) => None,
    };
    let is_checking = matches!(model.check, ModelCheck::Running { .. });
    let can_repair = matches!(
        model.check,
        ModelCheck::Damaged {
            can_repair: true,
            ..
        }
    );
    let defaults = model.default_steps.zip(model.default_guidance_scale);
    let facts = [
        ("Kind", model.kind),
        ("Size", Some(bytes_text(model.bytes))),
        ("Stored in", model.dtype),
        (
            "Defaults",
            defaults.map(|(steps, guidance)| {
                format!("{steps} steps, guidance {}", number_text(guidance))
            }),
        ),
        ("From", Some(model.origin)),
        ("Lies in", Some(model.path)),
    ];
    let facts = facts
        .into_iter()
        .filter_map(|(fact, value)| {
            value.map(|value| view! { <dt>{fact}</dt><dd class="number break">{value}</dd> })
        })
        .collect_view();
    let may_be_default = !model.is_default && model.can_be_default && !fixed;
    view! {
        <article class="card">
            <div class="card-head">
                <h3 class="break">{model.name}</h3>
                {state}
            </div>
            {model.description.map(|text| view! { <p>{text}</p> })}
            {model.problem.map(|problem| view! { <p class="remedy">{problem}</p> })}
            <dl class="facts facts-tight">{facts}</dl>
            <Check name=name.clone() check=model.check/>
            <AccessForm name=name.clone() least=model.least_role access=access/>
            <div class="actions">
                {may_be_default.then(|| view! {
                    <Button act=act does=ModelAct::MakeDefault name=name.clone() label=format!("Make {name} the default") word="Make default"/>
                })}
                {(!is_checking).then(|| view! {
                    <Button act=act does=ModelAct::Check name=name.clone() label=format!("Check the files of {name}") word="Check"/>
                })}
                {can_repair.then(|| view! {
                    <Button act=act does=ModelAct::Repair name=name.clone() label=format!("Repair {name}") word="Repair"/>
                })}
                {(model.can_be_removed && !is_checking).then(|| view! { <Remove name=name.clone() act=act/> })}
            </div>
        </article>
    }
}

/// What is known of a model's files.
#[component]
fn Check(name: String, check: ModelCheck) -> impl IntoView {
    match check {
        ModelCheck::Never => {
            view! { <p class="quiet small">"Its files were never checked."</p> }.into_any()
        }
        ModelCheck::Running { repairs, done } => {
            let word = if repairs {
                "Fetching damaged files again"
            } else {
                "Checking its files"
            };
            view! {
                <p class="quiet small">{word}" …"</p>
                <Progress label=format!("{word} of {name}") value=done/>
            }
            .into_any()
        }
        ModelCheck::Sound { at, by_checksum } => {
            let word = if by_checksum {
                "Every checksum was right"
            } else {
                "Configs and headers were in order"
            };
            view! { <p class="quiet small"><span class="ok">{word}</span>", "<Moment at=at/></p> }
                .into_any()
        }
        ModelCheck::Damaged { at, faults, .. } => {
            let faults = faults
                .into_iter()
                .map(|fault| view! { <li class="break">{fault}</li> })
                .collect_view();
            view! {
                <Notice tone=Tone::Bad>
                    <p>"Damage was found "<Moment at=at/>":"</p>
                    <ul>{faults}</ul>
                </Notice>
            }
            .into_any()
        }
        ModelCheck::Failed { message } => {
            view! { <p class="remedy" role="alert">{message}</p> }.into_any()
        }
    }
}

/// Who may see and use it. Whoever may not finds it in no list, and is told so who names it.
#[component]
fn AccessForm(name: String, least: Role, access: ServerAction<SetModelAccess>) -> impl IntoView {
    let options = [
        (Role::Viewer, "everybody"),
        (Role::Member, "members and administrators"),
        (Role::Admin, "administrators only"),
    ];
    let options = options
        .map(|(role, words)| {
            view! { <option value=role.as_str() selected=role == least>{words}</option> }
        })
        .collect_view();
    view! {
        <ActionForm action=access>
            <input type="hidden" name="name" value=name.clone()/>
            <div class="model-access">
                <span class="small" aria-hidden="true">"For"</span>
                <select class="input" name="role" aria-label=format!("Who may use {name}")>{options}</select>
                <button class="button button-small" type="submit" aria-label=format!("Set who may use {name}") disabled=move || access.pending().get()>"Set"</button>
            </div>
        </ActionForm>
    }
}

/// A form of one button that names a model.
#[component]
fn Button(
    act: ServerAction<ActOnModel>,
    does: ModelAct,
    name: String,
    label: String,
    word: &'static str,
) -> impl IntoView {
    view! {
        <ActionForm action=act>
            <input type="hidden" name="name" value=name/>
            <input type="hidden" name="act" value=does.as_str()/>
            <button class="button button-small" type="submit" aria-label=label>{word}</button>
        </ActionForm>
    }
}

/// Removing asks once more: what is gone must be fetched again.
#[component]
fn Remove(act: ServerAction<ActOnModel>, name: String) -> impl IntoView {
    let label = format!("Remove {name} …");
    let question = format!("{name} is deleted from this machine's disk.");
    view! {
        <details class="confirm">
            <summary class="button button-small" aria-label=label>"Remove …"</summary>
            <div class="confirm-panel">
                <p>{question}</p>
                <Button act=act does=ModelAct::Remove label=format!("Delete {name} from the disk") name=name word="Delete it"/>
            </div>
        </details>
    }
}

#[component]
fn NewFetchForm(action: ServerAction<FetchModel>) -> impl IntoView {
    let answer = action.value();
    let error = form_error(answer, &["model", "name", "variant"]);
    view! {
        <article class="card" aria-labelledby="new-model-title">
            <h3 id="new-model-title">"Fetch a model"</h3>
            {move || error.get().map(|error| view! { <ErrorNotice error=error/> })}
            <ActionForm action=action>
                <div class="row row-fields">
                    <TextField
                        id="model-source" name="model" label="Model"
                        hint="OWNER/NAME, e.g. stabilityai/stable-diffusion-xl-base-1.0; or OWNER/NAME/FILE.safetensors."
                        error=field_error(answer, "model")
                    />
                    <TextField
                        id="model-name" name="name" label="Name here" required=false
                        hint="Left empty: the repository's." error=field_error(answer, "name")
                    />
                    <Field id="model-variant" label="Weights" error=field_error(answer, "variant")>
                        <select class="input" id="model-variant" name="variant" aria-describedby="model-variant-note">
                            <option value="fp16" selected>"fp16: half the download"</option>
                            <option value="full">"full: as published"</option>
                        </select>
                    </Field>
                    <button class="button row-button" type="submit" disabled=move || action.pending().get()>"Fetch"</button>
                </div>
            </ActionForm>
        </article>
    }
}
