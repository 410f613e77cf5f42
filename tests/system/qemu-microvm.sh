#!/bin/bash
# qemu-microvm.sh [OPTION]... -- Debian's qemu in L1 runs Linux as L2 in its microvm machine to L2's user space.
#
# Skipped where qemu-system-x86 is not installed: L1's initramfs has the host's.
set -uo pipefail
source "$(dirname "$0")/common.sh"

[ -r "$GUEST/l1-qemu.cpio" ] || {
    echo "skipped: no $GUEST/l1-qemu.cpio, which scripts/guest-files makes where qemu-system-x86 is installed"
    exit 77
}
run_droste "${SECONDS_MAX:-600}" "${l1[@]}" -initrd "$GUEST/l1-qemu.cpio" -append "$l1_append droste.run=qemu" \
    --stats "$OUT/stats.json" "$@"
check "status $status" [ "$status" = "$passed_status" ]
check "qemu was started" grep -q '^L1: starting qemu' "$OUT/out"
check "L2's init came up" grep -q '^L2: up' "$OUT/out"
release=$(awk '/^L1: up/ { l1 = 1 } l1 && /^Linux / { print $3; exit }' "$OUT/out")
check "L2's uname: $release" [ "$(grep -c "^Linux .*$release .*x86_64" "$OUT/out")" = 2 ]
check "L2's processors" grep -q "^L2: processors: 1\$" "$OUT/out"
check "L2's timer and serial interrupts" grep -q '^L2: done (status 0' "$OUT/out"
check "qemu ended with L2's status" grep -q '^L1: qemu status 1$' "$OUT/out"
[ "$failures" = 0 ] || show_end
finish
