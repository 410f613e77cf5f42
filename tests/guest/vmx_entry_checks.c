/*
 * vmx_entry_checks.c -- VM entry's checks, each rule broken once. SDM 3C 26.2 "Checks on VMX Controls and
 * Host-State Area", 26.3 "Checking and Loading Guest State".
 *
 * A broken control ends the instruction with VMfailValid(7), broken host state with VMfailValid(8), broken
 * guest state with exit reason 80000021H. Between the cases an entry with nothing broken must succeed.
 */
#include "covers.h"
#include "vmx.h"

enum outcome { CONTROL = 7, HOST = 8, GUEST = 33 };
enum change { SET, OR, AND_NOT };
struct rule_case {
    const char *name, *rule;
    enum outcome outcome;
    uint32_t field;
    enum change change;
    uint64_t value;
    uint32_t field2;
    enum change change2;
    uint64_t value2;
    uint32_t proc2; /* secondary controls to have on (and possible) */
    uint64_t qualification;
};

#define NON_CANONICAL 0x0000800000000000ul
GUEST_CODE(guest_nop, 64, "nop");
static const char *const C1 = "SDM 3C 26.2.1.1 VM-Execution Control Fields",
                         *const C2 = "SDM 3C 26.2.1.2 VM-Exit Control Fields",
                         *const C3 = "SDM 3C 26.2.1.3 VM-Entry Control Fields",
                         *const H1 = "SDM 3C 26.2.2 Host Control Registers and MSRs",
                         *const H2 = "SDM 3C 26.2.3 Host Segment and Descriptor-Table Registers",
                         *const H3 = "SDM 3C 26.2.4 Address-Space Size",
                         *const G1 = "SDM 3C 26.3.1.1 Guest Control Registers, Debug Registers, and MSRs",
                         *const G2 = "SDM 3C 26.3.1.2 Guest Segment Registers",
                         *const G3 = "SDM 3C 26.3.1.3 Guest Descriptor-Table Registers",
                         *const G4 = "SDM 3C 26.3.1.4 Guest RIP and RFLAGS",
                         *const G5 = "SDM 3C 26.3.1.5 Guest Non-Register State";

static struct vmx_exit attempt(void)
{
    vmcs_set(VMCS_GUEST_RIP, vmcs(VMCS_GUEST_RIP) ? vmcs(VMCS_GUEST_RIP) : (uint64_t)guest_nop);
    return vmx_enter();
}

static void fresh(void)
{
    vmx_guest_reset();
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)guest_nop);
}

static bool outcome_is(const struct vmx_exit *e, enum outcome outcome, uint64_t qualification)
{
    return outcome == GUEST ? e->result == VMX_OK && e->reason == (EXIT_REASON_ENTRY_FAILURE | 33) &&
                                  e->qualification == qualification
                            : e->result == VMX_FAIL_VALID && e->error == outcome;
}

static void change(uint32_t field, enum change how, uint64_t value)
{
    uint64_t old = vmcs(field);
    vmcs_set(field, how == SET ? value : how == OR ? old | value : old & ~value);
}

static void broken(const struct rule_case *c)
{
    if (!enabled(c->name, c->rule)) {
        return;
    }
    if (c->proc2 && !vmx_can(IA32_VMX_PROCBASED_CTLS2, c->proc2)) {
        report_skip(c->name, c->rule, "no such control");
        return;
    }
    fresh();
    if (c->proc2) {
        vmx_secondary(c->proc2);
        if (c->proc2 & PROC2_ENABLE_EPT) {
            static uint64_t eptp;
            eptp = eptp ? eptp : ept_identity(4);
            vmcs_set(VMCS_EPT_POINTER, eptp);
        }
    }
    change(c->field, c->change, c->value);
    if (c->field2) {
        change(c->field2, c->change2, c->value2);
    }
    struct vmx_exit e = attempt();
    report(c->name, c->rule, outcome_is(&e, c->outcome, c->qualification),
           "result %d error %u reason %x qualification %lx, want %u", e.result, e.error, e.reason,
           e.qualification, c->outcome);
}

