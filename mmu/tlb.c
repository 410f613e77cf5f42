/*
 * mmu/tlb.c -- TLB contexts: choosing one for a mode, filling it, dropping from it; the interface of mmu/.
 *
 * Reads:  struct mmu_mode.   Writes: the tables that translated code looks into.
 * Invariants: a write entry exists only for a page without observers whose dirty flags are set; an entry's
 *         tables are in the dependency store (tables.c) under the context's name.
 * Not here: walks (walk.c, ept.c), what a write to tables drops (tables.c).
 * Tests:  tests/unit/test_mmu_tlb.c
 */
#include <stdlib.h>
#include <string.h>

#include "mmu/internal.h"

#define EXEC_ENTRIES (1u << TLB_EXEC_BITS)
#define CHUNKS       32u

_Static_assert(sizeof(struct mmu_mode) == 88, "mode_equal and mode_hash read it as words without padding");
_Static_assert(MMU_CONTEXTS <= 64 && PHYS_MMUS_MAX <= 64, "owner names are 6 bits of each");

/* -- Tables ------------------------------------------------------------------------------------------------
 */

static unsigned exec_index(gva_t linear)
{
    return (unsigned)(linear >> PAGE_SHIFT) & (EXEC_ENTRIES - 1);
}

/* A page address that belongs to another slot, so that no address hits it. */
static uint64_t empty_tag(unsigned index, unsigned count)
{
    return index == count - 1 ? 0 : ~0ull;
}

static void entries_clear(struct tlb_entry *entries, uint32_t *filled)
{
    const unsigned chunk = TLB_ENTRIES / CHUNKS;
    for (uint32_t left = *filled; left; left &= left - 1)
        memset(&entries[(unsigned)__builtin_ctz(left) * chunk], 0xff, chunk * sizeof entries[0]);
    entries[TLB_ENTRIES - 1].tag = empty_tag(TLB_ENTRIES - 1, TLB_ENTRIES);
    *filled = 0;
}

static void exec_clear(struct mmu_context *c)
{
    const unsigned chunk = EXEC_ENTRIES / CHUNKS;
    for (uint32_t left = c->exec_filled; left; left &= left - 1)
        memset(&c->tlb->exec[(unsigned)__builtin_ctz(left) * chunk], 0xff, chunk * sizeof c->tlb->exec[0]);
    c->tlb->exec[EXEC_ENTRIES - 1].tag = empty_tag(EXEC_ENTRIES - 1, EXEC_ENTRIES);
    c->exec_filled = 0;
}

static void tlb_clear(struct mmu_context *c)
{
    entries_clear(c->tlb->read, &c->read_filled);
    entries_clear(c->tlb->write, &c->write_filled);
    exec_clear(c);
}

static void entry_set(struct tlb_entry *entries, uint32_t *filled, gva_t page, uint8_t *host)
{
    const unsigned index = tlb_index(page);
    entries[index] = (struct tlb_entry){.tag = page, .host = host};
    *filled |= 1u << (index / (TLB_ENTRIES / CHUNKS));
}

/* The page may be written through slot `index` of some context's write table. */
static void page_hint(struct phys_page *page, unsigned index)
{
    if (page->write_hint == WRITE_HINT_NONE) {
        page->write_hint = WRITE_HINT_ONE;
        page->write_slot = (uint16_t)index;
    } else if (page->write_slot != index) {
        page->write_hint = WRITE_HINT_MANY;
    }
}

