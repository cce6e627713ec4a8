//! What of a wall is in sight, how large it is, and what on it an event is about.

use super::rows::Measures;
use leptos::html;
use leptos::prelude::*;

/// A part of an image's place on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "hydrate"),
    expect(dead_code, reason = "only a browser has events")
)]
pub enum Part {
    /// The box to tick.
    Tick,
    /// The picture.
    Link,
    /// What is beside them.
    Other,
}

#[cfg(feature = "hydrate")]
pub use browser::*;
#[cfg(not(feature = "hydrate"))]
pub use server::*;

#[cfg(feature = "hydrate")]
mod browser {
    use super::*;
    use wasm_bindgen::JsCast;
    use web_sys::{Element, HtmlElement, HtmlInputElement};

    /// How far beyond the window images are kept ready, in windows.
    const AHEAD: f64 = 0.75;

    fn window_height() -> f64 {
        let height = window().inner_height().ok();
        height.and_then(|height| height.as_f64()).unwrap_or(0.0)
    }

    /// How far the window is scrolled, in pixels.
    pub fn scrolled() -> f64 {
        window().scroll_y().unwrap_or(0.0)
    }

    /// What is in sight or near it: from and to, counted from the wall's top.
    pub fn near(wall: NodeRef<html::Ul>) -> Option<(f64, f64)> {
        let top = wall.try_get_untracked()??.get_bounding_client_rect().top();
        let height = window_height();
        Some((-top - AHEAD * height, -top + (1.0 + AHEAD) * height))
    }

    /// How many rows a window holds, at least one.
    pub fn rows_in_window(measures: RwSignal<Option<Measures>>) -> isize {
        let row = measures
            .get_untracked()
            .map_or(200.0, |measures| measures.row);
        ((window_height() / row) as isize - 1).max(1)
    }

    fn measure(wall: NodeRef<html::Ul>) -> Option<Measures> {
        let wall = wall.try_get_untracked()??;
        let style = window().get_computed_style(&wall).ok()??;
        let number = |name: &str| -> Option<f64> {
            let text = style.get_property_value(name).ok()?;
            let text = text.trim();
            match text.strip_suffix("rem") {
                Some(number) => Some(number.trim().parse::<f64>().ok()? * root_size()),
                None => text.trim_end_matches("px").trim().parse().ok(),
            }
        };
        Some(Measures {
            width: wall.get_bounding_client_rect().width(),
            row: number("--row")?,
            gap: number("column-gap")?,
            stretch: number("--stretch")?,
        })
    }

    /// How many pixels a rem has.
    fn root_size() -> f64 {
        let read = || {
            let root = document().document_element()?;
            let style = window().get_computed_style(&root).ok()??;
            let size = style.get_property_value("font-size").ok()?;
            size.trim_end_matches("px").parse().ok()
        };
        read().unwrap_or(16.0)
    }

    /// Measures the wall now and whenever the window changes, and looks again at every scroll, once
    /// a frame at most; `scrolled` comes after such a look.
    pub fn follow(
        wall: NodeRef<html::Ul>,
        measures: RwSignal<Option<Measures>>,
        look: impl Fn() + Copy + 'static,
        scrolled: impl Fn() + Copy + 'static,
    ) {
        Effect::new(move |_| {
            if wall.get().is_some() {
                measures.set(measure(wall));
            }
        });
        let waiting = StoredValue::new(false);
        let on_scroll = window_event_listener(leptos::ev::scroll, move |_| {
            if waiting.try_get_value() == Some(false) {
                waiting.set_value(true);
                // Fails only outside a window, where nothing is looked at.
                let _ = request_animation_frame(move || {
                    // The wall may be gone by then.
                    if waiting.try_get_value() == Some(true) {
                        waiting.set_value(false);
                        look();
                        scrolled();
                    }
                });
            }
        });
        let on_resize = window_event_listener(leptos::ev::resize, move |_| {
            let now = measure(wall);
            if now.is_some() && now != measures.get_untracked() {
                measures.set(now);
            }
            look();
        });
        on_cleanup(move || {
            on_scroll.remove();
            on_resize.remove();
        });
    }

    /// The place that an event is about, and the part of it.
    pub fn hit(event: &leptos::ev::Event) -> Option<(usize, Part)> {
        let target: Element = event.target()?.dyn_into().ok()?;
        let tile = target.closest(".tile").ok()??;
        let at = tile.get_attribute("data-at")?.parse().ok()?;
        let part = if target.dyn_ref::<HtmlInputElement>().is_some() {
            Part::Tick
        } else if target.closest(".tile-link").ok()?.is_some() {
            Part::Link
        } else {
            Part::Other
        };
        Some((at, part))
    }

    /// Whether the focus stays on the wall when it leaves where it is.
    pub fn goes_inside(wall: NodeRef<html::Ul>, event: &leptos::ev::FocusEvent) -> bool {
        let to = event
            .related_target()
            .and_then(|to| to.dyn_into::<Element>().ok());
        // The focus also leaves what is being taken off the page.
        match (wall.try_get_untracked().flatten(), to) {
            (Some(wall), Some(to)) => wall.contains(Some(&to)),
            _ => false,
        }
    }

    /// Gives the focus to the image at a place, once it is on the page; the browser scrolls there.
    pub fn focus(wall: NodeRef<html::Ul>, at: usize) {
        let _ = request_animation_frame(move || {
            let find = || {
                let wall = wall.try_get_untracked()??;
                let link = wall.query_selector(&format!("[data-at=\"{at}\"] > .tile-link"));
                link.ok()??.dyn_into::<HtmlElement>().ok()
            };
            if let Some(link) = find() {
                // Fails for no element that is on the page.
                let _ = link.focus();
            }
        });
    }

    /// Acts in the next frame.
    pub fn next_frame(act: impl FnOnce() + 'static) {
        // Fails only outside a window, where nothing is looked at.
        let _ = request_animation_frame(act);
    }

    /// Scrolls the window to where it was.
    pub fn scroll_to(top: f64) {
        let _ = request_animation_frame(move || window().scroll_to_with_x_and_y(0.0, top));
    }
}

#[cfg(not(feature = "hydrate"))]
mod server {
    use super::*;

    /// Nothing is scrolled.
    pub fn scrolled() -> f64 {
        0.0
    }

    /// Nothing is in sight.
    pub fn near(_: NodeRef<html::Ul>) -> Option<(f64, f64)> {
        None
    }

    /// There is no window.
    pub fn rows_in_window(_: RwSignal<Option<Measures>>) -> isize {
        1
    }

    /// Nothing moves.
    pub fn follow(
        _: NodeRef<html::Ul>,
        _: RwSignal<Option<Measures>>,
        _: impl Fn() + Copy + 'static,
        _: impl Fn() + Copy + 'static,
    ) {
    }

    /// Nothing happens.
    pub fn hit(_: &leptos::ev::Event) -> Option<(usize, Part)> {
        None
    }

    /// Nothing has the focus.
    pub fn goes_inside(_: NodeRef<html::Ul>, _: &leptos::ev::FocusEvent) -> bool {
        false
    }

    /// Nothing has the focus.
    pub fn focus(_: NodeRef<html::Ul>, _: usize) {}

    /// There are no frames.
    pub fn next_frame(act: impl FnOnce() + 'static) {
        act();
    }

    /// Nothing is scrolled.
    pub fn scroll_to(_: f64) {}
}
