//! Setting up, signing in and out, passwords, sessions, and who may not.

use crate::command_line::atelier;
use crate::personas::{PASSWORD, TestApp};
use atelier_app::account::Role;
use atelier_app::backend::{Accounts as _, Admin as _, Client, SessionSecret};
use atelier_app::error::AppError;
use axum::http::StatusCode;
use std::path::Path;

#[tokio::test]
async fn an_empty_server_wants_its_code_and_only_once() {
    let app = TestApp::spawn().await;
    let code = app.setup_code.clone().unwrap();
    let visitor = app.anonymous();
    assert_eq!(visitor.call("needs_setup", &[]).await.json(), true);

    let wrong = visitor.set_up("0000-0000-0000", "eve", PASSWORD).await;
    assert_eq!(
        (wrong.status, wrong.field().as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "code")
    );
    assert!(visitor.session().is_none());

    // A right code with a bad password sets nothing up, and is no wrong try.
    for _ in 0..6 {
        let weak = visitor.set_up(&code, "ada", "password1234").await;
        assert_eq!(weak.field(), "password", "{}", weak.text());
    }
    assert_eq!(visitor.call("needs_setup", &[]).await.json(), true);

    let sloppy = code.to_lowercase().replace('-', " ");
    let right = visitor.set_up(&sloppy, "ada", PASSWORD).await;
    assert_eq!(right.status, StatusCode::OK, "{}", right.text());
    assert!(visitor.session().is_some());
    assert_eq!(app.user_row_of_first("ada").await, Role::Admin);

    let again = app.anonymous().set_up(&code, "eve", PASSWORD).await;
    assert_eq!(again.field(), "code", "{}", again.text());
    assert_eq!(visitor.call("needs_setup", &[]).await.json(), false);
    app.stop().await;
}

impl TestApp {
    /// The role of the one user of a server that was just set up.
    async fn user_row_of_first(&self, name: &str) -> Role {
        let row: (String, String) = sqlx::query_as("select name, role from user")
            .fetch_one(self.services.db.read())
            .await
            .unwrap();
        assert_eq!(row.0, name);
        row.1.parse().unwrap()
    }
}

#[tokio::test]
async fn guests_who_come_first_leave_the_setup_code_good() {
    // From the command line, before the server ever ran: somebody who is no administrator.
    let data = tempfile::tempdir().unwrap();
    let member = ["user", "add", "bob", "--role", "member"];
    let added = atelier(data.path(), &member, &format!("{PASSWORD}\n"));
    assert!(added.status.success(), "{added:?}");
    let app = TestApp::spawn_with(|config| config.data_dir.path = data.path().to_owned()).await;
    let code = app.setup_code.clone().expect("nobody administrates yet");

    // And while it runs, by a link.
    let invited = atelier(data.path(), &["user", "invite"], "");
    assert!(invited.status.success(), "{invited:?}");
    let link = String::from_utf8(invited.stdout).unwrap();
    let secret = link.trim().strip_prefix("/join/").unwrap().to_owned();
    let guest = app.anonymous();
    let fields = [
        ("code", secret.as_str()),
        ("name", "carol"),
        ("password", PASSWORD),
    ];
    let joined = guest.call("accept_invitation", &fields).await;
    assert_eq!(joined.status, StatusCode::OK, "{}", joined.text());

    let visitor = app.anonymous();
    assert_eq!(visitor.call("needs_setup", &[]).await.json(), true);
    let taken = visitor.set_up(&code, "carol", PASSWORD).await;
    assert_eq!(taken.field(), "name", "{}", taken.text());
    let right = visitor.set_up(&code, "ada", PASSWORD).await;
    assert_eq!(right.status, StatusCode::OK, "{}", right.text());
    assert_eq!(visitor.call("needs_setup", &[]).await.json(), false);
    let again = app.anonymous().set_up(&code, "eve", PASSWORD).await;
    assert_eq!(again.field(), "code", "{}", again.text());
    assert_eq!(
        visitor.call("load_people", &[]).await.status,
        StatusCode::OK
    );
    app.stop().await;
}

