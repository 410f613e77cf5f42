/*
 * cpu/jit/jit.c -- the translator's outside: blocks into code, how code is found (the jump cache, by RIP in
 * one context, and behind it the table of places, by guest-physical address), the way in.
 *
 * Not here: code memory and edges (code.c), what is emitted (emit.c), what translated code calls (thunks.c).
 */
#include "cpu/jit/emit.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/trace.h"

#define HOT_DEFAULT   8
#define LIMIT_DEFAULT (96u << 20)

#if defined(__x86_64__)

#include <cpuid.h>

/* What the emitted code uses without asking: LAHF, BMI1, BMI2, POPCNT, LZCNT, SSE4.2. */
static bool host_has_needed(bool *avx)
{
    unsigned a, b, c, d, c1;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_POPCNT) || !(c1 & bit_SSE4_2))
        return false;
    *avx = (c1 & bit_AVX) && (c1 & bit_OSXSAVE);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_BMI) || !(b & bit_BMI2))
        return false;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LAHF_LM) && (c & bit_ABM);
}

struct jit *jit_new(size_t limit, struct error *e)
{
    bool avx;
    *e = (struct error){0};
    if (!host_has_needed(&avx))
        return NULL;
    struct jit *j = aligned_alloc(64, ALIGN_UP(sizeof(*j), 64));
    if (j)
        memset(j, 0, sizeof(*j));
    if (!j) {
        error_set(e, "no memory for translated code");
        return NULL;
    }
    j->avx = avx;
    if (!jit_code_init(j, limit, e)) {
        jit_free(j);
        return NULL;
    }
    return j;
}

void jit_free(struct jit *j)
{
    if (!j)
        return;
    jit_code_free(j);
    for (unsigned i = 0; i < PHYS_MMUS_MAX; i++)
        free(j->jumps[i]);
    if (j->perf_map)
        fclose(j->perf_map);
    free(j);
}

static void *runnable(const struct jit *j, const uint8_t *at)
{
    return j->run + (at - j->write);
}

/* -- Translation --------------------------------------------------------------------------------------- */

/* Into what is left of the region that is being filled. Behind the end some bytes stay free: a jump is
 * patched before anybody sees that the buffer is full. */
static bool emit_here(struct jit *j, struct block *b)
{
    struct emit *e = &j->emit;
    const struct jit_region *r = &j->regions[j->region];
    size_t at = r->start + r->used;
    e->j = j;
    e->b = b;
    e->a = (struct asm_buf){.at = j->write + at, .end = j->write + (r->end - at > 64 ? r->end - 64 : at)};
    b->jit = jit_allocate(j, sizeof(*b->jit));
    if (!b->jit)
        return false;
    bool made = false;
    for (unsigned i = 0; i < 2 && !made && !e->a.full; i++) {
        *b->jit = (struct jit_block){.in = NULL};
        e->a.at = j->write + at;
        e->no_runs = i > 0;
        made = emit_block(e);
    }
    return made;
}

bool jit_translate(struct jit *j, struct cpu *cpu, struct block *b)
{
    if (b->refused)
        return false;
    j->emit.cpu = cpu;
    bool done = emit_here(j, b);
    if (!done && j->emit.a.full && j->regions[j->region].used) {
        jit_next_region(j);
        done = emit_here(j, b);
    }
    if (!done) {
        b->refused = true;
        b->jit = NULL;
        j->stats.refused++;
        return false;
    }
    b->code = runnable(j, b->jit->entry);
    jit_code_add(j, b);
    size_t size = (size_t)(b->jit->end - b->jit->entry);
    j->stats.blocks++;
    j->stats.bytes += size;
    if (unlikely(trace_on(cpu->trace, TRACE_out_asm)))
        dump_host_code(cpu, b, b->code, size);
    jit_perf_add(j, b->jit);
    return true;
}

/* The place in the table of code for a block: one line of the host's cache says what the chains of the block
 * cache would say in several. */
static struct jit_place *place_of(struct jit *j, gpa_t gpa, uint32_t key)
{
    uint64_t h = (gpa ^ (uint64_t)key << 32 ^ key) * 0x9e3779b97f4a7c15ull;
    return &j->places[h >> (64 - JIT_PLACE_BITS)];
}

void jit_forget_place(struct jit *j, const struct block *b)
{
    struct jit_place *p = place_of(j, b->gpa, b->key);
    if (p->code == b->code)
        p->code = NULL;
}

/* -- Running ------------------------------------------------------------------------------------------- */

typedef void enter_fn(struct cpu *cpu, void *code);

/* Never 0: an empty entry of the jump cache has tag 0. */
static uint64_t tag_of(const struct cpu *cpu)
{
    return 1ull << 63 | cpu->mmu.generation << 32 | (uint64_t)(cpu->tlb->index & 0xff) << 24 |
           (cpu->key & 0xffffff);
}

static struct jit_jump *jumps_of(struct jit *j, struct cpu *cpu)
{
    struct jit_jump **at = &j->jumps[cpu->id];
    if (!*at) {
        *at = calloc(JIT_JUMPS, sizeof(struct jit_jump));
        require(*at, "out of host memory for the jump cache");
    }
    /* Each context begins at a place of its own, so that the same RIPs in several do not meet. */
    return *at + (cpu->tlb->index * 0x9e3779b1u >> (32 - JIT_JUMP_BITS));
}

/* What translated code looks up is of the present mode and context from now on. */
static void set_context(struct jit *j, struct cpu *cpu)
{
    cpu->jit_jumps = jumps_of(j, cpu);
    cpu->jit_tag = tag_of(cpu);
}

