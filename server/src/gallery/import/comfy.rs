//! ComfyUI's `prompt` text: the graph that was run, as nodes by id. What the image was made with is
//! found by walking from the sampler to what feeds it.

use super::{
    LONGEST_NAME, LONGEST_PROMPT, Told, cut, model_name, real, scheduler_name, small, whole,
};
use atelier_app::studio::LoraWeight;
use serde_json::{Map, Value};
use std::cell::Cell;

/// How many links are followed in all: graphs of strangers may have rings, and rings of rings.
const MOST_STEPS: u32 = 1000;
/// Links that are followed one behind the other: whole graphs are less deep, and the stack has an end.
const DEEPEST: u32 = 100;

pub(super) fn read(text: &str) -> Option<Told> {
    // Python writes numbers that JSON has no word for.
    let text = text
        .replace(": NaN", ": null")
        .replace(": Infinity", ": null");
    let graph = Graph {
        nodes: serde_json::from_str(&text).ok()?,
        left: Cell::new(MOST_STEPS),
        depth: Cell::new(0),
    };
    let sampler = graph.sampler()?;
    let inputs = sampler.get("inputs")?;
    let value = |names: &[&str]| -> Option<Value> {
        names
            .iter()
            .find_map(|name| graph.value(inputs.get(name)?, name))
    };
    let sampler_name = value(&["sampler_name", "sampler"]);
    let schedule = value(&["scheduler"]);
    let words = |name: &str| inputs.get(name).and_then(|link| graph.words(link));
    let prompt = words("positive")
        .or_else(|| words("guider"))
        .unwrap_or_default();
    let negative_prompt = words("negative").filter(|words| !words.is_empty());
    let mut told = Told {
        program: "ComfyUI",
        prompt,
        negative_prompt,
        steps: value(&["steps"]).as_ref().and_then(small),
        guidance_scale: value(&["cfg"]).as_ref().and_then(real),
        seed: value(&["seed", "noise_seed"]).as_ref().and_then(whole),
        scheduler: sampler_name.as_ref().and_then(Value::as_str).map(|name| {
            scheduler_name(
                name,
                schedule.as_ref().and_then(Value::as_str).unwrap_or(""),
            )
        }),
        strength: value(&["denoise"])
            .as_ref()
            .and_then(real)
            .filter(|strength| *strength < 1.0),
        ..Told::default()
    };
    // Last: a ring of LoRAs uses up all the steps that are left.
    told.model = inputs
        .get("model")
        .and_then(|model| graph.model(model, &mut told.loras));
    Some(told)
}

struct Graph {
    nodes: Map<String, Value>,
    left: Cell<u32>,
    depth: Cell<u32>,
}

impl Graph {
    fn kind(node: &Value) -> &str {
        node.get("class_type").and_then(Value::as_str).unwrap_or("")
    }

    /// The sampler that begins: of several, the one whose latent comes from no other sampler, with
    /// the most steps.
    fn sampler(&self) -> Option<&Value> {
        let is_sampler = |node: &Value| {
            Self::kind(node).contains("Sampler")
                && node.get("inputs").is_some_and(|inputs| {
                    inputs.get("positive").is_some() || inputs.get("guider").is_some()
                })
        };
        let steps = |node: &Value| node["inputs"].get("steps").and_then(whole).unwrap_or(0);
        let goes_on = |node: &Value| {
            node["inputs"]
                .get("latent_image")
                .and_then(|link| self.node(link))
                .is_some_and(is_sampler)
        };
        let mut samplers: Vec<(&String, &Value)> = self
            .nodes
            .iter()
            .filter(|(_, node)| is_sampler(node))
            .collect();
        samplers.sort_by_key(|(id, node)| {
            let number = id.parse::<u64>().unwrap_or(u64::MAX);
            (goes_on(node), u64::MAX - steps(node), number)
        });
        samplers.first().map(|(_, node)| *node)
    }

    /// Follows one link: so many in all, and so many one behind the other, for the stack has an end.
    fn follow<T>(&self, walk: impl FnOnce() -> Option<T>) -> Option<T> {
        self.left.set(self.left.get().checked_sub(1)?);
        let depth = self.depth.get();
        if depth >= DEEPEST {
            return None;
        }
        self.depth.set(depth + 1);
        let found = walk();
        self.depth.set(depth);
        found
    }

    /// The node that a link `["4", 0]` comes from.
    fn node(&self, link: &Value) -> Option<&Value> {
        let id = link.as_array()?.first()?;
        match id {
            Value::String(id) => self.nodes.get(id),
            Value::Number(id) => self.nodes.get(&id.to_string()),
            _ => None,
        }
    }

    /// A value, or what a link to one comes to.
    fn value(&self, given: &Value, name: &str) -> Option<Value> {
        if !given.is_array() {
            return Some(given.clone()).filter(|value| !value.is_null());
        }
        self.follow(|| {
            let inputs = self.node(given)?.get("inputs")?.as_object()?;
            let names = [
                name,
                "value",
                "int",
                "float",
                "string",
                "text",
                "seed",
                "noise_seed",
            ];
            names
                .into_iter()
                .find_map(|name| self.value(inputs.get(name)?, name))
        })
    }