#[tokio::test]
async fn of_racing_setups_exactly_one_wins() {
    let app = TestApp::spawn().await;
    let code = app.setup_code.clone().unwrap();
    // Four, because the fifth try on one counter has to wait.
    let tries = (0..4).map(|number| {
        let (visitor, code) = (app.anonymous(), code.clone());
        tokio::spawn(async move {
            visitor
                .set_up(&code, &format!("racer {number}"), PASSWORD)
                .await
                .status
        })
    });
    let mut won = 0;
    for attempt in tries.collect::<Vec<_>>() {
        won += usize::from(attempt.await.unwrap() == StatusCode::OK);
    }
    assert_eq!(won, 1);
    let users: i64 = sqlx::query_scalar("select count(*) from user")
        .fetch_one(app.services.db.read())
        .await
        .unwrap();
    let admins: i64 = sqlx::query_scalar("select count(*) from user where role = 'admin'")
        .fetch_one(app.services.db.read())
        .await
        .unwrap();
    assert_eq!((users, admins), (1, 1));
    app.stop().await;
}

#[tokio::test]
async fn guessing_the_setup_code_meets_the_delay() {
    let app = TestApp::spawn().await;
    let visitor = app.anonymous();
    let mut checked = 0;
    for number in 0..100 {
        let answer = visitor
            .set_up(&format!("AAAA-AAAA-{number:04}"), "eve", PASSWORD)
            .await;
        checked += usize::from(answer.status != StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(
        (4..=10).contains(&checked),
        "{checked} guesses were checked"
    );
    app.stop().await;
}

#[tokio::test]
async fn signing_in_and_out() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let first = bob.browser.copy();
    let first_secret = first.session().unwrap();

    // Letter case of the name does not matter; each sign-in has an id of its own, and ends the old.
    assert_eq!(
        bob.browser.sign_in("BOB", PASSWORD).await.status,
        StatusCode::OK
    );
    assert_ne!(bob.browser.session().unwrap(), first_secret);
    assert_eq!(
        first.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::OK
    );

    let before = bob.browser.copy();
    assert_eq!(
        bob.browser.call("sign_out", &[]).await.status,
        StatusCode::OK
    );
    assert!(bob.browser.session().is_none(), "the cookie is cleared");
    assert_eq!(
        before.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        before.get("/api/models").await.status,
        StatusCode::UNAUTHORIZED
    );
    app.stop().await;
}

#[tokio::test]
async fn the_cookie_is_as_closed_as_it_can_be() {
    let plain = TestApp::spawn().await;
    let answer = plain
        .anonymous()
        .set_up(plain.setup_code.as_deref().unwrap(), "ada", PASSWORD)
        .await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("sid="), "{cookie}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    plain.stop().await;

    let tls = TestApp::spawn_with(|config| {
        config.public_url = Some("https://atelier.test".parse().unwrap());
    })
    .await;
    let browser = tls.anonymous();
    let answer = browser
        .set_up(tls.setup_code.as_deref().unwrap(), "ada", PASSWORD)
        .await;
    let cookie = answer.header("set-cookie");
    assert!(
        cookie.starts_with("__Host-sid=") && cookie.contains("Secure"),
        "{cookie}"
    );
    assert!(
        answer
            .header("strict-transport-security")
            .contains("max-age=31536000")
    );
    assert_eq!(
        browser.call("load_account", &[]).await.status,
        StatusCode::OK
    );
    // The name without the prefix opens nothing here: a sibling host could set it.
    let secret = browser.session().unwrap();
    let request = tls
        .anonymous()
        .request(axum::http::Method::GET, "/api/models")
        .header("cookie", format!("sid={secret}"))
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(
        tls.anonymous().send(request).await.status,
        StatusCode::UNAUTHORIZED
    );
    tls.stop().await;
}

#[tokio::test]
async fn a_new_password_ends_every_other_session() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let elsewhere = app.anonymous();
    elsewhere.sign_in("bob", PASSWORD).await;
    let before = bob.browser.copy();
    let new = "sparrow kettle under moss";

    let wrong = bob
        .browser
        .call(
            "change_password",
            &[("current", "not my password"), ("new", new)],
        )
        .await;
    assert_eq!(wrong.field(), "current", "{}", wrong.text());
    let weak = bob
        .browser
        .call(
            "change_password",
            &[("current", PASSWORD), ("new", "bobbobbobbob")],
        )
        .await;
    assert_eq!(weak.field(), "new", "{}", weak.text());

    let done = bob
        .browser
        .call("change_password", &[("current", PASSWORD), ("new", new)])
        .await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::OK
    );
    for dead in [&before, &elsewhere] {
        assert_eq!(
            dead.call("load_account", &[]).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_ne!(
        app.anonymous().sign_in("bob", PASSWORD).await.status,
        StatusCode::OK
    );
    assert_eq!(
        app.anonymous().sign_in("bob", new).await.status,
        StatusCode::OK
    );
    app.stop().await;
}

#[tokio::test]
async fn an_unknown_name_and_a_wrong_password_look_the_same() {
    let app = TestApp::spawn().await;
    app.member("bob").await;
    let unknown = app
        .anonymous()
        .sign_in("nobody", "some wrong password")
        .await;
    let wrong = app.anonymous().sign_in("bob", "some wrong password").await;
    assert_eq!(unknown.looks(), wrong.looks());
    assert_eq!(wrong.field(), "password");
    // The delay, too, does not tell.
    app.tamper(
        "update sign_in_failure set failures = 10, last_at = cast(unixepoch('subsec') * 1000 as integer)",
    )
    .await;
    let without_digits = |answer: crate::personas::Answer| {
        let text = answer.text();
        (
            answer.status,
            text.replace(|c: char| c.is_ascii_digit(), ""),
        )
    };
    let unknown = without_digits(app.anonymous().sign_in("nobody", PASSWORD).await);
    let wrong = without_digits(app.anonymous().sign_in("bob", PASSWORD).await);
    assert_eq!(unknown.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(unknown, wrong);
    app.stop().await;
}

#[tokio::test]
async fn a_thousand_guesses_are_few_checks_and_lock_nobody_out() {
    let app = TestApp::spawn().await;
    app.member("bob").await;
    app.tamper("delete from session").await;
    let mut checked = 0;
    for number in 0..1000u32 {
        let attacker = app.anonymous().at([192, 0, 2, 1]);
        let forged = format!("10.{}.{}.1", number / 256, number % 256);
        let mut request = attacker.call_request(
            "sign_in",
            &[("name", "bob"), ("password", "wrong wrong wrong")],
        );
        request
            .headers_mut()
            .insert("x-forwarded-for", forged.parse().unwrap());
        let answer = attacker.send(request).await;
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS => {
                let wait: u32 = answer.header("retry-after").parse().unwrap();
                assert!((1..=900).contains(&wait), "{wait}");
            }
            StatusCode::UNPROCESSABLE_ENTITY => checked += 1,
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(
        (4..=30).contains(&checked),
        "{checked} passwords were checked"
    );

    // The worst that the attack can leave behind, a minute ago.
    app.tamper("update sign_in_failure set failures = 1000, last_at = last_at - 60000")
        .await;
    let bob = app.anonymous().at([198, 51, 100, 7]);
    assert_eq!(bob.sign_in("bob", PASSWORD).await.status, StatusCode::OK);
    // Where bob is signed in, an attack on the name from elsewhere does not hold him up at all.
    app.tamper(
        "insert into sign_in_failure (subject, failures, last_at)
         values ('name:bob', 1000, cast(unixepoch('subsec') * 1000 as integer))",
    )
    .await;
    let attacker = app.anonymous().at([192, 0, 2, 2]);
    assert_eq!(
        attacker.sign_in("bob", PASSWORD).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    let bob = app.anonymous().at([198, 51, 100, 7]);
    assert_eq!(bob.sign_in("bob", PASSWORD).await.status, StatusCode::OK);
    app.stop().await;
}

#[tokio::test]
async fn guesses_at_once_are_counted_like_guesses_in_a_row() {
    let app = TestApp::spawn().await;
    app.member("bob").await;
    let guesses: Vec<_> = (0..60)
        .map(|_| {
            let attacker = app.anonymous().at([192, 0, 2, 1]);
            tokio::spawn(async move { attacker.sign_in("bob", "wrong wrong wrong").await.status })
        })
        .collect();
    let mut checked = 0;
    for guess in guesses {
        checked += usize::from(guess.await.unwrap() == StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert!(
        (1..=10).contains(&checked),
        "{checked} passwords were checked"
    );
    app.stop().await;
}

#[tokio::test]
async fn nothing_at_rest_opens_anything() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let token = app.token(&bob).await;
    let secrets = [
        PASSWORD.to_owned(),
        bob.browser.session().unwrap(),
        token.secret.clone(),
        token.secret["atl_".len() + 6..].to_owned(),
        app.setup_code.clone().unwrap(),
        app.setup_code.clone().unwrap().replace('-', ""),
    ];
    let mut read = 0;
    for bytes in all_files(app.data_dir()) {
        read += bytes.len();
        for secret in &secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a secret lies in the data folder: {secret}");
        }
    }
    assert!(read > 10_000, "the database was read");
    let hashes: Vec<String> = sqlx::query_scalar("select password_hash from user")
        .fetch_all(app.services.db.read())
        .await
        .unwrap();
    assert_eq!(hashes.len(), 2);
    for hash in hashes {
        assert!(
            hash.starts_with("$argon2id$v=19$m=47104,t=1,p=1$"),
            "{hash}"
        );
    }
    app.stop().await;
}

fn all_files(folder: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push(std::fs::read(&path).unwrap());
        }
    }
    files
}

#[tokio::test]
async fn a_weak_hash_is_renewed_at_sign_in() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    // The password of every persona, hashed with 8 MiB.
    let weak = {
        use argon2::password_hash::PasswordHasher;
        let params = argon2::Params::new(8192, 1, 1, None).unwrap();
        argon2::Argon2::from(params)
            .hash_password(PASSWORD.as_bytes())
            .unwrap()
            .to_string()
    };
    let mut write = app.services.db.write().await.unwrap();
    sqlx::query("update user set password_hash = ? where id = ?")
        .bind(&weak)
        .bind(bob.viewer.id.0)
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();

    assert_eq!(
        app.anonymous().sign_in("bob", PASSWORD).await.status,
        StatusCode::OK
    );
    let now: String = sqlx::query_scalar("select password_hash from user where id = ?")
        .bind(bob.viewer.id.0)
        .fetch_one(app.services.db.read())
        .await
        .unwrap();
    assert!(now.contains("m=47104"), "{now}");
    assert_eq!(
        app.anonymous().sign_in("bob", PASSWORD).await.status,
        StatusCode::OK
    );
    app.stop().await;
}

#[tokio::test]
async fn sessions_end_when_idle_and_in_any_case_after_thirty_days() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let is_in = async |persona: &crate::personas::Persona| {
        persona.browser.call("load_account", &[]).await.status == StatusCode::OK
    };
    app.tamper("update session set last_seen_at = last_seen_at - 11 * 3600000")
        .await;
    assert!(is_in(&bob).await);
    // That visit was written down, so the idle time starts again.
    app.tamper("update session set last_seen_at = last_seen_at - 11 * 3600000")
        .await;
    assert!(is_in(&bob).await);
    app.tamper("update session set last_seen_at = last_seen_at - 13 * 3600000")
        .await;
    assert!(!is_in(&bob).await);

    let carol = app.member("carol").await;
    app.tamper("update session set expires_at = expires_at - 30 * 86400000")
        .await;
    assert!(!is_in(&carol).await);
    app.stop().await;
}

