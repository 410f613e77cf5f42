/*
 * cpu/profile.c -- the table of --profile: rows by address and mode.
 *
 * Rows never move, because translated code counts in them.
 */
#include "cpu/profile.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_SIZE (2 * PROFILE_ROWS_MAX)

struct profile {
    struct profile_row *rows; /* PROFILE_ROWS_MAX, touched as they are used */
    uint32_t *index;          /* INDEX_SIZE numbers of rows, by hash of address and key; 0: free */
    uint32_t count;
};

struct profile *profile_new(struct error *e)
{
    struct profile *p = calloc(1, sizeof(*p));
    if (p) {
        p->rows = calloc(PROFILE_ROWS_MAX, sizeof(*p->rows));
        p->index = calloc(INDEX_SIZE, sizeof(*p->index));
        p->count = 1;
    }
    if (!p || !p->rows || !p->index) {
        profile_free(p);
        error_set(e, "--profile: not enough host memory");
        return NULL;
    }
    return p;
}

void profile_free(struct profile *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; p->rows && i < p->count; i++)
        free(p->rows[i].bytes);
    free(p->rows);
    free(p->index);
    free(p);
}

static struct profile_row *find(struct profile *p, gpa_t gpa, uint32_t key)
{
    uint64_t hash = (gpa ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15ull;
    uint32_t at = (uint32_t)(hash >> 40) & (INDEX_SIZE - 1);
    for (; p->index[at]; at = (at + 1) & (INDEX_SIZE - 1)) {
        struct profile_row *r = &p->rows[p->index[at]];
        if (r->gpa == gpa && r->key == key)
            return r;
    }
    if (p->count == PROFILE_ROWS_MAX)
        return &p->rows[0];
    p->index[at] = p->count;
    struct profile_row *r = &p->rows[p->count++];
    r->gpa = gpa;
    r->key = key;
    return r;
}

/* The block's code, for the disassembly: it may be gone when the profile is written. */
static void keep_bytes(struct profile_row *r, const struct phys *phys, const struct block *b)
{
    const struct ir_insn *last = &b->insns[b->insn_count - 1];
    unsigned n = last->offset + last->length - b->insns[0].offset;
    unsigned first = MIN(n, (unsigned)(PAGE_SIZE - (b->gpa & PAGE_MASK)));
    const uint8_t *p = phys_ram(phys, b->gpa, first);
    const uint8_t *q = first < n ? phys_ram(phys, b->gpa2 & ~PAGE_MASK, n - first) : p;
    uint8_t *bytes = p && q ? realloc(r->bytes, n) : NULL;
    if (!bytes)
        return;
    memcpy(bytes, p, first);
    if (first < n)
        memcpy(bytes + first, q, n - first);
    r->bytes = bytes;
    r->length = (uint16_t)n;
}

struct profile_row *profile_row(struct profile *p, const struct phys *phys, gva_t linear,
                                const struct block *b)
{
    struct profile_row *r = find(p, b->gpa, b->key & ~(uint32_t)KEY_SINGLE);
    if (r == &p->rows[0])
        return r;
    if (!r->insn_count)
        r->linear = linear;
    if (!(b->key & KEY_SINGLE) || !r->insn_count) {
        r->insn_count = b->insn_count;
        keep_bytes(r, phys, b);
    }
    return r;
}

const struct profile_row *profile_rows(const struct profile *p, uint32_t *count)
{
    *count = p->count;
    return p->rows;
}
