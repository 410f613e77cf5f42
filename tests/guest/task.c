/*
 * task.c -- hardware task switches outside IA-32e mode: SDM 3A chapter 7, "Task Management".
 *
 * Each case starts in the library's task (SEL_TSS32) by legacy_run() and switches to a task of its own, whose
 * code pushes all that it finds and ends with INT 80H. What a switch leaves in the TSSs and in the GDT is
 * looked at afterwards.
 */
#include "guest.h"

#define NEW  (SEL_TEST)      /* TSS of the new task */
#define GATE (SEL_TEST + 8)  /* task gate to it */
#define LDT  (SEL_TEST + 16) /* LDT of the new task */
#define D0   (SEL_TEST + 24) /* a segment for the new task */

#define TSS_PRESENT_AVAILABLE   0x89
#define TSS_PRESENT_AVAILABLE16 0x81

struct tss32_image {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi,
        es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
};
struct tss16_image {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds,
        ldt;
};
extern struct tss32_image tss32;
static struct tss32_image task;
static struct tss16_image task16;

/* What the new task pushed, lowest address first. */
struct seen {
    uint32_t dr7, gs, fs, ds, ss, cs, es, cr3, cr0, ldt, tr, edi, esi, ebp, esp, ebx, edx, ecx, eax, eflags;
};
static uint32_t task_stack[256];
uint32_t task_stack0[256];
#define SEEN                                                                                                 \
    "pushfl\n pushal\n str %eax\n push %eax\n sldt %eax\n push %eax\n mov %cr0, %eax\n push %eax\n"          \
    "mov %cr3, %eax\n push %eax\n push %es\n push %cs\n push %ss\n push %ds\n push %fs\n push %gs\n"         \
    "mov %dr7, %eax\n push %eax"
USER_CODE(task_look, 32, SEEN);
USER_CODE(task_look_and_return, 32, SEEN "\n iretl");
USER_CODE(task_user, 32, "mov $0x1234, %eax");
USER_CODE(jump_new, 32, "ljmp $0x60, $0\n mov $0x77, %ecx");
USER_CODE(call_new, 32, "lcall $0x60, $0\n mov $0x77, %ecx");
USER_CODE(jump_gate, 32, "ljmp $0x68, $0\n mov $0x77, %ecx");
USER_CODE(call_gate, 32, "lcall $0x68, $0\n mov $0x77, %ecx");
USER_CODE(call_new_rpl3, 32, "lcall $0x63, $0");
USER_CODE(jump_null, 32, "ljmp $0, $0");
USER_CODE(jump_ldt, 32, "ljmp $0x64, $0");
USER_CODE(jump_limit, 32, "ljmp $0x200, $0");
USER_CODE(int_42, 32, "int $0x42\n mov $0x77, %ecx");
USER_CODE(raise_ud, 32, "ud2");
USER_CODE(raise_gp, 32, "mov $0x201, %eax\n mov %eax, %es");
USER_CODE(lose_stack, 32, "mov $0x80, %eax\n mov %eax, %ss\n mov $0x1000, %esp\n push %eax");
USER_CODE(iret_nested, 32, "pushfl\n orl $0x4000, (%esp)\n popfl\n iretl");
USER_CODE(jump_debug, 32, "mov $0x7ff, %eax\n mov %eax, %dr7\n ljmp $0x60, $0");

static uint32_t address(const void *p)
{
    return (uint32_t)(uint64_t)p;
}

static struct seen *seen(void)
{
    return (struct seen *)((uint8_t *)task_stack + sizeof task_stack - sizeof(struct seen));
}

static struct seen *seen_below(unsigned bytes)
{
    return (struct seen *)((uint8_t *)seen() - bytes);
}

/* A new task at CPL 0 that looks around; its descriptors as they should be. */
static void prepare(const void *code)
{
    memset(legacy_gates, 0, sizeof legacy_gates);
    memset(task_stack, 0, sizeof task_stack);
    task = (struct tss32_image){.esp0 = address(task_stack0 + 256),
                                .ss0 = SEL_DATA,
                                .cr3 = 0x00123000,
                                .eip = address(code),
                                .eflags = 0x246,
                                .eax = 0xa0a0a0a0,
                                .ecx = 0xc0c0c0c0,
                                .edx = 0xd0d0d0d0,
                                .ebx = 0xb0b0b0b0,
                                .esp = address(task_stack + 256),
                                .ebp = 0xb1b1b1b1,
                                .esi = 0x51515151,
                                .edi = 0xd1d1d1d1,
                                .es = SEL_USER_DATA,
                                .cs = SEL_CODE32,
                                .ss = SEL_DATA,
                                .ds = SEL_DATA,
                                .fs = D0,
                                .gs = 0,
                                .ldt = LDT};
    gdt_set(NEW, descriptor(address(&task), 103, TSS_PRESENT_AVAILABLE));
    gdt_set(GATE, (uint64_t)NEW << 16 | 0xe5ul << 40);
    gdt_set(LDT, descriptor(address(gdt), 0x7f, 0x82));
    gdt_set(D0, descriptor(0x1000, 0xff, 0x92));
}

