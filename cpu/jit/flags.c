/*
 * cpu/jit/flags.c -- from the recipe that translated code left to the two words of cpu/flags.h.
 *
 * Kinds: emit.h. Meaning of a micro-op's flags: cpu/ir/alu.h.
 */
#include "cpu/flags.h"
#include "cpu/ir/alu.h"
#include "cpu/jit/emit.h"

static void settle_operation(struct cpu *c, unsigned op, unsigned sz, uint64_t a, uint64_t b)
{
    uint64_t unused;
    switch (op) {
    case UOP_SHL:
    case UOP_SHLI:
        alu_shl(c, sz, a, b);
        break;
    case UOP_SHR:
    case UOP_SHRI:
        alu_shr(c, sz, a, b);
        break;
    case UOP_SAR:
    case UOP_SARI:
        alu_sar(c, sz, a, b);
        break;
    case UOP_BSF:
        alu_bsf(c, sz, a, &unused);
        break;
    case UOP_BSR:
        alu_bsr(c, sz, a, &unused);
        break;
    case UOP_POPCNT:
        alu_popcnt(c, sz, a);
        break;
    case UOP_LZCNT:
        alu_lzcnt(c, sz, a);
        break;
    case UOP_TZCNT:
        alu_tzcnt(c, sz, a);
        break;
    case UOP_ANDN:
        alu_andn(c, sz, a, b);
        break;
    case UOP_BEXTR:
        alu_bextr(c, sz, a, b);
        break;
    case UOP_BLSI:
        alu_blsi(c, sz, a);
        break;
    case UOP_BLSMSK:
        alu_blsmsk(c, sz, a);
        break;
    case UOP_BLSR:
        alu_blsr(c, sz, a);
        break;
    case UOP_BZHI:
        alu_bzhi(c, sz, a, b);
        break;
    default:
        require(false, "flags of micro-op %u are no recipe", op);
    }
}

static void settle(struct cpu *c, uint64_t op)
{
    unsigned kind = op >> 2 & 0x3fff, sz = op & 3, ra = op >> CC_REG_A & 31, rb = op >> CC_REG_B & 31;
    uint64_t a = ra ? c->r[ra - 1] : c->cc_a, b = rb ? c->r[rb - 1] : c->cc_b;
    switch (kind) {
    case FK_SETTLED:
        return;
    case FK_ADD:
        alu_flags_add(c, sz, a - b, b, a);
        break;
    case FK_SUB:
        alu_flags_sub(c, sz, a + b, b, a);
        break;
    case FK_LOGIC:
        alu_flags_logic(c, sz, a);
        break;
    case FK_CMP:
        alu_sub(c, sz, a, b);
        break;
    case FK_NEG:
        alu_neg(c, sz, -a);
        break;
    case FK_MUL:
        alu_flags(c, sz, a, c->cc_cf, c->cc_cf);
        break;
    case FK_IMAGE:
        flags_set_arith(c, (a >> 8 & 0xd5) | (a & 1) << 11);
        break;
    case FK_ADD_AB:
        alu_add(c, sz, a, b);
        break;
    case FK_TEST:
        alu_and(c, sz, a, b);
        break;
    case FK_ADC:
        alu_flags_add(c, sz, a, b, a + b + c->cc_cf);
        break;
    case FK_SBB:
        alu_flags_sub(c, sz, a, b, a - b - c->cc_cf);
        break;
    case FK_INC:
        alu_flags_add(c, sz, a - 1, 1, a);
        alu_set_cf(c, c->cc_cf);
        break;
    case FK_DEC:
        alu_flags_sub(c, sz, a + 1, 1, a);
        alu_set_cf(c, c->cc_cf);
        break;
    default:
        settle_operation(c, kind - FK_OP, sz, a, b);
        break;
    }
}

void jit_settle_flags(struct cpu *c)
{
    uint64_t op = c->cc_op;
    c->cc_op = 0;
    settle(c, op);
    if (op >> CC_ROT & 1) {
        /* SDM 2B, "RCL/RCR/ROL/ROR": to the left, CF is bit 0 of the result; to the right, its top bit. */
        unsigned top = (8u << (op >> (CC_ROT + 1) & 3)) - 1;
        bool left = op >> (CC_ROT + 3) & 1;
        unsigned high = c->cc_rot >> top & 1, cf = left ? c->cc_rot & 1 : high;
        flags_set_cf_of(c, cf, high ^ (left ? cf : (unsigned)(c->cc_rot >> (top - 1) & 1)));
    }
    if (op >> CC_BIT & 1)
        alu_set_cf(c, c->cc_bit);
}
