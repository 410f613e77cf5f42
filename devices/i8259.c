/*
 * devices/i8259.c -- the pair of 8259A interrupt controllers.
 *
 * Reference: Intel 8259A data sheet; Intel ICH9 data sheet, "8259 Interrupt Controllers" (ELCR, no 8080
 * mode). Reset state: what firmware leaves (vectors 08h and 70h, all masked), since kernels start without
 * firmware. Departure: the buffered-mode bits of ICW4 are kept and have no effect. Tests:
 * tests/unit/test_dev_i8259.c
 */
#include "devices/i8259.h"

#include <string.h>

#define NO_REQUEST 8
#define ICW4_AEOI  0x02
#define ICW4_SFNM  0x10

/* The input to be acknowledged next, or NO_REQUEST. */
static unsigned chip_request(const struct i8259_chip *c)
{
    uint8_t requests = c->irr & ~c->imr;
    uint8_t blocking = c->special_mask ? c->isr & ~c->imr : c->isr;

    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (c->priority + i) & 7;
        bool in_service = blocking >> n & 1;
        /* Special fully nested mode lets the slave's higher inputs interrupt its lower ones. */
        bool nested = !c->slave && (c->icw4 & ICW4_SFNM) && n == 2;
        if ((requests >> n & 1) && (!in_service || nested))
            return n;
        if (in_service)
            return NO_REQUEST;
    }
    return NO_REQUEST;
}

static void chip_line(struct i8259_chip *c, unsigned n, bool level)
{
    uint8_t bit = (uint8_t)(1u << n);
    bool was = c->lines & bit;
    c->lines = level ? c->lines | bit : c->lines & ~bit;
    if (!level) /* a request must stay until it is acknowledged, else it is spurious */
        c->irr &= ~bit;
    else if ((c->elcr & bit) || !was)
        c->irr |= bit;
}

static void chip_acknowledge(struct i8259_chip *c, unsigned n)
{
    uint8_t bit = (uint8_t)(1u << n);
    if (!(c->elcr & bit))
        c->irr &= ~bit;
    if (c->icw4 & ICW4_AEOI) {
        if (c->rotate_aeoi)
            c->priority = (n + 1) & 7;
    } else {
        c->isr |= bit;
    }
}

static void i8259_update(struct i8259 *p)
{
    struct i8259_chip *m = &p->chip[0];
    chip_line(m, 2, chip_request(&p->chip[1]) != NO_REQUEST);
    bool intr = chip_request(m) != NO_REQUEST;
    if (intr == p->intr)
        return;
    p->intr = intr;
    if (p->sink && p->sink->set_intr)
        p->sink->set_intr(p->sink->owner, intr);
}

void i8259_set_irq(void *owner, unsigned n, bool level)
{
    struct i8259 *p = owner;
    if (n == 2 || n > 15)
        return;
    chip_line(&p->chip[n >> 3], n & 7, level);
    i8259_update(p);
}

uint8_t i8259_acknowledge(void *owner)
{
    struct i8259 *p = owner;
    struct i8259_chip *m = &p->chip[0], *s = &p->chip[1];
    unsigned n = chip_request(m);
    uint8_t vector;

    if (n == NO_REQUEST) {
        vector = m->icw2 | 7;
    } else if (n != 2) {
        chip_acknowledge(m, n);
        vector = m->icw2 | (uint8_t)n;
    } else {
        unsigned k = chip_request(s);
        chip_acknowledge(m, 2);
        vector = s->icw2 | 7;
        if (k != NO_REQUEST) {
            chip_acknowledge(s, k);
            vector = s->icw2 | (uint8_t)k;
        }
    }
    /* The cascade input is an edge of its own for each of the slave's requests. */
    chip_line(m, 2, false);
    i8259_update(p);
    return vector;
}

bool i8259_would_request(const struct i8259 *p, unsigned n)
{
    struct i8259_chip chip = p->chip[n >> 3 & 1], master = p->chip[0];
    chip.irr |= (uint8_t)(1u << (n & 7));
    if (n < 8 || chip_request(&chip) == NO_REQUEST)
        return chip_request(&chip) != NO_REQUEST;
    master.irr |= 1 << 2;
    return chip_request(&master) != NO_REQUEST;
}

