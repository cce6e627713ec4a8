//! How people come in: links with a role and an end, requests that wait, roles and what they allow.

use crate::personas::{Answer, PASSWORD, TestApp};
use atelier_app::account::Role;
use atelier_app::admin::NewInvitation;
use atelier_app::backend::People as _;
use atelier_app::error::AppError;
use axum::http::StatusCode;

const NEW_PASSWORD: &str = "violet tractor hums at noon";

impl TestApp {
    /// The secret of a new invitation.
    async fn invitation(&self, role: &str, days: &str, uses: &str) -> String {
        let made = self
            .admin()
            .await
            .browser
            .call(
                "invite",
                &[
                    ("role", role),
                    ("days", days),
                    ("uses", uses),
                    ("note", "for tests"),
                ],
            )
            .await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text());
        let path = made.json()["path"].as_str().unwrap().to_owned();
        path.strip_prefix("/join/").unwrap().to_owned()
    }

    async fn join(&self, code: &str, name: &str) -> Answer {
        let fields = [("code", code), ("name", name), ("password", NEW_PASSWORD)];
        self.anonymous().call("accept_invitation", &fields).await
    }

    /// Somebody asks for an account; the number they wait under, and since when.
    async fn asks(&self, name: &str) -> (String, String) {
        let fields = [("name", name), ("password", NEW_PASSWORD)];
        let asked = self.anonymous().call("sign_up", &fields).await;
        assert_eq!(asked.status, StatusCode::OK, "{}", asked.text());
        let admin = &self.admin().await.browser;
        let people = admin.call("load_people", &[]).await.json();
        let waiting = people["waiting"].as_array().unwrap();
        let row = waiting.iter().find(|row| row["name"] == name).unwrap();
        (row["id"].to_string(), row["asked_at"].to_string())
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(self.services.db.read())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_link_lets_one_person_in_with_its_role() {
    let app = TestApp::spawn().await;
    let code = app.invitation("viewer", "7", "1").await;
    let offer = app
        .anonymous()
        .call("load_invitation", &[("code", &code)])
        .await
        .json();
    assert_eq!(
        (&offer["role"], &offer["made_by"]),
        (&"viewer".into(), &"ada".into())
    );

    // Mistakes use nothing up.
    let visitor = app.anonymous();
    for (name, password, field) in [
        ("", NEW_PASSWORD, "name"),
        ("ada", NEW_PASSWORD, "name"),
        ("vera", "password1234", "password"),
    ] {
        let fields = [
            ("code", code.as_str()),
            ("name", name),
            ("password", password),
        ];
        let refused = visitor.call("accept_invitation", &fields).await;
        assert_eq!(refused.field(), field, "{}", refused.text());
        assert!(visitor.session().is_none());
    }

    let fields = [
        ("code", code.as_str()),
        ("name", "vera"),
        ("password", NEW_PASSWORD),
    ];
    let joined = visitor.call("accept_invitation", &fields).await;
    assert_eq!(joined.status, StatusCode::OK, "{}", joined.text());
    assert!(visitor.session().is_some(), "whoever joins is signed in");
    assert_eq!(app.user_row("vera").await.role, Role::Viewer);
    assert_eq!(
        app.anonymous().sign_in("vera", NEW_PASSWORD).await.status,
        StatusCode::OK
    );

    // Used up: nobody else, and no list shows it.
    assert_eq!(app.join(&code, "walter").await.field(), "code");
    let people = app
        .admin()
        .await
        .browser
        .call("load_people", &[])
        .await
        .json();
    assert_eq!(people["invitations"].as_array().unwrap().len(), 0);
    // The secret itself is nowhere.
    assert_eq!(
        app.count("select count(*) from invitation where length(secret_hash) = 64")
            .await,
        1
    );
    app.stop().await;
}

#[tokio::test]
async fn of_racing_guests_only_as_many_come_in_as_the_link_says() {
    let app = TestApp::spawn().await;
    let code = app.invitation("member", "1", "2").await;
    let app = std::sync::Arc::new(app);
    let tries = (0..6).map(|number| {
        let (app, code) = (app.clone(), code.clone());
        tokio::spawn(async move { app.join(&code, &format!("guest {number}")).await.status })
    });
    let mut joined = 0;
    for attempt in tries.collect::<Vec<_>>() {
        joined += usize::from(attempt.await.unwrap() == StatusCode::OK);
    }
    assert_eq!(joined, 2);
    assert_eq!(app.count("select count(*) from user").await, 3);
    std::sync::Arc::into_inner(app).unwrap().stop().await;
}

#[tokio::test]
async fn every_dead_link_looks_the_same() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    let revoked = app.invitation("member", "7", "1").await;
    let id = admin.call("load_people", &[]).await.json()["invitations"][0]["id"].to_string();
    assert_eq!(
        admin.call("revoke_invitation", &[("id", &id)]).await.status,
        StatusCode::OK
    );
    assert_eq!(
        admin.call("revoke_invitation", &[("id", &id)]).await.status,
        StatusCode::NOT_FOUND
    );
    let old = app.invitation("member", "1", "1").await;
    app.tamper("update invitation set expires_at = expires_at - 86400001 where revoked_at is null")
        .await;
    let unknown = "A".repeat(43);
    let looks = app.join("nonsense", "eve").await.looks();
    for code in [&revoked, &old, &unknown] {
        assert_eq!(app.join(code, "eve").await.looks(), looks);
        let page = app.anonymous().get(&format!("/join/{code}")).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND);
        assert!(page.text().contains("This invitation has ended"));
    }
    app.stop().await;
}

