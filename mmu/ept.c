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

/* Exit qualification of EPT violations: bits 5:3 are what the entries allow, bit 6 is their EPT_XU. */
#define QUAL_ALLOWED_SHIFT 3
#define QUAL_EXEC_USER     BIT(6)

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

void ept_rules_make(struct ept_rules *r, const struct mmu *m, uint64_t eptp, uint8_t maxphyaddr, bool mbe)
{
    memset(r, 0, sizeof *r);
    r->root = eptp & PTE_ADDR;
    /* VM entry admits no other lengths than 4 and, where supported, 5. */
    r->levels = (eptp >> 3 & 7) == 4 ? 5 : 4;
    r->ad = (eptp & EPTP_AD) && m->ept_ad_supported;
    r->execute_only = m->ept_execute_only;
    r->maxphyaddr = maxphyaddr;
    r->mbe = mbe;
}

/* The access rights in an entry; it is present when there is one. */
static unsigned ept_rights(const struct ept_rules *r, uint64_t entry)
{
    return (unsigned)(entry & (r->mbe ? EPT_RWX | EPT_XU : EPT_RWX));
}

/* -- Walk --------------------------------------------------------------------------------------------------
 */

static bool ept_leaf(uint64_t entry, unsigned level)
{
    return level == 1 || ((entry & EPT_PS) && ept_levels[level].may_map);
}

bool ept_misconfigured(const struct ept_rules *r, uint64_t entry, unsigned level)
{
    const unsigned rwx = entry & EPT_RWX;
    const bool leaf = ept_leaf(entry, level);
    if (EPT_RWX_INVALID >> rwx & 1)
        return true;
    if (!(rwx & EPT_R) && ept_rights(r, entry) && !r->execute_only)
        return true;
    if (r->maxphyaddr < 52 && (entry & BITS(51, r->maxphyaddr)))
        return true;
    if (entry & (leaf ? ept_levels[level].page_reserved : ept_levels[level].table_reserved))
        return true;
    return leaf && !(EPT_TYPES_VALID >> EPT_TYPE(entry) & 1);
}

/* `entry`: the one that is not present, or the last one when rights are missing (SDM 3C, "Convertible EPT
 * Violations"). */
