//! The way back into the gallery: whoever looked at an image comes back to where it hangs, with what
//! was searched for.

use super::ImageQuery;
use leptos::prelude::*;
use leptos_router::hooks::use_location;

/// A place in the gallery.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// The gallery's address, with what was searched for.
    pub address: String,
    /// The image that was opened.
    pub at: usize,
    /// How far the window was scrolled, in pixels.
    pub top: f64,
}

/// Where the gallery was left, known to every page.
#[derive(Clone, Copy)]
pub struct WayBack {
    left: RwSignal<Option<Left>>,
    /// The last page that was no wall of the gallery.
    elsewhere: StoredValue<String>,
}

impl WayBack {
    fn new() -> Self {
        Self {
            left: RwSignal::new(None),
            elsewhere: StoredValue::new(String::new()),
        }
    }

    /// Remembers a place.
    pub fn leave(&self, left: Left) {
        self.left.set(Some(left));
    }

    /// The gallery's address from an image's page.
    pub fn address(&self) -> String {
        self.left.with(|left| {
            left.as_ref().map_or_else(
                || ImageQuery::default().address(None),
                |left| left.address.clone(),
            )
        })
    }

    /// Where to scroll on this address, for whoever comes from an image's page. Once.
    pub fn take(&self, address: &str) -> Option<Left> {
        let from_image = self
            .elsewhere
            .with_value(|path| path.starts_with("/gallery/") || path.starts_with("/compare"));
        let left = self.left.get_untracked()?;
        let is_here = from_image && left.address == address;
        if is_here {
            self.left.set(None);
        }
        is_here.then_some(left)
    }
}

/// Makes the way back known to every page.
pub fn provide_way_back() {
    provide_context(WayBack::new());
}

/// The way back.
pub fn use_way_back() -> WayBack {
    use_context::<WayBack>().unwrap_or_else(WayBack::new)
}

/// Notes where one goes; shows nothing.
#[component]
pub fn Footsteps() -> impl IntoView {
    let way = use_way_back();
    let path = use_location().pathname;
    Effect::new(move |_| {
        let path = path.get();
        if path != "/gallery" {
            way.elsewhere.set_value(path);
        }
    });
}