#[tokio::test]
async fn the_links_of_a_former_administrator_let_nobody_in() {
    let app = TestApp::spawn().await;
    let ada = &app.admin().await.browser;
    for way_out in [
        ("set_user_role", "role", "member"),
        ("set_user_disabled", "disabled", "true"),
    ] {
        let (function, field, value) = way_out;
        let eve = app.user(&format!("eve {field}"), Role::Admin).await;
        let fields = [
            ("role", "admin"),
            ("days", "7"),
            ("uses", "9"),
            ("note", "a way back"),
        ];
        let made = eve.browser.call("invite", &fields).await.json();
        let path = made["path"].as_str().unwrap().to_owned();
        let code = path.strip_prefix("/join/").unwrap();
        assert_eq!(
            app.join(code, &format!("guest {field}")).await.status,
            StatusCode::OK
        );
        let kept = app.invitation("member", "7", "1").await;

        let id = eve.viewer.id.0.to_string();
        let gone = ada.call(function, &[("id", &id), (field, value)]).await;
        assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
        assert_eq!(
            app.join(code, &format!("late {field}")).await.field(),
            "code",
            "{function}"
        );
        let (_, act, subject) = app.acts().await.swap_remove(1);
        assert_eq!(
            (act.as_str(), subject.as_str()),
            ("invitation.revoke", "a way back")
        );
        // What others made stays open.
        assert_eq!(
            app.join(&kept, &format!("friend {field}")).await.status,
            StatusCode::OK
        );

        // A request that was let through before the role went makes no link either.
        let before = app.count("select count(*) from invitation").await;
        let new = NewInvitation {
            role: Role::Admin,
            days: 1,
            uses: 1,
            note: String::new(),
        };
        let refused = app.services.people.invite(&eve.viewer, new).await;
        assert_eq!(refused, Err(AppError::Forbidden), "{function}");
        assert_eq!(app.count("select count(*) from invitation").await, before);
    }
    app.stop().await;
}

