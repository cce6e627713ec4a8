//! The gallery's manners: what others are not told, what a viewer may not do, what can be had back,
//! and how much may be brought in.

use super::gallery::{Home, alice, bob, facts, png, settings};
use super::personas::TestApp;
use atelier_app::account::{Role, Viewer};
use atelier_app::backend::Gallery as _;
use atelier_app::error::AppError;
use atelier_app::gallery::{Collection, CollectionAct, CollectionId, ImageAct, ImageQuery};
use atelier_app::studio::{InputFile, Settings};
use axum::http::StatusCode;

fn query(fields: &[(&str, &str)]) -> ImageQuery {
    ImageQuery::from_lookup(|name| {
        let found = fields.iter().find(|(field, _)| *field == name)?;
        Some(found.1.to_owned())
    })
}

async fn create(
    home: &Home,
    viewer: &Viewer,
    name: &str,
    shared: bool,
) -> Result<Collection, AppError> {
    let act = CollectionAct::Create {
        name: name.into(),
        shared,
    };
    let made = home.gallery.change_collection(viewer, act).await?;
    made.ok_or(AppError::NotFound)
}

#[tokio::test]
async fn others_learn_neither_marks_nor_what_an_image_was_made_from() {
    let home = Home::new().await;
    let file = InputFile {
        upload_id: "0190a5c0-0000-7000-8000-000000000001".into(),
        sha256: "ab".repeat(32),
        ..InputFile::default()
    };
    let made = Settings {
        init_image: Some(file.clone()),
        mask: Some(file),
        strength: Some(0.5),
        ..settings()
    };
    let image = home.add_made(&alice(), &png(1), made, facts(), 1).await;
    let plain = home.add(&alice(), 2).await;
    let collection = create(&home, &alice(), "Shown", true).await.unwrap();
    let both = [image.clone(), plain.clone()];
    for act in [
        ImageAct::Collect(collection.id.clone()),
        ImageAct::Favourite(true),
        ImageAct::Rate(4),
    ] {
        home.gallery.act(&alice(), &both[..1], act).await.unwrap();
    }
    let collect = ImageAct::Collect(collection.id.clone());
    home.gallery
        .act(&alice(), &both[1..], collect)
        .await
        .unwrap();

    let inside = |more: &[(&str, &str)]| {
        query(&[&[("collection", collection.id.0.as_str())], more].concat())
    };
    // Asking for them finds what there is without asking: nothing is told by what is missing.
    for asked in [
        inside(&[]),
        inside(&[("favourite", "1")]),
        inside(&[("rating", "5")]),
    ] {
        let page = home
            .gallery
            .find_images(&bob(), &asked, None, 9)
            .await
            .unwrap();
        assert_eq!((page.images.len(), page.total), (2, 2), "{asked:?}");
        for card in page.images {
            assert_eq!((card.favourite, card.rating), (false, 0));
        }
        let facets = home.gallery.facets(&bob(), &asked).await.unwrap();
        assert_eq!((facets.favourites, facets.ratings), (0, Vec::new()));
    }
    let seen = home.gallery.image(&bob(), &image).await.unwrap();
    assert_eq!((seen.card.favourite, seen.card.rating), (false, 0));
    assert_eq!((seen.settings.init_image, seen.settings.mask), (None, None));
    assert_eq!(seen.settings.strength, Some(0.5));

    // Their owner is told everything.
    let own = home.gallery.image(&alice(), &image).await.unwrap();
    assert_eq!((own.card.favourite, own.card.rating), (true, 4));
    assert!(own.settings.init_image.is_some() && own.settings.mask.is_some());
    let marked = inside(&[("favourite", "1")]);
    let page = home.gallery.find_images(&alice(), &marked, None, 9).await;
    assert_eq!(page.unwrap().total, 1);

    // A link that shows settings shows no more than that.
    let link = home
        .gallery
        .create_share_link(&alice(), &image, 1, true)
        .await
        .unwrap();
    let secret = link.path.trim_start_matches("/s/");
    let shown = home.gallery.open_share_link(secret).await.unwrap();
    let shown = shown.settings.unwrap();
    assert_eq!((shown.init_image, shown.mask), (None, None));
    assert_eq!(shown.strength, Some(0.5));
}

#[tokio::test]
async fn whoever_may_only_look_shares_nothing() {
    let home = Home::new().await;
    let image = home.add(&alice(), 1).await;
    let looker = Viewer {
        role: Role::Viewer,
        ..alice()
    };
    let refused = create(&home, &looker, "Shown", true).await.unwrap_err();
    assert!(matches!(refused, AppError::Refused { .. }), "{refused}");
    let own = create(&home, &looker, "Mine", false).await.unwrap();
    let change = async |viewer: &Viewer, shared| {
        let act = CollectionAct::Change {
            id: own.id.clone(),
            name: "Mine".into(),
            shared,
        };
        home.gallery.change_collection(viewer, act).await
    };
    assert!(matches!(
        change(&looker, true).await,
        Err(AppError::Refused { .. })
    ));
    // What was shared before may be renamed, and its sharing ended.
    change(&alice(), true).await.unwrap();
    assert!(change(&looker, true).await.is_ok());
    assert!(!change(&looker, false).await.unwrap().unwrap().shared);
    let link = home.gallery.create_share_link(&looker, &image, 1, false);
    assert!(matches!(link.await, Err(AppError::Refused { .. })));
    let import = home.gallery.import(&looker, png(2)).await;
    assert!(matches!(import, Err(AppError::Refused { .. })));
}

