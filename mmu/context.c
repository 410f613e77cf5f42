/*
 * mmu/context.c -- the pool of TLB contexts of a processor: choosing one for a mode, recycling, life of
 * struct mmu.
 *
 * Reads:  struct mmu_mode.   Writes: which context is current.
 * A context is made when it is first needed, so the memory of those that are not stays untouched; recycling
 * clears only the slots that were filled. Its numbers in the tags of the shared caches are changed to forget
 * what it has there.
 * Not here: what a context holds (tlb.c).
 * Tests:  tests/unit/test_mmu_tlb.c, tests/unit/test_mmu_cache.c
 */
#include <stdlib.h>
#include <string.h>

#include "mmu/internal.h"

/* How many contexts are looked at to find one that was not used lately. */
#define TAKE_CANDIDATES 2u

#define CONTEXTS_SIZE (MMU_CONTEXTS * sizeof(struct tlb))

_Static_assert(sizeof(struct mmu_mode) == 96,
               "mode_hash reads it as words, and mode_equal knows each member");
_Static_assert(MMU_CONTEXTS <= 128 && MMU_CONTEXTS % 64 == 0 && PHYS_MMUS_MAX <= 64,
               "owner names have 7 bits and 6");

/* -- Shared caches -----------------------------------------------------------------------------------------
 */

static void tlb2_renumber(struct mmu_pool *pool)
{
    memset(pool->tlb2, 0, sizeof pool->tlb2);
    pool->tlb2_next = 1;
    for (unsigned i = 0; i < pool->made; i++)
        pool->contexts[i].tlb2_id = pool->tlb2_next++;
}

void context_forget_tlb2(struct mmu_context *c)
{
    struct mmu_pool *pool = mmu_pool(c->mmu);
    if (unlikely(pool->tlb2_next > CACHE_ID_MAX))
        tlb2_renumber(pool);
    c->tlb2_id = pool->tlb2_next++;
}

static void psc_renumber(struct mmu_pool *pool)
{
    memset(pool->psc, 0, sizeof pool->psc);
    pool->psc_next = 1;
    for (unsigned i = 0; i < pool->made; i++)
        pool->contexts[i].psc_id = pool->psc_next++;
}

void context_forget_psc(struct mmu_context *c)
{
    struct mmu_pool *pool = mmu_pool(c->mmu);
    if (unlikely(pool->psc_next > CACHE_ID_MAX))
        psc_renumber(pool);
    c->psc_id = pool->psc_next++;
}

void context_exec_dropped(struct mmu_context *c)
{
    memset(c->exec_evicted, 0, sizeof c->exec_evicted);
    if (c->tlb == c->mmu->current)
        c->mmu->generation++;
    else /* no jump of this context is taken before it is selected */
        c->exec_stale = true;
}

void contexts_each(struct phys *p, void (*fn)(struct mmu_context *c, void *arg), void *arg)
{
    for (uint32_t i = 0; i < p->mmu_count; i++) {
        if (!p->mmus[i])
            continue;
        struct mmu_pool *pool = mmu_pool(p->mmus[i]);
        for (unsigned j = 0; j < pool->made; j++) {
            if (pool->contexts[j].used)
                fn(&pool->contexts[j], arg);
        }
    }
}

/* -- Choosing a context ------------------------------------------------------------------------------------
 */

static bool mode_equal(const struct mmu_mode *a, const struct mmu_mode *b)
{
    /* By members: the mode to be selected has just been written member by member, and wider loads would wait
     * for that; so small members must not stand side by side here. What changes most often comes first. */
    return a->cr3 == b->cr3 && a->cpl == b->cpl && a->eptp == b->eptp && a->ept == b->ept &&
           a->cr0 == b->cr0 && a->ac == b->ac && a->cr4 == b->cr4 && a->pkru == b->pkru &&
           a->efer == b->efer && a->maxphyaddr == b->maxphyaddr && a->apic_page == b->apic_page &&
           a->mbe == b->mbe && a->pdpte[0] == b->pdpte[0] && a->pdpte[1] == b->pdpte[1] &&
           a->pdpte[2] == b->pdpte[2] && a->pdpte[3] == b->pdpte[3];
}

static uint64_t mode_hash(const struct mmu_mode *mode)
{
    uint64_t words[sizeof *mode / 8], h = 0;
    memcpy(words, mode, sizeof words);
    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        h = (h ^ words[i]) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    return h;
}

/* The set for a mode among the recent ones: cheap, over what changes between selections. */
static struct mmu_recent *recent_set(struct mmu_pool *pool, const struct mmu_mode *mode)
{
    const uint64_t x = mode->cr3 ^ mode->eptp << 7 ^ (uint64_t)mode->cpl << 33 ^ (uint64_t)mode->ac << 35 ^
                       (uint64_t)mode->ept << 36 ^ mode->apic_page << 20 ^ mode->cr0 >> 31 << 37;
    return pool->recent[x * 0x9e3779b97f4a7c15ull >> (64 - RECENT_BITS)];
}

