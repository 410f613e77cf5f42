/*
 * vmm/vm.c -- the VM, its memory and processors, and the loop around KVM_RUN.
 *
 * Each processor is a thread. With KVM's own interrupt controllers, HLT, IPIs
 * and the timer stay in the kernel, and processors other than the first wait
 * inside KVM_RUN until their SIPI.
 *
 * Ending: whoever finds a reason calls vm_end(); the main thread then tells
 * each processor to leave KVM_RUN (immediate_exit, and a signal if it is
 * inside) and joins it, so the counters are complete when they are printed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvmm.h"

static void need_capability(const struct vm *vm, int capability, const char *name)
{
    if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, capability) <= 0)
        die("this KVM lacks %s", name);
}

static void add_memory(struct vm *vm, unsigned slot, uint64_t gpa, uint64_t size, void *host)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = (uintptr_t)host,
    };

    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        die("memory at %#llx: %s", (unsigned long long)gpa, strerror(errno));
}

static void create_memory(struct vm *vm)
{
    uint64_t size = vm->options.memory;

    vm->low_size = size < GUEST_LOW_MAX ? size : GUEST_LOW_MAX;
    vm->ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (vm->ram == MAP_FAILED)
        die("%llu bytes of memory: %s", (unsigned long long)size, strerror(errno));
    /* Huge pages, where there are any, save exits and page-table walks. */
    madvise(vm->ram, size, MADV_HUGEPAGE);
    add_memory(vm, 0, 0, vm->low_size, vm->ram);
    if (size > vm->low_size)
        add_memory(vm, 1, GUEST_HIGH_BASE, size - vm->low_size, vm->ram + vm->low_size);
}

static void create_vcpu(struct vm *vm, unsigned index)
{
    struct vcpu *vcpu = &vm->vcpu[index];

    vcpu->vm = vm;
    vcpu->index = index;
    vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)index);
    if (vcpu->fd < 0)
        die("processor %u: %s", index, strerror(errno));
    vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED)
        die("processor %u: mapping its kvm_run: %s", index, strerror(errno));
    vcpu_set_cpuid(vcpu);
    vcpu_set_msrs(vcpu);
}

void vm_create(struct vm *vm)
{
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    uint64_t identity_map = GUEST_KVM_IDENTITY_MAP;
    int version, run_size;

    pthread_mutex_init(&vm->end_lock, NULL);
    pthread_cond_init(&vm->end_cond, NULL);

    vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm_fd < 0)
        die("/dev/kvm: %s", strerror(errno));
    version = ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        die("/dev/kvm has API version %d, not %d", version, KVM_API_VERSION);
    need_capability(vm, KVM_CAP_IRQCHIP, "interrupt controllers (KVM_CAP_IRQCHIP)");
    need_capability(vm, KVM_CAP_PIT2, "a timer (KVM_CAP_PIT2)");
    need_capability(vm, KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT");
    run_size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < (int)sizeof(struct kvm_run))
        die("KVM_GET_VCPU_MMAP_SIZE gives %d", run_size);
    vm->run_size = (size_t)run_size;

    vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0ul);
    if (vm->fd < 0)
        die("KVM_CREATE_VM: %s", strerror(errno));
    /* Pages that kvm_intel needs where the guest cannot run unrestricted. */
    if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
        die("KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(errno));
    if (ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)GUEST_KVM_TSS) < 0)
        die("KVM_SET_TSS_ADDR: %s", strerror(errno));
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0ul) < 0)
        die("KVM_CREATE_IRQCHIP: %s", strerror(errno));
    if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
        die("KVM_CREATE_PIT2: %s", strerror(errno));

    create_memory(vm);
    for (unsigned i = 0; i < vm->options.cpu_count; i++)
        create_vcpu(vm, i);
}

void *vm_low_ram(struct vm *vm, uint64_t gpa, uint64_t length)
{
    if (gpa > vm->low_size || length > vm->low_size - gpa)
        return NULL;
    return vm->ram + gpa;
}

void vm_irq_line(struct vm *vm, unsigned irq, bool level)
{
    struct kvm_irq_level line = {.irq = irq, .level = level};

    if (ioctl(vm->fd, KVM_IRQ_LINE, &line) < 0)
        vm_end(vm, KVMM_STATUS_HOST_ERROR, "interrupt line %u: %s", irq, strerror(errno));
}

