/*
 * mmu/walk.c -- walks of the guest's paging structures, in every paging mode.
 *
 * SDM 3A, "Paging": "Hierarchical Paging Structures", "Access Rights", "Page-Fault Exceptions",
 * "Accessed and Dirty Flags".
 * Reads:  paging structures in RAM (or wherever they point), a context's paging-structure cache.
 * Writes: accessed and dirty flags, the dependency store, the paging-structure cache.
 * Order:  entries are read top down, each through EPT first; then access rights; then accessed and dirty
 * flags; then the EPT translation of the page itself. So a #PF comes before the page's EPT violation. Not
 * here: EPT (ept.c), the TLB (tlb.c). Tests:  tests/unit/test_mmu_walk.c
 */
#include <string.h>

#include "mmu/internal.h"

#define CR0_WP   BIT(16)
#define CR0_PG   BIT(31)
#define CR4_PSE  BIT(4)
#define CR4_PAE  BIT(5)
#define CR4_LA57 BIT(12)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE  BIT(22)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

#define PF_P    BIT(0)
#define PF_W    BIT(1)
#define PF_U    BIT(2)
#define PF_RSVD BIT(3)
#define PF_I    BIT(4)
#define PF_PK   BIT(5)

/* Exit qualification of EPT violations: the guest linear address is valid; the access was to its translation.
 */
#define QUAL_LINEAR      BIT(7)
#define QUAL_TRANSLATION BIT(8)

const struct paging_mode paging_modes[PAGING_COUNT] = {
    /*                 name     levels bits size linear large            PS reserved      top  format */
    [PAGING_NONE] = {"none", 0, 0, 0, 32, 0, 0, 0, FORMAT_32},
    [PAGING_32] = {"32-bit", 2, 10, 4, 32, BIT(2), 0, 0, FORMAT_32},
    [PAGING_PAE] = {"PAE", 2, 9, 8, 32, BIT(2), 0, 62, FORMAT_64},
    [PAGING_4LEVEL] = {"4-level", 4, 9, 8, 48, BIT(2) | BIT(3), BIT(4), 51, FORMAT_64},
    [PAGING_5LEVEL] = {"5-level", 5, 9, 8, 57, BIT(2) | BIT(3), BIT(4) | BIT(5), 51, FORMAT_64},
};

/* -- Modes and rules ---------------------------------------------------------------------------------------
 */

static enum paging_kind mode_paging(const struct mmu_mode *mode)
{
    if (!(mode->cr0 & CR0_PG))
        return PAGING_NONE;
    if (!(mode->cr4 & CR4_PAE))
        return PAGING_32;
    if (!(mode->efer & EFER_LMA))
        return PAGING_PAE;
    return mode->cr4 & CR4_LA57 ? PAGING_5LEVEL : PAGING_4LEVEL;
}

void mode_normalise(struct mmu_mode *n, const struct mmu_mode *mode)
{
    const enum paging_kind kind = mode_paging(mode);
    const bool user = mode->cpl == 3;
    const bool smap = (mode->cr4 & CR4_SMAP) && !mode->ac;

    memset(n, 0, sizeof *n);
    n->maxphyaddr = (uint8_t)(mode->maxphyaddr < 32 ? 52 : MIN(mode->maxphyaddr, 52));
    n->ept = mode->ept;
    if (mode->ept) {
        n->eptp = mode->eptp & (BITS(51, 12) | BITS(6, 3));
        n->mbe = mode->mbe;
    }
    if (mode->apic_page & 1)
        n->apic_page = mode->apic_page & (PTE_ADDR | 1);
    if (kind == PAGING_NONE)
        return;
    n->cpl = user ? 3 : 0;
    n->cr0 = CR0_PG | (user ? 0 : mode->cr0 & CR0_WP);
    /* SMEP matters to user mode too: it makes page faults tell instruction fetches. */
    n->cr4 = (mode->cr4 & (CR4_PAE | CR4_SMEP)) | (!user && smap ? CR4_SMAP : 0);
    switch (kind) {
    case PAGING_32:
        n->cr4 |= mode->cr4 & CR4_PSE;
        n->cr3 = mode->cr3 & BITS(31, 12);
        break;
    case PAGING_PAE:
        n->efer = mode->efer & EFER_NXE;
        /* An absent PDPTE is the same whatever its other bits hold. */
        for (unsigned i = 0; i < 4; i++)
            n->pdpte[i] = mode->pdpte[i] & PTE_P ? mode->pdpte[i] & (PTE_ADDR | PTE_P) : 0;
        break;
    default:
        n->efer = mode->efer & (EFER_NXE | EFER_LMA);
        n->cr4 |= mode->cr4 & (CR4_PKE | (kind == PAGING_5LEVEL ? CR4_LA57 : 0));
        n->cr3 = mode->cr3 & PTE_ADDR;
        n->pkru = mode->cr4 & CR4_PKE ? mode->pkru : 0;
        break;
    }
}

