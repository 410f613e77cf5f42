/*
 * vmx_modes.c -- L2 in modes other than 64-bit: real mode and protected mode without paging ("unrestricted
 * guest"), virtual-8086 mode, PAE paging with the PDPTE fields, task switches, and a 32-bit hypervisor.
 * SDM 3C 24 to 27.
 */
#include "covers.h"
#include "vmx.h"

#define REAL_CODE_AT 0x9000
#define AR_CODE16    0x009b
#define AR_DATA16    0x0093
#define AR_CODE32    0xc09b
#define AR_DATA32    0xc093
#define VALID        (1u << 31)

static uint64_t eptp;
static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}

static void segment(unsigned index, uint16_t selector, uint64_t base, uint32_t limit, uint32_t access)
{
    vmcs_set(VMCS_GUEST_ES_SELECTOR + 2 * index, selector);
    vmcs_set(VMCS_GUEST_ES_BASE + 2 * index, base);
    vmcs_set(VMCS_GUEST_ES_LIMIT + 2 * index, limit);
    vmcs_set(VMCS_GUEST_ES_ACCESS + 2 * index, access);
}

/* Out of IA-32e mode, without paging; EPT maps guest-physical memory one to one. */
static void legacy_guest(uint64_t cr0_clear)
{
    vmx_guest_reset();
    vmx_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST);
    vmcs_set(VMCS_EPT_POINTER, eptp);
    vmx_control_clear(VMCS_ENTRY_CONTROLS, ENTRY_IA32E_GUEST);
    vmcs_set(VMCS_GUEST_EFER, 0);
    vmcs_set(VMCS_GUEST_CR0, read_cr0() & ~cr0_clear);
    vmcs_set(VMCS_GUEST_CR4, rdmsr(IA32_VMX_CR4_FIXED0));
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
}

/* -- Real mode: unrestricted guest --------------------------------------------------------------------- */
#define REAL_GUEST(name, text)                                                                               \
    extern char name[], name##_end[];                                                                        \
    asm(".pushsection .data\n.balign 16\n.code16\n" #name ":\n" text "\nvmcall\n hlt\n" #name                \
        "_end:\n.code64\n.popsection")
REAL_GUEST(real_plain, "mov $0x1234, %ax\n mov %ax, %ds\n mov $0x5678, %bx\n mov %cr0, %ecx\n push %bx");
REAL_GUEST(real_int, "int $0x21\n mov $7, %cx");
REAL_GUEST(real_ud, "ud2");
REAL_GUEST(real_gp, "mov $0xffff, %bx\n mov (%bx), %ax"); /* beyond the limit */
REAL_GUEST(real_out, "mov $0x80, %dx\n rep outsb");
REAL_GUEST(real_protected, "lgdtl 0x9800\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n"
                           "ljmpl $0x30, $real_then32");
asm(".text\n.code32\nreal_then32:\n mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %ss\n movl $0x600d, %ebx\n"
    " vmcall\n hlt\n.code64");

static volatile uint16_t *low(unsigned at)
{
    asm("" : "+r"(at));
    return (volatile uint16_t *)(uint64_t)at;
}

static struct vmx_exit real(const char *code, const char *end)
{
    memcpy((void *)REAL_CODE_AT, code, (size_t)(end - code));
    vmcs_set(VMCS_GUEST_RIP, 0);
    vmcs_set(VMCS_GUEST_RSP, 0x800);
    return vmx_enter();
}
#define REAL(name) real(name, name##_end)

static void real_reset(void)
{
    legacy_guest(CR0_PE | CR0_PG);
    static const unsigned data[] = {0, 2, 3, 4, 5};
    for (unsigned i = 0; i < 5; i++) {
        segment(data[i], 0x900, REAL_CODE_AT, 0xffff, AR_DATA16);
    }
    segment(1, 0x900, REAL_CODE_AT, 0xffff, AR_CODE16);
    vmcs_set(VMCS_GUEST_IDTR_BASE, 0x5000);
    vmcs_set(VMCS_GUEST_IDTR_LIMIT, 0x3ff);
    for (unsigned v = 0; v < 256; v++) { /* INT n: 9000H:0E00H + n, that is STI-free IRET */
        low(0x5000 + 4 * v)[0] = (uint16_t)(0xe00 + v);
        low(0x5000 + 4 * v)[1] = 0x900;
    }
    memset((void *)(REAL_CODE_AT + 0xe00), 0xcf, 256);
}

