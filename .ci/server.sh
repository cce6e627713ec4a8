#!/bin/bash
# Builds the server, its worker and its command line: one binary, target/release/atelier.
. "$(dirname "$0")/lib.sh"
timed "Building the server" cargo build --locked --release "${rust_packages[@]}" || die "the server did not compile"
