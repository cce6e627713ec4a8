#!/usr/bin/env python3
"""Records what diffusers makes of an image, a mask and a refiner, for tests/parity/pipelines.rs.

    pip install -r requirements.txt
    python record_pipelines.py         # rewrites fixtures/pipelines/

Everything is seeded and computed on a CPU in f32. Where two pipelines follow each other (base and
refiner), ONE generator is passed to both, so that the second goes on where the first stopped.

fixtures/pipelines/models/         a refiner and two inpainting models, small, with random weights
fixtures/pipelines/inputs/         pictures and masks to start from
fixtures/pipelines/images/         what diffusers made of each case
fixtures/pipelines/cases.json      the cases
fixtures/pipelines/pixels/         resized, blurred and cropped pictures by Pillow and diffusers
fixtures/pipelines/numbers.safetensors   moments of the VAE's encoder
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch

import record_parity  # noqa: F401  quiets the libraries and pins torch to one thread
import parity_models as models
from record_parity import FIXTURES, real_merges, write_json

import diffusers
from diffusers import (
    AutoencoderKL,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import save_file

HERE = FIXTURES / "pipelines"
PROMPT = "a red circle on a blue field"

# Encoder 2 only, five numbers of which the last is an aesthetic score, attention in the middle two.
TINY_REFINER = {
    **models.TINY_BASE,
    "seed": 5000,
    "force_zeros_for_empty_prompt": False,
    "unet": {
        **models.TINY_BASE["unet"],
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": 1,
        "layers_per_block": 1,
        "cross_attention_dim": models.TINY_BASE["text_2"]["hidden_size"],
        "projection_class_embeddings_input_dim": models.TINY_BASE["text_2"]["projection_dim"] + 5 * 16,
    },
    "vae": {**models.TINY_BASE["vae"], "block_out_channels": (4, 4, 8, 8)},
}
TINY_INPAINT = {
    **models.TINY_HALF,
    "seed": 6000,
    "unet": {**models.TINY_HALF["unet"], "in_channels": 9, "out_channels": 4},
}


def build_models(scratch: Path) -> None:
    """Writes the folders, in half precision to keep them small."""
    few = models.small_merges(real_merges(), 62)
    for name, recipe in (("tiny-refiner", TINY_REFINER), ("tiny-inpaint", TINY_INPAINT)):
        pipe = models.build_pipeline(scratch / name, merges=few, **recipe).to(torch.float16)
        parts = dict(pipe.components)
        if name == "tiny-refiner":
            parts |= {"text_encoder": None, "tokenizer": None}
            pipe = StableDiffusionXLImg2ImgPipeline(
                **parts, requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False
            )
        else:
            pipe = StableDiffusionXLInpaintPipeline(**parts, add_watermarker=False)
        pipe.save_pretrained(HERE / "models" / name)
        for part in ("tokenizer", "tokenizer_2"):
            if (HERE / "models" / name / part).exists():
                shutil.rmtree(HERE / "models" / name / part)
                shutil.copytree(scratch / name / part, HERE / "models" / name / part)
    for file in (HERE / "models").rglob("*"):
        if file.is_file():
            file.chmod(0o644)


# --- one request, by diffusers ------------------------------------------------------------------


def folder_of(name: str) -> Path:
    for folder in (Path(name), HERE / "models" / name, FIXTURES / "models" / name):
        if (folder / "model_index.json").exists():
            return folder
    raise FileNotFoundError(name)


@cache
def parts_of(name: str) -> tuple[dict, dict]:
    """A folder's components in f32, and what its index says besides."""
    folder = folder_of(name)
    index = json.loads((folder / "model_index.json").read_text())
    kind = getattr(diffusers, index["_class_name"])
    plain = any((folder / "unet").glob("diffusion_pytorch_model.safetensors*"))
    pipe = kind.from_pretrained(
        folder, dtype=torch.float32, add_watermarker=False, variant=None if plain else "fp16"
    )
    settings = {"force_zeros_for_empty_prompt": index.get("force_zeros_for_empty_prompt", True)}
    return dict(pipe.components), settings


