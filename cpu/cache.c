/*
 * cpu/cache.c -- the cache of translated blocks: lookup, entry, invalidation by writes, collection.
 *
 * Reads:  phys (pages, observers).   Writes: OBSERVE_CODE of pages.
 * Order:  a write is done first, then its blocks are dropped; a running block that is dropped finishes its
 *         instruction and leaves (interp.c looks at block->valid after each slow access).
 */
#include "cpu/cache.h"
#include "cpu/jit/jit.h"
#include "cpu/profile.h"

#include <stdlib.h>
#include <string.h>

static unsigned hash_of(gpa_t gpa, uint32_t key)
{
    uint64_t h = (gpa ^ (uint64_t)key << 32 ^ key) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - CACHE_HASH_BITS));
}

static uint32_t block_bytes(const struct block *b)
{
    const struct ir_insn *last = &b->insns[b->insn_count - 1];
    return last->offset + last->length - b->insns[0].offset;
}

static size_t block_size(uint32_t uops, uint32_t insns)
{
    return sizeof(struct block) + uops * sizeof(struct uop) + (insns + 1) * sizeof(struct ir_insn);
}

/* Does [offset, offset+length) of the page at `page` touch the bytes of b? */
static bool overlaps(const struct block *b, gpa_t page, uint32_t offset, uint32_t length)
{
    if (b->path) {
        for (unsigned i = 0; i < b->insn_count; i++)
            if (offset < b->insns[i].offset + (uint32_t)b->insns[i].length &&
                b->insns[i].offset < offset + length)
                return true;
        return false;
    }
    uint32_t start = (uint32_t)(b->gpa & PAGE_MASK), bytes = block_bytes(b);
    if ((b->gpa & ~PAGE_MASK) == page && offset < start + bytes && start < offset + length)
        return true;
    return b->gpa2 && (b->gpa2 & ~PAGE_MASK) == page && offset < start + bytes - PAGE_SIZE;
}

static struct block *page_next(struct block *b, gpa_t page)
{
    return (b->gpa & ~PAGE_MASK) == page ? b->page_next : b->page2_next;
}

static struct block **page_next_slot(struct block *b, gpa_t page)
{
    return (b->gpa & ~PAGE_MASK) == page ? &b->page_next : &b->page2_next;
}

static struct block **page_head(struct code_cache *c, gpa_t page)
{
    uint64_t off = phys_ram_offset(c->phys, page);
    return off == UINT64_MAX ? NULL : &c->pages[off >> PAGE_SHIFT];
}

static void page_unlink(struct code_cache *c, struct block *b, gpa_t page)
{
    struct block **at = page_head(c, page);
    if (!at)
        return;
    for (struct block **p = at; *p; p = page_next_slot(*p, page))
        if (*p == b) {
            *p = page_next(b, page);
            break;
        }
    for (struct block *o = *at; o; o = page_next(o, page))
        for (int i = 0; i < 2; i++)
            if (o->link[i] == b)
                o->link[i] = NULL;
    if (!*at)
        phys_unobserve(c->phys, page, OBSERVE_CODE);
}

void code_cache_drop(struct code_cache *c, struct block *b)
{
    if (!b->valid)
        return;
    b->valid = false;
    b->link[0] = b->link[1] = NULL;
    if (b->code)
        jit_drop(c->jit, b);
    for (struct block **p = &c->hash[hash_of(b->gpa, b->key)]; *p; p = &(*p)->hash_next)
        if (*p == b) {
            *p = b->hash_next;
            break;
        }
    page_unlink(c, b, b->gpa & ~PAGE_MASK);
    if (b->gpa2 && (b->gpa2 & ~PAGE_MASK) != (b->gpa & ~PAGE_MASK))
        page_unlink(c, b, b->gpa2 & ~PAGE_MASK);
    b->hash_next = c->dead;
    c->dead = b;
    c->stats.dropped++;
}

static void code_written(void *owner, gpa_t gpa, uint32_t length)
{
    struct code_cache *c = owner;
    c->stats.code_writes++;
    while (length) {
        uint32_t offset = (uint32_t)(gpa & PAGE_MASK), n = MIN(length, PAGE_SIZE - offset);
        gpa_t page = gpa & ~PAGE_MASK;
        struct block **head = page_head(c, page);
        struct block *next;
        for (struct block *b = head ? *head : NULL; b; b = next) {
            next = page_next(b, page);
            if (overlaps(b, page, offset, n))
                code_cache_drop(c, b);
        }
        gpa += n;
        length -= n;
    }
}

