//! What goes beyond a prompt: several images, images to start from, LoRAs, the result cache.

use super::personas::Answer;
use super::test_app::{Person, TestApp, request};
use atelier_app::account::Role;
use axum::body::Body;
use base64::Engine as _;
use serde_json::{Value, json};
use std::io::Cursor;
use std::time::Duration;

const URL: &str = "/api/generate-image";

fn wanted(change: Value) -> Value {
    let mut body = json!({
        "prompt": "a red circle", "num_inference_steps": 2, "width": 64, "height": 64, "seed": 5,
    });
    for (key, value) in change.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn refused(reply: &Answer, field: &str, words: &str) {
    let text = reply.text();
    assert_eq!(reply.status.as_u16(), 422, "{field}: {text}");
    assert_eq!(reply.field(), field, "{text}");
    assert!(text.contains(words), "{words}: {text}");
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 3) as u8, (y * 5) as u8, 90])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn pixels(png: &[u8]) -> Vec<u8> {
    image::load_from_memory(png).unwrap().into_rgb8().into_raw()
}

async fn send(app: &TestApp, who: &Person, kind: &str, bytes: Vec<u8>) -> Answer {
    let mut request = request("POST", "/api/uploads", who, None);
    request
        .headers_mut()
        .insert("content-type", kind.parse().unwrap());
    *request.body_mut() = Body::from(bytes);
    app.call(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_its_seeds_one_by_one() {
    let app = TestApp::start().await;
    let me = app.person("me", Role::Member).await;
    let last = u64::MAX;
    let batch = app
        .post(&me, URL, &wanted(json!({"num_images": 3, "seed": last})))
        .await;
    assert_eq!(batch.status, 200, "{}", batch.text());
    assert_eq!(batch.header("x-atelier-seed"), format!("{last}, 0, 1"));
    let images = batch.json()["images"].as_array().unwrap().clone();
    assert_eq!(images.len(), 3);
    for image in &images {
        let alone = wanted(json!({"seed": image["seed"], "use_cache": false}));
        let alone = app.post(&me, URL, &alone).await;
        assert_eq!(alone.header("x-atelier-cache"), "miss");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(image["image"].as_str().unwrap())
            .unwrap();
        assert_eq!(pixels(&bytes), pixels(&alone.body), "{}", image["seed"]);
    }
    // One key is the whole batch, now and later.
    let ask = async || {
        let body = wanted(json!({"num_images": 2, "seed": null}));
        let mut asked = request("POST", URL, &me, Some(&body));
        asked
            .headers_mut()
            .insert("idempotency-key", "both".parse().unwrap());
        app.call(asked).await
    };
    let (first, again) = (ask().await, ask().await);
    let jobs = first.header("x-atelier-job-id");
    assert_eq!(jobs.split(", ").count(), 2);
    assert_eq!(jobs, again.header("x-atelier-job-id"));

    for count in [0, 17] {
        let reply = app
            .post(&me, URL, &wanted(json!({"num_images": count})))
            .await;
        refused(&reply, "num_images", "from 1 to 16");
    }
    let mut picky = request("POST", URL, &me, Some(&wanted(json!({"num_images": 2}))));
    picky
        .headers_mut()
        .insert("accept", "image/png".parse().unwrap());
    refused(&app.call(picky).await, "num_images", "JSON");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_its_places_in_the_queue_or_none() {
    let app = TestApp::with_limits(3, 100).await;
    let me = app.person("me", Role::Member).await;
    let ask = async |count: u32| {
        let body = wanted(json!({"num_images": count}));
        let mut asked = request("POST", URL, &me, Some(&body));
        asked
            .headers_mut()
            .insert("prefer", "respond-async".parse().unwrap());
        app.call(asked).await
    };
    let two = ask(2).await;
    assert_eq!(two.status, 202, "{}", two.text());
    assert_eq!(two.json()["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(ask(2).await.status, 429);
    assert_eq!(
        app.get(&me, "/api/jobs")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(ask(1).await.status, 202);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_is_answered_again_from_the_gallery() {
    let app = TestApp::start().await;
    let me = app.person("me", Role::Member).await;
    let other = app.person("other", Role::Member).await;
    let first = app.post(&me, URL, &wanted(json!({}))).await;
    assert_eq!(first.header("x-atelier-cache"), "miss");
    let id = first.header("x-atelier-image-id").to_owned();
    let again = app.post(&me, URL, &wanted(json!({}))).await;
    assert_eq!(again.header("x-atelier-cache"), "hit");
    assert_eq!(again.header("x-atelier-image-id"), id);
    assert_eq!(again.body, first.body);
    let job = again.header("x-atelier-job-id").to_owned();
    assert_ne!(job, first.header("x-atelier-job-id"));
    let job = app.get(&me, &format!("/api/jobs/{job}")).await.json();
    assert_eq!(
        (&job["state"], &job["cached"]),
        (&json!("done"), &json!(true))
    );
    assert_eq!(app.get(&me, "/api/images").await.json()["total"], 1);
    // Another seed, no seed, another user, no wish for it: made anew.
    for body in [
        wanted(json!({"seed": 6})),
        wanted(json!({"seed": null})),
        wanted(json!({"use_cache": false})),
        wanted(json!({"guidance_scale": 4.5})),
    ] {
        let reply = app.post(&me, URL, &body).await;
        assert_eq!(reply.header("x-atelier-cache"), "miss", "{body}");
    }
    let theirs = app.post(&other, URL, &wanted(json!({}))).await;
    assert_eq!(theirs.header("x-atelier-cache"), "miss");
    // The record says everything: sent back, it is the same image again.
    let detail = app.get(&me, &format!("/api/images/{id}")).await.json();
    let mut record = detail["settings"].clone();
    record["use_cache"] = false.into();
    let remade = app.post(&me, URL, &record).await;
    assert_eq!(pixels(&remade.body), pixels(&first.body));
    // A deleted image is no answer.
    for image in app.get(&me, "/api/images").await.json()["images"]
        .as_array()
        .unwrap()
    {
        let path = format!("/api/images/{}", image["id"].as_str().unwrap());
        assert_eq!(
            app.call(request("DELETE", &path, &me, None)).await.status,
            204
        );
    }
    let anew = app.post(&me, URL, &wanted(json!({}))).await;
    assert_eq!(anew.header("x-atelier-cache"), "miss");
    // Nor is one whose file is damaged.
    let sha = app
        .get(
            &me,
            &format!("/api/images/{}", anew.header("x-atelier-image-id")),
        )
        .await
        .json()["sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    let folder = &app.services.config.data_dir.path;
    std::fs::write(
        folder
            .join("img")
            .join(&sha[..2])
            .join(format!("{sha}.png")),
        b"x",
    )
    .unwrap();
    let anew = app.post(&me, URL, &wanted(json!({}))).await;
    assert_eq!(anew.header("x-atelier-cache"), "miss");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_checked_kept_and_private() {
    let app = TestApp::without_worker().await;
    let me = app.person("me", Role::Member).await;
    let other = app.person("other", Role::Member).await;
    let looker = app.person("looker", Role::Viewer).await;
    let bytes = png(40, 24);
    let sent = send(&app, &me, "image/png", bytes.clone()).await;
    assert_eq!(sent.status, 201, "{}", sent.text());
    let upload = sent.json();
    assert_eq!(
        (&upload["width"], &upload["height"]),
        (&json!(40), &json!(24))
    );
    let id = upload["id"].as_str().unwrap().to_owned();
    // The same file in a form is the same upload.
    let mut form =
        b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n"
            .to_vec();
    form.extend_from_slice(&bytes);
    form.extend_from_slice(b"\r\n--x--\r\n");
    let again = send(&app, &me, "multipart/form-data; boundary=x", form).await;
    assert_eq!(again.json()["id"], id.as_str());
    let path = format!("/api/uploads/{id}");
    let file = app.get(&me, &path).await;
    assert_eq!(
        (file.header("content-type"), &file.body),
        ("image/png", &bytes)
    );
    assert_eq!(app.get(&other, &path).await.status, 404);
    assert_eq!(app.get(&other, "/api/uploads").await.json(), json!([]));
    assert_eq!(
        send(&app, &looker, "image/png", bytes.clone()).await.status,
        403
    );
    refused(
        &send(&app, &me, "image/png", b"GIF89a".to_vec()).await,
        "file",
        "PNG",
    );
    refused(
        &send(&app, &me, "image/png", bytes[..20].to_vec()).await,
        "file",
        "cannot be read",
    );
    let huge = send(&app, &me, "image/png", vec![0; 33 * 1024 * 1024]).await;
    assert_eq!(huge.status, 413);
    assert!(huge.text().contains("32 MiB"), "{}", huge.text());
    // A header may promise what no memory holds.
    let mut bomb = bytes.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    refused(
        &send(&app, &me, "image/png", bomb).await,
        "file",
        "million pixels",
    );
    // Nothing needs it: a sweep takes row and file.
    let folder = app.services.config.data_dir.path.join("upload");
    assert_eq!(app.services.uploads.sweep(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(app.get(&me, &path).await.status, 404);
    let left = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| std::fs::read_dir(entry.unwrap().path()).ok())
        .flatten()
        .count();
    assert_eq!(left, 0);
    app.stop().await;
}

/// CRC-32 as PNG has it (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_field_is_named() {
    let app = TestApp::without_worker().await;
    let me = app.person("me", Role::Member).await;
    let image = base64(&png(8, 8));
    for (change, field, words) in [
        (json!({"refiner": "nobody"}), "refiner", "no refiner"),
        (
            json!({"denoising_split": 0.8}),
            "denoising_split",
            "without refiner",
        ),
        (
            json!({"refiner_strength": 0.3}),
            "refiner_strength",
            "without refiner",
        ),
        (
            json!({"aesthetic_score": 6}),
            "aesthetic_score",
            "without refiner",
        ),
        (
            json!({"negative_aesthetic_score": 2}),
            "negative_aesthetic_score",
            "without refiner",
        ),
        (json!({"strength": 0.5}), "strength", "without init_image"),
        (json!({"mask": image}), "mask", "without init_image"),
        (json!({"mask_blur": 4}), "mask_blur", "without mask"),
        (
            json!({"only_masked_padding": 4}),
            "only_masked_padding",
            "without mask",
        ),
        (
            json!({"init_image": image, "strength": 0}),
            "strength",
            "above 0",
        ),
        (
            json!({"init_image": image, "strength": 1.5}),
            "strength",
            "above 0",
        ),
        (json!({"init_image": 7}), "init_image", "expected an image"),
        (json!({"init_image": "no base64!"}), "init_image", "base64"),
        (
            json!({"init_image": base64(b"hello")}),
            "init_image",
            "PNG, JPEG or WebP",
        ),
        (json!({"loras": [{"name": "ghost"}]}), "loras", "no LoRA"),
        (json!({"loras": "ghost"}), "loras", "expected"),
        (
            json!({"prompt": "a <lora:ghost:0.5> cat"}),
            "loras",
            "ghost",
        ),
        (json!({"vae": "ghost"}), "vae", "no VAE"),
        (
            json!({"prompt_syntax": "loud"}),
            "prompt_syntax",
            "weighted",
        ),
        (json!({"clip_skip": 99}), "clip_skip", "at most"),
        (
            json!({"guidance_rescale": 1.5}),
            "guidance_rescale",
            "0 to 1",
        ),
        (json!({"vae_tiling": "maybe"}), "vae_tiling", "auto"),
    ] {
        let reply = app.post(&me, URL, &wanted(change)).await;
        refused(&reply, field, words);
    }
    for source in [
        json!({"image_id": "0198c5a2-0000-7000-8000-000000000000"}),
        json!({"upload_id": "0198c5a2-0000-7000-8000-000000000000"}),
        json!("0198c5a2-0000-7000-8000-000000000000"),
    ] {
        let reply = app
            .post(&me, URL, &wanted(json!({"init_image": source})))
            .await;
        assert_eq!(reply.status, 404, "{}", reply.text());
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_are_listed_and_applied_by_name_or_tag() {
    let app = TestApp::start().await;
    let me = app.person("me", Role::Member).await;
    assert_eq!(app.get(&me, "/api/loras").await.json(), json!([]));
    let folder = app.services.config.data_dir.path.join("models/loras");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(lora_file(), folder.join("ink.safetensors")).unwrap();
    let listed = app.get(&me, "/api/loras").await.json();
    assert_eq!(listed[0]["name"], "ink");
    assert_eq!(listed[0]["problem"], Value::Null, "{listed}");
    assert!(
        !listed[0]["ranks"].as_array().unwrap().is_empty(),
        "{listed}"
    );
    let plain = app.post(&me, URL, &wanted(json!({}))).await;
    assert_eq!(plain.status, 200, "{}", plain.text());
    let named = wanted(json!({"loras": [{"name": "ink", "weight": 0.75}]}));
    let named = app.post(&me, URL, &named).await;
    assert_eq!(named.status, 200, "{}", named.text());
    assert_ne!(pixels(&plain.body), pixels(&named.body));
    let tagged = wanted(json!({"prompt": "a red circle <lora:ink:0.75>", "use_cache": false}));
    let tagged = app.post(&me, URL, &tagged).await;
    assert_eq!(pixels(&tagged.body), pixels(&named.body));
    // Taken away again without a trace, and without loading the model anew.
    let after = app
        .post(&me, URL, &wanted(json!({"use_cache": false})))
        .await;
    assert_eq!(pixels(&after.body), pixels(&plain.body));
    let id = tagged.header("x-atelier-image-id");
    let detail = app.get(&me, &format!("/api/images/{id}")).await.json();
    assert_eq!(
        detail["settings"]["loras"],
        json!([{"name": "ink", "weight": 0.75}])
    );
    assert_eq!(detail["settings"]["prompt"], "a red circle");
    assert_eq!(detail["timings"]["loading_s"], 0.0);
    let unknown = wanted(json!({"loras": [{"name": "pen"}]}));
    refused(
        &app.post(&me, URL, &unknown).await,
        "loras",
        "Choose one of: ink",
    );
    let heavy = wanted(json!({"loras": [{"name": "ink", "weight": 101}]}));
    refused(&app.post(&me, URL, &heavy).await, "loras", "-100 to 100");
    app.stop().await;
}

/// A LoRA for the tiny model.
pub fn lora_file() -> std::path::PathBuf {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/fixtures/lora");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .collect();
    files.sort();
    files.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_starts_from_another_and_is_made_again_when_that_is_gone() {
    let app = TestApp::start().await;
    let me = app.person("me", Role::Member).await;
    let other = app.person("other", Role::Member).await;
    let bytes = png(80, 48);
    let upload = send(&app, &me, "image/png", bytes.clone()).await.json();
    let id = upload["id"].as_str().unwrap();
    let from = |source: Value| {
        wanted(json!({"init_image": source, "strength": 0.5, "num_inference_steps": 4}))
    };
    let first = app.post(&me, URL, &from(json!(id))).await;
    assert_eq!(first.status, 200, "{}", first.text());
    // By whatever way it comes, it is the same image: the cache knows it.
    for source in [
        json!({"upload_id": id}),
        json!(base64(&bytes)),
        json!(format!("data:image/png;base64,{}", base64(&bytes))),
    ] {
        let again = app.post(&me, URL, &from(source)).await;
        assert_eq!(again.header("x-atelier-cache"), "hit", "{}", again.text());
    }
    let without = app
        .post(&me, URL, &wanted(json!({"num_inference_steps": 4})))
        .await;
    assert_ne!(pixels(&without.body), pixels(&first.body));
    assert_eq!(app.post(&other, URL, &from(json!(id))).await.status, 404);

    // From the gallery; then what it was made from is deleted, and swept as far as can be.
    let image = first.header("x-atelier-image-id").to_owned();
    let mask = base64(&png(64, 64));
    let painted = wanted(json!({
        "init_image": {"image_id": image}, "mask": mask, "mask_blur": 2, "strength": 1,
    }));
    let painted = app.post(&me, URL, &painted).await;
    assert_eq!(painted.status, 200, "{}", painted.text());
    let theirs = wanted(json!({"init_image": {"image_id": image}}));
    assert_eq!(app.post(&other, URL, &theirs).await.status, 404);
    let gone = request("DELETE", &format!("/api/images/{image}"), &me, None);
    assert_eq!(app.call(gone).await.status, 204);
    // What lies in the trash may come back, and keeps what it was made from.
    app.services.uploads.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(
        app.get(&me, &format!("/api/uploads/{id}")).await.status,
        200
    );
    let for_good = request("DELETE", "/api/trash", &me, None);
    assert_eq!(app.call(for_good).await.status, 200);
    app.services.uploads.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(
        app.get(&me, &format!("/api/uploads/{id}")).await.status,
        404
    );
    let path = format!("/api/images/{}", painted.header("x-atelier-image-id"));
    let mut record = app.get(&me, &path).await.json()["settings"].clone();
    assert_eq!(record["mask_blur"], 2.0);
    record["use_cache"] = false.into();
    let again = app.post(&me, URL, &record).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(pixels(&again.body), pixels(&painted.body));
    // One size where only the masked region is worked on.
    let odd = wanted(json!({
        "init_image": base64(&bytes), "mask": mask, "only_masked_padding": 8,
    }));
    refused(&app.post(&me, URL, &odd).await, "mask", "one size");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_models_refiner_works_out_of_the_box() {
    let app = TestApp::start().await;
    let me = app.person("me", Role::Member).await;
    let models = app.get(&me, "/api/models").await.json();
    let refiner = models.as_array().unwrap().last().unwrap().clone();
    assert_eq!(refiner["name"], "demo-refiner");
    assert_eq!(refiner["kind"], "stable-diffusion-xl-refiner");
    let demo = |change: Value| {
        let mut body = wanted(json!({"model": "demo", "num_inference_steps": 5}));
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let refined = app
        .post(&me, URL, &demo(json!({"refiner": "demo-refiner"})))
        .await;
    assert_eq!(refined.status, 200, "{}", refined.text());
    let path = format!("/api/images/{}", refined.header("x-atelier-image-id"));
    let mut record = app.get(&me, &path).await.json()["settings"].clone();
    assert_eq!(record["denoising_split"], 0.8);
    assert_eq!(
        (
            &record["aesthetic_score"],
            &record["negative_aesthetic_score"]
        ),
        (&json!(6.0), &json!(2.5))
    );
    // The refiner stays loaded: neither leaving it out nor coming back to it loads anything.
    let timing = async |body: &Value| {
        let reply = app.post(&me, URL, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let path = format!("/api/images/{}", reply.header("x-atelier-image-id"));
        let loading = app.get(&me, &path).await.json()["timings"]["loading_s"].clone();
        assert_eq!(loading, 0.0, "{body}");
        reply.body
    };
    let plain = timing(&demo(json!({}))).await;
    assert_ne!(pixels(&plain), pixels(&refined.body));
    record["use_cache"] = false.into();
    assert_eq!(pixels(&timing(&record).await), pixels(&refined.body));
    let after = timing(&demo(
        json!({"refiner": "demo-refiner", "refiner_strength": 0.4}),
    ))
    .await;
    assert_ne!(pixels(&after), pixels(&refined.body));
    for (change, field) in [
        (json!({"refiner": "demo"}), "refiner"),
        (
            json!({"refiner": "demo-refiner", "denoising_split": 1}),
            "denoising_split",
        ),
        (
            json!({"refiner": "demo-refiner", "refiner_strength": 0}),
            "refiner_strength",
        ),
        (
            json!({"refiner": "demo-refiner", "denoising_split": 0.5, "refiner_strength": 0.5}),
            "refiner_strength",
        ),
        (
            json!({"refiner": "demo-refiner", "aesthetic_score": 11}),
            "aesthetic_score",
        ),
        (json!({"model": "demo-refiner"}), "init_image"),
    ] {
        refused(&app.post(&me, URL, &demo(change)).await, field, "");
    }
    app.stop().await;
}
