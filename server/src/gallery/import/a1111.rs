//! The `parameters` text of A1111, Forge, SD.Next, Civitai and those who write it like them: prompt,
//! negative prompt, and one line of facts. SwarmUI writes JSON under the same name.

use super::{Told, model_name, real, scheduler_name, small, whole};
use atelier_app::studio::LoraWeight;
use serde_json::Value;
use std::collections::HashMap;

pub(super) fn read(text: &str) -> Option<Told> {
    let text = text.trim();
    if text.starts_with('{') {
        return read_swarm(text);
    }
    let lines: Vec<&str> = text.lines().collect();
    // Facts may go on over several lines; they begin with the steps.
    let facts_at = lines
        .iter()
        .rposition(|line| line.trim_start().starts_with("Steps: "));
    let facts = facts_at.map_or_else(HashMap::new, |at| pairs(&lines[at..].join(" ")));
    let words = &lines[..facts_at.unwrap_or(lines.len())];
    let negative_at = words
        .iter()
        .position(|line| line.starts_with("Negative prompt:"));
    let prompt = words[..negative_at.unwrap_or(words.len())].join("\n");
    let negative_prompt = negative_at.map(|at| {
        let text = words[at..].join("\n");
        text.trim_start_matches("Negative prompt:")
            .trim()
            .to_owned()
    });
    if facts.is_empty() && negative_prompt.is_none() {
        // Any program may call a text "parameters"; this one says nothing that can be read.
        return None;
    }
    let fact = |name: &str| facts.get(name).map(String::as_str);
    let number = |name: &str| fact(name).and_then(|text| text.parse::<f64>().ok());
    let program = match fact("Version") {
        Some(version) if version.starts_with('f') => "Forge",
        Some(version) if version.starts_with("ComfyUI") => "ComfyUI",
        Some(version) if version.starts_with("Atelier") => "Atelier",
        _ => "A1111",
    };
    let (prompt, loras) = without_loras(prompt.trim());
    Some(Told {
        program,
        prompt,
        negative_prompt,
        steps: fact("Steps").and_then(|steps| steps.parse().ok()),
        guidance_scale: number("CFG scale"),
        seed: fact("Seed").and_then(|seed| seed.parse().ok()),
        scheduler: fact("Sampler")
            .map(|sampler| scheduler_name(sampler, fact("Schedule type").unwrap_or(""))),
        model: fact("Model").map(model_name),
        strength: number("Denoising strength"),
        // There, 1 stands for leaving nothing out.
        clip_skip: fact("Clip skip")
            .and_then(|skip| skip.parse::<u32>().ok())
            .map(|skip| skip.saturating_sub(1)),
        loras,
    })
}

/// `Steps: 20, Sampler: Euler a, Lora hashes: "a: 1, b: 2"`
fn pairs(line: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = line.trim();
    while let Some((key, after)) = rest.split_once(':') {
        let after = after.trim_start();
        let (value, next) = if after.starts_with('"') {
            // A string in JSON's own spelling; one that is broken ends at the next comma.
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            match values.next() {
                Some(Ok(value)) => {
                    let end = values.byte_offset();
                    (value, after[end..].trim_start_matches([',', ' ']))
                }
                _ => up_to_comma(after),
            }
        } else {
            up_to_comma(after)
        };
        found.entry(key.trim().to_owned()).or_insert(value);
        rest = next;
    }
    found
}

fn up_to_comma(text: &str) -> (String, &str) {
    let (value, next) = text.split_once(',').unwrap_or((text, ""));
    (value.trim().to_owned(), next.trim_start())
}

