/*
 * tests/unit/test_mmu_stress.c -- random writes to tables, random accesses: the TLB never shows.
 *
 * After each step a cached translation must be what a walk without any cache gives, and all entries of the
 * context are verified now and then. `structured` keeps guest tables, EPT tables and data apart, so walks
 * change nothing that they read and everything can be compared strictly. `hostile` lets every entry point
 * anywhere, at tables, at itself, outside RAM, so that a walk's flags change other tables.
 */
#include <stdlib.h>

#include "mmu/internal.h"
#include "test_mmu_kit.h"

static struct kit k;
static uint64_t seed;

static void setup(void)
{
    kit_init(&k);
    const char *given = getenv("DROSTE_SEED"); /* any other run: DROSTE_SEED=1234 test_mmu_stress */
    seed = given ? strtoull(given, NULL, 0) : 0x9e3779b97f4a7c15ull;
    seed |= 1;
}

/* Caches of a few entries, so that all that shares them gets into each other's way. */
static void setup_small(void)
{
    setup();
    struct tables *t = phys_tables(&k.phys);
    t->ept_mask = 7;
    t->ept_large_mask = 1;
    t->ept_ways_mask = 1;
    for (unsigned i = 0; i < 2; i++) {
        struct mmu_pool *pool = mmu_pool(&k.mmu[i]);
        pool->limit = 3;
        pool->tlb2_mask = 15;
        pool->psc_mask = 3;
        /* and numbers that soon run out */
        pool->tlb2_next = pool->psc_next = CACHE_ID_MAX - 50;
    }
    t->space_id_next = CACHE_ID_MAX - 5;
}

static void setup_verify(void)
{
    setup();
    k.mmu[0].verify = k.mmu[1].verify = true;
}

static void teardown(void)
{
    kit_free(&k);
}

static unsigned pick(unsigned n)
{
    return (unsigned)(kit_random(&seed) >> 20) % n;
}

/* -- Layout ------------------------------------------------------------------------------------------------
 */

#define TABLE_PAGES 12u /* a level */
#define EPT_BASE    0x200000ull
#define GUEST_BASE  0x300000ull /* host-physical; guest-physical with EPT is an index below */
#define DATA_BASE   0x400000ull
#define DATA_PAGES  32u
#define INDEXES     6u /* entries of each table that are used */

static gpa_t ept_table(unsigned level, unsigned i)
{
    return EPT_BASE + ((level - 1) * TABLE_PAGES + i) * PAGE_SIZE;
}

static gpa_t guest_table(unsigned level, unsigned i)
{
    return GUEST_BASE + ((level - 1) * TABLE_PAGES + i) * PAGE_SIZE;
}

/* The few entries in use of each table: both ends and some between. */
static unsigned entry_index(unsigned i, unsigned count)
{
    return i == INDEXES - 1 ? count - 1 : i == INDEXES - 2 ? count / 2 : i;
}

static gva_t some_linear(void)
{
    gva_t v = pick(PAGE_SIZE);
    for (unsigned level = 1; level <= 4; level++)
        v |= (gva_t)entry_index(pick(INDEXES), 512) << (12 + 9 * (level - 1));
    return (gva_t)((int64_t)(v << 16) >> 16);
}

/* A guest-physical address that EPT may translate: of a guest table, or of data. */
static gpa_t some_gpa_page(unsigned below)
{
    return below ? guest_table(below, pick(TABLE_PAGES)) : DATA_BASE + pick(DATA_PAGES) * PAGE_SIZE;
}

static uint64_t some_bits(void)
{
    uint64_t bits = pick(30) ? P : 0;
    bits |= pick(10) ? RW : 0;
    bits |= pick(10) ? US : 0;
    bits |= pick(2) ? ACC : 0;
    bits |= pick(2) ? DIR : 0;
    bits |= pick(20) ? 0 : XD;
    bits |= pick(8) ? 0 : (uint64_t)pick(8) << 9;
    return bits;
}

