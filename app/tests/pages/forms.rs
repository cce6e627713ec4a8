//! Forms as a browser without wasm posts them: what they reach, where they lead, what they lose.

use crate::fake::{House, admin, get, member, post};
use crate::html::tags;
use std::sync::Arc;

fn house() -> Arc<House> {
    Arc::new(House::default())
}

#[tokio::test]
async fn signing_in_leads_on_and_sets_the_cookie() {
    let house = house();
    let form = "name=ada&password=right&next=%2Fgallery%3Fafter%3D7";
    let answer = post(&house, None, "/app/sign_in", "/sign-in?next=/gallery", form).await;
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("/gallery?after=7"))
    );
    assert_eq!(
        answer.cookies,
        ["sid=secret; Path=/; HttpOnly; SameSite=Lax"]
    );
    assert_eq!(house.taken(), ["sign in ada"]);

    let form = "name=ada&password=right&next=https%3A%2F%2Fevil.example";
    let answer = post(&house, None, "/app/sign_in", "/sign-in", form).await;
    assert_eq!(answer.location.as_deref(), Some("/"));
}

#[tokio::test]
async fn a_wrong_password_is_said_on_the_page() {
    let house = house();
    let form = "name=ada&password=wrong&next=";
    let answer = post(
        &house,
        None,
        "/app/sign_in",
        "/sign-in?next=%2Fgallery",
        form,
    )
    .await;
    assert_eq!(answer.status, 302);
    assert!(answer.cookies.is_empty());
    let location = answer.location.expect("back to the form");
    let path = location
        .strip_prefix("http://localhost")
        .unwrap_or(&location);
    assert!(path.starts_with("/sign-in?next=%2Fgallery&"), "{path}");
    let page = get(&house, None, path).await;
    assert!(
        page.html.contains("Name or password is wrong."),
        "the error is shown"
    );
}

#[tokio::test]
async fn setting_up_and_signing_out() {
    let house = house();
    let form = "code=+open-sesame+&name=ada&password=right";
    let answer = post(&house, None, "/app/create_first_admin", "/setup", form).await;
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("/"))
    );
    assert_eq!(answer.cookies.len(), 1);
    let answer = post(&house, admin(), "/app/sign_out", "/account", "").await;
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("/sign-in"))
    );
    assert_eq!(answer.cookies, ["sid=; Max-Age=0; Path=/"]);
    assert_eq!(house.taken(), ["first admin ada", "sign out"]);
}

#[tokio::test]
async fn a_changed_password_is_confirmed() {
    let house = house();
    let answer = post(
        &house,
        member(),
        "/app/change_password",
        "/account",
        "current=right&new=longer",
    )
    .await;
    assert_eq!(
        answer.location.as_deref(),
        Some("/account?changed=password")
    );
    let page = get(&house, member(), "/account?changed=password").await;
    assert!(page.html.contains("Password changed."));
}

#[tokio::test]
async fn a_generation_can_be_asked_for_without_wasm() {
    let house = house();
    let form = "prompt=a+red+circle&negative_prompt=&num_inference_steps=12&guidance_scale=7%2C5\
                &width=&height=&seed=&scheduler=&model=";
    let answer = post(&house, member(), "/app/submit_generation", "/", form).await;
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("/"))
    );
    let asked = house.taken();
    assert!(
        asked[0].contains("num_inference_steps: Some(12)"),
        "{asked:?}"
    );
    assert!(asked[0].contains("guidance_scale: Some(7.5)"), "{asked:?}");
    assert!(asked[0].contains("negative_prompt: None"), "{asked:?}");
}

#[tokio::test]
async fn nothing_typed_is_lost_to_an_error() {
    let house = house();
    let form = "prompt=a+star+%26+a+moon&negative_prompt=blur&num_inference_steps=0&guidance_scale=\
                &width=64&height=&seed=42&scheduler=&model=";
    let answer = post(&house, member(), "/app/submit_generation", "/", form).await;
    assert!(house.taken().is_empty());
    let path = answer.location.expect("back to the studio");
    let page = get(&house, member(), &path).await;
    assert!(
        page.html.contains("At least one step is needed."),
        "the error is shown"
    );
    assert!(
        page.html.contains("a star &amp; a moon</textarea>"),
        "the prompt"
    );
    assert!(page.html.contains("blur</textarea>"), "the negative prompt");
    let tags = tags(&page.html);
    let input = |name: &str| {
        tags.iter()
            .find(|tag| tag.name == "input" && tag.get("name") == Some(name))
            .unwrap()
    };
    assert_eq!(input("width").get("value"), Some("64"));
    assert_eq!(input("seed").get("value"), Some("42"));
    assert_eq!(
        input("num_inference_steps").get("aria-invalid"),
        Some("true")
    );
    let fold = tags
        .iter()
        .find(|tag| tag.get("id") == Some("advanced"))
        .unwrap();
    assert!(
        fold.get("open").is_some(),
        "the fold with the wrong field is open"
    );
}

