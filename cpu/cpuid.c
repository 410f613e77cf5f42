/*
 * cpu/cpuid.c -- CPUID: feature bits from features.def, the other leaves from the model and the number of
 * processors.
 *
 * SDM 2A, "CPUID". The HYPERVISOR bit is 0, as on silicon. Leaves above the highest basic one give that one's
 * data. Frequencies (15H, 16H) are exactly those at which TSC and local APIC timer tick. One thread a core,
 * one package.
 */
#include "cpu/system.h"

#include <string.h>

enum { OUT_EAX, OUT_EBX, OUT_ECX, OUT_EDX };

#define BASIC_MAX    0x1fu
#define EXTENDED_MAX 0x80000008u

#define CRYSTAL_HZ 25000000u

static const struct {
    uint32_t leaf, subleaf;
    uint8_t reg, bit;
} feature_bits[FEAT_COUNT] = {
#define FEATURE(name, leaf, subleaf, reg, bit, def) {leaf, subleaf, OUT_##reg, bit},
#include "cpu/features.def"
#undef FEATURE
};

uint32_t cpuid_signature(const struct cpu_model *m)
{
    return (m->model >> 4) << 16 | m->family << 8 | (m->model & 15) << 4 | m->stepping;
}

static void add_features(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (feature_bits[f].leaf == leaf && feature_bits[f].subleaf == subleaf && cpu->model->has[f])
            out[feature_bits[f].reg] |= 1u << feature_bits[f].bit;
}

static void drop(uint32_t out[4], enum feature f)
{
    out[feature_bits[f].reg] &= ~(1u << feature_bits[f].bit);
}

/* Bits of an APIC ID that number the processors of the package. */
static unsigned id_bits(const struct cpu *cpu)
{
    unsigned bits = 0;
    while (1u << bits < cpu->cpu_count)
        bits++;
    return bits;
}

static void leaf_1(struct cpu *cpu, uint32_t out[4])
{
    unsigned logical = MIN(1u << id_bits(cpu), 255u);
    out[OUT_EAX] = cpuid_signature(cpu->model);
    out[OUT_EBX] = 8 << 8 | logical << 16 | cpu->id << 24;
    add_features(cpu, 1, 0, out);
    if (cpu->cpu_count == 1)
        drop(out, FEAT_HTT);
    if (!(cpu->msr.apic_base & BIT(11)))
        drop(out, FEAT_APIC);
    if (cpu->cr4 & CR4_OSXSAVE)
        out[OUT_ECX] |= 1u << 27;
    /* SDM 3A, "Determining the Signature": CPUID 1 loads the microcode revision into IA32_BIOS_SIGN_ID. */
    cpu->msr.bios_sign = cpu->msr.ucode_rev;
}

/* SDM 2A, "INPUT EAX = 04H": one row a cache. */
static const struct {
    uint8_t type, level, ways;
    uint32_t sets;
    bool shared; /* by all processors */
} caches[] = {
    {1, 1, 12, 64, false},   /* L1D 48 KB */
    {2, 1, 8, 64, false},    /* L1I 32 KB */
    {3, 2, 20, 1024, false}, /* L2 1.25 MB */
    {3, 3, 12, 32768, true}, /* L3 24 MB */
};

static void leaf_4(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    if (subleaf >= ARRAY_LEN(caches))
        return;
    uint32_t ids = 1u << id_bits(cpu), sharing = caches[subleaf].shared ? ids : 1;
    out[OUT_EAX] = caches[subleaf].type | (uint32_t)caches[subleaf].level << 5 | 1u << 8 |
                   (sharing - 1) << 14 | MIN(ids - 1, 63u) << 26;
    out[OUT_EBX] = 63 | (caches[subleaf].ways - 1u) << 22;
    out[OUT_ECX] = caches[subleaf].sets - 1;
    out[OUT_EDX] = caches[subleaf].shared ? 4 : 0; /* complex indexing */
}

static void leaf_topology(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    enum { LEVEL_SMT = 1, LEVEL_CORE = 2 };
    out[OUT_ECX] = subleaf & 0xff;
    out[OUT_EDX] = cpu->id;
    if (subleaf == 0) {
        out[OUT_EBX] = 1;
        out[OUT_ECX] |= LEVEL_SMT << 8;
    } else if (subleaf == 1) {
        out[OUT_EAX] = id_bits(cpu);
        out[OUT_EBX] = cpu->cpu_count;
        out[OUT_ECX] |= LEVEL_CORE << 8;
    }
}

