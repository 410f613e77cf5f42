/*
 * snapshots/file.c -- writes and reads snapshot files; the format is drawn in file.h.
 *
 * Reads:  state list, RAM.   Writes: the same when loading, and the file.
 * Order:  a record's header is checked by its own hash before any number in it is used, its content by a hash
 *         after decompression, the sequence of records by the trailer.
 * Watch:  the file is hostile. Every size is bounded before it is used, and memory for compressed data grows
 * with what was really read. Tests:  tests/unit/test_snapshot.c, tests/fuzz/fuzz_snapshot.c
 */
#include "snapshots/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define FORMAT_VERSION 1
#define HEADER_SIZE    48
#define SECTION_SIZE   104
#define CHUNK_SIZE     48
#define TRAILER_SIZE   16
#define CHUNK_BYTES    ((size_t)SNAPSHOT_CHUNK_PAGES * PAGE_SIZE)
#define NAME_SIZE      32
#define READ_STEP      ((size_t)1 << 20)
#define ZSTD_LEVEL     1 /* RAM compresses about as well as on higher levels, several times faster */

static const uint8_t header_magic[8] = {0x89, 'D', 'R', 'O', 'S', 'T', 'E', '\n'};

/* Byte order of the file, whatever the host's. */
static void put(uint8_t *p, uint64_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static bool page_is_zero(const uint8_t *p)
{
    static const uint8_t zero[64];
    return !memcmp(p, zero, sizeof(zero)) && !memcmp(p, p + sizeof(zero), PAGE_SIZE - sizeof(zero));
}

/* A growing buffer. */
struct buffer {
    uint8_t *data;
    size_t size, room;
    bool failed; /* out of memory */
};

static bool buffer_reserve(struct buffer *b, size_t room)
{
    if (room <= b->room)
        return true;
    uint8_t *data = realloc(b->data, room);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->room = room;
    return true;
}

static void buffer_write(void *owner, const void *p, size_t n)
{
    struct buffer *b = owner;
    if (b->failed)
        return;
    if (b->size + n > b->room && !buffer_reserve(b, MAX(2 * b->room, b->size + n + 4096)))
        return;
    memcpy(b->data + b->size, p, n);
    b->size += n;
}

/* --- Writing ---------------------------------------------------------------------------------------------
 */

struct writer {
    FILE *f;
    const char *name;
    ZSTD_CCtx *zstd;
    struct buffer raw, packed;
    uint64_t chain; /* of the hashes of all records so far */
};

static bool write_all(struct writer *w, const void *p, size_t n, struct error *e)
{
    if (n && fwrite(p, 1, n, w->f) != n)
        return error_set(e, "%s: cannot write: %s", w->name, strerror(errno));
    return true;
}

static bool pack(struct writer *w, const uint8_t *p, size_t n, struct error *e)
{
    if (!buffer_reserve(&w->packed, ZSTD_compressBound(n)))
        return error_set(e, "%s: no memory to compress %zu bytes", w->name, n);
    size_t size = ZSTD_compressCCtx(w->zstd, w->packed.data, w->packed.room, p, n, ZSTD_LEVEL);
    if (ZSTD_isError(size))
        return error_set(e, "%s: cannot compress: %s", w->name, ZSTD_getErrorName(size));
    w->packed.size = size;
    return true;
}

/* Puts the hash of a record's head into its last 8 bytes and into the chain. */
static void seal(struct writer *w, uint8_t *head, size_t size)
{
    uint64_t hash = state_hash_bytes(head, size - 8, 0);
    put(head + size - 8, hash, 8);
    w->chain = state_hash_bytes(head + size - 8, 8, w->chain);
}

static bool write_header(struct writer *w, const struct state_list *l, const char *config, uint64_t ram_size,
                         uint64_t chunk_count, struct error *e)
{
    uint8_t head[HEADER_SIZE] = {0};
    size_t n = strlen(config);
    if (n >= SNAPSHOT_CONFIG_MAX)
        return error_set(e, "%s: the machine configuration is too long (%zu bytes)", w->name, n);
    memcpy(head, header_magic, 8);
    put(head + 8, FORMAT_VERSION, 4);
    put(head + 12, l->count, 4);
    put(head + 16, n, 4);
    put(head + 24, ram_size, 8);
    put(head + 32, chunk_count, 8);
    put(head + 40, state_hash_bytes(config, n, state_hash_bytes(head, 40, 0)), 8);
    w->chain = state_hash_bytes(head + 40, 8, 0);
    return write_all(w, head, sizeof(head), e) && write_all(w, config, n, e);
}

static bool write_section(struct writer *w, const struct state_item *item, struct error *e)
{
    uint8_t head[SECTION_SIZE] = {0};
    struct state_writer sink = {&w->raw, buffer_write};

    w->raw.size = 0;
    state_save(item->desc, item->ptr, &sink);
    if (w->raw.failed)
        return error_set(e, "%s: no memory for section %s", w->name, item->name);
    if (w->raw.size > SNAPSHOT_SECTION_MAX)
        return error_set(e, "%s: section %s is too large (%zu bytes)", w->name, item->name, w->raw.size);
    if (!pack(w, w->raw.data, w->raw.size, e))
        return false;
    memcpy(head, "SECT", 4);
    put(head + 4, item->desc->version, 4);
    snprintf((char *)head + 8, NAME_SIZE, "%s", item->name);
    snprintf((char *)head + 40, NAME_SIZE, "%s", item->desc->name);
    put(head + 72, w->raw.size, 8);
    put(head + 80, w->packed.size, 8);
    put(head + 88, state_hash_bytes(w->raw.data, w->raw.size, 0), 8);
    seal(w, head, sizeof(head));
    return write_all(w, head, sizeof(head), e) && write_all(w, w->packed.data, w->packed.size, e);
}

/* Mask of the pages of a chunk that are not zero. */
static uint64_t chunk_mask(const uint8_t *ram, uint64_t ram_size, uint64_t chunk)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < SNAPSHOT_CHUNK_PAGES; i++) {
        uint64_t at = chunk * CHUNK_BYTES + (uint64_t)i * PAGE_SIZE;
        if (at < ram_size && !page_is_zero(ram + at))
            mask |= BIT(i);
    }
    return mask;
}

