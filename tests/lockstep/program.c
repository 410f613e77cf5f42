/*
 * tests/lockstep/program.c -- random programs: functions of straight code, jumps, loops, calls, strings,
 * faults.
 *
 * Functions call only functions made before them, so that calls end. The main loop calls them in turn by a
 * table and begins with a fresh stack pointer, so that whatever went wrong is over soon.
 */
#include "tests/lockstep/lockstep.h"

#include <string.h>

const char *const kinds[] = {"long64",   "compat",        "protected32", "protected16", "real",
                             "stress64", "stress-compat", "stress32",    "stress16",    "stress-real",
                             "l2-64",    "l2-compat",     "l2-32",       "l2-16",       "l2-real",
                             "x87-64",   "x87-compat",    "x87-32",      NULL};

/* -- Jumps --------------------------------------------------------------------------------------------- */

/* Jcc, JMP or CALL with a 32-bit (16-bit) displacement that is filled in later; returns its offset. */
static uint32_t jump_open(struct program *p, unsigned opcode)
{
    struct piece i = {.n = 0};
    if (opcode > 0xff)
        piece_byte(&i, opcode >> 8);
    piece_byte(&i, opcode & 0xff);
    piece_number(&i, 0, p->width == 2 ? 2 : 4);
    return piece_put(p, &i);
}

static void jump_close(struct program *p, uint32_t at, uint32_t to)
{
    unsigned n = p->width == 2 ? 2 : 4;
    if (p->lengths[at] > n)
        store_le(p->code + at + p->lengths[at] - n, to - at - p->lengths[at], n);
}

static void compare(struct program *p)
{
    static const uint8_t opcodes[] = {0x38, 0x39, 0x3a, 0x3b, 0x84, 0x85};
    if (dice_chance(&p->d, 50))
        put_bytes(p, 2, opcodes[dice_below(&p->d, 6)] | (0xc0 | dice_below(&p->d, 64)) << 8);
}

static void some_items(struct program *p, unsigned most)
{
    p->depth++;
    for (uint64_t n = 1 + dice_below(&p->d, most); n; n--)
        random_item(p);
    p->depth--;
}

static void forward_jump(struct program *p)
{
    compare(p);
    unsigned cc = (unsigned)dice_below(&p->d, 16);
    if (dice_chance(&p->d, 50)) { /* short, with a target that is near enough */
        uint32_t at = p->size;
        put_bytes(p, 2, 0x70 | cc);
        for (uint64_t n = 1 + dice_below(&p->d, 5); n; n--)
            random_instruction(p);
        if (p->size - at - 2 < 128 && p->lengths[at] == 2)
            p->code[at + 1] = (uint8_t)(p->size - at - 2);
        return;
    }
    uint32_t at = jump_open(p, 0x0f80 | cc);
    some_items(p, 5);
    if (dice_chance(&p->d, 40)) { /* with an other way */
        uint32_t over = jump_open(p, 0xe9);
        jump_close(p, at, p->size);
        some_items(p, 5);
        jump_close(p, over, p->size);
    } else {
        jump_close(p, at, p->size);
    }
}

static void register_loop(struct program *p)
{
    if (__builtin_popcount(p->reserved) >= (p->width == 8 ? 3 : 1))
        return; /* some registers must stay free */
    unsigned n = free_register(p);
    put_load(p, n, 1 + dice_below(&p->d, p->depth ? 2 : dice_chance(&p->d, 20) ? 20 : 4));
    uint32_t top = p->size, was = p->reserved;
    p->reserved |= 1u << n;
    some_items(p, 6);
    p->reserved = was;
    struct piece i = {.n = 0};
    if (n > 7)
        piece_byte(&i, 0x41);
    piece_byte(&i, 0xff); /* dec, or sub 1 */
    piece_byte(&i, 0xc8 | (n & 7));
    piece_put(p, &i);
    jump_close(p, jump_open(p, 0x0f85), top);
}

