/*
 * vmx/insn_info.c -- VM-exit instruction information, made by decoding the running instruction again.
 *
 * SDM 3C, "Information for VM Exits Due to Instruction Execution":
 *   1:0 scaling   6:3 register 1   9:7 address size   10 register, not memory   11 or 12:11 operand size
 *   17:15 segment   21:18 index (22: invalid)   26:23 base (27: invalid)   31:28 register 2, or 29:28 which
 * instruction Bits that a format does not define are 0. Watch:  -- Tests: tests/unit/test_vmx_intercept.c
 */
#include "cpu/vmx/internal.h"
#include "cpu/lift/lift.h"

static unsigned gpr(ZydisRegister r)
{
    bool high = false;
    return lift_gpr(r, &high) & 15;
}

static bool is_gpr(ZydisRegister r)
{
    ZydisRegisterClass c = ZydisRegisterGetClass(r);
    return c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64;
}

static unsigned segment_number(ZydisRegister r)
{
    switch (r) {
    case ZYDIS_REGISTER_ES:
        return 0;
    case ZYDIS_REGISTER_CS:
        return 1;
    case ZYDIS_REGISTER_SS:
        return 2;
    case ZYDIS_REGISTER_FS:
        return 4;
    case ZYDIS_REGISTER_GS:
        return 5;
    default:
        return 3;
    }
}

static uint32_t memory_info(const ZydisDecodedOperand *o)
{
    uint32_t info = 0;
    if (o->mem.index != ZYDIS_REGISTER_NONE && is_gpr(o->mem.index)) {
        info |= (uint32_t)__builtin_ctz(o->mem.scale ? o->mem.scale : 1);
        info |= gpr(o->mem.index) << 18;
    } else {
        info |= 1u << 22;
    }
    if (o->mem.base != ZYDIS_REGISTER_NONE && is_gpr(o->mem.base))
        info |= gpr(o->mem.base) << 23;
    else
        info |= 1u << 27;
    return info | segment_number(o->mem.segment) << 15;
}

static uint32_t address_size(const ZydisDecodedInstruction *zi)
{
    return (zi->address_width == 64 ? 2u : zi->address_width == 32 ? 1u : 0u) << 7;
}

/* Operand size as RDRAND and RDSEED have it: 0 16-bit, 1 32-bit, 2 64-bit. */
static uint32_t operand_size(const ZydisDecodedInstruction *zi)
{
    return (zi->operand_width == 64 ? 2u : zi->operand_width == 32 ? 1u : 0u) << 11;
}

/* Which register of a two-operand instruction is "register 1" and "register 2", and what bits 29:28 say. */
enum info_format { INFO_MEMORY, INFO_REG2, INFO_TABLE, INFO_LDTR_TR, INFO_VMREAD, INFO_RANDOM, INFO_STRING };
static const struct {
    uint16_t mnemonic;
    uint8_t format, identity;
} formats[] = {
    {ZYDIS_MNEMONIC_VMCLEAR, INFO_MEMORY, 0}, {ZYDIS_MNEMONIC_VMPTRLD, INFO_MEMORY, 0},
    {ZYDIS_MNEMONIC_VMPTRST, INFO_MEMORY, 0}, {ZYDIS_MNEMONIC_VMXON, INFO_MEMORY, 0},
    {ZYDIS_MNEMONIC_XSAVES, INFO_MEMORY, 0},  {ZYDIS_MNEMONIC_XSAVES64, INFO_MEMORY, 0},
    {ZYDIS_MNEMONIC_XRSTORS, INFO_MEMORY, 0}, {ZYDIS_MNEMONIC_XRSTORS64, INFO_MEMORY, 0},
    {ZYDIS_MNEMONIC_INVEPT, INFO_REG2, 0},    {ZYDIS_MNEMONIC_INVVPID, INFO_REG2, 0},
    {ZYDIS_MNEMONIC_INVPCID, INFO_REG2, 0},   {ZYDIS_MNEMONIC_SGDT, INFO_TABLE, 0},
    {ZYDIS_MNEMONIC_SIDT, INFO_TABLE, 1},     {ZYDIS_MNEMONIC_LGDT, INFO_TABLE, 2},
    {ZYDIS_MNEMONIC_LIDT, INFO_TABLE, 3},     {ZYDIS_MNEMONIC_SLDT, INFO_LDTR_TR, 0},
    {ZYDIS_MNEMONIC_STR, INFO_LDTR_TR, 1},    {ZYDIS_MNEMONIC_LLDT, INFO_LDTR_TR, 2},
    {ZYDIS_MNEMONIC_LTR, INFO_LDTR_TR, 3},    {ZYDIS_MNEMONIC_VMREAD, INFO_VMREAD, 1},
    {ZYDIS_MNEMONIC_VMWRITE, INFO_VMREAD, 0}, {ZYDIS_MNEMONIC_RDRAND, INFO_RANDOM, 0},
    {ZYDIS_MNEMONIC_RDSEED, INFO_RANDOM, 0},  {ZYDIS_MNEMONIC_INSB, INFO_STRING, 0},
    {ZYDIS_MNEMONIC_INSW, INFO_STRING, 0},    {ZYDIS_MNEMONIC_INSD, INFO_STRING, 0},
    {ZYDIS_MNEMONIC_OUTSB, INFO_STRING, 0},   {ZYDIS_MNEMONIC_OUTSW, INFO_STRING, 0},
    {ZYDIS_MNEMONIC_OUTSD, INFO_STRING, 0},
};

