//! Images in justified rows, each with its box to tick. As the server sends them they are flexible
//! boxes; once the browser has taken the page over, only those in sight and near it are on the page,
//! each at its place: a wall of a hundred thousand images is as light as one of a hundred.

use super::hanging::Hanging;
use super::press::LongPress;
use super::rows::{self, Measures, Row, Spot};
use super::selection::Selection;
use super::sight::{self, Part};
use crate::components::{Picture, ratio_class};
use crate::hydrated::{after, use_hydrated};
use crate::keys::{self, Act, Place};
use leptos::ev::{KeyboardEvent, MouseEvent};
use leptos::prelude::*;

/// Most images that are on the page before their places are known.
const MOST_FLOWING: usize = 200;
/// So many images need no word about when they were made while one scrolls.
const FEW: usize = 300;
/// How long that word stays when the scrolling stops.
const SAID_FOR: std::time::Duration = std::time::Duration::from_millis(1200);
/// Longest text that an image is described with: whoever wants all of it opens the image.
const LONGEST_WORDS: usize = 300;

/// A wall of images.
#[component]
pub fn Wall(
    /// The images.
    hanging: Hanging,
    /// What is chosen.
    selection: Selection,
    /// What a click on an image does while nothing is chosen: open its page, or choose it.
    #[prop(default = true)]
    opens: bool,
    /// Told which places are in sight or near it: from the first one to before the last one.
    #[prop(optional, into)]
    look_at: Option<Callback<(usize, usize)>>,
    /// Chooses the images from one place to another where not all of them are loaded.
    #[prop(optional, into)]
    choose_far: Option<Callback<(usize, usize)>>,
    /// Told before an image is opened: its place, and how far the window is scrolled.
    #[prop(optional, into)]
    leave: Option<Callback<(usize, f64)>>,
) -> impl IntoView {
    let wall = NodeRef::<leptos::html::Ul>::new();
    let measures = RwSignal::new(None::<Measures>);
    let rows = Memo::new(move |_| {
        let measures = measures.get()?;
        Some(hanging.with_ratios(|ratio, count| rows::rows((0..count).map(ratio), measures)))
    });
    // The places in sight or near it; not known before the first look.
    let near = RwSignal::new(None::<(usize, usize)>);
    let focus = RwSignal::new(None::<usize>);
    let said = Said::new();
    let look = move || {
        let Some((from, to)) = sight::near(wall) else {
            return;
        };
        let seen = rows.with_untracked(|rows| {
            let rows = rows.as_ref()?;
            let (first, last) = rows::between(rows, from, to);
            let end = rows
                .get(..last)?
                .last()
                .map_or(0, |row| row.first + row.count);
            Some((rows.get(first).map_or(end, |row| row.first), end))
        });
        if seen.is_some() && seen != near.get_untracked() {
            near.set(seen);
        }
    };
    sight::follow(wall, measures, look, move || {
        if let (Some((from, to)), true) = (near.get_untracked(), hanging.len_untracked() > FEW) {
            said.say(hanging.month((from + to) / 2));
        }
    });
    Effect::new(move |_| {
        // Other rows, other places in sight.
        rows.track();
        look();
    });
    Effect::new(move |_| {
        if let (Some(places), Some(look_at)) = (near.get(), look_at) {
            look_at.run(places);
        }
    });
    // What has the focus stays on the page however far one scrolls.
    let shown = Memo::new(move |_| {
        let all = hanging.len();
        match near.get() {
            None => (0..all.min(MOST_FLOWING)).collect::<Vec<_>>(),
            Some((from, to)) => {
                let mut shown: Vec<usize> = (from.min(all)..to.min(all)).collect();
                if let Some(at) = focus.get().filter(|at| *at < all && !shown.contains(at)) {
                    let before = shown.partition_point(|shown| *shown < at);
                    shown.insert(before, at);
                }
                shown
            }
        }
    });
    let is_placed = move || near.with(Option::is_some);
    let height = move || {
        let height = rows.with(|rows| rows.as_ref().map(|rows| rows::height(rows)))?;
        is_placed().then(|| format!("{height:.1}px"))
    };

    let choose = move |at: usize, range: bool| {
        let anchor = selection.anchor().filter(|_| range);
        match (anchor, hanging.ids(at, at)) {
            (Some(anchor), _) => {
                let (from, to) = (anchor.min(at), anchor.max(at));
                match (hanging.ids(from, to), choose_far) {
                    (Some(ids), _) => selection.add(ids),
                    (None, Some(choose_far)) => choose_far.run((from, to)),
                    (None, None) => {}
                }
                selection.set_anchor(at);
            }
            (None, Some(ids)) => {
                for id in ids {
                    selection.toggle(id, at);
                }
            }
            // What is not loaded yet cannot be chosen yet.
            (None, None) => {}
        }
    };
    let press = LongPress::new(move |at| choose(at, false));
    let click = move |event: MouseEvent| {
        let Some((at, part)) = sight::hit(&event) else {
            return;
        };
        match part {
            // The box follows the selection, not the other way round.
            Part::Tick => choose(at, event.shift_key()),
            Part::Link => {
                let choosing = untrack(|| selection.is_active());
                let asked = event.shift_key() || event.ctrl_key() || event.meta_key();
                if press.ends_here() {
                    event.prevent_default();
                } else if asked || choosing || !opens {
                    event.prevent_default();
                    choose(at, event.shift_key());
                } else if let Some(leave) = leave {
                    leave.run((at, sight::scrolled()));
                }
            }
            Part::Other => {}
        }
    };
    let go = move |event: &KeyboardEvent, to: Option<usize>| {
        if let Some(to) = to {
            event.prevent_default();
            focus.set(Some(to));
            sight::focus(wall, to);
        }
    };
    let beyond = move |at: usize, by: isize| {
        rows.with_untracked(|rows| {
            let (rows, measures) = (rows.as_ref()?, measures.get_untracked()?);
            untrack(|| hanging.with_ratios(|ratio, _| rows::beyond(rows, ratio, measures, at, by)))
        })
    };
    // On the wall: arrows go from image to image, x chooses the one in focus, Ctrl+A all of them.
    let keys = move |event: KeyboardEvent| {
        let Some((at, _)) = sight::hit(&event) else {
            return;
        };
        let last = hanging.len_untracked().saturating_sub(1);
        match keys::meant(Place::Wall, &event) {
            Some(Act::ChooseAll) => {
                event.prevent_default();
                match (hanging.ids(0, last), choose_far) {
                    (Some(ids), _) => selection.add(ids),
                    (None, Some(choose_far)) => choose_far.run((0, last)),
                    (None, None) => {}
                }
            }
            Some(Act::Choose) => {
                event.prevent_default();
                choose(at, event.shift_key());
            }
            Some(Act::Next) => go(&event, Some(at + 1).filter(|to| *to <= last)),
            Some(Act::Previous) => go(&event, at.checked_sub(1)),
            Some(Act::Below) => go(&event, beyond(at, 1)),
            Some(Act::Above) => go(&event, beyond(at, -1)),
            Some(Act::WindowDown) => go(&event, beyond(at, sight::rows_in_window(measures))),
            Some(Act::WindowUp) => go(&event, beyond(at, -sight::rows_in_window(measures))),
            Some(Act::First) => go(&event, Some(0)),
            Some(Act::Last) => go(&event, Some(last)),
            _ => {}
        }
    };
    view! {
        <ul
            class="wall"
            class:wall-placed=is_placed
            class:wall-choosing=move || selection.is_active()
            style:height=height
            node_ref=wall
            on:click=click
            on:keydown=keys
            on:focusin=move |event| focus.set(sight::hit(&event).map(|(at, _)| at))
            on:focusout=move |event| {
                if !sight::goes_inside(wall, &event) {
                    // Nobody is left to be told where the wall is taken down.
                    let _ = focus.try_set(None);
                }
            }
            on:pointerdown=move |event| {
                let link = sight::hit(&event).filter(|(_, part)| *part == Part::Link);
                press.begin(&event, link.map(|(at, _)| at));
            }
            on:pointermove=move |event| press.moved(&event)
            on:pointerup=move |_| press.end()
            on:pointercancel=move |_| press.end()
            on:contextmenu=move |event| {
                if press.is_held() {
                    event.prevent_default();
                }
            }
        >
            <For each=move || shown.get() key=|at| *at let:at>
                <Tile at=at hanging=hanging selection=selection opens=opens rows=rows measures=measures is_placed=Signal::derive(is_placed)/>
            </For>
            // Takes up what the last row leaves free, so that its images keep their size.
            <li class="wall-rest" aria-hidden="true"></li>
        </ul>
        <p class="wall-when" class:wall-when-said=move || said.is_said.get() aria-hidden="true">{move || said.words.get()}</p>
    }
}

