/*
 * tests/lockstep/run.c -- a program on two machines in slices; the first difference, to the instruction.
 */
#include "tests/lockstep/lockstep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cache.h"
#include "cpu/jit/jit.h"

#define STEPS_MAX 64u

/* -- Machines ------------------------------------------------------------------------------------------ */

struct rig {
    struct machine m;
    struct log log;
    struct chardev serial;
};

static void serial_write(void *owner, const uint8_t *bytes, size_t n)
{
    (void)owner, (void)bytes, (void)n;
}

struct machine *lockstep_machine(struct program *p, bool jit, uint32_t hot, uint64_t cache)
{
    struct error e;
    struct rig *r = calloc(1, sizeof(*r));
    struct machine_config c = {.memory = MEMORY,
                               .cpus = 1,
                               .jit = jit,
                               .jit_hot = hot,
                               .jit_cache = cache,
                               .no_reboot = true,
                               .debug_exit = true,
                               .debug_exit_base = 0xf4,
                               .debug_exit_size = 4,
                               .boot = {.cpus = 1}};
    if (!r || !cpu_model_parse(&c.model, "Icelake-Server", &e))
        abort();
    log_init(&r->log, NULL, LOG_DEBUG);
    r->serial = (struct chardev){.owner = r, .write = serial_write};
    c.log = &r->log;
    c.serial = &r->serial;
    if (!machine_init(&r->m, &c, &e)) {
        fprintf(stderr, "lockstep: %s\n", e.message);
        exit(2);
    }
    program_place(p, &r->m);
    return &r->m;
}

void machine_dispose(struct machine *m)
{
    machine_free(m);
    free(CONTAINER(m, struct rig, m));
}

static struct pair make_pair(const struct settings *s)
{
    struct program *p = malloc(2 * sizeof(*p));
    if (!p)
        abort();
    program_build(&p[0], s->seed, s->kind);
    p[1] = p[0];
    uint32_t hot = s->hot ? s->hot : s->seed % 3 ? 1 : 2 + (uint32_t)(s->seed / 3 % 15);
    struct pair m = {lockstep_machine(&p[0], false, 0, 0), lockstep_machine(&p[1], true, hot, s->cache)};
    free(p);
    return m;
}

static void free_pair(struct pair *m)
{
    machine_dispose(m->interp);
    machine_dispose(m->jit);
}

/* -- Slices -------------------------------------------------------------------------------------------- */

static bool equal(const struct pair *m)
{
    return m->interp->end == m->jit->end && m->interp->clock.now == m->jit->clock.now &&
           machine_hash(m->interp) == machine_hash(m->jit);
}

/* Both go on by n ticks. */
static bool advance(const struct pair *m, uint64_t n)
{
    machine_run(m->interp, m->interp->clock.now + n);
    machine_run(m->jit, m->jit->clock.now + n);
    return equal(m);
}

static struct dice slice_dice(const struct settings *s)
{
    uint8_t start[8];
    store_le(start, s->seed ^ 0x736c696365u, 8);
    return dice_make(start, 8);
}

static uint64_t slice(const struct settings *s, struct dice *d)
{
    uint64_t r = dice_roll(d), most = r & 7 ? s->slice_max : r & 8 ? 16 : 200;
    return 1 + (r >> 8) % MIN(most, s->slice_max);
}

/* A new pair, after so many slices; the slices' dice are left there. */
static struct pair pair_after(const struct settings *s, uint64_t slices)
{
    struct pair m = make_pair(s);
    struct dice d = slice_dice(s);
    equal(&m);
    for (uint64_t i = 0; i < slices; i++)
        advance(&m, slice(s, &d));
    return m;
}

/* -- The first difference ------------------------------------------------------------------------------ */

static void note_step(const struct machine *m, struct trace_step *step)
{
    struct cpu *cpu = (struct cpu *)&m->cpus[0];
    step->rip = cpu->rip;
    step->linear = cpu->rip + (cpu_64bit(cpu) ? 0 : cpu->seg[SEG_CS].base);
    step->key = cpu->key;
    memset(step->bytes, 0, sizeof(step->bytes));
    if (!cpu_peek(cpu, step->linear, step->bytes, 15))
        for (unsigned i = 0; i < 15 && cpu_peek(cpu, step->linear + i, &step->bytes[i], 1); i++)
            continue;
}

