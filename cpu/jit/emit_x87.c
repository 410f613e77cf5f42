/*
 * cpu/jit/emit_x87.c -- x87 instructions: emitted again, on the host's own register stack.
 *
 * ST(0) to ST(7), status and tags are the host's while cpu->x87_live is set; the control word is in struct
 * cpu as well. Live only with all exceptions masked and none pending, so nothing here can raise #MF. FIP and
 * FOP are constants of the running block and are stored late. Native is what the interpreter has a host stub
 * for (cpu/jit/x87.h), and moves; transcendentals, remainders, FRNDINT, packed BCD and environments run in C.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

#include "cpu/ir/helper.h"

void emit_need_x87(struct emit *e)
{
    if (e->s.x87_live)
        return;
    asm_alu_imm(&e->a, 0, 7, CPU_MEM(x87_live), 0);
    e->s.host_mask = 0;
    struct cold *c = emit_cold(e, COLD_X87, asm_jcc(&e->a, CC_E));
    c->open = false;
    c->back = e->a.at;
    e->s.x87_live = true;
    e->delta_index = DELTA_NONE; /* the cold part uses B */
}

/* -- Pointers ------------------------------------------------------------------------------------------ */

/* SDM 1, "x87 FPU Instruction and Data (Operand) Pointers"; selectors are zero (CPUID.7:EBX[13]). */
void emit_flush_pointers(struct emit *e)
{
    struct asm_buf *a = &e->a;
    if (!e->s.pointers)
        return;
    const struct uop *u = &e->b->uops[e->s.x87_uop];
    _Static_assert(offsetof(struct x87, fcs) == offsetof(struct x87, fop) + 2 &&
                       offsetof(struct x87, fds) == offsetof(struct x87, fop) + 4,
                   "FOP and FCS, FCS and FDS, are stored as one");
    asm_store_imm(a, 2, CPU_MEM(x87.fop), (int32_t)(u->aux2 & 0x7ff));
    asm_store_imm(a, 2, CPU_MEM(x87.fcs), 0);
    asm_store(a, 3, H_RAX, CPU_MEM(jit_scratch));
    asm_load(a, 3, H_RAX, guest_mem(REG_PAGE));
    asm_lea(a, e->long_mode ? 3 : 2, H_RAX, rm_mem(H_RAX, e->b->insns[u->insn].offset));
    asm_store(a, 3, H_RAX, CPU_MEM(x87.fip));
    asm_load(a, 3, H_RAX, CPU_MEM(jit_scratch));
    e->s.pointers = false;
}

static void pointers(struct emit *e)
{
    e->s.pointers = true;
    e->s.x87_uop = (uint16_t)e->index;
}

/* -- Tags ---------------------------------------------------------------------------------------------- */

void emit_forget_tags(struct emit *e)
{
    e->s.x87_full = e->s.x87_empty = 0;
}

static void pushed(struct emit *e)
{
    e->s.x87_full = (uint8_t)(e->s.x87_full << 1 | 1);
    e->s.x87_empty = (uint8_t)(e->s.x87_empty << 1);
}

static void popped(struct emit *e)
{
    e->s.x87_full >>= 1;
    e->s.x87_empty = (uint8_t)(e->s.x87_empty >> 1 | 0x80);
}

/* With exceptions masked the destination of an operation is full, if only of the indefinite value. */
static void written(struct emit *e, unsigned i)
{
    e->s.x87_full |= (uint8_t)(1u << i);
    e->s.x87_empty &= (uint8_t) ~(1u << i);
}

static bool is_store(unsigned op, unsigned reg)
{
    return (op & 1) && ((reg >= 1 && reg <= 3) || reg == 7);
}

static void memory_tags(struct emit *e, unsigned op, unsigned reg)
{
    if (!(op & 1)) { /* arithmetic; 2 and 3 compare */
        if (reg == 3)
            popped(e);
        else if (reg != 2)
            written(e, 0);
    } else if (is_store(op, reg)) {
        if (reg != 2)
            popped(e);
    } else {
        pushed(e);
    }
}

