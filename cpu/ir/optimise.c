/*
 * cpu/ir/optimise.c -- dead flags, and fused compare-and-jump.
 *
 * Flags are dead when all six are overwritten before anything can read them, fault or leave the block. A
 * block can be left at the end of each instruction that has a micro-op that can fault: the slow path of a
 * memory access may drop the block or end the slice, and the instruction then still completes.
 */
#include "cpu/ir/uop.h"

#include <string.h>

/* -- Compare and jump ---------------------------------------------------------------------------------- */

/* The CMP must be all that its instruction does: nothing can stop between it and the jump. */
static void fuse_jump(struct ir *ir)
{
    if (ir->uop_count < 2 || ir->insn_count < 2)
        return;
    uint32_t at = ir->uop_count - 2;
    struct uop *cmp = &ir->uops[at];
    const struct uop *jcc = &ir->uops[at + 1];
    if (jcc->op != UOP_JCC || jcc->insn != ir->insn_count - 1 || cmp->insn != jcc->insn - 1)
        return;
    if (ir->insns[cmp->insn].first != at || ir->insns[jcc->insn].first != at + 1)
        return;
    struct uop fused = *jcc;
    switch (cmp->op) {
    case UOP_CMP:
        fused.op = UOP_CMPJCC;
        break;
    case UOP_TEST:
        fused.op = UOP_TESTJCC;
        break;
    case UOP_CMPI:
        if (cmp->imm != (int32_t)cmp->imm)
            return;
        fused.op = UOP_CMPIJCC;
        fused.aux = (int32_t)cmp->imm;
        break;
    default:
        return;
    }
    fused.size = cmp->size;
    fused.a = cmp->a;
    fused.b = cmp->b;
    fused.d = jcc->size;
    *cmp = fused;
    ir->insns[fused.insn].first = (uint16_t)at;
    ir->uop_count--;
}

/* -- Dead flags ---------------------------------------------------------------------------------------- */

static const uint16_t without_flags[UOP_COUNT] = {
    [UOP_ADD] = UOP_ADD_NF,   [UOP_ADDI] = UOP_ADDI_NF, [UOP_OR] = UOP_OR_NF,     [UOP_ORI] = UOP_ORI_NF,
    [UOP_AND] = UOP_AND_NF,   [UOP_ANDI] = UOP_ANDI_NF, [UOP_SUB] = UOP_SUB_NF,   [UOP_SUBI] = UOP_SUBI_NF,
    [UOP_XOR] = UOP_XOR_NF,   [UOP_XORI] = UOP_XORI_NF, [UOP_SHLI] = UOP_SHLI_NF, [UOP_SHRI] = UOP_SHRI_NF,
    [UOP_SARI] = UOP_SARI_NF, [UOP_INC] = UOP_ADDI_NF,  [UOP_DEC] = UOP_SUBI_NF,  [UOP_NEG] = UOP_SUB_NF,
};

static void drop_flags(struct uop *u)
{
    uint16_t op = without_flags[u->op];
    if (op == 0)
        return;
    if (u->op == UOP_INC || u->op == UOP_DEC)
        u->imm = 1;
    if (u->op == UOP_NEG) {
        u->b = u->a;
        u->a = REG_ZERO;
    }
    u->op = op;
}

static void mark_dead_flags(struct ir *ir)
{
    bool can_leave[IR_INSNS_MAX];
    memset(can_leave, 0, sizeof(can_leave));
    for (uint32_t i = 0; i < ir->uop_count; i++)
        if (uop_info[ir->uops[i].op].flags & U_FAULT)
            can_leave[ir->uops[i].insn % IR_INSNS_MAX] = true;

    bool dead = false;
    unsigned insn = UINT32_MAX;
    for (uint32_t i = ir->uop_count; i-- > 0;) {
        struct uop *u = &ir->uops[i];
        unsigned flags = uop_info[u->op].flags;
        if (u->insn != insn) {
            insn = u->insn;
            if (can_leave[insn % IR_INSNS_MAX])
                dead = false;
        }
        bool writes = flags & (U_WF | U_WFP);
        if (dead && writes && !(flags & (U_RF | U_FAULT | U_END)))
            drop_flags(u);
        if (u->op == UOP_CMPJCC || u->op == UOP_CMPIJCC || u->op == UOP_TESTJCC)
            dead = true; /* the comparison comes before the jump that may fault */
        else if (flags & (U_FAULT | U_RF | U_END))
            dead = false;
        else if (flags & U_WF)
            dead = true;
    }
}

void ir_optimise(struct ir *ir)
{
    fuse_jump(ir);
    mark_dead_flags(ir);
}
