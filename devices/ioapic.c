/*
 * devices/ioapic.c -- I/O APIC with 24 pins.
 *
 * Reference: Intel 82093AA data sheet; Intel ICH9 data sheet, "Advanced Programmable Interrupt Controller".
 * Polarity bits are stored and not interpreted: lines here carry "asserted", whatever the voltage.
 * Tests: tests/unit/test_dev_ioapic.c
 */
#include "devices/ioapic.h"

#include <string.h>

#define REDIR_VECTOR(r) ((uint8_t)(r))
#define REDIR_MODE(r)   ((uint8_t)((r) >> 8 & 7))
#define REDIR_LOGICAL   BIT(11)
#define REDIR_STATUS    BIT(12)
#define REDIR_IRR       BIT(14)
#define REDIR_LEVEL     BIT(15)
#define REDIR_MASK      BIT(16)
#define REDIR_WRITABLE  (BITS(63, 56) | BITS(16, 15) | BIT(13) | BITS(11, 0))

/* Only fixed and lowest-priority messages are acknowledged by an EOI. */
static bool redir_has_eoi(uint64_t r)
{
    return REDIR_MODE(r) == INTR_FIXED || REDIR_MODE(r) == INTR_LOWEST;
}

static void ioapic_send(struct ioapic *a, unsigned n)
{
    uint64_t r = a->redir[n];
    bool level = (r & REDIR_LEVEL) && redir_has_eoi(r);
    struct intr_msg m = {
        .dest = (uint32_t)(r >> 56),
        .logical = r & REDIR_LOGICAL,
        .mode = REDIR_MODE(r),
        .vector = REDIR_VECTOR(r),
        .level = level,
        .assert_ = true,
    };
    if (level)
        a->redir[n] |= REDIR_IRR;
    if (a->sink && a->sink->deliver)
        a->sink->deliver(a->sink->owner, &m);
}

/* Sends what pin n asks for now: a level that is asserted and not yet acknowledged. */
static void ioapic_service(struct ioapic *a, unsigned n)
{
    uint64_t r = a->redir[n];
    if ((r & REDIR_MASK) || (r & REDIR_IRR) || !(r & REDIR_LEVEL) || !(a->lines >> n & 1))
        return;
    if (redir_has_eoi(r) || (a->edges >> n & 1)) {
        a->edges &= ~(1u << n);
        ioapic_send(a, n);
    }
}

void ioapic_set_irq(void *owner, unsigned n, bool level)
{
    struct ioapic *a = owner;
    if (n >= IOAPIC_PINS)
        return;
    uint32_t bit = 1u << n;
    bool rise = level && !(a->lines & bit);
    a->lines = level ? a->lines | bit : a->lines & ~bit;
    if (rise && (a->redir[n] & REDIR_LEVEL))
        a->edges |= bit; /* NMI, SMI and the like programmed as level: one message a rise */
    if (a->redir[n] & REDIR_LEVEL)
        ioapic_service(a, n);
    else if (rise && !(a->redir[n] & REDIR_MASK))
        ioapic_send(a, n);
}

void ioapic_eoi(struct ioapic *a, uint8_t vector)
{
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        uint64_t r = a->redir[n];
        if (!(r & REDIR_IRR) || REDIR_VECTOR(r) != vector)
            continue;
        a->redir[n] &= ~REDIR_IRR;
        ioapic_service(a, n);
    }
}

bool ioapic_pin_open(const struct ioapic *a, unsigned n)
{
    return n < IOAPIC_PINS && !(a->redir[n] & REDIR_MASK);
}

static uint32_t ioapic_get(const struct ioapic *a)
{
    switch (a->index) {
    case 0x00:
    case 0x02: /* arbitration ID follows the ID */
        return (uint32_t)a->id << 24;
    case 0x01:
        return 0x20 | (IOAPIC_PINS - 1) << 16;
    default:
        if (a->index < 0x10 || a->index >= 0x10 + 2 * IOAPIC_PINS)
            return 0;
        return (uint32_t)(a->redir[(a->index - 0x10) / 2] >> (a->index & 1 ? 32 : 0));
    }
}

static void ioapic_put(struct ioapic *a, uint32_t value)
{
    if (a->index == 0) {
        a->id = value >> 24 & 0x0f;
        return;
    }
    if (a->index < 0x10 || a->index >= 0x10 + 2 * IOAPIC_PINS)
        return;
    unsigned n = (a->index - 0x10) / 2;
    uint64_t r = a->redir[n];
    uint64_t wanted =
        a->index & 1 ? (r & 0xffffffffull) | (uint64_t)value << 32 : (r & ~0xffffffffull) | value;
    wanted = (wanted & REDIR_WRITABLE) | (r & REDIR_IRR);
    /* Programming a pin as edge forgets what a level was waiting for; Linux's explicit EOI relies on it. */
    if (!(wanted & REDIR_LEVEL))
        wanted &= ~REDIR_IRR;
    a->redir[n] = wanted;
    ioapic_service(a, n);
}

static uint64_t ioapic_read(void *owner, uint64_t offset, unsigned size)
{
    struct ioapic *a = owner;
    (void)size;
    switch (offset & ~3ull) {
    case 0x00:
        return a->index;
    case 0x10:
        return ioapic_get(a) >> (offset & 3) * 8;
    default:
        return 0;
    }
}

static void ioapic_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *a = owner;
    if (size < 4 && offset != 0)
        return; /* the window takes 32-bit writes only */
    switch (offset) {
    case 0x00:
        a->index = (uint8_t)value;
        break;
    case 0x10:
        ioapic_put(a, (uint32_t)value);
        break;
    case 0x40:
        ioapic_eoi(a, (uint8_t)value);
        break;
    }
}

void ioapic_reset(struct ioapic *a)
{
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        a->redir[n] = REDIR_MASK;
    a->edges = 0;
    a->index = 0;
    a->id = a->default_id;
}

bool ioapic_init(struct ioapic *a, struct bus *bus, uint64_t base, uint8_t id, const struct intr_sink *sink,
                 struct log *log, struct error *e)
{
    static const struct bus_ops ops = {ioapic_read, ioapic_write, 4};
    memset(a, 0, sizeof(*a));
    a->default_id = id & 0x0f;
    a->sink = sink;
    a->log = log;
    ioapic_reset(a);
    return device_add_mmio(bus, base, 0x1000, &ops, a, "ioapic", e);
}

static const struct state_field ioapic_fields[] = {
    STATE(struct ioapic, redir),
    STATE(struct ioapic, lines),
    STATE(struct ioapic, edges),
    STATE(struct ioapic, id),
    STATE(struct ioapic, index),
    STATE_SKIP(struct ioapic, default_id, "wiring"),
    STATE_SKIP(struct ioapic, sink, "wiring"),
    STATE_SKIP(struct ioapic, log, "wiring"),
};
const struct state_desc ioapic_state = STATE_DESC("ioapic", struct ioapic, 1, ioapic_fields, NULL);
