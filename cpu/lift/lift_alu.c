/*
 * cpu/lift/lift_alu.c -- ADD to XOR, INC to NOT, shifts, multiply, divide, XADD, CMPXCHG, decimal adjustment,
 * BOUND.
 *
 * A memory destination is LOADW, operation, STORE: LOADW has checked for writing, so the flags and the store
 * that follow it cannot be undone by a fault. AH, CH, DH and BH go through temporaries.
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/rows.h"

/* -- Shapes -------------------------------------------------------------------------------------------- */

static bool plain_reg(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && !operand_is_high(o);
}

/* Where the result of an operation on `o`, whose value is in `value`, goes: the register itself, or a
 * temporary. */
static unsigned result_reg(const ZydisDecodedOperand *o, unsigned value)
{
    return plain_reg(o) ? value : REG_T0;
}

static void finish(struct lift *l, const ZydisDecodedOperand *o)
{
    if (!plain_reg(o))
        lift_write(l, o, REG_T0);
}

/* For the second operand: back ends hold T0 in a register of the host. */
static unsigned second_temp(unsigned first)
{
    return first == REG_T0 ? REG_T1 : REG_T0;
}

/* d = d op s */
static void binary(struct lift *l, enum uop_op op, enum uop_op op_imm)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    unsigned size = lift_size(d);
    unsigned a = lift_read_rmw(l, d, REG_T0), r = result_reg(d, a);
    if (operand_is_imm(s))
        lift_dai(l, op_imm, size, r, a, lift_imm(s, size));
    else
        lift_dab(l, op, size, r, a, lift_read(l, s, second_temp(a)));
    finish(l, d);
}

static void unary(struct lift *l, enum uop_op op)
{
    const ZydisDecodedOperand *d = &l->op[0];
    unsigned a = lift_read_rmw(l, d, REG_T0);
    lift_dab(l, op, lift_size(d), result_reg(d, a), a, 0);
    finish(l, d);
}

static void compare(struct lift *l, enum uop_op op, enum uop_op op_imm)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    unsigned size = lift_size(d), a = lift_read(l, d, REG_T0);
    if (operand_is_imm(s))
        lift_dai(l, op_imm, size, 0, a, lift_imm(s, size));
    else
        lift_dab(l, op, size, 0, a, lift_read(l, s, second_temp(a)));
}

#define BINARY(name, OP)                                                                                     \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        binary(l, UOP_##OP, UOP_##OP##I);                                                                    \
    }
BINARY(add, ADD)
BINARY(or, OR)
BINARY(adc, ADC)
BINARY(sbb, SBB)
BINARY(and, AND)
BINARY(sub, SUB)
BINARY(xor, XOR)

#define UNARY(name, OP)                                                                                      \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        unary(l, UOP_##OP);                                                                                  \
    }
UNARY(inc, INC)
UNARY(dec, DEC)
UNARY(neg, NEG)
UNARY(not, NOT)

void lift_cmp(struct lift *l)
{
    compare(l, UOP_CMP, UOP_CMPI);
}

void lift_test(struct lift *l)
{
    compare(l, UOP_TEST, UOP_TESTI);
}

/* -- Shifts and rotates -------------------------------------------------------------------------------- */

static unsigned masked_count(const ZydisDecodedOperand *o, unsigned size)
{
    return (unsigned)o->imm.value.u & (size == 3 ? 63 : 31);
}

/* The immediate forms of uop.def want a count that is not zero; a zero count changes no flag. */
static void shift(struct lift *l, enum uop_op op, enum uop_op op_imm)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    unsigned size = lift_size(d), a = lift_read_rmw(l, d, REG_T0), r = result_reg(d, a);
    if (!operand_is_imm(s))
        lift_dab(l, op, size, r, a, REG_RCX);
    else if (masked_count(s, size) != 0)
        lift_dai(l, op_imm, size, r, a, masked_count(s, size));
    else
        lift_dab(l, UOP_MOV, size, r, a, 0);
    finish(l, d);
}

#define SHIFT(name, OP)                                                                                      \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        shift(l, UOP_##OP, UOP_##OP##I);                                                                     \
    }
SHIFT(shl, SHL)
SHIFT(shr, SHR)
SHIFT(sar, SAR)
SHIFT(rol, ROL)
SHIFT(ror, ROR)
SHIFT(rcl, RCL)
SHIFT(rcr, RCR)

static void shift_double(struct lift *l, enum uop_op op, enum uop_op op_imm)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[2];
    unsigned size = lift_size(d), a = lift_read_rmw(l, d, REG_T0), r = result_reg(d, a);
    unsigned b = lift_read(l, &l->op[1], REG_T1);
    if (!operand_is_imm(s))
        lift_dab(l, op, size, r, a, b)->c = REG_RCX;
    else if (masked_count(s, size) != 0)
        lift_dab(l, op_imm, size, r, a, b)->imm = masked_count(s, size);
    else
        lift_dab(l, UOP_MOV, size, r, a, 0);
    finish(l, d);
}

void lift_shld(struct lift *l)
{
    shift_double(l, UOP_SHLD, UOP_SHLDI);
}

void lift_shrd(struct lift *l)
{
    shift_double(l, UOP_SHRD, UOP_SHRDI);
}

/* -- Multiply and divide ------------------------------------------------------------------------------- */

