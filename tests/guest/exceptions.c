/*
 * exceptions.c -- interrupts, exceptions and debug: SDM 3A chapter 6, SDM 3B chapter 17 "Debug".
 */
#include "guest.h"

#define T0 (SEL_TEST)

/* -- Every exception that software can raise ----------------------------------------------------------- */
USER_CODE(int3, 64, "int3");
USER_CODE(int3_long, 64, ".byte 0xcd, 3");
USER_CODE(into, 32, "mov $0x7fffffff, %eax\n add $1, %eax\n into");
USER_CODE(into_clear, 32, "xor %eax, %eax\n into\n mov $7, %eax");
USER_CODE(int1, 64, ".byte 0xf1");
USER_CODE(bound, 32, "mov $9, %eax\n bound %eax, (%edi)");
USER_CODE(bound_inside, 32, "mov $5, %eax\n bound %eax, (%edi)\n mov $7, %eax");
USER_CODE(int_20, 64, "int $0x20");
USER_CODE(int_22, 64, "int $0x22");
USER_CODE(
    alignment, 64,
    "pushfq\n orl $0x40000, (%rsp)\n popfq\n mov 1(%rdi), %eax\n pushfq\n andl $~0x40000, (%rsp)\n popfq");
USER_CODE(user_hlt, 64, "hlt");
USER_CODE(user_cli, 64, "cli");
USER_CODE(user_in, 64, "in $0x80, %al");
USER_CODE(user_rdmsr, 64, "rdmsr");
USER_CODE(user_cr0, 64, "mov %cr0, %rax");
USER_CODE(user_dr7, 64, "mov %db7, %rax");
USER_CODE(user_lgdt, 64, "lgdt (%rdi)");
USER_CODE(user_popf_if, 64, "pushq $0x202\n popfq\n pushfq\n pop %rax");
USER_CODE(user_popf_iopl, 64, "pushq $0x3202\n popfq\n pushfq\n pop %rax");
USER_CODE(user_rdtsc, 64, "rdtsc");
USER_CODE(user_rdpmc, 64, "xor %ecx, %ecx\n rdpmc");
static int32_t bounds[2] USER_DATA = {3, 8};

