/*
 * vmx_shadow.c -- VMCS shadowing: SDM 3C 24.10 "VMCS Types: Ordinary and Shadow", 24.6.15
 * bitmaps, 25.1.3, 30.3 VMREAD and VMWRITE.
 */
#include "covers.h"
#include "vmx.h"

GUEST_CODE(guest_read, 64, "mov $0xdead, %ebx\n vmread %rax, %rbx\n pushfq\n pop %rcx");
GUEST_CODE(guest_read_memory, 64, "vmread %rax, (%rdi)\n pushfq\n pop %rcx");
GUEST_CODE(guest_write, 64, "vmwrite %rbx, %rax\n pushfq\n pop %rcx");

static uint8_t *read_bitmap, *write_bitmap;
static void *shadow;
static uint64_t landing USER_DATA;
enum { ZF = 1 << 6, CF = 1 };

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}

static void setup(uint64_t link)
{
    vmx_guest_reset();
    vmx_secondary(PROC2_VMCS_SHADOWING);
    vmcs_set(VMCS_VMREAD_BITMAP, (uint64_t)read_bitmap);
    vmcs_set(VMCS_VMWRITE_BITMAP, (uint64_t)write_bitmap);
    vmcs_set(VMCS_LINK_POINTER, link);
    memset(read_bitmap, 0, PAGE_SIZE);
    memset(write_bitmap, 0, PAGE_SIZE);
}

static struct vmx_exit run(const char *code, uint64_t field, uint64_t value)
{
    vmx_guest.rax = field;
    vmx_guest.rbx = value;
    vmx_guest.rdi = (uint64_t)&landing;
    return vmx_run(code);
}

/* A field of the shadow VMCS, seen from root operation. */
static uint64_t shadow_field(uint32_t field)
{
    vmx_clear((uint64_t)vmx_vmcs);
    vmx_load((uint64_t)shadow);
    uint64_t v = vmcs(field);
    vmx_clear((uint64_t)shadow);
    vmx_load((uint64_t)vmx_vmcs);
    return v;
}

