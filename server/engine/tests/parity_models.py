"""Small random-weight SDXL pipelines of the real architecture.

Everything here is seeded: the same call gives the same folder. Weights are not torch's default
initialisation, under which most branches fade to nothing: `reinitialise` draws every tensor so
that each layer keeps the variance of its input, biases and norm scales are far from 0 and 1, and
attention is sharp. A picture from such a network depends on every input it was given.
"""

from __future__ import annotations

import json
import math
import shutil
import zlib
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"

# scheduler/scheduler_config.json of SDXL base 1.0.
SDXL_SCHEDULER = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="epsilon",
    interpolation_type="linear",
    use_karras_sigmas=False,
    timestep_spacing="leading",
    steps_offset=1,
)


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes, in CLIP's order: printable ASCII and Latin-1 first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def clip_vocabulary(merges: list[str], *, bos_last: bool = False) -> dict[str, int]:
    """CLIP's vocabulary from its merges: bytes, bytes ending a word, merges, then the two marks.

    `bos_last` gives the end mark a lower id than the start mark, so that "the highest id" and
    "the end mark" are different positions.
    """
    alphabet = byte_alphabet()
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m.split()) for m in merges]
    tokens += [EOS, BOS] if bos_last else [BOS, EOS]
    return {token: index for index, token in enumerate(tokens)}


def small_merges(all_merges: list[str], count: int) -> list[str]:
    """The first `count` real merges: enough to exercise the merge loop, few enough to stay small."""
    return all_merges[:count]


def write_tokenizer(
    folder: Path, vocabulary: dict[str, int], merges: list[str], *, pad: str, layout: str
) -> CLIPTokenizer:
    """Writes a tokenizer folder and loads it back with transformers.

    layout "vocab": vocab.json, merges.txt and the JSON files SDXL's own repository has.
    layout "json": what transformers 5 saves, tokenizer.json and tokenizer_config.json only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    mark = lambda text: {  # noqa: E731
        "content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False,
    }
    special = {"bos_token": mark(BOS), "eos_token": mark(EOS), "pad_token": pad, "unk_token": mark(EOS)}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    typed = {k: {"__type": "AddedToken", **v} if isinstance(v, dict) else v for k, v in special.items()}
    config = {
        "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
        "model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **typed,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    if layout == "json":
        shutil.rmtree(folder)
        tokenizer.save_pretrained(folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def reinitialise(module: torch.nn.Module, seed: int, gains: dict[str, float]) -> None:
    """Draws every parameter from N(0, gain²/fan_in), each from its own name's seed.

    `gains` maps a substring of the parameter's name to its gain; the longest match wins.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
            noise = torch.randn(parameter.shape, generator=generator)
            match = max((k for k in gains if k in name), key=len, default=None)
            gain = 1.0 if match is None else gains[match]
            if parameter.ndim == 1:
                scaled = 1 + 0.25 * noise if "norm" in name and name.endswith("weight") else 0.2 * noise
            elif "embedding.weight" in name:
                scaled = noise * gain
            else:
                scaled = noise * gain / math.sqrt(parameter[0].numel())
            parameter.copy_(scaled)


# Chosen by measurement: with these gains each mistake listed in parity_sensitivity.py moves the
# picture by several times the tolerance, while f32 rounding moves it by a few thousandths of it.
TEXT_GAINS = {"q_proj": 1.3, "k_proj": 1.3, "fc1": 1.8, "fc2": 1.5}
UNET_GAINS = {
    "attn1.to_q": 0.8, "attn1.to_k": 0.8, "attn2.to_q": 1.5, "attn2.to_k": 1.5,
    "attn2.to_v": 1.5, "attn2.to_out": 1.5, "ff.net.0": 1.6, "ff.net.2": 1.6,
    "time_emb_proj": 0.5, "add_embedding": 1.4, "conv_out": 0.7,
}
VAE_GAINS = {"decoder.conv_out": 0.45, "post_quant_conv": 0.05}


