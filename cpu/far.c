/*
 * cpu/far.c -- far JMP, CALL, RET and IRET: between code segments, rings and modes.
 *
 * SDM 2A, "CALL", "JMP", "IRET/IRETD/IRETQ", "RET"; SDM 3A, "Privilege Levels", "IA-32e Mode Call Gates".
 * Order:  selector and descriptor checks, stack accesses, target check; then registers.
 * Not here: interrupts (interrupt.c), stacks (stack.c), task switches (task.c), virtual-8086 mode (v86.c).
 */
#include "cpu/system.h"

#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/vmx/vmx.h"

/* -- Targets ------------------------------------------------------------------------------------------- */

static bool code_is_64bit(const struct cpu *cpu, uint64_t d)
{
    return cpu_long_mode(cpu) && (descriptor_ar(d) & AR_L);
}

void far_check_target(struct cpu *cpu, uint64_t d, uint64_t rip)
{
    if (code_is_64bit(cpu, d) ? !cpu_canonical(cpu, rip) : rip > descriptor_limit(d))
        cpu_raise_gp0(cpu);
}

/* In IA-32e mode a code segment with both L and D set is reserved. */
static bool code_reserved(const struct cpu *cpu, uint32_t ar)
{
    return cpu_long_mode(cpu) && (ar & AR_L) && (ar & AR_DB);
}

static void finish(struct cpu *cpu, uint64_t rip)
{
    cpu->next_rip = rip;
    cpu_mode_changed(cpu);
}

/* -- Task switches ------------------------------------------------------------------------------------- */

/* JMP or CALL to a TSS or task gate: through a gate only the gate's privilege counts. */
static NORETURN void far_task(struct cpu *cpu, uint16_t selector, uint64_t d, bool call)
{
    uint32_t ar = descriptor_ar(d), error = selector & 0xfffcu;
    if (AR_DPL(ar) < cpu->cpl || AR_DPL(ar) < (selector & 3u))
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    if (AR_TYPE(ar) == SYS_TASK_GATE)
        selector = (uint16_t)(d >> 16);
    task_switch_by_instruction(cpu, selector, call ? TASK_CALL : TASK_JMP);
}

/* -- JMP and CALL -------------------------------------------------------------------------------------- */

static void real_jump(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned size, bool call)
{
    if (offset > cpu->seg[SEG_CS].limit)
        cpu_raise_gp0(cpu);
    if (call) {
        struct far_stack s = far_stack_current(cpu);
        far_push(cpu, &s, size, cpu->seg[SEG_CS].selector);
        far_push(cpu, &s, size, cpu->next_rip);
        far_commit_rsp(cpu, &s);
    }
    cpu_load_segment_real(cpu, SEG_CS, selector);
    finish(cpu, offset);
}

static void code_jump(struct cpu *cpu, uint16_t selector, uint64_t d, uint64_t offset, unsigned size,
                      bool call)
{
    uint32_t ar = descriptor_ar(d), error = selector & 0xfffcu;
    if (!ar_is_code(ar) || code_reserved(cpu, ar))
        cpu_raise(cpu, EXC_GP, error);
    if (ar_is_conforming(ar) ? AR_DPL(ar) > cpu->cpl : (selector & 3u) > cpu->cpl || AR_DPL(ar) != cpu->cpl)
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    if (!code_is_64bit(cpu, d))
        offset = (uint32_t)offset;
    if (call) {
        struct far_stack s = far_stack_current(cpu);
        far_push(cpu, &s, size, cpu->seg[SEG_CS].selector);
        far_push(cpu, &s, size, cpu->next_rip);
        far_check_target(cpu, d, offset);
        segment_load_cs(cpu, selector, d, cpu->cpl);
        far_commit_rsp(cpu, &s);
    } else {
        far_check_target(cpu, d, offset);
        segment_load_cs(cpu, selector, d, cpu->cpl);
    }
    finish(cpu, offset);
}

struct call_gate {
    uint16_t selector; /* of the code segment */
    uint64_t offset;
    uint64_t code;  /* descriptor of the code segment */
    unsigned size;  /* bytes of a push */
    unsigned count; /* parameters to copy */
};

