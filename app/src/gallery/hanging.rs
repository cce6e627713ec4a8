//! What hangs on a wall: the shape of every image, and those images that are loaded. A hundred
//! thousand images are a hundred kilobytes of shapes; of the images themselves only those near what
//! is looked at are kept.

use super::outline::{MARK_EVERY, Mark, Outline, ratio_of_letter, shape_letter};
use super::{ImageCard, ImageId};
use leptos::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Most images that are kept beside those that are looked at.
const MOST_KEPT: usize = 6000;

/// The images of a wall, in order. A place is an image's position in that order, from 0.
#[derive(Clone, Copy)]
pub struct Hanging {
    /// A letter for the shape of each.
    shapes: RwSignal<Vec<u8>>,
    /// Each, once it is loaded.
    slots: RwSignal<Vec<Option<Arc<ImageCard>>>>,
    /// Where pages begin.
    marks: StoredValue<Vec<Mark>>,
}

/// A part of the wall that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The place of its first image.
    pub at: usize,
    /// How many there are.
    pub count: usize,
    /// The cursor that it comes after; empty at the beginning.
    pub after: String,
    /// The cursor that is expected at its end, where more comes.
    pub next: Option<String>,
}

impl Hanging {
    /// A wall of images that are all there.
    pub fn new(cards: Vec<ImageCard>) -> Self {
        let hanging = Self {
            shapes: RwSignal::new(Vec::new()),
            slots: RwSignal::new(Vec::new()),
            marks: StoredValue::new(Vec::new()),
        };
        hanging.replace(cards, None);
        hanging
    }

    /// Hangs other images: the first ones, and the outline of all where there are more.
    pub fn replace(&self, cards: Vec<ImageCard>, outline: Option<Outline>) {
        let shapes: Vec<u8> = cards.iter().map(letter).collect();
        let mut slots: Vec<_> = cards.into_iter().map(|card| Some(Arc::new(card))).collect();
        match outline {
            Some(outline) => {
                let shapes = outline.shapes.into_bytes();
                slots.resize(shapes.len(), None);
                self.marks.set_value(outline.marks);
                self.slots.set(slots);
                self.shapes.set(shapes);
            }
            None => {
                self.marks.set_value(Vec::new());
                self.slots.set(slots);
                self.shapes.set(shapes);
            }
        }
    }

    /// Hangs the outline of all images around those that hang already, the first ones.
    pub fn outline(&self, outline: Outline) {
        self.marks.set_value(outline.marks);
        self.slots
            .update(|slots| slots.resize(outline.shapes.len(), None));
        self.shapes.set(outline.shapes.into_bytes());
    }

    /// Hangs the rest behind what hangs: the next part of the outline.
    pub fn extend(&self, outline: Outline) {
        let before = self.len_untracked();
        self.marks.update_value(|marks| {
            marks.extend(outline.marks.into_iter().map(|mark| Mark {
                at: mark.at + before,
                ..mark
            }));
        });
        self.slots
            .update(|slots| slots.resize(before + outline.shapes.len(), None));
        self.shapes
            .update(|shapes| shapes.extend(outline.shapes.into_bytes()));
    }

    /// How many images hang, loaded or not.
    pub fn len(&self) -> usize {
        self.shapes.with(Vec::len)
    }

    /// As [`Hanging::len`], without being told when it changes.
    pub fn len_untracked(&self) -> usize {
        self.shapes.with_untracked(Vec::len)
    }

    /// The image at a place, if it is loaded.
    pub fn card(&self, at: usize) -> Option<Arc<ImageCard>> {
        self.slots.with(|slots| slots.get(at).cloned().flatten())
    }

    /// The shapes of all, width by height.
    pub fn with_ratios<T>(&self, look: impl FnOnce(&dyn Fn(usize) -> f64, usize) -> T) -> T {
        self.shapes.with(|shapes| {
            let ratio = |at: usize| {
                shapes
                    .get(at)
                    .map_or(1.0, |letter| ratio_of_letter(*letter))
            };
            look(&ratio, shapes.len())
        })
    }

    /// The ids of the images from one place to another; `None` where not all are loaded.
    pub fn ids(&self, from: usize, to: usize) -> Option<Vec<ImageId>> {
        self.slots.with_untracked(|slots| {
            let slots = slots.get(from..=to)?;
            slots
                .iter()
                .map(|slot| slot.as_ref().map(|card| card.id.clone()))
                .collect()
        })
    }

