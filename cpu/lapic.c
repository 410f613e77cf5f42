/*
 * cpu/lapic.c -- the local APIC: registers, priorities, acceptance, IPIs, LVTs, timer.
 *
 * SDM 3A, "Advanced Programmable Interrupt Controller (APIC)", all sections.
 * Time:   the timer counts the crystal clock (CPUID 15H: 25 MHz, 40 ticks) divided by the divide register.
 * Departures: lowest-priority arbitration is machine/'s. Delivery is immediate, so the ICR is always idle.
 * The LVT has six entries: IA32_MCG_CAP says that there is no CMCI.
 */
#include "cpu/lapic.h"

#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/trace.h"
#include "cpu/vmx/vmx.h"

#define TICKS_PER_COUNT 40u /* CLOCK_HZ / 25 MHz */

/* Register offsets of the xAPIC page; MSR number = 800H + offset / 16. */
enum {
    APIC_ID = 0x20,
    APIC_VERSION = 0x30,
    APIC_TPR = 0x80,
    APIC_APR = 0x90,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_RRD = 0xc0,
    APIC_LDR = 0xd0,
    APIC_DFR = 0xe0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_TMR = 0x180,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR_LOW = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3e0,
    APIC_SELF_IPI = 0x3f0,
};

#define VERSION_VALUE  (0x15u | (LVT_COUNT - 1) << 16 | 1u << 24 /* EOI broadcasts can be suppressed */)
#define SVR_ENABLE     BIT(8)
#define SVR_NO_EOI     BIT(12)
#define SVR_WRITABLE   0x11ffu
#define LVT_MASKED     BIT(16)
#define LVT_LEVEL      BIT(15)
#define LVT_REMOTE_IRR BIT(14)

enum { BASE_BSP = 1 << 8, BASE_X2APIC = 1 << 10, BASE_ENABLE = 1 << 11 };
enum { ESR_SEND_VECTOR = 1 << 5, ESR_RECEIVE_VECTOR = 1 << 6, ESR_REGISTER = 1 << 7 };
enum { TIMER_ONE_SHOT = 0, TIMER_PERIODIC = 1, TIMER_DEADLINE = 2 };

/* Bits of each LVT entry that can be written. */
static const uint32_t lvt_mask[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERFMON] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

static bool hardware_enabled(const struct cpu *cpu)
{
    return cpu->msr.apic_base & BASE_ENABLE;
}
static bool software_enabled(const struct lapic *a)
{
    return a->svr & SVR_ENABLE;
}
static bool x2apic(const struct cpu *cpu)
{
    return cpu->msr.apic_base & BASE_X2APIC;
}

/* -- Priorities ---------------------------------------------------------------------------------------- */

static uint8_t highest(const uint32_t map[8])
{
    for (int i = 7; i >= 0; i--)
        if (map[i])
            return (uint8_t)(i * 32 + 31 - __builtin_clz(map[i]));
    return 0;
}

static uint32_t ppr(const struct lapic *a)
{
    uint32_t isr = a->highest_isr & 0xf0u;
    return (a->tpr & 0xf0) >= isr ? a->tpr : isr;
}

static bool lint0_extint(const struct cpu *cpu)
{
    const struct lapic *a = cpu->lapic;
    if (!a->intr_line)
        return false;
    if (!hardware_enabled(cpu))
        return true;
    return !(a->lvt[LVT_LINT0] & LVT_MASKED) && (a->lvt[LVT_LINT0] >> 8 & 7) == INTR_EXTINT;
}

/* After any change of IRR, ISR, TPR or LINT0. */
static void update(struct cpu *cpu)
{
    struct lapic *a = cpu->lapic;
    a->highest_irr = highest(a->irr);
    a->highest_isr = highest(a->isr);
    a->pending = a->extint_pending || lint0_extint(cpu) || (a->highest_irr & 0xf0u) > (ppr(a) & 0xf0);
    if (a->pending)
        cpu->attention |= ATTN_INTR;
}

uint32_t lapic_priority(const struct cpu *cpu)
{
    return ppr(cpu->lapic);
}

uint8_t lapic_tpr(const struct cpu *cpu)
{
    return (uint8_t)cpu->lapic->tpr;
}

