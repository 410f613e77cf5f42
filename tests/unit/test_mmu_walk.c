/*
 * tests/unit/test_mmu_walk.c -- each paging mode and each permission rule against an oracle of its own.
 *
 * The oracle below follows the prose of SDM 3A, "Paging" ("Determination of Access Rights", "Page-Fault
 * Exceptions", "Protection Keys") sentence by sentence and shares nothing with mmu/.
 */
#include "test_mmu_kit.h"

/* -- The oracle --------------------------------------------------------------------------------------------
 */

struct verdict {
    bool fault, canonical;
    uint32_t error;
    gpa_t gpa;
    gpa_t entries[5]; /* addresses of the entries used, top down */
    unsigned entry_count;
};

struct access {
    gva_t linear;
    enum mmu_access kind;
    bool implicit;
};

enum family { FAMILY_NONE, FAMILY_32, FAMILY_PAE, FAMILY_4, FAMILY_5 };

static enum family family_of(const struct mmu_mode *m)
{
    if (!(m->cr0 & CR0_PG))
        return FAMILY_NONE;
    if (!(m->cr4 & CR4_PAE))
        return FAMILY_32;
    if (!(m->efer & EFER_LMA))
        return FAMILY_PAE;
    return m->cr4 & CR4_LA57 ? FAMILY_5 : FAMILY_4;
}

static bool any_bit(uint64_t v, int high, int low)
{
    for (int i = low; i <= high; i++) {
        if (v >> i & 1)
            return true;
    }
    return false;
}

/* Whether a present entry has a reserved bit set. */
static bool oracle_reserved(const struct mmu_mode *m, enum family fam, int level, bool maps, uint64_t e)
{
    int n = m->maxphyaddr;
    if (fam == FAMILY_32) {
        if (!maps || level == 1)
            return false;
        /* PSE-36: bits 21:(M-19) are reserved, M being the minimum of 40 and MAXPHYADDR */
        return any_bit(e, 21, (n < 40 ? n : 40) - 19);
    }
    if (!(m->efer & EFER_NXE) && (e & XD))
        return true;
    if (any_bit(e, 51, n))
        return true;
    if (fam == FAMILY_PAE && any_bit(e, 62, 52))
        return true;
    if (level >= 4 && (e & PS))
        return true;
    if (maps && level == 2)
        return any_bit(e, 20, 13);
    if (maps && level == 3)
        return any_bit(e, 29, 13);
    return false;
}