static void tlb_fill(struct mmu_context *c, gva_t linear, enum mmu_access access, const struct walk_result *r)
{
    struct phys *p = c->mmu->phys;
    const gva_t page = linear & ~PAGE_MASK;
    uint8_t *host = phys_page_host(p, r->gpa);
    /* Accesses to the APIC-access page are virtualized one by one (SDM 3C, "Virtualizing Memory-Mapped APIC
     * Accesses"). */
    if (!host || ((r->gpa & ~PAGE_MASK) | 1) == c->tlb->mode.apic_page)
        return;
    c->mmu->stats.fills++;
    if (access == MMU_EXEC) {
        const unsigned index = exec_index(page);
        c->tlb->exec[index].tag = page;
        c->tlb->exec[index].gpa = r->gpa & ~PAGE_MASK;
        c->exec_filled |= 1u << (index / (EXEC_ENTRIES / CHUNKS));
        return;
    }
    if (r->can & CAN_READ)
        entry_set(c->tlb->read, &c->read_filled, page, host);
    struct phys_page *info = phys_page(p, r->gpa);
    if ((r->can & CAN_WRITE) && r->dirty && !info->observers) {
        entry_set(c->tlb->write, &c->write_filled, page, host);
        page_hint(info, tlb_index(page));
    }
}

/* -- Drops -------------------------------------------------------------------------------------------------
 */

static void entries_drop_range(struct tlb_entry *entries, uint32_t filled, gva_t linear, uint64_t span)
{
    const unsigned chunk = TLB_ENTRIES / CHUNKS;
    for (; filled; filled &= filled - 1) {
        const unsigned first = (unsigned)__builtin_ctz(filled) * chunk;
        for (unsigned i = first; i < first + chunk; i++) {
            if (entries[i].tag - linear < span)
                entries[i].tag = empty_tag(i, TLB_ENTRIES);
        }
    }
}

static void psc_drop_range(struct mmu_context *c, gva_t linear, uint64_t span)
{
    const uint64_t first = linear >> PSC_SHIFT, last = (linear + (span - 1)) >> PSC_SHIFT;
    for (unsigned i = 0; c->psc_filled && i < PSC_COUNT; i++) {
        if (c->psc[i].tag - first <= last - first)
            c->psc[i].tag = ~0ull;
    }
}

static void context_drop_page(struct mmu_context *c, gva_t page)
{
    const unsigned index = tlb_index(page), exec = exec_index(page);
    if (c->tlb->read[index].tag == page)
        c->tlb->read[index].tag = empty_tag(index, TLB_ENTRIES);
    if (c->tlb->write[index].tag == page)
        c->tlb->write[index].tag = empty_tag(index, TLB_ENTRIES);
    if (c->tlb->exec[exec].tag == page)
        c->tlb->exec[exec].tag = empty_tag(exec, EXEC_ENTRIES);
}

void context_drop_range(struct mmu_context *c, gva_t linear, uint64_t span)
{
    c->mmu->stats.drops++;
    if (span == PAGE_SIZE) {
        context_drop_page(c, linear);
        return;
    }
    c->mmu->generation++;
    psc_drop_range(c, linear, span);
    entries_drop_range(c->tlb->read, c->read_filled, linear, span);
    entries_drop_range(c->tlb->write, c->write_filled, linear, span);
    for (unsigned i = 0; c->exec_filled && i < EXEC_ENTRIES; i++) {
        if (c->tlb->exec[i].tag - linear < span)
            c->tlb->exec[i].tag = empty_tag(i, EXEC_ENTRIES);
    }
}

static void entries_drop_host(struct tlb_entry *entries, uint32_t filled, const uint8_t *host, uint64_t span)
{
    const unsigned chunk = TLB_ENTRIES / CHUNKS;
    for (; filled; filled &= filled - 1) {
        const unsigned first = (unsigned)__builtin_ctz(filled) * chunk;
        for (unsigned i = first; i < first + chunk; i++) {
            if ((uint64_t)((uintptr_t)entries[i].host - (uintptr_t)host) < span)
                entries[i].tag = empty_tag(i, TLB_ENTRIES);
        }
    }
}

