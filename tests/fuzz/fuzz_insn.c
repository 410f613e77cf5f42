/*
 * tests/fuzz/fuzz_insn.c -- random programs in random processor states: every mode, paging, VMX with a VMCS
 * to enter.
 *
 * After each piece of the run every cached translation must be what a walk gives, and the time used must be
 * the time asked for. Some inputs run twice, the second time in pieces of other lengths: the machines must
 * end equal.
 */
#include "cpu/exec.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/guest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MEMORY (4ull << 20)
#define ROUND  600u
#define ROUNDS 10u
#define RAW_AT 64u /* input bytes from here on are instructions, to be run before all others */

uint8_t *fuzz_seed_input(unsigned index, size_t *size)
{
    return index < 32 ? lab_seed(index, 32, size) : NULL;
}

static void check(struct machine *m)
{
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        gva_t linear = 0;
        uint32_t wrong = mmu_verify(&m->cpus[i].mmu, &linear);
        if (wrong) {
            fprintf(stderr, "fuzz: cpu%u has %u stale translations, the first of %#" PRIx64 "\n", i, wrong,
                    linear);
            abort();
        }
    }
}

static struct machine *make(const uint8_t *data, size_t size, struct dice *d)
{
    *d = dice_make(data, MIN(size, RAW_AT));
    struct machine *m = lab_machine(MEMORY, 1 + (unsigned)dice_chance(d, 20), dice_chance(d, 20));
    size_t raw = size > RAW_AT ? size - RAW_AT : 0;
    guest_make(d, m, raw ? data + RAW_AT : NULL, raw);
    return m;
}

/* One round in pieces of `piece` ticks. */
static void run_round(struct machine *m, uint64_t ticks, uint64_t piece)
{
    uint64_t end = m->clock.now + ticks;
    do {
        uint64_t until = MIN(m->clock.now + piece, end);
        enum machine_end why = machine_run(m, until);
        check(m);
        if (why != MACHINE_AT)
            break;
        /* Only PAUSE runs beyond it. */
        if (m->clock.now < until || m->clock.now >= until + PAUSE_TICKS) {
            fprintf(stderr, "fuzz: ran to %" PRIu64 " instead of %" PRIu64 "\n", m->clock.now, until);
            abort();
        }
    } while (m->clock.now < end);
}

static uint64_t run(struct machine *m, struct dice d, uint64_t piece)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i)
            guest_kick(&d, m);
        run_round(m, i ? ROUND : 3 * ROUND, piece);
    }
    return machine_hash(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dice d;
    watchdog_start(20);
    struct machine *m = make(data, size, &d);
    struct dice same = d;
    bool twice = dice_chance(&d, 25);
    uint64_t large = 200 + dice_below(&d, ROUND), little = 1 + dice_below(&d, 50);
    uint64_t hash = run(m, same, large), now = m->clock.now;
    enum machine_end end = m->end;
    lab_free(m);
    if (!twice)
        return 0;
    m = make(data, size, &d);
    if (run(m, same, little) != hash || m->clock.now != now || m->end != end) {
        fprintf(stderr,
                "fuzz: two runs in pieces of different lengths end differently: tick %" PRIu64 " and %" PRIu64
                ", reason %d and %d\n",
                now, m->clock.now, end, m->end);
        abort();
    }
    lab_free(m);
    return 0;
}
