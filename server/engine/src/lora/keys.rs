//! The names that LoRA files give their tensors: kohya's, diffusers' old and new ones, peft's.

/// The part of a pipeline that a LoRA acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The UNet.
    Unet,
    /// The first text encoder.
    TextEncoder,
    /// The second text encoder.
    TextEncoder2,
}

impl Part {
    /// Its folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }
}

/// What a tensor of a LoRA file is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A, from the layer's inputs to the rank.
    Down,
    /// B, from the rank to the layer's outputs.
    Up,
    /// The core of a Tucker decomposition.
    Core,
    /// The number that, divided by the rank, multiplies the product.
    Alpha,
}

/// A key taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraKey {
    pub part: Part,
    /// The layer's path with underscores for dots, since kohya's keys have nothing else:
    /// diffusers' or latent diffusion's name.
    pub layer: String,
    pub role: Role,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It belongs to a kind of adapter that is not supported; the kind's name.
    Kind(&'static str),
    /// It belongs to a model of another architecture; that model's name.
    Model(&'static str),
    /// Nothing is known about it.
    Unknown,
}

/// Where a tensor of each role may end, longest first.
const ENDINGS: [(&str, Role); 11] = [
    (".lora_linear_layer.down", Role::Down),
    (".lora_linear_layer.up", Role::Up),
    (".lora_down", Role::Down),
    (".lora_up", Role::Up),
    (".lora_mid", Role::Core),
    (".lora_A", Role::Down),
    (".lora_B", Role::Up),
    (".lora.down", Role::Down),
    (".lora.up", Role::Up),
    ("_lora.down", Role::Down),
    ("_lora.up", Role::Up),
];

/// Kinds of adapters that are recognised in order to be refused by name.
const OTHER_KINDS: [(&str, &str); 17] = [
    ("dora_scale", "DoRA"),
    ("lora_magnitude_vector", "DoRA"),
    ("hada_w1", "LoHa"),
    ("hada_w2", "LoHa"),
    ("hada_t1", "LoHa"),
    ("hada_t2", "LoHa"),
    ("lokr_w1", "LoKr"),
    ("lokr_w2", "LoKr"),
    ("lokr_t2", "LoKr"),
    ("oft_blocks", "OFT"),
    ("oft_diag", "OFT"),
    ("oft_R", "OFT"),
    ("boft", "BOFT"),
    ("ia3_l", "IA³"),
    ("on_input", "IA³"),
    ("glora", "GLoRA"),
    ("bundle_emb", "textual inversion"),
];

/// Where the parts of a pipeline begin, longest first where one begins with another.
const PLACES: [(&str, Part); 13] = [
    ("unet.", Part::Unet),
    ("text_encoder_2.", Part::TextEncoder2),
    ("text_encoder.", Part::TextEncoder),
    ("lora_unet_", Part::Unet),
    ("lora_te1_", Part::TextEncoder),
    ("lora_te2_", Part::TextEncoder2),
    // Trainers for models with one text encoder number none.
    ("lora_te_", Part::TextEncoder),
    ("model.diffusion_model.", Part::Unet),
    ("diffusion_model.", Part::Unet),
    ("text_encoders.clip_l.transformer.", Part::TextEncoder),
    ("text_encoders.clip_g.transformer.", Part::TextEncoder2),
    ("clip_l.transformer.", Part::TextEncoder),
    ("clip_g.transformer.", Part::TextEncoder2),
];

/// peft's own wrapper around the model it trained.
const PEFT: &str = "base_model.model.";

/// Takes a key apart.
///
/// # Errors
/// [`Refused`] for what is not a LoRA of an SDXL model.
pub fn parse(key: &str) -> Result<LoraKey, Refused> {
    if let Some((_, kind)) = OTHER_KINDS.iter().find(|(mark, _)| key.contains(mark)) {
        return Err(Refused::Kind(kind));
    }
    if key.ends_with(".diff") || key.ends_with(".diff_b") || key.ends_with(".set_weight") {
        return Err(Refused::Kind("full weight differences"));
    }
    let (place, role) = split_role(key)?;
    let (part, layer) = split_part(place)?;
    let layer = canonical(part, layer);
    if layer.is_empty() {
        return Err(Refused::Unknown);
    }
    Ok(LoraKey { part, layer, role })
}

/// `X.lora_A.weight` → (`X`, down).
fn split_role(key: &str) -> Result<(&str, Role), Refused> {
    if let Some(place) = key.strip_suffix(".alpha") {
        // Old diffusers files name the processor's layer here too.
        return Ok((strip_lora_end(place), Role::Alpha));
    }
    if let Some(place) = key.strip_suffix(".bias")
        && ENDINGS.iter().any(|(end, _)| place.ends_with(end))
    {
        return Err(Refused::Kind("LoRA with biases"));
    }
    let place = key.strip_suffix(".weight").ok_or(Refused::Unknown)?;
    let ending = |place: &'_ str| {
        ENDINGS
            .iter()
            .find_map(|(end, role)| Some((place.strip_suffix(end)?.len(), *role)))
    };
    let found = ending(place).or_else(|| {
        // peft may put the adapter's name between: `X.lora_A.default.weight`.
        ending(place.rsplit_once('.')?.0)
    });
    let (length, role) = found.ok_or(Refused::Unknown)?;
    Ok((&place[..length], role))
}