void context_drop_target(struct mmu_context *c, gpa_t gpa, uint64_t span)
{
    const uint8_t *host = phys_page_host(c->mmu->phys, gpa);
    c->mmu->stats.drops++;
    c->mmu->generation++;
    entries_drop_host(c->tlb->read, c->read_filled, host, span);
    entries_drop_host(c->tlb->write, c->write_filled, host, span);
    for (unsigned i = 0; c->exec_filled && i < EXEC_ENTRIES; i++) {
        if (c->tlb->exec[i].gpa - gpa < span)
            c->tlb->exec[i].tag = empty_tag(i, EXEC_ENTRIES);
    }
}

void context_forget_node(struct mmu_context *c, uint32_t node)
{
    for (unsigned i = 0; c->psc_filled && i < PSC_COUNT; i++) {
        if (c->psc[i].node == node)
            c->psc[i].tag = ~0ull;
    }
}

void context_reset(struct mmu_context *c)
{
    struct tables *t = phys_tables(c->mmu->phys);
    tlb_clear(c);
    if (c->psc_filled)
        memset(c->psc, 0xff, sizeof c->psc);
    c->psc_filled = false;
    tables_free_owner(t, &c->nodes);
    c->space = NULL;
    c->mmu->generation++;
    c->mmu->stats.drops++;
    t->drops++;
}

void contexts_each(struct phys *p, void (*fn)(struct mmu_context *c, void *arg), void *arg)
{
    for (uint32_t i = 0; i < p->mmu_count; i++) {
        if (!p->mmus[i])
            continue;
        for (unsigned j = 0; j < MMU_CONTEXTS; j++) {
            struct mmu_context *c = &mmu_pool(p->mmus[i])->contexts[j];
            if (c->tlb->used)
                fn(c, arg);
        }
    }
}

void mmu_drop_all(struct mmu *m)
{
    struct tables *t = phys_tables(m->phys);
    for (unsigned i = 0; i < MMU_CONTEXTS; i++)
        context_reset(&mmu_pool(m)->contexts[i]);
    for (unsigned i = 0; i < EPT_SPACES; i++) {
        if (t->spaces[i].used)
            ept_space_reset(m->phys, &t->spaces[i]);
        t->spaces[i].used = false;
    }
}

void mmu_drop_write_host(struct mmu *m, const uint8_t *host_page)
{
    const struct phys *p = m->phys;
    const struct phys_page *page = &p->pages[(uint64_t)(host_page - p->ram) >> PAGE_SHIFT];
    if (page->write_hint == WRITE_HINT_NONE)
        return;
    for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
        struct mmu_context *c = &mmu_pool(m)->contexts[i];
        if (!c->write_filled)
            continue;
        if (page->write_hint == WRITE_HINT_MANY) {
            entries_drop_host(c->tlb->write, c->write_filled, host_page, PAGE_SIZE);
            continue;
        }
        struct tlb_entry *e = &c->tlb->write[page->write_slot];
        if (e->host == host_page)
            e->tag = empty_tag(page->write_slot, TLB_ENTRIES);
    }
}

/* -- Choosing a context ------------------------------------------------------------------------------------
 */

static bool mode_equal(const struct mmu_mode *a, const struct mmu_mode *b)
{
    /* By words: the mode to be selected has just been written word by word, and wider loads would wait for
     * it. */
    const uint64_t *x = (const uint64_t *)a, *y = (const uint64_t *)b;
    for (unsigned i = 0; i < sizeof *a / 8; i++)
        if (x[i] != y[i])
            return false;
    return true;
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

/* Takes the context that was used least recently, but never the current one. */
static struct mmu_context *context_take(struct mmu *m)
{
    struct mmu_pool *pool = mmu_pool(m);
    struct mmu_context *best = NULL;
    for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
        struct mmu_context *c = &pool->contexts[i];
        if (c->tlb == m->current)
            continue;
        if (!c->tlb->used) {
            best = c;
            break;
        }
        if (!best || c->stamp < best->stamp)
            best = c;
    }
    if (best->tlb->used)
        context_reset(best);
    for (unsigned i = 0; i < ARRAY_LEN(pool->recent) * RECENT_WAYS; i++) {
        struct mmu_recent *r = &pool->recent[i / RECENT_WAYS][i % RECENT_WAYS];
        if (r->context == best)
            r->context = NULL;
        if (r->system == best)
            r->system = NULL;
    }
    return best;
}

