/*
 * cpu/jit/emit_bits.c -- multiplication, division, bit scans and tests, BMI, double shifts.
 *
 * Flags: cpu/ir/alu.h defines them where the SDM does not; then the operands are stored for flags.c.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

/* F3 0F xx: POPCNT, LZCNT, TZCNT; a prefix before REX. */
static void scan(struct emit *e, unsigned prefix, uint32_t opcode)
{
    const struct uop *u = e->u;
    bool needed = emit_flags_needed(e, e->index + 1);
    if (needed)
        emit_store_operands(e, u->a, true, 0);
    emit_before_write(e, u->d);
    asm_op_prefix(&e->a, prefix, u->size, opcode, R_A, emit_operand(e, u->a));
    emit_put(e, u->d, u->size, R_A);
    emit_drop_flags(e);
    unsigned mask = u->op == UOP_POPCNT ? HF_ZF : HF_ZF | HF_CF;
    e->s.host_mask = (uint8_t)mask;
    if (needed)
        emit_operation(e, u->size, true, 0, mask);
}

/* A zero source leaves the destination as it is. */
static void bit_scan(struct emit *e, uint32_t opcode)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    bool needed = emit_flags_needed(e, e->index + 1);
    if (needed)
        emit_store_operands(e, u->a, true, 0);
    emit_before_write(e, u->d);
    if (u->d == REG_T0 && !e->s.t0_in_c) {
        emit_take_c(e);
        asm_load(a, 3, R_C, guest_mem(REG_T0));
        e->s.t0_in_c = true;
    }
    asm_op(a, u->size, opcode, R_A, emit_operand(e, u->a));
    uint8_t *zero = asm_jcc(a, CC_E);
    emit_put(e, u->d, u->size, R_A);
    asm_patch(zero, a->at);
    emit_drop_flags(e);
    e->s.host_mask = HF_ZF;
    if (needed)
        emit_operation(e, u->size, true, 0, HF_ZF);
}

/* VEX instructions of BMI that write flags; `reg_is_group`: the destination is in vvvv. */
static void bmi(struct emit *e, unsigned opcode, unsigned group, bool b_in_vvvv)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    bool needed = emit_flags_needed(e, e->index + 1), two = !group;
    if (needed)
        emit_store_operands(e, u->a, !two, u->b);
    emit_before_write(e, u->d);
    unsigned w = u->size == 3;
    if (group) {
        asm_vex(a, 2, 0, w, 0, 0xf3, group, R_A, emit_operand(e, u->a));
    } else if (b_in_vvvv) {
        unsigned hb = emit_value(e, u->b, R_B); /* BEXTR, BZHI: control in vvvv */
        asm_vex(a, 2, 0, w, 0, opcode, R_A, hb, emit_operand(e, u->a));
    } else {
        unsigned ha = emit_value(e, u->a, R_B); /* ANDN */
        asm_vex(a, 2, 0, w, 0, opcode, R_A, ha, emit_operand(e, u->b));
    }
    emit_put(e, u->d, u->size, R_A);
    emit_drop_flags(e);
    e->s.host_mask = 0;
    if (needed)
        emit_operation(e, u->size, !two, 0, 0);
}

static bool scans(struct emit *e)
{
    switch (e->u->op) {
    case UOP_POPCNT:
        scan(e, 0xf3, 0x0fb8);
        return true;
    case UOP_LZCNT:
        scan(e, 0xf3, 0x0fbd);
        return true;
    case UOP_TZCNT:
        scan(e, 0xf3, 0x0fbc);
        return true;
    case UOP_BSF:
        bit_scan(e, 0x0fbc);
        return true;
    case UOP_BSR:
        bit_scan(e, 0x0fbd);
        return true;
    case UOP_ANDN:
        bmi(e, 0xf2, 0, false);
        return true;
    case UOP_BEXTR:
        bmi(e, 0xf7, 0, true);
        return true;
    case UOP_BZHI:
        bmi(e, 0xf5, 0, true);
        return true;
    case UOP_BLSR:
        bmi(e, 0, 1, false);
        return true;
    case UOP_BLSMSK:
        bmi(e, 0, 2, false);
        return true;
    case UOP_BLSI:
        bmi(e, 0, 3, false);
        return true;
    default:
        return false;
    }
}