static void of_accumulator(struct lift *l, enum uop_op op)
{
    lift_dab(l, op, lift_size(&l->op[0]), 0, lift_read(l, &l->op[0], REG_T0), 0);
}

void lift_mul(struct lift *l)
{
    of_accumulator(l, UOP_MUL);
}

void lift_div(struct lift *l)
{
    of_accumulator(l, UOP_DIV);
}

void lift_idiv(struct lift *l)
{
    of_accumulator(l, UOP_IDIV);
}

void lift_imul(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0];
    if (l->zi.operand_count_visible == 1) {
        of_accumulator(l, UOP_IMUL);
        return;
    }
    unsigned size = lift_size(d), r = lift_gpr(d->reg.value, NULL), a = lift_read(l, &l->op[1], REG_T0);
    if (l->zi.operand_count_visible == 3)
        lift_dai(l, UOP_IMULI, size, r, a, lift_imm(&l->op[2], size));
    else
        lift_dab(l, UOP_IMUL2, size, r, r, a);
}

/* -- Exchange with arithmetic -------------------------------------------------------------------------- */

/* The destination is written last: XADD of a register with itself leaves the sum. */
void lift_xadd(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    unsigned size = lift_size(d), a = lift_read_rmw(l, d, REG_T0), b = lift_read(l, s, REG_T1);
    lift_dab(l, UOP_ADD, size, REG_T2, a, b);
    if (operand_is_mem(d)) {
        lift_write(l, d, REG_T2);
        lift_write(l, s, a);
    } else {
        lift_write(l, s, a);
        lift_write(l, d, REG_T2);
    }
}

/*
 * Memory is written in both cases, as SDM 2A's CMPXCHG says; rAX only when the comparison failed, a register
 * destination only when it succeeded: processors leave the upper half of a 32-bit register that is not
 * chosen.
 */
void lift_cmpxchg(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    unsigned size = lift_size(d), old = lift_read_rmw(l, d, REG_T0);
    lift_dab(l, UOP_MOV, 3, REG_T1, REG_RAX, 0);
    lift_dab(l, UOP_MOV, size, REG_T1, old, 0); /* rAX if it fails */
    unsigned b = lift_read(l, s, REG_T3);
    if (plain_reg(d)) {
        lift_dab(l, UOP_MOV, 3, REG_T2, old, 0);
        lift_dab(l, UOP_MOV, size, REG_T2, b, 0); /* the destination if it succeeds */
        lift_dab(l, UOP_CMP, size, 0, REG_RAX, old);
        lift_dab(l, UOP_CMOV, 3, old, REG_T2, 0)->c = 4; /* Z */
    } else {
        lift_dab(l, UOP_CMP, size, 0, REG_RAX, old);
        lift_dab(l, UOP_CMOV, 3, REG_T0, b, 0)->c = 4;
        lift_write(l, d, REG_T0);
    }
    lift_dab(l, UOP_CMOV, 3, REG_RAX, REG_T1, 0)->c = 5; /* NZ */
}

/* The address is formed once: RAX and RDX, which may be part of it, have changed when the store comes. */
void lift_cmpxchg8b(struct lift *l)
{
    uint8_t am = lift_ea(l, REG_T6, &l->op[0]), lock = lift_lock(l, &l->op[0]);
    struct uop *u = lift_dab(l, UOP_LOADW, 3, REG_T0, REG_T6, REG_ZERO);
    u->am = am;
    u->bits |= lock;
    u = lift_helper(l, HELPER_cmpxchg8b, 3);
    u->a = REG_T0;
    u->d = REG_T1;
    u = lift_dab(l, UOP_STORE, 3, REG_T1, REG_T6, REG_ZERO);
    u->am = am;
    u->bits |= lock;
}

void lift_cmpxchg16b(struct lift *l)
{
    uint8_t am = lift_ea(l, REG_T0, &l->op[0]);
    struct uop *u = lift_helper(l, HELPER_cmpxchg16b, 3);
    u->a = REG_T0;
    u->am = am;
}

/* -- Decimal adjustment, BOUND ------------------------------------------------------------------------- */

#define BY_HELPER(name)                                                                                      \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        lift_helper(l, HELPER_##name, 0);                                                                    \
    }
BY_HELPER(daa)
BY_HELPER(das)
BY_HELPER(aaa)
BY_HELPER(aas)

void lift_aam(struct lift *l)
{
    unsigned base = l->op[0].imm.value.u & 0xff;
    if (base == 0)
        lift_raise(l, EXC_DE);
    else
        lift_helper(l, HELPER_aam, 0)->imm = base;
}

void lift_aad(struct lift *l)
{
    lift_helper(l, HELPER_aad, 0)->imm = (int64_t)(l->op[0].imm.value.u & 0xff);
}

/* The bounds are two operands one after the other in memory. */
void lift_bound(struct lift *l)
{
    unsigned size = lift_size(&l->op[0]);
    for (unsigned i = 0; i < 2; i++) {
        struct uop *u = ir_emit(l->ir, UOP_LOAD, size);
        u->d = (uint8_t)(REG_T0 + i);
        lift_mem(l, u, &l->op[1]);
        u->disp += (int32_t)(i << size);
    }
    struct uop *u = lift_helper(l, HELPER_bound, size);
    u->a = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
    u->b = REG_T0;
    u->c = REG_T1;
}
