/*
 * paging5.c -- 5-level paging and 57-bit linear addresses: SDM 3A 4.5, CR4.LA57.
 *
 * CR4.LA57 can change only outside IA-32e mode, so legacy_run() leaves it and enters it again with the bit
 * set; the checks then run in 64-bit mode on a stack of their own, with the library's IDT and TSS.
 */
#include "guest.h"

#define CR4_LA57 (1ul << 12)
#define LOW57    0x0001000000000000ul /* PML5 slot 1: canonical with 57 bits, not with 48 */
#define HIGH57   0xff00000000000000ul /* PML5 slot 256 */
#define BEYOND   0x0100000000000000ul /* not canonical with 57 bits */

USER_CODE(user_read, 64, "mov (%rdi), %al");
USER_CODE(user_write, 64, "mov %al, (%rdi)");
USER_CODE(user_stack_read, 64, "mov %rdi, %rsp\n pop %rax");

static uint64_t *pml5;
static struct table_register idt_register, gdt_register;
static uint8_t main_stack[16384] __attribute__((aligned(16), used));
static volatile uint32_t ran;
void paging5_main(void);

asm(".text\n.code32\n.globl paging5_enter\npaging5_enter: ljmp $0x08, $1f\n"
    ".code64\n1: lea main_stack + 16384(%rip), %rsp\n call paging5_main\n pushq $0x30\n pushq $2f\n lretq\n"
    ".code32\n2: jmp legacy_back\n.code64");
extern char paging5_enter[];

/* The entry that maps `address` at `level` 1 to 5. */
static uint64_t *entry5(uint64_t address, int level)
{
    uint64_t *entry = &pml5[address >> 48 & 511];
    if (level == 5) {
        return entry;
    }
    if (!(*entry & PTE_P)) {
        *entry = (uint64_t)page_alloc() | PTE_P | PTE_W | PTE_U;
    }
    return page_entry((uint64_t *)(*entry & PTE_ADDRESS), address, level);
}

static uint8_t *map5(uint64_t address)
{
    uint8_t *frame = page_alloc();
    *entry5(address, 1) = (uint64_t)frame | PTE_P | PTE_W | PTE_U;
    memcpy(frame, "\xc3\0\0\0\0\0\0\0\xcd\x80", 10); /* RET; INT 80H at 8 */
    invlpg(address);
    return frame;
}

static void load_idt(const struct table_register *r)
{
    asm volatile("lidt %0" ::"m"(*r));
}

static void load_gdt(const struct table_register *r)
{
    asm volatile("lgdt %0" ::"m"(*r));
}

/* -- What registers may hold: the processor's width, whatever CR4.LA57 is ------------------------------ */
static void registers(const char *mode)
{
    const char *rule = "SDM 1 3.3.7.1, 5-level paging: registers hold 57-bit addresses";
    static const struct {
        const char *name;
        uint32_t index;
    } list[] = {{"lstar", IA32_LSTAR},
                {"fs-base", IA32_FS_BASE},
                {"kernel-gs-base", IA32_KERNEL_GS_BASE},
                {"sysenter-eip", IA32_SYSENTER_EIP}};
    char slug[48];
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        uint64_t old = rdmsr(list[i].index);
        format_text(slug, sizeof slug, "%s-%s", mode, list[i].name);
        check_none(slug, rule, TRY(wrmsr(list[i].index, HIGH57)));
        format_text(slug, sizeof slug, "%s-%s-beyond", mode, list[i].name);
        check_trap(slug, "SDM 2 WRMSR #GP(0): not canonical", TRY(wrmsr(list[i].index, BEYOND)), EXC_GP, 0);
        wrmsr(list[i].index, old);
    }
    struct table_register r = {.limit = 0xfff, .base = LOW57};
    format_text(slug, sizeof slug, "%s-lidt", mode);
    check_none(slug, rule, TRY({
                   load_idt(&r);
                   load_idt(&idt_register);
               }));
    r.base = BEYOND;
    format_text(slug, sizeof slug, "%s-lgdt-beyond", mode);
    check_trap(slug, "SDM 2 LGDT #GP(0): not canonical", TRY(load_gdt(&r)), EXC_GP, 0);
    load_gdt(&gdt_register);
}

