//! The audit log: every act of an administrator is in it, it cannot be changed, it can be taken away.

use crate::personas::{PASSWORD, TestApp};
use axum::http::StatusCode;
use serde_json::Value;

impl TestApp {
    /// (actor, act, subject) of each act, newest first.
    pub async fn acts(&self) -> Vec<(String, String, String)> {
        sqlx::query_as("select actor, act, subject from audit order by id desc")
            .fetch_all(self.services.db.read())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn every_act_is_written_down_with_who_did_it() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    let bob = app.member("bob").await;
    let id = bob.viewer.id.0.to_string();
    type Act<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let acts: [Act<'_>; 13] = [
        (
            "create_user",
            &[
                ("name", "carol"),
                ("password", PASSWORD),
                ("role", "viewer"),
            ],
            "user.add",
            "carol",
        ),
        (
            "set_user_role",
            &[("id", &id), ("role", "viewer")],
            "user.role",
            "bob",
        ),
        (
            "set_user_disabled",
            &[("id", &id), ("disabled", "true")],
            "user.disable",
            "bob",
        ),
        (
            "set_user_disabled",
            &[("id", &id), ("disabled", "false")],
            "user.enable",
            "bob",
        ),
        (
            "invite",
            &[
                ("role", "member"),
                ("days", "1"),
                ("uses", "1"),
                ("note", "dan"),
            ],
            "invitation.make",
            "dan",
        ),
        (
            "revoke_invitation",
            &[("id", "1")],
            "invitation.revoke",
            "dan",
        ),
        (
            "set_self_sign_up",
            &[("on", "true")],
            "setting.change",
            "self_sign_up",
        ),
        (
            "allow_looks",
            &[("on", "true")],
            "setting.change",
            "looks_into_images",
        ),
        (
            "set_trash_days",
            &[("days", "9")],
            "setting.change",
            "trash_days",
        ),
        ("make_reset_link", &[("id", &id)], "user.reset", "bob"),
        (
            "remove_user",
            &[("id", &id), ("erase", "true")],
            "user.delete",
            "bob",
        ),
        ("test_devices_again", &[], "devices.test", ""),
        ("look_for_models", &[], "model.look", ""),
    ];
    for (function, fields, act, subject) in acts {
        let answer = admin.call(function, fields).await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "{function}: {}",
            answer.text()
        );
        let newest = app.acts().await.swap_remove(0);
        assert_eq!(
            newest,
            ("ada".into(), act.into(), subject.into()),
            "{function}"
        );
    }
    assert!(
        app.acts()
            .await
            .contains(&("ada".into(), "user.setup".into(), "ada".into())),
        "the first administrator"
    );
    // What failed and what changed nothing is not there.
    let carol = app.user_row("carol").await.id.0.to_string();
    let id = carol;
    let before = app.acts().await.len();
    admin
        .call("set_user_role", &[("id", "4711"), ("role", "viewer")])
        .await;
    admin
        .call("set_user_role", &[("id", &id), ("role", "viewer")])
        .await;
    admin
        .call("set_user_disabled", &[("id", &id), ("disabled", "false")])
        .await;
    assert_eq!(app.acts().await.len(), before);
    app.stop().await;
}

#[tokio::test]
async fn the_log_is_append_only() {
    let app = TestApp::spawn().await;
    app.member("bob").await;
    for sql in ["update audit set actor = 'nobody'", "delete from audit"] {
        let mut write = app.services.db.write().await.unwrap();
        let refused = sqlx::query(sql).execute(&mut *write).await;
        assert!(
            refused.unwrap_err().to_string().contains("append-only"),
            "{sql}"
        );
    }
    assert!(!app.acts().await.is_empty());
    app.stop().await;
}

#[tokio::test]
async fn the_log_is_paged_filtered_and_taken_away() {
    let app = TestApp::spawn().await;
    let admin = &app.admin().await.browser;
    let bob = app.member("bob").await;
    app.tamper(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1200)
         insert into audit (at, actor, act, subject, detail)
         select i, case i % 2 when 0 then 'ada' else 'command line' end,
                case i % 3 when 0 then 'user.role' else 'model.fetch' end, 'thing ' || i, '=1+1, \"quoted\"' from n",
    )
    .await;
    let ask = async |query: &str| -> Value {
        let encoded: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (format!("filter[{name}]"), value.to_owned()))
            .collect();
        let mut fields: Vec<(&str, &str)> = encoded
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if fields.is_empty() {
            fields.push(("filter[text]", ""));
        }
        let answer = admin.call("load_audit", &fields).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    };
    // Page after page, each row once, newest first.
    let (mut before, mut ids) = (String::new(), Vec::new());
    loop {
        let page = ask(&before).await;
        ids.extend(
            page["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["id"].as_i64().unwrap()),
        );
        match page["next"].as_i64() {
            Some(next) => before = format!("before={next}"),
            None => break,
        }
    }
    assert_eq!(ids.len(), 1202, "ada's set-up and bob's making are two");
    assert!(ids.windows(2).all(|pair| pair[0] > pair[1]));

    let rows = ask("actor=ada&act=user&text=thing 6").await["rows"].clone();
    assert!(!rows.as_array().unwrap().is_empty());
    for row in rows.as_array().unwrap() {
        assert_eq!(
            (&row["actor"], &row["act"]),
            (&"ada".into(), &"user.role".into())
        );
        assert!(row["subject"].as_str().unwrap().contains("thing 6"));
    }
    app.tamper(
        "insert into audit (at, actor, act, subject, detail) values
             (1, 'zoe', 'user.join', 'zoe', ''), (1, 'yan', 'user.role', 'zoe', '')",
    )
    .await;
    assert_eq!(
        ask("text=zoe").await["actors"],
        serde_json::json!(["yan", "ada", "command line"])
    );
    let chosen = admin.get("/admin/audit?actor=zoe").await.text();
    assert!(chosen.contains("value=\"zoe\" selected"), "{chosen}");
    // Signs of patterns are only signs.
    assert_eq!(ask("text=%").await["rows"].as_array().unwrap().len(), 0);

    let page = admin
        .get("/admin/audit?actor=command%20line&act=model")
        .await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("thing 1199") && !page.text().contains("thing 1200"));

    let csv = admin.get("/api/admin/audit.csv?act=user").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let text = csv.text();
    let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[0], "id,at,actor,act,subject,detail");
    assert_eq!(
        lines.len(),
        1 + 400 + 4,
        "the rows of more than one page, ada's set-up, bob's, zoe's and yan's"
    );
    assert!(
        lines[4].ends_with("\"'=1+1, \"\"quoted\"\"\""),
        "{}",
        lines[4]
    );

    assert_eq!(
        bob.browser.get("/api/admin/audit.csv").await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        app.anonymous().get("/api/admin/audit.csv").await.status,
        StatusCode::UNAUTHORIZED
    );
    let token = app.token(app.admin().await).await.secret;
    assert_eq!(
        app.with_token(&token)
            .get("/api/admin/audit.csv")
            .await
            .status,
        StatusCode::FORBIDDEN,
        "a usual token administrates nothing"
    );
    app.stop().await;
}
