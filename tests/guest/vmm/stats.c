/*
 * vmm/stats.c -- exits by reason, printed when the VM ends.
 *
 * Two lines: what came out to kvmm, and what KVM itself counted (it handles
 * most exits alone; its counters come through KVM_GET_STATS_FD).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvmm.h"

struct reason {
    unsigned number;
    const char *name;
};

static const struct reason reasons[] = {
    {KVM_EXIT_MMIO, "mmio"},
    {KVM_EXIT_HLT, "hlt"},
    {KVM_EXIT_INTR, "intr"},
    {KVM_EXIT_SHUTDOWN, "shutdown"},
    {KVM_EXIT_SYSTEM_EVENT, "system-event"},
    {KVM_EXIT_FAIL_ENTRY, "fail-entry"},
    {KVM_EXIT_INTERNAL_ERROR, "internal-error"},
};

/* KVM's counters of a processor that are worth a line. */
static const char *const kvm_names[] = {
    "exits",        "io_exits", "mmio_exits", "halt_exits",     "irq_exits",
    "signal_exits", "pf_taken", "hypercalls", "irq_injections", "irq_window_exits",
};
#define KVM_NAMES (sizeof(kvm_names) / sizeof(kvm_names[0]))

static uint64_t total_of(const struct vm *vm, unsigned reason)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < vm->options.cpu_count; i++)
        total += vm->vcpu[i].exits[reason];
    return total;
}

/* Adds a processor's counters to TOTALS; false where this KVM has none. */
static bool add_kvm_counters(const struct vcpu *vcpu, uint64_t totals[KVM_NAMES])
{
    struct kvm_stats_header header;
    struct kvm_stats_desc *descriptor;
    size_t size;
    bool found = false;
    int fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL);

    if (fd < 0)
        return false;
    if (pread(fd, &header, sizeof(header), 0) != sizeof(header)) {
        close(fd);
        return false;
    }
    size = sizeof(*descriptor) + header.name_size;
    descriptor = malloc(size);
    for (uint32_t i = 0; descriptor && i < header.num_desc; i++) {
        uint64_t value;

        if (pread(fd, descriptor, size, header.desc_offset + (off_t)(i * size)) != (ssize_t)size)
            break;
        if (descriptor->size != 1)
            continue; /* a histogram */
        for (unsigned k = 0; k < KVM_NAMES; k++) {
            if (strncmp(descriptor->name, kvm_names[k], header.name_size))
                continue;
            if (pread(fd, &value, sizeof(value), (off_t)header.data_offset + descriptor->offset) ==
                sizeof(value)) {
                totals[k] += value;
                found = true;
            }
        }
    }
    free(descriptor);
    close(fd);
    return found;
}

void stats_print(const struct vm *vm)
{
    uint64_t io = total_of(vm, KVM_EXIT_IO), serial = 0, sum = 0, kvm[KVM_NAMES] = {0};
    bool found = false;

    for (unsigned i = 0; i < vm->options.cpu_count; i++)
        serial += vm->vcpu[i].exits_serial;
    for (unsigned reason = 0; reason < KVMM_EXIT_REASONS; reason++)
        sum += total_of(vm, reason);

    fprintf(stderr, "kvmm: exits to user space: %llu: io %llu (serial %llu)", (unsigned long long)sum,
            (unsigned long long)io, (unsigned long long)serial);
    for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        fprintf(stderr, ", %s %llu", reasons[i].name, (unsigned long long)total_of(vm, reasons[i].number));
    fprintf(stderr, "; %llu bytes sent\n", (unsigned long long)vm->uart.sent);

    for (unsigned i = 0; i < vm->options.cpu_count; i++)
        found |= add_kvm_counters(&vm->vcpu[i], kvm);
    if (!found)
        return;
    fputs("kvmm: counted by KVM:", stderr);
    for (unsigned k = 0; k < KVM_NAMES; k++)
        fprintf(stderr, "%s %s %llu", k ? "," : "", kvm_names[k], (unsigned long long)kvm[k]);
    fputc('\n', stderr);
}
