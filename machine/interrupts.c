/*
 * machine/interrupts.c -- carries interrupt messages between local APICs, IOAPIC, MSI and the 8259 pair.
 *
 * SDM 3A, "Advanced Programmable Interrupt Controller (APIC)": destinations, "Lowest Priority Delivery Mode".
 */
#include "machine/machine.h"

#include "cpu/lapic.h"

/* SDM 3A, "Determining IPI Destination": the four shorthands. */
enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static void deliver(void *owner, const struct intr_msg *msg)
{
    struct machine *m = owner;
    if (msg->mode == INTR_LOWEST) {
        /* The lowest task priority wins, then the lowest APIC ID: fixed, so that runs repeat. */
        struct cpu *best = NULL;
        for (uint32_t i = 0; i < m->cpu_count; i++) {
            struct cpu *cpu = &m->cpus[i];
            if (lapic_match(cpu, msg->dest, msg->logical) &&
                (!best || lapic_priority(cpu) < lapic_priority(best)))
                best = cpu;
        }
        if (best)
            lapic_deliver(best, msg);
        return;
    }
    for (uint32_t i = 0; i < m->cpu_count; i++)
        if (lapic_match(&m->cpus[i], msg->dest, msg->logical))
            lapic_deliver(&m->cpus[i], msg);
}

static void set_intr(void *owner, bool level)
{
    struct machine *m = owner;
    for (uint32_t i = 0; i < m->cpu_count; i++)
        lapic_set_intr(&m->cpus[i], level);
}

static void eoi(void *owner, uint8_t vector)
{
    struct machine *m = owner;
    ioapic_eoi(&m->ioapic, vector);
}

static uint8_t acknowledge(void *owner)
{
    struct machine *m = owner;
    return i8259_acknowledge(&m->pic);
}

static void ipi(void *owner, uint32_t source_id, unsigned shorthand, const struct intr_msg *msg)
{
    struct machine *m = owner;
    if (shorthand == SHORTHAND_NONE) {
        deliver(m, msg);
        return;
    }
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        bool self = m->cpus[i].id == source_id;
        if ((self && shorthand == SHORTHAND_OTHERS) || (!self && shorthand == SHORTHAND_SELF))
            continue;
        lapic_deliver(&m->cpus[i], msg);
    }
}

void machine_interrupts_init(struct machine *m)
{
    m->sink = (struct intr_sink){.owner = m, .deliver = deliver, .set_intr = set_intr};
}

struct intr_source machine_interrupt_source(struct machine *m)
{
    return (struct intr_source){.owner = m, .eoi = eoi, .acknowledge = acknowledge, .ipi = ipi};
}