/* -- Multiplication and division ----------------------------------------------------------------------- */

static void multiplied(struct emit *e, bool needed, unsigned low)
{
    struct asm_buf *a = &e->a;
    emit_drop_flags(e);
    e->s.host_mask = HF_CF | HF_OF;
    if (!needed)
        return;
    asm_op(a, 0, 0x0f92, 0, CPU_MEM(cc_cf)); /* SETC */
    asm_store(a, 3, low, CPU_MEM(cc_a));
    asm_store_imm(a, 3, CPU_MEM(cc_op), FK_MUL << 2 | e->u->size);
}

static bool multiply(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    bool needed = emit_flags_needed(e, e->index + 1);
    int32_t imm = (int32_t)u->imm;
    switch (u->op) {
    case UOP_MUL:
    case UOP_IMUL:
        emit_before_write(e, REG_RAX);
        emit_before_write(e, REG_RDX);
        asm_op_w(a, u->size, 0xf6, u->op == UOP_MUL ? 4 : 5, emit_operand(e, u->a));
        multiplied(e, needed, H_RAX);
        return true;
    case UOP_IMUL2:
        emit_before_write(e, u->d);
        asm_load(a, 3, R_A, emit_operand(e, u->a));
        asm_op(a, u->size, 0x0faf, R_A, emit_operand(e, u->b));
        emit_put(e, u->d, u->size, R_A);
        multiplied(e, needed, R_A);
        return true;
    case UOP_IMULI:
        if (u->size == 3 && u->imm != imm)
            return false;
        emit_before_write(e, u->d);
        asm_op(a, u->size, 0x69, R_A, emit_operand(e, u->a));
        asm_bytes(a, &imm, u->size == 1 ? 2 : 4);
        emit_put(e, u->d, u->size, R_A);
        multiplied(e, needed, R_A);
        return true;
    default:
        return false;
    }
}

/* What could raise #DE, or needs 128 bits with a sign, goes to C. The flags are kept. */
static bool divide(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    if ((u->op != UOP_DIV && u->op != UOP_IDIV) || u->size < 2)
        return false;
    emit_before_write(e, REG_RAX);
    emit_before_write(e, REG_RDX);
    unsigned h = emit_value(e, u->a, R_B);
    if (u->op == UOP_DIV) {
        asm_alu(a, u->size, 7, H_RDX, rm_reg(h));
        e->s.host_mask = 0;
        emit_cold(e, COLD_STEP, asm_jcc(a, CC_AE));
    } else {
        asm_load(a, u->size, R_A, rm_reg(H_RAX));
        asm_shift_imm(a, u->size, 7, rm_reg(R_A), u->size == 3 ? 63 : 31);
        asm_alu(a, u->size, 7, R_A, rm_reg(H_RDX));
        e->s.host_mask = 0;
        emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
        asm_lea(a, u->size, R_A, rm_mem(h, 1)); /* 0 and -1 */
        asm_alu_imm(a, u->size, 7, rm_reg(R_A), 1);
        emit_cold(e, COLD_STEP, asm_jcc(a, CC_BE));
    }
    asm_op_w(a, u->size, 0xf6, u->op == UOP_DIV ? 6 : 7, rm_reg(h));
    return true;
}

/* -- Without flags ------------------------------------------------------------------------------------- */

