/*
 * cpu/lift/helpers_integer.c -- integer instructions that are calls to C: decimal adjustment, BOUND, ENTER,
 * PUSHA, POPA, CMPXCHG8B, CMPXCHG16B.
 *
 * SDM 2A/2B, the instructions' own pages. Operands: comments of cpu/ir/helper.def.
 * Order:  stacks are probed and written before any register changes, so a fault leaves the registers alone.
 */
#include "cpu/flags.h"
#include "cpu/ir/alu.h"
#include "cpu/ir/helper.h"

/* -- Decimal adjustment -------------------------------------------------------------------------------- */

static unsigned get_al(const struct cpu *cpu)
{
    return (unsigned)cpu->r[REG_RAX] & 0xff;
}

/* ZF, SF and PF of AL; OF, which the SDM leaves undefined, is 0. */
static void flags_of_al(struct cpu *cpu, unsigned cf, unsigned af)
{
    alu_flags(cpu, 0, get_al(cpu), cf, 0);
    if (af)
        cpu->cc_aux |= AUX_AF;
}

static void decimal(struct cpu *cpu, bool subtract)
{
    unsigned old = get_al(cpu), al = old, cf = flag_cf(cpu), af = flag_af(cpu), carry = 0;
    if ((old & 15) > 9 || af) {
        al = subtract ? al - 6 : al + 6;
        carry = cf || (subtract ? old < 6 : al > 0xff);
        af = 1;
    }
    if (old > 0x99 || cf) {
        al = subtract ? al - 0x60 : al + 0x60;
        carry = 1;
    }
    alu_put(cpu, REG_RAX, 0, al);
    flags_of_al(cpu, carry, af);
}

void helper_daa(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    decimal(cpu, false);
}

void helper_das(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    decimal(cpu, true);
}

static void ascii(struct cpu *cpu, bool subtract)
{
    unsigned adjust = (get_al(cpu) & 15) > 9 || flag_af(cpu);
    uint64_t ax = cpu->r[REG_RAX];
    if (adjust)
        ax = subtract ? ax - 0x106 : ax + 0x106;
    alu_put(cpu, REG_RAX, 1, ax & 0xff0f);
    flags_of_al(cpu, adjust, adjust);
}

void helper_aaa(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    ascii(cpu, false);
}

void helper_aas(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    ascii(cpu, true);
}

void helper_aam(struct cpu *cpu, const struct uop *u)
{
    unsigned al = get_al(cpu), base = (unsigned)u->imm;
    alu_put(cpu, REG_RAX, 1, al / base << 8 | al % base);
    flags_of_al(cpu, 0, 0);
}

void helper_aad(struct cpu *cpu, const struct uop *u)
{
    unsigned ah = (unsigned)cpu->r[REG_RAX] >> 8 & 0xff;
    alu_put(cpu, REG_RAX, 1, (get_al(cpu) + ah * (unsigned)u->imm) & 0xff);
    flags_of_al(cpu, 0, 0);
}

/* -- BOUND --------------------------------------------------------------------------------------------- */

void helper_bound(struct cpu *cpu, const struct uop *u)
{
    int64_t index = alu_sx(u->size, cpu->r[u->a]);
    if (index < alu_sx(u->size, cpu->r[u->b]) || index > alu_sx(u->size, cpu->r[u->c]))
        cpu_raise(cpu, EXC_BR, 0);
}

/* -- Stack --------------------------------------------------------------------------------------------- */

static uint64_t stack_cut(const struct uop *u, uint64_t sp)
{
    return alu_zx(AM_ASIZE(u->am) + 1u, sp);
}

static void set_stack(struct cpu *cpu, const struct uop *u, unsigned reg, uint64_t sp)
{
    alu_put(cpu, reg, AM_ASIZE(u->am) + 1u, sp);
}

static void stack_write(struct cpu *cpu, const struct uop *u, uint64_t sp, uint64_t value)
{
    cpu_write(cpu, SEG_SS, stack_cut(u, sp), 1u << u->size, value);
}

static uint64_t stack_read(struct cpu *cpu, const struct uop *u, uint64_t sp)
{
    return cpu_read(cpu, SEG_SS, stack_cut(u, sp), 1u << u->size);
}

