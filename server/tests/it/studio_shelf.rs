//! What people keep for the studio, over HTTP: presets, styles, used prompts; LoRAs' pictures; and
//! what the server offers as faster on a CPU.

use super::personas::{Answer, tiny_model};
use super::test_app::{Person, TestApp, request};
use super::whole_requests::lora_file;
use atelier_app::account::Role;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use std::path::Path;

async fn send(app: &TestApp, who: &Person, method: &str, path: &str, body: Value) -> Answer {
    app.call(request(method, path, who, Some(&body))).await
}

fn refused(answer: &Answer, status: u16, words: &str) {
    let text = answer.text();
    assert_eq!(answer.status.as_u16(), status, "{text}");
    assert!(text.contains(words), "{words:?} is not in {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn presets_are_kept_renamed_and_nobody_elses() {
    let app = TestApp::without_worker().await;
    let me = app.person("me", Role::Member).await;
    let other = app.person("other", Role::Member).await;
    let guest = app.person("guest", Role::Viewer).await;
    let settings = json!({
        "model": "tiny", "num_inference_steps": "8", "scheduler": "Euler",
        "prompt": "a secret", "seed": "7",
    });
    let wanted = |name: &str| json!({"name": name, "settings": settings});
    let made = send(&app, &me, "POST", "/api/presets", wanted(" Quick   one ")).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["name"], "Quick one");
    // How it is made, not what it shows.
    assert_eq!(made["settings"]["num_inference_steps"], "8");
    assert_eq!(made["settings"]["prompt"], "");
    assert_eq!(made["settings"]["seed"], "");
    let path = format!("/api/presets/{}", made["id"].as_str().unwrap());

    let twice = send(&app, &me, "POST", "/api/presets", wanted("quick ONE")).await;
    refused(&twice, 422, "called “quick ONE” already");
    let many = "x".repeat(61);
    for (name, words) in [("", "Give the preset a name"), (&*many, "at most 60")] {
        refused(
            &send(&app, &me, "POST", "/api/presets", wanted(name)).await,
            422,
            words,
        );
    }
    let half = json!({"name": "half", "settings": {"model": "tiny", "width": "wide"}});
    refused(
        &send(&app, &me, "POST", "/api/presets", half).await,
        422,
        "width in whole pixels",
    );
    refused(
        &send(&app, &guest, "POST", "/api/presets", wanted("mine")).await,
        403,
        "",
    );

    let renamed = send(&app, &me, "PUT", &path, wanted("Slow")).await.json();
    assert_eq!(
        (&renamed["name"], &renamed["id"]),
        (&json!("Slow"), &made["id"])
    );
    // Another browser of the same person has it; another person has not, and cannot touch it.
    let listed = app.get(&me, "/api/presets").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(app.get(&other, "/api/presets").await.json(), json!([]));
    for method in ["PUT", "DELETE"] {
        let answer = send(&app, &other, method, &path, wanted("theirs")).await;
        assert_eq!(answer.status, 404, "{method}");
    }
    let gone = send(&app, &me, "DELETE", &path, json!({})).await;
    assert_eq!(gone.status, 204);
    assert_eq!(app.get(&me, "/api/presets").await.json(), json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn styles_are_kept_and_a_file_of_them_is_read() {
    let app = TestApp::without_worker().await;
    let me = app.person("me", Role::Member).await;
    let wanted = json!({"name": "Ink", "prompt": "ink of {prompt}", "negative_prompt": "colour"});
    let made = send(&app, &me, "POST", "/api/styles", wanted.clone()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("/api/styles/{}", made.json()["id"].as_str().unwrap());
    let empty = json!({"name": "Nothing"});
    refused(
        &send(&app, &me, "POST", "/api/styles", empty).await,
        422,
        "says nothing",
    );
    let import = async |text: &'static str| {
        let request = Request::post("/api/styles/import")
            .header("authorization", format!("Bearer {}", me.token))
            .body(Body::from(text))
            .unwrap();
        app.call(request).await
    };
    let read =
        import("name,prompt,negative_prompt\r\nink,\"one, two\",\r\nNew,\"a\nb\",c\r\n,x,y\r\n")
            .await;
    assert_eq!(read.status, 200, "{}", read.text());
    let read = read.json();
    assert_eq!((&read["added"], &read["changed"]), (&json!(1), &json!(1)));
    assert!(
        read["skipped"][0].as_str().unwrap().contains("Line 5"),
        "{read}"
    );
    refused(&import("not,a\nstyles,file").await, 422, "name,prompt");
    let listed = app.get(&me, "/api/styles").await.json();
    assert_eq!(listed[0]["prompt"], "one, two");
    assert_eq!(listed[1]["prompt"], "a\nb");
    let gone = send(&app, &me, "DELETE", &path, json!({})).await;
    assert_eq!(gone.status, 204);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn used_prompts_are_found_again_once_each_and_by_their_owner_only() {
    let app = TestApp::without_worker().await;
    let me = app.person("me", Role::Member).await;
    let other = app.person("other", Role::Member).await;
    let ask = |prompt: &str| json!({"prompt": prompt, "num_inference_steps": 2, "width": 64, "height": 64, "async": true});
    for prompt in ["a red FUCHSIE", "a blue house", "a red FUCHSIE"] {
        let queued = app
            .services
            .jobs
            .submit_all(
                &me.viewer,
                serde_json::from_value(ask(prompt)).unwrap(),
                None,
            )
            .await
            .unwrap();
        assert_eq!(queued.jobs.len(), 1);
    }
    let found = app.get(&me, "/api/prompts").await.json();
    let prompts: Vec<&str> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|past| past["prompt"].as_str().unwrap())
        .collect();
    assert_eq!(prompts, ["a red FUCHSIE", "a blue house"]);
    let found = app.get(&me, "/api/prompts?q=fuchsie%20RED").await.json();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(app.get(&me, "/api/prompts?q=green").await.json(), json!([]));
    assert_eq!(app.get(&other, "/api/prompts").await.json(), json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loras_picture_is_shown_small_and_nothing_else_is_served() {
    let app = TestApp::without_worker().await;
    let me = app.person("me", Role::Member).await;
    let folder = app.services.config.data_dir.path.join("models/loras");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["ink", "bare", "wrong"] {
        std::fs::copy(lora_file(), folder.join(format!("{name}.safetensors"))).unwrap();
    }
    let picture = image::RgbImage::from_pixel(900, 600, image::Rgb([200, 30, 30]));
    picture.save(folder.join("ink.preview.png")).unwrap();
    std::fs::write(folder.join("wrong.png"), "not a picture").unwrap();
    std::fs::write(folder.join("secret.png"), "not a LoRA's").unwrap();

    let listed = app.get(&me, "/api/loras").await.json();
    let of = |name: &str| {
        let all = listed.as_array().unwrap();
        all.iter().find(|lora| lora["name"] == name).unwrap()["preview"].clone()
    };
    assert_eq!(of("bare"), Value::Null);
    let address = of("ink").as_str().unwrap().to_owned();
    let shown = app.get(&me, &address).await;
    assert_eq!(shown.status, 200);
    assert_eq!(shown.header("content-type"), "image/jpeg");
    let small = image::load_from_memory(&shown.body).unwrap();
    assert_eq!((small.width(), small.height()), (256, 171));
    for path in [
        "/api/loras/bare/preview",
        "/api/loras/wrong/preview",
        "/api/loras/secret/preview",
        "/api/loras/..%2Fink/preview",
        "/api/loras/ink.preview.png/preview",
    ] {
        assert_eq!(app.get(&me, path).await.status, 404, "{path}");
    }
    let stranger = Request::get(&address).body(Body::empty()).unwrap();
    assert_eq!(app.call(stranger).await.status, 401);
    app.stop().await;
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cpu_a_few_step_model_is_offered_with_its_own_presets() {
    let app = TestApp::start().await;
    let me = app.person("me", Role::Member).await;
    let wish =
        json!({"prompt": "a red circle", "num_inference_steps": 30, "width": 64, "height": 64});
    let before = app.post(&me, "/api/estimate", &wish).await;
    assert_eq!(before.status, 200, "{}", before.text());
    assert_eq!(before.json()["faster"], Value::Null);
    // One image of the ordinary model, so that there is a speed to go by.
    let made = app.post(&me, "/api/generate-image", &wish).await;
    assert_eq!(made.status, 200, "{}", made.text());

    let models = app.services.config.data_dir.path.join("models");
    copy_folder(&tiny_model(), &models.join("tiny-lightning-4step"));
    let listed = app.get(&me, "/api/models").await.json();
    let few = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["name"] == "tiny-lightning-4step")
        .unwrap();
    assert_eq!(few["few_step"], true);
    let steps: Vec<i64> = few["presets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|preset| preset["num_inference_steps"].as_i64().unwrap())
        .collect();
    assert_eq!(steps, [4, 6, 8]);

    let estimate = app.post(&me, "/api/estimate", &wish).await.json();
    let faster = &estimate["faster"];
    assert_eq!(faster["name"], "tiny-lightning-4step", "{estimate}");
    assert_eq!(faster["num_inference_steps"], 4);
    assert_eq!(faster["measured"], false);
    assert!(faster["times"].as_f64().unwrap() > 2.0, "{estimate}");
    // Whoever asks for it already is offered nothing; its speed is a guess until it made an image.
    let mut quick = wish.clone();
    quick["model"] = json!("tiny-lightning-4step");
    quick.as_object_mut().unwrap().remove("num_inference_steps");
    quick["num_images"] = json!(3);
    let estimate = app.post(&me, "/api/estimate", &quick).await.json();
    assert_eq!(estimate["faster"], Value::Null);
    assert_eq!(estimate["num_images"], 3);
    assert_eq!(estimate["guessed_from"], "another model's speed here");
    app.stop().await;
}
