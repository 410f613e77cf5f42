/*
 * segmentation.c -- segment limits, types and privilege: SDM 3A chapter 5, "Protection".
 *
 * Limits and types are checked in compatibility mode (64-bit mode checks neither), in code at CPL 0 and 3.
 */
#include "guest.h"

#define T0   (SEL_TEST) /* three descriptors for the tests */
#define T1   (SEL_TEST + 8)
#define T2   (SEL_TEST + 16)
#define GATE (SEL_TEST + 32) /* 16 bytes: a 64-bit call gate */
#define LDT  (SEL_TEST + 64) /* 16 bytes: an LDT descriptor */

/* Compatibility mode: ES = SI, then one access of EAX or AL at ES:[EDI]; registers of the frame tell the
 * rest. */
USER_CODE(read8, 32, "mov %si, %es\n movb %es:(%edi), %al");
USER_CODE(read32, 32, "mov %si, %es\n movl %es:(%edi), %eax");
USER_CODE(write32, 32, "mov %si, %es\n movl %eax, %es:(%edi)");
USER_CODE(load_es, 32, "mov %si, %es");
USER_CODE(load_ss, 32, "mov %si, %ss");
USER_CODE(stack_read, 32, "mov %si, %ss\n movl %ss:(%edi), %eax");
USER_CODE(stack_push, 32, "mov %edi, %esp\n mov %si, %ss\n push %eax");
USER_CODE(null_read, 32, "xor %eax, %eax\n mov %eax, %es\n mov %es:(%edi), %al");
USER_CODE(far_jump, 32, "mov %esi, 4(%esp)\n mov %edi, (%esp)\n ljmp *(%esp)");
USER_CODE(far_call, 32, "mov %esi, 4(%esp)\n mov %edi, (%esp)\n lcall *(%esp)");
USER_CODE(landed32, 32, "mov %cs, %eax");
USER_CODE(landed64, 64, "mov %cs, %eax");
USER_CODE(far_call64, 64, "mov %esi, 4(%rsp)\n mov %edi, (%rsp)\n lcall *(%rsp)");
USER_CODE(gate_target, 64,
          "mov %cs, %eax\n mov %rsp, %rbx\n mov (%rsp), %rcx\n mov 8(%rsp), %rdx\n mov 24(%rsp), %rsi");
USER_CODE(gate_return, 64, "lretq");
USER_CODE(read_fs, 64, "mov %fs, %eax");
USER_CODE(user_gate_and_back, 64, "mov %esi, 4(%rsp)\n mov %edi, (%rsp)\n lcall *(%rsp)\n mov %cs, %eax");

static struct excursion run32(const void *code, unsigned cpl, uint32_t esi, uint32_t edi)
{
    struct excursion e = {.rip = (uint64_t)code,
                          .cs = cpl ? SEL_USER_CODE32 : SEL_CODE32,
                          .rflags = RFLAGS_FIXED,
                          .rsi = esi,
                          .rdi = edi,
                          .rsp = (uint64_t)user_stack + 4096,
                          .ss = cpl ? SEL_USER_DATA : SEL_DATA,
                          .ds = cpl ? SEL_USER_DATA : SEL_DATA};
    excursion_run(&e);
    return e;
}
#define TRY32(code, cpl, esi, edi)                                                                           \
    TRY((void)run32(code, cpl, (uint32_t)(uint64_t)(esi), (uint32_t)(uint64_t)(edi)))

/* -- Limits -------------------------------------------------------------------------------------------- */
static uint8_t data[8192] USER_DATA = {1, 2, 3, 4};

