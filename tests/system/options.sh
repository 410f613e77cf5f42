#!/bin/bash
# options.sh -- what a user can get wrong: each gives one clear line on standard error, a non-zero status, in seconds.
set -uo pipefail
source "$(dirname "$0")/common.sh"

# refuse NAME PATTERN OPTION...: one line that begins "droste: " and has PATTERN; status 1; no output
refuse() {
    local name=$1 pattern=$2
    shift 2
    run_droste 10 "$@"
    check "$name: status $status" [ "$status" = 1 ]
    check "$name: one line: $(cat "$OUT/err")" [ "$(wc -l <"$OUT/err")" = 1 ]
    check "$name: says \"$pattern\": $(cat "$OUT/err")" grep -q -E "^droste: .*$pattern" "$OUT/err"
    check "$name: no output" [ ! -s "$OUT/out" ]
}
# accept NAME PATTERN OPTION...: runs exit.S; standard error has PATTERN (empty: nothing at all)
accept() {
    local name=$1 pattern=$2
    shift 2
    run_droste 10 -kernel "$OUT/exit.elf" -nographic -no-reboot "${exit_device[@]}" "$@"
    check "$name: status $status: $(cat "$OUT/err")" [ "$status" = "$passed_status" ]
    if [ -n "$pattern" ]; then
        check "$name: says \"$pattern\"" grep -q -E "$pattern" "$OUT/err"
    else
        check "$name: says nothing: $(cat "$OUT/err")" [ ! -s "$OUT/err" ]
    fi
}

image exit
kernel=(-kernel "$OUT/exit.elf" -nographic -no-reboot "${exit_device[@]}")

# -- The command line ---------------------------------------------------------------------------------------------------
refuse "nothing to run" "-kernel"
refuse "unknown option" "-fancy.*unknown option" "${kernel[@]}" -fancy
refuse "stray word" "vmlinuz.*unknown option" vmlinuz
refuse "argument missing" "-m.*needs an argument" -m
refuse "unknown device" "no such device" "${kernel[@]}" -device e1000
refuse "unknown device parameter" "unknown parameter speed" "${kernel[@]}" -device isa-debug-exit,speed=3
refuse "iobase too large" "out of range" "${kernel[@]}" -device isa-debug-exit,iobase=0x10000
refuse "memory 0" "-m 0" "${kernel[@]}" -m 0
refuse "memory 1T" "-m 1T" "${kernel[@]}" -m 1T
refuse "memory negative" "-m -5" "${kernel[@]}" -m -5
refuse "memory not a number" "not a size" "${kernel[@]}" -m lots
refuse "memory overflows" "-m 99999999999999999999" "${kernel[@]}" -m 99999999999999999999
refuse "no processors" "-smp 0" "${kernel[@]}" -smp 0
refuse "too many processors" "-smp 1000" "${kernel[@]}" -smp 1000
refuse "unknown model" "-cpu: .*Zen" "${kernel[@]}" -cpu Zen
refuse "unknown feature" "-cpu: .*warp" "${kernel[@]}" -cpu Icelake-Server,+warp
refuse "feature that is not there" "-cpu: .*avx512f" "${kernel[@]}" -cpu Icelake-Server,+avx512f
refuse "feature of later" "-cpu: .*not there" "${kernel[@]}" -cpu Icelake-Server,+monitor
refuse "the host's model" "-cpu host" "${kernel[@]}" -cpu host
refuse "unknown executor" "-accel hax" "${kernel[@]}" -accel hax
refuse "unknown board" "-machine pc" "${kernel[@]}" -machine pc
refuse "unknown serial" "-serial pty" "${kernel[@]}" -serial pty
refuse "serial file in no folder" "-serial .*No such file" "${kernel[@]}" -serial "file:$OUT/none/serial"
refuse "serial socket that nobody listens on" "-serial unix:" "${kernel[@]}" -serial "unix:$OUT/nobody"
refuse "trace event that is not there" "-trace .*no_such" "${kernel[@]}" -trace no_such
refuse "log in no folder" "-D .*No such file" "${kernel[@]}" -D "$OUT/none/log"
refuse "state hash without file" "--state-hash" "${kernel[@]}" --state-hash 1000
refuse "state hash every 0" "--state-hash" "${kernel[@]}" --state-hash "0,$OUT/hash"
refuse "tick not a number" "--at soon" "${kernel[@]}" --at soon
refuse "bad date" "-rtc base=yesterday" "${kernel[@]}" -rtc base=yesterday
refuse "unknown executor" "-accel turbo: must be jit, interp or tcg" "${kernel[@]}" -accel turbo
refuse "executor that is a beginning" "-accel jitter: must be" "${kernel[@]}" -accel jitter
refuse "unknown part of -accel" "-accel jit,warm=1: after jit only hot=N and cache=SIZE" "${kernel[@]}" -accel jit,warm=1
refuse "hot 0" "-accel jit,hot=0: hot must be" "${kernel[@]}" -accel jit,hot=0
refuse "hot not a number" "-accel jit,hot=very: hot must be" "${kernel[@]}" -accel jit,hot=very
refuse "cache too small" "-accel jit,cache=512K: cache must be a size from 1M" "${kernel[@]}" -accel jit,cache=512K
refuse "cache too large" "-accel jit,cache=2G: cache must be" "${kernel[@]}" -accel jit,cache=2G
refuse "cache not a size" "-accel jit,cache=big: cache must be" "${kernel[@]}" -accel jit,cache=big
refuse "item of -d that is not there" "no_such" "${kernel[@]}" -d tlb-check,no_such
refuse "profile in no folder" "--profile $OUT/none/profile: No such file" "${kernel[@]}" --profile "$OUT/none/profile"
refuse "statistics in no folder" "--stats $OUT/none/stats: No such file" "${kernel[@]}" --stats "$OUT/none/stats"
refuse "snapshot in no folder" "--save $OUT/none/snapshot: No such file" "${kernel[@]}" --save "$OUT/none/snapshot"
refuse "profile is a folder" "--profile $OUT: Is a directory" "${kernel[@]}" --profile "$OUT"

