/*
 * mmu/tables.c -- which bytes of RAM made cached translations, and what a write to them drops.
 *
 * Reads:  RAM of observed table pages.   Writes: the dependency store, OBSERVE_TABLES of pages.
 * Invariants: a word in use equals its copy (`shadow`), except between a write and mmu_tables_written();
 * whatever is cached from a word has a node on the page, and the word is in use; a page without words in use
 * has no record and is not observed. Bounds: TABLES_RECORDS_MAX pages and TABLES_NODES_MAX nodes; when they
 * are full, all translations are dropped. Tests:  tests/unit/test_mmu_tlb.c
 */
#include <stdlib.h>
#include <string.h>

#include "mmu/internal.h"

#define RECORDS_BATCH 64u

/* Physical address and attributes that have no `better` value: any change drops. PWT, PCD, PAT, G, the
 * available bits and bits 58:52 mean nothing to a translation. */
const struct entry_meaning entry_meanings[FORMAT_COUNT][ENTRY_KIND_COUNT] =
    {
        [FORMAT_32] =
            {
                [ENTRY_TABLE] = {BITS(31, 12) | PTE_PS | PTE_US, PTE_P | PTE_RW | PTE_A, 0},
                [ENTRY_PAGE] = {BITS(31, 12) | PTE_US, PTE_P | PTE_RW | PTE_A | PTE_D, 0},
                [ENTRY_LARGE] = {BITS(31, 13) | PTE_PS | PTE_US, PTE_P | PTE_RW | PTE_A | PTE_D, 0},
            },
        /* Bits 62:59 are a protection key, or reserved, or ignored: they hardly ever change alone. */
        [FORMAT_64] =
            {
                [ENTRY_TABLE] = {PTE_ADDR | PTE_PS | PTE_US, PTE_P | PTE_RW | PTE_A, PTE_XD},
                [ENTRY_PAGE] = {PTE_ADDR | PTE_US | BITS(62, 59), PTE_P | PTE_RW | PTE_A | PTE_D, PTE_XD},
                [ENTRY_LARGE] = {BITS(51, 13) | PTE_PS | PTE_US | BITS(62, 59),
                                 PTE_P | PTE_RW | PTE_A | PTE_D, PTE_XD},
            },
        /* Memory types count because some are misconfigurations. A and D do when the flags are enabled (see
         * node_dropped). */
        [FORMAT_EPT] =
            {
                [ENTRY_TABLE] = {PTE_ADDR | BITS(7, 3), EPT_RWX, 0},
                [ENTRY_PAGE] = {PTE_ADDR | BITS(5, 3), EPT_RWX, 0},
                [ENTRY_LARGE] = {PTE_ADDR | EPT_PS | BITS(5, 3), EPT_RWX, 0},
            },
};

/* -- Store -------------------------------------------------------------------------------------------------
 */

bool tables_init(struct phys *p, struct error *e)
{
    if (p->tables)
        return true;
    struct tables *t = calloc(1, sizeof *t);
    if (t) {
        t->spaces = calloc(EPT_SPACES, sizeof t->spaces[0]);
        t->records = calloc(TABLES_RECORDS_MAX, sizeof t->records[0]);
        t->hash = calloc(TABLES_HASH_COUNT, sizeof t->hash[0]);
    }
    if (!t || !t->spaces || !t->records || !t->hash) {
        if (t) {
            free(t->spaces);
            free(t->records);
            free(t->hash);
        }
        free(t);
        return error_set(e, "no memory for the translation caches");
    }
    t->phys = p;
    t->record_count = t->node_count = 1; /* 0 means none */
    t->record_max = TABLES_RECORDS_MAX;
    t->node_max = TABLES_NODES_MAX;
    t->space_id_next = 1;
    t->ept_mask = EPT_CACHE_COUNT - 1;
    t->ept_large_mask = EPT_LARGE_COUNT - 1;
    t->ept_ways_mask = EPT_WAYS_COUNT - 1;
    p->tables = t;
    return true;
}

void tables_free(struct phys *p)
{
    struct tables *t = phys_tables(p);
    if (!t)
        return;
    for (uint32_t i = 1; i < t->record_count; i++)
        free(t->records[i]);
    free(t->records);
    free(t->nodes);
    free(t->hash);
    free(t->spaces);
    free(t);
    p->tables = NULL;
}

static bool tables_grow_records(struct tables *t)
{
    for (unsigned i = 0; i < RECORDS_BATCH; i++) {
        if (t->record_count >= t->record_max)
            return false;
        struct table_record *r = calloc(1, sizeof *r);
        if (!r)
            return false;
        r->next_free = t->record_free;
        t->records[t->record_count] = r;
        t->record_free = t->record_count++;
        t->record_free_count++;
    }
    return true;
}

