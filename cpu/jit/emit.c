/*
 * cpu/jit/emit.c -- from a block's micro-ops to host code: the walk, operands, flag recipes, cold parts.
 *
 * Order of a block's code: budget check, micro-ops, then the cold parts (slow paths, exits), so that the hot
 * path runs straight. What each micro-op becomes: emit_alu.c, emit_mem.c, emit_control.c, emit_vec.c,
 * emit_x87.c, emit_system.c; what these do not know is a call to the interpreter for one micro-op.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

#include "cpu/ir/helper.h"
#include "cpu/profile.h"

/* -- Operands ------------------------------------------------------------------------------------------ */

struct rm emit_operand(const struct emit *e, unsigned reg)
{
    if (reg < 16 && jit_host_of[reg] != R_NONE)
        return rm_reg(jit_host_of[reg]);
    if (reg == REG_T0 && e->s.t0_in_c)
        return rm_reg(R_C);
    return guest_mem(reg);
}

unsigned emit_value(struct emit *e, unsigned reg, unsigned temp)
{
    struct rm m = emit_operand(e, reg);
    if (!m.mem)
        return m.base;
    if (reg == REG_ZERO)
        asm_imm64(&e->a, temp, 0);
    else
        asm_load(&e->a, 3, temp, m);
    return temp;
}

unsigned emit_dest(struct emit *e, unsigned reg)
{
    if (reg == REG_T0) {
        if (!e->s.t0_in_c)
            emit_take_c(e);
        e->s.t0_in_c = true;
        return R_C;
    }
    return reg < 16 ? jit_host_of[reg] : R_NONE;
}

void emit_put(struct emit *e, unsigned reg, unsigned size, unsigned host)
{
    unsigned d = emit_dest(e, reg);
    if (d == R_NONE)
        asm_store(&e->a, size == 2 ? 3 : size, host, guest_mem(reg));
    else if (size >= 2)
        asm_op(&e->a, size, 0x8b, d, rm_reg(host));
    else if (d != host)
        asm_load(&e->a, size, d, rm_reg(host));
}

void emit_take_c(struct emit *e)
{
    if (e->s.t0_in_c) {
        asm_store(&e->a, 3, R_C, guest_mem(REG_T0));
        e->s.t0_in_c = false;
    }
    emit_before_write(e, LOC_C);
}

/* -- Flags --------------------------------------------------------------------------------------------- */

bool emit_flags_needed(const struct emit *e, unsigned index)
{
    for (unsigned i = index; i < e->b->uop_count; i++) {
        unsigned f = uop_info[e->b->uops[i].op].flags, op = e->b->uops[i].op;
        if (op == UOP_CMPJCC || op == UOP_CMPIJCC || op == UOP_TESTJCC)
            return false;
        if (f & (U_RF | U_FAULT | U_END))
            return true;
        if (f & U_WF)
            return false;
    }
    return true;
}

/* Operand k of a recipe into cc_a or cc_b; with `keep`, one in a guest register is left there and its field
 * of cc_op returned. */
static uint32_t store_operand(struct emit *e, const struct recipe *r, unsigned k, bool keep)
{
    struct asm_buf *a = &e->a;
    struct rm to = k ? CPU_MEM(cc_b) : CPU_MEM(cc_a);
    unsigned reg = k ? r->b : r->a;
    if (k && r->b_imm) {
        asm_store_imm(a, 3, to, r->imm);
    } else if (reg == LOC_STORED) {
        return 0;
    } else if (k && (r->kind == FK_LOGIC || r->kind == FK_NEG || r->kind == FK_INC || r->kind == FK_DEC)) {
        return 0;
    } else if (reg == LOC_C) {
        asm_store(a, 3, R_C, to);
    } else if (reg == REG_ZERO) {
        asm_store_imm(a, 3, to, 0);
    } else if (keep && reg < 16) {
        return (reg + 1) << (k ? CC_REG_B : CC_REG_A);
    } else if (reg < 16 && jit_host_of[reg] != R_NONE) {
        asm_store(a, 3, jit_host_of[reg], to);
    } else {
        /* Both address registers may be taken: by way of a pinned one. */
        asm_store(a, 3, H_RAX, CPU_MEM(jit_scratch));
        asm_load(a, 3, H_RAX, guest_mem(reg));
        asm_store(a, 3, H_RAX, to);
        asm_load(a, 3, H_RAX, CPU_MEM(jit_scratch));
    }
    return 0;
}

