# A compiler for wasm32-unknown-unknown, whichever way this machine can have one. Sourced.
#
# 1. The Rust on PATH has the target already, or rustup can download it (seconds).
# 2. Otherwise Debian's rustc (package rustc-web, kept recent for browsers): its own source builds
#    the standard library for wasm32 once, into a private sysroot under the cache folder. Only the
#    browser's half is compiled with it; the server always uses the Rust on PATH, and Debian's
#    files under /usr stay as they are.
#
# ATELIER_WASM=rustup or ATELIER_WASM=debian insists on one of the two.

wasm_target=wasm32-unknown-unknown
debian_packages=(rustc-web cargo-web rust-web-src rust-web-clippy)

# Whether the Rust on PATH can compile for wasm32 as it is.
path_rust_has_wasm() {
    compgen -G "$(rustc --print target-libdir --target $wasm_target 2>/dev/null)/libcore-*.rlib" >/dev/null
}

debian_version() { dpkg-query -W -f='${Version}' rustc-web 2>/dev/null || true; }

# The sysroot's name carries the package's version, so an upgrade builds a new one.
debian_sysroot() { echo "$cache/wasm-sysroot-$(debian_version)"; }

debian_installed() {
    [ -x /usr/bin/cargo-clippy ] && [ -e /usr/lib/rustlib/src/rust/library ] &&
        dpkg --compare-versions "$(debian_version)" ge "$rust_version"
}
debian_ready() { debian_installed && [ -f "$(debian_sysroot)/complete" ]; }

build_debian_sysroot() {
    local sysroot work lib
    sysroot=$(debian_sysroot)
    work=$cache/wasm-std
    rm -rf "$work" "$sysroot"
    mkdir -p "$work/src"
    printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$work/Cargo.toml"
    echo '#![no_std]' >"$work/src/lib.rs"
    # RUSTC_BOOTSTRAP: building std is a nightly option, and this is the very source this compiler
    # was built from. Bitcode is kept so that the interface can be optimised together with std.
    (cd "$work" && env -u CARGO_TARGET_DIR RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTFLAGS=-Cembed-bitcode=yes \
        /usr/bin/cargo build --release --target $wasm_target \
        -Zbuild-std=std,panic_abort,proc_macro,test) || return 1
    lib=$sysroot/lib/rustlib/$wasm_target/lib
    mkdir -p "$lib"
    find "$work/target/$wasm_target/release/deps" -name '*.rlib' ! -name 'libempty-*' -exec cp {} "$lib" \;
    compgen -G "$lib/libcore-*.rlib" >/dev/null || return 1
    touch "$sysroot/complete"
    rm -rf "$work"
}

# wasm_setup: makes sure that one of the ways works.
wasm_setup() {
    local way=${ATELIER_WASM:-auto}
    case $way in auto | rustup | debian) ;; *) die "ATELIER_WASM is '$way'; it can be auto, rustup or debian" ;; esac
    if [ "$way" != debian ]; then
        path_rust_has_wasm && return
        if [ "$way" = auto ] && debian_ready; then return; fi
        if command -v rustup >/dev/null &&
            timed "Adding the wasm32 target with rustup" logged rustup timeout 600 rustup target add $wasm_target &&
            path_rust_has_wasm; then
            return
        fi
        [ "$way" = rustup ] && die "rustup could not add the target $wasm_target; ATELIER_WASM=debian takes Debian's compiler instead"
        note "rustup cannot download here: Debian's compiler takes the browser's half"
    fi
    debian_ready && return
    debian_installed || apt_install "compiling for the browser" "${debian_packages[@]}"
    debian_installed ||
        die "Debian's rustc-web is $(debian_version), and $rust_version or newer is needed: is the security archive (bookworm-security) among apt's sources?"
    timed "Building Rust's standard library for wasm32, once" logged wasm-std build_debian_sysroot ||
        die "the standard library for wasm32 could not be built"
}

# wasm_cargo SUBCOMMAND ARGS…: cargo for the browser's half, after wasm_setup.
wasm_cargo() {
    if [ "${ATELIER_WASM:-auto}" != debian ] && path_rust_has_wasm; then
        cargo "$@"
        return
    fi
    local lld front=(/usr/bin/cargo)
    [ "$1" = clippy ] && front=(/usr/bin/cargo-clippy)
    # rustup ships the linker; Debian keeps it in another package, rust-web-llvm.
    lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
    [ -x "$lld" ] || lld=$(command -v rust-lld) ||
        { apt_install "linking for the browser" rust-web-llvm && lld=$(command -v rust-lld); }
    # The flags reach the wasm side only: build scripts and macros run on Debian's own sysroot.
    env CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$lld" \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="--sysroot=$(debian_sysroot)" \
        "${front[@]}" "$@"
}