static struct mmu_context *context_find(struct mmu *m, const struct mmu_mode *mode)
{
    struct mmu_pool *pool = mmu_pool(m);
    struct mmu_mode normal;
    mode_normalise(&normal, mode);
    const uint64_t hash = mode_hash(&normal);
    for (unsigned i = 0; i < MMU_CONTEXTS; i++) {
        struct mmu_context *c = &pool->contexts[i];
        if (c->hash == hash && c->tlb->used && mode_equal(&c->tlb->mode, &normal))
            return c;
    }
    struct mmu_context *c = context_take(m);
    c->tlb->mode = normal;
    c->tlb->used = true;
    c->hash = hash;
    c->ept = normal.ept;
    rules_make(&c->rules, &normal);
    return c;
}

/* Binds the context to the space of its EPT pointer; a space may have been recycled since. */
static struct ept_space *context_space(struct mmu_context *c)
{
    if (!c->ept)
        return NULL;
    if (!c->space) {
        const struct mmu_mode *mode = &c->tlb->mode;
        ept_rules_make(&c->ept_rules, c->mmu, mode->eptp, mode->maxphyaddr);
        c->space = ept_space_find(c->mmu->phys, &c->ept_rules);
    }
    c->space->stamp = ++phys_tables(c->mmu->phys)->clock;
    return c->space;
}

static bool recent_is(const struct mmu_recent *r, const struct mmu_mode *mode)
{
    return r->context && mode_equal(&r->mode, mode);
}

struct tlb *mmu_select(struct mmu *m, const struct mmu_mode *mode)
{
    struct mmu_pool *pool = mmu_pool(m);
    /* VM exits and entries, system calls and interrupts go to and fro: the one before is the likely one. */
    struct mmu_recent *r = pool->previous;
    if (!r || !recent_is(r, mode)) {
        struct mmu_recent *set = recent_set(pool, mode);
        for (r = set; r < set + RECENT_WAYS && !recent_is(r, mode);)
            r++;
        if (unlikely(r == set + RECENT_WAYS)) {
            struct mmu_context *c = context_find(m, mode);
            memmove(set + 1, set, (RECENT_WAYS - 1) * sizeof *set);
            r = set;
            *r = (struct mmu_recent){.mode = *mode, .context = c};
        }
    }
    if (pool->selected != r)
        pool->previous = pool->selected;
    r->context->stamp = ++pool->clock;
    pool->selected = r;
    if (m->current != r->context->tlb) {
        m->stats.context_switches++;
        m->current = r->context->tlb;
    }
    return m->current;
}

static struct mmu_context *context_current(struct mmu *m)
{
    return &mmu_pool(m)->contexts[m->current->index];
}

static bool mode_system(const struct mmu_mode *mode, struct mmu_mode *system)
{
    *system = *mode;
    system->cpl = 0;
    system->ac = false; /* RFLAGS.AC does not lift SMAP from implicit accesses */
    return mode->cpl != 3 && !mode->ac;
}

/* The context for implicit supervisor accesses in the selected mode. */
static struct mmu_context *context_system(struct mmu *m)
{
    struct mmu_pool *pool = mmu_pool(m);
    struct mmu_recent *r = pool->selected;
    struct mmu_mode system;
    if (mode_system(&r->mode, &system))
        return r->context;
    if (!r->system)
        r->system = context_find(m, &system);
    r->system->stamp = ++pool->clock;
    return r->system;
}

/* -- Translations ------------------------------------------------------------------------------------------
 */

static gva_t linear_truncate(const struct walk_rules *r, gva_t linear)
{
    return r->paging->linear_bits > 32 ? linear : linear & 0xffffffff;
}