static void write_guest_entry(unsigned level)
{
    const gpa_t at = guest_table(level, pick(TABLE_PAGES)) + entry_index(pick(INDEXES), 512) * 8;
    uint64_t v = kit_get(&k, at);
    switch (pick(12)) {
    case 0: /* one bit */
        v ^= BIT(pick(12) ? pick(12) : pick(64));
        break;
    case 1:
        v &= ~(pick(2) ? ACC : DIR);
        break;
    case 2:
        v = 0;
        break;
    default:
        v = some_bits() | some_gpa_page(level - 1);
        if ((level == 2 || level == 3) && pick(16) == 0)
            v = some_bits() | PS | (level == 2 ? 0x400000 : 0) | (pick(4) ? 0 : BIT(12));
        break;
    }
    kit_set(&k, at, v);
}

/* EPT is nearly an identity: an entry of level 1 leads to the page of its index, sometimes to another. */
static void write_ept_entry(unsigned level)
{
    const gpa_t gpa = pick(2) ? some_gpa_page(1 + pick(4)) : some_gpa_page(0);
    const unsigned index = gpa >> (12 + 9 * (level - 1)) & 511;
    const gpa_t at = ept_table(level, level == 4 ? pick(2) : pick(3)) + index * 8;
    uint64_t v = kit_get(&k, at), rights = (pick(30) ? 7 : pick(8)) | (pick(4) ? BIT(10) : 0);
    switch (pick(16)) {
    case 0:
        v ^= BIT(pick(12));
        break;
    case 1:
        v &= ~(pick(2) ? BIT(8) : BIT(9));
        break;
    case 2:
        v = 0;
        break;
    default:
        if (level > 1)
            v = ept_table(level - 1, pick(3)) | rights;
        else
            v = (gpa >= DATA_BASE ? some_gpa_page(0) : gpa) | rights | WB;
        if (level == 2 && pick(8) == 0)
            v = (gpa & ~0x1fffffull) | rights | WB | PS;
        break;
    }
    kit_set(&k, at, v);
}

static struct mmu_mode some_mode(void)
{
    struct mmu_mode m = kit_mode_4level(guest_table(4, pick(3)));
    m.cpl = pick(2) ? 3 : 0;
    m.cr0 = CR0_PE | CR0_PG | (pick(4) ? CR0_WP : 0);
    m.cr4 |= pick(2) ? CR4_SMAP | CR4_SMEP : 0;
    m.ac = pick(2);
    m.ept = pick(3) != 0;
    m.mbe = pick(3) == 0;
    m.eptp = ept_table(4, pick(2)) | 6 | 3 << 3 | (pick(2) ? BIT(6) : 0);
    if (pick(16) == 0)
        m.cr4 |= CR4_PKE;
    m.pkru = pick(4);
    return m;
}

static bool same_fault(const struct mmu_fault *a, const struct mmu_fault *b)
{
    return a->kind == b->kind && a->error_code == b->error_code && a->gpa == b->gpa &&
           a->qualification == b->qualification && a->linear == b->linear;
}

/* A store of the guest's processor: by the write table where it hits, else by the slow path. */
static void cpu_store(struct mmu *m, gva_t linear, gpa_t gpa, uint64_t value)
{
    linear &= ~7ull;
    const struct tlb_entry *e = &m->current->write[tlb_index(linear)];
    if ((linear ^ e->tag) <= 4096 - 8)
        store_le(e->host + (linear ^ e->tag), value, 8);
    else
        phys_store(&k.phys, gpa & ~7ull, 8, value);
}

