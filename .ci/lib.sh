# What the scripts beside this file share: where things are, progress lines, and apt.
# Sourced, never run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Tools and the private wasm sysroot live here, so that a second clone need not build them again.
cache=${ATELIER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/atelier}
target=${CARGO_TARGET_DIR:-$root/target}
site=$target/site
logs=$cache/log
# The oldest Rust that the code compiles with.
rust_version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# The crates that run natively. Always named together: cargo unites the features of what is named, so
# building, linting and testing then share every compiled dependency.
rust_packages=(-p atelier -p atelier-app -p atelier-engine --features atelier-app/ssr)
mkdir -p "$cache/bin" "$logs"
cd "$root"
# Where rustup puts cargo; a shell that was open during its installation does not know yet.
command -v cargo >/dev/null || export PATH=$HOME/.cargo/bin:$PATH

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
exec 3>&2 # what stops everything is said to the person, also from inside a step that writes a log
die() {
    printf 'error: %s\n' "$*" >&3
    exit 1
}

# took START: how long ago that was, in words.
took() {
    local s=$(($(date +%s) - $1))
    if ((s < 60)); then printf '%d s' "$s"; else printf '%d min %02d s' $((s / 60)) $((s % 60)); fi
}

# timed WORDS COMMAND…: says what is done, lets the command speak, says how long it took.
timed() {
    local words=$1 start rc=0
    shift
    say "$words"
    start=$(date +%s)
    "$@" || rc=$?
    if ((rc == 0)); then note "done in $(took "$start")"; else note "failed after $(took "$start")"; fi
    return $rc
}

# logged NAME COMMAND…: keeps the command's output in a log and shows its end only when it failed.
logged() {
    local log=$logs/$1.log rc=0
    shift
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    if ((rc != 0)); then
        tail -n 40 "$log" >&2
        note "the whole log: $log"
    fi
    return $rc
}

can_be_root() {
    (($(id -u) == 0)) ||
        { command -v sudo >/dev/null && { { : </dev/tty; } 2>/dev/null || sudo -n true 2>/dev/null; }; }
}
as_root() { if (($(id -u) == 0)); then "$@"; else sudo "$@"; fi; }

# apt_install WHY PACKAGE…: installs what is missing, refusing to remove anything for it.
apt_install() {
    local why=$1 plan
    shift
    command -v apt-get >/dev/null || die "$why: $* is missing, and there is no apt here to install it with"
    can_be_root ||
        die "$why: Debian's $* is missing, and there is neither root nor a usable sudo here. As root, run: apt-get update && apt-get install --no-install-recommends $*"
    # Lists that came with the machine name versions the archive no longer has, or miss the newest.
    if [ -z "${lists_read:-}" ]; then
        timed "Reading Debian's package lists" logged apt-update as_root apt-get update ||
            die "apt-get update failed, so $* cannot be installed ($why)"
        lists_read=1
    fi
    plan=$(apt-get install -s --no-install-recommends "$@" 2>&1) ||
        die "$why: apt cannot install Debian's $*: $(tail -n 1 <<<"$plan")"
    if grep -q '^Remv ' <<<"$plan"; then
        die "$why: for Debian's $*, apt would remove $(awk '/^Remv /{printf "%s ", $2}' <<<"$plan")— remove that yourself if you agree, and run this again"
    fi
    timed "Installing $* ($why)" logged apt-install as_root \
        env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
        die "$why: apt could not install $*"
}

# hash_of FILE…: one short name for the contents of these files.
hash_of() { cat "$@" | sha256sum | cut -c1-16; }
