//! Ids, hidden states, pooled outputs, one UNet forward with its parts, one VAE decode.

use atelier_engine::Pipeline;
use atelier_engine::pipeline::PromptOptions;
use candle_core::{DType, Tensor};

use crate::fixtures::{Numbers, load, model, model_names, relative_error};

/// Largest difference, of the largest value. torch's own f32 rounding is up to 5e-7 here; the
/// smallest mistake of the recorder's list (tanh in place of the exact GELU) gives 1e-4.
const TOLERANCE: f32 = 5e-6;
/// The UNets are sharp, so that mistakes show, and rounding grows on its way through them: their
/// parts are held to this many times torch's own distance from f64, which the recorder measured.
/// The same mistake gives 30 times that distance or more at the output.
const ROUNDINGS: f32 = 10.0;

fn check(model: &str, what: &str, got: &Tensor, want: &Tensor) {
    check_within(TOLERANCE, model, what, got, want);
}

fn check_within(tolerance: f32, model: &str, what: &str, got: &Tensor, want: &Tensor) {
    let error = relative_error(&format!("{model}: {what}"), got, want);
    println!("{model:20} {what:28} {error:.1e} of {tolerance:.1e}");
    assert!(error <= tolerance, "{model}: {what}: {error}");
}

fn row(tensor: &Tensor, at: usize) -> Tensor {
    tensor.narrow(0, at, 1).expect("a row")
}

fn text_encoders(name: &str, pipeline: &Pipeline, numbers: &Numbers) {
    assert_eq!(pipeline.encoders().len(), 2);
    for (part, encoder) in ["1", "2"].iter().zip(pipeline.encoders()) {
        let ids: Vec<Vec<u32>> = numbers
            .tensor(&format!("ids_{part}"))
            .to_dtype(DType::U32)
            .and_then(|ids| ids.to_vec2())
            .expect("ids");
        let encoding = encoder.text_encoder.encode(&ids, 0).expect("encoded");
        check(
            name,
            &format!("hidden_{part}"),
            &encoding.hidden_state,
            numbers.tensor(&format!("hidden_{part}")),
        );
        match encoding.text_embeds {
            Some(pooled) => check(name, "pooled", &pooled, numbers.tensor("pooled")),
            None => assert_eq!(*part, "1"),
        }
    }
}

fn prompts(name: &str, pipeline: &Pipeline, numbers: &Numbers) {
    // The recorder's `PROMPT`; its ids are the first row.
    let prompt = "a red circle on a blue field";
    for (part, encoder) in ["1", "2"].iter().zip(pipeline.encoders()) {
        let ids = encoder.tokenizer.encode(prompt).expect("tokens").ids;
        let want: Vec<u32> = row(numbers.tensor(&format!("ids_{part}")), 0)
            .flatten_all()
            .and_then(|ids| ids.to_dtype(DType::U32))
            .and_then(|ids| ids.to_vec1())
            .expect("ids");
        assert_eq!(ids, want, "{name}: tokenizer {part}");
    }
    let plain = pipeline
        .encode_prompts(prompt, None, &PromptOptions::default())
        .expect("encoded");
    let hidden = [numbers.tensor("hidden_1"), numbers.tensor("hidden_2")].map(|t| row(t, 0));
    let positive = Tensor::cat(&hidden, 2).expect("joined");
    check(name, "prompt_embeds", &plain.prompt_embeds, &positive);
    let pooled = row(numbers.tensor("pooled"), 0);
    check(
        name,
        "pooled_prompt_embeds",
        &plain.pooled_prompt_embeds,
        &pooled,
    );

    // An explicit empty negative prompt is encoded; the negative half comes first.
    let guided = pipeline
        .encode_prompts(prompt, Some(Some("")), &PromptOptions::default())
        .expect("encoded");
    let encoded = [
        (row(&guided.prompt_embeds, 0), "encoded_negative"),
        (
            row(&guided.pooled_prompt_embeds, 0),
            "encoded_negative_pooled",
        ),
    ];
    for (got, key) in &encoded {
        check(name, key, got, numbers.tensor(key));
    }
    check(
        name,
        "positive half",
        &row(&guided.prompt_embeds, 1),
        &positive,
    );

    // None at all is zeros, unless the folder says otherwise.
    let guided = pipeline
        .encode_prompts(prompt, Some(None), &PromptOptions::default())
        .expect("encoded");
    let negative = row(&guided.prompt_embeds, 0);
    let negative_pooled = row(&guided.pooled_prompt_embeds, 0);
    if name == "odd-two-levels" {
        check(
            name,
            "absent negative",
            &negative,
            numbers.tensor("encoded_negative"),
        );
        check(
            name,
            "its pooled",
            &negative_pooled,
            numbers.tensor("encoded_negative_pooled"),
        );
    } else {
        for zero in [negative, negative_pooled] {
            let sum = zero
                .abs()
                .and_then(|t| t.sum_all())
                .and_then(|t| t.to_scalar::<f32>());
            assert_eq!(sum.expect("a sum"), 0.0, "{name}");
        }
    }
}

