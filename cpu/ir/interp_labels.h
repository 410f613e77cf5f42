/*
 * cpu/ir/interp_labels.h -- the interpreter's dispatch table, made from uop.def: a row without a handler for
 * each of its sizes does not compile. Included once, inside interp_run().
 */
/* Labels and macros that stand for lines of a table. */
/* clang-format off */
#define L_AT(base, name, prefix, sz)  [(base) + UOP_##name * 4 + (sz)] = &&prefix##name##_##sz,
#define L_SZ_NONE(base, name, prefix) L_AT(base, name, prefix, 0)
#define L_SZ_GE32(base, name, prefix) L_AT(base, name, prefix, 2) L_AT(base, name, prefix, 3)
#define L_SZ_GE16(base, name, prefix) L_AT(base, name, prefix, 1) L_SZ_GE32(base, name, prefix)
#define L_SZ_ALL(base, name, prefix)  L_AT(base, name, prefix, 0) L_SZ_GE16(base, name, prefix)

#define UOP(name, sizes, format, flags, meaning) L_##sizes(0, name, )
#include "cpu/ir/uop.def"
#undef UOP
[UOP_LEAVE * 4] = &&stop_at_boundary, [UOP_LEAVE * 4 + 1] = &&step_done,

/* Memory micro-ops through FS or GS, and with every check. */
#define S_MEMORY(name)   L_SZ_ALL(CODE_SEG64, name, S_) L_SZ_ALL(CODE_GENERAL, name, G_)
#define S_MEMORY16(name) L_SZ_GE16(CODE_SEG64, name, S_) L_SZ_GE16(CODE_GENERAL, name, G_)
#define S_MEMORY32(name) L_SZ_GE32(CODE_SEG64, name, S_) L_SZ_GE32(CODE_GENERAL, name, G_)
#define S_MEMORY0(name)  L_SZ_NONE(CODE_SEG64, name, S_) L_SZ_NONE(CODE_GENERAL, name, G_)
             S_MEMORY(LOAD) S_MEMORY(LOADW) S_MEMORY16(LOADZX8) S_MEMORY32(LOADZX16) S_MEMORY16(LOADSX8)
                 S_MEMORY32(LOADSX16) S_MEMORY32(LOADSX32) S_MEMORY(STORE) S_MEMORY(STOREI) S_MEMORY(VLOAD)
                     S_MEMORY(VSTORE) S_MEMORY0(VLOAD16) S_MEMORY0(VSTORE16)
                         S_MEMORY0(VLOAD32) S_MEMORY0(VSTORE32) L_SZ_GE16(CODE_GENERAL, PUSH, G_)
                         L_SZ_GE16(CODE_GENERAL, PUSHI, G_) L_SZ_GE16(CODE_GENERAL, POP, G_)

#define L_CC(base, prefix)                                                                                   \
    [(base)] = &&prefix##0, [(base) + 1] = &&prefix##1, [(base) + 2] = &&prefix##2,                          \
    [(base) + 3] = &&prefix##3, [(base) + 4] = &&prefix##4, [(base) + 5] = &&prefix##5,                      \
    [(base) + 6] = &&prefix##6, [(base) + 7] = &&prefix##7, [(base) + 8] = &&prefix##8,                      \
    [(base) + 9] = &&prefix##9, [(base) + 10] = &&prefix##10, [(base) + 11] = &&prefix##11,                  \
    [(base) + 12] = &&prefix##12, [(base) + 13] = &&prefix##13, [(base) + 14] = &&prefix##14,                \
    [(base) + 15] = &&prefix##15,
                             L_CC(CODE_JCC, JCC_CC)
#define L_CC_SIZES(base, name)                                                                               \
    L_CC((base), name##_0_CC)                                                                                \
    L_CC((base) + 16, name##_1_CC) L_CC((base) + 32, name##_2_CC) L_CC((base) + 48, name##_3_CC)
                                 L_CC_SIZES(CODE_CMPJCC, CMPJCC) L_CC_SIZES(CODE_CMPIJCC, CMPIJCC)
                                     L_CC_SIZES(CODE_TESTJCC, TESTJCC)
    /* clang-format on */
