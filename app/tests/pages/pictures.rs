//! The fake backend's gallery: as many images as the house has, two collections, two links.

use super::fake::House;
use super::machine;
use async_trait::async_trait;
use atelier_app::account::Viewer;
use atelier_app::backend::{Answer, Gallery};
use atelier_app::error::AppError;
use atelier_app::gallery::*;
use atelier_app::studio::JobId;

#[async_trait]
impl Gallery for House {
    async fn find_images(
        &self,
        _: &Viewer,
        query: &ImageQuery,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<GalleryPage> {
        if query.q == "nothing" {
            return Ok(GalleryPage::default());
        }
        let start = match after {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .map_err(|_| AppError::invalid("after", "That is not a page of the gallery."))?,
        };
        let end = (start + limit as usize).min(self.images);
        Ok(GalleryPage {
            images: (start..end).map(|number| self.card(number)).collect(),
            next: (end < self.images).then(|| end.to_string()),
            total: self.images as u64,
            more: false,
            mine: true,
        })
    }

    async fn outline(
        &self,
        viewer: &Viewer,
        query: &ImageQuery,
        after: Option<&str>,
    ) -> Answer<Outline> {
        let limit = self.images as u32;
        let page = self.find_images(viewer, query, after, limit).await?;
        Ok(Outline {
            shapes: page
                .images
                .iter()
                .map(|card| shape_letter(card.width, card.height))
                .collect(),
            marks: Vec::new(),
            next: None,
        })
    }

    async fn image_ids(
        &self,
        viewer: &Viewer,
        query: &ImageQuery,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<Vec<ImageId>> {
        let page = self.find_images(viewer, query, after, limit).await?;
        Ok(page.images.into_iter().map(|card| card.id).collect())
    }

    async fn facets(&self, _: &Viewer, _: &ImageQuery) -> Answer<Facets> {
        Ok(Facets {
            models: vec![FacetValue {
                value: self.prompt.clone(),
                count: self.images as u64,
            }],
            months: vec![FacetValue {
                value: "2026-11".into(),
                count: self.images as u64,
            }],
            favourites: 1,
            ..Facets::default()
        })
    }

    async fn act(&self, _: &Viewer, ids: &[ImageId], act: ImageAct) -> Answer<u32> {
        let names: Vec<&str> = ids.iter().map(|id| id.0.as_str()).collect();
        self.note(format!("{act:?} {}", names.join(" ")));
        Ok(ids.len() as u32)
    }

    async fn trash(&self, _: &Viewer, _: Option<&str>, _: u32) -> Answer<Trash> {
        Ok(Trash {
            images: (0..self.images.min(2))
                .map(|number| self.card(number))
                .collect(),
            next: None,
            total: self.images.min(2) as u64,
            days: 30,
        })
    }

    async fn empty_trash(&self, _: &Viewer) -> Answer<u32> {
        self.note("empty trash".into());
        Ok(2)
    }

    async fn set_trash_days(&self, _: &Viewer, days: u32) -> Answer<()> {
        self.note(format!("trash days {days}"));
        Ok(())
    }

    async fn collections(&self, _: &Viewer) -> Answer<Vec<Collection>> {
        if self.images == 0 {
            return Ok(Vec::new());
        }
        let collection = |id: &str, mine: bool| Collection {
            id: CollectionId(id.into()),
            name: self.prompt.clone(),
            shared: !mine,
            mine,
            owner: "bob".into(),
            images: 1,
            cover: mine.then(|| self.card(1)),
        };
        Ok(vec![collection("c-1", true), collection("c-2", false)])
    }

    async fn change_collection(
        &self,
        viewer: &Viewer,
        act: CollectionAct,
    ) -> Answer<Option<Collection>> {
        self.note(format!("{act:?}"));
        Ok(self.collections(viewer).await?.into_iter().next())
    }

    async fn share_links(&self, _: &Viewer, _: &ImageId) -> Answer<Vec<ShareLink>> {
        Ok(Vec::new())
    }

    async fn create_share_link(
        &self,
        _: &Viewer,
        id: &ImageId,
        days: u32,
        with_settings: bool,
    ) -> Answer<NewShareLink> {
        self.note(format!("share {} {days} {with_settings}", id.0));
        Err(AppError::NotFound)
    }

    async fn revoke_share_link(&self, _: &Viewer, id: &str) -> Answer<()> {
        self.note(format!("unshare {id}"));
        Ok(())
    }

    async fn open_share_link(&self, secret: &str) -> Answer<SharedImage> {
        if secret != "good" && secret != "bare" {
            return Err(AppError::NotFound);
        }
        Ok(SharedImage {
            width: 128,
            height: 96,
            dominant_colour: "#aa3344".into(),
            expires_at: 1_795_538_049_000,
            settings: (secret == "good").then(|| self.settings()),
        })
    }

    async fn image(&self, viewer: &Viewer, id: &ImageId) -> Answer<ImageDetail> {
        if !["img-1", "img-old"].contains(&id.0.as_str()) {
            return Err(AppError::NotFound);
        }
        if id.0 == "img-old" {
            let new = Gallery::image(self, viewer, &ImageId("img-1".into())).await?;
            return Ok(ImageDetail {
                device: String::new(),
                dtype: String::new(),
                fallback_reason: None,
                rungs: Vec::new(),
                timings: PhaseTimings::default(),
                ..new
            });
        }
        Ok(ImageDetail {
            card: self.card(1),
            settings: self.settings(),
            scheduler: "euler".into(),
            device: "cpu".into(),
            dtype: "f32".into(),
            fallback_reason: Some("No driver.".into()),
            rungs: machine::rungs(&self.prompt),
            timings: PhaseTimings {
                queued_s: 1.0,
                loading_s: 0.0,
                text_encoding_s: 0.2,
                denoising_s: 3.0,
                decoding_s: 0.3,
                total_s: 3.6,
            },
            notes: vec![self.prompt.clone()],
            bytes: 20_480,
            sha256: "ab".repeat(32),
            job_id: JobId("job-1".into()),
            mine: true,
            owner: "ada".into(),
            imported_from: None,
            parent: Some(self.card(2)),
            children: vec![self.card(0)],
            newer: Some(ImageId("img-0".into())),
            older: None,
        })
    }

    async fn delete_image(&self, _: &Viewer, id: &ImageId) -> Answer<()> {
        self.note(format!("delete {}", id.0));
        Ok(())
    }
}
