/*
 * tests/isa/cases.c -- encodings with registers chosen, and states: random and edge values, addresses that
 * hit, cross, miss, and may not be written.
 */
#include <string.h>
#include "isa.h"

/* -- Random numbers ------------------------------------------------------------------------------------ */

uint64_t rng_next(struct rng *r) /* splitmix64 */
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

struct rng rng_for(uint64_t seed, const char *name, uint64_t a, uint64_t b)
{
    uint64_t h = 0xcbf29ce484222325ull ^ seed;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
    struct rng r = {h};
    r.s = rng_next(&r) ^ a * 0xd6e8feb86659fd93ull;
    r.s = rng_next(&r) ^ b * 0xa0761d6478bd642full;
    return r;
}

/* -- Encoding ------------------------------------------------------------------------------------------ */

#define KEY_64 ((uint32_t)(KEY_L | KEY_PE | KEY_PG | KEY_OSFXSR))
#define KEY_32 ((uint32_t)(KEY_D | KEY_SS_B | KEY_FLAT | KEY_PE | KEY_PG | KEY_OSFXSR))

struct encoder {
    uint8_t b[24];
    unsigned n;
};

static void put(struct encoder *e, uint64_t v, unsigned n)
{
    store_le(e->b + e->n, v, n);
    e->n += n;
}

/* A displacement with which an address without a base lies in the data pages. */
static uint32_t disp_in_data(struct rng *r)
{
    return (uint32_t)DATA_BASE + rng_below(r, DATA_SIZE - 64);
}

/* ModRM.mod 0..2, SIB and displacement. `rest` bytes of immediate follow (for RIP-relative operands). */
static void put_memory(struct encoder *e, const struct form *f, struct rng *r, unsigned reg, unsigned base,
                       unsigned index, unsigned rest, uint64_t at)
{
    unsigned shape = rng_below(r, 8), scale = rng_below(r, 4);
    unsigned top = reg << 3;
    base &= 7;
    index &= 7;
    if (shape == 7 && f->mode == 64 && !f->vsib && rng_chance(r, 60)) { /* RIP-relative */
        put(e, top | 5, 1);
        put(e, (uint32_t)(disp_in_data(r) - (uint32_t)(at + e->n + 4 + rest)), 4);
    } else if (shape == 7) { /* absolute */
        put(e, top | 4, 1);
        put(e, 0x25, 1);
        put(e, disp_in_data(r), 4);
    } else if (shape == 6) { /* index without base */
        put(e, top | 4, 1);
        put(e, scale << 6 | (index == 4 ? 0 : index) << 3 | 5, 1);
        put(e, disp_in_data(r) - 256, 4);
    } else if (shape >= 3 || base == 4 || f->vsib) { /* SIB */
        unsigned mod = base == 5 ? 1 + rng_below(r, 2) : rng_below(r, 3);
        put(e, mod << 6 | top | 4, 1);
        put(e, scale << 6 | index << 3 | base, 1);
        if (mod)
            put(e, mod == 1 ? rng_next(r) & 0xff : (uint32_t)rng_next(r), mod == 1 ? 1 : 4);
    } else {
        unsigned mod = base == 5 ? 1 + rng_below(r, 2) : rng_below(r, 3);
        put(e, mod << 6 | top | base, 1);
        if (mod)
            put(e, mod == 1 ? rng_next(r) & 0xff : (uint32_t)rng_next(r), mod == 1 ? 1 : 4);
    }
}

static uint64_t value_imm(struct rng *r, unsigned bits)
{
    static const uint8_t edges[] = {0, 1, 2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255};
    uint64_t v = rng_chance(r, 40) ? edges[rng_below(r, sizeof(edges))] : rng_next(r);
    if (bits > 8 && rng_chance(r, 25))
        v = 1ull << (bits - 1) | (rng_next(r) & 1);
    return v & size_mask(bits / 8);
}