#[tokio::test]
async fn a_deleted_collection_comes_back_with_what_was_in_it() {
    let home = Home::new().await;
    let images = [home.add(&alice(), 1).await, home.add(&alice(), 2).await];
    let made = create(&home, &alice(), "Foxes", true).await.unwrap();
    let collect = ImageAct::Collect(made.id.clone());
    home.gallery.act(&alice(), &images, collect).await.unwrap();
    let act = async |viewer: &Viewer, act| home.gallery.change_collection(viewer, act).await;
    let delete = |id: &CollectionId| CollectionAct::Delete { id: id.clone() };
    let restore = |id: &CollectionId| CollectionAct::Restore { id: id.clone() };

    assert_eq!(act(&alice(), delete(&made.id)).await, Ok(None));
    assert_eq!(home.gallery.collections(&bob()).await.unwrap(), []);
    assert_eq!(
        act(&bob(), restore(&made.id)).await,
        Err(AppError::NotFound)
    );
    let back = act(&alice(), restore(&made.id)).await.unwrap().unwrap();
    assert_eq!(
        (
            back.id.clone(),
            back.name.as_str(),
            back.shared,
            back.images
        ),
        (made.id.clone(), "Foxes", true, 2)
    );
    assert_eq!(
        act(&alice(), restore(&made.id)).await,
        Err(AppError::NotFound),
        "it is there"
    );

    // Its name was given away meanwhile, and an image deleted for good.
    act(&alice(), delete(&made.id)).await.unwrap();
    create(&home, &alice(), "foxes", false).await.unwrap();
    for gone in [ImageAct::Trash, ImageAct::DeleteForGood] {
        home.gallery
            .act(&alice(), &images[..1], gone)
            .await
            .unwrap();
    }
    let back = act(&alice(), restore(&made.id)).await.unwrap().unwrap();
    assert_eq!((back.name.as_str(), back.images), ("Foxes (2)", 1));

    // With its time in the trash it is over.
    act(&alice(), delete(&made.id)).await.unwrap();
    let mut write = home.db.write().await.unwrap();
    sqlx::query("update collection_deleted set deleted_at = deleted_at - 31 * 86400000")
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    home.gallery.sweep_trash().await.unwrap();
    assert_eq!(
        act(&alice(), restore(&made.id)).await,
        Err(AppError::NotFound)
    );
}

#[tokio::test]
async fn only_the_latest_deleted_collections_are_kept() {
    let home = Home::new().await;
    let mut ids = Vec::new();
    for number in 0..52 {
        let made = create(&home, &alice(), &format!("c{number}"), false).await;
        let id = made.unwrap().id;
        let delete = CollectionAct::Delete { id: id.clone() };
        home.gallery
            .change_collection(&alice(), delete)
            .await
            .unwrap();
        ids.push(id);
    }
    let restore = async |id: &CollectionId| {
        let act = CollectionAct::Restore { id: id.clone() };
        home.gallery.change_collection(&alice(), act).await
    };
    assert_eq!(restore(&ids[1]).await, Err(AppError::NotFound));
    assert!(restore(&ids[2]).await.is_ok());
}

#[tokio::test]
async fn imports_end_at_the_limit_but_for_what_is_there() {
    let home = Home::new().await;
    let there = png(1);
    home.gallery.import(&alice(), there.clone()).await.unwrap();
    let mut write = home.db.write().await.unwrap();
    // As if that one file were as large as all may be together.
    sqlx::query("update image set bytes = 200 * 1024 * 1024 * 1024")
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    let refused = home.gallery.import(&alice(), png(2)).await.unwrap_err();
    let AppError::TooMany { message, .. } = &refused else {
        panic!("{refused}")
    };
    assert!(message.contains("200 GiB"), "{message}");
    assert!(!home.gallery.import(&alice(), there).await.unwrap().is_new);
    // Each user has the limit for themselves.
    assert!(home.gallery.import(&bob(), png(2)).await.unwrap().is_new);
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_image_is_asked_for_each_time() {
    let app = TestApp::spawn().await;
    let alice = app.member("alice").await;
    let bob = app.member("bob").await;
    let sent = alice.browser.post_json("/api/images/import", png(7)).await;
    let id = sent.json()["id"].as_str().unwrap().to_owned();
    let made = alice
        .browser
        .post_json("/api/collections", r#"{"name": "Shown", "shared": true}"#)
        .await;
    let collection = made.json()["id"].as_str().unwrap().to_owned();
    let act = serde_json::json!({ "ids": [id], "act": { "collect": collection } });
    alice
        .browser
        .post_json("/api/images/act", act.to_string())
        .await;
    for path in [
        format!("/images/{id}.png"),
        format!("/images/{id}/thumbnail.jpg"),
    ] {
        let own = alice.browser.get(&path).await;
        assert!(own.header("cache-control").contains("immutable"));
        let seen = bob.browser.get(&path).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert_eq!(seen.header("cache-control"), "private, no-cache");
        assert_eq!(seen.header("etag"), own.header("etag"));
    }
    app.stop().await;
}
