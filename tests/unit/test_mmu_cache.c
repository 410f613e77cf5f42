/*
 * tests/unit/test_mmu_cache.c -- the caches behind the TLB: what they save, counted in walks, and what it
 * costs.
 *
 * Counts are judged. Times are printed with --verbose, since machines differ; only what would be a change of
 * order (a clear of whole tables, a search through all contexts) fails.
 */
#include <time.h>

#include "test_mmu_kit.h"
#include "mmu/internal.h"

static struct kit k;
static struct mmu *m;
static struct mmu_mode mode;
static gpa_t pml4, pdpt, pd, pt;

#define LEAF (P | RW | US | ACC | DIR)

static void setup(void)
{
    kit_init(&k);
    m = &k.mmu[0];
    pml4 = kit_page(&k), pdpt = kit_page(&k), pd = kit_page(&k), pt = kit_page(&k);
    kit_set(&k, pml4, pdpt | LEAF);
    kit_set(&k, pdpt, pd | LEAF);
    kit_set(&k, pd, pt | LEAF);
    for (unsigned i = 0; i < 512; i++)
        kit_set(&k, pt + i * 8, (0x400000 + i * 0x1000) | LEAF | XD);
    mode = kit_mode_4level(pml4);
}

static void teardown(void)
{
    kit_free(&k);
}

/* An identity of the first 32 MB: pages of 4 KB or 2 MB. */
static gpa_t ept_identity(bool large)
{
    const gpa_t top = kit_page(&k), second = kit_page(&k), third = kit_page(&k);
    kit_set(&k, top, second | ER | EW | EX);
    kit_set(&k, second, third | ER | EW | EX);
    for (unsigned i = 0; i < 16; i++) {
        if (large) {
            kit_set(&k, third + i * 8, (i * BIT(21)) | ER | EW | EX | WB | PS);
            continue;
        }
        const gpa_t table = kit_page(&k);
        kit_set(&k, third + i * 8, table | ER | EW | EX);
        for (unsigned j = 0; j < 512; j++)
            kit_set(&k, table + j * 8, (i * BIT(21) + j * PAGE_SIZE) | ER | EW | EX | WB);
    }
    return top | 6 | 3 << 3;
}

static gpa_t ept_entry(uint64_t eptp, gpa_t gpa, unsigned level)
{
    gpa_t table = eptp & PTE_ADDR;
    for (unsigned l = 4; l > level; l--)
        table = kit_get(&k, table + (gpa >> (12 + 9 * (l - 1)) & 511) * 8) & PTE_ADDR;
    return table + (gpa >> (12 + 9 * (level - 1)) & 511) * 8;
}

static gpa_t translate(gva_t linear, enum mmu_access access)
{
    struct mmu_fault f;
    gpa_t gpa = ~0ull;
    cr_assert(mmu_translate(m, linear, access, 0, &gpa, &f), "fault %u error %#x", f.kind, f.error_code);
    return gpa;
}

