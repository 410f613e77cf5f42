/*
 * cpu/path.c -- longer blocks for hot code: one way through several blocks of a page.
 *
 * Where a conditional jump nearly always goes one way, the block goes on there, and the other way leaves it
 * by a SIDE micro-op; direct jumps vanish. So a budget is tested and flags are stored once for all of them,
 * and what the blocks know of each other is used. A path has the address and the key of its first block, in
 * whose place it stands. Which blocks and which ways: cpu/jit/tune.c measures.
 */
#include "cpu/cache.h"
#include "cpu/ir/interp.h"
#include "cpu/lift/lift.h"

enum { PATH_INSNS = 48, PATH_BLOCKS = 12, PATH_SIDES = 6, INSN_LONGEST = 15 };

struct path {
    struct cpu *cpu;
    struct lift l;
    gpa_t page;
    uint32_t key;
    struct block *blocks[PATH_BLOCKS];
    unsigned block_count, sides;
};

/* May an edge of translated code lead there? */
static bool is_near(int64_t offset)
{
    return offset >= 0 && offset <= PAGE_SIZE - INSN_LONGEST;
}

static bool lift_block(struct path *p, const struct block *b)
{
    for (unsigned i = 0; i < b->insn_count; i++) {
        p->l.offset = b->insns[i].offset;
        unsigned avail = PAGE_SIZE - p->l.offset;
        const uint8_t *bytes = phys_ram(p->cpu->phys, p->page + p->l.offset, avail);
        if (!bytes || lift_insn(&p->l, bytes, avail) == LIFT_TRUNCATED || p->l.ir->overflow)
            return false;
    }
    return true;
}

/* The block at `offset`, when the path may go on there. */
static struct block *successor(const struct path *p, int64_t offset)
{
    if (!is_near(offset) || p->block_count == PATH_BLOCKS)
        return NULL;
    struct block *b = code_cache_find(p->cpu->code, p->page + (gpa_t)offset, p->key);
    if (!b || !b->code || b->path || p->l.ir->insn_count + b->insn_count > PATH_INSNS)
        return NULL;
    for (unsigned i = 0; i < p->block_count; i++)
        if (p->blocks[i] == b)
            return NULL;
    return b;
}

/* Where the path goes on behind its last block, whose end is made to let it; NULL: it ends there. */
static struct block *go_on(struct path *p)
{
    struct ir *ir = p->l.ir;
    const struct block *b = p->blocks[p->block_count - 1];
    const struct uop *end = &b->uops[b->uop_count - 1];
    struct uop *last = &ir->uops[ir->uop_count - 1];
    if (end->op == UOP_EXIT) {
        /* An instruction that does not fit into cpu->tail stays the last (cpu/exec.c). */
        uint32_t uops = ir->uop_count - ir->insns[ir->insn_count - 1].first;
        return uops > ARRAY_LEN(p->cpu->tail) - 2 ? NULL : successor(p, end->imm);
    }
    if (!ir->uop_count || last->insn != ir->insn_count - 1 || last->size != 3)
        return NULL;
    if (last->op == UOP_JMP) {
        struct block *next = successor(p, last->imm);
        if (next)
            ir->uop_count--;
        return next;
    }
    if (last->op != UOP_JCC || b->way == WAY_UNKNOWN || p->sides == PATH_SIDES)
        return NULL;
    bool taken = b->way == WAY_TAKEN;
    int64_t on = taken ? last->imm : last->disp, side = taken ? last->disp : last->imm;
    struct block *next = is_near(side) ? successor(p, on) : NULL;
    if (!next)
        return NULL;
    p->sides++;
    last->op = UOP_SIDE;
    last->c ^= taken;
    last->imm = side;
    return next;
}

static bool make(struct path *p, struct block *b)
{
    do {
        p->blocks[p->block_count++] = b;
        if (!lift_block(p, b))
            return false;
        b = go_on(p);
    } while (b);
    const struct block *last = p->blocks[p->block_count - 1];
    const struct uop *end = &last->uops[last->uop_count - 1];
    if (end->op == UOP_EXIT)
        ir_emit(p->l.ir, UOP_EXIT, 0)->imm = end->imm;
    return p->block_count > 1 && !p->l.ir->overflow;
}

struct block *path_extend(struct cpu *cpu, struct block *b)
{
    struct code_cache *c = cpu->code;
    gpa_t gpa = b->gpa;
    uint32_t key = b->key;
    if (!(key & KEY_L) || (key & KEY_SINGLE) || b->gpa2 || c->profile || cpu->mmu.verify ||
        !phys_page(cpu->phys, gpa))
        return NULL;
    struct path p = {
        .cpu = cpu,
        .page = gpa & ~PAGE_MASK,
        .key = key,
        .l = {.ir = c->ir, .key = key, .model = cpu->model, .stubs = cpu->stubs, .log = cpu->log}};
    ir_reset(c->ir);
    if (!make(&p, b))
        return NULL;
    ir_optimise(c->ir);
    ir_finish(c->ir->uops, c->ir->uop_count);
    interp_prepare(c->ir->uops, c->ir->uop_count, key);
    code_cache_drop(c, b);
    struct block *made = code_cache_add(c, gpa, 0, key);
    if (made)
        made->path = true;
    return made;
}
