/*
 * cpu/lift/lift_mov.c -- moves: MOV and its extensions, XCHG, BSWAP, MOVBE, LEA, XLAT, CMOVcc, SETcc, CBW and
 * kin, and what moves no data at all (NOP, prefetch, cache-line and fence instructions).
 *
 * SDM 2A/2B, the instructions' own pages. A load writes its destination only after it has succeeded.
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/lift_system.h"
#include "cpu/lift/rows.h"

/* -- MOV ----------------------------------------------------------------------------------------------- */

static ZydisRegisterClass class_of(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) ? ZydisRegisterGetClass(o->reg.value) : ZYDIS_REGCLASS_INVALID;
}

static bool mov_system(struct lift *l)
{
    for (unsigned i = 0; i < 2; i++)
        switch (class_of(&l->op[i])) {
        case ZYDIS_REGCLASS_SEGMENT:
            lift_mov_segment(l);
            return true;
        case ZYDIS_REGCLASS_CONTROL:
            lift_mov_control(l);
            return true;
        case ZYDIS_REGCLASS_DEBUG:
            lift_mov_debug(l);
            return true;
        case ZYDIS_REGCLASS_TEST:
            lift_raise(l, EXC_UD);
            return true;
        default:
            break;
        }
    return false;
}

/* Loads straight into the destination register when it is a plain one. */
static void load_to(struct lift *l, enum uop_op op, unsigned size, const ZydisDecodedOperand *d,
                    const ZydisDecodedOperand *m)
{
    bool high = operand_is_high(d);
    struct uop *u = ir_emit(l->ir, op, size);
    u->d = (uint8_t)(high ? REG_T0 : lift_gpr(d->reg.value, NULL));
    lift_mem(l, u, m);
    if (high)
        lift_write(l, d, REG_T0);
}

void lift_mov(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    unsigned size = lift_size(d);
    if (mov_system(l))
        return;
    if (operand_is_mem(s)) {
        load_to(l, UOP_LOAD, size, d, s);
    } else if (operand_is_imm(s)) {
        if (operand_is_mem(d)) {
            struct uop *u = ir_emit(l->ir, UOP_STOREI, size);
            lift_mem(l, u, d);
            u->imm = lift_imm(s, size);
        } else if (operand_is_high(d)) {
            lift_write(l, d, lift_read(l, s, REG_T0));
        } else {
            lift_dai(l, UOP_MOVI, size, lift_gpr(d->reg.value, NULL), 0, lift_imm(s, size));
        }
    } else {
        lift_write(l, d, lift_read(l, s, REG_T0));
    }
}

/* -- Extension ----------------------------------------------------------------------------------------- */

/* Sources as wide as the destination (MOVZX r16, r/m16 and MOVSXD without REX.W) are plain moves. */
static void extend(struct lift *l, const enum uop_op reg_ops[3], const enum uop_op mem_ops[3])
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    unsigned size = lift_size(d), from = lift_size(s);
    bool plain = from >= size;
    if (operand_is_mem(s)) {
        load_to(l, plain ? UOP_LOAD : mem_ops[from], size, d, s);
        return;
    }
    lift_dab(l, plain ? UOP_MOV : reg_ops[from], size, lift_gpr(d->reg.value, NULL), lift_read(l, s, REG_T0),
             0);
}

void lift_movzx(struct lift *l)
{
    static const enum uop_op reg_ops[3] = {UOP_MOVZX8, UOP_MOVZX16, UOP_MOV};
    static const enum uop_op mem_ops[3] = {UOP_LOADZX8, UOP_LOADZX16, UOP_LOAD};
    extend(l, reg_ops, mem_ops);
}

void lift_movsx(struct lift *l)
{
    static const enum uop_op reg_ops[3] = {UOP_MOVSX8, UOP_MOVSX16, UOP_MOVSX32};
    static const enum uop_op mem_ops[3] = {UOP_LOADSX8, UOP_LOADSX16, UOP_LOADSX32};
    extend(l, reg_ops, mem_ops);
}

/* CBW, CWDE, CDQE: rAX sign-extended from its low half. */
void lift_cbw(struct lift *l)
{
    static const enum uop_op ops[4] = {UOP_MOV, UOP_MOVSX8, UOP_MOVSX16, UOP_MOVSX32};
    lift_dab(l, ops[l->osize], l->osize, REG_RAX, REG_RAX, 0);
}