static unsigned fault_kind(gva_t linear, enum mmu_access access, struct mmu_fault *f)
{
    gpa_t gpa;
    return mmu_translate(m, linear, access, 0, &gpa, f) ? MMU_OK : f->kind;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* -- EPT ---------------------------------------------------------------------------------------------------
 */

/* One walk of EPT serves a whole 2 MB page, or the way to a table of 4 KB pages. */
Test(cache, ept_sizes, .init = setup, .fini = teardown)
{
    for (unsigned large = 0; large < 2; large++) {
        mode.ept = true;
        mode.eptp = ept_identity(large);
        mmu_select(m, &mode);
        const uint64_t before = m->stats.ept_walks;
        for (unsigned i = 0; i < 512; i++)
            cr_assert_eq(translate(i * 0x1000, MMU_READ), 0x400000 + i * 0x1000);
        const uint64_t walks = m->stats.ept_walks - before;
        if (large)
            cr_assert_eq(walks, 2, "the tables' page and the data's, %lu", walks);
        else
            cr_assert_leq(walks, 512 + 4);
        /* a change of the large page drops all that it served */
        if (large) {
            kit_set(&k, ept_entry(mode.eptp, 0x400000, 2), 0x600000 | ER | EW | EX | WB | PS);
            for (unsigned i = 0; i < 512; i += 17)
                cr_assert_eq(translate(i * 0x1000, MMU_READ), 0x600000 + i * 0x1000);
            /* split into small ones, and put together again */
            const gpa_t table = kit_page(&k);
            for (unsigned j = 0; j < 512; j++)
                kit_set(&k, table + j * 8, (0x800000 + j * PAGE_SIZE) | ER | EW | EX | WB);
            kit_set(&k, ept_entry(mode.eptp, 0x400000, 2), table | ER | EW | EX);
            for (unsigned i = 0; i < 512; i += 17)
                cr_assert_eq(translate(i * 0x1000, MMU_READ), 0x800000 + i * 0x1000);
            kit_set(&k, table + 34 * 8, 0xa00000 | ER | WB);
            cr_assert_eq(translate(34 * 0x1000, MMU_READ), 0xa00000);
            kit_set(&k, ept_entry(mode.eptp, 0x400000, 2), 0x400000 | ER | EW | EX | WB | PS);
        }
        for (unsigned i = 0; i < 512; i += 17)
            cr_assert_eq(translate(i * 0x1000, MMU_READ), 0x400000 + i * 0x1000);
    }
}

/* A misconfiguration, by which hypervisors mark MMIO, is remembered until its entry is written. */
Test(cache, ept_misconfiguration, .init = setup, .fini = teardown)
{
    struct mmu_fault f;
    mode.ept = true;
    mode.eptp = ept_identity(false);
    mmu_select(m, &mode);
    const gpa_t at = ept_entry(mode.eptp, 0x405000, 1);
    kit_set(&k, at, 0x7ffffff000000 | EW | EX);
    cr_assert_eq(fault_kind(0x5123, MMU_READ, &f), MMU_FAULT_EPT_MISCONFIG);
    const uint64_t walks = m->stats.ept_walks;
    for (int access = MMU_READ; access <= MMU_EXEC; access++) {
        mmu_select(m, &mode);
        const unsigned kind = fault_kind(0x5010 + (unsigned)access, access, &f);
        cr_assert_eq(kind, access == MMU_EXEC ? MMU_FAULT_PAGE : MMU_FAULT_EPT_MISCONFIG, "the page is XD");
        if (access != MMU_EXEC)
            cr_assert_eq(f.gpa, 0x405010 + (unsigned)access);
    }
    cr_assert_eq(m->stats.ept_walks, walks, "no walk");
    kit_set(&k, at, kit_get(&k, at) ^ BIT(40));
    cr_assert_eq(fault_kind(0x5123, MMU_READ, &f), MMU_FAULT_EPT_MISCONFIG);
    cr_assert_gt(m->stats.ept_walks, walks, "walked again");
    /* every way out of it: absent, rights added, put right; and by an entry above */
    kit_set(&k, at, 0);
    cr_assert_eq(fault_kind(0x5123, MMU_READ, &f), MMU_FAULT_EPT_VIOLATION);
    kit_set(&k, at, 0x700000 | EW | WB);
    cr_assert_eq(fault_kind(0x5123, MMU_READ, &f), MMU_FAULT_EPT_MISCONFIG);
    kit_set(&k, at, kit_get(&k, at) | ER);
    cr_assert_eq(translate(0x5123, MMU_READ), 0x700123);
    kit_set(&k, at, 0x700000 | ER | 2 << 3); /* memory type 2 */
    cr_assert_eq(fault_kind(0x5123, MMU_READ, &f), MMU_FAULT_EPT_MISCONFIG);
    kit_set(&k, ept_entry(mode.eptp, 0x405000, 2), 0x600000 | ER | WB | PS);
    cr_assert_eq(translate(0x5123, MMU_READ), 0x605123);
}

/* -- Faults ------------------------------------------------------------------------------------------------
 */

/* A fault that the last entry alone makes is found by the cached way, in one dimension and in two. */
Test(cache, faults_without_walks, .init = setup, .fini = teardown)
{
    struct mmu_fault f;
    kit_set(&k, pt + 7 * 8, 0);
    kit_set(&k, pt + 8 * 8, 0x408000 | P | US | ACC);
    kit_set(&k, pt + 9 * 8, 0x409000 | BIT(51) | LEAF);
    kit_set(&k, pt + 10 * 8, 0x40a000 | P | RW | ACC);
    for (unsigned two = 0; two < 2; two++) {
        mode.ept = two;
        mode.eptp = two ? ept_identity(true) : 0;
        mode.cpl = 3;
        mmu_select(m, &mode);
        translate(0x3000, MMU_READ);
        const uint64_t walks = m->stats.ept_walks;
        cr_assert_eq(fault_kind(0x7000, MMU_READ, &f), MMU_FAULT_PAGE);
        cr_assert_eq(f.error_code, 4);
        cr_assert_eq(f.linear, 0x7000);
        cr_assert_eq(fault_kind(0x8000, MMU_WRITE, &f), MMU_FAULT_PAGE);
        cr_assert_eq(f.error_code, 7);
        cr_assert_eq(fault_kind(0x9000, MMU_READ, &f), MMU_FAULT_PAGE);
        cr_assert_eq(f.error_code, 0xd);
        cr_assert_eq(fault_kind(0xa000, MMU_READ, &f), MMU_FAULT_PAGE);
        cr_assert_eq(f.error_code, 5);
        cr_assert_eq(fault_kind(0x3000, MMU_EXEC, &f), MMU_FAULT_PAGE);
        cr_assert_eq(f.error_code, 0x15);
        cr_assert_eq(m->stats.ept_walks, walks);
        /* rights that an upper entry withholds, and gives */
        kit_set(&k, pd, kit_get(&k, pd) & ~RW);
        cr_assert_eq(fault_kind(0x3000, MMU_WRITE, &f), MMU_FAULT_PAGE);
        translate(0x3000, MMU_READ);
        kit_set(&k, pd, kit_get(&k, pd) | RW);
        translate(0x3000, MMU_WRITE);
        kit_set(&k, pd, kit_get(&k, pd) & ~US);
        cr_assert_eq(fault_kind(0x3000, MMU_READ, &f), MMU_FAULT_PAGE);
        kit_set(&k, pd, kit_get(&k, pd) | US);
        translate(0x3000, MMU_READ);
    }
}

/* -- Costs -------------------------------------------------------------------------------------------------
 */

/* fork(): hundreds of entries of pages in use lose R/W one by one, then the pages are written again. */
Test(cache, cost_of_copy_on_write, .init = setup, .fini = teardown)
{
    struct mmu_mode user = mode;
    double protect = 1e9, fill = 1e9;
    user.cpl = 3;
    mmu_select(m, &user);
    const uint64_t generation = m->generation;
    for (unsigned round = 0; round < 50; round++) {
        mmu_select(m, &user);
        double start = now();
        for (unsigned i = 0; i < 512; i++)
            translate(i * 0x1000, MMU_WRITE);
        fill = MIN(fill, now() - start);
        mmu_select(m, &mode);
        for (unsigned i = 0; i < 512; i++)
            translate(i * 0x1000, MMU_WRITE);
        const uint64_t drops = m->stats.drops;
        start = now();
        for (unsigned i = 0; i < 512; i++)
            kit_set(&k, pt + i * 8, kit_get(&k, pt + i * 8) & ~RW);
        protect = MIN(protect, now() - start);
        cr_assert_eq(m->stats.drops - drops, 2 * 512, "one page in each of two contexts");
        for (unsigned i = 0; i < 512; i++)
            kit_set(&k, pt + i * 8, kit_get(&k, pt + i * 8) | RW);
        cr_assert_eq(m->stats.drops - drops, 2 * 512, "rights that are won drop nothing");
    }
    cr_assert_eq(m->generation, generation, "nothing of it was executed");
    cr_log_info("protect a page: %.0f ns, fill it: %.0f ns", protect / 512, fill / 512);
    cr_assert_lt(protect / 512, 2000);
}

/* Many address spaces in turn, each with a few pages in use. */
Test(cache, cost_of_address_spaces, .init = setup, .fini = teardown)
{
    enum { SPACES = 256 };
    static gpa_t root[SPACES];
    for (unsigned i = 0; i < SPACES; i++) {
        root[i] = kit_page(&k);
        kit_set(&k, root[i], pdpt | LEAF);
    }
    for (unsigned count = 1; count <= SPACES; count *= 4) {
        double best = 1e12;
        uint64_t walks = 0;
        for (unsigned round = 0; round < 20; round++) {
            const uint64_t before = m->stats.walks;
            const double start = now();
            for (unsigned i = 0; i < count; i++) {
                mode.cr3 = root[i];
                const struct tlb *t = mmu_select(m, &mode);
                for (unsigned j = 0; j < 8; j++)
                    if (!kit_hits(t, j * 0x1000, MMU_READ))
                        translate(j * 0x1000, MMU_READ);
            }
            best = MIN(best, now() - start);
            walks = m->stats.walks - before;
        }
        cr_log_info("%u address spaces: %.0f ns for a change and 8 pages", count, best / count);
        if (count < MMU_CONTEXTS)
            cr_assert_eq(walks, 0, "all stay warm");
        cr_assert_lt(best / count, 100000);
    }
}

/* Second-level hits and misses in both dimensions. */
Test(cache, cost_of_misses, .init = setup, .fini = teardown)
{
    struct mmu_pool *pool = mmu_pool(m);
    const uint64_t eptp = ept_identity(true);
    for (unsigned kind = 0; kind < 4; kind++) {
        mode.ept = kind & 1;
        mode.eptp = kind & 1 ? eptp : 0;
        pool->tlb2_mask = kind & 2 ? 0 : TLB2_SETS - 1;
        mmu_drop_all(m);
        struct tlb *t = mmu_select(m, &mode);
        double best = 1e12;
        const uint64_t before = m->stats.walks;
        for (unsigned round = 0; round < 100; round++) {
            for (unsigned i = 0; i < 512; i++)
                t->read[i].tag = i ? 0 : ~0ull;
            const double start = now();
            for (unsigned i = 0; i < 512; i++)
                translate(i * 0x1000, MMU_READ);
            best = MIN(best, now() - start);
        }
        cr_log_info("miss with %s, %u-D: %.0f ns", kind & 2 ? "cached tables" : "second-level hit",
                    (kind & 1) + 1, best / 512);
        cr_assert_eq(m->stats.walks - before, kind & 2 ? 51200 : 512);
        cr_assert_lt(best / 512, 2000);
    }
}
