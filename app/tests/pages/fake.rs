//! A backend of fixed answers that remembers what it was asked, and the way to ask it for a page.

mod operations;
mod people;
mod studio;

use crate::machine;
use async_trait::async_trait;
use atelier_app::account::*;
use atelier_app::admin::*;
use atelier_app::backend::*;
use atelier_app::error::AppError;
use atelier_app::gallery::*;
use atelier_app::studio::*;
use axum::body::to_bytes;
use axum::response::{IntoResponse, Response};
use leptos::config::LeptosOptions;
use leptos::prelude::provide_context;
use std::sync::{Arc, Mutex};

/// What a prompt must never become.
pub const HOSTILE: &str =
    "</textarea><script>window.__x=1</script>\"'><img src=x onerror=alert(1)>";

/// The house that is asked: its state, and a record of what changed it.
#[derive(Default)]
pub struct House {
    /// Waits for its first administrator.
    pub is_empty: bool,
    /// The prompt of every job and image.
    pub prompt: String,
    /// Jobs of the viewer.
    pub jobs: Vec<JobView>,
    /// Whether a sign-in takes a second step.
    pub two_step: bool,
    /// How many images the viewer has.
    pub images: usize,
    /// What was asked that changes something.
    pub asked: Mutex<Vec<String>>,
}

fn viewer(role: Role) -> Viewer {
    Viewer {
        id: UserId(1),
        name: "ada".into(),
        role,
    }
}

/// An administrator.
pub fn admin() -> Option<Viewer> {
    Some(viewer(Role::Admin))
}

/// Somebody who makes images.
pub fn member() -> Option<Viewer> {
    Some(viewer(Role::Member))
}

/// An answer of the site.
pub struct Page {
    /// The status code.
    pub status: u16,
    /// Where it sends the browser.
    pub location: Option<String>,
    /// The cookies it sets.
    pub cookies: Vec<String>,
    /// The body.
    pub html: String,
}

impl House {
    /// Remembers what was asked.
    pub fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    /// Takes what was asked so far.
    pub fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Settings as everything here has them.
    pub fn settings(&self) -> Settings {
        Settings {
            prompt: self.prompt.clone(),
            negative_prompt: Some(self.prompt.clone()),
            num_inference_steps: 20,
            guidance_scale: 5.0,
            width: 128,
            height: 96,
            seed: 18_446_744_073_709_551_615,
            scheduler: None,
            model: "demo".into(),
            ..Settings::default()
        }
    }

    /// A job in some state.
    pub fn job(&self, id: &str, state: JobState) -> JobView {
        JobView {
            id: JobId(id.into()),
            state,
            settings: self.settings(),
            position: (state == JobState::Queued).then_some(2),
            held: None,
            phase: (state == JobState::Running).then(|| "denoising".into()),
            step: if state == JobState::Running { 7 } else { 0 },
            steps: 20,
            seconds_left: (state == JobState::Running).then_some(2.5),
            preview: (state == JobState::Running).then(|| "data:image/png;base64,AAAA".into()),
            image_id: (state == JobState::Done).then(|| "img-1".into()),
            cached: false,
            error: (state == JobState::Failed).then(|| "The model's file is cut short.".into()),
            attempt: 1,
            rungs: Vec::new(),
            created_at: 1_795_538_049_000,
            finished_at: None,
        }
    }

    /// An image of the gallery.
    pub fn card(&self, number: usize) -> ImageCard {
        ImageCard {
            id: ImageId(format!("img-{number}")),
            width: 128,
            height: 96,
            dominant_colour: "#aa3344".into(),
            prompt: self.prompt.clone(),
            created_at: 1_795_538_049_000,
            favourite: number == 0,
            rating: 3,
        }
    }
}

fn context(
    house: &Arc<House>,
    viewer: Option<Viewer>,
) -> impl Fn() + Clone + Send + Sync + 'static {
    let backend = Backend {
        accounts: house.clone(),
        jobs: house.clone(),
        studio: house.clone(),
        gallery: house.clone(),
        admin: house.clone(),
        people: house.clone(),
        outside: Some("the lab".into()),
        models: house.clone(),
        operations: house.clone(),
    };
    move || {
        provide_context(backend.clone());
        provide_context(Client::default());
        provide_context(viewer.clone());
    }
}