/* The new task at CPL 3: a fault of its own finds a stack by its TSS. */
static void prepare_user(void)
{
    prepare(task_user);
    task.cs = SEL_USER_CODE32;
    task.ss = task.ds = SEL_USER_DATA;
    task.fs = 0;
}

static struct legacy run_cpl(const void *code, bool user)
{
    struct legacy l = {.eip = address(code),
                       .cs = user ? SEL_USER_CODE32 : SEL_CODE32,
                       .eflags = 0x8d7,
                       .ss = user ? SEL_USER_DATA : SEL_DATA,
                       .ds = user ? SEL_USER_DATA : SEL_DATA,
                       .esp = address(user_stack) + sizeof user_stack,
                       .eax = 0x11111111,
                       .ebx = 0x22222222,
                       .ecx = 0x33333333,
                       .edx = 0x44444444,
                       .esi = 0x55555555,
                       .edi = 0x66666666,
                       .ebp = 0x77777777};
    legacy_run(&l);
    return l;
}
#define RUN(code) run_cpl(code, false)

static bool busy(unsigned selector)
{
    return gdt[selector / 8] >> 41 & 1;
}

/* -- What a switch does -------------------------------------------------------------------------------- */

static void check_loaded(const char *name, const struct legacy *l, const struct seen *s, uint32_t eflags)
{
    const char *rule = "SDM 3A 7.3 Task Switching, steps 11 to 14: the new task's state";
    char slug[48];
    format_text(slug, sizeof slug, "%s-registers", name);
    report(slug, rule,
           l->vector == VECTOR_RETURN && s->eax == 0xa0a0a0a0 && s->ecx == 0xc0c0c0c0 &&
               s->edx == 0xd0d0d0d0 && s->ebx == 0xb0b0b0b0 && s->ebp == 0xb1b1b1b1 && s->esi == 0x51515151 &&
               s->edi == 0xd1d1d1d1 && s->esp == task.esp - 4,
           "vector %x error %x at %x:%x EAX %x ECX %x EDX %x EBX %x ESP %x", l->vector, l->error, l->out_cs,
           l->out_eip, s->eax, s->ecx, s->edx, s->ebx, s->esp);
    format_text(slug, sizeof slug, "%s-segments", name);
    report(slug, rule,
           (uint16_t)s->es == SEL_USER_DATA && (uint16_t)s->cs == SEL_CODE32 && (uint16_t)s->ss == SEL_DATA &&
               (uint16_t)s->ds == SEL_DATA && (uint16_t)s->fs == D0 && (uint16_t)s->gs == 0 &&
               s->ldt == LDT && s->tr == NEW,
           "ES %x CS %x SS %x DS %x FS %x GS %x LDTR %x TR %x", s->es, s->cs, s->ss, s->ds, s->fs, s->gs,
           s->ldt, s->tr);
    format_text(slug, sizeof slug, "%s-eflags", name);
    report(slug, "SDM 3A 7.3 step 9: NT is set by CALL and interrupts", s->eflags == eflags,
           "EFLAGS %x, want %x", s->eflags, eflags);
    format_text(slug, sizeof slug, "%s-ts", name);
    report(slug, "SDM 3A 2.5 CR0.TS is set by every task switch", s->cr0 & CR0_TS, "CR0 %x", s->cr0);
    format_text(slug, sizeof slug, "accessed-%s", name);
    report(slug, "SDM 3A 3.4.5.1: the accessed bit of a loaded segment", gdt[D0 / 8] >> 40 & 1,
           "descriptor %lx", gdt[D0 / 8]);
}

static void check_saved(const char *name, uint32_t eip, uint32_t eflags)
{
    char slug[48];
    format_text(slug, sizeof slug, "%s-saved", name);
    report(slug, "SDM 3A 7.3 step 8: the old task's state",
           tss32.eip == eip && tss32.eflags == eflags && tss32.eax == 0x11111111 && tss32.ebx == 0x22222222 &&
               tss32.ecx == 0x33333333 && tss32.edx == 0x44444444 && tss32.esi == 0x55555555 &&
               tss32.edi == 0x66666666 && tss32.ebp == 0x77777777 &&
               tss32.esp == address(user_stack) + sizeof user_stack && (uint16_t)tss32.cs == SEL_CODE32 &&
               (uint16_t)tss32.ss == SEL_DATA && (uint16_t)tss32.ds == SEL_DATA,
           "EIP %x (want %x) EFLAGS %x (want %x) EAX %x ESP %x CS %x", tss32.eip, eip, tss32.eflags, eflags,
           tss32.eax, tss32.esp, tss32.cs);
}

