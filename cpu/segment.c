/*
 * cpu/segment.c -- descriptors and segment registers: loading, checking, LAR, LSL, VERR, VERW, LLDT, LTR,
 * ARPL.
 *
 * SDM 3A, "Protection" and "System Data Structures in IA-32e Mode"; SDM 2, the pages of the instructions.
 * Order:  null, index against the table's limit, type, privilege, present; then the accessed bit, then the
 * register. Not here: CS (far.c), what an access checks (mem.c).
 */
#include "cpu/system.h"

#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/vmx/vmx.h"

/* -- Descriptors --------------------------------------------------------------------------------------- */

/* Linear address of the descriptor's first byte; false when [first, last] is outside the table. */
static bool descriptor_address(const struct cpu *cpu, uint16_t selector, unsigned bytes, gva_t *linear)
{
    uint32_t offset = selector & 0xfff8u;
    if (selector & 4) {
        const struct segment *ldt = &cpu->seg[SEG_LDTR];
        if ((ldt->ar & AR_UNUSABLE) || offset + bytes - 1 > ldt->limit)
            return false;
        *linear = ldt->base + offset;
    } else {
        if (offset + bytes - 1 > cpu->gdtr.limit)
            return false;
        *linear = cpu->gdtr.base + offset;
    }
    return true;
}

bool cpu_read_descriptor(struct cpu *cpu, uint16_t selector, uint64_t *descriptor)
{
    gva_t linear;
    if (!descriptor_address(cpu, selector, 8, &linear))
        return false;
    *descriptor = cpu_read_linear(cpu, linear, 8, MMU_SYSTEM);
    return true;
}

bool segment_read_descriptor_high(struct cpu *cpu, uint16_t selector, uint64_t *high)
{
    gva_t linear;
    if (!descriptor_address(cpu, selector, 16, &linear))
        return false;
    *high = cpu_read_linear(cpu, linear + 8, 8, MMU_SYSTEM);
    return true;
}

void cpu_segment_from_descriptor(struct segment *s, uint16_t selector, uint64_t descriptor)
{
    s->selector = selector;
    s->base = descriptor_base(descriptor);
    s->limit = descriptor_limit(descriptor);
    s->ar = descriptor_ar(descriptor);
}

void segment_mark_accessed(struct cpu *cpu, uint16_t selector, uint64_t descriptor)
{
    gva_t linear;
    if ((descriptor >> 40 & 1) || !descriptor_address(cpu, selector, 8, &linear))
        return;
    cpu_write_linear(cpu, linear + 5, 1, (descriptor >> 40 & 0xff) | 1, MMU_SYSTEM);
}

/* -- Segment registers --------------------------------------------------------------------------------- */

void cpu_load_segment_real(struct cpu *cpu, enum seg_reg seg, uint16_t selector)
{
    struct segment *s = &cpu->seg[seg];
    s->selector = selector;
    s->base = (uint32_t)selector << 4;
    /* Limit and the other attributes stay as they are: "unreal" mode. A null one from protected mode is
     * repaired. */
    if (s->ar & AR_UNUSABLE) {
        s->limit = 0xffff;
        s->ar = 0x93;
    }
}

void segment_null_ss(struct segment *ss, uint16_t selector, unsigned cpl)
{
    *ss = (struct segment){.selector = selector, .ar = AR_UNUSABLE | cpl << 5};
}

static void load_ss(struct cpu *cpu, uint16_t selector)
{
    unsigned rpl = selector & 3;
    uint32_t error = selector & 0xfffcu;
    uint64_t d;
    if (selector_null(selector)) {
        if (!cpu_64bit(cpu) || cpu->cpl == 3 || rpl != cpu->cpl)
            cpu_raise_gp0(cpu);
        segment_null_ss(&cpu->seg[SEG_SS], selector, cpu->cpl);
        return;
    }
    if (!cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_GP, error);
    uint32_t ar = descriptor_ar(d);
    if (rpl != cpu->cpl || !ar_is_writable_data(ar) || AR_DPL(ar) != cpu->cpl)
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_SS, error);
    segment_mark_accessed(cpu, selector, d);
    cpu_segment_from_descriptor(&cpu->seg[SEG_SS], selector, d | BIT(40));
}

static void load_data(struct cpu *cpu, enum seg_reg seg, uint16_t selector)
{
    unsigned rpl = selector & 3;
    uint32_t error = selector & 0xfffcu;
    uint64_t d;
    if (selector_null(selector)) {
        cpu->seg[seg] = (struct segment){.selector = selector, .ar = AR_UNUSABLE};
        return;
    }
    if (!cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_GP, error);
    uint32_t ar = descriptor_ar(d);
    if (!(ar & AR_S) || (ar_is_code(ar) && !(AR_TYPE(ar) & 2)))
        cpu_raise(cpu, EXC_GP, error);
    if (!ar_is_conforming(ar) && (rpl > AR_DPL(ar) || cpu->cpl > AR_DPL(ar)))
        cpu_raise(cpu, EXC_GP, error);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    segment_mark_accessed(cpu, selector, d);
    cpu_segment_from_descriptor(&cpu->seg[seg], selector, d | BIT(40));
}