/* SDM 3A, "Determination of Access Rights", as one table; protection keys come on top (pkey_denies). */
static void rules_allowed(struct walk_rules *r, bool smep, bool smap)
{
    for (unsigned i = 0; i < 8; i++) {
        const bool us = i >> 2 & 1, rw = i >> 1 & 1, xd = i & 1;
        const bool data = r->user ? us : !(us && smap);
        const bool write = data && (rw || (!r->user && !r->wp));
        const bool exec = !xd && (r->user ? us : !(us && smep));
        r->allowed[i] = (uint8_t)((data ? CAN_READ : 0) | (write ? CAN_WRITE : 0) | (exec ? CAN_EXEC : 0));
    }
}

/* SDM 3A, "Reserved Bits in Paging-Structure Entries" and the format figures of each mode. */
static void rules_reserved(struct walk_rules *r, unsigned maxphyaddr, bool nxe)
{
    const struct paging_mode *p = r->paging;
    uint64_t always = 0;
    if (p->reserved_top) {
        if (maxphyaddr <= p->reserved_top)
            always = BITS(p->reserved_top, maxphyaddr);
        if (!nxe)
            always |= PTE_XD;
    }
    for (unsigned level = 1; level <= p->levels; level++) {
        r->reserved[level][0] = always | (p->ps_reserved >> level & 1 ? PTE_PS : 0);
        r->reserved[level][1] = always;
        if (level == 1)
            continue;
        if (p->format == FORMAT_64)
            r->reserved[level][1] |= BITS(level_shift(p, level) - 1, 13);
        else /* PSE-36: bits 20:13 hold bits 39:32 of the address, as far as the processor has them */
            r->reserved[level][1] |= BITS(21, MIN(maxphyaddr, 40) - 19);
    }
}

void rules_make(struct walk_rules *r, const struct mmu_mode *n)
{
    memset(r, 0, sizeof *r);
    r->paging = &paging_modes[mode_paging(n)];
    r->root = n->cr3;
    memcpy(r->pdpte, n->pdpte, sizeof r->pdpte);
    r->user = n->cpl == 3;
    r->wp = n->cr0 & CR0_WP;
    r->pke = n->cr4 & CR4_PKE;
    r->pkru = n->pkru;
    r->fetch_bit = (n->cr4 & CR4_SMEP) || (n->efer & EFER_NXE);
    r->large_levels = r->paging->large_levels;
    if (r->paging == &paging_modes[PAGING_32] && !(n->cr4 & CR4_PSE))
        r->large_levels = 0;
    rules_allowed(r, n->cr4 & CR4_SMEP, n->cr4 & CR4_SMAP);
    rules_reserved(r, n->maxphyaddr, n->efer & EFER_NXE);
}

/* -- One walk ----------------------------------------------------------------------------------------------
 */

