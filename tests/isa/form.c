/*
 * tests/isa/form.c -- the forms: every encoding of every row of insn.def, found by walking the opcode maps.
 *
 * Prefixes, REX.W, opcodes and ModRM are tried one by one; Zydis says what an encoding is. Encodings that
 * differ in a prefix without effect are one form.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "isa.h"

struct form *forms;
unsigned form_count;

#define FORMS_MAX 16384

#define KEY_64 ((uint32_t)(KEY_L | KEY_PE | KEY_PG | KEY_OSFXSR))
#define KEY_32 ((uint32_t)(KEY_D | KEY_SS_B | KEY_FLAT | KEY_PE | KEY_PG | KEY_OSFXSR))

const struct insn_row *row_of_insn(const ZydisDecodedInstruction *zi)
{
    unsigned m = zi->mnemonic;
    if (zi->meta.category == ZYDIS_CATEGORY_STRINGOP) {
        if (m == ZYDIS_MNEMONIC_MOVSD)
            m = ZYDIS_MNEMONIC_MOVSB;
        if (m == ZYDIS_MNEMONIC_CMPSD)
            m = ZYDIS_MNEMONIC_CMPSB;
    }
    return insn_row(m);
}

/* -- What does not run here ---------------------------------------------------------------------------- */

static const struct {
    uint16_t mnemonic;
    const char *why;
} skipped[] = {
#define SKIP(mnemonic, why) {ZYDIS_MNEMONIC_##mnemonic, why},
#include "skipped.def"
#undef SKIP
};

const char *row_skipped(const struct insn_row *row, const struct cpu_model *model)
{
    for (unsigned i = 0; i < ARRAY_LEN(skipped); i++)
        if (skipped[i].mnemonic == row->mnemonic)
            return skipped[i].why;
    if (row->feature == FEAT_NEVER)
        return "raises #UD by definition; the host may have the instruction";
    if (row->feature < FEAT_COUNT && !model->has[row->feature])
        return "not in the processor model";
    return NULL;
}

/* -- Encoding a trial ---------------------------------------------------------------------------------- */

static unsigned trial_bytes(const struct form *f, unsigned modrm, uint8_t *b)
{
    unsigned n = 0;
    if (f->lock)
        b[n++] = 0xf0;
    if (f->p67)
        b[n++] = 0x67;
    if (f->p66)
        b[n++] = 0x66;
    if (f->rep)
        b[n++] = f->rep;
    if (f->vex) {
        b[n++] = 0xc4;
        b[n++] = (uint8_t)(0xe0 | f->map);
        b[n++] = (uint8_t)(f->vex_w << 7 | (f->vsib ? 0x30 : 0x78) | f->vex_l << 2 | f->vex_pp);
    } else {
        if (f->rex_w)
            b[n++] = 0x48;
        if (f->map != MAP_ONE)
            b[n++] = 0x0f;
        if (f->map > MAP_0F)
            b[n++] = f->map == MAP_0F38 ? 0x38 : 0x3a;
    }
    b[n++] = f->opcode;
    b[n++] = (uint8_t)modrm;
    memset(b + n, 0x11, 15 - n);
    return n;
}

static bool trial(const struct form *f, unsigned modrm, ZydisDecodedInstruction *zi, ZydisDecodedOperand *op)
{
    uint8_t b[16];
    trial_bytes(f, modrm, b);
    return insn_decode(f->mode == 64 ? KEY_64 : KEY_32, b, 15, zi, op);
}

/* What of an encoding makes a form: the same description means that a prefix had no effect. */
static void describe(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op, char *text, size_t n)
{
    static const char *const kinds[] = {"-", "r", "m", "p", "i"};
    int at = snprintf(text, n, "%s", ZydisMnemonicGetString(zi->mnemonic));
    for (unsigned i = 0; i < zi->operand_count_visible && at < (int)n; i++) {
        const ZydisDecodedOperand *o = &op[i];
        const char *kind = kinds[o->type];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
            kind = c == ZYDIS_REGCLASS_XMM       ? "xmm"
                   : c == ZYDIS_REGCLASS_YMM     ? "ymm"
                   : c == ZYDIS_REGCLASS_MMX     ? "mm"
                   : c == ZYDIS_REGCLASS_X87     ? "st"
                   : c == ZYDIS_REGCLASS_SEGMENT ? "sreg"
                                                 : "r";
            if (o->encoding == ZYDIS_OPERAND_ENCODING_NONE && c >= ZYDIS_REGCLASS_GPR8 &&
                c <= ZYDIS_REGCLASS_GPR64)
                kind = ZydisRegisterGetString(o->reg.value);
        }
        at += snprintf(text + at, n - (size_t)at, "%c%s%u", i ? ',' : ' ', kind, o->size);
    }
    if (zi->operand_count_visible == 0 && at < (int)n)
        snprintf(text + at, n - (size_t)at, " o%u", zi->operand_width);
}