/* Reads and checks the gate `d` at `selector`, and the code segment that it names. */
static struct call_gate read_gate(struct cpu *cpu, uint16_t selector, uint64_t d)
{
    struct call_gate g = {.selector = (uint16_t)(d >> 16), .offset = (d & 0xffff) | (d >> 32 & 0xffff0000)};
    uint32_t ar = descriptor_ar(d), error = selector & 0xfffcu;
    if (AR_DPL(ar) < cpu->cpl || AR_DPL(ar) < (selector & 3u))
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    g.count = (unsigned)(d >> 32) & 31;
    g.size = 4;
    if (cpu_long_mode(cpu)) {
        uint64_t high;
        if (!segment_read_descriptor_high(cpu, selector, &high) || (high >> 40 & 0x1f))
            cpu_raise(cpu, EXC_GP, error);
        g.offset |= high << 32;
        g.size = 8;
        g.count = 0;
    } else if (AR_TYPE(ar) == SYS_CALL_GATE16) {
        g.offset &= 0xffff;
        g.size = 2;
    }
    uint32_t code_error = g.selector & 0xfffcu;
    if (selector_null(g.selector))
        cpu_raise_gp0(cpu);
    if (!cpu_read_descriptor(cpu, g.selector, &g.code))
        cpu_raise(cpu, EXC_GP, code_error);
    ar = descriptor_ar(g.code);
    if (!ar_is_code(ar) || AR_DPL(ar) > cpu->cpl)
        cpu_raise(cpu, EXC_GP, code_error);
    if (cpu_long_mode(cpu) && (ar & (AR_L | AR_DB)) != AR_L)
        cpu_raise(cpu, EXC_GP, code_error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, code_error);
    return g;
}

static void gate_call_inner(struct cpu *cpu, const struct call_gate *g)
{
    unsigned dpl = AR_DPL(descriptor_ar(g->code));
    bool ia32e = cpu_long_mode(cpu);
    struct far_stack from = far_stack_current(cpu);
    struct far_stack to = far_stack_inner(cpu, dpl, ia32e, 0);
    far_push(cpu, &to, g->size, cpu->seg[SEG_SS].selector);
    far_push(cpu, &to, g->size, cpu->r[REG_RSP]);
    for (unsigned i = g->count; i-- > 0;)
        far_push(cpu, &to, g->size, far_peek(cpu, &from, i * g->size, g->size));
    far_push(cpu, &to, g->size, cpu->seg[SEG_CS].selector);
    far_push(cpu, &to, g->size, cpu->next_rip);
    far_check_target(cpu, g->code, g->offset);
    segment_load_cs(cpu, g->selector, g->code, dpl);
    cpu->seg[SEG_SS] = to.ss;
    far_commit_rsp(cpu, &to);
    finish(cpu, g->offset);
}

static void gate_jump(struct cpu *cpu, uint16_t selector, uint64_t d, bool call)
{
    struct call_gate g = read_gate(cpu, selector, d);
    uint32_t ar = descriptor_ar(g.code);
    if (call && !ar_is_conforming(ar) && AR_DPL(ar) < cpu->cpl) {
        gate_call_inner(cpu, &g);
        return;
    }
    if (!call && !ar_is_conforming(ar) && AR_DPL(ar) != cpu->cpl)
        cpu_raise(cpu, EXC_GP, g.selector & 0xfffcu);
    struct far_stack s = far_stack_current(cpu);
    s.ia32e = cpu_long_mode(cpu);
    if (call) {
        far_push(cpu, &s, g.size, cpu->seg[SEG_CS].selector);
        far_push(cpu, &s, g.size, cpu->next_rip);
    }
    far_check_target(cpu, g.code, g.offset);
    segment_load_cs(cpu, g.selector, g.code, cpu->cpl);
    if (call)
        far_commit_rsp(cpu, &s);
    finish(cpu, g.offset);
}

static void far_jump(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned size, bool call)
{
    if (!cpu_protected(cpu) || cpu_v86(cpu)) {
        real_jump(cpu, selector, offset, size, call);
        return;
    }
    uint32_t error = selector & 0xfffcu;
    uint64_t d;
    if (selector_null(selector))
        cpu_raise_gp0(cpu);
    if (!cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_GP, error);
    uint32_t ar = descriptor_ar(d);
    if (ar & AR_S) {
        code_jump(cpu, selector, d, offset, size, call);
        return;
    }
    unsigned type = AR_TYPE(ar);
    if (type == SYS_CALL_GATE || (type == SYS_CALL_GATE16 && !cpu_long_mode(cpu)))
        gate_jump(cpu, selector, d, call);
    else if (!cpu_long_mode(cpu) &&
             (type == SYS_TASK_GATE || type == SYS_TSS16_AVAILABLE || type == SYS_TSS_AVAILABLE))
        far_task(cpu, selector, d, call);
    else
        cpu_raise(cpu, EXC_GP, error);
}

