/*
 * vmx_events.c -- event injection, windows, monitor trap flag, preemption timer, virtual NMIs, vectoring
 * information. SDM 3C 24.8.3, 25.2, 25.5, 26.6 "Event Injection", 26.7 "Special Features of VM
 * Entry", 27.2.4.
 */
#include "covers.h"
#include "vmx.h"

#define VALID   (1u << 31)
#define TYPE(t) ((uint32_t)(t) << 8)
enum {
    EXTERNAL = 0,
    NMI_TYPE = 2,
    HARDWARE = 3,
    SOFTWARE_INTERRUPT = 4,
    PRIVILEGED = 5,
    SOFTWARE_EXCEPTION = 6,
    OTHER = 7
};
#define BLOCKING_STI    1
#define BLOCKING_MOV_SS 2
#define BLOCKING_NMI    8

/* The guest shares the host's IDT, so handlers of the library run in the guest. */
static volatile struct {
    unsigned count;
    uint64_t vector, error, rip, rflags;
} seen;
static bool handler(struct trap_frame *f)
{
    seen.count++;
    seen.vector = f->vector;
    seen.error = f->error;
    seen.rip = f->rip;
    seen.rflags = f->rflags;
    return true;
}
static void handle(unsigned vector)
{
    seen.count = 0;
    trap_handlers[vector] = handler;
}

GUEST_CODE(nops, 64, "nop\n nop\n nop");
GUEST_CODE(spin, 64, "1: jmp 1b");
GUEST_CODE(sti_nops, 64, "sti\n nop\n nop\n nop\n cli");
GUEST_CODE(cli_sti, 64, "cli\n nop\n sti\n nop\n nop");
GUEST_CODE(mov_ss, 64, "mov %ss, %eax\n sti\n mov %eax, %ss\n nop\n nop");
GUEST_CODE(self_nmi, 64,
           "mov $0xfee00300, %edi\n movl $0, 0x10(%rdi)\n movl $0x4400, (%rdi)\n nop\n nop\n nop\n nop");
GUEST_CODE(int_40, 64, "int $0x40");
GUEST_CODE(rep_movs, 64, "mov %rsp, %rsi\n mov %rsp, %rdi\n sub $64, %rdi\n mov $3, %ecx\n rep movsb\n nop");

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}

/* Entry with an event: RIP at code, flags given. */
static struct vmx_exit inject(const char *code, uint32_t info, uint32_t error, uint32_t length,
                              uint64_t rflags)
{
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)code);
    vmcs_set(VMCS_GUEST_RSP, (uint64_t)vmx_guest_stack + sizeof vmx_guest_stack - 64);
    vmcs_set(VMCS_GUEST_RFLAGS, rflags);
    vmcs_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmcs_set(VMCS_GUEST_ACTIVITY, 0);
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, info);
    vmcs_set(VMCS_ENTRY_ERROR_CODE, error);
    vmcs_set(VMCS_ENTRY_INSTRUCTION_LENGTH, length);
    return vmx_enter();
}

