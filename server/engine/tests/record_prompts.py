#!/usr/bin/env python3
"""Records weighted and long prompts, for tests/parity/prompts.rs.

    pip install -r requirements.txt
    python record_prompts.py           # rewrites fixtures/prompts/
    python record_prompts.py --random 60 --seed 5   # the same with random prompts, to be thrown away

diffusers has no prompt weights, so the reference is written here, on transformers' encoders, from
the rules of A1111's web UI: a prompt is cut at its brackets into texts of one weight, each text is
tokenized by itself, tokens fill chunks of 75 (broken at a comma within the last 20), each chunk is
encoded by itself, each token's hidden state is multiplied by its weight and the chunk's mean
brought back. It differs from the web UI as the engine does: brackets that are never closed and
lone backslashes are text, and BREAK breaks inside brackets too.

fixtures/prompts/cases.json             prompts
fixtures/prompts/embeds.safetensors     what the UNet is given for them; 5e-6 of the largest value, or
                                        ten times torch's own distance from f64
fixtures/prompts/images.json, *.png     pictures by diffusers from such embeddings and with
                                        clip_skip; mean 0.5/255, max 3/255
"""

from __future__ import annotations

import argparse
import random
import re
import shutil

import torch
from safetensors.torch import save_file

from parity_prompts import LONG_PROMPT, UNICODE_PROMPT
from record_parity import FIXTURES, load, write_json

OUT = FIXTURES / "prompts"
MODEL = "tiny-base"
BREAK = object()


def weighted_texts(prompt: str) -> list:
    """Pairs of text and weight, and BREAK between them."""
    # 1. Marks: (kind, text, number).
    pattern = re.compile(r"\\([()\[\]\\])|(\()|(\[)|:\s*([+-]?[.0-9]+)\s*(\))|(\))|(\])|([^\\()\[\]:]+|.)", re.S)
    marks = []
    for found in pattern.finditer(prompt):
        escaped, round_open, square_open, number, _, round_close, square_close, text = found.groups()
        if escaped:
            marks.append(["text", escaped])
        elif round_open or square_open:
            marks.append([found.group(), found.group()])
        elif number:
            marks.append([")", found.group(), float(number)])
        elif round_close:
            marks.append([")", ")", 1.1])
        elif square_close:
            marks.append(["]", "]", 1 / 1.1])
        else:
            marks.append(["text", text, "words"])
    # 2. Which brackets belong together; the others are text.
    weights = [1.0] * len(marks)
    waiting = {"(": [], "[": []}
    removed = set()
    for at, mark in enumerate(marks):
        if mark[0] in waiting:
            waiting[mark[0]].append(at)
        elif mark[0] in ")]":
            stack = waiting["(" if mark[0] == ")" else "["]
            if stack:
                start = stack.pop()
                removed |= {start, at}
                for inside in range(start, at):
                    weights[inside] *= mark[2]
    # 3. Texts of one weight joined, broken at BREAK.
    out: list = []
    for at, (mark, weight) in enumerate(zip(marks, weights)):
        if at in removed:
            continue
        pieces = re.split(r"\s*\bBREAK\b\s*", mark[1]) if mark[-1] == "words" else [mark[1]]
        for index, piece in enumerate(pieces):
            if index:
                out.append(BREAK)
            if not piece:
                continue
            if out and out[-1] is not BREAK and out[-1][1] == weight:
                out[-1] = (out[-1][0] + piece, weight)
            else:
                out.append((piece, weight))
    return out


def chunks_of(tokenizer, texts: list) -> list[tuple[list[int], list[float]]]:
    """Chunks of up to 75 ids with their weights."""
    comma = tokenizer.get_vocab()[",</w>"]
    chunks, ids, weights = [], [], []
    last_comma = None
    for text in texts:
        if text is BREAK:
            chunks.append((ids, weights))
            ids, weights, last_comma = [], [], None
            continue
        for token in tokenizer(text[0], add_special_tokens=False, truncation=False).input_ids:
            if token == comma:
                last_comma = len(ids)
            elif len(ids) == 75 and last_comma is not None and 75 - last_comma <= 20:
                cut = last_comma + 1
                chunks.append((ids[:cut], weights[:cut]))
                ids, weights, last_comma = ids[cut:], weights[cut:], None
            if len(ids) == 75:
                chunks.append((ids, weights))
                ids, weights, last_comma = [], [], None
            ids.append(token)
            weights.append(text[1])
    if ids or not chunks:
        chunks.append((ids, weights))
    return chunks


