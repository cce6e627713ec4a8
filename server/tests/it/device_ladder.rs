//! Jobs whose GPU fails them under way: each goes down the ladder, is finished, and says how.

use super::device_machine::{Machine, Server, descents};
use serde_json::Value;

const QUICK: &[&str] = &["--stall-seconds", "3", "--device-rest-seconds", "1800"];

fn made_on(image: &Value) -> (&str, &str) {
    (
        image["device"].as_str().unwrap(),
        image["dtype"].as_str().unwrap(),
    )
}

/// Waits for the GPU, and makes one image.
async fn one_image(words: &str, plan: &str, arguments: &[&str]) -> (Machine, Server, Value, Value) {
    let machine = Machine::new(words, plan).await;
    let arguments: Vec<&str> = QUICK.iter().chain(arguments).copied().collect();
    let server = machine.serve(&arguments);
    server.wait_for_health(|health| health == "ok");
    let (job, image) = server.make(1);
    assert_eq!(job["attempt"], 1, "no attempt was spent: {job:#}");
    assert_eq!(
        image["rungs"], job["rungs"],
        "the image tells what the job does"
    );
    (machine, server, job, image)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_made_on_a_gpu_says_so_everywhere() {
    let (machine, server, job, image) = one_image("", "", &[]).await;
    assert_eq!(
        machine.decision().await,
        "Running on NVIDIA GeForce RTX 5090 (cuda:0) in bf16."
    );
    assert_eq!(made_on(&image), ("cuda:0", "bf16"));
    assert_eq!(
        (&job["rungs"], &image["fallback_reason"]),
        (&Value::Null, &Value::Null)
    );
    let png = server.png(&image);
    assert!(png.contains(r#""device":"cuda:0""#) && png.contains(r#""dtype":"bf16""#));
    assert!(!machine.has_event("rung", "cuda:0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vae_that_does_not_fit_works_in_tiles() {
    let plan = "work = out_of_memory@decoding whole:1+";
    let (machine, server, job, image) = one_image("", plan, &[]).await;
    assert_eq!(descents(&job), ["tiled_vae"]);
    assert_eq!(made_on(&image), ("cuda:0", "bf16"));
    let fault = job["rungs"][0]["fault"].as_str().unwrap();
    assert!(
        fault.contains("out of memory while") && fault.contains("CUDA_ERROR_OUT_OF_MEMORY"),
        "{fault}"
    );
    assert!(server.png(&image).contains("tiled_vae"));
    assert!(machine.has_event("rung", "cuda:0").await);
    // That is the job's matter, not the device's.
    assert!(!machine.has_event("failure", "cuda:0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_never_suffices_leads_down_to_the_cpu() {
    let plan = "work = out_of_memory@denoising:1+";
    let (machine, server, job, image) = one_image("", plan, &["--precision", "f32"]).await;
    assert_eq!(
        descents(&job),
        ["tiled_vae", "in_turn", "storage f16", "leave"]
    );
    assert_eq!(made_on(&image), ("cpu", "f32"));
    let reason = image["fallback_reason"].as_str().unwrap();
    assert!(
        reason.starts_with("cuda:0 failed at this image: out of memory"),
        "{reason}"
    );
    assert!(machine.has_event("failure", "cuda:0").await);
    // The GPU goes on with others.
    assert_eq!(server.health(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_do_not_fit_at_once_take_turns() {
    let plan = "work = out_of_memory@upload whole:1+";
    let (_machine, _server, job, image) = one_image("", plan, &[]).await;
    assert_eq!(descents(&job), ["tiled_vae", "in_turn"]);
    assert_eq!(made_on(&image), ("cuda:0", "bf16"));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_none_are_computed_otherwise_and_at_last_on_the_cpu() {
    let plan = "work = nan@conv2d 3x3:1+";
    let (_machine, _server, job, image) = one_image("", plan, &[]).await;
    assert_eq!(descents(&job), ["precision f32", "precision f16", "leave"]);
    assert_eq!(made_on(&image), ("cpu", "f32"));
}

#[tokio::test(flavor = "multi_thread")]
async fn black_images_are_none() {
    let plan = "work = black@pixels:1+";
    let (_machine, _server, job, image) = one_image("", plan, &[]).await;
    assert_eq!(descents(&job).last().map(String::as_str), Some("leave"));
    assert_eq!(made_on(&image), ("cpu", "f32"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_fails_ends_its_process_and_not_the_job() {
    let plan = "work = no_kernel_image@attention:1+";
    let (machine, _server, job, image) = one_image("", plan, &[]).await;
    assert_eq!(descents(&job), ["precision f32", "precision f16", "leave"]);
    assert_eq!(made_on(&image), ("cpu", "f32"));
    let fault = job["rungs"][0]["fault"].as_str().unwrap();
    assert!(fault.contains("CUDA_ERROR_NO_BINARY_FOR_GPU"), "{fault}");
    assert!(machine.has_event("failure", "cuda:0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_device_is_left_at_once() {
    let plan = "work = device_lost@denoising:2";
    let (machine, _server, job, image) = one_image("", plan, &[]).await;
    assert_eq!(descents(&job), ["leave"]);
    assert_eq!(made_on(&image), ("cpu", "f32"));
    assert!(machine.has_event("failure", "cuda:0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_takes_the_worker_along_costs_a_rung() {
    for (plan, said) in [
        ("work = abort@decoding whole", "signal: 6"),
        ("work = exit@decoding whole", "exit status: 1"),
        (
            "work = hang@decoding whole",
            "no progress any more while decoding",
        ),
    ] {
        let (machine, _server, job, image) = one_image("", plan, &[]).await;
        assert_eq!(descents(&job), ["tiled_vae"], "{plan}");
        assert_eq!(made_on(&image), ("cuda:0", "bf16"), "{plan}");
        let fault = job["rungs"][0]["fault"].as_str().unwrap();
        assert!(fault.contains(said), "{fault}");
        assert!(machine.has_event("failure", "cuda:0").await, "{plan}");
    }
}
