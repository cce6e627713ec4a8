//! UNet names: one row of `input_blocks`, a `middle_block`, one row of `output_blocks`.

use crate::unet::UnetConfig;

/// diffusers' name of a tensor or layer of a UNet → its latent-diffusion name, without the prefix
/// `model.diffusion_model.`; `None` for what latent diffusion has no name for.
pub fn unet_name(name: &str, config: &UnetConfig) -> Option<String> {
    for (ours, theirs) in [
        ("conv_in", "input_blocks.0.0"),
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("time_embedding.cond_proj", "time_embed.cond_proj"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
    ] {
        if let Some(rest) = below(name, ours) {
            return Some(join(theirs, rest));
        }
    }
    let (block, rest) = name.split_once('.')?;
    match block {
        "down_blocks" => down(rest, config),
        "mid_block" => {
            let (kind, at, rest) = layer(rest)?;
            match (kind, at) {
                ("resnets", 0) => Some(join("middle_block.0", &resnet(rest)?)),
                ("resnets", 1) => Some(join("middle_block.2", &resnet(rest)?)),
                ("attentions", 0) => Some(join("middle_block.1", rest)),
                _ => None,
            }
        }
        "up_blocks" => up(rest, config),
        _ => None,
    }
}

fn down(path: &str, config: &UnetConfig) -> Option<String> {
    let (block, rest) = number(path)?;
    // Each block has a place per layer and one for its downsampler, after the first convolution.
    let before: usize = config
        .down_blocks
        .get(..block)?
        .iter()
        .map(|b| b.layers + 1)
        .sum();
    let layers = config.down_blocks.get(block)?.layers;
    let (kind, at, rest) = layer(rest)?;
    let place = |at: usize| format!("input_blocks.{}", 1 + before + at);
    match kind {
        "resnets" => Some(join(&format!("{}.0", place(at)), &resnet(rest)?)),
        "attentions" => Some(join(&format!("{}.1", place(at)), rest)),
        "downsamplers" => {
            let rest = below(rest, "conv")?;
            Some(join(&format!("{}.0.op", place(layers)), rest))
        }
        _ => None,
    }
}

fn up(path: &str, config: &UnetConfig) -> Option<String> {
    let (block, rest) = number(path)?;
    let before: usize = config
        .up_blocks
        .get(..block)?
        .iter()
        .map(|b| b.layers)
        .sum();
    let this = config.up_blocks.get(block)?;
    let (kind, at, rest) = layer(rest)?;
    let place = |at: usize| format!("output_blocks.{}", before + at);
    match kind {
        "resnets" => Some(join(&format!("{}.0", place(at)), &resnet(rest)?)),
        "attentions" => Some(join(&format!("{}.1", place(at)), rest)),
        "upsamplers" => {
            // It shares the place of the last layer, behind its transformer if there is one.
            let behind = if this.attention.is_some() { 2 } else { 1 };
            let last = place(this.layers.checked_sub(1)?);
            Some(join(&format!("{last}.{behind}.conv"), below(rest, "conv")?))
        }
        _ => None,
    }
}

/// A path inside of a resnet.
fn resnet(path: &str) -> Option<String> {
    [
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("time_emb_proj", "emb_layers.1"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
        ("conv_shortcut", "skip_connection"),
    ]
    .into_iter()
    .find_map(|(ours, theirs)| Some(join(theirs, below(path, ours)?)))
}

/// `resnets.1.conv1.weight` → (`resnets`, 1, `conv1.weight`).
fn layer(path: &str) -> Option<(&str, usize, &str)> {
    let (kind, rest) = path.split_once('.')?;
    let (at, rest) = number(rest)?;
    Some((kind, at, rest))
}

fn number(path: &str) -> Option<(usize, &str)> {
    let (number, rest) = path.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// What follows `place` in `path`, without the dot; empty if they are equal.
pub(super) fn below<'a>(path: &'a str, place: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(place)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('.')
    }
}

pub(super) fn join(place: &str, rest: &str) -> String {
    if rest.is_empty() {
        place.to_string()
    } else {
        format!("{place}.{rest}")
    }
}