def encode_side(tokenizer, encoder, texts: list, count: int | None, skip: int):
    """Hidden states of all chunks side by side, and the first chunk's output."""
    chunks = chunks_of(tokenizer, texts)
    chunks += [([], [])] * ((count or 0) - len(chunks))
    states, first = [], None
    for ids, weights in chunks:
        framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
        framed += [tokenizer.pad_token_id] * (77 - len(framed))
        output = encoder(torch.tensor([framed]), output_hidden_states=True)
        first = output if first is None else first
        z = output.hidden_states[-(skip + 2)]
        if any(weight != 1 for weight in weights):
            multipliers = torch.tensor([1.0, *weights] + [1.0] * (76 - len(weights)), dtype=z.dtype)
            scaled = z * multipliers[None, :, None]
            z = scaled * (z.mean() / scaled.mean())
        states.append(z)
    return torch.cat(states, dim=1), first


def encode(pipe, prompt: str, count: int | None = None, skip: int = 0):
    texts = weighted_texts(prompt)
    sides = [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]
    count = max([count or 1] + [len(chunks_of(tokenizer, texts)) for tokenizer, _ in sides])
    hidden, pooled = [], None
    for tokenizer, encoder in sides:
        states, first = encode_side(tokenizer, encoder, texts, count, skip)
        hidden.append(states)
        pooled = getattr(first, "text_embeds", None)
    return torch.cat(hidden, dim=2), pooled, count


def encode_pair(pipe, prompt: str, negative: str | None, skip: int = 0):
    """As diffusers orders them, negative first; an absent negative prompt is zeros. As in diffusers
    too, only the prompt's layers are skipped."""
    embeds, pooled, count = encode(pipe, prompt, skip=skip)
    if negative is None:
        return torch.zeros_like(embeds), torch.zeros_like(pooled), embeds, pooled
    negative_embeds, negative_pooled, most = encode(pipe, negative, count)
    if most > count:
        embeds, pooled, _ = encode(pipe, prompt, most, skip)
    return negative_embeds, negative_pooled, embeds, pooled


LONG_TAGS = ", ".join(f"tag {i} of many" for i in range(30))
CASES = [
    dict(name="weight", prompt="a (red:1.5) circle"),
    dict(name="brackets", prompt="a (red) [circle] on ((blue)) [[ground]]"),
    dict(name="nested", prompt="a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."),
    dict(name="interleaved", prompt="(a [b) c] d (e:1.2)(f:1.2)"),
    dict(name="negative-weight", prompt="a (cat:-0.5) and a (dog:0)", negative="(blurry:1.4), [bad]"),
    dict(name="escapes", prompt=r"smile \(big\) \[x\] a\\b (really \(so\):1.3) c\d"),
    dict(name="unbalanced", prompt="a (b (c:1.3) :( ] d) [e"),
    dict(name="break", prompt="a red circle BREAK (blue:1.4) field BREAK grass", negative="bad"),
    dict(name="break-inside", prompt="(one BREAK two:1.6) BREAK", negative=""),
    dict(name="break-word", prompt="BREAKFAST at dawn, a_BREAK, break; BREAK"),
    dict(name="three-chunks", prompt=LONG_PROMPT, syntax="weighted"),
    dict(name="commas", prompt=f"(best:1.2), {LONG_TAGS}", negative="(worst:1.4)"),
    dict(name="no-comma", prompt="(word:1.1) " + "a " * 160),
    dict(name="long-negative", prompt="a (cat:1.1)", negative=LONG_PROMPT[:300]),
    dict(name="unicode", prompt=f"({UNICODE_PROMPT}:1.2), [日本の山], (🐱🚀:0.8)"),
    dict(name="marks", prompt="(wow!!!!:1.3) !!!! a<|endoftext|>b (c)"),
    dict(name="empty", prompt="()[]", negative="( )"),
    dict(name="plain-text", prompt="no weights here", negative="none here", syntax="weighted"),
    dict(name="skip", prompt="a (red:1.5) circle", negative="(blurry)", clip_skip=1),
    dict(name="skip-all", prompt="a red circle BREAK x", clip_skip=2),
]
IMAGES = [
    dict(name="weight", prompt="a (red:1.5) circle on a [blue] field"),
    dict(name="weight-negative", prompt="a ((red)) circle", negative="(blurry:1.4), [low quality]", seed=3),
    dict(name="break", prompt="a red circle BREAK (blue:1.3) field", negative="bad", width=72),
    dict(name="long", prompt=LONG_PROMPT, negative="(blurry:1.2)", guidance_scale=5.0),
    dict(name="long-negative", prompt="a (cat:1.2)", negative=LONG_PROMPT + " BREAK " + UNICODE_PROMPT, seed=8),
    dict(name="unguided", prompt=f"({UNICODE_PROMPT}:0.7) BREAK x", guidance_scale=1.0),
    dict(name="skip-1", prompt="a red circle", negative="blurry", clip_skip=1),
    dict(name="skip-2", prompt="a red circle on a blue field", clip_skip=2),
]


