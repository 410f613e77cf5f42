/*
 * tests/lockstep/stress.c -- what shakes translated code: code that changes, pages that move, single steps.
 *
 * Code changes at "sites" only: single bytes that may have either of two values, so that a program stays one
 * whatever copy or twin of a page runs, and whenever it changes.
 */
#include "tests/lockstep/lockstep.h"

/* -- Code that changes --------------------------------------------------------------------------------- */

static void site_add(struct program *p, uint32_t offset, unsigned a, unsigned b)
{
    if (p->site_count == SITES_MAX || offset + 1 >= p->size)
        return;
    p->sites[p->site_count++] = (struct site){offset, {(uint8_t)a, (uint8_t)b}};
}

/* Emits an instruction with a byte that can change. */
static void site_put(struct program *p)
{
    unsigned reg = free_register(p) & 7, a = (unsigned)dice_below(&p->d, 16),
             b = (unsigned)dice_below(&p->d, 16);
    uint32_t at = p->size;
    if ((pointer_registers[p->mode] | p->reserved | 0x10u) >> reg & 1)
        return;
    switch (dice_below(&p->d, 7)) {
    case 0:
        put_bytes(p, 2, 0xc0ff | reg << 8); /* inc, dec */
        site_add(p, at + 1, 0xc0 | reg, 0xc8 | reg);
        break;
    case 1: /* jcc over an instruction */
        put_bytes(p, 2, 0x70 | a);
        random_instruction(p);
        if (p->lengths[at] == 2)
            p->code[at + 1] = (uint8_t)(p->size - at - 2);
        site_add(p, at, 0x70 | a, 0x70 | b);
        break;
    case 2:
        put_bytes(p, 3, 0xc083 | reg << 8 | dice_roll(&p->d) % 256 << 16); /* add, xor */
        site_add(p, at + 1, 0xc0 | reg, 0xf0 | reg);
        break;
    case 3:
        if (reg < 3) {
            put_bytes(p, 2, 0xb0 | reg | a << 8);
            site_add(p, at + 1, a, b * 16);
        }
        break;
    case 4:
        put_bytes(p, 1, 0xf8); /* clc, stc */
        random_instruction(p);
        site_add(p, at, 0xf8, 0xf9);
        break;
    case 5: { /* jmp to one of two places */
        put_bytes(p, 2, 0x00eb);
        random_instruction(p);
        site_add(p, at + 1, 0, p->size - at - 2);
        break;
    }
    default:
        if (reg < 3) { /* setcc; followed by a byte of another instruction */
            put_bytes(p, 3, 0xc0900f | a << 8 | reg << 16);
            site_add(p, at + 1, 0x90 | a, 0x90 | b);
        }
    }
}

/* Where a byte of code is seen as data. */
static uint32_t site_address(struct program *p, uint32_t offset)
{
    uint64_t way = p->paging == PAGING_NONE ? 0 : dice_below(&p->d, 8);
    if (way >= 6)
        return CODE + CODE_LEN * (uint32_t)dice_below(&p->d, TWINS) + offset;
    return (way >= 4 ? ALIAS : 0) + CODE + offset;
}

/* Emits the store. Its length depends on the dice only, not on what it changes. */
static void change_put(struct program *p, uint32_t address, const struct site *s)
{
    struct piece i = {.n = 0};
    uint64_t r = dice_roll(&p->d);
    switch (r % 5) {
    case 0:
        piece_absolute(p, &i, 0, 0xc6, 0, address); /* mov byte */
        piece_byte(&i, s->value[r >> 8 & 1]);
        break;
    case 1:
    case 2: /* xor, with and without LOCK */
        piece_absolute(p, &i, r & 64 ? 0xf0 : 0, 0x80, 6, address);
        piece_byte(&i, s->value[0] ^ s->value[1]);
        break;
    case 3: /* two bytes, the second as it is */
        piece_absolute(p, &i, p->width == 2 ? 0 : 0x66, 0x81, 6, address);
        piece_number(&i, s->value[0] ^ s->value[1], 2);
        break;
    default: /* the same by a register */
        if (p->reserved & 1) {
            piece_absolute(p, &i, 0, 0x80, 6, address);
            piece_byte(&i, s->value[0] ^ s->value[1]);
            break;
        }
        put_bytes(p, 2, 0xb0 | (uint64_t)s->value[r >> 8 & 1] << 8);
        piece_absolute(p, &i, 0, 0x88, 0, address);
    }
    piece_put(p, &i);
}

