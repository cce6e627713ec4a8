//! Images in justified rows, each with its box to tick.

use super::selection::Selection;
use super::{ImageCard, ImageId};
use crate::components::{Picture, ratio_class};
use crate::hydrated::use_hydrated;
use crate::keys::{self, Act, Place};
use leptos::ev::{KeyboardEvent, MouseEvent};
use leptos::prelude::*;

/// All images loaded so far.
#[component]
pub fn Wall(
    /// The images.
    images: RwSignal<Vec<ImageCard>>,
    /// What is chosen.
    selection: Selection,
    /// What a click on an image does while nothing is chosen: open its page, or choose it.
    #[prop(default = true)]
    opens: bool,
) -> impl IntoView {
    view! {
        <ul class="wall" class:wall-choosing=move || selection.is_active() on:keydown=move |event| hear(&event, images, selection)>
            <For each=move || images.get() key=|image| (image.id.clone(), image.favourite, image.rating) let:image>
                <Tile image=image images=images selection=selection opens=opens/>
            </For>
            // Takes up what the last row leaves free, so that its images keep their size.
            <li class="wall-rest" aria-hidden="true"></li>
        </ul>
    }
}

#[component]
fn Tile(
    image: ImageCard,
    images: RwSignal<Vec<ImageCard>>,
    selection: Selection,
    opens: bool,
) -> impl IntoView {
    let hydrated = use_hydrated();
    let id = StoredValue::new(image.id.clone());
    let chosen = Memo::new(move |_| id.with_value(|id| selection.has(id)));
    let toggle = move |range: bool| {
        images.with_untracked(|images| id.with_value(|id| selection.toggle(id, range, images)));
    };
    let long_press = LongPress::new(move || toggle(false));
    let click = move |event: MouseEvent| {
        let choosing = selection_is_active(selection);
        let asked = event.shift_key() || event.ctrl_key() || event.meta_key();
        if long_press.ends_here() {
            event.prevent_default();
        } else if asked || choosing || !opens {
            event.prevent_default();
            toggle(event.shift_key());
        }
    };
    let tick = move |event: MouseEvent| {
        // The box follows the selection, not the other way round.
        toggle(event.shift_key());
    };
    let words = image.prompt.clone();
    let label = match image.prompt.chars().count() {
        0 => "Select the image".to_owned(),
        1..=80 => format!("Select: {}", image.prompt),
        _ => format!(
            "Select: {} …",
            image.prompt.chars().take(80).collect::<String>()
        ),
    };
    let href = if opens {
        format!("/gallery/{}", image.id.0)
    } else {
        image.id.thumbnail_url()
    };
    view! {
        <li class=format!("tile {}", ratio_class(image.width, image.height)) class:tile-chosen=move || chosen.get() data-id=image.id.0.clone()>
            <a
                class="tile-link"
                href=href
                rel=(!opens).then_some("external")
                on:click=click
                on:pointerdown=move |event| long_press.begin(&event)
                on:pointermove=move |event| long_press.moved(&event)
                on:pointerup=move |_| long_press.end()
                on:pointercancel=move |_| long_press.end()
                on:contextmenu=move |event| {
                    if long_press.is_held() {
                        event.prevent_default();
                    }
                }
            >
                <Picture
                    src=image.id.thumbnail_url()
                    alt=image.prompt.clone()
                    width=image.width
                    height=image.height
                    colour=image.dominant_colour
                    lazy=true
                />
                <span class="tile-words" aria-hidden="true">{words}</span>
            </a>
            <label class="tile-tick">
                <input
                    type="checkbox"
                    form="bulk"
                    name=move || (!hydrated.get()).then_some("ids[]")
                    value=image.id.0.clone()
                    aria-label=label
                    prop:checked=move || chosen.get()
                    on:click=tick
                />
            </label>
            {marks(image.favourite, image.rating)}
        </li>
    }
}