static void limits(void)
{
    uint32_t base = (uint32_t)(uint64_t)data;
    const char *rule = "SDM 3A 5.3 Limit Checking";
    gdt_set(T0, descriptor(base, 0x7f, 0x93 | DESC_DB)); /* expand up, 128 bytes */
    check_none("limit-last-byte", rule, TRY32(read8, 0, T0, 0x7f));
    check_trap("limit-one-beyond", rule, TRY32(read8, 0, T0, 0x80), EXC_GP, 0);
    check_none("limit-last-dword", rule, TRY32(read32, 0, T0, 0x7c));
    check_trap("limit-dword-straddles", rule, TRY32(read32, 0, T0, 0x7d), EXC_GP, 0);
    check_trap("limit-write-straddles", rule, TRY32(write32, 0, T0, 0x7e), EXC_GP, 0);
    check_trap("limit-wraps", rule, TRY32(read32, 0, T0, 0xffffffff), EXC_GP, 0);
    check_trap("limit-stack", "SDM 3A 6.15 Interrupt 12: limit violation of SS",
               TRY32(stack_read, 0, T0, 0x80), EXC_SS, 0);
    check_trap("limit-push", "SDM 3A 6.15 Interrupt 12", TRY32(stack_push, 0, T0, 0x2), EXC_SS, 0);
    gdt_set(T0, descriptor(base, 0, 0x93 | DESC_DB | DESC_G)); /* one page */
    check_none("limit-granular", rule, TRY32(read8, 0, T0, 0xfff));
    check_trap("limit-granular-beyond", rule, TRY32(read8, 0, T0, 0x1000), EXC_GP, 0);
    gdt_set(T0, descriptor(base, 0x7f, 0x97 | DESC_DB)); /* expand down: 80H .. FFFFFFFFH */
    check_trap("expand-down-at-limit", "SDM 3A 5.3 expand-down segments", TRY32(read8, 0, T0, 0x7f), EXC_GP,
               0);
    check_none("expand-down-above", "SDM 3A 5.3 expand-down segments", TRY32(read8, 0, T0, 0x80));
    check_trap("expand-down-straddles", "SDM 3A 5.3 expand-down segments", TRY32(read32, 0, T0, 0x7e), EXC_GP,
               0);
    gdt_set(T0, descriptor(base, 0x7f, 0x97)); /* B = 0: upper bound FFFFH */
    check_none("expand-down-16bit", "SDM 3A 5.3 expand-down with B=0", TRY32(read8, 0, T0, 0x1000));
    check_trap("expand-down-16bit-top", "SDM 3A 5.3 expand-down with B=0", TRY32(read8, 0, T0, 0x10000),
               EXC_GP, 0);
    check_trap("expand-down-16bit-straddles", "SDM 3A 5.3 expand-down with B=0", TRY32(read32, 0, T0, 0xfffe),
               EXC_GP, 0);
    /* The base is added, and wraps at 4 GB. */
    gdt_set(T0, descriptor(base + 16, 0xfffff, 0x93 | DESC_DB | DESC_G));
    data[16] = 0x5a;
    check_equal("base-added", "SDM 3A 3.4 Logical and Linear Addresses", run32(read8, 0, T0, 0).rax & 0xff,
                0x5a);
    check_equal("base-wraps", "SDM 3A 3.4: compatibility mode wraps at 4 GB",
                run32(read8, 0, T0, 0xfffffff0u).rax & 0xff, 1);
    /* Code segments' limits. */
    gdt_set(T1, descriptor((uint32_t)(uint64_t)landed32, 0, 0x9b | DESC_DB));
    struct trap t = TRY32(far_jump, 0, T1, 1);
    check_trap("far-jump-beyond-limit", "SDM 2 JMP #GP(0) target beyond the limit", t, EXC_GP, 0);
    t = TRY32(far_jump, 0, T1, 0);
    report("fetch-beyond-limit", "SDM 3A 5.3: instruction fetch beyond CS limit",
           t.vector == EXC_GP && t.cs == T1 && t.rip == 0, "%s at %lx:%lx", trap_name(t.vector), t.cs, t.rip);
}

