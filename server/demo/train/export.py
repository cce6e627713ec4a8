"""Puts trained parts together as diffusers folders in f16: the base model and, once trained, the refiner."""

import argparse
import os
import shutil

import torch
from diffusers import (AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline,
                       UNet2DConditionModel)
from transformers import CLIPTokenizer

import train_refiner
import train_unet
from train_text import Encoders


def tokenizer(work, name):
    """A tokenizer of the checkpoint folder."""
    return CLIPTokenizer.from_pretrained(os.path.join(work, name))


def state(work, name):
    """The averaged weights of a checkpoint."""
    return torch.load(os.path.join(work, name), weights_only=False, map_location="cpu")["average"]


def save(pipeline, work, folder, names):
    """Save in f16 through a rename; keep the slow tokenizers' vocab.json and merges.txt beside tokenizer.json."""
    part = folder.rstrip("/") + ".part"
    shutil.rmtree(part, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(part)
    for name in names:
        for file in ("vocab.json", "merges.txt"):
            shutil.copy(os.path.join(work, name, file), os.path.join(part, name, file))
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
    save(base, args.work, os.path.join(args.out, "model"), ["tokenizer", "tokenizer_2"])
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
