/*
 * tests/unit/test_lift.c -- golden: instruction bytes to printed micro-ops, in each mode, by family.
 *
 * The text is the meaning of the instruction as cpu/ir/uop.def spells it; each was read against the SDM's
 * page of the instruction. "page" is REG_PAGE; every instruction starts at offset 100H of its page.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/lift/lift.h"

enum {
    LONG = KEY_L | KEY_PE | KEY_PG | KEY_FLAT | KEY_OSFXSR,
    FLAT32 = KEY_D | KEY_SS_B | KEY_PE | KEY_FLAT | KEY_OSFXSR,
    SEG32 = KEY_D | KEY_SS_B | KEY_PE,
    REAL = 0,
};

struct golden {
    uint32_t key;
    const char *bytes;
    enum lift_result result; /* of the last instruction */
    const char *uops;
};

static const struct golden plain[] = {
    {LONG, "48 01 d8", LIFT_OK, "add.8 rax, rax, rbx"},
    {LONG, "01 d8", LIFT_OK, "add.4 rax, rax, rbx"},
    {LONG, "00 e3", LIFT_OK, "exth t0, rax; add.1 rbx, rbx, t0"},
    {LONG, "02 23", LIFT_OK, "exth t0, rax; load.1 t1, ds:a64[rbx]; add.1 t0, t0, t1; insh rax, t0"},
    {LONG, "83 45 10 f0", LIFT_OK,
     "loadw.4 t0, ss:a64[rbp + 0x10]; addi.4 t0, t0, -0x10; store.4 t0, ss:a64[rbp + 0x10]"},
    {LONG, "f0 48 0f c1 14 0b", LIFT_OK,
     "loadw.8 t0, ds:a64[rbx + rcx*1] lock; add.8 t2, t0, rdx; store.8 t2, ds:a64[rbx + rcx*1] lock; "
     "mov.8 rdx, t0"},
    {LONG, "31 c0", LIFT_OK, "xor.4 rax, rax, rax"},
    {LONG, "48 8b 05 10 00 00 00", LIFT_OK, "load.8 rax, ds:a64[page + 0x117]"},
    {LONG, "64 48 8b 04 25 28 00 00 00", LIFT_OK, "load.8 rax, fs!:a64[zero + 0x28]"},
    {LONG, "2e 8b 00", LIFT_OK, "load.4 rax, ds:a64[rax]"},
    {LONG, "26 8b 04 24", LIFT_OK, "load.4 rax, ss:a64[rsp]"},
    {LONG, "67 8b 00", LIFT_OK, "load.4 rax, ds:a32[rax]"},
    {LONG, "67 8b 44 8b fc", LIFT_OK, "load.4 rax, ds:a32[rbx + rcx*4 - 0x4]"},
    {LONG, "48 a1 88 77 66 55 44 33 22 11", LIFT_OK, "movi.8 t7, 0x1122334455667788; load.8 rax, ds:a64[t7]"},
    {LONG, "67 a1 88 77 66 f5", LIFT_OK, "load.4 rax, ds:a32[zero - 0xa998878]"},
    {LONG, "48 8b 05 ff ff ff 7f", LIFT_OK, "addi_nf.8 t7, page, 0x80000106; load.8 rax, ds:a64[t7]"},
    {LONG, "55", LIFT_OK, "push.8 rbp"},
    {LONG, "66 55", LIFT_OK, "push.2 rbp"},
    {LONG, "54", LIFT_OK, "push.8 rsp"},
    {LONG, "5c", LIFT_OK, "pop.8 rsp"},
    {LONG, "6a ff", LIFT_OK, "pushi.8 -0x1"},
    {LONG, "66 6a ff", LIFT_OK, "pushi.2 -0x1"},
    {LONG, "68 00 00 00 80", LIFT_OK, "pushi.8 -0x80000000"},
    {LONG, "8f 44 24 08", LIFT_OK,
     "load.8 t0, ss:a64[rsp]; addi_nf.8 t1, rsp, 0x8; store.8 t0, ss:a64[t1 + 0x8]; "
     "addi_nf.8 rsp, rsp, 0x8"},
    {LONG, "ff 74 24 08", LIFT_OK, "load.8 t0, ss:a64[rsp + 0x8]; push.8 t0"},
    {LONG, "c9", LIFT_OK, "load.8 t0, ss:a64[rbp]; addi_nf.8 rsp, rbp, 0x8; mov.8 rbp, t0"},
    {LONG, "c3", LIFT_END, "load.8 t0, ss:a64[rsp]; checkt.8 t0; addi_nf.8 rsp, rsp, 0x8; jmpr.8 t0"},
    {LONG, "c2 08 00", LIFT_END, "load.8 t0, ss:a64[rsp]; checkt.8 t0; addi_nf.8 rsp, rsp, 0x10; jmpr.8 t0"},
    {LONG, "66 c3", LIFT_END, "load.8 t0, ss:a64[rsp]; checkt.8 t0; addi_nf.8 rsp, rsp, 0x8; jmpr.8 t0"},
    {LONG, "e8 00 01 00 00", LIFT_END, "addi_nf.8 t0, page, 0x105; push.8 t0; jmp.8 0x205"},
    {LONG, "e8 00 10 00 00", LIFT_END,
     "addi_nf.8 t0, page, 0x1105; checkt.8 t0; addi_nf.8 t0, page, 0x105; push.8 t0; jmp.8 0x1105"},
    {LONG, "66 e8 00 10 00 00", LIFT_END,
     "addi_nf.8 t0, page, 0x1106; checkt.8 t0; addi_nf.8 t0, page, 0x106; push.8 t0; jmp.8 0x1106"},
    {LONG, "ff d0", LIFT_END, "checkt.8 rax; addi_nf.8 t0, page, 0x102; push.8 t0; jmpr.8 rax"},
    {LONG, "ff 14 24", LIFT_END,
     "load.8 t0, ss:a64[rsp]; checkt.8 t0; addi_nf.8 t1, page, 0x103; push.8 t1; jmpr.8 t0"},
    {LONG, "66 ff 10", LIFT_END,
     "load.8 t0, ds:a64[rax]; checkt.8 t0; addi_nf.8 t1, page, 0x103; push.8 t1; jmpr.8 t0"},
    {LONG, "ff d4", LIFT_END, "mov.8 t0, rsp; checkt.8 t0; addi_nf.8 t1, page, 0x102; push.8 t1; jmpr.8 t0"},
    {LONG, "eb fe", LIFT_END, "jmp.8 0x100"},
    {LONG, "74 fe", LIFT_END, "jcc.8 z -> 0x100 else 0x102"},
    {LONG, "0f 84 00 01 00 00", LIFT_END, "jcc.8 z -> 0x206 else 0x106"},
    {LONG, "e3 05", LIFT_END, "jzr.8 rcx -> 0x107 else 0x102"},
    {LONG, "67 e3 05", LIFT_END, "jzr.8 rcx -> 0x108 else 0x103"},
    {LONG, "e2 05", LIFT_END, "subi_nf.8 rcx, rcx, 0x1; jnzr.8 rcx -> 0x107 else 0x102"},
    {LONG, "67 e1 05", LIFT_END, "subi_nf.4 rcx, rcx, 0x1; loopcc.8 rcx, z -> 0x108 else 0x103"},
    {LONG, "f3 a4", LIFT_END, "helper.1 string_movs d=zero a=zero b=zero c=zero am=0x38 imm=0 aux2=0x1"},
    {LONG, "f2 a4", LIFT_END, "helper.1 string_movs d=zero a=zero b=zero c=zero am=0x38 imm=0 aux2=0x1"},
    {LONG, "f3 48 a5", LIFT_END, "helper.8 string_movs d=zero a=zero b=zero c=zero am=0x38 imm=0 aux2=0x1"},
    {LONG, "a5", LIFT_END, "helper.4 string_movs d=zero a=zero b=zero c=zero am=0x38 imm=0 aux2=0"},
    {LONG, "65 ac", LIFT_END, "helper.1 string_lods d=zero a=zero b=zero c=zero am=0xd8 imm=0 aux2=0"},
    {LONG, "f2 ae", LIFT_END, "helper.1 string_scas d=zero a=zero b=zero c=zero am=0x8 imm=0 aux2=0x2"},
    {LONG, "f3 a7", LIFT_END, "helper.4 string_cmps d=zero a=zero b=zero c=zero am=0x38 imm=0 aux2=0x1"},
    {LONG, "66 ab", LIFT_END, "helper.2 string_stos d=zero a=zero b=zero c=zero am=0x8 imm=0 aux2=0"},
    {LONG, "0f b6 c4", LIFT_OK, "exth t0, rax; movzx8.4 rax, t0"},
    {LONG, "0f b6 43 01", LIFT_OK, "loadzx8.4 rax, ds:a64[rbx + 0x1]"},
    {LONG, "66 0f b6 c3", LIFT_OK, "movzx8.2 rax, rbx"},
    {LONG, "66 0f b7 c3", LIFT_OK, "mov.2 rax, rbx"},
    {LONG, "48 0f be c3", LIFT_OK, "movsx8.8 rax, rbx"},
    {LONG, "48 63 c3", LIFT_OK, "movsx32.8 rax, rbx"},
    {LONG, "63 03", LIFT_OK, "load.4 rax, ds:a64[rbx]"},
    {LONG, "48 63 03", LIFT_OK, "loadsx32.8 rax, ds:a64[rbx]"},
    {LONG, "0f 44 c1", LIFT_OK, "cmov.4 rax, rcx, z"},
    {LONG, "48 0f 44 03", LIFT_OK, "load.8 t0, ds:a64[rbx]; cmov.8 rax, t0, z"},
    {LONG, "0f 94 c4", LIFT_OK, "setcc t0, z; insh rax, t0"},
    {LONG, "0f 94 03", LIFT_OK, "setcc t0, z; store.1 t0, ds:a64[rbx]"},
    {LONG, "87 03", LIFT_OK, "loadw.4 t0, ds:a64[rbx] lock; store.4 rax, ds:a64[rbx] lock; mov.4 rax, t0"},
    {LONG, "86 e0", LIFT_OK, "exth t1, rax; mov.8 t2, rax; mov.8 t3, t1; mov.1 rax, t3; insh rax, t2"},
    {LONG, "90", LIFT_OK, ""},
    {LONG, "87 c0", LIFT_OK, "xchg.4 rax, rax"},
    {LONG, "93", LIFT_OK, "xchg.4 rbx, rax"},
    {LONG, "0f c8", LIFT_OK, "bswap.4 rax"},
    {LONG, "66 0f c8", LIFT_OK, "movi.2 rax, 0x0"},
    {LONG, "48 0f c8", LIFT_OK, "bswap.8 rax"},
    {LONG, "0f 38 f0 03", LIFT_OK, "load.4 t0, ds:a64[rbx]; mov.4 t1, t0; bswap.4 t1; mov.4 rax, t1"},
    {LONG, "66 0f 38 f1 03", LIFT_OK, "exth t1, rax; insh t1, rax; store.2 t1, ds:a64[rbx]"},
    {LONG, "d7", LIFT_OK, "movzx8.8 t0, rax; load.1 rax, ds:a64[rbx + t0*1]"},
    {LONG, "98", LIFT_OK, "movsx16.4 rax, rax"},
    {LONG, "48 98", LIFT_OK, "movsx32.8 rax, rax"},
    {LONG, "66 99", LIFT_OK, "sign.2 rdx, rax"},
    {LONG, "f0 0f b1 0b", LIFT_OK,
     "loadw.4 t0, ds:a64[rbx] lock; mov.8 t1, rax; mov.4 t1, t0; cmp.4 rax, t0; "
     "cmov.8 t0, rcx, z; store.4 t0, ds:a64[rbx] lock; cmov.8 rax, t1, nz"},
    {LONG, "0f b0 cb", LIFT_OK,
     "mov.8 t1, rax; mov.1 t1, rbx; mov.8 t2, rbx; mov.1 t2, rcx; "
     "cmp.1 rax, rbx; cmov.8 rbx, t2, z; cmov.8 rax, t1, nz"},
    {LONG, "48 0f c7 0b", LIFT_OK,
     "lea.8 t0, ds:a64[rbx]; helper.8 cmpxchg16b d=zero a=t0 b=zero c=zero am=0x38 imm=0 aux2=0"},
    {LONG, "f0 0f c7 0b", LIFT_OK,
     "lea.8 t6, ds:a64[rbx]; loadw.8 t0, ds:a64[t6] lock; helper.8 cmpxchg8b d=t1 a=t0 b=zero c=zero am=0 "
     "imm=0 aux2=0; "
     "store.8 t1, ds:a64[t6] lock"},
    {LONG, "0f a3 0b", LIFT_OK,
     "movsx32.8 t5, rcx; sari_nf.8 t5, t5, 0x5; lea.8 t6, ds:a64[rbx]; load.4 t0, ds:a64[t6 + t5*4]; "
     "bt.4 t0, rcx"},
    {LONG, "66 0f ab 0b", LIFT_OK,
     "movsx16.8 t5, rcx; sari_nf.8 t5, t5, 0x4; lea.8 t6, ds:a64[rbx]; "
     "loadw.2 t0, ds:a64[t6 + t5*2]; bts.2 t0, t0, rcx; store.2 t0, ds:a64[t6 + t5*2]"},
    {LONG, "f0 48 0f b3 0b", LIFT_OK,
     "mov.8 t5, rcx; sari_nf.8 t5, t5, 0x6; lea.8 t6, ds:a64[rbx]; "
     "loadw.8 t0, ds:a64[t6 + t5*8] lock; btr.8 t0, t0, rcx; store.8 t0, ds:a64[t6 + t5*8] lock"},
    {LONG, "0f ba 23 05", LIFT_OK, "load.4 t0, ds:a64[rbx]; bti.4 t0, 0x5"},
    {LONG, "48 0f ba e8 45", LIFT_OK, "btsi.8 rax, rax, 0x5"},
    {LONG, "0f bc c1", LIFT_OK, "bsf.4 rax, rcx"},
    {LONG, "f3 0f bc c1", LIFT_OK, "tzcnt.4 rax, rcx"},
    {LONG, "f3 0f bd c1", LIFT_OK, "lzcnt.4 rax, rcx"},
    {LONG, "f3 0f b8 c1", LIFT_OK, "popcnt.4 rax, rcx"},
    {LONG, "c4 e2 70 f2 03", LIFT_OK, "load.4 t1, ds:a64[rbx]; andn.4 rax, rcx, t1"},
    {LONG, "c4 e2 f3 f6 c3", LIFT_OK, "mulx.8 rax, rbx, zero, rcx"},
    {LONG, "c4 e3 7b f0 c3 25", LIFT_OK, "rorx.4 rax, rbx, 0x5"},
    {LONG, "c4 e2 73 f7 c3", LIFT_OK, "shrx.4 rax, rbx, rcx"},
    {LONG, "c4 e2 70 f7 c3", LIFT_OK, "bextr.4 rax, rbx, rcx"},
    {LONG, "66 48 0f 38 f6 c3", LIFT_OK, "adcx.8 rax, rax, rbx"},
    {LONG, "f2 0f 38 f0 c3", LIFT_OK, "crc32.1 rax, rax, rbx"},
    {LONG, "f2 48 0f 38 f1 c3", LIFT_OK, "crc32.8 rax, rax, rbx"},
    {LONG, "9f", LIFT_OK, "getf t0; insh rax, t0"},
    {LONG, "9e", LIFT_OK, "exth t0, rax; setf t0, 0xd5"},
    {LONG, "d1 e0", LIFT_OK, "shli.4 rax, rax, 0x1"},
    {LONG, "c1 e0 00", LIFT_OK, "mov.4 rax, rax"},
    {LONG, "c0 23 21", LIFT_OK, "loadw.1 t0, ds:a64[rbx]; shli.1 t0, t0, 0x1; store.1 t0, ds:a64[rbx]"},
    {LONG, "d3 f8", LIFT_OK, "sar.4 rax, rax, rcx"},
    {LONG, "d2 e4", LIFT_OK, "exth t0, rax; shl.1 t0, t0, rcx; insh rax, t0"},
    {LONG, "48 0f a4 d8 05", LIFT_OK, "shldi.8 rax, rax, rbx, 0x5"},
    {LONG, "0f ad d8", LIFT_OK, "shrd.4 rax, rax, rbx, rcx"},
    {LONG, "f6 e4", LIFT_OK, "exth t0, rax; mul.1 t0"},
    {LONG, "f7 fb", LIFT_OK, "idiv.4 rbx"},
    {LONG, "48 0f af c3", LIFT_OK, "imul2.8 rax, rax, rbx"},
    {LONG, "6b c3 fe", LIFT_OK, "imuli.4 rax, rbx, -0x2"},
    {LONG, "48 69 03 00 00 00 80", LIFT_OK, "load.8 t0, ds:a64[rbx]; imuli.8 rax, t0, -0x80000000"},
    {LONG, "f7 1b", LIFT_OK, "loadw.4 t0, ds:a64[rbx]; neg.4 t0, t0; store.4 t0, ds:a64[rbx]"},
    {LONG, "f6 d4", LIFT_OK, "exth t0, rax; not.1 t0, t0; insh rax, t0"},
    {LONG, "fe cc", LIFT_OK, "exth t0, rax; dec.1 t0, t0; insh rax, t0"},
    {LONG, "48 ff c3", LIFT_OK, "inc.8 rbx, rbx"},
    {LONG, "0f 0b", LIFT_END, "raise 0x6"},
    {LONG, "0f ff c0", LIFT_END, "raise 0x6"},
    {LONG, "0f b9 c0", LIFT_END, "raise 0x6"},
    {LONG, "f0 01 d8", LIFT_END, "raise 0x6"},
    {LONG, "f0 90", LIFT_END, "raise 0x6"},
    {LONG, "f0 8b 03", LIFT_END, "raise 0x6"},
    {LONG, "0f ae 3b", LIFT_OK, "load.1 t0, ds:a64[rbx]"},
    {LONG, "66 0f ae 3b", LIFT_OK, "load.1 t0, ds:a64[rbx]"},
    {LONG, "66 0f ae 33", LIFT_OK, "load.1 t0, ds:a64[rbx]"},
    {LONG, "0f 18 03", LIFT_OK, ""},
    {LONG, "f3 0f 1e fa", LIFT_OK, ""},
    {LONG, "0f 1f 44 00 00", LIFT_OK, ""},
    {LONG, "0f ae e8", LIFT_OK, ""},
    {LONG, "48 0f c3 03", LIFT_OK, "store.8 rax, ds:a64[rbx]"},
    {LONG, "c7 03 ff ff ff ff", LIFT_OK, "storei.4 ds:a64[rbx], -0x1"},
    {LONG, "c6 c4 05", LIFT_OK, "movi.8 t0, 0x5; insh rax, t0"},
    {LONG, "48 b8 11 22 33 44 55 66 77 88", LIFT_OK, "movi.8 rax, -0x778899aabbccddef"},
    {LONG, "48 c7 c0 ff ff ff ff", LIFT_OK, "movi.8 rax, -0x1"},
    {LONG, "8d 44 8b 01", LIFT_OK, "lea.4 rax, ds:a64[rbx + rcx*4 + 0x1]"},
    {LONG, "67 8d 44 8b 01", LIFT_OK, "lea.4 rax, ds:a32[rbx + rcx*4 + 0x1]"},
    {LONG, "48 8d 05 00 00 00 00", LIFT_OK, "lea.8 rax, ds:a64[page + 0x107]"},
    {LONG, "66 8d 03", LIFT_OK, "lea.2 rax, ds:a64[rbx]"},
    {LONG, "0f c4", LIFT_TRUNCATED, ""},
    {LONG, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", LIFT_END, "raise 0x10d"},
    {LONG, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", LIFT_END, "raise 0x10d"},
    {LONG, "66 66 66 66", LIFT_TRUNCATED, ""},
    {LONG, "d6", LIFT_END, "raise 0x6"},
    {FLAT32, "60", LIFT_OK, "helper.4 pusha d=zero a=zero b=zero c=zero am=0x24 imm=0 aux2=0"},
    {FLAT32, "61", LIFT_OK, "helper.4 popa d=zero a=zero b=zero c=zero am=0x24 imm=0 aux2=0"},
    {FLAT32, "66 60", LIFT_OK, "helper.2 pusha d=zero a=zero b=zero c=zero am=0x24 imm=0 aux2=0"},
    {FLAT32, "c8 10 00 01", LIFT_OK, "helper.4 enter d=zero a=zero b=zero c=zero am=0x24 imm=0x10 aux2=0x1"},
    {FLAT32, "62 03", LIFT_OK,
     "load.4 t0, ds:a32[rbx]; load.4 t1, ds:a32[rbx + 0x4]; "
     "helper.4 bound d=zero a=rax b=t0 c=t1 am=0 imm=0 aux2=0"},
    {FLAT32, "d6", LIFT_OK, "setcc t0, b; sub_nf.1 rax, zero, t0"},
    {FLAT32, "27", LIFT_OK, "helper.1 daa d=zero a=zero b=zero c=zero am=0 imm=0 aux2=0"},
    {FLAT32, "d4 00", LIFT_END, "raise 0x0"},
    {FLAT32, "d4 0a", LIFT_OK, "helper.1 aam d=zero a=zero b=zero c=zero am=0 imm=0xa aux2=0"},
    {FLAT32, "d5 0a", LIFT_OK, "helper.1 aad d=zero a=zero b=zero c=zero am=0 imm=0xa aux2=0"},
    {FLAT32, "c3", LIFT_END, "load.4 t0, ss:a32[rsp]; checkt.4 t0; addi_nf.4 rsp, rsp, 0x4; jmpr.4 t0"},
    {FLAT32, "e8 00 00 00 00", LIFT_END, "addi_nf.8 t0, page, 0x105; push.4 t0; jmp.4 0x105"},
    {FLAT32, "66 e8 00 00", LIFT_END, "addi_nf.8 t0, page, 0x104; push.2 t0; jmp.2 0x104"},
    {FLAT32, "50", LIFT_OK, "push.4 rax"},
    {FLAT32, "66 50", LIFT_OK, "push.2 rax"},
    {FLAT32, "8f 04 24", LIFT_OK,
     "load.4 t0, ss:a32[rsp]; addi_nf.8 t1, rsp, 0x4; store.4 t0, ss:a32[t1]; addi_nf.4 rsp, rsp, 0x4"},
    {FLAT32, "40", LIFT_OK, "inc.4 rax, rax"},
    {FLAT32, "a4", LIFT_END, "helper.1 string_movs d=zero a=zero b=zero c=zero am=0x34 imm=0 aux2=0"},
    {FLAT32, "f3 ab", LIFT_END, "helper.4 string_stos d=zero a=zero b=zero c=zero am=0x4 imm=0 aux2=0x1"},
    {FLAT32, "8b 44 24 04", LIFT_OK, "load.4 rax, ss:a32[rsp + 0x4]"},
    {FLAT32, "65 a1 14 00 00 00", LIFT_OK, "load.4 rax, gs!:a32[zero + 0x14]"},
    {FLAT32, "67 8b 40 05", LIFT_OK, "load.4 rax, ds:a16[rbx + rsi*1 + 0x5]"},
    {SEG32, "8b 44 24 04", LIFT_OK, "load.4 rax, ss!:a32[rsp + 0x4]"},
    {SEG32, "26 8b 07", LIFT_OK, "load.4 rax, es!:a32[rdi]"},
    {SEG32, "c3", LIFT_END, "load.4 t0, ss!:a32[rsp]; checkt.4 t0; addi_nf.4 rsp, rsp, 0x4; jmpr.4 t0"},
    {SEG32, "aa", LIFT_END, "helper.1 string_stos d=zero a=zero b=zero c=zero am=0x84 imm=0 aux2=0"},
    {SEG32, "e8 00 00 00 00", LIFT_END,
     "addi_nf.8 t0, page, 0x105; checkt.4 t0; addi_nf.8 t0, page, 0x105; push.4 t0; jmp.4 0x105"},
    {REAL, "89 d8", LIFT_OK, "mov.2 rax, rbx"},
    {REAL, "8b 00", LIFT_OK, "load.2 rax, ds!:a16[rbx + rsi*1]"},
    {REAL, "66 8b 40 01", LIFT_OK, "load.4 rax, ds!:a16[rbx + rsi*1 + 0x1]"},
    {REAL, "67 66 8b 04 58", LIFT_OK, "load.4 rax, ds!:a32[rax + rbx*2]"},
    {REAL, "c3", LIFT_END, "load.2 t0, ss!:a16[rsp]; checkt.2 t0; addi_nf.2 rsp, rsp, 0x2; jmpr.2 t0"},
    {REAL, "e9 fe ff", LIFT_END, "jmp.2 0x101"},
    {REAL, "66 e9 00 00 00 00", LIFT_END, "jmp.4 0x106"},
    {REAL, "60", LIFT_OK, "helper.2 pusha d=zero a=zero b=zero c=zero am=0xa0 imm=0 aux2=0"},
    {REAL, "74 02", LIFT_END, "jcc.2 z -> 0x104 else 0x102"},
    {REAL, "e2 fe", LIFT_END, "subi_nf.2 rcx, rcx, 0x1; jnzr.2 rcx -> 0x100 else 0x102"},
    {REAL, "c4 e2 70 f2 03", LIFT_END, "raise 0x6"},
    {LONG, "66 63 c3", LIFT_OK, "mov.2 rax, rbx"},
    {LONG, "66 63 03", LIFT_OK, "load.2 rax, ds:a64[rbx]"},
    {LONG, "63 c3", LIFT_OK, "mov.4 rax, rbx"},
    {LONG, "f2 e8 00 00 00 00", LIFT_END, "addi_nf.8 t0, page, 0x106; push.8 t0; jmp.8 0x106"},
    {LONG, "f3 c3", LIFT_END, "load.8 t0, ss:a64[rsp]; checkt.8 t0; addi_nf.8 rsp, rsp, 0x8; jmpr.8 t0"},
    {LONG, "41 90", LIFT_OK, "xchg.4 r8, rax"},
    {LONG, "8f 04 24", LIFT_OK,
     "load.8 t0, ss:a64[rsp]; addi_nf.8 t1, rsp, 0x8; store.8 t0, ss:a64[t1]; addi_nf.8 rsp, rsp, 0x8"},
    {LONG, "48 e8 00 00 00 00", LIFT_END, "addi_nf.8 t0, page, 0x106; push.8 t0; jmp.8 0x106"},
    {LONG, "36 48 8b 03", LIFT_OK, "load.8 rax, ds:a64[rbx]"},
    {LONG, "3e 8b 45 00", LIFT_OK, "load.4 rax, ss:a64[rbp]"},
    {LONG, "65 48 8b 5c 24 08", LIFT_OK, "load.8 rbx, gs!:a64[rsp + 0x8]"},
    {LONG, "f3 48 0f 1e c8", LIFT_OK, ""},
    {LONG, "0f 1a 00", LIFT_OK, ""},
    {LONG, "0f 1c 00", LIFT_OK, ""},
    {LONG, "66 0f 1f 84 00 00 00 00 00", LIFT_OK, ""},
    {LONG, "f3 0f bd 03", LIFT_OK, "load.4 t0, ds:a64[rbx]; lzcnt.4 rax, t0"},
    {LONG, "6a 05", LIFT_OK, "pushi.8 0x5"},
    {LONG, "e9 fb 0f 00 00", LIFT_END, "jmp.8 0x1100"},
    {LONG, "0f b9 03", LIFT_END, "raise 0x6"},
    {LONG, "f0 48 87 03", LIFT_OK,
     "loadw.8 t0, ds:a64[rbx] lock; store.8 rax, ds:a64[rbx] lock; mov.8 rax, t0"},
    {LONG, "f2 f0 48 87 03", LIFT_OK,
     "loadw.8 t0, ds:a64[rbx] lock; store.8 rax, ds:a64[rbx] lock; mov.8 rax, t0"},
    {LONG, "f0 48 0f c7 c8", LIFT_END, "raise 0x6"},
    {LONG, "f0 87 c0", LIFT_END, "raise 0x6"},
    {LONG, "0f c7 08", LIFT_OK,
     "lea.8 t6, ds:a64[rax]; loadw.8 t0, ds:a64[t6]; helper.8 cmpxchg8b d=t1 a=t0 b=zero c=zero am=0 imm=0 "
     "aux2=0; "
     "store.8 t1, ds:a64[t6]"},
    {LONG, "c6 f8 00", LIFT_END, "raise 0x6"},
    {LONG, "0f 0d c0", LIFT_OK, ""},
    {LONG, "0f 0d 0b", LIFT_OK, ""},
    {LONG, "f2 a5", LIFT_END, "helper.4 string_movs d=zero a=zero b=zero c=zero am=0x38 imm=0 aux2=0x1"},
    {FLAT32, "8d c0", LIFT_END, "raise 0x6"},
    {FLAT32, "c4 e2 70 f2 03", LIFT_OK, "load.4 t1, ds:a32[rbx]; andn.4 rax, rcx, t1"},
    {FLAT32, "69 c3 00 00 00 80", LIFT_OK, "imuli.4 rax, rbx, -0x80000000"},
    {REAL, "67 8b 04 24", LIFT_OK, "load.2 rax, ss!:a32[rsp]"},
    {REAL, "67 e2 00", LIFT_END, "subi_nf.4 rcx, rcx, 0x1; jnzr.2 rcx -> 0x103 else 0x103"},
    {REAL, "66 c9", LIFT_OK, "load.4 t0, ss!:a16[rbp]; addi_nf.2 rsp, rbp, 0x4; mov.4 rbp, t0"},
    {REAL, "66 68 00 00 00 80", LIFT_OK, "pushi.4 -0x80000000"},
    {REAL, "6a 80", LIFT_OK, "pushi.2 -0x80"},
};

/* Several instructions, optimised: compare-and-jump is fused, dead flags are dropped, and not too many of
 * them. */
static const struct golden optimised[] = {
    {LONG, "39 d8 74 05", LIFT_END, "cmpjcc.4 rax, rbx, z -> 0x109 else 0x104"},
    {LONG, "48 83 f8 10 7e f0", LIFT_END, "cmpijcc.8 rax, le -> 0xf6 vs 0x10 else 0x106"},
    {LONG, "85 c0 75 02", LIFT_END, "testjcc.4 rax, rax, nz -> 0x106 else 0x104"},
    {LONG, "83 3b 05 75 02", LIFT_END,
     "load.4 t0, ds:a64[rbx]; cmpi.4 t0, 0x5; jcc.8 nz -> 0x107 else 0x105"},
    {LONG, "01 d8 31 c9 29 d1", LIFT_OK,
     "add_nf.4 rax, rax, rbx; xor_nf.4 rcx, rcx, rcx; sub.4 rcx, rcx, rdx"},
    {LONG, "48 ff c0 48 83 c1 05", LIFT_OK, "addi_nf.8 rax, rax, 0x1; addi.8 rcx, rcx, 0x5"},
    {LONG, "01 d8 8b 03 31 c9", LIFT_OK, "add.4 rax, rax, rbx; load.4 rax, ds:a64[rbx]; xor.4 rcx, rcx, rcx"},
    {LONG, "03 03 39 c9", LIFT_OK, "load.4 t0, ds:a64[rbx]; add.4 rax, rax, t0; cmp.4 rcx, rcx"},
};

static struct ir ir;
static struct cpu_model model;

static unsigned parse(const char *text, uint8_t *bytes)
{
    unsigned n = 0;
    char *end;
    for (const char *p = text;; p = end) {
        unsigned long v = strtoul(p, &end, 16);
        if (end == p)
            return n;
        bytes[n++] = (uint8_t)v;
    }
}

static enum lift_result lift_all(struct lift *l, const uint8_t *bytes, unsigned n)
{
    enum lift_result r = LIFT_OK;
    ir_reset(&ir);
    for (unsigned at = 0; at < n && r == LIFT_OK;) {
        uint32_t before = l->offset;
        r = lift_insn(l, bytes + at, n - at);
        at += l->offset - before;
    }
    return r;
}

static void text_of_ir(char *text, size_t n)
{
    size_t at = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < ir.uop_count && at < n; i++) {
        at += (size_t)snprintf(text + at, n - at, "%s", i ? "; " : "");
        at += (size_t)ir_print(&ir.uops[i], text + at, n - at);
    }
}

static void check(const struct golden *g, unsigned count, bool optimise)
{
    memset(model.has, true, sizeof(model.has));
    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[64];
        char text[2048], reason[256];
        struct lift l = {.ir = &ir, .key = g[i].key, .model = &model, .offset = 0x100};
        unsigned n = parse(g[i].bytes, bytes);
        enum lift_result r = lift_all(&l, bytes, n);
        if (optimise)
            ir_optimise(&ir);
        text_of_ir(text, sizeof(text));
        cr_expect_str_eq(text, g[i].uops, "%s: got %s", g[i].bytes, text);
        cr_expect_eq(r, g[i].result, "%s: result %d", g[i].bytes, r);
        cr_expect(ir_verify(&ir, reason, sizeof(reason)), "%s: %s", g[i].bytes, reason);
    }
}

