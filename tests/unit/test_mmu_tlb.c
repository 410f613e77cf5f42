/*
 * tests/unit/test_mmu_tlb.c -- contexts, and that no cached translation outlives the bytes it was made from.
 */
#include <signal.h>

#include "test_mmu_kit.h"
#include "mmu/internal.h"

static struct kit k;
static struct mmu *m;
static struct mmu_mode mode;
static gpa_t pml4, pdpt, pd, pt;

static void setup(void)
{
    kit_init(&k);
    m = &k.mmu[0];
    pml4 = kit_page(&k), pdpt = kit_page(&k), pd = kit_page(&k), pt = kit_page(&k);
    kit_set(&k, pml4, pdpt | P | RW | US);
    kit_set(&k, pdpt, pd | P | RW | US);
    kit_set(&k, pd, pt | P | RW | US);
    for (unsigned i = 0; i < 512; i++)
        kit_set(&k, pt + i * 8, (0x400000 + i * 0x1000) | P | RW | US);
    mode = kit_mode_4level(pml4);
}

static void teardown(void)
{
    kit_free(&k);
}

static gpa_t translate(gva_t linear, enum mmu_access access)
{
    struct mmu_fault f;
    gpa_t gpa = ~0ull;
    cr_assert(mmu_translate(m, linear, access, 0, &gpa, &f), "fault %u error %#x", f.kind, f.error_code);
    return gpa;
}

static bool faults(gva_t linear, enum mmu_access access, uint32_t error)
{
    struct mmu_fault f;
    gpa_t gpa;
    return !mmu_translate(m, linear, access, 0, &gpa, &f) && f.kind == MMU_FAULT_PAGE &&
           f.error_code == error;
}

static bool observed(gpa_t gpa)
{
    return phys_page(&k.phys, gpa)->observers & OBSERVE_TABLES;
}

/* -- Contexts ----------------------------------------------------------------------------------------------
 */

Test(tlb, contexts_share_what_is_equal, .init = setup, .fini = teardown)
{
    struct tlb *a = mmu_select(m, &mode);
    struct mmu_mode other = mode;
    other.cr3 |= 0x18 | BIT(63);
    cr_assert_eq(mmu_select(m, &other), a, "PWT, PCD and bit 63 of CR3");
    other = mode;
    other.pkru = 5;
    other.pdpte[2] = 77;
    other.eptp = 0x1000;
    other.ac = true;
    other.cr0 |= BIT(1) | BIT(3);
    other.efer |= 1;
    other.cpl = 2;
    cr_assert_eq(mmu_select(m, &other), a);
    other.cpl = 3;
    struct tlb *user = mmu_select(m, &other);
    cr_assert_neq(user, a);
    other.cr0 &= ~CR0_WP;
    cr_assert_eq(mmu_select(m, &other), user, "WP means nothing to user mode");
    other = mode;
    other.cr4 |= CR4_SMAP;
    struct tlb *smap = mmu_select(m, &other);
    cr_assert_neq(smap, a);
    other.ac = true;
    cr_assert_eq(mmu_select(m, &other), a, "SMAP lifted by AC is no SMAP");
    other = mode;
    other.cr4 |= CR4_PKE;
    struct tlb *keys = mmu_select(m, &other);
    other.pkru = 1;
    cr_assert_neq(mmu_select(m, &other), keys);
    struct mmu_mode differs[] = {mode, mode, mode, mode};
    differs[0].cr3 += 0x1000;
    differs[1].cr0 &= ~CR0_WP;
    differs[2].efer &= ~EFER_NXE;
    differs[3].ept = true;
    for (unsigned i = 0; i < ARRAY_LEN(differs); i++)
        cr_assert_neq(mmu_select(m, &differs[i]), a);
    cr_assert_eq(mmu_select(m, &mode), a);
}

/* Page tables for one page at 0x3000, like those of setup() but with a root of their own. */
static gpa_t other_root(void)
{
    gpa_t root = kit_page(&k);
    kit_set(&k, root, pdpt | P | RW | US);
    return root;
}