/// `<lora:name:0.8>` out of a prompt, into the list of LoRAs.
fn without_loras(prompt: &str) -> (String, Vec<LoraWeight>) {
    let mut loras = Vec::new();
    let mut words = String::new();
    let mut rest = prompt;
    while let Some(at) = rest.find("<lora:") {
        let Some(length) = rest[at..].find('>') else {
            break;
        };
        let inside = &rest[at + "<lora:".len()..at + length];
        let mut parts = inside.split(':');
        let name = parts.next().unwrap_or("").trim();
        let weight = parts
            .next()
            .map_or(Some(1.0), |text| text.trim().parse().ok());
        words.push_str(&rest[..at]);
        match weight {
            Some(weight) if !name.is_empty() => loras.push(LoraWeight {
                name: name.to_owned(),
                weight,
            }),
            // What is not understood stays where it is.
            _ => words.push_str(&rest[at..=at + length]),
        }
        rest = &rest[at + length + 1..];
    }
    words.push_str(rest);
    (words.trim().to_owned(), loras)
}

/// `{"sui_image_params": {"prompt": …}}`
fn read_swarm(text: &str) -> Option<Told> {
    let all: Value = serde_json::from_str(text).ok()?;
    let told = all.get("sui_image_params")?;
    let text = |name: &str| told.get(name)?.as_str().map(str::to_owned);
    let (prompt, loras) = without_loras(&text("prompt").unwrap_or_default());
    Some(Told {
        program: "SwarmUI",
        prompt,
        negative_prompt: text("negativeprompt").filter(|prompt| !prompt.is_empty()),
        steps: told.get("steps").and_then(small),
        guidance_scale: told.get("cfgscale").and_then(real),
        seed: told.get("seed").and_then(whole),
        scheduler: text("sampler")
            .map(|sampler| scheduler_name(&sampler, &text("scheduler").unwrap_or_default())),
        model: text("model").as_deref().map(model_name),
        strength: None,
        clip_skip: None,
        loras,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_text_is_read() {
        let told = read(
            "a red circle <lora:ink:0.8>, (blue:1.2)\nsecond line: yes\nNegative prompt: blurry,\nugly\n\
             Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 18446744073709551615, \
             Size: 512x768, Model hash: abc, Model: sdxl_base, Clip skip: 2, Denoising strength: 0.4, \
             Lora hashes: \"ink: 1f, other: 2e\", Version: v1.10.1",
        )
        .expect("read");
        assert_eq!(told.prompt, "a red circle , (blue:1.2)\nsecond line: yes");
        assert_eq!(told.negative_prompt.as_deref(), Some("blurry,\nugly"));
        assert_eq!((told.steps, told.seed), (Some(20), Some(u64::MAX)));
        assert_eq!(told.scheduler.as_deref(), Some("DPM++ 2M Karras"));
        assert_eq!(told.guidance_scale, Some(6.5));
        assert_eq!(told.model.as_deref(), Some("sdxl_base"));
        assert_eq!((told.clip_skip, told.strength), (Some(1), Some(0.4)));
        assert_eq!(told.loras.len(), 1);
        assert_eq!(
            (told.loras[0].name.as_str(), told.loras[0].weight),
            ("ink", 0.8)
        );
        assert_eq!(told.program, "A1111");
    }

    #[test]
    fn older_and_odd_texts_are_read_as_far_as_they_go() {
        let told = read("just words\nSteps: many, Sampler: Euler a, Seed: -1, CFG scale: 7")
            .expect("read");
        assert_eq!(told.prompt, "just words");
        assert_eq!(
            (told.steps, told.seed, told.negative_prompt),
            (None, None, None)
        );
        assert_eq!(told.scheduler.as_deref(), Some("Euler a"));
        assert_eq!(read("words and nothing else"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("{\"a\": 1}"), None);
        let told =
            read("<lora:broken\nNegative prompt: x\nSteps: 1, X: \"open, Seed: 3").expect("read");
        assert_eq!(told.prompt, "<lora:broken");
        assert_eq!(told.seed, Some(3));
    }

    #[test]
    fn swarm_writes_json_under_the_same_name() {
        let told = read(
            r#"{"sui_image_params":{"prompt":"a cat","negativeprompt":"dog","model":"a/b.safetensors","seed":7,"steps":30,"cfgscale":5.5,"sampler":"euler","scheduler":"normal"}}"#,
        )
        .expect("read");
        assert_eq!(
            (told.prompt.as_str(), told.seed, told.steps),
            ("a cat", Some(7), Some(30))
        );
        assert_eq!(told.model.as_deref(), Some("b"));
    }
}
