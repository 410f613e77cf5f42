/*
 * tests/lockstep/code.c -- random instructions: bytes are rolled, decoded, and kept when they fit.
 *
 * What fits is what goes on with the next instruction and leaves pointer registers, stack and mode alone.
 * Memory operands use pointer registers, which stand near things of interest (random_pointer()).
 */
#include "tests/lockstep/lockstep.h"

#include <string.h>

#include "cpu/exec.h"
#include "cpu/lift/lift.h"

/* By register number: SP; BX BP SI DI, or EBP ESI EDI, or RBP RSI RDI R14 R15. */
const uint16_t pointer_registers[MODES] = {0xe8, 0xe8, 0xe0, 0xe0, 0xc0e0};

#define SP_BIT 0x10u

uint32_t put(struct program *p, const uint8_t *bytes, unsigned n)
{
    uint32_t at = p->size;
    if (at + n > CODE_LEN - 64)
        return at;
    memcpy(p->code + at, bytes, n);
    p->lengths[at] = (uint8_t)n;
    p->size += n;
    return at;
}

/* -- Pieces -------------------------------------------------------------------------------------------- */

void piece_byte(struct piece *i, unsigned byte)
{
    i->b[i->n++] = (uint8_t)byte;
}

void piece_number(struct piece *i, uint64_t value, unsigned size)
{
    store_le(i->b + i->n, value, size);
    i->n += size;
}

static void piece_opcode(struct piece *i, unsigned opcode)
{
    if (opcode > 0xffff)
        piece_byte(i, opcode >> 16);
    if (opcode > 0xff)
        piece_byte(i, opcode >> 8 & 0xff);
    piece_byte(i, opcode & 0xff);
}

void piece_absolute(const struct program *p, struct piece *i, unsigned prefix, unsigned opcode, unsigned reg,
                    uint32_t address)
{
    if (!p->flat)
        piece_byte(i, 0x65);
    if (p->width == 2)
        piece_byte(i, 0x67);
    if (prefix)
        piece_byte(i, prefix);
    piece_opcode(i, opcode);
    piece_byte(i, reg << 3 | (p->width == 8 ? 4 : 5));
    if (p->width == 8)
        piece_byte(i, 0x25);
    piece_number(i, address, 4);
}

uint32_t piece_put(struct program *p, const struct piece *i)
{
    return put(p, i->b, i->n);
}

void put_bytes(struct program *p, unsigned n, uint64_t value)
{
    uint8_t b[8];
    store_le(b, value, 8);
    put(p, b, n);
}

void put_store32(struct program *p, uint32_t address, uint32_t value)
{
    struct piece i = {.n = 0};
    if (p->width == 8 && address > INT32_MAX) {
        put_load(p, 0, address);
        piece_number(&i, 0x00c7, 2); /* mov dword [rax], value */
    } else {
        piece_absolute(p, &i, p->width == 2 ? 0x66 : 0, 0xc7, 0, address);
    }
    piece_number(&i, value, 4);
    piece_put(p, &i);
}

void put_load(struct program *p, unsigned reg, uint64_t value)
{
    struct piece i = {.n = 0};
    if (p->width == 8 && value > UINT32_MAX) {
        piece_byte(&i, 0x48 | reg >> 3);
        piece_byte(&i, 0xb8 | (reg & 7));
        piece_number(&i, value, 8);
    } else {
        if (reg > 7)
            piece_byte(&i, 0x41);
        piece_byte(&i, 0xb8 | (reg & 7));
        piece_number(&i, value, p->width == 2 ? 2 : 4);
    }
    piece_put(p, &i);
}

unsigned free_register(struct program *p)
{
    for (;;) {
        unsigned n = (unsigned)dice_below(&p->d, p->width == 8 ? 16 : 8);
        if (!((pointer_registers[p->mode] | SP_BIT | p->reserved) >> n & 1))
            return n;
    }
}

/* -- Pointers ------------------------------------------------------------------------------------------ */