static void change_code(struct program *p)
{
    if (p->site_count && dice_chance(&p->d, 60)) {
        /* One of those behind us, the last ones more often: they may be in the running loop. */
        unsigned back =
            (unsigned)dice_below(&p->d, dice_chance(&p->d, 50) ? MIN(p->site_count, 4u) : p->site_count);
        const struct site *s = &p->sites[p->site_count - 1 - back];
        change_put(p, site_address(p, s->offset), s);
        return;
    }
    /* One ahead, in the running block or the next: the store is made anew when it is known. */
    static const struct site none = {0, {0, 0}};
    unsigned before = p->site_count;
    uint32_t start = p->size;
    struct dice first = p->d;
    change_put(p, VARS + 0x30, &none);
    for (uint64_t n = dice_below(&p->d, 3); n; n--)
        random_instruction(p);
    site_put(p);
    if (p->site_count == before)
        return;
    const struct site *s = &p->sites[before];
    uint32_t address = site_address(p, s->offset), end = p->size;
    struct dice last = p->d;
    p->size = start;
    p->d = first;
    change_put(p, address, s);
    p->size = end;
    p->d = last;
}

/* Code copied over itself, from a twin: what is the same stays, the sites change. */
static void copy_code(struct program *p)
{
    if (!p->flat || (p->reserved & 2) || p->size < 0x100)
        return;
    uint32_t offset = (uint32_t)dice_below(&p->d, p->size - 0x80);
    put_load(p, 6, CODE + CODE_LEN * dice_below(&p->d, TWINS) + offset);
    put_load(p, 7, CODE + offset);
    put_load(p, 1, dice_below(&p->d, 24));
    put_bytes(p, 2, dice_chance(&p->d, 50) ? 0xa4f3 : 0xa5f3);
    put_load(p, 6, DATA + 0x800);
    put_load(p, 7, DATA + 0x3800);
}

/* -- Pages that move ----------------------------------------------------------------------------------- */

static void page_item(struct program *p)
{
    unsigned space = (unsigned)dice_below(&p->d, SPACES);
    bool code = dice_chance(&p->d, 60);
    uint32_t page = (uint32_t)dice_below(&p->d, CODE_LEN / PAGE_SIZE);
    uint32_t linear = (code ? CODE : DATA) + page * PAGE_SIZE;
    uint32_t at = paging_entry(p, space, linear), value = (uint32_t)paging_value(p, space, linear);
    switch (dice_below(&p->d, 6)) {
    case 0:
    case 1:
        if (code)
            value = (value & PAGE_MASK) |
                    (CODE + CODE_LEN * (uint32_t)dice_below(&p->d, TWINS) + page * PAGE_SIZE);
        break;
    case 2:
        value &= ~1u;
        break;
    case 3:
        value &= ~2u;
        break;
    case 4:
        value &= ~(p->user ? 4u : 2u);
        break;
    default:
        if (p->paging == PAGING_LONG) { /* execute-disable, until a fault puts it back */
            at += 4;
            value = 0x80000000;
        }
    }
    put_store32(p, at, value);
    if (dice_chance(&p->d, 50)) {
        struct piece i = {.n = 0};
        piece_absolute(p, &i, 0, 0x0f01, 7, linear);
        piece_put(p, &i);
    }
}

static void control_item(struct program *p)
{
    static const uint32_t bits0[] = {0x10000, 8, 8, 2}, bits4[] = {0x80, 4, 8};
    bool four = dice_chance(&p->d, 30);
    uint32_t bit = four ? bits4[dice_below(&p->d, 3)] : bits0[dice_below(&p->d, 4)];
    put_bytes(p, 3, four ? 0xe0200f : 0xc0200f); /* mov eax, cr0 or cr4 */
    struct piece i = {.n = 0};
    if (p->width == 2)
        piece_byte(&i, 0x66);
    piece_byte(&i, 0x35); /* xor eax */
    piece_number(&i, bit, 4);
    piece_put(p, &i);
    put_bytes(p, 3, four ? 0xe0220f : 0xc0220f);
}

static void load32(struct program *p, uint32_t value)
{
    struct piece i = {.n = 0};
    if (p->width == 2)
        piece_byte(&i, 0x66);
    piece_byte(&i, 0xb8);
    piece_number(&i, value, 4);
    piece_put(p, &i);
}

static void debug_item(struct program *p)
{
    uint32_t code = CODE + (uint32_t)dice_below(&p->d, p->size ? p->size : 1);
    bool data = dice_chance(&p->d, 50);
    put_store32(p, VAR_DEBUG, 1 + (uint32_t)dice_below(&p->d, 4));
    load32(p, data ? DATA + (uint32_t)dice_below(&p->d, 0x1000) / 4 * 4 : code);
    put_bytes(p, 3, data ? 0xc8230f : 0xc0230f); /* mov dr1 or dr0, eax */
    load32(p, data ? 0x00f00404 : 0x401);
    put_bytes(p, 3, 0xf8230f);
}

