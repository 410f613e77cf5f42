/* cpu/ir/interp.h -- the portable interpreter of micro-ops. */
#ifndef CPU_IR_INTERP_H
#define CPU_IR_INTERP_H

#include "cpu/exec.h"

/* Chooses the handler of each micro-op (struct uop.code) from its address mode, condition and the block key.
 */
void interp_prepare(struct uop *uops, uint32_t count, uint32_t key);

#endif
