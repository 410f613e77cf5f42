/*
 * tests/bench/compute/main.c -- run one kernel between two marker lines.
 *
 * compute --list         the kernels' names
 * compute NAME REPEAT [LABEL]    REPEAT units of one kernel (LABEL: the name in what is printed):
 *     BENCH NAME begin
 *     BENCH NAME end CHECKSUM
 *     NAME CHECKSUM SECONDS-A-UNIT by this system's clock
 *
 * An emulator's clock may be virtual, so the host takes the time of the marker lines as they come out of the
 * serial port; the first has left the port before the kernel starts.
 */
#include "compute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>

const char *program_path;

static const struct kernel kernels[] = {
    {"sort", sort_prepare, sort_unit},
    {"hash", hash_prepare, hash_unit},
    {"crc", crc_prepare, crc_unit},
    {"lz", lz_prepare, lz_unit},
    {"sha256", sha256_prepare, sha256_unit},
    {"bytecode", NULL, bytecode_unit},
    {"branches", branches_prepare, branches_unit},
    {"calls", NULL, calls_unit},
    {"indirect", indirect_prepare, indirect_unit},
    {"loadstore", loadstore_prepare, loadstore_unit},
    {"chase4m", chase4m_prepare, chase4m_unit},
    {"chase64m", chase64m_prepare, chase64m_unit},
    {"random16m", random16m_prepare, random16m_unit},
    {"sse2", NULL, sse2_unit},
    {"autovec", autovec_prepare, autovec_unit},
    {"x87", NULL, x87_unit},
    {"simdint", simdint_prepare, simdint_unit},
    {"movs4k", strings_prepare, movs4k_unit},
    {"stos4k", strings_prepare, stos4k_unit},
    {"syscall", NULL, syscall_unit},
    {"pipe", pipe_prepare, pipe_unit},
    {"forkexec", NULL, forkexec_unit},
    {"mmap", NULL, mmap_unit},
    {"fault", fault_prepare, fault_unit},
};
enum { KERNEL_COUNT = sizeof kernels / sizeof *kernels };

void fail(const char *what)
{
    perror(what);
    exit(1);
}

void *memory_new(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    for (size_t i = 0; i < size; i += 4096)
        ((volatile char *)memory)[i] = 0;
    return memory;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void run(const struct kernel *kernel, unsigned long repeat, const char *label)
{
    if (kernel->prepare)
        kernel->prepare();
    printf("BENCH %s begin\n", label);
    fflush(stdout);
    tcdrain(1); /* no terminal: nothing to wait for */
    double start = seconds_now();
    uint64_t sum = 0;
    for (unsigned long i = 0; i < repeat; i++) {
        uint64_t unit = kernel->unit();
        if (i > 0 && unit != sum) {
            fprintf(stderr, "compute: %s: unit %lu gave another checksum\n", kernel->name, i);
            exit(1);
        }
        sum = unit;
    }
    double end = seconds_now();
    printf("BENCH %s end %016llx\n", label, (unsigned long long)sum);
    fflush(stdout);
    printf("%s %016llx %.6f\n", label, (unsigned long long)sum, (end - start) / (double)repeat);
}

int main(int argc, char **argv)
{
    program_path = argv[0];
    if (argc == 2 && strcmp(argv[1], "--nothing") == 0) /* what the row forkexec starts */
        return 0;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < KERNEL_COUNT; i++)
            puts(kernels[i].name);
        return 0;
    }
    unsigned long repeat = argc == 3 || argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    if (repeat == 0) {
        fprintf(stderr, "usage: compute --list | compute NAME REPEAT [LABEL]\n");
        return 2;
    }
    for (int i = 0; i < KERNEL_COUNT; i++) {
        if (strcmp(argv[1], kernels[i].name) == 0) {
            run(&kernels[i], repeat, argc == 4 ? argv[3] : argv[1]);
            return 0;
        }
    }
    fprintf(stderr, "compute: %s: no such kernel (compute --list)\n", argv[1]);
    return 2;
}
