/* cpu/ir/helper.h -- numbers and table of the helpers of helper.def. */
#ifndef CPU_IR_HELPER_H
#define CPU_IR_HELPER_H

#include "cpu/ir/uop.h"

struct cpu;
typedef void helper_fn(struct cpu *cpu, const struct uop *u);

enum helper_flags { H_END = 1, H_TIME = 2, H_NOFAULT = 4 };

enum helper_id {
#define HELPER(name, flags) HELPER_##name,
#include "cpu/ir/helper.def"
#undef HELPER
    HELPER_COUNT,
};

#define HELPER(name, flags) helper_fn helper_##name;
#include "cpu/ir/helper.def"
#undef HELPER

struct helper_info {
    helper_fn *fn;
    const char *name;
    uint8_t flags;
};
extern const struct helper_info helper_info[HELPER_COUNT + 1];

#endif
