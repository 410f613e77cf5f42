/*
 * cpu/jit/emit_alu.c -- moves, arithmetic, shifts, multiplication and division as host instructions.
 *
 * Results and flags: cpu/ir/alu.h. A micro-op whose flags are needed leaves a recipe for them (emit.h); where
 * the host's flags differ from ours (shifts by more than one, BSF), the operands are stored before.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum { SHIFT_ROL, SHIFT_ROR, SHIFT_RCL, SHIFT_RCR, SHIFT_SHL, SHIFT_SHR, SHIFT_SAR = 7 };

static bool fits(int64_t v)
{
    return v == (int32_t)v;
}

/* -- Two operands and a result ------------------------------------------------------------------------- */

/* An immediate as the host's instruction of that size takes it. */
static bool immediate(unsigned size, int64_t v, int32_t *out)
{
    *out = size == 0 ? (int8_t)v : size == 1 ? (int16_t)v : (int32_t)v;
    return size < 3 || fits(v);
}

/* d = a op b, where b is a register, or imm. Keeps nothing in the host's flags but those of the operation. */
static void binary(struct emit *e, unsigned op, unsigned size, unsigned d, unsigned a, bool use_imm,
                   unsigned b, int64_t value)
{
    struct asm_buf *s = &e->a;
    int32_t imm = 0;
    bool wide = use_imm && !immediate(size, value, &imm);
    emit_before_write(e, d);
    bool a_in_c = a == REG_T0 && e->s.t0_in_c, b_in_c = !use_imm && b == REG_T0 && e->s.t0_in_c;
    unsigned hd = d == REG_T0 ? (a_in_c || !b_in_c ? (unsigned)R_C : R_NONE)
                  : d < 16    ? jit_host_of[d]
                              : R_NONE;
    struct rm mb = rm_reg(R_B);
    if (wide)
        asm_imm64(s, R_B, (uint64_t)value);
    else if (!use_imm)
        mb = emit_operand(e, b);
    if (hd != R_NONE && d != a && !use_imm && b == d)
        hd = R_NONE; /* the result would overwrite b */
    if (hd == R_NONE && d == a && d != REG_T0 && size != 2) {
        struct rm md = guest_mem(d);
        if (use_imm && !wide) {
            asm_alu_imm(s, size, op, md, imm);
        } else {
            if (mb.mem) {
                asm_load(s, 3, R_B, mb);
                mb = rm_reg(R_B);
            }
            asm_alu_store(s, size, op, mb.base, md);
        }
        return;
    }
    unsigned w = hd == R_NONE ? R_A : hd;
    if (d == REG_T0 && hd == R_C && !a_in_c) {
        struct rm ma = emit_operand(e, a);
        emit_dest(e, REG_T0);
        asm_load(s, size >= 2 ? size : 2, R_C, ma);
    } else {
        struct rm ma = emit_operand(e, a);
        if (ma.mem || ma.base != w) {
            if (a == REG_ZERO && size >= 2 && op != ALU_ADC && op != ALU_SBB)
                asm_imm64(s, w, 0);
            else
                asm_load(s, size, w, ma);
        }
    }
    if (use_imm && !wide)
        asm_alu_imm(s, size, op, rm_reg(w), imm);
    else
        asm_alu(s, size, op, w, mb);
    if (hd == R_NONE)
        emit_put(e, d, size, R_A);
}

static unsigned alu_number(unsigned op, bool *imm, bool *live)
{
    *imm = false;
    *live = true;
    switch (op) {
#define ROW(name)                                                                                            \
    case UOP_##name##I:                                                                                      \
        *imm = true;                                                                                         \
        return ALU_##name;                                                                                   \
    case UOP_##name:                                                                                         \
        return ALU_##name;
#define ROW_NF(name)                                                                                         \
    case UOP_##name##I_NF:                                                                                   \
        *imm = true;                                                                                         \
        *live = false;                                                                                       \
        return ALU_##name;                                                                                   \
    case UOP_##name##_NF:                                                                                    \
        *live = false;                                                                                       \
        return ALU_##name;
        ROW(ADD)
        ROW(OR)
        ROW(AND)
        ROW(SUB)
        ROW(XOR)
        ROW_NF(ADD)
        ROW_NF(OR)
        ROW_NF(AND)
        ROW_NF(SUB)
        ROW_NF(XOR)
#undef ROW
#undef ROW_NF
    default:
        return UINT32_MAX;
    }
}