static bool same_without(const struct form *f, unsigned modrm, const char *text, struct form changed)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    char other[96];
    (void)f;
    if (!trial(&changed, modrm, &zi, op))
        return false;
    describe(&zi, op, other, sizeof(other));
    return !strcmp(other, text);
}

static unsigned memory_modrm(const struct form *f, unsigned reg)
{
    return reg << 3 | (f->vsib ? 4 : 1);
}

/* Which fields of the VEX prefix matter. */
static void look_at_vex(struct form *f, unsigned modrm, const ZydisDecodedInstruction *zi,
                        const ZydisDecodedOperand *op, const char *text)
{
    struct form g = *f;
    g.vex_w ^= 1;
    f->wig = same_without(f, modrm, text, g);
    g = *f;
    g.vex_l ^= 1;
    f->lig = same_without(f, modrm, text, g);
    for (unsigned i = 0; i < zi->operand_count; i++)
        f->vvvv |= op[i].encoding == ZYDIS_OPERAND_ENCODING_NDSNDD;
}

/* A prefix whose removal leaves the same instruction makes no form of its own. */
static bool has_idle_prefix(const struct form *f, unsigned modrm, const ZydisDecodedInstruction *zi,
                            const char *text)
{
    struct form g;
    if (f->rex_w) {
        g = *f;
        g.rex_w = false;
        if (same_without(f, modrm, text, g))
            return true;
    }
    if (f->p66) {
        g = *f;
        g.p66 = false;
        if (same_without(f, modrm, text, g))
            return true;
    }
    if (f->rep &&
        !(zi->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))) {
        g = *f;
        g.rep = 0;
        if (same_without(f, modrm, text, g))
            return true;
    }
    return false;
}

/* -- Adding -------------------------------------------------------------------------------------------- */

static bool has_byte_gpr(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op)
{
    for (unsigned i = 0; i < zi->operand_count_visible; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(op[i].reg.value) == ZYDIS_REGCLASS_GPR8 &&
            op[i].encoding != ZYDIS_OPERAND_ENCODING_NONE)
            return true;
    return false;
}

static void append(struct form *f, const char *text)
{
    static const char *const maps[] = {"", "0f", "0f38", "0f3a"};
    int at = snprintf(f->name, sizeof(f->name), "%s%s%s%s%s%s [%s%s%s%s%s%02x", text, f->lock ? " lock" : "",
                      f->rep == 0xf3 && f->map == MAP_ONE   ? " f3"
                      : f->rep == 0xf2 && f->map == MAP_ONE ? " f2"
                                                            : "",
                      f->p67 ? " a32" : "", f->high ? " high" : "", f->mode == 32 ? " mode32" : "",
                      f->vex ? "vex." : "", f->p66 && !f->vex ? "66." : "", f->rep && !f->vex ? "rep." : "",
                      f->rex_w ? "w." : "", maps[f->map], f->opcode);
    if (f->modrm && (f->reg >= 0 || f->rm >= 0) && at < (int)sizeof(f->name))
        at += snprintf(f->name + at, sizeof(f->name) - (size_t)at, " /%d%s", f->reg, f->rm >= 0 ? "." : "");
    if (f->rm >= 0 && at < (int)sizeof(f->name))
        at += snprintf(f->name + at, sizeof(f->name) - (size_t)at, "%d", f->rm);
    if (at < (int)sizeof(f->name))
        snprintf(f->name + at, sizeof(f->name) - (size_t)at, "]");
    for (unsigned i = form_count; i-- > 0 && form_count - i < 64;)
        if (!strcmp(forms[i].name, f->name))
            return;
    if (form_count < FORMS_MAX)
        forms[form_count++] = *f;
}

