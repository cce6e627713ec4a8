//! Names of the autoencoder: levels numbered from the pixels on in both halves, so that the
//! decoder's first up block is the highest level.

use super::unet::{below, join};

/// diffusers' name of a tensor of an autoencoder with `levels` resolutions → its latent-diffusion
/// name, without the prefix `first_stage_model.`.
pub fn vae_name(name: &str, levels: usize) -> Option<String> {
    let (half, rest) = name.split_once('.')?;
    if half == "quant_conv" || half == "post_quant_conv" {
        return Some(name.to_string());
    }
    if half != "encoder" && half != "decoder" {
        return None;
    }
    for (ours, theirs) in [
        ("conv_in", "conv_in"),
        ("conv_norm_out", "norm_out"),
        ("conv_out", "conv_out"),
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
    ] {
        if let Some(rest) = below(rest, ours) {
            return Some(join(&format!("{half}.{theirs}"), &resnet(rest)));
        }
    }
    if let Some(rest) = below(rest, "mid_block.attentions.0") {
        return attention(rest).map(|rest| join(&format!("{half}.mid.attn_1"), &rest));
    }
    let mut words = rest.splitn(5, '.');
    let (blocks, block) = (words.next()?, words.next()?.parse::<usize>().ok()?);
    let (kind, at, rest) = (words.next()?, words.next()?, words.next()?);
    let (side, level) = match blocks {
        "down_blocks" => ("down", block),
        "up_blocks" => ("up", levels.checked_sub(block + 1)?),
        _ => return None,
    };
    let place = format!("{half}.{side}.{level}");
    match kind {
        "resnets" => Some(format!("{place}.block.{at}.{}", resnet(rest))),
        "downsamplers" => Some(format!("{place}.downsample.{rest}")),
        "upsamplers" => Some(format!("{place}.upsample.{rest}")),
        _ => None,
    }
}

fn resnet(path: &str) -> String {
    match below(path, "conv_shortcut") {
        Some(rest) => join("nin_shortcut", rest),
        None => path.to_string(),
    }
}

fn attention(path: &str) -> Option<String> {
    [
        ("group_norm", "norm"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ]
    .into_iter()
    .find_map(|(ours, theirs)| Some(join(theirs, below(path, ours)?)))
}