#[tokio::test]
async fn forms_on_every_page_reach_a_server_function() {
    let house = Arc::new(House {
        prompt: "a red circle".into(),
        images: 3,
        ..House::default()
    });
    let mut seen = Vec::new();
    for path in [
        "/",
        "/gallery/img-1",
        "/account",
        "/admin",
        "/admin/models",
        "/admin/queue",
        "/admin/settings",
        "/admin/backups",
        "/admin/people",
        "/admin/people/2",
    ] {
        let page = get(&house, admin(), path).await;
        for form in tags(&page.html).iter().filter(|tag| tag.name == "form") {
            // A search changes nothing: its form only makes an address.
            if form.get("role") == Some("search") {
                assert_eq!(form.get("method"), Some("get"), "{path}: {form:?}");
                continue;
            }
            assert_eq!(form.get("method"), Some("post"), "{path}: {form:?}");
            let action = form.get("action").unwrap().to_owned();
            let known =
                leptos::server_fn::axum::server_fn_paths().any(|(known, _)| known == action);
            assert!(known, "{path}: {action}");
            seen.push(action);
        }
    }
    for expected in [
        "/app/submit_generation",
        "/app/delete_image",
        "/app/change_password",
        "/app/revoke_session",
        "/app/revoke_token",
        "/app/create_token",
        "/app/test_devices_again",
        "/app/set_device_choice",
        "/app/cancel_any_job",
        "/app/act_on_model",
        "/app/set_model_access",
        "/app/set_queue_hold",
        "/app/cancel_jobs",
        "/app/move_job",
        "/app/change_setting",
        "/app/reset_setting",
        "/app/begin_backup",
        "/app/delete_backup",
        "/app/create_user",
        "/app/set_user_disabled",
        "/app/set_user_role",
        "/app/make_reset_link",
        "/app/remove_user",
        "/app/allow_looks",
        "/app/end_two_step_of",
        "/app/begin_two_step",
        "/app/change_name",
        "/app/revoke_other_sessions",
        "/app/unlink_outside",
        "/app/invite",
        "/app/revoke_invitation",
        "/app/answer_sign_up",
        "/app/set_self_sign_up",
        "/app/sign_out",
    ] {
        assert!(
            seen.iter().any(|action| action == expected),
            "{expected}: {seen:?}"
        );
    }
}

#[tokio::test]
async fn deleting_and_revoking_lead_back() {
    let house = house();
    let answer = post(
        &house,
        member(),
        "/app/delete_image",
        "/gallery/img-1",
        "id=img-1",
    )
    .await;
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("/gallery?trashed=1"))
    );
    let answer = post(&house, member(), "/app/revoke_token", "/account", "id=5").await;
    // Leptos takes its own error out of the address and leaves the question mark.
    let location = answer
        .location
        .as_deref()
        .map(|to| to.trim_end_matches('?'));
    assert_eq!(location, Some("http://localhost/account"));
    let answer = post(
        &house,
        admin(),
        "/app/set_user_disabled",
        "/admin",
        "id=2&disabled=true",
    )
    .await;
    let location = answer
        .location
        .as_deref()
        .map(|to| to.trim_end_matches('?'));
    assert_eq!(location, Some("http://localhost/admin"));
    assert_eq!(
        house.taken(),
        ["delete img-1", "revoke token 5", "disable 2 true"]
    );
}

#[tokio::test]
async fn several_images_are_changed_by_a_plain_form() {
    let house = Arc::new(House {
        images: 1,
        ..House::default()
    });
    for (path, form, back) in [
        (
            "/app/trash_images",
            "ids%5B%5D=img-1&ids%5B%5D=img-2",
            "/gallery?trashed=2",
        ),
        (
            "/app/set_favourite",
            "ids%5B%5D=img-1&favourite=true&collection=c",
            "/gallery/img-1",
        ),
        (
            "/app/rate_images",
            "ids%5B%5D=img-1&rating=4",
            "/gallery/img-1",
        ),
        (
            "/app/collect_images",
            "ids%5B%5D=img-1&ids%5B%5D=img-2&collection=c-1",
            "/gallery",
        ),
        ("/app/restore_images", "ids%5B%5D=img-1", "/trash"),
        ("/app/delete_for_good", "ids%5B%5D=img-1", "/trash"),
        ("/app/set_trash_days", "days=+7+", "/trash"),
        (
            "/app/create_collection",
            "name=Cats&shared=true",
            "/collections",
        ),
    ] {
        let answer = post(&house, admin(), path, "/gallery", form).await;
        let went = (answer.status, answer.location.as_deref());
        assert_eq!(went, (302, Some(back)), "{path}");
    }
    assert_eq!(
        house.taken(),
        [
            "Trash img-1 img-2",
            "Favourite(true) img-1",
            "Rate(4) img-1",
            "Collect(CollectionId(\"c-1\")) img-1 img-2",
            "Restore img-1",
            "DeleteForGood img-1",
            "trash days 7",
            "Create { name: \"Cats\", shared: true }",
        ]
    );
}

