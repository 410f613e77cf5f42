/*
 * cpu/lift/lift_xsave.c -- FXSAVE, FXRSTOR, the XSAVE family, LDMXCSR and STMXCSR: helper calls with an address.
 *
 * Zydis gives the REX.W forms mnemonics of their own; the helper sees them as size 3.
 */
#include "cpu/lift/rows.h"

static void memory_helper(struct lift *l, enum helper_id id)
{
    uint8_t am = lift_ea(l, REG_T0, &l->op[0]);
    struct uop *u = lift_helper(l, id, 0);
    u->am = am;
    u->a = REG_T0;
    u->size = l->zi.raw.rex.W ? 3 : 2;
}

#define XSAVE_LIFT(name)                                                                                     \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        memory_helper(l, HELPER_##name);                                                                     \
    }
XSAVE_LIFT(xsave)
XSAVE_LIFT(xsaveopt)
XSAVE_LIFT(xsavec)
XSAVE_LIFT(xsaves)
XSAVE_LIFT(xrstor)
XSAVE_LIFT(xrstors)

/* CR0.EM or TS: #NM (SDM 2A, FXSAVE). */
#define FX_LIFT(name)                                                                                        \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        if (l->key & (KEY_EM | KEY_TS))                                                                      \
            lift_raise(l, EXC_NM);                                                                           \
        else                                                                                                 \
            memory_helper(l, HELPER_##name);                                                                 \
    }
FX_LIFT(fxsave)
FX_LIFT(fxrstor)

#define MXCSR_LIFT(name)                                                                                     \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        if ((l->key & KEY_EM) || !(l->key & KEY_OSFXSR))                                                     \
            lift_raise(l, EXC_UD);                                                                           \
        else if (l->key & KEY_TS)                                                                            \
            lift_raise(l, EXC_NM);                                                                           \
        else                                                                                                 \
            memory_helper(l, HELPER_##name);                                                                 \
    }
MXCSR_LIFT(ldmxcsr)
MXCSR_LIFT(stmxcsr)
