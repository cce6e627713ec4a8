//! The gallery as a library: the trash, marks and stars, collections, search and facets.

use super::gallery::{Home, alice, bob, facts, png, root, settings};
use atelier_app::backend::Gallery as _;
use atelier_app::error::AppError;
use atelier_app::gallery::{
    Collection, CollectionAct, CollectionId, FacetValue, GalleryPage, ImageAct, ImageId, ImageQuery,
};
use atelier_app::studio::Settings;
use atelier_server::gallery::{Facts, Rendition};

fn ids(page: &GalleryPage) -> Vec<ImageId> {
    page.images.iter().map(|card| card.id.clone()).collect()
}

fn query(fields: &[(&str, &str)]) -> ImageQuery {
    ImageQuery::from_lookup(|name| {
        let found = fields.iter().find(|(field, _)| *field == name)?;
        Some(found.1.to_owned())
    })
}

impl Home {
    async fn with_prompt(&self, prompt: &str) -> ImageId {
        let made = Settings {
            prompt: prompt.into(),
            ..settings()
        };
        self.add_made(&alice(), &png(1), made, facts(), 1_795_538_049_000)
            .await
    }

    async fn find(&self, words: &str) -> Vec<ImageId> {
        let page = self
            .gallery
            .find_images(&alice(), &query(&[("q", words)]), None, 100)
            .await
            .unwrap();
        assert_eq!(page.total, page.images.len() as u64, "{words}");
        ids(&page)
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(self.db.read())
            .await
            .unwrap()
    }

    async fn collection(&self, name: &str, shared: bool) -> Collection {
        let act = CollectionAct::Create {
            name: name.into(),
            shared,
        };
        let made = self.gallery.change_collection(&alice(), act).await;
        made.unwrap().unwrap()
    }
}

#[tokio::test]
async fn what_is_deleted_waits_in_the_trash_and_comes_back_to_its_place() {
    let home = Home::new().await;
    let mut made = Vec::new();
    for shade in 0..4 {
        made.push(home.add(&alice(), shade).await);
    }
    made.reverse();
    let hash = home.hash(&alice(), &made[1]).await;
    let act = async |ids: &[ImageId], act| home.gallery.act(&alice(), ids, act).await;
    assert_eq!(act(&made[1..3], ImageAct::Trash).await, Ok(2));
    assert_eq!(
        act(&made[1..3], ImageAct::Trash).await,
        Err(AppError::NotFound),
        "they are there already"
    );
    let page = home.gallery.list_images(&alice(), None, 10).await.unwrap();
    assert_eq!(
        (ids(&page), page.total),
        (vec![made[0].clone(), made[3].clone()], 2)
    );

    // Nowhere but in the trash; its owner still recognises it there.
    let gone = &made[1];
    assert!(home.gallery.image(&alice(), gone).await.is_err());
    let find = async |rendition| home.gallery.find_file(&alice(), gone, rendition).await;
    assert!(find(Rendition::Original).await.is_err());
    assert!(find(Rendition::Thumbnail).await.is_ok());
    let trash = home.gallery.trash(&alice(), None, 1).await.unwrap();
    assert_eq!((trash.images.len(), trash.total, trash.days), (1, 2, 30));
    let rest = home
        .gallery
        .trash(&alice(), trash.next.as_deref(), 1)
        .await
        .unwrap();
    assert_ne!(rest.images[0].id, trash.images[0].id);
    assert_eq!(rest.next, None);
    for bad in ["", "1", "a.b", "1.2.3"] {
        let error = home.gallery.trash(&alice(), Some(bad), 1).await;
        assert_eq!(error.unwrap_err().field(), Some("after"), "{bad}");
    }

    // Neighbours step over it.
    let detail = home.gallery.image(&alice(), &made[0]).await.unwrap();
    assert_eq!(detail.older.as_ref(), Some(&made[3]));

    // Somebody else's trash is nobody's business.
    for viewer in [bob(), root()] {
        assert_eq!(home.gallery.trash(&viewer, None, 9).await.unwrap().total, 0);
        for what in [ImageAct::Restore, ImageAct::DeleteForGood] {
            let done = home.gallery.act(&viewer, &made, what).await;
            assert_eq!(done, Err(AppError::NotFound));
        }
        assert_eq!(home.gallery.empty_trash(&viewer).await, Ok(0));
    }
    assert_eq!(act(&made, ImageAct::Restore).await, Ok(2));
    let page = home.gallery.list_images(&alice(), None, 10).await.unwrap();
    assert_eq!(ids(&page), made, "each is where it was");

    // What is not in the trash cannot be deleted for good.
    assert_eq!(
        act(&made, ImageAct::DeleteForGood).await,
        Err(AppError::NotFound)
    );
    act(&made[1..2], ImageAct::Trash).await.unwrap();
    home.age(&hash);
    assert_eq!(home.gallery.empty_trash(&alice()).await, Ok(1));
    assert!(!home.file("img", &hash, "png").exists());
    assert_eq!(
        home.count("select count(*) from image_text where image_text match 'red'")
            .await,
        3
    );
}

