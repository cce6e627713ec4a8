"""Trains the demo model's UNet (SDXL's architecture, small) on scenes drawn as it goes, to a time budget.

Epsilon prediction on SDXL's own noise schedule, min-SNR weighting, a little offset noise (flat
backgrounds live in the latents' mean), captions worded afresh for every batch, ten per cent of the
conditions zeroed exactly as `force_zeros_for_empty_prompt` zeroes them, weights averaged.
The text encoders come from train_text.py and stay fixed; latents are computed by layout.py, which the VAE is trained towards.
"""

import argparse
import os
import random

import numpy as np
import torch
import torch.distributed as dist
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

import captions
import fastconv
import layout
import scenes
from schedule import Average, Clock, Log, learning_rate, save_atomically
from train_text import Encoders

SCHEDULER = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                 prediction_type="epsilon", interpolation_type="linear", use_karras_sigmas=False,
                 timestep_spacing="leading", steps_offset=1)
WIDTH, POOLED, TIME = 224, 128, 32


def unet_config(**changes):
    """SDXL's UNet configuration at the demo's size."""
    config = dict(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=(64, 96, 96),
        layers_per_block=1,
        attention_head_dim=(2, 3, 3),  # the number of heads, as in SDXL's own file
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME,
        projection_class_embeddings_input_dim=6 * TIME + POOLED,
        norm_num_groups=32,
    )
    return {**config, **changes}


def alphas():
    """Cumulative products of 1 - beta, (1000,)."""
    return EulerDiscreteScheduler(**SCHEDULER).alphas_cumprod


# (width, height) and how often a batch has it: mostly square, the others teach the model other formats.
SIZES = [((128, 128), 0.9), ((96, 128), 0.025), ((128, 96), 0.025), ((160, 128), 0.025), ((128, 160), 0.025)]


def scenes_and_latents(rng, count):
    """Freshly drawn scenes of one size and their scaled latents (count, 4, h/8, w/8)."""
    (width, height) = rng.choices([size for size, _ in SIZES], [share for _, share in SIZES])[0]
    found = [scenes.sample_scene(rng, width, height) for _ in range(count)]
    return found, layout.target(layout.tensor([scenes.pixels(s) for s in found])) * layout.SCALING_FACTOR


def conditions(rng, encoders, found):
    """(hidden states, pooled, time_ids) for scenes: captions made now, some of them zeroed or empty."""
    texts, times = [], []
    for scene in found:
        texts.append("" if rng.random() < 0.02 else captions.caption(rng, scene)[0])
        original = (scene.height, scene.width)
        if rng.random() < 0.15:  # people pass other original sizes; they must not upset the picture
            original = (rng.choice([64, 96, 128, 160, 192, 256]), rng.choice([64, 96, 128, 160, 192, 256]))
        times.append([*original, 0, 0, scene.height, scene.width])
    with torch.no_grad():
        hidden, pooled = encoders(*encoders.ids(texts))
    keep = torch.tensor([rng.random() >= 0.1 for _ in found], dtype=torch.float32)
    return hidden.float() * keep[:, None, None], pooled.float() * keep[:, None], torch.tensor(times, dtype=torch.float32)


def noised(latents, steps, alpha):
    """(noisy latents, noise) at timesteps `steps`, the noise with a small constant offset per channel."""
    noise = torch.randn_like(latents) + 0.05 * torch.randn(latents.shape[0], 4, 1, 1)
    a = alpha[steps][:, None, None, None]
    return a.sqrt() * latents + (1 - a).sqrt() * noise, noise


def weights(alpha, steps, gamma=5.0):
    """Min-SNR weights for epsilon prediction."""
    snr = alpha[steps] / (1 - alpha[steps])
    return torch.minimum(snr, torch.tensor(gamma)) / snr


def start_quiet(unet):
    """Zero the last layer of every residual branch and of the UNet, so that training starts from silence."""
    for name, part in unet.named_modules():
        if name.endswith((".conv2", ".proj_out")) or name == "conv_out":
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)


