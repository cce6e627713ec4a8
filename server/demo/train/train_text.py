"""Pre-trains the two small CLIP text encoders to understand scene captions.

Stock SDXL's encoders come pre-trained by contrast with images; here the exact facts behind each
caption are known, so the encoders learn to let a few attention queries (what the UNet's cross
attention can do too) read those facts from `hidden_states[-2]` of both, and a linear layer read them
from the pooled output. The reading heads are thrown away afterwards.
"""

import argparse
import os
import random

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import captions
import scenes
from schedule import Average, Clock, Log, learning_rate, save_atomically

LENGTH = 77


def configs(vocabulary, eos, bos, bang):
    """The two encoders' configurations, in SDXL's proportions: quick_gelu first, gelu with projection second."""
    shared = dict(vocab_size=vocabulary, max_position_embeddings=LENGTH, eos_token_id=eos, bos_token_id=bos)
    first = CLIPTextConfig(hidden_size=96, intermediate_size=384, num_hidden_layers=4, num_attention_heads=3,
                           hidden_act="quick_gelu", projection_dim=96, pad_token_id=eos, **shared)
    second = CLIPTextConfig(hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=2,
                            hidden_act="gelu", projection_dim=128, pad_token_id=bang, **shared)
    return first, second


class Encoders(torch.nn.Module):
    """Both text encoders and what SDXL takes from them."""

    def __init__(self, work):
        super().__init__()
        self.tokenizer = CLIPTokenizer.from_pretrained(os.path.join(work, "tokenizer"))
        vocab = self.tokenizer.get_vocab()
        self.eos, self.bos, self.bang = self.tokenizer.eos_token_id, self.tokenizer.bos_token_id, vocab["!"]
        first, second = configs(len(vocab), self.eos, self.bos, self.bang)
        self.one, self.two = CLIPTextModel(first), CLIPTextModelWithProjection(second)

    def ids(self, texts):
        """Token ids for both encoders, (count, 77) each: padded with the end token and with "!"."""
        rows = self.tokenizer(list(texts), truncation=True, max_length=LENGTH).input_ids
        a = torch.full((len(rows), LENGTH), self.eos)
        b = torch.full((len(rows), LENGTH), self.bang)
        for i, row in enumerate(rows):
            a[i, : len(row)] = b[i, : len(row)] = torch.tensor(row)
        return a, b

    def forward(self, ids_one, ids_two):
        """(hidden states (count, 77, 224), pooled (count, 128)), as StableDiffusionXLPipeline computes them."""
        one = self.one(ids_one, output_hidden_states=True)
        two = self.two(ids_two, output_hidden_states=True)
        return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds


class Readers(torch.nn.Module):
    """Heads that read every fact: attention queries over the hidden states, a linear layer over the pooled output."""

    def __init__(self, width, pooled):
        super().__init__()
        sizes = [len(values) for values in captions.FACTS.values()]
        self.query = torch.nn.Parameter(torch.randn(len(sizes), 64) * 0.5)
        self.key, self.value = torch.nn.Linear(width, 64), torch.nn.Linear(width, 96)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(96, n) for n in sizes)
        self.pooled = torch.nn.ModuleList(torch.nn.Linear(pooled, n) for n in sizes)

    def forward(self, hidden, pooled):
        """Two lists of logits, one tensor per fact."""
        weights = torch.softmax(torch.einsum("qd,btd->bqt", self.query, self.key(hidden)) / 8, -1)
        read = weights @ self.value(hidden)
        return [h(read[:, i]) for i, h in enumerate(self.heads)], [h(pooled) for h in self.pooled]


def batch(rng, encoders, count):
    """Captions' token ids and fact labels (count, facts)."""
    texts, labels = [], []
    for _ in range(count):
        if rng.random() < 0.01:
            text, facts = "", captions.no_facts()
        else:
            scene = scenes.sample_scene(rng, pair_share=0.55)
            text, facts = captions.caption(rng, scene)
        texts.append(text)
        labels.append([captions.FACTS[name].index(value) for name, value in facts.items()])
    return encoders.ids(texts), torch.tensor(labels)


def main():
    """Train to a time budget; save the averaged encoders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    encoders = Encoders(args.work)
    readers = Readers(224, 128)
    average, average_readers = Average(encoders, 0.999), Average(readers, 0.999)
    peak = 1.5e-3
    optimiser = torch.optim.AdamW([*encoders.parameters(), *readers.parameters()], lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    clock, log = Clock(args.minutes), Log(os.path.join(args.work, "log.csv"), "text")
    losses, step = [], 0
    while not clock.done():
        (one, two), labels = batch(rng, encoders, args.batch)
        rate = learning_rate(peak, clock.share(), step, warmup=200)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            read, pooled = readers(*encoders(one, two))
        loss = sum(F.cross_entropy(r.float(), labels[:, i]) + 0.5 * F.cross_entropy(p.float(), labels[:, i])
                   for i, (r, p) in enumerate(zip(read, pooled))) / labels.shape[1]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoders.parameters(), 1.0)
        optimiser.step()
        average.update(encoders)
        average_readers.update(readers)
        losses.append(loss.item())
        step += 1
        if step % 200 == 0 or clock.done():
            with torch.no_grad():
                (one, two), labels = batch(random.Random(step), encoders, 256)
                read, pooled = average_readers.module(*average.module(one, two))
                right = torch.stack([r.argmax(-1) == labels[:, i] for i, r in enumerate(read)])
                right_pooled = torch.stack([r.argmax(-1) == labels[:, i] for i, r in enumerate(pooled)])
            note = f"all facts {right.all(0).float().mean():.3f} pooled {right_pooled.all(0).float().mean():.3f}"
            log.row(step, clock.seconds(), rate, float(np.mean(losses[-200:])), note)
            save_atomically(dict(average=average.module.state_dict(), readers=average_readers.module.state_dict(), step=step),
                            os.path.join(args.work, "text.pt"))


if __name__ == "__main__":
    main()