void guest_main(void)
{
    COVERS(PROC2_VMCS_SHADOWING);
    COVERS(EXIT_VMREAD);
    COVERS(EXIT_VMWRITE);
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    const char *rule = "SDM 3C 24.6.15 VMCS Shadowing Bitmap Addresses";
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_VMCS_SHADOWING)) {
        report_skip("shadowing", rule, "no VMCS shadowing");
        return;
    }
    read_bitmap = page_alloc();
    write_bitmap = page_alloc();
    shadow = vmx_region();
    *(uint32_t *)shadow |= 1u << 31;
    check_equal("vmclear-shadow", "SDM 3C 30.3 VMCLEAR", vmx_clear((uint64_t)shadow), VMX_OK);
    check_equal("vmptrld-shadow", "SDM 3C 30.3 VMPTRLD: shadow VMCSs are allowed with VMCS shadowing",
                vmx_load((uint64_t)shadow), VMX_OK);
    vmcs_set(VMCS_GUEST_RIP, 0x1122334455667788);
    vmcs_set(VMCS_GUEST_ES_SELECTOR, 0xabcd);
    vmcs_set(VMCS_GUEST_CS_LIMIT, 0x89abcdef);
    vmcs_set(VMCS_TSC_OFFSET, 0x0123456789abcdef);
    vmcs_set(VMCS_EXIT_REASON, 0x77);
    struct vmx_registers r = {0};
    check_equal("vmlaunch-shadow", "SDM 3C 26.1: VMfailInvalid if the current VMCS is a shadow VMCS",
                vmx_enter_raw(&r, true), VMX_FAIL_INVALID);
    vmx_clear((uint64_t)shadow);

    setup((uint64_t)shadow);
    struct vmx_exit e = run(guest_read, VMCS_GUEST_RIP, 0);
    report("vmread-natural", "SDM 3C 30.3 VMREAD in non-root operation reads the shadow VMCS",
           ran(&e) && vmx_guest.rbx == 0x1122334455667788 && !(vmx_guest.rcx & (ZF | CF)),
           "result %d reason %x RBX %lx flags %lx", e.result, e.reason, vmx_guest.rbx, vmx_guest.rcx);
    e = run(guest_read, VMCS_GUEST_ES_SELECTOR, 0);
    report("vmread-16", "SDM 3C 30.3 VMREAD zero-extends", ran(&e) && vmx_guest.rbx == 0xabcd, "%lx",
           vmx_guest.rbx);
    e = run(guest_read, VMCS_GUEST_CS_LIMIT, 0);
    report("vmread-32", "SDM 3C 30.3 VMREAD zero-extends", ran(&e) && vmx_guest.rbx == 0x89abcdef, "%lx",
           vmx_guest.rbx);
    e = run(guest_read, VMCS_TSC_OFFSET | 1, 0);
    report("vmread-high", "SDM 3C 24.11.2: high half", ran(&e) && vmx_guest.rbx == 0x01234567, "%lx",
           vmx_guest.rbx);
    e = run(guest_read_memory, VMCS_GUEST_RIP, 0);
    report("vmread-memory", "SDM 3C 30.3 VMREAD to memory", ran(&e) && landing == 0x1122334455667788, "%lx",
           landing);
    e = run(guest_write, VMCS_GUEST_RSP, 0x99887766);
    bool no_exit = ran(&e);
    check_equal("vmwrite", "SDM 3C 30.3 VMWRITE in non-root operation writes the shadow VMCS",
                no_exit ? shadow_field(VMCS_GUEST_RSP) : 0, 0x99887766);

    setup((uint64_t)shadow);
    read_bitmap[VMCS_GUEST_RIP / 8] = 1 << (VMCS_GUEST_RIP & 7);
    e = run(guest_read, VMCS_GUEST_RIP, 0);
    report("vmread-bitmap", "SDM 3C 25.1.3 VMREAD: bit in the VMREAD bitmap",
           e.reason == EXIT_REASON_VMREAD && e.length == 3, "reason %x length %u", e.reason, e.length);
    e = run(guest_write, VMCS_GUEST_RIP, 5);
    report("vmwrite-other-bitmap", "SDM 3C 25.1.3 VMWRITE: has a bitmap of its own", ran(&e), "reason %x",
           e.reason);
    write_bitmap[VMCS_GUEST_RIP / 8] = 1 << (VMCS_GUEST_RIP & 7);
    e = run(guest_write, VMCS_GUEST_RIP, 5);
    report("vmwrite-bitmap", "SDM 3C 25.1.3 VMWRITE: bit in the VMWRITE bitmap",
           e.reason == EXIT_REASON_VMWRITE, "reason %x", e.reason);
    e = run(guest_read, 1ul << 15 | VMCS_GUEST_RIP, 0);
    report("vmread-bits-63-15", "SDM 3C 25.1.3 VMREAD: bits 63:15 of the encoding not 0 exit",
           e.reason == EXIT_REASON_VMREAD, "reason %x", e.reason);
    e = run(guest_read, 0x0ffe, 0);
    report("vmread-unsupported", "SDM 3C 30.3 VMREAD: VMfailValid(12) in the shadow VMCS",
           ran(&e) && (vmx_guest.rcx & ZF) && vmx_guest.rbx == 0xdead, "reason %x flags %lx RBX %lx",
           e.reason, vmx_guest.rcx, vmx_guest.rbx);
    setup(~0ul);
    e = run(guest_read, VMCS_GUEST_RIP, 0);
    report("vmread-no-link", "SDM 3C 30.3 VMREAD: VMfailInvalid if the link pointer is FFFFFFFF_FFFFFFFFH",
           ran(&e) && (vmx_guest.rcx & CF), "reason %x flags %lx", e.reason, vmx_guest.rcx);
    e = run(guest_write, VMCS_GUEST_RIP, 0);
    report("vmwrite-no-link", "SDM 3C 30.3 VMWRITE: VMfailInvalid likewise", ran(&e) && (vmx_guest.rcx & CF),
           "reason %x flags %lx", e.reason, vmx_guest.rcx);
    void *ordinary = vmx_region();
    setup((uint64_t)ordinary);
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)guest_read);
    e = vmx_enter();
    report("link-not-shadow", "SDM 3C 26.3.1.5: with VMCS shadowing the linked region must be a shadow VMCS",
           e.result == VMX_OK && e.reason == (EXIT_REASON_ENTRY_FAILURE | 33) && e.qualification == 4,
           "reason %x qualification %lx", e.reason, e.qualification);
    setup((uint64_t)shadow);
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_VMCS_SHADOWING);
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)guest_read);
    e = vmx_enter();
    report("link-shadow-without-control",
           "SDM 3C 26.3.1.5: without it the linked region must be an ordinary VMCS",
           e.result == VMX_OK && e.reason == (EXIT_REASON_ENTRY_FAILURE | 33) && e.qualification == 4,
           "reason %x qualification %lx", e.reason, e.qualification);
    asm volatile("vmxoff");
}