/* Probing the far end first makes the usual fault (a stack that must grow) leave memory alone too. */
void helper_pusha(struct cpu *cpu, const struct uop *u)
{
    uint64_t sp = cpu->r[REG_RSP];
    unsigned bytes = 1u << u->size;
    cpu_linear(cpu, SEG_SS, stack_cut(u, sp - 8 * bytes), bytes, MEM_WRITE);
    for (unsigned i = 0; i < 8; i++)
        stack_write(cpu, u, sp - (i + 1) * bytes, alu_zx(u->size, cpu->r[i]));
    set_stack(cpu, u, REG_RSP, sp - 8 * bytes);
}

/* The image of rSP is read over. */
void helper_popa(struct cpu *cpu, const struct uop *u)
{
    uint64_t sp = cpu->r[REG_RSP], value[8];
    unsigned bytes = 1u << u->size;
    for (unsigned i = 0; i < 8; i++)
        value[i] = i == 3 ? 0 : stack_read(cpu, u, sp + i * bytes);
    for (unsigned i = 0; i < 8; i++)
        if (i != 3)
            alu_put(cpu, 7 - i, u->size, value[i]);
    set_stack(cpu, u, REG_RSP, sp + 8 * bytes);
}

/* The new stack pointer is checked by a write's rules before anything is committed (SDM 2A, "ENTER"). */
void helper_enter(struct cpu *cpu, const struct uop *u)
{
    uint64_t sp = cpu->r[REG_RSP], bp = cpu->r[REG_RBP], frame;
    unsigned bytes = 1u << u->size, level = u->aux2;
    sp -= bytes;
    stack_write(cpu, u, sp, alu_zx(u->size, bp));
    frame = (cpu->r[REG_RSP] & ~alu_mask(AM_ASIZE(u->am) + 1u)) | stack_cut(u, sp);
    for (unsigned i = 1; i < level; i++) {
        bp -= bytes;
        sp -= bytes;
        stack_write(cpu, u, sp, stack_read(cpu, u, bp));
    }
    if (level) {
        sp -= bytes;
        stack_write(cpu, u, sp, alu_zx(u->size, frame));
    }
    sp -= (uint64_t)u->imm;
    gva_t linear = cpu_linear(cpu, SEG_SS, stack_cut(u, sp), bytes, MEM_WRITE);
    cpu_probe(cpu, linear, bytes, MEM_WRITE, 0);
    /* rBP takes the frame pointer by operand size, rSP moves by stack size. */
    alu_put(cpu, REG_RBP, u->size, frame);
    set_stack(cpu, u, REG_RSP, sp);
}

/* -- CMPXCHG8B, CMPXCHG16B ----------------------------------------------------------------------------- */

static void set_zf(struct cpu *cpu, bool zf)
{
    alu_setf(cpu, zf ? FLAG_ZF : 0, FLAG_ZF);
}

void helper_cmpxchg8b(struct cpu *cpu, const struct uop *u)
{
    uint64_t old = cpu->r[u->a], expected = cpu->r[REG_RDX] << 32 | (uint32_t)cpu->r[REG_RAX];
    bool equal = old == expected;
    if (equal) {
        cpu->r[u->d] = cpu->r[REG_RCX] << 32 | (uint32_t)cpu->r[REG_RBX];
    } else {
        cpu->r[u->d] = old;
        cpu->r[REG_RAX] = (uint32_t)old;
        cpu->r[REG_RDX] = old >> 32;
    }
    set_zf(cpu, equal);
}

void helper_cmpxchg16b(struct cpu *cpu, const struct uop *u)
{
    enum seg_reg seg = AM_SEG(u->am);
    if ((cpu->r[u->a] + (seg >= SEG_FS ? cpu->seg[seg].base : 0)) & 15) /* before #SS(0) */
        cpu_raise_gp0(cpu);
    gva_t linear = cpu_linear(cpu, seg, cpu->r[u->a], 16, MEM_RMW);
    cpu_probe(cpu, linear, 16, MEM_RMW, 0);
    uint64_t low = cpu_read_linear(cpu, linear, 8, 0), high = cpu_read_linear(cpu, linear + 8, 8, 0);
    bool equal = low == cpu->r[REG_RAX] && high == cpu->r[REG_RDX];
    cpu_write_linear(cpu, linear, 8, equal ? cpu->r[REG_RBX] : low, 0);
    cpu_write_linear(cpu, linear + 8, 8, equal ? cpu->r[REG_RCX] : high, 0);
    if (!equal) {
        cpu->r[REG_RAX] = low;
        cpu->r[REG_RDX] = high;
    }
    set_zf(cpu, equal);
}
