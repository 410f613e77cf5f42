/*
 * mmu/mmu.h -- from linear address to host memory: walks, EPT, and TLB contexts, coherent with the tables.
 *
 * SDM 3A, "Paging"; SDM 3C, "The Extended Page Table Mechanism (EPT)".
 * Promise of mmu/: a translation that it returns, or leaves in a TLB, is what a walk would give now. Tables
 * that made a cached translation are observed, a write to them drops exactly what it changed, so no flush is
 * ever needed for correctness. mmu/ returns fault values and never jumps; it knows nothing of struct cpu.
 */
#ifndef MMU_MMU_H
#define MMU_MMU_H

#include "base/types.h"
#include "mmu/phys.h"
#include "snapshots/state.h"

/* What a translation depends on. Owned here, written by cpu/ before mmu_select(). */
struct mmu_mode {
    uint64_t cr0, cr3, cr4, efer;
    uint64_t pdpte[4]; /* the PDPTE registers, valid with PAE paging (CR0.PG, CR4.PAE, !EFER.LMA) */
    uint64_t eptp;     /* the EPT pointer; used when ept is true */
    gpa_t apic_page;   /* APIC-access page | 1, 0 none: a final address in this page never gets a TLB entry */
    uint32_t pkru;
    uint8_t cpl;        /* 3 = user-mode accesses, else supervisor */
    bool ac;            /* RFLAGS.AC, for SMAP */
    bool ept;           /* in VMX non-root operation with "enable EPT" */
    uint8_t maxphyaddr; /* bits */
    bool mbe;           /* with ept: "mode-based execute control for EPT" */
};

enum mmu_access { MMU_READ, MMU_WRITE, MMU_EXEC };

/* Modifiers of an access. */
enum {
    MMU_SYSTEM = 1 << 0,  /* implicit supervisor access (GDT, IDT, TSS, ...): CPL is ignored */
    MMU_NO_FILL = 1 << 1, /* leave the TLB alone */
    MMU_PROBE = 1 << 2, /* no side effect at all: no accessed/dirty bits, no fill, for debuggers and probes */
};

enum mmu_fault_kind {
    MMU_OK = 0,
    MMU_FAULT_PAGE,          /* #PF: error_code and linear are valid */
    MMU_FAULT_CANONICAL,     /* linear address not canonical: #GP(0) or #SS(0), decided by cpu/ */
    MMU_FAULT_EPT_VIOLATION, /* qualification, gpa, linear are valid */
    MMU_FAULT_EPT_MISCONFIG, /* gpa is valid */
    MMU_FAULT_PML_FULL,      /* page-modification log full: VM exit before the access */
    MMU_FAULT_APIC_ACCESS,   /* a paging-structure entry or what mmu_translate_gpa() is asked for lies, after
                                EPT, in the   APIC-access page: gpa is valid */
};

struct mmu_fault {
    uint8_t kind;           /* enum mmu_fault_kind */
    bool convertible;       /* of an EPT violation: bit 63, "suppress #VE", of the entry that decided is 0 */
    uint32_t error_code;    /* of the #PF: P, W, U, RSVD, I, PK bits */
    gva_t linear;           /* faulting linear address (CR2) */
    gpa_t gpa;              /* guest-physical address of an EPT event */
    uint64_t qualification; /* of an EPT violation, SDM 3C, "Exit Qualification for EPT Violations" */
};

/*
 * One TLB context: direct-mapped tables, one for each kind of access. An entry hits when
 * (linear ^ tag) <= 4096 - size; `host + (linear ^ tag)` is then the byte. The tag of an empty entry belongs
 * to another slot (0, in slot 0 all ones), so that no address hits it, and a table of zeros needs only its
 * slot 0 set. Pages that are not plain RAM (MMIO), and in `write` pages with observers, have no entry.
 */
#define TLB_BITS      12
#define TLB_ENTRIES   (1u << TLB_BITS)
#define TLB_EXEC_BITS 11
#define TLB_NEAR      64

struct tlb_entry {
    uint64_t tag;  /* linear page address, low 12 bits zero; empty: see above */
    uint8_t *host; /* host address of the page */
};

struct tlb {
    struct tlb_entry read[TLB_ENTRIES];
    struct tlb_entry write[TLB_ENTRIES];
    struct {
        uint64_t tag;
        gpa_t gpa; /* of the page (after EPT) */
    } exec[1u << TLB_EXEC_BITS];
    /* Where the guest's stack was last seen: its page when it may be read, and written, else TLB_NOWHERE; and
     * host minus linear address. Filled by translated code from the tables, dropped with its page. */
    struct {
        uint64_t read, write, delta;
    } stack;
    /* Pages that accesses of hot code have met last, a number for each place in the code (cpu/jit/tune.c).
     * Filled by translated code from `read` and `write`, dropped with the page; empty: TLB_NOWHERE. */
    struct tlb_entry near_read[TLB_NEAR], near_write[TLB_NEAR];
    uint64_t near_used;   /* not 0: there may be some */
    struct mmu_mode mode; /* the key of this context */
    uint32_t index;       /* in the pool */
    bool used;
};

