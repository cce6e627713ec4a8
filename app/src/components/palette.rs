//! The command palette: pages, what can be done on this page, images by their prompts, the theme, the way out.
//! A combobox as the ARIA practices have it: the cursor stays in the field, the list follows the arrows.

use super::nav::{Theme, set_theme};
use super::overlay::{OpenDialog, Overlay, use_overlays};
use crate::account::Viewer;
use crate::gallery::{ImageCard, ImageQuery, find_images};
use crate::hydrated::after;
use crate::session::use_viewer_here;
use leptos::ev::KeyboardEvent;
use leptos::prelude::*;
use leptos_router::hooks::use_navigate;
use std::time::Duration;

/// How long typing pauses before images are asked for.
const PAUSE: Duration = Duration::from_millis(150);

/// How many lines are shown at most.
const MOST: usize = 40;

/// How many images are.
const MOST_IMAGES: u32 = 6;

/// What a line does.
#[derive(Clone, Debug, PartialEq)]
enum Does {
    /// Goes to a page.
    Go(String),
    /// Presses a button of the page: the one that says this.
    Press(String),
    /// Changes the colours.
    Theme(Theme),
    /// Opens the list of shortcuts.
    Help,
    /// Signs out.
    SignOut,
}

/// One line of the palette.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    words: String,
    kind: &'static str,
    does: Does,
}

fn line(kind: &'static str, words: &str, does: Does) -> Line {
    Line {
        words: words.to_owned(),
        kind,
        does,
    }
}

/// What is the same on every page.
fn fixed(viewer: Option<&Viewer>) -> Vec<Line> {
    let page = |words: &str, path: &str| line("Page", words, Does::Go(path.to_owned()));
    let mut lines = vec![
        page("Studio", "/"),
        page("Gallery", "/gallery"),
        page("Collections", "/collections"),
        page("Trash", "/trash"),
        page("Account and API tokens", "/account"),
    ];
    if viewer.is_some_and(Viewer::is_admin) {
        lines.extend([
            page("Admin", "/admin"),
            page("Models", "/admin/models"),
            page("Queue", "/admin/queue"),
            page("Usage", "/admin/usage"),
            page("Settings of the server", "/admin/settings"),
            page("Backups", "/admin/backups"),
            page("People", "/admin/people"),
            page("Audit log", "/admin/audit"),
        ]);
    }
    lines.extend([
        line("Theme", "Light", Does::Theme(Theme::Light)),
        line("Theme", "Dark", Does::Theme(Theme::Dark)),
        line("Theme", "As the system says", Does::Theme(Theme::Auto)),
        line("Help", "Keyboard shortcuts", Does::Help),
        line("Account", "Sign out", Does::SignOut),
    ]);
    lines
}

/// How well words answer to what was typed: all its letters in order, the better the more of them
/// begin a word or follow each other. `None` where a letter is missing.
fn score(typed: &str, words: &str) -> Option<i32> {
    let mut total = 0;
    let mut before: Option<char> = None;
    let mut last_hit = false;
    let mut wanted = typed
        .chars()
        .flat_map(char::to_lowercase)
        .filter(|c| !c.is_whitespace());
    let mut next = wanted.next();
    for (at, letter) in words.chars().flat_map(char::to_lowercase).enumerate() {
        let Some(want) = next else { break };
        let hit = letter == want;
        if hit {
            let begins = before.is_none_or(|before| !before.is_alphanumeric());
            total += 1 + 4 * i32::from(begins) + 3 * i32::from(last_hit) + 4 * i32::from(at == 0);
            next = wanted.next();
        }
        last_hit = hit;
        before = Some(letter);
    }
    next.is_none().then_some(total)
}

/// The lines that answer to what was typed, the best first; all of them where nothing was.
fn matching(lines: &[Line], typed: &str) -> Vec<Line> {
    let mut found: Vec<(i32, &Line)> = lines
        .iter()
        .filter_map(|line| {
            let by_words = score(typed, &line.words);
            let by_kind =
                score(typed, &format!("{} {}", line.kind, line.words)).map(|score| score - 3);
            Some((by_words.max(by_kind)?, line))
        })
        .collect();
    if !typed.trim().is_empty() {
        found.sort_by_key(|(score, _)| -score);
    }
    found
        .into_iter()
        .take(MOST)
        .map(|(_, line)| line.clone())
        .collect()
}