/* -- Types and privilege of data segments -------------------------------------------------------------- */
static void types(void)
{
    uint32_t base = (uint32_t)(uint64_t)data;
    gdt_set(T0, descriptor(base, 0xff, 0x91 | DESC_DB));
    check_trap("write-read-only", "SDM 3A 5.5 Privilege/Type: no write to a read-only segment",
               TRY32(write32, 0, T0, 0), EXC_GP, 0);
    check_none("read-read-only", "SDM 3A 5.4 Type Checking", TRY32(read32, 0, T0, 0));
    check_trap("ss-read-only", "SDM 2 MOV SS #GP(selector)", TRY32(load_ss, 0, T0, 0), EXC_GP, T0);
    gdt_set(T0, descriptor(base, 0xff, 0x99 | DESC_DB));
    check_trap("load-execute-only", "SDM 2 MOV #GP(selector): code, not readable", TRY32(load_es, 0, T0, 0),
               EXC_GP, T0);
    gdt_set(T0, descriptor(base, 0xff, 0x9b | DESC_DB));
    check_none("read-readable-code", "SDM 3A 5.4 Type Checking", TRY32(read32, 0, T0, 0));
    check_trap("write-code", "SDM 3A 5.4 code segments are not writable", TRY32(write32, 0, T0, 0), EXC_GP,
               0);
    check_trap("ss-code", "SDM 2 MOV SS #GP(selector)", TRY32(load_ss, 0, T0, 0), EXC_GP, T0);
    gdt_set(T0, descriptor(base, 0xff, 0x13 | DESC_DB));
    check_trap("load-not-present", "SDM 2 MOV #NP(selector)", TRY32(load_es, 0, T0, 0), EXC_NP, T0);
    check_trap("ss-not-present", "SDM 2 MOV SS #SS(selector)", TRY32(load_ss, 0, T0, 0), EXC_SS, T0);
    gdt_set(T0, descriptor(base, 0xff, 0x82));
    check_trap("load-system", "SDM 2 MOV #GP(selector): a system descriptor", TRY32(load_es, 0, T0, 0),
               EXC_GP, T0);
    check_trap("load-beyond-gdt", "SDM 2 MOV #GP(selector): beyond the table",
               TRY32(load_es, 0, SEL_LIMIT, 0), EXC_GP, SEL_LIMIT);
    check_trap("load-ldt-none", "SDM 2 MOV #GP(selector): no LDT", TRY32(load_es, 0, 4, 0), EXC_GP, 4);
    check_none("load-null", "SDM 2 MOV: a null selector loads", TRY32(load_es, 0, 0, 0));
    check_none("load-null-rpl3", "SDM 2 MOV: 0003H is null", TRY32(load_es, 0, 3, 0));
    check_trap("use-null", "SDM 3A 5.4.1 Null Segment Selector Checking", TRY32(null_read, 0, 0, data),
               EXC_GP, 0);
    check_trap("ss-null", "SDM 2 MOV SS #GP(0)", TRY32(load_ss, 0, 0, 0), EXC_GP, 0);
    /* Privilege: max(CPL, RPL) <= DPL. */
    gdt_set(T0, descriptor(base, 0xff, 0x93 | DESC_DB));
    check_trap("dpl0-from-cpl3", "SDM 3A 5.6 Privilege Level Checking", TRY32(load_es, 3, T0 | 3, 0), EXC_GP,
               T0);
    check_trap("dpl0-rpl3-from-cpl0", "SDM 3A 5.6: RPL counts", TRY32(load_es, 0, T0 | 3, 0), EXC_GP, T0);
    gdt_set(T0, descriptor(base, 0xff, 0xf3 | DESC_DB));
    check_none("dpl3-from-cpl0", "SDM 3A 5.6", TRY32(load_es, 0, T0, 0));
    check_trap("ss-dpl-not-cpl", "SDM 3A 5.7 loading SS: DPL = CPL", TRY32(load_ss, 0, T0, 0), EXC_GP, T0);
    check_trap("ss-rpl-not-cpl", "SDM 3A 5.7 loading SS: RPL = CPL", TRY32(load_ss, 3, T0, 0), EXC_GP, T0);
    gdt_set(T0, descriptor(base, 0xff, 0x9f | DESC_DB));
    check_none("conforming-readable-from-cpl3", "SDM 3A 5.6.1 conforming code as data",
               TRY32(read32, 3, T0 | 3, 0));
    /* Accessed bit. */
    gdt_set(T0, descriptor(base, 0xff, 0x92 | DESC_DB));
    TRY32(load_es, 0, T0, 0);
    report("accessed-set", "SDM 3A 3.4.5.1 accessed bit", gdt[T0 / 8] >> 40 & 1, "descriptor %lx",
           gdt[T0 / 8]);
    /* A change of the descriptor shows only when the register is loaded again. */
    gdt_set(T0, descriptor(base, 0xff, 0x93 | DESC_DB));
    asm volatile("mov %w0, %%fs" ::"r"(T0));
    gdt_set(T0, 0);
    check_equal("hidden-part-kept", "SDM 3A 3.4.3 hidden part of segment registers", ({
                    uint8_t v;
                    asm volatile("movb %%fs:0, %0" : "=q"(v));
                    v;
                }),
                data[0]);
    asm volatile("mov %w0, %%fs" ::"r"(0));
}