/* -- Every reserved bit of every control --------------------------------------------------------------- */
static void control_bits(void)
{
    static const struct {
        const char *name;
        uint32_t field, msr;
    } list[] = {{"pin", VMCS_PIN_CONTROLS, IA32_VMX_PINBASED_CTLS},
                {"proc", VMCS_PROC_CONTROLS, IA32_VMX_PROCBASED_CTLS},
                {"proc2", VMCS_PROC2_CONTROLS, IA32_VMX_PROCBASED_CTLS2},
                {"exit", VMCS_EXIT_CONTROLS, IA32_VMX_EXIT_CTLS},
                {"entry", VMCS_ENTRY_CONTROLS, IA32_VMX_ENTRY_CTLS}};
    for (unsigned i = 0; i < 5; i++) {
        unsigned count = 0;
        for (unsigned bit = 0; bit < 32; bit++) {
            uint32_t mask = 1u << bit;
            bool must = vmx_must(list[i].msr) & mask, can = vmx_can(list[i].msr, mask);
            if (!must && can) {
                continue;
            }
            fresh();
            if (i == 2) {
                vmx_secondary(0);
            }
            change(list[i].field, must ? AND_NOT : OR, mask);
            struct vmx_exit e = attempt();
            count++;
            if (!outcome_is(&e, CONTROL, 0)) {
                char name[32];
                format_text(name, sizeof name, "control-%s-bit%u", list[i].name, bit);
                report(name, "SDM 3C 26.2.1: reserved bits as the capability MSRs say", false,
                       "must be %u: result %d error %u reason %x", must, e.result, e.error, e.reason);
            }
        }
        char name[32];
        format_text(name, sizeof name, "control-bits-%s", list[i].name);
        report(name, "SDM 3C 26.2.1: reserved bits as the capability MSRs say", count > 2, "%u bits", count);
    }
}

#define BEYOND (1ul << physical_bits())
#define X(name, rule, outcome, field, change, value, ...)                                                    \
    {                                                                                                        \
        name, rule, outcome, field, change, value, __VA_ARGS__                                               \
    }

