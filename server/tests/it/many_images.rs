//! A gallery with many images of many people, and the questions that people ask it, timed. The test
//! of a few thousand and the measurement of a hundred thousand (`examples/gallery_scale.rs`) share it.

use atelier_app::account::{Role, UserId, Viewer};
use atelier_app::backend::Gallery as _;
use atelier_app::gallery::{CollectionAct, ImageAct, ImageQuery, PhaseTimings};
use atelier_app::studio::Settings;
use atelier_server::config::{self, Command};
use atelier_server::db::Db;
use atelier_server::gallery::metadata::{dominant_colour, write_png};
use atelier_server::gallery::{Facts, GalleryService};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Numbers that are the same in every run (PCG, XSH-RR).
pub struct Dice(u64);

impl Dice {
    /// Dice that begin here.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to before `below`.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (((self.0 >> 18) ^ self.0) >> 27) as u32;
        let rolled = mixed.rotate_right((self.0 >> 59) as u32);
        ((u64::from(rolled) * below as u64) >> 32) as usize
    }

    /// Small numbers far more often than large ones, as words in a language are.
    pub fn common(&mut self, below: usize) -> usize {
        let share = self.roll(1 << 20) as f64 / f64::from(1 << 20);
        (((below as f64).ln() * share).exp() as usize).min(below) - 1
    }
}

/// A word of a made-up language.
pub fn word(number: usize) -> String {
    const PARTS: [&str; 20] = [
        "ka", "lo", "mi", "ne", "ru", "sa", "to", "vi", "ze", "ba", "do", "fe", "gi", "hu", "ja",
        "pe", "qui", "ra", "so", "tu",
    ];
    let mut word = String::new();
    let mut rest = number + 21;
    while rest > 0 {
        word.push_str(PARTS[rest % 20]);
        rest /= 20;
    }
    word
}

/// One of the people, from 1.
pub fn user(number: usize) -> Viewer {
    Viewer {
        id: UserId(number as i64),
        name: format!("user{number}"),
        role: Role::Member,
    }
}

/// The gallery of a data folder.
pub async fn open(dir: &Path) -> (Db, Arc<GalleryService>) {
    let words = [
        "atelier",
        "serve",
        "--data-dir",
        dir.to_str().expect("a plain path"),
    ];
    let Command::Serve(config) = config::parse(words.iter().map(Into::into))
        .expect("it is right")
        .command
    else {
        unreachable!("it is serve")
    };
    let db = Db::open(&dir.join("atelier.db")).await.expect("a database");
    let gallery = GalleryService::open(db.clone(), &config)
        .await
        .expect("a gallery");
    (db, gallery)
}

