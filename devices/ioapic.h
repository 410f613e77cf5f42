/*
 * devices/ioapic.h -- I/O APIC with 24 pins, version 20H (EOI register).
 *
 *   redirection entry
 *   63..56 destination | 16 mask | 15 trigger (1 level) | 14 remote IRR (RO) | 13 polarity | 12 status (RO)
 *   11 destination mode | 10..8 delivery mode | 7..0 vector
 */
#ifndef DEVICES_IOAPIC_H
#define DEVICES_IOAPIC_H

#include "devices/device.h"

#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_PINS 24u

struct ioapic {
    uint64_t redir[IOAPIC_PINS]; /* as read, with remote IRR and delivery status */
    uint32_t lines;              /* pins as they are now, after polarity: 1 asserted */
    uint32_t edges;              /* edges seen while they could not be delivered (masked edges are lost) */
    uint8_t id;                  /* 4 bits */
    uint8_t index;               /* IOREGSEL */
    uint8_t default_id;          /* wiring: the identity that firmware gave, as in the MADT */
    const struct intr_sink *sink;
    struct log *log;
};

bool ioapic_init(struct ioapic *a, struct bus *bus, uint64_t base, uint8_t id, const struct intr_sink *sink,
                 struct log *log, struct error *e);
void ioapic_reset(struct ioapic *a);
/* Pin n is asserted or released; polarity is the board's business (level true = asserted). */
void ioapic_set_irq(void *owner, unsigned n, bool level);
/* EOI broadcast of a level-triggered vector by a local APIC. */
void ioapic_eoi(struct ioapic *a, uint8_t vector);
/* What pin n asks for is not masked. */
bool ioapic_pin_open(const struct ioapic *a, unsigned n);
extern const struct state_desc ioapic_state;

#endif
