//! The gallery: whose an image is, pages that hold under change, and files that go with their rows.

use atelier_app::account::{Role, UserId, Viewer};
use atelier_app::backend::Gallery as _;
use atelier_app::error::AppError;
use atelier_app::gallery::{ImageAct, ImageId, PhaseTimings};
use atelier_app::studio::Settings;
use atelier_server::config::{self, Command, ServeConfig};
use atelier_server::db::{Db, now_ms};
use atelier_server::gallery::metadata::{dominant_colour, write_png};
use atelier_server::gallery::{Facts, GalleryService, ImageHash, Rendition};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A data folder with three users in it: images are put there as the worker does it.
pub struct Home {
    pub dir: tempfile::TempDir,
    pub db: Db,
    pub gallery: Arc<GalleryService>,
}

pub fn alice() -> Viewer {
    viewer(1, "alice", Role::Member)
}

pub fn bob() -> Viewer {
    viewer(2, "bob", Role::Member)
}

pub fn root() -> Viewer {
    viewer(3, "root", Role::Admin)
}

fn viewer(id: i64, name: &str, role: Role) -> Viewer {
    Viewer {
        id: UserId(id),
        name: name.into(),
        role,
    }
}

fn config(dir: &Path) -> ServeConfig {
    let words = ["atelier", "serve", "--data-dir", dir.to_str().unwrap()];
    let cli = config::parse(words.iter().map(Into::into)).unwrap();
    let Command::Serve(config) = cli.command else {
        panic!("it is serve")
    };
    *config
}

impl Home {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("atelier.db")).await.unwrap();
        let mut write = db.write().await.unwrap();
        for viewer in [alice(), bob(), root()] {
            sqlx::query("insert into user (id, name, role, password_hash, created_at) values (?, ?, ?, '-', 0)")
                .bind(viewer.id.0)
                .bind(&viewer.name)
                .bind(viewer.role.as_str())
                .execute(&mut *write)
                .await
                .unwrap();
        }
        write.commit().await.unwrap();
        let gallery = GalleryService::open(db.clone(), &config(dir.path()))
            .await
            .unwrap();
        Self { dir, db, gallery }
    }

    /// A finished job with its image; `shade` decides the pixels.
    pub async fn add(&self, viewer: &Viewer, shade: u8) -> ImageId {
        self.add_file(viewer, &png(shade)).await
    }

    async fn add_file(&self, viewer: &Viewer, bytes: &[u8]) -> ImageId {
        self.add_made(viewer, bytes, settings(), facts(), now_ms())
            .await
    }

    /// As [`Home::add`], with everything said.
    pub async fn add_made(
        &self,
        viewer: &Viewer,
        bytes: &[u8],
        settings: Settings,
        facts: Facts,
        at: i64,
    ) -> ImageId {
        let hash = self.gallery.files().put(bytes).unwrap();
        let (job, image) = (
            uuid::Uuid::now_v7().to_string(),
            uuid::Uuid::now_v7().to_string(),
        );
        let (prompt, width, height) = (settings.prompt.clone(), settings.width, settings.height);
        let settings = serde_json::to_string(&settings).unwrap();
        let facts = serde_json::to_string(&facts).unwrap();
        let colour = dominant_colour(&image::load_from_memory(bytes).unwrap().into_rgb8());
        let mut write = self.db.write().await.unwrap();
        sqlx::query("insert into job (id, user_id, state, settings, created_at) values (?, ?, 'done', ?, 0)")
            .bind(&job)
            .bind(viewer.id.0)
            .bind(&settings)
            .execute(&mut *write)
            .await
            .unwrap();
        sqlx::query(
            "insert into image (id, job_id, user_id, sha256, bytes, width, height, dominant_colour, \
             prompt, settings, facts, created_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&image)
        .bind(&job)
        .bind(viewer.id.0)
        .bind(hash.as_str())
        .bind(i64::try_from(bytes.len()).unwrap())
        .bind(width)
        .bind(height)
        .bind(colour)
        .bind(prompt)
        .bind(settings)
        .bind(facts)
        .bind(at)
        .execute(&mut *write)
        .await
        .unwrap();
        write.commit().await.unwrap();
        ImageId(image)
    }

    pub fn file(&self, folder: &str, hash: &ImageHash, ending: &str) -> PathBuf {
        let hash = hash.as_str();
        self.dir
            .path()
            .join(folder)
            .join(&hash[..2])
            .join(format!("{hash}.{ending}"))
    }

    /// Makes a stored file look two minutes old: files younger than one outlive their rows.
    pub fn age(&self, hash: &ImageHash) {
        let path = self.file("img", hash, "png");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(120))
            .unwrap();
    }

    pub async fn hash(&self, viewer: &Viewer, id: &ImageId) -> ImageHash {
        self.gallery
            .find_file(viewer, id, Rendition::Original)
            .await
            .unwrap()
            .hash
    }
}

pub fn settings() -> Settings {
    Settings {
        prompt: "a red circle".into(),
        negative_prompt: None,
        num_inference_steps: 2,
        guidance_scale: 5.0,
        width: 600,
        height: 8,
        seed: 42,
        scheduler: None,
        model: "tiny".into(),
        ..Settings::default()
    }
}