/* -- Registers ----------------------------------------------------------------------------------------- */

static void chip_icw1(struct i8259_chip *c, uint8_t value)
{
    c->icw1 = value;
    c->init_step = 2;
    c->imr = 0;
    c->isr = 0;
    c->irr = c->lines & c->elcr; /* edge sense starts anew: a line that is high needs a new rise */
    c->priority = 0;
    c->special_mask = c->read_isr = c->poll = c->rotate_aeoi = false;
    if (!(value & 1))
        c->icw4 = 0;
}

/* The input in service with the highest priority, or NO_REQUEST. */
static unsigned chip_in_service(const struct i8259_chip *c)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (c->priority + i) & 7;
        /* In special mask mode a masked input in service is not what the non-specific EOI means. */
        if ((c->isr >> n & 1) && !(c->special_mask && (c->imr >> n & 1)))
            return n;
    }
    return NO_REQUEST;
}

static void chip_ocw2(struct i8259_chip *c, uint8_t value)
{
    unsigned n = value & 7;
    switch (value >> 5) {
    case 0: /* rotate in automatic EOI: clear */
    case 4: /* rotate in automatic EOI: set */
        c->rotate_aeoi = value >> 7;
        break;
    case 1: /* non-specific EOI */
    case 5: /* rotate on non-specific EOI */
        n = chip_in_service(c);
        if (n == NO_REQUEST)
            break;
        c->isr &= ~(1u << n);
        if (value & 0x80)
            c->priority = (n + 1) & 7;
        break;
    case 3: /* specific EOI */
        c->isr &= ~(1u << n);
        break;
    case 6: /* set priority */
        c->priority = (n + 1) & 7;
        break;
    case 7: /* rotate on specific EOI */
        c->isr &= ~(1u << n);
        c->priority = (n + 1) & 7;
        break;
    }
}

static void chip_ocw3(struct i8259_chip *c, uint8_t value)
{
    if (value & 0x40)
        c->special_mask = value & 0x20;
    if (value & 0x04)
        c->poll = true;
    else if (value & 0x02)
        c->read_isr = value & 0x01;
}

static void chip_data(struct i8259_chip *c, uint8_t value)
{
    switch (c->init_step) {
    case 2:
        c->icw2 = value & 0xf8;
        c->init_step = c->icw1 & 2 ? (c->icw1 & 1 ? 4 : 0) : 3;
        break;
    case 3:
        c->icw3 = value;
        c->init_step = c->icw1 & 1 ? 4 : 0;
        break;
    case 4:
        c->icw4 = value;
        c->init_step = 0;
        break;
    default:
        c->imr = value;
    }
}

static struct i8259_chip *chip_of(struct i8259 *p, uint64_t offset)
{
    return &p->chip[offset >> 7 & 1];
}

static uint64_t i8259_read(void *owner, uint64_t offset, unsigned size)
{
    struct i8259 *p = owner;
    struct i8259_chip *c = chip_of(p, offset);
    uint8_t value;
    (void)size;

    if (c->poll) {
        unsigned n = chip_request(c);
        c->poll = false;
        if (n == NO_REQUEST)
            return 7;
        chip_acknowledge(c, n);
        if (!c->slave && n == 2)
            chip_line(c, 2, false);
        i8259_update(p);
        return 0x80 | n;
    }
    if (offset & 1)
        value = c->imr;
    else
        value = c->read_isr ? c->isr : c->irr;
    return value;
}

static void i8259_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8259 *p = owner;
    struct i8259_chip *c = chip_of(p, offset);
    uint8_t v = (uint8_t)value;
    (void)size;

    if (offset & 1)
        chip_data(c, v);
    else if (v & 0x10)
        chip_icw1(c, v);
    else if (v & 0x08)
        chip_ocw3(c, v);
    else
        chip_ocw2(c, v);
    i8259_update(p);
}

