/*
 * cpu/jit/emit_page.c -- memory accesses near the one before: the page is known, so its bounds are all to
 * check.
 *
 * After an access A is its offset in the page and B the page's host address. Until an instruction of ours
 * names A or B as a register (struct asm_buf, `used`), or a guest register of the address changes, an access
 * by the same registers with another displacement adds the difference to A. What leaves the page looks it up
 * again in a cold part, and comes back with A and B for the other page. A cold part that has called C, which
 * may drop translations, comes back with an A that is in no page. In hot blocks (tune.c) an access that has
 * no such page may have one that it remembers itself.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

enum { NOWHERE = 1 << 30, LOOK_AHEAD = 24 };

void emit_check_page(struct emit *e)
{
    if (e->a.used & (1u << R_A | 1u << R_B))
        e->s.page = false;
}

void emit_lose_page(struct emit *e, unsigned reg)
{
    if (reg == e->s.page_at.a || reg == e->s.page_at.b)
        e->s.page = false;
}

void emit_spoil_page(struct emit *e)
{
    asm_imm64(&e->a, R_A, NOWHERE);
}

static bool is_near(int64_t disp)
{
    return disp > -(int64_t)PAGE_SIZE && disp < (int64_t)PAGE_SIZE;
}

static bool same_registers(const struct uop *x, const struct uop *y)
{
    return x->a == y->a && x->b == y->b && x->am == y->am;
}

/* Registers whose values are known not to change behind our back: not temporaries. */
static bool has_form(const struct uop *u)
{
    return (u->a < 16 || u->a == REG_PAGE || u->a == REG_ZERO) && (u->b < 16 || u->b == REG_ZERO);
}

static bool is_store(const struct uop *u)
{
    return u->op == UOP_STORE || u->op == UOP_STOREI || u->op == UOP_LOADW || u->op == UOP_VSTORE ||
           u->op == UOP_VSTORE16 || u->op == UOP_VSTORE32;
}

/* Is d a guest register that u writes? */
static bool writes_d(const struct uop *u)
{
    unsigned f = uop_info[u->op].format;
    if (f == FMT_VM || f == FMT_VD || f == FMT_VDA || f == FMT_STUB || f == FMT_HELPER)
        return false;
    return u->op != UOP_STORE && u->op != UOP_STOREI && u->op != UOP_PUSH && u->op != UOP_PUSHI;
}

/* How u moves register reg; false: not by a constant. */
static bool moves_by(const struct uop *u, unsigned reg, int64_t *by)
{
    if (u->d != reg || u->a != reg || u->size != 3)
        return false;
    *by = u->op == UOP_SUBI || u->op == UOP_SUBI_NF ? -u->imm : u->imm;
    return (u->op == UOP_ADDI || u->op == UOP_ADDI_NF || u->op == UOP_SUBI || u->op == UOP_SUBI_NF) &&
           is_near(*by);
}

/* A store near the load u follows: then the load asks for a page that may be written. */
static bool stored_later(const struct emit *e, const struct uop *u)
{
    const struct uop *end = e->b->uops + e->b->uop_count;
    int64_t moved = 0, by;
    unsigned left = LOOK_AHEAD;
    for (const struct uop *k = e->u + 1; k < end && left--; k++) {
        if (is_store(k) && same_registers(k, u) && is_near(k->disp + moved - u->disp))
            return true;
        if (moves_by(k, u->a, &by))
            moved += by;
        else if (writes_d(k) && (k->d == u->a || k->d == u->b))
            return false;
    }
    return false;
}

static bool is_known(const struct emit *e, const struct uop *u, bool write)
{
    return e->s.page && same_registers(u, &e->s.page_at) && (!write || e->s.page_write) &&
           is_near((int64_t)u->disp - e->s.page_at.disp);
}

static struct rm near_mem(bool write, int near, size_t member)
{
    size_t at = write ? offsetof(struct tlb, near_write) : offsetof(struct tlb, near_read);
    return rm_mem(R_TLB, (int32_t)(at + (unsigned)near * sizeof(struct tlb_entry) + member));
}

/* A is the offset in a page, should the check hold: the one that B has, or remembered page `near`, unless
 * that is -1. */
static void check_bounds(struct emit *e, const struct uop *u, unsigned bytes, bool write, enum cold_kind kind,
                         unsigned align, int near)
{
    struct asm_buf *a = &e->a;
    e->s.page = false;
    e->s.host_mask = 0;
    asm_alu_imm(a, 3, 7, rm_reg(R_A), (int32_t)(PAGE_SIZE - bytes));
    struct cold *c = emit_cold(e, COLD_PAGE, asm_jcc(a, CC_A));
    c->open = false;
    c->access = *u;
    c->bytes = (uint8_t)bytes;
    c->write = write;
    c->near = (int8_t)near;
    c->site = (uint8_t)(e->site - 1);
    c->back = a->at;
    emit_cold(e, kind, NULL); /* where that part jumps to when the table has nothing */
    if (near >= 0)
        asm_load(a, 3, R_B, near_mem(write, near, offsetof(struct tlb_entry, host)));
    if (align) {
        asm_op(a, 2, 0xf7, 0, rm_reg(R_A)); /* TEST */
        asm_u32(a, align - 1);
        emit_cold(e, kind, asm_jcc(a, CC_NE));
    }
    e->place = rm_sib(R_A, R_B, 0, 0);
}

