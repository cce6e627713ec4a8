#!/usr/bin/env python3
"""Records diffusers' tiled VAE decode and encode, for tests/parity/tiling.rs.

    python record_tiling.py            # rewrites fixtures/tiling.safetensors

tiny-base's VAE with tiles of 8 latent pixels over latents and an image that are no multiple of the
step. Compared with the largest difference 2e-5 of the largest value.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parent / "fixtures"
TILE = 8

torch.set_num_threads(1)
torch.set_grad_enabled(False)

vae = AutoencoderKL.from_pretrained(FIXTURES / "models/tiny-base/vae")
factor = 2 ** (len(vae.config.block_out_channels) - 1)
vae.enable_tiling()
vae.tile_latent_min_size, vae.tile_sample_min_size = TILE, TILE * factor

generator = torch.Generator().manual_seed(7)
latents = torch.randn(1, vae.config.latent_channels, 13, 9, generator=generator)
pixels = torch.rand(1, 3, 11 * factor, 9 * factor, generator=generator) * 2 - 1
save_file(
    {
        "latents": latents,
        "decoded": vae.decode(latents / vae.config.scaling_factor).sample,
        "pixels": pixels,
        "moments": vae.encode(pixels).latent_dist.parameters,
    },
    FIXTURES / "tiling.safetensors",
)
