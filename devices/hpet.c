/*
 * devices/hpet.c -- High Precision Event Timer.
 *
 * Reference: IA-PC HPET specification 1.0a. Interrupt pins: 20 to 23 of the IOAPIC; with legacy replacement,
 * timer 0 is ISA line 0 and timer 1 is ISA line 8. An edge is a low and a high, and the line stays high.
 * Tests: tests/unit/test_dev_hpet.c
 */
#include "devices/hpet.h"

#include "devices/msi.h"

#include <string.h>

#define CFG_ENABLE BIT(0)
#define CFG_LEGACY BIT(1)

#define TN_LEVEL      BIT(1)
#define TN_INT_ENABLE BIT(2)
#define TN_PERIODIC   BIT(3)
#define TN_PER_CAP    BIT(4)
#define TN_SIZE_CAP   BIT(5)
#define TN_VAL_SET    BIT(6)
#define TN_32MODE     BIT(8)
#define TN_ROUTE(c)   ((unsigned)((c) >> 9 & 31))
#define TN_FSB_ENABLE BIT(14)
#define TN_FSB_CAP    BIT(15)
#define TN_ROUTES     (0x00f00000ull << 32)
#define TN_WRITABLE                                                                                          \
    (TN_LEVEL | TN_INT_ENABLE | TN_PERIODIC | TN_VAL_SET | TN_32MODE | BITS(13, 9) | TN_FSB_ENABLE)

static uint64_t hpet_counter(const struct hpet *h)
{
    if (!(h->config & CFG_ENABLE))
        return h->counter;
    return h->counter + (device_ticks(h->clock->now, HPET_HZ) - h->since);
}

/* -- Interrupts ---------------------------------------------------------------------------------------- */

static void hpet_line(struct hpet *h, const struct hpet_timer *t, bool level)
{
    const struct irq_line *l = t->line_kind == 1 ? &h->isa : &h->ioapic;
    if (t->line_kind && l->set)
        l->set(l->owner, t->line_pin, level);
}

/* Puts timer n's line where its configuration says now; a line that moves is released first. */
static void hpet_route(struct hpet *h, unsigned n)
{
    struct hpet_timer *t = &h->timers[n];
    uint8_t kind = 2, pin = (uint8_t)TN_ROUTE(t->config);
    if (t->config & TN_FSB_ENABLE)
        kind = 0;
    else if ((h->config & CFG_LEGACY) && n < 2)
        kind = 1, pin = n ? 8 : 0;
    else if (!(TN_ROUTES >> 32 >> pin & 1))
        kind = 0;
    if (kind == t->line_kind && pin == t->line_pin)
        return;
    if (t->line)
        hpet_line(h, t, false);
    t->line = false;
    t->line_kind = kind;
    t->line_pin = pin;
}

static void hpet_level_update(struct hpet *h, unsigned n)
{
    struct hpet_timer *t = &h->timers[n];
    bool level = (t->config & TN_LEVEL) && (t->config & TN_INT_ENABLE) && (h->config & CFG_ENABLE) &&
                 (h->status >> n & 1);
    if (!(t->config & TN_LEVEL) && (t->config & TN_INT_ENABLE) && t->line)
        return; /* an edge's high */
    if (level != t->line) {
        t->line = level;
        hpet_line(h, t, level);
    }
}

static void hpet_fire(struct hpet *h, unsigned n)
{
    struct hpet_timer *t = &h->timers[n];
    if (t->config & TN_LEVEL)
        h->status |= BIT(n);
    if (!(t->config & TN_INT_ENABLE))
        return;
    if (t->config & TN_FSB_ENABLE) {
        msi_deliver(h->sink, h->log, t->fsb >> 32, (uint32_t)t->fsb);
    } else if (t->config & TN_LEVEL) {
        hpet_level_update(h, n);
    } else {
        hpet_line(h, t, false);
        hpet_line(h, t, true);
        t->line = true;
    }
}

bool hpet_would_interrupt(const struct hpet *h, unsigned n, unsigned *kind, unsigned *pin)
{
    const struct hpet_timer *t = &h->timers[n];
    *kind = t->line_kind;
    *pin = t->line_pin;
    if (!(t->config & TN_INT_ENABLE))
        return false;
    return t->config & TN_FSB_ENABLE || (t->line_kind && !((t->config & TN_LEVEL) && t->line));
}

/* -- Comparators --------------------------------------------------------------------------------------- */

static uint64_t timer_mask(const struct hpet_timer *t)
{
    return t->config & TN_32MODE ? 0xffffffffull : ~0ull;
}

/* Ticks from the counter's value to timer t's next match, at least 1. */
static uint64_t timer_distance(const struct hpet *h, const struct hpet_timer *t)
{
    uint64_t d = (t->comparator - hpet_counter(h)) & timer_mask(t);
    return d ? d : timer_mask(t);
}

