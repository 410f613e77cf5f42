/*
 * vmx/intercept.c -- what in VMX non-root operation exits instead of happening.
 *
 * SDM 3C, "VMX Non-Root Operation": instructions that cause VM exits, other causes, changes to instruction
 * behaviour. Reads:  current VMCS, bitmaps in guest memory, struct cpu.   Writes: exit-information fields by
 * way of exit.c. Order:  callers have done the faults that come before an exit ("Relative Priority of Faults
 * and VM Exits"). Not here: the virtual APIC (apicv.c), the exit itself (exit.c). Watch:  --trace 'vmx_exit'
 * Tests: tests/unit/test_vmx_intercept.c
 */
#include "cpu/ir/uop.h"
#include "cpu/vmx/internal.h"

/* -- Guards: one bit has said that the instruction must be looked at ----------------------------------- */

enum guard_info { PLAIN, OPERAND };
static const struct {
    uint8_t reason, info; /* reason 0: the instruction is #UD when the guard is set */
} guard_exits[GUARD_COUNT] = {
    [GUARD_CPUID] = {EXIT_REASON_CPUID, PLAIN},       [GUARD_HLT] = {EXIT_REASON_HLT, PLAIN},
    [GUARD_INVD] = {EXIT_REASON_INVD, PLAIN},         [GUARD_WBINVD] = {EXIT_REASON_WBINVD, PLAIN},
    [GUARD_WBNOINVD] = {EXIT_REASON_WBINVD, PLAIN},   [GUARD_RDTSC] = {EXIT_REASON_RDTSC, PLAIN},
    [GUARD_RDTSCP] = {EXIT_REASON_RDTSCP, PLAIN},     [GUARD_RDPMC] = {EXIT_REASON_RDPMC, PLAIN},
    [GUARD_PAUSE] = {EXIT_REASON_PAUSE, PLAIN},       [GUARD_MWAIT] = {EXIT_REASON_MWAIT, PLAIN},
    [GUARD_MONITOR] = {EXIT_REASON_MONITOR, PLAIN},   [GUARD_RDRAND] = {EXIT_REASON_RDRAND, OPERAND},
    [GUARD_RDSEED] = {EXIT_REASON_RDSEED, OPERAND},   [GUARD_XSETBV] = {EXIT_REASON_XSETBV, PLAIN},
    [GUARD_XSAVES] = {EXIT_REASON_XSAVES, OPERAND},   [GUARD_XRSTORS] = {EXIT_REASON_XRSTORS, OPERAND},
    [GUARD_INVPCID] = {EXIT_REASON_INVPCID, OPERAND},
};

/* GDTR and IDTR have one exit reason, LDTR and TR another; bits 29:28 of the information say which
 * instruction. */
static NORETURN void descriptor_exit(struct cpu *cpu)
{
    struct insn_operands o;
    cpu_sync(cpu);
    uint8_t bytes[15] = {0};
    unsigned n = cpu_insn_length(cpu), reason = EXIT_REASON_GDTR_IDTR_ACCESS;
    uint64_t base = cpu_64bit(cpu) ? 0 : cpu->seg[SEG_CS].base;
    if (n && cpu_peek(cpu, base + cpu->rip, bytes, MIN(n, 15u)))
        for (unsigned i = 0; i + 1 < n; i++)
            if (bytes[i] == 0x0f) {
                if (bytes[i + 1] == 0x00)
                    reason = EXIT_REASON_LDTR_TR_ACCESS;
                break;
            }
    if (!vmx_insn_operands(cpu, &o))
        memset(&o, 0, sizeof(o));
    vmx_current(cpu)->exit_instruction_info = o.info;
    vmx_exit_insn(cpu, reason, o.displacement);
}

