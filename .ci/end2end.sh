#!/bin/bash
# The browser tests, against the binary and the site that are built already.
. "$(dirname "$0")/lib.sh"
cd end2end
ATELIER_BIN=$target/release/atelier ATELIER_SITE_ROOT=$site exec npx --no-install playwright test "$@"