static void access_strictly(struct mmu *m, const struct mmu_mode *mode)
{
    const gva_t linear = some_linear();
    const enum mmu_access access = pick(3);
    const unsigned flags = pick(8) ? 0 : MMU_SYSTEM;
    struct mmu_fault want_fault, fault;
    gpa_t want = 0, gpa = 0;
    const bool want_ok = mmu_walk(m, mode, linear, access, flags | MMU_PROBE, &want, &want_fault);
    const bool ok = mmu_translate(m, linear, access, flags, &gpa, &fault);
    if (ok != want_ok || (ok ? gpa != want : !same_fault(&fault, &want_fault)))
        cr_assert(
            false,
            "linear %#lx access %d flags %u ept %d: walk ok=%d gpa=%#lx kind=%u error=%#x q=%#lx fgpa=%#lx, "
            "tlb ok=%d gpa=%#lx kind=%u error=%#x q=%#lx fgpa=%#lx",
            linear, access, flags, mode->ept, want_ok, want, want_fault.kind, want_fault.error_code,
            want_fault.qualification, want_fault.gpa, ok, gpa, fault.kind, fault.error_code,
            fault.qualification, fault.gpa);
    if (ok && !(flags & MMU_SYSTEM) && access != MMU_EXEC && kit_hits(m->current, linear, access)) {
        const struct tlb_entry *e =
            &(access == MMU_READ ? m->current->read : m->current->write)[tlb_index(linear)];
        if (e->host != phys_page_host(&k.phys, gpa))
            cr_assert(false, "host of %#lx", linear);
    }
}

static void verify(struct mmu *m, unsigned step)
{
    gva_t where = 0;
    if (mmu_verify(m, &where))
        cr_assert(false, "step %u: %#lx differs", step, where);
}

/* As a cached jump is used: never for another page than a walk gives. */
struct jump {
    const struct tlb *tlb;
    uint64_t generation;
    gva_t page;
    gpa_t gpa;
};
static struct jump jumps[2][64];

static void jump_check(unsigned who, const struct mmu_mode *mode)
{
    struct mmu *m = &k.mmu[who];
    struct mmu_fault f;
    gpa_t gpa = 0;
    const gva_t linear = some_linear() & ~PAGE_MASK;
    struct jump *j = &jumps[who][(linear >> 12 ^ linear >> 21 ^ linear >> 30) & 63];
    if (j->tlb == m->current && j->generation == m->generation && j->page == linear) {
        if (!mmu_walk(m, mode, linear, MMU_EXEC, MMU_PROBE, &gpa, &f) || gpa != j->gpa)
            cr_assert(false, "jump to %#lx is remembered as %#lx, is %#lx", linear, j->gpa, gpa);
    } else if (mmu_translate(m, linear, MMU_EXEC, 0, &gpa, &f)) {
        *j = (struct jump){m->current, m->generation, linear, gpa};
    }
}

static void run_structured(unsigned steps)
{
    struct mmu_mode mode[2];
    for (unsigned i = 0; i < 3000; i++) {
        write_guest_entry(1 + pick(4));
        write_ept_entry(1 + pick(4));
    }
    for (unsigned step = 0; step < steps; step++) {
        const unsigned who = pick(2);
        struct mmu *m = &k.mmu[who];
        if (step < 2 || pick(50) == 0) {
            for (unsigned i = 0; i < 2; i++) {
                mode[i] = some_mode();
                mmu_select(&k.mmu[i], &mode[i]);
            }
        }
        const unsigned what = pick(100);
        if (what < 6)
            write_guest_entry(1 + pick(4));
        else if (what < 9)
            write_ept_entry(1 + pick(4));
        else if (what < 20)
            jump_check(who, &mode[who]);
        else
            access_strictly(m, &mode[who]);
        if (pick(500) == 0)
            verify(m, step);
    }
    cr_assert_gt(k.mmu[0].stats.drops, 100);
    cr_log_info("fills %lu walks %lu ept walks %lu drops %lu", k.mmu[0].stats.fills, k.mmu[0].stats.walks,
                k.mmu[0].stats.ept_walks, k.mmu[0].stats.drops);
}

