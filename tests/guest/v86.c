/*
 * v86.c -- virtual-8086 mode, CR4.VME, CR4.PVI: SDM 3B chapter 20, "8086 Emulation".
 *
 * Each program is 16-bit code copied to linear 9000H, entered by IRET from protected mode at 0900:0000 (or by
 * a task switch) and ended by INT3, which neither IOPL nor the redirection bit map touches. The frame that
 * the processor pushed then lies on a stack of our own.
 */
#include "guest.h"

#define OWN_TSS    (SEL_TEST)
#define V86_TASK   (SEL_TEST + 8)
#define CODE16     (SEL_TEST + 16)
#define EFLAGS_VM  (1u << 17)
#define EFLAGS_VIF (1u << 19)
#define EFLAGS_VIP (1u << 20)
#define IOPL3      (3u << 12)
#define V86_CS     0x900
#define V86_SS     0x700

#define V86_CODE(name, text)                                                                                 \
    extern char name[], name##_end[];                                                                        \
    asm(".pushsection .data\n.balign 16\n.code16\n" #name ":\n" text "\nint3\n" #name                        \
        "_end:\n.code64\n.popsection")

/* The TSS with I/O permission and redirection bit maps. */
static struct {
    uint32_t link, esp0, ss0, rest[22];
    uint16_t trap, iomap;
    uint8_t redirection[32];
    uint8_t io[32]; /* ports 0 to FFH */
    uint8_t end;
} __attribute__((packed)) own_tss;
static struct {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi,
        es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
} task;
static uint32_t monitor_stack[256];
/* What an interrupt from virtual-8086 mode leaves above EIP, CS and EFLAGS. */
struct frame {
    uint32_t esp, ss, es, ds, fs, gs;
};
struct v86 {
    uint32_t cr4, eflags, eip;
    uint16_t ds, es, fs, gs;
    uint32_t ebx;
    struct legacy l;
    struct frame f;
};

USER_CODE(go_v86, 32, "ltr %ax\n mov %edi, %esp\n go_iret: iretl");
extern char go_iret[];

static uint32_t address(const void *p)
{
    return (uint32_t)(uint64_t)p;
}

static void own_tss_reset(void)
{
    memset(&own_tss, 0, sizeof own_tss);
    own_tss.esp0 = address(monitor_stack + 256);
    own_tss.ss0 = SEL_DATA;
    own_tss.iomap = (uint16_t)((uint8_t *)own_tss.io - (uint8_t *)&own_tss);
    memset(own_tss.redirection, 0xff, sizeof own_tss.redirection);
    memset(own_tss.io, 0xff, sizeof own_tss.io + 1);
}

static struct v86 v86_run(const char *code, size_t size, struct v86 v)
{
    static uint32_t stack[64];
    const uint32_t image[9] = {v.eip, V86_CS, v.eflags | EFLAGS_VM | 2, 0xffe, V86_SS, v.es, v.ds,
                               v.fs,  v.gs};
    memcpy(&stack[48], image, sizeof image);
    gdt_set(OWN_TSS, descriptor(address(&own_tss), sizeof own_tss - 1, 0x89));
    memcpy((void *)0x9000, code, size);
    v.l = (struct legacy){.cr4 = v.cr4,
                          .eip = address(go_v86),
                          .cs = SEL_CODE32,
                          .eflags = 2,
                          .ss = SEL_DATA,
                          .ds = SEL_DATA,
                          .esp = address(user_stack) + sizeof user_stack,
                          .eax = OWN_TSS,
                          .ebx = v.ebx,
                          .edi = address(&stack[48])};
    legacy_run(&v.l);
    if (v.l.out_eflags & EFLAGS_VM) {
        memcpy(&v.f, (void *)(uint64_t)v.l.out_esp, sizeof v.f);
    }
    return v;
}
#define V86(name, ...) v86_run(name, (size_t)(name##_end - name), (struct v86){__VA_ARGS__})

static bool ended(const char *name, const char *rule, const struct v86 *v, unsigned vector, uint32_t error,
                  uint32_t ip)
{
    return report(name, rule,
                  v->l.vector == vector && v->l.error == error && v->l.out_cs == V86_CS &&
                      v->l.out_eip == ip && (v->l.out_eflags & EFLAGS_VM),
                  "%s(%x) at %x:%x EFLAGS %x, want %s(%x) at %x", trap_name(v->l.vector), v->l.error,
                  v->l.out_cs, v->l.out_eip, v->l.out_eflags, trap_name(vector), error, ip);
}
#define END(name) ((uint32_t)(name##_end - name))

