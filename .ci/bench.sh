#!/bin/bash
# Measures the engine on a full-size SDXL model with random weights, which it writes first (7 GB):
#     .ci/bench.sh [FLAGS OF atelier bench]                UNet, VAE and text encoders, with profiles
#     .ci/bench.sh peers [FLAGS OF bench_diffusers.py]     beside diffusers, run by run in turns
# ATELIER_BENCH_MODEL names another place for the model, ATELIER_BENCH_PYTHON a Python that has
# torch and diffusers; else one is installed.
. "$(dirname "$0")/lib.sh"
.ci/server.sh
atelier=$target/release/atelier
model=${ATELIER_BENCH_MODEL:-$cache/bench-model}
if ! [ -f "$model/model_index.json" ]; then
    if [ -e "$model" ]; then die "$model is there already and is no model; name another place in ATELIER_BENCH_MODEL"; fi
    rm -rf "$model.part"
    timed "Writing a model with random weights to $model (7 GB)" \
        logged bench-model "$atelier" bench model --out "$model.part" || die "the model could not be written"
    mv -T "$model.part" "$model"
fi

if [ "${1:-}" = peers ]; then
    shift
    python=${ATELIER_BENCH_PYTHON:-$cache/bench-python/bin/python}
    if [ -n "${ATELIER_BENCH_PYTHON:-}" ]; then
        [ -x "$python" ] || die "ATELIER_BENCH_PYTHON=$python is no program"
    elif ! "$python" -c 'import torch, diffusers' 2>/dev/null; then
        python3 -m venv "$cache/bench-python" || die "no Python with venv; ATELIER_BENCH_PYTHON can name one"
        timed "Installing torch and diffusers (some GB)" logged bench-python \
            "$cache/bench-python/bin/pip" install -r server/engine/tests/requirements.txt || die "pip failed"
    fi
    exec "$python" server/engine/tests/bench_diffusers.py --atelier "$atelier" --model "$model" "$@"
fi

mkdir -p "$target/bench"
for part in unet vae text; do
    "$atelier" bench "$part" --model "$model" --profile "$target/bench/$part.svg" "$@"
    note "the profile as a picture: $target/bench/$part.svg"
done