static void table(void)
{
    COVERS(EXIT_ENTRY_GUEST_STATE);
    const struct rule_case cases[] = {
        X("cr3-target-count", C1, CONTROL, VMCS_CR3_TARGET_COUNT, SET, 5, 0),
        X("io-bitmap-a-aligned", C1, CONTROL, VMCS_PROC_CONTROLS, OR, PROC_IO_BITMAPS, VMCS_IO_BITMAP_A, SET,
          0x1001),
        X("io-bitmap-b-aligned", C1, CONTROL, VMCS_PROC_CONTROLS, OR, PROC_IO_BITMAPS, VMCS_IO_BITMAP_B, SET,
          0x1800),
        X("io-bitmap-a-width", C1, CONTROL, VMCS_PROC_CONTROLS, OR, PROC_IO_BITMAPS, VMCS_IO_BITMAP_A, SET,
          BEYOND),
        X("msr-bitmap-aligned", C1, CONTROL, VMCS_MSR_BITMAP, OR, 8, 0),
        X("msr-bitmap-width", C1, CONTROL, VMCS_MSR_BITMAP, SET, BEYOND, 0),
        X("tpr-shadow-page-aligned", C1, CONTROL, VMCS_PROC_CONTROLS, OR, PROC_TPR_SHADOW,
          VMCS_VIRTUAL_APIC_ADDRESS, SET, 0x800010),
        X("tpr-threshold-bits", C1, CONTROL, VMCS_PROC_CONTROLS, OR, PROC_TPR_SHADOW, VMCS_TPR_THRESHOLD, SET,
          0x10),
        X("virtual-nmis-need-nmi-exiting", C1, CONTROL, VMCS_PIN_CONTROLS, OR, PIN_VIRTUAL_NMIS, 0),
        X("nmi-window-needs-virtual-nmis", C1, CONTROL, VMCS_PROC_CONTROLS, OR, PROC_NMI_WINDOW, 0),
        X("apic-accesses-need-tpr-or-alone", C1, CONTROL, VMCS_APIC_ACCESS_ADDRESS, SET, 0x800010, 0, 0, 0,
          PROC2_APIC_ACCESSES),
        X("apic-accesses-width", C1, CONTROL, VMCS_APIC_ACCESS_ADDRESS, SET, BEYOND, 0, 0, 0,
          PROC2_APIC_ACCESSES),
        X("x2apic-needs-tpr-shadow", C1, CONTROL, VMCS_PROC2_CONTROLS, OR, PROC2_X2APIC, 0, 0, 0,
          PROC2_X2APIC),
        X("apic-register-needs-tpr-shadow", C1, CONTROL, VMCS_PROC2_CONTROLS, OR, PROC2_APIC_REGISTER, 0, 0,
          0, PROC2_APIC_REGISTER),
        X("virtual-interrupt-delivery-needs-tpr-shadow", C1, CONTROL, VMCS_PIN_CONTROLS, OR,
          PIN_EXTERNAL_INTERRUPT_EXITING, 0, 0, 0, PROC2_VIRTUAL_INTERRUPT_DELIVERY),
        X("x2apic-with-apic-accesses", C1, CONTROL, VMCS_PROC_CONTROLS, OR, PROC_TPR_SHADOW,
          VMCS_PROC2_CONTROLS, OR, PROC2_APIC_ACCESSES, PROC2_X2APIC),
        X("vpid-zero", C1, CONTROL, VMCS_VPID, SET, 0, 0, 0, 0, PROC2_ENABLE_VPID),
        X("ept-memory-type", C1, CONTROL, VMCS_EPT_POINTER, OR, 7, 0, 0, 0, PROC2_ENABLE_EPT),
        X("ept-walk-length", C1, CONTROL, VMCS_EPT_POINTER, AND_NOT, 3 << 3, 0, 0, 0, PROC2_ENABLE_EPT),
        X("ept-reserved", C1, CONTROL, VMCS_EPT_POINTER, OR, 1 << 8, 0, 0, 0, PROC2_ENABLE_EPT),
        X("ept-width", C1, CONTROL, VMCS_EPT_POINTER, OR, BEYOND, 0, 0, 0, PROC2_ENABLE_EPT),
        X("unrestricted-needs-ept", C1, CONTROL, VMCS_PROC2_CONTROLS, OR, PROC2_UNRESTRICTED_GUEST, 0, 0, 0,
          PROC2_UNRESTRICTED_GUEST),
        X("pml-needs-ept", C1, CONTROL, VMCS_PROC2_CONTROLS, OR, PROC2_ENABLE_PML, 0, 0, 0, PROC2_ENABLE_PML),
        X("pml-aligned", C1, CONTROL, VMCS_PML_ADDRESS, SET, 0x10, 0, 0, 0,
          PROC2_ENABLE_EPT | PROC2_ENABLE_PML),
        X("shadowing-aligned", C1, CONTROL, VMCS_VMREAD_BITMAP, SET, 0x10, 0, 0, 0, PROC2_VMCS_SHADOWING),
        X("exit-msr-store-aligned", C2, CONTROL, VMCS_EXIT_MSR_STORE, SET, 0x800008,
          VMCS_EXIT_MSR_STORE_COUNT, SET, 1),
        X("exit-msr-load-width", C2, CONTROL, VMCS_EXIT_MSR_LOAD, SET, BEYOND, VMCS_EXIT_MSR_LOAD_COUNT, SET,
          1),
        X("save-timer-without-timer", C2, CONTROL, VMCS_EXIT_CONTROLS, OR, EXIT_SAVE_PREEMPTION_TIMER, 0),
        X("entry-msr-load-aligned", C3, CONTROL, VMCS_ENTRY_MSR_LOAD, SET, 0x800008,
          VMCS_ENTRY_MSR_LOAD_COUNT, SET, 1),
        X("entry-to-smm", C3, CONTROL, VMCS_ENTRY_CONTROLS, OR, ENTRY_TO_SMM, 0),
        X("entry-deactivate-dual", C3, CONTROL, VMCS_ENTRY_CONTROLS, OR, ENTRY_DEACTIVATE_DUAL, 0),
        X("inject-type-reserved", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000100, 0),
        X("inject-nmi-vector", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000203, 0),
        X("inject-exception-vector", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000320, 0),
        X("inject-other-vector", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000701, 0),
        X("inject-error-code-missing", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x8000030d, 0),
        X("inject-error-code-not-allowed", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000b06, 0),
        X("inject-error-code-high", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000b0d,
          VMCS_ENTRY_ERROR_CODE, SET, 0x10000),
        X("inject-reserved-bits", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80001306, 0),
        X("inject-length-zero", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000440,
          VMCS_ENTRY_INSTRUCTION_LENGTH, SET, rdmsr(IA32_VMX_MISC) >> 30 & 1 ? 16 : 0),
        X("inject-length-16", C3, CONTROL, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000440,
          VMCS_ENTRY_INSTRUCTION_LENGTH, SET, 16),

        X("host-cr0-fixed", H1, HOST, VMCS_HOST_CR0, AND_NOT, CR0_NE, 0),
        X("host-cr4-fixed", H1, HOST, VMCS_HOST_CR4, AND_NOT, CR4_VMXE, 0),
        X("host-cr4-reserved", H1, HOST, VMCS_HOST_CR4, OR, 1ul << 31, 0),
        X("host-cr3-width", H1, HOST, VMCS_HOST_CR3, OR, BEYOND, 0),
        X("host-sysenter-esp", H1, HOST, VMCS_HOST_SYSENTER_ESP, SET, NON_CANONICAL, 0),
        X("host-sysenter-eip", H1, HOST, VMCS_HOST_SYSENTER_EIP, SET, NON_CANONICAL, 0),
        X("host-efer-reserved", H1, HOST, VMCS_HOST_EFER, OR, 1 << 1, 0),
        X("host-efer-lma", H1, HOST, VMCS_HOST_EFER, AND_NOT, EFER_LMA, 0),
        X("host-efer-lme", H1, HOST, VMCS_HOST_EFER, AND_NOT, EFER_LME, 0),
        X("host-pat", H1, HOST, VMCS_EXIT_CONTROLS, OR, EXIT_LOAD_PAT, VMCS_HOST_PAT, SET, 2),
        X("host-cs-rpl", H2, HOST, VMCS_HOST_CS_SELECTOR, OR, 3, 0),
        X("host-ds-ti", H2, HOST, VMCS_HOST_DS_SELECTOR, OR, 4, 0),
        X("host-gs-rpl", H2, HOST, VMCS_HOST_GS_SELECTOR, OR, 1, 0),
        X("host-cs-null", H2, HOST, VMCS_HOST_CS_SELECTOR, SET, 0, 0),
        X("host-tr-null", H2, HOST, VMCS_HOST_TR_SELECTOR, SET, 0, 0),
        X("host-fs-base", H2, HOST, VMCS_HOST_FS_BASE, SET, NON_CANONICAL, 0),
        X("host-gs-base", H2, HOST, VMCS_HOST_GS_BASE, SET, NON_CANONICAL, 0),
        X("host-tr-base", H2, HOST, VMCS_HOST_TR_BASE, SET, NON_CANONICAL, 0),
        X("host-gdtr-base", H2, HOST, VMCS_HOST_GDTR_BASE, SET, NON_CANONICAL, 0),
        X("host-idtr-base", H2, HOST, VMCS_HOST_IDTR_BASE, SET, NON_CANONICAL, 0),
        X("host-address-space-size", H3, HOST, VMCS_EXIT_CONTROLS, AND_NOT, EXIT_HOST_64, 0),
        X("host-cr4-pae", H3, HOST, VMCS_HOST_CR4, AND_NOT, CR4_PAE, 0),
        X("host-rip", H3, HOST, VMCS_HOST_RIP, SET, NON_CANONICAL, 0),

        X("guest-cr0-fixed", G1, GUEST, VMCS_GUEST_CR0, AND_NOT, CR0_NE, 0),
        X("guest-cr0-pg-without-pe", G1, GUEST, VMCS_GUEST_CR0, AND_NOT, CR0_PE, 0),
        X("guest-cr4-fixed", G1, GUEST, VMCS_GUEST_CR4, AND_NOT, CR4_VMXE, 0),
        X("guest-cr4-reserved", G1, GUEST, VMCS_GUEST_CR4, OR, 1ul << 31, 0),
        X("guest-cr4-pae-in-ia32e", G1, GUEST, VMCS_GUEST_CR4, AND_NOT, CR4_PAE, 0),
        X("guest-cr4-pcide-outside-ia32e", G1, GUEST, VMCS_GUEST_CR4, OR, CR4_PCIDE, VMCS_ENTRY_CONTROLS,
          AND_NOT, ENTRY_IA32E_GUEST),
        X("guest-cr3-width", G1, GUEST, VMCS_GUEST_CR3, OR, BEYOND, 0),
        X("guest-debugctl", G1, GUEST, VMCS_ENTRY_CONTROLS, OR, ENTRY_LOAD_DEBUG, VMCS_GUEST_DEBUGCTL, SET,
          1ul << 40),
        X("guest-dr7", G1, GUEST, VMCS_ENTRY_CONTROLS, OR, ENTRY_LOAD_DEBUG, VMCS_GUEST_DR7, SET,
          1ul << 32 | 0x400),
        X("guest-sysenter-esp", G1, GUEST, VMCS_GUEST_SYSENTER_ESP, SET, NON_CANONICAL, 0),
        X("guest-sysenter-eip", G1, GUEST, VMCS_GUEST_SYSENTER_EIP, SET, NON_CANONICAL, 0),
        X("guest-efer-reserved", G1, GUEST, VMCS_GUEST_EFER, OR, 1 << 1, 0),
        X("guest-efer-lma", G1, GUEST, VMCS_GUEST_EFER, AND_NOT, EFER_LMA, 0),
        X("guest-efer-lme", G1, GUEST, VMCS_GUEST_EFER, AND_NOT, EFER_LME, 0),
        X("guest-pat", G1, GUEST, VMCS_ENTRY_CONTROLS, OR, ENTRY_LOAD_PAT, VMCS_GUEST_PAT, SET, 3),

        X("guest-tr-ti", G2, GUEST, VMCS_GUEST_TR_SELECTOR, OR, 4, 0),
        X("guest-ss-rpl", G2, GUEST, VMCS_GUEST_SS_SELECTOR, OR, 3, 0),
        X("guest-ldtr-ti", G2, GUEST, VMCS_GUEST_LDTR_ACCESS, SET, 0x82, VMCS_GUEST_LDTR_SELECTOR, SET, 4),
        X("guest-tr-base", G2, GUEST, VMCS_GUEST_TR_BASE, SET, NON_CANONICAL, 0),
        X("guest-fs-base", G2, GUEST, VMCS_GUEST_FS_BASE, SET, NON_CANONICAL, 0),
        X("guest-cs-base-high", G2, GUEST, VMCS_GUEST_CS_BASE, SET, 1ul << 32, 0),
        X("guest-ss-base-high", G2, GUEST, VMCS_GUEST_SS_BASE, SET, 1ul << 32, 0),
        X("guest-cs-type", G2, GUEST, VMCS_GUEST_CS_ACCESS, SET, 0xa093, 0),
        X("guest-cs-not-accessed", G2, GUEST, VMCS_GUEST_CS_ACCESS, SET, 0xa09a, 0),
        X("guest-ss-type", G2, GUEST, VMCS_GUEST_SS_ACCESS, SET, 0xc091, 0),
        X("guest-ds-type", G2, GUEST, VMCS_GUEST_DS_ACCESS, SET, 0xc099, 0),
        X("guest-ds-not-accessed", G2, GUEST, VMCS_GUEST_DS_ACCESS, SET, 0xc092, 0),
        X("guest-cs-system", G2, GUEST, VMCS_GUEST_CS_ACCESS, SET, 0xa08b, 0),
        X("guest-cs-dpl", G2, GUEST, VMCS_GUEST_CS_ACCESS, SET, 0xa0fb, 0),
        X("guest-ss-dpl", G2, GUEST, VMCS_GUEST_SS_ACCESS, SET, 0xc0f3, 0),
        X("guest-cs-not-present", G2, GUEST, VMCS_GUEST_CS_ACCESS, SET, 0xa01b, 0),
        X("guest-es-reserved", G2, GUEST, VMCS_GUEST_ES_ACCESS, SET, 0xc193, 0),
        X("guest-cs-l-and-d", G2, GUEST, VMCS_GUEST_CS_ACCESS, SET, 0xe09b, 0),
        X("guest-es-granularity-0", G2, GUEST, VMCS_GUEST_ES_LIMIT, SET, 0xffff0, VMCS_GUEST_ES_ACCESS, SET,
          0xc093),
        X("guest-es-granularity-1", G2, GUEST, VMCS_GUEST_ES_LIMIT, SET, 0xfff00fff, VMCS_GUEST_ES_ACCESS,
          SET, 0x4093),
        X("guest-tr-type", G2, GUEST, VMCS_GUEST_TR_ACCESS, SET, 0x89, 0),
        X("guest-tr-system", G2, GUEST, VMCS_GUEST_TR_ACCESS, SET, 0x9b, 0),
        X("guest-tr-not-present", G2, GUEST, VMCS_GUEST_TR_ACCESS, SET, 0x0b, 0),
        X("guest-tr-unusable", G2, GUEST, VMCS_GUEST_TR_ACCESS, OR, 0x10000, 0),
        X("guest-tr-granularity", G2, GUEST, VMCS_GUEST_TR_ACCESS, OR, 0x8000, 0),
        X("guest-ldtr-type", G2, GUEST, VMCS_GUEST_LDTR_ACCESS, SET, 0x83, 0),
        X("guest-gdtr-base", G3, GUEST, VMCS_GUEST_GDTR_BASE, SET, NON_CANONICAL, 0),
        X("guest-idtr-base", G3, GUEST, VMCS_GUEST_IDTR_BASE, SET, NON_CANONICAL, 0),
        X("guest-gdtr-limit", G3, GUEST, VMCS_GUEST_GDTR_LIMIT, SET, 0x10000, 0),
        X("guest-idtr-limit", G3, GUEST, VMCS_GUEST_IDTR_LIMIT, SET, 0x10000, 0),
        X("guest-rip", G4, GUEST, VMCS_GUEST_RIP, SET, 1ul << 57, 0),
        X("guest-rflags-bit1", G4, GUEST, VMCS_GUEST_RFLAGS, AND_NOT, 2, 0),
        X("guest-rflags-reserved", G4, GUEST, VMCS_GUEST_RFLAGS, OR, 1 << 3, 0),
        X("guest-rflags-high", G4, GUEST, VMCS_GUEST_RFLAGS, OR, 1 << 22, 0),
        X("guest-rflags-vm", G4, GUEST, VMCS_GUEST_RFLAGS, OR, 1 << 17, 0),
        X("guest-rflags-if-injection", G4, GUEST, VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000050, 0),
        X("guest-activity-reserved", G5, GUEST, VMCS_GUEST_ACTIVITY, SET, 4, 0),
        X("guest-activity-hlt-dpl", G5, GUEST, VMCS_GUEST_ACTIVITY, SET, 1, VMCS_GUEST_SS_ACCESS, SET,
          0xc0f3),
        X("guest-activity-blocking", G5, GUEST, VMCS_GUEST_ACTIVITY, SET, 1, VMCS_GUEST_INTERRUPTIBILITY, SET,
          2),
        X("guest-activity-hlt-injection", G5, GUEST, VMCS_GUEST_ACTIVITY, SET, 1,
          VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000306),
        X("guest-interruptibility-reserved", G5, GUEST, VMCS_GUEST_INTERRUPTIBILITY, SET, 1 << 5, 0),
        X("guest-sti-and-mov-ss", G5, GUEST, VMCS_GUEST_INTERRUPTIBILITY, SET, 3, VMCS_GUEST_RFLAGS, OR,
          RFLAGS_IF),
        X("guest-sti-needs-if", G5, GUEST, VMCS_GUEST_INTERRUPTIBILITY, SET, 1, 0),
        X("guest-mov-ss-injection", G5, GUEST, VMCS_GUEST_INTERRUPTIBILITY, SET, 2,
          VMCS_ENTRY_INTERRUPTION_INFO, SET, 0x80000202),
        X("guest-smi-blocking", G5, GUEST, VMCS_GUEST_INTERRUPTIBILITY, SET, 4, 0),
        X("guest-pending-debug-reserved", G5, GUEST, VMCS_GUEST_PENDING_DEBUG, SET, 1 << 4, 0),
        X("guest-pending-debug-bs", G5, GUEST, VMCS_GUEST_INTERRUPTIBILITY, SET, 2, VMCS_GUEST_PENDING_DEBUG,
          SET, 1 << 14),
        X("guest-link-pointer", G5, GUEST, VMCS_LINK_POINTER, SET, 0x801, 0, 0, 0, 0, 4),
        X("guest-link-pointer-width", G5, GUEST, VMCS_LINK_POINTER, SET, BEYOND, 0, 0, 0, 0, 4),
    };
    unsigned count = sizeof cases / sizeof cases[0];
    for (unsigned i = 0; i < count; i++) {
        broken(&cases[i]);
        if (i % 16 == 0) {
            fresh();
            struct vmx_exit e = attempt();
            if (e.result != VMX_OK || e.reason != EXIT_REASON_VMCALL) {
                report("unbroken-between", "SDM 3C 26", false, "after %s: result %d error %u reason %x",
                       cases[i].name, e.result, e.error, e.reason);
            }
        }
    }
    report("cases", "a sweep that finds nothing proves nothing", count > 100, "%u", count);
}