void cpu_load_segment(struct cpu *cpu, enum seg_reg seg, uint16_t selector)
{
    if (!cpu_protected(cpu) || cpu_v86(cpu))
        cpu_load_segment_real(cpu, seg, selector);
    else if (seg == SEG_SS)
        load_ss(cpu, selector);
    else
        load_data(cpu, seg, selector);
}

void segment_drop_privileged(struct cpu *cpu)
{
    static const enum seg_reg data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
        struct segment *s = &cpu->seg[data[i]];
        if (!(s->ar & AR_UNUSABLE) && AR_DPL(s->ar) < cpu->cpl && !ar_is_conforming(s->ar))
            *s = (struct segment){.selector = 0, .ar = AR_UNUSABLE};
    }
}

void segment_load_cs(struct cpu *cpu, uint16_t selector, uint64_t descriptor, unsigned cpl)
{
    selector = (uint16_t)((selector & 0xfffcu) | cpl);
    segment_mark_accessed(cpu, selector, descriptor);
    cpu_segment_from_descriptor(&cpu->seg[SEG_CS], selector, descriptor | BIT(40));
    cpu->cpl = (uint8_t)cpl;
}

/* -- MOV, POP, Lxx ------------------------------------------------------------------------------------- */

static void mov_ss_shadow(struct cpu *cpu)
{
    cpu->shadow_mov_ss = true;
    cpu->attention |= ATTN_SHADOW;
}

/* a: selector; aux2: segment register */
void helper_load_segment(struct cpu *cpu, const struct uop *u)
{
    enum seg_reg seg = (enum seg_reg)u->aux2;
    cpu_load_segment(cpu, seg, (uint16_t)cpu->r[u->a]);
    if (seg == SEG_SS)
        mov_ss_shadow(cpu);
    cpu_mode_changed(cpu);
}

/* d = selector of segment register aux2 */
void helper_read_segment(struct cpu *cpu, const struct uop *u)
{
    cpu->r[u->d] = cpu->seg[u->aux2].selector;
}

/* Pops into segment register aux2; size: operand. rSP moves only when the load succeeded. */
void helper_pop_segment(struct cpu *cpu, const struct uop *u)
{
    enum seg_reg seg = (enum seg_reg)u->aux2;
    struct far_stack s = far_stack_current(cpu);
    uint16_t selector = (uint16_t)far_peek(cpu, &s, 0, 1u << u->size);
    cpu_load_segment(cpu, seg, selector);
    s.sp += 1u << u->size;
    far_commit_rsp(cpu, &s);
    if (seg == SEG_SS)
        mov_ss_shadow(cpu);
    cpu_mode_changed(cpu);
}

/* LDS, LES, LFS, LGS, LSS: d: register; a: offset; b: selector; size; aux2: segment register */
void helper_load_far_pointer(struct cpu *cpu, const struct uop *u)
{
    uint64_t offset = cpu->r[u->a];
    cpu_load_segment(cpu, (enum seg_reg)u->aux2, (uint16_t)cpu->r[u->b]);
    uint64_t *r = &cpu->r[u->d];
    *r = u->size == 3 ? offset : u->size == 2 ? (uint32_t)offset : (*r & ~0xffffull) | (offset & 0xffff);
    cpu_mode_changed(cpu);
}

/* -- LLDT, LTR ----------------------------------------------------------------------------------------- */

/* Base bits 63:32 of a 16-byte system descriptor; raises when it is malformed. */
static uint64_t system_base_high(struct cpu *cpu, uint16_t selector, uint64_t d)
{
    uint64_t high;
    uint32_t error = selector & 0xfffcu;
    if (!segment_read_descriptor_high(cpu, selector, &high) || (high >> 40 & 0x1f))
        cpu_raise(cpu, EXC_GP, error);
    if (!cpu_canonical_register(cpu, descriptor_base(d) | high << 32))
        cpu_raise(cpu, EXC_GP, error);
    return high << 32;
}

