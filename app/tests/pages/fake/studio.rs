//! What people keep for the studio, in the fake house.

use super::House;
use async_trait::async_trait;
use atelier_app::account::Viewer;
use atelier_app::backend::{Answer, Studio};
use atelier_app::error::AppError;
use atelier_app::studio::*;

#[async_trait]
impl Studio for House {
    async fn shelf(&self, _: &Viewer) -> Answer<Shelf> {
        let settings = GenerationForm {
            model: "demo".into(),
            num_inference_steps: "9".into(),
            ..GenerationForm::default()
        };
        Ok(Shelf {
            presets: vec![OwnPreset {
                id: "p-1".into(),
                name: self.prompt.clone(),
                settings,
            }],
            styles: vec![OwnStyle {
                id: "s-1".into(),
                style: Style {
                    name: "Mine".into(),
                    prompt: "mine: {prompt}".into(),
                    negative_prompt: self.prompt.clone(),
                },
            }],
        })
    }

    async fn save_preset(&self, _: &Viewer, preset: OwnPreset) -> Answer<OwnPreset> {
        self.note(format!("save preset {preset:?}"));
        Ok(preset)
    }

    async fn delete_preset(&self, _: &Viewer, id: &str) -> Answer<()> {
        self.note(format!("delete preset {id}"));
        Ok(())
    }

    async fn save_style(&self, _: &Viewer, style: OwnStyle) -> Answer<OwnStyle> {
        self.note(format!("save style {style:?}"));
        Ok(style)
    }

    async fn delete_style(&self, _: &Viewer, id: &str) -> Answer<()> {
        self.note(format!("delete style {id}"));
        Ok(())
    }

    async fn import_styles(&self, _: &Viewer, _: &str) -> Answer<ImportedStyles> {
        Err(AppError::invalid("styles", "That is no file of styles."))
    }

    async fn past_prompts(&self, _: &Viewer, _: &str) -> Answer<Vec<PastPrompt>> {
        Ok(Vec::new())
    }
}
