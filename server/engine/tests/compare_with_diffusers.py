#!/usr/bin/env python3
"""Runs `atelier generate` and diffusers on the same request, and says how far apart they are.

    pip install -r requirements.txt
    python compare_with_diffusers.py --model DIR --prompt "a red circle" --steps 20 --seed 7

Both compute on the CPU in f32, whatever the folder's weights are stored in. The bar is a mean
difference of 0.5/255 and 3/255 at any pixel; the exit code is 1 beyond it, 2 if either side fails.
With --keep DIR both pictures and their difference (times 32) are kept there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

MEAN_TOLERANCE, MAX_TOLERANCE = 0.5, 3


def find_atelier(given: str | None) -> str:
    """The binary to test: the one given, the one built here, or the one on the PATH."""
    built = Path(__file__).resolve().parents[3] / "target/release/atelier"
    found = given or (str(built) if built.exists() else shutil.which("atelier"))
    if not found:
        sys.exit("no atelier binary: build it with `cargo build --release`, or give --atelier PATH")
    return found


def load_pipeline(folder: Path):
    """The folder as diffusers loads it, in f32."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    # As the engine does: plain files where there are any, the fp16 variant otherwise.
    plain = any((folder / "unet").glob("diffusion_pytorch_model.safetensors*"))
    pipe = StableDiffusionXLPipeline.from_pretrained(
        folder, variant=None if plain else "fp16", dtype=torch.float32, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_diffusers(args: argparse.Namespace, pipe=None):
    """diffusers' picture, as PIL image."""
    import diffusers
    import torch

    pipe = pipe or load_pipeline(args.model)
    if args.scheduler:
        name = args.scheduler.removesuffix("Scheduler") + "Scheduler"
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    return pipe(
        prompt=args.prompt,
        negative_prompt=args.negative_prompt,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance_scale,
        width=args.width,
        height=args.height,
        generator=torch.Generator("cpu").manual_seed(args.seed),
    ).images[0]


def with_atelier(args: argparse.Namespace, binary: str):
    """Our picture, as PIL image."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.png"
        command = [binary, "generate", "--model", str(args.model), "--prompt", args.prompt, "--out", str(out)]
        if args.negative_prompt is not None:
            command += ["--negative-prompt", args.negative_prompt]
        if args.scheduler:
            command += ["--scheduler", args.scheduler]
        command += ["--steps", str(args.steps), "--guidance-scale", str(args.guidance_scale), "--seed", str(args.seed)]
        if args.width:
            command += ["--width", str(args.width)]
        if args.height:
            command += ["--height", str(args.height)]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if result.returncode:
            print(f"atelier failed ({result.returncode}): {result.stderr.strip()}", file=sys.stderr)
            sys.exit(2)
        return Image.open(out).convert("RGB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a diffusers folder")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--negative-prompt", help="absent and empty differ, as in diffusers")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=5.0)
    parser.add_argument("--width", type=int, help="the model's own size if absent")
    parser.add_argument("--height", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scheduler", help="a diffusers class name, in place of the folder's")
    parser.add_argument("--atelier", help="the binary to test")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the pictures")
    args = parser.parse_args()

    import numpy as np

    ours = with_atelier(args, find_atelier(args.atelier))
    theirs = with_diffusers(args)
    if ours.size != theirs.size:
        print(f"sizes differ: atelier {ours.size}, diffusers {theirs.size}")
        return 1
    gap = np.abs(np.asarray(ours, dtype=np.int16) - np.asarray(theirs, dtype=np.int16))
    if args.keep:
        from PIL import Image

        args.keep.mkdir(parents=True, exist_ok=True)
        ours.save(args.keep / "atelier.png")
        theirs.save(args.keep / "diffusers.png")
        Image.fromarray(np.clip(gap * 32, 0, 255).astype(np.uint8)).save(args.keep / "difference.png")
    within = gap.mean() <= MEAN_TOLERANCE and gap.max() <= MAX_TOLERANCE
    print(
        f"mean {gap.mean():.4f}/255  max {gap.max()}/255  pixels that differ {(gap.max(axis=2) > 0).mean():.1%}"
        f"  {'within' if within else 'BEYOND'} the bar ({MEAN_TOLERANCE} and {MAX_TOLERANCE})"
    )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
