/*
 * cpu/jit/emit.h -- what the parts of the x86-64 back end share: register plan, code memory, emitter state.
 *
 * Register plan: eleven guest registers are pinned, the others are memory operands of struct cpu. Host RSP
 * points into the struct cpu, R15 to the current TLB context; R14 (A) and R13 (B) are for addresses, R11 (C)
 * holds values and guest temporary T0. Flags: a recipe (kind, operands) describes the guest's flags; it is
 * stored into struct cpu only when one of its registers is about to change, at a block's end, or on a slow
 * path. While host_mask is not 0 these flags are in the host's RFLAGS as well.
 */
#ifndef CPU_JIT_EMIT_H
#define CPU_JIT_EMIT_H

#include <stddef.h>
#include "cpu/cache.h"
#include "cpu/jit/asm_x86_64.h"
#include "cpu/jit/jit.h"

enum { R_CPU = H_RSP, R_TLB = H_R15, R_A = H_R14, R_B = H_R13, R_C = H_R11, R_NONE = 0xff };
extern const uint8_t jit_host_of[16]; /* host register of a guest register, or R_NONE */

/* -- Flags --------------------------------------------------------------------------------------------- */

/* cc_op: bits 1:0 size, 15:2 kind; 20:16 and 25:21 the guest registers (plus one) that hold cc_a and cc_b, 0
 * when these are stored; 32 a rotation came after it: CF and OF are those of cc_rot, of size 34:33, to the
 * left if 35. 36 a bit test came last: CF is cc_bit. ADD..LOGIC: cc_a is the result, cc_b operand b. INC and
 * DEC: bit 15 set. */
enum { CC_REG_A = 16, CC_REG_B = 21, CC_ROT = 32, CC_BIT = 36 };
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

#define LOC_C      REG_T0 /* a recipe's operand in C */
#define LOC_STORED 0xfd   /* in its place, cc_a or cc_b, though the recipe may still be pending */

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
    bool rec_short;   /* it is there, but its operands are still in their registers */
    bool rot_valid;   /* CF and OF are those of a rotation whose result is in register rot_reg */
    uint8_t rot_reg, rot_size;
    bool rot_left;
    uint8_t host_mask; /* flags that are right in the host's RFLAGS */
    bool settled;      /* the two words in struct cpu are right */
    bool t0_in_c;
    bool vec_live; /* vector registers are in the host's */
    bool x87_live; /* x87 registers are in the host's */
    bool pointers; /* FIP and FOP are those of micro-op x87_uop, not yet in struct cpu */
    uint16_t x87_uop;
    uint8_t x87_full, x87_empty; /* bit i: ST(i) is known to be so, by what the block did: emit_x87.c */
    bool page, page_write;       /* A and B hold the page of page_at's operand: emit_page.c */
    struct uop page_at;
};

enum cold_kind {
    COLD_STEP,   /* run the micro-op in C, go on behind it */
    COLD_REST,   /* the same, then the rest of its instruction without what was merged */
    COLD_END,    /* run the micro-op in C; it ends the block */
    COLD_RETURN, /* interpret from the micro-op to the block's end */
    COLD_EDGE,   /* leave through an edge */
    COLD_SIDE,   /* the same before the block's end */
    COLD_CROSS,  /* jump to another page */
    COLD_VEC,    /* load the vector registers */
    COLD_X87,    /* load the x87 registers */
    COLD_RUN,    /* a run of stack accesses whose check failed: emit_stack.c */
    COLD_PAGE,   /* look up another page: emit_page.c */
    COLD_SETTLE, /* all flags into the two words */
    COLD_CARRY,  /* CF into cc_cf; the other flags may stay what they are in */
};

/* Stack accesses under one check: micro-ops first to last (emit_stack.c). */
#define RUNS_MAX   16
#define DELTA_NONE (UINT32_MAX - 1)
struct run {
    uint16_t first, last, span; /* span: bytes from RSP + low on, RSP as it is at `first` */
    int32_t low;
    bool write, checked;
    uint8_t *resume, *back;
    struct emit_state after; /* at `back` */
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
    const struct run *run;
    int64_t target;    /* COLD_CROSS */
    struct uop access; /* COLD_PAGE, with its bytes, and whether it writes */
    uint8_t bytes;
    bool write;
    int8_t near; /* COLD_PAGE: number of the remembered page that was another, or -1 */
    uint8_t site;
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
    unsigned site;   /* number of the next memory access that may have a remembered page */
    unsigned skip;   /* micro-ops that were done with the running one */
    struct rm place; /* host place of the running access */
    bool no_runs;
    unsigned run_count, delta_index; /* delta_index: micro-op behind which B holds host minus guest */
    struct run runs[RUNS_MAX];
    /* The flags from before the block may be in guest registers, until they are written or made. */
    bool entry_open;
    uint16_t entry_writes;  /* guest registers that are written meanwhile */
    uint16_t left_operands; /* guest registers that hold operands of a recipe with rec_short */
    struct emit_state s;
    unsigned cold_count;
    struct cold cold[COLD_MAX];
};

