/*
 * tests/isa/sequence.c -- random sequences of instructions, run natively and as a block of droste's: dead
 * flags, fused compares, chained blocks.
 *
 * RSI, RDI, R14, R15 point into the data pages and are never written; memory operands use only these. A flag
 * that the SDM leaves undefined is never read and does not count at the end. One forward Jcc may stand in a
 * sequence; its two ways meet before the end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "isa.h"

#define INSNS_MAX 24

static const uint8_t pointers[] = {REG_RSI, REG_RDI, REG_R14, REG_R15};

static bool is_pointer(int reg)
{
    return reg == REG_RSI || reg == REG_RDI || reg == REG_R14 || reg == REG_R15 || reg == REG_RSP;
}

static int gpr_number(ZydisRegister reg)
{
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    return full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15 ? (int)(full - ZYDIS_REGISTER_RAX) : -1;
}

struct sequence {
    uint8_t bytes[INSNS_MAX * 16];
    unsigned n, count;
    uint16_t offsets[INSNS_MAX + 1];
    uint64_t undefined; /* flags that nobody may read now */
    bool x87;           /* an MMX or x87 instruction is in it */
};

/* Integer and SSE instructions whose results do not depend on the host's vendor. */
static bool form_fits(const struct form *f)
{
    static uint8_t *fits;
    unsigned index = (unsigned)(f - forms);
    if (!fits) {
        fits = calloc(form_count, 1);
        for (unsigned i = 0; i < form_count; i++) {
            const struct form *g = &forms[i];
            bool bad = g->mode != 64 || g->p67 || g->rep || (g->row->flags & (I_END | I_CPL0 | I_WAIT));
            switch (g->mnemonic) {
            case ZYDIS_MNEMONIC_DIV:
            case ZYDIS_MNEMONIC_IDIV:
            case ZYDIS_MNEMONIC_BSF:
            case ZYDIS_MNEMONIC_BSR:
            case ZYDIS_MNEMONIC_XLAT:
            case ZYDIS_MNEMONIC_UD0:
            case ZYDIS_MNEMONIC_UD1:
            case ZYDIS_MNEMONIC_UD2:
            case ZYDIS_MNEMONIC_PUSH:
            case ZYDIS_MNEMONIC_POP:
            case ZYDIS_MNEMONIC_ENTER:
            case ZYDIS_MNEMONIC_LEAVE:
            case ZYDIS_MNEMONIC_CMPXCHG16B:
            case ZYDIS_MNEMONIC_STD:
            case ZYDIS_MNEMONIC_PUSHFQ:
            case ZYDIS_MNEMONIC_POPFQ:
            case ZYDIS_MNEMONIC_PUSHF:
            case ZYDIS_MNEMONIC_POPF:
            case ZYDIS_MNEMONIC_INT3:
            case ZYDIS_MNEMONIC_INT1:
            case ZYDIS_MNEMONIC_SHLD:
            case ZYDIS_MNEMONIC_SHRD:
            case ZYDIS_MNEMONIC_BT:
            case ZYDIS_MNEMONIC_RSM:
            case ZYDIS_MNEMONIC_BTS:
            case ZYDIS_MNEMONIC_BTR:
            case ZYDIS_MNEMONIC_BTC:
            case ZYDIS_MNEMONIC_BSWAP:
                bad = true;
                break;
            default:
                break;
            }
            /* Feature rows are the vector ones; a few integer ones have a feature too. */
            bool integer = g->row->feature == FEAT_ALWAYS || g->row->feature == FEAT_CMOV ||
                           g->row->feature == FEAT_BMI1 || g->row->feature == FEAT_BMI2 ||
                           g->row->feature == FEAT_ADX || g->row->feature == FEAT_POPCNT ||
                           g->row->feature == FEAT_MOVBE;
            /* Without memory operands: alignment would fault. */
            bool vector = g->row->feature == FEAT_SSE || g->row->feature == FEAT_SSE2 ||
                          g->row->feature == FEAT_SSSE3 || g->row->feature == FEAT_SSE4_1 ||
                          (g->row->flags & I_AVX) || g->row->feature == FEAT_AES ||
                          g->row->feature == FEAT_PCLMULQDQ || g->row->feature == FEAT_SHA;
            vector = vector && !g->mem && !strstr(g->name, "mm64") && !strstr(g->name, "rcp") &&
                     !strstr(g->name, "rsqrt") && !strstr(g->name, "maskmov") && !strstr(g->name, "mxcsr");
            fits[i] = !bad && (integer || vector) && !(g->row->flags & (I_FPU | I_MMX));
        }
    }
    return fits[index];
}

