/*
 * lib/vmx.c -- VMX on, a VMCS with a 64-bit guest in it, entry, and an identity EPT.
 */
#include "vmx.h"

struct vmx_registers vmx_guest;
void *vmx_vmcs;
bool vmx_launched;
uint8_t vmx_guest_stack[16384] __attribute__((section(".user_data"), aligned(16)));
extern char vmx_exit_point[];

const char *vmx_reason_name(unsigned reason)
{
    static const char *const names[] = {[0] = "exception or NMI",
                                        [1] = "external interrupt",
                                        [2] = "triple fault",
                                        [3] = "INIT",
                                        [4] = "SIPI",
                                        [7] = "interrupt window",
                                        [8] = "NMI window",
                                        [9] = "task switch",
                                        [10] = "CPUID",
                                        [11] = "GETSEC",
                                        [12] = "HLT",
                                        [13] = "INVD",
                                        [14] = "INVLPG",
                                        [15] = "RDPMC",
                                        [16] = "RDTSC",
                                        [17] = "RSM",
                                        [18] = "VMCALL",
                                        [19] = "VMCLEAR",
                                        [20] = "VMLAUNCH",
                                        [21] = "VMPTRLD",
                                        [22] = "VMPTRST",
                                        [23] = "VMREAD",
                                        [24] = "VMRESUME",
                                        [25] = "VMWRITE",
                                        [26] = "VMXOFF",
                                        [27] = "VMXON",
                                        [28] = "CR access",
                                        [29] = "MOV DR",
                                        [30] = "I/O instruction",
                                        [31] = "RDMSR",
                                        [32] = "WRMSR",
                                        [33] = "entry failure: guest state",
                                        [34] = "entry failure: MSR loading",
                                        [36] = "MWAIT",
                                        [37] = "monitor trap flag",
                                        [39] = "MONITOR",
                                        [40] = "PAUSE",
                                        [41] = "entry failure: machine check",
                                        [43] = "TPR below threshold",
                                        [44] = "APIC access",
                                        [45] = "virtualized EOI",
                                        [46] = "GDTR or IDTR",
                                        [47] = "LDTR or TR",
                                        [48] = "EPT violation",
                                        [49] = "EPT misconfiguration",
                                        [50] = "INVEPT",
                                        [51] = "RDTSCP",
                                        [52] = "preemption timer",
                                        [53] = "INVVPID",
                                        [54] = "WBINVD",
                                        [55] = "XSETBV",
                                        [56] = "APIC write",
                                        [57] = "RDRAND",
                                        [58] = "INVPCID",
                                        [59] = "VMFUNC",
                                        [61] = "RDSEED",
                                        [62] = "page-modification log full",
                                        [63] = "XSAVES",
                                        [64] = "XRSTORS"};
    reason &= 0xffff;
    const char *name = reason < sizeof names / sizeof names[0] ? names[reason] : NULL;
    return name ? name : "?";
}

void *vmx_region(void)
{
    uint32_t *region = page_alloc();
    *region = (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7fffffff;
    return region;
}

bool vmx_start(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 5)) {
        report_skip("vmx", "SDM 3C 23.6 Discovering Support for VMX", "CPUID.1:ECX.VMX is 0");
        return false;
    }
    uint64_t feature = rdmsr(IA32_FEATURE_CONTROL);
    if (!(feature & 1)) {
        wrmsr(IA32_FEATURE_CONTROL, feature | 5);
    } else if (!(feature & 4)) {
        report_skip("vmx", "SDM 3C 23.7 Enabling and Entering VMX Operation",
                    "locked off in IA32_FEATURE_CONTROL");
        return false;
    }
    write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
    write_cr4((read_cr4() | CR4_VMXE | rdmsr(IA32_VMX_CR4_FIXED0)) & rdmsr(IA32_VMX_CR4_FIXED1));
    if (vmx_on((uint64_t)vmx_region()) != VMX_OK) {
        report("vmxon", "SDM 3C 30.3 VMXON", false, "VMXON failed");
        return false;
    }
    vmx_vmcs = vmx_region();
    return true;
}

static uint64_t capability(uint32_t msr)
{
    bool have_true = rdmsr(IA32_VMX_BASIC) >> 55 & 1;
    return rdmsr(have_true && msr >= IA32_VMX_PINBASED_CTLS && msr <= IA32_VMX_ENTRY_CTLS ? msr + 12 : msr);
}

