/*
 * mmu/ept.c -- the extended page tables: walks, violations, misconfigurations, flags, page-modification log.
 *
 * SDM 3C, "The Extended Page Table Mechanism (EPT)": "EPT-Induced VM Exits", "Accessed and Dirty Flags for
 * EPT", "Page-Modification Logging"; "Exit Qualification for EPT Violations". Reads:  EPT structures in RAM.
 * Writes: accessed and dirty flags, the page-modification log and its index, the dependency store.
 * Order:  at each level absence (violation) before misconfiguration; at the page its access rights; then the
 *         log; then the flags.
 * Not here: who makes the VM exit (cpu/vmx), bit 12 of the qualification (it knows of NMIs).
 * Tests:  tests/unit/test_mmu_ept.c
 */
#include <stdlib.h>
#include <string.h>

#include "mmu/internal.h"

#define EPT_INDEX_BITS 9
#define EPT_TYPE(e)    ((unsigned)((e) >> 3 & 7))

/* Exit qualification of EPT violations: bits 5:3 are what the entries allow. */
#define QUAL_ALLOWED_SHIFT 3

/* What each level's entries may be; the rest of the rules is the same for all (ept_misconfigured). */
static const struct {
    bool may_map;            /* bit 7 makes it map a page */
    uint64_t table_reserved; /* low bits that must be 0 when it references a table */
    uint64_t page_reserved;  /* low bits that must be 0 when it maps a page */
} ept_levels[LEVELS_MAX + 1] = {
    /*  page   reserved for a table  reserved for a page */
    [1] = {true, 0, 0},
    [2] = {true, BITS(6, 3), BITS(20, 12)},
    [3] = {true, BITS(6, 3), BITS(29, 12)},
    [4] = {false, BITS(7, 3), 0},
    [5] = {false, BITS(7, 3), 0},
};

/* Memory types that an entry that maps a page may have: UC, WC, WT, WP, WB. */
#define EPT_TYPES_VALID (BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6))

/* Combinations of bits 2:0 that are always a misconfiguration: write without read. */
#define EPT_RWX_INVALID (BIT(EPT_W) | BIT(EPT_W | EPT_X))

void ept_rules_make(struct ept_rules *r, const struct mmu *m, uint64_t eptp, uint8_t maxphyaddr)
{
    memset(r, 0, sizeof *r);
    r->root = eptp & PTE_ADDR;
    /* VM entry admits no other lengths than 4 and, where supported, 5. */
    r->levels = (eptp >> 3 & 7) == 4 ? 5 : 4;
    r->ad = (eptp & EPTP_AD) && m->ept_ad_supported;
    r->execute_only = m->ept_execute_only;
    r->maxphyaddr = maxphyaddr;
}

/* -- Walk --------------------------------------------------------------------------------------------------
 */

static bool ept_leaf(uint64_t entry, unsigned level)
{
    return level == 1 || ((entry & EPT_PS) && ept_levels[level].may_map);
}

/* SDM 3C, "EPT Misconfigurations". */
static bool ept_misconfigured(const struct ept_rules *r, uint64_t entry, unsigned level)
{
    const unsigned rwx = entry & EPT_RWX;
    const bool leaf = ept_leaf(entry, level);
    if (EPT_RWX_INVALID >> rwx & 1)
        return true;
    if (rwx == EPT_X && !r->execute_only)
        return true;
    if (r->maxphyaddr < 52 && (entry & BITS(51, r->maxphyaddr)))
        return true;
    if (entry & (leaf ? ept_levels[level].page_reserved : ept_levels[level].table_reserved))
        return true;
    return leaf && !(EPT_TYPES_VALID >> EPT_TYPE(entry) & 1);
}

static bool ept_violation(const struct ept_request *q, unsigned allowed, struct mmu_fault *f)
{
    f->kind = MMU_FAULT_EPT_VIOLATION;
    f->gpa = q->gpa;
    f->qualification = q->access | (uint64_t)allowed << QUAL_ALLOWED_SHIFT | q->qualification;
    return false;
}

/*
 * Logs a page before its dirty flag is set (SDM 3C, "Page-Modification Logging"). False: the log is full, and
 * the access must not happen.
 */
static bool ept_log(const struct ept_request *q, struct mmu_fault *f)
{
    struct mmu_pml *pml = &q->m->pml;
    if (!pml->enabled || !pml->index)
        return true;
    if (*pml->index > 511) {
        f->kind = MMU_FAULT_PML_FULL;
        f->gpa = q->gpa;
        return false;
    }
    if (q->probe)
        return true;
    phys_store(q->m->phys, (pml->address & ~PAGE_MASK) + *pml->index * 8, 8, q->gpa & ~PAGE_MASK);
    *pml->index = (uint16_t)(*pml->index - 1);
    return true;
}

static uint64_t step_load(const struct ept_request *q, const struct walk_step *s)
{
    if (likely(s->host != NULL))
        return load_le(s->host, 8);
    return q->probe ? ~0ull : phys_load(q->m->phys, s->at, 8); /* a probe touches no device */
}

