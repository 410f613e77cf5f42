/*
 * snapshots/state.c -- walks state descriptions: save, load, hash, and the check that no byte is forgotten.
 *
 * Reads and writes: any struct that has a description.   Not here: files (file.c), RAM.
 * Invariant: nothing depends on host byte order, host addresses or padding.
 * Tests: tests/unit/test_state.c
 */
#include "snapshots/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX  1024 /* of one description */
#define FIELD_HEAD  8    /* bytes before a field's content */
#define NESTED_HEAD 8    /* version and element count */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST_LITTLE true
#else
#define HOST_LITTLE false
#endif

/* --- Hash ------------------------------------------------------------------------------------------------
 */

/* Odd constants with about half of their bits set; any would do, but changing them changes every hash. */
static const uint64_t hash_key[5] = {
    0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu, 0xa0761d6478bd642fu, 0x8ebc6af09c88c6e3u, 0xd6e8feb86659fd93u,
};

/* Both halves of the product, folded: every input bit reaches every output bit. */
static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_word(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return HOST_LITTLE ? v : __builtin_bswap64(v);
}

/* The last 0 to 7 bytes, zero-extended; the length enters the hash elsewhere. */
static inline uint64_t hash_tail(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* A word that makes one factor zero would swallow the state, so the state also goes around the product. */
static inline uint64_t hash_step(uint64_t h, uint64_t a, uint64_t b, uint64_t key)
{
    return hash_fold(a ^ key, b ^ h) + (h << 23 | h >> 41);
}

uint64_t state_hash_bytes(const void *bytes, size_t n, uint64_t seed)
{
    const uint8_t *p = bytes;
    size_t left = n;
    uint64_t h = seed ^ hash_key[4];

    if (left >= 64) {
        /* Four independent chains keep the multiplier busy, so gigabytes of RAM run at memory speed. */
        uint64_t a = h ^ hash_key[0], b = h ^ hash_key[1], c = h ^ hash_key[2], d = h ^ hash_key[3];
        for (; left >= 64; left -= 64, p += 64) {
            a = hash_step(a, hash_word(p), hash_word(p + 8), hash_key[0]);
            b = hash_step(b, hash_word(p + 16), hash_word(p + 24), hash_key[1]);
            c = hash_step(c, hash_word(p + 32), hash_word(p + 40), hash_key[2]);
            d = hash_step(d, hash_word(p + 48), hash_word(p + 56), hash_key[3]);
        }
        h = hash_step(hash_step(h, a, b, hash_key[0]), c, d, hash_key[1]);
    }
    for (; left >= 16; left -= 16, p += 16)
        h = hash_step(h, hash_word(p), hash_word(p + 8), hash_key[2]);
    uint64_t last = 0;
    if (left >= 8) {
        last = hash_word(p);
        p += 8;
        left -= 8;
    }
    h = hash_step(h, last, hash_tail(p, left), hash_key[3]);
    return hash_fold(h ^ n, hash_key[0] ^ h >> 32);
}

static uint32_t name_hash(const char *name)
{
    uint32_t h = 0x811c9dc5;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x01000193;
    return h;
}

/* --- Fields ----------------------------------------------------------------------------------------------
 */

/* Elements of a field between host and little-endian order; the same operation both ways. */
static void copy_elements(uint8_t *to, const uint8_t *from, uint32_t size, uint32_t elem)
{
    if (HOST_LITTLE || elem == 1) {
        memcpy(to, from, size);
        return;
    }
    for (uint32_t i = 0; i < size; i += elem)
        for (uint32_t j = 0; j < elem; j++)
            to[i + j] = from[i + elem - 1 - j];
}

static void put32(struct state_writer *w, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    w->write(w->owner, b, 4);
}

static uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t saved_size(const struct state_desc *d);

static uint64_t field_saved_size(const struct state_field *f)
{
    if (f->kind != STATE_NESTED)
        return f->size;
    return NESTED_HEAD + (uint64_t)(f->size / f->sub->size) * (4 + saved_size(f->sub));
}

static uint64_t saved_size(const struct state_desc *d)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < d->field_count; i++)
        if (d->fields[i].kind != STATE_SKIPPED)
            size += FIELD_HEAD + field_saved_size(&d->fields[i]);
    return size;
}

/* --- Save ------------------------------------------------------------------------------------------------
 */