uint32_t vmx_controls(uint32_t msr, uint32_t wanted)
{
    uint64_t c = capability(msr);
    return (wanted | (uint32_t)c) & (uint32_t)(c >> 32);
}

bool vmx_can(uint32_t msr, uint32_t bits)
{
    if (msr == IA32_VMX_PROCBASED_CTLS2 && !vmx_can(IA32_VMX_PROCBASED_CTLS, PROC_SECONDARY)) {
        return false;
    }
    return ((capability(msr) >> 32) & bits) == bits;
}

uint32_t vmx_must(uint32_t msr)
{
    return (uint32_t)capability(msr);
}

void vmx_control_set(uint32_t field, uint32_t bits)
{
    vmcs_set(field, vmcs(field) | bits);
}
void vmx_control_clear(uint32_t field, uint32_t bits)
{
    vmcs_set(field, vmcs(field) & ~(uint64_t)bits);
}

void vmx_secondary(uint32_t bits)
{
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_SECONDARY);
    vmx_control_set(VMCS_PROC2_CONTROLS, bits);
}

static void guest_segment(unsigned index, uint16_t selector, uint32_t access, uint32_t limit)
{
    vmcs_set(VMCS_GUEST_ES_SELECTOR + 2 * index, selector);
    vmcs_set(VMCS_GUEST_ES_LIMIT + 2 * index, limit);
    vmcs_set(VMCS_GUEST_ES_ACCESS + 2 * index, access);
    vmcs_set(VMCS_GUEST_ES_BASE + 2 * index, 0);
}

static void host_state(void)
{
    vmcs_set(VMCS_HOST_CR0, read_cr0());
    vmcs_set(VMCS_HOST_CR3, read_cr3());
    vmcs_set(VMCS_HOST_CR4, read_cr4());
    vmcs_set(VMCS_HOST_CS_SELECTOR, SEL_CODE64);
    vmcs_set(VMCS_HOST_SS_SELECTOR, SEL_DATA);
    vmcs_set(VMCS_HOST_DS_SELECTOR, SEL_DATA);
    vmcs_set(VMCS_HOST_ES_SELECTOR, SEL_DATA);
    vmcs_set(VMCS_HOST_FS_SELECTOR, 0);
    vmcs_set(VMCS_HOST_GS_SELECTOR, 0);
    vmcs_set(VMCS_HOST_TR_SELECTOR, SEL_TSS);
    vmcs_set(VMCS_HOST_FS_BASE, 0);
    vmcs_set(VMCS_HOST_GS_BASE, 0);
    vmcs_set(VMCS_HOST_TR_BASE, (uint64_t)&tss);
    vmcs_set(VMCS_HOST_GDTR_BASE, (uint64_t)gdt);
    vmcs_set(VMCS_HOST_IDTR_BASE, (uint64_t)idt);
    vmcs_set(VMCS_HOST_SYSENTER_CS, 0);
    vmcs_set(VMCS_HOST_SYSENTER_ESP, 0);
    vmcs_set(VMCS_HOST_SYSENTER_EIP, 0);
    vmcs_set(VMCS_HOST_RIP, (uint64_t)vmx_exit_point);
    vmcs_set(VMCS_HOST_EFER, rdmsr(IA32_EFER));
    vmcs_set(VMCS_HOST_PAT, rdmsr(IA32_PAT));
}