Test(stress, structured, .init = setup, .fini = teardown)
{
    run_structured(400000);
    cr_assert_gt(k.mmu[0].stats.fills, 10000);
}

Test(stress, structured_small, .init = setup_small, .fini = teardown)
{
    run_structured(400000);
    cr_assert_gt(k.mmu[0].stats.fills, 10000);
}

/* Debug mode: nothing is filled, and each access is checked by mmu/ itself. */
Test(stress, structured_verify, .init = setup_verify, .fini = teardown)
{
    run_structured(100000);
    cr_assert_eq(k.mmu[0].stats.fills, 0);
}

/* -- Everything points everywhere --------------------------------------------------------------------------
 */

#define HOSTILE_BASE  0x10000ull
#define HOSTILE_PAGES 10u

static gpa_t hostile_page(void)
{
    switch (pick(24)) {
    case 0:
        return KIT_HOLE;
    case 1:
        return 0x3ffffffff000;
    case 2:
        return BIT(32) + pick(4) * PAGE_SIZE;
    default:
        return HOSTILE_BASE + pick(HOSTILE_PAGES) * PAGE_SIZE;
    }
}

static uint64_t hostile_entry(void)
{
    uint64_t v = hostile_page() | ER | EW | EX; /* P, RW, US in the guest's eyes */
    v |= pick(3) ? WB : 0;
    v |= pick(2) ? ACC | DIR : 0;
    v |= pick(2) ? BIT(8) | BIT(9) : 0;
    if (pick(12) == 0)
        v |= PS;
    if (pick(8) == 0)
        v ^= BIT(pick(64));
    return pick(16) ? v : 0;
}

static gva_t hostile_linear(bool small)
{
    gva_t v = pick(PAGE_SIZE);
    for (unsigned level = 1; level <= 4; level++)
        v |= (gva_t)entry_index(pick(INDEXES), 512) << (12 + 9 * (level - 1));
    return small ? v & 0xffffffff : (gva_t)((int64_t)(v << 16) >> 16);
}

static void hostile_write(gpa_t at)
{
    if (pick(4) == 0)
        phys_store(&k.phys, at + pick(8), 1u << pick(4), hostile_entry());
    else
        kit_set(&k, at, hostile_entry());
}

static gpa_t hostile_at(void)
{
    const unsigned index = pick(4) ? entry_index(pick(INDEXES), 512) : 16 + pick(HOSTILE_PAGES + 2);
    return HOSTILE_BASE + pick(HOSTILE_PAGES) * PAGE_SIZE + index * 8;
}

