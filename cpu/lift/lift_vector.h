/*
 * cpu/lift/lift_vector.h -- inside cpu/lift/: what the MMX, SSE and AVX lift functions share (lift_vector.c).
 */
#ifndef CPU_LIFT_LIFT_VECTOR_H
#define CPU_LIFT_LIFT_VECTOR_H

#include "cpu/lift/rows.h"

static inline bool operand_is_xmm(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && o->reg.value >= ZYDIS_REGISTER_XMM0 && o->reg.value <= ZYDIS_REGISTER_XMM15;
}

static inline bool operand_is_ymm(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && o->reg.value >= ZYDIS_REGISTER_YMM0 && o->reg.value <= ZYDIS_REGISTER_YMM15;
}

static inline bool operand_is_mmx(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && o->reg.value >= ZYDIS_REGISTER_MM0 && o->reg.value <= ZYDIS_REGISTER_MM7;
}

/* Number of an XMM, YMM, MMX or general register. */
unsigned lift_vector_number(const ZydisDecodedOperand *o);
/* Loads a memory operand of 1 to 32 bytes into vector register v; what is above it, up to 16 bytes, becomes
 * zero. `aligned`: 16 and 32 bytes raise #GP(0) when they are not aligned. */
void lift_vector_load(struct lift *l, const ZydisDecodedOperand *o, unsigned v, bool aligned);
void lift_vector_store(struct lift *l, const ZydisDecodedOperand *o, unsigned v, bool aligned);
/* The instruction as a host stub, with its memory operand in VREG_T0. */
void lift_vector_stub(struct lift *l, bool mxcsr, bool aligned);
/* RCPPS, RCPSS, RSQRTPS, RSQRTSS and their VEX forms: helper sse_approximate. */
void lift_vector_approximate(struct lift *l);
/* MASKMOVDQU, MASKMOVQ, VMASKMOVDQU: helper sse_maskmov. */
void lift_vector_maskmov(struct lift *l);

#endif