static bool wanted_in_32(const struct form *f, const struct insn_row *row)
{
    if (row->flags & I_NO64)
        return true;
    /* Encodings that 64-bit mode uses otherwise or lacks, and the stack instructions with 4-byte slots. */
    if (f->map == MAP_ONE && ((f->opcode & 0xf0) == 0x40 || f->opcode == 0x82))
        return true;
    switch (row->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    /* Registers and VEX.W mean other things than in 64-bit mode. */
    case ZYDIS_MNEMONIC_VADDPS:
    case ZYDIS_MNEMONIC_VPADDD:
    case ZYDIS_MNEMONIC_VBLENDVPS:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
    case ZYDIS_MNEMONIC_VPINSRB:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPERMQ:
    case ZYDIS_MNEMONIC_VFMADD213PD:
    case ZYDIS_MNEMONIC_VPSLLD:
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VZEROALL:
    case ZYDIS_MNEMONIC_VZEROUPPER:
        return true;
    default:
        return false;
    }
}

/* With a real prefix the host may do something else than the SDM's processor. */
static bool refused(const struct form *f, const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op)
{
    if (zi->attributes &
        (ZYDIS_ATTRIB_HAS_XACQUIRE | ZYDIS_ATTRIB_HAS_XRELEASE | ZYDIS_ATTRIB_HAS_BND |
         ZYDIS_ATTRIB_HAS_NOTRACK | ZYDIS_ATTRIB_HAS_BRANCH_TAKEN | ZYDIS_ATTRIB_HAS_BRANCH_NOT_TAKEN))
        return true;
    if (zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return true;
    /* VEX encodings of a coprocessor, with mnemonics of ours: #UD (tests/unit). */
    if (zi->meta.isa_ext == ZYDIS_ISA_EXT_KNC || zi->meta.isa_ext == ZYDIS_ISA_EXT_KNCE ||
        zi->meta.isa_ext == ZYDIS_ISA_EXT_KNCV)
        return true;
    /* 66H with a near branch: AMD takes a 16-bit target, Intel ignores it in 64-bit mode. In 32-bit mode the
     * target would be below what can be mapped. */
    if (f->p66 && zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
        return true;
    /* Segment registers, control and debug registers: tests/guest. */
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            switch (ZydisRegisterGetClass(op[i].reg.value)) {
            case ZYDIS_REGCLASS_SEGMENT:
            case ZYDIS_REGCLASS_CONTROL:
            case ZYDIS_REGCLASS_DEBUG:
            case ZYDIS_REGCLASS_TEST:
                return i < zi->operand_count_visible;
            default:
                break;
            }
    return false;
}

static void add_variants(struct form f, const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                         const char *text)
{
    ZydisDecodedInstruction zl;
    ZydisDecodedOperand ol[ZYDIS_MAX_OPERAND_COUNT];
    unsigned modrm = f.mem ? memory_modrm(&f, (unsigned)(f.reg < 0 ? 0 : f.reg))
                           : 0xc0u | (unsigned)(f.reg < 0 ? 0 : f.reg) << 3 | (unsigned)(f.rm < 0 ? 0 : f.rm);
    bool memory = f.mem;
    for (unsigned i = 0; i < zi->operand_count; i++)
        memory |= op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && op[i].mem.base != ZYDIS_REGISTER_RSP &&
                  op[i].mem.base != ZYDIS_REGISTER_ESP;
    append(&f, text);
    bool counts = f.row->lift && (f.mnemonic == ZYDIS_MNEMONIC_LOOP || f.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
                                  f.mnemonic == ZYDIS_MNEMONIC_LOOPNE);
    if ((memory || counts) && f.mode == 64) {
        struct form g = f;
        g.p67 = true;
        if (trial(&g, modrm, &zl, ol) && zl.mnemonic == f.mnemonic)
            append(&g, text);
    }
    if (f.mem && !f.rep) {
        struct form g = f;
        g.lock = true;
        if (trial(&g, modrm, &zl, ol) && zl.mnemonic == f.mnemonic && (zl.attributes & ZYDIS_ATTRIB_HAS_LOCK))
            append(&g, text);
    }
    if (has_byte_gpr(zi, op) && !f.rex_w && !f.vex) {
        struct form g = f;
        g.high = true;
        append(&g, text);
    }
}

static void consider(struct form f, const struct cpu_model *model)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    char text[64];
    f.reg = f.rm = -1;
    for (unsigned mem = 0; mem < 2; mem++) {
        for (unsigned reg = 0; reg < 8; reg++) {
            for (unsigned rm = 0; rm < 8; rm++) {
                if (mem && rm != 0)
                    break;
                f.vsib = false;
                unsigned modrm = mem ? memory_modrm(&f, reg) : 0xc0 | reg << 3 | rm;
                bool valid = trial(&f, modrm, &zi, op);
                if (!valid && mem && f.vex) {
                    f.vsib = true;
                    modrm = memory_modrm(&f, reg);
                    valid = trial(&f, modrm, &zi, op);
                }
                if (!valid)
                    continue;
                const struct insn_row *row = row_of_insn(&zi);
                if (!row || row_skipped(row, model) || refused(&f, &zi, op))
                    continue;
                if (f.mode == 32 ? !wanted_in_32(&f, row) : (row->flags & I_NO64) != 0)
                    continue;
                describe(&zi, op, text, sizeof(text));
                if (!f.vex && has_idle_prefix(&f, modrm, &zi, text))
                    continue;
                struct form g = f;
                if (g.vex)
                    look_at_vex(&g, modrm, &zi, op, text);
                g.row = row;
                g.mnemonic = (uint16_t)zi.mnemonic;
                g.modrm = zi.attributes & ZYDIS_ATTRIB_HAS_MODRM;
                if (!g.modrm) {
                    if (mem || reg || rm)
                        continue;
                    for (unsigned i = 0; i < zi.operand_count_visible; i++)
                        g.opcode_reg |= op[i].encoding == ZYDIS_OPERAND_ENCODING_OPCODE;
                    if (g.opcode_reg && (g.opcode & 7))
                        continue;
                    add_variants(g, &zi, op, text);
                    continue;
                }
                g.mem = mem;
                g.reg = (int8_t)reg;
                g.rm = (int8_t)rm;
                for (unsigned i = 0; i < zi.operand_count_visible; i++) {
                    if (op[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
                        g.reg = -1;
                    if (op[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
                        g.rm = -1;
                }
                if (mem)
                    g.rm = -1;
                if ((g.reg < 0 && reg) || (g.rm < 0 && rm))
                    continue;
                add_variants(g, &zi, op, text);
            }
        }
    }
}

/* NOP r/m and the hint NOPs have eight encodings of nothing each; one is enough. */
static bool is_prefix_byte(const struct form *f)
{
    static const uint8_t bytes[] = {0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66,
                                    0x67, 0xf0, 0xf2, 0xf3, 0xc4, 0xc5, 0x62, 0x8f};
    if (f->vex)
        return false;
    if (f->map == MAP_0F)
        return f->opcode == 0x38 || f->opcode == 0x3a || f->opcode == 0x0f;
    if (f->map != MAP_ONE)
        return false;
    if (f->mode == 64 && (f->opcode & 0xf0) == 0x40)
        return true;
    for (unsigned i = 0; i < sizeof(bytes); i++)
        if (bytes[i] == f->opcode)
            return f->opcode != 0x8f && !(f->mode == 32 && f->opcode == 0x62);
    return false;
}

static void vex_forms_build(const struct cpu_model *model, unsigned mode)
{
    for (unsigned map = MAP_0F; map <= MAP_0F3A; map++)
        for (unsigned opcode = 0; opcode < 256; opcode++)
            for (unsigned bits = 0; bits < 16; bits++) {
                struct form f = {.mode = (uint8_t)mode,
                                 .map = (uint8_t)map,
                                 .opcode = (uint8_t)opcode,
                                 .vex = true,
                                 .vex_pp = bits & 3,
                                 .vex_w = bits >> 2 & 1,
                                 .vex_l = (uint8_t)(bits >> 3)};
                consider(f, model);
            }
}

void forms_build(const struct cpu_model *model)
{
    static const uint8_t reps[] = {0, 0xf3, 0xf2};
    forms = calloc(FORMS_MAX, sizeof(*forms));
    for (unsigned mode = 64; mode >= 32; mode -= 32)
        for (unsigned map = MAP_ONE; map <= MAP_0F3A; map++)
            for (unsigned opcode = 0; opcode < 256; opcode++)
                for (unsigned p66 = 0; p66 < 2; p66++)
                    for (unsigned rep = 0; rep < 3; rep++)
                        for (unsigned w = 0; w < (mode == 64 ? 2u : 1u); w++) {
                            struct form f = {.mode = (uint8_t)mode,
                                             .map = (uint8_t)map,
                                             .opcode = (uint8_t)opcode,
                                             .p66 = p66,
                                             .rep = reps[rep],
                                             .rex_w = w};
                            if (is_prefix_byte(&f))
                                continue;
                            consider(f, model);
                            f.p67 = true; /* JCXZ: with a 16-bit address size only */
                            if (mode == 32 && map == MAP_ONE && opcode == 0xe3)
                                consider(f, model);
                        }
    for (unsigned mode = 64; mode >= 32; mode -= 32)
        vex_forms_build(model, mode);
}
