/*
 * vmx_basic.c -- VMX instructions and capability MSRs: SDM 3C 23.6, 24.11, chapter 30, SDM 3D appendix A and
 * B.
 */
#include "vmx.h"

USER_CODE(user_vmcall, 64, "vmcall");
USER_CODE(user_vmread, 64, "mov $0x4402, %eax\n vmread %rax, %rbx");
USER_CODE(compat_vmread, 32, "mov $0x4402, %eax\n vmread %eax, %ebx");

static void capabilities(void)
{
    uint64_t basic = rdmsr(IA32_VMX_BASIC);
    report("basic", "SDM 3D A.1 Basic VMX Information",
           !(basic & 1ul << 31) && (basic >> 32 & 0x1fff) >= 1 && (basic >> 32 & 0x1fff) <= 4096 &&
               (basic >> 50 & 15) == 6,
           "IA32_VMX_BASIC %lx", basic);
    report("basic-ins-outs", "SDM 3D A.1 bit 54: INS and OUTS information", basic >> 54 & 1,
           "IA32_VMX_BASIC %lx", basic);
    static const struct {
        const char *name;
        uint32_t msr, default1;
    } sets[] = {{"pin", IA32_VMX_PINBASED_CTLS, 0x16},
                {"proc", IA32_VMX_PROCBASED_CTLS, 0x0401e172},
                {"exit", IA32_VMX_EXIT_CTLS, 0x36dff},
                {"entry", IA32_VMX_ENTRY_CTLS, 0x11ff}};
    char name[40];
    for (unsigned i = 0; i < 4; i++) {
        uint64_t c = rdmsr(sets[i].msr);
        uint32_t must = (uint32_t)c, may = (uint32_t)(c >> 32);
        format_text(name, sizeof name, "controls-%s", sets[i].name);
        report(name, "SDM 3D A.2, A.3: default-1 controls are 1; what must be 1 may be 1",
               (must & sets[i].default1) == sets[i].default1 && (must & ~may) == 0, "MSR %x is %lx",
               sets[i].msr, c);
        if (basic >> 55 & 1) {
            uint64_t t = rdmsr(sets[i].msr + 12);
            format_text(name, sizeof name, "controls-true-%s", sets[i].name);
            report(name, "SDM 3D A.3: TRUE MSRs: same allowed-1, only default-1 bits may be relaxed",
                   (uint32_t)(t >> 32) == may && ((uint32_t)t & ~must) == 0 &&
                       ((must & ~(uint32_t)t) & ~sets[i].default1) == 0,
                   "MSR %x is %lx", sets[i].msr + 12, t);
        }
    }
    if (vmx_can(IA32_VMX_PROCBASED_CTLS, PROC_SECONDARY)) {
        uint64_t c = rdmsr(IA32_VMX_PROCBASED_CTLS2);
        report("controls-secondary", "SDM 3D A.3.3: bits 31:0 are 0", (uint32_t)c == 0, "MSR 48BH is %lx", c);
        if (c >> 33 & 1 || c >> 37 & 1) {
            uint64_t e = rdmsr(IA32_VMX_EPT_VPID_CAP);
            report("ept-vpid", "SDM 3D A.10: EPT has 4 levels and write-back; INVEPT and INVVPID types",
                   (!(c >> 33 & 1) || ((e & 1 << 6) && (e & 1 << 14))), "MSR 48CH is %lx", e);
        }
    }
    uint64_t f0 = rdmsr(IA32_VMX_CR0_FIXED0), f1 = rdmsr(IA32_VMX_CR0_FIXED1),
             g0 = rdmsr(IA32_VMX_CR4_FIXED0), g1 = rdmsr(IA32_VMX_CR4_FIXED1);
    report("cr0-fixed", "SDM 3D A.7 VMX-Fixed Bits in CR0",
           (f0 & ~f1) == 0 && (f0 & (CR0_PE | CR0_NE | CR0_PG)) == (CR0_PE | CR0_NE | CR0_PG) &&
               f1 == 0xffffffff,
           "%lx %lx", f0, f1);
    report("cr4-fixed", "SDM 3D A.8 VMX-Fixed Bits in CR4",
           (g0 & ~g1) == 0 && (g0 & CR4_VMXE) && (g1 & CR4_PAE), "%lx %lx", g0, g1);
    check_trap("capability-read-only", "SDM 3D A: WRMSR to a VMX capability MSR",
               TRY(wrmsr(IA32_VMX_BASIC, basic)), EXC_GP, 0);
    for (unsigned bit = 0; bit < 32; bit++) {
        uint64_t cr4 = 1ul << bit;
        if (bit != 17 && !(g1 & cr4)) {
            struct trap t = TRY(write_cr4(read_cr4() | cr4));
            if (t.vector != EXC_GP) {
                report("cr4-fixed1", "SDM 3C 23.8 Restrictions on VMX Operation", false,
                       "bit %u could be set", bit);
                write_cr4(read_cr4() & ~cr4);
            }
        }
    }
}

