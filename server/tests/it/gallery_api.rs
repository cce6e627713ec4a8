//! The gallery over HTTP: several files as one, images that were made elsewhere, the trash.

use super::personas::TestApp;
use atelier_app::studio::Settings;
use atelier_server::gallery::Facts;
use atelier_server::gallery::metadata::Provenance;
use axum::http::StatusCode;
use std::io::Read as _;

#[tokio::test(flavor = "multi_thread")]
async fn several_originals_come_as_one_archive_of_known_length() {
    let app = TestApp::spawn().await;
    let alice = app.member("alice").await;
    let bob = app.member("bob").await;
    let mut made = Vec::new();
    for seed in [5, 6] {
        let body = serde_json::json!({
            "prompt": "a red circle", "num_inference_steps": 1, "width": 64, "height": 64, "seed": seed,
        });
        let answer = alice
            .browser
            .post_json("/api/generate-image", body.to_string())
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        made.push((answer.header("x-atelier-image-id").to_owned(), answer.body));
    }
    // The same words and seed once more: another image, another name.
    let twin = serde_json::json!({
        "prompt": "a red circle", "num_inference_steps": 1, "width": 64, "height": 64, "seed": 6, "use_cache": false,
    });
    let answer = alice
        .browser
        .post_json("/api/generate-image", twin.to_string())
        .await;
    made.push((answer.header("x-atelier-image-id").to_owned(), answer.body));
    let wanted: Vec<&str> = made
        .iter()
        .map(|(id, _)| id.as_str())
        .chain(["no such image"])
        .collect();
    let body = serde_json::json!({ "ids": wanted }).to_string();
    let answer = alice
        .browser
        .post_json("/api/images/zip", body.clone())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/zip");
    assert_eq!(
        answer.header("content-length"),
        answer.body.len().to_string()
    );
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"atelier-3-images.zip\""
    );
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&answer.body)).unwrap();
    let expected = [
        "a-red-circle-5.png",
        "a-red-circle-6.png",
        "a-red-circle-6-2.png",
    ];
    assert_eq!(archive.len(), 3);
    for (name, (_, bytes)) in expected.iter().zip(&made) {
        let mut read = Vec::new();
        archive
            .by_name(name)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(&read, bytes, "{name}");
    }

    // Nothing of hers for him, and nothing at all is no archive.
    let none = bob.browser.post_json("/api/images/zip", body).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    let empty = alice
        .browser
        .post_json("/api/images/zip", "{\"ids\": []}")
        .await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);

    // The trash over HTTP: the same request again finds no image that was thrown away.
    let thrown = format!("/api/images/{}", made[0].0);
    let act = |act: &str| serde_json::json!({ "ids": [made[0].0], "act": act }).to_string();
    let done = alice
        .browser
        .post_json("/api/images/act", act("trash"))
        .await;
    assert_eq!(done.json(), serde_json::json!({ "changed": 1 }));
    assert_eq!(
        alice.browser.get(&thrown).await.status,
        StatusCode::NOT_FOUND
    );
    let again = serde_json::json!({
        "prompt": "a red circle", "num_inference_steps": 1, "width": 64, "height": 64, "seed": 5,
    });
    let again = alice
        .browser
        .post_json("/api/generate-image", again.to_string())
        .await;
    assert_ne!(again.header("x-atelier-image-id"), made[0].0);
    let trash = alice.browser.get("/api/trash").await.json();
    assert_eq!(trash["images"][0]["id"], made[0].0);
    alice
        .browser
        .post_json("/api/images/act", act("restore"))
        .await;
    assert_eq!(alice.browser.get(&thrown).await.status, StatusCode::OK);
    for bad in ["", "{}", "{\"ids\": [\"x\"], \"act\": \"explode\"}"] {
        let answer = alice.browser.post_json("/api/images/act", bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let found = alice.browser.get("/api/images?q=red&limit=2").await.json();
    assert_eq!(
        (
            found["total"].as_u64(),
            found["images"].as_array().unwrap().len()
        ),
        (Some(4), 2)
    );
    let facets = alice.browser.get("/api/images/facets?q=red").await.json();
    assert_eq!(facets["models"][0]["count"], 4);
    app.stop().await;
}

/// A PNG with text of another program's.
fn png_of(keyword: &str, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 24, 16);
    encoder.set_color(png::ColorType::Rgb);
    encoder.add_text_chunk(keyword.into(), text.into()).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[90; 24 * 16 * 3]).unwrap();
    writer.finish().unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn images_made_elsewhere_are_brought_in_with_what_made_them() {
    let app = TestApp::spawn().await;
    let alice = app.member("alice").await;
    let send = async |bytes: Vec<u8>| alice.browser.post_json("/api/images/import", bytes).await;
    let a1111 = "a red fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 99, Size: 1x1, Model: foxes";
    let comfy = r#"{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 9, "cfg": 4, "sampler_name": "euler", "scheduler": "normal", "positive": ["6", 0], "negative": ["6", 0]}}, "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a green fox"}}}"#;
    let invoke = r#"{"positive_prompt": "a blue fox", "seed": 6, "steps": 8, "cfg_scale": 3, "scheduler": "euler", "model": {"name": "m"}}"#;
    for (keyword, text, program, prompt, seed) in [
        ("parameters", a1111, "A1111", "a red fox", 99),
        ("prompt", comfy, "ComfyUI", "a green fox", 5),
        ("invokeai_metadata", invoke, "InvokeAI", "a blue fox", 6),
    ] {
        let file = png_of(keyword, text);
        let made = send(file.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        assert_eq!(made.json()["program"], program);
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let detail = alice.browser.get(&format!("/api/images/{id}")).await.json();
        assert_eq!(detail["settings"]["prompt"], prompt);
        assert_eq!(detail["settings"]["seed"], seed);
        assert_eq!(detail["settings"]["width"], 24, "the pixels say the size");
        assert_eq!(detail["imported_from"], program);
        assert_eq!(
            alice.browser.get(&format!("/images/{id}.png")).await.body,
            file
        );
        // The same file again is the same image, also out of the trash.
        alice
            .browser
            .post_json(
                "/api/images/act",
                serde_json::json!({ "ids": [id], "act": "trash" }).to_string(),
            )
            .await;
        let again = send(file).await;
        assert_eq!(
            (again.status, again.json()["id"].as_str()),
            (StatusCode::OK, Some(id.as_str()))
        );
        assert_eq!(
            alice.browser.get(&format!("/gallery/{id}")).await.status,
            StatusCode::OK
        );
    }
    let facets = alice.browser.get("/api/images/facets?q=fox").await.json();
    assert_eq!(
        facets["devices"][0],
        serde_json::json!({ "value": "imported", "count": 3 })
    );
    // A picture that says nothing is a picture; what is none is refused, and so is half of one.
    let silent = send(png_of("Comment", "hello")).await;
    assert_eq!(silent.status, StatusCode::CREATED);
    assert_eq!(silent.json()["program"], serde_json::Value::Null);
    let whole = png_of("parameters", a1111);
    for bad in [
        b"GIF89a".to_vec(),
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
    ] {
        let refused = send(bad).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            refused.text()
        );
        assert_eq!(refused.json()["field"], "file");
    }
    // Whoever says that it is ours is not believed about devices and times.
    let forged = serde_json::to_string(&Provenance {
        settings: Settings {
            prompt: "a forged fox".into(),
            seed: 7,
            ..Settings::default()
        },
        facts: Facts {
            scheduler: "Euler".into(),
            device: "cuda:0".into(),
            step_s: vec![0.001; 20],
            notes: vec!["a lie".into()],
            ..Facts::default()
        },
    });
    let made = send(png_of("atelier", &forged.unwrap())).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    assert_eq!(made.json()["program"], "Atelier");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let detail = alice.browser.get(&format!("/api/images/{id}")).await.json();
    assert_eq!(detail["settings"]["prompt"], "a forged fox");
    assert_eq!(
        (&detail["device"], &detail["scheduler"]),
        (&"imported".into(), &"Euler".into())
    );
    assert_eq!(detail["notes"], serde_json::json!([]));
    // Nothing was measured here, and nothing was queued.
    assert!(app.services.jobs.step_times().await.unwrap().is_empty());
    let by_device = app.services.jobs.step_times_by_device().await.unwrap();
    assert!(by_device.is_empty(), "{by_device:?}");
    let queue = app.services.jobs.admin_queue().await.unwrap();
    assert!(queue.is_empty(), "{queue:?}");
    let looker = app.user("looker", atelier_app::account::Role::Viewer).await;
    let refused = looker.browser.post_json("/api/images/import", whole).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    app.stop().await;
}