/* -- In 5-level paging --------------------------------------------------------------------------------- */
static void addresses(void)
{
    const char *rule = "SDM 3A 4.5: 57-bit linear addresses";
    static const uint64_t list[] = {LOW57, HIGH57, BEYOND - 0x1000, HIGH57 | 0x00ff800000000000ul};
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        char slug[48];
        uint8_t *frame = map5(list[i]);
        format_text(slug, sizeof slug, "access-%u", i);
        store8(list[i] + 0x321, (uint8_t)(0x40 + i));
        report(slug, rule, frame[0x321] == 0x40 + i && load8(list[i] + 0x321) == 0x40 + i, "%x",
               frame[0x321]);
        format_text(slug, sizeof slug, "fetch-%u", i);
        check_none(slug, rule, TRY(call_at(list[i])));
    }
    check_none("last-byte", rule, TRY(load8(BEYOND - 1)));
    check_trap("beyond", "SDM 1 3.3.7.1 Canonical Addressing", TRY(load8(BEYOND)), EXC_GP, 0);
    check_trap("beyond-write", "SDM 1 3.3.7.1 Canonical Addressing", TRY(store8(BEYOND, 1)), EXC_GP, 0);
    check_trap("beyond-cross", "SDM 1 3.3.7.1 Canonical Addressing", TRY(load64(BEYOND - 4)), EXC_GP, 0);
    check_trap("beyond-high", "SDM 1 3.3.7.1 Canonical Addressing", TRY(load8(HIGH57 - 1)), EXC_GP, 0);
    check_trap("beyond-stack", "SDM 3A 6.15 Interrupt 12", TRY(user_run(user_stack_read, BEYOND)), EXC_SS, 0);
    check_trap("beyond-jump", "SDM 2 CALL #GP(0)", TRY(call_at(BEYOND)), EXC_GP, 0);
    check_none("user-read", rule, TRY(user_run(user_read, LOW57 + 16)));
    check_none("user-fetch", rule, TRY(user_run((void *)(HIGH57 + 8), 0)));
    wrmsr(IA32_FS_BASE, LOW57);
    uint8_t v;
    asm volatile("movb %%fs:0x321, %0" : "=q"(v));
    check_equal("fs-based", rule, v, 0x40);
    wrmsr(IA32_FS_BASE, 0);
}

static void rights(void)
{
    const char *rule = "SDM 3A Table 4-14 Format of a PML5 Entry";
    const uint64_t at = LOW57 + 16;
    volatile uint64_t *entry = entry5(LOW57, 5);
    const uint64_t good = *entry;
    report("accessed", "SDM 3A 4.8 Accessed and Dirty Flags", good & PTE_A, "PML5E %lx", good);
    *entry = good & ~PTE_P;
    invlpg(at);
    check_fault("not-present", rule, TRY(load8(at)), 0, at);
    check_fault("not-present-user", rule, TRY(user_run(user_write, at)), PF_W | PF_U, at);
    *entry = good & ~PTE_U;
    invlpg(at);
    check_fault("supervisor", "SDM 3A 4.6.1: U/S of every level", TRY(user_run(user_read, at)), PF_P | PF_U,
                at);
    check_none("supervisor-read", "SDM 3A 4.6.1: U/S of every level", TRY(load8(at)));
    *entry = good & ~PTE_W;
    invlpg(at);
    check_fault("read-only", "SDM 3A 4.6.1: R/W of every level", TRY(user_run(user_write, at)),
                PF_P | PF_U | PF_W, at);
    *entry = good | PTE_NX;
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
    invlpg(at);
    check_fault("no-execute", "SDM 3A 4.6.1: XD of every level", TRY(call_at(LOW57)), PF_P | PF_I, LOW57);
    *entry = good | PTE_PS;
    invlpg(at);
    check_fault("ps-reserved", "SDM 3A Table 4-14: bit 7 is reserved", TRY(load8(at)), PF_P | PF_RSVD, at);
    *entry = good | 1ul << (physical_bits() < 51 ? physical_bits() : 51);
    invlpg(at);
    if (physical_bits() < 52) {
        check_fault("address-reserved", rule, TRY(load8(at)), PF_P | PF_RSVD, at);
    }
    *entry = good;
    invlpg(at);
    check_none("good-again", rule, TRY(load8(at)));
    volatile uint64_t *pml4e = entry5(LOW57, 4);
    *pml4e |= PTE_PS;
    invlpg(at);
    check_fault("ps-reserved-pml4e", "SDM 3A Table 4-15: bit 7 is reserved", TRY(load8(at)), PF_P | PF_RSVD,
                at);
    *pml4e &= ~PTE_PS;
    invlpg(at);
}

