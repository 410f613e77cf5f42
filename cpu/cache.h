/*
 * cpu/cache.h -- the cache of translated blocks, shared by a machine's processors.
 *
 * Blocks hang off a hash of (guest-physical address, key) and off a list for each RAM page. A page with
 * blocks is observed (OBSERVE_CODE); a write drops exactly the blocks that it overlaps. A dropped block stays
 * allocated until no processor can be running it.
 */
#ifndef CPU_CACHE_H
#define CPU_CACHE_H

#include "cpu/exec.h"

#define JUMP_BITS 12

/* Remembers where a RIP led, in one context, while no instruction translation has changed. */
struct jump_entry {
    uint64_t rip, cs_base;
    uint64_t page;       /* REG_PAGE for it */
    uint64_t generation; /* mmu.generation */
    const struct tlb *tlb;
    struct block *block;
    uint32_t key;
};

struct code_cache_stats {
    uint64_t translated, dropped, cleared, code_writes;
};

#define CACHE_HASH_BITS 16

struct code_cache {
    struct phys *phys;
    struct block *hash[1u << CACHE_HASH_BITS];
    struct block **pages; /* first block of each RAM page */
    uint64_t page_count;
    struct block *dead;                      /* dropped, not yet freed; linked by hash_next */
    uint64_t bytes, limit;                   /* of live and dead blocks */
    struct jump_entry *jumps[PHYS_MMUS_MAX]; /* by processor, allocated at its first run */
    struct ir *ir;                           /* scratch of the translator */
    struct jit *jit;                         /* back end, or NULL */
    struct profile *profile;                 /* --profile, or NULL */
    uint32_t hot;                            /* runs of a block before it is translated */
    struct code_cache_stats stats;
};

struct block *code_cache_find(struct code_cache *c, gpa_t gpa, uint32_t key);
/* Copies what is in c->ir into a new block and enters it; observes its pages. NULL when memory is short. */
struct block *code_cache_add(struct code_cache *c, gpa_t gpa, gpa_t gpa2, uint32_t key);
void code_cache_drop(struct code_cache *c, struct block *b);
/* path.c: a block that goes on where b nearly always goes, in place of b, which is dropped; NULL: there is no
 * such way, b stays. */
struct block *path_extend(struct cpu *cpu, struct block *b);
/* Called between blocks only: frees dropped blocks, clears everything when over the limit. */
void code_cache_collect(struct code_cache *c);

static inline unsigned jump_hash(uint64_t rip)
{
    return (unsigned)(rip ^ rip >> JUMP_BITS) & ((1u << JUMP_BITS) - 1);
}

#endif
