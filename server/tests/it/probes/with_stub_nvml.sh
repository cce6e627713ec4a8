#!/bin/sh
# The atelier beside this link, with the stub library beside it; STUB names what the stub does.
here=$(dirname "$0")
STUB_NVML=$(cat "$here/does") LD_LIBRARY_PATH=$here exec "$here/atelier" "$@"
