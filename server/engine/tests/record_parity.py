#!/usr/bin/env python3
"""Records what diffusers computes, for the parity suite in tests/parity/.

    pip install -r requirements.txt
    python record_parity.py            # rewrites fixtures/

Everything is seeded and computed on a CPU in f32. What is written, and how the Rust side
compares it:

../assets/clip_merges.txt         CLIP's merges; its whole vocabulary follows from them
fixtures/clip_tokens.json         prompts and their ids by SDXL's two tokenizers; compared exactly
fixtures/randn.safetensors        torch.randn streams; compared bit for bit
fixtures/schedules.{json,safetensors}  timesteps, sigmas and Euler steps; relative 1e-5
fixtures/models/*                 pipelines as save_pretrained writes them
fixtures/numbers/*.safetensors    ids, hidden states, pooled, one UNet forward with its parts, one VAE
                                  decode; largest difference 5e-6 of the largest value, and for the
                                  UNet's parts ten times torch's own distance from f64
fixtures/images.json, images/*    requests and their PNGs; mean 0.5/255, max 3/255
fixtures/sensitivity.json         how far each mistake in parity_sensitivity.py moves a picture
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline  # noqa: E402
from diffusers.utils import logging as diffusers_logging  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

import parity_models as models  # noqa: E402
import parity_sensitivity as sensitivity  # noqa: E402
from parity_prompts import LONG_PROMPT, PROMPTS, UNICODE_PROMPT  # noqa: E402
from parity_sensitivity import MAX_TOLERANCE, MEAN_TOLERANCE  # noqa: E402

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"
PROMPT = "a red circle on a blue field"

torch.set_num_threads(1)  # the order of additions, and so the last bit, is then always the same
torch.set_grad_enabled(False)
diffusers_logging.set_verbosity_error()
diffusers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def real_merges() -> list[str]:
    """CLIP's 48 894 merges, from the vocabulary file inside the open_clip package."""
    spec = importlib.util.find_spec("open_clip")
    assert spec and spec.submodule_search_locations, "pip install --no-deps open_clip_torch"
    path = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    return lines[1 : 49152 - 256 - 2 + 1]


def write_json(path: Path, value) -> None:
    """Objects indented, arrays of numbers on one line: diffs stay readable and files small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, list):
        lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    else:
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- tokens -----------------------------------------------------------------------------------


def token_rows(tokenizer, prompts: list[str]) -> list[list[int]]:
    inputs = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    return inputs.input_ids.tolist()


def record_tokens(merges: list[str], scratch: Path) -> None:
    """Real vocabulary, both of SDXL's pad conventions, every nasty prompt."""
    (HERE.parent / "assets/clip_merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    vocabulary = models.clip_vocabulary(merges)
    assert vocabulary["!"] == 0 and vocabulary[models.BOS] == 49406 and vocabulary[models.EOS] == 49407
    load = lambda name, pad: models.write_tokenizer(  # noqa: E731
        scratch / name, vocabulary, merges, pad=pad, layout="vocab"
    )
    tokenizer, tokenizer_2 = load("tokenizer", models.EOS), load("tokenizer_2", "!")
    rows, rows_2 = token_rows(tokenizer, PROMPTS), token_rows(tokenizer_2, PROMPTS)
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407], "not CLIP's ids"
    assert rows != rows_2
    # The JSON files around the vocabulary, as SDXL's folders have them; the test adds the rest.
    for name in ("tokenizer", "tokenizer_2"):
        for file in ("tokenizer_config.json", "special_tokens_map.json"):
            target = FIXTURES / "clip" / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(scratch / name / file, target)
        # What transformers 5 saves, less the vocabulary and merges, which the test fills in.
        load(name, models.EOS if name == "tokenizer" else "!").save_pretrained(scratch / f"{name}_saved")
        saved = json.loads((scratch / f"{name}_saved/tokenizer.json").read_text(encoding="utf-8"))
        saved["model"]["vocab"], saved["model"]["merges"] = {}, []
        write_json(FIXTURES / "clip" / f"{name}_json" / "tokenizer.json", saved)
        shutil.copy(scratch / f"{name}_saved/tokenizer_config.json", FIXTURES / "clip" / f"{name}_json")
    write_json(
        FIXTURES / "clip_tokens.json",
        [{"prompt": p, "ids": a, "ids_2": b} for p, a, b in zip(PROMPTS, rows, rows_2)],
    )


