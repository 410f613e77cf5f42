/*
 * msr.c -- model-specific registers: unknown ones, reserved bits, reset values. SDM 4, SDM 2 RDMSR and WRMSR.
 */
#include "guest.h"

static void unknown(void)
{
    static const uint32_t list[] = {0x00000002, 0x00001fff, 0x00004000, 0x0000ffff, 0x3fffffff,
                                    0x40000200, 0x80000000, 0xbfffffff, 0xc0001234, 0xffffffff};
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        char name[40];
        format_text(name, sizeof name, "rdmsr-unknown-%x", list[i]);
        check_trap(name, "SDM 2 RDMSR #GP(0): reserved or unimplemented MSR", TRY((void)rdmsr(list[i])),
                   EXC_GP, 0);
        format_text(name, sizeof name, "wrmsr-unknown-%x", list[i]);
        check_trap(name, "SDM 2 WRMSR #GP(0): reserved or unimplemented MSR", TRY(wrmsr(list[i], 0)), EXC_GP,
                   0);
    }
}

static void reserved(void)
{
    uint64_t apic = rdmsr(IA32_APIC_BASE);
    unsigned bits = physical_bits();
    const struct {
        const char *name;
        uint32_t msr;
        uint64_t value;
    } list[] = {{"apic-base-bit0", IA32_APIC_BASE, apic | 1},
                {"apic-base-width", IA32_APIC_BASE, apic | 1ul << bits},
                {"pat-type-2", IA32_PAT, 0x0007040600070402},
                {"pat-type-3", IA32_PAT, 0x0307040600070406},
                {"pat-bit-3", IA32_PAT, 0x0007040600070408},
                {"efer-bit1", IA32_EFER, rdmsr(IA32_EFER) | 2},
                {"efer-bit9", IA32_EFER, rdmsr(IA32_EFER) | 1 << 9},
                {"efer-high", IA32_EFER, rdmsr(IA32_EFER) | 1ul << 40},
                {"mtrr-def-type", IA32_MTRR_DEF_TYPE, 0x2},
                {"mtrr-def-type-reserved", IA32_MTRR_DEF_TYPE, 0x1006},
                {"mtrr-base-type", 0x200, 0x2},
                {"mtrr-base-reserved", 0x200, 0x106},
                {"mtrr-mask-reserved", 0x201, 0x400},
                {"mtrr-fixed-type", 0x250, 0x0606060606060602},
                {"mtrrcap-read-only", IA32_MTRRCAP, 0},
                {"kernel-gs-base", IA32_KERNEL_GS_BASE, 0x8000000000000000ul},
                {"cstar", IA32_CSTAR, 0x0000800000000000ul},
                {"sysenter-esp", IA32_SYSENTER_ESP, 0xffff7ffffffffffful},
                {"debugctl", IA32_DEBUGCTL, 1ul << 32},
                {"tsc-aux-high", IA32_TSC_AUX, 1ul << 32},
                {"misc-enable-high", IA32_MISC_ENABLE, 1ul << 62}};
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct trap there = TRY((void)rdmsr(list[i].msr));
        if (there.vector != VECTOR_NONE) {
            report_skip(list[i].name, "SDM 4", "no such MSR");
            continue;
        }
        if (enabled(list[i].name, "SDM 4")) {
            uint64_t before = rdmsr(list[i].msr);
            check_trap(list[i].name, "SDM 2 WRMSR #GP(0): reserved bits or values; SDM 4",
                       TRY(wrmsr(list[i].msr, list[i].value)), EXC_GP, 0);
            TRY(wrmsr(list[i].msr, before));
        }
    }
}

