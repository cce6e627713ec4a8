"""Captions for drawn scenes, worded the many ways people word them, with the facts each one states.

`caption(rng, scene)` returns `(text, facts)`. Facts are what the text determines; a fact the text
leaves open is `"any"`. `FACTS` lists them with their possible values: the text encoders are
pre-trained to read them (train_text.py).
"""

import re

import scenes

SHAPE_WORDS = {
    "circle": ["circle"] * 8 + ["disc", "disk", "dot", "ball", "round shape"],
    "square": ["square"] * 9 + ["box", "block"],
    "triangle": ["triangle"],
    "star": ["star"] * 8 + ["five-pointed star"],
    "heart": ["heart"] * 8 + ["heart shape", "love heart"],
    "cross": ["cross"] * 6 + ["plus", "plus sign", "plus"],
    "ring": ["ring"] * 8 + ["donut", "hoop"],
    "diamond": ["diamond"] * 8 + ["rhombus"],
}
COLOUR_WORDS = {c: [c] for c in scenes.COLOURS}
COLOUR_WORDS["grey"] = ["grey", "gray"]
COLOUR_WORDS["purple"] = ["purple"] * 5 + ["violet"]
COLOUR_WORDS["cyan"] = ["cyan"] * 4 + ["turquoise", "light blue", "aqua"]
COLOUR_WORDS["green"] = ["green"] * 12 + ["dark green"]
COLOUR_WORDS["red"] = ["red"] * 12 + ["bright red"]
COLOUR_WORDS["blue"] = ["blue"] * 12 + ["dark blue"]
SIZE_WORDS = {
    "small": ["small", "small", "small", "tiny", "little", "mini", "very small", "small-sized"],
    "medium": ["medium", "medium", "medium-sized", "medium sized", "mid-sized", "medium-size"],
    "large": ["large", "large", "big", "big", "huge", "giant", "very large", "enormous", "very big"],
}
CENTRE = ["in the centre", "in the center", "in the middle", "at the centre", "at the center", "centred", "centered",
          "in the very middle", "in the centre of the {picture}", "in the center of the {picture}",
          "in the middle of the {picture}", "at the center of the {picture}", "placed in the middle", "center", "middle"]
SIDE = ["on the {side}", "on the {side}", "on the {side}", "at the {side}", "to the {side}", "on the {side} side",
        "at the {side} side", "on the {side} hand side", "on the {side} side of the {picture}",
        "at the {side} of the {picture}", "on the {side} of the {picture}", "placed on the {side}",
        "near the {side} edge", "far {side}", "{side} side", "in the {side} part", "positioned to the {side}"]
TOP = ["at the top", "at the top", "at the top", "on top", "on the top", "near the top", "in the upper part", "in the top",
       "at the top of the {picture}", "in the upper part of the {picture}", "near the top edge", "top", "up top",
       "in the upper half", "at the upper edge", "placed at the top"]
BOTTOM = ["at the bottom", "at the bottom", "at the bottom", "on the bottom", "near the bottom", "in the lower part",
          "at the bottom of the {picture}", "in the lower part of the {picture}", "near the bottom edge", "bottom",
          "in the lower half", "at the lower edge", "placed at the bottom", "in the bottom", "down at the bottom"]
CORNER = ["in the {v} {h} corner", "in the {v} {h} corner", "in the {v}-{h} corner", "in the {v} {h}", "at the {v} {h}",
          "at the {v} {h} corner", "{v} {h}", "{v} {h} corner", "in the {v}-{h}", "in the {v} {h} corner of the {picture}",
          "on the {v} {h}", "at the {v} and to the {h}", "in the {v} {h} part of the {picture}", "to the {v} {h}",
          "near the {v} {h} corner", "placed in the {v} {h} corner", "at the {v} on the {h}", "in the {h} {v} corner"]