/* Turns the memory operand of an encoding into [pointer + disp8]: simplest is to try until one is like that.
 */
static bool operands_fit(const struct insn *in)
{
    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->op[i];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (o->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
                continue;
            int base = gpr_number(o->mem.base);
            if (base < 0 || base == REG_RSP || !is_pointer(base) || o->mem.index != ZYDIS_REGISTER_NONE ||
                o->mem.disp.value < -128 || o->mem.disp.value > 127)
                return false;
        } else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
            int n = gpr_number(o->reg.value);
            if (n >= 0 && is_pointer(n))
                return false;
        }
    }
    return !(in->zi.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS));
}

static bool is_shift(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_SHL || m == ZYDIS_MNEMONIC_SHR || m == ZYDIS_MNEMONIC_SAR ||
           m == ZYDIS_MNEMONIC_ROL || m == ZYDIS_MNEMONIC_ROR || m == ZYDIS_MNEMONIC_RCL ||
           m == ZYDIS_MNEMONIC_RCR;
}

static bool flags_fit(struct sequence *s, const struct insn *in)
{
    const ZydisAccessedFlags *a = in->zi.cpu_flags;
    if (!a)
        return true;
    if (a->tested & s->undefined)
        return false;
    if (is_shift(in->zi.mnemonic)) {
        s->undefined |= FLAG_OF | FLAG_AF | FLAG_CF; /* by count and size: cautious */
        if (in->zi.mnemonic != ZYDIS_MNEMONIC_SHL && in->zi.mnemonic != ZYDIS_MNEMONIC_SHR)
            s->undefined &= ~(uint64_t)FLAG_CF | (a->undefined & FLAG_CF);
        return true;
    }
    s->undefined = (s->undefined & ~(uint64_t)(a->modified | a->set_0 | a->set_1)) | a->undefined;
    return true;
}

static bool add_insn(struct sequence *s, struct rng *r)
{
    for (unsigned tries = 0; tries < 2000; tries++) {
        const struct form *f = &forms[rng_below(r, form_count)];
        struct insn in;
        /* Of the many forms of NOP few are wanted, and not 0F 0D with a register, which is #UD on AMD. */
        if (f->mnemonic == ZYDIS_MNEMONIC_NOP && ((!f->mem && f->opcode == 0x0d) || rng_chance(r, 95)))
            continue;
        if (!form_fits(f) || (f->mem && rng_chance(r, 40)) || !insn_encode(f, r, &in) || !operands_fit(&in) ||
            !flags_fit(s, &in))
            continue;
        memcpy(s->bytes + s->n, in.bytes, in.length);
        s->n += in.length;
        s->offsets[++s->count] = (uint16_t)s->n;
        return true;
    }
    return false;
}

/* CMP or TEST in front of a Jcc often, so that they are fused. */
static void add_jump(struct sequence *s, struct rng *r)
{
    if (rng_chance(r, 70)) {
        static const uint8_t opcodes[] = {0x39, 0x3b, 0x85, 0x38, 0x84};
        unsigned op = opcodes[rng_below(r, sizeof(opcodes))];
        uint8_t b[3] = {(uint8_t)(0x40 | rng_below(r, 2) << 3 | rng_below(r, 2) << 2 | rng_below(r, 2)),
                        (uint8_t)op, (uint8_t)(0xc0 | rng_below(r, 64))};
        memcpy(s->bytes + s->n, b, 3);
        s->n += 3;
        s->undefined = op == 0x85 || op == 0x84 ? FLAG_AF : 0;
        s->offsets[++s->count] = (uint16_t)s->n;
    }
    static const uint16_t tested[8] = {FLAG_OF, FLAG_CF, FLAG_ZF,           FLAG_CF | FLAG_ZF,
                                       FLAG_SF, FLAG_PF, FLAG_SF | FLAG_OF, FLAG_ZF | FLAG_SF | FLAG_OF};
    unsigned cc = rng_below(r, 16);
    if (tested[cc >> 1] & s->undefined)
        return;
    unsigned at = s->n;
    s->bytes[s->n++] = (uint8_t)(0x70 | cc);
    s->bytes[s->n++] = 0;
    s->offsets[++s->count] = (uint16_t)s->n;
    uint64_t before = s->undefined;
    for (unsigned i = 1 + rng_below(r, 4); i > 0; i--)
        add_insn(s, r);
    s->undefined |= before;
    s->bytes[at + 1] = (uint8_t)(s->n - at - 2);
}

