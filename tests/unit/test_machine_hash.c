/*
 * tests/unit/test_machine_hash.c -- the hash of RAM that remembers pages agrees with one made from nothing.
 */
#include "machine/machine.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY (1u << 20)

static struct machine *new_machine(void)
{
    static struct log log;
    struct error e;
    struct machine *m = calloc(1, sizeof(*m));
    struct machine_config c = {.memory = MEMORY, .cpus = 1, .log = &log};
    log_init(&log, NULL, LOG_ERROR);
    cr_assert(cpu_model_parse(&c.model, "Icelake-Server", &e), "%s", e.message);
    cr_assert(machine_init(m, &c, &e), "%s", e.message);
    return m;
}

static void free_machine(struct machine *m)
{
    machine_free(m);
    free(m);
}

Test(machine_hash, pages_written_since_are_hashed_anew)
{
    struct machine *m = new_machine();
    uint64_t r = 1, before = machine_hash(m);
    for (unsigned i = 0; i < 200; i++) {
        r = r * 0x5851f42d4c957f2dull + 0x14057b7ef767814full;
        uint8_t bytes[300];
        memset(bytes, (int)(r >> 8 | 1), sizeof(bytes));
        phys_write(&m->phys, (r >> 20) % (MEMORY - sizeof(bytes)), bytes, 1 + (r >> 50) % sizeof(bytes));
        if (i % 3)
            continue; /* several writes between two hashes, too */
        cr_assert_neq(machine_hash(m), before);
        before = machine_hash(m);
        cr_assert_eq(machine_ram_hash(m), machine_ram_hash_whole(m));
    }
    free_machine(m);
}

Test(machine_hash, a_page_counts_with_its_place)
{
    struct machine *m = new_machine();
    uint64_t empty = machine_hash(m);
    phys_store(&m->phys, 0x3000, 8, 77);
    uint64_t there = machine_hash(m);
    phys_store(&m->phys, 0x3000, 8, 0);
    cr_assert_eq(machine_hash(m), empty);
    phys_store(&m->phys, 0x4000, 8, 77);
    cr_assert_neq(machine_hash(m), there);
    free_machine(m);
}

Test(machine_hash, forgetting_changes_nothing)
{
    struct machine *m = new_machine();
    phys_store(&m->phys, 0x5008, 8, 5);
    uint64_t h = machine_hash(m);
    machine_hash_forget(m);
    phys_store(&m->phys, 0x6000, 4, 1); /* nobody listens, and the observer says so */
    phys_store(&m->phys, 0x6000, 4, 0);
    cr_assert_eq(machine_hash(m), h);
    free_machine(m);
}