PICTURE = ["picture", "image", "frame", "canvas", "scene", "screen", "page"]
BACKDROP = ["background"] * 8 + ["backdrop", "canvas", "backround"]
PREFIX = ["a photo of", "a picture of", "a picture with", "an image of", "an image with", "a drawing of", "a drawing with",
          "an illustration of", "a painting of", "a simple drawing of", "draw", "please draw", "draw me", "show me", "make",
          "create", "generate", "paint", "i want", "i would like", "give me", "there is", "this is", "a scene with",
          "a flat illustration of", "vector art of", "picture of", "image of", "photo of", "drawing of", "can you draw",
          "a minimalist image of", "an icon of", "a logo of", "a render of", "a close-up of"]
SUFFIX = ["flat design", "minimalist", "simple", "vector art", "high quality", "4k", "clean", "sharp", "flat colors",
          "flat colours", "geometric", "best quality", "masterpiece", "clip art", "2d", "simple shapes", "highly detailed",
          "digital art", "icon", "solid color", "8k", "hd", "plain", "geometry", "poster", "nice", "beautiful"]
FILLER = """nice beautiful cute lovely plain simple single lone bright flat solid clean sharp pretty perfect bold smooth
geometric filled cool great shiny colorful colourful""".split()
# Words people may type that say nothing about a scene here; in the vocabulary so that they are few tokens.
ENGLISH = """the a an of and or in on at to with for from by is are was were be been it its this that these those there here
one two three four five six seven eight nine ten some any no not all each every both only just also very more most less
cat dog bird fish horse cow sheep lion tiger bear fox rabbit mouse elephant monkey animal person man woman girl boy child
people face eye hand head body house home car bus train boat ship plane bike road street city town village castle tower
bridge mountain hill river lake sea ocean beach island forest tree flower grass leaf garden field sky cloud sun moon star
night day morning evening sunset sunrise light dark shadow rain snow wind storm fire water earth stone rock wood metal
gold silver glass paper cloth food bread cake apple orange banana fruit coffee tea cup table chair bed door window room
wall floor book pen phone computer robot machine spaceship space planet galaxy dragon wizard knight king queen princess
magic fantasy portrait landscape photo photograph photography picture image drawing sketch painting oil watercolor
watercolour illustration digital art artwork artist style realistic realism cartoon anime abstract modern vintage
detailed detail quality resolution cinematic dramatic soft warm cold color colour colors colours bright pale deep vivid
big small large little tall short long wide narrow old new young happy sad angry beautiful ugly pretty scary funny
standing sitting running walking flying swimming sleeping eating playing looking holding wearing front behind beside
between near far under over inside outside around across through along against left right top bottom upper lower middle
center centre corner side edge half part line shape shapes circle circles square squares triangle triangles rectangle
hexagon oval pattern texture made make like look good best great view close up shot blur blurry low worst bad ugly
deformed text watermark signature logo poster noise border frame empty nothing hello world test prompt please""".split()

FACTS = {
    "background": ["any"] + list(scenes.COLOURS),
    "count": ["any", "0", "1", "2"],
    "position": ["any"] + list(scenes.POSITIONS),
    "relation": ["any", "left of", "above"],
    "shape 1": ["any"] + scenes.SHAPES,
    "colour 1": ["any"] + list(scenes.COLOURS),
    "size 1": ["any"] + list(scenes.SIZES),
    "shape 2": ["any"] + scenes.SHAPES,
    "colour 2": ["any"] + list(scenes.COLOURS),
    "size 2": ["any"] + list(scenes.SIZES),
}


def no_facts():
    """Facts of a text that says nothing."""
    return {name: "any" for name in FACTS}