void lapic_set_tpr(struct cpu *cpu, uint8_t tpr)
{
    cpu->lapic->tpr = tpr;
    cpu->cr8 = tpr >> 4;
    update(cpu);
}

/* -- Acceptance ---------------------------------------------------------------------------------------- */

static void error(struct cpu *cpu, uint32_t bits);

static void accept_fixed(struct cpu *cpu, uint8_t vector, bool level)
{
    struct lapic *a = cpu->lapic;
    if (!hardware_enabled(cpu) || !software_enabled(a))
        return;
    if (vector < 16) {
        error(cpu, ESR_RECEIVE_VECTOR);
        return;
    }
    uint32_t bit = 1u << (vector & 31);
    a->irr[vector / 32] |= bit;
    if (level)
        a->tmr[vector / 32] |= bit;
    else
        a->tmr[vector / 32] &= ~bit;
    update(cpu);
}

static void accept(struct cpu *cpu, unsigned mode, uint8_t vector, bool level)
{
    switch (mode) {
    case INTR_FIXED:
    case INTR_LOWEST:
        accept_fixed(cpu, vector, level);
        break;
    case INTR_SMI:
        cpu->smi_pending = true;
        cpu->attention |= ATTN_SMI;
        break;
    case INTR_NMI:
        cpu->nmi_pending = true;
        cpu->attention |= ATTN_NMI;
        break;
    case INTR_INIT:
        cpu->init_pending = true;
        cpu->attention |= ATTN_INIT;
        break;
    case INTR_SIPI:
        /* Only a processor that waits for one takes it. */
        if (cpu->activity == ACTIVITY_WAIT_SIPI || cpu->init_pending) {
            cpu->sipi_pending = true;
            cpu->sipi_vector = vector;
            cpu->attention |= ATTN_SIPI;
        }
        break;
    case INTR_EXTINT:
        cpu->lapic->extint_pending = true;
        update(cpu);
        break;
    default:
        break;
    }
}

void lapic_deliver(struct cpu *cpu, const struct intr_msg *m)
{
    if (m->mode == INTR_INIT && m->level && !m->assert_)
        return; /* INIT level de-assert: arbitration IDs only, which newer processors ignore */
    accept(cpu, m->mode, m->vector, m->level);
}

int lapic_acknowledge(struct cpu *cpu)
{
    struct lapic *a = cpu->lapic;
    if ((a->highest_irr & 0xf0u) > (ppr(a) & 0xf0)) {
        uint8_t vector = a->highest_irr;
        uint32_t bit = 1u << (vector & 31);
        a->irr[vector / 32] &= ~bit;
        a->isr[vector / 32] |= bit;
        update(cpu);
        return vector;
    }
    if (!a->extint_pending && !lint0_extint(cpu))
        return -1;
    a->extint_pending = false;
    int vector = cpu->intr.acknowledge ? cpu->intr.acknowledge(cpu->intr.owner) : 0xff;
    update(cpu);
    return vector;
}

static void end_of_interrupt(struct cpu *cpu)
{
    struct lapic *a = cpu->lapic;
    uint8_t vector = a->highest_isr;
    if (!vector)
        return;
    uint32_t bit = 1u << (vector & 31);
    a->isr[vector / 32] &= ~bit;
    update(cpu);
    if (!(a->tmr[vector / 32] & bit))
        return;
    if ((a->lvt[LVT_LINT0] & 0xff) == vector)
        a->lvt[LVT_LINT0] &= ~LVT_REMOTE_IRR;
    if (cpu->intr.eoi && !(a->svr & SVR_NO_EOI))
        cpu->intr.eoi(cpu->intr.owner, vector);
}

bool lapic_match(const struct cpu *cpu, uint32_t dest, bool logical)
{
    const struct lapic *a = cpu->lapic;
    if (dest == 0xffffffffu)
        return true;
    if (!logical)
        return dest == cpu->id || (!x2apic(cpu) && dest == 0xff);
    if (!hardware_enabled(cpu))
        return false;
    if (x2apic(cpu)) {
        uint32_t ldr = (cpu->id >> 4) << 16 | 1u << (cpu->id & 15);
        return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
    }
    uint32_t mine = a->ldr >> 24;
    if (dest == 0xff)
        return true;
    if (a->dfr >> 28 == 0xf)
        return mine & dest;
    return mine >> 4 == (dest & 0xff) >> 4 && (mine & dest & 15);
}

