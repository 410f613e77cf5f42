/*
 * tests/isa/compare.c -- are two results equal, as far as they must be?
 *
 * Flags that the SDM leaves undefined are masked; the rest of what may differ between vendors stands in
 * ignore_for() with its reason.
 */
#include <stdio.h>
#include <string.h>
#include "isa.h"

#define COMPARED_FLAGS (FLAGS_ARITH | FLAG_DF | FLAG_IF | FLAG_AC | FLAG_ID | FLAG_NT)

/* -- What may differ ----------------------------------------------------------------------------------- */

static unsigned shift_count(const struct insn *in, const struct isa_state *s)
{
    const ZydisDecodedOperand *last = &in->op[in->zi.operand_count_visible - 1];
    unsigned count =
        last->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? (unsigned)last->imm.value.u : (unsigned)s->r[REG_RCX];
    return count & (in->op[0].size == 64 ? 63 : 31);
}

/* SDM 2, "Flags Affected" of the shifts and rotates, which depends on the count. */
static bool shift_flags(const struct insn *in, const struct isa_state *s, uint64_t *undefined)
{
    unsigned bits = in->op[0].size, count = 0;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
        count = shift_count(in, s);
        *undefined = count == 0 ? 0 : count == 1 ? FLAG_AF : FLAG_AF | FLAG_OF;
        if (count >= bits && in->zi.mnemonic != ZYDIS_MNEMONIC_SAR)
            *undefined |= FLAG_CF;
        return true;
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
        count = shift_count(in, s);
        *undefined = count <= 1 ? 0 : FLAG_OF;
        return true;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        count = shift_count(in, s);
        *undefined = count == 0 ? 0 : count == 1 ? FLAG_AF : FLAG_AF | FLAG_OF;
        if (count > bits)
            *undefined = FLAGS_ARITH;
        return true;
    default:
        return false;
    }
}

static uint64_t undefined_flags(const struct insn *in, const struct isa_state *s)
{
    uint64_t undefined = 0;
    if (shift_flags(in, s, &undefined))
        return undefined;
    if (in->zi.mnemonic == ZYDIS_MNEMONIC_BSF || in->zi.mnemonic == ZYDIS_MNEMONIC_BSR)
        return FLAGS_ARITH & ~(uint64_t)FLAG_ZF;
    return in->zi.cpu_flags ? in->zi.cpu_flags->undefined : 0;
}