pub fn facts() -> Facts {
    Facts {
        scheduler: "EulerDiscrete".into(),
        device: "cpu".into(),
        dtype: "f32".into(),
        fallback_reason: Some("no NVIDIA GPU was found".into()),
        rungs: Vec::new(),
        timings: PhaseTimings {
            total_s: 1.5,
            ..PhaseTimings::default()
        },
        step_s: vec![0.5, 0.25],
        notes: vec!["a note".into()],
        text_cached: false,
        model_fingerprint: None,
        version: Facts::VERSION.into(),
    }
}

pub fn png(shade: u8) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(600, 8, image::Rgb([shade, 0, 255]));
    write_png(&image, &settings(), &facts()).unwrap()
}

#[tokio::test]
async fn pages_are_newest_first_and_hold_while_images_come_and_go() {
    let home = Home::new().await;
    let mut made = Vec::new();
    for shade in 0..7 {
        made.push(home.add(&alice(), shade).await);
        home.add(&bob(), shade).await;
    }
    made.reverse();
    let page = home.gallery.list_images(&alice(), None, 3).await.unwrap();
    assert_eq!(page.total, 7);
    let ids = |page: &atelier_app::gallery::GalleryPage| -> Vec<ImageId> {
        page.images.iter().map(|card| card.id.clone()).collect()
    };
    assert_eq!(ids(&page), made[..3]);
    assert_eq!(page.images[0].dominant_colour, "#0600ff");

    // A newer one comes and the last one seen goes: the next page is what it would have been.
    home.add(&alice(), 99).await;
    home.gallery.delete_image(&alice(), &made[2]).await.unwrap();
    let page = home
        .gallery
        .list_images(&alice(), page.next.as_deref(), 3)
        .await
        .unwrap();
    assert_eq!(ids(&page), made[3..6]);
    let page = home
        .gallery
        .list_images(&alice(), page.next.as_deref(), 3)
        .await
        .unwrap();
    assert_eq!(ids(&page), made[6..]);
    assert_eq!(page.next, None);
    // Exactly full is not "more".
    let page = home.gallery.list_images(&alice(), None, 7).await.unwrap();
    assert_eq!((page.images.len(), page.next), (7, None));
}

#[tokio::test]
async fn cursors_and_limits_that_cannot_be_used_are_named() {
    let home = Home::new().await;
    for limit in [0, 101, u32::MAX] {
        let error = home
            .gallery
            .list_images(&alice(), None, limit)
            .await
            .unwrap_err();
        assert_eq!(error.field(), Some("limit"));
    }
    for cursor in [
        "",
        "-1",
        "+1",
        "99999999999999999999",
        "' or 1=1 --",
        "0190a5c0-0000-7000-8000-00000000000g",
    ] {
        let error = home
            .gallery
            .list_images(&alice(), Some(cursor), 10)
            .await
            .unwrap_err();
        assert_eq!(error.field(), Some("after"), "{cursor}");
    }
    let page = home.gallery.list_images(&alice(), None, 100).await.unwrap();
    assert_eq!((page.images.len(), page.next, page.total), (0, None, 0));
}

#[tokio::test]
async fn an_image_is_told_with_everything_known_and_its_neighbours() {
    let home = Home::new().await;
    let oldest = home.add(&alice(), 1).await;
    home.add(&bob(), 2).await;
    let middle = home.add(&alice(), 3).await;
    home.add(&bob(), 4).await;
    let newest = home.add(&alice(), 5).await;
    let detail = home.gallery.image(&alice(), &middle).await.unwrap();
    assert_eq!(
        detail.newer.as_ref(),
        Some(&newest),
        "bob's are no neighbours"
    );
    assert_eq!(detail.older.as_ref(), Some(&oldest));
    assert_eq!(detail.settings, settings());
    assert_eq!(detail.timings, facts().timings);
    assert_eq!(detail.notes, facts().notes);
    assert_eq!(detail.fallback_reason, facts().fallback_reason);
    let bytes = png(3);
    assert_eq!(detail.bytes, bytes.len() as u64);
    assert_eq!(detail.sha256, ImageHash::of(&bytes).as_str());
    assert_eq!(
        home.gallery.image(&alice(), &newest).await.unwrap().newer,
        None
    );
    assert_eq!(
        home.gallery.image(&alice(), &oldest).await.unwrap().older,
        None
    );
}

#[tokio::test]
async fn somebody_elses_image_and_a_missing_one_are_the_same_answer() {
    let home = Home::new().await;
    let hers = home.add(&alice(), 1).await;
    let missing = ImageId(uuid::Uuid::now_v7().to_string());
    let odd = ImageId("../../etc/passwd".into());
    // Administrators keep the server; they do not look at people's images.
    for viewer in [bob(), root()] {
        for id in [&hers, &missing, &odd] {
            assert_eq!(
                home.gallery.image(&viewer, id).await.unwrap_err(),
                AppError::NotFound
            );
            assert_eq!(
                home.gallery
                    .find_file(&viewer, id, Rendition::Original)
                    .await
                    .unwrap_err(),
                AppError::NotFound
            );
            assert_eq!(
                home.gallery.delete_image(&viewer, id).await.unwrap_err(),
                AppError::NotFound
            );
        }
    }
    assert!(home.gallery.image(&alice(), &hers).await.is_ok());
}

