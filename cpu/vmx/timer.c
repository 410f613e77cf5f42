/*
 * vmx/timer.c -- the VMX-preemption timer on virtual time.
 *
 * SDM 3C, "VMX-Preemption Timer": it counts down by 1 each time bit IA32_VMX_MISC[4:0] of the TSC changes,
 * and the exit is made when it reaches 0. So its expiry is one tick of virtual time, known at VM entry: a
 * timer of the clock, which also wakes a guest that halts. Watch:  -- Tests: tests/unit/test_vmx_entry.c
 */
#include "cpu/vmx/internal.h"

static void expired(void *owner)
{
    struct cpu *cpu = owner;
    cpu->attention |= ATTN_VMX;
}

void vmx_timer_init(struct cpu *cpu)
{
    clock_add_timer(cpu->clock, &cpu->vmx->timer, "vmx-preemption-timer", expired, cpu);
}

void vmx_timer_arm(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    if (x->timer_deadline == CLOCK_NEVER || x->timer_deadline <= cpu->clock->now)
        clock_disarm(cpu->clock, &x->timer);
    else
        clock_arm(cpu->clock, &x->timer, x->timer_deadline);
}

void vmx_timer_stop(struct cpu *cpu)
{
    if (cpu->vmx->timer_deadline == CLOCK_NEVER)
        return;
    cpu->vmx->timer_deadline = CLOCK_NEVER;
    clock_disarm(cpu->clock, &cpu->vmx->timer);
}

void vmx_timer_start(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    const struct vmcs *v = x->vmcs;
    x->timer_deadline = CLOCK_NEVER;
    if (!(v->pin & PIN_ACTIVATE_PREEMPTION_TIMER))
        return;
    uint64_t tsc = cpu_tsc(cpu);
    uint64_t end = ((tsc >> MISC_TIMER_RATE) + v->preemption_timer) << MISC_TIMER_RATE;
    x->timer_deadline = cpu->clock->now + (v->preemption_timer ? end - tsc : 0);
    vmx_timer_arm(cpu);
}

/* What the timer stands at now. */
uint32_t vmx_timer_value(const struct cpu *cpu)
{
    const struct vmx *x = cpu->vmx;
    if (x->timer_deadline == CLOCK_NEVER)
        return x->vmcs->preemption_timer;
    if (x->timer_deadline <= cpu->clock->now)
        return 0;
    uint64_t left = x->timer_deadline - cpu->clock->now;
    return (uint32_t)((left + BIT(MISC_TIMER_RATE) - 1) >> MISC_TIMER_RATE);
}

void vmx_poll_preemption_timer(struct cpu *cpu)
{
    if (cpu->vmx->timer_deadline <= cpu->clock->now && cpu->activity != ACTIVITY_WAIT_SIPI)
        vmx_exit_event(cpu, EXIT_REASON_PREEMPTION_TIMER, 0);
}

/* A deadline that has passed has set ATTN_VMX and bounds no slice any more. */
uint64_t vmx_next_deadline(const struct cpu *cpu)
{
    if (!cpu->vmx_non_root || cpu->vmx->timer_deadline <= cpu->clock->now)
        return CLOCK_NEVER;
    return cpu->vmx->timer_deadline;
}