Test(tlb, contexts_are_recycled, .init = setup, .fini = teardown)
{
    enum { SPACES = 2 * MMU_CONTEXTS };
    static gpa_t root[SPACES];
    static struct tlb *jumps_tlb[SPACES];
    static uint64_t jumps_generation[SPACES];
    struct tlb *first = mmu_select(m, &mode);
    translate(0x3000, MMU_EXEC);
    struct mmu_mode other = mode;
    unsigned made = 0, recycled = 0, lost = 0;
    for (unsigned i = 0; i < SPACES; i++)
        root[i] = other_root();
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < SPACES; i++) {
            other.cr3 = root[i];
            struct tlb *t = mmu_select(m, &other);
            cr_assert(t->index < MMU_CONTEXTS && t == &m->contexts[t->index]);
            /* A jump cached for (context, generation) must not be taken for another address space. */
            for (unsigned j = 0; j < SPACES; j++)
                if (j != i && jumps_tlb[j] == t)
                    cr_assert_neq(jumps_generation[j], m->generation, "recycled context, same generation");
            const bool hits = kit_hits(t, 0x3000, MMU_EXEC);
            if (jumps_tlb[i] == t && jumps_generation[i] == m->generation)
                cr_assert(hits);
            made += !hits;
            cr_assert_eq(t->mode.cr3, root[i]);
            translate(0x3000, MMU_EXEC);
            translate(0x3000, MMU_WRITE);
            jumps_tlb[i] = t;
            jumps_generation[i] = m->generation;
            if (i % 7 == 0) /* keeps it in use */
            {
                struct tlb *now = mmu_select(m, &mode);
                lost += now != first;
                first = now;
            }
        }
        recycled = made - (MMU_CONTEXTS - 1);
    }
    cr_assert_gt(recycled, SPACES);
    cr_assert_lt(lost, 8, "what is in use stays, %u", lost);
    /* Gentle: with twice as many spaces as contexts some are still met again. */
    cr_assert_lt(made, 4 * SPACES - 40, "%u contexts made", made);
}

/* An unused context costs no memory; dropping one costs what was filled. */
Test(tlb, contexts_are_made_lazily, .init = setup, .fini = teardown)
{
    struct mmu_pool *pool = mmu_pool(m);
    const unsigned made = pool->made;
    cr_assert_leq(made, 2);
    struct tlb *t = mmu_select(m, &mode);
    cr_assert_eq(pool->made, made + 1);
    cr_assert_eq(mmu_select(m, &mode), t);
    cr_assert_eq(pool->made, made + 1);
    cr_assert_eq(context_current(m)->read.groups | context_current(m)->write.groups, 0);
    translate(0x3000, MMU_WRITE);
    translate(0x45000, MMU_READ);
    cr_assert_eq(context_current(m)->read.slots[0], BIT(3));
    cr_assert_eq(context_current(m)->read.slots[1], BIT(5));
    mmu_drop_all(m);
    cr_assert_eq(context_current(m)->read.groups | context_current(m)->write.groups, 0);
    for (unsigned i = 0; i < TLB_ENTRIES; i++)
        cr_assert_not(kit_hits(t, (gva_t)i * PAGE_SIZE, MMU_READ) ||
                      kit_hits(t, ~(gva_t)0 - (gva_t)i * PAGE_SIZE, MMU_READ));
}

/* The second level serves what the first has lost by conflict, and what it may not have. */
Test(tlb, second_level, .init = setup, .fini = teardown)
{
    const gva_t far = (gva_t)TLB_ENTRIES * PAGE_SIZE; /* the same slot */
    kit_set(&k, pd + (far >> 21) * 8, pt | P | RW | US);
    kit_set(&k, pt + 8 * 8, 0xfee00000 | P | RW);
    struct tlb *t = mmu_select(m, &mode);
    translate(0x3000, MMU_WRITE);
    translate(far + 0x3000, MMU_WRITE);
    cr_assert_eq(translate(0x8010, MMU_READ), 0xfee00010);
    const uint64_t walks = m->stats.walks;
    for (unsigned i = 0; i < 8; i++) {
        const gva_t at = (i & 1 ? far : 0) + 0x3000;
        cr_assert_eq(translate(at, MMU_WRITE), 0x403000);
        cr_assert(kit_hits(t, at, MMU_READ) && kit_hits(t, at, MMU_WRITE));
        cr_assert_eq(translate(0x8010, MMU_READ), 0xfee00010);
    }
    translate(0x3000, MMU_EXEC);
    cr_assert_eq(m->stats.walks, walks, "no walk");
    /* coherent: both aliases, the page that is not RAM, and rights */
    kit_set(&k, pt + 3 * 8, 0x503000 | P | US | ACC);
    kit_set(&k, pt + 8 * 8, 0xfec00000 | P);
    cr_assert_eq(translate(0x3000, MMU_READ), 0x503000);
    cr_assert_eq(translate(far + 0x3000, MMU_READ), 0x503000);
    cr_assert_eq(translate(0x8010, MMU_READ), 0xfec00010);
    cr_assert(faults(0x3000, MMU_WRITE, 3));
    cr_assert(faults(0x8000, MMU_WRITE, 3));
    /* a page that becomes observed has no write entry, though the second level knows it */
    translate(0x5000, MMU_WRITE);
    phys_observe(&k.phys, 0x405000, OBSERVE_CODE);
    cr_assert_not(kit_hits(t, 0x5000, MMU_WRITE));
    translate(0x5000, MMU_WRITE);
    cr_assert_not(kit_hits(t, 0x5000, MMU_WRITE));
    phys_unobserve(&k.phys, 0x405000, OBSERVE_CODE);
}