/* Returns the guest registers that hold operands. */
static unsigned store_recipe(struct emit *e, const struct recipe *r, bool keep, unsigned size)
{
    uint32_t a = store_operand(e, r, 0, keep), b = store_operand(e, r, 1, keep);
    asm_store_imm(&e->a, size, CPU_MEM(cc_op), (int32_t)(r->kind << 2 | r->size | a | b));
    return (a ? 1u << r->a : 0) | (b ? 1u << r->b : 0);
}

static void flush_recipe(struct emit *e)
{
    if (!e->s.rec_pending)
        return;
    store_recipe(e, &e->s.rec, false, 3);
    e->s.rec_pending = false;
    e->s.settled = false;
}

/* SDM 2B, "RCL/RCR/ROL/ROR": CF and OF are two bits of the result. */
static void put_rotation(struct emit *e)
{
    struct asm_buf *a = &e->a;
    struct rm kind = CPU_MEM(cc_op);
    kind.disp += CC_ROT / 8;
    if (e->s.rot_reg == LOC_C) {
        asm_store(a, 3, R_C, CPU_MEM(cc_rot));
    } else if (jit_host_of[e->s.rot_reg] != R_NONE) {
        asm_store(a, 3, jit_host_of[e->s.rot_reg], CPU_MEM(cc_rot));
    } else {
        asm_store(a, 3, H_RAX, CPU_MEM(jit_scratch));
        asm_load(a, 3, H_RAX, guest_mem(e->s.rot_reg));
        asm_store(a, 3, H_RAX, CPU_MEM(cc_rot));
        asm_load(a, 3, H_RAX, CPU_MEM(jit_scratch));
    }
    asm_store_imm(a, 2, kind, 1 | e->s.rot_size << 1 | e->s.rot_left << 3);
}

static void flush_rotation(struct emit *e)
{
    if (!e->s.rot_valid)
        return;
    flush_recipe(e);
    put_rotation(e);
    e->s.rot_valid = e->s.rec_valid = e->s.settled = false;
}

void emit_flush_flags(struct emit *e)
{
    emit_flush_pointers(e);
    flush_recipe(e);
    flush_rotation(e);
}

void emit_leave_flags(struct emit *e)
{
    emit_flush_pointers(e);
    if (e->s.rec_pending) {
        e->left_operands = (uint16_t)store_recipe(e, &e->s.rec, true, 3);
        e->s.rec_pending = e->s.settled = false;
        e->s.rec_short = e->left_operands != 0;
    }
    flush_rotation(e);
}

void emit_save_operands(struct emit *e)
{
    if (e->s.rec_short)
        store_recipe(e, &e->s.rec, false, 2); /* bits 63:32 stay */
    e->s.rec_short = false;
}

void emit_drop_flags(struct emit *e)
{
    e->s.rec_valid = e->s.rec_pending = e->s.rot_valid = e->s.settled = false;
    e->entry_open = false;
}

void emit_rotated(struct emit *e, unsigned reg, unsigned size, bool left)
{
    e->s.rot_valid = true;
    e->s.rot_reg = (uint8_t)reg;
    e->s.rot_size = (uint8_t)size;
    e->s.rot_left = left;
    e->s.host_mask = 0;
}

