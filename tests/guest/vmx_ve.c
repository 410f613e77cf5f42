/*
 * vmx_ve.c -- virtualization exceptions, and execute rights by mode of the linear address.
 * SDM 3C 25.5.7 "Virtualization Exceptions", 28.3.2 "EPT Translation Mechanism" (bit 10), 28.3.3.2 "EPT
 * Violations", 26.2.1.1 "VM-Execution Control Fields".
 *
 * The guest shares the host's page tables, IDT and handlers: the handler of #VE runs in the guest, repairs
 * the EPT entry of WINDOW and returns. ALIAS is a supervisor-mode linear address of WINDOW, WINDOW itself a
 * user-mode one.
 */
#include "covers.h"
#include "vmx.h"

#define WINDOW     0x40000000ul
#define ALIAS      0x8000000000ul
#define EPT_R      1ul
#define EPT_W      2ul
#define EPT_X      4ul
#define EPT_WB     (6ul << 3)
#define EPT_XU     (1ul << 10)
#define SUPPRESS   (1ul << 63)
#define LINEAR     (1ul << 7)
#define TRANSLATED (1ul << 8)
#define Q_MASK     0x1bful /* without bit 6 and the optional bits 11:9 */
#define VECTOR_VE  20
#define CODE_OF(v) (1u << 31 | 3 << 8 | (v))

GUEST_CODE(g_read, 64, "mov (%rbx), %rax");
GUEST_CODE(g_write, 64, "mov %rax, (%rbx)");
GUEST_CODE(g_fetch, 64, "call *%rbx");
GUEST_CODE(g_int3, 64, "int3");
GUEST_CODE(g_switch_read, 64, "xor %eax, %eax\n vmfunc\n mov (%rbx), %rax");

struct ve_area {
    uint32_t reason, busy;
    uint64_t qualification, linear, physical;
    uint16_t index;
};
static volatile struct ve_area *area;
static struct ve_area seen;
static volatile uint64_t *entry, repair;
static volatile unsigned seen_count;
static uint64_t seen_rip, seen_error, seen_rflags;
static uint64_t eptp, frame;

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}
static bool refused(const struct vmx_exit *e)
{
    return e->result == VMX_FAIL_VALID && e->error == 7;
}

static bool ve_handler(struct trap_frame *f)
{
    memcpy(&seen, (const void *)area, sizeof seen);
    seen_rip = f->rip;
    seen_error = f->error;
    seen_rflags = f->rflags;
    *entry = repair;
    area->busy = 0;
    return ++seen_count < 5;
}

static struct vmx_exit run(const char *code, uint64_t rbx)
{
    vmx_guest = (struct vmx_registers){0};
    vmx_guest.rbx = rbx;
    seen_count = 0;
    memset(&seen, 0, sizeof seen);
    return vmx_run(code);
}

/* -- Virtualization exceptions ------------------------------------------------------------------------- */
static void ve_setup(uint64_t value)
{
    vmx_guest_reset();
    vmx_secondary(PROC2_ENABLE_EPT | PROC2_EPT_VIOLATION_VE);
    vmcs_set(VMCS_EPT_POINTER, eptp);
    vmcs_set(VMCS_VE_INFORMATION, (uint64_t)area);
    vmcs_set(VMCS_EPTP_INDEX, 0x1234);
    memset((void *)area, 0, PAGE_SIZE);
    repair = frame | EPT_WB | 7;
    *entry = value;
    invept(1, eptp);
}

static void is_exception(const char *name, const char *rule, const struct vmx_exit *e, uint64_t qualification,
                         uint64_t address, const char *rip)
{
    report(name, rule,
           ran(e) && seen_count == 1 && seen.reason == EXIT_REASON_EPT_VIOLATION && seen.busy == 0xffffffff &&
               (seen.qualification & Q_MASK) == qualification && seen.linear == address &&
               seen.physical == address && seen_rip == (uint64_t)rip,
           "result %d error %u reason %u: %u times, reason %u busy %x qualification %lx linear %lx physical "
           "%lx index %x "
           "RIP %lx",
           e->result, e->error, e->reason, seen_count, seen.reason, seen.busy, seen.qualification,
           seen.linear, seen.physical, seen.index, seen_rip);
}

