/*
 * debug.c -- RF between iterations and at jumps to self, single-stepping on branches, last branch records.
 *
 * SDM 3B chapter 17: "Instruction-Breakpoint Exception Condition", "Single-Stepping on Branches", "Monitoring
 * Branches, Exceptions, and Interrupts", "LBR Stack", "Last Exception Records".
 */
#include "guest.h"

enum {
    MSR_LBR_SELECT = 0x1c8,
    MSR_LASTBRANCH_TOS = 0x1c9,
    MSR_LER_FROM_LIP = 0x1dd,
    MSR_LER_TO_LIP = 0x1de,
    MSR_LASTBRANCH_0_FROM_IP = 0x680,
    MSR_LASTBRANCH_0_TO_IP = 0x6c0,
    MSR_LBR_INFO_0 = 0xdc0,
    DEBUGCTL_LBR = 1,
    DEBUGCTL_BTF = 2,
    LBR_DEPTH = 32,
    VECTOR_TIMER = 0x51,
};

/* -- RF ------------------------------------------------------------------------------------------------ */

extern char rep_stos[], rep_after[], self_jump[], self_after[];
asm(".pushsection .text\n"
    "rep_code: rep_stos: rep stosb\nrep_after: ret\n"
    "self_jump: jmp self_jump\nself_after: ret\n"
    ".popsection");
void rep_code(void);

static volatile uint64_t irq_rip, irq_flags;
static volatile uint32_t irqs;

static bool timer_handler(struct trap_frame *f)
{
    irq_rip = f->rip;
    irq_flags = f->rflags;
    irqs++;
    lapic_write(LAPIC_EOI, 0);
    return true;
}

static uint8_t buffer[1 << 19];

static void store_all(void)
{
    uint64_t count = sizeof(buffer);
    void *to = buffer;
    asm volatile("sti; call rep_code; cli" : "+D"(to), "+c"(count) : "a"(0) : "memory");
}

static void interrupted_rep(void)
{
    static const char rule[] =
        "SDM 3B 17.3.1.1: RF = 1 in the image of an interrupt between two iterations of REP";
    lapic_enable();
    trap_handlers[VECTOR_TIMER] = timer_handler;
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
    bool between = false;
    for (uint32_t count = 500; count < 1u << 20 && !between; count = count * 3 / 2) {
        irqs = 0;
        lapic_write(LAPIC_INITIAL, count);
        store_all();
        between = irqs && irq_rip == (uint64_t)rep_stos;
        lapic_write(LAPIC_INITIAL, 0);
    }
    report("rep-interrupt-rf", rule, between && irq_flags & RFLAGS_RF, "rip %lx (REP at %lx), RFLAGS %lx",
           irq_rip, (uint64_t)rep_stos, irq_flags);
    trap_handlers[VECTOR_TIMER] = NULL;
}

static volatile uint32_t hits;

/* The first hit lets the jump run once; the second moves on behind it. */
static bool self_handler(struct trap_frame *f)
{
    write_dr6(0);
    if (++hits == 1)
        f->rflags |= RFLAGS_RF;
    else
        f->rip = (uint64_t)self_after;
    return true;
}

static void jump_to_self(void)
{
    if (!enabled("breakpoint-self-jump", "SDM 3B 17.3.1.1: RF is cleared by a jump to itself"))
        return;
    trap_handlers[EXC_DB] = self_handler;
    write_dr0((uint64_t)self_jump);
    write_dr7(0x401);
    call_at((uint64_t)self_jump);
    write_dr7(0x400);
    trap_handlers[EXC_DB] = NULL;
    report("breakpoint-self-jump", "SDM 3B 17.3.1.1: RF is cleared by a jump to itself", hits == 2, "%u hits",
           hits);
}

/* -- BTF ----------------------------------------------------------------------------------------------- */

extern char step_code[], step_target[], step_call[], step_back[];
asm(".pushsection .text\n"
    "step_code: pushfq; orq $0x100, (%rsp); popfq\n"
    "nop; xor %eax, %eax; jnz step_target; inc %eax; jmp step_target; nop\n"
    "step_target: nop; call step_call\n"
    "step_back: pushfq; andq $~0x100, (%rsp); popfq; ret\n"
    "step_call: nop; ret\n"
    "next_code: pushfq; orq $0x100, (%rsp); popfq\n"
    "xor %eax, %eax; mov $2, %ecx\n"
    "next_jz: jz next_a\n"
    "next_a: jnz next_b\n"
    "next_b: loop next_c\n"
    "next_c: loop next_d\n"
    "next_d: jrcxz next_e\n"
    "next_e: pushfq; andq $~0x100, (%rsp); popfq; ret\n"
    ".popsection");
extern char next_code[], next_jz[], next_a[], next_c[], next_e[];

USER_CODE(user_step, 64,
          "pushfq\n orq $0x100, (%rsp)\n popfq\n nop\n jmp user_target\n nop\n"
          "user_target: pushfq\n andq $~0x100, (%rsp)\n popfq\n");
extern char user_target[];