#[tokio::test]
async fn devices_are_chosen_and_tested_by_plain_forms() {
    let house = house();
    for form in [
        "device=cuda%3A0&precision=bf16&refiner_device=cuda%3A1&idle_release_s=300",
        "device=auto&precision=auto&refiner_device=&idle_release_s=0",
    ] {
        let answer = post(&house, admin(), "/app/set_device_choice", "/admin", form).await;
        assert_eq!(answer.status, 302);
    }
    for form in ["", "device=cuda%3A1"] {
        let answer = post(&house, admin(), "/app/test_devices_again", "/admin", form).await;
        assert_eq!(answer.status, 302);
    }
    assert_eq!(
        house.taken(),
        [
            "choose cuda:0 bf16 Some(\"cuda:1\") 300",
            "choose auto auto None 0",
            "test everything again",
            "test cuda:1 again"
        ]
    );
}

#[tokio::test]
async fn the_server_is_run_by_plain_forms() {
    let house = house();
    for (path, form) in [
        ("/app/set_queue_hold", "hold=paused&on=true"),
        ("/app/set_queue_hold", "hold=closed&on=false"),
        ("/app/cancel_jobs", "ids%5B%5D=a&ids%5B%5D=b"),
        ("/app/cancel_jobs", "user=2"),
        ("/app/cancel_jobs", "waiting=true"),
        ("/app/move_job", "id=a&to=front"),
        ("/app/move_job", "id=a&to=before&before=b"),
        ("/app/change_setting", "name=max_batch&value=4"),
        ("/app/reset_setting", "name=max_batch"),
        ("/app/set_model_access", "name=demo&role=admin"),
        ("/app/begin_backup", ""),
        ("/app/delete_backup", "name=atelier-1.tar"),
    ] {
        let answer = post(&house, admin(), path, "/admin/queue", form).await;
        assert_eq!(answer.status, 302, "{path} {form}");
    }
    assert_eq!(
        house.taken(),
        [
            "paused true",
            "closed false",
            "cancel Jobs([JobId(\"a\"), JobId(\"b\")])",
            "cancel OfUser(UserId(2))",
            "cancel Waiting",
            "move a Front",
            "move a Before(JobId(\"b\"))",
            "set max_batch Some(\"4\")",
            "set max_batch None",
            "demo is for admin",
            "begin a backup",
            "delete atelier-1.tar",
        ]
    );
    // What cannot be done is said on the page it was asked from.
    let answer = post(&house, admin(), "/app/cancel_jobs", "/admin/queue", "").await;
    let location = answer.location.expect("back to the page");
    let path = location.trim_start_matches("http://localhost");
    let page = get(&house, admin(), path).await;
    assert!(page.html.contains("Select at least one job first."));
    let form = "name=max_batch&value=0";
    let answer = post(
        &house,
        admin(),
        "/app/change_setting",
        "/admin/settings",
        form,
    )
    .await;
    let location = answer.location.expect("back to the page");
    let path = location.trim_start_matches("http://localhost");
    let page = get(&house, admin(), path).await;
    assert!(page.html.contains("Give a whole number, 1 to 50."));
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn nothing_is_done_for_nobody() {
    let house = house();
    for (path, form) in [
        ("/app/trash_images", "ids%5B%5D=img-1"),
        ("/app/delete_for_good", "ids%5B%5D=img-1"),
        ("/app/empty_trash", ""),
        ("/app/set_trash_days", "days=1"),
        ("/app/create_collection", "name=x"),
        ("/app/delete_collection", "id=c-1"),
        ("/app/submit_generation", "prompt=x"),
        ("/app/delete_image", "id=img-1"),
        ("/app/revoke_token", "id=5"),
        ("/app/revoke_session", "id=two"),
        ("/app/cancel_job", "id=job-1"),
        ("/app/cancel_any_job", "id=job-1"),
        ("/app/test_devices_again", ""),
        (
            "/app/set_device_choice",
            "device=cpu&precision=auto&refiner_device=&idle_release_s=0",
        ),
        ("/app/set_user_disabled", "id=2&disabled=true"),
        ("/app/create_user", "name=x&password=y&role=admin"),
        ("/app/set_user_role", "id=2&role=admin"),
        ("/app/make_reset_link", "id=2"),
        ("/app/remove_user", "id=2&erase=true"),
        ("/app/allow_looks", "on=true"),
        ("/app/look_at_images", "id=2"),
        ("/app/end_two_step_of", "id=2"),
        ("/app/end_two_step", "password=x"),
        ("/app/change_name", "name=x"),
        ("/app/revoke_other_sessions", ""),
        ("/app/unlink_outside", ""),
        ("/app/invite", "role=admin&days=1&uses=1"),
        ("/app/revoke_invitation", "id=3"),
        ("/app/answer_sign_up", "id=7&asked_at=1&role=admin"),
        ("/app/set_self_sign_up", "on=true"),
        ("/app/change_password", "current=right&new=x"),
    ] {
        let answer = post(&house, None, path, "/", form).await;
        assert_eq!(answer.status, 302, "{path}");
        assert!(answer.location.unwrap().contains("__err="), "{path}");
    }
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn an_invitation_is_accepted_without_wasm() {
    let house = house();
    let form = "code=open-sesame&name=bob&password=violet+tractor+hums+at+noon";
    let answer = post(
        &house,
        None,
        "/app/accept_invitation",
        "/join/open-sesame",
        form,
    )
    .await;
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("/"))
    );
    assert_eq!(answer.cookies.len(), 1);
    assert_eq!(house.taken(), ["join bob"]);

    // A name that is taken leads back to the form, which says so.
    let form = "code=open-sesame&name=ada&password=violet+tractor+hums+at+noon";
    let answer = post(
        &house,
        None,
        "/app/accept_invitation",
        "/join/open-sesame",
        form,
    )
    .await;
    let location = answer.location.unwrap();
    let path = location.strip_prefix("http://localhost").unwrap();
    assert!(path.starts_with("/join/open-sesame?"), "{path}");
    let page = get(&house, None, path).await;
    assert!(page.html.contains("That name is taken."), "{}", page.html);
    assert!(answer.cookies.is_empty() && house.taken().is_empty());
}

