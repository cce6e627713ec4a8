#!/usr/bin/env python3
"""Writes down how a diffusers folder's tensors are called in a single file, for
tests/parity/single_file.rs.

    python record_single_file.py                 # rewrites fixtures/single_file/
    python record_single_file.py FOLDER FILE     # converts one folder, for comparisons
    python record_single_file.py --derived DIR   # a small model of SDXL's proportions, as a folder
                                                 # and as files without configs, for one comparison

The mapping is made here from the layout of latent diffusion's code (a flat list of input blocks, a
middle, a flat list of output blocks; OpenCLIP's fused attention) and checked against diffusers: its
`from_single_file` must load the converted tiny model to the very weights of the folder.

fixtures/single_file/tiny-base.json   component, diffusers' name, single file's name, piece
fixtures/single_file/stock-*.txt      names and shapes of the published SDXL layouts
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from record_parity import FIXTURES, load

UNET, VAE = "model.diffusion_model.", "first_stage_model."
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def swap(name: str, table: dict[str, str]) -> str:
    head, dot, tail = name.partition(".")
    return table.get(head, head) + dot + tail


def unet_names(unet: UNet2DConditionModel) -> dict[str, str]:
    """Latent diffusion's flat lists, built block by block; each entry names a diffusers module."""
    modules: dict[str, tuple[str, dict]] = {}
    resnet, plain = RESNET, {}
    modules["conv_in"] = ("input_blocks.0.0", plain)
    at = 1
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            modules[f"down_blocks.{i}.resnets.{j}"] = (f"input_blocks.{at}.0", resnet)
            if hasattr(block, "attentions"):
                modules[f"down_blocks.{i}.attentions.{j}"] = (f"input_blocks.{at}.1", plain)
            at += 1
        if block.downsamplers is not None:
            modules[f"down_blocks.{i}.downsamplers.0.conv"] = (f"input_blocks.{at}.0.op", plain)
            at += 1
    modules["mid_block.resnets.0"] = ("middle_block.0", resnet)
    modules["mid_block.attentions.0"] = ("middle_block.1", plain)
    modules["mid_block.resnets.1"] = ("middle_block.2", resnet)
    at = 0
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            inside = 1
            modules[f"up_blocks.{i}.resnets.{j}"] = (f"output_blocks.{at}.0", resnet)
            if hasattr(block, "attentions"):
                modules[f"up_blocks.{i}.attentions.{j}"] = (f"output_blocks.{at}.1", plain)
                inside = 2
            if j == len(block.resnets) - 1 and block.upsamplers is not None:
                modules[f"up_blocks.{i}.upsamplers.0.conv"] = (f"output_blocks.{at}.{inside}.conv", plain)
            at += 1
    modules |= {
        "time_embedding.linear_1": ("time_embed.0", plain), "time_embedding.linear_2": ("time_embed.2", plain),
        "add_embedding.linear_1": ("label_emb.0.0", plain), "add_embedding.linear_2": ("label_emb.0.2", plain),
        "conv_norm_out": ("out.0", plain), "conv_out": ("out.2", plain),
    }
    names = {}
    for key in unet.state_dict():
        module = next(m for m in sorted(modules, key=len, reverse=True) if key.startswith(m + "."))
        place, table = modules[module]
        names[key] = f"{UNET}{place}.{swap(key[len(module) + 1:], table)}"
    return names


def vae_names(vae: AutoencoderKL) -> dict[str, str]:
    levels, names = len(vae.config.block_out_channels), {}
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
    for key in vae.state_dict():
        words = key.split(".")
        if words[0] in ("encoder", "decoder"):
            if words[1] in ("down_blocks", "up_blocks"):
                level = int(words[2]) if words[1] == "down_blocks" else levels - 1 - int(words[2])
                kind = {"resnets": "block", "downsamplers": "downsample", "upsamplers": "upsample"}[words[3]]
                rest = words[4:] if kind == "block" else words[5:]
                rest = ["nin_shortcut" if w == "conv_shortcut" else w for w in rest]
                words = [words[0], words[1].split("_")[0], str(level), kind, *rest]
            elif words[1] == "mid_block" and words[2] == "resnets":
                words = [words[0], "mid", f"block_{int(words[3]) + 1}", *words[4:]]
            elif words[1] == "mid_block":
                words = [words[0], "mid", "attn_1", attention[words[4]], words[-1]]
            elif words[1] == "conv_norm_out":
                words[1] = "norm_out"
        names[key] = VAE + ".".join(words)
    return names


