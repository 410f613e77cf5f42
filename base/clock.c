/*
 * base/clock.c -- a binary heap of timers, ordered by deadline and then by timer id.
 *
 * The order (deadline, id) is total, so which timer runs next never depends on the shape of the heap. That
 * shape may differ between a run and one that was loaded from a snapshot.
 */
#include "base/clock.h"

#include "base/error.h"

#include <string.h>

static bool timer_before(const struct timer *a, const struct timer *b)
{
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->id < b->id;
}

static void heap_put(struct clock *c, uint32_t i, struct timer *t)
{
    c->heap[i] = t;
    t->heap_index = (int32_t)i;
}

static void heap_up(struct clock *c, uint32_t i)
{
    struct timer *t = c->heap[i];
    while (i > 0) {
        uint32_t parent = (i - 1) / 2;
        if (!timer_before(t, c->heap[parent]))
            break;
        heap_put(c, i, c->heap[parent]);
        i = parent;
    }
    heap_put(c, i, t);
}

static void heap_down(struct clock *c, uint32_t i)
{
    struct timer *t = c->heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= c->heap_count)
            break;
        if (child + 1 < c->heap_count && timer_before(c->heap[child + 1], c->heap[child]))
            child++;
        if (!timer_before(c->heap[child], t))
            break;
        heap_put(c, i, c->heap[child]);
        i = child;
    }
    heap_put(c, i, t);
}

static void clock_update_next(struct clock *c)
{
    c->next = c->heap_count ? c->heap[0]->deadline : CLOCK_NEVER;
}

static void heap_remove(struct clock *c, struct timer *t)
{
    uint32_t i = (uint32_t)t->heap_index;
    struct timer *last = c->heap[--c->heap_count];
    c->heap[c->heap_count] = NULL;
    if (last != t) {
        heap_put(c, i, last);
        heap_up(c, i);
        heap_down(c, (uint32_t)last->heap_index);
    }
    t->heap_index = -1;
    t->deadline = CLOCK_NEVER;
}

void clock_init(struct clock *c)
{
    memset(c, 0, sizeof(*c));
    c->next = CLOCK_NEVER;
}

void clock_add_timer(struct clock *c, struct timer *t, const char *name, timer_fn *fn, void *owner)
{
    uint32_t id = 0;
    /* The lowest free id, so that plugging a device in again gives its timer the same place in the order. */
    while (id < c->timer_count && c->timers[id])
        id++;
    require(id < CLOCK_TIMERS_MAX, "no room for timer %s", name);
    if (id == c->timer_count)
        c->timer_count++;
    c->timers[id] = t;
    t->deadline = CLOCK_NEVER;
    t->id = id;
    t->heap_index = -1;
    t->fn = fn;
    t->owner = owner;
    t->name = name;
}

void clock_arm(struct clock *c, struct timer *t, uint64_t deadline)
{
    if (deadline == CLOCK_NEVER) {
        clock_disarm(c, t);
        return;
    }
    t->deadline = deadline;
    if (t->heap_index < 0)
        heap_put(c, c->heap_count++, t);
    heap_up(c, (uint32_t)t->heap_index);
    heap_down(c, (uint32_t)t->heap_index);
    clock_update_next(c);
}

void clock_disarm(struct clock *c, struct timer *t)
{
    t->deadline = CLOCK_NEVER;
    if (t->heap_index < 0)
        return;
    heap_remove(c, t);
    clock_update_next(c);
}

void clock_run(struct clock *c)
{
    /*
     * A callback may re-arm its own timer at or before now. It then runs again in this call, after the others
     * that are due, but a guest that programs a period of nothing must not hold the host here for ever.
     */
    for (uint32_t budget = 16 * CLOCK_TIMERS_MAX; c->next <= c->now && budget; budget--) {
        struct timer *t = c->heap[0];
        heap_remove(c, t);
        clock_update_next(c);
        t->fn(t->owner);
    }
}

void clock_rebuild(struct clock *c)
{
    memset(c->heap, 0, sizeof(c->heap));
    c->heap_count = 0;
    for (uint32_t i = 0; i < c->timer_count; i++) {
        struct timer *t = c->timers[i];
        if (!t)
            continue;
        t->heap_index = -1;
        if (t->deadline != CLOCK_NEVER) {
            heap_put(c, c->heap_count++, t);
            heap_up(c, (uint32_t)t->heap_index);
        }
    }
    clock_update_next(c);
}

void clock_remove_timer(struct clock *c, struct timer *t)
{
    clock_disarm(c, t);
    if (t->id < c->timer_count && c->timers[t->id] == t) {
        c->timers[t->id] = NULL;
        while (c->timer_count && !c->timers[c->timer_count - 1])
            c->timer_count--;
    }
}