void lift_cwd(struct lift *l)
{
    lift_dab(l, UOP_SIGN, l->osize, REG_RDX, REG_RAX, 0);
}

/* -- Exchange and byte order --------------------------------------------------------------------------- */

void lift_xchg(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    if (operand_is_mem(s)) { /* either order means the same */
        d = &l->op[1];
        s = &l->op[0];
    }
    if (operand_is_mem(d)) {
        unsigned old = lift_read_rmw(l, d, REG_T0);
        lift_write(l, d, lift_read(l, s, REG_T1));
        lift_write(l, s, old);
    } else if (operand_is_high(d) || operand_is_high(s)) {
        unsigned a = lift_read(l, d, REG_T0), b = lift_read(l, s, REG_T1);
        lift_dab(l, UOP_MOV, 3, REG_T2, a, 0); /* a register itself is about to change */
        lift_dab(l, UOP_MOV, 3, REG_T3, b, 0);
        lift_write(l, d, REG_T3);
        lift_write(l, s, REG_T2);
    } else {
        lift_dab(l, UOP_XCHG, lift_size(d), lift_gpr(d->reg.value, NULL), lift_gpr(s->reg.value, NULL), 0);
    }
}

/* BSWAP of a 16-bit register is undefined; processors write zero. */
void lift_bswap(struct lift *l)
{
    unsigned r = lift_gpr(l->op[0].reg.value, NULL);
    if (l->osize == 1)
        lift_dai(l, UOP_MOVI, 1, r, 0, 0);
    else
        lift_dab(l, UOP_BSWAP, l->osize, r, 0, 0);
}

/* Byte-reversed value of `from` in REG_T1. */
static void reverse(struct lift *l, unsigned size, unsigned from)
{
    if (size == 1) {
        lift_dab(l, UOP_EXTH, 0, REG_T1, from, 0);
        lift_dab(l, UOP_INSH, 0, REG_T1, from, 0);
    } else {
        lift_dab(l, UOP_MOV, size, REG_T1, from, 0);
        lift_dab(l, UOP_BSWAP, size, REG_T1, 0, 0);
    }
}

void lift_movbe(struct lift *l)
{
    reverse(l, lift_size(&l->op[0]), lift_read(l, &l->op[1], REG_T0));
    lift_write(l, &l->op[0], REG_T1);
}

/* -- Addresses and conditions -------------------------------------------------------------------------- */

void lift_lea(struct lift *l)
{
    struct uop *u = ir_emit(l->ir, UOP_LEA, lift_size(&l->op[0]));
    u->d = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
    lift_mem(l, u, &l->op[1]);
}

void lift_xlat(struct lift *l)
{
    lift_dab(l, UOP_MOVZX8, 3, REG_T0, REG_RAX, 0);
    struct uop *u = ir_emit(l->ir, UOP_LOAD, 0);
    u->d = REG_RAX;
    u->a = REG_RBX;
    u->b = REG_T0;
    u->am = lift_am_segment(l, SEG_DS);
}

void lift_cmov(struct lift *l)
{
    unsigned s = lift_read(l, &l->op[1], REG_T0); /* loaded, and may fault, whatever the condition */
    struct uop *u = lift_dab(l, UOP_CMOV, lift_size(&l->op[0]), lift_gpr(l->op[0].reg.value, NULL), s, 0);
    u->c = l->zi.opcode & 15;
}

void lift_setcc(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0];
    bool direct = operand_is_reg(d) && !operand_is_high(d);
    struct uop *u = ir_emit(l->ir, UOP_SETCC, 0);
    u->d = (uint8_t)(direct ? lift_gpr(d->reg.value, NULL) : REG_T0);
    u->c = l->zi.opcode & 15;
    if (!direct)
        lift_write(l, d, REG_T0);
}

/* -- Nothing to do ------------------------------------------------------------------------------------- */

/* Memory operands of hint instructions are not accessed. Accesses happen in program order, so fences are no
 * more. */
void lift_nop(struct lift *l)
{
    (void)l;
}

/* Checked as a byte load; there is no cache to flush. */
void lift_clflush(struct lift *l)
{
    struct uop *u = ir_emit(l->ir, UOP_LOAD, 0);
    u->d = REG_T0;
    lift_mem(l, u, &l->op[0]);
}

void lift_ud(struct lift *l)
{
    lift_raise(l, EXC_UD);
}
