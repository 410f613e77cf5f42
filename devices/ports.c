/*
 * devices/ports.c -- the board's one-register devices: 80h, 92h, E9h, CF9h and isa-debug-exit.
 *
 * Reference: Intel I/O Controller Hub 9 data sheet, "Reset Control Register", "PORT92".
 * Tests: tests/unit/test_dev_ports.c
 */
#include "devices/ports.h"

/* -- Port 92h ------------------------------------------------------------------------------------------ */

static uint64_t port92_read(void *owner, uint64_t offset, unsigned size)
{
    struct port92 *p = owner;
    (void)offset, (void)size;
    return p->value;
}

static void port92_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct port92 *p = owner;
    (void)offset, (void)size;
    bool reset = (value & ~p->value) & 1; /* a rising edge of INIT_NOW */
    p->value = value & 3;
    if (p->a20 && p->a20->set)
        p->a20->set(p->a20->owner, value & 2);
    if (reset)
        power_request(p->power, POWER_RESET, 0);
}

bool port92_init(struct port92 *p, struct bus *bus, const struct power *power, const struct a20_line *a20,
                 struct error *e)
{
    static const struct bus_ops ops = {port92_read, port92_write, 1};
    *p = (struct port92){.power = power, .a20 = a20};
    port92_reset(p);
    return device_add_pio(bus, 0x92, 1, &ops, p, "port92", e);
}

void port92_reset(struct port92 *p)
{
    p->value = 2; /* firmware leaves A20 open */
}

static const struct state_field port92_fields[] = {
    STATE(struct port92, value),
    STATE_SKIP(struct port92, power, "wiring"),
    STATE_SKIP(struct port92, a20, "wiring"),
};
const struct state_desc port92_state = STATE_DESC("port92", struct port92, 1, port92_fields, NULL);

/* -- Port CF9h ----------------------------------------------------------------------------------------- */

uint8_t portcf9_read(const struct portcf9 *p)
{
    return p->value;
}

void portcf9_write(struct portcf9 *p, uint8_t value)
{
    bool reset = (value & ~p->value) & 4;
    p->value = value & 0x0e;
    if (reset)
        power_request(p->power, POWER_RESET, 0);
}

void portcf9_init(struct portcf9 *p, const struct power *power)
{
    *p = (struct portcf9){.power = power};
}

void portcf9_reset(struct portcf9 *p)
{
    p->value = 0;
}

static const struct state_field portcf9_fields[] = {
    STATE(struct portcf9, value),
    STATE_SKIP(struct portcf9, power, "wiring"),
};
const struct state_desc portcf9_state = STATE_DESC("portcf9", struct portcf9, 1, portcf9_fields, NULL);

/* -- Port 80h ------------------------------------------------------------------------------------------ */

static uint64_t port80_read(void *owner, uint64_t offset, unsigned size)
{
    struct port80 *p = owner;
    (void)offset, (void)size;
    return p->value;
}

static void port80_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct port80 *p = owner;
    (void)offset, (void)size;
    p->value = (uint8_t)value;
    p->count++;
}

bool port80_init(struct port80 *p, struct bus *bus, struct error *e)
{
    static const struct bus_ops ops = {port80_read, port80_write, 1};
    *p = (struct port80){0};
    return device_add_pio(bus, 0x80, 1, &ops, p, "post", e);
}

void port80_reset(struct port80 *p)
{
    p->value = 0;
}

static const struct state_field port80_fields[] = {
    STATE(struct port80, value),
    STATE(struct port80, count),
};
const struct state_desc port80_state = STATE_DESC("port80", struct port80, 1, port80_fields, NULL);

/* -- isa-debug-exit ------------------------------------------------------------------------------------ */

static uint64_t debugexit_read(void *owner, uint64_t offset, unsigned size)
{
    (void)owner, (void)offset, (void)size;
    return 0;
}

static void debugexit_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct debugexit *d = owner;
    (void)size;
    if (offset == 0)
        power_request(d->power, POWER_EXIT, (int)((uint32_t)value << 1 | 1));
}

bool debugexit_init(struct debugexit *d, struct bus *bus, uint16_t iobase, uint32_t iosize,
                    const struct power *power, struct error *e)
{
    static const struct bus_ops ops = {debugexit_read, debugexit_write, 4};
    *d = (struct debugexit){.power = power};
    if (iosize == 0 || iobase + iosize > 0x10000)
        return error_set(e, "isa-debug-exit: ports %#x to %#x do not exist", iobase, iobase + iosize);
    return device_add_pio(bus, iobase, iosize, &ops, d, "isa-debug-exit", e);
}

/* -- Port E9h ------------------------------------------------------------------------------------------ */

static uint64_t debugcon_read(void *owner, uint64_t offset, unsigned size)
{
    (void)owner, (void)offset, (void)size;
    return 0xe9;
}

static void debugcon_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct debugcon *d = owner;
    uint8_t byte = (uint8_t)value;
    (void)offset, (void)size;
    if (d->out && d->out->write)
        d->out->write(d->out->owner, &byte, 1);
}

bool debugcon_init(struct debugcon *d, struct bus *bus, uint16_t iobase, const struct chardev *out,
                   struct error *e)
{
    static const struct bus_ops ops = {debugcon_read, debugcon_write, 1};
    *d = (struct debugcon){.out = out};
    return device_add_pio(bus, iobase, 1, &ops, d, "debugcon", e);
}