static bool write_chunk(struct writer *w, const uint8_t *ram, uint64_t chunk, uint64_t mask, struct error *e)
{
    uint8_t head[CHUNK_SIZE] = {0};
    w->raw.size = 0;
    for (unsigned i = 0; i < SNAPSHOT_CHUNK_PAGES; i++)
        if (mask & BIT(i))
            buffer_write(&w->raw, ram + chunk * CHUNK_BYTES + (size_t)i * PAGE_SIZE, PAGE_SIZE);
    if (w->raw.failed)
        return error_set(e, "%s: no memory for a RAM chunk", w->name);
    if (!pack(w, w->raw.data, w->raw.size, e))
        return false;
    memcpy(head, "RAMC", 4);
    put(head + 8, chunk, 8);
    put(head + 16, mask, 8);
    put(head + 24, w->packed.size, 8);
    put(head + 32, state_hash_bytes(w->raw.data, w->raw.size, 0), 8);
    seal(w, head, sizeof(head));
    return write_all(w, head, sizeof(head), e) && write_all(w, w->packed.data, w->packed.size, e);
}

static bool write_records(struct writer *w, const struct state_list *l, const char *config,
                          const uint8_t *ram, uint64_t ram_size, struct error *e)
{
    uint64_t chunks = (ram_size + CHUNK_BYTES - 1) / CHUNK_BYTES, used = 0;
    if (ram_size % PAGE_SIZE)
        return error_set(e, "%s: RAM of %" PRIu64 " bytes is not in whole pages", w->name, ram_size);
    uint64_t *masks = calloc(chunks + 1, sizeof(*masks));
    if (!masks)
        return error_set(e, "%s: no memory to list RAM", w->name);
    for (uint64_t i = 0; i < chunks; i++)
        used += (masks[i] = chunk_mask(ram, ram_size, i)) != 0;

    bool ok = write_header(w, l, config, ram_size, used, e);
    for (uint32_t i = 0; ok && i < l->count; i++)
        ok = write_section(w, &l->items[i], e);
    for (uint64_t i = 0; ok && i < chunks; i++)
        ok = !masks[i] || write_chunk(w, ram, i, masks[i], e);
    free(masks);
    if (!ok)
        return false;

    uint8_t tail[TRAILER_SIZE] = {'T', 'A', 'I', 'L'};
    put(tail + 8, w->chain, 8);
    return write_all(w, tail, sizeof(tail), e);
}