static bool tables_grow_nodes(struct tables *t)
{
    const uint32_t capacity = t->node_capacity ? t->node_capacity * 2 : 1024;
    if (capacity > t->node_max)
        return false;
    struct dep_node *nodes = realloc(t->nodes, capacity * sizeof nodes[0]);
    if (!nodes)
        return false;
    t->nodes = nodes;
    t->node_capacity = capacity;
    for (; t->node_count < capacity; t->node_count++) {
        nodes[t->node_count] = (struct dep_node){.page_next = t->node_free};
        t->node_free = t->node_count;
        t->node_free_count++;
    }
    return true;
}

static void context_reset_any(struct mmu_context *c, void *arg)
{
    (void)arg;
    context_reset(c);
}

static void tables_reset(struct tables *t)
{
    contexts_each(t->phys, context_reset_any, NULL);
    for (unsigned i = 0; i < EPT_SPACES; i++) {
        if (t->spaces[i].used)
            ept_space_reset(t->phys, &t->spaces[i]);
    }
}

bool tables_reserve(struct tables *t)
{
    if (likely(t->record_free_count >= TABLES_WALK_MAX && t->node_free_count >= TABLES_WALK_MAX))
        return true;
    if ((t->record_free_count >= TABLES_WALK_MAX || tables_grow_records(t)) &&
        (t->node_free_count >= TABLES_WALK_MAX || tables_grow_nodes(t)))
        return true;
    tables_reset(t);
    return t->record_free_count >= TABLES_WALK_MAX && t->node_free_count >= TABLES_WALK_MAX;
}

/* -- Owners ------------------------------------------------------------------------------------------------
 */

struct mmu_context *tables_context(const struct tables *t, uint16_t owner)
{
    return &mmu_pool(t->phys->mmus[owner >> 7])->contexts[owner & 127];
}

static uint32_t *owner_nodes(struct tables *t, uint16_t owner)
{
    if (owner & OWNER_SPACE)
        return &t->spaces[owner & ~OWNER_SPACE].nodes;
    return &tables_context(t, owner)->nodes;
}

/* -- Nodes and records -------------------------------------------------------------------------------------
 */

static void record_free(struct tables *t, uint32_t index)
{
    struct table_record *r = t->records[index];
    struct phys_page *page = phys_page(t->phys, r->gpa);
    page->deps = 0;
    phys_unobserve(t->phys, r->gpa, OBSERVE_TABLES);
    memset(r->used, 0, sizeof r->used);
    r->used_count = 0;
    r->next_free = t->record_free;
    t->record_free = index;
    t->record_free_count++;
}

/* The record of the page with gpa, which is RAM; made at need. 0 when the store is full. */
static uint32_t record_of(struct tables *t, gpa_t gpa)
{
    struct phys_page *page = phys_page(t->phys, gpa);
    if (page->deps)
        return page->deps;
    const uint32_t index = t->record_free;
    if (!index)
        return 0;
    struct table_record *r = t->records[index];
    t->record_free = r->next_free;
    t->record_free_count--;
    r->nodes = 0;
    r->gpa = gpa & ~PAGE_MASK;
    page->deps = index;
    phys_observe(t->phys, gpa, OBSERVE_TABLES);
    return index;
}

static uint32_t *hash_chain(struct tables *t, uint32_t record, uint16_t owner, uint8_t level, uint64_t base)
{
    const uint64_t x = (base ^ (uint64_t)owner << 40 ^ (uint64_t)record << 8 ^ level) * 0x9e3779b97f4a7c15ull;
    return &t->hash[(x ^ x >> 32) % TABLES_HASH_COUNT];
}

static void node_unlink_hash(struct tables *t, uint32_t index)
{
    const struct dep_node *n = &t->nodes[index];
    uint32_t *at = hash_chain(t, n->record, n->owner, n->level, n->base);
    while (*at != index)
        at = &t->nodes[*at].hash_next;
    *at = n->hash_next;
}

static void node_unlink_page(struct tables *t, const struct dep_node *n)
{
    if (n->page_prev)
        t->nodes[n->page_prev].page_next = n->page_next;
    else
        t->records[n->record]->nodes = n->page_next;
    if (n->page_next)
        t->nodes[n->page_next].page_prev = n->page_prev;
}

static void node_release(struct tables *t, uint32_t index)
{
    node_unlink_hash(t, index);
    t->nodes[index] = (struct dep_node){.page_next = t->node_free};
    t->node_free = index;
    t->node_free_count++;
}

