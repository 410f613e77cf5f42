/*
 * test_clock.c -- the timer heap: order, re-arming, removal, rebuilding after a load.
 */
#include "base/clock.h"

#include <criterion/criterion.h>
#include <stdlib.h>

struct recorder {
    struct clock *c;
    struct timer t;
    unsigned id, *log, *count;
    uint64_t period; /* re-arms itself when not 0 */
};

static void fire(void *owner)
{
    struct recorder *r = owner;
    r->log[(*r->count)++] = r->id;
    if (r->period)
        clock_arm(r->c, &r->t, r->c->now + r->period);
}

static void add(struct clock *c, struct recorder *r, unsigned id, unsigned *log, unsigned *count)
{
    *r = (struct recorder){.c = c, .id = id, .log = log, .count = count};
    clock_add_timer(c, &r->t, "test", fire, r);
}

Test(clock, equal_deadlines_run_in_order_of_id)
{
    struct clock c;
    struct recorder r[8];
    unsigned log[64], count = 0;
    clock_init(&c);
    for (unsigned i = 0; i < 8; i++)
        add(&c, &r[i], i, log, &count);
    cr_assert_eq(c.next, CLOCK_NEVER);
    for (unsigned i = 8; i-- > 0;)
        clock_arm(&c, &r[i].t, i == 5 ? 50 : 100);
    cr_assert_eq(c.next, 50);
    c.now = 99;
    clock_run(&c);
    cr_assert_eq(count, 1);
    cr_assert_eq(log[0], 5);
    c.now = 100;
    clock_run(&c);
    static const unsigned want[] = {5, 0, 1, 2, 3, 4, 6, 7};
    cr_assert_arr_eq(log, want, sizeof(want));
    cr_assert_eq(c.next, CLOCK_NEVER);
}

/* Against a plain search over all timers, which needs no heap. */
Test(clock, heap_agrees_with_a_search)
{
    struct clock c;
    struct recorder r[40];
    unsigned log[64], count;
    uint32_t seed = 12345;
    clock_init(&c);
    for (unsigned i = 0; i < 40; i++)
        add(&c, &r[i], i, log, &count);
    for (unsigned step = 0; step < 20000; step++) {
        seed = seed * 1664525 + 1013904223;
        unsigned i = (seed >> 8) % 40, what = seed >> 28;
        if (what < 9)
            clock_arm(&c, &r[i].t, c.now + (seed >> 16) % 64);
        else if (what < 12)
            clock_disarm(&c, &r[i].t);
        else if (what < 13)
            clock_rebuild(&c);
        else
            c.now += (seed >> 16) % 32;

        struct timer *first = NULL;
        for (unsigned k = 0; k < 40; k++)
            if (r[k].t.deadline != CLOCK_NEVER && (!first || r[k].t.deadline < first->deadline))
                first = &r[k].t;
        cr_assert_eq(c.next, first ? first->deadline : CLOCK_NEVER);
        cr_assert_eq(c.heap[0], first);
        if (what == 15) {
            count = 0;
            clock_run(&c);
            for (unsigned k = 0; k < 40; k++)
                cr_assert(r[k].t.deadline > c.now);
        }
    }
}

Test(clock, endless_timer_does_not_hold_the_host)
{
    struct clock c;
    struct recorder r;
    static unsigned log[100000];
    unsigned count = 0;
    clock_init(&c);
    add(&c, &r, 0, log, &count);
    c.now = 10;
    r.period = 0;
    clock_arm(&c, &r.t, 3);
    clock_run(&c);
    cr_assert_eq(count, 1);
    /* A period of "now" again and again: clock_arm with period 0 would stop, so use a deadline in the past.
     */
    r.period = (uint64_t)-5;
    clock_arm(&c, &r.t, 3);
    clock_run(&c);
    cr_assert_lt(count, 10000);
    cr_assert_leq(c.next, c.now);
}

Test(clock, removed_timer_frees_its_place)
{
    struct clock c;
    struct recorder r[3], again;
    unsigned log[8], count = 0;
    clock_init(&c);
    for (unsigned i = 0; i < 3; i++)
        add(&c, &r[i], i, log, &count);
    clock_arm(&c, &r[1].t, 1);
    clock_remove_timer(&c, &r[1].t);
    cr_assert_eq(c.next, CLOCK_NEVER);
    add(&c, &again, 9, log, &count);
    cr_assert_eq(again.t.id, 1);
    clock_remove_timer(&c, &r[2].t);
    cr_assert_eq(c.timer_count, 2);
}

Test(clock, scale_does_not_overflow)
{
    cr_assert_eq(clock_scale(UINT64_MAX, 1000, 2000), UINT64_MAX / 2);
}