def pipeline(kind, name: str, scheduler: str | None):
    components, settings = parts_of(name)
    components = {key: value for key, value in components.items()}
    known = components["scheduler"]
    cls = getattr(diffusers, scheduler) if scheduler else type(known)
    components["scheduler"] = cls.from_config(known.config)
    if kind is not StableDiffusionXLPipeline:
        unet = components["unet"].config
        pooled = components["text_encoder_2"].config.projection_dim
        numbers = (unet.projection_class_embeddings_input_dim - pooled) / unet.addition_time_embed_dim
        settings = {**settings, "requires_aesthetics_score": numbers == 5}
    pipe = kind(**components, **settings, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(case: dict, picture: Image.Image | None, mask: Image.Image | None) -> Image.Image:
    """What diffusers makes of a case."""
    generator = torch.Generator("cpu").manual_seed(case["seed"])
    keys = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "guidance_rescale")
    shared = {key: case[key] for key in keys} | {"generator": generator}
    scores = {key: case[key] for key in ("aesthetic_score", "negative_aesthetic_score")}
    size = {"width": case["width"], "height": case["height"]}
    refine = case["refine"]
    first = dict(shared)
    if refine:
        first["output_type"] = "latent"
        if "split" in refine:
            first["denoising_end"] = refine["split"]
    if mask is not None and case["mask_blur"]:
        mask = mask.filter(ImageFilter.GaussianBlur(case["mask_blur"]))
    if picture is None:
        made = pipeline(StableDiffusionXLPipeline, case["model"], case["scheduler"])(**first, **size)
    elif mask is None:
        factor = 2 ** (len(parts_of(case["model"])[0]["vae"].config.block_out_channels) - 1)
        fitted = VaeImageProcessor(vae_scale_factor=factor).resize(picture, case["height"], case["width"])
        pipe = pipeline(StableDiffusionXLImg2ImgPipeline, case["model"], case["scheduler"])
        made = pipe(**first, **scores, image=fitted, strength=case["strength"])
    else:
        pipe = pipeline(StableDiffusionXLInpaintPipeline, case["model"], case["scheduler"])
        made = pipe(
            **first, **scores, **size, image=picture, mask_image=mask, strength=case["strength"],
            padding_mask_crop=case["only_masked_padding"],
        )
    if refine:
        second = {**shared, **scores, "image": made.images}
        if "split" in refine:
            second["denoising_start"] = refine["split"]
        else:
            second["strength"] = refine["strength"]
        if mask is None:
            made = pipeline(StableDiffusionXLImg2ImgPipeline, case["refiner"], case["scheduler"])(**second)
        else:
            pipe = pipeline(StableDiffusionXLInpaintPipeline, case["refiner"], case["scheduler"])
            made = pipe(**second, **size, mask_image=mask)
    return made.images[0]