static void run_hostile(unsigned steps)
{
    struct mmu_mode mode[2];
    uint16_t pml_index = 511;
    unsigned strict = 0;
    for (unsigned i = 0; i < 2; i++) {
        k.mmu[i].pml.address = HOSTILE_BASE + PAGE_SIZE; /* the log lies in a table as well */
        k.mmu[i].pml.index = &pml_index;
    }
    for (unsigned i = 0; i < 2000; i++)
        hostile_write(hostile_at());
    for (unsigned step = 0; step < steps; step++) {
        const unsigned who = pick(2);
        struct mmu *m = &k.mmu[who];
        if (step < 2 || pick(40) == 0) {
            for (unsigned i = 0; i < 2; i++) {
                struct mmu_mode *x = &mode[i];
                *x = (struct mmu_mode){.cr0 = CR0_PE | CR0_PG | (pick(2) ? CR0_WP : 0), .maxphyaddr = 46};
                x->cr3 = HOSTILE_BASE + pick(3) * PAGE_SIZE;
                x->cpl = pick(2) ? 3 : 0;
                switch (pick(4)) {
                case 0:
                    x->cr4 = CR4_PSE;
                    break;
                case 1:
                    x->cr4 = CR4_PAE;
                    for (unsigned j = 0; j < 4; j++)
                        x->pdpte[j] = hostile_page() | (pick(8) != 0);
                    break;
                default:
                    x->cr4 = CR4_PAE;
                    x->efer = EFER_LMA | EFER_LME | EFER_NXE;
                    break;
                }
                x->ept = pick(2);
                x->mbe = pick(4) == 0;
                x->eptp =
                    (HOSTILE_BASE + pick(HOSTILE_PAGES) * PAGE_SIZE) | 6 | 3 << 3 | (pick(2) ? BIT(6) : 0);
                k.mmu[i].pml.enabled = pick(4) == 0;
                pml_index = 511;
                mmu_select(&k.mmu[i], x);
            }
        }
        if (pick(100) < 8) {
            hostile_write(hostile_at());
        } else {
            const gva_t linear = hostile_linear(!(mode[who].efer & EFER_LMA));
            const enum mmu_access access = pick(3);
            struct mmu_fault f, before_fault, after_fault;
            gpa_t gpa = 0, before = 0, after = 0;
            const bool was = mmu_walk(m, &mode[who], linear, access, MMU_PROBE, &before, &before_fault);
            const bool ok = mmu_translate(m, linear, access, 0, &gpa, &f);
            const bool is = mmu_walk(m, &mode[who], linear, access, MMU_PROBE, &after, &after_fault);
            /* Where the walk's own writes changed nothing of its way, all three agree. */
            if (was == is && (was ? before == after : same_fault(&before_fault, &after_fault))) {
                if (ok != was || (ok ? gpa != before : !same_fault(&f, &before_fault)))
                    cr_assert(
                        false,
                        "step %u linear %#lx access %d: walk ok=%d %#lx kind=%u, tlb ok=%d %#lx kind=%u",
                        step, linear, access, was, before, before_fault.kind, ok, gpa, f.kind);
                strict++;
            }
            if (ok && access == MMU_WRITE && pick(4) == 0)
                cpu_store(m, linear, gpa, hostile_entry());
        }
        if (pick(200) == 0)
            verify(m, step);
    }
    cr_assert_gt(strict, steps / 4);
    cr_log_info("strict %u fills %lu walks %lu drops %lu", strict, k.mmu[0].stats.fills, k.mmu[0].stats.walks,
                k.mmu[0].stats.drops);
}

Test(stress, hostile, .init = setup, .fini = teardown)
{
    run_hostile(400000);
    cr_assert_gt(k.mmu[0].stats.fills, 2000);
}

Test(stress, hostile_small, .init = setup_small, .fini = teardown)
{
    run_hostile(400000);
    cr_assert_gt(k.mmu[0].stats.fills, 2000);
}

Test(stress, hostile_verify, .init = setup_verify, .fini = teardown)
{
    run_hostile(100000);
    cr_assert_eq(k.mmu[0].stats.fills, 0);
}

/* What an access and a fill cost: printed, not judged. */
Test(stress, cost, .init = setup, .fini = teardown)
{
    struct mmu *m = &k.mmu[0];
    struct mmu_fault f;
    gpa_t gpa;
    const gpa_t pml4 = kit_page(&k), pdpt = kit_page(&k), pd = kit_page(&k), pt = kit_page(&k);
    kit_set(&k, pml4, pdpt | P | RW);
    kit_set(&k, pdpt, pd | P | RW);
    kit_set(&k, pd, pt | P | RW);
    for (unsigned i = 0; i < 512; i++)
        kit_set(&k, pt + i * 8, (0x400000 + i * 0x1000) | P | RW);
    struct mmu_mode mode = kit_mode_4level(pml4);
    mmu_select(m, &mode);
    for (unsigned round = 0; round < 1000; round++) {
        for (unsigned i = 0; i < 512; i++) {
            m->current->read[i].tag = 1; /* another slot's page: empty */
            cr_assert(mmu_translate(m, i * 0x1000, MMU_READ, 0, &gpa, &f));
        }
    }
    cr_assert_gt(m->stats.fills, 500000);
}