static struct verdict oracle(struct kit *k, const struct mmu_mode *m, struct access a)
{
    struct verdict v = {0};
    enum family fam = family_of(m);
    bool user_access = m->cpl == 3 && !a.implicit;
    uint32_t base = (a.kind == MMU_WRITE ? 2 : 0) | (user_access ? 4 : 0);
    if (a.kind == MMU_EXEC && ((m->cr4 & CR4_SMEP) || ((m->cr4 & CR4_PAE) && (m->efer & EFER_NXE))))
        base |= 16;
    if (fam == FAMILY_NONE) {
        v.gpa = a.linear;
        return v;
    }
    int width = fam == FAMILY_4 ? 48 : fam == FAMILY_5 ? 57 : 32;
    if (width > 32) {
        uint64_t top = a.linear >> (width - 1);
        if (top != 0 && top != (~0ull >> (width - 1))) {
            v.fault = v.canonical = true;
            return v;
        }
    }
    int level = fam == FAMILY_5 ? 5 : fam == FAMILY_4 ? 4 : 2;
    gpa_t table = m->cr3 & (fam == FAMILY_32 ? 0xfffff000ull : 0xffffffffff000ull);
    if (fam == FAMILY_PAE) {
        uint64_t pdpte = m->pdpte[a.linear >> 30];
        if (!(pdpte & 1)) {
            v.fault = true;
            v.error = base;
            return v;
        }
        table = pdpte & 0xffffffffff000ull;
    }
    bool all_user = true, all_write = true, any_xd = false;
    uint64_t e;
    int shift;
    for (;; level--) {
        if (fam == FAMILY_32) {
            shift = level == 2 ? 22 : 12;
            v.entries[v.entry_count] = table + (a.linear >> shift & 1023) * 4;
            e = phys_load(&k->phys, v.entries[v.entry_count++], 4);
        } else {
            shift = 12 + 9 * (level - 1);
            v.entries[v.entry_count] = table + (a.linear >> shift & 511) * 8;
            e = phys_load(&k->phys, v.entries[v.entry_count++], 8);
        }
        if (!(e & 1)) {
            v.fault = true;
            v.error = base;
            return v;
        }
        bool maps = level == 1;
        if (level == 2 && (e & PS))
            maps = fam != FAMILY_32 || (m->cr4 & CR4_PSE);
        if (level == 3 && (e & PS))
            maps = true;
        if (oracle_reserved(m, fam, level, maps, e)) {
            v.fault = true;
            v.error = base | 1 | 8;
            return v;
        }
        all_user &= (e & US) != 0;
        all_write &= (e & RW) != 0;
        any_xd |= (e & XD) != 0;
        if (maps)
            break;
        table = e & 0xffffffffff000ull;
    }
    bool wp = m->cr0 & CR0_WP, denied = false, key = false;
    if (user_access) {
        if (!all_user)
            denied = true;
        if (a.kind == MMU_WRITE && !all_write)
            denied = true;
        if (a.kind == MMU_EXEC && any_xd)
            denied = true;
    } else {
        bool smap = (m->cr4 & CR4_SMAP) && all_user && (a.implicit || !m->ac);
        if (a.kind != MMU_EXEC && smap)
            denied = true;
        if (a.kind == MMU_WRITE && wp && !all_write)
            denied = true;
        if (a.kind == MMU_EXEC && any_xd)
            denied = true;
        if (a.kind == MMU_EXEC && all_user && (m->cr4 & CR4_SMEP))
            denied = true;
    }
    if (fam >= FAMILY_4 && (m->cr4 & CR4_PKE) && all_user && a.kind != MMU_EXEC) {
        unsigned i = e >> 59 & 15;
        bool ad = m->pkru >> (2 * i) & 1, wd = m->pkru >> (2 * i + 1) & 1;
        key = ad || (wd && a.kind == MMU_WRITE && (user_access || wp));
    }
    if (denied || key) {
        v.fault = true;
        v.error = base | 1 | (key ? 32 : 0);
        return v;
    }
    uint64_t offset = a.linear & ((1ull << shift) - 1);
    if (fam == FAMILY_32 && shift == 22)
        v.gpa = (e & 0xffc00000) | (e >> 13 & 255) << 32 | offset;
    else
        v.gpa = ((e & 0xffffffffff000ull) >> shift << shift) | offset;
    return v;
}

/* -- Comparing ---------------------------------------------------------------------------------------------
 */

static struct kit k;
static uint64_t compared;

static void setup(void)
{
    kit_init(&k);
    compared = 0;
}

static void teardown(void)
{
    kit_free(&k);
}

static bool same(const struct verdict *v, bool ok, gpa_t gpa, const struct mmu_fault *f, gva_t linear)
{
    if (ok != !v->fault)
        return false;
    if (ok)
        return gpa == v->gpa;
    if (f->linear != linear)
        return false;
    if (v->canonical)
        return f->kind == MMU_FAULT_CANONICAL;
    return f->kind == MMU_FAULT_PAGE && f->error_code == v->error;
}