static void software(void)
{
    struct trap t = TRY_ASM("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; div %%ecx");
    check_trap("divide-by-zero", "SDM 3A 6.15 Interrupt 0", t, EXC_DE, 0);
    check_trap("divide-overflow", "SDM 2 DIV #DE: quotient too large",
               TRY_ASM("mov $1, %%ecx; mov $1, %%edx; xor %%eax, %%eax; div %%ecx"), EXC_DE, 0);
    check_trap("idiv-overflow", "SDM 2 IDIV #DE: -2^63 / -1",
               TRY_ASM("mov $1, %%eax; ror $1, %%rax; cqo; mov $-1, %%rcx; idiv %%rcx"), EXC_DE, 0);
    check_trap("idiv-byte", "SDM 2 IDIV #DE: quotient -129..., byte",
               TRY_ASM("mov $0x4000, %%eax; mov $2, %%cl; idiv %%cl"), EXC_DE, 0);
    t = TRY(user_run(int3, 0));
    report("int3", "SDM 3A 6.15 Interrupt 3: trap, RIP after",
           t.vector == EXC_BP && t.rip == (uint64_t)int3 + 1 && !t.error, "%s at %lx", trap_name(t.vector),
           t.rip);
    t = TRY(user_run(int3_long, 0));
    report("int-3-two-bytes", "SDM 2 INT n", t.vector == EXC_BP && t.rip == (uint64_t)int3_long + 2,
           "%s at %lx", trap_name(t.vector), t.rip);
    t = TRY(compat_run(into, 0, 3));
    report("into", "SDM 3A 6.15 Interrupt 4: trap", t.vector == EXC_OF && t.rip == (uint64_t)into_end - 2,
           "%s at %lx", trap_name(t.vector), t.rip);
    check_equal("into-of-clear", "SDM 2 INTO", compat_run(into_clear, 0, 3), 7);
    t = TRY(user_run(int1, 0));
    report("int1", "SDM 2 INT1: #DB as a trap, no DPL check",
           t.vector == EXC_DB && t.rip == (uint64_t)int1 + 1, "%s(%lx) at %lx", trap_name(t.vector), t.error,
           t.rip);
    check_trap("bound", "SDM 3A 6.15 Interrupt 5", TRY(compat_run(bound, (uint64_t)bounds, 3)), EXC_BR, 0);
    check_equal("bound-inside", "SDM 2 BOUND", compat_run(bound_inside, (uint64_t)bounds, 3), 7);
    check_trap("ud2", "SDM 3A 6.15 Interrupt 6", TRY_ASM("ud2"), EXC_UD, 0);
    t = TRY_ASM("ud2");
    report("rf-pushed", "SDM 3B 17.3.1.1: other faults push RF = 1", t.rflags & RFLAGS_RF, "RFLAGS %lx",
           t.rflags);
    check_trap("into-64bit", "SDM 2 INTO #UD in 64-bit mode", TRY_ASM(".byte 0xce"), EXC_UD, 0);
    check_trap("push-es-64bit", "SDM 2 PUSH ES #UD in 64-bit mode", TRY_ASM(".byte 0x06"), EXC_UD, 0);
    check_trap("lock-register", "SDM 2 LOCK #UD: register operand", TRY_ASM(".byte 0xf0, 0x01, 0xc0"), EXC_UD,
               0);
    check_trap("lock-mov", "SDM 2 LOCK #UD: MOV", TRY_ASM(".byte 0xf0, 0x89, 0x04, 0x24"), EXC_UD, 0);
    check_trap("mov-cs", "SDM 2 MOV #UD: CS as destination", TRY_ASM(".byte 0x8e, 0xc8"), EXC_UD, 0);
    check_trap("mov-cr1", "SDM 2 MOV CR1 #UD", TRY_ASM(".byte 0x0f, 0x20, 0xc8"), EXC_UD, 0);
    check_trap("too-long", "SDM 3A 6.15 Interrupt 13: instruction longer than 15 bytes",
               TRY_ASM(".rept 15\n .byte 0x66\n .endr\n nop"), EXC_GP, 0);
    check_none("fifteen-bytes", "SDM 2 2.3.11: 15 bytes are allowed",
               TRY_ASM(".rept 14\n .byte 0x66\n .endr\n nop"));
    /* INT n: gate's DPL against CPL, error code with the IDT flag. */
    idt[0x20].type = 0x8e;
    check_trap("int-n-dpl", "SDM 3A 6.12.1.1: #GP(vector * 8 + 2) if CPL > DPL of the gate",
               TRY(user_run(int_20, 0)), EXC_GP, 0x20 * 8 + 2);
    idt[0x20].type = 0xee;
    t = TRY(user_run(int_20, 0));
    report("int-n", "SDM 2 INT n",
           t.vector == 0x20 && t.rip == (uint64_t)int_20 + 2 && t.cs == SEL_USER_CODE64 &&
               t.ss == SEL_USER_DATA && t.rsp == (uint64_t)user_stack + sizeof user_stack,
           "vector %x RIP %lx SS:RSP %lx:%lx", t.vector, t.rip, t.ss, t.rsp);
    idt[0x22].type = 0x6e;
    check_trap("int-n-not-present", "SDM 3A 6.15 Interrupt 11: #NP(vector * 8 + 2)", TRY(user_run(int_22, 0)),
               EXC_NP, 0x22 * 8 + 2);
    idt[0x22].type = 0xe5;
    check_trap("int-n-task-gate", "SDM 3A 6.14.1: task gates are not allowed in 64-bit mode",
               TRY(user_run(int_22, 0)), EXC_GP, 0x22 * 8 + 2);
    idt_set(0x22, idt[0x20].offset0 | idt[0x20].offset1 << 16, SEL_CODE32, 0xee, 0);
    check_trap("int-n-compat-target", "SDM 3A 6.14.1: the target must be 64-bit code",
               TRY(user_run(int_22, 0)), EXC_GP, SEL_CODE32);
    idt_set(0x22, 0, 0, 0xee, 0);
    check_trap("int-n-null-cs", "SDM 2 INT #GP(EXT): null selector in the gate", TRY(user_run(int_22, 0)),
               EXC_GP, 0);
    gdt_set(T0, descriptor(0, 0xfffff, 0x1b | DESC_L | DESC_G));
    idt_set(0x22, 0, T0, 0xee, 0);
    check_trap("int-n-cs-not-present", "SDM 2 INT #NP(selector)", TRY(user_run(int_22, 0)), EXC_NP, T0);
    idt_reset(0x20);
    idt_reset(0x22);
    struct table_register short_idt = {0x22 * 16 + 14, (uint64_t)idt}, full = {4095, (uint64_t)idt};
    asm volatile("lidt %0" ::"m"(short_idt));
    t = TRY(user_run(int_22, 0));
    asm volatile("lidt %0" ::"m"(full));
    check_trap("int-n-beyond-idt", "SDM 2 INT #GP(vector * 8 + 2): beyond the limit", t, EXC_GP,
               0x22 * 8 + 2);
    /* Interrupt gate clears IF, trap gate does not; both clear TF and NT. */
    idt_reset(0x20);
    asm volatile("sti");
    t = TRY_ASM("int $0x20");
    report("flags-pushed", "SDM 3A 6.12.1.3 flags are saved before they are cleared",
           t.vector == 0x20 && (t.rflags & RFLAGS_IF), "RFLAGS %lx", t.rflags);
    asm volatile("cli");
    /* Privileged instructions at CPL 3. */
    static const struct {
        const char *name, *code;
    } privileged[] = {{"user-hlt", user_hlt},     {"user-cli", user_cli},     {"user-in", user_in},
                      {"user-rdmsr", user_rdmsr}, {"user-mov-cr0", user_cr0}, {"user-mov-dr7", user_dr7},
                      {"user-lgdt", user_lgdt}};
    for (unsigned i = 0; i < sizeof privileged / sizeof privileged[0]; i++) {
        check_trap(privileged[i].name, "SDM 3A 5.9 Privileged Instructions",
                   TRY(user_run(privileged[i].code, (uint64_t)bounds)), EXC_GP, 0);
    }
    check_equal("user-popf-if", "SDM 2 POPF: IF unchanged if CPL > IOPL",
                user_run(user_popf_if, 0) & (RFLAGS_IF | RFLAGS_IOPL3), 0);
    check_equal("user-popf-iopl", "SDM 2 POPF: IOPL unchanged if CPL > 0",
                user_run(user_popf_iopl, 0) & RFLAGS_IOPL3, 0);
    write_cr4(read_cr4() | CR4_TSD);
    check_trap("user-rdtsc-tsd", "SDM 2 RDTSC #GP(0) if TSD=1 and CPL > 0", TRY(user_run(user_rdtsc, 0)),
               EXC_GP, 0);
    write_cr4(read_cr4() & ~CR4_TSD);
    check_none("user-rdtsc", "SDM 2 RDTSC", TRY(user_run(user_rdtsc, 0)));
    if (enabled("user-rdpmc", "SDM 2 RDPMC")) {
        check_trap("user-rdpmc", "SDM 2 RDPMC #GP(0) if PCE=0 and CPL > 0", TRY(user_run(user_rdpmc, 0)),
                   EXC_GP, 0);
    }
    /* I/O permission bitmap: a set bit, or a limit that is too short, refuses. */
    tss.iomap = offsetof(struct tss64, bitmap);
    memset(tss.bitmap, 0, sizeof tss.bitmap);
    tss.end = 0xff;
    check_none("io-bitmap-allows", "SDM 1 19.5.2 I/O Permission Bit Map", TRY(user_run(user_in, 0)));
    tss.bitmap[16] = 1;
    check_trap("io-bitmap-refuses", "SDM 1 19.5.2", TRY(user_run(user_in, 0)), EXC_GP, 0);
    tss.iomap = sizeof tss;
    struct excursion e = {.rip = (uint64_t)user_in,
                          .cs = SEL_USER_CODE64,
                          .rflags = RFLAGS_FIXED | RFLAGS_IOPL3,
                          .rsp = (uint64_t)user_stack + 4096,
                          .ss = SEL_USER_DATA};
    check_none("io-iopl", "SDM 1 19.5.1 I/O Privilege Level", TRY(excursion_run(&e)));
    /* #AC: CR0.AM, RFLAGS.AC and CPL 3. */
    write_cr0(read_cr0() | CR0_AM);
    check_trap("alignment-check", "SDM 3A 6.15 Interrupt 17", TRY(user_run(alignment, (uint64_t)bounds)),
               EXC_AC, 0);
    write_cr0(read_cr0() & ~CR0_AM);
    check_none("alignment-check-am0", "SDM 3A 6.15 Interrupt 17: needs CR0.AM",
               TRY(user_run(alignment, (uint64_t)bounds)));
    check_trap("fnm-ts", "SDM 3A 6.15 Interrupt 7", TRY({
                   write_cr0(read_cr0() | CR0_TS);
                   asm volatile("fninit");
               }),
               EXC_NM, 0);
    asm volatile("clts");
}

