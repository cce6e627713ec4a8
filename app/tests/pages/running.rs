//! Pages about running the server, as it sends them: models, quotas, usage, the queue, settings.

use super::rendered::{LIMITS, busy, with, words_of};
use crate::fake::{House, admin, get, member};
use crate::html::tags;
use std::sync::Arc;

#[tokio::test]
async fn the_admin_page_tells_how_models_and_fetches_stand() {
    let page = get(&busy(), admin(), "/admin/models").await;
    for words in [
        "1.0 GiB of 4.0 GiB",
        "47.7 MiB/s",
        "1 min 4 s left",
        "3 of 17 files",
        "fetching",
        "failed",
        "Resume big",
        "Stop fetching big",
        "Repair sdxl",
        "Make sdxl the default",
        "cannot be used",
        "30 steps, guidance 5",
        "1.0 TiB free",
        "without an access token",
    ] {
        assert!(page.html.contains(words), "{words}");
    }
    // What is part of the program is not deleted, and the default need not be made the default.
    for words in ["Delete demo from", "Make demo the default"] {
        assert!(!page.html.contains(words), "{words}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_quota_is_shown_where_there_is_one() {
    let limited = Arc::new(House {
        limits: LIMITS,
        ..House::default()
    });
    for path in ["/", "/account"] {
        let page = get(&limited, member(), path).await;
        assert!(page.html.contains("0 of 5 images left today"), "{path}");
        let page = get(&busy(), member(), path).await;
        assert!(!page.html.contains("left today"), "{path}");
    }
    let studio = get(&limited, member(), "/").await.html;
    assert!(studio.contains("There is more from"), "{studio}");
    let account = get(&limited, member(), "/account").await.html;
    assert!(account.contains("1 h 0 min of 2 h 0 min of device time left this month"));
}

#[tokio::test]
async fn every_plot_of_usage_has_its_numbers_in_a_table() {
    let page = get(&busy(), admin(), "/admin/usage?days=7").await;
    for words in [
        "Images a day: 44 in all, at most 41 on one day",
        "Device time a day: 15 min 13 s in all",
        "between 7.5 s and 9.0 s, latest 7.5 s",
        "2026-11-24",
        "users who were removed",
        "60.0 GiB of 240.0 GiB are free",
        "3 · 3.0 MiB",
    ] {
        assert!(page.html.contains(words), "{words}");
    }
    let tags = tags(&page.html);
    let plots = with(&tags, "svg")
        .iter()
        .filter(|tag| {
            tag.get("class")
                .is_some_and(|class| class.starts_with("plot"))
        })
        .count();
    assert_eq!((plots, with(&tags, "table").len()), (3, 4));
    let ranges: Vec<_> = tags
        .iter()
        .filter(|tag| tag.get("aria-current") == Some("true"))
        .filter_map(|tag| tag.get("href"))
        .collect();
    assert_eq!(ranges, ["/admin/usage?days=7"]);
    let blank = Arc::new(House::default());
    let page = get(&blank, admin(), "/admin/usage").await;
    assert!(page.html.contains("Nothing was made in these days."));
    assert!(page.html.contains("No speed was measured in these days."));
}

#[tokio::test]
async fn the_queue_page_says_who_what_and_when() {
    let house = Arc::new(House {
        prompt: "grace".into(),
        ..House::default()
    });
    let page = get(&house, admin(), "/admin/queue").await;
    let text = words_of(&page.html);
    for words in [
        "The queue is paused: what runs goes on to its end, nothing new starts.",
        "Paused by grace 1 min ago",
        "1 running, 1 waiting.",
        "Step 3 of 20",
        "runs for 30 s",
        "about 12 s left",
        "place 1",
        "starts in about 1 min 15 s",
        "takes about 30 s",
        "moved by an administrator",
        "128×96 · 20 steps",
        "7 more wait behind these.",
        "took 25 s",
        "attempt 2",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let tags = tags(&page.html);
    let labels: Vec<&str> = tags
        .iter()
        .filter_map(|tag| tag.get("aria-label"))
        .collect();
    assert!(
        labels.contains(&"Jobs of the last 2 hours: 3 done, 1 failed, 0 cancelled"),
        "{labels:?}"
    );
    let filtered = get(&house, admin(), "/admin/queue?state=running&user=grace").await;
    let text = words_of(&filtered.html);
    assert!(!text.contains("place 1") && text.contains("Cancel all of grace …"));
    let blank = get(&Arc::new(House::default()), admin(), "/admin/queue").await;
    let text = words_of(&blank.html);
    assert!(text.contains("The queue is drained"), "{text}");
    assert!(text.contains("No job fits."), "{text}");
}

#[tokio::test]
async fn what_is_fixed_cannot_be_set_and_what_was_set_can_be_set_back() {
    let page = get(&busy(), admin(), "/admin/settings").await;
    assert!(words_of(&page.html).contains("Fixed by the command line"));
    let tags = tags(&page.html);
    let control = |id: &str| {
        let found = tags.iter().find(|tag| tag.get("id") == Some(id));
        found.unwrap_or_else(|| panic!("{id}")).clone()
    };
    assert!(control("set-default-model").get("disabled").is_some());
    let number = control("set-queue-limit");
    assert!(number.get("disabled").is_none());
    assert_eq!(
        (number.get("value"), number.get("min")),
        (Some("5"), Some("1"))
    );
    let labels: Vec<&str> = tags
        .iter()
        .filter_map(|tag| tag.get("aria-label"))
        .collect();
    assert!(
        labels.contains(&"Set back: Waiting images in all"),
        "{labels:?}"
    );
    assert!(!labels.contains(&"Set back: Show what is there already"));
    assert!(!labels.contains(&"Save: Default model"));
}
