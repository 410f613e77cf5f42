#!/bin/bash
# kernels.sh -- Debian's kernel cut short or damaged, and an initramfs that does not fit: refused, in seconds.
set -uo pipefail
source "$(dirname "$0")/common.sh"

refuse() {
    local name=$1 pattern=$2
    shift 2
    run_droste 20 "$@" -nographic -no-reboot
    check "$name: status $status" [ "$status" = 1 ]
    check "$name: one line that says \"$pattern\": $(cat "$OUT/err")" \
        [ "$(grep -c -E "^droste: .*$pattern" "$OUT/err")-$(wc -l <"$OUT/err")" = 1-1 ]
}

for size in 1 512 600 1024 20000 5000000; do
    head -c "$size" "$GUEST/vmlinuz" >"$OUT/vmlinuz"
    refuse "kernel of $size bytes" "$OUT/vmlinuz" -kernel "$OUT/vmlinuz" -m 256M
done
# Without its magic number it is no kernel at all.
cp "$GUEST/vmlinuz" "$OUT/vmlinuz"
printf 'XXXX' | dd of="$OUT/vmlinuz" bs=1 seek=514 conv=notrunc status=none
refuse "kernel without HdrS" "$OUT/vmlinuz" -kernel "$OUT/vmlinuz" -m 256M
# A boot protocol from before 64-bit entry.
cp "$GUEST/vmlinuz" "$OUT/vmlinuz"
printf '\x05\x02' | dd of="$OUT/vmlinuz" bs=1 seek=518 conv=notrunc status=none
refuse "kernel of an old protocol" "$OUT/vmlinuz" -kernel "$OUT/vmlinuz" -m 256M
truncate -s 300M "$OUT/initrd"
refuse "initramfs larger than memory" "$OUT/initrd" -kernel "$GUEST/vmlinuz" -initrd "$OUT/initrd" -m 256M
refuse "kernel larger than memory" "$GUEST/vmlinuz" -kernel "$GUEST/vmlinuz" -m 8M
refuse "command line too long" "append|command line" -kernel "$GUEST/vmlinuz" -m 256M \
    -append "$(head -c 100000 /dev/zero | tr '\0' x)"
rm -f "$OUT/initrd" "$OUT/vmlinuz"

# The header is right, the code is not: the guest goes wrong by itself, and droste does not.
head -c 20000 "$GUEST/vmlinuz" >"$OUT/vmlinuz"
head -c "$(($(stat -c %s "$GUEST/vmlinuz") - 20000))" /dev/zero | tr '\0' '\17' >>"$OUT/vmlinuz"
run_droste 20 -kernel "$OUT/vmlinuz" -m 256M -nographic -no-reboot
check "kernel of garbage: ends by itself, status $status" [ "$status" = 2 ]
check "kernel of garbage: a message: $(cat "$OUT/err")" grep -q "^droste: " "$OUT/err"
rm -f "$OUT/vmlinuz"
finish
