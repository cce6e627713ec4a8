//! Every keyboard shortcut, in one table. Handlers ask it what a key means, and the dialog behind `?` shows
//! it, so that neither can know more than the other.

/// Where a shortcut means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On every page.
    Everywhere,
    /// In the studio.
    Studio,
    /// Where images hang: the gallery, a collection, the trash.
    Wall,
}

impl Place {
    /// The place that a page is, by its path.
    pub fn of(path: &str) -> Self {
        match path {
            "/" => Self::Studio,
            "/gallery" | "/collections" | "/trash" => Self::Wall,
            _ => Self::Everywhere,
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Everywhere => "Everywhere",
            Self::Studio => "In the studio",
            Self::Wall => "Among images",
        }
    }
}

/// What a shortcut does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Opens the list of shortcuts.
    Help,
    /// Opens the command palette.
    Palette,
    /// Asks for the image.
    Generate,
    /// Puts the cursor into the prompt.
    Prompt,
    /// Puts the cursor into the search field.
    Search,
    /// To the next image.
    Next,
    /// To the image before.
    Previous,
    /// To the row below.
    Below,
    /// To the row above.
    Above,
    /// A window's height down.
    WindowDown,
    /// A window's height up.
    WindowUp,
    /// To the first image.
    First,
    /// To the last image.
    Last,
    /// Chooses the image in focus, or lets it go.
    Choose,
    /// Chooses all images.
    ChooseAll,
    /// Lets all chosen images go.
    LetGo,
    /// Moves the chosen images to the trash.
    Delete,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Shortcut {
    /// Where it holds.
    pub place: Place,
    /// `KeyboardEvent.key`, letters small.
    key: &'static str,
    /// With Ctrl, or with the command key of a Mac.
    with_control: bool,
    /// What it does.
    pub act: Act,
    /// The same for people.
    pub does: &'static str,
}

const fn plain(place: Place, key: &'static str, act: Act, does: &'static str) -> Shortcut {
    Shortcut {
        place,
        key,
        with_control: false,
        act,
        does,
    }
}

const fn control(place: Place, key: &'static str, act: Act, does: &'static str) -> Shortcut {
    Shortcut {
        place,
        key,
        with_control: true,
        act,
        does,
    }
}

/// The table.
pub static SHORTCUTS: [Shortcut; 17] = [
    control(
        Place::Everywhere,
        "k",
        Act::Palette,
        "Search pages, actions and images",
    ),
    plain(Place::Everywhere, "?", Act::Help, "Show these shortcuts"),
    control(Place::Studio, "enter", Act::Generate, "Generate"),
    plain(Place::Studio, "/", Act::Prompt, "Write the prompt"),
    plain(Place::Wall, "/", Act::Search, "Search"),
    plain(Place::Wall, "arrowright", Act::Next, "Next image"),
    plain(Place::Wall, "arrowleft", Act::Previous, "Image before"),
    plain(Place::Wall, "arrowdown", Act::Below, "Row below"),
    plain(Place::Wall, "arrowup", Act::Above, "Row above"),
    plain(
        Place::Wall,
        "pagedown",
        Act::WindowDown,
        "A window further down",
    ),
    plain(Place::Wall, "pageup", Act::WindowUp, "A window further up"),
    plain(Place::Wall, "home", Act::First, "First image"),
    plain(Place::Wall, "end", Act::Last, "Last image"),
    plain(
        Place::Wall,
        "x",
        Act::Choose,
        "Choose the image; with Shift all up to it",
    ),
    control(Place::Wall, "a", Act::ChooseAll, "Choose all"),
    plain(
        Place::Wall,
        "escape",
        Act::LetGo,
        "Let go of what is chosen",
    ),
    plain(
        Place::Wall,
        "delete",
        Act::Delete,
        "Move what is chosen to the trash",
    ),
];