static void save_elements(const struct state_field *f, const uint8_t *p, struct state_writer *w)
{
    if (HOST_LITTLE) {
        w->write(w->owner, p, f->size);
        return;
    }
    uint8_t buffer[512];
    for (uint32_t done = 0; done < f->size;) {
        uint32_t n = MIN(f->size - done, (uint32_t)sizeof(buffer));
        copy_elements(buffer, p + done, n, f->elem);
        w->write(w->owner, buffer, n);
        done += n;
    }
}

void state_save(const struct state_desc *d, const void *s, struct state_writer *w)
{
    for (uint32_t i = 0; i < d->field_count; i++) {
        const struct state_field *f = &d->fields[i];
        const uint8_t *p = (const uint8_t *)s + f->offset;
        if (f->kind == STATE_SKIPPED)
            continue;
        put32(w, name_hash(f->name));
        put32(w, (uint32_t)field_saved_size(f));
        if (f->kind != STATE_NESTED) {
            save_elements(f, p, w);
            continue;
        }
        uint32_t count = f->size / f->sub->size;
        uint32_t size = (uint32_t)saved_size(f->sub);
        put32(w, f->sub->version);
        put32(w, count);
        for (uint32_t k = 0; k < count; k++) {
            put32(w, size);
            state_save(f->sub, p + (size_t)k * f->sub->size, w);
        }
    }
}

/* --- Load ------------------------------------------------------------------------------------------------
 */

/* `base` is the offset of p in the section, for messages. */
static bool load_struct(const struct state_desc *d, void *s, const uint8_t *p, size_t size, uint32_t version,
                        size_t base, struct error *e);

static bool load_nested(const struct state_desc *d, const struct state_field *f, uint8_t *s, const uint8_t *p,
                        uint32_t size, size_t base, struct error *e)
{
    if (size < NESTED_HEAD)
        return error_set(e, "%s.%s: cut short at offset %zu", d->name, f->name, base);
    uint32_t version = get32(p);
    uint32_t count = f->size / f->sub->size;
    if (get32(p + 4) != count)
        return error_set(e, "%s.%s: %" PRIu32 " elements instead of %" PRIu32 " at offset %zu", d->name,
                         f->name, get32(p + 4), count, base + 4);
    uint32_t at = NESTED_HEAD;
    for (uint32_t k = 0; k < count; k++) {
        if (size - at < 4)
            return error_set(e, "%s.%s: cut short at offset %zu", d->name, f->name, base + at);
        uint32_t n = get32(p + at);
        at += 4;
        if (n > size - at)
            return error_set(e, "%s.%s: element %" PRIu32 " runs past its field at offset %zu", d->name,
                             f->name, k, base + at - 4);
        if (!load_struct(f->sub, s + (size_t)k * f->sub->size, p + at, n, version, base + at, e))
            return false;
        at += n;
    }
    if (at != size)
        return error_set(e, "%s.%s: %" PRIu32 " bytes too many at offset %zu", d->name, f->name, size - at,
                         base + at);
    return true;
}

static bool load_field(const struct state_desc *d, const struct state_field *f, uint8_t *s, const uint8_t *p,
                       uint32_t size, size_t base, struct error *e)
{
    if (f->kind == STATE_NESTED)
        return load_nested(d, f, s + f->offset, p, size, base, e);
    if (size != f->size)
        return error_set(e, "%s.%s: %" PRIu32 " bytes instead of %" PRIu32 " at offset %zu", d->name, f->name,
                         size, f->size, base);
    /* A bool that is neither 0 nor 1 is undefined behaviour in C, so it may not get in. */
    if (f->kind == STATE_BOOL)
        for (uint32_t i = 0; i < size; i++)
            if (p[i] > 1)
                return error_set(e, "%s.%s: %u is not a truth value at offset %zu", d->name, f->name, p[i],
                                 base + i);
    copy_elements(s + f->offset, p, size, f->elem);
    return true;
}

/* Files have the fields in the order of the table, so the search starts where the last one ended. */
static uint32_t find_field(const struct state_desc *d, uint32_t hash, uint32_t start)
{
    for (uint32_t n = 0, i = start; n < d->field_count; n++, i++) {
        if (i >= d->field_count)
            i = 0;
        if (d->fields[i].kind != STATE_SKIPPED && name_hash(d->fields[i].name) == hash)
            return i;
    }
    return d->field_count;
}

