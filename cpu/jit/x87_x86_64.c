/*
 * cpu/jit/x87_x86_64.c -- emits host stubs for x87 instructions.
 *
 * SDM 1, "Programming with the x87 FPU"; SDM 1, "x87 FPU Exception Synchronization" (waiting and
 * non-waiting). Called as code(a = RDI, b = RSI, frame = RDX).
 */
#include "cpu/jit/x87.h"

#include <string.h>
#include "cpu/jit/stub_internal.h"

static const uint8_t load_a[] = {0xdb, 0x2f};                        /* FLD m80 [RDI] */
static const uint8_t load_b[] = {0xdb, 0x2e};                        /* FLD m80 [RSI] */
static const uint8_t store_a[] = {0xdb, 0x3f};                       /* FSTP m80 [RDI] */
static const uint8_t store_b[] = {0xdb, 0x3e};                       /* FSTP m80 [RSI] */
static const uint8_t drop[] = {0xdd, 0xd8};                          /* FSTP ST(0) */
static const uint8_t control[] = {0xd9, 0x2a};                       /* FLDCW [RDX] */
static const uint8_t status[] = {0xdd, 0x7a, 0x02};                  /* FNSTSW [RDX+2] */
static const uint8_t clear[] = {0xdb, 0xe2};                         /* FNCLEX */
static const uint8_t initialise[] = {0xdb, 0xe3};                    /* FNINIT */
static const uint8_t flags[] = {0x9c, 0x58, 0x48, 0x89, 0x42, 0x08}; /* PUSHFQ; POP RAX; MOV [RDX+8], RAX */
static const uint8_t leave[] = {0xc3};

#define PUT(part)                                                                                            \
    do {                                                                                                     \
        memcpy(code + n, part, sizeof(part));                                                                \
        n += sizeof(part);                                                                                   \
    } while (0)

x87_code *stub_x87(struct stub_cache *c, unsigned op, uint8_t modrm, enum x87_form form)
{
    bool memory = modrm < 0xc0;
    unsigned slot = op * 72 + (memory ? 64 + (modrm >> 3 & 7) : modrm & 0x3f);
    void *known = stub_x87_slot(c, slot);
    if (known)
        return (x87_code *)known;

    uint8_t code[96], insn[2] = {(uint8_t)(0xd8 + op), modrm};
    unsigned n = 0;
    if (memory)
        insn[1] = (uint8_t)((modrm & 0x38) | 0x06); /* [RSI] */
    else if (form == X87_BINARY || form == X87_BINARY_ST1 || form == X87_COMPARE || form == X87_COMPARE_FLAGS)
        insn[1] = (uint8_t)((modrm & 0xf8) | 1);
    if (form == X87_BINARY_ST1)
        insn[0] = 0xdc;

    /* Flags that C code of ours may have left would be taken as pending once the guest's control word unmasks
     * them. */
    PUT(clear);
    PUT(control);
    if (form == X87_BINARY || form == X87_BINARY_ST1 || form == X87_COMPARE || form == X87_COMPARE_FLAGS)
        PUT(load_b);
    if (form != X87_LOAD)
        PUT(load_a);
    PUT(insn);
    if (form == X87_COMPARE_FLAGS)
        PUT(flags);
    PUT(status);
    PUT(clear);
    switch (form) {
    case X87_UNARY:
    case X87_BINARY:
    case X87_MEMORY:
    case X87_LOAD:
        PUT(store_a);
        break;
    case X87_BINARY_ST1:
        PUT(drop);
        PUT(store_b);
        break;
    default:
        break;
    }
    PUT(initialise);
    PUT(leave);
    return (x87_code *)stub_x87_add(c, slot, code, n);
}