static uint16_t *chain_of(struct mmu_pool *pool, uint64_t hash)
{
    return &pool->chains[hash % CHAINS_COUNT];
}

static void chain_remove(struct mmu_pool *pool, const struct mmu_context *c)
{
    uint16_t *at = chain_of(pool, c->hash);
    while (&pool->contexts[*at - 1] != c)
        at = &pool->contexts[*at - 1].next;
    *at = c->next;
}

static struct mmu_context *context_make(struct mmu *m)
{
    struct mmu_pool *pool = mmu_pool(m);
    const unsigned index = pool->made++;
    struct mmu_context *c = &pool->contexts[index];
    c->mmu = m;
    c->tlb = &m->contexts[index];
    c->tlb->index = index;
    c->owner = (uint16_t)(pool->slot << 7 | index);
    context_make_tables(c);
    context_forget_tlb2(c);
    context_forget_psc(c);
    return c;
}

/*
 * A context to be given a new mode: of some picked at random the one that was used least recently, never the
 * current one. Strictly the oldest of all would be found more slowly, and when more address spaces than
 * contexts take turns it would always be the one that is needed next.
 */
static struct mmu_context *context_take(struct mmu *m)
{
    struct mmu_pool *pool = mmu_pool(m);
    struct mmu_context *best = NULL;
    if (pool->made < pool->limit)
        return context_make(m);
    for (unsigned i = 0; i < TAKE_CANDIDATES || !best; i++) {
        pool->random = pool->random * 6364136223846793005ull + 1442695040888963407ull;
        struct mmu_context *c = &pool->contexts[(pool->random >> 33) % pool->made];
        if (c->tlb != m->current && (!best || c->stamp < best->stamp))
            best = c;
    }
    context_reset(best);
    chain_remove(pool, best);
    return best;
}

static struct mmu_context *context_find(struct mmu *m, const struct mmu_mode *mode)
{
    struct mmu_pool *pool = mmu_pool(m);
    struct mmu_mode normal;
    mode_normalise(&normal, mode);
    const uint64_t hash = mode_hash(&normal);
    uint16_t *chain = chain_of(pool, hash);
    for (unsigned at = *chain; at; at = pool->contexts[at - 1].next) {
        struct mmu_context *c = &pool->contexts[at - 1];
        if (c->hash == hash && mode_equal(&c->tlb->mode, &normal))
            return c;
    }
    struct mmu_context *c = context_take(m);
    c->tlb->mode = normal;
    c->tlb->used = c->used = true;
    c->serial++;
    c->hash = hash;
    c->next = *chain;
    *chain = (uint16_t)(c->tlb->index + 1);
    c->ept = normal.ept;
    rules_make(&c->rules, &normal);
    return c;
}

struct ept_space *context_space(struct mmu_context *c)
{
    if (!c->ept)
        return NULL;
    if (!c->space) {
        const struct mmu_mode *mode = &c->tlb->mode;
        ept_rules_make(&c->ept_rules, c->mmu, mode->eptp, mode->maxphyaddr, mode->mbe);
        c->space = ept_space_find(c->mmu->phys, &c->ept_rules);
    }
    c->space->stamp = ++phys_tables(c->mmu->phys)->clock;
    return c->space;
}

static bool recent_is(const struct mmu_recent *r, const struct mmu_mode *mode)
{
    return r->context && mode_equal(&r->mode, mode) && r->serial == r->context->serial;
}

static struct tlb *make_current(struct mmu *m, struct mmu_recent *r)
{
    struct mmu_pool *pool = mmu_pool(m);
    struct mmu_context *c = r->context;
    if (pool->selected != r)
        pool->previous = pool->selected;
    c->stamp = ++pool->clock;
    pool->selected = r;
    if (m->current != c->tlb) {
        m->stats.context_switches++;
        m->current = c->tlb;
        if (unlikely(c->exec_stale)) {
            c->exec_stale = false;
            m->generation++;
        }
    }
    return c->tlb;
}

struct tlb *mmu_select(struct mmu *m, const struct mmu_mode *mode)
{
    struct mmu_pool *pool = mmu_pool(m);
    /* VM exits and entries, system calls and interrupts go to and fro: the one before is the likely one, if
     * the mode has changed at all. */
    struct mmu_recent *r = pool->selected;
    if (!r || !recent_is(r, mode))
        r = pool->previous;
    if (!r || !recent_is(r, mode)) {
        struct mmu_recent *set = recent_set(pool, mode);
        for (r = set; r < set + RECENT_WAYS && !recent_is(r, mode);)
            r++;
        if (unlikely(r == set + RECENT_WAYS)) {
            struct mmu_context *c = context_find(m, mode);
            memmove(set + 1, set, (RECENT_WAYS - 1) * sizeof *set);
            r = set;
            *r = (struct mmu_recent){
                .mode = *mode, .context = c, .serial = c->serial, .id = ++pool->recent_next};
        }
    }
    return make_current(m, r);
}