void system_item(struct program *p)
{
    struct piece i = {.n = 0};
    bool paging = p->paging != PAGING_NONE;
    if (p->reserved & 1)
        return;
    switch (dice_below(&p->d, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        if (paging)
            page_item(p);
        break;
    case 4:
    case 5:
        if (paging) {
            uint64_t cr3 = space_cr3(p, (unsigned)dice_below(&p->d, SPACES));
            if (p->pcid && dice_chance(&p->d, 50))
                cr3 |= BIT(63);
            if (p->width == 8)
                put_load(p, 0, cr3);
            else
                load32(p, (uint32_t)cr3);
            put_bytes(p, 3, 0xd8220f);
        }
        break;
    case 6:
        if (paging) {
            put_bytes(p, 3, 0xd8200f); /* mov eax, cr3; mov cr3, eax */
            put_bytes(p, 3, 0xd8220f);
        }
        break;
    case 7:
        control_item(p);
        break;
    case 8:
        debug_item(p);
        break;
    case 9:
        put_store32(p, 0xfee00380, 10 + (uint32_t)dice_below(&p->d, 60)); /* the timer anew */
        break;
    case 10: /* the alias by a large page or by a table */
        if (p->paging >= PAGING_PAE) {
            uint32_t set = TABLES + 0x8000 * (uint32_t)dice_below(&p->d, SPACES);
            put_store32(p, set + 0x2008, dice_chance(&p->d, 50) ? 0x87 : (set + 0x3000) | 7);
        }
        break;
    default:
        piece_absolute(p, &i, 0, 0x0f01, 7,
                       (dice_chance(&p->d, 50) ? CODE : DATA) + (uint32_t)dice_below(&p->d, 0x8000));
        piece_put(p, &i); /* invlpg */
    }
}

/* -- Flags and transfers ------------------------------------------------------------------------------- */

uint16_t code_selector(const struct program *p)
{
    switch (p->mode) {
    case MODE_REAL:
        return CODE >> 4;
    case MODE_PROTECTED16:
        return SEL_CODE16;
    case MODE_LONG64:
        return p->user ? SEL_USER_CODE64 | 3 : SEL_CODE64;
    default:
        return p->user ? SEL_USER_CODE32 | 3 : SEL_CODE32;
    }
}

static void single_step(struct program *p)
{
    struct piece i = {.n = 0};
    put_store32(p, VAR_DEBUG, 1 + (uint32_t)dice_below(&p->d, 12));
    put_bytes(p, 1, 0x9c); /* pushf; pop eax; or eax, TF; push eax; popf */
    put_bytes(p, 1, 0x58);
    piece_byte(&i, 0x0d);
    piece_number(&i, 0x100, p->width == 2 ? 2 : 4);
    piece_put(p, &i);
    put_bytes(p, 1, 0x50);
    put_bytes(p, 1, 0x9d);
}

/* To the instruction that follows, with the same code segment. */
static void far_item(struct program *p)
{
    struct piece to = {.n = 0};
    unsigned n = p->width == 2 ? 2 : 4;
    if (p->width == 8) {
        put_bytes(p, 2, 0xd08c); /* mov eax, ss; push rax; push rsp; pushf; mov eax, cs; push rax */
        put_bytes(p, 1, 0x50);
        put_bytes(p, 1, 0x54);
        put_bytes(p, 1, 0x9c);
        put_bytes(p, 2, 0xc88c);
        put_bytes(p, 1, 0x50);
        put_bytes(p, 5, 0x68 | (uint64_t)code_address(p, p->size + 7) << 8);
        put_bytes(p, 2, 0xcf48);
    } else if (dice_chance(&p->d, 50)) {
        put_bytes(p, 1, 0x9c);
        put_bytes(p, 1, 0x0e);
        piece_byte(&to, 0x68);
        piece_number(&to, code_address(p, p->size + n + 2), n);
        piece_put(p, &to);
        put_bytes(p, 1, 0xcf);
    } else {
        piece_byte(&to, 0xea);
        piece_number(&to, code_address(p, p->size + n + 3), n);
        piece_number(&to, code_selector(p), 2);
        piece_put(p, &to);
    }
}

static void flags_item(struct program *p)
{
    struct piece i = {.n = 0};
    switch (dice_below(&p->d, 4)) {
    case 0:
        put_bytes(p, 1, 0xfa);
        random_instruction(p);
        put_bytes(p, 1, 0xfb);
        break;
    case 1:
        put_bytes(p, 1, 0xfb);
        break;
    default: /* popf with any arithmetic flags, IF, AC, ID */
        piece_byte(&i, 0x68);
        piece_number(&i, (dice_roll(&p->d) & 0x2408d5) | (dice_chance(&p->d, 80) ? 0x202 : 2),
                     p->width == 2 ? 2 : 4);
        piece_put(p, &i);
        put_bytes(p, 1, 0x9d);
    }
}

void stress_item(struct program *p)
{
    uint64_t r = dice_below(&p->d, 100);
    if (r < 25)
        site_put(p);
    else if (r < 52)
        change_code(p);
    else if (r < 56)
        copy_code(p);
    else if (r < 82 && !p->user)
        system_item(p);
    else if (r < 82)
        put_bytes(p, 2, 0x80cd | dice_below(&p->d, 16) << 8); /* int: a handler does it */
    else if (r < 92)
        flags_item(p);
    else if (p->reserved & 1)
        return;
    else if (r < 96)
        far_item(p);
    else
        single_step(p);
}