/* Length of immediates and of an opcode's own displacement (MOV AL, moffs), from a trial decode. */
struct tail {
    unsigned disp, imm[2];
    bool relative;
};

static bool tail_of(const struct form *f, struct encoder e, struct tail *t)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    memset(e.b + e.n, 0x11, sizeof(e.b) - e.n);
    if (!insn_decode(f->mode == 64 ? KEY_64 : KEY_32, e.b, 15, &zi, op))
        return false;
    t->disp = f->modrm ? 0 : zi.raw.disp.size;
    for (unsigned i = 0; i < 2; i++)
        t->imm[i] = zi.raw.imm[i].size;
    t->relative = zi.raw.imm[0].is_relative;
    return true;
}

static uint64_t relative_target(struct rng *r, uint64_t next, unsigned bits)
{
    if (bits == 8)
        return rng_below(r, 2) ? 1 + rng_below(r, 100) : (uint64_t) - (int64_t)(20 + rng_below(r, 80));
    uint64_t target = CODE_BASE + 0x1000 + 16 + rng_below(r, 0x1000 - 64);
    if (rng_chance(r, 10))
        target = DATA_BASE + rng_below(r, DATA_SIZE);
    return target - next;
}

static void prefixes(struct encoder *e, const struct form *f, struct rng *r)
{
    bool segment = f->mem && f->mode == 64 && rng_chance(r, 8);
    if (segment && f->p67)
        put(e, 0x65, 1);
    else if (segment)
        put(e, 0x64 + rng_below(r, 2), 1);
    if (f->lock)
        put(e, 0xf0, 1);
    if (f->p67)
        put(e, 0x67, 1);
    if (f->p66)
        put(e, 0x66, 1);
    if (f->rep)
        put(e, f->rep, 1);
}

bool insn_decode_at(struct insn *in)
{
    return insn_decode(in->key, in->bytes, 15, &in->zi, in->op) && in->zi.length == in->length;
}

bool insn_encode(const struct form *f, struct rng *r, struct insn *in)
{
    struct encoder e = {.n = 0};
    unsigned reg = rng_below(r, 16), rm = rng_below(r, 16), index = rng_below(r, 16), vvvv = rng_below(r, 16);
    bool rex = f->rex_w || (!f->vex && rng_chance(r, 60));
    memset(in, 0, sizeof(*in));
    in->key = f->mode == 64 ? KEY_64 : KEY_32;
    in->at = CODE_BASE + 0x1000 - 128 + (rng_chance(r, 90) ? 0 : 121 + rng_below(r, 7));
    if (f->high) {
        rex = false;
        reg = 4 + rng_below(r, 4);
        rm = f->mem || rng_chance(r, 50) ? rng_below(r, 8) : 4 + rng_below(r, 4);
        if (!f->mem && rng_chance(r, 30))
            reg = rng_below(r, 8);
    }
    if (f->mode == 32 || (!rex && !f->vex)) {
        rex = false;
        reg &= 7;
        rm &= 7;
        index &= 7;
    }
    if (f->reg >= 0)
        reg = (unsigned)f->reg;
    if (f->rm >= 0)
        rm = (unsigned)f->rm;

    prefixes(&e, f, r);
    unsigned bits = (reg >> 3) << 2 | (f->mem ? (index >> 3) << 1 : 0) | rm >> 3;
    if (f->vex) {
        put(&e, 0xc4, 1);
        put(&e, (~bits & 7) << 5 | f->map, 1);
        unsigned w = f->vex_w ^ (f->wig && rng_chance(r, 30)), l = f->vex_l ^ (f->lig && rng_chance(r, 30));
        put(&e, w << 7 | (f->vvvv ? ~vvvv & 15 : 15) << 3 | l << 2 | f->vex_pp, 1);
    } else {
        if (rex)
            put(&e, 0x40 | (unsigned)f->rex_w << 3 | bits, 1);
        if (f->map != MAP_ONE)
            put(&e, 0x0f, 1);
        if (f->map > MAP_0F)
            put(&e, f->map == MAP_0F38 ? 0x38 : 0x3a, 1);
    }
    put(&e, f->opcode | (f->opcode_reg ? rm & 7 : 0), 1);

    struct tail t;
    if (f->modrm) {
        struct encoder probe = e;
        put(&probe, (f->mem ? (f->vsib ? 0x04u : 0x01u) : 0xc0u | (rm & 7)) | (reg & 7) << 3, 1);
        if (!tail_of(f, probe, &t))
            return false;
        if (f->mem)
            put_memory(&e, f, r, reg & 7, rm, index, (t.imm[0] + t.imm[1]) / 8, in->at);
        else
            put(&e, 0xc0 | (reg & 7) << 3 | (rm & 7), 1);
    } else {
        if (!tail_of(f, e, &t))
            return false;
        if (t.disp)
            put(&e, disp_in_data(r), t.disp / 8);
    }
    if (t.imm[0] && t.relative)
        put(&e, relative_target(r, in->at + e.n + t.imm[0] / 8, t.imm[0]), t.imm[0] / 8);
    else if (t.imm[0])
        put(&e, value_imm(r, t.imm[0]), t.imm[0] / 8);
    if (t.imm[1])
        put(&e, value_imm(r, t.imm[1]), t.imm[1] / 8);
    if (e.n > 15)
        return false;
    memcpy(in->bytes, e.b, e.n);
    in->length = e.n;
    if (!insn_decode_at(in) || in->zi.mnemonic != f->mnemonic)
        return false;
    if (f->high) {
        bool high = false;
        for (unsigned i = 0; i < in->zi.operand_count_visible; i++)
            high |= in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                    in->op[i].reg.value >= ZYDIS_REGISTER_AH && in->op[i].reg.value <= ZYDIS_REGISTER_BH;
        if (!high)
            return false;
    }
    /* ENTER with many bytes leaves the stack: often enough. */
    return f->mnemonic != ZYDIS_MNEMONIC_ENTER || in->op[0].imm.value.u < 0x1000 || rng_chance(r, 10);
}