static void check_links(const char *name, bool old_busy, bool new_busy, bool linked)
{
    char slug[48];
    format_text(slug, sizeof slug, "%s-busy", name);
    report(slug, "SDM 3A Table 7-2 Effect of a Task Switch on Busy Flag, NT Flag, Previous Task Link Field",
           busy(SEL_TSS32) == old_busy && busy(NEW) == new_busy &&
               (uint16_t)task.link == (linked ? SEL_TSS32 : 0),
           "old busy %d new busy %d link %x", busy(SEL_TSS32), busy(NEW), task.link);
}

static void switches(void)
{
    prepare(task_look);
    struct legacy l = RUN(jump_new);
    check_loaded("jmp", &l, seen(), 0x246);
    check_saved("jmp", address(jump_new) + 7, 0x8d7);
    check_links("jmp", false, true, false);
    prepare(task_look);
    l = RUN(call_new);
    check_loaded("call", &l, seen(), 0x4246);
    check_saved("call", address(call_new) + 7, 0x8d7);
    check_links("call", true, true, true);
    prepare(task_look);
    l = RUN(jump_gate);
    check_loaded("jmp-gate", &l, seen(), 0x246);
    check_links("jmp-gate", false, true, false);
    prepare(task_look);
    l = RUN(call_gate);
    check_loaded("call-gate", &l, seen(), 0x4246);
    check_links("call-gate", true, true, true);
    prepare(task_look);
    legacy_gates[0x42] = (uint64_t)NEW << 16 | 0xe5ul << 40;
    l = RUN(int_42);
    check_loaded("int", &l, seen(), 0x4246);
    check_saved("int", address(int_42) + 2, 0x8d7);
    check_links("int", true, true, true);
    prepare(task_look);
    legacy_gates[EXC_UD] = (uint64_t)NEW << 16 | 0x85ul << 40;
    l = RUN(raise_ud);
    check_loaded("fault", &l, seen(), 0x4246);
    check_saved("fault", address(raise_ud), 0x108d7);
    check_links("fault", true, true, true);

    /* An error code goes to the new task's stack. */
    prepare(task_look);
    legacy_gates[EXC_GP] = (uint64_t)NEW << 16 | 0x85ul << 40;
    l = RUN(raise_gp);
    report("fault-error-code", "SDM 3A 6.13: the error code is pushed on the stack of the new task",
           l.vector == VECTOR_RETURN && task_stack[255] == 0x200 && seen_below(4)->esp == task.esp - 8,
           "vector %x stack %x ESP %x", l.vector, task_stack[255], seen_below(4)->esp);

    /* A stack that no handler can use: what task gates are for. */
    prepare(task_look);
    gdt_set(D0 + 8, descriptor(0x1000, 0xff, 0x93 | DESC_DB));
    legacy_gates[EXC_DF] = (uint64_t)NEW << 16 | 0x85ul << 40;
    l = RUN(lose_stack);
    report("double-fault", "SDM 3A 6.15 Interrupt 8: #SS during the delivery of #SS, by a task gate",
           l.vector == VECTOR_RETURN && task_stack[255] == 0 && seen_below(4)->esp == task.esp - 8 &&
               tss32.eip == address(lose_stack_end) - 3 && (uint16_t)tss32.ss == D0 + 8 &&
               tss32.esp == 0x1000 && (uint16_t)task.link == SEL_TSS32,
           "%s(%x) stack %x saved EIP %x SS %x ESP %x", trap_name(l.vector), l.error, task_stack[255],
           tss32.eip, tss32.ss, tss32.esp);

    /* There and back. */
    prepare(task_look_and_return);
    l = RUN(call_new);
    report("call-iret", "SDM 3A 7.4 Task Linking: IRET with NT goes back",
           l.vector == VECTOR_RETURN && l.ecx == 0x77 && l.eax == 0x11111111 && l.ebp == 0x77777777 &&
               l.out_esp == address(user_stack) + sizeof user_stack && l.out_eflags == 0x8d7,
           "vector %x EAX %x ECX %x ESP %x EFLAGS %x", l.vector, l.eax, l.ecx, l.out_esp, l.out_eflags);
    report("call-iret-abandoned", "SDM 3A 7.3 steps 6, 7: IRET clears busy, and NT in the saved image",
           !busy(NEW) && busy(SEL_TSS32) && task.eflags == 0x246 &&
               task.eip == address(task_look_and_return_end) - 2,
           "busy %d %d EFLAGS %x EIP %x", busy(NEW), busy(SEL_TSS32), task.eflags, task.eip);
    prepare(task_look_and_return);
    l = run_cpl(call_gate, true);
    report("call-gate-ring3", "SDM 3A 7.2.5 Task-Gate Descriptor: a DPL-3 gate lets ring 3 switch",
           l.vector == VECTOR_RETURN && l.ecx == 0x77 && l.out_cs == SEL_USER_CODE32,
           "vector %x error %x ECX %x", l.vector, l.error, l.ecx);
    prepare(task_user);
    task.cs = SEL_USER_CODE32;
    task.ss = task.ds = SEL_USER_DATA;
    task.fs = 0;
    l = RUN(jump_new);
    report("jmp-ring3", "SDM 3A 7.3: CPL is the RPL of CS in the TSS",
           l.vector == VECTOR_RETURN && l.out_cs == SEL_USER_CODE32 && l.eax == 0x1234,
           "vector %x error %x CS %x", l.vector, l.error, l.out_cs);

    prepare(task_look);
    l = RUN(jump_debug);
    report("dr7-local", "SDM 3B 17.2.4: local enables are cleared by a task switch",
           l.vector == VECTOR_RETURN && (seen()->dr7 & 0x3ff) == 0x2aa, "DR7 %x", seen()->dr7);
    write_dr7(0x400);
    prepare(task_look);
    task.trap = 1;
    write_dr6(0xffff0ff0);
    l = RUN(jump_new);
    uint64_t dr6 = read_dr6();
    report("t-flag", "SDM 3B 17.3.1.5 Task-Switch Exception Condition",
           l.vector == EXC_DB && l.out_eip == task.eip && (dr6 & 0xe00f) == 0x8000,
           "vector %x EIP %x DR6 %lx", l.vector, l.out_eip, dr6);
    write_dr6(0xffff0ff0);
}