#[tokio::test]
async fn the_second_step_and_a_reset_work_without_wasm() {
    let house = Arc::new(House {
        two_step: true,
        ..House::default()
    });
    let form = "name=ada&password=right&next=%2Fgallery";
    let answer = post(&house, None, "/app/sign_in", "/sign-in", form).await;
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("/sign-in/code?next=%2Fgallery"))
    );
    assert!(answer.cookies[0].starts_with("step="));
    let page = get(&house, None, "/sign-in/code?next=%2Fgallery").await;
    assert!(page.html.contains("value=\"/gallery\""), "{}", page.html);
    let form = "code=123456&next=%2Fgallery";
    let answer = post(&house, None, "/app/enter_code", "/sign-in/code", form).await;
    assert_eq!(answer.location.as_deref(), Some("/gallery"));

    let form = "code=open-sesame&username=ada&password=violet+tractor+hums+at+noon";
    let answer = post(
        &house,
        None,
        "/app/reset_by_link",
        "/reset/open-sesame",
        form,
    )
    .await;
    assert_eq!(answer.location.as_deref(), Some("/sign-in?reset"));
    assert_eq!(house.taken(), ["sign in ada", "second step", "reset"]);
    let page = get(&house, None, "/sign-in?reset").await;
    assert!(page.html.contains("The new password is set."));
}

#[tokio::test]
async fn somebody_is_removed_only_with_a_word_about_their_images() {
    let house = house();
    for (form, done) in [
        ("id=2", None),
        ("id=2&heir=", None),
        ("id=2&heir=3&erase=true", None),
        ("id=2&heir=x", None),
        ("id=2&heir=3", Some("remove 2 HandOver(UserId(3))")),
        ("id=2&heir=&erase=true", Some("remove 2 Erase")),
    ] {
        let answer = post(&house, admin(), "/app/remove_user", "/admin/people/2", form).await;
        let location = answer.location.unwrap();
        match done {
            Some(words) => {
                assert_eq!(location, "/admin/people", "{form}");
                assert_eq!(house.taken(), [words]);
            }
            None => {
                assert!(location.contains("__err="), "{form}: {location}");
                assert!(house.taken().is_empty(), "{form}");
            }
        }
    }
}