/* -- LVT ----------------------------------------------------------------------------------------------- */

static void fire_lvt(struct cpu *cpu, enum lapic_lvt n)
{
    uint32_t lvt = cpu->lapic->lvt[n];
    if (lvt & LVT_MASKED)
        return;
    bool pin = n == LVT_LINT0 || n == LVT_LINT1;
    unsigned mode = n == LVT_TIMER || n == LVT_ERROR ? INTR_FIXED : lvt >> 8 & 7;
    bool level = pin && mode == INTR_FIXED && n == LVT_LINT0 && (lvt & LVT_LEVEL);
    if (level)
        cpu->lapic->lvt[n] |= LVT_REMOTE_IRR;
    if (mode != INTR_EXTINT) /* that is a level: lint0_extint() */
        accept(cpu, mode, (uint8_t)lvt, level);
}

static void error(struct cpu *cpu, uint32_t bits)
{
    struct lapic *a = cpu->lapic;
    a->esr_pending |= bits;
    /* An error in the error vector itself must not recurse. */
    if ((a->lvt[LVT_ERROR] & 0xff) >= 16)
        fire_lvt(cpu, LVT_ERROR);
}

void lapic_set_intr(struct cpu *cpu, bool level)
{
    struct lapic *a = cpu->lapic;
    bool rising = level && !a->intr_line;
    a->intr_line = level;
    if (rising && hardware_enabled(cpu))
        fire_lvt(cpu, LVT_LINT0);
    update(cpu);
}

/* -- Timer --------------------------------------------------------------------------------------------- */

static unsigned timer_mode(const struct lapic *a)
{
    return a->lvt[LVT_TIMER] >> 17 & 3;
}

/* Ticks a count takes. Divide register bits 3, 1, 0: 2, 4, 8, ... 128, 1. */
static uint64_t count_ticks(const struct lapic *a)
{
    unsigned code = (a->timer_divide & 3) | (a->timer_divide >> 1 & 4);
    return (uint64_t)TICKS_PER_COUNT << ((code + 1) & 7);
}

static void timer_stop(struct lapic *a)
{
    a->timer_running = false;
    clock_disarm(a->cpu->clock, &a->timer);
}

static void timer_begin(struct lapic *a)
{
    if (!a->timer_initial || timer_mode(a) == TIMER_DEADLINE) {
        timer_stop(a);
        return;
    }
    a->timer_start = a->cpu->clock->now;
    a->timer_running = true;
    clock_arm(a->cpu->clock, &a->timer, a->timer_start + a->timer_initial * count_ticks(a));
}

static void deadline_arm(struct lapic *a)
{
    struct cpu *cpu = a->cpu;
    if (!cpu->msr.tsc_deadline) {
        clock_disarm(cpu->clock, &a->timer);
        return;
    }
    /* The TSC reaches the deadline at this tick; one that is past fires at once. */
    uint64_t tick = cpu->msr.tsc_deadline - cpu->msr.tsc_adjust;
    if (cpu_tsc(cpu) >= cpu->msr.tsc_deadline)
        tick = cpu->clock->now;
    clock_arm(cpu->clock, &a->timer, tick);
}

static void timer_expired(void *owner)
{
    struct lapic *a = owner;
    struct cpu *cpu = a->cpu;
    switch (timer_mode(a)) {
    case TIMER_DEADLINE:
        cpu->msr.tsc_deadline = 0;
        break;
    case TIMER_PERIODIC:
        a->timer_start = a->timer_start + a->timer_initial * count_ticks(a);
        clock_arm(cpu->clock, &a->timer, a->timer_start + a->timer_initial * count_ticks(a));
        break;
    default:
        a->timer_running = false;
        break;
    }
    fire_lvt(cpu, LVT_TIMER);
}

static bool takes_interrupts(const struct cpu *cpu)
{
    return cpu->activity == ACTIVITY_HLT && (cpu->rflags & FLAG_IF || cpu->vmx_non_root);
}