/* a: offset; b: selector; size: operand */
void helper_far_jmp(struct cpu *cpu, const struct uop *u)
{
    far_jump(cpu, (uint16_t)cpu->r[u->b], cpu->r[u->a] & size_mask(1u << u->size), 1u << u->size, false);
}

void helper_far_call(struct cpu *cpu, const struct uop *u)
{
    far_jump(cpu, (uint16_t)cpu->r[u->b], cpu->r[u->a] & size_mask(1u << u->size), 1u << u->size, true);
}

/* -- RET and IRET -------------------------------------------------------------------------------------- */

/* The code segment that a return goes to, checked (SDM 2B, RET and IRET: "to same / to outer privilege
 * level"). */
static uint64_t return_code(struct cpu *cpu, uint16_t selector)
{
    uint32_t error = selector & 0xfffcu;
    unsigned rpl = selector & 3;
    uint64_t d;
    if (selector_null(selector))
        cpu_raise_gp0(cpu);
    if (!cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_GP, error);
    uint32_t ar = descriptor_ar(d);
    if (!ar_is_code(ar) || code_reserved(cpu, ar) || rpl < cpu->cpl)
        cpu_raise(cpu, EXC_GP, error);
    if (ar_is_conforming(ar) ? AR_DPL(ar) > rpl : AR_DPL(ar) != rpl)
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    return d;
}

/* The stack segment that a return goes to, for ring rpl. */
static struct segment return_ss(struct cpu *cpu, uint16_t selector, unsigned rpl, uint64_t code)
{
    uint32_t error = selector & 0xfffcu;
    struct segment ss;
    uint64_t d;
    if (selector_null(selector)) {
        if (!code_is_64bit(cpu, code) || rpl == 3 || (selector & 3u) != rpl)
            cpu_raise_gp0(cpu);
        segment_null_ss(&ss, selector, rpl);
        return ss;
    }
    if (!cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_GP, error);
    uint32_t ar = descriptor_ar(d);
    if ((selector & 3u) != rpl || !ar_is_writable_data(ar) || AR_DPL(ar) != rpl)
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_SS, error);
    segment_mark_accessed(cpu, selector, d);
    cpu_segment_from_descriptor(&ss, selector, d | BIT(40));
    return ss;
}

static void real_return(struct cpu *cpu, unsigned size, unsigned release)
{
    struct far_stack s = far_stack_current(cpu);
    uint64_t rip = far_peek(cpu, &s, 0, size);
    uint16_t selector = (uint16_t)far_peek(cpu, &s, size, size);
    if (rip > cpu->seg[SEG_CS].limit)
        cpu_raise_gp0(cpu);
    s.sp += 2 * size + release;
    far_commit_rsp(cpu, &s);
    cpu_load_segment_real(cpu, SEG_CS, selector);
    finish(cpu, rip);
}

/*
 * Goes to CS:RIP of ring rpl >= CPL. `s` is past what was popped; with new_stack SS:RSP come from s at +0.
 * `release` bytes of parameters lie on either stack.
 */
static void go_outer(struct cpu *cpu, struct far_stack *s, uint16_t selector, uint64_t code, uint64_t rip,
                     unsigned size, bool new_stack, unsigned release)
{
    unsigned rpl = selector & 3;
    struct far_stack to = *s;
    bool outer = rpl > cpu->cpl;
    if (!code_is_64bit(cpu, code))
        rip = (uint32_t)rip;
    if (new_stack) {
        uint64_t sp = far_peek(cpu, s, 0, size);
        uint16_t ss = (uint16_t)far_peek(cpu, s, size, size);
        to.ss = return_ss(cpu, ss, rpl, code);
        to.sp = sp;
    }
    to.sp += release;
    far_check_target(cpu, code, rip);
    segment_load_cs(cpu, selector, code, rpl);
    cpu->seg[SEG_SS] = to.ss;
    to.ia32e = cpu_64bit(cpu);
    if (new_stack && size == 8)
        cpu->r[REG_RSP] =
            to.ss.ar & AR_DB || to.ia32e ? to.sp : (cpu->r[REG_RSP] & ~0xffffull) | (to.sp & 0xffff);
    else
        far_commit_rsp(cpu, &to);
    if (outer)
        segment_drop_privileged(cpu);
    cpu->next_rip = rip;
}