void emit_before_write(struct emit *e, unsigned reg)
{
    struct recipe *r = &e->s.rec;
    unsigned flags = uop_info[e->u->op].flags;
    emit_lose_page(e, reg);
    bool overwritten = (flags & U_WF) && !(flags & (U_RF | U_FAULT | U_END));
    if (e->entry_open && reg < 16 && !overwritten)
        e->entry_writes |= (uint16_t)(1u << reg);
    if (e->s.rot_valid && e->s.rot_reg == reg) {
        if (!overwritten && emit_flags_needed(e, e->index))
            flush_rotation(e);
        e->s.rot_valid = false;
    }
    bool is_a = r->a == reg, is_b = !r->b_imm && r->b == reg;
    if (!e->s.rec_valid || (!is_a && !is_b))
        return;
    /* The running micro-op's own write of all flags makes them dead. */
    if (overwritten || !emit_flags_needed(e, e->index)) {
        e->s.rec_valid = e->s.rec_pending = false;
        return;
    }
    if (is_a && e->s.rec_pending)
        store_operand(e, r, 0, false);
    if (is_b && e->s.rec_pending)
        store_operand(e, r, 1, false);
    if (is_a)
        r->a = LOC_STORED;
    if (is_b)
        r->b = LOC_STORED;
}

static void new_recipe(struct emit *e, struct recipe r)
{
    e->s.rec = r;
    e->s.rec_valid = e->s.rec_pending = true;
    e->s.settled = e->s.rot_valid = e->entry_open = false;
    e->s.host_mask = HF_ALL;
}

void emit_recipe(struct emit *e, unsigned kind, unsigned size, unsigned a, unsigned b)
{
    new_recipe(
        e, (struct recipe){.kind = (uint16_t)kind, .size = (uint8_t)size, .a = (uint8_t)a, .b = (uint8_t)b});
}

void emit_recipe_imm(struct emit *e, unsigned kind, unsigned size, unsigned a, int32_t imm)
{
    new_recipe(e, (struct recipe){.kind = (uint16_t)kind,
                                  .size = (uint8_t)size,
                                  .a = (uint8_t)a,
                                  .b = REG_ZERO,
                                  .b_imm = true,
                                  .imm = imm});
}

unsigned emit_condition_mask(unsigned cc)
{
    static const uint8_t masks[8] = {HF_OF, HF_CF, HF_ZF,         HF_CF | HF_ZF,
                                     HF_SF, HF_PF, HF_SF | HF_OF, HF_ZF | HF_SF | HF_OF};
    return masks[cc >> 1];
}

/* Where operand k of a recipe is; LOC_C is C whatever T0 is. */
static struct rm recipe_operand(const struct recipe *r, unsigned k)
{
    unsigned reg = k ? r->b : r->a;
    if (reg == LOC_STORED)
        return k ? CPU_MEM(cc_b) : CPU_MEM(cc_a);
    if (reg == LOC_C)
        return rm_reg(R_C);
    if (reg < 16 && jit_host_of[reg] != R_NONE)
        return rm_reg(jit_host_of[reg]);
    return guest_mem(reg);
}

static void alu_recipe_b(struct emit *e, unsigned op, unsigned host)
{
    const struct recipe *r = &e->s.rec;
    if (r->b_imm)
        asm_alu_imm(&e->a, r->size, op, rm_reg(host), r->imm);
    else
        asm_alu(&e->a, r->size, op, host, recipe_operand(r, 1));
}

/* The flags again, from the recipe. Uses A. False: cannot give all of `mask`. */
static bool rematerialise(struct emit *e, unsigned mask)
{
    const struct recipe *r = &e->s.rec;
    struct asm_buf *a = &e->a;
    if ((r->kind == FK_INC || r->kind == FK_DEC) && (mask & HF_CF))
        return false;
    asm_load(a, 3, R_A, recipe_operand(r, 0));
    switch (r->kind) {
    case FK_ADD:
        alu_recipe_b(e, 5, R_A);
        alu_recipe_b(e, 0, R_A);
        break;
    case FK_SUB:
        alu_recipe_b(e, 0, R_A);
        alu_recipe_b(e, 5, R_A);
        break;
    case FK_CMP:
        alu_recipe_b(e, 7, R_A);
        break;
    case FK_LOGIC:
        asm_op_w(a, r->size, 0x84, R_A, rm_reg(R_A));
        break;
    case FK_TEST:
        if (r->b_imm) {
            asm_op_w(a, r->size, 0xf6, 0, rm_reg(R_A));
            asm_bytes(a, &r->imm, r->size == 0 ? 1 : r->size == 1 ? 2 : 4);
        } else if (recipe_operand(r, 1).mem) {
            asm_op_w(a, r->size, 0x84, R_A, recipe_operand(r, 1));
        } else {
            asm_op_w(a, r->size, 0x84, recipe_operand(r, 1).base, rm_reg(R_A));
        }
        break;
    case FK_NEG:
        asm_op_w(a, r->size, 0xf6, 3, rm_reg(R_A));
        asm_op_w(a, r->size, 0xf6, 3, rm_reg(R_A));
        break;
    case FK_INC:
        asm_op_w(a, r->size, 0xfe, 1, rm_reg(R_A));
        asm_op_w(a, r->size, 0xfe, 0, rm_reg(R_A));
        break;
    case FK_DEC:
        asm_op_w(a, r->size, 0xfe, 0, rm_reg(R_A));
        asm_op_w(a, r->size, 0xfe, 1, rm_reg(R_A));
        break;
    default:
        return false;
    }
    e->s.host_mask = r->kind == FK_INC || r->kind == FK_DEC ? HF_ALL & ~HF_CF : HF_ALL;
    return true;
}