bool lapic_timer_wakes(const struct cpu *cpu)
{
    const struct lapic *a = cpu->lapic;
    uint32_t lvt = a->lvt[LVT_TIMER];
    if ((lvt & LVT_MASKED) || !takes_interrupts(cpu))
        return false;
    /* A vector below 16 is an error, with an interrupt of its own. */
    return cpu->vmx_non_root || (lvt & 0xf0) == 0 || (lvt & 0xf0) > (ppr(a) & 0xf0);
}

bool lapic_intr_wakes(const struct cpu *cpu)
{
    return takes_interrupts(cpu) && (!hardware_enabled(cpu) || !(cpu->lapic->lvt[LVT_LINT0] & LVT_MASKED));
}

static uint32_t timer_current(const struct lapic *a)
{
    if (!a->timer_running || timer_mode(a) == TIMER_DEADLINE)
        return 0;
    uint64_t counts = (a->cpu->clock->now - a->timer_start) / count_ticks(a);
    if (counts < a->timer_initial)
        return a->timer_initial - (uint32_t)counts;
    return timer_mode(a) == TIMER_PERIODIC ? a->timer_initial - (uint32_t)(counts % a->timer_initial) : 0;
}

/* A new divisor acts on the counts that are left. */
static void set_divide(struct lapic *a, uint32_t value)
{
    uint32_t left = timer_current(a);
    a->timer_divide = value & 0xb;
    if (!left)
        return;
    uint64_t done = (uint64_t)(a->timer_initial - left) * count_ticks(a);
    a->timer_start = a->cpu->clock->now - done;
    clock_arm(a->cpu->clock, &a->timer, a->timer_start + a->timer_initial * count_ticks(a));
}

static void set_lvt(struct cpu *cpu, enum lapic_lvt n, uint32_t value)
{
    struct lapic *a = cpu->lapic;
    unsigned old_mode = timer_mode(a);
    value &= lvt_mask[n];
    if (!software_enabled(a))
        value |= LVT_MASKED;
    a->lvt[n] = value | (n == LVT_LINT0 ? a->lvt[n] & (uint32_t)LVT_REMOTE_IRR : 0);
    if (n == LVT_TIMER && (timer_mode(a) == TIMER_DEADLINE) != (old_mode == TIMER_DEADLINE)) {
        /* Changing to or from TSC-deadline mode disarms the timer. */
        cpu->msr.tsc_deadline = 0;
        a->timer_initial = 0;
        timer_stop(a);
    }
    update(cpu);
}

uint64_t lapic_deadline(const struct cpu *cpu)
{
    return timer_mode(cpu->lapic) == TIMER_DEADLINE ? cpu->msr.tsc_deadline : 0;
}

void lapic_set_deadline(struct cpu *cpu, uint64_t tsc)
{
    if (timer_mode(cpu->lapic) != TIMER_DEADLINE)
        return;
    cpu->msr.tsc_deadline = tsc;
    deadline_arm(cpu->lapic);
}

void lapic_tsc_changed(struct cpu *cpu)
{
    if (lapic_deadline(cpu))
        deadline_arm(cpu->lapic);
}

/* -- IPIs ---------------------------------------------------------------------------------------------- */

static void send_ipi(struct cpu *cpu, uint32_t low, uint32_t dest)
{
    struct intr_msg m = {.dest = dest,
                         .logical = low >> 11 & 1,
                         .mode = low >> 8 & 7,
                         .vector = (uint8_t)low,
                         .level = low >> 15 & 1,
                         .assert_ = low >> 14 & 1};
    if ((m.mode == INTR_FIXED || m.mode == INTR_LOWEST)) {
        if (m.vector < 16) {
            error(cpu, ESR_SEND_VECTOR);
            return;
        }
        m.level = false; /* IPIs are edge-triggered whatever the bit says */
    }
    if (cpu->intr.ipi)
        cpu->intr.ipi(cpu->intr.owner, cpu->id, low >> 18 & 3, &m);
}

/* -- Registers ----------------------------------------------------------------------------------------- */

static void illegal_register(struct cpu *cpu)
{
    error(cpu, ESR_REGISTER);
}