static void ept_set_flags(const struct ept_request *q, struct walk_step *s, uint64_t bits, bool *complete)
{
    struct phys *p = q->m->phys;
    if ((s->value & bits) == bits)
        return;
    if (q->probe) {
        const struct phys_page *page = phys_page(p, s->at);
        if (!page || !(page->observers & OBSERVE_ROM))
            *complete = false;
        return;
    }
    phys_store(p, s->at, 8, (s->host ? load_le(s->host, 8) : s->value) | bits);
    if (s->host) /* ROM keeps its value */
        s->value = load_le(s->host, 8);
}

/* Records the entries and keeps the translation. */
static void ept_remember(const struct ept_request *q, const struct walk_step *steps, unsigned count,
                         struct walk_result *out)
{
    struct ept_space *s = q->space;
    struct tables *t = phys_tables(q->m->phys);
    for (unsigned i = 0; i < count; i++) {
        uint32_t node = 0;
        if (!tables_use(t, (uint16_t)(OWNER_SPACE | s->index), FORMAT_EPT, &steps[i], &node)) {
            out->cacheable = false;
            return;
        }
    }
    s->cache[q->gpa >> PAGE_SHIFT & (EPT_CACHE_COUNT - 1)] = (struct ept_cached){
        .tag = q->gpa & ~PAGE_MASK,
        .page = (out->gpa & ~PAGE_MASK) | out->can | (out->dirty ? EPT_CACHED_DIRTY : 0),
    };
}

static bool ept_walk(const struct ept_request *q, struct walk_result *out, struct mmu_fault *f)
{
    const struct ept_rules *r = q->rules;
    const uint64_t drops = phys_tables(q->m->phys)->drops;
    struct walk_step steps[LEVELS_MAX];
    unsigned count = 0, allowed = EPT_RWX, level = r->levels;
    gpa_t table = r->root;

    q->m->stats.ept_walks++;
    *out = (struct walk_result){.cacheable = true, .flags_complete = true};
    /* What lies beyond the reach of the tables has no translation. */
    if (q->gpa >> (PAGE_SHIFT + EPT_INDEX_BITS * r->levels))
        return ept_violation(q, 0, f);
    for (;; level--) {
        const unsigned shift = PAGE_SHIFT + EPT_INDEX_BITS * (level - 1);
        struct walk_step *s = &steps[count++];
        s->at = s->at_guest = table + (q->gpa >> shift & 511) * 8;
        s->level = (uint8_t)level;
        s->base = q->gpa & ~(BIT(shift + EPT_INDEX_BITS) - 1);
        s->host = phys_page_host(q->m->phys, s->at);
        if (s->host)
            s->host += s->at & PAGE_MASK;
        else
            out->cacheable = false;
        s->value = step_load(q, s);
        allowed &= (unsigned)(s->value & EPT_RWX);
        if (!(s->value & EPT_RWX))
            return ept_violation(q, 0, f);
        if (ept_misconfigured(r, s->value, level)) {
            f->kind = MMU_FAULT_EPT_MISCONFIG;
            f->gpa = q->gpa;
            return false;
        }
        table = s->value & PTE_ADDR;
        if (ept_leaf(s->value, level)) {
            out->gpa = (table & ~(BIT(shift) - 1)) | (q->gpa & (BIT(shift) - 1));
            break;
        }
    }
    if ((allowed & q->access) != q->access)
        return ept_violation(q, allowed, f);
    struct walk_step *leaf = &steps[count - 1];
    if (r->ad) {
        const bool write = q->access & CAN_WRITE;
        if (write && !(leaf->value & EPT_D) && !ept_log(q, f))
            return false;
        for (struct walk_step *s = steps; s <= leaf; s++)
            ept_set_flags(q, s, s == leaf && write ? EPT_A | EPT_D : EPT_A, &out->flags_complete);
    }
    out->can = allowed;
    out->dirty = !r->ad || (leaf->value & EPT_D);
    if (drops != phys_tables(q->m->phys)->drops)
        out->cacheable = false;
    if (q->space && !q->probe && out->cacheable)
        ept_remember(q, steps, count, out);
    return true;
}

bool ept_translate(const struct ept_request *q, struct walk_result *out, struct mmu_fault *f)
{
    if (q->space) {
        const struct ept_cached *e = &q->space->cache[q->gpa >> PAGE_SHIFT & (EPT_CACHE_COUNT - 1)];
        const bool flags = !(q->access & CAN_WRITE) || (e->page & EPT_CACHED_DIRTY);
        /* Rights won since are not in the cache, so only the walk can deny. */
        if (likely(e->tag == (q->gpa & ~PAGE_MASK) && (e->page & q->access) == q->access && flags)) {
            *out = (struct walk_result){.gpa = (e->page & PTE_ADDR) | (q->gpa & PAGE_MASK),
                                        .can = (unsigned)(e->page & EPT_RWX),
                                        .dirty = e->page & EPT_CACHED_DIRTY,
                                        .cacheable = true,
                                        .flags_complete = true};
            return true;
        }
    }
    return ept_walk(q, out, f);
}

