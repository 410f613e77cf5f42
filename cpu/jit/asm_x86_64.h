/*
 * cpu/jit/asm_x86_64.h -- x86-64 instruction encoder: operands in, bytes out.
 *
 * SDM 2A, "Instruction Format". Sizes are log2 of bytes. A full buffer sets `full` and drops what follows.
 */
#ifndef CPU_JIT_ASM_X86_64_H
#define CPU_JIT_ASM_X86_64_H

#include <string.h>
#include "base/types.h"

enum host_reg {
    H_RAX,
    H_RCX,
    H_RDX,
    H_RBX,
    H_RSP,
    H_RBP,
    H_RSI,
    H_RDI,
    H_R8,
    H_R9,
    H_R10,
    H_R11,
    H_R12,
    H_R13,
    H_R14,
    H_R15,
};

struct asm_buf {
    uint8_t *at, *end;
    bool full;
    uint32_t
        used; /* registers that were named as operands, not only in addresses, since somebody cleared it */
};

/* A register, or memory [base + index << scale + disp]. */
struct rm {
    bool mem;
    uint8_t base; /* or the register */
    uint8_t index, scale;
    bool has_index;
    int32_t disp;
};

static inline struct rm rm_reg(unsigned reg)
{
    return (struct rm){.base = (uint8_t)reg};
}
static inline struct rm rm_mem(unsigned base, int32_t disp)
{
    return (struct rm){.mem = true, .base = (uint8_t)base, .disp = disp};
}
static inline struct rm rm_sib(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct rm){.mem = true,
                       .base = (uint8_t)base,
                       .has_index = true,
                       .index = (uint8_t)index,
                       .scale = (uint8_t)scale,
                       .disp = disp};
}

static inline void asm_byte(struct asm_buf *a, unsigned v)
{
    if (a->at < a->end)
        *a->at++ = (uint8_t)v;
    else
        a->full = true;
}
static inline void asm_bytes(struct asm_buf *a, const void *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        asm_byte(a, ((const uint8_t *)p)[i]);
}
static inline void asm_u32(struct asm_buf *a, uint32_t v)
{
    asm_bytes(a, &v, 4);
}
static inline void asm_u64(struct asm_buf *a, uint64_t v)
{
    asm_bytes(a, &v, 8);
}

static inline void asm_modrm(struct asm_buf *a, unsigned reg, struct rm m)
{
    a->used |= 1u << (reg & 31);
    reg = (reg & 7) << 3;
    if (!m.mem) {
        a->used |= 1u << (m.base & 31);
        asm_byte(a, 0xc0 | reg | (m.base & 7));
        return;
    }
    bool sib = m.has_index || (m.base & 7) == H_RSP;
    unsigned mod = m.disp == 0 && (m.base & 7) != H_RBP ? 0 : m.disp == (int8_t)m.disp ? 0x40 : 0x80;
    asm_byte(a, mod | reg | (sib ? 4 : m.base & 7));
    if (sib)
        asm_byte(a, (unsigned)m.scale << 6 | (m.has_index ? m.index & 7u : 4u) << 3 | (m.base & 7));
    if (mod == 0x40)
        asm_byte(a, (uint8_t)m.disp);
    else if (mod == 0x80)
        asm_u32(a, (uint32_t)m.disp);
}

static inline void asm_opcode(struct asm_buf *a, uint32_t opcode)
{
    if (opcode > 0xffff)
        asm_byte(a, opcode >> 16);
    if (opcode > 0xff)
        asm_byte(a, opcode >> 8);
    asm_byte(a, opcode);
}

/* size 1 brings the 66H prefix, size 3 REX.W; opcode: up to three bytes (0FH, 0F38H ... included). */
static inline void asm_op_prefix(struct asm_buf *a, unsigned prefix, unsigned size, uint32_t opcode,
                                 unsigned reg, struct rm m)
{
    if (size == 1)
        asm_byte(a, 0x66);
    if (prefix)
        asm_byte(a, prefix);
    unsigned rex = 0x40u | (unsigned)(size == 3) << 3 | (reg >> 3) << 2 |
                   (m.mem && m.has_index ? (unsigned)m.index >> 3 : 0) << 1 | (unsigned)m.base >> 3;
    if (rex != 0x40 || (size == 0 && (reg >= 4 || (!m.mem && m.base >= 4))))
        asm_byte(a, rex);
    asm_opcode(a, opcode);
    asm_modrm(a, reg, m);
}
static inline void asm_op(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, struct rm m)
{
    asm_op_prefix(a, 0, size, opcode, reg, m);
}
/* Opcodes whose low bit says "not a byte". */
static inline void asm_op_w(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, struct rm m)
{
    asm_op(a, size, opcode | (size != 0), reg, m);
}

