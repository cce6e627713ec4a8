"""Learns the demo model's byte-level BPE vocabulary in CLIP's format and writes both tokenizer folders.

CLIP's own vocabulary has 49 408 entries; an embedding table of that size would outweigh the whole demo
model. This one keeps the format (256 byte symbols, the same ending a word `</w>`, merges, the two
special tokens last), so that any CLIP tokenizer reads `vocab.json` and `merges.txt`.
"""

import argparse
import collections
import json
import os
import random
import re

from transformers import CLIPTokenizer

import captions
import scenes

START, END = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """GPT-2's printable stand-in for each byte, in CLIP's vocabulary order."""
    order = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    symbols = {b: chr(b) for b in order}
    extra = 0
    for b in range(256):
        if b not in symbols:
            symbols[b] = chr(256 + extra)
            order.append(b)
            extra += 1
    return [symbols[b] for b in order], symbols


def word_counts(seed):
    """How often each word occurs in sampled captions, plus a plain list of English words."""
    rng = random.Random(seed)
    counts = collections.Counter()
    for _ in range(20000):
        text, _ = captions.caption(rng, scenes.sample_scene(rng))
        counts.update(re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower()))
    for word in captions.ENGLISH:
        counts[word] += 20
    return counts


def learn_merges(counts, most):
    """Up to `most` merges, most frequent pair first (ties by spelling), until every word is one symbol."""
    _, symbols = byte_symbols()
    words = {}
    for word, n in counts.items():
        parts = [symbols[b] for b in word.encode()]
        parts[-1] += "</w>"
        words[tuple(parts)] = words.get(tuple(parts), 0) + n
    merges = []
    while len(merges) < most:
        pairs = collections.Counter()
        for parts, n in words.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        merged = {}
        for parts, n in words.items():
            out, i = [], 0
            while i < len(parts):
                if parts[i : i + 2] == best:
                    out.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    out.append(parts[i])
                    i += 1
            merged[tuple(out)] = merged.get(tuple(out), 0) + n
        words = merged
    return merges


def write(folder, vocab, merges, pad):
    """A CLIP tokenizer folder that pads with `pad`, with both the slow and the fast tokenizer's files."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump(vocab, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = CLIPTokenizer(vocab=os.path.join(folder, "vocab.json"), merges=os.path.join(folder, "merges.txt"),
                              pad_token=pad, unk_token=END, bos_token=START, eos_token=END, model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer


def main():
    """Learn, write, and show how some prompts are split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    parser.add_argument("--merges", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    merges = learn_merges(word_counts(args.seed), args.merges)
    symbols, _ = byte_symbols()
    entries = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in merges] + [START, END]
    entries = list(dict.fromkeys(entries))
    vocab = {entry: i for i, entry in enumerate(entries)}
    first = write(os.path.join(args.work, "tokenizer"), vocab, merges, END)
    second = write(os.path.join(args.work, "tokenizer_2"), vocab, merges, "!")
    print(len(vocab), "entries")
    for text in ("A red circle on a blue background.", "the TOP-LEFT corner", "a xylophone, naïve café 猫", ""):
        print(first.tokenize(text), first(text).input_ids, second(text, padding="max_length").input_ids[-2:])


if __name__ == "__main__":
    main()