/// The dialog.
#[component]
pub fn Palette() -> impl IntoView {
    let overlays = use_overlays();
    let viewer = use_viewer_here();
    let typed = RwSignal::new(String::new());
    let images = RwSignal::new(Vec::<ImageCard>::new());
    let at = RwSignal::new(0usize);
    let mut known = page_actions();
    known.extend(fixed(viewer.as_ref()));
    let known = StoredValue::new(known);

    let turn = StoredValue::new(0u32);
    Effect::new(move |_| {
        let words = typed.get();
        turn.update_value(|turn| *turn += 1);
        let mine = turn.get_value();
        after(PAUSE, move || {
            // It may be shut, or more was typed since.
            if turn.try_get_value() != Some(mine) {
                return;
            }
            leptos::task::spawn_local(async move {
                let query = ImageQuery {
                    q: words.trim().to_owned(),
                    ..ImageQuery::default()
                };
                // Images are an offer besides; what keeps them away is told by the gallery.
                let found = find_images(query, String::new(), MOST_IMAGES).await;
                if turn.try_get_value() == Some(mine) {
                    images.set(found.map(|page| page.images).unwrap_or_default());
                }
            });
        });
    });
    let lines = Memo::new(move |_| {
        let words = typed.get();
        let mut lines = known.with_value(|known| matching(known, &words));
        lines.extend(images.get().into_iter().map(|image| Line {
            words: match image.prompt.as_str() {
                "" => "An image without a prompt".to_owned(),
                prompt => prompt.chars().take(120).collect(),
            },
            kind: "Image",
            does: Does::Go(format!("/gallery/{}", image.id.0)),
        }));
        if !words.trim().is_empty() {
            lines.push(Line {
                words: format!("Search the gallery for “{}”", words.trim()),
                kind: "Search",
                does: Does::Go(format!(
                    "/gallery?q={}",
                    super::percent_encode(words.trim())
                )),
            });
        }
        lines
    });
    let navigate = StoredValue::new_local(use_navigate());
    let act = move |does: Does| {
        overlays.0.set(None);
        match does {
            Does::Go(path) => navigate.with_value(|navigate| navigate(&path, Default::default())),
            Does::Theme(theme) => set_theme(theme),
            Does::Help => overlays.0.set(Some(Overlay::Help)),
            Does::Press(words) => press(words),
            Does::SignOut => sign_out(),
        }
    };
    let keys = move |event: KeyboardEvent| {
        let count = lines.with_untracked(Vec::len);
        match event.key().as_str() {
            "ArrowDown" if count > 0 => at.update(|at| *at = (*at + 1) % count),
            "ArrowUp" if count > 0 => at.update(|at| *at = (*at + count - 1) % count),
            "Home" => at.set(0),
            "End" if count > 0 => at.set(count - 1),
            "Enter" => {
                if let Some(line) =
                    lines.with_untracked(|lines| lines.get(at.get_untracked()).cloned())
                {
                    act(line.does);
                }
            }
            _ => return,
        }
        event.prevent_default();
        show_line(at.get_untracked());
    };
    let rows = move || {
        lines
            .get()
            .into_iter()
            .enumerate()
            .map(|(place, line)| {
                let does = line.does.clone();
                view! {
                    <li
                        class="palette-line"
                        id=format!("palette-{place}")
                        role="option"
                        aria-selected=move || (at.get() == place).to_string()
                        on:click=move |_| act(does.clone())
                    >
                        <span class="clip">{line.words}</span>
                        <span class="palette-kind">{line.kind}</span>
                    </li>
                }
            })
            .collect_view()
    };
    view! {
        <OpenDialog label="Command palette" class="over-palette">
            <input
                class="input palette-field"
                type="text"
                role="combobox"
                autofocus
                autocomplete="off"
                spellcheck="false"
                placeholder="Where to, or what to do?"
                aria-label="Search pages, actions and images"
                aria-expanded="true"
                aria-autocomplete="list"
                aria-controls="palette-list"
                aria-activedescendant=move || format!("palette-{}", at.get())
                prop:value=move || typed.get()
                on:input=move |event| {
                    typed.set(event_target_value(&event));
                    at.set(0);
                }
                on:keydown=keys
            />
            <ul class="palette-list" id="palette-list" role="listbox" aria-label="What was found">{rows}</ul>
            <p class="hidden" role="status">{move || match lines.with(Vec::len) {
                1 => "1 line".to_owned(),
                count => format!("{count} lines"),
            }}</p>
        </OpenDialog>
    }
}