static void build(struct sequence *s, struct rng *r)
{
    memset(s, 0, sizeof(*s));
    unsigned length = 4 + rng_below(r, 13), jump = rng_chance(r, 60) ? rng_below(r, length) : length;
    for (unsigned i = 0; i < length && s->count < INSNS_MAX - 7; i++) {
        if (i == jump)
            add_jump(s, r);
        else
            add_insn(s, r);
    }
}

static void print_sequence(const struct sequence *s, uint64_t base)
{
    unsigned at = 0;
    while (at < s->n) {
        struct insn in = {.key = (uint32_t)(KEY_L | KEY_PE | KEY_PG | KEY_OSFXSR), .at = base + at};
        char text[192];
        memcpy(in.bytes, s->bytes + at, 15);
        if (!insn_decode(in.key, in.bytes, 15, &in.zi, in.op))
            break;
        in.length = in.zi.length;
        insn_print(&in, text, sizeof(text));
        printf("     %s\n", text);
        at += in.length;
    }
}

static bool run_sequence(uint64_t seed, uint64_t number, bool verbose, bool quiet)
{
    struct rng r = rng_for(seed, "sequence", number, 3);
    struct sequence s;
    build(&s, &r);
    /* At the end of a page at times, so that an instruction crosses into the next. */
    uint64_t base = CODE_BASE + 0x400 + rng_below(&r, 64);
    if (rng_chance(&r, 10) && s.n > 2)
        base = CODE_BASE + 0x1000 - rng_below(&r, s.n);
    uint8_t code[INSNS_MAX * 16 + 1];
    memcpy(code, s.bytes, s.n);
    code[s.n] = 0xcc;
    code_write(base, code, s.n + 1);
    bool ok = true;
    for (unsigned k = 0; ok && k < 6; k++) {
        struct isa_state before, native, emulated;
        struct ignore ig = {.flags = s.undefined};
        struct insn none;
        char what[256];
        memset(&none, 0, sizeof(none));
        memory_reset();
        state_background(&r, &before);
        before.rip = base;
        before.fcw = 0x37f;
        before.fsw = 0;
        before.mxcsr = 0x1f80;
        for (unsigned i = 0; i < ARRAY_LEN(pointers); i++)
            before.r[pointers[i]] = DATA_BASE + 0x200 + rng_below(&r, DATA_SIZE - 0x400);
        before.r[REG_RSP] = STACK_BASE + 0x1000;
        native_run(64, &before, &native);
        emulated_run(64, &before, &emulated, base + s.n);
        ok = states_equal(&native, &emulated, &ig, what, sizeof(what)) &&
             memory_equal(&ig, &none, &before, what, sizeof(what));
        if ((!ok && !quiet) || verbose) {
            printf("%s sequence %llu: %s\n", ok ? "ok" : "FAIL", (unsigned long long)number, ok ? "" : what);
            print_sequence(&s, base);
            printf("     test_isa --sequence --seed %llu --first %llu --cases 1 --workers 1 --verbose\n",
                   (unsigned long long)seed, (unsigned long long)number);
            if (verbose)
                states_print(&before, &native, &emulated);
        }
    }
    memset(code, 0xcc, sizeof(code));
    code_write(base, code, s.n + 1);
    return ok;
}

void sequences_run(uint64_t seed, uint64_t first, uint64_t count, bool verbose, struct sequence_result *res)
{
    for (uint64_t i = first; i < first + count; i++) {
        if (run_sequence(seed, i, verbose, res->failed >= 5))
            res->passed++;
        else
            res->failed++;
    }
}
