/*
 * tests/unit/test_mmu_ept.c -- EPT: rights, misconfigurations, qualifications, flags, page-modification log.
 *
 * SDM 3C, "EPT Misconfigurations", "EPT Violations", "Accessed and Dirty Flags for EPT", "Page-Modification
 * Logging"; table "Exit Qualification for EPT Violations".
 */
#include "test_mmu_kit.h"

static struct kit k;
static struct mmu_mode mode;
static gpa_t eptp_root;

/* The guest-physical page under test is translated by tables of its own. */
#define GPA 0x123456789000ull
static gpa_t entry[5];    /* EPT entries of GPA by level */
static uint64_t value[5]; /* as set up: RWX, WB */
static gpa_t target;

static void ept_set(unsigned level, uint64_t v)
{
    kit_set(&k, entry[level], v);
}

/* Maps gpa -> hpa as a 4K page with rights `bits`, making tables at need; returns the leaf entry's address.
 */
static gpa_t ept_map(gpa_t gpa, gpa_t hpa, uint64_t bits)
{
    gpa_t table = eptp_root;
    for (unsigned level = 4; level > 1; level--) {
        gpa_t at = table + (gpa >> (12 + 9 * (level - 1)) & 511) * 8;
        if (!(kit_get(&k, at) & 7))
            kit_set(&k, at, kit_page(&k) | ER | EW | EX);
        table = kit_get(&k, at) & 0xffffffffff000ull;
    }
    gpa_t at = table + (gpa >> 12 & 511) * 8;
    kit_set(&k, at, hpa | bits | WB);
    return at;
}

static void setup(void)
{
    kit_init(&k);
    mode = (struct mmu_mode){.maxphyaddr = 46, .ept = true};
    eptp_root = kit_page(&k);
    mode.eptp = eptp_root | 6 | 3 << 3;
    target = 0x900000;
    gpa_t table = eptp_root;
    for (unsigned level = 4; level >= 1; level--) {
        entry[level] = table + (GPA >> (12 + 9 * (level - 1)) & 511) * 8;
        table = level == 1 ? target : kit_page(&k);
        value[level] = table | ER | EW | EX | (level == 1 ? WB : 0);
        ept_set(level, value[level]);
    }
}

static void teardown(void)
{
    kit_free(&k);
}

static struct mmu_fault go(gpa_t gpa, enum mmu_access access, gpa_t *out)
{
    struct mmu_fault f;
    if (mmu_translate_gpa(&k.mmu[0], gpa, access, 0, out, &f))
        cr_assert_eq(f.kind, MMU_OK);
    return f;
}

/* Every combination of rights at two levels, with and without the execute-only capability. */
Test(ept, rights, .init = setup, .fini = teardown)
{
    for (unsigned cap = 0; cap < 2; cap++) {
        k.mmu[0].ept_execute_only = cap;
        mmu_drop_all(&k.mmu[0]);
        mmu_select(&k.mmu[0], &mode);
        for (unsigned level = 2; level <= 4; level++) {
            for (unsigned c = 0; c < 64 * 3; c++) {
                const unsigned up = c & 7, low = c >> 3 & 7, kind = c >> 6;
                ept_set(level, (value[level] & ~7ull) | up);
                ept_set(1, (value[1] & ~7ull) | low);
                enum mmu_fault_kind want = MMU_OK;
                uint64_t allowed = up & low;
                const bool bad_up = up == 2 || up == 6 || (up == 4 && !cap);
                const bool bad_low = low == 2 || low == 6 || (low == 4 && !cap);
                if (up == 0)
                    want = MMU_FAULT_EPT_VIOLATION, allowed = 0;
                else if (bad_up)
                    want = MMU_FAULT_EPT_MISCONFIG;
                else if (low == 0)
                    want = MMU_FAULT_EPT_VIOLATION, allowed = 0;
                else if (bad_low)
                    want = MMU_FAULT_EPT_MISCONFIG;
                else if (!(allowed >> kind & 1))
                    want = MMU_FAULT_EPT_VIOLATION;
                gpa_t out = 0;
                struct mmu_fault f = go(GPA | 0x123, kind, &out);
                cr_assert_eq(f.kind, want, "cap %u level %u up %u low %u kind %u: %u", cap, level, up, low,
                             kind, f.kind);
                if (want == MMU_OK)
                    cr_assert_eq(out, target | 0x123);
                else
                    cr_assert_eq(f.gpa, GPA | 0x123);
                if (want == MMU_FAULT_EPT_VIOLATION)
                    cr_assert_eq(f.qualification, (1u << kind) | allowed << 3);
            }
            ept_set(level, value[level]);
        }
    }
}