static void is_exit(const char *name, const char *rule, const struct vmx_exit *e, unsigned reason)
{
    report(name, rule, e->result == VMX_OK && e->reason == reason && seen_count == 0 && area->reason == 0,
           "result %d error %u reason %u: %u times, reason %u", e->result, e->error, e->reason, seen_count,
           area->reason);
}

static void exceptions(void)
{
    COVERS(PROC2_EPT_VIOLATION_VE);
    trap_handlers[VECTOR_VE] = ve_handler;
    ve_setup(0);
    struct vmx_exit e = run(g_read, WINDOW + 16);
    is_exception("ve-absent", "SDM 3C 25.5.7.2: #VE with the information area filled", &e,
                 1 | LINEAR | TRANSLATED, WINDOW + 16, g_read);
    report("ve-frame", "SDM 3C 25.5.7.3: vector 20 without an error code; a fault, so RF is pushed as 1",
           seen_error == 0 && (seen_rflags >> 16 & 1), "error %lx RFLAGS %lx", seen_error, seen_rflags);
    report("ve-index", "SDM 3C 25.5.7.2: the EPTP index of the VMCS", seen.index == 0x1234, "%x", seen.index);
    ve_setup(SUPPRESS);
    e = run(g_read, WINDOW);
    is_exit("ve-suppressed", "SDM 3C 25.5.7.1: bit 63 of the entry that is not present", &e,
            EXIT_REASON_EPT_VIOLATION);
    ve_setup(frame | EPT_WB | EPT_R);
    e = run(g_write, WINDOW + 32);
    is_exception("ve-rights", "SDM 3C 25.5.7.1: access rights", &e, 2 | EPT_R << 3 | LINEAR | TRANSLATED,
                 WINDOW + 32, g_write);
    ve_setup(frame | EPT_WB | EPT_R | SUPPRESS);
    e = run(g_write, WINDOW);
    is_exit("ve-rights-suppressed", "SDM 3C 25.5.7.1: bit 63 of the entry that maps the page", &e,
            EXIT_REASON_EPT_VIOLATION);
    e = run(g_read, WINDOW);
    report("ve-bit-63-ignored", "SDM 3C 28.3.2: bit 63 changes no translation", ran(&e), "reason %u",
           e.reason);
    *(uint64_t *)frame = 0xc3;
    ve_setup(frame | EPT_WB | EPT_R);
    e = run(g_fetch, WINDOW);
    is_exception("ve-fetch", "SDM 3C 25.5.7.1: an instruction fetch", &e,
                 4 | EPT_R << 3 | LINEAR | TRANSLATED, WINDOW, (const char *)WINDOW);

    /* The entry above: its bit 63 counts when it is not present, the leaf's when the walk gets that far. */
    volatile uint64_t *leaf = entry, *above = ept_entry(eptp, WINDOW, 2);
    uint64_t old = *above;
    entry = above;
    ve_setup(0);
    repair = old;
    e = run(g_read, WINDOW);
    is_exception("ve-absent-table", "SDM 3C 25.5.7.1: at any level", &e, 1 | LINEAR | TRANSLATED, WINDOW,
                 g_read);
    ve_setup(SUPPRESS);
    e = run(g_read, WINDOW);
    is_exit("ve-absent-table-suppressed", "SDM 3C 25.5.7.1: at any level", &e, EXIT_REASON_EPT_VIOLATION);
    ve_setup(old | SUPPRESS);
    entry = leaf;
    *leaf = 0;
    invept(1, eptp);
    e = run(g_read, WINDOW);
    is_exception("ve-table-ignored",
                 "SDM 3C 25.5.7.1: bit 63 of a present entry that references a table does not count", &e,
                 1 | LINEAR | TRANSLATED, WINDOW, g_read);
    *above = old;

    ve_setup(0);
    area->busy = 1;
    e = run(g_read, WINDOW);
    is_exit("ve-busy", "SDM 3C 25.5.7.1: only if the 32 bits at offset 4 are 0", &e,
            EXIT_REASON_EPT_VIOLATION);
    ve_setup(0);
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_EPT_VIOLATION_VE);
    e = run(g_read, WINDOW);
    is_exit("ve-off", "SDM 3C 25.5.7.1: only with \"EPT-violation #VE\"", &e, EXIT_REASON_EPT_VIOLATION);
    ve_setup(EPT_W);
    e = run(g_read, WINDOW);
    is_exit("ve-misconfiguration", "SDM 3C 25.5.7: only EPT violations", &e, EXIT_REASON_EPT_MISCONFIG);
    ve_setup(0);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1u << VECTOR_VE);
    e = run(g_read, WINDOW + 8);
    report("ve-intercepted",
           "SDM 3C 25.5.7.3: bit 20 of the exception bitmap; the area is filled all the same",
           e.result == VMX_OK && e.reason == EXIT_REASON_EXCEPTION && e.interruption == CODE_OF(VECTOR_VE) &&
               area->reason == EXIT_REASON_EPT_VIOLATION && area->busy == 0xffffffff &&
               area->physical == WINDOW + 8 && e.rip == (uint64_t)g_read,
           "reason %u interruption %x area %u %x %lx", e.reason, e.interruption, area->reason, area->busy,
           area->physical);
    ve_setup(0);
    vmcs_set(VMCS_GUEST_IDTR_BASE, WINDOW);
    e = run(g_int3, 0);
    report("ve-delivery", "SDM 3C 25.5.7.1: not while an event is being delivered: a VM exit",
           e.result == VMX_OK && e.reason == EXIT_REASON_EPT_VIOLATION && (e.vectoring >> 31) &&
               (e.vectoring & 0xff) == 3 && area->reason == 0,
           "reason %u vectoring %x area %u", e.reason, e.vectoring, area->reason);

    if (vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_VMFUNC)) {
        uint64_t *list = page_alloc();
        list[3] = eptp;
        ve_setup(0);
        vmx_secondary(PROC2_ENABLE_VMFUNC);
        vmcs_set(VMCS_VMFUNC_CONTROLS, 1);
        vmcs_set(VMCS_EPTP_LIST, (uint64_t)list);
        vmx_guest = (struct vmx_registers){.rbx = WINDOW, .rcx = 3};
        seen_count = 0;
        e = vmx_run(g_switch_read);
        report("ve-eptp-index", "SDM 3C 25.5.6.3: EPTP switching writes the EPTP index",
               ran(&e) && seen_count == 1 && seen.index == 3 && vmcs(VMCS_EPTP_INDEX) == 3,
               "reason %u: %u times, index %x, field %lx", e.reason, seen_count, seen.index,
               vmcs(VMCS_EPTP_INDEX));
    }
    ve_setup(repair);
    vmcs_set(VMCS_VE_INFORMATION, (uint64_t)area | 0x10);
    e = run(g_read, WINDOW);
    report("entry-ve-aligned", "SDM 3C 26.2.1.1: bits 11:0 of the information address", refused(&e),
           "result %d error %u reason %u", e.result, e.error, e.reason);
    vmcs_set(VMCS_VE_INFORMATION, 1ul << physical_bits());
    e = run(g_read, WINDOW);
    report("entry-ve-wide", "SDM 3C 26.2.1.1: the information address within the physical-address width",
           refused(&e), "result %d error %u reason %u", e.result, e.error, e.reason);
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_EPT_VIOLATION_VE);
    e = run(g_read, WINDOW);
    report("entry-ve-off", "SDM 3C 26.2.1.1: not looked at without \"EPT-violation #VE\"", ran(&e),
           "result %d error %u reason %u", e.result, e.error, e.reason);
}

