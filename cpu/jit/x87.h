/*
 * cpu/jit/x87.h -- host stubs for x87 arithmetic: one instruction on operands in memory, with the guest's
 * control word.
 *
 * The stub loads the operands on an empty host stack, runs the instruction, and stores results and status. It
 * uses only non-waiting instructions after it, so an unmasked exception is reported in the status word and
 * never trapped. Not here, since processors differ or integers do as well: transcendentals, remainders,
 * scaling, rounding to an integer, packed BCD (cpu/lift/x87_softfloat.h).
 */
#ifndef CPU_JIT_X87_H
#define CPU_JIT_X87_H

#include "cpu/jit/stub.h"

/* How operands reach the instruction and results leave it. a and b are 10-byte values. */
enum x87_form {
    X87_UNARY,      /* a = op(a): FCHS, FSQRT */
    X87_BINARY,     /* a = op(a, b) in ST(0) */
    X87_BINARY_ST1, /* b = op(b, a) in ST(1): opcodes DCH and DEH (emitted as DCH, no pop) */
    X87_MEMORY,     /* a = op(a, memory at b) */
    X87_LOAD,       /* a = load of memory at b */
    X87_STORE,      /* memory at b = store of a */
    X87_COMPARE,    /* status of op(a, b); nothing stored */
    X87_COMPARE_MEMORY,
    X87_COMPARE_FLAGS, /* RFLAGS of op(a, b): FCOMI */
};

struct x87_frame {
    uint16_t fcw; /* in */
    uint16_t fsw; /* out: as the host's FNSTSW right after the instruction */
    uint32_t pad;
    uint64_t flags; /* out: X87_COMPARE_FLAGS */
};

typedef void x87_code(void *a, void *b, struct x87_frame *f);

/* The stub for escape opcode D8H+op with the given ModRM (register forms: rm field ignored). NULL: cache
 * full. */
x87_code *stub_x87(struct stub_cache *c, unsigned op, uint8_t modrm, enum x87_form form);

#endif