fn strip_lora_end(place: &str) -> &str {
    [".lora_linear_layer", ".lora", "_lora"]
        .iter()
        .find_map(|end| place.strip_suffix(end))
        .unwrap_or(place)
}

fn split_part(place: &str) -> Result<(Part, &str), Refused> {
    let place = place.strip_prefix(PEFT).unwrap_or(place);
    for (start, part) in PLACES {
        if let Some(rest) = place.strip_prefix(start) {
            let rest = rest.strip_prefix(PEFT).unwrap_or(rest);
            return match foreign(rest) {
                Some(model) => Err(Refused::Model(model)),
                None => Ok((part, rest)),
            };
        }
    }
    for (start, model) in [
        ("lora_te3_", "Stable Diffusion 3"),
        ("lora_prior_", "Stable Cascade"),
        (
            "transformer.",
            "a transformer (FLUX, Stable Diffusion 3 or later)",
        ),
        (
            "lora_transformer_",
            "a transformer (FLUX, Stable Diffusion 3 or later)",
        ),
    ] {
        if place.starts_with(start) {
            return Err(Refused::Model(model));
        }
    }
    if let Some(model) = foreign(place) {
        return Err(Refused::Model(model));
    }
    // Files of the first diffusers and peft's own hold the UNet's paths as they are.
    let bare = [
        "down_blocks",
        "up_blocks",
        "mid_block",
        "input_blocks",
        "output_blocks",
        "middle_block",
        "time_embed",
        "add_embedding",
        "label_emb",
        "conv_in",
        "conv_out",
    ];
    if bare.iter().any(|start| place.starts_with(start)) {
        return Ok((Part::Unet, place));
    }
    Err(Refused::Unknown)
}

/// The architecture that a path inside of the denoiser belongs to, where it is not a UNet's.
fn foreign(path: &str) -> Option<&'static str> {
    [
        ("double_blocks", "FLUX"),
        ("single_blocks", "FLUX"),
        ("single_transformer_blocks", "FLUX"),
        ("joint_blocks", "Stable Diffusion 3"),
        (
            "transformer_blocks",
            "a transformer (FLUX, Stable Diffusion 3 or later)",
        ),
        ("layers_", "another transformer"),
        ("layers.", "another transformer"),
        ("blocks_", "another transformer"),
        ("blocks.", "another transformer"),
    ]
    .iter()
    .find_map(|(start, model)| path.starts_with(start).then_some(*model))
}

