/*
 * mmu/internal.h -- what the files of mmu/ share: paging rules, contexts, EPT spaces, the dependency store.
 *
 * Not for other folders. The pieces, and who owns them:
 *
 *   walk.c    struct walk_rules    what a mode means for a walk, computed once for each context
 *   tlb.c     struct mmu_context   a TLB context with its rules and paging-structure cache, one pool a
 * processor ept.c     struct ept_space     cached EPT translations of one EPTP, shared by all processors
 *   tables.c  struct tables        which bytes of RAM made cached translations, one store a machine
 *
 * A *table page* is a page of RAM from which walks read entries. Its record keeps a copy of each 8-byte word
 * that was used, so that a write can be judged by what it changed, and a list of nodes, one for each *owner*
 * (context or EPT space), level and base address under which the page was used.
 */
#ifndef MMU_INTERNAL_H
#define MMU_INTERNAL_H

#include "base/types.h"
#include "mmu/mmu.h"
#include "mmu/phys.h"

/* -- Entries of paging structures --------------------------------------------------------------------------
 */

#define PTE_P    BIT(0)
#define PTE_RW   BIT(1)
#define PTE_US   BIT(2)
#define PTE_A    BIT(5)
#define PTE_D    BIT(6)
#define PTE_PS   BIT(7)
#define PTE_XD   BIT(63)
#define PTE_ADDR BITS(51, 12)

#define EPT_R   BIT(0)
#define EPT_W   BIT(1)
#define EPT_X   BIT(2)
#define EPT_RWX BITS(2, 0)
#define EPT_PS  BIT(7)
#define EPT_A   BIT(8)
#define EPT_D   BIT(9)
#define EPTP_AD BIT(6)

/* What an access needs or a page gives: EPT's own bits serve both dimensions. */
#define CAN_READ  1u
#define CAN_WRITE 2u
#define CAN_EXEC  4u

#define LEVELS_MAX 5

enum table_format { FORMAT_32, FORMAT_64, FORMAT_EPT, FORMAT_COUNT };
enum entry_kind { ENTRY_TABLE, ENTRY_PAGE, ENTRY_LARGE, ENTRY_KIND_COUNT };

/* How a change of an entry's bits bears on translations that were made from it; all other bits are ignored.
 */
struct entry_meaning {
    uint64_t both; /* a change in either direction drops */
    uint64_t lost; /* only a bit that was 1 and is 0 drops; 0 to 1 only gives more than was cached */
    uint64_t won;  /* only a bit that was 0 and is 1 drops */
};

/* -- Walks -------------------------------------------------------------------------------------------------
 */

enum paging_kind { PAGING_NONE, PAGING_32, PAGING_PAE, PAGING_4LEVEL, PAGING_5LEVEL, PAGING_COUNT };

/* A row of the table of paging modes (SDM 3A, "Paging Modes and Control Bits"). */
struct paging_mode {
    const char *name;
    uint8_t levels;       /* levels read from memory: PAE's four PDPTEs are registers */
    uint8_t index_bits;   /* of each level */
    uint8_t entry_size;   /* bytes */
    uint8_t linear_bits;  /* above 32: addresses must be canonical; else they are truncated */
    uint8_t large_levels; /* bit n: an entry of level n maps a page when its PS bit is 1 */
    uint8_t ps_reserved;  /* bit n: the PS bit of level n must be 0 */
    uint8_t reserved_top; /* highest reserved bit above the physical address; 0: none */
    uint8_t format;       /* enum table_format */
};
extern const struct paging_mode paging_modes[PAGING_COUNT];

struct walk_rules {
    const struct paging_mode *paging;
    uint64_t root; /* of the top table; PAE: see pdpte */
    uint64_t pdpte[4];
    uint64_t reserved[LEVELS_MAX + 1][2]; /* by level; [1]: the entry maps a page */
    uint8_t large_levels;                 /* paging->large_levels as far as enabled */
    uint8_t allowed[8]; /* CAN_* by U/S, R/W and XD of the page: index US << 2 | RW << 1 | XD */
    bool user;          /* accesses are user-mode */
    bool wp;            /* CR0.WP; matters to protection keys besides `allowed` */
    bool pke;
    bool fetch_bit; /* a page fault tells instruction fetches (I/D bit) */
    uint32_t pkru;
};

/* An EPT pointer as rules. */
struct ept_rules {
    uint64_t root;
    uint8_t levels;
    uint8_t maxphyaddr;
    bool ad;           /* accessed and dirty flags are enabled */
    bool execute_only; /* capability */
};

/* One entry that a walk read. */
struct walk_step {
    gpa_t at;       /* address of the entry, after EPT */
    gpa_t at_guest; /* before EPT */
    uint8_t *host;  /* of the entry; NULL when it is not RAM */
    uint64_t value;
    uint64_t base; /* linear (or guest-physical) address where the table's range starts, truncated */
    uint8_t level;
};

