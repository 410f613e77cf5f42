/*
 * cpu/mem.c -- guest memory as a processor sees it: segment checks, page crossing, local APIC page, bus.
 *
 * SDM 3A, "Limit Checking", "Type Checking", "Alignment Check Exception"; SDM 3A, "Paging".
 * Order: segment checks, alignment, then translation of every page touched, then data; so a write that faults
 * on its second page has changed nothing. Not here: the walks (mmu/), the hit path (mem.h).
 */
#include "cpu/mem.h"

#include <string.h>
#include "base/trace.h"
#include "cpu/exec.h"
#include "cpu/lapic.h"
#include "cpu/vmx/vmx.h"

/* An empty entry's tag belongs to another slot: ~0, and 0 in the last slot. */
const struct tlb mem_blank_tlb = {
    .read = {[0 ... TLB_ENTRIES - 2] = {.tag = ~0ull}, [TLB_ENTRIES - 1] = {.tag = 0}},
    .write = {[0 ... TLB_ENTRIES - 2] = {.tag = ~0ull}, [TLB_ENTRIES - 1] = {.tag = 0}},
    .near_read = {[0 ... TLB_NEAR - 1] = {.tag = TLB_NOWHERE}},
    .near_write = {[0 ... TLB_NEAR - 1] = {.tag = TLB_NOWHERE}},
    .stack = {.read = TLB_NOWHERE, .write = TLB_NOWHERE},
    .exec = {[0 ...(1u << TLB_EXEC_BITS) - 1] = {.tag = 1}},
};