/* -- Far control transfer ------------------------------------------------------------------------------ */
static void far_transfer(void)
{
    const char *jmp = "SDM 2 JMP far";
    check_trap("jump-null", jmp, TRY32(far_jump, 0, 0, landed32), EXC_GP, 0);
    check_trap("jump-data", jmp, TRY32(far_jump, 0, SEL_DATA, landed32), EXC_GP, SEL_DATA);
    gdt_set(T0, descriptor(0, 0xfffff, 0x1b | DESC_DB | DESC_G));
    check_trap("jump-not-present", jmp, TRY32(far_jump, 0, T0, landed32), EXC_NP, T0);
    check_trap("jump-dpl0-from-cpl3", "SDM 3A 5.8.1.1 nonconforming: CPL = DPL",
               TRY32(far_jump, 3, SEL_CODE32, landed32), EXC_GP, SEL_CODE32);
    check_trap("jump-dpl3-from-cpl0", "SDM 3A 5.8.1.1 nonconforming: CPL = DPL",
               TRY32(far_jump, 0, SEL_USER_CODE32 & ~3, landed32), EXC_GP, SEL_USER_CODE32 & ~3);
    check_trap("jump-rpl-above-cpl", "SDM 3A 5.8.1.1 nonconforming: RPL <= CPL",
               TRY32(far_jump, 0, SEL_CODE32 | 3, landed32), EXC_GP, SEL_CODE32);
    check_equal("jump-rpl-below-cpl", "SDM 3A 5.8.1.1: CS's RPL is set to CPL",
                run32(far_jump, 3, SEL_USER_CODE32 & ~3, (uint32_t)(uint64_t)landed32).rax, SEL_USER_CODE32);
    gdt_set(T0, descriptor(0, 0xfffff, 0x9f | DESC_DB | DESC_G));
    check_equal("jump-conforming-from-cpl3", "SDM 3A 5.8.1.2 conforming: CPL >= DPL, CPL stays",
                run32(far_jump, 3, T0, (uint32_t)(uint64_t)landed32).rax, T0 | 3);
    gdt_set(T1, descriptor(0, 0xfffff, 0xff | DESC_DB | DESC_G));
    check_trap("jump-conforming-dpl3-from-cpl0", "SDM 3A 5.8.1.2", TRY32(far_jump, 0, T1, landed32), EXC_GP,
               T1);
    check_equal("jump-to-64bit", "SDM 3A 5.8.1: CS.L = 1 leaves compatibility mode",
                run32(far_jump, 0, SEL_CODE64, (uint32_t)(uint64_t)landed64).rax, SEL_CODE64);
    gdt_set(T2, descriptor(0, 0xfffff, 0x9b | DESC_DB | DESC_L | DESC_G));
    check_trap("jump-l-and-d", "SDM 2 JMP #GP(selector) if L = D = 1", TRY32(far_jump, 0, T2, landed64),
               EXC_GP, T2);
    check_trap("jump-tss-64", "SDM 2 JMP #GP(selector): TSS in IA-32e mode", TRY32(far_jump, 0, SEL_TSS, 0),
               EXC_GP, SEL_TSS);
    struct excursion e = run32(far_call, 3, SEL_USER_CODE32, (uint32_t)(uint64_t)landed32);
    uint32_t *stack = (uint32_t *)e.rsp;
    report("far-call-frame", "SDM 2 CALL far pushes CS and EIP",
           e.rsp == (uint64_t)user_stack + 4096 - 8 && stack[1] == SEL_USER_CODE32 &&
               stack[0] > (uint64_t)far_call && stack[0] < (uint64_t)far_call_end,
           "RSP %lx frame %x %x", e.rsp, stack[0], stack[1]);
}

/* -- Call gates in IA-32e mode ------------------------------------------------------------------------- */
static void gate_set(uint64_t offset, unsigned selector, unsigned type)
{
    struct gate g = {.offset0 = (uint16_t)offset,
                     .offset1 = (uint16_t)(offset >> 16),
                     .offset2 = (uint32_t)(offset >> 32),
                     .selector = (uint16_t)selector,
                     .type = (uint8_t)type};
    memcpy(&gdt[GATE / 8], &g, 16);
}

static struct excursion run64(const void *code, uint64_t rsi, uint64_t rdi)
{
    struct excursion e = {.rip = (uint64_t)code,
                          .cs = SEL_USER_CODE64,
                          .rflags = RFLAGS_FIXED,
                          .rsi = rsi,
                          .rdi = rdi,
                          .rsp = (uint64_t)user_stack + 4096,
                          .ss = SEL_USER_DATA,
                          .ds = SEL_USER_DATA};
    excursion_run(&e);
    return e;
}