/* One page written under many addresses: each may have an entry, but not more than its metadata can name. */
Test(tlb, write_slots, .init = setup, .fini = teardown)
{
    for (unsigned i = 0; i < 8; i++)
        kit_set(&k, pt + (16 + i) * 8, 0x410000 | P | RW | US);
    kit_set(&k, pd + 2 * 8, pt | P | RW | US); /* 0x410000: also at its home slot */
    kit_set(&k, pt + 0x10 * 8, 0x410000 | P | RW | US);
    struct tlb *t = mmu_select(m, &mode);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 8; i++)
            translate(0x10000 + i * 0x1000, MMU_WRITE);
        translate(0x410000, MMU_WRITE);
        mode.cpl = 3;
        struct tlb *u = mmu_select(m, &mode);
        translate(0x10000 + 7 * 0x1000, MMU_WRITE);
        mode.cpl = 0;
        mmu_select(m, &mode);
        unsigned hits = 0;
        for (unsigned i = 0; i < 8; i++)
            hits += kit_hits(t, 0x10000 + i * 0x1000, MMU_WRITE);
        cr_assert_geq(hits, 2);
        cr_assert(kit_hits(t, 0x410000, MMU_WRITE) && kit_hits(u, 0x17000, MMU_WRITE));
        phys_observe(&k.phys, 0x410000, OBSERVE_CODE);
        for (unsigned i = 0; i < 8; i++)
            cr_assert_not(kit_hits(t, 0x10000 + i * 0x1000, MMU_WRITE) ||
                          kit_hits(u, 0x10000 + i * 0x1000, MMU_WRITE));
        cr_assert_not(kit_hits(t, 0x410000, MMU_WRITE));
        phys_unobserve(&k.phys, 0x410000, OBSERVE_CODE);
    }
}

/* The generation moves when, and only when, a jump in the current context may have lost its translation. */
Test(tlb, generation, .init = setup, .fini = teardown)
{
    mmu_select(m, &mode);
    translate(0x3000, MMU_WRITE);
    translate(0x4000, MMU_EXEC);
    uint64_t generation = m->generation;
    kit_set(&k, pt + 3 * 8, 0);
    cr_assert_eq(m->generation, generation, "never executed");
    kit_set(&k, pt + 4 * 8, kit_get(&k, pt + 4 * 8) & ~RW);
    cr_assert_gt(m->generation, generation);
    /* an entry lost by conflict is not forgotten */
    const gva_t far = (gva_t)PAGE_SIZE << TLB_EXEC_BITS;
    kit_set(&k, pd + (far >> 21) * 8, pt | P | RW | US);
    translate(0x5000, MMU_EXEC);
    translate(far + 0x5000, MMU_EXEC);
    kit_set(&k, pt + 6 * 8, 0x406000 | P | RW | US);
    translate(0x6000, MMU_READ);
    generation = m->generation;
    kit_set(&k, pd, 0);
    cr_assert_gt(m->generation, generation);
    kit_set(&k, pd, pt | P | RW | US);
    /* in a context that is not current: when it is selected again, once */
    struct mmu_mode user = mode;
    user.cpl = 3;
    translate(0x7000, MMU_EXEC);
    translate(0x8000, MMU_EXEC);
    mmu_select(m, &user);
    translate(0x9000, MMU_EXEC);
    generation = m->generation;
    kit_set(&k, pt + 7 * 8, 0);
    kit_set(&k, pt + 8 * 8, 0);
    cr_assert_eq(m->generation, generation);
    mmu_select(m, &mode);
    cr_assert_eq(m->generation, generation + 1);
    mmu_select(m, &user);
    mmu_select(m, &mode);
    cr_assert_eq(m->generation, generation + 1, "selecting alone moves nothing");
}