void emit_need_flags(struct emit *e, unsigned mask)
{
    struct asm_buf *a = &e->a;
    if ((e->s.host_mask & mask) == mask)
        return;
    flush_rotation(e);
    if (e->s.rec_valid && rematerialise(e, mask))
        return;
    if (e->s.settled && mask == HF_CF) {
        asm_op(a, 3, 0x0fba, 4, CPU_MEM(cc_aux)); /* BT */
        asm_byte(a, 63);
        e->s.host_mask = HF_CF;
        return;
    }
    if (e->s.settled && mask == HF_ZF) {
        asm_alu_imm(a, 3, 7, CPU_MEM(cc_result), 0);
        e->s.host_mask = HF_ZF;
        return;
    }
    if (e->s.settled && (mask & ~(HF_CF | HF_ZF)) == 0) {
        asm_alu_imm(a, 3, 7, CPU_MEM(cc_result), 0);
        asm_op(a, 3, 0x0fba, 4, CPU_MEM(cc_aux)); /* BT leaves ZF alone */
        asm_byte(a, 63);
        e->s.host_mask = HF_CF | HF_ZF;
        return;
    }
    emit_flush_flags(e);
    asm_call_to(a, e->j->flags);
    e->s.page = false; /* it uses A */
    e->s.host_mask = HF_ALL;
    e->s.settled = false;
    /* What comes here by an edge is wanted whole in struct cpu. */
    if (e->entry_open)
        e->entry_writes = 0xffff;
    e->s.rec_valid = e->entry_open = false;
    e->s.vec_live = false;
}

/* -- Calls to C ---------------------------------------------------------------------------------------- */

void emit_c_arguments(struct emit *e)
{
    uintptr_t u = (uintptr_t)&e->b->uops[e->index];
    asm_imm64(&e->a, R_A, u);
    asm_imm64(&e->a, R_B, e->index);
}

/* After C has run a whole micro-op. */
static void after_c(struct emit *e)
{
    e->s.rec_valid = e->s.rec_pending = e->s.rot_valid = false;
    e->s.host_mask = 0;
    e->s.settled = true;
    e->s.vec_live = e->s.x87_live = false;
    e->s.t0_in_c = false;
    e->entry_open = false;
}

void emit_step(struct emit *e)
{
    const struct uop *u = e->u;
    bool helper = u->op == UOP_HELPER, end = uop_info[u->op].flags & U_END;
    if (helper && (helper_info[u->aux].flags & H_END))
        end = true;
    if (e->s.t0_in_c)
        asm_store(&e->a, 3, R_C, guest_mem(REG_T0));
    emit_flush_flags(e);
    emit_c_arguments(e);
    if (end)
        asm_jmp_to(&e->a, helper ? e->j->helper_end : e->j->step_end);
    else
        asm_call_to(&e->a, helper ? e->j->helper : e->j->slow);
    after_c(e);
    if (helper)
        emit_forget_tags(e);
}

/* -- Cold parts ---------------------------------------------------------------------------------------- */

