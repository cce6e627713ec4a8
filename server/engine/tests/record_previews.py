#!/usr/bin/env python3
"""Records a small random AutoencoderTiny and what its decoder makes, for tests/parity/previews.rs.

    pip install -r requirements.txt
    python record_previews.py          # rewrites fixtures/previews/

fixtures/previews/taesdxl/*             the autoencoder as save_pretrained writes it
fixtures/previews/numbers.safetensors   latents and pixels; 5e-6 of the largest value
"""

from __future__ import annotations

import shutil

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from parity_models import reinitialise
from record_parity import FIXTURES

OUT = FIXTURES / "previews"


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    tensors = {}
    small = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 1), decoder_block_out_channels=(8, 8, 8),
        num_decoder_blocks=(2, 1, 1), act_fn="gelu", scaling_factor=0.7,
    ).eval()
    reinitialise(small, 77, {})
    small.save_pretrained(OUT / "taesdxl")
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, 4, 5, 7, generator=generator) * 2
    tensors["taesdxl/latents"] = latents
    tensors["taesdxl/pixels"] = small.decode(latents / 0.7).sample
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, OUT / "numbers.safetensors")
    size = sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file())
    print(f"{size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
