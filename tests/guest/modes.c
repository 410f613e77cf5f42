/*
 * modes.c -- operating modes and the ways between them: real, protected 16 and 32 bit, compatibility, 64 bit;
 * SYSCALL, SYSENTER, SWAPGS, UMIP. SDM 3A 2.2 "Modes of Operation", 5.8.7, 5.8.8, chapter 20.
 */
#include "guest.h"

#define T0 (SEL_TEST)

/* -- Real mode ----------------------------------------------------------------------------------------- */
REAL_CODE(
    real_wrap,
    "mov $0xffff, %bx\n mov %bx, %es\n movb %es:0x10, %al"); /* FFFF:0010 = linear 100000H with A20 on */
REAL_CODE(real_limit, "mov $0xffff, %bx\n movw (%bx), %ax");
REAL_CODE(real_limit32, "mov $0x10000, %ebx\n movb (%ebx), %al");
REAL_CODE(real_push, "mov $0x1234, %ax\n push %ax\n pop %cx\n push %cs\n pop %dx");
REAL_CODE(real_int, "int $0x40");
REAL_CODE(real_ud, "ud2");
REAL_CODE(real_into, "mov $0x7fff, %ax\n add $1, %ax\n into");
REAL_CODE(real_segments, "mov $0x1234, %ax\n mov %ax, %fs\n mov %fs, %cx\n xor %eax, %eax\n smsw %ax");
REAL_CODE(real_lldt, "xor %ax, %ax\n lldt %ax");
REAL_CODE(real_sysenter, ".byte 0x0f, 0x34");
REAL_CODE(real_vmxon_ud, ".byte 0x0f, 0x01, 0xc1");
REAL_CODE(real_loop, "mov $5, %cx\n xor %ax, %ax\n 1: inc %ax\n loop 1b");
REAL_CODE(real_big, "mov %cr0, %eax\n mov $0x12345678, %ebx\n shld $8, %ebx, %ecx");
REAL_CODE(real_stack_wrap, "mov %esp, %edi\n xor %esp, %esp\n push %ax\n mov %esp, %ecx\n mov %edi, %esp");
/* Big real ("unreal") mode: a 4 GB limit loaded in protected mode stays in real mode. */
REAL_CODE(real_unreal, "lgdtl %cs:(2f - real_unreal)\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n mov "
                       "$8, %bx\n mov %bx, %fs\n and $0xfe, %al\n"
                       "mov %eax, %cr0\n mov $0x100000, %ebx\n mov %fs:(%ebx), %eax\n jmp 1f\n 2: .word 15\n "
                       ".long 0x9000 + 3f - real_unreal\n"
                       ".balign 8\n 3: .quad 0, 0x00cf93000000ffff\n 1: xor %bx, %bx\n mov %bx, %fs");

#define REAL(name, ...) real_case(name, (size_t)(name##_end - name), #name, __VA_ARGS__)
static struct real real_case(const char *code, size_t size, const char *name, const char *rule,
                             unsigned vector, unsigned ip)
{
    struct real r = {0};
    char slug[32];
    real_run(code, size, &r);
    format_text(slug, sizeof slug, "%s", name);
    report(slug, rule, r.vector == vector && (vector == 0xffff || ip == ~0u || r.ip == ip),
           "vector %x IP %x, want %x IP %x", r.vector, r.ip, vector, ip);
    return r;
}