bool vmx_guard_exit(struct cpu *cpu, unsigned guard)
{
    const struct vmcs *v = vmx_current(cpu);
    uint32_t proc = v->proc, proc2 = vmx_proc2(v);
    switch (guard) {
    case GUARD_RDTSCP:
        if (!(proc2 & PROC2_ENABLE_RDTSCP))
            cpu_raise_ud(cpu);
        break;
    case GUARD_INVPCID:
        if (!(proc2 & PROC2_ENABLE_INVPCID))
            cpu_raise_ud(cpu);
        break;
    case GUARD_XSAVES:
    case GUARD_XRSTORS: {
        if (!(proc2 & PROC2_ENABLE_XSAVES_XRSTORS))
            cpu_raise_ud(cpu);
        uint64_t wanted = cpu->r[REG_RDX] << 32 | (uint32_t)cpu->r[REG_RAX];
        if (!(wanted & cpu->msr.xss & v->xss_exiting_bitmap))
            return false;
        break;
    }
    case GUARD_PAUSE:
        cpu_sync(cpu);
        if (!(proc & PROC_PAUSE_EXITING) && (cpu->cpl > 0 || !vmx_ple_pause(cpu)))
            return false;
        break;
    case GUARD_DESCRIPTOR:
        descriptor_exit(cpu);
    case GUARD_VMX_INSN:
        return false; /* the helper makes the exit with its own operands */
    default:
        break;
    }
    if (guard >= GUARD_COUNT || !guard_exits[guard].reason)
        cpu_raise_ud(cpu); /* RSM outside SMM, GETSEC without SMX, RDPID without "enable RDTSCP", UMWAIT */
    if (guard_exits[guard].info == OPERAND)
        vmx_exit_insn_operand(cpu, guard_exits[guard].reason);
    vmx_make_exit_insn(cpu, guard_exits[guard].reason, 0);
    return true;
}

void vmx_guard(struct cpu *cpu, unsigned guard)
{
    if (vmx_guard_exit(cpu, guard))
        cpu_resume(cpu);
}

/* -- Control registers --------------------------------------------------------------------------------- */

/* Exit qualification: 3:0 register, 5:4 access (0 MOV to, 1 MOV from, 2 CLTS, 3 LMSW), 6 LMSW from memory,
 * 11:8 GPR, 31:16 LMSW source. */
enum { CR_MOV_TO, CR_MOV_FROM, CR_CLTS, CR_LMSW };

static NORETURN void cr_exit(struct cpu *cpu, unsigned cr, unsigned access, unsigned gpr)
{
    vmx_exit_insn(cpu, EXIT_REASON_CR_ACCESS, cr | access << 4 | gpr << 8);
}

static bool cr3_target(const struct vmcs *v, uint64_t value)
{
    const uint64_t targets[4] = {v->cr3_target0, v->cr3_target1, v->cr3_target2, v->cr3_target3};
    for (unsigned i = 0; i < MIN(v->cr3_target_count, 4u); i++)
        if (targets[i] == value)
            return true;
    return false;
}

uint64_t vmx_write_cr(struct cpu *cpu, unsigned cr, uint64_t value, unsigned gpr)
{
    const struct vmcs *v = vmx_current(cpu);
    switch (cr) {
    case 0:
        if ((value ^ v->cr0_shadow) & v->cr0_mask)
            cr_exit(cpu, 0, CR_MOV_TO, gpr);
        return (value & ~v->cr0_mask) | (cpu->cr0 & v->cr0_mask);
    case 3:
        if (v->proc & PROC_CR3_LOAD_EXITING && !cr3_target(v, value))
            cr_exit(cpu, 3, CR_MOV_TO, gpr);
        return value;
    case 4:
        if ((value ^ v->cr4_shadow) & v->cr4_mask)
            cr_exit(cpu, 4, CR_MOV_TO, gpr);
        return (value & ~v->cr4_mask) | (cpu->cr4 & v->cr4_mask);
    case 8:
        if (v->proc & PROC_CR8_LOAD_EXITING)
            cr_exit(cpu, 8, CR_MOV_TO, gpr);
        return value;
    default:
        return value;
    }
}

uint64_t vmx_read_cr_shadow(struct cpu *cpu, unsigned cr, uint64_t value)
{
    const struct vmcs *v = vmx_current(cpu);
    if (cr == 0)
        return (value & ~v->cr0_mask) | (v->cr0_shadow & v->cr0_mask);
    if (cr == 4)
        return (value & ~v->cr4_mask) | (v->cr4_shadow & v->cr4_mask);
    return value;
}