/* -- Double fault, nested faults, priority, stacks ----------------------------------------------------- */
static uint64_t seen;
static bool ud_handler(struct trap_frame *f)
{
    seen = (uint64_t)f;
    f->rip += 2;
    return true;
}

static void nested(void)
{
    /* #GP whose gate is not present: contributory after contributory. */
    uint8_t type = idt[EXC_GP].type;
    idt[EXC_GP].type = 0x0e;
    struct trap t = TRY(load8(0x8000000000000000ul));
    idt[EXC_GP].type = type;
    check_trap("double-fault", "SDM 3A 6.15 Interrupt 8: contributory, then contributory", t, EXC_DF, 0);
    /* #PF whose gate is not present. */
    type = idt[EXC_PF].type;
    idt[EXC_PF].type = 0x0e;
    t = TRY(load8(0x10000000000ul));
    idt[EXC_PF].type = type;
    check_trap("double-fault-after-page-fault", "SDM 3A Table 6-5: page fault, then contributory", t, EXC_DF,
               0);
    /* #UD (benign) whose gate is not present: the #NP is handled serially, with EXT set. */
    type = idt[EXC_UD].type;
    idt[EXC_UD].type = 0x0e;
    t = TRY_ASM("ud2");
    idt[EXC_UD].type = type;
    check_trap("benign-then-contributory", "SDM 3A Table 6-5: handled serially; error code has EXT", t,
               EXC_NP, EXC_UD * 8 + 3);
    /* Software interrupt: EXT is clear. */
    type = idt[EXC_UD].type;
    idt[EXC_UD].type = 0x6e;
    t = TRY_ASM("int $6");
    idt[EXC_UD].type = type;
    check_trap("int-n-ext-clear", "SDM 3A 6.13 Error Code: EXT only for events external to the program", t,
               EXC_NP, EXC_UD * 8 + 2);
    /* Without IST at CPL 0, a bad stack turns any fault into #DF (which has its IST). */
    uint8_t ist = idt[EXC_UD].ist;
    idt[EXC_UD].ist = 0;
    t = TRY(asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; ud2" ::"r"(0x10000000000ul) : "rbx", "memory"));
    report("push-page-fault", "SDM 3A Table 6-5: benign, then page fault: the page fault comes",
           t.vector == EXC_PF && t.error == PF_W && t.cr2 < 0x10000000000ul && t.cr2 >= 0x10000000000ul - 56,
           "%s(%lx) CR2 %lx", trap_name(t.vector), t.error, t.cr2);
    idt[EXC_UD].ist = ist;
    ist = idt[EXC_GP].ist;
    idt[EXC_GP].ist = 0;
    t = TRY(asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; movb (%1), %%al" ::"r"(0x10000000000ul),
                         "r"(0x8000000000000000ul)
                         : "rbx", "rax", "memory"));
    check_fault("contributory-then-page-fault",
                "SDM 3A Table 6-5: contributory, then page fault: handled serially", t, PF_W, t.cr2);
    idt[EXC_GP].ist = ist;
    ist = idt[EXC_PF].ist;
    idt[EXC_PF].ist = 0;
    t = TRY(asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; movb (%1), %%al" ::"r"(0x10000000000ul),
                         "r"(0x30000000000ul)
                         : "rbx", "rax", "memory"));
    check_trap("page-fault-then-page-fault", "SDM 3A Table 6-5: double fault", t, EXC_DF, 0);
    idt[EXC_PF].ist = ist;
    /* Stack alignment and IST. */
    ist = idt[EXC_UD].ist;
    idt[EXC_UD].ist = 0;
    trap_handlers[EXC_UD] = ud_handler;
    uint64_t before;
    asm volatile("mov %%rsp, %0; sub $5, %%rsp; ud2; add $5, %%rsp" : "=r"(before)::"memory");
    uint64_t top = ((before - 5) & ~15ul) - sizeof(struct trap_frame);
    check_equal("stack-aligned", "SDM 3A 6.14.2: RSP is aligned to 16 before the frame", seen, top);
    idt[EXC_UD].ist = 1;
    asm volatile("ud2" ::: "memory");
    check_equal("ist", "SDM 3A 6.14.5 Interrupt Stack Table", seen, tss.ist[0] - sizeof(struct trap_frame));
    trap_handlers[EXC_UD] = NULL;
    idt[EXC_UD].ist = ist;
    /* Priority within one instruction: privilege before memory, decode before all. */
    check_trap("priority-ud-before-pf", "SDM 3A 6.9 Priority: decode faults first",
               TRY_ASM(".byte 0xf0; movl (0x12345678), %%eax"), EXC_UD, 0);
    check_trap("priority-gp-before-pf", "SDM 3A 6.9: CPL check before the memory operand",
               TRY(user_run(user_lgdt, 0x10000000000ul)), EXC_GP, 0);
}