static void real_mode(void)
{
    const char *rule = "SDM 3A 20.1 Real-Address Mode";
    struct real r = REAL(real_wrap, rule, 0xffff, 0);
    check_equal("real-address", "SDM 3A 20.1.1 segment * 16 + offset, beyond 1 MB with A20", r.eax & 0xff,
                *(volatile uint8_t *)0x100000);
    REAL(real_limit, "SDM 3A 20.1.1: a word at FFFFH raises #GP", 13, 3);
    REAL(real_limit32, "SDM 3A 20.1.1: offsets above FFFFH raise #GP", 13, 6);
    r = REAL(real_push, rule, 0xffff, 0);
    report("real-push", rule, (r.ecx & 0xffff) == 0x1234 && (r.edx & 0xffff) == 0x900, "CX %x DX %x", r.ecx,
           r.edx);
    REAL(real_int, "SDM 3A 20.1.4 Interrupt and Exception Handling", 0x40, 2);
    REAL(real_ud, "SDM 3A 20.1.4", 6, 0);
    REAL(real_into, "SDM 3A 20.1.4", 4, 7);
    r = REAL(real_segments, rule, 0xffff, 0);
    report("real-selector", rule, (r.ecx & 0xffff) == 0x1234 && !(r.eax & 1), "FS %x MSW %x", r.ecx, r.eax);
    REAL(real_lldt, "SDM 2 LLDT #UD in real-address mode", 6, ~0u);
    REAL(real_sysenter, "SDM 2 SYSENTER #GP in real-address mode", 13, ~0u);
    REAL(real_vmxon_ud, "SDM 2 VMCALL #UD outside VMX operation", 6, ~0u);
    r = REAL(real_loop, rule, 0xffff, 0);
    check_equal("real-loop", rule, r.eax & 0xffff, 5);
    r = REAL(real_big, "SDM 3A 20.1.3: 32-bit operands by prefix", 0xffff, 0);
    report("real-cr0", rule, !(r.eax & 0x80000001) && r.ebx == 0x12345678 && r.ecx == 0x12,
           "CR0 %x EBX %x ECX %x", r.eax, r.ebx, r.ecx);
    r = REAL(real_stack_wrap, "SDM 3A 20.1.1: SP wraps at 64 KB", 0xffff, 0);
    check_equal("real-sp-wraps", "SDM 1 6.2.3: 16-bit stack, SP 0 becomes FFFEH", r.ecx, 0xfffe);
    r = REAL(real_unreal, "SDM 3A 9.9.2: hidden limits stay", 0xffff, 0);
    check_equal("real-big-limit", "SDM 3A 9.9.2: hidden limits stay when PE is cleared", r.eax,
                *(volatile uint32_t *)0x100000);
}

/* -- Protected mode without IA-32e -------------------------------------------------------------------------
 */
USER_CODE(prot_flags, 32, "pushfl\n pop %eax");
USER_CODE(
    prot_pusha, 32,
    "mov $1, %eax\n mov $2, %ebx\n pusha\n xor %eax, %eax\n xor %ebx, %ebx\n popa\n lea (%eax,%ebx,2), %eax");
USER_CODE(prot_16, 32, "ljmpw $0x60, $0");
USER_CODE(code_16, 16,
          "mov $0xfffff, %eax\n mov $0x8000, %bx\n add %bx, %bx\n mov %cs, %dx\n pushf\n pop %cx");
USER_CODE(prot_syscall, 32, "syscall");
USER_CODE(prot_daa, 32, "mov $0x19, %al\n add $0x28, %al\n daa\n movzx %al, %eax");
USER_CODE(prot_segment_push, 32, "push %ds\n pop %es\n mov %es, %eax\n push %cs\n pop %ebx");
USER_CODE(prot_les, 32, "les (%edi), %eax\n mov %es, %ecx");
USER_CODE(prot_div, 32, "xor %edx, %edx\n xor %ecx, %ecx\n div %ecx");
USER_CODE(prot_interrupt_flags, 32, "int $0x80");
USER_CODE(prot_long_bits, 32, ".byte 0x48\n mov $7, %ecx"); /* 48H is DEC EAX, not REX */
static uint32_t far_pointer[2] USER_DATA = {0x12345678, SEL_USER_DATA};

static struct legacy prot(const char *code, bool user, uint32_t edi)
{
    struct legacy l = {.eip = (uint32_t)(uint64_t)code,
                       .cs = user ? SEL_USER_CODE32 : SEL_CODE32,
                       .eflags = 2,
                       .eax = 5,
                       .ss = user ? SEL_USER_DATA : SEL_DATA,
                       .ds = user ? SEL_USER_DATA : SEL_DATA,
                       .edi = edi,
                       .esp = (uint32_t)(uint64_t)user_stack + sizeof user_stack};
    legacy_run(&l);
    return l;
}

