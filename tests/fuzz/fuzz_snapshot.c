/*
 * tests/fuzz/fuzz_snapshot.c -- loading snapshot files that anyone may have written.
 *
 * A file's own hashes stop almost every mutation at its first check. So an input is taken in two ways: as it
 * is, and as what a hostile writer makes of it, with all hashes set right.
 */
#include "snapshots/file.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#define RAM_SIZE (70ull * PAGE_SIZE)

struct inner {
    uint16_t a;
    bool on[3];
};
struct part {
    uint64_t a;
    uint32_t table[2][4];
    struct inner inner[3];
    uint8_t newer;
};

static const struct state_field inner_fields[] = {STATE(struct inner, a), STATE(struct inner, on)};
static const struct state_desc inner_state = STATE_DESC("inner", struct inner, 1, inner_fields, NULL);
static const struct state_field part_fields[] = {
    STATE(struct part, a),
    STATE(struct part, table),
    STATE_SUB(struct part, inner, inner_state),
    STATE_SINCE(struct part, newer, 2),
};
static const struct state_desc part_state = STATE_DESC("part", struct part, 2, part_fields, NULL);

struct machine {
    struct part parts[2];
    struct state_list list;
    uint8_t ram[RAM_SIZE];
};

static struct machine *machine_new(void)
{
    struct machine *m = calloc(1, sizeof(*m));
    state_register(&m->list, "part0", &part_state, &m->parts[0]);
    state_register(&m->list, "part1", &part_state, &m->parts[1]);
    return m;
}

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    char *bytes = NULL;
    if (index >= 3)
        return NULL;
    struct machine *m = machine_new();
    if (index > 0)
        memset(m->ram + 5 * PAGE_SIZE, 7, 3 * PAGE_SIZE);
    if (index > 1)
        memset(m->ram + 65 * PAGE_SIZE, 9, 100);
    m->parts[1].inner[1].on[1] = true;
    FILE *f = open_memstream(&bytes, size);
    snapshot_write(f, "seed", &m->list, "-m 280K", m->ram, RAM_SIZE, NULL);
    fclose(f);
    free(m);
    return (uint8_t *)bytes;
}

static void load(const uint8_t *data, size_t size)
{
    struct machine *m = machine_new();
    struct error e;
    FILE *f = size ? fmemopen((void *)data, size, "rb") : fopen("/dev/null", "rb");
    if (f) {
        snapshot_read(f, "input", &m->list, NULL, m->ram, RAM_SIZE, &e);
        fclose(f);
    }
    free(m);
}

/* Makes the hashes of heads right again, as far as the records can be followed. */
static void repair(uint8_t *p, size_t size)
{
    if (size < 48)
        return;
    size_t n = load_le(p + 16, 4), at = 48;
    if (n <= size - at) {
        store_le(p + 40, state_hash_bytes(p + 48, n, state_hash_bytes(p, 40, 0)), 8);
        at += n;
    }
    uint64_t chain = state_hash_bytes(p + 40, 8, 0);
    while (size - at >= 16) {
        bool section = !memcmp(p + at, "SECT", 4), chunk = !memcmp(p + at, "RAMC", 4);
        size_t head = section ? 104 : 48;
        if (!section && !chunk)
            break;
        if (size - at < head)
            return;
        store_le(p + at + head - 8, state_hash_bytes(p + at, head - 8, 0), 8);
        chain = state_hash_bytes(p + at + head - 8, 8, chain);
        uint64_t frame = load_le(p + at + (section ? 80 : 24), 8);
        at += head;
        if (frame > size - at)
            return;
        at += (size_t)frame;
    }
    if (size - at >= 16)
        store_le(p + at + 8, chain, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    load(data, size);
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, data, size);
    repair(copy, size);
    load(copy, size);
    free(copy);
    return 0;
}
