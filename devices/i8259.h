/*
 * devices/i8259.h -- the pair of 8259A interrupt controllers with their edge/level control registers.
 */
#ifndef DEVICES_I8259_H
#define DEVICES_I8259_H

#include "devices/device.h"

struct i8259_chip {
    uint8_t irr;       /* requests */
    uint8_t isr;       /* in service */
    uint8_t imr;       /* masks */
    uint8_t lines;     /* inputs as they are now */
    uint8_t elcr;      /* 1: level-triggered */
    uint8_t icw1;      /* as written; bit 0 ICW4 follows, bit 1 single */
    uint8_t icw2;      /* vector base, low 3 bits zero */
    uint8_t icw3;      /* cascade: master mask or slave identity */
    uint8_t icw4;      /* bit 1 automatic EOI, bit 4 special fully nested */
    uint8_t init_step; /* the ICW expected next at the data port: 2, 3, 4; 0 none */
    uint8_t priority;  /* the input that now has the highest priority */
    bool rotate_aeoi;  /* rotate at each automatic EOI */
    bool special_mask; /* OCW3 */
    bool read_isr;     /* OCW3: the command port reads ISR, else IRR */
    bool poll;         /* OCW3: the next read is an acknowledge */
    bool slave;
};

struct i8259 {
    struct i8259_chip chip[2]; /* master, slave on input 2 */
    bool intr;                 /* INTR as last told to the processors */
    const struct intr_sink *sink;
};

bool i8259_init(struct i8259 *p, struct bus *bus, const struct intr_sink *sink, struct error *e);
void i8259_reset(struct i8259 *p);
/* ISA line n (0 to 15, 2 is the cascade and ignored); an irq_line's `set`. */
void i8259_set_irq(void *owner, unsigned n, bool level);
/* INTA cycles: the vector; a request that has gone away gives the spurious vector of input 7. */
uint8_t i8259_acknowledge(void *owner);
/* As things are, an edge on line n would be told to the processors: nothing masks it or is in its way. */
bool i8259_would_request(const struct i8259 *p, unsigned n);
extern const struct state_desc i8259_state;

#endif
