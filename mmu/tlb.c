/*
 * mmu/tlb.c -- what a TLB context holds: lookups, fills and drops, on both levels.
 *
 * Reads:  walks (walk.c).   Writes: the tables that translated code looks into, the second level.
 * Invariants: a write entry exists only for a page without observers whose dirty flags are set, and only in a
 *         slot that the page's metadata names; an entry's tables are in the dependency store (tables.c) under
 *         the context's name; a slot outside the context's slot_set is as it was made. The second level keeps
 *         what walks gave, also of pages that have no entry in the first (MMIO, observed pages).
 * Not here: choosing a context (context.c), walks (walk.c, ept.c), what a write to tables drops (tables.c).
 * Tests:  tests/unit/test_mmu_tlb.c, tests/unit/test_mmu_stress.c
 */
#include <string.h>

#include "mmu/internal.h"

/* Number of 2 MB parts up to which a range is dropped one by one from the paging-structure cache. */
#define PSC_DROP_MAX 8u

/* -- Slots -------------------------------------------------------------------------------------------------
 */

static void slot_add(struct slot_set *s, unsigned index)
{
    s->slots[index / 64] |= BIT(index % 64);
    s->groups |= BIT(index / 64);
}

static bool slot_in(const struct slot_set *s, unsigned index)
{
    return s->slots[index / 64] >> (index % 64) & 1;
}

/* A page address that belongs to another slot, so that no address hits it. Zero serves all slots but that of
 * page 0, so the tables of a context that is not in use need not be touched. */
static uint64_t empty_tag(unsigned index)
{
    return index == 0 ? ~0ull : 0;
}

static void stack_drop(struct mmu *m, struct tlb *t)
{
    if (t->stack.read == TLB_NOWHERE)
        return;
    t->stack.read = t->stack.write = TLB_NOWHERE;
    m->stack_drops++;
}

static void near_clear(struct tlb *t)
{
    if (!t->near_used)
        return;
    for (unsigned i = 0; i < TLB_NEAR; i++)
        t->near_read[i].tag = t->near_write[i].tag = TLB_NOWHERE;
    t->near_used = 0;
}

static void near_drop_page(struct tlb *t, gva_t page)
{
    if (!t->near_used)
        return;
    for (unsigned i = 0; i < TLB_NEAR; i++) {
        if (t->near_read[i].tag == page)
            t->near_read[i].tag = TLB_NOWHERE;
        if (t->near_write[i].tag == page)
            t->near_write[i].tag = TLB_NOWHERE;
    }
}

static void near_drop_write_host(struct tlb *t, const uint8_t *host)
{
    if (!t->near_used)
        return;
    for (unsigned i = 0; i < TLB_NEAR; i++)
        if (t->near_write[i].host == host)
            t->near_write[i].tag = TLB_NOWHERE;
}

void context_make_tables(struct mmu_context *c)
{
    c->tlb->near_used = 1; /* all tags are 0 */
    near_clear(c->tlb);
    c->tlb->read[0].tag = c->tlb->write[0].tag = c->tlb->exec[0].tag = empty_tag(0);
    c->tlb->stack.read = c->tlb->stack.write = TLB_NOWHERE;
}

static void entries_clear(struct tlb_entry *entries, struct slot_set *s)
{
    for (; s->groups; s->groups &= s->groups - 1) {
        const unsigned group = (unsigned)__builtin_ctzll(s->groups);
        for (uint64_t left = s->slots[group]; left; left &= left - 1) {
            const unsigned index = group * 64 + (unsigned)__builtin_ctzll(left);
            entries[index].tag = empty_tag(index);
        }
        s->slots[group] = 0;
    }
}

static void exec_clear(struct mmu_context *c)
{
    struct slot_set *s = &c->exec;
    for (; s->groups; s->groups &= s->groups - 1) {
        const unsigned group = (unsigned)__builtin_ctzll(s->groups);
        for (uint64_t left = s->slots[group]; left; left &= left - 1) {
            const unsigned index = group * 64 + (unsigned)__builtin_ctzll(left);
            c->tlb->exec[index].tag = empty_tag(index);
        }
        s->slots[group] = 0;
    }
}

