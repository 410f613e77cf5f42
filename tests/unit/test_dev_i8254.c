/*
 * tests/unit/test_dev_i8254.c -- the 8254's six modes, latches, read-back, and port 61h.
 */
#include "tests/unit/dev_board.h"

#include "devices/i8254.h"

static struct i8254 pit;

static struct board *pit_new(void)
{
    struct board *b = board_new(0);
    OK(i8254_init(&pit, &b->bus, &b->clock, board_irq(b, 0), &b->error));
    return b;
}

/* Moves to the moment at which the 8254 has made n clocks. */
static void to_clock(struct board *b, uint64_t n)
{
    uint64_t t = device_ticks_deadline(n, I8254_HZ);
    if (t > b->clock.now)
        board_run(b, t - b->clock.now);
}

static void program(struct board *b, unsigned counter, unsigned mode, uint16_t count)
{
    out(b, 0x43, counter << 6 | 0x30 | mode << 1);
    out(b, 0x40 + counter, count & 0xff), out(b, 0x40 + counter, count >> 8);
}

static unsigned latch(struct board *b, unsigned counter)
{
    out(b, 0x43, counter << 6);
    unsigned low = in(b, 0x40 + counter);
    return low | in(b, 0x40 + counter) << 8;
}

/* Status by read-back. */
static unsigned status(struct board *b, unsigned counter)
{
    out(b, 0x43, 0xe0 | 2u << counter);
    return in(b, 0x40 + counter);
}

Test(i8254, mode0_interrupts_once)
{
    struct board *b = pit_new();
    program(b, 0, 0, 1000);
    cr_assert(!b->level[0]);
    to_clock(b, 1000);
    cr_assert(!b->level[0]);
    to_clock(b, 1001);
    cr_assert(b->level[0]);
    board_run(b, 1000000000);
    cr_assert_eq(b->rises[0], 2, "high at power on, then once");
    board_free(b);
}

Test(i8254, mode2_has_the_right_rate)
{
    struct board *b = pit_new();
    program(b, 0, 2, 11932); /* 100 Hz */
    unsigned before = b->rises[0];
    board_run(b, 10000000000ull);
    cr_assert_eq(b->rises[0] - before, (I8254_HZ * 10 - 1) / 11932);
    cr_assert_leq(latch(b, 0), 11932);
    board_free(b);
}

Test(i8254, mode2_counts_down_and_reloads_late)
{
    struct board *b = pit_new();
    program(b, 0, 2, 100);
    to_clock(b, 11);
    cr_assert_eq(latch(b, 0), 90);
    out(b, 0x40, 50), out(b, 0x40, 0);
    cr_assert_eq(status(b, 0) & 0x40, 0x40, "null count until the period ends");
    to_clock(b, 100);
    cr_assert_eq(latch(b, 0), 1);
    to_clock(b, 102);
    cr_assert_eq(latch(b, 0), 49);
    cr_assert_eq(status(b, 0) & 0x40, 0);
    board_free(b);
}

Test(i8254, mode3_is_a_square)
{
    struct board *b = pit_new();
    program(b, 0, 3, 10);
    to_clock(b, 1);
    cr_assert(b->level[0]);
    to_clock(b, 3);
    cr_assert_eq(latch(b, 0), 6, "counts by two");
    to_clock(b, 6);
    cr_assert(!b->level[0]);
    to_clock(b, 11);
    cr_assert(b->level[0]);
    unsigned before = b->rises[0];
    to_clock(b, 111);
    cr_assert_eq(b->rises[0] - before, 10);
    board_free(b);
}

Test(i8254, mode4_strobes)
{
    struct board *b = pit_new();
    program(b, 0, 4, 20);
    cr_assert(b->level[0]);
    to_clock(b, 21);
    cr_assert(!b->level[0]);
    to_clock(b, 22);
    cr_assert(b->level[0]);
    board_free(b);
}

Test(i8254, mode1_is_triggered_by_the_gate)
{
    struct board *b = pit_new();
    out(b, 0x61, 0);
    program(b, 2, 1, 100);
    cr_assert_eq(in(b, 0x61) & 0x20, 0x20, "high before the trigger");
    out(b, 0x61, 1);
    to_clock(b, 50);
    cr_assert_eq(in(b, 0x61) & 0x20, 0);
    to_clock(b, 102);
    cr_assert_eq(in(b, 0x61) & 0x20, 0x20);
    out(b, 0x61, 0), out(b, 0x61, 1);
    to_clock(b, 110);
    cr_assert_eq(in(b, 0x61) & 0x20, 0, "triggered again");
    board_free(b);
}

Test(i8254, mode5_strobes_after_its_trigger)
{
    struct board *b = pit_new();
    out(b, 0x61, 0);
    program(b, 2, 5, 30);
    out(b, 0x61, 1);
    to_clock(b, 30);
    cr_assert_eq(in(b, 0x61) & 0x20, 0x20);
    to_clock(b, 31);
    cr_assert_eq(in(b, 0x61) & 0x20, 0);
    to_clock(b, 32);
    cr_assert_eq(in(b, 0x61) & 0x20, 0x20);
    board_free(b);
}

/* How Linux measures its TSC: counter 2 in mode 0, gate by port 61h, until OUT2 is high. */
Test(i8254, calibration_by_counter_2)
{
    struct board *b = pit_new();
    out(b, 0x61, (in(b, 0x61) & ~2u) | 1);
    program(b, 2, 0, 11932);
    uint64_t start = b->clock.now;
    while (!(in(b, 0x61) & 0x20))
        board_run(b, 100);
    cr_assert_leq(b->clock.now - start, 10002000);
    cr_assert_geq(b->clock.now - start, 9999000);
    board_free(b);
}

Test(i8254, gate_holds_mode0)
{
    struct board *b = pit_new();
    out(b, 0x61, 1);
    program(b, 2, 0, 1000);
    to_clock(b, 101);
    out(b, 0x61, 0);
    to_clock(b, 5000);
    cr_assert_eq(latch(b, 2), 900);
    out(b, 0x61, 1);
    to_clock(b, 5100);
    cr_assert_eq(latch(b, 2), 800);
    board_free(b);
}

Test(i8254, bcd_single_bytes_and_latch)
{
    struct board *b = pit_new();
    out(b, 0x43, 0x31 | 2 << 1); /* counter 0, BCD, mode 2 */
    out(b, 0x40, 0x00), out(b, 0x40, 0x10);
    to_clock(b, 11);
    cr_assert_eq(latch(b, 0), 0x990);
    out(b, 0x43, 0x10 | 2 << 1); /* low byte only */
    out(b, 0x40, 200);
    to_clock(b, 21);
    out(b, 0x43, 0x00);
    unsigned v = in(b, 0x40);
    to_clock(b, 31);
    cr_assert_eq(in(b, 0x40), v - 10, "one byte unlatches");
    cr_assert_eq(status(b, 0) & 0x3f, 0x14);
    board_free(b);
}

Test(i8254, state)
{
    struct board *b = pit_new();
    static struct board_bytes s;
    COVERED(i8254_state);
    program(b, 0, 2, 5000);
    board_run(b, 1234567);
    SAVE(i8254_state, &pit, s);
    uint64_t deadline = pit.timer.deadline;
    i8254_reset(&pit);
    LOAD(i8254_state, &pit, s);
    cr_assert_eq(b->clock.next, deadline);
    board_free(b);
}