static void memory_loop(struct program *p)
{
    uint32_t variable = VAR_LOOPS + 4 * (p->loops++ % 64);
    struct piece i = {.n = 0}, down = {.n = 0};
    piece_absolute(p, &i, 0, 0xc7, 0, variable);
    piece_number(&i,
                 1 + dice_below(&p->d, p->depth                 ? 2
                                       : dice_chance(&p->d, 20) ? 20
                                                                : 4),
                 p->width == 2 ? 2 : 4);
    piece_put(p, &i);
    uint32_t top = p->size;
    some_items(p, 6);
    piece_absolute(p, &down, 0, 0xff, 1, variable);
    piece_put(p, &down);
    jump_close(p, jump_open(p, 0x0f8f), top); /* jg: a stray store cannot make it endless */
}

static void load_code_address(struct program *p, unsigned reg, uint32_t *at)
{
    *at = p->size;
    put_load(p, reg, p->width == 8 ? 0x7fffffff : 0x7fff);
}

static void set_code_address(struct program *p, uint32_t at, uint32_t to)
{
    unsigned n = p->width == 2 ? 2 : 4;
    if (p->lengths[at] > n)
        store_le(p->code + at + p->lengths[at] - n, code_address(p, to), n);
}

static void indirect_jump(struct program *p)
{
    unsigned reg = free_register(p);
    uint32_t at;
    if (reg > 7)
        reg &= 3; /* RAX to RBX: encodings without REX; they may be reserved only by a loop */
    if ((p->reserved | pointer_registers[p->mode]) >> reg & 1)
        return;
    load_code_address(p, reg, &at);
    if (dice_chance(&p->d, 50))
        random_instruction(p); /* may spoil it: a wild jump is caught */
    put_bytes(p, 2, 0xff | (0xe0 | reg) << 8);
    for (uint64_t n = dice_below(&p->d, 3); n; n--)
        random_instruction(p);
    set_code_address(p, at, p->size);
}

/* Four targets, chosen by what a register happens to hold. */
static void jump_table(struct program *p)
{
    unsigned table = p->target_count;
    uint32_t ends[4];
    if (table + 4 > TARGETS_MAX || p->width == 2 || (p->reserved & 2))
        return;
    p->target_count += 4;
    put_bytes(p, 3, 0x03e183); /* and ecx, 3 */
    struct piece i = {.n = 0};
    piece_number(&i, p->width == 8 ? 0xcd24ff : 0x8d24ff, 3); /* jmp [table + ecx * width] */
    piece_number(&i, VAR_TARGETS + table * p->width, 4);
    piece_put(p, &i);
    for (unsigned k = 0; k < 4; k++) {
        p->targets[table + k] = p->size;
        random_instruction(p);
        ends[k] = jump_open(p, 0xe9);
    }
    for (unsigned k = 0; k < 4; k++)
        jump_close(p, ends[k], p->size);
}

static void call_function(struct program *p)
{
    /* Those that are there already, but not all the way down: calls of calls would take all the time. */
    if (p->depth > 1 || p->function % 4 == 0)
        return;
    unsigned n = p->function - 1 - (unsigned)dice_below(&p->d, p->function % 4);
    unsigned way = (unsigned)dice_below(&p->d, 4);
    if (way < 2) {
        uint32_t at = jump_open(p, 0xe8);
        jump_close(p, at, p->functions[n]);
    } else if (way == 2 && p->width == 2) {
        put_bytes(p, 4, 0x16ff | (uint64_t)(VAR_TARGETS - DATA + n * 2) << 16); /* call [table] */
    } else if (way == 2) {
        struct piece i = {.n = 0};
        piece_absolute(p, &i, 0, 0xff, 2, VAR_TARGETS + n * p->width);
        piece_put(p, &i);
    } else if (!(p->reserved & 1)) {
        uint32_t at;
        load_code_address(p, 0, &at);
        set_code_address(p, at, p->functions[n]);
        put_bytes(p, 2, 0xd0ff); /* call eax */
    }
}