/* -- 16-bit TSS ---------------------------------------------------------------------------------------- */

static void prepare16(const void *code)
{
    prepare(code);
    /* Segments whose bases bring code and stack into 16 bits. */
    gdt_set(D0, descriptor(address(code), 0xffff, 0x9b | DESC_DB));
    gdt_set(D0 + 8, descriptor(address(task_stack), 0xffff, 0x93 | DESC_DB));
    gdt_set(D0 + 16, descriptor(address(&task), 103, TSS_PRESENT_AVAILABLE));
    task16 = (struct tss16_image){.ip = 0,
                                  .flags = 0x246,
                                  .ax = 0xa0a0,
                                  .cx = 0xc0c0,
                                  .dx = 0xd0d0,
                                  .bx = 0xb0b0,
                                  .sp = sizeof task_stack,
                                  .bp = 0xb1b1,
                                  .si = 0x5151,
                                  .di = 0xd1d1,
                                  .es = SEL_USER_DATA,
                                  .cs = D0,
                                  .ss = D0 + 8,
                                  .ds = SEL_DATA,
                                  .ldt = LDT};
    gdt_set(NEW, descriptor(address(&task16), 43, TSS_PRESENT_AVAILABLE16));
}
/* ESP's upper half is not known, so what is pushed must not depend on it. The library wants flat segments,
 * and IA-32e mode does not start with a 16-bit TSS in TR. */
USER_CODE(task16_look, 32,
          "movzwl %sp, %esp\n" SEEN "\n mov $0x10, %eax\n mov %eax, %ss\n mov $task_stack0 + 1024, %esp\n"
          "mov $0x88, %eax\n ltr %ax");
USER_CODE(task16_return, 32, "movzwl %sp, %esp\n iretl");

/* Refused at the MOV to CR0; the handler puts the library's TSS back. */
USER_CODE(tss16_and_long, 32, "mov $0x60, %eax\n ltr %ax\n mov %cr0, %eax\n bts $31, %eax\n mov %eax, %cr0");
USER_CODE(gp_then_tss32, 32,
          "andb $0xfd, gdt + 0x5d\n mov $0x58, %eax\n ltr %ax\n jmp trap_stubs32 + 13 * 16");

static uint64_t gate32(const void *handler)
{
    uint64_t at = address(handler);
    return (at & 0xffff) | (uint64_t)SEL_CODE32 << 16 | 0x8eul << 40 | at >> 16 << 48;
}

