/*
 * cpu/jit/emit_vec.c -- vector micro-ops: the guest's instruction emitted again, with our operands.
 *
 * XMM (YMM) 0 to 15 are the host's own while cpu->vec_live is set; temporaries are in struct cpu. The host's
 * MXCSR has the guest's rounding and all exceptions masked; a guest that unmasks one is interpreted. A load
 * whose only use is the next instruction's memory operand is merged with it, and so is a store of its result.
 * MMX registers are those of the x87 state (emit_x87.c).
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

#include "cpu/ir/helper.h"
#include "cpu/jit/stub.h"

void emit_need_vec(struct emit *e)
{
    if (e->s.vec_live)
        return;
    asm_alu_imm(&e->a, 0, 7, CPU_MEM(vec_live), 0);
    e->s.host_mask = 0;
    struct cold *c = emit_cold(e, COLD_VEC, asm_jcc(&e->a, CC_E));
    c->open = false;
    c->back = e->a.at;
    e->s.vec_live = true;
    e->delta_index = DELTA_NONE; /* the cold part uses B */
}

static const struct stub_request *request_of(const struct uop *u)
{
    return &((const struct vec_stub *)(uintptr_t)u->imm)->q;
}

/* -- The instruction ----------------------------------------------------------------------------------- */

/* Can it be emitted with register operands, and the memory operand wherever it is? */
static bool can_emit(const struct uop *u)
{
    const struct stub_request *q = request_of(u);
    /* CVTPI2PS and CVTPI2PD from memory: whether they leave x87 operation is not the same everywhere. */
    if (q->map == STUB_MAP_0F && q->opcode == 0x2a && q->rm_memory && (!q->prefix || q->prefix == 0x66) &&
        !q->vex)
        return false;
    if (q->extension == 0xff && q->reg == STUB_XMM && u->d >= 16)
        return false;
    if (!q->rm_memory && q->rm == STUB_XMM && u->a >= 16)
        return false;
    if (q->vvvv != STUB_NOTHING && u->b >= 16)
        return false;
    if (q->reg == STUB_GPR && q->reg_read && q->reg_write)
        return false;
    return !(q->is4 && u->c >= 16);
}

static void encode(struct emit *e, const struct stub_request *q, unsigned reg, unsigned vvvv, struct rm m)
{
    struct asm_buf *a = &e->a;
    if (q->vex) {
        unsigned map = q->map == STUB_MAP_0F ? 1 : q->map == STUB_MAP_0F38 ? 2 : 3;
        unsigned pp = q->prefix == 0x66 ? 1 : q->prefix == 0xf3 ? 2 : q->prefix == 0xf2 ? 3 : 0;
        asm_vex(a, map, pp, q->vex_w, q->vex_l, q->opcode, reg, vvvv, m);
    } else {
        uint32_t opcode = q->map == STUB_MAP_0F ? 0x0f00u : q->map == STUB_MAP_0F38 ? 0x0f3800u : 0x0f3a00u;
        asm_op_prefix(a, q->prefix, q->rex_w ? 3 : 2, opcode | q->opcode, reg, m);
    }
    if (q->is4)
        asm_byte(a, (unsigned)e->u->c << 4);
    else if (q->has_imm)
        asm_byte(a, q->imm);
}

void emit_store_image(struct emit *e)
{
    struct asm_buf *a = &e->a;
    asm_store(a, 3, H_RAX, CPU_MEM(jit_scratch));
    asm_byte(a, 0x9f);
    asm_op(a, 0, 0x0f90, 0, rm_reg(H_RAX));
    asm_store(a, 3, H_RAX, CPU_MEM(cc_a));
    asm_load(a, 3, H_RAX, CPU_MEM(jit_scratch));
    asm_store_imm(a, 3, CPU_MEM(cc_op), FK_IMAGE << 2);
}