/* Frees a node on behalf of its page: its owner forgets it. */
static void node_free(struct tables *t, uint32_t index)
{
    const struct dep_node *n = &t->nodes[index];
    uint32_t *head = owner_nodes(t, n->owner);
    if (n->owner_prev)
        t->nodes[n->owner_prev].owner_next = n->owner_next;
    else
        *head = n->owner_next;
    if (n->owner_next)
        t->nodes[n->owner_next].owner_prev = n->owner_prev;
    if (n->owner & OWNER_SPACE)
        ept_forget_table(t->phys, &t->spaces[n->owner & ~OWNER_SPACE], n->level, n->base);
    else
        context_forget_table(tables_context(t, n->owner), n->level, n->base);
    node_unlink_page(t, n);
    node_release(t, index);
}

void tables_free_owner(struct tables *t, uint32_t *nodes)
{
    for (uint32_t index = *nodes, next; index; index = next) {
        const struct dep_node *n = &t->nodes[index];
        const uint32_t record = n->record;
        next = n->owner_next;
        node_unlink_page(t, n);
        node_release(t, index);
        if (!t->records[record]->nodes)
            record_free(t, record);
    }
    *nodes = 0;
}

static uint32_t node_make(struct tables *t, uint32_t record, uint16_t owner, uint8_t format,
                          const struct walk_step *step)
{
    struct table_record *r = t->records[record];
    uint32_t *chain = hash_chain(t, record, owner, step->level, step->base);
    for (uint32_t i = *chain; i; i = t->nodes[i].hash_next) {
        const struct dep_node *n = &t->nodes[i];
        if (n->record == record && n->base == step->base && n->owner == owner && n->level == step->level)
            return i;
    }
    const uint32_t index = t->node_free;
    if (!index)
        return 0;
    uint32_t *head = owner_nodes(t, owner);
    t->node_free = t->nodes[index].page_next;
    t->node_free_count--;
    t->nodes[index] = (struct dep_node){
        .base = step->base,
        .record = record,
        .page_next = r->nodes,
        .owner_next = *head,
        .hash_next = *chain,
        .owner = owner,
        .level = step->level,
        .format = format,
    };
    if (r->nodes)
        t->nodes[r->nodes].page_prev = index;
    if (*head)
        t->nodes[*head].owner_prev = index;
    r->nodes = *head = *chain = index;
    return index;
}

bool tables_use(struct tables *t, uint16_t owner, uint8_t format, const struct walk_step *step,
                uint32_t *node)
{
    const unsigned size = format == FORMAT_32 ? 4 : 8;
    if (!step->host || load_le(step->host, size) != step->value)
        return false;
    if (!*node) {
        const uint32_t record = record_of(t, step->at);
        if (!record)
            return false;
        *node = node_make(t, record, owner, format, step);
        if (!*node) {
            if (!t->records[record]->nodes)
                record_free(t, record);
            return false;
        }
    }
    tables_use_word(t, *node, (step->at & PAGE_MASK) / 8, step->host - (step->at & 7));
    return true;
}

void tables_each_node(struct tables *t, gpa_t gpa, void (*fn)(const struct dep_node *n, void *arg), void *arg)
{
    const struct phys_page *page = phys_page(t->phys, gpa);
    if (!page || !page->deps)
        return;
    for (uint32_t i = t->records[page->deps]->nodes; i; i = t->nodes[i].page_next)
        fn(&t->nodes[i], arg);
}

/* -- Writes ------------------------------------------------------------------------------------------------
 */

/* Number of words in use that differ from their copies: somebody wrote RAM and told nobody. */
uint32_t tables_verify(const struct tables *t, gpa_t *first)
{
    uint32_t differences = 0;
    for (uint32_t i = 1; i < t->record_count; i++) {
        const struct table_record *r = t->records[i];
        for (unsigned word = 0; r->used_count && word < 512; word++) {
            const gpa_t at = r->gpa + word * 8;
            if (!(r->used[word >> 6] >> (word & 63) & 1) || phys_load(t->phys, at, 8) == r->shadow[word])
                continue;
            if (differences++ == 0)
                *first = at;
        }
    }
    return differences;
}

static enum entry_kind entry_kind(const struct tables *t, const struct dep_node *n, uint64_t entry)
{
    if (n->level == 1)
        return ENTRY_PAGE;
    if (!(entry & PTE_PS))
        return ENTRY_TABLE;
    if (n->owner & OWNER_SPACE)
        return n->level <= 3 ? ENTRY_LARGE : ENTRY_TABLE;
    return tables_context(t, n->owner)->rules.large_levels >> n->level & 1 ? ENTRY_LARGE : ENTRY_TABLE;
}