bool vmx_insn_operands(struct cpu *cpu, struct insn_operands *out)
{
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    memset(out, 0, sizeof(*out));
    if (!cpu_decode_current(cpu, &zi, op))
        return false;
    unsigned row = 0;
    while (row < ARRAY_LEN(formats) && formats[row].mnemonic != zi.mnemonic)
        row++;
    if (row == ARRAY_LEN(formats))
        return false;

    const ZydisDecodedOperand *memory = NULL, *reg = NULL;
    for (unsigned i = 0; i < zi.operand_count_visible; i++) {
        if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && !memory)
            memory = &op[i];
        else if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && !reg && is_gpr(op[i].reg.value))
            reg = &op[i];
    }
    if (memory) {
        out->info |= memory_info(memory) | address_size(&zi);
        if (memory->mem.disp.has_displacement)
            out->displacement = (uint64_t)memory->mem.disp.value;
        if (memory->mem.base == ZYDIS_REGISTER_RIP)
            out->displacement += cpu->rip + zi.length;
        else if (memory->mem.base == ZYDIS_REGISTER_EIP)
            out->displacement = (uint32_t)(out->displacement + cpu->rip + zi.length);
    }
    switch (formats[row].format) {
    case INFO_REG2:
        if (reg)
            out->info |= gpr(reg->reg.value) << 28;
        break;
    case INFO_TABLE:
        out->info |= (uint32_t)formats[row].identity << 28;
        out->info |= zi.operand_width == 16 ? 0 : 1u << 11;
        break;
    case INFO_LDTR_TR:
        out->info |= (uint32_t)formats[row].identity << 28;
        if (!memory && reg)
            out->info |= 1u << 10 | gpr(reg->reg.value) << 3;
        break;
    case INFO_VMREAD: {
        /* The register that holds the encoding is register 2; the other operand is memory or register 1. */
        const ZydisDecodedOperand *field = &op[formats[row].identity], *other = &op[!formats[row].identity];
        out->info |= gpr(field->reg.value) << 28;
        if (other->type == ZYDIS_OPERAND_TYPE_REGISTER)
            out->info |= 1u << 10 | gpr(other->reg.value) << 3;
        break;
    }
    case INFO_RANDOM:
        if (reg)
            out->info = gpr(reg->reg.value) << 3 | operand_size(&zi);
        break;
    default:
        break;
    }
    return true;
}

void vmx_exit_insn_operand(struct cpu *cpu, unsigned reason)
{
    struct insn_operands o;
    cpu_sync(cpu);
    if (vmx_insn_operands(cpu, &o))
        vmx_current(cpu)->exit_instruction_info = o.info;
    bool random = reason == EXIT_REASON_RDRAND || reason == EXIT_REASON_RDSEED;
    vmx_exit_insn(cpu, reason, random ? 0 : o.displacement);
}
