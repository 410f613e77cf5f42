/*
 * cpu/event.c -- between instructions: which event comes first, what blocks it, what wakes a halted
 * processor.
 *
 * SDM 3A, "Priority Among Concurrent Events"; SDM 3C, "Other Causes of VM Exits", "Interrupt-Window Exiting
 * and Virtual-Interrupt Delivery". The one ordered list: INIT, SMI, MTF, debug traps, preemption timer, NMI
 * window, NMI, interrupt window, external and virtual interrupts. Each event that is taken leaves by longjmp,
 * so the budget is looked at before the next step. ATTN_INTR, ATTN_NMI and ATTN_VMX are cleared here when
 * nothing can be done about them now; whatever unblocks them (IF, IRET, TPR, VM entry and exit) sets them
 * again by event_recheck().
 */
#include "cpu/system.h"

#include "cpu/flags.h"
#include "cpu/lapic.h"
#include "cpu/vmx/vmx.h"

void event_recheck(struct cpu *cpu)
{
    if (lapic_pending(cpu))
        cpu->attention |= ATTN_INTR;
    if (cpu->nmi_pending)
        cpu->attention |= ATTN_NMI;
    if (cpu->vmx_non_root)
        cpu->attention |= ATTN_VMX;
}

void event_set_if(struct cpu *cpu, bool on)
{
    bool was = cpu->rflags & FLAG_IF;
    cpu->rflags = on ? cpu->rflags | FLAG_IF : cpu->rflags & ~(uint64_t)FLAG_IF;
    if (on && !was)
        event_recheck(cpu);
}

static bool nmi_blocked(const struct cpu *cpu)
{
    return cpu->vmx_non_root ? vmx_nmi_blocked(cpu) : cpu->nmi_blocked;
}

static bool interrupts_enabled(const struct cpu *cpu)
{
    return (cpu->rflags & FLAG_IF) || (cpu->vmx_non_root && vmx_interrupts_exit(cpu));
}

bool cpu_runnable(struct cpu *cpu)
{
    if (cpu->activity == ACTIVITY_ACTIVE)
        return true;
    if (cpu->init_pending && !(cpu->vmx_on && !cpu->vmx_non_root) && cpu->activity != ACTIVITY_WAIT_SIPI)
        return true;
    if (cpu->activity == ACTIVITY_WAIT_SIPI)
        return cpu->sipi_pending;
    if (cpu->vmx_non_root && (cpu->attention & (ATTN_VMX | ATTN_MTF)))
        return true;
    if (cpu->vmx_non_root && vmx_next_deadline(cpu) <= cpu->clock->now)
        return true;
    if (cpu->nmi_pending && !nmi_blocked(cpu))
        return true;
    if (cpu->activity == ACTIVITY_SHUTDOWN)
        return false;
    if (cpu->pending_db || cpu->smi_pending)
        return true;
    return lapic_pending(cpu) && interrupts_enabled(cpu);
}

/* -- One function for each rank of the list ------------------------------------------------------------ */

static bool poll_sipi(struct cpu *cpu)
{
    if (!cpu->sipi_pending)
        return false;
    cpu->sipi_pending = false;
    cpu->attention &= ~(uint32_t)ATTN_SIPI;
    if (cpu->vmx_non_root)
        vmx_poll_sipi(cpu, cpu->sipi_vector);
    cpu->seg[SEG_CS].selector = (uint16_t)(cpu->sipi_vector << 8);
    cpu->seg[SEG_CS].base = (uint32_t)cpu->sipi_vector << 12;
    cpu->rip = 0;
    cpu->activity = ACTIVITY_ACTIVE;
    cpu_mode_changed(cpu);
    return true;
}

/* INIT is blocked in VMX root operation and while waiting for a SIPI (SDM 3C, "Restrictions on VMX
 * Operation"). */
static void poll_init(struct cpu *cpu)
{
    if (!cpu->init_pending || (cpu->vmx_on && !cpu->vmx_non_root) || cpu->activity == ACTIVITY_WAIT_SIPI)
        return;
    cpu->init_pending = false;
    cpu->attention &= ~(uint32_t)ATTN_INIT;
    if (cpu->vmx_non_root)
        vmx_poll_init(cpu);
    cpu_reset(cpu, true);
}

/* The board's firmware has a handler that returns at once: what is left to see is MSR_SMI_COUNT. RSM goes
 * back to where the processor was, to the HLT state as well (SDM 3C, "Auto HALT Restart"), and to VMX
 * operation (SDM 3C, "Default Treatment of SMI Delivery"). */
static void poll_smi(struct cpu *cpu)
{
    if (!cpu->smi_pending)
        return;
    cpu->smi_pending = false;
    cpu->attention &= ~(uint32_t)ATTN_SMI;
    cpu->msr.smi_count++;
}

static void poll_debug(struct cpu *cpu)
{
    if (!cpu->pending_db) {
        cpu->attention &= ~(uint32_t)ATTN_DEBUG;
        return;
    }
    if (cpu->shadow_mov_ss)
        return;
    struct event ev = {
        .vector = EXC_DB, .type = EVENT_HARDWARE_EXCEPTION, .qualification = cpu->pending_db, .trap = true};
    cpu->pending_db = 0;
    cpu->attention &= ~(uint32_t)ATTN_DEBUG;
    cpu->activity = ACTIVITY_ACTIVE;
    cpu_raise_event(cpu, &ev);
}