/* Both chips as one owner: the slave's region is told apart by bit 7 of the offset. */
static uint64_t slave_read(void *owner, uint64_t offset, unsigned size)
{
    return i8259_read(owner, offset | 0x80, size);
}

static void slave_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    i8259_write(owner, offset | 0x80, size, value);
}

static uint64_t elcr_read(void *owner, uint64_t offset, unsigned size)
{
    struct i8259 *p = owner;
    (void)size;
    return p->chip[offset & 1].elcr;
}

static void elcr_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8259 *p = owner;
    struct i8259_chip *c = &p->chip[offset & 1];
    (void)size;
    /* Lines 0, 1, 2, 8 and 13 are edge-triggered for ever. */
    c->elcr = (uint8_t)value & (offset & 1 ? 0xde : 0xf8);
    c->irr = (c->irr & ~c->elcr) | (c->lines & c->elcr);
    i8259_update(p);
}

void i8259_reset(struct i8259 *p)
{
    for (unsigned i = 0; i < 2; i++) {
        struct i8259_chip *c = &p->chip[i];
        uint8_t lines = c->lines;
        memset(c, 0, sizeof(*c));
        c->lines = lines;
        c->slave = i;
        c->imr = 0xff;
        c->icw1 = 0x11;
        c->icw2 = i ? 0x70 : 0x08;
        c->icw3 = i ? 2 : 4;
        c->icw4 = 1;
        c->elcr = i ? 0x0e : 0; /* 9 is the SCI, 10 and 11 are PCI's */
    }
    i8259_update(p);
}

bool i8259_init(struct i8259 *p, struct bus *bus, const struct intr_sink *sink, struct error *e)
{
    static const struct bus_ops master_ops = {i8259_read, i8259_write, 1};
    static const struct bus_ops slave_ops = {slave_read, slave_write, 1};
    static const struct bus_ops elcr_ops = {elcr_read, elcr_write, 1};
    memset(p, 0, sizeof(*p));
    p->sink = sink;
    i8259_reset(p);
    return device_add_pio(bus, 0x20, 2, &master_ops, p, "i8259 master", e) &&
           device_add_pio(bus, 0xa0, 2, &slave_ops, p, "i8259 slave", e) &&
           device_add_pio(bus, 0x4d0, 2, &elcr_ops, p, "elcr", e);
}

static const struct state_field chip_fields[] = {
    STATE(struct i8259_chip, irr),          STATE(struct i8259_chip, isr),
    STATE(struct i8259_chip, imr),          STATE(struct i8259_chip, lines),
    STATE(struct i8259_chip, elcr),         STATE(struct i8259_chip, icw1),
    STATE(struct i8259_chip, icw2),         STATE(struct i8259_chip, icw3),
    STATE(struct i8259_chip, icw4),         STATE(struct i8259_chip, init_step),
    STATE(struct i8259_chip, priority),     STATE(struct i8259_chip, rotate_aeoi),
    STATE(struct i8259_chip, special_mask), STATE(struct i8259_chip, read_isr),
    STATE(struct i8259_chip, poll),         STATE(struct i8259_chip, slave),
};
static const struct state_desc chip_state = STATE_DESC("i8259_chip", struct i8259_chip, 1, chip_fields, NULL);

static bool i8259_after_load(void *s, struct error *e)
{
    struct i8259 *p = s;
    for (unsigned i = 0; i < 2; i++) {
        struct i8259_chip *c = &p->chip[i];
        if (c->priority > 7 || c->init_step > 4 || c->slave != (i == 1) || (c->icw2 & 7))
            return error_set(e, "i8259: impossible state of chip %u", i);
    }
    return true;
}

static const struct state_field i8259_fields[] = {
    STATE_SUB(struct i8259, chip, chip_state),
    STATE(struct i8259, intr),
    STATE_SKIP(struct i8259, sink, "wiring"),
};
const struct state_desc i8259_state = STATE_DESC("i8259", struct i8259, 1, i8259_fields, i8259_after_load);