    /// The words behind a conditioning, at each step no more of them than are kept in the end:
    /// combinations of combinations double what they pass on.
    fn words(&self, link: &Value) -> Option<String> {
        self.follow(|| {
            let node = self.node(link)?;
            let inputs = node.get("inputs")?.as_object()?;
            let text = |name: &str| {
                let value = self.value(inputs.get(name)?, name)?;
                value.as_str().map(|text| cut(text, LONGEST_PROMPT))
            };
            let own: Vec<String> = ["text", "text_g", "text_l", "prompt", "positive_prompt"]
                .into_iter()
                .filter_map(text)
                .filter(|text| !text.is_empty())
                .collect();
            if let Some(first) = own.first() {
                // SDXL has two encoders; most people tell both the same.
                let mut said = vec![first.clone()];
                said.extend(own[1..].iter().filter(|text| *text != first).cloned());
                return Some(cut(&said.join(" "), LONGEST_PROMPT));
            }
            // Nodes that pass words on: a control net, a combination, a guider.
            let further: Vec<String> = [
                "conditioning",
                "conditioning_1",
                "conditioning_2",
                "conditioning_to",
                "conditioning_from",
                "positive",
            ]
            .into_iter()
            .filter_map(|name| self.words(inputs.get(name)?))
            .filter(|words| !words.is_empty())
            .collect();
            let has_text = inputs.contains_key("text") || inputs.contains_key("text_g");
            (has_text || !further.is_empty()).then(|| cut(&further.join(" "), LONGEST_PROMPT))
        })
    }

    /// The name of the checkpoint behind a model, LoRAs on the way gathered.
    fn model(&self, link: &Value, loras: &mut Vec<LoraWeight>) -> Option<String> {
        self.follow(|| {
            let inputs = self.node(link)?.get("inputs")?.as_object()?;
            let text = |name: &str| {
                let value = self.value(inputs.get(name)?, name)?;
                value
                    .as_str()
                    .map(|name| cut(&model_name(name), LONGEST_NAME))
            };
            if let Some(name) = text("lora_name") {
                let weight = inputs.get("strength_model").and_then(real).unwrap_or(1.0);
                loras.push(LoraWeight { name, weight });
            }
            ["ckpt_name", "unet_name", "model_name"]
                .into_iter()
                .find_map(text)
                .or_else(|| self.model(inputs.get("model")?, loras))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: &str = r#"{
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl/base.safetensors"}},
        "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "ink.safetensors", "strength_model": 0.6, "strength_clip": 1, "model": ["4", 0], "clip": ["4", 1]}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["20", 0], "clip": ["10", 1]}},
        "20": {"class_type": "PrimitiveString", "inputs": {"value": "a red fox"}},
        "7": {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "blurry", "text_l": "blurry", "clip": ["10", 1]}},
        "8": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0], "strength": NaN}},
        "3": {"class_type": "KSampler", "inputs": {"seed": 156680208700286, "steps": 20, "cfg": 8, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1, "model": ["10", 0], "positive": ["8", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "11": {"class_type": "KSamplerAdvanced", "inputs": {"noise_seed": 0, "steps": 25, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["3", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}
    }"#;

    #[test]
    fn a_graph_is_walked_from_its_first_sampler() {
        let told = read(GRAPH).expect("read");
        assert_eq!(
            (told.prompt.as_str(), told.negative_prompt.as_deref()),
            ("a red fox", Some("blurry"))
        );
        assert_eq!(
            (told.seed, told.steps, told.guidance_scale),
            (Some(156_680_208_700_286), Some(20), Some(8.0))
        );
        assert_eq!(told.scheduler.as_deref(), Some("DPM++ 2M Karras"));
        assert_eq!(told.model.as_deref(), Some("base"));
        assert_eq!(
            (told.loras[0].name.as_str(), told.loras[0].weight),
            ("ink", 0.6)
        );
        assert_eq!(told.strength, None);
    }

    #[test]
    fn combinations_that_double_pass_on_no_more_than_is_kept() {
        let mut graph = serde_json::json!({
            "s": {"class_type": "KSampler", "inputs": {"positive": ["8", 0], "model": ["m", 0]}},
            "0": {"class_type": "CLIPTextEncode", "inputs": {"text": "word ".repeat(100_000)}},
            // A ring of LoRAs.
            "m": {"class_type": "LoraLoader", "inputs": {"lora_name": "n".repeat(100_000), "model": ["m", 0]}},
        });
        for number in 1..=8 {
            let below = serde_json::json!([(number - 1).to_string(), 0]);
            graph[number.to_string()] = serde_json::json!({
                "class_type": "ConditioningCombine",
                "inputs": {"conditioning_1": below, "conditioning_2": below},
            });
        }
        let told = read(&graph.to_string()).expect("read");
        // A cut may end at a space.
        let length = told.prompt.len();
        assert!(
            (LONGEST_PROMPT - 1..=LONGEST_PROMPT).contains(&length),
            "{length}"
        );
        assert!(told.prompt.starts_with("word word"));
        assert_eq!(told.loras.len(), DEEPEST as usize);
        assert!(
            told.loras
                .iter()
                .all(|lora| lora.name.len() == LONGEST_NAME)
        );
    }

    #[test]
    fn rings_and_rubble_end() {
        let ring = r#"{"1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "negative": ["2", 0], "model": ["2", 0], "seed": ["2", 0]}},
                       "2": {"class_type": "X", "inputs": {"conditioning": ["2", 0], "model": ["2", 0], "value": ["2", 0], "conditioning_1": 5}}}"#;
        let told = read(ring).expect("read");
        assert_eq!(
            (told.prompt.as_str(), told.seed, told.model),
            ("", None, None)
        );
        for text in [
            "",
            "[]",
            "{}",
            "{\"1\": 2}",
            "{\"1\": {\"class_type\": \"KSampler\"}}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
