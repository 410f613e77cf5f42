#!/bin/bash
# jit-guests.sh -- every guest image runs translated as it runs interpreted: the same output, status and state hashes.
# HOT=N: runs of a block before it is translated. CACHE=SIZE: of translated code. IMAGES="NAME...": only these.
# EVERY=N: ticks from hash to hash.
set -uo pipefail
source "$(dirname "$0")/common.sh"
: "${GUEST_IMAGES:?the folder of the guest images}"

# accelerated ACCEL NAME EVERY: leaves $OUT/{hash,out,status}-ACCEL
accelerated() {
    run_droste 120 -kernel "$GUEST_IMAGES/$2.elf" -m 32M -smp 2 -nographic -no-reboot "${exit_device[@]}" \
        -accel "$1" --state-hash "$3,$OUT/hash-${1%%,*}"
    mv "$OUT/raw" "$OUT/raw-${1%%,*}"
}

first_difference() {
    diff "$OUT/hash-interp" "$OUT/hash-jit" | awk 'NR == 2 { print "first differing hash at tick " $2 }'
}

for path in "$GUEST_IMAGES"/*.elf; do
    name=$(basename "$path" .elf)
    [ "$name" = rom ] && continue # for Bochs
    [[ -z ${IMAGES:-} || " $IMAGES " == *" $name "* ]] || continue
    every=${EVERY:-50000}
    [ "$name" = timers ] && every=$((every * 20))
    accelerated interp "$name" "$every"
    wanted=$status
    accelerated "jit,hot=${HOT:-1}${CACHE:+,cache=$CACHE}" "$name" "$every"
    check "$name: hashes: $(first_difference)" cmp -s "$OUT/hash-interp" "$OUT/hash-jit"
    check "$name: there are hashes" [ -s "$OUT/hash-interp" ]
    check "$name: output" cmp -s "$OUT/raw-interp" "$OUT/raw-jit"
    check "$name: status $status instead of $wanted" [ "$status" = "$wanted" ]
done
finish