/* -- Injection ----------------------------------------------------------------------------------------- */
static void injection(void)
{
    static const struct {
        const char *name;
        unsigned vector, type, error, length;
        bool has_error;
        unsigned rip; /* pushed RIP, from the code's first byte */
        uint64_t rflags;
    } list[] = {{"inject-external", 0x51, EXTERNAL, 0, 0, false, 0, RFLAGS_FIXED | RFLAGS_IF},
                {"inject-ud", EXC_UD, HARDWARE, 0, 0, false, 0, RFLAGS_FIXED},
                {"inject-gp", EXC_GP, HARDWARE, 0x1234, 0, true, 0, RFLAGS_FIXED},
                {"inject-int-n", 0x52, SOFTWARE_INTERRUPT, 0, 2, false, 2, RFLAGS_FIXED},
                {"inject-bp", EXC_BP, SOFTWARE_EXCEPTION, 0, 1, false, 1, RFLAGS_FIXED},
                {"inject-int1", EXC_DB, PRIVILEGED, 0, 1, false, 1, RFLAGS_FIXED},
                {"inject-nmi", EXC_NMI, NMI_TYPE, 0, 0, false, 0, RFLAGS_FIXED}};
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        vmx_guest_reset();
        handle(list[i].vector);
        struct vmx_exit e =
            inject(nops, VALID | TYPE(list[i].type) | list[i].vector | (list[i].has_error ? 1 << 11 : 0),
                   list[i].error, list[i].length, list[i].rflags);
        report(list[i].name, "SDM 3C 26.6.1 Vectored-Event Injection",
               ran(&e) && seen.count == 1 && seen.vector == list[i].vector &&
                   seen.rip == (uint64_t)nops + list[i].rip &&
                   (!list[i].has_error || seen.error == list[i].error),
               "result %d error %u reason %x; %u taken, vector %lx error %lx RIP +%lx", e.result, e.error,
               e.reason, seen.count, seen.vector, seen.error, seen.rip - (uint64_t)nops);
        report("inject-valid-bit-cleared", "SDM 3C 24.8.3: the valid bit is cleared by a VM exit",
               !(vmcs(VMCS_ENTRY_INTERRUPTION_INFO) & VALID), "%lx", vmcs(VMCS_ENTRY_INTERRUPTION_INFO));
        trap_handlers[list[i].vector] = NULL;
    }
    /* Injection is not intercepted by the exception bitmap. */
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD);
    handle(EXC_UD);
    struct vmx_exit e = inject(nops, VALID | TYPE(HARDWARE) | EXC_UD, 0, 0, RFLAGS_FIXED);
    report("inject-not-intercepted", "SDM 3C 26.6.1.2: injected events do not cause VM exits by the bitmap",
           ran(&e) && seen.count == 1, "reason %u", e.reason);
    trap_handlers[EXC_UD] = NULL;
    /* A fault while delivering: the exit carries the original event. */
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_NP);
    idt[0x53].type = 0x0e;
    e = inject(nops, VALID | TYPE(EXTERNAL) | 0x53, 0, 0, RFLAGS_FIXED | RFLAGS_IF);
    report("vectoring-external", "SDM 3C 27.2.4 IDT-vectoring information",
           e.reason == EXIT_REASON_EXCEPTION &&
               e.interruption == (VALID | 1 << 11 | TYPE(HARDWARE) | EXC_NP) &&
               e.interruption_error == 0x53 * 8 + 3 && e.vectoring == (VALID | TYPE(EXTERNAL) | 0x53),
           "reason %u interruption %x error %x vectoring %x", e.reason, e.interruption, e.interruption_error,
           e.vectoring);
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_NP);
    idt[0x40].type = 0x0e;
    e = vmx_run(int_40);
    report("vectoring-int-n", "SDM 3C 27.2.4: INT n has type 4 and an instruction length",
           e.reason == EXIT_REASON_EXCEPTION && e.vectoring == (VALID | TYPE(SOFTWARE_INTERRUPT) | 0x40) &&
               e.length == 2 && e.rip == (uint64_t)int_40 && e.interruption_error == 0x40 * 8 + 2,
           "reason %u vectoring %x length %u RIP +%lx error %x", e.reason, e.vectoring, e.length,
           e.rip - (uint64_t)int_40, e.interruption_error);
    vmx_guest_reset();
    e = vmx_run(nops);
    report("vectoring-none", "SDM 3C 27.2.4: not valid for other exits",
           !(e.vectoring & VALID) && !(e.interruption & VALID), "%x %x", e.vectoring, e.interruption);
    idt_reset(0x53);
    idt_reset(0x40);
    /* Activity state HLT: an injected interrupt wakes, an entry without one stays. */
    vmx_guest_reset();
    handle(0x51);
    if (rdmsr(IA32_VMX_MISC) >> 6 & 1) {
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)nops);
        vmcs_set(VMCS_GUEST_RSP, (uint64_t)vmx_guest_stack + sizeof vmx_guest_stack - 64);
        vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
        vmcs_set(VMCS_GUEST_ACTIVITY, 1);
        vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, VALID | TYPE(EXTERNAL) | 0x51);
        e = vmx_enter();
        report("inject-wakes-hlt", "SDM 3C 26.6.2: injection into the HLT state makes it active",
               ran(&e) && seen.count == 1, "reason %u", e.reason);
    }
    trap_handlers[0x51] = NULL;
}

