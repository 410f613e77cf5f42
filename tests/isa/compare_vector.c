/*
 * tests/isa/compare_vector.c -- XMM and YMM registers: what of them counts against the host's.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "isa.h"

static bool is_gather(const struct insn *in)
{
    return in->zi.meta.isa_set == ZYDIS_ISA_SET_AVX2GATHER;
}

void ignore_vector(const struct insn *in, ignore_address *address, const struct isa_state *s,
                   struct ignore *ig)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_VRCPPS:
    case ZYDIS_MNEMONIC_VRCPSS:
    case ZYDIS_MNEMONIC_VRSQRTPS:
    case ZYDIS_MNEMONIC_VRSQRTSS:
        ig->approximate = true;
        break;
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        /* SDM 2B: faults of bytes that are not selected are the implementation's choice; AMD raises them, and
         * has then already made TOP 0. */
        ig->host_may_fault = ig->fault_order = true;
        break;
    case ZYDIS_MNEMONIC_SHA1MSG1:
    case ZYDIS_MNEMONIC_SHA1MSG2:
    case ZYDIS_MNEMONIC_SHA1NEXTE:
    case ZYDIS_MNEMONIC_SHA1RNDS4:
    case ZYDIS_MNEMONIC_SHA256MSG1:
    case ZYDIS_MNEMONIC_SHA256MSG2:
    case ZYDIS_MNEMONIC_SHA256RNDS2:
        if (in->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY && (address(in, s) & 15))
            ig->why = "AMD does not ask for an aligned operand (SDM 2, \"Type 4\": #GP)";
        break;
    case ZYDIS_MNEMONIC_DPPD:
    case ZYDIS_MNEMONIC_DPPS:
    case ZYDIS_MNEMONIC_VDPPD:
    case ZYDIS_MNEMONIC_VDPPS:
        ig->mxcsr_fault |= 0x3f; /* which of its steps raised is not told by the flags */
        break;
    default:
        break;
    }
    if (is_gather(in)) {
        /* SDM 2C, "VPGATHERDD": mask elements become all ones or zeros, and what is above them zero, before
         * the first element; AMD does this at the end, so after a fault signs count only. */
        ig->mask_size = in->op[0].element_size / 8;
        ig->mask_count = in->op[0].size / in->op[0].element_size;
        ig->mask_register = (unsigned)(in->op[2].reg.value >= ZYDIS_REGISTER_YMM0
                                           ? in->op[2].reg.value - ZYDIS_REGISTER_YMM0
                                           : in->op[2].reg.value - ZYDIS_REGISTER_XMM0);
    }
}

/* SDM 2, RCPPS: relative error at most 1.5 * 2^-12, of both. */
static bool nearly_equal(const uint8_t *a, const uint8_t *b)
{
    for (unsigned i = 0; i < 16; i += 4) {
        float x, y;
        memcpy(&x, a + i, 4);
        memcpy(&y, b + i, 4);
        if (memcmp(a + i, b + i, 4) && !(fabsf(x - y) <= fabsf(x) * 0x1p-10f))
            return false;
    }
    return true;
}

static bool masks_equal(const uint8_t *a, const uint8_t *b, const struct ignore *ig)
{
    for (unsigned i = 0; i < ig->mask_count; i++)
        if ((a[(i + 1) * ig->mask_size - 1] ^ b[(i + 1) * ig->mask_size - 1]) & 0x80)
            return false;
    return true;
}

static void whole(const struct isa_state *s, unsigned i, uint8_t *v)
{
    memcpy(v, s->xmm[i], 16);
    memcpy(v + 16, s->ymm_high[i], 16);
}

bool vectors_equal(const struct isa_state *a, const struct isa_state *b, const struct ignore *ig, char *text,
                   size_t n)
{
    for (unsigned i = 0; i < 16; i++) {
        uint8_t x[32], y[32];
        whole(a, i, x);
        whole(b, i, y);
        if (!memcmp(x, y, 32) || (ig->approximate && nearly_equal(x, y) && nearly_equal(x + 16, y + 16)))
            continue;
        if (ig->mask_size && ig->mask_register == i && a->vector >= 0 && masks_equal(x, y, ig))
            continue;
        unsigned at = 0;
        while (!memcmp(x + at, y + at, 8) && at < 24)
            at += 8;
        snprintf(text, n, "ymm%u[%u]: host %#llx, droste %#llx", i, at / 8,
                 (unsigned long long)load_le(x + at, 8), (unsigned long long)load_le(y + at, 8));
        return false;
    }
    return true;
}