static void call_gates(void)
{
    const char *rule = "SDM 3A 5.8.3.1 IA-32e Mode Call Gates";
    gate_set((uint64_t)gate_target, SEL_CODE64, 0xec);
    struct excursion e = run64(far_call64, GATE, 0);
    report("gate-to-ring0", rule,
           e.rax == SEL_CODE64 && e.rbx == tss.rsp[0] - 32 && e.rdx == SEL_USER_CODE64 &&
               e.rsi == SEL_USER_DATA && e.rcx > (uint64_t)far_call64 && e.rcx < (uint64_t)far_call64_end,
           "CS %lx RSP %lx (RSP0 %lx) RIP %lx CS %lx SS %lx", e.rax, e.rbx, tss.rsp[0], e.rcx, e.rdx, e.rsi);
    gate_set((uint64_t)gate_return, SEL_CODE64, 0xec);
    e = run64(user_gate_and_back, GATE, 0);
    report("gate-and-back", "SDM 2 RET far to outer privilege",
           e.rax == SEL_USER_CODE64 && e.cs == SEL_USER_CODE64 && e.ss == SEL_USER_DATA, "CS %lx %lx SS %lx",
           e.rax, e.cs, e.ss);
    e = run64(far_call64, GATE | 3, 0);
    report("gate-rpl3", "SDM 3A 5.8.4 gate DPL >= RPL", e.cs == SEL_USER_CODE64 || e.cs == SEL_CODE64,
           "CS %lx", e.cs);
    gate_set((uint64_t)gate_target, SEL_CODE64, 0x8c);
    check_trap("gate-dpl", "SDM 3A 5.8.4 CPL <= gate DPL", TRY(run64(far_call64, GATE, 0)), EXC_GP, GATE);
    gate_set((uint64_t)gate_target, SEL_CODE64, 0x6c);
    check_trap("gate-not-present", "SDM 2 CALL #NP(gate)", TRY(run64(far_call64, GATE, 0)), EXC_NP, GATE);
    gate_set((uint64_t)gate_target, SEL_CODE32, 0xec);
    check_trap("gate-to-compat", "SDM 2 CALL #GP: target of a 64-bit gate must have L=1, D=0",
               TRY(run64(far_call64, GATE, 0)), EXC_GP, SEL_CODE32);
    gate_set((uint64_t)gate_target, 0, 0xec);
    check_trap("gate-null", "SDM 2 CALL #GP(0): null selector in the gate", TRY(run64(far_call64, GATE, 0)),
               EXC_GP, 0);
    gate_set(0x0000800000000000ul, SEL_CODE64, 0xec);
    check_trap("gate-non-canonical", "SDM 2 CALL #GP(0): non-canonical target",
               TRY(run64(far_call64, GATE, 0)), EXC_GP, 0);
    gate_set((uint64_t)gate_target, SEL_CODE64, 0xec);
    gdt[GATE / 8 + 1] |= 1ul << 40;
    check_trap("gate-upper-type", "SDM 3A 5.8.3.1 type of the upper half must be 0",
               TRY(run64(far_call64, GATE, 0)), EXC_GP, GATE);
    uint64_t rsp0 = tss.rsp[0];
    gate_set((uint64_t)gate_target, SEL_CODE64, 0xec);
    tss.rsp[0] = 0x0000800000000000ul;
    struct trap t = TRY(run64(far_call64, GATE, 0));
    report("gate-stack-non-canonical", "SDM 2 CALL #SS: RSP0 not canonical", t.vector == EXC_SS, "%s(%lx)",
           trap_name(t.vector), t.error);
    tss.rsp[0] = rsp0;
}

/* -- IRET and RET far ---------------------------------------------------------------------------------- */
static struct trap iret_to(uint64_t cs, uint64_t rip, uint64_t ss, uint64_t rsp, uint64_t rflags)
{
    struct excursion e = {.rip = rip, .cs = cs, .rflags = rflags, .rsp = rsp, .ss = ss, .ds = 0};
    return TRY(excursion_run(&e));
}