def random_prompt(generator: random.Random) -> str:
    words = ["a", "cat", "red", "dog,", "sky", ",", "BREAK", "(", ")", "[", "]", "(x:1.3)", ":0.8)", r"\(", r"\)",
             "\\\\", "\\", "naïve", "猫", "🐱", "!!", "it's", ":", "12", "(soft", "light:1.2)", "[dim]", "((sun))"]
    return " ".join(generator.choice(words) for _ in range(generator.choice([3, 8, 20, 60, 150, 260])))


def usable(prompt: str) -> bool:
    """Whether the engine takes it: weights up to 10."""
    return all(text is BREAK or abs(text[1]) <= 10 for text in weighted_texts(prompt))


def random_cases(count: int, seed: int) -> list[dict]:
    generator = random.Random(seed)
    cases = []
    while len(cases) < count:
        prompt = random_prompt(generator)
        negative = generator.choice([None, "", random_prompt(generator)])
        if not (usable(prompt) and usable(negative or "") and prompt.strip()):
            continue
        cases.append(dict(name=f"random-{len(cases)}", prompt=prompt, negative=negative, syntax="weighted",
                          clip_skip=generator.choice([0, 0, 1, 2])))
    return cases


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    pipe = load(FIXTURES / "models" / MODEL)
    tensors, recorded = {}, []
    for case in random_cases(args.random, args.seed) if args.random else CASES:
        case = dict(negative=None, syntax="auto", clip_skip=0) | case
        negative_embeds, negative_pooled, embeds, pooled = encode_pair(
            pipe, case["prompt"], case["negative"], case["clip_skip"]
        )
        if embeds.shape[1] > 16 * 77:
            continue
        tensors[f"{case['name']}/embeds"] = torch.cat([negative_embeds, embeds])
        # How far torch's own rounding moves them: a mean near zero is brought back less exactly.
        pipe.to(torch.float64)
        exact = torch.cat(encode_pair(pipe, case["prompt"], case["negative"], case["clip_skip"])[0::2])
        pipe.to(torch.float32)
        gap = (exact - tensors[f"{case['name']}/embeds"]).abs().max() / exact.abs().max()
        tensors[f"{case['name']}/rounding"] = gap.float().reshape(1)
        tensors[f"{case['name']}/pooled"] = torch.cat([negative_pooled, pooled])
        recorded.append(case)
        print(f"  {case['name']:20s} {embeds.shape[1] // 77} chunks, rounding {gap:.1e}")
    # The reference itself, where diffusers has one: without weights it is diffusers' encoding.
    theirs, _, _, _ = pipe.encode_prompt("a red circle", do_classifier_free_guidance=False, clip_skip=1)
    assert torch.equal(theirs, encode_pair(pipe, "a red circle", None, 1)[2])
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, OUT / "embeds.safetensors")
    write_json(OUT / "cases.json", recorded)

    images = []
    for case in IMAGES:
        case = dict(negative=None, width=64, height=64, seed=7, guidance_scale=7.5, steps=6, clip_skip=0) | case
        shared = dict(
            num_inference_steps=case["steps"], guidance_scale=case["guidance_scale"], width=case["width"],
            height=case["height"], generator=torch.Generator().manual_seed(case["seed"]),
        )
        if case["clip_skip"]:
            picture = pipe(
                case["prompt"], negative_prompt=case["negative"], clip_skip=case["clip_skip"], **shared
            ).images[0]
        else:
            negative_embeds, negative_pooled, embeds, pooled = encode_pair(pipe, case["prompt"], case["negative"])
            picture = pipe(
                prompt_embeds=embeds, pooled_prompt_embeds=pooled, negative_prompt_embeds=negative_embeds,
                negative_pooled_prompt_embeds=negative_pooled, **shared,
            ).images[0]
        picture.save(OUT / f"{case['name']}.png", optimize=True)
        images.append(case)
    write_json(OUT / "images.json", images)
    size = sum(file.stat().st_size for file in OUT.iterdir())
    print(f"{size / 1e6:.2f} MB")
    assert size < 2e6 or args.random


if __name__ == "__main__":
    main()