#[tokio::test]
async fn closing_an_account_works_at_once_everywhere() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let bob = app.member("bob").await;
    let token = app.token(&bob).await;
    let script = app.with_token(&token.secret);
    assert_eq!(script.get("/api/models").await.status, StatusCode::OK);

    app.services
        .admin
        .set_user_disabled(&admin.viewer, bob.viewer.id, true)
        .await
        .unwrap();
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        bob.browser.get("/api/models").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        script.get("/api/models").await.status,
        StatusCode::UNAUTHORIZED
    );
    let refused = app.anonymous().sign_in("bob", PASSWORD).await;
    assert_eq!(refused.field(), "name", "{}", refused.text());
    // Who does not know the password does not learn that the account is closed.
    let guess = app.anonymous().sign_in("bob", "some wrong password").await;
    let nobody = app
        .anonymous()
        .sign_in("nobody", "some wrong password")
        .await;
    assert_eq!(guess.looks(), nobody.looks());
    assert!(app.user_row("bob").await.disabled);

    app.services
        .admin
        .set_user_disabled(&admin.viewer, bob.viewer.id, false)
        .await
        .unwrap();
    assert_eq!(
        app.anonymous().sign_in("bob", PASSWORD).await.status,
        StatusCode::OK
    );
    // Old keys stay dead.
    assert_eq!(
        bob.browser.get("/api/models").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        script.get("/api/models").await.status,
        StatusCode::UNAUTHORIZED
    );
    app.stop().await;
}