struct cold *emit_cold(struct emit *e, enum cold_kind kind, uint8_t *jump)
{
    if (e->cold_count == COLD_MAX) {
        e->failed = true;
        return &e->cold[0];
    }
    struct cold *c = &e->cold[e->cold_count++];
    emit_check_page(e);
    *c = (struct cold){
        .jump = jump, .kind = (uint8_t)kind, .index = (uint16_t)e->index, .open = true, .before = e->s};
    return c;
}

/* The place and state that the cold parts made since `first` come back to. */
static void close_cold(struct emit *e, unsigned first)
{
    const struct block *b = e->b;
    bool last = e->index + 1u == b->uop_count || b->uops[e->index + 1].insn != b->uops[e->index].insn;
    if (e->rest_open && last)
        first = MIN(first, e->rest_index);
    for (unsigned i = first; i < e->cold_count; i++) {
        struct cold *c = &e->cold[i];
        if (c->open && (c->kind != COLD_REST || last)) {
            c->open = false;
            c->back = e->a.at;
            emit_check_page(e);
            c->after = e->s;
        }
    }
    if (last)
        e->rest_open = false;
}

static void store_rip(struct emit *e, int64_t offset)
{
    struct asm_buf *a = &e->a;
    asm_load(a, 3, R_C, guest_mem(REG_PAGE));
    if (offset)
        asm_lea(a, e->long_mode ? 3 : 2, R_C, rm_mem(R_C, (int32_t)offset));
    else if (!e->long_mode)
        asm_op(a, 2, 0x8b, R_C, rm_reg(R_C));
    asm_store(a, 3, R_C, CPU_MEM(rip));
}

/* C has run: what this block takes to be in the host's registers is loaded again. */
static void reload(struct emit *e, struct rm live, const uint8_t *load)
{
    struct asm_buf *a = &e->a;
    asm_alu_imm(a, 0, 7, live, 0);
    uint8_t *there = asm_jcc(a, CC_NE);
    asm_call_to(a, load);
    if (!a->full)
        asm_patch(there, a->at);
}

static void reload_vectors(struct emit *e)
{
    reload(e, CPU_MEM(vec_live), e->j->vec_load);
}

static void reload_x87(struct emit *e)
{
    reload(e, CPU_MEM(x87_live), e->j->x87_load);
}

/* From a cold part that has called C. */
static void come_back(struct emit *e, const uint8_t *to, bool page)
{
    if (page)
        emit_spoil_page(e);
    asm_jmp_to(&e->a, to);
}

/* A jump to the RIP in C, which the jump cache does not know; goes on behind it when nothing is found. */
static void find_code(struct emit *e, const struct cold *c)
{
    struct asm_buf *a = &e->a;
    asm_call_to(a, e->j->find);
    uint8_t *none = asm_jcc(a, CC_E);
    if (c->pop)
        asm_lea(a, 3, jit_host_of[REG_RSP], rm_mem(jit_host_of[REG_RSP], c->pop));
    asm_op(a, 2, 0xff, 4, rm_reg(R_A)); /* JMP A */
    if (!a->full)
        asm_patch(none, a->at);
    e->s.vec_live = false;
}

/* The rest of the block is not run. Where it ends here anyway, a measurement counts. */
static void leave_early(struct emit *e)
{
    struct asm_buf *a = &e->a;
    int32_t rest = e->b->insn_count - (e->u->insn + 1);
    if (rest) {
        asm_alu_imm(a, 3, 0, CPU_MEM(budget), rest);
    } else {
        asm_imm64(a, R_A, (uintptr_t)&e->j->measures[e->b->measure].taken);
        asm_alu_imm(a, 2, 0, rm_mem(R_A, 0), 1);
    }
}

