#!/bin/bash
# Runs one fuzz target of the engine for some seconds, with the coverage hooks that libFuzzer needs
# switched on in stable Rust: .ci/fuzz.sh TARGET [SECONDS]. What it finds is kept in
# server/engine/fuzz/artifacts/TARGET, what it learns in corpus/TARGET beside it.
set -euo pipefail
cd "$(dirname "$0")/../server/engine/fuzz"
target=${1:?give a target: safetensors, gguf, lora, tokenizer or image}
seconds=${2:-3600}
hooks="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    hooks+=" -Cllvm-args=-sanitizer-coverage-$option"
done
# Named, so that build scripts, which have no fuzzer to report to, are compiled without the hooks.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$hooks" cargo build --release --locked --target-dir target --target "$host" --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
exec "target/$host/release/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -malloc_limit_mb=2048 -max_len=65536 -artifact_prefix="artifacts/$target/" "corpus/$target"
