# common.sh -- what the system tests share. A test is called with DROSTE (the program), OUT (a folder of its own) and,
# where it needs them, GUEST (scripts/guest-files) in the environment.
export LC_ALL=C
: "${DROSTE:?the program under test}" "${OUT:?a folder to work in}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$OUT"
checks=0 failures=0

pass() { checks=$((checks + 1)); }
fail() {
    checks=$((checks + 1))
    failures=$((failures + 1))
    echo "FAIL $*"
}
# check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@"; then pass; else fail "$name"; fi
}
# A test that checked nothing has failed.
finish() {
    echo "$checks checks, $failures failed"
    [ "$checks" -gt 0 ] && [ "$failures" -eq 0 ]
    exit
}

# run_droste SECONDS OPTION...: leaves status, $OUT/out (serial output without carriage returns) and $OUT/err.
run_droste() {
    local limit=$1
    shift
    status=0
    timeout -k 5 "$limit" "$DROSTE" "$@" </dev/null >"$OUT/raw" 2>"$OUT/err" || status=$?
    tr -d '\r' <"$OUT/raw" >"$OUT/out"
}
show_end() {
    tail -n 15 "$OUT/out" "$OUT/err"
}

# image NAME [DEFINE]: assembles NAME.S of this folder into $OUT/NAME.elf, or $OUT/NAME-DEFINE.elf
image() {
    local name=$1${2:+-$2}
    gcc -m32 -ffreestanding ${2:+-D "$2"} -c -o "$OUT/$name.o" "$here/$1.S"
    ld -m elf_i386 -n -Ttext=0x100000 -z noexecstack -o "$OUT/$name.elf" "$OUT/$name.o"
}

exit_device=(-device isa-debug-exit,iobase=0xf4,iosize=0x4)
# A Linux host; the kernel command line says what L1 does.
l1=(-kernel "${GUEST:-}/vmlinuz" -initrd "${GUEST:-}/l1.cpio.gz" -m 2G -nographic -no-reboot "${exit_device[@]}")
l1_append="console=ttyS0,115200 panic=-1"
passed_status=33 # L1's init writes 10H