static void near_access(struct emit *e, const struct uop *u, unsigned bytes, bool write, enum cold_kind kind,
                        unsigned align)
{
    int32_t further = u->disp - e->s.page_at.disp;
    if (kind == COLD_REST)
        emit_open_rest(e);
    if (further)
        asm_lea(&e->a, 3, R_A, rm_mem(R_A, further));
    check_bounds(e, u, bytes, write, kind, align, -1);
}

/* The same check against the page that this place in the code has met last. */
static void remembered_access(struct emit *e, const struct uop *u, unsigned bytes, bool write,
                              enum cold_kind kind, unsigned align, int near)
{
    emit_address(e, u);
    if (kind == COLD_REST)
        emit_open_rest(e);
    asm_alu(&e->a, 3, 6, R_A, near_mem(write, near, 0));
    check_bounds(e, u, bytes, write, kind, align, near);
}

void emit_page_access(struct emit *e, const struct uop *u, unsigned bytes, bool write, enum cold_kind kind,
                      unsigned align)
{
    bool form = !e->in_cold && has_form(u);
    emit_check_page(e);
    if (form && is_known(e, u, write)) {
        write = e->s.page_write;
        near_access(e, u, bytes, write, kind, align);
    } else {
        write = write || (form && stored_later(e, u));
        int near = form ? jit_near_of(e->b, e->site++) : -1;
        if (near >= 0) {
            remembered_access(e, u, bytes, write, kind, align, near);
        } else {
            emit_address(e, u);
            emit_tlb(e, bytes, write, kind, align);
        }
    }
    e->a.used = 0;
    e->s.page = form;
    e->s.page_at = *u;
    e->s.page_write = write;
}

void emit_cold_page(struct emit *e, const struct cold *c, struct cold *slow)
{
    struct asm_buf *a = &e->a;
    int32_t table = c->write ? (int32_t)offsetof(struct tlb, write) : (int32_t)offsetof(struct tlb, read);
    if (c->near >= 0 && e->b->tune == TUNE_MEASURE) {
        asm_imm64(a, R_B, (uintptr_t)&e->j->measures[e->b->measure].misses[c->site]);
        asm_alu_imm(a, 2, 0, rm_mem(R_B, 0), 1);
    }
    emit_address(e, &c->access);
    asm_vex(a, 3, 3, 1, 0, 0xf0, R_B, 0, rm_reg(R_A)); /* RORX */
    asm_byte(a, PAGE_SHIFT - 4);
    asm_alu_imm(a, 2, 4, rm_reg(R_B), (int32_t)(TLB_ENTRIES - 1) << 4);
    asm_alu(a, 3, 6, R_A, rm_sib(R_TLB, R_B, 0, table));
    asm_alu_imm(a, 3, 7, rm_reg(R_A), (int32_t)PAGE_SIZE - c->bytes);
    slow->jump = asm_jcc(a, CC_A);
    if (c->near >= 0) {
        struct rm tag = near_mem(c->write, c->near, 0);
        asm_load(a, 3, R_A, rm_sib(R_TLB, R_B, 0, table));
        asm_store(a, 3, R_A, tag);
        asm_load(a, 3, R_B, rm_sib(R_TLB, R_B, 0, table + 8));
        asm_store(a, 3, R_B, near_mem(c->write, c->near, offsetof(struct tlb_entry, host)));
        asm_store(a, 3, R_TLB, rm_mem(R_TLB, (int32_t)offsetof(struct tlb, near_used)));
        emit_address(e, &c->access);
        asm_alu(a, 3, 6, R_A, tag);
    } else {
        asm_load(a, 3, R_B, rm_sib(R_TLB, R_B, 0, table + 8));
    }
    asm_jmp_to(a, c->back);
}

/* Behind a micro-op, of which `was` is the state before: where is the page now? */
void emit_follow_page(struct emit *e, const struct uop *u, const struct emit_state *was)
{
    int64_t by;
    if (was->page && same_registers(&was->page_at, &e->s.page_at) && u->d != was->page_at.b &&
        moves_by(u, was->page_at.a, &by)) {
        e->s.page = is_near(was->page_at.disp - by);
        e->s.page_at.disp = (int32_t)(was->page_at.disp - by);
        emit_check_page(e);
        return;
    }
    bool changes = writes_d(u) && (u->d == e->s.page_at.a || u->d == e->s.page_at.b);
    switch (u->op) {
    case UOP_XCHG:
        changes |= u->a == e->s.page_at.a || u->a == e->s.page_at.b;
        break;
    case UOP_MULX:
        changes |= u->c == e->s.page_at.a || u->c == e->s.page_at.b;
        break;
    case UOP_PUSH:
    case UOP_PUSHI:
    case UOP_POP:
    case UOP_MUL:
    case UOP_IMUL:
    case UOP_DIV:
    case UOP_IDIV:
        changes = true;
        break;
    default:
        break;
    }
    if (changes)
        e->s.page = false;
}

#endif
