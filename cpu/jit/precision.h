/* cpu/jit/precision.h -- MXCSR.PE beside an unmasked overflow or underflow (precision.c). */
#ifndef CPU_JIT_PRECISION_H
#define CPU_JIT_PRECISION_H

#include "cpu/jit/stub.h"

/* As they were before the instruction. vvvv: VEX forms only. */
struct precision_operands {
    const union vreg *reg, *rm, *vvvv;
};

/* True when PE is to be set. `masked`: what an instruction run with all exceptions masked said, the answer
 * for those that are not computed here (DPPS and DPPD, whose steps the manual leaves open). */
bool precision_inexact(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o,
                       bool masked);
/* DPPS and DPPD, #U not masked: is the result of one of their steps tiny? False for other instructions. */
bool precision_dot_tiny(const struct stub_request *q, uint32_t mxcsr, const struct precision_operands *o);

#endif
