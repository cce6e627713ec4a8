//! A queue by itself: a database in a folder of its own, users, and jobs of any cost.

use atelier_app::account::UserId;
use atelier_app::gallery::ImageId;
use atelier_app::studio::{JobId, Settings};
use atelier_server::db::Db;
use atelier_server::gallery::Facts;
use atelier_server::jobs::queue::{Claim, Enqueued, JobRow, Limits, NewImage, Queue};
use std::time::Duration;
use tempfile::TempDir;

pub const LEASE: Duration = Duration::from_secs(60);
/// A lease that has run out as soon as a millisecond has passed.
pub const NO_LEASE: Duration = Duration::ZERO;
pub const ROOMY: Limits = Limits {
    per_user: 1000,
    total: 2000,
};

pub struct Bench {
    pub db: Db,
    pub queue: Queue,
    _folder: TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("atelier.db")).await.unwrap();
        Self {
            queue: Queue::new(db.clone()),
            db,
            _folder: folder,
        }
    }

    pub async fn user(&self, name: &str) -> UserId {
        add_user(&self.db, name).await
    }

    /// Queues a job that is thought to cost so many device-seconds.
    pub async fn enqueue(&self, user: UserId, cost: f64) -> JobId {
        let enqueued = self
            .queue
            .enqueue(user, &settings(), cost, None, ROOMY)
            .await
            .unwrap();
        match enqueued {
            Enqueued::New(row) => row.id,
            other => panic!("{other:?}"),
        }
    }

    pub async fn claim(&self, owner: &str, lease: Duration) -> Claim {
        self.queue
            .claim(owner, lease)
            .await
            .unwrap()
            .expect("a job waits")
    }

    pub async fn job(&self, id: &JobId) -> JobRow {
        self.queue.job(id).await.unwrap().expect("the job is there")
    }

    pub async fn images(&self) -> i64 {
        sqlx::query_scalar("select count(*) from image")
            .fetch_one(self.db.read())
            .await
            .unwrap()
    }

    pub async fn vtime(&self, user: UserId) -> f64 {
        sqlx::query_scalar("select vtime from share where user_id = ?")
            .bind(user.0)
            .fetch_one(self.db.read())
            .await
            .unwrap()
    }

    /// Writes something that no function of the queue writes.
    pub async fn write(&self, sql: &'static str) {
        let mut write = self.db.write().await.unwrap();
        sqlx::query(sql).execute(&mut *write).await.unwrap();
        write.commit().await.unwrap();
    }
}

pub async fn add_user(db: &Db, name: &str) -> UserId {
    let mut write = db.write().await.unwrap();
    let id: i64 = sqlx::query_scalar(
        "insert into user (name, role, password_hash, created_at) values (?, 'member', 'none', 0) returning id",
    )
    .bind(name)
    .fetch_one(&mut *write)
    .await
    .unwrap();
    write.commit().await.unwrap();
    UserId(id)
}

pub fn settings() -> Settings {
    Settings {
        prompt: "a red circle".into(),
        negative_prompt: None,
        num_inference_steps: 4,
        guidance_scale: 5.0,
        width: 64,
        height: 64,
        seed: 7,
        scheduler: None,
        model: super::test_app::MODEL.into(),
        ..Settings::default()
    }
}

/// An image that says nothing about its pixels.
pub fn image() -> NewImage {
    NewImage {
        id: ImageId(uuid::Uuid::now_v7().to_string()),
        sha256: "0".repeat(64),
        bytes: 1,
        width: 64,
        height: 64,
        dominant_colour: "#000000".into(),
        facts: Facts::default(),
        recipe: None,
    }
}

/// Waits until a lease of [`NO_LEASE`] has run out.
pub async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
