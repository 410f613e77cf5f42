/*
 * cpu/dump.c -- a block as people read it: guest instructions, micro-ops, host code (-d in_asm,op,out_asm).
 *
 * Reads guest memory without side effects and writes to the trace's output, or where the caller says, only.
 */
#include <Zydis/Zydis.h>
#include <string.h>
#include "base/trace.h"
#include "cpu/exec.h"

static ZydisMachineMode mode_of(uint32_t key)
{
    return key & KEY_L   ? ZYDIS_MACHINE_MODE_LONG_64
           : key & KEY_D ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                         : ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
}

static void disassemble(FILE *out, ZydisMachineMode mode, uint64_t address, const uint8_t *bytes, size_t n)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    char text[160];
    ZydisDecoderInit(&decoder, mode,
                     mode == ZYDIS_MACHINE_MODE_LONG_64          ? ZYDIS_STACK_WIDTH_64
                     : mode == ZYDIS_MACHINE_MODE_LONG_COMPAT_32 ? ZYDIS_STACK_WIDTH_32
                                                                 : ZYDIS_STACK_WIDTH_16);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (size_t at = 0; at < n;) {
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes + at, n - at, &insn, operands))) {
            fprintf(out, "  %016llx  db 0x%02x\n", (unsigned long long)(address + at), bytes[at]);
            at++;
            continue;
        }
        if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &insn, operands,
                                                          insn.operand_count_visible, text, sizeof(text),
                                                          address + at, NULL)))
            strcpy(text, "?");
        fprintf(out, "  %016llx  %s\n", (unsigned long long)(address + at), text);
        at += insn.length;
    }
}

void dump_block(struct cpu *cpu, const struct block *b, uint64_t rip)
{
    FILE *out = cpu->trace->out;
    trace_in_asm(cpu->trace, b->gpa, b->key);
    if (out && trace_on(cpu->trace, TRACE_in_asm)) {
        gva_t linear = rip + (b->key & KEY_L ? 0 : cpu->seg[SEG_CS].base);
        for (unsigned i = 0; i < b->insn_count; i++) {
            uint8_t bytes[16];
            uint64_t further = b->insns[i].offset - (uint64_t)b->insns[0].offset;
            if (cpu_peek(cpu, linear + further, bytes, b->insns[i].length))
                disassemble(out, mode_of(b->key), rip + further, bytes, b->insns[i].length);
        }
    }
    trace_op(cpu->trace, b->gpa, b->key);
    if (out && trace_on(cpu->trace, TRACE_op))
        for (unsigned i = 0; i < b->uop_count; i++) {
            char text[160];
            ir_print(&b->uops[i], text, sizeof(text));
            fprintf(out, "  %2u  %s\n", b->uops[i].insn, text);
        }
}

void dump_guest_code(FILE *out, uint32_t key, uint64_t rip, const uint8_t *bytes, size_t n)
{
    disassemble(out, mode_of(key), rip, bytes, n);
}

void dump_host_code(struct cpu *cpu, const struct block *b, const uint8_t *code, size_t size)
{
    trace_out_asm(cpu->trace, b->gpa, b->key, size);
    if (cpu->trace->out)
        disassemble(cpu->trace->out, ZYDIS_MACHINE_MODE_LONG_64, (uintptr_t)code, code, size);
}
