#!/bin/bash
# guests.sh IMAGE... -- guest images of tests/guest under droste; GUEST_IMAGES is where they are.
set -uo pipefail
source "$(dirname "$0")/common.sh"

export DROSTE
for name; do
    echo "-- $name"
    check "$name" timeout -k 5 80 "$here/../guest/run" "$name" --on droste --seconds 60 --quiet
done
finish