/* Each bit of an entry of each level that is set alone, for tables, 4K, 2M and 1G pages, and each memory
 * type. */
Test(ept, misconfigurations, .init = setup, .fini = teardown)
{
    for (unsigned width = 36; width <= 52; width += 5) {
        mode.maxphyaddr = (uint8_t)width;
        mmu_select(&k.mmu[0], &mode);
        for (unsigned level = 1; level <= 4; level++) {
            for (unsigned maps = level == 1; maps < 2 && !(maps && level == 4); maps++) {
                const uint64_t good =
                    maps && level > 1 ? (level == 2 ? 0x800000 : 0) | ER | EW | EX | PS | WB : value[level];
                for (unsigned bit = 3; bit < 64; bit++) {
                    uint64_t v = good ^ BIT(bit);
                    bool bad = bit < 52 && bit >= width;
                    if (maps) {
                        const unsigned type = v >> 3 & 7;
                        bad |= type == 2 || type == 3 || type == 7;
                        bad |= level == 2 && bit >= 12 && bit <= 20;
                        bad |= level == 3 && bit >= 12 && bit <= 29;
                    } else {
                        bad |= bit <= 6 || (bit == 7 && level == 4);
                    }
                    if (bit == 7 && level > 1 && level < 4)
                        continue; /* changes the kind of the entry */
                    if (!maps && bit >= 12 && bit < width)
                        continue; /* leads elsewhere */
                    ept_set(level, v);
                    gpa_t out;
                    struct mmu_fault f = go(GPA, MMU_READ, &out);
                    cr_assert_eq(f.kind, bad ? MMU_FAULT_EPT_MISCONFIG : MMU_OK,
                                 "width %u level %u maps %u bit %u: %u", width, level, maps, bit, f.kind);
                }
                for (unsigned type = 0; maps && type < 8; type++) {
                    ept_set(level, (good & ~BITS(5, 3)) | type << 3);
                    gpa_t out;
                    const bool bad = type == 2 || type == 3 || type == 7;
                    cr_assert_eq(go(GPA, MMU_READ, &out).kind, bad ? MMU_FAULT_EPT_MISCONFIG : MMU_OK);
                }
                ept_set(level, value[level]);
            }
        }
    }
}

Test(ept, large_pages, .init = setup, .fini = teardown)
{
    gpa_t out;
    mmu_select(&k.mmu[0], &mode);
    ept_set(2, 0x40600000ull | ER | PS | WB);
    cr_assert_eq(go(GPA | 5, MMU_READ, &out).kind, MMU_OK);
    cr_assert_eq(out, 0x40600000 + ((GPA | 5) & 0x1fffff));
    ept_set(3, 0x80000000ull | ER | PS | WB);
    cr_assert_eq(go(GPA | 5, MMU_READ, &out).kind, MMU_OK);
    cr_assert_eq(out, 0x80000000 + ((GPA | 5) & 0x3fffffff));
    /* beyond the reach of 4 levels */
    cr_assert_eq(go(BIT(48), MMU_READ, &out).kind, MMU_FAULT_EPT_VIOLATION);
}