#[tokio::test]
async fn the_trash_is_swept_when_its_time_is_over() {
    let home = Home::new().await;
    let (old, young) = (home.add(&alice(), 1).await, home.add(&bob(), 2).await);
    let hash = home.hash(&alice(), &old).await;
    home.gallery.delete_image(&alice(), &old).await.unwrap();
    home.gallery.delete_image(&bob(), &young).await.unwrap();
    assert_eq!(home.gallery.sweep_trash().await.unwrap(), 0);
    let mut write = home.db.write().await.unwrap();
    sqlx::query("update image set trashed_at = trashed_at - 4 * 86400000 where id = ?")
        .bind(&old.0)
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    assert_eq!(
        home.gallery.sweep_trash().await.unwrap(),
        0,
        "30 days are not over"
    );

    let set = async |viewer, days| home.gallery.set_trash_days(&viewer, days).await;
    assert_eq!(set(alice(), 3).await, Err(AppError::Forbidden));
    for days in [0, 3651] {
        assert_eq!(set(root(), days).await.unwrap_err().field(), Some("days"));
    }
    set(root(), 3).await.unwrap();
    assert_eq!(home.gallery.trash(&bob(), None, 9).await.unwrap().days, 3);
    home.age(&hash);
    assert_eq!(home.gallery.sweep_trash().await.unwrap(), 1);
    assert!(!home.file("img", &hash, "png").exists());
    assert_eq!(home.gallery.trash(&bob(), None, 9).await.unwrap().total, 1);
}

#[tokio::test]
async fn marks_and_stars_are_their_owners() {
    let home = Home::new().await;
    let (one, two) = (home.add(&alice(), 1).await, home.add(&alice(), 2).await);
    let his = home.add(&bob(), 3).await;
    let all = [one.clone(), two.clone(), his.clone()];
    let act = async |ids: &[ImageId], act| home.gallery.act(&alice(), ids, act).await;
    assert_eq!(
        act(&all, ImageAct::Favourite(true)).await,
        Ok(2),
        "hers only"
    );
    act(std::slice::from_ref(&one), ImageAct::Favourite(false))
        .await
        .unwrap();
    act(std::slice::from_ref(&two), ImageAct::Rate(4))
        .await
        .unwrap();
    assert_eq!(
        act(&all, ImageAct::Rate(6)).await.unwrap_err().field(),
        Some("rating")
    );
    assert_eq!(
        act(&[], ImageAct::Trash).await.unwrap_err().field(),
        Some("ids")
    );
    let many = vec![one.clone(); 5001];
    assert_eq!(
        act(&many, ImageAct::Trash).await.unwrap_err().field(),
        Some("ids")
    );

    let find = async |fields: &[(&str, &str)]| {
        let page = home
            .gallery
            .find_images(&alice(), &query(fields), None, 9)
            .await;
        ids(&page.unwrap())
    };
    assert_eq!(
        find(&[("favourite", "1")]).await,
        std::slice::from_ref(&two)
    );
    assert_eq!(find(&[("rating", "4")]).await, std::slice::from_ref(&two));
    assert_eq!(find(&[("rating", "5")]).await, []);
    let card = home.gallery.image(&alice(), &two).await.unwrap().card;
    assert!(card.favourite && card.rating == 4);
    let card = home.gallery.image(&bob(), &his).await.unwrap().card;
    assert!(!card.favourite && card.rating == 0);
}

