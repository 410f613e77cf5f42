/*
 * cpu/lift/table.c -- insn.def as an array, and the row of a mnemonic.
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/rows.h"

const struct insn_row insn_rows[] = {
#define INSN(mnemonic, fn, flags, feature, guard)                                                            \
    {ZYDIS_MNEMONIC_##mnemonic, lift_##fn, flags, FEAT_##feature, GUARD_##guard},
#include "cpu/lift/insn.def"
#undef INSN
};
const unsigned insn_row_count = ARRAY_LEN(insn_rows);

/* A mnemonic that stands in insn.def twice does not compile. */
enum row_number {
#define INSN(mnemonic, fn, flags, feature, guard) ROW_##mnemonic,
#include "cpu/lift/insn.def"
#undef INSN
};

static const uint16_t row_index[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define INSN(mnemonic, fn, flags, feature, guard) [ZYDIS_MNEMONIC_##mnemonic] = ROW_##mnemonic + 1,
#include "cpu/lift/insn.def"
#undef INSN
};

const struct insn_row *insn_row(unsigned mnemonic)
{
    if (mnemonic > ZYDIS_MNEMONIC_MAX_VALUE || row_index[mnemonic] == 0)
        return NULL;
    return &insn_rows[row_index[mnemonic] - 1];
}