/* -- Windows ------------------------------------------------------------------------------------------- */
static void windows(void)
{
    COVERS(PROC_INTERRUPT_WINDOW_EXITING);
    COVERS(PROC_NMI_WINDOW_EXITING);
    COVERS(PIN_NMI_EXITING);
    COVERS(PIN_VIRTUAL_NMIS);
    COVERS(EXIT_INTERRUPT_WINDOW);
    COVERS(EXIT_NMI_WINDOW);
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_INTERRUPT_WINDOW);
    struct vmx_exit e = vmx_run(cli_sti);
    report("interrupt-window", "SDM 3C 25.2: at the boundary where IF = 1 and nothing blocks",
           e.reason == EXIT_REASON_INTERRUPT_WINDOW && e.rip == (uint64_t)cli_sti + 4, "reason %u RIP +%lu",
           e.reason, e.rip - (uint64_t)cli_sti);
    e = inject(nops, 0, 0, 0, RFLAGS_FIXED | RFLAGS_IF);
    report("interrupt-window-at-entry", "SDM 3C 26.7.5: at once if the window is open",
           e.reason == EXIT_REASON_INTERRUPT_WINDOW && e.rip == (uint64_t)nops, "reason %u RIP +%lu",
           e.reason, e.rip - (uint64_t)nops);
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)nops);
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmcs_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_STI);
    e = vmx_enter();
    report("interrupt-window-sti-blocking", "SDM 3C 24.4.2: blocking by STI lasts one instruction",
           e.reason == EXIT_REASON_INTERRUPT_WINDOW && e.rip == (uint64_t)nops + 1, "reason %u RIP +%lu",
           e.reason, e.rip - (uint64_t)nops);
    if (vmx_can(IA32_VMX_PINBASED_CTLS, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)) {
        vmx_guest_reset();
        vmx_control_set(VMCS_PIN_CONTROLS, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
        vmx_control_set(VMCS_PROC_CONTROLS, PROC_NMI_WINDOW);
        e = vmx_run(nops);
        report("nmi-window-at-entry", "SDM 3C 26.7.6: at once if there is no virtual-NMI blocking",
               e.reason == EXIT_REASON_NMI_WINDOW && e.rip == (uint64_t)nops, "reason %u RIP +%lu", e.reason,
               e.rip - (uint64_t)nops);
        handle(EXC_NMI);
        e = inject(nops, VALID | TYPE(NMI_TYPE) | EXC_NMI, 0, 0, RFLAGS_FIXED);
        report("nmi-window-after-iret", "SDM 3C 25.3 IRET: removes virtual-NMI blocking; the window opens",
               e.reason == EXIT_REASON_NMI_WINDOW && e.rip == (uint64_t)nops && seen.count == 1,
               "reason %u RIP +%lu count %u", e.reason, e.rip - (uint64_t)nops, seen.count);
        trap_handlers[EXC_NMI] = NULL;
        vmx_guest_reset();
        vmx_control_set(VMCS_PIN_CONTROLS, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)nops);
        vmcs_set(VMCS_GUEST_RSP, (uint64_t)vmx_guest_stack + 4096);
        vmcs_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_NMI);
        e = vmx_enter();
        report("virtual-nmi-blocking-kept", "SDM 3C 27.3.4: the exit saves virtual-NMI blocking",
               ran(&e) && (vmcs(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_NMI), "%lx",
               vmcs(VMCS_GUEST_INTERRUPTIBILITY));
    } else {
        report_skip("nmi-window", "SDM 3C 26.7.6", "no virtual NMIs");
    }
    /* A real NMI exits with NMI exiting. */
    vmx_guest_reset();
    vmx_control_set(VMCS_PIN_CONTROLS, PIN_NMI_EXITING);
    lapic_enable();
    e = vmx_run(self_nmi);
    report("nmi-exit", "SDM 3C 25.2 NMI exiting; Table 24-16 type 2",
           e.reason == EXIT_REASON_EXCEPTION && e.interruption == (VALID | TYPE(NMI_TYPE) | EXC_NMI),
           "reason %u interruption %x", e.reason, e.interruption);
    /* The exit left blocking by NMI on in the host: an IRET ends it. */
    asm volatile("mov %%ss, %%eax; push %%rax; lea 8(%%rsp), %%rax; push %%rax; pushfq; mov %%cs, %%eax; "
                 "push %%rax; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:" ::
                     : "rax", "memory");
}

