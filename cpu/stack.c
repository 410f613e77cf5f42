/*
 * cpu/stack.c -- stacks of far transfers and events: which one, pushes, reads, and rSP at the end.
 *
 * SDM 3A, "Stack Switching", "Stack Switching in IA-32e Mode"; SDM 3A, "Task-State Segment (TSS)".
 * Nothing of struct cpu changes before far_commit_rsp(), so a fault in the middle leaves the transfer not
 * begun.
 */
#include "cpu/system.h"

#include "cpu/flags.h"

struct far_stack far_stack_current(const struct cpu *cpu)
{
    return (struct far_stack){.ss = cpu->seg[SEG_SS], .sp = cpu->r[REG_RSP], .ia32e = cpu_64bit(cpu)};
}

static uint64_t stack_offset(const struct far_stack *s, uint64_t sp)
{
    return s->ia32e ? sp : s->ss.ar & AR_DB ? (uint32_t)sp : (uint16_t)sp;
}

/* SDM 3A, "Limit Checking": for the stack that is being switched to, #SS with its own error code. */
static gva_t stack_linear(struct cpu *cpu, const struct far_stack *s, uint64_t offset, unsigned size)
{
    if (s->ia32e) {
        if (!cpu_canonical(cpu, offset) || !cpu_canonical(cpu, offset + size - 1))
            cpu_raise(cpu, EXC_SS, s->error);
        return offset;
    }
    uint64_t last = offset + size - 1;
    bool bad = s->ss.ar & AR_UNUSABLE;
    if (!(AR_TYPE(s->ss.ar) & 8) && (AR_TYPE(s->ss.ar) & 4))
        bad |= offset <= s->ss.limit || last > (s->ss.ar & AR_DB ? 0xffffffffull : 0xffffull);
    else
        bad |= last > s->ss.limit;
    if (bad)
        cpu_raise(cpu, EXC_SS, s->error);
    return (s->ss.base + offset) & 0xffffffffull;
}

void far_push(struct cpu *cpu, struct far_stack *s, unsigned size, uint64_t value)
{
    uint64_t sp = s->sp - size;
    cpu_write_linear(cpu, stack_linear(cpu, s, stack_offset(s, sp), size), size, value & size_mask(size),
                     s->flags);
    s->sp = sp;
}

uint64_t far_peek(struct cpu *cpu, const struct far_stack *s, unsigned offset, unsigned size)
{
    uint64_t at = stack_offset(s, s->sp + offset);
    return cpu_read_linear(cpu, stack_linear(cpu, s, at, size), size, s->flags);
}

void far_commit_rsp(struct cpu *cpu, const struct far_stack *s)
{
    uint64_t *rsp = &cpu->r[REG_RSP];
    if (s->ia32e)
        *rsp = s->sp;
    else if (s->ss.ar & AR_DB)
        *rsp = (uint32_t)s->sp;
    else
        *rsp = (*rsp & ~0xffffull) | (s->sp & 0xffff);
}

/* -- Inner stacks from the TSS ------------------------------------------------------------------------- */

static uint64_t read_tss(struct cpu *cpu, uint32_t offset, unsigned size, unsigned ext)
{
    const struct segment *tr = &cpu->seg[SEG_TR];
    if ((tr->ar & AR_UNUSABLE) || offset + size - 1 > tr->limit)
        cpu_raise(cpu, EXC_TS, (tr->selector & 0xfffcu) | ext);
    return cpu_read_linear(cpu, tr->base + offset, size, MMU_SYSTEM);
}

uint64_t far_tss_rsp(struct cpu *cpu, unsigned index, unsigned ext)
{
    /* 64-bit TSS: RSP0..2 at 4, IST1..7 at 24H. */
    uint32_t offset = index < 3 ? 4 + index * 8 : 0x24 + (index - 4) * 8;
    uint64_t rsp = read_tss(cpu, offset, 8, ext);
    if (!cpu_canonical(cpu, rsp))
        cpu_raise(cpu, EXC_SS, ext);
    return rsp;
}

/* The new SS of a legacy stack switch, checked against ring `dpl`. */
static struct segment inner_ss(struct cpu *cpu, uint16_t selector, unsigned dpl, unsigned ext)
{
    uint32_t error = (selector & 0xfffcu) | ext;
    struct segment ss;
    uint64_t d;
    if (selector_null(selector))
        cpu_raise(cpu, EXC_TS, ext);
    if (!cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_TS, error);
    uint32_t ar = descriptor_ar(d);
    if ((selector & 3u) != dpl || AR_DPL(ar) != dpl || !ar_is_writable_data(ar))
        cpu_raise(cpu, EXC_TS, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_SS, error);
    segment_mark_accessed(cpu, selector, d);
    cpu_segment_from_descriptor(&ss, selector, d | BIT(40));
    return ss;
}

struct far_stack far_stack_inner(struct cpu *cpu, unsigned dpl, bool ia32e_target, unsigned ext)
{
    struct far_stack s = {.ia32e = ia32e_target, .flags = dpl == 3 ? 0 : MMU_SYSTEM, .error = ext};
    if (ia32e_target) {
        s.sp = far_tss_rsp(cpu, dpl, ext);
        segment_null_ss(&s.ss, (uint16_t)dpl, dpl);
        return s;
    }
    uint16_t selector;
    if (AR_TYPE(cpu->seg[SEG_TR].ar) & 8) {
        s.sp = read_tss(cpu, 4 + dpl * 8, 4, ext);
        selector = (uint16_t)read_tss(cpu, 8 + dpl * 8, 2, ext);
    } else {
        s.sp = read_tss(cpu, 2 + dpl * 4, 2, ext);
        selector = (uint16_t)read_tss(cpu, 4 + dpl * 4, 2, ext);
    }
    s.ss = inner_ss(cpu, selector, dpl, ext);
    s.error = (selector & 0xfffcu) | ext;
    return s;
}
