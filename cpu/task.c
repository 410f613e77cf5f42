/*
 * cpu/task.c -- hardware task switches: by JMP, CALL and IRET, and by task gates in the IDT.
 *
 * SDM 3A, "Task Management": "Task Switching" (steps 1 to 14), table "Exception Conditions Checked During a
 * Task Switch"; SDM 3C, "Treatment of Task Switches".
 * Reads:  descriptor of the new TSS, both TSSs.   Writes: old TSS, busy bits, back link, then every register
 * that a TSS holds. Order:  selector, type, present, limit; the VM exit that non-root operation makes of each
 * task switch; every page that will be touched (a #PF is the old task's); the old TSS, busy bits, back link;
 * TR: the commit point. What fails later, descriptors of the new task, fails in the new task, whose selectors
 * are all loaded by then.
 * Not here: privilege checks of the way that leads to the TSS (far.c, interrupt.c).
 */
#include "cpu/system.h"

#include "cpu/vmx/vmx.h"

/*
 * OFFSET of a field in the two TSS formats (SDM 3A, figures "32-Bit Task-State Segment (TSS)", "16-Bit TSS
 * Format"). General registers are in the order of their numbers, segments in that of enum seg_reg.
 *
 *             link  CR3  IP  FLAGS  GPRs  segments  LDT  T    least limit
 *   32-bit    0     1CH  20H 24H    28H   48H       60H  64H  67H
 *   16-bit    0     -    0EH 10H    12H   22H       2AH  -    2BH
 */
struct tss_format {
    uint8_t size; /* bytes of a register */
    uint8_t ip, flags, gpr, segment, segment_count, segment_step, ldt, limit;
};
#define TSS32_CR3  0x1c
#define TSS32_TRAP 0x64

static const struct tss_format tss16 = {2, 0x0e, 0x10, 0x12, 0x22, 4, 2, 0x2a, 0x2b};
static const struct tss_format tss32 = {4, 0x20, 0x24, 0x28, 0x48, 6, 4, 0x60, 0x67};

static const struct tss_format *tss_format(uint32_t ar)
{
    return AR_TYPE(ar) & 8 ? &tss32 : &tss16;
}

/* What the TSS of the new task holds. */
struct task_state {
    uint32_t cr3, ip, flags, gpr[8];
    uint16_t segment[6], ldt;
    bool trap;
};

static bool links(enum task_source source)
{
    return source == TASK_CALL || source == TASK_GATE;
}

/* -- Before the switch --------------------------------------------------------------------------------- */