/* -- Stack, strings, time, faults ---------------------------------------------------------------------- */

static void stack_pair(struct program *p)
{
    unsigned from = (unsigned)dice_below(&p->d, 8), to = free_register(p) & 7;
    if ((pointer_registers[p->mode] | p->reserved | 0x10u) >> to & 1)
        to = 0;
    if (p->reserved & 1)
        return;
    switch (dice_below(&p->d, 6)) {
    case 0: /* pushf, popf with the flags that arithmetic makes */
        put_bytes(p, 1, 0x9c);
        random_instruction(p);
        put_bytes(p, 1, 0x9d);
        break;
    case 1:
        put_bytes(p, 5, 0x68 | dice_odd(&p->d) << 8);
        if (p->width == 2)
            p->size -= 2, p->lengths[p->size - 3] = 3;
        random_instruction(p);
        put_bytes(p, 1, 0x58 + to);
        break;
    case 2: /* enter and leave */
        if (pointer_registers[p->mode] & 0x20) {
            put_bytes(p, 4, 0xc8 | 0x20 << 8);
            random_instruction(p);
            put_bytes(p, 1, 0xc9);
            random_pointer(p);
        }
        break;
    case 3: /* to memory, and a 16-bit one */
        put_bytes(p, 2, 0x5066);
        random_instruction(p);
        put_bytes(p, 2, 0x5866);
        break;
    default:
        put_bytes(p, 1, 0x50 + from);
        random_instruction(p);
        put_bytes(p, 1, 0x58 + to);
    }
}

static void string_item(struct program *p)
{
    static const uint8_t opcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    struct piece i = {.n = 0};
    unsigned opcode = opcodes[dice_below(&p->d, ARRAY_LEN(opcodes))];
    bool down = dice_chance(&p->d, 15), repeat = dice_chance(&p->d, 80);
    if (p->reserved & 3)
        return;
    uint32_t from = random_data(p), to = random_data(p);
    if (to >= CODE && to < DATA)
        to = from;
    put_load(p, 6, from);
    put_load(p, 7, to);
    if (repeat)
        put_load(p, 1, dice_chance(&p->d, 70) ? dice_below(&p->d, 64) : dice_below(&p->d, 1500));
    if (down)
        put_bytes(p, 1, 0xfd);
    if (repeat)
        piece_byte(&i, 0xf2 | (unsigned)dice_below(&p->d, 2));
    if (p->width == 8 && dice_chance(&p->d, 40))
        piece_byte(&i, 0x48);
    else if (dice_chance(&p->d, 15))
        piece_byte(&i, 0x66);
    if (i.n > 1 && i.b[i.n - 1] == 0x66) { /* the prefix order does not matter, but REX comes last */
        i.b[i.n - 1] = i.b[0];
        i.b[0] = 0x66;
    }
    piece_byte(&i, opcode);
    piece_put(p, &i);
    if (down)
        put_bytes(p, 1, 0xfc);
    put_load(p, 6, p->width == 2 ? 0x100 : DATA + 0x100);
    random_pointer(p);
    put_load(p, 7, p->width == 2 ? 0x3100 : DATA + 0x3100);
}

static void device_item(struct program *p)
{
    static const uint32_t registers[] = {0xfee00020, 0xfee00080, 0xfee00390, 0xfee000f0, 0xfed000f0,
                                         0xfee00100, 0xfec00000, 0xfed00000, 0xfee00200, 0xfee00210};
    struct piece i = {.n = 0};
    uint32_t at = registers[dice_below(&p->d, ARRAY_LEN(registers))];
    /* There is no absolute address of 64 bits with a sign in the way: by a register. */
    if (p->reserved & 3)
        return;
    if (p->width == 8) {
        put_load(p, 1, at);
        if (dice_chance(&p->d, 50) && at == 0xfee00080)
            put_bytes(p, 6, 0x01c7 | dice_below(&p->d, 64) << 16); /* TPR below the timer's class */
        else
            put_bytes(p, 2, dice_chance(&p->d, 70) ? 0x018b : 0x0103); /* mov, add eax, [rcx] */
        return;
    }
    piece_absolute(p, &i, p->width == 2 ? 0x66 : 0, dice_chance(&p->d, 70) ? 0x8b : 0x03, 0, at);
    piece_put(p, &i);
}

