/*
 * vmm/cpuid.c -- what CPUID and a few MSRs tell the guest.
 *
 * All that KVM supports, with the leaves corrected that speak of one processor
 * among several: KVM leaves those as the host has them. The guest is one
 * package of N cores with one thread each, and a core's APIC ID is its index.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvmm.h"

#define CPUID_ENTRIES_MAX 256

#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID_1_ECX_HYPERVISOR   (1u << 31)
#define CPUID_1_EDX_HTT          (1u << 28)
#define CPUID_B_LEVEL_SMT        1u
#define CPUID_B_LEVEL_CORE       2u

#define MSR_IA32_MISC_ENABLE     0x1a0u
#define MISC_ENABLE_FAST_STRINGS 1ull
#define MSR_IA32_MTRR_DEF_TYPE   0x2ffu
#define MTRR_DEF_TYPE_ENABLED_WB 0x806ull

/* Bits of the APIC ID that number the cores. */
static unsigned core_id_bits(unsigned cpu_count)
{
    unsigned bits = 0;

    while (1u << bits < cpu_count)
        bits++;
    return bits;
}

/* Leaf 0BH/1FH of one processor, rewritten; returns the new entry count. */
static unsigned set_topology(struct kvm_cpuid_entry2 *entries, unsigned count, uint32_t leaf,
                             unsigned cpu_count, unsigned apic_id)
{
    unsigned kept = 0;
    bool present = false;

    for (unsigned i = 0; i < count; i++) {
        if (entries[i].function == leaf)
            present = true;
        else
            entries[kept++] = entries[i];
    }
    if (!present || kept + 3 > CPUID_ENTRIES_MAX)
        return kept;

    for (unsigned level = 0; level < 3; level++) {
        struct kvm_cpuid_entry2 *entry = &entries[kept++];

        memset(entry, 0, sizeof(*entry));
        entry->function = leaf;
        entry->index = level;
        entry->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entry->ecx = level;
        entry->edx = apic_id;
        if (level == 0) {
            entry->ebx = 1;
            entry->ecx |= CPUID_B_LEVEL_SMT << 8;
        } else if (level == 1) {
            entry->eax = core_id_bits(cpu_count);
            entry->ebx = cpu_count;
            entry->ecx |= CPUID_B_LEVEL_CORE << 8;
        }
    }
    return kept;
}

static void correct_entry(struct kvm_cpuid_entry2 *entry, const struct vcpu *vcpu)
{
    unsigned cpu_count = vcpu->vm->options.cpu_count;
    unsigned bits = core_id_bits(cpu_count);
    unsigned sharing, level;

    switch (entry->function) {
    case 0x1:
        entry->ebx = (entry->ebx & 0xffff) | cpu_count << 16 | vcpu->index << 24;
        entry->ecx |= CPUID_1_ECX_HYPERVISOR;
        /* KVM reports this one as a capability, not here. */
        if (ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
            entry->ecx |= CPUID_1_ECX_TSC_DEADLINE;
        if (cpu_count > 1)
            entry->edx |= CPUID_1_EDX_HTT;
        else
            entry->edx &= ~CPUID_1_EDX_HTT;
        break;
    case 0x4:
        if (!(entry->eax & 0x1f))
            break;
        /* The last level is shared by all cores, the others are a core's own. */
        level = entry->eax >> 5 & 7;
        sharing = level >= 3 ? (1u << bits) - 1 : 0;
        entry->eax = (entry->eax & 0x3fff) | sharing << 14 | ((1u << bits) - 1) << 26;
        break;
    case 0x80000008:
        entry->ecx = bits << 12 | (cpu_count - 1);
        break;
    case 0x8000001e:
        entry->eax = vcpu->index;
        entry->ebx = vcpu->index;
        entry->ecx = 0;
        break;
    }
}

void vcpu_set_cpuid(struct vcpu *vcpu)
{
    struct kvm_cpuid2 *cpuid;
    unsigned cpu_count = vcpu->vm->options.cpu_count;

    cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
    if (!cpuid)
        die("out of memory");
    cpuid->nent = CPUID_ENTRIES_MAX;
    if (ioctl(vcpu->vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
        die("KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));

    for (unsigned i = 0; i < cpuid->nent; i++)
        correct_entry(&cpuid->entries[i], vcpu);
    cpuid->nent = set_topology(cpuid->entries, cpuid->nent, 0xb, cpu_count, vcpu->index);
    cpuid->nent = set_topology(cpuid->entries, cpuid->nent, 0x1f, cpu_count, vcpu->index);

    if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
        die("processor %u: KVM_SET_CPUID2: %s", vcpu->index, strerror(errno));
    free(cpuid);
}

void vcpu_set_msrs(struct vcpu *vcpu)
{
    union {
        struct kvm_msrs header;
        uint8_t space[sizeof(struct kvm_msrs) + 2 * sizeof(struct kvm_msr_entry)];
    } list = {.header = {.nmsrs = 1}};
    struct kvm_msr_entry *entry = list.header.entries;

    /* What firmware leaves behind: Linux complains where it is missing. */
    entry[0].index = MSR_IA32_MISC_ENABLE;
    if (ioctl(vcpu->fd, KVM_GET_MSRS, &list) != 1)
        entry[0].data = 0;
    entry[0].data |= MISC_ENABLE_FAST_STRINGS;
    entry[1].index = MSR_IA32_MTRR_DEF_TYPE;
    entry[1].data = MTRR_DEF_TYPE_ENABLED_WB;
    list.header.nmsrs = 2;
    if (ioctl(vcpu->fd, KVM_SET_MSRS, &list) != 2)
        die("processor %u: KVM_SET_MSRS: %s", vcpu->index, strerror(errno));
}
