#!/bin/bash
# Makes target/site: the interface as WebAssembly with its loader, the styles in one file, and the
# public files. Cargo decides whether anything has to be compiled; the rest takes milliseconds.
. "$(dirname "$0")/lib.sh"
. "$root/.ci/wasm.sh"

# bundle FILE: prints a style sheet with every line `@import "part.css";` replaced by that part.
bundle() {
    local dir line part
    dir=$(dirname "$1")
    while IFS= read -r line || [ -n "$line" ]; do
        if [[ $line =~ ^@import[[:space:]]+\"([^\"]+)\"\;[[:space:]]*$ ]]; then
            part=$dir/${BASH_REMATCH[1]}
            [ -f "$part" ] || die "$1 imports $part, which does not exist"
            bundle "$part"
        elif [[ $line == @import* ]]; then
            die "$1: only the form @import \"part.css\"; is understood, not: $line"
        else
            printf '%s\n' "$line"
        fi
    done <"$1"
}

compile() {
    wasm_cargo build --locked -p atelier-frontend --lib --target $wasm_target --profile wasm-release \
        --target-dir "$target/front"
}

timed "Building the interface for the browser" compile || die "the interface did not compile"

wasm=$target/front/$wasm_target/wasm-release/atelier_frontend.wasm
bindgen=$cache/bin/bindgen-$(hash_of .ci/bindgen/Cargo.lock .ci/bindgen/src/main.rs)
made=$site/.made-from
key=$(hash_of "$wasm" "$bindgen")
mkdir -p "$site/pkg"
if [ "$(cat "$made" 2>/dev/null || true)" != "$key" ]; then
    rm -f "$made"
    timed "Binding it to JavaScript" "$bindgen" "$wasm" atelier "$site/pkg" || die "wasm-bindgen failed"
    echo "$key" >"$made"
fi

bundle style/main.css >"$site/pkg/atelier.css.new"
mv "$site/pkg/atelier.css.new" "$site/pkg/atelier.css"
if [ -d style/public ]; then cp -R style/public/. "$site/"; fi