static void writers_clear(const struct mmu_context *c)
{
    struct mmu_pool *pool = mmu_pool(c->mmu);
    const unsigned at = c->tlb->index;
    for (uint64_t groups = c->write.groups; groups; groups &= groups - 1) {
        const unsigned group = (unsigned)__builtin_ctzll(groups);
        for (uint64_t left = c->write.slots[group]; left; left &= left - 1)
            pool->writers[group * 64 + (unsigned)__builtin_ctzll(left)][at / 64] &= ~BIT(at % 64);
    }
}

/* -- Exec translations -------------------------------------------------------------------------------------
 */

static bool exec_any_evicted(const struct mmu_context *c)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < ARRAY_LEN(c->exec_evicted); i++)
        any |= c->exec_evicted[i];
    return any;
}

static uint64_t *evicted_word(struct mmu_context *c, gva_t page)
{
    return &c->exec_evicted[page >> (PAGE_SHIFT + 6) & (ARRAY_LEN(c->exec_evicted) - 1)];
}

/* A jump to the page may be cached though no entry says so. */
static void exec_note_evicted(struct mmu_context *c, gva_t page)
{
    *evicted_word(c, page) |= BIT(page >> PAGE_SHIFT & 63);
}

static void exec_fill(struct mmu_context *c, gva_t page, gpa_t gpa)
{
    const unsigned index = exec_index(page);
    const uint64_t old = c->tlb->exec[index].tag;
    if (old != page && old != empty_tag(index))
        exec_note_evicted(c, old);
    c->tlb->exec[index].tag = page;
    c->tlb->exec[index].gpa = gpa & ~PAGE_MASK;
    slot_add(&c->exec, index);
}

static void exec_drop_page(struct mmu_context *c, gva_t page)
{
    const unsigned index = exec_index(page);
    bool had = *evicted_word(c, page) >> (page >> PAGE_SHIFT & 63) & 1;
    if (c->exec.groups && c->tlb->exec[index].tag == page) {
        c->tlb->exec[index].tag = empty_tag(index);
        had = true;
    }
    if (had)
        context_exec_dropped(c);
}

/* Drops exec entries by page (of linear addresses) or by target (physical), whichever has a span. */
static void exec_drop_range(struct mmu_context *c, gva_t linear, uint64_t span, gpa_t gpa,
                            uint64_t target_span)
{
    bool had = exec_any_evicted(c);
    for (uint64_t groups = c->exec.groups; groups; groups &= groups - 1) {
        const unsigned group = (unsigned)__builtin_ctzll(groups);
        for (uint64_t left = c->exec.slots[group]; left; left &= left - 1) {
            const unsigned index = group * 64 + (unsigned)__builtin_ctzll(left);
            if (c->tlb->exec[index].tag == empty_tag(index) ||
                (c->tlb->exec[index].tag - linear >= span && c->tlb->exec[index].gpa - gpa >= target_span))
                continue;
            c->tlb->exec[index].tag = empty_tag(index);
            had = true;
        }
    }
    if (had)
        context_exec_dropped(c);
}

/* -- Write entries of a page -------------------------------------------------------------------------------
 */

static void write_slot_drop(struct mmu *m, unsigned index, const uint8_t *host)
{
    struct mmu_pool *pool = mmu_pool(m);
    for (unsigned i = 0; i < ARRAY_LEN(pool->writers[0]); i++) {
        for (uint64_t left = pool->writers[index][i]; left; left &= left - 1) {
            struct tlb *t = &m->contexts[i * 64 + (unsigned)__builtin_ctzll(left)];
            struct tlb_entry *e = &t->write[index];
            if (e->host == host)
                e->tag = empty_tag(index);
            /* The page may be remembered after its entry went. */
            if (t->stack.write + t->stack.delta == (uintptr_t)host)
                stack_drop(m, t);
            near_drop_write_host(t, host);
        }
    }
}