/* -- The mode ------------------------------------------------------------------------------------------ */
V86_CODE(v_nothing, "");
V86_CODE(v_segments, "mov %ds, %ax\n mov %es, %bx\n mov %fs, %cx\n mov %gs, %dx");
V86_CODE(v_address, "mov $0x1200, %ax\n mov %ax, %ds\n movb $0x5a, 0x34\n mov $0xffff, %ax\n mov %ax, %es\n"
                    "movb %es:0x20, %bl");
V86_CODE(v_word_end, "mov $0xffff, %bx\n movw (%bx), %ax");
V86_CODE(v_big_offset, "mov $0x10000, %ebx\n movb (%ebx), %al");
V86_CODE(v_stack_end, "mov $1, %sp\n push %ax");
V86_CODE(v_far,
         "lcallw $0x901, $(1f - v_far - 16)\n mov $7, %dx\n int3\n .balign 16\n 1: mov %cs, %bx\n pop %cx\n"
         "pop %ax\n push %ax\n push %cx\n lretw");
V86_CODE(v_hlt, "hlt");
V86_CODE(v_lgdt, "lgdtl 0");
V86_CODE(v_mov_cr, "mov %cr0, %eax");
V86_CODE(v_lldt, "xor %ax, %ax\n lldt %ax");
V86_CODE(v_lar, "lar %ax, %bx");
V86_CODE(v_arpl, "arpl %ax, %bx");
V86_CODE(v_clts, "clts");
V86_CODE(v_wrmsr, "wrmsr");
V86_CODE(v_smsw, "smsw %ax");
V86_CODE(v_vmxoff, ".byte 0x0f, 0x01, 0xc4");
V86_CODE(v_ud, "mov $0x1234, %ax\n ud2");
V86_CODE(v_in, "in $0x80, %al");
V86_CODE(v_out16, "outw %ax, $0x87");
V86_CODE(v_into, "mov $0x7f, %al\n inc %al\n into");
V86_CODE(v_pop_ss, "mov $0x710, %ax\n push %ax\n pop %ss\n mov %ss, %bx");