async fn page_of(response: Response) -> Page {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    Page {
        status: parts.status.as_u16(),
        location: parts.headers.get("location").map(text),
        cookies: parts
            .headers
            .get_all("set-cookie")
            .iter()
            .map(text)
            .collect(),
        html: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

/// A page as the server sends it.
pub async fn get(house: &Arc<House>, viewer: Option<Viewer>, path: &str) -> Page {
    // The server does this when it lists its routes; a second call is refused and changes nothing.
    let _ = any_spawner::Executor::init_tokio();
    let render = leptos_axum::render_app_async_with_context(context(house, viewer), || {
        atelier_app::shell(LeptosOptions::builder().output_name("atelier").build())
    });
    let request = http::Request::get(path)
        .header("accept", "text/html")
        .body(Default::default())
        .unwrap();
    page_of(render(request).await).await
}

/// A form as a browser without wasm posts it from the page at `referer`.
pub async fn post(
    house: &Arc<House>,
    viewer: Option<Viewer>,
    path: &str,
    referer: &str,
    form: &str,
) -> Page {
    let request = http::Request::post(path)
        .header("accept", "text/html,application/xhtml+xml")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("referer", format!("http://localhost{referer}"))
        .body(form.to_owned().into())
        .unwrap();
    let answer = leptos_axum::handle_server_fns_with_context(context(house, viewer), request).await;
    page_of(answer.into_response()).await
}

fn signed_in(viewer: Viewer) -> SignedIn {
    SignedIn {
        viewer,
        set_cookie: "sid=secret; Path=/; HttpOnly; SameSite=Lax".into(),
    }
}

#[async_trait]
impl Jobs for House {
    async fn submit(&self, _: &Viewer, request: GenerationRequest) -> Answer<JobView> {
        if request.num_inference_steps == Some(0) {
            return Err(AppError::invalid(
                "num_inference_steps",
                "At least one step is needed.",
            ));
        }
        self.note(format!("submit {request:?}"));
        Ok(self.job("new", JobState::Queued))
    }

    async fn list_active(&self, _: &Viewer) -> Answer<Vec<JobView>> {
        Ok(self.jobs.clone())
    }

    async fn job(&self, _: &Viewer, id: &JobId) -> Answer<JobView> {
        let found = self.jobs.iter().find(|job| &job.id == id).cloned();
        found.ok_or(AppError::NotFound)
    }

    async fn cancel(&self, viewer: &Viewer, id: &JobId) -> Answer<JobView> {
        self.note(format!("cancel {}", id.0));
        Jobs::job(self, viewer, id).await
    }

    async fn estimate(&self, _: &Viewer, _: GenerationRequest) -> Answer<Estimate> {
        Ok(Estimate {
            starts_in_s: Some(0.0),
            takes_s: Some(4.0),
            num_images: 1,
            ..Estimate::default()
        })
    }

    async fn prompt_tokens(&self, _: &Viewer, _: GenerationRequest) -> Answer<PromptTokens> {
        Ok(PromptTokens {
            prompt: TokenCount {
                used: 5,
                room: 75,
                chunks: 1,
                cut: None,
            },
            negative_prompt: None,
        })
    }

    async fn list_models(&self, _: &Viewer) -> Answer<Vec<ModelSummary>> {
        Ok(vec![ModelSummary {
            name: "demo".into(),
            kind: "stable-diffusion-xl-base".into(),
            description: "Shapes.".into(),
            default_width: 128,
            default_height: 128,
            default_steps: 20,
            default_guidance_scale: 5.0,
            size_multiple: 8,
            max_side: 256,
            schedulers: vec!["euler".into()],
            is_default: true,
            example_prompts: vec!["a red circle on a white background".into()],
            presets: Vec::new(),
            few_step: false,
        }])
    }

    async fn list_loras(&self, _: &Viewer) -> Answer<Vec<AddOn>> {
        Ok(vec![AddOn {
            name: "ink".into(),
            bytes: 4096,
            ..AddOn::default()
        }])
    }

    async fn list_vaes(&self, _: &Viewer) -> Answer<Vec<AddOn>> {
        Ok(Vec::new())
    }

    async fn device_badge(&self, _: &Viewer) -> Answer<DeviceBadge> {
        Ok(DeviceBadge {
            label: "CPU · 2 cores · f32".into(),
            degraded: true,
            reason: Some("The GPU has compute capability 12.0; this build carries 8.0–9.0.".into()),
        })
    }
}

#[async_trait]
impl Admin for House {
    async fn devices(&self, _: &Viewer) -> Answer<DevicesReport> {
        Ok(machine::devices(&self.prompt))
    }

    async fn test_devices_again(
        &self,
        viewer: &Viewer,
        device: Option<&str>,
    ) -> Answer<DevicesReport> {
        self.note(format!("test {} again", device.unwrap_or("everything")));
        Admin::devices(self, viewer).await
    }

    async fn set_device_choice(
        &self,
        viewer: &Viewer,
        choice: DeviceChoice,
    ) -> Answer<DevicesReport> {
        self.note(format!(
            "choose {} {} {:?} {}",
            choice.device, choice.precision, choice.refiner_device, choice.idle_release_s
        ));
        Admin::devices(self, viewer).await
    }

    async fn vitals(&self, _: &Viewer, span_s: u32) -> Answer<VitalsReport> {
        Ok(machine::vitals(span_s))
    }

    async fn queue(&self, _: &Viewer) -> Answer<Vec<QueueRow>> {
        let row = |state: JobState| QueueRow {
            id: JobId("job-9".into()),
            user: self.prompt.clone(),
            state,
            model: "demo".into(),
            size: "128×96".into(),
            step: 3,
            steps: 20,
            created_at: 1_795_538_049_000,
            started_at: None,
            attempt: 1,
        };
        Ok(vec![row(JobState::Running), row(JobState::Done)])
    }

    async fn cancel_job(&self, _: &Viewer, id: &JobId) -> Answer<()> {
        self.note(format!("cancel any {}", id.0));
        Ok(())
    }

    async fn list_users(&self, _: &Viewer) -> Answer<Vec<UserRow>> {
        let user = |id, name: &str, disabled| UserRow {
            id: UserId(id),
            name: name.into(),
            role: Role::Member,
            created_at: 1_795_538_049_000,
            last_seen_at: None,
            images: 3,
            bytes: 61_440,
            disabled,
        };
        Ok(vec![user(1, "ada", false), user(2, &self.prompt, true)])
    }

    async fn create_user(
        &self,
        _: &Viewer,
        credentials: Credentials,
        role: Role,
    ) -> Answer<UserRow> {
        self.note(format!("create {} {}", credentials.name, role.as_str()));
        Err(AppError::invalid("name", "That name is taken."))
    }

    async fn set_user_disabled(&self, _: &Viewer, id: UserId, disabled: bool) -> Answer<()> {
        self.note(format!("disable {} {disabled}", id.0));
        Ok(())
    }
}

#[async_trait]
impl Models for House {
    async fn report(&self, _: &Viewer) -> Answer<ModelsReport> {
        let model = |name: &str, check: ModelCheck| ModelRow {
            name: name.into(),
            description: Some(self.prompt.clone()),
            kind: Some("stable-diffusion-xl-base".into()),
            bytes: 7_000_000_000,
            dtype: Some("f16".into()),
            default_steps: Some(30),
            default_guidance_scale: Some(5.0),
            path: format!("data/models/{name}"),
            origin: "somebody/sdxl@0123456789".into(),
            is_default: name == "demo",
            can_be_default: true,
            can_be_removed: name != "demo",
            problem: None,
            check,
            least_role: Role::Member,
        };
        let damaged = ModelCheck::Damaged {
            at: 1_795_538_049_000,
            faults: vec![self.prompt.clone()],
            can_repair: true,
        };
        let checking = ModelCheck::Running {
            repairs: false,
            done: Some(0.5),
        };
        let fetch = |state| FetchRow {
            name: "big".into(),
            source: "somebody/big".into(),
            variant: "fp16".into(),
            state,
            have: 1 << 30,
            total: Some(4 << 30),
            files_done: 3,
            files: 17,
            bytes_per_s: Some(5e7),
            seconds_left: Some(64.0),
            current: vec!["unet/model.safetensors".into()],
            trouble: Some(self.prompt.clone()),
            can_resume: state != FetchState::Running,
        };
        Ok(ModelsReport {
            models: vec![
                model("demo", ModelCheck::Never),
                model("sdxl", damaged),
                model("half", checking),
                ModelRow {
                    problem: Some(self.prompt.clone()),
                    ..model("broken", ModelCheck::Never)
                },
            ],
            fetches: vec![fetch(FetchState::Running), fetch(FetchState::Failed)],
            folder: "data/models".into(),
            free_bytes: Some(1 << 40),
            endpoint: "https://hub.example".into(),
            has_token: false,
            default_is_fixed: false,
        })
    }

    async fn fetch(&self, _: &Viewer, asked: NewFetch) -> Answer<()> {
        if !asked.model.contains('/') {
            return Err(AppError::invalid("model", "write OWNER/NAME"));
        }
        self.note(format!("fetch {asked:?}"));
        Ok(())
    }

    async fn act(&self, _: &Viewer, name: &str, act: ModelAct) -> Answer<()> {
        self.note(format!("{act:?} {name}"));
        Ok(())
    }

    async fn set_access(&self, _: &Viewer, name: &str, least: Role) -> Answer<()> {
        self.note(format!("{name} is for {}", least.as_str()));
        Ok(())
    }

    async fn look_again(&self, _: &Viewer) -> Answer<()> {
        self.note("look again".into());
        Ok(())
    }
}
