"""The latent layout that the VAE's encoder is trained towards.

A free four-channel latent at factor 8 takes long to find by gradient descent. For flat scenes a good
one can be written down: three channels hold each 8x8 block's mean colour, the fourth its contrast,
which tells a block of a mixed colour from a block with an edge through it. The decoder learns to
redraw sharp shapes from that, the encoder learns to produce it, and the UNet can be trained on
latents computed directly from drawn scenes while the VAE is still training.
"""

import numpy as np
import torch

# Reciprocal of the standard deviation of `target` over drawn scenes (measured: 0.57); the VAE's scaling_factor.
SCALING_FACTOR = 1.75


def target(images):
    """Images (count, 3, h, w) in [-1, 1] to unscaled latents (count, 4, h/8, w/8)."""
    count, _, h, w = images.shape
    blocks = images.reshape(count, 3, h // 8, 8, w // 8, 8)
    mean = blocks.mean((3, 5))
    spread = blocks.var((3, 5), correction=0).mean(1, keepdim=True)
    return torch.cat([mean, 2.0 * (spread + 1e-6).sqrt()], 1)


def tensor(pictures):
    """uint8 pictures (list of (h, w, 3)) to a float tensor (count, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
