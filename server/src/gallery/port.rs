//! The port's gallery: what pages and the API may ask, checked and passed on.

use async_trait::async_trait;
use atelier_app::account::Viewer;
use atelier_app::backend::{Answer, Gallery};
use atelier_app::error::AppError;
use atelier_app::gallery::{
    Collection, CollectionAct, Facets, GalleryPage, ImageAct, ImageDetail, ImageId, ImageQuery,
    MARK_EVERY, MAX_PAGE, MAX_SELECTED, Mark, NewShareLink, Outline, ShareLink, SharedImage, Trash,
    shape_letter,
};

use super::search::store::Scope;
use super::search::{self, Filter};
use super::{GalleryService, collections, shares, store, trash};
use crate::db::now_ms;

/// Images in one answer about their shapes.
const MOST_OUTLINED: u32 = 50_000;

#[async_trait]
impl Gallery for GalleryService {
    async fn find_images(
        &self,
        viewer: &Viewer,
        query: &ImageQuery,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<GalleryPage> {
        check_limit(limit)?;
        let before = after.map(number_of).transpose()?;
        let (scope, filter) = self.scope_of(viewer, query).await?;
        let mine = scope.owner == viewer.id.0;
        let mut rows = search::store::page(&self.db, scope, &filter, before, limit + 1).await?;
        let is_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let (total, more) = search::store::count(&self.db, scope, &filter).await?;
        Ok(GalleryPage {
            next: rows
                .last()
                .filter(|_| is_more)
                .map(|row| row.number.to_string()),
            images: rows.into_iter().map(|row| row.into_card(mine)).collect(),
            total,
            more,
            mine,
        })
    }

    async fn facets(&self, viewer: &Viewer, query: &ImageQuery) -> Answer<Facets> {
        let (scope, filter) = self.scope_of(viewer, query).await?;
        let mut facets = search::store::facets(&self.db, scope, &filter).await?;
        if scope.owner != viewer.id.0 {
            facets.favourites = 0;
            facets.ratings.clear();
        }
        Ok(facets)
    }

    async fn outline(
        &self,
        viewer: &Viewer,
        query: &ImageQuery,
        after: Option<&str>,
    ) -> Answer<Outline> {
        let before = after.map(number_of).transpose()?;
        let (scope, filter) = self.scope_of(viewer, query).await?;
        let mut images =
            search::store::outline(&self.db, scope, &filter, before, MOST_OUTLINED + 1).await?;
        let is_more = images.len() > MOST_OUTLINED as usize;
        images.truncate(MOST_OUTLINED as usize);
        let firsts: Vec<i64> = images
            .iter()
            .step_by(MARK_EVERY)
            .map(|image| image.number)
            .collect();
        let months = search::store::months(&self.db, &firsts).await?;
        let marks = firsts
            .iter()
            .enumerate()
            .map(|(page, first)| {
                let at = page * MARK_EVERY;
                Mark {
                    at,
                    after: match at.checked_sub(1) {
                        Some(last) => images[last].number.to_string(),
                        None => after.unwrap_or_default().to_owned(),
                    },
                    month: months.get(first).copied().unwrap_or(0),
                }
            })
            .collect();
        Ok(Outline {
            shapes: images
                .iter()
                .map(|image| shape_letter(image.width, image.height))
                .collect(),
            marks,
            next: images
                .last()
                .filter(|_| is_more)
                .map(|image| image.number.to_string()),
        })
    }

    async fn image_ids(
        &self,
        viewer: &Viewer,
        query: &ImageQuery,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<Vec<ImageId>> {
        // Whoever wants to select begins at a mark, and leaves out what is before the first.
        let most = u32::try_from(MAX_SELECTED + MARK_EVERY).unwrap_or(u32::MAX);
        let before = after.map(number_of).transpose()?;
        let (scope, filter) = self.scope_of(viewer, query).await?;
        Ok(search::store::ids(&self.db, scope, &filter, before, limit.min(most)).await?)
    }

    async fn image(&self, viewer: &Viewer, id: &ImageId) -> Answer<ImageDetail> {
        store::detail(&self.db, viewer, id)
            .await?
            .ok_or(AppError::NotFound)
    }

    async fn delete_image(&self, viewer: &Viewer, id: &ImageId) -> Answer<()> {
        match trash::store::put(&self.db, viewer, std::slice::from_ref(id)).await? {
            0 => Err(AppError::NotFound),
            _ => Ok(()),
        }
    }

    async fn act(&self, viewer: &Viewer, ids: &[ImageId], act: ImageAct) -> Answer<u32> {
        if ids.is_empty() {
            return Err(AppError::invalid("ids", "Select at least one image."));
        }
        if ids.len() > MAX_SELECTED {
            return Err(AppError::invalid(
                "ids",
                format!(
                    "{} images are selected; at most {MAX_SELECTED} can be changed at once.",
                    ids.len()
                ),
            ));
        }
        let changed = match act {
            ImageAct::Trash => trash::store::put(&self.db, viewer, ids).await?,
            ImageAct::Restore => trash::store::restore(&self.db, viewer, ids).await?,
            ImageAct::DeleteForGood => u64::from(self.delete_for_good(viewer, Some(ids)).await?),
            ImageAct::Favourite(favourite) => {
                store::set_favourite(&self.db, viewer, ids, favourite).await?
            }
            ImageAct::Rate(rating) if rating > 5 => {
                return Err(AppError::invalid("rating", "Give 0 to 5 stars."));
            }
            ImageAct::Rate(rating) => store::set_rating(&self.db, viewer, ids, rating).await?,
            ImageAct::Collect(collection) => {
                return self
                    .collect(viewer, ids, &collection)
                    .await
                    .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            }
            ImageAct::Uncollect(collection) => {
                return self
                    .uncollect(viewer, ids, &collection)
                    .await
                    .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            }
        };
        match changed {
            0 => Err(AppError::NotFound),
            changed => Ok(u32::try_from(changed).unwrap_or(u32::MAX)),
        }
    }

    async fn trash(&self, viewer: &Viewer, after: Option<&str>, limit: u32) -> Answer<Trash> {
        check_limit(limit)?;
        self.look_into_trash(viewer, after, limit).await
    }

    async fn empty_trash(&self, viewer: &Viewer) -> Answer<u32> {
        self.delete_for_good(viewer, None).await
    }

    async fn set_trash_days(&self, viewer: &Viewer, days: u32) -> Answer<()> {
        self.keep_trash_for(viewer, days).await
    }

    async fn collections(&self, viewer: &Viewer) -> Answer<Vec<Collection>> {
        Ok(collections::store::list(&self.db, viewer).await?)
    }

    async fn change_collection(
        &self,
        viewer: &Viewer,
        act: CollectionAct,
    ) -> Answer<Option<Collection>> {
        self.act_on_collection(viewer, act).await
    }

    async fn share_links(&self, viewer: &Viewer, id: &ImageId) -> Answer<Vec<ShareLink>> {
        Ok(shares::store::list(&self.db, viewer, id, now_ms()).await?)
    }

    async fn create_share_link(
        &self,
        viewer: &Viewer,
        id: &ImageId,
        days: u32,
        with_settings: bool,
    ) -> Answer<NewShareLink> {
        self.make_link(viewer, id, days, with_settings).await
    }

    async fn revoke_share_link(&self, viewer: &Viewer, id: &str) -> Answer<()> {
        match shares::store::delete(&self.db, viewer, id).await? {
            true => Ok(()),
            false => Err(AppError::NotFound),
        }
    }

    async fn open_share_link(&self, secret: &str) -> Answer<SharedImage> {
        self.open_link(secret).await
    }
}

impl GalleryService {
    /// Whose images a query is about, and what it asks for. Marks and stars are their owner's own
    /// business: nobody else can ask for them.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for what cannot be asked, [`AppError::NotFound`] for a collection that
    /// the viewer cannot see.
    async fn scope_of(&self, viewer: &Viewer, query: &ImageQuery) -> Answer<(Scope, Filter)> {
        let mut filter = Filter::parse(query)?;
        let scope = search::store::scope(&self.db, viewer, &filter)
            .await?
            .ok_or(AppError::NotFound)?;
        if scope.owner != viewer.id.0 {
            filter.favourite = false;
            filter.rating = 0;
        }
        Ok((scope, filter))
    }
}

fn check_limit(limit: u32) -> Result<(), AppError> {
    if limit == 0 || limit > MAX_PAGE {
        return Err(AppError::invalid(
            "limit",
            format!("limit is {limit}; give a number from 1 to {MAX_PAGE}"),
        ));
    }
    Ok(())
}

/// A cursor is the number of the last image of a page.
fn number_of(cursor: &str) -> Result<i64, AppError> {
    let digits = !cursor.is_empty() && cursor.bytes().all(|byte| byte.is_ascii_digit());
    cursor.parse().ok().filter(|_| digits).ok_or_else(|| {
        AppError::invalid(
            "after",
            "after is not a place in the gallery; start from the first page again",
        )
    })
}