def build_pipeline(
    folder: Path,
    *,
    seed: int,
    merges: list[str],
    text: dict,
    text_2: dict,
    unet: dict,
    vae: dict,
    scheduler: dict,
    tokenizer_layout: str = "vocab",
    bos_last: bool = False,
    legacy_eos: bool = True,
    force_zeros_for_empty_prompt: bool = True,
    text_gains: dict | None = None,
    unet_gains: dict | None = None,
    vae_gains: dict | None = None,
) -> StableDiffusionXLPipeline:
    """Builds one pipeline in memory. Only its tokenizers touch the disk, under `folder`.

    `legacy_eos` writes `eos_token_id` 2 into the encoders' configs, as SDXL's folders have it:
    the pooled row is then the one of the highest id instead of the first end mark.
    """
    torch.manual_seed(seed)
    vocabulary = clip_vocabulary(merges, bos_last=bos_last)
    tokenizer = write_tokenizer(folder / "tokenizer", vocabulary, merges, pad=EOS, layout=tokenizer_layout)
    tokenizer_2 = write_tokenizer(folder / "tokenizer_2", vocabulary, merges, pad="!", layout=tokenizer_layout)
    eos = 2 if legacy_eos else vocabulary[EOS]
    shared = dict(
        vocab_size=len(vocabulary), max_position_embeddings=77, eos_token_id=eos,
        bos_token_id=vocabulary[BOS] if not legacy_eos else 0, pad_token_id=1,
    )
    encoder = CLIPTextModel(CLIPTextConfig(**{**shared, "hidden_act": "quick_gelu", **text}))
    encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**{**shared, "hidden_act": "gelu", **text_2}))
    cross = encoder.config.hidden_size + encoder_2.config.hidden_size
    added = encoder_2.config.projection_dim + 6 * unet["addition_time_embed_dim"]
    unet_model = UNet2DConditionModel(
        **{
            "cross_attention_dim": cross,
            "projection_class_embeddings_input_dim": added,
            "addition_embed_type": "text_time",
            **unet,
        }
    )
    vae_model = AutoencoderKL(**vae)
    reinitialise(encoder, seed + 1, text_gains or TEXT_GAINS)
    reinitialise(encoder_2, seed + 2, text_gains or TEXT_GAINS)
    reinitialise(unet_model, seed + 3, unet_gains or UNET_GAINS)
    reinitialise(vae_model, seed + 4, vae_gains or VAE_GAINS)
    pipeline = StableDiffusionXLPipeline(
        vae=vae_model.eval(),
        text_encoder=encoder.eval(),
        text_encoder_2=encoder_2.eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet_model.eval(),
        scheduler=EulerDiscreteScheduler(**scheduler),
        force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# The stock architecture, thin: every block type, both text encoders, attention depths that differ.
TINY_BASE = dict(
    seed=1000,
    text=dict(hidden_size=24, intermediate_size=96, num_hidden_layers=3, num_attention_heads=3, projection_dim=24),
    text_2=dict(hidden_size=40, intermediate_size=120, num_hidden_layers=4, num_attention_heads=5, projection_dim=36),
    unet=dict(
        sample_size=8,
        block_out_channels=(8, 16, 24),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 2, 3),
        norm_num_groups=4,
        use_linear_projection=True,
        addition_time_embed_dim=16,
    ),
    vae=dict(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.13025,
        force_upcast=True,
    ),
    scheduler=SDXL_SCHEDULER,
)

# A thinner one, for the folders that differ in how the weights are stored.
TINY_HALF = {
    **TINY_BASE,
    "seed": 1500,
    "text_2": {**TINY_BASE["text_2"], "num_hidden_layers": 2},
    "unet": {
        **TINY_BASE["unet"],
        "block_out_channels": (8, 8, 16),
        "attention_head_dim": (1, 2, 4),
        "layers_per_block": 1,
    },
    "vae": {**TINY_BASE["vae"], "block_out_channels": (4, 4, 8, 8)},
}

# Two levels, no linear projections, per-level layer counts, other epsilons and timestep embedding,
# swapped activations, a VAE of three levels with latent statistics, tokenizer.json only, the end
# mark below the start mark, an empty negative prompt that is encoded, trailing timesteps.
ODD_TWO_LEVELS = dict(
    seed=2000,
    tokenizer_layout="json",
    bos_last=True,
    legacy_eos=False,
    force_zeros_for_empty_prompt=False,
    text=dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=16, hidden_act="gelu", layer_norm_eps=1e-3,
    ),
    text_2=dict(
        hidden_size=24, intermediate_size=80, num_hidden_layers=5, num_attention_heads=4,
        projection_dim=56, hidden_act="quick_gelu", layer_norm_eps=1e-3,
    ),
    unet=dict(
        sample_size=(12, 20),
        block_out_channels=(16, 24),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=(1, 2),
        transformer_layers_per_block=(2, 1),
        attention_head_dim=(2, 3),
        norm_num_groups=8,
        norm_eps=1e-3,
        use_linear_projection=False,
        flip_sin_to_cos=False,
        freq_shift=1,
        time_embedding_dim=40,
        addition_time_embed_dim=12,
    ),
    vae=dict(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=48,
        scaling_factor=0.5,
        latents_mean=[-1.6, 1.3, -0.3, 0.9],
        latents_std=[8.4, 5.6, 6.3, 4.1],
        force_upcast=False,
    ),
    scheduler={**SDXL_SCHEDULER, "timestep_spacing": "trailing"},
)

# Four levels, one head count for all, no attention in the middle of either network, no quant
# convolutions, eight latent channels, v-prediction with zero terminal SNR.
ODD_EIGHT_CHANNELS = dict(
    seed=3000,
    tokenizer_layout="json",
    legacy_eos=False,
    text=dict(hidden_size=16, intermediate_size=64, num_hidden_layers=3, num_attention_heads=1, projection_dim=16),
    text_2=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, projection_dim=32),
    unet=dict(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(8, 16, 16, 24),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=8,
        use_linear_projection=True,
        addition_time_embed_dim=8,
    ),
    vae=dict(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=0.13025,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    ),
    scheduler={
        **SDXL_SCHEDULER,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
)

# Transformer depths per layer and other ones on the way up (as in distilled SDXL folders), guidance
# given to the UNet as an embedding, odd head sizes, Karras sigmas.
ODD_DISTILLED = dict(
    seed=4000,
    text=dict(hidden_size=20, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, projection_dim=20),
    text_2=dict(hidden_size=28, intermediate_size=56, num_hidden_layers=2, num_attention_heads=2, projection_dim=20),
    unet=dict(
        sample_size=8,
        block_out_channels=(8, 12, 18),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, (1, 2), (2, 1)),
        reverse_transformer_layers_per_block=((1, 2, 1), (2, 1, 1), 1),
        attention_head_dim=(1, 2, 3),
        norm_num_groups=2,
        use_linear_projection=True,
        time_cond_proj_dim=12,
        addition_time_embed_dim=16,
    ),
    vae=dict(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.18215,
    ),
    scheduler={**SDXL_SCHEDULER, "use_karras_sigmas": True},
)