def clip_l_names(encoder) -> dict[str, str]:
    base = "conditioner.embedders.0.transformer."
    return {k: base + (k if k.startswith("text_model.") else f"text_model.{k}") for k in encoder.state_dict() if "position_ids" not in k}


def open_clip_names(encoder, embedder: int) -> dict[str, tuple[str, str]]:
    base, names = f"conditioner.embedders.{embedder}.model.", {}
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    for key in encoder.state_dict():
        name, piece = key.removeprefix("text_model."), "whole"
        if "position_ids" in name:
            continue
        if name == "text_projection.weight":
            name, piece = "text_projection", "transposed"
        elif name.startswith("encoder.layers."):
            layer, rest = name.removeprefix("encoder.layers.").split(".", 1)
            module, end = rest.rsplit(".", 1)
            if module in parts:
                name = f"transformer.resblocks.{layer}.{parts[module]}.{end}"
            else:
                piece = module.removeprefix("self_attn.").removesuffix("_proj")
                name = f"transformer.resblocks.{layer}.attn.in_proj_{end}"
        else:
            name = {
                "embeddings.token_embedding.weight": "token_embedding.weight",
                "embeddings.position_embedding.weight": "positional_embedding",
                "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
            }[name]
        names[key] = (base + name, piece)
    return names


def table(unet, vae, encoder, encoder_2) -> list[tuple[str, str, str, str]]:
    """(component, diffusers' name, single file's name, piece), piece being whole, transposed, q, k or v."""
    rows = [("unet", ours, theirs, "whole") for ours, theirs in unet_names(unet).items()]
    rows += [("vae", ours, theirs, "convolution" if theirs.split(".")[-2] in "qkv" or ".proj_out." in theirs else "whole")
             for ours, theirs in vae_names(vae).items()]
    if encoder is not None:
        rows += [("text_encoder", ours, theirs, "whole") for ours, theirs in clip_l_names(encoder).items()]
    rows += [("text_encoder_2", ours, *rest) for ours, rest in open_clip_names(encoder_2, 0 if encoder is None else 1).items()]
    return rows