static uint32_t read_register(struct cpu *cpu, uint32_t offset)
{
    struct lapic *a = cpu->lapic;
    if (offset >= APIC_ISR && offset < APIC_ISR + 0x80)
        return a->isr[(offset - APIC_ISR) >> 4];
    if (offset >= APIC_TMR && offset < APIC_TMR + 0x80)
        return a->tmr[(offset - APIC_TMR) >> 4];
    if (offset >= APIC_IRR && offset < APIC_IRR + 0x80)
        return a->irr[(offset - APIC_IRR) >> 4];
    if (offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR)
        return a->lvt[(offset - APIC_LVT_TIMER) >> 4];
    switch (offset) {
    case APIC_ID:
        return x2apic(cpu) ? cpu->id : cpu->id << 24;
    case APIC_VERSION:
        return VERSION_VALUE;
    case APIC_TPR:
        return a->tpr;
    case APIC_APR:
    case APIC_RRD:
    case APIC_EOI:
        return 0;
    case APIC_PPR:
        return ppr(a);
    case APIC_LDR:
        return x2apic(cpu) ? (cpu->id >> 4) << 16 | 1u << (cpu->id & 15) : a->ldr;
    case APIC_DFR:
        return a->dfr;
    case APIC_SVR:
        return a->svr;
    case APIC_ESR:
        return a->esr;
    case APIC_ICR_LOW:
        return a->icr_low;
    case APIC_ICR_HIGH:
        return a->icr_high;
    case APIC_TIMER_INITIAL:
        return a->timer_initial;
    case APIC_TIMER_CURRENT:
        return timer_current(a);
    case APIC_TIMER_DIVIDE:
        return a->timer_divide;
    default:
        illegal_register(cpu);
        return 0;
    }
}

static void set_svr(struct cpu *cpu, uint32_t value)
{
    struct lapic *a = cpu->lapic;
    a->svr = value & SVR_WRITABLE;
    if (!software_enabled(a))
        for (unsigned i = 0; i < LVT_COUNT; i++)
            a->lvt[i] |= LVT_MASKED;
    update(cpu);
}

static void write_register(struct cpu *cpu, uint32_t offset, uint32_t v)
{
    struct lapic *a = cpu->lapic;
    if (offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR) {
        set_lvt(cpu, (enum lapic_lvt)((offset - APIC_LVT_TIMER) >> 4), v);
        return;
    }
    switch (offset) {
    case APIC_TPR:
        lapic_set_tpr(cpu, (uint8_t)v);
        break;
    case APIC_EOI:
        end_of_interrupt(cpu);
        break;
    case APIC_LDR:
        a->ldr = v & 0xff000000;
        break;
    case APIC_DFR:
        a->dfr = v | 0x0fffffff;
        break;
    case APIC_SVR:
        set_svr(cpu, v);
        break;
    case APIC_ESR:
        a->esr = a->esr_pending;
        a->esr_pending = 0;
        break;
    case APIC_ICR_LOW:
        a->icr_low = v & 0xccfff;
        send_ipi(cpu, a->icr_low, a->icr_high >> 24);
        break;
    case APIC_ICR_HIGH:
        a->icr_high = v & 0xff000000;
        break;
    case APIC_TIMER_INITIAL:
        if (timer_mode(a) != TIMER_DEADLINE) {
            a->timer_initial = v;
            timer_begin(a);
        }
        break;
    case APIC_TIMER_DIVIDE:
        set_divide(a, v);
        break;
    case APIC_ID:
    case APIC_VERSION:
    case APIC_APR:
    case APIC_PPR:
    case APIC_RRD:
    case APIC_TIMER_CURRENT:
        break; /* read-only; the ID is not writable on these processors */
    default:
        if (offset < APIC_ISR || offset >= APIC_ESR)
            illegal_register(cpu);
        break;
    }
}

uint64_t lapic_read(struct cpu *cpu, uint32_t offset, unsigned size)
{
    /* Registers are 32 bits at multiples of 16; the bytes between them read as zero. */
    uint32_t within = offset & 15;
    uint64_t v = read_register(cpu, offset & 0xff0);
    trace_lapic(cpu->trace, false, offset, v);
    return within < 4 ? (v >> (within * 8)) & size_mask(size) : 0;
}