static gpa_t host_to_gpa(const struct phys *p, const uint8_t *host)
{
    const uint64_t off = (uint64_t)(host - p->ram);
    return off < p->low_size ? off : off - p->low_size + BIT(32);
}

static bool tlb_lookup(const struct mmu_context *c, gva_t linear, enum mmu_access access, gpa_t *gpa)
{
    const gva_t page = linear & ~PAGE_MASK;
    if (access == MMU_EXEC) {
        const unsigned index = exec_index(page);
        if (c->tlb->exec[index].tag != page)
            return false;
        *gpa = c->tlb->exec[index].gpa | (linear & PAGE_MASK);
        return true;
    }
    const struct tlb_entry *e = &(access == MMU_READ ? c->tlb->read : c->tlb->write)[tlb_index(page)];
    if (e->tag != page)
        return false;
    *gpa = host_to_gpa(c->mmu->phys, e->host) | (linear & PAGE_MASK);
    return true;
}

bool mmu_translate(struct mmu *m, gva_t linear, enum mmu_access access, unsigned flags, gpa_t *gpa,
                   struct mmu_fault *f)
{
    struct mmu_context *c = flags & MMU_SYSTEM ? context_system(m) : context_current(m);
    struct walk_result r;
    linear = linear_truncate(&c->rules, linear);
    if (tlb_lookup(c, linear, access, gpa)) {
        f->kind = MMU_OK;
        return true;
    }
    const bool room = tables_reserve(phys_tables(m->phys));
    struct ept_space *space = context_space(c);
    const struct walk_request q = {.m = m,
                                   .c = room ? c : NULL,
                                   .rules = &c->rules,
                                   .ept = space ? &c->ept_rules : NULL,
                                   .space = room ? space : NULL,
                                   .linear = linear,
                                   .access = access,
                                   .probe = flags & MMU_PROBE,
                                   .apic_page = c->tlb->mode.apic_page};
    if (!walk_run(&q, &r, f))
        return false;
    if (r.cacheable && !(flags & MMU_NO_FILL))
        tlb_fill(c, linear, access, &r);
    *gpa = r.gpa;
    return true;
}

bool mmu_walk(struct mmu *m, const struct mmu_mode *mode, gva_t linear, enum mmu_access access,
              unsigned flags, gpa_t *gpa, struct mmu_fault *f)
{
    struct mmu_mode system, normal;
    struct walk_rules rules;
    struct ept_rules ept;
    struct walk_result r;
    mode_system(mode, &system);
    mode_normalise(&normal, flags & MMU_SYSTEM ? &system : mode);
    rules_make(&rules, &normal);
    if (normal.ept)
        ept_rules_make(&ept, m, normal.eptp, normal.maxphyaddr);
    const struct walk_request q = {.m = m,
                                   .rules = &rules,
                                   .ept = normal.ept ? &ept : NULL,
                                   .linear = linear_truncate(&rules, linear),
                                   .access = access,
                                   .probe = flags & MMU_PROBE,
                                   .apic_page = normal.apic_page};
    if (!walk_run(&q, &r, f))
        return false;
    *gpa = r.gpa;
    return true;
}

bool mmu_translate_gpa(struct mmu *m, gpa_t gpa, enum mmu_access access, unsigned flags, gpa_t *out,
                       struct mmu_fault *f)
{
    struct mmu_context *c = context_current(m);
    const bool room = tables_reserve(phys_tables(m->phys));
    struct ept_space *space = context_space(c);
    struct walk_result r;
    memset(f, 0, sizeof *f);
    if (!space) {
        *out = gpa;
        return true;
    }
    const struct ept_request q = {.m = m,
                                  .rules = &c->ept_rules,
                                  .space = room ? space : NULL,
                                  .gpa = gpa,
                                  .access = access == MMU_READ    ? CAN_READ
                                            : access == MMU_WRITE ? CAN_WRITE
                                                                  : CAN_EXEC,
                                  .probe = flags & MMU_PROBE};
    if (!ept_translate(&q, &r, f))
        return false;
    *out = r.gpa;
    return true;
}