void vm_end(struct vm *vm, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    pthread_mutex_lock(&vm->end_lock);
    if (!vm->ended) {
        vm->ended = true;
        vm->end_status = status;
        vsnprintf(vm->end_reason, sizeof(vm->end_reason), format, args);
        pthread_cond_broadcast(&vm->end_cond);
    }
    pthread_mutex_unlock(&vm->end_lock);
    va_end(args);
}

/* --- Run loop ------------------------------------------------------------ */

static void handle_io(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    if ((run->io.port & ~7u) == PORT_SERIAL)
        vcpu->exits_serial++;
    /* A string instruction may bring several elements at once. */
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
        ports_access(vcpu, run->io.port, run->io.size, run->io.direction == KVM_EXIT_IO_OUT, data);
}

static void handle_mmio(struct kvm_run *run)
{
    /* Nothing is mapped there: writes are lost, reads give all ones. */
    if (!run->mmio.is_write)
        memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
}

static void end_with_registers(struct vcpu *vcpu, int status, const char *what)
{
    struct kvm_regs regs = {0};
    struct kvm_sregs sregs = {0};

    ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
    vm_end(vcpu->vm, status, "processor %u: %s (RIP %#llx, CR0 %#llx, CR3 %#llx)", vcpu->index, what,
           regs.rip, sregs.cr0, sregs.cr3);
}

static void handle_exit(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    char what[80];

    if (run->exit_reason < KVMM_EXIT_REASONS)
        vcpu->exits[run->exit_reason]++;

    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        handle_io(vcpu);
        return;
    case KVM_EXIT_MMIO:
        handle_mmio(run);
        return;
    case KVM_EXIT_HLT:
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return;
    case KVM_EXIT_SHUTDOWN:
        end_with_registers(vcpu, KVMM_STATUS_TRIPLE_FAULT, "triple fault");
        return;
    case KVM_EXIT_SYSTEM_EVENT:
        vm_end(vcpu->vm, KVMM_STATUS_RESET, "guest asked for system event %u", run->system_event.type);
        return;
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(what, sizeof(what), "VM entry failed, hardware reason %#llx",
                 run->fail_entry.hardware_entry_failure_reason);
        end_with_registers(vcpu, KVMM_STATUS_RUN_FAILED, what);
        return;
    case KVM_EXIT_INTERNAL_ERROR:
        snprintf(what, sizeof(what), "KVM internal error, suberror %u", run->internal.suberror);
        end_with_registers(vcpu, KVMM_STATUS_RUN_FAILED, what);
        return;
    default:
        snprintf(what, sizeof(what), "exit reason %u, which kvmm does not handle", run->exit_reason);
        end_with_registers(vcpu, KVMM_STATUS_RUN_FAILED, what);
    }
}

static bool has_ended(struct vm *vm)
{
    bool ended;

    pthread_mutex_lock(&vm->end_lock);
    ended = vm->ended;
    pthread_mutex_unlock(&vm->end_lock);
    return ended;
}

static void *vcpu_thread(void *argument)
{
    struct vcpu *vcpu = argument;

    while (!has_ended(vcpu->vm)) {
        if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
            handle_exit(vcpu);
        } else if (errno != EINTR && errno != EAGAIN) {
            end_with_registers(vcpu, KVMM_STATUS_RUN_FAILED, strerror(errno));
        }
    }
    return NULL;
}

static void on_kick(int signal_number)
{
    (void)signal_number; /* its only purpose is to interrupt KVM_RUN */
}

void vm_start(struct vm *vm, const struct boot_entry *entry)
{
    struct sigaction action = {.sa_handler = on_kick};
    int error;

    sigaction(SIGUSR1, &action, NULL);
    boot_set_registers(&vm->vcpu[0], entry);
    for (unsigned i = 0; i < vm->options.cpu_count; i++) {
        error = pthread_create(&vm->vcpu[i].thread, NULL, vcpu_thread, &vm->vcpu[i]);
        if (error)
            die("thread of processor %u: %s", i, strerror(error));
        vm->vcpu[i].started = true;
    }
}

void vm_wait_and_stop(struct vm *vm)
{
    pthread_mutex_lock(&vm->end_lock);
    while (!vm->ended)
        pthread_cond_wait(&vm->end_cond, &vm->end_lock);
    pthread_mutex_unlock(&vm->end_lock);

    for (unsigned i = 0; i < vm->options.cpu_count; i++) {
        struct vcpu *vcpu = &vm->vcpu[i];

        if (!vcpu->started)
            continue;
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        pthread_kill(vcpu->thread, SIGUSR1);
        pthread_join(vcpu->thread, NULL);
    }
}
