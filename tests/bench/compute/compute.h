/*
 * tests/bench/compute/compute.h -- the kernels of the compute benchmark.
 *
 * A kernel's unit takes about 10 to 50 ms on today's hardware. Every unit starts from the same state and
 * gives the same checksum, on every system: so systems may run different numbers of units and still be
 * compared.
 */
#ifndef COMPUTE_H
#define COMPUTE_H

#include <stddef.h>
#include <stdint.h>

struct kernel {
    const char *name;
    void (*prepare)(void); /* once, not timed; may be NULL */
    uint64_t (*unit)(void);
};

/* xorshift64: the same numbers everywhere. *state is never 0. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * 0x9e3779b97f4a7c15u + (sum >> 29);
}

/* The program itself, for the row that starts programs. */
extern const char *program_path;

/* Anonymous memory, every page written; ends the program where there is none. */
void *memory_new(size_t size);
/* Ends the program with a sentence for people. */
_Noreturn void fail(const char *what);

void sort_prepare(void);
uint64_t sort_unit(void);
void hash_prepare(void);
uint64_t hash_unit(void);
void crc_prepare(void);
uint64_t crc_unit(void);
void lz_prepare(void);
uint64_t lz_unit(void);
void sha256_prepare(void);
uint64_t sha256_unit(void);

uint64_t bytecode_unit(void);
void branches_prepare(void);
uint64_t branches_unit(void);
uint64_t calls_unit(void);
void indirect_prepare(void);
uint64_t indirect_unit(void);

void loadstore_prepare(void);
uint64_t loadstore_unit(void);
void chase4m_prepare(void);
void chase64m_prepare(void);
uint64_t chase4m_unit(void);
uint64_t chase64m_unit(void);
void random16m_prepare(void);
uint64_t random16m_unit(void);
void strings_prepare(void);
uint64_t movs4k_unit(void);
uint64_t stos4k_unit(void);

uint64_t sse2_unit(void);
uint64_t x87_unit(void);
void autovec_prepare(void);
uint64_t autovec_unit(void);
void simdint_prepare(void);
uint64_t simdint_unit(void);

uint64_t syscall_unit(void);
void pipe_prepare(void);
uint64_t pipe_unit(void);
uint64_t forkexec_unit(void);
uint64_t mmap_unit(void);
void fault_prepare(void);
uint64_t fault_unit(void);

#endif
