/*
 * cpu/lift/lift_vmx.c -- VMX instructions: operands for the helpers of cpu/vmx/instructions.c.
 *
 * SDM 3C, "VMX Instruction Reference". All checks, #UD included, are the helpers': they come in an order of
 * their own. Helper operands: a and am the memory operand, b the register with a field encoding or type, d
 * the other register, c 1 when VMREAD or VMWRITE has a memory operand.
 */
#include "cpu/lift/lift.h"
#include "cpu/lift/rows.h"

static void emit_plain(struct lift *l, enum helper_id id)
{
    lift_helper(l, id, 0);
}

static void emit_memory(struct lift *l, enum helper_id id, const ZydisDecodedOperand *memory,
                        const ZydisDecodedOperand *reg)
{
    bool high;
    uint8_t am = lift_ea(l, REG_T0, memory);
    struct uop *u = lift_helper(l, id, 0);
    u->a = REG_T0;
    u->am = am;
    u->c = 1;
    if (reg)
        u->b = (uint8_t)lift_gpr(reg->reg.value, &high);
}

static void emit_field(struct lift *l, enum helper_id id, const ZydisDecodedOperand *other,
                       const ZydisDecodedOperand *encoding)
{
    bool high;
    if (other->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        emit_memory(l, id, other, encoding);
        return;
    }
    struct uop *u = lift_helper(l, id, 0);
    u->a = REG_ZERO;
    u->c = 0;
    u->b = (uint8_t)lift_gpr(encoding->reg.value, &high);
    u->d = (uint8_t)lift_gpr(other->reg.value, &high);
}

void lift_vmxon(struct lift *l)
{
    emit_memory(l, HELPER_vmxon, &l->op[0], NULL);
}

void lift_vmxoff(struct lift *l)
{
    emit_plain(l, HELPER_vmxoff);
}

void lift_vmclear(struct lift *l)
{
    emit_memory(l, HELPER_vmclear, &l->op[0], NULL);
}

void lift_vmptrld(struct lift *l)
{
    emit_memory(l, HELPER_vmptrld, &l->op[0], NULL);
}

void lift_vmptrst(struct lift *l)
{
    emit_memory(l, HELPER_vmptrst, &l->op[0], NULL);
}

void lift_vmread(struct lift *l)
{
    emit_field(l, HELPER_vmread, &l->op[0], &l->op[1]);
}

void lift_vmwrite(struct lift *l)
{
    emit_field(l, HELPER_vmwrite, &l->op[1], &l->op[0]);
}

void lift_vmlaunch(struct lift *l)
{
    emit_plain(l, HELPER_vmlaunch);
}

void lift_vmresume(struct lift *l)
{
    emit_plain(l, HELPER_vmresume);
}

void lift_vmcall(struct lift *l)
{
    emit_plain(l, HELPER_vmcall);
}

void lift_invept(struct lift *l)
{
    emit_memory(l, HELPER_invept, &l->op[1], &l->op[0]);
}

void lift_invvpid(struct lift *l)
{
    emit_memory(l, HELPER_invvpid, &l->op[1], &l->op[0]);
}

void lift_vmfunc(struct lift *l)
{
    emit_plain(l, HELPER_vmfunc);
}
