/*
 * cpu/jit/emit_stack.c -- memory accesses, and one check for many of them on the stack.
 *
 * Most accesses through RSP go to one page for a long time, and come in runs: pushes, pops, locals. Each TLB
 * context remembers the stack's page (struct tlb, `stack`). A run of accesses whose distance from RSP is
 * known is checked once, at its first, against that page; the others use the same distance from guest to
 * host. Where the check fails, a cold part fills the memory from the table of the context; where the table
 * has nothing, or the run crosses a page, the whole run is done without grouping and comes back behind its
 * last access.
 *
 * What drops the page while a run is under way is C code, and that leaves translated code at the next
 * instruction boundary (thunks.c).
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

enum { SPAN_MAX = 2048, RUN_MAX = 40 };

/* -- Finding runs -------------------------------------------------------------------------------------- */

struct access {
    int32_t disp; /* from RSP as it is then */
    unsigned bytes;
    bool write;
};

static bool is_stack_operand(const struct uop *u)
{
    return u->a == REG_RSP && u->b == REG_ZERO && AM_ASIZE(u->am) == ASIZE_64 && !AM_CHECKED(u->am);
}

static bool access_of(const struct uop *u, struct access *x)
{
    unsigned bytes = 1u << u->size;
    switch (u->op) {
    case UOP_PUSH:
    case UOP_PUSHI:
        *x = (struct access){-(int32_t)bytes, bytes, true};
        return true;
    case UOP_POP:
        *x = (struct access){0, bytes, false};
        return true;
    case UOP_LOADZX8:
    case UOP_LOADSX8:
        bytes = 1;
        break;
    case UOP_LOADZX16:
    case UOP_LOADSX16:
        bytes = 2;
        break;
    case UOP_LOADSX32:
        bytes = 4;
        break;
    case UOP_VLOAD16:
    case UOP_VSTORE16:
        bytes = 16;
        break;
    case UOP_VLOAD32:
    case UOP_VSTORE32:
        bytes = 32;
        break;
    case UOP_LOAD:
    case UOP_LOADW:
    case UOP_STORE:
    case UOP_STOREI:
    case UOP_VLOAD:
    case UOP_VSTORE:
        break;
    default:
        return false;
    }
    bool write = u->op == UOP_LOADW || u->op == UOP_STORE || u->op == UOP_STOREI || u->op == UOP_VSTORE ||
                 u->op == UOP_VSTORE16 || u->op == UOP_VSTORE32;
    *x = (struct access){u->disp, bytes, write};
    return is_stack_operand(u);
}

/* How u moves RSP, when that is known. */
static bool moves_by(const struct uop *u, int64_t *by)
{
    *by = 0;
    if (u->d != REG_RSP || u->size != 3)
        return false;
    switch (u->op) {
    case UOP_ADDI:
    case UOP_ADDI_NF:
        *by = u->imm;
        break;
    case UOP_SUBI:
    case UOP_SUBI_NF:
        *by = -u->imm;
        break;
    case UOP_LEA:
        *by = u->disp;
        return is_stack_operand(u) && *by >= -SPAN_MAX && *by <= SPAN_MAX;
    default:
        return false;
    }
    return u->a == REG_RSP && *by >= -SPAN_MAX && *by <= SPAN_MAX;
}

/* Not an access of the stack: does it leave RSP alone, and the block's course? */
static bool is_neutral(const struct uop *u)
{
    if (u->op == UOP_HELPER || u->op == UOP_GUARD || u->op == UOP_SIDE || (uop_info[u->op].flags & U_END))
        return false;
    return u->d != REG_RSP && !(u->op == UOP_XCHG && u->a == REG_RSP);
}

static bool begins_merged(const struct emit *e, unsigned i)
{
    const struct uop *u = &e->b->uops[i];
    for (unsigned k = i; k-- > 0 && e->b->uops[k].insn == u->insn;) {
        unsigned op = e->b->uops[k].op;
        if (op == UOP_LOADW || op == UOP_VLOAD || op == UOP_VLOAD16 || op == UOP_VLOAD32)
            return true;
    }
    return false;
}