/* -- Mode-based execute control ------------------------------------------------------------------------ */
static void mbe_setup(uint64_t value, bool on)
{
    vmx_guest_reset();
    vmx_secondary(PROC2_ENABLE_EPT | (on ? PROC2_MODE_BASED_EXECUTE : 0));
    vmcs_set(VMCS_EPT_POINTER, eptp);
    *entry = value;
    invept(1, eptp);
}

static void mbe_ring3(void)
{
    vmcs_set(VMCS_GUEST_CS_SELECTOR, SEL_USER_CODE64 | 3);
    vmcs_set(VMCS_GUEST_CS_ACCESS, 0xa0fb);
    vmcs_set(VMCS_GUEST_SS_SELECTOR, SEL_USER_DATA | 3);
    vmcs_set(VMCS_GUEST_SS_ACCESS, 0xc0f3);
}

/* Code and stack keep all rights of both modes. */
static void mbe_identity(void)
{
    for (uint64_t at = 0; at < 2ul << 30; at += 2ul << 20) {
        *ept_entry(eptp, at, 2) |= EPT_XU;
    }
    for (int level = 3; level <= 4; level++) {
        *ept_entry(eptp, 0, level) |= EPT_XU;
        *ept_entry(eptp, WINDOW, level) |= EPT_XU;
    }
    /* Tables of 4K pages that are there already. */
    for (uint64_t at = WINDOW; at < WINDOW + (2ul << 20); at += PAGE_SIZE) {
        *ept_entry(eptp, at, 1) |= EPT_XU;
    }
    invept(2, 0);
}