/* -- Single step, RF, shadows -------------------------------------------------------------------------- */
static volatile unsigned db_count;
static volatile uint64_t db_rip[16], db_dr6[16];
static bool db_handler(struct trap_frame *f)
{
    uint64_t dr6 = read_dr6();
    if (db_count < 16) {
        db_rip[db_count] = f->rip;
        db_dr6[db_count] = dr6;
    }
    db_count++;
    write_dr6(0xffff0ff0);
    f->rflags |= RFLAGS_RF; /* so that an instruction breakpoint is passed */
    if (db_count > 14) {
        f->rflags &= ~RFLAGS_TF;
    }
    return true;
}

extern char step_a[], step_b[], step_c[], step_ss[], step_end[], step_rep[], step_int[], step_after_int[];
__attribute__((noinline)) static void stepped(void)
{
    asm volatile("pushfq; orl $0x100, (%%rsp); popfq\n"
                 "step_a: nop\n"
                 "step_b: nop\n"
                 "step_c: mov %%ss, %%eax; mov %%eax, %%ss\n"
                 "nop\n"
                 "step_ss: pushfq; andl $~0x100, (%%rsp)\n"
                 "popfq\n"
                 "step_end: nop" ::
                     : "rax", "memory", "cc");
}
__attribute__((noinline)) static void stepped_rep(void)
{
    static uint8_t from[4], to[4];
    void *s = from, *d = to;
    uint64_t n = 3;
    asm volatile("pushfq; orl $0x100, (%%rsp); popfq\n"
                 "step_rep: rep movsb\n"
                 "pushfq; andl $~0x100, (%%rsp)\n"
                 "popfq"
                 : "+S"(s), "+D"(d), "+c"(n)::"memory", "cc");
}