/* -- State --------------------------------------------------------------------------------------------- */

void state_background(struct rng *r, struct isa_state *s)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = value_gpr(r);
    s->rflags = (rng_next(r) & FLAGS_ARITH) | FLAG_IF | FLAG_1;
    if (rng_chance(r, 12))
        s->rflags |= FLAG_DF;
    for (unsigned i = 0; i < 16; i++) {
        store_le(s->xmm[i], rng_next(r), 8);
        store_le(s->xmm[i] + 8, rng_next(r), 8);
        store_le(s->ymm_high[i], rng_next(r), 8);
        store_le(s->ymm_high[i] + 8, rng_next(r), 8);
    }
    s->mxcsr = 0x1f80 | rng_below(r, 4) << 13;
    if (rng_chance(r, 25))
        s->mxcsr |= 1 << 15;
    if (rng_chance(r, 25))
        s->mxcsr |= 1 << 6;
    if (rng_chance(r, 15))
        s->mxcsr = (s->mxcsr & ~0x1f80u) | (rng_next(r) & 0x1f80);
    if (rng_chance(r, 30))
        s->mxcsr |= rng_next(r) & 0x3f;
    static const uint8_t precision[] = {3, 3, 3, 2, 0};
    s->fcw = (uint16_t)(0x40 | 0x3f | precision[rng_below(r, 5)] << 8 | rng_below(r, 4) << 10);
    if (rng_chance(r, 15))
        s->fcw = (uint16_t)((s->fcw & ~0x3f) | (rng_next(r) & 0x3f));
    unsigned top = rng_below(r, 8), depth = rng_below(r, 9);
    if (rng_chance(r, 50))
        depth = 2 + rng_below(r, 5);
    s->fsw = (uint16_t)(top << 11 | (rng_next(r) & 0x4700));
    if (rng_chance(r, 20))
        s->fsw |= rng_next(r) & 0x7f;
    if ((s->fsw & ~s->fcw & 0x3f) && rng_chance(r, 70))
        s->fsw &= (uint16_t)~0x3f; /* an exception pending: not too often */
    if (s->fsw & ~s->fcw & 0x3f)
        s->fsw |= 0x8080;
    for (unsigned i = 0; i < depth; i++)
        s->ftw |= (uint8_t)(1u << ((top + i) & 7));
    if (rng_chance(r, 8))
        s->ftw = (uint8_t)rng_next(r);
    for (unsigned i = 0; i < 8; i++)
        value_f80(r, s->st[i]);
    s->vector = VECTOR_NONE;
}