    /// When the image at a place was made, e.g. 202611, to a page.
    pub fn month(&self, at: usize) -> Option<u32> {
        self.marks.with_value(|marks| {
            let page = marks.partition_point(|mark| mark.at <= at).checked_sub(1)?;
            Some(marks[page].month).filter(|month| *month > 0)
        })
    }

    /// The page nearest the middle of `from..to` that is not loaded and not among `coming`, or one
    /// of its neighbours: what one scrolls to next is there before one arrives.
    pub fn wanted(&self, from: usize, to: usize, coming: &BTreeSet<usize>) -> Option<Wanted> {
        let all = self.len_untracked();
        let (from, to) = (from.saturating_sub(MARK_EVERY), (to + MARK_EVERY).min(all));
        let middle = (from + to) / 2;
        self.marks.with_value(|marks| {
            self.slots.with_untracked(|slots| {
                let first = marks.partition_point(|mark| mark.at <= from).max(1) - 1;
                let near = marks.iter().enumerate().skip(first);
                near.take_while(|(_, mark)| mark.at < to)
                    .filter_map(|(page, mark)| {
                        let end = marks.get(page + 1).map_or(all, |next| next.at);
                        let missing = slots.get(mark.at..end)?.iter().any(Option::is_none);
                        (missing && !coming.contains(&mark.at)).then(|| Wanted {
                            at: mark.at,
                            count: end - mark.at,
                            after: mark.after.clone(),
                            next: marks.get(page + 1).map(|next| next.after.clone()),
                        })
                    })
                    .min_by_key(|page| (page.at + page.count / 2).abs_diff(middle))
            })
        })
    }

    /// The cursor before the page that a place is on, and that page's first place.
    pub fn cursor_before(&self, at: usize) -> (usize, String) {
        self.marks.with_value(|marks| {
            let page = marks.partition_point(|mark| mark.at <= at).checked_sub(1);
            page.map_or_else(
                || (0, String::new()),
                |page| (marks[page].at, marks[page].after.clone()),
            )
        })
    }

    /// Hangs images that were loaded, from a place on. Of those far from there some are let go.
    pub fn fill(&self, at: usize, cards: Vec<ImageCard>) {
        self.slots.update(|slots| {
            for (slot, card) in slots.iter_mut().skip(at).zip(cards) {
                *slot = Some(Arc::new(card));
            }
            if slots.len() > MOST_KEPT {
                let (near, far) = (
                    at.saturating_sub(MOST_KEPT / 2),
                    (at + MOST_KEPT / 2).min(slots.len()),
                );
                slots[..near].fill(None);
                slots[far..].fill(None);
            }
        });
    }

    /// Takes images off the wall. `false`, and nothing is done, where one of them is not loaded.
    pub fn remove(&self, ids: &[ImageId]) -> bool {
        let gone: HashSet<&ImageId> = ids.iter().collect();
        let places: Vec<usize> = self.slots.with_untracked(|slots| {
            let is_gone = |slot: &Option<Arc<ImageCard>>| {
                slot.as_ref().is_some_and(|card| gone.contains(&card.id))
            };
            (0..slots.len()).filter(|at| is_gone(&slots[*at])).collect()
        });
        if places.len() != gone.len() {
            return false;
        }
        self.marks.update_value(|marks| {
            for mark in marks.iter_mut() {
                mark.at -= places.partition_point(|place| *place < mark.at);
            }
            // A page of which nothing is left is none.
            marks.dedup_by(|later, earlier| {
                let is_empty = later.at == earlier.at;
                if is_empty {
                    earlier.after.clone_from(&later.after);
                    earlier.month = later.month;
                }
                is_empty
            });
        });
        let stays = |at: usize| places.binary_search(&at).is_err();
        self.slots.update(|slots| {
            let mut at = 0..;
            slots.retain(|_| at.next().is_some_and(stays));
        });
        self.shapes.update(|shapes| {
            let mut at = 0..;
            shapes.retain(|_| at.next().is_some_and(stays));
        });
        true
    }

    /// Changes images that are loaded.
    pub fn change(&self, ids: &[ImageId], change: impl Fn(&mut ImageCard)) {
        let changed: HashSet<&ImageId> = ids.iter().collect();
        self.slots.update(|slots| {
            for card in slots.iter_mut().flatten() {
                if changed.contains(&card.id) {
                    change(Arc::make_mut(card));
                }
            }
        });
    }
}