uint32_t random_data(struct program *p)
{
    uint64_t r = dice_roll(&p->d);
    uint32_t page = (uint32_t)(r >> 8 & 7), offset = (uint32_t)(r >> 16 & 0xfff);
    switch (r & 7) {
    case 0:
    case 1: /* around a page's end */
        offset = (uint32_t)(0xff0 + (r >> 16 & 31));
        page = dice_chance(&p->d, 60) ? 0 : page;
        break;
    case 2:
    case 3:
        offset &= 0xfc0; /* aligned for everything */
        break;
    case 4:
    case 5:
        page = r >> 32 & 1 ? 0 : 3; /* ordinary */
        break;
    default:
        break;
    }
    uint32_t at = page * PAGE_SIZE + offset;
    if (p->width == 2)
        return at & 0x7fff;
    if ((r >> 40 & 15) == 0)
        return ALIAS + DATA + at;
    if ((r >> 44 & 31) == 0)
        return p->size ? CODE + (uint32_t)dice_below(&p->d, p->size) / 64 * 64 : DATA + at;
    return DATA + at;
}

void random_pointer(struct program *p)
{
    unsigned n;
    do
        n = (unsigned)dice_below(&p->d, 16);
    while (!(pointer_registers[p->mode] >> n & 1));
    uint32_t to = random_data(p);
    /* Stray writes into code go by stress_item() only: here they would destroy it. */
    if (to >= CODE && to < DATA)
        to = DATA + (to & 0x7fff);
    put_load(p, n, to);
}

/* -- One instruction ----------------------------------------------------------------------------------- */

static uint32_t key_of(const struct program *p)
{
    return p->width == 8 ? KEY_L : p->width == 4 ? KEY_D : 0;
}

/* A register that a memory operand may stand on, by the number that ModRM or SIB gives it. */
static unsigned base_register(struct program *p)
{
    unsigned n;
    do
        n = (unsigned)dice_below(&p->d, p->width == 8 ? 16 : 8);
    while (!(pointer_registers[p->mode] >> n & 1));
    return n;
}

static void memory_operand(struct program *p, struct piece *i, uint8_t *rex, unsigned reg)
{
    uint64_t r = dice_roll(&p->d);
    unsigned mod = r & 3 ? 1 : r >> 2 & 1 ? 2 : 0;
    if (p->width == 2) {
        unsigned rm = (unsigned)dice_below(&p->d, 8);
        if (rm < 4 && (r >> 8 & 3))
            rm |= 4; /* two registers wrap far away at times only */
        if (mod == 0 && rm == 6)
            mod = 1;
        piece_byte(i, mod << 6 | reg << 3 | rm);
        if (mod)
            piece_number(i, r >> 16 & 63, mod == 2 ? 2 : 1);
        return;
    }
    unsigned base = base_register(p);
    bool index = (r >> 8 & 7) == 0;
    if (mod == 0 && (base & 7) == 5)
        mod = 1;
    *rex |= base >> 3;
    piece_byte(i, mod << 6 | reg << 3 | (index || (base & 7) == 4 ? 4 : base & 7));
    if (index) {
        unsigned x = r >> 12 & 7;
        piece_byte(i, (unsigned)(r >> 16 & 3) << 6 | x << 3 | (base & 7));
    } else if ((base & 7) == 4) {
        piece_byte(i, 0x24);
    }
    if (mod == 1)
        piece_byte(i, r >> 24 & 1 ? r >> 25 & 0xff : r >> 25 & 7);
    else if (mod == 2)
        piece_number(i, (uint64_t)((int64_t)(r >> 24 & 0x1ff) - 0x80), 4);
}

/* x87, or MMX: without prefixes, the opcode in `opcode`. */
static void roll_fpu_opcode(struct program *p, struct piece *i, unsigned opcode)
{
    if (dice_chance(&p->d, 70)) {
        piece_byte(i, 0xd8 | (opcode & 7));
        return;
    }
    piece_byte(i, 0x0f);
    if (dice_chance(&p->d, 10)) {
        piece_byte(i, 0x38);
        piece_byte(i, opcode & 0x1f);
    } else if (dice_chance(&p->d, 10)) {
        piece_byte(i, dice_chance(&p->d, 50) ? 0x77 : 0x2a | (opcode & 7)); /* EMMS; CVTPI2PS and its like */
    } else {
        piece_byte(i, dice_chance(&p->d, 40) ? 0x60 | (opcode & 0x1f) : 0xc0 | (opcode & 0x3f));
    }
}

