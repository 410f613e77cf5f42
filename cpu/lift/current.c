/*
 * cpu/lift/current.c -- the running instruction, decoded again from its bytes: VMX instruction information
 * and the like, which are too rare to be kept in blocks.
 */
#include "cpu/lift/lift.h"

bool cpu_decode_current(struct cpu *cpu, ZydisDecodedInstruction *zi, ZydisDecodedOperand *op)
{
    uint8_t bytes[15];
    cpu_sync(cpu);
    gva_t linear = cpu->rip;
    if (!(cpu->key & KEY_L))
        linear = (cpu->seg[SEG_CS].base + linear) & 0xffffffffull;
    unsigned length = MIN(cpu_insn_length(cpu), (unsigned)sizeof(bytes));
    if (length == 0)
        length = sizeof(bytes);
    if (!cpu_peek(cpu, linear, bytes, length))
        return false;
    return insn_decode(cpu->key, bytes, length, zi, op);
}
