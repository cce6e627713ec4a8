"""The pixel check: finds, without knowing the prompt, what a picture of the demo world shows.

`look(picture)` returns the background's colour and every shape's colour, kind and place; `judge`
compares that with the facts a prompt asked for. README.md states the algorithm for other languages.
"""

import functools
from dataclasses import dataclass

import numpy as np

import scenes

FRAME = 4  # width of the border from which the background is read
FOREGROUND = 44.0  # distance in RGB from the background above which a pixel belongs to a shape
SMALLEST = 40  # pixels; smaller blobs are specks
SPECKS = 60  # pixels of specks a picture may have in all
GRID = 32
LEFT, RIGHT = 0.40, 0.60


@dataclass
class Found:
    """One shape in a picture: colour and shape names, centre of its bounding box (0 to 1), overlap with the template."""

    colour: str
    shape: str
    x: float
    y: float
    overlap: float


def nearest_colour(rgb):
    """Name of the palette colour nearest to `rgb`."""
    return min(scenes.COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(scenes.COLOURS[name], rgb)))


def blobs(mask):
    """4-connected components of a boolean (h, w) mask, as a list of (ys, xs)."""
    h, w = mask.shape
    seen, out = ~mask, []
    for y0, x0 in zip(*np.nonzero(mask)):
        if seen[y0, x0]:
            continue
        seen[y0, x0] = True
        stack, ys, xs = [(y0, x0)], [], []
        while stack:
            y, x = stack.pop()
            ys.append(y)
            xs.append(x)
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < h and 0 <= u < w and not seen[v, u]:
                    seen[v, u] = True
                    stack.append((v, u))
        out.append((np.array(ys), np.array(xs)))
    return out


def normalised(mask):
    """The mask's bounding box sampled at the centres of a GRID x GRID raster, booleans."""
    ys, xs = np.nonzero(mask)
    top, left, height, width = ys.min(), xs.min(), np.ptp(ys) + 1, np.ptp(xs) + 1
    steps = (np.arange(GRID) + 0.5) / GRID
    return mask[np.ix_((top + steps * height).astype(int), (left + steps * width).astype(int))]


@functools.cache
def templates():
    """Every shape's outline, filled and normalised."""
    out = {}
    for shape in scenes.SHAPES:
        thing = scenes.Thing(shape, "white", "large", 0.5, 0.5, 0.4, (255, 255, 255))
        scene = scenes.Scene("black", (0, 0, 0), [thing], "centre", None, 256, 256)
        out[shape] = normalised(scenes.pixels(scene)[..., 0] > 127)
    return out


def look(picture):
    """(background colour or None if the border is not of one colour, list of Found) of a uint8 (h, w, 3) picture."""
    p = picture.astype(np.float64)
    h, w = p.shape[:2]
    border = np.ones((h, w), bool)
    border[FRAME:-FRAME, FRAME:-FRAME] = False
    background = np.median(p[border], 0)
    distance = np.sqrt(((p - background) ** 2).sum(-1))
    uniform = (distance[border] <= FOREGROUND).mean() >= 0.9
    found, specks = [], 0
    for ys, xs in blobs(distance > FOREGROUND):
        if len(ys) < SMALLEST:
            specks += len(ys)
            continue
        # The colour: median of the pixels farthest from the background (the inner half; edges are mixtures).
        own = distance[ys, xs]
        rgb = np.median(p[ys, xs][own >= np.median(own)], 0)
        # The outline: pixels more than half way from the background to that colour.
        axis = rgb - background
        share = ((p[ys, xs] - background) @ axis) / max(axis @ axis, 1.0)
        mask = np.zeros((h, w), bool)
        mask[ys[share > 0.5], xs[share > 0.5]] = True
        if mask.sum() < SMALLEST // 2:
            specks += len(ys)
            continue
        ys, xs = np.nonzero(mask)
        raster = normalised(mask)
        overlaps = {s: (raster & t).sum() / (raster | t).sum() for s, t in templates().items()}
        shape = max(overlaps, key=overlaps.get)
        found.append(Found(nearest_colour(rgb), shape, (xs.min() + xs.max() + 1) / 2 / w, (ys.min() + ys.max() + 1) / 2 / h,
                           float(overlaps[shape])))
    if specks > SPECKS:
        uniform = False
    return (nearest_colour(background) if uniform else None), found


