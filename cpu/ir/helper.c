/*
 * cpu/ir/helper.c -- helper.def as an array, indexed by the number in a HELPER micro-op.
 */
#include "cpu/ir/helper.h"

const struct helper_info helper_info[HELPER_COUNT + 1] = {
#define HELPER(name, flags) [HELPER_##name] = {helper_##name, #name, (flags)},
#include "cpu/ir/helper.def"
#undef HELPER
};