static void complain(const char *who, const struct mmu_mode *m, struct access a, const struct verdict *v,
                     bool ok, gpa_t gpa, const struct mmu_fault *f)
{
    cr_assert(false,
              "%s: cr0=%#lx cr4=%#lx efer=%#lx cpl=%u ac=%d pkru=%#x linear=%#lx access=%d implicit=%d:\n"
              "  oracle fault=%d error=%#x gpa=%#lx, mmu ok=%d kind=%u error=%#x gpa=%#lx",
              who, m->cr0, m->cr4, m->efer, m->cpl, m->ac, m->pkru, a.linear, a.kind, a.implicit, v->fault,
              v->error, v->gpa, ok, f->kind, f->error_code, gpa);
}

/*
 * Walks, probes and translates, and compares each with the oracle; then the accessed and dirty flags. The
 * tables must map no part of themselves.
 */
static void compare(const struct mmu_mode *m, struct access a)
{
    struct mmu *mmu = &k.mmu[0];
    const unsigned flags = a.implicit ? MMU_SYSTEM : 0;
    const struct verdict v = oracle(&k, m, a);
    const unsigned size = family_of(m) == FAMILY_32 ? 4 : 8;
    uint64_t before[5], after[5];
    struct mmu_fault f;
    gpa_t gpa = 0;
    bool ok;
    compared++;
    for (unsigned i = 0; i < v.entry_count; i++)
        before[i] = phys_load(&k.phys, v.entries[i], size);
    ok = mmu_walk(mmu, m, a.linear, a.kind, flags | MMU_PROBE, &gpa, &f);
    if (!same(&v, ok, gpa, &f, a.linear))
        complain("probe", m, a, &v, ok, gpa, &f);
    for (unsigned i = 0; i < v.entry_count; i++) {
        if (phys_load(&k.phys, v.entries[i], size) != before[i])
            complain("probe wrote", m, a, &v, ok, gpa, &f);
    }
    ok = mmu_translate(mmu, a.linear, a.kind, flags, &gpa, &f);
    if (!same(&v, ok, gpa, &f, a.linear))
        complain("translate", m, a, &v, ok, gpa, &f);
    for (unsigned i = 0; i < v.entry_count; i++) {
        uint64_t want = before[i];
        after[i] = phys_load(&k.phys, v.entries[i], size);
        if (!v.fault)
            want |= ACC | (i + 1 == v.entry_count && a.kind == MMU_WRITE ? DIR : 0);
        if (after[i] != want)
            complain("flags", m, a, &v, ok, gpa, &f);
    }
    /* Once more: from the TLB, or to the same fault. */
    ok = mmu_translate(mmu, a.linear, a.kind, flags, &gpa, &f);
    if (!same(&v, ok, gpa, &f, a.linear))
        complain("translate again", m, a, &v, ok, gpa, &f);
    ok = mmu_walk(mmu, m, a.linear, a.kind, flags, &gpa, &f);
    if (!same(&v, ok, gpa, &f, a.linear))
        complain("walk", m, a, &v, ok, gpa, &f);
}

/* -- A mapping in each mode --------------------------------------------------------------------------------
 */

struct shape {
    const char *name;
    enum family family;
    unsigned leaf; /* level that maps the page */
};
static const struct shape shapes[] = {
    {"32-bit 4K", FAMILY_32, 1}, {"32-bit 4M", FAMILY_32, 2}, {"PAE 4K", FAMILY_PAE, 1},
    {"PAE 2M", FAMILY_PAE, 2},   {"4-level 4K", FAMILY_4, 1}, {"4-level 2M", FAMILY_4, 2},
    {"4-level 1G", FAMILY_4, 3}, {"5-level 4K", FAMILY_5, 1}, {"5-level 2M", FAMILY_5, 2},
};

struct mapping {
    struct mmu_mode mode;
    gva_t linear;
    gpa_t entry[6]; /* by level */
    uint64_t value[6];
    unsigned top, leaf, size;
};

