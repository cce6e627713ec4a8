#!/usr/bin/env python3
"""Records what diffusers and peft compute with LoRAs on the tiny models, for tests/parity/lora.rs.

    python record_lora.py              # rewrites fixtures/lora/
    python record_lora.py --random 60 DIR   # that many random cases into DIR, for one comparison

The random cases are merged throughout: diffusers reads some random files only in part.

Each case is a request, one or more LoRA files with weights, and the picture that diffusers' pipeline
gives after `load_lora_weights` and `set_adapters` (peft, not fused). Where diffusers does not read a
file as it was meant (it knows no Tucker cores, and gives kohya's attention layers the commonest alpha
of the file where alphas differ), the differences are merged into the weights in plain torch.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import record_parity as parity
from record_parity import FIXTURES, LONG_PROMPT, PROMPT, UNICODE_PROMPT, load, write_json

MODEL = FIXTURES / "models" / "tiny-base"
KOHYA_PARTS = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}


def adaptable(pipe) -> dict[str, dict[str, torch.nn.Module]]:
    """Every linear layer and convolution of the three parts that LoRAs act on."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {
        part: {name: module for name, module in getattr(pipe, part).named_modules() if isinstance(module, kinds)}
        for part in KOHYA_PARTS
    }


def factors(module, rank: int, seed: str, gain: float, core: bool = False) -> dict[str, torch.Tensor]:
    """Random factors for a layer, as strong as `gain` times its own weights."""
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    if isinstance(module, torch.nn.Linear):
        outputs, inputs = module.weight.shape
        return {"down": draw(rank, inputs) / inputs**0.5, "up": draw(outputs, rank) * gain / rank**0.5}
    outputs, inputs, kernel, _ = module.weight.shape
    if core and kernel > 1:
        return {
            "down": draw(rank, inputs, 1, 1) / inputs**0.5,
            "core": draw(rank, rank, kernel, kernel) / (rank * kernel**2) ** 0.5,
            "up": draw(outputs, rank, 1, 1) * gain / rank**0.5,
        }
    return {
        "down": draw(rank, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5,
        "up": draw(outputs, rank, 1, 1) * gain / rank**0.5,
    }


def latent_diffusion_name(name: str, layers_per_block: int = 2) -> str:
    """diffusers' name of a UNet layer → latent diffusion's, by the layout of tiny-base."""
    fixed = {
        "conv_in": "input_blocks.0.0", "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    }
    if name in fixed:
        return fixed[name]
    words = name.split(".")
    resnet = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    if words[0] == "mid_block":
        place = {("resnets", "0"): 0, ("attentions", "0"): 1, ("resnets", "1"): 2}[words[1], words[2]]
        return ".".join([f"middle_block.{place}", *(resnet.get(w, w) for w in words[3:])])
    block, kind, at = int(words[1]), words[2], int(words[3])
    rest = [resnet.get(w, w) for w in words[4:]] if kind == "resnets" else words[4:]
    if words[0] == "down_blocks":
        first = 1 + block * (layers_per_block + 1)
        if kind == "downsamplers":
            return f"input_blocks.{first + layers_per_block}.0.op"
        return ".".join([f"input_blocks.{first + at}", "0" if kind == "resnets" else "1", *rest])
    first = block * (layers_per_block + 1)
    if kind == "upsamplers":
        return f"output_blocks.{first + layers_per_block}.{2 if block < 2 else 1}.conv"
    return ".".join([f"output_blocks.{first + at}", "0" if kind == "resnets" else "1", *rest])


def kohya(part: str, name: str, pieces: dict, alpha: float | None, sgm: bool) -> dict[str, torch.Tensor]:
    """A layer's tensors under kohya's names."""
    if part == "unet" and sgm:
        name = latent_diffusion_name(name)
    if part != "unet" and not name.startswith("text_model") and name != "text_projection":
        name = f"text_model.{name}"
    stem = f"{KOHYA_PARTS[part]}_{name.replace('.', '_')}"
    names = {"down": "lora_down", "up": "lora_up", "core": "lora_mid"}
    tensors = {f"{stem}.{names[key]}.weight": value for key, value in pieces.items()}
    return tensors if alpha is None else {**tensors, f"{stem}.alpha": torch.tensor(alpha)}


def diffusers_style(part: str, name: str, pieces: dict, alpha: float | None, style: str) -> dict[str, torch.Tensor]:
    """A layer's tensors under diffusers' names, new (peft) or old."""
    down, up = {"peft": (".lora_A", ".lora_B"), "old": (".lora.down", ".lora.up")}[style]
    stem = f"{part}.{name}"
    if style == "old" and part != "unet":
        down, up = ".lora_linear_layer.down", ".lora_linear_layer.up"
    tensors = {f"{stem}{down}.weight": pieces["down"], f"{stem}{up}.weight": pieces["up"]}
    return tensors if alpha is None else {**tensors, f"{stem}.alpha": torch.tensor(alpha)}


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CHOICES = {
    "attention": lambda name, module: name.endswith(ATTENTION) or name.endswith(("q_proj", "k_proj", "v_proj", "out_proj")),
    "transformer": lambda name, module: "attentions" in name or ".self_attn." in name or ".mlp." in name,
    "linear": lambda name, module: isinstance(module, torch.nn.Linear) and name != "text_projection",
    "everything": lambda name, module: name != "text_projection",
    "conv": lambda name, module: isinstance(module, torch.nn.Conv2d),
}


def make(pipe, seed: str, *, style: str, layers: str, parts: tuple[str, ...], rank, alpha, gain=0.5, keep=1.0,
         dtype=torch.float32, core=False) -> dict[str, torch.Tensor]:
    """A whole LoRA: `rank` and `alpha` may be functions of the layer's number."""
    tensors, pick = {}, random.Random(seed)
    for part, modules in adaptable(pipe).items():
        if part not in parts:
            continue
        for number, (name, module) in enumerate(modules.items()):
            if not CHOICES[layers](name, module) or pick.random() > keep:
                continue
            r = rank(number) if callable(rank) else rank
            a = alpha(number) if callable(alpha) else alpha
            pieces = factors(module, r, f"{seed}/{part}/{name}", gain, core)
            if style in ("kohya", "kohya-sgm"):
                tensors |= kohya(part, name, pieces, a, style == "kohya-sgm")
            else:
                tensors |= diffusers_style(part, name, pieces, a, style)
    return {key: value.to(dtype) if value.ndim else value.float() for key, value in tensors.items()}


def layers_by_stem(pipe) -> dict[str, torch.nn.Module]:
    """Every adaptable layer under each of the names that a LoRA's keys may give it."""
    by_stem = {}
    for part, modules in adaptable(pipe).items():
        for name, module in modules.items():
            by_stem[f"{part}.{name}"] = module
            for sgm in (False, True) if part == "unet" else (False,):
                key, = kohya(part, name, {"down": None}, None, sgm)
                by_stem[key.removesuffix(".lora_down.weight")] = module
    return by_stem


DOWN_TO_UP = {
    ".lora_down.weight": ".lora_up.weight", ".lora_A.weight": ".lora_B.weight",
    ".lora.down.weight": ".lora.up.weight", ".lora_linear_layer.down.weight": ".lora_linear_layer.up.weight",
}


def merged(pipe, tensors: dict[str, torch.Tensor], weight: float) -> None:
    """Adds a LoRA of any of the styles to the weights themselves, in f64: the definition of one."""
    by_stem = layers_by_stem(pipe)
    read = set()
    for key in tensors:
        ending = next((ending for ending in DOWN_TO_UP if key.endswith(ending)), None)
        if ending is None:
            continue
        stem = key.removesuffix(ending)
        up_key, core_key, alpha_key = stem + DOWN_TO_UP[ending], f"{stem}.lora_mid.weight", f"{stem}.alpha"
        down, up = tensors[key].double(), tensors[up_key].double()
        rank = down.shape[0]
        scale = weight * (float(tensors[alpha_key]) / rank if alpha_key in tensors else 1.0)
        module = by_stem[stem]
        if core_key in tensors:
            delta = torch.einsum("or,rsij,sc->ocij", up[:, :, 0, 0], tensors[core_key].double(), down[:, :, 0, 0])
        else:
            delta = (up.flatten(1) @ down.flatten(1)).reshape(module.weight.shape)
        module.weight.data = (module.weight.double() + scale * delta).float()
        read |= {key, up_key, core_key, alpha_key}
    assert read >= set(tensors), f"keys left over: {sorted(set(tensors) - read)[:3]}"


def picture(request: dict, files: dict[str, Path], by_merging: bool = False):
    """The picture with the request's LoRAs: diffusers' own way, or merged where that is asked for or
    where diffusers reads the file otherwise."""
    pipe = load(MODEL)
    names, weights, peft = [], [], []
    for number, (file, weight) in enumerate(request["loras"]):
        tensors = load_file(files[file])
        alphas = {float(value) for key, value in tensors.items() if key.endswith(".alpha")}
        if by_merging or any("lora_mid" in key for key in tensors) or len(alphas) > 1:
            merged(pipe, tensors, weight)
        else:
            peft.append((f"lora{number}", file, weight))
    for name, file, weight in peft:
        pipe.load_lora_weights(str(files[file].parent), weight_name=files[file].name, adapter_name=name)
        names.append(name), weights.append(weight)
    if names:
        pipe.set_adapters(names, adapter_weights=weights)
    return pipe, parity.run(pipe, request)


def unet_output(pipe) -> torch.Tensor:
    """The first row of the recorded forward pass, with the LoRAs in place."""
    numbers = load_file(FIXTURES / "numbers/tiny-base.safetensors")
    row = lambda key: numbers[f"unet/{key}"][:1]  # noqa: E731
    return pipe.unet(
        row("sample"), numbers["unet/timestep"][0], encoder_hidden_states=row("encoder_hidden_states"),
        added_cond_kwargs={key: row(key) for key in ("text_embeds", "time_ids")},
    ).sample


def steady(request: dict, files: dict[str, Path], image) -> bool:
    """Whether rounding leaves the picture alone: a random network can be chaotic, and then no two
    programs agree. The weights are moved by a fraction of what f32 can tell apart."""
    pipe = load(MODEL)
    for file, weight in request["loras"]:
        merged(pipe, load_file(files[file]), weight)
    for parameter in pipe.unet.parameters():
        parameter.data *= 1 + 1e-7
    return abs(parity.run(pipe, request) - image).mean() * 255 < 0.1


def request(name: str, loras: list, **changes) -> dict:
    case = parity.case(name, guidance_scale=5.0, num_inference_steps=4)
    assert not set(changes) - set(case), changes
    return {**case, **changes, "loras": loras}


UNET, TEXT = ("unet",), ("text_encoder", "text_encoder_2")
RECIPES = {
    "kohya": dict(style="kohya", layers="transformer", parts=UNET, rank=lambda n: 2 + n % 3, alpha=lambda n: 1.0 + n % 4),
    "kohya-sgm": dict(style="kohya-sgm", layers="everything", parts=UNET, rank=3, alpha=2.0, gain=0.3),
    "kohya-text": dict(style="kohya", layers="linear", parts=TEXT, rank=3, alpha=1.5),
    "kohya-no-alpha-f16": dict(style="kohya", layers="attention", parts=UNET + TEXT, rank=2, alpha=None, dtype=torch.float16),
    "locon": dict(style="kohya-sgm", layers="conv", parts=UNET, rank=2, alpha=3.0, dtype=torch.bfloat16),
    "tucker": dict(style="kohya", layers="conv", parts=UNET, rank=3, alpha=3.0, core=True),
    "peft": dict(style="peft", layers="attention", parts=UNET + TEXT, rank=lambda n: 1 + n % 4, alpha=None),
    "peft-everything": dict(style="peft", layers="everything", parts=UNET, rank=2, alpha=None, gain=0.15),
    "diffusers-old": dict(style="old", layers="attention", parts=UNET, rank=4, alpha=None),
}
CASES = [
    *(request(f"lora-{name}", [(name, 1.0)]) for name in RECIPES),
    request("lora-two", [("kohya", 0.7), ("peft", -0.4)], negative_prompt="blurry"),
    request("lora-three", [("kohya-sgm", 0.5), ("kohya-text", 1.3), ("locon", 0.6)], width=72, height=56),
    request("lora-negative-weight", [("peft", -1.0)], prompt=UNICODE_PROMPT),
    request("lora-half", [("kohya-text", 0.5)], prompt=LONG_PROMPT, guidance_scale=1.0),
]


def random_cases(pipe, count: int) -> tuple[dict, list]:
    """Recipes and requests that nobody chose."""
    recipes, cases = {}, []
    for index in range(count):
        pick = random.Random(index)
        loras = []
        for _ in range(pick.choice([1, 1, 2, 3])):
            name = f"random-{index}-{len(loras)}"
            style = pick.choice(["kohya", "kohya-sgm", "peft", "old"])
            layers = pick.choice(["attention", "transformer", "linear", "everything", "conv"] if style != "old" else ["attention"])
            parts = pick.choice([UNET, TEXT, UNET + TEXT] if layers in ("attention", "transformer", "linear") and style != "old" else [UNET])
            shift = pick.randrange(5)
            recipes[name] = dict(
                style=style, layers=layers, parts=parts,
                rank=pick.choice([1, 4, 9, lambda n, s=shift: 1 + (n + s) % 5]),
                alpha=pick.choice([None, 1.0, 6.0, lambda n, s=shift: 0.5 + (n + s) % 3]) if style.startswith("kohya") else None,
                gain=pick.choice([0.2, 0.4]), keep=pick.choice([1.0, 0.5]),
                dtype=pick.choice([torch.float32, torch.float16, torch.bfloat16]),
            )
            loras.append((name, round(pick.uniform(-1.2, 1.5), 3)))
        cases.append(request(
            f"random-{index}", loras, seed=index, guidance_scale=pick.choice([1.0, 3.0, 6.0]),
            width=pick.choice([48, 64, 72]), height=pick.choice([48, 64, 72]),
            negative_prompt=pick.choice([None, "", "blurry"]), prompt=pick.choice([PROMPT, UNICODE_PROMPT, "two squares"]),
        ))
    return recipes, cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", nargs=2, metavar=("COUNT", "DIR"))
    args = parser.parse_args()
    pipe = load(MODEL)
    folder, recipes, cases = FIXTURES / "lora", RECIPES, CASES
    if args.random:
        folder = Path(args.random[1])
        recipes, cases = random_cases(pipe, int(args.random[0]))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files, numbers = {}, {}
    for name, recipe in recipes.items():
        files[name] = folder / f"{name}.safetensors"
        metadata = {"ss_base_model_version": "sdxl_base_v1-0"} if recipe["style"].startswith("kohya") else {"format": "pt"}
        save_file({k: v.contiguous() for k, v in make(pipe, name, **recipe).items()}, files[name], metadata=metadata)
    if not args.random:
        # As diffusers itself writes one, with alphas in the metadata and none among the tensors.
        from peft import LoraConfig

        pipe.unet.add_adapter(LoraConfig(
            r=3, lora_alpha=5, target_modules=["to_q", "to_v", "proj_in"], alpha_pattern={"attn2.to_v": 1},
            use_rslora=True, init_lora_weights=False,
        ), adapter_name="saved")
        for name, parameter in pipe.unet.named_parameters():
            if "lora_" in name:
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
        from peft.utils import get_peft_model_state_dict

        state = get_peft_model_state_dict(pipe.unet, adapter_name="saved")
        type(pipe).save_lora_weights(
            folder, unet_lora_layers=state, weight_name="saved.safetensors",
            unet_lora_adapter_metadata=pipe.unet.peft_config["saved"].to_dict(),
        )
        files["saved"] = folder / "saved.safetensors"
        files["saved"].chmod(0o644)
        cases = [*cases, request("lora-saved", [("saved", 0.8)])]
    kept = []
    for case in cases:
        pipe, image = picture(case, files, by_merging=bool(args.random))
        assert image.std() > 0.03 or args.random, case["name"]
        if args.random and not steady(case, files, image):
            print(f"  {case['name']}: left out, its picture hangs on the last bit of the prompt's embedding")
            continue
        kept.append(case)
        pipe.image_processor.numpy_to_pil(image)[0].save(folder / f"{case['name']}.png", optimize=True)
        numbers[case["name"]] = unet_output(pipe)
        print(f"  {case['name']}: {case['loras']}")
    save_file({k: v.contiguous() for k, v in numbers.items()}, folder / "unet_outputs.safetensors")
    write_json(folder / "cases.json", kept)
    size = sum(f.stat().st_size for f in folder.rglob("*"))
    print(f"{folder}: {size / 1e6:.2f} MB")
    assert args.random or size < 2e6


if __name__ == "__main__":
    sys.exit(main())
