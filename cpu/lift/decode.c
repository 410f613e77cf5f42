/*
 * cpu/lift/decode.c -- Zydis set up for a mode of ours, and the checks before an instruction's lift function
 * runs.
 *
 * SDM 2A, "Instruction Format"; SDM 3A, "Priority Among Concurrent Events" (faults from decoding).
 * Order:  longer than 15 bytes #GP(0); undefined, feature absent, wrong mode, illegal LOCK #UD; FPU and
 * vector state #UD, #NM; CPL #GP(0); VMX intercept (SDM 3C, "Relative Priority of Faults and VM Exits"). All
 * of these depend on the block's key only, so they are decided here, once. Not here: operands (operand.c),
 * the table (insn.def), what instructions do (lift_*.c).
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/rows.h"

#define INSN_LENGTH_MAX 15

/* -- Decoding ------------------------------------------------------------------------------------------ */

/*
 * SDM 2A, "Addressing-Mode Encoding of ModR/M and SIB Bytes": with ModRM.mod 0 and SIB.base 5 there is a
 * displacement and no base, whatever REX.B says. Zydis 4.0 takes R13D when REX.B is 1 and the address size
 * is 32.
 */
static void correct_base(const ZydisDecodedInstruction *zi, ZydisDecodedOperand *op)
{
    if (zi->raw.sib.offset == 0 || zi->raw.sib.base != 5 || zi->raw.modrm.mod != 0)
        return;
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (op[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM && op[i].mem.base == ZYDIS_REGISTER_R13D) {
            op[i].mem.base = ZYDIS_REGISTER_NONE;
            op[i].mem.disp.has_displacement = ZYAN_TRUE;
            op[i].mem.disp.value = zi->raw.disp.value;
        }
}

static ZyanStatus decode(uint32_t key, const uint8_t *bytes, unsigned length, ZydisDecodedInstruction *zi,
                         ZydisDecodedOperand *op)
{
    ZydisDecoder decoder;
    ZydisMachineMode mode;
    ZydisStackWidth stack;
    if (key & KEY_L) {
        mode = ZYDIS_MACHINE_MODE_LONG_64;
        stack = ZYDIS_STACK_WIDTH_64;
    } else {
        /* Not REAL_16: what real-address mode refuses, and how (#UD or #GP), the rows say. */
        mode = key & KEY_D ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16;
        stack = key & KEY_SS_B ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;
    }
    ZydisDecoderInit(&decoder, mode, stack);
    /* Neither MPX nor CET is there: their opcodes are the hint NOPs that they were before. */
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZyanStatus status = ZydisDecoderDecodeFull(&decoder, bytes, length, zi, op);
    if (ZYAN_SUCCESS(status) && zi->address_width == 32)
        correct_base(zi, op);
    /* SDM 2B, "XCHG": 90H with REX.B is XCHG R8, rAX, also behind F3H; Zydis says PAUSE. DS: instead of F3H
     * has no effect in 64-bit mode. */
    if (ZYAN_SUCCESS(status) && zi->mnemonic == ZYDIS_MNEMONIC_PAUSE && zi->raw.rex.B) {
        uint8_t copy[INSN_LENGTH_MAX];
        for (unsigned i = 0; i < zi->length; i++)
            copy[i] = i < zi->raw.prefix_count && bytes[i] == 0xf3 ? 0x3e : bytes[i];
        status = ZydisDecoderDecodeFull(&decoder, copy, zi->length, zi, op);
    }
    return status;
}

bool insn_decode(uint32_t key, const uint8_t *bytes, unsigned length, ZydisDecodedInstruction *zi,
                 ZydisDecodedOperand *op)
{
    return ZYAN_SUCCESS(decode(key, bytes, MIN(length, INSN_LENGTH_MAX), zi, op));
}

/* MOVSD and CMPSD name a string and an SSE2 instruction each: the string forms share the row of the byte
 * form. */
static const struct insn_row *row_of(const ZydisDecodedInstruction *zi)
{
    unsigned mnemonic = zi->mnemonic;
    if (zi->meta.category == ZYDIS_CATEGORY_STRINGOP) {
        if (mnemonic == ZYDIS_MNEMONIC_MOVSD)
            mnemonic = ZYDIS_MNEMONIC_MOVSB;
        if (mnemonic == ZYDIS_MNEMONIC_CMPSD)
            mnemonic = ZYDIS_MNEMONIC_CMPSB;
    }
    return insn_row(mnemonic);
}

/* -- Checks by key ------------------------------------------------------------------------------------- */

#define NO_FAULT 0xff

static bool lock_allowed(const struct lift *l, const struct insn_row *row)
{
    if (!(l->zi.attributes & ZYDIS_ATTRIB_HAS_LOCK))
        return true;
    return (row->flags & I_LOCK) && l->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
}

static unsigned check_vector_state(uint32_t key, uint32_t flags)
{
    bool ts = key & KEY_TS, em = key & KEY_EM;
    if ((flags & I_WAIT) && (key & KEY_MP) && ts)
        return EXC_NM;
    if ((flags & I_FPU) && (em || ts))
        return EXC_NM;
    if (flags & I_MMX)
        return em ? EXC_UD : ts ? EXC_NM : NO_FAULT;
    if (flags & I_SSE) {
        if (em || !(key & KEY_OSFXSR))
            return EXC_UD;
        return ts ? EXC_NM : NO_FAULT;
    }
    if (flags & I_TS)
        return !(key & KEY_OSXSAVE) ? EXC_UD : ts ? EXC_NM : NO_FAULT;
    if (flags & I_AVX) {
        if (!(key & KEY_PE) || (key & KEY_VM) || !(key & KEY_OSXSAVE) || !(key & KEY_AVX))
            return EXC_UD;
        return ts ? EXC_NM : NO_FAULT;
    }
    return NO_FAULT;
}

/* EVEX, XOP, and the VEX encodings of a coprocessor that Zydis knows: they share mnemonics with ours. */
static bool foreign_encoding(const ZydisDecodedInstruction *zi)
{
    if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    return zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX || zi->meta.isa_ext == ZYDIS_ISA_EXT_KNC ||
           zi->meta.isa_ext == ZYDIS_ISA_EXT_KNCE || zi->meta.isa_ext == ZYDIS_ISA_EXT_KNCV;
}

static unsigned check_row(const struct lift *l, const struct insn_row *row)
{
    uint32_t key = l->key, flags = row->flags;
    bool real = !(key & KEY_PE) || (key & KEY_VM);
    if (foreign_encoding(&l->zi))
        return EXC_UD;
    if (row->feature != FEAT_ALWAYS && (row->feature >= FEAT_COUNT || !l->model->has[row->feature]))
        return EXC_UD;
    if (((flags & I_PE) && real) || ((flags & I_NO64) && (key & KEY_L)) ||
        ((flags & I_ONLY64) && !(key & KEY_L)))
        return EXC_UD;
    if (!lock_allowed(l, row))
        return EXC_UD;
    unsigned vector = check_vector_state(key, flags);
    if (vector != NO_FAULT)
        return vector;
    /* Real-address mode runs with CPL 0, virtual-8086 mode with CPL 3: the key says so. */
    if ((flags & I_CPL0) && KEY_CPL(key) != 0)
        return EXC_GP;
    return NO_FAULT;
}

/* -- One instruction ----------------------------------------------------------------------------------- */

static void derive_sizes(struct lift *l)
{
    switch (l->zi.operand_width) {
    case 16:
        l->osize = 1;
        break;
    case 32:
        l->osize = 2;
        break;
    case 64:
        l->osize = 3;
        break;
    default: /* byte forms: what the prefixes say */
        if (l->key & KEY_L)
            l->osize = l->zi.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE ? 1 : 2;
        else
            l->osize = !(l->key & KEY_D) != !!(l->zi.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) ? 1 : 2;
        break;
    }
    l->asize = l->zi.address_width == 16 ? ASIZE_16 : l->zi.address_width == 32 ? ASIZE_32 : ASIZE_64;
}

static void lift_row(struct lift *l, const struct insn_row *row)
{
    if (!row) {
        log_unimplemented(l->log, "insn %s", ZydisMnemonicGetString(l->zi.mnemonic));
        lift_raise(l, EXC_UD);
        return;
    }
    unsigned vector = check_row(l, row);
    if (vector != NO_FAULT) {
        lift_raise(l, vector);
        return;
    }
    if (row->guard != 0)
        ir_emit(l->ir, UOP_GUARD, 0)->imm = row->guard;
    if (row->flags & I_END)
        l->end = true;
    lift_prepare(l);
    row->lift(l);
}

/* True when the last micro-op itself says where to go on. */
static bool leaves(const struct ir *ir, uint32_t first)
{
    if (ir->uop_count == first)
        return false;
    const struct uop *u = &ir->uops[ir->uop_count - 1];
    return (uop_info[u->op].flags & U_END) ||
           (u->op == UOP_HELPER && lift_helper_ends((enum helper_id)u->aux));
}

enum lift_result lift_insn(struct lift *l, const uint8_t *bytes, unsigned length)
{
    struct ir *ir = l->ir;
    if (ir->insn_count >= IR_INSNS_MAX) {
        ir->overflow = true;
        return LIFT_END;
    }
    unsigned valid = MIN(length, INSN_LENGTH_MAX);
    ZyanStatus status = decode(l->key, bytes, valid, &l->zi, l->op);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && valid < INSN_LENGTH_MAX)
        return LIFT_TRUNCATED;

    struct ir_insn *in = &ir->insns[ir->insn_count++];
    *in = (struct ir_insn){.offset = (uint16_t)l->offset, .first = (uint16_t)ir->uop_count};
    l->end = false;
    if (ZYAN_SUCCESS(status)) {
        in->length = l->zi.length;
        derive_sizes(l);
        lift_row(l, row_of(&l->zi));
    } else {
        /* Every byte that was looked at belongs to the block: a write to it may make the instruction valid.
         */
        in->length = (uint8_t)valid;
        bool too_long = status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
        lift_raise(l, too_long ? EXC_GP : EXC_UD);
    }
    if (ir->overflow)
        return LIFT_END;
    uint32_t next = l->offset + in->length;
    if (l->end && !leaves(ir, in->first))
        ir_emit(ir, UOP_EXIT, 0)->imm = next;
    l->offset = next;
    return l->end ? LIFT_END : LIFT_OK;
}
