#!/bin/bash
# ends.sh -- guests that go wrong: triple fault with and without -no-reboot, a jump into MMIO or nowhere, a dead halt.
set -uo pipefail
source "$(dirname "$0")/common.sh"

for name in triple-fault mmio-jump hole-jump quiet; do
    image "$name"
done
options=(-m 64M -nographic "${exit_device[@]}")

run_droste 20 -kernel "$OUT/triple-fault.elf" "${options[@]}" -no-reboot
check "triple fault, -no-reboot: status $status" [ "$status" = 2 ]
check "triple fault, -no-reboot: says so: $(cat "$OUT/err")" grep -q "triple fault" "$OUT/err"

# Starts four times: the last one ends with its count, (4 << 1) | 1.
run_droste 20 -kernel "$OUT/triple-fault.elf" "${options[@]}"
check "triple fault, rebooting: status $status" [ "$status" = 9 ]
check "triple fault, rebooting: three times: $(cat "$OUT/err")" [ "$(grep -c "restarting" "$OUT/err")" = 3 ]

for name in mmio-jump hole-jump; do
    run_droste 20 -kernel "$OUT/$name.elf" "${options[@]}" -no-reboot
    check "$name: ends by itself, status $status" [ "$status" = 2 ]
    check "$name: a message: $(cat "$OUT/err")" grep -q "^droste: " "$OUT/err"
done

run_droste 20 -kernel "$OUT/quiet.elf" "${options[@]}" -no-reboot
check "dead halt: status $status" [ "$status" = 2 ]
check "dead halt: says so: $(cat "$OUT/err")" grep -q "nothing left that could wake it" "$OUT/err"
finish
