/*
 * cpu/lift/lift_control.c -- near JMP, Jcc, JCXZ, LOOP, CALL and RET, at every operand size.
 *
 * SDM 2A "CALL", "JMP", SDM 2B "RET". In 64-bit mode near branches have a 64-bit operand whatever 66H says. A
 * bad target faults at the branch with the stack as it was, so CALL and RET check it before they move rSP.
 * LOOP's count is written before the jump that may fault on the code segment's limit.
 * Not here: far transfers (lift_system.c).
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/lift_system.h"
#include "cpu/lift/rows.h"

static unsigned branch_size(const struct lift *l)
{
    return l->key & KEY_L ? 3 : l->osize;
}

static bool is_far(const struct lift *l)
{
    return l->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

/* Target of a relative branch, from REG_PAGE. */
static int64_t target(const struct lift *l)
{
    return (int64_t)lift_next(l) + l->op[0].imm.value.s;
}

/* -- Conditional --------------------------------------------------------------------------------------- */

static struct uop *conditional(struct lift *l, enum uop_op op)
{
    struct uop *u = ir_emit(l->ir, op, branch_size(l));
    u->imm = target(l);
    u->disp = (int32_t)lift_next(l);
    return u;
}

void lift_jcc(struct lift *l)
{
    conditional(l, UOP_JCC)->c = l->zi.opcode & 15;
}

static struct uop *by_count(struct lift *l, enum uop_op op)
{
    struct uop *u = conditional(l, op);
    u->a = REG_RCX;
    u->am = (uint8_t)AM(0, l->asize, SEG_DS, 0);
    return u;
}

void lift_jcxz(struct lift *l)
{
    by_count(l, UOP_JZR);
}

void lift_loop(struct lift *l)
{
    lift_dai(l, UOP_SUBI_NF, l->asize + 1u, REG_RCX, REG_RCX, 1);
    if (l->zi.mnemonic == ZYDIS_MNEMONIC_LOOP)
        by_count(l, UOP_JNZR);
    else
        by_count(l, UOP_LOOPCC)->c = l->zi.mnemonic == ZYDIS_MNEMONIC_LOOPE ? 4 : 5;
}

/* -- Unconditional ------------------------------------------------------------------------------------- */

/* Value of a near indirect branch's operand, of the branch's size. */
static unsigned indirect_target(struct lift *l)
{
    const ZydisDecodedOperand *o = &l->op[0];
    if (operand_is_reg(o))
        return lift_gpr(o->reg.value, NULL);
    struct uop *u = ir_emit(l->ir, UOP_LOAD, branch_size(l));
    u->d = REG_T0;
    lift_mem(l, u, o);
    return REG_T0;
}

static void jump_to(struct lift *l, unsigned reg, unsigned hint)
{
    struct uop *u = ir_emit(l->ir, UOP_JMPR, branch_size(l));
    u->a = (uint8_t)reg;
    u->c = (uint8_t)hint;
}

static void jump_direct(struct lift *l)
{
    ir_emit(l->ir, UOP_JMP, branch_size(l))->imm = target(l);
}

void lift_jmp(struct lift *l)
{
    if (is_far(l))
        lift_far_jmp(l);
    else if (operand_is_imm(&l->op[0]))
        jump_direct(l);
    else
        jump_to(l, indirect_target(l), 0);
}

static void check_target(struct lift *l, unsigned reg)
{
    lift_dab(l, UOP_CHECKT, branch_size(l), 0, reg, 0);
}

/* T0, which back ends hold in a register of the host, unless the target is there. */
static void push_return(struct lift *l, unsigned target_reg)
{
    unsigned temp = target_reg == REG_T0 ? REG_T1 : REG_T0;
    lift_dai(l, UOP_ADDI_NF, 3, temp, REG_PAGE, lift_next(l));
    lift_push_reg(l, branch_size(l), temp);
}

/* In a flat 32-bit segment, and inside the page that is running, no target is bad. */
static bool target_may_fault(const struct lift *l)
{
    if (l->key & KEY_L)
        return target(l) < 0 || target(l) >= (int64_t)PAGE_SIZE;
    return !(l->key & KEY_FLAT);
}

void lift_call(struct lift *l)
{
    if (is_far(l)) {
        lift_far_call(l);
    } else if (operand_is_imm(&l->op[0])) {
        if (target_may_fault(l)) {
            lift_dai(l, UOP_ADDI_NF, 3, REG_T0, REG_PAGE, target(l));
            check_target(l, REG_T0);
        }
        push_return(l, REG_ZERO);
        jump_direct(l);
    } else {
        unsigned reg = indirect_target(l);
        if (reg == REG_RSP) {
            lift_dab(l, UOP_MOV, 3, REG_T0, reg, 0);
            reg = REG_T0;
        }
        check_target(l, reg);
        push_return(l, reg);
        jump_to(l, reg, 1);
    }
}

void lift_ret(struct lift *l)
{
    if (is_far(l)) {
        lift_far_ret(l);
        return;
    }
    unsigned size = branch_size(l);
    int64_t extra = operand_is_imm(&l->op[0]) && l->zi.operand_count_visible
                        ? (int64_t)(l->op[0].imm.value.u & 0xffff)
                        : 0;
    lift_stack_load(l, size, REG_T0, REG_RSP);
    check_target(l, REG_T0);
    lift_dai(l, UOP_ADDI_NF, lift_stack_size(l), REG_RSP, REG_RSP, (1 << size) + extra);
    jump_to(l, REG_T0, 2);
}