static void guest_state(void)
{
    vmcs_set(VMCS_GUEST_CR0, read_cr0());
    vmcs_set(VMCS_GUEST_CR3, read_cr3());
    vmcs_set(VMCS_GUEST_CR4, read_cr4());
    guest_segment(0, SEL_DATA, 0xc093, 0xffffffff);
    guest_segment(1, SEL_CODE64, 0xa09b, 0xffffffff);
    guest_segment(2, SEL_DATA, 0xc093, 0xffffffff);
    guest_segment(3, SEL_DATA, 0xc093, 0xffffffff);
    guest_segment(4, 0, 0x10000, 0);
    guest_segment(5, 0, 0x10000, 0);
    guest_segment(6, 0, 0x10000, 0);
    guest_segment(7, SEL_TSS, 0x008b, sizeof tss - 1);
    vmcs_set(VMCS_GUEST_TR_BASE, (uint64_t)&tss);
    vmcs_set(VMCS_GUEST_GDTR_BASE, (uint64_t)gdt);
    vmcs_set(VMCS_GUEST_GDTR_LIMIT, SEL_LIMIT - 1);
    vmcs_set(VMCS_GUEST_IDTR_BASE, (uint64_t)idt);
    vmcs_set(VMCS_GUEST_IDTR_LIMIT, 4095);
    vmcs_set(VMCS_GUEST_DR7, 0x400);
    vmcs_set(VMCS_GUEST_RSP, (uint64_t)vmx_guest_stack + sizeof vmx_guest_stack);
    vmcs_set(VMCS_GUEST_RIP, 0);
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmcs_set(VMCS_GUEST_PENDING_DEBUG, 0);
    vmcs_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmcs_set(VMCS_GUEST_ACTIVITY, 0);
    vmcs_set(VMCS_LINK_POINTER, ~0ul);
    vmcs_set(VMCS_GUEST_DEBUGCTL, 0);
    vmcs_set(VMCS_GUEST_SYSENTER_CS, 0);
    vmcs_set(VMCS_GUEST_SYSENTER_ESP, 0);
    vmcs_set(VMCS_GUEST_SYSENTER_EIP, 0);
    vmcs_set(VMCS_GUEST_EFER, rdmsr(IA32_EFER));
    vmcs_set(VMCS_GUEST_PAT, rdmsr(IA32_PAT));
}

void vmx_guest_reset(void)
{
    static void *msr_bitmap;
    if (!msr_bitmap) {
        msr_bitmap = page_alloc();
    }
    memset(msr_bitmap, 0, PAGE_SIZE);
    vmx_clear((uint64_t)vmx_vmcs);
    vmx_load((uint64_t)vmx_vmcs);
    vmx_launched = false;
    /* CR3 exits are among the default-1 controls without TRUE MSRs; VMX_CONTROLS takes the smallest set there
     * is. */
    vmcs_set(VMCS_PIN_CONTROLS, vmx_controls(IA32_VMX_PINBASED_CTLS, 0));
    vmcs_set(VMCS_PROC_CONTROLS, vmx_controls(IA32_VMX_PROCBASED_CTLS, PROC_SECONDARY | PROC_MSR_BITMAPS));
    vmcs_set(VMCS_PROC2_CONTROLS, 0);
    vmcs_set(VMCS_EXIT_CONTROLS,
             vmx_controls(IA32_VMX_EXIT_CTLS, EXIT_HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER));
    vmcs_set(VMCS_ENTRY_CONTROLS, vmx_controls(IA32_VMX_ENTRY_CTLS, ENTRY_IA32E_GUEST | ENTRY_LOAD_EFER));
    static const uint32_t zero[] = {VMCS_EXCEPTION_BITMAP,
                                    VMCS_PF_ERROR_MASK,
                                    VMCS_PF_ERROR_MATCH,
                                    VMCS_CR3_TARGET_COUNT,
                                    VMCS_EXIT_MSR_STORE_COUNT,
                                    VMCS_EXIT_MSR_LOAD_COUNT,
                                    VMCS_ENTRY_MSR_LOAD_COUNT,
                                    VMCS_ENTRY_INTERRUPTION_INFO,
                                    VMCS_ENTRY_ERROR_CODE,
                                    VMCS_ENTRY_INSTRUCTION_LENGTH,
                                    VMCS_TPR_THRESHOLD,
                                    VMCS_TSC_OFFSET,
                                    VMCS_CR0_MASK,
                                    VMCS_CR4_MASK,
                                    VMCS_CR0_SHADOW,
                                    VMCS_CR4_SHADOW};
    for (unsigned i = 0; i < sizeof zero / sizeof zero[0]; i++) {
        vmcs_set(zero[i], 0);
    }
    vmcs_set(VMCS_MSR_BITMAP, (uint64_t)msr_bitmap);
    host_state();
    guest_state();
    vmx_guest = (struct vmx_registers){0};
}