static void mode(void)
{
    const char *rule = "SDM 3B 20.2 Virtual-8086 Mode";
    own_tss_reset();
    struct v86 v =
        V86(v_nothing, .eflags = IOPL3 | 0x8d5, .ds = 0x1111, .es = 0x2222, .fs = 0x3333, .gs = 0x4444);
    ended("enter", "SDM 3B 20.2.5 Entering Virtual-8086 Mode: IRET with VM in the image", &v, EXC_BP, 0, 1);
    report("frame", "SDM 3B 20.3.1: GS, FS, DS, ES, SS, ESP, EFLAGS, CS, EIP are pushed",
           v.f.esp == 0xffe && (uint16_t)v.f.ss == V86_SS && (uint16_t)v.f.es == 0x2222 &&
               (uint16_t)v.f.ds == 0x1111 && (uint16_t)v.f.fs == 0x3333 && (uint16_t)v.f.gs == 0x4444 &&
               v.l.out_esp + 24 == address(monitor_stack + 256) &&
               v.l.out_eflags == (IOPL3 | 0x8d7 | EFLAGS_VM),
           "ESP %x SS %x ES %x DS %x FS %x GS %x at %x EFLAGS %x", v.f.esp, v.f.ss, v.f.es, v.f.ds, v.f.fs,
           v.f.gs, v.l.out_esp, v.l.out_eflags);
    report("frame-ds", "SDM 3B 20.3.1: data segments are null in the handler", v.l.ds == 0, "DS %x", v.l.ds);
    v = V86(v_segments, .eflags = 0, .ds = 0x1111, .es = 0x2222, .fs = 0x3333, .gs = 0x4444);
    report("segments", rule,
           (uint16_t)v.l.eax == 0x1111 && (uint16_t)v.l.ebx == 0x2222 && (uint16_t)v.l.ecx == 0x3333 &&
               (uint16_t)v.l.edx == 0x4444,
           "DS %x ES %x FS %x GS %x", v.l.eax, v.l.ebx, v.l.ecx, v.l.edx);
    *(volatile uint8_t *)0x12034 = 0;
    v = V86(v_address, .eflags = 0);
    report("address", "SDM 3B 20.2.1 Address Translation: selector * 16 + offset",
           *(volatile uint8_t *)0x12034 == 0x5a && (uint8_t)v.l.ebx == *(volatile uint8_t *)0x100010, "%x %x",
           *(volatile uint8_t *)0x12034, v.l.ebx);
    v = V86(v_word_end, .eflags = 0);
    ended("limit-word", "SDM 3B 20.2.1: the limit is FFFFH", &v, EXC_GP, 0, 3);
    v = V86(v_big_offset, .eflags = 0);
    ended("limit-32bit", "SDM 3B 20.2.1: the limit is FFFFH", &v, EXC_GP, 0, 6);
    v = V86(v_stack_end, .eflags = 0);
    ended("limit-stack", "SDM 3B 20.2.1: #SS beyond the stack's limit", &v, EXC_SS, 0, 3);
    v = V86(v_far, .eflags = 0);
    report("far-call", "SDM 2 CALL far as in real-address mode",
           v.l.vector == EXC_BP && (uint16_t)v.l.edx == 7 && (uint16_t)v.l.ebx == 0x901 &&
               (uint16_t)v.l.ecx == 5 && (uint16_t)v.l.eax == V86_CS,
           "%s DX %x BX %x CX %x AX %x", trap_name(v.l.vector), v.l.edx, v.l.ebx, v.l.ecx, v.l.eax);
    v = V86(v_pop_ss, .eflags = 0);
    ended("pop-ss", rule, &v, EXC_BP, 0, END(v_pop_ss));
    check_equal("pop-ss-frame", rule, v.f.ss, 0x710);

    const char *privilege = "SDM 3B 20.2.7: CPL is 3, privileged instructions raise #GP(0)";
    v = V86(v_hlt, .eflags = IOPL3);
    ended("hlt", privilege, &v, EXC_GP, 0, 0);
    v = V86(v_lgdt, .eflags = IOPL3);
    ended("lgdt", privilege, &v, EXC_GP, 0, 0);
    v = V86(v_mov_cr, .eflags = IOPL3);
    ended("mov-cr", privilege, &v, EXC_GP, 0, 0);
    v = V86(v_clts, .eflags = IOPL3);
    ended("clts", privilege, &v, EXC_GP, 0, 0);
    v = V86(v_wrmsr, .eflags = IOPL3);
    ended("wrmsr", privilege, &v, EXC_GP, 0, 0);
    v = V86(v_smsw, .eflags = 0);
    ended("smsw", "SDM 2 SMSW", &v, EXC_BP, 0, END(v_smsw));
    const char *undefined = "SDM 2: #UD, not recognized in virtual-8086 mode";
    v = V86(v_lldt, .eflags = IOPL3);
    ended("lldt", undefined, &v, EXC_UD, 0, 2);
    v = V86(v_lar, .eflags = IOPL3);
    ended("lar", undefined, &v, EXC_UD, 0, 0);
    v = V86(v_arpl, .eflags = IOPL3);
    ended("arpl", undefined, &v, EXC_UD, 0, 0);
    v = V86(v_vmxoff, .eflags = IOPL3);
    ended("vmxoff", undefined, &v, EXC_UD, 0, 0);
    v = V86(v_ud, .eflags = 0);
    ended("ud2", "SDM 3B 20.3.1: exceptions go to the protected-mode handler", &v, EXC_UD, 0, 3);
    report("fault-rf", "SDM 3B 17.3.1.1: RF in the image of a fault", v.l.out_eflags & RFLAGS_RF, "EFLAGS %x",
           v.l.out_eflags);
    v = V86(v_into, .eflags = 0);
    ended("into", "SDM 2 INTO is not IOPL sensitive", &v, EXC_OF, 0, END(v_into) - 1);

    const char *io = "SDM 3B 20.2.8.1: I/O is by the permission bit map alone";
    v = V86(v_in, .eflags = IOPL3);
    ended("in-denied", io, &v, EXC_GP, 0, 0);
    own_tss.io[0x10] = 0xfe;
    v = V86(v_in, .eflags = 0);
    ended("in-allowed", io, &v, EXC_BP, 0, END(v_in));
    own_tss.io[0x10] = 0x7f;
    v = V86(v_out16, .eflags = 0);
    ended("out-straddles", io, &v, EXC_GP, 0, 0);
    own_tss.io[0x11] = 0xfe;
    v = V86(v_out16, .eflags = 0);
    ended("out-allowed", io, &v, EXC_BP, 0, END(v_out16));
}

/* -- Getting in and out -------------------------------------------------------------------------------- */
USER_CODE(jump_task, 32, "ltr %ax\n ljmp $0x68, $0");
/* The monitor's handler: counts, lets the program go on behind the INT n. */
USER_CODE(monitor, 32,
          "push %ds\n push %eax\n mov $0x10, %eax\n mov %eax, %ds\n incl monitor_count\n pop %eax\n pop "
          "%ds\n iretl");
USER_CODE(landing, 32, "mov $1, %eax");
uint32_t monitor_count;
V86_CODE(v_int, "mov $0x77, %al\n int $0x42\n mov $0x55, %bl");
V86_CODE(v_int40, "mov $0x77, %al\n int $0x40\n mov $0x55, %bl");

static uint64_t gate32(const void *handler, unsigned selector, unsigned type)
{
    uint64_t at = address(handler);
    return (at & 0xffff) | (uint64_t)selector << 16 | (uint64_t)type << 40 | at >> 16 << 48;
}