static void register_tags(struct emit *e, unsigned op, unsigned modrm)
{
    unsigned reg = modrm >> 3 & 7, i = modrm & 7;
    bool arithmetic = reg != 2 && reg != 3;
    switch (op) {
    case 0:
        if (arithmetic)
            written(e, 0);
        if (reg == 3)
            popped(e);
        break;
    case 1:
        if (modrm < 0xc8 || (modrm >= 0xe8 && modrm <= 0xee))
            pushed(e);
        else if (modrm < 0xd0)
            written(e, 0), written(e, i); /* FXCH */
        else if (modrm == 0xe0 || modrm == 0xe1 || modrm == 0xfa)
            written(e, 0); /* FCHS FABS FSQRT */
        else if (modrm != 0xe4 && modrm != 0xe5)
            emit_forget_tags(e); /* not FTST, FXAM: FDECSTP, FINCSTP */
        break;
    case 2:
        if (modrm == 0xe9) /* FUCOMPP */
            popped(e), popped(e);
        break;
    case 4:
        if (arithmetic)
            written(e, i);
        break;
    case 5: /* FST FSTP FUCOM FUCOMP */
        if (reg == 2 || reg == 3)
            written(e, i);
        if (reg & 1)
            popped(e);
        break;
    case 6:
        if (arithmetic)
            written(e, i);
        popped(e);
        if (modrm == 0xd9) /* FCOMPP */
            popped(e);
        break;
    case 7: /* FUCOMIP FCOMIP */
        if (reg == 5 || reg == 6)
            popped(e);
        break;
    default:
        break;
    }
}

/* -- Memory forms -------------------------------------------------------------------------------------- */

/* Bytes of the memory operand by escape opcode and ModRM.reg; 0: not native. */
static const uint8_t memory_bytes[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4},   /* D8 */
    {4, 0, 4, 4, 0, 0, 0, 0},   /* D9 */
    {4, 4, 4, 4, 4, 4, 4, 4},   /* DA */
    {4, 4, 4, 4, 0, 10, 0, 10}, /* DB */
    {8, 8, 8, 8, 8, 8, 8, 8},   /* DC */
    {8, 8, 8, 8, 0, 0, 0, 0},   /* DD */
    {2, 2, 2, 2, 2, 2, 2, 2},   /* DE */
    {2, 2, 2, 2, 0, 8, 0, 8},   /* DF */
};

/* e->place for the operand, whose effective address is T0, in C afterwards. */
static void operand(struct emit *e, unsigned bytes, bool write)
{
    const struct uop *u = e->u, *lea = u - 1;
    if (!e->s.t0_in_c) {
        emit_take_c(e);
        asm_load(&e->a, 3, R_C, guest_mem(REG_T0));
        e->s.t0_in_c = true;
    }
    struct uop access = {.op = UOP_LOAD, .am = u->am, .a = REG_T0, .b = REG_ZERO};
    if (e->index > 0 && lea->op == UOP_LEA && lea->insn == u->insn && lea->d == REG_T0 && lea->size == 3 &&
        lea->a != REG_T0 && lea->b != REG_T0) {
        access = *lea;
        access.op = UOP_LOAD;
        access.am = (uint8_t)(u->am | AM_SCALE(lea->am));
    }
    emit_page_access(e, &access, bytes, write, COLD_STEP, 0);
}

/* The instruction has its operand at A + B: FLDCW changes what the rest may take for granted. */
static void load_control(struct emit *e)
{
    struct asm_buf *a = &e->a;
    asm_op(a, 2, 0x0fb7, R_A, e->place);
    asm_alu_imm(a, 2, 4, rm_reg(R_A), 0x1f3f);
    asm_alu_imm(a, 2, 1, rm_reg(R_A), 0x40);
    asm_mov(a, R_B, R_A);
    asm_op(a, 2, 0xf7, 2, rm_reg(R_B)); /* NOT */
    asm_op(a, 0, 0xf6, 0, rm_reg(R_B)); /* TEST */
    asm_byte(a, 0x3f);
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
    asm_store(a, 1, R_A, CPU_MEM(x87.fcw));
    asm_op(a, 2, 0xd9, 5, CPU_MEM(x87.fcw));
    e->s.x87_live = false;
}