static void before_vmxon(void)
{
    check_trap("vmxon-without-vmxe", "SDM 3C 30.3 VMXON #UD if CR4.VMXE=0", TRY(vmx_on(0x1000)), EXC_UD, 0);
    check_trap("vmcall-outside", "SDM 3C 30.3 VMCALL #UD outside VMX operation", TRY_ASM("vmcall"), EXC_UD,
               0);
    check_trap("vmread-outside", "SDM 3C 30.3 VMREAD #UD outside VMX operation",
               TRY_ASM("mov $0x4402, %%eax; vmread %%rax, %%rbx"), EXC_UD, 0);
    check_trap("vmclear-outside", "SDM 3C 30.3 VMCLEAR #UD outside VMX operation", TRY(vmx_clear(0x1000)),
               EXC_UD, 0);
    check_trap("vmxoff-outside", "SDM 3C 30.3 VMXOFF #UD outside VMX operation", TRY_ASM("vmxoff"), EXC_UD,
               0);
    check_trap("vmlaunch-outside", "SDM 3C 30.3 VMLAUNCH #UD outside VMX operation", TRY_ASM("vmlaunch"),
               EXC_UD, 0);
    write_cr4(read_cr4() | CR4_VMXE);
    if (!(rdmsr(IA32_FEATURE_CONTROL) & 1)) {
        check_trap("vmxon-unlocked", "SDM 3C 23.7: #GP(0) if IA32_FEATURE_CONTROL is not locked",
                   TRY(vmx_on(0x1000)), EXC_GP, 0);
        wrmsr(IA32_FEATURE_CONTROL, 5);
    }
    check_trap("feature-control-locked", "SDM 3C 23.7: WRMSR #GP(0) once locked",
               TRY(wrmsr(IA32_FEATURE_CONTROL, 5)), EXC_GP, 0);
    uint64_t cr0 = read_cr0();
    write_cr0(cr0 & ~CR0_NE);
    check_trap("vmxon-cr0-fixed", "SDM 3C 30.3 VMXON #GP(0): CR0 bits", TRY(vmx_on(0x1000)), EXC_GP, 0);
    write_cr0(cr0);
    void *region = vmx_region();
    uint64_t beyond = 1ul << physical_bits();
    check_equal("vmxon-misaligned", "SDM 3C 30.3 VMXON VMfailInvalid: not 4 KB aligned",
                vmx_on((uint64_t)region + 8), VMX_FAIL_INVALID);
    check_equal("vmxon-beyond", "SDM 3C 30.3 VMXON VMfailInvalid: beyond the physical-address width",
                vmx_on(beyond), VMX_FAIL_INVALID);
    *(uint32_t *)region ^= 1;
    check_equal("vmxon-revision", "SDM 3C 30.3 VMXON VMfailInvalid: revision identifier",
                vmx_on((uint64_t)region), VMX_FAIL_INVALID);
    *(uint32_t *)region ^= 1;
    *(uint32_t *)region |= 1u << 31;
    check_equal("vmxon-shadow", "SDM 3C 30.3 VMXON VMfailInvalid: bit 31", vmx_on((uint64_t)region),
                VMX_FAIL_INVALID);
    *(uint32_t *)region &= ~(1u << 31);
    asm volatile("stc");
    check_equal("vmxon", "SDM 3C 30.3 VMXON", vmx_on((uint64_t)region), VMX_OK);
    /* Now in VMX root operation, without a current VMCS. */
    check_equal("vmxon-again-no-vmcs", "SDM 3C 30.3 VMXON in root operation: VMfail(15), here invalid",
                vmx_on((uint64_t)region), VMX_FAIL_INVALID);
    check_equal("vmptrst-none", "SDM 3C 30.3 VMPTRST: FFFFFFFF_FFFFFFFFH without a current VMCS", vmx_store(),
                ~0ul);
    uint64_t v = 0;
    check_equal("vmread-no-vmcs", "SDM 3C 30.3 VMREAD VMfailInvalid", vmx_read(VMCS_EXIT_REASON, &v),
                VMX_FAIL_INVALID);
    check_equal("vmwrite-no-vmcs", "SDM 3C 30.3 VMWRITE VMfailInvalid", vmx_write(VMCS_GUEST_RIP, 0),
                VMX_FAIL_INVALID);
    struct vmx_registers r = {0};
    check_equal("vmlaunch-no-vmcs", "SDM 3C 26.1 VMfailInvalid without a current VMCS",
                vmx_enter_raw(&r, true), VMX_FAIL_INVALID);
    check_equal("vmclear-no-vmcs-misaligned", "SDM 3C 30.3 VMCLEAR VMfailInvalid without a current VMCS",
                vmx_clear(0x1001), VMX_FAIL_INVALID);
    check_trap("cr4-vmxe-clear", "SDM 3C 23.7: VMXE cannot be cleared in VMX operation",
               TRY(write_cr4(read_cr4() & ~CR4_VMXE)), EXC_GP, 0);
    check_trap("cr0-ne-clear", "SDM 3C 23.8: fixed bits of CR0 in VMX operation",
               TRY(write_cr0(read_cr0() & ~CR0_NE)), EXC_GP, 0);
    check_trap("cr0-pg-clear", "SDM 3C 23.8: fixed bits of CR0 in VMX operation",
               TRY(write_cr0(read_cr0() & ~CR0_PG)), EXC_GP, 0);
    check_trap("vmcall-ring3", "SDM 3C 30.3 VMCALL #GP(0) if CPL > 0", TRY(user_run(user_vmcall, 0)), EXC_GP,
               0);
    check_trap("vmread-ring3", "SDM 3C 30.3 VMREAD #GP(0) if CPL > 0", TRY(user_run(user_vmread, 0)), EXC_GP,
               0);
    check_trap("vmread-compat", "SDM 3C 30.3 VMREAD #UD in compatibility mode",
               TRY(compat_run(compat_vmread, 0, 0)), EXC_UD, 0);
}