fn selection_is_active(selection: Selection) -> bool {
    untrack(|| selection.is_active())
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

/// On the wall: arrows go from image to image, x chooses the one in focus, Ctrl+A all of them.
fn hear(event: &KeyboardEvent, images: RwSignal<Vec<ImageCard>>, selection: Selection) {
    match keys::meant(Place::Wall, event) {
        Some(Act::ChooseAll) => {
            event.prevent_default();
            images.with_untracked(|images| selection.choose_all(images));
        }
        Some(Act::Choose) => {
            if let Some(id) = focus::current() {
                event.prevent_default();
                images.with_untracked(|images| selection.toggle(&id, event.shift_key(), images));
            }
        }
        Some(Act::Next) => focus::step(event, focus::Way::Next),
        Some(Act::Previous) => focus::step(event, focus::Way::Previous),
        Some(Act::Below) => focus::step(event, focus::Way::Below),
        Some(Act::Above) => focus::step(event, focus::Way::Above),
        _ => {}
    }
}

/// A touch that stays: the way into choosing where there is no pointer to hover with.
#[derive(Clone, Copy)]
struct LongPress {
    /// Grows with each press, so that a timer knows whether it is still about its own.
    press: StoredValue<u32>,
    began: StoredValue<Option<(i32, i32)>>,
    fired: StoredValue<bool>,
    act: Callback<()>,
}

impl LongPress {
    /// How long a touch must stay.
    const STAYS: std::time::Duration = std::time::Duration::from_millis(450);
    /// How far a finger may tremble, in pixels.
    const TREMBLE: i32 = 10;

    fn new(act: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            press: StoredValue::new(0),
            began: StoredValue::new(None),
            fired: StoredValue::new(false),
            act: Callback::new(move |()| act()),
        }
    }

    fn begin(self, event: &leptos::ev::PointerEvent) {
        self.fired.set_value(false);
        if event.pointer_type() != "touch" {
            return;
        }
        self.began
            .set_value(Some((event.client_x(), event.client_y())));
        self.press.update_value(|press| *press += 1);
        let press = self.press.get_value();
        crate::hydrated::after(Self::STAYS, move || {
            let same = self.press.try_get_value() == Some(press);
            if same && self.began.get_value().is_some() {
                self.fired.set_value(true);
                self.act.run(());
            }
        });
    }

    fn moved(self, event: &leptos::ev::PointerEvent) {
        let far = self.began.get_value().is_some_and(|(x, y)| {
            (event.client_x() - x).abs() > Self::TREMBLE
                || (event.client_y() - y).abs() > Self::TREMBLE
        });
        if far {
            self.end();
        }
    }

    fn end(self) {
        self.began.set_value(None);
    }

    fn is_held(self) -> bool {
        self.fired.get_value() || self.began.get_value().is_some()
    }

    /// Whether the click that comes now belongs to a long press.
    fn ends_here(self) -> bool {
        let fired = self.fired.get_value();
        self.fired.set_value(false);
        fired
    }
}

mod focus {
    //! From the image in focus to its neighbours.

    use super::{ImageId, KeyboardEvent};

    /// Which neighbour.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) enum Way {
        Next,
        Previous,
        Below,
        Above,
    }

    #[cfg(feature = "hydrate")]
    fn tile() -> Option<web_sys::Element> {
        leptos::prelude::document()
            .active_element()?
            .closest(".tile")
            .ok()?
    }

    /// The image in focus.
    #[cfg(feature = "hydrate")]
    pub(super) fn current() -> Option<ImageId> {
        Some(ImageId(tile()?.get_attribute("data-id")?))
    }

    /// The tile of the next row whose middle is nearest; `sign` says which way rows go.
    #[cfg(feature = "hydrate")]
    fn nearest<'a>(
        from: &web_sys::Element,
        candidates: impl Iterator<Item = &'a web_sys::Element>,
        sign: f64,
    ) -> Option<&'a web_sys::Element> {
        let here = from.get_bounding_client_rect();
        let middle = |rect: &web_sys::DomRect| rect.left() + rect.width() / 2.0;
        let mut row: Option<f64> = None;
        let mut best: Option<(f64, &web_sys::Element)> = None;
        for tile in candidates {
            let rect = tile.get_bounding_client_rect();
            if (rect.top() - here.top()) * sign < 1.0 {
                continue;
            }
            // The first row that is reached, and no other.
            if row.is_some_and(|row| (row - rect.top()).abs() > 1.0) {
                break;
            }
            row = Some(rect.top());
            let distance = (middle(&rect) - middle(&here)).abs();
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, tile));
            }
        }
        best.map(|(_, tile)| tile)
    }

    /// Moves the focus to a neighbour, where there is one.
    #[cfg(feature = "hydrate")]
    pub(super) fn step(event: &KeyboardEvent, way: Way) {
        use wasm_bindgen::JsCast;
        let Some(from) = tile() else { return };
        let Ok(all) = leptos::prelude::document().query_selector_all(".wall .tile") else {
            return;
        };
        let tiles: Vec<web_sys::Element> = (0..all.length())
            .filter_map(|at| all.get(at)?.dyn_into().ok())
            .collect();
        let Some(at) = tiles.iter().position(|tile| tile == &from) else {
            return;
        };
        let to = match way {
            Way::Next => tiles.get(at + 1),
            Way::Previous => at.checked_sub(1).and_then(|at| tiles.get(at)),
            Way::Below => nearest(&from, tiles[at..].iter(), 1.0),
            Way::Above => nearest(&from, tiles[..at].iter().rev(), -1.0),
        };
        let link = to.and_then(|tile| tile.query_selector("a").ok()?);
        if let Some(link) = link.and_then(|link| link.dyn_into::<web_sys::HtmlElement>().ok()) {
            event.prevent_default();
            // Fails for no element that is on the page.
            let _ = link.focus();
        }
    }

    #[cfg(not(feature = "hydrate"))]
    pub(super) fn current() -> Option<ImageId> {
        None
    }

    #[cfg(not(feature = "hydrate"))]
    pub(super) fn step(_: &KeyboardEvent, _: Way) {}
}