static bool control_form(struct emit *e, unsigned op, unsigned reg)
{
    struct asm_buf *a = &e->a;
    bool load = op == 1 && reg == 5, control = op == 1 && reg == 7, status = op == 5 && reg == 7;
    if (!load && !control && !status)
        return false;
    if (!control)
        emit_need_x87(e);
    operand(e, 2, !load);
    if (load) {
        load_control(e);
    } else if (control) {
        asm_op(a, 2, 0x0fb7, R_C, CPU_MEM(x87.fcw));
        asm_store(a, 1, R_C, e->place);
        e->s.t0_in_c = false;
    } else {
        asm_op(a, 2, 0xdd, 7, e->place);
    }
    return true;
}

static bool memory_form(struct emit *e, unsigned op, unsigned reg)
{
    unsigned bytes = memory_bytes[op][reg];
    /* KEY_FLAT says that CS is flat, not that it may be written. */
    if (!emit_native_address(e, e->u) || (AM_SEG(e->u->am) == SEG_CS && !e->long_mode))
        return false;
    if (!bytes)
        return control_form(e, op, reg);
    emit_need_x87(e);
    operand(e, bytes, is_store(op, reg));
    asm_op(&e->a, 2, 0xd8 + op, reg, e->place);
    asm_store(&e->a, 3, R_C, CPU_MEM(x87.fdp));
    pointers(e);
    memory_tags(e, op, reg);
    return true;
}

/* -- Register forms ------------------------------------------------------------------------------------ */

enum form {
    F_C,        /* for C */
    F_PLAIN,    /* as it is */
    F_POINTERS, /* the same, and FIP and FOP change */
    F_FLAGS,    /* FCOMI and its like */
    F_MOVE,     /* FCMOVcc */
    F_STATUS,   /* FNSTSW AX */
    F_NOTHING,  /* FNOP */
};

static enum form form_of_d9(unsigned modrm)
{
    switch (modrm) {
    case 0xd0:
        return F_NOTHING;
    case 0xf6: /* FDECSTP FINCSTP */
    case 0xf7:
        return F_PLAIN;
    case 0xe0: /* FCHS FABS FTST FXAM FSQRT */
    case 0xe1:
    case 0xe4:
    case 0xe5:
    case 0xfa:
        return F_POINTERS;
    default:
        return modrm < 0xd0 || (modrm >= 0xe8 && modrm <= 0xee) ? F_POINTERS : F_C;
    }
}

static enum form form_of(unsigned op, unsigned modrm)
{
    unsigned reg = modrm >> 3 & 7;
    switch (op) {
    case 0:
        return F_POINTERS;
    case 1:
        return form_of_d9(modrm);
    case 2:
        return reg < 4 ? F_MOVE : modrm == 0xe9 ? F_POINTERS : F_C;
    case 3:
        return reg < 4 ? F_MOVE : reg == 5 || reg == 6 ? F_FLAGS : modrm == 0xe2 ? F_PLAIN : F_C;
    case 4:
        return reg == 2 || reg == 3 ? F_C : F_POINTERS;
    case 5:
        return reg >= 2 && reg <= 5 ? F_POINTERS : F_C; /* FFREE: C1 is not the same everywhere */
    case 6:
        return reg == 2 || (reg == 3 && modrm != 0xd9) ? F_C : F_POINTERS;
    default:
        return modrm == 0xe0 ? F_STATUS : reg == 5 || reg == 6 ? F_FLAGS : F_C;
    }
}