Test(lift, golden)
{
    check(plain, ARRAY_LEN(plain), false);
}

Test(lift, golden_optimised)
{
    check(optimised, ARRAY_LEN(optimised), true);
}

Test(lift, instruction_boundaries)
{
    static const uint8_t bytes[] = {0x90, 0x39, 0xd8, 0x74, 0x05};
    struct lift l = {.ir = &ir, .key = LONG, .model = &model, .offset = 0xff0};
    cr_assert_eq(lift_all(&l, bytes, sizeof(bytes)), LIFT_END);
    ir_optimise(&ir);
    cr_assert_eq(ir.insn_count, 3);
    cr_expect_eq(ir.insns[0].offset, 0xff0);
    cr_expect_eq(ir.insns[1].offset, 0xff1);
    cr_expect_eq(ir.insns[1].length, 2);
    cr_expect_eq(ir.insns[2].offset, 0xff3);
    /* NOP has no micro-op, the comparison went into the jump. */
    cr_assert_eq(ir.uop_count, 1);
    cr_expect_eq(ir.insns[2].first, 0);
    cr_expect_eq(ir.uops[0].insn, 2);
}

/* SDM 2A, "Instruction Format": more than 15 bytes is #GP(0); less than a whole instruction asks for more. */
Test(lift, length_limits)
{
    uint8_t bytes[15];
    memset(bytes, 0x66, sizeof(bytes));
    for (unsigned n = 0; n < 15; n++) {
        struct lift l = {.ir = &ir, .key = LONG, .model = &model};
        ir_reset(&ir);
        cr_expect_eq(lift_insn(&l, bytes, n), LIFT_TRUNCATED);
        cr_expect_eq(ir.insn_count, 0);
        cr_expect_eq(l.offset, 0);
    }
}