/* -- Code memory and what is in it --------------------------------------------------------------------- */

struct jit_edge {
    uint8_t *jump;         /* write view: distance of the jump */
    uint8_t *stub;         /* write view: where it leads while it is not linked */
    uint8_t *save, *saved; /* write view: stores the flags' operands, then jumps by the distance at `saved` */
    uint16_t operands;     /* guest registers that hold them */
    struct jit_edge *next, **previous; /* while linked: of the same successor */
    bool linked;
    bool dead; /* its block was dropped */
};

#define JIT_OUTS 8

struct jit_block {
    struct block *block;    /* NULL: dropped */
    struct jit_block *next; /* in the same region */
    uint8_t *entry;         /* write view */
    uint8_t *dead;          /* write view: sets RIP and leaves */
    uint8_t *end;
    uint16_t entry_writes; /* see struct emit */
    struct jit_edge *in;   /* first of the edges that lead here */
    struct jit_edge *out[JIT_OUTS];
    unsigned out_count;
};

/* A measurement that is under way (tune.c). The code counts `left` down at each entry. */
#define JIT_SITES    32
#define JIT_MEASURES 64
enum jit_tune { TUNE_NONE, TUNE_MEASURE, TUNE_DONE };
struct jit_measure {
    struct block *block; /* NULL: free */
    int32_t left;
    uint32_t taken; /* how often its conditional end was */
    uint32_t misses[JIT_SITES];
};

/* Jump cache of a processor: an index by the low bits of RIP, in which programs differ as well as in a hash;
 * from a start by context on. */
#define JIT_JUMP_BITS 16
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

#define JIT_REGIONS_MAX 16

/* A part of code memory; offsets. */
struct jit_region {
    size_t start, end;
    size_t used; /* bytes from start */
    struct jit_arena *arena;
    struct jit_block *blocks; /* with code here, dropped ones too */
};

struct jit {
    uint8_t *write, *run; /* two views of the same memory */
    size_t size, thunks;  /* of all, of the thunks at its beginning */
    struct jit_region regions[JIT_REGIONS_MAX];
    unsigned region_count, region; /* region: the one that is being filled; the next is the oldest */
    bool avx;
    /* Thunks, in the write view. */
    uint8_t *enter, *exit, *slow, *guard, *step_end, *rest_end, *helper, *helper_end, *vec_load, *x87_load,
        *flags, *settle, *carry, *find, *unwind;
    uint8_t *run_unwind; /* the same to run */
    struct jit_measure measures[JIT_MEASURES];
    unsigned measure_next;
    uint8_t near_next; /* number of a remembered page that the next block gets */
    struct jit_jump *jumps[PHYS_MMUS_MAX];
    _Alignas(64) struct jit_place places[1u << JIT_PLACE_BITS];
    void *perf_map; /* FILE */
    struct jit_stats stats;
    struct emit emit;
};

#define CPU_OFF(member) ((int32_t)offsetof(struct cpu, member) - (int32_t)offsetof(struct cpu, r))
#define CPU_MEM(member) rm_mem(R_CPU, CPU_OFF(member))

static inline struct rm guest_mem(unsigned reg)
{
    return rm_mem(R_CPU, CPU_OFF(r) + (int32_t)reg * 8);
}
static inline struct rm vector_mem(unsigned v)
{
    return rm_mem(R_CPU, CPU_OFF(v) + (int32_t)(v * sizeof(union vreg)));
}

/* code.c. Memory that lives as long as the region that is being filled; NULL when there is none. */
void *jit_allocate(struct jit *j, size_t n);
bool jit_code_init(struct jit *j, size_t limit, struct error *e);
void jit_code_free(struct jit *j);
void jit_code_add(struct jit *j, struct block *b);
/* Empties the oldest region, which is filled from now on. */
void jit_next_region(struct jit *j);
/* jit.c: what remembers addresses of code forgets those of all, or of one block, which leaves it in the jump
 * caches. */