/* d = a + b or a + imm by LEA, which keeps the host's flags. */
static bool add_by_lea(struct emit *e)
{
    const struct uop *u = e->u;
    bool imm = u->op == UOP_ADDI_NF || u->op == UOP_SUBI_NF;
    int64_t v = u->op == UOP_SUBI_NF ? -u->imm : u->imm;
    if (u->size < 2 || (u->op != UOP_ADD_NF && !imm) || (imm && !fits(v)))
        return false;
    if (u->d >= 16 || jit_host_of[u->d] == R_NONE)
        return false;
    struct rm a = emit_operand(e, u->a), b = imm ? a : emit_operand(e, u->b);
    if (a.mem || b.mem)
        return false;
    if (u->d == u->a && !e->s.host_mask)
        return false; /* ADD is shorter */
    emit_before_write(e, u->d);
    asm_lea(&e->a, u->size, jit_host_of[u->d],
            imm ? rm_mem(a.base, (int32_t)v) : rm_sib(a.base, b.base, 0, 0));
    return true;
}

static bool arithmetic(struct emit *e)
{
    const struct uop *u = e->u;
    bool imm, live;
    unsigned op = alu_number(u->op, &imm, &live);
    if (op == UINT32_MAX)
        return false;
    if (!live && add_by_lea(e))
        return true;
    unsigned size = u->size;
    int32_t value = 0;
    if (!live) {
        binary(e, op, size, u->d, u->a, imm, u->b, u->imm);
        e->s.host_mask = 0;
        return true;
    }
    if (op == ALU_ADD || op == ALU_SUB) {
        /* b must survive for the recipe. */
        if ((imm && !immediate(size, u->imm, &value)) || (!imm && (u->b == u->d || u->b >= 16))) {
            bool from_c = !imm && u->b == REG_T0 && u->d != REG_T0 && e->s.t0_in_c;
            if (!from_c) {
                /* Operands into the recipe before the operation. */
                emit_drop_flags(e);
                asm_store(&e->a, 3, emit_value(e, u->a, R_A), CPU_MEM(cc_a));
                if (imm) {
                    asm_imm64(&e->a, R_A, (uint64_t)u->imm);
                    asm_store(&e->a, 3, R_A, CPU_MEM(cc_b));
                } else {
                    asm_store(&e->a, 3, emit_value(e, u->b, R_A), CPU_MEM(cc_b));
                }
                binary(e, op, size, u->d, u->a, imm, u->b, u->imm);
                asm_store_imm(&e->a, 3, CPU_MEM(cc_op), (op == ALU_ADD ? FK_ADD_AB : FK_CMP) << 2 | size);
                emit_drop_flags(e);
                e->s.host_mask = HF_ALL;
                return true;
            }
        }
        binary(e, op, size, u->d, u->a, imm, u->b, u->imm);
        unsigned kind = op == ALU_ADD ? FK_ADD : FK_SUB;
        if (imm)
            emit_recipe_imm(e, kind, size, u->d, value);
        else
            emit_recipe(e, kind, size, u->d, u->b);
        return true;
    }
    binary(e, op, size, u->d, u->a, imm, u->b, u->imm);
    emit_recipe(e, FK_LOGIC, size, u->d, REG_ZERO);
    return true;
}

/* Carry in: the host's CF must be the guest's. Operands are stored before, since the recipe needs three. */
static bool with_carry(struct emit *e)
{
    const struct uop *u = e->u;
    bool imm = u->op == UOP_ADCI || u->op == UOP_SBBI, add = u->op == UOP_ADC || u->op == UOP_ADCI;
    if (!imm && u->op != UOP_ADC && u->op != UOP_SBB)
        return false;
    bool needed = emit_flags_needed(e, e->index + 1);
    emit_need_flags(e, HF_CF);
    if (needed) {
        /* The carry goes into cc_cf: the recipe recomputes from a, b and it. */
        emit_drop_flags(e);
        asm_op(&e->a, 0, 0x0f92, 0, CPU_MEM(cc_cf)); /* SETC */
        asm_store(&e->a, 3, emit_value(e, u->a, R_A), CPU_MEM(cc_a));
        if (imm && fits(u->imm)) {
            asm_store_imm(&e->a, 3, CPU_MEM(cc_b), (int32_t)u->imm);
        } else if (imm) {
            asm_imm64(&e->a, R_A, (uint64_t)u->imm);
            asm_store(&e->a, 3, R_A, CPU_MEM(cc_b));
        } else {
            asm_store(&e->a, 3, emit_value(e, u->b, R_A), CPU_MEM(cc_b));
        }
        asm_store_imm(&e->a, 3, CPU_MEM(cc_op), (add ? FK_ADC : FK_SBB) << 2 | u->size);
    }
    emit_drop_flags(e);
    binary(e, add ? ALU_ADC : ALU_SBB, u->size, u->d, u->a, imm, u->b, u->imm);
    e->s.settled = false;
    e->s.host_mask = HF_ALL;
    return true;
}

