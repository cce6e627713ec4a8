#!/bin/bash
# Makes target/site: the interface as WebAssembly, in parts, with what loads it, the styles in one file,
# and the public files; all of it also compressed, as the server sends it. Cargo decides whether anything
# has to be compiled; the rest is made again only when that changed.
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
if [ "$(cat "$made" 2>/dev/null || true)" != "$key" ]; then
    rm -f "$made"
    # Afresh: parts that no longer exist must not stay behind.
    rm -rf "$site/pkg" "$site/pkg.new"
    mkdir -p "$site/pkg.new"
    timed "Taking it apart and binding it to JavaScript" "$bindgen" "$wasm" atelier "$site/pkg.new" ||
        die "wasm-bindgen failed"
    timed "Compressing it" "$bindgen" compress "$site"/pkg.new/* || die "the interface could not be compressed"
    mv "$site/pkg.new" "$site/pkg"
    echo "$key" >"$made"
fi

bundle style/main.css >"$site/atelier.css.new"
if cmp -s "$site/atelier.css.new" "$site/pkg/atelier.css" && [ -f "$site/pkg/atelier.css.br" ]; then
    rm "$site/atelier.css.new"
else
    # What is compressed goes first while there is nothing to serve in its place.
    rm -f "$site"/pkg/atelier.css*
    mv "$site/atelier.css.new" "$site/pkg/atelier.css"
    "$bindgen" compress "$site/pkg/atelier.css" || die "the styles could not be compressed"
fi
if [ -d style/public ]; then cp -R style/public/. "$site/"; fi