/* With the memory operand at `place` when the instruction has one. */
static void instruction(struct emit *e, struct rm place)
{
    const struct uop *u = e->u;
    const struct stub_request *q = request_of(u);
    unsigned reg = u->d, vvvv = q->vvvv == STUB_NOTHING ? 0 : u->b, put = R_NONE, put_reg = 0;
    struct rm m = place;
    /* Addresses may be in A and B: a general-purpose operand without a host register goes through C. */
    if (q->extension != 0xff) {
        reg = q->extension;
    } else if (q->reg == STUB_GPR) {
        struct rm o = emit_operand(e, u->d);
        if (q->reg_write) {
            put = o.mem ? R_C : o.base;
            put_reg = u->d;
            reg = put;
        } else {
            reg = emit_value(e, u->d, R_C);
        }
    }
    if (!q->rm_memory) {
        if (q->rm == STUB_GPR) {
            struct rm o = emit_operand(e, u->a);
            if (q->rm_write) {
                put = o.mem ? R_C : o.base;
                put_reg = u->a;
                m = rm_reg(put);
            } else {
                m = rm_reg(emit_value(e, u->a, R_C));
            }
        } else {
            m = rm_reg(u->a);
        }
    }
    encode(e, q, reg, vvvv, m);
    if (put == R_C && !(put_reg == REG_T0 && e->s.t0_in_c))
        asm_store(&e->a, 3, R_C, guest_mem(put_reg));
    if (put != R_NONE)
        emit_lose_page(e, put_reg);
    if (q->ecx_write)
        emit_lose_page(e, REG_RCX);
    if (q->flags_write) {
        emit_drop_flags(e);
        emit_store_image(e);
        e->s.host_mask = HF_ALL;
    }
}

/* Registers that the instruction writes or needs, before any address is made. */
static void prepare(struct emit *e, const struct uop *u)
{
    const struct stub_request *q = request_of(u);
    bool mmx = q->reg == STUB_MMX || q->rm == STUB_MMX;
    if (!mmx || q->reg == STUB_XMM || q->rm == STUB_XMM || q->mxcsr)
        emit_need_vec(e);
    if (mmx) {
        emit_need_x87(e);
        emit_forget_tags(e);
    }
    if (q->extension == 0xff && q->reg == STUB_GPR) {
        if (q->reg_write)
            emit_before_write(e, u->d);
        if (emit_operand(e, u->d).mem && u->d != REG_T0)
            emit_take_c(e);
        else if (u->d == REG_T0 && !e->s.t0_in_c)
            emit_take_c(e);
    }
    if (!q->rm_memory && q->rm == STUB_GPR) {
        if (q->rm_write)
            emit_before_write(e, u->a);
        if (emit_operand(e, u->a).mem)
            emit_take_c(e);
    }
    if (q->ecx_write)
        emit_before_write(e, REG_RCX);
}

static bool stub(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op != UOP_VSTUB)
        return false;
    const struct stub_request *q = request_of(u);
    if (e->merged && !e->in_cold) {
        e->merged = false;
        instruction(e, e->place);
        if (!q->flags_write)
            e->s.host_mask = 0;
        return true;
    }
    if (!can_emit(u))
        return false;
    prepare(e, u);
    /* Legacy SSE wants its memory operand aligned, and temporaries are. */
    instruction(e, vector_mem(u->a));
    return true;
}

/* -- Loads and stores ---------------------------------------------------------------------------------- */

static unsigned bytes_of(const struct uop *u)
{
    switch (u->op) {
    case UOP_VLOAD16:
    case UOP_VSTORE16:
        return 16;
    case UOP_VLOAD32:
    case UOP_VSTORE32:
        return 32;
    default:
        return 1u << u->size;
    }
}

/* Loaded for the next micro-op alone, as its memory operand. */
static bool merges(const struct emit *e)
{
    const struct uop *u = e->u, *next = u + 1;
    if (e->in_cold || e->index + 1u >= e->b->uop_count || next->op != UOP_VSTUB || next->insn != u->insn ||
        u->d < 16 || next->a != u->d)
        return false;
    const struct stub_request *q = request_of(next);
    if (!q->rm_memory || q->rm_write || !can_emit(next))
        return false;
    for (const struct uop *k = next + 1; k < e->b->uops + e->b->uop_count && k->insn == u->insn; k++)
        if (k->op != UOP_VZHI)
            return false;
    return true;
}

static void copy(struct emit *e, struct rm to, struct rm from, unsigned bytes)
{
    for (unsigned done = 0; done < bytes; done += 8) {
        asm_load(&e->a, 3, R_C, from);
        asm_store(&e->a, 3, R_C, to);
        to.disp += 8;
        from.disp += 8;
    }
}

