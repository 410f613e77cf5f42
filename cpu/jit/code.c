/*
 * cpu/jit/code.c -- code memory: regions that are filled in turn, the blocks in them, the edges between
 * blocks.
 *
 * Code memory is seen twice, writable here and executable there (W^X): thunks, then regions of equal size. It
 * is shared and has no name, because `perf` looks into its map for such memory only. Each region has an arena
 * for what is known of its blocks. When the region that is being filled is full, the next one, which is the
 * oldest, is emptied: its blocks lose their code, jumps into it lead to their stubs again, and the jump
 * caches are cleared. The blocks themselves stay, and are translated again when they are met.
 *
 * Promise: nothing outside a region points into its arena or its code once it is empty. An edge is in the
 * list of the block that it leads to, and leaves that list when either end goes.
 */
#define _GNU_SOURCE
#include "cpu/jit/emit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__x86_64__)

#define REGION_SIZE_LEAST (64u << 10)
#define THUNK_ROOM        (64u << 10)

bool jit_code_init(struct jit *j, size_t limit, struct error *e)
{
    size_t count = limit / REGION_SIZE_LEAST;
    j->region_count = (unsigned)MAX(MIN(count, (size_t)JIT_REGIONS_MAX), 2u);
    size_t each = ALIGN_UP(limit / j->region_count, 64);
    j->size = ALIGN_UP(THUNK_ROOM + j->region_count * each, PAGE_SIZE);
    for (unsigned i = 0; i < j->region_count; i++) {
        j->regions[i].start = THUNK_ROOM + i * each;
        j->regions[i].end = j->regions[i].start + each;
    }
    j->write = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (j->write == MAP_FAILED)
        return error_set(e, "no memory for translated code");
    /* An old size of 0 maps the same pages once more. */
    j->run = mremap(j->write, 0, j->size, MREMAP_MAYMOVE);
    if (j->run == MAP_FAILED || mprotect(j->run, j->size, PROT_READ | PROT_EXEC) ||
        !jit_make_thunks(j, THUNK_ROOM))
        return error_set(e, "no executable memory for translated code");
    return true;
}

/* -- Arenas -------------------------------------------------------------------------------------------- */

void *jit_allocate(struct jit *j, size_t n)
{
    struct jit_region *r = &j->regions[j->region];
    n = ALIGN_UP(n, 16);
    if (!r->arena || r->arena->used + n > sizeof(r->arena->bytes)) {
        struct jit_arena *a = malloc(sizeof(*a));
        if (!a)
            return NULL;
        a->next = r->arena;
        a->used = 0;
        r->arena = a;
    }
    void *p = r->arena->bytes + r->arena->used;
    r->arena->used += n;
    return p;
}

static void region_forget(struct jit_region *r)
{
    while (r->arena) {
        struct jit_arena *next = r->arena->next;
        free(r->arena);
        r->arena = next;
    }
    r->blocks = NULL;
    r->used = 0;
}

void jit_code_free(struct jit *j)
{
    for (unsigned i = 0; i < j->region_count; i++)
        region_forget(&j->regions[i]);
    if (j->write && j->write != MAP_FAILED)
        munmap(j->write, j->size);
    if (j->run && j->run != MAP_FAILED)
        munmap(j->run, j->size);
}

/* -- Edges --------------------------------------------------------------------------------------------- */

static void unlink_edge(struct jit_edge *e)
{
    if (!e->linked)
        return;
    asm_patch(e->jump, e->stub);
    *e->previous = e->next;
    if (e->next)
        e->next->previous = e->previous;
    e->linked = false;
}

void jit_link(struct jit *j, struct jit_edge *edge, struct block *to)
{
    struct jit_block *target = to->jit;
    if (edge->dead || edge->linked || !target)
        return;
    if (edge->operands & target->entry_writes) {
        asm_patch(edge->saved, target->entry);
        asm_patch(edge->jump, edge->save);
    } else {
        asm_patch(edge->jump, target->entry);
    }
    edge->linked = true;
    edge->next = target->in;
    edge->previous = &target->in;
    if (edge->next)
        edge->next->previous = &edge->next;
    target->in = edge;
    j->stats.links++;
}

static void unlink_block(struct jit *j, struct jit_block *jb)
{
    jit_forget_place(j, jb->block);
    jit_forget_measure(j, jb->block);
    while (jb->in)
        unlink_edge(jb->in);
    for (unsigned i = 0; i < jb->out_count; i++) {
        unlink_edge(jb->out[i]);
        jb->out[i]->dead = true;
    }
    jb->block->code = NULL;
    jb->block->jit = NULL;
    jb->block = NULL;
}

/* Entries of the jump cache may still lead here: the first instruction becomes a jump that leaves. */
void jit_drop(struct jit *j, struct block *b)
{
    struct jit_block *jb = b->jit;
    if (!jb)
        return;
    unlink_block(j, jb);
    jb->entry[0] = 0xe9;
    asm_patch(jb->entry + 1, jb->dead);
}

/* -- Regions ------------------------------------------------------------------------------------------- */

/* A block whose code is [entry, end) is complete. */
void jit_code_add(struct jit *j, struct block *b)
{
    struct jit_region *r = &j->regions[j->region];
    struct jit_block *jb = b->jit;
    jb->block = b;
    jb->next = r->blocks;
    r->blocks = jb;
    r->used = (size_t)ALIGN_UP((uintptr_t)(jb->end - j->write), 16) - r->start;
}

void jit_next_region(struct jit *j)
{
    j->region = (j->region + 1) % j->region_count;
    struct jit_region *r = &j->regions[j->region];
    if (!r->used)
        return;
    for (struct jit_block *jb = r->blocks; jb; jb = jb->next)
        if (jb->block) {
            unlink_block(j, jb);
            j->stats.evicted++;
        }
    region_forget(r);
    jit_forget_jumps(j);
    j->stats.evictions++;
    jit_perf_rewrite(j);
}

void jit_flush(struct jit *j)
{
    for (unsigned i = 0; i < j->region_count; i++)
        region_forget(&j->regions[i]);
    j->region = 0;
    memset(j->places, 0, sizeof(j->places));
    memset(j->measures, 0, sizeof(j->measures));
    jit_forget_jumps(j);
    j->stats.flushes++;
    jit_perf_rewrite(j);
}

#endif
