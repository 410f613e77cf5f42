/*
 * tests/fuzz/guest.h -- random guest code, and processors in random but mostly usable states to run it.
 *
 * Low memory of such a guest:
 *   01000H VMCS fields to write | 02000H GDT | 03000H IDT | 04000H TSS, LDT | 06000H stack | 08000H handlers
 *   10000H page tables | 20000H code | 30000H VMX: VMXON region, VMCSs, bitmaps, lists, EPT | 60000H data
 */
#ifndef TESTS_FUZZ_GUEST_H
#define TESTS_FUZZ_GUEST_H

#include "tests/fuzz/lab.h"

#define GUEST_GDT      0x2000u
#define GUEST_IDT      0x3000u
#define GUEST_TSS      0x4000u
#define GUEST_LDT      0x5000u
#define GUEST_STACK    0x7f00u
#define GUEST_HANDLERS 0x8000u
#define GUEST_TABLES   0x10000u
#define GUEST_CODE     0x20000u
#define GUEST_CODE_LEN 0x2000u
#define GUEST_VMX      0x30000u
#define GUEST_DATA     0x60000u

enum guest_mode {
    GUEST_REAL,
    GUEST_PROTECTED16,
    GUEST_PROTECTED32,
    GUEST_COMPATIBILITY,
    GUEST_LONG64,
    GUEST_MODES
};

/* Selectors of the guest's GDT. */
enum {
    SEL_CODE64 = 0x08,
    SEL_CODE32 = 0x10,
    SEL_CODE16 = 0x18,
    SEL_DATA = 0x20,
    SEL_DATA16 = 0x28,
    SEL_USER_CODE32 = 0x30,
    SEL_USER_DATA = 0x38,
    SEL_USER_CODE64 = 0x40,
    SEL_TSS = 0x50,
    SEL_LDT = 0x60,
    SEL_GATE = 0x70,
    SEL_RANDOM = 0x80, /* and up to GUEST_GDT_ENTRIES */
};
#define GUEST_GDT_ENTRIES 32u

struct code {
    uint8_t *bytes;
    size_t size, room;
};

void code_byte(struct code *c, unsigned byte);
void code_number(struct code *c, uint64_t value, unsigned size);

/* Fills c to its room with random instructions; bits64: REX prefixes. */
void guest_code(struct dice *d, struct code *c, bool bits64);

/* Puts memory, tables, code and the first processor into a random state; raw: bytes to run before all else.
 */
void guest_make(struct dice *d, struct machine *m, const uint8_t *raw, size_t raw_size);
/* Later: sends the processors back into the code, some in other states. */
void guest_kick(struct dice *d, struct machine *m);

#endif
