/*
 * tests/fuzz/lab.h -- what the targets that run a whole machine share: choices out of an input, machines, a
 * watchdog.
 */
#ifndef TESTS_FUZZ_LAB_H
#define TESTS_FUZZ_LAB_H

#include "machine/machine.h"

/*
 * A stream of choices out of an input. Its first 8 bytes seed a generator; each later byte is for one choice,
 * in order: other than zero, it changes that choice and all that follow. So short inputs give rich runs, and
 * two inputs that begin alike run alike for a while.
 */
struct dice {
    uint64_t state;
    const uint8_t *data;
    size_t size, at;
};

struct dice dice_make(const uint8_t *data, size_t size);
uint64_t dice_roll(struct dice *d);
/* 0 to n - 1. */
uint64_t dice_below(struct dice *d, uint64_t n);
/* True `percent` times out of a hundred. */
bool dice_chance(struct dice *d, unsigned percent);
/* A number of the kinds that break things: small, all ones, one bit, next to a power of two, or any. */
uint64_t dice_odd(struct dice *d);

/* Aborts with a message when this input takes longer, in seconds of the host's processor time. */
void watchdog_start(unsigned seconds);

/* A machine without a kernel. Its disk, if asked for, is a few sectors of the host's memory. Aborts on
 * failure. */
struct machine *lab_machine(uint64_t memory, uint32_t cpus, bool disk);
void lab_free(struct machine *m);

/* A seed input of 8 bytes that hold `index`, and `zeros` bytes that change nothing. */
uint8_t *lab_seed(unsigned index, size_t zeros, size_t *size);

#endif