static void cold_part(struct emit *e, struct cold *c)
{
    struct asm_buf *a = &e->a;
    e->s = c->before;
    e->s.page = false;
    e->index = c->index;
    e->u = &e->b->uops[c->index];
    if (c->jump && !a->full)
        asm_patch(c->jump, a->at);
    if (c->jump2 && !a->full)
        asm_patch(c->jump2, a->at);
    if (c->lookup)
        find_code(e, c);
    switch (c->kind) {
    case COLD_SIDE:
        emit_leave_flags(e);
        leave_early(e);
        c->edge->jump = asm_jmp(a);
        c->edge->operands = e->s.rec_short ? e->left_operands : 0;
        /* fall through */
    case COLD_EDGE:
        if (e->s.rec_short) {
            c->edge->save = a->at;
            emit_save_operands(e);
            c->edge->saved = asm_jmp(a);
        }
        c->edge->stub = a->at;
        asm_patch(c->edge->jump, a->at);
        store_rip(e, c->target);
        asm_imm64(a, R_C, (uintptr_t)c->edge);
        asm_store(a, 3, R_C, CPU_MEM(jit_edge));
        asm_jmp_to(a, e->j->exit);
        return;
    case COLD_CROSS:
        emit_cross(e, c->target);
        return;
    case COLD_END:
        emit_step(e);
        return;
    case COLD_RETURN:
        if (e->s.t0_in_c)
            asm_store(a, 3, R_C, guest_mem(REG_T0));
        emit_c_arguments(e);
        asm_jmp_to(a, e->j->rest_end);
        return;
    case COLD_RUN:
        emit_cold_run(e, c->run);
        return;
    case COLD_SETTLE:
    case COLD_CARRY:
        asm_call_to(a, c->kind == COLD_CARRY ? e->j->carry : e->j->settle);
        if (c->before.vec_live)
            reload_vectors(e);
        come_back(e, c->back, c->before.page);
        return;
    case COLD_PAGE:
        emit_cold_page(e, c, c + 1);
        return;
    default:
        break;
    }
    if (e->s.t0_in_c)
        asm_store(a, 3, R_C, guest_mem(REG_T0));
    emit_flush_pointers(e);
    if (e->s.rec_pending)
        store_recipe(e, &e->s.rec, false, 3);
    if (e->s.rot_valid)
        put_rotation(e);
    emit_c_arguments(e);
    if (c->kind == COLD_VEC) {
        asm_call_to(a, e->j->vec_load);
        come_back(e, c->back, c->before.page);
        return;
    }
    if (c->kind == COLD_X87) {
        /* Its thunk spills the vector registers. */
        asm_call_to(a, e->j->x87_load);
        if (e->s.vec_live)
            reload_vectors(e);
        come_back(e, c->back, c->before.page);
        return;
    }
    asm_call_to(a, e->u->op == UOP_GUARD ? e->j->guard : e->j->slow);
    /* FLDCW may have unmasked an exception: what follows it looks again. */
    if (c->kind == COLD_REST ? e->s.x87_live : c->after.x87_live)
        reload_x87(e);
    if (e->s.vec_live)
        reload_vectors(e);
    if (c->kind == COLD_REST) {
        /* The rest of the instruction, unmerged. The states at its end agree: they follow from the same
         * micro-ops. */
        e->s.host_mask = 0;
        if (e->u->op == UOP_LOADW)
            e->s.t0_in_c = true;
        if (e->s.t0_in_c)
            asm_load(a, 3, R_C, guest_mem(REG_T0));
        unsigned last = c->index;
        while (last + 1u < e->b->uop_count && e->b->uops[last + 1].insn == e->u->insn)
            last++;
        uint8_t *back = c->back;
        e->in_cold = true;
        if (!emit_uops(e, c->index + 1u, last))
            e->failed = true;
        e->in_cold = false;
        come_back(e, back, c->after.page);
        return;
    }
    if (c->after.t0_in_c)
        asm_load(a, 3, R_C, guest_mem(REG_T0));
    if (c->after.host_mask)
        e->failed = true;
    come_back(e, c->back, c->after.page);
}

/* -- The walk ------------------------------------------------------------------------------------------ */

