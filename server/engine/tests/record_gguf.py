#!/usr/bin/env python3
"""Writes GGUF files of the tiny models with the gguf package, for tests/parity/gguf.rs.

    python record_gguf.py      # rewrites fixtures/gguf/

blocks.safetensors    for each quantisation, random blocks and what gguf's own code reads from them
whole.gguf            all of tiny-fp16, matrices in f16 and vectors in f32, under the names that
                      stable-diffusion.cpp gives
unet-q8_0.gguf        tiny-base's UNet as ComfyUI-GGUF writes it: names without prefix, matrices in
                      Q8_0, convolutions reshaped so that they can be, their shapes in the metadata
unet-q8_0.png         diffusers' picture with the numbers that gguf reads back from that file
"""

from __future__ import annotations

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter, quants
from safetensors.numpy import save_file

import record_parity as parity
from record_parity import FIXTURES, load
from record_single_file import UNET, pipeline_table, convert, states

FOLDER = FIXTURES / "gguf"
KINDS = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K]
# Where the f16 scales lie in each kind of block.
SCALES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
          Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}
SIZES = {Type.Q4_0: 18, Type.Q4_1: 20, Type.Q5_0: 22, Type.Q5_1: 24, Type.Q8_0: 34,
         Type.Q2_K: 84, Type.Q3_K: 110, Type.Q4_K: 144, Type.Q5_K: 176, Type.Q6_K: 210}


def record_blocks() -> None:
    random, out = np.random.default_rng(1), {}
    for kind in KINDS:
        blocks = random.integers(0, 256, size=(24, SIZES[kind]), dtype=np.uint8)
        for at in SCALES[kind]:
            scales = random.normal(size=24).astype(np.float16)
            blocks[:, at : at + 2] = scales.view(np.uint8).reshape(24, 2)
        out[f"{kind.name}/blocks"] = blocks
        out[f"{kind.name}/values"] = quants.dequantize(blocks, kind).astype(np.float32)
    save_file(out, FOLDER / "blocks.safetensors")


def converted_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """stable-diffusion.cpp's names of the text encoders; queries, keys and values are apart."""
    out = {}
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
    for name, tensor in tensors.items():
        if name.startswith("conditioner.embedders.0.transformer."):
            out[name.replace("conditioner.embedders.0.transformer", "cond_stage_model.transformer")] = tensor
        elif (inside := name.removeprefix("conditioner.embedders.1.model.")) != name:
            base = "cond_stage_model.1.transformer.text_model."
            if ".attn.in_proj_" in inside:
                layer, end = inside.split(".")[2], inside.rsplit("_", 1)[1]
                for letter, third in zip("qkv", tensor.chunk(3)):
                    out[f"{base}encoder.layers.{layer}.self_attn.{letter}_proj.{end}"] = third
                continue
            inside = {"positional_embedding": "embeddings.position_embedding.weight", "token_embedding.weight": "embeddings.token_embedding.weight"}.get(inside, inside)
            inside = inside.replace("ln_final", "final_layer_norm").replace("transformer.resblocks", "encoder.layers")
            for theirs, ours in parts.items():
                inside = inside.replace(f".{theirs}.", f".{ours}.")
            out[base + inside] = tensor
        else:
            out[name] = tensor
    return out


def write_whole(tensors: dict[str, torch.Tensor], path=FOLDER / "whole.gguf") -> None:
    writer = GGUFWriter(path, "sdxl")
    for name, tensor in converted_names(tensors).items():
        values = np.ascontiguousarray(tensor.numpy())
        writer.add_tensor(name, values if values.ndim < 2 else values.astype(np.float16))
    finish(writer)


def write_unet(tensors: dict[str, torch.Tensor]) -> None:
    writer = GGUFWriter(FOLDER / "unet-q8_0.gguf", "sdxl")
    for name, tensor in tensors.items():
        name = name.removeprefix(UNET)
        values = np.ascontiguousarray(tensor.numpy())
        if values.ndim < 2:
            writer.add_tensor(name, values)
        elif values.size % 32:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            if values.shape[-1] % 32:
                writer.add_array(f"comfy.gguf.orig_shape.{name}", tuple(int(n) for n in values.shape))
                values = values.reshape(-1, 32)
            writer.add_tensor(name, quants.quantize(values, Type.Q8_0), raw_dtype=Type.Q8_0)
    finish(writer)


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def record_picture(pipe, rows) -> None:
    """diffusers' picture with the weights that the quantised file holds."""
    read = {}
    for tensor in GGUFReader(FOLDER / "unet-q8_0.gguf").tensors:
        values = tensor.data
        if tensor.tensor_type == Type.Q8_0:
            # As the engine keeps them: rounded to f16.
            values = quants.dequantize(values, Type.Q8_0).astype(np.float16)
        read[UNET + tensor.name] = torch.from_numpy(np.array(values, dtype=np.float32))
    state = {ours: read[theirs].reshape(pipe.unet.state_dict()[ours].shape) for part, ours, theirs, _ in rows if part == "unet"}
    pipe.unet.load_state_dict(state)
    picture = parity.run(pipe, parity.case("q8"))
    pipe.image_processor.numpy_to_pil(picture)[0].save(FOLDER / "unet-q8_0.png", optimize=True)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    record_blocks()
    pipe = load(FIXTURES / "models/tiny-fp16", variant="fp16")
    write_whole(convert(pipeline_table(pipe), states(pipe)))
    pipe = load(FIXTURES / "models/tiny-base")
    rows = pipeline_table(pipe)
    tensors = convert(rows, states(pipe))
    write_unet({k: v for k, v in tensors.items() if k.startswith(UNET)})
    record_picture(pipe, rows)
    for file in FOLDER.iterdir():
        file.chmod(0o644)
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
