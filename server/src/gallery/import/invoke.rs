//! InvokeAI's three ways of saying it: `invokeai_metadata` (3 and later), `sd-metadata` (2), `Dream` (1).

use super::{Told, model_name, real, scheduler_name, small, whole};
use atelier_app::studio::LoraWeight;
use serde_json::Value;

/// Version 3 and later.
pub(super) fn read(text: &str) -> Option<Told> {
    let told: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| told.get(name)?.as_str().map(str::to_owned);
    let loras = told
        .get("loras")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|lora| {
            let model = lora.get("model").or_else(|| lora.get("lora"))?;
            Some(LoraWeight {
                name: name_of(model)?,
                weight: lora.get("weight").and_then(real).unwrap_or(1.0),
            })
        })
        .collect();
    let prompt = text("positive_prompt");
    let seed = told.get("seed").and_then(whole);
    if prompt.is_none() && seed.is_none() {
        return None;
    }
    Some(Told {
        program: "InvokeAI",
        prompt: joined(prompt.unwrap_or_default(), text("positive_style_prompt")),
        negative_prompt: text("negative_prompt").filter(|prompt| !prompt.is_empty()),
        steps: told.get("steps").and_then(small),
        guidance_scale: told.get("cfg_scale").and_then(real),
        seed,
        scheduler: text("scheduler").as_deref().map(scheduler),
        model: told.get("model").and_then(name_of),
        strength: told.get("strength").and_then(real),
        clip_skip: told.get("clip_skip").and_then(small),
        loras,
    })
}

/// A style prompt of its own says something; one that repeats the prompt does not.
fn joined(prompt: String, style: Option<String>) -> String {
    match style {
        Some(style) if !style.is_empty() && style != prompt => format!("{prompt} {style}"),
        _ => prompt,
    }
}

fn name_of(model: &Value) -> Option<String> {
    ["name", "model_name"]
        .into_iter()
        .find_map(|key| model.get(key)?.as_str())
        .or_else(|| model.as_str())
        .map(model_name)
}

/// `dpmpp_2m_k`: the name, and `k` for Karras.
fn scheduler(name: &str) -> String {
    match name.strip_suffix("_k") {
        Some(name) => scheduler_name(name, "karras"),
        None => scheduler_name(name, ""),
    }
}

/// Version 2.
pub(super) fn read_old(text: &str) -> Option<Told> {
    let told: Value = serde_json::from_str(text).ok()?;
    let image = told.get("image")?;
    let prompt = match image.get("prompt")? {
        Value::String(prompt) => prompt.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("prompt")?.as_str())
            .collect::<Vec<_>>()
            .join(" "),
        _ => return None,
    };
    let (prompt, negative_prompt) = split_negative(&prompt);
    Some(Told {
        program: "InvokeAI",
        prompt,
        negative_prompt,
        steps: image.get("steps").and_then(small),
        guidance_scale: image.get("cfg_scale").and_then(real),
        seed: image.get("seed").and_then(whole),
        scheduler: image
            .get("sampler")
            .and_then(Value::as_str)
            .map(|name| scheduler_name(name.trim_start_matches("k_"), "")),
        model: told
            .get("model_weights")
            .and_then(Value::as_str)
            .map(model_name),
        strength: image.get("strength").and_then(real),
        ..Told::default()
    })
}

/// Version 1: `"a prompt" -s50 -S 123 -W512 -H 512 -C7.5 -A k_lms`.
pub(super) fn read_dream(text: &str) -> Option<Told> {
    let quoted = text.trim().strip_prefix('"')?;
    let end = quoted.rfind('"')?;
    let (prompt, negative_prompt) = split_negative(&quoted[..end]);
    let mut told = Told {
        program: "InvokeAI",
        prompt,
        negative_prompt,
        ..Told::default()
    };
    let mut words = quoted[end + 1..].split_whitespace();
    while let Some(word) = words.next() {
        let Some(flag) = word.get(..2).filter(|flag| flag.starts_with('-')) else {
            continue;
        };
        let value = match &word[2..] {
            "" => words.next().unwrap_or(""),
            value => value,
        };
        match flag {
            "-s" => told.steps = value.parse().ok(),
            "-S" => told.seed = value.parse().ok(),
            "-C" => told.guidance_scale = value.parse().ok(),
            "-f" => told.strength = value.parse().ok(),
            "-A" => told.scheduler = Some(scheduler_name(value.trim_start_matches("k_"), "")),
            _ => {}
        }
    }
    Some(told)
}

/// Versions 1 and 2 write what to keep out into the prompt: `a cat [dog]`.
fn split_negative(prompt: &str) -> (String, Option<String>) {
    let mut kept = String::new();
    let mut out = Vec::new();
    let mut rest = prompt;
    while let Some(at) = rest.find('[') {
        let Some(length) = rest[at..].find(']') else {
            break;
        };
        kept.push_str(&rest[..at]);
        out.push(rest[at + 1..at + length].trim());
        rest = &rest[at + length + 1..];
    }
    kept.push_str(rest);
    let out = (!out.is_empty()).then(|| out.join(", "));
    (kept.trim().to_owned(), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_ways_are_read() {
        let told = read(
            r#"{"generation_mode":"sdxl_txt2img","positive_prompt":"a cat","negative_prompt":"","positive_style_prompt":"a cat",
                "seed":123,"steps":30,"cfg_scale":7.5,"scheduler":"dpmpp_2m_k","model":{"name":"Juggernaut XL","base":"sdxl"},
                "loras":[{"model":{"name":"ink"},"weight":0.75}],"app_version":"5.0"}"#,
        )
        .expect("read");
        assert_eq!(
            (told.prompt.as_str(), told.negative_prompt),
            ("a cat", None)
        );
        assert_eq!(told.scheduler.as_deref(), Some("DPM++ 2M Karras"));
        assert_eq!(told.model.as_deref(), Some("Juggernaut XL"));
        assert_eq!(
            (told.loras[0].name.as_str(), told.loras[0].weight),
            ("ink", 0.75)
        );

        let told = read_old(
            r#"{"model_weights":"stable-diffusion-1.5","image":{"prompt":[{"prompt":"a cat [dog] sits","weight":1}],"steps":50,"cfg_scale":7.5,"seed":42,"sampler":"k_lms"}}"#,
        )
        .expect("read");
        assert_eq!(
            (told.prompt.as_str(), told.negative_prompt.as_deref()),
            ("a cat  sits", Some("dog"))
        );
        assert_eq!(
            (told.seed, told.scheduler.as_deref()),
            (Some(42), Some("LMS"))
        );

        let told = read_dream(r#""a "big" cat" -s 50 -S123 -W512 -H 512 -C7.5 -A k_euler_a é"#)
            .expect("read");
        assert_eq!(told.prompt, "a \"big\" cat");
        assert_eq!(
            (told.steps, told.seed, told.guidance_scale),
            (Some(50), Some(123), Some(7.5))
        );
        assert_eq!(told.scheduler.as_deref(), Some("Euler a"));
        for text in ["", "{}", "[]", "null", "\"", "{\"image\": 1}"] {
            assert_eq!(read(text), None);
            assert_eq!(read_old(text), None);
            assert_eq!(read_dream(text), None, "{text}");
        }
    }
}
