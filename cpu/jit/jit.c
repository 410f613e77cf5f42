/*
 * cpu/jit/jit.c -- code memory, blocks and edges in it, and how code is found: the jump cache, by RIP in one
 * context, and behind it the table of places, by guest-physical address.
 *
 * Code memory is one memfd seen twice, writable here and executable there (W^X). When it is full everything
 * is forgotten at once (jit_flush): blocks are translated again as they are met.
 */
#define _GNU_SOURCE
#include "cpu/jit/emit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/trace.h"

#define HOT_DEFAULT   8
#define LIMIT_DEFAULT (96u << 20)
#define BLOCK_ROOM    (64u << 10) /* no block needs more */

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
    int fd = memfd_create("droste-code", MFD_CLOEXEC);
    if (!j || fd < 0 || ftruncate(fd, (off_t)limit)) {
        error_set(e, "no memory for translated code");
        free(j);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    j->limit = limit;
    j->avx = avx;
    j->write = mmap(NULL, limit, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    j->run = mmap(NULL, limit, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
    if (j->write == MAP_FAILED || j->run == MAP_FAILED || !jit_make_thunks(j)) {
        error_set(e, "no executable memory for translated code");
        jit_free(j);
        return NULL;
    }
    return j;
}

static void free_arena(struct jit *j)
{
    while (j->arena) {
        struct jit_arena *next = j->arena->next;
        free(j->arena);
        j->arena = next;
    }
}

void jit_free(struct jit *j)
{
    if (!j)
        return;
    if (j->write && j->write != MAP_FAILED)
        munmap(j->write, j->limit);
    if (j->run && j->run != MAP_FAILED)
        munmap(j->run, j->limit);
    for (unsigned i = 0; i < PHYS_MMUS_MAX; i++)
        free(j->jumps[i]);
    free_arena(j);
    if (j->perf_map)
        fclose(j->perf_map);
    free(j);
}

void *jit_allocate(struct jit *j, size_t n)
{
    n = ALIGN_UP(n, 16);
    if (!j->arena || j->arena->used + n > sizeof(j->arena->bytes)) {
        struct jit_arena *a = malloc(sizeof(*a));
        if (!a)
            return NULL;
        a->next = j->arena;
        a->used = 0;
        j->arena = a;
    }
    void *p = j->arena->bytes + j->arena->used;
    j->arena->used += n;
    return p;
}

static void *runnable(const struct jit *j, const uint8_t *at)
{
    return j->run + (at - j->write);
}

bool jit_full(const struct jit *j)
{
    return j->used + BLOCK_ROOM > j->limit;
}

bool jit_translate(struct jit *j, struct cpu *cpu, struct block *b)
{
    struct emit *e = &j->emit;
    if (b->refused || jit_full(j))
        return false;
    b->jit = jit_allocate(j, sizeof(*b->jit));
    if (!b->jit)
        return false;
    *b->jit = (struct jit_block){.in = NULL};
    e->j = j;
    e->cpu = cpu;
    e->b = b;
    /* Behind the end some bytes stay free: a jump is patched before anybody sees that the buffer is full. */
    e->a = (struct asm_buf){.at = j->write + j->used, .end = j->write + j->used + BLOCK_ROOM - 64};
    if (!emit_block(e)) {
        b->refused = true;
        b->jit = NULL;
        j->stats.refused++;
        return false;
    }
    b->code = runnable(j, b->jit->entry);
    size_t size = (size_t)(e->a.at - b->jit->entry);
    j->used += ALIGN_UP(size, 16);
    j->stats.blocks++;
    j->stats.bytes += size;
    if (unlikely(trace_on(cpu->trace, TRACE_out_asm)))
        dump_host_code(cpu, b, b->code, size);
    if (j->perf_map)
        fprintf(j->perf_map, "%lx %zx guest_%llx_%x\n", (unsigned long)(uintptr_t)b->code, size,
                (unsigned long long)b->gpa, b->key);
    return true;
}

/* The place in the table of code for a block: one line of the host's cache says what the chains of the block
 * cache would say in several. */
static struct jit_place *place_of(struct jit *j, gpa_t gpa, uint32_t key)
{
    uint64_t h = (gpa ^ (uint64_t)key << 32 ^ key) * 0x9e3779b97f4a7c15ull;
    return &j->places[h >> (64 - JIT_PLACE_BITS)];
}

/* -- Edges --------------------------------------------------------------------------------------------- */

void jit_link(struct jit *j, struct jit_edge *edge, struct block *to)
{
    if (edge->dead || edge->to || !to->jit)
        return;
    asm_patch(edge->jump, to->jit->entry);
    edge->to = to;
    edge->next_in = to->jit->in;
    to->jit->in = edge;
    j->stats.links++;
}

/* Entries of the jump cache may still lead here: the first instruction becomes a jump that leaves. */
void jit_drop(struct jit *j, struct block *b)
{
    struct jit_block *jb = b->jit;
    if (!jb)
        return;
    for (struct jit_edge *e = jb->in; e; e = e->next_in) {
        asm_patch(e->jump, e->stub);
        e->to = NULL;
    }
    jb->in = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(jb->out); i++)
        if (jb->out[i])
            jb->out[i]->dead = true;
    jb->entry[0] = 0xe9;
    asm_patch(jb->entry + 1, jb->dead);
    struct jit_place *p = place_of(j, b->gpa, b->key);
    if (p->code == b->code)
        p->code = NULL;
    b->code = NULL;
    b->jit = NULL;
}

void jit_flush(struct jit *j)
{
    for (unsigned i = 0; i < PHYS_MMUS_MAX; i++)
        if (j->jumps[i])
            memset(j->jumps[i], 0, sizeof(struct jit_jump) * JIT_JUMPS);
    memset(j->places, 0, sizeof(j->places));
    free_arena(j);
    j->used = j->start;
    j->stats.flushes++;
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
    return (unsigned)(rip ^ rip >> JIT_JUMP_BITS) & ((1u << JIT_JUMP_BITS) - 1);
}

/* The code of a block in RAM that is there already and whose page the context knows: all that needs no walk
 * and cannot fault. */
void *jit_find(struct cpu *cpu, uint64_t rip)
{
    struct jit *j = cpu->code->jit;
    const struct tlb *t = cpu->tlb;
    unsigned i = (unsigned)(rip >> PAGE_SHIFT) & ((1u << TLB_EXEC_BITS) - 1);
    uint64_t page = rip & ~PAGE_MASK;
    if (!(cpu->key & KEY_L) || t->exec[i].tag != page)
        return NULL;
    gpa_t gpa = t->exec[i].gpa + (rip & PAGE_MASK);
    const struct jit_place *p = place_of(j, gpa, cpu->key);
    if (p->gpa != gpa || p->key != cpu->key || !p->code || !phys_page(cpu->phys, gpa))
        return NULL;
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
    if (!(b->key & (KEY_L | KEY_FLAT)) || !phys_page(cpu->phys, b->gpa))
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
    cpu->jit_stack = 0;
    if (cpu->cc_op)
        jit_settle_flags(cpu);
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
    struct jit *j = cpu->code->jit;
    ((unwind_fn *)runnable(j, j->unwind))(cpu, event);
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

bool jit_attach(struct code_cache *c, uint32_t hot, struct error *e)
{
    *e = (struct error){0};
    c->jit = jit_new(LIMIT_DEFAULT, e);
    c->hot = hot ? hot : HOT_DEFAULT;
    return c->jit != NULL;
}

bool jit_perf_map(struct jit *j, struct error *e)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    j->perf_map = fopen(path, "w");
    if (!j->perf_map)
        return error_set(e, "%s: cannot be written", path);
    return true;
}