static void one_uop(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op == UOP_GUARD) {
        struct rm m = CPU_MEM(vmx_guards);
        m.disp += (int32_t)(u->imm >> 3);
        asm_op(&e->a, 0, 0xf6, 0, m); /* TEST */
        asm_byte(&e->a, 1u << (u->imm & 7));
        e->s.host_mask = 0;
        emit_cold(e, COLD_STEP, asm_jcc(&e->a, CC_NE));
        return;
    }
    if (emit_alu(e) || emit_bits(e) || emit_memory(e) || emit_control(e) || emit_vector(e) || emit_x87(e) ||
        emit_system(e))
        return;
    emit_step(e);
}

bool emit_uops(struct emit *e, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        unsigned cold = e->cold_count;
        bool begins = i == 0 || e->b->uops[i - 1].insn != e->b->uops[i].insn;
        e->index = i;
        e->u = &e->b->uops[i];
        if (begins)
            e->s.t0_in_c = false; /* temporaries are dead between instructions */
        e->skip = 0;
        const struct emit_state was = e->s;
        one_uop(e);
        emit_follow_page(e, e->u, &was);
        i += e->skip;
        e->index = i;
        if (!e->in_cold)
            emit_close_run(e);
        close_cold(e, cold);
        if (e->a.full || e->failed)
            return false;
    }
    return true;
}

static void leave_at_start(struct emit *e, uint64_t why)
{
    store_rip(e, e->b->insns[0].offset);
    asm_imm64(&e->a, R_C, why);
    asm_store(&e->a, 3, R_C, CPU_MEM(jit_edge));
    asm_jmp_to(&e->a, e->j->exit);
}

/* For --profile. A, B and the flags are free at a block's entry. */
static void count_entry(struct emit *e)
{
    struct asm_buf *a = &e->a;
    asm_op(a, 2, 0x0fb6, R_B, CPU_MEM(vmx_non_root)); /* MOVZX */
    asm_store(a, 0, R_B, CPU_MEM(profile_level));
    asm_imm64(a, R_A, (uintptr_t)e->b->profile);
    asm_alu_imm(a, 3, 0, rm_sib(R_A, R_B, 3, (int32_t)offsetof(struct profile_row, executions)), 1);
    asm_alu_imm(a, 3, 0, rm_sib(R_A, R_B, 3, (int32_t)offsetof(struct profile_row, instructions)),
                e->b->insn_count);
}

bool emit_block(struct emit *e)
{
    struct asm_buf *a = &e->a;
    struct jit_block *jb = e->b->jit;
    e->cold_count = 0;
    e->failed = e->merged = e->in_cold = false;
    e->s = (struct emit_state){.rec_valid = false};
    e->long_mode = e->b->key & KEY_L;
    e->rest_open = false;
    e->delta_index = DELTA_NONE;
    emit_find_runs(e);
    e->entry_open = true;
    e->entry_writes = 0;
    e->site = 0;
    jb->entry = a->at;
    uint8_t *measured = NULL;
    if (e->b->tune == TUNE_MEASURE) {
        asm_imm64(a, R_A, (uintptr_t)&e->j->measures[e->b->measure].left);
        asm_alu_imm(a, 2, 5, rm_mem(R_A, 0), 1);
        measured = asm_jcc(a, CC_S);
    }
    asm_alu_imm(a, 3, 5, CPU_MEM(budget), e->b->insn_count);
    uint8_t *out = asm_jcc(a, CC_S);
    if (e->b->profile)
        count_entry(e);
    if (!emit_uops(e, 0, e->b->uop_count - 1u))
        return false;
    jb->entry_writes = e->entry_open ? 0xffff : e->entry_writes;
    for (unsigned i = 0; i < e->cold_count; i++) {
        cold_part(e, &e->cold[i]);
        if (a->full || e->failed)
            return false;
    }
    if (a->full)
        return false;
    e->long_mode = e->b->key & KEY_L;
    asm_patch(out, a->at);
    asm_alu_imm(a, 3, 0, CPU_MEM(budget), e->b->insn_count);
    leave_at_start(e, JIT_BUDGET);
    if (measured) {
        asm_patch(measured, a->at);
        leave_at_start(e, JIT_TUNE);
    }
    jb->dead = a->at;
    leave_at_start(e, JIT_DEAD);
    jb->end = a->at;
    return !a->full;
}

#endif