/* Rolls bytes that may be an instruction. */
static void roll_bytes(struct program *p, struct piece *i)
{
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    uint64_t r = dice_roll(&p->d);
    struct piece tail = {.n = 0};
    uint8_t rex = 0x40 | (r & 15);
    unsigned map = (unsigned)dice_below(&p->d, 100), opcode = r >> 8 & 0xff;
    if ((r >> 16 & 7) == 0)
        piece_byte(i, 0x66);
    if ((r >> 19 & 31) == 0)
        piece_byte(i, 0x67);
    if ((r >> 24 & 7) == 0)
        piece_byte(i, 0xf2 | (r >> 27 & 1));
    if ((r >> 28 & 15) == 0)
        piece_byte(i, 0xf0);
    if ((r >> 32 & 31) == 0)
        piece_byte(i, segments[(r >> 37 & 7) % 6]);
    unsigned reg = r >> 40 & 7;
    bool has_rex = p->width == 8 && (r >> 43 & 3);
    if (r >> 45 & 1) {
        memory_operand(p, &tail, &rex, reg);
        has_rex |= p->width == 8 && (rex & 1);
    } else {
        piece_byte(&tail, 0xc0 | reg << 3 | (r >> 46 & 7));
    }
    if (p->fpu && r >> 59 & 3) {
        if (has_rex)
            piece_byte(i, rex);
        roll_fpu_opcode(p, i, opcode);
    } else if (map >= 94) { /* VEX: the map, the prefix and W at random */
        unsigned rxb = p->width == 8 ? (~rex & 7u) << 5 : 0xe0;
        piece_byte(i, 0xc4);
        piece_byte(i, rxb | (1 + (unsigned)dice_below(&p->d, 3)));
        piece_byte(i, r >> 49 & 0xff);
        piece_byte(i, opcode);
    } else {
        if (has_rex)
            piece_byte(i, rex);
        if (map >= 48)
            piece_byte(i, 0x0f);
        if (map >= 82)
            piece_byte(i, map >= 89 ? 0x3a : 0x38);
        piece_byte(i, map < 48 && (r >> 57 & 15) == 0 ? 0xd8 | (opcode & 7) : opcode);
    }
    memcpy(i->b + i->n, tail.b, tail.n);
    i->n += tail.n;
    piece_number(i, r >> 62 & 1 ? dice_odd(&p->d) : dice_roll(&p->d), 8);
}

static int register_number(ZydisRegister reg)
{
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15 ? (int)(full - ZYDIS_REGISTER_RAX) : -1;
}

static bool kind_fits(const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
        return true;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
        return false;
    default:
        break;
    }
    switch (zi->meta.category) {
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_VTX:
        return false;
    default:
        return true;
    }
}

/* What it writes does no harm, and where it reads and writes memory is where pointers lead. */
static bool operands_fit(const struct program *p, const ZydisDecodedInstruction *zi,
                         const ZydisDecodedOperand *op)
{
    uint32_t kept = pointer_registers[p->mode] | SP_BIT | p->reserved;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        bool writes = op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && writes) {
            int n = register_number(op[i].reg.value);
            ZydisRegisterClass class = ZydisRegisterGetClass(op[i].reg.value);
            if ((n >= 0 && (kept >> n & 1)) || class == ZYDIS_REGCLASS_SEGMENT ||
                class == ZYDIS_REGCLASS_CONTROL || class == ZYDIS_REGCLASS_DEBUG)
                return false;
        }
        if (op[i].type != ZYDIS_OPERAND_TYPE_MEMORY || op[i].mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            continue;
        int base = register_number(op[i].mem.base);
        if (op[i].mem.base == ZYDIS_REGISTER_RIP && writes)
            return false;
        if (op[i].mem.base == ZYDIS_REGISTER_NONE || base == 4)
            return false;
        if (op[i].mem.base != ZYDIS_REGISTER_RIP && base >= 0 && !(kept >> base & 1))
            return false;
    }
    return true;
}

void random_instruction(struct program *p)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    for (unsigned tries = 0; tries < 200; tries++) {
        struct piece i = {.n = 0};
        roll_bytes(p, &i);
        if (!insn_decode(key_of(p), i.b, 15, &zi, op) || !kind_fits(&zi) || !operands_fit(p, &zi, op))
            continue;
        /* NOPs have very many forms. */
        if (zi.mnemonic == ZYDIS_MNEMONIC_NOP && tries < 150 && dice_chance(&p->d, 95))
            continue;
        put(p, i.b, zi.length);
        return;
    }
}
