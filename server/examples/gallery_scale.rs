//! The gallery with a hundred thousand images of fifty people: makes such a data folder, asks it
//! what people ask, and says how long the answers took. Fails when one in a hundred takes longer
//! than 50 ms.
//!
//! ```sh
//! cargo run --release --locked -p atelier --example gallery_scale -- DIR [IMAGES [USERS]]
//! ```
//!
//! The folder can be served afterwards: `atelier serve --data-dir DIR`, after
//! `atelier user set-password user1 --data-dir DIR`. The images share a few files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for people who measure: it stops where something is wrong"
)]

use atelier_app::account::{Role, UserId, Viewer};
use atelier_app::backend::Gallery as _;
use atelier_app::gallery::{CollectionAct, ImageAct, ImageQuery, PhaseTimings};
use atelier_app::studio::Settings;
use atelier_server::config::{self, Command};
use atelier_server::db::Db;
use atelier_server::gallery::metadata::{dominant_colour, write_png};
use atelier_server::gallery::{Facts, GalleryService};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What one answer in a hundred may take.
const BAR_MS: f64 = 50.0;
/// How often each question is asked.
const ASKED: usize = 200;

/// Numbers that are the same in every run (PCG, XSH-RR).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (((self.0 >> 18) ^ self.0) >> 27) as u32;
        let rolled = mixed.rotate_right((self.0 >> 59) as u32);
        ((u64::from(rolled) * below as u64) >> 32) as usize
    }

    /// Small numbers far more often than large ones, as words in a language are.
    fn common(&mut self, below: usize) -> usize {
        let share = self.roll(1 << 20) as f64 / f64::from(1 << 20);
        (((below as f64).ln() * share).exp() as usize).min(below) - 1
    }
}

