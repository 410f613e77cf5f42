/* cpu/jit/stub_internal.h -- what the stub emitters share: slots and space of the cache. */
#ifndef CPU_JIT_STUB_INTERNAL_H
#define CPU_JIT_STUB_INTERNAL_H

#include "cpu/jit/stub.h"

#define STUB_X87_SLOTS (8 * 72)

void *stub_x87_slot(struct stub_cache *c, unsigned slot);
/* Copies n bytes of code into the cache and returns the executable address; NULL when full. */
void *stub_x87_add(struct stub_cache *c, unsigned slot, const uint8_t *code, unsigned n);

#endif