#[tokio::test]
async fn administrators_only_and_never_against_themselves() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let bob = app.member("bob").await;
    let rooms = &app.services.admin;
    assert_eq!(
        rooms.list_users(&bob.viewer).await,
        Err(AppError::Forbidden)
    );
    assert_eq!(rooms.queue(&bob.viewer).await, Err(AppError::Forbidden));
    assert_eq!(
        rooms.devices(&bob.viewer).await.unwrap_err(),
        AppError::Forbidden
    );
    assert_eq!(
        rooms
            .test_devices_again(&bob.viewer, None)
            .await
            .unwrap_err(),
        AppError::Forbidden
    );
    let closed = rooms
        .set_user_disabled(&bob.viewer, admin.viewer.id, true)
        .await;
    assert_eq!(closed, Err(AppError::Forbidden));

    let own = rooms
        .set_user_disabled(&admin.viewer, admin.viewer.id, true)
        .await;
    assert!(matches!(own, Err(AppError::Invalid { .. })), "{own:?}");
    let nobody = atelier_app::account::UserId(4711);
    assert_eq!(
        rooms.set_user_disabled(&admin.viewer, nobody, true).await,
        Err(AppError::NotFound)
    );

    let names: Vec<String> = rooms
        .list_users(&admin.viewer)
        .await
        .unwrap()
        .into_iter()
        .map(|user| format!("{} {} {}", user.name, user.role.as_str(), user.images))
        .collect();
    assert_eq!(names, ["ada admin 0", "bob member 0"]);

    let twin = atelier_app::account::Credentials {
        name: " BOB ".into(),
        password: PASSWORD.into(),
    };
    let twin = rooms.create_user(&admin.viewer, twin, Role::Member).await;
    assert_eq!(twin.unwrap_err().field(), Some("name"));
    app.stop().await;
}

#[tokio::test]
async fn anothers_session_and_a_missing_one_are_the_same() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let carol = app.member("carol").await;
    let accounts = &app.services.accounts;
    let client = Client {
        session: bob.browser.session().map(SessionSecret),
        ..Client::default()
    };
    let sessions = accounts.list_sessions(&bob.viewer, &client).await.unwrap();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0].current);
    assert!(!bob.browser.session().unwrap().contains(&sessions[0].id));

    let foreign = carol
        .browser
        .call("revoke_session", &[("id", &sessions[0].id)])
        .await;
    let missing = carol
        .browser
        .call("revoke_session", &[("id", "000000000000000000000000")])
        .await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    assert_eq!(foreign.looks(), missing.looks());
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::OK
    );

    let own = bob
        .browser
        .call("revoke_session", &[("id", &sessions[0].id)])
        .await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text());
    assert_eq!(
        bob.browser.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    app.stop().await;
}