bool snapshot_write(FILE *f, const char *name, const struct state_list *l, const char *config,
                    const uint8_t *ram, uint64_t ram_size, struct error *e)
{
    struct writer w = {.f = f, .name = name, .zstd = ZSTD_createCCtx()};
    bool ok = w.zstd ? write_records(&w, l, config, ram, ram_size, e)
                     : error_set(e, "%s: no memory to compress", name);
    ZSTD_freeCCtx(w.zstd);
    free(w.raw.data);
    free(w.packed.data);
    return ok;
}

bool snapshot_save(const char *path, const struct state_list *l, const char *config, const uint8_t *ram,
                   uint64_t ram_size, struct error *e)
{
    struct stat st;
    /* Renaming over a device node would replace it. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return error_set(e, "%s: not a regular file", path);
    size_t n = strlen(path) + sizeof(".partial");
    char *partial = malloc(n);
    if (!partial)
        return error_set(e, "%s: no memory", path);
    snprintf(partial, n, "%s.partial", path);

    FILE *f = fopen(partial, "wb");
    bool ok = f || error_set(e, "%s: cannot create: %s", partial, strerror(errno));
    if (f) {
        ok = snapshot_write(f, path, l, config, ram, ram_size, e);
        if (ok && (fflush(f) != 0 || fsync(fileno(f)) != 0))
            ok = error_set(e, "%s: cannot write: %s", path, strerror(errno));
        if (fclose(f) != 0 && ok)
            ok = error_set(e, "%s: cannot write: %s", path, strerror(errno));
        if (ok && rename(partial, path) != 0)
            ok = error_set(e, "%s: cannot rename to %s: %s", partial, path, strerror(errno));
        if (!ok)
            unlink(partial);
    }
    free(partial);
    return ok;
}

/* --- Reading ---------------------------------------------------------------------------------------------
 */

struct reader {
    FILE *f;
    const char *name;
    uint64_t offset; /* in the file, for messages */
    ZSTD_DCtx *zstd;
    struct buffer raw, packed;
    uint64_t chain;
    uint32_t section_count;
    uint64_t ram_size, chunk_count;
    char *config; /* SNAPSHOT_CONFIG_MAX bytes */
};

static bool read_all(struct reader *r, void *p, size_t n, const char *what, struct error *e)
{
    size_t got = n ? fread(p, 1, n, r->f) : 0;
    r->offset += got;
    if (got == n)
        return true;
    if (ferror(r->f))
        return error_set(e, "%s: cannot read at offset %" PRIu64 ": %s", r->name, r->offset, strerror(errno));
    return error_set(e, "%s: ends at offset %" PRIu64 ", within the %s", r->name, r->offset, what);
}

/* Checks and chains the hash in the last 8 bytes of a record's head that was read just now. */
static bool unseal(struct reader *r, const uint8_t *head, size_t size, const char *magic, const char *what,
                   struct error *e)
{
    uint64_t start = r->offset - size;
    if (memcmp(head, magic, 4) != 0)
        return error_set(e, "%s: no %s at offset %" PRIu64, r->name, what, start);
    if (get(head + size - 8, 8) != state_hash_bytes(head, size - 8, 0))
        return error_set(e, "%s: damaged head of a %s at offset %" PRIu64, r->name, what, start);
    r->chain = state_hash_bytes(head + size - 8, 8, r->chain);
    return true;
}

/* Reads a zstd frame of n bytes that must give exactly raw_size bytes with this hash, into r->raw. */
static bool read_frame(struct reader *r, uint64_t n, size_t raw_size, uint64_t hash, const char *what,
                       struct error *e)
{
    uint64_t start = r->offset;
    if (n > ZSTD_compressBound(raw_size))
        return error_set(e, "%s: %s at offset %" PRIu64 " claims %" PRIu64 " compressed bytes", r->name, what,
                         start, n);
    /* In steps, so that a short file that claims much does not get much memory. */
    for (r->packed.size = 0; r->packed.size < n;) {
        size_t step = MIN((size_t)n - r->packed.size, READ_STEP);
        if (!buffer_reserve(&r->packed, r->packed.size + step))
            return error_set(e, "%s: no memory for the %s at offset %" PRIu64, r->name, what, start);
        if (!read_all(r, r->packed.data + r->packed.size, step, what, e))
            return false;
        r->packed.size += step;
    }
    if (!buffer_reserve(&r->packed, 1) || !buffer_reserve(&r->raw, MAX(raw_size, (size_t)1)))
        return error_set(e, "%s: no memory for the %s at offset %" PRIu64, r->name, what, start);
    size_t got = ZSTD_decompressDCtx(r->zstd, r->raw.data, raw_size, r->packed.data, (size_t)n);
    if (ZSTD_isError(got) || got != raw_size || state_hash_bytes(r->raw.data, raw_size, 0) != hash)
        return error_set(e, "%s: damaged %s at offset %" PRIu64, r->name, what, start);
    r->raw.size = raw_size;
    return true;
}

static bool read_header(struct reader *r, struct error *e)
{
    uint8_t head[HEADER_SIZE];
    if (!read_all(r, head, sizeof(head), "header", e))
        return false;
    if (memcmp(head, header_magic, 8) != 0)
        return error_set(e, "%s: not a snapshot (wrong magic at offset 0)", r->name);
    if (get(head + 8, 4) != FORMAT_VERSION)
        return error_set(e, "%s: format version %" PRIu64 " at offset 8, this program knows %d", r->name,
                         get(head + 8, 4), FORMAT_VERSION);
    size_t n = get(head + 16, 4);
    if (n >= SNAPSHOT_CONFIG_MAX)
        return error_set(e, "%s: machine configuration of %zu bytes at offset 16", r->name, n);
    if (!read_all(r, r->config, n, "machine configuration", e))
        return false;
    if (get(head + 40, 8) != state_hash_bytes(r->config, n, state_hash_bytes(head, 40, 0)))
        return error_set(e, "%s: damaged header at offset 0", r->name);
    /* The rest comes from a file with a right hash, but anyone can compute that. */
    r->config[n] = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)r->config[i] < ' ' || r->config[i] == 0x7f)
            return error_set(e, "%s: control character in the machine configuration at offset %zu", r->name,
                             HEADER_SIZE + i);
    r->section_count = (uint32_t)get(head + 12, 4);
    r->ram_size = get(head + 24, 8);
    r->chunk_count = get(head + 32, 8);
    if (r->ram_size % PAGE_SIZE)
        return error_set(e, "%s: RAM of %" PRIu64 " bytes at offset 24 is not in whole pages", r->name,
                         r->ram_size);
    r->chain = state_hash_bytes(head + 40, 8, 0);
    return true;
}