# --- noise ------------------------------------------------------------------------------------

SEEDS = [0, 1, 42, 2**32 - 1, 2**32 + 1, 2**63 - 1, 2**64 - 1]
LENGTHS = [1, 2, 5, 15, 16, 17, 31, 32, 33, 64, 100, 623, 624, 625, 4 * 16 * 16, 4 * 13 * 11]


def record_randn() -> None:
    """`torch.randn` for seeds and lengths on both sides of its 16-element vectorised path."""
    tensors = {}
    for seed in SEEDS:
        for length in LENGTHS:
            tensors[f"{seed}/{length}"] = torch.randn(length, generator=torch.Generator().manual_seed(seed))
        # One generator asked again and again: the scalar path keeps half of each pair for later.
        generator = torch.Generator().manual_seed(seed)
        for index, length in enumerate([5, 5, 16, 3, 40, 1, 17]):
            tensors[f"{seed}/sequence/{index}"] = torch.randn(length, generator=generator)
    tensors["shape"] = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(42))
    save_file(tensors, FIXTURES / "randn.safetensors")


# --- schedules --------------------------------------------------------------------------------

SCHEDULES = {
    "sdxl": {},
    "sdxl-trailing": {"timestep_spacing": "trailing"},
    "sdxl-linspace": {"timestep_spacing": "linspace"},
    "no-offset": {"steps_offset": 0},
    "karras": {"use_karras_sigmas": True},
    "karras-trailing": {"use_karras_sigmas": True, "timestep_spacing": "trailing"},
    "karras-range": {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 9.0},
    "exponential": {"use_exponential_sigmas": True},
    "exponential-linspace": {"use_exponential_sigmas": True, "timestep_spacing": "linspace"},
    "beta": {"use_beta_sigmas": True},
    "beta-trailing": {"use_beta_sigmas": True, "timestep_spacing": "trailing"},
    "v": {"prediction_type": "v_prediction"},
    "v-zero-snr": {
        "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
    },
    "zero-snr-linspace": {"rescale_betas_zero_snr": True, "timestep_spacing": "linspace"},
    "zero-snr-karras": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "use_karras_sigmas": True},
    "sample": {"prediction_type": "sample"},
    "sigma-min-last": {"final_sigmas_type": "sigma_min"},
    "sigma-min-last-karras": {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True},
    "log-linear": {"interpolation_type": "log_linear"},
    "linear-betas": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "cosine-betas": {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"},
    "trained-betas": {"trained_betas": [0.001 + 0.0003 * i for i in range(50)], "num_train_timesteps": 50},
    "short-training": {"num_train_timesteps": 100, "timestep_spacing": "trailing"},
    "continuous-v": {
        "timestep_type": "continuous", "prediction_type": "v_prediction",
        "use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0,
    },
}
STEP_COUNTS = [1, 2, 3, 4, 6, 7, 9, 20, 25, 28, 30, 47, 50]


