/*
 * devices/i8042.c -- the 8042 keyboard controller with a PS/2 keyboard and mouse.
 *
 * Reference: IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device Controller".
 * Answers are there at once; no time passes on the PS/2 wires.
 * Tests: tests/unit/test_dev_i8042.c
 */
#include "devices/i8042.h"

#include <string.h>

#define STATUS_OUT_FULL 0x01
#define STATUS_SYSTEM   0x04
#define STATUS_COMMAND  0x08
#define STATUS_UNLOCKED 0x10
#define STATUS_MOUSE    0x20

#define CMD_INT(port)     (1u << (port))    /* command byte: interrupt enable */
#define CMD_DISABLE(port) (0x10u << (port)) /* clock line held */
#define CMD_SYSTEM        0x04
#define CMD_TRANSLATE     0x40

#define OUT_RESET_N 0x01
#define OUT_A20     0x02

#define PS2_ACK    0xfa
#define PS2_RESEND 0xfe

/* -- Output buffer ------------------------------------------------------------------------------------- */

static void i8042_lines(struct i8042 *k)
{
    for (unsigned i = 0; i < 2; i++) {
        bool level = (k->status & STATUS_OUT_FULL) && (k->ram[0] & CMD_INT(i)) &&
                     !!(k->status & STATUS_MOUSE) == (i == 1);
        if (level == k->line[i])
            continue;
        k->line[i] = level;
        irq_set(&k->irq[i], level);
    }
}

/* Moves the next byte of a device into the empty output buffer. */
static void i8042_fetch(struct i8042 *k)
{
    for (unsigned i = 0; i < 2 && !(k->status & STATUS_OUT_FULL); i++) {
        struct ps2_port *p = &k->port[i];
        if (!p->count || (k->ram[0] & CMD_DISABLE(i)))
            continue;
        k->output = p->queue[p->head];
        p->head = (p->head + 1) % I8042_QUEUE;
        p->count--;
        k->status = (k->status & ~STATUS_MOUSE) | STATUS_OUT_FULL | (i ? STATUS_MOUSE : 0);
    }
    i8042_lines(k);
}

/* The controller's own answer takes the buffer; what was there is lost, as on the chip. */
static void i8042_answer(struct i8042 *k, uint8_t value, bool mouse)
{
    k->output = value;
    k->status = (k->status & ~STATUS_MOUSE) | STATUS_OUT_FULL | (mouse ? STATUS_MOUSE : 0);
    i8042_lines(k);
}

static void ps2_push(struct ps2_port *p, uint8_t byte)
{
    if (p->count < I8042_QUEUE)
        p->queue[(p->head + p->count++) % I8042_QUEUE] = byte;
}

/* -- Devices ------------------------------------------------------------------------------------------- */

static void keyboard_defaults(struct ps2_port *p)
{
    p->scan_set = 2;
    p->rate = 0x2b;
}

static void mouse_defaults(struct ps2_port *p)
{
    p->rate = 100;
    p->resolution = 2;
    p->scaling = p->enabled = false;
}

static void keyboard_data(struct ps2_port *p, uint8_t command, uint8_t v)
{
    ps2_push(p, PS2_ACK);
    switch (command) {
    case 0xf0: /* scan code set: 0 asks */
        if (v == 0)
            ps2_push(p, p->scan_set);
        else if (v <= 3)
            p->scan_set = v;
        break;
    case 0xf3:
        p->rate = v & 0x7f;
        break;
    }
}

static void keyboard_command(struct i8042 *k, struct ps2_port *p, uint8_t v)
{
    switch (v) {
    case 0xed: /* LEDs */
    case 0xf0:
    case 0xf3:
        p->command = v;
        ps2_push(p, PS2_ACK);
        break;
    case 0xee: /* echo */
        ps2_push(p, 0xee);
        break;
    case 0xf2: /* identity; translation changes the second byte's 83h to 41h */
        ps2_push(p, PS2_ACK);
        ps2_push(p, 0xab);
        ps2_push(p, k->ram[0] & CMD_TRANSLATE ? 0x41 : 0x83);
        break;
    case 0xf4:
    case 0xf5:
    case 0xf6:
        p->enabled = v != 0xf5;
        if (v != 0xf4)
            keyboard_defaults(p);
        ps2_push(p, PS2_ACK);
        break;
    case 0xff:
        p->count = p->head = 0;
        keyboard_defaults(p);
        p->enabled = true;
        ps2_push(p, PS2_ACK);
        ps2_push(p, 0xaa);
        break;
    default:
        ps2_push(p, v >= 0xf7 && v <= 0xfd ? PS2_ACK : PS2_RESEND); /* set 3's key types */
    }
}