/* A guest's walk goes through EPT for each entry: qualification bits 7 and 8 tell entry from page. */
Test(ept, two_dimensions, .init = setup, .fini = teardown)
{
    const gpa_t tables[5] = {0, 0x4000, 0x3000, 0x2000, 0x1000}; /* guest-physical, by level */
    gpa_t leaf[5];
    const gva_t linear = 0xffff888012345678;
    struct mmu *m = &k.mmu[0];
    struct mmu_fault f;
    gpa_t gpa;
    for (unsigned ad = 0; ad < 2; ad++) {
        struct mmu_mode guest = kit_mode_4level(tables[4]);
        guest.ept = true;
        guest.eptp = eptp_root | 6 | 3 << 3 | (ad ? BIT(6) : 0);
        for (unsigned level = 4; level >= 1; level--) {
            leaf[level] = ept_map(tables[level], 0x800000 + level * 0x1000, ER | EW);
            kit_set(&k, 0x800000 + level * 0x1000 + (linear >> (12 + 9 * (level - 1)) & 511) * 8,
                    (level == 1 ? 0x5000 : tables[level - 1]) | P | RW | US);
        }
        gpa_t page = ept_map(0x5000, 0x805000, ER | EW | EX);
        mmu_select(m, &guest);
        cr_assert(mmu_translate(m, linear, MMU_READ, 0, &gpa, &f));
        cr_assert_eq(gpa, 0x805678);
        for (unsigned level = 4; level >= 1; level--) {
            const gpa_t at = tables[level] + (linear >> (12 + 9 * (level - 1)) & 511) * 8;
            const uint64_t old = kit_get(&k, leaf[level]);
            for (unsigned rights = 0; rights < 8; rights++) {
                if (rights == 2 || rights == 6)
                    continue;
                kit_set(&k, leaf[level], (old & ~7ull) | rights);
                const bool allowed = ad ? (rights & 3) == 3 : rights & 1;
                const bool ok = mmu_translate(m, linear, MMU_READ, 0, &gpa, &f);
                cr_assert_eq(ok, allowed, "ad %u level %u rights %u", ad, level, rights);
                if (!ok) {
                    cr_assert_eq(f.kind, MMU_FAULT_EPT_VIOLATION);
                    cr_assert_eq(f.gpa, at);
                    cr_assert_eq(f.linear, linear);
                    cr_assert_eq(f.qualification, (ad ? 3u : 1u) | rights << 3 | BIT(7));
                }
            }
            /* without EPT's flags, setting the guest's accessed flag is a write of its own */
            if (!ad) {
                const gpa_t real = 0x800000 + level * 0x1000 + (at & 0xfff);
                kit_set(&k, real, kit_get(&k, real) & ~ACC);
                kit_set(&k, leaf[level], (old & ~7ull) | ER);
                cr_assert_not(mmu_translate(m, linear, MMU_READ, 0, &gpa, &f));
                cr_assert_eq(f.qualification, 2 | 1 << 3 | BIT(7));
                cr_assert_eq(kit_get(&k, real) & ACC, 0);
            }
            kit_set(&k, leaf[level], old | 7);
            cr_assert(mmu_translate(m, linear, MMU_READ, 0, &gpa, &f));
        }
        for (int kind = MMU_READ; kind <= MMU_EXEC; kind++) {
            kit_set(&k, page, 0);
            cr_assert_not(mmu_translate(m, linear, kind, 0, &gpa, &f));
            cr_assert_eq(f.kind, MMU_FAULT_EPT_VIOLATION);
            cr_assert_eq(f.gpa, 0x5678);
            cr_assert_eq(f.qualification, BIT(kind) | BIT(7) | BIT(8));
            kit_set(&k, page, 0x805000 | EW | WB);
            cr_assert_not(mmu_translate(m, linear, kind, 0, &gpa, &f));
            cr_assert_eq(f.kind, MMU_FAULT_EPT_MISCONFIG);
            cr_assert_eq(f.gpa, 0x5678);
        }
        /* a #PF of the guest comes before the page's violation */
        const gpa_t pte = 0x801000 + (linear >> 12 & 511) * 8;
        kit_set(&k, page, 0);
        kit_set(&k, pte, 0x5000 | P | US);
        cr_assert_not(mmu_translate(m, linear, MMU_WRITE, 0, &gpa, &f));
        cr_assert_eq(f.kind, MMU_FAULT_PAGE);
        cr_assert_eq(f.error_code, 3);
    }
}

/* Accessed flags at every level, dirty at the page only and only by writes; none without EPTP bit 6 or
 * capability. */
