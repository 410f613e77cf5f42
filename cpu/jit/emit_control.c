/*
 * cpu/jit/emit_control.c -- jumps: edges within a page, the jump cache for everything else.
 *
 * An edge is a jump whose distance is patched when its successor is translated (jit_link); until then it
 * leads to a cold part that leaves with cpu->jit_edge set. A jump to another page, or an indirect one, looks
 * up the processor's jump cache inline; what it does not know runs in C and leaves. In a path (cpu/path.c)
 * conditional jumps also leave by edges before its end.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

/* C holds the RIP. */
void emit_lookup(struct emit *e, enum cold_kind kind, int32_t pop)
{
    struct asm_buf *a = &e->a;
    asm_vex(a, 3, 3, 1, 0, 0xf0, R_A, 0, rm_reg(R_C)); /* RORX: left by 5 */
    asm_byte(a, 64 - 5);
    asm_alu_imm(a, 2, 4, rm_reg(R_A), ((1 << JIT_JUMP_BITS) - 1) << 5);
    _Static_assert(sizeof(struct jit_jump) == 32, "index by 32 bytes");
    asm_alu(a, 3, 0, R_A, CPU_MEM(jit_jumps));
    asm_alu(a, 3, 7, R_C, rm_mem(R_A, offsetof(struct jit_jump, rip)));
    struct cold *miss = emit_cold(e, kind, asm_jcc(a, CC_NE));
    asm_load(a, 3, R_B, CPU_MEM(jit_tag));
    asm_alu(a, 3, 7, R_B, rm_mem(R_A, offsetof(struct jit_jump, tag)));
    miss->jump2 = asm_jcc(a, CC_NE);
    miss->lookup = true;
    miss->pop = pop;
    if (pop)
        asm_lea(a, 3, jit_host_of[REG_RSP], rm_mem(jit_host_of[REG_RSP], pop));
    asm_load(a, 3, R_B, rm_mem(R_A, offsetof(struct jit_jump, page)));
    asm_store(a, 3, R_B, guest_mem(REG_PAGE));
    asm_op(a, 2, 0xff, 4, rm_mem(R_A, offsetof(struct jit_jump, code)));
}

/* Jumps to REG_PAGE + target in another page; flags are stored already. */
void emit_cross(struct emit *e, int64_t target)
{
    struct asm_buf *a = &e->a;
    emit_save_operands(e);
    e->s.rec_valid = e->s.rec_pending = false;
    e->s.t0_in_c = false;
    asm_load(a, 3, R_C, guest_mem(REG_PAGE));
    asm_lea(a, e->long_mode ? 3 : 2, R_C, rm_mem(R_C, (int32_t)target));
    emit_lookup(e, COLD_END, 0);
}

#define INSN_LONGEST 15

/* An instruction that may reach into the next page: its block is never linked (jit_link), the jump cache
 * knows it. */
static bool same_page(const struct emit *e, int64_t target)
{
    return target >= 0 && target <= (int64_t)PAGE_SIZE - INSN_LONGEST && !e->b->gpa2;
}

static struct jit_edge *new_edge(struct emit *e)
{
    struct jit_block *jb = e->b->jit;
    struct jit_edge *edge = jb->out_count < JIT_OUTS ? jit_allocate(e->j, sizeof(*edge)) : NULL;
    if (!edge) {
        e->failed = true;
        return NULL;
    }
    *edge = (struct jit_edge){.linked = false};
    jb->out[jb->out_count++] = edge;
    return edge;
}

/* A conditional jump through a cold part that has something to do. */
static void jump_aside(struct emit *e, unsigned cc, int64_t target)
{
    struct jit_edge *edge = new_edge(e);
    struct cold *c = emit_cold(e, COLD_SIDE, asm_jcc(&e->a, cc));
    c->open = false;
    c->edge = edge;
    c->target = target;
}

/* A jump, conditional when cc < 16, to REG_PAGE + target, after emit_leave_flags(). */
static void jump_to(struct emit *e, unsigned cc, int64_t target)
{
    struct asm_buf *a = &e->a;
    if (same_page(e, target) && cc < 16 && e->b->tune == TUNE_MEASURE) {
        jump_aside(e, cc, target);
    } else if (same_page(e, target)) {
        uint8_t *at = cc < 16 ? asm_jcc(a, cc) : asm_jmp(a);
        struct jit_edge *edge = new_edge(e);
        if (!edge)
            return;
        edge->jump = at;
        edge->operands = e->s.rec_short ? e->left_operands : 0;
        struct cold *c = emit_cold(e, COLD_EDGE, NULL);
        c->edge = edge;
        c->target = target;
    } else if (cc < 16) {
        struct cold *c = emit_cold(e, COLD_CROSS, asm_jcc(a, cc));
        c->target = target;
    } else {
        emit_cross(e, target);
    }
}