static void failed_valid(const char *name, const char *rule, enum vmx_result got, uint32_t error)
{
    uint64_t e = vmcs(VMCS_INSTRUCTION_ERROR);
    report(name, rule, got == VMX_FAIL_VALID && e == error, "result %d error %lu, want VMfailValid(%u)", got,
           e, error);
}

static void pointers(void *on)
{
    void *a = vmx_region(), *b = vmx_region();
    uint64_t beyond = 1ul << physical_bits();
    check_equal("vmclear", "SDM 3C 30.3 VMCLEAR", vmx_clear((uint64_t)a), VMX_OK);
    check_equal("vmptrld", "SDM 3C 30.3 VMPTRLD", vmx_load((uint64_t)a), VMX_OK);
    check_equal("vmptrst", "SDM 3C 30.3 VMPTRST", vmx_store(), (uint64_t)a);
    failed_valid("vmclear-misaligned", "SDM 3C 30.4 error 2: VMCLEAR with invalid physical address",
                 vmx_clear((uint64_t)b + 8), 2);
    failed_valid("vmclear-beyond", "SDM 3C 30.4 error 2", vmx_clear(beyond), 2);
    failed_valid("vmclear-vmxon", "SDM 3C 30.4 error 3: VMCLEAR with VMXON pointer", vmx_clear((uint64_t)on),
                 3);
    failed_valid("vmptrld-misaligned", "SDM 3C 30.4 error 9: VMPTRLD with invalid physical address",
                 vmx_load((uint64_t)b + 8), 9);
    failed_valid("vmptrld-beyond", "SDM 3C 30.4 error 9", vmx_load(beyond), 9);
    failed_valid("vmptrld-vmxon", "SDM 3C 30.4 error 10: VMPTRLD with VMXON pointer", vmx_load((uint64_t)on),
                 10);
    *(uint32_t *)b ^= 1;
    failed_valid("vmptrld-revision", "SDM 3C 30.4 error 11: VMPTRLD with incorrect VMCS revision identifier",
                 vmx_load((uint64_t)b), 11);
    *(uint32_t *)b ^= 1;
    check_equal("vmptrst-after-failures", "SDM 3C 30.3: failures leave the current VMCS", vmx_store(),
                (uint64_t)a);
    failed_valid("vmxon-again", "SDM 3C 30.4 error 15: VMXON executed in VMX root operation",
                 vmx_on((uint64_t)on), 15);
    struct vmx_registers r = {0};
    failed_valid("vmresume-clear", "SDM 3C 30.4 error 5: VMRESUME with non-launched VMCS",
                 vmx_enter_raw(&r, false), 5);
    if (enabled("vmcall-root", "SDM 3C 30.4 error 1")) {
        failed_valid("vmcall-root", "SDM 3C 30.4 error 1: VMCALL executed in VMX root operation",
                     VMX_RESULT("vmcall", "i"(0)), 1);
    }
    check_equal("vmclear-current", "SDM 3C 30.3 VMCLEAR of the current VMCS makes it not current",
                vmx_clear((uint64_t)a) == VMX_OK && vmx_store() == ~0ul, 1);
    vmx_load((uint64_t)a);
    vmcs_set(VMCS_GUEST_RIP, 0x123456789);
    vmx_load((uint64_t)b);
    vmcs_set(VMCS_GUEST_RIP, 0x987654321);
    vmx_load((uint64_t)a);
    check_equal("two-vmcs", "SDM 3C 24.1: each VMCS keeps its fields", vmcs(VMCS_GUEST_RIP), 0x123456789);
    vmx_clear((uint64_t)a);
    vmx_load((uint64_t)a);
    check_equal("vmclear-keeps-data", "SDM 3C 30.3 VMCLEAR writes the data to the region",
                vmcs(VMCS_GUEST_RIP), 0x123456789);
    check_fault("vmclear-page-fault", "SDM 3C 30.3 VMCLEAR #PF for its memory operand",
                TRY(asm volatile("vmclear (%0)" ::"r"(0x10000000000ul)
                                 : "memory", "cc")),
                0, 0x10000000000ul);
    check_fault("vmptrst-page-fault", "SDM 3C 30.3 VMPTRST #PF: a write",
                TRY(asm volatile("vmptrst (%0)" ::"r"(0x10000000000ul)
                                 : "memory", "cc")),
                PF_W, 0x10000000000ul);
}