def record_schedules() -> None:
    """Timesteps, sigmas and first noise scale for a table of configs; three Euler steps for each."""
    tensors, table = {}, []
    for name, changes in SCHEDULES.items():
        config = {**models.SDXL_SCHEDULER, **changes}
        counts = STEP_COUNTS + ([999, 1000] if name in ("sdxl", "sdxl-trailing", "sdxl-linspace") else [])
        if config["num_train_timesteps"] < 100:
            counts = [c for c in counts if c <= config["num_train_timesteps"]]
        recorded = []
        for steps in counts:
            scheduler = EulerDiscreteScheduler(**config)
            try:
                scheduler.set_timesteps(steps)
            except (ValueError, IndexError, RuntimeError) as error:
                print(f"  {name}/{steps}: diffusers refuses: {error}")
                continue
            assert torch.isfinite(scheduler.sigmas).all(), (name, steps)
            tensors[f"{name}/{steps}/timesteps"] = scheduler.timesteps.float()
            # log_linear alone leaves one sigma more, which no step reads.
            tensors[f"{name}/{steps}/sigmas"] = scheduler.sigmas[: len(scheduler.timesteps) + 1].float()
            tensors[f"{name}/{steps}/init_noise_sigma"] = torch.as_tensor(scheduler.init_noise_sigma).float().reshape(1)
            recorded.append(steps)
        scheduler = EulerDiscreteScheduler(**config)
        scheduler.set_timesteps(3)
        generator = torch.Generator().manual_seed(5)
        draw = lambda: torch.randn(1, 4, 3, 5, generator=generator)  # noqa: E731
        sample = draw() * scheduler.init_noise_sigma
        tensors[f"{name}/step/sample"] = sample
        for index, t in enumerate(scheduler.timesteps):
            output = draw()
            tensors[f"{name}/step/{index}/scaled"] = scheduler.scale_model_input(sample, t)
            tensors[f"{name}/step/{index}/output"] = output
            sample = scheduler.step(output, t, sample, return_dict=False)[0]
            tensors[f"{name}/step/{index}/sample"] = sample
        saved = {"_class_name": "EulerDiscreteScheduler", **{k: v for k, v in dict(scheduler.config).items() if k[0] != "_"}}
        table.append({"name": name, "steps": recorded, "config": saved})
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, FIXTURES / "schedules.safetensors")
    write_json(FIXTURES / "schedules.json", table)


# --- models -----------------------------------------------------------------------------------


