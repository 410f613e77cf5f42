/*
 * cpu/lift/lift.h -- from instruction bytes to micro-ops.
 *
 * insn.def is the one table: a row per mnemonic with lift function, checks, feature and VMX guard. Decoding
 * is Zydis's. A lift function emits micro-ops for one instruction; everything that can fault comes before
 * what changes registers. Temporaries REG_T0..REG_T7 are dead at each instruction's end.
 */
#ifndef CPU_LIFT_LIFT_H
#define CPU_LIFT_LIFT_H

#include <Zydis/Zydis.h>
#include "cpu/cpu.h"
#include "cpu/exec.h"
#include "cpu/ir/helper.h"
#include "cpu/ir/uop.h"

struct lift {
    struct ir *ir;
    uint32_t key; /* KEY_* of cpu/exec.h */
    const struct cpu_model *model;
    struct stub_cache *stubs; /* host instruction stubs for vector and x87 instructions */
    struct log *log;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    uint32_t offset; /* of the instruction in the page of the block's first byte */
    bool end;        /* set by a lift function: the block ends after this instruction */
    /* Derived for the current instruction. */
    uint8_t osize; /* operand size, log2 bytes: 1, 2, 3 */
    uint8_t asize; /* ASIZE_* */
};

enum lift_result {
    LIFT_OK,        /* the next instruction follows in this block */
    LIFT_END,       /* lifted, the block ends here */
    LIFT_TRUNCATED, /* `length` bytes are not enough: more are needed from the next page */
};

/* How a row is looked at before its lift function runs. */
enum insn_flags {
    I_CPL0 = 1 << 0, /* #GP(0) unless CPL is 0 */
    I_PE = 1 << 1,   /* #UD in real-address and virtual-8086 mode */
    I_NO64 = 1 << 2, /* #UD in 64-bit mode (Zydis refuses most itself) */
    I_ONLY64 = 1 << 3,
    I_END = 1 << 4,   /* the block ends after it */
    I_LOCK = 1 << 5,  /* LOCK allowed on a memory destination */
    I_FPU = 1 << 6,   /* x87: #NM by EM/TS */
    I_MMX = 1 << 7,   /* #UD by EM, #NM by TS, #MF pending */
    I_SSE = 1 << 8,   /* #UD by EM or !OSFXSR, #NM by TS */
    I_AVX = 1 << 9,   /* #UD by !OSXSAVE or XCR0, #NM by TS */
    I_WAIT = 1 << 10, /* FWAIT: #NM by MP and TS */
    I_TS = 1 << 11,   /* XSAVE family: #UD by !OSXSAVE, #NM by TS */
};

struct insn_row {
    uint16_t mnemonic; /* ZYDIS_MNEMONIC_* */
    void (*lift)(struct lift *l);
    uint32_t flags;   /* enum insn_flags */
    uint16_t feature; /* enum feature or FEAT_ALWAYS */
    uint8_t guard;    /* enum vmx_guard_id, 0 = never */
};
const struct insn_row *insn_row(unsigned mnemonic); /* NULL: not in the table */
extern const struct insn_row insn_rows[];
extern const unsigned insn_row_count;

/* Decodes and lifts one instruction. `bytes` has `length` valid bytes (up to 15 matter). */
enum lift_result lift_insn(struct lift *l, const uint8_t *bytes, unsigned length);

/* Full decode for explanations, VMX instruction information, tests: false when not a valid instruction. */
bool insn_decode(uint32_t key, const uint8_t *bytes, unsigned length, ZydisDecodedInstruction *zi,
                 ZydisDecodedOperand *op);
/* The running instruction, decoded again from memory (slow path). */
bool cpu_decode_current(struct cpu *cpu, ZydisDecodedInstruction *zi, ZydisDecodedOperand *op);

/* -- For lift functions: operand access (cpu/lift/operand.c) ------------------------------------------- */

/* GPR number 0..15 of a Zydis register; *high set for AH, CH, DH, BH. */
unsigned lift_gpr(ZydisRegister r, bool *high);
unsigned lift_size(const ZydisDecodedOperand *o); /* log2 of bytes: 0..3 */
/* Fills d/a/b/am/disp of a memory micro-op from a memory operand. */
void lift_mem(struct lift *l, struct uop *u, const ZydisDecodedOperand *o);
/* Emits LEA of the operand's effective address into `reg` and returns the am byte (segment, checked) for
 * helpers. */
uint8_t lift_ea(struct lift *l, unsigned reg, const ZydisDecodedOperand *o);
/* Value of a register, memory or immediate operand in a register (itself, or loaded into `temp`). */
unsigned lift_read(struct lift *l, const ZydisDecodedOperand *o, unsigned temp);
/* Writes register `reg` to a register or memory operand. */
void lift_write(struct lift *l, const ZydisDecodedOperand *o, unsigned reg);
struct uop *lift_helper(struct lift *l, enum helper_id id, unsigned size);
/* Raises statically: emits RAISE and ends the block. */
void lift_raise(struct lift *l, unsigned vector);

#endif
