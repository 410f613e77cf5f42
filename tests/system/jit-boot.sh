#!/bin/bash
# jit-boot.sh -- the boot of L1, and with RUN=l2 of L2 below it, translated and interpreted: the same state hashes every
# EVERY ticks (100,000), the same output. UNTIL=N: only so far. HOT=N: runs of a block before it is translated.
# CACHE=SIZE: of translated code.
set -uo pipefail
source "$(dirname "$0")/common.sh"

every=${EVERY:-100000}
until=()
[ -z "${UNTIL:-}" ] || until=(--at "$UNTIL")

# boot ACCEL: both run at once, each with a pipe of hashes, would be faster; one after the other is simpler.
boot() {
    run_droste "${SECONDS_MAX:-1500}" "${l1[@]}" -append "$l1_append droste.run=${RUN:-init}" -accel "$1" \
        --state-hash "$every,$OUT/hash-${1%%,*}" "${until[@]}"
    mv "$OUT/raw" "$OUT/raw-${1%%,*}"
}

boot interp
check "interp: status $status" [ "$status" = "$([ -n "${UNTIL:-}" ] && echo 0 || echo "$passed_status")" ]
wanted=$status
boot "jit${HOT:+,hot=$HOT}${CACHE:+,cache=$CACHE}"
check "jit: status $status instead of $wanted" [ "$status" = "$wanted" ]
check "hundreds of hashes" [ "$(wc -l <"$OUT/hash-interp")" -gt 300 ]
check "the same output" cmp -s "$OUT/raw-interp" "$OUT/raw-jit"
check "hashes: $(diff "$OUT/hash-interp" "$OUT/hash-jit" | awk 'NR == 2 { print "the first that differs at tick " $2 }')" \
    cmp -s "$OUT/hash-interp" "$OUT/hash-jit"
echo "$(wc -l <"$OUT/hash-interp") hashes"
[ "$failures" = 0 ] || show_end
finish