static void ways(void)
{
    own_tss_reset();
    memset(legacy_gates, 0, sizeof legacy_gates);
    struct v86 v = V86(v_nothing, .eflags = 0, .eip = 0x10000);
    report("enter-eip", "SDM 2 IRET #GP(0): EIP beyond the limit, in the monitor",
           v.l.vector == EXC_GP && v.l.error == 0 && v.l.out_cs == SEL_CODE32 &&
               v.l.out_eip == address(go_iret),
           "%s(%x) at %x:%x", trap_name(v.l.vector), v.l.error, v.l.out_cs, v.l.out_eip);
    v = V86(v_nothing, .eflags = RFLAGS_TF);
    ended("single-step", "SDM 3B 17.3.1.4 in virtual-8086 mode", &v, EXC_BP, 0, 1);
    v = V86(v_ud, .eflags = RFLAGS_TF);
    ended("single-step-trap", "SDM 3B 17.3.1.4 in virtual-8086 mode", &v, EXC_DB, 0, 3);
    write_dr6(0xffff0ff0);

    legacy_gates[0x42] = gate32(monitor, SEL_CODE32, 0xee);
    monitor_count = 0;
    v = V86(v_int, .eflags = IOPL3);
    ended("int-and-back", "SDM 3B 20.2.6 Leaving Virtual-8086 Mode, and IRET back", &v, EXC_BP, 0,
          END(v_int));
    report("int-once", "SDM 3B 20.3.3.1 Method 1", monitor_count == 1 && (uint8_t)v.l.ebx == 0x55,
           "count %u BL %x", monitor_count, v.l.ebx);
    legacy_gates[0x42] = gate32(monitor, SEL_CODE32, 0x8e);
    v = V86(v_int, .eflags = IOPL3);
    ended("int-gate-dpl", "SDM 3B 20.3.1: a gate with DPL 0", &v, EXC_GP, 0x42 * 8 + 2, 2);
    legacy_gates[0x42] = gate32(landing, SEL_USER_CODE32, 0xee);
    v = V86(v_int, .eflags = IOPL3);
    ended("int-to-ring3", "SDM 3B 20.3.1: the handler's DPL must be 0", &v, EXC_GP, SEL_USER_CODE32 & ~3u, 2);
    gdt_set(CODE16, descriptor(0, 0xfffff, 0x9e | DESC_DB | DESC_G));
    legacy_gates[0x42] = gate32(landing, CODE16, 0xee);
    v = V86(v_int, .eflags = IOPL3);
    ended("int-to-conforming", "SDM 3B 20.3.1: the handler's segment must not conform", &v, EXC_GP, CODE16,
          2);
    /* A 16-bit gate pushes words. */
    gdt_set(CODE16, descriptor(address(landing), 0xffff, 0x9b | DESC_DB));
    legacy_gates[0x42] = (uint64_t)CODE16 << 16 | 0xe6ul << 40;
    v = V86(v_int, .eflags = IOPL3, .ds = 0x1111, .es = 0x2222, .fs = 0x3333, .gs = 0x4444);
    uint16_t *words = (uint16_t *)(monitor_stack + 256);
    report("int-16bit-gate", "SDM 2 INT n: a 16-bit gate pushes words",
           v.l.vector == VECTOR_RETURN && words[-1] == 0x4444 && words[-2] == 0x3333 && words[-3] == 0x1111 &&
               words[-4] == 0x2222 && words[-5] == V86_SS && words[-6] == 0xffe && words[-8] == V86_CS &&
               words[-9] == 4,
           "%s(%x) %x %x %x %x %x %x %x %x", trap_name(v.l.vector), v.l.error, words[-1], words[-2],
           words[-3], words[-4], words[-5], words[-6], words[-8], words[-9]);
    legacy_gates[0x42] = 0;

    /* By a task switch. */
    memset(&task, 0, sizeof task);
    task.esp0 = address(monitor_stack + 256);
    task.ss0 = SEL_DATA;
    task.eip = 0;
    task.cs = V86_CS;
    task.eflags = EFLAGS_VM | 2;
    task.ss = V86_SS;
    task.esp = 0xffe;
    task.ds = 0x1113;
    task.es = 0xffff;
    task.fs = 3;
    gdt_set(OWN_TSS, descriptor(address(&own_tss), sizeof own_tss - 1, 0x89));
    gdt_set(V86_TASK, descriptor(address(&task), 103, 0x89));
    memcpy((void *)0x9000, v_segments, END(v_segments));
    struct legacy l = {.eip = address(jump_task),
                       .cs = SEL_CODE32,
                       .eflags = 2,
                       .ss = SEL_DATA,
                       .ds = SEL_DATA,
                       .esp = address(user_stack) + sizeof user_stack,
                       .eax = OWN_TSS};
    legacy_run(&l);
    report("task", "SDM 3B 20.2.5: a task switch to a TSS with VM in EFLAGS",
           l.vector == EXC_BP && l.out_cs == V86_CS && l.out_eip == END(v_segments) &&
               (l.out_eflags & EFLAGS_VM) && (uint16_t)l.eax == 0x1113 && (uint16_t)l.ebx == 0xffff &&
               (uint16_t)l.ecx == 3,
           "%s(%x) at %x:%x EFLAGS %x DS %x ES %x FS %x", trap_name(l.vector), l.error, l.out_cs, l.out_eip,
           l.out_eflags, l.eax, l.ebx, l.ecx);
}

