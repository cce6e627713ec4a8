"""Scores a model folder with diffusers on the held-out prompts, by the pixel check of check.py.

Writes prompts.json once (prompts and facts of combinations training never saw) and then
diffusers_scores.json: one entry a prompt, its seed being its index within its list.
"""

import argparse
import json
import os
import random
import time

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

import captions
import check
import scenes

STEPS, GUIDANCE = 20, 3.5


def prompts(count=100, seed=2026):
    """{"one": [...], "two": [...]}: held-out prompts that state everything the check asks for."""
    rng = random.Random(seed)
    out = {"one": [], "two": []}
    while min(len(v) for v in out.values()) < count:
        scene = scenes.sample_scene(rng, held_out=True)
        text, facts = captions.caption(rng, scene)
        kind = "one" if len(scene.things) == 1 else "two"
        needed = ["background", "colour 1", "shape 1"] + (["colour 2", "shape 2"] if kind == "two" else [])
        if len(out[kind]) >= count or any(facts[name] == "any" for name in needed):
            continue
        if rng.random() < 0.5:
            text = text[0].upper() + text[1:]
        out[kind].append({"prompt": text, **check.wanted(scene)})
    return out


def generate(pipeline, texts, seeds, steps, guidance):
    """uint8 pictures for the prompts, each with its own seed."""
    made = []
    for start in range(0, len(texts), 20):
        generators = [torch.Generator("cpu").manual_seed(s) for s in seeds[start : start + 20]]
        images = pipeline(texts[start : start + 20], num_inference_steps=steps, guidance_scale=guidance, height=128, width=128,
                          generator=generators, output_type="np").images
        made += [(i * 255).round().astype(np.uint8) for i in images]
    return made


def main():
    """Generate, check, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True, help="prompts.json, written if it is not there")
    parser.add_argument("--scores", help="where to write diffusers_scores.json")
    parser.add_argument("--sheet", help="where to write contact sheets (PREFIX-one.png, PREFIX-two.png)")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not os.path.exists(args.prompts):
        made = prompts()
        with open(args.prompts, "w") as f:
            f.write("{\n" + ",\n".join(f' "{kind}": [\n' + ",\n".join("  " + json.dumps(p) for p in made[kind]) + "\n ]" for kind in made) + "\n}\n")
    with open(args.prompts) as f:
        lists = json.load(f)
    pipeline = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    result = {"steps": args.steps, "guidance_scale": args.guidance, "width": 128, "height": 128, "seed": "index in its list"}
    for kind, items in lists.items():
        items, start = items[: args.count], time.time()
        pictures = generate(pipeline, [p["prompt"] for p in items], list(range(len(items))), args.steps, args.guidance)
        marks = [check.judge(picture, p) for picture, p in zip(pictures, items)]
        result[kind] = {"passed": sum(m["bar"] for m in marks), "all": sum(m["all"] for m in marks), "of": len(items),
                        "prompts": [{name: bool(v) for name, v in m.items()} for m in marks]}
        names = sorted({n for m in marks for n in m} - {"bar", "all"})
        print(kind, f"bar {result[kind]['passed']}/{len(items)} all {result[kind]['all']}",
              {n: sum(m.get(n, False) for m in marks) for n in names}, f"{time.time() - start:.0f} s", flush=True)
        for i, (m, p) in enumerate(zip(marks, items)):
            if not m["bar"]:
                print("  missed", i, p["prompt"], [n for n, v in m.items() if not v])
        if args.sheet:
            scenes.contact_sheet(pictures, 10, f"{args.sheet}-{kind}.png")
    if args.scores:
        with open(args.scores, "w") as f:
            head = {k: v for k, v in result.items() if k not in lists}
            body = {k: {**{a: b for a, b in result[k].items() if a != "prompts"}} for k in lists}
            text = json.dumps(head)[1:-1]
            for kind in lists:
                rows = ",\n".join("   " + json.dumps(m) for m in result[kind]["prompts"])
                text += f',\n "{kind}": {{{json.dumps(body[kind])[1:-1]}, "prompts": [\n{rows}\n ]}}'
            f.write("{" + text + "\n}\n")


if __name__ == "__main__":
    main()