struct code_cache *code_cache_new(struct phys *phys, struct error *e)
{
    struct code_cache *c = calloc(1, sizeof(*c));
    if (c) {
        c->phys = phys;
        c->page_count = phys->ram_size >> PAGE_SHIFT;
        c->limit = 256u << 20;
        c->pages = calloc(c->page_count, sizeof(*c->pages));
        c->ir = calloc(1, sizeof(*c->ir));
    }
    if (!c || !c->pages || !c->ir) {
        code_cache_free(c);
        error_set(e, "not enough host memory for the block cache");
        return NULL;
    }
    phys_set_observer(phys, 0, code_written, c);
    return c;
}

static void free_dead(struct code_cache *c)
{
    while (c->dead) {
        struct block *b = c->dead;
        c->dead = b->hash_next;
        c->bytes -= block_size(b->uop_count, b->insn_count);
        free(b);
    }
    for (unsigned i = 0; i < PHYS_MMUS_MAX; i++)
        if (c->jumps[i])
            memset(c->jumps[i], 0, sizeof(struct jump_entry) << JUMP_BITS);
}

/* Everything goes, so lists are emptied as a whole: unlinking block by block would be quadratic in a full
 * page. */
static void drop_all(struct code_cache *c)
{
    for (unsigned i = 0; i < ARRAY_LEN(c->hash); i++) {
        struct block *next;
        for (struct block *b = c->hash[i]; b; b = next) {
            next = b->hash_next;
            gpa_t pages[2] = {b->gpa & ~PAGE_MASK, b->gpa2 & ~PAGE_MASK};
            for (unsigned k = 0; k < (b->gpa2 ? 2u : 1u); k++) {
                struct block **head = page_head(c, pages[k]);
                if (head && *head) {
                    *head = NULL;
                    phys_unobserve(c->phys, pages[k], OBSERVE_CODE);
                }
            }
            b->valid = false;
            b->hash_next = c->dead;
            c->dead = b;
        }
        c->hash[i] = NULL;
    }
}

void code_cache_clear(struct code_cache *c)
{
    drop_all(c);
    free_dead(c);
    if (c->jit)
        jit_flush(c->jit);
    c->stats.cleared++;
}

void code_cache_free(struct code_cache *c)
{
    if (!c)
        return;
    if (c->pages && c->ir) {
        drop_all(c);
        free_dead(c);
    }
    for (unsigned i = 0; i < PHYS_MMUS_MAX; i++)
        free(c->jumps[i]);
    jit_free(c->jit);
    profile_free(c->profile);
    free(c->pages);
    free(c->ir);
    free(c);
}

void code_cache_collect(struct code_cache *c)
{
    if (unlikely(c->bytes > c->limit))
        code_cache_clear(c);
    else if (c->dead && c->stats.dropped % 4096 == 0)
        free_dead(c);
}

struct block *code_cache_find(struct code_cache *c, gpa_t gpa, uint32_t key)
{
    for (struct block *b = c->hash[hash_of(gpa, key)]; b; b = b->hash_next)
        if (b->gpa == gpa && b->key == key)
            return b;
    return NULL;
}

struct block *code_cache_add(struct code_cache *c, gpa_t gpa, gpa_t gpa2, uint32_t key)
{
    const struct ir *ir = c->ir;
    size_t size = block_size(ir->uop_count, ir->insn_count);
    struct block *b = malloc(size);
    if (!b)
        return NULL;
    memset(b, 0, sizeof(*b));
    b->gpa = gpa;
    b->gpa2 = gpa2;
    b->key = key;
    b->insn_count = (uint16_t)ir->insn_count;
    b->uop_count = (uint16_t)ir->uop_count;
    b->valid = true;
    b->uops = (struct uop *)(b + 1);
    b->insns = (struct ir_insn *)(b->uops + b->uop_count);
    memcpy(b->uops, ir->uops, b->uop_count * sizeof(struct uop));
    memcpy(b->insns, ir->insns, (b->insn_count + 1u) * sizeof(struct ir_insn));
    b->insns[b->insn_count].first = b->uop_count;
    c->bytes += size;
    c->stats.translated++;

    unsigned h = hash_of(gpa, key);
    b->hash_next = c->hash[h];
    c->hash[h] = b;
    struct block **head = page_head(c, gpa & ~PAGE_MASK);
    if (head) {
        b->page_next = *head;
        *head = b;
        phys_observe(c->phys, gpa & ~PAGE_MASK, OBSERVE_CODE);
    }
    if (gpa2 && (gpa2 & ~PAGE_MASK) != (gpa & ~PAGE_MASK) && (head = page_head(c, gpa2 & ~PAGE_MASK))) {
        b->page2_next = *head;
        *head = b;
        phys_observe(c->phys, gpa2 & ~PAGE_MASK, OBSERVE_CODE);
    }
    return b;
}