/* -- IOPL-sensitive instructions ----------------------------------------------------------------------- */
V86_CODE(v_cli, "cli");
V86_CODE(v_sti, "sti");
V86_CODE(v_pushf, "pushf\n pop %ax");
V86_CODE(v_pushfd, "pushfl\n popl %eax");
V86_CODE(v_popf, "push %bx\n popf");
V86_CODE(v_popfd, "pushl %ebx\n popfl");
V86_CODE(v_iret, "push %bx\n push %cs\n push $1f - v_iret\n iretw\n mov $9, %dx\n 1:");
V86_CODE(v_iretd, "pushl %ebx\n pushl $0x900\n pushl $1f - v_iretd\n iretl\n mov $9, %dx\n 1:");

static void sensitive(void)
{
    own_tss_reset();
    const uint32_t vme = (uint32_t)CR4_VME;
    const char *rule = "SDM 3B 20.2.7 Sensitive Instructions: IOPL 3";
    struct v86 v = V86(v_cli, .eflags = IOPL3 | RFLAGS_IF);
    ended("cli-3", rule, &v, EXC_BP, 0, END(v_cli));
    report("cli-3-if", rule, !(v.l.out_eflags & RFLAGS_IF), "EFLAGS %x", v.l.out_eflags);
    v = V86(v_sti, .eflags = IOPL3);
    ended("sti-3", rule, &v, EXC_BP, 0, END(v_sti));
    report("sti-3-if", rule, v.l.out_eflags & RFLAGS_IF, "EFLAGS %x", v.l.out_eflags);
    v = V86(v_pushf, .eflags = IOPL3 | 0x8d5);
    check_equal("pushf-3", rule, (uint16_t)v.l.eax, IOPL3 | 0x8d7);
    v = V86(v_pushfd, .eflags = IOPL3 | EFLAGS_VIF | 0x8d5);
    check_equal("pushfd-3", "SDM 2 PUSHFD: VM and RF are clear in the image", v.l.eax,
                IOPL3 | EFLAGS_VIF | 0x8d7);
    v = V86(v_popf, .eflags = IOPL3, .ebx = 0x4ed7);
    report("popf-3", "SDM 2 POPF: all but IOPL", v.l.out_eflags == (EFLAGS_VM | IOPL3 | 0x4ed7), "EFLAGS %x",
           v.l.out_eflags);
    v = V86(v_popfd, .eflags = IOPL3, .ebx = 0x00340ad7 & ~0x100u);
    report("popfd-3", "SDM 2 POPFD: not VM, IOPL, VIF, VIP", v.l.out_eflags == (EFLAGS_VM | IOPL3 | 0x240ad7),
           "EFLAGS %x", v.l.out_eflags);
    v = V86(v_iret, .eflags = IOPL3, .ebx = 0x4ed7 & ~0x100);
    ended("iret-3", rule, &v, EXC_BP, 0, END(v_iret));
    report("iret-3-flags", "SDM 2 IRET: all but IOPL",
           v.l.out_eflags == (EFLAGS_VM | IOPL3 | (0x4ed7 & ~0x100)) && (uint16_t)v.f.esp == 0xffe &&
               (uint16_t)v.l.edx != 9,
           "EFLAGS %x SP %x", v.l.out_eflags, v.f.esp);
    v = V86(v_iretd, .eflags = IOPL3, .ebx = 0x00340ad7);
    report("iretd-3", "SDM 2 IRETD: not VM, IOPL, VIF, VIP",
           v.l.vector == EXC_BP && v.l.out_eflags == (EFLAGS_VM | IOPL3 | 0x240ad7) &&
               (uint16_t)v.f.esp == 0xffe,
           "%s EFLAGS %x SP %x", trap_name(v.l.vector), v.l.out_eflags, v.f.esp);

    rule = "SDM 3B 20.2.7: #GP(0) with IOPL below 3";
    struct {
        const char *name, *code;
        size_t size;
        uint32_t ip, sp;
        bool virtual; /* by VME */
    } list[] = {
#define CASE(name, code, ip, sp, virtual) {name, code, (size_t)(code##_end - code), ip, sp, virtual}
        CASE("cli", v_cli, 0, 0xffe, true),     CASE("sti", v_sti, 0, 0xffe, true),
        CASE("pushf", v_pushf, 0, 0xffe, true), CASE("pushfd", v_pushfd, 0, 0xffe, false),
        CASE("popf", v_popf, 1, 0xffc, true),   CASE("popfd", v_popfd, 2, 0xffa, false),
        CASE("iret", v_iret, 5, 0xff8, true),   CASE("iretd", v_iretd, 0, 0, false),
        CASE("int", v_int40, 2, 0xffe, false),
    };
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        for (unsigned with = 0; with < 2; with++) {
            char slug[32];
            if (with && list[i].virtual) {
                continue;
            }
            format_text(slug, sizeof slug, "%s-0%s", list[i].name, with ? "-vme" : "");
            v = v86_run(list[i].code, list[i].size,
                        (struct v86){.cr4 = with ? vme : 0, .eflags = 0, .ebx = 2});
            report(slug, rule,
                   v.l.vector == EXC_GP && v.l.error == 0 && (!list[i].sp || v.l.out_eip == list[i].ip) &&
                       (!list[i].sp || (uint16_t)v.f.esp == list[i].sp),
                   "%s(%x) at %x SP %x", trap_name(v.l.vector), v.l.error, v.l.out_eip, v.f.esp);
        }
    }
}