/* Not canonical, so that no address is in its page. */
#define TLB_NOWHERE BIT(63)

static inline unsigned tlb_index(uint64_t linear)
{
    return (unsigned)(linear >> PAGE_SHIFT) & (TLB_ENTRIES - 1);
}

/* The instruction translation of `linear`, when the context has it. */
static inline bool tlb_exec_hit(const struct tlb *t, uint64_t linear, gpa_t *gpa)
{
    const unsigned i = (unsigned)(linear >> PAGE_SHIFT) & ((1u << TLB_EXEC_BITS) - 1);
    *gpa = t->exec[i].gpa + (linear & PAGE_MASK);
    return t->exec[i].tag == (linear & ~PAGE_MASK);
}

#define MMU_CONTEXTS 128

/* Page-modification logging (SDM 3C, "Page-Modification Logging"): set by cpu/vmx for the current VMCS. */
struct mmu_pml {
    bool enabled;
    gpa_t address;   /* 4 KB log page */
    uint16_t *index; /* the VMCS field, counted down by the walk */
};

/* Counts for --stats; not part of the guest's state. */
struct mmu_stats {
    uint64_t fills, walks, walks_2d, ept_walks, context_switches, drops;
};

struct mmu {
    struct phys *phys;
    struct tlb *contexts; /* MMU_CONTEXTS of them; touched when first used */
    struct tlb *current;
    struct mmu_pml pml;
    /* EPT capabilities that the walk depends on; set once, after mmu_init() and before any use of EPT. */
    bool ept_ad_supported, ept_execute_only;
    /*
     * Bumped whenever an exec translation of the current context may have been dropped or changed: a cached
     * jump is good for one pair (context, generation). What another context loses bumps it when that context
     * is selected; selecting a context does not bump it otherwise.
     */
    uint64_t generation;
    uint64_t stack_drops; /* how often tlb.stack of any context was dropped */
    /*
     * Debug mode, set before first use or followed by mmu_drop_all(): the tables of contexts are not filled,
     * so each access comes to mmu_translate(), which compares what it has cached with a walk and stops the
     * program where they differ.
     */
    bool verify;
    gpa_t local_apic; /* page of this processor's local APIC | 1, 0 none: like mmu_mode.apic_page. After a
                         change, mmu_drop_all() */
    struct mmu_stats stats;
    void *walk_cache; /* owned by mmu/ */
};

bool mmu_init(struct mmu *m, struct phys *p, struct error *e);
void mmu_free(struct mmu *m);

/* Makes the context for `mode` current (creates it if new) and returns it; cheap when it exists. */
struct tlb *mmu_select(struct mmu *m, const struct mmu_mode *mode);

/* What mmu_select() has found, for who will want the same mode again. All zero: nothing. */
struct mmu_choice {
    struct mmu_mode mode;
    void *recent; /* owned by mmu/, like all that it leads to */
    uint64_t id;
};
void mmu_remember(const struct mmu *m, struct mmu_choice *c);
/* mmu_select() of c->mode, but no mode is compared; NULL: no longer known, and nothing was done. */
struct tlb *mmu_select_again(struct mmu *m, const struct mmu_choice *c);

/*
 * Translates `linear` in the current context for an access that does not cross a page. Fills the TLB where
 * allowed. Returns true with *gpa (final, after EPT), or false with *f.
 */
bool mmu_translate(struct mmu *m, gva_t linear, enum mmu_access access, unsigned flags, gpa_t *gpa,
                   struct mmu_fault *f);

/* A walk with explicit mode, without TLB (VM entry checks, debugger, tests); flags as above. */
bool mmu_walk(struct mmu *m, const struct mmu_mode *mode, gva_t linear, enum mmu_access access,
              unsigned flags, gpa_t *gpa, struct mmu_fault *f);

/* Guest-physical to host-physical through EPT of the current mode; identity without EPT. */
bool mmu_translate_gpa(struct mmu *m, gpa_t gpa, enum mmu_access access, unsigned flags, gpa_t *out,
                       struct mmu_fault *f);

/* Drops every translation of all contexts (mode of memory map changed: PCI BARs, A20, loading state). */
void mmu_drop_all(struct mmu *m);
/* Called by phys_observe(): drops write entries that point to this RAM page, in all contexts. */
void mmu_drop_write_host(struct mmu *m, const uint8_t *host_page);
/* Called by ram_written() for OBSERVE_TABLES pages. */
void mmu_tables_written(struct phys *p, gpa_t gpa, uint32_t length);

/* Debug mode: re-walk and compare every entry of the current context; number of differences, first in
 * *linear. */
uint32_t mmu_verify(struct mmu *m, gva_t *linear);

extern const struct state_desc mmu_state; /* pml and capabilities; translations are no state */

#endif