static void mouse_command(struct ps2_port *p, uint8_t v)
{
    switch (v) {
    case 0xe8: /* resolution */
    case 0xf3: /* sample rate */
        p->command = v;
        ps2_push(p, PS2_ACK);
        break;
    case 0xe6:
    case 0xe7:
        p->scaling = v & 1;
        ps2_push(p, PS2_ACK);
        break;
    case 0xe9: /* status */
        ps2_push(p, PS2_ACK);
        ps2_push(p, (uint8_t)(p->enabled << 5 | p->scaling << 4));
        ps2_push(p, p->resolution);
        ps2_push(p, p->rate);
        break;
    case 0xea: /* stream mode */
    case 0xec:
    case 0xee:
    case 0xf0:
        ps2_push(p, PS2_ACK);
        break;
    case 0xeb: /* read data: no movement */
        ps2_push(p, PS2_ACK);
        ps2_push(p, 0x08);
        ps2_push(p, 0);
        ps2_push(p, 0);
        break;
    case 0xf2: /* identity: a standard mouse */
        ps2_push(p, PS2_ACK);
        ps2_push(p, 0x00);
        break;
    case 0xf4:
    case 0xf5:
        p->enabled = v == 0xf4;
        ps2_push(p, PS2_ACK);
        break;
    case 0xf6:
        mouse_defaults(p);
        ps2_push(p, PS2_ACK);
        break;
    case 0xff:
        p->count = p->head = 0;
        mouse_defaults(p);
        ps2_push(p, PS2_ACK);
        ps2_push(p, 0xaa);
        ps2_push(p, 0x00);
        break;
    default:
        ps2_push(p, PS2_RESEND);
    }
}

static void ps2_write(struct i8042 *k, unsigned port, uint8_t v)
{
    struct ps2_port *p = &k->port[port];
    uint8_t command = p->command;
    p->command = 0;
    if (command && v < 0xed) { /* a command byte in place of data starts over */
        if (port == 0) {
            keyboard_data(p, command, v);
        } else {
            if (command == 0xf3)
                p->rate = v;
            else
                p->resolution = v & 3;
            ps2_push(p, PS2_ACK);
        }
    } else if (port == 0) {
        keyboard_command(k, p, v);
    } else {
        mouse_command(p, v);
    }
}

void i8042_input(struct i8042 *k, unsigned port, const uint8_t *bytes, size_t n)
{
    struct ps2_port *p = &k->port[port & 1];
    if (!p->enabled || p->count + n > I8042_QUEUE)
        return;
    for (size_t i = 0; i < n; i++)
        ps2_push(p, bytes[i]);
    i8042_fetch(k);
}

/* -- Controller ---------------------------------------------------------------------------------------- */

static void i8042_set_output_port(struct i8042 *k, uint8_t v)
{
    k->output_port = v & 0xcf;
    if (k->a20 && k->a20->set)
        k->a20->set(k->a20->owner, v & OUT_A20);
    if (!(v & OUT_RESET_N))
        power_request(k->power, POWER_RESET, 0);
}

static void i8042_command(struct i8042 *k, uint8_t v)
{
    k->command = 0;
    switch (v) {
    case 0xa7: /* mouse off, on */
        k->ram[0] |= CMD_DISABLE(1);
        break;
    case 0xa8:
        k->ram[0] &= ~CMD_DISABLE(1);
        break;
    case 0xa9: /* interface tests: no error */
    case 0xab:
        i8042_answer(k, 0x00, false);
        break;
    case 0xaa: /* self-test */
        k->ram[0] |= CMD_SYSTEM;
        i8042_answer(k, 0x55, false);
        break;
    case 0xad: /* keyboard off, on */
        k->ram[0] |= CMD_DISABLE(0);
        break;
    case 0xae:
        k->ram[0] &= ~CMD_DISABLE(0);
        break;
    case 0xc0: /* input port: keyboard not inhibited */
        i8042_answer(k, 0x80, false);
        break;
    case 0xd0: /* output port; bits 4 and 5 show the two interrupts */
        i8042_answer(k, (uint8_t)(k->output_port | k->line[0] << 4 | k->line[1] << 5), false);
        break;
    case 0xd1: /* these wait for a data byte */
    case 0xd2:
    case 0xd3:
    case 0xd4:
        k->command = v;
        break;
    case 0xdd: /* A20 off, on */
        i8042_set_output_port(k, k->output_port & ~OUT_A20);
        break;
    case 0xdf:
        i8042_set_output_port(k, k->output_port | OUT_A20);
        break;
    case 0xe0: /* test inputs */
        i8042_answer(k, 0x00, false);
        break;
    default:
        if (v >= 0x20 && v <= 0x3f)
            i8042_answer(k, k->ram[v & 31], false);
        else if (v >= 0x60 && v <= 0x7f)
            k->command = v;
        else if (v >= 0xf0 && !(v & 1)) /* pulse output lines: bit 0 low is the reset line */
            power_request(k->power, POWER_RESET, 0);
    }
}