static void real_mode(void)
{
    COVERS(PROC2_UNRESTRICTED_GUEST);
    real_reset();
    struct vmx_exit e = REAL(real_plain);
    report("real-run",
           "SDM 3C 26.3.1.1: an unrestricted guest may have CR0.PE and CR0.PG 0; VMCALL exits in real mode",
           ran(&e) && e.length == 3 && (vmx_guest.rcx & 1) == 0 && vmcs(VMCS_GUEST_RSP) == 0x7fe,
           "result %d error %u reason %x qualification %lx RCX %lx RSP %lx", e.result, e.error, e.reason,
           e.qualification, vmx_guest.rcx, vmcs(VMCS_GUEST_RSP));
    report("real-segment", "SDM 3C 27.3.2: the base is selector * 16, as loaded in real mode",
           vmcs(VMCS_GUEST_DS_SELECTOR) == 0x1234 && vmcs(VMCS_GUEST_DS_BASE) == 0x12340 &&
               vmcs(VMCS_GUEST_DS_LIMIT) == 0xffff,
           "%lx %lx %lx", vmcs(VMCS_GUEST_DS_SELECTOR), vmcs(VMCS_GUEST_DS_BASE), vmcs(VMCS_GUEST_DS_LIMIT));
    real_reset();
    vmx_guest.rcx = 0;
    e = REAL(real_int);
    report("real-int", "SDM 3A 20.1.4: INT n through the guest's own table of vectors, and back",
           ran(&e) && (vmx_guest.rcx & 0xffff) == 7 && vmcs(VMCS_GUEST_RSP) == 0x800 &&
               *low(REAL_CODE_AT + 0x7fa) == 2 && *low(REAL_CODE_AT + 0x7fc) == 0x900,
           "reason %x RCX %lx RSP %lx frame %x %x", e.reason, vmx_guest.rcx, vmcs(VMCS_GUEST_RSP),
           *low(REAL_CODE_AT + 0x7fa), *low(REAL_CODE_AT + 0x7fc));
    real_reset();
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, VALID | 0x21);
    e = REAL(real_plain);
    report("real-inject",
           "SDM 3C 26.6.1.1: an injected interrupt goes through the real-mode table: 6 bytes pushed",
           ran(&e) && *low(REAL_CODE_AT + 0x7fa) == 0 && *low(REAL_CODE_AT + 0x7fe) == 0x5678,
           "reason %x frame %x", e.reason, *low(REAL_CODE_AT + 0x7fa));
    real_reset();
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, VALID | 3 << 8 | EXC_GP);
    e = REAL(real_plain);
    report("real-inject-gp", "SDM 3C 26.2.1.3: in real mode a #GP is injected without error code", ran(&e),
           "result %d error %u", e.result, e.error);
    real_reset();
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, VALID | 1 << 11 | 3 << 8 | EXC_GP);
    e = REAL(real_plain);
    report("real-inject-gp-error-code", "SDM 3C 26.2.1.3: with one the entry fails",
           e.result == VMX_FAIL_VALID && e.error == 7, "result %d error %u reason %x", e.result, e.error,
           e.reason);
    real_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD | 1 << EXC_GP);
    e = REAL(real_ud);
    report("real-ud", "SDM 3C 25.2 exception in real mode",
           e.reason == 0 && e.interruption == (VALID | 3 << 8 | EXC_UD), "reason %x interruption %x",
           e.reason, e.interruption);
    e = REAL(real_gp);
    report("real-gp", "SDM 3C 27.2.2: in real-address mode bit 11 (error code valid) is 0",
           e.reason == 0 && e.interruption == (VALID | 3 << 8 | EXC_GP) && e.rip == 3,
           "reason %x interruption %x RIP %lx", e.reason, e.interruption, e.rip);
    real_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_UNCONDITIONAL_IO);
    vmx_guest.rcx = 2;
    vmx_guest.rsi = 0x40;
    e = REAL(real_out);
    report("real-outs",
           "SDM 3C Tables 27-5, 27-8: 16-bit addresses, DS; linear address with the segment's base",
           e.reason == EXIT_REASON_IO && e.qualification == (0 | 1 << 4 | 1 << 5 | 0x80 << 16) &&
               (e.info >> 7 & 7) == 0 && (e.info >> 15 & 7) == 3 && e.linear == REAL_CODE_AT + 0x40 &&
               e.length == 2,
           "reason %x qualification %lx info %x linear %lx length %u", e.reason, e.qualification, e.info,
           e.linear, e.length);
    real_reset();
    struct table_register *pointer = (struct table_register *)0x9800;
    *pointer = (struct table_register){SEL_LIMIT - 1, (uint64_t)gdt};
    segment(3, 0, 0, 0xffff, AR_DATA16);
    e = REAL(real_protected);
    report("real-to-protected", "SDM 3C 25.3 MOV to CR0: an unrestricted guest sets PE by itself",
           ran(&e) && vmx_guest.rbx == 0x600d && vmcs(VMCS_GUEST_CS_SELECTOR) == 0x30 &&
               (vmcs(VMCS_GUEST_CR0) & (CR0_PE | CR0_PG)) == CR0_PE,
           "result %d reason %x qualification %lx interruption %x RBX %lx CS %lx CR0 %lx", e.result, e.reason,
           e.qualification, e.interruption, vmx_guest.rbx, vmcs(VMCS_GUEST_CS_SELECTOR),
           vmcs(VMCS_GUEST_CR0));
    /* Without the control the same entry is refused. */
    real_reset();
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_UNRESTRICTED_GUEST);
    e = REAL(real_plain);
    report("real-restricted", "SDM 3C 26.3.1.1: without \"unrestricted guest\" CR0.PE must be 1",
           e.result == VMX_OK && e.reason == (EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_INVALID_GUEST),
           "reason %x", e.reason);
}

