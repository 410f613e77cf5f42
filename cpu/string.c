/*
 * cpu/string.c -- MOVS, STOS, LODS, CMPS and SCAS with their repeat prefixes.
 *
 * SDM 2B, "REP/REPE/REPZ/REPNE/REPNZ". Each iteration counts as one instruction and is an interrupt point; a
 * fault leaves rCX, rSI and rDI at the iteration that failed. The instruction is the last of its block, so
 * one tick of it is already paid: an execution may take budget + 1 iterations, and goes on later at the same
 * RIP. Operands of the helpers: size; am: address size and source segment; aux2: 0 no prefix, 1 REP or REPE,
 * 2 REPNE. Not here: INS and OUTS.
 */
#include <string.h>

#include "cpu/exec.h"
#include "cpu/ir/alu.h"
#include "cpu/ir/helper.h"
#include "cpu/mem.h"
#include "cpu/profile.h"

struct string_op {
    struct cpu *cpu;
    unsigned size; /* log2 bytes */
    unsigned asize;
    enum seg_reg seg; /* of the source */
    unsigned rep;
    int64_t step; /* bytes, negative with DF */
    uint64_t address_mask;
    uint64_t limit;     /* iterations that this execution may take */
    uint32_t attention; /* as it may be for more than one */
    bool flat;          /* no segment has to be looked at: linear = offset */
};

/* What keeps an execution from more than one iteration. Not ATTN_SINGLE for RF alone: after a page fault it
 * is set until the instruction is complete, and no iteration looks at it when no breakpoint is armed. */
static uint32_t harmless(const struct cpu *cpu)
{
    bool traps = (cpu->rflags & FLAG_TF) || (cpu->dr[7] & 0xff) || cpu->msr.debugctl;
    return traps ? 0 : ATTN_SINGLE;
}

static struct string_op string_begin(struct cpu *cpu, const struct uop *u)
{
    struct string_op s = {
        .cpu = cpu, .size = u->size, .asize = AM_ASIZE(u->am), .seg = AM_SEG(u->am), .rep = u->aux2};
    s.address_mask = s.asize == ASIZE_64 ? ~0ull : s.asize == ASIZE_32 ? 0xffffffffull : 0xffffull;
    s.step = cpu->rflags & FLAG_DF ? -(int64_t)(1u << s.size) : (int64_t)(1u << s.size);
    s.attention = cpu->attention & harmless(cpu);
    s.limit = cpu->attention != s.attention ? 1 : (uint64_t)cpu->budget + 1;
    s.flat = (cpu->key & KEY_L) && s.asize == ASIZE_64 && s.seg < SEG_FS && !(cpu->key & KEY_AC);
    return s;
}

static uint64_t string_count(const struct string_op *s)
{
    return s->rep ? s->cpu->r[REG_RCX] & s->address_mask : 1;
}

static void put_address(const struct string_op *s, unsigned reg, uint64_t v)
{
    uint64_t *r = &s->cpu->r[reg];
    *r = s->asize == ASIZE_64 ? v : s->asize == ASIZE_32 ? (uint32_t)v : (*r & ~0xffffull) | (v & 0xffff);
}

static void advance(const struct string_op *s, unsigned reg, uint64_t iterations)
{
    put_address(s, reg, s->cpu->r[reg] + iterations * (uint64_t)s->step);
}

/* `iterations` are done and take a tick each; the tick that the block has paid is given back at the end, or
 * by the fault of a later iteration. */
static void pay(struct string_op *s, uint64_t iterations)
{
    if (s->rep)
        put_address(s, REG_RCX, s->cpu->r[REG_RCX] - iterations);
    block_pay(s->cpu, (int64_t)iterations);
    s->limit -= iterations;
}

static uint64_t source(const struct string_op *s)
{
    uint64_t at = s->cpu->r[REG_RSI] & s->address_mask;
    return s->flat ? mem_read(s->cpu, s->seg, at, 1u << s->size)
                   : cpu_read(s->cpu, s->seg, at, 1u << s->size);
}

static uint64_t destination(const struct string_op *s)
{
    uint64_t at = s->cpu->r[REG_RDI] & s->address_mask;
    return s->flat ? mem_read(s->cpu, SEG_ES, at, 1u << s->size)
                   : cpu_read(s->cpu, SEG_ES, at, 1u << s->size);
}

static void store(const struct string_op *s, uint64_t v)
{
    uint64_t at = s->cpu->r[REG_RDI] & s->address_mask;
    if (s->flat)
        mem_write(s->cpu, SEG_ES, at, 1u << s->size, v);
    else
        cpu_write(s->cpu, SEG_ES, at, 1u << s->size, v);
}

