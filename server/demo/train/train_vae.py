"""Trains the demo model's VAE (AutoencoderKL, factor 8) on drawn scenes, to a time budget.

The encoder is trained towards the latents of layout.py, the decoder to redraw the picture from them
with a little noise on them, so that it forgives what the UNet gets slightly wrong. Towards the end
the decoder also sees the encoder's own latents. Then the decoder goes on alone, with most weight on the
pixels in and around shapes: a small star is one per cent of a picture, and its points are all that tells it
from a small circle.
"""

import argparse
import os
import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import fastconv
import layout
import scenes
from schedule import Average, Clock, Log, learning_rate, save_atomically

CONFIG = dict(
    block_out_channels=(16, 32, 64, 72),
    layers_per_block=1,
    # One group: with two to four channels a group, as little as a flat picture has, its colour is what
    # the norm takes away.
    norm_num_groups=1,
    down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4,
    latent_channels=4,
    sample_size=128,
    force_upcast=True,
    scaling_factor=layout.SCALING_FACTOR,
)
LOG_VARIANCE = -8.0  # a posterior as narrow as rounding to 8 bits


CARRIED = 10  # channels that start out carrying +colour, -colour and two constants through the network


@torch.no_grad()
def start_linear(vae):
    """Initial weights with which the encoder averages 8x8 blocks and the decoder repeats them.

    Residual branches start at zero; the first channels carry the image, its negative (so that
    silu(x) - silu(-x) = x undoes the last activation) and constants that steady the last norm.
    """
    for half, width in ((vae.encoder, 3), (vae.decoder, 4)):
        for name, part in half.named_modules():
            if type(part).__name__ == "ResnetBlock2D":
                part.conv2.weight.zero_(), part.conv2.bias.zero_()
            if type(part).__name__ == "Attention":
                part.to_out[0].weight.zero_(), part.to_out[0].bias.zero_()
            if isinstance(part, torch.nn.Conv2d) and name.endswith(("conv_shortcut", "upsamplers.0.conv", "downsamplers.0.conv")):
                part.weight[:CARRIED] = 0
                part.bias[:CARRIED] = 0
                for i in range(CARRIED):
                    if "downsamplers" in name:
                        part.weight[i, i, :2, :2] = 0.25
                    else:
                        part.weight[i, i, part.kernel_size[0] // 2, part.kernel_size[0] // 2] = 1
        first, last = half.conv_in, half.conv_out
        first.weight[:CARRIED] = 0
        first.bias[:CARRIED] = 0
        for i in range(width):
            first.weight[i, i, 1, 1], first.weight[i + 4, i, 1, 1] = 1, -1
        size = 0.5 * last.in_channels**0.5
        first.bias[8], first.bias[9] = size, -size
        last.weight *= 0.1
        last.weight[:, :CARRIED] = 0
        last.bias.zero_()
        half.conv_norm_out.weight[:CARRIED] = 0.75
        for i in range(3):
            last.weight[i, i, 1, 1], last.weight[i, i + 4, 1, 1] = 1, -1
    vae.encoder.conv_out.bias[4:] = LOG_VARIANCE
    vae.encoder.conv_out.weight[4:] = 0
    for conv in (vae.quant_conv, vae.post_quant_conv):
        torch.nn.init.dirac_(conv.weight)
        conv.bias.zero_()


def edge_loss(a, b, weight=None):
    """Mean absolute difference of the two images' horizontal and vertical gradients, weighted by pixel."""
    d = a - b
    weight = torch.ones_like(d[:, :1]) if weight is None else weight
    across, down = (d[..., 1:] - d[..., :-1]).abs(), (d[..., 1:, :] - d[..., :-1, :]).abs()
    return (weight[..., 1:] * across).mean() + (weight[..., 1:, :] * down).mean()


def near_shapes(latents):
    """Pixel weights (count, 1, h, w), one on average in each picture, high where an edge is within a block."""
    edges = F.max_pool2d((latents[:, 3:] > 0.1).float(), 3, 1, 1)
    weight = 1 + 9 * F.interpolate(edges, scale_factor=8, mode="nearest")
    return weight / weight.mean((1, 2, 3), keepdim=True)


def hard_scene(rng):
    """A scene, half of the time the one of two with the smaller shape in it."""
    found = [scenes.sample_scene(rng, pair_share=0.6) for _ in range(rng.choice([1, 2]))]
    return min(found, key=lambda scene: min((thing.extent for thing in scene.things), default=1.0))


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
    parser.add_argument("--minutes", type=float, default=44)
    parser.add_argument("--sharpen", type=float, default=20, help="minutes for the decoder alone, after the others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.makedirs(args.work, exist_ok=True)
    vae = AutoencoderKL(**CONFIG)
    start_linear(vae)
    average = Average(vae, 0.997)
    fastconv.use(vae)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    step, used, checkpoint = 0, 0.0, os.path.join(args.work, "vae.pt")
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
        vae.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        if state["seconds"] < args.minutes * 60:  # the decoder's own time has an optimiser of its own
            optimiser.load_state_dict(state["optimiser"])
        step, used, average.updates = state["step"], state["seconds"], state["step"]
    rng = random.Random(f"{args.seed} {step}")
    held = [scenes.pixels(scenes.sample_scene(random.Random(i), held_out=True)) for i in range(64)]
    alone = None  # the clock of the decoder's own time
    clock, log = Clock(args.minutes, min(used, args.minutes * 60)), Log(os.path.join(args.work, "log.csv"), "vae")
    losses = []

    def seconds():
        return clock.seconds() if alone is None else args.minutes * 60 + alone.seconds()

    def save():
        save_atomically(dict(model=vae.state_dict(), average=average.module.state_dict(),
                             optimiser=optimiser.state_dict(), step=step, seconds=seconds()), checkpoint)
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
            if step == 100 or step % 300 == 0:
                note += "; " + save()
            log.row(step, clock.seconds(), rate, float(drawn), note)
    save()
    # The decoder alone.
    alone = Clock(args.sharpen, max(0.0, used - args.minutes * 60))
    parts = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    vae.encoder.requires_grad_(False), vae.quant_conv.requires_grad_(False)
    optimiser = torch.optim.AdamW(parts, lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    losses, first = [], step
    while not alone.done():
        x = layout.tensor([scenes.pixels(hard_scene(rng)) for _ in range(args.batch)])
        rate = learning_rate(args.rate, alone.share(), step - first)
        for group in optimiser.param_groups:
            group["lr"] = rate
        wanted = layout.target(x)
        weight = near_shapes(wanted)
        with torch.autocast("cpu", torch.bfloat16):
            latents = wanted
            if rng.random() < 0.25:
                with torch.no_grad():
                    latents = vae.encode(x).latent_dist.mean.float()
            latents = latents + torch.rand(args.batch, 1, 1, 1) * 0.06 * torch.randn_like(latents)
            back = vae.decode(latents).sample.float()
        d = back - x
        loss = (weight * (d.abs() + d.square())).mean() + 0.5 * edge_loss(back, x, weight)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts, 1.0)
        optimiser.step()
        average.update(vae)
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            log.row(step, seconds(), rate, float(np.mean(losses[-100:])), "decoder alone" + ("; " + save() if step % 400 == 0 else ""))
    log.row(step, seconds(), 0.0, float(np.mean(losses[-100:])), "decoder alone; " + save())


if __name__ == "__main__":
    main()