fn unet(name: &str, pipeline: &Pipeline, numbers: &Numbers) {
    let recorded = |part: &str| numbers.tensor(&format!("unet/{part}"));
    let tolerance = |part: &str| {
        let rounding = numbers.values(&format!("rounding/{part}"))[0];
        assert!(
            rounding < 5e-4,
            "{name}: {part} is too sharp to compare: {rounding}"
        );
        (ROUNDINGS * rounding).max(TOLERANCE)
    };
    let timestep = numbers.values("unet/timestep")[0];
    let time_ids = recorded("time_ids")
        .to_vec2::<f32>()
        .expect("two rows of six");
    // The recorded forward is a batch of two with different sizes; the engine's batches share
    // theirs, so each row is run on its own.
    for (at, time_ids) in time_ids.into_iter().enumerate() {
        let conditioning = pipeline
            .unet()
            .condition(
                &row(recorded("encoder_hidden_states"), at),
                &row(recorded("text_embeds"), at),
                &[time_ids],
                7.5, // read by odd-distilled only, whose recorded embedding is of 7.5 − 1
            )
            .expect("conditioning");
        let mut seen = 0;
        let output = pipeline
            .unet()
            .forward_observed(
                &row(recorded("sample"), at),
                timestep,
                &conditioning,
                &mut |part, value| {
                    let want = row(recorded(part), at);
                    let what = format!("unet {part} {at}");
                    check_within(tolerance(part), name, &what, value, &want);
                    seen += 1;
                },
            )
            .expect("a forward pass");
        let levels = pipeline.unet().config().down_blocks.len();
        assert_eq!(seen, 4 + 2 * levels, "{name}: parts seen");
        check_within(
            tolerance("output"),
            name,
            &format!("unet output {at}"),
            &output,
            &row(recorded("output"), at),
        );
    }
    // A batch gives what its rows give.
    let pair = |part: &str| {
        Tensor::cat(&[row(recorded(part), 0), row(recorded(part), 1)], 0).expect("a pair")
    };
    let time_ids = vec![64.0, 72.0, 0.0, 0.0, 64.0, 72.0];
    let run = |embeds: &Tensor, pooled: &Tensor, sample: &Tensor| {
        let unet = pipeline.unet();
        let conditioning = unet
            .condition(
                embeds,
                pooled,
                &vec![time_ids.clone(); embeds.dims()[0]],
                7.5,
            )
            .expect("conditioning");
        unet.forward(sample, 33.0, &conditioning)
            .expect("a forward pass")
    };
    let both = run(
        &pair("encoder_hidden_states"),
        &pair("text_embeds"),
        &pair("sample"),
    );
    for at in 0..2 {
        let single = run(
            &row(recorded("encoder_hidden_states"), at),
            &row(recorded("text_embeds"), at),
            &row(recorded("sample"), at),
        );
        check_within(
            tolerance("output"),
            name,
            &format!("unet batch {at}"),
            &row(&both, at),
            &single,
        );
    }
}

#[test]
fn every_model() {
    for name in model_names() {
        let numbers = Numbers::read(&format!("numbers/{name}.safetensors"));
        let pipeline = load(&model(&name));
        text_encoders(&name, &pipeline, &numbers);
        prompts(&name, &pipeline, &numbers);
        unet(&name, &pipeline, &numbers);
        let image = pipeline
            .vae()
            .decode(numbers.tensor("vae/latents"))
            .expect("decoded");
        check(&name, "vae", &image, numbers.tensor("vae/image"));
        assert_eq!(
            numbers.contains("unet/timestep_cond"),
            pipeline.unet().config().time_cond_proj_dim.is_some()
        );
    }
}