static void fault_item(struct program *p)
{
    switch (dice_below(&p->d, 9)) {
    case 0:
        put_bytes(p, 2, 0x0b0f); /* ud2 */
        break;
    case 1:
        put_bytes(p, 1, 0xcc);
        break;
    case 2: /* divide by zero, or an overflow, between a writer of flags and a reader */
        if (!(p->reserved & 7)) {
            compare(p);
            put_bytes(p, 2, 0xf1f7 | (dice_chance(&p->d, 50) ? 0x800 : 0));
            put_bytes(p, 3, 0xc0920f | dice_below(&p->d, 14) << 8); /* setcc al */
        }
        break;
    case 3:
        put_bytes(p, 2, 0x80cd | dice_below(&p->d, 16) << 8); /* int 80H + n */
        break;
    case 4: /* a compare, an access that faults or not, and a jump on the flags */
        compare(p);
        if (p->width != 2 && !(p->reserved & 1)) {
            struct piece i = {.n = 0};
            piece_absolute(p, &i, 0, dice_chance(&p->d, 50) ? 0x8b : 0x89, 0,
                           DATA + PAGE_ABSENT * PAGE_SIZE + (uint32_t)dice_below(&p->d, PAGE_SIZE));
            piece_put(p, &i);
        }
        uint32_t at = jump_open(p, 0x0f80 | (unsigned)dice_below(&p->d, 16));
        random_instruction(p);
        jump_close(p, at, p->size);
        break;
    case 5:
        if (p->width == 8 && !(p->reserved & 1)) {
            put_load(p, 0, 0x0000800000000000ull - dice_below(&p->d, 8));
            put_bytes(p, 3, 0x008b48); /* across the end of what is canonical */
        } else if (p->width != 8) {
            put_bytes(p, 1, 0xce); /* into */
        }
        break;
    case 6:
        if (!p->user)
            put_bytes(p, 1, 0xfb);
        put_bytes(p, 1, 0xf4); /* waits for the timer; #GP in user mode */
        break;
    case 7:
        put_bytes(p, 2, 0x370f); /* no instruction */
        break;
    default: /* the shadow of MOV SS */
        if (!(p->reserved & 1)) {
            put_bytes(p, 2, 0xd08c);
            put_bytes(p, 2, 0xd08e);
        }
        break;
    }
}

/* Adds flags or a register to a variable: a wrong value that is soon overwritten is seen all the same. */
static void witness_item(struct program *p)
{
    unsigned reg = free_register(p) & 7, where = (unsigned)dice_below(&p->d, 16);
    struct piece i = {.n = 0};
    switch (dice_below(&p->d, 5)) {
    case 0:
    case 1:
    case 2:
        if ((pointer_registers[p->mode] | p->reserved | 0x10u) >> reg & 1)
            break;
        put_bytes(p, 1, 0x9c);
        put_bytes(p, 1, 0x58 + reg);
        piece_absolute(p, &i, 0, 0x01, reg, VAR_WITNESS + 8 * where);
        piece_put(p, &i);
        break;
    case 3:
        piece_absolute(p, &i, p->width == 2 ? 0x66 : 0, 0x01, (unsigned)dice_below(&p->d, 8),
                       VAR_WITNESS + 8 * where);
        piece_put(p, &i);
        break;
    default:
        piece_absolute(p, &i, 0, 0x0f11, reg, VAR_WITNESS + 0x100 + 16 * where);
        piece_put(p, &i);
    }
}

