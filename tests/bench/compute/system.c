/*
 * tests/bench/compute/system.c -- the guest's kernel at work: system calls, pipes, fork and exec, mmap, page
 * faults.
 */
#include "compute.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SYSCALL_COUNT = 50000, PIPE_COUNT = 2000, FORK_COUNT = 20, MMAP_COUNT = 40, MMAP_SIZE = 1 << 20 };
enum { FAULT_COUNT = 10, FAULT_SIZE = 4 << 20 };

/* -- System calls: getppid ----------------------------------------------------------------------------- */

uint64_t syscall_unit(void)
{
    uint64_t failed = 0;
    for (int i = 0; i < SYSCALL_COUNT; i++)
        failed += syscall(SYS_getppid) < 0;
    return SYSCALL_COUNT - failed;
}

/* -- Pipes: a byte to another process and back --------------------------------------------------------- */

static int pipe_there[2], pipe_back[2];

/* The echo process ends by itself when this one does: its read finds the pipe closed. */
void pipe_prepare(void)
{
    if (pipe(pipe_there) != 0 || pipe(pipe_back) != 0)
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        uint8_t byte;
        close(pipe_there[1]);
        close(pipe_back[0]);
        while (read(pipe_there[0], &byte, 1) == 1) {
            byte++;
            if (write(pipe_back[1], &byte, 1) != 1)
                break;
        }
        _exit(0);
    }
    close(pipe_there[0]);
    close(pipe_back[1]);
}

uint64_t pipe_unit(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < PIPE_COUNT; i++) {
        uint8_t byte = (uint8_t)i;
        if (write(pipe_there[1], &byte, 1) != 1 || read(pipe_back[0], &byte, 1) != 1)
            fail("pipe");
        sum = mix(sum, byte);
    }
    return sum;
}

/* -- fork, exec, wait ---------------------------------------------------------------------------------- */

uint64_t forkexec_unit(void)
{
    uint64_t good = 0;
    for (int i = 0; i < FORK_COUNT; i++) {
        int status;
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            execl(program_path, program_path, "--nothing", (char *)NULL);
            _exit(127);
        }
        if (waitpid(child, &status, 0) != child || status != 0)
            fail("exec");
        good++;
    }
    return good;
}

/* -- mmap, touch, munmap: 256 page faults each --------------------------------------------------------- */

uint64_t mmap_unit(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < MMAP_COUNT; i++) {
        volatile uint8_t *memory =
            mmap(NULL, MMAP_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            fail("mmap");
        for (int at = 0; at < MMAP_SIZE; at += 4096) {
            memory[at] = (uint8_t)(at >> 12);
            sum += memory[at];
        }
        if (munmap((void *)memory, MMAP_SIZE) != 0)
            fail("munmap");
    }
    return sum;
}

/* -- Page faults: 1024 each, of memory that was given back ---------------------------------------------- */

static uint8_t *fault_memory;

void fault_prepare(void)
{
    fault_memory = memory_new(FAULT_SIZE);
    /* A huge page would be one fault. */
    if (madvise(fault_memory, FAULT_SIZE, MADV_NOHUGEPAGE) != 0)
        fail("madvise");
}

uint64_t fault_unit(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < FAULT_COUNT; i++) {
        if (madvise(fault_memory, FAULT_SIZE, MADV_DONTNEED) != 0)
            fail("madvise");
        for (int at = 0; at < FAULT_SIZE; at += 4096) {
            volatile uint8_t *byte = fault_memory + at;
            *byte = (uint8_t)(at >> 12);
            sum = mix(sum, *byte);
        }
    }
    return sum;
}