def position(found):
    """Name of the place a shape is in: thirds with borders at 0.40 and 0.60."""
    cell = tuple(-1 if v < LEFT else 1 if v > RIGHT else 0 for v in (found.x, found.y))
    return next(name for name, c in scenes.POSITIONS.items() if c == cell)


def judge(picture, wanted):
    """What is right: a dict of booleans with `all` as their conjunction.

    `wanted` is {"background", "shapes": [{"colour", "shape"}…], "position"} or, for two, {"relation"};
    for two, `bar` is colours and relation (left or upper shape first), `all` adds shapes and background.
    """
    background, found = look(picture)
    shapes = wanted["shapes"]
    right = {"background": background == wanted["background"], "count": len(found) == len(shapes)}
    if not right["count"]:
        return {**right, "bar": False, "all": False}
    if len(shapes) == 1:
        thing = found[0]
        right["colour"] = thing.colour == shapes[0]["colour"]
        right["shape"] = thing.shape == shapes[0]["shape"] and thing.overlap >= 0.7
        right["position"] = position(thing) == wanted["position"]
        right["all"] = all(right.values())
        return {**right, "bar": right["all"]}
    across = abs(found[0].x - found[1].x) > abs(found[0].y - found[1].y)
    found.sort(key=lambda f: f.x if across else f.y)
    right["relation"] = across == (wanted["relation"] == "left of")
    right["colour"] = [f.colour for f in found] == [s["colour"] for s in shapes]
    right["shape"] = all(f.shape == s["shape"] and f.overlap >= 0.7 for f, s in zip(found, shapes))
    return {**right, "bar": right["relation"] and right["colour"], "all": all(right.values())}


def wanted(scene):
    """The facts of a scene, as `judge` and prompts.json hold them."""
    facts = {"background": scene.background, "shapes": [{"colour": t.colour, "shape": t.shape} for t in scene.things]}
    facts["position" if len(scene.things) == 1 else "relation"] = scene.position or scene.relation
    return facts


def validate(count=1000):
    """Share of drawn scenes judged right, and of scenes judged right against another scene's facts (must be about 0)."""
    import random

    rng = random.Random(7)
    drawn = [scenes.sample_scene(rng, held_out=True) for _ in range(count)]
    right = [judge(scenes.pixels(s), wanted(s))["all"] for s in drawn]
    wrong, changed = [], []
    for s in drawn:
        facts = wanted(s)
        kind = rng.choice(["background", "colour", "shape", "position" if len(s.things) == 1 else "relation"])
        if kind == "background":
            facts["background"] = rng.choice([c for c in scenes.COLOURS if c != s.background])
        elif kind in ("colour", "shape"):
            part = rng.choice(facts["shapes"])
            part[kind] = rng.choice([v for v in (scenes.COLOURS if kind == "colour" else scenes.SHAPES) if v != part[kind]])
        elif kind == "position":
            facts["position"] = rng.choice([v for v in scenes.POSITIONS if v != s.position])
        else:
            facts["relation"] = "above" if s.relation == "left of" else "left of"
        wrong.append(judge(scenes.pixels(s), facts)["all"])
        changed.append(kind)
    return np.mean(right), np.mean(wrong), [(wanted(s), look(scenes.pixels(s))) for s, r in zip(drawn, right) if not r]


if __name__ == "__main__":
    right, wrong, misses = validate()
    print(f"drawn scenes judged right: {right:.3f}; judged right with one fact changed: {wrong:.3f}")
    for miss in misses[:10]:
        print(miss)