static int gpr_number(ZydisRegister reg)
{
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15 ? (int)(full - ZYDIS_REGISTER_RAX) : -1;
}

/* An address for n bytes, by the kinds of DESIGN: inside, across pages, into nothing, read-only,
 * non-canonical. */
static uint64_t target_address(struct rng *r, unsigned n, bool wide)
{
    unsigned k = rng_below(r, 100);
    if (n == 0)
        n = 1;
    if (k < 78) {
        uint64_t a = DATA_BASE + 64 + rng_below(r, DATA_SIZE - 1024);
        return rng_chance(r, n >= 16 ? 85 : 50) ? ALIGN_DOWN(a, n > 64 ? 64 : n & -n ? n & -n : 1) : a;
    }
    if (k < 86) /* across two pages */
        return DATA_BASE + 0x1000 - 1 - rng_below(r, n > 1 ? n - 1 : 1);
    if (k < 90) /* across the end */
        return DATA_BASE + DATA_SIZE - 1 - rng_below(r, n > 1 ? n - 1 : 1) + (n == 1 && rng_below(r, 2));
    if (k < 92)
        return ALIGN_DOWN(DATA_BASE + DATA_SIZE + rng_below(r, 0x1000), 16);
    if (k < 96)
        return RO_BASE + ALIGN_DOWN(rng_below(r, RO_SIZE - 512), 16);
    if (k < 97)
        return DATA_BASE - 1 - rng_below(r, 16);
    if (wide)
        return 0x0000800000000000ull + (rng_next(r) & 0x7fffffffffffffffull) % 0xfffe800000000000ull;
    return DATA_BASE + 128 + rng_below(r, DATA_SIZE - 1024);
}

static uint64_t jump_target(struct rng *r)
{
    unsigned k = rng_below(r, 100);
    if (k < 85)
        return CODE_BASE + 0x1000 + 64 + rng_below(r, 0x1000 - 128);
    if (k < 90)
        return DATA_BASE + rng_below(r, DATA_SIZE);
    if (k < 95)
        return DATA_BASE + DATA_SIZE + 0x2000 - 0x1000;
    return 0x0000800000000000ull + (rng_next(r) & 0xffffffffffffull);
}

