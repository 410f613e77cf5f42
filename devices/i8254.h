/*
 * devices/i8254.h -- the 8254 timer (three counters at 1.193182 MHz) and port 61h.
 */
#ifndef DEVICES_I8254_H
#define DEVICES_I8254_H

#include "devices/device.h"

#define I8254_HZ 1193182ull

struct i8254_counter {
    uint8_t mode;   /* 0 to 5 */
    uint8_t access; /* 1 low byte, 2 high byte, 3 low then high */
    bool bcd;
    bool gate;
    bool loaded;         /* a count was written (or, modes 1 and 5, triggered): the element runs */
    bool null_count;     /* written, not yet in the counting element */
    bool write_high;     /* access 3: the next write is the high byte */
    bool read_high;      /* access 3: the next read is the high byte */
    bool latched;        /* the count is held in `latch` */
    bool status_latched; /* the status is held in `status` */
    bool pending;        /* modes 2 and 3: `reload` takes over at the end of the period */
    bool paused;         /* gate low: `start` holds the clocks already counted */
    uint8_t write_low;   /* low byte waiting for its high byte */
    uint8_t status;
    uint16_t latch;
    uint32_t count;  /* the period or count in use, 1 to 65536 */
    uint32_t reload; /* the last count written, 1 to 65536; 0 none */
    uint64_t start;  /* 8254 clock at which the element had `count` */
};

struct i8254 {
    struct i8254_counter counter[3];
    bool speaker;       /* port 61h bit 1 */
    bool out0;          /* counter 0's output as last told to its line */
    struct timer timer; /* the next change of counter 0's output */
    struct clock *clock;
    struct irq_line irq;
};

bool i8254_init(struct i8254 *p, struct bus *bus, struct clock *clock, struct irq_line irq0, struct error *e);
void i8254_reset(struct i8254 *p);
extern const struct state_desc i8254_state;

#endif
