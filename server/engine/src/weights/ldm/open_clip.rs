//! Names of OpenCLIP's text transformer, SDXL's second text encoder.

use super::unet::below;

/// How a tensor lies in its OpenCLIP file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Whole,
    /// The third of this number (0, 1, 2) of the rows: queries, keys and values lie in one matrix.
    Third(usize),
    /// Rows and columns exchanged.
    Transposed,
}

/// transformers' name of a tensor of `CLIPTextModelWithProjection` → its OpenCLIP name, and which
/// piece of that tensor it is.
pub fn open_clip_name(name: &str) -> Option<(String, Piece)> {
    if name == "text_projection.weight" {
        return Some(("text_projection".to_string(), Piece::Transposed));
    }
    let name = name.strip_prefix("text_model.").unwrap_or(name);
    let whole = |name: String| Some((name, Piece::Whole));
    match name {
        "embeddings.token_embedding.weight" => return whole("token_embedding.weight".to_string()),
        "embeddings.position_embedding.weight" => return whole("positional_embedding".to_string()),
        _ => {}
    }
    if let Some(rest) = below(name, "final_layer_norm") {
        return whole(format!("ln_final.{rest}"));
    }
    let (layer, rest) = name.strip_prefix("encoder.layers.")?.split_once('.')?;
    let place = format!("transformer.resblocks.{layer}");
    for (ours, theirs) in [
        ("layer_norm1", "ln_1"),
        ("layer_norm2", "ln_2"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("self_attn.out_proj", "attn.out_proj"),
    ] {
        if let Some(rest) = below(rest, ours) {
            return whole(format!("{place}.{theirs}.{rest}"));
        }
    }
    for (third, ours) in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
        .into_iter()
        .enumerate()
    {
        if let Some(end) = below(rest, ours) {
            return Some((format!("{place}.attn.in_proj_{end}"), Piece::Third(third)));
        }
    }
    None
}