Test(ept, flags, .init = setup, .fini = teardown)
{
    gpa_t out;
    for (unsigned c = 0; c < 4; c++) {
        const bool on = c == 3;
        mode.eptp = (mode.eptp & ~BIT(6)) | (c & 1 ? BIT(6) : 0);
        k.mmu[0].ept_ad_supported = c & 2;
        mmu_drop_all(&k.mmu[0]);
        mmu_select(&k.mmu[0], &mode);
        for (int round = 0; round < 2; round++) {
            for (unsigned level = 1; level <= 4; level++)
                ept_set(level, value[level]); /* clears them: seen at once */
            cr_assert_eq(go(GPA, MMU_READ, &out).kind, MMU_OK);
            for (unsigned level = 1; level <= 4; level++)
                cr_assert_eq(kit_get(&k, entry[level]), value[level] | (on ? BIT(8) : 0));
            cr_assert_eq(go(GPA, MMU_WRITE, &out).kind, MMU_OK);
            cr_assert_eq(kit_get(&k, entry[1]), value[1] | (on ? BIT(8) | BIT(9) : 0));
            cr_assert_eq(kit_get(&k, entry[2]), value[2] | (on ? BIT(8) : 0));
        }
        struct mmu_fault f;
        for (unsigned level = 1; level <= 4; level++)
            ept_set(level, value[level]);
        cr_assert(mmu_translate_gpa(&k.mmu[0], GPA, MMU_WRITE, MMU_PROBE, &out, &f));
        for (unsigned level = 1; level <= 4; level++)
            cr_assert_eq(kit_get(&k, entry[level]), value[level]);
    }
}

/* A write entry in the TLB exists only with EPT's dirty flag set; clearing it takes the entry away. */
Test(ept, dirty_and_tlb, .init = setup, .fini = teardown)
{
    struct mmu *m = &k.mmu[0];
    struct mmu_fault f;
    gpa_t out, page = ept_map(0x7000, 0x807000, ER | EW | EX);
    mode.eptp |= BIT(6);
    struct tlb *t = mmu_select(m, &mode);
    cr_assert(mmu_translate(m, 0x7000, MMU_READ, 0, &out, &f));
    cr_assert(kit_hits(t, 0x7000, MMU_READ));
    cr_assert_not(kit_hits(t, 0x7000, MMU_WRITE));
    cr_assert(mmu_translate(m, 0x7000, MMU_WRITE, 0, &out, &f));
    cr_assert(kit_hits(t, 0x7000, MMU_WRITE));
    kit_set(&k, page, kit_get(&k, page) & ~BIT(9));
    cr_assert_not(kit_hits(t, 0x7000, MMU_WRITE));
    cr_assert(mmu_translate(m, 0x7000, MMU_READ, 0, &out, &f));
    cr_assert_not(kit_get(&k, page) & BIT(9));
}

