/*
 * tests/fuzz/guest_code.c -- random instructions, guided by the opcode maps, and short sequences that reach
 * deep.
 *
 * Uniform bytes rarely get past #UD and page faults: so operands are mostly near, and system instructions
 * mostly come with registers that they may accept.
 */
#include "tests/fuzz/guest.h"

#include <string.h>

void code_byte(struct code *c, unsigned byte)
{
    if (c->size < c->room)
        c->bytes[c->size++] = (uint8_t)byte;
}

void code_number(struct code *c, uint64_t value, unsigned size)
{
    while (size--) {
        code_byte(c, value & 0xff);
        value >>= 8;
    }
}

static void code_bytes(struct code *c, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        code_byte(c, (uint8_t)bytes[i]);
}
#define BYTES(c, text) code_bytes(c, text, sizeof(text) - 1)

static unsigned small_byte(struct dice *d)
{
    static const uint8_t usual[] = {0, 1, 2, 4, 8, 0x10, 0x40, 0x7f, 0x80, 0xf0, 0xff};
    uint64_t r = dice_roll(d);
    return r & 1 ? usual[(r >> 8) % ARRAY_LEN(usual)] : r >> 16 & 0xff;
}

/* An address where something is: data, tables, page edges, devices. */
static uint64_t address(struct dice *d)
{
    static const uint32_t places[] = {GUEST_GDT,  GUEST_IDT,      GUEST_TSS,  GUEST_LDT,  GUEST_STACK - 0x100,
                                      GUEST_CODE, GUEST_HANDLERS, GUEST_DATA, GUEST_VMX,  GUEST_TABLES,
                                      0xfee00000, 0xfec00000,     0xfed00000, 0xe0000000, GUEST_DATA + 0xff8};
    uint64_t r = dice_roll(d);
    switch (r & 7) {
    case 0:
        return dice_odd(d);
    case 1:
        return places[(r >> 8) % ARRAY_LEN(places)] + (r >> 32 & 0xfff);
    case 2:
        return places[(r >> 8) % ARRAY_LEN(places)] + (r >> 32 & 0x3f0);
    case 3:
        return 0xfee00000 + (r >> 32 & 0x3f0);
    case 4:
        return GUEST_DATA + (r >> 32 & 7) * 0x1000 + 0xff0 + (r >> 40 & 0xf);
    default:
        return GUEST_DATA + (r >> 32 & 0x1fc0);
    }
}

/* -- One instruction by the maps ----------------------------------------------------------------------- */

static void prefixes(struct dice *d, struct code *c, bool bits64)
{
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    uint64_t r = dice_roll(d);
    if ((r & 7) == 0)
        code_byte(c, 0x66);
    if ((r >> 8 & 15) == 0)
        code_byte(c, 0x67);
    if ((r >> 16 & 7) == 0)
        code_byte(c, 0xf2 | (r >> 19 & 1));
    if ((r >> 24 & 15) == 0)
        code_byte(c, 0xf0);
    if ((r >> 32 & 15) == 0)
        code_byte(c, segments[(r >> 36 & 0xff) % ARRAY_LEN(segments)]);
    if (bits64 && (r >> 44 & 1))
        code_byte(c, 0x40 | (r >> 48 & 15));
}

static void operands(struct dice *d, struct code *c)
{
    uint64_t r = dice_roll(d);
    unsigned modrm = r & 0xff;
    if ((r >> 8 & 3) == 0)
        modrm |= 0xc0;
    code_byte(c, modrm);
    if (modrm < 0xc0 && (modrm & 7) == 4)
        code_byte(c, r >> 16 & 0xff);
    if (modrm < 0x40 && (modrm & 7) == 5)
        code_number(c, r >> 24 & 1 ? address(d) : small_byte(d), 4);
    else if ((modrm & 0xc0) == 0x40)
        code_byte(c, small_byte(d));
    else if ((modrm & 0xc0) == 0x80)
        code_number(c, r >> 24 & 3 ? small_byte(d) : address(d), 4);
}