/* RETF: size: operand; imm: bytes of parameters */
void helper_far_ret(struct cpu *cpu, const struct uop *u)
{
    unsigned size = 1u << u->size, release = (unsigned)u->imm;
    if (!cpu_protected(cpu) || cpu_v86(cpu)) {
        real_return(cpu, size, release);
        return;
    }
    struct far_stack s = far_stack_current(cpu);
    uint64_t rip = far_peek(cpu, &s, 0, size);
    uint16_t selector = (uint16_t)far_peek(cpu, &s, size, size);
    uint64_t code = return_code(cpu, selector);
    s.sp += 2 * size + release;
    if ((selector & 3u) > cpu->cpl)
        go_outer(cpu, &s, selector, code, rip, size, true, release);
    else
        go_outer(cpu, &s, selector, code, rip, size, false, 0);
    cpu_mode_changed(cpu);
}

/* Loads RFLAGS as IRET does, with the privileges of `cpl` before the return. */
static void iret_flags(struct cpu *cpu, uint64_t image, unsigned size, unsigned cpl, unsigned iopl)
{
    uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    if (size > 2)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (cpl <= iopl)
        mask |= FLAG_IF;
    if (cpl == 0) {
        mask |= FLAG_IOPL;
        if (size > 2)
            mask |= FLAG_VIF | FLAG_VIP;
    }
    bool was_on = cpu->rflags & FLAG_IF;
    cpu_set_rflags(cpu, (cpu_rflags(cpu) & ~mask) | (image & mask));
    cpu->rf_loaded = mask & FLAG_RF;
    if (!was_on && (cpu->rflags & FLAG_IF))
        event_recheck(cpu);
}

static void iret_unblock_nmi(struct cpu *cpu)
{
    if (cpu->vmx_non_root)
        vmx_iret(cpu);
    else
        cpu->nmi_blocked = false;
    if (cpu->nmi_pending)
        cpu->attention |= ATTN_NMI;
}

static void real_iret(struct cpu *cpu, unsigned size)
{
    struct far_stack s = far_stack_current(cpu);
    uint64_t rip = far_peek(cpu, &s, 0, size);
    uint16_t selector = (uint16_t)far_peek(cpu, &s, size, size);
    uint64_t image = far_peek(cpu, &s, 2 * size, size);
    if (rip > cpu->seg[SEG_CS].limit)
        cpu_raise_gp0(cpu);
    s.sp += 3 * size;
    far_commit_rsp(cpu, &s);
    cpu_load_segment_real(cpu, SEG_CS, selector);
    iret_flags(cpu, image, size, 0, 0);
    finish(cpu, rip);
}

/* size: operand */
void helper_iret(struct cpu *cpu, const struct uop *u)
{
    unsigned size = 1u << u->size;
    iret_unblock_nmi(cpu);
    if (!cpu_protected(cpu)) {
        real_iret(cpu, size);
        return;
    }
    if (cpu_v86(cpu)) {
        v86_iret(cpu, size);
        return;
    }
    if (cpu->rflags & FLAG_NT) {
        if (cpu_long_mode(cpu))
            cpu_raise_gp0(cpu);
        uint16_t link = (uint16_t)cpu_read_linear(cpu, cpu->seg[SEG_TR].base, 2, MMU_SYSTEM);
        task_switch_by_instruction(cpu, link, TASK_IRET);
    }
    struct far_stack s = far_stack_current(cpu);
    uint64_t rip = far_peek(cpu, &s, 0, size);
    uint16_t selector = (uint16_t)far_peek(cpu, &s, size, size);
    uint64_t image = far_peek(cpu, &s, 2 * size, size);
    if (size == 4 && (image & FLAG_VM) && cpu->cpl == 0 && !cpu_long_mode(cpu)) {
        v86_enter(cpu, &s, rip, selector, image);
        return;
    }
    uint64_t code = return_code(cpu, selector);
    unsigned cpl = cpu->cpl, iopl = cpu_iopl(cpu);
    bool new_stack = cpu_64bit(cpu) || (selector & 3u) > cpl;
    s.sp += 3 * size;
    go_outer(cpu, &s, selector, code, rip, size, new_stack, 0);
    iret_flags(cpu, image, size, cpl, iopl);
    cpu_mode_changed(cpu);
}