void paging5_main(void)
{
    load_gdt(&gdt_register);
    load_idt(&idt_register);
    gdt[SEL_TSS / 8] &= ~(2ul << 40);
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
    check_equal("la57", "SDM 3A 2.5 CR4.LA57", read_cr4() & CR4_LA57, CR4_LA57);
    check_trap("la57-clear-in-ia32e", "SDM 2 MOV CR4 #GP(0): LA57 does not change in IA-32e mode",
               TRY(write_cr4(read_cr4() & ~CR4_LA57)), EXC_GP, 0);
    addresses();
    rights();
    registers("5level");
    ran = 1;
}

void guest_main(void)
{
    if (!(cpuid(7, 0).ecx & 1u << 16)) {
        report_skip("la57", "SDM 3A 4.5", "no 5-level paging");
        check_trap("cr4-la57", "SDM 2 MOV CR4 #GP(0)", TRY(write_cr4(read_cr4() | CR4_LA57)), EXC_GP, 0);
        guest_finish();
    }
    asm volatile("sidt %0; sgdt %1" : "=m"(idt_register), "=m"(gdt_register));
    check_equal("cpuid-linear-bits", "SDM 2 CPUID.80000008H:EAX[15:8]", cpuid(0x80000008, 0).eax >> 8 & 0xff,
                57);
    if (enabled("la57-set-in-ia32e", "SDM 2 MOV CR4")) {
        check_trap("la57-set-in-ia32e", "SDM 2 MOV CR4 #GP(0): LA57 does not change in IA-32e mode",
                   TRY(write_cr4(read_cr4() | CR4_LA57)), EXC_GP, 0);
    }
    check_trap("4level-access", "SDM 1 3.3.7.1: 48 bits with 4-level paging", TRY(load8(LOW57)), EXC_GP, 0);
    registers("4level");
    pml5 = page_alloc();
    pml5[0] = (uint64_t)boot_pml4 | PTE_P | PTE_W | PTE_U;
    struct legacy l = {.cr0 = (uint32_t)(CR0_PG | CR0_WP),
                       .cr3 = (uint32_t)(uint64_t)pml5,
                       .cr4 = (uint32_t)(CR4_PAE | CR4_LA57),
                       .efer = (uint32_t)EFER_LME,
                       .eip = (uint32_t)(uint64_t)paging5_enter,
                       .cs = SEL_CODE32,
                       .eflags = 2,
                       .ss = SEL_DATA,
                       .ds = SEL_DATA,
                       .esp = (uint32_t)(uint64_t)user_stack + sizeof user_stack};
    legacy_run(&l);
    report("back", "SDM 3A 9.8.5.4: and back to 4-level paging", ran == 1 && !(read_cr4() & CR4_LA57),
           "CR4 %lx", read_cr4());
    guest_finish();
}