static volatile uint64_t step_rip[8], step_debugctl[8], step_dr6[8];
static volatile uint32_t steps;

static bool step_handler(struct trap_frame *f)
{
    if (steps < 8) {
        step_rip[steps] = f->rip;
        step_debugctl[steps] = rdmsr(IA32_DEBUGCTL);
        step_dr6[steps] = read_dr6();
    }
    if (++steps >= 8)
        f->rflags &= ~RFLAGS_TF;
    write_dr6(0);
    wrmsr(IA32_DEBUGCTL, DEBUGCTL_BTF);
    return true;
}

/* What counts is the condition: RIP is the same whether these are taken or not. */
static void branches_to_next(void)
{
    static const char rule[] = "SDM 3B 17.4.3: a taken branch traps, also one to the next instruction";
    trap_handlers[EXC_DB] = step_handler;
    steps = 0;
    wrmsr(IA32_DEBUGCTL, DEBUGCTL_BTF);
    call_at((uint64_t)next_code);
    wrmsr(IA32_DEBUGCTL, 0);
    trap_handlers[EXC_DB] = NULL;
    report("btf-next", rule,
           steps == 3 && step_rip[0] == (uint64_t)next_a && step_rip[1] == (uint64_t)next_c &&
               step_rip[2] == (uint64_t)next_e,
           "%u traps: %lx %lx %lx, want %lx %lx %lx", steps, step_rip[0], step_rip[1], step_rip[2],
           (uint64_t)next_a, (uint64_t)next_c, (uint64_t)next_e);
}

static void branch_steps(void)
{
    volatile uint64_t there = 0;
    struct trap t = TRY(wrmsr(IA32_DEBUGCTL, DEBUGCTL_BTF); there = rdmsr(IA32_DEBUGCTL));
    if (t.vector != VECTOR_NONE || !there) {
        report_skip("btf-branches", "SDM 3B 17.4.3", "IA32_DEBUGCTL has no BTF");
        return;
    }
    trap_handlers[EXC_DB] = step_handler;
    call_at((uint64_t)step_code);
    unsigned in_ring0 = steps;
    uint64_t first[3] = {step_rip[0], step_rip[1], step_rip[2]};
    /* Ring 3, whose code ring 0 may not read with SMAP. */
    uint64_t cr4 = read_cr4();
    if (cpuid(7, 0).ebx >> 20 & 1) {
        write_cr4(cr4 | CR4_SMAP);
    }
    steps = 0;
    wrmsr(IA32_DEBUGCTL, DEBUGCTL_BTF);
    user_run(user_step, 0);
    report("btf-ring3", "SDM 3B 17.4.3", steps == 1 && step_rip[0] == (uint64_t)user_target,
           "%u traps: %lx, want %lx", steps, step_rip[0], (uint64_t)user_target);
    write_cr4(cr4);
    wrmsr(IA32_DEBUGCTL, 0);
    trap_handlers[EXC_DB] = NULL;
    static char *const want[] = {step_target, step_call, step_back};
    bool ok = in_ring0 == 3;
    for (unsigned i = 0; i < 3; i++)
        ok = ok && first[i] == (uint64_t)want[i];
    report("btf-branches", "SDM 3B 17.4.3: with BTF, TF traps after taken branches only", ok,
           "%u traps: %lx %lx %lx, want %lx %lx %lx", in_ring0, first[0], first[1], first[2],
           (uint64_t)step_target, (uint64_t)step_call, (uint64_t)step_back);
    report("btf-dr6", "SDM 3B 17.2.3: DR6.BS after a branch that is stepped to", step_dr6[0] >> 14 & 1,
           "DR6 %lx", step_dr6[0]);
    report("btf-cleared", "SDM 3B 17.4.3: the debug exception clears BTF", !(step_debugctl[0] & DEBUGCTL_BTF),
           "IA32_DEBUGCTL %lx", step_debugctl[0]);
    branches_to_next();
}

/* -- LBR ----------------------------------------------------------------------------------------------- */

extern char lbr_code[], lbr_a[], lbr_b[], lbr_c[], lbr_d[], lbr_f[], lbr_g[], lbr_ud[], lbr_plain[],
    lbr_next[], lbr_jz[], lbr_here[];
asm(".pushsection .text\n"
    "lbr_code: mov $0x1d9, %ecx; mov $1, %eax; xor %edx, %edx; wrmsr\n"
    "lbr_a: jmp lbr_b; nop\n"
    "lbr_b: call lbr_f\n"
    "lbr_c: xor %eax, %eax\n"
    "lbr_d: jnz lbr_b\n"
    "lbr_ud: ud2\n"
    "mov $0x1d9, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr; ret\n"
    "lbr_f: nop\nlbr_g: ret\n"
    "lbr_plain: mov $0x1d9, %ecx; mov $1, %eax; xor %edx, %edx; wrmsr\n"
    "jmp 1f; nop; 1: call lbr_f; xor %eax, %eax; jnz 1b; wrmsr; ret\n"
    "lbr_next: mov $0x1d9, %ecx; mov $1, %eax; xor %edx, %edx; wrmsr\n"
    "lbr_jz: jz lbr_here; lbr_here: jnz lbr_there; lbr_there: xor %eax, %eax; wrmsr; ret\n"
    ".popsection");