void lapic_write(struct cpu *cpu, uint32_t offset, unsigned size, uint64_t value)
{
    trace_lapic(cpu->trace, true, offset, value);
    if ((offset & 15) == 0 && size >= 4)
        write_register(cpu, offset & 0xff0, (uint32_t)value);
}

/* -- x2APIC MSRs --------------------------------------------------------------------------------------- */

static bool x2apic_exists(uint32_t offset, bool write)
{
    if ((offset >= APIC_ISR && offset < APIC_ESR) || offset == APIC_ID || offset == APIC_VERSION ||
        offset == APIC_PPR || offset == APIC_LDR || offset == APIC_TIMER_CURRENT)
        return !write;
    if (offset == APIC_EOI || offset == APIC_SELF_IPI)
        return write;
    return offset == APIC_TPR || offset == APIC_SVR || offset == APIC_ESR || offset == APIC_ICR_LOW ||
           (offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR) || offset == APIC_TIMER_INITIAL ||
           offset == APIC_TIMER_DIVIDE;
}

bool lapic_rdmsr(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    uint32_t offset = (index & 0xff) << 4;
    if (!x2apic(cpu) || !x2apic_exists(offset, false))
        return false;
    *value = read_register(cpu, offset);
    if (offset == APIC_ICR_LOW)
        *value |= (uint64_t)cpu->lapic->icr_high << 32;
    trace_lapic(cpu->trace, false, offset, *value);
    return true;
}

/* Reserved bits of x2APIC registers raise #GP. */
static uint64_t x2apic_writable(uint32_t offset)
{
    if (offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR)
        return lvt_mask[(offset - APIC_LVT_TIMER) >> 4] | LVT_REMOTE_IRR | BIT(12);
    switch (offset) {
    case APIC_TPR:
    case APIC_SELF_IPI:
        return 0xff;
    case APIC_SVR:
        return SVR_WRITABLE;
    case APIC_ICR_LOW:
        return 0xffffffff000ccfffull;
    case APIC_TIMER_INITIAL:
        return 0xffffffff;
    case APIC_TIMER_DIVIDE:
        return 0xb;
    default:
        return 0; /* EOI, ESR */
    }
}

bool lapic_wrmsr(struct cpu *cpu, uint32_t index, uint64_t value)
{
    struct lapic *a = cpu->lapic;
    uint32_t offset = (index & 0xff) << 4;
    if (!x2apic(cpu) || !x2apic_exists(offset, true) || (value & ~x2apic_writable(offset)))
        return false;
    trace_lapic(cpu->trace, true, offset, value);
    if (offset == APIC_ICR_LOW) {
        a->icr_low = (uint32_t)value & 0xccfff;
        a->icr_high = (uint32_t)(value >> 32);
        send_ipi(cpu, a->icr_low, a->icr_high);
    } else if (offset == APIC_SELF_IPI) {
        if (value < 16)
            error(cpu, ESR_SEND_VECTOR);
        else
            accept_fixed(cpu, (uint8_t)value, false);
    } else {
        write_register(cpu, offset, (uint32_t)value);
    }
    return true;
}

/* -- IA32_APIC_BASE ------------------------------------------------------------------------------------ */

/* SDM 3A, "x2APIC State Transitions": the transitions that do not raise #GP. */
static bool transition_ok(uint64_t from, uint64_t to)
{
    enum { MODE = BASE_ENABLE | BASE_X2APIC };
    from &= MODE;
    to &= MODE;
    if (to == BASE_X2APIC)
        return false; /* invalid */
    if (from == 0 && to == MODE)
        return false;
    return !(from == MODE && to == BASE_ENABLE);
}

bool lapic_set_base(struct cpu *cpu, uint64_t value)
{
    uint64_t writable = BASE_ENABLE | BITS(cpu->model->maxphyaddr - 1, 12);
    if (cpu_has(cpu, FEAT_X2APIC))
        writable |= BASE_X2APIC;
    uint64_t old = cpu->msr.apic_base;
    if ((value & ~(writable | BASE_BSP)) || !transition_ok(old, value))
        return false;
    cpu->msr.apic_base = (value & writable) | (old & BASE_BSP);
    if ((old ^ value) & BASE_ENABLE & ~value)
        lapic_reset(cpu, true); /* disabled: all state is lost */
    lapic_place(cpu);
    update(cpu);
    return true;
}