/// Puts so many images of so many people into an empty gallery; the first has the most of them.
/// One that was filled before stays as it is.
pub async fn fill(db: &Db, gallery: &GalleryService, images: usize, users: usize) {
    let there: i64 = sqlx::query_scalar("select count(*) from image")
        .fetch_one(db.read())
        .await
        .unwrap();
    if there as usize >= images {
        return;
    }
    assert_eq!(there, 0, "the folder holds other images; name an empty one");
    let sizes = [
        (1024, 1024),
        (1152, 896),
        (896, 1152),
        (1344, 768),
        (768, 1344),
        (512, 512),
    ];
    let files: Vec<_> = (0..24_u32)
        .map(|number| {
            let (width, height) = sizes[number as usize % sizes.len()];
            let image = image::RgbImage::from_fn(width / 8, height / 8, |x, y| {
                let shade = |by: u32| ((x * by + y * (by ^ 5) + number * 37) % 200) as u8 + 30;
                image::Rgb([shade(1), shade(number % 5), shade(3)])
            });
            let bytes = write_png(&image, &Settings::default(), &Facts::default()).unwrap();
            (
                gallery.files().put(&bytes).unwrap(),
                bytes.len(),
                dominant_colour(&image),
            )
        })
        .collect();
    let mut dice = Dice::new(1);
    let mut write = db.write().await.unwrap();
    for number in 1..=users {
        sqlx::query(
            "insert into user (id, name, role, password_hash, created_at) values (?, ?, ?, '-', 0)",
        )
        .bind(number as i64)
        .bind(user(number).name)
        .bind(if number == 1 { "admin" } else { "member" })
        .execute(&mut *write)
        .await
        .unwrap();
    }
    let mut prompt = String::new();
    for number in 0..images {
        let owner = dice.common(users) + 1;
        // People change a word and try again.
        if number % 4 == 0 {
            let length = 8 + dice.roll(30);
            let words: Vec<String> = (0..length).map(|_| word(dice.common(4000))).collect();
            prompt = words.join(" ");
        }
        let (width, height) = sizes[number % sizes.len()];
        let settings = Settings {
            prompt: format!("{prompt} {}", word(dice.common(4000))),
            negative_prompt: Some("blurry, lowres, bad anatomy".into()),
            num_inference_steps: 30,
            guidance_scale: 6.0,
            width,
            height,
            seed: number as u64,
            model: format!("model-{}", dice.common(6)),
            ..Settings::default()
        };
        let facts = Facts {
            scheduler: ["Euler", "Euler a", "DPM++ 2M Karras", "UniPC"][dice.roll(4)].into(),
            device: ["cpu", "cuda:0"][dice.roll(2)].into(),
            dtype: "f32".into(),
            timings: PhaseTimings::default(),
            version: Facts::VERSION.into(),
            ..Facts::default()
        };
        // Two years, evenly.
        let at = 1_735_689_600_000 + (number as i64) * (2 * 365 * 86_400_000 / images as i64);
        let (job, id) = (
            uuid::Uuid::now_v7().to_string(),
            uuid::Uuid::now_v7().to_string(),
        );
        let settings_json = serde_json::to_string(&settings).unwrap();
        sqlx::query("insert into job (id, user_id, state, settings, created_at) values (?, ?, 'done', ?, ?)")
            .bind(&job)
            .bind(owner as i64)
            .bind(&settings_json)
            .bind(at)
            .execute(&mut *write)
            .await
            .unwrap();
        let (hash, bytes, colour) = &files[number % files.len()];
        sqlx::query(
            "insert into image (id, job_id, user_id, sha256, bytes, width, height, dominant_colour, \
             prompt, settings, facts, created_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&id)
        .bind(&job)
        .bind(owner as i64)
        .bind(hash.as_str())
        .bind(*bytes as i64)
        .bind(width)
        .bind(height)
        .bind(colour)
        .bind(&settings.prompt)
        .bind(&settings_json)
        .bind(serde_json::to_string(&facts).unwrap())
        .bind(at)
        .execute(&mut *write)
        .await
        .unwrap();
        if number % 20 == 0 {
            sqlx::query("update image set favourite = 1, rating = 1 + ? % 5 where id = ?")
                .bind(number as i64 / 20)
                .bind(&id)
                .execute(&mut *write)
                .await
                .unwrap();
        }
    }
    write.commit().await.unwrap();
}

/// Makes a shared collection of a third of what the first user has, at most 5000 images; answers its id.
pub async fn collect(gallery: &GalleryService) -> String {
    let viewer = user(1);
    let act = CollectionAct::Create {
        name: format!("A third {}", uuid::Uuid::now_v7()),
        shared: true,
    };
    let made = gallery
        .change_collection(&viewer, act)
        .await
        .unwrap()
        .unwrap();
    let all = gallery
        .image_ids(&viewer, &ImageQuery::default(), None, 5000)
        .await
        .unwrap();
    let third: Vec<_> = all.into_iter().step_by(3).collect();
    gallery
        .act(&viewer, &third, ImageAct::Collect(made.id.clone()))
        .await
        .unwrap();
    made.id.0
}

/// What somebody could ask for: words for the question, and the question.
pub fn question(
    dice: &mut Dice,
    kind: usize,
    images: usize,
    collection: &str,
) -> (&'static str, ImageQuery) {
    let one = |name: &str, value: String| {
        ImageQuery::from_lookup(|field| (field == name).then(|| value.clone()))
    };
    match kind {
        0 => ("everything", ImageQuery::default()),
        1 => ("common words", one("q", word(dice.common(20)))),
        2 => {
            let words = format!("{} {}", word(dice.common(4000)), word(dice.common(4000)));
            ("rare words", one("q", words))
        }
        3 => (
            "a letter",
            one("q", ["k", "l", "b", "q"][dice.roll(4)].into()),
        ),
        4 => (
            "a word left out",
            one("q", format!("-{}", word(dice.common(4000)))),
        ),
        5 => {
            let mut narrow = one("model", format!("model-{}", dice.roll(6)));
            narrow.month = format!("2026-{:02}", dice.roll(12) + 1);
            ("a model and a month", narrow)
        }
        6 => ("favourites", one("favourite", "1".into())),
        7 => (
            "a shared collection",
            one("collection", collection.to_owned()),
        ),
        _ => ("a seed", one("seed", dice.roll(images).to_string())),
    }
}

/// How many kinds of question there are.
pub const KINDS: usize = 9;

/// Asks everything so many times, one question after the other, and tells how long answers took.
pub async fn ask(
    gallery: &GalleryService,
    images: usize,
    users: usize,
    times: usize,
) -> BTreeMap<String, Vec<f64>> {
    let mut dice = Dice::new(7);
    let mut taken: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let collection = collect(gallery).await;
    let mut note = |what: &str, of: &str, began: Instant| {
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        taken.entry(format!("{what}: {of}")).or_default().push(ms);
    };
    for _ in 0..times {
        // The first user has the most images, and is asked for most often.
        let viewer = user(dice.common(users) + 1);
        for kind in 0..KINDS {
            let (words, query) = question(&mut dice, kind, images, &collection);
            let began = Instant::now();
            let page = gallery.find_images(&viewer, &query, None, 100).await;
            note("page", words, began);
            let page = page.unwrap();
            assert!(page.total <= images as u64 && page.images.len() <= 100);
            let began = Instant::now();
            let facets = gallery.facets(&viewer, &query).await;
            note("facets", words, began);
            assert!(
                page.total == 0 || !facets.unwrap().months.is_empty(),
                "{words}"
            );
            let began = Instant::now();
            let outline = gallery.outline(&viewer, &query, None).await;
            note("outline", words, began);
            let outlined = outline.unwrap().shapes.len() as u64;
            assert!(page.more || outlined == page.total, "{words}");
        }
        let somewhere = (dice.roll(images) + 1).to_string();
        let began = Instant::now();
        let page = gallery
            .find_images(&viewer, &ImageQuery::default(), Some(&somewhere), 100)
            .await;
        note("page", "anywhere", began);
        page.unwrap();
    }
    taken
}

/// The middle one and the one in a hundred.
pub fn median_and_p99(taken: &mut [f64]) -> (f64, f64) {
    taken.sort_by(f64::total_cmp);
    let at = |share: f64| taken[((taken.len() as f64 * share) as usize).min(taken.len() - 1)];
    (at(0.5), at(0.99))
}