#[tokio::test]
async fn a_shared_collection_shows_its_images_to_everybody_and_nothing_else() {
    let home = Home::new().await;
    let shown = home.add(&alice(), 1).await;
    let hidden = home.add(&alice(), 2).await;
    let his = home.add(&bob(), 3).await;
    let collection = home.collection("Work in progress", false).await;
    let into = |collection: &Collection| ImageAct::Collect(collection.id.clone());
    let both = [shown.clone(), his.clone()];
    assert_eq!(
        home.gallery.act(&alice(), &both, into(&collection)).await,
        Ok(1),
        "only her own"
    );
    assert_eq!(
        home.gallery.act(&alice(), &both, into(&collection)).await,
        Ok(0),
        "it is there already"
    );
    let inside = query(&[("collection", &collection.id.0)]);
    let missing = query(&[("collection", "0190a5c0-0000-7000-8000-000000000000")]);
    let look =
        async |viewer, query: &ImageQuery| home.gallery.find_images(&viewer, query, None, 9).await;
    assert_eq!(look(bob(), &inside).await, look(bob(), &missing).await);
    assert_eq!(look(bob(), &inside).await, Err(AppError::NotFound));
    assert_eq!(home.gallery.collections(&bob()).await.unwrap(), []);

    let change = async |viewer, name: &str, shared| {
        let act = CollectionAct::Change {
            id: collection.id.clone(),
            name: name.into(),
            shared,
        };
        home.gallery.change_collection(&viewer, act).await
    };
    assert_eq!(
        change(bob(), "mine now", true).await,
        Err(AppError::NotFound)
    );
    assert_eq!(
        change(root(), "mine now", true).await,
        Err(AppError::NotFound)
    );
    let shared = change(alice(), "For the team", true)
        .await
        .unwrap()
        .unwrap();
    assert!(shared.shared && shared.name == "For the team" && shared.images == 1);

    // Bob sees the one image, its file and its facts, and can change none of it.
    let page = look(bob(), &inside).await.unwrap();
    assert_eq!((ids(&page), page.mine), (vec![shown.clone()], false));
    let seen = home.gallery.collections(&bob()).await.unwrap();
    assert_eq!((seen[0].owner.as_str(), seen[0].mine), ("alice", false));
    let detail = home.gallery.image(&bob(), &shown).await.unwrap();
    assert!(!detail.mine && detail.newer.is_none() && detail.older.is_none());
    assert!(
        home.gallery
            .find_file(&bob(), &shown, Rendition::Original)
            .await
            .is_ok()
    );
    assert!(home.gallery.image(&bob(), &hidden).await.is_err());
    for act in [
        ImageAct::Trash,
        ImageAct::Favourite(true),
        ImageAct::Rate(1),
        into(&collection),
        ImageAct::Uncollect(collection.id.clone()),
    ] {
        let done = home
            .gallery
            .act(&bob(), std::slice::from_ref(&shown), act.clone())
            .await;
        assert_eq!(done, Err(AppError::NotFound), "{act:?}");
    }
    let delete = CollectionAct::Delete {
        id: collection.id.clone(),
    };
    let refused = home.gallery.change_collection(&bob(), delete.clone()).await;
    assert_eq!(refused, Err(AppError::NotFound));
    // Words are searched inside it, too.
    let with_words = query(&[("collection", &collection.id.0), ("q", "red")]);
    assert_eq!(look(bob(), &with_words).await.unwrap().total, 1);
    assert_eq!(
        home.gallery
            .facets(&bob(), &with_words)
            .await
            .unwrap()
            .models[0]
            .count,
        1
    );

    // In the trash it is nobody's to see.
    home.gallery.delete_image(&alice(), &shown).await.unwrap();
    assert_eq!(look(bob(), &inside).await.unwrap().total, 0);
    assert!(home.gallery.image(&bob(), &shown).await.is_err());
    assert!(
        home.gallery
            .find_file(&bob(), &shown, Rendition::Thumbnail)
            .await
            .is_err()
    );
    home.gallery
        .act(&alice(), std::slice::from_ref(&shown), ImageAct::Restore)
        .await
        .unwrap();
    assert!(home.gallery.image(&bob(), &shown).await.is_ok());
    change(alice(), "For the team", false).await.unwrap();
    assert!(home.gallery.image(&bob(), &shown).await.is_err());

    home.gallery
        .change_collection(&alice(), delete)
        .await
        .unwrap();
    assert!(
        home.gallery.image(&alice(), &shown).await.is_ok(),
        "the images stay"
    );
    assert_eq!(home.count("select count(*) from collection_image").await, 0);
}

