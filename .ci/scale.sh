#!/bin/bash
# Measures a gallery of 100 000 images: answers and memory with 50 people, and scrolling in a real
# browser where all of them are one person's. Fails where a bar of docs/gallery.md is missed.
#     .ci/scale.sh [IMAGES]
. "$(dirname "$0")/lib.sh"
images=${1:-100000}
timed "Building what measures" cargo build --locked --release "${rust_packages[@]}" --example gallery_scale ||
    die "it did not compile"
scale=$target/release/examples/gallery_scale
failed=
# A folder stays for the next time; a migration since then is made up for when it is opened.
"$scale" "$target/scale/$images-50" "$images" 50 || failed=1
"$scale" "$target/scale/$images-1" "$images" 1 fill || die "the folder for scrolling could not be made"
cd end2end
ATELIER_BIN=$target/release/atelier ATELIER_SITE_ROOT=$site ATELIER_SCALE_DIR=$target/scale/$images-1 ATELIER_SCALE_IMAGES=$images \
    npx --no-install playwright test --config scale.config.ts || failed=1
[ -z "$failed" ] || die "a bar is missed; see above"