/* An implicit supervisor access in user mode is served by, and fills, the supervisor's context. */
Test(tlb, system_access, .init = setup, .fini = teardown)
{
    struct mmu_fault f;
    gpa_t gpa;
    kit_set(&k, pt, 0x400000 | P | RW); /* supervisor page */
    struct tlb *kernel = mmu_select(m, &mode);
    mode.cpl = 3;
    struct tlb *user = mmu_select(m, &mode);
    cr_assert(mmu_translate(m, 0, MMU_READ, MMU_SYSTEM, &gpa, &f));
    cr_assert_eq(m->current, user);
    cr_assert_not(kit_hits(user, 0, MMU_READ));
    cr_assert(kit_hits(kernel, 0, MMU_READ));
    cr_assert(faults(0, MMU_READ, 5));
}

/* -- Fills -------------------------------------------------------------------------------------------------
 */

Test(tlb, fills, .init = setup, .fini = teardown)
{
    struct mmu_fault f;
    gpa_t gpa;
    struct tlb *t = mmu_select(m, &mode);
    cr_assert(mmu_translate(m, 0x1000, MMU_READ, MMU_NO_FILL, &gpa, &f));
    cr_assert(mmu_translate(m, 0x1000, MMU_READ, MMU_PROBE, &gpa, &f));
    cr_assert_not(kit_hits(t, 0x1000, MMU_READ));
    cr_assert_eq(translate(0x1234, MMU_READ), 0x401234);
    cr_assert(kit_hits(t, 0x1000, MMU_READ));
    cr_assert_not(kit_hits(t, 0x1000, MMU_WRITE), "no write entry before the dirty flag");
    translate(0x1000, MMU_WRITE);
    cr_assert(kit_hits(t, 0x1000, MMU_WRITE));
    cr_assert_eq(t->write[1].host, k.phys.ram + 0x401000);
    cr_assert_not(kit_hits(t, 0x1000, MMU_EXEC));
    cr_assert_eq(translate(0x1678, MMU_EXEC), 0x401678);
    cr_assert_eq(t->exec[1].gpa, 0x401000);
    /* what is not RAM has no entry */
    kit_set(&k, pt + 8, 0xfee00000 | P | RW);
    cr_assert_eq(translate(0x1020, MMU_WRITE), 0xfee00020);
    cr_assert_not(kit_hits(t, 0x1000, MMU_READ));
    /* RAM above 4 GB */
    kit_set(&k, pt + 8, BIT(32) | P | RW);
    cr_assert_eq(translate(0x1020, MMU_WRITE), BIT(32) + 0x20);
    cr_assert_eq(t->write[1].host, k.phys.ram + KIT_HOLE);
    cr_assert_eq(translate(0x1020, MMU_WRITE), BIT(32) + 0x20);
    gva_t where;
    cr_assert_eq(mmu_verify(m, &where), 0);
}

/* The APIC-access page never has an entry, so each access can be virtualized. */
Test(tlb, apic_page, .init = setup, .fini = teardown)
{
    struct mmu_mode other = mode;
    other.apic_page = 0x403001;
    struct tlb *t = mmu_select(m, &other);
    cr_assert_neq(t, mmu_select(m, &mode));
    mmu_select(m, &other);
    for (int kind = MMU_READ; kind <= MMU_EXEC; kind++) {
        cr_assert_eq(translate(0x3010, kind), 0x403010);
        cr_assert_not(kit_hits(t, 0x3000, kind));
        translate(0x2000, kind);
        cr_assert(kit_hits(t, 0x2000, kind));
    }
    other.apic_page = 0x999000; /* bit 0 clear: none */
    cr_assert_eq(mmu_select(m, &other), mmu_select(m, &mode));
}

/* -- Coherence ---------------------------------------------------------------------------------------------
 */

