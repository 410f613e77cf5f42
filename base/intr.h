/*
 * base/intr.h -- interrupt messages between local APICs, IOAPIC, MSI and the 8259 pair.
 *
 * The leaf interface by which devices/ (which never sees cpu/) and cpu/ (which never sees devices/) talk.
 * machine/ wires both ends. SDM 3A, "Advanced Programmable Interrupt Controller (APIC)".
 */
#ifndef BASE_INTR_H
#define BASE_INTR_H

#include "base/types.h"

/* Delivery modes as in the ICR, LVT, IOAPIC and MSI data (SDM 3A, "Interrupt Command Register (ICR)"). */
enum intr_mode {
    INTR_FIXED = 0,
    INTR_LOWEST = 1,
    INTR_SMI = 2,
    INTR_NMI = 4,
    INTR_INIT = 5,
    INTR_SIPI = 6,
    INTR_EXTINT = 7,
};

struct intr_msg {
    uint32_t dest; /* APIC ID or logical destination */
    bool logical;  /* destination mode */
    uint8_t mode;  /* enum intr_mode */
    uint8_t vector;
    bool level;   /* level-triggered: the EOI is broadcast */
    bool assert_; /* level: asserted (INIT de-assert is the one message with false) */
};

/* Towards the processors. Implemented by machine/ over all local APICs; called by IOAPIC, MSI, 8259. */
struct intr_sink {
    void *owner;
    void (*deliver)(void *owner, const struct intr_msg *m);
    /* The 8259's INTR line as wired to LINT0 of every local APIC (virtual wire). */
    void (*set_intr)(void *owner, bool level);
};

/* From the processors. Implemented by machine/ over IOAPIC and 8259; called by local APICs. */
struct intr_source {
    void *owner;
    /* A level-triggered vector was acknowledged by an EOI (to the IOAPICs). */
    void (*eoi)(void *owner, uint8_t vector);
    /* INTA cycle: the vector of the 8259 pair's highest request (spurious vectors included). */
    uint8_t (*acknowledge)(void *owner);
    /* A local APIC sends an IPI; the machine finds the destinations. `source_id` is the sender's APIC ID. */
    void (*ipi)(void *owner, uint32_t source_id, unsigned shorthand, const struct intr_msg *m);
};

/* An interrupt line from a device to whatever it is wired to. */
struct irq_line {
    void *owner;
    void (*set)(void *owner, unsigned n, bool level);
    unsigned n;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
    if (l->set)
        l->set(l->owner, l->n, level);
}

#endif