static uint64_t operand_address(const struct insn *in, const struct isa_state *s)
{
    ZyanU64 at = 0;
    ZydisRegisterContext c;
    memset(&c, 0, sizeof(c));
    for (unsigned i = 0; i < 16; i++) {
        c.values[ZYDIS_REGISTER_RAX + i] = s->r[i];
        c.values[ZYDIS_REGISTER_EAX + i] = (uint32_t)s->r[i];
    }
    for (unsigned i = 0; i < in->zi.operand_count; i++)
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            ZydisCalcAbsoluteAddressEx(&in->zi, &in->op[i], in->at, &c, &at);
    if (in->zi.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
        at += native_fs_base();
    if (in->zi.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        at += GS_BASE;
    return at;
}

/* Four bytes of the memory operand, 0 when it is not mapped. */
static uint32_t operand_dword(const struct insn *in, const struct isa_state *s, unsigned offset)
{
    uint64_t at = operand_address(in, s) + offset;
    for (unsigned i = 0; i < REGION_COUNT; i++)
        if (at >= regions[i].base && at + 4 <= regions[i].base + regions[i].size)
            return (uint32_t)load_le(regions[i].native + (at - regions[i].base), 4);
    return 0;
}

static bool is_read_only(uint64_t linear)
{
    return linear - RO_BASE < RO_SIZE;
}

static bool x87_full(const struct isa_state *s, unsigned i)
{
    return s->ftw >> (((s->fsw >> 11) + i) & 7) & 1;
}

/* Known differences between the host (AMD) and what we follow (SDM), each with its reason. */
static void vendor_differences(const struct insn *in, const struct isa_state *s, struct ignore *ig)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FCMOVB:
    case ZYDIS_MNEMONIC_FCMOVBE:
    case ZYDIS_MNEMONIC_FCMOVE:
    case ZYDIS_MNEMONIC_FCMOVNB:
    case ZYDIS_MNEMONIC_FCMOVNBE:
    case ZYDIS_MNEMONIC_FCMOVNE:
    case ZYDIS_MNEMONIC_FCMOVNU:
    case ZYDIS_MNEMONIC_FCMOVU:
    case ZYDIS_MNEMONIC_FCOMI:
    case ZYDIS_MNEMONIC_FCOMIP:
    case ZYDIS_MNEMONIC_FUCOMI:
    case ZYDIS_MNEMONIC_FUCOMIP:
        ig->fsw |= 1 << 9; /* AMD leaves C1; SDM 2A, FCOMI: "C1 set to 0" */
        break;
    case ZYDIS_MNEMONIC_FLD:
        if (in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && !(s->fcw & 2))
            ig->why = "AMD pushes a denormal although #D is not masked";
        else if (in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && x87_full(s, 7) &&
                 !x87_full(s, in->zi.raw.modrm.rm))
            ig->fsw |= 1 << 9; /* AMD tells of the underflow; SDM 2A, FLD: "C1 set to 1 if stack overflow" */
        break;
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSQ:
    case ZYDIS_MNEMONIC_CMPSD:
        ig->fault_order =
            true; /* AMD reads ES:rDI first, Intel DS:rSI: with two bad addresses the other faults */
        break;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        ig->fault_order = true; /* AMD has loaded registers before a fault on a later slot */
        break;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
        ig->fault_page = true;
        ig->fault_order = s->rflags & FLAG_AC;
        if (operand_dword(in, s, 24) & 1 << 17)
            ig->why = "AMD has MXCSR bit 17 (misaligned SSE)";
        break;
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
        ig->fault_order = s->rflags & FLAG_AC; /* SDM: #AC or #GP for FXSAVE is the implementation's choice */
        ig->fault_page = true; /* which byte of a long operand is touched first is the processor's choice */
        break;
    case ZYDIS_MNEMONIC_ENTER:
        if (s->rflags & FLAG_AC)
            ig->why = "AMD checks the alignment of the new stack pointer too";
        break;
    case ZYDIS_MNEMONIC_CALL:
        ig->fault_order = true; /* SDM 2A, CALL: the target is checked before the push; AMD pushes first */
        break;
    case ZYDIS_MNEMONIC_ARPL:
        ig->fault_order = true; /* the error code: AMD reads first, Intel checks for writing */
        if (is_read_only(operand_address(in, s)))
            ig->why = "AMD checks for writing only when the RPL changes";
        break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        /* AMD: #GP, not #PF, where a bit string's offset is not canonical without the base of FS */
        ig->fault_order = in->zi.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS;
        break;
    case ZYDIS_MNEMONIC_INT1:
        if (native_int1_itself()) /* SDM 3A, "Debug Exception": a trap, so RIP is the next instruction's */
            ig->why = "a hypervisor below the host says the address of INT1 itself";
        break;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        if (operand_dword(in, s, 0) & 1 << 17)
            ig->why = "AMD has MXCSR bit 17 (misaligned SSE)";
        break;
    case ZYDIS_MNEMONIC_MOVSXD:
        if (in->op[0].size == 16 && in->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY)
            ig->why = "with 66H AMD reads four bytes, Intel two";
        break;
    case ZYDIS_MNEMONIC_NOP:
        if (in->zi.opcode_map == ZYDIS_OPCODE_MAP_0F && in->zi.opcode == 0x0d)
            ig->why = "0F 0D with a register is #UD on AMD, a NOP on Intel";
        break;
    default:
        break;
    }
}