static void leaf_xsave(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    uint64_t supported = cpu_xcr0_supported(cpu);
    if (!cpu_has(cpu, FEAT_XSAVE))
        return;
    if (subleaf == 0) {
        out[OUT_EAX] = (uint32_t)supported;
        out[OUT_EBX] = xsave_size(cpu->xcr0, false);
        out[OUT_ECX] = xsave_size(supported, false);
    } else if (subleaf == 1) {
        add_features(cpu, 0xd, 1, out);
        out[OUT_EBX] = xsave_size(cpu->xcr0 | cpu->msr.xss, true);
    } else if (subleaf == 2 && (supported & 4)) {
        out[OUT_EAX] = 256;
        out[OUT_EBX] = 576;
    } else if (subleaf == 9 && (supported & BIT(9))) {
        out[OUT_EAX] = 8;
        out[OUT_EBX] = xsave_size(BIT(9), false) - 8;
    }
}

static void brand(const struct cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    memcpy(out, cpu->model->brand + (leaf - 0x80000002u) * 16, 16);
}

static void basic(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    switch (leaf) {
    case 0:
        out[OUT_EAX] = BASIC_MAX;
        memcpy(&out[OUT_EBX], "Genu", 4);
        memcpy(&out[OUT_EDX], "ineI", 4);
        memcpy(&out[OUT_ECX], "ntel", 4);
        break;
    case 1:
        leaf_1(cpu, out);
        break;
    case 2:
        /* TLBs and caches are those of leaves 4 and 18H. */
        out[OUT_EAX] = 0x00feff01;
        out[OUT_EBX] = 0xf0;
        break;
    case 4:
        leaf_4(cpu, subleaf, out);
        break;
    case 6:
        add_features(cpu, 6, 0, out);
        break;
    case 7:
        if (subleaf == 0)
            out[OUT_EAX] = 2;
        add_features(cpu, 7, subleaf, out);
        if (subleaf == 0 && (cpu->cr4 & CR4_PKE))
            out[OUT_ECX] |= 1u << 4; /* OSPKE */
        break;
    case 0xb:
    case 0x1f:
        leaf_topology(cpu, subleaf, out);
        break;
    case 0xd:
        leaf_xsave(cpu, subleaf, out);
        break;
    case 0x15:
        out[OUT_EAX] = 1;
        out[OUT_EBX] = (uint32_t)(CLOCK_HZ / CRYSTAL_HZ);
        out[OUT_ECX] = CRYSTAL_HZ;
        break;
    case 0x16:
        out[OUT_EAX] = out[OUT_EBX] = (uint32_t)(CLOCK_HZ / 1000000);
        out[OUT_ECX] = 100;
        break;
    default:
        /* 5 (no MONITOR), 0AH (version 0: no counters), and what is not there: zeros. */
        break;
    }
}

static void extended(struct cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    switch (leaf) {
    case 0x80000000:
        out[OUT_EAX] = EXTENDED_MAX;
        break;
    case 0x80000001:
        add_features(cpu, leaf, 0, out);
        /* SYSCALL is seen in 64-bit mode only. */
        if (!cpu_64bit(cpu))
            drop(out, FEAT_SYSCALL);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        brand(cpu, leaf, out);
        break;
    case 0x80000006:
        out[OUT_ECX] = 1280u << 16 | 7u << 12 | 64;
        break;
    case 0x80000007:
        add_features(cpu, leaf, 0, out);
        break;
    case 0x80000008:
        out[OUT_EAX] = cpu->model->maxphyaddr | (cpu_has(cpu, FEAT_LA57) ? 57u : 48u) << 8;
        add_features(cpu, leaf, 0, out);
        break;
    default:
        break;
    }
}

void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    memset(out, 0, 4 * sizeof(out[0]));
    if (leaf >= 0x80000000u && leaf <= EXTENDED_MAX)
        extended(cpu, leaf, out);
    else
        basic(cpu, MIN(leaf, BASIC_MAX), subleaf, out);
}