static unsigned home_slot(const struct phys *p, const uint8_t *host_page)
{
    return (unsigned)((uint64_t)(host_page - p->ram) >> PAGE_SHIFT) & (TLB_ENTRIES - 1);
}

void mmu_drop_write_host(struct mmu *m, const uint8_t *host_page)
{
    const struct phys *p = m->phys;
    const struct phys_page *page = &p->pages[(uint64_t)(host_page - p->ram) >> PAGE_SHIFT];
    if (page->write_home)
        write_slot_drop(m, home_slot(p, host_page), host_page);
    if (page->write_slots > 0)
        write_slot_drop(m, page->write_slot0, host_page);
    if (page->write_slots > 1)
        write_slot_drop(m, page->write_slot1, host_page);
}

/*
 * The page is to have an entry in slot `index` of a write table. Its metadata names every slot where it may
 * have one: its home (where kernels that map all memory in order have it) and two others. A third other takes
 * the place of the oldest, whose entries go.
 */
static void write_slot_note(struct phys *p, struct phys_page *page, unsigned index, const uint8_t *host)
{
    if (index == home_slot(p, host)) {
        page->write_home = 1;
        return;
    }
    if ((page->write_slots > 0 && page->write_slot0 == index) ||
        (page->write_slots > 1 && page->write_slot1 == index))
        return;
    if (page->write_slots > 1) {
        for (uint32_t i = 0; i < p->mmu_count; i++) {
            if (p->mmus[i])
                write_slot_drop(p->mmus[i], page->write_slot1, host);
        }
    }
    page->write_slots = page->write_slots ? 2 : 1;
    page->write_slot1 = page->write_slot0;
    page->write_slot0 = index & (TLB_ENTRIES - 1);
}

/* -- Fills -------------------------------------------------------------------------------------------------
 */

static void write_fill(struct mmu_context *c, gva_t page, gpa_t gpa, uint8_t *host)
{
    struct phys *p = c->mmu->phys;
    struct phys_page *info = phys_page(p, gpa);
    if (info->observers)
        return;
    const unsigned index = tlb_index(page), at = c->tlb->index;
    write_slot_note(p, info, index, host);
    c->tlb->write[index] = (struct tlb_entry){.tag = page, .host = host};
    slot_add(&c->write, index);
    mmu_pool(c->mmu)->writers[index][at / 64] |= BIT(at % 64);
}

static void tlb_fill(struct mmu_context *c, gva_t linear, enum mmu_access access, const struct walk_result *r)
{
    const gva_t page = linear & ~PAGE_MASK;
    uint8_t *host = phys_page_host(c->mmu->phys, r->gpa);
    /* Accesses to the APIC-access page are virtualized one by one (SDM 3C, "Virtualizing Memory-Mapped APIC
     * Accesses"). */
    const gpa_t marked = (r->gpa & ~PAGE_MASK) | 1;
    const bool refused =
        !host || marked == c->tlb->mode.apic_page || marked == c->mmu->local_apic || unlikely(c->mmu->verify);
    if (access == MMU_EXEC && refused)
        exec_note_evicted(c, page);
    if (refused)
        return;
    c->mmu->stats.fills++;
    if (access == MMU_EXEC) {
        exec_fill(c, page, r->gpa);
        return;
    }
    if (r->can & CAN_READ) {
        const unsigned index = tlb_index(page);
        c->tlb->read[index] = (struct tlb_entry){.tag = page, .host = host};
        slot_add(&c->read, index);
    }
    if ((r->can & CAN_WRITE) && r->dirty)
        write_fill(c, page, r->gpa, host);
}

static void tlb2_fill(struct mmu_context *c, gva_t linear, const struct walk_result *r)
{
    struct tlb2_entry *set = tlb2_set(c, linear);
    const uint64_t tag = (linear & ~PAGE_MASK) | c->tlb2_id;
    if (set[0].tag != tag)
        set[1] = set[0];
    set[0].tag = tag;
    set[0].page = (r->gpa & ~PAGE_MASK) | r->can | (r->dirty ? TLB2_DIRTY : 0);
}

