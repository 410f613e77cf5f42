# common.sh -- what the checks share: the tree's root and its lists of files.
#
# A check is an executable of tests/lint/, called with the build folder; it prints one line a finding and exits 1.
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

folders=(base snapshots mmu devices cpu bios machine frontend)

# sources FOLDER... -- EXTENSION...: files, sorted
sources() {
    local where=() names=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        [ ! -e "$1" ] || where+=("$1")
        shift
    done
    shift
    for extension; do names+=(-o -name "*.$extension"); done
    find "${where[@]}" -type f \( "${names[@]:1}" \) | sort
}

# A check that looked at nothing has not passed.
need_files() {
    [ "$1" -gt 0 ] || {
        echo "no files to check" >&2
        exit 1
    }
}
