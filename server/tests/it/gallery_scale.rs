//! A gallery of a few thousand images answers quickly, and by its indexes: what would be slow with a
//! hundred thousand is found here. `make scale` measures those.

use super::many_images::{ask, fill, median_and_p99, open};

const IMAGES: usize = 5000;
const USERS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_images_are_paged_searched_and_counted_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (db, gallery) = open(dir.path()).await;
    fill(&db, &gallery, IMAGES, USERS).await;
    for (what, mut taken) in ask(&gallery, IMAGES, USERS, 12).await {
        // The median: other tests run beside this one.
        let (median, _) = median_and_p99(&mut taken);
        assert!(median < 50.0, "{what} takes {median:.1} ms");
    }
}

#[tokio::test]
async fn pages_go_along_an_index_and_sort_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (db, gallery) = open(dir.path()).await;
    fill(&db, &gallery, 300, 2).await;
    let plan = async |sql: &'static str| -> Vec<String> {
        let rows: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sql).fetch_all(db.read()).await.unwrap();
        rows.into_iter().map(|row| row.3).collect()
    };
    // The statements of gallery/search/store.rs, as they are put together there.
    for sql in [
        "explain query plan select image.id, prompt from image indexed by image_shown where true \
         and image.trashed_at is null and image.user_id = 1 and image.number < 200 and image.favourite = 1 \
         order by image.number desc limit 100",
        "explain query plan select count(*) from (select 1 from image indexed by image_shown where true \
         and image.trashed_at is null and image.user_id = 1 and image.rating >= 3)",
        "explain query plan select look_id, favourite, rating, count(*) from image where true \
         and image.trashed_at is null and image.user_id = 1 group by look_id, favourite, rating",
        "explain query plan select month, count(*) from image where true and image.trashed_at is null \
         and image.user_id = 1 group by month order by month desc",
        "explain query plan select image.id from image where true and image.trashed_at is null \
         and image.user_id = 1 and image.seed = '5' order by image.number desc limit 100",
    ] {
        let steps = plan(sql).await;
        assert!(!steps.is_empty());
        for step in steps {
            assert!(
                !step.starts_with("SCAN image") && !step.contains("TEMP B-TREE"),
                "{sql}\n{step}"
            );
        }
    }
}