void lapic_place(struct cpu *cpu)
{
    bool mapped = (cpu->msr.apic_base & (BASE_ENABLE | BASE_X2APIC)) == BASE_ENABLE;
    gpa_t page = mapped ? (cpu->msr.apic_base & BITS(cpu->model->maxphyaddr - 1, 12)) | 1 : 0;
    if (page == cpu->mmu.local_apic)
        return;
    cpu->mmu.local_apic = page;
    mmu_drop_all(&cpu->mmu);
}

/* -- Life ---------------------------------------------------------------------------------------------- */

void lapic_reset(struct cpu *cpu, bool init)
{
    struct lapic *a = cpu->lapic;
    timer_stop(a);
    a->tpr = a->ldr = a->esr = a->esr_pending = a->icr_low = a->icr_high = 0;
    a->timer_initial = a->timer_divide = 0;
    a->timer_start = 0;
    a->dfr = 0xffffffff;
    a->svr = 0xff;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        a->lvt[i] = LVT_MASKED;
    memset(a->isr, 0, sizeof(a->isr));
    memset(a->irr, 0, sizeof(a->irr));
    memset(a->tmr, 0, sizeof(a->tmr));
    a->extint_pending = false;
    cpu->cr8 = 0;
    cpu->msr.tsc_deadline = 0;
    if (!init) {
        a->intr_line = false;
        cpu->msr.apic_base = 0xfee00000u | BASE_ENABLE | (cpu->id == 0 ? BASE_BSP : 0);
        lapic_place(cpu);
    }
    update(cpu);
}

bool lapic_init(struct cpu *cpu, struct error *e)
{
    struct lapic *a = calloc(1, sizeof(*a));
    if (!a)
        return error_set(e, "no host memory for the local APIC of a processor");
    a->cpu = cpu;
    cpu->lapic = a;
    clock_add_timer(cpu->clock, &a->timer, "lapic", timer_expired, a);
    return true;
}

void lapic_free(struct cpu *cpu)
{
    if (cpu->lapic)
        clock_remove_timer(cpu->clock, &cpu->lapic->timer);
    free(cpu->lapic);
    cpu->lapic = NULL;
}

static bool lapic_after_load(void *s, struct error *e)
{
    struct lapic *a = s;
    if (a->timer_running && timer_mode(a) == TIMER_PERIODIC && !a->timer_initial)
        return error_set(e, "local APIC: a periodic timer without a count");
    if (!a->timer_running && timer_mode(a) != TIMER_DEADLINE && a->timer.deadline != CLOCK_NEVER)
        return error_set(e, "local APIC: a deadline of a timer that does not run");
    a->highest_irr = highest(a->irr);
    a->highest_isr = highest(a->isr);
    update(a->cpu);
    return true;
}

static const struct state_field lapic_fields[] = {
    STATE(struct lapic, tpr),
    STATE(struct lapic, ldr),
    STATE(struct lapic, dfr),
    STATE(struct lapic, svr),
    STATE(struct lapic, esr),
    STATE(struct lapic, esr_pending),
    STATE(struct lapic, icr_low),
    STATE(struct lapic, icr_high),
    STATE(struct lapic, lvt),
    STATE(struct lapic, timer_initial),
    STATE(struct lapic, timer_divide),
    STATE(struct lapic, isr),
    STATE(struct lapic, irr),
    STATE(struct lapic, tmr),
    STATE(struct lapic, timer_start),
    STATE(struct lapic, timer_running),
    STATE(struct lapic, intr_line),
    STATE(struct lapic, extint_pending),
    STATE_SUB(struct lapic, timer, timer_state),
    STATE_SKIP(struct lapic, cpu, "wiring"),
    STATE_SKIP(struct lapic, highest_irr, "made from irr"),
    STATE_SKIP(struct lapic, highest_isr, "made from isr"),
    STATE_SKIP(struct lapic, pending, "made from irr, isr, tpr and lvt"),
};
const struct state_desc lapic_state = STATE_DESC("lapic", struct lapic, 1, lapic_fields, lapic_after_load);
