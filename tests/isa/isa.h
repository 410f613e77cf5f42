/*
 * tests/isa/isa.h -- the comparison of droste's instructions with the host's own processor.
 *
 * A form is one encoding of one row of insn.def with one kind of operands (form.c); a case is an encoding
 * with registers chosen, and a state (cases.c). Both sides run it at the same linear addresses: natively
 * (native.c) and in droste (emulated.c); compare.c tells what may differ. All is a function of seed, form and
 * case number.
 */
#ifndef TESTS_ISA_ISA_H
#define TESTS_ISA_ISA_H

#include <Zydis/Zydis.h>
#include "base/types.h"
#include "cpu/cpu.h"
#include "cpu/exec.h"
#include "cpu/lift/lift.h"
#include "native.h"

/* -- Forms --------------------------------------------------------------------------------------------- */

enum form_map { MAP_ONE, MAP_0F, MAP_0F38, MAP_0F3A };

struct form {
    const struct insn_row *row;
    uint16_t mnemonic;
    uint8_t mode; /* 64, or 32 for what 64-bit mode lacks */
    uint8_t map, opcode;
    bool vex;
    uint8_t vex_pp, vex_w, vex_l;
    bool vvvv, wig, lig; /* VEX.vvvv is an operand; W, L have no effect */
    bool vsib;           /* the memory operand has a vector index */
    bool p66, lock, p67, rex_w;
    uint8_t rep;     /* 0, F2H, F3H */
    bool opcode_reg; /* register in the opcode's low bits */
    bool modrm, mem;
    int8_t reg, rm; /* fixed ModRM fields, -1 free */
    bool high;      /* one of AH, CH, DH, BH takes part */
    char name[96];
};

extern struct form *forms;
extern unsigned form_count;
void forms_build(const struct cpu_model *model);

/* Why a row, or some of its forms, does not run here; NULL: it does. */
const char *row_skipped(const struct insn_row *row, const struct cpu_model *model);
const struct insn_row *row_of_insn(const ZydisDecodedInstruction *zi);

/* -- Cases --------------------------------------------------------------------------------------------- */

struct rng {
    uint64_t s;
};
uint64_t rng_next(struct rng *r);
static inline unsigned rng_below(struct rng *r, unsigned n)
{
    return (unsigned)((rng_next(r) >> 32) * n >> 32);
}
static inline bool rng_chance(struct rng *r, unsigned percent)
{
    return rng_below(r, 100) < percent;
}
struct rng rng_for(uint64_t seed, const char *name, uint64_t a, uint64_t b);

struct insn {
    uint8_t bytes[16];
    unsigned length;
    uint32_t key; /* mode, for insn_decode() */
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    uint64_t at; /* linear address */
};

/* An encoding of f; false when the choice was no encoding of f (try another rng). */
bool insn_encode(const struct form *f, struct rng *r, struct insn *in);
bool insn_decode_at(struct insn *in);
/* A whole state for in, and the memory it will use. */
void state_random(const struct form *f, const struct insn *in, struct rng *r, struct isa_state *s);
/* Values for every register, without an instruction in view. */
void state_background(struct rng *r, struct isa_state *s);
/* values.c */
uint64_t value_gpr(struct rng *r);
void value_f80(struct rng *r, uint8_t *b);
/* Fills b with values of an operand's element type. */
void fill_values(struct rng *r, uint8_t *b, unsigned n, ZydisElementType type, unsigned bits);

/* -- Memory -------------------------------------------------------------------------------------------- */

struct region {
    uint64_t base;
    uint32_t size;
    uint8_t *native, *guest; /* host addresses of both copies */
};
enum { REGION_DATA, REGION_RO, REGION_STACK, REGION_COUNT };
extern struct region regions[REGION_COUNT];

/* Both copies. False when [linear, linear + n) is not all in data or stack. */
bool memory_write(uint64_t linear, const void *p, unsigned n);
bool memory_is_mapped(uint64_t linear, unsigned n);
void memory_reset(void);                                        /* the background pattern, in both */
void code_write(uint64_t linear, const uint8_t *p, unsigned n); /* both sides */

/* -- The two sides ------------------------------------------------------------------------------------- */

void emulated_init(void);
/* Before emulated_init(): by the back end for this host, blocks translated after `hot` runs. */
void emulated_use_jit(uint32_t hot);
uint64_t emulated_translated(void); /* blocks that it has translated */
const struct cpu_model *emulated_model(void);
void emulated_code_write(uint64_t linear, const uint8_t *p, unsigned n);
/* One instruction (all iterations with REP), or `whole`: until the INT3 at `end`. */
void emulated_run(unsigned mode, const struct isa_state *in, struct isa_state *out, uint64_t end);
double emulated_speed(void); /* instructions a second of the interpreter on a small loop */

/* -- Comparison ---------------------------------------------------------------------------------------- */

/* What of the result counts. */
struct ignore {
    uint64_t flags;
    uint16_t fsw;
    uint32_t mxcsr_fault;  /* MXCSR flags that do not count when #XM was raised */
    bool fault_order;      /* both faulted: enough */
    bool host_may_fault;   /* the host faults where we do not */
    bool fault_page;       /* CR2: somewhere in the operand is enough */
    bool memory_x87;       /* FNSAVE, FNSTENV: pointers */
    bool approximate;      /* RCPPS and its kin: 12 bits count */
    unsigned x87_ulp;      /* transcendentals: by how much ST(0) and ST(1) may differ */
    long double x87_angle; /* and by how much the host's pi may have moved the angle */
    bool x87_tangent;
    /* A gather's mask register when it faults: elements and their size, 0 for other instructions. */
    unsigned mask_register, mask_count, mask_size;
    const char *why; /* a whole case that is known to differ */
};
void ignore_for(const struct form *f, const struct insn *in, const struct isa_state *before,
                struct ignore *ig);
/* The part of the x87 transcendentals (compare_x87.c). */
void ignore_x87(const struct insn *in, const struct isa_state *before, struct ignore *ig);
bool x87_nearly_equal(const uint8_t *a, const uint8_t *b, const struct ignore *ig);
/* The parts of ignore_for() and states_equal() for vector registers. */
typedef uint64_t ignore_address(const struct insn *in, const struct isa_state *s);
void ignore_vector(const struct insn *in, ignore_address *address, const struct isa_state *s,
                   struct ignore *ig);
bool vectors_equal(const struct isa_state *a, const struct isa_state *b, const struct ignore *ig, char *text,
                   size_t n);
/* True when equal; else a description in text. */
bool states_equal(const struct isa_state *native, const struct isa_state *emulated, const struct ignore *ig,
                  char *text, size_t n);
bool memory_equal(const struct ignore *ig, const struct insn *in, const struct isa_state *before, char *text,
                  size_t n);
void states_print(const struct isa_state *before, const struct isa_state *native,
                  const struct isa_state *emulated);
void insn_print(const struct insn *in, char *text, size_t n);

/* -- Runs ---------------------------------------------------------------------------------------------- */

struct sequence_result {
    uint64_t passed, failed;
};
void sequences_run(uint64_t seed, uint64_t first, uint64_t count, bool verbose, struct sequence_result *res);

#endif
