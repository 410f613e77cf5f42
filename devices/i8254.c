/*
 * devices/i8254.c -- the 8254 timer and port 61h (counter 2's gate and output, speaker, refresh toggle).
 *
 * Reference: Intel 8254 data sheet. A count written at clock k is in the counting element at clock k + 1.
 * All is computed from the 8254 clock that virtual time gives; only counter 0's output has a timer.
 * Tests: tests/unit/test_dev_i8254.c
 */
#include "devices/i8254.h"

#include <string.h>

static uint64_t i8254_now(const struct i8254 *p)
{
    return device_ticks(p->clock->now, I8254_HZ);
}

static uint32_t bcd_wrap(const struct i8254_counter *c)
{
    return c->bcd ? 10000 : 65536;
}

static uint16_t to_bcd(uint32_t v)
{
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

/* A register value as a count: 0 is the largest. */
static uint32_t from_register(const struct i8254_counter *c, uint16_t v)
{
    uint32_t n = v;
    if (c->bcd)
        n = (v & 15) + (v >> 4 & 15) * 10u + (v >> 8 & 15) * 100u + (v >> 12) * 1000u;
    return n == 0 ? bcd_wrap(c) : n;
}

/* Clocks counted since the element was loaded. */
static uint64_t counter_elapsed(const struct i8254_counter *c, uint64_t now)
{
    if (c->paused)
        return c->start;
    return now > c->start ? now - c->start : 0;
}

static bool counter_periodic(const struct i8254_counter *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Lets a waiting count of modes 2 and 3 take over when its period has come. */
static void counter_sync(struct i8254_counter *c, uint64_t now)
{
    if (c->loaded && now >= c->start && !c->paused)
        c->null_count = c->pending;
    if (!c->pending || c->paused || !c->loaded)
        return;
    uint64_t elapsed = counter_elapsed(c, now);
    if (elapsed < c->count)
        return;
    c->start += c->count;
    c->count = c->reload;
    c->pending = false;
    c->null_count = false;
}

static bool counter_out(const struct i8254_counter *c, uint64_t now)
{
    uint64_t elapsed = counter_elapsed(c, now);
    switch (c->mode) {
    case 0:
        return c->loaded && elapsed >= c->count;
    case 1:
        return !c->loaded || now < c->start || elapsed >= c->count;
    case 2:
        return !c->loaded || c->paused || elapsed % c->count != c->count - 1;
    case 3:
        return !c->loaded || c->paused || elapsed % c->count < (c->count + 1) / 2;
    default: /* 4 and 5: a strobe of one clock */
        return !c->loaded || elapsed != c->count;
    }
}

/* The counting element as a register reads it. */
static uint16_t counter_value(const struct i8254_counter *c, uint64_t now)
{
    uint64_t elapsed = counter_elapsed(c, now);
    uint32_t wrap = bcd_wrap(c), v;
    if (!c->loaded) {
        v = c->reload;
    } else if (c->mode == 2) {
        v = c->count - (uint32_t)(elapsed % c->count);
    } else if (c->mode == 3) { /* counts by two, twice a period */
        uint32_t phase = (uint32_t)(elapsed % c->count), half = (c->count + 1) / 2;
        v = (c->count & ~1u) - 2 * (phase < half ? phase : phase - half);
    } else {
        v = (uint32_t)((c->count + wrap - elapsed % wrap) % wrap);
    }
    v %= wrap;
    return c->bcd ? to_bcd(v) : (uint16_t)v;
}

/* Arms the timer for counter 0's next change of output, and tells the line what it is now. */
static void i8254_update(struct i8254 *p)
{
    struct i8254_counter *c = &p->counter[0];
    uint64_t now = i8254_now(p), next = CLOCK_NEVER;
    bool out = counter_out(c, now);

    if (out != p->out0) {
        p->out0 = out;
        irq_set(&p->irq, out);
    }
    if (c->loaded && !c->paused) {
        uint64_t elapsed = counter_elapsed(c, now);
        uint64_t phase = elapsed % c->count, half = (c->count + 1) / 2;
        switch (c->mode) {
        case 2: /* the one low clock is not shown on the line: i8254_expire() makes the edge */
            next = c->start + (elapsed - phase) + c->count;
            break;
        case 3:
            next = c->start + (elapsed - phase) + (phase < half && half < c->count ? half : c->count);
            break;
        case 4:
        case 5:
            next = elapsed <= c->count ? c->start + c->count + (elapsed == c->count) : CLOCK_NEVER;
            break;
        default:
            next = elapsed < c->count ? c->start + c->count : CLOCK_NEVER;
        }
    }
    clock_arm(p->clock, &p->timer, next == CLOCK_NEVER ? CLOCK_NEVER : device_ticks_deadline(next, I8254_HZ));
}

static void i8254_expire(void *owner)
{
    struct i8254 *p = owner;
    struct i8254_counter *c = &p->counter[0];
    counter_sync(c, i8254_now(p));
    if (c->mode == 2 && c->loaded && !c->paused) {
        p->out0 = true;
        irq_set(&p->irq, false);
        irq_set(&p->irq, true);
    }
    i8254_update(p);
}

/* -- Gates --------------------------------------------------------------------------------------------- */

static void counter_gate(struct i8254_counter *c, uint64_t now, bool gate)
{
    if (gate == c->gate)
        return;
    c->gate = gate;
    switch (c->mode) {
    case 1:
    case 5: /* a rising gate triggers, again and again */
        if (gate && c->reload) {
            c->count = c->reload;
            c->start = now + 1;
            c->loaded = true;
            c->null_count = false;
        }
        break;
    case 2:
    case 3: /* a low gate stops with the output high; a rising one starts a new period */
        if (!gate) {
            c->start = counter_elapsed(c, now);
            c->paused = true;
        } else {
            c->count = c->reload ? c->reload : c->count;
            c->start = now + 1;
            c->paused = false;
            c->pending = c->null_count = false;
        }
        break;
    default: /* 0 and 4: a low gate holds the count */
        if (!gate) {
            c->start = counter_elapsed(c, now);
            c->paused = true;
        } else if (c->paused) {
            c->start = now - MIN(now, c->start);
            c->paused = false;
        }
    }
}

/* -- Counter ports ------------------------------------------------------------------------------------- */

static void counter_load(struct i8254_counter *c, uint64_t now, uint16_t value)
{
    uint32_t n = from_register(c, value);
    if (counter_periodic(c) && n == 1)
        n = 2; /* the data sheet forbids 1 */
    c->reload = n;
    c->null_count = true;
    if (c->mode == 1 || c->mode == 5) {
        if (!c->count)
            c->count = n;
        return; /* waits for the gate */
    }
    if (counter_periodic(c) && c->loaded) {
        c->pending = true;
        return;
    }
    c->count = n;
    c->loaded = true;
    c->paused = !c->gate;
    c->start = c->paused ? 0 : now + 1;
}

static void counter_write(struct i8254_counter *c, uint64_t now, uint8_t value)
{
    switch (c->access) {
    case 1:
        counter_load(c, now, value);
        break;
    case 2:
        counter_load(c, now, (uint16_t)(value << 8));
        break;
    default:
        if (!c->write_high) {
            c->write_low = value;
            c->write_high = true;
            if (c->mode == 0) { /* the first byte stops the count and the output goes low */
                c->loaded = false;
                c->paused = false;
            }
        } else {
            c->write_high = false;
            counter_load(c, now, (uint16_t)(c->write_low | value << 8));
        }
    }
}

static uint8_t counter_read(struct i8254_counter *c, uint64_t now)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t v = c->latched ? c->latch : counter_value(c, now);
    switch (c->access) {
    case 1:
        c->latched = false;
        return (uint8_t)v;
    case 2:
        c->latched = false;
        return (uint8_t)(v >> 8);
    default:
        c->read_high = !c->read_high;
        if (c->read_high)
            return (uint8_t)v;
        c->latched = false;
        return (uint8_t)(v >> 8);
    }
}

static void counter_latch(struct i8254_counter *c, uint64_t now)
{
    if (c->latched)
        return; /* the first latch holds until it is read */
    c->latch = counter_value(c, now);
    c->latched = true;
}

static void counter_latch_status(struct i8254_counter *c, uint64_t now)
{
    if (c->status_latched)
        return;
    c->status =
        (uint8_t)(counter_out(c, now) << 7 | c->null_count << 6 | c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static void i8254_control(struct i8254 *p, uint8_t value)
{
    uint64_t now = i8254_now(p);
    if (value >> 6 == 3) { /* read-back: bits 5 and 4 are active low */
        for (unsigned i = 0; i < 3; i++) {
            if (!(value >> (i + 1) & 1))
                continue;
            counter_sync(&p->counter[i], now);
            if (!(value & 0x20))
                counter_latch(&p->counter[i], now);
            if (!(value & 0x10))
                counter_latch_status(&p->counter[i], now);
        }
        return;
    }
    struct i8254_counter *c = &p->counter[value >> 6];
    counter_sync(c, now);
    if (!(value & 0x30)) {
        counter_latch(c, now);
        return;
    }
    bool gate = c->gate;
    memset(c, 0, sizeof(*c));
    c->gate = gate;
    c->access = value >> 4 & 3;
    c->mode = value >> 1 & 7;
    if (c->mode > 5)
        c->mode &= 3; /* modes 2 and 3 have a bit that does not matter */
    c->bcd = value & 1;
    c->null_count = true;
}

static uint64_t i8254_read(void *owner, uint64_t offset, unsigned size)
{
    struct i8254 *p = owner;
    (void)size;
    if (offset == 3)
        return 0xff; /* write-only */
    counter_sync(&p->counter[offset], i8254_now(p));
    return counter_read(&p->counter[offset], i8254_now(p));
}

static void i8254_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8254 *p = owner;
    (void)size;
    if (offset == 3) {
        i8254_control(p, (uint8_t)value);
    } else {
        counter_sync(&p->counter[offset], i8254_now(p));
        counter_write(&p->counter[offset], i8254_now(p), (uint8_t)value);
    }
    i8254_update(p);
}

/* -- Port 61h ------------------------------------------------------------------------------------------ */

static uint64_t port61_read(void *owner, uint64_t offset, unsigned size)
{
    struct i8254 *p = owner;
    struct i8254_counter *c = &p->counter[2];
    uint64_t now = i8254_now(p);
    (void)offset, (void)size;
    counter_sync(c, now);
    /* Bit 4 toggles at each memory refresh, every 15 microseconds (18 clocks of the 8254). */
    return (uint64_t)c->gate | (uint64_t)p->speaker << 1 | (now / 18 & 1) << 4 |
           (uint64_t)counter_out(c, now) << 5;
}

static void port61_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8254 *p = owner;
    (void)offset, (void)size;
    counter_sync(&p->counter[2], i8254_now(p));
    counter_gate(&p->counter[2], i8254_now(p), value & 1);
    p->speaker = value & 2;
}

void i8254_reset(struct i8254 *p)
{
    memset(p->counter, 0, sizeof(p->counter));
    for (unsigned i = 0; i < 3; i++) {
        p->counter[i].access = 3;
        p->counter[i].gate = i != 2;
        p->counter[i].mode = 3;
        p->counter[i].null_count = true;
    }
    p->speaker = false;
    i8254_update(p);
}

bool i8254_init(struct i8254 *p, struct bus *bus, struct clock *clock, struct irq_line irq0, struct error *e)
{
    static const struct bus_ops ops = {i8254_read, i8254_write, 1};
    static const struct bus_ops port61_ops = {port61_read, port61_write, 1};
    memset(p, 0, sizeof(*p));
    p->clock = clock;
    p->irq = irq0;
    clock_add_timer(clock, &p->timer, "i8254", i8254_expire, p);
    i8254_reset(p);
    return device_add_pio(bus, 0x40, 4, &ops, p, "i8254", e) &&
           device_add_pio(bus, 0x61, 1, &port61_ops, p, "port61", e);
}

static const struct state_field counter_fields[] = {
    STATE(struct i8254_counter, mode),       STATE(struct i8254_counter, access),
    STATE(struct i8254_counter, bcd),        STATE(struct i8254_counter, gate),
    STATE(struct i8254_counter, loaded),     STATE(struct i8254_counter, null_count),
    STATE(struct i8254_counter, write_high), STATE(struct i8254_counter, read_high),
    STATE(struct i8254_counter, latched),    STATE(struct i8254_counter, status_latched),
    STATE(struct i8254_counter, pending),    STATE(struct i8254_counter, paused),
    STATE(struct i8254_counter, write_low),  STATE(struct i8254_counter, status),
    STATE(struct i8254_counter, latch),      STATE(struct i8254_counter, count),
    STATE(struct i8254_counter, reload),     STATE(struct i8254_counter, start),
};
static const struct state_desc counter_state =
    STATE_DESC("i8254_counter", struct i8254_counter, 1, counter_fields, NULL);

static bool i8254_after_load(void *s, struct error *e)
{
    struct i8254 *p = s;
    for (unsigned i = 0; i < 3; i++) {
        const struct i8254_counter *c = &p->counter[i];
        if (c->mode > 5 || c->access < 1 || c->access > 3 || c->count > 65536 || c->reload > 65536 ||
            (c->loaded && !c->count) || (c->pending && !c->reload))
            return error_set(e, "i8254: impossible state of counter %u", i);
    }
    device_timer_reload(p->clock, &p->timer);
    return true;
}

static const struct state_field i8254_fields[] = {
    STATE_SUB(struct i8254, counter, counter_state),
    STATE(struct i8254, speaker),
    STATE(struct i8254, out0),
    STATE_SUB(struct i8254, timer, timer_state),
    STATE_SKIP(struct i8254, clock, "wiring"),
    STATE_SKIP(struct i8254, irq, "wiring"),
};
const struct state_desc i8254_state = STATE_DESC("i8254", struct i8254, 1, i8254_fields, i8254_after_load);