/// The word beside the scroll bar about when the images in sight were made.
#[derive(Clone, Copy)]
struct Said {
    words: RwSignal<String>,
    is_said: RwSignal<bool>,
    times: StoredValue<u32>,
}

impl Said {
    fn new() -> Self {
        Self {
            words: RwSignal::new(String::new()),
            is_said: RwSignal::new(false),
            times: StoredValue::new(0),
        }
    }

    fn say(self, month: Option<u32>) {
        let Some(month) = month else { return };
        let words = month_words(month);
        if self.words.with_untracked(|now| *now != words) {
            self.words.set(words);
        }
        if !self.is_said.get_untracked() {
            self.is_said.set(true);
        }
        self.times
            .update_value(|times| *times = times.wrapping_add(1));
        let times = self.times.get_value();
        after(SAID_FOR, move || {
            // The page may be gone, or the scrolling not be over.
            if self.times.try_get_value() == Some(times) {
                self.is_said.set(false);
            }
        });
    }
}

/// `November 2026` for 202611.
fn month_words(month: u32) -> String {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let name = NAMES.get((month % 100).saturating_sub(1) as usize);
    format!("{} {}", name.copied().unwrap_or_default(), month / 100)
}

/// One place on the wall. It stays when its image comes, or makes way for the next one: so does the
/// focus.
#[component]
fn Tile(
    at: usize,
    hanging: Hanging,
    selection: Selection,
    opens: bool,
    rows: Memo<Option<Vec<Row>>>,
    measures: RwSignal<Option<Measures>>,
    is_placed: Signal<bool>,
) -> impl IntoView {
    let hydrated = use_hydrated();
    let card = Memo::new(move |_| hanging.card(at));
    // The picture is made anew for another image, not for another mark on the same one.
    let id = Memo::new(move |_| card.with(|card| card.as_ref().map(|card| card.id.clone())));
    let chosen = Memo::new(move |_| id.with(|id| id.as_ref().is_some_and(|id| selection.has(id))));
    let spot = Memo::new(move |_| {
        let measures = measures.get().filter(|_| is_placed.get())?;
        rows.with(|rows| {
            let rows = rows.as_ref()?;
            hanging.with_ratios(|ratio, _| rows::spot(rows, ratio, measures, at))
        })
    });
    // Set by script: the content security policy allows no `style` in the page itself.
    let pixels = move |side: fn(&Spot) -> f64| {
        move || spot.with(|spot| spot.as_ref().map(|spot| format!("{:.2}px", side(spot))))
    };
    let class = move || {
        let shape = card.with(|card| {
            card.as_ref()
                .map(|card| ratio_class(card.width, card.height))
        });
        let chosen = if chosen.get() { " tile-chosen" } else { "" };
        format!("tile {}{chosen}", shape.unwrap_or_default())
    };
    let href = move || {
        id.with(|id| {
            id.as_ref().map(|id| match opens {
                true => format!("/gallery/{}", id.0),
                false => id.thumbnail_url(),
            })
        })
    };
    let picture = move || {
        id.track();
        let card = card.get_untracked()?;
        let words = short(&card.prompt);
        Some(view! {
            <Picture
                src=card.id.thumbnail_url()
                alt=words.clone()
                width=card.width
                height=card.height
                colour=card.dominant_colour.clone()
                lazy=true
            />
            <span class="tile-words" aria-hidden="true">{words}</span>
        })
    };
    let tick = move || {
        id.track();
        let card = card.get_untracked()?;
        let label = match card.prompt.chars().count() {
            0 => "Select the image".to_owned(),
            1..=80 => format!("Select: {}", card.prompt),
            _ => format!(
                "Select: {} …",
                card.prompt.chars().take(80).collect::<String>()
            ),
        };
        Some(view! {
            <label class="tile-tick">
                <input
                    type="checkbox"
                    form="bulk"
                    name=move || (!hydrated.get()).then_some("ids[]")
                    value=card.id.0.clone()
                    aria-label=label
                    prop:checked=move || chosen.get()
                />
            </label>
        })
    };
    let opinion = Memo::new(move |_| {
        card.with(|card| {
            card.as_ref()
                .map_or((false, 0), |card| (card.favourite, card.rating))
        })
    });
    view! {
        <li
            class=class
            data-at=at.to_string()
            aria-posinset=move || is_placed.get().then(|| (at + 1).to_string())
            aria-setsize=move || is_placed.get().then(|| hanging.len().to_string())
            style:left=pixels(|spot| spot.left)
            style:top=pixels(|spot| spot.top)
            style:width=pixels(|spot| spot.width)
            style:height=pixels(|spot| spot.height)
        >
            <a
                class="tile-link"
                href=href
                rel=(!opens).then_some("external")
                tabindex=move || id.with(Option::is_none).then_some("-1")
            >
                {picture}
            </a>
            {tick}
            {move || {
                let (favourite, rating) = opinion.get();
                marks(favourite, rating)
            }}
        </li>
    }
}

/// The beginning of a prompt.
fn short(prompt: &str) -> String {
    match prompt.char_indices().nth(LONGEST_WORDS) {
        Some((end, _)) => format!("{} …", &prompt[..end]),
        None => prompt.to_owned(),
    }
}

/// What its owner thinks of an image.
fn marks(favourite: bool, rating: u8) -> impl IntoView {
    (favourite || rating > 0).then(|| {
        let mut said = Vec::new();
        if favourite {
            said.push("favourite".to_owned());
        }
        if rating > 0 {
            said.push(format!("{rating} of 5 stars"));
        }
        view! {
            <span class="tile-marks">
                <span aria-hidden="true">
                    {favourite.then_some("♥ ")}
                    {"★".repeat(usize::from(rating.min(5)))}
                </span>
                <span class="hidden">{said.join(", ")}</span>
            </span>
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{month_words, short};

    #[test]
    fn words_are_short_and_months_have_names() {
        assert_eq!(short("ä"), "ä");
        assert_eq!(short(&"ä".repeat(301)), format!("{} …", "ä".repeat(300)));
        assert_eq!(month_words(202_611), "November 2026");
        assert_eq!(month_words(202_601), "January 2026");
    }
}
