#!/usr/bin/env python3
"""Writes a small picture in every kind of file that people bring, and Pillow's reading of each beside
it (NAME.ref, a PNG), for tests/parity/decoding.rs.

    python record_decoding.py

16-bit greys are left out: Pillow clips them at 255 when it makes colours of them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from record_parity import FIXTURES

FOLDER = FIXTURES / "decoding"
WIDTH, HEIGHT = 93, 75
ORIENTATION, QUARTER_TURN = 0x0112, 6  # EXIF


def picture() -> Image.Image:
    """Smooth colours, sharp edges between hues (where chroma is thinned out) and some noise."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = np.stack([128 + 100 * np.sin(x / 9 + y / 17), 128 + 90 * np.cos(x / 13 - y / 7), 128 + 80 * np.sin((x + y) / 11)], -1)
    waves[20:50, 30:60] = [230, 30, 40]
    waves[40:70, 50:85] = [20, 60, 220]
    waves += np.random.default_rng(3).normal(0, 6, waves.shape)
    return Image.fromarray(waves.clip(0, 255).astype(np.uint8))


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole = picture()
    turned = Image.Exif()
    turned[ORIENTATION] = QUARTER_TURN
    fading = whole.convert("RGBA")
    fading.putalpha(Image.fromarray((np.mgrid[0:HEIGHT, 0:WIDTH][1] * 255 // WIDTH).astype(np.uint8)))
    files = {
        "chroma-whole.jpg": (whole, dict(quality=90, subsampling=0)),
        "chroma-halved.jpg": (whole, dict(quality=90, subsampling=1)),
        "chroma-quartered.jpg": (whole, dict(quality=90, subsampling=2)),
        "coarse.jpg": (whole, dict(quality=50, subsampling=2)),
        "progressive.jpg": (whole, dict(quality=85, progressive=True)),
        "grey.jpg": (whole.convert("L"), dict(quality=85)),
        "cmyk.jpg": (whole.convert("CMYK"), dict(quality=90)),
        "turned.jpg": (whole, dict(quality=90, exif=turned)),
        "lossy.webp": (whole, dict(quality=80)),
        "lossless.webp": (whole, dict(lossless=True)),
        "alpha.webp": (fading, dict(quality=80)),
        "alpha.png": (fading, {}),
        "palette.png": (whole.quantize(40), {}),
        "grey.png": (whole.convert("L"), {}),
        "bits.png": (whole.convert("1"), {}),
    }
    for name, (image, options) in files.items():
        image.save(FOLDER / name, **options)
        read = ImageOps.exif_transpose(Image.open(FOLDER / name)).convert("RGB")
        read.save(FOLDER / f"{name}.ref", "PNG", optimize=True)
        print(name, read.size)


if __name__ == "__main__":
    main()