struct walk {
    const struct walk_request *q;
    struct mmu_fault *f;
    struct walk_step steps[LEVELS_MAX];
    unsigned step_count;
    unsigned flags;     /* US << 2 | RW << 1 | XD over all entries so far */
    uint32_t leaf_node; /* dependency node of the first step, from the paging-structure cache; 0: not known */
    bool cacheable;
    bool flags_complete;
};

static unsigned access_bits(enum mmu_access access)
{
    return access == MMU_READ ? CAN_READ : access == MMU_WRITE ? CAN_WRITE : CAN_EXEC;
}

static bool walk_page_fault(struct walk *w, uint64_t error)
{
    const struct walk_request *q = w->q;
    if (q->access == MMU_WRITE)
        error |= PF_W;
    if (q->rules->user)
        error |= PF_U;
    if (q->access == MMU_EXEC && q->rules->fetch_bit)
        error |= PF_I;
    w->f->kind = MMU_FAULT_PAGE;
    w->f->error_code = (uint32_t)error;
    return false;
}

/* Guest-physical to physical for an access to a paging-structure entry. */
static bool walk_through_ept(struct walk *w, gpa_t gpa, unsigned access, gpa_t *at)
{
    const struct walk_request *q = w->q;
    struct walk_result r;
    if (!q->ept) {
        *at = gpa;
        return true;
    }
    const struct ept_request e = {.m = q->m,
                                  .rules = q->ept,
                                  .space = q->space,
                                  .gpa = gpa,
                                  .access = access,
                                  .qualification = QUAL_LINEAR,
                                  .linear = q->linear,
                                  .probe = q->probe};
    if (!ept_translate(&e, &r, w->f))
        return false;
    if (unlikely(((r.gpa & ~PAGE_MASK) | 1) == q->apic_page) && !q->probe) {
        w->f->kind = MMU_FAULT_APIC_ACCESS;
        w->f->gpa = r.gpa;
        return false;
    }
    w->cacheable &= r.cacheable;
    w->flags_complete &= r.flags_complete;
    *at = r.gpa;
    return true;
}

static uint64_t entry_load(struct walk *w, const struct walk_step *s)
{
    const unsigned size = w->q->rules->paging->entry_size;
    if (likely(s->host != NULL))
        return load_le(s->host, size);
    w->cacheable = false;
    /* A probe touches no device. */
    return w->q->probe ? size_mask(size) : phys_load(w->q->m->phys, s->at, size);
}

static gpa_t leaf_frame(const struct walk_rules *r, uint64_t value, unsigned level)
{
    const uint64_t span = entry_span(r->paging, level);
    if (r->paging->format == FORMAT_32 && level == 2)
        return (value & BITS(31, 22)) | (value & BITS(20, 13)) << 19;
    return value & PTE_ADDR & ~(span - 1);
}

/* Reads entries from `table` at `level` down to the one that maps the page. */
static bool walk_down(struct walk *w, unsigned level, gpa_t table)
{
    const struct walk_request *q = w->q;
    const struct walk_rules *r = q->rules;
    const struct paging_mode *p = r->paging;
    const uint64_t linear = q->linear & (BIT(p->linear_bits) - 1);
    /* With EPT's flags enabled, each access to an entry counts as a write too (SDM 3C, "Accessed and Dirty
     * Flags for EPT"). */
    const unsigned entry_access = q->ept && q->ept->ad ? CAN_READ | CAN_WRITE : CAN_READ;

    for (;; level--) {
        struct walk_step *s = &w->steps[w->step_count];
        const uint64_t index = linear >> level_shift(p, level) & (BIT(p->index_bits) - 1);
        s->level = (uint8_t)level;
        s->base = linear & ~(table_span(p, level) - 1);
        s->at_guest = table + index * p->entry_size;
        if (!walk_through_ept(w, s->at_guest, entry_access, &s->at))
            return false;
        s->host = phys_page_host(q->m->phys, s->at);
        if (s->host)
            s->host += s->at & PAGE_MASK;
        s->value = entry_load(w, s);
        w->step_count++;
        if (!(s->value & PTE_P))
            return walk_page_fault(w, 0);
        const bool leaf = level == 1 || ((s->value & PTE_PS) && (r->large_levels >> level & 1));
        if (s->value & r->reserved[level][leaf])
            return walk_page_fault(w, PF_P | PF_RSVD);
        w->flags &= (unsigned)(s->value & (PTE_US | PTE_RW)) | 1;
        w->flags |= (unsigned)(s->value >> 63);
        if (leaf)
            return true;
        table = s->value & PTE_ADDR;
    }
}