uint64_t vmx_read_cr(struct cpu *cpu, unsigned cr, uint64_t value, unsigned gpr)
{
    const struct vmcs *v = vmx_current(cpu);
    if (cr == 3 && v->proc & PROC_CR3_STORE_EXITING)
        cr_exit(cpu, 3, CR_MOV_FROM, gpr);
    if (cr == 8 && v->proc & PROC_CR8_STORE_EXITING)
        cr_exit(cpu, 8, CR_MOV_FROM, gpr);
    return vmx_read_cr_shadow(cpu, cr, value);
}

bool vmx_clts(struct cpu *cpu)
{
    const struct vmcs *v = vmx_current(cpu);
    if (!(v->cr0_mask & CR0_TS))
        return true;
    if (v->cr0_shadow & CR0_TS)
        cr_exit(cpu, 0, CR_CLTS, 0);
    return false;
}

uint64_t vmx_lmsw(struct cpu *cpu, uint16_t msw, bool memory, gva_t linear)
{
    struct vmcs *v = vmx_current(cpu);
    const uint64_t bits = CR0_MP | CR0_EM | CR0_TS;
    bool sets_pe = v->cr0_mask & CR0_PE && msw & CR0_PE && !(v->cr0_shadow & CR0_PE);
    if (sets_pe || ((msw ^ v->cr0_shadow) & v->cr0_mask & bits)) {
        if (memory)
            v->guest_linear_address = linear;
        vmx_exit_insn(cpu, EXIT_REASON_CR_ACCESS, (uint64_t)msw << 16 | (memory ? BIT(6) : 0) | CR_LMSW << 4);
    }
    uint64_t changed = bits & ~v->cr0_mask;
    uint64_t cr0 = (cpu->cr0 & ~changed) | (msw & changed);
    if (!(v->cr0_mask & CR0_PE))
        cr0 |= msw & CR0_PE;
    return cr0;
}

/* -- Debug registers, MSRs, I/O, INVLPG, task switch --------------------------------------------------- */

void vmx_dr_access(struct cpu *cpu, unsigned dr, bool write, unsigned gpr)
{
    if (vmx_current(cpu)->proc & PROC_MOV_DR_EXITING)
        vmx_exit_insn(cpu, EXIT_REASON_DR_ACCESS, dr | (write ? 0 : BIT(4)) | (uint64_t)gpr << 8);
}

/* MSR bitmaps: 1 KB each for reads of low and high MSRs, then writes. */
static bool msr_exits(struct cpu *cpu, const struct vmcs *v, uint32_t index, bool write)
{
    if (!(v->proc & PROC_USE_MSR_BITMAPS))
        return true;
    gpa_t at = v->msr_bitmap + (write ? 2048 : 0);
    if (index >= 0xc0000000 && index <= 0xc0001fff)
        at += 1024;
    else if (index > 0x1fff)
        return true;
    uint32_t bit = index & 0x1fff;
    return phys_load(cpu->phys, at + bit / 8, 1) >> (bit & 7) & 1;
}

bool vmx_msr_access(struct cpu *cpu, uint32_t index, bool write, uint64_t *value)
{
    const struct vmcs *v = vmx_current(cpu);
    if (msr_exits(cpu, v, index, write))
        vmx_exit_insn(cpu, write ? EXIT_REASON_WRMSR : EXIT_REASON_RDMSR, 0);
    return vmx_apicv_msr(cpu, index, write, value);
}

static bool io_exits(struct cpu *cpu, const struct vmcs *v, const struct vmx_io *io)
{
    if (!(v->proc & PROC_USE_IO_BITMAPS))
        return v->proc & PROC_UNCONDITIONAL_IO_EXITING;
    if (io->port + io->size > 0x10000u)
        return true;
    for (unsigned port = io->port; port < io->port + io->size; port++) {
        gpa_t map = port & 0x8000 ? v->io_bitmap_b : v->io_bitmap_a;
        if (phys_load(cpu->phys, map + (port & 0x7fff) / 8, 1) >> (port & 7) & 1)
            return true;
    }
    return false;
}