static void returns(void)
{
    uint64_t stack = (uint64_t)user_stack + 4096, at32 = (uint64_t)landed32, at64 = (uint64_t)landed64;
    const char *rule = "SDM 2 IRETQ";
    check_none("iret-ring0-64", rule, iret_to(SEL_CODE64, at64, SEL_DATA, stack, 2));
    check_none("iret-ring0-64-null-ss", "SDM 2 IRETQ: null SS at CPL 0 in 64-bit mode",
               iret_to(SEL_CODE64, at64, 0, stack, 2));
    check_none("iret-ring0-32", rule, iret_to(SEL_CODE32, at32, SEL_DATA, stack, 2));
    check_none("iret-ring3-64", rule, iret_to(SEL_USER_CODE64, at64, SEL_USER_DATA, stack, 2));
    check_none("iret-ring3-32", rule, iret_to(SEL_USER_CODE32, at32, SEL_USER_DATA, stack, 2));
    for (unsigned dpl = 1; dpl < 3; dpl++) {
        gdt_set(T0, descriptor(0, 0xfffff, 0x9b | dpl << 5 | DESC_L | DESC_G));
        gdt_set(T1, descriptor(0, 0xfffff, 0x93 | dpl << 5 | DESC_DB | DESC_G));
        struct excursion e = {.rip = at64, .cs = T0 | dpl, .rflags = 2, .rsp = stack, .ss = T1 | dpl};
        struct trap t = TRY(excursion_run(&e));
        char name[32];
        format_text(name, sizeof name, "iret-ring%u", dpl);
        report(name, rule, t.vector == VECTOR_NONE && e.rax == (T0 | dpl), "%s(%lx) CS %lx",
               trap_name(t.vector), t.error, e.rax);
    }
    check_trap("iret-null-cs", rule, iret_to(0, at64, SEL_DATA, stack, 2), EXC_GP, 0);
    check_trap("iret-data-cs", rule, iret_to(SEL_DATA, at64, SEL_DATA, stack, 2), EXC_GP, SEL_DATA);
    check_trap("iret-rpl-not-dpl", "SDM 2 IRET #GP(selector): nonconforming and DPL not RPL",
               iret_to(SEL_CODE64 | 3, at64, SEL_USER_DATA, stack, 2), EXC_GP, SEL_CODE64);
    check_trap("iret-null-ss-ring3", "SDM 2 IRETQ #GP(0): null SS for CPL 3",
               iret_to(SEL_USER_CODE64, at64, 0, stack, 2), EXC_GP, 0);
    check_trap("iret-ss-rpl", "SDM 2 IRET #GP(SS): RPL not that of CS",
               iret_to(SEL_USER_CODE64, at64, SEL_USER_DATA & ~3, stack, 2), EXC_GP, SEL_USER_DATA & ~3);
    check_trap("iret-ss-dpl", "SDM 2 IRET #GP(SS): DPL not CPL",
               iret_to(SEL_USER_CODE64, at64, SEL_DATA | 3, stack, 2), EXC_GP, SEL_DATA);
    check_trap("iret-non-canonical", "SDM 2 IRET #GP(0)",
               iret_to(SEL_USER_CODE64, 0x0000800000000000ul, SEL_USER_DATA, stack, 2), EXC_GP, 0);
    gdt_set(T0, descriptor(0, 0xfffff, 0x7b | DESC_L | DESC_G));
    check_trap("iret-cs-not-present", "SDM 2 IRET #NP(selector)",
               iret_to(T0 | 3, at64, SEL_USER_DATA, stack, 2), EXC_NP, T0);
    gdt_set(T1, descriptor(0, 0xfffff, 0x73 | DESC_DB | DESC_G));
    struct trap absent = iret_to(SEL_USER_CODE64, at64, T1 | 3, stack, 2);
    report("iret-ss-not-present",
           "SDM 2 IRET: #SS(selector) by its operation and 3A 6.15, #NP(selector) by its list of exceptions",
           (absent.vector == EXC_SS || absent.vector == EXC_NP) && absent.error == T1, "%s(%lx)",
           trap_name(absent.vector), absent.error);
    check_trap("iret-nt", "SDM 2 IRET #GP(0) if NT=1 in IA-32e mode",
               TRY_ASM("pushfq; orl $0x4000, (%%rsp); popfq; iretq"), EXC_GP, 0);
    asm volatile("pushfq; andl $~0x4000, (%%rsp); popfq" ::: "memory", "cc");
    check_trap("retf-null-cs", "SDM 2 RET far #GP(0)", TRY_ASM("pushq $0; pushq $0; lretq"), EXC_GP, 0);
    check_trap("retf-data", "SDM 2 RET far #GP(selector)", TRY_ASM("pushq $0x10; pushq $0; lretq"), EXC_GP,
               SEL_DATA);
    /* Returning to ring 3 makes inaccessible data segment registers null. */
    asm volatile("mov %w0, %%fs" ::"r"(SEL_DATA));
    check_equal("iret-nulls-segments", "SDM 2 IRET: DS, ES, FS, GS with DPL < CPL become null",
                user_run(read_fs, 0), 0);
}

/* -- LAR, LSL, VERR, VERW, ARPL ------------------------------------------------------------------------ */
struct looked {
    uint64_t lar, lsl;
    bool lar_ok, lsl_ok, verr, verw;
};

static struct looked look(unsigned selector)
{
    struct looked l = {0x1234, 0x5678, false, false, false, false};
    asm volatile("lar %k2, %k0" : "+r"(l.lar), "=@ccz"(l.lar_ok) : "r"(selector));
    asm volatile("lsl %k2, %k0" : "+r"(l.lsl), "=@ccz"(l.lsl_ok) : "r"(selector));
    asm volatile("verr %w1" : "=@ccz"(l.verr) : "r"(selector));
    asm volatile("verw %w1" : "=@ccz"(l.verw) : "r"(selector));
    return l;
}

static void look_check(const char *name, unsigned selector, uint64_t lar, uint64_t lsl, bool lar_ok,
                       bool lsl_ok, bool verr, bool verw)
{
    struct looked l = look(selector);
    bool ok = l.lar_ok == lar_ok && l.lsl_ok == lsl_ok && l.verr == verr && l.verw == verw &&
              (l.lar_ok ? (l.lar ^ lar) & ~0xf0000ul : l.lar ^ 0x1234) == 0 /* bits 19:16 are undefined */ &&
              l.lsl == (lsl_ok ? lsl : 0x5678);
    report(name, "SDM 2 LAR, LSL, VERR, VERW", ok, "LAR %d %lx LSL %d %lx VERR %d VERW %d", l.lar_ok, l.lar,
           l.lsl_ok, l.lsl, l.verr, l.verw);
}

