/*
 * base/clock.h -- virtual time: one count for the whole machine, and the heap of timers on it.
 *
 * Time is a count of instructions (1 tick = 1 ns = 1 instruction) plus what idle processors skipped.
 * The processor that runs writes `now` before anything that can see time; timers run between slices of
 * execution, exactly at their deadline. Equal deadlines run in order of timer id, so the order does not
 * depend on when a timer was armed and survives saving and loading.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/types.h"

#define CLOCK_HZ         1000000000ull /* ticks of virtual time a second; also the TSC frequency */
#define CLOCK_NEVER      UINT64_MAX
#define CLOCK_NOW_MAX    (UINT64_MAX / 4) /* 146 years: sums of ticks below it do not overflow */
#define CLOCK_TIMERS_MAX 256

typedef void timer_fn(void *owner);

struct timer {
    uint64_t deadline;  /* absolute tick, CLOCK_NEVER when idle */
    uint32_t id;        /* order of registration, the tie-break */
    int32_t heap_index; /* -1 when idle */
    timer_fn *fn;
    void *owner;
    const char *name;
};

struct clock {
    uint64_t now;  /* ticks since power on */
    uint64_t next; /* deadline of the nearest timer or CLOCK_NEVER */
    uint32_t timer_count;
    uint32_t heap_count;
    struct timer *timers[CLOCK_TIMERS_MAX]; /* by id */
    struct timer *heap[CLOCK_TIMERS_MAX];
};

void clock_init(struct clock *c);
/* Registers a timer once, in a fixed order at machine creation; it starts idle. */
void clock_add_timer(struct clock *c, struct timer *t, const char *name, timer_fn *fn, void *owner);
/* Arms (or re-arms) t at an absolute tick; a deadline in the past runs at the next opportunity. */
void clock_arm(struct clock *c, struct timer *t, uint64_t deadline);
void clock_disarm(struct clock *c, struct timer *t);
/* Runs every timer with deadline <= now, in order; callbacks may arm timers. */
void clock_run(struct clock *c);
/* Makes heap and `next` again from the timers' deadlines, after those were loaded. */
void clock_rebuild(struct clock *c);
/* Unregisters: for hot-unplugged devices and tests. */
void clock_remove_timer(struct clock *c, struct timer *t);

/* a * b / c without overflow of the product. */
static inline uint64_t clock_scale(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint64_t)((unsigned __int128)a * b / c);
}

#endif
