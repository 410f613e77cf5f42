/*
 * cpu/lapic.h -- the local APIC of a processor, in xAPIC and x2APIC mode.
 *
 * SDM 3A, "Advanced Programmable Interrupt Controller (APIC)".
 * Promise: whatever makes an interrupt pending sets cpu->attention; event.c asks lapic_pending() and takes
 * the vector by lapic_acknowledge().
 */
#ifndef CPU_LAPIC_H
#define CPU_LAPIC_H

#include "cpu/cpu.h"

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERFMON, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

struct lapic {
    uint32_t tpr, ldr, dfr, svr;
    uint32_t esr, esr_pending; /* as read; errors since the last write */
    uint32_t icr_low, icr_high;
    uint32_t lvt[LVT_COUNT];
    uint32_t timer_initial, timer_divide;
    uint32_t isr[8], irr[8], tmr[8];
    uint64_t timer_start; /* tick at which the counter held timer_initial; valid while the timer runs */
    bool timer_running;   /* one-shot or periodic count in progress */
    bool intr_line;       /* the 8259's INTR, wired to LINT0 */
    bool extint_pending;  /* an ExtINT message waits for its acknowledge cycle */
    struct timer timer;
    struct cpu *cpu;
    uint8_t highest_irr, highest_isr; /* vectors, 0 none: made from the bit maps */
    bool pending;                     /* what lapic_pending() answers */
};

bool lapic_init(struct cpu *cpu, struct error *e); /* allocates cpu->lapic and registers its timer */
void lapic_free(struct cpu *cpu);
/* init: by an INIT, which keeps the APIC's ID and base. */
void lapic_reset(struct cpu *cpu, bool init);
extern const struct state_desc lapic_state;

/* An interrupt is deliverable by priority; RFLAGS.IF is not looked at. */
static inline bool lapic_pending(const struct cpu *cpu)
{
    return cpu->lapic->pending;
}
/* Takes the deliverable interrupt: its vector goes in service (or the 8259's is fetched). -1: none. */
int lapic_acknowledge(struct cpu *cpu);

/* A message arrived from another APIC, IOAPIC or MSI. */
void lapic_deliver(struct cpu *cpu, const struct intr_msg *m);
/* INTR of the 8259 pair. */
void lapic_set_intr(struct cpu *cpu, bool level);
/* The message's destination names this APIC. */
bool lapic_match(const struct cpu *cpu, uint32_t dest, bool logical);
/* The processor sleeps, and its timer's next interrupt could wake it; the same for INTR of the 8259 pair. */
bool lapic_timer_wakes(const struct cpu *cpu);
bool lapic_intr_wakes(const struct cpu *cpu);
/* For lowest-priority arbitration: the processor priority. */
uint32_t lapic_priority(const struct cpu *cpu);

/* Memory-mapped registers; the page's place is the caller's question. */
uint64_t lapic_read(struct cpu *cpu, uint32_t offset, unsigned size);
void lapic_write(struct cpu *cpu, uint32_t offset, unsigned size, uint64_t value);
/* MSRs 800H..8FFH in x2APIC mode; false: #GP. */
bool lapic_rdmsr(struct cpu *cpu, uint32_t index, uint64_t *value);
bool lapic_wrmsr(struct cpu *cpu, uint32_t index, uint64_t value);
/* IA32_APIC_BASE; false: #GP. */
bool lapic_set_base(struct cpu *cpu, uint64_t value);
/* After IA32_APIC_BASE has changed: the page of the registers is found there by memory accesses. */
void lapic_place(struct cpu *cpu);

uint8_t lapic_tpr(const struct cpu *cpu);
void lapic_set_tpr(struct cpu *cpu, uint8_t tpr);
/* IA32_TSC_DEADLINE. */
uint64_t lapic_deadline(const struct cpu *cpu);
void lapic_set_deadline(struct cpu *cpu, uint64_t tsc);
/* The TSC was written: the deadline lies at another tick. */
void lapic_tsc_changed(struct cpu *cpu);

#endif