/* Elements from `at` to the end of its page, at most n; forward only. */
static uint64_t in_page(uint64_t at, unsigned size, uint64_t n)
{
    uint64_t room = (PAGE_SIZE - (at & PAGE_MASK)) >> size;
    return MIN(room, n);
}

/* Iterations done at once within a page of source and one of destination; 0 when the slow way must be taken.
 */
static uint64_t movs_page(const struct string_op *s, uint64_t n)
{
    if (!s->flat || s->step < 0)
        return 0;
    uint64_t from = s->cpu->r[REG_RSI], to = s->cpu->r[REG_RDI];
    n = in_page(from, s->size, in_page(to, s->size, n));
    if (!n)
        return 0;
    uint64_t bytes = n << s->size;
    const uint8_t *p = mem_hit_read(s->cpu, from, 1);
    uint8_t *q = mem_hit_write(s->cpu, to, 1);
    if (!p || !q)
        return 0;
    if (q > p && q < p + bytes) {
        /* The copy runs into its own source: element by element, as the processor does. */
        for (uint64_t i = 0; i < bytes; i += 1u << s->size)
            memmove(q + i, p + i, 1u << s->size);
    } else {
        memmove(q, p, bytes);
    }
    return n;
}

static uint64_t stos_page(const struct string_op *s, uint64_t n)
{
    if (!s->flat || s->step < 0)
        return 0;
    uint64_t to = s->cpu->r[REG_RDI];
    n = in_page(to, s->size, n);
    uint8_t *q = n ? mem_hit_write(s->cpu, to, 1) : NULL;
    if (!q)
        return 0;
    uint64_t v = s->cpu->r[REG_RAX];
    if (s->size == 0) {
        memset(q, (int)(v & 0xff), n);
    } else {
        for (uint64_t i = 0; i < n; i++)
            store_le(q + (i << s->size), v, 1u << s->size);
    }
    return n;
}

static void movs_one(const struct string_op *s)
{
    store(s, source(s));
}

static void stos_one(const struct string_op *s)
{
    store(s, s->cpu->r[REG_RAX]);
}

static void lods_one(const struct string_op *s)
{
    alu_put(s->cpu, REG_RAX, s->size, source(s));
}

static void cmps_one(const struct string_op *s)
{
    uint64_t a = source(s);
    alu_sub(s->cpu, s->size, a, destination(s));
}

static void scas_one(const struct string_op *s)
{
    alu_sub(s->cpu, s->size, s->cpu->r[REG_RAX], destination(s));
}

/* One row for each instruction. */
struct string_kind {
    void (*one)(const struct string_op *s);
    uint64_t (*page)(const struct string_op *s, uint64_t n); /* NULL: one by one */
    bool si, di, compares;
};

static void run(struct cpu *cpu, const struct uop *u, const struct string_kind *k)
{
    struct string_op s = string_begin(cpu, u);
    uint64_t left = string_count(&s);
    cpu->rep_rip = REP_NONE;
    if (!left)
        return;
    while (left && s.limit) {
        uint64_t n = MIN(left, s.limit);
        uint64_t done = k->page && n > 1 ? k->page(&s, n) : 0;
        if (!done) {
            k->one(&s);
            done = 1;
        }
        if (k->si)
            advance(&s, REG_RSI, done);
        if (k->di)
            advance(&s, REG_RDI, done);
        pay(&s, done);
        left -= done;
        if (!s.rep || (k->compares && flag_zf(cpu) != (s.rep == 1))) {
            left = 0;
            break;
        }
        if (left && (cpu->attention != s.attention || !cpu->block->valid))
            break;
    }
    block_pay(cpu, -1);
    if (left)
        cpu->next_rip = cpu->rep_rip = cpu->rip;
}

void helper_string_movs(struct cpu *cpu, const struct uop *u)
{
    static const struct string_kind k = {movs_one, movs_page, true, true, false};
    run(cpu, u, &k);
}

void helper_string_stos(struct cpu *cpu, const struct uop *u)
{
    static const struct string_kind k = {stos_one, stos_page, false, true, false};
    run(cpu, u, &k);
}

void helper_string_lods(struct cpu *cpu, const struct uop *u)
{
    static const struct string_kind k = {lods_one, NULL, true, false, false};
    run(cpu, u, &k);
}

void helper_string_cmps(struct cpu *cpu, const struct uop *u)
{
    static const struct string_kind k = {cmps_one, NULL, true, true, true};
    run(cpu, u, &k);
}

void helper_string_scas(struct cpu *cpu, const struct uop *u)
{
    static const struct string_kind k = {scas_one, NULL, false, true, true};
    run(cpu, u, &k);
}
