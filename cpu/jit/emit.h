/*
 * cpu/jit/emit.h -- what the parts of the x86-64 back end share: register plan, code memory, emitter state.
 *
 * Register plan: ten guest registers are pinned, the others are memory operands of struct cpu. Host RBP is
 * the struct cpu, R15 the current TLB context, R14 (A) and R13 (B) are for addresses, R11 (C) holds values
 * and guest temporary T0. RSP is the host's. Flags: a recipe (kind, operands) describes the guest's flags; it
 * is stored into struct cpu only when one of its registers is about to change, at a block's end, or on a slow
 * path. While host_mask is not 0 these flags are in the host's RFLAGS as well.
 */
#ifndef CPU_JIT_EMIT_H
#define CPU_JIT_EMIT_H

#include <stddef.h>
#include "cpu/cache.h"
#include "cpu/jit/asm_x86_64.h"
#include "cpu/jit/jit.h"

enum { R_CPU = H_RBP, R_TLB = H_R15, R_A = H_R14, R_B = H_R13, R_C = H_R11, R_NONE = 0xff };
extern const uint8_t jit_host_of[16]; /* host register of a guest register, or R_NONE */

/* -- Flags --------------------------------------------------------------------------------------------- */

/* cc_op = kind << 2 | size. ADD..LOGIC: cc_a is the result, cc_b operand b. INC and DEC: bit 15 set. */
enum flag_kind {
    FK_SETTLED = 0,
    FK_ADD,
    FK_SUB,
    FK_LOGIC,
    FK_CMP, /* cc_a and cc_b are the operands */
    FK_NEG,
    FK_MUL,    /* cc_a: low half; cc_cf: CF and OF */
    FK_IMAGE,  /* cc_a: AH as LAHF gives it, AL = OF */
    FK_ADD_AB, /* from here on cc_a and cc_b are the operands; ADC and SBB: cc_cf is the carry in */
    FK_TEST,
    FK_ADC,
    FK_SBB,
    FK_OP = 256, /* + enum uop_op: cc_a, cc_b are the operands */
    FK_INC = 0x2000,
    FK_DEC = 0x2001,
};

enum { HF_CF = 1, HF_PF = 2, HF_AF = 4, HF_ZF = 8, HF_SF = 16, HF_OF = 32, HF_ALL = 63 };

#define LOC_C REG_T0 /* a recipe's operand in C */

struct recipe {
    uint16_t kind;
    uint8_t size, a, b;
    bool b_imm;
    int32_t imm;
};

/* What is known at a point of the code. */
struct emit_state {
    struct recipe rec;
    bool rec_valid;   /* its registers still hold the operands */
    bool rec_pending; /* it is not yet in struct cpu */
    bool rot_valid;   /* CF and OF are those of a rotation whose result is in register rot_reg */
    uint8_t rot_reg, rot_size;
    bool rot_left;
    uint8_t host_mask; /* flags that are right in the host's RFLAGS */
    bool settled;      /* the two words in struct cpu are right */
    bool t0_in_c;
    bool vec_live; /* vector registers are in the host's */
};

enum cold_kind {
    COLD_STEP,   /* run the micro-op in C, go on behind it */
    COLD_REST,   /* the same, then the rest of its instruction without what was merged */
    COLD_END,    /* run the micro-op in C; it ends the block */
    COLD_RETURN, /* interpret from the micro-op to the block's end */
    COLD_EDGE,   /* leave through an edge */
    COLD_CROSS,  /* jump to another page */
    COLD_VEC,    /* load the vector registers */
    COLD_SETTLE,
};

struct cold {
    uint8_t *jump;  /* distance to patch */
    uint8_t *jump2; /* another that leads here, or NULL */
    bool lookup;    /* the jump cache did not know the RIP in C: jit_find() is asked first */
    int32_t pop;    /* of emit_lookup() */
    uint8_t kind;
    uint16_t index; /* micro-op */
    bool open;      /* `back` is not known yet */
    uint8_t *back;
    struct jit_edge *edge;
    int64_t target; /* COLD_CROSS */
    struct emit_state before, after;
};

#define COLD_MAX 512

struct emit {
    struct asm_buf a;
    struct jit *j;
    const struct cpu *cpu; /* that is about to run it; for what its model decides */
    struct block *b;
    const struct uop *u;
    unsigned index; /* of u */
    bool long_mode;
    bool failed;
    bool merged; /* the running STORE follows a LOADW of the same place: A and B still hold it */
    bool in_cold;
    bool rest_open; /* a COLD_REST waits for the end of its instruction */
    unsigned rest_index;
    unsigned skip; /* micro-ops that were done with the running one */
    struct emit_state s;
    unsigned cold_count;
    struct cold cold[COLD_MAX];
};

/* -- Code memory and what is in it --------------------------------------------------------------------- */

struct jit_edge {
    uint8_t *jump; /* write view: distance of the jump */
    uint8_t *stub; /* write view: where it leads while it is not linked */
    struct block *from, *to;
    struct jit_edge *next_in; /* of the same `to` */
    bool dead;
};

struct jit_block {
    uint8_t *entry; /* write view */
    uint8_t *dead;  /* write view: sets RIP and leaves */
    uint8_t *end;
    struct jit_edge *in;
    struct jit_edge *out[2];
};