static bool load_struct(const struct state_desc *d, void *s, const uint8_t *p, size_t size, uint32_t version,
                        size_t base, struct error *e)
{
    uint64_t seen[FIELDS_MAX / 64] = {0};
    uint32_t next = 0;
    size_t at = 0;

    if (version == 0 || version > d->version)
        return error_set(e, "%s: version %" PRIu32 " at offset %zu, this program knows 1 to %" PRIu32,
                         d->name, version, base, d->version);
    while (at < size) {
        if (size - at < FIELD_HEAD)
            return error_set(e, "%s: cut short at offset %zu", d->name, base + at);
        uint32_t hash = get32(p + at);
        uint32_t n = get32(p + at + 4);
        if (n > size - at - FIELD_HEAD)
            return error_set(e, "%s: field %08" PRIx32 " runs past the end at offset %zu", d->name, hash,
                             base + at);
        uint32_t i = find_field(d, hash, next);
        if (i < d->field_count) {
            if (seen[i / 64] & BIT(i % 64))
                return error_set(e, "%s.%s: appears twice, at offset %zu", d->name, d->fields[i].name,
                                 base + at);
            seen[i / 64] |= BIT(i % 64);
            if (!load_field(d, &d->fields[i], s, p + at + FIELD_HEAD, n, base + at + FIELD_HEAD, e))
                return false;
            next = i + 1;
        } else if (version == d->version) {
            return error_set(e, "%s: unknown field %08" PRIx32 " at offset %zu", d->name, hash, base + at);
        }
        at += FIELD_HEAD + n;
    }
    for (uint32_t i = 0; i < d->field_count; i++) {
        const struct state_field *f = &d->fields[i];
        if (f->kind != STATE_SKIPPED && f->since <= version && !(seen[i / 64] & BIT(i % 64)))
            return error_set(e, "%s.%s: missing before offset %zu", d->name, f->name, base + size);
    }
    return !d->after_load || d->after_load(s, e);
}

bool state_load(const struct state_desc *d, void *s, const uint8_t *p, size_t size, uint32_t version,
                struct error *e)
{
    return load_struct(d, s, p, size, version, 0, e);
}

/* --- Hash of a struct ------------------------------------------------------------------------------------
 */

static uint64_t hash_elements(const struct state_field *f, const uint8_t *p, uint64_t h)
{
    if (HOST_LITTLE || f->elem == 1)
        return state_hash_bytes(p, f->size, h);
    uint8_t *copy = malloc(f->size);
    require(copy, "no memory to hash %s", f->name);
    copy_elements(copy, p, f->size, f->elem);
    h = state_hash_bytes(copy, f->size, h);
    free(copy);
    return h;
}

uint64_t state_hash(const struct state_desc *d, const void *s, uint64_t seed)
{
    uint64_t h = seed;
    for (uint32_t i = 0; i < d->field_count; i++) {
        const struct state_field *f = &d->fields[i];
        const uint8_t *p = (const uint8_t *)s + f->offset;
        if (f->kind == STATE_SKIPPED)
            continue;
        if (f->kind != STATE_NESTED) {
            h = hash_elements(f, p, h);
            continue;
        }
        for (uint32_t k = 0; k < f->size / f->sub->size; k++)
            h = state_hash(f->sub, p + (size_t)k * f->sub->size, h);
    }
    return h;
}

/* --- Coverage --------------------------------------------------------------------------------------------
 */

static uint32_t desc_align(const struct state_desc *d);

static uint32_t field_align(const struct state_field *f)
{
    return f->kind == STATE_NESTED ? desc_align(f->sub) : f->elem;
}

static uint32_t desc_align(const struct state_desc *d)
{
    uint32_t align = 1;
    for (uint32_t i = 0; i < d->field_count; i++)
        align = MAX(align, field_align(&d->fields[i]));
    return align;
}

/* Alignment that may explain a hole which ends at `offset`. */
static uint32_t align_at(const struct state_desc *d, uint32_t offset)
{
    if (offset == d->size)
        return desc_align(d);
    uint32_t align = 1;
    for (uint32_t i = 0; i < d->field_count; i++)
        if (d->fields[i].offset == offset)
            align = MAX(align, field_align(&d->fields[i]));
    return align;
}

