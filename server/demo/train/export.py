"""Puts trained parts together as diffusers folders in f16: the base model and, once trained, the refiner."""

import argparse
import json
import os
import shutil

import torch
from diffusers import (AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline,
                       UNet2DConditionModel)
from transformers import CLIPTokenizer

import evaluate
import train_refiner
import train_unet
from train_text import Encoders


def tokenizer(work, name):
    """A tokenizer of the checkpoint folder."""
    return CLIPTokenizer.from_pretrained(os.path.join(work, name))


def state(work, name):
    """The averaged weights of a checkpoint."""
    return torch.load(os.path.join(work, name), weights_only=False, map_location="cpu")["average"]


# What the server shows of the model: one prompt for each thing it can do.
ABOUT = {
    "description": "The demo model: a small SDXL that draws one or two flat shapes on a plain background. "
                   "Name colours, shapes, sizes and places.",
    "default_width": 128,
    "default_height": 128,
    "default_steps": evaluate.STEPS,
    "default_guidance_scale": evaluate.GUIDANCE,
    "max_side": 256,
    "example_prompts": [
        "a red circle on a blue background",
        "a small yellow star in the top right corner on a purple background",
        "a green square to the left of an orange triangle on a white background",
        "a large pink heart on a black background",
        "a cyan ring above a brown diamond on a grey background",
        "a white cross at the bottom on a green background",
    ],
}


def without_paths(folder):
    """Take out of every JSON file where on this machine its parts were loaded from."""
    for where, _, files in os.walk(folder):
        for file in files:
            if file in ("config.json", "model_index.json", "scheduler_config.json", "tokenizer_config.json"):
                path = os.path.join(where, file)
                with open(path, encoding="utf-8") as f:
                    content = json.load(f)
                for name in ("_name_or_path", "name_or_path"):
                    content.pop(name, None)
                write_json(path, content)


def write_json(path, content):
    """JSON as diffusers writes it: indented, a newline at the end."""
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def save(pipeline, work, folder, names, about=None):
    """Save in f16 through a rename; keep the slow tokenizers' vocab.json and merges.txt beside tokenizer.json."""
    part = folder.rstrip("/") + ".part"
    shutil.rmtree(part, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(part)
    for name in names:
        for file in ("vocab.json", "merges.txt"):
            shutil.copy(os.path.join(work, name, file), os.path.join(part, name, file))
    without_paths(part)
    if about:
        write_json(os.path.join(part, "atelier.json"), about)
    old = folder.rstrip("/") + ".old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, old)
    os.rename(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def main():
    """Write `OUT/model` and, if there is a trained refiner, `OUT/refiner`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    encoders = Encoders(args.work)
    encoders.load_state_dict(state(args.work, "text.pt"))
    vae = AutoencoderKL.from_pretrained(os.path.join(args.work, "vae"))
    scheduler = EulerDiscreteScheduler(**train_unet.SCHEDULER)
    unet = UNet2DConditionModel(**train_unet.unet_config())
    unet.load_state_dict(state(args.work, "unet.pt"))
    os.makedirs(args.out, exist_ok=True)
    base = StableDiffusionXLPipeline(
        vae=vae, text_encoder=encoders.one, text_encoder_2=encoders.two, tokenizer=tokenizer(args.work, "tokenizer"),
        tokenizer_2=tokenizer(args.work, "tokenizer_2"), unet=unet, scheduler=scheduler,
        force_zeros_for_empty_prompt=True, add_watermarker=False)
    save(base, args.work, os.path.join(args.out, "model"), ["tokenizer", "tokenizer_2"], ABOUT)
    if os.path.exists(os.path.join(args.work, "refiner.pt")):
        unet = UNet2DConditionModel(**train_refiner.config())
        unet.load_state_dict(state(args.work, "refiner.pt"))
        refiner = StableDiffusionXLImg2ImgPipeline(
            vae=vae, text_encoder=None, text_encoder_2=encoders.two, tokenizer=None,
            tokenizer_2=tokenizer(args.work, "tokenizer_2"), unet=unet, scheduler=scheduler,
            requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False)
        save(refiner, args.work, os.path.join(args.out, "refiner"), ["tokenizer_2"])
    for name in ("model", "refiner"):
        total = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.path.join(args.out, name)) for f in files)
        print(f"{name}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