#[tokio::test]
async fn deleting_takes_the_file_along_unless_another_image_has_it() {
    let home = Home::new().await;
    let bytes = png(7);
    let (hers, his) = (
        home.add_file(&alice(), &bytes).await,
        home.add_file(&bob(), &bytes).await,
    );
    let found = home
        .gallery
        .find_file(&alice(), &hers, Rendition::Original)
        .await
        .unwrap();
    let thumbnail = home
        .gallery
        .read_file(&alice(), &found, Rendition::Thumbnail)
        .await
        .unwrap();
    let small = image::load_from_memory(&thumbnail).unwrap();
    assert_eq!((small.width(), small.height()), (384, 5));
    let (original, cached) = (
        home.file("img", &found.hash, "png"),
        home.file("thumb", &found.hash, "jpg"),
    );
    assert!(original.exists() && cached.exists());
    home.age(&found.hash);

    let gone_for_good = async |viewer: Viewer, id: &ImageId| {
        home.gallery.delete_image(&viewer, id).await.unwrap();
        assert!(original.exists(), "the trash keeps files");
        let ids = std::slice::from_ref(id);
        let act = ImageAct::DeleteForGood;
        assert_eq!(home.gallery.act(&viewer, ids, act).await, Ok(1));
    };
    gone_for_good(alice(), &hers).await;
    assert!(original.exists(), "bob still has it");
    let his_file = home
        .gallery
        .find_file(&bob(), &his, Rendition::Original)
        .await
        .unwrap();
    assert_eq!(
        home.gallery
            .read_file(&bob(), &his_file, Rendition::Original)
            .await
            .unwrap(),
        bytes
    );

    gone_for_good(bob(), &his).await;
    assert!(!original.exists() && !cached.exists());
    assert_eq!(
        home.gallery.delete_image(&bob(), &his).await.unwrap_err(),
        AppError::NotFound
    );
    // The jobs keep their story.
    let jobs: i64 = sqlx::query_scalar("select count(*) from job")
        .fetch_one(home.db.read())
        .await
        .unwrap();
    assert_eq!(jobs, 2);
}

#[tokio::test]
async fn a_file_that_was_just_stored_again_outlives_the_image_that_had_it() {
    let home = Home::new().await;
    let bytes = png(7);
    let hers = home.add_file(&alice(), &bytes).await;
    let hash = home.hash(&alice(), &hers).await;
    let original = home.file("img", &hash, "png");
    home.age(&hash);
    home.gallery.delete_image(&alice(), &hers).await.unwrap();
    // Bob's import has stored the file; its row is not there yet.
    home.gallery.files().put(&bytes).unwrap();
    assert_eq!(home.gallery.empty_trash(&alice()).await, Ok(1));
    assert!(original.exists(), "his row is on its way");
    // It never came: the sweep takes the file when it is old enough.
    assert_eq!(
        home.gallery.sweep(Duration::from_secs(60)).await.unwrap(),
        0
    );
    home.age(&hash);
    assert_eq!(
        home.gallery.sweep(Duration::from_secs(60)).await.unwrap(),
        1
    );
    assert!(!original.exists());
}

#[tokio::test]
async fn a_sweep_takes_old_files_without_a_row_and_nothing_else() {
    let home = Home::new().await;
    let kept = home.add(&alice(), 1).await;
    let kept = home.file("img", &home.hash(&alice(), &kept).await, "png");
    let orphan = home.gallery.files().put(&png(2)).unwrap();
    let orphan = home.file("img", &orphan, "png");
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(
        home.gallery.sweep(day).await.unwrap(),
        0,
        "young files wait for their row"
    );
    assert!(orphan.exists());
    for file in [&kept, &orphan] {
        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - day - Duration::from_secs(1))
            .unwrap();
    }
    // The gallery's own first sweep may have been quicker.
    assert!(home.gallery.sweep(day).await.unwrap() <= 1);
    assert!(kept.exists() && !orphan.exists());
}

#[tokio::test]
async fn a_file_that_is_gone_is_our_fault_and_is_said_to_be() {
    let home = Home::new().await;
    let id = home.add(&alice(), 1).await;
    let found = home
        .gallery
        .find_file(&alice(), &id, Rendition::Original)
        .await
        .unwrap();
    std::fs::remove_file(home.file("img", &found.hash, "png")).unwrap();
    for rendition in [Rendition::Original, Rendition::Thumbnail] {
        let error = home
            .gallery
            .read_file(&alice(), &found, rendition)
            .await
            .unwrap_err();
        assert!(matches!(error, AppError::Internal { .. }), "{error}");
    }
    // The row can still be looked at and deleted.
    home.gallery.image(&alice(), &id).await.unwrap();
    home.gallery.delete_image(&alice(), &id).await.unwrap();
}
