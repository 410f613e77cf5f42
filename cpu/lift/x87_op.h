/*
 * cpu/lift/x87_op.h -- what the files of the x87 unit share: one instruction at work, the stack, exceptions.
 *
 * SDM 1, "Programming with the x87 FPU". One instruction on plain operands is computed by the host where all
 * processors agree (cpu/jit/x87.h: sums, products, quotients, roots, conversions, comparisons) and by
 * x87_softfloat.h elsewhere; what is stack, tag word, stack fault, pointer or pending exception is ours.
 */
#ifndef CPU_LIFT_X87_OP_H
#define CPU_LIFT_X87_OP_H

#include <string.h>

#include "cpu/cpu.h"
#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/jit/x87.h"

enum {
    FSW_IE = 1,
    FSW_DE = 2,
    FSW_ZE = 4,
    FSW_OE = 8,
    FSW_UE = 16,
    FSW_PE = 32,
    FSW_SF = 64,
    FSW_ES = 128,
    FSW_C0 = 1 << 8,
    FSW_C1 = 1 << 9,
    FSW_C2 = 1 << 10,
    FSW_C3 = 1 << 14,
    FSW_B = 1 << 15
};
#define FSW_CONDITIONS (FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)

static const uint8_t x87_indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};

/* One instruction at work. */
struct x87_op {
    struct cpu *cpu;
    struct x87 *f;
    const struct uop *u;
    unsigned op; /* escape opcode - D8H */
    uint8_t modrm;
    unsigned reg, i; /* ModRM.reg, ModRM.rm = ST(i) */
    enum seg_reg seg;
    uint64_t ea;
};

/* -- Stack --------------------------------------------------------------------------------------------- */

static inline uint8_t *x87_st(struct x87 *f, unsigned i)
{
    return f->r[(f->top + i) & 7].b;
}

static inline bool x87_empty(const struct x87 *f, unsigned i)
{
    return !(f->ftw >> ((f->top + i) & 7) & 1);
}

static inline void x87_set_tag(struct x87 *f, unsigned i, bool full)
{
    unsigned bit = 1u << ((f->top + i) & 7);
    f->ftw = (uint8_t)(full ? f->ftw | bit : f->ftw & ~bit);
}

static inline void x87_pop(struct x87 *f)
{
    x87_set_tag(f, 0, false);
    f->top = (f->top + 1) & 7;
}

static inline void x87_push(struct x87 *f, const uint8_t *value)
{
    f->top = (f->top - 1) & 7;
    memcpy(x87_st(f, 0), value, 10);
    x87_set_tag(f, 0, true);
}

/* -- Exceptions and the host call (x87_arith.c) -------------------------------------------------------- */

void x87_summarise(struct x87 *f);
void x87_take_status(struct x87 *f, uint16_t host, uint16_t conditions);
bool x87_stack_fault(struct x87 *f, bool overflow);
void x87_wait(struct cpu *cpu);
void x87_pointers(struct x87_op *x, bool memory);
void x87_call(struct x87_op *x, uint8_t modrm, enum x87_form form, void *a, void *b, struct x87_frame *frame);

/* -- Register forms (x87_arith.c) ---------------------------------------------------------------------- */

void x87_arithmetic(struct x87_op *x, bool to_i, bool pops);
void x87_compare(struct x87_op *x, unsigned pops);
void x87_compare_flags(struct x87_op *x, bool pops);
void x87_unary(struct x87_op *x);
void x87_unary_own(struct x87_op *x, uint16_t conditions);
void x87_examine(struct x87_op *x, bool fxam);
void x87_binary_st1(struct x87_op *x, uint16_t conditions);
void x87_pop2(struct x87_op *x);
void x87_push2(struct x87_op *x, bool reduces);
void x87_load_constant(struct x87_op *x);
void x87_load_register(struct x87_op *x);
void x87_store_register(struct x87_op *x, bool pops);
void x87_store_unchecked(struct x87_op *x);
void x87_exchange(struct x87_op *x);
void x87_conditional_move(struct x87_op *x, bool condition);

/* -- Memory forms (x87_memory.c) ----------------------------------------------------------------------- */

void x87_arithmetic_memory(struct x87_op *x, unsigned n);
void x87_load_memory(struct x87_op *x, unsigned n);
void x87_store_memory(struct x87_op *x, unsigned n, bool integer, bool pops);
void x87_load_m80(struct x87_op *x);
void x87_read_memory(struct x87_op *x, uint8_t *buf, unsigned n);
void x87_write_memory(struct x87_op *x, const uint8_t *buf, unsigned n);

/* -- Environment (x87_environment.c) ------------------------------------------------------------------- */

uint16_t x87_status_word(const struct x87 *f);
void x87_initialise(struct x87 *f);
void x87_control_memory(struct x87_op *x);

#endif
