#!/bin/bash
# disk.sh -- L1's virtio_blk reads two disks, one of them read-only, as they are on the host.
set -uo pipefail
source "$(dirname "$0")/common.sh"

# 4 MB that are the same in each run, and no two sectors alike.
seq 1 700000 | head -c 4194304 >"$OUT/disk-a"
tac "$OUT/disk-a" | head -c 2097152 >"$OUT/disk-b"
chmod 444 "$OUT/disk-b"
run_droste 240 "${l1[@]}" -append "$l1_append droste.run=init" -drive "file=$OUT/disk-a,format=raw,if=virtio" \
    -drive "file=$OUT/disk-b,format=raw,if=virtio,readonly=on"
check "status $status" [ "$status" = "$passed_status" ]
for disk in "vda disk-a 8192 0" "vdb disk-b 4096 1"; do
    read -r name file sectors read_only <<<"$disk"
    hash=$(head -c 1048576 "$OUT/$file" | sha256sum)
    check "$name: $(grep "^L1: disk $name" "$OUT/out")" grep -q -F -x \
        "L1: disk $name: $sectors sectors, read-only $read_only, sha256 of the first megabyte ${hash%% *}" "$OUT/out"
done
[ "$failures" = 0 ] || show_end
rm -f "$OUT/disk-a" "$OUT/disk-b"
finish