static NORETURN void raise_segment(struct cpu *cpu, enum seg_reg seg)
{
    cpu_raise(cpu, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
}

gva_t cpu_linear(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size, enum mem_access access)
{
    const struct segment *s = &cpu->seg[seg];
    if (cpu->key & KEY_L) {
        gva_t linear = seg >= SEG_FS ? s->base + ea : ea;
        if (unlikely(!cpu_canonical(cpu, linear) || !cpu_canonical(cpu, linear + size - 1)))
            raise_segment(cpu, seg);
        return linear;
    }
    if (s->ar & AR_UNUSABLE)
        raise_segment(cpu, seg);
    uint64_t last = ea + size - 1;
    unsigned type = AR_TYPE(s->ar);
    bool code = type & 8;
    if (cpu_protected(cpu) && !cpu_v86(cpu)) {
        if (access != MEM_READ && (code || !(type & 2)))
            raise_segment(cpu, seg);
        if (access != MEM_WRITE && code && !(type & 2))
            raise_segment(cpu, seg);
    }
    if (!code && (type & 4)) {
        uint64_t top = s->ar & AR_DB ? 0xffffffffull : 0xffffull;
        if (ea <= s->limit || last > top)
            raise_segment(cpu, seg);
    } else if (last > s->limit) {
        raise_segment(cpu, seg);
    }
    return (s->base + ea) & 0xffffffffull;
}

/* SDM 3A, "Alignment Check Exception (#AC)": CPL 3 with CR0.AM and RFLAGS.AC, which is in the block key. */
static void check_alignment(struct cpu *cpu, gva_t linear, unsigned size, unsigned flags)
{
    if (unlikely(cpu->key & KEY_AC) && !(flags & MMU_SYSTEM) && (linear & (size - 1)))
        cpu_raise(cpu, EXC_AC, 0);
}

/* Both ends, before alignment and any translation: an access may begin in the last canonical page and end
 * behind it. */
static void check_canonical(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size)
{
    if (unlikely(!cpu_canonical(cpu, linear) || !cpu_canonical(cpu, linear + size - 1)) && (cpu->key & KEY_L))
        raise_segment(cpu, seg);
}

/* Every byte must be canonical before any page is walked (SDM 1, "Canonical Addressing"). */
static void check_last_byte(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size)
{
    if ((cpu->key & KEY_L) && unlikely(!cpu_canonical(cpu, linear + size - 1)))
        raise_segment(cpu, seg);
}

static bool data_breakpoints(const struct cpu *cpu)
{
    return unlikely(cpu->dr[7] & 0xff);
}

static gpa_t translate(struct cpu *cpu, enum seg_reg seg, gva_t linear, enum mmu_access access,
                       unsigned flags)
{
    struct mmu_fault f;
    gpa_t gpa;
    /* Descriptor tables and TSS lie anywhere even while compatibility mode runs. */
    if (unlikely(!(cpu->key & KEY_L)) && !((flags & MMU_SYSTEM) && (cpu->efer & EFER_LMA)))
        linear &= 0xffffffffull;
    if (unlikely(!mmu_translate(&cpu->mmu, linear, access, flags, &gpa, &f)))
        cpu_raise_mmu(cpu, &f, seg);
    return gpa;
}

/* Accesses to the APIC-access page are virtualised whatever lies there; SDM 3C, "Virtualizing Memory-Mapped
 * APIC Accesses". True when done. */
static bool apic_access_page(struct cpu *cpu, gva_t linear, gpa_t gpa, unsigned size, enum mem_access access,
                             uint64_t *value)
{
    if (likely(!cpu->vmx_non_root))
        return false;
    if (access == MEM_RMW)
        return vmx_apic_access_rmw(cpu, gpa, linear, size, value);
    return vmx_apic_access(cpu, gpa, linear, size, access == MEM_WRITE, false, value);
}

/* An access that is never virtualised, because it crosses pages or is wider than 32 bits: exits when it is
 * there. */
static void apic_access_refused(struct cpu *cpu, gva_t linear, gpa_t gpa, bool write)
{
    uint64_t value;
    if (unlikely(cpu->vmx_non_root))
        vmx_apic_access(cpu, gpa, linear, 16, write, false, &value);
}

uint64_t mem_slow_read(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size, unsigned flags,
                       bool rmw)
{
    check_canonical(cpu, seg, linear, size);
    check_alignment(cpu, linear, size, flags);
    check_last_byte(cpu, seg, linear, size);
    enum mmu_access access = rmw ? MMU_WRITE : MMU_READ;
    gpa_t gpa = translate(cpu, seg, linear, access, flags);
    unsigned first = PAGE_SIZE - (linear & PAGE_MASK);
    uint64_t value;
    if (likely(first >= size)) {
        if (!apic_access_page(cpu, linear, gpa, size, rmw ? MEM_RMW : MEM_READ, &value))
            value = cpu_phys_read(cpu, gpa, size);
    } else {
        gpa_t gpa2 = translate(cpu, seg, linear + first, access, flags);
        apic_access_refused(cpu, linear, gpa, rmw);
        apic_access_refused(cpu, linear + first, gpa2, rmw);
        value = 0;
        for (unsigned i = 0; i < size; i++) {
            gpa_t at = i < first ? gpa + i : gpa2 + (i - first);
            value |= (uint64_t)(uint8_t)cpu_phys_read(cpu, at, 1) << (i * 8);
        }
    }
    if (data_breakpoints(cpu) && !(flags & MMU_SYSTEM))
        debug_check_data(cpu, linear, size, rmw);
    return value;
}

void mem_slow_write(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size, uint64_t value,
                    unsigned flags)
{
    check_canonical(cpu, seg, linear, size);
    check_alignment(cpu, linear, size, flags);
    check_last_byte(cpu, seg, linear, size);
    gpa_t gpa = translate(cpu, seg, linear, MMU_WRITE, flags);
    unsigned first = PAGE_SIZE - (linear & PAGE_MASK);
    if (likely(first >= size)) {
        if (!apic_access_page(cpu, linear, gpa, size, MEM_WRITE, &value))
            cpu_phys_write(cpu, gpa, size, value);
    } else {
        gpa_t gpa2 = translate(cpu, seg, linear + first, MMU_WRITE, flags);
        apic_access_refused(cpu, linear, gpa, true);
        apic_access_refused(cpu, linear + first, gpa2, true);
        for (unsigned i = 0; i < size; i++)
            cpu_phys_write(cpu, i < first ? gpa + i : gpa2 + (i - first), 1, value >> (i * 8) & 0xff);
    }
    if (data_breakpoints(cpu) && !(flags & MMU_SYSTEM))
        debug_check_data(cpu, linear, size, true);
}

/* The local APIC's registers lie over whatever else is at their address (SDM 3A, "Relocating the Local APIC
 * Registers"); its page has no TLB entry, so every access comes here. */
static bool local_apic_page(const struct cpu *cpu, gpa_t gpa)
{
    return unlikely(((gpa & ~PAGE_MASK) | 1) == cpu->mmu.local_apic);
}

uint64_t cpu_phys_read(struct cpu *cpu, gpa_t gpa, unsigned size)
{
    const uint8_t *p = phys_ram(cpu->phys, gpa, size);
    bool apic = local_apic_page(cpu, gpa);
    if (likely(p != NULL && !apic))
        return load_le(p, size);
    cpu_sync(cpu);
    uint64_t value;
    if (apic)
        value = lapic_read(cpu, (uint32_t)(gpa & PAGE_MASK), size);
    else
        value = bus_read_mmio(cpu->bus, gpa, size);
    trace_mmio(cpu->trace, false, gpa, size, value);
    cpu_events_changed(cpu);
    return value;
}

void cpu_phys_write(struct cpu *cpu, gpa_t gpa, unsigned size, uint64_t value)
{
    bool apic = local_apic_page(cpu, gpa);
    if (likely(phys_ram(cpu->phys, gpa, size) != NULL && !apic)) {
        phys_store(cpu->phys, gpa, size, value);
        return;
    }
    cpu_sync(cpu);
    trace_mmio(cpu->trace, true, gpa, size, value);
    if (apic)
        lapic_write(cpu, (uint32_t)(gpa & PAGE_MASK), size, value);
    else
        bus_write_mmio(cpu->bus, gpa, size, value);
    cpu_events_changed(cpu);
}

uint64_t cpu_read(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size)
{
    gva_t linear = cpu_linear(cpu, seg, ea, size, MEM_READ);
    if (unlikely(cpu->key & KEY_AC))
        return mem_slow_read(cpu, seg, linear, size, 0, false);
    return mem_read(cpu, seg, linear, size);
}

void cpu_write(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size, uint64_t value)
{
    gva_t linear = cpu_linear(cpu, seg, ea, size, MEM_WRITE);
    if (unlikely(cpu->key & KEY_AC))
        mem_slow_write(cpu, seg, linear, size, value, 0);
    else
        mem_write(cpu, seg, linear, size, value);
}

uint64_t cpu_read_linear(struct cpu *cpu, gva_t linear, unsigned size, unsigned flags)
{
    return flags ? mem_slow_read(cpu, SEG_DS, linear, size, flags, false)
                 : mem_read(cpu, SEG_DS, linear, size);
}

void cpu_write_linear(struct cpu *cpu, gva_t linear, unsigned size, uint64_t value, unsigned flags)
{
    if (flags)
        mem_slow_write(cpu, SEG_DS, linear, size, value, flags);
    else
        mem_write(cpu, SEG_DS, linear, size, value);
}

/* How much of `left` bytes from `linear` on lies in its page. */
static unsigned in_page(gva_t linear, unsigned left)
{
    return MIN(left, PAGE_SIZE - (unsigned)(linear & PAGE_MASK));
}

/* The host's address of bytes in one page that a processor's ordinary access would hit. */
static uint8_t *hit(const struct cpu *cpu, gva_t linear, unsigned n, bool write, unsigned flags)
{
    if (flags)
        return NULL;
    return write ? mem_hit_write(cpu, linear, n) : mem_hit_read(cpu, linear, n);
}

void cpu_probe(struct cpu *cpu, gva_t linear, unsigned length, enum mem_access access, unsigned flags)
{
    bool write = access != MEM_READ;
    for (unsigned done = 0, n; done < length; done += n) {
        gva_t at = linear + done;
        n = in_page(at, length - done);
        if (likely(hit(cpu, at, n, write, flags) != NULL))
            continue;
        gpa_t gpa = translate(cpu, SEG_DS, at, write ? MMU_WRITE : MMU_READ, flags);
        if (length > 4)
            apic_access_refused(cpu, at, gpa, write);
    }
}

/* Largest access that is naturally aligned at `linear` and not longer than `left`: MMIO sees whole registers.
 */
static unsigned piece(gva_t linear, unsigned left)
{
    unsigned n = 8;
    while (n > left || (linear & (n - 1)))
        n >>= 1;
    return n;
}

void cpu_read_bytes(struct cpu *cpu, gva_t linear, void *buf, unsigned length, unsigned flags)
{
    uint8_t *out = buf;
    cpu_probe(cpu, linear, length, MEM_READ, flags);
    for (unsigned done = 0, n; done < length; done += n) {
        n = in_page(linear + done, length - done);
        const uint8_t *p = hit(cpu, linear + done, n, false, flags);
        if (likely(p != NULL)) {
            memcpy(out + done, p, n);
            continue;
        }
        n = piece(linear + done, length - done);
        store_le(out + done, cpu_read_linear(cpu, linear + done, n, flags), n);
    }
}

void cpu_write_bytes(struct cpu *cpu, gva_t linear, const void *buf, unsigned length, unsigned flags)
{
    const uint8_t *in = buf;
    cpu_probe(cpu, linear, length, MEM_WRITE, flags);
    for (unsigned done = 0, n; done < length; done += n) {
        n = in_page(linear + done, length - done);
        uint8_t *p = hit(cpu, linear + done, n, true, flags);
        if (likely(p != NULL)) {
            memcpy(p, in + done, n);
            continue;
        }
        n = piece(linear + done, length - done);
        cpu_write_linear(cpu, linear + done, n, load_le(in + done, n), flags);
    }
}

/* Both pages of a wide access, before any of its data. */
static void translate_wide(struct cpu *cpu, enum seg_reg seg, gva_t linear, unsigned size,
                           enum mmu_access access)
{
    unsigned first = PAGE_SIZE - (linear & PAGE_MASK);
    bool write = access == MMU_WRITE;
    check_canonical(cpu, seg, linear, size);
    apic_access_refused(cpu, linear, translate(cpu, seg, linear, access, 0), write);
    if (first < size)
        apic_access_refused(cpu, linear + first, translate(cpu, seg, linear + first, access, 0), write);
}

static inline void read_wide(struct cpu *cpu, enum seg_reg seg, gva_t linear, uint64_t *v, unsigned size)
{
    const uint8_t *p = mem_hit_read(cpu, linear, size);
    if (likely(p != NULL)) {
        memcpy(v, p, size);
        return;
    }
    uint64_t data[4] = {0};
    translate_wide(cpu, seg, linear, size, MMU_READ);
    for (unsigned i = 0; i < size / 8; i++)
        data[i] = mem_slow_read(cpu, seg, linear + i * 8, 8, 0, false);
    memcpy(v, data, size);
}

static inline void write_wide(struct cpu *cpu, enum seg_reg seg, gva_t linear, const uint64_t *v,
                              unsigned size)
{
    uint8_t *p = mem_hit_write(cpu, linear, size);
    if (likely(p != NULL)) {
        memcpy(p, v, size);
        return;
    }
    translate_wide(cpu, seg, linear, size, MMU_WRITE);
    for (unsigned i = 0; i < size / 8; i++)
        mem_slow_write(cpu, seg, linear + i * 8, 8, v[i], 0);
}

void mem_read16(struct cpu *cpu, enum seg_reg seg, gva_t linear, uint64_t v[2])
{
    read_wide(cpu, seg, linear, v, 16);
}

void mem_write16(struct cpu *cpu, enum seg_reg seg, gva_t linear, const uint64_t v[2])
{
    write_wide(cpu, seg, linear, v, 16);
}

void mem_read32(struct cpu *cpu, enum seg_reg seg, gva_t linear, uint64_t v[4])
{
    read_wide(cpu, seg, linear, v, 32);
}

void mem_write32(struct cpu *cpu, enum seg_reg seg, gva_t linear, const uint64_t v[4])
{
    write_wide(cpu, seg, linear, v, 32);
}

bool cpu_peek(struct cpu *cpu, gva_t linear, void *buf, unsigned length)
{
    uint8_t *out = buf;
    struct mmu_fault f;
    gpa_t gpa;
    while (length) {
        unsigned n = MIN(length, PAGE_SIZE - (unsigned)(linear & PAGE_MASK));
        if (!mmu_translate(&cpu->mmu, linear, MMU_READ, MMU_PROBE | MMU_SYSTEM | MMU_NO_FILL, &gpa, &f))
            return false;
        const uint8_t *p = phys_ram(cpu->phys, gpa, n);
        if (!p)
            return false;
        memcpy(out, p, n);
        out += n;
        linear += n;
        length -= n;
    }
    return true;
}