/* -- CR4.VME ------------------------------------------------------------------------------------------- */
static void vme(void)
{
    const uint32_t cr4 = (uint32_t)CR4_VME;
    const char *rule = "SDM 3B 20.3.2: VIF in place of IF";
    own_tss_reset();
    if (!(cpuid(1, 0).edx & 2)) {
        report_skip("vme", rule, "no VME");
        return;
    }
    struct v86 v = V86(v_cli, .cr4 = cr4, .eflags = EFLAGS_VIF | RFLAGS_IF);
    report("vme-cli", rule, v.l.vector == EXC_BP && (v.l.out_eflags & (EFLAGS_VIF | RFLAGS_IF)) == RFLAGS_IF,
           "%s EFLAGS %x", trap_name(v.l.vector), v.l.out_eflags);
    v = V86(v_sti, .cr4 = cr4, .eflags = 0);
    report("vme-sti", rule, v.l.vector == EXC_BP && (v.l.out_eflags & (EFLAGS_VIF | RFLAGS_IF)) == EFLAGS_VIF,
           "%s EFLAGS %x", trap_name(v.l.vector), v.l.out_eflags);
    v = V86(v_sti, .cr4 = cr4, .eflags = EFLAGS_VIP);
    ended("vme-sti-vip", "SDM 2 STI #GP(0) when VIP is 1", &v, EXC_GP, 0, 0);
    v = V86(v_cli, .cr4 = cr4, .eflags = EFLAGS_VIP);
    ended("vme-cli-vip", "SDM 2 CLI", &v, EXC_BP, 0, END(v_cli));
    v = V86(v_cli, .cr4 = cr4, .eflags = IOPL3 | EFLAGS_VIF | RFLAGS_IF);
    report("vme-cli-3", "SDM 2 CLI: IF with IOPL 3",
           v.l.vector == EXC_BP && (v.l.out_eflags & (EFLAGS_VIF | RFLAGS_IF)) == EFLAGS_VIF, "%s EFLAGS %x",
           trap_name(v.l.vector), v.l.out_eflags);
    v = V86(v_pushf, .cr4 = cr4, .eflags = EFLAGS_VIF);
    check_equal("vme-pushf-vif", "SDM 2 PUSHF: VIF in IF's place, IOPL 3", (uint16_t)v.l.eax, 0x3202);
    v = V86(v_pushf, .cr4 = cr4, .eflags = RFLAGS_IF | 0x1000);
    check_equal("vme-pushf-no-vif", "SDM 2 PUSHF: VIF in IF's place, IOPL 3", (uint16_t)v.l.eax, 0x3002);
    v = V86(v_popf, .cr4 = cr4, .eflags = 0x1000, .ebx = 0x62d7);
    report("vme-popf", "SDM 2 POPF: VIF from IF's place; IF and IOPL stay",
           v.l.vector == EXC_BP && v.l.out_eflags == (EFLAGS_VM | EFLAGS_VIF | 0x50d7), "%s EFLAGS %x",
           trap_name(v.l.vector), v.l.out_eflags);
    v = V86(v_popf, .cr4 = cr4, .eflags = EFLAGS_VIF | RFLAGS_IF, .ebx = 2);
    report("vme-popf-clear", "SDM 2 POPF: VIF from IF's place",
           v.l.vector == EXC_BP && v.l.out_eflags == (EFLAGS_VM | 0x202), "%s EFLAGS %x",
           trap_name(v.l.vector), v.l.out_eflags);
    v = V86(v_popf, .cr4 = cr4, .eflags = EFLAGS_VIP, .ebx = 0x202);
    ended("vme-popf-vip", "SDM 2 POPF #GP(0): VIP and IF in the image", &v, EXC_GP, 0, 1);
    check_equal("vme-popf-vip-sp", "SDM 2 POPF: SP as before the fault", v.f.esp, 0xffc);
    v = V86(v_popf, .cr4 = cr4, .eflags = EFLAGS_VIP, .ebx = 2);
    ended("vme-popf-vip-clear", "SDM 2 POPF", &v, EXC_BP, 0, END(v_popf));
    v = V86(v_popf, .cr4 = cr4, .eflags = 0, .ebx = 0x102);
    ended("vme-popf-tf", "SDM 2 POPF #GP(0): TF in the image", &v, EXC_GP, 0, 1);
    v = V86(v_iret, .cr4 = cr4, .eflags = 0x2000, .ebx = 0x52d7);
    report("vme-iret", "SDM 3B 20.3.3.5, 20.3.3.6: IRET restores VIF from IF's place",
           v.l.vector == EXC_BP && v.l.out_eip == END(v_iret) &&
               v.l.out_eflags == (EFLAGS_VM | EFLAGS_VIF | 0x60d7) && (uint16_t)v.f.esp == 0xffe,
           "%s(%x) at %x EFLAGS %x SP %x", trap_name(v.l.vector), v.l.error, v.l.out_eip, v.l.out_eflags,
           v.f.esp);
    v = V86(v_iret, .cr4 = cr4, .eflags = EFLAGS_VIP, .ebx = 0x202);
    ended("vme-iret-vip", "SDM 2 IRET #GP(0): VIP and IF in the image", &v, EXC_GP, 0, 5);
    v = V86(v_iret, .cr4 = cr4, .eflags = 0, .ebx = 0x102);
    ended("vme-iret-tf", "SDM 2 IRET #GP(0): TF in the image", &v, EXC_GP, 0, 5);
    if (enabled("vme-both", "SDM 3B 20.3.2")) {
        v = V86(v_nothing, .cr4 = cr4, .eflags = EFLAGS_VIF | EFLAGS_VIP);
        ended("vme-both", "SDM 3B 20.3.2: VIF and VIP at the beginning of an instruction raise #GP(0)", &v,
              EXC_GP, 0, 0);
    }
}