/* -- Spaces ------------------------------------------------------------------------------------------------
 */

static bool ept_rules_equal(const struct ept_rules *a, const struct ept_rules *b)
{
    return a->root == b->root && a->levels == b->levels && a->maxphyaddr == b->maxphyaddr && a->ad == b->ad &&
           a->execute_only == b->execute_only;
}

static void ept_cache_clear(struct ept_space *s)
{
    memset(s->cache, 0xff, sizeof s->cache);
}

static void context_reset_in_space(struct mmu_context *c, void *space)
{
    if (c->space == space)
        context_reset(c);
}

void ept_space_reset(struct phys *p, struct ept_space *s)
{
    struct tables *t = phys_tables(p);
    contexts_each(p, context_reset_in_space, s);
    ept_cache_clear(s);
    tables_free_owner(t, &s->nodes);
    s->pending = false;
    t->drops++;
}

struct ept_space *ept_space_find(struct phys *p, const struct ept_rules *rules)
{
    struct tables *t = phys_tables(p);
    struct ept_space *oldest = &t->spaces[0];
    for (unsigned i = 0; i < EPT_SPACES; i++) {
        struct ept_space *s = &t->spaces[i];
        if (s->used && ept_rules_equal(&s->rules, rules)) {
            s->stamp = ++t->clock;
            return s;
        }
        if (!s->used || (oldest->used && s->stamp < oldest->stamp))
            oldest = s;
    }
    ept_space_reset(p, oldest);
    oldest->index = (uint16_t)(oldest - t->spaces);
    oldest->rules = *rules;
    oldest->used = true;
    oldest->stamp = ++t->clock;
    return oldest;
}

/* -- Changes -----------------------------------------------------------------------------------------------
 */

struct ept_drop {
    struct tables *tables;
    struct ept_space *space;
    gpa_t target; /* where the changed entry led to */
    uint64_t span;
};

static void context_drop_by_target(struct mmu_context *c, void *arg)
{
    const struct ept_drop *d = arg;
    if (c->space == d->space)
        context_drop_target(c, d->target, d->span);
}

/* A guest paging-structure page was reached through the changed entry: drop what it translates. */
static void node_drop_through(const struct dep_node *n, void *arg)
{
    const struct ept_drop *d = arg;
    if (n->owner & OWNER_SPACE)
        return;
    struct mmu_context *c = tables_context(d->tables, n->owner);
    if (c->space == d->space) {
        const struct paging_mode *p = c->rules.paging;
        const uint64_t half = table_span(p, n->level) / 2; /* the halves of a top table lie apart */
        context_drop_range(c, linear_extend(p, n->base), half);
        context_drop_range(c, linear_extend(p, n->base + half), half);
    }
}

void ept_entry_changed(struct phys *p, struct ept_space *s, unsigned level, gpa_t gpa, uint64_t before)
{
    struct tables *t = phys_tables(p);
    const uint64_t span = BIT(PAGE_SHIFT + EPT_INDEX_BITS * (level - 1));
    struct ept_drop d = {.tables = t, .space = s, .target = before & PTE_ADDR & ~(span - 1), .span = span};

    t->drops++;
    if (!ept_leaf(before, level) || level > 2 || !phys_ram(p, d.target, span)) {
        /* Too wide to single out: the space and its contexts start anew when the write has been handled. */
        s->pending = t->pending = true;
        return;
    }
    for (gpa_t at = gpa; at < gpa + span; at += PAGE_SIZE) {
        struct ept_cached *e = &s->cache[at >> PAGE_SHIFT & (EPT_CACHE_COUNT - 1)];
        if (e->tag == at)
            e->tag = ~0ull;
    }
    contexts_each(p, context_drop_by_target, &d);
    for (gpa_t at = d.target; at < d.target + span; at += PAGE_SIZE)
        tables_each_node(t, at, node_drop_through, &d);
}

uint32_t ept_space_verify(struct mmu *m, struct ept_space *s, gpa_t *first)
{
    uint32_t differences = 0;
    for (unsigned i = 0; i < EPT_CACHE_COUNT; i++) {
        const struct ept_cached *e = &s->cache[i];
        if (e->tag & PAGE_MASK)
            continue;
        struct mmu_fault f;
        struct walk_result r;
        const bool write = (e->page & CAN_WRITE) && (e->page & EPT_CACHED_DIRTY);
        const unsigned rights = (unsigned)(e->page & EPT_RWX);
        const struct ept_request q = {.m = m,
                                      .rules = &s->rules,
                                      .gpa = e->tag,
                                      .access = write ? rights : rights & ~CAN_WRITE,
                                      .probe = true};
        if (ept_walk(&q, &r, &f) && r.gpa == (e->page & PTE_ADDR) && (r.can & rights) == rights &&
            r.flags_complete)
            continue;
        if (differences++ == 0)
            *first = e->tag;
    }
    return differences;
}