Test(tlb, leaf_change_drops_one_page, .init = setup, .fini = teardown)
{
    struct tlb *t = mmu_select(m, &mode);
    for (unsigned i = 0; i < 8; i++) {
        translate(i * 0x1000, MMU_WRITE);
        translate(i * 0x1000, MMU_EXEC);
    }
    kit_set(&k, pt + 3 * 8, 0x500000 | P | RW);
    for (unsigned i = 0; i < 8; i++) {
        for (int kind = MMU_READ; kind <= MMU_EXEC; kind++)
            cr_assert_eq(kit_hits(t, i * 0x1000, kind), i != 3);
    }
    cr_assert_eq(translate(0x3000, MMU_READ), 0x500000);
    kit_set(&k, pt + 3 * 8, 0);
    cr_assert(faults(0x3000, MMU_READ, 0));
    /* a write of part of an entry, and one across two */
    phys_store(&k.phys, pt + 4 * 8 + 2, 1, 0x60);
    cr_assert_eq(translate(0x4000, MMU_READ), 0x604000);
    phys_store(&k.phys, pt + 5 * 8 + 4, 8, 0);
    cr_assert(faults(0x6000, MMU_READ, 0));
}

Test(tlb, harmless_writes_drop_nothing, .init = setup, .fini = teardown)
{
    struct tlb *t = mmu_select(m, &mode);
    translate(0x3000, MMU_WRITE);
    translate(0x3000, MMU_EXEC);
    kit_set(&k, pt + 9 * 8, 0);
    const uint64_t drops = m->stats.drops, generation = m->generation;
    kit_set(&k, pt + 9 * 8, 0x700000 | P | RW);                                 /* absent to present */
    kit_set(&k, pt + 10 * 8, 0x700000 | P);                                     /* never used */
    kit_set(&k, pt + 3 * 8, kit_get(&k, pt + 3 * 8));                           /* the same */
    kit_set(&k, pt + 3 * 8, kit_get(&k, pt + 3 * 8) | BIT(9) | BIT(52) | 0x18); /* available, PWT, PCD */
    kit_set(&k, pt + 3 * 8, kit_get(&k, pt + 3 * 8) | BIT(8) | BIT(7));         /* G, PAT */
    kit_set(&k, pd, kit_get(&k, pd) | DIR | BIT(11));
    cr_assert_eq(m->stats.drops, drops);
    cr_assert_eq(m->generation, generation);
    for (int kind = MMU_READ; kind <= MMU_EXEC; kind++)
        cr_assert(kit_hits(t, 0x3000, kind));
}

Test(tlb, rights_lost_and_won, .init = setup, .fini = teardown)
{
    struct tlb *t = mmu_select(m, &mode);
    translate(0x3000, MMU_WRITE);
    kit_set(&k, pt + 3 * 8, kit_get(&k, pt + 3 * 8) & ~RW);
    cr_assert_not(kit_hits(t, 0x3000, MMU_WRITE));
    cr_assert(faults(0x3000, MMU_WRITE, 3));
    translate(0x3000, MMU_READ);
    kit_set(&k, pt + 3 * 8, kit_get(&k, pt + 3 * 8) | RW);
    cr_assert(kit_hits(t, 0x3000, MMU_READ));
    translate(0x3000, MMU_WRITE);
    translate(0x3000, MMU_EXEC);
    const uint64_t generation = m->generation;
    kit_set(&k, pt + 3 * 8, kit_get(&k, pt + 3 * 8) | XD);
    cr_assert_neq(m->generation, generation);
    cr_assert(faults(0x3000, MMU_EXEC, 0x11));
    /* rights won in an upper entry are seen through its cached way */
    kit_set(&k, pd, pt | P | US);
    cr_assert(faults(0x4000, MMU_WRITE, 3));
    translate(0x4000, MMU_READ);
    kit_set(&k, pd, kit_get(&k, pd) | RW);
    translate(0x4000, MMU_WRITE);
}

Test(tlb, upper_entries, .init = setup, .fini = teardown)
{
    struct tlb *t = mmu_select(m, &mode);
    const gpa_t at[3] = {pd, pdpt, pml4};
    gpa_t pt2 = kit_page(&k);
    kit_set(&k, pd + 8, pt2 | P | RW);
    kit_set(&k, pt2, 0x600000 | P | RW);
    for (unsigned i = 0; i < 3; i++) {
        translate(0x3000, MMU_WRITE);
        translate(0x200000, MMU_READ);
        const uint64_t old = kit_get(&k, at[i]);
        kit_set(&k, at[i], 0);
        cr_assert_not(kit_hits(t, 0x3000, MMU_READ));
        cr_assert_not(kit_hits(t, 0x3000, MMU_WRITE));
        cr_assert_eq(kit_hits(t, 0x200000, MMU_READ), i == 0, "only what the entry covers");
        cr_assert(faults(0x3000, MMU_READ, 0));
        kit_set(&k, at[i], old);
        cr_assert_eq(translate(0x3000, MMU_READ), 0x403000);
    }
    /* a table becomes a large page, and back */
    kit_set(&k, pd, 0x800000 | P | RW | PS);
    cr_assert_eq(translate(0x3000, MMU_READ), 0x803000);
    cr_assert_eq(translate(0x4000, MMU_READ), 0x804000);
    kit_set(&k, pd, pt | P | RW);
    cr_assert_eq(translate(0x3000, MMU_READ), 0x403000);
    cr_assert_eq(translate(0x4000, MMU_READ), 0x404000);
}