static void poll_nmi(struct cpu *cpu)
{
    if (!cpu->nmi_pending) {
        cpu->attention &= ~(uint32_t)ATTN_NMI;
        return;
    }
    if (cpu->shadow_sti || cpu->shadow_mov_ss)
        return;
    if (cpu->vmx_non_root && !cpu->nmi_blocked)
        vmx_poll_nmi(cpu);
    if (nmi_blocked(cpu)) {
        cpu->attention &= ~(uint32_t)ATTN_NMI;
        return;
    }
    cpu->nmi_pending = false;
    cpu->attention &= ~(uint32_t)ATTN_NMI;
    cpu->activity = ACTIVITY_ACTIVE;
    struct event ev = {.vector = EXC_NMI, .type = EVENT_NMI};
    cpu_raise_event(cpu, &ev);
}

static NORETURN void take_interrupt(struct cpu *cpu, uint8_t vector)
{
    struct event ev = {.vector = vector, .type = EVENT_EXTERNAL};
    cpu->activity = ACTIVITY_ACTIVE;
    cpu_raise_event(cpu, &ev);
}

static void poll_interrupt(struct cpu *cpu)
{
    if (!lapic_pending(cpu) || !interrupts_enabled(cpu)) {
        cpu->attention &= ~(uint32_t)ATTN_INTR;
        return;
    }
    if (cpu->shadow_sti || cpu->shadow_mov_ss)
        return;
    if (cpu->vmx_non_root && vmx_poll_interrupt(cpu))
        return;
    if (!(cpu->rflags & FLAG_IF))
        return;
    int vector = lapic_acknowledge(cpu);
    if (!lapic_pending(cpu))
        cpu->attention &= ~(uint32_t)ATTN_INTR;
    if (vector >= 0)
        take_interrupt(cpu, (uint8_t)vector);
}

static void poll_virtual_interrupt(struct cpu *cpu)
{
    uint8_t vector;
    if ((cpu->rflags & FLAG_IF) && !cpu->shadow_sti && !cpu->shadow_mov_ss &&
        vmx_poll_virtual_interrupt(cpu, &vector))
        take_interrupt(cpu, vector);
}

/* -- The list ------------------------------------------------------------------------------------------ */

bool event_poll(struct cpu *cpu)
{
    if (cpu->activity == ACTIVITY_WAIT_SIPI && !poll_sipi(cpu)) {
        cpu->attention |= ATTN_LEAVE;
        return false;
    }
    poll_init(cpu);
    poll_smi(cpu);
    bool shadow = cpu->shadow_sti || cpu->shadow_mov_ss;
    bool look_vmx = cpu->vmx_non_root && (cpu->attention & ATTN_VMX);
    if (cpu->vmx_non_root && (cpu->attention & ATTN_MTF))
        vmx_poll_mtf(cpu);
    if (cpu->activity != ACTIVITY_WAIT_SIPI) {
        poll_debug(cpu);
        if (look_vmx) {
            vmx_poll_preemption_timer(cpu);
            vmx_poll_nmi_window(cpu);
        }
        poll_nmi(cpu);
    }
    if (cpu->activity == ACTIVITY_ACTIVE || cpu->activity == ACTIVITY_HLT) {
        if (look_vmx)
            vmx_poll_interrupt_window(cpu);
        poll_interrupt(cpu);
        /* A posted interrupt that was just swallowed asks for a look as well. */
        if (cpu->vmx_non_root && (cpu->attention & ATTN_VMX))
            poll_virtual_interrupt(cpu);
    }
    if (!shadow)
        cpu->attention &= ~(uint32_t)ATTN_VMX;
    if (cpu->activity != ACTIVITY_ACTIVE) {
        /* Stays asleep: the next call of cpu_run() looks again before it runs anything. */
        cpu->attention |= ATTN_LEAVE;
        return false;
    }
    v86_check_pending(cpu);
    if (cpu->msr.debugctl && (cpu->attention & ATTN_SINGLE))
        branch_before(cpu);
    return true;
}

void event_after_instruction(struct cpu *cpu, bool tf, bool had_shadow)
{
    if (had_shadow) {
        cpu->shadow_sti = cpu->shadow_mov_ss = false;
        cpu->attention &= ~(uint32_t)ATTN_SHADOW;
        event_recheck(cpu);
    }
    bool branched = cpu->msr.debugctl && branch_after(cpu);
    if (tf && !cpu->shadow_mov_ss && !cpu->tf_masked && (branched || !(cpu->msr.debugctl & DEBUGCTL_BTF)))
        cpu->pending_db |= DR6_BS;
    cpu->tf_masked = false;
    if (cpu->pending_db)
        cpu->attention |= ATTN_DEBUG;
    /* RF lasts for one instruction; a repeated one that goes on is still the same. */
    if ((cpu->rflags & FLAG_RF) && !cpu->rf_loaded && cpu->rep_rip != cpu->rip) {
        cpu->rflags &= ~(uint64_t)FLAG_RF;
        cpu_mode_changed(cpu);
    }
    cpu->rf_loaded = false;
}
