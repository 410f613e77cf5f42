/*
 * cpu/cpuid.c -- CPUID: feature bits from features.def, the rest by leaf.
 *
 * SDM 2A, "CPUID--CPU Identification". The values fit each other: the TSC is 25 MHz times 40 (15H), the base frequency
 * says the same (16H), topology has one core a processor.
 */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/system.h"

enum { EAX, EBX, ECX, EDX };

#define MAX_BASIC    0x1fu
#define MAX_EXTENDED 0x80000008u

static const struct {
    uint32_t leaf, subleaf;
    uint8_t reg, bit;
} feature_bits[FEAT_COUNT] = {
#define FEATURE(name, leaf, subleaf, reg, bit, def) [FEAT_##name] = {leaf, subleaf, reg, bit},
#include "cpu/features.def"
#undef FEATURE
};

static void add_features(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    for (unsigned i = 0; i < FEAT_COUNT; i++)
        if (cpu->model->has[i] && feature_bits[i].leaf == leaf && feature_bits[i].subleaf == subleaf)
            out[feature_bits[i].reg] |= 1u << feature_bits[i].bit;
}

/* Family, model, stepping as leaf 1 and IA32_PLATFORM_ID's users want them. */
uint32_t cpuid_signature(const struct cpu_model *m)
{
    return (m->model >> 4) << 16 | m->family << 8 | (m->model & 15) << 4 | m->stepping;
}

static unsigned log2_ceil(uint32_t n)
{
    unsigned shift = 0;
    while ((1u << shift) < n)
        shift++;
    return shift;
}

static void put(uint32_t out[4], uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    out[EAX] = a;
    out[EBX] = b;
    out[ECX] = c;
    out[EDX] = d;
}

static void leaf_1(const struct cpu *cpu, uint32_t out[4])
{
    /* CLFLUSH line of 8 quadwords; logical processors in the package; initial APIC ID. */
    uint32_t logical = 1u << log2_ceil(cpu->cpu_count);
    put(out, cpuid_signature(cpu->model), cpu->id << 24 | MIN(logical, 255u) << 16 | 8 << 8, 0, 0);
    add_features(cpu, 1, 0, out);
    if (cpu->cpu_count == 1)
        out[EDX] &= ~(1u << 28); /* HTT says that EBX[23:16] counts */
    if (cpu->cr4 & CR4_OSXSAVE)
        out[ECX] |= 1u << 27;
    if (!(cpu->msr.apic_base & BIT(11)))
        out[EDX] &= ~(1u << 9);
}

/* Deterministic cache parameters: level, type, KB, ways. One core shares L1 and L2 with nobody, L3 with the package. */
static void leaf_4(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    static const struct {
        uint8_t type, level;
        uint16_t ways;
        uint32_t kb;
    } caches[] = {{1, 1, 12, 48}, {2, 1, 8, 32}, {3, 2, 20, 1280}, {3, 3, 12, 49152}};
    put(out, 0, 0, 0, 0);
    if (subleaf >= ARRAY_LEN(caches))
        return;
    uint32_t shared = caches[subleaf].level == 3 ? (1u << log2_ceil(cpu->cpu_count)) - 1 : 0;
    uint32_t cores = (1u << log2_ceil(cpu->cpu_count)) - 1;
    uint32_t sets = caches[subleaf].kb * 1024 / 64 / caches[subleaf].ways;
    put(out, caches[subleaf].type | caches[subleaf].level << 5 | 1 << 8 | shared << 14 | MIN(cores, 63u) << 26,
        63 | (caches[subleaf].ways - 1u) << 22, sets - 1, caches[subleaf].level == 3 ? 4 : 0);
}

