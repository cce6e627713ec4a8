#!/bin/bash
# Measures the engine on a full-size SDXL model with random weights, which it writes first (7 GB):
#     .ci/bench.sh [FLAGS OF atelier bench]               UNet, VAE and text encoders, with profiles
#     .ci/bench.sh peers [FLAGS OF bench_peers.py]        beside other programs, run by run in turns
# ATELIER_BENCH_MODEL names another place for the model, ATELIER_BENCH_PYTHON a Python that has what the
# peers need; else one is made, with stable-diffusion.cpp compiled for the machine (for AVX2 if the flags
# say `--isa avx2`).
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
    isa=native
    case " $* " in *" --isa avx2 "*) isa=avx2 ;; esac
    python=${ATELIER_BENCH_PYTHON:-$cache/bench-python-$isa/bin/python}
    if [ -n "${ATELIER_BENCH_PYTHON:-}" ]; then
        [ -x "$python" ] || die "ATELIER_BENCH_PYTHON=$python is no program"
    else
        if ! [ -x "$python" ]; then
            python3 -m venv "$cache/bench-python-$isa" || die "no Python with venv; ATELIER_BENCH_PYTHON can name one"
        fi
        if ! "$python" -c 'import torch, diffusers, openvino' 2>/dev/null; then
            timed "Installing torch, diffusers and OpenVINO (some GB)" logged bench-python \
                "$python" -m pip install -r server/engine/tests/requirements.txt openvino || die "pip failed"
        fi
        # From its sources, and without it the others are measured all the same.
        if ! "$python" -c 'import stable_diffusion_cpp' 2>/dev/null; then
            flags=-DGGML_NATIVE=ON
            if [ $isa = avx2 ]; then
                flags="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
            fi
            "$python" -m pip install -q cmake ninja scikit-build-core pillow || die "pip failed"
            PATH=$(dirname "$python"):$PATH CMAKE_ARGS=$flags timed "Compiling stable-diffusion.cpp (some minutes)" \
                logged bench-sdcpp "$python" -m pip install --no-build-isolation \
                --no-binary stable-diffusion-cpp-python stable-diffusion-cpp-python ||
                note "stable-diffusion.cpp did not compile; its lines will say so"
        fi
    fi
    timed "Building candle-transformers' own forward pass" \
        cargo build --locked --release -p atelier-engine --example stock_candle || die "the example did not compile"
    exec "$python" server/engine/tests/bench_peers.py --atelier "$atelier" --model "$model" \
        --stock-candle "$target/release/examples/stock_candle" --cache "$cache/bench-peers" \
        --out "$target/bench/peers" "$@"
fi

mkdir -p "$target/bench"
for part in unet vae text; do
    "$atelier" bench "$part" --model "$model" --profile "$target/bench/$part.svg" "$@"
    note "the profile as a picture: $target/bench/$part.svg"
done
