/*
 * cpu/interrupt.c -- delivers an event through the IDT: real mode, 16- and 32-bit gates, 64-bit gates with
 * IST.
 *
 * SDM 3A, "Interrupt and Exception Handling"; SDM 2A, "INT n"; SDM 3A, "Interrupt 8--Double Fault Exception
 * (#DF)". Reads:  cpu->event, IDT, GDT, TSS.   Writes: stack, then CS:RIP, SS:RSP, RFLAGS, CPL; CR2, DR6,
 * DR7. Order:  VM exit by the exception bitmap, double fault, delivery. A fault in the middle unwinds to
 * cpu_run(), which calls event_deliver() again: cpu->delivering is then still valid and the two are combined.
 * Not here: which event comes first (event.c), task gates (task.c), INT n in virtual-8086 mode (v86.c).
 */
#include "cpu/system.h"

#include "base/trace.h"
#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/vmx/vmx.h"

/* -- Combination of exceptions ------------------------------------------------------------------------- */

enum event_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

/* SDM 3A, table "Interrupt and Exception Classes". */
static enum event_class event_class(const struct event *ev)
{
    if (ev->type != EVENT_HARDWARE_EXCEPTION)
        return CLASS_BENIGN;
    switch (ev->vector) {
    case EXC_DE:
    case EXC_TS:
    case EXC_NP:
    case EXC_SS:
    case EXC_GP:
    case EXC_CP:
        return CLASS_CONTRIBUTORY;
    case EXC_PF:
    case EXC_VE:
        return CLASS_PAGE_FAULT;
    case EXC_DF:
        return CLASS_DOUBLE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

enum combination { COMBINE_SERIAL, COMBINE_DOUBLE, COMBINE_TRIPLE };

/* SDM 3A, table "Conditions for Generating a Double Fault". */
static enum combination combine(const struct event *first, const struct event *second)
{
    enum event_class a = event_class(first), b = event_class(second);
    if (a == CLASS_DOUBLE_FAULT && b != CLASS_BENIGN)
        return COMBINE_TRIPLE;
    if (a == CLASS_CONTRIBUTORY && b == CLASS_CONTRIBUTORY)
        return COMBINE_DOUBLE;
    if (a == CLASS_PAGE_FAULT && (b == CLASS_CONTRIBUTORY || b == CLASS_PAGE_FAULT))
        return COMBINE_DOUBLE;
    return COMBINE_SERIAL;
}

static void shut_down(struct cpu *cpu)
{
    cpu->event.valid = cpu->delivering.valid = false;
    if (cpu->vmx_non_root)
        vmx_triple_fault(cpu);
    cpu->activity = ACTIVITY_SHUTDOWN;
    cpu->stops |= 1;
    cpu->attention |= ATTN_STOP;
    cpu->budget--;
}

/* -- What is pushed ------------------------------------------------------------------------------------ */

static bool software(const struct event *ev)
{
    return ev->type >= EVENT_SOFTWARE_INTERRUPT && ev->type <= EVENT_SOFTWARE_EXCEPTION;
}

static uint64_t return_rip(const struct cpu *cpu, const struct event *ev)
{
    uint64_t rip = cpu->rip + (software(ev) ? ev->insn_length : 0);
    return cpu_64bit(cpu) ? rip : (uint32_t)rip;
}

/* SDM 3B, "Instruction-Breakpoint Exception Condition": 1 for faults but for the breakpoint itself, and for
 * what comes between two iterations of a repeated instruction; 0 for software interrupts, which cleared it.
 */
bool event_rf(const struct cpu *cpu, const struct event *ev)
{
    if (software(ev))
        return false;
    if (ev->type == EVENT_HARDWARE_EXCEPTION && !(ev->vector == EXC_DB && ev->trap))
        return true;
    return cpu->rflags & FLAG_RF || cpu->rep_rip == cpu->rip;
}

static uint64_t flags_image(const struct cpu *cpu, const struct event *ev)
{
    return (cpu_rflags(cpu) & ~(uint64_t)FLAG_RF) | (event_rf(cpu, ev) ? FLAG_RF : 0);
}

/* EXT bit of error codes: the event came from outside the program. */
static unsigned external(const struct event *ev)
{
    return ev->type == EVENT_SOFTWARE_INTERRUPT || ev->type == EVENT_SOFTWARE_EXCEPTION ? 0 : 1;
}

/* The gate is entered: flags, CS, stack. */
static void enter(struct cpu *cpu, uint64_t clear)
{
    cpu->rflags &= ~clear;
}

/* -- Real mode ----------------------------------------------------------------------------------------- */

static void deliver_real(struct cpu *cpu, const struct event *ev)
{
    uint32_t offset = ev->vector * 4u;
    if (offset + 3 > cpu->idtr.limit)
        cpu_raise(cpu, EXC_GP, 0);
    uint32_t entry = (uint32_t)cpu_read_linear(cpu, cpu->idtr.base + offset, 4, MMU_SYSTEM);
    struct far_stack s = far_stack_current(cpu);
    far_push(cpu, &s, 2, flags_image(cpu, ev));
    far_push(cpu, &s, 2, cpu->seg[SEG_CS].selector);
    far_push(cpu, &s, 2, return_rip(cpu, ev));
    far_commit_rsp(cpu, &s);
    cpu_load_segment_real(cpu, SEG_CS, (uint16_t)(entry >> 16));
    cpu->rip = entry & 0xffff;
    enter(cpu, FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

/* -- Protected and IA-32e mode ------------------------------------------------------------------------- */

struct gate {
    uint64_t offset, code; /* target; descriptor of its code segment */
    uint16_t selector;
    unsigned type; /* SYS_* */
    unsigned ist;
    unsigned size; /* bytes of a push */
};

static void check_gate_access(struct cpu *cpu, const struct event *ev, uint32_t ar, uint32_t error)
{
    bool checks_dpl = ev->type == EVENT_SOFTWARE_INTERRUPT || ev->type == EVENT_SOFTWARE_EXCEPTION;
    if (checks_dpl && AR_DPL(ar) < cpu->cpl)
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
}

/* SDM 3A, "Exception- or Interrupt-Handler Tasks": an error code goes to the stack of the new task. */
static void deliver_task(struct cpu *cpu, const struct event *ev, uint16_t selector, unsigned ext)
{
    struct task_return from = {.rip = return_rip(cpu, ev), .rflags = flags_image(cpu, ev), .ext = ext};
    task_switch(cpu, selector, TASK_GATE, &from);
    if (!ev->has_error)
        return;
    struct far_stack s = far_stack_current(cpu);
    s.error = ext;
    far_push(cpu, &s, AR_TYPE(cpu->seg[SEG_TR].ar) & 8 ? 4 : 2, ev->error_code);
    far_commit_rsp(cpu, &s);
}

static struct gate read_gate(struct cpu *cpu, const struct event *ev, unsigned ext)
{
    bool ia32e = cpu_long_mode(cpu);
    unsigned bytes = ia32e ? 16 : 8;
    uint32_t offset = ev->vector * bytes, error = ev->vector * 8u | 2 | ext;
    if (offset + bytes - 1 > cpu->idtr.limit)
        cpu_raise(cpu, EXC_GP, error);
    uint64_t d = cpu_read_linear(cpu, cpu->idtr.base + offset, 8, MMU_SYSTEM);
    uint32_t ar = descriptor_ar(d);
    struct gate g = {.selector = (uint16_t)(d >> 16),
                     .offset = (d & 0xffff) | (d >> 32 & 0xffff0000),
                     .type = AR_TYPE(ar),
                     .size = ia32e ? 8 : 4};
    bool gate32 = g.type == SYS_INTERRUPT_GATE || g.type == SYS_TRAP_GATE;
    bool gate16 = g.type == SYS_INTERRUPT_GATE16 || g.type == SYS_TRAP_GATE16;
    bool task = g.type == SYS_TASK_GATE;
    if ((ar & AR_S) || !(ia32e ? gate32 : gate32 || gate16 || task))
        cpu_raise(cpu, EXC_GP, error);
    check_gate_access(cpu, ev, ar, error);
    if (task)
        return g;
    if (ia32e) {
        g.offset |= cpu_read_linear(cpu, cpu->idtr.base + offset + 8, 4, MMU_SYSTEM) << 32;
        g.ist = (unsigned)(d >> 32) & 7;
    } else if (gate16) {
        g.offset &= 0xffff;
        g.size = 2;
    }

    uint32_t code_error = (g.selector & 0xfffcu) | ext;
    if (selector_null(g.selector))
        cpu_raise(cpu, EXC_GP, ext);
    if (!cpu_read_descriptor(cpu, g.selector, &g.code))
        cpu_raise(cpu, EXC_GP, code_error);
    ar = descriptor_ar(g.code);
    if (!ar_is_code(ar) || AR_DPL(ar) > cpu->cpl || (ia32e && (ar & (AR_L | AR_DB)) != AR_L))
        cpu_raise(cpu, EXC_GP, code_error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, code_error);
    return g;
}

static void deliver_protected(struct cpu *cpu, const struct event *ev)
{
    unsigned ext = external(ev);
    bool ia32e = cpu_long_mode(cpu);
    struct gate g = read_gate(cpu, ev, ext);
    if (g.type == SYS_TASK_GATE) {
        deliver_task(cpu, ev, g.selector, ext);
        return;
    }
    uint32_t ar = descriptor_ar(g.code);
    bool inner = !ar_is_conforming(ar) && AR_DPL(ar) < cpu->cpl, v86 = cpu_v86(cpu);
    unsigned cpl = inner ? AR_DPL(ar) : cpu->cpl;
    if (v86 && (!inner || cpl != 0))
        cpu_raise(cpu, EXC_GP, (g.selector & 0xfffcu) | ext);

    struct far_stack s;
    if (inner && g.ist == 0) {
        s = far_stack_inner(cpu, cpl, ia32e, ext);
    } else {
        s = far_stack_current(cpu);
        s.ia32e = ia32e;
        s.error = ext;
        /* Ring 3 to ring 3 writes as the program would; all else with the rights of the inner ring. */
        s.flags = cpl == 3 || (cpl == cpu->cpl && cpu_64bit(cpu)) ? 0 : MMU_SYSTEM;
        if (g.ist)
            s.sp = far_tss_rsp(cpu, 3 + g.ist, ext);
        if (inner)
            segment_null_ss(&s.ss, (uint16_t)cpl, cpl);
    }
    if (ia32e)
        s.sp &= ~15ull;
    if (v86) {
        far_push(cpu, &s, g.size, cpu->seg[SEG_GS].selector);
        far_push(cpu, &s, g.size, cpu->seg[SEG_FS].selector);
        far_push(cpu, &s, g.size, cpu->seg[SEG_DS].selector);
        far_push(cpu, &s, g.size, cpu->seg[SEG_ES].selector);
    }
    if (inner || ia32e) {
        far_push(cpu, &s, g.size, cpu->seg[SEG_SS].selector);
        far_push(cpu, &s, g.size, cpu->r[REG_RSP]);
    }
    far_push(cpu, &s, g.size, flags_image(cpu, ev));
    far_push(cpu, &s, g.size, cpu->seg[SEG_CS].selector);
    far_push(cpu, &s, g.size, return_rip(cpu, ev));
    if (ev->has_error)
        far_push(cpu, &s, g.size, ev->error_code);
    if (ia32e ? !cpu_canonical(cpu, g.offset) : g.offset > descriptor_limit(g.code))
        cpu_raise(cpu, EXC_GP, ext);

    segment_load_cs(cpu, g.selector, g.code, cpl);
    if (inner)
        cpu->seg[SEG_SS] = s.ss;
    if (v86) {
        static const enum seg_reg data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
        for (unsigned i = 0; i < ARRAY_LEN(data); i++)
            cpu->seg[data[i]] = (struct segment){.ar = AR_UNUSABLE};
    }
    far_commit_rsp(cpu, &s);
    cpu->rip = g.offset;
    bool interrupt_gate = g.type == SYS_INTERRUPT_GATE || g.type == SYS_INTERRUPT_GATE16;
    enter(cpu, FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (interrupt_gate ? FLAG_IF : 0));
}

/* -- Delivery ------------------------------------------------------------------------------------------ */

/* Registers that an exception writes when it is delivered rather than intercepted. */
static void before_delivery(struct cpu *cpu, const struct event *ev)
{
    if (ev->type == EVENT_NMI) {
        if (cpu->vmx_non_root)
            vmx_nmi_delivered(cpu);
        else
            cpu->nmi_blocked = true;
    }
    if (ev->type != EVENT_HARDWARE_EXCEPTION && ev->type != EVENT_PRIVILEGED_SOFTWARE_EXCEPTION)
        return;
    if (ev->vector == EXC_PF)
        cpu->cr2 = ev->qualification;
    if (ev->vector == EXC_DB && !ev->injected) {
        uint64_t bits = ev->qualification & (15 | DR6_BD | DR6_BS | DR6_BT);
        cpu->dr[6] = ((cpu->dr[6] & ~15ull) | bits | DR6_FIXED1) & ~BIT(12);
        cpu->dr[7] &= ~DR7_GD;
        cpu->msr.debugctl &= ~(uint64_t)(DEBUGCTL_LBR | DEBUGCTL_BTF);
    }
}

void event_deliver(struct cpu *cpu)
{
    struct event ev = cpu->event;
    cpu->event.valid = false;
    if (ev.type == EVENT_EXTERNAL || ev.type == EVENT_NMI)
        trace_interrupt(cpu->trace, ev.vector, cpu->rip);
    else
        trace_exception(cpu->trace, ev.vector, ev.error_code, ev.qualification, cpu->rip);
    if (cpu->vmx_non_root)
        vmx_event(cpu, &ev);
    if (cpu->delivering.valid) {
        enum combination c = combine(&cpu->delivering, &ev);
        if (c == COMBINE_TRIPLE) {
            shut_down(cpu);
            return;
        }
        if (c == COMBINE_DOUBLE) {
            ev = (struct event){
                .valid = true, .vector = EXC_DF, .type = EVENT_HARDWARE_EXCEPTION, .has_error = true};
            cpu->delivering.valid = false;
            if (cpu->vmx_non_root)
                vmx_event(cpu, &ev);
        }
    }
    cpu->delivering = ev;
    cpu->delivering.valid = true;
    cpu->activity = ACTIVITY_ACTIVE;
    gva_t from = cpu_64bit(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    before_delivery(cpu, &ev);
    if (!cpu_protected(cpu))
        deliver_real(cpu, &ev);
    else if (!cpu_v86(cpu) || !v86_redirect(cpu, &ev, return_rip(cpu, &ev)))
        deliver_protected(cpu, &ev);
    cpu->delivering.valid = false;
    cpu->shadow_sti = cpu->shadow_mov_ss = false;
    cpu->rf_loaded = cpu->tf_masked = false;
    cpu->rep_rip = REP_NONE;
    if (unlikely(cpu->msr.debugctl))
        branch_event(cpu, from);
    cpu->attention &= ~(uint32_t)ATTN_SHADOW;
    cpu->budget--;
    cpu_mode_changed(cpu);
}

/* -- INT n, INT3, INT1, INTO --------------------------------------------------------------------------- */

/* imm: vector; aux2: enum event_type */
void helper_software_interrupt(struct cpu *cpu, const struct uop *u)
{
    if (cpu_v86(cpu) && u->aux2 == EVENT_SOFTWARE_INTERRUPT)
        v86_check_int(cpu, (unsigned)u->imm);
    struct event ev = {.vector = (uint8_t)u->imm,
                       .type = (uint8_t)u->aux2,
                       .insn_length = (uint8_t)cpu_insn_length(cpu),
                       .trap = true};
    cpu_raise_event(cpu, &ev);
}

void helper_into(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    if (!flag_of(cpu))
        return;
    struct event ev = {
        .vector = EXC_OF, .type = EVENT_SOFTWARE_EXCEPTION, .insn_length = (uint8_t)cpu_insn_length(cpu)};
    cpu_raise_event(cpu, &ev);
}