/* Software clears A or D: the next use sets it again, however warm the TLB is. */
Test(tlb, cleared_flags_are_set_again, .init = setup, .fini = teardown)
{
    struct tlb *t = mmu_select(m, &mode);
    const gpa_t entries[4] = {pt + 3 * 8, pd, pdpt, pml4};
    for (unsigned i = 0; i < 4; i++) {
        translate(0x3000, MMU_READ);
        cr_assert(kit_get(&k, entries[i]) & ACC);
        kit_set(&k, entries[i], kit_get(&k, entries[i]) & ~ACC);
        cr_assert_not(kit_hits(t, 0x3000, MMU_READ));
        translate(0x3000, MMU_READ);
        cr_assert(kit_get(&k, entries[i]) & ACC);
    }
    translate(0x3000, MMU_WRITE);
    cr_assert(kit_hits(t, 0x3000, MMU_WRITE));
    kit_set(&k, pt + 3 * 8, kit_get(&k, pt + 3 * 8) & ~DIR);
    cr_assert_not(kit_hits(t, 0x3000, MMU_WRITE));
    translate(0x3000, MMU_READ);
    cr_assert_not(kit_hits(t, 0x3000, MMU_WRITE));
    cr_assert_eq(kit_get(&k, pt + 3 * 8) & DIR, 0);
    translate(0x3000, MMU_WRITE);
    cr_assert(kit_get(&k, pt + 3 * 8) & DIR);
}

/* The flags that the walk itself sets drop nothing. */
Test(tlb, own_flags_drop_nothing, .init = setup, .fini = teardown)
{
    mmu_select(m, &mode);
    translate(0x3000, MMU_READ);
    const uint64_t drops = m->stats.drops;
    translate(0x3000, MMU_WRITE);
    translate(0x4000, MMU_WRITE);
    cr_assert_eq(m->stats.drops, drops);
}

/* A table whose entries are gone becomes ordinary memory again. */
Test(tlb, table_becomes_data, .init = setup, .fini = teardown)
{
    struct tlb *t = mmu_select(m, &mode);
    struct mmu_mode flat = {.maxphyaddr = 46};
    for (unsigned i = 0; i < 8; i++)
        translate(i * 0x1000, MMU_WRITE);
    cr_assert(observed(pt) && observed(pd) && observed(pdpt) && observed(pml4));
    for (unsigned i = 0; i < 8; i++)
        kit_set(&k, pt + i * 8, 0);
    cr_assert_not(observed(pt));
    cr_assert(observed(pd));
    kit_set(&k, pd, 0);
    cr_assert_not(observed(pd));
    struct tlb *f = mmu_select(m, &flat);
    translate(pt, MMU_WRITE);
    cr_assert(kit_hits(f, pt, MMU_WRITE));
    /* and a table again: its write entry goes */
    kit_set(&k, pd, pt | P | RW);
    kit_set(&k, pt, 0x400000 | P | RW);
    cr_assert_eq(mmu_select(m, &mode), t);
    translate(0, MMU_READ);
    cr_assert(observed(pt));
    cr_assert_not(kit_hits(f, pt, MMU_WRITE));
    /* recycled without clearing entries: data that overwrites it ends the watch too */
    uint8_t data[PAGE_SIZE];
    memset(data, 0xa5, sizeof data);
    phys_write(&k.phys, pt, data, sizeof data);
    cr_assert_not(observed(pt));
    /* a context that goes takes its watch along */
    cr_assert(observed(pml4));
    mmu_drop_all(m);
    cr_assert_not(observed(pml4));
}