#[tokio::test]
async fn only_administrators_invite_and_within_bounds() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let fields = [("role", "admin"), ("days", "1"), ("uses", "1")];
    for browser in [&bob.browser, &app.anonymous()] {
        for (function, fields) in [
            ("invite", &fields[..]),
            ("load_people", &[]),
            ("load_person", &[("id", "1")]),
            ("revoke_invitation", &[("id", "1")]),
            ("set_self_sign_up", &[("on", "true")]),
            (
                "answer_sign_up",
                &[("id", "1"), ("asked_at", "1"), ("role", "admin")],
            ),
            ("set_user_role", &[("id", "2"), ("role", "admin")]),
        ] {
            let status = browser.call(function, fields).await.status;
            assert!(
                matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED),
                "{function}: {status}"
            );
        }
    }
    for (days, uses, field) in [
        ("0", "1", "days"),
        ("366", "1", "days"),
        ("1", "0", "uses"),
        ("1", "1001", "uses"),
        ("x", "1", "days"),
    ] {
        let fields = [("role", "member"), ("days", days), ("uses", uses)];
        let refused = app.admin().await.browser.call("invite", &fields).await;
        assert_eq!(refused.field(), field, "{}", refused.text());
    }
    assert_eq!(app.count("select count(*) from invitation").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn requests_for_accounts_are_off_until_switched_on_and_wait() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    let visitor = app.anonymous();
    let fields = [("name", "nina"), ("password", NEW_PASSWORD)];
    assert_eq!(visitor.call("may_sign_up", &[]).await.json(), false);
    assert_eq!(visitor.call("sign_up", &fields).await.field(), "name");
    assert_eq!(visitor.get("/sign-up").await.header("location"), "/sign-in");

    admin.call("set_self_sign_up", &[("on", "true")]).await;
    assert_eq!(visitor.call("may_sign_up", &[]).await.json(), true);
    assert_eq!(
        visitor.call("sign_up", &fields).await.status,
        StatusCode::OK
    );
    assert!(visitor.session().is_none());
    let waits = visitor.sign_in("nina", NEW_PASSWORD).await;
    assert!(
        waits.text().contains("waits for an administrator"),
        "{}",
        waits.text()
    );
    // Whoever does not know the password does not learn that somebody waits.
    let wrong = visitor.sign_in("nina", "sparrow kettle under moss").await;
    assert!(!wrong.text().contains("waits"), "{}", wrong.text());

    let people = admin.call("load_people", &[]).await.json();
    assert_eq!(people["waiting"][0]["name"], "nina");
    assert!(!people["users"].to_string().contains("nina"));
    let id = people["waiting"][0]["id"].to_string();
    let asked_at = people["waiting"][0]["asked_at"].to_string();
    // Neither another role nor opening the door goes around the answer.
    for (function, field) in [
        ("set_user_role", ("role", "admin")),
        ("set_user_disabled", ("disabled", "false")),
    ] {
        let around = admin.call(function, &[("id", &id), field]).await;
        assert_eq!(around.status, StatusCode::NOT_FOUND, "{function}");
    }
    let let_in = admin
        .call(
            "answer_sign_up",
            &[("id", &id), ("asked_at", &asked_at), ("role", "viewer")],
        )
        .await;
    assert_eq!(let_in.status, StatusCode::OK, "{}", let_in.text());
    assert_eq!(
        visitor.sign_in("nina", NEW_PASSWORD).await.status,
        StatusCode::OK
    );
    assert_eq!(app.user_row("nina").await.role, Role::Viewer);

    // Refused: forgotten, and the name is free again.
    let (id, asked_at) = app.asks("mallory").await;
    let no = [("id", id.as_str()), ("asked_at", &asked_at), ("role", "")];
    assert_eq!(
        admin.call("answer_sign_up", &no).await.status,
        StatusCode::OK
    );
    assert_eq!(
        app.count("select count(*) from user where name = 'mallory'")
            .await,
        0
    );
    app.stop().await;
}

/// Mallory is refused, Oscar asks and has Mallory's number, as before numbers were kept for good: what
/// was meant for Mallory on a page that is still open must not reach Oscar.
#[tokio::test]
async fn an_answer_reaches_only_whom_it_was_meant_for() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    admin.call("set_self_sign_up", &[("on", "true")]).await;
    let (id, meant_for) = app.asks("mallory").await;
    let refuse = [("id", id.as_str()), ("asked_at", &meant_for), ("role", "")];
    let refused = admin.call("answer_sign_up", &refuse).await;
    assert_eq!(refused.status, StatusCode::OK);
    // Another millisecond.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let (another, asked_at) = app.asks("oscar").await;
    assert_ne!(another, id, "a number is nobody else's");
    app.tamper("update user set id = (select last from user_number) where name = 'oscar'")
        .await;
    let number = app
        .count("select id from user where name = 'oscar'")
        .await
        .to_string();
    assert_eq!(number, id, "else this test shows nothing");
    for role in ["admin", ""] {
        let late = [
            ("id", id.as_str()),
            ("asked_at", &meant_for),
            ("role", role),
        ];
        let late = admin.call("answer_sign_up", &late).await;
        assert_eq!(late.status, StatusCode::NOT_FOUND, "{role:?}");
    }
    let waits = "select count(*) from user where name = 'oscar' and waiting_since is not null";
    assert_eq!(app.count(waits).await, 1);
    let meant = [
        ("id", id.as_str()),
        ("asked_at", &asked_at),
        ("role", "member"),
    ];
    assert_eq!(
        admin.call("answer_sign_up", &meant).await.status,
        StatusCode::OK
    );
    assert_eq!(app.user_row("oscar").await.role, Role::Member);
    app.stop().await;
}

