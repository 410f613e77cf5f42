#!/bin/bash
# ends.sh -- guests that go wrong: triple fault with and without -no-reboot, a jump into MMIO or nowhere, a dead
# halt; and guests that never end: a signal does it.
set -uo pipefail
source "$(dirname "$0")/common.sh"

for name in triple-fault mmio-jump hole-jump quiet timed-halt idle; do
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

# Every timer ticks on, and none can wake the guest; then one that can, so that it is not given up too early.
for name in "" BLOCKED; do
    image ticks $name
    for input in stdio none; do
        run_droste 20 -kernel "$OUT/ticks${name:+-$name}.elf" "${options[@]}" -no-reboot -serial "$input"
        check "ticks $name, -serial $input: status $status" [ "$status" = 2 ]
        check "ticks $name, -serial $input: says so: $(cat "$OUT/err")" grep -q "nothing left that could wake it" "$OUT/err"
    done
done
run_droste 20 -kernel "$OUT/ticks.elf" "${options[@]}" -no-reboot --state-hash 100000000,"$OUT/hashes"
check "ticks, --state-hash: status $status" [ "$status" = 2 ]
for name in PIT_8259 PIT_IOAPIC RTC HPET LAPIC; do
    image ticks "$name"
    run_droste 20 -kernel "$OUT/ticks-$name.elf" "${options[@]}" -no-reboot
    check "ticks $name: its interrupt comes: status $status: $(cat "$OUT/err")" [ "$status" = 33 ]
done

# idle: interrupts are on, but at the end of input nobody is left to send one.
for name in quiet timed-halt idle; do
    run_droste 20 -kernel "$OUT/$name.elf" "${options[@]}" -no-reboot
    check "$name: status $status" [ "$status" = 2 ]
    check "$name: says so: $(cat "$OUT/err")" grep -q "nothing left that could wake it" "$OUT/err"
done

# ended_at: the tick of the message
ended_at() { sed -n 's/.*after \([0-9]*\) ticks$/\1/p' "$1"; }
cp "$OUT/err" "$OUT/err1"
run_droste 20 -kernel "$OUT/idle.elf" "${options[@]}" -no-reboot
check "idle: the same end each time" [ -n "$(ended_at "$OUT/err")" -a "$(ended_at "$OUT/err")" = "$(ended_at "$OUT/err1")" ]
# More input than the guest will ever take does not keep it.
status=0
head -c 5000 /dev/zero | timeout -k 5 20 "$DROSTE" -kernel "$OUT/idle.elf" "${options[@]}" >"$OUT/raw" 2>"$OUT/err" || status=$?
check "idle with unread input: status $status" [ "$status" = 2 ]
# While input may come it waits, and a saved machine waits for what the next run gives it.
rm -f "$OUT/wait" "$OUT/idle.snapshot"
mkfifo "$OUT/wait"
exec 3<>"$OUT/wait"
status=0
timeout -k 5 20 "$DROSTE" -kernel "$OUT/idle.elf" "${options[@]}" --at 50000000 --save "$OUT/idle.snapshot" \
    <&3 >"$OUT/raw" 2>"$OUT/err" || status=$?
check "idle, open input: runs to its tick: status $status" [ "$status" = 0 -a -s "$OUT/idle.snapshot" ]
exec 3<&-
run_droste 20 -kernel "$OUT/idle.elf" "${options[@]}" -loadvm "$OUT/idle.snapshot"
check "idle, loaded, input at its end: status $status: $(cat "$OUT/err")" [ "$status" = 2 ]
check "idle, loaded: ends later than it was saved" [ "$(ended_at "$OUT/err")" -ge 50000000 ]
rm -f "$OUT/wait" "$OUT/idle.snapshot"

# Whatever the guest does, a signal ends the program; one that does not is killed in the end, which the status shows.
# ended_by SIGNAL NAME OPTION...
ended_by() {
    local signal=$1 name=$2 pid
    shift 2
    "$DROSTE" -kernel "$OUT/endless-$name.elf" "${options[@]}" "$@" <&3 >"$OUT/flood" 2>"$OUT/err" &
    pid=$!
    sleep 0.5
    kill -s "$signal" "$pid" 2>/dev/null
    (sleep 30 && kill -s KILL "$pid") 2>/dev/null &
    wait "$pid"
    status=$?
    kill $! 2>/dev/null
    check "$name $*: SIG$signal: status $status" [ "$status" = 130 -o "$status" = 143 ]
    rm -f "$OUT/flood"
}
rm -f "$OUT/input" "$OUT/pipe"
mkfifo "$OUT/input" "$OUT/pipe"
exec 3<>"$OUT/input" # input that stays open, but for the first guest
image endless IDLE
ended_by TERM IDLE -accel interp 3</dev/null
for name in SPIN REP FAULTS OUTPUT DEVICE_CODE RESETS IDLE; do
    image endless "$name"
    ended_by TERM "$name"
    ended_by INT "$name" -smp 2
done
ended_by TERM SPIN -serial none
ended_by TERM IDLE -serial none
ended_by TERM FAULTS -serial none

# Nobody reads the output any more.
exec 4<>"$OUT/pipe"
"$DROSTE" -kernel "$OUT/endless-OUTPUT.elf" "${options[@]}" </dev/null >"$OUT/pipe" 2>"$OUT/err" &
pid=$!
sleep 1
kill -s TERM "$pid"
(sleep 30 && kill -s KILL "$pid") 2>/dev/null &
wait "$pid"
status=$?
kill $! 2>/dev/null
check "stalled output: SIGTERM ends it, status $status" [ "$status" = 130 -o "$status" = 143 ]
exec 3<&- 4>&-
rm -f "$OUT/input" "$OUT/pipe"
finish