/* A name field must be terminated and filled up with 0. */
static bool name_ok(const uint8_t *p)
{
    size_t n = strnlen((const char *)p, NAME_SIZE);
    if (n == 0 || n == NAME_SIZE)
        return false;
    while (n < NAME_SIZE)
        if (p[n++])
            return false;
    return true;
}

static bool read_section(struct reader *r, const struct state_list *l, bool *loaded, struct error *e)
{
    uint8_t head[SECTION_SIZE];
    uint64_t start = r->offset;
    uint32_t i = 0;
    struct error inner;

    if (!read_all(r, head, sizeof(head), "section", e) ||
        !unseal(r, head, sizeof(head), "SECT", "section", e))
        return false;
    const char *name = (const char *)head + 8;
    if (!name_ok(head + 8) || !name_ok(head + 40))
        return error_set(e, "%s: section without a name at offset %" PRIu64, r->name, start);
    while (i < l->count && strcmp(l->items[i].name, name) != 0)
        i++;
    if (i == l->count)
        return error_set(e, "%s: section %s at offset %" PRIu64 " is no part of this machine", r->name, name,
                         start);
    if (loaded[i])
        return error_set(e, "%s: section %s appears twice, at offset %" PRIu64, r->name, name, start);
    const struct state_desc *d = l->items[i].desc;
    if (strcmp(d->name, (const char *)head + 40) != 0)
        return error_set(e, "%s: section %s at offset %" PRIu64 " is a %s, not a %s", r->name, name, start,
                         (const char *)head + 40, d->name);
    uint64_t raw_size = get(head + 72, 8);
    if (raw_size > SNAPSHOT_SECTION_MAX)
        return error_set(e, "%s: section %s at offset %" PRIu64 " claims %" PRIu64 " bytes", r->name, name,
                         start, raw_size);
    uint32_t version = (uint32_t)get(head + 4, 4);
    if (!read_frame(r, get(head + 80, 8), (size_t)raw_size, get(head + 88, 8), "section", e))
        return false;
    if (!state_load(d, l->items[i].ptr, r->raw.data, (size_t)raw_size, version, &inner))
        return error_set(e, "%s: section %s at offset %" PRIu64 ": %.300s", r->name, name, start,
                         inner.message);
    loaded[i] = true;
    return true;
}

