/*
 * cpu/ir/interp.c -- the portable interpreter: runs blocks of micro-ops by threaded dispatch.
 *
 * Rows: uop.def. Flags: cpu/flags.h. Complex arithmetic: alu.h.
 * Each micro-op's `code` selects a handler; interp_prepare() refines it by address mode and condition, so
 * that the common forms carry no test. Blocks follow each other by their links (same page) or by the jump
 * cache without coming back to cpu_run(), as long as nothing asks for attention and the budget covers the
 * next block. A slow access may ask to leave (event, own code overwritten, translation changed): the rest of
 * its instruction is copied to cpu->tail with a LEAVE behind it, so the hot path has no test at instruction
 * boundaries.
 */
#include "cpu/ir/interp.h"

#include "cpu/cache.h"
#include "cpu/flags.h"
#include "cpu/ir/alu.h"
#include "cpu/ir/helper.h"
#include "cpu/jit/stub.h"
#include "cpu/mem.h"
#include "cpu/profile.h"
#include "cpu/vmx/vmx.h"

/* -- Dispatch codes beyond op * 4 + size --------------------------------------------------------------- */

enum {
    CODE_PLAIN_END = (UOP_COUNT + 1) * 4,
    CODE_SEG64 = CODE_PLAIN_END,                /* + op * 4 + size: memory through FS or GS in 64-bit mode */
    CODE_GENERAL = CODE_SEG64 + CODE_PLAIN_END, /* the same with every check */
    CODE_JCC = CODE_GENERAL + CODE_PLAIN_END,   /* + condition */
    CODE_CMPJCC = CODE_JCC + 16,                /* + size * 16 + condition */
    CODE_CMPIJCC = CODE_CMPJCC + 64,
    CODE_TESTJCC = CODE_CMPIJCC + 64,
    CODE_COUNT = CODE_TESTJCC + 64,
};

static bool is_memory(unsigned op)
{
    unsigned f = uop_info[op].format;
    return op != UOP_LEA && (f == FMT_DM || f == FMT_MI || f == FMT_VM);
}

void interp_prepare(struct uop *uops, uint32_t count, uint32_t key)
{
    for (uint32_t i = 0; i < count; i++) {
        struct uop *u = &uops[i];
        unsigned plain = u->op * 4u + u->size;
        u->code = (uint16_t)plain;
        if (is_memory(u->op)) {
            bool fast = AM_ASIZE(u->am) == ASIZE_64 && (key & KEY_L) && !(key & KEY_AC);
            if (!fast)
                u->code = (uint16_t)(CODE_GENERAL + plain);
            else if (AM_CHECKED(u->am))
                u->code = (uint16_t)(CODE_SEG64 + plain);
        } else if (u->op == UOP_PUSH || u->op == UOP_PUSHI || u->op == UOP_POP) {
            if (!(key & KEY_L) || (key & KEY_AC))
                u->code = (uint16_t)(CODE_GENERAL + plain);
        } else if (u->op == UOP_JCC) {
            u->code = (uint16_t)(CODE_JCC + u->c);
        } else if (u->op == UOP_CMPJCC) {
            u->code = (uint16_t)(CODE_CMPJCC + u->size * 16 + u->c);
        } else if (u->op == UOP_CMPIJCC) {
            u->code = (uint16_t)(CODE_CMPIJCC + u->size * 16 + u->c);
        } else if (u->op == UOP_TESTJCC) {
            u->code = (uint16_t)(CODE_TESTJCC + u->size * 16 + u->c);
        }
    }
}

/* -- Leaving in the middle of a block ------------------------------------------------------------------ */

bool interp_leave_wanted(const struct cpu *cpu, uint64_t generation)
{
    return cpu->attention || !cpu->block->valid || cpu->mmu.generation != generation;
}

/* The micro-op after u: in the block, or in the tail when the block is to be left at the next boundary. */
static const struct uop *after_slow(struct cpu *cpu, const struct uop *u, uint64_t generation)
{
    const struct block *b = cpu->block;
    bool in_tail = u >= cpu->tail && u < cpu->tail + ARRAY_LEN(cpu->tail);
    if (likely(!interp_leave_wanted(cpu, generation)) || in_tail || u->insn + 1u >= b->insn_count)
        return u + 1;
    const struct uop *end = b->uops + b->insns[u->insn + 1].first;
    struct uop *t = cpu->tail;
    uint8_t next = (uint8_t)(u->insn + 1);
    for (u++; u < end; u++)
        *t++ = *u;
    *t = (struct uop){.op = UOP_LEAVE, .code = UOP_LEAVE * 4, .insn = next};
    return cpu->tail;
}

/* -- Addresses ----------------------------------------------------------------------------------------- */

static inline uint64_t effective_address(const uint64_t *r, const struct uop *u)
{
    return r[u->a] + (r[u->b] << AM_SCALE(u->am)) + (uint64_t)(int64_t)u->disp;
}