void ignore_for(const struct form *f, const struct insn *in, const struct isa_state *before,
                struct ignore *ig)
{
    (void)f;
    memset(ig, 0, sizeof(*ig));
    ig->flags = undefined_flags(in, before);
    if (in->zi.fpu_flags)
        for (unsigned i = 0; i < 4; i++)
            if (in->zi.fpu_flags->undefined & 1u << i)
                ig->fsw |= (uint16_t)(i == 3 ? 1 << 14 : 0x100 << i);
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        if (shift_count(in, before) > in->op[0].size)
            ig->why = "a count above the operand's size leaves the result undefined";
        break;
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
        ig->memory_x87 = true;
        break;
    default:
        break;
    }
    vendor_differences(in, before, ig);
    ignore_x87(in, before, ig);
    ignore_vector(in, operand_address, before, ig);
}

/* -- Equal? -------------------------------------------------------------------------------------------- */

static bool differ(char *text, size_t n, const char *what, uint64_t a, uint64_t b)
{
    snprintf(text, n, "%s: host %#llx, droste %#llx", what, (unsigned long long)a, (unsigned long long)b);
    return false;
}

bool states_equal(const struct isa_state *a, const struct isa_state *b, const struct ignore *ig, char *text,
                  size_t n)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    char what[32];
    if (a->vector >= 0 && b->vector >= 0 && ig->fault_order)
        return true;
    if (a->vector >= 0 && b->vector == VECTOR_NONE && ig->host_may_fault)
        return true;
    if (a->vector != b->vector)
        return snprintf(text, n, "exception: host %d, droste %d", a->vector, b->vector), false;
    if (a->rip != b->rip)
        return differ(text, n, "rip", a->rip, b->rip);
    for (unsigned i = 0; i < 16; i++)
        if (a->r[i] != b->r[i])
            return differ(text, n, names[i], a->r[i], b->r[i]);
    uint64_t mask = COMPARED_FLAGS & ~(a->vector == VECTOR_NONE ? ig->flags : 0);
    if ((a->rflags ^ b->rflags) & mask)
        return differ(text, n, "rflags", a->rflags & mask, b->rflags & mask);
    /* The host's kernel changes the error code of addresses in its own half. */
    bool kernel_half = a->vector == EXC_PF && a->cr2 >= 0x7ffffffff000ull;
    if (!kernel_half && a->error != b->error)
        return differ(text, n, "error code", a->error, b->error);
    if (ig->fault_page ? a->cr2 - b->cr2 + 512 > 1024 : a->cr2 != b->cr2)
        return differ(text, n, "cr2", a->cr2, b->cr2);
    uint32_t mxcsr_mask = a->vector == EXC_XM ? ~ig->mxcsr_fault : ~0u;
    if ((a->mxcsr ^ b->mxcsr) & mxcsr_mask)
        return differ(text, n, "mxcsr", a->mxcsr, b->mxcsr);
    if (!vectors_equal(a, b, ig, text, n))
        return false;
    if (a->fcw != b->fcw)
        return differ(text, n, "fcw", a->fcw, b->fcw);
    uint16_t fsw_mask = (uint16_t)~ig->fsw;
    if ((a->fsw ^ b->fsw) & fsw_mask)
        return differ(text, n, "fsw", a->fsw & fsw_mask, b->fsw & fsw_mask);
    if (a->ftw != b->ftw)
        return differ(text, n, "ftw", a->ftw, b->ftw);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(a->st[i], b->st[i], 10) && !(i < 2 && x87_nearly_equal(a->st[i], b->st[i], ig))) {
            snprintf(what, sizeof(what), "st%u%s", i, memcmp(a->st[i], b->st[i], 8) ? "" : " exponent");
            unsigned at = memcmp(a->st[i], b->st[i], 8) ? 0 : 8;
            return differ(text, n, what, load_le(a->st[i] + at, at ? 2 : 8),
                          load_le(b->st[i] + at, at ? 2 : 8));
        }
    return true;
}

/* Bytes of FNSAVE's, FNSTENV's and FXSAVE's image that name the last instruction and its operand. */
static bool is_pointer_byte(const struct insn *in, int64_t offset)
{
    if (in->zi.mnemonic == ZYDIS_MNEMONIC_FXSAVE || in->zi.mnemonic == ZYDIS_MNEMONIC_FXSAVE64)
        return (offset >= 6 && offset < 24) || (offset >= 28 && offset < 32);
    return in->zi.operand_width == 16 ? offset >= 6 && offset < 14 : offset >= 12 && offset < 28;
}