#[tokio::test]
async fn names_of_collections_are_checked_and_one_of_a_kind() {
    let home = Home::new().await;
    home.collection("Cats  and\ndogs", false).await;
    let long = "x".repeat(101);
    for bad in ["", "  ", "cats AND dogs", long.as_str(), "a\0b"] {
        let act = CollectionAct::Create {
            name: bad.into(),
            shared: false,
        };
        let error = home
            .gallery
            .change_collection(&alice(), act)
            .await
            .unwrap_err();
        assert_eq!(error.field(), Some("name"), "{bad:?}");
    }
    // Everybody has their own names.
    let act = CollectionAct::Create {
        name: "Cats and dogs".into(),
        shared: false,
    };
    assert!(home.gallery.change_collection(&bob(), act).await.is_ok());
    let nowhere = CollectionAct::Delete {
        id: CollectionId("' or 1=1 --".into()),
    };
    let error = home.gallery.change_collection(&alice(), nowhere).await;
    assert_eq!(error, Err(AppError::NotFound));
}

#[tokio::test]
async fn words_are_found_and_nobody_elses() {
    let home = Home::new().await;
    let car = home.with_prompt("A blue car, Málaga at night").await;
    let dog = home.with_prompt("a dog in a blue coat").await;
    home.add(&bob(), 1).await;
    let negative = Settings {
        prompt: "a tree".into(),
        negative_prompt: Some("blurry leaves".into()),
        ..settings()
    };
    let tree = home.add_made(&alice(), &png(2), negative, facts(), 0).await;
    let both = vec![dog.clone(), car.clone()];
    for (words, found) in [
        ("blue", both.clone()),
        ("BLUE", both),
        ("\"blue car\"", vec![car.clone()]),
        ("\"car blue\"", vec![]),
        ("malaga", vec![car.clone()]),
        ("blue -dog", vec![car.clone()]),
        ("-blue", vec![tree.clone()]),
        ("leaves", vec![tree.clone()]),
        ("-leaves tree", vec![tree.clone()]),
        ("red", vec![]),
        ("owner:u2", vec![]),
        ("u1", vec![]),
        ("!!!", vec![]),
        ("\"", vec![]),
    ] {
        assert_eq!(home.find(words).await, found, "{words}");
    }
    // Whatever is typed is a question, never a fault.
    for hostile in [
        "' or 1=1 --",
        "a AND",
        "NEAR(a b, 3)",
        "prompt : x",
        "^a",
        "a*b*",
        "{prompt}:",
        "\u{0}a",
        "((((",
        "+a",
        "-",
        "日本",
        "a\"b\"c",
        "%_",
    ] {
        home.find(hostile).await;
    }
    for (field, value) in [
        ("size", "x"),
        ("month", "1"),
        ("seed", "-1"),
        ("rating", "9"),
    ] {
        let error = home
            .gallery
            .find_images(&alice(), &query(&[(field, value)]), None, 9)
            .await;
        assert_eq!(error.unwrap_err().field(), Some(field));
    }
    // What leaves the gallery leaves the index.
    home.gallery.delete_image(&alice(), &dog).await.unwrap();
    assert_eq!(home.find("blue").await, std::slice::from_ref(&car));
    home.gallery.empty_trash(&alice()).await.unwrap();
    assert_eq!(home.count("select count(*) from image_text").await, 3);
}

