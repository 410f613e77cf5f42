/*
 * tests/lockstep/lockstep.h -- two machines, one interpreting and one translating, in step on random
 * programs.
 *
 * A program is a function of kind and seed. Its machine runs in slices of random length; after each slice the
 * state of the two machines must be one. The first difference is narrowed down by running anew with shorter
 * slices (run.c, report.c). Programs never end: functions full of random instructions are called in turn,
 * handlers step over what faults.
 *
 * Guest memory (physical; in flat modes also linear, and once more at ALIAS + it):
 *   02000H GDT | 03000H IDT | 04000H TSS | 05000H kernel stack | 08000H handlers | 10000H paging structures,
 * four sets | 40000H code, and two twins that differ in single bytes | 60000H data | 6E000H variables |
 * 6F000H stack | 70000H length of the instruction at each byte of code | 90000H VMX
 */
#ifndef TESTS_LOCKSTEP_LOCKSTEP_H
#define TESTS_LOCKSTEP_LOCKSTEP_H

#include <Zydis/Zydis.h>
#include "tests/fuzz/lab.h"

#define MEMORY     (2u << 20)
#define GDT        0x2000u
#define IDT        0x3000u
#define TSS        0x4000u
#define KSTACK_TOP 0x6ff0u
#define HANDLERS   0x8000u
#define TABLES     0x10000u /* + TABLES_SIZE for each address space; the last is L1's when the program is L2 */
#define CODE       0x40000u
#define CODE_LEN   0x8000u
#define TWINS      3u /* at CODE, CODE + CODE_LEN, CODE + 2 CODE_LEN */
#define DATA       0x60000u
#define DATA_PAGES 8u
#define VARS       0x6e000u
#define STACK      0x6f000u
#define STACK_TOP  0x6ff00u
#define LENGTHS    0x70000u
#define VMX        0x90000u
#define ALIAS      0x200000u
#define SPACES     3u

/* Special pages of data, by number. */
enum { PAGE_RO = 2, PAGE_ABSENT = 4, PAGE_SUPERVISOR = 6, PAGE_ALIAS = 7 };

/* Variables. */
enum {
    VAR_TURN = VARS,            /* which function is next */
    VAR_DEBUG = VARS + 4,       /* debug exceptions until all is disarmed */
    VAR_COUNTS = VARS + 8,      /* of interrupts and the like */
    VAR_MXCSR = VARS + 12,      /* the default */
    VAR_EXITS = VARS + 16,      /* L1's */
    VAR_FCW = VARS + 20,        /* a control word */
    VAR_LOOPS = VARS + 0x40,    /* counters of loops in memory */
    VAR_WITNESS = VARS + 0xc00, /* sums of flags and registers: what was wrong once stays wrong */
    VAR_FXSAVE = VARS + 0xa00,  /* x87 and SSE state */
    VAR_TARGETS = VARS + 0x200, /* addresses of functions, then tables of jumps */
};

enum mode { MODE_REAL, MODE_PROTECTED16, MODE_PROTECTED32, MODE_COMPATIBILITY, MODE_LONG64, MODES };
enum paging { PAGING_NONE, PAGING_32, PAGING_PAE, PAGING_LONG };

/* Selectors. */
enum {
    SEL_CODE64 = 0x08,
    SEL_CODE32 = 0x10,
    SEL_CODE16 = 0x18,
    SEL_DATA = 0x20,
    SEL_DATA16 = 0x28,
    SEL_CODE_LENGTHS = 0x30, /* 16-bit data at LENGTHS */
    SEL_USER_CODE32 = 0x38,
    SEL_USER_DATA = 0x40,
    SEL_USER_CODE64 = 0x48,
    SEL_TSS = 0x50,
};

/* A byte of code that may have either value without moving an instruction. */
struct site {
    uint32_t offset;
    uint8_t value[2];
};

#define SITES_MAX     512u
#define FUNCTIONS_MAX 16u
#define TARGETS_MAX   256u

struct program {
    struct dice d;
    enum mode mode;
    enum paging paging;
    bool user, stress, vmx, pcid;
    bool fpu;       /* x87 and MMX instructions above all */
    bool flat;      /* DS is; else absolute addresses go by GS */
    unsigned width; /* bytes of an operand by default, and of an address in a table: 2, 4, 8 */