def article(words):
    """`words` after "a" or "an"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def _noun(rng, thing, index, facts, with_size, with_colour=True):
    """Words for a thing without an article; records what they say."""
    parts = []
    if with_size:
        parts.append(rng.choice(SIZE_WORDS[thing.size]))
        facts[f"size {index}"] = thing.size
    if with_colour:
        parts.append(rng.choice(COLOUR_WORDS[thing.colour]))
        facts[f"colour {index}"] = thing.colour
        if with_size and rng.random() < 0.1:
            parts.reverse()
    if rng.random() < 0.06:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(FILLER))
    parts.append(rng.choice(SHAPE_WORDS[thing.shape]))
    facts[f"shape {index}"] = thing.shape
    return " ".join(parts)


def _determine(rng, noun):
    """A noun with its article, or now and then with "one", "the" or none."""
    x = rng.random()
    if x < 0.78:
        return article(noun)
    if x < 0.84:
        return "one " + noun
    if x < 0.9:
        return "the " + noun
    return noun


def _position(rng, position):
    column, row = scenes.POSITIONS[position]
    side = "left" if column < 0 else "right"
    if column == 0 and row == 0:
        phrase = rng.choice(CENTRE)
    elif row == 0:
        phrase = rng.choice(SIDE).format(side=side, picture="{picture}")
    elif column == 0:
        phrase = rng.choice(TOP if row < 0 else BOTTOM)
    else:
        upper = rng.random() < 0.7
        vertical = ("top" if upper else "upper") if row < 0 else ("bottom" if upper else "lower")
        phrase = rng.choice(CORNER).format(v=vertical, h=side, picture="{picture}")
    return phrase.format(picture=rng.choice(PICTURE))


def _background(rng, colour):
    """(leading form, trailing form) of a phrase that names the background's colour."""
    word = rng.choice(COLOUR_WORDS[colour])
    if rng.random() < 0.12:
        word = rng.choice(["plain", "solid", "flat", "simple", "clean", "empty", "uniform"]) + " " + word
    drop = rng.choice(BACKDROP)
    trailing = rng.choice([f"on {article(word)} {drop}"] * 7 + [
        f"on {word} {drop}", f"against {article(word)} {drop}", f"over {article(word)} {drop}",
        f"with {article(word)} {drop}", f"with {article(word)} {drop}", f"in front of {article(word)} {drop}", f"on {word}",
        f"and {article(word)} {drop}", f"on top of {article(word)} {drop}", f"on the {word} {drop}", f"against {word}",
        f"in {article(word)} {drop}", f", {word} {drop}", f", {word} {drop}", f", {article(word)} {drop}",
        f", the {drop} is {word}", f". the {drop} is {word}", f", {drop} {word}", f"with {drop} in {word}"])
    leading = rng.choice([f"{word} {drop} with", f"{article(word)} {drop} with", f"{article(word)} {drop} and",
                          f"on {article(word)} {drop},", f"on {article(word)} {drop}", f"on {article(word)} {drop} there is",
                          f"{word} {drop},", f"{article(word)} {drop},", f"{article(word)} {drop} showing"])
    return leading, trailing


def _pair(rng, first, second, relation):
    """One sentence part for two things; `first` is left of or above `second`."""
    x = rng.random()
    if relation == "left of":
        if x < 0.34:
            return rng.choice(["{a} to the left of {b}"] * 4 + ["{a} left of {b}", "{a} on the left of {b}",
                              "{a} on the left side of {b}", "{a} is left of {b}", "{a} is to the left of {b}"]).format(a=first, b=second)
        if x < 0.6:
            return rng.choice(["{b} to the right of {a}"] * 4 + ["{b} right of {a}", "{b} on the right of {a}",
                              "{b} on the right side of {a}", "{b} is to the right of {a}"]).format(a=first, b=second)
        if x < 0.8:
            return rng.choice(["{a} on the left and {b} on the right"] * 3 + ["{a} on the left, {b} on the right",
                              "{a} at the left and {b} at the right", "left {a}, right {b}", "{a} left, {b} right",
                              "on the left {a} and on the right {b}", "{b} on the right and {a} on the left"]).format(a=first, b=second)
        return rng.choice(["{a} next to {b}"] * 3 + ["{a} beside {b}"] * 3 + ["{a} and {b}"] * 3 + ["{a} and {b} side by side",
                          "{a} and {b} next to each other", "{a}, {b}", "{a} with {b}", "{a} and {b} beside each other"]).format(a=first, b=second)
    if x < 0.42:
        return rng.choice(["{a} above {b}"] * 5 + ["{a} over {b}", "{a} on top of {b}", "{a} is above {b}", "{a} right above {b}",
                          "{a} directly above {b}"]).format(a=first, b=second)
    if x < 0.76:
        return rng.choice(["{b} below {a}"] * 4 + ["{b} under {a}"] * 2 + ["{b} beneath {a}", "{b} underneath {a}", "{b} is below {a}",
                          "{b} directly below {a}"]).format(a=first, b=second)
    return rng.choice(["{a} at the top and {b} at the bottom"] * 3 + ["{a} on top and {b} at the bottom", "top {a}, bottom {b}",
                      "{a} at the top, {b} at the bottom", "{a} on top, {b} below", "{b} at the bottom and {a} at the top",
                      "{a} above and {b} below"]).format(a=first, b=second)