static void single_step(void)
{
    trap_handlers[EXC_DB] = db_handler;
    write_dr6(0xffff0ff0);
    db_count = 0;
    stepped();
    /* After: nop, nop, mov eax, (mov ss: held off) nop, pushfq, andl, popfq. The popfq that sets TF does not
     * trap. */
    bool ok = db_count == 7 && db_rip[0] == (uint64_t)step_b && db_rip[1] == (uint64_t)step_c &&
              db_rip[3] == (uint64_t)step_ss && db_rip[6] == (uint64_t)step_end;
    report("single-step",
           "SDM 3B 17.3.1.4 Single-Step: after each instruction from the one after POPF; MOV SS delays", ok,
           "%u traps; %lx %lx %lx %lx, a=%lx", db_count, db_rip[0], db_rip[1], db_rip[2], db_rip[3],
           (uint64_t)step_a);
    report("single-step-dr6", "SDM 3B 17.2.3 DR6.BS", db_dr6[0] == 0xffff4ff0, "DR6 %lx", db_dr6[0]);
    db_count = 0;
    stepped_rep();
    report("single-step-rep", "SDM 3B 17.3.1.4: after each iteration",
           db_count >= 3 && db_rip[0] == (uint64_t)step_rep && db_rip[1] == (uint64_t)step_rep &&
               db_rip[2] == (uint64_t)step_rep + 2,
           "%u: %lx %lx %lx", db_count, db_rip[0], db_rip[1], db_rip[2]);
    trap_handlers[EXC_DB] = NULL;
}

