#!/bin/bash
# save-load.sh -- the machine is saved in the middle of L2's boot and goes on from the file to the same final state.
set -uo pipefail
source "$(dirname "$0")/common.sh"

limit=${SECONDS_MAX:-600}
run=("${l1[@]}" -append "$l1_append droste.run=l2")

# Without a pause. L1 says by its own clock, which counts ticks, when L2 started and when all was done.
run_droste "$limit" "${run[@]}" --state-hash "1000000000000,$OUT/hash-whole"
check "whole run: status $status" [ "$status" = "$passed_status" ]
cp "$OUT/out" "$OUT/out-whole"
end=$(awk '{ print $1 }' "$OUT/hash-whole")
middle=$(awk -v end="${end:-0}" '
    match($0, /uptime [0-9.]+ s/) { up = substr($0, RSTART + 7, RLENGTH - 9) }
    /^L1: starting L2/ { start = up }
    /^L1: done/ { done = up }
    END { if (start && done) printf "%.0f", end - (done - start) / 2 * 1e9 }' "$OUT/out-whole")
check "L2's boot found in the output" [ -n "$middle" ]
[ "$failures" = 0 ] || {
    show_end
    finish
}

run_droste "$limit" "${run[@]}" --at "$middle" --save "$OUT/snapshot"
check "run to tick $middle: status $status" [ "$status" = 0 ]
check "saved" [ -s "$OUT/snapshot" ]
check "L2 had been started" grep -q '^L1: starting L2' "$OUT/out"
check "L2 was not up yet" [ "$(grep -c '^L2: up' "$OUT/out")" = 0 ]
cp "$OUT/raw" "$OUT/raw-first"

run_droste "$limit" "${run[@]}" -loadvm "$OUT/snapshot" --state-hash "1000000000000,$OUT/hash-loaded"
check "loaded run: status $status" [ "$status" = "$passed_status" ]
cat "$OUT/raw-first" "$OUT/raw" | tr -d '\r' >"$OUT/out-both"
check "the two outputs are the whole one" cmp -s "$OUT/out-both" "$OUT/out-whole"
check "the same final state: $(cat "$OUT/hash-whole") and $(cat "$OUT/hash-loaded")" \
    cmp -s "$OUT/hash-whole" "$OUT/hash-loaded"
[ "$failures" = 0 ] || show_end

# A damaged file is refused.
head -c 1000000 "$OUT/snapshot" >"$OUT/cut"
run_droste 60 "${run[@]}" -loadvm "$OUT/cut"
check "cut snapshot: status $status" [ "$status" = 1 ]
check "cut snapshot: one line: $(cat "$OUT/err")" grep -q "^droste: .*$OUT/cut" "$OUT/err"
run_droste 60 "${run[@]}" -m 1G -loadvm "$OUT/snapshot"
check "snapshot of another machine: status $status" [ "$status" = 1 ]
rm -f "$OUT/snapshot" "$OUT/cut"
finish