static bool compare(struct emit *e)
{
    const struct uop *u = e->u;
    bool imm = u->op == UOP_CMPI || u->op == UOP_TESTI, test = u->op == UOP_TEST || u->op == UOP_TESTI;
    if (!imm && u->op != UOP_CMP && u->op != UOP_TEST)
        return false;
    return emit_compare(e, test, u->size, u->a, imm, u->b, u->imm);
}

/* T0 in C, since a recipe knows it only there. */
static void ensure_t0(struct emit *e, unsigned reg)
{
    if (reg != REG_T0 || e->s.t0_in_c)
        return;
    emit_take_c(e);
    asm_load(&e->a, 3, R_C, guest_mem(REG_T0));
    e->s.t0_in_c = true;
}

bool emit_compare(struct emit *e, bool test, unsigned size, unsigned a, bool imm, unsigned b, int64_t v)
{
    struct asm_buf *s = &e->a;
    int32_t value = 0;
    if (imm && !immediate(size, v, &value))
        return false;
    ensure_t0(e, a);
    if (!imm)
        ensure_t0(e, b);
    struct rm ma = emit_operand(e, a);
    if (imm && test) {
        asm_op_w(s, size, 0xf6, 0, ma);
        asm_bytes(s, &value, size == 0 ? 1 : size == 1 ? 2 : 4);
    } else if (imm) {
        asm_alu_imm(s, size, ALU_CMP, ma, value);
    } else {
        unsigned hb = emit_value(e, b, R_B);
        asm_op_w(s, size, test ? 0x84 : ALU_CMP << 3, hb, ma);
    }
    if (test && !imm && a == b)
        emit_recipe(e, FK_LOGIC, size, a, REG_ZERO);
    else if (imm)
        emit_recipe_imm(e, test ? FK_TEST : FK_CMP, size, a, value);
    else
        emit_recipe(e, test ? FK_TEST : FK_CMP, size, a, b);
    return true;
}

/* -- One operand --------------------------------------------------------------------------------------- */

/* d = op a, by an instruction with the operand in ModRM.rm. */
static void unary(struct emit *e, unsigned opcode, unsigned extension)
{
    const struct uop *u = e->u;
    unsigned size = u->size;
    emit_before_write(e, u->d);
    if (u->d == REG_T0)
        ensure_t0(e, u->a);
    struct rm ma = emit_operand(e, u->a);
    unsigned hd;
    if (u->d == REG_T0 && u->a != REG_T0) {
        hd = emit_dest(e, REG_T0);
        asm_load(&e->a, size >= 2 ? size : 2, hd, ma);
    } else if (u->d == REG_T0 && e->s.t0_in_c) {
        hd = R_C;
    } else {
        hd = u->d < 16 ? jit_host_of[u->d] : R_NONE;
        if (hd == R_NONE && u->a == u->d && size != 2) {
            asm_op_w(&e->a, size, opcode, extension, guest_mem(u->d));
            return;
        }
        if (hd == R_NONE || u->a != u->d)
            asm_load(&e->a, size, hd == R_NONE ? R_A : hd, ma);
    }
    asm_op_w(&e->a, size, opcode, extension, rm_reg(hd == R_NONE ? R_A : hd));
    if (hd == R_NONE)
        emit_put(e, u->d, size, R_A);
}