/* What PKRU takes away from a user-mode page with the entry's key (SDM 3A, "Protection Keys"). */
static unsigned pkey_denies(const struct walk_rules *r, const struct walk *w, uint64_t leaf)
{
    if (!r->pke || !(w->flags & PTE_US))
        return 0;
    const unsigned rights = r->pkru >> ((leaf >> 59 & 15) * 2) & 3;
    if (rights & 1)
        return CAN_READ | CAN_WRITE;
    return (rights & 2) && (r->user || r->wp) ? CAN_WRITE : 0;
}

/* Sets `bits` in an entry as the processor does: a locked read-modify-write of the entry in memory. */
static bool walk_set_flags(struct walk *w, struct walk_step *s, uint64_t bits)
{
    const struct walk_request *q = w->q;
    const unsigned size = q->rules->paging->entry_size;
    if ((s->value & bits) == bits)
        return true;
    gpa_t at;
    if (!walk_through_ept(w, s->at_guest, CAN_WRITE, &at))
        return false;
    if (q->probe) {
        const struct phys_page *page = phys_page(q->m->phys, s->at);
        if (!page || !(page->observers & OBSERVE_ROM))
            w->flags_complete = false;
        return true;
    }
    phys_store(q->m->phys, at, size, (s->host ? load_le(s->host, size) : s->value) | bits);
    if (s->host) /* ROM keeps its value */
        s->value = load_le(s->host, size);
    return true;
}

static bool walk_mark_used(struct walk *w)
{
    for (unsigned i = 0; i < w->step_count; i++) {
        const bool leaf = i == w->step_count - 1;
        if (!walk_set_flags(w, &w->steps[i], leaf && w->q->access == MMU_WRITE ? PTE_A | PTE_D : PTE_A))
            return false;
    }
    return true;
}

/* Records what the walk used, and remembers the way to the last table. */
static bool walk_record(struct walk *w)
{
    const struct walk_request *q = w->q;
    struct tables *t = phys_tables(q->m->phys);
    const uint8_t format = q->rules->paging->format;
    const struct walk_step *last = &w->steps[w->step_count - 1];
    const uint32_t known = w->leaf_node;
    unsigned flags = 6; /* of the entries above the last */
    uint32_t node = known;

    for (const struct walk_step *s = w->steps; s <= last; s++) {
        node = s == last ? known : 0;
        if (!tables_use(t, q->c->owner, format, s, &node))
            return false;
        if (s < last)
            flags = (flags & ((unsigned)(s->value & 6) | 1)) | (unsigned)(s->value >> 63);
    }
    if (known)
        return true;
    *psc_slot(q->c, q->linear) = (struct psc_entry){
        .tag = psc_tag(q->c, q->linear),
        .table = last->at & ~PAGE_MASK,
        .table_guest = last->at_guest & ~PAGE_MASK,
        .host = last->host - (last->at & PAGE_MASK),
        .node = node,
        .level = last->level,
        .flags = (uint8_t)flags,
    };
    return true;
}

static bool walk_root(struct walk *w)
{
    const struct walk_rules *r = w->q->rules;
    gpa_t root = r->root;
    w->step_count = 0;
    w->leaf_node = 0;
    w->flags = PTE_US | PTE_RW;
    if (r->paging == &paging_modes[PAGING_PAE]) {
        root = r->pdpte[w->q->linear >> 30 & 3];
        if (!(root & PTE_P))
            return walk_page_fault(w, 0);
        root &= PTE_ADDR;
    }
    return walk_down(w, r->paging->levels, root);
}

