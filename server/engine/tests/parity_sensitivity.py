"""Proof that the recorded pictures can tell right from wrong.

Each entry of `mistakes` breaks one thing in diffusers that an SDXL implementation can get wrong.
`check` asserts that each moves the picture far beyond the tolerance of the parity suite, and that
rounding (f32 against f64) does not: so a passing suite means the thing is right.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU

# The bar of the Rust suite, in steps of 1/255.
MEAN_TOLERANCE, MAX_TOLERANCE = 0.5, 3.0


@contextlib.contextmanager
def replaced(owner, name, value):
    """Sets `owner.name` for the length of a `with` block."""
    missing = name not in vars(owner) and name not in vars(owner).get("_modules", ())
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield before
    finally:
        if missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


class Activation(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


ERF = Activation(F.gelu)
TANH = Activation(lambda x: F.gelu(x, approximate="tanh"))
QUICK = Activation(lambda x: x * torch.sigmoid(1.702 * x))


@contextlib.contextmanager
def text_activation(encoder, activation):
    with contextlib.ExitStack() as stack:
        for module in encoder.modules():
            if type(module).__name__ == "CLIPMLP":
                stack.enter_context(replaced(module, "activation_fn", activation))
        yield


def hooked(module, change):
    """A context in which `module`'s output goes through `change`."""

    @contextlib.contextmanager
    def context():
        handle = module.register_forward_hook(lambda _m, _i, output: change(output))
        try:
            yield
        finally:
            handle.remove()

    return context()


def configured(pipe_or_part, **values):
    """A context in which a config has other values."""

    @contextlib.contextmanager
    def context():
        before = {key: pipe_or_part.config[key] for key in values}
        pipe_or_part.register_to_config(**values)
        try:
            yield
        finally:
            pipe_or_part.register_to_config(**before)

    return context()


def mistakes(pipe):
    """(name, context in which the pipeline makes that mistake)."""
    unet, encoder, encoder_2 = pipe.unet, pipe.text_encoder, pipe.text_encoder_2
    time_ids, pooled_dim = pipe._get_add_time_ids, encoder_2.config.projection_dim

    def reordered(order):
        return lambda *args, **kwargs: time_ids(*args, **kwargs)[:, order]

    def with_pooled(change):
        forward = unet.add_embedding.forward
        return replaced(
            unet.add_embedding,
            "forward",
            lambda x: forward(torch.cat([change(x[:, :pooled_dim]), x[:, pooled_dim:]], 1)),
        )

    def last_layer(output):
        output.hidden_states = (*output.hidden_states[:-2], output.hidden_states[-1], output.hidden_states[-1])
        return output

    def swapped_halves(output):
        output.hidden_states = (*output.hidden_states[:-2], output.hidden_states[-2].flip(-1), output.hidden_states[-1])
        return output

    yield "add_embedding dropped", hooked(unet.add_embedding, torch.zeros_like)
    yield "size conditioning dropped", replaced(pipe, "_get_add_time_ids", lambda *a, **k: time_ids(*a, **k) * 0)
    yield "width before height", replaced(pipe, "_get_add_time_ids", reordered([1, 0, 2, 3, 5, 4]))
    yield "target size before crop", replaced(pipe, "_get_add_time_ids", reordered([0, 1, 4, 5, 2, 3]))
    yield "empty negative encoded, not zeroed", configured(pipe, force_zeros_for_empty_prompt=False)
    yield "pooled projection dropped", with_pooled(torch.zeros_like)
    yield "negative pooled not zeroed", with_pooled(lambda x: x[-1:].expand_as(x))
    yield "encoder 1 with exact gelu", text_activation(encoder, ERF)
    yield "encoder 2 with quick_gelu", text_activation(encoder_2, QUICK)
    yield "encoder 2 with tanh gelu", text_activation(encoder_2, TANH)
    yield "GEGLU with tanh gelu", replaced(GEGLU, "gelu", lambda _self, gate: TANH(gate))
    yield "encoder 1: last layer", hooked(encoder, last_layer)
    yield "encoder 2: last layer", hooked(encoder_2, last_layer)
    yield "embedding channels in another order", hooked(encoder_2, swapped_halves)
    yield "tokenizer 2 pads with the end mark", replaced(pipe, "tokenizer_2", pipe.tokenizer)
    yield "another VAE scale", configured(pipe.vae, scaling_factor=0.18215)
    yield "trailing timesteps", configured(pipe.scheduler, timestep_spacing="trailing")
    yield "no steps offset", configured(pipe.scheduler, steps_offset=0)


def difference(image: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Mean and largest difference in steps of 1/255; both images in [0, 1]."""
    gap = np.abs(image - reference) * 255
    return float(gap.mean()), float(gap.max())


def check(pipe, run, requests: list[dict]) -> dict[str, list[float]]:
    """Asserts that every mistake shows in at least one of the recorded pictures of `requests`.

    `run(pipe, request)` gives a picture as floats in [0, 1]. A mistake shows when it moves the mean
    by twice and some pixel by three times the tolerance: the suite then fails without doubt. Most
    move it by 20 to 60 times. Returns the largest mean and maximum of each.
    """
    references = [run(pipe, request) for request in requests]
    measured = {}
    for name, mistake in mistakes(pipe):
        with mistake:
            gaps = [difference(run(pipe, request), good) for request, good in zip(requests, references)]
        shows = any(mean > 2 * MEAN_TOLERANCE and worst > 3 * MAX_TOLERANCE for mean, worst in gaps)
        measured[name] = [round(mean, 2) for mean, _ in gaps]
        print(f"  {name:40s} mean " + " ".join(f"{mean:6.2f}" for mean, _ in gaps), flush=True)
        assert shows, f"no picture shows: {name}"
    for request, good in zip(requests, references):
        assert difference(run(pipe, request), good) == (0.0, 0.0), "a mistake was not undone"
    return measured
