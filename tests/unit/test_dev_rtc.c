/*
 * tests/unit/test_dev_rtc.c -- MC146818: time, formats, alarm, periodic and update-ended interrupts, CMOS.
 */
#include "tests/unit/dev_board.h"

#include "devices/rtc.h"

static struct rtc rtc;

#define START  951782399ll /* 2000-02-28 23:59:59 UTC, a Monday */
#define SECOND 1000000000ull

static struct board *rtc_new(void)
{
    struct board *b = board_new(0);
    OK(rtc_init(&rtc, &b->bus, &b->clock, START, board_irq(b, 8), &b->error));
    return b;
}

static unsigned get(struct board *b, unsigned i)
{
    out(b, 0x70, i);
    return in(b, 0x71);
}

static void put(struct board *b, unsigned i, unsigned v)
{
    out(b, 0x70, i), out(b, 0x71, v);
}

static void is_time(struct board *b, const unsigned want[8])
{
    static const uint8_t regs[8] = {0x32, 9, 8, 7, 4, 2, 0, 6};
    for (unsigned i = 0; i < 8; i++)
        cr_assert_eq(get(b, regs[i]), want[i], "register %u is %#x, not %#x", regs[i], get(b, regs[i]),
                     want[i]);
}

Test(rtc, time_and_leap_day)
{
    struct board *b = rtc_new();
    is_time(b, (unsigned[]){0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59, 2});
    board_run(b, SECOND);
    is_time(b, (unsigned[]){0x20, 0x00, 0x02, 0x29, 0x00, 0x00, 0x00, 3});
    board_run(b, 86400 * SECOND);
    is_time(b, (unsigned[]){0x20, 0x00, 0x03, 0x01, 0x00, 0x00, 0x00, 4});
    board_free(b);
}

Test(rtc, formats)
{
    struct board *b = rtc_new();
    put(b, 0x0b, 0x06); /* binary, 24 hours */
    cr_assert_eq(get(b, 4), 23);
    cr_assert_eq(get(b, 0), 59);
    put(b, 0x0b, 0x00); /* BCD, 12 hours */
    cr_assert_eq(get(b, 4), 0x91, "11 p.m.");
    board_run(b, SECOND);
    cr_assert_eq(get(b, 4), 0x12, "midnight is 12 a.m.");
    board_free(b);
}

Test(rtc, setting_the_time)
{
    struct board *b = rtc_new();
    put(b, 0x0b, 0x82);
    put(b, 0x32, 0x20), put(b, 9, 0x31), put(b, 8, 0x12), put(b, 7, 0x31), put(b, 4, 0x23), put(b, 2, 0x59),
        put(b, 0, 0x58);
    board_run(b, 5 * SECOND);
    cr_assert_eq(get(b, 0), 0x58, "stopped by SET");
    put(b, 0x0b, 0x02);
    board_run(b, 2 * SECOND);
    is_time(b, (unsigned[]){0x20, 0x32, 0x01, 0x01, 0x00, 0x00, 0x00, 5});
    board_free(b);
}

Test(rtc, update_in_progress)
{
    struct board *b = rtc_new();
    cr_assert_eq(get(b, 0x0a), 0x26);
    board_run(b, SECOND - 200000);
    cr_assert_eq(get(b, 0x0a), 0xa6);
    board_run(b, 200000);
    cr_assert_eq(get(b, 0x0a), 0x26);
    board_free(b);
}

Test(rtc, update_ended_and_alarm)
{
    struct board *b = rtc_new();
    put(b, 1, 0x03), put(b, 3, 0xc0), put(b, 5, 0xff); /* at second 3 of every minute */
    put(b, 0x0b, 0x22);
    board_run(b, 3 * SECOND + SECOND / 2);
    cr_assert(!b->level[8]);
    board_run(b, SECOND);
    cr_assert(b->level[8]);
    unsigned flags = get(b, 0x0c) & ~0x40u; /* PF comes at the rate of register A, whoever waits */
    cr_assert_eq(flags, 0xb0, "alarm and update, not %#x", flags);
    cr_assert(!b->level[8]);
    cr_assert_eq(get(b, 0x0c), 0);
    put(b, 0x0b, 0x12);
    board_run(b, SECOND);
    cr_assert(b->level[8]);
    cr_assert_eq(get(b, 0x0c) & ~0x40u, 0x90);
    put(b, 0x0b, 0x02);
    board_run(b, SECOND);
    cr_assert_eq(b->clock.next, CLOCK_NEVER, "nobody waits, nothing runs");
    cr_assert_eq(get(b, 0x0c), 0x50, "and still the flag is right, without IRQF");
    board_free(b);
}

Test(rtc, periodic)
{
    struct board *b = rtc_new();
    unsigned n = 0;
    put(b, 0x0a, 0x26), put(b, 0x0b, 0x42); /* 1024 Hz */
    for (unsigned i = 0; i < 10000; i++) {
        board_run(b, 100000);
        if (b->level[8]) {
            cr_assert_eq(get(b, 0x0c) & 0xc0, 0xc0);
            n++;
        }
    }
    cr_assert_geq(n, 1023);
    cr_assert_leq(n, 1024);
    board_free(b);
}

Test(rtc, cmos)
{
    struct board *b = rtc_new();
    rtc_set_memory(&rtc, 0x80000000, 0x40000000);
    cr_assert_eq(get(b, 0x15) | get(b, 0x16) << 8, 640);
    cr_assert_eq(get(b, 0x34) | get(b, 0x35) << 8, (0x80000000 - 0x1000000) >> 16);
    cr_assert_eq(get(b, 0x5b) | get(b, 0x5c) << 8 | get(b, 0x5d) << 16, 0x4000);
    out(b, 0x72, 0x10), out(b, 0x73, 0xab);
    put(b, 0x10, 0xcd);
    out(b, 0x72, 0x10);
    cr_assert_eq(in(b, 0x73), 0xab, "the upper bank is another memory");
    cr_assert_eq(get(b, 0x0d), 0x80);
    board_free(b);
}

Test(rtc, hostile_values)
{
    struct board *b = rtc_new();
    for (unsigned i = 0; i < 4096; i++) {
        put(b, (i * 37) % 64, (i * 151 + 13) & 0xff);
        board_run(b, 12345678);
        get(b, i % 64);
    }
    COVERED(rtc_state);
    board_free(b);
}