static volatile unsigned irq_count;
static volatile uint64_t irq_rip;
static bool irq_handler(struct trap_frame *f)
{
    irq_count++;
    irq_rip = f->rip;
    lapic_write(LAPIC_EOI, 0);
    return true;
}

extern char sti_next[], sti_after[], sti_two[], ss_after[];
static void shadows(void)
{
    lapic_enable();
    trap_handlers[0x40] = irq_handler;
    irq_count = 0;
    lapic_write(LAPIC_ICR2, 0);
    lapic_write(LAPIC_ICR, 0x40040); /* self */
    for (int i = 0; i < 1000; i++) {
        cpu_relax();
    }
    report("interrupt-held-by-if", "SDM 3A 6.8.1 Masking Maskable Hardware Interrupts", irq_count == 0,
           "taken with IF=0");
    asm volatile("sti; sti_next: nop; sti_after: nop; cli" ::: "memory");
    report("sti-shadow", "SDM 2 STI: the next instruction runs first",
           irq_count == 1 && irq_rip == (uint64_t)sti_after, "%u at %lx, want %lx", irq_count, irq_rip,
           (uint64_t)sti_after);
    lapic_write(LAPIC_ICR, 0x40040);
    for (int i = 0; i < 1000; i++) {
        cpu_relax();
    }
    irq_count = 0;
    asm volatile("sti; cli" ::: "memory");
    report("sti-cli", "SDM 2 STI: STI then CLI lets no interrupt in", irq_count == 0, "taken");
    asm volatile("sti; nop; nop; cli" ::: "memory");
    check_equal("sti-then-taken", "SDM 2 STI", irq_count, 1);
    /* STI, then MOV SS: of instructions that each delay interrupts only the first is sure to (SDM 2, STI). */
    lapic_write(LAPIC_ICR, 0x40040);
    for (int i = 0; i < 1000; i++) {
        cpu_relax();
    }
    irq_count = 0;
    asm volatile("mov %%ss, %%eax; pushq $0x202; sti; mov %%eax, %%ss; nop; ss_after: nop; cli; pop %%rax" ::
                     : "rax", "memory");
    report("mov-ss-shadow", "SDM 3A 6.8.3 Masking Exceptions and Interrupts When Switching Stacks",
           irq_count == 1 && (irq_rip == (uint64_t)ss_after || irq_rip == (uint64_t)ss_after - 1),
           "%u at %lx, want %lx", irq_count, irq_rip, (uint64_t)ss_after);
    /* HLT is left by an interrupt, RIP after it. */
    lapic_write(LAPIC_ICR, 0x40040);
    irq_count = 0;
    asm volatile("sti; hlt; cli" ::: "memory");
    check_equal("hlt-wakes", "SDM 2 HLT", irq_count, 1);
    /* TPR holds it off. */
    write_cr8(5);
    lapic_write(LAPIC_ICR, 0x40040);
    irq_count = 0;
    asm volatile("sti; nop; nop; nop; cli" ::: "memory");
    bool held = irq_count == 0;
    check_equal("cr8-is-tpr", "SDM 3A 10.8.6 Task Priority in IA-32e Mode", lapic_read(LAPIC_TPR), 0x50);
    write_cr8(0);
    asm volatile("sti; nop; nop; nop; cli" ::: "memory");
    report("tpr-holds", "SDM 3A 10.8.3.1 Task and Processor Priorities", held && irq_count == 1,
           "held %d, then %u", held, irq_count);
    trap_handlers[0x40] = NULL;
}