/* The descriptor of the new TSS, checked: #TS for IRET, else #GP. */
static uint64_t new_descriptor(struct cpu *cpu, uint16_t selector, enum task_source source, unsigned ext)
{
    uint32_t error = (selector & 0xfffcu) | ext;
    unsigned vector = source == TASK_IRET ? EXC_TS : EXC_GP;
    uint64_t d;
    if ((selector & 4) || !cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, vector, error);
    uint32_t ar = descriptor_ar(d);
    unsigned type = AR_TYPE(ar) & ~8u, want = source == TASK_IRET ? SYS_TSS16_BUSY : SYS_TSS16_AVAILABLE;
    if ((ar & AR_S) || type != want)
        cpu_raise(cpu, vector, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    if (descriptor_limit(d) < tss_format(ar)->limit)
        cpu_raise(cpu, EXC_TS, error);
    return d;
}

static gva_t descriptor_type_byte(const struct cpu *cpu, uint16_t selector)
{
    return cpu->gdtr.base + (selector & 0xfff8u) + 5;
}

/* Every byte that the switch will touch: what cannot be reached faults while the old task is whole. */
static void probe_all(struct cpu *cpu, const struct segment *new, enum task_source source, unsigned ext)
{
    const struct segment *old = &cpu->seg[SEG_TR];
    if ((old->ar & AR_UNUSABLE) || old->limit < tss_format(old->ar)->limit)
        cpu_raise(cpu, EXC_TS, (old->selector & 0xfffcu) | ext);
    cpu_probe(cpu, old->base, tss_format(old->ar)->limit + 1u, MEM_WRITE, MMU_SYSTEM);
    cpu_probe(cpu, new->base, tss_format(new->ar)->limit + 1u, MEM_READ, MMU_SYSTEM);
    if (links(source))
        cpu_probe(cpu, new->base, 2, MEM_WRITE, MMU_SYSTEM);
    if (source != TASK_IRET)
        cpu_probe(cpu, descriptor_type_byte(cpu, new->selector), 1, MEM_WRITE, MMU_SYSTEM);
    if (!links(source))
        cpu_probe(cpu, descriptor_type_byte(cpu, old->selector), 1, MEM_WRITE, MMU_SYSTEM);
}

static uint32_t tss_read(struct cpu *cpu, const struct segment *tr, unsigned offset, unsigned size)
{
    return (uint32_t)cpu_read_linear(cpu, tr->base + offset, size, MMU_SYSTEM);
}

static void tss_write(struct cpu *cpu, const struct segment *tr, unsigned offset, unsigned size,
                      uint64_t value)
{
    cpu_write_linear(cpu, tr->base + offset, size, value & size_mask(size), MMU_SYSTEM);
}

static void read_state(struct cpu *cpu, const struct segment *tr, struct task_state *t)
{
    const struct tss_format *f = tss_format(tr->ar);
    *t = (struct task_state){.cr3 = (uint32_t)cpu->cr3};
    if (f == &tss32) {
        t->cr3 = tss_read(cpu, tr, TSS32_CR3, 4);
        t->trap = tss_read(cpu, tr, TSS32_TRAP, 2) & 1;
    }
    t->ip = tss_read(cpu, tr, f->ip, f->size);
    t->flags = tss_read(cpu, tr, f->flags, f->size);
    for (unsigned i = 0; i < 8; i++) {
        t->gpr[i] = tss_read(cpu, tr, f->gpr + i * f->size, f->size);
        if (f == &tss16)
            t->gpr[i] |= 0xffff0000u; /* the upper halves are undefined; they are ones */
    }
    for (unsigned i = 0; i < f->segment_count; i++)
        t->segment[i] = (uint16_t)tss_read(cpu, tr, f->segment + i * f->segment_step, 2);
    t->ldt = (uint16_t)tss_read(cpu, tr, f->ldt, 2);
}

static void save_state(struct cpu *cpu, uint32_t ip, uint32_t flags)
{
    const struct segment *tr = &cpu->seg[SEG_TR];
    const struct tss_format *f = tss_format(tr->ar);
    tss_write(cpu, tr, f->ip, f->size, ip);
    tss_write(cpu, tr, f->flags, f->size, flags);
    for (unsigned i = 0; i < 8; i++)
        tss_write(cpu, tr, f->gpr + i * f->size, f->size, cpu->r[i]);
    for (unsigned i = 0; i < f->segment_count; i++)
        tss_write(cpu, tr, f->segment + i * f->segment_step, 2, cpu->seg[i].selector);
}

static void set_busy(struct cpu *cpu, uint16_t selector, bool busy)
{
    gva_t at = descriptor_type_byte(cpu, selector);
    uint64_t v = cpu_read_linear(cpu, at, 1, MMU_SYSTEM);
    cpu_write_linear(cpu, at, 1, busy ? v | 2 : v & ~2ull, MMU_SYSTEM);
}

/* -- In the new task ----------------------------------------------------------------------------------- */

static void load_ldt(struct cpu *cpu, uint16_t selector, unsigned ext)
{
    uint32_t error = (selector & 0xfffcu) | ext;
    uint64_t d;
    if (selector_null(selector))
        return;
    if ((selector & 4) || !cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_TS, error);
    uint32_t ar = descriptor_ar(d);
    if ((ar & AR_S) || AR_TYPE(ar) != SYS_LDT || !(ar & AR_P))
        cpu_raise(cpu, EXC_TS, error);
    cpu_segment_from_descriptor(&cpu->seg[SEG_LDTR], selector, d);
}

static uint64_t task_descriptor(struct cpu *cpu, uint16_t selector, unsigned ext)
{
    uint64_t d;
    if (!cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_TS, (selector & 0xfffcu) | ext);
    return d;
}

static void load_cs(struct cpu *cpu, uint16_t selector, unsigned ext)
{
    uint32_t error = (selector & 0xfffcu) | ext;
    if (selector_null(selector))
        cpu_raise(cpu, EXC_TS, error);
    uint64_t d = task_descriptor(cpu, selector, ext);
    uint32_t ar = descriptor_ar(d);
    unsigned rpl = selector & 3;
    if (!ar_is_code(ar) || (ar_is_conforming(ar) ? AR_DPL(ar) > rpl : AR_DPL(ar) != rpl))
        cpu_raise(cpu, EXC_TS, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    segment_load_cs(cpu, selector, d, rpl);
}

static void load_ss(struct cpu *cpu, uint16_t selector, unsigned ext)
{
    uint32_t error = (selector & 0xfffcu) | ext;
    if (selector_null(selector))
        cpu_raise(cpu, EXC_TS, error);
    uint64_t d = task_descriptor(cpu, selector, ext);
    uint32_t ar = descriptor_ar(d);
    if (!ar_is_writable_data(ar) || AR_DPL(ar) != cpu->cpl || (selector & 3u) != cpu->cpl)
        cpu_raise(cpu, EXC_TS, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_SS, error);
    segment_mark_accessed(cpu, selector, d);
    cpu_segment_from_descriptor(&cpu->seg[SEG_SS], selector, d | BIT(40));
}

static void load_data(struct cpu *cpu, enum seg_reg seg, uint16_t selector, unsigned ext)
{
    uint32_t error = (selector & 0xfffcu) | ext;
    if (selector_null(selector))
        return;
    uint64_t d = task_descriptor(cpu, selector, ext);
    uint32_t ar = descriptor_ar(d);
    if (!(ar & AR_S) || (ar_is_code(ar) && !(AR_TYPE(ar) & 2)))
        cpu_raise(cpu, EXC_TS, error);
    if (!ar_is_conforming(ar) && ((selector & 3u) > AR_DPL(ar) || cpu->cpl > AR_DPL(ar)))
        cpu_raise(cpu, EXC_TS, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    segment_mark_accessed(cpu, selector, d);
    cpu_segment_from_descriptor(&cpu->seg[seg], selector, d | BIT(40));
}

/* Registers that need no descriptor. The segment registers hold their selectors and nothing else yet: an
 * exception that one of them causes is taken with what has been loaded so far. */
static void load_registers(struct cpu *cpu, const struct task_state *t)
{
    cpu->rip = cpu->next_rip = t->ip;
    bool was_on = cpu->rflags & FLAG_IF;
    cpu_set_rflags(cpu, t->flags);
    cpu->rf_loaded = t->flags & FLAG_RF; /* the instruction that switches does not clear it */
    if (!was_on && (cpu->rflags & FLAG_IF))
        event_recheck(cpu);
    for (unsigned i = 0; i < 8; i++)
        cpu->r[i] = t->gpr[i];
    unsigned cpl = t->flags & FLAG_VM ? 3 : t->segment[SEG_CS] & 3;
    for (enum seg_reg i = SEG_ES; i <= SEG_GS; i++)
        cpu->seg[i] = (struct segment){.selector = t->segment[i], .ar = AR_UNUSABLE};
    cpu->seg[SEG_CS].ar = AR_P | AR_S | 11 | cpl << 5;
    cpu->seg[SEG_SS].ar |= cpl << 5;
    cpu->seg[SEG_LDTR] = (struct segment){.selector = t->ldt, .ar = AR_UNUSABLE};
    cpu->cpl = (uint8_t)cpl;
}

static void load_segments(struct cpu *cpu, const struct task_state *t, unsigned ext)
{
    load_ldt(cpu, t->ldt, ext);
    if (cpu_v86(cpu)) {
        v86_load_segments(cpu, t->segment);
    } else {
        load_cs(cpu, t->segment[SEG_CS], ext);
        load_ss(cpu, t->segment[SEG_SS], ext);
        load_data(cpu, SEG_DS, t->segment[SEG_DS], ext);
        load_data(cpu, SEG_ES, t->segment[SEG_ES], ext);
        load_data(cpu, SEG_FS, t->segment[SEG_FS], ext);
        load_data(cpu, SEG_GS, t->segment[SEG_GS], ext);
    }
    cpu_mode_changed(cpu);
    if (t->ip > cpu->seg[SEG_CS].limit)
        cpu_raise(cpu, EXC_GP, ext);
}

/* -- The switch ---------------------------------------------------------------------------------------- */

void task_switch(struct cpu *cpu, uint16_t selector, enum task_source source, const struct task_return *from)
{
    uint64_t d = new_descriptor(cpu, selector, source, from->ext);
    if (cpu->vmx_non_root)
        vmx_task_switch(cpu, selector, source);

    struct segment tr;
    struct task_state t;
    cpu_segment_from_descriptor(&tr, selector, d | BIT(41));
    probe_all(cpu, &tr, source, from->ext);
    read_state(cpu, &tr, &t);
    bool pae = (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE);
    if (pae && t.cr3 != cpu->cr3 && !cpu_load_pdptes(cpu, t.cr3))
        cpu_raise(cpu, EXC_TS, (selector & 0xfffcu) | from->ext);

    uint16_t old = cpu->seg[SEG_TR].selector;
    if (!links(source))
        set_busy(cpu, old, false);
    save_state(cpu, (uint32_t)from->rip,
               (uint32_t)(source == TASK_IRET ? from->rflags & ~(uint64_t)FLAG_NT : from->rflags));
    if (links(source)) {
        tss_write(cpu, &tr, 0, 2, old);
        t.flags |= FLAG_NT;
    }
    if (source != TASK_IRET)
        set_busy(cpu, selector, true);

    /* The commit point. */
    vmx_leave_block(cpu);
    cpu->seg[SEG_TR] = tr;
    cpu->cr0 |= CR0_TS;
    cpu->dr[7] &= ~(BIT(0) | BIT(2) | BIT(4) | BIT(6) | BIT(8)); /* L0 to L3 and LE */
    if (cpu->cr0 & CR0_PG)
        cpu->cr3 = t.cr3;
    load_registers(cpu, &t);
    cpu_mode_changed(cpu);
    load_segments(cpu, &t, from->ext);
    if (t.trap) {
        cpu->pending_db |= DR6_BT;
        cpu->attention |= ATTN_DEBUG;
    }
}

void task_switch_by_instruction(struct cpu *cpu, uint16_t selector, enum task_source source)
{
    struct task_return from = {.rip = cpu->next_rip, .rflags = cpu_rflags(cpu) & ~(uint64_t)FLAG_RF};
    uint32_t attention = cpu->attention;
    bool tf = cpu->rflags & FLAG_TF;
    task_switch(cpu, selector, source, &from);
    if (attention & (ATTN_SINGLE | ATTN_SHADOW))
        event_after_instruction(cpu, tf, attention & ATTN_SHADOW);
    cpu->rf_loaded = false;
    cpu_resume(cpu);
}