/// What can be pressed on this page, by the names that it has there.
#[cfg(feature = "hydrate")]
fn page_actions() -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (words, _) in pressable() {
        let known = lines.iter().any(|line| line.words == words);
        if !known && lines.len() < MOST {
            let does = Does::Press(words.clone());
            lines.push(line("On this page", &words, does));
        }
    }
    lines
}

#[cfg(not(feature = "hydrate"))]
fn page_actions() -> Vec<Line> {
    let _ = Does::Press(String::new());
    Vec::new()
}

/// The buttons of the page that can be seen, with what they say.
#[cfg(feature = "hydrate")]
fn pressable() -> impl Iterator<Item = (String, web_sys::HtmlElement)> {
    use wasm_bindgen::JsCast;
    let found = document()
        .query_selector_all("main button:not(:disabled), main a.button, main summary")
        .ok();
    let count = found.as_ref().map_or(0, web_sys::NodeList::length);
    (0..count).filter_map(move |place| {
        let element: web_sys::HtmlElement = found.as_ref()?.get(place)?.dyn_into().ok()?;
        let words = element
            .get_attribute("aria-label")
            .unwrap_or_else(|| element.inner_text());
        // Signs beside the words are for the eye.
        let says = |part: &&str| part.contains(char::is_alphanumeric);
        let words = words
            .split_whitespace()
            .skip_while(|part| !says(part))
            .collect::<Vec<_>>()
            .join(" ");
        let fits = (1..=60).contains(&words.chars().count());
        let seen = element.get_bounding_client_rect().width() > 0.0;
        (fits && seen).then_some((words, element))
    })
}

#[cfg(feature = "hydrate")]
fn press(words: String) {
    // When the palette has gone. A timer would go with it: timers end with what set them.
    leptos::task::spawn_local(async move {
        leptos::task::tick().await;
        if let Some((_, element)) = pressable().find(|(said, _)| *said == words) {
            element.click();
        }
    });
}

#[cfg(not(feature = "hydrate"))]
fn press(_: String) {}

/// The form in the account menu does it; it loads the next page afresh.
#[cfg(feature = "hydrate")]
fn sign_out() {
    use wasm_bindgen::JsCast;
    let form = document()
        .query_selector("form[action='/app/sign_out']")
        .ok()
        .flatten();
    if let Some(form) = form.and_then(|form| form.dyn_into::<web_sys::HtmlFormElement>().ok()) {
        // Fails for no form that is on the page.
        let _ = form.submit();
    }
}

#[cfg(not(feature = "hydrate"))]
fn sign_out() {}

#[cfg(feature = "hydrate")]
fn show_line(at: usize) {
    if let Ok(Some(line)) = document().query_selector(&format!("#palette-{at}"))
        && let Ok(Some(list)) = document().query_selector("#palette-list")
    {
        let (line, frame) = (
            line.get_bounding_client_rect(),
            list.get_bounding_client_rect(),
        );
        let above = frame.top() - line.top();
        let below = line.bottom() - frame.bottom();
        let by = if above > 0.0 { -above } else { below.max(0.0) };
        list.set_scroll_top(list.scroll_top() + by.round() as i32);
    }
}

#[cfg(not(feature = "hydrate"))]
fn show_line(_: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(typed: &str) -> Option<String> {
        matching(&fixed(None), typed)
            .first()
            .map(|line| line.words.clone())
    }

    #[test]
    fn a_few_letters_find_a_page() {
        assert_eq!(first("gal").as_deref(), Some("Gallery"));
        assert_eq!(first("col").as_deref(), Some("Collections"));
        assert_eq!(first("so").as_deref(), Some("Sign out"));
        assert_eq!(first("api tok").as_deref(), Some("Account and API tokens"));
        assert_eq!(first("theme dark").as_deref(), Some("Dark"));
        assert_eq!(first("qqq"), None);
    }

    #[test]
    fn nothing_typed_keeps_all_lines_in_order() {
        let all = matching(&fixed(None), "");
        assert_eq!(all.len(), fixed(None).len());
        assert_eq!(all[0].words, "Studio");
    }

    #[test]
    fn only_administrators_are_led_to_their_pages() {
        assert!(
            matching(&fixed(None), "audit")
                .iter()
                .all(|line| line.words != "Audit log")
        );
    }
}