struct walk_result {
    gpa_t gpa;      /* final address of the access */
    unsigned can;   /* CAN_* of the page in this mode, both dimensions */
    bool dirty;     /* a write needs no dirty flag set any more */
    bool cacheable; /* all tables were RAM and stayed as they were read */
    bool
        flags_complete; /* no accessed or dirty flag was (or, in a probe, would be) missing for this access */
};

struct mmu_context;
struct ept_space;

void rules_make(struct walk_rules *r, const struct mmu_mode *normal);
/* The mode with every field that changes no translation set to a fixed value. */
void mode_normalise(struct mmu_mode *normal, const struct mmu_mode *mode);

static inline unsigned level_shift(const struct paging_mode *p, unsigned level)
{
    return 12 + p->index_bits * (level - 1);
}

/* Bits of an address within what one entry of `level` covers, plus one; and what a whole table covers. */
static inline uint64_t entry_span(const struct paging_mode *p, unsigned level)
{
    return 1ull << level_shift(p, level);
}

static inline uint64_t table_span(const struct paging_mode *p, unsigned level)
{
    return entry_span(p, level) << p->index_bits;
}

static inline uint64_t linear_extend(const struct paging_mode *p, uint64_t truncated)
{
    if (p->linear_bits <= 32)
        return truncated;
    return (uint64_t)((int64_t)(truncated << (64 - p->linear_bits)) >> (64 - p->linear_bits));
}

/*
 * One walk. `c` is the context to serve with its caches and to record dependencies for, or NULL; `space`
 * likewise for EPT; with either, tables_reserve() has been called. Faults as mmu_translate().
 */
struct walk_request {
    struct mmu *m;
    struct mmu_context *c;
    const struct walk_rules *rules;
    const struct ept_rules *ept; /* NULL: no EPT */
    struct ept_space *space;
    gva_t linear;
    enum mmu_access access;
    bool probe;
    gpa_t apic_page; /* as in struct mmu_mode */
};
bool walk_run(const struct walk_request *q, struct walk_result *out, struct mmu_fault *f);

/* -- EPT ---------------------------------------------------------------------------------------------------
 */

#define EPT_SPACES      16
#define EPT_CACHE_BITS  12
#define EPT_CACHE_COUNT (1u << EPT_CACHE_BITS)

struct ept_cached {
    gpa_t tag;     /* guest-physical page; ~0 empty */
    uint64_t page; /* host-physical page | CAN_* | EPT_CACHED_DIRTY */
};
#define EPT_CACHED_DIRTY BIT(3)

struct ept_space {
    struct ept_rules rules;
    bool used;
    bool pending; /* to be reset at the end of a write's handling */
    uint16_t index;
    uint32_t nodes; /* dependency nodes owned, 0 none */
    uint64_t stamp; /* last use */
    struct ept_cached cache[EPT_CACHE_COUNT];
};

struct ept_request {
    struct mmu *m;
    const struct ept_rules *rules;
    struct ept_space *space; /* NULL: no cache, no dependencies */
    gpa_t gpa;
    unsigned access;        /* CAN_*: what must be allowed, and bits 2:0 of the exit qualification */
    uint64_t qualification; /* bits 7 and 8: how the access belongs to a linear address */
    gva_t linear;
    bool probe;
};
void ept_rules_make(struct ept_rules *r, const struct mmu *m, uint64_t eptp, uint8_t maxphyaddr);
bool ept_translate(const struct ept_request *q, struct walk_result *out, struct mmu_fault *f);
/* The space of `rules`, made at need by recycling the one that was used least recently. */
struct ept_space *ept_space_find(struct phys *p, const struct ept_rules *rules);
/* Forgets all translations of the space and of every context that uses it. */
void ept_space_reset(struct phys *p, struct ept_space *s);
/* An entry that made cached translations has changed; [gpa, gpa + span) is what it covers. */
void ept_entry_changed(struct phys *p, struct ept_space *s, unsigned level, gpa_t gpa, uint64_t before);
/* Number of cached translations that differ from a walk. */
uint32_t ept_space_verify(struct mmu *m, struct ept_space *s, gpa_t *first);

/* -- Contexts ----------------------------------------------------------------------------------------------
 */

#define PSC_BITS  6
#define PSC_COUNT (1u << PSC_BITS)
#define PSC_SHIFT 21

/* A cached way from the root to the table that holds the entry of a page. */
struct psc_entry {
    uint64_t tag; /* linear >> PSC_SHIFT; ~0 empty */
    gpa_t table;  /* after EPT */
    gpa_t table_guest;
    uint8_t *host; /* of the table */
    uint32_t node; /* its dependency node for this context */
    uint8_t level;
    uint8_t flags; /* US << 2 | RW << 1 | XD of the entries above */
};

