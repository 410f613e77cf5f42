/*
 * machine/state.c -- the machine's state as a whole: save, load.
 *
 * What is state is described where each struct is; here it is gathered (machine_wire registers the items).
 */
#include "machine/machine.h"

#include <stdio.h>
#include <string.h>

#include "cpu/exec.h"
#include "snapshots/file.h"

/* What must be equal between the machine that was saved and the one that it is loaded into. */
static void describe(const struct machine *m, char *text, size_t n)
{
    const struct machine_config *c = &m->config;
    char features[FEAT_COUNT / 4 + 2] = "";
    for (unsigned f = 0; f < FEAT_COUNT; f += 4) {
        unsigned digit = 0;
        for (unsigned i = f; i < f + 4 && i < FEAT_COUNT; i++)
            digit |= (unsigned)c->model.has[i] << (i - f);
        snprintf(features + f / 4, 2, "%x", digit);
    }
    /* Features: -cpu's, less what this host lacks. */
    snprintf(text, n, "-m %lluK -smp %u -cpu %s drives=%u debug-exit=%d features=%s",
             (unsigned long long)(c->memory >> 10), c->cpus, c->model.name, c->drive_count, c->debug_exit,
             features);
}

bool machine_save(struct machine *m, const char *path, struct error *e)
{
    char text[256];
    machine_settle_flags(m);
    describe(m, text, sizeof(text));
    return snapshot_save(path, &m->states, text, m->phys.ram, m->phys.ram_size, e);
}

bool machine_load(struct machine *m, const char *path, struct error *e)
{
    char text[256];
    describe(m, text, sizeof(text));
    /* Everything made from the old RAM goes first: its pages lose their observers. */
    code_cache_clear(m->code);
    machine_hash_forget(m);
    for (uint32_t i = 0; i < m->cpu_count; i++)
        mmu_drop_all(&m->cpus[i].mmu);
    return snapshot_load(path, &m->states, text, m->phys.ram, m->phys.ram_size, e) && machine_loaded(m, e);
}

bool machine_loaded(struct machine *m, struct error *e)
{
    if (m->turn.cpu >= m->cpu_count)
        return error_set(e, "turn: processor %u of %u", m->turn.cpu, m->cpu_count);
    if (m->clock.now > CLOCK_NOW_MAX)
        return error_set(e, "clock: tick %#llx is beyond the end of time", (unsigned long long)m->clock.now);
    clock_rebuild(&m->clock);
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        mmu_drop_all(&m->cpus[i].mmu);
        if (!cpu_loaded(&m->cpus[i], e))
            return false;
    }
    machine_arm_poll(m);
    m->reset_wanted = false;
    return true;
}
