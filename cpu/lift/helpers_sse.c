/*
 * cpu/lift/helpers_sse.c -- the few vector instructions that are ours on every host.
 *
 * RCPPS and RSQRTPS differ between processors (SDM 2B: relative error at most 1.5 * 2^-12). Ours: the exact
 * quotient cut to 12 bits of fraction, on every host. Denormal operands count as zero, results that would be
 * denormal are zero.
 */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/exec.h"
#include "cpu/ir/helper.h"

static uint32_t bits_of(float f)
{
    uint32_t v;
    memcpy(&v, &f, sizeof(v));
    return v;
}

static uint32_t approximate(uint32_t v, bool root)
{
    uint32_t sign = v & 0x80000000u, exponent = v >> 23 & 0xff, fraction = v & 0x7fffffu;
    if (exponent == 0xff && fraction)
        return v | 0x400000u; /* quiet the NaN */
    if (exponent == 0)
        return sign | 0x7f800000u;
    if (root && sign)
        return 0xffc00000u;
    if (exponent == 0xff)
        return sign;
    float f;
    memcpy(&f, &v, sizeof(f));
    double exact = root ? 1.0 / sqrt((double)f) : 1.0 / (double)f;
    if (fabs(exact) < 0x1p-126)
        return sign;
    return bits_of((float)exact) & ~0x7ffu;
}

/* d; a: operand; b: where the upper elements of scalar VEX forms come from; aux2: elements; imm bit 0:
 * reciprocal square root, bit 1: VEX */
void helper_sse_approximate(struct cpu *cpu, const struct uop *u)
{
    bool vex = u->imm & 2;
    union vreg v = cpu->v[vex ? u->b : u->d];
    for (unsigned i = 0; i < u->aux2; i++)
        v.d[i] = approximate(cpu->v[u->a].d[i], u->imm & 1);
    if (vex && u->aux2 != 8)
        v.q[2] = v.q[3] = 0;
    cpu->v[u->d] = v;
}

void helper_sse_maskmov(struct cpu *cpu, const struct uop *u)
{
    bool mmx = u->aux2;
    if (mmx && (cpu->x87.fsw & 0x80))
        cpu_raise(cpu, EXC_MF, 0);
    const uint8_t *data = mmx ? cpu->x87.r[u->d].b : cpu->v[u->d].b;
    const uint8_t *mask = mmx ? cpu->x87.r[u->a].b : cpu->v[u->a].b;
    unsigned n = mmx ? 8 : 16;
    for (unsigned i = 0; i < n; i++) /* all or nothing */
        if (mask[i] & 0x80)
            cpu_probe(cpu, cpu_linear(cpu, AM_SEG(u->am), cpu->r[u->b] + i, 1, MEM_WRITE), 1, MEM_WRITE, 0);
    for (unsigned i = 0; i < n; i++)
        if (mask[i] & 0x80)
            cpu_write(cpu, AM_SEG(u->am), cpu->r[u->b] + i, 1, data[i]);
    if (mmx) {
        cpu->x87.top = 0;
        cpu->x87.ftw = 0xff;
    }
}

void helper_vector_probe(struct cpu *cpu, const struct uop *u)
{
    gva_t linear = cpu_linear(cpu, AM_SEG(u->am), cpu->r[u->a], u->aux2, MEM_WRITE);
    if (unlikely(cpu->key & KEY_AC) && (linear & (u->aux2 - 1)))
        cpu_raise(cpu, EXC_AC, 0);
    cpu_probe(cpu, linear, u->aux2, MEM_WRITE, 0);
}

void helper_emms(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    if (cpu->x87.fsw & 0x80)
        cpu_raise(cpu, EXC_MF, 0);
    cpu->x87.top = 0;
    cpu->x87.ftw = 0;
}
