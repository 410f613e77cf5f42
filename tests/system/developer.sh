#!/bin/bash
# developer.sh -- the developer's view: --profile counts the same under every executor, -d tlb-check changes nothing,
# --perf-map names each byte of translated code once.
set -uo pipefail
source "$(dirname "$0")/common.sh"
: "${GUEST_IMAGES:?the folder of the guest images}"

# guest NAME OPTION...: runs an image of tests/guest
guest() {
    local name=$1
    shift
    run_droste 60 -kernel "$GUEST_IMAGES/$name.elf" -m 32M -smp 2 -nographic -no-reboot "${exit_device[@]}" "$@"
}

# -- Profile ------------------------------------------------------------------------------------------------------------
# Totals of a JSON profile: all, L1, L2.
totals() {
    sed -n 's/^\t"\(instructions[_a-z0-9]*\)":[^0-9]*\([0-9]*\),$/\1 \2/p' "$1"
}
for name in smoke exceptions task vmx_ept; do
    for accel in interp jit jit,hot=1 jit,hot=1,cache=1M; do
        guest "$name" -accel "$accel" --profile "$OUT/$name-$accel.json" --stats "$OUT/stats.json"
        check "$name, $accel: status $status" [ "$status" = 1 ]
        check "$name, $accel: totals" [ "$(totals "$OUT/$name-$accel.json" | wc -l)" = 4 ]
        check "$name, $accel: the same totals as interpreted" \
            [ "$(totals "$OUT/$name-$accel.json")" = "$(totals "$OUT/$name-interp.json")" ]
        # The clock also counts delivered events.
        profiled=$(totals "$OUT/$name-$accel.json" | awk '$1 == "instructions" { print $2 }')
        counted=$(sed -n 's/^\t"instructions":[^0-9]*\([0-9]*\),$/\1/p' "$OUT/stats.json")
        check "$name, $accel: $profiled of $counted instructions" \
            [ "$profiled" -le "$counted" ] && [ "$profiled" -gt $((counted * 9 / 10)) ]
    done
done
check "L2 counts" [ "$(totals "$OUT/vmx_ept-jit.json" | awk '$1 == "instructions_l2" { print ($2 > 100) }')" = 1 ]
guest vmx_ept -accel jit --profile "$OUT/again.json"
check "the same run, the same profile" cmp -s "$OUT/vmx_ept-jit.json" "$OUT/again.json"
guest vmx_ept --profile "$OUT/profile.txt"
check "text: has shares of both levels" [ "$(grep -c -E '^ *[0-9.]+%  +[0-9]+ .*  L[12] ' "$OUT/profile.txt")" -gt 50 ]
check "text: names L2" grep -q -E '%.*  L2 .* 64-bit CPL 0' "$OUT/profile.txt"
check "text: has code" grep -q -E '^  [0-9a-f]{16}  rep stosb$' "$OUT/profile.txt"

# -- Trace --------------------------------------------------------------------------------------------------------------
# Each entry and each exit is a line; exits that the statistics count by reason are as many.
guest vmx_exits -trace 'vmx_*' -D "$OUT/trace" --stats "$OUT/stats.json"
check "trace: status $status" [ "$status" = 1 ]
entries=$(awk -F: '/"vm_entries"/ { sum += $2 } END { print sum }' "$OUT/stats.json")
exits=$(awk -F: '/"vm_exits"/ { in_exits = 1; next } /}/ { in_exits = 0 } in_exits { sum += $2 } END { print sum }' \
    "$OUT/stats.json")
check "trace: entries: $(grep -c vmx_entry "$OUT/trace") of $entries" \
    [ "$entries" -gt 50 -a "$(grep -c ' vmx_entry ' "$OUT/trace")" = "$entries" ]
check "trace: exits: $(grep -c vmx_exit "$OUT/trace") of $exits" \
    [ "$exits" -gt 50 -a "$(grep -c ' vmx_exit ' "$OUT/trace")" = "$exits" ]
check "trace: nothing else" [ "$(grep -c -v -E ' vmx_(entry|exit) ' "$OUT/trace")" = 0 ]