/* -- Protected mode without paging, task switches ------------------------------------------------------ */
GUEST_CODE(flat_write, 32, "movl %ecx, (%ebx)\n mov (%ebx), %eax\n mov %cr0, %edx");
GUEST_CODE(jump_task, 32, "ljmp $0x68, $0");
GUEST_CODE(call_task, 32, "lcall $0x68, $0");
GUEST_CODE(int_task, 32, "int $0x55");
GUEST_CODE(ud_task, 32, "ud2");
GUEST_CODE(iret_task, 32, "pushfl\n orl $0x4000, (%esp)\n popfl\n iretl");
static uint32_t task[32], old_task[32];
static uint64_t guest_idt[128];

static void protected_reset(void)
{
    legacy_guest(CR0_PG);
    segment(1, SEL_CODE32, 0, 0xffffffff, AR_CODE32);
    vmcs_set(VMCS_GUEST_GDTR_LIMIT, SEL_LIMIT - 1);
    gdt_set(0x68, descriptor((uint32_t)(uint64_t)task, 103, 0x89));
    gdt_set(0x70, descriptor((uint32_t)(uint64_t)old_task, 103, 0x8b));
    segment(7, 0x70, (uint64_t)old_task, 103, 0x8b);
    old_task[0] = 0x68; /* link */
    vmcs_set(VMCS_GUEST_IDTR_BASE, (uint64_t)guest_idt);
    vmcs_set(VMCS_GUEST_IDTR_LIMIT, sizeof guest_idt - 1);
    guest_idt[0x55] = 0x0000e50000680000ul; /* task gate, DPL 3 */
    guest_idt[EXC_UD] = 0x0000e50000680000ul;
}