/* Makes RAM in [from, to) zero without touching pages that are zero already. */
static void clear_ram(uint8_t *ram, uint64_t from, uint64_t to)
{
    for (; from < to; from += PAGE_SIZE)
        if (!page_is_zero(ram + from))
            memset(ram + from, 0, PAGE_SIZE);
}

/* `done` is where the RAM that is loaded so far ends. */
static bool read_chunk(struct reader *r, uint8_t *ram, uint64_t *done, struct error *e)
{
    uint8_t head[CHUNK_SIZE];
    uint64_t start = r->offset;
    if (!read_all(r, head, sizeof(head), "RAM chunk", e) ||
        !unseal(r, head, sizeof(head), "RAMC", "RAM chunk", e))
        return false;
    uint64_t chunk = get(head + 8, 8), mask = get(head + 16, 8);
    if (chunk >= (r->ram_size + CHUNK_BYTES - 1) / CHUNK_BYTES)
        return error_set(e, "%s: RAM chunk %" PRIu64 " at offset %" PRIu64 " is beyond the RAM", r->name,
                         chunk, start);
    uint64_t base = chunk * CHUNK_BYTES;
    uint64_t pages = MIN((r->ram_size - base) / PAGE_SIZE, (uint64_t)SNAPSHOT_CHUNK_PAGES);
    if (base < *done)
        return error_set(e, "%s: RAM chunk %" PRIu64 " at offset %" PRIu64 " is out of order", r->name, chunk,
                         start);
    if (!mask || (pages < 64 && mask >> pages))
        return error_set(e, "%s: RAM chunk %" PRIu64 " at offset %" PRIu64 " has a wrong page mask", r->name,
                         chunk, start);
    size_t raw_size = (size_t)__builtin_popcountll(mask) * PAGE_SIZE;
    if (!read_frame(r, get(head + 24, 8), raw_size, get(head + 32, 8), "RAM chunk", e))
        return false;
    clear_ram(ram, *done, base);
    const uint8_t *from = r->raw.data;
    for (unsigned i = 0; i < pages; i++) {
        if (mask & BIT(i)) {
            memcpy(ram + base + (size_t)i * PAGE_SIZE, from, PAGE_SIZE);
            from += PAGE_SIZE;
        } else {
            clear_ram(ram, base + (uint64_t)i * PAGE_SIZE, base + (uint64_t)(i + 1) * PAGE_SIZE);
        }
    }
    *done = base + pages * PAGE_SIZE;
    return true;
}