static inline uint64_t cut_address(uint64_t ea, unsigned asize)
{
    return asize == ASIZE_64 ? ea : asize == ASIZE_32 ? (uint32_t)ea : (uint16_t)ea;
}

/* An access that is not aligned under AC: SSE's own alignment rule comes first, then a bad address, then #AC.
 */
static NORETURN void raise_unaligned(struct cpu *cpu, const struct uop *u, enum seg_reg seg, gva_t linear,
                                     unsigned size)
{
    bool vector =
        u->op == UOP_VLOAD16 || u->op == UOP_VSTORE16 || u->op == UOP_VLOAD32 || u->op == UOP_VSTORE32;
    if (vector && u->imm)
        cpu_raise(cpu, EXC_GP, 0);
    if ((cpu->key & KEY_L) && (!cpu_canonical(cpu, linear) || !cpu_canonical(cpu, linear + size - 1)))
        cpu_raise(cpu, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    cpu_raise(cpu, EXC_AC, 0);
}

/* Linear address with every check; #AC here, because a hit would not see it. */
static gva_t general_address(struct cpu *cpu, const struct uop *u, unsigned size, enum mem_access access)
{
    uint64_t ea = cut_address(effective_address(cpu->r, u), AM_ASIZE(u->am));
    cpu->uop = u;
    gva_t linear = ea;
    if (AM_CHECKED(u->am))
        linear = cpu_linear(cpu, AM_SEG(u->am), ea, size, access);
    else if (!(cpu->key & KEY_L))
        linear &= 0xffffffffull;
    /* SDM 3A, "Alignment Check Exception": 32-byte operands count as two of 16. */
    if (unlikely(cpu->key & KEY_AC) && (linear & (MIN(size, 16u) - 1)))
        raise_unaligned(cpu, u, AM_SEG(u->am), linear, size);
    return linear;
}

/* SDM 3A, "Stack addressing": linear address of [SS:rSP + delta] and the new rSP. */
static gva_t stack_address(struct cpu *cpu, const struct uop *u, int delta, unsigned size,
                           enum mem_access access)
{
    unsigned asize = AM_ASIZE(u->am);
    uint64_t sp = cut_address(cpu->r[REG_RSP] + (uint64_t)(int64_t)delta, asize);
    cpu->uop = u;
    gva_t linear = sp;
    if (!(cpu->key & KEY_L)) {
        linear = cpu_linear(cpu, SEG_SS, sp, size, access);
    }
    if (unlikely(cpu->key & KEY_AC) && (linear & (size - 1)))
        raise_unaligned(cpu, u, SEG_SS, linear, size);
    return linear;
}

static void stack_move(struct cpu *cpu, unsigned asize, int delta)
{
    uint64_t sp = cpu->r[REG_RSP] + (uint64_t)(int64_t)delta;
    if (asize == ASIZE_64)
        cpu->r[REG_RSP] = sp;
    else if (asize == ASIZE_32)
        cpu->r[REG_RSP] = (uint32_t)sp;
    else
        cpu->r[REG_RSP] = (cpu->r[REG_RSP] & ~0xffffull) | (sp & 0xffff);
}

/* -- Targets ------------------------------------------------------------------------------------------- */

static inline uint64_t cut_rip(uint64_t rip, unsigned size)
{
    return size == 3 ? rip : size == 2 ? (uint32_t)rip : (uint16_t)rip;
}

/* SDM 2A, JMP: a target outside the code segment's limit, or not canonical, raises #GP(0) at the jump. */
static void check_target(struct cpu *cpu, const struct uop *u, uint64_t rip)
{
    bool bad =
        cpu->key & KEY_L ? !cpu_canonical(cpu, rip) : !(cpu->key & KEY_FLAT) && rip > cpu->seg[SEG_CS].limit;
    if (unlikely(bad)) {
        cpu->uop = u;
        cpu_raise_gp0(cpu);
    }
}

static inline uint64_t direct_target(struct cpu *cpu, const struct uop *u, int64_t imm, unsigned size)
{
    uint64_t rip = cut_rip(cpu->r[REG_PAGE] + (uint64_t)imm, size);
    if (unlikely((uint64_t)imm >= PAGE_SIZE || !(cpu->key & KEY_L)))
        check_target(cpu, u, rip);
    return rip;
}

/* -- Compare and jump ---------------------------------------------------------------------------------- */

static inline bool compare_condition(unsigned cc, uint64_t ua, uint64_t ub, int64_t sa, int64_t sb,
                                     int64_t res, bool overflow)
{
    bool v;
    switch (cc >> 1) {
    case 0:
        v = overflow;
        break;
    case 1:
        v = ua < ub;
        break;
    case 2:
        v = ua == ub;
        break;
    case 3:
        v = ua <= ub;
        break;
    case 4:
        v = res < 0;
        break;
    case 5:
        v = !__builtin_parity((unsigned)res & 0xff);
        break;
    case 6:
        v = sa < sb;
        break;
    default:
        v = sa <= sb;
        break;
    }
    return v ^ (cc & 1);
}

/* clang-format off */
/* Writes of each size into a register. */
#define WRITE_0(reg, v) r[reg] = (r[reg] & ~0xffull) | (uint8_t)(v)
#define WRITE_1(reg, v) r[reg] = (r[reg] & ~0xffffull) | (uint16_t)(v)
#define WRITE_2(reg, v) r[reg] = (uint32_t)(v)
#define WRITE_3(reg, v) r[reg] = (v)

#define FOR_ALL(X, ...)                                                                                                \
    X(0, 8, uint8_t, int8_t, __VA_ARGS__)                                                                              \
    FOR_GE16(X, __VA_ARGS__)
#define FOR_GE16(X, ...)                                                                                               \
    X(1, 16, uint16_t, int16_t, __VA_ARGS__)                                                                           \
    FOR_GE32(X, __VA_ARGS__)
#define FOR_GE32(X, ...)                                                                                               \
    X(2, 32, uint32_t, int32_t, __VA_ARGS__)                                                                           \
    X(3, 64, uint64_t, int64_t, __VA_ARGS__)

#define PLAIN(op, sz) ((UOP_##op)*4 + (sz))

/* One handler; `L` labels are local to interp_run. */
#define NEXT                                                                                                           \
    do {                                                                                                               \
        u++;                                                                                                           \
        goto *labels[u->code];                                                                                         \
    } while (0)
#define GO goto *labels[u->code]
#define AFTER_SLOW                                                                                                     \
    do {                                                                                                               \
        u = after_slow(cpu, u, generation);                                                                            \
        GO;                                                                                                            \
    } while (0)
/* clang-format on */

/* Runs b from u on, and what follows it, until the budget, an event or an unknown successor ends it; cpu->rip
 * is set then. With a back end it ends with b. */
static void run_from(struct cpu *cpu, struct block *b, const struct uop *u)
{
    static const void *const labels[CODE_COUNT] = {
#include "cpu/ir/interp_labels.h"
    };
    uint64_t *const r = cpu->r;
    uint64_t generation = cpu->mmu.generation;
    struct jump_entry *const jumps = cpu->code->jumps[cpu->id];
    struct block *from;
    unsigned link = 0;

    cpu->block = b;
    GO;

#include "cpu/ir/interp_ops.h"

    /* Direct successor number `link` of b at cpu->rip. */
chain : {
    struct block *to = b->link[link];
    if (likely(to != NULL) && likely(cpu->budget >= to->insn_count) && likely(!cpu->attention)) {
        cpu->budget -= to->insn_count;
        b = to;
        cpu->block = b;
        u = b->uops;
        GO;
    }
    from = b;
    goto lookup;
}
indirect:
    from = NULL;
lookup:
    if (cpu->code->jit) {
        cpu->block = NULL;
        return;
    }
    {
        const struct jump_entry *j = &jumps[jump_hash(cpu->rip)];
        if (likely(j->rip == cpu->rip) && likely(j->key == cpu->key) && likely(j->tlb == cpu->tlb) &&
            likely(j->generation == cpu->mmu.generation) && likely(j->cs_base == cpu->seg[SEG_CS].base) &&
            likely(j->block != NULL) && likely(j->block->valid) && likely(!cpu->attention) &&
            likely(cpu->budget >= j->block->insn_count)) {
            /* Only within one page of one context does a link need no further check. */
            if (from && from->valid && j->page == r[REG_PAGE] && !from->gpa2 &&
                ((from->gpa ^ j->block->gpa) & ~PAGE_MASK) == 0)
                from->link[link] = j->block;
            b = j->block;
            r[REG_PAGE] = j->page;
            generation = j->generation;
            cpu->budget -= b->insn_count;
            cpu->block = b;
            u = b->uops;
            GO;
        }
        cpu->block = NULL;
        return;
    }
step_done:
    return;
stop_at_boundary:
    block_pay(cpu, u->insn - b->insn_count);
    cpu->rip = r[REG_PAGE] + b->insns[u->insn].offset;
    if (!(cpu->key & KEY_L))
        cpu->rip = (uint32_t)cpu->rip;
    cpu->block = NULL;
    return;
unknown:
    cpu->uop = u;
    require(false, "micro-op %u size %u has no handler", u->op, u->size);
}

void interp_run(struct cpu *cpu, struct block *b)
{
    run_from(cpu, b, b->uops);
}

void interp_rest(struct cpu *cpu, struct block *b, const struct uop *u)
{
    run_from(cpu, b, u);
}

bool interp_step(struct cpu *cpu, struct block *b, const struct uop *u)
{
    cpu->tail[0] = *u;
    cpu->tail[1] = (struct uop){.op = UOP_LEAVE, .code = UOP_LEAVE * 4 + 1, .insn = u->insn};
    run_from(cpu, b, cpu->tail);
    return cpu->block == NULL;
}

void interp_finish(struct cpu *cpu, struct block *b, const struct uop *u, uint64_t generation)
{
    cpu->block = b;
    run_from(cpu, b, after_slow(cpu, u, generation));
}