static void protected_mode(void)
{
    COVERS(ENTRYCTL_IA32E_MODE_GUEST);
    COVERS(EXIT_TASK_SWITCH);
    protected_reset();
    uint32_t *word = page_alloc();
    vmx_guest.rbx = (uint64_t)word;
    vmx_guest.rcx = 0xabcdef01;
    struct vmx_exit e = vmx_run(flat_write);
    report("protected-no-paging",
           "SDM 3C 26.3.1.1: an unrestricted guest may have PE 1 and PG 0: linear is guest-physical",
           ran(&e) && *word == 0xabcdef01 && vmx_guest.rax == 0xabcdef01 && !(vmx_guest.rdx & CR0_PG),
           "result %d error %u reason %x qualification %lx word %x", e.result, e.error, e.reason,
           e.qualification, *word);
    static const struct {
        const char *name, *code;
        unsigned source, length, at;
    } list[] = {{"task-switch-call", call_task, 0, 7, 0},
                {"task-switch-iret", iret_task, 1, 1, 9},
                {"task-switch-jmp", jump_task, 2, 7, 0},
                {"task-switch-int", int_task, 3, 2, 0},
                {"task-switch-fault", ud_task, 3, 0, 0}};
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        protected_reset();
        if (list[i].source == 1) {
            gdt_set(0x68, descriptor((uint32_t)(uint64_t)task, 103, 0x8b)); /* IRET wants a busy one */
        }
        e = vmx_run(list[i].code);
        bool fault = list[i].code == ud_task;
        uint32_t vectoring = fault                 ? VALID | 3 << 8 | EXC_UD
                             : list[i].source == 3 ? VALID | 4 << 8 | 0x55
                                                   : 0;
        report(
            list[i].name,
            "SDM 3C 25.2 Task switches; Table 27-2; 27.2.4: a task gate leaves IDT-vectoring information",
            e.result == VMX_OK && e.reason == EXIT_REASON_TASK_SWITCH &&
                e.qualification == (0x68u | (uint64_t)list[i].source << 30) &&
                e.rip == (uint64_t)list[i].code + list[i].at && (fault || e.length == list[i].length) &&
                (vectoring ? e.vectoring == vectoring : !(e.vectoring & VALID)) && !(e.interruption & VALID),
            "result %d error %u reason %x qualification %lx interruption %x vectoring %x length %u RIP +%lu",
            e.result, e.error, e.reason, e.qualification, e.interruption, e.vectoring, e.length,
            e.rip - (uint64_t)list[i].code);
    }
}

/* -- Virtual-8086 mode --------------------------------------------------------------------------------- */
#define RFLAGS_VM (1ul << 17)
REAL_GUEST(v86_plain, "mov $0x1234, %ax\n mov %ax, %ds\n mov $0x5678, %bx\n push %bx");
REAL_GUEST(v86_ud, "ud2");
GUEST_CODE(v86_handler, 32, "mov $0x8086, %ecx\n mov %esp, %ebx");
static struct {
    uint32_t link, esp0, ss0, rest[22];
    uint16_t trap, iomap;
    uint8_t redirection[32], io[1];
} __attribute__((packed)) v86_tss;
static uint32_t v86_stack[64];

static void v86_reset(void)
{
    protected_reset();
    for (unsigned i = 0; i < 6; i++) {
        segment(i, 0x900, REAL_CODE_AT, 0xffff, 0xf3);
    }
    memset(&v86_tss, 0xff, sizeof v86_tss);
    v86_tss.esp0 = (uint32_t)(uint64_t)(v86_stack + 64);
    v86_tss.ss0 = SEL_DATA;
    v86_tss.iomap = sizeof v86_tss - 1;
    segment(7, 0x70, (uint64_t)&v86_tss, sizeof v86_tss - 1, 0x8b);
    uint64_t at = (uint64_t)v86_handler;
    guest_idt[0x21] = (at & 0xffff) | (uint64_t)SEL_CODE32 << 16 | 0x8eul << 40 | at >> 16 << 48;
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM);
}

