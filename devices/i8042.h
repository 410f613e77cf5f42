/*
 * devices/i8042.h -- the 8042 keyboard controller with a PS/2 keyboard and mouse that answer commands.
 *
 * Enough for probing, reset and the A20 gate; keys and movements come with i8042_key() when a window exists.
 */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "devices/device.h"
#include "devices/ports.h"
#include "devices/power.h"

#define I8042_QUEUE 32u

/* One of the two PS/2 ports: what the device sends, and what it waits for. */
struct ps2_port {
    uint8_t queue[I8042_QUEUE];
    uint8_t head, count;
    uint8_t command;  /* a command that waits for its data byte, 0 none */
    uint8_t scan_set; /* keyboard: 1 to 3 */
    uint8_t rate;     /* mouse: samples a second; keyboard: typematic byte */
    uint8_t resolution;
    bool enabled; /* scanning / data reporting */
    bool scaling;
};

struct i8042 {
    struct ps2_port port[2]; /* keyboard, mouse */
    uint8_t ram[32];         /* byte 0 is the command byte */
    uint8_t output;          /* output buffer */
    uint8_t status;          /* bits 0 (full), 3 (last write was a command), 5 (from the mouse) */
    uint8_t command;         /* a controller command that waits for its data byte, 0 none */
    uint8_t output_port;     /* bit 0 reset (active low), bit 1 A20 */
    bool line[2];
    const struct power *power;
    const struct a20_line *a20;
    struct irq_line irq[2]; /* ISA 1 and 12 */
};

bool i8042_init(struct i8042 *k, struct bus *bus, struct irq_line irq1, struct irq_line irq12,
                const struct power *power, const struct a20_line *a20, struct error *e);
void i8042_reset(struct i8042 *k);
/* Bytes from the keyboard (port 0) or mouse (port 1), as the device sends them; dropped when it is disabled.
 */
void i8042_input(struct i8042 *k, unsigned port, const uint8_t *bytes, size_t n);
extern const struct state_desc i8042_state;

#endif