/* CF stays: it is put into cc_cf, unless the last flags came from INC or DEC, whose CF is there already. */
static void keep_carry(struct emit *e)
{
    struct asm_buf *a = &e->a;
    if (!(e->s.host_mask & HF_CF) && !(e->s.rec_valid && e->s.rec.kind < FK_OP) && e->s.settled)
        emit_need_flags(e, HF_CF);
    if (!(e->s.host_mask & HF_CF) && e->s.rec_valid && e->s.rec.kind < FK_OP)
        emit_need_flags(e, HF_CF);
    if (e->s.host_mask & HF_CF) {
        asm_op(a, 0, 0x0f92, 0, CPU_MEM(cc_cf)); /* SETC */
        return;
    }
    if (e->s.rec_valid && (e->s.rec.kind == FK_INC || e->s.rec.kind == FK_DEC))
        return;
    emit_flush_flags(e);
    struct rm m = CPU_MEM(cc_op);
    m.disp++;
    asm_op(a, 0, 0xf6, 0, m); /* TEST bit 15 */
    asm_byte(a, 0x80);
    struct cold *c = emit_cold(e, COLD_CARRY, asm_jcc(a, CC_E));
    m.disp += CC_ROT / 8 - 1;
    asm_alu_imm(a, 2, 7, m, 0);
    struct cold *rotated = emit_cold(e, COLD_CARRY, asm_jcc(a, CC_NE));
    c->open = rotated->open = false;
    c->back = rotated->back = a->at;
}

static bool increment(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op != UOP_INC && u->op != UOP_DEC)
        return false;
    bool needed = emit_flags_needed(e, e->index + 1);
    bool carry;
    if (e->s.rot_valid)
        emit_flush_flags(e);
    carry = e->s.host_mask & HF_CF;
    if (needed) {
        keep_carry(e);
        carry = e->s.host_mask & HF_CF;
    }
    /* What was pending is now dead but for CF. */
    emit_drop_flags(e);
    unary(e, 0xfe, u->op == UOP_DEC);
    emit_recipe(e, u->op == UOP_INC ? FK_INC : FK_DEC, u->size, u->d, REG_ZERO);
    e->s.host_mask = carry ? HF_ALL : HF_ALL & ~HF_CF;
    return true;
}

static bool negate(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op == UOP_NOT) {
        unary(e, 0xf6, 2);
        return true;
    }
    if (u->op != UOP_NEG)
        return false;
    unary(e, 0xf6, 3);
    emit_recipe(e, FK_NEG, u->size, u->d, REG_ZERO);
    return true;
}

/* -- Shifts -------------------------------------------------------------------------------------------- */

/* Operands of a flag recipe that is made from them. */
void emit_store_operands(struct emit *e, unsigned a, bool imm, unsigned b)
{
    emit_drop_flags(e);
    asm_store(&e->a, 3, emit_value(e, a, R_A), CPU_MEM(cc_a));
    if (!imm)
        asm_store(&e->a, 3, emit_value(e, b, R_A), CPU_MEM(cc_b));
}

void emit_operation(struct emit *e, unsigned size, bool imm, int32_t value, unsigned host_mask)
{
    if (imm)
        emit_recipe_imm(e, FK_OP + e->u->op, size, LOC_STORED, value);
    else
        emit_recipe(e, FK_OP + e->u->op, size, LOC_STORED, LOC_STORED);
    e->s.host_mask = (uint8_t)host_mask;
}

static void shift_immediate(struct emit *e, unsigned number, unsigned size, unsigned count)
{
    const struct uop *u = e->u;
    emit_before_write(e, u->d);
    struct rm ma = emit_operand(e, u->a);
    unsigned hd = u->d < 16 ? jit_host_of[u->d] : R_NONE;
    if (u->d == REG_T0) {
        bool own = u->a == REG_T0 && e->s.t0_in_c;
        hd = emit_dest(e, REG_T0);
        if (!own)
            asm_load(&e->a, size >= 2 ? size : 2, hd, ma);
    } else if (hd == R_NONE || u->a != u->d) {
        asm_load(&e->a, size, hd == R_NONE ? R_A : hd, ma);
    }
    asm_shift_imm(&e->a, size, number, rm_reg(hd == R_NONE ? R_A : hd), count);
    if (hd == R_NONE)
        emit_put(e, u->d, size, R_A);
}

