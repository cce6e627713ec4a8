#!/usr/bin/env python3
"""Records how far diffusers' own pictures move when it computes in bf16 or f16 in place of f32.

    pip install -r requirements.txt
    python record_half.py              # rewrites fixtures/half.json

The recorded models are sharp, so that mistakes show; rounding to a half format moves their pictures
far, too, and by chance. So single pictures cannot be held to a bar there: tests/parity/generic.rs
holds the mean over all of them to what diffusers reaches with the same formats. (Single pictures are
held to one with the demo model, which is trained.)

{"bf16": {case: mean difference from the recorded picture, in 1/255}, "f16": ...}
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

import record_parity as parity


def main() -> None:
    cases = json.loads((parity.FIXTURES / "images.json").read_text(encoding="utf-8"))
    scratch = Path(tempfile.mkdtemp())
    result = {}
    for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        result[name] = {}
        for request in cases:
            folder = parity.apply_overrides(parity.FIXTURES / "models" / request["model"], request, scratch)
            variant = {"variant": "fp16"} if request["model"] == "tiny-fp16" else {}
            pipe = StableDiffusionXLPipeline.from_pretrained(
                folder, torch_dtype=dtype, add_watermarker=False, **variant
            )
            pipe.set_progress_bar_config(disable=True)
            if name == "f16" and pipe.vae.post_quant_conv is None:
                continue  # diffusers cannot upcast such a VAE
            shape = (1, pipe.unet.config.in_channels) + tuple(
                request[side] // pipe.vae_scale_factor for side in ("height", "width")
            )
            # torch draws other noise in these formats: this is the noise of f32.
            latents = torch.randn(shape, generator=torch.Generator().manual_seed(request["seed"])).to(dtype)
            picture = np.round(np.clip(parity.run(pipe, request, latents=latents), 0, 1) * 255)
            want = np.asarray(Image.open(parity.FIXTURES / "images" / f"{request['name']}.png"), dtype=np.float64)
            result[name][request["name"]] = round(float(np.abs(picture - want).mean()), 4)
            print(name, request["name"], result[name][request["name"]], flush=True)
    shutil.rmtree(scratch)
    parity.write_json(parity.FIXTURES / "half.json", result)


if __name__ == "__main__":
    sys.exit(main())