void jit_forget_jumps(struct jit *j);
void jit_forget_place(struct jit *j, const struct block *b);
/* Code for a RIP in the present context, or NULL when it is for C to find it, or to fault; remembers it. */
void *jit_find(struct cpu *cpu, uint64_t rip);
/* tune.c: the block has no code any more. */
void jit_forget_measure(struct jit *j, struct block *b);
/* The remembered page of access number `site`, or -1. */
int jit_near_of(const struct block *b, unsigned site);
/* perf_map.c; nothing without --perf-map */
void jit_perf_add(const struct jit *j, const struct jit_block *jb);
void jit_perf_rewrite(const struct jit *j);
/* thunks.c: in the first `room` bytes */
bool jit_make_thunks(struct jit *j, size_t room);
/* emit.c */
bool emit_block(struct emit *e);
bool emit_uops(struct emit *e, unsigned first, unsigned last);
struct cold *emit_cold(struct emit *e, enum cold_kind kind, uint8_t *jump);
void emit_step(struct emit *e); /* the micro-op as a call to C */
void emit_c_arguments(struct emit *e);
/* Before guest register reg (or T0, with C) gets a new value. */
void emit_before_write(struct emit *e, unsigned reg);
void emit_flush_flags(struct emit *e);
/* The same before a direct jump: what is in guest registers stays there. */
void emit_leave_flags(struct emit *e);
/* After that: all into struct cpu. */
void emit_save_operands(struct emit *e);
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
/* Stores register operands of a recipe of kind FK_OP, whose operation then follows; emit_operation() behind
 * it. */
void emit_store_operands(struct emit *e, unsigned a, bool imm, unsigned b);
void emit_operation(struct emit *e, unsigned size, bool imm, int32_t value, unsigned host_mask);
/* emit_mem.c */
bool emit_memory(struct emit *e);
bool emit_native_address(const struct emit *e, const struct uop *u);
/* to = effective address of u's operand (LEA too), which is not in A or B by then; A = its linear address. */
void emit_effective(struct emit *e, const struct uop *u, unsigned to);
void emit_address(struct emit *e, const struct uop *u);
/* e->place is A + B afterwards; misses go to a cold part of that kind. */
void emit_tlb(struct emit *e, unsigned bytes, bool write, enum cold_kind kind, unsigned align);
void emit_open_rest(struct emit *e);
/* emit_stack.c */
void emit_find_runs(struct emit *e);
/* e->place for the running micro-op's operand; clobbers A and B. */
void emit_access(struct emit *e, unsigned bytes, bool write, enum cold_kind kind, unsigned align);
/* The same for RSP + disp. */
void emit_stack_access(struct emit *e, int32_t disp, unsigned bytes, bool write);
void emit_close_run(struct emit *e);
void emit_cold_run(struct emit *e, const struct run *run);
/* emit_page.c */
/* e->place for u's operand. */
void emit_page_access(struct emit *e, const struct uop *u, unsigned bytes, bool write, enum cold_kind kind,
                      unsigned align);
void emit_cold_page(struct emit *e, const struct cold *c, struct cold *slow);
void emit_check_page(struct emit *e);
void emit_lose_page(struct emit *e, unsigned reg); /* reg has a new value */
void emit_spoil_page(struct emit *e);
void emit_follow_page(struct emit *e, const struct uop *u, const struct emit_state *was);
/* emit_control.c */
bool emit_control(struct emit *e);
void emit_cross(struct emit *e, int64_t target);
/* Misses go to a cold part of that kind; `pop` is added to RSP after a hit. */
void emit_lookup(struct emit *e, enum cold_kind kind, int32_t pop);
/* emit_vec.c */
bool emit_vector(struct emit *e);
void emit_need_vec(struct emit *e);
/* emit_x87.c */
bool emit_x87(struct emit *e);
void emit_need_x87(struct emit *e);
/* Stores FIP and FOP where they are not yet in struct cpu. Uses no register, leaves the host's flags. */
void emit_flush_pointers(struct emit *e);
void emit_forget_tags(struct emit *e); /* something else than emit_x87() touches the x87 stack */
/* LAHF and SETO into the recipe. */
void emit_store_image(struct emit *e);
/* x87_live.c */
void jit_x87_spill(struct cpu *cpu); /* while x87_live */
bool jit_x87_load(struct cpu *cpu);  /* false: with this control or status word it is interpreted */
/* emit_system.c */
bool emit_system(struct emit *e);
/* flags.c: portable */
void jit_settle_flags(struct cpu *cpu);

#endif