static void protected_mode(void)
{
    const char *rule = "SDM 3A 2.2 Modes of Operation: protected mode";
    for (int user = 0; user < 2; user++) {
        struct legacy l = prot(prot_pusha, user, 0);
        report(user ? "protected-pusha-ring3" : "protected-pusha-ring0", "SDM 2 PUSHA, POPA",
               l.vector == VECTOR_RETURN && l.eax == 5, "vector %x EAX %x", l.vector, l.eax);
        l = prot(prot_div, user, 0);
        report(user ? "protected-divide-ring3" : "protected-divide-ring0", "SDM 3A 6.12.1",
               l.vector == EXC_DE && l.out_eip == (uint32_t)(uint64_t)prot_div + 4 &&
                   l.out_cs == (user ? SEL_USER_CODE32 : SEL_CODE32) &&
                   l.out_esp == (uint32_t)(uint64_t)user_stack + sizeof user_stack,
               "vector %x at %x:%x ESP %x", l.vector, l.out_cs, l.out_eip, l.out_esp);
        l = prot(prot_long_bits, user, 0);
        report(user ? "protected-dec-ring3" : "protected-dec-ring0",
               "SDM 2 2.2.1 REX prefixes only in 64-bit mode",
               l.vector == VECTOR_RETURN && l.eax == 4 && l.ecx == 7, "EAX %x ECX %x", l.eax, l.ecx);
    }
    struct legacy l = prot(prot_daa, true, 0);
    check_equal("protected-daa", "SDM 2 DAA", l.eax, 0x47);
    l = prot(prot_segment_push, true, 0);
    report("protected-push-segments", "SDM 2 PUSH, POP",
           l.eax == SEL_USER_DATA && (l.ebx & 0xffff) == SEL_USER_CODE32, "ES %x CS %x", l.eax, l.ebx);
    l = prot(prot_les, true, (uint32_t)(uint64_t)far_pointer);
    report("protected-les", "SDM 2 LES", l.eax == 0x12345678 && l.ecx == SEL_USER_DATA, "EAX %x ES %x", l.eax,
           l.ecx);
    gdt_set(T0, descriptor((uint32_t)(uint64_t)code_16, 0xffff, 0x9b));
    l = prot(prot_16, false, 0);
    report("protected-16bit", "SDM 3A 3.4.5 D flag = 0: 16-bit operands and addresses",
           l.vector == VECTOR_RETURN && l.eax == 0xfffff && (l.ebx & 0xffff) == 0 && l.edx == T0 &&
               (l.ecx & 1),
           "vector %x EAX %x EBX %x EDX %x ECX %x", l.vector, l.eax, l.ebx, l.edx, l.ecx);
    l = prot(prot_syscall, true, 0);
    report("protected-syscall", "SDM 2 SYSCALL #UD outside 64-bit mode", l.vector == EXC_UD, "vector %x",
           l.vector);
    (void)rule;
    check_equal("long-mode-again", "SDM 3A 9.8.5 Initializing IA-32e Mode",
                rdmsr(IA32_EFER) & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
}

/* -- 64-bit and compatibility mode --------------------------------------------------------------------- */
USER_CODE(compat_inc, 32, ".byte 0x48\n mov %cs, %ecx"); /* DEC EAX */
USER_CODE(compat_upper, 32, "mov $1, %eax");
USER_CODE(compat_address, 32, "mov $-16, %ebx\n lea 32(%ebx), %eax");
USER_CODE(compat_16, 16, "mov $0x1ffff, %eax\n inc %ax\n mov %cs, %dx");

static void compatibility(void)
{
    struct excursion e = {.rip = (uint64_t)compat_inc,
                          .cs = SEL_CODE32,
                          .rflags = 2,
                          .rax = 9,
                          .r8 = 0x1122334455667788,
                          .rsp = (uint64_t)user_stack + 4096,
                          .ss = SEL_DATA,
                          .ds = SEL_DATA};
    excursion_run(&e);
    report("compat-no-rex", "SDM 3A 2.2: compatibility mode", e.rax == 8 && e.rcx == SEL_CODE32,
           "RAX %lx CS %lx", e.rax, e.rcx);
    check_equal("compat-r8-kept", "SDM 1 3.4.1.1: R8 is kept in compatibility mode", e.r8,
                0x1122334455667788);
    check_equal("compat-32bit-result", "SDM 1 3.4.1.1: 32-bit results are zero-extended",
                compat_run(compat_upper, 0, 3), 1);
    check_equal("compat-address-wrap", "SDM 1 3.3.7: addresses wrap at 4 GB",
                compat_run(compat_address, 0, 3), 16);
    gdt_set(T0, descriptor((uint32_t)(uint64_t)compat_16, 0xffff, 0x9b));
    e = (struct excursion){
        .rip = 0, .cs = T0, .rflags = 2, .rsp = (uint64_t)user_stack + 4096, .ss = SEL_DATA, .ds = SEL_DATA};
    excursion_run(&e);
    report("compat-16bit", "SDM 3A 3.4.5 D flag = 0 in compatibility mode",
           e.rax == 0x10000 && (e.rdx & 0xffff) == T0, "RAX %lx DX %lx", e.rax, e.rdx);
    uint64_t r;
    asm volatile("mov $-1, %0; movl $5, %k0" : "=&r"(r));
    check_equal("zero-extend", "SDM 1 3.4.1.1 General-Purpose Registers in 64-Bit Mode", r, 5);
    asm volatile("mov $-1, %0; movw $5, %w0" : "=&r"(r));
    check_equal("word-keeps-upper", "SDM 1 3.4.1.1", r, 0xffffffffffff0005);
    asm volatile("mov %1, %%rbx; mov $0x12, %%bh; mov %%rbx, %0"
                 : "=r"(r)
                 : "r"(0x1111111111111111ul)
                 : "rbx");
    check_equal("high-byte", "SDM 1 3.4.1.1", r, 0x1111111111111211);
}

/* -- SYSCALL, SYSRET, SYSENTER, SYSEXIT ---------------------------------------------------------------- */
USER_CODE(do_syscall, 64, "mov $0x5a5a, %eax\n syscall\n after_syscall: mov %cs, %esi\n mov %ss, %edi");
USER_CODE(do_syscall_plain, 64, "syscall");
USER_CODE(syscall_entry, 64,
          "mov %rcx, %rbx\n mov %r11, %rdx\n pushfq_here: mov %cs, %eax\n mov %ss, %ebp\n shl $16, %ebp\n or "
          "%ebp, %eax\n sysretq");
USER_CODE(syscall_entry32, 64, "mov %cs, %eax\n lea compat_landed, %ecx\n mov $2, %r11d\n sysretl");
USER_CODE(syscall_entry_bad, 64, "mov $1, %eax\n shl $47, %rax\n mov %rax, %rcx\n mov $2, %r11d\n sysretq");
asm(".pushsection .user,\"awx\",@progbits\n.code32\ncompat_landed: mov %cs, %esi\n mov %ss, %edi\n int "
    "$0x80\n.code64\n.popsection");
USER_CODE(do_sysenter, 64, "sysenter");
USER_CODE(sysenter_entry, 64, "mov %cs, %eax\n mov %ss, %ebx\n mov %rsp, %rsi\n pushfq\n pop %rdi");
USER_CODE(sysexit_64, 64, "lea landed_exit(%rip), %rdx\n lea user_stack, %rcx\n sysexitq");
USER_CODE(sysexit_32, 64, "lea landed_exit32(%rip), %rdx\n lea user_stack, %rcx\n sysexitl");
asm(".pushsection .user,\"awx\",@progbits\nlanded_exit: mov %cs, %eax\n mov %ss, %ebx\n int "
    "$0x80\n.code32\nlanded_exit32: mov %cs, %eax\n mov %ss, %ebx\n int $0x80\n"
    ".code64\n.popsection");
USER_CODE(user_sysret, 64, "sysretq");
USER_CODE(user_sysexit, 64, "sysexitl");
USER_CODE(user_swapgs, 64, "swapgs");
extern char after_syscall[];

static struct excursion user64(const void *code, uint64_t rflags)
{
    struct excursion e = {.rip = (uint64_t)code,
                          .cs = SEL_USER_CODE64,
                          .rflags = rflags,
                          .rsp = (uint64_t)user_stack + 4096,
                          .ss = SEL_USER_DATA};
    excursion_run(&e);
    return e;
}

static void system_calls(void)
{
    wrmsr(IA32_STAR, (uint64_t)SEL_CODE64 << 32 | (uint64_t)(SEL_USER_CODE32) << 48);
    wrmsr(IA32_LSTAR, (uint64_t)syscall_entry);
    wrmsr(IA32_FMASK, RFLAGS_OF | RFLAGS_DF);
    check_trap("syscall-without-sce", "SDM 2 SYSCALL #UD if EFER.SCE=0", TRY(user64(do_syscall, 2)), EXC_UD,
               0);
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SCE);
    struct excursion e = user64(do_syscall, RFLAGS_FIXED | RFLAGS_OF | RFLAGS_CF);
    report("syscall", "SDM 3A 5.8.8: RCX = next RIP, R11 = RFLAGS, CS and SS from STAR[47:32]",
           (e.rax & 0xffff) == SEL_CODE64 && e.rax >> 16 == SEL_DATA && e.rbx == (uint64_t)after_syscall &&
               (e.rdx & 0xfff) == (RFLAGS_FIXED | RFLAGS_OF | RFLAGS_CF),
           "SS:CS %lx RCX %lx R11 %lx", e.rax, e.rbx, e.rdx);
    report("sysret-64", "SDM 3A 5.8.8: CS = STAR[63:48] + 16, SS = + 8, RPL 3, flags from R11",
           e.rsi == SEL_USER_CODE64 && e.rdi == SEL_USER_DATA &&
               (e.rflags & 0xfff) == (RFLAGS_FIXED | RFLAGS_OF | RFLAGS_CF),
           "CS %lx SS %lx RFLAGS %lx", e.rsi, e.rdi, e.rflags);
    wrmsr(IA32_LSTAR, (uint64_t)syscall_entry32);
    e = user64(do_syscall_plain, 2);
    report("sysret-32", "SDM 2 SYSRET: CS = STAR[63:48], compatibility mode",
           (e.rsi & 0xffff) == SEL_USER_CODE32 && (e.rdi & 0xffff) == SEL_USER_DATA, "CS %lx SS %lx", e.rsi,
           e.rdi);
    wrmsr(IA32_LSTAR, (uint64_t)syscall_entry_bad);
    struct trap t = TRY(user64(do_syscall_plain, 2));
    report("sysret-non-canonical", "SDM 2 SYSRET #GP(0), at CPL 0 on Intel",
           t.vector == EXC_GP && t.error == 0 && !(t.cs & 3), "%s(%lx) CS %lx", trap_name(t.vector), t.error,
           t.cs);
    wrmsr(IA32_LSTAR, (uint64_t)gdt); /* FMASK clears TF and IF; what the entry does is not run */
    check_trap("sysret-ring3", "SDM 2 SYSRET #GP(0) if CPL > 0", TRY(user64(user_sysret, 2)), EXC_GP, 0);
    check_trap("lstar-non-canonical", "SDM 2 WRMSR #GP(0)", TRY(wrmsr(IA32_LSTAR, 0x8000000000000000ul)),
               EXC_GP, 0);
    check_trap("syscall-compat", "SDM 2 SYSCALL #UD outside 64-bit mode (Intel)",
               TRY(compat_run(do_syscall_plain, 0, 3)), EXC_UD, 0);
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~EFER_SCE);

    wrmsr(IA32_SYSENTER_CS, 0);
    check_trap("sysenter-cs-zero", "SDM 2 SYSENTER #GP(0) if IA32_SYSENTER_CS[15:2] = 0",
               TRY(user64(do_sysenter, 2)), EXC_GP, 0);
    wrmsr(IA32_SYSENTER_CS, SEL_CODE64);
    wrmsr(IA32_SYSENTER_EIP, (uint64_t)sysenter_entry);
    wrmsr(IA32_SYSENTER_ESP, 0x123456789abcdef0ul & 0x7fffffffffff);
    /* INT 80H in the entry point uses an IST, so RSP is only read; the PUSHFQ needs a real stack. */
    wrmsr(IA32_SYSENTER_ESP, (uint64_t)user_stack + 2048);
    e = user64(do_sysenter, RFLAGS_FIXED | RFLAGS_IF);
    report("sysenter", "SDM 3A 5.8.7: CS, SS = CS + 8, RSP and RIP from MSRs; IF = 0",
           e.rax == SEL_CODE64 && e.rbx == SEL_DATA && e.rsi == (uint64_t)user_stack + 2048 &&
               !(e.rdi & RFLAGS_IF),
           "CS %lx SS %lx RSP %lx RFLAGS %lx", e.rax, e.rbx, e.rsi, e.rdi);
    e = (struct excursion){.rip = (uint64_t)sysexit_64,
                           .cs = SEL_CODE64,
                           .rflags = 2,
                           .rsp = (uint64_t)user_stack + 4096,
                           .ss = SEL_DATA};
    excursion_run(&e);
    report("sysexit-64", "SDM 3A 5.8.7.1: CS = IA32_SYSENTER_CS + 32, SS = + 40, RPL 3",
           e.cs == ((SEL_CODE64 + 32) | 3) && e.rbx == ((SEL_CODE64 + 40) | 3) &&
               e.rsp == (uint64_t)user_stack,
           "CS %lx SS %lx RSP %lx", e.cs, e.rbx, e.rsp);
    e = (struct excursion){.rip = (uint64_t)sysexit_32,
                           .cs = SEL_CODE64,
                           .rflags = 2,
                           .rsp = (uint64_t)user_stack + 4096,
                           .ss = SEL_DATA};
    excursion_run(&e);
    report("sysexit-32", "SDM 2 SYSEXIT: CS = + 16, SS = + 24",
           (e.rax & 0xffff) == ((SEL_CODE64 + 16) | 3) && (e.rbx & 0xffff) == ((SEL_CODE64 + 24) | 3),
           "CS %lx SS %lx", e.rax, e.rbx);
    check_trap("sysexit-ring3", "SDM 2 SYSEXIT #GP(0) if CPL > 0", TRY(user64(user_sysexit, 2)), EXC_GP, 0);
    check_trap("sysenter-eip-non-canonical", "SDM 2 WRMSR #GP(0)",
               TRY(wrmsr(IA32_SYSENTER_EIP, 0x8000000000000000ul)), EXC_GP, 0);

    wrmsr(IA32_GS_BASE, 0x1111);
    wrmsr(IA32_KERNEL_GS_BASE, 0x2222);
    asm volatile("swapgs");
    report("swapgs", "SDM 2 SWAPGS", rdmsr(IA32_GS_BASE) == 0x2222 && rdmsr(IA32_KERNEL_GS_BASE) == 0x1111,
           "%lx %lx", rdmsr(IA32_GS_BASE), rdmsr(IA32_KERNEL_GS_BASE));
    check_trap("swapgs-ring3", "SDM 2 SWAPGS #GP(0) if CPL > 0", TRY(user64(user_swapgs, 2)), EXC_GP, 0);
    check_trap("swapgs-compat", "SDM 2 SWAPGS #UD outside 64-bit mode", TRY(compat_run(user_swapgs, 0, 0)),
               EXC_UD, 0);
    wrmsr(IA32_GS_BASE, 0);
    wrmsr(IA32_KERNEL_GS_BASE, 0);
}

