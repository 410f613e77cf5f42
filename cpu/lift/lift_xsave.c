/*
 * cpu/lift/lift_xsave.c -- FXSAVE, FXRSTOR, the XSAVE family, LDMXCSR and STMXCSR.
 *
 * Zydis gives the REX.W forms mnemonics of their own; the helper sees them as size 3. The XSAVE family checks
 * CR4.OSXSAVE and CR0.TS by its rows (I_TS), FXSAVE and FXRSTOR CR0.EM and TS (SDM 2A: #NM).
 */
#include "cpu/lift/rows.h"

static void memory_helper(struct lift *l, enum helper_id id, int64_t imm)
{
    uint8_t am = lift_ea(l, REG_T0, &l->op[0]);
    struct uop *u = lift_helper(l, id, 0);
    u->am = am;
    u->a = REG_T0;
    u->size = l->zi.raw.rex.W ? 3 : 2;
    u->imm = imm;
}

#define XSAVE_LIFT(name, helper, imm)                                                                        \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        memory_helper(l, HELPER_##helper, imm);                                                              \
    }
XSAVE_LIFT(fxsave, fxsave, 0)
XSAVE_LIFT(fxrstor, fxrstor, 0)
XSAVE_LIFT(xsave, xsave, 0)
XSAVE_LIFT(xsaveopt, xsave, 1)
XSAVE_LIFT(xsavec, xsave, 2)
XSAVE_LIFT(xsaves, xsave, 3)
XSAVE_LIFT(xrstor, xrstor, 0)
XSAVE_LIFT(xrstors, xrstor, 1)

void lift_ldmxcsr(struct lift *l)
{
    unsigned reg = lift_read(l, &l->op[0], REG_T0);
    lift_helper(l, HELPER_ldmxcsr, 0)->a = (uint8_t)reg;
}

void lift_stmxcsr(struct lift *l)
{
    lift_helper(l, HELPER_stmxcsr, 0)->d = REG_T0;
    lift_write(l, &l->op[0], REG_T0);
}