def half_precision_folder(pipe, folder: Path) -> None:
    """A pipeline stored as f16 under `variant="fp16"`, with the tensor names of older files.

    Text encoder 1's tensors are prefixed with `text_model.` and hold the `position_ids` buffer that
    older releases stored: such folders are the most common ones, and transformers still loads them.
    """
    pipe.to(torch.float16).save_pretrained(folder, variant="fp16")
    path = folder / "text_encoder/model.fp16.safetensors"
    tensors = {
        key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in load_file(path).items()
    }
    tensors["text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)
    save_file(tensors, path, metadata={"format": "pt"})


def sharded_folder(pipe, folder: Path) -> None:
    """A pipeline stored as bf16 in shards with an index, text encoders too."""
    pipe.to(torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")
    assert (folder / "unet/diffusion_pytorch_model.safetensors.index.json").exists()
    assert (folder / "text_encoder_2/model.safetensors.index.json").exists()


def load(folder: Path, **kwargs) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False, **kwargs)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.unet.dtype == pipe.vae.dtype == pipe.text_encoder.dtype == torch.float32
    return pipe


def build_models(merges: list[str], scratch: Path) -> dict[str, dict]:
    """Writes every folder. Returns how each is loaded back."""
    shutil.rmtree(FIXTURES / "models", ignore_errors=True)
    few = models.small_merges(merges, 62)
    folders = FIXTURES / "models"
    for name, recipe in [
        ("tiny-base", models.TINY_BASE),
        ("tiny-fp16", models.TINY_HALF),
        ("tiny-bf16-sharded", models.TINY_HALF),
        ("odd-two-levels", models.ODD_TWO_LEVELS),
        ("odd-eight-channels", models.ODD_EIGHT_CHANNELS),
        ("odd-distilled", models.ODD_DISTILLED),
    ]:
        pipe = models.build_pipeline(scratch / name, merges=few, **recipe)
        if name == "tiny-fp16":
            half_precision_folder(pipe, folders / name)
            continue
        if name == "tiny-bf16-sharded":
            sharded_folder(pipe, folders / name)
            continue
        if name.startswith("odd"):
            pipe = pipe.to(torch.float16)  # half the bytes; tiny-base holds the f32 case
        pipe.save_pretrained(folders / name)
        if recipe.get("tokenizer_layout", "vocab") == "vocab":
            # SDXL's own layout: vocab.json and merges.txt, no tokenizer.json.
            for part in ("tokenizer", "tokenizer_2"):
                shutil.rmtree(folders / name / part)
                shutil.copytree(scratch / name / part, folders / name / part)
        else:
            assert not (folders / name / "tokenizer/vocab.json").exists()
    for file in folders.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    return {
        path.name: ({"variant": "fp16"} if path.name == "tiny-fp16" else {}) for path in sorted(folders.iterdir())
    }


def unet_parts(unet, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What each part of the UNet gives in one forward pass, and its output."""
    parts = {}
    keep = lambda key: lambda _m, _i, out: parts.__setitem__(key, out[0] if isinstance(out, tuple) else out)  # noqa: E731
    watched = {key: getattr(unet, key) for key in ("time_embedding", "add_embedding", "conv_in", "mid_block")}
    watched |= {f"down_blocks.{i}": block for i, block in enumerate(unet.down_blocks)}
    watched |= {f"up_blocks.{i}": block for i, block in enumerate(unet.up_blocks)}
    handles = [module.register_forward_hook(keep(key)) for key, module in watched.items()]
    parts["output"] = unet(
        inputs["sample"],
        inputs["timestep"][0],
        encoder_hidden_states=inputs["encoder_hidden_states"],
        timestep_cond=inputs.get("timestep_cond"),
        added_cond_kwargs={key: inputs[key] for key in ("text_embeds", "time_ids")},
    ).sample
    for handle in handles:
        handle.remove()
    return parts


def record_numbers(name: str, pipe) -> None:
    """Ids, hidden states, pooled, prompt embeddings, one UNet forward with its parts, one decode."""
    tensors = {}
    prompts = [PROMPT, UNICODE_PROMPT, LONG_PROMPT, "", "wow!! a <|endoftext|> in the middle!"]
    if name != "tiny-base":
        prompts = [prompts[0], prompts[-1]]
    for part, tokenizer, encoder in (
        ("1", pipe.tokenizer, pipe.text_encoder),
        ("2", pipe.tokenizer_2, pipe.text_encoder_2),
    ):
        ids = torch.tensor(token_rows(tokenizer, prompts))
        output = encoder(ids, output_hidden_states=True)
        tensors[f"ids_{part}"] = ids
        tensors[f"hidden_{part}"] = output.hidden_states[-2]
    tensors["pooled"] = output.text_embeds
    with sensitivity.configured(pipe, force_zeros_for_empty_prompt=True):
        positive, negative, positive_pooled, negative_pooled = pipe.encode_prompt(PROMPT)
    assert not negative.any() and not negative_pooled.any()
    torch.testing.assert_close(positive, torch.cat([tensors["hidden_1"], tensors["hidden_2"]], dim=-1)[:1])
    torch.testing.assert_close(positive_pooled, tensors["pooled"][:1])
    with sensitivity.configured(pipe, force_zeros_for_empty_prompt=False):
        _, tensors["encoded_negative"], _, tensors["encoded_negative_pooled"] = pipe.encode_prompt(PROMPT)

    generator = torch.Generator().manual_seed(77)
    channels = pipe.unet.config.in_channels
    sample = torch.randn(2, channels, 6, 10, generator=generator)
    time_ids = torch.tensor([[80.0, 112.0, 0.0, 8.0, 96.0, 64.0], [72.0, 56.0, 16.0, 0.0, 80.0, 112.0]])
    embeds = torch.cat([tensors["hidden_1"][:2], tensors["hidden_2"][:2]], dim=-1)
    inputs = {"sample": sample, "timestep": torch.tensor([601.25]), "time_ids": time_ids}
    inputs |= {"encoder_hidden_states": embeds, "text_embeds": tensors["pooled"][:2]}
    if (dim := pipe.unet.config.time_cond_proj_dim) is not None:
        inputs["timestep_cond"] = pipe.get_guidance_scale_embedding(torch.tensor([6.5, 6.5]), embedding_dim=dim)
    parts = unet_parts(pipe.unet, inputs)
    exact = unet_parts(pipe.unet.to(torch.float64), {key: value.double() for key, value in inputs.items()})
    pipe.unet.to(torch.float32)
    for key, value in parts.items():
        tensors[f"unet/{key}"] = value
        # How far torch's own f32 rounding is from f64, of the largest value: the test's yardstick.
        tensors[f"rounding/{key}"] = (value - exact[key]).abs().max().float() / value.abs().max()
    tensors |= {f"unet/{key}": value for key, value in inputs.items()}

    latents = torch.randn(1, pipe.vae.config.latent_channels, 4, 5, generator=generator) * 8
    tensors["vae/latents"] = latents  # as the decoder takes them: already unscaled
    tensors["vae/image"] = pipe.vae.decode(latents).sample
    (FIXTURES / "numbers").mkdir(exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, FIXTURES / "numbers" / f"{name}.safetensors")


# --- whole images -----------------------------------------------------------------------------


def case(name, model="tiny-base", **changes) -> dict:
    """One request. `overrides` replaces keys of JSON files in a copy of the folder."""
    request = dict(
        name=name, model=model, prompt=PROMPT, negative_prompt=None, num_inference_steps=6,
        guidance_scale=7.5, width=64, height=64, seed=7, overrides={},
    )
    assert not set(changes) - set(request), changes
    return {**request, **changes}


def scheduler(**changes) -> dict:
    return {"scheduler/scheduler_config.json": changes}


CASES = [
    case("plain"),
    case("negative", negative_prompt="blurry, low quality"),
    case("negative-empty", negative_prompt=""),
    case("negative-long-unicode", negative_prompt=UNICODE_PROMPT + LONG_PROMPT),
    case("not-zeroed", overrides={"model_index.json": {"force_zeros_for_empty_prompt": False}}),
    case("guidance-1", guidance_scale=1.0),
    case("guidance-1-negative", guidance_scale=1.0, negative_prompt="ignored"),
    case("guidance-0", guidance_scale=0.0),
    case("guidance-1.5", guidance_scale=1.5),
    case("guidance-12", guidance_scale=12.0, seed=12),
    case("wide", width=104, height=56),
    case("tall", width=40, height=96, negative_prompt="wide", guidance_scale=5.0, seed=8),
    case("smallest", width=8, height=8),
    case("long", prompt=LONG_PROMPT),
    case("unicode", prompt=UNICODE_PROMPT, guidance_scale=5.0),
    case("unicode-13", prompt=UNICODE_PROMPT, num_inference_steps=13, guidance_scale=4.0),
    case("marks", prompt="WOW!!! it's <|endoftext|> 100% done &amp; dusted!"),
    case("seed-0", seed=0),
    case("seed-2^32+7", seed=2**32 + 7, prompt="two squares"),
    case("seed-max", seed=2**64 - 1),
    case("steps-1", num_inference_steps=1),
    case("steps-2", num_inference_steps=2),
    case("steps-13", num_inference_steps=13, guidance_scale=4.0),
    case("steps-30", num_inference_steps=30, guidance_scale=3.0, seed=3),
    case("trailing", overrides=scheduler(timestep_spacing="trailing")),
    case("linspace", overrides=scheduler(timestep_spacing="linspace")),
    case("karras", overrides=scheduler(use_karras_sigmas=True)),
    case("exponential", overrides=scheduler(use_exponential_sigmas=True)),
    case("beta", guidance_scale=3.0, overrides=scheduler(use_beta_sigmas=True)),
    case("sigma-min", overrides=scheduler(final_sigmas_type="sigma_min")),
    case("v-prediction", guidance_scale=3.0, overrides=scheduler(prediction_type="v_prediction")),
    case(
        "v-zero-snr", guidance_scale=1.5, num_inference_steps=3, overrides=scheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
    ),
    case("sample-prediction", guidance_scale=1.5, num_inference_steps=3, overrides=scheduler(prediction_type="sample")),
    # Small steps and guidance above: the other prediction types turn rounding into chaos sooner.
    case("vae-stats", overrides={"vae/config.json": {
        "latents_mean": [0.4, -0.8, 1.2, 0.1], "latents_std": [0.9, 1.4, 0.7, 1.1]}}),
]
for _model in ("tiny-fp16", "tiny-bf16-sharded"):
    CASES += [
        case(f"{_model}-plain", _model),
        case(f"{_model}-negative", _model, negative_prompt="blurry", seed=42, width=72),
    ]
for _model, _guidance in (("odd-two-levels", 7.5), ("odd-eight-channels", 3.0), ("odd-distilled", 6.0)):
    _shared = dict(model=_model, guidance_scale=_guidance)
    CASES += [
        case(f"{_model}-plain", **_shared),
        case(f"{_model}-negative", **_shared, negative_prompt="blurry", width=56, height=88),
        case(f"{_model}-guidance-1", _model, guidance_scale=1.0, seed=2),
        case(f"{_model}-long", **_shared, prompt=LONG_PROMPT, seed=8),
        case(f"{_model}-marks", **_shared, prompt="a cat!! <|endoftext|> a dog", seed=5),
    ]


def apply_overrides(folder: Path, request: dict, scratch: Path) -> Path:
    """A copy of the model's folder with the request's JSON keys replaced."""
    if not request["overrides"]:
        return folder
    copy = scratch / "override"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    for file, changes in request["overrides"].items():
        config = json.loads((copy / file).read_text())
        config.update(changes)
        (copy / file).write_text(json.dumps(config))
    return copy


def run(pipe, request: dict, **kwargs) -> np.ndarray:
    """The picture as floats in [0, 1], shape (height, width, 3)."""
    keys = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "width", "height")
    if "latents" not in kwargs:
        kwargs["generator"] = torch.Generator("cpu").manual_seed(request["seed"])
    return pipe(**{k: request[k] for k in keys}, output_type="np", **kwargs).images[0]


def rounding_noise(pipe, request: dict, picture: np.ndarray) -> tuple[float, float]:
    """How far f32 rounding alone moves the picture: the same request computed in f64."""
    shape = (1, pipe.unet.config.in_channels) + tuple(
        request[side] // pipe.vae_scale_factor for side in ("height", "width")
    )
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(request["seed"]))
    exact = run(pipe.to(torch.float64), request, latents=latents.double())
    pipe.to(torch.float32)
    return sensitivity.difference(exact, picture)


def record_images(loading: dict[str, dict], scratch: Path) -> None:
    shutil.rmtree(FIXTURES / "images", ignore_errors=True)
    (FIXTURES / "images").mkdir()
    chaotic = []
    for request in CASES:
        folder = apply_overrides(FIXTURES / "models" / request["model"], request, scratch)
        pipe = load(folder, **loading[request["model"]])
        picture = run(pipe, request)
        assert np.isfinite(picture).all() and picture.std() > 0.05, request["name"]
        saturated = ((picture == 0) | (picture == 1)).mean()
        pipe.image_processor.numpy_to_pil(picture)[0].save(FIXTURES / "images" / f"{request['name']}.png", optimize=True)
        noise = rounding_noise(load(folder, **loading[request["model"]]), request, picture)
        print(f"  {request['name']:32s} f32 rounding: mean {noise[0]:.4f} max {noise[1]:.3f}  saturated {saturated:.3f}")
        if not (noise[0] < MEAN_TOLERANCE / 10 and noise[1] < MAX_TOLERANCE / 6):
            chaotic.append(request["name"])
        assert saturated < 0.3, request["name"]
    assert not chaotic, f"too chaotic to compare: {chaotic}"
    write_json(FIXTURES / "images.json", CASES)


def main() -> None:
    scratch = Path(os.environ.get("TMPDIR", "/tmp")) / "atelier-record-parity"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    FIXTURES.mkdir(exist_ok=True)
    merges = real_merges()
    print("tokens"), record_tokens(merges, scratch)
    print("randn"), record_randn()
    print("schedules"), record_schedules()
    print("models")
    loading = build_models(merges, scratch)
    print("sensitivity")
    requests = [c for c in CASES if c["name"] in ("wide", "negative", "unicode-13")]
    measured = sensitivity.check(load(FIXTURES / "models/tiny-base"), run, requests)
    write_json(FIXTURES / "sensitivity.json", measured)
    print("numbers")
    for name, kwargs in loading.items():
        record_numbers(name, load(FIXTURES / "models" / name, **kwargs))
    print("images"), record_images(loading, scratch)
    shutil.rmtree(scratch)
    size = sum(f.stat().st_size for f in FIXTURES.rglob("*") if f.is_file())
    print(f"fixtures: {size / 1e6:.2f} MB")
    assert size < 8.5e6, "keep the fixtures small"


if __name__ == "__main__":
    sys.exit(main())
