//! What was just moved to the trash, and the way back.

use super::{ImageId, restore_images};
use crate::error::AppError;
use crate::hydrated::after;
use leptos::prelude::*;

/// How long the way back is offered; the trash keeps it open for longer.
const OFFERED_FOR: std::time::Duration = std::time::Duration::from_secs(15);

/// What was moved to the trash last, known to every page.
#[derive(Clone, Copy)]
pub struct Undo {
    gone: RwSignal<Option<Vec<ImageId>>>,
    /// Grows with every image that came back: whoever lists images looks again.
    pub returned: RwSignal<u32>,
}

impl Undo {
    /// Offers to bring these back.
    pub fn offer(&self, ids: Vec<ImageId>) {
        let gone = self.gone;
        gone.set(Some(ids.clone()));
        after(OFFERED_FOR, move || {
            if gone.with_untracked(|now| now.as_ref() == Some(&ids)) {
                gone.set(None);
            }
        });
    }
}

/// Makes the way back available to every page.
pub fn provide_undo() {
    provide_context(Undo {
        gone: RwSignal::new(None),
        returned: RwSignal::new(0),
    });
}

/// The way back.
pub fn use_undo() -> Undo {
    use_context::<Undo>().unwrap_or_else(|| Undo {
        gone: RwSignal::new(None),
        returned: RwSignal::new(0),
    })
}

/// Says what was moved to the trash, with a button that brings it back.
#[component]
pub fn UndoToast() -> impl IntoView {
    let undo = use_undo();
    let problem = RwSignal::new(None::<AppError>);
    let restore = Action::new(move |ids: &Vec<ImageId>| {
        let ids: Vec<String> = ids.iter().map(|id| id.0.clone()).collect();
        async move {
            match restore_images(ids).await {
                Ok(_) => {
                    problem.set(None);
                    undo.gone.set(None);
                    undo.returned.update(|count| *count += 1);
                }
                Err(error) => problem.set(Some(error)),
            }
        }
    });
    move || {
        undo.gone.get().map(|ids| {
            let words = match ids.len() {
                1 => "The image is in the trash.".to_owned(),
                count => format!("{count} images are in the trash."),
            };
            view! {
                <div class="toast">
                    <span>
                        {words}
                        {move || problem.get().map(|error| format!(" {error}"))}
                    </span>
                    <button
                        class="button button-small"
                        type="button"
                        disabled=move || restore.pending().get()
                        on:click=move |_| {
                            restore.dispatch(ids.clone());
                        }
                    >
                        "Undo"
                    </button>
                </div>
            }
        })
    }
}