/* -- Drops -------------------------------------------------------------------------------------------------
 */

static void context_drop_page(struct mmu_context *c, gva_t page)
{
    const unsigned index = tlb_index(page);
    struct tlb2_entry *set = tlb2_set(c, page);
    const uint64_t tag = page | c->tlb2_id;
    for (unsigned i = 0; i < TLB2_WAYS; i++) {
        if (set[i].tag == tag)
            set[i].tag = 0;
    }
    if (c->tlb->stack.read == page)
        stack_drop(c->mmu, c->tlb);
    near_drop_page(c->tlb, page);
    if (slot_in(&c->read, index) && c->tlb->read[index].tag == page)
        c->tlb->read[index].tag = empty_tag(index);
    if (slot_in(&c->write, index) && c->tlb->write[index].tag == page)
        c->tlb->write[index].tag = empty_tag(index);
    exec_drop_page(c, page);
}

static void psc_drop_range(struct mmu_context *c, gva_t linear, uint64_t span)
{
    if (span >> PSC_SHIFT > PSC_DROP_MAX) {
        context_forget_psc(c);
        return;
    }
    for (gva_t at = linear; at - linear < span; at += BIT(PSC_SHIFT)) {
        struct psc_entry *e = psc_slot(c, at);
        if (e->tag == psc_tag(c, at))
            e->tag = 0;
    }
}

/* The range is a power of two and aligned to its size. */
static void entries_drop_range(struct tlb_entry *entries, const struct slot_set *s, gva_t linear,
                               uint64_t span)
{
    uint64_t groups = s->groups;
    if (span >> (PAGE_SHIFT + 6) < ARRAY_LEN(s->slots))
        groups &= (BIT(span >> (PAGE_SHIFT + 6)) - 1) << (tlb_index(linear) / 64);
    for (; groups; groups &= groups - 1) {
        const unsigned group = (unsigned)__builtin_ctzll(groups);
        for (uint64_t left = s->slots[group]; left; left &= left - 1) {
            const unsigned index = group * 64 + (unsigned)__builtin_ctzll(left);
            if (entries[index].tag - linear < span)
                entries[index].tag = empty_tag(index);
        }
    }
}

void context_drop_range(struct mmu_context *c, gva_t linear, uint64_t span)
{
    c->mmu->stats.drops++;
    if (span == PAGE_SIZE) {
        context_drop_page(c, linear);
        return;
    }
    context_forget_tlb2(c);
    psc_drop_range(c, linear, span);
    stack_drop(c->mmu, c->tlb);
    near_clear(c->tlb);
    entries_drop_range(c->tlb->read, &c->read, linear, span);
    entries_drop_range(c->tlb->write, &c->write, linear, span);
    exec_drop_range(c, linear, span, 0, 0);
}

static void entries_drop_host(struct tlb_entry *entries, const struct slot_set *s, const uint8_t *host,
                              uint64_t span)
{
    for (uint64_t groups = s->groups; groups; groups &= groups - 1) {
        const unsigned group = (unsigned)__builtin_ctzll(groups);
        for (uint64_t left = s->slots[group]; left; left &= left - 1) {
            const unsigned index = group * 64 + (unsigned)__builtin_ctzll(left);
            if ((uint64_t)((uintptr_t)entries[index].host - (uintptr_t)host) < span)
                entries[index].tag = empty_tag(index);
        }
    }
}

void context_drop_target(struct mmu_context *c, gpa_t gpa, uint64_t span)
{
    const uint8_t *host = phys_page_host(c->mmu->phys, gpa);
    c->mmu->stats.drops++;
    context_forget_tlb2(c);
    if (host) {
        stack_drop(c->mmu, c->tlb);
        near_clear(c->tlb);
        entries_drop_host(c->tlb->read, &c->read, host, span);
        entries_drop_host(c->tlb->write, &c->write, host, span);
    }
    exec_drop_range(c, 0, 0, gpa, span);
}