static bool no_flags(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    unsigned w = u->size == 3;
    switch (u->op) {
    case UOP_RORX:
        emit_before_write(e, u->d);
        asm_vex(a, 3, 3, w, 0, 0xf0, R_A, 0, emit_operand(e, u->a));
        asm_byte(a, (unsigned)u->imm);
        emit_put(e, u->d, u->size, R_A);
        return true;
    case UOP_PDEP:
    case UOP_PEXT: {
        emit_before_write(e, u->d);
        unsigned ha = emit_value(e, u->a, R_B);
        asm_vex(a, 2, u->op == UOP_PDEP ? 3 : 2, w, 0, 0xf5, R_A, ha, emit_operand(e, u->b));
        emit_put(e, u->d, u->size, R_A);
        return true;
    }
    case UOP_MULX:
        emit_before_write(e, u->c);
        emit_before_write(e, u->d);
        asm_vex(a, 2, 3, w, 0, 0xf6, R_A, R_B, emit_operand(e, u->a));
        emit_put(e, u->c, u->size, R_B);
        emit_put(e, u->d, u->size, R_A);
        return true;
    case UOP_CRC32:
        emit_before_write(e, u->d);
        asm_load(a, 2, R_A, emit_operand(e, u->a));
        asm_load(a, 3, R_B, emit_operand(e, u->b));
        if (u->size == 1)
            asm_byte(a, 0x66);
        asm_op_prefix(a, 0xf2, u->size == 1 ? 2 : u->size, u->size ? 0x0f38f1 : 0x0f38f0, R_A, rm_reg(R_B));
        emit_put(e, u->d, 2, R_A);
        return true;
    case UOP_SHLDI:
    case UOP_SHRDI:
        if (u->size < 2 || emit_flags_needed(e, e->index + 1))
            return false;
        emit_before_write(e, u->d);
        asm_load(a, 3, R_A, emit_operand(e, u->a));
        asm_op(a, u->size, u->op == UOP_SHLDI ? 0x0fa4 : 0x0fac, emit_value(e, u->b, R_B), rm_reg(R_A));
        asm_byte(a, (unsigned)u->imm & (w ? 63 : 31));
        emit_put(e, u->d, u->size, R_A);
        emit_drop_flags(e);
        e->s.host_mask = 0;
        return true;
    case UOP_CLD:
        asm_alu_imm(a, 2, 4, CPU_MEM(rflags), ~0x400);
        e->s.host_mask = 0;
        return true;
    case UOP_STD:
        asm_alu_imm(a, 2, 1, CPU_MEM(rflags), 0x400);
        e->s.host_mask = 0;
        return true;
    default:
        return false;
    }
}

/* -- Single bits --------------------------------------------------------------------------------------- */

/* Only CF changes. With the other flags needed CF is kept beside what they are to be made from. */
static bool bit_test(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    unsigned number;
    bool imm = false, writes = true;
    switch (u->op) {
    case UOP_BTI:
        imm = true; /* fall through */
    case UOP_BT:
        number = 4;
        writes = false;
        break;
    case UOP_BTSI:
        imm = true; /* fall through */
    case UOP_BTS:
        number = 5;
        break;
    case UOP_BTRI:
        imm = true; /* fall through */
    case UOP_BTR:
        number = 6;
        break;
    case UOP_BTCI:
        imm = true; /* fall through */
    case UOP_BTC:
        number = 7;
        break;
    default:
        return false;
    }
    bool needed = emit_flags_needed(e, e->index + 1);
    if (needed) {
        emit_flush_flags(e);
        e->s.rec_valid = e->s.settled = false;
        struct rm bit = CPU_MEM(cc_op);
        bit.disp += CC_BIT / 8;
        asm_op(a, 0, 0x80, 1, bit); /* OR */
        asm_byte(a, 1 << CC_BIT % 8);
    }
    if (writes)
        emit_before_write(e, u->d);
    asm_load(a, 3, R_A, emit_operand(e, u->a));
    if (imm) {
        asm_op(a, u->size, 0x0fba, number, rm_reg(R_A));
        asm_byte(a, (unsigned)u->imm & ((8u << u->size) - 1));
    } else {
        asm_op(a, u->size, 0x0f83 | number << 3, emit_value(e, u->b, R_B), rm_reg(R_A));
    }
    if (writes)
        emit_put(e, u->d, u->size, R_A);
    e->s.host_mask = HF_CF;
    if (needed)
        asm_op(a, 0, 0x0f92, 0, CPU_MEM(cc_bit)); /* SETC */
    else
        emit_drop_flags(e);
    return true;
}

bool emit_bits(struct emit *e)
{
    return scans(e) || multiply(e) || divide(e) || no_flags(e) || bit_test(e);
}

#endif