/* One table under two addresses, in two contexts and two processors: all see the change. */
Test(tlb, aliases, .init = setup, .fini = teardown)
{
    kit_set(&k, pd + 8 * 5, pt | P | RW | US);
    kit_set(&k, pml4 + 8 * 300, pdpt | P | RW | US);
    const gva_t high = 0xffff960000000000;
    struct mmu_mode user = mode;
    struct mmu_fault f;
    gpa_t gpa;
    user.cpl = 3;
    struct tlb *t[3];
    t[0] = mmu_select(m, &mode);
    translate(0x3000, MMU_WRITE);
    translate(0xa03000, MMU_WRITE);
    translate(high + 0x3000, MMU_WRITE);
    t[1] = mmu_select(m, &user);
    translate(0x3000, MMU_READ);
    t[2] = mmu_select(&k.mmu[1], &mode);
    cr_assert(mmu_translate(&k.mmu[1], 0x3000, MMU_WRITE, 0, &gpa, &f));
    kit_set(&k, pt + 3 * 8, 0);
    for (unsigned i = 0; i < 3; i++) {
        for (int kind = MMU_READ; kind <= MMU_EXEC; kind++) {
            cr_assert_not(kit_hits(t[i], 0x3000, kind));
            cr_assert_not(kit_hits(t[i], 0xa03000, kind));
            cr_assert_not(kit_hits(t[i], high + 0x3000, kind));
        }
    }
    /* an entry of the upper half of the top table */
    mmu_select(m, &mode);
    translate(high + 0x4000, MMU_READ);
    kit_set(&k, pml4 + 8 * 300, 0);
    cr_assert_not(kit_hits(t[0], high + 0x4000, MMU_READ));
}

/* A table that maps itself: its own flags are its own bytes. */
Test(tlb, recursive_table, .init = setup, .fini = teardown)
{
    kit_set(&k, pml4 + 8 * 511, pml4 | P | RW);
    struct tlb *t = mmu_select(m, &mode);
    gva_t where;
    const gva_t self = 0xfffffffffffff000;
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(translate(self, MMU_READ), pml4);
        cr_assert_eq(translate(self | 0xff8, MMU_WRITE), pml4 | 0xff8);
    }
    cr_assert_not(kit_hits(t, self, MMU_WRITE), "a table is observed");
    cr_assert(kit_hits(t, self, MMU_READ));
    cr_assert_eq(mmu_verify(m, &where), 0);
    kit_set(&k, pml4 + 8 * 511, 0);
    cr_assert_not(kit_hits(t, self, MMU_READ));
    cr_assert(faults(self, MMU_READ, 0));
}

/* 32-bit entries share 8-byte words with their neighbours. */
Test(tlb, entries_of_32_bits, .init = setup, .fini = teardown)
{
    gpa_t dir = kit_page(&k), table = kit_page(&k);
    struct mmu_mode small = {.cr0 = CR0_PE | CR0_PG | CR0_WP, .cr3 = dir, .cr4 = CR4_PSE, .maxphyaddr = 40};
    phys_store(&k.phys, dir, 4, table | P | RW);
    phys_store(&k.phys, table + 8, 4, 0x402000 | P | RW);
    phys_store(&k.phys, table + 12, 4, 0x403000 | P | RW);
    struct tlb *t = mmu_select(m, &small);
    translate(0x2000, MMU_WRITE);
    translate(0x3000, MMU_WRITE);
    phys_store(&k.phys, table + 12, 4, 0);
    cr_assert(kit_hits(t, 0x2000, MMU_WRITE));
    cr_assert_not(kit_hits(t, 0x3000, MMU_WRITE));
    cr_assert(observed(table));
    phys_store(&k.phys, table + 8, 4, 0);
    cr_assert_not(observed(table));
    phys_store(&k.phys, dir + 4, 4, 0x800000 | P | RW | PS);
    cr_assert_eq(translate(0x512345, MMU_WRITE), 0x912345);
    phys_store(&k.phys, dir + 4, 4, 0xc00000 | P | RW | PS);
    cr_assert_eq(translate(0x512345, MMU_WRITE), 0xd12345);
}

