//! Server functions: asking for an image. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{
    AddOn, DeviceBadge, Estimate, GenerationForm, ImportedStyles, JobId, JobView, OwnPreset,
    OwnStyle, PastPrompt, PromptTokens, StudioData,
};
use crate::error::AppError;
use leptos::prelude::*;
#[cfg(feature = "ssr")]
use {
    super::{GenerationRequest, Style, find_style, style_names, with_styles},
    crate::account::Viewer,
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
        vaes: backend.jobs.list_vaes(&viewer).await?,
        device: backend.jobs.device_badge(&viewer).await?,
        recent: backend.gallery.list_images(&viewer, None, 12).await?.images,
        from,
        shelf: backend.studio.shelf(&viewer).await?,
    })
}

/// The LoRAs that can be asked for.
#[server(endpoint = "load_loras")]
pub async fn load_loras() -> Result<Vec<AddOn>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.jobs.list_loras(&viewer).await
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
        let form = in_style(&viewer, form.clone()).await?;
        use_backend()?.jobs.submit(&viewer, form.parse()?).await
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
    let estimate = async {
        let form = in_style(&viewer, form).await?;
        jobs.estimate(&viewer, form.parse()?).await
    };
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
    #[server(default)] prompt_syntax: String,
    #[server(default)] styles: String,
) -> Result<PromptTokens, AppError> {
    let viewer = use_viewer()?;
    let given = |text: String| (!text.is_empty()).then_some(text);
    let form = GenerationForm {
        prompt,
        negative_prompt,
        styles,
        ..GenerationForm::default()
    };
    let form = in_style(&viewer, form).await?;
    let request = GenerationRequest {
        prompt: form.prompt,
        negative_prompt: given(form.negative_prompt),
        model: given(model),
        prompt_syntax: super::request::syntax(&prompt_syntax)?,
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

/// The form with its styles put into its prompts.
#[cfg(feature = "ssr")]
async fn in_style(viewer: &Viewer, mut form: GenerationForm) -> Result<GenerationForm, AppError> {
    if style_names(&form.styles).next().is_none() {
        return Ok(form);
    }
    let own = use_backend()?.studio.shelf(viewer).await?.styles;
    let mut styles: Vec<Style> = Vec::new();
    for name in style_names(&form.styles) {
        styles.push(find_style(&own, name).ok_or_else(|| {
            let name: String = name.chars().take(super::LONGEST_SHELF_NAME).collect();
            AppError::invalid(
                "styles",
                format!("There is no style “{name}” any more. Take it off and try again."),
            )
        })?);
    }
    // A style makes an image of its own; what is asked for is still the person's to say.
    if form.prompt.trim().is_empty() {
        return Ok(form);
    }
    (form.prompt, form.negative_prompt) = with_styles(&form.prompt, &form.negative_prompt, &styles);
    form.styles.clear();
    Ok(form)
}

/// Keeps settings under a name, for the form's model; with the id of a preset, in its place.
#[server(endpoint = "save_preset")]
pub async fn save_preset(
    #[server(default)] id: String,
    name: String,
    #[server(flatten)] form: GenerationForm,
) -> Result<OwnPreset, AppError> {
    let viewer = use_viewer()?;
    let preset = OwnPreset {
        id,
        name,
        settings: form,
    };
    use_backend()?.studio.save_preset(&viewer, preset).await
}

/// Deletes one of the viewer's presets.
#[server(endpoint = "delete_preset")]
pub async fn delete_preset(id: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.studio.delete_preset(&viewer, &id).await
}

/// Keeps a style; with the id of one, in its place.
#[server(endpoint = "save_style")]
pub async fn save_style(
    #[server(default)] id: String,
    name: String,
    #[server(default)] prompt: String,
    #[server(default)] negative_prompt: String,
) -> Result<OwnStyle, AppError> {
    let viewer = use_viewer()?;
    let style = Style {
        name,
        prompt,
        negative_prompt,
    };
    let style = OwnStyle { id, style };
    use_backend()?.studio.save_style(&viewer, style).await
}

/// Deletes one of the viewer's styles.
#[server(endpoint = "delete_style")]
pub async fn delete_style(id: String) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.studio.delete_style(&viewer, &id).await
}

/// Keeps the styles of a file in the form that A1111 has: `name,prompt,negative_prompt` on each line.
#[server(endpoint = "import_styles")]
pub async fn import_styles(csv: String) -> Result<ImportedStyles, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.studio.import_styles(&viewer, &csv).await
}

/// The viewer's styles, by name.
#[server(endpoint = "list_styles")]
pub async fn list_styles() -> Result<Vec<OwnStyle>, AppError> {
    let viewer = use_viewer()?;
    Ok(use_backend()?.studio.shelf(&viewer).await?.styles)
}

/// The viewer's latest prompts that hold all of these words, each once.
#[server(endpoint = "past_prompts")]
pub async fn past_prompts(#[server(default)] words: String) -> Result<Vec<PastPrompt>, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.studio.past_prompts(&viewer, &words).await
}
