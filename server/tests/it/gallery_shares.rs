//! Links to one image: what they open, for how long, and what they never open.

use super::gallery::{Home, alice, bob};
use super::personas::TestApp;
use atelier_app::backend::Gallery as _;
use atelier_app::error::AppError;
use atelier_app::gallery::{CollectionAct, ImageAct, ImageId};
use axum::http::StatusCode;

fn secret(path: &str) -> String {
    path.strip_prefix("/s/").unwrap().to_owned()
}

impl Home {
    async fn tamper(&self, sql: &'static str) {
        let mut write = self.db.write().await.unwrap();
        sqlx::query(sql).execute(&mut *write).await.unwrap();
        write.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_link_opens_its_image_until_it_is_over() {
    let home = Home::new().await;
    let id = home.add(&alice(), 1).await;
    let make = async |viewer, days, with_settings| {
        let made = home
            .gallery
            .create_share_link(&viewer, &id, days, with_settings);
        made.await
    };
    assert_eq!(make(bob(), 7, false).await, Err(AppError::NotFound));
    for days in [0, 366] {
        assert_eq!(
            make(alice(), days, false).await.unwrap_err().field(),
            Some("days")
        );
    }
    let bare = make(alice(), 7, false).await.unwrap();
    let full = make(alice(), 1, true).await.unwrap();
    assert_ne!(bare.path, full.path);
    let open = async |path: &str| home.gallery.open_share_link(&secret(path)).await;
    assert_eq!(open(&bare.path).await.unwrap().settings, None);
    let told = open(&full.path).await.unwrap().settings.unwrap();
    assert_eq!(told.prompt, "a red circle");

    // Nothing in the database opens anything.
    let kept: Vec<(String, String)> = sqlx::query_as("select id, secret_hash from share_link")
        .fetch_all(home.db.read())
        .await
        .unwrap();
    for (id, hash) in kept {
        for guess in [id, hash] {
            let opened = home.gallery.open_share_link(&guess).await;
            assert_eq!(opened, Err(AppError::NotFound));
        }
    }

    // Its owner sees and ends it; nobody else does.
    let links = home.gallery.share_links(&alice(), &id).await.unwrap();
    assert_eq!(links, [full.link.clone(), bare.link.clone()]);
    assert_eq!(home.gallery.share_links(&bob(), &id).await.unwrap(), []);
    let revoke = async |viewer, id: &str| home.gallery.revoke_share_link(&viewer, id).await;
    assert_eq!(revoke(bob(), &full.link.id).await, Err(AppError::NotFound));
    revoke(alice(), &full.link.id).await.unwrap();
    assert_eq!(
        revoke(alice(), &full.link.id).await,
        Err(AppError::NotFound)
    );
    assert_eq!(open(&full.path).await, Err(AppError::NotFound));
    assert!(open(&bare.path).await.is_ok());

    // In the trash it is shut, out of it open again; whose sign-in is closed has no open links.
    home.gallery.delete_image(&alice(), &id).await.unwrap();
    assert_eq!(open(&bare.path).await, Err(AppError::NotFound));
    assert!(home.gallery.shared_file(&secret(&bare.path)).await.is_err());
    home.gallery
        .act(&alice(), std::slice::from_ref(&id), ImageAct::Restore)
        .await
        .unwrap();
    assert!(open(&bare.path).await.is_ok());
    home.tamper("update user set disabled_at = 1 where id = 1")
        .await;
    assert_eq!(open(&bare.path).await, Err(AppError::NotFound));
    home.tamper("update user set disabled_at = null where id = 1")
        .await;
    home.tamper("update share_link set expires_at = 1").await;
    assert_eq!(open(&bare.path).await, Err(AppError::NotFound));
    assert_eq!(home.gallery.share_links(&alice(), &id).await.unwrap(), []);
}

#[tokio::test]
async fn with_its_owner_everything_of_an_image_goes() {
    let home = Home::new().await;
    let id = home.add(&alice(), 1).await;
    home.gallery
        .create_share_link(&alice(), &id, 1, false)
        .await
        .unwrap();
    let act = CollectionAct::Create {
        name: "a".into(),
        shared: true,
    };
    let made = home
        .gallery
        .change_collection(&alice(), act)
        .await
        .unwrap()
        .unwrap();
    let into = ImageAct::Collect(made.id);
    home.gallery.act(&alice(), &[id], into).await.unwrap();
    home.tamper("delete from user where id = 1").await;
    for table in [
        "select count(*) from image",
        "select count(*) from image_text where image_text match 'red'",
        "select count(*) from collection",
        "select count(*) from collection_image",
        "select count(*) from share_link",
    ] {
        let left: i64 = sqlx::query_scalar(table)
            .fetch_one(home.db.read())
            .await
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_link_sees_the_picture_and_nothing_else() {
    let app = TestApp::spawn().await;
    let alice = app.member("alice").await;
    let body = serde_json::json!({
        "prompt": "a secret prompt", "num_inference_steps": 1, "width": 64, "height": 64, "seed": 4,
    });
    let answer = alice
        .browser
        .post_json("/api/generate-image", body.to_string())
        .await;
    let (id, original) = (answer.header("x-atelier-image-id").to_owned(), answer.body);
    let share = async |with_settings: bool| {
        let wanted = serde_json::json!({ "days": 1, "with_settings": with_settings }).to_string();
        let made = alice
            .browser
            .post_json(&format!("/api/images/{id}/shares"), wanted)
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let json = made.json();
        (
            json["path"].as_str().unwrap().to_owned(),
            json["link"]["id"].as_str().unwrap().to_owned(),
        )
    };
    let (bare, link) = share(false).await;
    let (full, _) = share(true).await;
    let stranger = app.anonymous();

    let page = stranger.get(&bare).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.header("x-robots-tag"), "noindex, nofollow");
    assert_eq!(page.header("cache-control"), "no-store");
    for hidden in ["a secret prompt", id.as_str(), "alice"] {
        assert!(!page.text().contains(hidden), "{hidden}");
    }
    let file = stranger.get(&format!("{bare}/image.png")).await;
    assert_eq!(file.status, StatusCode::OK);
    assert_eq!(file.header("content-type"), "image/png");
    assert_eq!(file.header("x-robots-tag"), "noindex, nofollow");
    assert_eq!(file.header("cache-control"), "no-store");
    assert!(
        !file
            .body
            .windows(15)
            .any(|window| window == b"a secret prompt")
    );
    let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_rgb8();
    assert_eq!(pixels(&file.body), pixels(&original));
    assert!(stranger.get(&full).await.text().contains("a secret prompt"));
    assert_eq!(
        stranger
            .get(&format!("{full}/image.png?download"))
            .await
            .body,
        original
    );

    // It opens nothing but that image, and nobody becomes anybody by it.
    assert_eq!(
        stranger.get(&format!("/images/{id}.png")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        stranger.get(&format!("/api/images/{id}")).await.status,
        StatusCode::UNAUTHORIZED
    );
    let wrong = format!("{}x", &bare[..bare.len() - 1]);
    for path in [wrong.as_str(), "/s/x", "/s/%00", "/s/..%2fadmin"] {
        let missing = stranger.get(path).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND, "{path}");
        let file = stranger.get(&format!("{path}/image.png")).await;
        assert_eq!(file.status, StatusCode::NOT_FOUND, "{path}");
    }
    let listed = alice.browser.get(&format!("/api/images/{id}/shares")).await;
    assert!(
        !listed.text().contains(&bare[3..]),
        "the secret is told once"
    );
    let request = alice
        .browser
        .request(axum::http::Method::DELETE, &format!("/api/shares/{link}"));
    let revoked = alice
        .browser
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    assert_eq!(stranger.get(&bare).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        stranger.get(&format!("{bare}/image.png")).await.status,
        StatusCode::NOT_FOUND
    );
    // A missing image and somebody else's are the same.
    let missing = ImageId("0190a5c0-0000-7000-8000-000000000000".into());
    let bob = app.member("bob").await;
    let wanted = serde_json::json!({ "days": 1 }).to_string();
    let theirs = bob
        .browser
        .post_json(&format!("/api/images/{id}/shares"), wanted.clone())
        .await;
    let none = bob
        .browser
        .post_json(&format!("/api/images/{}/shares", missing.0), wanted)
        .await;
    assert_eq!(theirs.looks(), none.looks());
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
    app.stop().await;
}