static void values(void)
{
    check_equal("pat-reset", "SDM 3A 11.12.4 PAT at reset", rdmsr(IA32_PAT), 0x0007040600070406);
    wrmsr(IA32_PAT, 0x0001050600070406);
    check_equal("pat-write", "SDM 3A 11.12.2 IA32_PAT", rdmsr(IA32_PAT), 0x0001050600070406);
    wrmsr(IA32_PAT, 0x0007040600070406);
    uint64_t apic = rdmsr(IA32_APIC_BASE);
    report("apic-base", "SDM 3A 10.4.4: FEE00000H, enabled, BSP",
           (apic & PTE_ADDRESS) == LAPIC_BASE && (apic & 0x900) == 0x900, "%lx", apic);
    report("mtrrcap", "SDM 3A 11.11.1 IA32_MTRRCAP", (rdmsr(IA32_MTRRCAP) & 0xff) >= 1, "%lx",
           rdmsr(IA32_MTRRCAP));
    wrmsr(0x200, 0x12345006);
    wrmsr(0x201, 0xffff000 | 0x800);
    report("mtrr-variable", "SDM 3A 11.11.2.3",
           rdmsr(0x200) == 0x12345006 && rdmsr(0x201) == (0xffff000 | 0x800), "%lx %lx", rdmsr(0x200),
           rdmsr(0x201));
    wrmsr(0x201, 0);
    wrmsr(0x200, 0);
    static const uint32_t plain[] = {IA32_STAR,         IA32_LSTAR,        IA32_FMASK,
                                     IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_KERNEL_GS_BASE};
    for (unsigned i = 0; i < 6; i++) {
        uint64_t v = plain[i] == IA32_FMASK ? 0x47700 : 0x00007f1234567890ul;
        char name[32];
        format_text(name, sizeof name, "read-back-%x", plain[i]);
        wrmsr(plain[i], v);
        check_equal(name, "SDM 4", rdmsr(plain[i]), v);
        wrmsr(plain[i], 0);
    }
    uint64_t rax = ~0ul, rdx = ~0ul;
    asm volatile("rdmsr" : "+a"(rax), "+d"(rdx) : "c"(IA32_PAT));
    report("rdmsr-zero-extends", "SDM 2 RDMSR clears the high halves of RAX and RDX",
           rax == 0x00070406 && rdx == 0x00070406, "%lx %lx", rax, rdx);
    rax = 0xdeadbeef00070406, rdx = 0x1234567800070406;
    check_none("wrmsr-ignores-high", "SDM 2 WRMSR ignores bits 63:32 of RAX, RDX, RCX",
               TRY(asm volatile("wrmsr" ::"a"(rax), "d"(rdx), "c"(0xffffffff00000277ul))));
}

static void cpuid_leaves(void)
{
    struct cpuid c = cpuid(0, 0);
    report("cpuid-0", "SDM 2 CPUID.0: highest leaf, vendor", c.eax >= 0xd && c.ebx && c.ecx && c.edx, "%x",
           c.eax);
    struct cpuid high = cpuid(0x7fffffff, 0), last = cpuid(c.eax, 0);
    report("cpuid-beyond-basic",
           "SDM 2 CPUID: above the highest basic leaf: data of the highest basic leaf (Intel)",
           !memcmp(&high, &last, sizeof last), "%x %x", high.eax, last.eax);
    c = cpuid(1, 0);
    bool before = c.ecx >> 27 & 1;
    if (c.ecx & 1u << 26) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        bool after = cpuid(1, 0).ecx >> 27 & 1;
        write_cr4(read_cr4() & ~CR4_OSXSAVE);
        report("cpuid-osxsave", "SDM 2 CPUID.1:ECX.OSXSAVE mirrors CR4.OSXSAVE", !before && after, "%d %d",
               before, after);
    }
    report("cpuid-apic-bit", "SDM 2 CPUID.1:EDX.APIC follows IA32_APIC_BASE[11]", c.edx & 1 << 9, "%x",
           c.edx);
    c = cpuid(0x80000008, 0);
    report("cpuid-widths", "SDM 2 CPUID.80000008H: 36 to 52 physical bits, 48 or 57 linear bits",
           (c.eax & 0xff) >= 36 && (c.eax & 0xff) <= 52 &&
               ((c.eax >> 8 & 0xff) == 48 || (c.eax >> 8 & 0xff) == 57),
           "%x", c.eax);
}

void guest_main(void)
{
    unknown();
    reserved();
    values();
    cpuid_leaves();
}
