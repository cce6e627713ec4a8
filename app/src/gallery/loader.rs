//! Loads what is looked at on a wall, and a little more: two pages at a time, always those nearest to
//! where one is now. Whoever drags the scroll bar past ten thousand images loads none of them.

use super::hanging::{Hanging, Wanted};
use super::sight;
use super::{GalleryPage, ImageCard, ImageQuery, find_images};
use crate::error::AppError;
use leptos::prelude::*;
use std::collections::BTreeSet;

/// Pages that are on their way at once.
const AT_ONCE: usize = 2;
/// How many images are made visible in one frame.
const A_FRAME: usize = 12;
/// How often in a row everything is asked for anew.
const MOST_MISSES: u32 = 3;

/// The loader of one wall.
#[derive(Clone, Copy)]
pub struct Loader {
    hanging: Hanging,
    query: RwSignal<ImageQuery>,
    problem: RwSignal<Option<AppError>>,
    /// Grows with every new question: what was loaded for an earlier one is let go.
    question: StoredValue<u32>,
    places: StoredValue<(usize, usize)>,
    coming: StoredValue<BTreeSet<usize>>,
    /// How often in a row nothing fitted.
    misses: StoredValue<u32>,
    /// Grows when pages turn out not to be what the wall's outline says: images went or came back.
    pub is_stale: RwSignal<u32>,
}

impl Loader {
    /// A loader of a wall's images, as a query asks for them.
    pub fn new(
        hanging: Hanging,
        query: RwSignal<ImageQuery>,
        problem: RwSignal<Option<AppError>>,
        question: StoredValue<u32>,
    ) -> Self {
        Self {
            hanging,
            query,
            problem,
            question,
            places: StoredValue::new((0, 0)),
            coming: StoredValue::new(BTreeSet::new()),
            misses: StoredValue::new(0),
            is_stale: RwSignal::new(0),
        }
    }

    /// These places are in sight or near it.
    pub fn look_at(self, places: (usize, usize)) {
        self.places.set_value(places);
        self.load();
    }

    /// Whether the first image is in sight or near it.
    pub fn is_at_top(self) -> bool {
        self.places.get_value().0 == 0
    }

    /// Another wall: what is on its way belongs to the one before.
    pub fn forget(self) {
        self.coming.update_value(BTreeSet::clear);
    }

    /// Loads what is missing where one looks.
    pub fn load(self) {
        while self.coming.with_value(BTreeSet::len) < AT_ONCE {
            let (from, to) = self.places.get_value();
            let wanted = self
                .coming
                .with_value(|coming| self.hanging.wanted(from, to, coming));
            let Some(wanted) = wanted else { return };
            self.coming.update_value(|coming| {
                coming.insert(wanted.at);
            });
            self.fetch(wanted);
        }
    }

    /// Hangs a page's images a few at a time: making all of them visible at once would take longer
    /// than a frame may.
    fn hang(self, question: u32, page: usize, at: usize, mut cards: Vec<ImageCard>) {
        let rest = cards.split_off(cards.len().min(A_FRAME));
        let next = at + cards.len();
        self.hanging.fill(at, cards);
        if rest.is_empty() {
            self.coming.update_value(|coming| {
                coming.remove(&page);
            });
            self.load();
            return;
        }
        sight::next_frame(move || {
            // Another question has come, or the page is gone.
            if self.question.try_get_value() == Some(question) {
                self.hang(question, page, next, rest);
            }
        });
    }

    fn fetch(self, wanted: Wanted) {
        let question = self.question.get_value();
        let query = self.query.get_untracked();
        leptos::task::spawn_local(async move {
            let limit = u32::try_from(wanted.count).unwrap_or(u32::MAX);
            let answer = find_images(query, wanted.after, limit).await;
            if self.question.try_get_value() != Some(question) {
                return;
            }
            self.coming.update_value(|coming| {
                coming.remove(&wanted.at);
            });
            // Its end is where the outline says: everything between is what it was. The last page
            // of a part of the outline has no mark behind it.
            let fits = |page: &GalleryPage| {
                page.images.len() == wanted.count
                    && (wanted.next.is_none() || page.next == wanted.next)
            };
            match answer {
                Ok(page) if fits(&page) => {
                    self.misses.set_value(0);
                    self.problem.set(None);
                    self.coming.update_value(|coming| {
                        coming.insert(wanted.at);
                    });
                    self.hang(question, wanted.at, wanted.at, page.images);
                }
                // A gallery that changes faster than one can look is asked again at the next scroll.
                Ok(_) if self.misses.get_value() < MOST_MISSES => {
                    self.misses.update_value(|misses| *misses += 1);
                    self.is_stale.update(|times| *times += 1);
                }
                Ok(_) => self.misses.set_value(0),
                // The next scroll tries again.
                Err(error) => self.problem.set(Some(error)),
            }
        });
    }
}