void context_forget_table(struct mmu_context *c, unsigned level, uint64_t base)
{
    const struct paging_mode *p = c->rules.paging;
    psc_drop_range(c, linear_extend(p, base), table_span(p, level));
}

void context_reset(struct mmu_context *c)
{
    struct tables *t = phys_tables(c->mmu->phys);
    if (c->exec.groups || exec_any_evicted(c))
        context_exec_dropped(c);
    writers_clear(c);
    stack_drop(c->mmu, c->tlb);
    near_clear(c->tlb);
    entries_clear(c->tlb->read, &c->read);
    entries_clear(c->tlb->write, &c->write);
    exec_clear(c);
    context_forget_tlb2(c);
    context_forget_psc(c);
    tables_free_owner(t, &c->nodes);
    c->space = NULL;
    c->mmu->stats.drops++;
    t->drops++;
}

void mmu_drop_all(struct mmu *m)
{
    struct tables *t = phys_tables(m->phys);
    for (unsigned i = 0; i < mmu_pool(m)->made; i++)
        context_reset(&mmu_pool(m)->contexts[i]);
    for (unsigned i = 0; i < EPT_SPACES; i++) {
        if (t->spaces[i].used)
            ept_space_reset(m->phys, &t->spaces[i]);
        t->spaces[i].used = false;
    }
}

/* -- Translations ------------------------------------------------------------------------------------------
 */

static gva_t linear_truncate(const struct walk_rules *r, gva_t linear)
{
    return r->paging->linear_bits > 32 ? linear : linear & 0xffffffff;
}

static unsigned access_bits(enum mmu_access access)
{
    return access == MMU_READ ? CAN_READ : access == MMU_WRITE ? CAN_WRITE : CAN_EXEC;
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

static bool tlb2_lookup(const struct mmu_context *c, gva_t linear, enum mmu_access access,
                        struct walk_result *r)
{
    const struct tlb2_entry *e = tlb2_set(c, linear);
    const uint64_t tag = (linear & ~PAGE_MASK) | c->tlb2_id;
    if (e->tag != tag && (++e)->tag != tag)
        return false;
    const uint64_t need = access == MMU_WRITE ? CAN_WRITE | TLB2_DIRTY : access_bits(access);
    if ((e->page & need) != need)
        return false;
    r->gpa = (e->page & PTE_ADDR) | (linear & PAGE_MASK);
    r->can = (unsigned)(e->page & (CAN_READ | CAN_WRITE | CAN_EXEC));
    r->dirty = e->page & TLB2_DIRTY;
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
    if (likely(tlb2_lookup(c, linear, access, &r))) {
        if (unlikely(m->verify))
            verify_hit(c, linear, access, r.gpa);
        if (!(flags & (MMU_NO_FILL | MMU_PROBE)))
            tlb_fill(c, linear, access, &r);
        *gpa = r.gpa;
        f->kind = MMU_OK;
        return true;
    }
    if (likely(!(flags & (MMU_NO_FILL | MMU_PROBE))) && walk_quick(c, linear, access, &r)) {
        tlb2_fill(c, linear, &r);
        tlb_fill(c, linear, access, &r);
        *gpa = r.gpa;
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
    if (r.cacheable && !(flags & MMU_NO_FILL)) {
        tlb2_fill(c, linear, &r);
        tlb_fill(c, linear, access, &r);
    } else if (access == MMU_EXEC && !(flags & MMU_PROBE)) {
        exec_note_evicted(c, linear & ~PAGE_MASK);
    }
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
        ept_rules_make(&ept, m, normal.eptp, normal.maxphyaddr, normal.mbe);
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
    if (unlikely(((r.gpa & ~PAGE_MASK) | 1) == c->tlb->mode.apic_page) && !q.probe) {
        f->kind = MMU_FAULT_APIC_ACCESS;
        f->gpa = r.gpa;
        return false;
    }
    *out = r.gpa;
    return true;
}
