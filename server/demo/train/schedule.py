"""Training to a time budget: learning rate by elapsed share, weight averaging, checkpoints, one log."""

import copy
import csv
import math
import os
import time

import torch


class Clock:
    """Elapsed share of a budget in minutes; counts time already used by a run that is resumed."""

    def __init__(self, minutes, used_seconds=0.0):
        self.budget = minutes * 60.0
        self.start = time.time() - used_seconds

    def seconds(self):
        """Seconds of training so far."""
        return time.time() - self.start

    def share(self):
        """Elapsed share of the budget, 0 to 1."""
        return min(1.0, self.seconds() / self.budget)

    def done(self):
        """Whether the budget is used up."""
        return self.seconds() >= self.budget


def learning_rate(peak, share, step, warmup=100, floor=0.01):
    """Linear warm-up over `warmup` steps, then a cosine over the budget's elapsed `share`."""
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
    return peak * min(1.0, (step + 1) / warmup) * cosine


class Average:
    """Exponential moving average of a module's weights, with a decay that grows as training goes on."""

    def __init__(self, module, decay):
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, module):
        """Move the average towards the module's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = list(zip(self.module.parameters(), module.parameters()))
        torch._foreach_lerp_([a for a, _ in pairs], [b.detach() for _, b in pairs], 1 - decay)


def save_atomically(state, path):
    """torch.save through a rename, so that a reader never sees half a file."""
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


class Log:
    """Appends rows `stage, step, seconds, learning rate, loss, note` to a CSV file."""

    def __init__(self, path, stage):
        self.path, self.stage = path, stage
        if not os.path.exists(path):
            with open(path, "w", newline="") as f:
                csv.writer(f).writerow(["stage", "step", "seconds", "learning_rate", "loss", "note"])

    def row(self, step, seconds, rate, loss, note=""):
        """Write one row and print it."""
        row = [self.stage, step, f"{seconds:.0f}", f"{rate:.2e}", f"{loss:.5f}", note]
        with open(self.path, "a", newline="") as f:
            csv.writer(f).writerow(row)
        print(*row, flush=True)