Test(lift, missing_feature_is_ud)
{
    static const uint8_t movbe[] = {0x0f, 0x38, 0xf0, 0x03}, tzcnt[] = {0xf3, 0x0f, 0xbc, 0xc1};
    struct cpu_model none = {0};
    struct lift l = {.ir = &ir, .key = LONG, .model = &none};
    cr_expect_eq(lift_all(&l, movbe, sizeof(movbe)), LIFT_END);
    cr_expect_eq(ir.uops[0].op, UOP_RAISE);
    cr_expect_eq(ir.uops[0].imm, EXC_UD);
    cr_expect_eq(lift_all(&l, tzcnt, sizeof(tzcnt)), LIFT_OK);
    cr_expect_eq(ir.uops[0].op, UOP_BSF);
}

/* A full list of micro-ops is reported, never overrun. */
Test(lift, overflow)
{
    static const uint8_t add[] = {0x01, 0xd8};
    struct lift l = {.ir = &ir, .key = LONG, .model = &model};
    ir_reset(&ir);
    ir.uop_count = IR_UOPS_MAX;
    lift_insn(&l, add, sizeof(add));
    cr_expect(ir.overflow);
    cr_expect_eq(ir.uop_count, IR_UOPS_MAX);
    ir_reset(&ir);
    ir.insn_count = IR_INSNS_MAX;
    lift_insn(&l, add, sizeof(add));
    cr_expect(ir.overflow);
    cr_expect_eq(ir.insn_count, IR_INSNS_MAX);
}

