/*
 * vmm/kvmm.h -- kvmm, a small virtual machine monitor on KVM.
 *
 * It runs one Linux bzImage: the processors, the interrupt controllers and the
 * timer are KVM's; memory, ACPI tables, a serial port and a handful of ports
 * are made here. It is what L1 runs to have an L2, so it uses /dev/kvm as
 * larger monitors do and nothing else of the host.
 *
 *   main.c   options, start, end
 *   vm.c     the VM, its memory and processors, the run loop
 *   cpuid.c  what CPUID and MSRs tell the guest
 *   boot.c   bzImage and initramfs into memory, the 64-bit boot protocol
 *   acpi.c   ACPI tables: how many processors, how to power off
 *   ports.c  I/O ports
 *   uart.c   the 16550 at port 3F8H
 *   stats.c  exits by reason, at the end
 */
#ifndef KVMM_H
#define KVMM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVMM_CPUS_MAX     64
#define KVMM_EXIT_REASONS 64 /* KVM_EXIT_* are below this */

/* Guest-physical layout below 1 MB. */
#define GUEST_GDT         0x500u
#define GUEST_BOOT_PARAMS 0x7000u
#define GUEST_PML4        0x9000u /* then the PDPT and four page directories */
#define GUEST_CMDLINE     0x20000u
#define GUEST_CMDLINE_MAX 0x10000u
#define GUEST_EBDA        0x9fc00u /* end of conventional memory */
#define GUEST_ACPI        0xe0000u
#define GUEST_ACPI_SIZE   0x10000u

/* RAM has a hole below 4 GB for the APICs and KVM's own pages. */
#define GUEST_LOW_MAX          0xc0000000ull
#define GUEST_HIGH_BASE        0x100000000ull
#define GUEST_KVM_IDENTITY_MAP 0xfffbc000ull
#define GUEST_KVM_TSS          0xfffbd000ull

#define KVMM_IRQ_SERIAL 4
#define KVMM_IRQ_SCI    9

/* kvmm's exit status, where the guest did not choose one through port F4H. */
#define KVMM_STATUS_POWEROFF     0
#define KVMM_STATUS_RESET        120
#define KVMM_STATUS_TRIPLE_FAULT 121
#define KVMM_STATUS_RUN_FAILED   122
#define KVMM_STATUS_HOST_ERROR   125

struct options {
    const char *kernel;
    const char *initrd; /* NULL: none */
    const char *append;
    uint64_t memory; /* bytes, a multiple of 4096 */
    unsigned cpu_count;
};

/* Where boot.c wants processor 0 to start. */
struct boot_entry {
    uint64_t rip;
    uint64_t rsi; /* boot_params */
};

struct uart {
    pthread_mutex_t lock;
    uint8_t ier, lcr, mcr, fcr, scr, dll, dlm;
    bool thre_pending; /* "transmitter empty" not yet read from IIR */
    bool irq_level;    /* what KVM was last told */
    uint8_t rx[256];   /* ring of received bytes */
    unsigned rx_head, rx_count;
    pthread_cond_t rx_space;
    uint64_t sent; /* bytes */
};

struct port_state {
    uint8_t rtc_index;
    uint8_t rtc_ram[128];
    uint16_t pm1_enable;
    uint32_t pci_address;
};

struct vcpu {
    struct vm *vm;
    unsigned index; /* and APIC ID */
    int fd;
    struct kvm_run *run;
    pthread_t thread;
    bool started;
    uint64_t exits[KVMM_EXIT_REASONS]; /* by KVM_EXIT_* */
    uint64_t exits_serial;             /* of KVM_EXIT_IO, those for the serial port */
};

struct vm {
    struct options options;
    int kvm_fd, fd;
    size_t run_size; /* bytes of struct kvm_run's mapping */
    uint8_t *ram;    /* low RAM, then what is above 4 GB */
    uint64_t low_size;
    struct vcpu vcpu[KVMM_CPUS_MAX];

    struct uart uart;
    pthread_mutex_t port_lock; /* of ports */
    struct port_state ports;

    pthread_mutex_t end_lock;
    pthread_cond_t end_cond;
    bool ended;
    int end_status;
    char end_reason[128];
};

/* main.c: a sentence on stderr, then exit status KVMM_STATUS_HOST_ERROR. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* vm.c */
void vm_create(struct vm *vm);
void vm_start(struct vm *vm, const struct boot_entry *entry);
void vm_wait_and_stop(struct vm *vm);
/* The first caller decides the status and the reason; any thread may call it. */
void vm_end(struct vm *vm, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void vm_irq_line(struct vm *vm, unsigned irq, bool level);
/* LENGTH bytes of RAM at GPA, or NULL where there is no RAM below 4 GB. */
void *vm_low_ram(struct vm *vm, uint64_t gpa, uint64_t length);

/* cpuid.c */
void vcpu_set_cpuid(struct vcpu *vcpu);
void vcpu_set_msrs(struct vcpu *vcpu);

/* boot.c */
struct boot_entry boot_load(struct vm *vm);
void boot_set_registers(struct vcpu *vcpu, const struct boot_entry *entry);

/* acpi.c: returns the guest-physical address of the RSDP. */
uint64_t acpi_build(struct vm *vm);

/* ports.c */
#define PORT_PM1_EVENT     0x600u
#define PORT_PM1_CONTROL   0x604u
#define ACPI_SLEEP_TYPE_S5 5u
void ports_init(struct vm *vm);
void ports_access(struct vcpu *vcpu, uint16_t port, unsigned size, bool is_write, uint8_t *data);

/* uart.c */
#define PORT_SERIAL 0x3f8u
void uart_init(struct uart *uart);
uint8_t uart_read(struct vm *vm, unsigned reg);
void uart_write(struct vm *vm, unsigned reg, uint8_t value);
/* Feeds stdin to the guest on a thread of its own until end of file. */
void uart_start_input(struct vm *vm);

/* stats.c */
void stats_print(const struct vm *vm);

#endif