/* -- External interrupts ------------------------------------------------------------------------------- */
static void external(void)
{
    COVERS(PIN_EXTERNAL_INTERRUPT_EXITING);
    COVERS(EXITCTL_ACKNOWLEDGE_INTERRUPT);
    COVERS(EXIT_EXTERNAL_INTERRUPT);
    lapic_enable();
    handle(0x60);
    for (int acknowledge = 0; acknowledge < 2; acknowledge++) {
        vmx_guest_reset();
        vmx_control_set(VMCS_PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT_EXITING);
        if (acknowledge) {
            vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_ACK_INTERRUPT);
        }
        lapic_write(LAPIC_ICR, 0x40060);
        for (int i = 0; i < 1000; i++) {
            cpu_relax();
        }
        struct vmx_exit e = inject(spin, 0, 0, 0, RFLAGS_FIXED | RFLAGS_IF);
        if (acknowledge) {
            report("external-interrupt-acknowledged",
                   "SDM 3C 27.2.2: acknowledge on exit: vector recorded, now in service",
                   e.reason == EXIT_REASON_EXTERNAL_INTERRUPT && e.interruption == (VALID | 0x60) &&
                       (lapic_read(LAPIC_ISR + 0x30) & 1),
                   "reason %u interruption %x ISR %x", e.reason, e.interruption,
                   lapic_read(LAPIC_ISR + 0x30));
            lapic_write(LAPIC_EOI, 0);
        } else {
            report("external-interrupt", "SDM 3C 25.2: without acknowledge the interrupt stays pending",
                   e.reason == EXIT_REASON_EXTERNAL_INTERRUPT && !(e.interruption & VALID) &&
                       (lapic_read(LAPIC_IRR + 0x30) & 1),
                   "reason %u interruption %x IRR %x", e.reason, e.interruption,
                   lapic_read(LAPIC_IRR + 0x30));
            asm volatile("sti; nop; nop; cli" ::: "memory");
            check_equal("external-interrupt-in-host", "SDM 3C 27.1: then the host takes it", seen.count, 1);
            lapic_write(LAPIC_EOI, 0);
        }
    }
    if (enabled("external-interrupt-if-0", "SDM 3C 25.2")) {
        vmx_guest_reset();
        vmx_control_set(VMCS_PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT_EXITING);
        vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_ACK_INTERRUPT);
        lapic_write(LAPIC_ICR, 0x40060);
        struct vmx_exit e = vmx_run(spin);
        report("external-interrupt-if-0",
               "SDM 3C 25.2: with external-interrupt exiting RFLAGS.IF does not matter",
               e.reason == EXIT_REASON_EXTERNAL_INTERRUPT, "reason %u", e.reason);
        lapic_write(LAPIC_EOI, 0);
    }
    /* Without the control the guest's own IDT takes it. */
    vmx_guest_reset();
    handle(0x60);
    lapic_write(LAPIC_ICR, 0x40060);
    struct vmx_exit e = vmx_run(sti_nops);
    lapic_write(LAPIC_EOI, 0);
    report("external-interrupt-to-guest", "SDM 3C 25.2: not exiting, the guest takes it",
           ran(&e) && seen.count == 1, "reason %u count %u", e.reason, seen.count);
    trap_handlers[0x60] = NULL;
}