void vmx_io(struct cpu *cpu, const struct vmx_io *io)
{
    struct vmcs *v = vmx_current(cpu);
    if (!io_exits(cpu, v, io))
        return;
    if (io->string) {
        v->exit_instruction_info = (uint32_t)io->asize << 7 | (io->in ? 0 : (uint32_t)io->seg << 15);
        v->guest_linear_address = io->linear;
    }
    vmx_exit_insn(cpu, EXIT_REASON_IO_INSTRUCTION,
                  (io->size - 1u) | (io->in ? BIT(3) : 0) | (io->string ? BIT(4) : 0) |
                      (io->rep ? BIT(5) : 0) | (io->immediate ? BIT(6) : 0) | (uint64_t)io->port << 16);
}

void vmx_invlpg(struct cpu *cpu, gva_t linear)
{
    if (vmx_current(cpu)->proc & PROC_INVLPG_EXITING)
        vmx_exit_insn(cpu, EXIT_REASON_INVLPG, linear);
}

/* SDM 3C, "Changes to Instruction Behavior in VMX Non-Root Operation", RDTSC: the multiplier acts before the
 * offset, and only with "use TSC offsetting". The preemption timer and the TSC deadline count the TSC itself.
 */
uint64_t vmx_tsc(struct cpu *cpu, uint64_t tsc)
{
    if (!cpu->vmx_non_root)
        return tsc;
    uint64_t multiplier = cpu->vmx->tsc_multiplier;
    if (multiplier)
        tsc = (uint64_t)((unsigned __int128)tsc * multiplier >> TSC_MULTIPLIER_FRACTION);
    return tsc + (uint64_t)cpu->tsc_offset;
}

int32_t vmx_tsc_multiplier_offset(void)
{
    return (int32_t)offsetof(struct vmx, tsc_multiplier);
}

void vmx_task_switch(struct cpu *cpu, uint16_t selector, unsigned source)
{
    cpu_sync(cpu);
    struct vmx_exit e = {.reason = EXIT_REASON_TASK_SWITCH,
                         .qualification = selector | (uint64_t)source << 30,
                         .length = cpu_insn_length(cpu)};
    vmx_exit(cpu, &e);
}

/* -- Exceptions, NMI, triple fault, EPT ---------------------------------------------------------------- */

/* The IRET that this instruction is has ended blocking by NMI, and now it faults. */
static bool iret_unblocked(const struct cpu *cpu)
{
    const struct vmcs *v = vmx_current(cpu);
    if (cpu->vmx->iret_tick != cpu->clock->now || cpu->delivering.valid)
        return false;
    return v->pin & PIN_VIRTUAL_NMIS || !(v->pin & PIN_NMI_EXITING);
}

static bool exception_exits(const struct vmcs *v, const struct event *ev)
{
    if (ev->type != EVENT_HARDWARE_EXCEPTION && ev->type != EVENT_SOFTWARE_EXCEPTION &&
        ev->type != EVENT_PRIVILEGED_SOFTWARE_EXCEPTION)
        return false;
    bool bit = ev->vector < 32 && v->exception_bitmap >> ev->vector & 1;
    if (ev->vector == EXC_PF && (ev->error_code & v->pf_error_mask) != v->pf_error_match)
        return !bit;
    return bit;
}

void vmx_event(struct cpu *cpu, const struct event *ev)
{
    struct vmx *x = cpu->vmx;
    if (x->injecting) {
        x->injecting = false;
        return;
    }
    if (!exception_exits(x->vmcs, ev))
        return;
    struct vmx_exit e = {.reason = EXIT_REASON_EXCEPTION_NMI,
                         .interruption_info = (uint32_t)(ev->vector | (unsigned)ev->type << 8 | INFO_VALID),
                         .no_vectoring = ev->vector == EXC_DF,
                         .length = ev->insn_length};
    if (ev->has_error && cpu_protected(cpu)) { /* in real-address mode none would be pushed */
        e.interruption_info |= INFO_ERROR_VALID;
        e.interruption_error = ev->error_code;
    }
    bool hardware = ev->type == EVENT_HARDWARE_EXCEPTION;
    if (ev->vector == EXC_PF)
        e.qualification = ev->qualification;
    if (ev->vector == EXC_DB && hardware)
        e.qualification = ev->qualification & (BITS(3, 0) | BITS(14, 13));
    e.rf = event_rf(cpu, ev) ? RF_SET : RF_CLEAR;
    if (iret_unblocked(cpu) && ev->vector != EXC_DF)
        e.interruption_info |= INFO_NMI_UNBLOCKING;
    vmx_exit(cpu, &e);
}