enum cached { CACHED_NOTHING, CACHED_PAGE, CACHED_FAULT };

/*
 * Tries the one entry that the paging-structure cache leads to, without side effects. A fault is certain when
 * that entry alone makes it. Access rights that the entries above won meanwhile are not in the cache: where
 * they matter, the full walk decides.
 */
static enum cached walk_cached(struct walk *w)
{
    const struct walk_request *q = w->q;
    const struct walk_rules *r = q->rules;
    if (!q->c)
        return CACHED_NOTHING;
    const struct psc_entry *e = psc_slot(q->c, q->linear);
    if (e->tag != psc_tag(q->c, q->linear))
        return CACHED_NOTHING;
    const struct paging_mode *p = r->paging;
    const uint64_t linear = q->linear & (BIT(p->linear_bits) - 1);
    const uint64_t offset = (linear >> level_shift(p, e->level) & (BIT(p->index_bits) - 1)) * p->entry_size;
    struct walk_step *s = &w->steps[0];
    s->level = e->level;
    s->base = linear & ~(table_span(p, e->level) - 1);
    s->at = e->table + offset;
    s->at_guest = e->table_guest + offset;
    s->host = e->host + offset;
    s->value = load_le(s->host, p->entry_size);
    if (!(s->value & PTE_P)) {
        walk_page_fault(w, 0);
        return CACHED_FAULT;
    }
    const bool leaf = e->level == 1 || ((s->value & PTE_PS) && (r->large_levels >> e->level & 1));
    if (!leaf)
        return CACHED_NOTHING;
    if (s->value & r->reserved[e->level][1]) {
        walk_page_fault(w, PF_P | PF_RSVD);
        return CACHED_FAULT;
    }
    const unsigned own = (unsigned)(s->value & (PTE_US | PTE_RW)) | (unsigned)(s->value >> 63);
    const unsigned need = access_bits(q->access);
    w->flags = (e->flags & (own | 1)) | (own & 1);
    if (!(r->allowed[w->flags] & ~pkey_denies(r, w, s->value) & need)) {
        /* A change of U/S above drops the cached way, so only R/W and XD may be better than they seem. */
        const unsigned best = (w->flags & PTE_US) | (own & (PTE_RW | 1));
        if (r->pke || (r->allowed[best] & need))
            return CACHED_NOTHING;
        walk_page_fault(w, PF_P);
        return CACHED_FAULT;
    }
    w->step_count = 1;
    w->leaf_node = e->node;
    return CACHED_PAGE;
}

bool walk_quick(struct mmu_context *c, gva_t linear, enum mmu_access access, struct walk_result *out)
{
    const struct walk_rules *r = &c->rules;
    const struct psc_entry *e = psc_slot(c, linear);
    struct tables *t = phys_tables(c->mmu->phys);
    if (e->tag != psc_tag(c, linear) || e->level != 1 || r->paging->format != FORMAT_64 || r->pke)
        return false;
    const unsigned word = linear >> PAGE_SHIFT & 511, need = access_bits(access);
    const uint8_t *host = e->host + word * 8;
    const uint64_t value = load_le(host, 8);
    const uint64_t set = PTE_P | PTE_A | (access == MMU_WRITE ? PTE_D : 0);
    if ((value & set) != set || (value & r->reserved[1][1]))
        return false;
    const unsigned own = (unsigned)(value & (PTE_US | PTE_RW)) | (unsigned)(value >> 63);
    const unsigned can = r->allowed[(e->flags & (own | 1)) | (own & 1)];
    if (!(can & need))
        return false;
    *out = (struct walk_result){.gpa = (value & PTE_ADDR) | (linear & PAGE_MASK),
                                .can = can,
                                .dirty = value & PTE_D,
                                .cacheable = true,
                                .flags_complete = true};
    if (c->ept) {
        struct walk_result page;
        if (!c->space || c->ept_rules.mbe || !ept_lookup(t, c->space, out->gpa, need, &page))
            return false;
        c->space->stamp = ++t->clock;
        c->mmu->stats.walks_2d++;
        out->gpa = page.gpa;
        out->can &= page.can;
        out->dirty &= page.dirty;
    }
    c->mmu->stats.walks++;
    tables_use_word(t, e->node, word, host);
    return true;
}

