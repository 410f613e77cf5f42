/*
 * tests/unit/test_lift_table.c -- insn.def: every row is whole, and every mnemonic of the base instruction
 * set has one.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "cpu/lift/lift.h"
#include "cpu/vmx/vmx.h"

Test(lift_table, rows_are_whole)
{
    cr_assert_gt(insn_row_count, 100);
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *r = &insn_rows[i];
        const char *name = ZydisMnemonicGetString(r->mnemonic);
        cr_expect_not_null(r->lift, "%s has no lift function", name);
        cr_expect_leq(r->feature, FEAT_NEVER, "%s", name);
        cr_expect_lt(r->guard, GUARD_COUNT, "%s", name);
        cr_expect_eq(insn_row(r->mnemonic), r, "%s is not found by its mnemonic", name);
    }
    cr_expect_null(insn_row(ZYDIS_MNEMONIC_INVALID));
    cr_expect_null(insn_row(ZYDIS_MNEMONIC_MAX_VALUE + 1));
}

/* One of each opcode of the one- and two-byte maps and of 0F38/0F3A, with and without prefixes: what Zydis
 * knows of these extensions must have a row. */
static bool wanted(const ZydisDecodedInstruction *zi)
{
    switch (zi->meta.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_ADOX_ADCX:
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_CLFLUSHOPT:
    case ZYDIS_ISA_EXT_CLFSH:
    case ZYDIS_ISA_EXT_CLWB:
    case ZYDIS_ISA_EXT_PAUSE:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
    case ZYDIS_ISA_EXT_GFNI:
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_VAES:
    case ZYDIS_ISA_EXT_VPCLMULQDQ:
        return zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
               zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    default:
        return false;
    }
}

static unsigned missing_count;

static void look(uint32_t key, const uint8_t *bytes, bool *seen)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    if (!insn_decode(key, bytes, 15, &zi, op) || seen[zi.mnemonic] || !wanted(&zi))
        return;
    seen[zi.mnemonic] = true;
    if (!insn_row(zi.mnemonic)) {
        missing_count++;
        fprintf(stderr, "no row: %s\n", ZydisMnemonicGetString(zi.mnemonic));
    }
}

static void look_opcode(uint32_t key, const uint8_t *opcode, unsigned n, bool *seen)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf2, 0xf3, 0x48};
    for (unsigned p = 0; p < ARRAY_LEN(prefixes); p++)
        for (unsigned modrm = 0; modrm < 256; modrm++) {
            uint8_t bytes[16] = {0};
            unsigned at = 0;
            if (prefixes[p])
                bytes[at++] = prefixes[p];
            memcpy(bytes + at, opcode, n);
            bytes[at + n] = (uint8_t)modrm;
            look(key, bytes, seen);
        }
}

/* ModRM with a register, memory, and memory with SIB; VEX.vvvv unused or a register. */
static void look_vex(uint32_t key, unsigned map, unsigned opcode, bool *seen)
{
    static const uint8_t modes[] = {0xc1, 0x01, 0x04};
    for (unsigned bits = 0; bits < 16; bits++)
        for (unsigned vvvv = 0; vvvv < 2; vvvv++)
            for (unsigned reg = 0; reg < 8; reg++)
                for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
                    uint8_t third = (uint8_t)((bits & 8) << 4 | (bits & 7) | (vvvv ? 0x78 : 0x30));
                    uint8_t modrm = (uint8_t)(modes[i] | reg << 3);
                    uint8_t bytes[16] = {0xc4, (uint8_t)(0xe0 | map), third, (uint8_t)opcode, modrm, 0x11};
                    look(key, bytes, seen);
                }
}

Test(lift_table, base_instructions_have_rows)
{
    static const uint32_t keys[] = {KEY_L | KEY_PE | KEY_PG, KEY_D | KEY_PE, 0};
    static bool seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
    unsigned found = 0;
    for (unsigned k = 0; k < ARRAY_LEN(keys); k++)
        for (unsigned op = 0; op < 256; op++) {
            look_opcode(keys[k], (uint8_t[]){(uint8_t)op}, 1, seen);
            look_opcode(keys[k], (uint8_t[]){0x0f, (uint8_t)op}, 2, seen);
            look_opcode(keys[k], (uint8_t[]){0x0f, 0x38, (uint8_t)op}, 3, seen);
            look_opcode(keys[k], (uint8_t[]){0x0f, 0x3a, (uint8_t)op}, 3, seen);
            for (unsigned map = 1; map <= 3; map++)
                look_vex(keys[k], map, op, seen);
        }
    for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
        found += seen[m];
    cr_expect_gt(found, 800);
    cr_expect_eq(missing_count, 0, "%u mnemonics have no row", missing_count);
}