def convert(rows, states: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The single file's tensors."""
    out, fused = {}, {}
    for component, ours, theirs, piece in rows:
        tensor = states[component][ours]
        if piece in "qkv":
            fused.setdefault(theirs, {})[piece] = tensor
        elif piece == "transposed":
            out[theirs] = tensor.T.contiguous()
        elif piece == "convolution" and tensor.ndim == 2:
            out[theirs] = tensor[:, :, None, None]
        else:
            out[theirs] = tensor
    return out | {name: torch.cat([parts[p] for p in "qkv"]) for name, parts in fused.items()}


def pipeline_table(pipe):
    return table(pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)


def states(pipe) -> dict[str, dict[str, torch.Tensor]]:
    return {part: getattr(pipe, part).state_dict() for part in ("unet", "vae", "text_encoder", "text_encoder_2")
            if getattr(pipe, part) is not None}


def check_with_diffusers(folder: Path, pipe, tensors: dict[str, torch.Tensor]) -> None:
    """diffusers loads the file to the folder's weights."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
        again = {
            "unet": UNet2DConditionModel.from_single_file(str(path), config=str(folder), subfolder="unet"),
            "vae": AutoencoderKL.from_single_file(str(path), config=str(folder), subfolder="vae"),
        }
    for part, module in again.items():
        ours, theirs = getattr(pipe, part).state_dict(), module.state_dict()
        assert set(ours) == set(theirs), part
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key
    print("diffusers loads the converted file to the same weights")


def stock(kind: str) -> list[str]:
    """Names and shapes of SDXL as published."""
    refiner = kind == "refiner"
    # unet/config.json, vae/config.json and text_encoder*/config.json of the published models.
    unet = dict(
        sample_size=128, in_channels=9 if kind == "inpaint" else 4, use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
    )
    unet |= dict(
        block_out_channels=(384, 768, 1536, 1536), attention_head_dim=(6, 12, 24, 24), transformer_layers_per_block=4, cross_attention_dim=1280,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), projection_class_embeddings_input_dim=2560,
    ) if refiner else dict(
        block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10), cross_attention_dim=2048,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), projection_class_embeddings_input_dim=2816,
    )
    with torch.device("meta"):
        unet_model = UNet2DConditionModel(**unet)
        vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
                            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, sample_size=1024, scaling_factor=0.13025)
        clip_l = None if refiner else CLIPTextModel(CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768))
        clip_g = CLIPTextModelWithProjection(CLIPTextConfig(
            vocab_size=49408, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280))
    count = sum(p.numel() for p in unet_model.parameters())
    published = {"base": 2_567_463_684, "inpaint": 2_567_478_084, "refiner": 2_259_522_692}
    print(kind, count)
    assert kind != "base" or count == published[kind], (kind, count)
    parts = {"unet": unet_model, "vae": vae, "text_encoder": clip_l, "text_encoder_2": clip_g}
    tensors = convert(table(unet_model, vae, clip_l, clip_g), {k: m.state_dict() for k, m in parts.items() if m is not None})
    return [f"{name} {'x'.join(map(str, tensor.shape))}" for name, tensor in sorted(tensors.items())]


def derived(folder: Path) -> None:
    """Folder and files of a model whose architecture can be read off its shapes."""
    import parity_models as models
    from record_gguf import write_whole
    from record_parity import real_merges

    (folder / "files").mkdir(parents=True, exist_ok=True)
    for name, unet in {
        "base": {},
        "uneven": dict(transformer_layers_per_block=(1, (1, 2), (2, 1)), reverse_transformer_layers_per_block=((1, 2, 1), (2, 1, 1), 1)),
        "four-levels": dict(
            block_out_channels=(64, 64, 128, 128), attention_head_dim=(1, 1, 2, 2), transformer_layers_per_block=2, layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ),
    }.items():
        recipe = dict(
            seed=9,
            text=dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=1, projection_dim=64),
            text_2=dict(hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=2, projection_dim=96),
            unet=dict(
                sample_size=128, block_out_channels=(64, 128, 192), layers_per_block=2, transformer_layers_per_block=(1, 1, 2),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                attention_head_dim=(1, 2, 3), use_linear_projection=True, addition_time_embed_dim=16,
            ) | unet,
            vae=dict(
                block_out_channels=(32, 32, 64, 64), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2, latent_channels=4, norm_num_groups=32, sample_size=1024, scaling_factor=0.13025,
            ),
            scheduler=models.SDXL_SCHEDULER,
        )
        pipe = models.build_pipeline(folder / "scratch" / name, merges=real_merges(), **recipe)
        pipe.save_pretrained(folder / name)
        tensors = convert(pipeline_table(pipe), states(pipe))
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "files" / f"{name}.safetensors")
        write_whole({k: v.half().float() if v.ndim > 1 else v for k, v in tensors.items()}, folder / "files" / f"{name}.gguf")
        # The same rounding in a folder: what the GGUF file's picture must be, to the bit.
        for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.unet, pipe.vae):
            for weight in part.parameters():
                weight.data = weight.data.half().float() if weight.ndim > 1 else weight.data
        pipe.save_pretrained(folder / f"{name}-f16")


def write_rows(path: Path, rows) -> None:
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--derived":
        return derived(Path(sys.argv[2]))
    if len(sys.argv) == 3:
        pipe = load(Path(sys.argv[1]))
        tensors = convert(pipeline_table(pipe), states(pipe))
        save_file({k: v.contiguous() for k, v in tensors.items()}, sys.argv[2], metadata={"format": "pt"})
        return
    folder = FIXTURES / "single_file"
    folder.mkdir(exist_ok=True)
    model = FIXTURES / "models/tiny-base"
    pipe = load(model)
    rows = pipeline_table(pipe)
    check_with_diffusers(model, pipe, convert(rows, states(pipe)))
    write_rows(folder / "tiny-base.json", rows)
    for name in ("tiny-refiner", "tiny-inpaint"):
        own = FIXTURES / "pipelines/models" / name
        pipe = DiffusionPipeline.from_pretrained(own, dtype=torch.float32, add_watermarker=False)
        rows = pipeline_table(pipe)
        check_with_diffusers(own, pipe, convert(rows, states(pipe)))
        write_rows(folder / f"{name}.json", rows)
    for kind in ("base", "refiner", "inpaint"):
        (folder / f"stock-{kind}.txt").write_text("\n".join(stock(kind)) + "\n")
    print(sum(f.stat().st_size for f in folder.rglob("*")) / 1e6, "MB")


if __name__ == "__main__":
    main()
