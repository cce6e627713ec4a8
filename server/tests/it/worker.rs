//! The worker's step with the real engine, in this process.

use super::bench::{add_user, settings};
use super::personas::tiny_model;
use super::test_app::MODEL;
use atelier_app::account::UserId;
use atelier_app::studio::{JobId, JobState, Settings};
use atelier_server::config::{self, Command, WorkerArgs};
use atelier_server::db::Db;
use atelier_server::gallery::{ImageStore, metadata};
use atelier_server::jobs::protocol::News;
use atelier_server::jobs::queue::{Enqueued, JobRow, Limits, Queue};
use atelier_server::jobs::worker::{Outcome, Worker};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

struct Shop {
    folder: TempDir,
    queue: Queue,
    user: UserId,
    worker: Worker,
    news: Arc<Mutex<Vec<News>>>,
}

fn worker_args(data_dir: &Path) -> WorkerArgs {
    let words = [
        "atelier".into(),
        "worker".into(),
        "--data-dir".into(),
        data_dir.as_os_str().to_owned(),
        "--model".into(),
        format!("{MODEL}={}", tiny_model().display()).into(),
        "--lease-seconds".into(),
        "1".into(),
    ];
    match config::parse(words).map(|cli| cli.command) {
        Ok(Command::Worker(args)) => args,
        Ok(other) => panic!("not worker: {other:?}"),
        Err(refusal) => panic!("{}", refusal.text),
    }
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("atelier.db")).await.unwrap();
        let user = add_user(&db, "a").await;
        let news = Arc::new(Mutex::new(Vec::new()));
        let heard = news.clone();
        let say = move |said: &News| heard.lock().unwrap().push(said.clone());
        let worker = Worker::open(&worker_args(folder.path()), say)
            .await
            .unwrap();
        Self {
            queue: Queue::new(db),
            folder,
            user,
            worker,
            news,
        }
    }

    async fn enqueue(&self, settings: &Settings) -> JobId {
        let limits = Limits {
            per_user: 100,
            total: 100,
        };
        let enqueued = self
            .queue
            .enqueue(self.user, settings, 1.0, None, limits)
            .await
            .unwrap();
        match enqueued {
            Enqueued::New(row) => row.id,
            other => panic!("{other:?}"),
        }
    }

    async fn job(&self, id: &JobId) -> JobRow {
        self.queue.job(id).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_become_images_and_the_model_stays_loaded() {
    let mut shop = Shop::open().await;
    let first = shop.enqueue(&settings()).await;
    let second = shop
        .enqueue(&Settings {
            seed: 8,
            negative_prompt: Some("blur".into()),
            ..settings()
        })
        .await;
    assert_eq!(shop.worker.run_next_job().await.unwrap(), Outcome::Ended);
    assert_eq!(shop.worker.run_next_job().await.unwrap(), Outcome::Ended);
    assert_eq!(shop.worker.run_next_job().await.unwrap(), Outcome::Nothing);

    let facts = shop.queue.latest_facts(10).await.unwrap();
    assert_eq!(facts.len(), 2);
    let (_, last) = &facts[0];
    assert_eq!((last.device.as_str(), last.dtype.as_str()), ("cpu", "f32"));
    assert_eq!(last.step_s.len(), 4);
    assert!(last.timings.total_s >= last.timings.denoising_s);
    // Loaded once, for the first.
    assert!(facts[1].1.timings.loading_s > 0.0);
    assert_eq!(last.timings.loading_s, 0.0);

    // The file is there under its hash, and says what made it.
    let files = ImageStore::open(shop.folder.path()).unwrap();
    for id in [&first, &second] {
        let row = shop.job(id).await;
        assert_eq!(row.state, JobState::Done);
        let sha256: String = sqlx::query_scalar("select sha256 from image where job_id = ?")
            .bind(&id.0)
            .fetch_one(
                Db::connect(&shop.folder.path().join("atelier.db"))
                    .await
                    .unwrap()
                    .read(),
            )
            .await
            .unwrap();
        let png = files.get(&sha256.parse().unwrap()).unwrap();
        let texts =
            metadata::read_png_text(&png, &[metadata::PARAMETERS, metadata::ATELIER]).unwrap();
        let said = |keyword: &str| {
            let found = texts.iter().find(|(key, _)| key == keyword);
            found.map(|(_, text)| text.clone()).unwrap()
        };
        let parameters = said(metadata::PARAMETERS);
        assert!(parameters.starts_with("a red circle\n"), "{parameters}");
        assert!(parameters.contains("Steps: 4, "), "{parameters}");
        let provenance: metadata::Provenance =
            serde_json::from_str(&said(metadata::ATELIER)).unwrap();
        assert_eq!(provenance.settings, row.settings);
    }

    // The news tell the same story in order.
    let news = shop.news.lock().unwrap().clone();
    assert!(matches!(&news[0], News::Claimed { job, attempt: 1, .. } if *job == first));
    let steps: Vec<(String, u32, bool)> = news
        .iter()
        .filter_map(|said| match said {
            News::Progress {
                job,
                phase,
                step,
                preview,
                ..
            } if *job == second => Some((phase.clone(), *step, preview.is_some())),
            _ => None,
        })
        .collect();
    let steps: Vec<(&str, u32, bool)> = steps
        .iter()
        .map(|(phase, step, preview)| (phase.as_str(), *step, *preview))
        .collect();
    assert_eq!(
        steps,
        [
            ("encoding prompt", 0, false),
            ("denoising", 0, false),
            ("denoising", 1, true),
            ("denoising", 2, true),
            ("denoising", 3, true),
            ("denoising", 4, true),
            ("decoding", 4, false),
        ]
    );
    assert!(matches!(news.last(), Some(News::Ended { job }) if *job == second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_refuses_fails_with_its_words_and_the_next_job_runs() {
    let mut shop = Shop::open().await;
    // Checked at the door as a rule; the worker believes nobody.
    let mut bad = Vec::new();
    for settings in [
        Settings {
            width: 63,
            ..settings()
        },
        Settings {
            scheduler: Some("no such".into()),
            ..settings()
        },
        Settings {
            model: "gone".into(),
            ..settings()
        },
    ] {
        bad.push(shop.enqueue(&settings).await);
    }
    let good = shop.enqueue(&settings()).await;
    while shop.worker.run_next_job().await.unwrap() != Outcome::Nothing {}
    for (id, word) in bad.iter().zip(["width", "no such", "gone"]) {
        let job = shop.job(id).await;
        assert_eq!((job.state, job.attempt), (JobState::Failed, 1));
        let words = job.error.unwrap();
        assert!(words.contains(word), "{words}");
    }
    assert_eq!(shop.job(&good).await.state, JobState::Done);
    let facts = shop.queue.latest_facts(10).await.unwrap();
    assert_eq!(facts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_is_heard_through_the_database_alone() {
    let mut shop = Shop::open().await;
    let long = shop
        .enqueue(&Settings {
            num_inference_steps: 1000,
            width: 320,
            height: 320,
            ..settings()
        })
        .await;
    let (queue, news, id) = (shop.queue.clone(), shop.news.clone(), long.clone());
    let canceller = tokio::spawn(async move {
        let denoising = |said: &News| matches!(said, News::Progress { step, .. } if *step > 0);
        while !news.lock().unwrap().iter().any(denoising) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        queue.cancel(&id, None).await.unwrap();
    });
    assert_eq!(shop.worker.run_next_job().await.unwrap(), Outcome::Ended);
    canceller.await.unwrap();
    assert_eq!(shop.job(&long).await.state, JobState::Cancelled);
    assert!(shop.queue.latest_facts(1).await.unwrap().is_empty());
    // The model is still there for the next.
    shop.enqueue(&settings()).await;
    assert_eq!(shop.worker.run_next_job().await.unwrap(), Outcome::Ended);
    let facts = shop.queue.latest_facts(1).await.unwrap();
    assert_eq!(facts[0].1.timings.loading_s, 0.0);
}
