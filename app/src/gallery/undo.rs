//! What was just thrown away, and the way back.

use super::{CollectionId, ImageId, restore_collection, restore_images};
use crate::error::AppError;
use crate::hydrated::after;
use leptos::prelude::*;

/// How long the way back is offered; the trash keeps it open for longer.
const OFFERED_FOR: std::time::Duration = std::time::Duration::from_secs(15);

/// What can be had back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gone {
    Images(Vec<ImageId>),
    Collection(CollectionId, String),
}

impl Gone {
    fn words(&self) -> String {
        match self {
            Self::Images(ids) if ids.len() == 1 => "The image is in the trash.".to_owned(),
            Self::Images(ids) => format!("{} images are in the trash.", ids.len()),
            Self::Collection(_, name) => {
                format!("The collection \u{201c}{name}\u{201d} is deleted, its images are not.")
            }
        }
    }

    async fn bring_back(self) -> Result<(), AppError> {
        match self {
            Self::Images(ids) => {
                restore_images(ids.into_iter().map(|id| id.0).collect()).await?;
            }
            Self::Collection(id, _) => {
                restore_collection(id.0).await?;
            }
        }
        Ok(())
    }
}

/// What was thrown away last, known to every page.
#[derive(Clone, Copy)]
pub struct Undo {
    gone: RwSignal<Option<Gone>>,
    /// Grows with everything that came back: whoever lists it looks again.
    pub returned: RwSignal<u32>,
}

impl Undo {
    /// Offers to bring these images back.
    pub fn offer(&self, ids: Vec<ImageId>) {
        self.show(Gone::Images(ids));
    }

    /// Offers to bring a collection back.
    pub fn offer_collection(&self, id: CollectionId, name: String) {
        self.show(Gone::Collection(id, name));
    }

    fn show(&self, what: Gone) {
        let gone = self.gone;
        gone.set(Some(what.clone()));
        after(OFFERED_FOR, move || {
            if gone.with_untracked(|now| now.as_ref() == Some(&what)) {
                gone.set(None);
            }
        });
    }

    fn new() -> Self {
        Self {
            gone: RwSignal::new(None),
            returned: RwSignal::new(0),
        }
    }
}

/// Makes the way back available to every page.
pub fn provide_undo() {
    provide_context(Undo::new());
}

/// The way back.
pub fn use_undo() -> Undo {
    use_context::<Undo>().unwrap_or_else(Undo::new)
}

/// Says what was thrown away, with a button that brings it back.
#[component]
pub fn UndoToast() -> impl IntoView {
    let undo = use_undo();
    let problem = RwSignal::new(None::<AppError>);
    let restore = Action::new(move |gone: &Gone| {
        let gone = gone.clone();
        async move {
            match gone.bring_back().await {
                Ok(()) => {
                    problem.set(None);
                    undo.gone.set(None);
                    undo.returned.update(|count| *count += 1);
                }
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    move || {
        undo.gone.get().map(|gone| {
            view! {
                <div class="toast">
                    <span>
                        {gone.words()}
                        {move || problem.get().map(|error| format!(" {error}"))}
                    </span>
                    <button
                        class="button button-small"
                        type="button"
                        disabled=move || restore.pending().get()
                        on:click=move |_| {
                            restore.dispatch(gone.clone());
                        }
                    >
                        "Undo"
                    </button>
                </div>
            }
        })
    }
}
