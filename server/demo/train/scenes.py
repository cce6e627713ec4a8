"""The demo model's world: flat scenes of one or two shapes on a plain background.

A `Scene` holds the facts (what a caption may say and the pixel check looks for); `draw` turns it
into an RGB image; `sample_scene` draws facts at random and never returns a held-out combination.
"""

import hashlib
import math
import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

# sRGB palette; the closest two (orange, yellow) are 87 apart, so a nearest-colour test is meaningful.
COLOURS = {
    "red": (220, 35, 40),
    "green": (40, 160, 70),
    "blue": (40, 80, 220),
    "yellow": (250, 220, 50),
    "orange": (250, 135, 30),
    "purple": (125, 40, 165),
    "pink": (250, 150, 200),
    "cyan": (60, 205, 225),
    "black": (20, 20, 20),
    "white": (248, 248, 248),
    "grey": (128, 128, 128),
    "brown": (125, 75, 35),
}
SHAPES = ["circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond"]
# Position name -> (column, row), each -1, 0 or 1.
POSITIONS = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
# Half the shape's extent as a fraction of the shorter image side.
SIZES = {"small": (0.095, 0.125), "medium": (0.155, 0.195), "large": (0.235, 0.275)}
PAIR_SIZES = {"small": (0.085, 0.105), "medium": (0.13, 0.165), "large": (0.19, 0.215)}
SUPERSAMPLE = 4