static struct mapping map(const struct shape *s)
{
    struct mapping m = {.leaf = s->leaf, .size = s->family == FAMILY_32 ? 4 : 8};
    m.mode = (struct mmu_mode){.cr0 = CR0_PE | CR0_PG, .maxphyaddr = 46};
    m.top = s->family == FAMILY_5 ? 5 : s->family == FAMILY_4 ? 4 : 2;
    m.linear = s->family == FAMILY_5   ? 0xff12345678abcdefull
               : s->family == FAMILY_4 ? 0xffff9234567abcdeull
                                       : 0xd2345678ull;
    if (s->family == FAMILY_32)
        m.mode.cr4 |= CR4_PSE;
    else
        m.mode.cr4 |= CR4_PAE;
    if (s->family >= FAMILY_4)
        m.mode.efer |= EFER_LMA | EFER_LME;
    if (s->family == FAMILY_5)
        m.mode.cr4 |= CR4_LA57;
    gpa_t table = kit_page(&k);
    if (s->family == FAMILY_PAE)
        m.mode.pdpte[3] = table | 1;
    else
        m.mode.cr3 = table;
    const unsigned bits = s->family == FAMILY_32 ? 10 : 9;
    for (unsigned level = m.top; level >= s->leaf; level--) {
        uint64_t index = m.linear >> (12 + bits * (level - 1)) & ((1u << bits) - 1);
        m.entry[level] = table + index * m.size;
        table = level == s->leaf ? 0x40000000 : kit_page(&k);
        m.value[level] = table | P | (level == s->leaf && level > 1 ? PS : 0);
        phys_store(&k.phys, m.entry[level], m.size, m.value[level]);
    }
    return m;
}

static void set(const struct mapping *m, unsigned level, uint64_t bits)
{
    phys_store(&k.phys, m->entry[level], m->size, m->value[level] | bits);
}

static void compare_all(const struct mapping *m)
{
    for (int kind = MMU_READ; kind <= MMU_EXEC; kind++) {
        compare(&m->mode, (struct access){m->linear, kind, false});
        compare(&m->mode, (struct access){m->linear, kind, true});
    }
}

/* Every combination of U/S, R/W, XD above and at the page, with every control bit that bears on access
 * rights. */
static void sweep_rights(const struct shape *s, struct mapping *m)
{
    const uint64_t base4 = m->mode.cr4;
    for (unsigned c = 0; c < 64; c++) {
        m->mode.cr0 = CR0_PE | CR0_PG | (c & 1 ? CR0_WP : 0);
        m->mode.cr4 = base4 | (c & 2 ? CR4_SMEP : 0) | (c & 4 ? CR4_SMAP : 0);
        m->mode.ac = c & 8;
        m->mode.cpl = c & 16 ? 3 : 0;
        m->mode.efer = (m->mode.efer & ~EFER_NXE) | (c & 32 ? EFER_NXE : 0);
        mmu_select(&k.mmu[0], &m->mode);
        for (unsigned bits = 0; bits < 256; bits++) {
            const uint64_t up = (bits & 1 ? P : 0) | (bits & 2 ? RW : 0) | (bits & 4 ? US : 0);
            const uint64_t low = (bits & 16 ? P : 0) | (bits & 32 ? RW : 0) | (bits & 64 ? US : 0);
            uint64_t xd_up = bits & 8 ? XD : 0, xd_low = bits & 128 ? XD : 0;
            if (s->family == FAMILY_32 && (xd_up || xd_low))
                continue;
            m->value[m->leaf] &= ~P;
            set(m, m->leaf, low | xd_low);
            for (unsigned level = m->leaf + 1; level <= m->top; level++) {
                const bool odd = level == m->leaf + 1;
                m->value[level] &= ~P;
                set(m, level, odd ? up | xd_up : P | RW | US);
            }
            compare_all(m);
        }
    }
    m->mode.cr4 = base4;
}

