/*
 * tests/fuzz/fuzz_loaded.c -- machines loaded from a state that anyone may have written, and then run.
 *
 * The file's hashes keep nobody out who can compute them, so mutations are made where they count: a random
 * field of a random struct of the machine gets an odd value, the sections are loaded by their descriptions,
 * and what is accepted must run. It must not crash, hang, or stop the clock, whatever the guest then does.
 */
#include "cpu/exec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/guest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY (4ull << 20)
#define BEFORE 3000u  /* ticks before the state is taken, at most */
#define AFTER  50000u /* ticks that a loaded machine runs */
#define RAW_AT 64u

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    return index < 32 ? lab_seed(index, 48, size) : NULL;
}

/* -- Changing a field by its description --------------------------------------------------------------- */

static void change(struct dice *d, const struct state_desc *desc, uint8_t *s)
{
    const struct state_field *f = &desc->fields[dice_below(d, desc->field_count)];
    for (unsigned tries = 0; f->kind == STATE_SKIPPED && tries < 100; tries++)
        f = &desc->fields[dice_below(d, desc->field_count)];
    switch (f->kind) {
    case STATE_NESTED:
        change(d, f->sub, s + f->offset + f->sub->size * dice_below(d, f->size / f->sub->size));
        break;
    case STATE_BOOL:
        s[f->offset + dice_below(d, f->size)] ^= 1;
        break;
    case STATE_INT: {
        uint8_t *p = s + f->offset + f->elem * dice_below(d, f->size / f->elem);
        if (dice_chance(d, 50))
            store_le(p, load_le(p, f->elem) ^ 1ull << dice_below(d, f->elem * 8u), f->elem);
        else
            store_le(p, dice_odd(d), f->elem);
        break;
    }
    default:
        break;
    }
}

/* -- The way through a file ---------------------------------------------------------------------------- */

static void stream_write(void *owner, const void *p, size_t n)
{
    fwrite(p, 1, n, owner);
}

/* Saved by its description and loaded again: false when it is refused. */
static bool reload(const struct state_item *item)
{
    char *bytes = NULL;
    size_t size = 0;
    struct error e;
    FILE *f = open_memstream(&bytes, &size);
    struct state_writer w = {f, stream_write};
    state_save(item->desc, item->ptr, &w);
    fclose(f);
    bool ok = state_load(item->desc, item->ptr, (const uint8_t *)bytes, size, item->desc->version, &e);
    free(bytes);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dice d = dice_make(data, MIN(size, RAW_AT));
    struct error e;
    watchdog_start(20);
    struct machine *m = lab_machine(MEMORY, 1 + (unsigned)dice_chance(&d, 30), dice_chance(&d, 30));
    size_t raw = size > RAW_AT ? size - RAW_AT : 0;
    guest_make(&d, m, raw ? data + RAW_AT : NULL, raw);
    machine_run(m, m->clock.now + dice_below(&d, BEFORE));

    for (unsigned left = 1 + (unsigned)dice_below(&d, 4); left; left--) {
        const struct state_item *item = &m->states.items[dice_below(&d, m->states.count)];
        /* Half of the choices go to the processors: most of the structs are devices. */
        if (dice_chance(&d, 50))
            item = &m->states.items[2 + dice_below(&d, 3 * m->cpu_count)];
        change(&d, item->desc, item->ptr);
    }
    bool ok = true;
    code_cache_clear(m->code);
    for (uint32_t i = 0; ok && i < m->states.count; i++)
        ok = reload(&m->states.items[i]);
    if (ok && machine_loaded(m, &e)) {
        uint64_t until = m->clock.now + AFTER;
        enum machine_end end = machine_run(m, until);
        /* An event may take one tick more, PAUSE what it waits. */
        if (end == MACHINE_AT && m->clock.now > until + PAUSE_TICKS) {
            fprintf(stderr, "fuzz: ran to %" PRIu64 " instead of %" PRIu64 "\n", m->clock.now, until);
            abort();
        }
    }
    lab_free(m);
    return 0;
}
