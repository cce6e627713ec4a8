//! Server functions: asking for an image. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{DeviceBadge, Estimate, GenerationForm, JobId, JobView, PromptTokens, StudioData};
use crate::error::AppError;
use leptos::prelude::*;
#[cfg(feature = "ssr")]
use {
    super::GenerationRequest,
    crate::backend::{use_backend, use_viewer},
    crate::gallery::ImageId,
    crate::response,
};

/// What the studio shows when it is opened; `from` names an image to start again from.
#[server(endpoint = "load_studio")]
pub async fn load_studio(#[server(default)] from: String) -> Result<StudioData, AppError> {
    let viewer = use_viewer()?;
    let backend = use_backend()?;
    let from = match from.as_str() {
        "" => None,
        id => match backend
            .gallery
            .image(&viewer, &ImageId(id.to_owned()))
            .await
        {
            Ok(image) => Some(image.settings),
            // A deleted image is no reason to keep the studio shut.
            Err(AppError::NotFound) => None,
            Err(error) => return Err(error),
        },
    };
    Ok(StudioData {
        jobs: backend.jobs.list_active(&viewer).await?,
        models: backend.jobs.list_models(&viewer).await?,
        loras: backend.jobs.list_loras(&viewer).await?,
        vaes: backend.jobs.list_vaes(&viewer).await?,
        device: backend.jobs.device_badge(&viewer).await?,
        recent: backend.gallery.list_images(&viewer, None, 12).await?.images,
        from,
    })
}

/// The device in one line.
#[server(endpoint = "load_device_badge")]
pub async fn load_device_badge() -> Result<DeviceBadge, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.jobs.device_badge(&viewer).await
}

/// Queues a generation. Its fields are sent under the names of [`GenerationForm`].
#[server(endpoint = "submit_generation")]
pub async fn submit_generation(
    #[server(flatten)] form: GenerationForm,
) -> Result<JobView, AppError> {
    let answer = async {
        let viewer = use_viewer()?;
        use_backend()?
            .jobs
            .submit(&viewer, form.clone().parse()?)
            .await
    }
    .await;
    match &answer {
        Ok(_) => response::redirect_plain_form("/"),
        Err(error) => {
            if let Some(path) = studio_with_error(&form, error) {
                response::redirect_plain_form(&path);
            }
        }
    }
    answer
}

/// The studio's address with everything that was typed and what is wrong with it, for browsers
/// without wasm: nothing typed may be lost.
#[cfg(feature = "ssr")]
fn studio_with_error(form: &GenerationForm, error: &AppError) -> Option<String> {
    use server_fn::ServerFn;
    use server_fn::error::ServerFnUrlError;
    // Only path and query are used; the type wants an absolute address.
    let base = format!("http://localhost/?{}", form.to_query());
    let url = ServerFnUrlError::new(SubmitGeneration::PATH, error.clone())
        .to_url(&base)
        .ok()?;
    Some(format!("/?{}", url.query().unwrap_or_default()))
}

/// When such an image would start and how long it would take; nothing while the form is not one
/// that could be sent (half a number has been typed, say), which is no error.
#[server(endpoint = "estimate_generation")]
pub async fn estimate_generation(
    #[server(flatten)] form: GenerationForm,
) -> Result<Option<Estimate>, AppError> {
    let viewer = use_viewer()?;
    let jobs = use_backend()?.jobs;
    let estimate = async { jobs.estimate(&viewer, form.parse()?).await };
    match estimate.await {
        Ok(estimate) => Ok(Some(estimate)),
        Err(AppError::Invalid { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How a model will cut these prompts into tokens, and what of them does not fit.
#[server(endpoint = "prompt_tokens")]
pub async fn count_prompt_tokens(
    #[server(default)] model: String,
    #[server(default)] prompt: String,
    #[server(default)] negative_prompt: String,
) -> Result<PromptTokens, AppError> {
    let viewer = use_viewer()?;
    let given = |text: String| (!text.is_empty()).then_some(text);
    let request = GenerationRequest {
        prompt,
        negative_prompt: given(negative_prompt),
        model: given(model),
        ..GenerationRequest::default()
    };
    use_backend()?.jobs.prompt_tokens(&viewer, request).await
}

/// One of the viewer's jobs.
#[server(endpoint = "get_job")]
pub async fn get_job(id: JobId) -> Result<JobView, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.jobs.job(&viewer, &id).await
}

/// Stops one of the viewer's jobs.
#[server(endpoint = "cancel_job")]
pub async fn cancel_job(id: JobId) -> Result<JobView, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.jobs.cancel(&viewer, &id).await
}