static void hpet_arm(struct hpet *h, unsigned n)
{
    struct hpet_timer *t = &h->timers[n];
    /* Without an interrupt or a status bit to set, a match has no effect but to advance a periodic
     * comparator. */
    if (!(h->config & CFG_ENABLE) || !(t->config & (TN_INT_ENABLE | TN_LEVEL | TN_PERIODIC))) {
        clock_disarm(h->clock, &t->timer);
        return;
    }
    uint64_t tick = device_ticks(h->clock->now, HPET_HZ), d = timer_distance(h, t);
    clock_arm(h->clock, &t->timer, d > ~0ull - tick ? CLOCK_NEVER : device_ticks_deadline(tick + d, HPET_HZ));
}

static void hpet_expire(void *owner)
{
    struct hpet_timer *t = owner;
    struct hpet *h = t->hpet;
    unsigned n = (unsigned)(t - h->timers);
    if ((t->config & TN_PERIODIC) && t->period) {
        uint64_t mask = timer_mask(t), late = (hpet_counter(h) - t->comparator) & mask;
        /* A match is exact, unless the period is shorter than the time a slice of execution takes. */
        t->comparator = (t->comparator + (late / t->period + 1) * t->period) & mask;
    }
    hpet_fire(h, n);
    hpet_arm(h, n);
}

/* -- Registers ----------------------------------------------------------------------------------------- */

static uint64_t timer_register(const struct hpet_timer *t, unsigned reg)
{
    switch (reg) {
    case 0:
        return t->config | TN_PER_CAP | TN_SIZE_CAP | TN_FSB_CAP | TN_ROUTES;
    case 1:
        return t->comparator;
    case 2:
        return t->fsb;
    default:
        return 0;
    }
}

static uint64_t hpet_register(const struct hpet *h, uint64_t offset)
{
    if (offset >= 0x100 && offset < 0x100 + 0x20 * HPET_TIMERS)
        return timer_register(&h->timers[(offset - 0x100) / 0x20], offset / 8 % 4);
    switch (offset) {
    case 0x00: /* capabilities: period, vendor, legacy replacement, 64-bit counter, last timer, revision */
        return (uint64_t)HPET_PERIOD_FS << 32 | 0x8086ull << 16 | BIT(15) | BIT(13) | (HPET_TIMERS - 1) << 8 |
               1;
    case 0x10:
        return h->config;
    case 0x20:
        return h->status;
    case 0xf0:
        return hpet_counter(h);
    default:
        return 0;
    }
}

static void hpet_write_config(struct hpet *h, uint64_t value)
{
    uint64_t old = h->config;
    value &= CFG_ENABLE | CFG_LEGACY;
    if ((old ^ value) & CFG_ENABLE) {
        h->counter = hpet_counter(h);
        h->since = device_ticks(h->clock->now, HPET_HZ);
    }
    if ((old ^ value) & CFG_LEGACY) {
        /* The two ISA lines change hands. */
        h->config = value & CFG_LEGACY ? old : value;
        if (value & CFG_LEGACY && h->isa.set) {
            h->isa.set(h->isa.owner, 0, false);
            h->isa.set(h->isa.owner, 8, false);
        }
    }
    h->config = value;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        hpet_route(h, n);
        hpet_level_update(h, n);
        hpet_arm(h, n);
    }
    if ((old & ~value) & CFG_LEGACY && h->isa.set) {
        h->isa.set(h->isa.owner, 0, h->pit_level);
        h->isa.set(h->isa.owner, 8, h->rtc_level);
    }
}

static void timer_write(struct hpet *h, unsigned n, unsigned reg, uint64_t value, uint64_t written)
{
    struct hpet_timer *t = &h->timers[n];
    switch (reg) {
    case 0:
        t->config = value & TN_WRITABLE;
        if (t->config & TN_32MODE) {
            t->comparator &= 0xffffffff;
            t->period &= 0xffffffff;
        }
        hpet_route(h, n);
        if (!(t->config & TN_LEVEL))
            h->status &= ~BIT(n);
        hpet_level_update(h, n);
        break;
    case 1:
        value &= timer_mask(t);
        /*
         * In periodic mode VAL_SET lets the next write set the comparator; a write without it sets the period
         * (specification 2.3.9.2.2). The comparator's first write also sets the period, as hardware does.
         */
        if (!(t->config & TN_PERIODIC) || (t->config & TN_VAL_SET))
            t->comparator = value;
        if (t->config & TN_PERIODIC)
            t->period = (t->period & ~written) | (value & written);
        t->config &= ~TN_VAL_SET;
        break;
    case 2:
        t->fsb = value;
        break;
    }
    hpet_arm(h, n);
}

static uint64_t hpet_read(void *owner, uint64_t offset, unsigned size)
{
    const struct hpet *h = owner;
    return hpet_register(h, offset & ~7ull) >> (offset & 7) * 8 & size_mask(size);
}

