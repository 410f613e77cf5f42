/*
 * cpu/jit/x87_live.c -- the guest's x87 registers into the host's and back.
 *
 * SDM 1, figure "Protected Mode x87 FPU State Image in Memory, 32-Bit Format": FRSTOR and FNSAVE, which leave
 * XMM registers alone. The control word in struct cpu is always right; FIP, FDP and FOP are only there. C
 * code sees the host's x87 as the ABI wants it: FNSAVE ends with an FNINIT.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

#include "cpu/lift/x87_op.h"

enum { IMAGE_CONTROL, IMAGE_STATUS, IMAGE_TAGS, IMAGE_WORDS = 7 };

struct image {
    uint32_t words[IMAGE_WORDS];
    uint8_t st[8][10];
};
_Static_assert(sizeof(struct image) == 108, "as FNSAVE writes it");

void jit_x87_spill(struct cpu *cpu)
{
    struct x87 *f = &cpu->x87;
    struct image image;
    __asm__ volatile("fnsave %0" : "=m"(image));
    f->fsw = (uint16_t)(image.words[IMAGE_STATUS] & ~(7u << 11));
    f->top = image.words[IMAGE_STATUS] >> 11 & 7;
    f->ftw = 0;
    for (unsigned i = 0; i < 8; i++) {
        if ((image.words[IMAGE_TAGS] >> (2 * i) & 3) != 3)
            f->ftw |= (uint8_t)(1u << i);
        memcpy(x87_st(f, i), image.st[i], 10);
    }
    cpu->x87_live = false;
}

bool jit_x87_load(struct cpu *cpu)
{
    struct x87 *f = &cpu->x87;
    if ((f->fcw & 0x3f) != 0x3f || (f->fsw & (FSW_ES | FSW_B)))
        return false;
    struct image image = {.words = {f->fcw, x87_status_word(f)}};
    for (unsigned i = 0; i < 8; i++) {
        /* Of tags that are not "empty" the processor makes its own. */
        if (!(f->ftw >> i & 1))
            image.words[IMAGE_TAGS] |= 3u << (2 * i);
        memcpy(image.st[i], x87_st(f, i), 10);
    }
    __asm__ volatile("frstor %0" : : "m"(image));
    cpu->x87_live = true;
    return true;
}

#endif
