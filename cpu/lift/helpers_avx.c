/*
 * cpu/lift/helpers_avx.c -- AVX instructions that touch memory element by element, and VZEROALL, VZEROUPPER.
 *
 * SDM 2B, "VMASKMOV" and "VPMASKMOV": elements whose mask bit is 0 cannot fault; a store is all or nothing.
 * SDM 2C, "VPGATHERDD": elements are fetched from the lowest up; a fault leaves those before it in the
 * destination, with their mask elements zero, so that the instruction can go on where it stopped.
 */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/exec.h"
#include "cpu/ir/helper.h"

static uint64_t cut(const struct uop *u, uint64_t ea)
{
    unsigned asize = AM_ASIZE(u->am);
    return asize == ASIZE_64 ? ea : asize == ASIZE_32 ? (uint32_t)ea : (uint16_t)ea;
}

static bool selected(const union vreg *mask, unsigned i, unsigned size)
{
    return mask->b[(i + 1) * size - 1] & 0x80;
}

/*
 * SDM 2B, "VMASKMOV" ("No AC# reported for any mask bit combinations"), SDM 2C, "VPGATHERDD" ("does not
 * perform AC checks"): bytes are always aligned.
 */
static uint64_t read_element(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size)
{
    if (likely(!(cpu->key & KEY_AC)))
        return cpu_read(cpu, seg, ea, size);
    gva_t linear = cpu_linear(cpu, seg, ea, size, MEM_READ);
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= cpu_read_linear(cpu, linear + i, 1, 0) << (i * 8);
    return value;
}

/* After a probe: cannot fault. */
static void write_element(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size, uint64_t value)
{
    gva_t linear = cpu_linear(cpu, seg, ea, size, MEM_WRITE);
    if (likely(!(cpu->key & KEY_AC)))
        cpu_write_linear(cpu, linear, size, value, 0);
    else
        for (unsigned i = 0; i < size; i++)
            cpu_write_linear(cpu, linear + i, 1, value >> (i * 8) & 0xff, 0);
}

/* imm: 1 whole registers, 0 their upper halves; aux2: how many registers */
void helper_avx_zero(struct cpu *cpu, const struct uop *u)
{
    for (unsigned i = 0; i < u->aux2; i++) {
        if (u->imm)
            cpu->v[i].q[0] = cpu->v[i].q[1] = 0;
        cpu->v[i].q[2] = cpu->v[i].q[3] = 0;
    }
}

void helper_avx_maskmov(struct cpu *cpu, const struct uop *u)
{
    enum seg_reg seg = AM_SEG(u->am);
    unsigned size = 1u << u->size;
    const union vreg *mask = &cpu->v[u->a];
    union vreg v;
    memset(&v, 0, sizeof(v));
    for (unsigned i = 0; i < u->aux2; i++) {
        uint64_t ea = cut(u, cpu->r[u->b] + i * size);
        if (!selected(mask, i, size))
            continue;
        if (u->imm)
            cpu_probe(cpu, cpu_linear(cpu, seg, ea, size, MEM_WRITE), size, MEM_WRITE, 0);
        else
            store_le(v.b + i * size, read_element(cpu, seg, ea, size), size);
    }
    if (!u->imm) {
        cpu->v[u->d] = v;
        return;
    }
    for (unsigned i = 0; i < u->aux2; i++)
        if (selected(mask, i, size))
            write_element(cpu, seg, cut(u, cpu->r[u->b] + i * size), size,
                          load_le(cpu->v[u->d].b + i * size, size));
}

static void clear_above(union vreg *v, unsigned from)
{
    memset(v->b + from, 0, sizeof(v->b) - from);
}

/* d destination, a mask, b index, c base; size: element; aux2: elements; imm 1:0 scale, bit 2: 64-bit
 * indices */
void helper_avx_gather(struct cpu *cpu, const struct uop *u)
{
    unsigned size = 1u << u->size, count = u->aux2, scale = u->imm & 3;
    union vreg *v = &cpu->v[u->d], *mask = &cpu->v[u->a];
    const union vreg *index = &cpu->v[u->b];
    for (unsigned i = 0; i < count; i++)
        memset(mask->b + i * size, selected(mask, i, size) ? 0xff : 0, size);
    clear_above(mask, count * size);
    for (unsigned i = 0; i < count; i++) {
        if (!selected(mask, i, size))
            continue;
        uint64_t offset = u->imm & 4 ? index->q[i] : (uint64_t)(int64_t)(int32_t)index->d[i];
        uint64_t value = read_element(cpu, AM_SEG(u->am), cut(u, cpu->r[u->c] + (offset << scale)), size);
        store_le(v->b + i * size, value, size);
        memset(mask->b + i * size, 0, size);
    }
    clear_above(v, count * size);
}