#[tokio::test]
async fn facets_count_what_is_there_and_pages_hold_under_change() {
    let home = Home::new().await;
    let made = |model: &str, seed: u64| Settings {
        model: model.into(),
        seed,
        ..settings()
    };
    let on = |device: &str| Facts {
        device: device.into(),
        ..facts()
    };
    let (november, december) = (1_795_538_049_000, 1_796_200_000_000);
    let mut all = Vec::new();
    for at in 0..6 {
        let model = if at % 3 == 0 { "big" } else { "small" };
        let device = if at < 2 { "cuda:0" } else { "cpu" };
        let time = if at < 4 { november } else { december };
        let id = home
            .add_made(
                &alice(),
                &png(at),
                made(model, u64::MAX - u64::from(at)),
                on(device),
                time,
            )
            .await;
        all.push(id);
    }
    all.reverse();
    let facets = async |fields: &[(&str, &str)]| {
        home.gallery.facets(&alice(), &query(fields)).await.unwrap()
    };
    let value = |value: &str, count| FacetValue {
        value: value.into(),
        count,
    };
    let everything = facets(&[]).await;
    assert_eq!(everything.models, [value("small", 4), value("big", 2)]);
    assert_eq!(everything.devices, [value("cpu", 4), value("cuda", 2)]);
    assert_eq!(
        everything.months,
        [value("2026-12", 2), value("2026-11", 4)]
    );
    assert_eq!(everything.sizes, [value("600x8", 6)]);
    assert_eq!(everything.favourites, 0);
    // A facet that is asked for still shows its other values.
    for fields in [&[("model", "big")][..], &[("model", "big"), ("q", "red")]] {
        let big = facets(fields).await;
        assert_eq!(big.models, [value("small", 4), value("big", 2)]);
        assert_eq!(big.devices, [value("cpu", 1), value("cuda", 1)]);
        assert_eq!(big.months, [value("2026-11", 2)]);
    }
    assert_eq!(
        facets(&[("month", "2026-12")]).await.models,
        [value("small", 2)]
    );
    assert_eq!(
        home.gallery
            .facets(&bob(), &query(&[]))
            .await
            .unwrap()
            .models,
        []
    );

    let find = async |fields: &[(&str, &str)], after: Option<&str>, limit| {
        let page = home
            .gallery
            .find_images(&alice(), &query(fields), after, limit)
            .await;
        page.unwrap()
    };
    let seed = (u64::MAX - 2).to_string();
    assert_eq!(
        ids(&find(&[("seed", &seed)], None, 9).await),
        [all[3].clone()]
    );
    assert_eq!(
        find(&[("device", "cuda"), ("model", "small")], None, 9)
            .await
            .total,
        1
    );
    assert_eq!(
        find(
            &[("size", "600x8"), ("scheduler", "EulerDiscrete")],
            None,
            9
        )
        .await
        .total,
        6
    );
    assert_eq!(find(&[("model", "nobody's")], None, 9).await.total, 0);

    // Pages of a search go on where they were, whatever came or went in between.
    for fields in [
        &[("model", "small")][..],
        &[("q", "red"), ("model", "small")],
    ] {
        let first = find(fields, None, 2).await;
        assert_eq!((first.total, first.images.len()), (4, 2));
        let newest = home
            .add_made(&alice(), &png(9), made("small", 1), on("cpu"), december)
            .await;
        let last_seen = first.images[1].id.clone();
        home.gallery
            .delete_image(&alice(), &last_seen)
            .await
            .unwrap();
        let rest = find(fields, first.next.as_deref(), 9).await;
        assert_eq!((rest.images.len(), rest.next), (2, None));
        assert!(
            rest.images
                .iter()
                .all(|card| !ids(&first).contains(&card.id))
        );
        home.gallery
            .act(&alice(), &[last_seen], ImageAct::Restore)
            .await
            .unwrap();
        home.gallery.delete_image(&alice(), &newest).await.unwrap();
        home.gallery.empty_trash(&alice()).await.unwrap();
    }
}