# Each block is listed as the guest has it and as micro-ops; a translated one as the host runs it, as many as the
# statistics count.
guest smoke -accel jit,hot=1 -d in_asm,op,out_asm -D "$OUT/trace" --stats "$OUT/stats.json"
check "listings: status $status" [ "$status" = 1 ]
listed() { grep -c " $1 gpa=" "$OUT/trace"; }
check "listings: $(listed in_asm) of guest code, $(listed op) of micro-ops" \
    [ "$(listed in_asm)" -gt 100 -a "$(listed in_asm)" = "$(listed op)" ]
translated=$(awk '/"jit"/ { jit = 1 } jit && /"blocks"/ { print $2 + 0; exit }' "$OUT/stats.json")
check "listings: $(listed out_asm) of host code, $translated translated" [ "$(listed out_asm)" = "$translated" ]
check "listings: guest code" grep -q -E '^  0000000000100[0-9a-f]{3}  mov esp, 0x' "$OUT/trace"
check "listings: micro-ops" grep -q -E '^ +[0-9]+  movi\.4 rsp, 0x' "$OUT/trace"
check "listings: host code" grep -q -E '^  0000[0-9a-f]{12}  sub qword ptr \[rsp\+' "$OUT/trace"

# -- TLB check ----------------------------------------------------------------------------------------------------------
for name in paging vmx_ept; do
    for accel in interp jit,hot=1; do
        guest "$name" -accel "$accel" --state-hash "100000,$OUT/hash"
        guest "$name" -accel "$accel" --state-hash "100000,$OUT/hash-checked" --stats "$OUT/stats.json" -d tlb-check
        check "$name, $accel: status $status with -d tlb-check" [ "$status" = 1 ]
        check "$name, $accel: the same with -d tlb-check" cmp -s "$OUT/hash" "$OUT/hash-checked"
        check "$name, $accel: no access goes unchecked" grep -q -E '"tlb_fills":[^0-9]*0,' "$OUT/stats.json"
    done
done

# -- Evictions, perf map ------------------------------------------------------------------------------------------------
# mapped SMP: runs many-blocks.S in a small cache, leaves the perf map
mapped() {
    "$DROSTE" -kernel "$OUT/many-blocks.elf" -nographic -no-reboot "${exit_device[@]}" -smp "$1" -accel jit,hot=1,cache=1M \
        --perf-map --stats "$OUT/stats.json" --state-hash "50000,$OUT/hash-jit" </dev/null >"$OUT/out" 2>"$OUT/err" &
    local pid=$!
    until grep ' r-xs .*/dev/zero' "/proc/$pid/maps" >"$OUT/maps" 2>/dev/null || ! kill -0 "$pid" 2>/dev/null; do
        sleep 0.01
    done
    status=0
    wait "$pid" || status=$?
    mv "/tmp/perf-$pid.map" "$OUT/map"
}
image many-blocks
run_droste 60 -kernel "$OUT/many-blocks.elf" -nographic -no-reboot "${exit_device[@]}" -smp 2 -accel interp \
    --state-hash "50000,$OUT/hash-interp"
check "many blocks, interp: status $status" [ "$status" = "$passed_status" ]
mapped 2
check "many blocks, jit: status $status" [ "$status" = "$passed_status" ]
check "many blocks: code was evicted" grep -q -E '"evictions":[^0-9]*[1-9][0-9]' "$OUT/stats.json"
check "many blocks: the same hashes" cmp -s "$OUT/hash-interp" "$OUT/hash-jit"
check "perf map: many blocks" [ "$(grep -c -E '^[0-9a-f]+ [0-9a-f]+ guest_[0-9a-f]+_[0-9a-f]+$' "$OUT/map")" -gt 100 ]
# perf asks the map for memory without a file only; it knows it by this name.
check "perf map: executable: $(cat "$OUT/maps")" grep -q '/dev/zero (deleted)$' "$OUT/maps"
check "perf map: the thunks" grep -q -E ' droste_thunks$' "$OUT/map"
overlaps() {
    perl -ne '($a, $n) = map { hex } (split)[0, 1]; push @r, [$a, $n];
        END { @r = sort { $a->[0] <=> $b->[0] } @r;
              for (1 .. $#r) { $bad++ if $r[$_ - 1][0] + $r[$_ - 1][1] > $r[$_][0] } print $bad + 0 }' "$1"
}
check "perf map: overlapping lines: $(overlaps "$OUT/map")" [ "$(overlaps "$OUT/map")" = 0 ]
finish
