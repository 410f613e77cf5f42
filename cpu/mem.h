/*
 * cpu/mem.h -- the inline hit path of guest memory accesses, and its slow path.
 *
 * A hit is one compare: tag, permission (read and write tables are separate), page crossing, MMIO and
 * observed pages all miss. Only for cpu/: others use cpu_read() and cpu_write().
 */
#ifndef CPU_MEM_H
#define CPU_MEM_H

#include "cpu/cpu.h"

/* A context without any entry: current while data breakpoints are armed, so that each access takes the slow
 * path. */
extern const struct tlb mem_blank_tlb;

static inline uint8_t *mem_hit_read(const struct cpu *cpu, gva_t linear, unsigned size)
{
    const struct tlb_entry *e = &cpu->tlb->read[tlb_index(linear)];
    uint64_t offset = linear ^ e->tag;
    return likely(offset <= PAGE_SIZE - size) ? e->host + offset : NULL;
}

static inline uint8_t *mem_hit_write(const struct cpu *cpu, gva_t linear, unsigned size)
{
    const struct tlb_entry *e = &cpu->tlb->write[tlb_index(linear)];
    uint64_t offset = linear ^ e->tag;
    return likely(offset <= PAGE_SIZE - size) ? e->host + offset : NULL;
}

/* By linear address, any case; raise on faults. `seg` decides #SS or #GP for a non-canonical address. */
uint64_t mem_slow_read(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size, unsigned flags,
                       bool rmw);
void mem_slow_write(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size, uint64_t value,
                    unsigned flags);

/* 16-byte and 32-byte accesses of vector instructions: a fault changes nothing. */
void mem_read16(struct cpu *cpu, enum seg_reg seg, gva_t linear, uint64_t v[2]);
void mem_write16(struct cpu *cpu, enum seg_reg seg, gva_t linear, const uint64_t v[2]);
void mem_read32(struct cpu *cpu, enum seg_reg seg, gva_t linear, uint64_t v[4]);
void mem_write32(struct cpu *cpu, enum seg_reg seg, gva_t linear, const uint64_t v[4]);

static inline uint64_t mem_read(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size)
{
    uint8_t *p = mem_hit_read(cpu, linear, size);
    return likely(p != NULL) ? load_le(p, size) : mem_slow_read(cpu, seg, linear, size, 0, false);
}

static inline void mem_write(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size, uint64_t value)
{
    uint8_t *p = mem_hit_write(cpu, linear, size);
    if (likely(p != NULL))
        store_le(p, value, size);
    else
        mem_slow_write(cpu, seg, linear, size, value, 0);
}

#endif
