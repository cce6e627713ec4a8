//! A touch that stays: the way into choosing where there is no pointer to hover with.

use leptos::prelude::*;

/// A touch on one of the images of a wall.
#[derive(Clone, Copy)]
pub struct LongPress {
    /// Grows with each press, so that a timer knows whether it is still about its own.
    press: StoredValue<u32>,
    began: StoredValue<Option<(i32, i32)>>,
    fired: StoredValue<bool>,
    act: Callback<usize>,
}

impl LongPress {
    /// How long a touch must stay.
    const STAYS: std::time::Duration = std::time::Duration::from_millis(450);
    /// How far a finger may tremble, in pixels.
    const TREMBLE: i32 = 10;

    /// Calls `act` with the place of the image that was held.
    pub fn new(act: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self {
            press: StoredValue::new(0),
            began: StoredValue::new(None),
            fired: StoredValue::new(false),
            act: Callback::new(act),
        }
    }

    /// A finger came down on the image at a place.
    pub fn begin(self, event: &leptos::ev::PointerEvent, at: Option<usize>) {
        self.fired.set_value(false);
        let Some(at) = at.filter(|_| event.pointer_type() == "touch") else {
            return;
        };
        self.began
            .set_value(Some((event.client_x(), event.client_y())));
        self.press.update_value(|press| *press += 1);
        let press = self.press.get_value();
        crate::hydrated::after(Self::STAYS, move || {
            let same = self.press.try_get_value() == Some(press);
            if same && self.began.get_value().is_some() {
                self.fired.set_value(true);
                self.act.run(at);
            }
        });
    }

    /// It moved: too far, and it is a swipe.
    pub fn moved(self, event: &leptos::ev::PointerEvent) {
        let far = self.began.get_value().is_some_and(|(x, y)| {
            (event.client_x() - x).abs() > Self::TREMBLE
                || (event.client_y() - y).abs() > Self::TREMBLE
        });
        if far {
            self.end();
        }
    }

    /// It left.
    pub fn end(self) {
        self.began.set_value(None);
    }

    /// Whether a finger is down, or the press has just been taken.
    pub fn is_held(self) -> bool {
        self.fired.get_value() || self.began.get_value().is_some()
    }

    /// Whether the click that comes now belongs to a long press.
    pub fn ends_here(self) -> bool {
        let fired = self.fired.get_value();
        self.fired.set_value(false);
        fired
    }
}