/* Jump cache of a processor: an index by RIP, from a start by context on. */
#define JIT_JUMP_BITS 14
#define JIT_JUMPS     (2u << JIT_JUMP_BITS)

struct jit_jump {
    uint64_t rip, tag, page;
    void *code;
};

/* Code by guest-physical address and key, for jumps that the jump cache does not know. */
#define JIT_PLACE_BITS 16

struct jit_place {
    gpa_t gpa;
    uint64_t key;
    void *code;
    uint64_t reserved; /* two of them to a line */
};

struct jit_arena {
    struct jit_arena *next;
    size_t used;
    _Alignas(16) uint8_t bytes[1u << 18];
};

struct jit {
    uint8_t *write, *run;      /* two views of the same memory */
    size_t limit, used, start; /* start: behind the thunks */
    bool avx, full;
    /* Thunks, in the write view. */
    uint8_t *enter, *exit, *slow, *step_end, *rest_end, *helper, *helper_end, *vec_load, *flags, *settle,
        *find, *unwind;
    struct jit_jump *jumps[PHYS_MMUS_MAX];
    _Alignas(64) struct jit_place places[1u << JIT_PLACE_BITS];
    struct jit_arena *arena;
    void *perf_map; /* FILE */
    struct jit_stats stats;
    struct emit emit;
};

#define CPU_OFF(member) ((int32_t)offsetof(struct cpu, member))
#define CPU_MEM(member) rm_mem(R_CPU, CPU_OFF(member))

static inline struct rm guest_mem(unsigned reg)
{
    return rm_mem(R_CPU, CPU_OFF(r) + (int32_t)reg * 8);
}
static inline struct rm vector_mem(unsigned v)
{
    return rm_mem(R_CPU, CPU_OFF(v) + (int32_t)(v * sizeof(union vreg)));
}

/* jit.c: memory that lives until the next flush; NULL when there is none */
void *jit_allocate(struct jit *j, size_t n);
/* Code for a RIP in the present context that can be found without a walk, or NULL; remembers it. */
void *jit_find(struct cpu *cpu, uint64_t rip);
/* thunks.c */
bool jit_make_thunks(struct jit *j);
/* emit.c */
bool emit_block(struct emit *e);
bool emit_uops(struct emit *e, unsigned first, unsigned last);
struct cold *emit_cold(struct emit *e, enum cold_kind kind, uint8_t *jump);
void emit_step(struct emit *e); /* the micro-op as a call to C */
void emit_c_arguments(struct emit *e);
/* Before guest register reg (or T0, with C) gets a new value. */
void emit_before_write(struct emit *e, unsigned reg);
void emit_flush_flags(struct emit *e);
/* Frees C. */
void emit_take_c(struct emit *e);
/* Are flags that hold before the micro-op after `index` used by anything? */
bool emit_flags_needed(const struct emit *e, unsigned index);
/* The running micro-op has written all flags in another way. */
void emit_drop_flags(struct emit *e);
void emit_rotated(struct emit *e, unsigned reg, unsigned size, bool left);
void emit_recipe(struct emit *e, unsigned kind, unsigned size, unsigned a, unsigned b);
void emit_recipe_imm(struct emit *e, unsigned kind, unsigned size, unsigned a, int32_t imm);
/* Makes the host's flags good for condition cc. */
void emit_need_flags(struct emit *e, unsigned mask);
unsigned emit_condition_mask(unsigned cc);
/* The place of a guest register's or temporary's value. */
struct rm emit_operand(const struct emit *e, unsigned reg);
/* Its host register; the value is loaded into `temp` when it has none. */
unsigned emit_value(struct emit *e, unsigned reg, unsigned temp);
/* Host register that a new value of reg is computed in, or R_NONE: compute in a temporary and emit_put(). */
unsigned emit_dest(struct emit *e, unsigned reg);
void emit_put(struct emit *e, unsigned reg, unsigned size, unsigned host);
/* emit_alu.c: false when the micro-op is not its business. */
bool emit_alu(struct emit *e);
bool emit_bits(struct emit *e);
bool emit_compare(struct emit *e, bool test, unsigned size, unsigned a, bool imm, unsigned b, int64_t v);
/* Stores the operands of a recipe of kind FK_OP, whose operation then follows. */
void emit_store_operands(struct emit *e, unsigned a, bool imm, unsigned b, int32_t value);
/* emit_mem.c */
bool emit_memory(struct emit *e);
bool emit_native_address(const struct emit *e, const struct uop *u);
/* A = linear address of u's operand. */
void emit_address(struct emit *e, const struct uop *u);
/* [A + B] is the host address afterwards; misses go to a cold part of that kind. */
void emit_tlb(struct emit *e, unsigned bytes, bool write, enum cold_kind kind, unsigned align);
/* emit_control.c */
bool emit_control(struct emit *e);
void emit_cross(struct emit *e, int64_t target);
/* Misses go to a cold part of that kind; `pop` is added to RSP after a hit. */
void emit_lookup(struct emit *e, enum cold_kind kind, int32_t pop);
/* emit_vec.c */
bool emit_vector(struct emit *e);
void emit_need_vec(struct emit *e);
/* emit_system.c */
bool emit_system(struct emit *e);
/* flags.c: portable */
void jit_settle_flags(struct cpu *cpu);

#endif