static bool entry_present(const struct dep_node *n, uint64_t entry)
{
    return entry & (n->format == FORMAT_EPT ? EPT_RWX | EPT_XU : PTE_P);
}

static bool node_dropped(const struct tables *t, const struct dep_node *n, uint64_t before, uint64_t after)
{
    const enum entry_kind kind = entry_kind(t, n, before);
    const struct entry_meaning *m = &entry_meanings[n->format][kind];
    uint64_t lost = m->lost, both = m->both;
    if (n->format == FORMAT_EPT) {
        const struct ept_rules *rules = &t->spaces[n->owner & ~OWNER_SPACE].rules;
        /* That it was wrong may be cached, and any bit may have mended it. */
        if (ept_misconfigured(rules, before, n->level))
            return true;
        if (rules->ad)
            lost |= kind == ENTRY_TABLE ? EPT_A : EPT_A | EPT_D;
        if (rules->mbe)
            lost |= EPT_XU;
    } else {
        both |= tables_context(t, n->owner)->rules.reserved[n->level][kind != ENTRY_TABLE];
    }
    return ((before ^ after) & both) || (before & ~after & lost) || (~before & after & m->won);
}

/* Entry `index` of the node's table has changed. Returns whether anything may still be cached from it. */
static bool node_entry_written(struct tables *t, const struct dep_node *n, unsigned index, uint64_t before,
                               uint64_t after)
{
    if (!entry_present(n, before))
        return false; /* never cached */
    if (!node_dropped(t, n, before, after))
        return true;
    if (n->owner & OWNER_SPACE) {
        const uint64_t span = BIT(PAGE_SHIFT + 9 * (n->level - 1));
        ept_entry_changed(t->phys, &t->spaces[n->owner & ~OWNER_SPACE], n->level, n->base + index * span,
                          before);
        return false;
    }
    struct mmu_context *c = tables_context(t, n->owner);
    const struct paging_mode *p = c->rules.paging;
    const uint64_t linear = n->base + (uint64_t)index * entry_span(p, n->level);
    t->drops++;
    context_drop_range(c, linear_extend(p, linear), entry_span(p, n->level));
    return false;
}

static bool node_word_written(struct tables *t, const struct dep_node *n, unsigned word, uint64_t before,
                              uint64_t after)
{
    if (n->format != FORMAT_32)
        return node_entry_written(t, n, word, before, after);
    bool live = false;
    for (unsigned half = 0; half < 2; half++) {
        const uint64_t old = before >> (half * 32) & 0xffffffff, new = after >> (half * 32) & 0xffffffff;
        live |= node_entry_written(t, n, word * 2 + half, old, new);
    }
    return live;
}

static void record_word_written(struct tables *t, struct table_record *r, unsigned word, uint64_t after)
{
    const uint64_t bit = BIT(word & 63), before = r->shadow[word];
    if (before == after)
        return;
    r->shadow[word] = after;
    bool live = false;
    for (uint32_t i = r->nodes; i; i = t->nodes[i].page_next)
        live |= node_word_written(t, &t->nodes[i], word, before, after);
    if (!live) {
        r->used[word >> 6] &= ~bit;
        r->used_count--;
    }
}

void mmu_tables_written(struct phys *p, gpa_t gpa, uint32_t length)
{
    struct tables *t = phys_tables(p);
    struct phys_page *page = phys_page(p, gpa);
    if (!page || !length)
        return;
    const uint32_t index = t ? page->deps : 0;
    if (!index) {
        phys_unobserve(p, gpa, OBSERVE_TABLES);
        return;
    }
    struct table_record *r = t->records[index];
    const uint8_t *host = phys_page_host(p, gpa);
    const unsigned first = (gpa & PAGE_MASK) / 8;
    const unsigned last = (unsigned)MIN(((gpa & PAGE_MASK) + length - 1) / 8, 511);
    for (unsigned i = first / 64; i <= last / 64; i++) {
        uint64_t left = r->used[i];
        if (i == first / 64)
            left &= ~0ull << (first % 64);
        if (i == last / 64)
            left &= ~0ull >> (63 - last % 64);
        for (; left; left &= left - 1) {
            const unsigned word = i * 64 + (unsigned)__builtin_ctzll(left);
            record_word_written(t, r, word, load_le(host + word * 8, 8));
        }
    }
    if (!r->used_count) {
        /* Nothing left to protect. The last node to go takes no record with it here, so free it by hand. */
        while (r->nodes)
            node_free(t, r->nodes);
        record_free(t, index);
    }
    if (t->pending) {
        t->pending = false;
        for (unsigned i = 0; i < EPT_SPACES; i++) {
            if (t->spaces[i].pending)
                ept_space_reset(p, &t->spaces[i]);
        }
    }
}