static void by_map(struct dice *d, struct code *c, bool bits64)
{
    uint64_t r = dice_roll(d);
    unsigned map = r & 31, opcode = r >> 8 & 0xff;
    prefixes(d, c, bits64);
    if (map == 0) { /* VEX and EVEX, as far as they go */
        code_byte(c, r >> 16 & 1 ? 0xc5 : 0xc4);
        code_number(c, r >> 24, 3);
    } else if (map < 13) {
        code_byte(c, 0x0f);
        if (map == 1)
            code_byte(c, 0x38);
        else if (map == 2)
            code_byte(c, 0x3a);
        if (map == 3)
            opcode = 0x01;
        else if (map == 4)
            opcode = 0xc7;
        else if (map == 5)
            opcode = 0xae;
        else if (map == 6)
            opcode = 0x20 + (opcode & 3);
    } else if (map < 16) {
        opcode = 0xd8 + (opcode & 7);
    }
    code_byte(c, opcode);
    if (r >> 16 & 15)
        operands(d, c);
    for (unsigned n = r >> 24 & 3; n; n--)
        code_byte(c, small_byte(d));
}

/* -- Sequences ----------------------------------------------------------------------------------------- */

static void load(struct code *c, unsigned reg, uint64_t value, bool bits64)
{
    if (bits64)
        code_byte(c, 0x48);
    code_byte(c, 0xb8 + reg);
    code_number(c, value, bits64 ? 8 : 4);
}

static uint32_t msr_number(struct dice *d)
{
    static const uint32_t numbers[] = {
        0x10,       0x1b,       0x3a,       0x3b,       0x48,      0x49,  0x79,       0x8b,       0xfe,
        0x10a,      0x174,      0x175,      0x176,      0x179,     0x17a, 0x1a0,      0x1d9,      0x200,
        0x201,      0x20f,      0x250,      0x258,      0x26f,     0x277, 0x2ff,      0x38f,      0x400,
        0x401,      0x480,      0x485,      0x48b,      0x48c,     0x6e0, 0x802,      0x808,      0x80b,
        0x80f,      0x830,      0x832,      0x838,      0x83f,     0xda0, 0xc0000080, 0xc0000081, 0xc0000082,
        0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103};
    uint64_t r = dice_roll(d);
    return numbers[(r >> 8) % ARRAY_LEN(numbers)] + (r & 7 ? 0 : r >> 4 & 15);
}

static void move_to_cr(struct dice *d, struct code *c, bool bits64)
{
    static const uint8_t crs[] = {0, 3, 4, 4, 8};
    unsigned cr = crs[dice_below(d, ARRAY_LEN(crs))];
    if (dice_chance(d, 70)) { /* turns one bit over */
        BYTES(c, "\x0f\x20"); /* mov rax, cr */
        code_byte(c, 0xc0 | (cr & 7) << 3);
        uint64_t bit = dice_below(d, cr == 0 ? 32 : 23);
        BYTES(c, "\x0f\xba\xf8"); /* btc eax, bit */
        code_byte(c, (unsigned)bit);
    } else {
        load(c, 0, cr == 3 ? GUEST_TABLES + (dice_below(d, 16) << 12) + dice_below(d, 32) : dice_odd(d),
             bits64);
    }
    if (cr == 8)
        code_byte(c, 0x44);
    BYTES(c, "\x0f\x22");
    code_byte(c, 0xc0 | (cr & 7) << 3);
}