struct mmu_context {
    struct walk_rules rules;
    struct tlb *tlb;
    struct mmu *mmu;
    struct ept_rules ept_rules;
    struct ept_space *space; /* NULL: none, or to be found again */
    uint64_t hash;           /* of tlb->mode */
    uint64_t stamp;          /* last use */
    uint32_t nodes;          /* dependency nodes owned, 0 none */
    uint16_t owner;          /* its name in dependency nodes */
    bool ept;
    bool psc_filled;
    uint32_t read_filled, write_filled, exec_filled; /* bit n: the n-th 32nd of the table may have entries */
    struct psc_entry psc[PSC_COUNT];
};

#define RECENT_BITS 4
#define RECENT_WAYS 4u

/* A mode as cpu/ gave it lately, with its context. */
struct mmu_recent {
    struct mmu_mode mode;
    struct mmu_context *context; /* NULL: slot free */
    struct mmu_context *system;  /* for implicit supervisor accesses; NULL: not looked up */
};

struct mmu_pool {
    struct mmu_context contexts[MMU_CONTEXTS];
    struct mmu_recent recent[1u << RECENT_BITS][RECENT_WAYS]; /* by hash; each set newest first */
    struct mmu_recent *selected;                              /* what mmu->current was selected by */
    struct mmu_recent *previous;                              /* and what was selected before it, or NULL */
    uint64_t clock;
    uint32_t slot; /* index in phys->mmus */
};

static inline struct mmu_pool *mmu_pool(const struct mmu *m)
{
    return m->walk_cache;
}

/* Forgets the context's translations, dependencies and EPT space; the context itself stays. */
void context_reset(struct mmu_context *c);
/* Drops translations of [linear, linear + span), caches of tables included. */
void context_drop_range(struct mmu_context *c, gva_t linear, uint64_t span);
/* Drops translations that lead to [gpa, gpa + span) of RAM. */
void context_drop_target(struct mmu_context *c, gpa_t gpa, uint64_t span);
void context_forget_node(struct mmu_context *c, uint32_t node);
/* Calls fn for each context in use of every MMU. */
void contexts_each(struct phys *p, void (*fn)(struct mmu_context *c, void *arg), void *arg);

/* -- Dependencies ------------------------------------------------------------------------------------------
 */

#define TABLES_RECORDS_MAX 6144u
#define TABLES_NODES_MAX   65536u
/* The most records and nodes one walk can take: 5 levels, each with an EPT walk of 5, and the final EPT walk.
 */
#define TABLES_WALK_MAX 40u

#define OWNER_SPACE 0x8000u /* | index of the EPT space; else slot of the MMU << 6 | index of the context */

struct table_record {
    uint64_t shadow[512]; /* the words in use as they are in RAM */
    uint64_t used[8];     /* bit n: word n made cached translations */
    uint32_t used_count;
    uint32_t nodes; /* first node */
    uint32_t next_free;
    gpa_t gpa; /* of the page */
};

struct dep_node {
    uint64_t base;   /* where the table's range starts in the owner's addresses, truncated */
    uint32_t record; /* 0: node is free */
    uint32_t page_next, page_prev;
    uint32_t owner_next, owner_prev;
    uint16_t owner;
    uint8_t level;
    uint8_t format; /* enum table_format */
};

struct tables {
    struct phys *phys;
    struct table_record **records; /* [1, record_count) */
    uint32_t record_count, record_free, record_free_count;
    struct dep_node *nodes; /* [1, node_count) */
    uint32_t node_count, node_capacity, node_free, node_free_count;
    uint64_t drops;           /* counts everything dropped: a walk during which it moved is not cached */
    bool pending;             /* a space waits for its reset */
    uint64_t clock;           /* of spaces */
    struct ept_space *spaces; /* EPT_SPACES of them */
};

static inline struct tables *phys_tables(const struct phys *p)
{
    return p->tables;
}

bool tables_init(struct phys *p, struct error *e);
void tables_free(struct phys *p);
/*
 * Makes sure that one walk's dependencies fit, by forgetting everything if there is no other way; so it comes
 * before context and space are looked up. False: nothing can be recorded now.
 */
bool tables_reserve(struct tables *t);
/*
 * Records that `step` makes a translation of `owner`; *node is where (0: to be found). False when the entry
 * is not in RAM or has changed since it was read.
 */
bool tables_use(struct tables *t, uint16_t owner, uint8_t format, const struct walk_step *step,
                uint32_t *node);
uint32_t tables_verify(const struct tables *t, gpa_t *first);
void tables_free_owner(struct tables *t, uint32_t *nodes);
/* Calls fn for each node of the page with gpa. */
void tables_each_node(struct tables *t, gpa_t gpa, void (*fn)(const struct dep_node *n, void *arg),
                      void *arg);
struct mmu_context *tables_context(const struct tables *t, uint16_t owner);
extern const struct entry_meaning entry_meanings[FORMAT_COUNT][ENTRY_KIND_COUNT];

#endif
