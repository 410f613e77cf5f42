/*
 * cpu/jit/host_x86_64.c -- what the host's processor and operating system have of the features whose
 * instructions run as stubs.
 *
 * SDM 2A, "CPUID"; SDM 1, "Detection of Intel AVX Instructions". SSE4.2 and what is older is taken for
 * granted on an x86-64 host.
 */
#include <cpuid.h>

#include "cpu/jit/stub.h"

enum { CPUID_EBX, CPUID_ECX };

static const struct {
    enum feature feature;
    uint32_t leaf;
    uint8_t reg, bit;
    bool ymm; /* the operating system must keep the YMM registers */
} host_features[] = {
    {FEAT_PCLMULQDQ, 1, CPUID_ECX, 1, false}, {FEAT_FMA, 1, CPUID_ECX, 12, true},
    {FEAT_AES, 1, CPUID_ECX, 25, false},      {FEAT_AVX, 1, CPUID_ECX, 28, true},
    {FEAT_F16C, 1, CPUID_ECX, 29, true},      {FEAT_AVX2, 7, CPUID_EBX, 5, true},
    {FEAT_SHA, 7, CPUID_EBX, 29, false},      {FEAT_GFNI, 7, CPUID_ECX, 8, false},
    {FEAT_VAES, 7, CPUID_ECX, 9, true},       {FEAT_VPCLMULQDQ, 7, CPUID_ECX, 10, true},
};

static bool keeps_ymm(void)
{
    uint32_t eax, ebx, ecx, edx, low, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & 1u << 27)) /* OSXSAVE */
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}

bool stub_host_has(enum feature f)
{
    for (unsigned i = 0; i < ARRAY_LEN(host_features); i++) {
        if (host_features[i].feature != f)
            continue;
        uint32_t eax, ebx, ecx, edx;
        if (!__get_cpuid_count(host_features[i].leaf, 0, &eax, &ebx, &ecx, &edx))
            return false;
        uint32_t v = host_features[i].reg == CPUID_EBX ? ebx : ecx;
        return (v >> host_features[i].bit & 1) && (!host_features[i].ymm || keeps_ymm());
    }
    return true;
}