/* -- Monitor trap flag --------------------------------------------------------------------------------- */
static void monitor_trap(void)
{
    COVERS(PROC_MONITOR_TRAP_FLAG);
    COVERS(EXIT_MONITOR_TRAP_FLAG);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS, PROC_MTF)) {
        report_skip("mtf", "SDM 3C 25.5.2", "no monitor trap flag");
        return;
    }
    if (!enabled("mtf", "SDM 3C 25.5.2 Monitor Trap Flag")) {
        return;
    }
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_MTF);
    struct vmx_exit e = vmx_run(nops);
    report("mtf", "SDM 3C 25.5.2: after one instruction",
           e.reason == EXIT_REASON_MTF && e.rip == (uint64_t)nops + 1, "reason %u RIP +%lu", e.reason,
           e.rip - (uint64_t)nops);
    e = vmx_enter();
    report("mtf-again", "SDM 3C 25.5.2", e.reason == EXIT_REASON_MTF && e.rip == (uint64_t)nops + 2,
           "reason %u RIP +%lu", e.reason, e.rip - (uint64_t)nops);
    handle(EXC_UD);
    extern char trap_stubs[];
    e = inject(nops, VALID | TYPE(HARDWARE) | EXC_UD, 0, 0, RFLAGS_FIXED);
    report("mtf-injection", "SDM 3C 25.5.2: with an injected event, at the first instruction of its handler",
           e.reason == EXIT_REASON_MTF && e.rip == (uint64_t)trap_stubs + 16 * EXC_UD, "reason %u RIP %lx",
           e.reason, e.rip);
    trap_handlers[EXC_UD] = NULL;
    e = vmx_run(rep_movs);
    for (int i = 0; i < 4; i++) {
        e = vmx_enter();
    }
    report("mtf-rep", "SDM 3C 25.5.2: after each iteration of a REP instruction",
           e.reason == EXIT_REASON_MTF && e.rip == (uint64_t)rep_movs + 15 && (vmx_guest.rcx & 0xff) == 2,
           "reason %u RIP +%lu RCX %lx", e.reason, e.rip - (uint64_t)rep_movs, vmx_guest.rcx);
    vmx_guest_reset();
    e = inject(nops, VALID | TYPE(OTHER), 0, 0, RFLAGS_FIXED);
    report("mtf-pending-injected", "SDM 3C 26.6.2 Injection of Pending MTF VM Exits",
           e.reason == EXIT_REASON_MTF && e.rip == (uint64_t)nops, "result %d error %u reason %x RIP +%lu",
           e.result, e.error, e.reason, e.rip - (uint64_t)nops);
}

