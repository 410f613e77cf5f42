/*
 * mmu/internal.h -- what the files of mmu/ share: paging rules, contexts, EPT spaces, the dependency store.
 *
 * Not for other folders. The pieces, and who owns them:
 *
 *   walk.c    struct walk_rules    what a mode means for a walk, computed once for each context
 *   context.c struct mmu_pool      the contexts of a processor and the caches that they share
 *   tlb.c     struct mmu_context   what a context holds: fills and drops
 *   ept.c     struct ept_space     cached EPT translations of one EPTP, shared by all processors
 *   tables.c  struct tables        which bytes of RAM made cached translations, one store a machine
 *
 * The caches behind the first-level tables are shared by their users and tagged with a number of 12 bits that
 * stands for the user: it takes a new number to forget all it has there. When the numbers run out, the cache
 * is cleared and they start anew.
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

#define EPT_R           BIT(0)
#define EPT_W           BIT(1)
#define EPT_X           BIT(2)  /* with mode-based execute control: of supervisor-mode linear addresses */
#define EPT_XU          BIT(10) /* with mode-based execute control: of user-mode linear addresses */
#define EPT_RWX         BITS(2, 0)
#define EPT_PS          BIT(7)
#define EPT_A           BIT(8)
#define EPT_D           BIT(9)
#define EPT_SUPPRESS_VE BIT(63)
#define EPTP_AD         BIT(6)

/* What an access needs or a page gives: EPT's own bits serve both dimensions. */
#define CAN_READ      1u
#define CAN_WRITE     2u
#define CAN_EXEC      4u
#define CAN_EXEC_USER 0x400u /* EPT_XU: only between walk.c and ept.c, with mode-based execute control */

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
    bool mbe;          /* mode-based execute control */
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
struct tables;

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
/*
 * Does the same where everything on the way is cached, no flag is to be set and nothing is denied: the common
 * miss. False, without any effect, where that is not so.
 */
bool walk_quick(struct mmu_context *c, gva_t linear, enum mmu_access access, struct walk_result *out);

/* -- EPT ---------------------------------------------------------------------------------------------------
 */

#define CACHE_ID_BITS 12 /* of a tag: whose entry it is; 0: nobody's, so a cache of zeros is empty */
#define CACHE_ID_MAX  (BIT(CACHE_ID_BITS) - 1)

#define EPT_SPACES      64
#define EPT_CACHE_COUNT 4096u /* pages that a 4 KB page of EPT maps */
#define EPT_LARGE_COUNT 1024u /* parts of 2 MB of larger pages */
#define EPT_WAYS_COUNT  1024u /* tables of level 1 */
#define EPT_LARGE_SHIFT 21

struct ept_cached {
    uint64_t tag;  /* guest-physical page << 12 | id; of a large page: its 2 MB part << 12 | id */
    uint64_t page; /* host-physical page (or part) | CAN_* | flags */
};
#define EPT_CACHED_DIRTY BIT(3)
#define EPT_CACHED_MISCONFIG                                                                                 \
    BIT(4) /* the entry of level 1 is a misconfiguration: hypervisors mark MMIO so                           \
            */

/* A cached way from the EPT pointer to a table of level 1. */
struct ept_way {
    uint64_t tag;     /* guest-physical address >> 21 << 12 | id */
    gpa_t table;      /* host-physical */
    uint8_t *host;    /* of the table */
    uint32_t node;    /* its dependency node for this space */
    uint16_t allowed; /* CAN_* of the entries above */
};