/* Instructions with one memory operand at [rax] or [eax], ModRM.reg open. */
static void with_memory(struct dice *d, struct code *c, bool bits64)
{
    static const char *const forms[] = {"\x0f\x01",
                                        "\x0f\x01",
                                        "\x0f\x01",
                                        "\x0f\x00",
                                        "\x0f\xae",
                                        "\x0f\xae",
                                        "\x0f\xc7",
                                        "\x0f\xc7",
                                        "\x0f\xc7",
                                        "\x66\x0f\xc7",
                                        "\xf3\x0f\xc7",
                                        "\x66\x0f\x38\x80",
                                        "\x66\x0f\x38\x81",
                                        "\x66\x0f\x38\x82",
                                        "\xdd",
                                        "\xd9",
                                        "\xdf",
                                        "\xdb",
                                        "\xff",
                                        "\xf0\xff",
                                        "\x0f\x79",
                                        "\x0f\x78",
                                        "\x8e",
                                        "\x8f",
                                        "\xf7",
                                        "\x0f\xb2",
                                        "\xc4",
                                        "\x62",
                                        "\x0f\xab",
                                        "\xf0\x0f\xb1",
                                        "\xf0\x0f\xc1",
                                        "\x87",
                                        "\xf3\x0f\xae",
                                        "\x66\x0f\xae",
                                        "\x0f\x18",
                                        "\x0f\x0d"};
    const char *form = forms[dice_below(d, ARRAY_LEN(forms))];
    uint64_t r = dice_roll(d);
    load(c, 0, address(d), bits64);
    if (!strncmp(form, "\x66\x0f\x38", 3)) /* INVEPT, INVVPID, INVPCID: the type in a register */
        load(c, 1, dice_below(d, 5), bits64);
    code_byte(c, (uint8_t)form[0]);
    if (bits64 && (r & 0x300) && !strchr("\x66\xf0\xf3", form[0])) {
        c->size--;
        code_byte(c, 0x48);
        code_byte(c, (uint8_t)form[0]);
    }
    code_bytes(c, form + 1, strlen(form) - 1);
    code_byte(c, (r & 7) << 3);
}

static void repeated(struct dice *d, struct code *c, bool bits64)
{
    static const uint8_t opcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac,
                                      0xad, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f};
    load(c, 1, dice_chance(d, 90) ? dice_below(d, 300) : dice_odd(d), bits64);
    load(c, 6, address(d), bits64);
    load(c, 7, address(d), bits64);
    if (dice_chance(d, 20))
        code_byte(c, 0xfd);
    code_byte(c, 0xf2 + (unsigned)dice_below(d, 2));
    if (bits64 && dice_chance(d, 40))
        code_byte(c, 0x48);
    code_byte(c, opcodes[dice_below(d, ARRAY_LEN(opcodes))]);
}

static void far_transfer(struct dice *d, struct code *c, bool bits64)
{
    unsigned selector = (unsigned)dice_below(d, GUEST_GDT_ENTRIES * 8);
    if (dice_chance(d, 50))
        selector = (selector & ~7u) | (dice_chance(d, 50) ? 0 : 3);
    uint32_t target = GUEST_CODE + (uint32_t)dice_below(d, GUEST_CODE_LEN);
    switch (dice_below(d, 4)) {
    case 0: /* push; push; retf */
        code_byte(c, 0x68), code_number(c, selector, 4);
        code_byte(c, 0x68), code_number(c, target, 4);
        if (bits64)
            code_byte(c, 0x48);
        code_byte(c, dice_chance(d, 50) ? 0xcb : 0xca);
        break;
    case 1: /* iret, with and without a stack */
        code_byte(c, 0x68), code_number(c, SEL_DATA | (selector & 3), 4);
        code_byte(c, 0x68), code_number(c, GUEST_STACK - 0x100, 4);
        code_byte(c, 0x68), code_number(c, dice_odd(d), 4);
        code_byte(c, 0x68), code_number(c, selector, 4);
        code_byte(c, 0x68), code_number(c, target, 4);
        if (bits64)
            code_byte(c, 0x48);
        code_byte(c, 0xcf);
        break;
    case 2:
        code_byte(c, dice_chance(d, 50) ? 0xea : 0x9a);
        code_number(c, target, 4);
        code_number(c, selector, 2);
        break;
    default: /* far pointer in memory */
        load(c, 0, GUEST_DATA, bits64);
        BYTES(c, "\xc7\x00"), code_number(c, target, 4);
        BYTES(c, "\xc7\x40\x04"), code_number(c, selector, 4);
        BYTES(c, "\xff"), code_byte(c, dice_chance(d, 50) ? 0x28 : 0x18);
    }
}