static void tss16(void)
{
    const char *rule = "SDM 3A 7.6 16-Bit Task-State Segment";
    prepare16(task16_look);
    struct legacy l = RUN(jump_new);
    struct seen *s = seen();
    report("tss16-load", rule,
           l.vector == VECTOR_RETURN && (uint16_t)s->eax == 0xa0a0 && (uint16_t)s->ecx == 0xc0c0 &&
               (uint16_t)s->edx == 0xd0d0 && (uint16_t)s->ebx == 0xb0b0 && (uint16_t)s->ebp == 0xb1b1 &&
               (uint16_t)s->esi == 0x5151 && (uint16_t)s->edi == 0xd1d1 && s->eflags == 0x246,
           "vector %x error %x EAX %x ECX %x EDX %x EBX %x EFLAGS %x", l.vector, l.error, s->eax, s->ecx,
           s->edx, s->ebx, s->eflags);
    report("tss16-segments", rule,
           (uint16_t)s->es == SEL_USER_DATA && (uint16_t)s->cs == D0 && (uint16_t)s->ss == D0 + 8 &&
               (uint16_t)s->fs == 0 && (uint16_t)s->gs == 0 && s->ldt == LDT && s->tr == NEW,
           "ES %x CS %x SS %x FS %x GS %x LDTR %x TR %x", s->es, s->cs, s->ss, s->fs, s->gs, s->ldt, s->tr);
    check_saved("tss16", address(jump_new) + 7, 0x8d7);
    report("tss16-busy", "SDM 3A Table 7-2", !busy(SEL_TSS32) && busy(NEW), "busy %d %d", busy(SEL_TSS32),
           busy(NEW));
    prepare16(task16_return);
    l = RUN(call_new);
    report("tss16-call-iret", rule,
           l.vector == VECTOR_RETURN && l.ecx == 0x77 && l.eax == 0x11111111 && task16.link == SEL_TSS32 &&
               task16.flags == 0x246 && task16.ip == (uint16_t)(task16_return_end - task16_return - 2) &&
               task16.ax == 0xa0a0 && task16.cs == D0,
           "vector %x error %x ECX %x link %x FLAGS %x IP %x", l.vector, l.error, l.ecx, task16.link,
           task16.flags, task16.ip);
    prepare(task_look);
    gdt_set(NEW, descriptor(address(&task16), 43, TSS_PRESENT_AVAILABLE16));
    legacy_gates[EXC_GP] = gate32(gp_then_tss32);
    struct legacy p = {.eip = address(tss16_and_long),
                       .cs = SEL_CODE32,
                       .eflags = 2,
                       .ss = SEL_DATA,
                       .ds = SEL_DATA,
                       .esp = address(user_stack) + sizeof user_stack,
                       .cr3 = address(boot_pml4),
                       .cr4 = (uint32_t)CR4_PAE,
                       .efer = (uint32_t)EFER_LME};
    if (enabled("tss16-long-mode", "SDM 2 MOV CR")) {
        legacy_run(&p);
        report("tss16-long-mode", "SDM 2 MOV CR #GP(0): IA-32e mode with a 16-bit TSS in TR",
               p.vector == EXC_GP && p.error == 0 && p.out_eip == address(tss16_and_long_end) - 5,
               "%s(%x) at %x", trap_name(p.vector), p.error, p.out_eip);
    }
    prepare16(task16_return);
    gdt_set(NEW, descriptor(address(&task16), 42, TSS_PRESENT_AVAILABLE16));
    l = RUN(call_new);
    report("tss16-limit", "SDM 3A Table 7-1: limit of a 16-bit TSS below 2BH",
           l.vector == EXC_TS && l.error == NEW, "vector %x error %x", l.vector, l.error);
}

/* -- Faults of the old task ---------------------------------------------------------------------------- */

static void check_before(const char *name, const char *rule, struct legacy l, const void *code,
                         unsigned vector, uint32_t error)
{
    report(name, rule,
           l.vector == vector && l.error == error && l.out_eip == address(code) && busy(SEL_TSS32) &&
               l.eax == 0x11111111 && l.ebp == 0x77777777,
           "%s(%x) at %x:%x busy %d EAX %x, want %s(%x)", trap_name(l.vector), l.error, l.out_cs, l.out_eip,
           busy(SEL_TSS32), l.eax, trap_name(vector), error);
}