static bool fits(int64_t v)
{
    return v == (int32_t)v;
}

/* Without dead ends: the full operand size, so that targets are not cut. */
static bool whole_target(const struct emit *e, unsigned size)
{
    return size == (e->long_mode ? 3u : 2u);
}

static void conditional(struct emit *e, unsigned cc)
{
    const struct uop *u = e->u;
    emit_leave_flags(e);
    e->s.t0_in_c = false;
    jump_to(e, cc, u->imm);
    jump_to(e, 16, u->disp);
}

/* The end of RET: check the target, move RSP, jump. What the jump cache knows is canonical, so a hit needs no
 * check; a miss does all three in C. */
static bool returns(struct emit *e)
{
    const struct uop *u = e->u, *add = u + 1, *jump = u + 2;
    if (!e->long_mode || u->size != 3 || u->a != REG_T0 || !e->s.t0_in_c || e->index + 2u >= e->b->uop_count)
        return false;
    if (add->op != UOP_ADDI_NF || add->size != 3 || add->d != REG_RSP || add->a != REG_RSP ||
        !fits(add->imm) || jump->op != UOP_JMPR || jump->size != 3 || jump->a != REG_T0 ||
        jump->insn != u->insn)
        return false;
    emit_flush_flags(e);
    emit_lookup(e, COLD_RETURN, (int32_t)add->imm);
    e->skip = 2;
    return true;
}

bool emit_control(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    switch (u->op) {
    case UOP_EXIT:
        emit_leave_flags(e);
        e->s.t0_in_c = false;
        jump_to(e, 16, u->imm);
        return true;
    case UOP_JMP:
        if (!whole_target(e, u->size) || !fits(u->imm))
            return false;
        emit_leave_flags(e);
        e->s.t0_in_c = false;
        jump_to(e, 16, u->imm);
        return true;
    case UOP_SIDE:
        emit_need_flags(e, emit_condition_mask(u->c));
        jump_aside(e, u->c, u->imm);
        return true;
    case UOP_JCC:
        if (!whole_target(e, u->size) || !fits(u->imm))
            return false;
        emit_need_flags(e, emit_condition_mask(u->c));
        conditional(e, u->c);
        return true;
    case UOP_CMPJCC:
    case UOP_CMPIJCC:
    case UOP_TESTJCC:
        if (!whole_target(e, u->d) || !fits(u->imm) ||
            !emit_compare(e, u->op == UOP_TESTJCC, u->size, u->a, u->op == UOP_CMPIJCC, u->b, u->aux))
            return false;
        conditional(e, u->c);
        return true;
    case UOP_JNZR:
    case UOP_JZR: {
        if (!whole_target(e, u->size) || !fits(u->imm) || AM_ASIZE(u->am) == ASIZE_16)
            return false;
        emit_flush_flags(e);
        asm_alu_imm(a, AM_ASIZE(u->am) == ASIZE_64 ? 3 : 2, 7, emit_operand(e, u->a), 0);
        e->s.host_mask = 0;
        e->s.rec_valid = false;
        conditional(e, u->op == UOP_JNZR ? CC_NE : CC_E);
        return true;
    }
    case UOP_CHECKT:
        if (returns(e))
            return true;
        /* Canonical (SDM 1, "Canonical Addressing"): bits 63:47 equal. */
        if (!e->long_mode || u->size != 3)
            return false;
        asm_load(a, 3, R_A, emit_operand(e, u->a));
        asm_shift_imm(a, 3, 4, rm_reg(R_A), 16);
        asm_shift_imm(a, 3, 7, rm_reg(R_A), 16);
        asm_alu(a, 3, 7, R_A, emit_operand(e, u->a));
        e->s.host_mask = 0;
        emit_cold(e, COLD_STEP, asm_jcc(a, CC_NE));
        return true;
    case UOP_JMPR:
        if (!whole_target(e, u->size))
            return false;
        emit_flush_flags(e);
        e->s.rec_valid = false;
        if (u->a != REG_T0 || !e->s.t0_in_c) {
            emit_take_c(e);
            asm_load(a, e->long_mode ? 3 : 2, R_C, emit_operand(e, u->a));
            e->s.t0_in_c = false;
        } else if (!e->long_mode) {
            asm_op(a, 2, 0x8b, R_C, rm_reg(R_C));
        }
        emit_lookup(e, COLD_END, 0);
        return true;
    default:
        return false;
    }
}

#endif