/* -- Preemption timer ---------------------------------------------------------------------------------- */
static void preemption_timer(void)
{
    COVERS(PIN_ACTIVATE_PREEMPTION_TIMER);
    COVERS(EXITCTL_SAVE_PREEMPTION_TIMER);
    COVERS(EXIT_PREEMPTION_TIMER);
    if (!vmx_can(IA32_VMX_PINBASED_CTLS, PIN_PREEMPTION_TIMER)) {
        report_skip("preemption-timer", "SDM 3C 25.5.1", "no preemption timer");
        return;
    }
    unsigned shift = rdmsr(IA32_VMX_MISC) & 31;
    vmx_guest_reset();
    vmx_control_set(VMCS_PIN_CONTROLS, PIN_PREEMPTION_TIMER);
    vmcs_set(VMCS_PREEMPTION_TIMER, 0);
    struct vmx_exit e = vmx_run(nops);
    report("preemption-timer-zero", "SDM 3C 26.7.4: with 0, before the first instruction",
           e.reason == EXIT_REASON_PREEMPTION_TIMER && e.rip == (uint64_t)nops, "reason %u RIP +%lu",
           e.reason, e.rip - (uint64_t)nops);
    vmcs_set(VMCS_PREEMPTION_TIMER, 1000);
    uint64_t begin = rdtsc();
    e = vmx_run(spin);
    uint64_t ticks = rdtsc() - begin;
    report("preemption-timer-expires",
           "SDM 3C 25.5.1: counts down at the TSC's rate divided by 2^IA32_VMX_MISC[4:0]",
           e.reason == EXIT_REASON_PREEMPTION_TIMER && ticks >= (999ul << shift),
           "reason %u after %lu TSC ticks, want %lu", e.reason, ticks, 1000ul << shift);
    check_equal("preemption-timer-not-saved",
                "SDM 3C 27.3.1: without \"save VMX-preemption timer value\" the field stays",
                vmcs(VMCS_PREEMPTION_TIMER), 1000);
    if (vmx_can(IA32_VMX_EXIT_CTLS, EXIT_SAVE_PREEMPTION_TIMER)) {
        vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_SAVE_PREEMPTION_TIMER);
        vmcs_set(VMCS_PREEMPTION_TIMER, 0x10000000);
        e = vmx_run(nops);
        uint64_t left = vmcs(VMCS_PREEMPTION_TIMER);
        report("preemption-timer-saved", "SDM 3C 27.3.1", ran(&e) && left <= 0x10000000 && left > 0x0f000000,
               "reason %u left %lx", e.reason, left);
        vmcs_set(VMCS_PREEMPTION_TIMER, 100);
        e = vmx_run(spin);
        check_equal("preemption-timer-saved-zero", "SDM 3C 27.3.1: 0 after it expired",
                    vmcs(VMCS_PREEMPTION_TIMER), 0);
    }
    if (rdmsr(IA32_VMX_MISC) >> 6 & 1) {
        vmcs_set(VMCS_PREEMPTION_TIMER, 1000);
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)nops);
        vmcs_set(VMCS_GUEST_ACTIVITY, 1);
        e = vmx_enter();
        report("preemption-timer-in-hlt", "SDM 3C 25.5.1: also in the HLT state, which is saved",
               e.reason == EXIT_REASON_PREEMPTION_TIMER && vmcs(VMCS_GUEST_ACTIVITY) == 1,
               "reason %u activity %lu", e.reason, vmcs(VMCS_GUEST_ACTIVITY));
    }
}

/* -- Pending debug exceptions, saved interruptibility -------------------------------------------------- */
GUEST_CODE(sti_vmcall, 64, "sti");
GUEST_CODE(ss_vmcall, 64, "mov %ss, %eax\n mov %eax, %ss");

static void interruptibility(void)
{
    vmx_guest_reset();
    struct vmx_exit e = vmx_run(sti_vmcall);
    report("exit-saves-sti-blocking", "SDM 3C 27.3.4",
           ran(&e) && vmcs(VMCS_GUEST_INTERRUPTIBILITY) == BLOCKING_STI, "%lx",
           vmcs(VMCS_GUEST_INTERRUPTIBILITY));
    e = vmx_run(ss_vmcall);
    report("exit-saves-mov-ss-blocking", "SDM 3C 27.3.4",
           ran(&e) && vmcs(VMCS_GUEST_INTERRUPTIBILITY) == BLOCKING_MOV_SS, "%lx",
           vmcs(VMCS_GUEST_INTERRUPTIBILITY));
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_DB);
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)nops);
    vmcs_set(VMCS_GUEST_RSP, (uint64_t)vmx_guest_stack + 4096);
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    vmcs_set(VMCS_GUEST_PENDING_DEBUG, 1 << 14);
    e = vmx_enter();
    report("pending-debug", "SDM 3C 26.7.3 Delivery of Pending Debug Exceptions after VM Entry",
           e.reason == EXIT_REASON_EXCEPTION && (e.interruption & 0xff) == EXC_DB &&
               e.rip == (uint64_t)nops && e.qualification == 1 << 14,
           "reason %u interruption %x RIP +%lu qualification %lx", e.reason, e.interruption,
           e.rip - (uint64_t)nops, e.qualification);
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    injection();
    windows();
    external();
    preemption_timer();
    interruptibility();
    monitor_trap();
    asm volatile("vmxoff");
}