static unsigned jump_index(uint64_t rip)
{
    return (unsigned)rip & ((1u << JIT_JUMP_BITS) - 1);
}

void jit_forget_jumps(struct jit *j)
{
    for (unsigned i = 0; i < PHYS_MMUS_MAX; i++)
        if (j->jumps[i])
            memset(j->jumps[i], 0, sizeof(struct jit_jump) * JIT_JUMPS);
}

/* Fills the context's instruction translation of rip. Only when the instruction there runs now,
 * because a walk sets accessed bits. False: it cannot be, or it has changed more than that; whoever looks
 * again in cpu_run() raises what there is to raise. */
static bool fetch_quietly(struct cpu *cpu, uint64_t rip, gpa_t *gpa)
{
    uint64_t generation = cpu->mmu.generation, drops = cpu->mmu.stack_drops;
    struct mmu_fault f;
    return !cpu->mmu.verify && cpu->budget > 0 && !cpu->attention &&
           mmu_translate(&cpu->mmu, rip, MMU_EXEC, 0, gpa, &f) && !cpu->attention &&
           cpu->mmu.generation == generation && cpu->mmu.stack_drops == drops &&
           tlb_exec_hit(cpu->tlb, rip, gpa);
}

/* The code of a block in RAM that is there already. */
void *jit_find(struct cpu *cpu, uint64_t rip)
{
    struct jit *j = cpu->code->jit;
    uint64_t page = rip & ~PAGE_MASK;
    gpa_t gpa;
    if (!(cpu->key & KEY_L) || (!tlb_exec_hit(cpu->tlb, rip, &gpa) && !fetch_quietly(cpu, rip, &gpa)))
        return NULL;
    struct jit_place *p = place_of(j, gpa, cpu->key);
    if (!phys_page(cpu->phys, gpa))
        return NULL;
    if (p->gpa != gpa || p->key != cpu->key || !p->code) {
        /* Another block's, or nobody's. */
        const struct block *b = code_cache_find(cpu->code, gpa, cpu->key);
        if (!b || !b->code || b->gpa2)
            return NULL;
        *p = (struct jit_place){.gpa = gpa, .key = cpu->key, .code = b->code};
    }
    cpu->jit_jumps[jump_index(rip)] =
        (struct jit_jump){.rip = rip, .tag = cpu->jit_tag, .page = page, .code = p->code};
    cpu->r[REG_PAGE] = page;
    j->stats.misses++;
    return p->code;
}

void *jit_lookup(struct jit *j, struct cpu *cpu)
{
    set_context(j, cpu);
    struct jit_jump *e = &cpu->jit_jumps[jump_index(cpu->rip)];
    if (unlikely(e->rip != cpu->rip || e->tag != cpu->jit_tag))
        return jit_find(cpu, cpu->rip);
    cpu->r[REG_PAGE] = e->page;
    return e->code;
}

void jit_remember(struct jit *j, struct cpu *cpu, struct block *b)
{
    /* Outside flat segments each entry checks the code segment's limit. */
    if (cpu->mmu.verify || !(b->key & (KEY_L | KEY_FLAT)) || !phys_page(cpu->phys, b->gpa))
        return;
    if (!b->gpa2)
        *place_of(j, b->gpa, b->key) = (struct jit_place){.gpa = b->gpa, .key = b->key, .code = b->code};
    jumps_of(j, cpu)[jump_index(cpu->rip)] =
        (struct jit_jump){.rip = cpu->rip, .tag = tag_of(cpu), .page = cpu->r[REG_PAGE], .code = b->code};
}

enum jit_exit jit_run(struct jit *j, struct cpu *cpu, void *code)
{
    set_context(j, cpu);
    cpu->jit_edge = NULL;
    ((enter_fn *)runnable(j, j->enter))(cpu, code);
    cpu->jit_running = false;
    if (cpu->cc_op)
        jit_settle_flags(cpu);
    if (cpu->x87_live)
        jit_x87_spill(cpu);
    cpu->block = NULL;
    j->stats.exits++;
    if ((uintptr_t)cpu->jit_edge > JIT_DEAD)
        return JIT_LEFT;
    enum jit_exit why = (enum jit_exit)(uintptr_t)cpu->jit_edge;
    cpu->jit_edge = NULL;
    return why;
}

typedef void unwind_fn(struct cpu *cpu, uint64_t event);

void jit_unwind(struct cpu *cpu, bool event)
{
    const struct jit *j = cpu->code->jit;
    ((unwind_fn *)j->run_unwind)(cpu, event);
    __builtin_unreachable();
}

#else

void jit_unwind(struct cpu *cpu, bool event)
{
    (void)cpu;
    (void)event;
    require(false, "no translated code runs on this host");
}

struct jit *jit_new(size_t limit, struct error *e)
{
    (void)limit;
    *e = (struct error){0};
    return NULL;
}

#endif

struct jit_edge *jit_exit_edge(struct cpu *cpu)
{
    return cpu->jit_edge;
}

const struct jit_stats *jit_statistics(const struct jit *j)
{
    return &j->stats;
}

bool jit_attach(struct code_cache *c, uint32_t hot, uint64_t limit, struct error *e)
{
    *e = (struct error){0};
    c->jit = jit_new(limit ? limit : LIMIT_DEFAULT, e);
    c->hot = hot ? hot : HOT_DEFAULT;
    return c->jit != NULL;
}