static bool load(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    if ((u->op != UOP_VLOAD && u->op != UOP_VLOAD16 && u->op != UOP_VLOAD32) || !emit_native_address(e, u))
        return false;
    unsigned bytes = bytes_of(u), align = u->op != UOP_VLOAD && u->imm ? bytes : 0;
    if (merges(e)) {
        prepare(e, u + 1);
        emit_access(e, bytes, false, COLD_REST, align);
        e->merged = true;
        return true;
    }
    if (u->d < 16 && u->op == UOP_VLOAD && u->size < 2)
        return false;
    if (u->d < 16)
        emit_need_vec(e);
    else
        emit_take_c(e);
    emit_access(e, bytes, false, COLD_STEP, align);
    struct rm place = e->place;
    if (u->d < 16) {
        if (u->op == UOP_VLOAD32)
            asm_vex(a, 1, 0, 0, 1, 0x10, u->d, 0, place);
        else if (u->op == UOP_VLOAD16)
            asm_op(a, 2, 0x0f10, u->d, place);
        else if (u->size == 3)
            asm_op_prefix(a, 0xf3, 2, 0x0f7e, u->d, place);
        else
            asm_op_prefix(a, 0x66, 2, 0x0f6e, u->d, place);
        return true;
    }
    struct rm to = vector_mem(u->d);
    if (u->op != UOP_VLOAD) {
        copy(e, to, place, bytes);
        return true;
    }
    if (u->size < 2)
        asm_op(a, 2, u->size ? 0x0fb7 : 0x0fb6, R_C, place);
    else
        asm_load(a, u->size, R_C, place);
    asm_store(a, 3, R_C, to);
    to.disp += 8;
    asm_store_imm(a, 3, to, 0);
    return true;
}

static bool store(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    if ((u->op != UOP_VSTORE && u->op != UOP_VSTORE16 && u->op != UOP_VSTORE32) || !emit_native_address(e, u))
        return false;
    if (u->d < 16 && u->op == UOP_VSTORE && u->size < 2)
        return false;
    unsigned bytes = bytes_of(u), align = u->op != UOP_VSTORE && u->imm ? bytes : 0;
    if (u->d < 16)
        emit_need_vec(e);
    else
        emit_take_c(e);
    emit_access(e, bytes, true, COLD_STEP, align);
    struct rm place = e->place;
    if (u->d < 16) {
        if (u->op == UOP_VSTORE32)
            asm_vex(a, 1, 0, 0, 1, 0x11, u->d, 0, place);
        else if (u->op == UOP_VSTORE16)
            asm_op(a, 2, 0x0f11, u->d, place);
        else if (u->size == 3)
            asm_op_prefix(a, 0x66, 2, 0x0fd6, u->d, place);
        else
            asm_op_prefix(a, 0x66, 2, 0x0f7e, u->d, place);
    } else if (u->op != UOP_VSTORE) {
        copy(e, place, vector_mem(u->d), bytes);
    } else {
        asm_load(a, 3, R_C, vector_mem(u->d));
        asm_store(a, u->size, R_C, place);
    }
    return true;
}

/* A store's result written in place: VSTUB into a temporary and VSTORE of it, perhaps behind a probe. */
static bool store_result(struct emit *e)
{
    const struct uop *u = e->u;
    bool probe = u->op == UOP_HELPER && u->aux == HELPER_vector_probe;
    const struct uop *run = u + probe, *st = run + 1;
    if (e->in_cold || e->merged || e->index + probe + 1u >= e->b->uop_count || run->op != UOP_VSTUB ||
        run->insn != u->insn || st->insn != u->insn)
        return false;
    if ((st->op != UOP_VSTORE && st->op != UOP_VSTORE16 && st->op != UOP_VSTORE32) || st->d != run->a ||
        st->d < 16)
        return false;
    const struct stub_request *q = request_of(run);
    if (!q->rm_memory || !q->rm_write || q->rm_read || !can_emit(run) || !emit_native_address(e, st))
        return false;
    /* A run of stack accesses may want it on its own; the probe knows that CS cannot be written. */
    if (st->a == REG_RSP || (probe && AM_SEG(st->am) == SEG_CS && !e->long_mode))
        return false;
    unsigned bytes = bytes_of(st);
    prepare(e, run);
    emit_page_access(e, st, bytes, true, COLD_REST, st->op != UOP_VSTORE && st->imm ? bytes : 0);
    e->u = run;
    instruction(e, e->place);
    e->u = u;
    e->skip = probe + 1u;
    return true;
}

static bool move(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op == UOP_VMOV && u->d < 16 && u->a < 16) {
        emit_need_vec(e);
        asm_op(&e->a, 2, 0x0f28, u->d, rm_reg(u->a)); /* MOVAPS keeps bits 255:128 */
        return true;
    }
    if (u->op == UOP_VZHI && u->d < 16 && e->j->avx) {
        emit_need_vec(e);
        asm_vex(&e->a, 1, 0, 0, 0, 0x28, u->d, 0, rm_reg(u->d)); /* VMOVAPS clears them */
        return true;
    }
    return false;
}

bool emit_vector(struct emit *e)
{
    return store_result(e) || stub(e) || load(e) || store(e) || move(e);
}

#endif