static uint64_t segment_base(const struct insn *in)
{
    if (in->zi.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
        return native_fs_base();
    if (in->zi.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        return GS_BASE;
    return 0;
}

/* Sets base and index so that the operand's linear address becomes `target`; returns what it really is. */
static uint64_t aim(const struct insn *in, const ZydisDecodedOperand *o, struct rng *r, struct isa_state *s,
                    uint64_t target)
{
    bool wide = in->zi.address_width == 64;
    uint64_t mask = wide ? ~0ull : 0xffffffffull, base_of_segment = segment_base(in);
    uint64_t ea = target - base_of_segment,
             disp = o->mem.disp.has_displacement ? (uint64_t)o->mem.disp.value : 0;
    int base = gpr_number(o->mem.base), index = gpr_number(o->mem.index);
    uint64_t scale = o->mem.scale;
    uint64_t junk = !wide && in->zi.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && rng_chance(r, 50)
                        ? rng_next(r) & ~0xffffffffull
                        : 0;
    if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP)
        return in->at + in->length + disp + base_of_segment;
    if (index >= 0 && index == base) {
        s->r[base] = ((ea - disp) & mask) / (1 + scale);
        ea = s->r[base] * (1 + scale) + disp;
    } else if (base >= 0) {
        if (index >= 0 && rng_chance(r, 50))
            s->r[index] = rng_below(r, 1024);
        s->r[base] = ((ea - disp - (index >= 0 ? s->r[index] * scale : 0)) & mask) | junk;
    } else if (index >= 0) {
        s->r[index] = ((target - base_of_segment - disp) & mask) / scale;
        ea = s->r[index] * scale + disp;
    } else {
        ea = disp;
    }
    return (ea & mask) + base_of_segment;
}

static bool is_stack_operand(const ZydisDecodedOperand *o)
{
    return o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
           (gpr_number(o->mem.base) == REG_RSP || gpr_number(o->mem.base) == REG_RBP);
}

static void aim_stack(struct rng *r, struct isa_state *s, const struct form *f)
{
    uint64_t sp = STACK_BASE + 0x800 + ALIGN_DOWN(rng_below(r, 0xc00), 8);
    unsigned k = rng_below(r, 100);
    if (k < 15)
        sp += rng_below(r, 8);
    else if (k < 20)
        sp = STACK_BASE + 0x1000 + rng_below(r, 16) - 8;
    else if (k < 23)
        sp = STACK_BASE + rng_below(r, 16);
    else if (k < 26)
        sp = STACK_BASE + STACK_SIZE - rng_below(r, 16);
    else if (k < 28)
        sp = STACK_BASE + STACK_SIZE + 0x1000 + rng_below(r, 64);
    else if (k < 30 && f->mode == 64)
        sp = 0x0000800000000000ull - 16 + rng_below(r, 24);
    s->r[REG_RSP] = sp;
    if (f->mnemonic == ZYDIS_MNEMONIC_LEAVE || f->mnemonic == ZYDIS_MNEMONIC_ENTER) {
        s->r[REG_RBP] = STACK_BASE + 0x800 + rng_below(r, 0xc00);
        if (rng_chance(r, 10))
            s->r[REG_RBP] = sp;
        if (rng_chance(r, 5))
            s->r[REG_RBP] = rng_next(r);
    }
}

static void dress_division(const struct form *f, const struct insn *in, struct rng *r, struct isa_state *s)
{
    (void)f;
    unsigned bits = in->op[0].size;
    if (rng_chance(r, 60)) {
        s->r[REG_RDX] = rng_chance(r, 50) ? rng_below(r, 100) : 0;
        if (bits == 8)
            s->r[REG_RAX] = (s->r[REG_RAX] & ~0xffffull) | (rng_next(r) & 0x3ff);
    } else if (rng_chance(r, 60)) { /* sign-extended dividend */
        int64_t a = (int64_t)(s->r[REG_RAX] << (64 - bits)) >> (64 - bits);
        s->r[REG_RDX] = (uint64_t)(a >> 63);
        if (bits == 8)
            s->r[REG_RAX] = (uint64_t)a;
    }
}

static void dress(const struct form *f, const struct insn *in, struct rng *r, struct isa_state *s)
{
    switch (f->mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        dress_division(f, in, r, s);
        break;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        s->r[REG_RCX] = rng_below(r, 3) | (rng_chance(r, 30) ? rng_next(r) << 32 : 0);
        break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        if (f->mem && f->reg < 0 && rng_chance(r, 85)) {
            int n = gpr_number(in->op[1].reg.value);
            int64_t offset = (int64_t)rng_below(r, 2000) - 1000;
            if (n >= 0)
                s->r[n] = (uint64_t)offset;
        }
        break;
    case ZYDIS_MNEMONIC_BEXTR:
        if (rng_chance(r, 60))
            s->r[gpr_number(in->op[2].reg.value)] = rng_below(r, 70) | rng_below(r, 70) << 8;
        break;
    case ZYDIS_MNEMONIC_BZHI:
        if (rng_chance(r, 60))
            s->r[gpr_number(in->op[2].reg.value)] = rng_below(r, 70);
        break;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
        break;
    case ZYDIS_MNEMONIC_BOUND:
        s->r[gpr_number(in->op[0].reg.value)] = rng_below(r, 400);
        break;
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
        if (rng_chance(r, 80)) {
            s->r[REG_RAX] = (uint64_t)((int64_t)rng_below(r, 40) - 20);
            s->r[REG_RDX] = (uint64_t)((int64_t)rng_below(r, 40) - 20);
        }
        break;
    default:
        break;
    }
    if (f->rep &&
        (in->zi.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)))
        s->r[REG_RCX] = rng_below(r, 20) | (in->zi.address_width == 32 ? rng_next(r) << 32 : 0);
}