static void hpet_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct hpet *h = owner;
    unsigned shift = (unsigned)(offset & 7) * 8;
    uint64_t reg = offset & ~7ull;
    if (size < 4 || (offset & (size - 1)))
        return; /* the specification knows aligned 32-bit and 64-bit accesses only */
    uint64_t mask = size_mask(size) << shift;
    uint64_t merged = (hpet_register(h, reg) & ~mask) | (value << shift & mask);

    if (reg >= 0x100 && reg < 0x100 + 0x20 * HPET_TIMERS) {
        timer_write(h, (unsigned)(reg - 0x100) / 0x20, reg / 8 % 4, merged, mask);
        return;
    }
    switch (reg) {
    case 0x10:
        hpet_write_config(h, merged);
        break;
    case 0x20: /* write 1 to clear */
        h->status &= ~(value << shift & mask);
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            hpet_level_update(h, n);
        break;
    case 0xf0:
        h->counter = merged;
        h->since = device_ticks(h->clock->now, HPET_HZ);
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            hpet_arm(h, n);
        break;
    }
}

void hpet_legacy_irq(void *owner, unsigned n, bool level)
{
    struct hpet *h = owner;
    if (n == 0)
        h->pit_level = level;
    else
        h->rtc_level = level;
    if (!(h->config & CFG_LEGACY) && h->isa.set)
        h->isa.set(h->isa.owner, n, level);
}

void hpet_reset(struct hpet *h)
{
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        struct hpet_timer *t = &h->timers[n];
        if (t->line)
            hpet_line(h, t, false);
        clock_disarm(h->clock, &t->timer);
        t->config = 0;
        t->comparator = ~0ull;
        t->period = 0;
        t->fsb = 0;
        t->line = false;
        t->line_kind = t->line_pin = 0;
    }
    bool legacy = h->config & CFG_LEGACY;
    h->config = h->status = h->counter = h->since = 0;
    if (legacy && h->isa.set) { /* the two ISA lines go back to their owners */
        h->isa.set(h->isa.owner, 0, h->pit_level);
        h->isa.set(h->isa.owner, 8, h->rtc_level);
    }
}

bool hpet_init(struct hpet *h, struct bus *bus, uint64_t base, struct clock *clock, struct irq_line isa,
               struct irq_line ioapic, const struct intr_sink *sink, struct log *log, struct error *e)
{
    static const char *const names[HPET_TIMERS] = {"hpet0", "hpet1", "hpet2"};
    static const struct bus_ops ops = {hpet_read, hpet_write, 8};
    memset(h, 0, sizeof(*h));
    h->clock = clock;
    h->sink = sink;
    h->isa = isa;
    h->ioapic = ioapic;
    h->log = log;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        h->timers[n].hpet = h;
        clock_add_timer(clock, &h->timers[n].timer, names[n], hpet_expire, &h->timers[n]);
    }
    hpet_reset(h);
    return device_add_mmio(bus, base, 0x400, &ops, h, "hpet", e);
}

static const struct state_field hpet_timer_fields[] = {
    STATE(struct hpet_timer, config),
    STATE(struct hpet_timer, comparator),
    STATE(struct hpet_timer, period),
    STATE(struct hpet_timer, fsb),
    STATE(struct hpet_timer, line),
    STATE(struct hpet_timer, line_kind),
    STATE(struct hpet_timer, line_pin),
    STATE_SUB(struct hpet_timer, timer, timer_state),
    STATE_SKIP(struct hpet_timer, hpet, "wiring"),
};
static const struct state_desc hpet_timer_state =
    STATE_DESC("hpet_timer", struct hpet_timer, 1, hpet_timer_fields, NULL);

static bool hpet_after_load(void *s, struct error *e)
{
    struct hpet *h = s;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        const struct hpet_timer *t = &h->timers[n];
        if (t->line_kind > 2 || t->line_pin > 31)
            return error_set(e, "hpet: impossible state of timer %u", n);
        device_timer_reload(h->clock, &h->timers[n].timer);
    }
    return true;
}

static const struct state_field hpet_fields[] = {
    STATE(struct hpet, config),
    STATE(struct hpet, status),
    STATE(struct hpet, counter),
    STATE(struct hpet, since),
    STATE(struct hpet, pit_level),
    STATE(struct hpet, rtc_level),
    STATE_SUB(struct hpet, timers, hpet_timer_state),
    STATE_SKIP(struct hpet, clock, "wiring"),
    STATE_SKIP(struct hpet, sink, "wiring"),
    STATE_SKIP(struct hpet, isa, "wiring"),
    STATE_SKIP(struct hpet, ioapic, "wiring"),
    STATE_SKIP(struct hpet, log, "wiring"),
};
const struct state_desc hpet_state = STATE_DESC("hpet", struct hpet, 1, hpet_fields, hpet_after_load);