/* -- Walking pointers ---------------------------------------------------------------------------------- */

/* Accesses by one pointer register, which moves by constants between them; at last back. */
static void walk_item(struct program *p)
{
    unsigned n;
    int moved = 0;
    do
        n = (unsigned)dice_below(&p->d, p->width == 8 ? 16 : 8);
    while (!(pointer_registers[p->mode] >> n & 1));
    for (uint64_t left = 2 + dice_below(&p->d, 5); left; left--) {
        bool last = left == 1;
        int by = last ? -moved : (int)dice_below(&p->d, 200) - 100;
        struct piece i = {.n = 0};
        if (by < -128 || by > 127)
            by = 0;
        moved += by;
        if (p->width == 8)
            piece_byte(&i, 0x48 | n >> 3);
        piece_byte(&i, 0x83);
        piece_byte(&i, (dice_chance(&p->d, 50) && by != -128 ? 0xe8 : 0xc0) | (n & 7)); /* SUB, ADD */
        piece_byte(&i, (unsigned)(i.b[i.n - 1] & 0x28 ? -by : by) & 0xff);
        piece_put(p, &i);
        if (last)
            break;
        for (uint64_t k = 1 + dice_below(&p->d, 3); k; k--) {
            static const uint8_t opcodes[] = {0x8b, 0x89, 0x03, 0x01, 0x8a, 0x88};
            struct piece access = {.n = 0};
            unsigned reg = free_register(p) & 7;
            if (p->width == 2 || dice_chance(&p->d, 30) ||
                (pointer_registers[p->mode] | p->reserved | 0x10u) >> reg & 1) {
                random_instruction(p);
                continue;
            }
            if (p->width == 8)
                piece_byte(&access, (dice_chance(&p->d, 50) ? 0x48 : 0x40) | n >> 3);
            piece_byte(&access, opcodes[dice_below(&p->d, p->width == 8 ? 6 : 4)]);
            piece_byte(&access, 0x40 | reg << 3 | (n & 7));
            if ((n & 7) == 4)
                piece_byte(&access, 0x24);
            piece_number(&access, dice_roll(&p->d) & 0x7f, 1);
            piece_put(p, &access);
        }
    }
    random_pointer(p);
}

/* -- x87 state ----------------------------------------------------------------------------------------- */

/* A control word with all exceptions masked, mostly; other state is saved and restored around instructions.
 */
static void fpu_item(struct program *p)
{
    struct piece i = {.n = 0};
    uint32_t masks = dice_chance(&p->d, 85) ? 0x3f : (uint32_t)dice_below(&p->d, 0x40);
    switch (dice_below(&p->d, 6)) {
    case 0:
        put_bytes(p, 2, 0xe3db); /* fninit */
        break;
    case 1:
        put_bytes(p, 2, 0xe2db); /* fnclex */
        break;
    case 2:
        piece_absolute(p, &i, 0, 0x0fae, 0, VAR_FXSAVE);
        piece_put(p, &i);
        some_items(p, 4);
        i.n = 0;
        piece_absolute(p, &i, 0, 0x0fae, 1, VAR_FXSAVE);
        piece_put(p, &i);
        break;
    default: /* fnclex; fldcw: else #MF for ever */
        put_bytes(p, 2, 0xe2db);
        put_store32(p, VAR_FCW, masks | (uint32_t)dice_below(&p->d, 16) << 8);
        piece_absolute(p, &i, 0, 0xd9, 5, VAR_FCW);
        piece_put(p, &i);
        break;
    }
}

/* -- The whole ----------------------------------------------------------------------------------------- */

