/*
 * tests/isa/native.h -- a processor state as the comparison sees it, the address layout, and the native side.
 *
 * Apart from isa.h because <ucontext.h> and cpu/ both have names like REG_R8.
 */
#ifndef TESTS_ISA_NATIVE_H
#define TESTS_ISA_NATIVE_H

#include "base/types.h"

/* -- Where things are, on both sides ------------------------------------------------------------------- */

#define CODE_BASE  0x10000000ull /* two pages, read and execute; filled with INT3; nothing around them */
#define CODE_SIZE  0x2000u
#define DATA_BASE  0x20000000ull /* two pages, read and write; nothing around them */
#define DATA_SIZE  0x2000u
#define RO_BASE    0x20008000ull /* one page, read only */
#define RO_SIZE    0x1000u
#define STACK_BASE 0x30000000ull /* two pages, read and write */
#define STACK_SIZE 0x2000u
#define GS_BASE    0x12340ull /* the base of GS, on both sides */

/* -- State --------------------------------------------------------------------------------------------- */

enum { VECTOR_NONE = -1, VECTOR_TIMEOUT = -2 };

struct isa_state {
    uint64_t r[16], rip, rflags;
    uint8_t xmm[16][16];
    uint8_t ymm_high[16][16]; /* bits 255:128; zero on a host without AVX */
    uint32_t mxcsr;
    uint16_t fcw, fsw; /* TOP in fsw */
    uint8_t ftw;       /* abridged, by physical register */
    uint8_t st[8][16]; /* ST(i); ten bytes count */
    int vector; /* exception, or VECTOR_*; before a run: EXC_BP when that is what INT3 at RIP shall give */
    uint32_t error;
    uint64_t cr2;
};

/* -- The native side ----------------------------------------------------------------------------------- */

void native_init(void);    /* once in each process */
void native_protect(void); /* the read-only page, once it is filled */
uint64_t native_fs_base(void);
/* #DB of INT1 says the address of INT1, not of the next instruction: some hypervisors under the host do so.
 */
bool native_int1_itself(void);
void native_code_write(uint64_t linear, const uint8_t *p, unsigned n);
/* Runs from in->rip until a trap; mode 64 or 32. */
void native_run(unsigned mode, const struct isa_state *in, struct isa_state *out);

#endif
