"""The engine against diffusers on the same weights, shapes and threads, run by run in turns.

    python bench_diffusers.py --atelier target/release/atelier --model DIR [--part vae] [--size 512]

DIR is what `atelier bench model --out DIR` wrote. Prints the seconds of every run, both medians and
the median of the ratios, by the clock and in processor time: the latter also on a machine that
others use. diffusers computes in f32 and needs some 11 GB for the UNet, 1 GB for the VAE.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import time


def diffusers_run(part, model, size, batch, threads):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    side = size // 8
    kind = AutoencoderKL if part == "vae" else UNet2DConditionModel
    network = kind.from_pretrained(model, subfolder=part, torch_dtype=torch.float32).eval()
    latents = torch.randn(batch, 4, side, side)
    if part == "vae":
        return lambda: network.decode(latents / network.config.scaling_factor, return_dict=False)
    text = torch.randn(batch, 77, network.config.cross_attention_dim)
    added = {
        "text_embeds": torch.randn(batch, 1280),
        "time_ids": torch.tensor([[size, size, 0, 0, size, size]] * batch, dtype=torch.float32),
    }
    return lambda: network(latents, 500.0, text, added_cond_kwargs=added, return_dict=False)


def measured(run):
    def processor():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    clock, spent = time.perf_counter(), processor()
    run()
    return time.perf_counter() - clock, processor() - spent


def engine_run(arguments):
    words = [arguments.atelier, "bench", arguments.part, "--json", "--repeat", "1"]
    for name in ("model", "size", "batch", "threads"):
        words += [f"--{name}", str(getattr(arguments, name))]
    report = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return report["median_s"], report["usage"]["processor_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atelier", required=True, help="the program")
    parser.add_argument("--model", required=True, help="folder of the random model")
    parser.add_argument("--part", choices=["vae", "unet"], default="vae")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, choices=[1, 2], default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()

    import torch

    names = ("part", "model", "size", "batch", "threads")
    run = diffusers_run(*(getattr(arguments, name) for name in names))
    with torch.inference_mode():
        run()
        rounds = [(measured(run), engine_run(arguments)) for _ in range(arguments.repeat)]
    for at, unit in enumerate(["by the clock", "of processor time"]):
        theirs, ours = ([both[side][at] for both in rounds] for side in (0, 1))
        ratio = statistics.median(their / our for their, our in zip(theirs, ours))
        print(
            f"{arguments.part} {arguments.size}² {unit}:"
            f" diffusers {statistics.median(theirs):.2f} s {[round(s, 2) for s in theirs]},"
            f" atelier {statistics.median(ours):.2f} s {[round(s, 2) for s in ours]},"
            f" {ratio:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
