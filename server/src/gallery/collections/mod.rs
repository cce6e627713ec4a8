//! Collections: images under a name, for oneself or for everybody who can sign in to look at.

pub(super) mod store; // rows

use atelier_app::account::{Role, Viewer};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::gallery::{Collection, CollectionAct, CollectionId, ImageId};

use super::GalleryService;

/// Longest name, in characters.
const LONGEST_NAME: usize = 100;
/// Most collections of one user.
const MOST: u32 = 1000;
/// How many deleted ones of a user can be had back: the latest ones.
const KEPT_DELETED: u32 = 50;

impl GalleryService {
    pub(super) async fn act_on_collection(
        &self,
        viewer: &Viewer,
        act: CollectionAct,
    ) -> Answer<Option<Collection>> {
        let id = match act {
            CollectionAct::Create { name, shared } => {
                let name = name_of(&name)?;
                if shared {
                    may_share(viewer)?;
                }
                self.check_room(viewer).await?;
                let id = CollectionId(uuid::Uuid::now_v7().to_string());
                store::insert(&self.db, viewer, &id, &name, shared)
                    .await?
                    .ok_or_else(|| name_taken(&name))?
            }
            CollectionAct::Change { id, name, shared } => {
                let name = name_of(&name)?;
                if shared && !store::is_shared(&self.db, viewer, &id).await? {
                    may_share(viewer)?;
                }
                match store::update(&self.db, viewer, &id, &name, shared).await? {
                    Some(true) => id,
                    Some(false) => return Err(AppError::NotFound),
                    None => return Err(name_taken(&name)),
                }
            }
            CollectionAct::Delete { id } => {
                return if store::delete(&self.db, viewer, &id, KEPT_DELETED).await? {
                    Ok(None)
                } else {
                    Err(AppError::NotFound)
                };
            }
            CollectionAct::Restore { id } => {
                self.check_room(viewer).await?;
                if !store::restore(&self.db, viewer, &id).await? {
                    return Err(AppError::NotFound);
                }
                id
            }
        };
        let all = store::list(&self.db, viewer).await?;
        Ok(all.into_iter().find(|collection| collection.id == id))
    }

    async fn check_room(&self, viewer: &Viewer) -> Answer<()> {
        if store::count(&self.db, viewer).await? < MOST {
            return Ok(());
        }
        Err(AppError::TooMany {
            message: format!(
                "You have {MOST} collections, which is the limit. Delete one that you no longer need."
            ),
            retry_after_s: 3600,
        })
    }

    /// Puts the viewer's images into a collection of the viewer's.
    pub(super) async fn collect(
        &self,
        viewer: &Viewer,
        ids: &[ImageId],
        collection: &CollectionId,
    ) -> Answer<u64> {
        if !store::is_own(&self.db, viewer, collection).await? {
            return Err(AppError::NotFound);
        }
        Ok(store::add(&self.db, viewer, ids, collection).await?)
    }

    /// Takes images out of a collection of the viewer's.
    pub(super) async fn uncollect(
        &self,
        viewer: &Viewer,
        ids: &[ImageId],
        collection: &CollectionId,
    ) -> Answer<u64> {
        if !store::is_own(&self.db, viewer, collection).await? {
            return Err(AppError::NotFound);
        }
        Ok(store::remove(&self.db, viewer, ids, collection).await?)
    }
}

/// Whoever may only look shows nothing to others either.
fn may_share(viewer: &Viewer) -> Result<(), AppError> {
    match viewer.role {
        Role::Viewer => Err(AppError::refused(
            "Your role is viewer: you can have collections for yourself, but not share them. An administrator of this server can make you a member.",
        )),
        _ => Ok(()),
    }
}

fn name_of(name: &str) -> Result<String, AppError> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        return Err(AppError::invalid("name", "Give the collection a name."));
    }
    if name.chars().any(char::is_control) {
        return Err(AppError::invalid(
            "name",
            "A name has letters, digits and signs, nothing that cannot be seen.",
        ));
    }
    if name.chars().count() > LONGEST_NAME {
        return Err(AppError::invalid(
            "name",
            format!("A name has at most {LONGEST_NAME} characters."),
        ));
    }
    Ok(name)
}

fn name_taken(name: &str) -> AppError {
    AppError::invalid(
        "name",
        format!("You have a collection called \u{201c}{name}\u{201d} already."),
    )
}