static bool shift(struct emit *e)
{
    const struct uop *u = e->u;
    unsigned number, size = u->size;
    bool live = true, rotate = false;
    switch (u->op) {
    case UOP_SHLI_NF:
        live = false;
        number = SHIFT_SHL;
        break;
    case UOP_SHRI_NF:
        live = false;
        number = SHIFT_SHR;
        break;
    case UOP_SARI_NF:
        live = false;
        number = SHIFT_SAR;
        break;
    case UOP_SHLI:
        number = SHIFT_SHL;
        break;
    case UOP_SHRI:
        number = SHIFT_SHR;
        break;
    case UOP_SARI:
        number = SHIFT_SAR;
        break;
    case UOP_ROLI:
        number = SHIFT_ROL;
        rotate = true;
        break;
    case UOP_RORI:
        number = SHIFT_ROR;
        rotate = true;
        break;
    default:
        return false;
    }
    unsigned count = (unsigned)u->imm & (size == 3 ? 63 : 31);
    if (count == 0)
        return false;
    if (rotate) {
        if (emit_flags_needed(e, e->index + 1) && u->d >= 16 && u->d != REG_T0)
            return false;
        e->s.rot_valid = false; /* CF and OF are both written */
        shift_immediate(e, number, size, count);
        e->s.host_mask = 0;
        if (emit_flags_needed(e, e->index + 1))
            emit_rotated(e, u->d, size, u->op == UOP_ROLI);
        else
            emit_drop_flags(e);
        return true;
    }
    if (!live || !emit_flags_needed(e, e->index + 1)) {
        shift_immediate(e, number, size, count);
        if (live)
            emit_drop_flags(e);
        e->s.host_mask = 0;
        return true;
    }
    emit_store_operands(e, u->a, true, 0);
    shift_immediate(e, number, size, count);
    /* The host leaves OF undefined for counts over one, and AF always; CF too beyond the size. */
    emit_operation(e, size, true, (int32_t)count, count < 8u << size ? HF_ZF | HF_SF | HF_PF | HF_CF : 0);
    return true;
}

/* By a register: BMI2's SHLX and its kin mask the count as the guest's do. A count of zero keeps the flags.
 */
static bool shift_variable(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    unsigned pp;
    bool plain = false;
    switch (u->op) {
    case UOP_SHLX:
        plain = true; /* fall through */
    case UOP_SHL:
        pp = 1;
        break;
    case UOP_SARX:
        plain = true; /* fall through */
    case UOP_SAR:
        pp = 2;
        break;
    case UOP_SHRX:
        plain = true; /* fall through */
    case UOP_SHR:
        pp = 3;
        break;
    default:
        return false;
    }
    if (u->size < 2)
        return false;
    bool needed = !plain && emit_flags_needed(e, e->index + 1);
    if (needed)
        emit_flush_flags(e);
    uint8_t *skip = NULL;
    unsigned hb;
    if (needed) {
        if (e->s.rec_valid)
            e->s.rec_valid = false;
        asm_load(a, 2, R_B, emit_operand(e, u->b));
        asm_alu_imm(a, 2, ALU_AND, rm_reg(R_B), u->size == 3 ? 63 : 31);
        skip = asm_jcc(a, CC_E);
        asm_store(a, 3, R_B, CPU_MEM(cc_b));
        asm_store(a, 3, emit_value(e, u->a, R_A), CPU_MEM(cc_a));
        asm_store_imm(a, 3, CPU_MEM(cc_op), (int)((FK_OP + u->op) << 2 | u->size));
        asm_patch(skip, a->at);
        hb = R_B;
        e->s.settled = false;
        e->s.host_mask = 0;
    } else {
        hb = emit_value(e, u->b, R_B);
    }
    emit_before_write(e, u->d);
    struct rm ma = emit_operand(e, u->a);
    if (u->a == REG_ZERO) {
        asm_imm64(a, R_A, 0);
        ma = rm_reg(R_A);
    }
    unsigned hd = u->d < 16 ? jit_host_of[u->d] : R_NONE;
    if (u->d == REG_T0 && (u->a == REG_T0 || u->b == REG_T0 || e->s.t0_in_c)) {
        asm_vex(a, 2, pp, u->size == 3, 0, 0xf7, R_A, hb, ma);
        emit_put(e, u->d, u->size, R_A);
    } else if (hd == R_NONE) {
        asm_vex(a, 2, pp, u->size == 3, 0, 0xf7, R_A, hb, ma);
        emit_put(e, u->d, u->size, R_A);
    } else {
        asm_vex(a, 2, pp, u->size == 3, 0, 0xf7, hd, hb, ma);
    }
    if (!plain && !needed) {
        emit_drop_flags(e);
        e->s.host_mask = 0;
    }
    return true;
}