/* -- INT n with the redirection bit map ---------------------------------------------------------------- */
V86_CODE(v_redirected,
         "int $0x40\n mov %dx, %dx\n int3\n .org v_redirected + 0x20\n 1: pop %ax\n pop %bx\n pop %cx");

static struct v86 redirected(uint32_t eflags)
{
    *(volatile uint32_t *)(0x40 * 4) = V86_CS << 16 | 0x20;
    return V86(v_redirected, .cr4 = (uint32_t)CR4_VME, .eflags = eflags);
}

static void check_redirected(const char *name, const char *rule, uint32_t eflags, uint32_t pushed,
                             uint32_t after)
{
    struct v86 v = redirected(eflags);
    report(name, rule,
           v.l.vector == EXC_BP && v.l.out_eip == END(v_redirected) && (uint16_t)v.l.eax == 2 &&
               (uint16_t)v.l.ebx == V86_CS && (uint16_t)v.l.ecx == pushed &&
               v.l.out_eflags == (EFLAGS_VM | after),
           "%s(%x) at %x: pushed %x:%x FLAGS %x (want %x), EFLAGS %x (want %x)", trap_name(v.l.vector),
           v.l.error, v.l.out_eip, v.l.ebx, v.l.eax, v.l.ecx, pushed, v.l.out_eflags, EFLAGS_VM | after);
}

