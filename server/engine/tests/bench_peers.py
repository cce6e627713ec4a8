#!/usr/bin/env python3
"""The engine beside other programs, on the same weights, shapes and threads, run by run in turns.

    python bench_peers.py --atelier target/release/atelier --model DIR [--part unet] [--size 512]

DIR is what `atelier bench model --out DIR` wrote. Each peer is loaded once, in a process of its own; then
the engine and the peer run in turns, so that whatever else the machine does falls on both. Printed, and
written to --out as JSON and as a table, are the seconds of every run by the clock and in processor time,
medians, the median of the ratios, resident memory and versions. A peer that cannot run is named with the
reason, never left out silently.

    diffusers-f32, diffusers-bf16     PyPI
    stock-candle                      examples/stock_candle.rs, given by --stock-candle
    sdcpp-f16, sdcpp-q8_0             stable-diffusion-cpp-python from PyPI, flash attention and direct
                                      convolution on; with -plain behind the name, off
    openvino                          PyPI; converts the model once, into --cache

--isa avx2 holds all of them to what an AVX2 machine has: the engine by its own switch, torch by oneDNN's
and ATen's, OpenVINO by oneDNN's; stable-diffusion.cpp is as it was built, which its line says.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = ["diffusers-f32", "diffusers-bf16", "stock-candle", "sdcpp-f16", "sdcpp-f16-plain", "sdcpp-q8_0",
         "sdcpp-q8_0-plain", "openvino"]


# What a peer's own process does: load, then one run for each line that it is sent.


def torch_network(part: str, model: str, dtype):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    kind = AutoencoderKL if part == "vae" else UNet2DConditionModel
    return kind.from_pretrained(model, subfolder=part, torch_dtype=dtype).eval()


def inputs(part: str, network, size: int, batch: int, dtype):
    import torch

    torch.manual_seed(1)
    latents = torch.randn(batch, 4, size // 8, size // 8, dtype=dtype)
    if part == "vae":
        return latents / network.config.scaling_factor, None, None
    text = torch.randn(batch, 77, network.config.cross_attention_dim, dtype=dtype)
    added = {
        "text_embeds": torch.randn(batch, 1280, dtype=dtype),
        "time_ids": torch.tensor([[size, size, 0, 0, size, size]] * batch, dtype=dtype),
    }
    return latents, text, added


def diffusers_peer(options):
    import torch

    torch.set_num_threads(options.threads)
    dtype = torch.bfloat16 if options.peer.endswith("bf16") else torch.float32
    network = torch_network(options.part, options.model, dtype)
    latents, text, added = inputs(options.part, network, options.size, options.batch, dtype)

    def run():
        with torch.inference_mode():
            if options.part == "vae":
                network.decode(latents, return_dict=False)
            else:
                network(latents, 500.0, text, added_cond_kwargs=added, return_dict=False)

    isa = torch.backends.cpu.get_cpu_capability()
    return run, f"diffusers {version('diffusers')}, torch {torch.__version__} ({isa})"


def convert_for_openvino(options, path: Path) -> None:
    import openvino
    import torch

    torch.set_num_threads(options.threads)
    network = torch_network(options.part, options.model, torch.float32)
    latents, text, added = inputs(options.part, network, options.size, options.batch, torch.float32)

    class Part(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, latents, *rest):
            if not rest:
                return self.network.decode(latents, return_dict=False)[0]
            text, pooled, ids = rest
            known = {"text_embeds": pooled, "time_ids": ids}
            return self.network(latents, torch.tensor(500.0), text, added_cond_kwargs=known, return_dict=False)[0]

    example = (latents,) if text is None else (latents, text, added["text_embeds"], added["time_ids"])
    with torch.no_grad():
        converted = openvino.convert_model(Part(), example_input=example)
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(converted, path, compress_to_fp16=True)


def openvino_peer(options):
    import numpy
    import openvino

    path = Path(options.cache) / f"{options.part}-{options.size}-{options.batch}.xml"
    if not path.exists():
        # In a process of its own: the network is not needed beside what it becomes.
        child = os.fork()
        if child == 0:
            try:
                convert_for_openvino(options, path)
                os._exit(0)
            except BaseException as error:
                print(f"conversion: {error}".splitlines()[0], file=sys.stderr, flush=True)
                os._exit(1)
        if os.waitpid(child, 0)[1] != 0 or not path.exists():
            raise RuntimeError("OpenVINO did not convert the model; see above")
    core = openvino.Core()
    hints = {"INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(path, "CPU", hints)
    generator = numpy.random.default_rng(1)
    side, batch = options.size // 8, options.batch
    shapes = [(batch, 4, side, side), (batch, 77, 2048), (batch, 1280), (batch, 6)][: len(compiled.inputs)]
    given = [generator.standard_normal(shape).astype(numpy.float32) for shape in shapes]
    return lambda: compiled(given), f"openvino {openvino.__version__} (f32 hint)"


def single_file(options) -> Path:
    """The same weights in one file under latent diffusion's names, which is what stable-diffusion.cpp reads."""
    import record_single_file
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    folder, path = Path(options.model), Path(options.cache) / "model.safetensors"
    if path.exists():
        return path
    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
            "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(folder / "text_encoder_2")),
        }
    states = {}
    for name, part in parts.items():
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        wanted = set(part.state_dict())
        for key, value in load_file(folder / name / f"{stem}.safetensors").items():
            # transformers saves a bare text model with and without the prefix.
            names = (key, key.removeprefix("text_model."), f"text_model.{key}")
            key = next((name for name in names if name in wanted), key)
            states.setdefault(name, {})[key] = value
    rows = record_single_file.table(*parts.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(record_single_file.convert(rows, states), path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)
    return path


def sdcpp_peer(options):
    import ctypes

    path = single_file(options)
    import stable_diffusion_cpp as library
    from stable_diffusion_cpp import StableDiffusion

    said: list[str] = []

    @library.sd_log_callback
    def listen(_level, text, _data):
        said.append(text.decode("utf-8", errors="replace"))

    fast = not options.peer.endswith("-plain")
    weights = options.peer.removeprefix("sdcpp-").removesuffix("-plain")
    model = StableDiffusion(
        model_path=str(path), wtype=weights, n_threads=options.threads, diffusion_flash_attn=fast,
        diffusion_conv_direct=fast, vae_conv_direct=fast, verbose=True,
    )
    library.sd_set_log_callback(listen, ctypes.c_void_p(0))
    what = "decode_first_stage" if options.part == "vae" else "sampling"

    def run():
        said.clear()
        model.generate_image(
            prompt="a photograph of an astronaut riding a horse", width=options.size, height=options.size,
            sample_steps=1, cfg_scale=1.0 if options.batch == 1 else 5.0, sample_method="euler", seed=1,
        )
        found = re.search(rf"{what} completed, taking ([\d.]+)s", "".join(said))
        if not found:
            raise RuntimeError(f"stable-diffusion.cpp did not say how long {what} took")
        return float(found.group(1))

    # The library keeps the address only.
    run.listen = listen
    isa = " ".join(re.findall(r"(AVX\w*|FMA|AMX\w*) = 1", library.sd_get_system_info().decode()))
    return run, f"stable-diffusion-cpp-python {version('stable-diffusion-cpp-python')} ({isa})"


def version(package: str) -> str:
    return importlib.metadata.version(package)


def processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve(options) -> None:
    """Loads a peer, then runs it once for each line on standard input."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is not taken for an answer.
    began = time.perf_counter()
    kinds = {"diffusers": diffusers_peer, "sdcpp": sdcpp_peer, "openvino": openvino_peer}
    run, words = kinds[options.peer.split("-")[0]](options)
    print(json.dumps({"load_s": time.perf_counter() - began, "version": words}), file=out, flush=True)
    for _ in sys.stdin:
        clock, spent = time.perf_counter(), processor()
        # Some say themselves how long the part took that counts.
        seconds = run() or 0.0
        whole, spent = time.perf_counter() - clock, processor() - spent
        if isinstance(seconds, float) and seconds > 0:
            spent *= seconds / whole
        else:
            seconds = whole
        answer = {"clock_s": seconds, "processor_s": spent, "resident_gib": resident()}
        print(json.dumps(answer), file=out, flush=True)


def resident(pid: int | str = "self") -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) / 2**20 if found else 0.0


# And what measures them.


def environment(options) -> dict[str, str]:
    words = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    if options.isa == "avx2":
        words |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    return words


class Peer:
    """A peer in a process of its own."""

    def __init__(self, options, name: str):
        self.name, self.options = name, options
        words = [sys.executable, __file__, "--serve", name, "--cache", options.cache]
        for key in ("model", "part", "size", "batch", "threads"):
            words += [f"--{key}", str(getattr(options, key))]
        self.said = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True,
            env=environment(options), start_new_session=True,
        )
        loaded = self.answer()
        self.version, self.load_s = loaded["version"], loaded["load_s"]
        self.run()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.said.seek(0)
            said = self.said.read().strip().splitlines()
            last = said[-1].strip() if said and status > 0 else ""
            raise RuntimeError(f"ended with {status} {last}".strip())
        return json.loads(line)

    def run(self) -> dict:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class StockCandle:
    """candle-transformers as it is published: loads and runs anew each time."""

    def __init__(self, options, _name: str):
        if not options.stock_candle:
            raise RuntimeError("no --stock-candle")
        if options.batch != 1:
            raise RuntimeError("it computes a batch of 1 only")
        self.options, self.load_s = options, 0.0
        self.version = "candle-transformers as in Cargo.lock (the ISA it was built for)"

    def run(self) -> dict:
        options = self.options
        words = [options.stock_candle, options.part, options.model, str(options.size), "1"]
        threads = {"RAYON_NUM_THREADS": str(options.threads), "CANDLE_NUM_THREADS": str(options.threads)}
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment(options) | threads)
        report = json.loads(done.stdout)
        self.load_s = report["load_s"]
        return {"clock_s": report["seconds"][0], "processor_s": None, "resident_gib": None}

    def end(self) -> None:
        pass


def engine_run(options, compute: str) -> dict:
    words = [options.atelier, "bench", options.part, "--json", "--repeat", "1", "--compute", compute]
    for name in ("model", "size", "batch", "threads"):
        words += [f"--{name}", str(getattr(options, name))]
    if options.isa:
        words += ["--isa", options.isa]
    report = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {
        "clock_s": report["median_s"],
        "processor_s": report["usage"]["processor_s"],
        "resident_gib": report["usage"]["peak_resident_gib"],
        "gflop_per_s": report["gflop_per_s"],
        "share_of_peak": report["share_of_peak"],
    }


def compare(options, name: str) -> dict:
    """One peer and the engine in turns."""
    try:
        peer = (StockCandle if name == "stock-candle" else Peer)(options, name)
    except (RuntimeError, OSError, json.JSONDecodeError) as error:
        return {"peer": name, "not_run": str(error)}
    rounds = []
    try:
        for _ in range(options.repeat):
            ours = {compute: engine_run(options, compute) for compute in options.ours.split(",")}
            rounds.append({"ours": ours, "theirs": peer.run()})
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        if not rounds:
            return {"peer": name, "not_run": str(error)}
    finally:
        peer.end()
    result = {"peer": name, "version": peer.version, "load_s": peer.load_s, "rounds": rounds, "ratios": {}}
    for compute in options.ours.split(","):
        for unit in ("clock_s", "processor_s"):
            pairs = [(turn["theirs"][unit], turn["ours"][compute][unit]) for turn in rounds]
            if all(theirs and ours for theirs, ours in pairs):
                ratio = statistics.median(theirs / ours for theirs, ours in pairs)
                result["ratios"][f"{compute} {unit}"] = ratio
    return result


def table(options, results: list[dict]) -> str:
    def median(values) -> str:
        values = [value for value in values if value is not None]
        return f"{statistics.median(values):.2f}" if values else "–"

    head = ["peer", "peer, s", "peer, processor s", "peer, GiB"]
    computes = options.ours.split(",")
    for compute in computes:
        head += [f"ours ({compute}), s", "processor s", "times as fast by the clock", "in processor time"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for result in results:
        if "not_run" in result:
            lines.append(f"| {result['peer']} | not run: {result['not_run']} |" + " |" * (len(head) - 2))
            continue
        turns = result["rounds"]
        cells = [f"{result['peer']}: {result['version']}"]
        cells += [median(turn["theirs"][key] for turn in turns) for key in ("clock_s", "processor_s", "resident_gib")]
        for compute in computes:
            cells += [median(turn["ours"][compute][key] for turn in turns) for key in ("clock_s", "processor_s")]
            ratios = result["ratios"]
            for unit in ("clock_s", "processor_s"):
                ratio = ratios.get(f"{compute} {unit}")
                cells.append("–" if ratio is None else f"{ratio:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    try:
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atelier", help="the program")
    parser.add_argument("--model", required=True, help="folder of the random model")
    parser.add_argument("--part", choices=["vae", "unet"], default="unet")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, choices=[1, 2], default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, separated by commas")
    parser.add_argument("--ours", default="f32,w8a8", help="f32, w8a8 or both")
    parser.add_argument("--isa", choices=["avx2"], help="hold all to what an AVX2 machine has")
    parser.add_argument("--stock-candle", help="the example's program")
    parser.add_argument("--cache", default="bench-cache", help="where converted models are kept")
    parser.add_argument("--out", default="bench-peers", help="folder of the results")
    parser.add_argument("--serve", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        options.peer = options.serve
        return serve(options)
    if not options.atelier:
        parser.error("--atelier is needed")
    chosen = [name for name in options.peers.split(",") if name]
    for name in chosen:
        if name not in PEERS:
            parser.error(f"no peer is called {name}; there are {', '.join(PEERS)}")
    results = []
    for name in chosen:
        result = compare(options, name)
        results.append(result)
        print(f"{name}: {result.get('not_run') and 'not run: ' + result['not_run'] or result['ratios']}", file=sys.stderr)
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "machine": machine(), "threads": options.threads, "isa": options.isa or "all", "part": options.part,
        "size": options.size, "batch": options.batch, "rounds": options.repeat,
        "load_average": os.getloadavg()[0],
    }
    name = f"{options.part}-{options.size}-{options.isa or 'all'}"
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    text = f"{options.part} {options.size}², " + ", ".join(f"{key} {about[key]}" for key in ("batch", "threads", "isa", "machine", "date"))
    text = f"{text}\n\n{table(options, results)}\n"
    (folder / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