/* -- Moves --------------------------------------------------------------------------------------------- */

static void extend(struct emit *e, uint32_t opcode, unsigned size)
{
    const struct uop *u = e->u;
    emit_before_write(e, u->d);
    struct rm ma = emit_operand(e, u->a);
    unsigned hd = u->d < 16 ? jit_host_of[u->d] : u->d == REG_T0 ? (unsigned)R_C : R_NONE;
    if (u->d == REG_T0 && u->a != REG_T0)
        emit_dest(e, REG_T0);
    unsigned w = hd == R_NONE ? R_A : hd;
    unsigned from = opcode == 0x0fb6 || opcode == 0x0fbe ? 0 : 2;
    /* A byte register beyond BL needs REX, which asm_op adds only for size 0. */
    if (from == 0 && !ma.mem && ma.base >= 4 && ma.base < 8 && size < 3 && w < 8) {
        if (size == 2) {
            asm_byte(&e->a, 0x40);
        } else {
            asm_mov(&e->a, R_B, ma.base);
            ma = rm_reg(R_B);
        }
    }
    asm_op(&e->a, size, opcode, w, ma);
    if (u->d == REG_T0)
        e->s.t0_in_c = true;
    if (hd == R_NONE)
        emit_put(e, u->d, size, R_A);
}

/* A register whose low byte can be read with any REX prefix or none: B, unless it is one already. */
static struct rm byte_of(struct emit *e, unsigned reg)
{
    struct rm m = emit_operand(e, reg);
    if (m.base >= 4 && m.base < 8) {
        asm_mov(&e->a, R_B, m.base);
        m = rm_reg(R_B);
    }
    return m;
}