/* Every defined field: width by encoding, read-only ones, the high half of 64-bit ones. */
static void fields(void)
{
    static const uint32_t list[] = {VMCS_GUEST_ES_SELECTOR,
                                    VMCS_GUEST_CS_SELECTOR,
                                    VMCS_GUEST_TR_SELECTOR,
                                    VMCS_HOST_CS_SELECTOR,
                                    VMCS_HOST_TR_SELECTOR,
                                    VMCS_IO_BITMAP_A,
                                    VMCS_IO_BITMAP_B,
                                    VMCS_EXIT_MSR_STORE,
                                    VMCS_EXIT_MSR_LOAD,
                                    VMCS_ENTRY_MSR_LOAD,
                                    VMCS_TSC_OFFSET,
                                    VMCS_LINK_POINTER,
                                    VMCS_GUEST_DEBUGCTL,
                                    VMCS_PIN_CONTROLS,
                                    VMCS_PROC_CONTROLS,
                                    VMCS_EXCEPTION_BITMAP,
                                    VMCS_PF_ERROR_MASK,
                                    VMCS_PF_ERROR_MATCH,
                                    VMCS_CR3_TARGET_COUNT,
                                    VMCS_EXIT_CONTROLS,
                                    VMCS_EXIT_MSR_STORE_COUNT,
                                    VMCS_EXIT_MSR_LOAD_COUNT,
                                    VMCS_ENTRY_CONTROLS,
                                    VMCS_ENTRY_MSR_LOAD_COUNT,
                                    VMCS_ENTRY_INTERRUPTION_INFO,
                                    VMCS_ENTRY_ERROR_CODE,
                                    VMCS_ENTRY_INSTRUCTION_LENGTH,
                                    VMCS_GUEST_CS_LIMIT,
                                    VMCS_GUEST_GDTR_LIMIT,
                                    VMCS_GUEST_CS_ACCESS,
                                    VMCS_GUEST_INTERRUPTIBILITY,
                                    VMCS_GUEST_ACTIVITY,
                                    VMCS_GUEST_SYSENTER_CS,
                                    VMCS_HOST_SYSENTER_CS,
                                    VMCS_CR0_MASK,
                                    VMCS_CR4_MASK,
                                    VMCS_CR0_SHADOW,
                                    VMCS_CR4_SHADOW,
                                    VMCS_GUEST_CR0,
                                    VMCS_GUEST_CR3,
                                    VMCS_GUEST_CR4,
                                    VMCS_GUEST_CS_BASE,
                                    VMCS_GUEST_DR7,
                                    VMCS_GUEST_RSP,
                                    VMCS_GUEST_RIP,
                                    VMCS_GUEST_RFLAGS,
                                    VMCS_GUEST_PENDING_DEBUG,
                                    VMCS_GUEST_SYSENTER_ESP,
                                    VMCS_HOST_CR0,
                                    VMCS_HOST_CR3,
                                    VMCS_HOST_RSP,
                                    VMCS_HOST_RIP};
    bool ok = true;
    uint64_t got = 0, want = 0;
    uint32_t at = 0;
    for (unsigned i = 0; i < sizeof list / sizeof list[0] && ok; i++) {
        static const uint64_t patterns[] = {0x123456789abcdef0ul, ~0ul, 0};
        for (unsigned p = 0; p < 3 && ok; p++) {
            uint32_t width = list[i] >> 13 & 3; /* 0: 16, 1: 64, 2: 32, 3: natural */
            uint64_t mask = width == 0 ? 0xffff : width == 2 ? 0xffffffff : ~0ul;
            at = list[i];
            ok = vmx_write(at, patterns[p]) == VMX_OK;
            got = vmcs(at);
            want = patterns[p] & mask;
            /* Access rights may keep only defined bits (SDM 3C 24.4.1). */
            if (at >= VMCS_GUEST_ES_ACCESS && at <= VMCS_GUEST_TR_ACCESS) {
                got &= 0x1f0ff, want &= 0x1f0ff;
            }
            ok = ok && got == want;
            if (ok && width == 1) {
                ok = vmx_write(at | 1, 0x89abcdef) == VMX_OK && vmcs(at | 1) == 0x89abcdef &&
                     vmcs(at) == ((want & 0xffffffff) | 0x89abcdef00000000ul);
            }
        }
    }
    report("fields-write-read", "SDM 3D appendix B: width by encoding; high half of 64-bit fields", ok,
           "field %x: got %lx, want %lx", at, got, want);
    static const uint32_t absent[] = {0x0010 + 0xff0, 0x27fe,  0x4fff - 1, 0x6ffe,
                                      0x681e | 0x1,   0x10000, 0x80004402};
    for (unsigned i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        char name[40];
        uint64_t v = 0x1234;
        format_text(name, sizeof name, "vmread-absent-%x", absent[i]);
        failed_valid(name, "SDM 3C 30.4 error 12: unsupported VMCS component", vmx_read(absent[i], &v), 12);
        format_text(name, sizeof name, "vmwrite-absent-%x", absent[i]);
        failed_valid(name, "SDM 3C 30.4 error 12", vmx_write(absent[i], 0), 12);
    }
    uint64_t v = 0;
    failed_valid("vmread-encoding-64-bits", "SDM 3C 30.3 VMREAD: bits 63:32 of the encoding must be 0",
                 vmx_read(1ul << 32 | VMCS_EXIT_REASON, &v), 12);
    if (rdmsr(IA32_VMX_MISC) >> 29 & 1) {
        check_equal(
            "vmwrite-read-only-allowed", "SDM 3D A.6 bit 29: VMWRITE to exit-information fields",
            vmx_write(VMCS_EXIT_QUALIFICATION, 0x55) == VMX_OK && vmcs(VMCS_EXIT_QUALIFICATION) == 0x55, 1);
    } else {
        failed_valid("vmwrite-read-only", "SDM 3C 30.4 error 13: VMWRITE to read-only VMCS component",
                     vmx_write(VMCS_EXIT_QUALIFICATION, 1), 13);
    }
    uint64_t highest = rdmsr(IA32_VMX_VMCS_ENUM) >> 1 & 0x1ff;
    report("vmcs-enum", "SDM 3D A.9: highest index of any encoding",
           highest >= (VMCS_PREEMPTION_TIMER >> 1 & 0x1ff), "%lx", highest);
    check_fault("vmread-to-memory-fault", "SDM 3C 30.3 VMREAD #PF: a write",
                TRY(asm volatile("vmread %1, (%0)" ::"r"(0x10000000000ul), "r"((uint64_t)VMCS_GUEST_RIP)
                                 : "memory", "cc")),
                PF_W, 0x10000000000ul);
}