/* -- NMI ----------------------------------------------------------------------------------------------- */
static volatile unsigned nmi_count, nmi_nested;
static bool nmi_handler(struct trap_frame *f)
{
    (void)f;
    if (++nmi_count == 1) {
        lapic_icr(lapic_read(LAPIC_ID) >> 24, 0x4400); /* a second NMI waits for this handler's IRET */
        for (int i = 0; i < 1000; i++) {
            cpu_relax();
        }
        nmi_nested = nmi_count;
    }
    return true;
}

static void nmi(void)
{
    if (!enabled("nmi", "SDM 3A 6.7")) {
        return;
    }
    trap_handlers[EXC_NMI] = nmi_handler;
    nmi_count = 0;
    lapic_icr(lapic_read(LAPIC_ID) >> 24, 0x4400);
    for (int i = 0; i < 100000 && nmi_count < 2; i++) {
        cpu_relax();
    }
    report("nmi", "SDM 3A 6.7 Nonmaskable Interrupt: not masked by IF", nmi_count >= 1, "none came");
    report("nmi-blocked-until-iret", "SDM 3A 6.7.1 Handling Multiple NMIs", nmi_nested == 1 && nmi_count == 2,
           "%u inside, %u in all", nmi_nested, nmi_count);
    trap_handlers[EXC_NMI] = NULL;
}

/* -- Breakpoints --------------------------------------------------------------------------------------- */
extern char bp_here[], bp_next[];
static volatile uint64_t watched[4] __attribute__((aligned(32)));

__attribute__((noinline)) static void bp_code(void)
{
    asm volatile("nop; bp_here: nop; bp_next: nop");
}