void vmx_triple_fault(struct cpu *cpu)
{
    vmx_exit_event(cpu, EXIT_REASON_TRIPLE_FAULT, 0);
}

/*
 * Virtualization-exception information area (SDM 3C, "Virtualization-Exception Information"):
 *   OFFSET  SIZE  DESCRIPTION
 *        0     4  48, the exit reason that an EPT violation would have had
 *        4     4  FFFFFFFFH; software writes 0 to let the next exception come
 *        8     8  exit qualification
 *       16     8  guest linear address
 *       24     8  guest-physical address
 *       32     2  EPTP index
 */
enum { VE_REASON = 0, VE_BUSY = 4, VE_QUALIFICATION = 8, VE_LINEAR = 16, VE_PHYSICAL = 24, VE_INDEX = 32 };

/* SDM 3C, "Virtualization Exceptions": returns when the EPT violation is a VM exit. */
static void raise_ve(struct cpu *cpu, const struct mmu_fault *f, uint64_t qualification)
{
    const struct vmcs *v = vmx_current(cpu);
    gpa_t area = v->ve_information_address;
    if (!(vmx_proc2(v) & PROC2_EPT_VIOLATION_VE) || !f->convertible || !cpu_protected(cpu) ||
        cpu->delivering.valid || phys_load(cpu->phys, area + VE_BUSY, 4))
        return;
    phys_store(cpu->phys, area + VE_REASON, 4, EXIT_REASON_EPT_VIOLATION);
    phys_store(cpu->phys, area + VE_BUSY, 4, 0xffffffffu);
    phys_store(cpu->phys, area + VE_QUALIFICATION, 8, qualification);
    phys_store(cpu->phys, area + VE_LINEAR, 8, qualification & BIT(7) ? f->linear : 0);
    phys_store(cpu->phys, area + VE_PHYSICAL, 8, f->gpa);
    phys_store(cpu->phys, area + VE_INDEX, 2, v->eptp_index);
    cpu_raise(cpu, EXC_VE, 0);
}

void vmx_ept_fault(struct cpu *cpu, const struct mmu_fault *f)
{
    struct vmcs *v = vmx_current(cpu);
    cpu_sync(cpu);
    struct vmx_exit e = {.rf = RF_SET, .length = cpu_insn_length(cpu)};
    switch (f->kind) {
    case MMU_FAULT_EPT_MISCONFIG:
        e.reason = EXIT_REASON_EPT_MISCONFIGURATION;
        v->guest_physical_address = f->gpa;
        break;
    case MMU_FAULT_PML_FULL:
        e.reason = EXIT_REASON_PML_FULL;
        break;
    case MMU_FAULT_APIC_ACCESS:
        /* SDM 3C, "Guest-Physical Accesses to the APIC-Access Page": a paging-structure entry lies there. */
        e.reason = EXIT_REASON_APIC_ACCESS;
        e.qualification = (f->gpa & PAGE_MASK) | (uint64_t)(cpu->delivering.valid ? 10 : 15) << 12;
        break;
    default:
        e.reason = EXIT_REASON_EPT_VIOLATION;
        e.qualification = f->qualification;
        raise_ve(cpu, f, f->qualification | (iret_unblocked(cpu) ? BIT(12) : 0));
        v->guest_physical_address = f->gpa;
        if (f->qualification & BIT(7))
            v->guest_linear_address = f->linear;
        break;
    }
    if (e.reason != EXIT_REASON_EPT_MISCONFIGURATION && iret_unblocked(cpu))
        e.qualification |= BIT(12);
    vmx_exit(cpu, &e);
}

/* -- Between instructions ------------------------------------------------------------------------------ */

void vmx_poll_init(struct cpu *cpu)
{
    vmx_exit_event(cpu, EXIT_REASON_INIT_SIGNAL, 0);
}

void vmx_poll_sipi(struct cpu *cpu, uint8_t vector)
{
    vmx_exit_event(cpu, EXIT_REASON_SIPI, vector);
}