fn word(number: usize) -> String {
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

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("DIR [IMAGES [USERS]]"));
    let images: usize = arguments
        .next()
        .map_or(100_000, |n| n.parse().expect("a number"));
    let users: usize = arguments
        .next()
        .map_or(50, |n| n.parse().expect("a number"));
    std::fs::create_dir_all(&dir).expect("the folder can be made");
    let db = Db::open(&dir.join("atelier.db")).await.expect("a database");
    let gallery = GalleryService::open(db.clone(), &serve_config(&dir))
        .await
        .expect("a gallery");
    let began = Instant::now();
    fill(&db, &gallery, images, users).await;
    println!(
        "{images} images of {users} people: made in {:.1} s",
        began.elapsed().as_secs_f64()
    );

    let mut dice = Dice(7);
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let collection = {
        let viewer = user(1);
        let act = CollectionAct::Create {
            name: format!("Half {}", Instant::now().elapsed().as_nanos()),
            shared: true,
        };
        let made = gallery
            .change_collection(&viewer, act)
            .await
            .unwrap()
            .unwrap();
        let mut after = None;
        // A third of what user 1 has, at most 5000.
        let mut ids = Vec::new();
        while let Ok(page) = gallery.list_images(&viewer, after.as_deref(), 100).await {
            ids.extend(page.images.into_iter().step_by(3).map(|card| card.id));
            after = page.next;
            if after.is_none() || ids.len() > 4900 {
                break;
            }
        }
        gallery
            .act(&viewer, &ids, ImageAct::Collect(made.id.clone()))
            .await
            .unwrap();
        made.id.0
    };
    for _ in 0..ASKED {
        // The first user has the most images, and is asked for most often.
        let viewer = user(dice.common(users) + 1);
        let one = |name: &str, value: String| {
            ImageQuery::from_lookup(|field| (field == name).then(|| value.clone()))
        };
        let everything = ImageQuery::default();
        let first = time(
            &mut times,
            "page: first",
            gallery.find_images(&viewer, &everything, None, 100),
        )
        .await;
        let total = first.unwrap().total.max(1);
        let somewhere = dice.roll(images) + 1;
        let deep = somewhere.to_string();
        let _ = time(
            &mut times,
            "page: anywhere",
            gallery.find_images(&viewer, &everything, Some(&deep), 100),
        )
        .await
        .unwrap();
        let _ = time(
            &mut times,
            "facets: of everything",
            gallery.facets(&viewer, &everything),
        )
        .await
        .unwrap();
        let common = one("q", word(dice.common(20)));
        let rare = one(
            "q",
            format!("{} {}", word(dice.common(4000)), word(dice.common(4000))),
        );
        let prefix = one("q", "k".into());
        let left_out = one("q", format!("-{}", word(dice.common(4000))));
        for (name, query) in [
            ("common words", &common),
            ("rare words", &rare),
            ("a letter", &prefix),
            ("a word left out", &left_out),
        ] {
            let (search, facets) = match name {
                "common words" => ("search: common words", "facets: of common words"),
                "rare words" => ("search: rare words", "facets: of rare words"),
                "a letter" => ("search: a letter", "facets: of a letter"),
                _ => ("search: a word left out", "facets: of a word left out"),
            };
            time(
                &mut times,
                search,
                gallery.find_images(&viewer, query, None, 100),
            )
            .await
            .unwrap();
            time(&mut times, facets, gallery.facets(&viewer, query))
                .await
                .unwrap();
        }
        let mut narrow = one("model", format!("model-{}", dice.roll(6)));
        narrow.month = format!("2026-{:02}", dice.roll(12) + 1);
        time(
            &mut times,
            "page: model and month",
            gallery.find_images(&viewer, &narrow, None, 100),
        )
        .await
        .unwrap();
        time(
            &mut times,
            "facets: model and month",
            gallery.facets(&viewer, &narrow),
        )
        .await
        .unwrap();
        let marked = one("favourite", "1".into());
        time(
            &mut times,
            "page: favourites",
            gallery.find_images(&viewer, &marked, None, 100),
        )
        .await
        .unwrap();
        let inside = one("collection", collection.clone());
        time(
            &mut times,
            "page: a shared collection",
            gallery.find_images(&viewer, &inside, None, 100),
        )
        .await
        .unwrap();
        time(
            &mut times,
            "facets: a shared collection",
            gallery.facets(&viewer, &inside),
        )
        .await
        .unwrap();
        let seed = one("seed", (dice.roll(images) as u64).to_string());
        time(
            &mut times,
            "page: a seed",
            gallery.find_images(&viewer, &seed, None, 100),
        )
        .await
        .unwrap();
        assert!(total <= images as u64);
    }
    let mut slow = false;
    println!("{:<30} {:>9} {:>9} {:>9}", "ms", "median", "p99", "longest");
    for (name, mut taken) in times {
        taken.sort_by(f64::total_cmp);
        let at = |share: f64| taken[((taken.len() as f64 * share) as usize).min(taken.len() - 1)];
        let (median, p99, most) = (at(0.5), at(0.99), taken[taken.len() - 1]);
        println!("{name:<30} {median:>9.2} {p99:>9.2} {most:>9.2}");
        slow |= p99 > BAR_MS;
    }
    if slow {
        eprintln!("error: one answer in a hundred takes longer than {BAR_MS} ms");
        std::process::exit(1);
    }
}

async fn time<T>(
    times: &mut BTreeMap<&'static str, Vec<f64>>,
    name: &'static str,
    question: impl Future<Output = T>,
) -> T {
    let began = Instant::now();
    let answer = question.await;
    times
        .entry(name)
        .or_default()
        .push(began.elapsed().as_secs_f64() * 1000.0);
    answer
}

fn user(number: usize) -> Viewer {
    Viewer {
        id: UserId(number as i64),
        name: format!("user{number}"),
        role: Role::Member,
    }
}

fn serve_config(dir: &Path) -> config::ServeConfig {
    let words = [
        "atelier",
        "serve",
        "--data-dir",
        dir.to_str().expect("a plain path"),
    ];
    match config::parse(words.iter().map(Into::into))
        .expect("it is right")
        .command
    {
        Command::Serve(config) => *config,
        _ => unreachable!("it is serve"),
    }
}

async fn fill(db: &Db, gallery: &GalleryService, images: usize, users: usize) {
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
    let mut dice = Dice(1);
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