struct vmx_exit vmx_enter(void)
{
    struct vmx_exit e = {0};
    e.result = vmx_enter_raw(&vmx_guest, !vmx_launched);
    /* A VM exit leaves GDTR and IDTR limits at FFFFH (SDM 3C 27.5.2); tests of limits want them back. */
    struct table_register g = {SEL_LIMIT - 1, (uint64_t)gdt}, i = {4095, (uint64_t)idt};
    asm volatile("lgdt %0; lidt %1" ::"m"(g), "m"(i));
    if (e.result != VMX_OK) {
        e.error = e.result == VMX_FAIL_VALID ? (uint32_t)vmcs(VMCS_INSTRUCTION_ERROR) : 0;
        return e;
    }
    e.reason = (uint32_t)vmcs(VMCS_EXIT_REASON);
    e.length = (uint32_t)vmcs(VMCS_EXIT_INSTRUCTION_LENGTH);
    e.info = (uint32_t)vmcs(VMCS_EXIT_INSTRUCTION_INFO);
    e.interruption = (uint32_t)vmcs(VMCS_EXIT_INTERRUPTION_INFO);
    e.interruption_error = (uint32_t)vmcs(VMCS_EXIT_ERROR_CODE);
    e.vectoring = (uint32_t)vmcs(VMCS_IDT_VECTORING_INFO);
    e.vectoring_error = (uint32_t)vmcs(VMCS_IDT_VECTORING_ERROR);
    e.qualification = vmcs(VMCS_EXIT_QUALIFICATION);
    e.linear = vmcs(VMCS_GUEST_LINEAR_ADDRESS);
    e.physical = vmcs(VMCS_GUEST_PHYSICAL_ADDRESS);
    e.rip = vmcs(VMCS_GUEST_RIP);
    e.rsp = vmcs(VMCS_GUEST_RSP);
    e.rflags = vmcs(VMCS_GUEST_RFLAGS);
    if (!(e.reason & EXIT_REASON_ENTRY_FAILURE)) {
        vmx_launched = true;
    }
    return e;
}

struct vmx_exit vmx_run(const void *code)
{
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)code);
    vmcs_set(VMCS_GUEST_RSP, (uint64_t)vmx_guest_stack + sizeof vmx_guest_stack - 64);
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmcs_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmcs_set(VMCS_GUEST_ACTIVITY, 0);
    return vmx_enter();
}

void vmx_skip(const struct vmx_exit *e)
{
    vmcs_set(VMCS_GUEST_RIP, e->rip + e->length);
}

/* -- EPT ----------------------------------------------------------------------------------------------- */
uint64_t ept_identity(unsigned gigabytes)
{
    uint64_t *pml4 = page_alloc(), *pdpt = page_alloc();
    pml4[0] = (uint64_t)pdpt | 7;
    for (uint64_t g = 0; g < gigabytes; g++) {
        uint64_t *directory = page_alloc();
        pdpt[g] = (uint64_t)directory | 7;
        for (uint64_t i = 0; i < 512; i++) {
            directory[i] = g << 30 | i << 21 | 0x80 | 6 << 3 | 7; /* 2 MB, write-back, RWX */
        }
    }
    return (uint64_t)pml4 | 3 << 3 | 6; /* 4 levels, write-back */
}

uint64_t *ept_entry(uint64_t eptp, uint64_t address, int level)
{
    uint64_t *table = (uint64_t *)(eptp & PTE_ADDRESS);
    for (int at = 4;; at--) {
        uint64_t *entry = &table[address >> (12 + 9 * (at - 1)) & 511];
        if (at == level) {
            return entry;
        }
        if (!(*entry & 7)) {
            *entry = (uint64_t)page_alloc() | 7;
        } else if (*entry & 0x80) {
            uint64_t *below = page_alloc(), old = *entry;
            uint64_t size = 1ul << (12 + 9 * (at - 2));
            for (uint64_t i = 0; i < 512; i++) {
                below[i] =
                    ((old & PTE_ADDRESS & ~(size * 512 - 1)) + i * size) | (old & 0x7f) | (at > 2 ? 0x80 : 0);
            }
            *entry = (uint64_t)below | 7;
        }
        table = (uint64_t *)(*entry & PTE_ADDRESS);
    }
}

void invept(uint64_t type, uint64_t eptp)
{
    uint64_t d[2] = {eptp, 0};
    asm volatile("invept %0, %1" ::"m"(d), "r"(type) : "memory", "cc");
}