static void redirection(void)
{
    if (!(cpuid(1, 0).edx & 2)) {
        report_skip("redirection", "SDM 3B 20.3.3", "no VME");
        return;
    }
    own_tss_reset();
    memset(legacy_gates, 0, sizeof legacy_gates);
    own_tss.redirection[0x40 / 8] &= 0xfe;
    check_redirected("method-5", "SDM 3B 20.3.3.4 Method 5: as in real-address mode",
                     IOPL3 | 0x6d7 | RFLAGS_IF, IOPL3 | 0x6d7 | RFLAGS_IF, IOPL3 | 0x4d7);
    check_redirected("method-6-vif", "SDM 3B 20.3.3.5 Method 6: VIF in IF's place, IOPL 3 in the image",
                     EFLAGS_VIF | 0xd7, IOPL3 | 0x2d7, 0xd7);
    check_redirected("method-6-no-vif", "SDM 3B 20.3.3.5 Method 6: IF stays", RFLAGS_IF | 0xd7, IOPL3 | 0xd7,
                     RFLAGS_IF | 0xd7);
    legacy_gates[0x40] = gate32(monitor, SEL_CODE32, 0xee);
    own_tss.redirection[0x40 / 8] |= 1;
    monitor_count = 0;
    struct v86 v = redirected(IOPL3);
    report("method-4", "SDM 3B 20.3.3.3 Method 4: bit 1, IOPL 3: by the IDT",
           v.l.vector == EXC_BP && monitor_count == 1 && v.l.out_eip == 5, "%s(%x) at %x count %u",
           trap_name(v.l.vector), v.l.error, v.l.out_eip, monitor_count);
    v = redirected(0);
    ended("method-3", "SDM 3B 20.3.3.3 Method 3: bit 1, IOPL below 3: #GP(0)", &v, EXC_GP, 0, 0);
    own_tss.redirection[0x40 / 8] &= 0xfe;
    v = V86(v_redirected, .eflags = 0);
    ended("method-2", "SDM 3B 20.3.3.2 Method 2: no VME, IOPL below 3: #GP(0)", &v, EXC_GP, 0, 0);
    legacy_gates[0x40] = 0;
    /* The map ends where the I/O map begins. */
    own_tss_reset();
    own_tss.iomap = sizeof own_tss + 40;
    v = redirected(IOPL3);
    ended("bit-map-beyond", "SDM 3B 20.3.3: the bit map beyond the TSS's limit", &v, EXC_GP, 0, 0);
}

/* -- CR4.PVI ------------------------------------------------------------------------------------------- */
USER_CODE(p_cli, 32, "cli\n pushfl\n pop %eax");
USER_CODE(p_sti, 32, "sti\n pushfl\n pop %eax");
USER_CODE(p_popf, 32, "pushl $0x202\n popfl\n pushfl\n pop %eax");

static struct legacy pvi_run(const char *code, uint32_t cr4, uint32_t eflags)
{
    struct legacy l = {.cr4 = cr4,
                       .eip = address(code),
                       .cs = SEL_USER_CODE32,
                       .eflags = eflags | 2,
                       .ss = SEL_USER_DATA,
                       .ds = SEL_USER_DATA,
                       .esp = address(user_stack) + sizeof user_stack};
    legacy_run(&l);
    return l;
}

static void pvi(void)
{
    const uint32_t cr4 = (uint32_t)CR4_PVI, both = EFLAGS_VIF | (uint32_t)RFLAGS_IF;
    const char *rule = "SDM 3B 20.4 Protected-Mode Virtual Interrupts";
    if (!(cpuid(1, 0).edx & 2)) {
        report_skip("pvi", rule, "no VME");
        return;
    }
    struct legacy l = pvi_run(p_cli, cr4, both);
    report("pvi-cli", rule, l.vector == VECTOR_RETURN && (l.eax & both) == RFLAGS_IF, "%s EFLAGS %x",
           trap_name(l.vector), l.eax);
    l = pvi_run(p_sti, cr4, 0);
    report("pvi-sti", rule, l.vector == VECTOR_RETURN && (l.eax & both) == EFLAGS_VIF, "%s EFLAGS %x",
           trap_name(l.vector), l.eax);
    l = pvi_run(p_sti, cr4, EFLAGS_VIP);
    report("pvi-sti-vip", "SDM 2 STI #GP(0) when VIP is 1", l.vector == EXC_GP && l.out_eip == address(p_sti),
           "%s at %x", trap_name(l.vector), l.out_eip);
    l = pvi_run(p_cli, 0, both);
    report("pvi-off", "SDM 2 CLI #GP(0)", l.vector == EXC_GP && l.out_eip == address(p_cli), "%s at %x",
           trap_name(l.vector), l.out_eip);
    l = pvi_run(p_sti, cr4, IOPL3);
    report("pvi-sti-3", "SDM 2 STI: IF with IOPL 3", l.vector == VECTOR_RETURN && (l.eax & both) == RFLAGS_IF,
           "%s EFLAGS %x", trap_name(l.vector), l.eax);
    l = pvi_run(p_popf, cr4, 0);
    report("pvi-popf", "SDM 3B 20.4: POPF does not know VIF", l.vector == VECTOR_RETURN && !(l.eax & both),
           "%s EFLAGS %x", trap_name(l.vector), l.eax);
    if (enabled("pvi-both", rule)) {
        l = pvi_run(p_cli, cr4, EFLAGS_VIF | EFLAGS_VIP);
        report("pvi-both", "SDM 3B 20.3.2: VIF and VIP at the beginning of an instruction raise #GP(0)",
               l.vector == EXC_GP && l.error == 0 && l.out_eip == address(p_cli) &&
                   l.out_cs == SEL_USER_CODE32,
               "%s(%x) at %x:%x", trap_name(l.vector), l.error, l.out_cs, l.out_eip);
    }
}

void guest_main(void)
{
    mode();
    ways();
    sensitive();
    vme();
    redirection();
    pvi();
    guest_finish();
}