/* The store of dependencies is bounded: many tables, many contexts, and still all is right. */
Test(tlb, store_overflows, .init = setup, .fini = teardown)
{
    struct tables *t = phys_tables(&k.phys);
    uint64_t seed = 4711;
    gva_t where;
    t->record_max = 6144;
    t->node_max = 65536;
    /* 7000 page tables, so more than there are records: every page from 2M on is one, at two addresses each.
     */
    for (unsigned i = 0; i < 14000; i++) {
        gpa_t page = i % 7000 < 3500 ? 0x200000 + (i % 3500) * 0x1000 : BIT(32) + (i % 3500) * 0x1000;
        gpa_t dir = 0x110000 + i / 512 * 0x1000;
        kit_set(&k, pdpt + (1 + i / 512) * 8, dir | P | RW);
        kit_set(&k, dir + i % 512 * 8, page | P | RW);
        kit_set(&k, page, 0x1000 | P);
    }
    mmu_select(m, &mode);
    for (unsigned i = 0; i < 14000; i++)
        cr_assert_eq(translate(BIT(30) + ((uint64_t)i << 21), MMU_READ), 0x1000);
    cr_assert_leq(t->record_count, t->record_max);
    for (unsigned i = 0; i < 14000; i++)
        cr_assert_eq(translate(BIT(30) + ((uint64_t)i << 21), MMU_READ), 0x1000);
    for (unsigned i = 0; i < 2000; i++) {
        mode.cr4 = (mode.cr4 & ~(CR4_SMEP | CR4_SMAP)) | (i & 1 ? CR4_SMEP : 0) | (i & 2 ? CR4_SMAP : 0);
        mode.pkru = i / 4 % 32;
        mode.cr4 |= CR4_PKE;
        mmu_select(m, &mode);
        for (unsigned j = 0; j < 64; j++)
            translate(BIT(30) + ((kit_random(&seed) % 14000) << 21), MMU_READ);
    }
    cr_assert_leq(t->node_count, t->node_max);
    cr_assert_eq(mmu_verify(m, &where), 0);
}

/* Loading a state and changing the memory map forget everything. */
Test(tlb, state_after_load, .init = setup, .fini = teardown)
{
    struct error e;
    struct tlb *t = mmu_select(m, &mode);
    translate(0x3000, MMU_WRITE);
    cr_assert(mmu_state.after_load(m, &e));
    cr_assert_not(kit_hits(t, 0x3000, MMU_READ));
    cr_assert_eq(mmu_state.size, sizeof(struct mmu));
}

/* Every byte of the structs is described or skipped with a reason. */
Test(tlb, state_coverage)
{
    struct state_gap gaps[4];
    cr_assert_eq(state_coverage(&mmu_state, gaps, 4), 0);
    cr_assert_eq(state_coverage(&phys_state, gaps, 4), 0);
    cr_assert_eq(state_coverage(&bus_state, gaps, 4), 0);
}

/* The check itself: a write that bypasses the observers is found. */
Test(tlb, verify_finds, .init = setup, .fini = teardown)
{
    gva_t where;
    mmu_select(m, &mode);
    translate(0x3000, MMU_WRITE);
    cr_assert_eq(mmu_verify(m, &where), 0);
    store_le(k.phys.ram + pt + 3 * 8, 0x500000 | P | RW | ACC | DIR, 8);
    cr_assert_gt(mmu_verify(m, &where), 0);
}

/* The debug mode stops at the first access whose cached copy is not what a walk gives. */
Test(tlb, verify_stops, .init = setup, .signal = SIGABRT)
{
    m->verify = true;
    struct tlb *t = mmu_select(m, &mode);
    for (unsigned i = 0; i < 3; i++)
        translate(0x3000, MMU_READ);
    cr_assert_not(kit_hits(t, 0x3000, MMU_READ));
    store_le(k.phys.ram + pt + 3 * 8, 0x500000 | P | RW | ACC | DIR, 8);
    translate(0x3000, MMU_READ);
}

/* Page tables in ROM, as firmware has them: flags that cannot be set do no harm. */
Test(tlb, tables_in_rom, .init = setup, .fini = teardown)
{
    gva_t where;
    for (unsigned i = 0; i < 4; i++)
        phys_observe(&k.phys, (gpa_t[]){pml4, pdpt, pd, pt}[i], OBSERVE_ROM);
    struct tlb *t = mmu_select(m, &mode);
    translate(0x3000, MMU_READ);
    translate(0x3000, MMU_WRITE);
    cr_assert(kit_hits(t, 0x3000, MMU_READ));
    cr_assert_eq(kit_get(&k, pt + 3 * 8) & (ACC | DIR), 0);
    cr_assert_eq(mmu_verify(m, &where), 0);
}
