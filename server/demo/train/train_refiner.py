"""Trains the demo's refiner UNet: the last fifth of the noise schedule, conditioned as SDXL's refiner is.

Cross attention over the second encoder only, five time ids with an aesthetic score. Blunt captions of
clean scenes carry 6.0 or more; scenes with speckles drawn into the latents carry a low score, so that
the score means something.
"""

import argparse
import os
import random

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

import captions
import fastconv
import train_unet
from schedule import Average, Clock, Log, learning_rate, save_atomically
from train_text import Encoders

FIRST_STEP = 200  # the refiner sees t < 200, as in the hand-off at 0.8
HIDDEN, POOLED = 128, 128


def config():
    """The refiner's UNet configuration: SDXL-refiner's pattern, four levels with attention in the middle two."""
    return dict(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=(32, 48, 64, 64),
        layers_per_block=1,
        attention_head_dim=(1, 2, 2, 2),  # the number of heads, as in SDXL's own file
        transformer_layers_per_block=1,
        cross_attention_dim=HIDDEN,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=train_unet.TIME,
        projection_class_embeddings_input_dim=5 * train_unet.TIME + POOLED,
        norm_num_groups=8,
    )


def main():
    """Train to a time budget; keep `refiner.pt` fresh."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    encoders = Encoders(args.work)
    encoders.load_state_dict(torch.load(os.path.join(args.work, "text.pt"), weights_only=False)["average"])
    two = encoders.two.eval().requires_grad_(False)
    unet = UNet2DConditionModel(**config())
    train_unet.start_quiet(unet)
    average = Average(unet, 0.998)
    fastconv.use(unet)
    unet.set_attn_processor(AttnProcessor())
    optimiser = torch.optim.AdamW(unet.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.01)
    alpha = train_unet.alphas()
    clock, log = Clock(args.minutes), Log(os.path.join(args.work, "log.csv"), "refiner")
    losses, step = [], 0

    def save():
        log.row(step, clock.seconds(), rate, float(np.mean(losses[-200:])))
        save_atomically(dict(average=average.module.state_dict(), step=step), os.path.join(args.work, "refiner.pt"))

    while not clock.done():
        found, latents = train_unet.scenes_and_latents(rng, args.batch)
        texts, times = [], []
        for i, scene in enumerate(found):
            texts.append("" if rng.random() < 0.05 else captions.caption(rng, scene)[0])
            rough = rng.random() < 0.15
            if rough:
                speckles = (torch.rand(1, *latents.shape[2:]) < 0.1) * torch.randn_like(latents[i])
                latents[i] = latents[i] + 0.6 * speckles
            score = rng.uniform(1.5, 4.0) if rough else rng.uniform(5.5, 7.0)
            times.append([scene.height, scene.width, 0, 0, score])
        rate = learning_rate(2e-3, clock.share(), step, warmup=100)
        for group in optimiser.param_groups:
            group["lr"] = rate
        steps = torch.randint(0, FIRST_STEP, (len(found),))
        noisy, noise = train_unet.noised(latents, steps, alpha)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                encoded = two(encoders.ids(texts)[1], output_hidden_states=True)
            hidden, pooled = encoded.hidden_states[-2].float(), encoded.text_embeds.float()
            guess = unet(noisy, steps, hidden, added_cond_kwargs=dict(text_embeds=pooled, time_ids=torch.tensor(times))).sample
        errors = (guess.float() - noise).square().mean((1, 2, 3))
        loss = (train_unet.weights(alpha, steps) ** 0.5 * errors).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        average.update(unet)
        losses.append(errors.mean().item())
        step += 1
        if step % 200 == 0:
            save()
    save()


if __name__ == "__main__":
    main()
