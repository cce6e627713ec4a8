//! Pages as the server sends them: statuses, redirects, escaping, labels, nothing inline.

use crate::fake::{HOSTILE, House, Page, admin, get, member};
use crate::html::{Tag, tags};
use atelier_app::account::{QuotaLimits, Viewer};
use atelier_app::studio::JobState;
use std::collections::HashSet;
use std::sync::Arc;

/// A house in which every text that a person wrote is hostile, and every kind of thing exists.
pub(super) fn busy() -> Arc<House> {
    let mut house = House {
        prompt: HOSTILE.into(),
        images: 41,
        ..House::default()
    };
    house.jobs = vec![
        house.job("job-1", JobState::Running),
        house.job("job-2", JobState::Queued),
        house.job("job-3", JobState::Failed),
    ];
    Arc::new(house)
}

/// Limits of every kind.
pub(super) const LIMITS: QuotaLimits = QuotaLimits {
    day_images: Some(5),
    day_seconds: Some(600),
    month_images: Some(50),
    month_seconds: Some(7200),
};

async fn every_page() -> Vec<(&'static str, Page)> {
    let busy = busy();
    let blank = Arc::new(House::default());
    let setup = Arc::new(House {
        is_empty: true,
        ..House::default()
    });
    let limited = Arc::new(House {
        limits: LIMITS,
        ..House::default()
    });
    let mut pages = Vec::new();
    for (house, viewer, path) in [
        (&blank, None, "/sign-in"),
        (&setup, None, "/setup"),
        (&blank, member(), "/"),
        (&blank, member(), "/gallery"),
        (&busy, admin(), "/"),
        (&busy, admin(), "/?from=img-1"),
        (&busy, admin(), "/gallery"),
        (&busy, admin(), "/gallery?after=40"),
        (&busy, admin(), "/gallery?after=nonsense"),
        (&busy, admin(), "/gallery/img-1"),
        (&busy, admin(), "/gallery?q=nothing&model=x"),
        (&blank, member(), "/collections"),
        (&busy, member(), "/collections"),
        (&blank, member(), "/trash"),
        (&busy, admin(), "/trash"),
        (&busy, admin(), "/compare?a=img-1&b=img-1"),
        (&busy, None, "/s/good"),
        (&busy, None, "/s/bare"),
        (&busy, admin(), "/s/nothing"),
        (&busy, admin(), "/account"),
        (&busy, admin(), "/admin"),
        (&busy, admin(), "/admin/models"),
        (&busy, admin(), "/admin/queue"),
        (&blank, admin(), "/admin/queue?state=ended"),
        (&busy, admin(), "/admin/settings"),
        (&busy, admin(), "/admin/backups"),
        (&blank, admin(), "/admin/backups"),
        (&busy, admin(), "/admin/people"),
        (&busy, admin(), "/admin/people/2"),
        (&busy, admin(), "/admin/people/2/images"),
        (&busy, admin(), "/admin/audit?act=user"),
        (&busy, admin(), "/admin/usage"),
        (&busy, admin(), "/admin/usage?days=365&user=2"),
        (&blank, admin(), "/admin/usage?days=7"),
        (&limited, member(), "/"),
        (&limited, member(), "/account"),
        (&limited, admin(), "/admin/people/2"),
        (&busy, None, "/join/open-sesame"),
        (&busy, None, "/join/wrong"),
        (&busy, None, "/sign-up"),
        (&busy, None, "/sign-in/code"),
        (&busy, None, "/reset/open-sesame"),
        (&busy, None, "/reset/wrong"),
        (&busy, member(), "/admin"),
        (&busy, member(), "/nowhere"),
    ] {
        pages.push((path, get(house, viewer, path).await));
    }
    pages
}

pub(super) fn with<'a>(tags: &'a [Tag], name: &str) -> Vec<&'a Tag> {
    tags.iter().filter(|tag| tag.name == name).collect()
}

