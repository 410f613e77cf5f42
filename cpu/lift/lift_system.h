/*
 * cpu/lift/lift_system.h -- system forms of mnemonics whose rows belong to the integer and control families.
 *
 * Zydis has one mnemonic for near and far transfers and one MOV, PUSH and POP for general, segment, control
 * and debug registers; the integer lifters hand such forms over. Implemented in lift_system.c.
 */
#ifndef CPU_LIFT_LIFT_SYSTEM_H
#define CPU_LIFT_LIFT_SYSTEM_H

#include "cpu/lift/lift.h"

void lift_far_jmp(struct lift *l);      /* JMP ptr16:16/32, m16:16/32/64 */
void lift_far_call(struct lift *l);     /* CALL the same */
void lift_far_ret(struct lift *l);      /* RETF, RETF imm16 */
void lift_mov_segment(struct lift *l);  /* MOV to or from a segment register (op[0] or op[1]) */
void lift_mov_control(struct lift *l);  /* MOV to or from CR0..CR8 */
void lift_mov_debug(struct lift *l);    /* MOV to or from DR0..DR7 */
void lift_push_segment(struct lift *l); /* PUSH ES, CS, SS, DS, FS, GS */
void lift_pop_segment(struct lift *l);  /* POP ES, SS, DS, FS, GS */

#endif
