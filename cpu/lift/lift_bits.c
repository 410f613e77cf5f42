/*
 * cpu/lift/lift_bits.c -- bit tests and scans, BMI1, BMI2, ADX, CRC32, and the flag instructions.
 *
 * SDM 1, "Bit and Byte Instructions"; SDM 2A "BT": with a register as bit offset a memory operand is a bit
 * string, the offset is signed and selects the word.
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/rows.h"

/* -- BT, BTS, BTR, BTC --------------------------------------------------------------------------------- */

struct bit_ops {
    enum uop_op reg, imm;
};

static struct bit_ops bit_ops(const struct lift *l)
{
    switch (l->zi.mnemonic) {
    case ZYDIS_MNEMONIC_BTS:
        return (struct bit_ops){UOP_BTS, UOP_BTSI};
    case ZYDIS_MNEMONIC_BTR:
        return (struct bit_ops){UOP_BTR, UOP_BTRI};
    case ZYDIS_MNEMONIC_BTC:
        return (struct bit_ops){UOP_BTC, UOP_BTCI};
    default:
        return (struct bit_ops){UOP_BT, UOP_BTI};
    }
}

/* Address of the word of a bit string: T6 + (T5 << scale), T5 = signed offset / bits. Returns am. */
static uint8_t bit_string(struct lift *l, unsigned size, unsigned index)
{
    static const enum uop_op extend[4] = {UOP_MOV, UOP_MOVSX16, UOP_MOVSX32, UOP_MOV};
    lift_dab(l, extend[size], 3, REG_T5, index, 0);
    lift_dai(l, UOP_SARI_NF, 3, REG_T5, REG_T5, 3 + size);
    return (uint8_t)(lift_ea(l, REG_T6, &l->op[0]) | size);
}

static void bit_string_access(struct lift *l, enum uop_op op, unsigned size, uint8_t am)
{
    struct uop *u = ir_emit(l->ir, op, size);
    u->d = REG_T0;
    u->a = REG_T6;
    u->b = REG_T5;
    u->am = am;
    if (l->zi.attributes & ZYDIS_ATTRIB_HAS_LOCK)
        u->bits |= UOP_LOCK;
}

static void bit_memory_by_register(struct lift *l, struct bit_ops ops, unsigned size)
{
    bool writes = ops.reg != UOP_BT;
    unsigned index = lift_gpr(l->op[1].reg.value, NULL);
    uint8_t am = bit_string(l, size, index);
    bit_string_access(l, writes ? UOP_LOADW : UOP_LOAD, size, am);
    lift_dab(l, ops.reg, size, writes ? REG_T0 : 0, REG_T0, index);
    if (writes)
        bit_string_access(l, UOP_STORE, size, am);
}

void lift_bt(struct lift *l)
{
    const ZydisDecodedOperand *d = &l->op[0], *s = &l->op[1];
    struct bit_ops ops = bit_ops(l);
    unsigned size = lift_size(d);
    bool writes = ops.reg != UOP_BT;
    if (operand_is_mem(d) && operand_is_reg(s)) {
        bit_memory_by_register(l, ops, size);
        return;
    }
    unsigned a = writes ? lift_read_rmw(l, d, REG_T0) : lift_read(l, d, REG_T0), r = writes ? a : 0;
    if (operand_is_imm(s))
        lift_dai(l, ops.imm, size, r, a, (int64_t)(s->imm.value.u & ((8u << size) - 1)));
    else
        lift_dab(l, ops.reg, size, r, a, lift_gpr(s->reg.value, NULL));
    if (writes && operand_is_mem(d))
        lift_write(l, d, a);
}

/* -- Scans and counts ---------------------------------------------------------------------------------- */

static void scan(struct lift *l, enum uop_op op)
{
    unsigned s = lift_read(l, &l->op[1], REG_T0);
    lift_dab(l, op, lift_size(&l->op[0]), lift_gpr(l->op[0].reg.value, NULL), s, 0);
}

void lift_bsf(struct lift *l)
{
    scan(l, UOP_BSF);
}

void lift_bsr(struct lift *l)
{
    scan(l, UOP_BSR);
}

void lift_popcnt(struct lift *l)
{
    scan(l, UOP_POPCNT);
}

/* Without the feature the F3 prefix is ignored and the opcode is BSR or BSF. */
void lift_lzcnt(struct lift *l)
{
    scan(l, l->model->has[FEAT_LZCNT] ? UOP_LZCNT : UOP_BSR);
}