static void epts(void)
{
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT)) {
        report_skip("invept", "SDM 3C 30.3 INVEPT", "no EPT");
        return;
    }
    uint64_t d[2] = {ept_identity(1), 0}, v[2] = {1, 0};
    uint64_t cap = rdmsr(IA32_VMX_EPT_VPID_CAP);
#define INVEPT(type)  VMX_RESULT("invept %2, %3", "m"(d), "r"((uint64_t)(type)))
#define INVVPID(type) VMX_RESULT("invvpid %2, %3", "m"(v), "r"((uint64_t)(type)))
    if (cap & 1 << 25) {
        check_equal("invept-single", "SDM 3C 30.3 INVEPT type 1", INVEPT(1), VMX_OK);
    }
    if (cap & 1 << 26) {
        check_equal("invept-all", "SDM 3C 30.3 INVEPT type 2", INVEPT(2), VMX_OK);
    }
    failed_valid("invept-type0", "SDM 3C 30.4 error 28: invalid operand to INVEPT", INVEPT(0), 28);
    failed_valid("invept-type3", "SDM 3C 30.4 error 28", INVEPT(3), 28);
    d[0] |= 7;
    failed_valid("invept-bad-eptp", "SDM 3C 30.3 INVEPT: EPT pointer that would fail an entry", INVEPT(1),
                 28);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_VPID)) {
        return;
    }
    for (unsigned type = 0; type < 4; type++) {
        char name[24];
        if (cap >> (40 + type) & 1) {
            format_text(name, sizeof name, "invvpid-type%u", type);
            check_equal(name, "SDM 3C 30.3 INVVPID", INVVPID(type), VMX_OK);
        }
    }
    failed_valid("invvpid-type4", "SDM 3C 30.4 error 28: invalid operand to INVVPID", INVVPID(4), 28);
    v[0] = 0;
    failed_valid("invvpid-zero", "SDM 3C 30.3 INVVPID: VPID 0 in types 0, 1, 3", INVVPID(1), 28);
    v[0] = 0x10001;
    failed_valid("invvpid-reserved", "SDM 3C 30.3 INVVPID: bits 63:16 must be 0", INVVPID(1), 28);
    v[0] = 1, v[1] = 0x0000800000000000ul;
    if (cap >> 40 & 1) {
        failed_valid("invvpid-non-canonical", "SDM 3C 30.3 INVVPID type 0: address not canonical", INVVPID(0),
                     28);
    }
}

void guest_main(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 5)) {
        report_skip("vmx", "SDM 3C 23.6", "no VMX");
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    before_vmxon();
    TRY_ASM("vmxoff");
    void *on = vmx_region();
    check_equal("vmxon-after-vmxoff", "SDM 3C 30.3 VMXOFF", vmx_on((uint64_t)on), VMX_OK);
    capabilities();
    pointers(on);
    fields();
    epts();
    check_none("vmxoff", "SDM 3C 30.3 VMXOFF", TRY_ASM("vmxoff"));
    check_none("cr4-vmxe-clear-after", "SDM 3C 23.7", TRY(write_cr4(read_cr4() & ~CR4_VMXE)));
}