static void leaf_0b(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    unsigned shift = log2_ceil(cpu->cpu_count);
    put(out, 0, 0, subleaf & 0xff, cpu->id);
    if (subleaf == 0) {
        out[EBX] = 1;
        out[ECX] |= 1 << 8; /* SMT: one thread a core */
    } else if (subleaf == 1) {
        out[EAX] = shift;
        out[EBX] = cpu->cpu_count;
        out[ECX] |= 2 << 8; /* core */
    }
}

static void leaf_0d(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    uint64_t supported = cpu_xcr0_supported(cpu);
    put(out, 0, 0, 0, 0);
    if (!cpu_has(cpu, FEAT_XSAVE))
        return;
    if (subleaf == 0) {
        put(out, (uint32_t)supported, xsave_size(cpu->xcr0, false), xsave_size(supported, false),
            (uint32_t)(supported >> 32));
    } else if (subleaf == 1) {
        add_features(cpu, 13, 1, out);
        if (cpu_has(cpu, FEAT_XSAVEC))
            out[EBX] = xsave_size(cpu->xcr0 | cpu->msr.xss, true);
    } else if (subleaf == 2 && (supported & BIT(2))) {
        put(out, 256, 576, 0, 0); /* AVX: the upper halves of YMM0..15 */
    }
}

static void brand(const struct cpu *cpu, uint32_t part, uint32_t out[4])
{
    char text[48];
    memset(text, 0, sizeof(text));
    memcpy(text, cpu->model->brand, MIN(strlen(cpu->model->brand), sizeof(text) - 1));
    memcpy(out, text + part * 16, 16);
}

static void basic(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    put(out, 0, 0, 0, 0);
    switch (leaf) {
    case 0:
        put(out, MAX_BASIC, 0x756e6547, 0x6c65746e, 0x49656e69); /* GenuineIntel */
        break;
    case 1:
        leaf_1(cpu, out);
        break;
    case 2:
        put(out, 0x00feff01, 0x000000f0, 0, 0); /* use leaf 4; 64-byte prefetch */
        break;
    case 4:
        leaf_4(cpu, subleaf, out);
        break;
    case 6:
        add_features(cpu, 6, 0, out);
        break;
    case 7:
        if (subleaf == 0)
            out[EAX] = 2;
        add_features(cpu, 7, subleaf, out);
        break;
    case 0x0b:
    case 0x1f:
        leaf_0b(cpu, subleaf, out);
        break;
    case 0x0d:
        leaf_0d(cpu, subleaf, out);
        break;
    case 0x15:
        put(out, 1, 40, 25000000, 0);
        break;
    case 0x16:
        put(out, 1000, 1000, 100, 0);
        break;
    default:
        break; /* 5 (no MONITOR), 9, 0AH (version 0: no performance counters), the rest: reserved */
    }
}

static void extended(struct cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    put(out, 0, 0, 0, 0);
    switch (leaf) {
    case 0x80000000:
        out[EAX] = MAX_EXTENDED;
        break;
    case 0x80000001:
        add_features(cpu, leaf, 0, out);
        if (!cpu_64bit(cpu))
            out[EDX] &= ~(1u << 11); /* SYSCALL: reported in 64-bit mode only */
        break;
    case 0x80000002: case 0x80000003: case 0x80000004:
        brand(cpu, leaf - 0x80000002, out);
        break;
    case 0x80000006:
        out[ECX] = 1280u << 16 | 7 << 12 | 64; /* L2: KB, associativity 16 and more, line */
        break;
    case 0x80000007:
        add_features(cpu, leaf, 0, out);
        break;
    case 0x80000008:
        out[EAX] = 48 << 8 | cpu->model->maxphyaddr;
        add_features(cpu, leaf, 0, out);
        break;
    default:
        break;
    }
}

void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    if (leaf >= 0x80000000 && leaf <= MAX_EXTENDED)
        extended(cpu, leaf, out);
    else /* beyond both ranges: the data of the highest basic leaf */
        basic(cpu, leaf > MAX_BASIC ? MAX_BASIC : leaf, subleaf, out);
}
