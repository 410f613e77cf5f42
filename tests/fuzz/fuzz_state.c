/*
 * tests/fuzz/fuzz_state.c -- loading the state section of a struct: nested structs, versions, arrays, bools.
 */
#include "snapshots/state.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct leaf {
    uint16_t a;
    bool on[3];
};
struct branch {
    struct leaf leaves[2];
    uint8_t tag;
};
struct root {
    uint64_t a;
    uint32_t table[2][4];
    struct branch branches[3];
    struct timer timer;
    uint8_t newer;
};

static const struct state_field leaf_fields[] = {STATE(struct leaf, a), STATE(struct leaf, on)};
static const struct state_desc leaf_state = STATE_DESC("leaf", struct leaf, 1, leaf_fields, NULL);
static const struct state_field branch_fields[] = {
    STATE_SUB(struct branch, leaves, leaf_state),
    STATE_SINCE(struct branch, tag, 2),
};
static const struct state_desc branch_state = STATE_DESC("branch", struct branch, 2, branch_fields, NULL);
static const struct state_field root_fields[] = {
    STATE(struct root, a),
    STATE(struct root, table),
    STATE_SUB(struct root, branches, branch_state),
    STATE_SUB(struct root, timer, timer_state),
    STATE_SINCE(struct root, newer, 2),
};
static const struct state_desc root_state = STATE_DESC("root", struct root, 2, root_fields, NULL);

static void stream_write(void *owner, const void *p, size_t n)
{
    fwrite(p, 1, n, owner);
}

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    char *bytes = NULL;
    struct root r;
    if (index >= 2)
        return NULL;
    memset(&r, (int)index, sizeof(r));
    FILE *f = open_memstream(&bytes, size);
    struct state_writer w = {f, stream_write};
    state_save(&root_state, &r, &w);
    fclose(f);
    return (uint8_t *)bytes;
}

/* What was accepted must survive another round trip. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error e;
    for (uint32_t version = 0; version <= 3; version++) {
        struct root r = {0}, again = {0};
        char *bytes = NULL;
        size_t n = 0;
        if (!state_load(&root_state, &r, data, size, version, &e))
            continue;
        FILE *f = open_memstream(&bytes, &n);
        struct state_writer w = {f, stream_write};
        state_save(&root_state, &r, &w);
        fclose(f);
        if (!state_load(&root_state, &again, (uint8_t *)bytes, n, 2, &e) ||
            state_hash(&root_state, &r, 0) != state_hash(&root_state, &again, 0))
            abort();
        free(bytes);
    }
    return 0;
}
