/*
 * test_state_machine.c -- every struct of a whole machine is described, byte by byte, and survives a round
 * trip.
 */
#include "machine/machine.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

static struct machine machine_under_test;

static struct machine *new_machine(void)
{
    struct machine *m = &machine_under_test;
    struct machine_config c;
    struct error e;
    memset(&c, 0, sizeof(c));
    c.memory = 4 << 20;
    c.cpus = 2;
    cr_assert(cpu_model_parse(&c.model, "Icelake-Server", &e), "%s", e.message);
    cr_assert(machine_init(m, &c, &e), "%s", e.message);
    return m;
}

Test(state_machine, every_byte_is_described_or_skipped)
{
    struct machine *m = new_machine();
    cr_assert_gt(m->states.count, 10);
    unsigned bad = 0;
    for (uint32_t i = 0; i < m->states.count; i++) {
        const struct state_item *item = &m->states.items[i];
        struct state_gap gaps[16] = {{0, 0}};
        if (!state_coverage(item->desc, gaps, 16))
            continue;
        for (unsigned k = 0; k < 16 && gaps[k].size; k++, bad++)
            cr_log_error("%s (%s): bytes %u to %u are not described", item->name, item->desc->name,
                         gaps[k].offset, gaps[k].offset + gaps[k].size - 1);
    }
    cr_assert_eq(bad, 0);
    machine_free(m);
}

Test(state_machine, save_and_load_keep_the_hash)
{
    struct machine *m = new_machine();
    struct error e;
    char path[] = "/tmp/test-state-XXXXXX";
    close(mkstemp(path));
    memset(m->phys.ram + 0x5000, 0x5a, 5000);
    uint64_t want = machine_hash(m);
    cr_assert(machine_save(m, path, &e), "%s", e.message);
    cr_assert_eq(machine_hash(m), want);
    memset(m->phys.ram + 0x9000, 1, 10);
    m->turn.left += 3;
    cr_assert_neq(machine_hash(m), want);
    cr_assert(machine_load(m, path, &e), "%s", e.message);
    cr_assert_eq(machine_hash(m), want);
    unlink(path);
    machine_free(m);
}
