#!/bin/bash
# demo.sh -- "droste demo" needs no files, shows exits of at least eight kinds, and ends with status 0.
set -uo pipefail
source "$(dirname "$0")/common.sh"

cd /
run_droste 60 demo
check "status $status" [ "$status" = 0 ]
for kind in CPUID HLT VMCALL I/O EPT RDMSR WRMSR "CR access" "preemption timer"; do
    check "an exit by $kind" grep -q -i -F -e "$kind" "$OUT/out"
done
cp "$OUT/out" "$OUT/first"
run_droste 60 demo
check "a second run says the same" cmp -s "$OUT/out" "$OUT/first"
run_droste 60 demo -m 1G
check "refuses options: status $status" [ "$status" = 1 ]
check "refuses options by name: $(cat "$OUT/err")" grep -q -e "-m" "$OUT/err"
[ "$failures" = 0 ] || tail -n 20 "$OUT/first" "$OUT/err"
finish