static bool walk_page(struct walk *w, gpa_t *gpa, struct walk_result *out)
{
    const struct walk_request *q = w->q;
    const struct walk_rules *r = q->rules;
    const unsigned need = access_bits(q->access);
    const enum cached cached = walk_cached(w);
    if (cached == CACHED_FAULT || (cached == CACHED_NOTHING && !walk_root(w)))
        return false;
    const struct walk_step *leaf = &w->steps[w->step_count - 1];
    const unsigned denied = pkey_denies(r, w, leaf->value);
    out->can = r->allowed[w->flags] & ~denied;
    if (!(out->can & need))
        return walk_page_fault(w, PF_P | (denied & need ? PF_PK : 0));
    *gpa = leaf_frame(r, leaf->value, leaf->level) | (q->linear & (entry_span(r->paging, leaf->level) - 1));
    if (!walk_mark_used(w))
        return false;
    out->dirty = leaf->value & PTE_D;
    return true;
}

bool walk_run(const struct walk_request *q, struct walk_result *out, struct mmu_fault *f)
{
    struct tables *t = phys_tables(q->m->phys);
    struct walk w; /* filled by hand: most of it is steps that are not taken */
    struct walk_result page;
    gpa_t gpa = 0;

    w.q = q;
    w.f = f;
    w.cacheable = w.flags_complete = true;
    w.step_count = w.flags = 0;
    w.leaf_node = 0;

    q->m->stats.walks++;
    if (q->ept)
        q->m->stats.walks_2d++;
    memset(f, 0, sizeof *f);
    f->linear = q->linear;
    const uint64_t drops = t->drops;

    if (q->rules->paging->levels == 0) {
        gpa = q->linear & 0xffffffff;
        out->can = CAN_READ | CAN_WRITE | CAN_EXEC;
        out->dirty = true;
    } else {
        if (q->rules->paging->linear_bits > 32 && linear_extend(q->rules->paging, q->linear) != q->linear) {
            f->kind = MMU_FAULT_CANONICAL;
            return false;
        }
        if (!walk_page(&w, &gpa, out))
            return false;
    }
    if (q->ept) {
        /* Without paging every linear address is a user-mode address (SDM 3C, "EPT Violations"). */
        const bool user = q->rules->paging->levels == 0 || w.flags & PTE_US;
        unsigned access = access_bits(q->access);
        if (access == CAN_EXEC && q->ept->mbe && user)
            access = CAN_EXEC_USER;
        const struct ept_request e = {.m = q->m,
                                      .rules = q->ept,
                                      .space = q->space,
                                      .gpa = gpa,
                                      .access = access,
                                      .qualification = QUAL_LINEAR | QUAL_TRANSLATION,
                                      .linear = q->linear,
                                      .probe = q->probe};
        if (!ept_translate(&e, &page, f))
            return false;
        gpa = page.gpa;
        /* What `can` says of fetches must hold for any access, since it is kept for all of them. */
        if (q->ept->mbe)
            page.can = (page.can & ~CAN_EXEC) | (page.can & (user ? CAN_EXEC_USER : CAN_EXEC) ? CAN_EXEC : 0);
        out->can &= page.can;
        out->dirty &= page.dirty;
        w.cacheable &= page.cacheable;
        w.flags_complete &= page.flags_complete;
    }
    out->gpa = gpa;
    out->flags_complete = w.flags_complete;
    /* What was dropped during the walk (by its own writes of flags) may be what it read before. */
    out->cacheable = q->c && !q->probe && w.cacheable && drops == t->drops;
    if (out->cacheable && w.step_count)
        out->cacheable = walk_record(&w);
    return true;
}