void emit_find_runs(struct emit *e)
{
    struct run *run = NULL;
    int64_t moved = 0, low = 0, high = 0;
    e->run_count = 0;
    if (!e->long_mode || (e->b->key & KEY_AC) || e->no_runs)
        return;
    for (unsigned i = 0; i < e->b->uop_count; i++) {
        const struct uop *u = &e->b->uops[i];
        struct access x;
        int64_t by = 0;
        bool is_access = access_of(u, &x);
        if (is_access) {
            int64_t from = moved + x.disp, to = from + x.bytes;
            bool fits = run && MAX(high, to) - MIN(low, from) <= SPAN_MAX && i - run->first < RUN_MAX;
            if (!fits) {
                moved = 0;
                from = x.disp;
                to = from + x.bytes;
                run = e->run_count < RUNS_MAX && !begins_merged(e, i) ? &e->runs[e->run_count++] : NULL;
                if (run)
                    *run = (struct run){.first = (uint16_t)i};
                low = from;
                high = to;
            }
            if (run) {
                low = MIN(low, from);
                high = MAX(high, to);
                run->last = (uint16_t)i;
                run->low = (int32_t)low;
                run->span = (uint16_t)(high - low);
                run->write |= x.write;
            }
            if (u->op == UOP_POP || u->op == UOP_PUSH || u->op == UOP_PUSHI)
                moved += u->op == UOP_POP ? (int64_t)x.bytes : -(int64_t)x.bytes;
            bool writes_d = u->op != UOP_PUSH && u->op != UOP_STORE && uop_info[u->op].format != FMT_VM;
            if (u->op == UOP_PUSHI || u->op == UOP_STOREI)
                writes_d = false;
            if (writes_d && u->d == REG_RSP)
                run = NULL;
        } else if (moves_by(u, &by)) {
            moved += by;
        } else if (!is_neutral(u)) {
            run = NULL;
        }
    }
}

/* -- Accesses ------------------------------------------------------------------------------------------ */

static struct rm stack_slot(int32_t member)
{
    return rm_mem(R_TLB, (int32_t)offsetof(struct tlb, stack) + member);
}
#define STACK_MEM(member)                                                                                    \
    stack_slot((int32_t)(offsetof(struct tlb, stack.member) - offsetof(struct tlb, stack)))

static struct run *run_at(struct emit *e, unsigned index)
{
    if (e->in_cold)
        return NULL;
    for (unsigned i = 0; i < e->run_count; i++)
        if (index >= e->runs[i].first && index <= e->runs[i].last)
            return &e->runs[i];
    return NULL;
}

static void check(struct emit *e, struct run *run)
{
    struct asm_buf *a = &e->a;
    asm_lea(a, 3, R_A, rm_mem(jit_host_of[REG_RSP], run->low));
    asm_alu(a, 3, 6, R_A, run->write ? STACK_MEM(write) : STACK_MEM(read));
    asm_alu_imm(a, 3, 7, rm_reg(R_A), (int32_t)PAGE_SIZE - run->span);
    e->s.host_mask = 0;
    struct cold *c = emit_cold(e, COLD_RUN, asm_jcc(a, CC_A));
    c->open = false;
    c->run = run;
    run->checked = true;
    run->resume = a->at;
}

/* RSP + disp is on the stack: true when a run covers it; e->place is set then. */
static bool on_stack(struct emit *e, int32_t disp)
{
    struct run *run = run_at(e, e->index);
    struct access x;
    if (!run || !access_of(e->u, &x))
        return false;
    if (e->index == run->first)
        check(e, run);
    else if (!run->checked)
        e->failed = true;
    if (e->index == run->first || e->delta_index + 1 != e->index)
        asm_load(&e->a, 3, R_B, STACK_MEM(delta));
    e->delta_index = e->index;
    e->place = rm_sib(jit_host_of[REG_RSP], R_B, 0, disp);
    return true;
}

static void align_check(struct emit *e, enum cold_kind kind, unsigned align)
{
    struct asm_buf *a = &e->a;
    asm_op(a, 2, 0xf7, 0, rm_reg(R_A)); /* TEST */
    asm_u32(a, align - 1);
    e->s.host_mask = 0;
    emit_cold(e, kind, asm_jcc(a, CC_NE));
}

void emit_access(struct emit *e, unsigned bytes, bool write, enum cold_kind kind, unsigned align)
{
    const struct uop *u = e->u;
    if (on_stack(e, u->disp)) {
        if (kind == COLD_REST)
            emit_open_rest(e);
        if (align) {
            asm_lea(&e->a, 3, R_A, rm_mem(jit_host_of[REG_RSP], u->disp));
            align_check(e, kind, align);
        }
        return;
    }
    emit_page_access(e, u, bytes, write, kind, align);
}