/* Text with many equal and zero elements, for the string comparisons of SSE4.2. */
static void dress_text(struct rng *r, uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        b[i] = (uint8_t)(rng_chance(r, 8) ? 0 : 'a' + rng_below(r, 4));
    if (rng_chance(r, 50))
        for (unsigned i = 1; i < n; i += 2)
            b[i] = 0;
}

static void fill_memory(const struct insn *in, const ZydisDecodedOperand *o, struct rng *r, uint64_t at,
                        bool text)
{
    uint8_t b[640];
    unsigned n = o->size / 8 ? o->size / 8 : 16;
    n = MIN(n, (unsigned)sizeof(b));
    bool string = in->zi.meta.category == ZYDIS_CATEGORY_STRINGOP;
    if (string)
        n = 256;
    fill_values(r, b, n, o->element_type, o->element_size);
    if (text)
        dress_text(r, b, n);
    if (string && rng_chance(r, 60))
        memset(b, (int)rng_below(r, 3), n);
    for (unsigned i = 0; i < n; i++)
        memory_write(at + i, b + i, 1);
    if (string)
        for (unsigned i = 1; i <= n; i++)
            memory_write(at - i, b + i - 1, 1);
}

static void fill_ymm(struct rng *r, struct isa_state *s, unsigned n, const ZydisDecodedOperand *o)
{
    fill_values(r, s->xmm[n], 16, o->element_type, o->element_size);
    fill_values(r, s->ymm_high[n], 16, o->element_type, o->element_size);
}

/* Indices of a gather: most lead to bytes near the base. */
static void dress_index(const struct insn *in, const ZydisDecodedOperand *o, struct rng *r,
                        struct isa_state *s)
{
    bool ymm = o->mem.index >= ZYDIS_REGISTER_YMM0;
    unsigned n = (unsigned)(o->mem.index - (ymm ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0));
    bool wide = strstr(ZydisMnemonicGetString(in->zi.mnemonic), "gatherq") != NULL;
    for (unsigned i = 0; i < 32; i += wide ? 8 : 4) {
        uint8_t *p = i < 16 ? s->xmm[n] + i : s->ymm_high[n] + i - 16;
        int64_t v = (int64_t)rng_below(r, 128) - 32;
        if (rng_chance(r, 6))
            v = rng_chance(r, 50) ? (int64_t)rng_next(r) : (int64_t)rng_below(r, 0x2000) - 0x1000;
        store_le(p, (uint64_t)v, wide ? 8 : 4);
    }
}

