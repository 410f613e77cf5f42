/*
 * cpu/lift/rows.h -- inside cpu/lift/: prototypes of all lift functions of insn.def, and what its files
 * share.
 */
#ifndef CPU_LIFT_ROWS_H
#define CPU_LIFT_ROWS_H

#include "cpu/lift/lift.h"
#include "cpu/vmx/vmx.h"

#define INSN(mnemonic, fn, flags, feature, guard) void lift_##fn(struct lift *l);
#include "cpu/lift/insn.def"
#undef INSN

static inline bool operand_is_mem(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_MEMORY;
}

static inline bool operand_is_reg(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static inline bool operand_is_imm(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* AH, CH, DH, BH: their value is not in the low bits of a register. */
static inline bool operand_is_high(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH;
}

/* Puts what does not fit a micro-op's address (64-bit offsets) into REG_T7; before the lift function. */
void lift_prepare(struct lift *l);
/* The helper's row has H_END. */
bool lift_helper_ends(enum helper_id id);
/* UOP_LOCK when the instruction is LOCKed (or is XCHG with memory), else 0. */
uint8_t lift_lock(const struct lift *l, const ZydisDecodedOperand *destination);
/* Loads a memory operand, or the source's value, as lift_read(), checked for writing when `write`. */
unsigned lift_read_rmw(struct lift *l, const ZydisDecodedOperand *o, unsigned temp);
/* Emits "op d, a, b" with the three registers and returns it for more. */
static inline struct uop *lift_dab(struct lift *l, enum uop_op op, unsigned size, unsigned d, unsigned a,
                                   unsigned b)
{
    struct uop *u = ir_emit(l->ir, op, size);
    u->d = (uint8_t)d;
    u->a = (uint8_t)a;
    u->b = (uint8_t)b;
    return u;
}

/* Emits "op d, a, imm". */
static inline struct uop *lift_dai(struct lift *l, enum uop_op op, unsigned size, unsigned d, unsigned a,
                                   int64_t imm)
{
    struct uop *u = ir_emit(l->ir, op, size);
    u->d = (uint8_t)d;
    u->a = (uint8_t)a;
    u->imm = imm;
    return u;
}

/* Immediate, sign-extended from `size`. */
static inline int64_t lift_imm(const ZydisDecodedOperand *o, unsigned size)
{
    unsigned up = 64 - (8u << size);
    return (int64_t)(o->imm.value.u << up) >> up;
}

/* am of an implicit operand: the override's segment or `seg`, the instruction's address size. */
uint8_t lift_am_segment(const struct lift *l, unsigned seg);

/* Stack addressing (lift_stack.c). */
unsigned lift_stack_asize(const struct lift *l);
unsigned lift_stack_size(const struct lift *l);
uint8_t lift_stack_am(const struct lift *l);
void lift_push_reg(struct lift *l, unsigned size, unsigned reg);
void lift_stack_load(struct lift *l, unsigned size, unsigned d, unsigned base);

/* Offset of the next instruction from REG_PAGE. */
static inline uint32_t lift_next(const struct lift *l)
{
    return l->offset + l->zi.length;
}

#endif