impl Shortcut {
    /// The keys as they are printed: `["Ctrl", "K"]`.
    pub fn caps(&self) -> Vec<String> {
        let cap = match self.key {
            "arrowright" => "→".into(),
            "arrowleft" => "←".into(),
            "arrowdown" => "↓".into(),
            "arrowup" => "↑".into(),
            "escape" => "Esc".into(),
            "delete" => "Del".into(),
            "pagedown" => "Page down".into(),
            "pageup" => "Page up".into(),
            "home" => "Home".into(),
            "end" => "End".into(),
            "enter" => "Enter".into(),
            key => key.to_uppercase(),
        };
        let mut caps = Vec::new();
        if self.with_control {
            caps.push("Ctrl".to_owned());
        }
        caps.push(cap);
        caps
    }
}

/// What a key means at a place. In a field of a form a key is a letter, unless Ctrl is held.
pub fn find(place: Place, key: &str, with_control: bool, is_typing: bool) -> Option<Act> {
    let key = key.to_lowercase();
    SHORTCUTS
        .iter()
        .find(|shortcut| {
            shortcut.place == place
                && shortcut.key == key
                && shortcut.with_control == with_control
                && (with_control || !is_typing)
        })
        .map(|shortcut| shortcut.act)
}

/// What a key press means at a place.
pub fn meant(place: Place, event: &leptos::ev::KeyboardEvent) -> Option<Act> {
    let (key, with_control, is_typing) = pressed(event)?;
    // Ctrl+A in a field chooses its text.
    if is_typing && key.eq_ignore_ascii_case("a") {
        return None;
    }
    find(place, &key, with_control, is_typing)
}

/// The key, whether Ctrl or ⌘ was held, and whether it goes into a field. Presses that spell a letter with
/// several keys mean nothing else.
#[cfg(feature = "hydrate")]
fn pressed(event: &leptos::ev::KeyboardEvent) -> Option<(String, bool, bool)> {
    (!event.alt_key() && !event.is_composing()).then(|| {
        let with_control = event.ctrl_key() || event.meta_key();
        (event.key(), with_control, is_typing(event))
    })
}

/// On the server nobody presses keys.
#[cfg(not(feature = "hydrate"))]
fn pressed(_: &leptos::ev::KeyboardEvent) -> Option<(String, bool, bool)> {
    None
}

/// Whether a key press goes into a field.
#[cfg(feature = "hydrate")]
fn is_typing(event: &leptos::ev::KeyboardEvent) -> bool {
    use wasm_bindgen::JsCast;
    let Some(element) = event
        .target()
        .and_then(|target| target.dyn_into::<web_sys::Element>().ok())
    else {
        return false;
    };
    let kind = element.get_attribute("type").unwrap_or_default();
    match element.tag_name().as_str() {
        "TEXTAREA" | "SELECT" => true,
        "INPUT" => !matches!(kind.as_str(), "checkbox" | "radio" | "button" | "submit"),
        _ => element.has_attribute("contenteditable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_at_one_place() {
        for (at, one) in SHORTCUTS.iter().enumerate() {
            for other in &SHORTCUTS[at + 1..] {
                let same = one.key == other.key && one.with_control == other.with_control;
                let meet = one.place == other.place
                    || Place::Everywhere == one.place
                    || Place::Everywhere == other.place;
                assert!(!(same && meet), "{one:?} and {other:?}");
            }
            assert!(!one.does.is_empty() && !one.caps().is_empty());
        }
    }

    #[test]
    fn letters_in_a_field_are_letters() {
        assert_eq!(find(Place::Wall, "X", false, false), Some(Act::Choose));
        assert_eq!(find(Place::Wall, "x", false, true), None);
        assert_eq!(find(Place::Wall, "Delete", false, true), None);
        assert_eq!(find(Place::Everywhere, "?", false, true), None);
        assert_eq!(find(Place::Everywhere, "k", true, true), Some(Act::Palette));
        assert_eq!(find(Place::Everywhere, "k", false, false), None);
        assert_eq!(
            find(Place::Studio, "Enter", true, true),
            Some(Act::Generate)
        );
        assert_eq!(find(Place::Studio, "x", false, false), None);
    }
}