void emit_stack_access(struct emit *e, int32_t disp, unsigned bytes, bool write)
{
    if (on_stack(e, disp))
        return;
    if (disp)
        asm_lea(&e->a, 3, R_A, rm_mem(jit_host_of[REG_RSP], disp));
    else
        asm_mov(&e->a, R_A, jit_host_of[REG_RSP]);
    emit_tlb(e, bytes, write, COLD_STEP, 0);
}

void emit_close_run(struct emit *e)
{
    struct run *run = run_at(e, e->index);
    if (!run || e->index != run->last)
        return;
    emit_check_page(e);
    run->back = e->a.at;
    run->after = e->s;
    if (!run->checked)
        e->failed = true;
}

/* -- Cold parts ---------------------------------------------------------------------------------------- */

static bool same_recipe(const struct recipe *x, const struct recipe *y)
{
    return x->kind == y->kind && x->size == y->size && x->a == y->a && x->b == y->b && x->b_imm == y->b_imm &&
           x->imm == y->imm;
}

/* May code that was made for state y follow in state x? */
static bool agrees(const struct emit_state *x, const struct emit_state *y)
{
    if (x->rec_valid != y->rec_valid || x->rec_pending != y->rec_pending || x->rec_short != y->rec_short ||
        x->rot_valid != y->rot_valid || x->settled != y->settled || x->t0_in_c != y->t0_in_c ||
        x->vec_live != y->vec_live || x->x87_live != y->x87_live || x->pointers != y->pointers ||
        (x->pointers && x->x87_uop != y->x87_uop) || (y->host_mask & ~x->host_mask) ||
        (y->x87_full & ~x->x87_full) || (y->x87_empty & ~x->x87_empty))
        return false;
    if ((y->rec_valid || y->rec_pending) && !same_recipe(&x->rec, &y->rec))
        return false;
    return !y->rot_valid ||
           (x->rot_reg == y->rot_reg && x->rot_size == y->rot_size && x->rot_left == y->rot_left);
}

/* From the table into the context's memory of the stack's page; what it does not have jumps. */
static uint8_t *fill(struct emit *e, const struct run *run)
{
    struct asm_buf *a = &e->a;
    int32_t table = run->write ? (int32_t)offsetof(struct tlb, write) : (int32_t)offsetof(struct tlb, read);
    struct rm low = rm_mem(jit_host_of[REG_RSP], run->low);
    asm_lea(a, 3, R_A, low);
    asm_vex(a, 3, 3, 1, 0, 0xf0, R_B, 0, rm_reg(R_A)); /* RORX */
    asm_byte(a, PAGE_SHIFT - 4);
    asm_alu_imm(a, 2, 4, rm_reg(R_B), (int32_t)(TLB_ENTRIES - 1) << 4);
    asm_alu(a, 3, 6, R_A, rm_sib(R_TLB, R_B, 0, table));
    asm_alu_imm(a, 3, 7, rm_reg(R_A), (int32_t)PAGE_SIZE - run->span);
    uint8_t *missing = asm_jcc(a, CC_A);
    asm_load(a, 3, R_B, rm_sib(R_TLB, R_B, 0, table + 8));
    asm_lea(a, 3, R_A, low);
    asm_alu_imm(a, 3, 4, rm_reg(R_A), -(int32_t)PAGE_SIZE);
    asm_alu(a, 3, 5, R_B, rm_reg(R_A));
    asm_store(a, 3, R_B, STACK_MEM(delta));
    asm_store(a, 3, R_A, STACK_MEM(read));
    if (!run->write)
        asm_imm64(a, R_A, TLB_NOWHERE);
    asm_store(a, 3, R_A, STACK_MEM(write));
    asm_jmp_to(a, run->resume);
    return missing;
}

void emit_cold_run(struct emit *e, const struct run *run)
{
    uint8_t *missing = fill(e, run);
    if (e->a.full)
        return;
    asm_patch(missing, e->a.at);
    e->in_cold = true;
    if (!emit_uops(e, run->first, run->last))
        e->failed = true;
    e->in_cold = false;
    if (!run->back || !agrees(&e->s, &run->after)) {
        e->failed = true;
        return;
    }
    if (run->after.page)
        emit_spoil_page(e);
    asm_jmp_to(&e->a, run->back);
}

#endif