# -- Files --------------------------------------------------------------------------------------------------------------
head -c 100000 /dev/zero | tr '\0' 'x' >"$OUT/garbage"
: >"$OUT/empty"
refuse "kernel missing" "$OUT/none.*No such file" -kernel "$OUT/none"
refuse "kernel is a folder" "$OUT" -kernel "$OUT"
refuse "kernel empty" "$OUT/empty" -kernel "$OUT/empty"
refuse "kernel garbage" "$OUT/garbage" -kernel "$OUT/garbage"
head -c 64 "$OUT/exit.elf" >"$OUT/short.elf"
refuse "ELF cut after its header" "$OUT/short.elf" -kernel "$OUT/short.elf"
segment=$(readelf -lW "$OUT/exit.elf" | awk '$1 == "LOAD" { print $2; exit }')
head -c "$((segment + 4))" "$OUT/exit.elf" >"$OUT/half.elf"
refuse "ELF cut in the middle" "$OUT/half.elf" -kernel "$OUT/half.elf"
# A bzImage's header alone: four setup sectors, 64-bit protocol, 1 MB of code promised.
{
    head -c 497 /dev/zero
    printf '\x04\0\0\0\0\x01\0\0\0\0\0\0\0\x55\xaa\xeb\x66HdrS\x0f\x02'
} >"$OUT/header"
refuse "bzImage cut in its header" "$OUT/header" -kernel "$OUT/header"
cp "$OUT/header" "$OUT/setup"
truncate -s 2560 "$OUT/setup"
refuse "bzImage without its kernel" "$OUT/setup" -kernel "$OUT/setup"
{
    cat "$OUT/header"
    head -c 200000 "$OUT/garbage"
} >"$OUT/garbage-bz"
refuse "bzImage of garbage" "$OUT/garbage-bz" -kernel "$OUT/garbage-bz"
refuse "initrd missing" "$OUT/none.*No such file" "${kernel[@]}" -initrd "$OUT/none"
truncate -s 300M "$OUT/large"
refuse "initrd larger than memory" "$OUT/large" "${kernel[@]}" -m 128M -initrd "$OUT/large"
refuse "kernel larger than memory" "$OUT/large" -kernel "$OUT/large" -m 128M
refuse "disk missing" "$OUT/none.*No such file" "${kernel[@]}" -drive "file=$OUT/none,format=raw,if=virtio"
refuse "disk without format" "format=raw" "${kernel[@]}" -drive "file=$OUT/large,if=virtio"
refuse "disk of another format" "qcow2" "${kernel[@]}" -drive "file=$OUT/large,format=qcow2,if=virtio"
refuse "disk on another bus" "if=ide" "${kernel[@]}" -drive "file=$OUT/large,format=raw,if=ide"
refuse "disk without a sector" "less than one sector" "${kernel[@]}" -drive "file=$OUT/empty,format=raw,if=virtio"
refuse "disk is a folder" "$OUT" "${kernel[@]}" -drive "file=$OUT,format=raw,if=virtio"
# What a user may not read or write. Root may do all: then as somebody else, in a folder that anybody may enter.
droste=$DROSTE shared=$(mktemp -d)
chmod 755 "$shared"
cp "$DROSTE" "$shared/droste" && cp "$OUT/exit.elf" "$shared"
truncate -s 1M "$shared/locked" "$shared/read-only"
chmod 0 "$shared/locked" && chmod 444 "$shared/read-only"
DROSTE=$shared/droste
if [ "$(id -u)" = 0 ]; then
    printf '#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups "%s" "$@"\n' "$shared/droste" >"$shared/nobody"
    chmod 755 "$shared/nobody"
    DROSTE=$shared/nobody