static void v86(void)
{
    v86_reset();
    struct vmx_exit e = REAL(v86_plain);
    report("v86-run", "SDM 3C 26.3.1.2: a guest in virtual-8086 mode; VMCALL exits there",
           ran(&e) && e.length == 3 && vmcs(VMCS_GUEST_RFLAGS) & RFLAGS_VM &&
               vmcs(VMCS_GUEST_DS_BASE) == 0x12340 && vmcs(VMCS_GUEST_RSP) == 0x7fe,
           "result %d error %u reason %x qualification %lx RFLAGS %lx", e.result, e.error, e.reason,
           e.qualification, vmcs(VMCS_GUEST_RFLAGS));
    v86_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD);
    e = REAL(v86_ud);
    report("v86-exception", "SDM 3C 25.2 exception in virtual-8086 mode",
           e.reason == 0 && e.interruption == (VALID | 3 << 8 | EXC_UD) &&
               vmcs(VMCS_GUEST_RFLAGS) & RFLAGS_VM,
           "reason %x interruption %x RFLAGS %lx", e.reason, e.interruption, vmcs(VMCS_GUEST_RFLAGS));
    v86_reset();
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IF);
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, VALID | 0x21);
    e = REAL(v86_plain);
    report("v86-inject", "SDM 3C 26.6.1: an injected interrupt leaves virtual-8086 mode by the IDT",
           ran(&e) && (uint32_t)vmx_guest.rcx == 0x8086 && !(vmcs(VMCS_GUEST_RFLAGS) & RFLAGS_VM) &&
               (uint32_t)vmx_guest.rbx == v86_tss.esp0 - 36 && (uint16_t)v86_stack[63] == 0x900 &&
               v86_stack[57] & RFLAGS_VM,
           "reason %x ECX %lx ESP %lx GS %x EFLAGS %x", e.reason, vmx_guest.rcx, vmx_guest.rbx, v86_stack[63],
           v86_stack[57]);
    if (!(cpuid(1, 0).edx & 2)) {
        report_skip("v86-inject-redirected", "SDM 3C 26.6.1.2", "no VME");
        return;
    }
    v86_reset();
    v86_tss.redirection[0x21 / 8] &= (uint8_t) ~(1u << (0x21 & 7));
    low(0x21 * 4)[0] = (uint16_t)(v86_plain_end - v86_plain - 4); /* its VMCALL */
    low(0x21 * 4)[1] = 0x900;
    vmcs_set(VMCS_GUEST_CR4, vmcs(VMCS_GUEST_CR4) | CR4_VME);
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, VALID | 4 << 8 | 0x21);
    vmcs_set(VMCS_ENTRY_INSTRUCTION_LENGTH, 2);
    e = REAL(v86_plain);
    report("v86-inject-redirected",
           "SDM 3C 26.6.1.2: an injected INT n goes by the redirection bit map, whatever IOPL is",
           ran(&e) && vmcs(VMCS_GUEST_RFLAGS) & RFLAGS_VM && vmcs(VMCS_GUEST_RSP) == 0x7fa &&
               *low(REAL_CODE_AT + 0x7fa) == 2 && *low(REAL_CODE_AT + 0x7fe) == 0x3002,
           "result %d error %u reason %x qualification %lx RSP %lx frame %x %x", e.result, e.error, e.reason,
           e.qualification, vmcs(VMCS_GUEST_RSP), *low(REAL_CODE_AT + 0x7fa), *low(REAL_CODE_AT + 0x7fe));
}

/* -- PAE paging ---------------------------------------------------------------------------------------- */
GUEST_CODE(pae_read, 32, "movl (%ebx), %eax");
GUEST_CODE(pae_reload, 32, "mov %cr3, %ecx\n mov %ecx, %cr3\n movl (%ebx), %eax");

static void pae(void)
{
    uint64_t *pdpt = page_alloc(), *directory = page_alloc(), *other = page_alloc();
    uint32_t *frame = page_alloc_aligned(0x200000);
    for (uint64_t i = 0; i < 512; i++) {
        directory[i] = other[i] = i << 21 | PTE_PS | PTE_P | PTE_W | PTE_U;
    }
    /* 80000000H: through the PDPTE fields to the frame; through memory (after MOV CR3) to the start of
     * memory. */
    directory[0x20] = (uint64_t)frame | PTE_PS | PTE_P | PTE_W;
    pdpt[0] = (uint64_t)other | PTE_P;
    frame[0] = 0x11112222;
    const uint64_t at = 0x20ul << 21;
    protected_reset();
    vmcs_set(VMCS_GUEST_CR0, read_cr0());
    vmcs_set(VMCS_GUEST_CR4, rdmsr(IA32_VMX_CR4_FIXED0) | CR4_PAE);
    vmcs_set(VMCS_GUEST_CR3, (uint64_t)pdpt);
    vmcs_set(VMCS_GUEST_PDPTE0, (uint64_t)directory | PTE_P);
    for (unsigned i = 1; i < 4; i++) {
        vmcs_set(VMCS_GUEST_PDPTE0 + 2 * i, 0);
    }
    vmx_guest.rbx = at;
    struct vmx_exit e = vmx_run(pae_read);
    report("pae-fields", "SDM 3C 26.3.2.4: with EPT the PDPTEs come from the VMCS, not from memory",
           ran(&e) && (uint32_t)vmx_guest.rax == 0x11112222,
           "result %d error %u reason %x qualification %lx interruption %x RAX %lx", e.result, e.error,
           e.reason, e.qualification, e.interruption, vmx_guest.rax);
    check_equal("pae-saved", "SDM 3C 27.3.1: the exit saves the PDPTEs in use", vmcs(VMCS_GUEST_PDPTE0),
                (uint64_t)directory | PTE_P);
    uint32_t *plain = (uint32_t *)at; /* the host sees guest-physical memory at the same addresses */
    uint32_t old = *(volatile uint32_t *)plain;
    *(volatile uint32_t *)plain = 0x33334444;
    vmx_guest.rbx = at;
    e = vmx_run(pae_reload);
    report("pae-mov-cr3", "SDM 3A 4.4.1: MOV to CR3 loads the PDPTEs from memory",
           ran(&e) && (uint32_t)vmx_guest.rax == 0x33334444 &&
               vmcs(VMCS_GUEST_PDPTE0) == ((uint64_t)other | PTE_P),
           "reason %x qualification %lx interruption %x RAX %lx PDPTE0 %lx", e.reason, e.qualification,
           e.interruption, vmx_guest.rax, vmcs(VMCS_GUEST_PDPTE0));
    *(volatile uint32_t *)plain = old;
    vmcs_set(VMCS_GUEST_PDPTE0 + 4, 2 | PTE_P);
    e = vmx_run(pae_read);
    report("pae-reserved", "SDM 3C 26.3.1.6: a reserved bit of a PDPTE field: exit 33, qualification 2",
           e.reason == (EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_INVALID_GUEST) && e.qualification == 2,
           "reason %x qualification %lx", e.reason, e.qualification);
    vmcs_set(VMCS_GUEST_PDPTE0 + 4, 2);
    e = vmx_run(pae_read);
    report("pae-not-present", "SDM 3C 26.3.1.6: the bits of one that is not present are ignored", ran(&e),
           "reason %x", e.reason);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_PF);
    vmx_guest.rbx = 0x80000000;
    e = vmx_run(pae_read);
    report("pae-fault", "SDM 3A 4.4.2: no PDPTE: #PF",
           e.reason == 0 && (e.interruption & 0xff) == EXC_PF && e.qualification == 0x80000000 &&
               e.interruption_error == 0,
           "reason %x interruption %x qualification %lx error %x", e.reason, e.interruption, e.qualification,
           e.interruption_error);
}