void state_random(const struct form *f, const struct insn *in, struct rng *r, struct isa_state *s)
{
    bool text = in->zi.mnemonic == ZYDIS_MNEMONIC_PCMPISTRI || in->zi.mnemonic == ZYDIS_MNEMONIC_PCMPISTRM ||
                in->zi.mnemonic == ZYDIS_MNEMONIC_PCMPESTRI || in->zi.mnemonic == ZYDIS_MNEMONIC_PCMPESTRM;
    state_background(r, s);
    s->rip = in->at;
    if (rng_chance(r, 3))
        s->rflags |= FLAG_AC; /* alignment is checked: CR0.AM is set on both sides */
    bool stack = false;
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->op[i];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
            if (c == ZYDIS_REGCLASS_XMM) {
                uint8_t *x = s->xmm[o->reg.value - ZYDIS_REGISTER_XMM0];
                fill_values(r, x, 16, o->element_type, o->element_size);
                if (text)
                    dress_text(r, x, 16);
            } else if (c == ZYDIS_REGCLASS_YMM) {
                fill_ymm(r, s, (unsigned)(o->reg.value - ZYDIS_REGISTER_YMM0), o);
            } else if (c == ZYDIS_REGCLASS_MMX) {
                unsigned top = s->fsw >> 11 & 7;
                unsigned n = (unsigned)(o->reg.value - ZYDIS_REGISTER_MM0);
                fill_values(r, s->st[(n - top) & 7], 8, o->element_type, o->element_size);
            }
        } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            stack |= is_stack_operand(o);
        }
    }
    if (f->mnemonic == ZYDIS_MNEMONIC_INT3)
        s->vector = EXC_BP;
    dress(f, in, r, s);
    if (stack || rng_chance(r, 50))
        aim_stack(r, s, f);

    bool indirect = (f->mnemonic == ZYDIS_MNEMONIC_JMP || f->mnemonic == ZYDIS_MNEMONIC_CALL) && f->modrm;
    if (indirect && !f->mem)
        s->r[gpr_number(in->op[0].reg.value)] = jump_target(r);
    if (f->mnemonic == ZYDIS_MNEMONIC_RET) {
        uint64_t target = jump_target(r);
        memory_write(s->r[REG_RSP], &target, f->mode == 64 ? 8 : 4);
    }
    if (f->mnemonic == ZYDIS_MNEMONIC_POPF || f->mnemonic == ZYDIS_MNEMONIC_POPFD ||
        f->mnemonic == ZYDIS_MNEMONIC_POPFQ) {
        /* TF, AC, NT and ID would reach into the test itself; IF and IOPL stay as they are. */
        uint64_t flags = rng_next(r) & (FLAGS_ARITH | FLAG_DF | FLAG_IF | FLAG_IOPL);
        memory_write(s->r[REG_RSP], &flags, 8);
    }
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->op[i];
        if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || is_stack_operand(o))
            continue;
        unsigned n = o->size / 8;
        bool wide = in->zi.address_width == 64 && f->mode == 64;
        uint64_t at = target_address(r, n, wide);
        if (in->zi.mnemonic == ZYDIS_MNEMONIC_XLAT) {
            s->r[REG_RBX] = at - (s->r[REG_RAX] & 0xff);
        } else {
            at = aim(in, o, r, s, at);
        }
        fill_memory(in, o, r, at, text);
        if (f->vsib)
            dress_index(in, o, r, s);
        if (indirect) {
            uint64_t target = jump_target(r);
            memory_write(at, &target, f->mode == 64 ? 8 : 4);
        }
        /* An equal comparison half of the time. */
        if (f->mnemonic == ZYDIS_MNEMONIC_CMPXCHG && rng_chance(r, 50))
            memory_write(at, &s->r[REG_RAX], n);
        if ((f->mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B || f->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B) &&
            rng_chance(r, 50)) {
            memory_write(at, &s->r[REG_RAX], n / 2);
            memory_write(at + n / 2, &s->r[REG_RDX], n / 2);
        }
    }
    if (f->mnemonic == ZYDIS_MNEMONIC_CMPXCHG && !f->mem && rng_chance(r, 50)) {
        int d = gpr_number(in->op[0].reg.value);
        if (d >= 0)
            s->r[d] = s->r[REG_RAX] ^ (rng_chance(r, 30) ? rng_next(r) << 32 : 0);
    }
    if (f->mode == 32) {
        for (unsigned i = 0; i < 8; i++)
            s->r[i] = (uint32_t)s->r[i];
        for (unsigned i = 8; i < 16; i++)
            s->r[i] = 0;
    }
}