/*
 * First the trap-like exits of the last instruction, then MTF. SDM 3C, "Monitor Trap Flag": after VM entry
 * one instruction runs, or one event is delivered, before the exit: the first call here lets it happen and
 * runs it alone.
 */
void vmx_poll_mtf(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    if (x->trap_pending) {
        x->trap_pending = false;
        vmx_exit_event(cpu, x->trap_reason, x->trap_qualification);
    }
    if (x->mtf_now)
        vmx_exit_event(cpu, EXIT_REASON_MONITOR_TRAP_FLAG, 0);
    if (!x->mtf_wait) {
        cpu->attention &= ~(uint32_t)ATTN_MTF;
        return;
    }
    if (cpu->activity != ACTIVITY_ACTIVE)
        vmx_exit_event(cpu, EXIT_REASON_MONITOR_TRAP_FLAG, 0);
    x->mtf_wait = false;
    x->mtf_now = true;
    cpu->attention |= ATTN_SINGLE;
}

void vmx_poll_nmi_window(struct cpu *cpu)
{
    const struct vmx *x = cpu->vmx;
    if (x->vmcs->proc & PROC_NMI_WINDOW_EXITING && !x->virtual_nmi_blocked && !cpu->shadow_mov_ss &&
        cpu->activity != ACTIVITY_WAIT_SIPI)
        vmx_exit_event(cpu, EXIT_REASON_NMI_WINDOW, 0);
}

void vmx_poll_nmi(struct cpu *cpu)
{
    if (!(vmx_current(cpu)->pin & PIN_NMI_EXITING))
        return;
    cpu->nmi_pending = false;
    cpu->attention &= ~(uint32_t)ATTN_NMI;
    struct vmx_exit e = {.reason = EXIT_REASON_EXCEPTION_NMI,
                         .no_vectoring = true,
                         .nmi = true,
                         .rf = cpu->rep_rip == cpu->rip ? RF_SET : RF_KEEP,
                         .interruption_info = (uint32_t)(EXC_NMI | EVENT_NMI << 8 | INFO_VALID)};
    vmx_exit(cpu, &e);
}

void vmx_poll_interrupt_window(struct cpu *cpu)
{
    if (vmx_current(cpu)->proc & PROC_INTERRUPT_WINDOW_EXITING && cpu->rflags & FLAG_IF && !cpu->shadow_sti &&
        !cpu->shadow_mov_ss)
        vmx_exit_event(cpu, EXIT_REASON_INTERRUPT_WINDOW, 0);
}

bool vmx_interrupts_exit(const struct cpu *cpu)
{
    return vmx_current(cpu)->pin & PIN_EXTERNAL_INTERRUPT_EXITING;
}

bool vmx_nmi_blocked(const struct cpu *cpu)
{
    return vmx_current(cpu)->pin & PIN_VIRTUAL_NMIS ? cpu->vmx->virtual_nmi_blocked : cpu->nmi_blocked;
}

void vmx_nmi_delivered(struct cpu *cpu)
{
    if (vmx_current(cpu)->pin & PIN_VIRTUAL_NMIS)
        cpu->vmx->virtual_nmi_blocked = true;
    else
        cpu->nmi_blocked = true;
}

/*
 * SDM 3C, "Changes to Instruction Behavior in VMX Non-Root Operation", IRET: with "NMI exiting" 0 it unblocks
 * NMIs; with "NMI exiting" 1 it does not, but with "virtual NMIs" 1 it ends virtual-NMI blocking.
 */
void vmx_iret(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    bool was;
    if (x->vmcs->pin & PIN_VIRTUAL_NMIS) {
        was = x->virtual_nmi_blocked;
        x->virtual_nmi_blocked = false;
    } else if (!(x->vmcs->pin & PIN_NMI_EXITING)) {
        was = cpu->nmi_blocked;
        cpu->nmi_blocked = false;
    } else {
        return;
    }
    if (!was)
        return;
    x->iret_tick = cpu->clock->now;
    cpu->attention |= ATTN_VMX | ATTN_LEAVE | (cpu->nmi_pending ? ATTN_NMI : 0);
}