/* -- A 32-bit hypervisor ------------------------------------------------------------------------------- */
extern char host32[], host32_exit[];
extern uint32_t host32_result[8];
extern uint64_t host32_vmxon, host32_vmcs;
asm(".data\n.balign 8\n"
    "host32_vmxon: .quad 0\n host32_vmcs: .quad 0\n host32_result: .fill 8, 4, 0\n host32_table: .fill 2, 4, "
    "0\n"
    ".text\n.code32\n"
    "host32:\n"
    " vmxon host32_vmxon\n jbe 9f\n"
    " vmptrld host32_vmcs\n jbe 8f\n"
    " mov $0x6c14, %eax\n vmwrite %esp, %eax\n"
    " sgdtl host32_table\n mov $0x6c0c, %eax\n vmwrite host32_table + 2, %eax\n"
    " sidtl host32_table\n mov $0x6c0e, %eax\n vmwrite host32_table + 2, %eax\n"
    " str %ecx\n mov $0x0c0c, %eax\n vmwrite %ecx, %eax\n"
    " mov %cr0, %ecx\n mov $0x6c00, %eax\n vmwrite %ecx, %eax\n"
    " mov %cr3, %ecx\n mov $0x6c02, %eax\n vmwrite %ecx, %eax\n"
    " mov %cr4, %ecx\n mov $0x6c04, %eax\n vmwrite %ecx, %eax\n"
    " movl $1, host32_result\n"
    " vmlaunch\n"
    " mov $0x4400, %eax\n vmread %eax, host32_result + 4\n jmp 8f\n"
    "host32_exit:\n"
    " movl $2, host32_result\n"
    " mov $0x4402, %eax\n vmread %eax, host32_result + 4\n"
    " mov $0x6400, %eax\n vmread %eax, host32_result + 8\n"
    " mov $0x2010, %eax\n vmread %eax, %ecx\n mov %ecx, host32_result + 12\n" /* TSC offset, low half */
    " mov $0x2011, %eax\n vmread %eax, %ecx\n mov %ecx, host32_result + 16\n" /* and high half */
    " mov %cs, host32_result + 20\n mov %cr4, %ecx\n mov %ecx, host32_result + 24\n"
    "8: vmxoff\n"
    "9: int $0x80\n"
    ".code64\n");
GUEST_CODE(guest32, 32, "nop");

