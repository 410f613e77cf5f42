#!/bin/bash
# boot-l1.sh -- Debian's kernel boots to L1's init; RUN=kvm: loads KVM too, with the parameters that are asked for.
# CPUS=N: on so many processors. CPU=MODEL: on this one.
set -uo pipefail
source "$(dirname "$0")/common.sh"

cpus=${CPUS:-1}
run_droste "${SECONDS_MAX:-240}" "${l1[@]}" -append "$l1_append droste.run=${RUN:-init}" -smp "$cpus" \
    -cpu "${CPU:-max}" --stats "$OUT/stats.json"
check "status $status" [ "$status" = "$passed_status" ]
check "L1's init came up" grep -q '^L1: up' "$OUT/out"
check "all processors came up" grep -q "^L1: up .* $cpus processors" "$OUT/out"
check "L1 ended well" grep -q '^L1: done (status 0' "$OUT/out"
# Warnings of the kernel: a stack trace, or a complaint about the processor, the clock or the firmware.
complaints='WARNING:|BUG:|Oops|Call Trace|Kernel panic|\[Firmware Bug\]|unstable|Spurious|nobody cared'
check "no complaints in the kernel's log" [ "$(grep -c -E "$complaints" "$OUT/out")" = 0 ]
grep -E "$complaints" "$OUT/out"
if [ "${RUN:-init}" = kvm ]; then
    for parameter in ept eptad vpid unrestricted_guest flexpriority enable_apicv pml preemption_timer \
        enable_shadow_vmcs vnmi nested; do
        check "kvm_intel.$parameter" grep -q -E "^L1: kvm_intel:.* $parameter=(Y|1)( |$)" "$OUT/out"
    done
    check "KVM loads without a word" [ "$(grep -c -i -E '\] (kvm|kvm_intel):' "$OUT/out")" = 0 ]
    # Warnings and what is worse, alone on the console.
    run_droste "${SECONDS_MAX:-240}" "${l1[@]}" -append "$l1_append loglevel=5 droste.run=kvm" -smp "$cpus"
    check "status $status" [ "$status" = "$passed_status" ]
    check "no warning in the kernel's log: $(grep -E '^\[' "$OUT/out")" [ "$(grep -c -E '^\[' "$OUT/out")" = 0 ]
fi
[ "$failures" = 0 ] || show_end
finish