void random_item(struct program *p)
{
    uint64_t r = dice_below(&p->d, 100);
    if (p->size > CODE_LEN - 0x600)
        return;
    if (p->stress && r >= 80 && dice_chance(&p->d, 70)) {
        stress_item(p);
        return;
    }
    if (dice_chance(&p->d, 3)) {
        walk_item(p);
        return;
    }
    if (p->fpu && dice_chance(&p->d, 10)) {
        fpu_item(p);
        return;
    }
    if (r < 68 || p->depth > 3) {
        random_instruction(p);
        if (dice_chance(&p->d, 15))
            witness_item(p);
    } else if (r < 75)
        forward_jump(p);
    else if (r < 78)
        register_loop(p);
    else if (r < 80)
        memory_loop(p);
    else if (r < 82)
        indirect_jump(p);
    else if (r < 84)
        call_function(p);
    else if (r < 85)
        jump_table(p);
    else if (r < 88)
        stack_pair(p);
    else if (r < 91)
        string_item(p);
    else if (r < 96)
        random_pointer(p);
    else if (r < 98)
        device_item(p);
    else
        fault_item(p);
}

static void function(struct program *p, unsigned n)
{
    p->function = n;
    p->functions[n] = p->size;
    for (unsigned i = 0; i < 4; i++)
        random_pointer(p);
    for (uint64_t left = 12 + dice_below(&p->d, 30); left; left--)
        random_item(p);
    put_bytes(p, 1, 0xc3);
}

static void main_loop(struct program *p)
{
    struct piece turn = {.n = 0}, load = {.n = 0};
    p->main = p->size;
    put_load(p, 4, p->width == 2 ? STACK_TOP - DATA : STACK_TOP);
    put_bytes(p, 1, 0xfc);
    piece_absolute(p, &turn, 0, 0xff, 0, VAR_TURN);
    piece_put(p, &turn);
    piece_absolute(p, &load, 0, 0x8b, 3, VAR_TURN);
    piece_put(p, &load);
    put_bytes(p, 3, 0xe383 | (p->function_count - 1) << 16); /* and ebx, count - 1 */
    if (p->width == 2) {
        put_bytes(p, 2, 0xdb01);
        put_bytes(p, 4, 0x97ff | (uint64_t)(VAR_TARGETS - DATA) << 16); /* call [bx + table] */
    } else {
        struct piece i = {.n = 0};
        piece_number(&i, p->width == 8 ? 0xdd14ff : 0x9d14ff, 3);
        piece_number(&i, VAR_TARGETS, 4);
        piece_put(p, &i);
    }
    jump_close(p, jump_open(p, 0xe9), p->main);
}

static void choose(struct program *p, const char *kind)
{
    static const char *const modes[MODES] = {"real", "16", "32", "compat", "64"};
    for (unsigned i = 0; i < MODES; i++)
        if (strstr(kind, modes[i]))
            p->mode = i;
    p->vmx = strstr(kind, "l2") != NULL;
    p->stress = p->vmx || strstr(kind, "stress") != NULL;
    p->fpu = strstr(kind, "x87") != NULL;
    p->flat = p->mode >= MODE_PROTECTED32;
    p->width = p->mode <= MODE_PROTECTED16 ? 2 : p->mode == MODE_LONG64 ? 8 : 4;
    p->user = p->mode >= MODE_COMPATIBILITY && dice_chance(&p->d, 40);
    p->paging = p->mode == MODE_REAL            ? PAGING_NONE
                : p->mode >= MODE_COMPATIBILITY ? PAGING_LONG
                                                : PAGING_32 + dice_below(&p->d, 2);
    p->pcid = p->paging == PAGING_LONG && dice_chance(&p->d, 30);
}

void program_build(struct program *p, uint64_t seed, const char *kind)
{
    uint8_t start[8];
    memset(p, 0, sizeof(*p));
    store_le(start, seed, 8);
    p->d = dice_make(start, 8);
    choose(p, kind);
    p->function_count = 8u << dice_below(&p->d, 2);
    p->target_count = p->function_count;
    for (unsigned n = 0; n < p->function_count; n++)
        function(p, n);
    for (unsigned n = 0; n < p->function_count; n++)
        p->targets[n] = p->functions[n];
    main_loop(p);
}