fn letter(card: &ImageCard) -> u8 {
    // Letters are ASCII.
    shape_letter(card.width, card.height) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(number: usize) -> ImageCard {
        ImageCard {
            id: ImageId(format!("i{number}")),
            width: 64,
            height: 64,
            dominant_colour: "#000000".into(),
            prompt: String::new(),
            created_at: 0,
            favourite: false,
            rating: 0,
        }
    }

    fn cards(range: std::ops::Range<usize>) -> Vec<ImageCard> {
        range.map(card).collect()
    }

    /// 1000 images with marks as the server sets them; the first 40 are there.
    fn thousand() -> Hanging {
        let hanging = Hanging::new(cards(0..40));
        let marks = (0..10).map(|page| Mark {
            at: page * 100,
            after: match page {
                0 => String::new(),
                page => format!("c{page}"),
            },
            month: 202_611 - page as u32 / 5,
        });
        let outline = Outline {
            shapes: "i".repeat(1000),
            marks: marks.collect(),
            next: None,
        };
        hanging.replace(cards(0..40), Some(outline));
        hanging
    }

    #[test]
    fn what_is_looked_at_is_loaded_first_then_its_neighbours_and_nothing_else() {
        let _owner = Owner::new();
        _owner.set();
        let hanging = thousand();
        assert_eq!(hanging.len_untracked(), 1000);
        let mut coming = BTreeSet::new();
        let mut order = Vec::new();
        while let Some(page) = hanging.wanted(510, 540, &coming) {
            coming.insert(page.at);
            assert_eq!(page.count, 100);
            order.push((page.at, page.after, page.next));
        }
        let page = |at: usize| {
            let (now, next) = (format!("c{}", at / 100), format!("c{}", at / 100 + 1));
            (at, now, Some(next))
        };
        assert_eq!(order[0], page(500));
        order.sort();
        assert_eq!(order, [page(400), page(500), page(600)]);
        hanging.fill(500, cards(500..600));
        assert!(hanging.card(599).is_some() && hanging.card(600).is_none());
        assert_eq!(hanging.ids(500, 502).map(|ids| ids.len()), Some(3));
        assert_eq!(hanging.ids(598, 600), None, "not all of them are here");
        assert_eq!(hanging.ids(998, 1000), None, "there are no more");
        assert_eq!(
            (hanging.month(499), hanging.month(500)),
            (Some(202_611), Some(202_610))
        );
        assert_eq!(hanging.cursor_before(555), (500, "c5".into()));
    }

    #[test]
    fn what_is_taken_off_leaves_no_gap_and_pages_stay_true() {
        let _owner = Owner::new();
        _owner.set();
        let hanging = thousand();
        hanging.fill(100, cards(100..200));
        let ids = |numbers: &[usize]| {
            let ids = numbers.iter().map(|number| card(*number).id);
            ids.collect::<Vec<_>>()
        };
        assert!(!hanging.remove(&ids(&[5, 700])), "700 is not loaded");
        assert!(hanging.remove(&ids(&[5, 120])));
        assert_eq!(hanging.len_untracked(), 998);
        assert_eq!(
            hanging.card(5).map(|card| card.id.clone()),
            Some(card(6).id)
        );
        assert_eq!(hanging.cursor_before(198), (198, "c2".into()));
        assert_eq!(hanging.cursor_before(197), (99, "c1".into()));
        // A whole page.
        let page: Vec<usize> = (100..200).filter(|number| *number != 120).collect();
        assert!(hanging.remove(&ids(&page)));
        assert_eq!(hanging.cursor_before(99), (99, "c2".into()));
        assert_eq!(hanging.len_untracked(), 899);
    }

    #[test]
    fn far_images_are_let_go() {
        let _owner = Owner::new();
        _owner.set();
        let hanging = Hanging::new(Vec::new());
        hanging.extend(Outline {
            shapes: "i".repeat(20_000),
            marks: Vec::new(),
            next: None,
        });
        hanging.fill(0, cards(0..100));
        hanging.fill(15_000, cards(0..100));
        assert!(hanging.card(0).is_none() && hanging.card(15_000).is_some());
    }
}