/* The interpreter alone, instruction by instruction up to `ticks` after the slices. */
static unsigned trace_steps(const struct settings *s, uint64_t slices, uint64_t ticks,
                            struct trace_step steps[STEPS_MAX])
{
    struct pair m = pair_after(s, slices);
    uint64_t until = m.interp->clock.now + ticks;
    unsigned count = 0;
    while (m.interp->clock.now < until) {
        if (count == STEPS_MAX)
            memmove(steps, steps + 1, --count * sizeof(*steps));
        note_step(m.interp, &steps[count++]);
        if (machine_run(m.interp, m.interp->clock.now + 1) != MACHINE_AT)
            break;
    }
    free_pair(&m);
    return count;
}

static void explain(const struct settings *s, uint64_t slices, uint64_t length)
{
    uint64_t good = 0, bad = length;
    printf("     in slice %" PRIu64 " of %" PRIu64 " ticks\n", slices, length);
    while (bad - good > 1) {
        uint64_t middle = good + (bad - good) / 2;
        struct pair m = pair_after(s, slices);
        if (advance(&m, middle))
            good = middle;
        else
            bad = middle;
        free_pair(&m);
    }
    static struct trace_step steps[STEPS_MAX];
    unsigned count = trace_steps(s, slices, bad, steps);
    struct pair m = pair_after(s, slices);
    bool same = advance(&m, bad);
    printf("     first seen %" PRIu64 " ticks into it, at tick %" PRIu64 "%s\n", bad, m.interp->clock.now,
           same ? " (and not again: depends on more than the slices)" : "");
    report_difference(&m, steps, count);
    free_pair(&m);
}

void lockstep_trace(const struct settings *s, uint64_t count)
{
    struct pair m = make_pair(s);
    do {
        struct trace_step step;
        note_step(m.interp, &step);
        report_step(&step, " ");
    } while (--count && machine_run(m.interp, m.interp->clock.now + 1) == MACHINE_AT);
    printf("     end %d, rax %#" PRIx64 "\n", m.interp->end, m.interp->cpus[0].r[REG_RAX]);
    free_pair(&m);
}

/* -- One program --------------------------------------------------------------------------------------- */

/* RAM was written and its observers were not told. */
static bool observed(const struct machine *m, const char *which)
{
    if (machine_ram_hash((struct machine *)m) == machine_ram_hash_whole(m))
        return true;
    printf("     %s: a write to RAM has not told the page's observers\n", which);
    return false;
}

bool lockstep_run(const struct settings *s, struct outcome *o)
{
    struct pair m = make_pair(s);
    struct dice d = slice_dice(s);
    bool ok = equal(&m);
    if (!ok)
        printf("     different from the start\n");
    for (uint64_t i = 0; ok && i < s->slices && m.interp->end == MACHINE_RUNNING + (i ? MACHINE_AT : 0);
         i++) {
        uint64_t n = slice(s, &d);
        ok = advance(&m, n);
        if (!ok)
            explain(s, i, n);
    }
    o->ticks = m.interp->clock.now;
    o->ended = m.interp->end != MACHINE_AT;
    ok = ok && observed(m.interp, "interpreter") && observed(m.jit, "jit");
    const struct jit_stats *stats = m.jit->code->jit ? jit_statistics(m.jit->code->jit) : NULL;
    uint64_t translated = stats ? stats->blocks : 0;
    o->evictions = stats ? stats->evictions : 0;
    if (s->verbose)
        printf("     %" PRIu64 " ticks, end %d, rip %#" PRIx64 ", %" PRIu64 " blocks translated\n", o->ticks,
               m.interp->end, m.interp->cpus[0].rip, translated);
    free_pair(&m);
    o->failed = !ok;
    o->translated = translated;
    return ok;
}