/* a: selector */
void helper_lldt(struct cpu *cpu, const struct uop *u)
{
    uint16_t selector = (uint16_t)cpu->r[u->a];
    uint32_t error = selector & 0xfffcu;
    uint64_t d, high = 0;
    if (selector_null(selector)) {
        cpu->seg[SEG_LDTR] = (struct segment){.selector = selector, .ar = AR_UNUSABLE};
        return;
    }
    if ((selector & 4) || !cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_GP, error);
    uint32_t ar = descriptor_ar(d);
    if ((ar & AR_S) || AR_TYPE(ar) != SYS_LDT)
        cpu_raise(cpu, EXC_GP, error);
    if (cpu_64bit(cpu))
        high = system_base_high(cpu, selector, d);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    cpu_segment_from_descriptor(&cpu->seg[SEG_LDTR], selector, d);
    cpu->seg[SEG_LDTR].base |= high;
}

/* a: selector */
void helper_ltr(struct cpu *cpu, const struct uop *u)
{
    uint16_t selector = (uint16_t)cpu->r[u->a];
    uint32_t error = selector & 0xfffcu;
    uint64_t d, high = 0;
    if (selector_null(selector))
        cpu_raise_gp0(cpu);
    if ((selector & 4) || !cpu_read_descriptor(cpu, selector, &d))
        cpu_raise(cpu, EXC_GP, error);
    uint32_t ar = descriptor_ar(d);
    bool available =
        AR_TYPE(ar) == SYS_TSS_AVAILABLE || (AR_TYPE(ar) == SYS_TSS16_AVAILABLE && !cpu_long_mode(cpu));
    if ((ar & AR_S) || !available)
        cpu_raise(cpu, EXC_GP, error);
    if (cpu_64bit(cpu))
        high = system_base_high(cpu, selector, d);
    if (!(ar & AR_P))
        cpu_raise(cpu, EXC_NP, error);
    cpu_write_linear(cpu, cpu->gdtr.base + (selector & 0xfff8u) + 5, 1, (d >> 40 & 0xff) | 2, MMU_SYSTEM);
    cpu_segment_from_descriptor(&cpu->seg[SEG_TR], selector, d | BIT(41));
    cpu->seg[SEG_TR].base |= high;
}

/* -- Looking at descriptors: none of these faults on the selector -------------------------------------- */

static bool privilege_ok(const struct cpu *cpu, uint16_t selector, uint32_t ar)
{
    return ar_is_conforming(ar) || (cpu->cpl <= AR_DPL(ar) && (selector & 3u) <= AR_DPL(ar));
}

/* System types that the instruction knows, one bit each; SDM 2A, tables "Segment and Gate Types". */
static bool look(struct cpu *cpu, uint16_t selector, uint16_t legacy, uint16_t ia32e, uint64_t *d)
{
    if (selector_null(selector) || !cpu_read_descriptor(cpu, selector, d))
        return false;
    uint32_t ar = descriptor_ar(*d);
    if (!(ar & AR_S) && !((cpu_long_mode(cpu) ? ia32e : legacy) >> AR_TYPE(ar) & 1))
        return false;
    return privilege_ok(cpu, selector, ar);
}

static void put_sized(struct cpu *cpu, unsigned reg, unsigned size, uint64_t v)
{
    uint64_t *r = &cpu->r[reg];
    *r = size == 1 ? (*r & ~0xffffull) | (v & 0xffff) : size == 2 ? (uint32_t)v : v;
}

/* d: register; a: selector; size: of d */
void helper_lar(struct cpu *cpu, const struct uop *u)
{
    uint64_t d;
    bool ok = look(cpu, (uint16_t)cpu->r[u->a], 0x1a3e, 0x1a04, &d);
    if (ok)
        put_sized(cpu, u->d, u->size, d >> 32 & 0x00f0ff00);
    cpu_set_zf(cpu, ok);
}

void helper_lsl(struct cpu *cpu, const struct uop *u)
{
    uint64_t d;
    bool ok = look(cpu, (uint16_t)cpu->r[u->a], 0x0a0e, 0x0a04, &d);
    if (ok)
        put_sized(cpu, u->d, u->size, descriptor_limit(d));
    cpu_set_zf(cpu, ok);
}

/* a: selector; imm: 1 VERW, 0 VERR */
void helper_verify(struct cpu *cpu, const struct uop *u)
{
    uint64_t d;
    bool ok = look(cpu, (uint16_t)cpu->r[u->a], 0, 0, &d);
    if (ok) {
        uint32_t ar = descriptor_ar(d);
        ok = u->imm ? ar_is_writable_data(ar) : !ar_is_code(ar) || (AR_TYPE(ar) & 2);
    }
    cpu_set_zf(cpu, ok);
}

/* d: destination selector, adjusted; a: source */
void helper_arpl(struct cpu *cpu, const struct uop *u)
{
    uint16_t dst = (uint16_t)cpu->r[u->d], src = (uint16_t)cpu->r[u->a];
    bool adjust = (dst & 3) < (src & 3);
    if (adjust)
        cpu->r[u->d] = (cpu->r[u->d] & ~3ull) | (src & 3);
    cpu_set_zf(cpu, adjust);
}