void lift_tzcnt(struct lift *l)
{
    scan(l, l->model->has[FEAT_BMI1] ? UOP_TZCNT : UOP_BSF);
}

/* -- BMI1, BMI2: op[0] destination, op[1] and op[2] sources in the micro-op's order -------------------- */

static void three(struct lift *l, enum uop_op op)
{
    unsigned a = lift_read(l, &l->op[1], REG_T0), b = lift_read(l, &l->op[2], REG_T1);
    lift_dab(l, op, lift_size(&l->op[0]), lift_gpr(l->op[0].reg.value, NULL), a, b);
}

#define BMI(shape, name, OP)                                                                                 \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        shape(l, UOP_##OP);                                                                                  \
    }
BMI(three, andn, ANDN)
BMI(three, bextr, BEXTR)
BMI(three, bzhi, BZHI)
BMI(three, pdep, PDEP)
BMI(three, pext, PEXT)
BMI(three, sarx, SARX)
BMI(three, shlx, SHLX)
BMI(three, shrx, SHRX)
BMI(scan, blsi, BLSI)
BMI(scan, blsmsk, BLSMSK)
BMI(scan, blsr, BLSR)

void lift_rorx(struct lift *l)
{
    unsigned size = lift_size(&l->op[0]), a = lift_read(l, &l->op[1], REG_T0);
    lift_dai(l, UOP_RORX, size, lift_gpr(l->op[0].reg.value, NULL), a,
             (int64_t)(l->op[2].imm.value.u & ((8u << size) - 1)));
}

void lift_mulx(struct lift *l)
{
    unsigned a = lift_read(l, &l->op[2], REG_T0);
    struct uop *u =
        lift_dab(l, UOP_MULX, lift_size(&l->op[0]), lift_gpr(l->op[0].reg.value, NULL), a, REG_ZERO);
    u->c = (uint8_t)lift_gpr(l->op[1].reg.value, NULL);
}

/* -- ADX, CRC32: d = d op s ---------------------------------------------------------------------------- */

static void accumulate(struct lift *l, enum uop_op op, unsigned size)
{
    unsigned d = lift_gpr(l->op[0].reg.value, NULL), s = lift_read(l, &l->op[1], REG_T0);
    lift_dab(l, op, size, d, d, s);
}

void lift_adcx(struct lift *l)
{
    accumulate(l, UOP_ADCX, lift_size(&l->op[0]));
}

void lift_adox(struct lift *l)
{
    accumulate(l, UOP_ADOX, lift_size(&l->op[0]));
}

void lift_crc32(struct lift *l)
{
    accumulate(l, UOP_CRC32, lift_size(&l->op[1]));
}

/* -- Flags --------------------------------------------------------------------------------------------- */

#define FLAG(name, OP)                                                                                       \
    void lift_##name(struct lift *l)                                                                         \
    {                                                                                                        \
        ir_emit(l->ir, UOP_##OP, 0);                                                                         \
    }
FLAG(clc, CLC)
FLAG(stc, STC)
FLAG(cmc, CMC)
FLAG(cld, CLD)
FLAG(std, STD)

/* LAHF and SAHF in 64-bit mode have a feature bit of their own. */
static bool no_lahf(struct lift *l)
{
    if (!(l->key & KEY_L) || l->model->has[FEAT_LAHF64])
        return false;
    lift_raise(l, EXC_UD);
    return true;
}

void lift_lahf(struct lift *l)
{
    if (no_lahf(l))
        return;
    lift_dab(l, UOP_GETF, 0, REG_T0, 0, 0);
    lift_dab(l, UOP_INSH, 0, REG_RAX, REG_T0, 0);
}

void lift_sahf(struct lift *l)
{
    if (no_lahf(l))
        return;
    lift_dab(l, UOP_EXTH, 0, REG_T0, REG_RAX, 0);
    lift_dai(l, UOP_SETF, 0, 0, REG_T0, FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF);
}

/* AL = CF ? FFH : 0. Not in the SDM's pages, but in its opcode map's gap on every processor. */
void lift_salc(struct lift *l)
{
    lift_dab(l, UOP_SETCC, 0, REG_T0, 0, 0)->c = 2; /* B */
    lift_dab(l, UOP_SUB_NF, 0, REG_RAX, REG_ZERO, REG_T0);
}