static void registers(struct dice *d, struct code *c, bool bits64)
{
    static const char *const wanted[] = {"\x0f\x30",     "\x0f\x30",     "\x0f\x32",     "\x0f\x01\xd1",
                                         "\x0f\x01\xd0", "\x0f\xa2",     "\x0f\x33",     "\x0f\x31",
                                         "\x0f\x01\xf9", "\x0f\x01\xd4", "\x0f\x01\xc8", "\x0f\x01\xc9",
                                         "\xef",         "\xed",         "\xee",         "\xec"};
    const char *form = wanted[dice_below(d, ARRAY_LEN(wanted))];
    load(c, 1, form[1] == 0x30 || form[1] == 0x32 ? msr_number(d) : dice_below(d, 32), bits64);
    load(c, 0, dice_odd(d), bits64);
    load(c, 2, (uint8_t)form[0] >= 0xec ? dice_below(d, 0x10000) >> dice_below(d, 12) : dice_odd(d), bits64);
    code_bytes(c, form, strlen(form));
}

static void sequence(struct dice *d, struct code *c, bool bits64)
{
    static const char *const plain[] = {"\xfb",         "\xfa",
                                        "\xfb\xf4",     "\xf4",
                                        "\x0f\x05",     "\x0f\x07",
                                        "\x48\x0f\x07", "\x0f\x34",
                                        "\x0f\x35",     "\x0f\x0b",
                                        "\xcc",         "\xf1",
                                        "\xce",         "\x9d",
                                        "\x0f\x06",     "\x0f\x08",
                                        "\x0f\x09",     "\x0f\xaa",
                                        "\x0f\x77",     "\xdb\xe3",
                                        "\x9b",         "\x0f\x01\xc1",
                                        "\x0f\x01\xc2", "\x0f\x01\xc3",
                                        "\x0f\x01\xc4", "\x0f\x01\xca",
                                        "\x0f\x01\xcb", "\x0f\x01\xf8",
                                        "\xf3\x90",     "\xc8\x10\x00\x05",
                                        "\xc9",         "\xf3\x0f\x01\xe8",
                                        "\xcd\x80",     "\xcd\x0e",
                                        "\xcd\x02",     "\x8e\xd0",
                                        "\x17",         "\x0f\x23\xf8",
                                        "\x0f\x23\xc0", "\x0f\x21\xf0",
                                        "\x0f\x37",     "\x0f\xc7\xf0"};
    switch (dice_below(d, 10)) {
    case 0:
        move_to_cr(d, c, bits64);
        break;
    case 1:
    case 2:
        with_memory(d, c, bits64);
        break;
    case 3:
        repeated(d, c, bits64);
        break;
    case 4:
        far_transfer(d, c, bits64);
        break;
    case 5:
    case 6:
        registers(d, c, bits64);
        break;
    case 7: /* a store anywhere: tables, code, devices */
        load(c, 3, address(d), bits64);
        if (dice_chance(d, 30))
            code_byte(c, 0x48);
        BYTES(c, "\xc7\x03");
        code_number(c, dice_chance(d, 50) ? address(d) | (dice_roll(d) & 0xe7) : dice_odd(d), 4);
        break;
    case 8: { /* debug registers, or flags */
        unsigned dr = (unsigned)dice_below(d, 8);
        if (dice_chance(d, 40)) {
            code_byte(c, 0x68), code_number(c, dice_odd(d), 4);
            code_byte(c, 0x9d);
            break;
        }
        load(c, 0, dr < 4 ? address(d) : dice_odd(d) & 0xffffffff, bits64);
        BYTES(c, "\x0f\x23");
        code_byte(c, 0xc0 | dr << 3);
        break;
    }
    default: {
        const char *form = plain[dice_below(d, ARRAY_LEN(plain))];
        code_bytes(c, form, form[0] == (char)0xc8 ? 4 : strlen(form));
    }
    }
}

void guest_code(struct dice *d, struct code *c, bool bits64)
{
    unsigned deep = (unsigned)dice_below(d, 60), noise = (unsigned)dice_below(d, 100) < 5 ? 50 : 1;
    while (c->size < c->room) {
        if (dice_chance(d, deep))
            sequence(d, c, bits64);
        else if (dice_chance(d, noise))
            code_number(c, dice_roll(d), 8);
        else
            by_map(d, c, bits64);
    }
}