static void instruction_checks(void)
{
    fresh();
    struct vmx_exit e = attempt();
    report("unbroken", "SDM 3C 26", e.result == VMX_OK && e.reason == EXIT_REASON_VMCALL,
           "result %d error %u reason %x qualification %lx", e.result, e.error, e.reason, e.qualification);
    enum vmx_result r = vmx_enter_raw(&vmx_guest, true);
    report("vmlaunch-launched", "SDM 3C 30.4 error 4: VMLAUNCH with non-clear VMCS",
           r == VMX_FAIL_VALID && vmcs(VMCS_INSTRUCTION_ERROR) == 4, "result %d error %lu", r,
           vmcs(VMCS_INSTRUCTION_ERROR));
    /* Blocking by MOV SS: error 26. */
    uint64_t error;
    asm volatile("mov %%ss, %%eax; mov %%eax, %%ss; vmresume" ::: "rax", "memory", "cc");
    error = vmcs(VMCS_INSTRUCTION_ERROR);
    check_equal("events-blocked-by-mov-ss", "SDM 3C 30.4 error 26: VM entry with events blocked by MOV SS",
                error, 26);
    /* A failed entry leaves the VMCS not launched. */
    fresh();
    change(VMCS_GUEST_RFLAGS, AND_NOT, 2);
    e = attempt();
    r = vmx_enter_raw(&vmx_guest, false);
    report("failed-entry-not-launched", "SDM 3C 26.8: a failed entry does not change the launch state",
           r == VMX_FAIL_VALID && vmcs(VMCS_INSTRUCTION_ERROR) == 5, "result %d error %lu", r,
           vmcs(VMCS_INSTRUCTION_ERROR));
    /* Order: controls before host before guest. */
    fresh();
    change(VMCS_GUEST_RFLAGS, AND_NOT, 2);
    change(VMCS_HOST_CS_SELECTOR, SET, 0);
    e = attempt();
    report("host-before-guest", "SDM 3C 26.2, 26.3", outcome_is(&e, HOST, 0), "result %d error %u reason %x",
           e.result, e.error, e.reason);
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    instruction_checks();
    control_bits();
    table();
    asm volatile("vmxoff");
}