static void breakpoints(void)
{
    trap_handlers[EXC_DB] = db_handler;
    write_dr6(0xffff0ff0);
    write_dr0((uint64_t)bp_here);
    write_dr7(0x401 | 1 << 1); /* G0 L0, execute */
    db_count = 0;
    bp_code();
    report("breakpoint-execute", "SDM 3B 17.3.1.1: a fault, before the instruction",
           db_count == 1 && db_rip[0] == (uint64_t)bp_here && (db_dr6[0] & 0xf) == 1, "%u at %lx DR6 %lx",
           db_count, db_rip[0], db_dr6[0]);
    /* RF in the popped flags passes it once. */
    trap_handlers[EXC_DB] = NULL;
    struct trap t = TRY(bp_code());
    report("breakpoint-rf",
           "SDM 3B 17.3.1.1: RF is not set in the flags that an instruction breakpoint pushes",
           t.vector == EXC_DB && t.rip == (uint64_t)bp_here && !(t.rflags & RFLAGS_RF), "%s at %lx flags %lx",
           trap_name(t.vector), t.rip, t.rflags);
    write_dr7(0x400);
    check_none("breakpoint-disabled", "SDM 3B 17.2.4 DR7", TRY(bp_code()));
    trap_handlers[EXC_DB] = db_handler;
    static const struct {
        const char *name;
        unsigned rw, len, offset;
        bool on_read, on_write;
    } data[] = {{"breakpoint-write-8", 1, 2, 0, false, true},
                {"breakpoint-access-8", 3, 2, 0, true, true},
                {"breakpoint-write-4", 1, 3, 4, false, true},
                {"breakpoint-access-2", 3, 1, 2, true, true},
                {"breakpoint-write-1", 1, 0, 7, false, true}};
    for (unsigned i = 0; i < sizeof data / sizeof data[0]; i++) {
        uint64_t at = (uint64_t)watched + data[i].offset;
        write_dr1(at);
        write_dr7(0x400 | 1 << 2 | (uint64_t)(data[i].rw | data[i].len << 2) << 20);
        write_dr6(0xffff0ff0);
        db_count = 0;
        load64((uint64_t)watched);
        unsigned reads = db_count;
        store64((uint64_t)watched, 1);
        unsigned writes = db_count - reads;
        uint64_t dr6 = db_dr6[0];
        load64((uint64_t)watched + 8);
        store64((uint64_t)watched + 8, 1);
        unsigned none = db_count - reads - writes;
        write_dr7(0x400);
        report(data[i].name, "SDM 3B 17.2.4, 17.3.1.2 Data Memory Breakpoint: a trap",
               reads == data[i].on_read && writes == data[i].on_write && none == 0 && (dr6 & 0xf) == 2,
               "reads %u writes %u beyond %u DR6 %lx", reads, writes, none, dr6);
    }
    /* General detect. */
    write_dr7(0x400 | 1 << 13);
    trap_handlers[EXC_DB] = NULL;
    t = TRY((void)read_dr0());
    uint64_t dr6 = t.dr6;
    bool cleared = !(read_dr7() & 1 << 13);
    write_dr7(0x400);
    report("general-detect", "SDM 3B 17.3.1.3 General-Detect: DR6.BD; GD is cleared",
           t.vector == EXC_DB && (dr6 & 1 << 13) && cleared, "%s DR6 %lx", trap_name(t.vector), dr6);
    write_dr6(0xffff0ff0);
    check_trap("dr7-upper", "SDM 2 MOV DR #GP(0): bits 63:32", TRY(write_dr7(1ul << 32 | 0x400)), EXC_GP, 0);
    check_trap("dr6-upper", "SDM 2 MOV DR #GP(0): bits 63:32", TRY(write_dr6(1ul << 32)), EXC_GP, 0);
    check_none("dr4-alias", "SDM 3B 17.2.2: DR4 is DR6 if CR4.DE=0", TRY_ASM("mov %%db4, %%rax"));
    write_cr4(read_cr4() | CR4_DE);
    check_trap("dr4-ud", "SDM 3B 17.2.2: #UD if CR4.DE=1", TRY_ASM("mov %%db4, %%rax"), EXC_UD, 0);
    write_cr4(read_cr4() & ~CR4_DE);
    write_dr6(0);
    check_equal("dr6-fixed", "SDM 3B 17.2.3 DR6 reserved bits", read_dr6() & 0xffff1ff0, 0xffff0ff0);
    write_dr7(0);
    check_equal("dr7-fixed", "SDM 3B 17.2.4 DR7 bit 10 is always 1", read_dr7(), 0x400);
}

void guest_main(void)
{
    software();
    nested();
    single_step();
    breakpoints();
    shadows();
    nmi();
}