void mmu_remember(const struct mmu *m, struct mmu_choice *c)
{
    struct mmu_recent *r = mmu_pool(m)->selected;
    *c = (struct mmu_choice){.mode = r->mode, .recent = r, .id = r->id};
}

struct tlb *mmu_select_again(struct mmu *m, const struct mmu_choice *c)
{
    struct mmu_recent *r = c->recent;
    if (unlikely(!r || r->id != c->id || r->serial != r->context->serial))
        return NULL;
    return make_current(m, r);
}

bool mode_system(const struct mmu_mode *mode, struct mmu_mode *system)
{
    *system = *mode;
    system->cpl = 0;
    system->ac = false; /* RFLAGS.AC does not lift SMAP from implicit accesses */
    return mode->cpl != 3 && !mode->ac;
}

struct mmu_context *context_system(struct mmu *m)
{
    struct mmu_pool *pool = mmu_pool(m);
    struct mmu_recent *r = pool->selected;
    struct mmu_mode system;
    if (mode_system(&r->mode, &system))
        return r->context;
    if (!r->system || r->system_serial != r->system->serial) {
        r->system = context_find(m, &system);
        r->system_serial = r->system->serial;
    }
    r->system->stamp = ++pool->clock;
    return r->system;
}

/* -- Life --------------------------------------------------------------------------------------------------
 */

bool mmu_init(struct mmu *m, struct phys *p, struct error *e)
{
    memset(m, 0, sizeof *m);
    m->phys = p;
    uint32_t slot = 0;
    while (slot < p->mmu_count && p->mmus[slot])
        slot++;
    if (slot == PHYS_MMUS_MAX)
        return error_set(e, "more than %d processors", PHYS_MMUS_MAX);
    if (!tables_init(p, e))
        return false;
    m->contexts = memory_reserve(CONTEXTS_SIZE);
    struct mmu_pool *pool = calloc(1, sizeof *pool);
    if (!m->contexts || !pool) {
        memory_release(m->contexts, CONTEXTS_SIZE);
        free(pool);
        m->contexts = NULL;
        return error_set(e, "no memory for the TLB");
    }
    m->walk_cache = pool;
    pool->slot = slot;
    pool->limit = MMU_CONTEXTS;
    pool->tlb2_next = pool->psc_next = 1;
    pool->tlb2_mask = TLB2_SETS - 1;
    pool->psc_mask = PSC_COUNT - 1;
    p->mmus[slot] = m;
    p->mmu_count = MAX(p->mmu_count, slot + 1);
    const struct mmu_mode real_mode = {.maxphyaddr = 52};
    mmu_select(m, &real_mode);
    return true;
}

void mmu_free(struct mmu *m)
{
    if (!m->contexts)
        return;
    for (unsigned i = 0; i < mmu_pool(m)->made; i++)
        context_reset(&mmu_pool(m)->contexts[i]);
    m->phys->mmus[mmu_pool(m)->slot] = NULL;
    memory_release(m->contexts, CONTEXTS_SIZE);
    free(m->walk_cache);
    memset(m, 0, sizeof *m);
}

static bool mmu_after_load(void *s, struct error *e)
{
    (void)e;
    mmu_drop_all(s);
    return true;
}

static const struct state_field pml_fields[] = {
    STATE(struct mmu_pml, enabled),
    STATE(struct mmu_pml, address),
    STATE_SKIP(struct mmu_pml, index, "wiring"),
};
static const struct state_desc pml_state = STATE_DESC("pml", struct mmu_pml, 1, pml_fields, NULL);

static const struct state_field mmu_fields[] = {
    STATE_SKIP(struct mmu, phys, "wiring"),
    STATE_SKIP(struct mmu, contexts, "translations are no state"),
    STATE_SKIP(struct mmu, current, "selected anew by the processor"),
    STATE_SUB(struct mmu, pml, pml_state),
    STATE(struct mmu, ept_ad_supported),
    STATE(struct mmu, ept_execute_only),
    STATE_SKIP(struct mmu, generation, "translations are no state"),
    STATE_SKIP(struct mmu, stack_drops, "translations are no state"),
    STATE_SKIP(struct mmu, local_apic, "derived: lapic_place()"),
    STATE_SKIP(struct mmu, verify, "option"),
    STATE_SKIP(struct mmu, stats, "counts of the host"),
    STATE_SKIP(struct mmu, walk_cache, "translations are no state"),
};
const struct state_desc mmu_state = STATE_DESC("mmu", struct mmu, 1, mmu_fields, mmu_after_load);
