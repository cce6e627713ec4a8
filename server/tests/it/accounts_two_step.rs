//! The second step of sign-in, with an authenticator of the test's own (RFC 6238).

use crate::personas::{Browser, PASSWORD, Persona, TestApp};
use axum::http::StatusCode;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What an app on a telephone does: base32, HMAC-SHA-1, dynamic truncation.
fn code_at(secret: &str, step: i64) -> String {
    let mut bits = String::new();
    for character in secret.chars() {
        let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(character).unwrap();
        bits.push_str(&format!("{value:05b}"));
    }
    let key: Vec<u8> = (0..bits.len() / 8)
        .map(|at| u8::from_str_radix(&bits[8 * at..8 * at + 8], 2).unwrap())
        .collect();
    let mut mac = Hmac::<Sha1>::new_from_slice(&key).unwrap();
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let at = usize::from(digest[19] % 16);
    let number = u32::from_be_bytes(digest[at..at + 4].try_into().unwrap()) % (1 << 31);
    format!("{:06}", number % 1_000_000)
}

fn now_step() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_secs()).unwrap() / 30
}

/// Switches the second step on; answers the secret, the step whose code was used, the recovery codes.
async fn set_up(person: &Persona) -> (String, i64, Vec<String>) {
    let begun = person
        .browser
        .call("begin_two_step", &[("password", PASSWORD)])
        .await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.text());
    let setup = begun.json();
    let secret = setup["secret"].as_str().unwrap().to_owned();
    assert!(setup["uri"].as_str().unwrap().contains(&secret));
    assert!(
        setup["picture"]["path"]
            .as_str()
            .unwrap()
            .starts_with("M4 4h1v1h-1z")
    );
    // The code of the step after it is still unused then, and is taken from now on.
    let step = now_step();
    let on = person
        .browser
        .call("confirm_two_step", &[("code", &code_at(&secret, step))])
        .await;
    assert_eq!(on.status, StatusCode::OK, "{}", on.text());
    let codes: Vec<String> = serde_json::from_value(on.json()).unwrap();
    assert_eq!(codes.len(), 10);
    (secret, step, codes)
}

async fn enter(browser: &Browser, code: &str) -> crate::personas::Answer {
    browser
        .call("enter_code", &[("code", code), ("next", "/gallery")])
        .await
}

/// Gives the right password; the answer is the page for the code, and no session.
async fn give_password(browser: &Browser, name: &str) {
    let answer = browser.sign_in(name, PASSWORD).await;
    assert_eq!(answer.json(), "/sign-in/code?next=%2F", "{}", answer.text());
    assert!(browser.session().is_none());
}

#[tokio::test]
async fn the_password_alone_opens_nothing_any_more() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let wrong = bob
        .browser
        .call("begin_two_step", &[("password", "not his password")])
        .await;
    assert_eq!(wrong.field(), "password");
    let (secret, used, _) = set_up(&bob).await;
    let state = bob.browser.call("load_account", &[]).await.json()["two_step"].clone();
    assert!(state["on_since"].is_i64());
    assert_eq!(state["recovery_codes_left"], 10);

    let visitor = app.anonymous();
    give_password(&visitor, "bob").await;
    assert_eq!(
        visitor.call("load_account", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        enter(&visitor, &code_at(&secret, used)).await.field(),
        "code",
        "used to set up"
    );
    assert_eq!(enter(&visitor, "nonsense").await.field(), "code");
    assert_eq!(
        enter(&visitor, &code_at(&secret, now_step() + 20))
            .await
            .field(),
        "code"
    );
    let step = used + 1;
    let right = enter(&visitor, &code_at(&secret, step)).await;
    assert_eq!(
        (right.status, right.json()),
        (StatusCode::OK, "/gallery".into())
    );
    assert_eq!(
        visitor.call("load_account", &[]).await.status,
        StatusCode::OK
    );

    // The same code again, by whoever looked over his shoulder.
    let thief = app.anonymous();
    give_password(&thief, "bob").await;
    assert_eq!(enter(&thief, &code_at(&secret, step)).await.field(), "code");
    assert!(thief.session().is_none());
    // Without the password before it, a right code opens nothing.
    let stranger = app.anonymous();
    assert_eq!(
        enter(&stranger, &code_at(&secret, step + 1)).await.field(),
        "code"
    );
    app.stop().await;
}

#[tokio::test]
async fn recovery_codes_work_once_and_lie_here_as_hashes() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let (_, _, codes) = set_up(&bob).await;
    let stored: Vec<String> = sqlx::query_scalar("select code_hash from recovery_code")
        .fetch_all(app.services.db.read())
        .await
        .unwrap();
    assert!(
        stored
            .iter()
            .all(|hash| hash.len() == 64 && !codes.contains(hash))
    );
    let visitor = app.anonymous();
    give_password(&visitor, "bob").await;
    let sloppy = codes[3].to_lowercase().replace('-', " ");
    assert_eq!(enter(&visitor, &sloppy).await.status, StatusCode::OK);
    let again = app.anonymous();
    give_password(&again, "bob").await;
    assert_eq!(enter(&again, &codes[3]).await.field(), "code");
    assert_eq!(enter(&again, &codes[4]).await.status, StatusCode::OK);
    let account = bob.browser.call("load_account", &[]).await.json();
    assert_eq!(account["two_step"]["recovery_codes_left"], 8);

    let renewed = bob
        .browser
        .call("renew_recovery_codes", &[("password", PASSWORD)])
        .await;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text());
    let late = app.anonymous();
    give_password(&late, "bob").await;
    assert_eq!(
        enter(&late, &codes[5]).await.field(),
        "code",
        "the old ones ended"
    );
    app.stop().await;
}