/* -- UMIP ---------------------------------------------------------------------------------------------- */
USER_CODE(user_sgdt, 64, "sgdt -16(%rsp)");
USER_CODE(user_sidt, 64, "sidt -16(%rsp)");
USER_CODE(user_sldt, 64, "sldt %eax");
USER_CODE(user_str, 64, "str %eax");
USER_CODE(user_smsw, 64, "smsw %eax");

static void umip(void)
{
    static const struct {
        const char *name, *code;
    } cases[] = {{"umip-sgdt", user_sgdt},
                 {"umip-sidt", user_sidt},
                 {"umip-sldt", user_sldt},
                 {"umip-str", user_str},
                 {"umip-smsw", user_smsw}};
    bool has = cpuid(7, 0).ecx & 4;
    for (unsigned i = 0; i < 5; i++) {
        char name[32];
        format_text(name, sizeof name, "%s-off", cases[i].name);
        check_none(name, "SDM 2: allowed at CPL 3 without UMIP", TRY(user_run(cases[i].code, 0)));
        if (!has) {
            report_skip(cases[i].name, "SDM 3A 2.5 CR4.UMIP", "no UMIP");
            continue;
        }
        write_cr4(read_cr4() | CR4_UMIP);
        check_trap(cases[i].name, "SDM 3A 2.5 CR4.UMIP: #GP(0) if CPL > 0", TRY(user_run(cases[i].code, 0)),
                   EXC_GP, 0);
        write_cr4(read_cr4() & ~CR4_UMIP);
    }
}

void guest_main(void)
{
    real_mode();
    protected_mode();
    compatibility();
    system_calls();
    umip();
}