static bool read_trailer(struct reader *r, struct error *e)
{
    uint8_t tail[TRAILER_SIZE];
    uint64_t start = r->offset;
    if (!read_all(r, tail, sizeof(tail), "trailer", e))
        return false;
    if (memcmp(tail, "TAIL\0\0\0", 8) != 0)
        return error_set(e, "%s: no trailer at offset %" PRIu64, r->name, start);
    if (get(tail + 8, 8) != r->chain)
        return error_set(e, "%s: records are missing or exchanged (trailer at offset %" PRIu64 ")", r->name,
                         start);
    if (fgetc(r->f) != EOF)
        return error_set(e, "%s: goes on after its trailer at offset %" PRIu64, r->name, r->offset);
    return true;
}

static bool read_records(struct reader *r, const struct state_list *l, const char *config, uint8_t *ram,
                         uint64_t ram_size, struct error *e)
{
    bool loaded[STATE_ITEMS_MAX] = {false};
    uint64_t done = 0;

    if (!read_header(r, e))
        return false;
    if (config && strcmp(config, r->config) != 0)
        return error_set(e, "%s: made by another machine: \"%.150s\", not \"%.150s\"", r->name, r->config,
                         config);
    if (r->ram_size != ram_size)
        return error_set(e, "%s: RAM of %" PRIu64 " bytes at offset 24, the machine has %" PRIu64, r->name,
                         r->ram_size, ram_size);
    for (uint32_t i = 0; i < r->section_count; i++)
        if (!read_section(r, l, loaded, e))
            return false;
    for (uint32_t i = 0; i < l->count; i++)
        if (!loaded[i])
            return error_set(e, "%s: no section %s before offset %" PRIu64, r->name, l->items[i].name,
                             r->offset);
    for (uint64_t i = 0; i < r->chunk_count; i++)
        if (!read_chunk(r, ram, &done, e))
            return false;
    clear_ram(ram, done, ram_size);
    return read_trailer(r, e);
}

static void reader_free(struct reader *r)
{
    ZSTD_freeDCtx(r->zstd);
    free(r->raw.data);
    free(r->packed.data);
    free(r->config);
}

bool snapshot_read(FILE *f, const char *name, const struct state_list *l, const char *config, uint8_t *ram,
                   uint64_t ram_size, struct error *e)
{
    struct reader r = {
        .f = f, .name = name, .zstd = ZSTD_createDCtx(), .config = malloc(SNAPSHOT_CONFIG_MAX)};
    bool ok = r.zstd && r.config ? read_records(&r, l, config, ram, ram_size, e)
                                 : error_set(e, "%s: no memory to load", name);
    reader_free(&r);
    return ok;
}

static FILE *open_snapshot(const char *path, struct error *e)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f) {
        error_set(e, "%s: cannot open: %s", path, strerror(errno));
    } else if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
        error_set(e, "%s: is a directory", path);
        fclose(f);
        f = NULL;
    }
    return f;
}

bool snapshot_load(const char *path, const struct state_list *l, const char *config, uint8_t *ram,
                   uint64_t ram_size, struct error *e)
{
    FILE *f = open_snapshot(path, e);
    if (!f)
        return false;
    bool ok = snapshot_read(f, path, l, config, ram, ram_size, e);
    fclose(f);
    return ok;
}

bool snapshot_read_config(const char *path, char *config, uint64_t *ram_size, struct error *e)
{
    FILE *f = open_snapshot(path, e);
    if (!f)
        return false;
    struct reader r = {.f = f, .name = path, .config = config};
    bool ok = read_header(&r, e);
    if (ok)
        *ram_size = r.ram_size;
    fclose(f);
    return ok;
}