#[tokio::test]
async fn one_address_cannot_fill_the_list_of_requests() {
    let app = TestApp::spawn().await;
    app.admin()
        .await
        .browser
        .call("set_self_sign_up", &[("on", "true")])
        .await;
    let flood = app.anonymous();
    let ask = async |number: u32| {
        let name = format!("bot {number}");
        flood
            .call("sign_up", &[("name", &name), ("password", NEW_PASSWORD)])
            .await
    };
    for number in 0..5 {
        assert_eq!(ask(number).await.status, StatusCode::OK, "{number}");
    }
    // As if the last of them had been a moment ago, however slow this machine is.
    app.tamper("update sign_in_failure set last_at = last_at + 60000")
        .await;
    let refused = ask(5).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        refused.text().contains("many requests for accounts"),
        "{}",
        refused.text()
    );
    let elsewhere = app.anonymous().at([192, 0, 2, 9]);
    let answer = elsewhere
        .call("sign_up", &[("name", "nina"), ("password", NEW_PASSWORD)])
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());

    // Requests that nobody answers are forgotten after a month, so that the list cannot stay full.
    app.tamper(
        "update user set waiting_since = waiting_since - 31 * 86400000
         where waiting_since is not null and name <> 'nina'",
    )
    .await;
    let answer = elsewhere
        .call("sign_up", &[("name", "omar"), ("password", NEW_PASSWORD)])
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let people = app
        .admin()
        .await
        .browser
        .call("load_people", &[])
        .await
        .json();
    let waiting: Vec<&str> = people["waiting"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(waiting, ["nina", "omar"]);
    // At the command line they are told from people who are not there.
    let words = |name: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_atelier"))
            .args(["user", "role", name, "viewer"])
            .env("ATELIER_DATA_DIR", app.data_dir())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(words("nina").contains("waits to be let in"));
    assert!(words("nobody").contains("There is no user"));
    app.stop().await;
}

#[tokio::test]
async fn nobody_is_called_what_the_log_calls_the_command_line() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    for name in ["command line", "Command Line", "COMMAND  LINE"] {
        let fields = [
            ("name", name),
            ("password", NEW_PASSWORD),
            ("role", "member"),
        ];
        let refused = admin.call("create_user", &fields).await;
        assert_eq!(refused.field(), "name", "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn roles_change_at_once_and_an_administrator_is_always_left() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let bob = app.member("bob").await;
    let bob_id = bob.viewer.id.0.to_string();
    let me = admin.viewer.id.0.to_string();

    // The last one can neither be demoted nor closed out, by anybody.
    let refused = admin
        .browser
        .call("set_user_role", &[("id", &me), ("role", "member")])
        .await;
    assert_eq!(refused.field(), "role", "{}", refused.text());
    assert_eq!(app.user_row("ada").await.role, Role::Admin);

    let made = admin
        .browser
        .call("set_user_role", &[("id", &bob_id), ("role", "admin")])
        .await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    // What was open under the old role is shut.
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    bob.browser.sign_in("bob", PASSWORD).await;
    assert_eq!(
        bob.browser.call("load_people", &[]).await.status,
        StatusCode::OK
    );

    // Now there are two: one may go, the other may not.
    let closed = bob
        .browser
        .call("set_user_disabled", &[("id", &me), ("disabled", "true")])
        .await;
    assert_eq!(closed.status, StatusCode::OK, "{}", closed.text());
    let refused = bob
        .browser
        .call("set_user_role", &[("id", &bob_id), ("role", "viewer")])
        .await;
    assert_eq!(refused.field(), "role");
    let missing = bob
        .browser
        .call("set_user_role", &[("id", "4711"), ("role", "viewer")])
        .await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    bob.browser
        .call("set_user_disabled", &[("id", &me), ("disabled", "false")])
        .await;
    app.stop().await;
}

#[tokio::test]
async fn a_viewer_is_told_plainly_why_there_is_no_image() {
    let app = TestApp::spawn().await;
    let vera = app.user("vera", Role::Viewer).await;
    let token = app.token(&vera).await.secret;
    let asked = app
        .with_token(&token)
        .post_json("/api/generate-image", "{\"prompt\": \"a red circle\"}")
        .await;
    assert_eq!(asked.status, StatusCode::FORBIDDEN);
    let detail = asked.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("viewer") && detail.contains("administrator"),
        "{detail}"
    );
    // What is theirs they may see.
    assert_eq!(
        app.with_token(&token).get("/api/images").await.status,
        StatusCode::OK
    );
    app.stop().await;
}