static void fetch(const char *who, uint64_t bits, bool user, bool ring3)
{
    char name[64];
    uint64_t linear = user ? WINDOW : ALIAS;
    mbe_setup(frame | EPT_WB | bits, true);
    if (ring3) {
        mbe_ring3();
    }
    struct vmx_exit e = run(g_fetch, linear);
    bool allowed = bits & (user ? EPT_XU : EPT_X);
    uint64_t want = 4 | (bits & 7) << 3 | (bits & EPT_XU ? 1 << 6 : 0) | LINEAR | TRANSLATED;
    format_text(name, sizeof name, "mbe-%s-%s%s%s", who, bits & EPT_R ? "r" : "-", bits & EPT_X ? "s" : "-",
                bits & EPT_XU ? "u" : "-");
    report(name, "SDM 3C 28.3.3.2: bit 10 for user-mode linear addresses, bit 2 for supervisor-mode ones",
           allowed ? ran(&e)
                   : e.result == VMX_OK && e.reason == EXIT_REASON_EPT_VIOLATION &&
                         (e.qualification & (Q_MASK | 1 << 6)) == want && e.physical == WINDOW &&
                         e.linear == linear,
           "result %d error %u reason %u qualification %lx, want %lx", e.result, e.error, e.reason,
           e.qualification, want);
}