Test(ept, pml, .init = setup, .fini = teardown)
{
    struct mmu *m = &k.mmu[0];
    uint16_t index = 511;
    const gpa_t log = 0xa00000;
    gpa_t out;
    mode.eptp |= BIT(6);
    mmu_select(m, &mode);
    m->pml.enabled = true;
    m->pml.address = log;
    m->pml.index = &index;
    cr_assert_eq(go(GPA | 0xabc, MMU_READ, &out).kind, MMU_OK);
    cr_assert_eq(index, 511);
    cr_assert_eq(go(GPA | 0xabc, MMU_WRITE, &out).kind, MMU_OK);
    cr_assert_eq(index, 510);
    cr_assert_eq(kit_get(&k, log + 511 * 8), GPA);
    cr_assert_eq(go(GPA, MMU_WRITE, &out).kind, MMU_OK); /* already dirty */
    cr_assert_eq(index, 510);
    /* the last entry, then full: no flag, no access */
    index = 0;
    ept_set(1, value[1]);
    cr_assert_eq(go(GPA, MMU_WRITE, &out).kind, MMU_OK);
    cr_assert_eq(kit_get(&k, log), GPA);
    cr_assert_eq(index, 0xffff);
    ept_set(1, value[1]);
    struct mmu_fault f = go(GPA | 8, MMU_WRITE, &out);
    cr_assert_eq(f.kind, MMU_FAULT_PML_FULL);
    cr_assert_eq(f.gpa, GPA | 8);
    cr_assert_eq(kit_get(&k, entry[1]), value[1]);
    cr_assert_eq(go(GPA, MMU_READ, &out).kind, MMU_OK);
    index = 512;
    cr_assert_eq(go(GPA, MMU_WRITE, &out).kind, MMU_FAULT_PML_FULL);
    cr_assert_eq(index, 512);
    /* a violation comes before the log */
    ept_set(1, value[1] & ~EW);
    cr_assert_eq(go(GPA, MMU_WRITE, &out).kind, MMU_FAULT_EPT_VIOLATION);
    /* the guest's own tables are logged: accesses to them are writes */
    index = 511;
    ept_map(0x1000, 0x801000, ER | EW);
    struct mmu_mode guest = kit_mode_4level(0x1000);
    guest.ept = true;
    guest.eptp = mode.eptp;
    mmu_select(m, &guest);
    cr_assert_not(mmu_translate(m, 0, MMU_READ, 0, &out, &f));
    cr_assert_eq(f.kind, MMU_FAULT_PAGE);
    cr_assert_eq(index, 510);
    cr_assert_eq(kit_get(&k, log + 511 * 8), 0x1000);
    /* without the control nothing is logged */
    m->pml.enabled = false;
    ept_set(1, value[1]);
    mmu_select(m, &mode);
    cr_assert_eq(go(GPA, MMU_WRITE, &out).kind, MMU_OK);
    cr_assert_eq(index, 510);
}

/* Absent to present drops nothing, present to anything else is seen at once, at every level, by every
 * processor. */
Test(ept, coherence, .init = setup, .fini = teardown)
{
    struct mmu_fault f;
    gpa_t out;
    gpa_t one = ept_map(0x7000, 0x807000, ER | EW | EX);
    struct tlb *t[2];
    for (unsigned i = 0; i < 2; i++) {
        t[i] = mmu_select(&k.mmu[i], &mode);
        cr_assert(mmu_translate(&k.mmu[i], 0x7000, MMU_WRITE, 0, &out, &f));
        cr_assert(mmu_translate(&k.mmu[i], 0x7000, MMU_EXEC, 0, &out, &f));
        cr_assert_eq(out, 0x807000);
    }
    const uint64_t drops = k.mmu[0].stats.drops, generation = k.mmu[0].generation;
    gpa_t two = ept_map(0x8000, 0x808000, ER | EW | EX);
    kit_set(&k, two, 0);
    kit_set(&k, one, kit_get(&k, one) | BIT(11) | BIT(52)); /* ignored bits */
    cr_assert_eq(k.mmu[0].stats.drops, drops);
    cr_assert_eq(k.mmu[0].generation, generation);
    cr_assert(kit_hits(t[0], 0x7000, MMU_WRITE));
    kit_set(&k, one, 0x809000 | ER | EX | WB);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_not(kit_hits(t[i], 0x7000, MMU_READ));
        cr_assert_not(kit_hits(t[i], 0x7000, MMU_WRITE));
        cr_assert_not(kit_hits(t[i], 0x7000, MMU_EXEC));
        cr_assert(mmu_translate(&k.mmu[i], 0x7000, MMU_READ, 0, &out, &f));
        cr_assert_eq(out, 0x809000);
        cr_assert_not(mmu_translate(&k.mmu[i], 0x7000, MMU_WRITE, 0, &out, &f));
    }
    cr_assert_neq(k.mmu[0].generation, generation);
    /* a right that is won is used without a drop */
    kit_set(&k, one, 0x809000 | ER | EW | EX | WB);
    cr_assert(kit_hits(t[0], 0x7000, MMU_READ));
    cr_assert(mmu_translate(&k.mmu[0], 0x7000, MMU_WRITE, 0, &out, &f));
    /* an upper entry */
    kit_set(&k, eptp_root, 0);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_not(kit_hits(t[i], 0x7000, MMU_READ));
        cr_assert_not(mmu_translate(&k.mmu[i], 0x7000, MMU_READ, 0, &out, &f));
        cr_assert_eq(f.kind, MMU_FAULT_EPT_VIOLATION);
    }
}