/* Nothing can be pending while the state is live; what is in struct cpu then is old, but has not ES set. */
static void wait(struct emit *e)
{
    struct asm_buf *a = &e->a;
    if (e->s.x87_live)
        return;
    asm_op(a, 0, 0xf6, 0, CPU_MEM(x87.fsw)); /* TEST */
    asm_byte(a, 0x80);
    e->s.host_mask = 0;
    emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
}

/*
 * FLD ST(i). With a full stack and an empty source AMD processors tell of the underflow; the manual has the
 * overflow in C1. So the push is tried with a zero first: what an overflow leaves, a NaN and C1, is the
 * result whatever the source is, and without one the zero makes room again. Most often the tags are known.
 */
static void load_register(struct emit *e, unsigned modrm)
{
    static const uint8_t try_push[] = {0xd9, 0xee, 0xdb, 0xe8}, pop[] = {0xdd, 0xd8}; /* FLDZ FUCOMI; FSTP */
    struct asm_buf *a = &e->a;
    uint8_t *overflow = NULL;
    unsigned i = modrm & 7;
    bool both = i != 7 && !(e->s.x87_full >> i & 1) && !(e->s.x87_empty & 0x80);
    if (both) {
        for (unsigned k = 0; k < sizeof(try_push); k++)
            asm_byte(a, try_push[k]);
        overflow = asm_jcc(a, CC_P);
        for (unsigned k = 0; k < sizeof(pop); k++)
            asm_byte(a, pop[k]);
        e->s.host_mask = 0;
    }
    asm_byte(a, 0xd9);
    asm_byte(a, modrm);
    if (overflow && !a->full)
        asm_patch(overflow, a->at);
}

static bool register_form(struct emit *e, unsigned op, unsigned modrm)
{
    static const uint8_t conditions[8] = {CC_B, CC_E, CC_BE, CC_P, CC_AE, CC_NE, CC_A, CC_NP};
    struct asm_buf *a = &e->a;
    enum form form = form_of(op, modrm);
    if (form == F_C)
        return false;
    if (form == F_NOTHING) {
        wait(e);
        return true;
    }
    emit_need_x87(e);
    if (form == F_MOVE)
        emit_need_flags(e, emit_condition_mask(conditions[(op - 2) * 4 + (modrm >> 3 & 3)]));
    else if (form == F_STATUS)
        emit_before_write(e, REG_RAX);
    else if (form == F_FLAGS)
        emit_drop_flags(e);
    if (op == 1 && modrm < 0xc8) {
        load_register(e, modrm);
    } else {
        asm_byte(a, 0xd8 + op);
        asm_byte(a, modrm);
    }
    if (form == F_FLAGS || form == F_MOVE) {
        /* Processors differ in C1 (SDM 2A: 0 after a stack underflow): FINCSTP and FDECSTP clear it. */
        asm_byte(a, 0xd9);
        asm_byte(a, 0xf7);
        asm_byte(a, 0xd9);
        asm_byte(a, 0xf6);
    }
    register_tags(e, op, modrm);
    if (form == F_FLAGS) {
        /* SDM 2A, FCOMI: OF, SF and AF are cleared. */
        emit_store_image(e);
        e->s.host_mask = HF_ALL;
    }
    if (form == F_POINTERS || form == F_FLAGS || form == F_MOVE)
        pointers(e);
    return true;
}

bool emit_x87(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op != UOP_HELPER)
        return false;
    if (u->aux == HELPER_fwait) {
        wait(e);
        return true;
    }
    if (u->aux == HELPER_emms) {
        emit_need_x87(e);
        emit_forget_tags(e);
        asm_byte(&e->a, 0x0f);
        asm_byte(&e->a, 0x77);
        return true;
    }
    if (u->aux != HELPER_x87)
        return false;
    unsigned op = u->aux2 >> 8 & 7, modrm = u->aux2 & 0xff;
    return modrm < 0xc0 ? memory_form(e, op, modrm >> 3 & 7) : register_form(e, op, modrm);
}

#endif