/* VEX: map 1 0F, 2 0F38, 3 0F3A; pp 0 none, 1 66, 2 F3, 3 F2. */
static inline void asm_vex(struct asm_buf *a, unsigned map, unsigned pp, unsigned w, unsigned l,
                           unsigned opcode, unsigned reg, unsigned vvvv, struct rm m)
{
    unsigned x = m.mem && m.has_index ? (unsigned)m.index >> 3 : 0;
    a->used |= 1u << vvvv;
    asm_byte(a, 0xc4);
    asm_byte(a, (~reg >> 3 & 1) << 7 | (~x & 1) << 6 | (~((unsigned)m.base >> 3) & 1) << 5 | map);
    asm_byte(a, w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
    asm_byte(a, opcode);
    asm_modrm(a, reg, m);
}

/* dst = src, registers or memory on one side; 32 bits zero-extend. */
static inline void asm_load(struct asm_buf *a, unsigned size, unsigned reg, struct rm m)
{
    asm_op_w(a, size, 0x8a, reg, m);
}
static inline void asm_store(struct asm_buf *a, unsigned size, unsigned reg, struct rm m)
{
    asm_op_w(a, size, 0x88, reg, m);
}
static inline void asm_mov(struct asm_buf *a, unsigned dst, unsigned src)
{
    if (dst != src)
        asm_op(a, 3, 0x8b, dst, rm_reg(src));
}
/* Does not touch flags. */
static inline void asm_imm64(struct asm_buf *a, unsigned reg, uint64_t v)
{
    a->used |= 1u << reg;
    if (v == (uint32_t)v) {
        if (reg >= 8)
            asm_byte(a, 0x41);
        asm_byte(a, 0xb8 | (reg & 7));
        asm_u32(a, (uint32_t)v);
    } else if ((int64_t)v == (int32_t)v) {
        asm_op(a, 3, 0xc7, 0, rm_reg(reg));
        asm_u32(a, (uint32_t)v);
    } else {
        asm_byte(a, 0x48 | reg >> 3);
        asm_byte(a, 0xb8 | (reg & 7));
        asm_u64(a, v);
    }
}
/* [m] = imm, sign-extended from 32 bits for size 3. */
static inline void asm_store_imm(struct asm_buf *a, unsigned size, struct rm m, int32_t v)
{
    asm_op_w(a, size, 0xc6, 0, m);
    if (size == 0)
        asm_byte(a, (uint8_t)v);
    else if (size == 1)
        asm_bytes(a, &v, 2);
    else
        asm_u32(a, (uint32_t)v);
}

/* Group 1 arithmetic by number: 0 ADD 1 OR 2 ADC 3 SBB 4 AND 5 SUB 6 XOR 7 CMP. */
static inline void asm_alu(struct asm_buf *a, unsigned size, unsigned op, unsigned reg, struct rm m)
{
    asm_op_w(a, size, op << 3 | 2, reg, m); /* reg op= m */
}
static inline void asm_alu_store(struct asm_buf *a, unsigned size, unsigned op, unsigned reg, struct rm m)
{
    asm_op_w(a, size, op << 3, reg, m); /* m op= reg */
}
static inline void asm_alu_imm(struct asm_buf *a, unsigned size, unsigned op, struct rm m, int32_t v)
{
    if (size == 0) {
        asm_op(a, 0, 0x80, op, m);
        asm_byte(a, (uint8_t)v);
    } else if (v == (int8_t)v) {
        asm_op(a, size, 0x83, op, m);
        asm_byte(a, (uint8_t)v);
    } else {
        asm_op(a, size, 0x81, op, m);
        asm_bytes(a, &v, size == 1 ? 2 : 4);
    }
}
/* Group 2 shifts by number: 0 ROL 1 ROR 2 RCL 3 RCR 4 SHL 5 SHR 7 SAR. */
static inline void asm_shift_imm(struct asm_buf *a, unsigned size, unsigned op, struct rm m, unsigned count)
{
    asm_op_w(a, size, 0xc0, op, m);
    asm_byte(a, count);
}
static inline void asm_lea(struct asm_buf *a, unsigned size, unsigned reg, struct rm m)
{
    asm_op(a, size, 0x8d, reg, m);
}

/* Jumps with a 32-bit distance; the place of the distance is returned for asm_patch(). */
static inline uint8_t *asm_jcc(struct asm_buf *a, unsigned cc)
{
    asm_byte(a, 0x0f);
    asm_byte(a, 0x80 | cc);
    uint8_t *at = a->at;
    asm_u32(a, 0);
    return at;
}
static inline uint8_t *asm_jmp(struct asm_buf *a)
{
    asm_byte(a, 0xe9);
    uint8_t *at = a->at;
    asm_u32(a, 0);
    return at;
}
static inline void asm_patch(uint8_t *at, const uint8_t *target)
{
    int32_t d = (int32_t)(target - (at + 4));
    memcpy(at, &d, 4);
}
static inline void asm_jmp_to(struct asm_buf *a, const uint8_t *target)
{
    uint8_t *at = asm_jmp(a);
    if (!a->full)
        asm_patch(at, target);
}
static inline void asm_call_to(struct asm_buf *a, const uint8_t *target)
{
    a->used = UINT32_MAX;
    asm_byte(a, 0xe8);
    uint8_t *at = a->at;
    asm_u32(a, 0);
    if (!a->full)
        asm_patch(at, target);
}

enum {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};

#endif
