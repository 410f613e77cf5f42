/*
 * cpu/io.c -- IN, OUT, INS, OUTS: permission, VMX intercept, the bus.
 *
 * SDM 1, "I/O Protection Mechanism"; SDM 2, the pages of the instructions.
 * Order:  IOPL and the TSS's bitmap (#GP(0)), VM exit, memory operand of INS and OUTS, port; breakpoints are
 * traps. INS and OUTS do one iteration an execution; a repeated one goes on at the same RIP, so each counts
 * as one instruction and is an interrupt point.
 */
#include "cpu/system.h"

#include "base/trace.h"
#include "cpu/exec.h"
#include "cpu/ir/helper.h"
#include "cpu/vmx/vmx.h"

static void check_permission(struct cpu *cpu, uint16_t port, unsigned size)
{
    if (!cpu_protected(cpu) || (!cpu_v86(cpu) && cpu->cpl <= cpu_iopl(cpu)))
        return;
    const struct segment *tr = &cpu->seg[SEG_TR];
    if ((tr->ar & AR_UNUSABLE) || !(AR_TYPE(tr->ar) & 8) || tr->limit < 103)
        cpu_raise_gp0(cpu);
    uint32_t base = (uint32_t)cpu_read_linear(cpu, tr->base + 102, 2, MMU_SYSTEM);
    uint32_t at = base + port / 8;
    if (at + 1 > tr->limit)
        cpu_raise_gp0(cpu);
    uint32_t bits = (uint32_t)cpu_read_linear(cpu, tr->base + at, 2, MMU_SYSTEM);
    if (bits >> (port & 7) & ((1u << size) - 1))
        cpu_raise_gp0(cpu);
}

static uint32_t port_read(struct cpu *cpu, uint16_t port, unsigned size)
{
    uint32_t v = bus_read_pio(cpu->bus, port, size);
    trace_pio(cpu->trace, false, port, size, v);
    cpu_events_changed(cpu);
    debug_check_io(cpu, port, size);
    return v;
}

static void port_write(struct cpu *cpu, uint16_t port, unsigned size, uint32_t value)
{
    trace_pio(cpu->trace, true, port, size, value);
    bus_write_pio(cpu->bus, port, size, value);
    cpu_events_changed(cpu);
    debug_check_io(cpu, port, size);
}

/* size; aux2: 1 when the port is imm, else it is DX */
static uint16_t plain_port(struct cpu *cpu, const struct uop *u, bool in)
{
    uint16_t port = u->aux2 ? (uint16_t)u->imm : (uint16_t)cpu->r[REG_RDX];
    unsigned size = 1u << u->size;
    check_permission(cpu, port, size);
    if (cpu->vmx_non_root) {
        struct vmx_io io = {.port = port, .size = (uint8_t)size, .in = in, .immediate = u->aux2};
        vmx_io(cpu, &io);
    }
    return port;
}

void helper_in(struct cpu *cpu, const struct uop *u)
{
    uint16_t port = plain_port(cpu, u, true);
    uint32_t v = port_read(cpu, port, 1u << u->size);
    uint64_t *rax = &cpu->r[REG_RAX];
    if (u->size == 2)
        *rax = v;
    else
        *rax = (*rax & ~size_mask(1u << u->size)) | (v & size_mask(1u << u->size));
}

void helper_out(struct cpu *cpu, const struct uop *u)
{
    uint16_t port = plain_port(cpu, u, false);
    port_write(cpu, port, 1u << u->size, (uint32_t)(cpu->r[REG_RAX] & size_mask(1u << u->size)));
}

/* -- INS and OUTS -------------------------------------------------------------------------------------- */

static uint64_t address_mask(const struct uop *u)
{
    return AM_ASIZE(u->am) == ASIZE_64 ? ~0ull : AM_ASIZE(u->am) == ASIZE_32 ? 0xffffffffull : 0xffffull;
}

static void put_address(struct cpu *cpu, const struct uop *u, unsigned reg, uint64_t v)
{
    uint64_t *r = &cpu->r[reg];
    *r = AM_ASIZE(u->am) == ASIZE_64   ? v
         : AM_ASIZE(u->am) == ASIZE_32 ? (uint32_t)v
                                       : (*r & ~0xffffull) | (v & 0xffff);
}

/* am: address size and segment; size; aux2: repeated */
static void io_string(struct cpu *cpu, const struct uop *u, bool in)
{
    unsigned size = 1u << u->size, reg = in ? REG_RDI : REG_RSI;
    enum seg_reg seg = in ? SEG_ES : AM_SEG(u->am);
    uint64_t mask = address_mask(u), count = cpu->r[REG_RCX] & mask;
    uint16_t port = (uint16_t)cpu->r[REG_RDX];
    cpu->rep_rip = REP_NONE;
    if (u->aux2 && count == 0)
        return;
    check_permission(cpu, port, size);
    uint64_t ea = cpu->r[reg] & mask;
    if (cpu->vmx_non_root) {
        struct vmx_io io = {.port = port,
                            .size = (uint8_t)size,
                            .in = in,
                            .string = true,
                            .rep = u->aux2,
                            .asize = AM_ASIZE(u->am),
                            .seg = (uint8_t)seg};
        gva_t base = seg >= SEG_FS || !cpu_64bit(cpu) ? cpu->seg[seg].base : 0;
        io.linear = cpu_64bit(cpu) ? base + ea : (uint32_t)(base + ea);
        vmx_io(cpu, &io);
    }
    if (in) {
        gva_t linear = cpu_linear(cpu, seg, ea, size, MEM_WRITE);
        cpu_probe(cpu, linear, size, MEM_WRITE, 0);
        cpu_write(cpu, seg, ea, size, port_read(cpu, port, size));
    } else {
        port_write(cpu, port, size, (uint32_t)cpu_read(cpu, seg, ea, size));
    }
    uint64_t step = cpu->rflags & FLAG_DF ? -(uint64_t)size : size;
    put_address(cpu, u, reg, cpu->r[reg] + step);
    if (u->aux2) {
        put_address(cpu, u, REG_RCX, cpu->r[REG_RCX] - 1);
        if (count > 1)
            cpu->next_rip = cpu->rep_rip = cpu->rip;
    }
}

void helper_ins(struct cpu *cpu, const struct uop *u)
{
    io_string(cpu, u, true);
}

void helper_outs(struct cpu *cpu, const struct uop *u)
{
    io_string(cpu, u, false);
}
