/*
 * mmu/verify.c -- debug checks: what is cached against walks that use no cache.
 *
 * The promise of mmu/ is that nobody can tell; these are the means to find where it is broken. All walks here
 * are probes, and leave no trace in the guest or in the counts.
 * Tests:  tests/unit/test_mmu_stress.c, tests/unit/test_mmu_tlb.c
 */
#include "mmu/internal.h"

bool verify_translation(struct mmu_context *c, gva_t linear, enum mmu_access access, gpa_t gpa)
{
    struct mmu_fault f;
    struct walk_result r;
    const struct walk_request q = {.m = c->mmu,
                                   .rules = &c->rules,
                                   .ept = c->ept ? &c->ept_rules : NULL,
                                   .linear = linear,
                                   .access = access,
                                   .probe = true};
    return walk_run(&q, &r, &f) && r.gpa == gpa && r.flags_complete;
}

void verify_hit(struct mmu_context *c, gva_t linear, enum mmu_access access, gpa_t gpa)
{
    const struct mmu_stats stats = c->mmu->stats;
    require(verify_translation(c, linear, access, gpa),
            "TLB: access %d to linear %#llx (CR3 %#llx, EPTP %#llx) is cached as %#llx, and a walk differs",
            (int)access, (unsigned long long)linear, (unsigned long long)c->tlb->mode.cr3,
            (unsigned long long)(c->ept ? c->tlb->mode.eptp : 0), (unsigned long long)gpa);
    c->mmu->stats = stats;
}

/* -- Whole contexts ----------------------------------------------------------------------------------------
 */

static void entries_verify(struct mmu_context *c, enum mmu_access access, gva_t *linear,
                           uint32_t *differences)
{
    const struct phys *p = c->mmu->phys;
    for (unsigned i = 0; i < TLB_ENTRIES; i++) {
        const struct tlb_entry *e = &(access == MMU_READ ? c->tlb->read : c->tlb->write)[i];
        if ((e->tag & PAGE_MASK) || tlb_index(e->tag) != i)
            continue; /* empty */
        const gpa_t gpa = host_to_gpa(p, e->host);
        if (verify_translation(c, e->tag, access, gpa) &&
            !(access == MMU_WRITE && phys_page(p, gpa)->observers))
            continue;
        if ((*differences)++ == 0)
            *linear = e->tag;
    }
}

static void near_verify(struct mmu_context *c, const struct tlb_entry *e, enum mmu_access access,
                        gva_t *linear, uint32_t *differences)
{
    const gpa_t gpa = host_to_gpa(c->mmu->phys, e->host);
    if (e->tag == TLB_NOWHERE || (verify_translation(c, e->tag, access, gpa) &&
                                  !(access == MMU_WRITE && phys_page(c->mmu->phys, gpa)->observers)))
        return;
    if ((*differences)++ == 0)
        *linear = e->tag;
}

/* What translated code remembers beside the tables. */
static void remembered_verify(struct mmu_context *c, gva_t *linear, uint32_t *differences)
{
    const struct tlb *t = c->tlb;
    for (unsigned i = 0; i < TLB_NEAR; i++) {
        near_verify(c, &t->near_read[i], MMU_READ, linear, differences);
        near_verify(c, &t->near_write[i], MMU_WRITE, linear, differences);
    }
    struct tlb_entry read = {.tag = t->stack.read, .host = (uint8_t *)(t->stack.read + t->stack.delta)};
    struct tlb_entry write = {.tag = t->stack.write, .host = read.host};
    near_verify(c, &read, MMU_READ, linear, differences);
    near_verify(c, &write, MMU_WRITE, linear, differences);
}

static void exec_verify(struct mmu_context *c, gva_t *linear, uint32_t *differences)
{
    for (unsigned i = 0; i < EXEC_COUNT; i++) {
        const uint64_t tag = c->tlb->exec[i].tag;
        if ((tag & PAGE_MASK) || exec_index(tag) != i)
            continue;
        if (!verify_translation(c, tag, MMU_EXEC, c->tlb->exec[i].gpa) && (*differences)++ == 0)
            *linear = tag;
    }
}

static void tlb2_verify(struct mmu_context *c, gva_t *linear, uint32_t *differences)
{
    const struct mmu_pool *pool = mmu_pool(c->mmu);
    for (unsigned i = 0; i < (pool->tlb2_mask + 1) * TLB2_WAYS; i++) {
        const struct tlb2_entry *e = &pool->tlb2[i / TLB2_WAYS][i % TLB2_WAYS];
        const gva_t page = e->tag & ~PAGE_MASK;
        const gpa_t gpa = e->page & PTE_ADDR;
        if ((e->tag & PAGE_MASK) != c->tlb2_id)
            continue;
        bool good = true;
        if (e->page & CAN_READ)
            good &= verify_translation(c, page, MMU_READ, gpa);
        if ((e->page & CAN_WRITE) && (e->page & TLB2_DIRTY))
            good &= verify_translation(c, page, MMU_WRITE, gpa);
        if (e->page & CAN_EXEC)
            good &= verify_translation(c, page, MMU_EXEC, gpa);
        if (!good && (*differences)++ == 0)
            *linear = page;
    }
}

uint32_t mmu_verify(struct mmu *m, gva_t *linear)
{
    struct mmu_context *c = context_current(m);
    const struct mmu_stats stats = m->stats;
    uint32_t differences = tables_verify(phys_tables(m->phys), linear);
    if (context_space(c))
        ept_space_verify(m, c->space, linear, &differences);
    entries_verify(c, MMU_READ, linear, &differences);
    entries_verify(c, MMU_WRITE, linear, &differences);
    remembered_verify(c, linear, &differences);
    exec_verify(c, linear, &differences);
    tlb2_verify(c, linear, &differences);
    m->stats = stats; /* verification is not work of the guest */
    return differences;
}