static bool move(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    unsigned size = u->size;
    switch (u->op) {
    case UOP_MOV: {
        emit_before_write(e, u->d);
        struct rm m = emit_operand(e, u->a);
        if (u->d == REG_T0) {
            if (u->a == REG_T0)
                return false;
            emit_dest(e, REG_T0);
            asm_load(a, size >= 2 ? size : 2, R_C, m);
            return true;
        }
        unsigned hd = u->d < 16 ? jit_host_of[u->d] : R_NONE;
        if (hd != R_NONE) {
            asm_load(a, size, hd, m);
        } else {
            if (m.mem || size == 2) {
                asm_load(a, size == 3 ? 3 : 2, R_A, m);
                m = rm_reg(R_A);
            }
            asm_store(a, size == 2 ? 3 : size, m.base, guest_mem(u->d));
        }
        return true;
    }
    case UOP_MOVI: {
        emit_before_write(e, u->d);
        unsigned hd = u->d == REG_T0 ? emit_dest(e, REG_T0) : u->d < 16 ? jit_host_of[u->d] : R_NONE;
        uint64_t v = size == 2 ? (uint32_t)u->imm : (uint64_t)u->imm;
        if (hd != R_NONE) {
            if (size >= 2)
                asm_imm64(a, hd, v);
            else
                asm_store_imm(a, size, rm_reg(hd), (int32_t)v);
        } else if (size < 2 || fits((int64_t)v)) {
            asm_store_imm(a, size == 2 ? 3 : size, guest_mem(u->d), (int32_t)v);
        } else {
            asm_imm64(a, R_A, v);
            asm_store(a, 3, R_A, guest_mem(u->d));
        }
        return true;
    }
    case UOP_MOVZX8:
        extend(e, 0x0fb6, size);
        return true;
    case UOP_MOVZX16:
        extend(e, 0x0fb7, size);
        return true;
    case UOP_MOVSX8:
        extend(e, 0x0fbe, size);
        return true;
    case UOP_MOVSX16:
        extend(e, 0x0fbf, size);
        return true;
    case UOP_MOVSX32:
        if (size == 2)
            return false;
        extend(e, 0x63, 3);
        return true;
    case UOP_EXTH: {
        emit_before_write(e, u->d);
        asm_load(a, 3, R_A, emit_operand(e, u->a));
        asm_vex(a, 3, 3, 1, 0, 0xf0, R_A, 0, rm_reg(R_A)); /* RORX by 8 */
        asm_byte(a, 8);
        asm_op(a, 2, 0x0fb6, R_A, rm_reg(R_A));
        emit_put(e, u->d, 3, R_A);
        return true;
    }
    case UOP_INSH: {
        emit_before_write(e, u->d);
        unsigned hd = emit_value(e, u->d, R_A);
        asm_op(a, 2, 0x0fb6, R_B, emit_operand(e, u->a).mem ? emit_operand(e, u->a) : byte_of(e, u->a));
        asm_vex(a, 3, 3, 1, 0, 0xf0, R_A, 0, rm_reg(hd)); /* RORX by 8, the byte, back */
        asm_byte(a, 8);
        asm_load(a, 0, R_A, rm_reg(R_B));
        asm_vex(a, 3, 3, 1, 0, 0xf0, hd, 0, rm_reg(R_A));
        asm_byte(a, 56);
        if (hd == R_A)
            emit_put(e, u->d, 3, R_A);
        return true;
    }
    case UOP_XCHG: {
        if (u->d == REG_T0 || u->a == REG_T0)
            return false;
        /* One exchange with itself still zero-extends. */
        emit_before_write(e, u->d);
        emit_before_write(e, u->a);
        asm_load(a, size == 2 ? 2 : 3, R_A, emit_operand(e, u->d));
        asm_load(a, size == 2 ? 2 : 3, R_B, emit_operand(e, u->a));
        emit_put(e, u->d, size, R_B);
        emit_put(e, u->a, size, R_A);
        return true;
    }
    case UOP_LEA: {
        if (AM_ASIZE(u->am) == ASIZE_16)
            return false;
        emit_before_write(e, u->d);
        unsigned hd = u->d < 16 ? jit_host_of[u->d] : R_NONE, to = size >= 2 && hd != R_NONE ? hd : R_A;
        emit_effective(e, u, to);
        if (size == 2 && AM_ASIZE(u->am) == ASIZE_64)
            asm_load(a, 2, to, rm_reg(to));
        if (to == R_A)
            emit_put(e, u->d, size, R_A);
        return true;
    }
    case UOP_CMOV: {
        emit_need_flags(e, emit_condition_mask(u->c));
        emit_before_write(e, u->d);
        ensure_t0(e, u->d);
        unsigned hd = u->d < 16 ? jit_host_of[u->d] : u->d == REG_T0 ? (unsigned)R_C : R_NONE;
        unsigned w = hd == R_NONE ? R_A : hd;
        if (hd == R_NONE)
            asm_load(a, 3, R_A, guest_mem(u->d));
        asm_op(a, size, 0x0f40 | u->c, w, emit_operand(e, u->a));
        if (hd == R_NONE)
            asm_store(a, size == 2 ? 3 : size, R_A, guest_mem(u->d));
        return true;
    }
    case UOP_SETCC: {
        emit_need_flags(e, emit_condition_mask(u->c));
        emit_before_write(e, u->d);
        if (u->d == REG_T0)
            emit_dest(e, REG_T0);
        asm_op(a, 0, 0x0f90 | u->c, 0, emit_operand(e, u->d));
        return true;
    }
    case UOP_BSWAP: {
        emit_before_write(e, u->d);
        unsigned h = emit_value(e, u->d, R_A);
        if (size == 3 || h >= 8)
            asm_byte(a, 0x40 | (size == 3) << 3 | h >> 3);
        asm_byte(a, 0x0f);
        asm_byte(a, 0xc8 | (h & 7));
        if (h == R_A)
            emit_put(e, u->d, size, R_A);
        return true;
    }
    case UOP_SIGN: {
        emit_before_write(e, u->d);
        if (u->d != REG_RDX || u->a != REG_RAX)
            return false;
        asm_op(a, size, 0x99, 0, rm_reg(0)); /* replaced below */
        a->at--;                             /* CWD, CDQ and CQO have no ModRM */
        return true;
    }
    default:
        return false;
    }
}

bool emit_alu(struct emit *e)
{
    return move(e) || arithmetic(e) || compare(e) || with_carry(e) || increment(e) || negate(e) || shift(e) ||
           shift_variable(e);
}

#endif