#[tokio::test]
async fn statuses_say_what_the_page_is() {
    let house = busy();
    for (viewer, path, status) in [
        (admin(), "/", 200),
        (admin(), "/gallery", 200),
        (admin(), "/gallery/img-1", 200),
        (admin(), "/gallery/img-2", 404),
        (admin(), "/admin", 200),
        (member(), "/admin", 403),
        (admin(), "/admin/people", 200),
        (admin(), "/admin/people/2", 200),
        (admin(), "/admin/people/99", 404),
        (admin(), "/admin/people/x", 404),
        (admin(), "/admin/audit", 200),
        (member(), "/admin/people", 403),
        (admin(), "/admin/queue", 200),
        (member(), "/admin/queue", 403),
        (member(), "/admin/models", 403),
        (member(), "/admin/settings", 403),
        (member(), "/admin/backups", 403),
        (member(), "/admin/people/2", 403),
        (member(), "/admin/audit", 403),
        (admin(), "/admin/people/2/images", 200),
        (member(), "/admin/people/2/images", 403),
        (admin(), "/admin/usage", 200),
        (admin(), "/admin/usage?days=365&user=2", 200),
        (admin(), "/admin/usage?user=99", 404),
        (admin(), "/admin/usage?user=x", 404),
        (member(), "/admin/usage", 403),
        (None, "/join/open-sesame", 200),
        (None, "/join/wrong", 404),
        (None, "/sign-up", 200),
        (None, "/sign-in/code", 200),
        (None, "/reset/open-sesame", 200),
        (None, "/reset/wrong", 404),
        (member(), "/account", 200),
        (member(), "/nowhere", 404),
    ] {
        assert_eq!(get(&house, viewer, path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn nobody_is_sent_to_the_door() {
    let house = busy();
    let redirect = |house: Arc<House>, viewer: Option<Viewer>, path: &'static str| async move {
        let page = get(&house, viewer, path).await;
        (page.status, page.location.unwrap_or_default())
    };
    for (path, door) in [
        ("/", "/sign-in"),
        ("/gallery", "/sign-in?next=%2Fgallery"),
        ("/gallery?after=7", "/sign-in?next=%2Fgallery%3Fafter%3D7"),
        ("/admin", "/sign-in?next=%2Fadmin"),
    ] {
        assert_eq!(
            redirect(house.clone(), None, path).await,
            (302, door.into()),
            "{path}"
        );
    }
    let empty = Arc::new(House {
        is_empty: true,
        ..House::default()
    });
    assert_eq!(
        redirect(empty.clone(), None, "/sign-in").await,
        (302, "/setup".into())
    );
    // Guests may be there before any administrator: they get past the setup page.
    let guest = get(&empty, None, "/sign-in?from=setup").await;
    assert_eq!((guest.status, guest.location), (200, None));
    assert_eq!(
        redirect(house.clone(), None, "/setup").await,
        (302, "/sign-in".into())
    );
    assert_eq!(
        redirect(house, member(), "/sign-in?next=//evil.example").await,
        (302, "/".into())
    );
}

#[tokio::test]
async fn what_people_write_never_becomes_markup() {
    for (path, page) in every_page().await {
        let tags = tags(&page.html);
        assert!(
            !tags.iter().any(|tag| tag.get("onerror").is_some()),
            "{path}: an attribute from a prompt"
        );
        for script in with(&tags, "script") {
            assert!(
                script.get("nonce").is_some_and(|nonce| !nonce.is_empty()),
                "{path}: a script without a nonce: {script:?}"
            );
        }
        // As text it is there, escaped; as itself it is nowhere outside our own scripts' strings,
        // where `<` is written as an escape.
        assert!(!page.html.contains("<script>window.__x"), "{path}");
        assert!(!page.html.contains("<img src=x"), "{path}");
    }
    let studio = get(&busy(), admin(), "/?from=img-1").await;
    assert!(
        studio
            .html
            .contains("&lt;/textarea&gt;&lt;script&gt;window.__x=1"),
        "the prompt is in its text area, escaped"
    );
}

#[tokio::test]
async fn the_security_policy_finds_nothing_to_refuse() {
    for (path, page) in every_page().await {
        for tag in tags(&page.html) {
            assert!(tag.get("style").is_none(), "{path}: {tag:?}");
            assert!(
                !tag.attributes
                    .iter()
                    .any(|(name, _)| name.starts_with("on")),
                "{path}: an inline handler: {tag:?}"
            );
            if tag.name == "link" || tag.name == "script" || tag.name == "img" || tag.name == "form"
            {
                for name in ["href", "src", "action"] {
                    let address = tag.get(name).unwrap_or("/");
                    assert!(
                        address.starts_with('/') || address.starts_with("data:image/"),
                        "{path}: asks another site: {tag:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn every_control_has_a_name_and_every_id_is_one() {
    for (path, page) in every_page().await {
        let tags = tags(&page.html);
        let labelled: HashSet<&str> = with(&tags, "label")
            .iter()
            .filter_map(|label| label.get("for"))
            .collect();
        for tag in &tags {
            let is_control = ["input", "textarea", "select"].contains(&tag.name.as_str());
            if is_control && tag.get("type") != Some("hidden") {
                assert!(
                    tag.get("aria-label").is_some()
                        || tag.get("id").is_some_and(|id| labelled.contains(id)),
                    "{path}: no label: {tag:?}"
                );
            }
            if tag.name == "img" {
                assert!(tag.get("alt").is_some(), "{path}: no alt: {tag:?}");
                assert!(
                    tag.get("width").is_some() && tag.get("height").is_some(),
                    "{path}: the page will jump when it arrives: {tag:?}"
                );
            }
        }
        let ids: Vec<&str> = tags.iter().filter_map(|tag| tag.get("id")).collect();
        let distinct: HashSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), distinct.len(), "{path}: an id twice: {ids:?}");
        for tag in &tags {
            for name in ["for", "aria-describedby", "aria-labelledby"] {
                // A description may be made of several.
                for id in tag.get(name).into_iter().flat_map(str::split_whitespace) {
                    assert!(distinct.contains(id), "{path}: {name}={id} leads nowhere");
                }
            }
        }
        assert_eq!(with(&tags, "h1").len(), 1, "{path}: one main heading");
        // Pictures have titles too; the page's own is in its head.
        let head = page.html.split("</head>").next().unwrap();
        assert_eq!(head.matches("<title").count(), 1, "{path}: one title");
    }
}

#[tokio::test]
async fn a_running_job_is_in_the_page_that_is_sent() {
    let page = get(&busy(), admin(), "/").await;
    assert!(page.html.contains("Step 7 of 20"), "the phase");
    assert!(page.html.contains("about 2.5 s left"), "the time left");
    assert!(
        page.html.contains("data:image/png;base64,AAAA"),
        "the preview"
    );
    assert!(page.html.contains("2 images go first"), "the waiting job");
    let tags = tags(&page.html);
    let bar = with(&tags, "progress");
    assert_eq!(bar[0].get("value"), Some("0.3500"));
}

#[tokio::test]
async fn the_gallery_pages_by_links() {
    let first = get(&busy(), member(), "/gallery").await;
    let first = tags(&first.html);
    let tiles = |tags: &[Tag]| {
        tags.iter()
            .filter(|tag| {
                tag.get("class")
                    .is_some_and(|class| class.starts_with("tile ratio-"))
            })
            .count()
    };
    assert_eq!(tiles(&first), 40);
    assert!(
        first
            .iter()
            .any(|tag| tag.get("href") == Some("/gallery?after=40"))
    );
    let last = get(&busy(), member(), "/gallery?after=40").await;
    let last = tags(&last.html);
    assert_eq!(tiles(&last), 1);
    assert!(
        !last
            .iter()
            .any(|tag| tag.get("href").is_some_and(|href| href.contains("after=")))
    );
}

#[tokio::test]
async fn a_shared_image_is_all_that_its_page_shows() {
    let page = get(&busy(), None, "/s/bare").await;
    assert_eq!(page.status, 200);
    assert!(page.html.contains("/s/bare/image.png"));
    assert!(page.html.contains("noindex"));
    for secret in [HOSTILE, "/gallery", "/account", "img-1"] {
        assert!(!page.html.contains(secret), "{secret}");
    }
    assert_eq!(get(&busy(), None, "/s/nothing").await.status, 404);
    let with_settings = get(&busy(), None, "/s/good").await;
    assert!(with_settings.html.contains("18446744073709551615"));
}

#[tokio::test]
async fn a_search_stays_in_the_address_and_in_the_form() {
    let page = get(&busy(), member(), "/gallery?q=red%20car&month=2026-11").await;
    let tags = tags(&page.html);
    let field = |name: &str| {
        tags.iter()
            .find(|tag| tag.get("name") == Some(name))
            .unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(field("q").get("value"), Some("red car"));
    let next = tags.iter().filter_map(|tag| tag.get("href"));
    let next: Vec<&str> = next.filter(|href| href.contains("after=")).collect();
    assert_eq!(next, ["/gallery?q=red%20car&month=2026-11&after=40"]);
    let chosen = tags
        .iter()
        .find(|tag| tag.name == "option" && tag.get("value") == Some("2026-11"))
        .unwrap();
    assert!(chosen.get("selected").is_some());
    // What nothing has is no reason for an empty page.
    let none = get(&busy(), member(), "/gallery?q=nothing").await;
    assert!(none.html.contains("No image has all of that."));
}

#[tokio::test]
async fn an_image_from_the_gallery_fills_the_studio() {
    let page = get(&busy(), member(), "/?from=img-1").await;
    let tags = tags(&page.html);
    let value = |name: &str| {
        tags.iter()
            .find(|tag| tag.name == "input" && tag.get("name") == Some(name))
            .and_then(|tag| tag.get("value"))
            .map(str::to_owned)
    };
    assert_eq!(value("seed").as_deref(), Some("18446744073709551615"));
    assert_eq!(value("num_inference_steps").as_deref(), Some("20"));
    assert_eq!(value("width").as_deref(), Some("128"));
    assert_eq!(value("height").as_deref(), Some("96"));
    // What the address says besides goes first: a variation has another seed.
    let page = get(&busy(), member(), "/?from=img-1&seed=&width=256").await;
    let tags = super::html::tags(&page.html);
    let value = |name: &str| {
        tags.iter()
            .find(|tag| tag.name == "input" && tag.get("name") == Some(name))
            .and_then(|tag| tag.get("value"))
            .map(str::to_owned)
    };
    assert_eq!(value("seed").unwrap_or_default(), "");
    assert_eq!(value("width").as_deref(), Some("256"));
    assert_eq!(value("height").as_deref(), Some("96"));
}

/// What a page says, without its tags; what is glued together by markup is glued here.
pub(super) fn words_of(html: &str) -> String {
    let body = html.split("<body>").nth(1).unwrap_or(html);
    let mut text = String::new();
    let mut inside = false;
    for part in body.replace("<!>", "").chars() {
        match part {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => text.push(part),
            _ => {}
        }
    }
    text.replace("&#x27;", "'").replace("&quot;", "\"")
}

#[tokio::test]
async fn the_admin_page_tells_the_whole_story_of_a_device() {
    let page = get(&busy(), admin(), "/admin").await;
    let text = words_of(&page.html);
    for words in [
        "Running on the CPU, because the GPU failed a check.",
        // The error by its name, when it came, what was found and what was built for.
        "CUDA_ERROR_NO_BINARY_FOR_GPU (209)",
        "in conv2d 3×3 in bf16",
        "no kernel image is available for execution on the device",
        "Architecture found12.0",
        "Built for8.0, 8.6, 9.0",
        "What to do: Install the build for compute capability 12.0.",
        // States and since when; what rests says until when.
        "Not usable",
        "In use",
        "Resting",
        "It is tested again in 3 min.",
        "In usefor 2 h",
        // Every check with its numbers, by number format.
        "f32all 2 checks passed",
        "bf161 of 2 checks failed",
        "13.1 ms",
        "0.0004",
        // Speed.
        "31.2 TFLOP/s",
        "0.187 s",
        // Workers, and the program for GPUs.
        "restarting (crashed: signal 11)",
        "stands by",
        "3.0 GiB",
        "It carries 8.0, 8.6 and 9.0.",
        // What happened, newest first.
        "Worker ended",
        "Went on otherwise",
        "5 min ago",
        "Cooled down",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let at = |words: &str| text.find(words).unwrap();
    assert!(at("Worker ended") < at("Cooled down"), "newest first");
    // When exactly is told on hover, and to machines.
    assert!(page.html.contains("title=\"2026-11-24 16:29 UTC\""));
    let tags = tags(&page.html);
    let open = |class: &str| -> Vec<bool> {
        let folds = tags.iter().filter(|tag| tag.get("class") == Some(class));
        folds.map(|fold| fold.get("open").is_some()).collect()
    };
    assert_eq!(
        open("check-group"),
        [false, true, false],
        "open where something failed"
    );
    let tests: Vec<&str> = with(&tags, "button")
        .into_iter()
        .filter_map(|button| button.get("aria-label"))
        .filter(|label| label.starts_with("Test again: "))
        .collect();
    assert_eq!(tests.len(), 3, "each device can be tested again: {tests:?}");
}

#[tokio::test]
async fn numbers_and_plots_are_there_without_wasm() {
    let page = get(&busy(), admin(), "/admin?span=3600").await;
    let text = words_of(&page.html);
    for words in [
        "Memory9.0 GiB of 32.0 GiB, 28 %",
        "Load37 % of its cores",
        "Temperature61 °C",
        "Step time0.19 s",
        "60 min ago",
        "Measured every 5 s",
        "of the last ten seconds: for a core 12 %, for memory 0 %.",
        "the driver says GPU is lost",
        "GPUs are read through nvidia-smi",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let tags = tags(&page.html);
    let plots: Vec<&str> = with(&tags, "svg")
        .into_iter()
        .filter(|svg| svg.get("role") == Some("img"))
        .filter_map(|svg| svg.get("aria-label"))
        .collect();
    assert!(
        plots.contains(&"Memory over the last 60 min: between 8.0 GiB and 9.0 GiB, latest 9.0 GiB"),
        "{plots:?}"
    );
    let chosen = tags.iter().find(|tag| {
        tag.get("aria-current") == Some("true") && tag.get("href") == Some("/admin?span=3600")
    });
    assert!(chosen.is_some(), "the hour is marked");
}

#[tokio::test]
async fn what_the_command_line_fixes_is_shown_and_cannot_be_chosen() {
    let page = get(&busy(), admin(), "/admin").await;
    let tags = tags(&page.html);
    let select = |name: &str| {
        let found = with(&tags, "select")
            .into_iter()
            .find(|tag| tag.get("name") == Some(name));
        found.unwrap().clone()
    };
    assert!(select("precision").get("disabled").is_some());
    assert!(select("device").get("disabled").is_none());
    let sent = with(&tags, "input")
        .into_iter()
        .find(|tag| tag.get("name") == Some("precision"));
    assert_eq!(sent.unwrap().get("value"), Some("bf16"));
    // Every GPU can be chosen, and what was chosen before a GPU went is still there.
    let values: Vec<&str> = with(&tags, "option")
        .into_iter()
        .filter_map(|option| option.get("value"))
        .collect();
    for value in [
        "auto",
        "cpu",
        "cuda:0",
        "cuda:1",
        "cuda:0,cuda:1",
        "cuda:7",
        "600",
    ] {
        assert!(values.contains(&value), "{value}: {values:?}");
    }
}

#[tokio::test]
async fn the_studio_says_what_it_runs_on_and_why() {
    let page = get(&busy(), member(), "/").await;
    let tags = tags(&page.html);
    let fold = tags
        .iter()
        .find(|tag| tag.get("class") == Some("device-status"));
    assert_eq!(fold.map(|tag| tag.name.as_str()), Some("details"));
    let text = words_of(&page.html);
    assert!(text.contains("CPU · 2 cores · f32Why?"), "{text}");
    assert!(text.contains("compute capability 12.0; this build carries 8.0–9.0."));
}

#[tokio::test]
async fn an_images_page_tells_what_it_was_made_on() {
    let page = get(&busy(), member(), "/gallery/img-1").await;
    let text = words_of(&page.html);
    for words in [
        "DeviceCPU · f32",
        "Why not the GPUNo driver.",
        "On the way",
        "cuda:0: out of memory while decoding the image. decoded in tiles.",
        "Time: 4.6 s in all",
        "Denoising3.0 s",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    // An image of before these were written down.
    let page = get(&busy(), member(), "/gallery/img-old").await;
    let text = words_of(&page.html);
    assert!(
        !text.contains("On the way") && !text.contains("Why not the GPU"),
        "{text}"
    );
    assert!(
        text.contains("How long its parts took was not written down."),
        "{text}"
    );
    assert!(text.contains("Devicenot written down"), "{text}");
}