static bool ept_violation(const struct ept_request *q, unsigned allowed, uint64_t entry, struct mmu_fault *f)
{
    const unsigned access = q->access & CAN_EXEC_USER ? CAN_EXEC : q->access;
    f->kind = MMU_FAULT_EPT_VIOLATION;
    f->gpa = q->gpa;
    f->qualification = access | (uint64_t)(allowed & EPT_RWX) << QUAL_ALLOWED_SHIFT |
                       (allowed & EPT_XU ? QUAL_EXEC_USER : 0) | q->qualification;
    f->convertible = !(entry & EPT_SUPPRESS_VE);
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

/* -- Caches ------------------------------------------------------------------------------------------------
 */

static struct ept_cached *small_slot(struct tables *t, const struct ept_space *s, gpa_t gpa)
{
    return &t->ept_cache[((gpa >> PAGE_SHIFT) + s->id * 73ull) & t->ept_mask];
}

static uint64_t small_tag(const struct ept_space *s, gpa_t gpa)
{
    return (gpa & ~PAGE_MASK) | s->id;
}

static struct ept_cached *large_slot(struct tables *t, const struct ept_space *s, gpa_t gpa)
{
    return &t->ept_large[((gpa >> EPT_LARGE_SHIFT) + s->id * 97ull) & t->ept_large_mask];
}

static struct ept_way *way_slot(struct tables *t, const struct ept_space *s, gpa_t gpa)
{
    return &t->ept_ways[((gpa >> EPT_LARGE_SHIFT) + s->id * 97ull) & t->ept_ways_mask];
}

static uint64_t large_tag(const struct ept_space *s, gpa_t gpa)
{
    return gpa >> EPT_LARGE_SHIFT << CACHE_ID_BITS | s->id;
}

/* A new number, so that nothing in the caches is the space's. */
static void space_forget(struct tables *t, struct ept_space *s)
{
    if (unlikely(t->space_id_next > CACHE_ID_MAX)) {
        memset(t->ept_cache, 0, sizeof t->ept_cache);
        memset(t->ept_large, 0, sizeof t->ept_large);
        memset(t->ept_ways, 0, sizeof t->ept_ways);
        t->space_id_next = 1;
        for (unsigned i = 0; i < EPT_SPACES; i++)
            t->spaces[i].id = t->space_id_next++;
    }
    s->id = t->space_id_next++;
}

/* Records the entries; *node becomes the last one's. */
static bool ept_record(const struct ept_request *q, const struct walk_step *steps, unsigned count,
                       uint32_t *node)
{
    struct tables *t = phys_tables(q->m->phys);
    const uint16_t owner = (uint16_t)(OWNER_SPACE | q->space->index);
    for (unsigned i = 0; i < count; i++) {
        uint32_t upper = 0;
        if (!tables_use(t, owner, FORMAT_EPT, &steps[i], i == count - 1 ? node : &upper))
            return false;
    }
    return true;
}

/* Records the entries and keeps the translation. */
static void ept_remember(const struct ept_request *q, const struct walk_step *steps, unsigned count,
                         uint32_t node, struct walk_result *out)
{
    struct ept_space *s = q->space;
    struct tables *t = phys_tables(q->m->phys);
    const struct walk_step *leaf = &steps[count - 1];
    const bool way_known = node != 0;
    const uint64_t rights = out->can | (out->dirty ? EPT_CACHED_DIRTY : 0);
    if (!ept_record(q, steps, count, &node)) {
        out->cacheable = false;
        return;
    }
    if (leaf->level > 1) {
        const gpa_t part = out->gpa & ~(BIT(EPT_LARGE_SHIFT) - 1);
        *large_slot(t, s, q->gpa) = (struct ept_cached){.tag = large_tag(s, q->gpa), .page = part | rights};
        return;
    }
    *small_slot(t, s, q->gpa) =
        (struct ept_cached){.tag = small_tag(s, q->gpa), .page = (out->gpa & ~PAGE_MASK) | rights};
    if (way_known)
        return;
    unsigned allowed = EPT_RWX | EPT_XU;
    for (const struct walk_step *step = steps; step < leaf; step++)
        allowed &= ept_rights(q->rules, step->value);
    *way_slot(t, s, q->gpa) = (struct ept_way){
        .tag = large_tag(s, q->gpa),
        .table = leaf->at & ~PAGE_MASK,
        .host = leaf->host - (leaf->at & PAGE_MASK),
        .node = node,
        .allowed = (uint16_t)allowed,
    };
}

/* -- Walk --------------------------------------------------------------------------------------------------
 */

static bool ept_misconfiguration(const struct ept_request *q, struct mmu_fault *f)
{
    f->kind = MMU_FAULT_EPT_MISCONFIG;
    f->gpa = q->gpa;
    return false;
}

/* A misconfiguration in a table that is RAM stays one until the entry is written. */
static void ept_remember_misconfig(const struct ept_request *q, const struct walk_step *steps, unsigned count,
                                   uint32_t node)
{
    struct tables *t = phys_tables(q->m->phys);
    if (!q->space || q->probe || steps[count - 1].level != 1 || !ept_record(q, steps, count, &node))
        return;
    *small_slot(t, q->space, q->gpa) =
        (struct ept_cached){.tag = small_tag(q->space, q->gpa), .page = EPT_CACHED_MISCONFIG};
}

/* Fills in what reading the entry of q->gpa at `level` in `table` gives. */
static void step_read(const struct ept_request *q, struct walk_step *s, unsigned level, gpa_t table)
{
    const unsigned shift = PAGE_SHIFT + EPT_INDEX_BITS * (level - 1);
    s->at = s->at_guest = table + (q->gpa >> shift & 511) * 8;
    s->level = (uint8_t)level;
    s->base = q->gpa & ~(BIT(shift + EPT_INDEX_BITS) - 1);
    s->host = phys_page_host(q->m->phys, s->at);
    if (s->host)
        s->host += s->at & PAGE_MASK;
    s->value = step_load(q, s);
}

/*
 * Tries the one entry that a cached way leads to: its number of steps, 1, or 0 on any obstacle. Rights that
 * the entries above won since are not in the cache, so it never denies.
 */
static unsigned ept_cached_step(const struct ept_request *q, struct walk_step *s, uint32_t *node,
                                unsigned *allowed)
{
    if (!q->space)
        return 0;
    const struct ept_way *way = way_slot(phys_tables(q->m->phys), q->space, q->gpa);
    if (way->tag != large_tag(q->space, q->gpa))
        return 0;
    const uint64_t offset = (q->gpa >> PAGE_SHIFT & 511) * 8;
    s->at = s->at_guest = way->table + offset;
    s->level = 1;
    s->base = q->gpa & ~(BIT(EPT_LARGE_SHIFT) - 1);
    s->host = way->host + offset;
    s->value = load_le(s->host, 8);
    const unsigned own = ept_rights(q->rules, s->value), rights = way->allowed & own;
    if (own && (rights & q->access) != q->access && !ept_misconfigured(q->rules, s->value, 1))
        return 0;
    *allowed = rights;
    *node = way->node;
    return 1;
}

static bool ept_walk(const struct ept_request *q, struct walk_result *out, struct mmu_fault *f)
{
    const struct ept_rules *r = q->rules;
    const uint64_t drops = phys_tables(q->m->phys)->drops;
    struct walk_step steps[LEVELS_MAX];
    unsigned allowed = EPT_RWX | EPT_XU;
    uint32_t node = 0;

    q->m->stats.ept_walks++;
    *out = (struct walk_result){.cacheable = true, .flags_complete = true};
    /* What lies beyond the reach of the tables has no translation. */
    if (q->gpa >> (PAGE_SHIFT + EPT_INDEX_BITS * r->levels))
        return ept_violation(q, 0, EPT_SUPPRESS_VE, f);
    unsigned count = ept_cached_step(q, steps, &node, &allowed);
    unsigned level = count ? 1 : r->levels;
    for (gpa_t table = r->root;; level--) {
        struct walk_step *s = &steps[node ? 0 : count];
        if (!node) {
            step_read(q, s, level, table);
            count++;
            allowed &= ept_rights(r, s->value);
            out->cacheable &= s->host != NULL;
        }
        if (!ept_rights(r, s->value))
            return ept_violation(q, 0, s->value, f);
        if (ept_misconfigured(r, s->value, level)) {
            if (out->cacheable)
                ept_remember_misconfig(q, steps, count, node);
            return ept_misconfiguration(q, f);
        }
        table = s->value & PTE_ADDR;
        if (ept_leaf(s->value, level)) {
            const uint64_t inside = BIT(PAGE_SHIFT + EPT_INDEX_BITS * (level - 1)) - 1;
            out->gpa = (table & ~inside) | (q->gpa & inside);
            break;
        }
    }
    struct walk_step *leaf = &steps[count - 1];
    if ((allowed & q->access) != q->access)
        return ept_violation(q, allowed, leaf->value, f);
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
        ept_remember(q, steps, count, node, out);
    return true;
}

bool ept_lookup(struct tables *t, const struct ept_space *s, gpa_t gpa, unsigned access,
                struct walk_result *out)
{
    const struct ept_cached *e = small_slot(t, s, gpa);
    uint64_t inside = PAGE_MASK;
    if (e->tag != small_tag(s, gpa)) {
        e = large_slot(t, s, gpa);
        inside = BIT(EPT_LARGE_SHIFT) - 1;
        if (e->tag != large_tag(s, gpa))
            return false;
    }
    /* Rights won since are not in the cache, so only the walk can deny. */
    if ((e->page & access) != access || ((access & CAN_WRITE) && !(e->page & EPT_CACHED_DIRTY)))
        return false;
    *out = (struct walk_result){.gpa = (e->page & PTE_ADDR) | (gpa & inside),
                                .can = (unsigned)(e->page & (EPT_RWX | EPT_XU)),
                                .dirty = e->page & EPT_CACHED_DIRTY,
                                .cacheable = true,
                                .flags_complete = true};
    return true;
}

bool ept_translate(const struct ept_request *q, struct walk_result *out, struct mmu_fault *f)
{
    if (q->space) {
        struct tables *t = phys_tables(q->m->phys);
        if (likely(ept_lookup(t, q->space, q->gpa, q->access, out)))
            return true;
        const struct ept_cached *e = small_slot(t, q->space, q->gpa);
        if (e->tag == small_tag(q->space, q->gpa) && (e->page & EPT_CACHED_MISCONFIG))
            return ept_misconfiguration(q, f);
    }
    return ept_walk(q, out, f);
}

/* -- Spaces ------------------------------------------------------------------------------------------------
 */

static bool ept_rules_equal(const struct ept_rules *a, const struct ept_rules *b)
{
    return a->root == b->root && a->levels == b->levels && a->maxphyaddr == b->maxphyaddr && a->ad == b->ad &&
           a->execute_only == b->execute_only && a->mbe == b->mbe;
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
    space_forget(t, s);
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
    if (level == 1) {
        struct ept_cached *e = small_slot(t, s, gpa);
        if (e->tag == small_tag(s, gpa))
            e->tag = 0;
        if (ept_misconfigured(&s->rules, before, level))
            return; /* it translated nothing */
    } else if (ept_leaf(before, level) && level == 2 && phys_ram(p, d.target, span)) {
        struct ept_cached *e = large_slot(t, s, gpa);
        if (e->tag == large_tag(s, gpa))
            e->tag = 0;
    } else {
        /* Too wide to single out: the space and its contexts start anew when the write has been handled. */
        s->pending = t->pending = true;
        return;
    }
    contexts_each(p, context_drop_by_target, &d);
    for (gpa_t at = d.target; at < d.target + span; at += PAGE_SIZE)
        tables_each_node(t, at, node_drop_through, &d);
}

void ept_forget_table(struct phys *p, struct ept_space *s, unsigned level, gpa_t base)
{
    struct tables *t = phys_tables(p);
    struct ept_way *way = way_slot(t, s, base);
    if (level == 1 && way->tag == large_tag(s, base))
        way->tag = 0;
}

static void cached_verify(struct mmu *m, struct ept_space *s, gpa_t gpa, const struct ept_cached *e,
                          gpa_t *first, uint32_t *differences)
{
    struct mmu_fault f;
    struct walk_result r;
    const bool write = (e->page & CAN_WRITE) && (e->page & EPT_CACHED_DIRTY);
    const unsigned rights = (unsigned)(e->page & (EPT_RWX | EPT_XU));
    const struct ept_request q = {.m = m,
                                  .rules = &s->rules,
                                  .gpa = gpa,
                                  .access = write ? rights : rights & ~CAN_WRITE,
                                  .probe = true};
    const bool ok = ept_walk(&q, &r, &f);
    if (e->page & EPT_CACHED_MISCONFIG
            ? !ok && f.kind == MMU_FAULT_EPT_MISCONFIG
            : ok && r.gpa == (e->page & PTE_ADDR) && (r.can & rights) == rights && r.flags_complete)
        return;
    if ((*differences)++ == 0)
        *first = gpa;
}

void ept_space_verify(struct mmu *m, struct ept_space *s, gpa_t *first, uint32_t *differences)
{
    const struct tables *t = phys_tables(m->phys);
    for (unsigned i = 0; i <= t->ept_mask; i++) {
        const struct ept_cached *e = &t->ept_cache[i];
        if ((e->tag & CACHE_ID_MAX) == s->id)
            cached_verify(m, s, e->tag & ~PAGE_MASK, e, first, differences);
    }
    for (unsigned i = 0; i <= t->ept_large_mask; i++) {
        const struct ept_cached *e = &t->ept_large[i];
        if ((e->tag & CACHE_ID_MAX) == s->id)
            cached_verify(m, s, e->tag >> CACHE_ID_BITS << EPT_LARGE_SHIFT, e, first, differences);
    }
}