static void faults_before(void)
{
    const char *rule = "SDM 3A Table 7-1 Exception Conditions Checked During a Task Switch";
    prepare(task_look);
    check_before("jmp-null", "SDM 2 JMP #GP(0)", RUN(jump_null), jump_null, EXC_GP, 0);
    check_before("jmp-beyond-gdt", rule, RUN(jump_limit), jump_limit, EXC_GP, 0x200);
    check_before("jmp-in-ldt", rule, RUN(jump_ldt), jump_ldt, EXC_GP, 0x64);
    check_before("call-dpl", "SDM 3A 7.2.2: DPL of a TSS descriptor", run_cpl(call_new, true), call_new,
                 EXC_GP, NEW);
    check_before("call-rpl", "SDM 3A 7.2.2: RPL counts", RUN(call_new_rpl3), call_new_rpl3, EXC_GP, NEW);
    gdt_set(NEW, descriptor(address(&task), 103, TSS_PRESENT_AVAILABLE | 2));
    check_before("jmp-busy", "SDM 3A 7.4.1: no recursion", RUN(jump_new), jump_new, EXC_GP, NEW);
    check_before("gate-busy", rule, RUN(jump_gate), jump_gate, EXC_GP, NEW);
    gdt_set(NEW, descriptor(address(&task), 103, TSS_PRESENT_AVAILABLE & ~0x80));
    check_before("jmp-not-present", rule, RUN(jump_new), jump_new, EXC_NP, NEW);
    check_before("gate-tss-not-present", rule, RUN(call_gate), call_gate, EXC_NP, NEW);
    gdt_set(NEW, descriptor(address(&task), 0x66, TSS_PRESENT_AVAILABLE));
    check_before("jmp-limit", rule, RUN(jump_new), jump_new, EXC_TS, NEW);
    prepare(task_look);
    gdt_set(GATE, (uint64_t)NEW << 16 | 0x65ul << 40);
    check_before("gate-not-present", "SDM 2 JMP #NP(gate)", RUN(jump_gate), jump_gate, EXC_NP, GATE);
    gdt_set(GATE, (uint64_t)NEW << 16 | 0x85ul << 40);
    check_before("gate-dpl", "SDM 2 CALL #GP(gate)", run_cpl(call_gate, true), call_gate, EXC_GP, GATE);
    gdt_set(GATE, (uint64_t)(NEW | 4) << 16 | 0xe5ul << 40);
    check_before("gate-tss-in-ldt", "SDM 3A 7.2.5 #GP(TSS)", RUN(jump_gate), jump_gate, EXC_GP, NEW | 4);
    gdt_set(GATE, (uint64_t)SEL_DATA << 16 | 0xe5ul << 40);
    check_before("gate-no-tss", "SDM 2 JMP #GP(TSS)", RUN(jump_gate), jump_gate, EXC_GP, SEL_DATA);

    prepare(task_look);
    legacy_gates[0x42] = (uint64_t)NEW << 16 | 0x85ul << 40;
    check_before("int-gate-dpl", "SDM 2 INT n #GP(vector)", run_cpl(int_42, true), int_42, EXC_GP,
                 0x42 * 8 + 2);
    legacy_gates[0x42] = (uint64_t)NEW << 16 | 0x65ul << 40;
    check_before("int-gate-not-present", "SDM 2 INT n #NP(vector)", RUN(int_42), int_42, EXC_NP,
                 0x42 * 8 + 2);
    legacy_gates[0x42] = (uint64_t)SEL_TSS32 << 16 | 0x85ul << 40;
    check_before("int-busy", rule, RUN(int_42), int_42, EXC_GP, SEL_TSS32);
    legacy_gates[EXC_UD] = (uint64_t)SEL_TSS32 << 16 | 0x85ul << 40;
    check_before("fault-busy", "SDM 3A 6.13: EXT in the error code of an exception's delivery", RUN(raise_ud),
                 raise_ud, EXC_GP, SEL_TSS32 | 1);

    /* IRET's task is in the link field of the TSS that runs. The library clears no more than what it sets. */
    prepare(task_look);
    const uint8_t *iret = (uint8_t *)iret_nested_end - 3;
    tss32.link = NEW;
    check_before("iret-not-busy", rule, RUN(iret_nested), iret, EXC_TS, NEW);
    tss32.link = SEL_DATA;
    check_before("iret-no-tss", "SDM 2 IRET #TS(TSS)", RUN(iret_nested), iret, EXC_TS, SEL_DATA);
    tss32.link = NEW | 4;
    check_before("iret-in-ldt", "SDM 2 IRET #TS(TSS)", RUN(iret_nested), iret, EXC_TS, NEW | 4);
    tss32.link = 0x200;
    check_before("iret-beyond-gdt", rule, RUN(iret_nested), iret, EXC_TS, 0x200);
    tss32.link = NEW;
    gdt_set(NEW, descriptor(address(&task), 103, 0x0b));
    check_before("iret-not-present", rule, RUN(iret_nested), iret, EXC_NP, NEW);
    gdt_set(NEW, descriptor(address(&task), 102, 0x8b));
    check_before("iret-limit", rule, RUN(iret_nested), iret, EXC_TS, NEW);
    gdt_set(NEW, descriptor(address(&task), 103, 0x8b));
    struct legacy l = RUN(iret_nested);
    report("iret-busy", "SDM 3A 7.4: IRET goes to a busy task",
           l.vector == VECTOR_RETURN && seen()->tr == NEW && seen()->eflags == 0x246 && !busy(SEL_TSS32) &&
               busy(NEW) && !(tss32.eflags & RFLAGS_NT) && task.link == 0,
           "%s(%x) TR %x EFLAGS %x saved %x", trap_name(l.vector), l.error, seen()->tr, seen()->eflags,
           tss32.eflags);
    tss32.link = 0;
}