def _finish(rng, text):
    """Prefix, suffix, full stop and letter case."""
    if rng.random() < 0.22:
        text = rng.choice(PREFIX) + " " + text
    if rng.random() < 0.12:
        text = text + ", " + ", ".join(rng.sample(SUFFIX, rng.choice([1, 1, 2, 3])))
    text = re.sub(r"\s+([,.])", r"\1", re.sub(r"\s+", " ", text)).strip()
    if rng.random() < 0.25:
        text += rng.choice([".", ".", ".", "!"])
    return text


def caption(rng, scene):
    """A caption for `scene` and the facts it states. Text is lower case, as the tokenizer makes it anyway."""
    facts = no_facts()
    leading, trailing = _background(rng, scene.background)
    facts["count"] = str(len(scene.things))
    if not scene.things:
        facts["background"] = scene.background
        word, drop = rng.choice(COLOUR_WORDS[scene.background]), rng.choice(BACKDROP[:8])
        return _finish(rng, rng.choice([f"{article(word)} {drop}", f"an empty {word} {drop}", f"a plain {word} {drop}", f"{word}",
                                        f"only a {word} {drop}", f"{word} {drop}", f"nothing on a {word} {drop}"])), facts
    if len(scene.things) == 1:
        thing = scene.things[0]
        # An unstated size means medium and an unstated place the centre, so that short prompts look composed.
        with_size = thing.size != "medium" or rng.random() < 0.35
        with_position = scene.position != "centre" or rng.random() < 0.4
        noun = _determine(rng, _noun(rng, thing, 1, facts, with_size, rng.random() > 0.02))
        place = _position(rng, scene.position) if with_position else ""
        if with_position:
            facts["position"] = scene.position
        x = rng.random()
        if x < 0.06:
            text = f"{noun} {place}" if rng.random() < 0.8 else f"{place} {noun}"
        else:
            facts["background"] = scene.background
            if x < 0.6:
                text = f"{noun} {place} {trailing}"
            elif x < 0.68:
                text = f"{noun} {trailing} {place}"
            elif x < 0.75:
                text = f"{noun}, {place}, {trailing}" if place else f"{noun}, {trailing}"
                text = text.replace(", ,", ",").replace(", .", ".")
            elif x < 0.92:
                text = f"{leading} {noun} {place}"
            elif place:
                text = f"{place} {noun} {trailing}" if rng.random() < 0.5 else f"{place} of {article(rng.choice(COLOUR_WORDS[scene.background]))} background, {noun}"
            else:
                text = f"{noun} {trailing}"
        return _finish(rng, text), facts
    a, b = scene.things
    facts["relation"] = scene.relation
    sized = rng.random() < 0.25
    nouns = []
    for index, thing in ((1, a), (2, b)):
        with_size = thing.size != "medium" or (sized and rng.random() < 0.7)
        nouns.append(_determine(rng, _noun(rng, thing, index, facts, with_size, rng.random() > 0.01)))
    text = _pair(rng, nouns[0], nouns[1], scene.relation)
    if rng.random() > 0.06:
        facts["background"] = scene.background
        text = f"{leading} {text}" if rng.random() < 0.2 else f"{text} {trailing}"
    return _finish(rng, text), facts


if __name__ == "__main__":
    import random

    rng = random.Random(2)
    for _ in range(60):
        scene = scenes.sample_scene(rng)
        text, facts = caption(rng, scene)
        print(text, "|", " ".join(f"{k}={v}" for k, v in facts.items() if v != "any"))
