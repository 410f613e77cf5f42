/*
 * tests/fuzz/fuzz.h -- what a fuzz target defines, for libFuzzer and for our own driver alike.
 *
 * LLVMFuzzerTestOneInput() must accept any bytes without a crash, leak or hang. A target is one file
 * fuzz_<what>.c with both functions; CMake builds it with driver.c (any compiler, a fixed number of inputs
 * from a fixed seed, part of the tests) and, with -DDROSTE_LIBFUZZER=ON and clang, as a libFuzzer program.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Valid input number `index`, to start mutating from; malloc'ed. NULL when there are no more. */
uint8_t *fuzz_seed_input(unsigned index, size_t *size);

#endif