    uint8_t code[CODE_LEN];
    uint8_t lengths[CODE_LEN]; /* of the instruction that begins here, else 0 */
    uint32_t size;
    struct site sites[SITES_MAX];
    unsigned site_count;
    uint32_t functions[FUNCTIONS_MAX]; /* offsets in code */
    unsigned function_count, function;
    uint32_t reserved;             /* registers that must keep their values, by number */
    unsigned depth;                /* of loops and the like */
    uint32_t targets[TARGETS_MAX]; /* offsets in code, for the table of addresses at VAR_TARGETS */
    unsigned target_count;
    unsigned loops;
    uint32_t main;
};

/* -- Emitting (code.c) --------------------------------------------------------------------------------- */

/* One instruction of n bytes; returns its offset. */
uint32_t put(struct program *p, const uint8_t *bytes, unsigned n);
/* The address of code at an offset as the program's own jumps see it; and linear, as data. */
static inline uint32_t code_address(const struct program *p, uint32_t offset)
{
    return p->width == 2 ? offset : CODE + offset;
}

/* A piece of an instruction under construction. */
struct piece {
    uint8_t b[32];
    unsigned n;
};
void piece_byte(struct piece *i, unsigned byte);
void piece_number(struct piece *i, uint64_t value, unsigned size);
/* opcode (1 to 3 bytes, most significant first) with a memory operand at an absolute linear address. */
void piece_absolute(const struct program *p, struct piece *i, unsigned prefix, unsigned opcode, unsigned reg,
                    uint32_t address);
uint32_t piece_put(struct program *p, const struct piece *i);
/* A store of 32 bits to an absolute address; high addresses cost RAX in 64-bit mode. */
void put_store32(struct program *p, uint32_t address, uint32_t value);
void put_bytes(struct program *p, unsigned n, uint64_t value); /* one instruction, first byte lowest */
/* mov reg, value in the program's own width. */
void put_load(struct program *p, unsigned reg, uint64_t value);

/* One random instruction that neither jumps nor moves a pointer. */
void random_instruction(struct program *p);
/* Gives a pointer register a new place. */
void random_pointer(struct program *p);
uint32_t random_data(struct program *p); /* as the program's pointers see it */
unsigned free_register(struct program *p);
extern const uint16_t pointer_registers[MODES];

/* -- Programs (program.c, stress.c, place.c, l2.c) ----------------------------------------------------- */

void program_build(struct program *p, uint64_t seed, const char *kind);
uint16_t code_selector(const struct program *p);
void random_item(struct program *p);
void stress_item(struct program *p);
/* Something only ring 0 may do, with nothing but the accumulator changed; width and mode of the handlers. */
void system_item(struct program *p);
/* Address of the entry for a 4-KB page, and what it holds at first. */
uint32_t paging_entry(const struct program *p, unsigned space, uint32_t linear);
uint64_t paging_value(const struct program *p, unsigned space, uint32_t linear);
uint64_t space_cr3(const struct program *p, unsigned space);
void make_space(const struct program *p, struct phys *m, unsigned n);
/* Memory, registers, and the local APIC's timer. */
void program_place(struct program *p, struct machine *m);
void handlers_place(struct program *p, struct machine *m);
void l2_place(struct program *p, struct machine *m);

/* -- Runs (run.c, report.c) ---------------------------------------------------------------------------- */

struct settings {
    const char *kind;
    uint64_t seed, slices, slice_max;
    uint32_t hot;   /* 0: by the seed */
    uint64_t cache; /* bytes of translated code; 0: the default */
    bool verbose;
};

struct pair {
    struct machine *interp, *jit;
};

struct outcome {
    uint64_t ticks, translated, evictions; /* translated: blocks */
    bool ended, failed;
};
extern const char *const kinds[];

bool lockstep_run(const struct settings *s, struct outcome *o);
/* Prints the first instructions as the interpreter runs them. */
void lockstep_trace(const struct settings *s, uint64_t count);
struct machine *lockstep_machine(struct program *p, bool jit, uint32_t hot, uint64_t cache);
/* Prints registers, memory and devices that differ; names the last of the instructions that wrote such a one.
 */
struct trace_step {
    uint64_t rip, linear;
    uint32_t key;
    uint8_t bytes[15];
};
void report_difference(struct pair *m, const struct trace_step *steps, unsigned count);
void report_step(const struct trace_step *s, const char *mark);
void machine_dispose(struct machine *m);

#endif
