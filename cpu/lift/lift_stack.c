/*
 * cpu/lift/lift_stack.c -- PUSH, POP, PUSHA, POPA, ENTER, LEAVE.
 *
 * SDM 1, "Procedure Stack": the stack's address size is 64 in 64-bit mode, else SS.B's; the operand size is
 * the instruction's. PUSH rSP pushes the old value; POP to memory forms its address with rSP already
 * incremented, but a fault leaves rSP alone.
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/lift_system.h"
#include "cpu/lift/rows.h"

unsigned lift_stack_asize(const struct lift *l)
{
    return l->key & KEY_L ? ASIZE_64 : l->key & KEY_SS_B ? ASIZE_32 : ASIZE_16;
}

/* log2 bytes of the part of rSP and rBP that addresses the stack */
unsigned lift_stack_size(const struct lift *l)
{
    return lift_stack_asize(l) + 1;
}

uint8_t lift_stack_am(const struct lift *l)
{
    bool checked = !(l->key & (KEY_L | KEY_FLAT));
    return (uint8_t)AM(0, lift_stack_asize(l), SEG_SS, checked);
}

void lift_push_reg(struct lift *l, unsigned size, unsigned reg)
{
    struct uop *u = ir_emit(l->ir, UOP_PUSH, size);
    u->d = (uint8_t)reg;
    u->am = lift_stack_am(l);
}

/* d = [SS:base]: reads the stack without moving rSP. */
void lift_stack_load(struct lift *l, unsigned size, unsigned d, unsigned base)
{
    struct uop *u = ir_emit(l->ir, UOP_LOAD, size);
    u->d = (uint8_t)d;
    u->a = (uint8_t)base;
    u->b = REG_ZERO;
    u->am = lift_stack_am(l);
}

static bool is_segment(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

void lift_push(struct lift *l)
{
    const ZydisDecodedOperand *o = &l->op[0];
    if (is_segment(o)) {
        lift_push_segment(l);
    } else if (operand_is_imm(o)) {
        struct uop *u = ir_emit(l->ir, UOP_PUSHI, l->osize);
        u->imm = lift_imm(o, l->osize);
        u->am = lift_stack_am(l);
    } else {
        lift_push_reg(l, l->osize, lift_read(l, o, REG_T0));
    }
}

void lift_pop(struct lift *l)
{
    const ZydisDecodedOperand *o = &l->op[0];
    unsigned bytes = 1u << l->osize;
    if (is_segment(o)) {
        lift_pop_segment(l);
        return;
    }
    if (operand_is_reg(o)) {
        struct uop *u = ir_emit(l->ir, UOP_POP, l->osize);
        u->d = (uint8_t)lift_gpr(o->reg.value, NULL);
        u->am = lift_stack_am(l);
        return;
    }
    lift_stack_load(l, l->osize, REG_T0, REG_RSP);
    if (o->mem.base == ZYDIS_REGISTER_ESP || o->mem.base == ZYDIS_REGISTER_RSP)
        lift_dai(l, UOP_ADDI_NF, 3, REG_T1, REG_RSP, bytes);
    struct uop *u = ir_emit(l->ir, UOP_STORE, l->osize);
    u->d = REG_T0;
    lift_mem(l, u, o);
    if (u->a == REG_RSP)
        u->a = REG_T1;
    lift_dai(l, UOP_ADDI_NF, lift_stack_size(l), REG_RSP, REG_RSP, bytes);
}

void lift_pusha(struct lift *l)
{
    lift_helper(l, HELPER_pusha, l->osize)->am = lift_stack_am(l);
}

void lift_popa(struct lift *l)
{
    lift_helper(l, HELPER_popa, l->osize)->am = lift_stack_am(l);
}

void lift_enter(struct lift *l)
{
    struct uop *u = lift_helper(l, HELPER_enter, l->osize);
    u->imm = (int64_t)(l->op[0].imm.value.u & 0xffff);
    u->aux2 = (uint32_t)l->op[1].imm.value.u & 31;
    u->am = lift_stack_am(l);
}

void lift_leave(struct lift *l)
{
    unsigned size = lift_stack_size(l);
    lift_stack_load(l, l->osize, REG_T0, REG_RBP);
    lift_dai(l, UOP_ADDI_NF, size, REG_RSP, REG_RBP, 1 << l->osize);
    lift_dab(l, UOP_MOV, l->osize, REG_RBP, REG_T0, 0);
}