static bool ud_handler(struct trap_frame *f)
{
    wrmsr(IA32_DEBUGCTL, 0);
    f->rip += 2;
    return true;
}

static uint64_t from_ip(unsigned n)
{
    return rdmsr(MSR_LASTBRANCH_0_FROM_IP + n % LBR_DEPTH);
}
static uint64_t to_ip(unsigned n)
{
    return rdmsr(MSR_LASTBRANCH_0_TO_IP + n % LBR_DEPTH);
}

static void check_record(const char *name, const char *rule, unsigned n, char *from, char *to)
{
    report(name, rule, from_ip(n) == (uint64_t)from && (!to || to_ip(n) == (uint64_t)to), "%lx to %lx",
           from_ip(n), to_ip(n));
}

static void filters(unsigned top)
{
    wrmsr(MSR_LBR_SELECT, 1 << 7 | 1 << 8 | 1 << 5); /* no jumps, no far branches, no returns */
    call_at((uint64_t)lbr_plain);
    check_equal("lbr-select", "SDM 3B 17.4.8.2: MSR_LBR_SELECT leaves branches out",
                rdmsr(MSR_LASTBRANCH_TOS), (top + 1) % LBR_DEPTH);
    wrmsr(MSR_LBR_SELECT, 1);
    call_at((uint64_t)lbr_plain);
    check_equal("lbr-select-cpl0", "SDM 3B 17.4.8.2: CPL_EQ_0 leaves ring 0 out", rdmsr(MSR_LASTBRANCH_TOS),
                (top + 1) % LBR_DEPTH);
    wrmsr(MSR_LBR_SELECT, 1 << 9 | 1 << 7 | 1 << 8);
    call_at((uint64_t)lbr_plain);
    check_equal("lbr-call-stack", "SDM 3B 17.12.1: in call-stack mode a return takes its call away",
                rdmsr(MSR_LASTBRANCH_TOS), (top + 1) % LBR_DEPTH);
    wrmsr(MSR_LBR_SELECT, 0);
    check_trap("lbr-select-reserved", "SDM 4 table 2-29: reserved bits", TRY(wrmsr(MSR_LBR_SELECT, 1 << 10)),
               EXC_GP, 0);
}

static void last_branches(void)
{
    volatile uint64_t there = 0;
    struct trap t = TRY(rdmsr(MSR_LASTBRANCH_0_FROM_IP + LBR_DEPTH - 1); wrmsr(MSR_LBR_SELECT, 2);
                        there = rdmsr(MSR_LBR_SELECT); wrmsr(MSR_LBR_SELECT, 0));
    if (t.vector != VECTOR_NONE || !there) {
        report_skip("lbr", "SDM 3B 17.12", "no last branch records of this model");
        return;
    }
    unsigned top = rdmsr(MSR_LASTBRANCH_TOS);
    trap_handlers[EXC_UD] = ud_handler;
    call_at((uint64_t)lbr_code);
    static const char rule[] = "SDM 3B 17.4.2: taken branches and exceptions are recorded";
    unsigned now = rdmsr(MSR_LASTBRANCH_TOS);
    report("lbr-tos", "SDM 3B 17.12: TOS moves by one a record", now != top && (now - top) % LBR_DEPTH >= 4,
           "%u to %u", top, now);
    check_record("lbr-jump", rule, top + 1, lbr_a, lbr_b);
    check_record("lbr-call", rule, top + 2, lbr_b, lbr_f);
    check_record("lbr-return", rule, top + 3, lbr_g, lbr_c);
    check_record("lbr-exception", rule, top + 4, lbr_ud, NULL);
    report("ler", "SDM 3B 17.12: the last branch before the exception",
           rdmsr(MSR_LER_FROM_LIP) == (uint64_t)lbr_g && rdmsr(MSR_LER_TO_LIP) == (uint64_t)lbr_c,
           "%lx to %lx", rdmsr(MSR_LER_FROM_LIP), rdmsr(MSR_LER_TO_LIP));
    call_at((uint64_t)lbr_next);
    unsigned next = rdmsr(MSR_LASTBRANCH_TOS);
    check_equal("lbr-next-tos", rule, (next - now) % LBR_DEPTH, 1);
    check_record("lbr-next", rule, next, lbr_jz, lbr_here);
    filters(next);
    trap_handlers[EXC_UD] = NULL;
    /* A debug exception turns recording off. */
    trap_handlers[EXC_DB] = step_handler;
    steps = 7;
    wrmsr(IA32_DEBUGCTL, DEBUGCTL_LBR);
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
    check_equal("lbr-cleared", "SDM 3B 17.4.2: a debug exception clears LBR", step_debugctl[7] & DEBUGCTL_LBR,
                0);
    wrmsr(IA32_DEBUGCTL, 0);
    trap_handlers[EXC_DB] = NULL;
}

void guest_main(void)
{
    interrupted_rep();
    jump_to_self();
    branch_steps();
    last_branches();
}