/* -- Faults of the new task ---------------------------------------------------------------------------- */

static void check_after(const char *name, struct legacy l, unsigned vector, uint32_t error)
{
    char slug[48];
    format_text(slug, sizeof slug, "new-%s", name);
    report(slug, "SDM 3A 7.3 step 13: after the commit point the exception is the new task's",
           l.vector == vector && l.error == error && l.out_eip == task.eip && l.out_cs == task.cs &&
               !busy(SEL_TSS32) && busy(NEW) && tss32.eip == address(jump_new) + 7,
           "%s(%x) at %x:%x busy %d %d saved EIP %x, want %s(%x)", trap_name(l.vector), l.error, l.out_cs,
           l.out_eip, busy(SEL_TSS32), busy(NEW), tss32.eip, trap_name(vector), error);
}

static void faults_after(void)
{
    struct {
        const char *name;
        uint32_t *field; /* of the new TSS */
        uint32_t value;
        uint64_t d0; /* descriptor at D0 */
        unsigned vector;
        uint32_t error;
    } list[] = {
        {"ldt-in-ldt", &task.ldt, LDT | 4, 0, EXC_TS, LDT | 4},
        {"ldt-beyond-gdt", &task.ldt, 0x200, 0, EXC_TS, 0x200},
        {"ldt-type", &task.ldt, SEL_DATA, 0, EXC_TS, SEL_DATA},
        {"ldt-not-present", &task.ldt, D0, descriptor(0, 0xff, 0x02), EXC_TS, D0},
        {"cs-null", &task.cs, 3, 0, EXC_TS, 0},
        {"cs-beyond-gdt", &task.cs, 0x203, 0, EXC_TS, 0x200},
        {"cs-data", &task.cs, SEL_USER_DATA, 0, EXC_TS, SEL_USER_DATA & ~3u},
        {"cs-dpl", &task.cs, SEL_CODE32 | 3, 0, EXC_TS, SEL_CODE32},
        {"cs-not-present", &task.cs, D0 | 3, descriptor(0, 0xfffff, 0x7b | DESC_DB | DESC_G), EXC_NP, D0},
        {"ss-null", &task.ss, 0, 0, EXC_TS, 0},
        {"ss-rpl", &task.ss, SEL_USER_DATA & ~3u, 0, EXC_TS, SEL_USER_DATA & ~3u},
        {"ss-dpl", &task.ss, SEL_DATA | 3, 0, EXC_TS, SEL_DATA},
        {"ss-code", &task.ss, SEL_USER_CODE32, 0, EXC_TS, SEL_USER_CODE32 & ~3u},
        {"ss-not-present", &task.ss, D0 | 3, descriptor(0, 0xfffff, 0x73 | DESC_DB | DESC_G), EXC_SS, D0},
        {"ds-beyond-gdt", &task.ds, 0x203, 0, EXC_TS, 0x200},
        {"ds-dpl", &task.ds, SEL_DATA, 0, EXC_TS, SEL_DATA},
        {"es-system", &task.es, LDT, 0, EXC_TS, LDT},
        {"fs-not-present", &task.fs, D0 | 3, descriptor(0, 0xfffff, 0x73 | DESC_DB | DESC_G), EXC_NP, D0},
        {"gs-execute-only", &task.gs, D0 | 3, descriptor(0, 0xfffff, 0xf9 | DESC_DB | DESC_G), EXC_TS, D0},
        {"gs-beyond-ldt", &task.gs, 0x87, 0, EXC_TS, 0x84},
    };
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        if (!enabled(list[i].name, "SDM 3A Table 7-1")) {
            continue;
        }
        prepare_user();
        *list[i].field = list[i].value;
        gdt_set(D0, list[i].d0);
        check_after(list[i].name, RUN(jump_new), list[i].vector, list[i].error);
    }
    /* A stack that fits CPL 1, so that the order of the checks does not matter. */
    prepare_user();
    gdt_set(D0, descriptor(0, 0xfffff, 0xff | DESC_DB | DESC_G));
    gdt_set(D0 + 8, descriptor(0, 0xfffff, 0xb3 | DESC_DB | DESC_G));
    task.cs = D0 | 1;
    task.ss = (D0 + 8) | 1;
    check_after("cs-conforming-dpl", RUN(jump_new), EXC_TS, D0);
    prepare_user();
    gdt_set(D0, descriptor(address(task_user), 0, 0xfb | DESC_DB));
    task.cs = D0 | 3;
    task.eip = 1;
    check_after("eip-beyond-cs", RUN(jump_new), EXC_GP, 0);
    prepare_user();
    task.gs = D0 | 7; /* an entry of the LDT, which lies on the GDT */
    gdt_set(D0, descriptor(0x1000, 0xff, 0xf3));
    struct legacy l = RUN(jump_new);
    report("gs-in-ldt", "SDM 3A 7.3: LDTR is loaded before the segments", l.vector == VECTOR_RETURN, "%s(%x)",
           trap_name(l.vector), l.error);
}

