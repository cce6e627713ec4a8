"""Trains the demo model's VAE (AutoencoderKL, factor 8) on drawn scenes, to a time budget.

The encoder is trained towards the latents of layout.py, the decoder to redraw the picture from them
with a little noise on them, so that it forgives what the UNet gets slightly wrong. Towards the end
the decoder also sees the encoder's own latents.
"""

import argparse
import os
import random

import numpy as np
import torch
from diffusers import AutoencoderKL

import fastconv
import layout
import scenes
from schedule import Average, Clock, Log, learning_rate, save_atomically

CONFIG = dict(
    block_out_channels=(16, 32, 64, 72),
    layers_per_block=1,
    norm_num_groups=4,
    down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4,
    latent_channels=4,
    sample_size=128,
    force_upcast=True,
    scaling_factor=layout.SCALING_FACTOR,
)
LOG_VARIANCE = -8.0  # a posterior as narrow as rounding to 8 bits


def edge_loss(a, b):
    """Mean absolute difference of the two images' horizontal and vertical gradients."""
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


@torch.no_grad()
def report(vae, pictures, path):
    """Originals over reconstructions to `path`; mean errors in 1/255 from the encoder's and the exact latents."""
    x = layout.tensor(pictures)
    coded = vae.encode(x).latent_dist.mean
    back, exact = vae.decode(coded).sample.clamp(-1, 1), vae.decode(layout.target(x)).sample.clamp(-1, 1)
    rows = torch.cat([x[:8], back[:8], exact[:8]])
    scenes.contact_sheet([((i + 1) * 127.5).round().byte().permute(1, 2, 0).numpy() for i in rows], 8, path)
    return [round((y - x).abs().mean().item() * 127.5, 2) for y in (back, exact)]


def main():
    """Train; save the averaged VAE as a diffusers folder now and then and at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.makedirs(args.work, exist_ok=True)
    vae = AutoencoderKL(**CONFIG)
    average = Average(vae, 0.998)
    fastconv.use(vae)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    step, used, checkpoint = 0, 0.0, os.path.join(args.work, "vae.pt")
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
        vae.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, used, average.updates = state["step"], state["seconds"], state["step"]
    rng = random.Random(f"{args.seed} {step}")
    held = [scenes.pixels(scenes.sample_scene(random.Random(i), held_out=True)) for i in range(64)]
    clock, log = Clock(args.minutes, used), Log(os.path.join(args.work, "log.csv"), "vae")
    losses = []

    def save():
        save_atomically(dict(model=vae.state_dict(), average=average.module.state_dict(),
                             optimiser=optimiser.state_dict(), step=step, seconds=clock.seconds()), checkpoint)
        average.module.save_pretrained(os.path.join(args.work, "vae"))
        own, exact = report(average.module, held, os.path.join(args.work, "vae.png"))
        return f"error from encoder {own}/255 from exact latents {exact}/255"

    while not clock.done():
        x = layout.tensor([scenes.pixels(scenes.sample_scene(rng)) for _ in range(args.batch)])
        rate = learning_rate(args.rate, clock.share(), step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        wanted = layout.target(x)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            mean = posterior.mean.float()
            # The decoder's gradient never reaches the encoder: the layout is fixed.
            own = torch.rand(args.batch, 1, 1, 1) < (0.0 if clock.share() < 0.4 else 0.4)
            latents = torch.where(own, mean.detach(), wanted)
            latents = latents + torch.rand(args.batch, 1, 1, 1) * 0.06 * torch.randn_like(latents)
            back = vae.decode(latents).sample.float()
        encoding = (mean - wanted).abs().mean() + (mean - wanted).square().mean()
        narrow = (posterior.logvar.float() - LOG_VARIANCE).square().mean()
        drawing = (back - x).abs().mean() + (back - x).square().mean() + 0.5 * edge_loss(back, x)
        loss = drawing + encoding + 0.001 * narrow
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        average.update(vae)
        losses.append((drawing.item(), encoding.item()))
        step += 1
        if step % 100 == 0:
            drawn, coded = np.mean(losses[-100:], 0)
            note = f"encoding {coded:.4f}"
            if step % 300 == 0:
                note += "; " + save()
            log.row(step, clock.seconds(), rate, float(drawn), note)
    log.row(step, clock.seconds(), 0.0, float(np.mean(losses[-100:], 0)[0]), save())


if __name__ == "__main__":
    main()