USER_CODE(arpl, 32, "mov %edi, %eax\n arpl %si, %ax\n setz %bl");
USER_CODE(user_lar, 64, "xor %eax, %eax\n lar %edi, %eax\n setz %al\n movzx %al, %eax");

static void lookups(void)
{
    look_check("lar-code64", SEL_CODE64, 0xaf9b00, 0xffffffff, true, true, true, false);
    look_check("lar-data", SEL_DATA, 0xcf9300, 0xffffffff, true, true, true, true);
    look_check("lar-null", 0, 0, 0, false, false, false, false);
    look_check("lar-beyond", SEL_LIMIT, 0, 0, false, false, false, false);
    look_check("lar-tss", SEL_TSS, 0x008b00, sizeof tss - 1, true, true, false, false);
    gdt_set(T0, descriptor(0x12345678, 0xabcde, 0x93 | DESC_G));
    look_check("lsl-granular", T0, 0x8a9300, 0xabcdefff, true, true, true, true);
    gdt_set(T0, descriptor(0x12345678, 0xabcde, 0x11));
    look_check("lar-not-present", T0, 0x0a1100, 0xabcde, true, true, true, false);
    gdt_set(T0, descriptor(0, 0xff, 0x99));
    look_check("lar-execute-only", T0, 0x009900, 0xff, true, true, false, false);
    gdt_set(T0, descriptor(0, 0xff, 0x93));
    look_check("lar-rpl", T0 | 3, 0, 0, false, false, false, false);
    gdt_set(T0, descriptor(0, 0xff, 0x9f));
    look_check("lar-conforming-rpl", T0 | 3, 0x009f00, 0xff, true, true, true, false);
    gdt_set(T0, descriptor(0, 0xff, 0x86));
    look_check("lar-16bit-interrupt-gate", T0, 0, 0, false, false, false, false);
    gdt_set(T0, descriptor(0, 0xff, 0x81));
    look_check("lar-16bit-tss", T0, 0, 0, false, false, false, false);
    gate_set((uint64_t)gate_target, SEL_CODE64, 0xec);
    look_check("lar-call-gate", GATE, 0x00ec00 | ((uint64_t)gdt[GATE / 8] >> 32 & 0xff0000), 0, true, false,
               false, false);
    check_equal("lar-dpl0-from-ring3", "SDM 2 LAR: privilege is checked", user_run(user_lar, SEL_DATA), 0);
    check_equal("lar-dpl3-from-ring3", "SDM 2 LAR", user_run(user_lar, SEL_USER_DATA), 1);
    struct excursion e = run32(arpl, 3, 3, 0x11110);
    report("arpl-raises", "SDM 2 ARPL", (e.rax & 0xffff) == 0x1113 && (e.rbx & 1), "AX %lx ZF %lx", e.rax,
           e.rbx & 1);
    e = run32(arpl, 0, 1, 0x1112);
    report("arpl-keeps", "SDM 2 ARPL", (e.rax & 0xffff) == 0x1112 && !(e.rbx & 1), "AX %lx ZF %lx", e.rax,
           e.rbx & 1);
}

/* -- LDT, FS and GS bases, GDTR ------------------------------------------------------------------------ */
static uint64_t ldt[4];