/* -- Paging -------------------------------------------------------------------------------------------- */

static uint32_t *directory_identity(void)
{
    uint32_t *directory = page_alloc();
    for (uint32_t i = 0; i < 1024; i++) {
        directory[i] = i << 22 | (uint32_t)(PTE_P | PTE_W | PTE_U | PTE_PS);
    }
    return directory;
}

static struct legacy run_paged(const void *code, const uint32_t *directory)
{
    struct legacy l = {.cr0 = (uint32_t)CR0_PG,
                       .cr3 = address(directory),
                       .cr4 = (uint32_t)CR4_PSE,
                       .eip = address(code),
                       .cs = SEL_CODE32,
                       .eflags = 2,
                       .ss = SEL_DATA,
                       .ds = SEL_DATA,
                       .esp = address(user_stack) + sizeof user_stack};
    legacy_run(&l);
    return l;
}

static void paging(void)
{
    uint32_t *one = directory_identity(), *two = directory_identity();
    prepare(task_look);
    task.cr3 = address(two);
    struct legacy l = run_paged(jump_new, one);
    report("cr3", "SDM 3A 7.3 step 12: CR3 is loaded from the TSS when paging is on",
           l.vector == VECTOR_RETURN && seen()->cr3 == address(two), "%s(%x) CR3 %x", trap_name(l.vector),
           l.error, seen()->cr3);
    prepare(task_look);
    l = RUN(jump_new);
    report("cr3-no-paging", "SDM 3A 7.3 step 12", l.vector == VECTOR_RETURN, "%s", trap_name(l.vector));

    /* A TSS whose second page is not there: the fault is the old task's. */
    uint8_t *pages = page_alloc_aligned(8192);
    struct tss32_image *split = (struct tss32_image *)(pages + 4096 - 64);
    uint32_t *table = page_alloc(), base = address(pages) & ~0x3fffffu;
    for (uint32_t i = 0; i < 1024; i++) {
        table[i] = base + i * 4096 + (uint32_t)(PTE_P | PTE_W | PTE_U);
    }
    one[base >> 22] = address(table) | (uint32_t)(PTE_P | PTE_W | PTE_U);
    prepare(task_look);
    *split = task;
    split->cr3 = address(two);
    gdt_set(NEW, descriptor(address(split), 103, TSS_PRESENT_AVAILABLE));
    table[(address(pages) - base) / 4096 + 1] = 0;
    l = run_paged(jump_new, one);
    report("page-fault-tss", "SDM 3A 7.3 step 5: both TSSs are paged into memory, before the switch",
           l.vector == EXC_PF && !(l.error & ~2u) && l.cr2 >> 12 == (address(pages) >> 12) + 1 &&
               l.out_eip == address(jump_new) && busy(SEL_TSS32) && !busy(NEW),
           "%s(%x) CR2 %x EIP %x busy %d %d", trap_name(l.vector), l.error, l.cr2, l.out_eip, busy(SEL_TSS32),
           busy(NEW));
    table[(address(pages) - base) / 4096 + 1] = address(pages) + 4096 + 3;
    l = run_paged(jump_new, one);
    report("tss-two-pages", "SDM 3A 7.2.1: a TSS may cross pages",
           l.vector == VECTOR_RETURN && seen()->tr == NEW, "%s(%x) TR %x", trap_name(l.vector), l.error,
           seen()->tr);
}

void guest_main(void)
{
    switches();
    tss16();
    faults_before();
    faults_after();
    paging();
    guest_finish();
}