bool memory_equal(const struct ignore *ig, const struct insn *in, const struct isa_state *before, char *text,
                  size_t n)
{
    for (unsigned k = 0; k < REGION_COUNT; k++) {
        const struct region *g = &regions[k];
        if (k == REGION_RO || !memcmp(g->native, g->guest, g->size))
            continue;
        uint64_t operand = ig->memory_x87 ? operand_address(in, before) : 0;
        for (unsigned i = 0; i < g->size; i++) {
            if (g->native[i] == g->guest[i])
                continue;
            if (ig->memory_x87 && is_pointer_byte(in, (int64_t)(g->base + i - operand)))
                continue;
            snprintf(text, n, "memory %#llx: host %02x, droste %02x", (unsigned long long)g->base + i,
                     g->native[i], g->guest[i]);
            return false;
        }
    }
    return true;
}

/* -- For people ---------------------------------------------------------------------------------------- */

void insn_print(const struct insn *in, char *text, size_t n)
{
    ZydisFormatter formatter;
    char asm_text[96] = "?";
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterFormatInstruction(&formatter, &in->zi, in->op, in->zi.operand_count_visible, asm_text,
                                    sizeof(asm_text), in->at, ZYAN_NULL);
    int at = snprintf(text, n, "%#llx: ", (unsigned long long)in->at);
    for (unsigned i = 0; i < in->length; i++)
        at += snprintf(text + at, n - (size_t)at, "%02x", in->bytes[i]);
    snprintf(text + at, n - (size_t)at, "  %s", asm_text);
}

static void print_row(const char *name, uint64_t before, uint64_t a, uint64_t b)
{
    printf("  %-8s %016llx  %016llx  %016llx%s\n", name, (unsigned long long)before, (unsigned long long)a,
           (unsigned long long)b, a == b ? "" : "  <--");
}

void states_print(const struct isa_state *before, const struct isa_state *a, const struct isa_state *b)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    char name[32];
    printf("  %-8s %-16s  %-16s  %-16s\n", "", "before", "host", "droste");
    for (unsigned i = 0; i < 16; i++)
        print_row(names[i], before->r[i], a->r[i], b->r[i]);
    print_row("rip", before->rip, a->rip, b->rip);
    print_row("rflags", before->rflags, a->rflags & ~(uint64_t)FLAG_RF, b->rflags & ~(uint64_t)FLAG_RF);
    print_row("vector", 0, (uint64_t)(int64_t)a->vector, (uint64_t)(int64_t)b->vector);
    print_row("error", 0, a->error, b->error);
    print_row("cr2", 0, a->cr2, b->cr2);
    print_row("mxcsr", before->mxcsr, a->mxcsr, b->mxcsr);
    print_row("fcw", before->fcw, a->fcw, b->fcw);
    print_row("fsw", before->fsw, a->fsw, b->fsw);
    print_row("ftw", before->ftw, a->ftw, b->ftw);
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "st%u.e", i);
        print_row(name, load_le(before->st[i] + 8, 2), load_le(a->st[i] + 8, 2), load_le(b->st[i] + 8, 2));
        snprintf(name, sizeof(name), "st%u.m", i);
        print_row(name, load_le(before->st[i], 8), load_le(a->st[i], 8), load_le(b->st[i], 8));
    }
    for (unsigned i = 0; i < 64; i++) {
        const uint8_t(*x)[16] = i & 2 ? before->ymm_high : before->xmm;
        const uint8_t(*y)[16] = i & 2 ? a->ymm_high : a->xmm, (*z)[16] = i & 2 ? b->ymm_high : b->xmm;
        snprintf(name, sizeof(name), "ymm%u.%u", i / 4, i & 3);
        print_row(name, load_le(x[i / 4] + (i & 1) * 8, 8), load_le(y[i / 4] + (i & 1) * 8, 8),
                  load_le(z[i / 4] + (i & 1) * 8, 8));
    }
}