static void tables_and_bases(void)
{
    uint64_t base = (uint64_t)ldt;
    ldt[1] = descriptor((uint32_t)(uint64_t)data, 0xff, 0xf3 | DESC_DB);
    gdt_set(LDT, descriptor((uint32_t)base, sizeof ldt - 1, 0x82));
    gdt_set(LDT + 8, base >> 32);
    check_none("lldt", "SDM 2 LLDT", TRY(asm volatile("lldt %w0" ::"r"(LDT))));
    data[5] = 0x77;
    check_equal("ldt-read", "SDM 3A 3.5.1 TI=1 selects the LDT", run32(read8, 3, 0xf, 5).rax & 0xff, 0x77);
    check_trap("ldt-beyond", "SDM 2 MOV #GP(selector) keeps TI in the error code", TRY32(load_es, 0, 0x24, 0),
               EXC_GP, 0x24);
    check_trap("lldt-not-ldt", "SDM 2 LLDT #GP(selector)", TRY(asm volatile("lldt %w0" ::"r"(SEL_DATA))),
               EXC_GP, SEL_DATA);
    check_trap("lldt-ti", "SDM 2 LLDT #GP(selector): must be in the GDT",
               TRY(asm volatile("lldt %w0" ::"r"(0xc))), EXC_GP, 0xc);
    gdt_set(LDT, descriptor((uint32_t)base, sizeof ldt - 1, 0x02));
    check_trap("lldt-not-present", "SDM 2 LLDT #NP(selector)", TRY(asm volatile("lldt %w0" ::"r"(LDT))),
               EXC_NP, LDT);
    gdt_set(LDT, descriptor((uint32_t)base, sizeof ldt - 1, 0x82));
    gdt_set(LDT + 8, 0x8000);
    check_trap("lldt-non-canonical", "SDM 2 LLDT #GP: base not canonical",
               TRY(asm volatile("lldt %w0" ::"r"(LDT))), EXC_GP, LDT);
    asm volatile("lldt %w0" ::"r"(0));
    check_trap("ltr-busy", "SDM 2 LTR #GP(selector): busy", TRY(asm volatile("ltr %w0" ::"r"(SEL_TSS))),
               EXC_GP, SEL_TSS);
    if (enabled("ltr-null", "SDM 2 LTR #GP(0)")) {
        check_trap("ltr-null", "SDM 2 LTR #GP(0)", TRY(asm volatile("ltr %w0" ::"r"(0))), EXC_GP, 0);
    }
    check_trap("ltr-data", "SDM 2 LTR #GP(selector)", TRY(asm volatile("ltr %w0" ::"r"(SEL_DATA))), EXC_GP,
               SEL_DATA);
    struct table_register bad = {0xff, 0x0000800000000000ul};
    if (enabled("lgdt-non-canonical", "SDM 2 LGDT #GP(0)")) {
        check_trap("lgdt-non-canonical", "SDM 2 LGDT #GP(0)", TRY(asm volatile("lgdt %0" ::"m"(bad))), EXC_GP,
                   0);
        check_trap("lidt-non-canonical", "SDM 2 LIDT #GP(0)", TRY(asm volatile("lidt %0" ::"m"(bad))), EXC_GP,
                   0);
    }
    /* 64-bit mode: bases of DS, ES, CS, SS are 0; FS and GS have their MSRs. */
    wrmsr(IA32_FS_BASE, (uint64_t)data);
    wrmsr(IA32_GS_BASE, (uint64_t)data + 1);
    data[0] = 0x11, data[1] = 0x22;
    uint8_t f, g;
    asm volatile("movb %%fs:0, %0; movb %%gs:0, %1" : "=&q"(f), "=&q"(g));
    report("fs-gs-base", "SDM 3A 3.4.4 Segment Loading Instructions in IA-32e Mode", f == 0x11 && g == 0x22,
           "%x %x", f, g);
    check_trap("fs-base-non-canonical", "SDM 2 WRMSR #GP(0)", TRY(wrmsr(IA32_FS_BASE, 0x8000000000000000ul)),
               EXC_GP, 0);
    gdt_set(T0, descriptor(0x12345678, 0xff, 0x93 | DESC_DB));
    asm volatile("mov %w0, %%fs" ::"r"(T0));
    check_equal("fs-load-sets-base", "SDM 3A 3.4.4: a load clears bits 63:32 of the base",
                rdmsr(IA32_FS_BASE), 0x12345678);
    asm volatile("mov %w0, %%fs; mov %w0, %%gs" ::"r"(0));
    if (cpuid(7, 0).ebx & 1) {
        check_trap("wrfsbase-without-cr4", "SDM 2 WRFSBASE #UD if CR4.FSGSBASE=0",
                   TRY(asm volatile("wrfsbase %0" ::"r"(1ul))), EXC_UD, 0);
        write_cr4(read_cr4() | CR4_FSGSBASE);
        asm volatile("wrfsbase %0; wrgsbase %1" ::"r"(0x123456789aul), "r"(0xfffffffff0000000ul));
        uint64_t a, b;
        asm volatile("rdfsbase %0; rdgsbase %1" : "=&r"(a), "=&r"(b));
        report("fsgsbase", "SDM 2 RDFSBASE, WRFSBASE",
               a == 0x123456789aul && b == 0xfffffffff0000000ul && rdmsr(IA32_FS_BASE) == a &&
                   rdmsr(IA32_GS_BASE) == b,
               "%lx %lx", a, b);
        check_trap("wrfsbase-non-canonical", "SDM 2 WRFSBASE #GP(0)",
                   TRY(asm volatile("wrfsbase %0" ::"r"(0x8000000000000000ul))), EXC_GP, 0);
        write_cr4(read_cr4() & ~CR4_FSGSBASE);
    } else {
        report_skip("fsgsbase", "SDM 2 RDFSBASE", "no FSGSBASE");
    }
    check_none("no-limit-in-64bit", "SDM 3A 5.3.1 Limit Checking in 64-bit Mode", TRY({
                   gdt_set(T0, descriptor(0, 0, 0x93));
                   asm volatile("mov %w0, %%ds; movb (%1), %%al; mov %w2, %%ds" ::"r"(T0), "r"(data + 99),
                                "r"(SEL_DATA)
                                : "rax");
               }));
}

void guest_main(void)
{
    limits();
    types();
    far_transfer();
    call_gates();
    returns();
    lookups();
    tables_and_bases();
}