def spread_steps(count):
    """Random timesteps, one from each of `count` equal parts of the schedule."""
    return ((torch.arange(count) + torch.rand(count)) * (1000 / count)).long().clamp(max=999)


def train(rank, args):
    """One process's part: its share of each batch; gradients are averaged between processes every step."""
    torch.set_num_threads(1)
    if args.processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{args.meeting}", rank=rank, world_size=args.processes)
    encoders = Encoders(args.work)
    encoders.load_state_dict(torch.load(os.path.join(args.work, "text.pt"), weights_only=False)["average"])
    encoders.eval().requires_grad_(False)
    torch.manual_seed(args.seed)
    unet = UNet2DConditionModel(**unet_config())
    start_quiet(unet)
    average = Average(unet, 0.999)
    fastconv.use(unet)
    unet.set_attn_processor(AttnProcessor())
    parameters = list(unet.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01)
    step, used, checkpoint = 0, 0.0, os.path.join(args.work, "unet.pt")
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
        unet.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, used, average.updates = state["step"], state["seconds"], state["step"]
    rng = random.Random(f"{args.seed} {rank} {step}")
    torch.manual_seed(rng.getrandbits(32))
    alpha = alphas()
    clock, log = Clock(args.minutes, used), Log(os.path.join(args.work, "log.csv"), "unet")
    losses, saved, share = [], clock.seconds(), clock.share()

    def save():
        save_atomically(dict(model=unet.state_dict(), average=average.module.state_dict(),
                             optimiser=optimiser.state_dict(), step=step, seconds=clock.seconds()), checkpoint)

    while share < 1.0:
        found, latents = scenes_and_latents(rng, args.batch)
        rate = learning_rate(args.rate, share, step, warmup=200)
        for group in optimiser.param_groups:
            group["lr"] = rate
        steps = spread_steps(len(found))
        noisy, noise = noised(latents, steps, alpha)
        with torch.autocast("cpu", torch.bfloat16):
            hidden, pooled, times = conditions(rng, encoders, found)
            guess = unet(noisy, steps, hidden, added_cond_kwargs=dict(text_embeds=pooled, time_ids=times)).sample
        errors = (guess.float() - noise).square().mean((1, 2, 3))
        loss = (weights(alpha, steps) * errors).mean()
        optimiser.zero_grad()
        loss.backward()
        share = clock.share()
        if args.processes > 1:
            # One message a step: the gradients and, from the first process, the elapsed share of the budget.
            extra = torch.tensor([share * args.processes if rank == 0 else 0.0])
            flat = torch.cat([*(p.grad.flatten() for p in parameters), extra])
            dist.all_reduce(flat)
            flat /= args.processes
            for p, part in zip(parameters, flat[:-1].split([p.numel() for p in parameters])):
                p.grad.copy_(part.view_as(p))
            share = flat[-1].item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if rank > 0:
            continue
        average.update(unet)
        losses.append(errors.mean().item())
        if step % 100 == 0:
            log.row(step, clock.seconds(), rate, float(np.mean(losses[-100:])))
        if clock.seconds() - saved > 120:
            saved = clock.seconds()
            save()
    if rank == 0:
        save()
        log.row(step, clock.seconds(), 0.0, float(np.mean(losses[-100:])), "end")


def main():
    """Train to the time budget; keep `unet.pt` (resumable) fresh."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=24, help="pictures a step in each process")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--processes", type=int, default=2, help="one thread each; steps wait less than threads do on a busy machine")
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    args = parser.parse_args()
    args.meeting = os.path.abspath(os.path.join(args.work, f"meeting-{os.getpid()}"))
    if args.processes > 1:
        torch.multiprocessing.spawn(train, (args,), nprocs=args.processes)
    else:
        train(0, args)


if __name__ == "__main__":
    main()