/// One spelling for every layer: underscores for dots, no attention processors, no prefix that
/// some versions of transformers have and others have not.
fn canonical(part: Part, path: &str) -> String {
    let path = path.replace(".processor.", ".");
    let mut layer = path.replace('.', "_");
    match part {
        Part::Unet => {
            if layer.ends_with("_to_out") {
                layer.push_str("_0");
            }
        }
        Part::TextEncoder | Part::TextEncoder2 => {
            if let Some(rest) = layer.strip_prefix("text_model_") {
                layer = rest.to_string();
            }
            for (old, new) in [
                ("_to_q", "_q_proj"),
                ("_to_k", "_k_proj"),
                ("_to_v", "_v_proj"),
                ("_to_out", "_out_proj"),
            ] {
                if let Some(start) = layer.strip_suffix(old) {
                    layer = format!("{start}{new}");
                    break;
                }
            }
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> (Part, String, Role) {
        let key = parse(text).unwrap_or_else(|refused| panic!("{text}: {refused:?}"));
        (key.part, key.layer, key.role)
    }

    #[test]
    fn every_spelling_of_one_layer_is_one_layer() {
        let layer = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0";
        for (text, role) in [
            (
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
                Role::Down,
            ),
            (
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.alpha",
                Role::Alpha,
            ),
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_B.weight",
                Role::Up,
            ),
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora.down.weight",
                Role::Down,
            ),
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
                Role::Up,
            ),
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.alpha",
                Role::Alpha,
            ),
            (
                "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight",
                Role::Down,
            ),
            (
                "unet.base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.default.weight",
                Role::Down,
            ),
            (
                "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight",
                Role::Down,
            ),
        ] {
            assert_eq!(key(text), (Part::Unet, layer.to_string(), role), "{text}");
        }
        let layer = "encoder_layers_3_self_attn_q_proj";
        for text in [
            "lora_te2_text_model_encoder_layers_3_self_attn_q_proj.lora_up.weight",
            "text_encoder_2.text_model.encoder.layers.3.self_attn.q_proj.lora_B.weight",
            "text_encoder_2.encoder.layers.3.self_attn.q_proj.lora_B.weight",
            "text_encoder_2.text_model.encoder.layers.3.self_attn.q_proj.lora_linear_layer.up.weight",
            "text_encoder_2.text_model.encoder.layers.3.self_attn.to_q_lora.up.weight",
        ] {
            assert_eq!(
                key(text),
                (Part::TextEncoder2, layer.to_string(), Role::Up),
                "{text}"
            );
        }
        assert_eq!(
            key("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_mid.weight"),
            (
                Part::TextEncoder,
                "encoder_layers_0_mlp_fc1".to_string(),
                Role::Core
            )
        );
    }

    #[test]
    fn other_adapters_and_models_are_told_apart() {
        for (text, refused) in [
            (
                "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",
                Refused::Kind("LoHa"),
            ),
            (
                "lora_unet_mid_block_attentions_0_proj_in.lokr_w1",
                Refused::Kind("LoKr"),
            ),
            (
                "lora_unet_mid_block_attentions_0_proj_in.dora_scale",
                Refused::Kind("DoRA"),
            ),
            (
                "lora_unet_mid_block_attentions_0_proj_in.diff",
                Refused::Kind("full weight differences"),
            ),
            (
                "unet.conv_in.lora_B.bias",
                Refused::Kind("LoRA with biases"),
            ),
            (
                "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
                Refused::Model("FLUX"),
            ),
            (
                "lora_te3_encoder_block_0.lora_down.weight",
                Refused::Model("Stable Diffusion 3"),
            ),
            ("unet.conv_in.weight", Refused::Unknown),
            ("nonsense", Refused::Unknown),
            ("", Refused::Unknown),
            (".lora_A.weight", Refused::Unknown),
        ] {
            assert_eq!(parse(text), Err(refused), "{text}");
        }
    }
}
