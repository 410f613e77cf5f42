/*
 * tests/lockstep/handlers.c -- what a program's faults, interrupts and INT 80H to 8FH do.
 *
 * A fault steps over its instruction by the table of lengths; outside known code the main loop starts anew.
 * A page fault first puts back the paging entry, when it is not what it was at first.
 */
#include "tests/lockstep/lockstep.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"

#define EOI 0xfee000b0u

struct frame {
    struct program *h; /* emits */
    const struct program *p;
    unsigned w, error; /* bytes of a word; 1: an error code was pushed */
};

/* ModRM of [bp + disp8]. */
static unsigned bp(const struct frame *f)
{
    return f->w == 2 ? 0x46 : 0x45;
}

/* A move or the like with [bp + disp8]. */
static void at_bp(const struct frame *f, unsigned opcode, unsigned reg, unsigned word)
{
    struct piece i = {.n = 0};
    if (f->w == 8)
        piece_byte(&i, 0x48);
    piece_byte(&i, opcode);
    piece_byte(&i, bp(f) | reg << 3);
    piece_byte(&i, word * f->w);
    piece_put(f->h, &i);
}

static void word_op(const struct frame *f, unsigned opcode, unsigned modrm)
{
    put_bytes(f->h, f->w == 8 ? 3 : 2,
              f->w == 8 ? 0x48 | opcode << 8 | (uint64_t)modrm << 16 : opcode | modrm << 8);
}

/* With an immediate operand of 16 or 32 bits. */
static void word_op_immediate(const struct frame *f, unsigned opcode, unsigned modrm, uint32_t value)
{
    struct piece i = {.n = 0};
    if (f->w == 8)
        piece_byte(&i, 0x48);
    piece_byte(&i, opcode);
    piece_byte(&i, modrm);
    piece_number(&i, value, f->w == 2 ? 2 : 4);
    piece_put(f->h, &i);
}

static void enter(const struct frame *f)
{
    put_bytes(f->h, 1, 0x55);
    word_op(f, 0x89, 0xe5);
    put_bytes(f->h, 1, 0x50);
    put_bytes(f->h, 1, 0x53);
}

static void leave(const struct frame *f)
{
    put_bytes(f->h, 1, 0x5b);
    put_bytes(f->h, 1, 0x58);
    put_bytes(f->h, 1, 0x5d);
    if (f->error)
        word_op_immediate(f, 0x81, 0xc4, f->w);
    if (f->w == 8)
        put_bytes(f->h, 2, 0xcf48);
    else
        put_bytes(f->h, 1, 0xcf);
}

static uint32_t short_jump(const struct frame *f, unsigned opcode)
{
    return put(f->h, (const uint8_t[]){(uint8_t)opcode, 0}, 2);
}

static void here(const struct frame *f, uint32_t jump)
{
    f->h->code[jump + 1] = (uint8_t)(f->h->size - jump - 2);
}

/* Only [bp + word] of the frame and AX, BX are touched. */
static void skip_instruction(const struct frame *f)
{
    struct piece i = {.n = 0};
    unsigned rip = 1 + f->error;
    uint32_t base = code_address(f->p, 0);
    at_bp(f, 0x8b, 3, rip);
    word_op_immediate(f, 0x81, 0xeb, base);
    word_op_immediate(f, 0x81, 0xfb, CODE_LEN);
    uint32_t outside = short_jump(f, 0x73);
    if (f->w == 2) { /* movzx ax, fs:[bx], which lies at LENGTHS */
        piece_number(&i, 0x07b60f64, 4);
    } else {
        if (!f->h->flat)
            piece_byte(&i, 0x65);
        piece_number(&i, 0x83b60f, 3); /* movzx eax, [ebx + LENGTHS] */
        piece_number(&i, LENGTHS, 4);
    }
    piece_put(f->h, &i);
    put_bytes(f->h, 2, 0xc085);
    uint32_t unknown = short_jump(f, 0x74);
    at_bp(f, 0x01, 0, rip);
    uint32_t done = short_jump(f, 0xeb);
    here(f, outside);
    here(f, unknown);
    struct piece to = {.n = 0};
    if (f->w == 8)
        piece_byte(&to, 0x48);
    piece_byte(&to, 0xc7);
    piece_byte(&to, bp(f));
    piece_byte(&to, rip * f->w);
    piece_number(&to, code_address(f->p, f->p->main), f->w == 2 ? 2 : 4);
    piece_put(f->h, &to);
    here(f, done);
}

