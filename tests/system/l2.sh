#!/bin/bash
# l2.sh [OPTION]... -- L1's KVM runs Linux as L2 to its user space; L2_CPUS=N processors in L2.
#
# TWICE=1 runs it again: the final state of the machine must be the same, bit for bit.
set -uo pipefail
source "$(dirname "$0")/common.sh"

cpus=${L2_CPUS:-1}
once() {
    run_droste "${SECONDS_MAX:-600}" "${l1[@]}" -append "$l1_append droste.run=l2 droste.l2cpus=$cpus" \
        --stats "$OUT/stats.json" --state-hash "1000000000000,$OUT/hash" "$@"
    check "status $status" [ "$status" = "$passed_status" ]
}

once "$@"
check "L2's init came up" grep -q '^L2: up' "$OUT/out"
release=$(awk '/^L1: up/ { l1 = 1 } l1 && /^Linux / { print $3; exit }' "$OUT/out")
check "L2's uname: $release" [ "$(grep -c "^Linux .*$release .*x86_64" "$OUT/out")" = 2 ]
check "L2's processors" grep -q "^L2: processors: $cpus\$" "$OUT/out"
check "L2's timer and serial interrupts" grep -q '^L2: done (status 0' "$OUT/out"
check "kvmm ended well" grep -q '^L1: kvmm status 0' "$OUT/out"
# The host's time was sampled in both: each is at least a tenth of the whole.
share() { awk -F: -v n="\"wall_seconds$1\"" 'index($1, n) { print int($2 * 1000) }' "$OUT/stats.json"; }
check "time in L1: $(share _l1) of $(share '') ms" [ "$(($(share _l1) * 10))" -gt "$(share '')" ]
check "time in L2: $(share _l2) of $(share '') ms" [ "$(($(share _l2) * 10))" -gt "$(share '')" ]
[ "$failures" = 0 ] || {
    show_end
    finish
}
if [ "${TWICE:-0}" = 1 ]; then
    cp "$OUT/hash" "$OUT/hash-1"
    cp "$OUT/out" "$OUT/out-1"
    once "$@"
    check "the same output" cmp -s "$OUT/out" "$OUT/out-1"
    check "the same state: $(cat "$OUT/hash-1") and $(cat "$OUT/hash")" cmp -s "$OUT/hash" "$OUT/hash-1"
fi
finish
