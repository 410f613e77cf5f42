/*
 * tests/unit/test_dev_hpet.c -- HPET: counter, one-shot, periodic, level, FSB delivery, legacy replacement.
 */
#include "tests/unit/dev_board.h"

#include "devices/hpet.h"

static struct hpet hpet;

/* IOAPIC pins are lines 32 and up, ISA lines are 0 to 15. */
static void pin(void *owner, unsigned n, bool level)
{
    board_line(owner, 32 + n, level);
}

static struct board *hpet_new(void)
{
    struct board *b = board_new(0);
    OK(hpet_init(&hpet, &b->bus, HPET_BASE, &b->clock, board_irq(b, 0), (struct irq_line){b, pin, 0},
                 &b->sink, &b->log, &b->error));
    return b;
}

#define TIMER(n, r) (HPET_BASE + 0x100 + 0x20 * (n) + (r))

Test(hpet, identity_and_counter)
{
    struct board *b = hpet_new();
    cr_assert_eq(rd32(b, HPET_BASE), HPET_ID);
    cr_assert_eq(rd32(b, HPET_BASE + 4), 10000000);
    board_run(b, 1000);
    cr_assert_eq(rd32(b, HPET_BASE + 0xf0), 0);
    wr32(b, HPET_BASE + 0x10, 1);
    board_run(b, 1000);
    cr_assert_eq(rd32(b, HPET_BASE + 0xf0), 100);
    wr32(b, HPET_BASE + 0x10, 0);
    board_run(b, 1000);
    cr_assert_eq(rd32(b, HPET_BASE + 0xf0), 100);
    bus_write_mmio(&b->bus, HPET_BASE + 0xf0, 8, 0x1fffffff0ull);
    wr32(b, HPET_BASE + 0x10, 1);
    board_run(b, 320);
    cr_assert_eq(bus_read_mmio(&b->bus, HPET_BASE + 0xf0, 8), 0x200000010ull);
    board_free(b);
}

Test(hpet, one_shot_edge)
{
    struct board *b = hpet_new();
    wr32(b, TIMER(2, 0), 20u << 9 | 4);
    wr32(b, TIMER(2, 8), 500), wr32(b, TIMER(2, 12), 0);
    wr32(b, HPET_BASE + 0x10, 1);
    board_run(b, 4999);
    cr_assert_eq(b->rises[32 + 20], 0);
    board_run(b, 1);
    cr_assert_eq(b->rises[32 + 20], 1);
    board_run(b, 1000000);
    cr_assert_eq(b->rises[32 + 20], 1);
    board_free(b);
}

Test(hpet, periodic_as_linux_sets_it)
{
    struct board *b = hpet_new();
    wr32(b, HPET_BASE + 0x10, 0);
    wr32(b, TIMER(0, 0), 4 | 8 | 0x40 | 0x100);
    wr32(b, TIMER(0, 8), 1000); /* the comparator, by VAL_SET */
    wr32(b, TIMER(0, 8), 1000); /* the period */
    wr32(b, HPET_BASE + 0x10, 3);
    board_run(b, 1000000);
    cr_assert_eq(b->rises[0], 100, "%u", b->rises[0]);
    cr_assert_eq(rd32(b, TIMER(0, 8)), 101000);
    board_free(b);
}

Test(hpet, level_and_status)
{
    struct board *b = hpet_new();
    wr32(b, TIMER(1, 0), 21u << 9 | 4 | 2);
    wr32(b, TIMER(1, 8), 100), wr32(b, TIMER(1, 12), 0);
    wr32(b, HPET_BASE + 0x10, 1);
    board_run(b, 5000);
    cr_assert(b->level[32 + 21]);
    cr_assert_eq(rd32(b, HPET_BASE + 0x20), 2);
    wr32(b, HPET_BASE + 0x20, 2);
    cr_assert(!b->level[32 + 21]);
    board_free(b);
}

Test(hpet, fsb)
{
    struct board *b = hpet_new();
    wr32(b, TIMER(2, 0), 4 | 0x4000);
    wr32(b, TIMER(2, 16), 0x41), wr32(b, TIMER(2, 20), 0xfee01000);
    wr32(b, TIMER(2, 8), 100), wr32(b, TIMER(2, 12), 0);
    wr32(b, HPET_BASE + 0x10, 1);
    board_run(b, 5000);
    cr_assert_eq(b->message_count, 1);
    cr_assert_eq(b->messages[0].vector, 0x41);
    cr_assert_eq(b->messages[0].dest, 1);
    board_free(b);
}

Test(hpet, legacy_replacement)
{
    struct board *b = hpet_new();
    hpet_legacy_irq(&hpet, 0, true);
    cr_assert(b->level[0]);
    wr32(b, HPET_BASE + 0x10, 2);
    cr_assert(!b->level[0]);
    hpet_legacy_irq(&hpet, 8, true);
    cr_assert(!b->level[8]);
    wr32(b, HPET_BASE + 0x10, 0);
    cr_assert(b->level[0] && b->level[8]);
    board_free(b);
}

Test(hpet, state_and_hostile)
{
    struct board *b = hpet_new();
    static struct board_bytes s;
    COVERED(hpet_state);
    uint32_t x = 12345;
    for (unsigned i = 0; i < 20000; i++) {
        x = x * 1664525 + 1013904223;
        wr32(b, HPET_BASE + (x >> 8 & 0x3fc), x ^ x << 7);
        b->clock.now += x & 0xfff;
        clock_run(&b->clock);
    }
    SAVE(hpet_state, &hpet, s);
    uint64_t hash = state_hash(&hpet_state, &hpet, 0);
    hpet_reset(&hpet);
    LOAD(hpet_state, &hpet, s);
    cr_assert_eq(state_hash(&hpet_state, &hpet, 0), hash);
    board_free(b);
}