@dataclass
class Thing:
    """One shape: its facts and its exact place (fractions of width and height; `extent` of the shorter side)."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    extent: float
    rgb: tuple = (0, 0, 0)


@dataclass
class Scene:
    """Facts of one picture. `position` is set for one thing; `relation` ("left of" or "above") for two."""

    background: str
    background_rgb: tuple
    things: list = field(default_factory=list)
    position: str | None = None
    relation: str | None = None
    width: int = 128
    height: int = 128


def outline(shape):
    """Polygons (lists of points in [-1, 1], y down) that make up `shape`; a ring's second one is its hole."""
    if shape == "square":
        return [[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]]
    if shape == "diamond":
        return [[(0, -1), (0.8, 0), (0, 1), (-0.8, 0)]]
    if shape == "triangle":
        return [[(0, -0.9), (1, 0.85), (-1, 0.85)]]
    if shape == "cross":
        a = 0.3
        return [[(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]]
    if shape == "star":
        points = []
        for i in range(10):
            radius = 1.08 if i % 2 == 0 else 0.45
            angle = math.pi * i / 5 - math.pi / 2
            points.append((radius * math.cos(angle), radius * math.sin(angle) + 0.08))
        return [points]
    if shape == "heart":
        points = []
        for i in range(80):
            t = 2 * math.pi * i / 80
            x = 16 * math.sin(t) ** 3
            y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((x / 16.0, -(y + 2.5) / 15.5))
        return [points]
    circle = [(math.cos(2 * math.pi * i / 80), math.sin(2 * math.pi * i / 80)) for i in range(80)]
    if shape == "circle":
        return [circle]
    if shape == "ring":
        return [circle, [(0.55 * x, 0.55 * y) for x, y in circle]]
    raise ValueError(f"no such shape: {shape}")


_OUTLINES = {shape: outline(shape) for shape in SHAPES}


def draw(scene):
    """The scene as an RGB `Image`, antialiased by drawing at four times the size."""
    k = SUPERSAMPLE
    image = Image.new("RGB", (scene.width * k, scene.height * k), scene.background_rgb)
    pen = ImageDraw.Draw(image)
    shorter = min(scene.width, scene.height)
    for thing in scene.things:
        r, cx, cy = thing.extent * shorter * k, thing.x * scene.width * k, thing.y * scene.height * k
        for i, polygon in enumerate(_OUTLINES[thing.shape]):
            fill = thing.rgb if i == 0 else scene.background_rgb
            pen.polygon([(cx + r * x, cy + r * y) for x, y in polygon], fill=fill)
    return image.reduce(k)


def pixels(scene):
    """The drawn scene as uint8 (height, width, 3)."""
    return np.asarray(draw(scene))


def key(scene):
    """The combination of facts by which a scene is held out or not."""
    if len(scene.things) == 1:
        t = scene.things[0]
        return f"{t.colour} {t.shape} {scene.background} {scene.position}"
    if len(scene.things) == 2:
        a, b = scene.things
        return f"{a.colour} {a.shape} {scene.relation} {b.colour} {b.shape} {scene.background}"
    return None


def is_held_out(scene):
    """Whether this combination belongs to the tenth that training never sees."""
    k = key(scene)
    return k is not None and hashlib.sha256(k.encode()).digest()[0] % 10 == 0


def _shade(rng, name):
    return tuple(max(0, min(255, c + rng.randint(-7, 7))) for c in COLOURS[name])


def _spread(rng, column, extent):
    """A coordinate in the wanted third, with the shape kept inside the image."""
    if column == 0:
        return rng.uniform(0.47, 0.53)
    edge = max(extent + rng.uniform(0.03, 0.05), rng.uniform(0.19, 0.24))
    edge = min(edge, 0.33)
    return edge if column < 0 else 1 - edge


def one_thing(rng, shape, colour, background, position, size, width=128, height=128):
    """A scene of one shape with exactly these facts."""
    extent = rng.uniform(*SIZES[size])
    column, row = POSITIONS[position]
    shorter = min(width, height)
    x = _spread(rng, column, extent * shorter / width)
    y = _spread(rng, row, extent * shorter / height)
    thing = Thing(shape, colour, size, x, y, extent, _shade(rng, colour))
    return Scene(background, _shade(rng, background), [thing], position, None, width, height)


def two_things(rng, first, second, relation, background, width=128, height=128):
    """A scene of two shapes; `first` and `second` are (shape, colour, size), `first` being left or above."""
    across, along = rng.uniform(0.46, 0.54), rng.uniform(0.235, 0.275)
    things = []
    for (shape, colour, size), side in ((first, along), (second, 1 - along)):
        extent = rng.uniform(*PAIR_SIZES[size])
        side, other = side + rng.uniform(-0.01, 0.01), across + rng.uniform(-0.02, 0.02)
        x, y = (side, other) if relation == "left of" else (other, side)
        things.append(Thing(shape, colour, size, x, y, extent, _shade(rng, colour)))
    return Scene(background, _shade(rng, background), things, None, relation, width, height)


def sample_scene(rng, width=128, height=128, held_out=False, pair_share=0.5):
    """A random scene; `held_out` picks from the combinations training never sees, else from the others."""
    colours = list(COLOURS)
    while True:
        background = rng.choice(colours)
        others = [c for c in colours if c != background]
        draw_kind = rng.random()
        if draw_kind < 0.02 and not held_out:
            return Scene(background, _shade(rng, background), [], None, None, width, height)
        if draw_kind < 1 - pair_share:
            # The centre is where a prompt without a position goes, so it gets more than its ninth.
            position = "centre" if rng.random() < 0.25 else rng.choice(list(POSITIONS))
            size = rng.choices(["small", "medium", "large"], [0.3, 0.4, 0.3])[0]
            scene = one_thing(rng, rng.choice(SHAPES), rng.choice(others), background, position, size, width, height)
        else:
            sizes = rng.choices(["small", "medium", "large"], [0.2, 0.6, 0.2], k=2)
            first = (rng.choice(SHAPES), rng.choice(others), sizes[0])
            second = (rng.choice(SHAPES), rng.choice(others), sizes[1])
            scene = two_things(rng, first, second, rng.choice(["left of", "above"]), background, width, height)
        if is_held_out(scene) == held_out:
            return scene


def contact_sheet(images, columns, path):
    """Save `images` (uint8 arrays of one size) as a grid for looking at."""
    h, w = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (h + 4), columns * (w + 4), 3), 90, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + 4) + 2, (i % columns) * (w + 4) + 2
        sheet[y : y + h, x : x + w] = image
    Image.fromarray(sheet).save(path)


if __name__ == "__main__":
    rng = random.Random(1)
    contact_sheet([pixels(sample_scene(rng)) for _ in range(48)], 8, "scenes.png")
