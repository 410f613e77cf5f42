#!/bin/bash
# pieces.sh -- a run is a function of its inputs: guest images run whole, again, and saved and loaded at odd ticks, in VMX
# operation too. All hashes of the machine's state at the same ticks are equal, and so is the output.
set -uo pipefail
source "$(dirname "$0")/common.sh"
: "${GUEST_IMAGES:?the folder of the guest images}"
RANDOM=${SEED:-1} # the same ticks in every run

# pieces IMAGE EVERY OPTION...: hashes each EVERY ticks
pieces() {
    local name=$1 every=$2 end tick from
    shift 2
    local run=(-kernel "$GUEST_IMAGES/$name.elf" -m 32M -nographic -no-reboot "${exit_device[@]}" "$@")
    run_droste 120 "${run[@]}" --state-hash "$every,$OUT/hash-whole"
    local whole=$status
    cp "$OUT/raw" "$OUT/raw-whole"
    # (0 << 1) | 1 is also the status of our own errors, which have no output.
    check "$name $*: ends by itself, status $whole" [ "$whole" = 1 -a -s "$OUT/out" ]
    run_droste 120 "${run[@]}" --state-hash "$((every * 3)),$OUT/hash-again"
    check "$name $*: the same hashes again" same_hashes "$OUT/hash-again"
    end=$(awk 'END { print $1 }' "$OUT/hash-whole")
    for ((i = 0; i < ${PIECES:-6}; i++)); do
        tick=$(((RANDOM << 30 | RANDOM << 15 | RANDOM) % (end - 1) + 1))
        run_droste 120 "${run[@]}" --at "$tick" --save "$OUT/snapshot"
        check "$name $*: saved at $tick" [ "$status" = 0 ]
        cp "$OUT/raw" "$OUT/raw-first"
        # From the file to a second file a little later, so that loading is followed by saving at once.
        from=$((tick + RANDOM % 50))
        run_droste 120 "${run[@]}" -loadvm "$OUT/snapshot" --at "$from" --save "$OUT/snapshot"
        if [ "$status" != 0 ]; then # the guest ended before that
            check "$name $*: from $tick: status $status" [ "$status" = "$whole" ]
            continue
        fi
        cat "$OUT/raw" >>"$OUT/raw-first"
        run_droste 120 "${run[@]}" -loadvm "$OUT/snapshot" --state-hash "$every,$OUT/hash-loaded"
        check "$name $*: from $tick: status $status" [ "$status" = "$whole" ]
        check "$name $*: from $tick: the same hashes" same_hashes "$OUT/hash-loaded"
        check "$name $*: from $tick: the same output" cmp -s <(cat "$OUT/raw-first" "$OUT/raw") "$OUT/raw-whole"
    done
    rm -f "$OUT/snapshot"
}

# Each line of FILE is one of the whole run's, and the last lines are the same.
same_hashes() {
    [ -s "$1" ] && ! grep -v -x -q -F -f "$OUT/hash-whole" "$1" &&
        [ "$(tail -n 1 "$1")" = "$(tail -n 1 "$OUT/hash-whole")" ]
}

for image in exceptions vmx_apicv vmx_events vmx_exits vmx_shadow; do
    pieces "$image" 20000
done
pieces timers 1000000
pieces smp 200000 -smp 2
pieces smp 200000 -smp 4
finish