static uint64_t random_state = 0x9e3779b97f4a7c15ull;
static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Random bytes in every mode: whatever is lifted obeys uop.def, before and after the optimiser. */
Test(lift, random_bytes_verify)
{
    static const uint32_t keys[] = {LONG, FLAT32, SEG32, REAL, LONG | 3 << KEY_CPL_SHIFT, KEY_PE | KEY_FLAT};
    memset(model.has, true, sizeof(model.has));
    /* Without stubs only the families that need none are lifted. */
    model.has[FEAT_MMX] = model.has[FEAT_SSE] = model.has[FEAT_SSE2] = model.has[FEAT_SSE3] = false;
    model.has[FEAT_SSSE3] = model.has[FEAT_SSE4_1] = model.has[FEAT_FPU] = false;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t bytes[16];
        char reason[256], hex[48] = "";
        for (unsigned i = 0; i < 16; i += 8) {
            uint64_t v = random_next();
            memcpy(bytes + i, &v, 8);
        }
        struct lift l = {.ir = &ir, .key = keys[round % ARRAY_LEN(keys)], .model = &model, .offset = 0x800};
        lift_all(&l, bytes, sizeof(bytes));
        for (unsigned i = 0; i < 16; i++)
            snprintf(hex + i * 2, 3, "%02x", bytes[i]);
        cr_assert(ir_verify(&ir, reason, sizeof(reason)), "%s: %s", hex, reason);
        ir_optimise(&ir);
        cr_assert(ir_verify(&ir, reason, sizeof(reason)), "%s optimised: %s", hex, reason);
    }
}
