/*
 * tests/bench/nested/nested.h -- a KVM guest of a few instructions, for what L2 costs under Linux's KVM.
 *
 * The guest's memory is one range of this program's address space, and the guest sees it at the same linear
 * addresses: so a piece of code can run in L2 and, as it stands, in L1's user space.
 *
 *   linear address         guest-physical   what
 *   ARENA                  0                4 MB: page tables, code
 *   ARENA + 1 GB           1 GB             data, mapped in the guest by 4 KB pages
 */
#ifndef NESTED_H
#define NESTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA     0x10000000000ull /* a multiple of 512 GB: tables are simple */
#define LOW_SIZE  (4ull << 20)
#define DATA_GPA  (1ull << 30)
#define DATA      (ARENA + DATA_GPA)
#define DATA_MAX  (1ull << 30)
#define PAGE_SIZE 4096ull

#define PORT_DONE 0xf5 /* the guest's code has come to its end */
#define PORT_WORK 0xf6 /* an exit to this program, and back */

/* The guest's registers at the start of a piece of code, and at its end. */
struct registers {
    uint64_t base;  /* RDI */
    uint64_t count; /* RSI */
    uint64_t other; /* RDX */
    uint64_t state; /* R9 */
    uint64_t in_l1; /* R8: not 0 ends the code by RET instead of an exit */
};

struct vm {
    int kvm_fd, fd, cpu_fd;
    void *run; /* struct kvm_run */
};

/* code.S: position-independent, copied to the arena as a whole */
extern char code_begin[], code_end[];
extern char code_cpuid[], code_ports[], code_touch[], code_cr3[], code_walk[];

_Noreturn void fail(const char *what);

/* vm.c */
void arena_create(uint64_t data_size, bool huge); /* huge: by transparent huge pages; or none of them */
void arena_populate(uint64_t data_size);          /* every page of the data is there in L1 */
uint64_t arena_huge(void);                        /* bytes of the data that are in huge pages in L1 */
void vm_create(struct vm *vm, uint64_t data_size);
/* Runs the code in L2 until PORT_DONE; returns how often it came to PORT_WORK. */
uint64_t vm_run(struct vm *vm, const char *code, struct registers *r);
void l1_run(const char *code, struct registers *r);
uint64_t vm_second_cr3(void); /* the address of a second PML4 */

#endif