#[tokio::test]
async fn guessing_codes_meets_the_delay() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    set_up(&bob).await;
    let guesser = app.anonymous().at([192, 0, 2, 7]);
    give_password(&guesser, "bob").await;
    let mut checked = 0;
    for number in 0..60 {
        let answer = enter(&guesser, &format!("{number:06}")).await;
        checked += usize::from(answer.status != StatusCode::TOO_MANY_REQUESTS);
    }
    // Delays double from the fifth on: whatever the machine's pace, most of them are not looked at.
    assert!((4..20).contains(&checked), "{checked} guesses were checked");
    // A new password step does not start the count again.
    give_password(&guesser, "bob").await;
    assert_eq!(
        enter(&guesser, "000000").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    app.stop().await;
}

#[tokio::test]
async fn the_time_between_the_steps_ends_and_so_does_a_closed_account() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    let (secret, _, _) = set_up(&bob).await;
    let late = app.anonymous();
    give_password(&late, "bob").await;
    app.tamper("update sign_in_step set expires_at = expires_at - 300001")
        .await;
    let answer = enter(&late, &code_at(&secret, now_step())).await;
    assert!(answer.text().contains("too long ago"), "{}", answer.text());
    give_password(&late, "bob").await;
    let id = bob.viewer.id.0.to_string();
    let admin = &app.admin().await.browser;
    admin
        .call("set_user_disabled", &[("id", &id), ("disabled", "true")])
        .await;
    let answer = enter(&late, &code_at(&secret, now_step())).await;
    assert_eq!(answer.field(), "code");
    assert!(late.session().is_none());
    app.stop().await;
}

#[tokio::test]
async fn it_is_switched_off_by_its_owner_or_an_administrator() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    set_up(&bob).await;
    let twice = bob
        .browser
        .call("begin_two_step", &[("password", PASSWORD)])
        .await;
    assert_eq!(
        twice.field(),
        "password",
        "no second app behind the owner's back"
    );
    assert_eq!(
        bob.browser
            .call("end_two_step", &[("password", "wrong wrong wrong")])
            .await
            .field(),
        "password"
    );
    bob.browser
        .call("end_two_step", &[("password", PASSWORD)])
        .await;
    assert_eq!(app.anonymous().sign_in("bob", PASSWORD).await.json(), "/");

    set_up(&bob).await;
    let id = bob.viewer.id.0.to_string();
    let carol = app.member("carol").await;
    let refused = carol.browser.call("end_two_step_of", &[("id", &id)]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let admin = &app.admin().await.browser;
    let off = admin.call("end_two_step_of", &[("id", &id)]).await;
    assert_eq!(off.status, StatusCode::OK, "{}", off.text());
    assert_eq!(app.acts().await[0].1, "user.two-step-off");
    assert_eq!(app.anonymous().sign_in("bob", PASSWORD).await.json(), "/");
    app.stop().await;
}

#[tokio::test]
async fn whoever_lost_everything_is_helped_at_the_command_line() {
    let app = TestApp::spawn().await;
    let bob = app.member("bob").await;
    set_up(&bob).await;
    let user = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_atelier"))
            .arg("user")
            .args(words)
            .env_remove("ATELIER_DATA_DIR")
            .arg("--data-dir")
            .arg(app.data_dir())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), words, wrong)
    };
    let (done, words, wrong) = user(&["reset", "bob", "--public-url", "https://a.example"]);
    assert!(done, "{wrong}");
    let code = words
        .trim()
        .strip_prefix("https://a.example/reset/")
        .unwrap_or_else(|| panic!("{words}"));
    let visitor = app.anonymous();
    let password = "violet tractor hums at noon";
    let set = visitor
        .call("reset_by_link", &[("code", code), ("password", password)])
        .await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    // The link is for the password alone.
    let halfway = visitor.sign_in("bob", password).await;
    assert_eq!(halfway.json(), "/sign-in/code?next=%2F");
    let (done, words, wrong) = user(&["two-step-off", "bob"]);
    assert!(done && words.contains("password alone"), "{words}{wrong}");
    assert_eq!(visitor.sign_in("bob", password).await.json(), "/");
    let (done, _, wrong) = user(&["two-step-off", "bob"]);
    assert!(!done && wrong.contains("already"), "{wrong}");
    let acts: Vec<(String, String)> = app
        .acts()
        .await
        .into_iter()
        .take(2)
        .map(|(actor, act, _)| (actor, act))
        .collect();
    let log = |act: &str| ("command line".to_owned(), act.to_owned());
    assert_eq!(acts, [log("user.two-step-off"), log("user.reset")]);
    app.stop().await;
}