static void page_fault(const struct frame *f)
{
    const struct program *p = f->p;
    bool small = p->paging == PAGING_32;
    uint32_t to = p->paging == PAGING_LONG ? 0x3000 : p->paging == PAGING_PAE ? 0x2000 : 0x1000;
    uint32_t first = small ? 0x1000 : 0x4000;
    struct piece lea = {.n = 0}, gs = {.n = 0};
    enter(f);
    put_bytes(f->h, 3, 0xd0200f);                                       /* mov eax, cr2 */
    put_bytes(f->h, 3, 0x0ce8c1);                                       /* shr eax, 12 */
    put_bytes(f->h, 5, 0x25 | (uint64_t)(MEMORY / PAGE_SIZE - 1) << 8); /* and eax */
    put_bytes(f->h, 3, 0xdb200f);                                       /* mov ebx, cr3 */
    put_bytes(f->h, 6, 0xe381 | 0xfffff000ull << 16);
    piece_byte(&lea, 0x8d); /* lea ebx, [ebx + eax * size + to] */
    piece_byte(&lea, 0x9c);
    piece_byte(&lea, small ? 0x83 : 0xc3);
    piece_number(&lea, to, 4);
    piece_put(f->h, &lea);
    if (!f->h->flat)
        piece_byte(&gs, 0x65);
    bool wide = f->w == 8;
#define WITH_EBX(opcode, reg, disp)                                                                          \
    do {                                                                                                     \
        struct piece i = gs;                                                                                 \
        if (wide)                                                                                            \
            piece_byte(&i, 0x48);                                                                            \
        piece_byte(&i, opcode);                                                                              \
        piece_byte(&i, 0x83 | (reg) << 3);                                                                   \
        piece_number(&i, disp, 4);                                                                           \
        piece_put(f->h, &i);                                                                                 \
    } while (0)
    WITH_EBX(0x8b, 0, 0);
    word_op_immediate(f, 0x81, 0xe0, 0xffffff9f); /* without accessed and dirty */
    WITH_EBX(0x3b, 0, first);
    uint32_t same = short_jump(f, 0x74);
    WITH_EBX(0x8b, 0, first);
    WITH_EBX(0x89, 0, 0);
    uint32_t retry = short_jump(f, 0xeb);
    here(f, same);
    skip_instruction(f);
    here(f, retry);
    leave(f);
#undef WITH_EBX
}

static void debug_exception(const struct frame *f)
{
    struct piece down = {.n = 0};
    enter(f);
    piece_absolute(f->h, &down, f->w == 2 ? 0x66 : 0, 0xff, 1, VAR_DEBUG);
    piece_put(f->h, &down);
    uint32_t more = short_jump(f, 0x7f);
    word_op(f, 0x31, 0xc0);
    put_bytes(f->h, 3, 0xf8230f); /* mov dr7, eax */
    put_store32(f->h, VAR_DEBUG, 4);
    struct piece off = {.n = 0};
    piece_byte(&off, 0x81); /* and [flags], not TF */
    piece_byte(&off, bp(f) | 4 << 3);
    piece_byte(&off, 3 * f->w);
    piece_number(&off, f->w == 2 ? 0xfeff : 0xfffffeff, f->w == 2 ? 2 : 4);
    piece_put(f->h, &off);
    here(f, more);
    if (f->w != 2) {
        struct piece rf = {.n = 0};
        piece_number(&rf, 0x4d81, 2); /* or [flags], RF */
        piece_byte(&rf, 3 * f->w);
        piece_number(&rf, 0x10000, 4);
        piece_put(f->h, &rf);
    }
    word_op(f, 0x31, 0xc0);
    put_bytes(f->h, 3, 0xf0230f); /* mov dr6, eax */
    leave(f);
}

static void handler(struct frame *f, unsigned vector)
{
    f->error = f->w != 2 && (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17);
    struct piece i = {.n = 0};
    switch (vector) {
    case EXC_DB:
        debug_exception(f);
        return;
    case EXC_BP:
    case EXC_OF:
        enter(f);
        break;
    case EXC_NM:
        enter(f);
        put_bytes(f->h, 2, 0x060f);
        break;
    case EXC_MF:
        enter(f);
        put_bytes(f->h, 2, 0xe3db); /* fninit, and once more */
        break;
    case EXC_XM:
        enter(f);
        piece_absolute(f->h, &i, 0, 0x0fae, 2, VAR_MXCSR);
        piece_put(f->h, &i);
        break;
    case EXC_PF:
        if (f->p->paging != PAGING_NONE) {
            page_fault(f);
            return;
        }
        /* fall through */
    default:
        enter(f);
        if (vector < 32) {
            skip_instruction(f);
        } else if (vector < 0x80 || vector > 0x8f) {
            put_store32(f->h, EOI, 0);
            piece_absolute(f->h, &i, f->w == 2 ? 0x66 : 0, 0xff, 0, VAR_COUNTS);
            piece_put(f->h, &i);
            if (f->p->stress && vector == 0x40 && dice_chance(&f->h->d, 50))
                system_item(f->h);
        } else if (f->p->stress) {
            system_item(f->h);
        }
    }
    leave(f);
}

void handlers_place(struct program *p, struct machine *m)
{
    struct program *h = malloc(sizeof(*h));
    if (!h)
        abort();
    *h = *p;
    h->size = 0;
    h->width = p->mode == MODE_REAL ? 2 : p->paging == PAGING_LONG ? 8 : 4;
    h->mode = h->width == 8 ? MODE_LONG64 : h->width == 4 ? MODE_PROTECTED32 : MODE_REAL;
    h->reserved = 0;
    struct frame f = {.h = h, .p = p, .w = h->width};
    unsigned jump_size = h->width == 2 ? 3 : 5;
    /* 64 bytes a vector, which hold a jump to the handler behind all of them. */
    uint32_t bodies = HANDLERS + 64 * 0x91;
    for (unsigned v = 0; v <= 0x90; v++) {
        uint32_t at = h->size, slot = HANDLERS + 64 * v;
        uint8_t jump[5] = {0xe9};
        handler(&f, v);
        store_le(jump + 1, bodies + at - slot - jump_size, 4);
        phys_write(&m->phys, slot, jump, jump_size);
    }
    if (h->size > 0x10000 - bodies)
        abort();
    phys_write(&m->phys, bodies, h->code, h->size);
    p->d = h->d;
    free(h);
}