fi
exit_image=(-kernel "$shared/exit.elf" "${kernel[@]:2}")
refuse "disk unreadable" "Permission denied" "${exit_image[@]}" -drive "file=$shared/locked,format=raw,if=virtio"
refuse "kernel unreadable" "Permission denied" -kernel "$shared/locked"
refuse "disk not writable" "Permission denied" "${exit_image[@]}" -drive "file=$shared/read-only,format=raw,if=virtio"
run_droste 10 "${exit_image[@]}" -drive "file=$shared/read-only,format=raw,if=virtio,readonly=on"
check "disk not writable, readonly=on: status $status: $(cat "$OUT/err")" [ "$status" = "$passed_status" ]
DROSTE=$droste
rm -rf "$shared"
refuse "snapshot missing" "$OUT/none.*No such file" "${kernel[@]}" -loadvm "$OUT/none"
refuse "snapshot garbage" "$OUT/garbage" "${kernel[@]}" -loadvm "$OUT/garbage"
refuse "snapshot empty" "$OUT/empty" "${kernel[@]}" -loadvm "$OUT/empty"

# -- Taken --------------------------------------------------------------------------------------------------------------
accept "plain" ""
accept "-enable-kvm" "^droste: -enable-kvm: not needed" -enable-kvm
accept "-accel tcg" "" -accel tcg
accept "-accel interp" "" -accel interp
accept "-accel jit with its parts" "" -accel jit,cache=1M,hot=1
accept "-d tlb-check" "" -d tlb-check
accept "profile" "" --profile "$OUT/profile"
check "profile: has instructions" grep -q '^instructions: [1-9]' "$OUT/profile"
accept "two processors" "" -smp 2
accept "disk" "" -drive "file=$OUT/large,format=raw,if=virtio"
accept "disk read-only" "" -drive "file=$OUT/large,format=raw,if=virtio,readonly=on"
accept "serial to a file" "" -serial "file:$OUT/serial"
# The other end of a socket: says A, and takes what comes back until the guest has ended.
image echo
rm -f "$OUT/socket" "$OUT/answer"
perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die; $c = $s->accept;
    syswrite $c, "A"; print while sysread $c, $_, 100' "$OUT/socket" >"$OUT/answer" &
for _ in $(seq 100); do [ -S "$OUT/socket" ] || sleep 0.05; done
run_droste 10 -kernel "$OUT/echo.elf" -nographic -no-reboot "${exit_device[@]}" -serial "unix:$OUT/socket"
check "serial to a socket: status $status: $(cat "$OUT/err")" [ "$status" = "$passed_status" ]
[ "$status" = "$passed_status" ] || kill $! 2>/dev/null
wait $! 2>/dev/null
check "serial to a socket: both ways: $(cat "$OUT/answer")" [ "$(cat "$OUT/answer")" = B ]
rm -f "$OUT/socket"
status=0
printf A | timeout 10 "$DROSTE" -kernel "$OUT/echo.elf" "${kernel[@]:2}" -serial stdio >"$OUT/answer" 2>"$OUT/err" || status=$?
check "serial on standard input and output: status $status" [ "$status" = "$passed_status" ]
check "serial on standard input and output: $(cat "$OUT/answer")" [ "$(cat "$OUT/answer")" = B ]
accept "-accel kvm" "^droste: -accel kvm: not needed" -accel kvm
accept "a model without a feature" "" -cpu Icelake-Server,-avx2,-pku
accept "a model with a feature" "" -cpu Icelake-Server,+la57
accept "statistics" "" --stats "$OUT/stats.json"
check "statistics: has instructions" grep -q '"instructions"' "$OUT/stats.json"
for name in wall_seconds wall_seconds_l1 wall_seconds_l2 wall_seconds_idle samples instructions_l1 instructions_l2 \
    vm_entries vm_exits tlb_fills walks walks_2d ept_walks; do
    check "statistics: has $name" grep -q "\"$name\"" "$OUT/stats.json"
done
accept "save at the end" "^droste: saved at tick [0-9]+ to " --save "$OUT/snapshot"
check "save at the end: a file" [ -s "$OUT/snapshot" ]
rm -f "$OUT/snapshot"
accept "state hash" "" --state-hash "1000,$OUT/hash"
check "state hash: has a final line" grep -q -E '^[0-9]+ [0-9a-f]{16}$' "$OUT/hash"
run_droste 10 -help
check "-help: status $status" [ "$status" = 0 ]
check "-help: lists -kernel" grep -q -e "-kernel" "$OUT/out"
run_droste 10 --version
check "--version: $(cat "$OUT/out")" grep -q '^droste [0-9]' "$OUT/out"
rm -f "$OUT/large"
finish