/* -- Verification ------------------------------------------------------------------------------------------
 */

static bool entry_verify(struct mmu_context *c, gva_t page, enum mmu_access access, gpa_t gpa)
{
    struct mmu *m = c->mmu;
    struct mmu_fault f;
    struct walk_result r;
    const struct walk_request q = {.m = m,
                                   .rules = &c->rules,
                                   .ept = c->ept ? &c->ept_rules : NULL,
                                   .linear = page,
                                   .access = access,
                                   .probe = true};
    if (!walk_run(&q, &r, &f) || r.gpa != gpa || !r.flags_complete)
        return false;
    return access != MMU_WRITE || !phys_page(m->phys, gpa)->observers;
}

uint32_t mmu_verify(struct mmu *m, gva_t *linear)
{
    struct mmu_context *c = context_current(m);
    const struct mmu_stats stats = m->stats;
    uint32_t differences = tables_verify(phys_tables(m->phys), linear);
    if (context_space(c))
        differences += ept_space_verify(m, c->space, linear);
    for (unsigned i = 0; i < TLB_ENTRIES * 2 + EXEC_ENTRIES; i++) {
        enum mmu_access access = i < TLB_ENTRIES ? MMU_READ : i < TLB_ENTRIES * 2 ? MMU_WRITE : MMU_EXEC;
        const unsigned index = i & (TLB_ENTRIES - 1);
        const struct tlb_entry *e = &(access == MMU_READ ? c->tlb->read : c->tlb->write)[index];
        const uint64_t tag = access == MMU_EXEC ? c->tlb->exec[index].tag : e->tag;
        const unsigned home = access == MMU_EXEC ? exec_index(tag) : tlb_index(tag);
        if ((tag & PAGE_MASK) || home != index)
            continue; /* empty */
        const gpa_t gpa = access == MMU_EXEC ? c->tlb->exec[index].gpa : host_to_gpa(m->phys, e->host);
        if (!entry_verify(c, tag, access, gpa) && differences++ == 0)
            *linear = tag;
    }
    m->stats = stats; /* verification is not work of the guest */
    return differences;
}

/* -- Life --------------------------------------------------------------------------------------------------
 */

static void context_init(struct mmu_context *c, struct mmu *m, unsigned index, unsigned slot)
{
    c->mmu = m;
    c->tlb = &m->contexts[index];
    c->tlb->index = index;
    c->owner = (uint16_t)(slot << 6 | index);
    c->read_filled = c->write_filled = c->exec_filled = ~0u;
    tlb_clear(c);
    memset(c->psc, 0xff, sizeof c->psc);
}

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
    m->contexts = calloc(MMU_CONTEXTS, sizeof m->contexts[0]);
    m->walk_cache = calloc(1, sizeof(struct mmu_pool));
    if (!m->contexts || !m->walk_cache) {
        free(m->contexts);
        free(m->walk_cache);
        m->contexts = NULL;
        m->walk_cache = NULL;
        return error_set(e, "no memory for the TLB");
    }
    for (unsigned i = 0; i < MMU_CONTEXTS; i++)
        context_init(&mmu_pool(m)->contexts[i], m, i, slot);
    mmu_pool(m)->slot = slot;
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
    for (unsigned i = 0; i < MMU_CONTEXTS; i++)
        context_reset(&mmu_pool(m)->contexts[i]);
    m->phys->mmus[mmu_pool(m)->slot] = NULL;
    free(m->contexts);
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
    STATE_SKIP(struct mmu, stats, "counts of the host"),
    STATE_SKIP(struct mmu, walk_cache, "translations are no state"),
};
const struct state_desc mmu_state = STATE_DESC("mmu", struct mmu, 1, mmu_fields, mmu_after_load);