# --- inputs -------------------------------------------------------------------------------------


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Shapes and noise, smooth and sharp."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / (5 + 3 * c) + c) * np.cos(y / (9 - 2 * c)) for c in range(3)], -1)
    values = 128 + 90 * waves + rng.normal(0, 12, (height, width, 3))
    image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 4, height // 4, width // 2, height // 2), fill=(220, 30, 40))
    draw.rectangle((width // 2, height // 2, width - 5, height - 9), outline=(20, 240, 60), width=3)
    return image


def mask(width: int, height: int, box: tuple[float, float, float, float], soft: bool = False) -> Image.Image:
    image = Image.new("L", (width, height))
    corners = tuple(int(v * s) for v, s in zip(box, (width, height, width, height)))
    ImageDraw.Draw(image).ellipse(corners, fill=255)
    return image.filter(ImageFilter.GaussianBlur(4)) if soft else image


INPUTS = {
    "square": picture(64, 64, 1),
    "wide": picture(150, 83, 2),
    "tall": picture(45, 97, 3),
    "square-mask": mask(64, 64, (0.2, 0.3, 0.7, 0.9)),
    "wide-mask": mask(150, 83, (0.55, 0.2, 0.8, 0.55)),
    "wide-soft-mask": mask(150, 83, (0.1, 0.4, 0.5, 0.95), soft=True),
    "tall-mask": mask(45, 97, (0.0, 0.6, 0.9, 1.0)),
}


def case(name: str, model: str = "tiny-base", **changes) -> dict:
    request = dict(
        name=name, model=model, refiner=None, prompt=PROMPT, negative_prompt=None, num_inference_steps=6,
        guidance_scale=5.0, guidance_rescale=0.0, width=64, height=64, seed=7, scheduler=None, input=None,
        strength=0.6, mask=None, mask_blur=0, only_masked_padding=None, refine=None, aesthetic_score=6.0,
        negative_aesthetic_score=2.5,
    )
    assert not set(changes) - set(request), changes
    return {**request, **changes}


def ensemble(split: float, **changes) -> dict:
    return dict(refiner="tiny-refiner", refine={"split": split}, **changes)


def again(share: float, **changes) -> dict:
    return dict(refiner="tiny-refiner", refine={"strength": share}, **changes)


ANCESTRAL = "EulerAncestralDiscreteScheduler"
MULTISTEP = "DPMSolverMultistepScheduler"
HEUN = "HeunDiscreteScheduler"
WIDE = dict(input="wide", width=96, height=56)

CASES = [
    case("rescale", guidance_rescale=0.7, guidance_scale=8.0),
    # Image to image.
    case("img-0.6", input="square"),
    case("img-0.3-wide", **WIDE, strength=0.3, num_inference_steps=10, negative_prompt="blurry"),
    case("img-1.0-tall", input="tall", width=40, height=96, strength=1.0),
    case("img-0.99", input="wide", strength=0.99, num_inference_steps=7, guidance_scale=1.0),
    case("img-ancestral", input="square", scheduler=ANCESTRAL, strength=0.8),
    case("img-multistep", input="square", scheduler=MULTISTEP, num_inference_steps=9, strength=0.7),
    case("img-ddim", input="square", scheduler="DDIMScheduler", strength=0.5, guidance_scale=2.0),
    case("img-statistics", "odd-two-levels", **WIDE, guidance_scale=4.0),
    case("img-inpainting-class-4", "tiny-fp16", **WIDE, strength=0.5, negative_prompt=""),
    case("img-refiner", "tiny-refiner", **WIDE, strength=0.5, negative_prompt="blurry"),
    case("img-refiner-scores", "tiny-refiner", input="square", aesthetic_score=9.0, negative_aesthetic_score=1.0),
    # Base and refiner.
    case("ensemble-0.8", num_inference_steps=10, **ensemble(0.8)),
    case("ensemble-0.8-negative", num_inference_steps=10, negative_prompt="blurry", **ensemble(0.8)),
    case("ensemble-7-0.33", num_inference_steps=7, **ensemble(0.33, width=72, height=56)),
    case("ensemble-guidance-1", guidance_scale=1.0, **ensemble(0.5)),
    case("ensemble-base-nothing", num_inference_steps=5, **ensemble(0.01)),
    case("ensemble-refiner-nothing", num_inference_steps=5, **ensemble(0.999)),
    case("ensemble-scores", **ensemble(0.6, aesthetic_score=8.0, negative_aesthetic_score=1.5)),
    case("ensemble-ancestral", scheduler=ANCESTRAL, **ensemble(0.6)),
    case("ensemble-multistep", scheduler=MULTISTEP, num_inference_steps=9, **ensemble(0.7)),
    case("ensemble-heun-7-0.5", scheduler=HEUN, num_inference_steps=7, **ensemble(0.5)),
    case("ensemble-heun-6-0.8", scheduler=HEUN, **ensemble(0.8)),
    case("ensemble-image", num_inference_steps=10, **WIDE, refiner="tiny-refiner", refine={"split": 0.7}),
    case("again-0.3", num_inference_steps=10, **again(0.3)),
    case("again-0.75-ancestral", scheduler=ANCESTRAL, **again(0.75, negative_prompt="")),
    case("again-base-model", refiner="tiny-fp16", refine={"strength": 0.5}),
    case("again-heun", scheduler=HEUN, **again(0.5)),
    # Inpainting with a UNet of 4 channels, and of 9.
    case("paint", input="square", mask="square-mask", strength=0.9999),
    case("paint-1.0", input="square", mask="square-mask", strength=1.0),
    case("paint-0.5-wide", **WIDE, mask="wide-mask", strength=0.5, negative_prompt="blurry"),
    case("paint-guidance-1", **WIDE, mask="wide-soft-mask", guidance_scale=1.0),
    case("paint-ancestral", input="square", mask="square-mask", scheduler=ANCESTRAL, strength=0.8),
    case("paint-heun", input="square", mask="square-mask", scheduler=HEUN, strength=0.6, guidance_scale=2.0),
    case("paint-blur", **WIDE, mask="wide-mask", mask_blur=7),
    case("paint-region", **WIDE, mask="wide-mask", only_masked_padding=8),
    case("paint-region-blur", input="wide", mask="wide-soft-mask", mask_blur=3, only_masked_padding=0, strength=0.7),
    case("paint-region-tall", input="tall", mask="tall-mask", only_masked_padding=32, width=48, height=80),
    case("paint-refiner", "tiny-refiner", input="square", mask="square-mask", strength=0.7),
    case("paint-statistics", "odd-two-levels", **WIDE, mask="wide-mask", guidance_scale=3.0),
    case("paint-ensemble", num_inference_steps=8, input="square", mask="square-mask", **ensemble(0.6, strength=0.9)),
    case("paint-again", input="square", mask="square-mask", **again(0.5, strength=0.9)),
    case("nine", "tiny-inpaint", input="square", mask="square-mask", strength=0.9999),
    case("nine-1.0", "tiny-inpaint", **WIDE, mask="wide-mask", strength=1.0, negative_prompt="blurry"),
    case("nine-0.4", "tiny-inpaint", input="square", mask="square-mask", strength=0.4, guidance_scale=1.0),
    case("nine-ancestral", "tiny-inpaint", **WIDE, mask="wide-soft-mask", scheduler=ANCESTRAL, strength=0.9),
    case("nine-region", "tiny-inpaint", **WIDE, mask="wide-mask", mask_blur=4, only_masked_padding=16),
]


def record_images() -> None:
    for folder in ("inputs", "images"):
        (HERE / folder).mkdir(parents=True)
    for name, image in INPUTS.items():
        image.save(HERE / "inputs" / f"{name}.png", optimize=True)
    for request in CASES:
        image = make(request, INPUTS.get(request["input"]), INPUTS.get(request["mask"]))
        values = np.asarray(image)
        print(f"  {request['name']:28s} spread {values.std():.1f}")
        assert values.std() > 8, request["name"]
        image.save(HERE / "images" / f"{request['name']}.png", optimize=True)
    write_json(HERE / "cases.json", CASES)


def record_pixels() -> None:
    """Resizing, blurring and regions: compared exactly."""
    (HERE / "pixels").mkdir(parents=True)
    wide, grey = INPUTS["wide"], INPUTS["wide-soft-mask"]
    processor = VaeImageProcessor()
    regions = []
    for width, height in ((64, 64), (8, 8), (300, 40), (151, 83), (1, 200)):
        wide.resize((width, height), Image.LANCZOS).save(HERE / f"pixels/resize-{width}-{height}.png")
    for radius in (0.3, 1, 2.5, 7, 33, 200):
        grey.filter(ImageFilter.GaussianBlur(radius)).save(HERE / f"pixels/blur-{radius}.png")
    for name in ("square-mask", "wide-mask", "wide-soft-mask", "tall-mask"):
        for width, height, padding in ((64, 64, 0), (96, 56, 8), (40, 120, 32), (128, 16, 500)):
            found = processor.get_crop_region(INPUTS[name], width, height, pad=padding)
            regions.append(dict(mask=name, width=width, height=height, padding=padding, region=list(found)))
    write_json(HERE / "regions.json", regions)


def record_moments() -> None:
    tensors = {}
    for name in ("tiny-base", "tiny-fp16", "odd-two-levels", "odd-eight-channels", "tiny-refiner"):
        vae: AutoencoderKL = parts_of(name)[0]["vae"]
        pixels = torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(11)) * 2 - 1
        tensors["pixels"] = pixels
        tensors[name] = vae.encode(pixels).latent_dist.parameters
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, HERE / "numbers.safetensors")


def main() -> None:
    scratch = HERE.with_name("pipelines-scratch")
    shutil.rmtree(HERE, ignore_errors=True)
    shutil.rmtree(scratch, ignore_errors=True)
    build_models(scratch)
    shutil.rmtree(scratch)
    record_pixels()
    record_moments()
    record_images()
    size = sum(file.stat().st_size for file in HERE.rglob("*") if file.is_file())
    print(f"fixtures/pipelines: {size / 1e6:.2f} MB")
    assert size < 2e6, "keep the fixtures small"


if __name__ == "__main__":
    sys.exit(main())
