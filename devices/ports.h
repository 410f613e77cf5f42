/*
 * devices/ports.h -- the board's one-register devices: 80h, 92h, E9h, CF9h and isa-debug-exit.
 */
#ifndef DEVICES_PORTS_H
#define DEVICES_PORTS_H

#include "devices/backend.h"
#include "devices/device.h"
#include "devices/power.h"

/* The A20 gate's wire; the processors' address mask is machine/'s business. */
struct a20_line {
    void *owner;
    void (*set)(void *owner, bool enabled);
};

/* Port 92h, "system control port A": bit 0 resets, bit 1 opens A20. */
struct port92 {
    uint8_t value;
    const struct power *power;
    const struct a20_line *a20;
};
bool port92_init(struct port92 *p, struct bus *bus, const struct power *power, const struct a20_line *a20,
                 struct error *e);
void port92_reset(struct port92 *p);
extern const struct state_desc port92_state;

/* Port CF9h, "reset control": bit 1 system reset, bit 2 go, bit 3 full power cycle. */
struct portcf9 {
    uint8_t value;
    const struct power *power;
};
/* It lies within CF8h's four ports, so the PCI bus passes byte accesses on and it has no region of its own.
 */
void portcf9_init(struct portcf9 *p, const struct power *power);
uint8_t portcf9_read(const struct portcf9 *p);
void portcf9_write(struct portcf9 *p, uint8_t value);
void portcf9_reset(struct portcf9 *p);
extern const struct state_desc portcf9_state;

/* Port 80h: POST codes, kept for the dump; Linux also writes it as a delay. */
struct port80 {
    uint8_t value;
    uint64_t count; /* writes */
};
bool port80_init(struct port80 *p, struct bus *bus, struct error *e);
void port80_reset(struct port80 *p);
extern const struct state_desc port80_state;

/* isa-debug-exit: writing v ends the program with status (v << 1) | 1. */
struct debugexit {
    const struct power *power;
};
bool debugexit_init(struct debugexit *d, struct bus *bus, uint16_t iobase, uint32_t iosize,
                    const struct power *power, struct error *e);

/* Port E9h: bytes written go to a backend, reads give E9h so that a guest can probe it. */
struct debugcon {
    const struct chardev *out;
};
bool debugcon_init(struct debugcon *d, struct bus *bus, uint16_t iobase, const struct chardev *out,
                   struct error *e);

#endif
