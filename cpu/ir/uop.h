/*
 * cpu/ir/uop.h -- one micro-op, and the list it lives in while an instruction is lifted.
 *
 * Promise of cpu/ir/: the meaning of a block of micro-ops; the interpreter and every back end agree on it.
 * Rows: uop.def.
 */
#ifndef CPU_IR_UOP_H
#define CPU_IR_UOP_H

#include "base/types.h"

enum uop_sizes { SZ_NONE, SZ_ALL, SZ_GE16, SZ_GE32 };

enum uop_format {
    FMT_NONE,
    FMT_D,
    FMT_A,
    FMT_I,
    FMT_DA,
    FMT_DI,
    FMT_AB,
    FMT_AI,
    FMT_DAB,
    FMT_DAI,
    FMT_DABC,
    FMT_DABI,
    FMT_DAC,
    FMT_DC,
    FMT_CI,
    FMT_ACI,
    FMT_ABCI,
    FMT_DM,
    FMT_MI,
    FMT_HELPER,
    FMT_VM,
    FMT_VD,
    FMT_VDA,
    FMT_STUB,
};

enum uop_flags {
    U_FAULT = 1,
    U_RF = 2,
    U_WF = 4,
    U_WFP = 8,
    U_END = 16,
    U_TIME = 32,
};

enum uop_op {
#define UOP(name, sizes, format, flags, meaning) UOP_##name,
#include "cpu/ir/uop.def"
#undef UOP
    UOP_COUNT,
    UOP_LEAVE = UOP_COUNT, /* interpreter only: stop at this instruction boundary */
};

/* Register numbers of d, a, b, c. */
enum {
    REG_RAX,
    REG_RCX,
    REG_RDX,
    REG_RBX,
    REG_RSP,
    REG_RBP,
    REG_RSI,
    REG_RDI,
    REG_R8,
    REG_R9,
    REG_R10,
    REG_R11,
    REG_R12,
    REG_R13,
    REG_R14,
    REG_R15,
    REG_T0,
    REG_T1,
    REG_T2,
    REG_T3,
    REG_T4,
    REG_T5,
    REG_T6,
    REG_T7,   /* dead at each instruction's end */
    REG_PAGE, /* RIP of offset 0 of the page that the block's first byte is in */
    REG_ZERO, /* always 0 */
    REG_COUNT = 32,
};

enum { VREG_T0 = 16, VREG_T1, VREG_T2, VREG_COUNT = 20 };

/*
 * Address mode:  bits 1:0 scale (log2)   bits 3:2 address size (0: 16, 1: 32, 2: 64)   bits 6:4 segment
 * (ES CS SS DS FS GS = 0..5)   bit 7: the segment's base, limit and type matter (else: flat, base 0; the
 * segment is still named, because a non-canonical address raises #SS(0) for SS and #GP(0) for others).
 */
#define AM(scale, asize, seg, checked) ((scale) | (asize) << 2 | (seg) << 4 | (checked) << 7)
#define AM_SCALE(am)                   ((am)&3)
#define AM_ASIZE(am)                   ((am) >> 2 & 3)
#define AM_SEG(am)                     ((am) >> 4 & 7)
#define AM_CHECKED(am)                 ((am) >> 7)
enum { ASIZE_16, ASIZE_32, ASIZE_64 };

enum { UOP_LOCK = 1 }; /* bits of struct uop.bits: part of a LOCKed read-modify-write */

/* sizes are log2 of bytes: 0..3 = 8, 16, 32, 64 bits; size 0 for SZ_NONE rows */
struct uop {
    uint16_t op; /* enum uop_op */
    uint8_t size;
    uint8_t am; /* memory operand's address mode */
    uint8_t d, a, b, c;
    uint16_t code; /* interpreter's dispatch index, set by ir_finish() */
    uint8_t insn;  /* index of its instruction in the block */
    uint8_t bits;  /* UOP_LOCK */
    int32_t disp;  /* displacement; JCC: fall-through */
    int64_t imm;
    int32_t aux;   /* HELPER: number; CMPIJCC: immediate; else free for helpers */
    uint32_t aux2; /* free for helpers */
};

struct uop_info {
    const char *name;
    uint8_t sizes, format, flags;
    const char *meaning;
};
extern const struct uop_info uop_info[UOP_COUNT];

#define IR_UOPS_MAX  1024
#define IR_INSNS_MAX 64

struct ir_insn {
    uint16_t offset; /* in the page of the block's first byte */
    uint8_t length;
    uint8_t flags;  /* INSN_* of the lifter */
    uint16_t first; /* index of its first micro-op */
};

/* A list of micro-ops being built. */
struct ir {
    struct uop uops[IR_UOPS_MAX];
    struct ir_insn insns[IR_INSNS_MAX + 1];
    uint32_t uop_count, insn_count;
    bool overflow; /* a lifter ran out of room: the instruction is retried in a block of its own */
};

void ir_reset(struct ir *ir);
/* Appends a zeroed micro-op of the current instruction and returns it (never NULL: on overflow a dummy). */
struct uop *ir_emit(struct ir *ir, enum uop_op op, unsigned size);
/* Checks operands against uop.def; false with a reason in text[n]. Debug builds verify every block. */
bool ir_verify(const struct ir *ir, char *text, size_t n);
/* Dead flags, fused compare-and-jump. Flags are dead only when overwritten before anything can read, fault or
 * leave. */
void ir_optimise(struct ir *ir);
/* Sets `code` of every micro-op for the interpreter. */
void ir_finish(struct uop *uops, uint32_t count);
/* One line a micro-op: "add.4 rax, rax, t0". Returns bytes written like snprintf. */
int ir_print(const struct uop *u, char *text, size_t n);

#endif
