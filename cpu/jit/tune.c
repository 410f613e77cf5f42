/*
 * cpu/jit/tune.c -- hot blocks are translated twice more: to measure how often their memory accesses stay in
 * the page of the time before, and then with a remembered page for each that does.
 *
 * What is hot is sampled where budgets end. The measuring code counts its entries and, for each access, how
 * often its page was another one. An access of a remembered page needs five instructions instead of seven,
 * and its latency is that of no table; one that misses needs twice as many. The pages are those of struct
 * tlb, `near_read` and `near_write`, so they go with the context.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

/* Samples until a block is measured, entries of a measurement, and misses among so many entries that make a
 * table the better place to look. */
enum { SAMPLES = 3, ENTRIES = 1024, ENTRIES_FEW = 16, MISSES_AMONG = 12, SIDES_AMONG = 6 };

int jit_near_of(const struct block *b, unsigned site)
{
    if (b->tune == TUNE_NONE || site >= JIT_SITES || !(b->near_sites >> site & 1))
        return -1;
    unsigned before = (unsigned)__builtin_popcount(b->near_sites & ((1u << site) - 1));
    return (int)((b->near_first + before) % TLB_NEAR);
}

/* Once more, with what is known now. */
static void translate_again(struct jit *j, struct cpu *cpu, struct block *b)
{
    if (b->code)
        jit_drop(j, b);
    if (jit_translate(j, cpu, b) || b->tune == TUNE_NONE)
        return;
    /* It was translated before. */
    jit_forget_measure(j, b);
    b->tune = TUNE_DONE;
    b->near_sites = 0;
    b->refused = false;
    jit_translate(j, cpu, b);
}

/* Entries of a measurement: few where everything is to be hot, in tests. */
static uint32_t entries(const struct cpu *cpu)
{
    return cpu->code->hot == 1 ? ENTRIES_FEW : ENTRIES;
}

static void measure(struct jit *j, struct cpu *cpu, struct block *b)
{
    /* In turn: a block that has not come to its end since was not hot after all. */
    unsigned i = j->measure_next++ % JIT_MEASURES;
    struct jit_measure *m = &j->measures[i];
    if (m->block)
        jit_drop(j, m->block);
    jit_drop(j, b);
    *m = (struct jit_measure){.block = b, .left = (int32_t)entries(cpu)};
    b->tune = TUNE_MEASURE;
    b->measure = (uint8_t)i;
    b->near_sites = ~0u;
    b->near_first = j->near_next;
    translate_again(j, cpu, b);
    j->near_next = (uint8_t)((j->near_next + MIN(j->emit.site, (unsigned)JIT_SITES)) % TLB_NEAR);
}

void jit_sample(struct jit *j, struct cpu *cpu, struct block *b)
{
    if (!b->code || b->samples == UINT8_MAX)
        return;
    unsigned step = cpu->code->hot == 1 ? 1 : SAMPLES, times = ++b->samples / step;
    /* What follows may be measured later than this block, so paths are tried again, ever more rarely. */
    bool again = b->samples % step == 0 && (times & (times - 1)) == 0;
    if (b->tune == TUNE_NONE && times) {
        measure(j, cpu, b);
    } else if (b->tune == TUNE_DONE && !b->path && again) {
        struct block *path = path_extend(cpu, b);
        if (!path)
            return;
        path->samples = UINT8_MAX;
        if (jit_translate(j, cpu, path))
            measure(j, cpu, path);
        else
            code_cache_drop(cpu->code, path);
    }
}

void jit_measured(struct jit *j, struct cpu *cpu, struct block *b)
{
    if (b->tune != TUNE_MEASURE)
        return;
    const uint32_t count = entries(cpu);
    struct jit_measure *m = &j->measures[b->measure];
    b->near_sites = 0;
    for (unsigned i = 0; i < JIT_SITES; i++)
        if (m->misses[i] * MISSES_AMONG <= count)
            b->near_sites |= 1u << i;
    if (m->taken * SIDES_AMONG <= count)
        b->way = WAY_ON;
    else if ((count - MIN(m->taken, count)) * SIDES_AMONG <= count)
        b->way = WAY_TAKEN;
    m->block = NULL;
    b->tune = TUNE_DONE;
    b->near_first = j->near_next;
    translate_again(j, cpu, b);
    unsigned sites = MIN(j->emit.site, (unsigned)JIT_SITES);
    uint32_t there = sites < 32 ? (1u << sites) - 1 : ~0u;
    j->near_next = (uint8_t)((j->near_next + (unsigned)__builtin_popcount(b->near_sites & there)) % TLB_NEAR);
}

void jit_forget_measure(struct jit *j, struct block *b)
{
    if (b->tune != TUNE_MEASURE)
        return;
    j->measures[b->measure].block = NULL;
    b->tune = TUNE_NONE;
    b->samples = 0; /* of a path too: it is measured when it is met again */
}

#endif