uint32_t state_coverage(const struct state_desc *d, struct state_gap *gaps, uint32_t max_gaps)
{
    uint8_t *covered = calloc(1, (size_t)d->size + 1);
    uint32_t bytes = 0, count = 0;
    require(covered, "no memory to check %s", d->name);

    for (uint32_t i = 0; i < d->field_count; i++)
        memset(covered + d->fields[i].offset, 1, d->fields[i].size);
    covered[d->size] = 1;
    for (uint32_t at = 0; at < d->size;) {
        if (covered[at]) {
            at++;
            continue;
        }
        uint32_t start = at;
        while (!covered[at])
            at++;
        if (at - start < align_at(d, at))
            continue;
        if (gaps && count < max_gaps)
            gaps[count] = (struct state_gap){start, at - start};
        count++;
        bytes += at - start;
    }
    free(covered);

    /* Gaps of nested structs are reported at their place in the first element. */
    for (uint32_t i = 0; i < d->field_count; i++) {
        const struct state_field *f = &d->fields[i];
        if (f->kind != STATE_NESTED)
            continue;
        uint32_t used = MIN(count, max_gaps);
        uint32_t found = state_coverage(f->sub, gaps ? gaps + used : NULL, max_gaps - used);
        bytes += found;
        if (gaps && found)
            for (; count < max_gaps && gaps[count].size; count++)
                gaps[count].offset += f->offset;
    }
    if (gaps && count < max_gaps)
        gaps[count] = (struct state_gap){0, 0};
    return bytes;
}

void state_check(const struct state_desc *d)
{
    require(d->field_count <= FIELDS_MAX, "%s has too many fields", d->name);
    require(d->version >= 1 && d->size > 0, "%s has no version or no size", d->name);
    require(saved_size(d) < UINT32_MAX, "%s is too large for one section", d->name);
    for (uint32_t i = 0; i < d->field_count; i++) {
        const struct state_field *f = &d->fields[i];
        require((uint64_t)f->offset + f->size <= d->size, "%s.%s is outside of its struct", d->name, f->name);
        require(f->since >= 1 && f->since <= d->version, "%s.%s: since a version to come", d->name, f->name);
        if (f->kind == STATE_NESTED) {
            require(f->size % f->sub->size == 0, "%s.%s is no array of %s", d->name, f->name, f->sub->name);
            state_check(f->sub);
        } else if (f->kind == STATE_SKIPPED) {
            require(f->reason && *f->reason, "%s.%s is skipped without a reason", d->name, f->name);
        } else {
            require(f->elem && f->size % f->elem == 0, "%s.%s has odd elements", d->name, f->name);
        }
        for (uint32_t k = 0; k < i; k++)
            require(name_hash(d->fields[k].name) != name_hash(f->name), "%s.%s and .%s have one hash",
                    d->name, f->name, d->fields[k].name);
    }
}

/* --- The list of a machine --------------------------------------------------------------------------------
 */

void state_register(struct state_list *l, const char *name, const struct state_desc *d, void *ptr)
{
    require(l->count < STATE_ITEMS_MAX, "no room for %s", name);
    require(strlen(name) < sizeof(l->items[0].name), "the name %s is too long", name);
    for (uint32_t i = 0; i < l->count; i++)
        require(strcmp(l->items[i].name, name) != 0, "%s is registered twice", name);
    state_check(d);
    struct state_item *item = &l->items[l->count++];
    memset(item->name, 0, sizeof(item->name));
    snprintf(item->name, sizeof(item->name), "%s", name);
    item->desc = d;
    item->ptr = ptr;
}

void state_unregister(struct state_list *l, const void *ptr)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->count; i++)
        if (l->items[i].ptr != ptr)
            l->items[kept++] = l->items[i];
    l->count = kept;
}

uint64_t state_list_hash(const struct state_list *l, uint64_t seed)
{
    uint64_t h = seed;
    for (uint32_t i = 0; i < l->count; i++) {
        h = state_hash_bytes(l->items[i].name, strlen(l->items[i].name), h);
        h = state_hash(l->items[i].desc, l->items[i].ptr, h);
    }
    return h;
}

/* --- Descriptions of base/'s structs ----------------------------------------------------------------------
 */

static const struct state_field timer_fields[] = {
    STATE(struct timer, deadline),
    STATE_SKIP(struct timer, id, "order of registration"),
    STATE_SKIP(struct timer, heap_index, "made again by clock_rebuild"),
    STATE_SKIP(struct timer, fn, "wiring"),
    STATE_SKIP(struct timer, owner, "wiring"),
    STATE_SKIP(struct timer, name, "wiring"),
};
const struct state_desc timer_state = STATE_DESC("timer", struct timer, 1, timer_fields, NULL);

static const struct state_field clock_fields[] = {
    STATE(struct clock, now),
    STATE_SKIP(struct clock, next, "made again by clock_rebuild"),
    STATE_SKIP(struct clock, timer_count, "wiring"),
    STATE_SKIP(struct clock, heap_count, "made again by clock_rebuild"),
    STATE_SKIP(struct clock, timers, "wiring"),
    STATE_SKIP(struct clock, heap, "made again by clock_rebuild"),
};
const struct state_desc clock_state = STATE_DESC("clock", struct clock, 1, clock_fields, NULL);
