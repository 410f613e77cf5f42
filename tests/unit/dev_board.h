/*
 * tests/unit/dev_board.h -- a bus, a clock, RAM and recorders of interrupts, for the tests of single devices.
 */
#ifndef TESTS_UNIT_DEV_BOARD_H
#define TESTS_UNIT_DEV_BOARD_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "devices/device.h"
#include "devices/power.h"
#include "mmu/phys.h"

#define BOARD_MESSAGES 64

struct board {
    struct log log;
    struct clock clock;
    struct bus bus;
    struct phys phys;
    struct error error;
    struct intr_sink sink;
    struct intr_msg messages[BOARD_MESSAGES]; /* the first ones delivered */
    unsigned message_count;
    bool intr;      /* the 8259's INTR */
    bool level[64]; /* lines, and how often each rose */
    unsigned rises[64];
    struct power power;
    unsigned power_count;
    enum power_request power_last;
    int power_status;
};

static inline void board_deliver(void *owner, const struct intr_msg *m)
{
    struct board *b = owner;
    if (b->message_count < BOARD_MESSAGES)
        b->messages[b->message_count] = *m;
    b->message_count++;
}

static inline void board_intr(void *owner, bool level)
{
    ((struct board *)owner)->intr = level;
}

static inline void board_line(void *owner, unsigned n, bool level)
{
    struct board *b = owner;
    if (level && !b->level[n])
        b->rises[n]++;
    b->level[n] = level;
}

static inline void board_power(void *owner, enum power_request request, int status)
{
    struct board *b = owner;
    b->power_count++;
    b->power_last = request;
    b->power_status = status;
}

static inline struct irq_line board_irq(struct board *b, unsigned n)
{
    return (struct irq_line){b, board_line, n};
}

static inline struct board *board_new(uint64_t ram)
{
    struct board *b = calloc(1, sizeof(*b));
    log_init(&b->log, NULL, LOG_ERROR);
    clock_init(&b->clock);
    bus_init(&b->bus, &b->log);
    if (ram)
        cr_assert(phys_init(&b->phys, ram, 0xc0000000, &b->bus, &b->error), "%s", b->error.message);
    b->sink = (struct intr_sink){b, board_deliver, board_intr};
    b->power = (struct power){b, board_power};
    return b;
}

static inline void board_free(struct board *b)
{
    if (b->phys.ram)
        phys_free(&b->phys);
    free(b);
}

/* Lets virtual time pass, with every timer at its deadline. */
static inline void board_run(struct board *b, uint64_t ticks)
{
    uint64_t end = b->clock.now + ticks;
    while (b->clock.next <= end) {
        b->clock.now = MAX(b->clock.next, b->clock.now);
        clock_run(&b->clock);
    }
    b->clock.now = end;
}

static inline uint32_t in(struct board *b, uint16_t port)
{
    return bus_read_pio(&b->bus, port, 1);
}

static inline void out(struct board *b, uint16_t port, uint32_t v)
{
    bus_write_pio(&b->bus, port, 1, v);
}

static inline uint32_t rd32(struct board *b, uint64_t a)
{
    return (uint32_t)bus_read_mmio(&b->bus, a, 4);
}

static inline void wr32(struct board *b, uint64_t a, uint32_t v)
{
    bus_write_mmio(&b->bus, a, 4, v);
}

#define OK(call) cr_assert((call), "%s", b->error.message)
/* Every byte of a state struct is described or skipped with a reason. */
#define COVERED(desc)                                                                                        \
    do {                                                                                                     \
        struct state_gap gaps[8];                                                                            \
        uint32_t n = state_coverage(&(desc), gaps, 8);                                                       \
        cr_assert(n == 0, "%s: %u bytes not described, first at %u", (desc).name, n, gaps[0].offset);        \
    } while (0)

/* Save and load give the same hash; `dirty` is what happens to the device in between. */
struct board_bytes {
    uint8_t bytes[1 << 16];
    size_t size;
};

static inline void board_bytes_write(void *owner, const void *p, size_t n)
{
    struct board_bytes *w = owner;
    cr_assert(w->size + n <= sizeof(w->bytes));
    memcpy(w->bytes + w->size, p, n);
    w->size += n;
}

#define SAVE(desc, ptr, store)                                                                               \
    do {                                                                                                     \
        struct state_writer w_ = {&(store), board_bytes_write};                                              \
        (store).size = 0;                                                                                    \
        state_save(&(desc), (ptr), &w_);                                                                     \
    } while (0)
#define LOAD(desc, ptr, store)                                                                               \
    cr_assert(state_load(&(desc), (ptr), (store).bytes, (store).size, (desc).version, &b->error), "%s",      \
              b->error.message)

#endif