static void mode_based(void)
{
    COVERS(PROC2_MODE_BASED_EXECUTE_CONTROL);
    bool execute_only = rdmsr(IA32_VMX_EPT_VPID_CAP) & 1;
    *(uint64_t *)frame = 0xc3;
    mbe_identity();
    for (unsigned i = 0; i < 8; i++) {
        uint64_t bits = (i & 1 ? EPT_R : 0) | (i & 2 ? EPT_X : 0) | (i & 4 ? EPT_XU : 0);
        if (!(bits & EPT_R) && (!bits || !execute_only)) {
            continue;
        }
        fetch("supervisor", bits, false, false);
        fetch("user", bits, true, false);
        fetch("user-ring-3", bits, true, true);
    }
    mbe_setup(frame | EPT_WB | EPT_R | EPT_XU, false);
    struct vmx_exit e = run(g_fetch, WINDOW);
    report("mbe-off", "SDM 3C 28.3.2: bit 10 is ignored without the control",
           e.reason == EXIT_REASON_EPT_VIOLATION &&
               (e.qualification & Q_MASK) == (4 | EPT_R << 3 | LINEAR | TRANSLATED),
           "reason %u qualification %lx", e.reason, e.qualification);
    mbe_setup(frame | EPT_WB | EPT_XU, false);
    e = run(g_read, WINDOW);
    report("mbe-off-absent", "SDM 3C 28.3.2: present by bits 2:0 alone without the control",
           e.reason == EXIT_REASON_EPT_VIOLATION && (e.qualification & Q_MASK) == (1 | LINEAR | TRANSLATED),
           "reason %u qualification %lx", e.reason, e.qualification);
    mbe_setup(0x7ul << 3 | frame | EPT_XU, true); /* a reserved memory type */
    e = run(g_read, WINDOW);
    report("mbe-present", "SDM 3C 28.3.2: bit 10 alone makes an entry present, so it can be misconfigured",
           e.reason == EXIT_REASON_EPT_MISCONFIG, "reason %u", e.reason);
    volatile uint64_t *above = ept_entry(eptp, WINDOW, 2);
    uint64_t old = *above;
    mbe_setup(frame | EPT_WB | 7 | EPT_XU, true);
    *above = old & ~EPT_XU;
    invept(1, eptp);
    e = run(g_fetch, WINDOW);
    report("mbe-table", "SDM 3C 28.3.3.2: bit 10 must be 1 in every entry",
           e.reason == EXIT_REASON_EPT_VIOLATION &&
               (e.qualification & (Q_MASK | 1 << 6)) == (4 | 7 << 3 | LINEAR | TRANSLATED),
           "reason %u qualification %lx", e.reason, e.qualification);
    e = run(g_fetch, ALIAS);
    report("mbe-table-supervisor", "SDM 3C 28.3.3.2: bit 10 is not for supervisor-mode linear addresses",
           ran(&e), "reason %u qualification %lx", e.reason, e.qualification);
    *above = old;
    mbe_setup(frame | EPT_WB | 7 | EPT_XU, true);
    e = run(g_fetch, WINDOW);
    bool first = ran(&e);
    *entry = frame | EPT_WB | 7;
    invept(1, eptp);
    e = run(g_fetch, WINDOW);
    bool second = e.reason == EXIT_REASON_EPT_VIOLATION;
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_MODE_BASED_EXECUTE);
    e = run(g_fetch, WINDOW);
    report("mbe-change", "SDM 3C 28.4.3.3: after INVEPT, and after a change of the control",
           first && second && ran(&e), "%u %u, reason %u", first, second, e.reason);
    mbe_setup(frame | EPT_WB | 7 | EPT_XU, true);
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_ENABLE_EPT);
    e = run(g_read, WINDOW);
    report("entry-mbe-without-ept", "SDM 3C 26.2.1.1: mode-based execute control needs EPT", refused(&e),
           "result %d error %u reason %u", e.result, e.error, e.reason);
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT)) {
        report_skip("ept", "SDM 3C 28.3", "no EPT");
        return;
    }
    eptp = ept_identity(2);
    frame = (uint64_t)page_alloc();
    area = page_alloc();
    entry = ept_entry(eptp, WINDOW, 1);
    page_map(boot_pml4, WINDOW, WINDOW | PTE_P | PTE_W | PTE_U | PTE_PS, 2);
    page_map(boot_pml4, ALIAS, WINDOW | PTE_P | PTE_W, 1);
    if (vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_EPT_VIOLATION_VE)) {
        exceptions();
    } else {
        report_skip("ve", "SDM 3C 25.5.7", "no EPT-violation #VE");
    }
    if (vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_MODE_BASED_EXECUTE)) {
        mode_based();
    } else {
        report_skip("mbe", "SDM 3C 28.3.2", "no mode-based execute control");
    }
    asm volatile("vmxoff");
}