static void host_32bit(void)
{
    COVERS(EXITCTL_HOST_ADDRESS_SPACE_SIZE);
    uint64_t *pdpt = page_alloc(), *directory = page_alloc();
    for (uint64_t i = 0; i < 512; i++) {
        directory[i] = i << 21 | PTE_PS | PTE_P | PTE_W | PTE_U;
    }
    pdpt[0] = (uint64_t)directory | PTE_P;
    for (unsigned round = 0; round < 2; round++) {
        vmx_guest_reset();
        vmx_control_clear(VMCS_ENTRY_CONTROLS, ENTRY_IA32E_GUEST | ENTRY_LOAD_EFER);
        vmx_control_clear(VMCS_EXIT_CONTROLS, EXIT_LOAD_EFER | EXIT_SAVE_EFER);
        if (round == 0) {
            vmx_control_clear(VMCS_EXIT_CONTROLS, EXIT_HOST_64);
        }
        vmcs_set(VMCS_TSC_OFFSET, 0x123456789abcdef0);
        segment(1, SEL_CODE32, 0, 0xffffffff, AR_CODE32);
        vmcs_set(VMCS_GUEST_CR3, (uint64_t)pdpt);
        vmcs_set(VMCS_GUEST_CR4, rdmsr(IA32_VMX_CR4_FIXED0) | CR4_PAE);
        vmcs_set(VMCS_HOST_CS_SELECTOR, SEL_CODE32);
        vmcs_set(VMCS_HOST_TR_BASE, (uint64_t)&tss);
        vmcs_set(VMCS_HOST_RIP, (uint64_t)host32_exit);
        vmcs_set(VMCS_GUEST_RIP, (uint64_t)guest32);
        host32_vmcs = (uint64_t)vmx_vmcs;
        host32_vmxon = (uint64_t)vmx_region();
        vmx_clear(host32_vmcs);
        asm volatile("vmxoff");
        memset(host32_result, 0, sizeof host32_result);
        static uint8_t stack[4096];
        struct legacy l = {.cr0 = (uint32_t)(CR0_PG | CR0_NE | CR0_PE),
                           .cr3 = (uint32_t)(uint64_t)pdpt,
                           .cr4 = (uint32_t)(CR4_PAE | CR4_VMXE),
                           .eip = (uint32_t)(uint64_t)host32,
                           .cs = SEL_CODE32,
                           .ss = SEL_DATA,
                           .ds = SEL_DATA,
                           .eflags = RFLAGS_FIXED,
                           .esp = (uint32_t)(uint64_t)stack + sizeof stack};
        legacy_run(&l);
        if (vmx_on((uint64_t)vmx_region()) != VMX_OK) {
            report("host32-back", "SDM 3C 30.3 VMXON", false, "VMXON failed");
        }
        if (round == 1) {
            report("host32-wide",
                   "SDM 3C 26.2.4: outside IA-32e mode \"host address-space size\" must be 0: error 8",
                   host32_result[0] == 1 && host32_result[1] == 8, "%x %x", host32_result[0],
                   host32_result[1]);
            break;
        }
        report("host32-exit",
               "SDM 3C 27.5: an exit to a 32-bit host: reason and qualification by VMREAD in 32-bit mode",
               l.vector == VECTOR_RETURN && host32_result[0] == 2 && host32_result[1] == EXIT_REASON_VMCALL &&
                   host32_result[2] == 0,
               "ended by vector %x at %x: %x %x %x", l.vector, l.out_eip, host32_result[0], host32_result[1],
               host32_result[2]);
        report("host32-halves", "SDM 3C 24.11.1: outside 64-bit mode a 64-bit field is read as two halves",
               host32_result[3] == 0x9abcdef0 && host32_result[4] == 0x12345678, "%x %x", host32_result[3],
               host32_result[4]);
        report("host32-state", "SDM 3C 27.5.1, 27.5.2: CS from the host field, 32-bit; CR4 without PCIDE",
               host32_result[5] == SEL_CODE32 && (host32_result[6] & CR4_PAE) &&
                   !(host32_result[6] & CR4_PCIDE),
               "%x %x", host32_result[5], host32_result[6]);
    }
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        report_skip("unrestricted", "SDM 3C 24.6.2", "no unrestricted guest");
    } else {
        eptp = ept_identity(4);
        real_mode();
        protected_mode();
        v86();
        pae();
    }
    host_32bit();
    asm volatile("vmxoff");
}