static void i8042_data(struct i8042 *k, uint8_t v)
{
    uint8_t command = k->command;
    k->command = 0;
    switch (command) {
    case 0: /* a byte for the keyboard also enables it */
        k->ram[0] &= ~CMD_DISABLE(0);
        ps2_write(k, 0, v);
        break;
    case 0xd1:
        i8042_set_output_port(k, v);
        break;
    case 0xd2: /* echoes, as if from the keyboard or the mouse (the loop test of Linux's driver) */
    case 0xd3:
        i8042_answer(k, v, command == 0xd3);
        break;
    case 0xd4:
        k->ram[0] &= ~CMD_DISABLE(1);
        ps2_write(k, 1, v);
        break;
    default:
        k->ram[command & 31] = v;
    }
}

static uint64_t i8042_read_data(void *owner, uint64_t offset, unsigned size)
{
    struct i8042 *k = owner;
    (void)offset, (void)size;
    uint8_t v = k->output;
    k->status &= ~STATUS_OUT_FULL;
    i8042_lines(k); /* low between two bytes, so that an edge-triggered input sees each */
    i8042_fetch(k);
    return v;
}

static void i8042_write_data(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = owner;
    (void)offset, (void)size;
    k->status &= ~STATUS_COMMAND;
    i8042_data(k, (uint8_t)value);
    i8042_fetch(k);
}

static uint64_t i8042_read_status(void *owner, uint64_t offset, unsigned size)
{
    struct i8042 *k = owner;
    (void)offset, (void)size;
    return k->status | STATUS_UNLOCKED | (k->ram[0] & CMD_SYSTEM ? STATUS_SYSTEM : 0);
}

static void i8042_write_command(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = owner;
    (void)offset, (void)size;
    k->status |= STATUS_COMMAND;
    i8042_command(k, (uint8_t)value);
    i8042_fetch(k);
}

void i8042_reset(struct i8042 *k)
{
    memset(k->port, 0, sizeof(k->port));
    memset(k->ram, 0, sizeof(k->ram));
    keyboard_defaults(&k->port[0]);
    mouse_defaults(&k->port[1]);
    k->port[0].enabled = true;
    k->ram[0] = CMD_TRANSLATE | CMD_SYSTEM | CMD_INT(0) | CMD_INT(1); /* as firmware leaves it */
    k->output = k->status = k->command = 0;
    k->output_port = 0xc0 | OUT_RESET_N | OUT_A20;
    i8042_lines(k);
}

bool i8042_init(struct i8042 *k, struct bus *bus, struct irq_line irq1, struct irq_line irq12,
                const struct power *power, const struct a20_line *a20, struct error *e)
{
    static const struct bus_ops data_ops = {i8042_read_data, i8042_write_data, 1};
    static const struct bus_ops command_ops = {i8042_read_status, i8042_write_command, 1};
    memset(k, 0, sizeof(*k));
    k->irq[0] = irq1;
    k->irq[1] = irq12;
    k->power = power;
    k->a20 = a20;
    i8042_reset(k);
    return device_add_pio(bus, 0x60, 1, &data_ops, k, "i8042 data", e) &&
           device_add_pio(bus, 0x64, 1, &command_ops, k, "i8042 command", e);
}

static const struct state_field ps2_fields[] = {
    STATE(struct ps2_port, queue),      STATE(struct ps2_port, head),     STATE(struct ps2_port, count),
    STATE(struct ps2_port, command),    STATE(struct ps2_port, scan_set), STATE(struct ps2_port, rate),
    STATE(struct ps2_port, resolution), STATE(struct ps2_port, enabled),  STATE(struct ps2_port, scaling),
};
static const struct state_desc ps2_state = STATE_DESC("ps2_port", struct ps2_port, 1, ps2_fields, NULL);

static bool i8042_after_load(void *s, struct error *e)
{
    struct i8042 *k = s;
    for (unsigned i = 0; i < 2; i++)
        if (k->port[i].head >= I8042_QUEUE || k->port[i].count > I8042_QUEUE)
            return error_set(e, "i8042: impossible queue of port %u", i);
    return true;
}

static const struct state_field i8042_fields[] = {
    STATE_SUB(struct i8042, port, ps2_state),
    STATE(struct i8042, ram),
    STATE(struct i8042, output),
    STATE(struct i8042, status),
    STATE(struct i8042, command),
    STATE(struct i8042, output_port),
    STATE(struct i8042, line),
    STATE_SKIP(struct i8042, power, "wiring"),
    STATE_SKIP(struct i8042, a20, "wiring"),
    STATE_SKIP(struct i8042, irq, "wiring"),
};
const struct state_desc i8042_state = STATE_DESC("i8042", struct i8042, 1, i8042_fields, i8042_after_load);