#define SWEEP(n)                                                                                             \
    Test(walk, rights_##n, .init = setup, .fini = teardown)                                                  \
    {                                                                                                        \
        struct mapping m = map(&shapes[n]);                                                                  \
        sweep_rights(&shapes[n], &m);                                                                        \
        cr_assert_gt(compared, 10000);                                                                       \
    }
SWEEP(0)
SWEEP(1)
SWEEP(2)
SWEEP(3)
SWEEP(4)
SWEEP(5)
SWEEP(6)
SWEEP(7)
SWEEP(8)
_Static_assert(ARRAY_LEN(shapes) == 9, "a sweep for each shape");

/* Protection keys: every key, all rights of it, with the controls around them. */
Test(walk, keys, .init = setup, .fini = teardown)
{
    for (unsigned n = 4; n < ARRAY_LEN(shapes); n++) {
        struct mapping m = map(&shapes[n]);
        const uint64_t base4 = m.mode.cr4;
        for (unsigned c = 0; c < 32; c++) {
            m.mode.cr0 = CR0_PE | CR0_PG | (c & 1 ? CR0_WP : 0);
            m.mode.cr4 = base4 | (c & 2 ? CR4_PKE : 0) | (c & 4 ? CR4_SMAP : 0);
            m.mode.cpl = c & 8 ? 3 : 0;
            m.mode.ac = c & 16;
            for (unsigned rights = 0; rights < 4; rights++) {
                for (unsigned key = 0; key < 16; key++) {
                    m.mode.pkru = rights << (2 * key);
                    mmu_select(&k.mmu[0], &m.mode);
                    for (unsigned bits = 0; bits < 4; bits++) {
                        for (unsigned level = m.leaf; level <= m.top; level++)
                            set(&m, level, P | (bits & 1 ? RW : 0) | (bits & 2 ? US : 0));
                        set(&m, m.leaf, (bits & 1 ? RW : 0) | (bits & 2 ? US : 0) | (uint64_t)key << 59);
                        compare_all(&m);
                        set(&m, m.leaf,
                            (bits & 1 ? RW : 0) | (bits & 2 ? US : 0) | (uint64_t)(key ^ 1) << 59);
                        compare_all(&m);
                    }
                }
            }
        }
    }
}

/* Each single bit of each entry, for several physical-address widths. */
Test(walk, reserved, .init = setup, .fini = teardown)
{
    static const uint8_t widths[] = {32, 36, 39, 40, 46, 51, 52};
    for (unsigned n = 0; n < ARRAY_LEN(shapes); n++) {
        struct mapping m = map(&shapes[n]);
        const uint64_t base4 = m.mode.cr4;
        for (unsigned w = 0; w < ARRAY_LEN(widths) * 4; w++) {
            m.mode.maxphyaddr = widths[w / 4];
            m.mode.efer = (m.mode.efer & ~EFER_NXE) | (w & 1 ? EFER_NXE : 0);
            m.mode.cr4 = base4;
            if (shapes[n].family == FAMILY_32 && (w & 2))
                m.mode.cr4 &= ~CR4_PSE; /* then PS is ignored, and a table stands there */
            mmu_select(&k.mmu[0], &m.mode);
            for (unsigned level = m.leaf; level <= m.top; level++) {
                for (unsigned bit = 0; bit < m.size * 8; bit++) {
                    for (unsigned l = m.leaf; l <= m.top; l++)
                        set(&m, l, RW | US);
                    compare_all(&m);
                    phys_store(&k.phys, m.entry[level], m.size, (m.value[level] | RW | US) ^ BIT(bit));
                    compare_all(&m);
                }
            }
        }
    }
}

Test(walk, canonical, .init = setup, .fini = teardown)
{
    struct mapping m4 = map(&shapes[4]), m5 = map(&shapes[7]);
    const gva_t addresses[] = {0,
                               BIT(47) - 1,
                               BIT(47),
                               BIT(48),
                               ~BIT(47),
                               0xffff7fffffffffff,
                               0xffff800000000000,
                               0x00ffffffffffffff,
                               0x0100000000000000,
                               0xff00000000000000,
                               0xfeffffffffffffff,
                               0x8000000000000000,
                               ~0ull};
    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        mmu_select(&k.mmu[0], &m4.mode);
        compare(&m4.mode, (struct access){addresses[i], MMU_READ, false});
        mmu_select(&k.mmu[0], &m5.mode);
        compare(&m5.mode, (struct access){addresses[i], MMU_READ, false});
    }
}