struct ept_space {
    struct ept_rules rules;
    bool used;
    bool pending; /* to be reset at the end of a write's handling */
    uint16_t index;
    uint16_t id;    /* in tags */
    uint32_t nodes; /* dependency nodes owned, 0 none */
    uint64_t stamp; /* last use */
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
void ept_rules_make(struct ept_rules *r, const struct mmu *m, uint64_t eptp, uint8_t maxphyaddr, bool mbe);
/* SDM 3C, "EPT Misconfigurations". */
bool ept_misconfigured(const struct ept_rules *r, uint64_t entry, unsigned level);
/* What is cached of the space, if it allows the access. */
bool ept_lookup(struct tables *t, const struct ept_space *s, gpa_t gpa, unsigned access,
                struct walk_result *out);
bool ept_translate(const struct ept_request *q, struct walk_result *out, struct mmu_fault *f);
/* The space of `rules`, made at need by recycling the one that was used least recently. */
struct ept_space *ept_space_find(struct phys *p, const struct ept_rules *rules);
/* Forgets all translations of the space and of every context that uses it. */
void ept_space_reset(struct phys *p, struct ept_space *s);
/* An entry that made cached translations has changed; [gpa, gpa + span) is what it covers. */
void ept_entry_changed(struct phys *p, struct ept_space *s, unsigned level, gpa_t gpa, uint64_t before);
/* Forgets what is cached of the space by way of a table that is no longer watched. */
void ept_forget_table(struct phys *p, struct ept_space *s, unsigned level, gpa_t base);
/* Counts cached translations that differ from a walk; *first is the first of all counted. */
void ept_space_verify(struct mmu *m, struct ept_space *s, gpa_t *first, uint32_t *differences);

/* -- Contexts ----------------------------------------------------------------------------------------------
 */

#define PSC_COUNT  1024u
#define PSC_SHIFT  21
#define TLB2_SETS  4096u
#define TLB2_WAYS  2u
#define EXEC_COUNT (1u << TLB_EXEC_BITS)

/* A cached way from the root to the table that holds the entry of a page. */
struct psc_entry {
    uint64_t tag; /* linear >> PSC_SHIFT << 12 | id of the context */
    gpa_t table;  /* after EPT */
    gpa_t table_guest;
    uint8_t *host; /* of the table */
    uint32_t node; /* its dependency node for this context */
    uint8_t level;
    uint8_t flags; /* US << 2 | RW << 1 | XD of the entries above */
};

/* Second level: what a walk gave, also where the tables of the first level may not have it. */
struct tlb2_entry {
    uint64_t tag;  /* linear page | id of the context */
    uint64_t page; /* guest-physical page after EPT | CAN_* | TLB2_DIRTY */
};
#define TLB2_DIRTY BIT(3)

/* Slots of a table that may hold an entry: all others are as they were made. */
struct slot_set {
    uint64_t groups;                  /* bit n: slots[n] is not 0 */
    uint64_t slots[TLB_ENTRIES / 64]; /* bit n of word m: slot 64 m + n */
};
_Static_assert(TLB_ENTRIES / 64 <= 64 && EXEC_COUNT <= TLB_ENTRIES,
               "the words of a slot_set fit its summary");

struct mmu_context {
    struct walk_rules rules;
    struct tlb *tlb;
    struct mmu *mmu;
    struct ept_rules ept_rules;
    struct ept_space *space;  /* NULL: none, or to be found again */
    uint64_t stamp;           /* last use */
    uint64_t hash;            /* of tlb->mode */
    uint32_t nodes;           /* dependency nodes owned, 0 none */
    uint16_t owner;           /* its name in dependency nodes */
    uint16_t tlb2_id, psc_id; /* in tags */
    uint16_t next;            /* in the chain of its hash: index + 1, 0 none */
    uint32_t serial;          /* counts the modes it has had */
    bool used;
    bool ept;
    bool exec_stale; /* an exec translation has gone while another context was current: generation is due */
    uint64_t exec_evicted[8]; /* by page & 511: pages that had an exec entry since the generation moved */
    struct slot_set read, write, exec;
};

#define RECENT_BITS  6
#define RECENT_WAYS  4u
#define CHAINS_COUNT 256u

/* A mode as cpu/ gave it lately, with its context. */
struct mmu_recent {
    struct mmu_mode mode;
    struct mmu_context *context;    /* NULL: slot free */
    struct mmu_context *system;     /* for implicit supervisor accesses; NULL: not looked up */
    uint32_t serial, system_serial; /* of the contexts when they were looked up */
    uint64_t id;                    /* no two modes had the same: entries change places */
};

struct mmu_pool {
    struct mmu_context contexts[MMU_CONTEXTS];
    struct mmu_recent recent[1u << RECENT_BITS][RECENT_WAYS]; /* by hash; each set newest first */
    struct mmu_recent *selected;                              /* what mmu->current was selected by */
    struct mmu_recent *previous;                              /* and what was selected before it, or NULL */
    uint64_t clock;
    uint64_t recent_next;          /* id for the next mode */
    uint64_t random;               /* picks candidates for recycling */
    uint32_t slot;                 /* index in phys->mmus */
    uint32_t made;                 /* contexts [0, made) have been initialised */
    uint32_t limit;                /* at most so many are made */
    uint16_t chains[CHAINS_COUNT]; /* contexts in use by hash: index + 1, 0 none */
    uint16_t tlb2_next, psc_next;  /* ids to be given out */
    uint32_t tlb2_mask, psc_mask;  /* sets in use - 1: fewer in tests */
    /* By slot of the write tables: bit n, context n may have an entry there. */
    uint64_t writers[TLB_ENTRIES][MMU_CONTEXTS / 64];
    struct psc_entry psc[PSC_COUNT];
    struct tlb2_entry tlb2[TLB2_SETS][TLB2_WAYS];
};

static inline struct mmu_pool *mmu_pool(const struct mmu *m)
{
    return m->walk_cache;
}

static inline struct mmu_context *context_current(const struct mmu *m)
{
    return &mmu_pool(m)->contexts[m->current->index];
}

static inline struct psc_entry *psc_slot(const struct mmu_context *c, gva_t linear)
{
    struct mmu_pool *pool = mmu_pool(c->mmu);
    return &pool->psc[((linear >> PSC_SHIFT) + c->psc_id * 97ull) & pool->psc_mask];
}

static inline uint64_t psc_tag(const struct mmu_context *c, gva_t linear)
{
    return linear >> PSC_SHIFT << CACHE_ID_BITS | c->psc_id;
}

static inline struct tlb2_entry *tlb2_set(const struct mmu_context *c, gva_t linear)
{
    struct mmu_pool *pool = mmu_pool(c->mmu);
    return pool->tlb2[((linear >> PAGE_SHIFT) + c->tlb2_id * 73ull) & pool->tlb2_mask];
}

static inline unsigned exec_index(gva_t linear)
{
    return (unsigned)(linear >> PAGE_SHIFT) & (EXEC_COUNT - 1);
}

static inline gpa_t host_to_gpa(const struct phys *p, const uint8_t *host)
{
    const uint64_t off = (uint64_t)(host - p->ram);
    return off < p->low_size ? off : off - p->low_size + BIT(32);
}

/* context.c */
/* The mode of implicit supervisor accesses in `mode`; whether it is no other. */
bool mode_system(const struct mmu_mode *mode, struct mmu_mode *system);
/* The context for implicit supervisor accesses in the selected mode. */
struct mmu_context *context_system(struct mmu *m);
/* Binds the context to the space of its EPT pointer, which may have been recycled since; NULL without EPT. */
struct ept_space *context_space(struct mmu_context *c);
/* Calls fn for each context in use of every MMU. */
void contexts_each(struct phys *p, void (*fn)(struct mmu_context *c, void *arg), void *arg);
/* New numbers, so that nothing in the second level or in the paging-structure cache is the context's. */
void context_forget_tlb2(struct mmu_context *c);
void context_forget_psc(struct mmu_context *c);
/* An exec translation of the context has gone. */
void context_exec_dropped(struct mmu_context *c);

/* tlb.c */
/* Makes the tables empty that a context has not used yet, which are zero. */
void context_make_tables(struct mmu_context *c);
/* Forgets the context's translations, dependencies and EPT space; the context itself stays. */
void context_reset(struct mmu_context *c);
/* Drops translations of [linear, linear + span), caches of tables included. */
void context_drop_range(struct mmu_context *c, gva_t linear, uint64_t span);
/* Drops translations that lead to [gpa, gpa + span), which is RAM or is not. */
void context_drop_target(struct mmu_context *c, gpa_t gpa, uint64_t span);
/* Forgets cached ways to a table that is no longer watched: at `level`, for addresses from base on. */
void context_forget_table(struct mmu_context *c, unsigned level, uint64_t base);

/* verify.c */
/* Whether a walk without any cache gives the same: page (after EPT), rights and dirty flag. */
bool verify_translation(struct mmu_context *c, gva_t linear, enum mmu_access access, gpa_t gpa);
/* Debug mode: stops the program when it does not. */
void verify_hit(struct mmu_context *c, gva_t linear, enum mmu_access access, gpa_t gpa);

/* -- Dependencies ------------------------------------------------------------------------------------------
 */

#define TABLES_RECORDS_MAX 16384u
#define TABLES_NODES_MAX   262144u
#define TABLES_HASH_COUNT  65536u
/* The most records and nodes one walk can take: 5 levels, each with an EPT walk of 5, and the final EPT walk.
 */
#define TABLES_WALK_MAX 40u

#define OWNER_SPACE 0x8000u /* | index of the EPT space; else slot of the MMU << 7 | index of the context */

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
    uint32_t hash_next;
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
    uint32_t record_max, node_max; /* bounds: lower in tests */
    uint32_t *hash;                /* nodes by record, owner, level and base: TABLES_HASH_COUNT chains */
    uint64_t drops;                /* counts everything dropped: a walk during which it moved is not cached */
    bool pending;                  /* a space waits for its reset */
    uint64_t clock;                /* of spaces */
    struct ept_space *spaces;      /* EPT_SPACES of them */
    uint16_t space_id_next;
    uint32_t ept_mask, ept_large_mask, ept_ways_mask; /* entries in use - 1: fewer in tests */
    struct ept_cached ept_cache[EPT_CACHE_COUNT];
    struct ept_cached ept_large[EPT_LARGE_COUNT];
    struct ept_way ept_ways[EPT_WAYS_COUNT];
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
/* The same for the entry of 8 bytes at `host`, word `word` of a table whose node is known, just read. */
static inline void tables_use_word(struct tables *t, uint32_t node, unsigned word, const uint8_t *host)
{
    struct table_record *r = t->records[t->nodes[node].record];
    const uint64_t bit = BIT(word & 63);
    if (r->used[word >> 6] & bit)
        return;
    r->used[word >> 6] |= bit;
    r->used_count++;
    r->shadow[word] = load_le(host, 8);
}
uint32_t tables_verify(const struct tables *t, gpa_t *first);
void tables_free_owner(struct tables *t, uint32_t *nodes);
/* Calls fn for each node of the page with gpa. */
void tables_each_node(struct tables *t, gpa_t gpa, void (*fn)(const struct dep_node *n, void *arg),
                      void *arg);
struct mmu_context *tables_context(const struct tables *t, uint16_t owner);
extern const struct entry_meaning entry_meanings[FORMAT_COUNT][ENTRY_KIND_COUNT];

#endif
