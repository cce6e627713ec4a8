#!/bin/bash
# Builds the worker that computes on NVIDIA GPUs: target/release/atelier-cuda, the same program as the
# server's with the `cuda` feature. No GPU is needed for that, but CUDA's compiler, nvcc: the system's,
# or else NVIDIA's Python wheels in a folder of their own below the cache (1.2 GB), which are installed
# once.
#
#   CUDA_COMPUTE_CAP  the architecture that the kernels are compiled for, as PTX: 80 (Ampere) if unset.
#                     The driver of a newer GPU compiles that PTX for itself.
#   CUDA_ARCHS        further architectures, such as "90 120": a program for each is built beside it,
#                     target/release/atelier-cuda-sm_120, as candle's kernels carry one architecture;
#                     from 90 on such a program runs on that architecture alone.
#   CUDA_FEATURES     cuda, or cudnn for cuDNN's convolutions where that library is installed.
. "$(dirname "$0")/lib.sh"

# The oldest CUDA whose wheels have nvcc: the older the CUDA, the older the driver may be.
wheels_version=13.0
features=${CUDA_FEATURES:-cuda}

# wheels: NVIDIA's Python wheels as a toolkit folder, laid out as nvcc's users expect it.
wheels() {
    local home=$cache/cuda-$wheels_version parts
    if [ ! -f "$home/complete" ]; then
        python3 -c 'import venv, ensurepip' 2>/dev/null ||
            apt_install "installing nvcc from NVIDIA's wheels" python3-venv
        rm -rf "$home"
        note "nvcc is not on this machine: installing NVIDIA's wheels for CUDA $wheels_version into $home"
        python3 -m venv "$home"
        parts=nvcc,crt,nvvm,cccl,cudart,cublas,curand,nvrtc
        timed "Installing cuda-toolkit[$parts] $wheels_version (1.2 GB)" logged cuda-wheels \
            "$home/bin/pip" install --disable-pip-version-check "cuda-toolkit[$parts]==$wheels_version.*" ||
            die "NVIDIA's wheels could not be installed; install CUDA's toolkit by other means and put nvcc on the PATH"
        lay_out "$home"
        touch "$home/complete"
    fi
    toolkit=$(echo "$home"/lib/python3*/site-packages/nvidia/cu13)
}

# lay_out VENV: the names that linkers look for, and a stand-in for the driver's library, which only
# machines with a driver have and which is not called while building.
lay_out() {
    local toolkit library name
    toolkit=$(echo "$1"/lib/python3*/site-packages/nvidia/cu13)
    mkdir -p "$toolkit/lib64/stubs"
    for library in "$toolkit"/lib/*.so.*; do
        name=$(basename "$library")
        ln -sf "../lib/$name" "$toolkit/lib64/$name"
        ln -sf "../lib/$name" "$toolkit/lib64/${name%%.so.*}.so"
    done
    ln -sf ../lib/libcudart_static.a ../lib/libcudadevrt.a "$toolkit/lib64/"
    grep -ohE '\bcu[A-Z][A-Za-z0-9_]+' "$toolkit/include/cuda.h" | sort -u |
        awk '{ print "int " $0 "(void) { return 100; }" }' >"$toolkit/lib64/stubs/cuda.c"
    cc -shared -w -o "$toolkit/lib64/stubs/libcuda.so" -Wl,-soname,libcuda.so.1 "$toolkit/lib64/stubs/cuda.c"
}

# build ARCHITECTURE PROGRAM: compiles for one architecture.
build() {
    local arch=$1 program=$2 built=$target/cuda suffix=''
    # What candle's build makes of it: from 9.0 on, PTX for that architecture alone.
    if ((arch > 120)); then suffix=f; elif ((arch >= 90)); then suffix=a; fi
    # Beside the program first, so that its libraries can be shipped with it.
    local paths="\$ORIGIN/cuda:$toolkit/lib64"
    CUDA_COMPUTE_CAP=$arch CUDA_HOME=$toolkit NVCC=$toolkit/bin/nvcc PATH=$toolkit/bin:$PATH \
        LIBRARY_PATH=$toolkit/lib64:$toolkit/lib64/stubs${LIBRARY_PATH:+:$LIBRARY_PATH} \
        ATELIER_CUDA_ARCHITECTURES="compute_$arch$suffix (PTX)" ATELIER_CUDA_RUNTIME=$runtime \
        cargo rustc --locked --release --target-dir "$built" -p atelier --bin atelier --features "$features" \
        -- -C link-arg=-Wl,-rpath,"$paths" || die "the worker for architecture $arch did not compile"
    # Said step by step: `timed` runs this where `set -e` does not hold.
    mkdir -p "$target/release" &&
        cp "$built/release/atelier" "$target/release/$program.new" &&
        mv "$target/release/$program.new" "$target/release/$program" ||
        die "$target/release/$program could not be written"
    note "$target/release/$program: $(du -h "$target/release/$program" | cut -f1), compute_$arch$suffix"
}

command -v c++ >/dev/null || apt_install "compiling CUDA's host parts" g++
if [ -n "${CUDA_HOME:-}" ] && [ -x "$CUDA_HOME/bin/nvcc" ]; then
    toolkit=$CUDA_HOME
elif command -v nvcc >/dev/null; then
    toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
else
    wheels
fi
runtime=$("$toolkit/bin/nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
say "CUDA $runtime at $toolkit"

timed "Building atelier-cuda" build "${CUDA_COMPUTE_CAP:-80}" atelier-cuda
for arch in ${CUDA_ARCHS:-}; do
    timed "Building atelier-cuda-sm_$arch" build "$arch" "atelier-cuda-sm_$arch"
done