/* The last page of the address space: an empty TLB entry must not answer for it. */
Test(walk, last_page, .init = setup, .fini = teardown)
{
    struct mmu_mode mode = kit_mode_4level(kit_page(&k));
    struct tlb *t = mmu_select(&k.mmu[0], &mode);
    for (int kind = MMU_READ; kind <= MMU_EXEC; kind++) {
        cr_assert_not(kit_hits(t, ~0ull, kind));
        cr_assert_not(kit_hits(t, 0xfffffffffffff000, kind));
        cr_assert_not(kit_hits(t, 0, kind));
        compare(&mode, (struct access){~0ull, kind, false});
    }
    mmu_drop_all(&k.mmu[0]);
    cr_assert_not(kit_hits(t, ~0ull, MMU_READ));
}

Test(walk, no_paging, .init = setup, .fini = teardown)
{
    struct mmu_mode mode = {.cpl = 3, .maxphyaddr = 46};
    struct mmu_fault f;
    gpa_t gpa;
    mmu_select(&k.mmu[0], &mode);
    for (gva_t linear = 0; linear < BIT(32); linear += 0x1234567)
        compare(&mode, (struct access){linear, MMU_WRITE, false});
    cr_assert(mmu_translate(&k.mmu[0], BIT(32) | 0x1234, MMU_READ, 0, &gpa, &f));
    cr_assert_eq(gpa, 0x1234);
    cr_assert(mmu_translate_gpa(&k.mmu[0], 0xabcdef012345, MMU_WRITE, 0, &gpa, &f));
    cr_assert_eq(gpa, 0xabcdef012345);
}

/* PAE: an absent PDPTE register faults like an absent entry; memory behind it is not read. */
Test(walk, pdpte, .init = setup, .fini = teardown)
{
    struct mapping m = map(&shapes[2]);
    mmu_select(&k.mmu[0], &m.mode);
    for (unsigned i = 0; i < 4; i++)
        compare(&m.mode, (struct access){(gva_t)i << 30 | (m.linear & 0x3fffffff), MMU_READ, false});
    m.mode.pdpte[3] &= ~1ull;
    mmu_select(&k.mmu[0], &m.mode);
    compare(&m.mode, (struct access){m.linear, MMU_WRITE, false});
}

/* Tables outside RAM read as ones or as their device; nothing hangs and nothing is cached from them. */
Test(walk, outside_ram, .init = setup, .fini = teardown)
{
    struct mmu_fault f;
    gpa_t gpa;
    for (unsigned i = 0; i < 6; i++) {
        static const gpa_t roots[] = {KIT_HOLE,        0xfffff000,        0x3fffffff000,
                                      0xffffffffff000, KIT_HOLE - 0x1000, 0};
        struct mmu_mode mode = kit_mode_4level(roots[i]);
        mode.maxphyaddr = 52;
        mmu_select(&k.mmu[0], &mode);
        for (unsigned j = 0; j < 64; j++)
            mmu_translate(&k.mmu[0], (gva_t)j << 37 | (j & 32 ? 0xffff000000000000 : 0), j % 3, 0, &gpa, &f);
        mode.efer = 0;
        mode.cr4 = 0;
        mmu_select(&k.mmu[0], &mode);
        for (gva_t j = 0; j < 64; j++)
            mmu_translate(&k.mmu[0], j << 26, j % 3, 0, &gpa, &f);
    }
}
